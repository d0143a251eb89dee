/* engine_test.c - admission, steps, cancel, failures and events, against a scripted pipeline. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <pthread.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/engine_watch.h"
#include "support/fake_pipeline.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/engine.h"

/* ---- tests ------------------------------------------------------------------------------- */

static void many_sequences_get_their_own_tokens(void **state)
{
    enum { N = 60 };
    static struct watch watches[N];
    const uint32_t chunks[] = {1, 7, 64};

    (void)state;
    for (uint32_t c = 0; c < 3; c++) {
        struct rg_engine *e = open_engine(
            128,
            (struct rg_engine_options){.context = 256, .parallel = 8, .chunk_rows = chunks[c]});
        struct rg_engine_stats stats;
        uint64_t prompt_tokens = 0, generated = 0;

        for (uint32_t i = 0; i < N; i++) {
            fill_prompt(&watches[i], 1 + i * 37 % 150, i + c * 1000);
            submit(e, &watches[i], 1 + i * 11 % 40);
        }
        for (uint32_t i = 0; i < N; i++) {
            expect_end(&watches[i], RG_END_LENGTH, 1 + i * 11 % 40);
            prompt_tokens += watches[i].n_prompt;
            generated += watches[i].n_tokens;
        }
        rg_engine_stats(e, &stats);
        assert_int_equal(stats.prompt_tokens, prompt_tokens);
        assert_int_equal(stats.generated_tokens, generated);
        expect_idle(e);
        assert_int_equal(fake.seqs_most, 8);
        assert_true(fake.rows_most <= chunks[c] + 8);
        rg_engine_close(e);
    }
}

static void an_eos_token_ends_with_stop_and_is_told(void **state)
{
    static struct watch first, second;
    struct rg_engine *e =
        open_engine(16, (struct rg_engine_options){.context = 64, .parallel = 2, .chunk_rows = 16});

    (void)state;
    fill_prompt(&first, 5, 3);
    submit(e, &first, 12);
    expect_end(&first, RG_END_LENGTH, 12);
    fill_prompt(&second, 5, 3);
    assert_int_equal(submit_with_eos(e, &second, 50, first.tokens[7], NULL), RG_OK);
    await_end(&second);
    assert_int_equal(second.reason, RG_END_STOP);
    assert_int_equal(second.n_eos, 1);
    assert_int_equal(second.tokens[second.n_tokens - 1], first.tokens[7]);
    assert_true(second.n_tokens <= 8);
    expect_right_tokens(&second);
    rg_engine_close(e);
}

static void max_tokens_is_cut_to_the_context(void **state)
{
    static struct watch w;
    struct rg_err err;
    struct rg_engine *e =
        open_engine(4, (struct rg_engine_options){.context = 64, .parallel = 1, .chunk_rows = 10});

    (void)state;
    for (uint32_t n = 47; n <= 63; n++) {
        fill_prompt(&w, n, n);
        submit(e, &w, UINT32_MAX);
        expect_end(&w, RG_END_LENGTH, 64 - n);
    }
    fill_prompt(&w, 64, 1);
    assert_int_equal(submit_with_eos(e, &w, 1, -1, &err), RG_E_USAGE);
    assert_non_null(strstr(err.message, "64"));
    rg_engine_close(e);
    assert_int_equal(w.n_ends, 0);
}

static void wrong_requests_are_refused(void **state)
{
    static struct watch w;
    const struct rg_logit_bias bias = {.id = VOCAB, .bias = 1.0f};
    struct rg_request request = {
        .tokens = w.prompt, .n_tokens = 3, .max_tokens = 1, .on_event = on_event, .ud = &w};
    struct rg_err err;
    uint64_t id;
    struct rg_engine *e =
        open_engine(4, (struct rg_engine_options){.context = 64, .parallel = 1, .chunk_rows = 10});

    (void)state;
    fill_prompt(&w, 3, 1);
    w.prompt[1] = VOCAB;
    assert_int_equal(rg_engine_submit(e, &request, &id, &err), RG_E_USAGE);
    assert_non_null(strstr(err.message, "97"));
    w.prompt[1] = -1;
    assert_int_equal(rg_engine_submit(e, &request, &id, &err), RG_E_USAGE);
    w.prompt[1] = 1;
    request.sampling.bias = &bias;
    request.sampling.n_bias = 1;
    assert_int_equal(rg_engine_submit(e, &request, &id, &err), RG_E_USAGE);
    request.sampling.n_bias = 0;
    request.max_tokens = 0;
    assert_int_equal(rg_engine_submit(e, &request, &id, &err), RG_E_USAGE);
    request.max_tokens = 1;
    request.n_tokens = 0;
    assert_int_equal(rg_engine_submit(e, &request, &id, &err), RG_E_USAGE);
    rg_engine_close(e);
    assert_int_equal(w.n_ends, 0);
}

