/* flapping_ring_test.c - the engine over a pipeline that is lost again and again: whoever gets
 * further goes on, whoever does not ends in time; and what is drawn is the same as without. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
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

enum { TIMEOUT_MS = 1200, LATE_MS = IS_EMULATED ? 4000 : 1000, CHUNK = 8 };

static struct watch watches[6];

static struct rg_engine *open_flapping(uint32_t after, uint32_t more, uint32_t step_us,
                                       int64_t timeout_ms)
{
    ring_setup(7, 1, 1, 64);
    ring.flap_after = after;
    ring.flap_more = more;
    ring.step_us = step_us;
    return open_ring_engine((struct rg_engine_options){.context = 400,
                                                       .parallel = 2,
                                                       .chunk_rows = CHUNK,
                                                       .node_timeout_ms = timeout_ms});
}

static void ask(struct rg_engine *e, uint32_t i, uint32_t n_prompt, uint32_t max_tokens)
{
    fill_prompt(&watches[i], n_prompt, i);
    watches[i].may_begin_anew = true;
    submit(e, &watches[i], max_tokens);
}

static void expect_lost_end(const struct watch *w)
{
    await_end(w);
    expect_end(w, RG_END_ERROR, w->n_tokens);
    assert_int_equal(w->err.code, RG_E_PEER);
    assert_string_equal(w->err.message, "node 2 is lost");
}

/* ---- how long it took ------------------------------------------------------------------------ */

/* A machine that lets threads wait for their turn is not the engine's slowness. */
static struct {
    pthread_t thread;
    atomic_bool is_over;
    int64_t began_ms, slowest_ms; /* the longest wait of a thread that sleeps 10 ms */
} timing;

static void *watch_machine(void *arg)
{
    int64_t last_ms = rg_clock_ms();

    (void)arg;
    while (!atomic_load(&timing.is_over)) {
        int64_t now_ms;

        usleep(10000);
        now_ms = rg_clock_ms();
        if (now_ms - last_ms > timing.slowest_ms)
            timing.slowest_ms = now_ms - last_ms;
        last_ms = now_ms;
    }
    return NULL;
}

static void begin_timing(void)
{
    timing.slowest_ms = 0;
    atomic_store(&timing.is_over, false);
    timing.began_ms = rg_clock_ms();
    pthread_create(&timing.thread, NULL, watch_machine, NULL);
}

/* The engine and the test take some turns from the end of the time to the end of the request. */
static void expect_in_time(void)
{
    enum { TURNS = 6 };
    const int64_t took_ms = rg_clock_ms() - timing.began_ms;

    atomic_store(&timing.is_over, true);
    pthread_join(timing.thread, NULL);
    assert_true(took_ms >= TIMEOUT_MS);
    if (took_ms > TIMEOUT_MS + LATE_MS + (timing.slowest_ms > 30 ? TURNS * timing.slowest_ms : 0))
        fail_msg("it took %lld ms; the machine's longest pause: %lld ms", (long long)took_ms,
                 (long long)timing.slowest_ms);
}

/* ---- who ends -------------------------------------------------------------------------------- */

static void losses_that_are_over_at_once_end_who_gets_no_further(void **state)
{
    struct rg_engine *e = open_flapping(3, 0, 1000, TIMEOUT_MS);

    (void)state;
    begin_timing();
    ask(e, 0, 80, 10); /* ten steps, of which three come back each time */
    expect_lost_end(&watches[0]);
    expect_in_time();
    assert_int_equal(watches[0].n_tokens, 0);
    await_idle(e);
    ask(e, 1, 2 * CHUNK, 1); /* two steps */
    expect_end(&watches[1], RG_END_LENGTH, 1);
    rg_engine_close(e);
}

/* 38 steps, the first attempts of which 3, 4, 5... come back: each in a tenth of the time. */
static void who_gets_further_each_time_goes_on(void **state)
{
    struct rg_engine *e = open_flapping(3, 1, 5000, 2 * TIMEOUT_MS);
    const int64_t began_ms = rg_clock_ms();

    (void)state;
    ask(e, 0, 300, 10);
    expect_end(&watches[0], RG_END_LENGTH, 10);
    assert_true(rg_clock_ms() - began_ms > 2 * TIMEOUT_MS);
    assert_true(atomic_load(&ring.n_lost) > 30);
    rg_engine_close(e);
}

