/* int8_rows_avx2.c - quantised weights times a few rows (decode).
 *
 * Eight weight rows at a time, lane = row, so every lane runs the canonical order by itself.  A
 * register holds 16 codes of row i and 16 of row i + 4; three horizontal adds over the four
 * registers leave the eight rows' block sums in row order.  4-bit codes stay two to a byte: low
 * nibbles meet the even activations, high ones the odd (layout SPLIT), and a register holds 32
 * codes of each row. 8-bit codes become signed, code - 128, so that |code| * sign(x) fits maddubs
 * (128 * 127 * 2 < 2^15), and 128 * sum(x) is added to the integer sum.  The signed integers of
 * int4 and E2M1 get an offset, E2M1 by a table in a shuffle, and offset * sum(x) is taken away: at
 * most 24 * 127 * 8 in 16 bits.  Scales of 8 rows x 8 groups come in by one transpose. Prefetch
 * runs linearly, one block of rows and AHEAD bytes in front: measured at 0.75 of a thread's read
 * speed, against 0.64 when each row prefetched itself one block ahead, 0.42 half a block. */
#include <assert.h>

#include "compute/cpu/avx2/vector.h"

enum { ROWS = 8, GROUPS = 8, AHEAD = 2048 };

/* Scales or biases of 8 rows and up to 8 groups as floats, [group][row]. */
struct scale_block {
    float v[GROUPS][ROWS] __attribute__((aligned(32)));
};

