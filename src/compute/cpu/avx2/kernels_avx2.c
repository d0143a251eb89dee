/* kernels_avx2.c - the AVX2 table and its row-wise kernels: quantise, 16-bit floats, swiglu, exp.
 *
 * Tails shorter than a vector are padded on the stack, so that every element takes the same steps.
 */
#include <math.h>

#include "compute/cpu/avx2/vector.h"

extern const struct rg_kernels rg_kernels_avx2;

static uint32_t greatest_lane(__m256i v)
{
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));

    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4E));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xB1));
    return (uint32_t)_mm_cvtsi128_si32(m);
}

static int32_t sum_of_codes(__m128i q)
{
    const __m256i pairs = _mm256_madd_epi16(_mm256_cvtepi8_epi16(q), _mm256_set1_epi16(1));
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));

    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4E));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xB1));
    return _mm_cvtsi128_si32(s);
}

static void quantise_block(const float *x, int8_t *q, float *scale, int32_t *sum)
{
    const __m256 a = _mm256_loadu_ps(x), b = _mm256_loadu_ps(x + 8);
    const __m256i magnitude = _mm256_set1_epi32(0x7FFFFFFF);
    const float amax = rg_f32_from_bits(
        greatest_lane(_mm256_max_epi32(_mm256_and_si256(_mm256_castps_si256(a), magnitude),
                                       _mm256_and_si256(_mm256_castps_si256(b), magnitude))));
    const float inverse = 127.0f / amax;
    __m256i words;
    __m128i codes;

    if (!isfinite(amax) || !isfinite(inverse)) {
        *scale = isfinite(amax) ? 0.0f : NAN;
        *sum = 0;
        memset(q, 0, RG_Q8_BLOCK);
        return;
    }
    words = _mm256_packs_epi32(_mm256_cvtps_epi32(_mm256_mul_ps(a, _mm256_set1_ps(inverse))),
                               _mm256_cvtps_epi32(_mm256_mul_ps(b, _mm256_set1_ps(inverse))));
    words = _mm256_permute4x64_epi64(words, 0xD8);
    codes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128((__m128i *)(void *)q, codes);
    *scale = amax / 127.0f;
    *sum = sum_of_codes(codes);
}

static void quantise(const float *x, uint32_t cols, int8_t *q, float *scale, int32_t *sum)
{
    for (uint32_t b = 0; b < cols / RG_Q8_BLOCK; b++)
        quantise_block(x + b * RG_Q8_BLOCK, q + b * RG_Q8_BLOCK, scale + b, sum + b);
}

static enum rg_layout layout(const struct rg_matrix *m, uint32_t n)
{
    if (m->cols % 32 != 0) /* an odd number of groups of nvfp4 */
        return RG_LAYOUT_PLAIN;
    if (n >= RG_TILE)
        return m->bits == 8 ? RG_LAYOUT_TILE16 : RG_LAYOUT_TILE8;
    return m->bits == 4 ? RG_LAYOUT_SPLIT : RG_LAYOUT_PLAIN;
}

void rg_int8_avx2(const struct rg_int8_job *job)
{
    if (job->m->cols % 32 != 0)
        rg_int8_scalar(job);
    else if (job->x->layout == RG_LAYOUT_TILE8 || job->x->layout == RG_LAYOUT_TILE16)
        rg_int8_tiles_avx2(job);
    else
        rg_int8_rows_avx2(job);
}

static void f16_load(float *dst, const uint16_t *src, size_t n)
{
    size_t i = 0;

    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(rg_load128(src + i)));
    for (; i < n; i++)
        dst[i] = rg_f16_to_f32(src[i]);
}

static void f16_store(uint16_t *dst, const float *src, size_t n)
{
    size_t i = 0;

    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(void *)(dst + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(src + i), _MM_FROUND_TO_NEAREST_INT));
    for (; i < n; i++)
        dst[i] = rg_f32_to_f16(src[i]);
}

static void scale_mul(float *y, const float *x, float r, const float *w, size_t n)
{
    const __m256 r8 = _mm256_set1_ps(r);
    size_t i = 0;

    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(y + i, _mm256_mul_ps(_mm256_mul_ps(_mm256_loadu_ps(x + i), r8),
                                              _mm256_loadu_ps(w + i)));
    for (; i < n; i++)
        y[i] = (x[i] * r) * w[i];
}

static __m256 swiglu8(__m256 gate, __m256 up)
{
    const __m256 minus = _mm256_xor_ps(gate, _mm256_set1_ps(-0.0f));
    const __m256 below = _mm256_add_ps(_mm256_set1_ps(1.0f), rg_expf8(minus));

    return _mm256_mul_ps(_mm256_div_ps(gate, below), up);
}

static void swiglu(float *y, const float *gate, const float *up, size_t n)
{
    size_t i = 0;

    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(y + i, swiglu8(_mm256_loadu_ps(gate + i), _mm256_loadu_ps(up + i)));
    if (i < n) {
        const __m256i lanes = rg_first_lanes((uint32_t)(n - i));
        _mm256_maskstore_ps(
            y + i, lanes,
            swiglu8(_mm256_maskload_ps(gate + i, lanes), _mm256_maskload_ps(up + i, lanes)));
    }
}

static void exps(float *p, size_t n, float shift)
{
    const __m256 s = _mm256_set1_ps(shift);
    size_t i = 0;

    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(p + i, rg_expf8(_mm256_sub_ps(_mm256_loadu_ps(p + i), s)));
    if (i < n) {
        const __m256i lanes = rg_first_lanes((uint32_t)(n - i));
        _mm256_maskstore_ps(p + i, lanes,
                            rg_expf8(_mm256_sub_ps(_mm256_maskload_ps(p + i, lanes), s)));
    }
}

const struct rg_kernels rg_kernels_avx2 = {
    .name = "avx2",
    .quantise = quantise,
    .layout = layout,
    .int8 = rg_int8_avx2,
    .dequantise = rg_dequantise_avx2,
    .dots = rg_dots_avx2,
    .mix = rg_mix_avx2,
    .f16_load = f16_load,
    .f16_store = f16_store,
    .scale_mul = scale_mul,
    .swiglu = swiglu,
    .exps = exps,
};
