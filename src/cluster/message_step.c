/* message_step.c - steps, whose rows never pass through protobuf-c, and the opening of their
 * stream. */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "cluster/message.h"
#include "cluster/message_wire.h"

enum {
    TAG_STEPS_STEP = 2 << 3 | RG_WIRE_BYTES,
    TAG_EPOCH = 1 << 3 | RG_WIRE_BYTES,
    TAG_EPOCH_BOOT = 1 << 3 | RG_WIRE_FIXED64,
    TAG_EPOCH_N = 2 << 3 | RG_WIRE_VARINT,
    TAG_SEQ = 2 << 3 | RG_WIRE_VARINT,
    TAG_SEQS = 3 << 3 | RG_WIRE_BYTES,
    TAG_ERROR = 4 << 3 | RG_WIRE_BYTES,
    TAG_ERROR_CODE = 5 << 3 | RG_WIRE_VARINT,
    TAG_ROWS = 15 << 3 | RG_WIRE_BYTES,
    TAG_N_ROWS = 1 << 3 | RG_WIRE_VARINT,
    TAG_POSITION = 2 << 3 | RG_WIRE_VARINT,
    TAG_BLOCKS = 3 << 3 | RG_WIRE_BYTES,

    STEP_FIELD = 2,
    ROWS_FIELD = 15,
    FIELDS_MORE = 64,     /* fields of a step besides its sequences, those of later versions too */
    FIELDS_PER_SEQ = 8,
    BYTES_MORE = 1024,    /* all of a step's head besides its sequences */
    BYTES_PER_SEQ = 48    /* a sequence's numbers and lengths, without its blocks */
};

static size_t varint_bytes(uint64_t v)
{
    size_t n = 1;

    while (v >= 0x80) {
        v >>= 7;
        n++;
    }
    return n;
}

size_t rg_step_head_bytes_max(const struct rg_step_limits *l)
{
    const uint64_t blocks = (l->context + (uint64_t)l->block_tokens - 1) / l->block_tokens;
    const uint64_t seq = BYTES_PER_SEQ + blocks * varint_bytes(l->n_blocks);
    const uint64_t all = BYTES_MORE + l->parallel * seq;

    return all < RG_LIMIT_STEP_HEAD_BYTES ? (size_t)all : RG_LIMIT_STEP_HEAD_BYTES;
}

size_t rg_step_bytes_max(const struct rg_step_limits *l)
{
    return rg_step_head_bytes_max(l) + (size_t)l->max_rows * l->hidden * sizeof(float);
}

/* ---- encoding -------------------------------------------------------------------------------- */

/* The same bytes as protobuf-c packs, without its arrays of pointers: a step is made for every
 * token. */
struct sizes {
    size_t epoch, error, step;
};

static size_t blocks_bytes(const struct rg_step_seq *s)
{
    size_t n = 0;

    for (uint32_t i = 0; i < s->n_blocks; i++)
        n += varint_bytes(s->blocks[i]);
    return n;
}

static size_t number_bytes(uint64_t v)
{
    return v ? 1 + varint_bytes(v) : 0;
}

static size_t field_bytes(size_t n)
{
    return 1 + varint_bytes(n) + n;
}

static size_t seq_bytes(const struct rg_step_seq *s)
{
    return number_bytes(s->n_rows) + number_bytes(s->position) +
           (s->n_blocks ? field_bytes(blocks_bytes(s)) : 0);
}

static struct sizes measure(const struct rg_step_head *h, const char *error, size_t rows_bytes)
{
    struct sizes z = {.epoch = (h->epoch.boot ? 9 : 0) + number_bytes(h->epoch.n),
                      .error = strlen(error)};

    z.step = field_bytes(z.epoch) + number_bytes(h->seq) + (z.error ? field_bytes(z.error) : 0) +
             number_bytes((uint64_t)h->code) + (rows_bytes ? field_bytes(rows_bytes) : 0);
    for (uint32_t i = 0; i < h->n_seqs; i++)
        z.step += field_bytes(seq_bytes(&h->seqs[i]));
    return z;
}

/* The room was reserved. */
static void put_varint(struct rg_buf *out, uint64_t v)
{
    out->len += rg_wire_put_varint((uint8_t *)out->data + out->len, v);
}

static void put_number(struct rg_buf *out, unsigned tag, uint64_t v)
{
    if (v) {
        put_varint(out, tag);
        put_varint(out, v);
    }
}

