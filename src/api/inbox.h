/* inbox.h - the engine's events, handed from its thread to the loop.
 *
 * Each stream of events (one choice of one request) has a slot.  The engine's thread appends to the
 * slot and wakes the loop; the loop takes what has come.  A slot that could not take a token
 * (memory is short, or the loop is RG_INBOX_TOKENS_MAX behind) takes none after it and says so at
 * once, with the error of an end: a text with a hole is never given out, nor waited for.
 * Threads    rg_inbox_on_event: the engine's; everything else: the loop's.
 * Lifetime   a slot must live until its END was taken; the inbox longer than every slot. */
#ifndef RG_API_INBOX_H
#define RG_API_INBOX_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "engine/engine.h"

enum { RG_INBOX_TOKENS_MAX = 4096 };

struct rg_inbox;
struct rg_slot;

struct rg_inbox_token {
    struct rg_sample sample;
    bool             is_eos;
};

/* What came for one slot since the last time. */
struct rg_inbox_news {
    const struct rg_inbox_token *tokens; /* borrowed for the call */
    size_t                       n_tokens;
    uint32_t                     prefill_done, prefill_total;
    bool                         ended, lost; /* either: reason and err are there */
    bool                         waits; /* for another node; why is there */
    struct rg_err                why;
    enum rg_end_reason           reason;
    struct rg_err                err;
};

typedef void rg_inbox_fn(struct rg_slot *slot, const struct rg_inbox_news *news);

struct rg_slot {
    struct rg_inbox       *inbox;
    struct rg_slot        *next_ready;
    bool                   ready, lost, ended; /* these and below: under the inbox's lock */
    bool                   waits; /* not yet told */
    struct rg_err          why;
    struct rg_inbox_token *tokens;             /* owned */
    size_t                 n_tokens, capacity;
    uint32_t               prefill_done, prefill_total;
    enum rg_end_reason     reason;
    struct rg_err          err;
    struct rg_inbox_token *taken; /* owned: the other half of a double buffer, the loop's */
    size_t                 taken_capacity;
};

RG_CHECKED enum rg_code rg_inbox_open(struct rg_inbox **out, uv_loop_t *loop, rg_inbox_fn *on_news,
                                      struct rg_err *err);
/* on_closed may be NULL. */
void rg_inbox_close(struct rg_inbox *b, void (*on_closed)(void *ud), void *ud);

void rg_slot_init(struct rg_slot *s, struct rg_inbox *b);
void rg_slot_free(struct rg_slot *s);

rg_event_fn rg_inbox_on_event; /* ud: the slot */

#endif
