/* sse.h - server-sent events (the HTML standard, section 9.2) with one line of data each. */
#ifndef RG_API_SSE_H
#define RG_API_SSE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* json holds no line end. */
RG_CHECKED enum rg_code rg_sse_data(struct rg_buf *out, const char *json, size_t n,
                                    struct rg_err *err);
RG_CHECKED enum rg_code rg_sse_done(struct rg_buf *out, struct rg_err *err);

/* ": text"; whatever would end the line becomes a space, what is no UTF-8 U+FFFD. */
RG_CHECKED enum rg_code rg_sse_comment(struct rg_buf *out, const char *text, struct rg_err *err);

/* ": keepalive 512/4096", of the prompt's tokens; total 0: no numbers. */
RG_CHECKED enum rg_code rg_sse_keepalive(struct rg_buf *out, uint32_t done, uint32_t total,
                                         struct rg_err *err);

#endif
