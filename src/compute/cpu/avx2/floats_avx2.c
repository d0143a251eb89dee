/* floats_avx2.c - the f32 path: rows as floats, the canonical dot, and weighted sums of rows. */
#include <math.h>

#include "compute/cpu/avx2/vector.h"

static void dequantise_floats(const struct rg_matrix *m, uint32_t row, float *dst)
{
    const uint8_t *p = m->data + (size_t)row * rg_matrix_row_bytes(m);
    uint32_t c = 0;

    for (; c + 8 <= m->cols; c += 8)
        _mm256_storeu_ps(dst + c, rg_load_float8(p, m->dtype, c));
    for (; c < m->cols; c++)
        dst[c] = rg_load_float(p, m->dtype, c);
}

RG_INLINE void dequantise_row(const struct rg_matrix *m, uint32_t row, float *dst, uint32_t bits)
{
    const uint8_t *p = m->data + (size_t)row * rg_matrix_row_bytes(m);
    const uint8_t *scales = m->scales + row * rg_matrix_scale_bytes(m);
    const uint8_t *biases = m->biases + row * rg_matrix_scale_bytes(m);
    uint8_t codes[32];
    struct rg_unpack u;

    rg_unpack_init(&u, bits == 8 || bits == 4 ? 6 : bits);
    for (uint32_t c = 0; c < m->cols; c += 32, p += 4 * bits) {
        const size_t g = c / m->group_size;
        const __m256 scale = _mm256_set1_ps(rg_load_float(scales, m->dtype, g));
        const __m256 bias = _mm256_set1_ps(rg_load_float(biases, m->dtype, g));

        _mm256_storeu_si256((__m256i *)(void *)codes, rg_unpack_32(&u, p, bits));
        for (uint32_t i = 0; i < 32; i += 8) {
            const __m128i eight = _mm_loadl_epi64((const __m128i *)(const void *)(codes + i));
            const __m256 code = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(eight));
            _mm256_storeu_ps(dst + c + i, _mm256_fmadd_ps(code, scale, bias));
        }
    }
}

/* int4, mxfp4 and nvfp4, 16 columns at a time. */
static void dequantise_nibbles(const struct rg_matrix *m, uint32_t row, float *dst)
{
    const uint8_t *p = m->data + (size_t)row * rg_matrix_row_bytes(m);
    const uint8_t *scales = rg_matrix_scales(m, row);
    const __m256i offset = _mm256_set1_epi32(rg_offset_of(m->kind));
    const __m128i mask = _mm_set1_epi8(15), table = _mm_setr_epi8(RG_E2M1_TABLE);
    const bool e2m1 = rg_is_e2m1(m->kind);

    for (uint32_t c = 0; c < m->cols; c += 16, p += 8) {
        const __m256 scale = _mm256_set1_ps(rg_scale_at(m, scales, c / m->group_size) * m->factor);
        const __m128i v = _mm_loadl_epi64((const __m128i *)(const void *)p);
        __m128i codes = _mm_and_si128(_mm_unpacklo_epi8(v, _mm_srli_epi16(v, 4)), mask);

        if (e2m1)
            codes = _mm_shuffle_epi8(table, codes);
        for (uint32_t i = 0; i < 16; i += 8) {
            const __m256i w = _mm256_sub_epi32(_mm256_cvtepu8_epi32(codes), offset);
            _mm256_storeu_ps(dst + c + i, _mm256_mul_ps(_mm256_cvtepi32_ps(w), scale));
            codes = _mm_srli_si128(codes, 8);
        }
    }
}

/* rg_f32_to_bf16() and back */
RG_INLINE __m256 round_to_bf16(__m256 x)
{
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), odd);
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));

    return _mm256_castsi256_ps(
        _mm256_and_si256(_mm256_blendv_epi8(up, quiet, nan), _mm256_set1_epi32((int)0xFFFF0000u)));
}

RG_INLINE __m256 e4m3_times(uint64_t eight, float scale, bool fp8)
{
    const __m256 w =
        _mm256_mul_ps(rg_e4m3_8(_mm_cvtsi64_si128((long long)eight)), _mm256_set1_ps(scale));

    return fp8 ? round_to_bf16(w) : w;
}

/* mxfp8 and fp8; of fp8 the columns are a multiple of nothing. */
static void dequantise_e4m3(const struct rg_matrix *m, uint32_t row, float *dst)
{
    const uint8_t *p = m->data + (size_t)row * rg_matrix_row_bytes(m);
    const uint8_t *scales = rg_matrix_scales(m, row);
    const bool fp8 = m->kind == RG_WEIGHT_FP8;
    const uint32_t whole = m->cols / 8 * 8;
    uint64_t eight;

    for (uint32_t c = 0; c < whole; c += 8) {
        memcpy(&eight, p + c, 8);
        _mm256_storeu_ps(dst + c,
                         e4m3_times(eight, rg_scale_at(m, scales, c / m->group_size), fp8));
    }
    if (whole == m->cols)
        return;
    eight = 0;
    memcpy(&eight, p + whole, m->cols - whole);
    _mm256_maskstore_ps(dst + whole, rg_first_lanes(m->cols - whole),
                        e4m3_times(eight, rg_scale_at(m, scales, whole / m->group_size), fp8));
}

