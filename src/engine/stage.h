/* stage.h - the part of a step that one node computes: its layers with their KV, and at the ends
 * the embedding and the head.
 *
 * The local pipeline has one stage with everything; each node of a ring has one.  A vtable, because
 * tests put a timed stage in its place.
 * Threads    one call at a time; rg_stage_layers_done() from any thread.
 * Failure    RG_E_INTERNAL: a value is not finite; RG_E_IO: a file of the weights changed, which is
 *            for good; RG_E_NOMEM. */
#ifndef RG_ENGINE_STAGE_H
#define RG_ENGINE_STAGE_H

#include <stdint.h>

#include "base/err.h"
#include "checkpoint/checkpoint.h"
#include "compute/compute.h"
#include "model/model.h"

struct rg_stage;

/* One step at a stage.  Exactly one of tokens and rows_in is set, at least one of rows_out and
 * logits. */
struct rg_stage_work {
    const struct rg_batch *batch; /* rows and KV blocks */
    const int32_t *tokens;        /* [n_rows]: the embedding first */
    const float *rows_in;         /* [n_rows][hidden] */
    float *rows_out;              /* [n_rows][hidden] after the last layer of the part */
    const uint32_t *logit_rows;   /* [n_logit_rows], ascending */
    uint32_t n_logit_rows;
    float *logits; /* [n_logit_rows][vocab_size] */
};

struct rg_stage_ops {
    enum rg_code (*run)(struct rg_stage *s, const struct rg_stage_work *work, struct rg_err *err);
    /* The embedding alone, no layer: rows_out [n][hidden].  Of a part with the embedding. */
    enum rg_code (*embed)(struct rg_stage *s, const int32_t *tokens, uint32_t n, float *rows_out,
                          struct rg_err *err);
    /* RG_OK, or why nothing it computes can be right any more (a file changed). */
    enum rg_code (*check)(struct rg_stage *s, struct rg_err *err);
    void (*close)(struct rg_stage *s);
};

struct rg_stage {
    const struct rg_stage_ops *ops;
    uint32_t hidden, vocab_size, n_layers; /* n_layers: of this part */
    _Atomic uint64_t layers_done;          /* since it was opened: shows that a busy node lives */
};

/* A part of a model with KV of n_blocks blocks.  checkpoint, model and backend are borrowed; the KV
 * is the stage's own.  Every run is checked against the checkpoint's files before it is believed.
 * */
RG_CHECKED enum rg_code rg_stage_open(struct rg_stage **out, const struct rg_checkpoint *checkpoint,
                                      struct rg_model *model, struct rg_backend *backend,
                                      uint32_t n_blocks, uint32_t block_tokens, struct rg_err *err);
void rg_stage_close(struct rg_stage *s); /* accepts NULL */
uint64_t rg_stage_layers_done(const struct rg_stage *s);

#endif
