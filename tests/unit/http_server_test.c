/* http_server_test.c - the API's server on a socket, before a scripted engine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

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

static void on_api_closed(void *ud)
{
    struct server *s = ud;

    atomic_store(&s->closed, true);
    uv_close((uv_handle_t *)&s->wake, NULL);
}

static void on_wake(uv_async_t *async)
{
    struct server *s = async->data;

    if (atomic_load(&s->drain_ms) >= 0)
        rg_api_drain(s->api, atomic_load(&s->drain_ms), on_api_closed, s);
}

static void *run_server(void *arg)
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
    s->port = rg_api_port(s->api);
    uv_sem_post(&s->ready);
    uv_run(&s->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&s->loop), 0);
    return NULL;
}

static void start_server(bool loading, const char *key_file)
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

static void drain_server(int deadline_ms)
{
    atomic_store(&server.drain_ms, deadline_ms);
    uv_async_send(&server.wake);
}

static void join_server(void)
{
    pthread_join(server.thread, NULL);
    uv_sem_destroy(&server.ready);
    fake_stop();
}

static int64_t live_before;

static int set_up(void **state)
{
    (void)state;
    fake_reset();
    live_before = rg_mem_live();
    start_server(false, NULL);
    return 0;
}

static int tear_down(void **state)
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

static void open_client(struct client *c)
{
    const struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(server.port), .sin_addr.s_addr = htonl(0x7f000001)};
    const int one = 1;

    *c = (struct client){.fd = socket(AF_INET, SOCK_STREAM, 0)};
    assert_true(c->fd >= 0);
    assert_int_equal(connect(c->fd, (const struct sockaddr *)&a, sizeof a), 0);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->capacity = 1 << 20;
    c->data = test_malloc(c->capacity);
    c->data[0] = '\0';
}

static void close_client(struct client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    test_free(c->data);
}

static void send_bytes(struct client *c, const char *p, size_t n)
{
    while (n > 0) {
        const ssize_t sent = send(c->fd, p, n, MSG_NOSIGNAL);

        if (sent <= 0)
            return;
        p += sent;
        n -= (size_t)sent;
    }
}

static void send_text(struct client *c, const char *text)
{
    send_bytes(c, text, strlen(text));
}

/* One read; false at the end or after wait_ms of silence. */
static bool receive_some(struct client *c, int wait_ms)
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

static void forget_received(struct client *c)
{
    c->len = 0;
    c->data[0] = '\0';
}

static void receive_all(struct client *c)
{
    while (receive_some(c, 5000))
        ;
    if (!c->eof)
        fail_msg("the connection stays open; received: %.300s", c->data);
}

static void receive_until(struct client *c, const char *text)
{
    while (!strstr(c->data, text))
        if (!receive_some(c, 5000))
            fail_msg("%s did not come; received: %.500s", text, c->data);
}

static uint32_t count_text(const char *in, const char *text)
{
    uint32_t n = 0;

    for (const char *p = strstr(in, text); p; p = strstr(p + 1, text))
        n++;
    return n;
}

static void expect_text(const struct client *c, const char *text)
{
    if (!strstr(c->data, text))
        fail_msg("%s is not in: %.800s", text, c->data);
}

