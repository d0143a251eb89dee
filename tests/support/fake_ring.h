/* fake_ring.h - a pipeline of several stages for tests of the engine: up to `depth` steps under
 * way, computed by each stage in order, at moments that a seed chooses.
 *
 * Each stage keeps the tokens as its KV, so that a wrong block, a block that was handed on too
 * early, or a step that was changed while it is under way gives another token.  A row that sees a
 * POISON is not finite.  Failures come at random, as often as the test says.
 * Threads    the engine's thread; what a test reads meanwhile is atomic. */
#ifndef TESTS_SUPPORT_FAKE_RING_H
#define TESTS_SUPPORT_FAKE_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <unistd.h>

#include "support/engine_watch.h"
#include "support/token_hash.h"
#include "engine/engine.h"

enum {
    RING_DEPTH_MOST = 6,
    RING_BLOCK_TOKENS = 16,
    RING_BLOCKS_MOST = 128,
    RING_CHANCES = 1000 /* chances are of so many */
};

struct ring_step {
    struct rg_pipe_step *step;
    uint32_t stages_done;
    enum rg_code fate;
};

struct fake_ring {
    struct rg_pipeline base;
    struct ring_step queue[RING_DEPTH_MOST]; /* the oldest first */
    uint32_t n_queued;
    int32_t kv[RING_DEPTH_MOST][RING_BLOCKS_MOST * RING_BLOCK_TOKENS];
    uint64_t seed;
    uint32_t glitch_chance; /* a step: RG_E_INTERNAL, though nothing is wrong with it */
    uint32_t memory_chance; /* a step: RG_E_NOMEM */
    uint32_t lose_chance;   /* a submit or a collect: the ring is lost */
    atomic_uint stay_chance; /* a check: it stays lost */
    uint32_t losses_most;   /* by chance; 0: any number */
    uint32_t flap_after;    /* steps that come back before it is lost each time; 0: by chance */
    uint32_t flap_more;     /* and so many more each time */
    uint32_t n_since;       /* steps since it formed */
    uint32_t step_us;       /* a collect takes so long */
    bool is_flat;           /* any token may be likely, not only the next one */
    bool changes_shape;     /* depth and stages change when it forms again */
    bool stays;             /* the present loss was seen by a check, and lasts */
    _Atomic(struct rg_engine *) hurries; /* it looks again at once while the ring stays lost */
    atomic_bool is_lost;
    atomic_bool is_new; /* it was lost and formed again meanwhile: said once */
    atomic_bool is_gated; /* collects wait until allowed lets one through */
    atomic_uint allowed, n_at_gate;
    uint32_t deepest, decode_most, decode_steps_most;
    atomic_uint n_lost, n_collected, n_failed;
};

static struct fake_ring ring; /* one at a time; too large for the stack */

/* 0 .. n - 1, n >= 1 */
static inline uint32_t ring_random(uint64_t *seed, uint32_t n)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33) % n;
}

static inline bool ring_chance(struct fake_ring *r, uint32_t chance)
{
    return ring_random(&r->seed, RING_CHANCES) < chance;
}

static inline int32_t *ring_at(struct fake_ring *r, uint32_t stage, const struct rg_seq_rows *q,
                               uint32_t at)
{
    assert_true(q->blocks[at / RING_BLOCK_TOKENS] < r->base.n_blocks);
    return &r->kv[stage][q->blocks[at / RING_BLOCK_TOKENS] * RING_BLOCK_TOKENS +
                         at % RING_BLOCK_TOKENS];
}

/* One sequence's rows at one stage; false when a row of them sees a POISON. */
static inline bool ring_run_rows(struct fake_ring *r, uint32_t stage,
                                 const struct rg_pipe_step *step, const struct rg_seq_rows *q)
{
    bool is_finite = true;

    for (uint32_t i = 0; i < q->n_rows; i++)
        *ring_at(r, stage, q, q->position + i) = step->tokens[q->row_begin + i];
    for (uint32_t at = 0; at < q->position + q->n_rows; at++)
        is_finite = is_finite && *ring_at(r, stage, q, at) != POISON;
    return is_finite;
}

