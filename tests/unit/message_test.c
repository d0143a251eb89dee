/* message_test.c - control messages, probes and forwarded bytes: there and back, and every wrong
 * field by its name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <renga.pb-c.h>

#include "base/mem.h"
#include "cluster/message.h"
#include "support/live_memory.h"

enum { BYTES = 128 << 10 };

static uint8_t bytes[BYTES];

/* ---- there and back -------------------------------------------------------------------------- */

/* Encodes, decodes and encodes again: both encodings must be the same. */
static void there_and_back(const struct rg_message *m, struct rg_message *back)
{
    struct rg_buf first, second;
    struct rg_err err = {0};

    rg_buf_init(&first, BYTES);
    rg_buf_init(&second, BYTES);
    assert_int_equal(rg_message_encode(&first, m, &err), RG_OK);
    if (rg_message_decode(back, (const uint8_t *)first.data, first.len, &err) != RG_OK)
        fail_msg("%s: %s", rg_message_name(m->kind), err.message);
    assert_int_equal(back->kind, m->kind);
    assert_int_equal(rg_message_encode(&second, back, &err), RG_OK);
    assert_int_equal(first.len, second.len);
    assert_memory_equal(first.data, second.data, first.len);
    rg_buf_free(&first);
    rg_buf_free(&second);
}

static struct rg_message make_hello(struct rg_layer_card *layers, uint32_t n)
{
    struct rg_message m = {.kind = RG_MESSAGE_HELLO,
                           .hello = {.major = 1,
                                     .minor = 7,
                                     .build = "0.1.0",
                                     .node_id = "m3-studio",
                                     .boot = UINT64_MAX,
                                     .head_id = "m2-ultra",
                                     .cluster = "0123456789abcdef",
                                     .numerics = "cpu-1",
                                     .claimed_bytes = UINT64_C(512) << 30,
                                     .memory_bytes = UINT64_C(511) << 30,
                                     .overcommit = true}};

    for (uint32_t i = 0; i < n; i++) {
        layers[i].there = i % 3 != 1;
        layers[i].bytes = UINT64_C(8400000000) + i;
        memset(layers[i].digest.bytes, (int)(i & 255), RG_DIGEST_BYTES);
    }
    m.hello.model.n_layers = n;
    m.hello.model.layers = layers;
    m.hello.model.head = (struct rg_layer_card){.there = true, .bytes = 5};
    memset(m.hello.model.digest.bytes, 0xAB, RG_DIGEST_BYTES);
    return m;
}

static void a_hello_with_all_layers_comes_back(void **state)
{
    static struct rg_layer_card layers[RG_LIMIT_LAYERS];
    const uint32_t counts[] = {1, 61, RG_LIMIT_LAYERS};

    (void)state;
    for (size_t c = 0; c < 3; c++) {
        const struct rg_message m = make_hello(layers, counts[c]);
        struct rg_message back, copy;
        struct rg_err err;

        there_and_back(&m, &back);
        assert_int_equal(back.hello.major, 1);
        assert_int_equal(back.hello.minor, 7);
        assert_string_equal(back.hello.node_id, "m3-studio");
        assert_string_equal(back.hello.head_id, "m2-ultra");
        assert_string_equal(back.hello.cluster, "0123456789abcdef");
        assert_string_equal(back.hello.numerics, "cpu-1");
        assert_true(back.hello.boot == UINT64_MAX && back.hello.overcommit);
        assert_int_equal(back.hello.claimed_bytes, UINT64_C(512) << 30);
        assert_int_equal(back.hello.memory_bytes, UINT64_C(511) << 30);
        assert_int_equal(back.hello.model.n_layers, counts[c]);
        for (uint32_t i = 0; i < counts[c]; i++) {
            assert_int_equal(back.hello.model.layers[i].there, layers[i].there);
            if (layers[i].there)
                assert_memory_equal(&back.hello.model.layers[i].digest, &layers[i].digest, 16);
        }
        assert_false(back.hello.model.embedding.there);
        assert_true(back.hello.model.head.there && back.hello.model.head.bytes == 5);
        assert_int_equal(rg_message_copy(&copy, &back, &err), RG_OK);
        rg_message_free(&back);
        assert_int_equal(copy.hello.model.n_layers, counts[c]);
        assert_int_equal(copy.hello.model.layers[0].bytes, layers[0].bytes);
        rg_message_free(&copy);
    }
}

