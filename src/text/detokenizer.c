/* detokenizer.c - gluing the bytes of tokens together into characters. */
#include "text/detokenizer.h"

#include <assert.h>
#include <string.h>

#include "base/utf8.h"

void rg_detokenizer_init(struct rg_detokenizer *d, const struct rg_tokenizer *t)
{
    *d = (struct rg_detokenizer){.tokenizer = t};
}

/* Completes or gives up the held bytes with the beginning of p; *used bytes of p went into that. */
static enum rg_code finish_held(struct rg_detokenizer *d, const char *p, size_t n, size_t *used,
                                struct rg_buf *out, struct rg_err *err)
{
    char         joined[sizeof d->held + sizeof d->held];
    const size_t before = d->n_held;
    const size_t taken = n < sizeof d->held ? n : sizeof d->held;
    const size_t total = before + taken;
    size_t       at = 0;
    uint32_t     cp;

    memcpy(joined, d->held, before);
    memcpy(joined + before, p, taken);
    /* Held bytes are one incomplete sequence; new bytes end it within the first character. */
    while (at < before && rg_utf8_incomplete_tail(joined + at, total - at) != total - at)
        at += rg_utf8_next(joined + at, total - at, &cp);
    if (at < before) { /* still incomplete, so nothing of p is left */
        memcpy(d->held, joined + at, total - at);
        d->n_held = total - at;
        *used = taken;
    } else {
        d->n_held = 0;
        *used = at - before;
    }
    return at > 0 ? rg_utf8_repair(out, joined, at, err) : RG_OK;
}

enum rg_code rg_detokenizer_push(struct rg_detokenizer *d, int32_t id, struct rg_buf *out,
                                 struct rg_err *err)
{
    size_t       n, tail, used = 0;
    const char  *p = rg_tokenizer_bytes(d->tokenizer, id, &n);
    enum rg_code code = RG_OK;

    if (n == 0 || rg_tokenizer_is_special(d->tokenizer, id))
        return RG_OK;
    if (d->n_held)
        code = finish_held(d, p, n, &used, out, err);
    if (code || d->n_held)
        return code;
    p += used;
    n -= used;
    tail = rg_utf8_incomplete_tail(p, n);
    assert(tail < sizeof d->held);
    if (n > tail)
        code = rg_utf8_repair(out, p, n - tail, err);
    if (code)
        return code;
    memcpy(d->held, p + n - tail, tail);
    d->n_held = tail;
    return RG_OK;
}

enum rg_code rg_detokenizer_finish(struct rg_detokenizer *d, struct rg_buf *out, struct rg_err *err)
{
    const size_t n = d->n_held;

    d->n_held = 0;
    return n ? rg_utf8_repair(out, d->held, n, err) : RG_OK;
}