static inline void ring_write_logits(struct fake_ring *r, uint32_t stage,
                                     const struct rg_pipe_step *step)
{
    for (uint32_t i = 0; i < step->n_logit_rows; i++) {
        const uint32_t row = step->logit_rows[i];
        const struct rg_seq_rows *q = step->batch.seqs;
        uint32_t hash = HASH_BEGIN;

        assert_true(i == 0 || row > step->logit_rows[i - 1]);
        while (row >= q->row_begin + q->n_rows)
            q++;
        for (uint32_t at = 0; at <= q->position + (row - q->row_begin); at++)
            hash = hash_on(hash, *ring_at(r, stage, q, at));
        for (uint32_t id = 0; id < VOCAB; id++)
            step->logits[(size_t)i * VOCAB + id] =
                r->is_flat && id != POISON ? (float)(hash_on(hash, (int32_t)id) % 1000) / 250.0f
                                           : -4.0f;
        if (!r->is_flat)
            step->logits[(size_t)i * VOCAB + (uint32_t)next_token(hash)] = 1.0f;
    }
}

static inline void ring_run(struct fake_ring *r, struct ring_step *s)
{
    const uint32_t stage = s->stages_done++;
    uint32_t row = 0;

    for (uint32_t i = 0; i < s->step->batch.n_seqs; i++) {
        const struct rg_seq_rows *q = &s->step->batch.seqs[i];

        assert_int_equal(q->row_begin, row);
        assert_true(q->n_rows > 0);
        row += q->n_rows;
        if (!ring_run_rows(r, stage, s->step, q))
            s->fate = RG_E_INTERNAL;
    }
    assert_int_equal(row, s->step->batch.n_rows);
    if (stage + 1 == r->base.stages && s->fate == RG_OK)
        ring_write_logits(r, stage, s->step);
}

/* Some stage computes its next step; false when none has one. */
static inline bool ring_go_on(struct fake_ring *r)
{
    uint32_t ready[RING_DEPTH_MOST], n_ready = 0, before = r->base.stages + 1;

    for (uint32_t i = 0; i < r->n_queued; i++) {
        if (r->queue[i].stages_done < before && r->queue[i].stages_done < r->base.stages)
            ready[n_ready++] = i;
        before = r->queue[i].stages_done;
    }
    if (n_ready == 0)
        return false;
    ring_run(r, &r->queue[ready[ring_random(&r->seed, n_ready)]]);
    return true;
}

static inline enum rg_code ring_lost(struct rg_err *err)
{
    return rg_fail(err, RG_E_PEER, "node 2 is lost");
}

static inline void ring_lose(struct fake_ring *r)
{
    if (r->flap_after > 0 && r->n_since == r->flap_after) {
        r->is_lost = true;
        r->n_since = 0;
        r->flap_after += r->flap_more;
        atomic_fetch_add(&r->n_lost, 1);
    }
    if (!ring_chance(r, r->lose_chance) ||
        (r->losses_most > 0 && atomic_load(&r->n_lost) >= r->losses_most))
        return;
    r->is_lost = true;
    atomic_fetch_add(&r->n_lost, 1);
}

static inline void ring_count(struct fake_ring *r)
{
    uint32_t n_decode_steps = 0;

    for (uint32_t i = 0; i < r->n_queued; i++) {
        const struct rg_batch *batch = &r->queue[i].step->batch;
        uint32_t n_decode = 0;

        for (uint32_t j = 0; j < batch->n_seqs; j++)
            n_decode += batch->seqs[j].n_rows == 1;
        n_decode_steps += n_decode > 0;
        if (n_decode > r->decode_most)
            r->decode_most = n_decode;
    }
    if (n_decode_steps > r->decode_steps_most)
        r->decode_steps_most = n_decode_steps;
    if (r->n_queued > r->deepest)
        r->deepest = r->n_queued;
}

/* Other nodes, or the same with nothing in them. */
static inline void ring_lose_kv(struct fake_ring *r)
{
    memset(r->kv, 0x5a, sizeof(r->kv));
}

/* It was lost and has formed again: said once, with everything under way gone. */
static inline bool ring_is_new(struct fake_ring *r)
{
    if (!atomic_exchange(&r->is_new, false))
        return false;
    ring_lose_kv(r);
    return true;
}

static inline enum rg_code ring_submit(struct rg_pipeline *p, struct rg_pipe_step *step,
                                       struct rg_err *err)
{
    struct fake_ring *r = (struct fake_ring *)p;

