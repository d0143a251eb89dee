/* http_server_test.c - the API's server as HTTP: requests in turn, refusals, start and end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/resource.h>

#include <cmocka.h>

#include "support/api_server.h"

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
        (void)snprintf(request, sizeof request,
                       "GET /health HTTP/1.1\r\n%sConnection: close\r\n\r\n", bad[i]);
        expect_answer(request, "HTTP/1.1 403", "\"type\":\"permission_error\"");
    }
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        (void)snprintf(request, sizeof request,
                       "GET /health HTTP/1.1\r\n%sConnection: close\r\n\r\n", good[i]);
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

static void send_body_head(struct client *c, size_t length)
{
    char head[200];

    (void)snprintf(head, sizeof head,
                   "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                   "application/json\r\nContent-Length: %zu\r\n\r\n",
                   length);
    send_text(c, head);
}

static void expect_no_room(struct client *c)
{
    receive_all(c);
    expect_text(c, "HTTP/1.1 503");
    expect_text(c, "Retry-After: 1\r\n");
    expect_text(c, "Connection: close\r\n");
    expect_text(c, "\"code\":\"queue_full\"");
    assert_int_equal(count_text(c->data, "HTTP/1.1"), 1);
    close_client(c);
}

/* Until the loop has taken what was sent: the last one's end is then judged at once. */
static void wait_until_full(void)
{
    for (int i = 0; i < 500; i++) {
        struct client c;
        bool          full;

        open_client(&c);
        send_body_head(&c, RG_LIMIT_SMALL_BODY_BYTES + 1);
        full = receive_some(&c, 20);
        close_client(&c);
        if (full)
            return;
    }
    fail_msg("the server takes more bodies than it may");
}

static void all_bodies_together_have_a_limit(void **state)
{
    enum { HELD = RG_LIMIT_BODIES_BYTES / RG_LIMIT_BODY_BYTES };
    static struct client held[HELD];
    const size_t         length = RG_LIMIT_BODY_BYTES - 1;
    char                *spaces = test_malloc(length);
    struct client        c;

    (void)state;
    memset(spaces, ' ', length);
    for (uint32_t i = 0; i < HELD; i++) {
        open_client(&held[i]);
        send_body_head(&held[i], length);
        send_bytes(&held[i], spaces, length - 1);
    }
    wait_until_full();
    open_client(&c);
    send_body_head(&c, RG_LIMIT_SMALL_BODY_BYTES + 1);
    expect_no_room(&c);
    /* Chunks don't say how long they will be. */
    open_client(&c);
    send_text(&c, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                  "application/json\r\nTransfer-Encoding: chunked\r\n\r\n20000\r\n");
    send_bytes(&c, spaces, 0x20000);
    expect_no_room(&c);
    /* A small one and one that is read without being kept are no matter. */
    open_client(&c);
    send_chat(&c, "");
    receive_until(&c, "\"content\":\"Hello!\"");
    close_client(&c);
    open_client(&c);
    send_text(&c, "POST /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                  "Content-Length: 100000\r\n\r\n");
    send_bytes(&c, spaces, 100000);
    receive_all(&c);
    expect_text(&c, "HTTP/1.1 404");
    close_client(&c);
    /* A body that was read, and one whose client left, make room. */
    send_text(&held[0], " ");
    receive_until(&held[0], "HTTP/1.1 400");
    for (uint32_t i = 1; i < HELD; i++)
        close_client(&held[i]);
    for (uint32_t i = 0; i < HELD; i++) {
        open_client(&c);
        send_body_head(&c, length);
        send_bytes(&c, spaces, length);
        receive_until(&c, "HTTP/1.1 400");
        close_client(&c);
    }
    close_client(&held[0]);
    test_free(spaces);
}

/* The engine may work on a request for long; its body is gone by then. */
static void a_body_counts_only_until_it_was_parsed(void **state)
{
    enum { CLIENTS = RG_LIMIT_BODIES_BYTES / RG_LIMIT_BODY_BYTES + 4 };
    static const char    chat[] = "{\"model\":\"fake-model\",\"messages\":"
                                  "[{\"role\":\"user\",\"content\":\"Hi\"}]}";
    static struct client clients[CLIENTS];
    const size_t         length = RG_LIMIT_BODY_BYTES;
    char                *body = test_malloc(length);

    (void)state;
    memset(body, ' ', length);
    memcpy(body, chat, sizeof chat - 1);
    atomic_store(&fake.hold, 1);
    for (int i = 0; i < CLIENTS; i++) {
        open_client(&clients[i]);
        send_body_head(&clients[i], length);
        send_bytes(&clients[i], body, length);
        wait_for_live(i + 1);
    }
    for (int i = 0; i < CLIENTS; i++)
        close_client(&clients[i]);
    wait_for_live(0);
    test_free(body);
}

/* The same bytes, cut everywhere, give the same answer (but for ids and times). */
static void bytes_may_come_one_by_one(void **state)
{
    static const char request[] =
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        "Content-Type: application/json\r\n"
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
    expect_text(&c, "Retry-After: 1\r\n");
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

static void a_broken_engine_says_why(void **state)
{
    (void)state;
    atomic_store(&fake_engine.broken, true);
    expect_answer(GET_CLOSE("/health"), "HTTP/1.1 503",
                  "{\"status\":\"failed\",\"reason\":\"model.safetensors: \\\"gone\\\"\\n\"}");
    atomic_store(&fake_engine.broken, false);
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

static void loopback_has_256_connections_and_more_for_forwarded_requests(void **state)
{
    enum { MOST = RG_LIMIT_CONNECTIONS_PER_ADDRESS + RG_LIMIT_FORWARDS, FILES = 2 * MOST + 64 };
    static struct client clients[MOST];
    struct client        c;
    struct rlimit        files;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
    if (files.rlim_cur < FILES)
        files.rlim_cur = FILES;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
    for (uint32_t i = 0; i < MOST; i++)
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
    for (uint32_t i = 1; i < MOST; i++)
        close_client(&clients[i]);
}

static void a_connection_without_memory_waits_for_some(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        rg_mem_fail_at(1);
        expect_answer(GET_CLOSE("/health"), "HTTP/1.1 200", "ok");
        rg_mem_fail_at(0);
    }
}

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
        TEST(all_bodies_together_have_a_limit),
        TEST(a_body_counts_only_until_it_was_parsed),
        TEST(bytes_may_come_one_by_one),
        TEST(a_server_without_a_model_says_that_it_loads),
        TEST(a_stuck_engine_is_not_healthy),
        TEST(a_broken_engine_says_why),
        TEST(keys_are_asked_for),
        TEST(a_drain_lets_answers_finish),
        TEST(a_drain_ends_at_its_deadline),
        TEST(listens_elsewhere_only_with_keys_or_when_told_so),
        TEST(loopback_has_256_connections_and_more_for_forwarded_requests),
        TEST(a_connection_without_memory_waits_for_some),
    };

    rg_log_setup(RG_LOG_OFF, RG_LOG_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
