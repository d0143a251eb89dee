/* transport_torture_test.c - thousands of links opened, used and ended in random orders by several
 * threads, while one of the two transports is closed and opened again and again.
 *
 * Every end of a link has memory of its own that goes with its on_close and its release: a callback
 * that comes after both is a use after free, which the sanitizers see. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cluster/transport.h"
#include "support/live_memory.h"

enum { THREADS = 3, ROUNDS = 500, RESTARTS = 12, PAYLOAD_MAX = 300000, SENDS_MAX = 12 };

static atomic_int ends_live, links_closed, links_opened, payloads_sent, payloads_done, dials;
static struct rg_transport *still, *restarted; /* `restarted` under the lock */
static pthread_rwlock_t restart_lock = PTHREAD_RWLOCK_INITIALIZER;
static uint8_t bytes[PAYLOAD_MAX];

struct end {
    atomic_int refs; /* the handle, and on_close */
    struct rg_link *link;
    atomic_uint luck;
    atomic_bool settled; /* opened or closed */
    bool accepted;
};

static uint32_t next_random(atomic_uint *luck)
{
    uint32_t x = atomic_load(luck);

    x = x * 1664525u + 1013904223u;
    atomic_store(luck, x);
    return x >> 8;
}

static struct end *end_new(uint32_t luck, bool accepted)
{
    struct end *e = rg_calloc(1, sizeof *e);

    assert_non_null(e);
    atomic_init(&e->refs, 2);
    atomic_init(&e->luck, luck);
    e->accepted = accepted;
    atomic_fetch_add(&ends_live, 1);
    return e;
}

static void end_unref(struct end *e)
{
    if (atomic_fetch_sub(&e->refs, 1) != 1)
        return;
    rg_free(e);
    atomic_fetch_sub(&ends_live, 1);
}

static void count_done(void *ud)
{
    (void)ud;
    atomic_fetch_add(&payloads_done, 1);
}

static void send_some(struct end *e)
{
    const struct rg_payload payload = {
        .p = bytes, .n = next_random(&e->luck) % PAYLOAD_MAX, .done = count_done};
    struct rg_err err;

    if (rg_link_send(e->link, "head", 4, &payload, &err) == RG_OK)
        atomic_fetch_add(&payloads_sent, 1);
}

static void on_open(void *ud, struct rg_link *l)
{
    struct end *e = ud;

    (void)l;
    atomic_fetch_add(&links_opened, 1);
    atomic_store(&e->settled, true);
    if (next_random(&e->luck) % 2)
        send_some(e);
}

static void on_message(void *ud, struct rg_link *l, struct rg_frame *f)
{
    struct end *e = ud;
    char head[4];

    rg_frame_read(f, 0, head, sizeof head);
    if (memcmp(head, "head", 4) != 0)
        fail_msg("a message was changed");
    rg_frame_free(f);
    if (!e->accepted)
        return;
    switch (next_random(&e->luck) % 16) {
    case 0:
        rg_link_close(l, "by chance");
        break;
    case 1:
        rg_link_finish(l);
        break;
    case 2:
    case 3:
    case 4:
    case 5:
        send_some(e);
        break;
    default:
        break;
    }
}

static void on_close(void *ud, struct rg_link *l, const struct rg_err *why)
{
    struct end *e = ud;

    (void)why;
    atomic_fetch_add(&links_closed, 1);
    atomic_store(&e->settled, true);
    if (e->accepted) {
        rg_link_release(l);
        end_unref(e);
    }
    end_unref(e);
}

static const struct rg_link_events events = {
    .on_open = on_open, .on_message = on_message, .on_close = on_close};

static bool accept_link(void *ud, struct rg_link *l, enum rg_link_kind kind, const char *names,
                        const char *address, struct rg_link_events *out, void **link_ud)
{
    static atomic_uint luck = 77;
    struct end *e;

    (void)ud;
    (void)kind;
    (void)names;
    (void)address;
    if (next_random(&luck) % 8 == 0)
        return false;
    e = end_new(next_random(&luck), true);
    e->link = l;
    *out = events;
    *link_ud = e;
    return true;
}

static struct rg_transport *open_transport(void)
{
    const struct rg_transport_options o = {.host = "127.0.0.1",
                                           .node_id = "a",
                                           .step_bytes_max = PAYLOAD_MAX + 64,
                                           .on_accept = accept_link};
    struct rg_transport *t;
    struct rg_err err;

