/* ring_peer_test.c - a worker between neighbours that break the rules: wrong steps, wrong names,
 * too many streams, a successor that never reads. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "support/live_memory.h"
#include "support/ring_nodes.h"

enum { BLOCKS = 8, BLOCK = 16, ROWS = 32, HIDDEN_MOST = 4096 };

static struct rg_step_limits limits = {.max_rows = ROWS,
                                             .parallel = 2,
                                             .n_blocks = BLOCKS,
                                             .block_tokens = BLOCK,
                                             .context = 64,
                                             .hidden = HASH_HIDDEN};

/* ---- a peer by hand -------------------------------------------------------------------------- */

/* Both neighbours of the worker: dials it as its predecessor, accepts as its successor. */
struct hand {
    struct rg_transport *transport;
    pthread_mutex_t lock; /* of what follows */
    struct rg_link *accepted;
    struct rg_frame *kept[256]; /* owned: what came on the accepted stream and was not read */
    uint32_t n_kept;
    bool keeps; /* never frees what comes */
    char error[256]; /* of the last failed step */
    atomic_uint n_in, n_answers, n_closed, n_failed_steps;
};

static void hand_answer(struct hand *h, struct rg_link *l, struct rg_epoch epoch)
{
    const struct rg_steps_open o = {.epoch = epoch, .node_id = "hand"};
    struct rg_buf out;
    struct rg_err err;

    (void)h;
    rg_buf_init(&out, 4096);
    assert_int_equal(rg_steps_open_encode(&out, &o, &err), RG_OK);
    (void)!rg_link_send(l, out.data, out.len, NULL, &err);
    rg_buf_free(&out);
}

/* The first message is the opening: it is answered, for the epoch that it names. */
static void hand_on_step(void *ud, struct rg_link *l, struct rg_frame *f)
{
    struct hand *h = ud;
    struct rg_steps_open o;
    struct rg_step_head head;
    struct rg_err err;
    size_t n = rg_frame_bytes(f), rows_at;
    uint8_t *p = rg_alloc(n + 1);
    const unsigned number = atomic_fetch_add(&h->n_in, 1);

    assert_non_null(p);
    rg_frame_read(f, 0, p, n);
    if (number == 0 && rg_steps_open_decode(&o, p, n, &err) == RG_OK)
        hand_answer(h, l, o.epoch);
    if (number > 0 && rg_step_decode(&head, &rows_at, p, n, n, &limits, &err) == RG_OK) {
        if (head.code != RG_OK) {
            pthread_mutex_lock(&h->lock);
            (void)snprintf(h->error, sizeof h->error, "%s", head.error);
            pthread_mutex_unlock(&h->lock);
            atomic_fetch_add(&h->n_failed_steps, 1);
        }
        rg_step_head_free(&head);
    }
    rg_free(p);
    pthread_mutex_lock(&h->lock);
    if (h->keeps && h->n_kept < 256) {
        h->kept[h->n_kept++] = f;
        f = NULL;
    }
    pthread_mutex_unlock(&h->lock);
    rg_frame_free(f);
}

static void hand_on_answer(void *ud, struct rg_link *l, struct rg_frame *f)
{
    struct hand *h = ud;

    (void)l;
    atomic_fetch_add(&h->n_answers, 1);
    rg_frame_free(f);
}

static void hand_on_close(void *ud, struct rg_link *l, const struct rg_err *why)
{
    struct hand *h = ud;

    (void)why;
    pthread_mutex_lock(&h->lock);
    if (h->accepted == l)
        h->accepted = NULL;
    pthread_mutex_unlock(&h->lock);
    atomic_fetch_add(&h->n_closed, 1);
    rg_link_release(l);
}

static bool hand_accept(void *ud, struct rg_link *l, enum rg_link_kind kind, const char *names,
                        const char *address, struct rg_link_events *events, void **link_ud)
{
    struct hand *h = ud;

    (void)kind;
    (void)names;
    (void)address;
    pthread_mutex_lock(&h->lock);
    h->accepted = l;
    pthread_mutex_unlock(&h->lock);
    *events = (struct rg_link_events){.on_message = hand_on_step, .on_close = hand_on_close};
    *link_ud = h;
    return true;
}

