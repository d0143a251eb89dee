/* pretokenizer.c - running the stages, and ByteLevel's byte map. */
#include "text/pretokenizer.h"

#include <assert.h>

#include "base/limits.h"
#include "base/utf8.h"

static bool is_printable_byte(uint32_t b)
{
    return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF);
}

uint32_t rg_byte_char(uint8_t byte)
{
    if (is_printable_byte(byte))
        return byte;
    if (byte <= 0x20)
        return 0x100u + byte;
    if (byte == 0xAD)
        return 0x143;
    return byte - 0x7Fu + 0x121u; /* 0x7F..0xA0 */
}

int rg_char_byte(uint32_t cp)
{
    if (cp <= 0xFF)
        return is_printable_byte(cp) ? (int)cp : -1;
    if (cp >= 0x100 && cp <= 0x120)
        return (int)(cp - 0x100);
    if (cp >= 0x121 && cp <= 0x142)
        return (int)(cp - 0x121 + 0x7F);
    return cp == 0x143 ? 0xAD : -1;
}

enum rg_code rg_bytes_unmap(struct rg_buf *out, const char *text, size_t len, bool *exact,
                            struct rg_err *err)
{
    const size_t start = out->len;
    uint32_t     cp;
    enum rg_code code = rg_buf_reserve(out, len, err);

    *exact = true;
    for (size_t at = 0; at < len && !code;) {
        const size_t n = rg_utf8_next(text + at, len - at, &cp);
        const int    byte = rg_char_byte(cp);
        const char   c = (char)byte;

        if (byte < 0) {
            out->len = start;
            *exact = false;
            return RG_OK;
        }
        code = rg_buf_add(out, &c, 1, err);
        at += n;
    }
    return code;
}

void rg_pretokenizer_free(struct rg_pretokenizer *p)
{
    for (uint32_t i = 0; i < p->n; i++)
        rg_regex_close(p->stages[i].regex);
    *p = (struct rg_pretokenizer){0};
}

void rg_pretokenizer_run_init(struct rg_pretokenizer_run *r, const struct rg_pretokenizer *p,
                              struct rg_regex_scan *scan, rg_piece_fn *piece, void *arg)
{
    *r = (struct rg_pretokenizer_run){.rules = p, .scan = scan, .piece = piece, .arg = arg};
    for (uint32_t i = 0; i < p->n; i++)
        rg_buf_init(&r->bufs[i], 8 * (size_t)RG_LIMIT_TEMPLATE_OUT_BYTES);
}

void rg_pretokenizer_run_free(struct rg_pretokenizer_run *r)
{
    for (uint32_t i = 0; i < r->rules->n; i++)
        rg_buf_free(&r->bufs[i]);
}

/* ---- splitting: a stream of alternating gaps and matches, joined as the stage wants --------- */

struct splitter {
    struct rg_pretokenizer_run *run;
    uint32_t                    next_stage;
    const struct rg_stage      *stage;
    const struct rg_view       *view;
    size_t                      begin, end; /* the piece that more may still be joined to */
    bool                        holding;
    bool                        last_is_match;
};

static enum rg_code run_stage(struct rg_pretokenizer_run *r, uint32_t i, const struct rg_view *v,
                              struct rg_err *err);

static enum rg_code flush(struct splitter *s, struct rg_err *err)
{
    struct rg_view piece;

    if (!s->holding || s->begin == s->end)
        return RG_OK;
    piece = (struct rg_view){s->view->text + s->begin, s->view->shadow + s->begin,
                             s->end - s->begin};
    return run_stage(s->run, s->next_stage, &piece, err);
}

static bool joins(const struct splitter *s, bool is_match)
{
    switch (s->stage->split) {
    case RG_SPLIT_CONTIGUOUS:
        return is_match == s->last_is_match;
    case RG_SPLIT_MERGED_WITH_PREVIOUS:
        return is_match && !s->last_is_match;
    case RG_SPLIT_MERGED_WITH_NEXT:
        return !is_match && s->last_is_match;
    case RG_SPLIT_ISOLATED:
    case RG_SPLIT_REMOVED:
        break;
    }
    return false;
}

static enum rg_code take(struct splitter *s, size_t begin, size_t end, bool found,
                         struct rg_err *err)
{
    const bool   is_match = found != s->stage->invert;
    enum rg_code code;

    if (s->stage->split == RG_SPLIT_REMOVED && is_match)
        return RG_OK;
    if (s->holding && joins(s, is_match)) {
        s->end = end;
    } else {
        code = flush(s, err);
        if (code)
            return code;
        s->begin = begin;
        s->end = end;
        s->holding = true;
    }
    s->last_is_match = is_match;
    return RG_OK;
}

