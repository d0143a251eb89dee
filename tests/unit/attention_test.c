/* attention_test.c - paged attention against a naive softmax in double, and its bits against
 * themselves: chunks, block sizes, block order, threads, kernels, neighbours. */
#include "support/compute_helpers.h"

enum { MAX_TOKENS = 210, MAX_BLOCKS = 128 };

struct shape {
    uint32_t kv_heads, q_heads, key_cols, value_cols, window;
    bool mla;
};

/* All tokens of a sequence: [MAX_TOKENS][heads * cols]. */
struct tokens {
    float *q, *q_pe, *k, *v;
};

static uint32_t q_cols(const struct shape *s)
{
    return s->q_heads * s->key_cols;
}

static uint32_t pe_cols(const struct shape *s)
{
    return s->mla ? s->q_heads * s->value_cols : 1;
}

static uint32_t y_cols(const struct shape *s)
{
    return s->q_heads * (s->mla ? s->key_cols : s->value_cols);
}

static float *plain_floats(size_t n)
{
    float *x = malloc(n * sizeof(*x));

    for (size_t i = 0; i < n; i++)
        x[i] = random_float();
    return x;
}

static struct tokens make_tokens(const struct shape *s)
{
    return (struct tokens){
        .q = plain_floats((size_t)MAX_TOKENS * q_cols(s)),
        .q_pe = plain_floats((size_t)MAX_TOKENS * pe_cols(s)),
        .k = plain_floats((size_t)MAX_TOKENS * s->kv_heads * s->key_cols),
        .v = plain_floats((size_t)MAX_TOKENS * s->kv_heads * s->value_cols),
    };
}

static void free_tokens(struct tokens *t)
{
    free(t->q);
    free(t->q_pe);
    free(t->k);
    free(t->v);
}

/* A cache of one layer with one sequence's blocks, dealt out in a shuffled order. */
struct cache {
    struct rg_backend *b;
    struct rg_kv *kv;
    uint32_t blocks[MAX_BLOCKS];
};

static struct cache open_cache(struct rg_backend *b, const struct shape *s, uint32_t block_tokens)
{
    const struct rg_kv_layer_spec spec = {.n_heads = s->kv_heads,
                                          .key_cols = s->key_cols,
                                          .value_cols = s->value_cols,
                                          .window = s->window};
    const uint32_t n = 2 * (MAX_TOKENS / block_tokens + 1);
    const struct rg_kv_options o = {
        .layers = &spec, .n_layers = 1, .n_blocks = n, .block_tokens = block_tokens};
    struct cache c = {.b = b};

    assert_true(n <= MAX_BLOCKS);
    assert_int_equal(rg_kv_open(&c.kv, b, &o, NULL), RG_OK);
    for (uint32_t i = 0; i < n; i++)
        c.blocks[i] = i;
    for (uint32_t i = n - 1; i > 0; i--) {
        const uint32_t j = random_below(i + 1), was = c.blocks[i];
        c.blocks[i] = c.blocks[j];
        c.blocks[j] = was;
    }
    return c;
}

/* Rows [begin, begin + n) of a sequence inside a step that may hold others. */
static struct rg_tensor *slice(struct rg_step *s, const float *x, uint32_t begin, uint32_t n,
                               uint32_t cols)
{
    return rg_op_input(s, x + (size_t)begin * cols, n, cols);
}

static struct rg_tensor *attend(struct rg_step *s, struct rg_kv *kv, const struct shape *shape,
                                const struct tokens *t, uint32_t begin, uint32_t n)
{
    struct rg_tensor *q = slice(s, t->q, begin, n, q_cols(shape));

    rg_op_kv_append(s, kv, 0, slice(s, t->k, begin, n, shape->kv_heads * shape->key_cols),
                    slice(s, t->v, begin, n, shape->kv_heads * shape->value_cols));
    if (shape->mla)
        return rg_op_attention_mla(s, kv, 0, q, slice(s, t->q_pe, begin, n, pe_cols(shape)),
                                   shape->q_heads, 0.3f);
    return rg_op_attention(s, kv, 0, q, shape->q_heads, 0.3f);
}