/* The first gets a token each time. */
static void each_request_has_its_own_time(void **state)
{
    struct rg_engine *e = open_flapping(4, 0, 1000, TIMEOUT_MS);

    (void)state;
    ask(e, 0, 2, 10);
    ask(e, 1, 80, 10);
    expect_end(&watches[0], RG_END_LENGTH, 10);
    expect_lost_end(&watches[1]);
    ask(e, 2, 2, 10);
    expect_end(&watches[2], RG_END_LENGTH, 10);
    await_idle(e);
    rg_engine_close(e);
}

/* ---- losses that last ------------------------------------------------------------------------ */

static bool all_ended(uint32_t n)
{
    bool all = true;

    pthread_mutex_lock(&watch_lock);
    for (uint32_t i = 0; i < n; i++)
        all = all && watches[i].n_ends > 0;
    pthread_mutex_unlock(&watch_lock);
    return all;
}

static bool is_at_gate(void)
{
    return atomic_load(&ring.n_at_gate) > 0;
}

static void until_gate_or_end(uint32_t n)
{
    while (!is_at_gate() && !all_ended(n))
        usleep(1000);
}

/* Lost for 50 ms, then well until a step is under way that does not come back. */
static void flap_once(struct rg_engine *e, uint32_t n)
{
    ring.stay_chance = RING_CHANCES;
    atomic_store(&ring.is_lost, true);
    atomic_store(&ring.is_gated, false);
    usleep(50000);
    atomic_store(&ring.is_gated, true);
    ring.stay_chance = 0;
    rg_engine_wake(e);
    until_gate_or_end(n);
}

static void open_gate(void)
{
    atomic_store(&ring.is_gated, false);
}

static void a_ring_that_makes_no_step_does_not_begin_the_time_anew(void **state)
{
    enum { N = 4 };
    struct rg_engine *e;
    struct rg_err why;

    (void)state;
    ring_setup(7, 2, 2, 64);
    ring.is_gated = true;
    ring.stay_chance = RING_CHANCES;
    e = open_ring_engine((struct rg_engine_options){
        .context = 200, .parallel = 2, .chunk_rows = CHUNK, .node_timeout_ms = TIMEOUT_MS});
    for (uint32_t i = 0; i < N; i++)
        ask(e, i, 80, 20);
    await_gate();
    atomic_store(&ring.allowed, 22); /* both have answers; two wait */
    await_gate();
    begin_timing();
    while (!all_ended(N) && rg_clock_ms() - timing.began_ms < 10 * TIMEOUT_MS)
        flap_once(e, N);
    expect_in_time();
    for (uint32_t i = 0; i < N; i++)
        expect_lost_end(&watches[i]);
    assert_true(watches[0].n_tokens > 0 && watches[0].n_lost > 1);
    await_idle(e);
    /* Nobody was there to lose anything since: the next one has all its time. */
    open_gate();
    rg_engine_wake(e);
    for (int i = 0; i < 2000 && rg_engine_is_lost(e, &why); i++)
        usleep(1000);
    ask(e, 0, 80, 3);
    expect_end(&watches[0], RG_END_LENGTH, 3);
    rg_engine_close(e);
}

/* A ring of which nobody wants anything may be lost as often as it likes. */
static void an_idle_ring_that_flaps_costs_no_time(void **state)
{
    struct rg_engine *e = open_flapping(0, 0, 0, TIMEOUT_MS);
    struct rg_err why;

    (void)state;
    for (int64_t end_ms = rg_clock_ms() + TIMEOUT_MS + 300; rg_clock_ms() < end_ms;) {
        ring.stay_chance = RING_CHANCES;
        atomic_store(&ring.is_lost, true);
        rg_engine_wake(e);
        while (!rg_engine_is_lost(e, &why))
            usleep(1000);
        ring.stay_chance = 0;
        rg_engine_wake(e);
        while (rg_engine_is_lost(e, &why))
            usleep(1000);
    }
    ring.stay_chance = RING_CHANCES;
    atomic_store(&ring.is_lost, true);
    rg_engine_wake(e);
    while (!rg_engine_is_lost(e, &why))
        usleep(1000);
    ask(e, 0, 20, 3);
    await_lost(&watches[0], 1);
    usleep(300000);
    assert_int_equal(watches[0].n_ends, 0);
    ring.stay_chance = 0;
    rg_engine_wake(e);
    expect_end(&watches[0], RG_END_LENGTH, 3);
    rg_engine_close(e);
}

