/* message_wire.c - the guard in front of protobuf-c, and what all kinds of messages check alike. */
#include "cluster/message_wire.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"

enum { DEPTH_MAX = 5 }; /* ControlMessage, Hello, ModelCard, LayerCard, and one to spare */

static bool read_varint(uint64_t *value, const uint8_t *p, size_t *at, size_t n)
{
    uint64_t v = 0;

    for (unsigned shift = 0; shift < 70; shift += 7) {
        if (*at >= n)
            return false;

        const uint8_t byte = p[(*at)++];

        if (shift == 63 && byte > 1)
            return false;
        v |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) {
            *value = v;
            return true;
        }
    }
    return false;
}

static bool read_fixed(uint64_t *value, const uint8_t *p, size_t *at, size_t n, size_t bytes)
{
    if (*at > n || n - *at < bytes)
        return false;
    *value = 0;
    for (size_t i = bytes; i-- > 0;)
        *value = *value << 8 | p[*at + i];
    *at += bytes;
    return true;
}

bool rg_wire_next(struct rg_wire_field *f, const uint8_t *p, size_t *at, size_t n)
{
    uint64_t tag;

    if (!read_varint(&tag, p, at, n) || tag >> 3 == 0 || tag >> 3 > (1u << 29) - 1)
        return false;
    f->number = (uint32_t)(tag >> 3);
    f->type = (unsigned)(tag & 7);
    switch (f->type) {
    case RG_WIRE_VARINT:
    case RG_WIRE_BYTES:
        return read_varint(&f->value, p, at, n);
    case RG_WIRE_FIXED64:
        return read_fixed(&f->value, p, at, n, 8);
    case RG_WIRE_FIXED32:
        return read_fixed(&f->value, p, at, n, 4);
    default: /* groups, which proto3 does not have, and what no version has */
        return false;
    }
}

size_t rg_wire_put_varint(uint8_t out[10], uint64_t value)
{
    size_t n = 0;

    while (value >= 0x80) {
        out[n++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    out[n++] = (uint8_t)value;
    return n;
}

/* ---- the guard ------------------------------------------------------------------------------- */

struct level {
    const ProtobufCMessageDescriptor *d;
    size_t end;
    uint64_t seen;      /* bit: the descriptor's field of that index was there */
    bool has_one_of;    /* a member of its oneof was there; no message has two of them */
};

struct guard {
    const uint8_t *p;
    size_t at;
    uint64_t left; /* fields that may still come */
    struct level levels[DEPTH_MAX];
    unsigned depth;
    struct rg_err *err;
};

static unsigned wire_type(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_FIXED64:
        return RG_WIRE_FIXED64;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return RG_WIRE_BYTES;
    default: /* of the others the protocol has only uint32, uint64 and bool */
        return RG_WIRE_VARINT;
    }
}

static enum rg_code bad(struct guard *g, const ProtobufCMessageDescriptor *d,
                        const ProtobufCFieldDescriptor *f, const char *what)
{
    return rg_fail(g->err, RG_E_BAD_DATA, "%s.%s: %s", d->short_name, f->name, what);
}

static bool in_range(ProtobufCType type, uint64_t value)
{
    if (type == PROTOBUF_C_TYPE_UINT32)
        return value <= UINT32_MAX;
    return type != PROTOBUF_C_TYPE_BOOL || value <= 1;
}

/* The n bytes at g->at are numbers without tags. */
static enum rg_code check_packed(struct guard *g, const ProtobufCMessageDescriptor *d,
                                 const ProtobufCFieldDescriptor *f, size_t n)
{
    const size_t end = g->at + n;

    while (g->at < end) {
        uint64_t value;

        if (!read_varint(&value, g->p, &g->at, end) || !in_range(f->type, value))
            return bad(g, d, f, "a number that is not one of its type");
    }
    return RG_OK;
}

static enum rg_code check_once(struct guard *g, struct level *l, const ProtobufCFieldDescriptor *f)
{
    const uint64_t bit = UINT64_C(1) << (f - l->d->fields);

    assert(f - l->d->fields < 64);
    if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
        if (l->has_one_of)
            return bad(g, l->d, f, "a second kind in one message");
        l->has_one_of = true;
    }
    if (f->label != PROTOBUF_C_LABEL_REPEATED && (l->seen & bit))
        return bad(g, l->d, f, "there twice");
    l->seen |= bit;
    return RG_OK;
}

