/* inbox_test.c - the hand-over from the engine's thread to the loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include <cmocka.h>

#include "api/inbox.h"
#include "base/mem.h"

static struct {
    uint32_t           n_tokens, n_news, n_ends;
    int32_t            next_id;
    bool               in_order;
    enum rg_end_reason reason;
    enum rg_code       code;
    uint32_t           prefill_done;
    bool               lost, was_sending;
    uint32_t           n_waits;
    struct rg_err      why;
    struct rg_inbox   *inbox;
} got;

/* libuv's own, that a test can make slow. */
static atomic_bool is_slow, is_sending;

int uv_async_send(uv_async_t *async)
{
    int (*send)(uv_async_t *);
    int result;

    *(void **)&send = dlsym(RTLD_NEXT, "uv_async_send");
    assert_non_null(send);
    if (!atomic_load(&is_slow))
        return send(async);
    atomic_store(&is_sending, true);
    usleep(100000);
    result = send(async);
    atomic_store(&is_sending, false);
    return result;
}

static void on_news(struct rg_slot *slot, const struct rg_inbox_news *news)
{
    (void)slot;
    got.n_news++;
    for (size_t i = 0; i < news->n_tokens; i++)
        got.in_order &= news->tokens[i].sample.id == got.next_id++;
    got.n_tokens += (uint32_t)news->n_tokens;
    got.prefill_done = news->prefill_done;
    got.lost = news->lost;
    got.n_waits += news->waits;
    if (news->waits)
        got.why = news->why;
    got.code = news->err.code;
    if (!news->ended)
        return;
    got.n_ends++;
    got.was_sending = atomic_load(&is_sending);
    got.reason = news->reason;
    rg_inbox_close(got.inbox, NULL, NULL);
}

static void *send_tokens(void *arg)
{
    struct rg_slot *slot = arg;

    for (int32_t i = 0; i < 3000; i++) {
        const struct rg_event token = {.kind = RG_EVENT_TOKEN, .sample.id = i};

        rg_inbox_on_event(slot, &token);
    }
    rg_inbox_on_event(slot, &(struct rg_event){.kind = RG_EVENT_END, .reason = RG_END_LENGTH});
    return NULL;
}

static void open_inbox(uv_loop_t *loop, struct rg_slot *slot)
{
    memset(&got, 0, sizeof got);
    got.in_order = true;
    uv_loop_init(loop);
    assert_int_equal(rg_inbox_open(&got.inbox, loop, on_news, NULL), RG_OK);
    rg_slot_init(slot, got.inbox);
}

static void finish(uv_loop_t *loop, struct rg_slot *slot)
{
    uv_run(loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(loop), 0);
    rg_slot_free(slot);
}

static void tokens_arrive_once_and_in_order(void **state)
{
    const int64_t  live = rg_mem_live();
    struct rg_slot slot;
    pthread_t      engine;
    uv_loop_t      loop;

    (void)state;
    open_inbox(&loop, &slot);
    pthread_create(&engine, NULL, send_tokens, &slot);
    finish(&loop, &slot);
    pthread_join(engine, NULL);
    assert_int_equal(got.n_tokens, 3000);
    assert_true(got.in_order);
    assert_int_equal(got.n_ends, 1);
    assert_int_equal(got.reason, RG_END_LENGTH);
    assert_int_equal(rg_mem_live(), live);
}

static void a_slot_that_lost_a_token_ends_with_an_error(void **state)
{
    const struct rg_event token = {.kind = RG_EVENT_TOKEN};
    const struct rg_event prefill = {.kind = RG_EVENT_PREFILL, .done = 7, .total = 9};
    const struct rg_event end = {.kind = RG_EVENT_END, .reason = RG_END_STOP};
    struct rg_slot        slot;
    uv_loop_t             loop;

    (void)state;
    for (int over = 0; over < 2; over++) {
        open_inbox(&loop, &slot);
        rg_inbox_on_event(&slot, &prefill);
        for (int i = 0; i < RG_INBOX_TOKENS_MAX + over; i++)
            rg_inbox_on_event(&slot, &token);
        rg_inbox_on_event(&slot, &end);
        finish(&loop, &slot);
        assert_int_equal(got.n_tokens, RG_INBOX_TOKENS_MAX);
        assert_int_equal(got.prefill_done, 7);
        assert_int_equal(got.reason, over ? RG_END_ERROR : RG_END_STOP);
        assert_int_equal(got.code, over ? RG_E_INTERNAL : RG_OK);
    }
}

