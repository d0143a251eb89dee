/* buf.h - a growable byte buffer with a mandatory maximum.
 *
 * A buffer that was told "at most N bytes" returns RG_E_LIMIT instead of growing past N, whatever
 * the sizes from outside say.  data is always followed by one NUL that len does not count, so text
 * can be used as a C string when it holds no NUL of its own.
 * Failure    A failed append leaves the content as it was. */
#ifndef RG_BASE_BUF_H
#define RG_BASE_BUF_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct rg_buf {
    char *data; /* owned; NULL until the first append */
    size_t len;
    size_t capacity;
    size_t bytes_max;
};

void rg_buf_init(struct rg_buf *b, size_t bytes_max);
void rg_buf_free(struct rg_buf *b);
void rg_buf_clear(struct rg_buf *b);          /* len = 0, memory kept */
void rg_buf_drop(struct rg_buf *b, size_t n); /* removes the first n bytes */

RG_CHECKED enum rg_code rg_buf_reserve(struct rg_buf *b, size_t more, struct rg_err *err);
RG_CHECKED enum rg_code rg_buf_add(struct rg_buf *b, const void *p, size_t n, struct rg_err *err);
RG_CHECKED enum rg_code rg_buf_add_str(struct rg_buf *b, const char *s, struct rg_err *err);
RG_PRINTF(3, 4)
RG_CHECKED enum rg_code rg_buf_addf(struct rg_buf *b, struct rg_err *err, const char *format, ...);

/* Takes the bytes out (NUL-terminated, caller frees with rg_free); the buffer is empty after it.
 * NULL only when an empty buffer could not be given its NUL. */
RG_CHECKED char *rg_buf_take(struct rg_buf *b);

#endif
