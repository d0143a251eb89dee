/* pipeline.h - where a step's layers are computed: in this process, or (cluster/) around a ring.
 *
 * The engine makes steps and hands them over; up to `depth` may be under way, and they come back in
 * the order in which they went.  One vtable, two implementations.
 * Threads    the engine's thread only. */
#ifndef RG_ENGINE_PIPELINE_H
#define RG_ENGINE_PIPELINE_H

#include <stdint.h>

#include "base/err.h"
#include "compute/compute.h"
#include "engine/stage.h"

struct rg_pipe_step {
    struct rg_batch batch;      /* rows and KV blocks; borrowed until the step was collected */
    const int32_t *tokens;      /* [batch.n_rows] */
    const uint32_t *logit_rows; /* [n_logit_rows] rows whose logits are wanted, ascending */
    uint32_t n_logit_rows;
    float *logits; /* [n_logit_rows][vocab_size], filled when collected */
};

struct rg_pipeline;

struct rg_pipeline_ops {
    /* Takes a step.  Fails only when no step can be taken at all: RG_E_PEER, another node is lost
     * or the ring has not formed yet. */
    enum rg_code (*submit)(struct rg_pipeline *p, struct rg_pipe_step *step, struct rg_err *err);
    /* Waits for the oldest step.  A failure is that step's; RG_E_PEER is the fate of every step
     * under way, each of which is still to be collected. */
    enum rg_code (*collect)(struct rg_pipeline *p, struct rg_pipe_step **step, struct rg_err *err);
    /* RG_OK; RG_E_PEER: no step can be taken until the ring has formed again; anything else: no
     * step can ever be right again.  Any time between steps; NULL: always well. */
    enum rg_code (*check)(struct rg_pipeline *p, struct rg_err *err);
    void (*close)(struct rg_pipeline *p);
};

struct rg_pipeline {
    const struct rg_pipeline_ops *ops;
    uint32_t depth;  /* steps that may be under way, >= 1; may change while none is */
    uint32_t stages; /* nodes that compute at the same time, <= depth: decode rows are spread over
                        as many steps */
    uint32_t vocab_size;
    uint32_t n_blocks, block_tokens; /* of every node's KV */
};

/* All layers in this process, by one stage (stage.h says what is borrowed). */
RG_CHECKED enum rg_code rg_pipeline_local_open(struct rg_pipeline **out,
                                               const struct rg_checkpoint *checkpoint,
                                               struct rg_model *model, struct rg_backend *backend,
                                               uint32_t n_blocks, uint32_t block_tokens,
                                               struct rg_err *err);

RG_CHECKED enum rg_code rg_pipeline_check(struct rg_pipeline *p, struct rg_err *err);
void rg_pipeline_close(struct rg_pipeline *p); /* accepts NULL */

#endif
