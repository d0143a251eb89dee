/* lost_pipeline_test.c - the engine over a pipeline that is lost, with its KV, and formed again: no
 * token is lost or told twice, and nobody waits for ever. */
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
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/engine.h"

enum { N = 12, LONG_MS = 3600000 };

static struct watch watches[RG_LIMIT_QUEUE + 2];

/* ---- at any point ---------------------------------------------------------------------------- */

struct history {
    uint64_t seed;
    uint32_t n;
    uint32_t max_tokens[N];
    bool is_poisoned[N];
    uint64_t n_prompt, n_generated; /* what the engine has to count */
};

static struct rg_engine *begin_history(struct history *h, uint64_t seed)
{
    static const uint32_t chances[] = {5, 30, 150, 500};
    const uint32_t depth = 1 + (uint32_t)(seed % RING_DEPTH_MOST);
    struct rg_engine_options options;

    *h = (struct history){.seed = seed * 7919};
    options = (struct rg_engine_options){.context = 96,
                                         .parallel = 1 + ring_random(&h->seed, 6),
                                         .chunk_rows = 1 + ring_random(&h->seed, 40),
                                         .node_timeout_ms = LONG_MS};
    ring_setup(h->seed, depth, 1 + ring_random(&h->seed, depth), 6 + ring_random(&h->seed, 40));
    ring.lose_chance = chances[ring_random(&h->seed, 4)];
    ring.stay_chance = ring_random(&h->seed, 4) * 300;
    ring.losses_most = 1 + ring_random(&h->seed, 20);
    ring.changes_shape = ring_random(&h->seed, 2) == 0;
    h->n = 1 + ring_random(&h->seed, N);
    return open_ring_engine(options);
}

static void ask(struct history *h, struct rg_engine *e, uint32_t i)
{
    struct watch *w = &watches[i];

    fill_prompt(w, 1 + ring_random(&h->seed, 60), (uint32_t)h->seed);
    w->may_begin_anew = true;
    h->max_tokens[i] = 1 + ring_random(&h->seed, 30);
    h->is_poisoned[i] = ring_random(&h->seed, 15) == 0;
    if (h->is_poisoned[i])
        w->prompt[w->n_prompt - 1] = POISON;
    submit(e, w, h->max_tokens[i]);
    if (ring_random(&h->seed, 4) == 0)
        await_tokens(w, 1 + ring_random(&h->seed, 9));
}

static void expect_fault_free(struct history *h, uint32_t i)
{
    const struct watch *w = &watches[i];

    await_end(w);
    assert_int_equal(w->n_ends, 1);
    h->n_generated += w->n_tokens;
    if (h->is_poisoned[i]) {
        assert_int_equal(w->reason, RG_END_ERROR);
        assert_int_equal(w->err.code, RG_E_INTERNAL);
        assert_int_equal(w->n_tokens, 0);
        return;
    }
    expect_end(w, RG_END_LENGTH, h->max_tokens[i]);
    h->n_prompt += w->n_prompt;
}

static uint32_t run_history(uint64_t seed)
{
    const int64_t live = rg_mem_live();
    struct rg_engine_stats stats;
    uint32_t n_told = 0, n_poisoned = 0;
    struct history h;
    struct rg_engine *e = begin_history(&h, seed);

    for (uint32_t i = 0; i < h.n; i++)
        ask(&h, e, i);
    for (uint32_t i = 0; i < h.n; i++) {
        expect_fault_free(&h, i);
        n_told += watches[i].n_lost;
        n_poisoned += h.is_poisoned[i];
    }
    await_idle(e);
    rg_engine_stats(e, &stats);
    assert_int_equal(stats.generated_tokens, h.n_generated);
    assert_true(stats.prompt_tokens >= h.n_prompt);
    assert_true(n_poisoned > 0 || stats.prompt_tokens == h.n_prompt);
    rg_engine_close(e);
    assert_int_equal(rg_mem_live(), live);
    return n_told;
}

/* RENGA_LOSSES: how many seeds (4000); RENGA_LOSSES_SEED: the first one. */
static uint64_t from_environment(const char *name, uint64_t if_absent)
{
    const char *s = getenv(name);

    return s ? strtoull(s, NULL, 10) : if_absent;
}

