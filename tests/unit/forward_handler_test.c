/* forward_handler_test.c - the API of a node that hands its requests to the head, before a fake
 * forwarder that plays the head's answers; and what /health says of a ring. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/relay_cut.h"
#include "support/api_server.h"

/* ---- the head, played ------------------------------------------------------------------------ */

struct play {
    const char   *pieces[8]; /* one each turn of the timer, up to NULL */
    int           repeat;    /* the last piece comes so many times more */
    struct rg_err end;
    enum rg_code  begin_code;
    atomic_bool   stays;     /* no end after the pieces */
};

static struct play play;

static struct {
    char        request[64 << 10]; /* the last one, NUL-terminated */
    atomic_int  n_begun, n_canceled, n_paused, n_resumed, n_live;
} seen;

struct played {
    uv_timer_t                   timer;
    struct rg_api_forward_events events;
    void                        *ud;
    int                          at, repeated;
    bool                         paused;
};

static void on_timer_closed(uv_handle_t *h)
{
    rg_free(h->data);
    atomic_fetch_sub(&seen.n_live, 1);
}

static void end_request(struct played *f)
{
    uv_close((uv_handle_t *)&f->timer, on_timer_closed);
}

static void on_turn(uv_timer_t *timer)
{
    struct played               *f = timer->data;
    const struct rg_api_forward_events events = f->events;
    void                              *ud = f->ud;
    const char                        *piece = play.pieces[f->at];

    if (f->paused)
        return;
    if (piece) {
        if (play.pieces[f->at + 1] || f->repeated++ >= play.repeat)
            f->at++;
        events.on_bytes(ud, piece, strlen(piece));
    } else if (!atomic_load(&play.stays)) {
        end_request(f);
        events.on_end(ud, &play.end);
    }
}

static enum rg_code fake_begin(void *ud, void **request, const void *p, size_t n,
                               const struct rg_api_forward_events *events, void *events_ud,
                               struct rg_err *err)
{
    struct played *f;

    assert_ptr_equal(ud, &play);
    assert_true(n < sizeof seen.request);
    memcpy(seen.request, p, n);
    seen.request[n] = '\0';
    if (play.begin_code != RG_OK)
        return rg_fail(err, play.begin_code, "m2-ultra-head: connection refused");
    f = rg_calloc(1, sizeof *f);
    if (!f)
        return rg_fail(err, RG_E_NOMEM, "out of memory");
    f->events = *events;
    f->ud = events_ud;
    f->timer.data = f;
    uv_timer_init(&server.loop, &f->timer);
    uv_timer_start(&f->timer, on_turn, 1, 1);
    *request = f;
    atomic_fetch_add(&seen.n_live, 1);
    atomic_fetch_add(&seen.n_begun, 1);
    return RG_OK;
}

static void fake_pause(void *request, bool paused)
{
    struct played *f = request;

    f->paused = paused;
    atomic_fetch_add(paused ? &seen.n_paused : &seen.n_resumed, 1);
}

static void fake_cancel(void *request)
{
    atomic_fetch_add(&seen.n_canceled, 1);
    end_request(request);
}

/* ---- the nodes, as /health is told them ------------------------------------------------------ */

static const char nodes_json[] =
    ",\"role\":\"worker\",\"node\":\"b\",\"head\":\"a\",\"epoch\":{\"boot\":\"0f\",\"n\":3},"
    "\"epoch_state\":\"running\",\"tokens_per_s\":12.3,\"nodes\":[{\"id\":\"a\",\"head\":true,"
    "\"address\":\"10.0.2.1:50051\",\"state\":\"up\",\"reason\":\"\",\"first_layer\":44,"
    "\"last_layer\":60,\"progress\":1,\"memory_bytes\":5},{\"id\":\"b\",\"head\":false,"
    "\"address\":\"10.0.2.2:50051\",\"state\":\"down\",\"reason\":\"10.0.2.2 refused\","
    "\"first_layer\":0,\"last_layer\":43,\"progress\":0.5,\"memory_bytes\":7}]";