static void send_chat(struct client *c, const char *more)
{
    char body[8192], head[300];
    int  n = snprintf(body, sizeof body,
                      "{\"model\":\"fake-model\",\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]%s%s}",
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
static void ask(struct client *c, const char *text)
{
    open_client(c);
    send_text(c, text);
    receive_all(c);
}

static void expect_answer(const char *request, const char *status, const char *text)
{
    struct client c;

    ask(&c, request);
    expect_text(&c, status);
    expect_text(&c, text);
    close_client(&c);
}

static void wait_for_live(int want)
{
    for (int i = 0; i < 500 && atomic_load(&fake_engine.live) != want; i++)
        fake_sleep_us(10000);
    assert_int_equal(atomic_load(&fake_engine.live), want);
}

/* ---- plain HTTP ---- */

static void answers_the_small_endpoints(void **state)
{
    (void)state;
    expect_answer(GET_CLOSE("/health"), "HTTP/1.1 200 OK", "{\"status\":\"ok\"}");
    expect_answer(GET_CLOSE("/v1/models"), "HTTP/1.1 200 OK", "\"id\":\"fake-model\"");
    expect_answer(GET_CLOSE("/v1/models/fake%2Dmodel"), "HTTP/1.1 200", "\"max_model_len\":1000");
    expect_answer(GET_CLOSE("/v1/models/other"), "HTTP/1.1 404", "model_not_found");
    expect_answer(GET_CLOSE("/v1/nothing?x"), "HTTP/1.1 404", "\"code\":\"unsupported\"");
    expect_answer("DELETE /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
                  "HTTP/1.1 405", "Allow: GET, HEAD\r\n");
    expect_answer(GET_CLOSE("/v1/chat/completions"), "HTTP/1.1 405", "Allow: POST\r\n");
    expect_answer("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                  "Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}",
                  "HTTP/1.1 415", "application/json");
    expect_answer("GET /health HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK", "Connection: close");
}

static void a_head_request_gets_no_body(void **state)
{
    struct client c;

    (void)state;
    ask(&c, "HEAD /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    expect_text(&c, "Content-Length: 15\r\n\r\n");
    assert_string_equal(strstr(c.data, "\r\n\r\n"), "\r\n\r\n");
    close_client(&c);
}

static void refuses_other_sites(void **state)
{
    static const char *const bad[] = {
        "Host: evil.example\r\n",
        "Host: 127.0.0.1.evil.example\r\n",
        "Host: localhost.evil.example:80\r\n",
        "Host: localhost\r\nOrigin: http://evil.example\r\n",
        "Host: localhost\r\nOrigin: null\r\n",
        "Host: 192.168.0.1\r\n",
        "Host: [::2]\r\n",
        "Host: \r\n",
    };
    static const char *const good[] = {
        "Host: LOCALHOST:1\r\n",          "Host: 127.0.0.1:52415\r\n",
        "Host: [::1]:52415\r\n",          "Host: renga.localhost\r\n",
        "Host: localhost\r\nOrigin: http://localhost:3000\r\n",
    };
    char request[300];

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        (void)snprintf(request, sizeof request, "GET /health HTTP/1.1\r\n%sConnection: close\r\n\r\n",
                       bad[i]);
        expect_answer(request, "HTTP/1.1 403", "\"type\":\"permission_error\"");
    }
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        (void)snprintf(request, sizeof request, "GET /health HTTP/1.1\r\n%sConnection: close\r\n\r\n",
                       good[i]);
        expect_answer(request, "HTTP/1.1 200", "ok");
    }
}

static void keeps_a_connection_and_serves_what_was_sent_ahead_in_order(void **state)
{
    struct client c;
    char         *first, *second, *third;

    (void)state;
    atomic_store(&fake.delay_us, 20000);
    open_client(&c);
    send_chat(&c, "\"stream\":true");
    send_text(&c, GET("/v1/models"));
    send_text(&c, GET("/nothing"));
    send_text(&c, GET_CLOSE("/health"));
    receive_all(&c);
    first = strstr(c.data, "data: [DONE]");
    assert_non_null(first);
    second = strstr(c.data, "\"object\":\"list\"");
    third = strstr(c.data, "HTTP/1.1 404");
    assert_true(first < second && second < third && third < strstr(c.data, "\"ok\""));
    assert_int_equal(count_text(c.data, "HTTP/1.1 "), 4);
    close_client(&c);
}

static void the_1000th_request_of_a_connection_is_its_last(void **state)
{
    struct client c;
    uint32_t      n = 0;

    (void)state;
    open_client(&c);
    for (uint32_t i = 0; i < RG_LIMIT_REQUESTS_PER_CONNECTION + 5; i++) {
        send_text(&c, GET("/health"));
        if (i % 50 == 49)
            while (receive_some(&c, 20))
                ;
    }
    receive_all(&c);
    n = count_text(c.data, "HTTP/1.1 200");
    assert_int_equal(n, RG_LIMIT_REQUESTS_PER_CONNECTION);
    assert_int_equal(count_text(c.data, "Connection: close"), 1);
    close_client(&c);
}

