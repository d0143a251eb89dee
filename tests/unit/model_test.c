/* model_test.c - the same bits whatever shares the work: chunks, neighbours, threads, kernels,
 * blocks, parts.  Everything is compared with memcmp, live against live, on the tiny checkpoints of
 * tests/golden. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <pthread.h>

#include <cmocka.h>

#include "base/mem.h"
#include "engine/engine.h"
#include "engine/pipeline.h"
#include "model/model.h"

enum { TOKENS = 150, BLOCKS = 128, SEQUENCES = 8, LAYERS_MOST = 8 };

/* Sliding windows, both MLA layouts, expert groups, biases, norms per head, tied and untied heads,
 * and most widths. */
static const char *const models[] = {"llama-sliding-q4_32",      "llama-f16-tied",
                                     "mistral-q3_32-window_key", "qwen2-q8_32",
                                     "qwen3-mixed_346-tied",     "qwen3_moe-mixed_3_6",
                                     "deepseek_v3-q4_64-groups", "deepseek_v3-q5_64-dense",
                                     "kimi_k2-mixed_346-kv_b"};
enum { MODELS = sizeof(models) / sizeof(*models) };

struct variant {
    struct rg_backend_options backend;
    uint32_t block_tokens; /* 0: 64 */
    uint32_t chunk;        /* 0: all rows in one step */
};

struct machine {
    struct rg_checkpoint *checkpoint;
    struct rg_backend *backend;
    struct rg_model *model;
    struct rg_pipeline *pipeline;
    uint32_t vocab;
};

static void open_machine(struct machine *m, const char *model, const struct variant *v)
{
    char dir[512];
    struct rg_err err = {0};
    struct rg_model_part part;

    (void)snprintf(dir, sizeof(dir), "%s/tests/golden/tiny/%s", RENGA_SOURCE_DIR, model);
    if (rg_checkpoint_open(&m->checkpoint, dir, &rg_checkpoint_mapped, &err) != RG_OK)
        fail_msg("%s", err.message);
    part = rg_model_whole(&m->checkpoint->config);
    m->vocab = m->checkpoint->config.vocab_size;
    assert_true(part.layer_end <= LAYERS_MOST);
    assert_int_equal(rg_backend_open(&m->backend, &v->backend, &err), RG_OK);
    assert_int_equal(rg_model_open(&m->model, m->checkpoint, m->backend, &part, &err), RG_OK);
    assert_int_equal(rg_pipeline_local_open(&m->pipeline, m->checkpoint, m->model, m->backend,
                                            BLOCKS, v->block_tokens ? v->block_tokens : 64, &err),
                     RG_OK);
}

static void close_machine(struct machine *m)
{
    rg_pipeline_close(m->pipeline);
    rg_model_close(m->model);
    rg_backend_close(m->backend);
    rg_checkpoint_close(m->checkpoint);
}

static void fill_tokens(int32_t *tokens, uint32_t n, uint32_t vocab, uint32_t seed)
{
    for (uint32_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        tokens[i] = (int32_t)((seed >> 8) % vocab);
    }
}

static void run_step(const struct machine *m, struct rg_pipe_step *step)
{
    struct rg_pipe_step *done = NULL;
    struct rg_err err = {0};

    if (m->pipeline->ops->submit(m->pipeline, step, &err) != RG_OK ||
        m->pipeline->ops->collect(m->pipeline, &done, &err) != RG_OK)
        fail_msg("%s", err.message);
    assert_ptr_equal(done, step);
}

/* Rows [begin, end) of one sequence, all their logits to logits[begin..end). */
static void run_rows(const struct machine *m, const int32_t *tokens, const uint32_t *blocks,
                     uint32_t begin, uint32_t end, float *logits)
{
    uint32_t wanted[TOKENS];
    const struct rg_seq_rows rows = {.n_rows = end - begin, .position = begin, .blocks = blocks};
    struct rg_pipe_step step = {.batch = {.seqs = &rows, .n_seqs = 1, .n_rows = end - begin},
                                .tokens = tokens + begin,
                                .logit_rows = wanted,
                                .n_logit_rows = end - begin,
                                .logits = logits + (size_t)begin * m->vocab};

    for (uint32_t i = 0; i < end - begin; i++)
        wanted[i] = i;
    run_step(m, &step);
}

/* Blocks in an order of their own, so that a wrong number shows. */
static void shuffled_blocks(uint32_t *blocks)
{
    for (uint32_t i = 0; i < BLOCKS; i++)
        blocks[i] = i * 37 % BLOCKS;
}

