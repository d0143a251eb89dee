/* st_header.c - one safetensors header to tensor table entries.
 *
 * Nothing of the header is believed before it is checked: the JSON is read token by token, every
 * number has its bound, and the ranges of all tensors must tile the data exactly, so that no byte
 * of the file is outside a tensor or in two of them (safetensors/src/tensor.rs, validate). */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "checkpoint/st_table.h"

/* Names come from the file: they are cut in messages so that the numbers behind them fit. */
#define NAME_FORMAT "%.160s"

enum { SEEN_DTYPE = 1, SEEN_SHAPE = 2, SEEN_OFFSETS = 4, SEEN_ALL = 7 };

struct header {
    struct rg_st_table *table;
    const struct rg_st_source *source;
    struct rg_json_reader reader;
    struct rg_buf text; /* a key or string with its escapes undone */
    size_t first;       /* of the table's tensors: the first of this file */
    bool seen_metadata;
    const char *name; /* of the tensor that is being read */
    struct rg_err *err;
};

struct range {
    uint64_t begin, end;
    size_t tensor;
};

static enum rg_code next(struct header *h, enum rg_json_token *token)
{
    const enum rg_code code = rg_json_read(&h->reader, token, h->err);

    if (code == RG_E_LIMIT)
        return rg_fail(h->err, RG_E_BAD_DATA, "%s: the header nests deeper than 3 levels",
                       h->source->path);
    if (code)
        return rg_fail_in(h->err, code, "%s: the header is not valid JSON", h->source->path);
    return RG_OK;
}

static bool token_is(const struct header *h, const char *word)
{
    return h->reader.token_len == strlen(word) &&
           memcmp(h->reader.token_text, word, h->reader.token_len) == 0;
}

static enum rg_code expect(struct header *h, enum rg_json_token wanted, const char *what)
{
    enum rg_json_token token;
    const enum rg_code code = next(h, &token);

    if (code)
        return code;
    if (token != wanted)
        return rg_fail(h->err, RG_E_BAD_DATA, "%s: tensor '" NAME_FORMAT "': %s expected",
                       h->source->path, h->name, what);
    return RG_OK;
}

bool rg_st_plain_number(const char *text, size_t len, uint64_t *out)
{
    uint64_t v = 0;

    if (len == 0 || len > 16 || (len > 1 && text[0] == '0'))
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        v = v * 10 + (uint64_t)(text[i] - '0');
    }
    if (v > (UINT64_C(1) << 53))
        return false;
    *out = v;
    return true;
}

/* Reads "[1,2]" into out; the array's begin token is still to come. */
static enum rg_code read_numbers(struct header *h, const char *key, uint64_t *out, uint32_t most,
                                 uint32_t *count)
{
    enum rg_json_token token;
    enum rg_code code = expect(h, RG_JSON_T_ARRAY_BEGIN, "an array");

    if (code)
        return code;
    *count = 0;
    for (;;) {
        code = next(h, &token);
        if (code)
            return code;
        if (token == RG_JSON_T_ARRAY_END)
            return RG_OK;
        if (token != RG_JSON_T_NUMBER ||
            !rg_st_plain_number(h->reader.token_text, h->reader.token_len, &out[*count]))
            return rg_fail(h->err, RG_E_BAD_DATA,
                           "%s: tensor '" NAME_FORMAT "': %s holds '%.*s', plain digits up to 2^53 "
                           "expected",
                           h->source->path, h->name, key,
                           (int)(h->reader.token_len < 40 ? h->reader.token_len : 40),
                           h->reader.token_text);
        if (++*count == most)
            break;
    }
    code = next(h, &token);
    if (code)
        return code;
    if (token != RG_JSON_T_ARRAY_END)
        return rg_fail(h->err, RG_E_BAD_DATA,
                       "%s: tensor '" NAME_FORMAT "': %s has more than %" PRIu32 " numbers",
                       h->source->path, h->name, key, most);
    return RG_OK;
}

static enum rg_code read_dtype(struct header *h, struct rg_tensor_info *t, uint32_t *bits)
{
    const enum rg_code code = expect(h, RG_JSON_T_STRING, "a dtype string");

