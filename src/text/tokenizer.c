/* tokenizer.c - opening a tokenizer, encoding a text, and what is known of a token. */
#include "text/tokenizer.h"

#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "text/tokenizer_impl.h"
#include "text/unicode.h"

static const size_t TEXT_BYTES_MAX = (size_t)RG_LIMIT_TEMPLATE_OUT_BYTES; /* a rendered prompt */

/* ---- opening -------------------------------------------------------------------------------- */

/* tokenizer_config.json's tokenizer_class is the one that reads tiktoken.model. */
static enum rg_code wants_tiktoken(const char *dir, bool *yes, struct rg_err *err)
{
    char                 *path = rg_path_join(dir, "tokenizer_config.json");
    char                 *text = NULL;
    struct rg_json       *j = NULL;
    const struct rg_json *name;
    size_t                len;
    enum rg_code          code = RG_OK;

    *yes = false;
    if (!path)
        return rg_fail(err, RG_E_NOMEM, "out of memory for a path");
    if (!rg_file_exists(path))
        goto out;
    code = rg_file_read(&text, &len, path, RG_LIMIT_CONFIG_BYTES, err);
    if (code)
        goto out;
    code = rg_json_parse(&j, text, len, &rg_json_limits_config, err);
    if (code) {
        code = rg_fail_in(err, code, "%s", path);
        goto out;
    }
    name = rg_json_type(j) == RG_JSON_OBJECT ? rg_json_get(j, "tokenizer_class") : NULL;
    *yes = name && rg_json_type(name) == RG_JSON_STRING &&
           strcmp(rg_json_string(name), "TikTokenTokenizer") == 0;
out:
    rg_json_free(j);
    rg_free(text);
    rg_free(path);
    return code;
}

static enum rg_code load(struct rg_tokenizer *t, const char *dir, struct rg_err *err)
{
    char        *json = rg_path_join(dir, "tokenizer.json");
    char        *tiktoken = rg_path_join(dir, "tiktoken.model");
    bool         has_json, use_tiktoken;
    enum rg_code code = RG_OK;

    if (!json || !tiktoken) {
        code = rg_fail(err, RG_E_NOMEM, "out of memory for a path");
        goto out;
    }
    has_json = rg_file_exists(json);
    use_tiktoken = rg_file_exists(tiktoken);
    if (!has_json && !use_tiktoken) {
        code = rg_fail(err, RG_E_USAGE,
                       "%s: no tokenizer.json and no tiktoken.model; copy the tokenizer's files "
                       "into the model's directory",
                       dir);
        goto out;
    }
    /* With both files the configuration says which one the model was made with. */
    if (has_json && use_tiktoken)
        code = wants_tiktoken(dir, &use_tiktoken, err);
    if (!code)
        code = use_tiktoken ? rg_tiktoken_load(t, dir, err) : rg_hf_tokenizer_load(t, json, err);
    if (!code) {
        code = rg_added_tokens_finish(&t->added, t->nfc, err);
        if (code)
            code = rg_fail_in(err, code, "%s", use_tiktoken ? tiktoken : json);
    }
    if (!code)
        code = rg_bpe_finish(&t->bpe, (uint32_t)t->n_tokens, err);
    for (size_t i = 0; i < t->added.n; i++)
        t->added.tokens[i].control = t->added.tokens[i].special;
out:
    rg_free(json);
    rg_free(tiktoken);
    return code;
}

enum rg_code rg_tokenizer_open(struct rg_tokenizer **out, const char *dir, struct rg_err *err)
{
    struct rg_tokenizer *t = rg_calloc(1, sizeof *t);
    enum rg_code         code;

    *out = NULL;
    if (!t)
        return rg_fail(err, RG_E_NOMEM, "out of memory for a tokenizer");
    rg_buf_init(&t->text, 2 * (size_t)RG_LIMIT_TOKENIZER_BYTES);
    rg_bpe_init(&t->bpe, &t->text);
    code = load(t, dir, err);
    if (code) {
        rg_tokenizer_close(t);
        return code;
    }
    *out = t;
    return RG_OK;
}

void rg_tokenizer_close(struct rg_tokenizer *t)
{
    if (!t)
        return;
    rg_pretokenizer_free(&t->pretokenizer);
    rg_added_tokens_free(&t->added);
    rg_bpe_free(&t->bpe);
    rg_buf_free(&t->text);
    rg_free(t->tokens);
    rg_free(t);
}

enum rg_code rg_tokenizer_set(struct rg_tokenizer *t, int32_t id, const char *p, size_t n,
                              uint8_t flags, struct rg_err *err)
{
    void        *tokens = t->tokens;
    size_t       count = (size_t)id + 1;
    enum rg_code code;

    if (id < 0 || (uint32_t)id >= RG_LIMIT_VOCAB)
        return rg_fail(err, RG_E_LIMIT, "token id %d is not below %u", id, RG_LIMIT_VOCAB);
    code = rg_grow(&tokens, &t->tokens_capacity, count, sizeof *t->tokens, err);
    t->tokens = tokens;
    if (!code)
        code = rg_buf_reserve(&t->text, n, err);
    if (code)
        return code;
    for (; t->n_tokens < count; t->n_tokens++)
        t->tokens[t->n_tokens] = (struct rg_token_text){0};
    t->tokens[id] = (struct rg_token_text){(uint32_t)t->text.len, (uint32_t)n, flags};
    return rg_buf_add(&t->text, p, n, err);
}

