/* experts.c - the mixture of experts of a step.
 *
 * The (row, rank) pairs are sorted by expert, so that each expert's weights are read once for all
 * rows that chose it; every pair's result is kept apart, and a row adds its own in rank order
 * (y = fma(weight, result, y) from 0), so that neighbours can't change it. */
#include <assert.h>
#include <string.h>

#include "compute/cpu/backend.h"

/* A slot is a pair's place after sorting: by expert, then row, then rank. */
struct plan {
    const struct rg_routing *routing;
    uint32_t n_pairs;
    uint32_t *first;   /* [n_experts + 1]: first slot of each expert */
    uint32_t *row_of;  /* [n_pairs]: row of a slot                   */
    uint32_t *slot_of; /* [n_pairs]: slot of pair row * top_k + rank */
};

static bool make_plan(struct rg_step *s, struct plan *p, const struct rg_routing *r, uint32_t rows)
{
    p->routing = r;
    p->n_pairs = rows * r->top_k;
    p->first = rg_step_alloc(s, (size_t)r->n_experts + 2, sizeof(*p->first));
    p->row_of = rg_step_alloc(s, p->n_pairs, sizeof(*p->row_of));
    p->slot_of = rg_step_alloc(s, p->n_pairs, sizeof(*p->slot_of));
    if (!p->first || !p->row_of || !p->slot_of)
        return false;
    /* first[e + 2] counts, then sums, and while slots are dealt out first[e + 1] moves to its end
     */
    memset(p->first, 0, ((size_t)r->n_experts + 2) * sizeof(*p->first));
    for (uint32_t i = 0; i < p->n_pairs; i++)
        p->first[r->ids[i] + 2]++;
    for (uint32_t e = 2; e < r->n_experts + 2; e++)
        p->first[e] += p->first[e - 1];
    for (uint32_t i = 0; i < p->n_pairs; i++) {
        p->slot_of[i] = p->first[r->ids[i] + 1]++;
        p->row_of[p->slot_of[i]] = i / r->top_k;
    }
    return true;
}

/* What one expert's matrices read: rows of slots [begin, end), as integers or as floats. */
struct slot_rows {
    struct rg_q8 *q8;              /* NULL until a quantised matrix wants it */
    const struct rg_tensor *f32;   /* the same for floats                    */
    const struct rg_product *like; /* products whose packed input may be used again, or NULL */
};

static const struct rg_tensor *gather_floats(struct rg_step *s, const struct rg_tensor *x,
                                             const struct plan *p)
{
    return rg_op_rows(s, x, p->row_of, p->n_pairs);
}

/* The rows of x in slot order, in the form that the matrices of w read. */
static bool gather(struct rg_step *s, struct slot_rows *rows, const struct rg_tensor *x,
                   const struct plan *p, const struct rg_weight *w)
{
    const struct rg_matrix m = rg_weight_matrix(w, 0);
    struct rg_q8 *q8;

    if (!rg_product_is_quantised(s->backend, &m)) {
        if (!rows->f32)
            rows->f32 = gather_floats(s, x, p);
        return rows->f32 != NULL;
    }
    if (!rows->q8) {
        q8 = rg_quantise(s, x);
        rows->q8 = q8 ? rg_q8_gather(s, q8, p->row_of, p->n_pairs) : NULL;
    }
    return rows->q8 != NULL;
}

static bool same_input(const struct rg_product *a, const struct rg_matrix *m)
{
    return a->m.kind == m->kind && a->m.bits == m->bits && a->m.group_size == m->group_size &&
           a->m.cols == m->cols;
}

/* Fills one product per expert that was chosen; returns how many, or UINT32_MAX without memory. */
static uint32_t fill_products(struct rg_step *s, struct rg_product *products, const struct plan *p,
                              const struct rg_weight *w, const struct slot_rows *rows,
                              struct rg_tensor *y)
{
    const struct rg_product *like = rows->like;
    uint32_t n = 0;

    for (uint32_t e = 0; e < p->routing->n_experts; e++) {
        const struct rg_q8_view view = {.row_begin = p->first[e],
                                        .n_rows = p->first[e + 1] - p->first[e]};
        struct rg_product *product = &products[n];

        if (view.n_rows == 0)
            continue;
        *product = (struct rg_product){.m = rg_weight_matrix(w, e), .n = view.n_rows};
        product->y = y->data + (size_t)view.row_begin * y->cols;
        product->y_stride = y->cols;
        if (!rg_product_is_quantised(s->backend, &product->m)) {
            product->f32 = rows->f32->data + (size_t)view.row_begin * rows->f32->cols;
            product->f32_stride = rows->f32->cols;
        } else if (like && same_input(&like[n], &product->m)) {
            product->qx = like[n].qx;
        } else if (!rg_q8_for(s, &product->qx, rows->q8, &product->m, &view)) {
            return UINT32_MAX;
        }
        n++;
    }
    return n;
}

