/* vector.h - small AVX2 pieces that several kernels share.
 *
 * The canonical dot's tree, rg_expf() in eight lanes, loads of weights as floats, and the unpacking
 * of 16 codes of any width up to 6 bits for two rows at once. */
#ifndef RG_COMPUTE_CPU_AVX2_VECTOR_H
#define RG_COMPUTE_CPU_AVX2_VECTOR_H

#include <immintrin.h>

#include "compute/cpu/formats.h"
#include "compute/math.h"

#define RG_INLINE static inline __attribute__((always_inline))

void rg_int8_avx2(const struct rg_int8_job *job);
void rg_int8_rows_avx2(const struct rg_int8_job *job);  /* layouts PLAIN and SPLIT   */
void rg_int8_tiles_avx2(const struct rg_int8_job *job); /* layouts TILE8 and TILE16  */
void rg_dequantise_avx2(const struct rg_matrix *m, uint32_t row, float *dst);
void rg_dots_avx2(const struct rg_dots_job *job);
void rg_mix_avx2(const struct rg_mix_job *job);

RG_INLINE __m128i rg_load128(const void *p)
{
    return _mm_loadu_si128((const __m128i *)p);
}

RG_INLINE __m256i rg_load256(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

/* 16 bytes of `low` and 16 of `high` */
RG_INLINE __m256i rg_load_pair(const void *low, const void *high)
{
    return _mm256_inserti128_si256(_mm256_castsi128_si256(rg_load128(low)), rg_load128(high), 1);
}

/* the same 16 bytes in both halves */
RG_INLINE __m256i rg_load_twice(const void *p)
{
    return _mm256_broadcastsi128_si256(rg_load128(p));
}

/* ((l0+l4)+(l2+l6))+((l1+l5)+(l3+l7)) */
RG_INLINE float rg_lanes_sum(__m256 v)
{
    const __m128 fours = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 twos = _mm_add_ps(fours, _mm_movehl_ps(fours, fours));

    return _mm_cvtss_f32(_mm_add_ss(twos, _mm_shuffle_ps(twos, twos, 1)));
}

/* All ones in the first n of 8 lanes. */
RG_INLINE __m256i rg_first_lanes(uint32_t n)
{
    const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);

    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), index);
}

/* 2^n per lane, -126 <= n <= 127 */
RG_INLINE __m256 rg_power_of_two8(__m256i n)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

/* rg_expf(), the same steps.  The operand order of max and min lets a NaN through. */
RG_INLINE __m256 rg_expf8(__m256 x)
{
    const __m256 round = _mm256_set1_ps(RG_EXPF_ROUND), one = _mm256_set1_ps(1.0f);
    __m256 n, r, p;
    __m256i whole, half;

    x = _mm256_min_ps(_mm256_set1_ps(RG_EXPF_MAX), x);
    x = _mm256_max_ps(_mm256_set1_ps(RG_EXPF_MIN), x);
    n = _mm256_sub_ps(_mm256_fmadd_ps(x, _mm256_set1_ps(RG_EXPF_LOG2E), round), round);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(RG_EXPF_LN2_HIGH), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(RG_EXPF_LN2_LOW), r);
    p = _mm256_set1_ps(RG_EXPF_C7);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(RG_EXPF_C6));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(RG_EXPF_C5));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(RG_EXPF_C4));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(RG_EXPF_C3));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(RG_EXPF_C2));
    p = _mm256_fmadd_ps(p, r, one);
    p = _mm256_fmadd_ps(p, r, one);
    whole = _mm256_cvtps_epi32(n);
    half = _mm256_srai_epi32(whole, 1);
    p = _mm256_mul_ps(p, rg_power_of_two8(half));
    return _mm256_mul_ps(p, rg_power_of_two8(_mm256_sub_epi32(whole, half)));
}

/* Eight floats of a checkpoint from element i on. */
RG_INLINE __m256 rg_load_float8(const uint8_t *p, enum rg_dtype dtype, size_t i)
{
    if (dtype == RG_DTYPE_BF16)
        return _mm256_castsi256_ps(
            _mm256_slli_epi32(_mm256_cvtepu16_epi32(rg_load128(p + 2 * i)), 16));
    if (dtype == RG_DTYPE_F16)
        return _mm256_cvtph_ps(rg_load128(p + 2 * i));
    return _mm256_castsi256_ps(rg_load256(p + 4 * i));
}

/* rg_e8m0() of the low eight bytes. */
RG_INLINE __m256 rg_e8m0_8(__m128i bytes)
{
    const __m256i code = _mm256_cvtepu8_epi32(bytes);
    const __m256i special = _mm256_or_si256(_mm256_cmpeq_epi32(code, _mm256_setzero_si256()),
                                            _mm256_cmpeq_epi32(code, _mm256_set1_epi32(255)));

    return _mm256_castsi256_ps(_mm256_or_si256(
        _mm256_slli_epi32(code, 23), _mm256_and_si256(special, _mm256_set1_epi32(0x00400000))));
}