static struct rg_proposal make_proposal(void)
{
    struct rg_proposal p = {.epoch = {.boot = 77, .n = 3},
                            .nodes = {{"a", 0, 5}, {"b", 5, 40}, {"head", 45, 0}},
                            .n_nodes = 3,
                            .context = 32768,
                            .parallel = 4,
                            .n_blocks = 2048,
                            .block_tokens = 64,
                            .max_rows = 516,
                            .activations_f32 = true};

    memset(p.model.bytes, 9, RG_DIGEST_BYTES);
    return p;
}

static void a_proposal_comes_back(void **state)
{
    struct rg_proposal p = make_proposal();
    const struct rg_message m = {.kind = RG_MESSAGE_PROPOSE, .propose = &p};
    struct rg_message back, copy;
    struct rg_err err;

    (void)state;
    there_and_back(&m, &back);
    assert_memory_equal(back.propose, &p, sizeof p);
    assert_int_equal(rg_message_copy(&copy, &back, &err), RG_OK);
    assert_memory_equal(copy.propose, &p, sizeof p);
    rg_message_free(&back);
    rg_message_free(&copy);
}

static void small_messages_come_back(void **state)
{
    const struct rg_epoch e = {.boot = 1, .n = UINT64_MAX};
    const struct rg_message all[] = {
        {.kind = RG_MESSAGE_REFUSE, .refuse = {.what = "model", .mine = "1", .yours = "2"}},
        {.kind = RG_MESSAGE_HEARTBEAT, .heartbeat = {.time_ns = 5}},
        {.kind = RG_MESSAGE_HEARTBEAT,
         .heartbeat = {INT64_MAX, 2, 3, UINT64_MAX, true, {7, 8}, 10, 11, "w2"}},
        {.kind = RG_MESSAGE_READY, .ready = {.epoch = e}},
        {.kind = RG_MESSAGE_READY, .ready = {e, RG_E_FIT, "short by 3 GiB"}},
        {.kind = RG_MESSAGE_COMMIT, .commit = e},
        {.kind = RG_MESSAGE_COMMIT_ACK, .commit_ack = e},
        {.kind = RG_MESSAGE_ABORT, .abort = {e, "node b is lost", "b"}},
        {.kind = RG_MESSAGE_ABORT, .abort = {e, "over", ""}}};

    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct rg_message back;

        there_and_back(&all[i], &back);
        if (i == 2) {
            const struct rg_heartbeat *h = &back.heartbeat;

            assert_true(h->time_ns == INT64_MAX && h->echo_time_ns == 2 && h->echo_age_ns == 3);
            assert_true(h->layers_done == UINT64_MAX && h->busy);
            assert_true(h->epoch.boot == 7 && h->epoch.n == 8);
            assert_true(h->loaded_bytes == 10 && h->load_bytes == 11);
            assert_string_equal(h->unreached, "w2");
        }
        if (i == 4) {
            assert_int_equal(back.ready.code, RG_E_FIT);
            assert_string_equal(back.ready.error, "short by 3 GiB");
        }
        if (i == 7)
            assert_string_equal(back.abort.lost_id, "b");
        if (i >= 3)
            assert_true(rg_epoch_equal(back.commit, e)); /* the first member of all of these */
        rg_message_free(&back);
    }
    assert_string_equal(rg_message_name(RG_MESSAGE_COMMIT_ACK), "CommitAck");
    assert_false(rg_epoch_equal(e, (struct rg_epoch){1, 2}));
    assert_false(rg_epoch_equal(e, (struct rg_epoch){2, UINT64_MAX}));
}

