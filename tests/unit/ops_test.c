/* ops_test.c - the ops of compute.h against naive formulas in double, and their bits against
 * themselves: any thread count, any kernels, any neighbours. */
#include "support/op_helpers.h"

static const enum rg_dtype DTYPES[] = {RG_DTYPE_BF16, RG_DTYPE_F16, RG_DTYPE_F32};

static void embed_gives_the_dequantised_rows(void **state)
{
    struct rg_backend *b = open_backend(RG_KERNELS_BEST, 2, RG_ACTIVATIONS_INT8);
    const int32_t ids[] = {6, 0, 3, 3, 9};

    (void)state;
    for (int round = 0; round < 9; round++) {
        struct test_weight t =
            round < 6
                ? affine_weight(1, 10, 96, (uint32_t) "\2\3\4\5\6\10"[round], 32, DTYPES[round % 3])
                : float_weight(1, 10, 96, DTYPES[round % 3]);
        struct rg_weight *w = open_weight(b, &t);
        struct test_step step;
        float *y;

        begin_step(&step, b, 0, 5);
        y = read_out(step.s, rg_op_embed(step.s, w, ids, 5));
        for (uint32_t i = 0; i < 5; i++)
            for (uint32_t c = 0; c < 96; c++) {
                const double want = weight_at(&t.desc, (size_t)ids[i], c);
                assert_close(y[i * 96 + c], want, fabs(want));
            }
        end_step(&step);
        free(y);
        rg_weight_close(w);
        free_weight(&t);
    }
    rg_backend_close(b);
}

static void linear_adds_its_bias(void **state)
{
    struct rg_backend *b = open_backend(RG_KERNELS_BEST, 2, RG_ACTIVATIONS_INT8);
    struct test_weight t = affine_weight(1, 37, 128, 4, 64, RG_DTYPE_BF16);
    struct test_weight tb = float_weight(1, 1, 37, RG_DTYPE_BF16);
    struct rg_weight *w = open_weight(b, &t), *bias = open_weight(b, &tb);
    float *x = random_floats(3 * 128), *with, *without;
    struct test_step step;

    (void)state;
    begin_step(&step, b, 0, 3);
    with = read_out(step.s, rg_op_linear(step.s, w, bias, input(&step, x, 3, 128)));
    without = read_out(step.s, rg_op_linear(step.s, w, NULL, input(&step, x, 3, 128)));
    for (uint32_t i = 0; i < 3 * 37; i++) {
        const float want = without[i] + float_at(tb.desc.data, RG_DTYPE_BF16, i % 37);
        assert_memory_equal(&with[i], &want, sizeof(want));
    }
    end_step(&step);
    free(x);
    free(with);
    free(without);
    rg_weight_close(w);
    rg_weight_close(bias);
    free_weight(&t);
    free_weight(&tb);
    rg_backend_close(b);
}

static void int8_products_are_near_the_exact_ones(void **state)
{
    struct rg_backend *b = open_backend(RG_KERNELS_BEST, 1, RG_ACTIVATIONS_INT8);

    (void)state;
    for (uint32_t bits = 2; bits <= 8; bits += bits == 6 ? 2 : 1) {
        struct test_weight t = affine_weight(1, 24, 512, bits, 64, RG_DTYPE_F16);
        struct rg_weight *w = open_weight(b, &t);
        float x[512], *y;
        struct test_step step;

        for (int i = 0; i < 512; i++)
            x[i] = random_float();
        begin_step(&step, b, 0, 1);
        y = read_out(step.s, rg_op_linear(step.s, w, NULL, input(&step, x, 1, 512)));
        for (uint32_t r = 0; r < 24; r++) {
            double want = 0.0, squares = 0.0;

            for (uint32_t c = 0; c < 512; c++) {
                want += weight_at(&t.desc, r, c) * (double)x[c];
                squares += weight_at(&t.desc, r, c) * weight_at(&t.desc, r, c);
            }
            /* an activation is off by at most half a step of amax / 127: errors add up randomly */
            assert_true(fabs((double)y[r] - want) < 5.0 * sqrt(squares) * 0.5 / 127.0);
        }
        end_step(&step);
        free(y);
        rg_weight_close(w);
        free_weight(&t);
    }
    rg_backend_close(b);
}