/* gate and up of all pairs, then silu(gate) * up: [n_pairs][inner] */
static struct rg_tensor *inner(struct rg_step *s, const struct rg_tensor *x, const struct plan *p,
                               const struct rg_weight *gate, const struct rg_weight *up)
{
    struct rg_product *products = rg_step_alloc(s, (size_t)2 * p->n_pairs, sizeof(*products));
    struct rg_tensor *g = rg_step_tensor(s, p->n_pairs, gate->desc.rows);
    struct rg_tensor *u = rg_step_tensor(s, p->n_pairs, up->desc.rows);
    struct slot_rows rows = {0};
    uint32_t n_gate, n_up;

    if (!products || !g || !u)
        return NULL;
    if (!gather(s, &rows, x, p, gate) || !gather(s, &rows, x, p, up))
        return NULL;
    n_gate = fill_products(s, products, p, gate, &rows, g);
    if (n_gate == UINT32_MAX)
        return NULL;
    rows.like = products;
    n_up = fill_products(s, products + n_gate, p, up, &rows, u);
    if (n_up == UINT32_MAX)
        return NULL;
    rg_products_run(s->backend, products, n_gate + n_up);
    return rg_op_swiglu(s, g, u);
}

static struct rg_tensor *down_all(struct rg_step *s, struct rg_tensor *h, const struct plan *p,
                                  const struct rg_weight *down)
{
    struct rg_product *products = rg_step_alloc(s, p->n_pairs, sizeof(*products));
    struct rg_tensor *y = rg_step_tensor(s, p->n_pairs, down->desc.rows);
    const struct rg_matrix m = rg_weight_matrix(down, 0);
    struct slot_rows rows = {.f32 = h};
    uint32_t n;

    if (!products || !y || !h)
        return NULL;
    if (rg_product_is_quantised(s->backend, &m)) {
        rows.q8 = rg_quantise(s, h);
        if (!rows.q8)
            return NULL;
    }
    n = fill_products(s, products, p, down, &rows, y);
    if (n == UINT32_MAX)
        return NULL;
    rg_products_run(s->backend, products, n);
    return y;
}

struct combine_job {
    const struct rg_kernels *kernels;
    const struct plan *plan;
    const struct rg_tensor *results; /* [n_pairs][cols], by slot */
    struct rg_tensor *y;
};

static void combine_part(void *arg, uint32_t part, uint32_t n_parts)
{
    const struct combine_job *job = arg;
    const uint32_t top_k = job->plan->routing->top_k, zero = 0, one = 1;
    const size_t cols = job->y->cols;
    struct rg_mix_job mix = {.begin = &zero, .end = &one, .n_q = 1, .cols = job->y->cols};
    uint64_t begin, end;

    rg_pool_share(job->y->rows, 1, part, n_parts, &begin, &end);
    for (uint64_t row = begin; row < end; row++) {
        mix.y = job->y->data + row * cols;
        memset(mix.y, 0, cols * sizeof(*mix.y));
        for (uint64_t pair = row * top_k; pair < (row + 1) * top_k; pair++) {
            mix.p = job->plan->routing->weights + pair;
            mix.v = job->results->data + job->plan->slot_of[pair] * cols;
            job->kernels->mix(&mix);
        }
    }
}

struct rg_tensor *rg_op_experts(struct rg_step *s, const struct rg_tensor *x,
                                const struct rg_tensor *routing, const struct rg_weight *gate,
                                const struct rg_weight *up, const struct rg_weight *down)
{
    struct plan plan;
    struct combine_job job = {.kernels = s->backend->kernels, .plan = &plan};

    if (!x || !routing)
        return NULL;
    assert(routing->routing && routing->rows == x->rows);
    assert(gate->desc.lead == routing->routing->n_experts && up->desc.lead == gate->desc.lead &&
           down->desc.lead == gate->desc.lead);
    assert(gate->desc.cols == x->cols && up->desc.cols == x->cols &&
           up->desc.rows == gate->desc.rows && down->desc.cols == gate->desc.rows);
    if (!make_plan(s, &plan, routing->routing, x->rows))
        return NULL;
    job.results = down_all(s, inner(s, x, &plan, gate, up), &plan, down);
    job.y = rg_step_tensor(s, x->rows, down->desc.rows);
    if (!job.results || !job.y)
        return NULL;
    rg_backend_run(s->backend, combine_part, &job,
                   x->rows > 1 ? (uint64_t)plan.n_pairs * job.y->cols : 0);
    return job.y;
}
