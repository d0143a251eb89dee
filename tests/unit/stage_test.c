/* stage_test.c - parts of a model, each at its own stage: the same bits as the whole, and what a
 * stage says when its numbers or its files are bad. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <math.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "engine/stage.h"
#include "model/model.h"

enum { TOKENS = 90, CHUNK = 37, BLOCKS = 12, BLOCK_TOKENS = 16, PARTS_MOST = 4 };

static const char *const models[] = {"llama-mixed_346", "qwen3-mixed_346-tied",
                                     "deepseek_v3-q5_64-dense", "kimi_k2-mixed_346-kv_b",
                                     "llama-sliding-q4_32", "qwen3_moe-dense_layers-q5_32-tied"};
enum { MODELS = sizeof(models) / sizeof(*models) };

/* ---- nodes ------------------------------------------------------------------------------- */

struct node {
    struct rg_model *model;
    struct rg_stage *stage;
};

struct cluster {
    struct rg_checkpoint *checkpoint;
    struct rg_backend *backend;
    uint32_t hidden, vocab, n_layers;
};

static void open_cluster(struct cluster *c, const char *dir)
{
    const struct rg_backend_options options = {.threads = 2};
    struct rg_err err = {0};

    if (rg_checkpoint_open(&c->checkpoint, dir, &rg_checkpoint_mapped, &err) != RG_OK)
        fail_msg("%s", err.message);
    assert_int_equal(rg_backend_open(&c->backend, &options, NULL), RG_OK);
    c->hidden = c->checkpoint->config.hidden_size;
    c->vocab = c->checkpoint->config.vocab_size;
    c->n_layers = c->checkpoint->config.num_hidden_layers;
}

static void open_golden(struct cluster *c, const char *model)
{
    char dir[512];

    (void)snprintf(dir, sizeof(dir), "%s/tests/golden/tiny/%s", RENGA_SOURCE_DIR, model);
    open_cluster(c, dir);
}

static void close_cluster(struct cluster *c)
{
    rg_backend_close(c->backend);
    rg_checkpoint_close(c->checkpoint);
}

static void open_node(struct node *n, const struct cluster *c, struct rg_model_part part)
{
    assert_int_equal(rg_model_open(&n->model, c->checkpoint, c->backend, &part, NULL), RG_OK);
    assert_int_equal(rg_stage_open(&n->stage, c->checkpoint, n->model, c->backend, BLOCKS,
                                   BLOCK_TOKENS, NULL),
                     RG_OK);
    assert_int_equal(n->stage->n_layers, part.layer_end - part.layer_begin);
    assert_int_equal(n->stage->hidden, c->hidden);
    assert_int_equal(n->stage->vocab_size, c->vocab);
    assert_int_equal(rg_stage_layers_done(n->stage), 0);
}

static void close_node(struct node *n)
{
    rg_stage_close(n->stage);
    rg_model_close(n->model);
}

/* ---- steps ------------------------------------------------------------------------------- */

static void fill_tokens(int32_t *tokens, uint32_t vocab)
{
    uint32_t seed = 7;

    for (uint32_t i = 0; i < TOKENS; i++) {
        seed = seed * 1664525u + 1013904223u;
        tokens[i] = (int32_t)((seed >> 8) % vocab);
    }
}

/* Positions [begin, end) of one sequence as a step. */
struct chunk {
    uint32_t blocks[BLOCKS], wanted[TOKENS];
    struct rg_seq_rows rows;
    struct rg_batch batch;
};

static void make_chunk(struct chunk *k, uint32_t begin, uint32_t end)
{
    for (uint32_t i = 0; i < BLOCKS; i++)
        k->blocks[i] = (i * 5 + 3) % BLOCKS;
    for (uint32_t i = 0; i < end - begin; i++)
        k->wanted[i] = i;
    k->rows =
        (struct rg_seq_rows){.n_rows = end - begin, .position = begin, .blocks = k->blocks};
    k->batch = (struct rg_batch){.seqs = &k->rows, .n_seqs = 1, .n_rows = end - begin};
}

static void run(const struct node *n, const struct rg_stage_work *work)
{
    struct rg_err err = {0};

    if (n->stage->ops->run(n->stage, work, &err) != RG_OK)
        fail_msg("%s", err.message);
}

/* All logits of the whole model at one stage. */
static float *whole_logits(const struct cluster *c, const int32_t *tokens)
{
    struct node whole;
    struct chunk k;
    float *logits = rg_calloc((size_t)TOKENS * c->vocab, sizeof(*logits));
    struct rg_stage_work work = {.batch = &k.batch,
                                 .tokens = tokens,
                                 .logit_rows = k.wanted,
                                 .n_logit_rows = TOKENS,
                                 .logits = logits};

    assert_non_null(logits);
    open_node(&whole, c, rg_model_whole(&c->checkpoint->config));
    make_chunk(&k, 0, TOKENS);
    run(&whole, &work);
    assert_int_equal(rg_stage_layers_done(whole.stage), c->n_layers);
    close_node(&whole);
    return logits;
}