static const char *ring_reason;

static enum rg_code fake_nodes(void *ud, struct rg_buf *json, char *reason, size_t reason_size,
                               struct rg_err *err)
{
    assert_ptr_equal(ud, &server);
    (void)snprintf(reason, reason_size, "%s", ring_reason);
    return rg_buf_add_str(json, nodes_json, err);
}

static void prepare_worker(struct server *s)
{
    const struct rg_api_forwarder f = {fake_begin, fake_pause, fake_cancel, &play};

    rg_api_set_forwarder(s->api, &f);
    rg_api_set_nodes(s->api, fake_nodes, s);
}

static void prepare_head(struct server *s)
{
    rg_api_set_nodes(s->api, fake_nodes, s);
}

static void start(void (*prepare)(struct server *), bool loading, const char *key_file)
{
    memset(&play, 0, sizeof play);
    memset(&seen, 0, sizeof seen);
    ring_reason = "";
    fake_reset();
    live_before = rg_mem_live();
    server_prepare = prepare;
    start_server(loading, key_file);
}

static int set_up_worker(void **state)
{
    (void)state;
    start(prepare_worker, true, NULL);
    return 0;
}

static int end_worker(void **state)
{
    const int result = tear_down(state);

    assert_int_equal(atomic_load(&seen.n_live), 0);
    return result;
}

#define WORKER_TEST(name) cmocka_unit_test_setup_teardown(name, set_up_worker, end_worker)

static const char plain_answer[] = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                                   "Connection: close\r\nContent-Length: 5\r\n\r\nhello";

#define STREAM_HEAD                                                                                \
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n"                  \
    "Transfer-Encoding: chunked\r\n\r\n"

static void wait_for(atomic_int *counter, int want)
{
    for (int i = 0; i < 500 && atomic_load(counter) < want; i++)
        fake_sleep_us(10000);
    assert_int_equal(atomic_load(counter), want);
}

/* ---- requests -------------------------------------------------------------------------------- */

static void a_request_is_handed_on_with_few_headers(void **state)
{
    struct client c;

    (void)state;
    play.pieces[0] = plain_answer;
    ask(&c, "POST /v1/chat/completions?a=b&c HTTP/1.1\r\nHost: localhost:5\r\nCookie: x\r\n"
            "Origin: http://localhost\r\nauthorization:  Bearer key-of-the-head \r\n"
            "Content-Type: application/json\r\nContent-Encoding: gzip\r\nX-Request-Id: 7\r\n"
            "Accept: text/event-stream\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n"
            "3\r\n{\"a\r\n4\r\n\":1}\r\n0\r\n\r\n");
    assert_string_equal(c.data, plain_answer);
    assert_string_equal(seen.request,
                        "POST /v1/chat/completions?a=b&c HTTP/1.1\r\nHost: localhost\r\n"
                        "Connection: close\r\nAuthorization: Bearer key-of-the-head\r\n"
                        "Content-Type: application/json\r\nContent-Encoding: gzip\r\n"
                        "Accept: text/event-stream\r\nX-Request-Id: 7\r\nContent-Length: 7\r\n\r\n"
                        "{\"a\":1}");
    close_client(&c);
}

