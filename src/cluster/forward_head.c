/* forward_head.c - the head: a node's request goes to the own API over a loopback connection, and
 * the bytes of its answer go back. */
#include <assert.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cluster/forward_core.h"
#include "cluster/message.h"

enum { QUEUED_BYTES_MAX = 1 << 20, REQUEST_WAIT_MS = 10000 };

struct served {
    struct rg_forward_end end; /* first */
    uv_tcp_t tcp;
    uv_connect_t connect;
    uv_write_t write;
    enum { SOCKET_NONE, SOCKET_OPEN, SOCKET_CLOSING } socket;
    void *request; /* owned: the message that holds it, until it is written */
    const uint8_t *text;
    size_t text_len;
    struct rg_buf message; /* what is being sent; not empty: the link had no room for it */
    size_t queued;         /* bytes given to the link since its queue was last empty */
    bool admitted, refused, asked, reading, eof;
    int64_t since_ms;
};

static void free_if_over(struct served *s)
{
    if (s->socket != SOCKET_NONE || !rg_forward_end_may_go(&s->end))
        return;
    s->end.all->n_served -= s->admitted;
    rg_free(s->request);
    rg_buf_free(&s->message);
    rg_forward_end_free(&s->end);
    rg_free(s);
}

static void on_tcp_closed(uv_handle_t *h)
{
    struct served *s = h->data;

    s->socket = SOCKET_NONE;
    /* look() frees: the end may be ready for another reason. */
    rg_forward_end_wake(&s->end);
}

static void close_tcp(struct served *s)
{
    if (s->socket != SOCKET_OPEN)
        return;
    s->socket = SOCKET_CLOSING;
    uv_close((uv_handle_t *)&s->tcp, on_tcp_closed);
}

static void fail(struct served *s, const char *why)
{
    rg_link_close(s->end.link, why);
    close_tcp(s);
}

/* ---- the answer ------------------------------------------------------------------------------ */

/* False: the link has no room; its message waits for on_sent. */
static bool send_message(struct served *s)
{
    struct rg_err err;
    const enum rg_code code =
        rg_link_send(s->end.link, s->message.data, s->message.len, NULL, &err);

    if (code == RG_E_LIMIT)
        return false;
    if (code != RG_OK)
        fail(s, err.message);
    s->queued += s->message.len;
    rg_buf_clear(&s->message);
    return true;
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    struct served *s = h->data;

    (void)suggested;
    buf->base = s->end.all->read_buf;
    buf->len = sizeof s->end.all->read_buf;
}

static void stop_reading(struct served *s)
{
    (void)uv_read_stop((uv_stream_t *)&s->tcp);
    s->reading = false;
}

static void finish(struct served *s)
{
    rg_link_finish(s->end.link);
    close_tcp(s);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct served *s = stream->data;
    struct rg_err err;

    if (n == 0 || s->socket != SOCKET_OPEN)
        return;
    if (n == UV_EOF) {
        stop_reading(s);
        s->eof = true;
        finish(s);
        return;
    }
    if (n < 0) {
        fail(s, "the head's API cut the answer off");
        return;
    }
    if (rg_forward_encode(&s->message, buf->base, (size_t)n, &err) != RG_OK) {
        fail(s, err.message);
        return;
    }
    if (!send_message(s) || s->queued > QUEUED_BYTES_MAX)
        stop_reading(s);
}

static void read_on(struct served *s)
{
    if (s->reading || s->socket != SOCKET_OPEN || s->eof)
        return;
    s->reading = uv_read_start((uv_stream_t *)&s->tcp, on_alloc, on_read) == 0;
    if (!s->reading)
        fail(s, "the head's API cannot be read from");
}

/* ---- the request ----------------------------------------------------------------------------- */

static void on_written(uv_write_t *write, int status)
{
    struct served *s = write->data;

    /* An API that does not want all of it has said why in its answer. */
    (void)status;
    rg_free(s->request);
    s->request = NULL;
}

static void on_connected(uv_connect_t *connect, int status)
{
    struct served *s = connect->data;
    uv_buf_t buf;

    if (s->socket != SOCKET_OPEN)
        return;
    if (status != 0) {
        fail(s, "the head's API takes no connection");
        return;
    }
    buf.base = (char *)s->request + (s->text - (const uint8_t *)s->request);
    buf.len = s->text_len;
    s->write.data = s;
    (void)uv_tcp_nodelay(&s->tcp, 1);
    if (uv_write(&s->write, (uv_stream_t *)&s->tcp, &buf, 1, on_written) != 0)
        fail(s, "the head's API cannot be written to");
    else
        read_on(s);
}

