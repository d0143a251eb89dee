/* membership_reach_test.c - two workers that do not reach each other, and a head that sees both. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "support/live_memory.h"
#include "support/member_bench.h"

enum { STEP_MS = 100, GRACE_MS = 1000, SETTLE_MS = 3000 };

/* A tenth of a second; both are there, and `misser` misses the other one (0: nobody does). */
static void step(struct bench *b, uint32_t misser)
{
    for (uint32_t i = 1; i < N_PEERS; i++) {
        struct rg_heartbeat h = {.epoch = epoch_of(b)};

        if (i == misser)
            (void)snprintf(h.unreached, sizeof h.unreached, "%s", ids[3 - i]);
        heartbeat(b, i, &h);
    }
    tick(b, STEP_MS);
}

static void pass(struct bench *b, uint32_t misser, int64_t ms)
{
    for (int64_t at = 0; at < ms; at += STEP_MS)
        step(b, misser);
}

static const struct rg_proposal *plan(const struct bench *b)
{
    return rg_membership_proposal(b->m);
}

static void until_plan(struct bench *b, uint32_t misser)
{
    for (int at = 0; state_of(b) == RG_EPOCH_NONE && at < 600; at++)
        step(b, misser);
    assert_int_equal(state_of(b), RG_EPOCH_LOADING);
}

static void run_plan(struct bench *b)
{
    const uint64_t n = epoch_of(b).n;

    of_epoch(b, RG_MEMBER_LOADED, n, NULL);
    for (int round = 0; round < 2; round++)
        for (uint32_t i = 0; i + 1 < plan(b)->n_nodes; i++)
            about(b, strcmp(plan(b)->nodes[i].id, "left") == 0 ? 1 : 2,
                  round ? RG_MESSAGE_COMMIT_ACK : RG_MESSAGE_READY, n);
    assert_int_equal(state_of(b), RG_EPOCH_RUNNING);
}

static void cannot_connect(struct bench *b, uint32_t peer)
{
    struct rg_message m = {.kind = RG_MESSAGE_READY};

    m.ready.epoch = epoch_of(b);
    m.ready.code = RG_E_PEER;
    (void)snprintf(m.ready.error, sizeof m.ready.error, "no answer to the connection");
    message(b, peer, &m);
    assert_int_equal(state_of(b), RG_EPOCH_NONE);
}

static void open_ring(struct bench *b)
{
    open_bench_with(b, 0, 2, GRACE_MS);
    greet(b, 1);
    greet(b, 2);
    run_plan(b);
    pass(b, 0, 6000);
    assert_int_equal(plan(b)->n_nodes, 3);
}

static void the_head_does_without_one_of_two_that_are_apart(void **state)
{
    (void)state;
    for (uint32_t misser = 1; misser <= 2; misser++) {
        struct bench b;
        uint64_t n;

        open_ring(&b);
        about(&b, misser, RG_MESSAGE_ABORT, epoch_of(&b).n);
        until_plan(&b, misser); /* both are up: it is tried once more */
        assert_int_equal(plan(&b)->n_nodes, 3);
        cannot_connect(&b, misser);
        until_plan(&b, misser);
        assert_int_equal(plan(&b)->n_nodes, 2);
        assert_string_equal(plan(&b)->nodes[0].id, "left");
        run_plan(&b);
        n = epoch_of(&b).n;
        pass(&b, misser, 60000); /* and not ended for a node that would only fail again */
        assert_int_equal(epoch_of(&b).n, n);
        pass(&b, 0, SETTLE_MS + STEP_MS);
        until_plan(&b, 0);
        assert_int_equal(plan(&b)->n_nodes, 3);
        close_bench(&b);
    }
}

static void a_node_that_was_only_just_started_is_not_done_without(void **state)
{
    struct bench b;

    (void)state;
    open_ring(&b);
    link_down(&b, 2, "reset by peer");
    pass(&b, 0, 500);
    greet(&b, 2);
    for (int i = 0; i < 2; i++) { /* left has not yet seen that right is there again */
        until_plan(&b, 1);
        assert_int_equal(plan(&b)->n_nodes, 3);
        cannot_connect(&b, 1);
    }
    close_bench(&b);
}

static const char *missed(const struct bench *b)
{
    const struct rg_message *m = sent(b, 0, RG_MESSAGE_HEARTBEAT);

    assert_non_null(m);
    return m->heartbeat.unreached;
}

static void a_worker_says_whom_it_misses_until_it_is_there(void **state)
{
    struct bench b;

    (void)state;
    open_bench(&b, 1, 0);
    greet(&b, 0);
    greet(&b, 2);
    about(&b, 0, RG_MESSAGE_PROPOSE, 1);
    tick(&b, 500);
    assert_string_equal(missed(&b), "");
    link_down(&b, 2, "no heartbeat for 4 s");
    tick(&b, 500);
    assert_string_equal(missed(&b), "right");
    tick(&b, 500);
    assert_string_equal(missed(&b), "right");
    greet(&b, 2);
    tick(&b, 500);
    assert_string_equal(missed(&b), "");
    close_bench(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_head_does_without_one_of_two_that_are_apart),
        TEST(a_node_that_was_only_just_started_is_not_done_without),
        TEST(a_worker_says_whom_it_misses_until_it_is_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
