/* ring_test.c - rings of a few nodes in one process over real transports: the same bits as one node
 * alone for every split, steps that fail, epochs that end, nodes that come late or go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "model/model.h"
#include "support/live_memory.h"
#include "support/ring_nodes.h"

enum { STEPS = 14, ROWS_MOST = 40, SEQS = 3, BLOCKS = 24, BLOCK = 16, DEPTH_MOST = NODES_MOST + 1 };

/* ---- a script of steps ----------------------------------------------------------------------- */

/* Sequences that begin at different steps and go on in chunks and single rows. */
struct script {
    struct rg_pipe_step steps[STEPS];
    struct rg_seq_rows seqs[STEPS][SEQS];
    int32_t tokens[STEPS][SEQS * ROWS_MOST];
    uint32_t logit_rows[STEPS][SEQS * ROWS_MOST];
    uint32_t blocks[SEQS][BLOCKS / SEQS];
    uint32_t vocab;
    float *logits; /* owned: of all rows of all steps */
    size_t n_logits;
};

static void add_rows(struct script *s, uint32_t step, uint32_t seq, uint32_t position, uint32_t n)
{
    struct rg_pipe_step *p = &s->steps[step];
    struct rg_seq_rows *q = &s->seqs[step][p->batch.n_seqs++];

    *q = (struct rg_seq_rows){.row_begin = p->batch.n_rows,
                              .n_rows = n,
                              .position = position,
                              .blocks = s->blocks[seq]};
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t row = q->row_begin + i;

        s->tokens[step][row] = (int32_t)((position + i + 100 * seq) * 2654435761u % s->vocab);
        s->logit_rows[step][row] = row;
    }
    p->batch.n_rows += n;
}

static void make_script(struct script *s, uint32_t vocab)
{
    uint32_t positions[SEQS] = {0};
    size_t at = 0;

    memset(s, 0, sizeof *s);
    s->vocab = vocab;
    for (uint32_t q = 0; q < SEQS; q++)
        for (uint32_t b = 0; b < BLOCKS / SEQS; b++)
            s->blocks[q][b] = (b * SEQS + q) * 7 % BLOCKS;
    for (uint32_t k = 0; k < STEPS; k++)
        for (uint32_t q = 0; q < SEQS && q <= k; q++) {
            const uint32_t n = positions[q] < 60 && k < 8 ? 17 + 3 * q : 1;

            add_rows(s, k, q, positions[q], n);
            positions[q] += n;
        }
    for (uint32_t k = 0; k < STEPS; k++)
        s->n_logits += (size_t)s->steps[k].batch.n_rows * vocab;
    s->logits = rg_calloc(s->n_logits, sizeof *s->logits);
    assert_non_null(s->logits);
    for (uint32_t k = 0; k < STEPS; k++) {
        struct rg_pipe_step *p = &s->steps[k];

        p->batch.seqs = s->seqs[k];
        p->tokens = s->tokens[k];
        p->logit_rows = s->logit_rows[k];
        p->n_logit_rows = k % 5 == 3 ? 0 : p->batch.n_rows; /* some want none */
        p->logits = s->logits + at;
        at += (size_t)p->batch.n_rows * vocab;
    }
}

/* Runs steps [begin, end) with as many under way as the pipeline takes. */
static void run_script(struct rg_pipeline *p, struct script *s, uint32_t begin, uint32_t end)
{
    uint32_t next = begin;
    struct rg_err err = {0};

    if (rg_pipeline_check(p, &err) != RG_OK)
        fail_msg("%s", err.message);
    for (uint32_t back = begin; back < end; back++) {
        struct rg_pipe_step *done = NULL;

        while (next < end && next - back < p->depth)
            if (p->ops->submit(p, &s->steps[next++], &err) != RG_OK)
                fail_msg("%s", err.message);
        if (p->ops->collect(p, &done, &err) != RG_OK)
            fail_msg("step %u: %s", back, err.message);
        assert_ptr_equal(done, &s->steps[back]);
    }
}

/* ---- the same bits --------------------------------------------------------------------------- */