/* ---- what is drawn --------------------------------------------------------------------------- */

enum { N_DRAWS = 40 };

struct draws {
    struct rg_sample samples[N_DRAWS];
    uint32_t n;
    bool ended;
};

static void note_sample(void *ud, const struct rg_event *event)
{
    struct draws *d = ud;

    pthread_mutex_lock(&watch_lock);
    if (event->kind == RG_EVENT_TOKEN)
        d->samples[d->n++] = event->sample;
    d->ended = event->kind == RG_EVENT_END;
    pthread_cond_broadcast(&watch_change);
    pthread_mutex_unlock(&watch_lock);
}

/* Two choices of one request, with everything that a sampler looks at. */
static void draw_all(struct draws *draws, uint32_t lose_chance, uint64_t seed)
{
    static const struct rg_logit_bias bias = {.id = 3, .bias = 1.5f};
    struct rg_engine *e;
    int32_t prompt[30];

    memset(draws, 0, 2 * sizeof(*draws));
    for (int32_t i = 0; i < 30; i++)
        prompt[i] = i * 7 % (VOCAB - 1);
    ring_setup(seed, 3, 2, 64);
    ring.is_flat = true;
    ring.lose_chance = lose_chance;
    e = open_ring_engine((struct rg_engine_options){
        .context = 200, .parallel = 2, .chunk_rows = CHUNK, .node_timeout_ms = 3600000});
    for (uint32_t i = 0; i < 2; i++) {
        const struct rg_request request = {.tokens = prompt,
                                           .n_tokens = 30,
                                           .max_tokens = N_DRAWS,
                                           .sampling = {.temperature = 1.2f,
                                                        .top_p = 0.95f,
                                                        .top_k = 20,
                                                        .repetition_penalty = 1.1f,
                                                        .presence_penalty = 0.4f,
                                                        .frequency_penalty = 0.3f,
                                                        .seed = 99,
                                                        .logprobs = true,
                                                        .n_top_logprobs = 5,
                                                        .bias = &bias,
                                                        .n_bias = 1},
                                           .choice = i,
                                           .on_event = note_sample,
                                           .ud = &draws[i]};
        uint64_t id;

        assert_int_equal(rg_engine_submit(e, &request, &id, NULL), RG_OK);
    }
    pthread_mutex_lock(&watch_lock);
    while (!draws[0].ended || !draws[1].ended)
        pthread_cond_wait(&watch_change, &watch_lock);
    pthread_mutex_unlock(&watch_lock);
    rg_engine_close(e);
}

static void what_is_drawn_does_not_depend_on_losses(void **state)
{
    static struct draws without[2], with[2];
    uint32_t n_lost = 0, n_different = 0;

    (void)state;
    draw_all(without, 0, 1);
    for (uint64_t seed = 1; seed <= 100; seed++) {
        draw_all(with, 150, seed);
        n_lost += atomic_load(&ring.n_lost);
        for (int i = 0; i < 2; i++) {
            assert_int_equal(with[i].n, N_DRAWS);
            assert_memory_equal(with[i].samples, without[i].samples, sizeof(with[i].samples));
        }
    }
    assert_true(n_lost > 500);
    for (uint32_t i = 0; i < N_DRAWS; i++)
        n_different += without[0].samples[i].id != without[1].samples[i].id;
    assert_true(n_different > N_DRAWS / 2); /* it is not the likeliest token that is drawn */
}

static int no_memory_is_left(void **state)
{
    (void)state;
    return rg_mem_live() == 0 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(losses_that_are_over_at_once_end_who_gets_no_further),
        cmocka_unit_test(who_gets_further_each_time_goes_on),
        cmocka_unit_test(each_request_has_its_own_time),
        cmocka_unit_test(a_ring_that_makes_no_step_does_not_begin_the_time_anew),
        cmocka_unit_test(an_idle_ring_that_flaps_costs_no_time),
        cmocka_unit_test(what_is_drawn_does_not_depend_on_losses),
    };

    rg_log_setup(RG_LOG_OFF, RG_LOG_TEXT);
    return cmocka_run_group_tests(tests, NULL, no_memory_is_left);
}
