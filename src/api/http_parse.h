/* http_parse.h - bytes of a connection to requests: the scanner, then llhttp, then the rules.
 *
 * Feed bytes in any pieces; the result never depends on how they were cut.  One request goes
 * RG_HTTP_MORE* RG_HTTP_HEAD RG_HTTP_MORE* RG_HTTP_DONE; then rg_http_parser_next() for another one
 * on the same connection.
 * Lifetime   the request's strings are borrowed from the parser until next() or free().
 * Limits     those of http_scan.h, and RG_LIMIT_BODY_BYTES.
 * Failure    RG_HTTP_BAD: status and why say what to answer before the connection is closed. */
#ifndef RG_API_HTTP_PARSE_H
#define RG_API_HTTP_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <llhttp.h>

#include "api/http_scan.h"
#include "base/buf.h"
#include "base/limits.h"

struct rg_http_header {
    const char *name;
    const char *value; /* without white space around it; may hold bytes >= 0x80 */
};

enum rg_http_method { RG_HTTP_GET, RG_HTTP_HEAD_METHOD, RG_HTTP_POST, RG_HTTP_OTHER };

struct rg_http_request {
    enum rg_http_method   method;
    const char           *method_name;
    char                 *path;  /* as sent, without the query */
    const char           *query; /* "" when there is none */
    struct rg_http_header headers[RG_LIMIT_HEADERS];
    uint32_t              n_headers;
    bool                  http10, keep_alive;
    bool                  has_body;        /* a length above 0, or chunks */
    bool                  expects_continue;
    struct rg_buf         body;            /* a handler may take its bytes (rg_buf_take) */
};

/* NULL when absent. */
const char *rg_http_request_header(const struct rg_http_request *r, const char *name);

enum rg_http_step { RG_HTTP_MORE, RG_HTTP_HEAD, RG_HTTP_DONE, RG_HTTP_BAD };

struct rg_http_parser {
    struct rg_http_scan    scan;
    llhttp_t               llhttp;
    struct rg_buf          head; /* the request line and fields, as received */
    struct rg_http_request request;
    uint8_t                phase;
    bool                   drop_body; /* set it after RG_HTTP_HEAD: read, but don't keep the body */
    bool                   complete;  /* llhttp has seen the end of the message */
    bool                   any;       /* a byte of the request has come */
    uint64_t               body_bytes, body_left;
    int                    status;
    const char            *why;
};

void rg_http_parser_init(struct rg_http_parser *p);
void rg_http_parser_next(struct rg_http_parser *p);
void rg_http_parser_free(struct rg_http_parser *p);

/* *used bytes were taken.  After HEAD call again (n may be 0) to go on with the body. */
enum rg_http_step rg_http_parser_feed(struct rg_http_parser *p, const char *bytes, size_t n,
                                      size_t *used);

#endif
