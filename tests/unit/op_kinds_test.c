/* op_kinds_test.c - the ops with int4, mxfp4, nvfp4, mxfp8 and fp8 weights: values, views, stacked
 * and single experts, bits, and what is refused. */
#include "support/op_helpers.h"

#include "support/live_memory.h"

static const enum rg_dtype DTYPES[] = {RG_DTYPE_BF16, RG_DTYPE_F16, RG_DTYPE_F32};

enum { EXPERT_KINDS = 5 }; /* the first of KINDS fit experts of 64 and 96 columns */

static bool takes_integers(const struct test_weight *t)
{
    return t->desc.kind != RG_WEIGHT_MXFP8 && t->desc.kind != RG_WEIGHT_FP8;
}

static void embed_gives_the_rows_of_every_kind(void **state)
{
    struct rg_backend *b = open_backend(RG_KERNELS_BEST, 2, RG_ACTIVATIONS_INT8);
    const int32_t ids[] = {149, 0, 127, 128, 3};

    (void)state;
    for (size_t k = 0; k < 2 * N_KINDS; k++) {
        const struct kind_shape *shape = &KINDS[k / 2];
        const uint32_t cols = shape->kind == RG_WEIGHT_FP8 ? 133 : 3 * shape->group;
        struct test_weight t = coded_weight(shape, 1, 150, cols, DTYPES[k % 3]);
        struct rg_weight *w = open_weight(b, &t);
        struct test_step step;
        float *y;

        begin_step(&step, b, 0, 5);
        y = read_out(step.s, rg_op_embed(step.s, w, ids, 5));
        for (uint32_t i = 0; i < 5; i++)
            for (uint32_t c = 0; c < cols; c++) {
                const double want = weight_at(&t.desc, (size_t)ids[i], c);
                assert_true(fabs((double)y[i * cols + c] - want) <= 2e-7 * fabs(want));
            }
        end_step(&step);
        free(y);
        rg_weight_close(w);
        free_weight(&t);
    }
    rg_backend_close(b);
}

static void an_embedding_row_of_the_byte_scaled_kinds_is_bf16(void **state)
{
    struct rg_backend *b = open_backend(RG_KERNELS_BEST, 1, RG_ACTIVATIONS_INT8);

    (void)state;
    for (size_t k = 0; k < 3; k++) {
        struct test_weight t = coded_weight(&KINDS[k], 1, 1, 960, RG_DTYPE_BF16);
        const int32_t id = 0;
        struct rg_weight *w;
        struct test_step step;
        float *y;

        t.desc.globals = NULL;
        w = open_weight(b, &t);
        begin_step(&step, b, 0, 1);
        y = read_out(step.s, rg_op_embed(step.s, w, &id, 1));
        for (uint32_t c = 0; c < 960; c++) {
            const float rounded = rg_bf16_to_f32(rg_f32_to_bf16(y[c]));
            assert_memory_equal(&y[c], &rounded, sizeof(rounded));
        }
        end_step(&step);
        free(y);
        rg_weight_close(w);
        free_weight(&t);
    }
    rg_backend_close(b);
}

static void int8_products_of_every_kind_are_near_the_exact_ones(void **state)
{
    struct rg_backend *b = open_backend(RG_KERNELS_BEST, 1, RG_ACTIVATIONS_INT8);

    (void)state;
    for (size_t k = 0; k < N_KINDS; k++) {
        const uint32_t cols = 4 * KINDS[k].group;
        struct test_weight t = coded_weight(&KINDS[k], 1, 24, cols, RG_DTYPE_F16);
        struct rg_weight *w = open_weight(b, &t);
        float *x = malloc(cols * sizeof(*x)), *y;
        struct test_step step;

        for (uint32_t c = 0; c < cols; c++)
            x[c] = random_float();
        begin_step(&step, b, 0, 1);
        y = read_out(step.s, rg_op_linear(step.s, w, NULL, input(&step, x, 1, cols)));
        for (uint32_t r = 0; r < 24; r++) {
            double want = 0.0, squares = 0.0;

            for (uint32_t c = 0; c < cols; c++) {
                want += weight_at(&t.desc, r, c) * (double)x[c];
                squares += weight_at(&t.desc, r, c) * weight_at(&t.desc, r, c);
            }
            /* an activation is off by at most half a step of amax / 127: errors add up randomly */
            assert_true(fabs((double)y[r] - want) < 5.0 * sqrt(squares) * 0.5 / 127.0);
        }
        end_step(&step);
        free(x);
        free(y);
        rg_weight_close(w);
        free_weight(&t);
    }
    rg_backend_close(b);
}

