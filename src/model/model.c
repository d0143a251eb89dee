/* model.c - the layers of a part, one after the other, between embedding and head. */
#include "model/model.h"

#include <assert.h>
#include <stdatomic.h>

#include "base/mem.h"
#include "model/blocks.h"

struct layer {
    struct rg_weight *input_norm, *post_norm;
    struct rg_attention_gqa gqa;
    struct rg_attention_mla mla;
    struct rg_mlp mlp;
    struct rg_moe moe;
    bool is_moe;
};

struct rg_model {
    const struct rg_model_config *config; /* borrowed from the checkpoint */
    struct rg_model_part part;
    struct rg_rope *rope;
    struct rg_weight_list weights;
    struct layer *layers; /* owned [layer_end - layer_begin] */
    struct rg_weight *embed, *final_norm;
    struct rg_linear head;
    bool is_mla;
};

struct rg_model_part rg_model_whole(const struct rg_model_config *c)
{
    return (struct rg_model_part){
        .layer_begin = 0, .layer_end = c->num_hidden_layers, .embed = true, .head = true};
}

static enum rg_code load_layer(struct rg_model *m, struct layer *y, struct rg_loader *l,
                               struct rg_err *err)
{
    const uint32_t layer = (uint32_t)l->layer;
    enum rg_code code;

    y->is_moe = rg_model_layer_is_moe(m->config, layer);
    code = rg_load_weight(l, &y->input_norm, "input_layernorm", err);
    if (code == RG_OK)
        code = rg_load_weight(l, &y->post_norm, "post_attention_layernorm", err);
    if (code == RG_OK)
        code = m->is_mla ? rg_attention_mla_load(&y->mla, l, err)
                         : rg_attention_gqa_load(&y->gqa, l, err);
    if (code == RG_OK)
        code = y->is_moe ? rg_moe_load(&y->moe, l, err) : rg_mlp_load(&y->mlp, l, "mlp", err);
    return code;
}

/* A tied head is the embedding; the node that has only the head then opens the embedding for it. */
static enum rg_code load_ends(struct rg_model *m, struct rg_loader *l, struct rg_err *err)
{
    const bool tied = m->config->tie_word_embeddings;
    enum rg_code code = RG_OK;

    l->layer = RG_LAYER_NONE;
    if (m->part.embed || (m->part.head && tied))
        code = rg_load_weight(l, &m->embed, "model.embed_tokens", err);
    if (code != RG_OK || !m->part.head)
        return code;
    l->layer = RG_LAYER_HEAD;
    code = rg_load_weight(l, &m->final_norm, "model.norm", err);
    if (code == RG_OK && tied)
        m->head.w = m->embed;
    else if (code == RG_OK)
        code = rg_load_linear(l, &m->head, "lm_head", err);
    return code;
}

static enum rg_code load(struct rg_model *m, const struct rg_checkpoint *checkpoint,
                         struct rg_backend *backend, struct rg_err *err)
{
    struct rg_loader l = {.checkpoint = checkpoint, .backend = backend, .weights = &m->weights};
    enum rg_code code = load_ends(m, &l, err);

    for (uint32_t i = m->part.layer_begin; code == RG_OK && i < m->part.layer_end; i++) {
        l.layer = (int32_t)i;
        code = load_layer(m, &m->layers[i - m->part.layer_begin], &l, err);
    }
    return code;
}

enum rg_code rg_model_open(struct rg_model **out, const struct rg_checkpoint *checkpoint,
                           struct rg_backend *backend, const struct rg_model_part *part,
                           struct rg_err *err)
{
    const uint32_t n_layers = part->layer_end - part->layer_begin;
    struct rg_model *m;
    enum rg_code code;