/* Rows [begin, end) through a ring: the head (nodes[0]) embeds, the others in their order, then the
 * head's own layers and logits. */
static void run_ring(const struct cluster *c, const struct node *nodes, uint32_t n_nodes,
                     const int32_t *tokens, uint32_t begin, uint32_t end, float *x, float *logits)
{
    struct chunk k;
    struct rg_stage_work work = {.batch = &k.batch, .rows_in = x, .rows_out = x};

    make_chunk(&k, begin, end);
    assert_int_equal(
        nodes[0].stage->ops->embed(nodes[0].stage, tokens + begin, end - begin, x, NULL), RG_OK);
    for (uint32_t i = 1; i < n_nodes; i++)
        run(&nodes[i], &work);
    work.rows_out = NULL;
    work.logit_rows = k.wanted;
    work.n_logit_rows = end - begin;
    work.logits = logits + (size_t)begin * c->vocab;
    run(&nodes[0], &work);
}

/* begins[i]: first layer of node i + 1's part; the head's own is the last. */
static void expect_split_same(const char *model, uint32_t n_nodes, const uint32_t *begins)
{
    struct cluster c;
    struct node nodes[PARTS_MOST];
    int32_t tokens[TOKENS];
    float *expected, *logits, *x;

    open_golden(&c, model);
    fill_tokens(tokens, c.vocab);
    expected = whole_logits(&c, tokens);
    logits = rg_calloc((size_t)TOKENS * c.vocab, sizeof(*logits));
    x = rg_calloc((size_t)TOKENS * c.hidden, sizeof(*x));
    assert_non_null(logits);
    assert_non_null(x);
    for (uint32_t i = 1; i <= n_nodes; i++) {
        const bool is_head = i == n_nodes;
        const struct rg_model_part part = {
            .layer_begin = begins[i - 1] < c.n_layers ? begins[i - 1] : c.n_layers,
            .layer_end = is_head || begins[i] > c.n_layers ? c.n_layers : begins[i],
            .embed = is_head,
            .head = is_head};

        open_node(&nodes[is_head ? 0 : i], &c, part);
    }
    for (uint32_t at = 0; at < TOKENS; at += CHUNK)
        run_ring(&c, nodes, n_nodes, tokens, at, at + CHUNK < TOKENS ? at + CHUNK : TOKENS, x,
                 logits);
    assert_memory_equal(logits, expected, (size_t)TOKENS * c.vocab * sizeof(*logits));
    for (uint32_t i = 0; i < n_nodes; i++)
        close_node(&nodes[i]);
    rg_free(x);
    rg_free(logits);
    rg_free(expected);
    close_cluster(&c);
}

/* ---- tests ------------------------------------------------------------------------------- */

static void parts_one_after_the_other_give_the_bits_of_the_whole(void **state)
{
    const uint32_t two[] = {0, 1}, three[] = {0, 1, 2}, alone[] = {0};

    (void)state;
    for (uint32_t i = 0; i < MODELS; i++) {
        expect_split_same(models[i], 1, alone);
        expect_split_same(models[i], 2, two);
        expect_split_same(models[i], 3, three);
    }
}

static void a_head_without_layers_embeds_and_makes_logits(void **state)
{
    const uint32_t all_at_the_worker[] = {0, UINT32_MAX};

    (void)state;
    for (uint32_t i = 0; i < MODELS; i++)
        expect_split_same(models[i], 2, all_at_the_worker);
}

static void embed_is_what_a_part_without_layers_gives_for_tokens(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < MODELS; i++) {
        struct cluster c;
        struct node n;
        struct chunk k;
        int32_t tokens[TOKENS];
        float *x[2];

        open_golden(&c, models[i]);
        fill_tokens(tokens, c.vocab);
        for (int j = 0; j < 2; j++) {
            x[j] = rg_calloc((size_t)TOKENS * c.hidden, sizeof(float));
            assert_non_null(x[j]);
        }
        open_node(&n, &c, (struct rg_model_part){.embed = true});
        assert_int_equal(n.stage->ops->embed(n.stage, tokens, TOKENS, x[0], NULL), RG_OK);
        make_chunk(&k, 0, TOKENS);
        run(&n, &(struct rg_stage_work){.batch = &k.batch, .tokens = tokens, .rows_out = x[1]});
        assert_memory_equal(x[0], x[1], (size_t)TOKENS * c.hidden * sizeof(float));
        assert_int_equal(rg_stage_layers_done(n.stage), 0);
        close_node(&n);
        rg_free(x[0]);
        rg_free(x[1]);
        close_cluster(&c);
    }
}