/* Heads of `rows` rows, and their transpose, against the formula. */
static void check_heads_of(struct rg_backend *b, const struct kind_shape *shape, uint32_t rows,
                           uint32_t cols)
{
    struct test_weight t = coded_weight(shape, 3, rows, cols, DTYPES[random_below(3)]);
    struct rg_weight *w = open_weight(b, &t);
    float *x = random_floats((size_t)2 * 3 * cols), *z = random_floats((size_t)2 * 3 * rows);
    float *y, *yt;
    struct test_step step;

    begin_step(&step, b, 0, 2);
    y = read_out(step.s, rg_op_linear_heads(step.s, w, input(&step, x, 2, 3 * cols)));
    yt = read_out(step.s, rg_op_linear_heads_t(step.s, w, input(&step, z, 2, 3 * rows)));
    for (uint32_t n = 0; n < 2; n++) {
        check_heads(&t.desc, 0, 0, x + n * 3 * cols, y + n * 3 * rows, false, rows);
        check_heads(&t.desc, 0, 0, z + n * 3 * rows, yt + n * 3 * cols, true, rows);
    }
    end_step(&step);
    free(x);
    free(z);
    free(y);
    free(yt);
    rg_weight_close(w);
    free_weight(&t);
}

static void heads_of_every_kind_match_the_formula(void **state)
{
    struct rg_backend *b = open_backend(RG_KERNELS_BEST, 2, RG_ACTIVATIONS_F32);

    (void)state;
    for (int round = 0; round < 3; round++)
        for (size_t k = 0; k < N_KINDS; k++) {
            const bool fp8 = KINDS[k].kind == RG_WEIGHT_FP8;
            check_heads_of(b, &KINDS[k], fp8 ? 130 : 13, fp8 ? 140 : KINDS[k].group);
        }
    rg_backend_close(b);
}

/* Of 4 heads of 150 rows the first 90 and the last 60: blocks of fp8 lie across all borders. */
static void head_rows_of_every_kind_keep_their_scales(void **state)
{
    struct rg_backend *b = open_backend(RG_KERNELS_BEST, 2, RG_ACTIVATIONS_F32);

    (void)state;
    for (size_t k = 0; k < N_KINDS; k++) {
        const uint32_t cols = KINDS[k].kind == RG_WEIGHT_FP8 ? 200 : 2 * KINDS[k].group;
        struct test_weight t = coded_weight(&KINDS[k], 1, 4 * 150, cols, RG_DTYPE_F32);
        struct rg_weight *w = open_weight(b, &t), *keys, *values;
        float *zk = random_floats(4 * 90), *xv = random_floats((size_t)4 * cols), *yk, *yv;
        struct test_step step;

        assert_int_equal(rg_weight_head_rows(&keys, w, 4, 0, 90, NULL), RG_OK);
        assert_int_equal(rg_weight_head_rows(&values, w, 4, 90, 60, NULL), RG_OK);
        begin_step(&step, b, 0, 1);
        yk = read_out(step.s, rg_op_linear_heads_t(step.s, keys, input(&step, zk, 1, 4 * 90)));
        yv = read_out(step.s, rg_op_linear_heads(step.s, values, input(&step, xv, 1, 4 * cols)));
        check_heads(&t.desc, 0, 150, zk, yk, true, 90);
        check_heads(&t.desc, 90, 150, xv, yv, false, 60);
        end_step(&step);
        free(zk);
        free(xv);
        free(yk);
        free(yv);
        rg_weight_close(keys);
        rg_weight_close(values);
        rg_weight_close(w);
        free_weight(&t);
    }
    rg_backend_close(b);
}

/* ---- experts -------------------------------------------------------------------------------- */

static struct experts make_experts(const struct kind_shape *shape)
{
    return (struct experts){.gate = coded_weight(shape, EXPERTS, INNER, HIDDEN, RG_DTYPE_BF16),
                            .up = coded_weight(shape, EXPERTS, INNER, HIDDEN, RG_DTYPE_F16),
                            .down = coded_weight(shape, EXPERTS, HIDDEN, INNER, RG_DTYPE_F32)};
}

