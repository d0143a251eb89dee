/* http_client_test.c - answers of HTTP servers, good and bad, and a request to a real one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/http_client.h"
#include "support/api_server.h"

/* ---- the bytes of an answer ------------------------------------------------------------------ */

static enum rg_code keep(void *ud, const char *p, size_t n, struct rg_err *err)
{
    return rg_buf_add(ud, p, n, err);
}

/* Fed in pieces of that size, then ended. */
static enum rg_code read_answer(const char *text, size_t n, size_t piece, int *status,
                                struct rg_buf *body)
{
    struct rg_http_answer a;
    enum rg_code          code = RG_OK;

    rg_buf_clear(body);
    rg_http_answer_init(&a, keep, body);
    for (size_t at = 0; code == RG_OK && at < n; at += piece)
        code = rg_http_answer_feed(&a, text + at, n - at < piece ? n - at : piece, NULL);
    if (code == RG_OK)
        code = rg_http_answer_end(&a, NULL);
    *status = a.status;
    rg_http_answer_free(&a);
    return code;
}

static void an_answer_is_the_same_however_it_is_cut(void **state)
{
    static const struct {
        const char  *text;
        enum rg_code code;
        int          status;
        const char  *body;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloworld", RG_OK, 200, "hello"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", RG_OK, 200, ""},
        {"HTTP/1.0 404 Not Found\r\n\r\nnothing here", RG_OK, 404, "nothing here"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n"
         "\r\nmore", RG_OK, 200, "abcde"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nTrailer: t\r\n\r\n",
         RG_OK, 200, "a"},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nA: b\r\n\r\nHTTP/1.1 503 No\r\n"
         "Content-Length: 2\r\n\r\nno", RG_OK, 503, "no"},
        {"HTTP/1.1 204 No Content\r\n\r\n", RG_OK, 204, ""},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", RG_E_BAD_DATA, 200, "hell"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", RG_E_BAD_DATA, 200, "ab"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz", RG_E_BAD_DATA, 200, ""},
        {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", RG_E_BAD_DATA,
         0, ""},
        {"HTTP/1.1 200 OK\r\nContent-Le", RG_E_BAD_DATA, 0, ""},
        {"SSH-2.0-OpenSSH_9.2p1\r\n\r\n", RG_E_BAD_DATA, 0, ""},
        {"HTTP/2.0 200 OK\r\n\r\n", RG_E_BAD_DATA, 200, ""},
        {"{\"status\":\"ok\"}", RG_E_BAD_DATA, 0, ""},
        {"", RG_E_BAD_DATA, 0, ""},
    };
    struct rg_buf body;
    int           status;

    (void)state;
    rg_buf_init(&body, 4096);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t piece = 1; piece <= strlen(cases[i].text) + 1; piece++) {
            const enum rg_code code =
                read_answer(cases[i].text, strlen(cases[i].text), piece, &status, &body);

            if (code != cases[i].code || status != cases[i].status ||
                strcmp(body.data ? body.data : "", cases[i].body) != 0)
                fail_msg("case %zu, piece %zu: code %d, status %d, body %s", i, piece, (int)code,
                         status, body.data);
        }
    rg_buf_free(&body);
}

static void a_head_has_a_largest_size(void **state)
{
    enum { MOST = 16 << 10 };
    static char   text[MOST + 64];
    struct rg_buf body;
    int           status;

    (void)state;
    rg_buf_init(&body, 4096);
    for (int more = 0; more < 2; more++) {
        int n = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nA: ");

        while (n < MOST + more - 4)
            text[n++] = 'x';
        memcpy(text + n, "\r\n\r\n", 5);
        assert_int_equal(read_answer(text, (size_t)n + 4, 1000, &status, &body),
                         more ? RG_E_BAD_DATA : RG_OK);
    }
    rg_buf_free(&body);
}

static void a_body_has_a_largest_size(void **state)
{
    const char    text[] = "HTTP/1.1 200 OK\r\n\r\nhello";
    struct rg_buf body;
    int           status;

    (void)state;
    rg_buf_init(&body, 4);
    assert_int_equal(read_answer(text, sizeof text - 1, 100, &status, &body), RG_E_LIMIT);
    rg_buf_free(&body);
}

/* ---- a real exchange ------------------------------------------------------------------------- */

static struct rg_http_call call_to(const char *host, uint16_t port, const char *path)
{
    return (struct rg_http_call){
        .host = host, .port = port, .method = "GET", .path = path, .deadline_ms = 1000};
}

