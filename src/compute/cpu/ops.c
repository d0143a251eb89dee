/* ops.c - the ops that work on each row alone: embedding, selection, norm, swiglu, add. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "compute/cpu/backend.h"

struct embed_job {
    const struct rg_kernels *kernels;
    struct rg_matrix m;
    const int32_t *ids;
    struct rg_tensor *y;
};

static void embed_part(void *arg, uint32_t part, uint32_t n_parts)
{
    const struct embed_job *job = arg;
    uint64_t begin, end;

    rg_pool_share(job->y->rows, 1, part, n_parts, &begin, &end);
    for (uint64_t i = begin; i < end; i++)
        job->kernels->dequantise(&job->m, (uint32_t)job->ids[i], job->y->data + i * job->y->cols);
}

struct rg_tensor *rg_op_embed(struct rg_step *s, const struct rg_weight *w, const int32_t *ids,
                              uint32_t n)
{
    struct embed_job job = {
        .kernels = s->backend->kernels, .m = rg_weight_matrix(w, 0), .ids = ids};

    for (uint32_t i = 0; i < n; i++)
        assert(ids[i] >= 0 && (uint32_t)ids[i] < w->desc.rows);
    job.y = rg_step_tensor(s, n, w->desc.cols);
    if (job.y)
        rg_backend_run(s->backend, embed_part, &job, (uint64_t)n * w->desc.cols);
    return job.y;
}

struct rg_tensor *rg_op_rows(struct rg_step *s, const struct rg_tensor *x, const uint32_t *rows,
                             uint32_t n)
{
    struct rg_tensor *y = x ? rg_step_tensor(s, n, x->cols) : NULL;

    if (!y)
        return NULL;
    for (uint32_t i = 0; i < n; i++) {
        assert(rows[i] < x->rows);
        memcpy(y->data + (size_t)i * x->cols, x->data + (size_t)rows[i] * x->cols,
               x->cols * sizeof(*y->data));
    }
    return y;
}

struct rg_tensor *rg_op_head_cols(struct rg_step *s, const struct rg_tensor *x, uint32_t n_heads,
                                  uint32_t begin, uint32_t end)
{
    const uint32_t width = end - begin;
    struct rg_tensor *y;
    uint32_t head_cols;

    if (!x)
        return NULL;
    head_cols = x->cols / n_heads;
    assert(x->cols % n_heads == 0 && begin < end && end <= head_cols);
    y = rg_step_tensor(s, x->rows, n_heads * width);
    if (!y)
        return NULL;
    for (size_t i = 0; i < (size_t)x->rows * n_heads; i++)
        memcpy(y->data + i * width, x->data + i * head_cols + begin, width * sizeof(*y->data));
    return y;
}

struct norm_job {
    const struct rg_kernels *kernels;
    const float *x, *w;
    float *y;
    uint64_t n; /* runs of cols columns */
    uint32_t cols;
    float eps;
};

static void norm_part(void *arg, uint32_t part, uint32_t n_parts)
{
    const struct norm_job *job = arg;
    uint64_t begin, end;

    rg_pool_share(job->n, 1, part, n_parts, &begin, &end);
    for (uint64_t i = begin; i < end; i++) {
        const float *x = job->x + i * job->cols;
        float squares, r;
        const struct rg_dots_job dots = {
            .w = x, .x = x, .y = &squares, .n_w = 1, .n_x = 1, .cols = job->cols};

        job->kernels->dots(&dots);
        r = 1.0f / sqrtf(squares / (float)job->cols + job->eps);
        job->kernels->scale_mul(job->y + i * job->cols, x, r, job->w, job->cols);
    }
}

struct rg_tensor *rg_op_rms_norm(struct rg_step *s, const struct rg_tensor *x,
                                 const struct rg_weight *w, float eps)
{
    struct rg_tensor *y = x ? rg_step_tensor(s, x->rows, x->cols) : NULL;
    struct norm_job job = {
        .kernels = s->backend->kernels, .w = w->vector, .cols = w->desc.cols, .eps = eps};

    if (!y)
        return NULL;
    assert(w->vector && x->cols % w->desc.cols == 0);
    job.x = x->data;
    job.y = y->data;
    job.n = (uint64_t)x->rows * (x->cols / w->desc.cols);
    rg_backend_run(s->backend, norm_part, &job, (uint64_t)x->rows * x->cols);
    return y;
}

struct pair_job {
    const struct rg_kernels *kernels; /* NULL: a + b */
    const float *a, *b;
    float *y;
    uint64_t n;
};

static void pair_part(void *arg, uint32_t part, uint32_t n_parts)
{
    const struct pair_job *job = arg;
    uint64_t begin, end;

    rg_pool_share(job->n, 16, part, n_parts, &begin, &end);
    if (job->kernels) {
        job->kernels->swiglu(job->y + begin, job->a + begin, job->b + begin, end - begin);
        return;
    }
    for (uint64_t i = begin; i < end; i++)
        job->y[i] = job->a[i] + job->b[i];
}

static struct rg_tensor *pairwise(struct rg_step *s, const struct rg_kernels *kernels,
                                  const struct rg_tensor *a, const struct rg_tensor *b)
{
    struct rg_tensor *y = a && b ? rg_step_tensor(s, a->rows, a->cols) : NULL;
    struct pair_job job = {.kernels = kernels};

    if (!y)
        return NULL;
    assert(a->rows == b->rows && a->cols == b->cols);
    job.a = a->data;
    job.b = b->data;
    job.y = y->data;
    job.n = (uint64_t)a->rows * a->cols;
    rg_backend_run(s->backend, pair_part, &job, kernels ? job.n * 2 : job.n / 4);
    return y;
}

struct rg_tensor *rg_op_swiglu(struct rg_step *s, const struct rg_tensor *gate,
                               const struct rg_tensor *up)
{
    return pairwise(s, s->backend->kernels, gate, up);
}

struct rg_tensor *rg_op_add(struct rg_step *s, const struct rg_tensor *a, const struct rg_tensor *b)
{
    return pairwise(s, NULL, a, b);
}
