/* kernels_scalar.c - the readable reference of every kernel, in plain C.
 *
 * It defines what the vector tables must give bit for bit; speed comes second. */
#include <assert.h>
#include <math.h>

#include "compute/cpu/formats.h"
#include "compute/math.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "checkpoints are little-endian");

static void quantise_block(const float *x, int8_t *q, float *scale, int32_t *sum)
{
    uint32_t amax_bits = 0; /* of floats >= 0 the bits order as the values do, a NaN above all */
    float amax, inverse;

    for (int i = 0; i < RG_Q8_BLOCK; i++) {
        const uint32_t magnitude = rg_f32_bits(x[i]) & 0x7FFFFFFFu;
        amax_bits = magnitude > amax_bits ? magnitude : amax_bits;
    }
    amax = rg_f32_from_bits(amax_bits);
    inverse = 127.0f / amax;
    *sum = 0;
    if (!isfinite(amax) || !isfinite(inverse)) {
        *scale = isfinite(amax) ? 0.0f : NAN;
        memset(q, 0, RG_Q8_BLOCK);
        return;
    }
    *scale = amax / 127.0f;
    for (int i = 0; i < RG_Q8_BLOCK; i++) {
        /* Adding 1.5 * 2^23 and taking it away rounds to an integer, ties to even. */
        const float rounded = (x[i] * inverse + 0x1.8p+23f) - 0x1.8p+23f;
        q[i] = (int8_t)rounded;
        *sum += q[i];
    }
}

static void quantise(const float *x, uint32_t cols, int8_t *q, float *scale, int32_t *sum)
{
    for (uint32_t b = 0; b < cols / RG_Q8_BLOCK; b++)
        quantise_block(x + b * RG_Q8_BLOCK, q + b * RG_Q8_BLOCK, scale + b, sum + b);
}

static enum rg_layout layout(const struct rg_matrix *m, uint32_t n)
{
    (void)m;
    (void)n;
    return RG_LAYOUT_PLAIN;
}

/* The integers of a row: 8 codes are `bits` whole bytes of the stream. */
static void unpack_row(const struct rg_matrix *m, uint32_t row, int16_t *w)
{
    const uint8_t *p = m->data + (size_t)row * rg_matrix_row_bytes(m);
    const uint32_t bits = m->bits;
    const uint64_t mask = (1u << bits) - 1;

    for (uint32_t c = 0; c < m->cols; c += 8, p += bits) {
        uint64_t stream = 0;

        memcpy(&stream, p, bits);
        for (uint32_t i = 0; i < 8; i++)
            w[c + i] = rg_integer(m->kind, (uint8_t)((stream >> (i * bits)) & mask));
    }
}

static int32_t dot_block_plain(const int16_t *w, const int8_t *q)
{
    int32_t total = 0;

    for (int i = 0; i < RG_Q8_BLOCK; i++)
        total += w[i] * q[i];
    return total;
}

/* The block that begins at column c, of activations whose even and odd columns stand apart. */
static int32_t dot_block_split(const int16_t *w, const int8_t *q, uint32_t c)
{
    const int8_t *even = q + c / 32 * 32 + c % 32 / 2;
    int32_t total = 0;

    for (int i = 0; i < RG_Q8_BLOCK / 2; i++)
        total += w[c + 2u * (uint32_t)i] * even[i] + w[c + 2u * (uint32_t)i + 1] * even[16 + i];
    return total;
}

static float product_row(const struct rg_int8_job *job, const int16_t *w, uint32_t row,
                         uint32_t token)
{
    const struct rg_matrix *m = job->m;
    const struct rg_qx *x = job->x;
    const int8_t *q = (const int8_t *)(x->q + token * x->q_stride);
    const float *scale_x = x->scale + token * x->scale_stride;
    const uint8_t *scales = rg_matrix_scales(m, row);
    float acc = 0.0f, accb = 0.0f;

    for (uint32_t g = 0; g < m->cols / m->group_size; g++) {
        const float scale_w = rg_scale_at(m, scales, g);

        for (uint32_t c = g * m->group_size; c < (g + 1) * m->group_size; c += RG_Q8_BLOCK) {
            const int32_t dot = x->layout == RG_LAYOUT_SPLIT ? dot_block_split(w, q, c)
                                                             : dot_block_plain(w + c, q + c);
            acc = fmaf(scale_w * scale_x[c / RG_Q8_BLOCK], (float)dot, acc);
        }
    }
    if (m->kind != RG_WEIGHT_AFFINE)
        return acc * m->factor;
    for (uint32_t g = 0; g < m->cols / m->group_size; g++)
        accb = fmaf(rg_load_float(m->biases + row * rg_matrix_scale_bytes(m), m->dtype, g),
                    x->gsum[token * x->gsum_stride + g], accb);
    return acc + accb;
}

void rg_int8_scalar(const struct rg_int8_job *job)
{
    int16_t *w = job->scratch;

    assert(job->x->layout == RG_LAYOUT_PLAIN || job->x->layout == RG_LAYOUT_SPLIT);
    assert(rg_kind_is_integer(job->m->kind));
    for (uint32_t r = job->row_begin; r < job->row_end; r++) {
        unpack_row(job->m, r, w);
        for (uint32_t t = 0; t < job->x->n; t++)
            job->y[t * job->y_stride + r] = product_row(job, w, r, t);
    }
}