static void put_bytes(struct rg_buf *out, const void *p, size_t n)
{
    memcpy(out->data + out->len, p, n);
    out->len += n;
}

static void put_seq(struct rg_buf *out, const struct rg_step_seq *s)
{
    put_varint(out, TAG_SEQS);
    put_varint(out, seq_bytes(s));
    put_number(out, TAG_N_ROWS, s->n_rows);
    put_number(out, TAG_POSITION, s->position);
    if (s->n_blocks == 0)
        return;
    put_varint(out, TAG_BLOCKS);
    put_varint(out, blocks_bytes(s));
    for (uint32_t i = 0; i < s->n_blocks; i++)
        put_varint(out, s->blocks[i]);
}

static void put_epoch(struct rg_buf *out, struct rg_epoch e, size_t n)
{
    put_varint(out, TAG_EPOCH);
    put_varint(out, n);
    if (e.boot) {
        put_varint(out, TAG_EPOCH_BOOT);
        for (unsigned shift = 0; shift < 64; shift += 8)
            out->data[out->len++] = (char)(uint8_t)(e.boot >> shift);
    }
    put_number(out, TAG_EPOCH_N, e.n);
}

enum rg_code rg_step_encode(struct rg_buf *out, const struct rg_step_head *h, size_t rows_bytes,
                            struct rg_err *err)
{
    char error[RG_REASON_BYTES];
    struct sizes z;
    size_t head, begin;
    enum rg_code code;

    rg_wire_reason(error, h->error, h->code != RG_OK);
    assert(h->code != RG_OK || error[0] == '\0');
    z = measure(h, error, rows_bytes);
    head = 1 + varint_bytes(z.step) + z.step - rows_bytes;
    if (head > RG_LIMIT_STEP_HEAD_BYTES)
        return rg_fail(err, RG_E_LIMIT, "Step: %zu bytes before its rows, the limit is %u", head,
                       RG_LIMIT_STEP_HEAD_BYTES);
    code = rg_buf_reserve(out, head, err);
    if (code != RG_OK)
        return code;
    begin = out->len;
    put_varint(out, TAG_STEPS_STEP);
    put_varint(out, z.step);
    put_epoch(out, h->epoch, z.epoch);
    put_number(out, TAG_SEQ, h->seq);
    for (uint32_t i = 0; i < h->n_seqs; i++)
        put_seq(out, &h->seqs[i]);
    if (z.error) {
        put_varint(out, TAG_ERROR);
        put_varint(out, z.error);
        put_bytes(out, error, z.error);
    }
    put_number(out, TAG_ERROR_CODE, (uint64_t)h->code);
    if (rows_bytes) {
        put_varint(out, TAG_ROWS);
        put_varint(out, rows_bytes);
    }
    assert(out->len == begin + head);
    out->data[out->len] = '\0';
    return RG_OK;
}

/* ---- decoding -------------------------------------------------------------------------------- */

/* Where the parts of a message are. */
struct spans {
    size_t head_begin, head_end; /* the Step's fields before its rows */
    size_t rows_begin;           /* to `total` */
};

/* Reads a field of a message of `total` bytes of which n are here, and steps over it, unless it is
 * the one that must reach to the end. */
static enum rg_code walk(struct rg_wire_field *f, uint32_t last_field, const uint8_t *p, size_t *at,
                         size_t n, size_t total, struct rg_err *err)
{
    if (!rg_wire_next(f, p, at, n))
        return rg_fail(err, n < total ? RG_E_LIMIT : RG_E_BAD_DATA,
                       "Step: no field where one should begin, at byte %zu", *at);
    if (f->number == last_field) {
        if (f->type != RG_WIRE_BYTES || f->value != total - *at)
            return rg_fail(err, RG_E_BAD_DATA, "%s does not reach to the end of the message",
                           last_field == STEP_FIELD ? "StepsMessage.step" : "Step.rows");
        return RG_OK;
    }
    if (f->type == RG_WIRE_BYTES) {
        if (f->value > total - *at)
            return rg_fail(err, RG_E_BAD_DATA, "Step: field %u has %llu bytes where %zu are left",
                           f->number, (unsigned long long)f->value, total - *at);
        *at += (size_t)f->value;
    }
    if (*at > n)
        return rg_fail(err, RG_E_LIMIT, "Step: more than %zu bytes before its rows", n);
    return RG_OK;
}

