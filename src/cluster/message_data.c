/* message_data.c - forwarded bytes and probes, whose data is sent and received in place. */
#include <string.h>

#include "cluster/message.h"
#include "cluster/message_wire.h"

enum {
    FORWARD_BYTES_FIELD = 1,
    PROBE_DATA_FIELD = 15,
    FIELDS_MAX = 64,
    PROBE_HEAD_BYTES = 4096 /* all of a probe besides its data */
};

static enum rg_code put_data(struct rg_buf *out, uint32_t field, const void *p, size_t n,
                             struct rg_err *err)
{
    uint8_t tag[20];
    size_t at = rg_wire_put_varint(tag, field << 3 | RG_WIRE_BYTES);
    enum rg_code code;

    if (n == 0)
        return RG_OK;
    at += rg_wire_put_varint(tag + at, n);
    code = rg_buf_reserve(out, at + n, err);
    if (code == RG_OK)
        code = rg_buf_add(out, tag, at, err);
    return code == RG_OK ? rg_buf_add(out, p, n, err) : code;
}

/* Finds the one field of bytes that ends the message; *head: the bytes before it. */
static enum rg_code find_data(uint32_t field, const uint8_t **data, size_t *n_data, size_t *head,
                              const uint8_t *p, size_t n, const char *name, struct rg_err *err)
{
    struct rg_wire_field f;
    size_t at = 0;

    *data = NULL;
    *n_data = 0;
    *head = 0;
    for (uint32_t i = 0; at < n; i++) {
        *head = at;
        if (i == FIELDS_MAX || !rg_wire_next(&f, p, &at, n))
            return rg_fail(err, RG_E_BAD_DATA, "%s: %s", name,
                           i == FIELDS_MAX ? "too many fields"
                                           : "no field where one should begin");
        if (f.type == RG_WIRE_BYTES && f.value > n - at)
            return rg_fail(err, RG_E_BAD_DATA, "%s: %llu bytes where %zu are left", name,
                           (unsigned long long)f.value, n - at);
        if (f.number == field) {
            if (f.type != RG_WIRE_BYTES || f.value != n - at)
                return rg_fail(err, RG_E_BAD_DATA, "%s: does not reach to the end of the message",
                               name);
            *data = p + at;
            *n_data = n - at;
            return RG_OK;
        }
        at += f.type == RG_WIRE_BYTES ? (size_t)f.value : 0;
    }
    *head = n;
    return RG_OK;
}

enum rg_code rg_forward_encode(struct rg_buf *out, const void *p, size_t n, struct rg_err *err)
{
    if (n > RG_LIMIT_FORWARD_BYTES)
        return rg_fail(err, RG_E_LIMIT, "ForwardMessage: %zu bytes, the limit is %u", n,
                       RG_LIMIT_FORWARD_BYTES);
    return put_data(out, FORWARD_BYTES_FIELD, p, n, err);
}

enum rg_code rg_forward_decode(const uint8_t **data, size_t *n_data, const uint8_t *p, size_t n,
                               struct rg_err *err)
{
    size_t head;
    enum rg_code code =
        find_data(FORWARD_BYTES_FIELD, data, n_data, &head, p, n, "ForwardMessage.bytes", err);

    if (code == RG_OK && *n_data == 0)
        code = rg_fail(err, RG_E_BAD_DATA, "ForwardMessage.bytes: absent");
    if (code == RG_OK && *n_data > RG_LIMIT_FORWARD_BYTES)
        code = rg_fail(err, RG_E_LIMIT, "ForwardMessage.bytes: %zu, the limit is %u", *n_data,
                       RG_LIMIT_FORWARD_BYTES);
    return code;
}

enum rg_code rg_probe_encode(struct rg_buf *out, const struct rg_probe *p, struct rg_err *err)
{
    Renga__V1__ProbeMessage to = RENGA__V1__PROBE_MESSAGE__INIT;
    char build[RG_SHORT_TEXT_BYTES];
    enum rg_code code;

    rg_wire_text(build, sizeof build, p->build);
    to.id = p->id;
    to.answer_bytes = p->answer_bytes;
    to.time_unix_ms = (uint64_t)p->time_unix_ms;
    to.build = build;
    code = rg_wire_pack(out, &to.base, RG_LIMIT_FORWARD_BYTES, err);
    return code == RG_OK ? put_data(out, PROBE_DATA_FIELD, p->data, p->n_data, err) : code;
}

enum rg_code rg_probe_decode(struct rg_probe *out, const uint8_t *p, size_t n, struct rg_err *err)
{
    ProtobufCMessage *m = NULL;
    const Renga__V1__ProbeMessage *from;
    size_t head;
    enum rg_code code;

    *out = (struct rg_probe){0};
    code = find_data(PROBE_DATA_FIELD, &out->data, &out->n_data, &head, p, n, "ProbeMessage.data",
                     err);
    if (code == RG_OK && (head > PROBE_HEAD_BYTES || out->n_data > RG_LIMIT_FORWARD_BYTES))
        code = rg_fail(err, RG_E_LIMIT, "ProbeMessage: %zu bytes, the limit is %u", n,
                       RG_LIMIT_FORWARD_BYTES);
    if (code == RG_OK)
        code = rg_wire_unpack(&m, &renga__v1__probe_message__descriptor, p, head, FIELDS_MAX, err);
    if (code != RG_OK)
        return code;
    from = (const Renga__V1__ProbeMessage *)m;
    out->id = from->id;
    out->answer_bytes = from->answer_bytes;
    out->time_unix_ms = (int64_t)from->time_unix_ms;
    rg_wire_text(out->build, sizeof out->build, from->build);
    code = rg_wire_range(from->time_unix_ms, 0, INT64_MAX, "ProbeMessage.time_unix_ms", err);
    if (code == RG_OK)
        code = rg_wire_range(from->answer_bytes, 0, RG_LIMIT_FORWARD_BYTES,
                             "ProbeMessage.answer_bytes", err);
    rg_wire_free(m);
    return code;
}
