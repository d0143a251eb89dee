/* transport_listen_test.c - a port that had no descriptor for a connection once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "support/link_ends.h"
#include "support/live_memory.h"

enum { KNOCKS = 4, ROUNDS = 3 };

/* Connects while this process may have no descriptor more: gRPC 1.51 accepts nothing after that. */
static void knock_without_descriptors(uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons(port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int knocks[KNOCKS];
    struct rlimit old, none;

    for (int i = 0; i < KNOCKS; i++)
        knocks[i] = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    none = old;

    const int next = dup(knocks[0]);

    assert_true(next > 0);
    close(next);
    none.rlim_cur = (rlim_t)next;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    for (int i = 0; i < KNOCKS; i++)
        assert_int_equal(connect(knocks[i], (struct sockaddr *)&a, sizeof a), 0);
    usleep(1200 * 1000); /* time to see it, and not to come back too early */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    for (int i = 0; i < KNOCKS; i++)
        close(knocks[i]);
}

/* A link of its own from p's client; it is tried like a node does, anew when it closes. */
static void expect_a_link_within(struct pair *p, int64_t ms)
{
    const int64_t until = rg_clock_ms() + ms;
    bool opened = false;

    pthread_mutex_lock(&p->far.mutex);
    struct rg_link *far = p->far.link;

    pthread_mutex_unlock(&p->far.mutex);
    while (!opened) {
        struct pair again = {.client = p->client, .server = p->server};

        end_init(&again.near);
        dial(&again, RG_LINK_CONTROL);
        while (!(opened = counted(&again.near, &again.near.opened) > 0) &&
               !counted(&again.near, &again.near.closed)) {
            if (rg_clock_ms() > until)
                fail_msg("no link within %lld ms", (long long)ms);
            usleep(1000);
        }
        rg_link_finish(again.near.link);
        assert_true(wait_for(&again.near, &again.near.closed, 1));
        end_free(&again.near);
    }
    /* on_accept has put the second link over the first. */
    pthread_mutex_lock(&p->far.mutex);
    if (p->far.link != far)
        rg_link_release(p->far.link);
    p->far.link = far;
    pthread_mutex_unlock(&p->far.mutex);
}

static void a_port_without_descriptors_opens_again_and_its_links_live(void **state)
{
    struct rg_err err = {0};
    struct pair p;

    (void)state;
    open_pair(&p);
    open_link(&p, RG_LINK_CONTROL);

    const uint16_t port = rg_transport_port(p.server);

    for (int round = 0; round < ROUNDS; round++) {
        knock_without_descriptors(port);
        expect_a_link_within(&p, 4000);
        assert_int_equal(rg_transport_port(p.server), port);
        assert_int_equal(rg_link_send(p.near.link, "there", 5, NULL, &err), RG_OK);
        assert_true(wait_for(&p.far, &p.far.messages, round + 1));
        assert_int_equal(rg_link_send(p.far.link, "back", 4, NULL, &err), RG_OK);
        assert_true(wait_for(&p.near, &p.near.messages, round + 1));
    }
    assert_int_equal(counted(&p.near, &p.near.closed), 0);
    rg_link_finish(p.near.link);
    assert_true(wait_for(&p.near, &p.near.closed, 1));
    close_pair(&p);
}

static void a_port_that_opened_again_can_be_closed_under_its_links(void **state)
{
    struct pair p;

    (void)state;
    open_pair(&p);
    open_link(&p, RG_LINK_CONTROL);
    knock_without_descriptors(rg_transport_port(p.server));
    expect_a_link_within(&p, 4000);
    rg_transport_close(p.server);
    p.server = NULL;
    assert_true(wait_for(&p.near, &p.near.closed, 1));
    close_pair(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_port_without_descriptors_opens_again_and_its_links_live),
        TEST(a_port_that_opened_again_can_be_closed_under_its_links),
    };

    return cmocka_run_group_tests_name("transport_listen", tests, NULL, NULL);
}
