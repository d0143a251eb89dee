/* kernel_kinds_test.c - the kernels of int4, mxfp4, nvfp4, mxfp8 and fp8 weights: every code, every
 * scale, every table. */
#include "support/kernel_helpers.h"

static void dequantise_reads_every_kind(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++)
        for (size_t k = 0; k < N_KINDS; k++) {
            const bool fp8 = KINDS[k].kind == RG_WEIGHT_FP8;
            const uint32_t rows = 1 + random_below(fp8 ? 300 : 4);
            const uint32_t cols =
                fp8 ? 1 + random_below(300) : KINDS[k].group * (1 + random_below(5));
            struct test_weight t = coded_weight(&KINDS[k], 1, rows, cols, DTYPES[round % 3]);

            check_dequantised(&t);
            free_weight(&t);
        }
}

/* Row 0 of m by both tables. */
static void dequantise_both(float *out[2], const struct rg_matrix *m)
{
    rg_kernels_scalar.dequantise(m, 0, out[0]);
    vector_kernels()->dequantise(m, 0, out[1]);
    assert_same_floats(out[0], out[1], m->cols);
}

static void check_exact(float got, double want)
{
    const float f = (float)want;

    assert_same_floats(&got, &f, 1);
}

static void every_code_of_e4m3_has_its_value(void **state)
{
    uint8_t codes[256], scales[8];
    const float one = 1.0f;
    float row[2][256], *out[2] = {row[0], row[1]};
    struct rg_matrix m = {.kind = RG_WEIGHT_MXFP8,
                          .data = codes,
                          .scales = scales,
                          .rows = 1,
                          .cols = 256,
                          .bits = 8,
                          .group_size = 32,
                          .factor = 1.0f};

    (void)state;
    memset(scales, 127, sizeof(scales));
    for (uint32_t c = 0; c < 256; c++)
        codes[c] = (uint8_t)c;
    dequantise_both(out, &m);
    for (uint32_t c = 0; c < 256; c++)
        check_exact(row[0][c], e4m3_value(c));
    assert_true(isnan(row[0][0x7F]) && isnan(row[0][0xFF]));
    assert_true(fabsf(row[0][0x7E] - 448.0f) < 1e-9f);
    m.kind = RG_WEIGHT_FP8;
    m.group_size = 128;
    m.dtype = RG_DTYPE_F32;
    m.cols = 128; /* one scale: both halves of the codes in turn */
    m.scales = (const uint8_t *)&one;
    for (uint32_t half = 0; half < 2; half++) {
        m.data = codes + 128 * half;
        dequantise_both(out, &m);
        for (uint32_t c = 0; c < 128; c++)
            check_exact(row[0][c], e4m3_value(128 * half + c));
    }
}

static void every_code_of_e2m1_and_every_scale_has_its_value(void **state)
{
    static const enum rg_weight_kind kinds[] = {RG_WEIGHT_MXFP4, RG_WEIGHT_NVFP4};
    uint8_t codes[16], scales[2];
    float row[2][32], *out[2] = {row[0], row[1]};

    (void)state;
    for (uint32_t i = 0; i < 16; i++)
        codes[i] = (uint8_t)(2 * i % 16 | (2 * i + 1) % 16 << 4);
    for (uint32_t scale = 0; scale < 512; scale++) {
        const enum rg_weight_kind kind = kinds[scale / 256];
        const struct rg_matrix m = {.kind = kind,
                                    .data = codes,
                                    .scales = scales,
                                    .rows = 1,
                                    .cols = 32,
                                    .bits = 4,
                                    .group_size = kind == RG_WEIGHT_MXFP4 ? 32 : 16,
                                    .factor = 1.0f};

        scales[0] = scales[1] = (uint8_t)scale;
        dequantise_both(out, &m);
        for (uint32_t c = 0; c < 32; c++) {
            const double s = kind == RG_WEIGHT_MXFP4 ? e8m0_value(scale) : e4m3_value(scale % 256);

            /* the sign of a zero says nothing */
            check_exact(row[0][c] + 0.0f, e2m1_value(c % 16) * s + 0.0);
        }
    }
}

static void every_scale_of_mxfp8_has_its_value(void **state)
{
    uint8_t codes[32], scale;
    float row[2][32], *out[2] = {row[0], row[1]};
    const struct rg_matrix m = {.kind = RG_WEIGHT_MXFP8,
                                .data = codes,
                                .scales = &scale,
                                .rows = 1,
                                .cols = 32,
                                .bits = 8,
                                .group_size = 32,
                                .factor = 1.0f};

    (void)state;
    for (uint32_t s = 0; s < 256; s++) {
        scale = (uint8_t)s;
        for (uint32_t c = 0; c < 32; c++)
            codes[c] = (uint8_t)random_u32();
        dequantise_both(out, &m);
        for (uint32_t c = 0; c < 32; c++)
            check_exact(row[0][c], e4m3_value(codes[c]) * e8m0_value(s));
    }
}

static void products_of_every_kind_are_the_same_in_every_table(void **state)
{
    struct rg_backend *scalar = open_backend(RG_KERNELS_SCALAR, 1, RG_ACTIVATIONS_INT8);
    struct rg_backend *vector = open_backend(best_kernels(), 2, RG_ACTIVATIONS_INT8);

    (void)state;
    for (int round = 0; round < 60; round++)
        for (size_t k = 0; k < N_KINDS; k++)
            if (KINDS[k].kind != RG_WEIGHT_MXFP8 && KINDS[k].kind != RG_WEIGHT_FP8)
                check_product(scalar, vector,
                              coded_weight(&KINDS[k], 1, 1 + random_below(40),
                                           KINDS[k].group * (1 + random_below(24)),
                                           DTYPES[round % 3]));
    rg_backend_close(scalar);
    rg_backend_close(vector);
}

