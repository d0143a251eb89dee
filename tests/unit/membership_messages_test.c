/* membership_messages_test.c - every message in every state of a membership: the tables of
 * docs/PROTOCOL.md. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "support/live_memory.h"
#include "support/member_bench.h"

/* ---- every message in every state ------------------------------------------------------------ */

/* What a message does: U the peer is up; E ends its link; F is refused; R we were refused; . is
 * ignored; T is taken; L a LOAD follows, S a START, C Commits, O a STOP. */
static char outcome(const struct bench *b, uint32_t peer)
{
    if (sent(b, peer, RG_MESSAGE_REFUSE))
        return 'F';
    if (find(b, RG_MEMBER_DROP))
        return view(b, peer).state == RG_PEER_REFUSED ? 'R' : 'E';
    if (find(b, RG_MEMBER_LOAD))
        return 'L';
    if (find(b, RG_MEMBER_START))
        return 'S';
    if (find(b, RG_MEMBER_STOP))
        return 'O';
    if (sent(b, 2, RG_MESSAGE_COMMIT))
        return 'C';
    return '.';
}

/* `about`: the message is about the newest epoch (5), an older one (4), or none that there was. */
struct row {
    enum rg_message_kind kind;
    uint64_t n;
    const char *outcomes; /* one letter per state */
};

enum { N_STATES = 6, N_HEAD_STATES = 10 };

static void into_worker_state(struct bench *b, int at)
{
    if (at >= 2) {
        open_worker(b, (enum rg_epoch_state)(at - 2), 5);
        if (at == 2) { /* NONE after epoch 5 */
            about(b, 0, RG_MESSAGE_PROPOSE, 5);
            about(b, 0, RG_MESSAGE_ABORT, 5);
        }
        return;
    }
    open_bench(b, 1, 0);
    link_up(b, 2);
    if (at == 1)
        link_up(b, 0);
}

