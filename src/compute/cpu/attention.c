/* attention.c - paged causal attention, grouped-query and absorbed MLA.
 *
 * Order      For each query (a row and a head): pieces of 64 keys from absolute position 0, left to
 *            right, those without a visible key skipped.  In a piece: scores by the canonical dot;
 *            m' = max(m, scores); correction = exp(m - m'); p_j = exp(score_j - m');
 *            l = l * correction + sum(p), the sum in 8 lanes by j mod 8 with the tree of the dot;
 *            acc = fma(p_j, v_j, acc * correction), j ascending.  Result acc * (1 / l).
 *            So neither chunks nor blocks nor neighbours can change it.
 * Sharing    A work item is up to 32 queries that read the same keys: rows of one sequence times
 *            heads of one kv head.  A piece is turned into floats once per item. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "compute/cpu/kv.h"
#include "compute/math.h"

struct row_group {
    uint32_t row_begin, n_rows;
};

struct attention_job {
    const struct rg_step *s;
    const struct rg_kv *kv;
    const struct rg_kv_layer *layer;
    const struct rg_tensor *q, *q_pe; /* q_pe: MLA only */
    struct rg_tensor *y;
    const struct row_group *groups;
    uint32_t n_groups, n_q_heads;
    uint32_t ratio; /* query heads per kv head          */
    uint32_t chunk; /* of them, in one item             */
    float scale;
};

/* One item's state; the float arrays are cut from the thread's scratch. */
struct item {
    uint32_t row_begin, kv_head, head_begin, n_heads, n_q;
    const struct rg_seq_rows *seq;
    float *keys, *values; /* a piece: [64][key_cols], [64][value_cols]  */
    float *q, *q_pe;      /* [n_q][key_cols], [n_q][value_cols]         */
    float *acc;           /* [n_q][out_cols]                            */
    float *p, *p_pe;      /* [n_q][64]                                  */
    float max[RG_QUERIES], sum[RG_QUERIES];
    uint32_t begin[RG_QUERIES], end[RG_QUERIES]; /* visible keys of the piece */
};

size_t rg_attention_scratch(const struct rg_kv_layer_spec *spec)
{
    const size_t cols = (size_t)spec->key_cols + spec->value_cols;

    /* keys and values; queries; accumulators (of either width); two sets of scores */
    return RG_PIECE * cols + RG_QUERIES * cols * 2 + (size_t)2 * RG_QUERIES * RG_PIECE;
}

static uint32_t out_cols(const struct attention_job *job)
{
    return job->q_pe ? job->layer->spec.key_cols : job->layer->spec.value_cols;
}

/* Tokens [begin, end) of the sequence, which lie in one piece, as floats at dst + (token - piece).
 */
static void load_piece(const struct attention_job *job, const struct item *it, bool values,
                       uint32_t begin, uint32_t end)
{
    const struct rg_kv *kv = job->kv;
    const uint32_t cols = values ? job->layer->spec.value_cols : job->layer->spec.key_cols;
    const uint8_t *base = values ? job->layer->values : job->layer->keys;
    float *dst = values ? it->values : it->keys;
    uint32_t n;

    for (uint32_t at = begin; at < end; at += n) {
        const uint32_t slot = at % kv->block_tokens;
        const uint32_t block = it->seq->blocks[at / kv->block_tokens];
        const size_t from = rg_kv_offset(kv, job->layer, block, it->kv_head, slot) * cols;
        float *to = dst + (size_t)(at % RG_PIECE) * cols;

        n = kv->block_tokens - slot < end - at ? kv->block_tokens - slot : end - at;
        if (kv->f32)
            memcpy(to, base + from * 4, (size_t)n * cols * 4);
        else
            job->s->backend->kernels->f16_load(
                to, (const uint16_t *)(const void *)(base + from * 2), (size_t)n * cols);
    }
}