/* The bytes of a known field; those of a message are left for the next turn. */
static enum rg_code check_bytes(struct guard *g, const ProtobufCMessageDescriptor *d,
                                const ProtobufCFieldDescriptor *f, size_t n)
{
    if (f->type == PROTOBUF_C_TYPE_MESSAGE) {
        if (g->depth == DEPTH_MAX)
            return bad(g, d, f, "nested too deep");
        g->levels[g->depth++] = (struct level){.d = f->descriptor, .end = g->at + n};
        return RG_OK;
    }
    if (f->type == PROTOBUF_C_TYPE_STRING && n > 0 && memchr(g->p + g->at, 0, n))
        return bad(g, d, f, "a NUL in a text");
    if (f->type != PROTOBUF_C_TYPE_STRING && f->type != PROTOBUF_C_TYPE_BYTES)
        return check_packed(g, d, f, n);
    g->at += n;
    return RG_OK;
}

static enum rg_code check_field(struct guard *g)
{
    struct level *l = &g->levels[g->depth - 1];
    const ProtobufCMessageDescriptor *d = l->d;
    struct rg_wire_field w;

    if (g->left-- == 0)
        return rg_fail(g->err, RG_E_LIMIT, "%s: too many fields", d->short_name);
    if (!rg_wire_next(&w, g->p, &g->at, l->end))
        return rg_fail(g->err, RG_E_BAD_DATA, "%s: no field where one should begin",
                       d->short_name);

    const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field(d, w.number);

    if (w.type == RG_WIRE_BYTES && w.value > l->end - g->at)
        return rg_fail(g->err, RG_E_BAD_DATA, "%s.%s: %llu bytes where %zu are left",
                       d->short_name, f ? f->name : "(unknown)", (unsigned long long)w.value,
                       l->end - g->at);
    if (!f) {
        g->at += w.type == RG_WIRE_BYTES ? (size_t)w.value : 0;
        return RG_OK;
    }

    const bool is_packed = f->label == PROTOBUF_C_LABEL_REPEATED && w.type == RG_WIRE_BYTES;
    const enum rg_code code = check_once(g, l, f);

    if (code != RG_OK)
        return code;
    if (w.type != wire_type(f->type) && !is_packed)
        return bad(g, d, f, "another wire type");
    if (w.type == RG_WIRE_BYTES)
        return check_bytes(g, d, f, (size_t)w.value);
    return in_range(f->type, w.value) ? RG_OK : bad(g, d, f, "above the range of its type");
}

enum rg_code rg_wire_check(const ProtobufCMessageDescriptor *d, const uint8_t *p, size_t n,
                           uint32_t fields_max, struct rg_err *err)
{
    struct guard g = {.p = p, .left = fields_max, .depth = 1, .err = err};

    g.levels[0] = (struct level){.d = d, .end = n};
    while (g.depth > 0) {
        if (g.at == g.levels[g.depth - 1].end) {
            g.depth--;
            continue;
        }

        const enum rg_code code = check_field(&g);

        if (code != RG_OK)
            return code;
    }
    return RG_OK;
}

/* ---- protobuf-c ------------------------------------------------------------------------------ */

static void *pb_alloc(void *ud, size_t bytes)
{
    (void)ud;
    return rg_alloc(bytes ? bytes : 1);
}

static void pb_free(void *ud, void *p)
{
    (void)ud;
    rg_free(p);
}

static ProtobufCAllocator allocator = {.alloc = pb_alloc, .free = pb_free};

enum rg_code rg_wire_unpack(ProtobufCMessage **out, const ProtobufCMessageDescriptor *d,
                            const uint8_t *p, size_t n, uint32_t fields_max, struct rg_err *err)
{
    enum rg_code code;

    *out = NULL;
    code = rg_wire_check(d, p, n, fields_max, err);
    if (code != RG_OK)
        return code;
    *out = protobuf_c_message_unpack(d, &allocator, n, p);
    if (!*out)
        return rg_fail(err, RG_E_NOMEM, "%s: out of memory", d->short_name);
    return RG_OK;
}

void rg_wire_free(ProtobufCMessage *m)
{
    if (m)
        protobuf_c_message_free_unpacked(m, &allocator);
}

enum rg_code rg_wire_pack(struct rg_buf *out, const ProtobufCMessage *m, size_t bytes_max,
                          struct rg_err *err)
{
    const size_t n = protobuf_c_message_get_packed_size(m);
    enum rg_code code;

    if (n > bytes_max)
        return rg_fail(err, RG_E_LIMIT, "%s: %zu bytes, the limit is %zu",
                       m->descriptor->short_name, n, bytes_max);
    code = rg_buf_reserve(out, n, err);
    if (code != RG_OK)
        return code;
    out->len += protobuf_c_message_pack(m, (uint8_t *)out->data + out->len);
    out->data[out->len] = '\0';
    return RG_OK;
}

