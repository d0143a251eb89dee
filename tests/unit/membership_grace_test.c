/* membership_grace_test.c - the head after a loss: whom it waits for and how long, what it plans
 * without them, and what it does when they are back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "support/live_memory.h"
#include "support/member_bench.h"

enum { STEP_MS = 100, SETTLE_MS = 3000, REST_MS = 300, GRACE_MS = 15000 };

/* A tenth of a second in which who is up says so. */
static void step(struct bench *b)
{
    for (uint32_t i = 1; i < N_PEERS; i++)
        if (view(b, i).state == RG_PEER_UP)
            about(b, i, RG_MESSAGE_HEARTBEAT, epoch_of(b).n);
    tick(b, STEP_MS);
}

/* The state and the plan stay as they are. */
static void pass(struct bench *b, int64_t ms)
{
    const enum rg_epoch_state state = state_of(b);
    const struct rg_epoch epoch = epoch_of(b);

    for (int64_t at = 0; at < ms; at += STEP_MS) {
        step(b);
        assert_state(b, state, epoch.n);
    }
}

/* How long it takes until there is a plan. */
static int64_t until_plan(struct bench *b)
{
    int64_t ms = 0;

    while (state_of(b) == RG_EPOCH_NONE && ms < 60000) {
        step(b);
        ms += STEP_MS;
    }
    assert_int_equal(state_of(b), RG_EPOCH_LOADING);
    return ms;
}

static const struct rg_proposal *plan(const struct bench *b)
{
    return rg_membership_proposal(b->m);
}

/* All of the plan are ready and start. */
static void run_plan(struct bench *b)
{
    const uint64_t n = epoch_of(b).n;

    of_epoch(b, RG_MEMBER_LOADED, n, NULL);
    for (int round = 0; round < 2; round++)
        for (uint32_t i = 0; i + 1 < plan(b)->n_nodes; i++)
            about(b, strcmp(plan(b)->nodes[i].id, "left") == 0 ? 1 : 2,
                  round ? RG_MESSAGE_COMMIT_ACK : RG_MESSAGE_READY, n);
    assert_state(b, RG_EPOCH_RUNNING, n);
}

/* A head whose plan runs on all that are up, for a while. */
static void open_ring(struct bench *b, uint32_t wait_for, int64_t grace_ms, bool without_right)
{
    open_bench_with(b, 0, wait_for, grace_ms);
    greet(b, 1);
    if (!without_right)
        greet(b, 2);
    if (state_of(b) == RG_EPOCH_NONE)
        assert_int_equal(until_plan(b), SETTLE_MS);
    run_plan(b);
    pass(b, 2000);
}

/* ---- the grace ------------------------------------------------------------------------------- */

static void a_lost_node_is_waited_for_and_then_done_without(void **state)
{
    static const struct {
        uint32_t wait_for;
        int64_t grace_ms, back_ms; /* after the loss; -1: never */
        int64_t plan_ms;           /* after the loss */
        uint32_t n_nodes;
    } cases[] = {
        {2, GRACE_MS, -1, GRACE_MS, 2},
        {2, GRACE_MS, 0, REST_MS, 3},
        {2, GRACE_MS, 5000, 5100, 3},
        {2, GRACE_MS, 14900, GRACE_MS, 3},
        {2, 1000, -1, 1000, 2},
        {2, 0, -1, REST_MS, 2},
        {2, 0, 0, REST_MS, 3},
        /* Also where fewer would do: it was there. */
        {1, GRACE_MS, -1, GRACE_MS, 2},
        {1, GRACE_MS, 7000, 7100, 3},
        {0, GRACE_MS, -1, GRACE_MS, 2},
        {0, GRACE_MS, 7000, 7100, 3},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bench b;
        int64_t ms = 0;

        open_ring(&b, cases[i].wait_for, cases[i].grace_ms, false);
        link_down(&b, 1, "connection reset");
        assert_state(&b, RG_EPOCH_NONE, 0);
        if (cases[i].back_ms < 0)
            assert_reason(&b, "left");
        while (state_of(&b) == RG_EPOCH_NONE && ms < 60000) {
            if (ms == cases[i].back_ms)
                greet(&b, 1);
            step(&b);
            ms += STEP_MS;
        }
        assert_int_equal(ms, cases[i].plan_ms);
        assert_int_equal(plan(&b)->n_nodes, cases[i].n_nodes);
        run_plan(&b);
        pass(&b, 20000); /* as long as nobody comes back */
        close_bench(&b);
    }
}

static void the_grace_counts_from_the_end_of_the_plan_that_ran(void **state)
{
    struct bench b;

    (void)state;
    open_ring(&b, 2, GRACE_MS, false);
    link_down(&b, 1, "reset");
    pass(&b, 5000);
    greet(&b, 1);
    pass(&b, 2000); /* it loads */
    link_down(&b, 1, "reset again");
    assert_state(&b, RG_EPOCH_NONE, 0);
    assert_int_equal(until_plan(&b), GRACE_MS - 7000);
    assert_int_equal(plan(&b)->n_nodes, 2);
    close_bench(&b);
}

static void before_the_first_plan_nobody_is_done_without(void **state)
{
    struct bench b;

    (void)state;
    open_bench_with(&b, 0, 2, 1000);
    greet(&b, 1);
    pass(&b, 60000);
    assert_reason(&b, "waiting for right (not yet seen)");
    greet(&b, 2);
    assert_state(&b, RG_EPOCH_LOADING, 1);
    link_down(&b, 2, "reset"); /* it never ran */
    pass(&b, 60000);
    close_bench(&b);
}

