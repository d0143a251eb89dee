/* hf_vocab.c - tokenizer.json's model.vocab and model.merges, read as a stream. */
#include <string.h>

#include "base/json.h"
#include "base/limits.h"
#include "text/hf_loader.h"

/* ---- model.vocab ---------------------------------------------------------------------------- */

static enum rg_code unescape(struct rg_hf_loader *l, const struct rg_json_reader *r,
                             struct rg_err *err)
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

static enum rg_code add_entry(struct rg_hf_loader *l, int32_t id, struct rg_err *err)
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
        code = rg_token_map_add(exact ? &t->bpe.tokens : &l->foreign, at, t->tokens[id].len, id,
                                err);
    l->n_vocab++;
    return code;
}

enum rg_code rg_hf_load_vocab(struct rg_hf_loader *l, const struct rg_hf_part *p,
                              struct rg_err *err)
{
    struct rg_json_reader r;
    enum rg_json_token    token;
    int32_t               id;
    enum rg_code          code;

    if (!p->text)
        return rg_fail(err, RG_E_BAD_DATA, "model.vocab is missing");
    rg_json_reader_init(&r, p->text, p->len, RG_HF_JSON_DEPTH);
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
static enum rg_code find_half(struct rg_hf_loader *l, const char *p, size_t n, int32_t *id,
                              bool *foreign, struct rg_err *err)
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
static enum rg_code add_merge(struct rg_hf_loader *l, size_t split, size_t second, uint32_t rank,
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
        return rg_fail(err, RG_E_BAD_DATA,
                       "model.merges: the result of merge %u is not in model.vocab", rank);
    return rg_pair_map_add(&l->t->bpe.pairs, &pair, err);
}

/* "a b"; *skipped for a "#version" line, which has no rank. */
static enum rg_code merge_from_string(struct rg_hf_loader *l, const struct rg_json_reader *r,
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
    return add_merge(l, (size_t)(space - l->key.data), (size_t)(space + 1 - l->key.data), rank,
                     err);
}

/* ["a", "b"], whose bracket has been read. */
static enum rg_code merge_from_pair(struct rg_hf_loader *l, struct rg_json_reader *r, uint32_t rank,
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

enum rg_code rg_hf_load_merges(struct rg_hf_loader *l, const struct rg_hf_part *p,
                               struct rg_err *err)
{
    struct rg_json_reader r;
    enum rg_json_token    token;
    uint32_t              rank = 0;
    enum rg_code          code;

    if (!p->text)
        return rg_fail(err, RG_E_BAD_DATA, "model.merges is missing");
    rg_json_reader_init(&r, p->text, p->len, RG_HF_JSON_DEPTH);
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
