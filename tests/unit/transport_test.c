/* transport_test.c - links between two transports of one process: messages, ends, limits, abuse. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cluster/transport.h"
#include "support/live_memory.h"

enum { STEP_BYTES_MAX = 64 << 20, WAIT_MS = 8000 };

/* One end of a link, as a test sees it. */
struct end {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct rg_link *link;
    char names[1024], address[128];
    int opened, messages, sent, closed;
    uint64_t bytes;
    uint8_t last[64]; /* the beginning of the last message */
    size_t last_n;
    struct rg_err why;
    bool keep; /* frames are not freed: kept */
    struct rg_frame *kept[256];
    bool echo;
};

static void end_init(struct end *e)
{
    memset(e, 0, sizeof *e);
    pthread_mutex_init(&e->mutex, NULL);
    pthread_cond_init(&e->changed, NULL);
}

static void end_free(struct end *e)
{
    rg_link_release(e->link);
    pthread_mutex_destroy(&e->mutex);
    pthread_cond_destroy(&e->changed);
}

static void on_open(void *ud, struct rg_link *l)
{
    struct end *e = ud;

    (void)l;
    pthread_mutex_lock(&e->mutex);
    e->opened++;
    pthread_cond_broadcast(&e->changed);
    pthread_mutex_unlock(&e->mutex);
}

static void on_message(void *ud, struct rg_link *l, struct rg_frame *f)
{
    struct end *e = ud;
    const size_t n = rg_frame_bytes(f);

    pthread_mutex_lock(&e->mutex);
    e->last_n = n < sizeof e->last ? n : sizeof e->last;
    rg_frame_read(f, 0, e->last, e->last_n);
    e->bytes += n;
    if (e->keep)
        e->kept[e->messages] = f;
    e->messages++;
    pthread_cond_broadcast(&e->changed);
    pthread_mutex_unlock(&e->mutex);
    if (e->echo)
        (void)!rg_link_send(l, e->last, e->last_n, NULL, NULL);
    if (!e->keep)
        rg_frame_free(f);
}

static void on_sent(void *ud, struct rg_link *l)
{
    struct end *e = ud;

    (void)l;
    pthread_mutex_lock(&e->mutex);
    e->sent++;
    pthread_cond_broadcast(&e->changed);
    pthread_mutex_unlock(&e->mutex);
}

static void on_close(void *ud, struct rg_link *l, const struct rg_err *why)
{
    struct end *e = ud;

    (void)l;
    pthread_mutex_lock(&e->mutex);
    e->closed++;
    e->why = *why;
    pthread_cond_broadcast(&e->changed);
    pthread_mutex_unlock(&e->mutex);
}

static const struct rg_link_events events = {
    .on_open = on_open, .on_message = on_message, .on_sent = on_sent, .on_close = on_close};

/* Waits until *counter is at least n. */
static bool wait_for(struct end *e, const int *counter, int n)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_MS / 1000;
    pthread_mutex_lock(&e->mutex);
    while (*counter < n)
        if (pthread_cond_timedwait(&e->changed, &e->mutex, &until) != 0)
            break;

    const bool reached = *counter >= n;

    pthread_mutex_unlock(&e->mutex);
    return reached;
}

/* ---- a pair of transports -------------------------------------------------------------------- */

struct pair {
    struct rg_transport *server, *client;
    struct end near, far; /* the dialling and the accepting end */
    bool refuse;
};

static bool accept_link(void *ud, struct rg_link *l, enum rg_link_kind kind, const char *names,
                        const char *address, struct rg_link_events *out, void **link_ud)
{
    struct pair *p = ud;

    (void)kind;
    if (p->refuse)
        return false;
    snprintf(p->far.names, sizeof p->far.names, "%s", names);
    snprintf(p->far.address, sizeof p->far.address, "%s", address);
    p->far.link = l;
    *out = events;
    *link_ud = &p->far;
    return true;
}

static void open_pair(struct pair *p)
{
    struct rg_err err = {0};
    struct rg_transport_options o = {.host = "127.0.0.1",
                                     .node_id = "a",
                                     .step_bytes_max = STEP_BYTES_MAX,
                                     .on_accept = accept_link,
                                     .ud = p};

    memset(p, 0, sizeof *p);
    end_init(&p->near);
    end_init(&p->far);
    if (rg_transport_open(&p->server, &o, &err))
        fail_msg("%s", err.message);
    o.host = NULL;
    if (rg_transport_open(&p->client, &o, &err))
        fail_msg("%s", err.message);
}

static void close_pair(struct pair *p)
{
    rg_transport_close(p->client);
    rg_transport_close(p->server);
    end_free(&p->near);
    end_free(&p->far);
}

static void dial(struct pair *p, enum rg_link_kind kind)
{
    struct rg_err err = {0};
    const struct rg_dial d = {.kind = kind,
                              .address = "127.0.0.1",
                              .port = rg_transport_port(p->server),
                              .peer_id = "a",
                              .events = &events,
                              .ud = &p->near};

    if (rg_link_dial(&p->near.link, p->client, &d, &err))
        fail_msg("%s", err.message);
}

static void a_message_arrives_on_each_side(void **state)
{
    struct pair p;
    struct rg_err err = {0};

    (void)state;
    open_pair(&p);
    dial(&p, RG_LINK_CONTROL);
    assert_true(wait_for(&p.near, &p.near.opened, 1));
    assert_int_equal(rg_link_send(p.near.link, "there", 5, NULL, &err), RG_OK);
    assert_true(wait_for(&p.far, &p.far.messages, 1));
    assert_memory_equal(p.far.last, "there", 5);
    assert_int_equal(rg_link_send(p.far.link, "back", 4, NULL, &err), RG_OK);
    assert_true(wait_for(&p.near, &p.near.messages, 1));
    assert_memory_equal(p.near.last, "back", 4);
    assert_string_equal(p.far.names, "");
    rg_link_finish(p.near.link);
    assert_true(wait_for(&p.near, &p.near.closed, 1));
    assert_true(wait_for(&p.far, &p.far.closed, 1));
    assert_int_equal(p.near.why.code, RG_OK);
    assert_int_equal(p.far.why.code, RG_OK);
    close_pair(&p);
}

static void a_refused_link_closes_and_never_opens(void **state)
{
    struct pair p;

    (void)state;
    open_pair(&p);
    p.refuse = true;
    dial(&p, RG_LINK_STEPS);
    assert_true(wait_for(&p.near, &p.near.closed, 1));
    assert_int_equal(p.near.opened, 0);
    assert_int_equal(p.near.why.code, RG_E_PEER);
    assert_non_null(strstr(p.near.why.message, "refuses"));
    close_pair(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_message_arrives_on_each_side),
        TEST(a_refused_link_closes_and_never_opens),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
