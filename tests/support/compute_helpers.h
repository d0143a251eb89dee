/* compute_helpers.h - random weights, inputs and backends for the tests of compute/.
 *
 * Every weight tensor ends exactly at the end of its heap block, at an odd address, so that
 * AddressSanitizer sees a kernel that reads past it. */
#ifndef RG_TESTS_COMPUTE_HELPERS_H
#define RG_TESTS_COMPUTE_HELPERS_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "compute/compute.h"
#include "compute/cpu/kernels.h"
#include "compute/half.h"

static uint64_t helper_state = 0x9E3779B97F4A7C15ull;

static inline uint32_t random_u32(void)
{
    helper_state ^= helper_state << 13;
    helper_state ^= helper_state >> 7;
    helper_state ^= helper_state << 17;
    return (uint32_t)(helper_state >> 16);
}

static inline uint32_t random_below(uint32_t n)
{
    return random_u32() % n;
}

static inline float random_float(void) /* [-1, 1) */
{
    return (float)(random_u32() >> 8) * 0x1p-23f - 1.0f;
}

/* n floats, mostly in [-1, 1), with zeros, whole blocks of zeros, large and tiny ones. */
static inline float *random_floats(size_t n)
{
    float *x = malloc((n ? n : 1) * sizeof(*x));

    for (size_t i = 0; i < n; i++) {
        const uint32_t kind = random_below(64);
        x[i] = random_float();
        if (kind == 0)
            x[i] *= 1000.0f;
        else if (kind == 1)
            x[i] *= 1e-30f;
        else if (kind == 2)
            x[i] = 0.0f;
    }
    for (size_t i = 0; i + 16 <= n; i += 16)
        if (random_below(16) == 0)
            memset(x + i, 0, 16 * sizeof(*x));
    return x;
}

struct test_weight {
    struct rg_weight_desc desc;
    uint8_t *blocks[3]; /* what to free */
};

static inline uint8_t *odd_block(struct test_weight *t, int i, size_t bytes)
{
    const size_t off = 1 + 2 * (size_t)random_below(8);

    t->blocks[i] = malloc(bytes + off);
    return t->blocks[i] + off;
}

static inline void put_float(uint8_t *p, enum rg_dtype dtype, size_t i, float f)
{
    const uint16_t half = dtype == RG_DTYPE_BF16 ? rg_f32_to_bf16(f) : rg_f32_to_f16(f);

    if (dtype == RG_DTYPE_F32)
        memcpy(p + 4 * i, &f, 4);
    else
        memcpy(p + 2 * i, &half, 2);
}

static inline size_t dtype_bytes(enum rg_dtype dtype)
{
    return dtype == RG_DTYPE_F32 ? 4 : 2;
}

static inline struct test_weight affine_weight(uint32_t lead, uint32_t rows, uint32_t cols,
                                               uint32_t bits, uint32_t group, enum rg_dtype dtype)
{
    const size_t codes = (size_t)lead * rows * cols * bits / 8;
    const size_t groups = (size_t)lead * rows * (cols / group);
    const int extreme = random_below(8) == 0;
    struct test_weight t = {.desc = {.kind = RG_WEIGHT_AFFINE,
                                     .lead = lead,
                                     .rows = rows,
                                     .cols = cols,
                                     .bits = bits,
                                     .group_size = group,
                                     .dtype = dtype,
                                     .name = "test.affine"}};
    uint8_t *data = odd_block(&t, 0, codes);
    uint8_t *scales = odd_block(&t, 1, groups * dtype_bytes(dtype));
    uint8_t *biases = odd_block(&t, 2, groups * dtype_bytes(dtype));

    for (size_t i = 0; i < codes; i++)
        data[i] = extreme ? 0xFF : (uint8_t)random_u32();
    for (size_t i = 0; i < groups; i++) {
        put_float(scales, dtype, i, random_float() * 0.02f); /* of both signs */
        put_float(biases, dtype, i, random_float() * 0.2f);
    }
    t.desc.data = data;
    t.desc.scales = scales;
    t.desc.biases = biases;
    t.desc.bytes = codes + 2 * groups * dtype_bytes(dtype);
    return t;
}

