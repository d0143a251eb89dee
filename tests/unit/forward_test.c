/* forward_test.c - requests handed from one node to another over real links, before a small TCP
 * server that stands for the head's API. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "cluster/forward.h"
#include "cluster/message.h"

enum { WAIT_MS = 20000 };

/* ---- the head's API -------------------------------------------------------------------------- */

enum api_mode { API_ECHO, API_SILENT, API_RESET, API_ENDLESS };

struct api_conn {
    uv_tcp_t tcp;
    uv_write_t write;
    struct rg_buf got;
};

static struct {
    uv_tcp_t listener;
    enum api_mode mode;
    size_t expected;      /* bytes of a request, then it is answered */
    int n_live, n_opened; /* connections */
    uint64_t written, to_write; /* API_ENDLESS */
    struct rg_buf last;   /* the last whole request */
} api;

static uv_loop_t loop;

static void on_conn_closed(uv_handle_t *h)
{
    struct api_conn *c = h->data;

    rg_buf_free(&c->got);
    rg_free(c);
    api.n_live--;
}

static void close_conn(struct api_conn *c)
{
    if (!uv_is_closing((uv_handle_t *)&c->tcp))
        uv_close((uv_handle_t *)&c->tcp, on_conn_closed);
}

static uint8_t pattern(uint64_t at)
{
    return (uint8_t)(at * 7 + at / 251);
}

static void write_more(uv_write_t *write, int status)
{
    static uint8_t bytes[64 << 10];
    struct api_conn *c = write->data;
    uv_buf_t buf = uv_buf_init((char *)bytes, sizeof bytes);

    if (status != 0 || api.written >= api.to_write) {
        close_conn(c);
        return;
    }
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = pattern(api.written + i);
    api.written += sizeof bytes;
    assert_int_equal(uv_write(&c->write, (uv_stream_t *)&c->tcp, &buf, 1, write_more), 0);
}

static void on_echoed(uv_write_t *write, int status)
{
    (void)status;
    close_conn(write->data);
}

/* The test lets one allocation fail: the second try is another one. */
static void keep(struct rg_buf *b, const void *p, size_t n)
{
    if (rg_buf_add(b, p, n, NULL) != RG_OK)
        assert_int_equal(rg_buf_add(b, p, n, NULL), RG_OK);
}

static void answer(struct api_conn *c)
{
    uv_buf_t buf = uv_buf_init(c->got.data, (unsigned)c->got.len);

    rg_buf_clear(&api.last);
    keep(&api.last, c->got.data, c->got.len);
    c->write.data = c;
    if (api.mode == API_ECHO)
        uv_write(&c->write, (uv_stream_t *)&c->tcp, &buf, 1, on_echoed);
    else if (api.mode == API_RESET)
        uv_tcp_close_reset(&c->tcp, on_conn_closed);
    else if (api.mode == API_ENDLESS)
        write_more(&c->write, 0);
}

static void on_api_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    static char bytes[64 << 10];

    (void)h, (void)suggested;
    *buf = uv_buf_init(bytes, sizeof bytes);
}

static void on_api_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct api_conn *c = stream->data;

    if (n < 0) {
        close_conn(c);
        return;
    }
    keep(&c->got, buf->base, (size_t)n);
    if (c->got.len == api.expected)
        answer(c);
}

static void on_api_connection(uv_stream_t *listener, int status)
{
    struct api_conn *c = rg_calloc(1, sizeof *c);

    assert_int_equal(status, 0);
    if (!c)
        c = rg_calloc(1, sizeof *c);
    assert_non_null(c);
    rg_buf_init(&c->got, 64 << 20);
    uv_tcp_init(&loop, &c->tcp);
    c->tcp.data = c;
    assert_int_equal(uv_accept(listener, (uv_stream_t *)&c->tcp), 0);
    api.n_live++;
    api.n_opened++;
    uv_read_start((uv_stream_t *)&c->tcp, on_api_alloc, on_api_read);
}

static uint16_t open_api(void)
{
    struct sockaddr_storage a;
    int n = sizeof a;

    rg_buf_init(&api.last, 64 << 20);
    uv_ip4_addr("127.0.0.1", 0, (struct sockaddr_in *)&a);
    uv_tcp_init(&loop, &api.listener);
    assert_int_equal(uv_tcp_bind(&api.listener, (struct sockaddr *)&a, 0), 0);
    assert_int_equal(uv_listen((uv_stream_t *)&api.listener, 512, on_api_connection), 0);
    uv_tcp_getsockname(&api.listener, (struct sockaddr *)&a, &n);
    return ntohs(((struct sockaddr_in *)&a)->sin_port);
}

/* ---- the two nodes --------------------------------------------------------------------------- */

