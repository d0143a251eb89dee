/* ring.c - epochs: what is prepared, started and stopped, and the stage in the middle. */
#include "cluster/ring.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cluster/ring_state.h"

enum { ROWS_ALIGNMENT = 64 };

/* ---- opening, closing ------------------------------------------------------------------------ */

static void destroy(struct rg_ring *r)
{
    rg_ring_pool_destroy(&r->pool);
    pthread_cond_destroy(&r->change);
    pthread_mutex_destroy(&r->lock);
    pthread_mutex_destroy(&r->compute);
    rg_free(r->seqs);
    rg_free(r->rows_in);
    rg_buf_free(&r->wire);
    rg_free(r);
}

enum rg_code rg_ring_open(struct rg_ring **out, const struct rg_ring_options *options,
                          struct rg_err *err)
{
    struct rg_ring *r = rg_calloc(1, sizeof *r);
    enum rg_code code;

    *out = NULL;
    if (!r)
        return rg_fail(err, RG_E_NOMEM, "ring: out of memory");
    r->events = options->events;
    r->ud = options->ud;
    r->is_head = options->is_head;
    r->hidden = options->hidden;
    r->vocab_size = options->vocab_size;
    (void)snprintf(r->node_id, sizeof r->node_id, "%s", options->node_id);
    atomic_init(&r->run, 1);
    rg_fail(&r->why, RG_E_PEER, "the ring has not formed yet");
    rg_buf_init(&r->wire, RG_LIMIT_STEP_HEAD_BYTES);
    code = rg_ring_pool_init(&r->pool, err);
    if (code != RG_OK) {
        rg_free(r);
        return code;
    }
    pthread_mutex_init(&r->compute, NULL);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->change, NULL);
    if (!r->is_head && pthread_create(&r->thread, NULL, rg_ring_worker, r) != 0) {
        destroy(r);
        return rg_fail(err, RG_E_IO, "ring: no thread");
    }
    *out = r;
    return RG_OK;
}

void rg_ring_close(struct rg_ring *r)
{
    const struct rg_err why = {.code = RG_E_PEER, .message = "this node is ending"};

    if (!r)
        return;
    rg_ring_stop(r, &why);
    pthread_mutex_lock(&r->lock);
    assert(!r->in && !r->out && !r->pending); /* the transport has closed them all */
    r->closing = true;
    pthread_cond_broadcast(&r->change);
    pthread_mutex_unlock(&r->lock);
    if (!r->is_head)
        pthread_join(r->thread, NULL);
    rg_ring_set_stage(r, NULL);
    destroy(r);
}

/* ---- the stage ------------------------------------------------------------------------------- */

void rg_ring_set_stage(struct rg_ring *r, struct rg_stage *stage)
{
    struct rg_stage *old;

    pthread_mutex_lock(&r->compute);
    pthread_mutex_lock(&r->lock);
    old = r->stage;
    r->stage = stage;
    if (old)
        r->layers_before += rg_stage_layers_done(old);
    pthread_mutex_unlock(&r->lock);
    pthread_mutex_unlock(&r->compute);
    rg_stage_close(old);
}

static void count(struct rg_ring *r, uint64_t run, int64_t began, uint32_t rows)
{
    const int64_t now = rg_clock_ns();

    pthread_mutex_lock(&r->lock);
    r->stats.busy = false;
    r->stats.steps += rows > 0;
    r->stats.rows += rows;
    if (atomic_load(&r->run) == run) {
        r->began_ns = r->began_ns ? r->began_ns : began;
        r->ended_ns = now;
        r->stats.compute_ns += now - began;
    }
    pthread_mutex_unlock(&r->lock);
}

/* Whether a step of `run` may be computed, or believed. */
static enum rg_code begin(struct rg_ring *r, uint64_t run, bool busy, struct rg_err *err)
{
    enum rg_code code = RG_OK;

    pthread_mutex_lock(&r->lock);
    if (!rg_ring_runs(r, run))
        code = rg_fail(err, RG_E_PEER, "%s", r->why.message);
    else if (!r->stage)
        code = rg_fail(err, RG_E_PEER, "node %s has no layers loaded", r->node_id);
    else
        r->stats.busy = busy;
    pthread_mutex_unlock(&r->lock);
    return code;
}

