/* forward.c - what both ends of a forwarding link need: frames from the transport's thread to the
 * loop, the clock, opening and closing. */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "cluster/forward_core.h"
#include "cluster/message.h"

enum { TICK_MS = 1000 };

/* ---- the transport's thread ------------------------------------------------------------------ */

/* Under the lock, so that the loop can't have closed the handle meanwhile. */
static void wake_locked(struct rg_forward_end *e)
{
    struct rg_forwards *all = e->all;

    if (!e->ready) {
        e->ready = true;
        e->next_ready = NULL;
        if (all->last_ready)
            all->last_ready->next_ready = e;
        else
            all->first_ready = e;
        all->last_ready = e;
    }
    (void)uv_async_send(&all->wake);
}

static void on_message(void *ud, struct rg_link *l, struct rg_frame *f)
{
    struct rg_forward_end *e = ud;
    struct rg_err err;
    enum rg_code code;

    uv_mutex_lock(&e->all->lock);
    if (e->frame_at > 0 && e->frame_at + e->n_frames == e->capacity) {
        memmove(e->frames, e->frames + e->frame_at, e->n_frames * sizeof(struct rg_frame *));
        e->frame_at = 0;
    }
    code = rg_grow((void **)&e->frames, &e->capacity, e->frame_at + e->n_frames + 1,
                   sizeof(struct rg_frame *), &err);
    if (code == RG_OK) {
        e->frames[e->frame_at + e->n_frames++] = f;
        f = NULL;
        wake_locked(e);
    }
    uv_mutex_unlock(&e->all->lock);
    if (f) {
        rg_frame_free(f);
        rg_link_close(l, "memory is short");
    }
}

static void on_sent(void *ud, struct rg_link *l)
{
    struct rg_forward_end *e = ud;

    (void)l;
    uv_mutex_lock(&e->all->lock);
    e->sent = true;
    wake_locked(e);
    uv_mutex_unlock(&e->all->lock);
}

static void on_close(void *ud, struct rg_link *l, const struct rg_err *why)
{
    struct rg_forward_end *e = ud;

    (void)l;
    uv_mutex_lock(&e->all->lock);
    e->closed = true;
    e->why = *why;
    wake_locked(e);
    uv_mutex_unlock(&e->all->lock);
}

const struct rg_link_events rg_forward_end_events = {
    .on_message = on_message, .on_sent = on_sent, .on_close = on_close};

/* ---- ends ------------------------------------------------------------------------------------ */

bool rg_forward_end_init(struct rg_forward_end *e, struct rg_forwards *all,
                         void (*look)(struct rg_forward_end *e))
{
    bool open;

    *e = (struct rg_forward_end){.all = all, .look = look};
    uv_mutex_lock(&all->lock);
    open = !all->closing;
    if (open)
        all->n_ends++;
    uv_mutex_unlock(&all->lock);
    return open;
}

void rg_forward_end_list(struct rg_forward_end *e)
{
    struct rg_forwards *all = e->all;

    e->listed = true;
    e->next = all->ends;
    if (e->next)
        e->next->previous = e;
    all->ends = e;
}

static void on_handle_closed(uv_handle_t *h)
{
    struct rg_forwards *f = h->data;
    void (*on_closed)(void *) = f->on_closed;
    void *ud = f->ud;

    if (--f->n_handles > 0)
        return;
    uv_mutex_destroy(&f->lock);
    rg_free(f);
    if (on_closed)
        on_closed(ud);
}

static void close_if_over(struct rg_forwards *f)
{
    bool over;

    uv_mutex_lock(&f->lock);
    over = f->closing && f->n_ends == 0;
    uv_mutex_unlock(&f->lock);
    if (!over || uv_is_closing((uv_handle_t *)&f->wake))
        return;
    uv_close((uv_handle_t *)&f->wake, on_handle_closed);
    uv_close((uv_handle_t *)&f->timer, on_handle_closed);
}

void rg_forward_end_free(struct rg_forward_end *e)
{
    struct rg_forwards *all = e->all;

    rg_forward_end_drop(e);
    rg_link_release(e->link);
    rg_free(e->frames);
    if (e->listed) {
        if (e->previous)
            e->previous->next = e->next;
        else
            all->ends = e->next;
        if (e->next)
            e->next->previous = e->previous;
    }
    uv_mutex_lock(&all->lock);
    assert(!e->ready && all->n_ends > 0);
    all->n_ends--;
    uv_mutex_unlock(&all->lock);
    close_if_over(all);
}

void rg_forward_end_wake(struct rg_forward_end *e)
{
    uv_mutex_lock(&e->all->lock);
    wake_locked(e);
    uv_mutex_unlock(&e->all->lock);
}

struct rg_frame *rg_forward_end_pop(struct rg_forward_end *e)
{
    struct rg_frame *f = NULL;