static void connect_to_api(struct served *s)
{
    const struct rg_forwards *all = s->end.all;
    struct sockaddr_storage address;

    if (all->api_port == 0) {
        rg_link_close(s->end.link, "the head takes no requests yet");
        return;
    }
    if ((uv_ip4_addr(all->api_host, all->api_port, (struct sockaddr_in *)&address) != 0 &&
         uv_ip6_addr(all->api_host, all->api_port, (struct sockaddr_in6 *)&address) != 0) ||
        uv_tcp_init(all->loop, &s->tcp) != 0) {
        rg_link_close(s->end.link, "the head cannot reach its own API");
        return;
    }
    s->socket = SOCKET_OPEN;
    s->tcp.data = s->connect.data = s;
    if (uv_tcp_connect(&s->connect, &s->tcp, (const struct sockaddr *)&address, on_connected) != 0)
        fail(s, "the head cannot reach its own API");
}

static void take_frame(struct served *s, struct rg_frame *f)
{
    struct rg_err err;

    if (s->refused) {
        rg_frame_free(f);
        return;
    }
    if (s->asked) {
        rg_frame_free(f);
        fail(s, "a second request came on one link");
        return;
    }
    s->asked = true;
    if (rg_forward_frame_read(f, &s->request, &s->text, &s->text_len, &err) != RG_OK)
        fail(s, err.message);
    else if (s->text_len == 0)
        fail(s, "an empty request came");
    else
        connect_to_api(s);
}

/* ---- from the transport ---------------------------------------------------------------------- */

static void on_tick(struct rg_forward_end *e)
{
    struct served *s = (struct served *)e;

    if (!s->asked && rg_clock_ms() - s->since_ms > REQUEST_WAIT_MS)
        rg_link_close(e->link, "no request came");
}

#define REFUSAL                                                                                    \
    "{\"error\":{\"message\":\"the head has too many forwarded requests; try again later\","       \
    "\"type\":\"rate_limit_error\",\"param\":null,\"code\":\"queue_full\"}}"
static_assert(sizeof REFUSAL - 1 == 140, "Content-Length of the refusal");

/* As the head's own API would: an end without an answer looks like a lost head. */
static void refuse(struct served *s)
{
    static const char answer[] =
        "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
        "Content-Length: 140\r\nConnection: close\r\n\r\n" REFUSAL;
    struct rg_err err = {0};

    s->refused = s->asked = true;
    if (rg_forward_encode(&s->message, answer, sizeof answer - 1, &err) != RG_OK ||
        rg_link_send(s->end.link, s->message.data, s->message.len, NULL, &err) != RG_OK)
        rg_link_close(s->end.link, err.message);
    else
        rg_link_finish(s->end.link);
    rg_buf_clear(&s->message);
}

static void begin(struct served *s)
{
    s->since_ms = rg_clock_ms();
    s->end.tick = on_tick;
    rg_forward_end_list(&s->end);
    s->admitted = s->end.all->n_served < RG_LIMIT_FORWARDS;
    if (s->admitted)
        s->end.all->n_served++;
    else
        refuse(s);
}

static void look(struct rg_forward_end *e)
{
    struct served *s = (struct served *)e;
    struct rg_frame *f;

    if (!e->listed)
        begin(s);
    if (rg_forwards_are_closing(e->all))
        fail(s, "the head is ending");
    while ((f = rg_forward_end_pop(e)))
        take_frame(s, f);
    if (e->ended) {
        close_tcp(s);
        free_if_over(s);
        return;
    }
    if (!rg_forward_end_take_sent(e))
        return;
    s->queued = 0;
    if (s->message.len == 0 || send_message(s))
        read_on(s);
}

bool rg_forwards_accept(struct rg_forwards *f, struct rg_link *l, struct rg_link_events *events,
                        void **ud)
{
    struct served *s = rg_calloc(1, sizeof *s);

    if (!s)
        return false;
    if (!rg_forward_end_init(&s->end, f, look)) {
        rg_free(s);
        return false;
    }
    s->end.link = l;
    rg_buf_init(&s->message, sizeof f->read_buf + 64);
    *events = rg_forward_end_events;
    *ud = &s->end;
    /* One that never sends anything is found by the clock. */
    rg_forward_end_wake(&s->end);
    return true;
}