static void continues_only_a_request_that_will_be_taken(void **state)
{
    static const char head[] = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
                               "Expect: 100-continue\r\nContent-Length: 2\r\nContent-Type: ";
    struct client     c;

    (void)state;
    open_client(&c);
    send_text(&c, head);
    send_text(&c, "application/json\r\n\r\n");
    receive_until(&c, "HTTP/1.1 100 Continue\r\n\r\n");
    send_text(&c, "{}");
    receive_until(&c, "\"param\":\"model\"");
    close_client(&c);
    open_client(&c);
    send_text(&c, head);
    send_text(&c, "text/plain\r\n\r\n");
    receive_all(&c);
    expect_text(&c, "HTTP/1.1 415");
    assert_null(strstr(c.data, "100 Continue"));
    close_client(&c);
}

static void refuses_a_large_body_before_it_has_come(void **state)
{
    struct client c;

    (void)state;
    ask(&c, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
            "application/json\r\nContent-Length: 8388609\r\n\r\n{");
    expect_text(&c, "HTTP/1.1 413");
    close_client(&c);
}

/* The same bytes, cut everywhere, give the same answer (but for ids and times). */
static void bytes_may_come_one_by_one(void **state)
{
    static const char request[] =
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
        "10\r\n{\"model\":\"fake-m\r\n38\r\n"
        "odel\",\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]      }\r\n0\r\n\r\n";
    struct client c;

    (void)state;
    open_client(&c);
    for (size_t i = 0; i < sizeof request - 1; i++) {
        send_bytes(&c, request + i, 1);
        if (i % 16 == 0)
            fake_sleep_us(1000);
    }
    receive_until(&c, "\"content\":\"Hello!\"");
    close_client(&c);
}

/* ---- chat ---- */

static void answers_a_chat(void **state)
{
    struct client c;

    (void)state;
    open_client(&c);
    send_chat(&c, "\"temperature\":0,\"seed\":11");
    receive_until(&c, "\"usage\":");
    expect_text(&c, "HTTP/1.1 200 OK");
    expect_text(&c, "\"object\":\"chat.completion\"");
    expect_text(&c, "\"message\":{\"role\":\"assistant\",\"content\":\"Hello!\",\"refusal\":null}");
    expect_text(&c, "\"finish_reason\":\"stop\"");
    expect_text(&c, "\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":7,\"total_tokens\":9}");
    assert_int_equal(fake_last_request().sampling.seed, 11);
    forget_received(&c);
    send_chat(&c, "\"max_tokens\":3");
    receive_until(&c, "\"usage\":");
    expect_text(&c, "\"content\":\"Hel\"");
    expect_text(&c, "\"finish_reason\":\"length\"");
    close_client(&c);
}

/* Takes the contents of all deltas of a choice together; the test's texts have no escapes. */
static void join_deltas(const char *data, int index, char *out, size_t size)
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

static void streams_a_chat(void **state)
{
    struct client c;
    char          text[100];

    (void)state;
    atomic_store(&fake.delay_us, 2000);
    open_client(&c);
    send_chat(&c, "\"stream\":true,\"stream_options\":{\"include_usage\":true}");
    receive_until(&c, "data: [DONE]\n\n");
    receive_until(&c, "0\r\n\r\n");
    expect_text(&c, "Content-Type: text/event-stream");
    expect_text(&c, "\"delta\":{\"role\":\"assistant\",\"content\":");
    join_deltas(c.data, 0, text, sizeof text);
    assert_string_equal(text, "Hello!");
    assert_int_equal(count_text(c.data, "\"role\":\"assistant\""), 1);
    assert_int_equal(count_text(c.data, "\"finish_reason\":\"stop\""), 1);
    expect_text(&c, "\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":null}");
    expect_text(&c, "\"choices\":[],\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":7,"
                    "\"total_tokens\":9}}");
    close_client(&c);
}