enum rg_code rg_ring_compute(struct rg_ring *r, uint64_t run, const struct rg_stage_work *work,
                             float *embed_to, struct rg_err *err)
{
    struct rg_err over;
    enum rg_code code;

    pthread_mutex_lock(&r->compute);
    code = begin(r, run, true, err);
    if (code == RG_OK) {
        const int64_t began = rg_clock_ns();

        if (embed_to)
            code = r->stage->ops->embed(r->stage, work->tokens, work->batch->n_rows, embed_to, err);
        else
            code = r->stage->ops->run(r->stage, work, err);
        count(r, run, began, embed_to ? 0 : work->batch->n_rows);
        if (begin(r, run, false, &over) != RG_OK)
            code = rg_fail(err, RG_E_PEER, "%s", over.message);
    }
    pthread_mutex_unlock(&r->compute);
    return code;
}

/* ---- steps that came ------------------------------------------------------------------------- */

void rg_ring_item_free(struct rg_ring_item *item)
{
    rg_step_head_free(&item->head);
    rg_frame_free(item->frame);
    item->frame = NULL;
}

struct rg_ring_item rg_ring_pop(struct rg_ring *r)
{
    const struct rg_ring_item item = r->queue[r->queue_at];

    assert(r->n_queued > 0);
    r->queue_at = (r->queue_at + 1) % RG_RING_QUEUE;
    r->n_queued--;
    return item;
}

/* A peer must not make nonsense of an answer without a word, and it is the one to be named. */
static enum rg_code check_finite(struct rg_ring *r, size_t n, struct rg_err *err)
{
    enum rg_code code = RG_OK;

    for (size_t i = 0; i < n && code == RG_OK; i++) {
        if (isfinite(r->rows_in[i]))
            continue;
        pthread_mutex_lock(&r->lock);
        code = rg_fail(err, RG_E_INTERNAL, "the rows from node %s hold a NaN or an infinity",
                       r->e.previous_id);
        pthread_mutex_unlock(&r->lock);
    }
    return code;
}

enum rg_code rg_ring_take_rows(struct rg_ring *r, struct rg_ring_item *item, struct rg_err *err)
{
    const size_t bytes = rg_frame_bytes(item->frame) - item->rows_at;

    if (bytes > r->rows_in_bytes) {
        rg_free(r->rows_in);
        r->rows_in = rg_alloc_aligned(bytes, ROWS_ALIGNMENT);
        r->rows_in_bytes = r->rows_in ? bytes : 0;
        if (!r->rows_in)
            return rg_fail(err, RG_E_NOMEM, "ring: no memory for %zu bytes", bytes);
    }
    rg_frame_read(item->frame, item->rows_at, r->rows_in, bytes);
    rg_frame_free(item->frame);
    item->frame = NULL;
    return check_finite(r, bytes / sizeof *r->rows_in, err);
}

/* Moves what is queued to items[RG_RING_QUEUE], so that it can be freed without the lock. */
static uint32_t empty_queue(struct rg_ring *r, struct rg_ring_item *items)
{
    uint32_t n = 0;

    while (r->n_queued > 0)
        items[n++] = rg_ring_pop(r);
    return n;
}

/* ---- epochs ---------------------------------------------------------------------------------- */

void rg_ring_fail(struct rg_ring *r, uint64_t run, const struct rg_err *why)
{
    struct rg_epoch epoch;

    pthread_mutex_lock(&r->lock);
    if (atomic_load(&r->run) != run || r->state == RG_RING_IDLE || r->state == RG_RING_DOWN) {
        pthread_mutex_unlock(&r->lock);
        return;
    }
    r->state = RG_RING_DOWN;
    atomic_store(&r->live, 0);
    r->why = *why;
    epoch = r->e.epoch;
    if (r->out) /* the next nodes get what was sent, then know too */
        rg_link_finish(r->out->link);
    pthread_cond_broadcast(&r->change);
    pthread_mutex_unlock(&r->lock);
    rg_ring_pool_wake(&r->pool);
    if (r->events.on_down)
        r->events.on_down(r->ud, epoch, why);
}

/* Ends the run that there is; r->lock is held. */
static uint32_t end_run(struct rg_ring *r, const char *why, struct rg_ring_item *items)
{
    atomic_fetch_add(&r->run, 1);
    atomic_store(&r->live, 0);
    r->state = RG_RING_IDLE;
    rg_ring_close_links(r, why);
    pthread_cond_broadcast(&r->change);
    return empty_queue(r, items);
}

