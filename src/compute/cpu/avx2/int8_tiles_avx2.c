/* int8_tiles_avx2.c - quantised weights times many rows (prefill).
 *
 * Four weight rows times two tiles of eight tokens, lane = token.  The rows' codes are unpacked to
 * bytes once and stay in the first-level cache; four codes of a row are broadcast and meet four
 * activations of eight tokens.  A 16-bit lane holds 8 products of up to 5 bits (31 * 127 * 8 <
 * 2^15) but only 4 of 6 bits, so those are widened twice per block; 8-bit codes are kept as 16 bits
 * and multiplied by madd.  int4 and E2M1 are stored with an offset, so that maddubs takes them, and
 * the 16-bit lanes start at minus offset * sum(x): what they hold at the end is right although it
 * may wrap on the way (12 * 127 * 8 < 2^15). */
#include "compute/cpu/avx2/vector.h"

enum { ROWS = 4, LANES = RG_TILE };

/* What a kernel is made for, constants all. */
struct form {
    uint32_t widen; /* how often a block's 16-bit lanes are widened; 0: the codes are 16 bits */
    int offset;     /* of the bytes; 0: affine                                               */
};

/* Four weight rows, unpacked. */
struct unpacked {
    const uint8_t *codes[ROWS];            /* bytes, or 16 bits each for 8-bit codes */
    const float *scale[ROWS], *bias[ROWS]; /* bias of affine */
};

static void unpack_row(uint8_t *dst, const uint8_t *p, const struct rg_matrix *m,
                       const struct rg_unpack *u)
{
    const bool e2m1 = rg_is_e2m1(m->kind);

    for (uint32_t c = 0; c < m->cols; c += 32, p += 4 * m->bits) {
        __m256i codes;

        switch (m->bits) { /* a constant each, for the shifts */
        case 2:
            codes = rg_unpack_32(u, p, 2);
            break;
        case 3:
            codes = rg_unpack_32(u, p, 3);
            break;
        case 4:
            codes = rg_unpack_32(u, p, 4);
            break;
        case 5:
            codes = rg_unpack_32(u, p, 5);
            break;
        default:
            codes = rg_unpack_32(u, p, 6);
            break;
        }
        if (e2m1)
            codes = rg_e2m1_bytes(codes);
        _mm256_storeu_si256((__m256i *)(void *)(dst + c), codes);
    }
}

static void widen_row(uint8_t *dst, const uint8_t *p, uint32_t cols)
{
    for (uint32_t c = 0; c < cols; c += 16)
        _mm256_storeu_si256((__m256i *)(void *)(dst + 2 * (size_t)c),
                            _mm256_cvtepu8_epi16(rg_load128(p + c)));
}

static void load_scales(float *dst, const struct rg_matrix *m, uint32_t row)
{
    const uint8_t *scales = rg_matrix_scales(m, row);
    const uint32_t groups = m->cols / m->group_size;
    uint32_t g = 0;

    for (; rg_is_e2m1(m->kind) && g + 8 <= groups; g += 8) {
        const __m128i bytes = _mm_loadl_epi64((const __m128i *)(const void *)(scales + g));
        _mm256_storeu_ps(dst + g, rg_byte_scales8(m->kind, bytes));
    }
    for (; g < groups; g++)
        dst[g] = rg_scale_at(m, scales, g);
}

/* Rows [row, row + n) of m into scratch; where n < 4 the last one stands for the missing. */
static void unpack(struct unpacked *w, const struct rg_int8_job *job, uint32_t row, uint32_t n)
{
    const struct rg_matrix *m = job->m;
    const uint32_t groups = m->cols / m->group_size;
    const size_t bytes = (size_t)m->cols * (m->bits == 8 ? 2 : 1);
    uint8_t *codes = job->scratch;
    float *floats = (float *)(void *)(codes + ROWS * bytes);
    struct rg_unpack u;

    rg_unpack_init(&u, m->bits == 8 ? 6 : m->bits);
    for (uint32_t i = 0; i < ROWS; i++, codes += bytes) {
        const uint32_t r = row + (i < n ? i : n - 1);
        const uint8_t *p = m->data + r * rg_matrix_row_bytes(m);

        if (m->bits == 8)
            widen_row(codes, p, m->cols);
        else
            unpack_row(codes, p, m, &u);
        w->codes[i] = codes;
        w->scale[i] = floats;
        load_scales(floats, m, r);
        floats += groups;
        if (m->kind != RG_WEIGHT_AFFINE)
            continue;
        w->bias[i] = floats;
        for (uint32_t g = 0; g < groups; g++)
            floats[g] = rg_load_float(m->biases + r * rg_matrix_scale_bytes(m), m->dtype, g);
        floats += groups;
    }
}

