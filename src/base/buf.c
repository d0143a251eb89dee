/* buf.c - bounded growable bytes. */
#include "base/buf.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

void rg_buf_init(struct rg_buf *b, size_t bytes_max)
{
    *b = (struct rg_buf){.bytes_max = bytes_max};
}

void rg_buf_free(struct rg_buf *b)
{
    rg_free(b->data);
    rg_buf_init(b, b->bytes_max);
}

void rg_buf_clear(struct rg_buf *b)
{
    b->len = 0;
    if (b->data)
        b->data[0] = '\0';
}

void rg_buf_drop(struct rg_buf *b, size_t n)
{
    assert(n <= b->len);
    if (n == 0)
        return;
    memmove(b->data, b->data + n, b->len - n);
    b->len -= n;
    b->data[b->len] = '\0';
}

enum rg_code rg_buf_reserve(struct rg_buf *b, size_t more, struct rg_err *err)
{
    if (more > b->bytes_max || b->len > b->bytes_max - more)
        return rg_fail(err, RG_E_LIMIT, "more than the limit of %zu bytes", b->bytes_max);

    const size_t need = b->len + more + 1;

    if (need <= b->capacity)
        return RG_OK;

    size_t want = b->capacity ? b->capacity : 64;

    while (want < need)
        want = want > need / 2 ? need : want * 2;
    if (want < b->capacity + b->capacity / 2)
        want = b->capacity + b->capacity / 2;

    char *grown = rg_realloc(b->data, want);

    if (!grown)
        return rg_fail(err, RG_E_NOMEM, "out of memory: a buffer of %zu bytes", want);
    b->data = grown;
    b->capacity = want;
    b->data[b->len] = '\0';
    return RG_OK;
}

enum rg_code rg_buf_add(struct rg_buf *b, const void *p, size_t n, struct rg_err *err)
{
    const enum rg_code code = rg_buf_reserve(b, n, err);

    if (code)
        return code;
    if (n)
        memcpy(b->data + b->len, p, n);
    b->len += n;
    b->data[b->len] = '\0';
    return RG_OK;
}

enum rg_code rg_buf_add_str(struct rg_buf *b, const char *s, struct rg_err *err)
{
    return rg_buf_add(b, s, strlen(s), err);
}

enum rg_code rg_buf_addf(struct rg_buf *b, struct rg_err *err, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    const int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0)
        return rg_fail(err, RG_E_INTERNAL, "a format that cannot be printed: %s", format);

    const enum rg_code code = rg_buf_reserve(b, (size_t)n, err);

    if (code)
        return code;
    va_start(args, format);
    vsnprintf(b->data + b->len, (size_t)n + 1, format, args);
    va_end(args);
    b->len += (size_t)n;
    return RG_OK;
}

char *rg_buf_take(struct rg_buf *b)
{
    if (!b->data && rg_buf_reserve(b, 0, NULL) != RG_OK)
        return NULL;

    char *data = b->data;

    rg_buf_init(b, b->bytes_max);
    return data;
}
