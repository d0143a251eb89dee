/* plan_model.c - the bytes of a checkpoint as the plan counts them: weights, what a token reads of
 * them, KV and reserve. */
#include "cluster/plan_model.h"

#include <string.h>

#include "base/mem.h"
#include "model/model.h"

/* Tensors of a layer that live at once, beside the widths counted one by one: its input, the kept
 * row, the norm, attention's and the MLP's results and both sums. */
enum { HIDDEN_TENSORS = 8 };

uint32_t rg_plan_blocks(uint32_t context, uint32_t parallel)
{
    return parallel * ((context + RG_PLAN_BLOCK_TOKENS - 1) / RG_PLAN_BLOCK_TOKENS);
}

static uint32_t parallel_of(const struct rg_plan_request *r)
{
    return r->parallel > 0 ? r->parallel : RG_PLAN_PARALLEL_DEFAULT;
}

/* ---- weights --------------------------------------------------------------------------------- */

/* The bytes of a module that one token reads; the embedding gives a row. */
static uint64_t read_of_module(const struct rg_model_config *c, const struct rg_module *m)
{
    const bool experts =
        c->n_routed_experts > 0 && !m->vector && m->weight.lead == c->n_routed_experts;

    if (strcmp(m->role, "model.embed_tokens") == 0 && !c->tie_word_embeddings)
        return m->weight.bytes / c->vocab_size;
    if (experts)
        return m->weight.bytes / c->n_routed_experts * c->num_experts_per_tok;
    return m->weight.bytes;
}

/* The bytes of a layer that this disk lacks, as another one has them, are read in the proportion of
 * a layer of the same kind that is there; without one, as if they were experts alone. */
static uint64_t read_of_absent(const struct rg_checkpoint *c, const uint64_t *read, uint32_t layer,
                               uint64_t bytes)
{
    const struct rg_model_config *config = &c->config;
    const bool moe = rg_model_layer_is_moe(config, layer);

    if (!moe)
        return bytes;
    for (uint32_t k = 0; k < config->num_hidden_layers; k++)
        if (c->layer_there[k] && rg_model_layer_is_moe(config, k) && c->layer_bytes[k] > 0)
            return (uint64_t)((double)bytes * ((double)read[k] / (double)c->layer_bytes[k]));
    return bytes / config->n_routed_experts * config->num_experts_per_tok;
}

static void fill_weights(struct rg_plan_model *m, uint64_t *bytes, uint64_t *read,
                         const struct rg_plan_request *r)
{
    const struct rg_checkpoint *c = r->checkpoint;

    m->embedding_bytes = r->embedding_bytes > 0 ? r->embedding_bytes : c->embedding_bytes;
    m->head_bytes = r->head_bytes > 0 ? r->head_bytes : c->head_bytes;
    for (uint32_t i = 0; i < c->n_modules; i++) {
        const struct rg_module *module = &c->modules[i];

        if (!module->there)
            continue;
        if (module->layer >= 0)
            read[module->layer] += read_of_module(&c->config, module);
        else
            m->read_head_bytes += read_of_module(&c->config, module);
    }
    if (!c->embedding_there || !c->head_there)
        m->read_head_bytes = m->head_bytes > 0 ? m->head_bytes : m->embedding_bytes;
    for (uint32_t k = 0; k < m->n_layers; k++) {
        bytes[k] = r->layer_bytes ? r->layer_bytes[k] : c->layer_bytes[k];
        if (!c->layer_there[k])
            read[k] = read_of_absent(c, read, k, bytes[k]);
    }
}

/* ---- KV -------------------------------------------------------------------------------------- */

static void fill_kv(uint64_t *kv, const struct rg_plan_request *r, uint32_t context)
{
    const struct rg_model_config *c = &r->checkpoint->config;
    struct rg_kv_layer_spec spec;
    const struct rg_kv_options one = {.layers = &spec,
                                      .n_layers = 1,
                                      .n_blocks = rg_plan_blocks(context, parallel_of(r)),
                                      .block_tokens = RG_PLAN_BLOCK_TOKENS};

    for (uint32_t k = 0; k < c->num_hidden_layers; k++) {
        rg_model_config_kv_specs(c, k, k + 1, &spec);
        kv[k] = rg_kv_bytes(r->activations, &one);
    }
}

/* ---- reserve --------------------------------------------------------------------------------- */

/* Floats of one row that attention makes: projections, rotated copies, queries and results per
 * head. */
static uint64_t attention_floats(const struct rg_model_config *c)
{
    const uint64_t heads = c->num_attention_heads;

    if (c->family == RG_FAMILY_DEEPSEEK_V3)
        return (uint64_t)2 * c->q_lora_rank +
               heads * (2 * (c->qk_nope_head_dim + 2 * c->qk_rope_head_dim) + 2 * c->kv_lora_rank +
                        c->v_head_dim) +
               2 * (c->kv_lora_rank + 2 * c->qk_rope_head_dim);
    return (uint64_t)c->head_dim * (4 * heads + 4 * c->num_key_value_heads);
}

