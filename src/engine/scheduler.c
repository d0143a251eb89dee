/* scheduler.c - one step from the sequences that run. */
#include "engine/scheduler.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"

enum rg_code rg_flight_new(struct rg_flight **out, uint32_t chunk_rows, uint32_t parallel,
                           uint32_t vocab_size, struct rg_err *err)
{
    struct rg_flight *s = rg_calloc(1, sizeof(*s));

    *out = NULL;
    if (s) {
        s->rows = rg_calloc(parallel, sizeof(*s->rows));
        s->members = rg_calloc(parallel, sizeof(*s->members));
        s->tokens = rg_calloc((size_t)chunk_rows + parallel, sizeof(*s->tokens));
        s->logit_rows = rg_calloc(parallel, sizeof(*s->logit_rows));
        s->logits = rg_calloc((size_t)parallel * vocab_size, sizeof(*s->logits));
    }
    if (!s || !s->rows || !s->members || !s->tokens || !s->logit_rows || !s->logits) {
        rg_flight_free(s);
        return rg_fail(err, RG_E_NOMEM, "engine: no memory for steps of %u sequences", parallel);
    }
    *out = s;
    return RG_OK;
}

void rg_flight_free(struct rg_flight *s)
{
    if (!s)
        return;
    rg_free(s->rows);
    rg_free(s->members);
    rg_free(s->tokens);
    rg_free(s->logit_rows);
    rg_free(s->logits);
    rg_free(s);
}

static bool goes_before(const struct rg_sequence *a, const struct rg_sequence *b)
{
    const uint32_t a_left = rg_sequence_rows_left(a), b_left = rg_sequence_rows_left(b);

    return a_left < b_left || (a_left == b_left && a->turn < b->turn);
}

/* Decode rows first, the one that waits longest before the others; then prompts by what they have
 * left, the shortest first: handing each an equal part of what remains then gives every one its
 * fair share. */
static uint32_t order_members(struct rg_flight *s, struct rg_sequence *const *running, uint32_t n)
{
    uint32_t n_members = 0;

    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = n_members;

        if (rg_sequence_rows_left(running[i]) == 0)
            continue;
        while (at > 0 && goes_before(running[i], s->members[at - 1])) {
            s->members[at] = s->members[at - 1];
            at--;
        }
        s->members[at] = running[i];
        n_members++;
    }
    return n_members;
}

/* Takes out the decode rows that are too many for this step. */
static uint32_t cut_decode(struct rg_flight *s, uint32_t n, uint32_t most)
{
    uint32_t kept = 0;

    s->n_decode = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (rg_sequence_is_decoding(s->members[i])) {
            if (s->n_decode == most)
                continue;
            s->n_decode++;
        }
        s->members[kept++] = s->members[i];
    }
    return kept;
}

static void add_rows(struct rg_flight *s, uint32_t i, uint32_t n_rows)
{
    const struct rg_sequence *q = s->members[i];
    struct rg_batch *batch = &s->step.batch;

    s->rows[i] = (struct rg_seq_rows){.row_begin = batch->n_rows,
                                      .n_rows = n_rows,
                                      .position = q->n_scheduled,
                                      .blocks = q->blocks};
    memcpy(s->tokens + batch->n_rows, q->tokens + q->n_scheduled, n_rows * sizeof(*s->tokens));
    batch->n_rows += n_rows;
    batch->n_seqs++;
    if (n_rows == rg_sequence_rows_left(q))
        s->logit_rows[s->step.n_logit_rows++] = batch->n_rows - 1;
}

bool rg_flight_plan(struct rg_flight *s, const struct rg_plan_rule *rule,
                    struct rg_sequence *const *running, uint32_t n)
{
    uint32_t budget = rule->chunk_rows;

    s->step = (struct rg_pipe_step){.batch = {.seqs = s->rows},
                                    .tokens = s->tokens,
                                    .logit_rows = s->logit_rows,
                                    .logits = s->logits};
    n = cut_decode(s, order_members(s, running, n), rule->decode_rows);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t left = rg_sequence_rows_left(s->members[i]);
        const uint32_t share = budget / (n - i) > 0 ? budget / (n - i) : 1;
        const uint32_t rows = left < share ? left : share;

        add_rows(s, i, rows);
        if (left > 1)
            budget -= rows < budget ? rows : budget;
    }
    return n > 0;
}

void rg_flight_went(struct rg_flight *s, uint64_t turn)
{
    for (uint32_t i = 0; i < s->step.batch.n_seqs; i++) {
        struct rg_sequence *q = s->members[i];

        q->n_scheduled += s->rows[i].n_rows;
        q->n_in_flight++;
        q->turn = turn;
    }
}
