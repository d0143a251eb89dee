/* scheduler.h - which rows make the next step, and the memory that a step under way needs.
 *
 * A step holds decode rows of sequences that are generating, and up to chunk_rows prefill rows that
 * the prompts share: each gets an equal part, and what a short prompt leaves goes to the longer
 * ones.  So no prompt, however long, keeps another one waiting.
 * A row is taken once: a prompt's next chunk may be in a step while the chunk before it is still
 * under way, a decode row only follows the token that was sampled.
 * Memory     everything of a flight is allocated when it is made; planning allocates nothing. */
#ifndef RG_ENGINE_SCHEDULER_H
#define RG_ENGINE_SCHEDULER_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/pipeline.h"
#include "engine/sequence.h"

/* One step with all that it points to, from its plan until it is back. */
struct rg_flight {
    struct rg_flight *next; /* in the list that it is in */
    struct rg_pipe_step step;
    struct rg_seq_rows *rows;     /* owned [parallel]: what step.batch.seqs points to */
    struct rg_sequence **members; /* owned [parallel]: whose rows they are */
    int32_t *tokens;              /* owned [chunk_rows + parallel] */
    uint32_t *logit_rows;         /* owned [parallel] */
    float *logits;                /* owned [parallel][vocab_size] */
    uint32_t n_decode;            /* decode rows in it */
};

RG_CHECKED enum rg_code rg_flight_new(struct rg_flight **out, uint32_t chunk_rows,
                                      uint32_t parallel, uint32_t vocab_size, struct rg_err *err);
void rg_flight_free(struct rg_flight *s); /* accepts NULL */

struct rg_plan_rule {
    uint32_t chunk_rows;  /* prefill rows */
    uint32_t decode_rows; /* at most so many decode rows, of those that wait longest */
};

/* Fills it with rows of the n running sequences; false when none of them has a row that can
 * go.  The sequences don't change. */
RG_CHECKED bool rg_flight_plan(struct rg_flight *s, const struct rg_plan_rule *rule,
                               struct rg_sequence *const *running, uint32_t n);

/* The step went to the pipeline as the turn-th one: its rows are scheduled. */
void rg_flight_went(struct rg_flight *s, uint64_t turn);

#endif
