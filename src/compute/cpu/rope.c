/* rope.c - rotary position embeddings: every kind's frequencies, and the op. */
#include "compute/cpu/rope.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "compute/cpu/backend.h"
#include "compute/math.h"

static const double PI = 3.14159265358979323846;

/* base^(2i/d) */
static double period(const struct rg_rope_config *c, uint32_t i)
{
    return rg_pow(c->theta, 2.0 * i / c->dims);
}

static double yarn_mscale(double factor, double mscale)
{
    return factor <= 1.0 ? 1.0 : 0.1 * mscale * rg_ln(factor) + 1.0;
}

/* The pair index at which `turns` full turns fit into the original context. */
static double yarn_correction(const struct rg_rope_config *c, double turns)
{
    const double context = (double)c->original_max_position_embeddings;

    return c->dims * rg_ln(context / (2.0 * PI * turns)) / (2.0 * rg_ln(c->theta));
}

/* Fast pairs keep their frequency, slow ones are slowed by factor, a linear ramp lies between. */
static void yarn(struct rg_rope *r, const struct rg_rope_config *c)
{
    double low = floor(yarn_correction(c, c->beta_fast));
    double high = ceil(yarn_correction(c, c->beta_slow));

    low = low < 0.0 ? 0.0 : low;
    high = high > c->dims - 1.0 ? c->dims - 1.0 : high;
    if (!(high < low) && !(high > low))
        high += 0.001;
    for (uint32_t i = 0; i < c->dims / 2; i++) {
        double ramp = (i - low) / (high - low);

        ramp = ramp < 0.0 ? 0.0 : ramp > 1.0 ? 1.0 : ramp;
        r->inv_freq[i] = ((1.0 - ramp) + ramp / c->factor) / period(c, i);
    }
    r->input_scale =
        (float)(yarn_mscale(c->factor, c->mscale) / yarn_mscale(c->factor, c->mscale_all_dim));
}

static double llama3_period(const struct rg_rope_config *c, double p)
{
    const double wavelength = 2.0 * PI * p;
    const double context = (double)c->original_max_position_embeddings;
    double t;

    if (wavelength > context / c->low_freq_factor)
        return p * c->factor;
    if (wavelength < context / c->high_freq_factor)
        return p;
    t = (context / wavelength - c->low_freq_factor) / (c->high_freq_factor - c->low_freq_factor);
    return p / ((1.0 - t) / c->factor + t);
}

static void longrope(struct rg_rope *r, const struct rg_rope_config *c, uint32_t max_positions)
{
    const double original = (double)c->original_max_position_embeddings;

    for (uint32_t i = 0; i < c->dims / 2; i++)
        r->inv_freq[i] = 1.0 / (c->long_factor[i] * period(c, i));
    if (max_positions > c->original_max_position_embeddings)
        r->input_scale = (float)sqrt(1.0 + rg_ln(max_positions / original) / rg_ln(original));
}

static void fill(struct rg_rope *r, const struct rg_rope_config *c, uint32_t max_positions)
{
    const uint32_t rotated = (uint32_t)(c->dims * c->partial_rotary_factor);

    if (c->kind == RG_ROPE_YARN) {
        yarn(r, c);
        return;
    }
    if (c->kind == RG_ROPE_LONGROPE) {
        longrope(r, c, max_positions);
        return;
    }
    for (uint32_t i = 0; i < c->dims / 2; i++) {
        const double p = period(c, i);

        if (c->kind == RG_ROPE_LINEAR)
            r->inv_freq[i] = 1.0 / (p * c->factor);
        else if (c->kind == RG_ROPE_LLAMA3)
            r->inv_freq[i] = 1.0 / llama3_period(c, p);
        else if (c->kind == RG_ROPE_PROPORTIONAL)
            r->inv_freq[i] = i < rotated / 2 ? 1.0 / (p * c->factor) : 0.0;
        else
            r->inv_freq[i] = 1.0 / p;
    }
}

enum rg_code rg_rope_open(struct rg_rope **out, const struct rg_rope_config *config,
                          uint32_t max_positions, struct rg_err *err)
{
    struct rg_rope *r;

    *out = NULL;
    if (config->dims == 0 || config->dims % 2 != 0)
        return rg_fail(err, RG_E_BAD_DATA, "rope: %u rotated columns per head: must be even",
                       config->dims);
    if (config->kind == RG_ROPE_LONGROPE && config->n_long_factor != config->dims / 2)
        return rg_fail(err, RG_E_BAD_DATA, "rope: long_factor has %u numbers, must have %u",
                       config->n_long_factor, config->dims / 2);
    r = rg_calloc(1, sizeof(*r) + config->dims / 2 * sizeof(r->inv_freq[0]));
    if (!r)
        return rg_fail(err, RG_E_NOMEM, "rope: out of memory");
    r->dims = config->dims;
    r->interleaved = config->interleaved;
    r->input_scale = 1.0f;
    fill(r, config, max_positions);
    *out = r;
    return RG_OK;
}