/* The engine may go on for minutes. */
static void a_lost_token_is_told_before_the_end(void **state)
{
    const struct rg_event token = {.kind = RG_EVENT_TOKEN};
    const struct rg_event end = {.kind = RG_EVENT_END, .reason = RG_END_CANCELED};
    struct rg_slot        slot;
    uv_loop_t             loop;

    (void)state;
    open_inbox(&loop, &slot);
    rg_mem_fail_at(1);
    rg_inbox_on_event(&slot, &token);
    rg_mem_fail_at(0);
    rg_inbox_on_event(&slot, &token);
    (void)uv_run(&loop, UV_RUN_ONCE);
    assert_int_equal(got.n_news, 1);
    assert_true(got.lost);
    assert_int_equal(got.code, RG_E_INTERNAL);
    assert_int_equal(got.n_tokens, 0);
    rg_inbox_on_event(&slot, &end);
    finish(&loop, &slot);
    assert_int_equal(got.n_ends, 1);
}

static void *send_end_slowly(void *arg)
{
    atomic_store(&is_slow, true);
    rg_inbox_on_event(arg, &(struct rg_event){.kind = RG_EVENT_END, .reason = RG_END_STOP});
    atomic_store(&is_slow, false);
    return NULL;
}

/* The loop may close the inbox as soon as it has seen the last END. */
static void the_engine_is_done_with_the_inbox_when_its_end_is_seen(void **state)
{
    const struct rg_event token = {.kind = RG_EVENT_TOKEN};
    struct rg_slot        slot;
    pthread_t             engine;
    uv_loop_t             loop;

    (void)state;
    open_inbox(&loop, &slot);
    rg_inbox_on_event(&slot, &token); /* wakes the loop */
    pthread_create(&engine, NULL, send_end_slowly, &slot);
    while (!atomic_load(&is_sending))
        usleep(100);
    finish(&loop, &slot);
    pthread_join(engine, NULL);
    assert_int_equal(got.n_ends, 1);
    assert_false(got.was_sending);
}

static void waiting_is_told_once_with_its_reason(void **state)
{
    struct rg_event       lost = {.kind = RG_EVENT_LOST};
    const struct rg_event token = {.kind = RG_EVENT_TOKEN};
    const struct rg_event end = {.kind = RG_EVENT_END, .reason = RG_END_STOP};
    struct rg_slot        slot;
    uv_loop_t             loop;

    (void)state;
    open_inbox(&loop, &slot);
    rg_inbox_on_event(&slot, &token);
    rg_fail(&lost.err, RG_E_PEER, "n2 is lost");
    rg_inbox_on_event(&slot, &lost);
    (void)uv_run(&loop, UV_RUN_ONCE);
    assert_int_equal(got.n_tokens, 1);
    assert_int_equal(got.n_waits, 1);
    assert_string_equal(got.why.message, "n2 is lost");
    rg_inbox_on_event(&slot, &token); /* it goes on */
    (void)uv_run(&loop, UV_RUN_ONCE);
    assert_int_equal(got.n_news, 2);
    assert_int_equal(got.n_waits, 1);
    rg_inbox_on_event(&slot, &lost);
    rg_inbox_on_event(&slot, &end);
    finish(&loop, &slot);
    assert_int_equal(got.n_waits, 2);
    assert_int_equal(got.n_tokens, 2);
    assert_int_equal(got.n_ends, 1);
    assert_int_equal(got.reason, RG_END_STOP);
    assert_int_equal(got.code, RG_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_arrive_once_and_in_order),
        cmocka_unit_test(a_slot_that_lost_a_token_ends_with_an_error),
        cmocka_unit_test(a_lost_token_is_told_before_the_end),
        cmocka_unit_test(waiting_is_told_once_with_its_reason),
        cmocka_unit_test(the_engine_is_done_with_the_inbox_when_its_end_is_seen),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
