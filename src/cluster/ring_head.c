/* ring_head.c - the head's pipeline: tokens go out as embedded rows, come back as rows of the last
 * worker, and go through the head's own layers.
 *
 * The engine must hear of every end of an epoch, because the KV of all nodes ends with it: a new
 * epoch is taken only after it was told RG_E_PEER for the old one. */
#include <assert.h>

#include "base/mem.h"
#include "cluster/ring_state.h"

/* A step that the engine has handed over. */
struct flight {
    struct rg_pipe_step *step;
    uint64_t run, seq;
    struct rg_err err; /* code not RG_OK: it never left, and why */
};

struct rg_ring_pipeline {
    struct rg_pipeline base; /* first: the vtable's functions get a pointer to it */
    struct rg_ring *ring;
    uint64_t run; /* that the engine believes in; 0: none */
    uint64_t seq; /* of the last step of that run */
    bool alone;
    struct flight flights[RG_RING_QUEUE];
    uint32_t flight_at, n_flights;
    struct rg_step_seq *seqs; /* owned [seqs_capacity] */
    size_t seqs_capacity;
};

/* Why no step can be taken; the engine believes in nothing after it.  r->lock is held. */
static enum rg_code say_lost(struct rg_ring_pipeline *p, struct rg_err *err)
{
    struct rg_ring *r = p->ring;
    const bool runs = r->state == RG_RING_RUNNING;

    p->run = 0;
    return rg_fail(err, RG_E_PEER, "%s",
                   runs           ? "the ring has formed anew"
                   : r->reason[0] ? r->reason
                                  : r->why.message);
}

/* Does the run that the engine believes in still run?  If it believes in none, it begins to. */
static enum rg_code check_run(struct rg_ring_pipeline *p, struct rg_err *err)
{
    struct rg_ring *r = p->ring;
    const uint64_t now = atomic_load(&r->run);
    enum rg_code code = RG_OK;

    pthread_mutex_lock(&r->lock);
    if (r->state != RG_RING_RUNNING || (p->run != 0 && p->run != now) ||
        (p->run == 0 && p->n_flights > 0)) {
        code = say_lost(p, err);
    } else if (p->run == 0) {
        p->run = now;
        p->seq = 0;
        p->alone = !r->e.next_id[0];
        p->base.stages = p->alone ? 1 : r->e.stages;
        p->base.depth = p->alone ? 1 : r->e.stages + 1;
    }
    pthread_mutex_unlock(&r->lock);
    return code;
}

/* ---- submit ---------------------------------------------------------------------------------- */

static enum rg_code fill_head(struct rg_ring_pipeline *p, const struct rg_batch *b,
                              struct rg_step_head *h, struct rg_err *err)
{
    void *seqs = p->seqs;
    const uint32_t block_tokens = p->base.block_tokens;
    enum rg_code code = rg_grow(&seqs, &p->seqs_capacity, b->n_seqs, sizeof *p->seqs, err);

    if (code != RG_OK)
        return code;
    p->seqs = seqs;
    for (uint32_t i = 0; i < b->n_seqs; i++) {
        const struct rg_seq_rows *q = &b->seqs[i];

        p->seqs[i] = (struct rg_step_seq){.n_rows = q->n_rows,
                                          .position = q->position,
                                          .blocks = q->blocks,
                                          .n_blocks = (q->position + q->n_rows - 1) / block_tokens +
                                                      1};
    }
    *h = (struct rg_step_head){
        .seq = p->seq + 1, .seqs = p->seqs, .n_seqs = b->n_seqs, .n_rows = b->n_rows};
    pthread_mutex_lock(&p->ring->lock);
    h->epoch = p->ring->e.epoch; /* another one's would not be sent: the run is checked again */
    pthread_mutex_unlock(&p->ring->lock);
    return RG_OK;
}

/* Embeds and sends. */
static enum rg_code send_step(struct rg_ring_pipeline *p, const struct rg_pipe_step *step,
                              struct rg_err *err)
{
    struct rg_ring *r = p->ring;
    const size_t bytes = (size_t)step->batch.n_rows * r->hidden * sizeof(float);
    const struct rg_stage_work work = {.batch = &step->batch, .tokens = step->tokens};
    struct rg_ring_buffer *rows;
    struct rg_step_head head;
    enum rg_code code = fill_head(p, &step->batch, &head, err);

    if (code == RG_OK)
        code = rg_ring_pool_take(&rows, &r->pool, bytes, &r->live, p->run, err);
    if (code != RG_OK)
        return code;
    code = rg_ring_compute(r, p->run, &work, rows->rows, err);
    if (code != RG_OK) {
        rg_ring_pool_give(rows);
        return code;
    }
    code = rg_ring_send(r, p->run, &head, rows, err);
    if (code == RG_OK)
        p->seq++;
    return code;
}

static enum rg_code submit(struct rg_pipeline *base, struct rg_pipe_step *step, struct rg_err *err)
{
    struct rg_ring_pipeline *p = (struct rg_ring_pipeline *)base;
    struct flight f = {.step = step};
    struct rg_err why = {0};
    enum rg_code code = check_run(p, err);

    if (code != RG_OK)
        return code;
    if (p->n_flights == RG_RING_QUEUE)
        return rg_fail(err, RG_E_INTERNAL, "ring: more steps than its depth");
    f.run = p->run;
    if (!p->alone)
        code = send_step(p, step, &why);
    if (code == RG_E_PEER || code == RG_E_LIMIT) {
        rg_ring_fail(p->ring, p->run, &why);
        p->run = 0;
        return rg_fail(err, RG_E_PEER, "%s", why.message);
    }
    f.seq = p->seq;
    f.err = why;
    p->flights[(p->flight_at + p->n_flights++) % RG_RING_QUEUE] = f;
    return RG_OK;
}

