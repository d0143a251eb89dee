/* kernels.h - the table of inner loops that an instruction set provides, and what they read.
 *
 * One table per set (scalar/, avx2/, later neon/); rg_kernels_find() picks one by what the CPU has.
 * Every function gives the same bits in every table: docs/ARCHITECTURE "Same bits" has the order,
 * and tests/unit/kernels_test.c compares each table with the scalar one by memcmp.
 *
 * Blocks     an activation row is quantised in blocks of 16: scale = amax / 127,
 *            q = round-half-even(x * (127 / amax)), both 0 when amax is 0 or so small that
 *            127 / amax is not finite.  A block that holds a NaN or infinity gets scale NaN and
 *            q 0, so that whatever is computed from it is NaN.
 * Product    of a weight row (an integer w per column, scale_w and bias_w per group) and such a
 * row:
 *            - acc  = fma(scale_w * scale_x, (float)sum(w * q), acc)     per block, ascending
 *            - s   += scale_x * (float)sum(q)            the group's blocks, ascending from 0
 *            - accb = fma(bias_w, s, accb)                               per group, ascending
 *            - y    = acc + accb for affine, acc * factor for the others, which have no bias
 * Kinds      of weights that the product takes:     w               scale_w             factor
 *            - affine                               code            scale               -
 *            - int4                                 code - 8        scale               1
 *            - mxfp4                                2 * E2M1(code)  2^(scale - 127) / 2 1
 *            - nvfp4                                2 * E2M1(code)  E4M3(scale) / 2     see below
 *            Every scale_w is exact: a half of 2^-127 is a denormal.  An E8M0 of 255 is NaN, and so
 *            are the E4M3 codes 0x7F and 0xFF.  factor is 1 without globals, else global / 2688,
 *            and multiplies the finished sum, as mlx does it.
 * Floats     of a weight: the float; affine fma(code, scale, bias); int4 and mxfp4 w * scale_w;
 *            nvfp4 w * (scale_w * factor); mxfp8 E4M3(code) * 2^(scale - 127); fp8
 *            bf16(E4M3(code) * scale), rounded to nearest even.
 * Dot        lane i mod 8 takes element i with fma, ascending, each lane from 0; result
 *            ((l0+l4)+(l2+l6))+((l1+l5)+(l3+l7)).  A tail fills its lanes only.
 * Threads    Pure: they write only what their arguments name. */
#ifndef RG_COMPUTE_CPU_KERNELS_H
#define RG_COMPUTE_CPU_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "checkpoint/safetensors.h"
#include "compute/compute.h"

enum {
    RG_Q8_BLOCK = 16,   /* activations per scale                                      */
    RG_TILE = 8,        /* tokens of one tile of a packed layout                       */
    RG_UNIT = 8,        /* weight rows are given to threads in multiples of this       */
    RG_PIECE = 64,      /* keys that attention takes at a time                         */
    RG_QUERIES = 32,    /* queries that attention works on together, at most           */
    RG_FP8_BLOCK = 128, /* rows and columns under one scale of fp8                     */
    RG_GROUP_SIZES = 3  /* weight groups of 32, 64 and 128 columns                    */
};

/* How a kernel wants quantised activations laid out. */
enum rg_layout {
    RG_LAYOUT_PLAIN,  /* rows of int8 in order                                           */
    RG_LAYOUT_SPLIT,  /* rows; of each 32 columns the 16 even ones, then the 16 odd ones  */
    RG_LAYOUT_TILE8,  /* tiles of 8 tokens: [cols / 4][8 tokens][4] int8                  */
    RG_LAYOUT_TILE16, /* tiles of 8 tokens: [cols / 2][8 tokens][2] int16                 */
    RG_LAYOUT_COUNT
};

/* One matrix [rows][cols] of a weight. */
struct rg_matrix {
    enum rg_weight_kind kind;
    const uint8_t *data;            /* codes or floats, unaligned */
    const uint8_t *scales, *biases; /* NULL where the kind has none */
    enum rg_dtype dtype;            /* of the floats, or of scales and biases */
    uint32_t rows, cols;
    uint32_t bits, group_size; /* 0, 0: floats */
    uint32_t first_row;        /* fp8: row 0 in the matrix that the scales are of */
    float factor;              /* nvfp4: global / 2688; 1 for all others          */
};

/* Rows of quantised activations as one product reads them.  A "line" is a row, or in a tiled layout
 * a tile; a view of some columns has its pointers moved and keeps the strides. */
struct rg_qx {
    enum rg_layout layout;
    uint32_t n; /* rows; the last tile may be partly empty, its rows are zero */
    const uint8_t *q;
    const float *scale; /* per line [cols / 16], tiles [cols / 16][8]                 */
    const int32_t *sum; /* sum(q) per block: rows only                                */
    /* TILE8, kinds without a bias: [cols / 16][8][2] sums over a block's columns of which the
     * number mod 4 is 0 or 1, and of the others */
    const int16_t *half_sums;
    const float *gsum; /* affine: s of its group size: per line [cols / group], tiles [..][8] */
    size_t q_stride, scale_stride, gsum_stride; /* between lines: bytes, floats, floats */
    size_t half_stride;
};

