/* chat_handler_test.c - chat completions on a socket, before a scripted engine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/api_server.h"

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
        bool         passes;
    } cases[] = {
        {RG_E_LIMIT, RG_OK, "HTTP/1.1 429", "\"code\":\"queue_full\"", true},
        {RG_E_USAGE, RG_OK, "HTTP/1.1 400", "\"code\":\"context_length_exceeded\"", false},
        {RG_E_INTERNAL, RG_OK, "HTTP/1.1 500", "\"code\":\"internal\"", false},
        {RG_E_PEER, RG_OK, "HTTP/1.1 503", "\"code\":\"node_lost\"", true},
        {RG_E_IO, RG_OK, "HTTP/1.1 503", "\"code\":\"node_lost\"", false},
        {RG_OK, RG_E_PEER, "HTTP/1.1 503", "\"code\":\"node_lost\"", true},
        {RG_OK, RG_E_INTERNAL, "HTTP/1.1 500", "\"code\":\"internal\"", false},
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
        if (cases[i].passes)
            expect_text(&c, "Retry-After: 1\r\n");
        else
            assert_null(strstr(c.data, "Retry-After"));
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

/* ---- a lost node ---- */

/* Receives the comment of each of n choices, then has the node come back. */
static void receive_waiting(struct client *c, uint32_t n)
{
    static const char waiting[] = ": waiting: n2 \xef\xbf\xbd is lost: reset\n\n";

    while (count_text(c->data, waiting) < n)
        assert_true(receive_some(c, 5000));
    atomic_store(&fake.stays_lost, 0);
    receive_until(c, "data: [DONE]\n\n");
    assert_int_equal(count_text(c->data, ": waiting: "), n);
}

/* Before the first token, and among the others. */
static void a_stream_that_waits_for_a_node_says_so_once_and_goes_on(void **state)
{
    struct client c;
    char          text[100];

    (void)state;
    for (int at = 0; at < 6; at++) {
        fake.lose_after = at;
        atomic_store(&fake.stays_lost, 1);
        open_client(&c);
        send_chat(&c, "\"stream\":true,\"n\":2");
        receive_waiting(&c, 2);
        expect_text(&c, "HTTP/1.1 200 OK");
        for (int i = 0; i < 2; i++) {
            join_deltas(c.data, i, text, sizeof text);
            assert_string_equal(text, "Hello!");
        }
        close_client(&c);
    }
}

static void a_whole_answer_says_nothing_of_waiting(void **state)
{
    struct client c;

    (void)state;
    fake.lose_after = 3;
    open_client(&c);
    send_chat(&c, "\"temperature\":0");
    receive_until(&c, "\"usage\":");
    expect_text(&c, "HTTP/1.1 200 OK");
    expect_text(&c, "\"content\":\"Hello!\"");
    assert_null(strstr(c.data, "waiting"));
    assert_null(strstr(c.data, "lost"));
    close_client(&c);
}

static void a_node_that_stays_lost_ends_the_stream_with_its_error(void **state)
{
    struct client c;
    const char   *comment;

    (void)state;
    fake.lose_after = fake.fail_after = 3;
    fake.fail_code = RG_E_PEER;
    atomic_store(&fake.stays_lost, 1);
    open_client(&c);
    send_chat(&c, "\"stream\":true");
    receive_waiting(&c, 1);
    comment = strstr(c.data, ": waiting: ");
    assert_non_null(comment);
    assert_non_null(strstr(comment, "\"code\":\"node_lost\""));
    close_client(&c);
}

static void who_waits_for_a_node_may_leave(void **state)
{
    struct client stream, whole, stays;
    char          text[100];

    (void)state;
    fake.lose_after = 3;
    atomic_store(&fake.stays_lost, 1);
    atomic_store(&fake_engine.canceled, 0);
    open_client(&stream);
    open_client(&whole);
    open_client(&stays);
    send_chat(&stream, "\"stream\":true,\"n\":2");
    send_chat(&whole, "");
    send_chat(&stays, "\"stream\":true");
    receive_until(&stream, ": waiting: ");
    receive_until(&stays, ": waiting: ");
    wait_for_live(4);
    close_client(&stream);
    close_client(&whole);
    wait_for_live(1);
    assert_int_equal(atomic_load(&fake_engine.canceled), 3);
    receive_waiting(&stays, 1);
    join_deltas(stays.data, 0, text, sizeof text);
    assert_string_equal(text, "Hello!");
    close_client(&stays);
}

/* What is over in time is whole, what is not is cut and leaves nothing (tear_down). */
static void a_drain_gives_who_waits_for_a_node_its_time(void **state)
{
    (void)state;
    fake.lose_after = 3;
    for (int comes_back = 0; comes_back < 2; comes_back++) {
        struct client stream, whole;

        atomic_store(&fake.stays_lost, 1);
        open_client(&stream);
        open_client(&whole);
        send_chat(&stream, "\"stream\":true");
        send_chat(&whole, "");
        receive_until(&stream, ": waiting: ");
        wait_for_live(2);
        drain_server(comes_back ? 20000 : 400);
        fake_sleep_us(200000);
        assert_int_equal(atomic_load(&fake_engine.live), 2);
        atomic_store(&fake.stays_lost, !comes_back);
        (void)receive_some(&whole, 5000);
        while (receive_some(&stream, 5000))
            ;
        assert_true(stream.eof);
        assert_true(!strstr(stream.data, "[DONE]") == !comes_back);
        assert_true(!strstr(whole.data, "\"content\":\"Hello!\"") == !comes_back);
        close_client(&stream);
        close_client(&whole);
        if (!comes_back) {
            join_server();
            start_server(false, NULL);
        }
    }
}

/* ---- memory ---- */

/* Whatever allocation fails, the connection ends, nothing is left and the next request works. */
static void survives_every_failed_allocation(void **state)
{
    static const char *const kinds[] = {
        "\"stream\":true,\"stop\":[\"zz\"],\"n\":2", "\"logprobs\":true,\"max_tokens\":3"};

    (void)state;
    for (size_t kind = 0; kind < 2; kind++) {
        uint32_t whole = 0;

        for (int64_t n = 1; n <= 400 && whole < 3; n++) {
            struct client c;

            open_client(&c);
            rg_mem_fail_at(n);
            send_chat(&c, kinds[kind]);
            send_text(&c, GET_CLOSE("/health"));
            receive_all(&c);
            rg_mem_fail_at(0);
            whole++;
            if (!strstr(c.data, "{\"status\":\"ok\"}") || strstr(c.data, "error"))
                whole = 0;
            close_client(&c);
            wait_for_live(0);
        }
        assert_int_equal(whole, 3);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
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
        TEST(a_stream_that_waits_for_a_node_says_so_once_and_goes_on),
        TEST(a_whole_answer_says_nothing_of_waiting),
        TEST(a_node_that_stays_lost_ends_the_stream_with_its_error),
        TEST(who_waits_for_a_node_may_leave),
        TEST(a_drain_gives_who_waits_for_a_node_its_time),
        TEST(survives_every_failed_allocation),
    };

    rg_log_setup(RG_LOG_OFF, RG_LOG_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
