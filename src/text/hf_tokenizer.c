/* hf_tokenizer.c - tokenizer.json, read in two passes: first where its parts are, then the parts in
 * the order in which they need each other. */
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/mem.h"
#include "text/tokenizer_impl.h"

enum { JSON_DEPTH = 16, MERGES_PER_TOKEN_MAX = 16 };

/* A value inside the document; text NULL: absent. */
struct part {
    const char *name;
    const char *text;
    size_t      len;
};

struct loader {
    struct rg_tokenizer *t;
    struct rg_token_map  foreign; /* vocabulary entries that are not in ByteLevel's characters */
    struct rg_buf        key;     /* an unescaped key or string */
    struct rg_buf        bytes;   /* the bytes that it stands for */
    size_t               n_vocab; /* entries of model.vocab */
    int32_t              next_added;
};

/* The value behind a key begins after its colon. */
static size_t value_begin(const struct rg_json_reader *r)
{
    size_t at = r->at;

    while (at < r->len && strchr(" \t\r\n:", r->text[at]))
        at++;
    return at;
}

static enum rg_code take_part(struct rg_json_reader *r, struct part *p, struct rg_err *err)
{
    const size_t begin = value_begin(r);
    enum rg_code code;

    if (p->text)
        return rg_fail(err, RG_E_BAD_DATA, "%s is there twice", p->name);
    code = rg_json_skip(r, err);
    p->text = r->text + begin;
    p->len = r->at - begin;
    return code;
}

/* Finds the named values of an object; others are checked and skipped. */
static enum rg_code find_parts(const char *text, size_t len, struct part *parts, size_t n,
                               struct rg_err *err)
{
    struct rg_json_reader r;
    enum rg_json_token    token;
    enum rg_code          code;

    rg_json_reader_init(&r, text, len, JSON_DEPTH);
    code = rg_json_read(&r, &token, err);
    if (!code && token != RG_JSON_T_OBJECT_BEGIN)
        return rg_fail(err, RG_E_BAD_DATA, "not a JSON object");
    while (!code) {
        size_t i;

        code = rg_json_read(&r, &token, err);
        if (code || token != RG_JSON_T_KEY)
            break;
        for (i = 0; i < n; i++)
            if (strlen(parts[i].name) == r.token_len &&
                memcmp(parts[i].name, r.token_text, r.token_len) == 0)
                break;
        code = i < n ? take_part(&r, &parts[i], err) : rg_json_skip(&r, err);
    }
    if (!code)
        code = rg_json_read(&r, &token, err); /* the end: nothing may follow */
    return code;
}

static enum rg_code parse_part(const struct part *p, struct rg_json **out, struct rg_err *err)
{
    const struct rg_json_limits limits = {RG_LIMIT_TOKENIZER_BYTES, JSON_DEPTH, 0};

    *out = NULL;
    if (!p->text)
        return RG_OK;
    return rg_json_parse(out, p->text, p->len, &limits, err);
}

/* ---- model.vocab ---------------------------------------------------------------------------- */

static enum rg_code unescape(struct loader *l, const struct rg_json_reader *r, struct rg_err *err)
{
    rg_buf_clear(&l->key);
    return r->token_escaped ? rg_json_unescape(r, &l->key, err)
                            : rg_buf_add(&l->key, r->token_text, r->token_len, err);
}

static bool read_id(const struct rg_json_reader *r, int32_t *id)
{
    uint32_t v = 0;

    if (r->token_len == 0 || r->token_len > 9)
        return false;
    for (size_t i = 0; i < r->token_len; i++) {
        if (r->token_text[i] < '0' || r->token_text[i] > '9')
            return false;
        v = v * 10 + (uint32_t)(r->token_text[i] - '0');
    }
    *id = (int32_t)v;
    return v < RG_LIMIT_VOCAB;
}

static enum rg_code add_entry(struct loader *l, int32_t id, struct rg_err *err)
{
    struct rg_tokenizer *t = l->t;
    bool                 exact;
    uint32_t             at = (uint32_t)t->text.len;
    enum rg_code         code;