    if (code)
        return code;
    if (!rg_dtype_parse(h->reader.token_text, h->reader.token_len, &t->dtype, bits))
        return rg_fail(h->err, RG_E_BAD_DATA, "%s: tensor '" NAME_FORMAT "': unknown dtype '%.*s'",
                       h->source->path, h->name,
                       (int)(h->reader.token_len < 32 ? h->reader.token_len : 32),
                       h->reader.token_text);
    return RG_OK;
}

/* Sets t->bytes from shape and dtype width, every product checked. */
static enum rg_code measure(struct header *h, struct rg_tensor_info *t, uint32_t bits)
{
    uint64_t total = bits;

    for (uint32_t i = 0; i < t->rank; i++) {
        if (__builtin_mul_overflow(total, t->shape[i], &total))
            return rg_fail(h->err, RG_E_BAD_DATA,
                           "%s: tensor '" NAME_FORMAT "': the product of its shape overflows at "
                           "dimension %" PRIu32 " (%" PRIu64 ")",
                           h->source->path, h->name, i, t->shape[i]);
    }
    if (total % 8 != 0)
        return rg_fail(h->err, RG_E_BAD_DATA,
                       "%s: tensor '" NAME_FORMAT "': %" PRIu64 " bits are not whole bytes",
                       h->source->path, h->name, total);
    t->bytes = total / 8;
    return RG_OK;
}

static enum rg_code place(struct header *h, struct rg_tensor_info *t, const uint64_t range[2])
{
    const struct rg_st_source *s = h->source;

    if (range[0] > range[1] || range[1] > s->data_bytes)
        return rg_fail(h->err, RG_E_BAD_DATA,
                       "%s: tensor '" NAME_FORMAT "': data_offsets [%" PRIu64 ", %" PRIu64
                       "] are not inside the file's %" PRIu64 " data bytes: it is cut short or "
                       "damaged, download it again",
                       s->path, h->name, range[0], range[1], s->data_bytes);
    if (range[1] - range[0] != t->bytes)
        return rg_fail(h->err, RG_E_BAD_DATA,
                       "%s: tensor '" NAME_FORMAT "': %" PRIu64
                       " bytes in data_offsets, its shape and dtype %s need %" PRIu64,
                       s->path, h->name, range[1] - range[0], rg_dtype_name(t->dtype), t->bytes);
    t->offset = s->data_begin + range[0];
    return RG_OK;
}

/* One key of a tensor's object; `seen` remembers which have been there. */
static enum rg_code read_field(struct header *h, struct rg_tensor_info *t, uint32_t *bits,
                               uint64_t range[2], unsigned *seen)
{
    const unsigned field = token_is(h, "dtype")          ? SEEN_DTYPE
                           : token_is(h, "shape")        ? SEEN_SHAPE
                           : token_is(h, "data_offsets") ? SEEN_OFFSETS
                                                         : 0;
    uint32_t count = 0;

    if (field == 0 || (*seen & field))
        return rg_fail(h->err, RG_E_BAD_DATA, "%s: tensor '" NAME_FORMAT "': key '%.*s' %s",
                       h->source->path, h->name,
                       (int)(h->reader.token_len < 64 ? h->reader.token_len : 64),
                       h->reader.token_text, field ? "is there twice" : "is unknown");
    *seen |= field;
    if (field == SEEN_DTYPE)
        return read_dtype(h, t, bits);
    if (field == SEEN_SHAPE)
        return read_numbers(h, "shape", t->shape, RG_LIMIT_ST_RANK, &t->rank);

    const enum rg_code code = read_numbers(h, "data_offsets", range, 2, &count);

    if (code)
        return code;
    if (count != 2)
        return rg_fail(h->err, RG_E_BAD_DATA,
                       "%s: tensor '" NAME_FORMAT "': data_offsets has %" PRIu32
                       " numbers, 2 expected",
                       h->source->path, h->name, count);
    return RG_OK;
}