static void a_step_gives_rows_and_logits_at_once(void **state)
{
    struct cluster c;
    struct node n;
    struct chunk k;
    int32_t tokens[TOKENS];
    const uint32_t last = TOKENS - 1;
    float *expected, *x, *logits;

    (void)state;
    open_golden(&c, models[0]);
    fill_tokens(tokens, c.vocab);
    expected = whole_logits(&c, tokens);
    x = rg_calloc((size_t)TOKENS * c.hidden, sizeof(*x));
    logits = rg_calloc(c.vocab, sizeof(*logits));
    assert_non_null(x);
    assert_non_null(logits);
    open_node(&n, &c, rg_model_whole(&c.checkpoint->config));
    make_chunk(&k, 0, TOKENS);
    run(&n, &(struct rg_stage_work){.batch = &k.batch,
                                    .tokens = tokens,
                                    .rows_out = x,
                                    .logit_rows = &last,
                                    .n_logit_rows = 1,
                                    .logits = logits});
    assert_memory_equal(logits, expected + (size_t)last * c.vocab, c.vocab * sizeof(*logits));
    close_node(&n);

    /* The rows are those before the final norm: a part with the head alone makes the same of them.
     * */
    memset(logits, 0, c.vocab * sizeof(*logits));
    open_node(&n, &c,
              (struct rg_model_part){
                  .layer_begin = c.n_layers, .layer_end = c.n_layers, .head = true});
    run(&n, &(struct rg_stage_work){.batch = &k.batch,
                                    .rows_in = x,
                                    .logit_rows = &last,
                                    .n_logit_rows = 1,
                                    .logits = logits});
    assert_memory_equal(logits, expected + (size_t)last * c.vocab, c.vocab * sizeof(*logits));
    close_node(&n);
    rg_free(logits);
    rg_free(x);
    rg_free(expected);
    close_cluster(&c);
}

/* Rows with one bad value go through a part; then good ones through the same stage. */
static void expect_not_finite(const struct cluster *c, struct rg_model_part part, float bad)
{
    struct node n;
    struct chunk k;
    struct rg_err err = {0};
    const uint32_t n_rows = 20;
    float *x = rg_calloc((size_t)n_rows * c->hidden, sizeof(*x));
    float *out = rg_calloc((size_t)n_rows * c->hidden, sizeof(*out));
    float *again = rg_calloc((size_t)n_rows * c->hidden, sizeof(*again));
    struct rg_stage_work work = {.batch = &k.batch, .rows_in = x, .rows_out = out};

    assert_non_null(x);
    assert_non_null(out);
    assert_non_null(again);
    for (uint32_t i = 0; i < n_rows * c->hidden; i++)
        x[i] = (float)(i % 17) * 0.125f - 1.0f;
    make_chunk(&k, 0, n_rows);
    open_node(&n, c, part);
    run(&n, &work);
    x[7 * c->hidden + 3] = bad;
    assert_int_equal(n.stage->ops->run(n.stage, &work, &err), RG_E_INTERNAL);
    assert_int_equal(err.code, RG_E_INTERNAL);
    assert_true(strlen(err.message) > 0);
    x[7 * c->hidden + 3] = (float)((7 * c->hidden + 3) % 17) * 0.125f - 1.0f;
    work.rows_out = again;
    run(&n, &work);
    assert_memory_equal(again, out, (size_t)n_rows * c->hidden * sizeof(*out));
    close_node(&n);
    rg_free(again);
    rg_free(out);
    rg_free(x);
}

static void rows_that_are_not_finite_are_an_error_and_the_next_step_is_right(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < MODELS; i++) {
        struct cluster c;

        open_golden(&c, models[i]);

        const struct rg_model_part first = {.layer_end = 1};
        const struct rg_model_part last = {.layer_begin = c.n_layers - 1, .layer_end = c.n_layers};

        expect_not_finite(&c, first, NAN);
        expect_not_finite(&c, last, INFINITY);
        close_cluster(&c);
    }
}

/* ---- files ------------------------------------------------------------------------------- */