/* Runs tokens [begin, end) in steps of `chunk` rows; y has room for all tokens. */
static void run(struct cache *c, const struct shape *shape, const struct tokens *t, float *y,
                uint32_t begin, uint32_t end, uint32_t chunk)
{
    for (uint32_t at = begin; at < end; at += chunk) {
        const uint32_t n = end - at < chunk ? end - at : chunk;
        const struct rg_seq_rows seq = {.n_rows = n, .position = at, .blocks = c->blocks};
        const struct rg_batch batch = {.seqs = &seq, .n_seqs = 1, .n_rows = n};
        struct rg_step *s;
        float *out;

        assert_int_equal(rg_step_begin(&s, c->b, &batch, NULL), RG_OK);
        out = read_out(s, attend(s, c->kv, shape, t, at, n));
        memcpy(y + (size_t)at * y_cols(shape), out, (size_t)n * y_cols(shape) * sizeof(*y));
        assert_int_equal(rg_step_end(s, NULL), RG_OK);
        free(out);
    }
}

/* Softmax attention of one query over all the keys it sees, in double. */
static void naive(const struct shape *s, const struct tokens *t, uint32_t row, uint32_t head,
                  double *y)
{
    const uint32_t kv = head / (s->q_heads / s->kv_heads);
    const uint32_t first = s->window && row + 1 > s->window ? row + 1 - s->window : 0;
    const uint32_t out = s->mla ? s->key_cols : s->value_cols;
    double scores[MAX_TOKENS], max = -INFINITY, sum = 0.0;

    for (uint32_t j = first; j <= row; j++) {
        const float *k = t->k + ((size_t)j * s->kv_heads + kv) * s->key_cols;
        const float *v = t->v + ((size_t)j * s->kv_heads + kv) * s->value_cols;
        const float *q = t->q + (size_t)row * q_cols(s) + (size_t)head * s->key_cols;

        scores[j] = 0.0;
        for (uint32_t c = 0; c < s->key_cols; c++)
            scores[j] += 0.3 * (double)q[c] * (double)k[c];
        for (uint32_t c = 0; s->mla && c < s->value_cols; c++)
            scores[j] += 0.3 * (double)v[c] *
                         (double)t->q_pe[(size_t)row * pe_cols(s) + head * s->value_cols + c];
        max = fmax(max, scores[j]);
    }
    for (uint32_t j = first; j <= row; j++)
        sum += exp(scores[j] - max);
    for (uint32_t c = 0; c < out; c++) {
        y[c] = 0.0;
        for (uint32_t j = first; j <= row; j++) {
            const float *from = s->mla ? t->k : t->v;
            y[c] +=
                exp(scores[j] - max) / sum * (double)from[((size_t)j * s->kv_heads + kv) * out + c];
        }
    }
}

static void check_against_naive(const struct shape *s, enum rg_activations a, double tolerance)
{
    struct rg_backend *b = open_backend(RG_KERNELS_BEST, 2, a);
    struct cache c = open_cache(b, s, 16);
    struct tokens t = make_tokens(s);
    float *y = malloc((size_t)MAX_TOKENS * y_cols(s) * sizeof(*y));
    const uint32_t out = y_cols(s) / s->q_heads;

    run(&c, s, &t, y, 0, MAX_TOKENS, 100);
    for (uint32_t row = 0; row < MAX_TOKENS; row += row < 70 ? 1 : 7)
        for (uint32_t h = 0; h < s->q_heads; h++) {
            double want[256];

            naive(s, &t, row, h, want);
            for (uint32_t i = 0; i < out; i++)
                assert_true(fabs((double)y[(size_t)row * y_cols(s) + h * out + i] - want[i]) <
                            tolerance);
        }
    free(y);
    free_tokens(&t);
    rg_kv_close(c.kv);
    rg_backend_close(b);
}

static const struct shape GQA = {.kv_heads = 2, .q_heads = 6, .key_cols = 32, .value_cols = 32};
static const struct shape ODD = {.kv_heads = 1, .q_heads = 20, .key_cols = 13, .value_cols = 9};
static const struct shape WINDOW = {
    .kv_heads = 2, .q_heads = 4, .key_cols = 16, .value_cols = 24, .window = 70};
static const struct shape NARROW = {
    .kv_heads = 2, .q_heads = 2, .key_cols = 16, .value_cols = 16, .window = 1};
