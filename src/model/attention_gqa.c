/* attention_gqa.c - grouped-query attention of llama, mistral, qwen2, qwen3 and qwen3_moe: biases,
 * norms per head on q and k, sliding windows (kept by the KV's spec). */
#include "model/blocks.h"

enum rg_code rg_attention_gqa_load(struct rg_attention_gqa *a, struct rg_loader *l,
                                   struct rg_err *err)
{
    const struct rg_model_config *c = &l->checkpoint->config;
    enum rg_code code;

    a->n_heads = c->num_attention_heads;
    a->n_kv_heads = c->num_key_value_heads;
    a->scale = (float)c->attention_scale;
    code = rg_load_linear(l, &a->q, "self_attn.q_proj", err);
    if (code == RG_OK)
        code = rg_load_linear(l, &a->k, "self_attn.k_proj", err);
    if (code == RG_OK)
        code = rg_load_linear(l, &a->v, "self_attn.v_proj", err);
    if (code == RG_OK)
        code = rg_load_linear(l, &a->o, "self_attn.o_proj", err);
    if (code == RG_OK && c->qk_norm)
        code = rg_load_weight(l, &a->q_norm, "self_attn.q_norm", err);
    if (code == RG_OK && c->qk_norm)
        code = rg_load_weight(l, &a->k_norm, "self_attn.k_norm", err);
    return code;
}

struct rg_tensor *rg_attention_gqa_block(const struct rg_attention_gqa *a, const struct rg_pass *p,
                                         const struct rg_weight *norm, struct rg_tensor *x)
{
    struct rg_step *s = p->step;
    const struct rg_tensor *h = rg_op_rms_norm(s, x, norm, p->eps);
    struct rg_tensor *q = rg_linear_forward(&a->q, s, h);
    struct rg_tensor *k = rg_linear_forward(&a->k, s, h);
    struct rg_tensor *v = rg_linear_forward(&a->v, s, h);

    if (a->q_norm) {
        q = rg_op_rms_norm(s, q, a->q_norm, p->eps);
        k = rg_op_rms_norm(s, k, a->k_norm, p->eps);
    }
    q = rg_op_rope(s, q, p->rope, a->n_heads);
    k = rg_op_rope(s, k, p->rope, a->n_kv_heads);
    rg_op_kv_append(s, p->kv, p->kv_layer, k, v);
    q = rg_op_attention(s, p->kv, p->kv_layer, q, a->n_heads, a->scale);
    return rg_op_add(s, x, rg_linear_forward(&a->o, s, q));
}