static void never_breaks_a_character(void **state)
{
    static const char whole[] = "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xff!\xe2\x82";
    static const char text[] = "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xef\xbf\xbd!\xef\xbf\xbd";
    struct client     c;
    char              got[100];

    (void)state;
    fake.answer = whole;
    atomic_store(&fake.delay_us, 3000);
    open_client(&c);
    send_chat(&c, "\"stream\":true");
    receive_until(&c, "data: [DONE]");
    join_deltas(c.data, 0, got, sizeof got);
    assert_string_equal(got, text);
    close_client(&c);
}

static void stops_before_a_stop_string(void **state)
{
    struct client c;
    char          text[100];

    (void)state;
    fake.answer = "one STOR two STOP three";
    fake.endless = true;
    atomic_store(&fake.delay_us, 500);
    open_client(&c);
    send_chat(&c, "\"stop\":[\"STOP\"],\"stream\":true");
    receive_until(&c, "data: [DONE]");
    join_deltas(c.data, 0, text, sizeof text);
    assert_string_equal(text, "one STOR two ");
    expect_text(&c, "\"finish_reason\":\"stop\"");
    wait_for_live(0);
    close_client(&c);
}

static void gives_several_choices(void **state)
{
    struct client c;

    (void)state;
    open_client(&c);
    send_chat(&c, "\"n\":4");
    receive_until(&c, "\"usage\":");
    for (int i = 0; i < 4; i++) {
        char want[60];

        (void)snprintf(want, sizeof want, "{\"index\":%d,\"message\"", i);
        expect_text(&c, want);
    }
    expect_text(&c, "\"completion_tokens\":28");
    assert_int_equal(fake_last_request().choice, 3);
    close_client(&c);
}

static void the_choices_of_a_request_share_its_seed(void **state)
{
    struct client c;
    uint64_t      seeds[4];

    (void)state;
    open_client(&c);
    send_chat(&c, "\"n\":4");
    receive_until(&c, "\"usage\":");
    for (uint64_t i = 0; i < 4; i++)
        seeds[i] = fake_engine.log[(fake_engine.last_id - i) % FAKE_REQUESTS].sampling.seed;
    for (int i = 1; i < 4; i++)
        assert_true(seeds[i] == seeds[0]);
    close_client(&c);
}

static void gives_logprobs(void **state)
{
    struct client c;

    (void)state;
    fake.answer = "a\xc3\xa9";
    open_client(&c);
    send_chat(&c, "\"logprobs\":true,\"top_logprobs\":1");
    receive_until(&c, "\"usage\":");
    expect_text(&c, "\"logprobs\":{\"content\":[{\"token\":\"a\",\"logprob\":-0.25,\"bytes\":[97],"
                    "\"top_logprobs\":[{\"token\":\"a\",\"logprob\":-0.25,\"bytes\":[97]}]},");
    expect_text(&c, "\"bytes\":[195]");
    assert_int_equal(count_text(c.data, "\"top_logprobs\""), 3);
    close_client(&c);
}