/* All logits [n][vocab] of a token list; the caller frees them. */
static float *logits_of(const char *model, const struct variant *v, uint32_t n)
{
    struct machine m;
    int32_t tokens[TOKENS];
    uint32_t blocks[BLOCKS];
    const uint32_t chunk = v->chunk ? v->chunk : n;
    float *logits;

    open_machine(&m, model, v);
    fill_tokens(tokens, n, m.vocab, 1);
    shuffled_blocks(blocks);
    logits = rg_calloc((size_t)n * m.vocab, sizeof(*logits));
    assert_non_null(logits);
    for (uint32_t at = 0; at < n; at += chunk)
        run_rows(&m, tokens, blocks, at, at + chunk < n ? at + chunk : n, logits);
    close_machine(&m);
    return logits;
}

static uint32_t vocab_of(const char *model)
{
    const struct variant v = {.backend = {.threads = 1}};
    struct machine m;
    uint32_t vocab;

    open_machine(&m, model, &v);
    vocab = m.vocab;
    close_machine(&m);
    return vocab;
}

static void expect_same(const char *model, const float *expected, const struct variant *v)
{
    const size_t bytes = (size_t)TOKENS * vocab_of(model) * sizeof(float);
    float *logits = logits_of(model, v, TOKENS);

    if (memcmp(logits, expected, bytes) != 0)
        fail_msg("%s: threads %u kernels %d activations %d block %u chunk %u gives other bits",
                 model, v->backend.threads, (int)v->backend.kernels, (int)v->backend.activations,
                 v->block_tokens, v->chunk);
    rg_free(logits);
}

static void expect_variants_same(enum rg_activations activations)
{
    static const struct variant variants[] = {
        {.backend = {.threads = 1, .kernels = RG_KERNELS_SCALAR}, .chunk = 1},
        {.backend = {.threads = 2}, .chunk = 1},
        {.backend = {.threads = 5}, .chunk = 7, .block_tokens = 16},
        {.backend = {.threads = 1}, .chunk = 64},
        {.backend = {.threads = 2}, .chunk = 512, .block_tokens = 48},
        {.backend = {.threads = 2}, .chunk = 63},
        {.backend = {.threads = 2}, .chunk = 65, .block_tokens = 32},
        {.backend = {.threads = 5, .kernels = RG_KERNELS_SCALAR}, .chunk = 17},
    };
    const struct variant base = {
        .backend = {.threads = 1, .kernels = RG_KERNELS_SCALAR, .activations = activations}};

    for (uint32_t i = 0; i < MODELS; i++) {
        float *expected = logits_of(models[i], &base, TOKENS);

        for (size_t j = 0; j < sizeof(variants) / sizeof(*variants); j++) {
            struct variant v = variants[j];

            v.backend.activations = activations;
            expect_same(models[i], expected, &v);
        }
        rg_free(expected);
    }
}

static void chunks_threads_kernels_and_blocks_never_change_a_bit(void **state)
{
    (void)state;
    expect_variants_same(RG_ACTIVATIONS_INT8);
}

static void nor_do_they_with_f32_activations(void **state)
{
    (void)state;
    expect_variants_same(RG_ACTIVATIONS_F32);
}

/* Eight sequences that advance by different strides in shared steps. */
static void run_together(const struct machine *m, int32_t tokens[SEQUENCES][TOKENS],
                         float *logits[SEQUENCES])
{
    uint32_t done[SEQUENCES] = {0};
    uint32_t blocks[SEQUENCES][BLOCKS / SEQUENCES];
    bool is_busy = true;

    for (uint32_t i = 0; i < SEQUENCES; i++)
        for (uint32_t j = 0; j < BLOCKS / SEQUENCES; j++)
            blocks[i][j] = j * SEQUENCES + (i + j) % SEQUENCES;
    for (uint32_t round = 0; is_busy; round++) {
        struct rg_seq_rows rows[SEQUENCES];
        int32_t ids[SEQUENCES * TOKENS];
        uint32_t last[SEQUENCES], owner[SEQUENCES];
        float *out = rg_calloc((size_t)SEQUENCES * m->vocab, sizeof(*out));
        struct rg_pipe_step step = {
            .batch = {.seqs = rows}, .tokens = ids, .logit_rows = last, .logits = out};

        assert_non_null(out);
        for (uint32_t k = 0; k < SEQUENCES; k++) {
            const uint32_t i = (k * 3 + round) % SEQUENCES;
            const uint32_t stride = i % 2 ? 1 : 1 + (round * 5 + i * 7) % 40;
            const uint32_t left = TOKENS - done[i];
            const uint32_t n = stride < left ? stride : left;

            if (n == 0 || round < i) /* they come one after the other */
                continue;
            rows[step.batch.n_seqs] = (struct rg_seq_rows){.row_begin = step.batch.n_rows,
                                                           .n_rows = n,
                                                           .position = done[i],
                                                           .blocks = blocks[i]};
            memcpy(ids + step.batch.n_rows, tokens[i] + done[i], n * sizeof(*ids));
            step.batch.n_rows += n;
            last[step.batch.n_seqs] = step.batch.n_rows - 1;
            owner[step.batch.n_seqs++] = i;
            done[i] += n;
        }
        step.n_logit_rows = step.batch.n_seqs;
        is_busy = step.batch.n_seqs > 0;
        if (is_busy)
            run_step(m, &step);
        for (uint32_t k = 0; k < step.batch.n_seqs; k++)
            memcpy(logits[owner[k]] + (size_t)(done[owner[k]] - 1) * m->vocab,
                   out + (size_t)k * m->vocab, m->vocab * sizeof(*out));
        rg_free(out);
    }
}

