/* api_server.h - the API's server on a thread of its own before the fake model, and a client.
 *
 * For one program per inclusion, after cmocka.h.  set_up() and tear_down() start and end the server
 * around each test, and check that nothing is left: no engine request, no block of memory, no
 * handle of the loop. */
#ifndef RG_TESTS_API_SERVER_H
#define RG_TESTS_API_SERVER_H

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/api.h"
#include "base/limits.h"
#include "base/log.h"
#include "support/fake_llm.h"

/* ---- the server, on a thread of its own ---- */

struct server {
    pthread_t      thread;
    uv_loop_t      loop;
    uv_async_t     wake;
    uv_sem_t       ready;
    struct rg_api *api;
    uint16_t       port;
    atomic_int     drain_ms; /* -1: go on */
    atomic_bool    closed;
    bool           loading;
    const char    *key_file;
};

static struct server server;

/* What a test program does with each server before it takes requests, on its thread; or NULL. */
static void (*server_prepare)(struct server *s);

static inline void on_api_closed(void *ud)
{
    struct server *s = ud;

    atomic_store(&s->closed, true);
    uv_close((uv_handle_t *)&s->wake, NULL);
}

static inline void on_wake(uv_async_t *async)
{
    struct server *s = async->data;

    if (atomic_load(&s->drain_ms) >= 0)
        rg_api_drain(s->api, atomic_load(&s->drain_ms), on_api_closed, s);
}

static inline void *run_server(void *arg)
{
    struct server              *s = arg;
    const struct rg_api_options options = {.host = "127.0.0.1", .api_key_file = s->key_file};
    struct rg_err               err = {.message = ""};

    uv_loop_init(&s->loop);
    uv_async_init(&s->loop, &s->wake, on_wake);
    s->wake.data = s;
    if (rg_api_open(&s->api, &s->loop, &options, &err) != RG_OK)
        fail_msg("%s", err.message);
    if (!s->loading)
        rg_api_set_model(s->api, &fake_llm);
    if (server_prepare)
        server_prepare(s);
    s->port = rg_api_port(s->api);
    uv_sem_post(&s->ready);
    uv_run(&s->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&s->loop), 0);
    return NULL;
}

static inline void start_server(bool loading, const char *key_file)
{
    fake_start();
    memset(&server, 0, sizeof server);
    server.loading = loading;
    server.key_file = key_file;
    atomic_store(&server.drain_ms, -1);
    uv_sem_init(&server.ready, 0);
    pthread_create(&server.thread, NULL, run_server, &server);
    uv_sem_wait(&server.ready);
}

static inline void drain_server(int deadline_ms)
{
    atomic_store(&server.drain_ms, deadline_ms);
    uv_async_send(&server.wake);
}

static inline void join_server(void)
{
    pthread_join(server.thread, NULL);
    uv_sem_destroy(&server.ready);
    fake_stop();
}

static int64_t live_before;

static inline int set_up(void **state)
{
    (void)state;
    fake_reset();
    live_before = rg_mem_live();
    start_server(false, NULL);
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    if (!atomic_load(&server.closed))
        drain_server(0);
    join_server();
    assert_int_equal(atomic_load(&fake_engine.live), 0);
    assert_int_equal(rg_mem_live(), live_before);
    return 0;
}

/* ---- a client ---- */

struct client {
    int    fd;
    char  *data; /* what was received, NUL-terminated */
    size_t len, capacity;
    bool   eof;
};

static inline void open_client(struct client *c)
{
    const struct sockaddr_in a = {
        .sin_family = AF_INET,
        .sin_port = htons(server.port),
        .sin_addr.s_addr = htonl(0x7f000001),
    };
    const int one = 1;

    *c = (struct client){.fd = socket(AF_INET, SOCK_STREAM, 0)};
    assert_true(c->fd >= 0);
    assert_int_equal(connect(c->fd, (const struct sockaddr *)&a, sizeof a), 0);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->capacity = 1 << 20;
    c->data = test_malloc(c->capacity);
    c->data[0] = '\0';
}