static void any_method_and_path_is_the_heads_affair(void **state)
{
    struct client c;

    (void)state;
    play.pieces[0] = plain_answer;
    ask(&c, GET("/v1/models/a%2Fb"));
    assert_string_equal(c.data, plain_answer);
    assert_string_equal(seen.request, "GET /v1/models/a%2Fb HTTP/1.1\r\nHost: localhost\r\n"
                                      "Connection: close\r\n\r\n");
    close_client(&c);
    ask(&c, "DELETE /nothing HTTP/1.0\r\n\r\n");
    assert_string_equal(seen.request, "DELETE /nothing HTTP/1.0\r\nHost: localhost\r\n"
                                      "Connection: close\r\n\r\n");
    close_client(&c);
    ask(&c, "POST /x HTTP/1.1\r\nHost: localhost\r\n\r\n" GET("/v1/models"));
    assert_string_equal(c.data, plain_answer);
    assert_string_equal(seen.request, "POST /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                                      "Content-Length: 0\r\n\r\n");
    close_client(&c);
    assert_int_equal(atomic_load(&seen.n_begun), 3);
}

static void own_checks_come_first(void **state)
{
    (void)state;
    expect_answer("GET /v1/models HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
                  "HTTP/1.1 403", "Host");
    expect_answer("GET /v1/models HTTP/1.1\r\nHost: localhost\r\nA: b\r\n c\r\n\r\n",
                  "HTTP/1.1 400", "invalid_value");
    expect_answer("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
                  "Content-Length: 8388609\r\n\r\n",
                  "HTTP/1.1 413", "8388608");
    expect_answer("DELETE /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
                  "HTTP/1.1 405", "GET");
    assert_int_equal(atomic_load(&seen.n_begun), 0);
}

/* ---- answers --------------------------------------------------------------------------------- */

static void an_answer_in_pieces_comes_as_it_is(void **state)
{
    struct client c;

    (void)state;
    play.pieces[0] = "HTTP/1.1 200 OK\r\nContent-Ty";
    play.pieces[1] = "pe: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r";
    play.pieces[2] = "\n5\r\nhello\r\n0005;x\r\n";
    play.pieces[3] = "world\r\n";
    play.pieces[4] = "0\r\n\r\n";
    ask(&c, GET("/x"));
    assert_string_equal(c.data,
                        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0005;x\r\nworld\r\n"
                        "0\r\n\r\n");
    close_client(&c);
}

static void a_head_that_is_not_there_is_503(void **state)
{
    struct client c;

    (void)state;
    play.begin_code = RG_E_PEER;
    ask(&c, GET_CLOSE("/v1/models"));
    expect_text(&c, "HTTP/1.1 503 Service Unavailable\r\n");
    expect_text(&c, "Retry-After: 1\r\n");
    expect_text(&c, "\"message\":\"m2-ultra-head: connection refused\"");
    expect_text(&c, "\"code\":\"node_lost\"");
    close_client(&c);
    play.begin_code = RG_E_LIMIT;
    expect_answer(GET_CLOSE("/v1/models"), "HTTP/1.1 503", "\"code\":\"queue_full\"");
    play.begin_code = RG_E_NOMEM;
    expect_answer(GET_CLOSE("/v1/models"), "HTTP/1.1 500", "\"code\":\"internal\"");
}

static void an_answer_that_never_began_is_503(void **state)
{
    (void)state;
    rg_fail(&play.end, RG_E_PEER, "a: lost");
    expect_answer(GET_CLOSE("/v1/models"), "HTTP/1.1 503", "\"message\":\"a: lost\"");
    play.pieces[0] = "HTTP/1.1 200 OK\r\nContent-Le";
    expect_answer(GET_CLOSE("/v1/models"), "HTTP/1.1 503", "\"code\":\"node_lost\"");
    play.end.code = RG_OK;
    expect_answer(GET_CLOSE("/v1/models"), "HTTP/1.1 503", "ended before it was whole");
}

static void a_broken_plain_answer_is_a_broken_connection(void **state)
{
    struct client c;
    char          byte;

    (void)state;
    rg_fail(&play.end, RG_E_PEER, "a: lost");
    play.pieces[0] = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhel";
    open_client(&c);
    send_text(&c, GET("/v1/models"));
    receive_until(&c, "hel");
    fake_sleep_us(50000);
    assert_int_equal(recv(c.fd, &byte, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET);
    close_client(&c);
}

static void a_broken_stream_ends_with_an_error(void **state)
{
    struct client c;

    (void)state;
    rg_fail(&play.end, RG_E_PEER, "a: lost");
    play.pieces[0] = STREAM_HEAD "9\r\ndata: 1\n\n\r\n";
    play.pieces[1] = "9\r\ndata: 2";
    ask(&c, GET("/v1/models"));
    assert_string_equal(
        c.data, STREAM_HEAD "9\r\ndata: 1\n\n\r\n6b\r\n"
                            "data: {\"error\":{\"message\":\"a: lost\",\"type\":\"server_error\","
                            "\"param\":null,\"code\":\"node_lost\"}}\n\ndata: [DONE]\n\n\r\n"
                            "0\r\n\r\n");
    close_client(&c);
}

static void a_stream_that_is_whole_needs_no_more(void **state)
{
    struct client c;

    (void)state;
    rg_fail(&play.end, RG_E_PEER, "a: lost");
    play.pieces[0] = STREAM_HEAD "9\r\ndata: 1\n\n\r\n0\r\n\r\n";
    ask(&c, GET("/v1/models"));
    assert_string_equal(c.data, play.pieces[0]);
    close_client(&c);
}

static void a_stream_that_is_done_gets_no_error(void **state)
{
    struct client c;
    char          want[400];

    (void)state;
    rg_fail(&play.end, RG_E_PEER, "a: lost");
    play.pieces[0] = STREAM_HEAD "e\r\ndata: [DONE]\n\n\r\n";
    ask(&c, GET("/v1/models"));
    (void)snprintf(want, sizeof want, "%s0\r\n\r\n", play.pieces[0]);
    assert_string_equal(c.data, want);
    close_client(&c);
    play.pieces[0] = plain_answer; /* whole, though the head is lost */
    ask(&c, GET("/v1/models"));
    assert_string_equal(c.data, plain_answer);
    close_client(&c);
}

static void a_client_that_leaves_cancels_at_the_head(void **state)
{
    struct client c;

    (void)state;
    atomic_store(&play.stays, true);
    open_client(&c);
    send_text(&c, GET("/v1/models"));
    wait_for(&seen.n_begun, 1);
    close_client(&c);
    wait_for(&seen.n_canceled, 1);
}

/* The log line that a client's end leads to, while the head has not said its own yet. */
static void expect_logged(const char *answer, const char *last_text, const char *line)
{
    char          said[4096];
    int           ends[2], saved = dup(STDERR_FILENO);
    struct client c;
    ssize_t       n;

    assert_int_equal(pipe(ends), 0);
    assert_true(dup2(ends[1], STDERR_FILENO) >= 0);
    rg_log_setup(RG_LOG_INFO, RG_LOG_TEXT);
    atomic_store(&seen.n_canceled, 0);
    play.pieces[0] = answer;
    open_client(&c);
    send_text(&c, GET("/v1/models"));
    receive_until(&c, last_text);
    close_client(&c);
    wait_for(&seen.n_canceled, 1);
    rg_log_setup(RG_LOG_ERROR, RG_LOG_TEXT);
    assert_true(dup2(saved, STDERR_FILENO) >= 0);
    close(saved);
    close(ends[1]);
    n = read(ends[0], said, sizeof said - 1);
    close(ends[0]);
    assert_true(n > 0);
    said[n] = '\0';
    if (!strstr(said, line))
        fail_msg("%s is not in: %s", line, said);
}

static void a_client_that_has_its_whole_answer_has_not_gone_away(void **state)
{
    (void)state;
    atomic_store(&play.stays, true);
    expect_logged(STREAM_HEAD "e\r\ndata: [DONE]\n\n\r\n", "[DONE]\n\n", "answered");
    expect_logged(STREAM_HEAD "9\r\ndata: 1\n\n\r\n0\r\n\r\n", "0\r\n\r\n", "answered");
    expect_logged(plain_answer, "hello", "answered");
    expect_logged(STREAM_HEAD "9\r\ndata: 1\n\n\r\n", "data: 1\n\n", "the client went away");
    expect_logged("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", "hello",
                  "the client went away");
}

static void more_than_the_head_takes_are_told_to_come_back(void **state)
{
    static struct client c[RG_LIMIT_FORWARDS + 1];
    const uint32_t       most = RG_LIMIT_FORWARDS;

    (void)state;
    atomic_store(&play.stays, true);
    for (uint32_t i = 0; i < most; i++) {
        open_client(&c[i]);
        send_text(&c[i], GET("/v1/models"));
    }
    wait_for(&seen.n_begun, (int)most);
    ask(&c[most], GET_CLOSE("/v1/models"));
    expect_text(&c[most], "HTTP/1.1 429 Too Many Requests\r\n");
    expect_text(&c[most], "Retry-After: 1\r\n");
    expect_text(&c[most], "\"code\":\"queue_full\"");
    close_client(&c[most]);
    close_client(&c[0]);
    wait_for(&seen.n_canceled, 1);
    open_client(&c[most]);
    send_text(&c[most], GET("/v1/models"));
    wait_for(&seen.n_begun, (int)most + 1);
    for (uint32_t i = 1; i <= most; i++)
        close_client(&c[i]);
    wait_for(&seen.n_canceled, (int)most + 1);
}

static void a_slow_client_makes_the_head_wait(void **state)
{
    enum { PIECE = 60000, PIECES = 400 };
    static char   piece[PIECE + 1];
    static char   dump[1 << 16];
    const char    head[] = "HTTP/1.1 200 OK\r\n\r\n";
    size_t        got = 0;
    ssize_t       n;
    struct client c;

    (void)state;
    memset(piece, 'x', PIECE);
    play.pieces[0] = head;
    play.pieces[1] = piece;
    play.repeat = PIECES - 1;
    open_client(&c);
    send_text(&c, GET("/v1/models"));
    wait_for(&seen.n_paused, 1);
    fake_sleep_us(50000);
    assert_int_equal(atomic_load(&seen.n_resumed), 0);
    while ((n = recv(c.fd, dump, sizeof dump, 0)) > 0)
        got += (size_t)n;
    assert_int_equal(n, 0);
    assert_int_equal(got, sizeof head - 1 + (size_t)PIECE * PIECES);
    assert_true(atomic_load(&seen.n_resumed) > 0);
    close_client(&c);
}

static void a_drain_cuts_what_is_forwarded_at_its_deadline(void **state)
{
    struct client c;

    (void)state;
    atomic_store(&play.stays, true);
    play.pieces[0] = STREAM_HEAD;
    open_client(&c);
    send_text(&c, GET("/v1/models"));
    receive_until(&c, "\r\n\r\n");
    drain_server(100);
    (void)receive_some(&c, 5000);
    assert_true(c.eof);
    wait_for(&seen.n_canceled, 1);
    close_client(&c);
}

static void survives_every_failed_allocation(void **state)
{
    struct client c;
    bool          whole = false;

    (void)state;
    play.pieces[0] = STREAM_HEAD "9\r\ndata: 1\n\n\r\n";
    play.pieces[1] = "9\r\ndata: 2\n\n\r\n";
    rg_fail(&play.end, RG_E_PEER, "a: lost");
    for (int64_t n = 1; !whole && n < 200; n++) {
        open_client(&c);
        rg_mem_fail_at(n);
        send_text(&c, GET_CLOSE("/v1/models"));
        while (receive_some(&c, 2000))
            ;
        rg_mem_fail_at(0);
        assert_true(c.eof);
        whole = strstr(c.data, "[DONE]") != NULL;
        close_client(&c);
    }
    assert_true(whole);
}

/* ---- keys and /health ------------------------------------------------------------------------ */

static void health_is_the_nodes_own(void **state)
{
    struct client c;
    char          want[2048];

    (void)state;
    ask(&c, GET_CLOSE("/health"));
    (void)snprintf(want, sizeof want, "\r\n\r\n{\"status\":\"ok\"%s}", nodes_json);
    expect_text(&c, "HTTP/1.1 200");
    expect_text(&c, want);
    close_client(&c);
    ring_reason = "waiting for \"a\"";
    rg_api_set_progress(server.api, 0.5);
    expect_answer(GET_CLOSE("/health"), "HTTP/1.1 503",
                  "{\"status\":\"loading\",\"progress\":0.5000,\"reason\":\"waiting for "
                  "\\\"a\\\"\",\"role\":\"worker\"");
    rg_api_set_progress(server.api, 1);
    expect_answer(GET_CLOSE("/health"), "HTTP/1.1 503",
                  "{\"status\":\"degraded\",\"reason\":\"waiting for \\\"a\\\"\",\"role\"");
    assert_int_equal(atomic_load(&seen.n_begun), 0);
}

static void the_head_tells_of_its_ring(void **state)
{
    (void)state;
    start(prepare_head, false, NULL);
    expect_answer(GET_CLOSE("/health"), "HTTP/1.1 200", "{\"status\":\"ok\",\"role\":\"worker\"");
    ring_reason = "b: lost";
    expect_answer(GET_CLOSE("/health"), "HTTP/1.1 503",
                  "{\"status\":\"degraded\",\"reason\":\"b: lost\",\"role\":");
    assert_int_equal(tear_down(state), 0);
    start(prepare_head, true, NULL);
    ring_reason = "waiting for b";
    expect_answer(GET_CLOSE("/health"), "HTTP/1.1 503",
                  "{\"status\":\"loading\",\"progress\":0.0000,\"reason\":\"waiting for b\",");
    assert_int_equal(tear_down(state), 0);
}

#define WITH_KEY(path)                                                                             \
    "GET " path " HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sesame-open\r\n"            \
    "Connection: close\r\n\r\n"

static void keys_are_asked_for_here_and_addresses_need_one(void **state)
{
    char          path[] = "/tmp/renga-keys-XXXXXX";
    const int     fd = mkstemp(path);
    struct client c;

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "sesame-open\n", 12), 12);
    close(fd);
    start(prepare_worker, true, path);
    play.pieces[0] = plain_answer;
    expect_answer(GET_CLOSE("/v1/models"), "HTTP/1.1 401", "invalid_api_key");
    assert_int_equal(atomic_load(&seen.n_begun), 0);
    expect_answer(WITH_KEY("/v1/models"), "HTTP/1.1 200", "hello");
    assert_non_null(strstr(seen.request, "\r\nAuthorization: Bearer sesame-open\r\n"));
    expect_answer(WITH_KEY("/health"), "HTTP/1.1 200", nodes_json);
    ring_reason = "10.0.2.2 refused";
    rg_api_set_progress(server.api, 1);
    ask(&c, GET_CLOSE("/health"));
    expect_text(&c, "\r\n\r\n{\"status\":\"degraded\",\"role\":\"worker\",\"node\":\"b\","
                    "\"head\":\"a\",\"epoch\":{\"boot\":\"0f\",\"n\":3},\"epoch_state\":"
                    "\"running\",\"nodes\":[{\"id\":\"a\",\"head\":true,\"state\":\"up\","
                    "\"first_layer\":44,\"last_layer\":60,\"progress\":1},{\"id\":\"b\","
                    "\"head\":false,\"state\":\"down\",\"first_layer\":0,\"last_layer\":43,"
                    "\"progress\":0.5}]}");
    close_client(&c);
    assert_int_equal(end_worker(state), 0);
    unlink(path);
}