static void dequantise_affine(const struct rg_matrix *m, uint32_t row, float *dst)
{
    switch (m->bits) {
    case 2:
        dequantise_row(m, row, dst, 2);
        break;
    case 3:
        dequantise_row(m, row, dst, 3);
        break;
    case 4:
        dequantise_row(m, row, dst, 4);
        break;
    case 5:
        dequantise_row(m, row, dst, 5);
        break;
    case 6:
        dequantise_row(m, row, dst, 6);
        break;
    default:
        dequantise_row(m, row, dst, 8);
        break;
    }
}

void rg_dequantise_avx2(const struct rg_matrix *m, uint32_t row, float *dst)
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

/* n_w x n_x dots from row r and row t on; an accumulator's eight lanes are the canonical ones.  The
 * tail's other lanes are left alone: adding zero would turn a -0 into +0. */
RG_INLINE void dots_block(const struct rg_dots_job *job, uint32_t r, uint32_t t, uint32_t n_w,
                          uint32_t n_x)
{
    const float *w = job->w + r * job->w_stride, *x = job->x + t * job->x_stride;
    const __m256i tail = rg_first_lanes(job->cols % 8);
    const uint32_t whole = job->cols / 8 * 8;
    __m256 acc[4][2];

    for (uint32_t i = 0; i < n_w; i++)
        for (uint32_t j = 0; j < n_x; j++)
            acc[i][j] = _mm256_setzero_ps();
    for (uint32_t c = 0; c < whole; c += 8)
        for (uint32_t j = 0; j < n_x; j++) {
            const __m256 xs = _mm256_loadu_ps(x + j * job->x_stride + c);
            for (uint32_t i = 0; i < n_w; i++)
                acc[i][j] =
                    _mm256_fmadd_ps(_mm256_loadu_ps(w + i * job->w_stride + c), xs, acc[i][j]);
        }
    for (uint32_t i = 0; i < n_w; i++)
        for (uint32_t j = 0; j < n_x; j++) {
            __m256 a = acc[i][j];

            if (whole < job->cols) {
                const __m256 ws = _mm256_maskload_ps(w + i * job->w_stride + whole, tail);
                const __m256 xs = _mm256_maskload_ps(x + j * job->x_stride + whole, tail);
                a = _mm256_blendv_ps(a, _mm256_fmadd_ps(ws, xs, a), _mm256_castsi256_ps(tail));
            }
            job->y[(t + j) * job->y_stride + r + i] = rg_lanes_sum(a);
        }
}

void rg_dots_avx2(const struct rg_dots_job *job)
{
    uint32_t r = 0, t;

    for (; r + 4 <= job->n_w; r += 4) {
        for (t = 0; t + 2 <= job->n_x; t += 2)
            dots_block(job, r, t, 4, 2);
        for (; t < job->n_x; t++)
            dots_block(job, r, t, 4, 1);
    }
    for (; r < job->n_w; r++)
        for (t = 0; t < job->n_x; t++)
            dots_block(job, r, t, 1, 1);
}

/* Columns [c, c + 8 n) of the weighted sum of query q. */
RG_INLINE void mix_columns(const struct rg_mix_job *job, uint32_t q, uint32_t c, uint32_t n)
{
    const float *p = job->p + q * job->p_stride;
    float *y = job->y + q * job->y_stride + c;
    __m256 acc[8];

    for (uint32_t i = 0; i < n; i++)
        acc[i] = _mm256_loadu_ps(y + 8 * i);
    for (uint32_t j = job->begin[q]; j < job->end[q]; j++) {
        const float *v = job->v + j * job->v_stride + c;
        const __m256 weight = _mm256_broadcast_ss(p + j);

        for (uint32_t i = 0; i < n; i++)
            acc[i] = _mm256_fmadd_ps(weight, _mm256_loadu_ps(v + 8 * i), acc[i]);
    }
    for (uint32_t i = 0; i < n; i++)
        _mm256_storeu_ps(y + 8 * i, acc[i]);
}

void rg_mix_avx2(const struct rg_mix_job *job)
{
    for (uint32_t q = 0; q < job->n_q; q++) {
        uint32_t c = 0;

        for (; c + 64 <= job->cols; c += 64)
            mix_columns(job, q, c, 8);
        for (; c + 8 <= job->cols; c += 8)
            mix_columns(job, q, c, 1);
        for (; c < job->cols; c++) {
            float *y = job->y + q * job->y_stride + c;
            for (uint32_t j = job->begin[q]; j < job->end[q]; j++)
                *y = fmaf(job->p[q * job->p_stride + j], job->v[j * job->v_stride + c], *y);
        }
    }
}