/* Floats of one row that the wider of the two MLPs makes: gate, up and their product, and for
 * experts each chosen one's result. */
static uint64_t mlp_floats(const struct rg_model_config *c)
{
    const uint64_t dense = (uint64_t)3 * c->intermediate_size;
    uint64_t moe;

    if (c->n_routed_experts == 0)
        return dense;
    moe = (uint64_t)c->num_experts_per_tok * (3 * c->moe_intermediate_size + c->hidden_size) +
          (uint64_t)3 * c->n_shared_experts * c->moe_intermediate_size + 2 * c->n_routed_experts;
    return moe > dense ? moe : dense;
}

/* Bytes of the rows that experts gather, quantised and packed for the kernels. */
static uint64_t gathered_bytes(const struct rg_model_config *c)
{
    return (uint64_t)5 * c->num_experts_per_tok * (c->hidden_size + c->moe_intermediate_size);
}

/* A float has a quantised copy of 1.25 bytes, and the backend has two arenas that each hold a
 * layer: 10.5 bytes.  Steps that wait and rows in and out are four more of the hidden size.  On an
 * MLA mixture of experts of hidden size 2048 this is 1.16 MB a row, and 1.03 MB were seen; on
 * SmolLM2 144 KB and 103 KB. */
static uint64_t reserve_of(const struct rg_plan_request *r)
{
    const struct rg_model_config *c = &r->checkpoint->config;
    const uint32_t chunk = r->chunk_rows > 0 ? r->chunk_rows : RG_PLAN_CHUNK_DEFAULT;
    const uint64_t rows = (uint64_t)chunk + parallel_of(r);
    const uint64_t row_bytes =
        11 * ((uint64_t)HIDDEN_TENSORS * c->hidden_size + attention_floats(c) + mlp_floats(c)) +
        gathered_bytes(c) + 4 * 4 * (uint64_t)c->hidden_size;

    return rows * row_bytes + (uint64_t)2 * 4 * parallel_of(r) * c->vocab_size +
           RG_PLAN_PROCESS_BYTES;
}

/* ---- all of it ------------------------------------------------------------------------------- */

enum rg_code rg_plan_model_make(struct rg_plan_model *out, const struct rg_plan_request *request,
                                uint32_t context, struct rg_err *err)
{
    const uint32_t n = request->checkpoint->config.num_hidden_layers;
    uint64_t *bytes = rg_calloc(n, sizeof *bytes);
    uint64_t *kv = rg_calloc(n, sizeof *kv);
    uint64_t *read = rg_calloc(n, sizeof *read);

    *out = (struct rg_plan_model){.name = request->checkpoint->name,
                                  .n_layers = n,
                                  .layer_bytes = bytes,
                                  .kv_layer_bytes = kv,
                                  .read_layer_bytes = read,
                                  .context = context,
                                  .parallel = parallel_of(request)};
    if (!bytes || !kv || !read) {
        rg_plan_model_free(out);
        return rg_fail(err, RG_E_NOMEM, "plan: out of memory");
    }
    fill_weights(out, bytes, read, request);
    fill_kv(kv, request, context);
    out->reserve_bytes = reserve_of(request);
    return RG_OK;
}

void rg_plan_model_free(struct rg_plan_model *m)
{
    rg_free((void *)m->layer_bytes);
    rg_free((void *)m->kv_layer_bytes);
    rg_free((void *)m->read_layer_bytes);
    *m = (struct rg_plan_model){.name = NULL};
}

static enum rg_code plan_with(struct rg_plan *out, const struct rg_plan_request *r,
                              uint32_t context, struct rg_err *err)
{
    struct rg_plan_model model;
    enum rg_code code = rg_plan_model_make(&model, r, context, err);

    if (code)
        return code;
    code = rg_plan_make(out, &model, r->peers, r->n_peers, r->ranges, r->n_ranges, err);
    rg_plan_model_free(&model);
    return code;
}

enum rg_code rg_plan_fit_context(struct rg_plan *out, const struct rg_plan_request *request,
                                 struct rg_err *err)
{
    const uint32_t most = request->checkpoint->config.max_position_embeddings;
    uint32_t context = request->context;
    enum rg_code code;

    *out = (struct rg_plan){.context = context};
    if (context > most)
        return rg_fail(err, RG_E_USAGE, "--ctx %u: %s has a context of %u tokens", context,
                       request->checkpoint->name, most);
    if (context == 0)
        context = most < RG_PLAN_CONTEXT_MOST ? most : RG_PLAN_CONTEXT_MOST;
    code = plan_with(out, request, context, err);
    while (code == RG_E_FIT && !request->context_asked && context / 2 >= RG_PLAN_CONTEXT_LEAST) {
        context /= 2;
        code = plan_with(out, request, context, err);
    }
    return code;
}
