/* loader.h - opens the weights of a model by the roles that the checkpoint gives them; private to
 * model/.
 *
 * Lifetime   every weight that was opened, also a view, is owned by the list and closed with it. */
#ifndef RG_MODEL_LOADER_H
#define RG_MODEL_LOADER_H

#include <stddef.h>
#include <stdint.h>

#include "checkpoint/checkpoint.h"
#include "compute/compute.h"

struct rg_weight_list {
    struct rg_weight **items; /* owned, in the order of opening: a view comes after its weight */
    size_t n, capacity;
};

void rg_weight_list_free(struct rg_weight_list *list);

struct rg_loader {
    const struct rg_checkpoint *checkpoint;
    struct rg_backend *backend;
    struct rg_weight_list *weights;
    int32_t layer; /* whose roles are looked up */
};

/* y = W x + bias; bias NULL when the checkpoint has none. */
struct rg_linear {
    struct rg_weight *w, *bias;
};

RG_CHECKED enum rg_code rg_load_weight(struct rg_loader *l, struct rg_weight **out,
                                       const char *role, struct rg_err *err);
/* *out = NULL when the checkpoint has no such module. */
RG_CHECKED enum rg_code rg_load_optional(struct rg_loader *l, struct rg_weight **out,
                                         const char *role, struct rg_err *err);
RG_CHECKED enum rg_code rg_load_linear(struct rg_loader *l, struct rg_linear *out, const char *role,
                                       struct rg_err *err);
/* Rows [row_begin, row_begin + n_rows) of each head of w, as a weight with lead n_heads. */
RG_CHECKED enum rg_code rg_load_head_rows(struct rg_loader *l, struct rg_weight **out,
                                          const struct rg_weight *w, uint32_t n_heads,
                                          uint32_t row_begin, uint32_t n_rows, struct rg_err *err);

struct rg_tensor *rg_linear_forward(const struct rg_linear *l, struct rg_step *s,
                                    const struct rg_tensor *x);

#endif