static void who_never_came_is_not_waited_for_again(void **state)
{
    struct bench b;

    (void)state;
    open_ring(&b, 1, GRACE_MS, true);
    assert_int_equal(plan(&b)->n_nodes, 2);
    link_down(&b, 1, "reset");
    pass(&b, 2000);
    greet(&b, 1);
    assert_state(&b, RG_EPOCH_LOADING, 2); /* no 3 s for "right" */
    assert_int_equal(plan(&b)->n_nodes, 2);
    run_plan(&b);
    greet(&b, 2); /* changes nothing until the next plan */
    pass(&b, 20000);
    close_bench(&b);
}

static void a_plan_that_does_not_fit_without_the_lost_node_waits_for_it(void **state)
{
    struct bench b;

    (void)state;
    open_ring(&b, 2, GRACE_MS, false);
    b.no_plan = RG_E_FIT;
    link_down(&b, 1, "reset");
    pass(&b, GRACE_MS + 20000);
    assert_reason(&b, "waiting for left (reset)");
    b.no_plan = RG_OK;
    greet(&b, 1);
    assert_int_equal(plan(&b)->n_nodes, 3);
    close_bench(&b);
}

/* ---- back ------------------------------------------------------------------------------------ */

static void open_ring_without_left(struct bench *b)
{
    open_ring(b, 2, GRACE_MS, false);
    link_down(b, 1, "reset");
    assert_int_equal(until_plan(b), GRACE_MS);
    run_plan(b);
    pass(b, 5000);
}

static void a_node_that_is_back_gets_its_layers_again(void **state)
{
    struct bench b;

    (void)state;
    open_ring_without_left(&b);
    greet(&b, 1);
    pass(&b, SETTLE_MS - STEP_MS);
    tick(&b, STEP_MS);
    assert_state(&b, RG_EPOCH_NONE, 0);
    assert_string_equal(find(&b, RG_MEMBER_STOP)->err.message,
                        "a lost node is back and gets its layers again");
    assert_int_equal(find(&b, RG_MEMBER_STOP)->err.code, RG_E_PEER);
    assert_non_null(sent(&b, 2, RG_MESSAGE_ABORT));
    assert_null(sent(&b, 1, RG_MESSAGE_ABORT));
    assert_int_equal(until_plan(&b), REST_MS);
    assert_int_equal(plan(&b)->n_nodes, 3);
    run_plan(&b);
    pass(&b, 30000); /* and that is that */
    close_bench(&b);
}

static void a_node_that_comes_and_goes_ends_no_plan(void **state)
{
    struct bench b;

    (void)state;
    open_ring_without_left(&b);
    for (int i = 0; i < 20; i++) {
        greet(&b, 1);
        pass(&b, SETTLE_MS - STEP_MS);
        link_down(&b, 1, "reset");
        pass(&b, 1000);
    }
    assert_state(&b, RG_EPOCH_RUNNING, 2);
    greet(&b, 1);
    pass(&b, SETTLE_MS - STEP_MS);
    step(&b);
    assert_state(&b, RG_EPOCH_NONE, 0);
    close_bench(&b);
}

static void a_node_that_is_back_while_a_plan_loads_waits_for_it_to_run(void **state)
{
    struct bench b;

    (void)state;
    open_ring(&b, 2, GRACE_MS, false);
    link_down(&b, 1, "reset");
    assert_int_equal(until_plan(&b), GRACE_MS);
    greet(&b, 1);
    pass(&b, 20000);
    run_plan(&b);
    pass(&b, SETTLE_MS - STEP_MS);
    step(&b);
    assert_state(&b, RG_EPOCH_NONE, 0);
    assert_int_equal(until_plan(&b), REST_MS);
    assert_int_equal(plan(&b)->n_nodes, 3);
    close_bench(&b);
}

static void of_two_lost_nodes_each_is_used_when_it_is_back(void **state)
{
    struct bench b;

    (void)state;
    open_ring(&b, 2, GRACE_MS, false);
    link_down(&b, 1, "reset");
    link_down(&b, 2, "reset");
    assert_reason(&b, "waiting for left (reset), right (reset)");
    assert_int_equal(until_plan(&b), GRACE_MS);
    assert_int_equal(plan(&b)->n_nodes, 1); /* the head alone */
    run_plan(&b);
    for (uint32_t back = 2; back >= 1; back--) {
        pass(&b, 5000);
        greet(&b, back);
        pass(&b, SETTLE_MS - STEP_MS);
        step(&b);
        assert_state(&b, RG_EPOCH_NONE, 0);
        assert_int_equal(until_plan(&b), REST_MS); /* who is still lost was waited for */
        assert_int_equal(plan(&b)->n_nodes, 4 - back);
        run_plan(&b);
    }
    pass(&b, 30000);
    close_bench(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_lost_node_is_waited_for_and_then_done_without),
        TEST(the_grace_counts_from_the_end_of_the_plan_that_ran),
        TEST(before_the_first_plan_nobody_is_done_without),
        TEST(who_never_came_is_not_waited_for_again),
        TEST(a_plan_that_does_not_fit_without_the_lost_node_waits_for_it),
        TEST(a_node_that_is_back_gets_its_layers_again),
        TEST(a_node_that_comes_and_goes_ends_no_plan),
        TEST(a_node_that_is_back_while_a_plan_loads_waits_for_it_to_run),
        TEST(of_two_lost_nodes_each_is_used_when_it_is_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