static void heads_and_their_transpose_match_the_formula(void **state)
{
    struct rg_backend *b = open_backend(RG_KERNELS_BEST, 2, RG_ACTIVATIONS_F32);

    (void)state;
    for (int round = 0; round < 6; round++) {
        struct test_weight t = round % 2 ? affine_weight(3, 13, 64, 6, 32, RG_DTYPE_F16)
                                         : float_weight(3, 13, 50, RG_DTYPE_BF16);
        struct rg_weight *w = open_weight(b, &t);
        const uint32_t cols = t.desc.cols;
        float *x = random_floats((size_t)2 * 3 * cols), *z = random_floats((size_t)2 * 3 * 13);
        float *y, *yt;
        struct test_step step;

        begin_step(&step, b, 0, 2);
        y = read_out(step.s, rg_op_linear_heads(step.s, w, input(&step, x, 2, 3 * cols)));
        yt = read_out(step.s, rg_op_linear_heads_t(step.s, w, input(&step, z, 2, 3 * 13)));
        for (uint32_t n = 0; n < 2; n++) {
            check_heads(&t.desc, 0, 0, x + n * 3 * cols, y + n * 3 * 13, false, 13);
            check_heads(&t.desc, 0, 0, z + n * 3 * 13, yt + n * 3 * cols, true, 13);
        }
        end_step(&step);
        free(x);
        free(z);
        free(y);
        free(yt);
        rg_weight_close(w);
        free_weight(&t);
    }
    rg_backend_close(b);
}

static void head_rows_are_a_view_of_both_halves(void **state)
{
    struct rg_backend *b = open_backend(RG_KERNELS_BEST, 2, RG_ACTIVATIONS_F32);
    struct test_weight t = affine_weight(1, 4 * 10, 64, 4, 64, RG_DTYPE_BF16);
    struct rg_weight *w = open_weight(b, &t), *keys, *values;
    float *zk = random_floats(4 * 6), *xv = random_floats(4 * 64), *yk, *yv;
    struct test_step step;

    (void)state;
    assert_int_equal(rg_weight_head_rows(&keys, w, 4, 0, 6, NULL), RG_OK);
    assert_int_equal(rg_weight_head_rows(&values, w, 4, 6, 4, NULL), RG_OK);
    assert_int_equal(rg_weight_rows(values), 4);
    begin_step(&step, b, 0, 1);
    yk = read_out(step.s, rg_op_linear_heads_t(step.s, keys, input(&step, zk, 1, 4 * 6)));
    yv = read_out(step.s, rg_op_linear_heads(step.s, values, input(&step, xv, 1, 4 * 64)));
    check_heads(&t.desc, 0, 10, zk, yk, true, 6);
    check_heads(&t.desc, 6, 10, xv, yv, false, 4);
    end_step(&step);
    free(zk);
    free(xv);
    free(yk);
    free(yv);
    rg_weight_close(keys);
    rg_weight_close(values);
    rg_weight_close(w);
    free_weight(&t);
    rg_backend_close(b);
}

