/* sampler.c - penalties, filters, draw.
 *
 * Greedy without penalties is one pass over the logits.  top_k and top_p look at the highest values
 * only (rank.h); a draw without them, and top_p's total, walk the vocabulary in order of ids. */
#include "engine/sampler.h"

#include <assert.h>
#include <float.h>
#include <string.h>

#include "base/mem.h"
#include "compute/math.h"
#include "engine/philox.h"
#include "engine/rank.h"

/* How many of the highest values top_p looks at first, and by how much it then widens its look. */
enum { TOP_P_FIRST = 64, TOP_P_GROWTH = 8 };

struct rg_sampler {
    uint32_t vocab;
    float *logits;    /* owned [vocab]: after the penalties */
    float *weights;   /* owned [vocab]: by rank, or by id */
    uint32_t *ids;    /* owned [vocab]: by rank */
    uint32_t *counts; /* owned [vocab]: all zero between draws */
};

enum rg_code rg_sampler_open(struct rg_sampler **out, uint32_t vocab_size, struct rg_err *err)
{
    struct rg_sampler *s = rg_calloc(1, sizeof(*s));

    *out = NULL;
    if (s) {
        s->vocab = vocab_size;
        s->logits = rg_calloc(vocab_size, sizeof(*s->logits));
        s->weights = rg_calloc(vocab_size, sizeof(*s->weights));
        s->ids = rg_calloc(vocab_size, sizeof(*s->ids));
        s->counts = rg_calloc(vocab_size, sizeof(*s->counts));
    }
    if (!s || !s->logits || !s->weights || !s->ids || !s->counts) {
        rg_sampler_close(s);
        return rg_fail(err, RG_E_NOMEM, "sampler: no memory for %u logits", vocab_size);
    }
    *out = s;
    return RG_OK;
}

void rg_sampler_close(struct rg_sampler *s)
{
    if (!s)
        return;
    rg_free(s->logits);
    rg_free(s->weights);
    rg_free(s->ids);
    rg_free(s->counts);
    rg_free(s);
}

/* ---- logits ---------------------------------------------------------------------------------- */

/* The id of the highest value, the lowest id of equal ones; false when a value is not finite. */
static bool find_highest(const float *z, uint32_t n, uint32_t *highest)
{
    float best = z[0];
    uint32_t id = 0;
    uint32_t bad = 0;

    for (uint32_t i = 0; i < n; i++) {
        uint32_t bits;

        memcpy(&bits, &z[i], sizeof(bits));
        bad |= (bits & 0x7f800000u) == 0x7f800000u;
        if (z[i] > best) {
            best = z[i];
            id = i;
        }
    }
    *highest = id;
    return !bad;
}

static bool is_on(float penalty, float off)
{
    return penalty < off || penalty > off;
}

static bool is_adjusted(const struct rg_sampling *how)
{
    return how->n_bias > 0 || is_on(how->repetition_penalty, 1.0f) ||
           is_on(how->presence_penalty, 0.0f) || is_on(how->frequency_penalty, 0.0f);
}

/* A tiny repetition penalty may not make an infinity of a logit that was fine. */
static float bounded(float v)
{
    const float most = FLT_MAX / 4.0f;

    return v > most ? most : v < -most ? -most : v;
}

static void penalise_repetition(struct rg_sampler *s, float penalty, const int32_t *tokens,
                                uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        float *z = &s->logits[tokens[i]];

        if (s->counts[tokens[i]]++ == 0)
            *z = bounded(*z < 0.0f ? *z * penalty : *z / penalty);
    }
    for (uint32_t i = 0; i < n; i++)
        s->counts[tokens[i]] = 0;
}

static void penalise_presence(struct rg_sampler *s, const struct rg_sampling *how,
                              const int32_t *tokens, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        s->counts[tokens[i]]++;
    for (uint32_t i = 0; i < n; i++) {
        const int32_t id = tokens[i];

        if (s->counts[id] == 0)
            continue;
        s->logits[id] -= how->presence_penalty;
        s->logits[id] -= (float)s->counts[id] * how->frequency_penalty;
        s->counts[id] = 0;
    }
}

static void adjust(struct rg_sampler *s, const float *logits, const struct rg_sampling *how,
                   const struct rg_history *h)
{
    memcpy(s->logits, logits, s->vocab * sizeof(*logits));
    for (uint32_t i = 0; i < how->n_bias; i++)
        s->logits[how->bias[i].id] = bounded(s->logits[how->bias[i].id] + how->bias[i].bias);
    if (is_on(how->repetition_penalty, 1.0f))
        penalise_repetition(s, how->repetition_penalty, h->tokens, h->n_tokens);
    if (is_on(how->presence_penalty, 0.0f) || is_on(how->frequency_penalty, 0.0f))
        penalise_presence(s, how, h->tokens + h->n_prompt, h->n_tokens - h->n_prompt);
}

/* ---- drawing --------------------------------------------------------------------------------- */

/* The weights of n logits: tempered probabilities up to a factor; the highest logit has 1. */
static void weigh(float *weights, const float *z, uint32_t n, float highest, float temperature)
{
    for (uint32_t i = 0; i < n; i++)
        weights[i] = (z[i] - highest) / temperature;
    rg_expf_each(weights, n);
}

/* The first of n weights at which the running sum passes u of the whole; a 0 is never drawn. */
static uint32_t pick(const float *weights, uint32_t n, double u)
{
    double total = 0.0;
    double sum = 0.0;
    uint32_t last = 0;

    for (uint32_t i = 0; i < n; i++)
        total += (double)weights[i];
    for (uint32_t i = 0; i < n; i++) {
        if (!(weights[i] > 0.0f))
            continue;
        last = i;
        sum += (double)weights[i];
        if (sum > u * total)
            break;
    }
    return last;
}

