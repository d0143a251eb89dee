/* tiktoken.c - tiktoken.model (lines of base64 and a rank) as Kimi's tokenizer uses it. */
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "text/tokenizer_impl.h"
#include "text/unicode.h"

/* Kimi's pattern in PCRE2's dialect.  A class such as [\p{Lu}...&&[^\p{Han}]] is one negated class
 * of the complements; Han is the script, as Oniguruma and Rust understand it. */
#define HEAD "[^\\r\\n\\p{L}\\p{N}]?"
#define UPPER "[^\\p{Ll}\\p{N}\\p{P}\\p{S}\\p{Z}\\p{C}\\p{sc:Han}]"
#define LOWER "[^\\p{Lu}\\p{Lt}\\p{N}\\p{P}\\p{S}\\p{Z}\\p{C}\\p{sc:Han}]"
#define TAIL "(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
static const char kimi_pattern[] =
    "\\p{sc:Han}+|" HEAD UPPER "*" LOWER "+" TAIL HEAD UPPER "+" LOWER "*" TAIL
    "\\p{N}{1,3}| ?[^\\p{White_Space}\\p{L}\\p{N}]+[\\r\\n]*|\\p{White_Space}*[\\r\\n]+|"
    "\\p{White_Space}+(?!\\P{White_Space})|\\p{White_Space}+";

enum {
    RESERVED_TOKENS = 256,
    TOKEN_BYTES_MAX = 4096,
    SLICE_CHARS = 400000,
    RUN_CHARS = 25000 /* of white space, or of anything else, in one slice */
};

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Decodes n characters (a multiple of 4) to out; 0 if they are not base64. */
static size_t base64_decode(uint8_t *out, const char *p, size_t n)
{
    size_t pad = 0;
    size_t len = 0;

    if (n == 0 || n % 4)
        return 0;
    while (pad < 2 && p[n - 1 - pad] == '=')
        pad++;
    for (size_t i = 0; i < n; i += 4) {
        uint32_t v = 0;

        for (size_t k = i; k < i + 4; k++) {
            const int digit = k >= n - pad ? 0 : base64_value(p[k]);

            if (digit < 0)
                return 0;
            v = v << 6 | (uint32_t)digit;
        }
        for (int shift = 16; shift >= 0; shift -= 8)
            out[len++] = (uint8_t)(v >> shift);
    }
    return len - pad;
}

static enum rg_code add_line(struct rg_tokenizer *t, const char *line, size_t len, size_t number,
                             struct rg_err *err)
{
    uint8_t      bytes[TOKEN_BYTES_MAX];
    const char  *space = memchr(line, ' ', len);
    const size_t n_base64 = space ? (size_t)(space - line) : 0;
    const size_t n_digits = space ? len - n_base64 - 1 : 0;
    uint32_t     rank = 0;
    size_t       n;
    uint32_t     at = (uint32_t)t->text.len;
    enum rg_code code;

    if (n_base64 == 0 || n_base64 / 4 * 3 > TOKEN_BYTES_MAX || n_digits == 0 || n_digits > 9)
        return rg_fail(err, RG_E_BAD_DATA, "line %zu is not base64, a space and a rank", number);
    n = base64_decode(bytes, line, n_base64);
    if (n == 0)
        return rg_fail(err, RG_E_BAD_DATA, "line %zu is not base64", number);
    for (size_t i = 0; i < n_digits; i++) {
        if (space[1 + i] < '0' || space[1 + i] > '9')
            return rg_fail(err, RG_E_BAD_DATA, "line %zu: the rank is not a number", number);
        rank = rank * 10 + (uint32_t)(space[1 + i] - '0');
    }
    if (rank < t->n_tokens && t->tokens[rank].len)
        return rg_fail(err, RG_E_BAD_DATA, "line %zu: rank %u is there twice", number, rank);
    code = rg_tokenizer_set(t, (int32_t)rank, (const char *)bytes, n, 0, err);
    if (!code)
        code = rg_token_map_add(&t->bpe.tokens, at, (uint32_t)n, (int32_t)rank, err);
    return code ? rg_fail_in(err, code, "line %zu", number) : RG_OK;
}

