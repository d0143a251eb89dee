/* http_answer.h - the bytes of an HTTP/1.1 answer to its status and body, for clients.
 *
 * Feed bytes in any pieces; the result never depends on how they were cut.  Answers with a length,
 * in chunks or up to the end of the connection are taken; interim ones (1xx) are skipped.
 * Limits     a head of 16 KiB, and what on_body allows.
 * Failure    RG_E_BAD_DATA: the bytes are no HTTP answer; else what on_body returned. */
#ifndef RG_API_HTTP_ANSWER_H
#define RG_API_HTTP_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <llhttp.h>

#include "base/buf.h"
#include "base/err.h"

typedef enum rg_code rg_http_body_fn(void *ud, const char *p, size_t n, struct rg_err *err);

struct rg_http_answer {
    int           status;   /* 0: its head has not come */
    bool          complete; /* what comes after it is not looked at */
    rg_http_body_fn *on_body;
    void            *ud;
    struct rg_buf    head;
    llhttp_t         llhttp;
    bool             in_body;
    enum rg_code     body_code; /* of on_body */
    struct rg_err   *err;       /* of the present call */
};

void rg_http_answer_init(struct rg_http_answer *a, rg_http_body_fn *on_body, void *ud);
void rg_http_answer_free(struct rg_http_answer *a);

RG_CHECKED enum rg_code rg_http_answer_feed(struct rg_http_answer *a, const char *p, size_t n,
                                            struct rg_err *err);
/* The connection has ended: an answer without a length is complete now, another one is broken. */
RG_CHECKED enum rg_code rg_http_answer_end(struct rg_http_answer *a, struct rg_err *err);

#endif
