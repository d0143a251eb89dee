/* fault_proxy.c - a TCP proxy that does to bytes what a bad network does.
 *
 * usage: fault_proxy LISTEN_ADDRESS PORT TO_ADDRESS PORT [SEED]
 *
 * A command per line of standard input; WAY is up (to the server) or down; N counts the bytes that
 * come from now on, over all connections.  What a command arms happens once:
 *   delay MS JITTER   every byte arrives MS later, give or take JITTER (in order still)
 *   rate BYTES        that many bytes per second and connection; 0: as they come
 *   stall WAY         nothing is read from now on; its sender sees no error
 *   refuse            no new connections: an RST instead
 *   flip WAY N        a bit of the N-th byte changes
 *   dup WAY N         from the N-th byte on what was read with it comes twice
 *   cut WAY N         the bytes before the N-th arrive, then both ends see an end
 *   rst WAY N         the same with an RST, and what is under way is lost
 *   cut               every connection, now;  rst: the same
 *   clear             no fault any more
 * It ends with its standard input.  A line on standard output for everything that happens. */
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/mem.h"

enum { HELD_MOST = 1 << 20, PIECE = 1 << 16, LINE = 128 };

enum way_name { UP, DOWN };
enum kind { NOTHING, FLIP, DUP, CUT, RST };

static const char *const way_names[] = {"up", "down"};
static const char *const kind_names[] = {"", "flip", "dup", "cut", "rst"};

/* Bytes on their way; none: the end of the connection. */
struct piece {
    struct piece *next;
    struct way *way;
    uv_write_t write;
    uint64_t due_ms;
    size_t n;
    bool cut; /* after it both ends are closed */
    char bytes[];
};

struct way {
    struct conn *conn;
    enum way_name name;
    uv_stream_t *from, *to;
    uv_timer_t timer;
    uv_shutdown_t shutdown;
    struct piece *first, *last;
    uint64_t last_due_ms;
    size_t held;
    bool ended;
};

struct conn {
    struct conn *next;
    uv_tcp_t client, server;
    uv_connect_t connect;
    struct way ways[2];
    unsigned number, handles;
    bool connected, closing;
};

struct armed {
    enum kind kind;
    uint64_t left; /* bytes before the one that is meant */
};

static struct {
    uv_loop_t *loop;
    struct sockaddr_storage to;
    struct conn *conns;
    unsigned n_conns;
    uint64_t random, delay_ms, jitter_ms, rate;
    struct armed armed[2];
    bool stalled[2], refuse;
    char line[LINE];
    size_t line_n;
    char in[PIECE];
} proxy;

static uint64_t draw(void)
{
    proxy.random = proxy.random * 6364136223846793005u + 1442695040888963407u;
    return proxy.random >> 33;
}

/* ---- connections ----------------------------------------------------------------------------- */

static void on_closed(uv_handle_t *handle)
{
    struct conn *c = handle->data;
    struct conn **at = &proxy.conns;

    if (--c->handles > 0)
        return;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    for (int i = 0; i < 2; i++) {
        while (c->ways[i].first) {
            struct piece *p = c->ways[i].first;

            c->ways[i].first = p->next;
            rg_free(p);
        }
    }
    printf("closed %u\n", c->number);
    rg_free(c);
}

static void close_tcp(uv_tcp_t *tcp, bool reset)
{
    if (!reset || uv_tcp_close_reset(tcp, on_closed) != 0)
        uv_close((uv_handle_t *)tcp, on_closed);
}

static void close_conn(struct conn *c, bool reset)
{
    if (c->closing)
        return;
    c->closing = true;
    close_tcp(&c->client, reset);
    close_tcp(&c->server, reset && c->connected);
    for (int i = 0; i < 2; i++)
        uv_close((uv_handle_t *)&c->ways[i].timer, on_closed);
}

static void close_all(bool reset)
{
    for (struct conn *c = proxy.conns; c; c = c->next)
        close_conn(c, reset);
}

/* ---- one way --------------------------------------------------------------------------------- */

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf);
static void pump(struct way *w);

/* One thread reads one piece at a time, and takes a copy at once. */
static void on_alloc(uv_handle_t *handle, size_t wish, uv_buf_t *buf)
{
    (void)handle;
    (void)wish;
    *buf = uv_buf_init(proxy.in, sizeof proxy.in);
}

static void read_or_not(struct way *w)
{
    if (w->conn->closing || !w->conn->connected || w->ended)
        return;
    if (proxy.stalled[w->name] || w->held > HELD_MOST)
        uv_read_stop(w->from);
    else
        (void)uv_read_start(w->from, on_alloc, on_read);
}

static void on_written(uv_write_t *write, int status)
{
    struct piece *p = write->data;
    struct way *w = p->way;

    w->held -= p->n;
    if (status != 0 || p->cut)
        close_conn(w->conn, false);
    else
        read_or_not(w);
    rg_free(p);
}

static void on_shutdown(uv_shutdown_t *shutdown, int status)
{
    struct conn *c = shutdown->data;

    (void)status;
    if (c->ways[UP].ended && c->ways[DOWN].ended && !c->ways[UP].first && !c->ways[DOWN].first)
        close_conn(c, false);
}

