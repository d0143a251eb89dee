/* loader.c - weights by role, and the list that owns them. */
#include "model/loader.h"

#include <assert.h>
#include <stdio.h>

#include "base/mem.h"

void rg_weight_list_free(struct rg_weight_list *list)
{
    while (list->n > 0)
        rg_weight_close(list->items[--list->n]);
    rg_free(list->items);
    *list = (struct rg_weight_list){0};
}

/* Makes room first, so that a weight that was opened always finds its owner. */
static enum rg_code reserve(struct rg_weight_list *list, struct rg_err *err)
{
    void *items = list->items;
    enum rg_code code = rg_grow(&items, &list->capacity, list->n + 1, sizeof(*list->items), err);

    list->items = items;
    return code;
}

enum rg_code rg_load_optional(struct rg_loader *l, struct rg_weight **out, const char *role,
                              struct rg_err *err)
{
    const struct rg_module *module = rg_checkpoint_module(l->checkpoint, l->layer, role);
    enum rg_code code;

    *out = NULL;
    if (!module)
        return RG_OK;
    code = reserve(l->weights, err);
    if (code == RG_OK)
        code = rg_weight_open(out, l->backend, &module->weight, err);
    if (code == RG_OK)
        l->weights->items[l->weights->n++] = *out;
    return code;
}

enum rg_code rg_load_weight(struct rg_loader *l, struct rg_weight **out, const char *role,
                            struct rg_err *err)
{
    enum rg_code code = rg_load_optional(l, out, role, err);

    if (code == RG_OK && !*out)
        return rg_fail(err, RG_E_BAD_DATA, "%s: layer %d: module '%s' is missing",
                       l->checkpoint->dir, (int)l->layer, role);
    return code;
}

enum rg_code rg_load_linear(struct rg_loader *l, struct rg_linear *out, const char *role,
                            struct rg_err *err)
{
    char bias[128];
    const int n = snprintf(bias, sizeof(bias), "%s.bias", role);
    enum rg_code code;

    assert(n > 0 && (size_t)n < sizeof(bias));
    (void)n;
    code = rg_load_weight(l, &out->w, role, err);
    if (code == RG_OK)
        code = rg_load_optional(l, &out->bias, bias, err);
    return code;
}

enum rg_code rg_load_head_rows(struct rg_loader *l, struct rg_weight **out,
                               const struct rg_weight *w, uint32_t n_heads, uint32_t row_begin,
                               uint32_t n_rows, struct rg_err *err)
{
    enum rg_code code = reserve(l->weights, err);

    if (code == RG_OK)
        code = rg_weight_head_rows(out, w, n_heads, row_begin, n_rows, err);
    if (code == RG_OK)
        l->weights->items[l->weights->n++] = *out;
    return code;
}

struct rg_tensor *rg_linear_forward(const struct rg_linear *l, struct rg_step *s,
                                    const struct rg_tensor *x)
{
    return rg_op_linear(s, l->w, l->bias, x);
}
