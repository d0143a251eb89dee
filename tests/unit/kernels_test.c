/* kernels_test.c - every kernel table against the scalar one, bit for bit, and the scalar one
 * against the formulas of kernels.h. */
#include "support/kernel_helpers.h"

#include "compute/math.h"

static const uint32_t BITS[] = {2, 3, 4, 5, 6, 8};
static const uint32_t GROUPS[] = {32, 64, 128};

static void scalar_quantise_follows_its_formula(void **state)
{
    (void)state;
    for (int round = 0; round < 500; round++) {
        float *x = random_floats(16);
        int8_t q[16];
        float scale, amax = 0.0f;
        int32_t sum, want_sum = 0;

        for (int i = 0; i < 16; i++)
            amax = fabsf(x[i]) > amax ? fabsf(x[i]) : amax;
        rg_kernels_scalar.quantise(x, 16, q, &scale, &sum);
        if (amax > 0.0f) {
            const float want_scale = amax / 127.0f;
            assert_memory_equal(&scale, &want_scale, sizeof(scale));
        } else {
            assert_int_equal(rg_f32_bits(scale), 0);
        }
        for (int i = 0; i < 16; i++) {
            const float inverse = 127.0f / amax;
            assert_int_equal(q[i], amax > 0.0f ? (int)rintf(x[i] * inverse) : 0);
            want_sum += q[i];
        }
        assert_int_equal(sum, want_sum);
        free(x);
    }
}

static void quantise_makes_a_bad_block_nan(void **state)
{
    const float bad[] = {NAN, INFINITY, -INFINITY};

    (void)state;
    for (int i = 0; i < 3; i++) {
        float x[32] = {1.0f, 2.0f};
        int8_t q[32];
        float scale[2];
        int32_t sum[2];

        x[19] = bad[i];
        vector_kernels()->quantise(x, 32, q, scale, sum);
        assert_true(isfinite(scale[0]) && isnan(scale[1]) && q[19] == 0 && sum[1] == 0);
        rg_kernels_scalar.quantise(x, 32, q, scale, sum);
        assert_true(isfinite(scale[0]) && isnan(scale[1]) && q[19] == 0 && sum[1] == 0);
    }
}

static void quantise_is_the_same_in_every_table(void **state)
{
    (void)state;
    for (int round = 0; round < 1000; round++) {
        const uint32_t blocks = 1 + random_below(20), n = 16 * blocks;
        float *x = random_floats(n);
        int8_t q[2][320];
        float scale[2][20];
        int32_t sum[2][20];

        x[random_below(n)] = 1e-38f * random_float(); /* a denormal now and then */
        if (round % 7 == 0)
            for (uint32_t i = 0; i < 16; i++)
                x[i] = 1e-42f; /* so small that 127 / amax overflows */
        rg_kernels_scalar.quantise(x, n, q[0], scale[0], sum[0]);
        vector_kernels()->quantise(x, n, q[1], scale[1], sum[1]);
        assert_memory_equal(q[0], q[1], n);
        assert_memory_equal(scale[0], scale[1], blocks * sizeof(float));
        assert_memory_equal(sum[0], sum[1], blocks * sizeof(int32_t));
        free(x);
    }
}

static void dequantise_reads_every_format(void **state)
{
    (void)state;
    for (size_t b = 0; b < 6; b++)
        for (size_t g = 0; g < 3; g++)
            for (size_t d = 0; d < 3; d++) {
                struct test_weight t =
                    affine_weight(1, 1 + random_below(4), GROUPS[g] * (1 + random_below(5)),
                                  BITS[b], GROUPS[g], DTYPES[d]);
                check_dequantised(&t);
                free_weight(&t);
            }
    for (int round = 0; round < 60; round++) {
        struct test_weight t =
            float_weight(1, 1 + random_below(4), 1 + random_below(70), DTYPES[round % 3]);
        check_dequantised(&t);
        free_weight(&t);
    }
}

/* The canonical dot, written once more from its description. */
static float dot_by_definition(const float *a, const float *b, uint32_t n)
{
    float lane[8];

    for (uint32_t l = 0; l < 8; l++) {
        lane[l] = 0.0f;
        for (uint32_t i = l; i < n; i += 8)
            lane[l] = fmaf(a[i], b[i], lane[l]);
    }
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) +
           ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

static void dots_have_the_canonical_order(void **state)
{
    (void)state;
    for (int round = 0; round < 400; round++) {
        const uint32_t n_w = 1 + random_below(9), n_x = 1 + random_below(6);
        const uint32_t cols = round < 40 ? (uint32_t)round : random_below(300);
        float *w = random_floats((size_t)n_w * cols), *y[2];
        float *x = random_floats((size_t)n_x * cols);
        struct rg_dots_job job = {.w = w,
                                  .x = x,
                                  .w_stride = cols,
                                  .x_stride = cols,
                                  .y_stride = n_w,
                                  .n_w = n_w,
                                  .n_x = n_x,
                                  .cols = cols};

        y[0] = malloc((size_t)n_w * n_x * 4);
        y[1] = malloc((size_t)n_w * n_x * 4);
        job.y = y[0];
        rg_kernels_scalar.dots(&job);
        job.y = y[1];
        vector_kernels()->dots(&job);
        assert_memory_equal(y[0], y[1], (size_t)n_w * n_x * 4);
        for (uint32_t r = 0; r < n_w; r++)
            for (uint32_t t = 0; t < n_x; t++) {
                const float want =
                    dot_by_definition(w + (size_t)r * cols, x + (size_t)t * cols, cols);
                assert_memory_equal(&y[0][t * n_w + r], &want, 4);
            }
        free(w);
        free(x);
        free(y[0]);
        free(y[1]);
    }
}