struct part {
    struct rg_checkpoint *checkpoint;
    struct rg_backend *backend;
    struct rg_model *model;
};

static struct rg_stage *open_part(struct part *p, const char *dir, struct rg_model_part part)
{
    const struct rg_backend_options options = {.threads = 1};
    struct rg_stage *stage = NULL;
    struct rg_err err = {0};

    if (rg_checkpoint_open(&p->checkpoint, dir, &rg_checkpoint_mapped, &err) != RG_OK ||
        rg_backend_open(&p->backend, &options, &err) != RG_OK ||
        rg_model_open(&p->model, p->checkpoint, p->backend, &part, &err) != RG_OK ||
        rg_stage_open(&stage, p->checkpoint, p->model, p->backend, BLOCKS, BLOCK, &err) != RG_OK)
        fail_msg("%s", err.message);
    return stage;
}

static void close_part(struct part *p)
{
    rg_model_close(p->model);
    rg_backend_close(p->backend);
    rg_checkpoint_close(p->checkpoint);
}

static struct rg_step_limits limits_of(uint32_t hidden)
{
    return (struct rg_step_limits){.max_rows = SEQS * ROWS_MOST,
                                   .parallel = SEQS,
                                   .n_blocks = BLOCKS,
                                   .block_tokens = BLOCK,
                                   .context = BLOCKS / SEQS * BLOCK,
                                   .hidden = hidden};
}

static struct rg_model_config config_of(const char *dir)
{
    struct rg_checkpoint *c;
    struct rg_model_config config;
    struct rg_err err = {0};

    if (rg_checkpoint_open(&c, dir, &rg_checkpoint_headers, &err) != RG_OK)
        fail_msg("%s", err.message);
    config = c->config;
    rg_checkpoint_close(c);
    return config;
}

/* The logits of one process. */
static void run_alone(const char *dir, struct script *s)
{
    const struct rg_model_config c = config_of(dir);
    const struct rg_model_part part = rg_model_whole(&c);
    const struct rg_backend_options options = {.threads = 1};
    struct part p = {0};
    struct rg_pipeline *pipeline = NULL;
    struct rg_err err = {0};

    if (rg_checkpoint_open(&p.checkpoint, dir, &rg_checkpoint_mapped, &err) != RG_OK ||
        rg_backend_open(&p.backend, &options, &err) != RG_OK ||
        rg_model_open(&p.model, p.checkpoint, p.backend, &part, &err) != RG_OK ||
        rg_pipeline_local_open(&pipeline, p.checkpoint, p.model, p.backend, BLOCKS, BLOCK, &err))
        fail_msg("%s", err.message);
    run_script(pipeline, s, 0, STEPS);
    rg_pipeline_close(pipeline);
    close_part(&p);
}

static void expect_same_bits(const char *dir, const uint32_t *layers, uint32_t n,
                             const struct script *want)
{
    const struct rg_model_config c = config_of(dir);
    const struct rg_step_limits limits = limits_of(c.hidden_size);
    struct part parts[NODES_MOST] = {0};
    struct script got;
    struct nodes s;
    uint32_t first = 0;

    make_script(&got, c.vocab_size);
    nodes_open(&s, n, &limits, c.vocab_size);
    for (uint32_t i = 0; i < n; i++) {
        const struct rg_model_part part = {.layer_begin = first,
                                           .layer_end = first + layers[i],
                                           .embed = i + 1 == n,
                                           .head = i + 1 == n};

        rg_ring_set_stage(s.at[i].ring, open_part(&parts[i], dir, part));
        first += layers[i];
    }
    assert_int_equal(first, c.num_hidden_layers);
    nodes_start(&s);
    run_script(s.pipeline, &got, 0, STEPS);
    assert_int_equal(s.pipeline->stages, n);
    assert_int_equal(s.pipeline->depth, n == 1 ? 1 : n + 1);
    if (memcmp(got.logits, want->logits, want->n_logits * sizeof(float)) != 0)
        fail_msg("%s: %u nodes, the first with %u layers: other bits", dir, n, layers[0]);
    nodes_close(&s);
    for (uint32_t i = 0; i < n; i++)
        close_part(&parts[i]);
    rg_free(got.logits);
}

