/* member_bench.h - one node's membership with a clock of its own: "head", "left" and "right".
 *
 * What an event leads to is in b->actions until the next one.  The head's boot is 100.
 * Header-only; include it behind cmocka.h. */
#ifndef TESTS_SUPPORT_MEMBER_BENCH_H
#define TESTS_SUPPORT_MEMBER_BENCH_H

#include <stdio.h>
#include <string.h>

#include "cluster/membership.h"

enum { N_LAYERS = 6, N_PEERS = 3, MS = 1000000 };

static const char *const ids[N_PEERS] = {"head", "left", "right"};

/* ---- one node and what it does --------------------------------------------------------------- */

struct bench {
    struct rg_membership *m;
    struct rg_member_actions actions; /* of the last event */
    int64_t now;
    uint32_t self;
    enum rg_code no_plan; /* what propose() says, if not RG_OK */
    bool without_right;   /* propose() leaves it out though it is up */
};

static struct rg_layer_card cards[N_PEERS][N_LAYERS];

static inline struct rg_hello hello_of(uint32_t peer)
{
    struct rg_hello h = {.major = RG_PROTOCOL_MAJOR,
                         .build = "test",
                         .boot = 100 + peer,
                         .head_id = "head",
                         .cluster = "plain",
                         .numerics = "cpu-1",
                         .claimed_bytes = 1 << 20,
                         .memory_bytes = 1 << 20,
                         .model = {.n_layers = N_LAYERS, .layers = cards[peer]}};

    (void)snprintf(h.node_id, sizeof h.node_id, "%s", ids[peer]);
    for (uint32_t i = 0; i < N_LAYERS; i++)
        cards[peer][i] =
            (struct rg_layer_card){.there = true, .bytes = 100, .digest = {{(uint8_t)i}}};
    return h;
}

/* Two layers for every node that is up; the head takes the rest. */
static inline enum rg_code propose(void *ud, const struct rg_hello *const *hellos, uint32_t n_peers,
                                   struct rg_proposal *out, struct rg_err *err)
{
    const struct bench *b = ud;
    uint32_t next = 0;

    if (b->no_plan)
        return rg_fail(err, b->no_plan, "left is short by 7 bytes");
    for (uint32_t i = 1; i <= n_peers; i++) {
        struct rg_ring_node *n = &out->nodes[out->n_nodes];
        const uint32_t peer = i % n_peers;

        if (!hellos[peer] || (b->without_right && peer == 2))
            continue;
        (void)snprintf(n->id, sizeof n->id, "%s", hellos[peer]->node_id);
        n->first_layer = next;
        n->n_layers = peer == 0 ? N_LAYERS - next : 2;
        next += n->n_layers;
        out->n_nodes++;
    }
    out->context = 64;
    out->parallel = 1;
    return RG_OK;
}

static inline void open_bench_with(struct bench *b, uint32_t self, uint32_t wait_for,
                                   int64_t grace_ms)
{
    const struct rg_hello hello = hello_of(self);
    const struct rg_membership_options o = {.n_peers = N_PEERS,
                                            .self = self,
                                            .ids = ids,
                                            .hello = &hello,
                                            .wait_for = wait_for,
                                            .settle_ms = 3000,
                                            .grace_ms = grace_ms,
                                            .stuck_ms = 30000,
                                            .propose = propose,
                                            .ud = b};

    *b = (struct bench){.self = self, .now = INT64_C(1000000000)};
    assert_int_equal(rg_membership_open(&b->m, &o, NULL), RG_OK);
}

static inline void open_bench(struct bench *b, uint32_t self, uint32_t wait_for)
{
    open_bench_with(b, self, wait_for, 0);
}

static inline void close_bench(struct bench *b)
{
    rg_membership_close(b->m);
    rg_member_actions_free(&b->actions);
}

static inline struct rg_epoch epoch_of(const struct bench *b)
{
    struct rg_epoch e;

    (void)rg_membership_state(b->m, &e);
    return e;
}

static inline enum rg_epoch_state state_of(const struct bench *b)
{
    return rg_membership_state(b->m, NULL);
}

static inline void give(struct bench *b, const struct rg_member_event *e)
{
    rg_member_actions_clear(&b->actions);
    assert_int_equal(rg_membership_step(b->m, b->now, e, &b->actions, NULL), RG_OK);
}

static inline void tick(struct bench *b, int64_t ms)
{
    const struct rg_member_event e = {.kind = RG_MEMBER_TICK};

    b->now += ms * MS;
    give(b, &e);
}

static inline void link_up(struct bench *b, uint32_t peer)
{
    const struct rg_member_event e = {.kind = RG_MEMBER_LINK_UP, .peer = peer};

    give(b, &e);
}

static inline void link_down(struct bench *b, uint32_t peer, const char *why)
{
    struct rg_err err;
    const struct rg_member_event e = {.kind = RG_MEMBER_LINK_DOWN, .peer = peer, .err = &err};

    (void)rg_fail(&err, RG_E_PEER, "%s", why);
    give(b, &e);
}

static inline void message(struct bench *b, uint32_t peer, const struct rg_message *m)
{
    const struct rg_member_event e = {.kind = RG_MEMBER_MESSAGE, .peer = peer, .message = m};

    give(b, &e);
}

