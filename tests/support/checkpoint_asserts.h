/* checkpoint_asserts.h - what the tests of whole checkpoints share.
 *
 * Header-only; include it behind cmocka.h. */
#ifndef TESTS_SUPPORT_CHECKPOINT_ASSERTS_H
#define TESTS_SUPPORT_CHECKPOINT_ASSERTS_H

#include "checkpoint/checkpoint.h"
#include "support/checkpoint_writer.h"

static inline const char *layer_path(unsigned layer, const char *role)
{
    static char path[160];

    (void)snprintf(path, sizeof path, "model.layers.%u.%s", layer, role);
    return path;
}

static inline void add(struct cw *w, unsigned layer, const char *role, uint64_t rows, uint64_t cols,
                       unsigned bits, unsigned group)
{
    cw_module(w, layer_path(layer, role), 0, rows, cols, bits, group);
}

static inline void norm(struct cw *w, unsigned layer, const char *role, uint64_t n)
{
    char path[160];

    (void)snprintf(path, sizeof path, "model.layers.%u.%s.weight", layer, role);
    cw_vector(w, path, "BF16", n);
}

static inline void config(struct cw *w, const char *keys, const char *quantization)
{
    struct rg_buf b;

    rg_buf_init(&b, 1u << 20);
    assert_int_equal(rg_buf_addf(&b, NULL, "{%s%s%s%s}", keys,
                                 quantization ? ",\"quantization\":{" : "",
                                 quantization ? quantization : "", quantization ? "}" : ""),
                     RG_OK);
    cw_bytes(w, "config.json", b.data, b.len);
    rg_buf_free(&b);
}

static inline struct rg_checkpoint *open_it(struct cw *w)
{
    struct rg_checkpoint *c = NULL;
    struct rg_err err = {.message = ""};

    cw_write(w);
    if (rg_checkpoint_open(&c, w->dir, &rg_checkpoint_mapped, &err) != RG_OK)
        fail_msg("%s", err.message);
    return c;
}

static inline void expect_fails(struct cw *w, enum rg_code code, const char *says)
{
    struct rg_checkpoint *c = NULL;
    struct rg_err err = {.message = ""};

    cw_write(w);
    const enum rg_code got = rg_checkpoint_open(&c, w->dir, &rg_checkpoint_headers, &err);

    if (got != code || !strstr(err.message, says))
        fail_msg("code %d '%s', expected %d '%s'", got, err.message, code, says);
    assert_null(c);
    assert_null(strchr(err.message, '\n'));
}

static inline const struct rg_weight_desc *weight(const struct rg_checkpoint *c, int32_t layer,
                                                  const char *role)
{
    const struct rg_module *m = rg_checkpoint_module(c, layer, role);

    if (!m)
        fail_msg("no module '%s' in layer %d", role, layer);
    return &m->weight;
}

static inline void expect_format(const struct rg_weight_desc *d, enum rg_weight_kind kind,
                                 unsigned bits, unsigned group)
{
    if (d->kind != kind || d->bits != bits || d->group_size != group)
        fail_msg("%s is %s %u/%u, expected %s %u/%u", d->name, rg_weight_kind_name(d->kind),
                 d->bits, d->group_size, rg_weight_kind_name(kind), bits, group);
}

#endif
