/* router.c - the choice of experts of each row.
 *
 * Scores     softmax over all experts (sum in 8 lanes) or sigmoid; the choice is by score plus
 *            correction; with groups, those that are not among the topk_group best (by the sum of
 *            their two best) count as exactly 0.0, as in the models' own code.  Ties: lowest index.
 * Weights    the chosen experts' scores without the correction, divided by their sum (added in rank
 *            order, plus 1e-20) when asked to, times scale. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "compute/cpu/backend.h"

struct route_job {
    struct rg_backend *backend;
    const struct rg_router_options *options;
    const struct rg_tensor *logits;
    struct rg_routing *routing;
    float *work; /* per part: scores [E], choice [E] */
};

static void softmax(const struct rg_kernels *k, float *scores, const float *logits, uint32_t n)
{
    float max = -INFINITY, l[8] = {0}, sum;

    for (uint32_t i = 0; i < n; i++)
        max = logits[i] > max ? logits[i] : max;
    memcpy(scores, logits, n * sizeof(*scores));
    k->exps(scores, n, max);
    for (uint32_t i = 0; i < n; i++)
        l[i % 8] += scores[i];
    sum = ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]));
    for (uint32_t i = 0; i < n; i++)
        scores[i] /= sum;
}

/* rg_sigmoidf() of every logit */
static void sigmoid(const struct rg_kernels *k, float *scores, const float *logits, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        scores[i] = -logits[i];
    k->exps(scores, n, 0.0f);
    for (uint32_t i = 0; i < n; i++)
        scores[i] = 1.0f / (1.0f + scores[i]);
}

/* The index of the greatest of v[0..n) that is not already in taken[0..n_taken). */
static uint32_t best(const float *v, uint32_t n, const uint32_t *taken, uint32_t n_taken)
{
    uint32_t at = n;

    for (uint32_t i = 0; i < n; i++) {
        bool free_one = true;

        if (at < n && !(v[i] > v[at]))
            continue;
        for (uint32_t t = 0; t < n_taken && free_one; t++)
            free_one = taken[t] != i;
        if (free_one)
            at = i;
    }
    assert(at < n);
    return at;
}

/* Sum of the two greatest of v[0..n), n >= 2. */
static float best_two(const float *v, uint32_t n)
{
    const uint32_t first = best(v, n, NULL, 0);

    return v[first] + v[best(v, n, &first, 1)];
}

/* A group stays when fewer than topk_group groups are better (an equal one with a lower index is).
 */
static void mask_groups(float *choice, uint32_t n_experts, const struct rg_router_options *o,
                        float *group_scores)
{
    const uint32_t size = n_experts / o->n_group;

    for (uint32_t g = 0; g < o->n_group; g++)
        group_scores[g] = best_two(choice + (size_t)g * size, size);
    for (uint32_t g = 0; g < o->n_group; g++) {
        uint32_t better = 0;

        for (uint32_t other = 0; other < o->n_group; other++)
            better += group_scores[other] > group_scores[g] ||
                      (other < g && !(group_scores[other] < group_scores[g]));
        for (uint32_t i = 0; better >= o->topk_group && i < size; i++)
            choice[(size_t)g * size + i] = 0.0f;
    }
}

static void route_row(const struct route_job *job, uint64_t row, float *work)
{
    const struct rg_router_options *o = job->options;
    const uint32_t n = job->logits->cols;
    const float *logits = job->logits->data + row * n;
    float *scores = work, *choice = work + n, *group_scores = work + 2 * n;
    uint32_t *ids = job->routing->ids + row * o->top_k;
    float *weights = job->routing->weights + row * o->top_k;
    float sum = 0.0f;

    if (o->score == RG_ROUTER_SOFTMAX)
        softmax(job->backend->kernels, scores, logits, n);
    else
        sigmoid(job->backend->kernels, scores, logits, n);
    for (uint32_t i = 0; i < n; i++)
        choice[i] = o->correction ? scores[i] + o->correction->vector[i] : scores[i];
    if (o->n_group > 1 && o->topk_group < o->n_group)
        mask_groups(choice, n, o, group_scores);
    for (uint32_t k = 0; k < o->top_k; k++) {
        ids[k] = best(choice, n, ids, k);
        weights[k] = scores[ids[k]];
        sum += weights[k];
    }
    for (uint32_t k = 0; k < o->top_k; k++) {
        if (o->normalise && o->top_k > 1)
            weights[k] /= sum + 1e-20f;
        weights[k] *= o->scale;
    }
}

static void route_part(void *arg, uint32_t part, uint32_t n_parts)
{
    const struct route_job *job = arg;
    float *work = job->work + (size_t)part * 3 * job->logits->cols;
    uint64_t begin, end;

    rg_pool_share(job->logits->rows, 1, part, n_parts, &begin, &end);
    for (uint64_t row = begin; row < end; row++)
        route_row(job, row, work);
}

struct rg_tensor *rg_op_route(struct rg_step *s, const struct rg_tensor *logits,
                              const struct rg_router_options *options)
{
    struct route_job job = {.backend = s->backend, .options = options, .logits = logits};
    struct rg_tensor *t;
    size_t chosen;

    if (!logits)
        return NULL;
    assert(options->top_k > 0 && options->top_k <= logits->cols);
    assert(options->n_group <= 1 ||
           (logits->cols % options->n_group == 0 && logits->cols / options->n_group >= 2));
    assert(!options->correction ||
           (options->correction->vector && options->correction->desc.cols == logits->cols));
    chosen = (size_t)logits->rows * options->top_k;
    t = rg_step_alloc(s, 1, sizeof(*t));
    job.routing = rg_step_alloc(s, 1, sizeof(*job.routing));
    job.work =
        rg_step_alloc(s, (size_t)rg_backend_threads(s->backend) * 3 * logits->cols, sizeof(float));
    if (!t || !job.routing || !job.work)
        return NULL;
    *job.routing = (struct rg_routing){.ids = rg_step_alloc(s, chosen, sizeof(uint32_t)),
                                       .weights = rg_step_alloc(s, chosen, sizeof(float)),
                                       .top_k = options->top_k,
                                       .n_experts = logits->cols};
    if (!job.routing->ids || !job.routing->weights)
        return NULL;
    *t = (struct rg_tensor){.rows = logits->rows, .cols = options->top_k, .routing = job.routing};
    rg_backend_run(s->backend, route_part, &job,
                   logits->rows > 1 ? (uint64_t)logits->rows * logits->cols * 16 : 0);
    return t;
}