static void losses_at_any_point_change_no_token(void **state)
{
    const uint64_t first = from_environment("RENGA_LOSSES_SEED", 1);
    const uint64_t n = from_environment("RENGA_LOSSES", 4000);
    uint64_t n_lost = 0, n_told = 0;

    (void)state;
    for (uint64_t seed = first; seed < first + n; seed++) {
        if (getenv("RENGA_LOSSES_SAY"))
            print_message("seed %llu\n", (unsigned long long)seed);
        n_told += run_history(seed);
        n_lost += atomic_load(&ring.n_lost);
    }
    print_message("%llu histories: %llu times lost, told %llu times\n", (unsigned long long)n,
                  (unsigned long long)n_lost, (unsigned long long)n_told);
    assert_true(n < 1000 || (n_lost > 5 * n && n_told > n));
}

/* ---- waiting --------------------------------------------------------------------------------- */

static struct rg_engine *open_gated(int64_t node_timeout_ms)
{
    ring_setup(7, 4, 2, 32);
    ring.is_gated = true;
    ring.stay_chance = RING_CHANCES; /* until the test says otherwise */
    return open_ring_engine((struct rg_engine_options){.context = 96,
                                                       .parallel = 2,
                                                       .chunk_rows = 8,
                                                       .node_timeout_ms = node_timeout_ms});
}

static void ask_for_ten(struct rg_engine *e, uint32_t first, uint32_t n)
{
    for (uint32_t i = first; i < first + n; i++) {
        fill_prompt(&watches[i], 80, i);
        watches[i].may_begin_anew = true;
        submit(e, &watches[i], 10);
    }
}

/* After all have asked: who comes first must not be gone before the others are there. */
static void pass_gate(uint32_t n)
{
    await_gate();
    atomic_store(&ring.allowed, n);
    await_gate();
}

static void lose(void)
{
    atomic_store(&ring.is_lost, true);
    atomic_store(&ring.is_gated, false);
}

static void form_again(struct rg_engine *e)
{
    ring.stay_chance = 0; /* the next check finds it formed, with nothing in its KV */
    rg_engine_wake(e);
}

static void requests_wait_are_told_once_and_go_on(void **state)
{
    struct rg_engine *e = open_gated(LONG_MS);
    struct rg_engine_stats before, stats;
    struct rg_err why;

    (void)state;
    ask_for_ten(e, 0, 4);
    pass_gate(12); /* some have answers, some prompts, some wait */
    rg_engine_stats(e, &before);
    assert_int_equal(before.running, 2);
    lose();
    for (uint32_t i = 0; i < 4; i++)
        await_lost(&watches[i], 1);
    ask_for_ten(e, 4, 1); /* queues, and is told too */
    await_lost(&watches[4], 1);
    assert_true(rg_engine_is_lost(e, &why));
    assert_string_equal(why.message, "node 2 is lost");
    usleep(350000); /* some turns of it */
    rg_engine_stats(e, &stats);
    assert_int_equal(stats.running, 2);
    assert_int_equal(stats.waiting, 3);
    assert_int_equal(stats.blocks_used, before.blocks_used);
    assert_true(rg_clock_ns() - stats.heartbeat_ns < 300000000);
    form_again(e);
    for (uint32_t i = 0; i < 5; i++) {
        expect_end(&watches[i], RG_END_LENGTH, 10);
        assert_int_equal(watches[i].n_lost, 1);
    }
    await_idle(e);
    assert_false(rg_engine_is_lost(e, &why));
    rg_engine_stats(e, &stats);
    assert_int_equal(stats.prompt_tokens, 5 * 80);
    assert_int_equal(stats.generated_tokens, 5 * 10);
    rg_engine_close(e);
}

static void a_second_loss_is_told_again(void **state)
{
    struct rg_engine *e = open_gated(LONG_MS);

    (void)state;
    ask_for_ten(e, 0, 2);
    pass_gate(12);
    lose();
    await_lost(&watches[0], 1);
    await_lost(&watches[1], 1);
    atomic_store(&ring.is_gated, true);
    atomic_store(&ring.allowed, 15);
    form_again(e);
    await_gate();
    ring.stay_chance = RING_CHANCES;
    lose();
    await_lost(&watches[0], 2);
    await_lost(&watches[1], 2);
    form_again(e);
    for (uint32_t i = 0; i < 2; i++) {
        expect_end(&watches[i], RG_END_LENGTH, 10);
        assert_int_equal(watches[i].n_lost, 2);
    }
    rg_engine_close(e);
}