    if ((size_t)id < t->n_tokens && t->tokens[id].len)
        return rg_fail(err, RG_E_BAD_DATA, "model.vocab: two tokens have the id %d", id);
    if (l->key.len == 0)
        return rg_fail(err, RG_E_BAD_DATA, "model.vocab: token %d is empty", id);
    rg_buf_clear(&l->bytes);
    code = rg_bytes_unmap(&l->bytes, l->key.data, l->key.len, &exact, err);
    if (!code)
        code = exact ? rg_tokenizer_set(t, id, l->bytes.data, l->bytes.len, 0, err)
                     : rg_tokenizer_set(t, id, l->key.data, l->key.len, 0, err);
    if (!code)
        code = rg_token_map_add(exact ? &t->bpe.tokens : &l->foreign, at, t->tokens[id].len, id, err);
    l->n_vocab++;
    return code;
}

static enum rg_code load_vocab(struct loader *l, const struct part *p, struct rg_err *err)
{
    struct rg_json_reader r;
    enum rg_json_token    token;
    int32_t               id;
    enum rg_code          code;

    if (!p->text)
        return rg_fail(err, RG_E_BAD_DATA, "model.vocab is missing");
    rg_json_reader_init(&r, p->text, p->len, JSON_DEPTH);
    code = rg_json_read(&r, &token, err);
    if (!code && token != RG_JSON_T_OBJECT_BEGIN)
        return rg_fail(err, RG_E_BAD_DATA, "model.vocab is not an object");
    while (!code) {
        code = rg_json_read(&r, &token, err);
        if (code || token == RG_JSON_T_OBJECT_END)
            break;
        code = unescape(l, &r, err);
        if (!code)
            code = rg_json_read(&r, &token, err);
        if (!code && (token != RG_JSON_T_NUMBER || !read_id(&r, &id)))
            return rg_fail(err, RG_E_BAD_DATA,
                           "model.vocab: %.60s has no id that is a number below %u", l->key.data,
                           RG_LIMIT_VOCAB);
        if (!code)
            code = add_entry(l, id, err);
    }
    return code;
}

/* ---- model.merges --------------------------------------------------------------------------- */

/* The id of a merge's half; *foreign if it has characters that no text can have here. */
static enum rg_code find_half(struct loader *l, const char *p, size_t n, int32_t *id, bool *foreign,
                              struct rg_err *err)
{
    const size_t start = l->bytes.len;
    bool         exact;
    enum rg_code code = rg_bytes_unmap(&l->bytes, p, n, &exact, err);

    if (code)
        return code;
    *id = exact ? rg_token_map_find(&l->t->bpe.tokens, l->bytes.data + start, l->bytes.len - start)
                : rg_token_map_find(&l->foreign, p, n);
    *foreign = *foreign || !exact;
    if (*id < 0)
        return rg_fail(err, RG_E_BAD_DATA, "model.merges: %.*s is not in model.vocab",
                       n < 100 ? (int)n : 100, p);
    return RG_OK;
}

/* l->key holds both halves, the first `split` bytes and those from `second` on. */
static enum rg_code add_merge(struct loader *l, size_t split, size_t second, uint32_t rank,
                              struct rg_err *err)
{
    struct rg_pair_slot pair = {.rank = rank};
    bool                foreign = false;
    enum rg_code        code;

    rg_buf_clear(&l->bytes);
    code = find_half(l, l->key.data, split, &pair.left, &foreign, err);
    if (!code)
        code = find_half(l, l->key.data + second, l->key.len - second, &pair.right, &foreign, err);
    if (code || foreign)
        return code;
    pair.id = rg_token_map_find(&l->t->bpe.tokens, l->bytes.data, l->bytes.len);
    if (pair.id < 0)
        return rg_fail(err, RG_E_BAD_DATA, "model.merges: the result of merge %u is not in model.vocab",
                       rank);
    return rg_pair_map_add(&l->t->bpe.pairs, &pair, err);
}

