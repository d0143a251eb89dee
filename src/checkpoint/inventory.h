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

/* Something of the module at this path (without ".weight") is in the set, or is known to be in a
 * missing shard. */
bool rg_module_is_known(const struct rg_tensor_set *tensors, const char *path);

/* Finds the tensors of modules. */
struct rg_resolver {
    const struct rg_model_config *config;
    const struct rg_tensor_set *tensors;
    struct rg_arena *arena;  /* names and pointer tables */
    int32_t *owner;          /* [tensors]: the layer whose module it belongs to, or RG_LAYER_LEFT */
    const char *config_file; /* for messages */
};

/* there = false when a shard that it needs is missing; what there is of it is owned all the same.
 */
RG_CHECKED enum rg_code rg_module_resolve(struct rg_resolver *r, const struct rg_module_spec *spec,
                                          struct rg_module *out, struct rg_err *err);

/* part.c.  Maps the files of a part and gives its modules their pointers; everything of it must be
 * there.  The modules were resolved with a set of headers. */
RG_CHECKED enum rg_code rg_part_open(struct rg_checkpoint *c, struct rg_resolver *r,
                                     const struct rg_inventory *v,
                                     const struct rg_checkpoint_options *options,
                                     struct rg_err *err);

/* The last component of a path, "." and ".." resolved; owned by the caller, NULL: no memory. */
RG_CHECKED char *rg_directory_name(const char *dir);

#endif
