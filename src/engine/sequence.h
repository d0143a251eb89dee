/* sequence.h - one request inside the engine: its tokens, its blocks, how far it is.
 *
 * Positions  tokens[i] is at position i.  The first n_computed positions are in the KV; those up to
 *            n_scheduled will be when the steps under way have come back.  The token that was
 *            sampled last is in neither, until the next step takes it.
 * Ends       a client's END may come while steps with its rows are under way.  Those borrow its
 *            list of blocks, so that it lives, and keeps them, until the last of them is back.
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
    uint32_t n_tokens, n_prompt;
    uint32_t n_scheduled, n_computed;
    uint32_t n_in_flight; /* steps under way that have rows of it */
    uint32_t n_furthest;  /* the most that n_computed ever was */
    uint32_t n_reached;   /* the same, since the last loss after which it became more than ever */
    bool is_further;      /* n_furthest has grown since the last loss */
    int64_t stalled_ns;   /* the first loss since n_reached grew; 0: none */
    uint64_t turn;        /* number of the last step that took a row of it */
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
    bool told_lost; /* since the pipeline was lost */
    /* Why a step with rows of it failed, code RG_OK: none did.  What is under way beside or behind
     * such a step does not count. */
    struct rg_err trouble;
};

RG_CHECKED enum rg_code rg_sequence_new(struct rg_sequence **out, const struct rg_request *request,
                                        uint32_t max_tokens, const struct rg_kv_blocks *blocks,
                                        struct rg_err *err);
void rg_sequence_free(struct rg_sequence *q); /* accepts NULL; its blocks were given back */

/* Takes its blocks; false when there are too few for now. */
RG_CHECKED bool rg_sequence_admit(struct rg_sequence *q, struct rg_kv_blocks *blocks);
void rg_sequence_leave(struct rg_sequence *q, struct rg_kv_blocks *blocks);

bool rg_sequence_is_eos(const struct rg_sequence *q, int32_t id);
bool rg_sequence_is_decoding(const struct rg_sequence *q); /* all but the last token is computed */
/* Rows that no step has taken yet, before it samples; 0 while it waits for the last of them. */
uint32_t rg_sequence_rows_left(const struct rg_sequence *q);
/* A step with n_rows of it is back. */
void rg_sequence_advance(struct rg_sequence *q, uint32_t n_rows);
/* Forgets its trouble; the next step starts at the first `n` positions, which are in the KV.  None
 * of its steps is under way. */
void rg_sequence_go_back(struct rg_sequence *q, uint32_t n);
/* What the KV had of it is lost, now: it goes back to its beginning.  Once or more a loss. */
void rg_sequence_lose(struct rg_sequence *q, int64_t now_ns);
/* For so long it has got no further because of losses; 0 when its last loss is made up for.  Each
 * attempt must reach more than those before it, until it is further than ever: so one whose ring
 * is lost again and again gets older, and a long prompt that is computed once more does not. */
int64_t rg_sequence_stalled_ms(const struct rg_sequence *q, int64_t now_ns);

void rg_sequence_tell_prefill(const struct rg_sequence *q);
void rg_sequence_tell_token(const struct rg_sequence *q, const struct rg_sample *sample);
void rg_sequence_tell_lost(const struct rg_sequence *q, const struct rg_err *why);
/* err is read when reason is RG_END_ERROR. */
void rg_sequence_tell_end(struct rg_sequence *q, enum rg_end_reason reason,
                          const struct rg_err *err);

#endif
