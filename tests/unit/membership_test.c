/* membership_test.c - one node's membership: greeting, liveness, plans.  Every message in every
 * state is in membership_messages_test.c; whole clusters are tests/sim's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "support/live_memory.h"
#include "support/member_bench.h"

/* ---- greeting -------------------------------------------------------------------------------- */

static void both_sides_say_hello_first(void **state)
{
    struct bench b;

    (void)state;
    open_bench(&b, 1, 0);
    link_up(&b, 0);
    assert_int_equal(b.actions.n, 1);
    assert_string_equal(sent(&b, 0, RG_MESSAGE_HELLO)->hello.node_id, "left");
    assert_int_equal(view(&b, 0).state, RG_PEER_GREETING);
    tick(&b, 600);
    assert_int_equal(b.actions.n, 0);
    say_hello(&b, 0);
    assert_int_equal(view(&b, 0).state, RG_PEER_UP);
    assert_string_equal(view(&b, 0).build, "test");
    tick(&b, 0);
    assert_non_null(sent(&b, 0, RG_MESSAGE_HEARTBEAT));
    close_bench(&b);
}

static void expect_refusal(struct rg_hello *hello, const char *what, const char *mine,
                           const char *yours)
{
    const struct rg_message m = {.kind = RG_MESSAGE_HELLO, .hello = *hello};
    const struct rg_message *refuse;
    struct bench b;

    open_bench(&b, 1, 0);
    link_up(&b, 2);
    message(&b, 2, &m);
    refuse = sent(&b, 2, RG_MESSAGE_REFUSE);
    assert_non_null(refuse);
    assert_string_equal(refuse->refuse.what, what);
    assert_string_equal(refuse->refuse.mine, mine);
    assert_string_equal(refuse->refuse.yours, yours);
    assert_non_null(find(&b, RG_MEMBER_DROP));
    assert_said(&b, mine);
    assert_said(&b, yours);
    assert_int_equal(view(&b, 2).state, RG_PEER_REFUSED);
    assert_non_null(strstr(view(&b, 2).reason, what));
    /* The next link is tried again, and the same refusal is not logged twice. */
    link_up(&b, 2);
    message(&b, 2, &m);
    assert_non_null(find(&b, RG_MEMBER_DROP));
    assert_null(find(&b, RG_MEMBER_SAY));
    greet(&b, 2);
    assert_int_equal(view(&b, 2).state, RG_PEER_UP);
    close_bench(&b);
    *hello = hello_of(2);
}

static void a_hello_that_differs_is_refused_with_both_values(void **state)
{
    struct rg_hello h = hello_of(2);
    struct rg_layer_card other[N_LAYERS];

    (void)state;
    h.major = 7;
    expect_refusal(&h, "protocol major version", "1", "7");
    (void)snprintf(h.node_id, sizeof h.node_id, "left");
    expect_refusal(&h, "node id", "right", "left");
    (void)snprintf(h.head_id, sizeof h.head_id, "right");
    expect_refusal(&h, "head", "head", "right");
    (void)snprintf(h.cluster, sizeof h.cluster, "0123456789abcdef");
    expect_refusal(&h, "cluster", "plain", "0123456789abcdef");
    (void)snprintf(h.numerics, sizeof h.numerics, "mlx-1");
    expect_refusal(&h, "numerics", "cpu-1", "mlx-1");
    h.model.digest.bytes[0] = 0xab;
    expect_refusal(&h, "model configuration", "00000000000000000000000000000000",
                   "ab000000000000000000000000000000");
    h.model.n_layers = 5;
    expect_refusal(&h, "model layer count", "6", "5");
    memcpy(other, cards[2], sizeof other);
    other[4].digest.bytes[15] = 1;
    h.model.layers = other;
    expect_refusal(&h, "model layer 4", "04000000000000000000000000000000",
                   "04000000000000000000000000000001");
    h.model.embedding = (struct rg_layer_card){.there = true, .digest = {{1}}};
    h.model.head = (struct rg_layer_card){.there = true, .digest = {{2}}};
    /* Only what both have is compared: the others have no embedding. */
    {
        const struct rg_message m = {.kind = RG_MESSAGE_HELLO, .hello = h};
        struct bench b;

        open_bench(&b, 1, 0);
        link_up(&b, 2);
        message(&b, 2, &m);
        assert_int_equal(view(&b, 2).state, RG_PEER_UP);
        close_bench(&b);
    }
}

