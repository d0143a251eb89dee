/* transport_test.c - links between two transports of one process: messages, ends and limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "support/link_ends.h"
#include "support/live_memory.h"

static atomic_int dones;

static void count_done(void *ud)
{
    (void)ud;
    atomic_fetch_add(&dones, 1);
}

static void expect_dones(int n)
{
    const int64_t until = rg_clock_ms() + WAIT_MS;

    while (atomic_load(&dones) < n && rg_clock_ms() < until)
        usleep(1000);
    assert_int_equal(atomic_load(&dones), n);
}

static void a_message_arrives_on_each_side(void **state)
{
    struct pair p;
    struct rg_err err = {0};

    (void)state;
    open_pair(&p);
    open_link(&p, RG_LINK_CONTROL);
    assert_int_equal(rg_link_send(p.near.link, "there", 5, NULL, &err), RG_OK);
    assert_true(wait_for(&p.far, &p.far.messages, 1));
    assert_memory_equal(p.far.last, "there", 5);
    assert_int_equal(rg_link_send(p.far.link, "back", 4, NULL, &err), RG_OK);
    assert_true(wait_for(&p.near, &p.near.messages, 1));
    assert_memory_equal(p.near.last, "back", 4);
    assert_true(wait_for(&p.near, &p.near.sent, 1));
    assert_string_equal(p.far.names, "");
    assert_int_equal(strncmp(p.far.address, "127.0.0.1:", 10), 0);
    assert_string_equal(rg_transport_cluster(p.client), "plain");
    rg_link_finish(p.near.link);
    expect_closed(&p);
    assert_int_equal(p.near.why.code, RG_OK);
    assert_int_equal(p.far.why.code, RG_OK);
    close_pair(&p);
}

static void a_refused_link_closes_and_never_opens(void **state)
{
    struct pair p;

    (void)state;
    open_pair(&p);
    atomic_store(&p.refuse, true);
    dial(&p, RG_LINK_STEPS);
    assert_true(wait_for(&p.near, &p.near.closed, 1));
    assert_int_equal(p.near.opened, 0);
    assert_int_equal(p.near.why.code, RG_E_PEER);
    assert_non_null(strstr(p.near.why.message, "refuses"));
    close_pair(&p);
}

static void all_that_was_sent_arrives_in_order_before_the_end(void **state)
{
    enum { MESSAGES = 20000 };
    struct pair p;
    struct rg_err err = {0};
    uint32_t number;

    (void)state;
    open_pair(&p);
    open_link(&p, RG_LINK_STEPS);
    for (uint32_t i = 0; i < MESSAGES; i++) {
        enum rg_code code;

        while ((code = rg_link_send(p.near.link, &i, sizeof i, NULL, &err)) == RG_E_LIMIT)
            usleep(20);
        assert_int_equal(code, RG_OK);
    }
    rg_link_finish(p.near.link);
    assert_int_equal(rg_link_send(p.near.link, "x", 1, NULL, &err), RG_E_PEER);
    expect_closed(&p);
    assert_int_equal(p.far.messages, MESSAGES);
    assert_int_equal(p.far.misordered, 0);
    memcpy(&number, p.far.last, sizeof number);
    assert_int_equal(number, MESSAGES - 1);
    close_pair(&p);
}

static void the_accepting_side_can_end_it_too(void **state)
{
    struct pair p;
    struct rg_err err = {0};

    (void)state;
    open_pair(&p);
    open_link(&p, RG_LINK_CONTROL);
    for (uint32_t i = 0; i < 50; i++)
        assert_int_equal(rg_link_send(p.far.link, &i, sizeof i, NULL, &err), RG_OK);
    rg_link_finish(p.far.link);
    expect_closed(&p);
    assert_int_equal(p.near.messages, 50);
    assert_int_equal(p.near.why.code, RG_OK);
    close_pair(&p);
}

static void a_forwarded_request_ends_before_its_answer(void **state)
{
    struct pair p;
    struct rg_err err = {0};

    (void)state;
    open_pair(&p);
    open_link(&p, RG_LINK_FORWARD);
    assert_int_equal(rg_link_send(p.near.link, "GET", 3, NULL, &err), RG_OK);
    rg_link_finish(p.near.link);
    assert_true(wait_for(&p.far, &p.far.messages, 1));
    usleep(50000);
    assert_int_equal(counted(&p.far, &p.far.closed), 0);
    assert_int_equal(rg_link_send(p.far.link, "200", 3, NULL, &err), RG_OK);
    rg_link_finish(p.far.link);
    expect_closed(&p);
    assert_memory_equal(p.near.last, "200", 3);
    assert_int_equal(p.near.why.code, RG_OK);
    assert_int_equal(p.far.why.code, RG_OK);
    close_pair(&p);
}

static void the_reason_of_a_close_reaches_the_dialler(void **state)
{
    struct pair p;

    (void)state;
    open_pair(&p);
    open_link(&p, RG_LINK_CONTROL);
    rg_link_close(p.far.link, "another epoch: 7");
    expect_closed(&p);
    assert_int_equal(p.near.why.code, RG_E_PEER);
    assert_non_null(strstr(p.near.why.message, "another epoch: 7"));
    assert_int_equal(p.far.why.code, RG_E_CANCELED);
    close_pair(&p);

    open_pair(&p);
    open_link(&p, RG_LINK_STEPS);
    rg_link_close(p.near.link, "changed my mind");
    expect_closed(&p);
    assert_int_equal(p.near.why.code, RG_E_CANCELED);
    assert_int_equal(p.far.why.code, RG_E_PEER);
    close_pair(&p);
}

static void a_control_link_says_what_was_queued_before_it_closes(void **state)
{
    (void)state;
    for (int round = 0; round < 40; round++) {
        struct pair p;
        struct rg_err err = {0};

        open_pair(&p);
        open_link(&p, RG_LINK_CONTROL);

        struct end *from = round % 2 ? &p.near : &p.far, *to = round % 2 ? &p.far : &p.near;

        for (uint32_t i = 0; i < 5; i++)
            assert_int_equal(rg_link_send(from->link, &i, sizeof i, NULL, &err), RG_OK);
        rg_link_close(from->link, "refused");
        assert_int_equal(rg_link_send(from->link, "x", 1, NULL, &err), RG_E_PEER);
        expect_closed(&p);
        assert_int_equal(to->messages, 5);
        assert_int_equal(from->why.code, RG_E_CANCELED);
        close_pair(&p);
    }
}

/* Also when the other side takes nothing any more. */
static void a_close_takes_half_a_second_at_most(void **state)
{
    static uint8_t bytes[60000];
    const struct rg_payload payload = {.p = bytes, .n = sizeof bytes};
    struct pair p;
    struct rg_err err = {0};

    (void)state;
    open_pair(&p);
    p.far.keep = true;
    open_link(&p, RG_LINK_CONTROL);
    for (int64_t quiet = rg_clock_ms(); rg_clock_ms() - quiet < 300;) {
        if (rg_link_send(p.near.link, "h", 1, &payload, &err) == RG_OK)
            quiet = rg_clock_ms();
        else
            usleep(1000);
    }

    const int64_t begin = rg_clock_ms();

    rg_link_close(p.near.link, "enough");
    expect_closed(&p);
    assert_in_range(rg_clock_ms() - begin, 300, 1500);
    assert_int_equal(p.near.why.code, RG_E_CANCELED);
    for (int i = 0; i < p.far.messages; i++)
        rg_frame_free(p.far.kept[i]);
    close_pair(&p);
}