static bool is_blank(const char *p, size_t n)
{
    uint32_t cp;

    for (size_t at = 0; at < n;) {
        at += rg_utf8_next(p + at, n - at, &cp);
        if (!rg_is_white_space(cp))
            return false;
    }
    return true;
}

enum rg_code rg_tokenizer_set_template(struct rg_tokenizer *t, const char *literals, size_t len,
                                       struct rg_err *err)
{
    (void)err;
    for (size_t i = 0; i < t->added.n; i++) {
        struct rg_added_token *token = &t->added.tokens[i];

        token->control = token->special ||
                         (!is_blank(token->content, token->len) &&
                          memmem(literals, len, token->content, token->len) != NULL);
    }
    return RG_OK;
}

/* ---- encoding ------------------------------------------------------------------------------- */

struct encoder {
    const struct rg_tokenizer *t;
    enum rg_control            control;
    const struct rg_span      *spans;
    size_t                     n_spans;
    struct rg_ids             *out;
    struct rg_text_map         repairs;
    struct rg_buf              repaired; /* the text, when it was ill-formed */
    struct rg_buf              shadow;   /* of the whole text */
    struct rg_buf              normal;   /* the part between two tokens, normalised ... */
    struct rg_buf              normal_shadow;
    struct rg_text_map         normal_map;
    struct rg_buf              bytes; /* a piece that was unmapped */
    struct rg_bpe_scratch      scratch;
    struct rg_regex_scan      *scan;
    struct rg_pretokenizer_run run;
};

static enum rg_code encode_piece(void *arg, const char *piece, size_t len, struct rg_err *err)
{
    struct encoder *e = arg;
    bool            exact;
    enum rg_code    code;

    if (!e->t->pretokenizer.mapped)
        return rg_bpe_encode(&e->t->bpe, &e->scratch, piece, len, e->out, err);
    rg_buf_clear(&e->bytes);
    code = rg_bytes_unmap(&e->bytes, piece, len, &exact, err);
    if (code)
        return code;
    return rg_bpe_encode(&e->t->bpe, &e->scratch, e->bytes.data, e->bytes.len, e->out, err);
}

static enum rg_code encode_words(struct encoder *e, const struct rg_view *v, struct rg_err *err)
{
    return rg_pretokenize(&e->run, v, err);
}

typedef enum rg_code gap_fn(struct encoder *e, const struct rg_view *v, size_t at,
                            struct rg_err *err);

static struct rg_view part_of(const struct rg_view *v, size_t begin, size_t end)
{
    return (struct rg_view){v->text + begin, v->shadow + begin, end - begin};
}

static enum rg_code encode_gap(struct encoder *e, const struct rg_view *v, size_t at,
                               struct rg_err *err);

/* One pass of added tokens over v, which begins at byte `at` of the repaired text; what lies
 * between them goes on to the next step. */
static enum rg_code encode_tokens(struct encoder *e, const struct rg_view *v, size_t at,
                                  bool normalized, struct rg_err *err)
{
    struct rg_added_search s = {
        .added = &e->t->added,
        .normalized = normalized,
        .control = e->control,
        .trust = {e->spans, e->n_spans, &e->repairs, normalized ? &e->normal_map : NULL, at},
        .text = v->text,
        .len = v->len,
    };
    size_t       done = 0;
    enum rg_code code = RG_OK;

    for (;;) {
        const struct rg_added_match m = rg_added_search_next(&s);
        const size_t                end = m.token ? m.begin : v->len;
        const struct rg_view        gap = part_of(v, done, end > done ? end : done);

        if (gap.len > 0)
            code = normalized ? encode_words(e, &gap, err) : encode_gap(e, &gap, at + done, err);
        if (!code && m.token)
            code = rg_ids_add(e->out, m.token->id, err);
        if (code || !m.token)
            return code;
        done = m.end;
    }
}

/* Normalises what lies between the tokens of the first pass. */
static enum rg_code encode_gap(struct encoder *e, const struct rg_view *v, size_t at,
                               struct rg_err *err)
{
    struct rg_view normal = *v;
    bool           changed = false;
    enum rg_code   code = RG_OK;

    rg_text_map_clear(&e->normal_map);
    if (e->t->nfc) {
        rg_buf_clear(&e->normal);
        code = rg_nfc(&e->normal, &e->normal_map, v->text, v->len, &changed, err);
    }
    if (!code && changed) {
        rg_buf_clear(&e->normal_shadow);
        code = rg_unicode_shadow(&e->normal_shadow, e->normal.data, e->normal.len, err);
        normal.text = e->normal.data;
        normal.len = e->normal.len;
        normal.shadow = e->normal_shadow.len ? e->normal_shadow.data : normal.text;
    }
    if (code)
        return code;
    return encode_tokens(e, &normal, at, true, err);
}