static void seven_neighbours_never_change_a_bit(void **state)
{
    const struct variant v = {.backend = {.threads = 2}, .block_tokens = 16};

    (void)state;
    for (uint32_t i = 0; i < MODELS; i++) {
        static int32_t tokens[SEQUENCES][TOKENS];
        struct machine m;
        float *together[SEQUENCES];
        uint32_t blocks[BLOCKS], n_compared = 0;

        open_machine(&m, models[i], &v);
        for (uint32_t j = 0; j < SEQUENCES; j++) {
            fill_tokens(tokens[j], TOKENS, m.vocab, j);
            together[j] = rg_calloc((size_t)TOKENS * m.vocab, sizeof(float));
            assert_non_null(together[j]);
        }
        run_together(&m, tokens, together);
        shuffled_blocks(blocks);
        for (uint32_t j = 0; j < SEQUENCES; j++) {
            float *alone = rg_calloc((size_t)TOKENS * m.vocab, sizeof(float));

            assert_non_null(alone);
            run_rows(&m, tokens[j], blocks, 0, TOKENS, alone);
            for (uint32_t row = 0; row < TOKENS; row++) {
                const float *a = alone + (size_t)row * m.vocab;
                const float *b = together[j] + (size_t)row * m.vocab;

                if (b[0] < 0.0f || b[0] > 0.0f || b[1] < 0.0f || b[1] > 0.0f) {
                    assert_memory_equal(a, b, m.vocab * sizeof(float));
                    n_compared++;
                }
            }
            rg_free(alone);
            rg_free(together[j]);
        }
        assert_true(n_compared > 4 * TOKENS); /* every row of the odd ones, and more */
        close_machine(&m);
    }
}

/* The layers in two parts, each with its own model and KV, x handed over through floats. */
static void run_parts(const char *model, uint32_t split, const int32_t *tokens, float *logits)
{
    const struct variant v = {.backend = {.threads = 2}};
    struct machine m;
    struct rg_model *parts[2];
    struct rg_kv *kvs[2];
    const uint32_t blocks[] = {2, 0, 1};
    const struct rg_seq_rows rows = {.n_rows = TOKENS, .blocks = blocks};
    const struct rg_batch batch = {.seqs = &rows, .n_seqs = 1, .n_rows = TOKENS};
    uint32_t wanted[TOKENS];
    float *x;
    uint32_t hidden;

    open_machine(&m, model, &v);
    hidden = m.checkpoint->config.hidden_size;
    x = rg_calloc((size_t)TOKENS * hidden, sizeof(*x));
    assert_non_null(x);
    for (uint32_t i = 0; i < TOKENS; i++)
        wanted[i] = i;
    for (int i = 0; i < 2; i++) {
        const uint32_t n_layers = m.checkpoint->config.num_hidden_layers;
        const struct rg_model_part part = {.layer_begin = i ? split : 0,
                                           .layer_end = i ? n_layers : split,
                                           .embed = i == 0,
                                           .head = i == 1};
        struct rg_kv_layer_spec specs[LAYERS_MOST];
        struct rg_kv_options options = {.layers = specs, .n_blocks = 3, .block_tokens = 64};
        struct rg_step *s;
        struct rg_tensor *t;

        assert_int_equal(rg_model_open(&parts[i], m.checkpoint, m.backend, &part, NULL), RG_OK);
        rg_model_kv_specs(parts[i], specs);
        options.n_layers = part.layer_end - part.layer_begin;
        assert_int_equal(rg_kv_open(&kvs[i], m.backend, &options, NULL), RG_OK);
        assert_int_equal(rg_step_begin(&s, m.backend, &batch, NULL), RG_OK);
        t = i ? rg_op_input(s, x, TOKENS, hidden)
              : rg_model_embed(parts[i], s, tokens, TOKENS);
        t = rg_model_layers(parts[i], s, kvs[i], t, NULL);
        if (i)
            t = rg_model_logits(parts[i], s, t, wanted, TOKENS);
        assert_int_equal(rg_tensor_read(s, t, i ? logits : x, NULL), RG_OK);
        assert_int_equal(rg_step_end(s, NULL), RG_OK);
        rg_kv_close(kvs[i]);
        rg_model_close(parts[i]);
    }
    rg_free(x);
    close_machine(&m);
}

