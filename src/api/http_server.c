/* The listening socket, the list of connections, their clock, and the way down. */
#include "api/http_server.h"

#include <signal.h>
#include <string.h>

#include "api/http_conn.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"

enum {
    TICK_MS = 250,
    BACKLOG = 1024,
    SPARE_CONNECTIONS = 64 /* over the limit, so that those too many can be told */
};

static void on_handle_closed(uv_handle_t *h)
{
    struct rg_http_server *s = h->data;
    struct rg_http_events  events = s->events;
    void                  *ud = s->ud;

    if (--s->n_handles > 0)
        return;
    rg_free(s);
    if (events.on_closed)
        events.on_closed(ud);
}

static void close_if_over(struct rg_http_server *s)
{
    if (s->draining && s->n_conns == 0 && !uv_is_closing((uv_handle_t *)&s->timer))
        uv_close((uv_handle_t *)&s->timer, on_handle_closed);
}

void rg_server_forget(struct rg_http_conn *c)
{
    struct rg_http_server *s = c->server;

    if (c->prev)
        c->prev->next = c->next;
    else
        s->conns = c->next;
    if (c->next)
        c->next->prev = c->prev;
    if (--s->n_conns == 0 && !s->accept_waits)
        uv_timer_stop(&s->timer);
    close_if_over(s);
}

static void on_connection(uv_stream_t *listener, int status);

static void on_timer(uv_timer_t *timer)
{
    struct rg_http_server *s = timer->data;
    const int64_t          now = rg_clock_ms();
    struct rg_http_conn   *next;

    if (s->accept_waits && !s->draining)
        on_connection((uv_stream_t *)&s->listener, 0);
    /* A connection leaves the list only when its handle was closed, which is never from here. */
    for (struct rg_http_conn *c = s->conns; c; c = next) {
        next = c->next;
        if (s->draining && now >= s->cut_at_ms)
            rg_conn_cut(c);
        else
            rg_conn_tick(c, now);
    }
}

static void peer_name(struct rg_http_conn *c)
{
    struct sockaddr_storage a;
    int                     n = (int)sizeof a;

    c->address[0] = '\0';
    if (uv_tcp_getpeername(&c->tcp, (struct sockaddr *)&a, &n) != 0)
        return;
    if (a.ss_family == AF_INET)
        (void)uv_ip4_name((const struct sockaddr_in *)&a, c->address, sizeof c->address);
    else if (a.ss_family == AF_INET6)
        (void)uv_ip6_name((const struct sockaddr_in6 *)&a, c->address, sizeof c->address);
}

static bool has_too_many(const struct rg_http_server *s, const char *address)
{
    /* What other nodes hand over comes from this machine too, beside its own clients. */
    const bool own = strncmp(address, "127.", 4) == 0 || strcmp(address, "::1") == 0 ||
                     strncmp(address, "::ffff:127.", 11) == 0;
    uint32_t   n = 0;

    for (const struct rg_http_conn *c = s->conns; c; c = c->next)
        n += strcmp(c->address, address) == 0;
    return n > RG_LIMIT_CONNECTIONS_PER_ADDRESS + (own ? RG_LIMIT_FORWARDS : 0);
}

static void on_refused_closed(uv_handle_t *h)
{
    struct rg_http_conn   *c = h->data;
    struct rg_http_server *s = c->server;

    rg_free(c);
    s->n_conns--;
    close_if_over(s);
}

static void need_timer(struct rg_http_server *s)
{
    if (!uv_is_active((uv_handle_t *)&s->timer))
        (void)uv_timer_start(&s->timer, on_timer, TICK_MS, TICK_MS);
}

static void add_conn(struct rg_http_server *s, struct rg_http_conn *c)
{
    c->next = s->conns;
    if (c->next)
        c->next->prev = c;
    s->conns = c;
    need_timer(s);
    (void)uv_tcp_nodelay(&c->tcp, 1);
    peer_name(c);
    rg_conn_start(c);
    if (s->n_conns > RG_LIMIT_CONNECTIONS)
        rg_conn_error(c, 503, "1024 connections are open already");
    else if (has_too_many(s, c->address))
        rg_conn_error(c, 503, "too many connections of this address are open already");
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct rg_http_server *s = listener->data;
    struct rg_http_conn   *c;

    if (status < 0)
        return;
    c = rg_calloc(1, sizeof *c);
    /* libuv calls again only after an accept, so one that can't be made now must be made later. */
    s->accept_waits = !c || uv_tcp_init(s->loop, &c->tcp) != 0;
    if (s->accept_waits) {
        rg_free(c);
        need_timer(s);
        return;
    }
    c->server = s;
    c->tcp.data = c;
    s->n_conns++;
    if (uv_accept(listener, (uv_stream_t *)&c->tcp) != 0 ||
        s->n_conns > RG_LIMIT_CONNECTIONS + SPARE_CONNECTIONS) {
        uv_close((uv_handle_t *)&c->tcp, on_refused_closed);
        return;
    }
    add_conn(s, c);
}

static void on_failed_closed(uv_handle_t *h)
{
    struct rg_http_server *s = h->data;

    if (--s->n_handles == 0)
        rg_free(s);
}

enum rg_code rg_http_server_open(struct rg_http_server **out, uv_loop_t *loop,
                                 const struct sockaddr *address,
                                 const struct rg_http_events *events, void *ud, struct rg_err *err)
{
    struct rg_http_server *s = rg_calloc(1, sizeof *s);
    int                    status;

    if (!s)
        return rg_fail(err, RG_E_NOMEM, "api: out of memory");
    s->loop = loop;
    s->events = *events;
    s->ud = ud;
    s->listener.data = s->timer.data = s;
    if (uv_tcp_init(loop, &s->listener) != 0) {
        rg_free(s);
        return rg_fail(err, RG_E_IO, "api: cannot make a socket");
    }
    (void)uv_timer_init(loop, &s->timer);
    s->n_handles = 2;
    /* Writing to a client that has left must be an error of that write, not a signal. */
    (void)signal(SIGPIPE, SIG_IGN);
    status = uv_tcp_bind(&s->listener, address, 0);
    if (status == 0)
        status = uv_listen((uv_stream_t *)&s->listener, BACKLOG, on_connection);
    if (status != 0) {
        uv_close((uv_handle_t *)&s->listener, on_failed_closed);
        uv_close((uv_handle_t *)&s->timer, on_failed_closed);
        return rg_fail(err, RG_E_IO, "%s", uv_strerror(status));
    }
    *out = s;
    return RG_OK;
}

uint16_t rg_http_server_port(const struct rg_http_server *s)
{
    struct sockaddr_storage a;
    int                     n = (int)sizeof a;

    if (uv_tcp_getsockname(&s->listener, (struct sockaddr *)&a, &n) != 0)
        return 0;
    if (a.ss_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)&a)->sin6_port);
    return ntohs(((const struct sockaddr_in *)&a)->sin_port);
}

void rg_http_server_drain(struct rg_http_server *s, int64_t deadline_ms)
{
    const int64_t        cut_at = rg_clock_ms() + deadline_ms;
    struct rg_http_conn *next;

    if (!s->draining || cut_at < s->cut_at_ms)
        s->cut_at_ms = cut_at;
    if (!s->draining)
        uv_close((uv_handle_t *)&s->listener, on_handle_closed);
    s->draining = true;
    for (struct rg_http_conn *c = s->conns; c; c = next) {
        next = c->next;
        if (deadline_ms <= 0)
            rg_conn_cut(c);
        else
            rg_conn_drain(c);
    }
    close_if_over(s);
}