/* scores of keys [begin, end) of the piece for all queries */
static void score_piece(const struct attention_job *job, const struct item *it, uint32_t begin,
                        uint32_t end)
{
    const struct rg_kernels *k = job->s->backend->kernels;
    const uint32_t key_cols = job->layer->spec.key_cols;
    const uint32_t pe_cols = job->layer->spec.value_cols;
    struct rg_dots_job dots = {.w = it->keys + (size_t)begin * key_cols,
                               .x = it->q,
                               .y = it->p + begin,
                               .w_stride = key_cols,
                               .x_stride = key_cols,
                               .y_stride = RG_PIECE,
                               .n_w = end - begin,
                               .n_x = it->n_q,
                               .cols = key_cols};

    k->dots(&dots);
    if (job->q_pe) {
        dots.w = it->values + (size_t)begin * pe_cols;
        dots.x = it->q_pe;
        dots.y = it->p_pe + begin;
        dots.w_stride = dots.x_stride = dots.cols = pe_cols;
        k->dots(&dots);
    }
    for (uint32_t i = 0; i < it->n_q; i++) {
        float *p = it->p + (size_t)i * RG_PIECE;
        const float *p_pe = it->p_pe + (size_t)i * RG_PIECE;

        for (uint32_t j = it->begin[i]; job->q_pe && j < it->end[i]; j++)
            p[j] += p_pe[j];
        for (uint32_t j = it->begin[i]; j < it->end[i]; j++)
            p[j] *= job->scale;
    }
}

static float lane_sum(const float *p, uint32_t begin, uint32_t end)
{
    float l[8] = {0};

    for (uint32_t j = begin; j < end; j++)
        l[j % 8] += p[j];
    return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]));
}

/* Turns the scores of query i into p and brings its maximum, sum and accumulator up to date. */
static void soften(const struct attention_job *job, struct item *it, uint32_t i)
{
    float *p = it->p + (size_t)i * RG_PIECE;
    const uint32_t begin = it->begin[i], end = it->end[i], cols = out_cols(job);
    float *acc = it->acc + (size_t)i * cols;
    float max = it->max[i], correction;

    if (begin == end)
        return;
    for (uint32_t j = begin; j < end; j++)
        max = p[j] > max ? p[j] : max;
    correction = rg_expf(it->max[i] - max);
    job->s->backend->kernels->exps(p + begin, end - begin, max);
    it->sum[i] = it->sum[i] * correction + lane_sum(p, begin, end);
    it->max[i] = max;
    /* An unchanged maximum has correction 1, which changes no bit. */
    for (uint32_t c = 0; correction < 1.0f && c < cols; c++)
        acc[c] *= correction;
}

/* Sets which keys of the piece at `first` each query sees; returns the range any of them sees. */
static void visible(const struct attention_job *job, struct item *it, uint32_t first,
                    uint32_t *begin, uint32_t *end)
{
    const uint32_t window = job->layer->spec.window;

    *begin = RG_PIECE;
    *end = 0;
    for (uint32_t i = 0; i < it->n_q; i++) {
        const uint32_t position = job->s->positions[it->row_begin + i / it->n_heads];
        const uint32_t least = window != 0 && position + 1 > window ? position + 1 - window : 0;
        const uint32_t from = least > first ? least - first : 0;
        const uint32_t to = position + 1 > first ? position + 1 - first : 0;

        it->end[i] = to < RG_PIECE ? to : RG_PIECE;
        it->begin[i] = from < it->end[i] ? from : it->end[i];
        if (it->begin[i] == it->end[i])
            continue;
        *begin = it->begin[i] < *begin ? it->begin[i] : *begin;
        *end = it->end[i] > *end ? it->end[i] : *end;
    }
}