static void a_dot_keeps_minus_zero(void **state)
{
    /* Each product underflows to -0 exactly once per lane; the idle lanes of the tail stay +0. */
    float w[16], x[16], y[2];

    (void)state;
    for (uint32_t n = 1; n <= 16; n++) {
        struct rg_dots_job job = {.w = w, .x = x, .n_w = 1, .n_x = 1, .cols = n};

        for (uint32_t i = 0; i < 16; i++) {
            w[i] = 1e-30f;
            x[i] = -1e-30f;
        }
        job.y = &y[0];
        rg_kernels_scalar.dots(&job);
        job.y = &y[1];
        vector_kernels()->dots(&job);
        assert_memory_equal(&y[0], &y[1], 4);
    }
}

static void mix_is_the_same_in_every_table(void **state)
{
    (void)state;
    for (int round = 0; round < 300; round++) {
        const uint32_t n_q = 1 + random_below(5), cols = 1 + random_below(200), keys = 64;
        float *p = random_floats((size_t)n_q * keys), *v = random_floats((size_t)keys * cols);
        float *y[2] = {random_floats((size_t)n_q * cols), NULL};
        uint32_t begin[5], end[5];
        struct rg_mix_job job = {.p = p,
                                 .v = v,
                                 .p_stride = keys,
                                 .v_stride = cols,
                                 .y_stride = cols,
                                 .begin = begin,
                                 .end = end,
                                 .n_q = n_q,
                                 .cols = cols};

        for (uint32_t i = 0; i < n_q; i++) {
            begin[i] = random_below(keys);
            end[i] = begin[i] + random_below(keys - begin[i] + 1);
        }
        y[1] = malloc((size_t)n_q * cols * 4);
        memcpy(y[1], y[0], (size_t)n_q * cols * 4);
        job.y = y[0];
        rg_kernels_scalar.mix(&job);
        job.y = y[1];
        vector_kernels()->mix(&job);
        assert_memory_equal(y[0], y[1], (size_t)n_q * cols * 4);
        free(p);
        free(v);
        free(y[0]);
        free(y[1]);
    }
}

static void row_kernels_are_the_same_in_every_table(void **state)
{
    const struct rg_kernels *k = vector_kernels();

    (void)state;
    for (int round = 0; round < 300; round++) {
        const size_t n = 1 + random_below(90);
        float *a = random_floats(n), *b = random_floats(n), *y[2];
        uint16_t *h[2];

        for (int i = 0; i < 2; i++) {
            y[i] = malloc(n * 4);
            h[i] = malloc(n * 2);
        }
        for (size_t i = 0; i < n; i++)
            a[i] *= 30.0f;
        rg_kernels_scalar.swiglu(y[0], a, b, n);
        k->swiglu(y[1], a, b, n);
        assert_memory_equal(y[0], y[1], n * 4);
        rg_kernels_scalar.scale_mul(y[0], a, 0.37f, b, n);
        k->scale_mul(y[1], a, 0.37f, b, n);
        assert_memory_equal(y[0], y[1], n * 4);
        memcpy(y[0], a, n * 4);
        memcpy(y[1], a, n * 4);
        rg_kernels_scalar.exps(y[0], n, 20.0f);
        k->exps(y[1], n, 20.0f);
        assert_memory_equal(y[0], y[1], n * 4);
        rg_kernels_scalar.f16_store(h[0], a, n);
        k->f16_store(h[1], a, n);
        assert_memory_equal(h[0], h[1], n * 2);
        rg_kernels_scalar.f16_load(y[0], h[0], n);
        k->f16_load(y[1], h[0], n);
        assert_memory_equal(y[0], y[1], n * 4);
        for (int i = 0; i < 2; i++) {
            free(y[i]);
            free(h[i]);
        }
        free(a);
        free(b);
    }
}

static void vector_exp_is_the_scalar_exp(void **state)
{
    (void)state;
    for (int round = 0; round < 2000; round++) {
        float p[64], want[64];

        for (int i = 0; i < 64; i++) {
            p[i] = random_float() * 110.0f;
            if (round == 0)
                p[i] = i == 0 ? INFINITY : i == 1 ? -INFINITY : 88.0f + (float)i * 0.02f;
            want[i] = rg_expf(p[i] - 0.0f);
        }
        vector_kernels()->exps(p, 64, 0.0f);
        assert_memory_equal(p, want, sizeof(p));
    }
}