static size_t char_len(const char *p, size_t n)
{
    uint32_t cp;

    return rg_utf8_next(p, n, &cp);
}

static enum rg_code find(struct splitter *s, size_t at, size_t *begin, size_t *end,
                         struct rg_err *err)
{
    const struct rg_view *v = s->view;
    uint32_t              cp;

    if (s->stage->kind == RG_STAGE_REGEX)
        return rg_regex_find(s->stage->regex, s->run->scan, v->shadow, v->len, at, begin, end, err);
    *begin = SIZE_MAX;
    while (at < v->len) {
        const size_t n = rg_utf8_next(v->text + at, v->len - at, &cp);

        if (s->stage->in_class(cp)) {
            *begin = at;
            *end = at + n;
            break;
        }
        at += n;
    }
    return RG_OK;
}

static enum rg_code run_split(struct rg_pretokenizer_run *r, uint32_t i, const struct rg_view *v,
                              struct rg_err *err)
{
    struct splitter s = {.run = r, .next_stage = i + 1, .stage = &r->rules->stages[i], .view = v};
    size_t          done = 0; /* the end of the last match */
    size_t          at = 0;
    bool            first = true;
    enum rg_code    code = RG_OK;

    while (at <= v->len && !code) {
        size_t begin, end;

        code = find(&s, at, &begin, &end, err);
        if (code || begin == SIZE_MAX)
            break;
        /* An empty match right behind the last one is not one. */
        if (begin == end && !first && begin == done) {
            at = end < v->len ? end + char_len(v->text + end, v->len - end) : end + 1;
            continue;
        }
        if (begin > done)
            code = take(&s, done, begin, false, err);
        if (!code)
            code = take(&s, begin, end, true, err);
        done = end;
        at = end;
        first = false;
    }
    if (!code && done < v->len)
        code = take(&s, done, v->len, false, err);
    return code ? code : flush(&s, err);
}

/* ---- stages that change the text ------------------------------------------------------------ */

static enum rg_code run_prefix(struct rg_pretokenizer_run *r, uint32_t i, const struct rg_view *v,
                               struct rg_err *err)
{
    struct rg_buf *b = &r->bufs[i];
    struct rg_view piece = {.len = v->len + 1};
    enum rg_code   code;

    if (v->text[0] == ' ')
        return run_stage(r, i + 1, v, err);
    rg_buf_clear(b);
    code = rg_buf_add(b, " ", 1, err);
    if (!code)
        code = rg_buf_add(b, v->text, v->len, err);
    if (!code && v->shadow != v->text) {
        code = rg_buf_add(b, " ", 1, err);
        if (!code)
            code = rg_buf_add(b, v->shadow, v->len, err);
    }
    if (code)
        return code;
    piece.text = b->data;
    piece.shadow = v->shadow == v->text ? b->data : b->data + piece.len;
    return run_stage(r, i + 1, &piece, err);
}

static enum rg_code run_map(struct rg_pretokenizer_run *r, uint32_t i, const struct rg_view *v,
                            struct rg_err *err)
{
    struct rg_buf *b = &r->bufs[i];
    struct rg_view piece;
    enum rg_code   code = RG_OK;

    rg_buf_clear(b);
    for (size_t at = 0; at < v->len && !code; at++) {
        char         c[4];
        const size_t n = rg_utf8_put(c, rg_byte_char((uint8_t)v->text[at]));

        code = rg_buf_add(b, c, n, err);
    }
    if (code)
        return code;
    piece = (struct rg_view){b->data, b->data, b->len};
    return run_stage(r, i + 1, &piece, err);
}

/* Recursion is as deep as there are stages. */
static enum rg_code run_stage(struct rg_pretokenizer_run *r, uint32_t i, const struct rg_view *v,
                              struct rg_err *err)
{
    if (i == r->rules->n)
        return r->piece(r->arg, v->text, v->len, err);
    switch (r->rules->stages[i].kind) {
    case RG_STAGE_REGEX:
    case RG_STAGE_CHARS:
        return run_split(r, i, v, err);
    case RG_STAGE_PREFIX_SPACE:
        return run_prefix(r, i, v, err);
    case RG_STAGE_MAP_BYTES:
        break;
    }
    return run_map(r, i, v, err);
}

enum rg_code rg_pretokenize(struct rg_pretokenizer_run *r, const struct rg_view *text,
                            struct rg_err *err)
{
    return text->len == 0 ? RG_OK : run_stage(r, 0, text, err);
}
