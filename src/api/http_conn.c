/* One connection: reading requests in turn, writing answers, its deadlines, and one way down. */
#include "api/http_conn.h"

#include <assert.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"

enum {
    AHEAD_BYTES_MAX = 64 << 10,       /* of pipelined requests; then reading pauses           */
    ANSWER_BYTES_MAX = 256 << 20,     /* four choices of a full context with all logprobs     */
    LINGER_MS = 2000,                 /* for a client to read the answer and close            */
    LINGER_BYTES_MAX = 64 << 20,
    BODY_RATE_AFTER_MS = 5000,        /* a body slower than 1 KiB/s after this is cut         */
    BODY_RATE_BYTES_PER_S = 1024
};

static void flush(struct rg_http_conn *c);
static void read_on(struct rg_http_conn *c);

static const char too_many_bodies[] = "the server holds too many large bodies; try again later";

/* Counts the body among the server's; a small one is counted as none. */
static void hold_body(struct rg_http_conn *c)
{
    const size_t bytes = c->parser.request.body.len;
    const size_t held = bytes > RG_LIMIT_SMALL_BODY_BYTES ? bytes : 0;

    c->server->bodies_bytes += held - c->body_held;
    c->body_held = held;
}

void rg_http_body_done(struct rg_http_conn *c)
{
    c->server->bodies_bytes -= c->body_held;
    c->body_held = 0;
}

static bool has_room_for_body(const struct rg_http_conn *c)
{
    const uint64_t announced = c->parser.body_left;

    return announced <= RG_LIMIT_SMALL_BODY_BYTES ||
           c->server->bodies_bytes + announced <= RG_LIMIT_BODIES_BYTES;
}

static void on_closed(uv_handle_t *h)
{
    struct rg_http_conn *c = h->data;

    rg_http_body_done(c);
    rg_server_forget(c);
    rg_http_parser_free(&c->parser);
    rg_buf_free(&c->in);
    rg_buf_free(&c->out);
    rg_buf_free(&c->sending);
    rg_buf_free(&c->held);
    rg_free(c);
}

/* The only way down.  A reset frees what the kernel still holds for a client that doesn't read. */
static void close_conn(struct rg_http_conn *c, bool reset)
{
    if (c->state == RG_CONN_CLOSING)
        return;
    c->state = RG_CONN_CLOSING;
    if (!reset || uv_tcp_close_reset(&c->tcp, on_closed) != 0)
        uv_close((uv_handle_t *)&c->tcp, on_closed);
}

static void lose(struct rg_http_conn *c, bool reset)
{
    const bool answering = c->state == RG_CONN_ANSWER;

    if (c->state == RG_CONN_CLOSING)
        return;
    close_conn(c, reset);
    if (answering)
        c->server->events.on_gone(c->server->ud, c);
}

void rg_conn_cut(struct rg_http_conn *c)
{
    lose(c, true);
}

static void enter(struct rg_http_conn *c, enum rg_conn_state state)
{
    c->state = state;
    c->since_ms = rg_clock_ms();
}

static void on_shutdown(uv_shutdown_t *req, int status)
{
    struct rg_http_conn *c = req->data;

    (void)status;
    if (c->state != RG_CONN_LINGER)
        return;
    if (c->eof)
        close_conn(c, false);
}

/* All is written: shut our side, then wait a little for the client to close its own. */
static void shut(struct rg_http_conn *c)
{
    enter(c, RG_CONN_LINGER);
    c->shutdown.data = c;
    if (c->eof || uv_shutdown(&c->shutdown, (uv_stream_t *)&c->tcp, on_shutdown) != 0) {
        close_conn(c, false);
        return;
    }
    read_on(c);
}

size_t rg_http_unsent(const struct rg_http_conn *c)
{
    return c->out.len + uv_stream_get_write_queue_size((const uv_stream_t *)&c->tcp);
}

static void on_written(uv_write_t *req, int status)
{
    struct rg_http_conn *c = req->data;

    c->writing = false;
    rg_buf_clear(&c->sending);
    if (c->state == RG_CONN_CLOSING)
        return;
    if (status < 0) {
        lose(c, false);
        return;
    }
    flush(c);
    if (c->raw && c->state == RG_CONN_ANSWER)
        c->server->events.on_written(c->server->ud, c);
}

