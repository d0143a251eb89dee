/* link_ends.h - two transports in one process and the two ends of a link, as tests see them.
 *
 * Header-only; include it behind cmocka.h. */
#ifndef TESTS_SUPPORT_LINK_ENDS_H
#define TESTS_SUPPORT_LINK_ENDS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cluster/transport.h"

enum { STEP_BYTES_MAX = 64 << 20, WAIT_MS = 8000 };

/* One end of a link, as a test sees it. */
struct end {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct rg_link *link;
    char names[1024], address[128];
    int accepted, opened, messages, sent, closed;
    int misordered; /* messages that do not begin with their number; when it is 4 bytes long */
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
    uint32_t number;

    pthread_mutex_lock(&e->mutex);
    e->last_n = n < sizeof e->last ? n : sizeof e->last;
    rg_frame_read(f, 0, e->last, e->last_n);
    e->bytes += n;
    if (n == sizeof number) {
        memcpy(&number, e->last, sizeof number);
        e->misordered += number != (uint32_t)e->messages;
    }
    const bool keep = e->keep;

    if (keep)
        e->kept[e->messages] = f;
    e->messages++;
    pthread_cond_broadcast(&e->changed);
    pthread_mutex_unlock(&e->mutex);
    if (e->echo)
        (void)!rg_link_send(l, e->last, e->last_n, NULL, NULL);
    if (!keep)
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

static const struct rg_link_events end_events = {
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

static inline int counted(struct end *e, const int *counter)
{
    pthread_mutex_lock(&e->mutex);
    const int n = *counter;

    pthread_mutex_unlock(&e->mutex);
    return n;
}

/* ---- a pair of transports -------------------------------------------------------------------- */

struct pair {
    struct rg_transport *server, *client;
    struct end near, far; /* the dialling and the accepting end */
    atomic_bool refuse;
};

static bool accept_link(void *ud, struct rg_link *l, enum rg_link_kind kind, const char *names,
                        const char *address, struct rg_link_events *out, void **link_ud)
{
    struct pair *p = ud;

    (void)kind;
    if (atomic_load(&p->refuse))
        return false;
    pthread_mutex_lock(&p->far.mutex);
    snprintf(p->far.names, sizeof p->far.names, "%s", names);
    snprintf(p->far.address, sizeof p->far.address, "%s", address);
    p->far.link = l;
    p->far.accepted++;
    pthread_cond_broadcast(&p->far.changed);
    pthread_mutex_unlock(&p->far.mutex);
    *out = end_events;
    *link_ud = &p->far;
    return true;
}

/* server_tls, client_tls: their --tls-dir, or NULL. */
static void open_pair_tls(struct pair *p, const char *server_tls, const char *client_tls)
{
    struct rg_err err = {0};
    struct rg_transport_options o = {.host = "127.0.0.1",
                                     .tls_dir = server_tls,
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
    o.node_id = "b";
    o.tls_dir = client_tls;
    if (rg_transport_open(&p->client, &o, &err))
        fail_msg("%s", err.message);
}

static inline void open_pair(struct pair *p)
{
    open_pair_tls(p, NULL, NULL);
}

static void close_pair(struct pair *p)
{
    rg_transport_close(p->client);
    rg_transport_close(p->server);
    end_free(&p->near);
    end_free(&p->far);
}

static void dial_as(struct pair *p, enum rg_link_kind kind, const char *peer_id)
{
    struct rg_err err = {0};
    const struct rg_dial d = {.kind = kind,
                              .address = "127.0.0.1",
                              .port = rg_transport_port(p->server),
                              .peer_id = peer_id,
                              .events = &end_events,
                              .ud = &p->near};

    if (rg_link_dial(&p->near.link, p->client, &d, &err))
        fail_msg("%s", err.message);
}

static inline void dial(struct pair *p, enum rg_link_kind kind)
{
    dial_as(p, kind, "a");
}

/* Dials, and waits until both ends are there. */
static inline void open_link(struct pair *p, enum rg_link_kind kind)
{
    dial(p, kind);
    if (!wait_for(&p->near, &p->near.opened, 1))
        fail_msg("no link: %s", p->near.why.message);
    assert_true(wait_for(&p->far, &p->far.accepted, 1));
}

/* Waits until both ends have closed. */
static inline void expect_closed(struct pair *p)
{
    assert_true(wait_for(&p->near, &p->near.closed, 1));
    assert_true(wait_for(&p->far, &p->far.closed, 1));
    assert_int_equal(p->near.closed, 1);
    assert_int_equal(p->far.closed, 1);
}

#endif