static void vector_halves_are_the_software_halves(void **state)
{
    const struct rg_kernels *k = vector_kernels();

    (void)state;
    for (uint32_t h = 0; h < 65536; h += 64) {
        uint16_t in[64];
        float out[2][64];

        for (uint32_t i = 0; i < 64; i++)
            in[i] = (uint16_t)(h + i);
        k->f16_load(out[0], in, 64);
        rg_kernels_scalar.f16_load(out[1], in, 64);
        assert_memory_equal(out[0], out[1], sizeof(out[0]));
    }
    for (int round = 0; round < 4000; round++) {
        float in[64];
        uint16_t out[2][64];

        for (int i = 0; i < 64; i++) {
            uint32_t bits = random_u32();
            if (i % 2)
                bits = (bits & 0x80FFF000u) | ((95 + random_u32() % 52) << 23);
            in[i] = rg_f32_from_bits(bits);
        }
        k->f16_store(out[0], in, 64);
        rg_kernels_scalar.f16_store(out[1], in, 64);
        assert_memory_equal(out[0], out[1], sizeof(out[0]));
    }
}

static void quantised_products_are_the_same_in_every_table(void **state)
{
    struct rg_backend *scalar = open_backend(RG_KERNELS_SCALAR, 1, RG_ACTIVATIONS_INT8);
    struct rg_backend *vector = open_backend(best_kernels(), 2, RG_ACTIVATIONS_INT8);

    (void)state;
    for (int round = 0; round < 12; round++)
        for (size_t b = 0; b < 6; b++)
            for (size_t g = 0; g < 3; g++)
                for (size_t d = 0; d < 3; d++)
                    check_product(scalar, vector,
                                  affine_weight(1, 1 + random_below(40),
                                                GROUPS[g] * (1 + random_below(12)), BITS[b],
                                                GROUPS[g], DTYPES[d]));
    rg_backend_close(scalar);
    rg_backend_close(vector);
}

static void extreme_codes_and_activations_do_not_overflow(void **state)
{
    struct rg_backend *scalar = open_backend(RG_KERNELS_SCALAR, 1, RG_ACTIVATIONS_INT8);
    struct rg_backend *vector = open_backend(best_kernels(), 1, RG_ACTIVATIONS_INT8);

    (void)state;
    for (size_t b = 0; b < 6; b++)
        for (uint32_t n = 1; n <= 17; n += 8)
            for (int sign = 0; sign < 3; sign++) {
                struct test_weight t = affine_weight(1, 9, 256, BITS[b], 64, RG_DTYPE_F32);
                float *x = malloc((size_t)n * 256 * 4), *y[2];

                memset(t.blocks[0], random_below(2) ? 0xFF : 0, 1);
                memset((uint8_t *)(uintptr_t)t.desc.data, sign == 2 ? 0 : 0xFF,
                       9 * 256 * BITS[b] / 8);
                for (uint32_t i = 0; i < n * 256; i++) /* q = 127 or -127 everywhere */
                    x[i] = sign == 1 || (sign == 2 && i % 2) ? -3.0f : 3.0f;
                y[0] = product(scalar, &t, x, n);
                y[1] = product(vector, &t, x, n);
                assert_memory_equal(y[0], y[1], (size_t)n * 9 * 4);
                free(y[0]);
                free(y[1]);
                free(x);
                free_weight(&t);
            }
    rg_backend_close(scalar);
    rg_backend_close(vector);
}

static void float_products_are_the_same_in_every_table(void **state)
{
    struct rg_backend *scalar = open_backend(RG_KERNELS_SCALAR, 1, RG_ACTIVATIONS_F32);
    struct rg_backend *vector = open_backend(best_kernels(), 2, RG_ACTIVATIONS_F32);

    (void)state;
    for (int round = 0; round < 120; round++) {
        const uint32_t group = GROUPS[round % 3], rows = 1 + random_below(30);
        const uint32_t cols = round % 2 ? 1 + random_below(200) : group * (1 + random_below(6));

        check_float_product(scalar, vector,
                            round % 2 ? float_weight(1, rows, cols, DTYPES[round / 2 % 3])
                                      : affine_weight(1, rows, cols, BITS[round / 2 % 6], group,
                                                      DTYPES[round % 3]));
    }
    rg_backend_close(scalar);
    rg_backend_close(vector);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalar_quantise_follows_its_formula),
        cmocka_unit_test(quantise_makes_a_bad_block_nan),
        cmocka_unit_test(quantise_is_the_same_in_every_table),
        cmocka_unit_test(dequantise_reads_every_format),
        cmocka_unit_test(dots_have_the_canonical_order),
        cmocka_unit_test(a_dot_keeps_minus_zero),
        cmocka_unit_test(mix_is_the_same_in_every_table),
        cmocka_unit_test(row_kernels_are_the_same_in_every_table),
        cmocka_unit_test(vector_exp_is_the_scalar_exp),
        cmocka_unit_test(vector_halves_are_the_software_halves),
        cmocka_unit_test(quantised_products_are_the_same_in_every_table),
        cmocka_unit_test(extreme_codes_and_activations_do_not_overflow),
        cmocka_unit_test(float_products_are_the_same_in_every_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