static void every_message_of_the_head_has_its_answer_at_a_worker(void **state)
{
    /*                                         down greeting none loading ready running */
    static const struct row rows[] = {
        {RG_MESSAGE_HELLO, 0, ".UEEEE"},      {RG_MESSAGE_REFUSE, 0, ".RRRRR"},
        {RG_MESSAGE_HEARTBEAT, 5, ".E...."},  {RG_MESSAGE_HEARTBEAT, 4, ".E.OOO"},
        {RG_MESSAGE_PROPOSE, 6, ".ELLLL"},    {RG_MESSAGE_PROPOSE, 5, ".EEEEE"},
        {RG_MESSAGE_PROPOSE, 4, ".EEEEE"},    {RG_MESSAGE_READY, 5, ".EEEEE"},
        {RG_MESSAGE_COMMIT, 5, ".E.ESE"},     {RG_MESSAGE_COMMIT, 4, ".E...."},
        {RG_MESSAGE_COMMIT, 6, ".EEEEE"},     {RG_MESSAGE_COMMIT, 0, ".EEEEE"},
        {RG_MESSAGE_COMMIT_ACK, 5, ".EEEEE"}, {RG_MESSAGE_ABORT, 5, ".E.OOO"},
        {RG_MESSAGE_ABORT, 4, ".E...."},      {RG_MESSAGE_ABORT, 6, ".EEEEE"},
        {RG_MESSAGE_ABORT, 0, ".EEEEE"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int at = 0; at < N_STATES; at++) {
            struct bench b;
            char got;

            into_worker_state(&b, at);
            about(&b, 0, rows[i].kind, rows[i].n);
            got = view(&b, 0).state == RG_PEER_UP && at == 1 ? 'U' : outcome(&b, 0);
            if (got != rows[i].outcomes[at])
                fail_msg("%s of %d in state %d: %c", rg_message_name(rows[i].kind), (int)rows[i].n,
                         at, got);
            close_bench(&b);
        }
}

static void every_message_of_a_worker_has_its_answer_at_a_worker(void **state)
{
    /*                     down greeting none loading ready running; the sender is the successor */
    static const struct row rows[] = {
        {RG_MESSAGE_HELLO, 0, ".UEEEE"},     {RG_MESSAGE_REFUSE, 0, ".RRRRR"},
        {RG_MESSAGE_HEARTBEAT, 5, ".E...."}, {RG_MESSAGE_HEARTBEAT, 0, ".E...."},
        {RG_MESSAGE_PROPOSE, 6, ".EFFFF"},   {RG_MESSAGE_READY, 5, ".EEEEE"},
        {RG_MESSAGE_COMMIT, 5, ".EEEEE"},    {RG_MESSAGE_COMMIT_ACK, 5, ".EEEEE"},
        {RG_MESSAGE_ABORT, 5, ".EEEEE"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int at = 0; at < N_STATES; at++) {
            struct bench b;
            char got;

            if (at >= 2) {
                into_worker_state(&b, at);
            } else {
                open_bench(&b, 1, 0);
                greet(&b, 0);
                if (at == 1)
                    link_up(&b, 2);
            }
            about(&b, 2, rows[i].kind, rows[i].n);
            got = view(&b, 2).state == RG_PEER_UP && at == 1 ? 'U' : outcome(&b, 2);
            if (got != rows[i].outcomes[at])
                fail_msg("%s in state %d: %c", rg_message_name(rows[i].kind), at, got);
            /* With the neighbour goes the epoch. */
            if (at > 2 && strchr("EFR", got))
                assert_state(&b, RG_EPOCH_NONE, 0);
            close_bench(&b);
        }
}

static void wait_10_s(struct bench *b)
{
    for (int i = 0; i < 10; i++) {
        tick(b, 1000);
        heartbeat(b, 1, &(struct rg_heartbeat){.time_ns = 1});
        heartbeat(b, 2, &(struct rg_heartbeat){.time_ns = 1});
    }
}

/* The head's states towards "left": down, greeting, no epoch, loading, loading and it is the last,
 * loading and it is ready, committed, committed and it is the last, it has acked, running. */
static void into_head_state(struct bench *b, int at)
{
    open_bench(b, 0, 2);
    if (at >= 1)
        link_up(b, 1);
    if (at < 2)
        return;
    say_hello(b, 1);
    greet(b, 2);
    for (uint64_t n = 1; n <= 5; n++) {
        if (n == 5 && at != 2)
            break;
        of_epoch(b, RG_MEMBER_LOAD_FAILED, n, "no");
        if (n < 5)
            wait_10_s(b);
    }
    if (at == 2)
        return;
    assert_state(b, RG_EPOCH_LOADING, 5);
    if (at >= 5)
        about(b, 1, RG_MESSAGE_READY, 5);
    if (at == 4 || at >= 6) {
        of_epoch(b, RG_MEMBER_LOADED, 5, NULL);
        about(b, 2, RG_MESSAGE_READY, 5);
    }
    if (at == 7 || at == 9)
        about(b, 2, RG_MESSAGE_COMMIT_ACK, 5);
    if (at >= 8)
        about(b, 1, RG_MESSAGE_COMMIT_ACK, 5);
}

static void every_message_of_a_worker_has_its_answer_at_the_head(void **state)
{
    static const struct row rows[] = {
        {RG_MESSAGE_HELLO, 0, ".UEEEEEEEE"},
        {RG_MESSAGE_REFUSE, 0, ".RRRRRRRRR"},
        {RG_MESSAGE_HEARTBEAT, 5, ".E........"},
        {RG_MESSAGE_HEARTBEAT, 4, ".E...OOOOO"},
        {RG_MESSAGE_PROPOSE, 6, ".EFFFFFFFF"},
        {RG_MESSAGE_READY, 5, ".E..CEEEEE"},
        {RG_MESSAGE_READY, 4, ".E........"},
        {RG_MESSAGE_READY, 6, ".EEEEEEEEE"},
        {RG_MESSAGE_COMMIT, 5, ".EEEEEEEEE"},
        {RG_MESSAGE_COMMIT_ACK, 5, ".E.EEE.SEE"},
        {RG_MESSAGE_COMMIT_ACK, 4, ".E........"},
        {RG_MESSAGE_COMMIT_ACK, 6, ".EEEEEEEEE"},
        {RG_MESSAGE_ABORT, 5, ".E.OOOOOOO"},
        {RG_MESSAGE_ABORT, 4, ".E........"},
        {RG_MESSAGE_ABORT, 6, ".EEEEEEEEE"},
        {RG_MESSAGE_ABORT, 0, ".EEEEEEEEE"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int at = 0; at < N_HEAD_STATES; at++) {
            struct bench b;
            char got;

            into_head_state(&b, at);
            about(&b, 1, rows[i].kind, rows[i].n);
            got = view(&b, 1).state == RG_PEER_UP && at == 1 ? 'U' : outcome(&b, 1);
            if (got != rows[i].outcomes[at])
                fail_msg("%s of %d in state %d: %c", rg_message_name(rows[i].kind),
                         (int)rows[i].n, at, got);
            if (at > 2 && strchr("EFR", got))
                assert_state(&b, RG_EPOCH_NONE, 0);
            close_bench(&b);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_message_of_the_head_has_its_answer_at_a_worker),
        TEST(every_message_of_a_worker_has_its_answer_at_a_worker),
        TEST(every_message_of_a_worker_has_its_answer_at_the_head),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
