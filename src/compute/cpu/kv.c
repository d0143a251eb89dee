/* kv.c - the memory of keys and values, and the op that writes them. */
#include "compute/cpu/kv.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"

static size_t float_bytes(enum rg_activations a)
{
    return a == RG_ACTIVATIONS_F32 ? 4 : 2;
}

static uint64_t side_bytes(enum rg_activations a, const struct rg_kv_options *o,
                           const struct rg_kv_layer_spec *spec, uint32_t cols)
{
    return (uint64_t)o->n_blocks * o->block_tokens * spec->n_heads * cols * float_bytes(a);
}

uint64_t rg_kv_bytes(enum rg_activations a, const struct rg_kv_options *options)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < options->n_layers; i++)
        bytes += side_bytes(a, options, &options->layers[i], options->layers[i].key_cols) +
                 side_bytes(a, options, &options->layers[i], options->layers[i].value_cols);
    return bytes;
}

static enum rg_code open_layer(struct rg_kv *kv, struct rg_backend *b,
                               const struct rg_kv_options *o, uint32_t i, struct rg_err *err)
{
    const struct rg_kv_layer_spec *spec = &o->layers[i];
    struct rg_kv_layer *layer = &kv->layers[i];
    enum rg_code code;

    layer->spec = *spec;
    layer->keys = rg_alloc_aligned(side_bytes(b->activations, o, spec, spec->key_cols), 64);
    layer->values = rg_alloc_aligned(side_bytes(b->activations, o, spec, spec->value_cols), 64);
    code = rg_backend_need_scratch(b, rg_attention_scratch(spec) * sizeof(float), err);
    if (code != RG_OK)
        return code;
    if (!layer->keys || !layer->values)
        return rg_fail(err, RG_E_NOMEM,
                       "keys and values: %llu bytes: out of memory: use a smaller context",
                       (unsigned long long)rg_kv_bytes(b->activations, o));
    return RG_OK;
}

enum rg_code rg_kv_open(struct rg_kv **out, struct rg_backend *b,
                        const struct rg_kv_options *options, struct rg_err *err)
{
    struct rg_kv *kv = rg_calloc(1, sizeof(*kv));
    enum rg_code code = RG_OK;

    assert(options->block_tokens > 0 && options->block_tokens % 16 == 0);
    *out = NULL;
    if (!kv)
        return rg_fail(err, RG_E_NOMEM, "keys and values: out of memory");
    kv->layers = rg_calloc(options->n_layers, sizeof(*kv->layers));
    if (!kv->layers) {
        rg_free(kv);
        return rg_fail(err, RG_E_NOMEM, "keys and values: out of memory");
    }
    kv->n_layers = options->n_layers;
    kv->n_blocks = options->n_blocks;
    kv->block_tokens = options->block_tokens;
    kv->f32 = b->activations == RG_ACTIVATIONS_F32;
    for (uint32_t i = 0; i < options->n_layers && code == RG_OK; i++)
        code = open_layer(kv, b, options, i, err);
    if (code != RG_OK) {
        rg_kv_close(kv);
        return code;
    }
    *out = kv;
    return RG_OK;
}

void rg_kv_close(struct rg_kv *kv)
{
    if (!kv)
        return;
    for (uint32_t i = 0; i < kv->n_layers; i++) {
        rg_free(kv->layers[i].keys);
        rg_free(kv->layers[i].values);
    }
    rg_free(kv->layers);
    rg_free(kv);
}

struct append_job {
    const struct rg_step *s;
    struct rg_kv *kv;
    struct rg_kv_layer *layer;
    const struct rg_tensor *k, *v;
};

static void store(const struct append_job *job, uint8_t *base, size_t token, const float *src,
                  uint32_t cols)
{
    if (job->kv->f32)
        memcpy(base + token * cols * 4, src, (size_t)cols * 4);
    else
        job->s->backend->kernels->f16_store((uint16_t *)(void *)(base + token * cols * 2), src,
                                            cols);
}

static void append_part(void *arg, uint32_t part, uint32_t n_parts)
{
    const struct append_job *job = arg;
    const struct rg_kv_layer_spec *spec = &job->layer->spec;
    uint64_t begin, end;

    rg_pool_share(job->k->rows, 1, part, n_parts, &begin, &end);
    for (uint64_t row = begin; row < end; row++) {
        const struct rg_seq_rows *seq = &job->s->batch->seqs[job->s->seq_of_row[row]];
        const uint32_t position = job->s->positions[row];
        const uint32_t block = seq->blocks[position / job->kv->block_tokens];
        const uint32_t slot = position % job->kv->block_tokens;

        assert(block < job->kv->n_blocks);
        for (uint32_t h = 0; h < spec->n_heads; h++) {
            const size_t token = rg_kv_offset(job->kv, job->layer, block, h, slot);

            store(job, job->layer->keys, token,
                  job->k->data + row * job->k->cols + (size_t)h * spec->key_cols, spec->key_cols);
            store(job, job->layer->values, token,
                  job->v->data + row * job->v->cols + (size_t)h * spec->value_cols,
                  spec->value_cols);
        }
    }
}

void rg_op_kv_append(struct rg_step *s, struct rg_kv *kv, uint32_t layer, const struct rg_tensor *k,
                     const struct rg_tensor *v)
{
    struct append_job job = {.s = s, .kv = kv, .layer = &kv->layers[layer], .k = k, .v = v};

    if (!k || !v)
        return;
    assert(layer < kv->n_layers && k->rows == s->batch->n_rows && v->rows == k->rows);
    assert(k->cols == job.layer->spec.n_heads * job.layer->spec.key_cols);
    assert(v->cols == job.layer->spec.n_heads * job.layer->spec.value_cols);
    rg_backend_run(s->backend, append_part, &job,
                   k->rows > 1 ? (uint64_t)k->rows * (k->cols + v->cols) : 0);
}
