/* message.c - control messages: which kind, both ways, and what owns memory. */
#include "cluster/message.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "cluster/message_kinds.h"
#include "cluster/message_wire.h"

/* A Hello has four fields for each layer; the rest is room for those of later minor versions. */
enum { FIELDS_MAX = 4 * RG_LIMIT_LAYERS + 256 };

static const struct {
    const char *name;
    rg_message_decode_fn *decode;
    rg_message_encode_fn *encode;
} kinds[RG_MESSAGE_KINDS] = {
    [RG_MESSAGE_HELLO] = {"Hello", rg_decode_hello, rg_encode_hello},
    [RG_MESSAGE_REFUSE] = {"Refuse", rg_decode_refuse, rg_encode_refuse},
    [RG_MESSAGE_HEARTBEAT] = {"Heartbeat", rg_decode_heartbeat, rg_encode_heartbeat},
    [RG_MESSAGE_PROPOSE] = {"Propose", rg_decode_propose, rg_encode_propose},
    [RG_MESSAGE_READY] = {"Ready", rg_decode_ready, rg_encode_ready},
    [RG_MESSAGE_COMMIT] = {"Commit", rg_decode_commit, rg_encode_commit},
    [RG_MESSAGE_COMMIT_ACK] = {"CommitAck", rg_decode_commit_ack, rg_encode_commit_ack},
    [RG_MESSAGE_ABORT] = {"Abort", rg_decode_abort, rg_encode_abort}};

const char *rg_message_name(enum rg_message_kind kind)
{
    return kind < RG_MESSAGE_KINDS ? kinds[kind].name : "?";
}

bool rg_epoch_equal(struct rg_epoch a, struct rg_epoch b)
{
    return a.boot == b.boot && a.n == b.n;
}

/* The number of the field that holds the message, which is its kind + 1; 0: none.  The bytes have
 * passed the guard. */
static uint32_t find_kind(const uint8_t *p, size_t n)
{
    struct rg_wire_field f;
    size_t at = 0;

    while (at < n && rg_wire_next(&f, p, &at, n)) {
        if (f.number <= RG_MESSAGE_KINDS)
            return f.number;
        if (f.type == RG_WIRE_BYTES)
            at += (size_t)f.value;
    }
    return 0;
}

enum rg_code rg_message_decode(struct rg_message *out, const uint8_t *p, size_t n,
                               struct rg_err *err)
{
    ProtobufCMessage *m = NULL;
    uint32_t number;
    enum rg_code code;

    *out = (struct rg_message){.kind = RG_MESSAGE_KINDS};
    if (n > RG_LIMIT_CONTROL_BYTES)
        return rg_fail(err, RG_E_LIMIT, "ControlMessage: %zu bytes, the limit is %u", n,
                       RG_LIMIT_CONTROL_BYTES);
    code = rg_wire_check(&renga__v1__control_message__descriptor, p, n, FIELDS_MAX, err);
    if (code != RG_OK)
        return code;
    number = find_kind(p, n);
    if (number == 0)
        return rg_fail(err, RG_E_BAD_DATA, "ControlMessage: of no kind that this version knows");
    if (number == RG_MESSAGE_HELLO + 1 && n > RG_LIMIT_HELLO_BYTES)
        return rg_fail(err, RG_E_LIMIT, "Hello: %zu bytes, the limit is %u", n,
                       RG_LIMIT_HELLO_BYTES);
    code = rg_wire_unpack(&m, &renga__v1__control_message__descriptor, p, n, FIELDS_MAX, err);
    if (code != RG_OK)
        return code;
    out->kind = (enum rg_message_kind)(number - 1);
    code = kinds[out->kind].decode(out, (const Renga__V1__ControlMessage *)m, err);
    if (code != RG_OK)
        *out = (struct rg_message){.kind = RG_MESSAGE_KINDS};
    rg_wire_free(m);
    return code;
}

enum rg_code rg_message_encode(struct rg_buf *out, const struct rg_message *m, struct rg_err *err)
{
    assert(m->kind < RG_MESSAGE_KINDS);
    return kinds[m->kind].encode(out, m, err);
}

enum rg_code rg_model_card_copy(struct rg_model_card *out, const struct rg_model_card *card,
                                struct rg_err *err)
{
    *out = *card;
    out->layers = NULL;
    if (card->n_layers == 0)
        return RG_OK;
    out->layers = rg_calloc(card->n_layers, sizeof *out->layers);
    if (!out->layers) {
        out->n_layers = 0;
        return rg_fail(err, RG_E_NOMEM, "model card: out of memory");
    }
    memcpy(out->layers, card->layers, card->n_layers * sizeof *out->layers);
    return RG_OK;
}

void rg_model_card_free(struct rg_model_card *card)
{
    rg_free(card->layers);
    card->layers = NULL;
    card->n_layers = 0;
}

enum rg_code rg_message_copy(struct rg_message *out, const struct rg_message *m, struct rg_err *err)
{
    enum rg_code code = RG_OK;

    *out = *m;
    if (m->kind == RG_MESSAGE_HELLO) {
        code = rg_model_card_copy(&out->hello.model, &m->hello.model, err);
    } else if (m->kind == RG_MESSAGE_PROPOSE) {
        out->propose = rg_alloc(sizeof *out->propose);
        if (out->propose)
            *out->propose = *m->propose;
        else
            code = rg_fail(err, RG_E_NOMEM, "Propose: out of memory");
    }
    if (code != RG_OK)
        *out = (struct rg_message){.kind = RG_MESSAGE_KINDS};
    return code;
}

void rg_message_free(struct rg_message *m)
{
    if (m->kind == RG_MESSAGE_HELLO)
        rg_model_card_free(&m->hello.model);
    else if (m->kind == RG_MESSAGE_PROPOSE)
        rg_free(m->propose);
    *m = (struct rg_message){.kind = RG_MESSAGE_KINDS};
}
