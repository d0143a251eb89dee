/* router_test.c - the choice of experts: scores, ties, groups, corrections.
 *
 * A routing is opaque; what was chosen is read through experts that return 1 in a column of their
 * own, so the answer's columns are the routing weights by expert. */
#include "support/compute_helpers.h"

enum { MAX_EXPERTS = 32, HIDDEN = 32 };

/* Experts with gate(x) = up(x) = x[0] = 1 in their only inner column and down = silu(1)^-1 at
 * column e: the answer's column e is the weight of expert e, 0 when it was not chosen. */
struct probe {
    struct rg_backend *b;
    struct test_weight gate, down;
    struct rg_weight *in, *out;
};

static struct probe open_probe(uint32_t n_experts, uint32_t threads)
{
    struct probe p = {.b = open_backend(RG_KERNELS_BEST, threads, RG_ACTIVATIONS_F32)};
    const float silu = 1.0f / (1.0f + expf(-1.0f));

    p.gate = float_weight(n_experts, 1, HIDDEN, RG_DTYPE_F32);
    p.down = float_weight(n_experts, MAX_EXPERTS, 1, RG_DTYPE_F32);
    memset((uint8_t *)(uintptr_t)p.gate.desc.data, 0, p.gate.desc.bytes);
    memset((uint8_t *)(uintptr_t)p.down.desc.data, 0, p.down.desc.bytes);
    for (uint32_t e = 0; e < n_experts; e++) {
        put_float((uint8_t *)(uintptr_t)p.gate.desc.data, RG_DTYPE_F32, (size_t)e * HIDDEN, 1.0f);
        put_float((uint8_t *)(uintptr_t)p.down.desc.data, RG_DTYPE_F32, (size_t)e * MAX_EXPERTS + e,
                  1.0f / silu);
    }
    p.in = open_weight(p.b, &p.gate);
    p.out = open_weight(p.b, &p.down);
    return p;
}

static void close_probe(struct probe *p)
{
    rg_weight_close(p->in);
    rg_weight_close(p->out);
    free_weight(&p->gate);
    free_weight(&p->down);
    rg_backend_close(p->b);
}

/* weights [n][MAX_EXPERTS] */
static void route(const struct probe *p, float *weights, const float *logits, uint32_t n,
                  uint32_t n_experts, const struct rg_router_options *o)
{
    float *x = calloc((size_t)n * HIDDEN, sizeof(*x)), *y;
    struct rg_tensor *routing;
    struct test_step step;

    for (uint32_t i = 0; i < n; i++)
        x[i * HIDDEN] = 1.0f;
    begin_step(&step, p->b, 0, n);
    routing = rg_op_route(step.s, rg_op_input(step.s, logits, n, n_experts), o);
    y = read_out(step.s, rg_op_experts(step.s, rg_op_input(step.s, x, n, HIDDEN), routing, p->in,
                                       p->in, p->out));
    memcpy(weights, y, (size_t)n * MAX_EXPERTS * sizeof(*y));
    end_step(&step);
    free(x);
    free(y);
}

static void assert_weight(float got, double want)
{
    assert_true(fabs((double)got - want) < 1e-5);
}

static void softmax_scores_are_over_all_experts(void **state)
{
    struct probe p = open_probe(8, 2);
    const struct rg_router_options o = {
        .score = RG_ROUTER_SOFTMAX, .top_k = 3, .scale = 1.0f, .n_group = 1, .topk_group = 1};
    const float logits[8] = {0.1f, 2.0f, -1.0f, 1.5f, 0.0f, 1.9f, -3.0f, 0.2f};
    float w[MAX_EXPERTS];
    double sum = 0.0;

    (void)state;
    for (int i = 0; i < 8; i++)
        sum += exp((double)logits[i]);
    route(&p, w, logits, 1, 8, &o);
    for (uint32_t i = 0; i < 8; i++)
        assert_weight(w[i], i == 1 || i == 3 || i == 5 ? exp((double)logits[i]) / sum : 0.0);
    close_probe(&p);
}

static void weights_are_normalised_and_scaled_when_asked(void **state)
{
    struct probe p = open_probe(8, 1);
    struct rg_router_options o = {.score = RG_ROUTER_SIGMOID,
                                  .top_k = 2,
                                  .normalise = true,
                                  .scale = 2.5f,
                                  .n_group = 1,
                                  .topk_group = 1};
    const float logits[8] = {0, 1, 2, 3, 4, -1, -2, -3};
    const double a = 1 / (1 + exp(-4.0)), b = 1 / (1 + exp(-3.0));
    float w[MAX_EXPERTS];

    (void)state;
    route(&p, w, logits, 1, 8, &o);
    assert_weight(w[4], 2.5 * a / (a + b));
    assert_weight(w[3], 2.5 * b / (a + b));
    o.normalise = false;
    route(&p, w, logits, 1, 8, &o);
    assert_weight(w[4], 2.5 * a);
    assert_weight(w[3], 2.5 * b);
    o.normalise = true;
    o.top_k = 1; /* one weight is never divided by itself */
    route(&p, w, logits, 1, 8, &o);
    assert_weight(w[4], 2.5 * a);
    assert_weight(w[3], 0.0);
    close_probe(&p);
}

static void ties_go_to_the_lowest_index(void **state)
{
    struct probe p = open_probe(8, 1);
    const struct rg_router_options o = {
        .score = RG_ROUTER_SIGMOID, .top_k = 3, .scale = 1.0f, .n_group = 1, .topk_group = 1};
    const float logits[8] = {-1, 0, 0, 0, 0, 0, 1, 0};
    float w[MAX_EXPERTS];

    (void)state;
    route(&p, w, logits, 1, 8, &o);
    for (uint32_t i = 0; i < 8; i++)
        assert_true((w[i] > 0.0f) == (i == 1 || i == 2 || i == 6));
    close_probe(&p);
}