void rg_ring_stop(struct rg_ring *r, const struct rg_err *why)
{
    struct rg_ring_item items[RG_RING_QUEUE];
    uint32_t n = 0;

    pthread_mutex_lock(&r->lock);
    r->why = *why;
    if (r->state != RG_RING_IDLE)
        n = end_run(r, why->message, items);
    pthread_mutex_unlock(&r->lock);
    rg_ring_pool_wake(&r->pool);
    for (uint32_t i = 0; i < n; i++)
        rg_ring_item_free(&items[i]);
}

/* r->lock is held. */
static enum rg_code begin_run(struct rg_ring *r, struct rg_transport *t,
                              const struct rg_ring_epoch *e, struct rg_err *err)
{
    enum rg_code code = RG_OK;

    r->e = *e;
    r->e.next_address = NULL;
    r->last_in = r->last_out = 0;
    r->began_ns = r->ended_ns = r->stats.compute_ns = 0;
    r->state = RG_RING_CONNECTING;
    if (e->next_id[0]) {
        r->e.next_address = e->next_address; /* for the dial alone */
        code = rg_ring_dial(r, t, err);
        r->e.next_address = NULL;
        rg_ring_adopt(r);
    }
    if (code != RG_OK)
        r->state = RG_RING_IDLE;
    return code;
}

enum rg_code rg_ring_prepare(struct rg_ring *r, struct rg_transport *t,
                             const struct rg_ring_epoch *e, struct rg_err *err)
{
    const struct rg_err over = {.code = RG_E_PEER, .message = "a new plan is being loaded"};
    bool connected;
    enum rg_code code;

    rg_ring_stop(r, &over);
    if (e->stages < 1 || e->stages > RG_LIMIT_PEERS || !e->next_id[0] != !e->previous_id[0] ||
        (!e->next_id[0] && !r->is_head))
        return rg_fail(err, RG_E_BAD_DATA, "ring: a plan of %u stages without its neighbours",
                       e->stages);
    rg_ring_pool_set_most(&r->pool, e->stages + 2);
    pthread_mutex_lock(&r->lock);
    atomic_store(&r->live, atomic_fetch_add(&r->run, 1) + 1);
    code = begin_run(r, t, e, err);
    connected = code == RG_OK && rg_ring_settle_connected(r);
    pthread_mutex_unlock(&r->lock);
    if (connected && r->events.on_connected)
        r->events.on_connected(r->ud, e->epoch);
    return code;
}

enum rg_code rg_ring_start(struct rg_ring *r, struct rg_epoch epoch, struct rg_err *err)
{
    enum rg_code code = RG_OK;

    pthread_mutex_lock(&r->lock);
    if (r->state == RG_RING_DOWN)
        code = rg_fail(err, RG_E_PEER, "%s", r->why.message);
    else if (r->state != RG_RING_CONNECTED || !rg_epoch_equal(epoch, r->e.epoch))
        code = rg_fail(err, RG_E_PEER, "ring: an epoch that is not connected cannot start");
    else
        r->state = RG_RING_RUNNING;
    pthread_cond_broadcast(&r->change);
    pthread_mutex_unlock(&r->lock);
    return code;
}

void rg_ring_set_reason(struct rg_ring *r, const char *reason)
{
    pthread_mutex_lock(&r->lock);
    (void)snprintf(r->reason, sizeof r->reason, "%s", reason);
    pthread_mutex_unlock(&r->lock);
}

void rg_ring_stats(struct rg_ring *r, struct rg_ring_stats *out)
{
    pthread_mutex_lock(&r->lock);
    *out = r->stats;
    out->waiting = r->n_queued;
    out->out = r->is_head && r->state == RG_RING_RUNNING && r->last_out > r->last_in;
    out->layers_done = r->layers_before + (r->stage ? rg_stage_layers_done(r->stage) : 0);
    out->idle_ns = r->ended_ns - r->began_ns - out->compute_ns;
    pthread_mutex_unlock(&r->lock);
}

void rg_ring_give_up(struct rg_ring *r, const struct rg_err *why)
{
    rg_ring_fail(r, atomic_load(&r->run), why);
}