static void experts_of_every_kind_match_the_formula(void **state)
{
    struct rg_backend *b = open_backend(RG_KERNELS_BEST, 2, RG_ACTIVATIONS_F32);

    (void)state;
    for (size_t k = 0; k < 4 * EXPERT_KINDS; k++) {
        struct experts e = make_experts(&KINDS[k % EXPERT_KINDS]);
        const uint32_t n = k < 2 * EXPERT_KINDS ? 3 : 40;
        float *x = random_floats((size_t)n * HIDDEN), *logits = random_floats((size_t)n * EXPERTS);
        float *y;

        for (size_t i = 0; i < (size_t)n * HIDDEN; i++)
            x[i] = fmodf(x[i], 1.0f) * 0.01f;
        for (size_t i = 0; i < (size_t)n * EXPERTS; i++)
            logits[i] = random_float() * 3.0f;
        y = run_experts(b, &e, x, logits, n);
        for (uint32_t r = 0; r < n; r++) {
            double want[HIDDEN], largest = 0.0;

            naive_experts(want, &e, x + r * HIDDEN, logits + r * EXPERTS);
            for (int c = 0; c < HIDDEN; c++)
                largest = fmax(largest, fabs(want[c]));
            for (uint32_t c = 0; c < HIDDEN; c++)
                assert_true(fabs((double)y[r * HIDDEN + c] - want[c]) <= 2e-5 * largest);
        }
        free(x);
        free(logits);
        free(y);
        free_experts(&e);
    }
    rg_backend_close(b);
}

static void experts_of_every_kind_have_the_same_bits_alone_and_stored_alone(void **state)
{
    struct rg_backend *scalar = open_backend(RG_KERNELS_SCALAR, 1, RG_ACTIVATIONS_INT8);
    struct rg_backend *b = open_backend(RG_KERNELS_BEST, 5, RG_ACTIVATIONS_INT8);

    (void)state;
    for (size_t k = 0; k < 2 * EXPERT_KINDS; k++) {
        struct experts e = make_experts(&KINDS[k % EXPERT_KINDS]);
        const uint32_t n = 70;
        float *x = random_floats((size_t)n * HIDDEN), *logits = random_floats((size_t)n * EXPERTS);
        float *all = run_experts(scalar, &e, x, logits, n);
        float *same = run_experts(b, &e, x, logits, n);
        struct one_by_one o[3];

        assert_memory_equal(all, same, (size_t)n * HIDDEN * 4);
        free(same);
        store_one_by_one(&e, o);
        same = run_experts(b, &e, x, logits, n);
        assert_memory_equal(all, same, (size_t)n * HIDDEN * 4);
        free(same);
        for (uint32_t r = 0; r < n; r += 9) {
            float *alone = run_experts(b, &e, x + r * HIDDEN, logits + r * EXPERTS, 1);
            assert_memory_equal(all + r * HIDDEN, alone, HIDDEN * 4);
            free(alone);
        }
        free(x);
        free(logits);
        free(all);
        free_experts(&e);
    }
    rg_backend_close(scalar);
    rg_backend_close(b);
}

/* gate affine, up int4 of the same width and group: one input, two forms of it */
static void experts_may_mix_kinds(void **state)
{
    struct rg_backend *scalar = open_backend(RG_KERNELS_SCALAR, 1, RG_ACTIVATIONS_INT8);
    struct rg_backend *b = open_backend(RG_KERNELS_BEST, 2, RG_ACTIVATIONS_INT8);

    (void)state;
    for (uint32_t round = 0; round < 4; round++) {
        struct test_weight affine = affine_weight(EXPERTS, INNER, HIDDEN, 4, 32, RG_DTYPE_BF16);
        struct test_weight int4 = coded_weight(&KINDS[3], EXPERTS, INNER, HIDDEN, RG_DTYPE_BF16);
        struct experts e = {
            .gate = round % 2 ? affine : int4,
            .up = round % 2 ? int4 : affine,
            .down = coded_weight(&KINDS[round < 2 ? 0 : 2], EXPERTS, HIDDEN, INNER, RG_DTYPE_BF16)};
        const uint32_t n = 40;
        float *x = random_floats((size_t)n * HIDDEN), *logits = random_floats((size_t)n * EXPERTS);
        float *y[2] = {run_experts(scalar, &e, x, logits, n), run_experts(b, &e, x, logits, n)};

        assert_memory_equal(y[0], y[1], (size_t)n * HIDDEN * 4);
        free(x);
        free(logits);
        free(y[0]);
        free(y[1]);
        free_experts(&e);
    }
    rg_backend_close(scalar);
    rg_backend_close(b);
}

