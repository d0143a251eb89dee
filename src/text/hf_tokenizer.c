/* hf_tokenizer.c - tokenizer.json, read in two passes: first where its parts are, then the parts in
 * the order in which they need each other. */
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/mem.h"
#include "text/hf_loader.h"

/* The value behind a key begins after its colon. */
static size_t value_begin(const struct rg_json_reader *r)
{
    size_t at = r->at;

    while (at < r->len && strchr(" \t\r\n:", r->text[at]))
        at++;
    return at;
}

static enum rg_code take_part(struct rg_json_reader *r, struct rg_hf_part *p, struct rg_err *err)
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
static enum rg_code find_parts(const char *text, size_t len, struct rg_hf_part *parts, size_t n,
                               struct rg_err *err)
{
    struct rg_json_reader r;
    enum rg_json_token    token;
    enum rg_code          code;

    rg_json_reader_init(&r, text, len, RG_HF_JSON_DEPTH);
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

static enum rg_code parse_part(const struct rg_hf_part *p, struct rg_json **out, struct rg_err *err)
{
    const struct rg_json_limits limits = {RG_LIMIT_TOKENIZER_BYTES, RG_HF_JSON_DEPTH, 0};

    *out = NULL;
    if (!p->text)
        return RG_OK;
    return rg_json_parse(out, p->text, p->len, &limits, err);
}

/* ---- the rest of model ---------------------------------------------------------------------- */

static bool is_literal(const struct rg_hf_part *p, const char *literal)
{
    return p->len == strlen(literal) && memcmp(p->text, literal, p->len) == 0;
}

/* Absent, null, false, "" and 0 all mean that the option is off. */
static bool is_off(const struct rg_hf_part *p)
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

static enum rg_code check_model(const struct rg_hf_part *parts, struct rg_err *err)
{
    const struct rg_hf_part *type = &parts[MODEL_TYPE];

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
                           "model.unk_token with no token for byte 0x%02X is not supported", i);
    }
    return RG_OK;
}

static enum rg_code load_model(struct rg_hf_loader *l, const struct rg_hf_part *model,
                               struct rg_err *err)
{
    struct rg_hf_part parts[MODEL_PARTS] = {
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
        code = rg_hf_load_vocab(l, &parts[MODEL_VOCAB], err);
    if (!code)
        code = rg_hf_load_merges(l, &parts[MODEL_MERGES], err);
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
static enum rg_code expected_id(struct rg_hf_loader *l, const char *content, size_t len,
                                int32_t *id, struct rg_err *err)
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

static enum rg_code add_token(struct rg_hf_loader *l, const struct rg_json *j, struct rg_err *err)
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

static enum rg_code load_added(struct rg_hf_loader *l, const struct rg_hf_part *p,
                               struct rg_err *err)
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

static enum rg_code read_normalizer(struct rg_hf_loader *l, const struct rg_json *j,
                                    struct rg_err *err)
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

static enum rg_code load_steps(struct rg_hf_loader *l, const struct rg_hf_part *normalizer,
                               const struct rg_hf_part *pre_tokenizer,
                               const struct rg_hf_part *decoder, struct rg_err *err)
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
        code = rg_fail(err, RG_E_UNSUPPORTED,
                       "decoder: \"%.40s\" is not supported, only ByteLevel is",
                       j ? type_of(j) : "null");
    rg_json_free(j);
    return code;
}

static enum rg_code load_text(struct rg_hf_loader *l, const char *text, size_t len,
                              struct rg_err *err)
{
    struct rg_hf_part parts[] = {{.name = "normalizer"},
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
    struct rg_hf_loader l = {.t = t};
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
        code = rg_fail_in(err, code, "%s", path);
    rg_token_map_free(&l.foreign);
    rg_buf_free(&l.key);
    rg_buf_free(&l.bytes);
    rg_free(text);
    return code;
}
