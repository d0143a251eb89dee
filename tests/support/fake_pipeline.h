/* fake_pipeline.h - a scripted pipeline for tests of the engine.
 *
 * It keeps the tokens themselves as its KV, block by block, and its logits point at a hash of all
 * positions up to the row: a wrong block, position, chunk or neighbour gives another token.  Steps
 * can be made to fail or to wait at a gate. */
#ifndef TESTS_SUPPORT_FAKE_PIPELINE_H
#define TESTS_SUPPORT_FAKE_PIPELINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <pthread.h>

#include "support/token_hash.h"
#include "engine/engine.h"

enum { BLOCK_TOKENS = 16, BLOCKS_MOST = 256 };

struct fake {
    struct rg_pipeline base;
    struct rg_pipe_step *pending;
    int32_t kv[BLOCKS_MOST * BLOCK_TOKENS];
    uint32_t n_steps, rows_most, seqs_most;
    uint32_t fail_at; /* this step (1 = the first) fails with fail_code */
    enum rg_code fail_code;
    bool fail_submit;
    atomic_bool is_broken; /* no step is right any more */

    pthread_mutex_t lock;
    pthread_cond_t change;
    bool is_shut;     /* steps wait while the gate is shut */
    uint32_t shut_at; /* the gate shuts itself at this step */
    uint32_t n_waiting;
};

static struct fake fake; /* one at a time; too large for the stack */

/* A pipeline that was lost and is well again has other nodes, or the same with nothing in them. */
static inline void lose_kv(struct fake *f)
{
    if (f->fail_code == RG_E_PEER)
        memset(f->kv, 0x5a, sizeof(f->kv));
}

static inline enum rg_code fake_submit(struct rg_pipeline *p, struct rg_pipe_step *step,
                                       struct rg_err *err)
{
    struct fake *f = (struct fake *)p;

    assert_null(f->pending);
    f->n_steps++;
    if (f->fail_submit && f->n_steps == f->fail_at) {
        lose_kv(f);
        return rg_fail(err, f->fail_code, "no step can be taken");
    }
    f->pending = step;
    return RG_OK;
}

static inline void wait_at_gate(struct fake *f)
{
    pthread_mutex_lock(&f->lock);
    f->n_waiting++;
    if (f->n_steps == f->shut_at)
        f->is_shut = true;
    pthread_cond_broadcast(&f->change);
    while (f->is_shut)
        pthread_cond_wait(&f->change, &f->lock);
    f->n_waiting--;
    pthread_mutex_unlock(&f->lock);
}

/* Writes the rows of one sequence; false when one of its tokens is the poison. */
static inline bool write_rows(struct fake *f, const struct rg_pipe_step *step,
                              const struct rg_seq_rows *q)
{
    for (uint32_t i = 0; i < q->n_rows; i++) {
        const uint32_t at = q->position + i;
        const int32_t token = step->tokens[q->row_begin + i];

        assert_true(q->blocks[at / BLOCK_TOKENS] < f->base.n_blocks);
        if (token == POISON)
            return false;
        f->kv[q->blocks[at / BLOCK_TOKENS] * BLOCK_TOKENS + at % BLOCK_TOKENS] = token;
    }
    return true;
}

static inline void write_logits(struct fake *f, const struct rg_pipe_step *step)
{
    for (uint32_t i = 0; i < step->n_logit_rows; i++) {
        const uint32_t row = step->logit_rows[i];
        const struct rg_seq_rows *q = step->batch.seqs;
        float *logits = step->logits + (size_t)i * VOCAB;
        uint32_t hash = HASH_BEGIN;

        assert_true(i == 0 || row > step->logit_rows[i - 1]);
        while (row >= q->row_begin + q->n_rows)
            q++;
        for (uint32_t at = 0; at <= q->position + (row - q->row_begin); at++)
            hash = hash_on(hash,
                           f->kv[q->blocks[at / BLOCK_TOKENS] * BLOCK_TOKENS + at % BLOCK_TOKENS]);
        memset(logits, 0, VOCAB * sizeof(*logits));
        logits[next_token(hash)] = 1.0f;
    }
}

static inline enum rg_code fake_collect(struct rg_pipeline *p, struct rg_pipe_step **step,
                                        struct rg_err *err)
{
    struct fake *f = (struct fake *)p;
    uint32_t row = 0;
    bool is_fine = true;

    wait_at_gate(f);
    *step = f->pending;
    f->pending = NULL;
    if (atomic_load(&f->is_broken))
        return rg_fail(err, RG_E_INTERNAL, "nothing but zeros");
    if (f->n_steps == f->fail_at) {
        lose_kv(f);
        return rg_fail(err, f->fail_code, "a peer is lost");
    }
    if ((*step)->batch.n_rows > f->rows_most)
        f->rows_most = (*step)->batch.n_rows;
    if ((*step)->batch.n_seqs > f->seqs_most)
        f->seqs_most = (*step)->batch.n_seqs;
    for (uint32_t i = 0; i < (*step)->batch.n_seqs; i++) {
        const struct rg_seq_rows *q = &(*step)->batch.seqs[i];

        assert_int_equal(q->row_begin, row);
        assert_true(q->n_rows > 0);
        row += q->n_rows;
        is_fine = write_rows(f, *step, q) && is_fine;
    }
    assert_int_equal(row, (*step)->batch.n_rows);
    if (!is_fine)
        return rg_fail(err, RG_E_INTERNAL, "a value is not finite");
    write_logits(f, *step);
    return RG_OK;
}

static inline enum rg_code fake_check(struct rg_pipeline *p, struct rg_err *err)
{
    struct fake *f = (struct fake *)p;

    return atomic_load(&f->is_broken) ? rg_fail(err, RG_E_IO, "a file was changed") : RG_OK;
}

static inline void fake_close(struct rg_pipeline *p)
{
    struct fake *f = (struct fake *)p;

    pthread_mutex_destroy(&f->lock);
    pthread_cond_destroy(&f->change);
}

static const struct rg_pipeline_ops fake_ops = {
    .submit = fake_submit, .collect = fake_collect, .check = fake_check, .close = fake_close};

static inline struct rg_engine *open_engine(uint32_t n_blocks, struct rg_engine_options options)
{
    struct rg_engine *e;

    memset(&fake, 0, sizeof(fake));
    fake.base = (struct rg_pipeline){.ops = &fake_ops,
                                     .depth = 1,
                                     .stages = 1,
                                     .vocab_size = VOCAB,
                                     .n_blocks = n_blocks,
                                     .block_tokens = BLOCK_TOKENS};
    pthread_mutex_init(&fake.lock, NULL);
    pthread_cond_init(&fake.change, NULL);
    assert_int_equal(rg_engine_open(&e, &fake.base, &options, NULL), RG_OK);
    return e;
}

static inline void shut_gate(void)
{
    pthread_mutex_lock(&fake.lock);
    fake.is_shut = true;
    pthread_mutex_unlock(&fake.lock);
}

static inline void open_gate(void)
{
    pthread_mutex_lock(&fake.lock);
    fake.is_shut = false;
    pthread_cond_broadcast(&fake.change);
    pthread_mutex_unlock(&fake.lock);
}

/* Returns when the engine's thread is inside a step. */
static inline void await_step(void)
{
    pthread_mutex_lock(&fake.lock);
    while (fake.n_waiting == 0 || !fake.is_shut)
        pthread_cond_wait(&fake.change, &fake.lock);
    pthread_mutex_unlock(&fake.lock);
}

#endif