static void attend_piece(const struct attention_job *job, struct item *it, uint32_t first)
{
    const uint32_t cols = out_cols(job);
    struct rg_mix_job mix = {.p = it->p,
                             .v = job->q_pe ? it->keys : it->values,
                             .y = it->acc,
                             .p_stride = RG_PIECE,
                             .v_stride = cols,
                             .y_stride = cols,
                             .begin = it->begin,
                             .end = it->end,
                             .n_q = it->n_q,
                             .cols = cols};
    uint32_t begin, end;

    visible(job, it, first, &begin, &end);
    if (begin >= end)
        return;
    load_piece(job, it, false, first + begin, first + end);
    load_piece(job, it, true, first + begin, first + end);
    score_piece(job, it, begin, end);
    for (uint32_t i = 0; i < it->n_q; i++)
        soften(job, it, i);
    job->s->backend->kernels->mix(&mix);
}

static void cut_scratch(const struct attention_job *job, struct item *it, float *scratch)
{
    const size_t key_cols = job->layer->spec.key_cols, value_cols = job->layer->spec.value_cols;

    it->keys = scratch;
    it->values = it->keys + RG_PIECE * key_cols;
    it->q = it->values + RG_PIECE * value_cols;
    it->q_pe = it->q + RG_QUERIES * key_cols;
    it->acc = it->q_pe + RG_QUERIES * value_cols;
    it->p = it->acc + RG_QUERIES * (key_cols + value_cols);
    it->p_pe = it->p + RG_QUERIES * RG_PIECE;
}

static void load_queries(const struct attention_job *job, struct item *it)
{
    const size_t key_cols = job->layer->spec.key_cols, pe_cols = job->layer->spec.value_cols;

    for (uint32_t i = 0; i < it->n_q; i++) {
        const size_t row = it->row_begin + i / it->n_heads;
        const size_t head = it->head_begin + i % it->n_heads;

        memcpy(it->q + i * key_cols, job->q->data + row * job->q->cols + head * key_cols,
               key_cols * sizeof(float));
        if (job->q_pe)
            memcpy(it->q_pe + i * pe_cols, job->q_pe->data + row * job->q_pe->cols + head * pe_cols,
                   pe_cols * sizeof(float));
        it->max[i] = -INFINITY;
        it->sum[i] = 0.0f;
    }
    memset(it->acc, 0, it->n_q * (size_t)out_cols(job) * sizeof(float));
}

static void store_results(const struct attention_job *job, const struct item *it)
{
    const size_t cols = out_cols(job);

    for (uint32_t i = 0; i < it->n_q; i++) {
        const size_t row = it->row_begin + i / it->n_heads;
        const size_t head = it->head_begin + i % it->n_heads;
        const float inverse = 1.0f / it->sum[i];
        float *y = job->y->data + row * job->y->cols + head * cols;

        for (size_t c = 0; c < cols; c++)
            y[c] = it->acc[i * cols + c] * inverse;
    }
}

static uint32_t chunks_per_head(const struct attention_job *job)
{
    return (job->ratio + job->chunk - 1) / job->chunk;
}

static void attend_item(const struct attention_job *job, uint64_t index, float *scratch)
{
    const uint32_t chunks = chunks_per_head(job);
    const uint32_t kv_heads = job->layer->spec.n_heads;
    const struct row_group *group = &job->groups[index / ((uint64_t)chunks * kv_heads)];
    const uint32_t in_head = (uint32_t)(index % chunks) * job->chunk;
    const uint32_t window = job->layer->spec.window;
    struct item it = {.row_begin = group->row_begin};
    uint32_t first, last;

    it.kv_head = (uint32_t)(index / chunks % kv_heads);
    it.head_begin = it.kv_head * job->ratio + in_head;
    it.n_heads = job->ratio - in_head < job->chunk ? job->ratio - in_head : job->chunk;
    it.n_q = group->n_rows * it.n_heads;
    it.seq = &job->s->batch->seqs[job->s->seq_of_row[group->row_begin]];
    cut_scratch(job, &it, scratch);
    load_queries(job, &it);
    first = job->s->positions[group->row_begin];
    last = first + group->n_rows - 1;
    first = window != 0 && first + 1 > window ? first + 1 - window : 0;
    for (uint32_t at = first / RG_PIECE * RG_PIECE; at <= last; at += RG_PIECE)
        attend_piece(job, &it, at);
    store_results(job, &it);
}