static enum rg_code load_ranks(struct rg_tokenizer *t, const char *text, size_t len,
                               struct rg_err *err)
{
    size_t       number = 0;
    enum rg_code code = RG_OK;

    for (size_t at = 0; at < len && !code;) {
        const char  *end = memchr(text + at, '\n', len - at);
        const size_t next = end ? (size_t)(end - text) + 1 : len;
        size_t       n = (end ? next - 1 : next) - at;

        number++;
        if (n > 0 && text[at + n - 1] == '\r')
            n--;
        if (n > 0)
            code = add_line(t, text + at, n, number, err);
        at = next;
    }
    if (code)
        return code;
    if (t->n_tokens != t->bpe.tokens.count)
        return rg_fail(err, RG_E_BAD_DATA, "%zu tokens, but the highest rank is %zu",
                       t->bpe.tokens.count, t->n_tokens - 1);
    for (unsigned i = 0; i < 256; i++) {
        const char byte = (char)i;

        if (rg_token_map_find(&t->bpe.tokens, &byte, 1) < 0)
            return rg_fail(err, RG_E_BAD_DATA, "byte 0x%02X has no token", i);
    }
    return RG_OK;
}

/* ---- special tokens ------------------------------------------------------------------------- */

/* tokenizer_config.json's entry for an id, or NULL. */
static const struct rg_json *entry(const struct rg_json *config, int32_t id, struct rg_buf *key)
{
    const struct rg_json *list = NULL;
    struct rg_err         ignored;

    if (config && rg_json_type(config) == RG_JSON_OBJECT)
        list = rg_json_get(config, "added_tokens_decoder");
    if (!list || rg_json_type(list) != RG_JSON_OBJECT)
        return NULL;
    rg_buf_clear(key);
    if (rg_buf_addf(key, &ignored, "%d", id))
        return NULL;
    list = rg_json_get(list, key->data);
    return list && rg_json_type(list) == RG_JSON_OBJECT ? list : NULL;
}

static enum rg_code add_special(struct rg_tokenizer *t, const struct rg_json *config, int32_t id,
                                struct rg_buf *scratch, struct rg_err *err)
{
    struct rg_added_token token = {.id = id, .special = true};
    const struct rg_json *e = entry(config, id, scratch);
    const struct rg_json *content = e ? rg_json_get(e, "content") : NULL;
    const struct rg_json *special = e ? rg_json_get(e, "special") : NULL;
    enum rg_code          code;

    rg_buf_clear(scratch);
    if (content && rg_json_type(content) == RG_JSON_STRING)
        code = rg_buf_add_str(scratch, rg_json_string(content), err);
    else
        code = rg_buf_addf(scratch, err, "<|reserved_token_%d|>", id);
    if (code)
        return code;
    if (special && rg_json_type(special) == RG_JSON_BOOL)
        token.special = rg_json_bool(special);
    token.content = scratch->data;
    token.len = scratch->len;
    code = rg_added_tokens_add(&t->added, &token, err);
    return code ? code
                : rg_tokenizer_set(t, id, token.content, token.len,
                                   (uint8_t)(RG_TOKEN_ADDED |
                                             (token.special ? RG_TOKEN_SPECIAL : 0)),
                                   err);
}

/* NULL when the file is absent. */
static enum rg_code read_config(const char *dir, const char *name, struct rg_json **out,
                                struct rg_err *err)
{
    char        *path = rg_path_join(dir, name);
    char        *text = NULL;
    size_t       len;
    enum rg_code code = RG_OK;