static void cancel_ends_a_running_request_before_its_next_step(void **state)
{
    static struct watch victim, neighbour;
    uint32_t before;
    struct rg_engine *e = open_engine(
        64, (struct rg_engine_options){.context = 512, .parallel = 2, .chunk_rows = 16});

    (void)state;
    fill_prompt(&victim, 20, 1);
    fill_prompt(&neighbour, 30, 2);
    fake.shut_at = 10;
    submit(e, &victim, 400);
    submit(e, &neighbour, 60);
    await_step();
    assert_true(victim.n_tokens > 0);
    before = victim.n_tokens;
    rg_engine_cancel(e, victim.id);
    open_gate();
    await_end(&victim);
    assert_int_equal(victim.reason, RG_END_CANCELED);
    assert_true(victim.n_tokens <= before + 1);
    expect_right_tokens(&victim);
    rg_engine_cancel(e, victim.id); /* ended: ignored */
    rg_engine_cancel(e, 12345);     /* never was */
    expect_end(&neighbour, RG_END_LENGTH, 60);
    expect_idle(e);
    rg_engine_close(e);
}

static void cancel_ends_a_waiting_request_and_keeps_the_order_of_the_others(void **state)
{
    static struct watch w[5];
    struct rg_engine *e =
        open_engine(4, (struct rg_engine_options){.context = 64, .parallel = 1, .chunk_rows = 16});

    (void)state;
    shut_gate();
    n_ended = 0;
    for (uint32_t i = 0; i < 5; i++) {
        fill_prompt(&w[i], 10, i);
        submit(e, &w[i], 4);
    }
    await_step();
    rg_engine_cancel(e, w[4].id);
    rg_engine_cancel(e, w[2].id);
    open_gate();
    expect_end(&w[0], RG_END_LENGTH, 4);
    expect_end(&w[1], RG_END_LENGTH, 4);
    expect_end(&w[2], RG_END_CANCELED, 0);
    expect_end(&w[3], RG_END_LENGTH, 4);
    expect_end(&w[4], RG_END_CANCELED, 0);
    assert_true(w[2].ended_as < w[1].ended_as);
    assert_true(w[4].ended_as < w[1].ended_as);
    assert_true(w[0].ended_as < w[1].ended_as && w[1].ended_as < w[3].ended_as);
    /* the queue still works after its last was taken out */
    fill_prompt(&w[4], 10, 9);
    submit(e, &w[4], 4);
    expect_end(&w[4], RG_END_LENGTH, 4);
    rg_engine_close(e);
}

static void a_full_queue_refuses_without_an_event(void **state)
{
    static struct watch w[RG_LIMIT_QUEUE + 2];
    struct rg_err err;
    struct rg_engine *e =
        open_engine(4, (struct rg_engine_options){.context = 64, .parallel = 1, .chunk_rows = 16});

    (void)state;
    shut_gate();
    for (uint32_t i = 0; i <= RG_LIMIT_QUEUE; i++) {
        fill_prompt(&w[i], 3, i);
        submit(e, &w[i], 2);
        if (i == 0)
            await_step(); /* it runs; the others wait */
    }
    fill_prompt(&w[RG_LIMIT_QUEUE + 1], 3, 1);
    assert_int_equal(submit_with_eos(e, &w[RG_LIMIT_QUEUE + 1], 2, -1, &err), RG_E_LIMIT);
    open_gate();
    for (uint32_t i = 0; i <= RG_LIMIT_QUEUE; i++)
        expect_end(&w[i], RG_END_LENGTH, 2);
    submit(e, &w[RG_LIMIT_QUEUE + 1], 2);
    expect_end(&w[RG_LIMIT_QUEUE + 1], RG_END_LENGTH, 2);
    rg_engine_close(e);
}