/* "a b"; *skipped for a "#version" line, which has no rank. */
static enum rg_code merge_from_string(struct loader *l, const struct rg_json_reader *r,
                                      uint32_t rank, bool *skipped, struct rg_err *err)
{
    enum rg_code code = unescape(l, r, err);
    const char  *space;

    if (code)
        return code;
    *skipped = l->key.len >= 8 && memcmp(l->key.data, "#version", 8) == 0;
    if (*skipped)
        return RG_OK;
    space = l->key.len ? memchr(l->key.data, ' ', l->key.len) : NULL;
    if (!space || memchr(space + 1, ' ', l->key.len - (size_t)(space + 1 - l->key.data)))
        return rg_fail(err, RG_E_BAD_DATA, "model.merges: merge %u is not two parts and a space",
                       rank);
    return add_merge(l, (size_t)(space - l->key.data), (size_t)(space + 1 - l->key.data), rank, err);
}

/* ["a", "b"], whose bracket has been read. */
static enum rg_code merge_from_pair(struct loader *l, struct rg_json_reader *r, uint32_t rank,
                                    struct rg_err *err)
{
    enum rg_json_token token;
    size_t             split;
    enum rg_code       code = rg_json_read(r, &token, err);

    if (code)
        return code;
    if (token != RG_JSON_T_STRING)
        return rg_fail(err, RG_E_BAD_DATA, "model.merges: merge %u is not two strings", rank);
    code = unescape(l, r, err);
    split = l->key.len;
    if (!code)
        code = rg_json_read(r, &token, err);
    if (!code && token != RG_JSON_T_STRING)
        return rg_fail(err, RG_E_BAD_DATA, "model.merges: merge %u is not two strings", rank);
    if (!code)
        code = r->token_escaped ? rg_json_unescape(r, &l->key, err)
                                : rg_buf_add(&l->key, r->token_text, r->token_len, err);
    if (!code)
        code = rg_json_read(r, &token, err);
    if (!code && token != RG_JSON_T_ARRAY_END)
        return rg_fail(err, RG_E_BAD_DATA, "model.merges: merge %u is not two strings", rank);
    return code ? code : add_merge(l, split, split, rank, err);
}

static enum rg_code load_merges(struct loader *l, const struct part *p, struct rg_err *err)
{
    struct rg_json_reader r;
    enum rg_json_token    token;
    uint32_t              rank = 0;
    enum rg_code          code;

    if (!p->text)
        return rg_fail(err, RG_E_BAD_DATA, "model.merges is missing");
    rg_json_reader_init(&r, p->text, p->len, JSON_DEPTH);
    code = rg_json_read(&r, &token, err);
    if (!code && token != RG_JSON_T_ARRAY_BEGIN)
        return rg_fail(err, RG_E_BAD_DATA, "model.merges is not an array");
    while (!code) {
        bool skipped = false;

        code = rg_json_read(&r, &token, err);
        if (code || token == RG_JSON_T_ARRAY_END)
            break;
        if (token == RG_JSON_T_STRING)
            code = merge_from_string(l, &r, rank, &skipped, err);
        else if (token == RG_JSON_T_ARRAY_BEGIN)
            code = merge_from_pair(l, &r, rank, err);
        else
            return rg_fail(err, RG_E_BAD_DATA, "model.merges: merge %u is no string or pair", rank);
        rank += !skipped;
    }
    return code;
}

/* ---- the rest of model ---------------------------------------------------------------------- */

static bool is_literal(const struct part *p, const char *literal)
{
    return p->len == strlen(literal) && memcmp(p->text, literal, p->len) == 0;
}

/* Absent, null, false, "" and 0 all mean that the option is off. */
static bool is_off(const struct part *p)
{
    static const char *const off[] = {"null", "false", "\"\"", "0", "0.0"};

    if (!p->text)
        return true;
    for (size_t i = 0; i < sizeof off / sizeof off[0]; i++)
        if (is_literal(p, off[i]))
            return true;
    return false;
}