static void send_piece(struct way *w, struct piece *p)
{
    const uv_buf_t buf = uv_buf_init(p->bytes, (unsigned)p->n);

    if (p->n == 0 && !p->cut) {
        rg_free(p);
        w->shutdown.data = w->conn;
        if (uv_shutdown(&w->shutdown, w->to, on_shutdown) != 0)
            close_conn(w->conn, false);
        return;
    }
    p->write.data = p;
    if (uv_write(&p->write, w->to, &buf, 1, on_written) != 0) {
        rg_free(p);
        close_conn(w->conn, false);
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct conn *c = timer->data;

    pump(timer == &c->ways[UP].timer ? &c->ways[UP] : &c->ways[DOWN]);
}

static void pump(struct way *w)
{
    const uint64_t now = uv_now(proxy.loop);

    while (!w->conn->closing && w->first && w->first->due_ms <= now) {
        struct piece *p = w->first;

        w->first = p->next;
        if (!w->first)
            w->last = NULL;
        send_piece(w, p);
    }
    if (!w->conn->closing && w->first)
        (void)uv_timer_start(&w->timer, on_timer, w->first->due_ms - now, 0);
}

static uint64_t due(struct way *w, size_t n)
{
    uint64_t at = uv_now(proxy.loop) + proxy.delay_ms;

    if (proxy.jitter_ms > 0)
        at += draw() % (2 * proxy.jitter_ms + 1);
    at = at > proxy.jitter_ms ? at - proxy.jitter_ms : 0;
    if (at < w->last_due_ms)
        at = w->last_due_ms;
    if (proxy.rate > 0)
        at += n * 1000 / proxy.rate;
    w->last_due_ms = at;
    return at;
}

static void queue(struct way *w, const char *bytes, size_t n, bool cut)
{
    struct piece *p = rg_calloc(1, sizeof *p + n);

    if (!p) {
        close_conn(w->conn, true);
        return;
    }
    p->way = w;
    p->n = n;
    p->cut = cut;
    p->due_ms = due(w, n);
    if (n > 0)
        memcpy(p->bytes, bytes, n);
    if (w->last)
        w->last->next = p;
    else
        w->first = p;
    w->last = p;
    w->held += n;
}

/* The fault that is armed for byte `at` of these n happens. */
static void strike(struct way *w, enum kind kind, size_t at, size_t n)
{
    printf("%s %s conn=%u byte=%zu of %zu\n", kind_names[kind], way_names[w->name],
           w->conn->number, at, n);
    if (kind == FLIP)
        proxy.in[at] = (char)(proxy.in[at] ^ 1 << draw() % 8);
    if (kind == RST) {
        close_conn(w->conn, true);
    } else if (kind == CUT) {
        w->ended = true;
        uv_read_stop(w->from);
        queue(w, proxy.in, at, true);
    } else {
        queue(w, proxy.in, n, false);
        if (kind == DUP)
            queue(w, proxy.in + at, n - at, false);
    }
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct conn *c = stream->data;
    struct way *w = stream == (uv_stream_t *)&c->client ? &c->ways[UP] : &c->ways[DOWN];
    struct armed *a = &proxy.armed[w->name];

    (void)buf;
    if (n == 0)
        return;
    if (n == UV_EOF) {
        w->ended = true;
        queue(w, NULL, 0, false);
    } else if (n < 0) {
        close_conn(c, true);
    } else if (a->kind != NOTHING && a->left < (size_t)n) {
        const struct armed now = *a;

        a->kind = NOTHING;
        strike(w, now.kind, (size_t)now.left, (size_t)n);
    } else {
        a->left -= a->kind == NOTHING ? 0 : (uint64_t)n;
        queue(w, proxy.in, (size_t)n, false);
    }
    pump(w);
    read_or_not(w);
}

/* ---- coming ---------------------------------------------------------------------------------- */

static void on_connected(uv_connect_t *connect, int status)
{
    struct conn *c = connect->data;

    if (c->closing)
        return;
    if (status != 0) {
        printf("no server for %u: %s\n", c->number, uv_strerror(status));
        close_conn(c, true);
        return;
    }
    c->connected = true;
    for (int i = 0; i < 2; i++)
        read_or_not(&c->ways[i]);
}

static void init_handles(struct conn *c)
{
    uv_tcp_t *const ends[2] = {&c->client, &c->server};

    c->handles = 4;
    for (int i = 0; i < 2; i++) {
        struct way *w = &c->ways[i];

        (void)uv_tcp_init(proxy.loop, ends[i]);
        (void)uv_timer_init(proxy.loop, &w->timer);
        ends[i]->data = w->timer.data = c->connect.data = w->conn = c;
        w->name = i == 0 ? UP : DOWN;
        w->from = (uv_stream_t *)ends[i];
        w->to = (uv_stream_t *)ends[1 - i];
    }
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct conn *c = status == 0 ? rg_calloc(1, sizeof *c) : NULL;

    if (!c)
        return;
    init_handles(c);
    c->number = ++proxy.n_conns;
    c->next = proxy.conns;
    proxy.conns = c;
    if (uv_accept(listener, (uv_stream_t *)&c->client) != 0 || proxy.refuse) {
        close_conn(c, true);
        return;
    }
    printf("open %u\n", c->number);
    (void)uv_tcp_nodelay(&c->client, 1);
    (void)uv_tcp_nodelay(&c->server, 1);
    if (uv_tcp_connect(&c->connect, &c->server, (const struct sockaddr *)&proxy.to,
                       on_connected) != 0)
        close_conn(c, true);
}

/* ---- commands -------------------------------------------------------------------------------- */

static uint64_t number(const char *text)
{
    return text ? strtoull(text, NULL, 10) : 0;
}

static void clear(void)
{
    memset(proxy.armed, 0, sizeof proxy.armed);
    memset(proxy.stalled, 0, sizeof proxy.stalled);
    proxy.delay_ms = proxy.jitter_ms = proxy.rate = 0;
    proxy.refuse = false;
}

static bool arm(const char *name, const char *way, const char *n)
{
    const enum way_name to = way && strcmp(way, "down") == 0 ? DOWN : UP;

    for (int k = FLIP; k <= RST; k++) {
        if (strcmp(name, kind_names[k]) != 0)
            continue;
        if (way)
            proxy.armed[to] = (struct armed){(enum kind)k, number(n)};
        else if (k == CUT || k == RST)
            close_all(k == RST);
        return way || k == CUT || k == RST;
    }
    if (strcmp(name, "stall") != 0)
        return false;
    proxy.stalled[to] = true;
    return true;
}

static void obey(char *line)
{
    char *space = strchr(line, ' ');
    const char *one = NULL, *two = NULL;

    if (space) {
        *space = 0;
        one = space + 1;
        space = strchr(space + 1, ' ');
        two = space ? space + 1 : NULL;
        if (space)
            *space = 0;
    }
    if (strcmp(line, "delay") == 0) {
        proxy.delay_ms = number(one);
        proxy.jitter_ms = number(two);
    } else if (strcmp(line, "rate") == 0) {
        proxy.rate = number(one);
    } else if (strcmp(line, "refuse") == 0) {
        proxy.refuse = true;
    } else if (strcmp(line, "clear") == 0) {
        clear();
    } else if (!arm(line, one, two)) {
        printf("what is '%s'?\n", line);
        return;
    }
    for (struct conn *c = proxy.conns; c; c = c->next)
        for (int i = 0; i < 2; i++)
            read_or_not(&c->ways[i]);
    printf("done %s\n", line);
}

static void on_command(uv_stream_t *in, ssize_t n, const uv_buf_t *buf)
{
    if (n < 0) {
        uv_stop(in->loop);
        return;
    }
    for (ssize_t i = 0; i < n; i++) {
        if (buf->base[i] == '\n') {
            proxy.line[proxy.line_n] = 0;
            proxy.line_n = 0;
            obey(proxy.line);
        } else if (proxy.line_n < LINE - 1) {
            proxy.line[proxy.line_n++] = buf->base[i];
        }
    }
}

static int address(const char *host, const char *port, struct sockaddr_storage *out)
{
    const int n = (int)number(port);

    if (strchr(host, ':'))
        return uv_ip6_addr(host, n, (struct sockaddr_in6 *)out);
    return uv_ip4_addr(host, n, (struct sockaddr_in *)out);
}

static int run(uv_tcp_t *listener, const struct sockaddr_storage *at)
{
    static uv_pipe_t in;
    int status = uv_tcp_init(proxy.loop, listener);

    if (status == 0)
        status = uv_tcp_bind(listener, (const struct sockaddr *)at, 0);
    if (status == 0)
        status = uv_listen((uv_stream_t *)listener, 128, on_connection);
    if (status == 0)
        status = uv_pipe_init(proxy.loop, &in, 0);
    if (status == 0)
        status = uv_pipe_open(&in, 0);
    if (status == 0)
        status = uv_read_start((uv_stream_t *)&in, on_alloc, on_command);
    if (status != 0)
        return status;
    printf("ready\n");
    (void)uv_run(proxy.loop, UV_RUN_DEFAULT);
    return 0;
}

int main(int argc, char **argv)
{
    static uv_tcp_t listener;
    struct sockaddr_storage at;
    int status;

    if (argc < 5 || address(argv[1], argv[2], &at) != 0 ||
        address(argv[3], argv[4], &proxy.to) != 0) {
        fprintf(stderr, "usage: fault_proxy LISTEN_ADDRESS PORT TO_ADDRESS PORT [SEED]\n");
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    proxy.random = number(argc > 5 ? argv[5] : "1");
    proxy.loop = uv_default_loop();
    status = run(&listener, &at);
    if (status != 0)
        fprintf(stderr, "fault_proxy: %s port %s: %s\n", argv[1], argv[2], uv_strerror(status));
    return status == 0 ? 0 : 1;
}