static void every_split_gives_the_bits_of_one_node(void **state)
{
    static const char *const models[] = {"llama-sliding-q4_32", "deepseek_v3-q4_64-groups",
                                         "qwen3_moe-mixed_3_6"};

    (void)state;
    for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
        char dir[512];
        struct script want;

        (void)snprintf(dir, sizeof dir, "%s/tests/golden/tiny/%s", RENGA_SOURCE_DIR, models[m]);

        const uint32_t layers = config_of(dir).num_hidden_layers;

        make_script(&want, config_of(dir).vocab_size);
        run_alone(dir, &want);
        for (uint32_t a = 1; a <= layers; a++) {
            expect_same_bits(dir, (const uint32_t[]){a, layers - a}, 2, &want);
            for (uint32_t b = 1; a + b <= layers; b++)
                expect_same_bits(dir, (const uint32_t[]){a, b, layers - a - b}, 3, &want);
        }
        expect_same_bits(dir, &layers, 1, &want);
        rg_free(want.logits);
    }
}

/* ---- rings of hashes ------------------------------------------------------------------------- */

static const uint32_t three[] = {2, 3, 1};

static void open_hashes(struct nodes *s, uint32_t n, const uint32_t *layers)
{
    const struct rg_step_limits limits = limits_of(HASH_HIDDEN);

    nodes_open(s, n, &limits, HASH_VOCAB);
    nodes_hash_stages(s, layers, 0, 0);
}

/* What one node with six layers says. */
static void run_hashes_alone(struct script *want)
{
    struct nodes s;

    make_script(want, HASH_VOCAB);
    open_hashes(&s, 1, (const uint32_t[]){6});
    nodes_start(&s);
    run_script(s.pipeline, want, 0, STEPS);
    nodes_close(&s);
}

static void steps_under_way_keep_their_order(void **state)
{
    static const uint32_t splits[][5] = {{1, 5}, {6, 0}, {2, 3, 1}, {1, 1, 2, 1, 1}};
    static const uint32_t counts[] = {2, 2, 3, 5};
    struct script want, got;

    (void)state;
    run_hashes_alone(&want);
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
        struct nodes s;
        struct rg_ring_stats stats;

        make_script(&got, HASH_VOCAB);
        open_hashes(&s, counts[k], splits[k]);
        nodes_start(&s);
        run_script(s.pipeline, &got, 0, STEPS);
        assert_memory_equal(got.logits, want.logits, want.n_logits * sizeof(float));
        rg_ring_stats(s.at[0].ring, &stats);
        assert_int_equal(stats.steps, STEPS);
        assert_int_equal(stats.layers_done, STEPS * splits[k][0]);
        assert_false(stats.busy);
        assert_int_equal(stats.waiting, 0);
        assert_true(stats.compute_ns > 0 && stats.idle_ns >= 0);
        for (uint32_t i = 0; i < counts[k]; i++)
            assert_int_equal(atomic_load(&s.at[i].n_down), 0);
        nodes_close(&s);
        rg_free(got.logits);
    }
    rg_free(want.logits);
}

/* After the first steps the ring takes memory for messages alone, none that stays. */
static void a_long_run_keeps_its_memory(void **state)
{
    struct nodes s;
    struct script got;
    int64_t live = 0;

    (void)state;
    make_script(&got, HASH_VOCAB);
    open_hashes(&s, 3, three);
    nodes_start(&s);
    for (int round = 0; round < 30; round++) {
        run_script(s.pipeline, &got, 0, STEPS);
        if (round == 3)
            live = rg_mem_live();
    }
    sleep_ns(20000000); /* the transport frees what it sent a little later */
    assert_true(rg_mem_live() <= live + 8);
    nodes_close(&s);
    rg_free(got.logits);
}

