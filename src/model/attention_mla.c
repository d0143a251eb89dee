/* attention_mla.c - multi-head latent attention of deepseek_v3 and kimi_k2, absorbed for every row
 * count: queries are carried into the latent space, the cache holds one latent and one rotated key
 * per token.  (The expanded form would be cheaper in long prefills, but answers would depend on the
 * chunking.)  Formulas: DeepSeek-V2 paper, section 2.1; mlx-lm models/deepseek_v3.py. */
#include "model/blocks.h"

/* q_a_layernorm and kv_a_layernorm have their own epsilon, whatever rms_norm_eps says. */
static const float mla_norm_eps = 1e-6f;

/* embed_q and unembed_out, or an old checkpoint's kv_b_proj: per head nope_dims key rows, then
 * v_head_dim value rows. */
static enum rg_code load_latent(struct rg_attention_mla *a, struct rg_loader *l, struct rg_err *err)
{
    const struct rg_model_config *c = &l->checkpoint->config;
    struct rg_weight *kv_b;
    enum rg_code code;

    code = rg_load_optional(l, &kv_b, "self_attn.kv_b_proj", err);
    if (code != RG_OK)
        return code;
    if (!kv_b) {
        code = rg_load_weight(l, &a->embed_q, "self_attn.embed_q", err);
        if (code == RG_OK)
            code = rg_load_weight(l, &a->unembed_out, "self_attn.unembed_out", err);
        return code;
    }
    code = rg_load_head_rows(l, &a->key_rows, kv_b, a->n_heads, 0, a->nope_dims, err);
    if (code == RG_OK)
        code = rg_load_head_rows(l, &a->unembed_out, kv_b, a->n_heads, a->nope_dims, c->v_head_dim,
                                 err);
    return code;
}

static enum rg_code load_query(struct rg_attention_mla *a, struct rg_loader *l, struct rg_err *err)
{
    enum rg_code code;

    if (l->checkpoint->config.q_lora_rank == 0)
        return rg_load_linear(l, &a->q_b, "self_attn.q_proj", err);
    code = rg_load_linear(l, &a->q_a, "self_attn.q_a_proj", err);
    if (code == RG_OK)
        code = rg_load_weight(l, &a->q_a_norm, "self_attn.q_a_layernorm", err);
    if (code == RG_OK)
        code = rg_load_linear(l, &a->q_b, "self_attn.q_b_proj", err);
    return code;
}

enum rg_code rg_attention_mla_load(struct rg_attention_mla *a, struct rg_loader *l,
                                   struct rg_err *err)
{
    const struct rg_model_config *c = &l->checkpoint->config;
    enum rg_code code;

    a->n_heads = c->num_attention_heads;
    a->nope_dims = c->qk_nope_head_dim;
    a->rope_dims = c->qk_rope_head_dim;
    a->kv_lora_rank = c->kv_lora_rank;
    a->scale = (float)c->attention_scale;
    code = load_query(a, l, err);
    if (code == RG_OK)
        code = rg_load_linear(l, &a->kv_a, "self_attn.kv_a_proj_with_mqa", err);
    if (code == RG_OK)
        code = rg_load_weight(l, &a->kv_a_norm, "self_attn.kv_a_layernorm", err);
    if (code == RG_OK)
        code = load_latent(a, l, err);
    if (code == RG_OK)
        code = rg_load_linear(l, &a->o, "self_attn.o_proj", err);
    return code;
}

static struct rg_tensor *query(const struct rg_attention_mla *a, struct rg_step *s,
                               const struct rg_tensor *h)
{
    const struct rg_tensor *q;

    if (!a->q_a.w)
        return rg_linear_forward(&a->q_b, s, h);
    q = rg_op_rms_norm(s, rg_linear_forward(&a->q_a, s, h), a->q_a_norm, mla_norm_eps);
    return rg_linear_forward(&a->q_b, s, q);
}

/* The part of the query without position, carried into the latent space: [n][heads * kv_lora]. */
static struct rg_tensor *query_latent(const struct rg_attention_mla *a, struct rg_step *s,
                                      const struct rg_tensor *q)
{
    const struct rg_tensor *nope = rg_op_head_cols(s, q, a->n_heads, 0, a->nope_dims);

    if (a->embed_q)
        return rg_op_linear_heads(s, a->embed_q, nope);
    return rg_op_linear_heads_t(s, a->key_rows, nope);
}

/* Appends the latent [kv_lora] and the rotated shared key [rope_dims] of the step's rows. */
static void append(const struct rg_attention_mla *a, const struct rg_pass *p,
                   const struct rg_tensor *h)
{
    struct rg_step *s = p->step;
    const uint32_t rank = a->kv_lora_rank;
    const struct rg_tensor *c = rg_linear_forward(&a->kv_a, s, h);
    const struct rg_tensor *latent = rg_op_head_cols(s, c, 1, 0, rank);
    const struct rg_tensor *key = rg_op_head_cols(s, c, 1, rank, rank + a->rope_dims);

    latent = rg_op_rms_norm(s, latent, a->kv_a_norm, mla_norm_eps);
    key = rg_op_rope(s, key, p->rope, 1);
    rg_op_kv_append(s, p->kv, p->kv_layer, latent, key);
}

struct rg_tensor *rg_attention_mla_block(const struct rg_attention_mla *a, const struct rg_pass *p,
                                         const struct rg_weight *norm, struct rg_tensor *x)
{
    struct rg_step *s = p->step;
    const struct rg_tensor *h = rg_op_rms_norm(s, x, norm, p->eps);
    const struct rg_tensor *q = query(a, s, h);
    const struct rg_tensor *q_latent = query_latent(a, s, q);
    const struct rg_tensor *q_pe;
    const struct rg_tensor *out;

    q_pe = rg_op_head_cols(s, q, a->n_heads, a->nope_dims, a->nope_dims + a->rope_dims);
    q_pe = rg_op_rope(s, q_pe, p->rope, a->n_heads);
    append(a, p, h);
    out = rg_op_attention_mla(s, p->kv, p->kv_layer, q_latent, q_pe, a->n_heads, a->scale);
    out = rg_op_linear_heads(s, a->unembed_out, out);
    return rg_op_add(s, x, rg_linear_forward(&a->o, s, out));
}