    assert(part->layer_begin <= part->layer_end);
    assert(part->layer_end <= checkpoint->config.num_hidden_layers);
    *out = NULL;
    m = rg_calloc(1, sizeof(*m));
    if (!m)
        return rg_fail(err, RG_E_NOMEM, "model: out of memory");
    m->config = &checkpoint->config;
    m->part = *part;
    m->is_mla = m->config->family == RG_FAMILY_DEEPSEEK_V3;
    m->layers = rg_calloc(n_layers > 0 ? n_layers : 1, sizeof(*m->layers));
    code = m->layers ? RG_OK : rg_fail(err, RG_E_NOMEM, "model: no memory for %u layers", n_layers);
    /* The model's own limit, never this run's: longrope's scale must not depend on --ctx. */
    if (code == RG_OK)
        code = rg_rope_open(&m->rope, &m->config->rope, m->config->max_position_embeddings, err);
    if (code == RG_OK)
        code = load(m, checkpoint, backend, err);
    if (code != RG_OK) {
        rg_model_close(m);
        return code;
    }
    *out = m;
    return RG_OK;
}

void rg_model_close(struct rg_model *m)
{
    if (!m)
        return;
    rg_weight_list_free(&m->weights);
    rg_rope_close(m->rope);
    rg_free(m->layers);
    rg_free(m);
}

uint32_t rg_model_n_layers(const struct rg_model *m)
{
    return m->part.layer_end - m->part.layer_begin;
}

void rg_model_config_kv_specs(const struct rg_model_config *c, uint32_t layer_begin,
                              uint32_t layer_end, struct rg_kv_layer_spec *specs)
{
    for (uint32_t i = layer_begin; i < layer_end; i++) {
        struct rg_kv_layer_spec *spec = &specs[i - layer_begin];

        if (c->family == RG_FAMILY_DEEPSEEK_V3)
            *spec = (struct rg_kv_layer_spec){
                .n_heads = 1, .key_cols = c->kv_lora_rank, .value_cols = c->qk_rope_head_dim};
        else
            *spec = (struct rg_kv_layer_spec){
                .n_heads = c->num_key_value_heads,
                .key_cols = c->head_dim,
                .value_cols = c->head_dim,
                .window = rg_model_layer_is_sliding(c, i) ? c->sliding_window : 0};
    }
}

void rg_model_kv_specs(const struct rg_model *m, struct rg_kv_layer_spec *specs)
{
    rg_model_config_kv_specs(m->config, m->part.layer_begin, m->part.layer_end, specs);
}

struct rg_tensor *rg_model_embed(struct rg_model *m, struct rg_step *s, const int32_t *tokens,
                                 uint32_t n)
{
    assert(m->part.embed);
    return rg_op_embed(s, m->embed, tokens, n);
}

struct rg_tensor *rg_model_layers(struct rg_model *m, struct rg_step *s, struct rg_kv *kv,
                                  struct rg_tensor *x, _Atomic uint64_t *layers_done)
{
    struct rg_pass pass = {
        .step = s, .kv = kv, .rope = m->rope, .eps = (float)m->config->rms_norm_eps};

    for (uint32_t i = 0; i < rg_model_n_layers(m); i++) {
        const struct layer *y = &m->layers[i];

        pass.kv_layer = i;
        x = m->is_mla ? rg_attention_mla_block(&y->mla, &pass, y->input_norm, x)
                      : rg_attention_gqa_block(&y->gqa, &pass, y->input_norm, x);
        x = y->is_moe ? rg_moe_block(&y->moe, &pass, y->post_norm, x)
                      : rg_mlp_block(&y->mlp, &pass, y->post_norm, x);
        x = rg_op_keep(s, x);
        if (layers_done)
            atomic_fetch_add(layers_done, 1);
    }
    return x;
}

struct rg_tensor *rg_model_logits(struct rg_model *m, struct rg_step *s, const struct rg_tensor *x,
                                  const uint32_t *rows, uint32_t n)
{
    const struct rg_tensor *h = rg_op_rows(s, x, rows, n);

    assert(m->part.head);
    h = rg_op_rms_norm(s, h, m->final_norm, (float)m->config->rms_norm_eps);
    return rg_linear_forward(&m->head, s, h);
}