static void a_link_that_was_finished_and_released_still_says_all(void **state)
{
    enum { MESSAGES = 60 };
    struct pair p;
    struct rg_err err = {0};

    (void)state;
    open_pair(&p);
    open_link(&p, RG_LINK_PROBE);
    for (uint32_t i = 0; i < MESSAGES; i++)
        assert_int_equal(rg_link_send(p.near.link, &i, sizeof i, NULL, &err), RG_OK);
    rg_link_finish(p.near.link);
    rg_link_release(p.near.link);
    p.near.link = NULL;
    expect_closed(&p);
    assert_int_equal(p.far.messages, MESSAGES);
    assert_int_equal(p.near.why.code, RG_OK);
    close_pair(&p);
}

static void a_payload_is_sent_from_its_place_and_then_done(void **state)
{
    enum { BYTES = 59 << 20 };
    struct pair p;
    struct rg_err err = {0};
    uint8_t *bytes = rg_alloc(BYTES), *back = rg_alloc(BYTES);
    const struct rg_payload payload = {.p = bytes, .n = BYTES, .done = count_done};

    (void)state;
    assert_non_null(bytes);
    assert_non_null(back);
    for (size_t i = 0; i < BYTES; i++)
        bytes[i] = (uint8_t)(i * 2654435761u >> 24);
    atomic_store(&dones, 0);
    open_pair(&p);
    p.far.keep = true;
    open_link(&p, RG_LINK_STEPS);
    assert_int_equal(rg_link_send(p.near.link, "head", 4, &payload, &err), RG_OK);
    assert_true(wait_for(&p.far, &p.far.messages, 1));
    expect_dones(1);
    assert_int_equal(rg_frame_bytes(p.far.kept[0]), BYTES + 4);
    rg_frame_read(p.far.kept[0], 4, back, BYTES);
    assert_memory_equal(back, bytes, BYTES);
    rg_frame_read(p.far.kept[0], BYTES + 1, back, 3);
    assert_memory_equal(back, bytes + BYTES - 3, 3);
    rg_frame_free(p.far.kept[0]);
    close_pair(&p);
    rg_free(bytes);
    rg_free(back);
}

