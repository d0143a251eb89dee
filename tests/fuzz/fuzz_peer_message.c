/* fuzz_peer_message.c - bytes from a peer: every decoder, and the membership that gets what they
 * let through.
 *
 * Input      its first byte chooses: a control message, a step (after seven bytes of limits), the
 *            opening of a stream, forwarded bytes, a probe; or a history: the events of a node,
 *            some of them messages.
 * What is decoded obeys the rules, and encoded again it gives bytes that decode to the same. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cluster/membership.h"
#include "cluster/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MODES = 6, PEERS = 3, EVENTS_MOST = 200, BUF_BYTES = 8 << 20 };

static volatile uint64_t sink;

/* ---- the rules, once more -------------------------------------------------------------------- */

static void expect_text(const char *s, size_t size)
{
    const size_t n = strnlen(s, size);

    assert(n < size);
    for (size_t i = 0; i < n; i++)
        assert((unsigned char)s[i] >= 0x20 && s[i] != 0x7F);
}

static void expect_id(const char *id)
{
    const size_t n = strnlen(id, RG_LIMIT_NODE_ID_BYTES + 1);

    assert(n >= 1 && n <= RG_LIMIT_NODE_ID_BYTES);
    assert(strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == n);
}

static void expect_epoch(struct rg_epoch e)
{
    assert(e.boot != 0 && e.n != 0);
}

static void expect_hello(const struct rg_hello *h)
{
    assert(h->major >= 1 && h->boot != 0 && h->claimed_bytes > 0 && h->memory_bytes > 0);
    assert(h->claimed_bytes < UINT64_C(1) << 57 && h->memory_bytes < UINT64_C(1) << 57);
    expect_id(h->node_id);
    expect_id(h->head_id);
    expect_text(h->build, sizeof h->build);
    expect_text(h->numerics, sizeof h->numerics);
    assert(h->numerics[0] && h->cluster[0] && strlen(h->cluster) < sizeof h->cluster);
    assert(h->model.n_layers >= 1 && h->model.n_layers <= RG_LIMIT_LAYERS);
    for (uint32_t i = 0; i < h->model.n_layers; i++)
        sink += h->model.layers[i].there + h->model.layers[i].bytes;
}

static void expect_proposal(const struct rg_proposal *p)
{
    uint32_t layer = 0;

    expect_epoch(p->epoch);
    assert(p->n_nodes >= 1 && p->n_nodes <= RG_LIMIT_PEERS);
    for (uint32_t i = 0; i < p->n_nodes; i++) {
        const struct rg_ring_node *n = &p->nodes[i];

        expect_id(n->id);
        assert(n->first_layer == layer && n->n_layers <= RG_LIMIT_LAYERS);
        assert(n->n_layers > 0 || i + 1 == p->n_nodes);
        layer += n->n_layers;
        for (uint32_t k = 0; k < i; k++)
            assert(strcmp(n->id, p->nodes[k].id) != 0);
    }
    assert(layer >= 1 && layer <= RG_LIMIT_LAYERS);
    assert(p->context >= 1 && p->context <= RG_LIMIT_CONTEXT);
    assert(p->parallel >= 1 && p->parallel <= 256);
    assert(p->block_tokens >= 16 && p->block_tokens % 16 == 0);
    assert((uint64_t)p->n_blocks * p->block_tokens >= p->context);
    assert(p->n_blocks <= 1u << 26 && p->max_rows >= 1 && p->max_rows <= RG_LIMIT_STEP_ROWS);
}

static void expect_heartbeat(const struct rg_heartbeat *h)
{
    assert(h->time_ns <= INT64_MAX && h->echo_time_ns <= INT64_MAX && h->echo_age_ns <= INT64_MAX);
    assert((h->epoch.boot == 0) == (h->epoch.n == 0));
}

static void expect_message(const struct rg_message *m)
{
    switch (m->kind) {
    case RG_MESSAGE_HELLO:
        expect_hello(&m->hello);
        break;
    case RG_MESSAGE_REFUSE:
        expect_text(m->refuse.what, sizeof m->refuse.what);
        expect_text(m->refuse.mine, sizeof m->refuse.mine);
        expect_text(m->refuse.yours, sizeof m->refuse.yours);
        break;
    case RG_MESSAGE_HEARTBEAT:
        expect_heartbeat(&m->heartbeat);
        break;
    case RG_MESSAGE_PROPOSE:
        expect_proposal(m->propose);
        break;
    case RG_MESSAGE_READY:
        expect_text(m->ready.error, sizeof m->ready.error);
        assert((m->ready.code == RG_OK) == (m->ready.error[0] == '\0'));
        expect_epoch(m->ready.epoch);
        break;
    case RG_MESSAGE_ABORT:
        expect_text(m->abort.reason, sizeof m->abort.reason);
        if (m->abort.lost_id[0])
            expect_id(m->abort.lost_id);
        expect_epoch(m->abort.epoch);
        break;
    case RG_MESSAGE_COMMIT:
    case RG_MESSAGE_COMMIT_ACK:
        expect_epoch(m->commit);
        break;
    default:
        assert(false);
    }
}

