/* plan_model.h - what a plan needs to know of a checkpoint, and the context that fits.
 *
 * Weights    layer_bytes as the headers (or the nodes' Hellos) say.  One token reads all of a layer
 *            but its experts, of which it reads top_k / n_experts.
 * KV         blocks of RG_PLAN_BLOCK_TOKENS positions, each sequence its own for the whole context.
 * Reserve    of every node: the tensors of the widest layer for a step of chunk + parallel rows,
 *            the steps that wait, the logits, and RG_PLAN_PROCESS_BYTES for code, tokenizer, page
 *            tables, gRPC and thread stacks.
 * Pure       no I/O beyond the open checkpoint. */
#ifndef RG_CLUSTER_PLAN_MODEL_H
#define RG_CLUSTER_PLAN_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "checkpoint/checkpoint.h"
#include "cluster/plan.h"
#include "compute/compute.h"

enum {
    RG_PLAN_BLOCK_TOKENS = 64,     /* one piece of the attention's canonical order */
    RG_PLAN_CONTEXT_MOST = 32768,  /* when nobody asked for one */
    RG_PLAN_CONTEXT_LEAST = 1024,  /* below that a chat is of no use */
    RG_PLAN_PARALLEL_DEFAULT = 4,
    RG_PLAN_CHUNK_DEFAULT = 512,
    RG_PLAN_PROCESS_BYTES = 512 << 20
};

struct rg_plan_request {
    const struct rg_checkpoint *checkpoint; /* headers are enough; borrowed */
    /* Bytes as the node that has them says; NULL and 0: the checkpoint's own. */
    const uint64_t *layer_bytes; /* [num_hidden_layers] */
    uint64_t embedding_bytes, head_bytes;
    enum rg_activations activations;
    uint32_t context;              /* 0: the model's, RG_PLAN_CONTEXT_MOST at most */
    bool context_asked;            /* it is not lowered */
    uint32_t parallel, chunk_rows; /* 0: the defaults */
    const struct rg_plan_peer *peers; /* [n_peers]; borrowed */
    uint32_t n_peers;
    const struct rg_plan_range *ranges; /* --layers; n_ranges 0: none */
    uint32_t n_ranges;
};

/* The blocks of all sequences together. */
uint32_t rg_plan_blocks(uint32_t context, uint32_t parallel);

/* Fills everything but context from the request; the arrays are owned, rg_plan_model_free(). */
RG_CHECKED enum rg_code rg_plan_model_make(struct rg_plan_model *out,
                                           const struct rg_plan_request *request, uint32_t context,
                                           struct rg_err *err);
void rg_plan_model_free(struct rg_plan_model *m);

/* Makes the plan.  A context that nobody asked for is halved until it fits, not below
 * RG_PLAN_CONTEXT_LEAST; out->context is the one it has.
 * Failure    as rg_plan_make(), `out` is filled with RG_E_FIT; RG_E_USAGE: a context above the
 *            model's. */
RG_CHECKED enum rg_code rg_plan_fit_context(struct rg_plan *out,
                                            const struct rg_plan_request *request,
                                            struct rg_err *err);

#endif