static void a_server_is_asked(void **state)
{
    struct rg_http_call call = call_to("127.0.0.1", server.port, "/health");
    struct rg_buf       body;
    struct rg_err       err;
    int                 status;

    (void)state;
    rg_buf_init(&body, 4096);
    assert_int_equal(rg_http_get(&call, &status, &body, &err), RG_OK);
    assert_int_equal(status, 200);
    assert_string_equal(body.data, "{\"status\":\"ok\"}");
    rg_buf_clear(&body);
    call.host = "localhost";
    call.path = "/v1/nothing";
    assert_int_equal(rg_http_get(&call, &status, &body, &err), RG_OK);
    assert_int_equal(status, 404);
    call.host = "0.0.0.0";
    call.method = "POST";
    call.path = "/v1/chat/completions";
    call.body = "{\"model\":\"fake-model\",\"stream\":true,\"messages\":[{\"role\":\"user\","
                "\"content\":\"Hi\"}]}";
    call.body_len = strlen(call.body);
    rg_buf_clear(&body);
    assert_int_equal(rg_http_get(&call, &status, &body, &err), RG_OK);
    assert_int_equal(status, 200);
    assert_non_null(strstr(body.data, "data: [DONE]\n\n"));
    rg_buf_free(&body);
}

static void a_key_goes_with_it(void **state)
{
    char                path[] = "/tmp/renga-keys-XXXXXX";
    const int           fd = mkstemp(path);
    struct rg_http_call call;
    struct rg_buf       body;
    struct rg_err       err;
    int                 status;

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "sesame-open\n", 12), 12);
    close(fd);
    fake_reset();
    live_before = rg_mem_live();
    start_server(false, path);
    call = call_to("127.0.0.1", server.port, "/v1/models");
    rg_buf_init(&body, 4096);
    assert_int_equal(rg_http_get(&call, &status, &body, &err), RG_OK);
    assert_int_equal(status, 401);
    call.key = "sesame-open";
    assert_int_equal(rg_http_get(&call, &status, &body, &err), RG_OK);
    assert_int_equal(status, 200);
    rg_buf_free(&body);
    assert_int_equal(tear_down(state), 0);
    unlink(path);
}

static void expect_lost(const struct rg_http_call *call, const char *why)
{
    struct rg_buf body;
    struct rg_err err;
    int           status;

    rg_buf_init(&body, 4096);
    assert_int_equal(rg_http_get(call, &status, &body, &err), RG_E_PEER);
    if (!strstr(err.message, why))
        fail_msg("%s is not in: %s", why, err.message);
    rg_buf_free(&body);
}

static void what_does_not_answer_is_named(void **state)
{
    struct sockaddr_in  a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001)};
    socklen_t           n = sizeof a;
    const int           fd = socket(AF_INET, SOCK_STREAM, 0);
    struct rg_http_call call;
    int64_t             began = rg_clock_ms();

    (void)state;
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    call = call_to("127.0.0.1", ntohs(a.sin_port), "/health");
    expect_lost(&call, "Connection refused");
    expect_lost(&call, "127.0.0.1 port ");
    assert_int_equal(listen(fd, 1), 0);
    expect_lost(&call, "no answer in time");
    assert_in_range(rg_clock_ms() - began, 900, 5000);
    close(fd);
}

static void survives_every_failed_allocation(void **state)
{
    const struct rg_http_call call = call_to("127.0.0.1", server.port, "/health");
    struct rg_buf             body;
    struct rg_err             err;
    int                       status, n_right = 0;

    (void)state;
    rg_buf_init(&body, 4096);
    for (int64_t n = 1; n_right < 3 && n < 100; n++) {
        rg_buf_free(&body);
        rg_mem_fail_at(n);
        if (rg_http_get(&call, &status, &body, &err) == RG_OK && status == 200 && body.len == 15)
            n_right++;
        rg_mem_fail_at(0);
    }
    assert_int_equal(n_right, 3);
    rg_buf_free(&body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_is_the_same_however_it_is_cut),
        cmocka_unit_test(a_head_has_a_largest_size),
        cmocka_unit_test(a_body_has_a_largest_size),
        TEST(a_server_is_asked),
        cmocka_unit_test(a_key_goes_with_it),
        cmocka_unit_test(what_does_not_answer_is_named),
        TEST(survives_every_failed_allocation),
    };

    rg_log_setup(RG_LOG_ERROR, RG_LOG_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
