/* op_helpers.h - naive formulas in double for the head products and the experts. */
#ifndef RG_TESTS_OP_HELPERS_H
#define RG_TESTS_OP_HELPERS_H

#include "support/compute_helpers.h"

/* Sum of |terms| times this bounds the error of an f32 sum of some hundred terms. */
static const double F32_NOISE = 2e-6;

static inline void assert_close(float got, double want, double size)
{
    assert_true(fabs((double)got - want) <= F32_NOISE * size + 1e-10);
}

static inline struct rg_tensor *input(struct test_step *t, const float *x, uint32_t rows,
                                      uint32_t cols)
{
    return rg_op_input(t->s, x, rows, cols);
}

/* y[h][r] = sum over c of W[h][r][c] x[h][c], or transposed; one row of x. */
static inline void check_heads(const struct rg_weight_desc *d, uint32_t row0, uint32_t stride,
                               const float *x, const float *y, bool transposed, uint32_t rows)
{
    const uint32_t lead = stride ? d->rows / stride : d->lead;

    for (uint32_t h = 0; h < lead; h++)
        for (uint32_t o = 0; o < (transposed ? d->cols : rows); o++) {
            const uint32_t n = transposed ? rows : d->cols;
            double want = 0.0, size = 0.0;

            for (uint32_t i = 0; i < n; i++) {
                const size_t row = (size_t)h * (stride ? stride : d->rows) + row0;
                const double wv = transposed ? weight_at(d, row + i, o) : weight_at(d, row + o, i);
                want += wv * (double)x[h * n + i];
                size += fabs(wv * (double)x[h * n + i]);
            }
            assert_close(y[h * (transposed ? d->cols : rows) + o], want, size);
        }
}

enum { EXPERTS = 6, HIDDEN = 64, INNER = 96 };

struct experts {
    struct test_weight gate, up, down;
};

static inline void free_experts(struct experts *e)
{
    free_weight(&e->gate);
    free_weight(&e->up);
    free_weight(&e->down);
}

static const struct rg_router_options TOP_2 = {.score = RG_ROUTER_SOFTMAX,
                                               .top_k = 2,
                                               .normalise = true,
                                               .scale = 1.5f,
                                               .n_group = 1,
                                               .topk_group = 1};

/* The experts' answer to n rows with these router logits. */
static inline float *run_experts(struct rg_backend *b, const struct experts *e, const float *x,
                                 const float *logits, uint32_t n)
{
    struct rg_weight *gate = open_weight(b, &e->gate), *up = open_weight(b, &e->up);
    struct rg_weight *down = open_weight(b, &e->down);
    struct rg_tensor *in, *routing;
    struct test_step step;
    float *y;

    begin_step(&step, b, 0, n);
    in = input(&step, x, n, HIDDEN);
    routing = rg_op_route(step.s, input(&step, logits, n, EXPERTS), &TOP_2);
    y = read_out(step.s, rg_op_experts(step.s, in, routing, gate, up, down));
    end_step(&step);
    rg_weight_close(gate);
    rg_weight_close(up);
    rg_weight_close(down);
    return y;
}

/* out = W[expert] x in double */
static inline void expert_product(double *out, const struct rg_weight_desc *d, uint32_t expert,
                                  const double *x)
{
    for (uint32_t r = 0; r < d->rows; r++) {
        out[r] = 0.0;
        for (uint32_t c = 0; c < d->cols; c++)
            out[r] += weight_at(d, (size_t)expert * d->rows + r, c) * x[c];
    }
}

static inline void naive_experts(double *y, const struct experts *e, const float *x,
                                 const float *logits)
{
    double in[HIDDEN], g[INNER], u[INNER], out[HIDDEN], p[EXPERTS];
    uint32_t first = 0, second;

    for (int c = 0; c < HIDDEN; c++) {
        in[c] = (double)x[c];
        y[c] = 0.0;
    }
    for (uint32_t i = 0; i < EXPERTS; i++) {
        p[i] = exp((double)logits[i]);
        first = p[i] > p[first] ? i : first;
    }
    second = first == 0 ? 1 : 0;
    for (uint32_t i = 0; i < EXPERTS; i++)
        second = i != first && p[i] > p[second] ? i : second;
    for (int k = 0; k < 2; k++) {
        const uint32_t expert = k == 0 ? first : second;
        const double weight = p[expert] / (p[first] + p[second]) * 1.5;

        expert_product(g, &e->gate.desc, expert, in);
        expert_product(u, &e->up.desc, expert, in);
        for (int i = 0; i < INNER; i++)
            g[i] = g[i] / (1.0 + exp(-g[i])) * u[i];
        expert_product(out, &e->down.desc, expert, g);
        for (int c = 0; c < HIDDEN; c++)
            y[c] += weight * out[c];
    }
}

/* Where each expert of gate, up and down lies. */
struct one_by_one {
    const uint8_t *data[EXPERTS], *scales[EXPERTS], *biases[EXPERTS];
};

/* Makes of stacked experts ones that have a pointer each; nothing moves. */
static inline void store_one_by_one(struct experts *e, struct one_by_one o[3])
{
    struct rg_weight_desc *const w[] = {&e->gate.desc, &e->up.desc, &e->down.desc};

    for (int i = 0; i < 3; i++) {
        struct rg_weight_desc *d = w[i];
        const size_t codes = (size_t)d->rows * d->cols * d->bits / 8;
        const size_t scales = scale_count(d) * (byte_scales(d->kind) ? 1 : dtype_bytes(d->dtype));

        for (size_t k = 0; k < EXPERTS; k++) {
            o[i].data[k] = d->data + k * codes;
            o[i].scales[k] = d->scales + k * scales;
            if (d->biases)
                o[i].biases[k] = d->biases + k * scales;
        }
        d->data_of = o[i].data;
        d->scales_of = o[i].scales;
        d->biases_of = d->biases ? o[i].biases : NULL;
        d->data = d->scales = d->biases = NULL;
    }
}

#endif
