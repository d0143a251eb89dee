/* steps_under_way_test.c - the engine over a pipeline that holds several steps: the same tokens as
 * with one, whatever is canceled, fails or is lost meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <pthread.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/engine_watch.h"
#include "support/fake_ring.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/engine.h"

enum { REQUESTS_MOST = 20 };

static struct watch watches[REQUESTS_MOST];

/* Ended requests may have steps under way: their blocks come back with them. */
static void await_idle(struct rg_engine *e)
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

static struct rg_engine *open_ring_engine(struct rg_engine_options options)
{
    struct rg_engine *e;

    assert_int_equal(rg_engine_open(&e, &ring.base, &options, NULL), RG_OK);
    return e;
}

/* ---- any mix ----------------------------------------------------------------------------- */

struct mix {
    uint64_t seed;
    uint32_t n;
    uint32_t max_tokens[REQUESTS_MOST];
    bool is_canceled[REQUESTS_MOST], is_poisoned[REQUESTS_MOST], is_refused[REQUESTS_MOST];
    bool may_fail; /* for want of memory, or with a lost node */
};

static struct rg_engine *begin_mix(struct mix *m, uint64_t seed)
{
    const uint32_t depth = 1 + (uint32_t)(seed % RING_DEPTH_MOST);
    struct rg_engine_options options;

    *m = (struct mix){.seed = seed};
    for (int i = 0; i < 4; i++) /* neighbouring seeds become strangers */
        (void)ring_random(&m->seed, 2);
    options = (struct rg_engine_options){.context = 96,
                                         .parallel = 1 + ring_random(&m->seed, 8),
                                         .chunk_rows = 1 + ring_random(&m->seed, 40)};
    ring_setup(m->seed, depth, 1 + ring_random(&m->seed, depth), 6 + ring_random(&m->seed, 40));
    if (seed % 3 == 1)
        ring.glitch_chance = 1 + ring_random(&m->seed, 100);
    if (seed % 4 == 2)
        ring.memory_chance = 1 + ring_random(&m->seed, 30);
    if (seed % 5 == 3) {
        ring.lose_chance = 1 + ring_random(&m->seed, 30);
        ring.stay_chance = ring_random(&m->seed, 2) * 300;
        ring.changes_shape = true;
    }
    m->may_fail = ring.memory_chance > 0 || ring.lose_chance > 0;
    m->n = 1 + ring_random(&m->seed, REQUESTS_MOST);
    return open_ring_engine(options);
}

static void ask(struct mix *m, struct rg_engine *e, uint32_t i)
{
    struct watch *w = &watches[i];
    struct rg_err err = {0};
    enum rg_code code;

    fill_prompt(w, 1 + ring_random(&m->seed, 60), (uint32_t)m->seed);
    m->max_tokens[i] = 1 + ring_random(&m->seed, 30);
    m->is_poisoned[i] = ring_random(&m->seed, 12) == 0;
    if (m->is_poisoned[i])
        w->prompt[ring_random(&m->seed, w->n_prompt)] = POISON;
    code = submit_with_eos(e, w, m->max_tokens[i], -1, &err);
    m->is_refused[i] = code != RG_OK;
    if (code == RG_OK)
        return;
    assert_int_equal(code, RG_E_PEER);
    assert_string_equal(err.message, "node 2 is lost");
    rg_engine_wake(e);
}

static void cancel_some(struct mix *m, struct rg_engine *e, uint32_t n_asked)
{
    const uint32_t i = ring_random(&m->seed, n_asked);

    if (m->is_refused[i] || ring_random(&m->seed, 4) > 0)
        return;
    if (ring_random(&m->seed, 2))
        await_tokens(&watches[i], ring_random(&m->seed, m->max_tokens[i]));
    rg_engine_cancel(e, watches[i].id);
    m->is_canceled[i] = true;
}

static void expect_right_end(const struct mix *m, uint32_t i)
{
    const struct watch *w = &watches[i];

    if (m->is_refused[i]) {
        assert_int_equal(w->n_ends, 0);
        return;
    }
    await_end(w);
    switch (w->reason) {
    case RG_END_LENGTH:
        assert_int_equal(w->n_tokens, m->max_tokens[i]);
        assert_false(m->is_poisoned[i]);
        break;
    case RG_END_CANCELED:
        assert_true(m->is_canceled[i]);
        break;
    case RG_END_ERROR:
        if (w->err.code == RG_E_INTERNAL)
            assert_true(m->is_poisoned[i] || ring.glitch_chance > 0);
        else
            assert_true(m->may_fail);
        break;
    default:
        fail();
    }
    if (m->is_poisoned[i])
        assert_int_equal(w->n_tokens, 0);
    else
        expect_right_tokens(w);
}

static void run_mix(uint64_t seed)
{
    const int64_t live = rg_mem_live();
    struct mix m;
    struct rg_engine *e = begin_mix(&m, seed);
    const bool closes_early = seed % 7 == 0;

    for (uint32_t i = 0; i < m.n; i++) {
        ask(&m, e, i);
        cancel_some(&m, e, i + 1);
        if (ring_random(&m.seed, 8) == 0)
            await_tokens(&watches[i], m.is_refused[i] ? 0 : 1 + ring_random(&m.seed, 9));
    }
    if (closes_early) {
        rg_engine_close(e);
        for (uint32_t i = 0; i < m.n; i++) {
            assert_int_equal(watches[i].n_ends, !m.is_refused[i]);
            m.is_canceled[i] = true;
        }
    }
    for (uint32_t i = 0; i < m.n; i++)
        expect_right_end(&m, i);
    if (!closes_early) {
        await_idle(e);
        rg_engine_close(e);
    }
    assert_int_equal(rg_mem_live(), live);
}

/* RENGA_MIXES: how many seeds (3000); RENGA_MIX_SEED: the first one. */
static uint64_t from_environment(const char *name, uint64_t if_absent)
{
    const char *s = getenv(name);

    return s ? strtoull(s, NULL, 10) : if_absent;
}

static void any_mix_of_prompts_cancels_and_failures_gives_the_right_tokens(void **state)
{
    const uint64_t first = from_environment("RENGA_MIX_SEED", 1);
    const uint64_t n = from_environment("RENGA_MIXES", 3000);
    uint64_t n_lost = 0, n_failed = 0, n_steps = 0;

    (void)state;
    for (uint64_t seed = first; seed < first + n; seed++) {
        if (getenv("RENGA_MIX_SAY"))
            print_message("seed %llu\n", (unsigned long long)seed);
        run_mix(seed);
        n_lost += atomic_load(&ring.n_lost);
        n_failed += atomic_load(&ring.n_failed);
        n_steps += atomic_load(&ring.n_collected);
    }
    print_message("%llu mixes: %llu steps, %llu failed, %llu times lost\n", (unsigned long long)n,
                  (unsigned long long)n_steps, (unsigned long long)n_failed,
                  (unsigned long long)n_lost);
    assert_true(n < 1000 || (n_lost > 20 && n_failed > 200));
}

static int no_memory_is_left(void **state)
{
    (void)state;
    return rg_mem_live() == 0 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_mix_of_prompts_cancels_and_failures_gives_the_right_tokens),
    };

    rg_log_setup(RG_LOG_OFF, RG_LOG_TEXT);
    return cmocka_run_group_tests(tests, NULL, no_memory_is_left);
}