/* y[t * y_stride + r] for the rows [row_begin, row_end) of m and all rows t of x. */
struct rg_int8_job {
    const struct rg_matrix *m;
    const struct rg_qx *x;
    float *y;
    size_t y_stride;
    uint32_t row_begin, row_end;
    void *scratch; /* rg_kernels_scratch(m->cols) bytes, 64-byte aligned */
};

/* y[t * y_stride + r] = dot(w + r * w_stride, x + t * x_stride) for r < n_w, t < n_x. */
struct rg_dots_job {
    const float *w, *x;
    float *y;
    size_t w_stride, x_stride, y_stride;
    uint32_t n_w, n_x, cols;
};

/* y[q][c] = fma(p[q][j], v[j][c], y[q][c]) for j = begin[q] .. end[q] - 1 ascending. */
struct rg_mix_job {
    const float *p, *v;
    float *y;
    size_t p_stride, v_stride, y_stride;
    const uint32_t *begin, *end; /* [n_q] */
    uint32_t n_q, cols;
};

struct rg_kernels {
    const char *name;

    /* One row: q [cols], scale and sum [cols / 16]; cols a multiple of 16. */
    void (*quantise)(const float *x, uint32_t cols, int8_t *q, float *scale, int32_t *sum);
    /* The layout in which n rows of x are wanted for m. */
    enum rg_layout (*layout)(const struct rg_matrix *m, uint32_t n);
    void (*int8)(const struct rg_int8_job *job); /* kinds of rg_kind_is_integer() */

    /* Row r of m as floats, any kind. */
    void (*dequantise)(const struct rg_matrix *m, uint32_t row, float *dst);
    void (*dots)(const struct rg_dots_job *job);
    void (*mix)(const struct rg_mix_job *job);

    void (*f16_load)(float *dst, const uint16_t *src, size_t n);
    void (*f16_store)(uint16_t *dst, const float *src, size_t n);
    void (*scale_mul)(float *y, const float *x, float r, const float *w,
                      size_t n); /* (x * r) * w */
    void (*swiglu)(float *y, const float *gate, const float *up, size_t n);
    void (*exps)(float *p, size_t n, float shift); /* p = rg_expf(p - shift) */
};

/* NULL when this build or this CPU has no such kernels. */
const struct rg_kernels *rg_kernels_find(enum rg_cpu_kernels which);

extern const struct rg_kernels rg_kernels_scalar;
void rg_int8_scalar(const struct rg_int8_job *job); /* layouts PLAIN and SPLIT */

static inline size_t rg_kernels_scratch(uint32_t cols)
{
    return (size_t)cols * 16 + 256; /* four rows of floats */
}

static inline size_t rg_dtype_bytes(enum rg_dtype float_dtype)
{
    return float_dtype == RG_DTYPE_F32 ? 4 : 2;
}

static inline size_t rg_matrix_row_bytes(const struct rg_matrix *m)
{
    if (m->kind == RG_WEIGHT_FLOAT)
        return (size_t)m->cols * rg_dtype_bytes(m->dtype);
    return (size_t)m->cols * m->bits / 8;
}

/* Bytes of one row of scales, or of biases; fp8 has one such row for 128 rows. */
static inline size_t rg_matrix_scale_bytes(const struct rg_matrix *m)
{
    switch (m->kind) {
    case RG_WEIGHT_FLOAT:
        return 0;
    case RG_WEIGHT_MXFP4:
    case RG_WEIGHT_NVFP4:
    case RG_WEIGHT_MXFP8:
        return m->cols / m->group_size;
    case RG_WEIGHT_FP8:
        return ((size_t)m->cols + RG_FP8_BLOCK - 1) / RG_FP8_BLOCK * rg_dtype_bytes(m->dtype);
    default:
        return (size_t)(m->cols / m->group_size) * rg_dtype_bytes(m->dtype);
    }
}

/* The scales of a row. */
static inline const uint8_t *rg_matrix_scales(const struct rg_matrix *m, uint32_t row)
{
    const size_t line =
        m->kind == RG_WEIGHT_FP8 ? ((size_t)m->first_row + row) / RG_FP8_BLOCK : row;

    return m->scales + line * rg_matrix_scale_bytes(m);
}

/* True for the kinds that the product takes; the others take the f32 path. */
static inline bool rg_kind_is_integer(enum rg_weight_kind kind)
{
    return kind == RG_WEIGHT_AFFINE || kind == RG_WEIGHT_INT4 || kind == RG_WEIGHT_MXFP4 ||
           kind == RG_WEIGHT_NVFP4;
}

/* 0, 1, 2 for 32, 64, 128. */
static inline uint32_t rg_group_index(uint32_t group_size)
{
    return group_size == 32 ? 0 : group_size == 64 ? 1 : 2;
}

#endif