/* ---- bits ----------------------------------------------------------------------------------- */

/* A plain product and a product of heads, of n rows, added. */
static float *two_products(struct rg_backend *b, const struct test_weight *full,
                           const struct test_weight *heads, const float *x, uint32_t n)
{
    struct rg_weight *w[2] = {open_weight(b, full), open_weight(b, heads)};
    struct rg_tensor *in;
    struct test_step step;
    float *y;

    begin_step(&step, b, 0, n);
    in = input(&step, x, n, full->desc.cols);
    y = read_out(step.s, rg_op_add(step.s, rg_op_linear(step.s, w[0], NULL, in),
                                   rg_op_linear_heads(step.s, w[1], in)));
    end_step(&step);
    rg_weight_close(w[0]);
    rg_weight_close(w[1]);
    return y;
}

static void bits_of_every_kind_do_not_depend_on_threads_kernels_or_neighbours(void **state)
{
    static const uint32_t threads[] = {1, 2, 5};

    (void)state;
    for (size_t k = 0; k < 2 * N_KINDS; k++) {
        const struct kind_shape *shape = &KINDS[k / 2];
        /* an odd number of groups: of nvfp4 not a multiple of 32 columns */
        const uint32_t n = 33, cols = 3 * shape->group, all = 3 * cols;
        const enum rg_activations a = k % 2 ? RG_ACTIVATIONS_F32 : RG_ACTIVATIONS_INT8;
        struct test_weight heads = coded_weight(shape, 3, 21, cols, DTYPES[k % 3]);
        struct test_weight full = coded_weight(shape, 1, 63, all, DTYPES[(k + 1) % 3]);
        struct rg_backend *scalar = open_backend(RG_KERNELS_SCALAR, 1, a);
        float *x = random_floats((size_t)n * all),
              *want = two_products(scalar, &full, &heads, x, n);

        for (int i = 0; i < 3; i++) {
            struct rg_backend *b = open_backend(best_kernels(), threads[i], a);

            for (uint32_t rows = 1; rows <= n; rows = rows * 3 + 1) {
                float *y = two_products(b, &full, &heads, x + (size_t)(n - rows) * all, rows);
                assert_memory_equal(y, want + (n - rows) * 63, rows * 63 * 4);
                free(y);
            }
            rg_backend_close(b);
        }
        free(x);
        free(want);
        free_weight(&heads);
        free_weight(&full);
        rg_backend_close(scalar);
    }
}

/* ---- what is not a number, what is refused --------------------------------------------------- */

static void a_code_that_is_no_number_ends_the_step(void **state)
{
    (void)state;
    for (size_t k = 0; k < 6 * 4; k++) {
        struct test_weight t = coded_weight(&KINDS[k % 3], 1, 20, 64, RG_DTYPE_BF16);
        const enum rg_activations a = k / 3 % 2 ? RG_ACTIVATIONS_F32 : RG_ACTIVATIONS_INT8;
        struct rg_backend *b = open_backend(k / 6 % 2 ? RG_KERNELS_BEST : RG_KERNELS_SCALAR, 1, a);
        const uint32_t n = k / 12 ? 9 : 1;
        float *x = malloc((size_t)n * 64 * 4), y[9 * 20];
        struct rg_weight *w;
        struct test_step step;
        struct rg_err err;

        for (size_t i = 0; i < (size_t)n * 64; i++)
            x[i] = 1.0f + random_float() * 0.5f;
        if (KINDS[k % 3].kind == RG_WEIGHT_MXFP8)
            ((uint8_t *)(uintptr_t)t.desc.data)[7 * 64 + 11] = random_below(2) ? 0x7F : 0xFF;
        else if (KINDS[k % 3].kind == RG_WEIGHT_NVFP4)
            ((uint8_t *)(uintptr_t)t.desc.scales)[7] = random_below(2) ? 0x7F : 0xFF;
        else
            ((uint8_t *)(uintptr_t)t.desc.scales)[7] = 255;
        w = open_weight(b, &t);
        begin_step(&step, b, 0, n);
        assert_int_equal(
            rg_tensor_read(step.s, rg_op_linear(step.s, w, NULL, input(&step, x, n, 64)), y, &err),
            RG_E_INTERNAL);
        end_step(&step);
        free(x);
        rg_weight_close(w);
        free_weight(&t);
        rg_backend_close(b);
    }
}