static void flush(struct rg_http_conn *c)
{
    struct rg_buf spare = c->sending;
    uv_buf_t      buf;

    if (c->writing || c->state == RG_CONN_CLOSING)
        return;
    if (c->out.len == 0) {
        if (c->state == RG_CONN_FLUSH)
            shut(c);
        return;
    }
    c->sending = c->out;
    c->out = spare;
    buf.base = c->sending.data;
    buf.len = c->sending.len;
    c->write.data = c;
    if (uv_stream_get_write_queue_size((const uv_stream_t *)&c->tcp) == 0)
        c->progress_ms = rg_clock_ms();
    c->writing = true;
    if (uv_write(&c->write, (uv_stream_t *)&c->tcp, &buf, 1, on_written) != 0) {
        c->writing = false;
        close_conn(c, true);
    }
}

static bool keeps_alive(const struct rg_http_conn *c)
{
    return c->parser.request.keep_alive && !c->server->draining &&
           c->n_requests < RG_LIMIT_REQUESTS_PER_CONNECTION;
}

static void finish_body(struct rg_http_conn *c);

static void next_request(struct rg_http_conn *c)
{
    rg_http_body_done(c);
    rg_http_parser_next(&c->parser);
}

static void take_head(struct rg_http_conn *c)
{
    c->in_body = true;
    c->since_ms = rg_clock_ms();
    c->n_requests++;
    c->user = NULL;
    c->in_head_event = true;
    c->server->events.on_head(c->server->ud, c, &c->parser.request);
    c->in_head_event = false;
    c->parser.drop_body = c->refused;
    if (!c->refused && !has_room_for_body(c)) {
        rg_conn_error(c, 503, too_many_bodies);
        return;
    }
    if (!c->parser.request.expects_continue)
        return;
    if (c->refused)
        finish_body(c);
    else if (rg_buf_add_str(&c->out, "HTTP/1.1 100 Continue\r\n\r\n", NULL) == RG_OK)
        flush(c);
}

/* Reads requests from p as long as they are answered at once; keeps the rest for later. */
static void consume(struct rg_http_conn *c, const char *p, size_t n)
{
    c->consuming = true;
    while (c->state == RG_CONN_READ) {
        size_t                  used;
        const enum rg_http_step step = rg_http_parser_feed(&c->parser, p, n, &used);

        p += used;
        n -= used;
        hold_body(c);
        if (c->server->bodies_bytes > RG_LIMIT_BODIES_BYTES && c->body_held > 0) {
            rg_conn_error(c, 503, too_many_bodies);
        } else if (step == RG_HTTP_BAD) {
            rg_conn_error(c, c->parser.status, c->parser.why);
        } else if (step == RG_HTTP_HEAD) {
            take_head(c);
        } else if (step == RG_HTTP_DONE) {
            finish_body(c);
        } else {
            break;
        }
    }
    c->consuming = false;
    if (n > 0 && c->state == RG_CONN_ANSWER && rg_buf_add(&c->in, p, n, NULL) != RG_OK)
        lose(c, true);
}

/* The request is there as a whole, or its refusal needn't wait for its body. */
static void finish_body(struct rg_http_conn *c)
{
    enter(c, RG_CONN_ANSWER);
    c->in_body = false;
    if (!c->refused) {
        c->server->events.on_request(c->server->ud, c, &c->parser.request);
        return;
    }
    c->refused = false;
    if (rg_buf_add(&c->out, c->held.data, c->held.len, NULL) != RG_OK) {
        close_conn(c, true);
        return;
    }
    rg_buf_free(&c->held);
    enter(c, c->close_after ? RG_CONN_FLUSH : RG_CONN_READ);
    if (c->state == RG_CONN_READ)
        next_request(c);
    flush(c);
}

/* The answer is in the buffers: go on with the next request, or close. */
static void finish_answer(struct rg_http_conn *c)
{
    if (c->close_after || c->server->draining) {
        enter(c, RG_CONN_FLUSH);
        flush(c);
        return;
    }
    next_request(c);
    enter(c, RG_CONN_READ);
    flush(c);
    if (!c->consuming && c->in.len > 0) {
        struct rg_buf ahead = c->in;

        rg_buf_init(&c->in, AHEAD_BYTES_MAX + sizeof c->server->read_buf);
        consume(c, ahead.data, ahead.len);
        rg_buf_free(&ahead);
    }
    read_on(c);
}