static const struct shape MLA = {
    .kv_heads = 1, .q_heads = 5, .key_cols = 64, .value_cols = 16, .mla = true};
static const struct shape WIDE_MLA = {
    .kv_heads = 1, .q_heads = 35, .key_cols = 40, .value_cols = 12, .mla = true};
static const struct shape *const SHAPES[] = {&GQA, &ODD, &WINDOW, &NARROW, &MLA, &WIDE_MLA};
enum { N_SHAPES = sizeof(SHAPES) / sizeof(SHAPES[0]) };

static void every_shape_matches_softmax_in_f32(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_SHAPES; i++)
        check_against_naive(SHAPES[i], RG_ACTIVATIONS_F32, 3e-6);
}

static void every_shape_matches_softmax_with_f16_keys(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_SHAPES; i++)
        check_against_naive(SHAPES[i], RG_ACTIVATIONS_INT8, 2e-3);
}

static void large_scores_do_not_overflow(void **state)
{
    struct rg_backend *b = open_backend(RG_KERNELS_BEST, 1, RG_ACTIVATIONS_F32);
    struct tokens t = make_tokens(&GQA);
    struct cache c = open_cache(b, &GQA, 16);
    float *y = malloc((size_t)MAX_TOKENS * y_cols(&GQA) * sizeof(*y));

    (void)state;
    for (size_t i = 0; i < (size_t)MAX_TOKENS * q_cols(&GQA); i++)
        t.q[i] *= 3000.0f;
    run(&c, &GQA, &t, y, 0, MAX_TOKENS, 64); /* read_out() asserts that all is finite */
    free(y);
    free_tokens(&t);
    rg_kv_close(c.kv);
    rg_backend_close(b);
}

/* The same tokens with another backend, block size and chunk must give the bytes of `want`. */
static void check_bits(struct rg_backend *b, const struct shape *s, const struct tokens *t,
                       const float *want, uint32_t block_tokens, uint32_t chunk)
{
    struct cache c = open_cache(b, s, block_tokens);
    float *y = malloc((size_t)MAX_TOKENS * y_cols(s) * sizeof(*y));

    run(&c, s, t, y, 0, MAX_TOKENS, chunk);
    assert_memory_equal(y, want, (size_t)MAX_TOKENS * y_cols(s) * sizeof(*y));
    free(y);
    rg_kv_close(c.kv);
}

static void bits_do_not_depend_on_chunks_blocks_threads_or_kernels(void **state)
{
    static const uint32_t chunks[] = {1, 7, 64, 65, 210}, blocks[] = {16, 32, 48, 64, 80};

    (void)state;
    for (int a = 0; a < 2; a++) {
        const enum rg_activations act = a ? RG_ACTIVATIONS_F32 : RG_ACTIVATIONS_INT8;
        struct rg_backend *b[] = {
            open_backend(RG_KERNELS_SCALAR, 1, act), open_backend(best_kernels(), 1, act),
            open_backend(best_kernels(), 2, act), open_backend(best_kernels(), 5, act)};

        for (size_t i = 0; i < N_SHAPES; i++) {
            const struct shape *s = SHAPES[i];
            struct tokens t = make_tokens(s);
            struct cache c = open_cache(b[0], s, 16);
            float *want = malloc((size_t)MAX_TOKENS * y_cols(s) * sizeof(*want));

            run(&c, s, &t, want, 0, MAX_TOKENS, MAX_TOKENS);
            for (uint32_t k = 0; k < 5; k++)
                check_bits(b[1 + (k + i) % 3], s, &t, want, blocks[(k + i) % 5], chunks[k]);
            free(want);
            free_tokens(&t);
            rg_kv_close(c.kv);
        }
        for (int i = 0; i < 4; i++)
            rg_backend_close(b[i]);
    }
}