static void texts_are_cut_and_cleaned(void **state)
{
    struct rg_message m = {.kind = RG_MESSAGE_ABORT, .abort = {.epoch = {1, 1}}}, back;

    (void)state;
    snprintf(m.abort.reason, sizeof m.abort.reason,
             "a\x1b[31mb\nc\x7f \xE2\x80\xAE \xC2\x85 \xFF caf\xC3\xA9 \xC3");
    there_and_back(&m, &back);
    assert_string_equal(back.abort.reason, "a?[31mb?c? ? ? ? caf\xC3\xA9 ?");
    rg_message_free(&back);

    /* 254 bytes, then a character of two: it is left out whole. */
    memset(m.abort.reason, 'x', 254);
    memcpy(m.abort.reason + 254, "\xC3", 2);
    there_and_back(&m, &back);
    assert_int_equal(strlen(back.abort.reason), 255);
    rg_message_free(&back);

    Renga__V1__Abort a = RENGA__V1__ABORT__INIT;
    Renga__V1__Epoch e = RENGA__V1__EPOCH__INIT;
    Renga__V1__ControlMessage c = RENGA__V1__CONTROL_MESSAGE__INIT;
    char text[1000];
    struct rg_err err;

    memset(text, 'y', 999);
    text[999] = '\0';
    memcpy(text + 254, "\xC3\xA9", 2);
    e.boot = e.n = 1;
    a.epoch = &e;
    a.reason = text;
    c.kind_case = RENGA__V1__CONTROL_MESSAGE__KIND_ABORT;
    c.abort = &a;
    assert_int_equal(
        rg_message_decode(&back, bytes, renga__v1__control_message__pack(&c, bytes), &err), RG_OK);
    assert_int_equal(strlen(back.abort.reason), 254);
    rg_message_free(&back);
}

static void a_reason_is_never_empty(void **state)
{
    const struct rg_message all[] = {
        {.kind = RG_MESSAGE_ABORT, .abort = {.epoch = {1, 1}}},
        {.kind = RG_MESSAGE_READY, .ready = {.epoch = {1, 1}, .code = RG_E_IO}}};
    struct rg_message back;

    (void)state;
    there_and_back(&all[0], &back);
    assert_string_equal(back.abort.reason, "no reason given");
    there_and_back(&all[1], &back);
    assert_string_equal(back.ready.error, "no reason given");
}

/* ---- wrong fields ---------------------------------------------------------------------------- */

static void expect(const uint8_t *p, size_t n, enum rg_code want, const char *name)
{
    struct rg_message m;
    struct rg_err err = {0};
    const enum rg_code code = rg_message_decode(&m, p, n, &err);

    if (code != want || !strstr(err.message, name))
        fail_msg("wanted code %d naming %s, got %d: %s", want, name, code, err.message);
    assert_int_equal(err.code, want);
    assert_null(strchr(err.message, '\n'));
}

static void expect_bad(const Renga__V1__ControlMessage *c, const char *name)
{
    expect(bytes, renga__v1__control_message__pack(c, bytes), RG_E_BAD_DATA, name);
}

static uint8_t sixteen[17];
static const ProtobufCBinaryData digest = {.len = 16, .data = sixteen};

struct parts {
    Renga__V1__ControlMessage all;
    Renga__V1__Epoch epoch;
    Renga__V1__Hello hello;
    Renga__V1__ModelCard model;
    Renga__V1__LayerCard cards[3], *list[3];
    Renga__V1__Propose propose;
    Renga__V1__PlanNode nodes[65], *node_list[65];
    Renga__V1__Ready ready;
    Renga__V1__Abort abort;
    Renga__V1__Heartbeat heartbeat;
    Renga__V1__Refuse refuse;
    Renga__V1__Commit commit;
    Renga__V1__CommitAck ack;
    char id[200];
};

static struct parts x;

static void good_model(void)
{
    renga__v1__model_card__init(&x.model);
    x.model.digest = digest;
    x.model.layer_count = 9;
    x.model.n_layers = 3;
    x.model.layers = x.list;
    for (uint32_t i = 0; i < 3; i++) {
        renga__v1__layer_card__init(&x.cards[i]);
        x.cards[i].layer = 2 * i + 1;
        x.cards[i].bytes = 1;
        x.cards[i].digest = digest;
        x.list[i] = &x.cards[i];
    }
}