static void attention_part(void *arg, uint32_t part, uint32_t n_parts)
{
    const struct attention_job *job = arg;
    const uint64_t items =
        (uint64_t)job->n_groups * job->layer->spec.n_heads * chunks_per_head(job);

    /* Neighbouring items cost about the same, far ones don't: deal them out one by one. */
    for (uint64_t i = part; i < items; i += n_parts)
        attend_item(job, i, rg_backend_scratch(job->s->backend, part));
}

/* Rows of each sequence in groups of at most `rows`. */
static bool group_rows(struct rg_step *s, struct attention_job *job, uint32_t rows)
{
    struct row_group *groups = rg_step_alloc(s, s->batch->n_rows, sizeof(*groups));

    if (!groups)
        return false;
    for (uint32_t i = 0; i < s->batch->n_seqs; i++) {
        const struct rg_seq_rows *seq = &s->batch->seqs[i];

        for (uint32_t done = 0; done < seq->n_rows; done += rows) {
            const uint32_t left = seq->n_rows - done;
            groups[job->n_groups++] = (struct row_group){.row_begin = seq->row_begin + done,
                                                         .n_rows = left < rows ? left : rows};
        }
    }
    job->groups = groups;
    return true;
}

static uint64_t keys_seen(const struct rg_step *s)
{
    uint64_t n = 0;

    for (uint32_t i = 0; i < s->batch->n_rows; i++)
        n += s->positions[i] + 1;
    return n;
}

static struct rg_tensor *attend(struct rg_step *s, struct attention_job *job)
{
    const uint32_t kv_heads = job->layer->spec.n_heads;
    const uint64_t wanted = 2 * (uint64_t)rg_backend_threads(s->backend);
    uint32_t rows;

    job->s = s;
    job->ratio = job->n_q_heads / kv_heads;
    assert(job->n_q_heads % kv_heads == 0 && job->q->rows == s->batch->n_rows);
    assert(job->q->cols == job->n_q_heads * job->layer->spec.key_cols);
    job->chunk = job->ratio < RG_QUERIES ? job->ratio : RG_QUERIES;
    while (job->chunk > 1 && (uint64_t)s->batch->n_rows * kv_heads * chunks_per_head(job) < wanted)
        job->chunk = (job->chunk + 1) / 2;
    rows = RG_QUERIES / job->chunk;
    while (rows > 1 && (uint64_t)s->batch->n_rows * kv_heads / rows < wanted)
        rows = (rows + 1) / 2;
    job->y = rg_step_tensor(s, job->q->rows, job->n_q_heads * out_cols(job));
    if (!job->y || !group_rows(s, job, rows))
        return NULL;
    rg_backend_run(s->backend, attention_part, job,
                   keys_seen(s) * job->n_q_heads * job->layer->spec.key_cols);
    return job->y;
}

struct rg_tensor *rg_op_attention(struct rg_step *s, struct rg_kv *kv, uint32_t layer,
                                  const struct rg_tensor *q, uint32_t n_q_heads, float scale)
{
    struct attention_job job = {
        .kv = kv, .layer = &kv->layers[layer], .q = q, .n_q_heads = n_q_heads, .scale = scale};

    return q ? attend(s, &job) : NULL;
}

struct rg_tensor *rg_op_attention_mla(struct rg_step *s, struct rg_kv *kv, uint32_t layer,
                                      const struct rg_tensor *q_latent,
                                      const struct rg_tensor *q_pe, uint32_t n_heads, float scale)
{
    struct attention_job job = {.kv = kv,
                                .layer = &kv->layers[layer],
                                .q = q_latent,
                                .q_pe = q_pe,
                                .n_q_heads = n_heads,
                                .scale = scale};

    if (!q_latent || !q_pe)
        return NULL;
    assert(job.layer->spec.n_heads == 1 && q_pe->rows == q_latent->rows);
    assert(q_pe->cols == n_heads * job.layer->spec.value_cols);
    return attend(s, &job);
}