static inline struct test_weight float_weight(uint32_t lead, uint32_t rows, uint32_t cols,
                                              enum rg_dtype dtype)
{
    const size_t n = (size_t)lead * rows * cols;
    struct test_weight t = {.desc = {.kind = RG_WEIGHT_FLOAT,
                                     .lead = lead,
                                     .rows = rows,
                                     .cols = cols,
                                     .dtype = dtype,
                                     .name = "test.float"}};
    uint8_t *data = odd_block(&t, 0, n * dtype_bytes(dtype));

    for (size_t i = 0; i < n; i++)
        put_float(data, dtype, i, random_float());
    t.desc.data = data;
    t.desc.bytes = n * dtype_bytes(dtype);
    return t;
}

/* ---- the kinds without a bias ---------------------------------------------------------------- */

static const struct kind_shape {
    enum rg_weight_kind kind;
    uint32_t bits, group;
    const char *name;
} KINDS[] = {{RG_WEIGHT_MXFP4, 4, 32, "test.mxfp4"},   {RG_WEIGHT_NVFP4, 4, 16, "test.nvfp4"},
             {RG_WEIGHT_MXFP8, 8, 32, "test.mxfp8"},   {RG_WEIGHT_INT4, 4, 32, "test.int4"},
             {RG_WEIGHT_FP8, 8, 128, "test.fp8"},      {RG_WEIGHT_INT4, 4, 96, "test.int4.96"},
             {RG_WEIGHT_INT4, 4, 128, "test.int4.128"}};
enum { N_KINDS = sizeof(KINDS) / sizeof(KINDS[0]) };

static inline bool byte_scales(enum rg_weight_kind kind)
{
    return kind == RG_WEIGHT_MXFP4 || kind == RG_WEIGHT_NVFP4 || kind == RG_WEIGHT_MXFP8;
}

/* Scales of one matrix. */
static inline size_t scale_count(const struct rg_weight_desc *d)
{
    if (d->kind == RG_WEIGHT_FP8)
        return (size_t)((d->rows + 127) / 128) * ((d->cols + 127) / 128);
    return (size_t)d->rows * (d->cols / d->group_size);
}

/* A byte of E4M3 that is no NaN. */
static inline uint8_t random_e4m3(void)
{
    const uint8_t code = (uint8_t)random_u32();

    return (code & 0x7F) == 0x7F ? (uint8_t)(code ^ 1) : code;
}

static inline void fill_scales(struct test_weight *t, uint8_t *scales, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (t->desc.kind == RG_WEIGHT_NVFP4)
            scales[i] = random_e4m3();
        else if (byte_scales(t->desc.kind))
            scales[i] = (uint8_t)(120 + random_below(10));
        else
            put_float(scales, t->desc.dtype, i, random_float() * 0.02f);
    }
}

/* A weight of one of KINDS; dtype counts for int4 and fp8.  Every other nvfp4 has globals. */
static inline struct test_weight coded_weight(const struct kind_shape *k, uint32_t lead,
                                              uint32_t rows, uint32_t cols, enum rg_dtype dtype)
{
    const size_t codes = (size_t)lead * rows * cols * k->bits / 8;
    struct test_weight t = {.desc = {.kind = k->kind,
                                     .lead = lead,
                                     .rows = rows,
                                     .cols = cols,
                                     .bits = k->bits,
                                     .group_size = k->group,
                                     .dtype = byte_scales(k->kind) ? RG_DTYPE_U8 : dtype,
                                     .name = k->name}};
    const size_t scales = lead * scale_count(&t.desc);
    const size_t scale_bytes = scales * (byte_scales(k->kind) ? 1 : dtype_bytes(dtype));
    uint8_t *data = odd_block(&t, 0, codes), *s = odd_block(&t, 1, scale_bytes), *globals;

    for (size_t i = 0; i < codes; i++)
        data[i] = k->bits == 8 ? random_e4m3() : (uint8_t)random_u32();
    fill_scales(&t, s, scales);
    t.desc.data = data;
    t.desc.scales = s;
    t.desc.bytes = codes + scale_bytes;
    if (k->kind == RG_WEIGHT_NVFP4 && random_below(2)) {
        globals = odd_block(&t, 2, (size_t)lead * 4);
        for (uint32_t i = 0; i < lead; i++)
            put_float(globals, RG_DTYPE_F32, i, 100.0f + 50.0f * random_float());
        t.desc.globals = globals;
        t.desc.bytes += (size_t)lead * 4;
    }
    return t;
}

