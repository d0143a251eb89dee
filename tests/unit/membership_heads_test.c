/* membership_heads_test.c - a worker between two heads, and a head whose nodes come and go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "support/live_memory.h"
#include "support/member_bench.h"

enum { STEP_MS = 100, REST_MS = 300, STAY_MS = 4000 };
enum { FIRST = 100, LOWER = 90, HIGHER = 110 }; /* boots; FIRST is the bench's head */

static uint64_t plan_number(const struct bench *b)
{
    struct rg_epoch e;

    (void)rg_membership_state(b->m, &e);
    return e.n;
}

static void pass(struct bench *b, int64_t ms)
{
    for (int64_t at = 0; at < ms; at += STEP_MS) {
        for (uint32_t i = 0; i < N_PEERS; i++)
            if (i != b->self && view(b, i).state == RG_PEER_UP)
                about(b, i, RG_MESSAGE_HEARTBEAT, plan_number(b));
        tick(b, STEP_MS);
    }
}

/* ---- two heads ------------------------------------------------------------------------------- */

static bool is_second(const struct bench *b, uint32_t peer, uint64_t boot)
{
    return rg_membership_is_second(b->m, peer, boot, b->now);
}

static void a_second_process_is_turned_away_while_the_first_answers(void **state)
{
    struct bench b;

    (void)state;
    open_bench(&b, 1, 0);
    assert_false(is_second(&b, 0, LOWER)); /* nobody is here */
    link_up(&b, 0);
    assert_false(is_second(&b, 0, LOWER)); /* who it is, is not known */
    say_hello(&b, 0);
    greet(&b, 2);
    assert_false(is_second(&b, 0, FIRST)); /* a newer link of the same */
    assert_true(is_second(&b, 0, LOWER));
    assert_true(is_second(&b, 0, HIGHER));
    assert_true(is_second(&b, 2, 7)); /* a worker twice */
    about(&b, 0, RG_MESSAGE_PROPOSE, 1);
    for (int i = 0; i < 5; i++) {
        pass(&b, 20000);
        assert_true(is_second(&b, 0, LOWER)); /* it has a plan, for however long */
        assert_true(is_second(&b, 0, HIGHER));
    }
    link_down(&b, 0, "reset");
    assert_false(is_second(&b, 0, HIGHER)); /* the first is dead: the second may have it */
    assert_false(is_second(&b, 0, LOWER));
    close_bench(&b);
}

static void a_process_that_is_silent_is_no_longer_the_first(void **state)
{
    struct bench b;

    (void)state;
    open_bench(&b, 1, 0);
    greet(&b, 0);
    b.now += INT64_C(1499) * MS;
    assert_true(is_second(&b, 0, HIGHER));
    b.now += INT64_C(1) * MS;
    assert_false(is_second(&b, 0, HIGHER));
    close_bench(&b);
}

static void a_worker_that_nobody_uses_goes_to_the_head_with_the_lower_boot(void **state)
{
    struct bench b;

    (void)state;
    open_bench(&b, 1, 0);
    pass(&b, 60000); /* before there was a head does not count */
    greet(&b, 0);
    pass(&b, 19900);
    assert_true(is_second(&b, 0, LOWER));
    pass(&b, 100);
    assert_false(is_second(&b, 0, LOWER));
    assert_true(is_second(&b, 0, HIGHER));     /* so that they do not take it in turns */
    assert_true(is_second(&b, 2, 7) == false); /* not there at all */
    greet(&b, 2);
    pass(&b, 30000);
    assert_true(is_second(&b, 2, 7)); /* only a head is taken this way */

    about(&b, 0, RG_MESSAGE_PROPOSE, 1);
    assert_true(is_second(&b, 0, LOWER));
    about(&b, 0, RG_MESSAGE_ABORT, 1);
    pass(&b, 19900); /* from the end of the plan */
    assert_true(is_second(&b, 0, LOWER));
    pass(&b, 100);
    assert_false(is_second(&b, 0, LOWER));
    close_bench(&b);
}

static void hello_of_head(struct bench *b, uint64_t boot)
{
    struct rg_message m = {.kind = RG_MESSAGE_HELLO, .hello = hello_of(0)};

    m.hello.boot = boot;
    link_up(b, 0);
    message(b, 0, &m);
    assert_int_equal(view(b, 0).state, RG_PEER_UP);
}

static void propose_of(struct bench *b, uint64_t boot, uint64_t n)
{
    struct rg_proposal plan = plan_of(n);
    const struct rg_message m = {.kind = RG_MESSAGE_PROPOSE, .propose = &plan};

    plan.epoch.boot = boot;
    message(b, 0, &m);
}

