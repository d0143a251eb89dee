/* quantised.c - the int8 copy of a tensor: made once, kept with it, in the layouts kernels want. */
#include <assert.h>
#include <string.h>

#include "compute/cpu/backend.h"

struct quantise_job {
    const struct rg_kernels *kernels;
    const float *x;
    struct rg_q8 *q8;
};

static void quantise_part(void *arg, uint32_t part, uint32_t n_parts)
{
    const struct quantise_job *job = arg;
    struct rg_q8 *q8 = job->q8;
    const size_t blocks = q8->cols / RG_Q8_BLOCK;
    uint64_t begin, end;

    rg_pool_share(q8->n, 1, part, n_parts, &begin, &end);
    for (uint64_t r = begin; r < end; r++)
        job->kernels->quantise(job->x + r * q8->cols, q8->cols, q8->q + r * q8->cols,
                               q8->scale + r * blocks, q8->sum + r * blocks);
}

static struct rg_q8 *new_q8(struct rg_step *s, uint32_t n, uint32_t cols)
{
    const size_t blocks = (size_t)n * (cols / RG_Q8_BLOCK);
    struct rg_q8 *q8 = rg_step_alloc(s, 1, sizeof(*q8));

    assert(cols % RG_Q8_BLOCK == 0);
    if (!q8)
        return NULL;
    memset(q8, 0, sizeof(*q8));
    q8->n = n;
    q8->cols = cols;
    q8->q = rg_step_alloc(s, (size_t)n * cols, 1);
    q8->scale = rg_step_alloc(s, blocks, sizeof(*q8->scale));
    q8->sum = rg_step_alloc(s, blocks, sizeof(*q8->sum));
    return q8->q && q8->scale && q8->sum ? q8 : NULL;
}

struct rg_q8 *rg_quantise(struct rg_step *s, const struct rg_tensor *x)
{
    struct quantise_job job = {.kernels = s->backend->kernels, .x = x->data};

    if (*x->q8)
        return *x->q8;
    job.q8 = new_q8(s, x->rows, x->cols);
    if (!job.q8)
        return NULL;
    rg_backend_run(s->backend, quantise_part, &job, x->rows > 1 ? (uint64_t)x->rows * x->cols : 0);
    *x->q8 = job.q8;
    return job.q8;
}

struct rg_q8 *rg_q8_gather(struct rg_step *s, const struct rg_q8 *q, const uint32_t *rows,
                           uint32_t n)
{
    const size_t blocks = q->cols / RG_Q8_BLOCK;
    struct rg_q8 *g = new_q8(s, n, q->cols);

    if (!g)
        return NULL;
    for (uint32_t i = 0; i < n; i++) {
        const size_t from = rows[i];

        memcpy(g->q + (size_t)i * q->cols, q->q + from * q->cols, q->cols);
        memcpy(g->scale + i * blocks, q->scale + from * blocks, blocks * sizeof(*q->scale));
        memcpy(g->sum + i * blocks, q->sum + from * blocks, blocks * sizeof(*q->sum));
    }
    return g;
}

/* s of every group of every row: s += scale_x * (float)sum(q), blocks ascending from 0. */
static float *make_gsum(struct rg_step *s, const struct rg_q8 *q, uint32_t group_size)
{
    const uint32_t per_group = group_size / RG_Q8_BLOCK;
    const size_t groups = (size_t)q->n * (q->cols / group_size);
    float *gsum = rg_step_alloc(s, groups, sizeof(*gsum));

    if (!gsum)
        return NULL;
    for (size_t g = 0; g < groups; g++) {
        float sum = 0.0f;

        for (size_t b = g * per_group; b < (g + 1) * per_group; b++)
            sum += q->scale[b] * (float)q->sum[b];
        gsum[g] = sum;
    }
    return gsum;
}

/* ---- layouts ------------------------------------------------------------------------------- */

static void split_row(uint8_t *dst, const int8_t *q, uint32_t cols)
{
    for (uint32_t c = 0; c < cols; c += 32)
        for (uint32_t i = 0; i < 16; i++) {
            dst[c + i] = (uint8_t)q[c + 2 * i];
            dst[c + 16 + i] = (uint8_t)q[c + 2 * i + 1];
        }
}

/* Rows of one tile, n of them real. */
static void tile8(uint8_t *dst, const int8_t *q, uint32_t n, uint32_t cols)
{
    for (uint32_t c = 0; c < cols; c += 4, dst += 4 * RG_TILE)
        for (uint32_t t = 0; t < n; t++)
            memcpy(dst + 4 * t, q + (size_t)t * cols + c, 4);
}

static void tile16(uint8_t *dst, const int8_t *q, uint32_t n, uint32_t cols)
{
    for (uint32_t c = 0; c < cols; c += 2, dst += 4 * RG_TILE)
        for (uint32_t t = 0; t < n; t++) {
            const int16_t pair[2] = {q[(size_t)t * cols + c], q[(size_t)t * cols + c + 1]};
            memcpy(dst + 4 * t, pair, 4);
        }
}