/* The bits of one product of a row of 32 columns, whatever they are. */
static float product_at_scale(const struct rg_kernels *k, const struct rg_matrix *m, const float *x)
{
    int8_t q[32];
    float scale[2], y;
    int32_t sum[2];
    _Alignas(64) uint8_t scratch[32 * 16 + 256];
    const struct rg_qx qx = {.layout = RG_LAYOUT_PLAIN,
                             .n = 1,
                             .q = (const uint8_t *)q,
                             .scale = scale,
                             .sum = sum,
                             .q_stride = 32,
                             .scale_stride = 2};
    const struct rg_int8_job job = {
        .m = m, .x = &qx, .y = &y, .y_stride = 1, .row_end = 1, .scratch = scratch};

    k->quantise(x, 32, q, scale, sum);
    k->int8(&job);
    return y;
}

static void a_product_takes_every_scale(void **state)
{
    struct test_weight t[2] = {coded_weight(&KINDS[0], 1, 1, 32, RG_DTYPE_F32),
                               coded_weight(&KINDS[1], 1, 1, 32, RG_DTYPE_F32)};

    (void)state;
    for (uint32_t s = 0; s < 512; s++) {
        struct rg_weight_desc *d = &t[s / 256].desc;
        float *x = random_floats(32), got, want;
        uint8_t scales[2] = {(uint8_t)s, (uint8_t)s};
        struct rg_matrix m;

        d->scales = scales;
        d->globals = NULL;
        m = matrix_of(&t[s / 256]);
        got = product_at_scale(&rg_kernels_scalar, &m, x);
        want = product_by_definition(d, 0, x);
        assert_same_floats(&got, &want, 1);
        if (s == 255 || s == 256 + 0x7F || s == 511)
            assert_true(isnan(got));
        free(x);
    }
    for (int i = 0; i < 2; i++)
        free_weight(&t[i]);
}

static void extreme_nibbles_do_not_overflow(void **state)
{
    static const uint8_t codes[] = {0x00, 0x77, 0x88, 0xFF, 0x7F, 0xF7};
    struct rg_backend *scalar = open_backend(RG_KERNELS_SCALAR, 1, RG_ACTIVATIONS_INT8);
    struct rg_backend *vector = open_backend(best_kernels(), 1, RG_ACTIVATIONS_INT8);

    (void)state;
    for (size_t k = 0; k < N_KINDS; k++)
        for (uint32_t i = 0; KINDS[k].bits == 4 && i < 6 * 9; i++) {
            const uint32_t n = 1 + i / 18 * 8, cols = KINDS[k].group * 4;
            struct test_weight t = coded_weight(&KINDS[k], 1, 9, cols, RG_DTYPE_F32);
            float *x = malloc((size_t)n * cols * 4), *y[2];

            memset((uint8_t *)(uintptr_t)t.desc.data, codes[i % 6], 9 * cols / 2);
            for (uint32_t j = 0; j < n * cols; j++) /* q = 127 or -127 everywhere */
                x[j] = i / 6 % 3 == 1 || (i / 6 % 3 == 2 && j % 2) ? -3.0f : 3.0f;
            y[0] = product(scalar, &t, x, n);
            y[1] = product(vector, &t, x, n);
            assert_memory_equal(y[0], y[1], (size_t)n * 9 * 4);
            for (uint32_t r = 0; r < 9; r++) {
                const float want = product_by_definition(&t.desc, r, x);
                assert_memory_equal(&y[0][r], &want, 4);
            }
            free(y[0]);
            free(y[1]);
            free(x);
            free_weight(&t);
        }
    rg_backend_close(scalar);
    rg_backend_close(vector);
}

static void float_products_of_every_kind_are_the_same_in_every_table(void **state)
{
    (void)state;
    for (int a = 0; a < 2; a++) {
        struct rg_backend *scalar =
            open_backend(RG_KERNELS_SCALAR, 1, a ? RG_ACTIVATIONS_F32 : RG_ACTIVATIONS_INT8);
        struct rg_backend *vector =
            open_backend(best_kernels(), 2, a ? RG_ACTIVATIONS_F32 : RG_ACTIVATIONS_INT8);

        for (int round = 0; round < 20; round++)
            for (size_t k = 0; k < N_KINDS; k++) {
                const bool fp8 = KINDS[k].kind == RG_WEIGHT_FP8;
                const uint32_t rows = 1 + random_below(fp8 ? 270 : 30);
                const uint32_t cols =
                    fp8 ? 1 + random_below(300) : KINDS[k].group * (1 + random_below(6));

                if (a == 1 || KINDS[k].bits == 8) /* with int8 activations only the 8-bit kinds */
                    check_float_product(scalar, vector,
                                        coded_weight(&KINDS[k], 1, rows, cols, DTYPES[round % 3]));
            }
        rg_backend_close(scalar);
        rg_backend_close(vector);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dequantise_reads_every_kind),
        cmocka_unit_test(every_code_of_e4m3_has_its_value),
        cmocka_unit_test(every_code_of_e2m1_and_every_scale_has_its_value),
        cmocka_unit_test(every_scale_of_mxfp8_has_its_value),
        cmocka_unit_test(products_of_every_kind_are_the_same_in_every_table),
        cmocka_unit_test(a_product_takes_every_scale),
        cmocka_unit_test(extreme_nibbles_do_not_overflow),
        cmocka_unit_test(float_products_of_every_kind_are_the_same_in_every_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