/* What one end may hold: two of the largest, and the windows. */
static void a_receiver_that_does_not_read_stops_its_sender(void **state)
{
    enum { BYTES = 32 << 10 };
    struct pair p;
    struct rg_err err = {0};
    uint8_t *bytes = rg_calloc(1, BYTES);
    const struct rg_payload payload = {.p = bytes, .n = BYTES, .done = count_done};
    int sent = 0;
    int64_t quiet = rg_clock_ms();

    (void)state;
    atomic_store(&dones, 0);
    open_pair(&p);
    p.far.keep = true;
    open_link(&p, RG_LINK_CONTROL);
    while (rg_clock_ms() - quiet < 500) {
        const enum rg_code code = rg_link_send(p.near.link, "h", 1, &payload, &err);

        if (code == RG_OK) {
            sent++;
            quiet = rg_clock_ms();
        } else {
            assert_int_equal(code, RG_E_LIMIT);
            usleep(1000);
        }
    }
    assert_in_range(sent, (1 << 20) / BYTES, (64 << 20) / BYTES);
    assert_in_range(counted(&p.far, &p.far.messages), 1, (1 << 20) / BYTES + 2);
    assert_int_equal(counted(&p.far, &p.far.closed), 0);
    /* Reading on, the rest comes. */
    pthread_mutex_lock(&p.far.mutex);
    p.far.keep = false;
    const int kept = p.far.messages;

    pthread_mutex_unlock(&p.far.mutex);
    for (int i = 0; i < kept; i++)
        rg_frame_free(p.far.kept[i]);
    assert_true(wait_for(&p.far, &p.far.messages, sent));
    expect_dones(sent);
    close_pair(&p);
    rg_free(bytes);
}

static void what_was_queued_is_done_when_the_link_ends(void **state)
{
    enum { BYTES = 8 << 20 };
    struct pair p;
    struct rg_err err = {0};
    uint8_t *bytes = rg_calloc(1, BYTES);
    const struct rg_payload payload = {.p = bytes, .n = BYTES, .done = count_done};
    int sent = 0;

    (void)state;
    atomic_store(&dones, 0);
    open_pair(&p);
    p.far.keep = true;
    open_link(&p, RG_LINK_STEPS);
    while (rg_link_send(p.near.link, "h", 1, &payload, &err) == RG_OK)
        sent++;
    assert_true(sent >= (int)RG_LIMIT_LINK_QUEUE);
    rg_link_close(p.near.link, "enough");
    expect_closed(&p);
    expect_dones(sent);
    assert_int_equal(rg_link_send(p.near.link, "h", 1, &payload, &err), RG_E_PEER);
    assert_int_equal(atomic_load(&dones), sent);
    for (int i = 0; i < p.far.messages; i++)
        rg_frame_free(p.far.kept[i]);
    close_pair(&p);
    rg_free(bytes);
}

