/* product.c - matrices times rows: sharing weight rows out to threads, and the linear ops. */
#include <assert.h>

#include "compute/cpu/backend.h"

struct products_job {
    struct rg_backend *backend;
    const struct rg_product *products;
    uint32_t n;
    uint64_t cost; /* of all */
};

/* Reading a unit of weights costs about as much as multiplying it with this many rows. */
enum { READ_COST = 4 };

static uint64_t unit_cost(const struct rg_product *p)
{
    return (uint64_t)p->m.cols * (READ_COST + p->n);
}

static uint64_t units(const struct rg_product *p)
{
    return (p->m.rows + RG_UNIT - 1) / RG_UNIT;
}

bool rg_product_is_quantised(const struct rg_backend *b, const struct rg_matrix *m)
{
    return rg_kind_is_integer(m->kind) && b->activations == RG_ACTIVATIONS_INT8;
}

static void run_floats(const struct rg_kernels *k, const struct rg_product *p, uint32_t row_begin,
                       uint32_t row_end, float *scratch)
{
    struct rg_dots_job dots = {.w = scratch,
                               .x = p->f32,
                               .w_stride = p->m.cols,
                               .x_stride = p->f32_stride,
                               .y_stride = p->y_stride,
                               .n_x = p->n,
                               .cols = p->m.cols};

    for (uint32_t r = row_begin; r < row_end; r += dots.n_w) {
        dots.n_w = row_end - r < 4 ? row_end - r : 4;
        dots.y = p->y + r;
        for (uint32_t i = 0; i < dots.n_w; i++)
            k->dequantise(&p->m, r + i, scratch + (size_t)i * p->m.cols);
        k->dots(&dots);
    }
}

static void run_product(const struct rg_kernels *k, const struct rg_product *p, uint32_t row_begin,
                        uint32_t row_end, void *scratch)
{
    if (p->f32) {
        run_floats(k, p, row_begin, row_end, scratch);
    } else {
        const struct rg_int8_job job = {.m = &p->m,
                                        .x = &p->qx,
                                        .y = p->y,
                                        .y_stride = p->y_stride,
                                        .row_begin = row_begin,
                                        .row_end = row_end,
                                        .scratch = scratch};
        k->int8(&job);
    }
    if (p->bias)
        for (uint32_t t = 0; t < p->n; t++)
            for (uint32_t r = row_begin; r < row_end; r++)
                p->y[t * p->y_stride + r] += p->bias[r];
}

/* The first unit of a product that begins at or after `at` in the cost of all products. */
static uint64_t unit_at(uint64_t at, uint64_t before, const struct rg_product *p)
{
    uint64_t u;

    if (at <= before)
        return 0;
    u = (at - before + unit_cost(p) - 1) / unit_cost(p);
    return u < units(p) ? u : units(p);
}

static void products_part(void *arg, uint32_t part, uint32_t n_parts)
{
    const struct products_job *job = arg;
    const uint64_t from = job->cost * part / n_parts;
    const uint64_t to = job->cost * (part + 1) / n_parts;
    uint64_t before = 0;

    for (uint32_t i = 0; i < job->n; i++) {
        const struct rg_product *p = &job->products[i];
        const uint64_t begin = unit_at(from, before, p) * RG_UNIT;
        const uint64_t end = unit_at(to, before, p) * RG_UNIT;

        before += units(p) * unit_cost(p);
        if (begin < end)
            run_product(job->backend->kernels, p, (uint32_t)begin,
                        end < p->m.rows ? (uint32_t)end : p->m.rows,
                        rg_backend_scratch(job->backend, part));
    }
}

void rg_products_run(struct rg_backend *b, struct rg_product *products, uint32_t n)
{
    struct products_job job = {.backend = b, .products = products, .n = n};

    for (uint32_t i = 0; i < n; i++)
        job.cost += units(&products[i]) * unit_cost(&products[i]);
    rg_backend_run(b, products_part, &job, job.cost);
}

/* Sets the input of a product: columns [col_begin, col_begin + m.cols) of all rows of x. */
static bool set_input(struct rg_step *s, struct rg_product *p, const struct rg_tensor *x,
                      uint32_t col_begin)
{
    const struct rg_q8_view view = {.n_rows = x->rows, .col_begin = col_begin};
    struct rg_q8 *q8;

    p->n = x->rows;
    if (!rg_product_is_quantised(s->backend, &p->m)) {
        p->f32 = x->data + col_begin;
        p->f32_stride = x->cols;
        return true;
    }
    q8 = rg_quantise(s, x);
    return q8 && rg_q8_for(s, &p->qx, q8, &p->m, &view);
}