static inline void say_hello(struct bench *b, uint32_t peer)
{
    const struct rg_message m = {.kind = RG_MESSAGE_HELLO, .hello = hello_of(peer)};

    message(b, peer, &m);
}

static inline void greet(struct bench *b, uint32_t peer)
{
    link_up(b, peer);
    say_hello(b, peer);
}

static inline void heartbeat(struct bench *b, uint32_t peer, const struct rg_heartbeat *h)
{
    const struct rg_message m = {.kind = RG_MESSAGE_HEARTBEAT, .heartbeat = *h};

    message(b, peer, &m);
}

static inline void of_epoch(struct bench *b, enum rg_member_event_kind kind, uint64_t n,
                            const char *why)
{
    struct rg_err err = {0};
    const struct rg_member_event e = {.kind = kind, .epoch = {100, n}, .err = &err};

    if (why)
        (void)rg_fail(&err, RG_E_FIT, "%s", why);
    give(b, &e);
}

static inline struct rg_proposal plan_of(uint64_t n)
{
    struct rg_proposal p = {.epoch = {100, n},
                            .nodes = {{"left", 0, 2}, {"right", 2, 2}, {"head", 4, 2}},
                            .n_nodes = 3,
                            .context = 64,
                            .parallel = 1};

    return p;
}

/* A message of the kind about epoch n of the head. */
static inline void about(struct bench *b, uint32_t peer, enum rg_message_kind kind, uint64_t n)
{
    struct rg_proposal plan = plan_of(n);
    const struct rg_epoch epoch = {100, n};
    struct rg_message m = {.kind = kind};

    switch (kind) {
    case RG_MESSAGE_PROPOSE:
        m.propose = &plan;
        break;
    case RG_MESSAGE_READY:
        m.ready.epoch = epoch;
        break;
    case RG_MESSAGE_COMMIT:
        m.commit = epoch;
        break;
    case RG_MESSAGE_COMMIT_ACK:
        m.commit_ack = epoch;
        break;
    case RG_MESSAGE_ABORT:
        m.abort.epoch = epoch;
        break;
    case RG_MESSAGE_HEARTBEAT:
        m.heartbeat.epoch = epoch;
        break;
    case RG_MESSAGE_REFUSE:
        (void)snprintf(m.refuse.what, sizeof m.refuse.what, "numerics");
        break;
    default:
        m.hello = hello_of(peer);
    }
    message(b, peer, &m);
}

/* The first action of that kind; NULL: none. */
static inline const struct rg_member_action *find(const struct bench *b,
                                                  enum rg_member_action_kind kind)
{
    for (size_t i = 0; i < b->actions.n; i++)
        if (b->actions.items[i].kind == kind)
            return &b->actions.items[i];
    return NULL;
}

static inline const struct rg_message *sent(const struct bench *b, uint32_t peer,
                                            enum rg_message_kind kind)
{
    for (size_t i = 0; i < b->actions.n; i++) {
        const struct rg_member_action *a = &b->actions.items[i];

        if (a->kind == RG_MEMBER_SEND && a->peer == peer && a->message.kind == kind)
            return &a->message;
    }
    return NULL;
}

static inline void assert_said(const struct bench *b, const char *text)
{
    for (size_t i = 0; i < b->actions.n; i++)
        if (b->actions.items[i].kind == RG_MEMBER_SAY &&
            strstr(b->actions.items[i].err.message, text))
            return;
    fail_msg("nothing says \"%s\"", text);
}

static inline void assert_state(const struct bench *b, enum rg_epoch_state state, uint64_t n)
{
    struct rg_epoch e;

    assert_int_equal(rg_membership_state(b->m, &e), state);
    assert_int_equal(e.n, n);
}

static inline void assert_reason(const struct bench *b, const char *text)
{
    char reason[512];

    rg_membership_reason(b->m, reason, sizeof reason);
    if (!strstr(reason, text))
        fail_msg("the reason is \"%s\", without \"%s\"", reason, text);
}

static inline struct rg_peer_view view(const struct bench *b, uint32_t peer)
{
    struct rg_peer_view v;

    rg_membership_peer(b->m, peer, b->now, &v);
    return v;
}

/* A head whose epoch 1 runs on all three. */
static inline void open_running_head(struct bench *b)
{
    open_bench(b, 0, 2);
    greet(b, 1);
    greet(b, 2);
    of_epoch(b, RG_MEMBER_LOADED, 1, NULL);
    about(b, 1, RG_MESSAGE_READY, 1);
    about(b, 2, RG_MESSAGE_READY, 1);
    about(b, 1, RG_MESSAGE_COMMIT_ACK, 1);
    about(b, 2, RG_MESSAGE_COMMIT_ACK, 1);
    assert_state(b, RG_EPOCH_RUNNING, 1);
}

/* "left", with both links up and epoch n in the state. */
static inline void open_worker(struct bench *b, enum rg_epoch_state state, uint64_t n)
{
    open_bench(b, 1, 0);
    greet(b, 0);
    greet(b, 2);
    if (state == RG_EPOCH_NONE)
        return;
    about(b, 0, RG_MESSAGE_PROPOSE, n);
    if (state >= RG_EPOCH_READY)
        of_epoch(b, RG_MEMBER_LOADED, n, NULL);
    if (state == RG_EPOCH_RUNNING)
        about(b, 0, RG_MESSAGE_COMMIT, n);
    assert_state(b, state, n);
}

#endif