static void the_head_compares_layers_that_only_others_have(void **state)
{
    struct rg_hello h = hello_of(0), right = hello_of(2);
    struct rg_layer_card own[N_LAYERS], other[N_LAYERS];
    const struct rg_membership_options o = {
        .n_peers = N_PEERS, .ids = ids, .hello = &h, .wait_for = 2, .propose = propose};
    struct rg_message m = {.kind = RG_MESSAGE_HELLO};
    struct bench b = {.now = MS};

    (void)state;
    memcpy(own, cards[0], sizeof own);
    memcpy(other, cards[2], sizeof other);
    own[1].there = false;
    other[1].digest.bytes[0] = 0x77;
    h.model.layers = own;
    right.model.layers = other;
    m.hello = right;
    assert_int_equal(rg_membership_open(&b.m, &o, NULL), RG_OK);
    greet(&b, 1);
    link_up(&b, 2);
    message(&b, 2, &m);
    assert_string_equal(sent(&b, 2, RG_MESSAGE_REFUSE)->refuse.what, "model layer 1");
    assert_string_equal(sent(&b, 2, RG_MESSAGE_REFUSE)->refuse.mine,
                        "left: 01000000000000000000000000000000");
    assert_int_equal(view(&b, 1).state, RG_PEER_UP);
    assert_reason(&b, "waiting for right");
    close_bench(&b);
}

static void a_refusal_of_the_other_side_is_logged_with_both_values(void **state)
{
    const struct rg_message m = {.kind = RG_MESSAGE_REFUSE,
                                 .refuse = {.what = "head", .mine = "A", .yours = "B"}};
    struct bench b;

    (void)state;
    open_bench(&b, 1, 0);
    greet(&b, 0);
    message(&b, 0, &m);
    assert_said(&b, "refused by it, head: here B, there A");
    assert_non_null(find(&b, RG_MEMBER_DROP));
    assert_int_equal(view(&b, 0).state, RG_PEER_REFUSED);
    close_bench(&b);
}

static void a_peer_without_a_hello_is_dropped(void **state)
{
    struct bench b;

    (void)state;
    open_bench(&b, 1, 0);
    link_up(&b, 0);
    tick(&b, RG_LIMIT_HELLO_WAIT_MS);
    assert_null(find(&b, RG_MEMBER_DROP));
    tick(&b, 1);
    assert_non_null(find(&b, RG_MEMBER_DROP));
    assert_reason(&b, "no Hello");
    close_bench(&b);
}

static void a_newer_link_takes_the_place_of_the_old_one(void **state)
{
    struct bench b;

    (void)state;
    open_worker(&b, RG_EPOCH_RUNNING, 1);
    link_up(&b, 0);
    assert_non_null(find(&b, RG_MEMBER_STOP));
    assert_non_null(find(&b, RG_MEMBER_FREE));
    assert_null(sent(&b, 0, RG_MESSAGE_ABORT));
    assert_non_null(sent(&b, 0, RG_MESSAGE_HELLO));
    assert_state(&b, RG_EPOCH_NONE, 0);
    close_bench(&b);
}

/* ---- liveness -------------------------------------------------------------------------------- */

static void heartbeats_go_out_every_500_ms_and_measure_the_way(void **state)
{
    const struct rg_message *m;
    struct rg_heartbeat h = {0};
    struct bench b;
    int n = 0;

    (void)state;
    open_bench(&b, 1, 0);
    greet(&b, 0);
    for (int i = 0; i < 20; i++) {
        tick(&b, 100);
        n += sent(&b, 0, RG_MESSAGE_HEARTBEAT) != NULL;
    }
    assert_int_equal(n, 4);
    h.echo_time_ns = (uint64_t)b.now;
    h.echo_age_ns = 30 * MS;
    h.time_ns = 5;
    b.now += 40 * MS;
    heartbeat(&b, 0, &h);
    assert_int_equal(view(&b, 0).rtt_ns, 10 * MS);
    tick(&b, 500);
    m = sent(&b, 0, RG_MESSAGE_HEARTBEAT);
    assert_int_equal(m->heartbeat.echo_time_ns, 5);
    assert_int_equal(m->heartbeat.echo_age_ns, 500 * MS);
    /* Echoes that cannot be true change nothing. */
    h.echo_time_ns = UINT64_MAX;
    heartbeat(&b, 0, &h);
    h.echo_time_ns = 1;
    heartbeat(&b, 0, &h);
    h.echo_time_ns = (uint64_t)b.now - 10;
    h.echo_age_ns = UINT64_MAX;
    heartbeat(&b, 0, &h);
    assert_int_equal(view(&b, 0).rtt_ns, 10 * MS);
    close_bench(&b);
}