static void a_split_never_changes_a_bit(void **state)
{
    const struct variant v = {.backend = {.threads = 1}};

    (void)state;
    for (uint32_t i = 0; i < MODELS; i++) {
        const uint32_t vocab = vocab_of(models[i]);
        float *expected = logits_of(models[i], &v, TOKENS);
        float *logits = rg_calloc((size_t)TOKENS * vocab, sizeof(*logits));
        int32_t tokens[TOKENS];

        assert_non_null(logits);
        fill_tokens(tokens, TOKENS, vocab, 1);
        run_parts(models[i], 1, tokens, logits);
        assert_memory_equal(logits, expected, (size_t)TOKENS * vocab * sizeof(*logits));
        rg_free(logits);
        rg_free(expected);
    }
}

/* ---- through the engine ------------------------------------------------------------------ */

struct answer {
    int32_t tokens[TOKENS];
    uint32_t n;
    bool has_ended;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t change = PTHREAD_COND_INITIALIZER;

static void on_event(void *ud, const struct rg_event *event)
{
    struct answer *a = ud;

    pthread_mutex_lock(&lock);
    if (event->kind == RG_EVENT_TOKEN)
        a->tokens[a->n++] = event->sample.id;
    a->has_ended = event->kind == RG_EVENT_END;
    if (a->has_ended)
        assert_int_equal(event->reason, RG_END_LENGTH);
    pthread_cond_signal(&change);
    pthread_mutex_unlock(&lock);
}

static void ask(struct rg_engine *e, struct answer *a, uint32_t i, uint32_t vocab)
{
    int32_t prompt[TOKENS];
    const struct rg_request request = {
        .tokens = prompt,
        .n_tokens = 3 + i * 13,
        .max_tokens = 30,
        .sampling = {.temperature = 1.0f, .top_p = 0.95f, .repetition_penalty = 1.1f, .seed = i},
        .on_event = on_event,
        .ud = a};
    uint64_t id;

    memset(a, 0, sizeof(*a));
    fill_tokens(prompt, request.n_tokens, vocab, i);
    assert_int_equal(rg_engine_submit(e, &request, &id, NULL), RG_OK);
}

static void await_answer(const struct answer *a)
{
    pthread_mutex_lock(&lock);
    while (!a->has_ended)
        pthread_cond_wait(&change, &lock);
    pthread_mutex_unlock(&lock);
}

static void sampled_answers_do_not_depend_on_who_else_is_there(void **state)
{
    const struct variant v = {.backend = {.threads = 2}, .block_tokens = 16};

    (void)state;
    for (uint32_t i = 0; i < MODELS; i += 2) {
        struct answer answers[2][SEQUENCES];

        for (uint32_t together = 0; together < 2; together++) {
            const struct rg_engine_options options = {
                .context = 128, .parallel = SEQUENCES, .chunk_rows = together ? 20 : 64};
            struct machine m;
            struct rg_engine *e;

            open_machine(&m, models[i], &v);
            assert_int_equal(rg_engine_open(&e, m.pipeline, &options, NULL), RG_OK);
            for (uint32_t j = 0; j < SEQUENCES; j++) {
                ask(e, &answers[together][j], j, m.vocab);
                if (!together)
                    await_answer(&answers[together][j]);
            }
            for (uint32_t j = 0; j < SEQUENCES; j++)
                await_answer(&answers[together][j]);
            rg_engine_close(e);
            m.pipeline = NULL; /* the engine's own, closed with it */
            close_machine(&m);
        }
        for (uint32_t j = 0; j < SEQUENCES; j++) {
            assert_int_equal(answers[0][j].n, 30);
            assert_memory_equal(answers[0][j].tokens, answers[1][j].tokens, 30 * sizeof(int32_t));
        }
    }
}

/* ---- memory ------------------------------------------------------------------------------ */

static void a_model_that_cannot_be_opened_leaves_nothing_behind(void **state)
{
    const struct variant v = {.backend = {.threads = 1}};

    (void)state;
    for (uint32_t i = 0; i < MODELS; i++) {
        struct machine m;
        struct rg_model *model;
        struct rg_model_part part;
        int64_t live, n;

        open_machine(&m, models[i], &v);
        part = rg_model_whole(&m.checkpoint->config);
        live = rg_mem_live();
        for (n = 1; n < 10000; n++) {
            rg_mem_fail_at(n);
            if (rg_model_open(&model, m.checkpoint, m.backend, &part, NULL) == RG_OK)
                break;
            assert_null(model);
            assert_int_equal(rg_mem_live(), live);
        }
        rg_mem_fail_at(0);
        assert_true(n > 10 && n < 10000);
        rg_model_close(model);
        assert_int_equal(rg_mem_live(), live);
        close_machine(&m);
    }
}

static void a_step_without_memory_is_an_error_and_the_next_one_works(void **state)
{
    const struct variant v = {.backend = {.threads = 1}};
    const uint32_t blocks[] = {0, 1, 2};
    const uint32_t wanted[] = {TOKENS - 1};
    int32_t tokens[TOKENS];

    (void)state;
    for (uint32_t i = 0; i < MODELS; i += 4) {
        const struct rg_seq_rows rows = {.n_rows = TOKENS, .blocks = blocks};
        struct machine m;
        struct rg_pipe_step *done;
        float *logits, *expected = logits_of(models[i], &v, TOKENS);
        int64_t n;

        open_machine(&m, models[i], &v);
        logits = rg_calloc(m.vocab, sizeof(*logits));
        assert_non_null(logits);
        fill_tokens(tokens, TOKENS, m.vocab, 1);
        for (n = 1; n < 1000; n++) {
            struct rg_pipe_step step = {.batch = {.seqs = &rows, .n_seqs = 1, .n_rows = TOKENS},
                                        .tokens = tokens,
                                        .logit_rows = wanted,
                                        .n_logit_rows = 1,
                                        .logits = logits};
            enum rg_code code;

            rg_mem_fail_at(n);
            assert_int_equal(m.pipeline->ops->submit(m.pipeline, &step, NULL), RG_OK);
            code = m.pipeline->ops->collect(m.pipeline, &done, NULL);
            rg_mem_fail_at(0);
            if (code == RG_OK)
                break;
            assert_int_equal(code, RG_E_NOMEM);
        }
        assert_true(n > 1 && n < 1000);
        assert_memory_equal(logits, expected + (size_t)(TOKENS - 1) * m.vocab,
                            m.vocab * sizeof(*logits));
        rg_free(logits);
        rg_free(expected);
        close_machine(&m);
    }
}

static void decoding_allocates_nothing(void **state)
{
    const struct variant v = {.backend = {.threads = 2}, .block_tokens = 16};

    (void)state;
    for (uint32_t i = 0; i < MODELS; i++) {
        struct machine m;
        int32_t        tokens[TOKENS];
        uint32_t       blocks[BLOCKS];
        float         *logits;
        int64_t        before;

        open_machine(&m, models[i], &v);
        fill_tokens(tokens, TOKENS, m.vocab, 1);
        shuffled_blocks(blocks);
        logits = rg_calloc((size_t)TOKENS * m.vocab, sizeof(*logits));
        assert_non_null(logits);
        run_rows(&m, tokens, blocks, 0, 64, logits);
        before = rg_mem_count();
        for (uint32_t at = 64; at < TOKENS; at++)
            run_rows(&m, tokens, blocks, at, at + 1, logits);
        assert_int_equal(rg_mem_count(), before);
        rg_free(logits);
        close_machine(&m);
    }
}

static int no_memory_is_left(void **state)
{
    (void)state;
    return rg_mem_live() == 0 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_threads_kernels_and_blocks_never_change_a_bit),
        cmocka_unit_test(nor_do_they_with_f32_activations),
        cmocka_unit_test(seven_neighbours_never_change_a_bit),
        cmocka_unit_test(a_split_never_changes_a_bit),
        cmocka_unit_test(sampled_answers_do_not_depend_on_who_else_is_there),
        cmocka_unit_test(a_model_that_cannot_be_opened_leaves_nothing_behind),
        cmocka_unit_test(a_step_without_memory_is_an_error_and_the_next_one_works),
        cmocka_unit_test(decoding_allocates_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, no_memory_is_left);
}