static void requests_wait_for_blocks(void **state)
{
    static struct watch w[12];
    /* blocks for one and a half sequences of a full context, slots for eight */
    struct rg_engine *e =
        open_engine(6, (struct rg_engine_options){.context = 64, .parallel = 8, .chunk_rows = 16});

    (void)state;
    for (uint32_t i = 0; i < 12; i++) {
        fill_prompt(&w[i], 20, i);
        submit(e, &w[i], 29); /* 48 positions: 3 blocks, two at a time */
    }
    for (uint32_t i = 0; i < 12; i++)
        expect_end(&w[i], RG_END_LENGTH, 29);
    assert_int_equal(fake.seqs_most, 2);
    expect_idle(e);
    rg_engine_close(e);
}

static void a_short_prompt_does_not_wait_for_a_long_one(void **state)
{
    static struct watch long_one, short_one;
    struct rg_engine *e = open_engine(
        64, (struct rg_engine_options){.context = 512, .parallel = 2, .chunk_rows = 20});

    (void)state;
    n_ended = 0;
    shut_gate();
    fill_prompt(&long_one, 400, 1);
    fill_prompt(&short_one, 10, 2);
    submit(e, &long_one, 1);
    await_step();
    submit(e, &short_one, 5);
    open_gate();
    expect_end(&short_one, RG_END_LENGTH, 5);
    expect_end(&long_one, RG_END_LENGTH, 1);
    assert_int_equal(short_one.ended_as, 1);
    /* 20, then 10 beside the short one, then 20 beside its 4 decode rows */
    assert_int_equal(fake.n_steps, 21);
    rg_engine_close(e);
}

static void a_pipeline_that_was_lost_and_is_well_again_costs_no_token(void **state)
{
    static struct watch w[4];

    (void)state;
    for (uint32_t at = 2; at < 40; at++) {
        struct rg_engine *e = open_engine(
            32, (struct rg_engine_options){.context = 64, .parallel = 3, .chunk_rows = 7});
        struct rg_engine_stats stats;

        fake.fail_at = at;
        fake.fail_code = RG_E_PEER;
        fake.fail_submit = at % 2;
        shut_gate();
        for (uint32_t i = 0; i < 4; i++) {
            fill_prompt(&w[i], 10, i);
            w[i].may_begin_anew = true;
            submit(e, &w[i], 20);
        }
        await_step();
        open_gate();
        for (uint32_t i = 0; i < 4; i++) {
            expect_end(&w[i], RG_END_LENGTH, 20);
            assert_int_equal(w[i].n_lost, 0); /* nobody had to wait */
        }
        rg_engine_stats(e, &stats); /* what was computed twice counts once */
        assert_int_equal(stats.prompt_tokens, 4 * 10);
        assert_int_equal(stats.generated_tokens, 4 * 20);
        expect_idle(e);
        rg_engine_close(e);
    }
}

static void expect_broken(struct rg_engine *e)
{
    static struct watch late;
    struct rg_err why = {.message = ""};
    uint64_t id;

    assert_true(rg_engine_is_broken(e, &why));
    assert_string_equal(why.message, "a file was changed");
    fill_prompt(&late, 7, 7);
    const struct rg_request request = {.tokens = late.prompt,
                                       .n_tokens = late.n_prompt,
                                       .max_tokens = 3,
                                       .on_event = on_event,
                                       .ud = &late};

    assert_int_equal(rg_engine_submit(e, &request, &id, &why), RG_E_IO);
    assert_string_equal(why.message, "a file was changed");
    assert_int_equal(late.n_ends, 0);
}