static void four_seconds_of_silence_are_the_end(void **state)
{
    struct bench b;

    (void)state;
    open_worker(&b, RG_EPOCH_RUNNING, 1);
    tick(&b, RG_LIMIT_PEER_SILENCE_MS - 1);
    heartbeat(&b, 2, &(struct rg_heartbeat){.time_ns = 1});
    tick(&b, 1);
    assert_null(find(&b, RG_MEMBER_DROP));
    tick(&b, 1);
    assert_int_equal(find(&b, RG_MEMBER_DROP)->peer, 0);
    assert_said(&b, "nothing heard for 4 s");
    assert_non_null(find(&b, RG_MEMBER_STOP));
    assert_int_equal(view(&b, 2).state, RG_PEER_UP);
    assert_reason(&b, "waiting for the head, head (nothing heard");
    close_bench(&b);
}

static void a_busy_peer_that_finishes_no_layer_is_stuck(void **state)
{
    struct rg_heartbeat h = {.layers_done = 5, .busy = true};
    struct bench b;

    (void)state;
    open_bench(&b, 1, 0);
    greet(&b, 0);
    /* Busy and going on; then loading; then idle: none of them is stuck. */
    for (int i = 0; i < 270; i++) {
        h.layers_done += i < 90;
        h.load_bytes = i >= 90 && i < 180 ? 10 : 0;
        h.busy = i < 180;
        heartbeat(&b, 0, &h);
        tick(&b, 500);
        assert_null(find(&b, RG_MEMBER_DROP));
    }
    h.busy = true;
    for (int i = 0; i <= 60; i++) {
        heartbeat(&b, 0, &h);
        assert_null(find(&b, RG_MEMBER_DROP));
        tick(&b, 500);
    }
    assert_non_null(find(&b, RG_MEMBER_DROP));
    assert_said(&b, "stuck: busy for 30 s");
    close_bench(&b);
}

static void a_heartbeat_that_speaks_of_another_epoch_ends_it(void **state)
{
    struct bench b;

    (void)state;
    open_worker(&b, RG_EPOCH_RUNNING, 3);
    about(&b, 0, RG_MESSAGE_HEARTBEAT, 2);
    assert_non_null(find(&b, RG_MEMBER_STOP));
    assert_non_null(sent(&b, 0, RG_MESSAGE_ABORT));
    assert_state(&b, RG_EPOCH_NONE, 0);
    close_bench(&b);

    open_running_head(&b);
    about(&b, 1, RG_MESSAGE_HEARTBEAT, 1);
    assert_state(&b, RG_EPOCH_RUNNING, 1);
    heartbeat(&b, 1, &(struct rg_heartbeat){.time_ns = 1});
    assert_non_null(find(&b, RG_MEMBER_STOP));
    assert_said(&b, "left knows nothing of it");
    close_bench(&b);
}

/* ---- the head -------------------------------------------------------------------------------- */

static void the_head_plans_when_all_are_up(void **state)
{
    const struct rg_message *m;
    struct bench b;

    (void)state;
    open_bench(&b, 0, 1);
    tick(&b, 0);
    assert_reason(&b, "waiting for left (not yet seen), right");
    greet(&b, 1);
    assert_null(find(&b, RG_MEMBER_LOAD));
    greet(&b, 2);
    assert_int_equal(find(&b, RG_MEMBER_LOAD)->epoch.n, 1);
    assert_int_equal(find(&b, RG_MEMBER_LOAD)->proposal->nodes[2].n_layers, 2);
    m = sent(&b, 1, RG_MESSAGE_PROPOSE);
    assert_int_equal(m->propose->epoch.boot, 100);
    assert_string_equal(m->propose->nodes[2].id, "head");
    assert_non_null(sent(&b, 2, RG_MESSAGE_PROPOSE));
    assert_reason(&b, "waiting for head, left, right to load");
    close_bench(&b);
}

