/* answer.c - holding back what may become a stop string, and cutting at one. */
#include "text/answer.h"

#include <string.h>

#include "base/mem.h"

static const size_t HELD_BYTES_MAX = 16u << 20; /* one token's text and a few stop strings */

enum rg_code rg_answer_init(struct rg_answer *a, const struct rg_tokenizer *t,
                            const char *const *stops, uint32_t n_stops, struct rg_err *err)
{
    *a = (struct rg_answer){0};
    rg_detokenizer_init(&a->detokenizer, t);
    rg_buf_init(&a->held, HELD_BYTES_MAX);
    if (n_stops > RG_LIMIT_STOPS)
        return rg_fail(err, RG_E_LIMIT, "stop: %u strings, at most %u are taken", n_stops,
                       RG_LIMIT_STOPS);
    for (uint32_t i = 0; i < n_stops; i++) {
        const size_t n = strlen(stops[i]);

        if (n == 0 || n > RG_LIMIT_STOP_BYTES) {
            rg_answer_free(a);
            return rg_fail(err, RG_E_LIMIT, "stop: a string of %zu bytes, expected 1 to %u", n,
                           RG_LIMIT_STOP_BYTES);
        }
        a->stops[i] = rg_strndup(stops[i], n);
        if (!a->stops[i]) {
            rg_answer_free(a);
            return rg_fail(err, RG_E_NOMEM, "out of memory for stop strings");
        }
        a->n_stops++;
    }
    return RG_OK;
}

void rg_answer_free(struct rg_answer *a)
{
    for (uint32_t i = 0; i < a->n_stops; i++)
        rg_free(a->stops[i]);
    rg_buf_free(&a->held);
    a->n_stops = 0;
}

/* Where the stop string begins that ends exactly at `end`, the longest if several do. */
static size_t stop_ending_at(const struct rg_answer *a, size_t end)
{
    size_t begin = SIZE_MAX;

    for (uint32_t i = 0; i < a->n_stops; i++) {
        const size_t n = strlen(a->stops[i]);

        if (n <= end && end - n < begin && memcmp(a->held.data + end - n, a->stops[i], n) == 0)
            begin = end - n;
    }
    return begin;
}

/* How many bytes at the end of the held text begin a stop string. */
static size_t stop_prefix(const struct rg_answer *a)
{
    size_t longest = 0;

    for (uint32_t i = 0; i < a->n_stops; i++) {
        const size_t most = strlen(a->stops[i]) - 1;

        for (size_t n = most < a->held.len ? most : a->held.len; n > longest; n--) {
            if (memcmp(a->held.data + a->held.len - n, a->stops[i], n) == 0) {
                longest = n;
                break;
            }
        }
    }
    return longest;
}

static enum rg_code give(struct rg_answer *a, size_t n, struct rg_buf *out, struct rg_err *err)
{
    enum rg_code code = n ? rg_buf_add(out, a->held.data, n, err) : RG_OK;

    if (!code && n)
        rg_buf_drop(&a->held, n);
    return code;
}

/* Gives out what is certain.  The first `old` bytes of the held text were looked at before.  Ends
 * are tried in order, so that the cut does not depend on where tokens end. */
static enum rg_code settle(struct rg_answer *a, size_t old, struct rg_buf *out, struct rg_err *err)
{
    for (size_t end = old + 1; end <= a->held.len; end++) {
        const size_t begin = stop_ending_at(a, end);
        enum rg_code code;

        if (begin == SIZE_MAX)
            continue;
        code = give(a, begin, out, err);
        if (code)
            return code;
        a->stopped = true;
        rg_buf_clear(&a->held);
        return RG_OK;
    }
    return give(a, a->held.len - stop_prefix(a), out, err);
}

enum rg_code rg_answer_push(struct rg_answer *a, int32_t id, struct rg_buf *out, struct rg_err *err)
{
    const size_t old = a->held.len;
    enum rg_code code;

    if (a->stopped)
        return RG_OK;
    code = rg_detokenizer_push(&a->detokenizer, id, &a->held, err);
    return code ? code : settle(a, old, out, err);
}

enum rg_code rg_answer_finish(struct rg_answer *a, struct rg_buf *out, struct rg_err *err)
{
    const size_t old = a->held.len;
    enum rg_code code;

    if (a->stopped)
        return RG_OK;
    code = rg_detokenizer_finish(&a->detokenizer, &a->held, err);
    if (!code)
        code = settle(a, old, out, err);
    return code ? code : give(a, a->held.len, out, err);
}
