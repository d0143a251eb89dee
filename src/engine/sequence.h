/* sequence.h - one request inside the engine: its tokens, its blocks, how far it is.
 *
 * Positions  tokens[i] is at position i.  The first n_computed positions are in the KV; the token
 *            that was sampled last is not, until the next step computes it.
 * Threads    made by submit, then the engine's thread; `canceled` is under the engine's lock. */
#ifndef RG_ENGINE_SEQUENCE_H
#define RG_ENGINE_SEQUENCE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"
#include "engine/kv_blocks.h"

struct rg_sequence {
    struct rg_sequence *next; /* in the queue of waiting ones */
    uint64_t id;
    int32_t *tokens; /* owned [n_prompt + max_tokens] */
    uint32_t n_tokens, n_prompt, n_computed;
    uint32_t max_tokens;         /* already cut to the context */
    uint32_t *blocks;            /* owned [n_blocks], filled when admitted */
    uint32_t n_blocks;           /* for all positions that it can ever compute */
    struct rg_sampling sampling; /* its bias is owned */
    uint32_t choice;
    int32_t *eos_ids; /* owned [n_eos_ids] */
    uint32_t n_eos_ids;
    rg_event_fn *on_event;
    void *ud;
    bool canceled;
    bool admitted; /* holds its blocks */
    bool ended;    /* its END was delivered */
};

RG_CHECKED enum rg_code rg_sequence_new(struct rg_sequence **out, const struct rg_request *request,
                                        uint32_t max_tokens, const struct rg_kv_blocks *blocks,
                                        struct rg_err *err);
void rg_sequence_free(struct rg_sequence *q); /* accepts NULL; its blocks were given back */

/* Takes its blocks; false when there are too few for now. */
RG_CHECKED bool rg_sequence_admit(struct rg_sequence *q, struct rg_kv_blocks *blocks);
void rg_sequence_leave(struct rg_sequence *q, struct rg_kv_blocks *blocks);

bool rg_sequence_is_eos(const struct rg_sequence *q, int32_t id);
uint32_t rg_sequence_rows_left(const struct rg_sequence *q); /* rows to compute before it samples */

void rg_sequence_tell_prefill(const struct rg_sequence *q);
void rg_sequence_tell_token(const struct rg_sequence *q, const struct rg_sample *sample);
/* err is read when reason is RG_END_ERROR. */
void rg_sequence_tell_end(struct rg_sequence *q, enum rg_end_reason reason,
                          const struct rg_err *err);

#endif