static void the_head_waits_a_while_for_the_rest(void **state)
{
    struct bench b;

    (void)state;
    open_bench(&b, 0, 1);
    greet(&b, 1);
    tick(&b, 2999);
    assert_null(find(&b, RG_MEMBER_LOAD));
    tick(&b, 1);
    assert_int_equal(find(&b, RG_MEMBER_LOAD)->proposal->n_nodes, 2);
    /* A node that comes now changes nothing. */
    greet(&b, 2);
    assert_state(&b, RG_EPOCH_LOADING, 1);
    close_bench(&b);
}

static void a_head_alone_runs_alone(void **state)
{
    const struct rg_hello hello = hello_of(0);
    const struct rg_membership_options o = {
        .n_peers = 1, .ids = ids, .hello = &hello, .propose = propose};
    struct bench b = {.now = MS};
    struct rg_membership_options bad = o;
    struct rg_membership *none;

    (void)state;
    bad.ud = &b;
    assert_int_equal(rg_membership_open(&b.m, &bad, NULL), RG_OK);
    tick(&b, 0);
    assert_non_null(find(&b, RG_MEMBER_LOAD));
    of_epoch(&b, RG_MEMBER_LOADED, 1, NULL);
    assert_non_null(find(&b, RG_MEMBER_START));
    assert_reason(&b, "");
    close_bench(&b);
    bad.wait_for = 1;
    assert_int_equal(rg_membership_open(&none, &bad, NULL), RG_E_USAGE);
}

static void steps_run_only_after_every_ack(void **state)
{
    struct bench b;

    (void)state;
    open_bench(&b, 0, 2);
    greet(&b, 1);
    greet(&b, 2);
    about(&b, 1, RG_MESSAGE_READY, 1);
    about(&b, 2, RG_MESSAGE_READY, 1);
    assert_reason(&b, "waiting for head to load");
    assert_true(view(&b, 1).ready);
    of_epoch(&b, RG_MEMBER_LOADED, 1, NULL);
    assert_non_null(sent(&b, 1, RG_MESSAGE_COMMIT));
    assert_non_null(sent(&b, 2, RG_MESSAGE_COMMIT));
    assert_null(find(&b, RG_MEMBER_START));
    about(&b, 2, RG_MESSAGE_COMMIT_ACK, 1);
    assert_null(find(&b, RG_MEMBER_START));
    assert_reason(&b, "waiting for left to begin");
    about(&b, 1, RG_MESSAGE_COMMIT_ACK, 1);
    assert_int_equal(find(&b, RG_MEMBER_START)->epoch.n, 1);
    assert_reason(&b, "");
    close_bench(&b);
}

static void a_commit_that_is_not_acked_in_time_ends_the_plan(void **state)
{
    struct bench b;

    (void)state;
    open_bench(&b, 0, 2);
    greet(&b, 1);
    greet(&b, 2);
    of_epoch(&b, RG_MEMBER_LOADED, 1, NULL);
    about(&b, 1, RG_MESSAGE_READY, 1);
    about(&b, 2, RG_MESSAGE_READY, 1);
    about(&b, 1, RG_MESSAGE_COMMIT_ACK, 1);
    for (int i = 0; i < 10; i++) {
        tick(&b, 500);
        about(&b, 1, RG_MESSAGE_HEARTBEAT, 1);
        about(&b, 2, RG_MESSAGE_HEARTBEAT, 1);
        assert_null(find(&b, RG_MEMBER_STOP));
    }
    tick(&b, 1);
    assert_int_equal(find(&b, RG_MEMBER_STOP)->peer, 2);
    assert_said(&b, "right sent no CommitAck within 5 s");
    assert_string_equal(sent(&b, 1, RG_MESSAGE_ABORT)->abort.lost_id, "right");
    close_bench(&b);
}