/* Neither top_k nor top_p: weights stay in the order of ids. */
static uint32_t draw_from_all(struct rg_sampler *s, const float *z, float highest,
                              const struct rg_sampling *how, double u)
{
    weigh(s->weights, z, s->vocab, highest, how->temperature);
    for (uint32_t i = 0; i < s->vocab; i++)
        s->weights[i] = s->weights[i] < how->min_p ? 0.0f : s->weights[i];
    return pick(s->weights, s->vocab, u);
}

static void rank(struct rg_sampler *s, const float *z, uint32_t k, float temperature)
{
    rg_rank_top(z, s->vocab, k, s->ids);
    for (uint32_t i = 0; i < k; i++)
        s->weights[i] = (z[s->ids[i]] - z[s->ids[0]]) / temperature;
    rg_expf_each(s->weights, k);
}

/* How many of the k first ranks reach the share, or k + 1 when they don't. */
static uint32_t ranks_for(const struct rg_sampler *s, uint32_t k, double share)
{
    double sum = 0.0;

    for (uint32_t i = 0; i < k; i++) {
        sum += (double)s->weights[i];
        if (sum >= share)
            return i + 1;
    }
    return k + 1;
}

static double weight_of_all(const struct rg_sampler *s, const float *z, float highest,
                            float temperature)
{
    enum { PIECE = 512 };
    float weights[PIECE];
    double total = 0.0;

    for (uint32_t at = 0; at < s->vocab; at += PIECE) {
        const uint32_t n = s->vocab - at < PIECE ? s->vocab - at : PIECE;

        weigh(weights, z + at, n, highest, temperature);
        for (uint32_t i = 0; i < n; i++)
            total += (double)weights[i];
    }
    return total;
}

static bool is_limited_to_k(const struct rg_sampler *s, const struct rg_sampling *how)
{
    return how->top_k > 0 && how->top_k < s->vocab;
}

/* top_k or top_p: weights are in the order of ranks. */
static uint32_t draw_from_ranks(struct rg_sampler *s, const float *z, float highest,
                                const struct rg_sampling *how, double u)
{
    const bool by_k = is_limited_to_k(s, how);
    uint32_t k = by_k ? how->top_k : s->vocab < TOP_P_FIRST ? s->vocab : TOP_P_FIRST;
    uint32_t n = k;
    double total = 0.0;

    rank(s, z, k, how->temperature);
    if (by_k)
        for (uint32_t i = 0; i < k; i++)
            total += (double)s->weights[i];
    else
        total = weight_of_all(s, z, highest, how->temperature);
    if (how->top_p < 1.0f)
        n = ranks_for(s, k, (double)how->top_p * total);
    while (n > k && !by_k && k < s->vocab) {
        k = k < s->vocab / TOP_P_GROWTH ? k * TOP_P_GROWTH : s->vocab;
        rank(s, z, k, how->temperature);
        n = ranks_for(s, k, (double)how->top_p * total);
    }
    if (n > k)
        n = k;
    while (n > 1 && s->weights[n - 1] < how->min_p)
        n--;
    return s->ids[pick(s->weights, n, u)];
}

/* ---- log-probabilities --------------------------------------------------------------------- */

static void log_probabilities(struct rg_sampler *s, const float *z, uint32_t n_top,
                              struct rg_sample *out)
{
    uint32_t highest;
    double norm;

    find_highest(z, s->vocab, &highest);
    norm = (double)z[highest] + rg_ln(weight_of_all(s, z, z[highest], 1.0f));
    out->logprob = (float)((double)z[out->id] - norm);
    if (n_top > RG_LIMIT_TOP_LOGPROBS)
        n_top = RG_LIMIT_TOP_LOGPROBS;
    if (n_top > s->vocab)
        n_top = s->vocab;
    out->n_top = n_top;
    if (n_top == 0)
        return;
    rg_rank_top(z, s->vocab, n_top, s->ids);
    for (uint32_t i = 0; i < n_top; i++)
        out->top[i] = (struct rg_token_logprob){.id = (int32_t)s->ids[i],
                                                .logprob = (float)((double)z[s->ids[i]] - norm)};
}

enum rg_code rg_sampler_draw(struct rg_sampler *s, const float *logits,
                             const struct rg_sampling *how, const struct rg_history *history,
                             struct rg_sample *out, struct rg_err *err)
{
    const float *z = logits;
    uint32_t highest;
    uint32_t id;

    assert(history->n_prompt <= history->n_tokens);
    if (!find_highest(logits, s->vocab, &highest))
        return rg_fail(err, RG_E_INTERNAL, "sampler: a logit at position %u is not finite",
                       history->n_tokens);
    if (is_adjusted(how)) {
        adjust(s, logits, how, history);
        z = s->logits;
        find_highest(z, s->vocab, &highest);
    }
    id = highest;
    if (how->temperature > 0.0f) {
        const double u = rg_philox_draw(how->seed, history->choice, history->n_tokens);

        if (is_limited_to_k(s, how) || how->top_p < 1.0f)
            id = draw_from_ranks(s, z, z[highest], how, u);
        else
            id = draw_from_all(s, z, z[highest], how, u);
    }
    memset(out, 0, sizeof(*out));
    out->id = (int32_t)id;
    if (how->logprobs)
        log_probabilities(s, logits, how->n_top_logprobs, out);
    return RG_OK;
}