static void a_step_that_fails_is_that_step_alone(void **state)
{
    struct nodes s;
    struct script got;
    struct rg_pipe_step *done;
    struct rg_err err = {0};

    (void)state;
    make_script(&got, HASH_VOCAB);
    open_hashes(&s, 3, three);
    for (uint32_t i = 0; i < 3; i++) {
        struct hash_stage *h = hash_open(i, 1, BLOCKS, BLOCK);

        h->fail_at = i == 1 ? 2 : 0;
        h->fail_code = RG_E_INTERNAL;
        rg_ring_set_stage(s.at[i].ring, &h->base);
    }
    nodes_start(&s);
    for (uint32_t k = 0; k < 4; k++)
        assert_int_equal(s.pipeline->ops->submit(s.pipeline, &got.steps[k], &err), RG_OK);
    for (uint32_t k = 0; k < 4; k++) {
        assert_int_equal(s.pipeline->ops->collect(s.pipeline, &done, &err),
                         k == 1 ? RG_E_INTERNAL : RG_OK);
        assert_ptr_equal(done, &got.steps[k]);
    }
    assert_string_equal(err.message, "node node-1: step 2 fails");
    assert_int_equal(rg_pipeline_check(s.pipeline, &err), RG_OK);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(atomic_load(&s.at[i].n_down), 0);
    nodes_close(&s);
    rg_free(got.logits);
}

static void a_changed_file_ends_the_epoch(void **state)
{
    struct nodes s;
    struct script got;
    struct rg_pipe_step *done;
    struct rg_err err = {0};
    struct hash_stage *h = NULL;

    (void)state;
    make_script(&got, HASH_VOCAB);
    open_hashes(&s, 2, three);
    h = hash_open(0, 2, BLOCKS, BLOCK);
    h->fail_at = 1;
    h->fail_code = RG_E_IO;
    rg_ring_set_stage(s.at[0].ring, &h->base);
    nodes_start(&s);
    assert_int_equal(s.pipeline->ops->submit(s.pipeline, &got.steps[0], &err), RG_OK);
    /* To the engine such a node is lost: requests wait until it has the right files. */
    assert_int_equal(s.pipeline->ops->collect(s.pipeline, &done, &err), RG_E_PEER);
    assert_string_equal(err.message, "node node-0: step 1 fails");
    assert_true(reaches(&s.at[0].n_down, 1));
    /* Its own reason, or the head's that the epoch is over: whichever was first. */
    assert_true(s.at[0].why.code == RG_E_IO || s.at[0].why.code == RG_E_PEER);
    assert_true(reaches(&s.at[1].n_down, 1));
    nodes_close(&s);
    rg_free(got.logits);
}

/* ---- epochs ---------------------------------------------------------------------------------- */

static void expect_lost(struct nodes *s, const char *text)
{
    struct rg_pipe_step step = {0};
    struct rg_err err = {0};

    assert_int_equal(rg_pipeline_check(s->pipeline, &err), RG_E_PEER);
    assert_string_equal(err.message, text);
    assert_int_equal(s->pipeline->ops->submit(s->pipeline, &step, &err), RG_E_PEER);
    assert_string_equal(err.message, text);
}

static void before_the_first_start_it_says_why(void **state)
{
    struct nodes s;

    (void)state;
    open_hashes(&s, 2, three);
    expect_lost(&s, "the ring has not formed yet");
    rg_ring_set_reason(s.at[1].ring, "waiting for node-0");
    expect_lost(&s, "waiting for node-0");
    nodes_connect(&s);
    expect_lost(&s, "waiting for node-0");
    nodes_close(&s);
}

/* Steps wait at a shut gate of the first worker; the epoch is stopped; then the next one gives the
 * bits of a ring that never stopped. */