static enum rg_code find_spans(struct spans *out, const uint8_t *p, size_t n, size_t total,
                               uint32_t fields_max, struct rg_err *err)
{
    struct rg_wire_field f = {0};
    uint32_t left = fields_max;
    size_t at = 0;

    while (f.number != STEP_FIELD) {
        enum rg_code code;

        if (at == total || left-- == 0)
            return rg_fail(err, RG_E_BAD_DATA, "StepsMessage.step: absent");
        code = walk(&f, STEP_FIELD, p, &at, n, total, err);
        if (code == RG_OK && f.number == 1)
            code = rg_fail(err, RG_E_BAD_DATA, "StepsMessage.open: where a step belongs");
        if (code != RG_OK)
            return code;
    }
    *out = (struct spans){.head_begin = at, .head_end = at, .rows_begin = total};
    while (at < total) {
        enum rg_code code;

        if (left-- == 0)
            return rg_fail(err, RG_E_LIMIT, "Step: too many fields");
        code = walk(&f, ROWS_FIELD, p, &at, n, total, err);
        if (code != RG_OK)
            return code;
        if (f.number == ROWS_FIELD) {
            out->rows_begin = at;
            return RG_OK;
        }
        out->head_end = at;
    }
    return RG_OK;
}

static enum rg_code check_seq(const Renga__V1__SeqRows *s, const struct rg_step_limits *l,
                              uint32_t rows_left, struct rg_err *err)
{
    enum rg_code code = rg_wire_range(s->n_rows, 1, rows_left, "Step.seqs.n_rows", err);

    if (code == RG_OK)
        code = rg_wire_range((uint64_t)s->position + s->n_rows, 1, l->context,
                             "Step.seqs.position: its last row", err);
    if (code != RG_OK)
        return code;

    const uint64_t end = (uint64_t)s->position + s->n_rows;
    const uint64_t need = (end + l->block_tokens - 1) / l->block_tokens;

    code = rg_wire_range(s->n_blocks, need, need, "Step.seqs.blocks: their count", err);
    for (size_t i = 0; code == RG_OK && i < s->n_blocks; i++)
        code = rg_wire_range(s->blocks[i], 0, l->n_blocks - 1, "Step.seqs.blocks", err);
    if (code == RG_OK)
        code = rg_wire_range(s->state_slot_in, 0, 0, "Step.seqs.state_slot_in", err);
    return code == RG_OK ? rg_wire_range(s->state_slot_out, 0, 0, "Step.seqs.state_slot_out", err)
                         : code;
}

static enum rg_code check_step(struct rg_step_head *out, const Renga__V1__Step *s,
                               const struct rg_step_limits *l, size_t rows_bytes,
                               struct rg_err *err)
{
    enum rg_code code = rg_wire_epoch(&out->epoch, s->epoch, "Step.epoch", err);

    if (code == RG_OK)
        code = rg_wire_range(s->seq, 1, UINT64_MAX, "Step.seq", err);
    if (code == RG_OK)
        code = rg_wire_failure(&out->code, out->error, s->error_code, s->error, "Step", err);
    if (code == RG_OK)
        code = rg_wire_range(s->n_seqs, 1, l->parallel, "Step.seqs", err);
    for (size_t i = 0; code == RG_OK && i < s->n_seqs; i++) {
        code = check_seq(s->seqs[i], l, l->max_rows - out->n_rows, err);
        out->n_rows += code == RG_OK ? s->seqs[i]->n_rows : 0;
    }
    if (code != RG_OK)
        return code;

    const size_t want = out->code == RG_OK ? (size_t)out->n_rows * l->hidden * sizeof(float) : 0;

    out->seq = s->seq;
    return rg_wire_range(rows_bytes, want, want, "Step.rows: bytes", err);
}

/* One block of memory: the sequences, then the blocks of all of them. */
static enum rg_code take_seqs(struct rg_step_head *out, const Renga__V1__Step *s,
                              struct rg_err *err)
{
    size_t n_blocks = 0;
    uint32_t *blocks;

    for (size_t i = 0; i < s->n_seqs; i++)
        n_blocks += s->seqs[i]->n_blocks;
    out->seqs = rg_alloc(s->n_seqs * sizeof *out->seqs + n_blocks * sizeof *blocks);
    if (!out->seqs)
        return rg_fail(err, RG_E_NOMEM, "Step: out of memory");
    out->n_seqs = (uint32_t)s->n_seqs;
    blocks = (uint32_t *)(void *)(out->seqs + s->n_seqs);
    for (size_t i = 0; i < s->n_seqs; i++) {
        const Renga__V1__SeqRows *q = s->seqs[i];

        out->seqs[i] = (struct rg_step_seq){.n_rows = q->n_rows,
                                            .position = q->position,
                                            .blocks = blocks,
                                            .n_blocks = (uint32_t)q->n_blocks};
        memcpy(blocks, q->blocks, q->n_blocks * sizeof *blocks);
        blocks += q->n_blocks;
    }
    return RG_OK;
}