enum {
    MODEL_TYPE,
    MODEL_VOCAB,
    MODEL_MERGES,
    MODEL_IGNORE_MERGES,
    MODEL_UNK,
    MODEL_DROPOUT,
    MODEL_PREFIX,
    MODEL_SUFFIX,
    MODEL_BYTE_FALLBACK,
    MODEL_PARTS
};

static enum rg_code check_model(const struct part *parts, struct rg_err *err)
{
    const struct part *type = &parts[MODEL_TYPE];

    if (type->text && !is_literal(type, "\"BPE\""))
        return rg_fail(err, RG_E_UNSUPPORTED, "model.type %.*s is not supported, only \"BPE\" is",
                       type->len < 60 ? (int)type->len : 60, type->text);
    for (int i = MODEL_DROPOUT; i < MODEL_PARTS; i++)
        if (!is_off(&parts[i]))
            return rg_fail(err, RG_E_UNSUPPORTED, "model.%s %.*s is not supported", parts[i].name,
                           parts[i].len < 60 ? (int)parts[i].len : 60, parts[i].text);
    if (parts[MODEL_IGNORE_MERGES].text && !is_literal(&parts[MODEL_IGNORE_MERGES], "true") &&
        !is_literal(&parts[MODEL_IGNORE_MERGES], "false"))
        return rg_fail(err, RG_E_BAD_DATA, "model.ignore_merges is not true or false");
    return RG_OK;
}

/* With an unknown-token a byte without a token of its own would become that one. */
static enum rg_code check_bytes(const struct rg_bpe *b, struct rg_err *err)
{
    for (unsigned i = 0; i < 256; i++) {
        const char byte = (char)i;

        if (rg_token_map_find(&b->tokens, &byte, 1) < 0)
            return rg_fail(err, RG_E_UNSUPPORTED,
                           "model.unk_token together with no token for byte 0x%02X is not supported",
                           i);
    }
    return RG_OK;
}

static enum rg_code load_model(struct loader *l, const struct part *model, struct rg_err *err)
{
    struct part parts[MODEL_PARTS] = {
        [MODEL_TYPE] = {.name = "type"},
        [MODEL_VOCAB] = {.name = "vocab"},
        [MODEL_MERGES] = {.name = "merges"},
        [MODEL_IGNORE_MERGES] = {.name = "ignore_merges"},
        [MODEL_UNK] = {.name = "unk_token"},
        [MODEL_DROPOUT] = {.name = "dropout"},
        [MODEL_PREFIX] = {.name = "continuing_subword_prefix"},
        [MODEL_SUFFIX] = {.name = "end_of_word_suffix"},
        [MODEL_BYTE_FALLBACK] = {.name = "byte_fallback"},
    };
    enum rg_code code;

    if (!model->text)
        return rg_fail(err, RG_E_BAD_DATA, "model is missing");
    code = find_parts(model->text, model->len, parts, MODEL_PARTS, err);
    if (!code)
        code = check_model(parts, err);
    if (!code)
        code = load_vocab(l, &parts[MODEL_VOCAB], err);
    if (!code)
        code = load_merges(l, &parts[MODEL_MERGES], err);
    if (!code && !is_off(&parts[MODEL_UNK]))
        code = check_bytes(&l->t->bpe, err);
    l->t->bpe.whole_first =
        parts[MODEL_IGNORE_MERGES].text && is_literal(&parts[MODEL_IGNORE_MERGES], "true");
    return code;
}

/* ---- added_tokens --------------------------------------------------------------------------- */

static enum rg_code read_flag(const struct rg_json *j, const char *key, bool *out,
                              struct rg_err *err)
{
    const struct rg_json *v = rg_json_get(j, key);

    if (!v || rg_json_type(v) != RG_JSON_BOOL)
        return rg_fail(err, RG_E_BAD_DATA, "added_tokens: %s is missing or not true or false", key);
    *out = rg_json_bool(v);
    return RG_OK;
}