static enum rg_code read_tensor(struct header *h, struct rg_tensor_info *t)
{
    enum rg_json_token token;
    unsigned seen = 0;
    uint32_t bits = 0;
    uint64_t range[2] = {0, 0};
    enum rg_code code = expect(h, RG_JSON_T_OBJECT_BEGIN, "an object");

    while (!code) {
        code = next(h, &token);
        if (code || token == RG_JSON_T_OBJECT_END)
            break;
        code = read_field(h, t, &bits, range, &seen);
    }
    if (code)
        return code;
    if (seen != SEEN_ALL)
        return rg_fail(h->err, RG_E_BAD_DATA, "%s: tensor '" NAME_FORMAT "': no '%s'",
                       h->source->path, h->name,
                       !(seen & SEEN_DTYPE)   ? "dtype"
                       : !(seen & SEEN_SHAPE) ? "shape"
                                              : "data_offsets");
    code = measure(h, t, bits);
    return code ? code : place(h, t, range);
}

/* The current key with its escapes undone, kept in the table's arena. */
static enum rg_code keep_name(struct header *h, const char **out)
{
    const char *text = h->reader.token_text;
    size_t len = h->reader.token_len;

    if (h->reader.token_escaped) {
        rg_buf_clear(&h->text);
        const enum rg_code code = rg_json_unescape(&h->reader, &h->text, h->err);

        if (code)
            return rg_fail_in(h->err, code, "%s: a name in the header", h->source->path);
        text = h->text.data;
        len = h->text.len;
    }
    if (len > RG_LIMIT_ST_NAME_BYTES)
        return rg_fail(h->err, RG_E_LIMIT,
                       "%s: tensor '%.60s...': a name of %zu bytes, at most %u are allowed",
                       h->source->path, h->reader.token_text, len, RG_LIMIT_ST_NAME_BYTES);
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return rg_fail(h->err, RG_E_BAD_DATA,
                           "%s: a tensor name has a control character (0x%02x) at byte %zu",
                           h->source->path, (unsigned)(unsigned char)text[i], i);
    }
    *out = rg_arena_strndup(&h->table->arena, text, len);
    if (!*out)
        return rg_fail(h->err, RG_E_NOMEM, "%s: no memory for a tensor name", h->source->path);
    return RG_OK;
}

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* "__metadata__": null, or an object of strings without duplicates; its content is not used. */
static enum rg_code read_metadata(struct header *h)
{
    enum rg_json_token token;
    const char **keys = NULL;
    size_t n = 0, capacity = 0;

    h->name = "__metadata__";
    if (h->seen_metadata)
        return rg_fail(h->err, RG_E_BAD_DATA, "%s: '__metadata__' is there twice", h->source->path);
    h->seen_metadata = true;

    enum rg_code code = next(h, &token);

    if (!code && token == RG_JSON_T_NULL)
        return RG_OK;
    if (!code && token != RG_JSON_T_OBJECT_BEGIN)
        code =
            rg_fail(h->err, RG_E_BAD_DATA, "%s: '__metadata__' is not an object", h->source->path);
    while (!code) {
        code = next(h, &token);
        if (code || token == RG_JSON_T_OBJECT_END)
            break;
        code = rg_grow((void **)&keys, &capacity, n + 1, sizeof keys[0], h->err);
        if (!code)
            code = keep_name(h, &keys[n]);
        if (!code)
            code = expect(h, RG_JSON_T_STRING, "a string for every key");
        n++;
    }
    if (!code && n > 1) {
        qsort(keys, n, sizeof keys[0], compare_strings);
        for (size_t i = 1; i < n && !code; i++) {
            if (strcmp(keys[i - 1], keys[i]) == 0)
                code =
                    rg_fail(h->err, RG_E_BAD_DATA, "%s: '__metadata__': key '%.64s' is there twice",
                            h->source->path, keys[i]);
        }
    }
    rg_free(keys);
    return code;
}

static enum rg_code add_tensor(struct header *h)
{
    struct rg_st_table *table = h->table;
    struct rg_tensor_info *t;
    enum rg_code code;