static void hand_open(struct hand *h)
{
    const struct rg_transport_options options = {.host = "127.0.0.1",
                                                 .node_id = "hand",
                                                 .step_bytes_max = rg_step_bytes_max(&limits),
                                                 .on_accept = hand_accept,
                                                 .ud = h};
    struct rg_err err;

    memset(h, 0, sizeof *h);
    pthread_mutex_init(&h->lock, NULL);
    if (rg_transport_open(&h->transport, &options, &err) != RG_OK)
        fail_msg("%s", err.message);
}

static void hand_close(struct hand *h)
{
    for (uint32_t i = 0; i < h->n_kept; i++)
        rg_frame_free(h->kept[i]);
    h->n_kept = 0;
    rg_transport_close(h->transport);
    pthread_mutex_destroy(&h->lock);
}

/* Dials the worker and says StepsOpen. */
static struct rg_link *hand_dial(struct hand *h, const struct node *to, const char *as,
                                 struct rg_epoch epoch)
{
    static const struct rg_link_events events = {.on_message = hand_on_answer,
                                                 .on_close = hand_on_close};
    const struct rg_dial dial = {.kind = RG_LINK_STEPS,
                                 .address = "127.0.0.1",
                                 .port = rg_transport_port(to->transport),
                                 .peer_id = to->id,
                                 .events = &events,
                                 .ud = h};
    struct rg_steps_open o = {.epoch = epoch};
    struct rg_link *l;
    struct rg_buf out;
    struct rg_err err;

    (void)snprintf(o.node_id, sizeof o.node_id, "%s", as);
    rg_buf_init(&out, 4096);
    assert_int_equal(rg_link_dial(&l, h->transport, &dial, &err), RG_OK);
    assert_int_equal(rg_steps_open_encode(&out, &o, &err), RG_OK);
    assert_int_equal(rg_link_send(l, out.data, out.len, NULL, &err), RG_OK);
    rg_buf_free(&out);
    return l;
}

/* ---- a worker in its hands ------------------------------------------------------------------- */

struct bench {
    struct hand hand;
    struct node node;
    struct rg_link *to; /* released by its on_close */
    struct hash_stage *stage;
};

static const struct rg_epoch epoch = {7, 1};

static void prepare(struct bench *b, struct rg_epoch e)
{
    const struct rg_ring_epoch ring = {.epoch = e,
                                       .limits = limits,
                                       .stages = 3,
                                       .previous_id = "hand",
                                       .next_id = "hand",
                                       .next_address = "127.0.0.1",
                                       .next_port = rg_transport_port(b->hand.transport)};
    struct rg_err err;

    assert_int_equal(rg_ring_prepare(b->node.ring, b->node.transport, &ring, &err), RG_OK);
}

static void open_bench(struct bench *b)
{
    memset(b, 0, sizeof *b);
    hand_open(&b->hand);
    node_open(&b->node, 0, false, &limits, HASH_VOCAB);
    b->stage = hash_open(0, 1, BLOCKS, BLOCK);
    b->stage->base.hidden = limits.hidden;
    rg_ring_set_stage(b->node.ring, &b->stage->base);
}

static void start_bench(struct bench *b)
{
    struct rg_err err;

    open_bench(b);
    prepare(b, epoch);
    b->to = hand_dial(&b->hand, &b->node, "hand", epoch);
    assert_true(reaches(&b->node.n_connected, 1));
    assert_int_equal(rg_ring_start(b->node.ring, epoch, &err), RG_OK);
}

static void close_bench(struct bench *b)
{
    const struct rg_err why = {.code = RG_E_PEER, .message = "over"};

    rg_ring_stop(b->node.ring, &why);
    rg_transport_close(b->node.transport);
    hand_close(&b->hand);
    rg_ring_close(b->node.ring);
    pthread_mutex_destroy(&b->node.lock);
}