static void good_hello(void)
{
    good_model();
    renga__v1__hello__init(&x.hello);
    x.hello.major = 1;
    x.hello.node_id = (char *)(uintptr_t)"a";
    x.hello.head_id = (char *)(uintptr_t)"b";
    x.hello.cluster = (char *)(uintptr_t)"plain";
    x.hello.numerics = (char *)(uintptr_t)"cpu-1";
    x.hello.boot = x.hello.claimed_bytes = x.hello.memory_bytes = 1;
    x.hello.model = &x.model;
    x.all.kind_case = RENGA__V1__CONTROL_MESSAGE__KIND_HELLO;
    x.all.hello = &x.hello;
}

static void good_propose(void)
{
    static char names[65][4];

    renga__v1__propose__init(&x.propose);
    x.propose.epoch = &x.epoch;
    x.propose.n_nodes = 3;
    x.propose.nodes = x.node_list;
    for (uint32_t i = 0; i < 65; i++) {
        snprintf(names[i], sizeof names[i], "n%u", i);
        renga__v1__plan_node__init(&x.nodes[i]);
        x.nodes[i].id = names[i];
        x.nodes[i].first_layer = 4 * i;
        x.nodes[i].n_layers = 4;
        x.node_list[i] = &x.nodes[i];
    }
    x.propose.context = 1000;
    x.propose.parallel = 256;
    x.propose.block_tokens = 16;
    x.propose.n_blocks = 63;
    x.propose.max_rows = 1;
    x.propose.activations = (char *)(uintptr_t)"int8";
    x.propose.model_digest = digest;
    x.all.kind_case = RENGA__V1__CONTROL_MESSAGE__KIND_PROPOSE;
    x.all.propose = &x.propose;
}

static void good(void)
{
    renga__v1__control_message__init(&x.all);
    renga__v1__epoch__init(&x.epoch);
    x.epoch.boot = x.epoch.n = 1;
    memset(x.id, 'i', 129);
    x.id[129] = '\0';
}

static void expect_good(void)
{
    struct rg_message m;
    struct rg_err err = {0};

    if (rg_message_decode(&m, bytes, renga__v1__control_message__pack(&x.all, bytes), &err))
        fail_msg("%s", err.message);
    rg_message_free(&m);
}

/* Makes a good message, then does one thing to it. */
#define BAD(what, name, change)                                                                    \
    do {                                                                                           \
        good();                                                                                    \
        good_##what();                                                                             \
        change;                                                                                    \
        expect_bad(&x.all, name);                                                                  \
    } while (0)
#define TEXT(s) ((char *)(uintptr_t)(s))

static void each_field_of_hello_is_checked(void **state)
{
    (void)state;
    good();
    good_hello();
    expect_good();
    x.id[128] = '\0';
    x.hello.node_id = x.id;
    expect_good();
    BAD(hello, "Hello.major", x.hello.major = 0);
    BAD(hello, "Hello.node_id", x.hello.node_id = TEXT(""));
    BAD(hello, "Hello.node_id", x.hello.node_id = TEXT("a b"));
    BAD(hello, "Hello.node_id", x.hello.node_id = TEXT("a/../b"));
    BAD(hello, "Hello.node_id", x.hello.node_id = x.id);
    BAD(hello, "Hello.boot", x.hello.boot = 0);
    BAD(hello, "Hello.head_id", x.hello.head_id = TEXT("\xC3\xA9"));
    BAD(hello, "Hello.cluster", x.hello.cluster = TEXT(""));
    BAD(hello, "Hello.cluster", x.hello.cluster = TEXT("0123456789abcde"));
    BAD(hello, "Hello.cluster", x.hello.cluster = TEXT("0123456789ABCDEF"));
    BAD(hello, "Hello.numerics", x.hello.numerics = TEXT(""));
    BAD(hello, "Hello.numerics", x.hello.numerics = x.id);
    BAD(hello, "Hello.claimed_bytes", x.hello.claimed_bytes = 0);
    BAD(hello, "Hello.claimed_bytes", x.hello.claimed_bytes = UINT64_MAX);
    BAD(hello, "Hello.memory_bytes", x.hello.memory_bytes = 0);
    BAD(hello, "Hello.model", x.hello.model = NULL);
    BAD(hello, "Hello.model.digest", x.model.digest.len = 15);
    BAD(hello, "Hello.model.digest", x.model.digest.len = 17);
    BAD(hello, "Hello.model.digest", x.model.digest.len = 0);
    BAD(hello, "Hello.model.layer_count", x.model.layer_count = 0);
    BAD(hello, "Hello.model.layer_count", x.model.layer_count = RG_LIMIT_LAYERS + 1);
    BAD(hello, "Hello.model.layers.layer", x.model.layer_count = 5);
    BAD(hello, "Hello.model.layers.layer", x.cards[1].layer = 1);
    BAD(hello, "Hello.model.layers.layer", x.cards[2].layer = 0);
    BAD(hello, "Hello.model.layers", x.cards[1].bytes = 0);
    BAD(hello, "Hello.model.layers", x.cards[1].digest.len = 0);
    BAD(hello, "Hello.model.embedding", x.cards[0].bytes = 0;
        x.model.embedding = &x.cards[0]; x.list[0] = &x.cards[1]; x.model.n_layers = 1);
    BAD(hello, "Hello.model.head", x.cards[0].digest.len = 3;
        x.model.head = &x.cards[0]; x.list[0] = &x.cards[1]; x.model.n_layers = 1);
}

