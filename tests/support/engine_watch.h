/* engine_watch.h - requests to an engine that a test watches: their events, checked as they come.
 *
 * Tokens must be those that a pipeline of tests (fake_pipeline.h, fake_ring.h) makes of the prompt.
 * Threads    events come on the engine's thread; a watch is read after its end, or under the
 *            lock. */
#ifndef TESTS_SUPPORT_ENGINE_WATCH_H
#define TESTS_SUPPORT_ENGINE_WATCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <pthread.h>
#include <unistd.h>

#include "support/token_hash.h"
#include "base/mem.h"
#include "engine/engine.h"

enum { TOKENS_MOST = 512 };

struct watch {
    uint64_t id;
    int32_t prompt[TOKENS_MOST];
    uint32_t n_prompt;
    int32_t tokens[TOKENS_MOST];
    uint32_t n_tokens, n_eos;
    uint32_t prefill_done;
    uint32_t n_lost;     /* LOST events */
    uint32_t loss;       /* the number of the one that it was told last */
    bool may_begin_anew; /* the pipeline may be lost without a word */
    uint32_t n_ends;
    enum rg_end_reason reason;
    struct rg_err err;
    int64_t allocations; /* after the last token */
    uint32_t ended_as;   /* 1: the first to end */
};

static pthread_mutex_t watch_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t watch_change = PTHREAD_COND_INITIALIZER;
static uint32_t n_ended;
static atomic_uint loss_number; /* of the pipeline's losses that lasted; counted by its fake */

static inline void on_event(void *ud, const struct rg_event *event)
{
    struct watch *w = ud;

    pthread_mutex_lock(&watch_lock);
    assert_int_equal(w->n_ends, 0);
    assert_int_equal(event->n_prompt, w->n_prompt);
    switch (event->kind) {
    case RG_EVENT_PREFILL:
        /* After a loss it begins anew. */
        assert_true(event->done > 0 && event->done <= event->total);
        assert_true(event->done > w->prefill_done || w->may_begin_anew);
        assert_int_equal(event->total, w->n_prompt);
        w->prefill_done = event->done;
        break;
    case RG_EVENT_TOKEN:
        assert_int_equal(w->prefill_done, w->n_prompt);
        w->tokens[w->n_tokens++] = event->sample.id;
        w->n_eos += event->is_eos;
        w->allocations = rg_mem_count();
        break;
    case RG_EVENT_LOST:
        assert_int_equal(event->err.code, RG_E_PEER);
        assert_true(atomic_load(&loss_number) > w->loss); /* each is told once */
        w->loss = atomic_load(&loss_number);
        w->n_lost++;
        w->prefill_done = 0;
        break;
    case RG_EVENT_END:
        w->n_ends++;
        w->reason = event->reason;
        w->err = event->err;
        w->ended_as = ++n_ended;
        break;
    }
    assert_int_equal(event->n_generated, w->n_tokens);
    pthread_cond_broadcast(&watch_change);
    pthread_mutex_unlock(&watch_lock);
}

static inline void await_end(const struct watch *w)
{
    pthread_mutex_lock(&watch_lock);
    while (w->n_ends == 0)
        pthread_cond_wait(&watch_change, &watch_lock);
    pthread_mutex_unlock(&watch_lock);
}

static inline void await_lost(const struct watch *w, uint32_t n)
{
    pthread_mutex_lock(&watch_lock);
    while (w->n_lost < n && w->n_ends == 0)
        pthread_cond_wait(&watch_change, &watch_lock);
    pthread_mutex_unlock(&watch_lock);
}

static inline void await_tokens(const struct watch *w, uint32_t n)
{
    pthread_mutex_lock(&watch_lock);
    while (w->n_tokens < n && w->n_ends == 0)
        pthread_cond_wait(&watch_change, &watch_lock);
    pthread_mutex_unlock(&watch_lock);
}

static inline void fill_prompt(struct watch *w, uint32_t n, uint32_t seed)
{
    memset(w, 0, sizeof(*w));
    w->n_prompt = n;
    for (uint32_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        w->prompt[i] = (int32_t)((seed >> 8) % (VOCAB - 1));
    }
}

static inline enum rg_code submit_with_eos(struct rg_engine *e, struct watch *w,
                                           uint32_t max_tokens, int32_t eos, struct rg_err *err)
{
    const struct rg_request request = {
        .tokens = w->prompt,
        .n_tokens = w->n_prompt,
        .max_tokens = max_tokens,
        .sampling = {.top_p = 1.0f, .repetition_penalty = 1.0f}, /* greedy */
        .eos_ids = &eos,
        .n_eos_ids = eos >= 0,
        .on_event = on_event,
        .ud = w};

    return rg_engine_submit(e, &request, &w->id, err);
}

static inline void submit(struct rg_engine *e, struct watch *w, uint32_t max_tokens)
{
    assert_int_equal(submit_with_eos(e, w, max_tokens, -1, NULL), RG_OK);
}

/* The tokens so far are those that the prompt leads to. */
static inline void expect_right_tokens(const struct watch *w)
{
    uint32_t hash = HASH_BEGIN;

    for (uint32_t i = 0; i < w->n_prompt; i++)
        hash = hash_on(hash, w->prompt[i]);
    for (uint32_t i = 0; i < w->n_tokens; i++) {
        assert_int_equal(w->tokens[i], next_token(hash));
        hash = hash_on(hash, w->tokens[i]);
    }
}

static inline void expect_end(const struct watch *w, enum rg_end_reason reason, uint32_t n_tokens)
{
    await_end(w);
    assert_int_equal(w->n_ends, 1);
    assert_int_equal(w->reason, reason);
    assert_int_equal(w->n_tokens, n_tokens);
    expect_right_tokens(w);
}

static inline void expect_idle(struct rg_engine *e)
{
    struct rg_engine_stats stats;

    rg_engine_stats(e, &stats);
    assert_int_equal(stats.running, 0);
    assert_int_equal(stats.waiting, 0);
    assert_int_equal(stats.blocks_used, 0);
}

/* Ended requests may have steps under way: their blocks come back with them. */
static inline void await_idle(struct rg_engine *e)
{
    struct rg_engine_stats stats;

    for (int i = 0; i < 5000; i++) {
        rg_engine_stats(e, &stats);
        if (stats.blocks_used == 0)
            break;
        usleep(1000);
    }
    assert_int_equal(stats.running, 0);
    assert_int_equal(stats.waiting, 0);
    assert_int_equal(stats.blocks_used, 0);
}

#endif