static inline void free_weight(struct test_weight *t)
{
    for (int i = 0; i < 3; i++)
        free(t->blocks[i]);
}

/* Code i of row r of matrix m by the definition of the bit stream. */
static inline uint32_t code_at(const struct rg_weight_desc *d, size_t row, uint32_t col)
{
    const uint8_t *p = d->data + row * ((size_t)d->cols * d->bits / 8);
    uint32_t code = 0;

    for (uint32_t b = 0; b < d->bits; b++) {
        const size_t bit = (size_t)col * d->bits + b;
        code |= (uint32_t)((p[bit / 8] >> (bit % 8)) & 1) << b;
    }
    return code;
}

static inline float float_at(const uint8_t *p, enum rg_dtype dtype, size_t i)
{
    uint16_t half;
    float f;

    if (dtype == RG_DTYPE_F32) {
        memcpy(&f, p + 4 * i, 4);
        return f;
    }
    memcpy(&half, p + 2 * i, 2);
    return dtype == RG_DTYPE_BF16 ? rg_bf16_to_f32(half) : rg_f16_to_f32(half);
}

static inline double e2m1_value(uint32_t code)
{
    const int exponent = (int)(code >> 1 & 3), mantissa = (int)(code & 1);
    const double magnitude = exponent ? ldexp(1.0 + 0.5 * mantissa, exponent - 1) : 0.5 * mantissa;

    return code & 8 ? -magnitude : magnitude;
}

static inline double e4m3_value(uint32_t code)
{
    const int exponent = (int)(code >> 3 & 15), mantissa = (int)(code & 7);
    const double magnitude =
        exponent ? ldexp(1.0 + mantissa / 8.0, exponent - 7) : ldexp(mantissa / 8.0, -6);

    if ((code & 0x7F) == 0x7F)
        return (double)NAN;
    return code & 0x80 ? -magnitude : magnitude;
}

static inline double e8m0_value(uint32_t code)
{
    return code == 255 ? (double)NAN : ldexp(1.0, (int)code - 127);
}

/* The scale of W[row][col] as stored; row counts over lead too. */
static inline double scale_of(const struct rg_weight_desc *d, size_t row, uint32_t col)
{
    const size_t g = row * (d->cols / d->group_size) + col / d->group_size;
    const size_t lines = (d->rows + 127) / 128, wide = (d->cols + 127) / 128;

    switch (d->kind) {
    case RG_WEIGHT_NVFP4:
        return e4m3_value(d->scales[g]);
    case RG_WEIGHT_MXFP4:
    case RG_WEIGHT_MXFP8:
        return e8m0_value(d->scales[g]);
    case RG_WEIGHT_FP8:
        return (double)float_at(d->scales, d->dtype,
                                (row / d->rows * lines + row % d->rows / 128) * wide + col / 128);
    default:
        return (double)float_at(d->scales, d->dtype, g);
    }
}

/* What multiplies the whole of a matrix; row counts over lead too. */
static inline double global_of(const struct rg_weight_desc *d, size_t row)
{
    return d->globals ? (double)float_at(d->globals, RG_DTYPE_F32, row / d->rows) / (448.0 * 6.0)
                      : 1.0;
}

