/* probe_test.c - probes between two transports of one process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "cluster/probe.h"
#include "support/live_memory.h"

enum behaviour { ANSWERS, REFUSES, SILENT, LIES, HANGS_UP };

struct peer {
    struct rg_transport *transport;
    enum behaviour behaviour;
};

static void ignore(void *ud, struct rg_link *l, struct rg_frame *f)
{
    (void)ud, (void)l;
    rg_frame_free(f);
}

static void lie(void *ud, struct rg_link *l, struct rg_frame *f)
{
    static const uint8_t text[] = {0xff, 0xff, 0xff};

    (void)ud;
    rg_frame_free(f);
    assert_int_equal(rg_link_send(l, text, sizeof text, NULL, NULL), RG_OK);
}

static void hang_up(void *ud, struct rg_link *l, struct rg_frame *f)
{
    (void)ud;
    rg_frame_free(f);
    rg_link_close(l, "this one had enough");
}

static void release(void *ud, struct rg_link *l, const struct rg_err *why)
{
    (void)ud, (void)why;
    rg_link_release(l);
}

static bool on_accept(void *ud, struct rg_link *l, enum rg_link_kind kind, const char *names,
                      const char *address, struct rg_link_events *events, void **link_ud)
{
    const struct peer *p = ud;

    (void)names, (void)address;
    assert_int_equal(kind, RG_LINK_PROBE);
    if (p->behaviour == ANSWERS)
        return rg_probe_accept(l, events, link_ud);
    if (p->behaviour == REFUSES)
        return false;
    *events = (struct rg_link_events){.on_message = p->behaviour == SILENT ? ignore
                                                    : p->behaviour == LIES ? lie
                                                                           : hang_up,
                                      .on_close = release};
    return true;
}

static struct rg_transport *open_transport(const char *host, struct peer *p)
{
    const struct rg_transport_options options = {
        .host = host, .node_id = host ? "far" : "near", .on_accept = on_accept, .ud = p};
    struct rg_transport *t;
    struct rg_err err = {.message = ""};

    if (rg_transport_open(&t, &options, &err) != RG_OK)
        fail_msg("%s", err.message);
    return t;
}

static void a_probe_measures_a_link(void **state)
{
    struct peer far = {.behaviour = ANSWERS};
    struct rg_transport *near = open_transport(NULL, NULL);
    struct rg_probe_result r;
    struct rg_err err = {.message = ""};

    (void)state;
    far.transport = open_transport("127.0.0.1", &far);
    if (rg_probe_run(&r, near, "far", "127.0.0.1", rg_transport_port(far.transport), 32 << 20,
                     &err) != RG_OK)
        fail_msg("%s", err.message);
    print_message(
        "rtt %.1f us (p99 %.1f), hop %.1f us, %.2f GB/s there, %.2f back, clock %lld ms\n",
        (double)r.rtt_ns / 1e3, (double)r.rtt_p99_ns / 1e3, (double)r.hop_ns / 1e3,
        r.send_bytes_s / 1e9, r.receive_bytes_s / 1e9, (long long)r.clock_ahead_ms);
    assert_string_equal(r.build, "renga " RENGA_VERSION);
    assert_true(r.rtt_ns > 0 && r.rtt_p99_ns >= r.rtt_ns && r.hop_ns > 0);
    assert_true(r.send_bytes_s > 1e6 && r.receive_bytes_s > 1e6);
    assert_true(r.clock_ahead_ms >= -1000 && r.clock_ahead_ms <= 1000); /* the same clock */
    /* again on the same transports; this time without bulk */
    assert_int_equal(
        rg_probe_run(&r, near, "far", "127.0.0.1", rg_transport_port(far.transport), 0, &err),
        RG_OK);
    assert_true(r.send_bytes_s <= 0 && r.receive_bytes_s <= 0);
    rg_transport_close(near);
    rg_transport_close(far.transport);
}

static void expect_fails(enum behaviour b, const char *says)
{
    struct peer far = {.behaviour = b};
    struct rg_transport *near = open_transport(NULL, NULL);
    struct rg_probe_result r;
    struct rg_err err = {.message = ""};

    far.transport = open_transport("127.0.0.1", &far);

    const enum rg_code code =
        rg_probe_run(&r, near, "far", "127.0.0.1", rg_transport_port(far.transport), 1 << 20, &err);

    if (code != RG_E_PEER || !strstr(err.message, says) || strchr(err.message, '\n'))
        fail_msg("code %d '%s', expected '%s'", code, err.message, says);
    rg_transport_close(near);
    rg_transport_close(far.transport);
}

static void a_peer_that_does_not_play_along_is_named(void **state)
{
    (void)state;
    expect_fails(REFUSES, "far");
    expect_fails(SILENT, "far: no answer to a probe for 5 s");
    expect_fails(LIES, "ProbeMessage");
    expect_fails(HANGS_UP, "this one had enough");
}

static void nobody_there_is_said(void **state)
{
    struct peer far = {.behaviour = ANSWERS};
    struct rg_transport *near = open_transport(NULL, NULL);
    struct rg_probe_result r;
    struct rg_err err = {.message = ""};
    uint16_t port;

    (void)state;
    far.transport = open_transport("127.0.0.1", &far);
    port = rg_transport_port(far.transport);
    rg_transport_close(far.transport);
    assert_int_equal(rg_probe_run(&r, near, "far", "127.0.0.1", port, 0, &err), RG_E_PEER);
    assert_non_null(strstr(err.message, "far"));
    rg_transport_close(near);
}

static void count(void *ud, struct rg_link *l, const struct rg_err *why)
{
    (void)l, (void)why;
    atomic_fetch_add((atomic_int *)ud, 1);
}

/* Questions that a peer sends only to cost something. */
static void an_answer_has_a_largest_size(void **state)
{
    struct peer far = {.behaviour = ANSWERS};
    struct rg_transport *near = open_transport(NULL, NULL);
    const struct rg_link_events events = {.on_message = ignore, .on_close = count};
    atomic_int closed = 0;
    struct rg_probe p = {.id = 1, .answer_bytes = (256 << 10) + 1};
    struct rg_link *link;
    struct rg_buf text;
    struct rg_dial dial = {.kind = RG_LINK_PROBE,
                           .address = "127.0.0.1",
                           .peer_id = "far",
                           .events = &events,
                           .ud = &closed};

    (void)state;
    far.transport = open_transport("127.0.0.1", &far);
    dial.port = rg_transport_port(far.transport);
    assert_int_equal(rg_link_dial(&link, near, &dial, NULL), RG_OK);
    rg_buf_init(&text, 4096);
    assert_int_equal(rg_probe_encode(&text, &p, NULL), RG_OK);
    assert_int_equal(rg_link_send(link, text.data, text.len, NULL, NULL), RG_OK);

    const int64_t until = rg_clock_ms() + 5000;

    while (atomic_load(&closed) == 0 && rg_clock_ms() < until)
        usleep(1000);
    assert_int_equal(atomic_load(&closed), 1);
    rg_link_release(link);
    rg_buf_free(&text);
    rg_transport_close(near);
    rg_transport_close(far.transport);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_probe_measures_a_link),
        TEST(a_peer_that_does_not_play_along_is_named),
        TEST(nobody_there_is_said),
        TEST(an_answer_has_a_largest_size),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