static void each_field_of_a_proposal_is_checked(void **state)
{
    (void)state;
    good();
    good_propose();
    expect_good();
    x.nodes[2].n_layers = 0;
    expect_good();
    x.nodes[2].n_layers = RG_LIMIT_LAYERS - 8;
    expect_good();
    BAD(propose, "Propose.epoch", x.propose.epoch = NULL);
    BAD(propose, "Propose.epoch.n", x.epoch.n = 0);
    BAD(propose, "Propose.epoch.boot", x.epoch.boot = 0);
    BAD(propose, "Propose.nodes", x.propose.n_nodes = 0);
    BAD(propose, "Propose.nodes", x.propose.n_nodes = 65);
    BAD(propose, "Propose.nodes.id", x.nodes[1].id = TEXT(""));
    BAD(propose, "Propose.nodes.id", x.nodes[2].id = TEXT("n0"));
    BAD(propose, "Propose.nodes.first_layer", x.nodes[0].first_layer = 1);
    BAD(propose, "Propose.nodes.first_layer", x.nodes[1].first_layer = 3);
    BAD(propose, "Propose.nodes.first_layer", x.nodes[2].first_layer = 9);
    BAD(propose, "Propose.nodes.n_layers", x.nodes[1].n_layers = 0);
    BAD(propose, "Propose.nodes.n_layers", x.nodes[2].n_layers = RG_LIMIT_LAYERS - 7);
    BAD(propose, "Propose.nodes.n_layers", x.nodes[1].n_layers = UINT32_MAX);
    BAD(propose, "Propose.nodes: layers", x.propose.n_nodes = 1; x.nodes[0].n_layers = 0);
    BAD(propose, "Propose.context", x.propose.context = 0);
    BAD(propose, "Propose.context", x.propose.context = RG_LIMIT_CONTEXT + 1);
    BAD(propose, "Propose.parallel", x.propose.parallel = 0);
    BAD(propose, "Propose.parallel", x.propose.parallel = 257);
    BAD(propose, "Propose.block_tokens", x.propose.block_tokens = 0);
    BAD(propose, "Propose.block_tokens", x.propose.block_tokens = 24);
    BAD(propose, "Propose.block_tokens", x.propose.block_tokens = 1u << 17);
    BAD(propose, "Propose.n_blocks", x.propose.n_blocks = 0);
    BAD(propose, "Propose.n_blocks", x.propose.n_blocks = 62);
    BAD(propose, "Propose.n_blocks", x.propose.n_blocks = (1u << 26) + 1);
    BAD(propose, "Propose.max_rows", x.propose.max_rows = 0);
    BAD(propose, "Propose.max_rows", x.propose.max_rows = RG_LIMIT_STEP_ROWS + 1);
    BAD(propose, "Propose.activations", x.propose.activations = TEXT(""));
    BAD(propose, "Propose.activations", x.propose.activations = TEXT("f16"));
    BAD(propose, "Propose.model_digest", x.propose.model_digest.len = 0);
}