/* W[row][col] in double; row counts over lead too.  By the formulas of weight.h. */
static inline double weight_at(const struct rg_weight_desc *d, size_t row, uint32_t col)
{
    uint32_t code;

    if (d->kind == RG_WEIGHT_FLOAT)
        return (double)float_at(d->data, d->dtype, row * d->cols + col);
    code = code_at(d, row, col);
    switch (d->kind) {
    case RG_WEIGHT_MXFP4:
    case RG_WEIGHT_NVFP4:
        return e2m1_value(code) * scale_of(d, row, col) * global_of(d, row);
    case RG_WEIGHT_MXFP8:
        return e4m3_value(code) * scale_of(d, row, col);
    case RG_WEIGHT_FP8: /* exact in double: rounded to f32 once, then to bf16 */
        return (double)rg_bf16_to_f32(
            rg_f32_to_bf16((float)(e4m3_value(code) * scale_of(d, row, col))));
    case RG_WEIGHT_INT4:
        return ((double)code - 8.0) * scale_of(d, row, col);
    default:
        return (double)code * scale_of(d, row, col) +
               (double)float_at(d->biases, d->dtype,
                                row * (d->cols / d->group_size) + col / d->group_size);
    }
}

/* The same bits, or a NaN in both. */
static inline void assert_same_floats(const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isnan(a[i]) || !isnan(b[i]))
            assert_memory_equal(a + i, b + i, sizeof(*a));
}

static inline struct rg_backend *open_backend(enum rg_cpu_kernels kernels, uint32_t threads,
                                              enum rg_activations activations)
{
    const struct rg_backend_options options = {
        .threads = threads, .kernels = kernels, .activations = activations};
    struct rg_backend *b = NULL;

    assert_int_equal(rg_backend_open(&b, &options, NULL), RG_OK);
    return b;
}

static inline struct rg_weight *open_weight(struct rg_backend *b, const struct test_weight *t)
{
    struct rg_weight *w = NULL;

    assert_int_equal(rg_weight_open(&w, b, &t->desc, NULL), RG_OK);
    return w;
}

/* The vector kernels of this machine; SCALAR when it has none. */
static inline enum rg_cpu_kernels best_kernels(void)
{
    return rg_kernels_find(RG_KERNELS_AVX2)   ? RG_KERNELS_AVX2
           : rg_kernels_find(RG_KERNELS_NEON) ? RG_KERNELS_NEON
                                              : RG_KERNELS_SCALAR;
}

/* A step of n rows of one sequence from position 0; its blocks are 0, 1, 2, ... */
struct test_step {
    struct rg_seq_rows seq;
    struct rg_batch batch;
    uint32_t blocks[64];
    struct rg_step *s;
};

static inline void begin_step(struct test_step *t, struct rg_backend *b, uint32_t position,
                              uint32_t n)
{
    for (uint32_t i = 0; i < 64; i++)
        t->blocks[i] = i;
    t->seq = (struct rg_seq_rows){.n_rows = n, .position = position, .blocks = t->blocks};
    t->batch = (struct rg_batch){.seqs = &t->seq, .n_seqs = 1, .n_rows = n};
    assert_int_equal(rg_step_begin(&t->s, b, &t->batch, NULL), RG_OK);
}

static inline void end_step(struct test_step *t)
{
    assert_int_equal(rg_step_end(t->s, NULL), RG_OK);
}

/* Reads t out; free() it. */
static inline float *read_out(struct rg_step *s, const struct rg_tensor *t)
{
    float *y;

    assert_non_null(t);
    y = malloc(((size_t)rg_tensor_rows(t) * rg_tensor_cols(t) + 1) * sizeof(*y));
    assert_int_equal(rg_tensor_read(s, t, y, NULL), RG_OK);
    return y;
}

#endif