static void rms_norm_runs_over_heads_too(void **state)
{
    struct rg_backend *b = open_backend(RG_KERNELS_BEST, 2, RG_ACTIVATIONS_INT8);
    struct test_weight t = float_weight(1, 1, 20, RG_DTYPE_F16);
    struct rg_weight *w = open_weight(b, &t);
    float *x = random_floats(4 * 60), *y;
    struct test_step step;

    (void)state;
    begin_step(&step, b, 0, 4);
    y = read_out(step.s, rg_op_rms_norm(step.s, input(&step, x, 4, 60), w, 1e-5f));
    for (uint32_t run = 0; run < 12; run++) {
        double mean = 0.0;

        for (uint32_t c = 0; c < 20; c++)
            mean += (double)x[run * 20 + c] * (double)x[run * 20 + c] / 20.0;
        for (uint32_t c = 0; c < 20; c++) {
            const double want = (double)x[run * 20 + c] / sqrt(mean + 1e-5) *
                                (double)float_at(t.desc.data, RG_DTYPE_F16, c);
            assert_close(y[run * 20 + c], want, fabs(want));
        }
    }
    end_step(&step);
    free(x);
    free(y);
    rg_weight_close(w);
    free_weight(&t);
    rg_backend_close(b);
}

static void selections_and_sums_move_the_right_numbers(void **state)
{
    struct rg_backend *b = open_backend(RG_KERNELS_BEST, 1, RG_ACTIVATIONS_INT8);
    float x[3 * 12], *cols, *rows, *sum, *gated;
    const uint32_t picked[] = {2, 0};
    struct rg_tensor *t;
    struct test_step step;

    (void)state;
    for (int i = 0; i < 36; i++)
        x[i] = (float)i - 10.0f;
    begin_step(&step, b, 0, 3);
    t = input(&step, x, 3, 12);
    cols = read_out(step.s, rg_op_head_cols(step.s, t, 3, 1, 3));
    rows = read_out(step.s, rg_op_rows(step.s, t, picked, 2));
    sum = read_out(step.s, rg_op_add(step.s, t, t));
    gated = read_out(step.s, rg_op_swiglu(step.s, t, t));
    for (uint32_t r = 0; r < 3; r++)
        for (uint32_t h = 0; h < 3; h++)
            for (uint32_t c = 0; c < 2; c++)
                assert_true(fabsf(cols[r * 6 + h * 2 + c] - x[r * 12 + h * 4 + 1 + c]) < 1e-9f);
    assert_memory_equal(rows, x + 24, 12 * 4);
    assert_memory_equal(rows + 12, x, 12 * 4);
    for (int i = 0; i < 36; i++) {
        const double g = (double)x[i];
        assert_true(fabs((double)sum[i] - 2 * g) < 1e-9);
        assert_close(gated[i], g / (1.0 + exp(-g)) * g, fabs(g * g));
    }
    end_step(&step);
    free(cols);
    free(rows);
    free(sum);
    free(gated);
    rg_backend_close(b);
}

static void keep_carries_one_tensor_over(void **state)
{
    struct rg_backend *b = open_backend(RG_KERNELS_BEST, 1, RG_ACTIVATIONS_INT8);
    float *x = random_floats(7 * 33), *y;
    int64_t warm = 0;

    (void)state;
    for (int round = 0; round < 6; round++) {
        struct test_step step;
        struct rg_tensor *t;

        begin_step(&step, b, 0, 7);
        t = input(&step, x, 7, 33);
        for (int layer = 0; layer < 50; layer++) {
            rg_op_add(step.s, t, t); /* left behind */
            t = rg_op_keep(step.s, t);
        }
        y = read_out(step.s, t);
        assert_memory_equal(x, y, 7 * 33 * 4);
        end_step(&step);
        free(y);
        if (round == 1)
            warm = rg_mem_count();
    }
    assert_true(rg_mem_count() == warm); /* later steps allocate nothing */
    free(x);
    rg_backend_close(b);
}

