/* scheduler.c - one step from the sequences that run. */
#include "engine/scheduler.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"

enum rg_code rg_scheduler_init(struct rg_scheduler *d, uint32_t chunk_rows, uint32_t parallel,
                               uint32_t vocab_size, struct rg_err *err)
{
    *d = (struct rg_scheduler){.chunk_rows = chunk_rows, .parallel = parallel};
    d->rows = rg_calloc(parallel, sizeof(*d->rows));
    d->members = rg_calloc(parallel, sizeof(*d->members));
    d->tokens = rg_calloc((size_t)chunk_rows + parallel, sizeof(*d->tokens));
    d->logit_rows = rg_calloc(parallel, sizeof(*d->logit_rows));
    d->logits = rg_calloc((size_t)parallel * vocab_size, sizeof(*d->logits));
    if (!d->rows || !d->members || !d->tokens || !d->logit_rows || !d->logits)
        return rg_fail(err, RG_E_NOMEM, "engine: no memory for steps of %u sequences", parallel);
    return RG_OK;
}

void rg_scheduler_free(struct rg_scheduler *d)
{
    rg_free(d->rows);
    rg_free(d->members);
    rg_free(d->tokens);
    rg_free(d->logit_rows);
    rg_free(d->logits);
    *d = (struct rg_scheduler){0};
}

/* Decode rows first, then prompts by what they have left, the shortest first: handing each an equal
 * part of what remains then gives every one its fair share. */
static void order_members(struct rg_scheduler *d, struct rg_sequence *const *running, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t left = rg_sequence_rows_left(running[i]);
        uint32_t at = i;

        assert(left > 0);
        while (at > 0 && rg_sequence_rows_left(d->members[at - 1]) > left) {
            d->members[at] = d->members[at - 1];
            at--;
        }
        d->members[at] = running[i];
    }
}

static void add_rows(struct rg_scheduler *d, uint32_t i, uint32_t n_rows)
{
    struct rg_sequence *q = d->members[i];
    struct rg_batch *batch = &d->step.batch;

    d->rows[i] = (struct rg_seq_rows){.row_begin = batch->n_rows,
                                      .n_rows = n_rows,
                                      .position = q->n_computed,
                                      .blocks = q->blocks};
    memcpy(d->tokens + batch->n_rows, q->tokens + q->n_computed, n_rows * sizeof(*d->tokens));
    batch->n_rows += n_rows;
    batch->n_seqs++;
    if (n_rows == rg_sequence_rows_left(q))
        d->logit_rows[d->step.n_logit_rows++] = batch->n_rows - 1;
}

void rg_scheduler_plan(struct rg_scheduler *d, struct rg_sequence *const *running, uint32_t n)
{
    uint32_t budget = d->chunk_rows;

    assert(n >= 1 && n <= d->parallel);
    d->step = (struct rg_pipe_step){.batch = {.seqs = d->rows},
                                    .tokens = d->tokens,
                                    .logit_rows = d->logit_rows,
                                    .logits = d->logits};
    order_members(d, running, n);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t left = rg_sequence_rows_left(d->members[i]);
        const uint32_t share = budget / (n - i) > 0 ? budget / (n - i) : 1;
        const uint32_t rows = left < share ? left : share;

        add_rows(d, i, rows);
        if (left > 1)
            budget -= rows < budget ? rows : budget;
    }
}
