/* kernel_helpers.h - kernel tables against each other, and against the formulas of kernels.h. */
#ifndef RG_TESTS_KERNEL_HELPERS_H
#define RG_TESTS_KERNEL_HELPERS_H

#include "support/compute_helpers.h"

static const enum rg_dtype DTYPES[] = {RG_DTYPE_BF16, RG_DTYPE_F16, RG_DTYPE_F32};

static inline const struct rg_kernels *vector_kernels(void)
{
    return rg_kernels_find(best_kernels());
}

static inline struct rg_matrix matrix_of(const struct test_weight *t)
{
    return (struct rg_matrix){.kind = t->desc.kind,
                              .factor = (float)global_of(&t->desc, 0),
                              .data = t->desc.data,
                              .scales = t->desc.scales,
                              .biases = t->desc.biases,
                              .dtype = t->desc.dtype,
                              .rows = t->desc.rows,
                              .cols = t->desc.cols,
                              .bits = t->desc.bits,
                              .group_size = t->desc.group_size};
}

static inline void check_dequantised(const struct test_weight *t)
{
    const struct rg_matrix m = matrix_of(t);
    float *rows[2] = {malloc(m.cols * 4), malloc(m.cols * 4)};

    for (uint32_t r = 0; r < m.rows; r++) {
        rg_kernels_scalar.dequantise(&m, r, rows[0]);
        vector_kernels()->dequantise(&m, r, rows[1]);
        assert_memory_equal(rows[0], rows[1], m.cols * 4);
        for (uint32_t c = 0; c < m.cols; c++)
            assert_true(fabs((double)rows[0][c] - weight_at(&t->desc, r, c)) <=
                        2e-7 * fabs(weight_at(&t->desc, r, c)) + 1e-8);
    }
    free(rows[0]);
    free(rows[1]);
}

/* y = W x of the backend, from position 0. */
static inline float *product(struct rg_backend *b, const struct test_weight *t, const float *x,
                             uint32_t n)
{
    struct rg_weight *w = open_weight(b, t);
    struct test_step step;
    float *y;

    begin_step(&step, b, 0, n);
    y = read_out(step.s, rg_op_linear(step.s, w, NULL, rg_op_input(step.s, x, n, t->desc.cols)));
    end_step(&step);
    rg_weight_close(w);
    return y;
}

/* What the int8 path multiplies by the activations, and its scale, by kernels.h. */
static inline int32_t integer_at(const struct rg_weight_desc *d, uint32_t row, uint32_t col)
{
    const uint32_t code = code_at(d, row, col);

    if (d->kind == RG_WEIGHT_AFFINE)
        return (int32_t)code;
    return d->kind == RG_WEIGHT_INT4 ? (int32_t)code - 8 : (int32_t)(2.0 * e2m1_value(code));
}

static inline float int8_scale_at(const struct rg_weight_desc *d, uint32_t row, uint32_t col)
{
    const bool e2m1 = d->kind == RG_WEIGHT_MXFP4 || d->kind == RG_WEIGHT_NVFP4;

    return (float)(scale_of(d, row, col) * (e2m1 ? 0.5 : 1.0));
}

/* A quantised product by the description in kernels.h. */
static inline float product_by_definition(const struct rg_weight_desc *d, uint32_t row,
                                          const float *x)
{
    float acc = 0.0f, accb = 0.0f;

    for (uint32_t g = 0; g < d->cols / d->group_size; g++) {
        float s = 0.0f;

        for (uint32_t c = g * d->group_size; c < (g + 1) * d->group_size; c += 16) {
            int8_t q[16];
            float scale;
            int32_t sum, dot = 0;

            rg_kernels_scalar.quantise(x + c, 16, q, &scale, &sum);
            for (uint32_t i = 0; i < 16; i++)
                dot += integer_at(d, row, c + i) * q[i];
            acc = fmaf(int8_scale_at(d, row, c) * scale, (float)dot, acc);
            s += scale * (float)sum;
        }
        if (d->kind == RG_WEIGHT_AFFINE)
            accb = fmaf(float_at(d->biases, d->dtype, (size_t)row * (d->cols / d->group_size) + g),
                        s, accb);
    }
    if (d->globals)
        return acc * (float_at(d->globals, RG_DTYPE_F32, row / d->rows) / 2688.0f);
    return d->kind == RG_WEIGHT_AFFINE ? acc + accb : acc;
}

/* Frees t. */
static inline void check_product(struct rg_backend *scalar, struct rg_backend *vector,
                                 struct test_weight t)
{
    const uint32_t rows = t.desc.rows, cols = t.desc.cols;
    const uint32_t n = random_below(2) ? 1 + random_below(7) : 8 + random_below(30);
    float *x = random_floats((size_t)n * cols);
    float *y[2] = {product(scalar, &t, x, n), product(vector, &t, x, n)};

    assert_memory_equal(y[0], y[1], (size_t)n * rows * 4);
    for (uint32_t i = 0; i < 4; i++) {
        const uint32_t r = random_below(rows), row_of_x = random_below(n);
        const float want = product_by_definition(&t.desc, r, x + (size_t)row_of_x * cols);
        assert_memory_equal(&y[0][(size_t)row_of_x * rows + r], &want, 4);
    }
    free(y[0]);
    free(y[1]);
    free(x);
    free_weight(&t);
}

/* Frees t. */
static inline void check_float_product(struct rg_backend *scalar, struct rg_backend *vector,
                                       struct test_weight t)
{
    const uint32_t n = 1 + random_below(12), rows = t.desc.rows, cols = t.desc.cols;
    float *x = random_floats((size_t)n * cols);
    float *y[2] = {product(scalar, &t, x, n), product(vector, &t, x, n)};

    assert_memory_equal(y[0], y[1], (size_t)n * rows * 4);
    for (uint32_t r = 0; r < rows; r++) {
        double want = 0.0, size = 0.0;

        for (uint32_t c = 0; c < cols; c++) {
            want += weight_at(&t.desc, r, c) * (double)x[c];
            size += fabs(weight_at(&t.desc, r, c) * (double)x[c]);
        }
        assert_true(fabs((double)y[0][r] - want) <= 1e-6 * size + 1e-12);
    }
    free(y[0]);
    free(y[1]);
    free(x);
    free_weight(&t);
}

#endif
