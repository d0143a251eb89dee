/* steps_under_way_test.c - the engine over a pipeline that holds several steps: the same tokens as
 * with one, whatever is canceled, fails or is lost meanwhile.  More of losses is in
 * lost_pipeline_test.c. */
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
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/engine.h"

enum { REQUESTS_MOST = 20 };

static struct watch watches[REQUESTS_MOST];

/* ---- any mix ----------------------------------------------------------------------------- */

struct mix {
    uint64_t seed;
    uint32_t n;
    uint32_t max_tokens[REQUESTS_MOST];
    bool is_canceled[REQUESTS_MOST], is_poisoned[REQUESTS_MOST], is_refused[REQUESTS_MOST];
    bool may_be_lost; /* without a deadline for it to be well again */
    bool may_fail;    /* for want of memory, or with a lost node */
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
        m->may_be_lost = ring_random(&m->seed, 2) == 0;
        options.node_timeout_ms = m->may_be_lost ? 0 : 3600000;
    }
    m->may_fail = ring.memory_chance > 0 || m->may_be_lost;
    m->n = 1 + ring_random(&m->seed, REQUESTS_MOST);
    return open_ring_engine(options);
}

static void ask(struct mix *m, struct rg_engine *e, uint32_t i)
{
    struct watch *w = &watches[i];
    struct rg_err err = {0};
    enum rg_code code;

    fill_prompt(w, 1 + ring_random(&m->seed, 60), (uint32_t)m->seed);
    w->may_begin_anew = ring.lose_chance > 0;
    m->max_tokens[i] = 1 + ring_random(&m->seed, 30);
    m->is_poisoned[i] = ring_random(&m->seed, 12) == 0;
    if (m->is_poisoned[i])
        w->prompt[ring_random(&m->seed, w->n_prompt)] = POISON;
    code = submit_with_eos(e, w, m->max_tokens[i], -1, &err);
    m->is_refused[i] = code != RG_OK;
    if (code == RG_OK)
        return;
    assert_true(m->may_be_lost);
    assert_int_equal(code, RG_E_PEER);
    assert_string_equal(err.message, "node 2 is lost");
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

/* ---- what is under way --------------------------------------------------------------------- */

static void a_prompt_is_in_as_many_steps_as_the_pipeline_holds(void **state)
{
    (void)state;
    for (uint32_t depth = 1; depth <= RING_DEPTH_MOST; depth++) {
        struct rg_engine *e;

        ring_setup(depth, depth, depth, 32);
        e = open_ring_engine(
            (struct rg_engine_options){.context = 256, .parallel = 2, .chunk_rows = 8});
        fill_prompt(&watches[0], 200, depth);
        submit(e, &watches[0], 5);
        expect_end(&watches[0], RG_END_LENGTH, 5);
        assert_int_equal(ring.deepest, depth);
        assert_int_equal(atomic_load(&ring.n_collected), 25 + 4);
        rg_engine_close(e);
    }
}

static void decode_rows_are_spread_over_the_stages(void **state)
{
    enum { N = 8 };

    (void)state;
    for (uint32_t stages = 1; stages <= 4; stages++) {
        struct rg_engine *e;

        ring_setup(stages, stages + 1, stages, 64);
        e = open_ring_engine(
            (struct rg_engine_options){.context = 96, .parallel = N, .chunk_rows = 512});
        ring.is_gated = true; /* all of them are there before the first step is back */
        for (uint32_t i = 0; i < N; i++) {
            fill_prompt(&watches[i], 2 + i, i);
            submit(e, &watches[i], 40);
        }
        await_gate();
        ring.decode_most = ring.deepest = ring.decode_steps_most = 0;
        atomic_store(&ring.is_gated, false);
        for (uint32_t i = 0; i < N; i++)
            expect_end(&watches[i], RG_END_LENGTH, 40);
        assert_int_equal(ring.decode_most, (N + stages - 1) / stages);
        assert_int_equal(ring.decode_steps_most, stages);
        await_idle(e);
        rg_engine_close(e);
    }
}

static void decode_rows_slip_between_the_chunks_of_a_prompt(void **state)
{
    struct rg_engine *e;

    (void)state;
    ring_setup(3, 3, 2, 64);
    ring.is_gated = true;
    ring.allowed = 4;
    e = open_ring_engine(
        (struct rg_engine_options){.context = 512, .parallel = 2, .chunk_rows = 10});
    fill_prompt(&watches[0], 5, 1);
    fill_prompt(&watches[1], 400, 2);
    submit(e, &watches[0], 60);
    await_gate();
    submit(e, &watches[1], 1);
    atomic_store(&ring.is_gated, false);
    expect_end(&watches[0], RG_END_LENGTH, 60);
    expect_end(&watches[1], RG_END_LENGTH, 1);
    assert_int_equal(ring.deepest, 3);
    /* Three steps are under way, so that every third of the 40 chunks takes a decode row along. */
    assert_in_range(atomic_load(&ring.n_collected), 60 + 40 - 14, 60 + 40 - 12);
    rg_engine_close(e);
}

/* ---- cancel ------------------------------------------------------------------------------ */

static void cancel_ends_at_once_and_keeps_blocks_until_its_steps_are_back(void **state)
{
    struct rg_engine_stats stats;
    struct rg_engine *e;

    (void)state;
    ring_setup(5, 4, 2, 16);
    ring.is_gated = true;
    e = open_ring_engine(
        (struct rg_engine_options){.context = 256, .parallel = 1, .chunk_rows = 8});
    fill_prompt(&watches[0], 200, 1);
    fill_prompt(&watches[1], 100, 2);
    submit(e, &watches[0], 20);
    await_gate();
    submit(e, &watches[1], 6); /* waits for its turn, and for the blocks */
    rg_engine_cancel(e, watches[0].id);
    atomic_store(&ring.allowed, 1);
    expect_end(&watches[0], RG_END_CANCELED, 0);
    await_gate();
    rg_engine_stats(e, &stats); /* three of its steps are still out */
    assert_int_equal(stats.running, 0);
    assert_int_equal(stats.waiting, 1);
    assert_int_equal(stats.blocks_used, (200 + 20 - 1 + RING_BLOCK_TOKENS - 1) / RING_BLOCK_TOKENS);
    assert_int_equal(watches[0].prefill_done, 8);
    atomic_store(&ring.is_gated, false);
    expect_end(&watches[1], RG_END_LENGTH, 6);
    await_idle(e);
    rg_engine_close(e);
}

static void *open_gate_soon(void *arg)
{
    usleep(50000);
    atomic_store(&ring.is_gated, false);
    return arg;
}

static void closing_takes_back_what_is_under_way(void **state)
{
    struct rg_engine *e;
    pthread_t thread;

    (void)state;
    ring_setup(6, 6, 3, 32);
    ring.is_gated = true;
    ring.allowed = 40;
    e = open_ring_engine(
        (struct rg_engine_options){.context = 512, .parallel = 4, .chunk_rows = 4});
    for (uint32_t i = 0; i < 6; i++) {
        fill_prompt(&watches[i], 100, i);
        submit(e, &watches[i], 300);
    }
    await_gate();
    assert_int_equal(pthread_create(&thread, NULL, open_gate_soon, NULL), 0);
    rg_engine_close(e);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(ring.deepest > 1);
    for (uint32_t i = 0; i < 6; i++)
        expect_end(&watches[i], RG_END_CANCELED, watches[i].n_tokens);
}

/* ---- being alive, and short memory --------------------------------------------------------- */

static int64_t silence_ns(struct rg_engine *e)
{
    struct rg_engine_stats stats;

    rg_engine_stats(e, &stats);
    return rg_clock_ns() - stats.heartbeat_ns;
}

static void a_slow_node_is_not_a_stuck_engine(void **state)
{
    (void)state;
    for (uint32_t stages = 1; stages <= 2; stages++) {
        struct rg_engine *e;

        ring_setup(9, stages, stages, 32);
        ring.is_gated = true;
        e = open_ring_engine(
            (struct rg_engine_options){.context = 96, .parallel = 1, .chunk_rows = 8});
        fill_prompt(&watches[0], 20, 1);
        submit(e, &watches[0], 3);
        await_gate();
        usleep(200000);
        if (stages == 1)
            assert_true(silence_ns(e) >= 200000000);
        else
            assert_true(silence_ns(e) < 200000000);
        atomic_store(&ring.is_gated, false);
        expect_end(&watches[0], RG_END_LENGTH, 3);
        rg_engine_close(e);
    }
}

static void without_memory_fewer_steps_are_under_way(void **state)
{
    const int64_t live = rg_mem_live();
    bool was_shallow = false;

    (void)state;
    for (int64_t n = 1; n < 40; n++) {
        struct rg_engine *e;
        enum rg_code code;

        ring_setup(10, 3, 3, 32);
        e = open_ring_engine(
            (struct rg_engine_options){.context = 256, .parallel = 1, .chunk_rows = 8});
        fill_prompt(&watches[0], 24, 1);
        rg_mem_fail_from(n);
        code = submit_with_eos(e, &watches[0], 3, -1, NULL);
        if (code == RG_OK) {
            expect_end(&watches[0], RG_END_LENGTH, 3);
            was_shallow = was_shallow || ring.deepest < 3;
        } else {
            assert_int_equal(code, RG_E_NOMEM);
        }
        rg_mem_fail_from(0);
        rg_engine_close(e);
        assert_int_equal(rg_mem_live(), live);
    }
    assert_true(was_shallow);
    assert_int_equal(ring.deepest, 3);
}

static int no_memory_is_left(void **state)
{
    (void)state;
    return rg_mem_live() == 0 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_is_in_as_many_steps_as_the_pipeline_holds),
        cmocka_unit_test(decode_rows_are_spread_over_the_stages),
        cmocka_unit_test(decode_rows_slip_between_the_chunks_of_a_prompt),
        cmocka_unit_test(cancel_ends_at_once_and_keeps_blocks_until_its_steps_are_back),
        cmocka_unit_test(closing_takes_back_what_is_under_way),
        cmocka_unit_test(a_slow_node_is_not_a_stuck_engine),
        cmocka_unit_test(without_memory_fewer_steps_are_under_way),
        cmocka_unit_test(any_mix_of_prompts_cancels_and_failures_gives_the_right_tokens),
    };

    rg_log_setup(RG_LOG_OFF, RG_LOG_TEXT);
    return cmocka_run_group_tests(tests, NULL, no_memory_is_left);
}