static enum rg_code repair(struct encoder *e, const char *text, size_t len, struct rg_err *err)
{
    size_t       done = 0;
    uint32_t     cp;
    enum rg_code code = rg_buf_reserve(&e->repaired, len, err);

    for (size_t at = 0, n; at < len && !code; at += n) {
        struct rg_edit edit;

        n = rg_utf8_next(text + at, len - at, &cp);
        if (cp != UINT32_MAX)
            continue;
        code = rg_buf_add(&e->repaired, text + done, at - done, err);
        edit = (struct rg_edit){at, at + n, e->repaired.len, e->repaired.len + 3};
        if (!code)
            code = rg_buf_add(&e->repaired, "\xEF\xBF\xBD", 3, err);
        if (!code)
            code = rg_text_map_add(&e->repairs, &edit, err);
        done = at + n;
    }
    return code ? code : rg_buf_add(&e->repaired, text + done, len - done, err);
}

static enum rg_code encode_all(struct encoder *e, const struct rg_view *v, struct rg_err *err)
{
    size_t       block = 0;
    enum rg_code code = RG_OK;

    for (size_t at = 0; at < v->len && !code;) {
        const size_t n =
            e->t->sliced ? rg_tiktoken_slice(v->text + at, v->len - at, &block) : v->len;
        const struct rg_view slice = part_of(v, at, at + n);

        code = encode_tokens(e, &slice, at, false, err);
        at += n;
    }
    return code;
}

static enum rg_code encode_view(struct encoder *e, const char *text, size_t len, struct rg_err *err)
{
    struct rg_view v = {text, text, len};
    enum rg_code   code = RG_OK;

    if (!rg_utf8_valid(text, len)) {
        code = repair(e, text, len, err);
        v = (struct rg_view){e->repaired.data, e->repaired.data, e->repaired.len};
    }
    if (!code)
        code = rg_unicode_shadow(&e->shadow, v.text, v.len, err);
    if (!code && e->shadow.len)
        v.shadow = e->shadow.data;
    if (!code)
        code = rg_regex_scan_open(&e->scan, v.len, err);
    if (code)
        return code;
    rg_pretokenizer_run_init(&e->run, &e->t->pretokenizer, e->scan, encode_piece, e);
    code = encode_all(e, &v, err);
    rg_pretokenizer_run_free(&e->run);
    rg_regex_scan_close(e->scan);
    return code;
}

enum rg_code rg_tokenizer_encode(const struct rg_tokenizer *t, const char *text, size_t len,
                                 const struct rg_span *spans, size_t n_spans,
                                 enum rg_control control, struct rg_ids *out, struct rg_err *err)
{
    struct encoder e = {
        .t = t, .control = control, .spans = spans, .n_spans = n_spans, .out = out};
    const size_t before = out->len;
    enum rg_code code;

    if (len > TEXT_BYTES_MAX)
        return rg_fail(err, RG_E_LIMIT, "a text of %zu bytes to tokenise, at most %zu are taken",
                       len, TEXT_BYTES_MAX);
    if (len == 0)
        return RG_OK;
    /* A repaired or normalised text has at most three times the bytes. */
    rg_buf_init(&e.repaired, 3 * TEXT_BYTES_MAX);
    rg_buf_init(&e.shadow, 3 * TEXT_BYTES_MAX);
    rg_buf_init(&e.normal, 9 * TEXT_BYTES_MAX);
    rg_buf_init(&e.normal_shadow, 9 * TEXT_BYTES_MAX);
    rg_buf_init(&e.bytes, 9 * TEXT_BYTES_MAX);
    code = encode_view(&e, text, len, err);
    if (code)
        out->len = before;
    rg_buf_free(&e.repaired);
    rg_buf_free(&e.shadow);
    rg_buf_free(&e.normal);
    rg_buf_free(&e.normal_shadow);
    rg_buf_free(&e.bytes);
    rg_text_map_free(&e.repairs);
    rg_text_map_free(&e.normal_map);
    rg_bpe_scratch_free(&e.scratch);
    return code;
}

/* ---- what is known of a token --------------------------------------------------------------- */

uint32_t rg_tokenizer_vocab_size(const struct rg_tokenizer *t)
{
    return (uint32_t)t->n_tokens;
}

const char *rg_tokenizer_bytes(const struct rg_tokenizer *t, int32_t id, size_t *n)
{
    *n = 0;
    if (id < 0 || (size_t)id >= t->n_tokens)
        return "";
    *n = t->tokens[id].len;
    return t->text.data + t->tokens[id].at;
}

bool rg_tokenizer_is_special(const struct rg_tokenizer *t, int32_t id)
{
    return id >= 0 && (size_t)id < t->n_tokens && (t->tokens[id].flags & RG_TOKEN_SPECIAL);
}

int32_t rg_tokenizer_find(const struct rg_tokenizer *t, const char *content)
{
    const struct rg_added_token *token = rg_added_tokens_find(&t->added, content, strlen(content));

    return token ? token->id : -1;
}