static void expect_same(const struct rg_buf *a, const struct rg_buf *b)
{
    assert(a->len == b->len && memcmp(a->data, b->data, a->len) == 0);
}

/* Every error is one line. */
static void expect_error(const struct rg_err *err, enum rg_code code)
{
    assert(err->code == code && code != RG_OK && err->message[0] && !strchr(err->message, '\n'));
}

/* ---- messages -------------------------------------------------------------------------------- */

/* Encodes m, decodes that and encodes it again. */
static void expect_round(const struct rg_message *m)
{
    struct rg_message back;
    struct rg_buf first, second;
    struct rg_err err = {0};

    rg_buf_init(&first, BUF_BYTES);
    rg_buf_init(&second, BUF_BYTES);
    assert(rg_message_encode(&first, m, &err) == RG_OK);
    assert(rg_message_decode(&back, (const uint8_t *)first.data, first.len, &err) == RG_OK);
    assert(back.kind == m->kind);
    assert(rg_message_encode(&second, &back, &err) == RG_OK);
    expect_same(&first, &second);
    rg_message_free(&back);
    rg_buf_free(&first);
    rg_buf_free(&second);
}

static void try_control(const uint8_t *p, size_t n)
{
    struct rg_message m;
    struct rg_err err = {0};
    const enum rg_code code = rg_message_decode(&m, p, n, &err);

    if (code != RG_OK) {
        expect_error(&err, code);
        return;
    }
    expect_message(&m);
    expect_round(&m);
    rg_message_free(&m);
}

static void expect_step(const struct rg_step_head *h, const struct rg_step_limits *l, size_t rows)
{
    uint64_t sum = 0;

    expect_epoch(h->epoch);
    expect_text(h->error, sizeof h->error);
    assert(h->seq >= 1 && h->n_seqs >= 1 && h->n_seqs <= l->parallel);
    for (uint32_t i = 0; i < h->n_seqs; i++) {
        const struct rg_step_seq *q = &h->seqs[i];
        const uint64_t end = (uint64_t)q->position + q->n_rows;

        assert(q->n_rows >= 1 && end <= l->context);
        assert((uint64_t)q->n_blocks * l->block_tokens >= end);
        assert((uint64_t)(q->n_blocks - 1) * l->block_tokens < end);
        for (uint32_t k = 0; k < q->n_blocks; k++)
            assert(q->blocks[k] < l->n_blocks);
        sum += q->n_rows;
    }
    assert(sum == h->n_rows && sum <= l->max_rows);
    assert(rows == (h->code == RG_OK ? sum * l->hidden * 4 : 0));
}

static void expect_step_round(const struct rg_step_head *h, const uint8_t *rows, size_t n,
                              const struct rg_step_limits *l)
{
    struct rg_step_head back;
    struct rg_buf first, second;
    struct rg_err err = {0};
    size_t at;

    rg_buf_init(&first, BUF_BYTES);
    rg_buf_init(&second, BUF_BYTES);
    assert(rg_step_encode(&first, h, n, &err) == RG_OK);
    assert(rg_buf_add(&first, n ? rows : (const uint8_t *)"", n, &err) == RG_OK);
    assert(rg_step_decode(&back, &at, (const uint8_t *)first.data, first.len, first.len, l, &err) ==
           RG_OK);
    assert(at == first.len - n);
    assert(rg_step_encode(&second, &back, n, &err) == RG_OK);
    assert(second.len == at && memcmp(first.data, second.data, at) == 0);
    rg_step_head_free(&back);
    rg_buf_free(&first);
    rg_buf_free(&second);
}

