/* scheduler.h - which rows make the next step.
 *
 * A step holds one decode row of every sequence that is generating, and up to chunk_rows prefill
 * rows that the others share: each gets an equal part, and what a short prompt leaves goes to the
 * longer ones.  So no prompt, however long, keeps another one waiting.
 * Memory     everything is allocated when it is opened; planning allocates nothing. */
#ifndef RG_ENGINE_SCHEDULER_H
#define RG_ENGINE_SCHEDULER_H

#include <stdint.h>

#include "engine/pipeline.h"
#include "engine/sequence.h"

struct rg_scheduler {
    uint32_t chunk_rows, parallel;
    struct rg_pipe_step step;
    struct rg_seq_rows *rows;     /* owned [parallel]: what step.batch.seqs points to */
    struct rg_sequence **members; /* owned [parallel]: whose rows they are */
    int32_t *tokens;              /* owned [chunk_rows + parallel] */
    uint32_t *logit_rows;         /* owned [parallel] */
    float *logits;                /* owned [parallel][vocab_size] */
};

RG_CHECKED enum rg_code rg_scheduler_init(struct rg_scheduler *d, uint32_t chunk_rows,
                                          uint32_t parallel, uint32_t vocab_size,
                                          struct rg_err *err);
void rg_scheduler_free(struct rg_scheduler *d);

/* Fills step and members from n >= 1 running sequences. */
void rg_scheduler_plan(struct rg_scheduler *d, struct rg_sequence *const *running, uint32_t n);

#endif