static void errors_before_the_stream_are_answers(void **state)
{
    static const struct {
        enum rg_code submit, fail;
        const char  *status, *code;
    } cases[] = {
        {RG_E_LIMIT, RG_OK, "HTTP/1.1 429", "\"code\":\"queue_full\""},
        {RG_E_USAGE, RG_OK, "HTTP/1.1 400", "\"code\":\"context_length_exceeded\""},
        {RG_E_INTERNAL, RG_OK, "HTTP/1.1 500", "\"code\":\"internal\""},
        {RG_OK, RG_E_PEER, "HTTP/1.1 503", "\"code\":\"node_lost\""},
        {RG_OK, RG_E_INTERNAL, "HTTP/1.1 500", "\"code\":\"internal\""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct client c;

        fake.submit_code = cases[i].submit;
        fake.fail_after = cases[i].fail ? 0 : -1;
        fake.fail_code = cases[i].fail;
        open_client(&c);
        send_chat(&c, "\"stream\":true");
        receive_until(&c, "}}");
        expect_text(&c, cases[i].status);
        expect_text(&c, cases[i].code);
        if (cases[i].submit == RG_E_LIMIT)
            expect_text(&c, "Retry-After: 1\r\n");
        close_client(&c);
    }
}

static void an_error_in_a_stream_is_an_event_and_then_done(void **state)
{
    struct client c;

    (void)state;
    fake.fail_after = 3;
    fake.fail_code = RG_E_PEER;
    atomic_store(&fake.delay_us, 20000);
    open_client(&c);
    send_chat(&c, "\"stream\":true");
    receive_until(&c, "0\r\n\r\n");
    expect_text(&c, "data: {\"error\":{\"message\":\"the script fails here\",\"type\":"
                    "\"server_error\",\"param\":null,\"code\":\"node_lost\"}}\n\n");
    assert_true(strstr(c.data, "node_lost") < strstr(c.data, "data: [DONE]"));
    assert_null(strstr(c.data, "\"finish_reason\":\"stop\""));
    close_client(&c);
}

static void one_failed_choice_ends_the_others(void **state)
{
    struct client c;

    (void)state;
    fake.endless = true;
    fake.fail_after = 5;
    fake.fail_code = RG_E_INTERNAL;
    open_client(&c);
    send_chat(&c, "\"n\":3");
    receive_until(&c, "\"code\":\"internal\"");
    wait_for_live(0);
    close_client(&c);
}

/* ---- clients that leave ---- */

static void a_client_that_leaves_cancels_its_work(void **state)
{
    static const char *const kinds[] = {"\"stream\":true", "\"n\":2"};

    (void)state;
    fake.endless = true;
    fake_llm.context = 1000000;
    atomic_store(&fake.delay_us, 1000);
    for (int hold = 0; hold < 2; hold++)
        for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
            const int     n = i == 0 ? 1 : 2;
            struct client c;

            atomic_store(&fake_engine.canceled, 0);
            atomic_store(&fake.hold, hold);
            open_client(&c);
            send_chat(&c, kinds[i]);
            wait_for_live(n);
            if (!hold && i == 0)
                receive_until(&c, "data: ");
            close_client(&c);
            wait_for_live(0);
            assert_int_equal(atomic_load(&fake_engine.canceled), n);
        }
    fake_llm.context = FAKE_CONTEXT;
}

static void a_client_that_leaves_does_not_disturb_the_others(void **state)
{
    struct client stays, leaves[8];
    char          text[100];

    (void)state;
    fake.answer = "The quick brown fox jumps over the lazy dog";
    atomic_store(&fake.delay_us, 3000);
    open_client(&stays);
    send_chat(&stays, "\"stream\":true");
    for (int i = 0; i < 8; i++) {
        open_client(&leaves[i]);
        send_chat(&leaves[i], i % 2 ? "\"stream\":true" : "");
    }
    while (count_text(stays.data, "data: ") < 5)
        assert_true(receive_some(&stays, 5000));
    for (int i = 0; i < 8; i++)
        close_client(&leaves[i]);
    receive_until(&stays, "data: [DONE]");
    join_deltas(stays.data, 0, text, sizeof text);
    assert_string_equal(text, fake.answer);
    close_client(&stays);
    wait_for_live(0);
}