void rg_rope_close(struct rg_rope *r)
{
    rg_free(r);
}

/* ---- the op ---------------------------------------------------------------------------------- */

struct rope_job {
    const struct rg_rope *rope;
    const uint32_t *positions;
    float *table; /* [rows][dims]: cos and sin of each pair */
    const struct rg_tensor *x;
    struct rg_tensor *y;
    uint32_t n_heads;
};

static void table_part(void *arg, uint32_t part, uint32_t n_parts)
{
    const struct rope_job *job = arg;
    const uint32_t dims = job->rope->dims;
    uint64_t begin, end;

    rg_pool_share(job->x->rows, 1, part, n_parts, &begin, &end);
    for (uint64_t row = begin; row < end; row++)
        for (uint32_t i = 0; i < dims / 2; i++) {
            const double angle = job->positions[row] * job->rope->inv_freq[i];

            job->table[row * dims + 2 * i] = (float)rg_cos(angle);
            job->table[row * dims + 2 * i + 1] = (float)rg_sin(angle);
        }
}

/* The step's table of a rope: made by its first use, read by the q and k of every layer. */
static float *table_of(struct rg_step *s, struct rope_job *job)
{
    const size_t count = (size_t)job->x->rows * job->rope->dims;
    uint32_t slot = 0;

    while (slot < RG_ROPE_TABLES && s->ropes[slot] && s->ropes[slot] != job->rope)
        slot++;
    if (slot < RG_ROPE_TABLES && s->ropes[slot])
        return s->rope_tables[slot];
    job->table = rg_arena_alloc(&s->whole, count * sizeof(float));
    if (!job->table) {
        s->failed = true;
        return NULL;
    }
    rg_backend_run(s->backend, table_part, job, count * 32);
    if (slot < RG_ROPE_TABLES) {
        s->ropes[slot] = job->rope;
        s->rope_tables[slot] = job->table;
    }
    return job->table;
}

static void rotate(const struct rope_job *job, float *y, const float *table)
{
    const uint32_t half = job->rope->dims / 2;
    const uint32_t step = job->rope->interleaved ? 2 : 1;
    const uint32_t other = job->rope->interleaved ? 1 : half;
    const float scale = job->rope->input_scale;

    for (uint32_t i = 0; i < half; i++) {
        const float x1 = y[i * step] * scale, x2 = y[i * step + other] * scale;
        const float c = table[2 * i], s = table[2 * i + 1];

        y[i * step] = x1 * c - x2 * s;
        y[i * step + other] = x1 * s + x2 * c;
    }
}

static void rope_part(void *arg, uint32_t part, uint32_t n_parts)
{
    const struct rope_job *job = arg;
    const uint32_t head_cols = job->x->cols / job->n_heads;
    uint64_t begin, end;

    rg_pool_share(job->x->rows, 1, part, n_parts, &begin, &end);
    for (uint64_t row = begin; row < end; row++) {
        float *y = job->y->data + row * job->x->cols;

        memcpy(y, job->x->data + row * job->x->cols, job->x->cols * sizeof(*y));
        for (uint32_t h = 0; h < job->n_heads; h++)
            rotate(job, y + (size_t)h * head_cols, job->table + row * job->rope->dims);
    }
}

struct rg_tensor *rg_op_rope(struct rg_step *s, const struct rg_tensor *x, const struct rg_rope *r,
                             uint32_t n_heads)
{
    struct rope_job job = {.rope = r, .positions = s->positions, .x = x, .n_heads = n_heads};

    if (!x)
        return NULL;
    assert(x->rows == s->batch->n_rows && x->cols % n_heads == 0 && r->dims <= x->cols / n_heads);
    job.y = rg_step_tensor(s, x->rows, x->cols);
    job.table = table_of(s, &job);
    if (!job.y || !job.table)
        return NULL;
    rg_backend_run(s->backend, rope_part, &job, x->rows > 1 ? (uint64_t)x->rows * x->cols : 0);
    return job.y;
}