/* [n][width] floats as one tile [width][8]. */
static void tile_floats(float *dst, const float *src, uint32_t n, uint32_t width)
{
    for (uint32_t i = 0; i < width; i++)
        for (uint32_t t = 0; t < RG_TILE; t++)
            dst[i * RG_TILE + t] = t < n ? src[(size_t)t * width + i] : 0.0f;
}

struct pack_job {
    const struct rg_q8 *q;
    enum rg_layout layout;
    uint32_t row_begin, n_rows;
    uint8_t *dst;
    float *scale; /* tiled layouts */
};

static uint32_t lines_of(enum rg_layout layout, uint32_t n_rows)
{
    return layout == RG_LAYOUT_SPLIT ? n_rows : (n_rows + RG_TILE - 1) / RG_TILE;
}

static size_t line_bytes(enum rg_layout layout, uint32_t cols)
{
    if (layout == RG_LAYOUT_SPLIT)
        return cols;
    return (size_t)cols * RG_TILE * (layout == RG_LAYOUT_TILE16 ? 2 : 1);
}

static void pack_tile(const struct pack_job *job, uint32_t tile)
{
    const struct rg_q8 *q = job->q;
    const uint32_t done = tile * RG_TILE;
    const uint32_t n = job->n_rows - done < RG_TILE ? job->n_rows - done : RG_TILE;
    const size_t row = (size_t)job->row_begin + done;
    const uint32_t blocks = q->cols / RG_Q8_BLOCK;
    const size_t bytes = line_bytes(job->layout, q->cols);
    uint8_t *dst = job->dst + tile * bytes;

    if (n < RG_TILE)
        memset(dst, 0, bytes);
    if (job->layout == RG_LAYOUT_TILE8)
        tile8(dst, q->q + row * q->cols, n, q->cols);
    else
        tile16(dst, q->q + row * q->cols, n, q->cols);
    tile_floats(job->scale + (size_t)tile * blocks * RG_TILE, q->scale + row * blocks, n, blocks);
}

static void pack_part(void *arg, uint32_t part, uint32_t n_parts)
{
    const struct pack_job *job = arg;
    const struct rg_q8 *q = job->q;
    uint64_t begin, end;

    rg_pool_share(lines_of(job->layout, job->n_rows), 1, part, n_parts, &begin, &end);
    for (uint64_t i = begin; i < end; i++) {
        if (job->layout == RG_LAYOUT_SPLIT)
            split_row(job->dst + i * q->cols, q->q + (job->row_begin + i) * q->cols, q->cols);
        else
            pack_tile(job, (uint32_t)i);
    }
}

static bool pack(struct rg_step *s, struct rg_packed *p, struct pack_job *job)
{
    const uint32_t cols = job->q->cols;
    const uint32_t lines = lines_of(job->layout, job->n_rows);

    job->dst = rg_step_alloc(s, lines, line_bytes(job->layout, cols));
    if (job->layout != RG_LAYOUT_SPLIT) {
        job->scale =
            rg_step_alloc(s, (size_t)lines * RG_TILE, cols / RG_Q8_BLOCK * sizeof(*job->scale));
        if (!job->scale)
            return false;
    }
    if (!job->dst)
        return false;
    rg_backend_run(s->backend, pack_part, job, lines > 1 ? (uint64_t)job->n_rows * cols : 0);
    p->q = job->dst;
    p->scale = job->scale;
    return true;
}

/* The group sums of rows [row_begin, row_begin + n_rows) as tiles. */
static float *tile_gsum(struct rg_step *s, const struct rg_q8 *q, const struct rg_q8_view *view,
                        uint32_t group_size)
{
    const uint32_t groups = q->cols / group_size;
    const uint32_t tiles = (view->n_rows + RG_TILE - 1) / RG_TILE;
    const float *src = q->gsum[rg_group_index(group_size)] + (size_t)view->row_begin * groups;
    float *dst = rg_step_alloc(s, (size_t)tiles * groups, RG_TILE * sizeof(*dst));

    for (uint32_t i = 0; dst && i < tiles; i++) {
        const uint32_t left = view->n_rows - i * RG_TILE;
        tile_floats(dst + (size_t)i * groups * RG_TILE, src + (size_t)i * RG_TILE * groups,
                    left < RG_TILE ? left : RG_TILE, groups);
    }
    return dst;
}

struct half_sums_job {
    const uint8_t *q; /* tiles */
    int16_t *sums;
    size_t tile_blocks;
    uint32_t tiles;
};

static void half_sums_part(void *arg, uint32_t part, uint32_t n_parts)
{
    const struct half_sums_job *job = arg;
    uint64_t begin, end;

    rg_pool_share(job->tiles, 1, part, n_parts, &begin, &end);
    for (uint64_t b = begin * job->tile_blocks; b < end * job->tile_blocks; b++) {
        const int8_t *q = (const int8_t *)job->q + b * RG_Q8_BLOCK * RG_TILE;
        int16_t *sums = job->sums + b * RG_TILE * 2;

        for (uint32_t i = 0; i < 2 * RG_TILE; i++) {
            int sum = 0;

            for (uint32_t k = 0; k < RG_Q8_BLOCK / 4; k++)
                sum += q[k * 4 * RG_TILE + 2 * i] + q[k * 4 * RG_TILE + 2 * i + 1];
            sums[i] = (int16_t)sum;
        }
    }
}