static void a_stopped_epoch_gives_back_every_step(void **state)
{
    struct nodes s;
    struct script want, got;
    struct hash_stage *h;
    struct rg_pipe_step *done;
    struct rg_err err = {0};

    (void)state;
    run_hashes_alone(&want);
    make_script(&got, HASH_VOCAB);
    open_hashes(&s, 3, three);
    h = hash_open(0, 2, BLOCKS, BLOCK);
    rg_ring_set_stage(s.at[0].ring, &h->base);
    nodes_start(&s);
    assert_int_equal(rg_pipeline_check(s.pipeline, &err), RG_OK);
    atomic_store(&h->gate, true);
    for (uint32_t k = 0; k < 4; k++)
        assert_int_equal(s.pipeline->ops->submit(s.pipeline, &got.steps[k], &err), RG_OK);
    sleep_ns(20000000);
    nodes_stop(&s, "node-1 is lost"); /* while node-0 computes: it does not wait */
    for (uint32_t k = 0; k < 4; k++) {
        assert_int_equal(s.pipeline->ops->collect(s.pipeline, &done, &err), RG_E_PEER);
        assert_string_equal(err.message, "node-1 is lost");
        assert_ptr_equal(done, &got.steps[k]);
    }
    expect_lost(&s, "node-1 is lost");
    atomic_store(&h->gate, false);
    nodes_hash_stages(&s, three, 0, 0);
    nodes_start(&s);
    run_script(s.pipeline, &got, 0, STEPS);
    assert_memory_equal(got.logits, want.logits, want.n_logits * sizeof(float));
    nodes_close(&s);
    rg_free(got.logits);
    rg_free(want.logits);
}

/* An epoch that went and came while the engine looked away took its KV with it. */
static void a_new_epoch_is_not_taken_for_the_old_one(void **state)
{
    struct nodes s;
    struct script got;
    struct rg_err err = {0};

    (void)state;
    make_script(&got, HASH_VOCAB);
    open_hashes(&s, 2, (const uint32_t[]){3, 3});
    nodes_start(&s);
    run_script(s.pipeline, &got, 0, 3);
    nodes_stop(&s, "over");
    nodes_start(&s);
    assert_int_equal(s.pipeline->ops->submit(s.pipeline, &got.steps[3], &err), RG_E_PEER);
    assert_string_equal(err.message, "the ring has formed anew");
    run_script(s.pipeline, &got, 0, STEPS);
    nodes_close(&s);
    rg_free(got.logits);
}

static void a_late_node_is_waited_for(void **state)
{
    struct script got;

    (void)state;
    for (uint32_t late = 0; late < 3; late++) {
        struct nodes s;
        struct rg_err err = {0};

        make_script(&got, HASH_VOCAB);
        open_hashes(&s, 3, three);
        s.epoch.n++;
        for (uint32_t i = 0; i < 3; i++)
            if (i != late)
                node_prepare(&s, i);
        sleep_ns(100000000);
        for (uint32_t i = 0; i < 3; i++)
            assert_int_equal(rg_ring_start(s.at[i].ring, s.epoch, &err), RG_E_PEER);
        node_prepare(&s, late);
        for (uint32_t i = 0; i < 3; i++)
            assert_true(reaches(&s.at[i].n_connected, 1));
        for (uint32_t i = 0; i < 3; i++) {
            assert_int_equal(rg_ring_start(s.at[i].ring, s.epoch, &err), RG_OK);
            assert_int_equal(atomic_load(&s.at[i].n_connected), 1);
            assert_int_equal(atomic_load(&s.at[i].n_down), 0);
        }
        run_script(s.pipeline, &got, 0, STEPS);
        nodes_close(&s);
        rg_free(got.logits);
    }
}

/* One node's transport ends while steps are under way: each neighbour hears of it once, the head
 * gets every step back, nobody hangs. */
static void a_lost_node_ends_the_epoch_once(void **state)
{
    (void)state;
    for (uint32_t lost = 0; lost < 2; lost++) {
        const int64_t began = rg_clock_ms();
        struct nodes s;
        struct script got;
        struct rg_pipe_step *done;
        struct rg_err err = {0};

        make_script(&got, HASH_VOCAB);
        open_hashes(&s, 3, three);
        nodes_hash_stages(&s, three, 20000000, 0);
        nodes_start(&s);
        assert_int_equal(rg_pipeline_check(s.pipeline, &err), RG_OK);
        for (uint32_t k = 0; k < 4; k++)
            assert_int_equal(s.pipeline->ops->submit(s.pipeline, &got.steps[k], &err), RG_OK);
        rg_transport_close(s.at[lost].transport);
        s.at[lost].transport = NULL;
        for (uint32_t k = 0; k < 4; k++)
            assert_int_equal(s.pipeline->ops->collect(s.pipeline, &done, &err), RG_E_PEER);
        assert_int_equal(rg_pipeline_check(s.pipeline, &err), RG_E_PEER);
        for (uint32_t i = 0; i < 3; i++)
            assert_true(reaches(&s.at[i].n_down, 1));
        sleep_ns(50000000);
        for (uint32_t i = 0; i < 3; i++)
            assert_int_equal(atomic_load(&s.at[i].n_down), 1);
        nodes_close(&s);
        rg_free(got.logits);
        assert_true(rg_clock_ms() - began < 5000);
    }
}