/* The id that `tokenizers` would give: that of the vocabulary, else the next free one. */
static enum rg_code expected_id(struct loader *l, const char *content, size_t len, int32_t *id,
                                struct rg_err *err)
{
    bool         exact;
    enum rg_code code;

    rg_buf_clear(&l->bytes);
    code = rg_bytes_unmap(&l->bytes, content, len, &exact, err);
    if (code)
        return code;
    *id = exact ? rg_token_map_find(&l->t->bpe.tokens, l->bytes.data, l->bytes.len)
                : rg_token_map_find(&l->foreign, content, len);
    if (*id < 0)
        *id = l->next_added > (int32_t)l->n_vocab ? l->next_added : (int32_t)l->n_vocab;
    return RG_OK;
}

static enum rg_code add_token(struct loader *l, const struct rg_json *j, struct rg_err *err)
{
    const struct rg_json *content, *id;
    struct rg_added_token token = {0};
    const struct {
        const char *key;
        bool       *value;
    } flags[] = {{"special", &token.special},
                 {"single_word", &token.single_word},
                 {"lstrip", &token.lstrip},
                 {"rstrip", &token.rstrip},
                 {"normalized", &token.normalized}};
    int64_t      number;
    int32_t      expected;
    enum rg_code code = RG_OK;

    if (rg_json_type(j) != RG_JSON_OBJECT)
        return rg_fail(err, RG_E_BAD_DATA, "added_tokens: %s, expected an object",
                       rg_json_type_name(j));
    content = rg_json_get(j, "content");
    id = rg_json_get(j, "id");
    if (!content || rg_json_type(content) != RG_JSON_STRING)
        return rg_fail(err, RG_E_BAD_DATA, "added_tokens: a token without content");
    if (!id || !rg_json_int(id, 0, RG_LIMIT_VOCAB - 1, &number))
        return rg_fail(err, RG_E_BAD_DATA, "added_tokens: %.60s has no id below %u",
                       rg_json_string(content), RG_LIMIT_VOCAB);
    for (size_t i = 0; i < sizeof flags / sizeof flags[0] && !code; i++)
        code = read_flag(j, flags[i].key, flags[i].value, err);
    if (code)
        return code;
    /* The content is borrowed for the call only. */
    token.content = (char *)(uintptr_t)rg_json_string(content);
    token.len = strlen(token.content);
    token.id = (int32_t)number;
    if (token.len == 0)
        return RG_OK; /* ignored by `tokenizers` too */
    code = expected_id(l, token.content, token.len, &expected, err);
    if (code)
        return code;
    if (expected != token.id)
        return rg_fail(err, RG_E_BAD_DATA, "added_tokens: %.60s has id %d, its place is %d",
                       token.content, token.id, expected);
    if (token.id >= l->next_added)
        l->next_added = token.id + 1;
    code = rg_added_tokens_add(&l->t->added, &token, err);
    return code ? code
                : rg_tokenizer_set(l->t, token.id, token.content, token.len,
                                   (uint8_t)(RG_TOKEN_ADDED |
                                             (token.special ? RG_TOKEN_SPECIAL : 0)),
                                   err);
}

static enum rg_code load_added(struct loader *l, const struct part *p, struct rg_err *err)
{
    struct rg_json *list;
    enum rg_code    code = parse_part(p, &list, err);

    if (code || !list)
        return code;
    if (rg_json_type(list) != RG_JSON_ARRAY)
        code = rg_fail(err, RG_E_BAD_DATA, "added_tokens is not an array");
    else
        for (const struct rg_json *j = rg_json_first(list); j && !code; j = rg_json_next(j))
            code = add_token(l, j, err);
    rg_json_free(list);
    return code;
}

/* ---- normalizer, decoder -------------------------------------------------------------------- */

static const char *type_of(const struct rg_json *j)
{
    const struct rg_json *type = rg_json_type(j) == RG_JSON_OBJECT ? rg_json_get(j, "type") : NULL;

    return type && rg_json_type(type) == RG_JSON_STRING ? rg_json_string(type) : "";
}