/* Two sequences in one step, decode beside prefill, against each alone. */
static void neighbours_do_not_change_a_sequence(void **state)
{
    struct rg_backend *b = open_backend(RG_KERNELS_BEST, 2, RG_ACTIVATIONS_INT8);

    (void)state;
    for (size_t i = 0; i < N_SHAPES; i++) {
        const struct shape *s = SHAPES[i];
        struct tokens t = make_tokens(s);
        struct cache c = open_cache(b, s, 16);
        const uint32_t cols = y_cols(s), half = MAX_TOKENS / 16 + 1;
        float *alone = malloc((size_t)MAX_TOKENS * cols * sizeof(*alone)), *both;
        /* tokens 100..100 of one sequence, and the same first 41 tokens as another one */
        struct rg_seq_rows seqs[2] = {
            {.row_begin = 0, .n_rows = 41, .position = 0, .blocks = c.blocks + half},
            {.row_begin = 41, .n_rows = 1, .position = 100, .blocks = c.blocks}};
        const struct rg_batch batch = {.seqs = seqs, .n_seqs = 2, .n_rows = 42};
        struct tokens mixed = make_tokens(s);
        struct rg_step *step;

        run(&c, s, &t, alone, 0, 101, 50);
        memcpy(mixed.q, t.q, 41 * q_cols(s) * sizeof(float));
        memcpy(mixed.q_pe, t.q_pe, 41 * pe_cols(s) * sizeof(float));
        memcpy(mixed.k, t.k, 41 * s->kv_heads * s->key_cols * sizeof(float));
        memcpy(mixed.v, t.v, 41 * s->kv_heads * s->value_cols * sizeof(float));
        memcpy(mixed.q + 41 * q_cols(s), t.q + 100 * q_cols(s), q_cols(s) * sizeof(float));
        memcpy(mixed.q_pe + 41 * pe_cols(s), t.q_pe + 100 * pe_cols(s), pe_cols(s) * sizeof(float));
        memcpy(mixed.k + 41 * s->kv_heads * s->key_cols, t.k + 100 * s->kv_heads * s->key_cols,
               s->kv_heads * s->key_cols * sizeof(float));
        memcpy(mixed.v + 41 * s->kv_heads * s->value_cols, t.v + 100 * s->kv_heads * s->value_cols,
               s->kv_heads * s->value_cols * sizeof(float));
        assert_int_equal(rg_step_begin(&step, b, &batch, NULL), RG_OK);
        both = read_out(step, attend(step, c.kv, s, &mixed, 0, 42));
        assert_int_equal(rg_step_end(step, NULL), RG_OK);
        assert_memory_equal(both, alone, 41 * cols * sizeof(*both));
        assert_memory_equal(both + 41 * cols, alone + 100 * cols, cols * sizeof(*both));
        free(both);
        free(alone);
        free_tokens(&t);
        free_tokens(&mixed);
        rg_kv_close(c.kv);
    }
    rg_backend_close(b);
}

static void the_size_of_a_cache_is_what_its_layers_hold(void **state)
{
    struct rg_backend *f16 = open_backend(RG_KERNELS_SCALAR, 1, RG_ACTIVATIONS_INT8);
    struct rg_backend *f32 = open_backend(RG_KERNELS_SCALAR, 1, RG_ACTIVATIONS_F32);
    const struct rg_kv_layer_spec layers[] = {{1, 512, 64, 0}, {8, 128, 128, 0}};
    const struct rg_kv_options o = {
        .layers = layers, .n_layers = 2, .n_blocks = 10, .block_tokens = 32};

    (void)state;
    /* Kimi-K2: 1152 bytes per token and layer; Qwen3: 4096 */
    assert_int_equal(rg_kv_bytes(RG_ACTIVATIONS_INT8, &o), 320 * (1152 + 4096));
    assert_int_equal(rg_kv_bytes(RG_ACTIVATIONS_F32, &o), 640 * (1152 + 4096));
    rg_backend_close(f16);
    rg_backend_close(f32);
}

static int64_t live_before;

static int remember_memory(void **state)
{
    (void)state;
    live_before = rg_mem_live();
    return 0;
}

static int nothing_was_leaked(void **state)
{
    (void)state;
    return rg_mem_live() == live_before ? 0 : 1;
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, remember_memory, nothing_was_leaked)
    const struct CMUnitTest tests[] = {
        TEST(every_shape_matches_softmax_in_f32),
        TEST(every_shape_matches_softmax_with_f16_keys),
        TEST(large_scores_do_not_overflow),
        TEST(bits_do_not_depend_on_chunks_blocks_threads_or_kernels),
        TEST(neighbours_do_not_change_a_sequence),
        TEST(the_size_of_a_cache_is_what_its_layers_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