static void a_client_that_does_not_read_is_cut_off(void **state)
{
    static char   long_answer[60000];
    struct client c;
    const int     small = 4096;

    (void)state;
    memset(long_answer, 'x', sizeof long_answer - 1);
    fake.answer = long_answer;
    fake.endless = true;
    open_client(&c);
    setsockopt(c.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    send_chat(&c, "\"stream\":true,\"n\":4,\"logprobs\":true,\"top_logprobs\":20");
    send_chat(&c, "");
    wait_for_live(4);
    wait_for_live(0);
    assert_true(atomic_load(&fake_engine.canceled) > 0);
    close_client(&c);
}

static void a_waiting_stream_gets_comments(void **state)
{
    struct client c;

    (void)state;
    atomic_store(&fake.hold, 1);
    open_client(&c);
    send_chat(&c, "\"stream\":true");
    while (!strstr(c.data, ": keepalive 1/2\n\n"))
        if (!receive_some(&c, RG_LIMIT_SSE_COMMENT_MS + 2000))
            fail_msg("no comment came: %.300s", c.data);
    atomic_store(&fake.hold, 0);
    receive_until(&c, "data: [DONE]");
    close_client(&c);
}

/* ---- the beginning and the end ---- */

static void a_server_without_a_model_says_that_it_loads(void **state)
{
    struct client c;

    (void)state;
    drain_server(0);
    join_server();
    start_server(true, NULL);
    rg_api_set_progress(server.api, 0.42);
    expect_answer(GET_CLOSE("/health"), "HTTP/1.1 503",
                  "{\"status\":\"loading\",\"progress\":0.4200}");
    expect_answer(GET_CLOSE("/v1/models"), "HTTP/1.1 503", "\"code\":\"loading\"");
    open_client(&c);
    send_chat(&c, "");
    receive_until(&c, "\"code\":\"loading\"");
    close_client(&c);
}

static void a_stuck_engine_is_not_healthy(void **state)
{
    (void)state;
    atomic_store(&fake_engine.silence_ns, 6000000000);
    expect_answer(GET_CLOSE("/health"), "HTTP/1.1 503", "\"status\":\"degraded\"");
    atomic_store(&fake_engine.silence_ns, 0);
    expect_answer(GET_CLOSE("/health"), "HTTP/1.1 200", "\"status\":\"ok\"");
}

static void keys_are_asked_for(void **state)
{
    static const char *const wrong[] = {
        "",
        "Authorization: Bearer wrong-key\r\n",
        "Authorization: Bearer key-number-\r\n",
        "Authorization: Bearer key-number-10\r\n",
        "Authorization: Basic key-number-1\r\n",
        "Authorization: key-number-1\r\n",
        "Authorization: Bearer \r\n",
    };
    char  path[] = "/tmp/rg-keys-XXXXXX";
    char  request[400];
    int   fd = mkstemp(path);
    FILE *f = fdopen(fd, "w");

    (void)state;
    fputs("# two of them\nkey-number-1\r\n\nkey-number-2\n", f);
    fclose(f);
    drain_server(0);
    join_server();
    start_server(false, path);
    unlink(path);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        (void)snprintf(request, sizeof request,
                       "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n%sConnection: close\r\n\r\n",
                       wrong[i]);
        expect_answer(request, "HTTP/1.1 401", "\"code\":\"invalid_api_key\"");
    }
    for (int i = 1; i <= 2; i++) {
        (void)snprintf(request, sizeof request,
                       "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nauthorization: bearer "
                       "key-number-%d\r\nConnection: close\r\n\r\n",
                       i);
        expect_answer(request, "HTTP/1.1 200", "fake-model");
    }
    expect_answer(GET_CLOSE("/health"), "HTTP/1.1 200", "ok");
}

static void a_drain_lets_answers_finish(void **state)
{
    struct client busy, idle;
    char          text[100];

    (void)state;
    fake.answer = "a long good-bye";
    atomic_store(&fake.delay_us, 20000);
    open_client(&idle);
    open_client(&busy);
    send_chat(&busy, "\"stream\":true");
    receive_until(&busy, "data: ");
    drain_server(10000);
    receive_all(&idle);
    assert_int_equal(idle.len, 0);
    receive_all(&busy);
    join_deltas(busy.data, 0, text, sizeof text);
    assert_string_equal(text, fake.answer);
    expect_text(&busy, "data: [DONE]");
    close_client(&idle);
    close_client(&busy);
}

static void a_drain_ends_at_its_deadline(void **state)
{
    struct client c;

    (void)state;
    atomic_store(&fake.hold, 1);
    open_client(&c);
    send_chat(&c, "");
    wait_for_live(1);
    drain_server(300);
    while (receive_some(&c, 5000))
        ;
    assert_true(c.eof);
    close_client(&c);
    wait_for_live(0);
}