bool rg_http_reply(struct rg_http_conn *c, const struct rg_http_reply *reply)
{
    struct rg_http_reply_flags flags = {
        .keep_alive = keeps_alive(c),
        .no_body = c->parser.request.method == RG_HTTP_HEAD_METHOD,
    };
    const bool early = c->in_head_event;

    assert(early || (c->state == RG_CONN_ANSWER && !c->streaming));
    if (early && c->parser.request.expects_continue)
        flags.keep_alive = false;
    if (early)
        rg_buf_init(&c->held, ANSWER_BYTES_MAX);
    if (rg_http_response_add(early ? &c->held : &c->out, reply, flags, NULL) != RG_OK) {
        close_conn(c, true);
        return false;
    }
    c->close_after = !flags.keep_alive;
    if (early)
        c->refused = true;
    else
        finish_answer(c);
    return true;
}

bool rg_http_stream_begin(struct rg_http_conn *c, const char *content_type)
{
    const bool keep_alive = keeps_alive(c);

    assert(c->state == RG_CONN_ANSWER && !c->streaming);
    c->chunked = !c->parser.request.http10;
    c->close_after = !keep_alive;
    c->streaming = true;
    if (rg_http_response_begin(&c->out, content_type, c->chunked, keep_alive, NULL) != RG_OK) {
        close_conn(c, true);
        return false;
    }
    flush(c);
    return true;
}

bool rg_http_stream_add(struct rg_http_conn *c, const char *p, size_t n)
{
    enum rg_code code;

    assert(c->state == RG_CONN_ANSWER && c->streaming && n > 0);
    if (rg_http_unsent(c) > RG_LIMIT_SEND_BYTES) {
        close_conn(c, true);
        return false;
    }
    code = c->chunked ? rg_http_response_chunk(&c->out, p, n, NULL)
                      : rg_buf_add(&c->out, p, n, NULL);
    if (code != RG_OK) {
        close_conn(c, true);
        return false;
    }
    flush(c);
    return true;
}

void rg_http_stream_end(struct rg_http_conn *c)
{
    assert(c->state == RG_CONN_ANSWER && c->streaming);
    if (c->chunked && rg_buf_add_str(&c->out, "0\r\n\r\n", NULL) != RG_OK) {
        close_conn(c, true);
        return;
    }
    c->streaming = false;
    finish_answer(c);
}

bool rg_http_raw_add(struct rg_http_conn *c, const char *p, size_t n)
{
    assert(c->state == RG_CONN_ANSWER && !c->streaming && n > 0);
    c->raw = true;
    if (rg_http_unsent(c) > RG_LIMIT_SEND_BYTES || rg_buf_add(&c->out, p, n, NULL) != RG_OK) {
        close_conn(c, true);
        return false;
    }
    flush(c);
    return true;
}

void rg_http_raw_end(struct rg_http_conn *c)
{
    assert(c->state == RG_CONN_ANSWER && c->raw);
    c->raw = false;
    c->close_after = true;
    finish_answer(c);
}

void rg_http_abort(struct rg_http_conn *c)
{
    close_conn(c, true);
}

void rg_conn_error(struct rg_http_conn *c, int status, const char *why)
{
    const struct rg_http_events *events = &c->server->events;
    struct rg_http_reply         reply = {.status = status};
    struct rg_buf                body;
    enum rg_code                 code;

    rg_buf_free(&c->parser.request.body);
    rg_http_body_done(c);
    rg_buf_init(&body, 4096);
    events->make_error(c->server->ud, status, why, &body);
    reply.body = body.data;
    reply.body_len = body.len;
    if (status == 503)
        reply.extra = "Retry-After: 1\r\n";
    code = rg_http_response_add(&c->out, &reply, (struct rg_http_reply_flags){0}, NULL);
    rg_buf_free(&body);
    if (code != RG_OK) {
        close_conn(c, true);
        return;
    }
    enter(c, RG_CONN_FLUSH);
    flush(c);
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    struct rg_http_conn *c = h->data;

    (void)suggested;
    buf->base = c->server->read_buf;
    buf->len = sizeof c->server->read_buf;
}