static void what_the_first_head_began_ends_before_the_second_begins(void **state)
{
    struct bench b;

    (void)state;
    open_worker(&b, RG_EPOCH_RUNNING, 1);
    propose_of(&b, HIGHER, 2); /* on the first one's link */
    assert_null(find(&b, RG_MEMBER_LOAD));
    assert_non_null(find(&b, RG_MEMBER_DROP));
    assert_non_null(find(&b, RG_MEMBER_STOP));
    assert_non_null(find(&b, RG_MEMBER_FREE));
    assert_state(&b, RG_EPOCH_NONE, 0);

    hello_of_head(&b, HIGHER);
    propose_of(&b, HIGHER, 1);
    assert_int_equal(find(&b, RG_MEMBER_LOAD)->epoch.boot, HIGHER);
    link_up(&b, 0); /* the first is back */
    assert_non_null(find(&b, RG_MEMBER_STOP));
    assert_non_null(find(&b, RG_MEMBER_FREE));
    assert_state(&b, RG_EPOCH_NONE, 0);
    close_bench(&b);
}

static void a_worker_between_two_heads_forgets_no_plan_of_either(void **state)
{
    struct bench b;

    (void)state;
    open_worker(&b, RG_EPOCH_LOADING, 5);
    for (uint64_t round = 1; round < 20; round++) {
        link_down(&b, 0, "reset");
        hello_of_head(&b, HIGHER);
        propose_of(&b, HIGHER, round);
        assert_int_equal(find(&b, RG_MEMBER_LOAD)->epoch.n, round);

        link_down(&b, 0, "reset");
        hello_of_head(&b, FIRST);
        propose_of(&b, FIRST, 4 + round);
        assert_null(find(&b, RG_MEMBER_LOAD));
        assert_int_equal(view(&b, 0).state, RG_PEER_DOWN);
        hello_of_head(&b, FIRST);
        propose_of(&b, FIRST, 5 + round);
        assert_int_equal(find(&b, RG_MEMBER_LOAD)->epoch.n, 5 + round);
    }
    close_bench(&b);
}

/* ---- nodes that come and go ------------------------------------------------------------------ */

/* All of the present plan are ready and start. */
static void run_plan(struct bench *b)
{
    const uint64_t n = plan_number(b);
    const struct rg_proposal *p = rg_membership_proposal(b->m);

    of_epoch(b, RG_MEMBER_LOADED, n, NULL);
    for (int round = 0; round < 2; round++)
        for (uint32_t i = 0; i + 1 < p->n_nodes; i++)
            about(b, strcmp(p->nodes[i].id, "left") == 0 ? 1 : 2,
                  round ? RG_MESSAGE_COMMIT_ACK : RG_MESSAGE_READY, n);
    assert_state(b, RG_EPOCH_RUNNING, n);
}

/* -> ms until there is a plan */
static int64_t until_plan(struct bench *b)
{
    int64_t ms = 0;

    for (; state_of(b) == RG_EPOCH_NONE && ms < 60000; ms += STEP_MS)
        pass(b, STEP_MS);
    assert_int_equal(state_of(b), RG_EPOCH_LOADING);
    return ms;
}

static uint32_t n_nodes(const struct bench *b)
{
    return rg_membership_proposal(b->m)->n_nodes;
}

static void open_ring(struct bench *b)
{
    open_bench_with(b, 0, 2, 15000);
    greet(b, 1);
    greet(b, 2);
    run_plan(b);
    pass(b, 30000);
}

/* "left" is lost, is back at once, and runs again for that long.  -> false: it is left out */
static bool fall(struct bench *b, int64_t ran_ms)
{
    link_down(b, 1, "reset");
    greet(b, 1);
    if (state_of(b) == RG_EPOCH_NONE)
        (void)until_plan(b);
    run_plan(b);
    if (rg_membership_proposal(b->m)->n_nodes < 3)
        return false;
    pass(b, ran_ms);
    return true;
}

static void a_node_that_was_lost_once_is_used_at_once(void **state)
{
    struct bench b;

    (void)state;
    open_ring(&b);
    for (int i = 0; i < 5; i++) {
        link_down(&b, 1, "reset");
        pass(&b, 2000);
        greet(&b, 1);
        assert_int_equal(until_plan(&b), 0);
        assert_int_equal(n_nodes(&b), 3);
        run_plan(&b);
        pass(&b, 8000);
    }
    close_bench(&b);
}

static void a_node_that_comes_and_goes_is_left_out_until_it_stays(void **state)
{
    struct bench b;
    uint64_t n;
    int falls = 0;

    (void)state;
    open_ring(&b);
    while (fall(&b, 1500) && falls < 20)
        falls++;
    assert_in_range(falls, 2, 4);
    assert_int_equal(n_nodes(&b), 2);
    n = plan_number(&b);
    for (int i = 0; i < 10; i++) { /* and the others run */
        pass(&b, 500);
        link_down(&b, 1, "reset");
        pass(&b, 500);
        greet(&b, 1);
        assert_state(&b, RG_EPOCH_RUNNING, n);
    }
    pass(&b, STAY_MS - STEP_MS);
    assert_state(&b, RG_EPOCH_RUNNING, n);
    pass(&b, STEP_MS);
    assert_state(&b, RG_EPOCH_NONE, 0);
    assert_int_equal(until_plan(&b), REST_MS);
    assert_int_equal(n_nodes(&b), 3);
    run_plan(&b);
    pass(&b, 60000);
    link_down(&b, 1, "reset"); /* it has stayed: all is forgotten */
    pass(&b, 5000);
    greet(&b, 1);
    assert_int_equal(until_plan(&b), 0);
    assert_int_equal(n_nodes(&b), 3);
    close_bench(&b);
}