static void refused(struct rg_backend *b, struct rg_weight_desc d, enum rg_code code,
                    const char *says)
{
    struct rg_weight *w = NULL;
    struct rg_err err;

    assert_int_equal(rg_weight_open(&w, b, &d, &err), code);
    assert_null(w);
    assert_non_null(strstr(err.message, d.name));
    assert_non_null(strstr(err.message, says));
}

static void odd_shapes_of_every_kind_are_refused_by_name(void **state)
{
    struct rg_backend *b = open_backend(RG_KERNELS_SCALAR, 1, RG_ACTIVATIONS_INT8);

    (void)state;
    for (size_t k = 0; k < N_KINDS; k++) {
        struct test_weight t = coded_weight(&KINDS[k], 1, 4, 384, RG_DTYPE_BF16);
        struct rg_weight_desc d = t.desc;

        d.bits = 6;
        refused(b, d, RG_E_UNSUPPORTED, rg_weight_kind_name(d.kind));
        d = t.desc;
        d.group_size = 48;
        refused(b, d, RG_E_UNSUPPORTED, "48");
        d = t.desc;
        d.dtype = byte_scales(d.kind) ? RG_DTYPE_F32 : RG_DTYPE_U8;
        refused(b, d, RG_E_UNSUPPORTED, rg_dtype_name(d.dtype));
        d = t.desc;
        d.rows = 0;
        refused(b, d, RG_E_BAD_DATA, "empty");
        d = t.desc;
        d.cols = 8;
        if (d.kind != RG_WEIGHT_FP8)
            refused(b, d, RG_E_BAD_DATA, "8 columns");
        free_weight(&t);
    }
    rg_backend_close(b);
}

static void integers_are_what_the_int8_path_is_for(void **state)
{
    (void)state;
    /* of 8 bits the products are those of floats, whatever the activations */
    for (size_t k = 0; k < N_KINDS; k++) {
        struct rg_backend *i8 = open_backend(RG_KERNELS_BEST, 1, RG_ACTIVATIONS_INT8);
        struct rg_backend *f32 = open_backend(RG_KERNELS_BEST, 1, RG_ACTIVATIONS_F32);
        struct test_weight t = coded_weight(&KINDS[k], 1, 40, 384, RG_DTYPE_BF16);
        struct test_weight heads = coded_weight(&KINDS[k], 1, 40, 384, RG_DTYPE_BF16);
        float *x = random_floats(384), *y[2];
        bool same;

        y[0] = two_products(i8, &t, &heads, x, 1);
        y[1] = two_products(f32, &t, &heads, x, 1);
        same = memcmp(y[0], y[1], 40 * 4) == 0;
        assert_true(same != takes_integers(&t));
        free(x);
        free(y[0]);
        free(y[1]);
        free_weight(&t);
        free_weight(&heads);
        rg_backend_close(i8);
        rg_backend_close(f32);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(embed_gives_the_rows_of_every_kind),
        TEST(an_embedding_row_of_the_byte_scaled_kinds_is_bf16),
        TEST(int8_products_of_every_kind_are_near_the_exact_ones),
        TEST(heads_of_every_kind_match_the_formula),
        TEST(head_rows_of_every_kind_keep_their_scales),
        TEST(experts_of_every_kind_match_the_formula),
        TEST(experts_of_every_kind_have_the_same_bits_alone_and_stored_alone),
        TEST(experts_may_mix_kinds),
        TEST(bits_of_every_kind_do_not_depend_on_threads_kernels_or_neighbours),
        TEST(a_code_that_is_no_number_ends_the_step),
        TEST(odd_shapes_of_every_kind_are_refused_by_name),
        TEST(integers_are_what_the_int8_path_is_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