static void a_lost_node_ends_the_plan_and_the_others_are_told(void **state)
{
    const struct rg_message *m;
    struct bench b;

    (void)state;
    open_running_head(&b);
    tick(&b, 2000);
    link_down(&b, 1, "connection reset");
    assert_int_equal(find(&b, RG_MEMBER_STOP)->epoch.n, 1);
    assert_string_equal(find(&b, RG_MEMBER_STOP)->err.message, "left is lost: connection reset");
    m = sent(&b, 2, RG_MESSAGE_ABORT);
    assert_string_equal(m->abort.lost_id, "left");
    assert_reason(&b, "waiting for left (connection reset)");
    /* It ran: the next plan is made as soon as the node is back, but for a moment's rest. */
    greet(&b, 1);
    tick(&b, 299);
    assert_state(&b, RG_EPOCH_NONE, 0);
    tick(&b, 1);
    assert_int_equal(find(&b, RG_MEMBER_LOAD)->epoch.n, 2);
    close_bench(&b);
}

static void plans_that_fail_in_a_row_are_made_more_slowly(void **state)
{
    static const int pauses_ms[] = {1000, 2000, 4000, 5000, 5000, 5000};
    struct bench b;

    (void)state;
    open_bench(&b, 0, 2);
    greet(&b, 1);
    greet(&b, 2);
    for (uint64_t n = 1; n <= 6; n++) {
        assert_state(&b, RG_EPOCH_LOADING, n);
        of_epoch(&b, RG_MEMBER_LOAD_FAILED, n, "no room");
        assert_said(&b, "head: no room");
        for (int ms = 100; ms <= pauses_ms[n - 1]; ms += 100) {
            assert_state(&b, RG_EPOCH_NONE, 0);
            heartbeat(&b, 1, &(struct rg_heartbeat){.time_ns = 1});
            heartbeat(&b, 2, &(struct rg_heartbeat){.time_ns = 1});
            tick(&b, 100);
        }
    }
    assert_state(&b, RG_EPOCH_LOADING, 7);
    close_bench(&b);
}

static void a_node_that_comes_back_makes_the_pause_short_again(void **state)
{
    struct bench b;

    (void)state;
    open_bench(&b, 0, 1);
    greet(&b, 1);
    tick(&b, 3000);
    for (uint64_t n = 1; n <= 3; n++) {
        assert_state(&b, RG_EPOCH_LOADING, n);
        of_epoch(&b, RG_MEMBER_LOAD_FAILED, n, "no room");
        for (int s = 0; s < 4 && n < 3; s++) {
            tick(&b, 1000);
            heartbeat(&b, 1, &(struct rg_heartbeat){.time_ns = 1});
        }
    }
    greet(&b, 2);
    tick(&b, 999);
    assert_state(&b, RG_EPOCH_NONE, 0);
    tick(&b, 1);
    assert_state(&b, RG_EPOCH_LOADING, 4);
    close_bench(&b);
}

static void a_plan_that_cannot_be_made_is_tried_again_with_other_peers(void **state)
{
    struct bench b;

    (void)state;
    open_bench(&b, 0, 1);
    b.no_plan = RG_E_FIT;
    greet(&b, 1);
    tick(&b, 3000);
    assert_said(&b, "no plan: left is short by 7 bytes");
    assert_reason(&b, "left is short by 7 bytes");
    tick(&b, 900);
    b.no_plan = RG_OK;
    tick(&b, 50);
    assert_state(&b, RG_EPOCH_NONE, 0);
    greet(&b, 2);
    assert_state(&b, RG_EPOCH_LOADING, 1);
    close_bench(&b);
}