static struct rg_transport *node, *head;
static struct rg_forwards *at_node, *at_head;
static uint16_t api_port;
static int n_closed;
static int64_t live_before;

static bool on_accept(void *ud, struct rg_link *l, enum rg_link_kind kind, const char *names,
                      const char *address, struct rg_link_events *events, void **link_ud)
{
    (void)ud, (void)names, (void)address;
    return kind == RG_LINK_FORWARD && rg_forwards_accept(at_head, l, events, link_ud);
}

static void on_closed(void *ud)
{
    (void)ud;
    n_closed++;
}

static int set_up(void **state)
{
    const struct rg_transport_options at = {
        .host = "127.0.0.1", .node_id = "head", .on_accept = on_accept};
    const struct rg_transport_options from = {.node_id = "node"};
    struct rg_err err;

    (void)state;
    live_before = rg_mem_live();
    memset(&api, 0, sizeof api);
    n_closed = 0;
    uv_loop_init(&loop);
    api_port = open_api();
    if (rg_forwards_open(&at_head, &loop, &err) || rg_forwards_open(&at_node, &loop, &err) ||
        rg_transport_open(&head, &at, &err) || rg_transport_open(&node, &from, &err))
        fail_msg("%s", err.message);
    rg_forwards_set_api(at_head, "0.0.0.0", api_port);
    return 0;
}

static bool turn_until(const int *counter, int want)
{
    const int64_t end = rg_clock_ms() + WAIT_MS;

    while (*counter < want && rg_clock_ms() < end) {
        uv_run(&loop, UV_RUN_NOWAIT);
        if (*counter < want)
            uv_sleep(1);
    }
    return *counter >= want;
}

static void turn_for(int64_t ms)
{
    const int64_t end = rg_clock_ms() + ms;

    while (rg_clock_ms() < end) {
        uv_run(&loop, UV_RUN_NOWAIT);
        uv_sleep(1);
    }
}

static int tear_down(void **state)
{
    (void)state;
    if (n_closed == 0) {
        rg_forwards_close(at_node, on_closed, NULL);
        rg_forwards_close(at_head, on_closed, NULL);
    }
    uv_close((uv_handle_t *)&api.listener, NULL);
    assert_true(turn_until(&n_closed, 2));
    rg_transport_close(node);
    rg_transport_close(head);
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(api.n_live, 0);
    rg_buf_free(&api.last);
    assert_int_equal(uv_loop_close(&loop), 0);
    assert_int_equal(rg_mem_live(), live_before);
    return 0;
}

/* ---- a client -------------------------------------------------------------------------------- */

struct client {
    struct rg_forward *forward;
    uint64_t n_bytes;
    bool right;
    char first[256]; /* of the bytes, as text */
    int ended;
    struct rg_err why;
};

static void on_bytes(void *ud, const void *p, size_t n)
{
    struct client *c = ud;

    assert_int_equal(c->ended, 0);
    for (size_t i = 0; i < n; i++)
        c->right = c->right && ((const uint8_t *)p)[i] == pattern(c->n_bytes + i);
    if (c->n_bytes == 0)
        (void)snprintf(c->first, sizeof c->first, "%.*s", (int)n, (const char *)p);
    c->n_bytes += n;
}

static void on_end(void *ud, const struct rg_err *why)
{
    struct client *c = ud;

    c->ended++;
    c->why = *why;
}

static enum rg_code begin(struct client *c, uint16_t port, const char *text, size_t n)
{
    static const struct rg_forward_events events = {.on_bytes = on_bytes, .on_end = on_end};
    const struct rg_dial to = {
        .kind = RG_LINK_FORWARD, .address = "127.0.0.1", .port = port, .peer_id = "head"};

    const struct rg_forward_text request = {.p = text, .n = n};

    *c = (struct client){.right = true};
    return rg_forward_begin(&c->forward, at_node, node, &to, &request, &events, c, &c->why);
}

static void begin_here(struct client *c, const char *text)
{
    assert_int_equal(begin(c, rg_transport_port(head), text, strlen(text)), RG_OK);
}

static void expect_lost(struct client *c, const char *why)
{
    assert_true(turn_until(&c->ended, 1));
    assert_int_equal(c->why.code, RG_E_PEER);
    if (!strstr(c->why.message, why))
        fail_msg("%s is not in: %s", why, c->why.message);
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void an_answer_comes_back_byte_for_byte(void **state)
{
    const size_t sizes[] = {1, 1000, 300000, RG_LIMIT_FORWARD_BYTES - 5};
    char *text = rg_alloc(RG_LIMIT_FORWARD_BYTES);
    struct client c;

    (void)state;
    for (size_t i = 0; i < RG_LIMIT_FORWARD_BYTES; i++)
        text[i] = (char)pattern(i);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        api.expected = sizes[i];
        assert_int_equal(begin(&c, rg_transport_port(head), text, sizes[i]), RG_OK);
        assert_true(turn_until(&c.ended, 1));
        if (c.why.code != RG_OK)
            fail_msg("%s", c.why.message);
        assert_int_equal(c.n_bytes, sizes[i]);
        assert_true(c.right);
        assert_int_equal(api.last.len, sizes[i]);
        assert_memory_equal(api.last.data, text, sizes[i]);
    }
    assert_int_equal(begin(&c, rg_transport_port(head), text, RG_LIMIT_FORWARD_BYTES - 4),
                     RG_E_LIMIT);
    rg_free(text);
}