static void dequantise_floats(const struct rg_matrix *m, uint32_t row, float *dst)
{
    const uint8_t *p = m->data + (size_t)row * rg_matrix_row_bytes(m);

    for (uint32_t c = 0; c < m->cols; c++)
        dst[c] = rg_load_float(p, m->dtype, c);
}

static void dequantise_affine(const struct rg_matrix *m, uint32_t row, float *dst)
{
    const uint8_t *p = m->data + (size_t)row * rg_matrix_row_bytes(m);
    const uint8_t *scales = rg_matrix_scales(m, row);
    const uint8_t *biases = m->biases + row * rg_matrix_scale_bytes(m);

    for (uint32_t c = 0; c < m->cols; c += 8, p += m->bits) {
        const float scale = rg_load_float(scales, m->dtype, c / m->group_size);
        const float bias = rg_load_float(biases, m->dtype, c / m->group_size);
        uint64_t stream = 0;

        memcpy(&stream, p, m->bits);
        for (uint32_t i = 0; i < 8; i++, stream >>= m->bits)
            dst[c + i] = fmaf((float)(stream & ((1u << m->bits) - 1)), scale, bias);
    }
}

static void dequantise_nibbles(const struct rg_matrix *m, uint32_t row, float *dst)
{
    const uint8_t *p = m->data + (size_t)row * rg_matrix_row_bytes(m);
    const uint8_t *scales = rg_matrix_scales(m, row);

    for (uint32_t c = 0; c < m->cols; c += 2) {
        const float scale = rg_scale_at(m, scales, c / m->group_size) * m->factor;
        const uint8_t pair = p[c / 2];

        dst[c] = (float)rg_integer(m->kind, pair & 15) * scale;
        dst[c + 1] = (float)rg_integer(m->kind, pair >> 4) * scale;
    }
}

static void dequantise_e4m3(const struct rg_matrix *m, uint32_t row, float *dst)
{
    const uint8_t *p = m->data + (size_t)row * rg_matrix_row_bytes(m);
    const uint8_t *scales = rg_matrix_scales(m, row);

    for (uint32_t c = 0; c < m->cols; c++) {
        const float w = rg_e4m3(p[c]) * rg_scale_at(m, scales, c / m->group_size);

        dst[c] = m->kind == RG_WEIGHT_FP8 ? rg_bf16_to_f32(rg_f32_to_bf16(w)) : w;
    }
}

static void dequantise(const struct rg_matrix *m, uint32_t row, float *dst)
{
    switch (m->kind) {
    case RG_WEIGHT_FLOAT:
        dequantise_floats(m, row, dst);
        break;
    case RG_WEIGHT_AFFINE:
        dequantise_affine(m, row, dst);
        break;
    case RG_WEIGHT_MXFP8:
    case RG_WEIGHT_FP8:
        dequantise_e4m3(m, row, dst);
        break;
    default:
        dequantise_nibbles(m, row, dst);
        break;
    }
}

static float dot(const float *a, const float *b, uint32_t n)
{
    float l[8] = {0};

    for (uint32_t i = 0; i < n; i++)
        l[i % 8] = fmaf(a[i], b[i], l[i % 8]);
    return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]));
}

static void dots(const struct rg_dots_job *job)
{
    for (uint32_t r = 0; r < job->n_w; r++)
        for (uint32_t t = 0; t < job->n_x; t++)
            job->y[t * job->y_stride + r] =
                dot(job->w + r * job->w_stride, job->x + t * job->x_stride, job->cols);
}

static void mix(const struct rg_mix_job *job)
{
    for (uint32_t i = 0; i < job->n_q; i++) {
        float *y = job->y + i * job->y_stride;

        for (uint32_t j = job->begin[i]; j < job->end[i]; j++) {
            const float p = job->p[i * job->p_stride + j];
            const float *v = job->v + j * job->v_stride;

            for (uint32_t c = 0; c < job->cols; c++)
                y[c] = fmaf(p, v[c], y[c]);
        }
    }
}

static void f16_load(float *dst, const uint16_t *src, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = rg_f16_to_f32(src[i]);
}

static void f16_store(uint16_t *dst, const float *src, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = rg_f32_to_f16(src[i]);
}

static void scale_mul(float *y, const float *x, float r, const float *w, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (x[i] * r) * w[i];
}

static void swiglu(float *y, const float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = gate[i] / (1.0f + rg_expf(-gate[i])) * up[i];
}

static void exps(float *p, size_t n, float shift)
{
    for (size_t i = 0; i < n; i++)
        p[i] = rg_expf(p[i] - shift);
}

const struct rg_kernels rg_kernels_scalar = {
    .name = "scalar",
    .quantise = quantise,
    .layout = layout,
    .int8 = rg_int8_scalar,
    .dequantise = dequantise,
    .dots = dots,
    .mix = mix,
    .f16_load = f16_load,
    .f16_store = f16_store,
    .scale_mul = scale_mul,
    .swiglu = swiglu,
    .exps = exps,
};