#define SMALL(kind, KIND)                                                                          \
    static void good_##kind(void)                                                                  \
    {                                                                                              \
        renga__v1__##kind##__init(&x.kind);                                                        \
        x.all.kind_case = RENGA__V1__CONTROL_MESSAGE__KIND_##KIND;                                 \
        x.all.kind = &x.kind;

SMALL(ready, READY) x.ready.epoch = &x.epoch; }
SMALL(abort, ABORT) x.abort.epoch = &x.epoch; x.abort.reason = TEXT("why"); }
SMALL(commit, COMMIT) x.commit.epoch = &x.epoch; }
SMALL(heartbeat, HEARTBEAT) }
SMALL(refuse, REFUSE) x.refuse.what = TEXT("head"); }

static void good_ack(void)
{
    renga__v1__commit_ack__init(&x.ack);
    x.all.kind_case = RENGA__V1__CONTROL_MESSAGE__KIND_COMMIT_ACK;
    x.all.commit_ack = &x.ack;
}

static void each_field_of_the_others_is_checked(void **state)
{
    (void)state;
    BAD(ready, "Ready.epoch", x.ready.epoch = NULL);
    BAD(ready, "Ready.error_code", x.ready.error_code = RG_E_INTERNAL + 1;
        x.ready.error = TEXT("why"));
    BAD(ready, "Ready.error_code", x.ready.error = TEXT("why"));
    BAD(ready, "Ready.error", x.ready.error_code = RG_E_IO);
    BAD(abort, "Abort.epoch", x.abort.epoch = NULL);
    BAD(abort, "Abort.reason", x.abort.reason = TEXT(""));
    BAD(abort, "Abort.lost_id", x.abort.lost_id = TEXT("no id"));
    BAD(commit, "Commit.epoch", x.commit.epoch = NULL);
    BAD(ack, "CommitAck.epoch", (void)0);
    BAD(heartbeat, "Heartbeat.epoch.n", x.heartbeat.epoch = &x.epoch; x.epoch.n = 0);
    BAD(heartbeat, "Heartbeat.time_ns", x.heartbeat.time_ns = UINT64_MAX);
    BAD(heartbeat, "Heartbeat.echo_time_ns", x.heartbeat.echo_time_ns = UINT64_MAX);
    BAD(heartbeat, "Heartbeat.echo_age_ns", x.heartbeat.echo_age_ns = UINT64_C(1) << 63);
    BAD(heartbeat, "Heartbeat.loaded_bytes", x.heartbeat.loaded_bytes = UINT64_MAX);
    BAD(heartbeat, "Heartbeat.load_bytes", x.heartbeat.load_bytes = UINT64_MAX);
    BAD(heartbeat, "Heartbeat.unreached", x.heartbeat.unreached = (char[]){"a b/"});
    BAD(refuse, "Refuse.what", x.refuse.what = TEXT(""));
}

/* ---- bytes ----------------------------------------------------------------------------------- */

#define BYTES_OF(s) (const uint8_t *)(s), sizeof(s) - 1

