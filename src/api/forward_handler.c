/* On a node that is not the head: a request is handed to the head, and its answer to the client.
 *
 * A relay lives as long as its connection's answer; the head's request ends with it. */
#include <assert.h>
#include <string.h>

#include "api/api_state.h"
#include "api/relay_cut.h"
#include "api/sse.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"

enum {
    PAUSE_BYTES = RG_LIMIT_SEND_BYTES / 2, /* that wait for the client: the head must wait too */
    RESUME_BYTES = PAUSE_BYTES / 2,
    OUT_BYTES_MAX = 32 << 20
};

struct relay {
    struct rg_conn_owner owner; /* first: the connection's user */
    struct rg_api       *api;
    struct rg_http_conn *conn;
    void                *request; /* the forwarder's */
    bool                 paused;
    struct rg_relay_cut  cut;
    struct rg_buf        out;
    int64_t              begun_ms;
};

/* ---- the request as the head gets it --------------------------------------------------------- */

/* The parser lets no control character into any of these; a request that could be split into two
 * must not depend on that alone. */
static bool is_one_line(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 && *s != '\t')
            return false;
    return true;
}

static enum rg_code add_header(struct rg_buf *out, const struct rg_http_request *r,
                               const char *name, struct rg_err *err)
{
    const char *value = rg_http_request_header(r, name);

    if (!value)
        return RG_OK;
    if (!is_one_line(value))
        return rg_fail(err, RG_E_BAD_DATA, "%s: a control character", name);
    return rg_buf_addf(out, err, "%s: %s\r\n", name, value);
}

static enum rg_code print_request(struct rg_buf *out, const struct rg_http_request *r,
                                  struct rg_err *err)
{
    static const char *const kept[] = {"Authorization", "Content-Type", "Content-Encoding",
                                       "Accept", "X-Request-Id"};
    enum rg_code             code;

    if (!is_one_line(r->path) || !is_one_line(r->query) || strchr(r->path, ' ') ||
        strchr(r->query, ' '))
        return rg_fail(err, RG_E_BAD_DATA, "the request's target holds a control character");
    code = rg_buf_addf(out, err, "%s %s%s%s HTTP/1.%d\r\nHost: localhost\r\nConnection: close\r\n",
                       r->method_name, r->path, *r->query ? "?" : "", r->query, r->http10 ? 0 : 1);
    for (size_t i = 0; code == RG_OK && i < sizeof kept / sizeof *kept; i++)
        code = add_header(out, r, kept[i], err);
    if (code == RG_OK && (r->body.len > 0 || r->method == RG_HTTP_POST))
        code = rg_buf_addf(out, err, "Content-Length: %zu\r\n", r->body.len);
    if (code == RG_OK)
        code = rg_buf_add(out, "\r\n", 2, err);
    if (code == RG_OK)
        code = rg_buf_add(out, r->body.data, r->body.len, err);
    return code;
}

/* ---- ends ----------------------------------------------------------------------------------- */

static void free_relay(struct relay *y)
{
    y->api->n_relays--;
    rg_relay_cut_free(&y->cut);
    rg_buf_free(&y->out);
    rg_free(y);
}

/* The connection is the relay's no more, and the relay is gone. */
static struct rg_http_conn *let_go(struct relay *y)
{
    struct rg_http_conn *c = y->conn;

    rg_http_conn_set_user(c, NULL);
    free_relay(y);
    return c;
}

static void log_end(const struct relay *y, const char *how)
{
    rg_log(RG_LOG_INFO, "api", how, "forwarded=1 ms=%lld",
           (long long)(rg_clock_ms() - y->begun_ms));
}

static void on_gone(struct rg_http_conn *c)
{
    struct relay *y = rg_http_conn_user(c);

    /* Who has all that it waits for need not wait for our end of it. */
    log_end(y, y->cut.done || y->cut.state == RG_RELAY_WHOLE ? "answered"
                                                             : "the client went away");
    y->api->forwarder.cancel(y->request);
    free_relay(y);
}

static void reply_err(struct rg_http_conn *c, const struct rg_err *err)
{
    struct rg_api_error error;

    rg_api_error_from(&error, err);
    if (err->code == RG_E_LIMIT) {
        (void)rg_api_fail(&error, RG_API_QUEUE_FULL, NULL, "%s", err->message);
        error.status = 503;
    } else if (err->code == RG_E_BAD_DATA) {
        (void)rg_api_fail(&error, RG_API_INVALID_VALUE, NULL, "%s", err->message);
    }
    rg_log(RG_LOG_WARN, "api", error.message, "forwarded=1 code=%s", rg_api_code_name(error.code));
    rg_api_reply_error(c, &error, error.status == 503 ? RG_API_RETRY_AFTER : NULL);
}

/* Error, [DONE] and the last chunk: what the head would have sent. */
static enum rg_code print_stream_end(struct rg_buf *out, const struct rg_err *why,
                                     struct rg_err *err)
{
    struct rg_api_error error;
    struct rg_buf       json, events;
    enum rg_code        code;

    rg_api_error_from(&error, why);
    rg_buf_init(&json, 16384);
    rg_buf_init(&events, 32768);
    code = rg_api_error_print(&json, &error, err);
    if (code == RG_OK)
        code = rg_sse_data(&events, json.data, json.len, err);
    if (code == RG_OK)
        code = rg_sse_done(&events, err);
    if (code == RG_OK)
        code = rg_http_response_chunk(out, events.data, events.len, err);
    if (code == RG_OK)
        code = rg_buf_add_str(out, "0\r\n\r\n", err);
    rg_buf_free(&json);
    rg_buf_free(&events);
    return code;
}