static void ops_of_no_rows_give_no_rows(void **state)
{
    struct rg_backend *b = open_backend(RG_KERNELS_BEST, 2, RG_ACTIVATIONS_INT8);
    struct test_weight t = affine_weight(1, 200, 128, 4, 64, RG_DTYPE_BF16);
    struct test_weight tn = float_weight(1, 1, 128, RG_DTYPE_BF16);
    struct rg_weight *w = open_weight(b, &t), *norm = open_weight(b, &tn);
    float x[128] = {1.0f}, unused = 0.0f;
    struct rg_tensor *none;
    struct test_step step;

    (void)state;
    begin_step(&step, b, 0, 1);
    none = rg_op_rows(step.s, input(&step, x, 1, 128), NULL, 0);
    none = rg_op_linear(step.s, w, NULL, rg_op_rms_norm(step.s, none, norm, 1e-6f));
    assert_non_null(none);
    assert_int_equal(rg_tensor_rows(none), 0);
    assert_int_equal(rg_tensor_cols(none), 200);
    assert_int_equal(rg_tensor_read(step.s, none, &unused, NULL), RG_OK);
    end_step(&step);
    rg_weight_close(w);
    rg_weight_close(norm);
    free_weight(&t);
    free_weight(&tn);
    rg_backend_close(b);
}

static void a_value_that_is_not_finite_is_refused(void **state)
{
    struct rg_backend *b = open_backend(RG_KERNELS_BEST, 1, RG_ACTIVATIONS_INT8);
    const float bad[] = {NAN, INFINITY, -INFINITY};
    struct test_weight t = affine_weight(1, 16, 64, 4, 64, RG_DTYPE_BF16);
    struct rg_weight *w = open_weight(b, &t);

    (void)state;
    for (int i = 0; i < 3; i++) {
        float x[64] = {1.0f}, y[64];
        struct rg_err err;
        struct rg_tensor *in;
        struct test_step step;

        x[40] = bad[i];
        begin_step(&step, b, 0, 1);
        in = input(&step, x, 1, 64);
        assert_int_equal(rg_tensor_read(step.s, in, y, &err), RG_E_INTERNAL);
        /* a product of it is not finite either */
        assert_int_equal(rg_tensor_read(step.s, rg_op_linear(step.s, w, NULL, in), y, &err),
                         RG_E_INTERNAL);
        end_step(&step);
    }
    rg_weight_close(w);
    free_weight(&t);
    rg_backend_close(b);
}

static void a_step_without_memory_says_so(void **state)
{
    struct rg_backend *b = open_backend(RG_KERNELS_BEST, 1, RG_ACTIVATIONS_INT8);
    struct test_weight t = affine_weight(1, 1024, 128, 4, 64, RG_DTYPE_BF16);
    struct rg_weight *w = open_weight(b, &t);
    float *x = random_floats((size_t)16 * 128), *y = malloc((size_t)16 * 1024 * 4);
    int failures = 0;

    (void)state;
    for (int n = 1; n < 40; n++) {
        struct rg_seq_rows seq = {.n_rows = 16};
        struct rg_batch batch = {.seqs = &seq, .n_seqs = 1, .n_rows = 16};
        struct rg_backend_options options = {.threads = 1};
        struct rg_backend *fresh = NULL;
        struct rg_step *s = NULL;
        struct rg_tensor *out;
        enum rg_code code;

        assert_int_equal(rg_backend_open(&fresh, &options, NULL), RG_OK);
        rg_mem_fail_at(n);
        code = rg_step_begin(&s, fresh, &batch, NULL);
        if (code == RG_OK) {
            out = rg_op_linear(s, w, NULL, rg_op_input(s, x, 16, 128));
            code = rg_tensor_read(s, rg_op_add(s, out, out), y, NULL);
            assert_int_equal(rg_step_end(s, NULL), code);
        }
        rg_mem_fail_at(0);
        assert_true(code == RG_OK || code == RG_E_NOMEM);
        failures += code != RG_OK;
        rg_backend_close(fresh);
    }
    assert_true(failures > 0);
    free(x);
    free(y);
    rg_weight_close(w);
    free_weight(&t);
    rg_backend_close(b);
}