static void listens_elsewhere_only_with_keys_or_when_told_so(void **state)
{
    struct rg_api_options options = {.host = "0.0.0.0"};
    struct rg_err         err = {.message = ""};
    struct rg_api        *api = NULL;
    uv_loop_t             loop;

    (void)state;
    uv_loop_init(&loop);
    assert_int_equal(rg_api_open(&api, &loop, &options, &err), RG_E_USAGE);
    assert_non_null(strstr(err.message, "--api-host 0.0.0.0 --api-port 0 --api-key-file api.key"));
    assert_non_null(strstr(err.message, "--insecure-api"));
    options.insecure = true;
    assert_int_equal(rg_api_open(&api, &loop, &options, &err), RG_OK);
    rg_api_drain(api, 0, NULL, NULL);
    options.host = "localhost";
    assert_int_equal(rg_api_open(&api, &loop, &options, &err), RG_E_USAGE);
    options.host = "127.0.0.1";
    options.port = server.port;
    assert_int_equal(rg_api_open(&api, &loop, &options, &err), RG_E_IO);
    assert_non_null(strstr(err.message, "address already in use"));
    options.port = 0;
    options.api_key_file = "/nonexistent";
    assert_int_equal(rg_api_open(&api, &loop, &options, &err), RG_E_USAGE);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static void one_address_has_256_connections(void **state)
{
    static struct client clients[RG_LIMIT_CONNECTIONS_PER_ADDRESS];
    struct client        c;

    (void)state;
    for (uint32_t i = 0; i < RG_LIMIT_CONNECTIONS_PER_ADDRESS; i++)
        open_client(&clients[i]);
    open_client(&c);
    receive_all(&c);
    expect_text(&c, "HTTP/1.1 503");
    expect_text(&c, "\"code\":\"queue_full\"");
    close_client(&c);
    close_client(&clients[0]);
    for (int i = 0; i < 50; i++) {
        open_client(&c);
        send_text(&c, GET_CLOSE("/health"));
        receive_all(&c);
        if (strstr(c.data, "HTTP/1.1 200"))
            break;
        close_client(&c);
        fake_sleep_us(20000);
    }
    expect_text(&c, "HTTP/1.1 200");
    close_client(&c);
    for (uint32_t i = 1; i < RG_LIMIT_CONNECTIONS_PER_ADDRESS; i++)
        close_client(&clients[i]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(answers_the_small_endpoints),
        TEST(a_head_request_gets_no_body),
        TEST(refuses_other_sites),
        TEST(keeps_a_connection_and_serves_what_was_sent_ahead_in_order),
        TEST(the_1000th_request_of_a_connection_is_its_last),
        TEST(continues_only_a_request_that_will_be_taken),
        TEST(refuses_a_large_body_before_it_has_come),
        TEST(bytes_may_come_one_by_one),
        TEST(answers_a_chat),
        TEST(streams_a_chat),
        TEST(never_breaks_a_character),
        TEST(stops_before_a_stop_string),
        TEST(gives_several_choices),
        TEST(the_choices_of_a_request_share_its_seed),
        TEST(gives_logprobs),
        TEST(errors_before_the_stream_are_answers),
        TEST(an_error_in_a_stream_is_an_event_and_then_done),
        TEST(one_failed_choice_ends_the_others),
        TEST(a_client_that_leaves_cancels_its_work),
        TEST(a_client_that_leaves_does_not_disturb_the_others),
        TEST(a_client_that_does_not_read_is_cut_off),
        TEST(a_waiting_stream_gets_comments),
        TEST(a_server_without_a_model_says_that_it_loads),
        TEST(a_stuck_engine_is_not_healthy),
        TEST(keys_are_asked_for),
        TEST(a_drain_lets_answers_finish),
        TEST(a_drain_ends_at_its_deadline),
        TEST(listens_elsewhere_only_with_keys_or_when_told_so),
        TEST(one_address_has_256_connections),
    };

    rg_log_setup(RG_LOG_OFF, RG_LOG_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