/* ---- where an answer may be cut -------------------------------------------------------------- */

static void where_bytes_are_cut_changes_nothing(void **state)
{
    static const struct {
        const char         *answer;
        size_t              passed; /* before the end */
        enum rg_relay_state state;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\nA: b\r\n", 0, RG_RELAY_HEAD},
        {"HTTP/1.1 200 OK\r\n\r\nabc", 22, RG_RELAY_OTHER},
        {"HTTP/1.1 503 No\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
         "5\r\nab", 85, RG_RELAY_OTHER},
        {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", 41, RG_RELAY_WHOLE},
        {"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 38, RG_RELAY_WHOLE},
        {"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc", 41, RG_RELAY_OTHER},
        {"HTTP/1.1 200 OK\r\nContent-Length: 3x\r\n\r\nabc", 42, RG_RELAY_OTHER},
        {STREAM_HEAD "1\r\na\r\n2\r\nb", sizeof STREAM_HEAD - 1 + 6, RG_RELAY_CHUNKS},
        {STREAM_HEAD "A\r\n0123456789\r\n0\r\n\r\nx", sizeof STREAM_HEAD - 1 + 21, RG_RELAY_WHOLE},
        {STREAM_HEAD "1\r\nabc", sizeof STREAM_HEAD - 1 + 6, RG_RELAY_OTHER},
        {STREAM_HEAD "g", sizeof STREAM_HEAD - 1 + 1, RG_RELAY_OTHER},
        {STREAM_HEAD "0000001\r\n", sizeof STREAM_HEAD - 1 + 9, RG_RELAY_OTHER},
        {STREAM_HEAD "100001\r\n", sizeof STREAM_HEAD - 1 + 8, RG_RELAY_OTHER},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t cut = 0; cut <= strlen(cases[i].answer); cut++) {
            const size_t        n = strlen(cases[i].answer);
            struct rg_relay_cut r;
            struct rg_buf       out;

            rg_relay_cut_init(&r);
            rg_buf_init(&out, 4096);
            assert_int_equal(rg_relay_cut_feed(&r, cases[i].answer, cut, &out, NULL), RG_OK);
            assert_int_equal(rg_relay_cut_feed(&r, cases[i].answer + cut, n - cut, &out, NULL),
                             RG_OK);
            assert_int_equal(r.state, cases[i].state);
            assert_int_equal(out.len, cases[i].passed);
            assert_int_equal(rg_relay_cut_end(&r, &out, NULL), RG_OK);
            assert_int_equal(out.len, n);
            assert_memory_equal(out.data, cases[i].answer, n);
            rg_relay_cut_free(&r);
            rg_buf_free(&out);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(where_bytes_are_cut_changes_nothing),
        WORKER_TEST(a_request_is_handed_on_with_few_headers),
        WORKER_TEST(any_method_and_path_is_the_heads_affair),
        WORKER_TEST(own_checks_come_first),
        WORKER_TEST(an_answer_in_pieces_comes_as_it_is),
        WORKER_TEST(a_head_that_is_not_there_is_503),
        WORKER_TEST(an_answer_that_never_began_is_503),
        WORKER_TEST(a_broken_plain_answer_is_a_broken_connection),
        WORKER_TEST(a_broken_stream_ends_with_an_error),
        WORKER_TEST(a_stream_that_is_whole_needs_no_more),
        WORKER_TEST(a_stream_that_is_done_gets_no_error),
        WORKER_TEST(a_client_that_leaves_cancels_at_the_head),
        WORKER_TEST(a_client_that_has_its_whole_answer_has_not_gone_away),
        WORKER_TEST(more_than_the_head_takes_are_told_to_come_back),
        WORKER_TEST(a_slow_client_makes_the_head_wait),
        WORKER_TEST(a_drain_cuts_what_is_forwarded_at_its_deadline),
        WORKER_TEST(survives_every_failed_allocation),
        WORKER_TEST(health_is_the_nodes_own),
        cmocka_unit_test(the_head_tells_of_its_ring),
        cmocka_unit_test(keys_are_asked_for_here_and_addresses_need_one),
    };

    rg_log_setup(RG_LOG_ERROR, RG_LOG_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