static inline void close_client(struct client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    test_free(c->data);
}

static inline void send_bytes(struct client *c, const char *p, size_t n)
{
    while (n > 0) {
        const ssize_t sent = send(c->fd, p, n, MSG_NOSIGNAL);

        if (sent <= 0)
            return;
        p += sent;
        n -= (size_t)sent;
    }
}

static inline void send_text(struct client *c, const char *text)
{
    send_bytes(c, text, strlen(text));
}

/* One read; false at the end or after wait_ms of silence. */
static inline bool receive_some(struct client *c, int wait_ms)
{
    struct pollfd p = {.fd = c->fd, .events = POLLIN};
    ssize_t       n;

    if (c->len + 1 >= c->capacity || poll(&p, 1, wait_ms) <= 0)
        return false;
    n = recv(c->fd, c->data + c->len, c->capacity - c->len - 1, 0);
    if (n <= 0) {
        c->eof = true;
        return false;
    }
    c->len += (size_t)n;
    c->data[c->len] = '\0';
    return true;
}

static inline void forget_received(struct client *c)
{
    c->len = 0;
    c->data[0] = '\0';
}

static inline void receive_all(struct client *c)
{
    while (receive_some(c, 5000))
        ;
    if (!c->eof)
        fail_msg("the connection stays open; received: %.300s", c->data);
}

static inline void receive_until(struct client *c, const char *text)
{
    while (!strstr(c->data, text))
        if (!receive_some(c, 5000))
            fail_msg("%s did not come; received: %.500s", text, c->data);
}

static inline uint32_t count_text(const char *in, const char *text)
{
    uint32_t n = 0;

    for (const char *p = strstr(in, text); p; p = strstr(p + 1, text))
        n++;
    return n;
}

static inline void expect_text(const struct client *c, const char *text)
{
    if (!strstr(c->data, text))
        fail_msg("%s is not in: %.800s", text, c->data);
}

static inline void send_chat(struct client *c, const char *more)
{
    char body[8192], head[300];
    int  n = snprintf(body, sizeof body,
                      "{\"model\":\"fake-model\",\"messages\":"
                      "[{\"role\":\"user\",\"content\":\"Hi\"}]%s%s}",
                      *more ? "," : "", more);

    (void)snprintf(head, sizeof head,
                   "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                   "application/json\r\nContent-Length: %d\r\n\r\n",
                   n);
    send_text(c, head);
    send_text(c, body);
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: localhost\r\n\r\n"
#define GET_CLOSE(path) "GET " path " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

/* Sends, and takes all until the server closes. */
static inline void ask(struct client *c, const char *text)
{
    open_client(c);
    send_text(c, text);
    receive_all(c);
}

static inline void expect_answer(const char *request, const char *status, const char *text)
{
    struct client c;

    ask(&c, request);
    expect_text(&c, status);
    expect_text(&c, text);
    close_client(&c);
}

static inline void wait_for_live(int want)
{
    for (int i = 0; i < 500 && atomic_load(&fake_engine.live) != want; i++)
        fake_sleep_us(10000);
    assert_int_equal(atomic_load(&fake_engine.live), want);
}

/* Takes the contents of all deltas of a choice together; the test's texts have no escapes. */
static inline void join_deltas(const char *data, int index, char *out, size_t size)
{
    char   key[60];
    size_t n = 0;

    (void)snprintf(key, sizeof key, "{\"index\":%d,\"delta\":{", index);
    for (const char *p = strstr(data, key); p; p = strstr(p + 1, key)) {
        const char *brace = strchr(p + strlen(key), '}');
        const char *text = strstr(p, "\"content\":\"");

        if (!text || text > brace)
            continue;
        for (text += 11; *text != '"' && n + 1 < size; text++)
            out[n++] = *text;
    }
    out[n] = '\0';
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