/* Sends a step of n rows of one sequence at `position`; rows_more bytes more or fewer. */
static float last_value; /* of the rows that are sent */

static void send_step(struct bench *b, struct rg_epoch e, uint64_t number, uint32_t n,
                      int rows_more)
{
    static const uint32_t blocks[4] = {1, 3, 5, 7};
    static float rows[ROWS * HIDDEN_MOST + 4];
    struct rg_step_seq seq = {
        .n_rows = n, .blocks = blocks, .n_blocks = (n + BLOCK - 1) / BLOCK};
    const struct rg_step_head head = {
        .epoch = e, .seq = number, .seqs = &seq, .n_seqs = 1, .n_rows = n};
    const size_t bytes = n * limits.hidden * sizeof(float) + (size_t)(ptrdiff_t)rows_more;
    struct rg_buf out;
    struct rg_err err;

    rows[n * limits.hidden - 1] = last_value;
    rg_buf_init(&out, 1 << 20);
    assert_int_equal(rg_step_encode(&out, &head, bytes, &err), RG_OK);
    assert_int_equal(rg_buf_add(&out, rows, bytes, &err), RG_OK);
    (void)!rg_link_send(b->to, out.data, out.len, NULL, &err);
    rg_buf_free(&out);
}

static void expect_down(struct bench *b, const char *text)
{
    if (!reaches(&b->node.n_down, 1))
        fail_msg("no on_down where '%s' was wanted", text);
    sleep_ns(20000000);
    assert_int_equal(atomic_load(&b->node.n_down), 1);
    if (!strstr(b->node.why.message, text))
        fail_msg("wanted '%s', got '%s'", text, b->node.why.message);
}

static void good_steps_go_through(void **state)
{
    struct bench b;
    struct rg_ring_stats stats;

    (void)state;
    start_bench(&b);
    for (uint64_t k = 1; k <= 20; k++) {
        send_step(&b, epoch, k, 1 + (uint32_t)k, 0);
        assert_true(reaches(&b.hand.n_in, (unsigned)k + 1));
    }
    rg_ring_stats(b.node.ring, &stats);
    assert_int_equal(stats.steps, 20);
    assert_int_equal(stats.rows, 230);
    assert_int_equal(atomic_load(&b.node.n_down), 0);
    assert_int_equal(atomic_load(&b.hand.n_answers), 1);
    close_bench(&b);
}

/* The step fails, not the epoch: the head computes its sequences again, and the message says whose
 * rows they were. */
static void rows_that_are_not_finite_name_who_sent_them(void **state)
{
    const float bad[] = {NAN, INFINITY, -INFINITY};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct bench b;

        start_bench(&b);
        last_value = bad[i];
        send_step(&b, epoch, 1, 3, 0);
        last_value = 0.0f;
        assert_true(reaches(&b.hand.n_failed_steps, 1));
        pthread_mutex_lock(&b.hand.lock);
        assert_non_null(strstr(b.hand.error, "the rows from node hand hold a NaN or an infinity"));
        pthread_mutex_unlock(&b.hand.lock);
        send_step(&b, epoch, 2, 3, 0);
        assert_true(reaches(&b.hand.n_in, 3));
        assert_int_equal(atomic_load(&b.hand.n_failed_steps), 1);
        assert_int_equal(atomic_load(&b.node.n_down), 0);
        close_bench(&b);
    }
}

static void a_wrong_step_ends_the_epoch(void **state)
{
    static const struct {
        struct rg_epoch epoch;
        uint64_t second; /* number of the step after the first */
        uint32_t rows;
        int rows_more;
        const char *text;
    } wrong[] = {{{7, 1}, 3, 1, 0, "Step.seq: 3 came after 1"},
                 {{7, 1}, 1, 1, 0, "Step.seq: 1 came after 1"},
                 {{7, 2}, 2, 1, 0, "Step.epoch: of another epoch"},
                 {{8, 1}, 2, 1, 0, "Step.epoch: of another epoch"},
                 {{7, 1}, 2, 1, -1, "Step.rows: bytes"},
                 {{7, 1}, 2, 1, 4, "Step.rows: bytes"},
                 {{7, 1}, 2, 33, -16, "Step.seqs.n_rows"}};

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct bench b;

        start_bench(&b);
        send_step(&b, epoch, 1, 1, 0);
        send_step(&b, wrong[i].epoch, wrong[i].second, wrong[i].rows, wrong[i].rows_more);
        expect_down(&b, wrong[i].text);
        send_step(&b, epoch, 2, 1, 0); /* nothing of the epoch is taken any more */
        sleep_ns(20000000);
        assert_int_equal(atomic_load(&b.node.n_down), 1);
        assert_true(atomic_load(&b.hand.n_in) <= 2); /* the opening, and the first step */
        close_bench(&b);
    }
}