static void a_broken_pipeline_ends_everything_for_good(void **state)
{
    static struct watch w[4];
    struct rg_engine *e =
        open_engine(32, (struct rg_engine_options){.context = 64, .parallel = 2, .chunk_rows = 64});
    struct rg_err why;

    (void)state;
    assert_false(rg_engine_is_broken(e, &why));
    fake.shut_at = 3; /* two steps go well */
    for (uint32_t i = 0; i < 4; i++) {
        fill_prompt(&w[i], 10, i);
        submit(e, &w[i], 20);
    }
    await_step();
    atomic_store(&fake.is_broken, true);
    open_gate();
    for (uint32_t i = 0; i < 4; i++) {
        await_end(&w[i]);
        assert_int_equal(w[i].reason, RG_END_ERROR);
        assert_int_equal(w[i].err.code, RG_E_IO);
        assert_string_equal(w[i].err.message, "a file was changed");
        assert_true(w[i].n_tokens <= 2); /* nothing of the step that read the zeros */
        expect_right_tokens(&w[i]);
    }
    expect_broken(e);
    atomic_store(&fake.is_broken, false); /* it stays so */
    usleep(10000);
    expect_broken(e);
    expect_idle(e);
    rg_engine_close(e);
}

static void an_idle_engine_finds_out_that_it_is_broken(void **state)
{
    struct rg_engine *e =
        open_engine(4, (struct rg_engine_options){.context = 64, .parallel = 1, .chunk_rows = 16});
    struct rg_err why;

    (void)state;
    atomic_store(&fake.is_broken, true);
    for (int i = 0; i < 100 && !rg_engine_is_broken(e, &why); i++)
        usleep(50000);
    expect_broken(e);
    assert_int_equal(fake.n_steps, 0);
    rg_engine_close(e);
}

static void a_value_that_is_not_finite_ends_only_its_own_sequence(void **state)
{
    static struct watch good[3], bad;
    struct rg_engine *e =
        open_engine(32, (struct rg_engine_options){.context = 64, .parallel = 4, .chunk_rows = 8});

    (void)state;
    shut_gate();
    for (uint32_t i = 0; i < 3; i++) {
        fill_prompt(&good[i], 10 + i, i);
        submit(e, &good[i], 20);
    }
    fill_prompt(&bad, 12, 9);
    bad.prompt[11] = POISON;
    submit(e, &bad, 20);
    await_step();
    open_gate();
    await_end(&bad);
    assert_int_equal(bad.reason, RG_END_ERROR);
    assert_int_equal(bad.err.code, RG_E_INTERNAL);
    assert_int_equal(bad.n_tokens, 0);
    for (uint32_t i = 0; i < 3; i++)
        expect_end(&good[i], RG_END_LENGTH, 20);
    expect_idle(e);
    rg_engine_close(e);
}

static void closing_cancels_everything_once(void **state)
{
    static struct watch w[20];
    struct rg_engine *e = open_engine(
        16, (struct rg_engine_options){.context = 256, .parallel = 1, .chunk_rows = 16});

    (void)state;
    for (uint32_t i = 0; i < 20; i++) {
        fill_prompt(&w[i], 10, i);
        submit(e, &w[i], 200);
    }
    await_tokens(&w[0], 2);
    rg_engine_close(e);
    for (uint32_t i = 0; i < 20; i++) {
        assert_int_equal(w[i].n_ends, 1);
        if (w[i].reason != RG_END_LENGTH)
            assert_int_equal(w[i].reason, RG_END_CANCELED);
        expect_right_tokens(&w[i]);
    }
}

static void decoding_allocates_nothing(void **state)
{
    static struct watch w;
    int64_t early;
    struct rg_engine *e = open_engine(
        32, (struct rg_engine_options){.context = 512, .parallel = 1, .chunk_rows = 16});

    (void)state;
    fill_prompt(&w, 40, 1);
    shut_gate();
    submit(e, &w, 400);
    await_step();
    early = rg_mem_count();
    open_gate();
    expect_end(&w, RG_END_LENGTH, 400);
    assert_int_equal(w.allocations, early);
    rg_engine_close(e);
}

static void an_idle_engine_shows_that_it_is_alive(void **state)
{
    struct rg_engine_stats before, after;
    struct rg_engine *e =
        open_engine(4, (struct rg_engine_options){.context = 64, .parallel = 1, .chunk_rows = 16});

    (void)state;
    usleep(100000); /* past its first turn */
    rg_engine_stats(e, &before);
    for (int i = 0; i < 50; i++) {
        usleep(100000);
        rg_engine_stats(e, &after);
        if (after.heartbeat_ns > before.heartbeat_ns)
            break;
    }
    assert_true(after.heartbeat_ns > before.heartbeat_ns);
    assert_int_equal(after.blocks_total, 4);
    rg_engine_close(e);
}