static void an_error_of_a_worker_names_it(void **state)
{
    const struct rg_message ready = {
        .kind = RG_MESSAGE_READY, .ready = {.epoch = {100, 1}, .code = RG_E_FIT, .error = "full"}};
    const struct rg_message lost = {
        .kind = RG_MESSAGE_ABORT,
        .abort = {.epoch = {100, 1}, .reason = "right is lost: reset", .lost_id = "right"}};
    struct bench b;

    (void)state;
    open_bench(&b, 0, 2);
    greet(&b, 1);
    greet(&b, 2);
    message(&b, 1, &ready);
    assert_int_equal(find(&b, RG_MEMBER_STOP)->err.code, RG_E_FIT);
    assert_string_equal(find(&b, RG_MEMBER_STOP)->err.message, "left: full");
    assert_null(sent(&b, 1, RG_MESSAGE_ABORT));
    assert_non_null(sent(&b, 2, RG_MESSAGE_ABORT));
    assert_reason(&b, "left: full");
    close_bench(&b);

    open_running_head(&b);
    message(&b, 1, &lost);
    assert_int_equal(find(&b, RG_MEMBER_STOP)->peer, 2);
    assert_string_equal(sent(&b, 2, RG_MESSAGE_ABORT)->abort.lost_id, "right");
    close_bench(&b);
}

static void the_end_of_a_step_stream_ends_the_plan(void **state)
{
    struct bench b;

    (void)state;
    open_running_head(&b);
    of_epoch(&b, RG_MEMBER_RING_DOWN, 7, "of another time");
    assert_state(&b, RG_EPOCH_RUNNING, 1);
    of_epoch(&b, RG_MEMBER_RING_DOWN, 1, "the stream to left ended");
    assert_non_null(sent(&b, 1, RG_MESSAGE_ABORT));
    assert_non_null(sent(&b, 2, RG_MESSAGE_ABORT));
    /* Plan 1 ran for no time at all. */
    assert_state(&b, RG_EPOCH_NONE, 0);
    tick(&b, 1000);
    assert_state(&b, RG_EPOCH_LOADING, 2);
    close_bench(&b);

    open_worker(&b, RG_EPOCH_RUNNING, 1);
    of_epoch(&b, RG_MEMBER_RING_DOWN, 1, "the stream to right ended");
    assert_non_null(find(&b, RG_MEMBER_STOP));
    assert_string_equal(sent(&b, 0, RG_MESSAGE_ABORT)->abort.reason, "the stream to right ended");
    close_bench(&b);
}

static void a_node_without_a_part_may_come_and_go(void **state)
{
    struct bench b;

    (void)state;
    open_bench(&b, 0, 2);
    b.without_right = true;
    greet(&b, 1);
    greet(&b, 2);
    assert_null(sent(&b, 2, RG_MESSAGE_PROPOSE));
    link_down(&b, 2, "gone");
    assert_state(&b, RG_EPOCH_LOADING, 1);
    greet(&b, 2);
    about(&b, 2, RG_MESSAGE_READY, 1);
    assert_int_equal(find(&b, RG_MEMBER_DROP)->peer, 2);
    assert_state(&b, RG_EPOCH_LOADING, 1);
    close_bench(&b);
}

/* ---- a worker -------------------------------------------------------------------------------- */

static void a_worker_starts_before_it_acks(void **state)
{
    struct bench b;
    size_t start = 9, ack = 9;

    (void)state;
    open_worker(&b, RG_EPOCH_LOADING, 4);
    assert_string_equal(rg_membership_proposal(b.m)->nodes[0].id, "left");
    of_epoch(&b, RG_MEMBER_LOADED, 3, NULL);
    assert_int_equal(b.actions.n, 0);
    of_epoch(&b, RG_MEMBER_LOADED, 4, NULL);
    assert_int_equal(sent(&b, 0, RG_MESSAGE_READY)->ready.code, RG_OK);
    about(&b, 0, RG_MESSAGE_COMMIT, 4);
    for (size_t i = 0; i < b.actions.n; i++) {
        if (b.actions.items[i].kind == RG_MEMBER_START)
            start = i;
        if (b.actions.items[i].kind == RG_MEMBER_SEND)
            ack = i;
    }
    assert_true(start < ack && ack < 9);
    close_bench(&b);
}

static void a_worker_that_cannot_load_says_why(void **state)
{
    struct bench b;

    (void)state;
    open_worker(&b, RG_EPOCH_LOADING, 1);
    of_epoch(&b, RG_MEMBER_LOAD_FAILED, 1, "no room");
    assert_string_equal(sent(&b, 0, RG_MESSAGE_READY)->ready.error, "no room");
    assert_int_equal(sent(&b, 0, RG_MESSAGE_READY)->ready.code, RG_E_FIT);
    assert_null(sent(&b, 0, RG_MESSAGE_ABORT));
    assert_non_null(find(&b, RG_MEMBER_STOP));
    assert_null(find(&b, RG_MEMBER_FREE));
    assert_reason(&b, "the last one: no room");
    close_bench(&b);
}