static void odd_formats_are_refused_by_name(void **state)
{
    struct rg_backend *b = open_backend(RG_KERNELS_SCALAR, 1, RG_ACTIVATIONS_INT8);
    struct test_weight t = affine_weight(1, 8, 128, 4, 64, RG_DTYPE_BF16);
    struct rg_weight *w;
    struct rg_err err;

    (void)state;
    t.desc.bits = 7;
    assert_int_equal(rg_weight_open(&w, b, &t.desc, &err), RG_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "test.affine"));
    t.desc.bits = 4;
    t.desc.group_size = 16;
    assert_int_equal(rg_weight_open(&w, b, &t.desc, &err), RG_E_UNSUPPORTED);
    t.desc.group_size = 64;
    t.desc.cols = 96;
    assert_int_equal(rg_weight_open(&w, b, &t.desc, &err), RG_E_BAD_DATA);
    t.desc.cols = 128;
    t.desc.dtype = RG_DTYPE_U8;
    assert_int_equal(rg_weight_open(&w, b, &t.desc, &err), RG_E_UNSUPPORTED);
    t.desc.kind = RG_WEIGHT_MXFP4;
    assert_int_equal(rg_weight_open(&w, b, &t.desc, &err), RG_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "mxfp4"));
    free_weight(&t);
    rg_backend_close(b);
}

/* ---- experts -----------------------------------------------------------------------------------
 */

static struct experts make_experts(uint32_t bits, bool floats)
{
    struct experts e;

    if (floats) {
        e.gate = float_weight(EXPERTS, INNER, HIDDEN, RG_DTYPE_BF16);
        e.up = float_weight(EXPERTS, INNER, HIDDEN, RG_DTYPE_F32);
        e.down = float_weight(EXPERTS, HIDDEN, INNER, RG_DTYPE_F16);
    } else {
        e.gate = affine_weight(EXPERTS, INNER, HIDDEN, bits, 32, RG_DTYPE_BF16);
        e.up = affine_weight(EXPERTS, INNER, HIDDEN, bits, 64, RG_DTYPE_BF16);
        e.down = affine_weight(EXPERTS, HIDDEN, INNER, bits, 32, RG_DTYPE_BF16);
    }
    return e;
}