static void a_context_that_the_blocks_cannot_hold_is_refused(void **state)
{
    const struct rg_engine_options options = {.context = 65, .parallel = 1};
    struct rg_engine *e;
    struct rg_err err;

    (void)state;
    rg_engine_close(
        open_engine(4, (struct rg_engine_options){.context = 64, .parallel = 1, .chunk_rows = 0}));
    memset(&fake, 0, sizeof(fake));
    fake.base = (struct rg_pipeline){.ops = &fake_ops,
                                     .depth = 1,
                                     .vocab_size = VOCAB,
                                     .n_blocks = 4,
                                     .block_tokens = BLOCK_TOKENS};
    pthread_mutex_init(&fake.lock, NULL);
    pthread_cond_init(&fake.change, NULL);
    assert_int_equal(rg_engine_open(&e, &fake.base, &options, &err), RG_E_FIT);
    assert_null(e);
}

static void short_memory_leaves_nothing_behind(void **state)
{
    static struct watch w;
    const int64_t live = rg_mem_live();
    struct rg_engine *e;
    int64_t n;

    (void)state;
    for (n = 1; n < 100; n++) {
        const struct rg_engine_options options = {.context = 64, .parallel = 2, .chunk_rows = 8};
        enum rg_code code;

        memset(&fake, 0, sizeof(fake));
        fake.base = (struct rg_pipeline){.ops = &fake_ops,
                                         .depth = 1,
                                         .vocab_size = VOCAB,
                                         .n_blocks = 8,
                                         .block_tokens = BLOCK_TOKENS};
        pthread_mutex_init(&fake.lock, NULL);
        pthread_cond_init(&fake.change, NULL);
        rg_mem_fail_at(n);
        code = rg_engine_open(&e, &fake.base, &options, NULL);
        if (code == RG_OK)
            break;
        assert_int_equal(code, RG_E_NOMEM);
        assert_int_equal(rg_mem_live(), live);
    }
    assert_true(n > 5 && n < 100);
    for (n = 1; n < 100; n++) {
        fill_prompt(&w, 5, 1);
        rg_mem_fail_at(n);
        if (submit_with_eos(e, &w, 3, -1, NULL) == RG_OK)
            break;
    }
    rg_mem_fail_at(0);
    assert_true(n > 3 && n < 100);
    expect_end(&w, RG_END_LENGTH, 3);
    rg_engine_close(e);
    assert_int_equal(rg_mem_live(), live);
}

static int no_memory_is_left(void **state)
{
    (void)state;
    return rg_mem_live() == 0 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_sequences_get_their_own_tokens),
        cmocka_unit_test(an_eos_token_ends_with_stop_and_is_told),
        cmocka_unit_test(max_tokens_is_cut_to_the_context),
        cmocka_unit_test(wrong_requests_are_refused),
        cmocka_unit_test(cancel_ends_a_running_request_before_its_next_step),
        cmocka_unit_test(cancel_ends_a_waiting_request_and_keeps_the_order_of_the_others),
        cmocka_unit_test(a_full_queue_refuses_without_an_event),
        cmocka_unit_test(requests_wait_for_blocks),
        cmocka_unit_test(a_short_prompt_does_not_wait_for_a_long_one),
        cmocka_unit_test(a_pipeline_that_was_lost_and_is_well_again_costs_no_token),
        cmocka_unit_test(a_broken_pipeline_ends_everything_for_good),
        cmocka_unit_test(an_idle_engine_finds_out_that_it_is_broken),
        cmocka_unit_test(a_value_that_is_not_finite_ends_only_its_own_sequence),
        cmocka_unit_test(closing_cancels_everything_once),
        cmocka_unit_test(decoding_allocates_nothing),
        cmocka_unit_test(an_idle_engine_shows_that_it_is_alive),
        cmocka_unit_test(a_context_that_the_blocks_cannot_hold_is_refused),
        cmocka_unit_test(short_memory_leaves_nothing_behind),
    };

    rg_log_setup(RG_LOG_OFF, RG_LOG_TEXT);
    return cmocka_run_group_tests(tests, NULL, no_memory_is_left);
}