static void a_worker_without_its_head_frees_its_part(void **state)
{
    struct bench b;

    (void)state;
    open_worker(&b, RG_EPOCH_RUNNING, 1);
    about(&b, 0, RG_MESSAGE_ABORT, 1);
    assert_null(find(&b, RG_MEMBER_FREE));
    link_down(&b, 0, "reset");
    assert_null(find(&b, RG_MEMBER_STOP));
    assert_non_null(find(&b, RG_MEMBER_FREE));
    link_down(&b, 0, "refused");
    assert_null(find(&b, RG_MEMBER_FREE));
    close_bench(&b);
}

static void a_worker_that_loses_its_neighbour_tells_the_head(void **state)
{
    struct bench b;

    (void)state;
    open_worker(&b, RG_EPOCH_READY, 1);
    link_down(&b, 2, "reset");
    assert_non_null(find(&b, RG_MEMBER_STOP));
    assert_string_equal(sent(&b, 0, RG_MESSAGE_ABORT)->abort.lost_id, "right");
    assert_null(find(&b, RG_MEMBER_FREE));
    close_bench(&b);
}

static void a_restarted_head_begins_to_count_anew(void **state)
{
    struct rg_message m = {.kind = RG_MESSAGE_HELLO, .hello = hello_of(0)};
    struct rg_proposal plan = plan_of(1);
    struct bench b;

    (void)state;
    open_worker(&b, RG_EPOCH_RUNNING, 9);
    link_down(&b, 0, "reset");
    greet(&b, 0);
    about(&b, 0, RG_MESSAGE_PROPOSE, 9);
    assert_non_null(find(&b, RG_MEMBER_DROP));
    m.hello.boot = 500;
    link_up(&b, 0);
    message(&b, 0, &m);
    assert_said(&b, "head was restarted");
    plan.epoch.boot = 500;
    m = (struct rg_message){.kind = RG_MESSAGE_PROPOSE, .propose = &plan};
    message(&b, 0, &m);
    assert_non_null(find(&b, RG_MEMBER_LOAD));
    /* What the old process may still say ends the link. */
    about(&b, 0, RG_MESSAGE_COMMIT, 9);
    assert_non_null(find(&b, RG_MEMBER_DROP));
    close_bench(&b);
}

static void expect_bad_plan(const struct rg_proposal *p, const char *why)
{
    const struct rg_message m = {.kind = RG_MESSAGE_PROPOSE, .propose = (struct rg_proposal *)p};
    struct bench b;

    open_worker(&b, RG_EPOCH_NONE, 0);
    message(&b, 0, &m);
    assert_non_null(find(&b, RG_MEMBER_DROP));
    assert_null(find(&b, RG_MEMBER_LOAD));
    assert_said(&b, why);
    close_bench(&b);
}

static void a_plan_that_cannot_be_is_not_loaded(void **state)
{
    struct rg_proposal p = plan_of(1);

    (void)state;
    p.nodes[1].id[0] = 'x';
    expect_bad_plan(&p, "not in discovery.json");
    p = plan_of(1);
    p.nodes[1] = p.nodes[0];
    expect_bad_plan(&p, "a node twice");
    p = plan_of(1);
    p.n_nodes = 2;
    expect_bad_plan(&p, "the head is not the last");
    p = plan_of(1);
    p.nodes[1].n_layers = 0;
    expect_bad_plan(&p, "without layers");
    p = plan_of(1);
    p.nodes[1].first_layer = 3;
    expect_bad_plan(&p, "do not follow");
    p = plan_of(1);
    p.nodes[2].n_layers = 3;
    expect_bad_plan(&p, "not all layers");
    p = plan_of(1);
    p.nodes[0] = (struct rg_ring_node){"right", 0, 4};
    p.nodes[1] = p.nodes[2];
    p.n_nodes = 2;
    expect_bad_plan(&p, "a node is missing");
    p = plan_of(1);
    p.model.bytes[3] = 1;
    expect_bad_plan(&p, "another model");
}