static void nobody_waits_for_a_node_that_comes_and_goes(void **state)
{
    struct bench b;

    (void)state;
    open_ring(&b);
    for (int i = 0; i < 2; i++)
        assert_true(fall(&b, 1500));
    link_down(&b, 1, "reset");
    assert_said(&b, "left comes and goes: plans are made without it until it stays for 4 s");
    assert_int_equal(until_plan(&b), REST_MS);
    assert_int_equal(n_nodes(&b), 2);
    close_bench(&b);
}

static void a_node_that_is_needed_must_stay_too(void **state)
{
    struct bench b;
    int64_t ms = 0;

    (void)state;
    open_ring(&b);
    for (int i = 0; i < 2; i++)
        assert_true(fall(&b, 1500));
    b.no_plan = RG_E_FIT;
    link_down(&b, 1, "reset");
    pass(&b, 3000);
    greet(&b, 1);
    for (; ms < STAY_MS; ms += STEP_MS) {
        assert_state(&b, RG_EPOCH_NONE, 0);
        if (ms == STAY_MS - STEP_MS) {
            assert_reason(&b, "left (it comes and goes, and must stay for a while)");
            b.no_plan = RG_OK;
        }
        pass(&b, STEP_MS);
    }
    assert_int_equal(state_of(&b), RG_EPOCH_LOADING);
    assert_int_equal(n_nodes(&b), 3);
    close_bench(&b);
}

static void a_node_that_is_lost_again_soon_after_its_return_is_not_waited_for(void **state)
{
    struct bench b;

    (void)state;
    open_ring(&b);
    link_down(&b, 1, "reset");
    assert_int_equal(until_plan(&b), 15000);
    run_plan(&b);
    greet(&b, 1);
    pass(&b, 3000);
    assert_int_equal(until_plan(&b), REST_MS);
    assert_int_equal(n_nodes(&b), 3);
    run_plan(&b);
    pass(&b, 10000);
    link_down(&b, 1, "reset");
    assert_int_equal(until_plan(&b), REST_MS);
    assert_int_equal(n_nodes(&b), 2);
    close_bench(&b);
}

static void a_node_that_its_neighbour_loses_again_and_again_is_left_out(void **state)
{
    struct rg_message m = {.kind = RG_MESSAGE_ABORT};
    struct bench b;
    int falls = 0;

    (void)state;
    open_ring(&b);
    (void)snprintf(m.abort.reason, sizeof m.abort.reason, "right is lost: reset");
    (void)snprintf(m.abort.lost_id, sizeof m.abort.lost_id, "right");
    for (; n_nodes(&b) == 3 && falls < 20; falls++) {
        m.abort.epoch = (struct rg_epoch){100, plan_number(&b)};
        message(&b, 1, &m);
        (void)until_plan(&b);
        run_plan(&b);
        pass(&b, 1500);
    }
    assert_in_range(falls, 3, 5);
    assert_int_equal(n_nodes(&b), 2);
    assert_string_equal(rg_membership_proposal(b.m)->nodes[0].id, "left");
    close_bench(&b);
}

static void a_plan_that_ran_for_a_second_has_not_failed(void **state)
{
    static const struct {
        int64_t ran_ms, pause_ms;
    } cases[] = {{0, 1000}, {999, 1000}, {1000, REST_MS}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bench b;

        open_running_head(&b);
        tick(&b, cases[i].ran_ms);
        of_epoch(&b, RG_MEMBER_RING_DOWN, 1, "a step stream ended");
        tick(&b, cases[i].pause_ms - 1);
        assert_state(&b, RG_EPOCH_NONE, 0);
        tick(&b, 1);
        assert_state(&b, RG_EPOCH_LOADING, 2);
        close_bench(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_second_process_is_turned_away_while_the_first_answers),
        TEST(a_process_that_is_silent_is_no_longer_the_first),
        TEST(a_worker_that_nobody_uses_goes_to_the_head_with_the_lower_boot),
        TEST(what_the_first_head_began_ends_before_the_second_begins),
        TEST(a_worker_between_two_heads_forgets_no_plan_of_either),
        TEST(a_node_that_was_lost_once_is_used_at_once),
        TEST(a_node_that_comes_and_goes_is_left_out_until_it_stays),
        TEST(nobody_waits_for_a_node_that_comes_and_goes),
        TEST(a_node_that_is_needed_must_stay_too),
        TEST(a_node_that_is_lost_again_soon_after_its_return_is_not_waited_for),
        TEST(a_node_that_its_neighbour_loses_again_and_again_is_left_out),
        TEST(a_plan_that_ran_for_a_second_has_not_failed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