    *out = NULL;
    if (!path)
        return rg_fail(err, RG_E_NOMEM, "out of memory for a path");
    if (rg_file_exists(path)) {
        code = rg_file_read(&text, &len, path, RG_LIMIT_CONFIG_BYTES, err);
        if (!code) {
            code = rg_json_parse(out, text, len, &rg_json_limits_config, err);
            if (code)
                code = rg_fail_in(err, code, "%s", path);
        }
    }
    rg_free(text);
    rg_free(path);
    return code;
}

/* config.json's vocab_size, also of a text part; otherwise when it does not say. */
static int64_t vocab_size(const struct rg_json *config, int64_t otherwise)
{
    const struct rg_json *part, *size;
    int64_t               n;

    if (!config || rg_json_type(config) != RG_JSON_OBJECT)
        return otherwise;
    part = rg_json_get(config, "text_config");
    size = rg_json_get(part && rg_json_type(part) == RG_JSON_OBJECT ? part : config, "vocab_size");
    return size && rg_json_int(size, 1, RG_LIMIT_VOCAB, &n) ? n : otherwise;
}

/* 256 ids after the ordinary ones, as far as the model has rows for them. */
static enum rg_code load_specials(struct rg_tokenizer *t, const char *dir, struct rg_err *err)
{
    const int64_t   base = (int64_t)t->n_tokens;
    struct rg_json *config = NULL, *names = NULL;
    struct rg_buf   scratch;
    int64_t         end;
    enum rg_code    code = read_config(dir, "config.json", &config, err);

    rg_buf_init(&scratch, RG_LIMIT_CONFIG_BYTES);
    if (!code)
        code = read_config(dir, "tokenizer_config.json", &names, err);
    end = vocab_size(config, base + RESERVED_TOKENS);
    if (end > base + RESERVED_TOKENS)
        end = base + RESERVED_TOKENS;
    if (!code && end < base)
        code = rg_fail(err, RG_E_BAD_DATA,
                       "%s: tiktoken.model has %lld tokens, config.json's vocab_size is %lld", dir,
                       (long long)base, (long long)end);
    for (int64_t id = base; id < end && !code; id++)
        code = add_special(t, names, (int32_t)id, &scratch, err);
    rg_buf_free(&scratch);
    rg_json_free(config);
    rg_json_free(names);
    return code;
}

enum rg_code rg_tiktoken_load(struct rg_tokenizer *t, const char *dir, struct rg_err *err)
{
    char        *path = rg_path_join(dir, "tiktoken.model");
    char        *text = NULL;
    size_t       len;
    enum rg_code code;

    if (!path)
        return rg_fail(err, RG_E_NOMEM, "out of memory for a path");
    t->sliced = true;
    t->bpe.by_rank = true;
    t->bpe.whole_first = true;
    code = rg_file_read(&text, &len, path, RG_LIMIT_TOKENIZER_BYTES, err);
    if (!code) {
        code = load_ranks(t, text, len, err);
        if (code)
            code = rg_fail_in(err, code, "%s", path);
    }
    if (!code)
        code = rg_pretokenizer_add_regex(&t->pretokenizer, kimi_pattern, RG_SPLIT_ISOLATED, false,
                                         err);
    if (!code)
        code = load_specials(t, dir, err);
    rg_free(text);
    rg_free(path);
    return code;
}

/* tokenization_kimi.py: blocks of 400,000 characters, each cut before the 25,001st of a run of
 * white space or of other characters. */
size_t rg_tiktoken_slice(const char *text, size_t len, size_t *block)
{
    size_t   at = 0;
    size_t   run = 0;
    bool     was_space = false;
    uint32_t cp;

    while (at < len) {
        const size_t n = rg_utf8_next(text + at, len - at, &cp);
        const bool   space = rg_is_python_space(cp);

        run = space == was_space ? run + 1 : 1;
        was_space = space;
        if (run > RUN_CHARS)
            return at;
        at += n;
        if (++*block == SLICE_CHARS) {
            *block = 0;
            return at;
        }
    }
    return at;
}