static void a_message_over_the_limit_of_its_kind_ends_the_link(void **state)
{
    static const struct {
        enum rg_link_kind kind;
        size_t most;
    } kinds[] = {{RG_LINK_CONTROL, RG_LIMIT_CONTROL_BYTES},
                 {RG_LINK_STEPS, STEP_BYTES_MAX},
                 {RG_LINK_FORWARD, RG_LIMIT_FORWARD_BYTES},
                 {RG_LINK_PROBE, RG_LIMIT_FORWARD_BYTES}};
    struct rg_err err = {0};
    uint8_t *bytes = rg_calloc(1, STEP_BYTES_MAX + 1);

    (void)state;
    for (int i = 0; i < 4; i++) {
        struct pair p;
        struct rg_payload payload = {.p = bytes, .n = kinds[i].most};

        open_pair(&p);
        open_link(&p, kinds[i].kind);
        assert_int_equal(rg_link_send(p.near.link, "", 0, &payload, &err), RG_OK);
        assert_true(wait_for(&p.far, &p.far.messages, 1));
        payload.n++;
        assert_int_equal(rg_link_send(p.near.link, "", 0, &payload, &err), RG_OK);
        expect_closed(&p);
        assert_int_equal(p.far.messages, 1);
        assert_int_equal(p.far.why.code == RG_OK, 0);
        assert_int_equal(p.near.why.code, RG_E_LIMIT);
        close_pair(&p);
    }
    rg_free(bytes);
}

static void frames_and_links_may_outlive_the_transport(void **state)
{
    struct pair p;
    struct rg_err err = {0};
    char text[6] = "";

    (void)state;
    open_pair(&p);
    p.far.keep = true;
    open_link(&p, RG_LINK_CONTROL);
    assert_int_equal(rg_link_send(p.near.link, "later", 5, NULL, &err), RG_OK);
    assert_true(wait_for(&p.far, &p.far.messages, 1));
    rg_transport_close(p.server);
    assert_int_equal(p.far.closed, 1);
    assert_true(wait_for(&p.near, &p.near.closed, 1));
    p.server = NULL;
    rg_frame_read(p.far.kept[0], 0, text, 5);
    assert_string_equal(text, "later");
    assert_int_equal(rg_link_send(p.far.link, "x", 1, NULL, &err), RG_E_PEER);
    rg_link_close(p.far.link, "no more");
    rg_frame_free(p.far.kept[0]);
    close_pair(&p);
}

/* ---- what does not answer -------------------------------------------------------------------- */

static void expect_no_link(const char *address, uint16_t port, const char *why, int64_t within_ms)
{
    const struct rg_transport_options o = {.node_id = "b", .step_bytes_max = STEP_BYTES_MAX};
    struct rg_transport *t;
    struct rg_err err = {0};
    struct end e;
    const struct rg_dial d = {.kind = RG_LINK_CONTROL,
                              .address = address,
                              .port = port,
                              .peer_id = "a",
                              .events = &end_events,
                              .ud = &e};
    const int64_t begin = rg_clock_ms();

    end_init(&e);
    assert_int_equal(rg_transport_open(&t, &o, &err), RG_OK);
    assert_int_equal(rg_link_dial(&e.link, t, &d, &err), RG_OK);
    assert_true(wait_for(&e, &e.closed, 1));
    assert_true(rg_clock_ms() - begin <= within_ms);
    assert_int_equal(e.opened, 0);
    assert_int_equal(e.why.code, RG_E_PEER);
    assert_non_null(strstr(e.why.message, why));
    assert_null(strchr(e.why.message, '\n'));
    rg_transport_close(t);
    end_free(&e);
}

/* A TCP socket that listens and says nothing. */
static int listen_silently(uint16_t *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    const int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, n), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    *port = ntohs(a.sin_port);
    return fd;
}

static void a_dial_says_why_there_is_no_link(void **state)
{
    uint16_t port;
    const int fd = listen_silently(&port);

    (void)state;
    /* Keepalive finds it, or the wait of 5 s for the first answer. */
    expect_no_link("127.0.0.1", port, "no answer", RG_LIMIT_HELLO_WAIT_MS + 1000);
    close(fd);
    expect_no_link("127.0.0.1", port, "connection refused", 1000);
    expect_no_link("::1", port, "connection refused", 1000);
    expect_no_link("no-such-host.invalid", port, "host name", RG_LIMIT_HELLO_WAIT_MS + 1000);
}