    uv_mutex_lock(&e->all->lock);
    if (e->n_frames > 0) {
        f = e->frames[e->frame_at++];
        e->n_frames--;
    }
    uv_mutex_unlock(&e->all->lock);
    return f;
}

void rg_forward_end_drop(struct rg_forward_end *e)
{
    struct rg_frame *f;

    while ((f = rg_forward_end_pop(e)))
        rg_frame_free(f);
}

bool rg_forward_end_has_frames(struct rg_forward_end *e)
{
    bool has;

    uv_mutex_lock(&e->all->lock);
    has = e->n_frames > 0;
    uv_mutex_unlock(&e->all->lock);
    return has;
}

bool rg_forward_end_take_sent(struct rg_forward_end *e)
{
    bool sent;

    uv_mutex_lock(&e->all->lock);
    sent = e->sent;
    e->sent = false;
    uv_mutex_unlock(&e->all->lock);
    return sent;
}

bool rg_forward_end_may_go(struct rg_forward_end *e)
{
    bool may;

    uv_mutex_lock(&e->all->lock);
    may = e->ended && !e->ready;
    uv_mutex_unlock(&e->all->lock);
    return may;
}

bool rg_forwards_are_closing(struct rg_forwards *f)
{
    bool closing;

    uv_mutex_lock(&f->lock);
    closing = f->closing;
    uv_mutex_unlock(&f->lock);
    return closing;
}

enum rg_code rg_forward_frame_read(struct rg_frame *f, void **text, const uint8_t **data, size_t *n,
                                   struct rg_err *err)
{
    const size_t bytes = rg_frame_bytes(f);
    enum rg_code code;

    *text = rg_alloc(bytes + 1);
    if (*text)
        rg_frame_read(f, 0, *text, bytes);
    rg_frame_free(f);
    if (!*text)
        return rg_fail(err, RG_E_NOMEM, "forward: out of memory");
    code = rg_forward_decode(data, n, *text, bytes, err);
    if (code != RG_OK) {
        rg_free(*text);
        *text = NULL;
    }
    return code;
}

/* ---- the loop -------------------------------------------------------------------------------- */

static void on_wake(uv_async_t *async)
{
    struct rg_forwards *f = async->data;
    struct rg_forward_end *e, *last;
    bool was_last = false;

    uv_mutex_lock(&f->lock);
    last = f->last_ready;
    uv_mutex_unlock(&f->lock);
    /* What becomes ready meanwhile waits for the next turn of the loop. */
    while (last && !was_last) {
        uv_mutex_lock(&f->lock);
        e = f->first_ready;
        f->first_ready = e->next_ready;
        if (!f->first_ready)
            f->last_ready = NULL;
        e->ready = false;
        e->ended = e->closed;
        uv_mutex_unlock(&f->lock);
        was_last = e == last;
        e->look(e);
    }
}

static void on_tick(uv_timer_t *timer)
{
    struct rg_forwards *f = timer->data;

    for (struct rg_forward_end *e = f->ends; e; e = e->next)
        if (e->tick)
            e->tick(e);
}

enum rg_code rg_forwards_open(struct rg_forwards **out, uv_loop_t *loop, struct rg_err *err)
{
    struct rg_forwards *f = rg_calloc(1, sizeof *f);

    if (!f)
        return rg_fail(err, RG_E_NOMEM, "forward: out of memory");
    if (uv_mutex_init(&f->lock) != 0) {
        rg_free(f);
        return rg_fail(err, RG_E_IO, "forward: cannot make a lock");
    }
    if (uv_async_init(loop, &f->wake, on_wake) != 0) {
        uv_mutex_destroy(&f->lock);
        rg_free(f);
        return rg_fail(err, RG_E_IO, "forward: cannot make a wake-up handle");
    }
    (void)uv_timer_init(loop, &f->timer);
    (void)uv_timer_start(&f->timer, on_tick, TICK_MS, TICK_MS);
    f->n_handles = 2;
    f->loop = loop;
    f->wake.data = f->timer.data = f;
    *out = f;
    return RG_OK;
}

void rg_forwards_close(struct rg_forwards *f, void (*on_closed)(void *ud), void *ud)
{
    f->on_closed = on_closed;
    f->ud = ud;
    uv_mutex_lock(&f->lock);
    f->closing = true;
    uv_mutex_unlock(&f->lock);
    for (struct rg_forward_end *e = f->ends; e; e = e->next)
        rg_forward_end_wake(e);
    close_if_over(f);
}

void rg_forwards_set_api(struct rg_forwards *f, const char *host, uint16_t port)
{
    const char *own = host;

    if (strcmp(host, "0.0.0.0") == 0)
        own = "127.0.0.1";
    else if (strcmp(host, "::") == 0)
        own = "::1";
    assert(strlen(own) < sizeof f->api_host);
    memcpy(f->api_host, own, strlen(own) + 1);
    f->api_port = port;
}