/* ---- collect --------------------------------------------------------------------------------- */

/* The oldest result of the run; it is the flight's, as steps come back in their order.  Also one
 * that came before the epoch broke: it may say why. */
static enum rg_code await(struct rg_ring *r, const struct flight *f, struct rg_ring_item *item,
                          struct rg_err *err)
{
    enum rg_code code = RG_OK;

    pthread_mutex_lock(&r->lock);
    while (rg_ring_runs(r, f->run) && r->n_queued == 0)
        pthread_cond_wait(&r->change, &r->lock);
    if (atomic_load(&r->run) == f->run && r->n_queued > 0)
        *item = rg_ring_pop(r);
    else
        code = rg_fail(err, RG_E_PEER, "%s", r->why.message);
    pthread_mutex_unlock(&r->lock);
    return code;
}

/* A result must be of the step that went out. */
static enum rg_code check_result(const struct flight *f, const struct rg_step_head *h,
                                 struct rg_err *err)
{
    const struct rg_batch *b = &f->step->batch;
    bool same = h->seq == f->seq && h->n_seqs == b->n_seqs && h->n_rows == b->n_rows;

    for (uint32_t i = 0; same && i < b->n_seqs; i++)
        same = h->seqs[i].n_rows == b->seqs[i].n_rows &&
               h->seqs[i].position == b->seqs[i].position;
    return same ? RG_OK
                : rg_fail(err, RG_E_PEER, "Step: what came back is not the step that went out");
}

static enum rg_code finish(struct rg_ring *r, const struct flight *f, const float *rows,
                           struct rg_err *err)
{
    const struct rg_pipe_step *s = f->step;
    const struct rg_stage_work work = {.batch = &s->batch,
                                       .tokens = rows ? NULL : s->tokens,
                                       .rows_in = rows,
                                       .logit_rows = s->logit_rows,
                                       .n_logit_rows = s->n_logit_rows,
                                       .logits = s->logits};

    return rg_ring_compute(r, f->run, &work, NULL, err);
}

/* Another node's files changed: that node is lost until it has loaded the right ones. */
static enum rg_code take_error(const struct rg_step_head *h, struct rg_err *err)
{
    return rg_fail(err, h->code == RG_E_IO ? RG_E_PEER : h->code, "%s", h->error);
}

static enum rg_code take_result(struct rg_ring *r, const struct flight *f, struct rg_err *err)
{
    struct rg_ring_item item = {0};
    enum rg_code code = await(r, f, &item, err);

    if (code != RG_OK)
        return code;
    code = check_result(f, &item.head, err);
    if (code == RG_OK && item.head.code != RG_OK)
        code = take_error(&item.head, err);
    if (code == RG_E_PEER)
        rg_ring_fail(r, f->run, err);
    else if (code == RG_OK)
        code = rg_ring_take_rows(r, &item, err);
    rg_ring_item_free(&item);
    return code == RG_OK ? finish(r, f, r->rows_in, err) : code;
}

static enum rg_code collect(struct rg_pipeline *base, struct rg_pipe_step **step,
                            struct rg_err *err)
{
    struct rg_ring_pipeline *p = (struct rg_ring_pipeline *)base;
    const struct flight *f = &p->flights[p->flight_at];
    enum rg_code code;

    assert(p->n_flights > 0);
    *step = f->step;
    if (f->err.code != RG_OK) {
        *err = f->err;
        code = f->err.code;
    } else if (p->alone && f->run == p->run) {
        code = finish(p->ring, f, NULL, err);
    } else {
        code = take_result(p->ring, f, err);
    }
    p->flight_at = (p->flight_at + 1) % RG_RING_QUEUE;
    p->n_flights--;
    if (code == RG_E_PEER)
        p->run = 0;
    return code;
}

/* ---- the rest -------------------------------------------------------------------------------- */

static enum rg_code check(struct rg_pipeline *base, struct rg_err *err)
{
    struct rg_ring_pipeline *p = (struct rg_ring_pipeline *)base;
    struct rg_ring *r = p->ring;
    enum rg_code code = check_run(p, err);

    if (code != RG_OK)
        return code;
    pthread_mutex_lock(&r->compute);
    if (r->stage)
        code = r->stage->ops->check(r->stage, err);
    pthread_mutex_unlock(&r->compute);
    return code;
}

static void close_pipeline(struct rg_pipeline *base)
{
    struct rg_ring_pipeline *p = (struct rg_ring_pipeline *)base;

    rg_free(p->seqs);
    rg_free(p);
}

static const struct rg_pipeline_ops ops = {
    .submit = submit, .collect = collect, .check = check, .close = close_pipeline};

enum rg_code rg_ring_pipeline(struct rg_ring *r, struct rg_pipeline **out, uint32_t n_blocks,
                              uint32_t block_tokens, struct rg_err *err)
{
    struct rg_ring_pipeline *p = rg_calloc(1, sizeof *p);

    *out = NULL;
    assert(r->is_head);
    if (!p)
        return rg_fail(err, RG_E_NOMEM, "pipeline: out of memory");
    p->base = (struct rg_pipeline){.ops = &ops,
                                   .depth = 1,
                                   .stages = 1,
                                   .vocab_size = r->vocab_size,
                                   .n_blocks = n_blocks,
                                   .block_tokens = block_tokens};
    p->ring = r;
    *out = &p->base;
    return RG_OK;
}