static void a_client_that_leaves_ends_the_heads_connection(void **state)
{
    struct client c;

    (void)state;
    api.expected = 2;
    api.mode = API_SILENT;
    begin_here(&c, "hi");
    assert_true(turn_until(&api.n_opened, 1));
    turn_for(50);
    assert_int_equal(api.n_live, 1);
    rg_forward_cancel(c.forward);
    for (int i = 0; i < 2000 && api.n_live > 0; i++)
        turn_for(5);
    assert_int_equal(api.n_live, 0);
    assert_int_equal(c.ended, 0);
}

static void a_client_that_leaves_at_once_is_nobodys_trouble(void **state)
{
    struct client c[20];

    (void)state;
    api.expected = 2;
    for (int i = 0; i < 20; i++) {
        begin_here(&c[i], "hi");
        if (i % 2)
            turn_for(i / 4);
        rg_forward_cancel(c[i].forward);
    }
    turn_for(200);
}

static void a_slow_client_stops_the_heads_api(void **state)
{
    enum { ALL = 64 << 20, MOST_UNDERWAY = 24 << 20 };
    struct client c;
    uint64_t stopped_at;

    (void)state;
    api.expected = 2;
    api.mode = API_ENDLESS;
    api.to_write = ALL;
    begin_here(&c, "hi");
    rg_forward_pause(c.forward, true);
    do {
        stopped_at = api.written;
        turn_for(300);
    } while (api.written != stopped_at || api.written == 0);
    assert_int_equal(c.n_bytes, 0);
    /* 1 MiB each on the link, on its way, and at the client; the rest is in sockets' buffers. */
    assert_true(stopped_at < MOST_UNDERWAY);
    rg_forward_pause(c.forward, false);
    assert_true(turn_until(&c.ended, 1));
    assert_int_equal(c.why.code, RG_OK);
    assert_int_equal(c.n_bytes, ALL);
    assert_true(c.right);
}

static void what_the_head_cannot_do_has_a_reason(void **state)
{
    struct client c;

    (void)state;
    api.expected = 2;
    rg_forwards_set_api(at_head, "127.0.0.1", 0);
    begin_here(&c, "hi");
    expect_lost(&c, "the head takes no requests yet");
    rg_forwards_set_api(at_head, "127.0.0.1", 1);
    begin_here(&c, "hi");
    expect_lost(&c, "the head's API takes no connection");
    rg_forwards_set_api(at_head, "::", api_port);
    begin_here(&c, "hi");
    expect_lost(&c, "the head's API");
    rg_forwards_set_api(at_head, "127.0.0.1", api_port);
    api.mode = API_RESET;
    begin_here(&c, "hi");
    expect_lost(&c, "cut the answer off");
}

static void a_head_that_is_gone_is_named(void **state)
{
    struct client c;
    struct sockaddr_storage a;
    static uv_tcp_t unused;
    int n = sizeof a;

    (void)state;
    uv_ip4_addr("127.0.0.1", 0, (struct sockaddr_in *)&a);
    uv_tcp_init(&loop, &unused);
    uv_tcp_bind(&unused, (struct sockaddr *)&a, 0);
    uv_tcp_getsockname(&unused, (struct sockaddr *)&a, &n);
    assert_int_equal(begin(&c, ntohs(((struct sockaddr_in *)&a)->sin_port), "hi", 2), RG_OK);
    expect_lost(&c, "head");
    uv_close((uv_handle_t *)&unused, NULL);
}

static void a_head_that_dies_ends_the_answer(void **state)
{
    struct client c;

    (void)state;
    api.expected = 2;
    api.mode = API_SILENT;
    begin_here(&c, "hi");
    assert_true(turn_until(&api.n_opened, 1));
    rg_transport_close(head);
    head = NULL;
    expect_lost(&c, "head");
}

