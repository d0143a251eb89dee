/* An answer's head is gathered whole, then llhttp reads it and what follows. */
#include "api/http_answer.h"

#include <string.h>

enum { HEAD_BYTES_MAX = 16 << 10 };

static int on_body(llhttp_t *l, const char *at, size_t n)
{
    struct rg_http_answer *a = l->data;

    a->body_code = a->on_body(a->ud, at, n, a->err);
    return a->body_code == RG_OK ? 0 : -1;
}

static int on_complete(llhttp_t *l)
{
    struct rg_http_answer *a = l->data;

    a->complete = true;
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {.on_body = on_body, .on_message_complete = on_complete};

static void begin(struct rg_http_answer *a)
{
    rg_buf_clear(&a->head);
    llhttp_init(&a->llhttp, HTTP_RESPONSE, &settings);
    a->llhttp.data = a;
    a->in_body = a->complete = false;
    a->status = 0;
}

void rg_http_answer_init(struct rg_http_answer *a, rg_http_body_fn *body, void *ud)
{
    memset(a, 0, sizeof *a);
    a->on_body = body;
    a->ud = ud;
    rg_buf_init(&a->head, HEAD_BYTES_MAX);
    begin(a);
}

void rg_http_answer_free(struct rg_http_answer *a)
{
    rg_buf_free(&a->head);
}

static enum rg_code execute(struct rg_http_answer *a, const char *p, size_t n, struct rg_err *err)
{
    enum llhttp_errno e;

    a->err = err;
    a->body_code = RG_OK;
    e = llhttp_execute(&a->llhttp, p, n);
    if (a->body_code != RG_OK)
        return a->body_code;
    if (e == HPE_OK || a->complete)
        return RG_OK;
    return rg_fail(err, RG_E_BAD_DATA, "no HTTP answer: %s", llhttp_get_error_reason(&a->llhttp));
}

/* Takes bytes up to the empty line that ends the head; *used of them. */
static enum rg_code take_head(struct rg_http_answer *a, const char *p, size_t n, size_t *used,
                              struct rg_err *err)
{
    enum rg_code code;

    for (*used = 0; *used < n && !a->in_body; (*used)++) {
        code = rg_buf_add(&a->head, p + *used, 1, err);
        if (code == RG_E_LIMIT)
            return rg_fail(err, RG_E_BAD_DATA, "no HTTP answer: its head is too long");
        if (code != RG_OK)
            return code;
        a->in_body = a->head.len >= 4 &&
                     memcmp(a->head.data + a->head.len - 4, "\r\n\r\n", 4) == 0;
    }
    if (!a->in_body)
        return RG_OK;
    code = execute(a, a->head.data, a->head.len, err);
    if (code != RG_OK)
        return code;
    a->status = a->llhttp.status_code;
    if (a->status / 100 == 1)
        begin(a);
    else if (a->llhttp.http_major != 1)
        return rg_fail(err, RG_E_BAD_DATA, "no HTTP/1.1 answer");
    return RG_OK;
}

enum rg_code rg_http_answer_feed(struct rg_http_answer *a, const char *p, size_t n,
                                 struct rg_err *err)
{
    enum rg_code code = RG_OK;

    while (code == RG_OK && n > 0 && !a->complete) {
        size_t used = n;

        if (a->in_body)
            code = execute(a, p, n, err);
        else
            code = take_head(a, p, n, &used, err);
        p += used;
        n -= used;
    }
    return code;
}

enum rg_code rg_http_answer_end(struct rg_http_answer *a, struct rg_err *err)
{
    if (!a->complete && a->in_body)
        (void)llhttp_finish(&a->llhttp);
    if (a->complete)
        return RG_OK;
    return rg_fail(err, RG_E_BAD_DATA, "the connection ended before the answer did");
}