/* rg_e4m3() of the low eight bytes. */
RG_INLINE __m256 rg_e4m3_8(__m128i bytes)
{
    const __m128i magnitude = _mm_and_si128(bytes, _mm_set1_epi8(0x7F));
    const __m128i half = _mm_slli_epi16(_mm_cvtepu8_epi16(magnitude), 7);
    const __m256 value = _mm256_mul_ps(_mm256_cvtph_ps(half), _mm256_set1_ps(256.0f));
    const __m256i sign =
        _mm256_slli_epi32(_mm256_cvtepu8_epi32(_mm_andnot_si128(_mm_set1_epi8(0x7F), bytes)), 24);
    const __m256i nan = _mm256_cvtepi8_epi32(_mm_cmpeq_epi8(magnitude, _mm_set1_epi8(0x7F)));

    return _mm256_blendv_ps(_mm256_or_ps(value, _mm256_castsi256_ps(sign)),
                            _mm256_castsi256_ps(_mm256_set1_epi32(RG_QUIET_NAN)),
                            _mm256_castsi256_ps(nan));
}

/* What rg_scale_at() gives for eight scales of one byte each. */
RG_INLINE __m256 rg_byte_scales8(enum rg_weight_kind kind, __m128i bytes)
{
    if (kind == RG_WEIGHT_MXFP8)
        return rg_e8m0_8(bytes);
    return _mm256_mul_ps(kind == RG_WEIGHT_NVFP4 ? rg_e4m3_8(bytes) : rg_e8m0_8(bytes),
                         _mm256_set1_ps(0.5f));
}

/* 2 * E2M1 + 12 of 4-bit codes, one a byte. */
RG_INLINE __m256i rg_e2m1_bytes(__m256i codes)
{
    const __m256i table = _mm256_setr_epi8(RG_E2M1_TABLE, RG_E2M1_TABLE);

    return _mm256_shuffle_epi8(table, codes);
}

/* What the byte of a code has too much: it is made for maddubs, which wants it unsigned. */
RG_INLINE int32_t rg_offset_of(enum rg_weight_kind kind)
{
    if (rg_is_e2m1(kind))
        return RG_E2M1_OFFSET;
    return kind == RG_WEIGHT_INT4 ? RG_INT4_OFFSET : 0;
}

/* ---- codes of 2, 3, 5 and 6 bits (of 4 too, but that has shorter ways) -------------------------
 *
 * 32 codes are 4 * bits bytes.  They are read as two registers of 16 bytes, which may overlap but
 * never reach past the last byte, and each gives 16 codes: a shuffle puts the two bytes that hold a
 * code into a 16-bit lane, a multiplication moves it to the top, a shift down. */

struct rg_unpack {
    __m256i shuffle[2][2]; /* of block 0 and 1 of 32 codes: its first and last 8 codes */
    __m256i multiply;
};

RG_INLINE void rg_unpack_init(struct rg_unpack *u, uint32_t bits)
{
    const uint32_t base[2] = {0, bits == 5 ? 4 : bits == 6 ? 8 : 0};
    uint8_t shuffle[32];
    uint16_t multiply[16];

    for (uint32_t part = 0; part < 4; part++) {
        for (uint32_t i = 0; i < 32; i++) {
            const uint32_t code = 8 * part + i % 16 / 2; /* of 32; both halves alike */
            const uint32_t byte = code * bits / 8 + i % 2 - base[part / 2];
            shuffle[i] = byte < 16 ? (uint8_t)byte : 0x80;
        }
        u->shuffle[part / 2][part % 2] = rg_load256(shuffle);
    }
    for (uint32_t i = 0; i < 16; i++)
        multiply[i] = (uint16_t)(1u << (16 - bits - i % 8 * bits % 8));
    u->multiply = rg_load256(multiply);
}

/* The two registers of the 32 codes at p. */
RG_INLINE void rg_unpack_load(__m128i raw[2], const uint8_t *p, uint32_t bits)
{
    uint32_t last;

    if (bits == 2) {
        raw[0] = raw[1] = _mm_loadl_epi64((const __m128i *)(const void *)p);
    } else if (bits == 3) {
        memcpy(&last, p + 8, sizeof(last));
        raw[0] = _mm_insert_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p), (int)last, 2);
        raw[1] = raw[0];
    } else {
        raw[0] = rg_load128(p);
        raw[1] = rg_load128(p + 4 * bits - 16);
    }
}

/* 16 codes per half as bytes, in order. */
RG_INLINE __m256i rg_unpack_codes(const struct rg_unpack *u, __m256i raw, uint32_t block,
                                  uint32_t bits)
{
    const __m256i first = _mm256_shuffle_epi8(raw, u->shuffle[block][0]);
    const __m256i last = _mm256_shuffle_epi8(raw, u->shuffle[block][1]);

    return _mm256_packus_epi16(
        _mm256_srli_epi16(_mm256_mullo_epi16(first, u->multiply), (int)(16 - bits)),
        _mm256_srli_epi16(_mm256_mullo_epi16(last, u->multiply), (int)(16 - bits)));
}

/* The 32 codes at p as bytes, in order. */
RG_INLINE __m256i rg_unpack_32(const struct rg_unpack *u, const uint8_t *p, uint32_t bits)
{
    __m128i raw[2];
    __m256i first, last;

    if (bits == 8)
        return rg_load256(p);
    if (bits == 4) { /* byte i holds codes 2i and 2i + 1 */
        const __m256i v = _mm256_cvtepu8_epi16(rg_load128(p));
        return _mm256_and_si256(_mm256_or_si256(v, _mm256_slli_epi16(v, 4)), _mm256_set1_epi8(15));
    }
    rg_unpack_load(raw, p, bits);
    first = rg_unpack_codes(u, _mm256_castsi128_si256(raw[0]), 0, bits);
    last = rg_unpack_codes(u, _mm256_castsi128_si256(raw[1]), 1, bits);
    return _mm256_permute2x128_si256(first, last, 0x20);
}

#endif