static void bytes_that_are_no_step_end_the_epoch(void **state)
{
    struct bench b;
    struct rg_err err;

    (void)state;
    start_bench(&b);
    assert_int_equal(rg_link_send(b.to, "\x12\x03" "abc", 5, NULL, &err), RG_OK);
    expect_down(&b, "Step");
    close_bench(&b);
}

static void a_second_opening_is_no_step(void **state)
{
    struct bench b;

    (void)state;
    start_bench(&b);
    hand_answer(&b.hand, b.to, epoch);
    expect_down(&b, "StepsMessage.open: where a step belongs");
    close_bench(&b);
}

/* The worker waits at its gate; the ring of three may have four steps under way. */
static void more_steps_than_the_ring_has_end_the_epoch(void **state)
{
    struct bench b;
    struct rg_ring_stats stats;

    (void)state;
    start_bench(&b);
    atomic_store(&b.stage->gate, true);
    for (uint64_t k = 1; k <= 4; k++)
        send_step(&b, epoch, k, 1, 0);
    sleep_ns(100000000);
    assert_int_equal(atomic_load(&b.node.n_down), 0);
    rg_ring_stats(b.node.ring, &stats);
    assert_true(stats.busy);
    assert_int_equal(stats.waiting, 3);
    for (uint64_t k = 5; k <= 6; k++)
        send_step(&b, epoch, k, 1, 0);
    expect_down(&b, "at most");
    atomic_store(&b.stage->gate, false);
    close_bench(&b);
}

/* Its successor reads nothing: the worker fills what the transports hold and its few buffers, and
 * then computes no more. */
static void a_successor_that_never_reads_costs_bounded_memory(void **state)
{
    struct bench b;
    struct rg_ring_stats stats;
    uint64_t k = 0;

    (void)state;
    limits.hidden = HIDDEN_MOST; /* half a MiB in a step */
    start_bench(&b);
    pthread_mutex_lock(&b.hand.lock);
    b.hand.keeps = true;
    pthread_mutex_unlock(&b.hand.lock);
    send_step(&b, epoch, ++k, ROWS, 0);
    do {
        sleep_ns(1000000);
        rg_ring_stats(b.node.ring, &stats);
    } while (stats.steps == 0);
    while (atomic_load(&b.node.n_down) == 0 && k < 400) {
        send_step(&b, epoch, ++k, ROWS, 0);
        sleep_ns(5000000);
    }
    rg_ring_stats(b.node.ring, &stats);
    /* The buffers of two sockets and of gRPC: some 10 MiB, and what the kernel grows them to. */
    assert_true(stats.steps < 100);
    assert_true(stats.waiting <= 4);
    close_bench(&b);
    limits.hidden = HASH_HIDDEN;
}

/* ---- openings -------------------------------------------------------------------------------- */

static void a_stream_of_another_node_is_turned_away(void **state)
{
    struct bench b;

    (void)state;
    open_bench(&b);
    prepare(&b, epoch);
    (void)hand_dial(&b.hand, &b.node, "stranger", epoch);
    assert_true(reaches(&b.hand.n_closed, 1));
    assert_int_equal(atomic_load(&b.node.n_down), 0);
    assert_int_equal(atomic_load(&b.node.n_connected), 0);
    b.to = hand_dial(&b.hand, &b.node, "hand", epoch); /* the right one still comes in */
    assert_true(reaches(&b.node.n_connected, 1));
    (void)hand_dial(&b.hand, &b.node, "hand", epoch); /* a second one does not */
    assert_true(reaches(&b.hand.n_closed, 2));
    assert_int_equal(atomic_load(&b.node.n_down), 0);
    close_bench(&b);
}