    if (table->n_tensors - h->first >= RG_LIMIT_ST_TENSORS)
        return rg_fail(h->err, RG_E_LIMIT, "%s: more than %u tensors in one file", h->source->path,
                       RG_LIMIT_ST_TENSORS);
    code = rg_grow((void **)&table->tensors, &table->capacity, table->n_tensors + 1,
                   sizeof table->tensors[0], h->err);
    if (code)
        return code;
    t = &table->tensors[table->n_tensors];
    memset(t, 0, sizeof *t);
    t->file = h->source->file;
    code = keep_name(h, &t->name);
    if (code)
        return code;
    h->name = t->name;
    table->n_tensors++;
    return read_tensor(h, t);
}

static enum rg_code read_header(struct header *h)
{
    enum rg_json_token token;
    enum rg_code code = next(h, &token);

    while (!code) {
        code = next(h, &token);
        if (code || token == RG_JSON_T_OBJECT_END)
            break;
        code = token_is(h, "__metadata__") ? read_metadata(h) : add_tensor(h);
    }
    if (code)
        return code;
    for (size_t at = h->reader.at; at < h->reader.len; at++) {
        if (h->reader.text[at] != ' ')
            return rg_fail(h->err, RG_E_BAD_DATA,
                           "%s: byte 0x%02x behind the header's JSON at header byte %zu, only "
                           "spaces may stand there",
                           h->source->path, (unsigned)(unsigned char)h->reader.text[at], at);
    }
    return next(h, &token);
}

static int compare_ranges(const void *a, const void *b)
{
    const struct range *x = a, *y = b;

    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

/* Rule 7: in order of offset each tensor begins where the one before ends, to the file's end. */
static enum rg_code check_tiling(const struct header *h)
{
    const struct rg_st_source *s = h->source;
    const size_t n = h->table->n_tensors - h->first;
    struct range *ranges = rg_calloc(n ? n : 1, sizeof ranges[0]);
    uint64_t at = 0;
    enum rg_code code = RG_OK;

    if (!ranges)
        return rg_fail(h->err, RG_E_NOMEM, "%s: no memory for %zu ranges", s->path, n);
    for (size_t i = 0; i < n; i++) {
        const struct rg_tensor_info *t = &h->table->tensors[h->first + i];

        ranges[i].begin = t->offset - s->data_begin;
        ranges[i].end = ranges[i].begin + t->bytes;
        ranges[i].tensor = h->first + i;
    }
    qsort(ranges, n, sizeof ranges[0], compare_ranges);
    for (size_t i = 0; i < n && !code; i++) {
        if (ranges[i].begin != at)
            code = rg_fail(h->err, RG_E_BAD_DATA,
                           "%s: tensor '" NAME_FORMAT "' begins at data byte %" PRIu64
                           ", %s byte %" PRIu64 " where the one before it ends",
                           s->path, h->table->tensors[ranges[i].tensor].name, ranges[i].begin,
                           ranges[i].begin > at ? "leaving a gap after" : "overlapping up to", at);
        at = ranges[i].end;
    }
    if (!code && at != s->data_bytes)
        code = rg_fail(h->err, RG_E_BAD_DATA,
                       "%s: the last tensor ends at data byte %" PRIu64 ", the file has %" PRIu64
                       " data bytes",
                       s->path, at, s->data_bytes);
    rg_free(ranges);
    return code;
}

enum rg_code rg_st_parse_header(struct rg_st_table *t, const struct rg_st_source *source,
                                const char *json, size_t len, struct rg_err *err)
{
    struct header h = {.table = t, .source = source, .first = t->n_tensors, .err = err};
    enum rg_code code;

    if (len == 0 || json[0] != '{')
        return rg_fail(err, RG_E_BAD_DATA,
                       "%s: the header does not begin with '{'; this is not a safetensors file",
                       source->path);
    rg_json_reader_init(&h.reader, json, len, 3);
    rg_buf_init(&h.text, RG_LIMIT_ST_HEADER_BYTES);
    code = read_header(&h);
    if (!code)
        code = check_tiling(&h);
    rg_buf_free(&h.text);
    return code;
}