    if (rg_transport_open(&t, &o, &err))
        fail_msg("%s", err.message);
    return t;
}

/* Dials from one transport to the other or to itself; NULL: it is closing. */
static struct end *dial_somewhere(atomic_uint *luck)
{
    struct end *e = end_new(next_random(luck), false);
    struct rg_err err;

    pthread_rwlock_rdlock(&restart_lock);
    struct rg_transport *from = next_random(luck) % 2 ? still : restarted;
    struct rg_transport *to = next_random(luck) % 2 ? still : restarted;
    const struct rg_dial d = {.kind = (enum rg_link_kind)(next_random(luck) % RG_LINK_KINDS),
                              .address = "127.0.0.1",
                              .port = rg_transport_port(to),
                              .peer_id = "a",
                              .events = &events,
                              .ud = e};
    const enum rg_code code = rg_link_dial(&e->link, from, &d, &err);

    pthread_rwlock_unlock(&restart_lock);
    if (code)
        fail_msg("%s", err.message);
    atomic_fetch_add(&dials, 1);
    return e;
}

static void use_link(struct end *e, atomic_uint *luck)
{
    const uint32_t sends = next_random(luck) % SENDS_MAX;

    if (next_random(luck) % 2)
        for (int i = 0; i < 200 && !atomic_load(&e->settled); i++)
            usleep(1000);
    for (uint32_t i = 0; i < sends; i++) {
        send_some(e);
        if (next_random(luck) % 4 == 0)
            usleep(next_random(luck) % 2000);
    }
    switch (next_random(luck) % 4) {
    case 0:
        rg_link_close(e->link, "enough");
        break;
    case 1:
        rg_link_finish(e->link);
        usleep(next_random(luck) % 3000);
        break;
    default:
        break;
    }
    rg_link_release(e->link);
    end_unref(e);
}

static void *run_rounds(void *arg)
{
    atomic_uint luck;

    atomic_init(&luck, (uint32_t)(uintptr_t)arg * 7919u + 1);
    for (int i = 0; i < ROUNDS; i++)
        use_link(dial_somewhere(&luck), &luck);
    return NULL;
}

static void *run_restarts(void *arg)
{
    (void)arg;
    for (int i = 0; i < RESTARTS; i++) {
        usleep(50000);
        pthread_rwlock_wrlock(&restart_lock);
        rg_transport_close(restarted);
        restarted = open_transport();
        pthread_rwlock_unlock(&restart_lock);
    }
    return NULL;
}

/* Open descriptors of this process: a socket that gRPC forgets is one. */
static int descriptors(void)
{
    int n = 0;

    for (int fd = 0; fd < 4096; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void links_end_once_whatever_happens(void **state)
{
    pthread_t threads[THREADS + 1];
    const int64_t begin = rg_clock_ms();

    (void)state;
    still = open_transport();

    const int before = descriptors();

    restarted = open_transport();
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(
            pthread_create(&threads[i], NULL, run_rounds, (void *)(uintptr_t)(i + 1)), 0);
    assert_int_equal(pthread_create(&threads[THREADS], NULL, run_restarts, NULL), 0);
    for (int i = 0; i <= THREADS; i++)
        pthread_join(threads[i], NULL);
    rg_transport_close(restarted);
    /* Connections that were given up end by themselves. */
    for (int i = 0; i < 700 && descriptors() > before; i++)
        usleep(10000);
    assert_true(descriptors() <= before);
    rg_transport_close(still);
    print_message("%d dials, %d opened, %d ends, %d payloads, %d ms\n", atomic_load(&dials),
                  atomic_load(&links_opened), atomic_load(&links_closed),
                  atomic_load(&payloads_sent), (int)(rg_clock_ms() - begin));
    assert_int_equal(atomic_load(&ends_live), 0);
    assert_int_equal(atomic_load(&payloads_done), atomic_load(&payloads_sent));
    assert_int_equal(atomic_load(&dials), THREADS * ROUNDS);
    assert_true(atomic_load(&links_opened) > THREADS * ROUNDS / 10);
    assert_true(atomic_load(&links_closed) >= atomic_load(&dials));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(links_end_once_whatever_happens),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