static enum rg_code read_normalizer(struct loader *l, const struct rg_json *j, struct rg_err *err)
{
    const struct rg_json *steps;
    enum rg_code          code = RG_OK;

    if (rg_json_type(j) == RG_JSON_NULL)
        return RG_OK;
    if (strcmp(type_of(j), "NFC") == 0) {
        l->t->nfc = true;
        return RG_OK;
    }
    steps = strcmp(type_of(j), "Sequence") == 0 ? rg_json_get(j, "normalizers") : NULL;
    if (!steps || rg_json_type(steps) != RG_JSON_ARRAY)
        return rg_fail(err, RG_E_UNSUPPORTED,
                       "normalizer: \"%.40s\" is not supported (null, NFC and Sequence are)",
                       type_of(j));
    for (const struct rg_json *s = rg_json_first(steps); s && !code; s = rg_json_next(s))
        code = read_normalizer(l, s, err);
    return code;
}

static bool decodes_byte_level(const struct rg_json *j)
{
    const struct rg_json *steps;

    if (strcmp(type_of(j), "ByteLevel") == 0)
        return true;
    steps = strcmp(type_of(j), "Sequence") == 0 ? rg_json_get(j, "decoders") : NULL;
    if (!steps || rg_json_type(steps) != RG_JSON_ARRAY || rg_json_count(steps) != 1)
        return false;
    return strcmp(type_of(rg_json_first(steps)), "ByteLevel") == 0;
}

static enum rg_code load_steps(struct loader *l, const struct part *normalizer,
                               const struct part *pre_tokenizer, const struct part *decoder,
                               struct rg_err *err)
{
    struct rg_json *j = NULL;
    enum rg_code    code = parse_part(normalizer, &j, err);

    if (!code && j)
        code = read_normalizer(l, j, err);
    rg_json_free(j);
    j = NULL;
    if (!code)
        code = parse_part(pre_tokenizer, &j, err);
    if (!code)
        code = rg_pretokenizer_load(&l->t->pretokenizer, j, err);
    rg_json_free(j);
    j = NULL;
    if (!code)
        code = parse_part(decoder, &j, err);
    if (!code && (!j || !decodes_byte_level(j)))
        code = rg_fail(err, RG_E_UNSUPPORTED, "decoder: \"%.40s\" is not supported, only ByteLevel is",
                       j ? type_of(j) : "null");
    rg_json_free(j);
    return code;
}

static enum rg_code load_text(struct loader *l, const char *text, size_t len, struct rg_err *err)
{
    struct part parts[] = {{.name = "normalizer"},
                           {.name = "pre_tokenizer"},
                           {.name = "decoder"},
                           {.name = "model"},
                           {.name = "added_tokens"}};
    enum rg_code code = find_parts(text, len, parts, sizeof parts / sizeof parts[0], err);

    if (!code)
        code = load_steps(l, &parts[0], &parts[1], &parts[2], err);
    if (!code)
        code = load_model(l, &parts[3], err);
    return code ? code : load_added(l, &parts[4], err);
}

enum rg_code rg_hf_tokenizer_load(struct rg_tokenizer *t, const char *path, struct rg_err *err)
{
    struct loader l = {.t = t};
    char         *text = NULL;
    size_t        len;
    enum rg_code  code = rg_file_read(&text, &len, path, RG_LIMIT_TOKENIZER_BYTES, err);

    if (code)
        return code;
    rg_token_map_init(&l.foreign, &t->text);
    rg_buf_init(&l.key, RG_LIMIT_TOKENIZER_BYTES);
    rg_buf_init(&l.bytes, RG_LIMIT_TOKENIZER_BYTES);
    code = load_text(&l, text, len, err);
    if (code)
        code = rg_fail_in(err, "%s", path);
    rg_token_map_free(&l.foreign);
    rg_buf_free(&l.key);
    rg_buf_free(&l.bytes);
    rg_free(text);
    return code;
}