/* ---- short memory ---------------------------------------------------------------------------- */

static void an_event_without_memory_was_not_seen(void **state)
{
    struct bench b;
    int64_t failed = 0;

    (void)state;
    for (int64_t n = 1;; n++) {
        const struct rg_member_event up = {.kind = RG_MEMBER_LINK_UP, .peer = 1};
        const struct rg_message m = {.kind = RG_MESSAGE_HELLO, .hello = hello_of(1)};
        const struct rg_member_event hello = {.kind = RG_MEMBER_MESSAGE, .peer = 1, .message = &m};
        enum rg_code code;

        open_bench(&b, 0, 1);
        rg_mem_fail_at(n);
        code = rg_membership_step(b.m, b.now, &up, &b.actions, NULL);
        if (code) {
            assert_int_equal(b.actions.n, 0);
            assert_int_equal(view(&b, 1).state, RG_PEER_DOWN);
            assert_int_equal(rg_membership_step(b.m, b.now, &up, &b.actions, NULL), RG_OK);
        }
        if (!code)
            code = rg_membership_step(b.m, b.now, &hello, &b.actions, NULL);
        if (code) {
            assert_int_equal(code, RG_E_NOMEM);
            assert_int_equal(view(&b, 1).state, RG_PEER_GREETING);
            failed++;
        }
        rg_mem_fail_at(0);
        close_bench(&b);
        if (!code)
            break;
    }
    assert_true(failed >= 4);
}

static void a_membership_that_has_no_room_is_not_opened(void **state)
{
    const struct rg_hello hello = hello_of(1);
    const struct rg_membership_options o = {
        .n_peers = N_PEERS, .self = 1, .ids = ids, .hello = &hello, .propose = propose};
    struct rg_membership *m = NULL;
    enum rg_code code = RG_E_NOMEM;
    int64_t n = 0;

    (void)state;
    while (code) {
        rg_mem_fail_at(++n);
        code = rg_membership_open(&m, &o, NULL);
        rg_mem_fail_at(0);
        assert_true(code == RG_OK || code == RG_E_NOMEM);
    }
    assert_true(n > 3);
    rg_membership_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(both_sides_say_hello_first),
        TEST(a_hello_that_differs_is_refused_with_both_values),
        TEST(the_head_compares_layers_that_only_others_have),
        TEST(a_refusal_of_the_other_side_is_logged_with_both_values),
        TEST(a_peer_without_a_hello_is_dropped),
        TEST(a_newer_link_takes_the_place_of_the_old_one),
        TEST(heartbeats_go_out_every_500_ms_and_measure_the_way),
        TEST(four_seconds_of_silence_are_the_end),
        TEST(a_busy_peer_that_finishes_no_layer_is_stuck),
        TEST(a_heartbeat_that_speaks_of_another_epoch_ends_it),
        TEST(the_head_plans_when_all_are_up),
        TEST(the_head_waits_a_while_for_the_rest),
        TEST(a_head_alone_runs_alone),
        TEST(steps_run_only_after_every_ack),
        TEST(a_commit_that_is_not_acked_in_time_ends_the_plan),
        TEST(a_lost_node_ends_the_plan_and_the_others_are_told),
        TEST(plans_that_fail_in_a_row_are_made_more_slowly),
        TEST(a_node_that_comes_back_makes_the_pause_short_again),
        TEST(a_plan_that_cannot_be_made_is_tried_again_with_other_peers),
        TEST(an_error_of_a_worker_names_it),
        TEST(the_end_of_a_step_stream_ends_the_plan),
        TEST(a_node_without_a_part_may_come_and_go),
        TEST(a_worker_starts_before_it_acks),
        TEST(a_worker_that_cannot_load_says_why),
        TEST(a_worker_without_its_head_frees_its_part),
        TEST(a_worker_that_loses_its_neighbour_tells_the_head),
        TEST(a_restarted_head_begins_to_count_anew),
        TEST(a_plan_that_cannot_be_is_not_loaded),
        TEST(an_event_without_memory_was_not_seen),
        TEST(a_membership_that_has_no_room_is_not_opened),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