struct rg_tensor *rg_op_linear(struct rg_step *s, const struct rg_weight *w,
                               const struct rg_weight *bias, const struct rg_tensor *x)
{
    struct rg_product p = {.m = rg_weight_matrix(w, 0)};
    struct rg_tensor *y;

    if (!x)
        return NULL;
    assert(w->desc.lead == 1 && x->cols == w->desc.cols);
    assert(!bias || (bias->vector && bias->desc.cols == w->desc.rows));
    y = rg_step_tensor(s, x->rows, w->desc.rows);
    if (!y || !set_input(s, &p, x, 0))
        return NULL;
    p.bias = bias ? bias->vector : NULL;
    p.y = y->data;
    p.y_stride = y->cols;
    rg_products_run(s->backend, &p, 1);
    return y;
}

struct rg_tensor *rg_op_linear_heads(struct rg_step *s, const struct rg_weight *w,
                                     const struct rg_tensor *x)
{
    const uint32_t lead = w->desc.lead;
    struct rg_tensor *y;
    struct rg_product *p;

    if (!x)
        return NULL;
    assert(x->cols == lead * w->desc.cols);
    y = rg_step_tensor(s, x->rows, lead * w->desc.rows);
    p = rg_step_alloc(s, lead, sizeof(*p));
    if (!y || !p)
        return NULL;
    for (uint32_t h = 0; h < lead; h++) {
        p[h] = (struct rg_product){.m = rg_weight_matrix(w, h)};
        if (!set_input(s, &p[h], x, h * w->desc.cols))
            return NULL;
        p[h].y = y->data + (size_t)h * w->desc.rows;
        p[h].y_stride = y->cols;
    }
    rg_products_run(s->backend, p, lead);
    return y;
}

/* ---- the transposed product ------------------------------------------------------------------ */

struct transposed_job {
    struct rg_backend *backend;
    const struct rg_weight *w;
    const struct rg_tensor *x, *y;
};

/* y = W^T x of one head: rows of W ascending, each added to all columns, y from 0. */
static void transposed_head(const struct transposed_job *job, uint32_t head, float *row_of_w)
{
    const struct rg_matrix m = rg_weight_matrix(job->w, head);
    const uint32_t zero = 0, one = 1;
    struct rg_mix_job mix = {.v = row_of_w, .begin = &zero, .end = &one, .n_q = 1, .cols = m.cols};

    for (uint32_t t = 0; t < job->x->rows; t++)
        for (uint32_t c = 0; c < m.cols; c++)
            job->y->data[(size_t)t * job->y->cols + (size_t)head * m.cols + c] = 0.0f;
    for (uint32_t r = 0; r < m.rows; r++) {
        job->backend->kernels->dequantise(&m, r, row_of_w);
        for (uint32_t t = 0; t < job->x->rows; t++) {
            mix.p = job->x->data + (size_t)t * job->x->cols + (size_t)head * m.rows + r;
            mix.y = job->y->data + (size_t)t * job->y->cols + (size_t)head * m.cols;
            job->backend->kernels->mix(&mix);
        }
    }
}

static void transposed_part(void *arg, uint32_t part, uint32_t n_parts)
{
    const struct transposed_job *job = arg;
    uint64_t begin, end;

    rg_pool_share(job->w->desc.lead, 1, part, n_parts, &begin, &end);
    for (uint64_t h = begin; h < end; h++)
        transposed_head(job, (uint32_t)h, rg_backend_scratch(job->backend, part));
}

struct rg_tensor *rg_op_linear_heads_t(struct rg_step *s, const struct rg_weight *w,
                                       const struct rg_tensor *x)
{
    struct transposed_job job = {.backend = s->backend, .w = w, .x = x};
    struct rg_tensor *y;

    if (!x)
        return NULL;
    assert(x->cols == w->desc.lead * w->desc.rows);
    y = rg_step_tensor(s, x->rows, w->desc.lead * w->desc.cols);
    if (!y)
        return NULL;
    job.y = y;
    rg_backend_run(s->backend, transposed_part, &job,
                   (uint64_t)w->desc.lead * w->desc.rows * w->desc.cols);
    return y;
}