    assert_true(r->n_queued < p->depth);
    if (!r->is_lost)
        ring_lose(r);
    if (r->is_lost || (r->n_queued == 0 && ring_is_new(r)))
        return ring_lost(err);
    r->queue[r->n_queued++] = (struct ring_step){.step = step};
    ring_count(r);
    while (ring_random(&r->seed, 3) > 0 && ring_go_on(r))
        continue;
    return RG_OK;
}

static inline void ring_pass_gate(struct fake_ring *r)
{
    if (!atomic_load(&r->is_gated))
        return;
    atomic_fetch_add(&r->n_at_gate, 1);
    while (atomic_load(&r->is_gated) && atomic_load(&r->allowed) == 0)
        usleep(100);
    if (atomic_load(&r->is_gated))
        atomic_fetch_sub(&r->allowed, 1);
    atomic_fetch_sub(&r->n_at_gate, 1);
}

/* Returns when the engine's thread waits for a step that does not come. */
static inline void await_gate(void)
{
    while (atomic_load(&ring.allowed) > 0 || atomic_load(&ring.n_at_gate) == 0)
        usleep(100);
}

static inline enum rg_code ring_collect(struct rg_pipeline *p, struct rg_pipe_step **step,
                                        struct rg_err *err)
{
    struct fake_ring *r = (struct fake_ring *)p;
    struct ring_step *oldest = &r->queue[0];
    enum rg_code code;

    assert_true(r->n_queued > 0);
    ring_pass_gate(r);
    if (r->step_us > 0)
        usleep(r->step_us);
    if (!r->is_lost)
        ring_lose(r);
    while (!r->is_lost && oldest->stages_done < p->stages)
        (void)ring_go_on(r);
    *step = oldest->step;
    code = oldest->fate;
    memmove(r->queue, r->queue + 1, --r->n_queued * sizeof(*r->queue));
    atomic_fetch_add(&r->n_collected, 1);
    r->n_since += !r->is_lost;
    if (r->is_lost)
        return ring_lost(err);
    if (code == RG_OK && ring_chance(r, r->glitch_chance))
        code = RG_E_INTERNAL;
    if (code == RG_OK && ring_chance(r, r->memory_chance))
        code = RG_E_NOMEM;
    atomic_fetch_add(&r->n_failed, code != RG_OK);
    return code == RG_OK ? RG_OK : rg_fail(err, code, "a step failed");
}

static inline void ring_stay(struct fake_ring *r)
{
    struct rg_engine *e = atomic_load(&r->hurries);

    if (!r->stays)
        atomic_fetch_add(&loss_number, 1);
    r->stays = true;
    if (e)
        rg_engine_wake(e);
}

static inline enum rg_code ring_check(struct rg_pipeline *p, struct rg_err *err)
{
    struct fake_ring *r = (struct fake_ring *)p;

    assert_int_equal(r->n_queued, 0);
    if (ring_is_new(r))
        return ring_lost(err);
    if (!r->is_lost) {
        r->stays = false;
        return RG_OK;
    }
    if (ring_chance(r, r->stay_chance)) {
        ring_stay(r);
        return ring_lost(err);
    }
    r->is_lost = r->stays = false;
    ring_lose_kv(r);
    if (r->changes_shape) {
        p->depth = 1 + ring_random(&r->seed, RING_DEPTH_MOST);
        p->stages = 1 + ring_random(&r->seed, p->depth);
    }
    return RG_OK;
}

static inline void ring_close(struct rg_pipeline *p)
{
    assert_int_equal(((struct fake_ring *)p)->n_queued, 0);
}

static const struct rg_pipeline_ops ring_ops = {
    .submit = ring_submit, .collect = ring_collect, .check = ring_check, .close = ring_close};

/* Set the chances after it. */
static inline void ring_setup(uint64_t seed, uint32_t depth, uint32_t stages, uint32_t n_blocks)
{
    memset(&ring, 0, sizeof(ring));
    ring.base = (struct rg_pipeline){.ops = &ring_ops,
                                     .depth = depth,
                                     .stages = stages,
                                     .vocab_size = VOCAB,
                                     .n_blocks = n_blocks,
                                     .block_tokens = RING_BLOCK_TOKENS};
    ring.seed = seed;
}

static inline struct rg_engine *open_ring_engine(struct rg_engine_options options)
{
    struct rg_engine *e;

    assert_int_equal(rg_engine_open(&e, &ring.base, &options, NULL), RG_OK);
    atomic_store(&ring.hurries, ring.stay_chance < RING_CHANCES ? e : NULL);
    return e;
}

#endif