static void bytes_that_are_no_message_are_refused(void **state)
{
    (void)state;
    expect(NULL, 0, RG_E_BAD_DATA, "of no kind");
    expect(BYTES_OF("\x48\x01"), RG_E_BAD_DATA, "of no kind"); /* field 9, of a later version */
    expect(BYTES_OF("\x12"), RG_E_BAD_DATA, "ControlMessage");
    expect(BYTES_OF("\x12\x05\x0A"), RG_E_BAD_DATA, "ControlMessage.refuse");
    expect(BYTES_OF("\x12\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F"), RG_E_BAD_DATA, "Control");
    expect(BYTES_OF("\x12\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01"), RG_E_BAD_DATA,
           "ControlMessage.refuse");
    expect(BYTES_OF("\x10\x01"), RG_E_BAD_DATA, "ControlMessage.refuse: another wire type");
    expect(BYTES_OF("\x13\x14"), RG_E_BAD_DATA, "ControlMessage: no field");  /* a group */
    expect(BYTES_OF("\x02\x00"), RG_E_BAD_DATA, "ControlMessage: no field");  /* field 0 */
    expect(BYTES_OF("\x12\x00\x12\x00"), RG_E_BAD_DATA, "ControlMessage.refuse: a second kind");
    expect(BYTES_OF("\x12\x00\x32\x00"), RG_E_BAD_DATA, "ControlMessage.commit: a second kind");
    expect(BYTES_OF("\x12\x06\x0A\x01h\x0A\x01h"), RG_E_BAD_DATA, "Refuse.what: there twice");
    expect(BYTES_OF("\x12\x05\x0A\x03h\0h"), RG_E_BAD_DATA, "Refuse.what: a NUL");
    expect(BYTES_OF("\x0A\x06\x08\x80\x80\x80\x80\x10"), RG_E_BAD_DATA, "Hello.major");
    expect(BYTES_OF("\x1A\x02\x28\x02"), RG_E_BAD_DATA, "Heartbeat.busy");
}

static void fields_of_later_versions_are_passed_over(void **state)
{
    static const uint8_t refuse[] = "\xF8\x07\x05\x12\x09\x0A\x04head\xFA\x07\x00\xF9\x07 8 bytes";
    struct rg_message m;
    struct rg_err err;

    (void)state;
    assert_int_equal(rg_message_decode(&m, refuse, sizeof refuse - 1, &err), RG_OK);
    assert_int_equal(m.kind, RG_MESSAGE_REFUSE);
    assert_string_equal(m.refuse.what, "head");
}

/* A message that makes protobuf-c allocate for each two of its bytes, or merge for ever. */
static void a_flood_of_fields_is_refused(void **state)
{
    const int64_t before = rg_mem_count();

    (void)state;
    for (size_t i = 0; i < RG_LIMIT_CONTROL_BYTES; i += 2)
        memcpy(bytes + i, "\x48\x01", 2);
    expect(bytes, RG_LIMIT_CONTROL_BYTES, RG_E_LIMIT, "too many fields");
    expect(bytes, RG_LIMIT_CONTROL_BYTES + 1, RG_E_LIMIT, "ControlMessage");
    for (size_t i = 0; i < 40000; i += 2)
        memcpy(bytes + 4 + i, "\x1A\x00", 2);
    memcpy(bytes, "\x0A\xC0\xB8\x02", 4);
    expect(bytes, 40004, RG_E_BAD_DATA, "Hello"); /* node_id is no message */
    for (size_t i = 0; i < 40000; i += 2)
        memcpy(bytes + 4 + i, "\x62\x00", 2);
    expect(bytes, 40004, RG_E_BAD_DATA, "Hello.model: there twice");
    memcpy(bytes, "\x0A\xC0\xB8\x02\x62\xBC\xB8\x02", 8);
    for (size_t i = 0; i < 40000 - 4; i += 2)
        memcpy(bytes + 8 + i, "\x1A\x00", 2);
    expect(bytes, 40004, RG_E_LIMIT, "too many fields");
    assert_int_equal(rg_mem_count(), before);
}

static void a_hello_has_a_limit_of_its_own(void **state)
{
    static char text[RG_LIMIT_HELLO_BYTES];

    (void)state;
    good();
    good_hello();
    memset(text, 'b', sizeof text - 1);
    x.hello.build = text;
    expect(bytes, renga__v1__control_message__pack(&x.all, bytes), RG_E_LIMIT, "Hello: ");
}