static void the_correction_chooses_but_does_not_weigh(void **state)
{
    struct probe p = open_probe(4, 1);
    struct test_weight t = float_weight(1, 1, 4, RG_DTYPE_F32);
    const float correction[4] = {0.0f, 0.0f, 5.0f, -5.0f};
    const float logits[4] = {0.5f, 0.1f, -2.0f, 3.0f};
    struct rg_router_options o = {
        .score = RG_ROUTER_SIGMOID, .top_k = 2, .scale = 1.0f, .n_group = 1, .topk_group = 1};
    struct rg_weight *c;
    float w[MAX_EXPERTS];

    (void)state;
    for (uint32_t i = 0; i < 4; i++)
        put_float((uint8_t *)(uintptr_t)t.desc.data, RG_DTYPE_F32, i, correction[i]);
    c = open_weight(p.b, &t);
    o.correction = c;
    route(&p, w, logits, 1, 4, &o);
    assert_weight(w[0], 1 / (1 + exp(-0.5)));
    assert_weight(w[2], 1 / (1 + exp(2.0)));
    assert_weight(w[1], 0.0);
    assert_weight(w[3], 0.0);
    rg_weight_close(c);
    free_weight(&t);
    close_probe(&p);
}

/* The grouped choice once more, step by step in double, for 8 groups of 4. */
static void naive_groups(bool *chosen, const double *choice, uint32_t top_k, uint32_t keep)
{
    double masked[32], group[8];

    for (int g = 0; g < 8; g++) {
        double a = -INFINITY, b = -INFINITY;

        for (int i = 0; i < 4; i++) {
            const double v = choice[g * 4 + i];
            if (v > a) {
                b = a;
                a = v;
            } else if (v > b) {
                b = v;
            }
        }
        group[g] = a + b;
    }
    for (int g = 0; g < 8; g++) {
        uint32_t better = 0;

        for (int o = 0; o < 8; o++)
            better += group[o] > group[g] || (o < g && group[o] >= group[g]);
        for (int i = 0; i < 4; i++)
            masked[g * 4 + i] = better < keep ? choice[g * 4 + i] : 0.0;
    }
    memset(chosen, 0, 32 * sizeof(*chosen));
    for (uint32_t k = 0; k < top_k; k++) {
        int best = -1;

        for (int i = 0; i < 32; i++)
            if (!chosen[i] && (best < 0 || masked[i] > masked[best]))
                best = i;
        chosen[best] = true;
    }
}

static void groups_are_masked_to_zero_and_not_further(void **state)
{
    struct probe p = open_probe(32, 2);
    struct test_weight t = float_weight(1, 1, 32, RG_DTYPE_F32);
    float correction[32], w[MAX_EXPERTS], logits[32];
    int masked_chosen = 0;

    (void)state;
    for (int round = 0; round < 200; round++) {
        struct rg_router_options o = {.score = RG_ROUTER_SIGMOID,
                                      .top_k = 6,
                                      .scale = 1.0f,
                                      .n_group = 8,
                                      .topk_group = 1 + random_below(8)};
        struct rg_weight *c;
        double choice[32];
        bool chosen[32];

        for (uint32_t i = 0; i < 32; i++) {
            logits[i] = random_float() * 4.0f;
            /* half the rounds: biased scores below the mask's 0.0, so that masked experts win */
            correction[i] = round % 2 ? -1.5f + 0.1f * random_float() : 0.2f * random_float();
            put_float((uint8_t *)(uintptr_t)t.desc.data, RG_DTYPE_F32, i, correction[i]);
            choice[i] = 1 / (1 + exp(-(double)logits[i])) + (double)correction[i];
        }
        c = open_weight(p.b, &t);
        o.correction = c;
        route(&p, w, logits, 1, 32, &o);
        naive_groups(chosen, choice, o.top_k, o.topk_group);
        for (uint32_t i = 0; i < 32; i++) {
            assert_weight(w[i], chosen[i] ? 1 / (1 + exp(-(double)logits[i])) : 0.0);
            masked_chosen += chosen[i] && choice[i] < 0.0 && o.topk_group < 8;
        }
        rg_weight_close(c);
    }
    assert_true(masked_chosen > 0);
    free_weight(&t);
    close_probe(&p);
}

static void a_nan_among_the_logits_is_not_hidden(void **state)
{
    struct probe p = open_probe(8, 1);
    const struct rg_router_options o = {
        .score = RG_ROUTER_SOFTMAX, .top_k = 8, .scale = 1.0f, .n_group = 1, .topk_group = 1};
    const float logits[8] = {0, 1, NAN, 3, 4, 5, 6, 7};
    float x[HIDDEN] = {1.0f}, y[MAX_EXPERTS];
    struct rg_tensor *routing, *out;
    struct test_step step;

    (void)state;
    begin_step(&step, p.b, 0, 1);
    routing = rg_op_route(step.s, rg_op_input(step.s, logits, 1, 8), &o);
    out = rg_op_experts(step.s, rg_op_input(step.s, x, 1, HIDDEN), routing, p.in, p.in, p.out);
    assert_int_equal(rg_tensor_read(step.s, out, y, NULL), RG_E_INTERNAL);
    end_step(&step);
    close_probe(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(softmax_scores_are_over_all_experts),
        cmocka_unit_test(weights_are_normalised_and_scaled_when_asked),
        cmocka_unit_test(ties_go_to_the_lowest_index),
        cmocka_unit_test(the_correction_chooses_but_does_not_weigh),
        cmocka_unit_test(groups_are_masked_to_zero_and_not_further),
        cmocka_unit_test(a_nan_among_the_logits_is_not_hidden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