static void cancel_needs_no_pipeline(void **state)
{
    struct rg_engine *e = open_gated(LONG_MS);
    struct rg_engine_stats stats;

    (void)state;
    ask_for_ten(e, 0, 4);
    pass_gate(1);
    lose();
    for (uint32_t i = 0; i < 4; i++)
        await_lost(&watches[i], 1);
    rg_engine_cancel(e, watches[0].id); /* it runs */
    rg_engine_cancel(e, watches[3].id); /* it waits */
    expect_end(&watches[0], RG_END_CANCELED, 0);
    expect_end(&watches[3], RG_END_CANCELED, 0);
    rg_engine_stats(e, &stats);
    assert_int_equal(stats.running, 1);
    assert_int_equal(stats.waiting, 1);
    form_again(e);
    expect_end(&watches[1], RG_END_LENGTH, 10);
    expect_end(&watches[2], RG_END_LENGTH, 10);
    await_idle(e);
    rg_engine_close(e);
}

static void a_queue_that_is_full_refuses_and_closing_cancels_all(void **state)
{
    const int64_t live = rg_mem_live();
    struct rg_engine *e;
    struct rg_err err;

    (void)state;
    ring_setup(8, 2, 2, 32);
    ring.stay_chance = RING_CHANCES;
    ring.is_lost = true;
    e = open_ring_engine((struct rg_engine_options){
        .context = 96, .parallel = 2, .chunk_rows = 8, .node_timeout_ms = LONG_MS});
    ask_for_ten(e, 0, RG_LIMIT_QUEUE);
    fill_prompt(&watches[RG_LIMIT_QUEUE], 5, 1);
    assert_int_equal(submit_with_eos(e, &watches[RG_LIMIT_QUEUE], 2, -1, &err), RG_E_LIMIT);
    await_lost(&watches[RG_LIMIT_QUEUE - 1], 1);
    rg_engine_close(e);
    for (uint32_t i = 0; i < RG_LIMIT_QUEUE; i++) {
        expect_end(&watches[i], RG_END_CANCELED, 0);
        assert_int_equal(watches[i].n_lost, 1);
    }
    assert_int_equal(atomic_load(&ring.n_collected), 0);
    assert_int_equal(rg_mem_live(), live);
}

/* ---- the deadline ---------------------------------------------------------------------------- */

static void expect_refused(struct rg_engine *e)
{
    static struct watch late;
    struct rg_err why = {.message = ""};

    fill_prompt(&late, 20, 1);
    assert_int_equal(submit_with_eos(e, &late, 3, -1, &why), RG_E_PEER);
    assert_string_equal(why.message, "node 2 is lost");
    assert_int_equal(late.n_ends, 0);
}

static void expect_lost_end(const struct watch *w)
{
    await_end(w);
    expect_end(w, RG_END_ERROR, w->n_tokens);
    assert_int_equal(w->err.code, RG_E_PEER);
    assert_string_equal(w->err.message, "node 2 is lost");
}

static void after_the_deadline_requests_end_and_new_ones_are_refused(void **state)
{
    enum { TIMEOUT_MS = 700 };
    struct rg_engine *e = open_gated(TIMEOUT_MS);
    int64_t began_ms, took_ms;

    (void)state;
    ask_for_ten(e, 0, 4);
    pass_gate(12);
    lose();
    began_ms = rg_clock_ms();
    await_lost(&watches[0], 1);
    usleep(100000);
    ask_for_ten(e, 4, 1); /* has the rest of the time */
    for (uint32_t i = 0; i < 5; i++) {
        expect_lost_end(&watches[i]);
        assert_int_equal(watches[i].n_lost, 1);
    }
    took_ms = rg_clock_ms() - began_ms;
    assert_in_range(took_ms, TIMEOUT_MS - 1, TIMEOUT_MS + 1000);
    await_idle(e);
    expect_refused(e);
    rg_engine_wake(e); /* nothing has changed */
    usleep(20000);
    expect_refused(e);
    form_again(e);
    for (int tries = 0; tries < 500; tries++) {
        struct rg_err why;

        fill_prompt(&watches[0], 20, 1);
        if (submit_with_eos(e, &watches[0], 3, -1, &why) == RG_OK)
            break;
        usleep(1000);
    }
    expect_end(&watches[0], RG_END_LENGTH, 3);
    /* The next loss has its own time. */
    ring.stay_chance = RING_CHANCES;
    atomic_store(&ring.is_gated, true);
    ask_for_ten(e, 1, 1);
    await_gate();
    lose();
    await_lost(&watches[1], 1);
    form_again(e);
    expect_end(&watches[1], RG_END_LENGTH, 10);
    rg_engine_close(e);
}

