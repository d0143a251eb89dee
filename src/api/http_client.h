/* http_client.h - one HTTP request to a daemon, for commands of a terminal.
 *
 * Threads    blocks the caller.
 * Limits     deadline_ms for the whole exchange; RG_LIMIT_URL_BYTES for the path, and what the
 *            answer's reader says.
 * Failure    RG_E_PEER: nobody listens there, the deadline passed, or what answers speaks no HTTP;
 *            the line names host and port.  RG_E_LIMIT: a large body.  The answer's status is not
 *            looked at. */
#ifndef RG_API_HTTP_CLIENT_H
#define RG_API_HTTP_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#include "api/http_answer.h"
#include "base/err.h"

struct rg_http_call {
    const char *host; /* an address or a name; 0.0.0.0 and :: mean this machine */
    uint16_t    port;
    const char *method, *path;
    const char *key;  /* NULL: none; visible ASCII */
    const char *body; /* JSON; NULL: none */
    size_t      body_len;
    int64_t     deadline_ms;
};

/* *status: of the answer, whose body was given to on_body. */
RG_CHECKED enum rg_code rg_http_ask(const struct rg_http_call *call, int *status,
                                    rg_http_body_fn *on_body, void *ud, struct rg_err *err);

/* As above; appends the body to *body. */
RG_CHECKED enum rg_code rg_http_get(const struct rg_http_call *call, int *status,
                                    struct rg_buf *body, struct rg_err *err);

#endif