static void a_port_or_address_that_cannot_be_had_is_said_at_once(void **state)
{
    uint16_t port;
    const int fd = listen_silently(&port);
    struct rg_transport_options o = {
        .host = "127.0.0.1", .port = port, .node_id = "a", .step_bytes_max = STEP_BYTES_MAX};
    struct rg_transport *t;
    struct rg_err err = {0};
    const int64_t begin = rg_clock_ms();
    struct pair p;

    (void)state;
    assert_int_equal(rg_transport_open(&t, &o, &err), RG_E_PEER);
    assert_null(t);
    assert_non_null(strstr(err.message, "taken"));
    close(fd);
    o.host = "192.0.2.1";
    assert_int_equal(rg_transport_open(&t, &o, &err), RG_E_PEER);
    assert_non_null(strstr(err.message, "no address of this machine"));
    open_pair(&p);
    o.host = "127.0.0.1";
    o.port = rg_transport_port(p.server);
    assert_int_equal(rg_transport_open(&t, &o, &err), RG_E_PEER);
    assert_non_null(strstr(err.message, "taken"));
    close_pair(&p);
    assert_true(rg_clock_ms() - begin < 1000);
}

/* One round: open, dial, send, close; what fails says so, and nothing is left behind. */
static void talk_with_short_memory(struct rg_transport **server, struct rg_transport **client,
                                   struct pair *p)
{
    struct rg_transport_options o = {.host = "127.0.0.1",
                                     .node_id = "a",
                                     .step_bytes_max = STEP_BYTES_MAX,
                                     .on_accept = accept_link,
                                     .ud = p};
    const struct rg_payload payload = {.p = "payload", .n = 7, .done = count_done};
    struct rg_dial d = {.kind = RG_LINK_CONTROL,
                        .address = "127.0.0.1",
                        .peer_id = "a",
                        .events = &end_events,
                        .ud = &p->near};
    struct rg_err err = {0};

    if (rg_transport_open(server, &o, &err) != RG_OK) {
        assert_int_equal(err.code, RG_E_NOMEM);
        return;
    }
    o.host = NULL;
    if (rg_transport_open(client, &o, &err) != RG_OK) {
        assert_int_equal(err.code, RG_E_NOMEM);
        return;
    }
    d.port = rg_transport_port(*server);
    if (rg_link_dial(&p->near.link, *client, &d, &err) != RG_OK) {
        assert_int_equal(err.code, RG_E_NOMEM);
        return;
    }
    for (int i = 0; i < 200; i++) {
        if (counted(&p->near, &p->near.opened) || counted(&p->near, &p->near.closed))
            break;
        usleep(1000);
    }
    if (rg_link_send(p->near.link, "h", 1, &payload, &err) == RG_OK)
        expect_dones(1);
    rg_link_finish(p->near.link);
    assert_true(wait_for(&p->near, &p->near.closed, 1));
}

static void any_allocation_may_fail(void **state)
{
    (void)state;
    for (int n = 1; n <= 12; n++) {
        struct pair p;

        memset(&p, 0, sizeof p);
        end_init(&p.near);
        end_init(&p.far);
        atomic_store(&dones, 0);
        rg_mem_fail_at(n);
        talk_with_short_memory(&p.server, &p.client, &p);
        rg_mem_fail_at(0);
        close_pair(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_message_arrives_on_each_side),
        TEST(a_refused_link_closes_and_never_opens),
        TEST(all_that_was_sent_arrives_in_order_before_the_end),
        TEST(the_accepting_side_can_end_it_too),
        TEST(a_forwarded_request_ends_before_its_answer),
        TEST(the_reason_of_a_close_reaches_the_dialler),
        TEST(a_control_link_says_what_was_queued_before_it_closes),
        TEST(a_close_takes_half_a_second_at_most),
        TEST(a_link_that_was_finished_and_released_still_says_all),
        TEST(a_payload_is_sent_from_its_place_and_then_done),
        TEST(a_receiver_that_does_not_read_stops_its_sender),
        TEST(what_was_queued_is_done_when_the_link_ends),
        TEST(a_message_over_the_limit_of_its_kind_ends_the_link),
        TEST(frames_and_links_may_outlive_the_transport),
        TEST(any_allocation_may_fail),
        TEST(a_dial_says_why_there_is_no_link),
        TEST(a_port_or_address_that_cannot_be_had_is_said_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
