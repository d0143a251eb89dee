/* Slots filled on the engine's thread and emptied on the loop's, under one lock. */
#include "api/inbox.h"

#include <string.h>

#include "base/mem.h"

struct rg_inbox {
    uv_async_t      async;
    uv_mutex_t      lock; /* of ready and of the marked part of every slot */
    struct rg_slot *ready;
    rg_inbox_fn    *on_news;
    void (*on_closed)(void *ud);
    void *ud;
};

static void add_token(struct rg_slot *s, const struct rg_event *event)
{
    struct rg_inbox_token *t;

    if (s->lost)
        return;
    if (s->n_tokens >= RG_INBOX_TOKENS_MAX ||
        rg_grow((void **)&s->tokens, &s->capacity, s->n_tokens + 1, sizeof *s->tokens, NULL) !=
            RG_OK) {
        s->lost = true;
        return;
    }
    t = &s->tokens[s->n_tokens++];
    t->sample = event->sample;
    t->is_eos = event->is_eos;
}

void rg_inbox_on_event(void *ud, const struct rg_event *event)
{
    struct rg_slot  *s = ud;
    struct rg_inbox *b = s->inbox;

    uv_mutex_lock(&b->lock);
    if (event->kind == RG_EVENT_TOKEN) {
        add_token(s, event);
    } else if (event->kind == RG_EVENT_PREFILL) {
        s->prefill_done = event->done;
        s->prefill_total = event->total;
    } else if (event->kind == RG_EVENT_LOST) {
        s->waits = true;
        s->why = event->err;
    } else {
        s->ended = true;
        s->reason = event->reason;
        if (event->reason == RG_END_ERROR)
            s->err = event->err;
    }
    if (!s->ready) {
        s->ready = true;
        s->next_ready = b->ready;
        b->ready = s;
    }
    /* Under the lock: once the loop has seen an END, the inbox may be gone. */
    (void)uv_async_send(&b->async);
    uv_mutex_unlock(&b->lock);
}

static void deliver(struct rg_inbox *b, struct rg_slot *s)
{
    struct rg_inbox_news   news = {0};
    struct rg_inbox_token *tokens;
    size_t                 capacity;

    uv_mutex_lock(&b->lock);
    tokens = s->tokens;
    capacity = s->capacity;
    news.n_tokens = s->n_tokens;
    s->tokens = s->taken;
    s->capacity = s->taken_capacity;
    s->n_tokens = 0;
    s->taken = tokens;
    s->taken_capacity = capacity;
    news.prefill_done = s->prefill_done;
    news.prefill_total = s->prefill_total;
    news.ended = s->ended;
    news.reason = s->reason;
    news.err = s->err;
    news.lost = s->lost;
    news.waits = s->waits;
    news.why = s->why;
    s->waits = false;
    if (s->lost) {
        news.reason = RG_END_ERROR;
        rg_fail(&news.err, RG_E_INTERNAL, "tokens were lost between the engine and the server");
    }
    s->ready = false;
    uv_mutex_unlock(&b->lock);
    news.tokens = tokens;
    b->on_news(s, &news);
}

static void on_async(uv_async_t *async)
{
    struct rg_inbox *b = async->data;
    struct rg_slot  *ready, *next, *in_order = NULL;

    uv_mutex_lock(&b->lock);
    ready = b->ready;
    b->ready = NULL;
    uv_mutex_unlock(&b->lock);
    /* First come, first served: the list was made by pushing to its front. */
    for (; ready; ready = next) {
        next = ready->next_ready;
        ready->next_ready = in_order;
        in_order = ready;
    }
    for (; in_order; in_order = next) {
        next = in_order->next_ready;
        deliver(b, in_order);
    }
}

enum rg_code rg_inbox_open(struct rg_inbox **out, uv_loop_t *loop, rg_inbox_fn *on_news,
                           struct rg_err *err)
{
    struct rg_inbox *b = rg_calloc(1, sizeof *b);

    if (!b)
        return rg_fail(err, RG_E_NOMEM, "api: out of memory");
    if (uv_mutex_init(&b->lock) != 0) {
        rg_free(b);
        return rg_fail(err, RG_E_IO, "api: cannot make a lock");
    }
    if (uv_async_init(loop, &b->async, on_async) != 0) {
        uv_mutex_destroy(&b->lock);
        rg_free(b);
        return rg_fail(err, RG_E_IO, "api: cannot make a wake-up handle");
    }
    b->async.data = b;
    b->on_news = on_news;
    *out = b;
    return RG_OK;
}

static void on_handle_closed(uv_handle_t *h)
{
    struct rg_inbox *b = h->data;
    void (*on_closed)(void *) = b->on_closed;
    void *ud = b->ud;

    uv_mutex_destroy(&b->lock);
    rg_free(b);
    if (on_closed)
        on_closed(ud);
}

void rg_inbox_close(struct rg_inbox *b, void (*on_closed)(void *ud), void *ud)
{
    b->on_closed = on_closed;
    b->ud = ud;
    uv_close((uv_handle_t *)&b->async, on_handle_closed);
}

void rg_slot_init(struct rg_slot *s, struct rg_inbox *b)
{
    memset(s, 0, sizeof *s);
    s->inbox = b;
}

void rg_slot_free(struct rg_slot *s)
{
    rg_free(s->tokens);
    rg_free(s->taken);
    s->tokens = s->taken = NULL;
}