/* Every allocation fails once: an error each time, and nothing is left behind. */
static void a_full_memory_is_an_error(void **state)
{
    static struct rg_layer_card layers[3];
    struct rg_proposal p = make_proposal();
    const struct rg_message all[] = {make_hello(layers, 3),
                                     {.kind = RG_MESSAGE_PROPOSE, .propose = &p}};

    (void)state;
    for (size_t k = 0; k < 2; k++) {
        enum rg_code code = RG_E_NOMEM;
        int64_t at;

        for (at = 1; code == RG_E_NOMEM && at < 100; at++) {
            struct rg_message back = {.kind = RG_MESSAGE_KINDS}, copy = {.kind = RG_MESSAGE_KINDS};
            struct rg_buf out;
            struct rg_err err;

            rg_buf_init(&out, BYTES);
            rg_mem_fail_at(at);
            code = rg_message_encode(&out, &all[k], &err);
            if (code == RG_OK)
                code = rg_message_decode(&back, (const uint8_t *)out.data, out.len, &err);
            if (code == RG_OK)
                code = rg_message_copy(&copy, &back, &err);
            rg_mem_fail_at(0);
            rg_message_free(&back);
            rg_message_free(&copy);
            rg_buf_free(&out);
        }
        assert_int_equal(code, RG_OK);
        assert_true(at > 5);
    }
}

/* ---- forward, probe -------------------------------------------------------------------------- */

static void forwarded_bytes_come_back(void **state)
{
    struct rg_buf out;
    struct rg_err err;
    const uint8_t *data;
    size_t n;

    (void)state;
    rg_buf_init(&out, BYTES);
    assert_int_equal(rg_forward_encode(&out, "GET /\r\n", 7, &err), RG_OK);
    assert_int_equal(rg_forward_decode(&data, &n, (const uint8_t *)out.data, out.len, &err), RG_OK);
    assert_int_equal(n, 7);
    assert_memory_equal(data, "GET /\r\n", 7);
    for (size_t cut = 0; cut < out.len; cut++)
        assert_int_equal(rg_forward_decode(&data, &n, (const uint8_t *)out.data, cut, &err),
                         RG_E_BAD_DATA);
    rg_buf_free(&out);
}

static void probes_come_back(void **state)
{
    const struct rg_probe p = {.id = 3,
                               .answer_bytes = 1 << 20,
                               .time_unix_ms = INT64_MAX,
                               .build = "0.1.0",
                               .data = (const uint8_t *)"12345",
                               .n_data = 5};
    struct rg_probe back;
    struct rg_buf out;
    struct rg_err err;

    (void)state;
    rg_buf_init(&out, BYTES);
    assert_int_equal(rg_probe_encode(&out, &p, &err), RG_OK);
    assert_int_equal(rg_probe_decode(&back, (const uint8_t *)out.data, out.len, &err), RG_OK);
    assert_true(back.id == 3 && back.answer_bytes == 1 << 20 && back.time_unix_ms == INT64_MAX);
    assert_string_equal(back.build, "0.1.0");
    assert_int_equal(back.n_data, 5);
    assert_memory_equal(back.data, "12345", 5);
    assert_int_equal(rg_probe_decode(&back, NULL, 0, &err), RG_OK); /* all of it may be absent */
    assert_int_equal(rg_probe_decode(&back, BYTES_OF("\x10\xFF\xFF\xFF\xFF\x0F"), &err),
                     RG_E_BAD_DATA);
    assert_non_null(strstr(err.message, "ProbeMessage.answer_bytes"));
    assert_int_equal(rg_probe_decode(&back, BYTES_OF("\x7A\x01x\x08\x01"), &err), RG_E_BAD_DATA);
    assert_non_null(strstr(err.message, "ProbeMessage.data"));
    rg_buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_hello_with_all_layers_comes_back), TEST(a_proposal_comes_back),
        TEST(small_messages_come_back),           TEST(texts_are_cut_and_cleaned),
        TEST(a_reason_is_never_empty),            TEST(each_field_of_hello_is_checked),
        TEST(each_field_of_a_proposal_is_checked), TEST(each_field_of_the_others_is_checked),
        TEST(bytes_that_are_no_message_are_refused),
        TEST(fields_of_later_versions_are_passed_over),
        TEST(a_flood_of_fields_is_refused),       TEST(a_hello_has_a_limit_of_its_own),
        TEST(a_full_memory_is_an_error),          TEST(forwarded_bytes_come_back),
        TEST(probes_come_back)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
