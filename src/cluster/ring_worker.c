/* ring_worker.c - a worker's thread: a step in, the own layers, the step on. */
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "cluster/ring_state.h"

/* The sequences of a step as the stage wants them. */
static enum rg_code fill_batch(struct rg_ring *r, const struct rg_step_head *h,
                               struct rg_batch *batch, struct rg_err *err)
{
    uint32_t row = 0;
    void *seqs = r->seqs;
    enum rg_code code = rg_grow(&seqs, &r->seqs_capacity, h->n_seqs, sizeof *r->seqs, err);

    if (code != RG_OK)
        return code;
    r->seqs = seqs;
    for (uint32_t i = 0; i < h->n_seqs; i++) {
        r->seqs[i] = (struct rg_seq_rows){.row_begin = row,
                                          .n_rows = h->seqs[i].n_rows,
                                          .position = h->seqs[i].position,
                                          .blocks = h->seqs[i].blocks};
        row += h->seqs[i].n_rows;
    }
    *batch = (struct rg_batch){.seqs = r->seqs, .n_seqs = h->n_seqs, .n_rows = h->n_rows};
    return RG_OK;
}

/* *rows: what the own layers make of the step; NULL when it fails. */
static enum rg_code compute(struct rg_ring *r, uint64_t run, struct rg_ring_item *item,
                            struct rg_ring_buffer **rows, struct rg_err *err)
{
    const size_t bytes = (size_t)item->head.n_rows * r->hidden * sizeof(float);
    struct rg_batch batch;
    struct rg_stage_work work = {.batch = &batch};
    enum rg_code code;

    *rows = NULL;
    code = fill_batch(r, &item->head, &batch, err);
    if (code == RG_OK)
        code = rg_ring_take_rows(r, item, err);
    if (code == RG_OK)
        code = rg_ring_pool_take(rows, &r->pool, bytes, &r->live, run, err);
    if (code != RG_OK)
        return code;
    work.rows_in = r->rows_in;
    work.rows_out = (*rows)->rows;
    code = rg_ring_compute(r, run, &work, NULL, err);
    if (code != RG_OK) {
        rg_ring_pool_give(*rows);
        *rows = NULL;
    }
    return code;
}

static void pass(struct rg_ring *r, uint64_t run, struct rg_ring_item *item)
{
    struct rg_step_head *h = &item->head;
    struct rg_ring_buffer *rows = NULL;
    struct rg_err err = {0}, lost = {0};
    enum rg_code code = RG_OK;

    if (h->code == RG_OK)
        code = compute(r, run, item, &rows, &err);
    if (code == RG_E_PEER)
        return; /* the run is over */
    /* The head may end the run before this node has said why. */
    if (code == RG_E_IO)
        rg_log(RG_LOG_ERROR, "cluster", err.message, "seq=%llu", (unsigned long long)h->seq);
    if (code != RG_OK) {
        h->code = code;
        (void)snprintf(h->error, sizeof h->error, "node %.64s: %.180s", r->node_id, err.message);
    }
    /* After RG_E_IO the weights are not what they were. */
    if (rg_ring_send(r, run, h, rows, &lost) != RG_OK || code == RG_E_IO)
        rg_ring_fail(r, run, code == RG_OK ? &lost : &err);
}

void *rg_ring_worker(void *ring)
{
    struct rg_ring *r = ring;

    pthread_mutex_lock(&r->lock);
    while (!r->closing) {
        if (r->state != RG_RING_RUNNING || r->n_queued == 0) {
            pthread_cond_wait(&r->change, &r->lock);
            continue;
        }

        const uint64_t run = atomic_load(&r->run);
        struct rg_ring_item item = rg_ring_pop(r);

        pthread_mutex_unlock(&r->lock);
        pass(r, run, &item);
        rg_ring_item_free(&item);
        pthread_mutex_lock(&r->lock);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}