static void transpose_16bit(__m128i col[8], const uint8_t *p, size_t stride)
{
    __m128i r[8], a[8], b[8];

    for (size_t i = 0; i < 8; i++)
        r[i] = rg_load128(p + i * stride);
    for (int i = 0; i < 4; i++) {
        a[2 * i] = _mm_unpacklo_epi16(r[2 * i], r[2 * i + 1]);
        a[2 * i + 1] = _mm_unpackhi_epi16(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++) {
        b[4 * i] = _mm_unpacklo_epi32(a[4 * i], a[4 * i + 2]);
        b[4 * i + 1] = _mm_unpackhi_epi32(a[4 * i], a[4 * i + 2]);
        b[4 * i + 2] = _mm_unpacklo_epi32(a[4 * i + 1], a[4 * i + 3]);
        b[4 * i + 3] = _mm_unpackhi_epi32(a[4 * i + 1], a[4 * i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        col[2 * i] = _mm_unpacklo_epi64(b[i], b[i + 4]);
        col[2 * i + 1] = _mm_unpackhi_epi64(b[i], b[i + 4]);
    }
}

/* Eight rows of eight bytes: column i is the low half of col[i]. */
static void transpose_8bit(__m128i col[8], const uint8_t *p, size_t stride)
{
    __m128i a[4], b[4], c[4];

    for (size_t i = 0; i < 4; i++)
        a[i] = _mm_unpacklo_epi8(
            _mm_loadl_epi64((const __m128i *)(const void *)(p + 2 * i * stride)),
            _mm_loadl_epi64((const __m128i *)(const void *)(p + (2 * i + 1) * stride)));
    for (int i = 0; i < 2; i++) {
        b[2 * i] = _mm_unpacklo_epi16(a[2 * i], a[2 * i + 1]);
        b[2 * i + 1] = _mm_unpackhi_epi16(a[2 * i], a[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++) {
        c[2 * i] = _mm_unpacklo_epi32(b[i], b[i + 2]);
        c[2 * i + 1] = _mm_unpackhi_epi32(b[i], b[i + 2]);
    }
    for (int i = 0; i < 4; i++) {
        col[2 * i] = c[i];
        col[2 * i + 1] = _mm_unpackhi_epi64(c[i], c[i]);
    }
}

RG_INLINE size_t scale_size(const struct rg_matrix *m, enum rg_weight_kind kind)
{
    return rg_is_e2m1(kind) ? 1 : rg_dtype_bytes(m->dtype);
}

/* Groups [g, g + n) of the rows at p; returns the index in s of group g.  A rest of fewer than 8 is
 * read together with the groups before it. */
RG_INLINE uint32_t load_scales(struct scale_block *s, const struct rg_matrix *m, const uint8_t *p,
                               uint32_t g, uint32_t n, enum rg_weight_kind kind)
{
    const size_t stride = rg_matrix_scale_bytes(m), size = scale_size(m, kind);
    const uint32_t back = g >= GROUPS - n ? GROUPS - n : 0;
    __m128i col[8];

    if (size == 4 || n + back < GROUPS) {
        for (uint32_t i = 0; i < n; i++)
            for (uint32_t r = 0; r < ROWS; r++)
                s->v[i][r] = rg_scale_at(m, p + r * stride, g + i);
        return 0;
    }
    if (rg_is_e2m1(kind))
        transpose_8bit(col, p + (g - back), stride);
    else
        transpose_16bit(col, p + (size_t)(g - back) * 2, stride);
    for (int i = 0; i < GROUPS; i++) {
        __m256 f;

        if (rg_is_e2m1(kind))
            f = rg_byte_scales8(kind, col[i]);
        else if (m->dtype == RG_DTYPE_F16)
            f = _mm256_cvtph_ps(col[i]);
        else
            f = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(col[i]), 16));
        _mm256_store_ps(s->v[i], f);
    }
    return back;
}

/* What one token brings to the 32 columns at hand. */
struct x32 {
    const uint8_t *q;
    const float *scale; /* of two blocks */
    const int32_t *sum;
};

/* Block sums of rows 0..7 from four registers with four partial sums of row i | row i + 4 each. */
RG_INLINE __m256i sum_rows(__m256i d0, __m256i d1, __m256i d2, __m256i d3)
{
    return _mm256_hadd_epi32(_mm256_hadd_epi32(d0, d1), _mm256_hadd_epi32(d2, d3));
}

/* Integer dots of 32 columns, 4 bits: both blocks at once. */
RG_INLINE void dot32_4bit(__m256i block[2], const uint8_t *p, size_t stride, const struct x32 *x,
                          enum rg_weight_kind kind)
{
    const __m256i mask = _mm256_set1_epi8(15), one = _mm256_set1_epi16(1);
    const __m256i even = rg_load_twice(x->q), odd = rg_load_twice(x->q + 16);
    __m256 h[2];
    __m256i d[4];

    for (size_t i = 0; i < 4; i++) {
        const __m256i v = rg_load_pair(p + i * stride, p + (i + 4) * stride);
        __m256i low = _mm256_and_si256(v, mask);
        __m256i high = _mm256_and_si256(_mm256_srli_epi16(v, 4), mask);

        if (rg_is_e2m1(kind)) {
            low = rg_e2m1_bytes(low);
            high = rg_e2m1_bytes(high);
        }
        d[i] = _mm256_add_epi16(_mm256_maddubs_epi16(low, even), _mm256_maddubs_epi16(high, odd));
    }
    h[0] = _mm256_castsi256_ps(_mm256_madd_epi16(_mm256_hadd_epi16(d[0], d[1]), one));
    h[1] = _mm256_castsi256_ps(_mm256_madd_epi16(_mm256_hadd_epi16(d[2], d[3]), one));
    block[0] = _mm256_castps_si256(_mm256_shuffle_ps(h[0], h[1], 0x88));
    block[1] = _mm256_castps_si256(_mm256_shuffle_ps(h[0], h[1], 0xDD));
    for (int b = 0; kind != RG_WEIGHT_AFFINE && b < 2; b++)
        block[b] = _mm256_sub_epi32(block[b], _mm256_set1_epi32(rg_offset_of(kind) * x->sum[b]));
}

RG_INLINE __m256i dot16_8bit(const uint8_t *p, size_t stride, const uint8_t *q, int32_t sum)
{
    const __m256i flip = _mm256_set1_epi8(-128), one = _mm256_set1_epi16(1);
    const __m256i x = rg_load_twice(q);
    __m256i d[4];

    for (size_t i = 0; i < 4; i++) {
        const __m256i v =
            _mm256_xor_si256(rg_load_pair(p + i * stride, p + (i + 4) * stride), flip);
        d[i] = _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_abs_epi8(v), _mm256_sign_epi8(x, v)),
                                 one);
    }
    return _mm256_add_epi32(sum_rows(d[0], d[1], d[2], d[3]), _mm256_set1_epi32(128 * sum));
}

RG_INLINE void dot32_any(__m256i block[2], const struct rg_unpack *u, const uint8_t *p,
                         size_t stride, const struct x32 *x, uint32_t bits)
{
    const __m256i one = _mm256_set1_epi16(1);
    __m256i d[2][4];

    for (size_t i = 0; i < 4; i++) {
        __m128i low[2], high[2];

        rg_unpack_load(low, p + i * stride, bits);
        rg_unpack_load(high, p + (i + 4) * stride, bits);
        for (uint32_t b = 0; b < 2; b++) {
            const __m256i raw = _mm256_inserti128_si256(_mm256_castsi128_si256(low[b]), high[b], 1);
            const __m256i codes = rg_unpack_codes(u, raw, b, bits);
            d[b][i] = _mm256_maddubs_epi16(codes, rg_load_twice(x->q + 16 * b));
        }
    }
    for (int b = 0; b < 2; b++) {
        const __m256i h0 = _mm256_hadd_epi16(d[b][0], d[b][1]);
        const __m256i h1 = _mm256_hadd_epi16(d[b][2], d[b][3]);

        if (bits < 6)
            block[b] = _mm256_madd_epi16(_mm256_hadd_epi16(h0, h1), one);
        else
            block[b] = _mm256_hadd_epi32(_mm256_madd_epi16(h0, one), _mm256_madd_epi16(h1, one));
    }
}

RG_INLINE void dot32(__m256i block[2], const struct rg_unpack *u, const uint8_t *p, size_t stride,
                     const struct x32 *x, uint32_t bits, enum rg_weight_kind kind)
{
    if (bits == 4) {
        dot32_4bit(block, p, stride, x, kind);
    } else if (bits == 8) {
        block[0] = dot16_8bit(p, stride, x->q, x->sum[0]);
        block[1] = dot16_8bit(p + 16, stride, x->q + 16, x->sum[1]);
    } else {
        dot32_any(block, u, p, stride, x, bits);
    }
}

struct row_block {
    const uint8_t *codes, *scales, *biases; /* of its first row; biases of affine */
    size_t stride, scale_stride;
};

/* May point past the matrix: a prefetch never faults. */
RG_INLINE void fetch(const uint8_t *p)
{
    _mm_prefetch((const char *)p, _MM_HINT_T0);
}

/* Rows 0..7 of a block times one token. */
RG_INLINE __m256 eight_rows(const struct rg_int8_job *job, const struct row_block *w,
                            const struct rg_unpack *u, uint32_t token, uint32_t bits,
                            enum rg_weight_kind kind)
{
    const struct rg_matrix *m = job->m;
    const bool affine = kind == RG_WEIGHT_AFFINE;
    const uint32_t groups = m->cols / m->group_size;
    const uint32_t step = kind == RG_WEIGHT_NVFP4 ? 2 : 1; /* groups taken at a time */
    const uint32_t chunks = kind == RG_WEIGHT_NVFP4 ? 1 : m->group_size / 32;
    const size_t line = ROWS * scale_size(m, kind); /* scales of a group */
    const uint8_t *p = w->codes, *ahead = p + ROWS * w->stride + AHEAD;
    struct x32 x = {job->x->q + token * job->x->q_stride,
                    job->x->scale + token * job->x->scale_stride,
                    job->x->sum + token * job->x->scale_stride};
    __m256 acc = _mm256_setzero_ps(), accb = acc;

    for (uint32_t g = 0; g < groups; g += GROUPS) {
        const uint32_t n = groups - g < GROUPS ? groups - g : GROUPS;
        struct scale_block scales, biases;
        const uint32_t at = load_scales(&scales, m, w->scales, g, n, kind);

        if (affine)
            load_scales(&biases, m, w->biases, g, n, kind);
        for (uint32_t j = 0; j < n; j += step) {
            const __m256 scale[2] = {_mm256_load_ps(scales.v[at + j]),
                                     _mm256_load_ps(scales.v[at + j + step - 1])};

            for (uint32_t i = 0; i < chunks; i++) {
                __m256i block[2];

                for (uint32_t k = 0; k < (bits + 1) / 2; k++)
                    fetch(ahead + 64 * k);
                ahead += 32 * bits;
                dot32(block, u, p, w->stride, &x, bits, kind);
                for (int b = 0; b < 2; b++)
                    acc = _mm256_fmadd_ps(_mm256_mul_ps(scale[b], _mm256_broadcast_ss(x.scale + b)),
                                          _mm256_cvtepi32_ps(block[b]), acc);
                p += 4 * bits;
                x.q += 32;
                x.scale += 2;
                x.sum += 2;
            }
            fetch(w->scales + ROWS * w->scale_stride + line * (g + j));
            if (affine) {
                fetch(w->biases + ROWS * w->scale_stride + line * (g + j));
                accb = _mm256_fmadd_ps(
                    _mm256_load_ps(biases.v[at + j]),
                    _mm256_broadcast_ss(job->x->gsum + token * job->x->gsum_stride + g + j), accb);
            }
        }
    }
    return affine ? _mm256_add_ps(acc, accb) : _mm256_mul_ps(acc, _mm256_set1_ps(m->factor));
}

RG_INLINE void rows(const struct rg_int8_job *job, uint32_t bits, enum rg_weight_kind kind)
{
    const struct rg_matrix *m = job->m;
    struct row_block w = {.stride = rg_matrix_row_bytes(m),
                          .scale_stride = rg_matrix_scale_bytes(m)};
    struct rg_int8_job rest = *job;
    struct rg_unpack u;
    uint32_t r = job->row_begin;

    rg_unpack_init(&u, bits == 8 || bits == 4 ? 6 : bits);
    for (; r + ROWS <= job->row_end; r += ROWS) {
        w.codes = m->data + r * w.stride;
        w.scales = m->scales + r * w.scale_stride;
        if (kind == RG_WEIGHT_AFFINE)
            w.biases = m->biases + r * w.scale_stride;
        for (uint32_t t = 0; t < job->x->n; t++)
            _mm256_storeu_ps(job->y + t * job->y_stride + r,
                             eight_rows(job, &w, &u, t, bits, kind));
    }
    rest.row_begin = r;
    rg_int8_scalar(&rest);
}

static void affine_rows(const struct rg_int8_job *job)
{
    switch (job->m->bits) {
    case 2:
        rows(job, 2, RG_WEIGHT_AFFINE);
        break;
    case 3:
        rows(job, 3, RG_WEIGHT_AFFINE);
        break;
    case 4:
        rows(job, 4, RG_WEIGHT_AFFINE);
        break;
    case 5:
        rows(job, 5, RG_WEIGHT_AFFINE);
        break;
    case 6:
        rows(job, 6, RG_WEIGHT_AFFINE);
        break;
    default:
        rows(job, 8, RG_WEIGHT_AFFINE);
        break;
    }
}

void rg_int8_rows_avx2(const struct rg_int8_job *job)
{
    assert((job->x->layout == RG_LAYOUT_SPLIT) == (job->m->bits == 4));
    switch (job->m->kind) { /* a constant each, as the bits above */
    case RG_WEIGHT_MXFP4:
        rows(job, 4, RG_WEIGHT_MXFP4);
        break;
    case RG_WEIGHT_NVFP4:
        rows(job, 4, RG_WEIGHT_NVFP4);
        break;
    case RG_WEIGHT_INT4:
        rows(job, 4, RG_WEIGHT_INT4);
        break;
    default:
        affine_rows(job);
        break;
    }
}