enum rg_code rg_step_decode(struct rg_step_head *out, size_t *rows_at, const uint8_t *p, size_t n,
                            size_t total, const struct rg_step_limits *limits, struct rg_err *err)
{
    const uint32_t fields_max = FIELDS_MORE + FIELDS_PER_SEQ * limits->parallel;
    ProtobufCMessage *m = NULL;
    struct spans at = {0};
    enum rg_code code;

    assert(n <= total);
    *out = (struct rg_step_head){0};
    if (total > rg_step_bytes_max(limits))
        return rg_fail(err, RG_E_LIMIT, "StepsMessage: %zu bytes, the limit is %zu", total,
                       rg_step_bytes_max(limits));
    code = find_spans(&at, p, n, total, fields_max, err);
    if (code != RG_OK)
        return code;
    if (at.head_end > rg_step_head_bytes_max(limits))
        return rg_fail(err, RG_E_LIMIT, "Step: %zu bytes before its rows, the limit is %zu",
                       at.head_end, rg_step_head_bytes_max(limits));
    code = rg_wire_unpack(&m, &renga__v1__step__descriptor, p + at.head_begin,
                          at.head_end - at.head_begin, fields_max, err);
    if (code == RG_OK)
        code = check_step(out, (const Renga__V1__Step *)m, limits, total - at.rows_begin, err);
    if (code == RG_OK)
        code = take_seqs(out, (const Renga__V1__Step *)m, err);
    rg_wire_free(m);
    if (code != RG_OK)
        *out = (struct rg_step_head){0};
    *rows_at = at.rows_begin;
    return code;
}

void rg_step_head_free(struct rg_step_head *h)
{
    rg_free(h->seqs);
    *h = (struct rg_step_head){0};
}

/* ---- the opening ----------------------------------------------------------------------------- */

enum rg_code rg_steps_open_encode(struct rg_buf *out, const struct rg_steps_open *o,
                                  struct rg_err *err)
{
    struct rg_steps_open copy = *o;
    Renga__V1__Epoch epoch = RENGA__V1__EPOCH__INIT;
    Renga__V1__StepsOpen to = RENGA__V1__STEPS_OPEN__INIT;
    Renga__V1__StepsMessage all = RENGA__V1__STEPS_MESSAGE__INIT;

    epoch.boot = o->epoch.boot;
    epoch.n = o->epoch.n;
    to.epoch = &epoch;
    to.node_id = copy.node_id;
    all.kind_case = RENGA__V1__STEPS_MESSAGE__KIND_OPEN;
    all.open = &to;
    return rg_wire_pack(out, &all.base, RG_LIMIT_CONTROL_BYTES, err);
}

enum rg_code rg_steps_open_decode(struct rg_steps_open *out, const uint8_t *p, size_t n,
                                  struct rg_err *err)
{
    ProtobufCMessage *m = NULL;
    const Renga__V1__StepsMessage *s;
    enum rg_code code;

    *out = (struct rg_steps_open){0};
    if (n > RG_LIMIT_CONTROL_BYTES)
        return rg_fail(err, RG_E_LIMIT, "StepsOpen: %zu bytes, the limit is %u", n,
                       RG_LIMIT_CONTROL_BYTES);
    code = rg_wire_unpack(&m, &renga__v1__steps_message__descriptor, p, n, FIELDS_MORE, err);
    if (code != RG_OK)
        return code;
    s = (const Renga__V1__StepsMessage *)m;
    if (s->kind_case != RENGA__V1__STEPS_MESSAGE__KIND_OPEN)
        code = rg_fail(err, RG_E_BAD_DATA, "StepsMessage.open: absent");
    if (code == RG_OK)
        code = rg_wire_epoch(&out->epoch, s->open->epoch, "StepsOpen.epoch", err);
    if (code == RG_OK)
        code = rg_wire_id(out->node_id, s->open->node_id, "StepsOpen.node_id", err);
    rg_wire_free(m);
    return code;
}