static void with_no_time_to_wait_a_loss_ends_all_at_once(void **state)
{
    struct rg_engine *e = open_gated(0);
    struct rg_engine_stats stats;
    struct rg_err why;

    (void)state;
    ask_for_ten(e, 0, 4);
    await_gate();
    lose();
    for (uint32_t i = 0; i < 4; i++) {
        expect_lost_end(&watches[i]);
        assert_int_equal(watches[i].n_tokens, 0);
        assert_int_equal(watches[i].n_lost, 0);
    }
    await_idle(e);
    rg_engine_stats(e, &stats);
    assert_int_equal(stats.steps, 0);
    assert_false(rg_engine_is_broken(e, &why));
    expect_refused(e);
    rg_engine_close(e);
}

static void a_pipeline_that_was_never_there_is_waited_for_too(void **state)
{
    (void)state;
    for (int waits = 0; waits < 2; waits++) {
        struct rg_engine *e;
        struct rg_err why;

        ring_setup(8, 2, 2, 32);
        ring.stay_chance = RING_CHANCES;
        ring.is_lost = true;
        e = open_ring_engine((struct rg_engine_options){.context = 96,
                                                        .parallel = 2,
                                                        .chunk_rows = 8,
                                                        .node_timeout_ms = waits * LONG_MS});
        fill_prompt(&watches[0], 20, 1);
        if (submit_with_eos(e, &watches[0], 3, -1, &why) == RG_OK) {
            if (waits) {
                await_lost(&watches[0], 1);
                form_again(e);
                expect_end(&watches[0], RG_END_LENGTH, 3);
            } else {
                expect_lost_end(&watches[0]); /* it came before the engine had looked */
            }
        } else {
            assert_false(waits);
            assert_int_equal(why.code, RG_E_PEER);
        }
        rg_engine_close(e);
    }
}

static void an_idle_engine_does_not_mind_a_pipeline_that_formed_again(void **state)
{
    struct rg_engine *e;

    (void)state;
    ring_setup(11, 3, 2, 32);
    e = open_ring_engine(
        (struct rg_engine_options){.context = 96, .parallel = 2, .chunk_rows = 8});
    for (uint32_t i = 0; i < 3; i++) {
        fill_prompt(&watches[i], 20, i);
        submit(e, &watches[i], 3);
        expect_end(&watches[i], RG_END_LENGTH, 3);
        await_idle(e);
        atomic_store(&ring.is_new, true);
    }
    rg_engine_close(e);
}

static int no_memory_is_left(void **state)
{
    (void)state;
    return rg_mem_live() == 0 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_wait_are_told_once_and_go_on),
        cmocka_unit_test(a_second_loss_is_told_again),
        cmocka_unit_test(cancel_needs_no_pipeline),
        cmocka_unit_test(a_queue_that_is_full_refuses_and_closing_cancels_all),
        cmocka_unit_test(after_the_deadline_requests_end_and_new_ones_are_refused),
        cmocka_unit_test(with_no_time_to_wait_a_loss_ends_all_at_once),
        cmocka_unit_test(a_pipeline_that_was_never_there_is_waited_for_too),
        cmocka_unit_test(an_idle_engine_does_not_mind_a_pipeline_that_formed_again),
        cmocka_unit_test(losses_at_any_point_change_no_token),
    };

    rg_log_setup(RG_LOG_OFF, RG_LOG_TEXT);
    return cmocka_run_group_tests(tests, NULL, no_memory_is_left);
}