static void experts_match_the_formula(void **state)
{
    struct rg_backend *b = open_backend(RG_KERNELS_BEST, 2, RG_ACTIVATIONS_F32);

    (void)state;
    for (int round = 0; round < 4; round++) {
        struct experts e = make_experts(4, round % 2);
        const uint32_t n = round < 2 ? 3 : 40;
        float *x = random_floats((size_t)n * HIDDEN), *logits = random_floats((size_t)n * EXPERTS);
        float *y;

        for (size_t i = 0; i < (size_t)n * HIDDEN; i++)
            x[i] = fmodf(x[i], 1.0f);
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

static void experts_stored_one_by_one_give_the_same_bits(void **state)
{
    struct rg_backend *b = open_backend(RG_KERNELS_BEST, 2, RG_ACTIVATIONS_INT8);
    struct experts e = make_experts(4, false);
    struct one_by_one o[3];
    float *x = random_floats(11 * HIDDEN), *logits = random_floats(11 * EXPERTS);
    float *stacked = run_experts(b, &e, x, logits, 11), *single;

    (void)state;
    store_one_by_one(&e, o);
    single = run_experts(b, &e, x, logits, 11);
    assert_memory_equal(stacked, single, 11 * HIDDEN * 4);
    free(x);
    free(logits);
    free(stacked);
    free(single);
    free_experts(&e);
    rg_backend_close(b);
}

static void a_row_of_experts_does_not_see_its_neighbours(void **state)
{
    struct rg_backend *b[3] = {open_backend(RG_KERNELS_SCALAR, 1, RG_ACTIVATIONS_INT8),
                               open_backend(RG_KERNELS_BEST, 1, RG_ACTIVATIONS_INT8),
                               open_backend(RG_KERNELS_BEST, 5, RG_ACTIVATIONS_INT8)};

    (void)state;
    for (uint32_t bits = 2; bits <= 8; bits += bits == 6 ? 2 : 1) {
        struct experts e = make_experts(bits, false);
        const uint32_t n = 70;
        float *x = random_floats((size_t)n * HIDDEN), *logits = random_floats((size_t)n * EXPERTS);
        float *all = run_experts(b[0], &e, x, logits, n);

        for (int i = 1; i < 3; i++) {
            float *same = run_experts(b[i], &e, x, logits, n);
            assert_memory_equal(all, same, (size_t)n * HIDDEN * 4);
            free(same);
        }
        for (uint32_t r = 0; r < n; r += 9) {
            float *alone = run_experts(b[1], &e, x + r * HIDDEN, logits + r * EXPERTS, 1);
            assert_memory_equal(all + r * HIDDEN, alone, HIDDEN * 4);
            free(alone);
        }
        free(x);
        free(logits);
        free(all);
        free_experts(&e);
    }
    for (int i = 0; i < 3; i++)
        rg_backend_close(b[i]);
}

/* A decode step through every kind of op that takes memory. */
static void decode_once(struct rg_backend *b, struct rg_kv *kv, struct rg_weight *const *w,
                        const struct rg_rope *rope, uint32_t position)
{
    static const int32_t token = 3;
    static const uint32_t last = 0;
    struct rg_tensor *x, *t, *routing;
    struct test_step step;
    float *y;

    begin_step(&step, b, position, 1);
    x = rg_op_embed(step.s, w[0], &token, 1);
    t = rg_op_rope(step.s, rg_op_linear(step.s, w[1], NULL, x), rope, 4);
    rg_op_kv_append(step.s, kv, 0, t, t);
    t = rg_op_attention(step.s, kv, 0, t, 4, 0.25f);
    x = rg_op_keep(step.s, rg_op_add(step.s, x, t));
    routing = rg_op_route(step.s, rg_op_linear(step.s, w[2], NULL, x), &TOP_2);
    x = rg_op_add(step.s, x, rg_op_experts(step.s, x, routing, w[3], w[4], w[5]));
    y = read_out(step.s, rg_op_linear(step.s, w[0], NULL, rg_op_rows(step.s, x, &last, 1)));
    end_step(&step);
    free(y);
}

static void a_warm_decode_step_allocates_nothing(void **state)
{
    struct rg_backend *b = open_backend(RG_KERNELS_BEST, 2, RG_ACTIVATIONS_INT8);
    struct experts e = make_experts(4, false);
    struct test_weight t[3] = {affine_weight(1, 300, HIDDEN, 6, 64, RG_DTYPE_BF16),
                               affine_weight(1, HIDDEN, HIDDEN, 4, 64, RG_DTYPE_BF16),
                               float_weight(1, EXPERTS, HIDDEN, RG_DTYPE_BF16)};
    struct rg_weight *w[6] = {open_weight(b, &t[0]), open_weight(b, &t[1]),
                              open_weight(b, &t[2]), open_weight(b, &e.gate),
                              open_weight(b, &e.up), open_weight(b, &e.down)};
    const struct rg_rope_config rope_config = {.theta = 10000.0, .factor = 1.0, .dims = 16};
    const struct rg_kv_layer_spec spec = {.n_heads = 4, .key_cols = 16, .value_cols = 16};
    const struct rg_kv_options o = {
        .layers = &spec, .n_layers = 1, .n_blocks = 64, .block_tokens = 16};
    struct rg_rope *rope = NULL;
    struct rg_kv *kv = NULL;
    int64_t warm = 0;

    (void)state;
    assert_int_equal(rg_rope_open(&rope, &rope_config, 1024, NULL), RG_OK);
    assert_int_equal(rg_kv_open(&kv, b, &o, NULL), RG_OK);
    for (uint32_t position = 0; position < 200; position++) {
        decode_once(b, kv, w, rope, position);
        if (position == 2)
            warm = rg_mem_count();
    }
    assert_true(rg_mem_count() == warm);
    rg_rope_close(rope);
    rg_kv_close(kv);
    for (int i = 0; i < 6; i++)
        rg_weight_close(w[i]);
    for (int i = 0; i < 3; i++)
        free_weight(&t[i]);
    free_experts(&e);
    rg_backend_close(b);
}

/* ---- bits ---------------------------------------------------------------------------------------
 */

/* Norm, head product, plain product, swiglu, sum: a small layer of n rows. */
static float *small_layer(struct rg_backend *b, const struct test_weight *w, const float *x,
                          uint32_t n)
{
    struct rg_weight *heads = open_weight(b, &w[0]), *norm = open_weight(b, &w[1]);
    struct rg_weight *full = open_weight(b, &w[2]);
    struct rg_tensor *t, *u;
    struct test_step step;
    float *y;

    begin_step(&step, b, 0, n);
    t = rg_op_rms_norm(step.s, input(&step, x, n, 3 * 96), norm, 1e-6f);
    u = rg_op_linear_heads(step.s, heads, t);
    t = rg_op_add(step.s, rg_op_linear(step.s, full, NULL, t), u);
    y = read_out(step.s, rg_op_swiglu(step.s, t, u));
    end_step(&step);
    rg_weight_close(heads);
    rg_weight_close(norm);
    rg_weight_close(full);
    return y;
}

static void bits_do_not_depend_on_threads_kernels_or_neighbours(void **state)
{
    static const uint32_t threads[] = {1, 2, 5};

    (void)state;
    for (int round = 0; round < 12; round++) {
        const uint32_t bits = (uint32_t) "\2\3\4\5\6\10"[round % 6], n = 33;
        struct test_weight w[3] = {
            affine_weight(3, 21, 96, bits, 32, DTYPES[round % 3]),
            float_weight(1, 1, 96, RG_DTYPE_BF16),
            round < 6 ? affine_weight(1, 63, 288, bits, 32, RG_DTYPE_F16)
                      : float_weight(1, 63, 288, DTYPES[round % 3]),
        };
        const enum rg_activations a = round % 2 ? RG_ACTIVATIONS_F32 : RG_ACTIVATIONS_INT8;
        struct rg_backend *scalar = open_backend(RG_KERNELS_SCALAR, 1, a);
        float *x = random_floats(33 * 288), *want = small_layer(scalar, w, x, n);

        for (int i = 0; i < 3; i++) {
            struct rg_backend *b = open_backend(best_kernels(), threads[i], a);

            for (uint32_t rows = 1; rows <= n; rows = rows * 3 + 1) {
                float *y = small_layer(b, w, x + (n - rows) * 288, rows);
                assert_memory_equal(y, want + (n - rows) * 63, rows * 63 * 4);
                free(y);
            }
            rg_backend_close(b);
        }
        free(x);
        free(want);
        for (int i = 0; i < 3; i++)
            free_weight(&w[i]);
        rg_backend_close(scalar);
    }
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
        TEST(embed_gives_the_dequantised_rows),
        TEST(linear_adds_its_bias),
        TEST(int8_products_are_near_the_exact_ones),
        TEST(heads_and_their_transpose_match_the_formula),
        TEST(head_rows_are_a_view_of_both_halves),
        TEST(rms_norm_runs_over_heads_too),
        TEST(selections_and_sums_move_the_right_numbers),
        TEST(keep_carries_one_tensor_over),
        TEST(ops_of_no_rows_give_no_rows),
        TEST(a_warm_decode_step_allocates_nothing),
        TEST(a_value_that_is_not_finite_is_refused),
        TEST(a_step_without_memory_says_so),
        TEST(odd_formats_are_refused_by_name),
        TEST(experts_match_the_formula),
        TEST(experts_stored_one_by_one_give_the_same_bits),
        TEST(a_row_of_experts_does_not_see_its_neighbours),
        TEST(bits_do_not_depend_on_threads_kernels_or_neighbours),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