static void there_is_a_most_of_requests_at_once(void **state)
{
    enum { MORE = 5, N = RG_LIMIT_FORWARDS + MORE };
    static struct client c[N];
    int n_refused = 0;

    (void)state;
    api.expected = 2;
    api.mode = API_SILENT;
    for (int i = 0; i < N; i++)
        begin_here(&c[i], "hi");
    assert_true(turn_until(&api.n_opened, RG_LIMIT_FORWARDS));
    turn_for(300);
    for (int i = 0; i < N; i++)
        n_refused += c[i].ended > 0 && c[i].why.code == RG_OK &&
                     strncmp(c[i].first, "HTTP/1.1 429 ", 13) == 0 &&
                     strstr(c[i].first, "\r\nRetry-After: 1\r\n");
    assert_int_equal(n_refused, MORE);
    assert_int_equal(api.n_live, RG_LIMIT_FORWARDS);
    for (int i = 0; i < N; i++)
        if (c[i].ended == 0)
            rg_forward_cancel(c[i].forward);
    for (int i = 0; i < 2000 && api.n_live > 0; i++)
        turn_for(5);
    api.mode = API_ECHO;
    begin_here(&c[0], "hi");
    assert_true(turn_until(&c[0].ended, 1));
    assert_int_equal(c[0].why.code, RG_OK);
}

static void closing_ends_every_request(void **state)
{
    struct client c[3];

    (void)state;
    api.expected = 2;
    api.mode = API_ENDLESS;
    api.to_write = 64 << 20;
    for (int i = 0; i < 3; i++)
        begin_here(&c[i], "hi");
    rg_forward_pause(c[0].forward, true);
    assert_true(turn_until(&api.n_opened, 3));
    turn_for(100);
    rg_forward_cancel(c[1].forward);
    rg_forwards_close(at_node, on_closed, NULL);
    assert_int_equal(begin(&c[1], 1, "x", 1), RG_E_PEER);
    rg_forwards_close(at_head, on_closed, NULL);
    expect_lost(&c[0], "ending");
    expect_lost(&c[2], "");
    assert_true(turn_until(&n_closed, 2));
}

/* ---- a peer that breaks the rules ------------------------------------------------------------ */

static void on_raw_message(void *ud, struct rg_link *l, struct rg_frame *f)
{
    (void)ud, (void)l;
    rg_frame_free(f);
}

static void on_raw_close(void *ud, struct rg_link *l, const struct rg_err *why)
{
    int *closed = ud;

    (void)l;
    assert_int_not_equal(why->code, RG_OK);
    __atomic_store_n(closed, 1, __ATOMIC_SEQ_CST);
}

static void a_peer_that_sends_something_else_is_dropped(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        int times;
    } cases[] = {{"\x08\x01", 2, 1}, {"\xff\xff\xff", 3, 1}, {"", 0, 1}, {"\x0a\x01x", 3, 2}};
    static const struct rg_link_events events = {.on_message = on_raw_message,
                                                 .on_close = on_raw_close};

    (void)state;
    api.mode = API_SILENT;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int closed = 0;
        const struct rg_dial to = {.kind = RG_LINK_FORWARD, .address = "127.0.0.1",
                                   .port = rg_transport_port(head), .peer_id = "head",
                                   .events = &events, .ud = &closed};
        struct rg_link *l;
        struct rg_err err;

        assert_int_equal(rg_link_dial(&l, node, &to, &err), RG_OK);
        for (int k = 0; k < cases[i].times; k++)
            assert_int_equal(rg_link_send(l, cases[i].bytes, cases[i].n, NULL, &err), RG_OK);
        for (int k = 0; k < 1000 && !__atomic_load_n(&closed, __ATOMIC_SEQ_CST); k++)
            turn_for(5);
        assert_int_equal(closed, 1);
        rg_link_release(l);
    }
}

static void survives_every_failed_allocation(void **state)
{
    int n_right = 0;
    struct client c;

    (void)state;
    api.expected = 2;
    for (int64_t n = 1; n < 60 && n_right < 5; n++) {
        rg_mem_fail_at(n);
        if (begin(&c, rg_transport_port(head), "hi", 2) == RG_OK) {
            assert_true(turn_until(&c.ended, 1));
            n_right = c.why.code == RG_OK && c.n_bytes == 2 ? n_right + 1 : 0;
        }
        rg_mem_fail_at(0);
    }
    assert_int_equal(n_right, 5);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_answer_comes_back_byte_for_byte),
        TEST(a_client_that_leaves_ends_the_heads_connection),
        TEST(a_client_that_leaves_at_once_is_nobodys_trouble),
        TEST(a_slow_client_stops_the_heads_api),
        TEST(what_the_head_cannot_do_has_a_reason),
        TEST(a_head_that_is_gone_is_named),
        TEST(a_head_that_dies_ends_the_answer),
        TEST(there_is_a_most_of_requests_at_once),
        TEST(closing_ends_every_request),
        TEST(a_peer_that_sends_something_else_is_dropped),
        TEST(survives_every_failed_allocation),
    };

    signal(SIGPIPE, SIG_IGN);
    rg_log_setup(RG_LOG_ERROR, RG_LOG_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
