/* http_response.h - the bytes of a response's head and of its chunks.
 *
 * Failure    only RG_E_NOMEM and RG_E_LIMIT of the buffer. */
#ifndef RG_API_HTTP_RESPONSE_H
#define RG_API_HTTP_RESPONSE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

struct rg_http_reply {
    int         status;
    const char *content_type; /* NULL: application/json */
    const char *extra;        /* whole header lines with their CRLF, or NULL */
    const char *body;         /* borrowed for the call */
    size_t      body_len;
};

struct rg_http_reply_flags {
    bool keep_alive;
    bool no_body; /* the answer of a HEAD request: the same head without the body */
};

/* Appends head and body with a Content-Length. */
RG_CHECKED enum rg_code rg_http_response_add(struct rg_buf *out, const struct rg_http_reply *reply,
                                             struct rg_http_reply_flags flags, struct rg_err *err);

/* Appends the head of an answer that comes in pieces; chunked is false for HTTP/1.0, where the end
 * of the connection ends the body. */
RG_CHECKED enum rg_code rg_http_response_begin(struct rg_buf *out, const char *content_type,
                                               bool chunked, bool keep_alive, struct rg_err *err);
RG_CHECKED enum rg_code rg_http_response_chunk(struct rg_buf *out, const void *p, size_t n,
                                               struct rg_err *err);

const char *rg_http_status_name(int status);

#endif
