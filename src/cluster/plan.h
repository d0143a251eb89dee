/* plan.h - which node gets which layers.
 *
 * Layers are contiguous ranges.  The workers, ordered by memory (largest first, then id), have the
 * first ones; the head has the last ones, the embedding, the final norm and lm_head.  Counts come
 * by largest remainder of the claimed memory; then one boundary layer at a time moves, only where
 * bytes do not fit.  (docs/ARCHITECTURE, "The plan")
 * Pure       no I/O, no clock: the same input gives the same plan.
 * Memory     a node may use 0.9 of the memory that it claims.  That it also has it, the node itself
 *            checks before it loads (rg_plan_check_own). */
#ifndef RG_CLUSTER_PLAN_H
#define RG_CLUSTER_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/limits.h"

/* What is to be split. */
struct rg_plan_model {
    const char *name;
    uint32_t n_layers;
    const uint64_t *layer_bytes; /* [n_layers] */
    uint64_t embedding_bytes, head_bytes;
    const uint64_t *kv_layer_bytes; /* [n_layers] for the whole context and all sequences */
    const uint64_t *read_layer_bytes; /* [n_layers] weights that one token reads: experts by top-k
                                         */
    uint64_t read_head_bytes;         /* final norm, lm_head and one embedding row */
    uint64_t reserve_bytes; /* activations, code, buffers: of every node */
    uint32_t context, parallel;
};

struct rg_plan_peer {
    const char *id;
    uint64_t memory_bytes;     /* claimed */
    const bool *has_layer;     /* [n_layers]; NULL: all of them */
    bool head;                 /* exactly one */
};

/* An override of --layers: "ID=A-B,ID=A-B"; "ID=none" gives a node nothing. */
struct rg_plan_range {
    char id[RG_LIMIT_NODE_ID_BYTES + 1];
    uint32_t first, n;
};

struct rg_plan_part {
    char id[RG_LIMIT_NODE_ID_BYTES + 1];
    bool head;
    uint32_t first_layer, n_layers; /* n_layers 0: the node takes no part (a head still does) */
    uint64_t weight_bytes, kv_bytes, reserve_bytes;
    uint64_t memory_bytes;   /* usable: 0.9 of the claimed */
    int64_t headroom_bytes;  /* negative: short by this much */
    uint64_t read_bytes;     /* that one token reads here */
};

/* In the order of the ring: workers with layers first, the head last.  Nodes without a part are
 * left out. */
struct rg_plan {
    struct rg_plan_part parts[RG_LIMIT_PEERS];
    uint32_t n_parts;
    uint32_t context, parallel;
    bool fits;
};

/* RG_E_FIT: the shortfall of each node, in one line (`out` is filled all the same, fits = false);
 * RG_E_PEER: a layer that nobody has; RG_E_USAGE: a bad override. */
RG_CHECKED enum rg_code rg_plan_make(struct rg_plan *out, const struct rg_plan_model *model,
                                     const struct rg_plan_peer *peers, uint32_t n_peers,
                                     const struct rg_plan_range *ranges, uint32_t n_ranges,
                                     struct rg_err *err);

/* Parses --layers.  `out` has room for RG_LIMIT_PEERS. */
RG_CHECKED enum rg_code rg_plan_parse_ranges(struct rg_plan_range *out, uint32_t *n,
                                             const char *text, struct rg_err *err);
/* What can be said of an override before any node is up: every id is one of ids (ids[0] is the
 * head's), the ranges tile all layers, and the head has the last ones or none.  RG_E_USAGE. */
RG_CHECKED enum rg_code rg_plan_check_ranges(const struct rg_plan_range *ranges, uint32_t n_ranges,
                                             const char *const *ids, uint32_t n_ids,
                                             uint32_t n_layers, struct rg_err *err);

/* Tokens per second of one sequence: every node reads its read_bytes at its bandwidth (bytes per
 * second, [n_parts]), then the hidden state goes over one link (seconds, one per node). */
double rg_plan_tokens_per_s(const struct rg_plan *p, const double *bandwidth, double link_s);

/* The bandwidth that a chip's name promises (bytes per second), 0 when the name is not known. */
double rg_plan_chip_bandwidth(const char *chip);

/* The node's own word: a part may need memory_bytes - 8 GiB of this machine, unless overcommit.
 * On a machine below 32 GiB a quarter is kept instead of 8 GiB.  RG_E_FIT. */
RG_CHECKED enum rg_code rg_plan_check_own(const struct rg_plan_part *part, uint64_t memory_bytes,
                                          bool overcommit, struct rg_err *err);

#endif
