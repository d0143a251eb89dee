/* inventory.h - the modules that an architecture has, with their logical shapes.
 *
 * Private to src/checkpoint.  inventory.c lists them from the config (and looks into the tensor
 * table only where two layouts of one thing exist); quant.c finds the tensors of each. */
#ifndef RG_CHECKPOINT_INVENTORY_H
#define RG_CHECKPOINT_INVENTORY_H

#include "base/arena.h"
#include "checkpoint/checkpoint.h"

enum { RG_ROLE_BYTES = 64 };

struct rg_module_spec {
    char role[RG_ROLE_BYTES]; /* as struct rg_module has it */
    int32_t layer;
    uint32_t lead;       /* experts or heads: a leading axis of this size; 0: no such axis */
    uint32_t rows, cols; /* a vector: rows 1 */
    bool vector;
    bool bare; /* the path is the tensor's name, without ".weight" */
    bool never_quantised;
    bool shapes_win;        /* MLA's split projections: config.json's entry is not asked */
    const char *one_by_one; /* "gate_proj": stored as mlp.experts.N.gate_proj; NULL: stacked */
};

struct rg_inventory {
    struct rg_module_spec *specs; /* owned */
    size_t n, capacity;
};

RG_CHECKED enum rg_code rg_inventory_list(struct rg_inventory *out, const struct rg_model_config *c,
                                          const struct rg_tensor_set *tensors, struct rg_err *err);
void rg_inventory_free(struct rg_inventory *v);

/* A tensor of the set that no module has but that may be there: rotary tables, the MTP layer, a
 * tied head, the vision tower. */
bool rg_inventory_drops(const struct rg_model_config *c, const char *tensor);

/* Finds the tensors of modules. */
struct rg_resolver {
    const struct rg_model_config *config;
    const struct rg_tensor_set *tensors;
    struct rg_arena *arena;  /* names and pointer tables */
    uint8_t *used;           /* [tensors]: 1 = belongs to a module */
    const char *config_file; /* for messages */
};

RG_CHECKED enum rg_code rg_module_resolve(struct rg_resolver *r, const struct rg_module_spec *spec,
                                          struct rg_module *out, struct rg_err *err);

/* The last component of a path, "." and ".." resolved; owned by the caller, NULL: no memory. */
RG_CHECKED char *rg_directory_name(const char *dir);

#endif