/* Sets the half sums of out, which p keeps. */
static bool set_half_sums(struct rg_step *s, struct rg_qx *out, struct rg_packed *p,
                          const struct rg_q8_view *view, uint32_t cols)
{
    const size_t blocks = cols / RG_Q8_BLOCK;
    struct half_sums_job job = {.q = p->q, .tile_blocks = blocks};

    job.tiles = (view->n_rows + RG_TILE - 1) / RG_TILE;
    if (!p->half_sums) {
        job.sums = rg_step_alloc(s, job.tiles * blocks, 2 * RG_TILE * sizeof(*job.sums));
        if (!job.sums)
            return false;
        rg_backend_run(s->backend, half_sums_part, &job, (uint64_t)view->n_rows * cols);
        p->half_sums = job.sums;
    }
    out->half_stride = blocks * RG_TILE * 2;
    out->half_sums = p->half_sums + (size_t)(view->col_begin / RG_Q8_BLOCK) * RG_TILE * 2;
    return true;
}

static void view_rows(struct rg_qx *out, const struct rg_q8 *q, const struct rg_q8_view *view)
{
    const uint32_t blocks = q->cols / RG_Q8_BLOCK;
    const size_t row = view->row_begin;
    const uint8_t *base =
        out->layout == RG_LAYOUT_PLAIN ? (const uint8_t *)q->q : q->packed[out->layout].q;

    out->q = base + row * q->cols + view->col_begin;
    out->scale = q->scale + row * blocks + view->col_begin / RG_Q8_BLOCK;
    out->sum = q->sum + row * blocks + view->col_begin / RG_Q8_BLOCK;
    out->q_stride = q->cols;
    out->scale_stride = blocks;
}

static void view_tiles(struct rg_qx *out, const struct rg_q8 *q, const struct rg_packed *p,
                       const struct rg_q8_view *view)
{
    const size_t tile_cols = (size_t)q->cols * RG_TILE;
    const size_t col = (size_t)view->col_begin * RG_TILE;

    out->q_stride = line_bytes(out->layout, q->cols);
    out->q = p->q + col * (out->layout == RG_LAYOUT_TILE16 ? 2 : 1);
    out->scale_stride = tile_cols / RG_Q8_BLOCK;
    out->scale = p->scale + col / RG_Q8_BLOCK;
    out->sum = NULL;
}

/* Sets the group sums of out for an affine weight; of a tiled layout p keeps its own. */
static bool set_gsum(struct rg_step *s, struct rg_qx *out, struct rg_q8 *q, struct rg_packed *p,
                     const struct rg_q8_view *view, uint32_t group_size)
{
    const uint32_t i = rg_group_index(group_size);
    const uint32_t groups = q->cols / group_size, first = view->col_begin / group_size;

    if (!q->gsum[i])
        q->gsum[i] = make_gsum(s, q, group_size);
    if (!q->gsum[i])
        return false;
    if (out->layout == RG_LAYOUT_PLAIN || out->layout == RG_LAYOUT_SPLIT) {
        out->gsum = q->gsum[i] + (size_t)view->row_begin * groups + first;
        out->gsum_stride = groups;
        return true;
    }
    if (!p->gsum[i])
        p->gsum[i] = tile_gsum(s, q, view, group_size);
    if (!p->gsum[i])
        return false;
    out->gsum = p->gsum[i] + (size_t)first * RG_TILE;
    out->gsum_stride = (size_t)groups * RG_TILE;
    return true;
}

bool rg_q8_for(struct rg_step *s, struct rg_qx *out, struct rg_q8 *q, const struct rg_matrix *m,
               const struct rg_q8_view *view)
{
    const enum rg_layout layout = s->backend->kernels->layout(m, view->n_rows);
    const bool tiled = layout == RG_LAYOUT_TILE8 || layout == RG_LAYOUT_TILE16;
    const bool all = view->n_rows == q->n;
    struct rg_packed part = {0};
    struct rg_packed *p = tiled && !all ? &part : &q->packed[layout];
    struct pack_job job = {.q = q, .layout = layout, .n_rows = q->n};

    *out = (struct rg_qx){.layout = layout, .n = view->n_rows};
    if (tiled) {
        job.row_begin = view->row_begin;
        job.n_rows = view->n_rows;
    }
    if (layout != RG_LAYOUT_PLAIN && !p->q && !pack(s, p, &job))
        return false;
    if (tiled)
        view_tiles(out, q, p, view);
    else
        view_rows(out, q, view);
    if (m->kind == RG_WEIGHT_AFFINE)
        return set_gsum(s, out, q, p, view, m->group_size);
    return layout != RG_LAYOUT_TILE8 || set_half_sums(s, out, p, view, q->cols);
}