/* The client has closed its side, or the connection has broken. */
static void on_end(struct rg_http_conn *c)
{
    c->eof = true;
    switch (c->state) {
    case RG_CONN_READ:
        if (rg_http_unsent(c) == 0) {
            close_conn(c, false);
            return;
        }
        enter(c, RG_CONN_FLUSH);
        return;
    case RG_CONN_ANSWER:
        lose(c, false);
        return;
    case RG_CONN_LINGER:
        close_conn(c, false);
        return;
    default:
        return;
    }
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct rg_http_conn *c = stream->data;

    if (n == 0 || c->state == RG_CONN_CLOSING)
        return;
    if (n < 0) {
        (void)uv_read_stop(stream);
        c->reading = false;
        if (n == UV_EOF)
            on_end(c);
        else
            lose(c, false);
        return;
    }
    c->last_read_ms = rg_clock_ms();
    if (c->state == RG_CONN_READ) {
        if (!c->parser.any)
            c->since_ms = c->last_read_ms;
        consume(c, buf->base, (size_t)n);
    } else if (c->state == RG_CONN_ANSWER) {
        if (rg_buf_add(&c->in, buf->base, (size_t)n, NULL) != RG_OK) {
            lose(c, true);
            return;
        }
    } else {
        c->dropped_bytes += (uint64_t)n;
        if (c->dropped_bytes > LINGER_BYTES_MAX)
            close_conn(c, true);
        return;
    }
    if (c->in.len >= AHEAD_BYTES_MAX && c->state == RG_CONN_ANSWER) {
        (void)uv_read_stop(stream);
        c->reading = false;
    }
}

static void read_on(struct rg_http_conn *c)
{
    if (c->reading || c->eof || c->state == RG_CONN_CLOSING)
        return;
    if (c->state == RG_CONN_ANSWER && c->in.len >= AHEAD_BYTES_MAX)
        return;
    c->reading = uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read) == 0;
    if (!c->reading)
        lose(c, false);
}

void rg_conn_start(struct rg_http_conn *c)
{
    rg_http_parser_init(&c->parser);
    rg_buf_init(&c->in, AHEAD_BYTES_MAX + sizeof c->server->read_buf);
    rg_buf_init(&c->out, ANSWER_BYTES_MAX);
    rg_buf_init(&c->sending, ANSWER_BYTES_MAX);
    rg_buf_init(&c->held, ANSWER_BYTES_MAX);
    enter(c, RG_CONN_READ);
    read_on(c);
}

void rg_conn_drain(struct rg_http_conn *c)
{
    if (c->state != RG_CONN_READ || c->parser.any)
        return;
    enter(c, RG_CONN_FLUSH);
    flush(c);
}

static bool write_stalled(struct rg_http_conn *c, int64_t now)
{
    const size_t queued = uv_stream_get_write_queue_size((const uv_stream_t *)&c->tcp);

    if (queued == 0 || queued != c->queue_bytes) {
        c->queue_bytes = queued;
        c->progress_ms = now;
        return false;
    }
    return now - c->progress_ms > RG_LIMIT_WRITE_STALL_MS;
}

static void tick_reading(struct rg_http_conn *c, int64_t now)
{
    const int64_t age = now - c->since_ms;

    if (c->in_body) {
        if (now - c->last_read_ms > RG_LIMIT_BODY_WAIT_MS ||
            (age > BODY_RATE_AFTER_MS &&
             (int64_t)c->parser.body_bytes * 1000 < age * BODY_RATE_BYTES_PER_S))
            rg_conn_error(c, 408, "the body came too slowly");
    } else if (c->parser.any) {
        if (age > RG_LIMIT_HEADER_WAIT_MS)
            rg_conn_error(c, 408, "the headers came too slowly");
    } else if (age > (c->n_requests == 0 ? RG_LIMIT_HEADER_WAIT_MS : RG_LIMIT_IDLE_MS)) {
        close_conn(c, false);
    }
}

void rg_conn_tick(struct rg_http_conn *c, int64_t now)
{
    if (c->state == RG_CONN_CLOSING)
        return;
    if (write_stalled(c, now)) {
        lose(c, true);
        return;
    }
    if (c->state == RG_CONN_READ)
        tick_reading(c, now);
    else if (c->state == RG_CONN_ANSWER)
        c->server->events.on_tick(c->server->ud, c);
    else if (c->state == RG_CONN_LINGER && now - c->since_ms > LINGER_MS)
        close_conn(c, false);
}

void rg_http_conn_set_user(struct rg_http_conn *c, void *user)
{
    c->user = user;
}

void *rg_http_conn_user(const struct rg_http_conn *c)
{
    return c->user;
}