RG_INLINE __m256i broadcast4(const uint8_t *p)
{
    int32_t v;

    memcpy(&v, p, sizeof(v));
    return _mm256_set1_epi32(v);
}

/* Integer dots of the block of 16 at column c: [row][tile], lane = token. */
RG_INLINE void dot_block_bytes(__m256i dot[ROWS][2], const struct unpacked *w,
                               const uint8_t *const x[2], const __m256i start[2], uint32_t c,
                               uint32_t tiles, uint32_t widen)
{
    const __m256i one = _mm256_set1_epi16(1);

    for (uint32_t part = 0; part < widen; part++) {
        const uint32_t begin = c + part * (16 / widen), end = begin + 16 / widen;
        __m256i s[ROWS][2];

        for (uint32_t i = 0; i < ROWS; i++)
            for (uint32_t j = 0; j < tiles; j++)
                s[i][j] = start[j];
#pragma GCC unroll 4
        for (uint32_t k = begin; k < end; k += 4) {
            __m256i xs[2];

            for (uint32_t j = 0; j < tiles; j++)
                xs[j] = rg_load256(x[j] + (size_t)k * LANES);
#pragma GCC unroll 4
            for (uint32_t i = 0; i < ROWS; i++) {
                const __m256i codes = broadcast4(w->codes[i] + k);
                for (uint32_t j = 0; j < tiles; j++)
                    s[i][j] = _mm256_add_epi16(s[i][j], _mm256_maddubs_epi16(codes, xs[j]));
            }
        }
#pragma GCC unroll 4
        for (uint32_t i = 0; i < ROWS; i++)
            for (uint32_t j = 0; j < tiles; j++) {
                const __m256i fours = _mm256_madd_epi16(s[i][j], one);
                dot[i][j] = part == 0 ? fours : _mm256_add_epi32(dot[i][j], fours);
            }
    }
}

RG_INLINE void dot_block_words(__m256i dot[ROWS][2], const struct unpacked *w,
                               const uint8_t *const x[2], uint32_t c, uint32_t tiles)
{
    for (uint32_t i = 0; i < ROWS; i++)
        dot[i][0] = dot[i][1] = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (uint32_t k = c; k < c + 16; k += 2) {
        __m256i xs[2];

        for (uint32_t j = 0; j < tiles; j++)
            xs[j] = rg_load256(x[j] + (size_t)k * LANES * 2);
#pragma GCC unroll 4
        for (uint32_t i = 0; i < ROWS; i++) {
            const __m256i codes = broadcast4(w->codes[i] + 2 * (size_t)k);
            for (uint32_t j = 0; j < tiles; j++)
                dot[i][j] = _mm256_add_epi32(dot[i][j], _mm256_madd_epi16(codes, xs[j]));
        }
    }
}

static void store(const struct rg_int8_job *job, __m256 v, uint32_t row, uint32_t token)
{
    const uint32_t n = job->x->n - token < LANES ? job->x->n - token : LANES;
    float lanes[LANES];

    _mm256_storeu_ps(lanes, v);
    for (uint32_t t = 0; t < n; t++)
        job->y[(token + t) * job->y_stride + row] = lanes[t];
}