static void copy_file(const char *from_dir, const char *to_dir, const char *name)
{
    char *from = rg_path_join(from_dir, name), *to = rg_path_join(to_dir, name), *bytes;
    size_t n;
    FILE *f;

    assert_non_null(from);
    assert_non_null(to);
    if (rg_file_exists(from)) {
        assert_int_equal(rg_file_read(&bytes, &n, from, 1 << 20, NULL), RG_OK);
        f = fopen(to, "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(bytes, 1, n, f), n);
        assert_int_equal(fclose(f), 0);
        rg_free(bytes);
    }
    rg_free(from);
    rg_free(to);
}

static const char *const file_names[] = {"config.json", "model.safetensors",
                                         "model.safetensors.index.json"};

static void a_file_that_changed_is_an_error_for_good(void **state)
{
    char from[512], dir[] = "/tmp/renga_stage_XXXXXX", path[128];
    struct cluster c;
    struct node n;
    struct chunk k;
    struct rg_err err = {0};
    int32_t tokens[TOKENS];
    float *x;

    (void)state;
    (void)snprintf(from, sizeof(from), "%s/tests/golden/tiny/%s", RENGA_SOURCE_DIR, models[0]);
    assert_non_null(mkdtemp(dir));
    for (int i = 0; i < 3; i++)
        copy_file(from, dir, file_names[i]);
    open_cluster(&c, dir);
    fill_tokens(tokens, c.vocab);
    x = rg_calloc((size_t)TOKENS * c.hidden, sizeof(*x));
    assert_non_null(x);
    make_chunk(&k, 0, TOKENS);
    open_node(&n, &c, (struct rg_model_part){.layer_begin = 0, .layer_end = 1, .embed = true});
    const struct rg_stage_work work = {.batch = &k.batch, .tokens = tokens, .rows_out = x};

    run(&n, &work);
    assert_int_equal(n.stage->ops->check(n.stage, NULL), RG_OK);
    (void)snprintf(path, sizeof(path), "%s/model.safetensors", dir);
    assert_int_equal(truncate(path, 4096), 0);
    assert_int_equal(n.stage->ops->run(n.stage, &work, &err), RG_E_IO);
    assert_non_null(strstr(err.message, "model.safetensors"));
    assert_int_equal(n.stage->ops->embed(n.stage, tokens, TOKENS, x, &err), RG_E_IO);
    assert_int_equal(n.stage->ops->check(n.stage, &err), RG_E_IO);
    close_node(&n);
    rg_free(x);
    close_cluster(&c);
    for (int i = 0; i < 3; i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", dir, file_names[i]);
        (void)unlink(path);
    }
    assert_int_equal(rmdir(dir), 0);
}

/* ---- memory ------------------------------------------------------------------------------ */

static void short_memory_leaves_nothing_behind(void **state)
{
    struct cluster c;
    struct node n;
    struct chunk k;
    int32_t tokens[TOKENS];
    int64_t live, at;
    float *x;

    (void)state;
    open_golden(&c, models[0]);
    fill_tokens(tokens, c.vocab);
    x = rg_calloc((size_t)TOKENS * c.hidden, sizeof(*x));
    assert_non_null(x);
    open_node(&n, &c, rg_model_whole(&c.checkpoint->config));
    rg_stage_close(n.stage);
    live = rg_mem_live();
    for (at = 1; at < 100; at++) {
        rg_mem_fail_at(at);
        if (rg_stage_open(&n.stage, c.checkpoint, n.model, c.backend, BLOCKS, BLOCK_TOKENS, NULL) ==
            RG_OK)
            break;
        assert_null(n.stage);
        assert_int_equal(rg_mem_live(), live);
    }
    rg_mem_fail_at(0);
    assert_in_range(at, 3, 99);
    make_chunk(&k, 0, TOKENS);
    for (at = 1; at < 1000; at++) {
        const struct rg_stage_work work = {.batch = &k.batch, .tokens = tokens, .rows_out = x};
        enum rg_code code;

        rg_mem_fail_at(at);
        code = n.stage->ops->run(n.stage, &work, NULL);
        rg_mem_fail_at(0);
        if (code == RG_OK)
            break;
        assert_int_equal(code, RG_E_NOMEM);
    }
    assert_in_range(at, 2, 999);
    close_node(&n);
    rg_free(x);
    close_cluster(&c);
}

static int no_memory_is_left(void **state)
{
    (void)state;
    return rg_mem_live() == 0 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_one_after_the_other_give_the_bits_of_the_whole),
        cmocka_unit_test(a_head_without_layers_embeds_and_makes_logits),
        cmocka_unit_test(embed_is_what_a_part_without_layers_gives_for_tokens),
        cmocka_unit_test(a_step_gives_rows_and_logits_at_once),
        cmocka_unit_test(rows_that_are_not_finite_are_an_error_and_the_next_step_is_right),
        cmocka_unit_test(a_file_that_changed_is_an_error_for_good),
        cmocka_unit_test(short_memory_leaves_nothing_behind),
    };

    return cmocka_run_group_tests(tests, NULL, no_memory_is_left);
}