static void end_stream(struct relay *y, const struct rg_err *why)
{
    const bool           is_done = y->cut.done;
    struct rg_buf        last;
    struct rg_http_conn *c = let_go(y);

    rg_buf_init(&last, 65536);
    if ((is_done ? rg_buf_add_str(&last, "0\r\n\r\n", NULL)
                 : print_stream_end(&last, why, NULL)) != RG_OK)
        rg_http_abort(c);
    else if (rg_http_raw_add(c, last.data, last.len))
        rg_http_raw_end(c);
    rg_buf_free(&last);
}

/* ---- the answer ----------------------------------------------------------------------------- */

static void set_paused(struct relay *y, bool paused)
{
    if (y->paused == paused)
        return;
    y->paused = paused;
    y->api->forwarder.pause(y->request, paused);
}

static void on_written(struct rg_http_conn *c)
{
    if (rg_http_unsent(c) < RESUME_BYTES)
        set_paused(rg_http_conn_user(c), false);
}

static void on_bytes(void *ud, const void *p, size_t n)
{
    struct relay *y = ud;
    bool          sent;

    rg_buf_clear(&y->out);
    sent = rg_relay_cut_feed(&y->cut, p, n, &y->out, NULL) == RG_OK;
    if (!sent)
        rg_http_abort(y->conn);
    else if (y->out.len > 0)
        sent = rg_http_raw_add(y->conn, y->out.data, y->out.len);
    if (!sent) {
        log_end(y, "cut off: the client reads too slowly, or memory is short");
        y->api->forwarder.cancel(y->request);
        (void)let_go(y);
    } else if (rg_http_unsent(y->conn) > PAUSE_BYTES) {
        set_paused(y, true);
    }
}

static void finish(struct relay *y)
{
    struct rg_http_conn *c = y->conn;
    bool                 sent;

    rg_buf_clear(&y->out);
    sent = rg_relay_cut_end(&y->cut, &y->out, NULL) == RG_OK;
    if (!sent)
        rg_http_abort(c);
    else if (y->out.len > 0)
        sent = rg_http_raw_add(c, y->out.data, y->out.len);
    log_end(y, sent ? "answered" : "cut off: the client reads too slowly, or memory is short");
    (void)let_go(y);
    if (sent)
        rg_http_raw_end(c);
}

static void on_end(void *ud, const struct rg_err *why)
{
    struct relay             *y = ud;
    const enum rg_relay_state state = y->cut.state;
    struct rg_err             early;

    if (state == RG_RELAY_WHOLE || (why->code == RG_OK && state == RG_RELAY_OTHER)) {
        finish(y);
        return;
    }
    if (why->code == RG_OK) {
        rg_fail(&early, RG_E_PEER, "the head's answer ended before it was whole");
        why = &early;
    }
    log_end(y, why->message);
    if (state == RG_RELAY_HEAD)
        reply_err(let_go(y), why);
    else if (state == RG_RELAY_CHUNKS)
        end_stream(y, why);
    else
        rg_http_abort(let_go(y));
}

/* ---- the beginning -------------------------------------------------------------------------- */

static enum rg_code begin(struct relay *y, const struct rg_http_request *r, struct rg_err *err)
{
    static const struct rg_api_forward_events events = {.on_bytes = on_bytes, .on_end = on_end};
    const struct rg_api_forwarder *const      f = &y->api->forwarder;
    struct rg_buf                             text;
    enum rg_code                              code;

    rg_buf_init(&text, RG_LIMIT_FORWARD_BYTES);
    code = print_request(&text, r, err);
    if (code == RG_OK)
        code = f->begin(f->ud, &y->request, text.data, text.len, &events, y, err);
    rg_buf_free(&text);
    return code;
}

/* The head takes no more of all nodes together: what it would refuse is refused here, at once. */
static void refuse_too_many(struct rg_http_conn *c)
{
    struct rg_api_error error;

    (void)rg_api_fail(&error, RG_API_QUEUE_FULL, NULL,
                      "too many requests of this node wait at the head; try again in a moment");
    rg_api_reply_error(c, &error, RG_API_RETRY_AFTER);
}

void rg_relay_begin(struct rg_api *a, struct rg_http_conn *c, struct rg_http_request *r)
{
    struct relay *y;
    struct rg_err err = {.code = RG_OK};

    if (a->n_relays >= RG_LIMIT_FORWARDS) {
        refuse_too_many(c);
        return;
    }
    y = rg_calloc(1, sizeof *y);
    if (!y) {
        rg_fail(&err, RG_E_NOMEM, "out of memory");
        reply_err(c, &err);
        return;
    }
    y->owner = (struct rg_conn_owner){.gone = on_gone, .written = on_written};
    y->api = a;
    a->n_relays++;
    y->conn = c;
    y->begun_ms = rg_clock_ms();
    rg_relay_cut_init(&y->cut);
    rg_buf_init(&y->out, OUT_BYTES_MAX);
    rg_http_conn_set_user(c, y);
    if (begin(y, r, &err) != RG_OK) {
        reply_err(let_go(y), &err);
        return;
    }
    rg_buf_free(&r->body);
    rg_http_body_done(c);
}