/* n rows from `row` on times `tiles` tiles from `tile` on. */
RG_INLINE void block(const struct rg_int8_job *job, const struct unpacked *w, uint32_t row,
                     uint32_t n, uint32_t tile, uint32_t tiles, struct form form)
{
    const struct rg_qx *x = job->x;
    const uint32_t group_size = job->m->group_size;
    const uint8_t *const q[2] = {x->q + tile * x->q_stride, x->q + (tile + 1) * x->q_stride};
    const float *const scale[2] = {x->scale + tile * x->scale_stride,
                                   x->scale + (tile + 1) * x->scale_stride};
    const float *gsum[2];
    const int16_t *half_sums[2];
    __m256 acc[ROWS][2], accb[ROWS][2];

    for (uint32_t j = 0; j < tiles; j++) {
        if (form.offset == 0)
            gsum[j] = x->gsum + (tile + j) * x->gsum_stride;
        else
            half_sums[j] = x->half_sums + (tile + j) * x->half_stride;
    }
    for (uint32_t i = 0; i < ROWS; i++)
        for (uint32_t j = 0; j < tiles; j++)
            acc[i][j] = accb[i][j] = _mm256_setzero_ps();
    for (uint32_t g = 0; g < job->m->cols / group_size; g++) {
        for (uint32_t c = g * group_size; c < (g + 1) * group_size; c += RG_Q8_BLOCK) {
            __m256i dot[ROWS][2], start[2];
            __m256 xs[2];

            for (uint32_t j = 0; j < tiles; j++)
                start[j] = form.offset == 0
                               ? _mm256_setzero_si256()
                               : _mm256_mullo_epi16(rg_load256(half_sums[j] + (size_t)c),
                                                    _mm256_set1_epi16((int16_t)-form.offset));
            if (form.widen == 0)
                dot_block_words(dot, w, q, c, tiles);
            else
                dot_block_bytes(dot, w, q, start, c, tiles, form.widen);
            for (uint32_t j = 0; j < tiles; j++)
                xs[j] = _mm256_loadu_ps(scale[j] + (size_t)c / RG_Q8_BLOCK * LANES);
            for (uint32_t i = 0; i < ROWS; i++) {
                const __m256 ws = _mm256_broadcast_ss(w->scale[i] + g);
                for (uint32_t j = 0; j < tiles; j++)
                    acc[i][j] = _mm256_fmadd_ps(_mm256_mul_ps(ws, xs[j]),
                                                _mm256_cvtepi32_ps(dot[i][j]), acc[i][j]);
            }
        }
        for (uint32_t i = 0; form.offset == 0 && i < ROWS; i++)
            for (uint32_t j = 0; j < tiles; j++)
                accb[i][j] =
                    _mm256_fmadd_ps(_mm256_broadcast_ss(w->bias[i] + g),
                                    _mm256_loadu_ps(gsum[j] + (size_t)g * LANES), accb[i][j]);
    }
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < tiles; j++)
            store(job,
                  form.offset == 0 ? _mm256_add_ps(acc[i][j], accb[i][j])
                                   : _mm256_mul_ps(acc[i][j], _mm256_set1_ps(job->m->factor)),
                  row + i, (tile + j) * LANES);
}

RG_INLINE void tiles(const struct rg_int8_job *job, struct form form)
{
    const uint32_t n_tiles = (job->x->n + LANES - 1) / LANES;
    uint32_t n;

    for (uint32_t r = job->row_begin; r < job->row_end; r += n) {
        struct unpacked w;
        uint32_t t = 0;

        n = job->row_end - r < ROWS ? job->row_end - r : ROWS;
        unpack(&w, job, r, n);
        for (; t + 2 <= n_tiles; t += 2)
            block(job, &w, r, n, t, 2, form);
        if (t < n_tiles)
            block(job, &w, r, n, t, 1, form);
    }
}

void rg_int8_tiles_avx2(const struct rg_int8_job *job)
{
    if (rg_is_e2m1(job->m->kind))
        tiles(job, (struct form){.widen = 1, .offset = RG_E2M1_OFFSET});
    else if (job->m->kind == RG_WEIGHT_INT4)
        tiles(job, (struct form){.widen = 1, .offset = RG_INT4_OFFSET});
    else if (job->m->bits == 8)
        tiles(job, (struct form){.widen = 0});
    else if (job->m->bits == 6)
        tiles(job, (struct form){.widen = 2});
    else
        tiles(job, (struct form){.widen = 1});
}