static void try_step(const uint8_t *p, size_t n)
{
    struct rg_step_limits l;
    struct rg_step_head h;
    struct rg_err err = {0};
    enum rg_code code;
    size_t rows_at, shown;

    if (n < 7)
        return;
    l = (struct rg_step_limits){.max_rows = 1u + p[0],
                                .parallel = 1u + p[1] % 8,
                                .n_blocks = 1u + p[2] + 256u * (p[3] & 15),
                                .block_tokens = 16u * (1 + (p[3] >> 4)),
                                .context = 1u + p[4] + 256u * p[5],
                                .hidden = 1u + p[6] % 8};
    p += 7;
    n -= 7;
    shown = n < rg_step_head_bytes_max(&l) ? n : rg_step_head_bytes_max(&l);
    /* A copy of what may be read, so that ASan sees a read behind it. */
    uint8_t *copy = rg_alloc(shown + 1);

    assert(copy);
    memcpy(copy + 1, n ? p : (const uint8_t *)"", shown);
    code = rg_step_decode(&h, &rows_at, copy + 1, shown, n, &l, &err);
    rg_free(copy);
    if (code != RG_OK) {
        expect_error(&err, code);
        return;
    }
    assert(rows_at <= n);
    expect_step(&h, &l, n - rows_at);
    expect_step_round(&h, p + rows_at, n - rows_at, &l);
    rg_step_head_free(&h);
}

static void try_open(const uint8_t *p, size_t n)
{
    struct rg_steps_open o, back;
    struct rg_buf out;
    struct rg_err err = {0};
    const enum rg_code code = rg_steps_open_decode(&o, p, n, &err);

    if (code != RG_OK) {
        expect_error(&err, code);
        return;
    }
    expect_id(o.node_id);
    expect_epoch(o.epoch);
    rg_buf_init(&out, BUF_BYTES);
    assert(rg_steps_open_encode(&out, &o, &err) == RG_OK);
    assert(rg_steps_open_decode(&back, (const uint8_t *)out.data, out.len, &err) == RG_OK);
    assert(rg_epoch_equal(o.epoch, back.epoch) && strcmp(o.node_id, back.node_id) == 0);
    rg_buf_free(&out);
}

static void try_forward(const uint8_t *p, size_t n)
{
    const uint8_t *bytes = NULL;
    size_t n_bytes = 0;
    struct rg_err err = {0};
    const enum rg_code code = rg_forward_decode(&bytes, &n_bytes, p, n, &err);

    if (code != RG_OK) {
        expect_error(&err, code);
        return;
    }
    assert(bytes > p && bytes + n_bytes == p + n && n_bytes > 0);
}

static void try_probe(const uint8_t *p, size_t n)
{
    struct rg_probe probe, back;
    struct rg_buf out;
    struct rg_err err = {0};
    const enum rg_code code = rg_probe_decode(&probe, p, n, &err);

    if (code != RG_OK) {
        expect_error(&err, code);
        return;
    }
    assert(probe.n_data == 0 || probe.data + probe.n_data == p + n);
    expect_text(probe.build, sizeof probe.build);
    rg_buf_init(&out, BUF_BYTES);
    assert(rg_probe_encode(&out, &probe, &err) == RG_OK);
    assert(rg_probe_decode(&back, (const uint8_t *)out.data, out.len, &err) == RG_OK);
    assert(back.id == probe.id && back.answer_bytes == probe.answer_bytes);
    assert(back.n_data == probe.n_data && strcmp(back.build, probe.build) == 0);
    rg_buf_free(&out);
}

/* ---- a node's history ------------------------------------------------------------------------ */

static const char *const ids[PEERS] = {"a", "b", "c"};

static enum rg_code propose(void *ud, const struct rg_hello *const *hellos, uint32_t n_peers,
                            struct rg_proposal *out, struct rg_err *err)
{
    const uint32_t n_layers = hellos[0]->model.n_layers;
    uint32_t layer = 0;

    (void)ud;
    if (n_layers > RG_LIMIT_LAYERS)
        return rg_fail(err, RG_E_FIT, "too many layers");
    for (uint32_t i = 1; i < n_peers; i++)
        if (hellos[i] && layer < n_layers) {
            struct rg_ring_node *n = &out->nodes[out->n_nodes++];

            *n = (struct rg_ring_node){.first_layer = layer++, .n_layers = 1};
            (void)snprintf(n->id, sizeof n->id, "%s", ids[i]);
        }
    out->nodes[out->n_nodes] =
        (struct rg_ring_node){.first_layer = layer, .n_layers = n_layers - layer};
    (void)snprintf(out->nodes[out->n_nodes++].id, sizeof out->nodes[0].id, "%s", ids[0]);
    out->context = 1024;
    out->parallel = 4;
    out->n_blocks = 64;
    out->block_tokens = 64;
    out->max_rows = 512;
    return RG_OK;
}