static void a_node_that_is_not_there_is_no_successor(void **state)
{
    struct nodes s;

    (void)state;
    open_hashes(&s, 2, three);
    rg_transport_close(s.at[1].transport);
    s.at[1].transport = NULL;

    struct rg_ring_epoch e = {.epoch = {1, 1},
                              .limits = s.limits,
                              .stages = 2,
                              .previous_id = "node-1",
                              .next_id = "node-1",
                              .next_address = "127.0.0.1",
                              .next_port = 1};
    struct rg_err err = {0};

    assert_int_equal(rg_ring_prepare(s.at[0].ring, s.at[0].transport, &e, &err), RG_OK);
    assert_true(reaches(&s.at[0].n_down, 1));
    assert_int_equal(s.at[0].why.code, RG_E_PEER);
    assert_non_null(strstr(s.at[0].why.message, "steps to node node-1: "));
    nodes_close(&s);
}

/* Each allocation of a few steps fails once, on whatever thread it is: the steps or the epoch may
 * fail, but everything comes back, and the next epoch is right. */
static void short_memory_never_hangs(void **state)
{
    struct nodes s;
    struct script want, got;
    uint32_t n_failed = 0;

    (void)state;
    run_hashes_alone(&want);
    open_hashes(&s, 2, (const uint32_t[]){3, 3});
    for (int64_t at = 1; at <= 60; at++) {
        struct rg_pipe_step *done;
        struct rg_err err = {0};
        uint32_t n = 0;

        make_script(&got, HASH_VOCAB);
        nodes_start(&s);
        (void)!rg_pipeline_check(s.pipeline, &err);
        assert_int_equal(rg_pipeline_check(s.pipeline, &err), RG_OK);
        rg_mem_fail_at(at);
        while (n < 3 && s.pipeline->ops->submit(s.pipeline, &got.steps[n], &err) == RG_OK)
            n++;
        n_failed += n < 3;
        for (uint32_t k = 0; k < n; k++) {
            n_failed += s.pipeline->ops->collect(s.pipeline, &done, &err) != RG_OK;
            assert_ptr_equal(done, &got.steps[k]);
        }
        rg_mem_fail_at(0);
        nodes_stop(&s, "again");
        rg_free(got.logits);
    }
    assert_true(n_failed > 10);
    make_script(&got, HASH_VOCAB);
    nodes_start(&s);
    (void)!rg_pipeline_check(s.pipeline, &(struct rg_err){0});
    run_script(s.pipeline, &got, 0, STEPS);
    assert_memory_equal(got.logits, want.logits, want.n_logits * sizeof(float));
    nodes_close(&s);
    rg_free(got.logits);
    rg_free(want.logits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_split_gives_the_bits_of_one_node), TEST(steps_under_way_keep_their_order),
        TEST(a_long_run_keeps_its_memory),            TEST(a_step_that_fails_is_that_step_alone),
        TEST(a_changed_file_ends_the_epoch),          TEST(before_the_first_start_it_says_why),
        TEST(a_stopped_epoch_gives_back_every_step),
        TEST(a_new_epoch_is_not_taken_for_the_old_one),
        TEST(a_late_node_is_waited_for),              TEST(a_lost_node_ends_the_epoch_once),
        TEST(a_node_that_is_not_there_is_no_successor),
        TEST(short_memory_never_hangs)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