static void a_stream_must_have_the_certificate_of_its_node(void **state)
{
    static const char *const wrong[] = {"han", "hand2", "other\nhand2", "h\nand", "\nhand x"};
    static const char *const right[] = {"hand", "hand\nother", "other\nhand", "a\nhand\nb"};
    struct bench b;

    (void)state;
    open_bench(&b);
    prepare(&b, epoch);
    for (unsigned i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        b.node.names = wrong[i];
        (void)hand_dial(&b.hand, &b.node, "hand", epoch);
        assert_true(reaches(&b.hand.n_closed, i + 1));
    }
    assert_int_equal(atomic_load(&b.node.n_connected), 0);
    close_bench(&b);
    for (unsigned i = 0; i < sizeof right / sizeof *right; i++) {
        open_bench(&b);
        b.node.names = right[i];
        prepare(&b, epoch);
        (void)hand_dial(&b.hand, &b.node, "hand", epoch);
        assert_true(reaches(&b.node.n_connected, 1));
        close_bench(&b);
    }
}

static void streams_of_old_epochs_are_turned_away(void **state)
{
    struct bench b;

    (void)state;
    open_bench(&b);
    (void)hand_dial(&b.hand, &b.node, "hand", (struct rg_epoch){7, 3}); /* waits, then is old */
    (void)hand_dial(&b.hand, &b.node, "hand", (struct rg_epoch){7, 6}); /* waits on */
    sleep_ns(50000000);
    assert_int_equal(atomic_load(&b.hand.n_closed), 0);
    prepare(&b, (struct rg_epoch){7, 5});
    assert_true(reaches(&b.hand.n_closed, 1));
    (void)hand_dial(&b.hand, &b.node, "hand", (struct rg_epoch){7, 4});
    assert_true(reaches(&b.hand.n_closed, 2));
    sleep_ns(50000000);
    assert_int_equal(atomic_load(&b.hand.n_closed), 2);
    atomic_store(&b.hand.n_in, 0); /* the next stream's opening is answered again */
    prepare(&b, (struct rg_epoch){7, 6});
    assert_true(reaches(&b.node.n_connected, 1));
    close_bench(&b);
}

static void only_a_few_streams_wait(void **state)
{
    struct bench b;

    (void)state;
    open_bench(&b);
    for (uint64_t k = 0; k < 20; k++)
        (void)hand_dial(&b.hand, &b.node, "hand", (struct rg_epoch){7, 100 + k});
    assert_true(reaches(&b.hand.n_closed, 12));
    sleep_ns(50000000);
    assert_int_equal(atomic_load(&b.hand.n_closed), 12);
    close_bench(&b);
}

static void no_message_may_come_before_the_answer(void **state)
{
    struct bench b;

    (void)state;
    open_bench(&b);
    b.to = hand_dial(&b.hand, &b.node, "hand", epoch);
    send_step(&b, epoch, 1, 1, 0);
    assert_true(reaches(&b.hand.n_closed, 1));
    assert_int_equal(atomic_load(&b.node.n_down), 0);
    close_bench(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(good_steps_go_through),
        TEST(a_wrong_step_ends_the_epoch),
        TEST(rows_that_are_not_finite_name_who_sent_them),
        TEST(bytes_that_are_no_step_end_the_epoch),
        TEST(a_second_opening_is_no_step),
        TEST(more_steps_than_the_ring_has_end_the_epoch),
        TEST(a_successor_that_never_reads_costs_bounded_memory),
        TEST(a_stream_of_another_node_is_turned_away),
        TEST(a_stream_must_have_the_certificate_of_its_node),
        TEST(streams_of_old_epochs_are_turned_away),
        TEST(only_a_few_streams_wait),
        TEST(no_message_may_come_before_the_answer)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