static struct rg_membership *open_node(uint32_t self)
{
    static struct rg_layer_card layers[3];
    struct rg_hello hello = {.major = 1,
                             .boot = 1000 + self,
                             .head_id = "a",
                             .cluster = "plain",
                             .numerics = "cpu-1",
                             .claimed_bytes = 1,
                             .memory_bytes = 1,
                             .model = {.n_layers = 3, .layers = layers}};
    const struct rg_membership_options options = {.n_peers = PEERS,
                                                  .self = self,
                                                  .ids = ids,
                                                  .hello = &hello,
                                                  .wait_for = 1,
                                                  .settle_ms = 100,
                                                  .stuck_ms = 30000,
                                                  .propose = propose};
    struct rg_membership *m = NULL;
    struct rg_err err = {0};

    for (uint32_t i = 0; i < 3; i++)
        layers[i] = (struct rg_layer_card){.there = true, .bytes = 1};
    (void)snprintf(hello.node_id, sizeof hello.node_id, "%s", ids[self]);
    assert(rg_membership_open(&m, &options, &err) == RG_OK);
    return m;
}

/* What the node says must be what its peers let in. */
static void check_actions(const struct rg_member_actions *actions)
{
    for (size_t i = 0; i < actions->n; i++) {
        const struct rg_member_action *a = &actions->items[i];

        if (a->kind == RG_MEMBER_SEND) {
            assert(a->peer < PEERS);
            expect_round(&a->message);
        }
        if (a->kind == RG_MEMBER_LOAD)
            expect_proposal(a->proposal);
    }
}

/* An event takes two bytes, and a message its length in two more. */
static size_t next_event(struct rg_member_event *e, struct rg_message *m, const uint8_t *p,
                         size_t n, struct rg_epoch epoch)
{
    static const struct rg_err why = {.code = RG_E_PEER, .message = "it went"};
    size_t used = 2;

    *e = (struct rg_member_event){.kind = (enum rg_member_event_kind)(p[0] % 8),
                                  .peer = p[0] / 8 % PEERS,
                                  .epoch = epoch,
                                  .err = &why,
                                  .busy = p[0] >> 7,
                                  .layers_done = p[1]};
    if (e->kind == RG_MEMBER_MESSAGE) {
        const size_t length = n < 4 ? 0 : (size_t)p[2] + 256u * p[3];

        used = n < 4 || length > n - 4 ? n : 4 + length;
        if (n < 4 || rg_message_decode(m, p + 4, used - 4, NULL) != RG_OK)
            e->kind = RG_MEMBER_TICK;
        else
            e->message = m;
    }
    return used;
}

static void try_history(const uint8_t *p, size_t n)
{
    struct rg_member_actions actions = {0};
    struct rg_membership *m;
    int64_t now = 1;
    size_t at = 1;

    if (n == 0)
        return;
    m = open_node(p[0] % PEERS);
    for (uint32_t i = 0; i < EVENTS_MOST && n - at >= 2; i++) {
        struct rg_message message = {.kind = RG_MESSAGE_KINDS};
        struct rg_member_event e;
        struct rg_peer_view view;
        struct rg_epoch epoch;
        struct rg_err err = {0};
        char reason[RG_ERR_BYTES];

        (void)rg_membership_state(m, &epoch);
        now += (int64_t)p[at + 1] * 20000000;
        at += next_event(&e, &message, p + at, n - at, epoch);
        if (e.peer == p[0] % PEERS && e.kind <= RG_MEMBER_MESSAGE)
            e.kind = RG_MEMBER_TICK; /* a node has no link to itself */
        assert(rg_membership_step(m, now, &e, &actions, &err) == RG_OK);
        rg_message_free(&message);
        check_actions(&actions);
        rg_member_actions_clear(&actions);
        rg_membership_peer(m, e.peer, now, &view);
        rg_membership_reason(m, reason, sizeof reason);
        expect_text(view.reason, sizeof view.reason);
        expect_text(reason, sizeof reason);
    }
    rg_member_actions_free(&actions);
    rg_membership_close(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const tries[MODES])(const uint8_t *p, size_t n) = {
        try_control, try_step, try_open, try_forward, try_probe, try_history};
    const int64_t live = rg_mem_live();

    if (size == 0)
        return 0;
    tries[data[0] % MODES](data + 1, size - 1);
    assert(rg_mem_live() == live);
    return 0;
}