/* ---- fields ---------------------------------------------------------------------------------- */

static bool is_shown(uint32_t cp)
{
    if (cp < 0x20 || (cp >= 0x7F && cp <= 0x9F) || cp == 0xFFFFFFFFu)
        return false;
    return !(cp == 0x2028 || cp == 0x2029 || (cp >= 0x202A && cp <= 0x202E) ||
             (cp >= 0x2066 && cp <= 0x2069));
}

void rg_wire_text(char *dst, size_t size, const char *src)
{
    size_t left = strlen(src), to = 0;

    while (left > 0) {
        uint32_t cp;
        const size_t n = rg_utf8_next(src, left, &cp);
        const bool keep = is_shown(cp);
        const size_t need = keep ? n : 1;

        if (need >= size - to)
            break;
        memcpy(dst + to, keep ? src : "?", need);
        to += need;
        src += n;
        left -= n;
    }
    dst[to] = '\0';
}

void rg_wire_reason(char dst[RG_REASON_BYTES], const char *src, bool must_be_there)
{
    rg_wire_text(dst, RG_REASON_BYTES, must_be_there && src[0] == '\0' ? "no reason given" : src);
}

static bool is_id_char(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
           c == '.' || c == '_' || c == '-';
}

enum rg_code rg_wire_id(char dst[RG_LIMIT_NODE_ID_BYTES + 1], const char *src, const char *name,
                        struct rg_err *err)
{
    const size_t n = strlen(src);
    char shown[RG_SHORT_TEXT_BYTES];
    bool is_id = n >= 1 && n <= RG_LIMIT_NODE_ID_BYTES;

    for (size_t i = 0; is_id && i < n; i++)
        is_id = is_id_char(src[i]);
    if (!is_id) {
        rg_wire_text(shown, sizeof shown, src);
        return rg_fail(err, RG_E_BAD_DATA,
                       "%s: '%s' is no node id (1 to %u of A-Z a-z 0-9 . _ -)", name, shown,
                       RG_LIMIT_NODE_ID_BYTES);
    }
    memcpy(dst, src, n + 1);
    return RG_OK;
}

enum rg_code rg_wire_epoch(struct rg_epoch *out, const Renga__V1__Epoch *e, const char *name,
                           struct rg_err *err)
{
    if (!e)
        return rg_fail(err, RG_E_BAD_DATA, "%s: absent", name);
    if (e->boot == 0 || e->n == 0)
        return rg_fail(err, RG_E_BAD_DATA, "%s.%s: absent or 0", name, e->n ? "boot" : "n");
    *out = (struct rg_epoch){.boot = e->boot, .n = e->n};
    return RG_OK;
}

enum rg_code rg_wire_digest(struct rg_digest *out, ProtobufCBinaryData b, const char *name,
                            struct rg_err *err)
{
    if (b.len != RG_DIGEST_BYTES)
        return rg_fail(err, RG_E_BAD_DATA, "%s: %zu bytes, a digest has %d", name, b.len,
                       RG_DIGEST_BYTES);
    memcpy(out->bytes, b.data, RG_DIGEST_BYTES);
    return RG_OK;
}

enum rg_code rg_wire_range(uint64_t value, uint64_t least, uint64_t most, const char *name,
                           struct rg_err *err)
{
    if (value < least || value > most)
        return rg_fail(err, RG_E_BAD_DATA, "%s: %llu is not in %llu..%llu", name,
                       (unsigned long long)value, (unsigned long long)least,
                       (unsigned long long)most);
    return RG_OK;
}

enum rg_code rg_wire_failure(enum rg_code *code, char error[RG_REASON_BYTES], uint32_t code_in,
                             const char *error_in, const char *name, struct rg_err *err)
{
    if (code_in > RG_E_INTERNAL)
        return rg_fail(err, RG_E_BAD_DATA, "%s.error_code: %u is not in 0..%d", name, code_in,
                       RG_E_INTERNAL);
    if ((code_in == RG_OK) != (error_in[0] == '\0'))
        return rg_fail(err, RG_E_BAD_DATA, "%s.%s: absent, but there is %s", name,
                       code_in == RG_OK ? "error_code" : "error",
                       code_in == RG_OK ? "an error" : "an error_code");
    *code = (enum rg_code)code_in;
    rg_wire_text(error, RG_REASON_BYTES, error_in);
    return RG_OK;
}
