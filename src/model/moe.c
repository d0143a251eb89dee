/* moe.c - mixture of experts: a router chooses, the chosen experts are summed, a shared expert is
 * added where the model has one (mlx-lm models/deepseek_v3.py, qwen3_moe.py). */
#include "model/blocks.h"

static uint32_t at_least_one(uint32_t n)
{
    return n > 0 ? n : 1;
}

static void routing_options(struct rg_router_options *r, const struct rg_model_config *c)
{
    const bool deepseek = c->family == RG_FAMILY_DEEPSEEK_V3;

    *r = (struct rg_router_options){
        .score = deepseek ? RG_ROUTER_SIGMOID : RG_ROUTER_SOFTMAX,
        .top_k = c->num_experts_per_tok,
        .normalise = c->norm_topk_prob,
        .scale = deepseek ? (float)c->routed_scaling_factor : 1.0f,
        .n_group = deepseek ? at_least_one(c->n_group) : 1,
        .topk_group = deepseek ? at_least_one(c->topk_group) : 1,
    };
}

enum rg_code rg_moe_load(struct rg_moe *m, struct rg_loader *l, struct rg_err *err)
{
    const struct rg_model_config *c = &l->checkpoint->config;
    struct rg_weight *correction;
    enum rg_code code;

    routing_options(&m->routing, c);
    m->has_shared = c->n_shared_experts > 0;
    code = rg_load_linear(l, &m->router, "mlp.gate", err);
    if (code == RG_OK)
        code = rg_load_optional(l, &correction, "mlp.gate.e_score_correction_bias", err);
    if (code != RG_OK)
        return code;
    m->routing.correction = correction;
    code = rg_load_weight(l, &m->gate, "mlp.switch_mlp.gate_proj", err);
    if (code == RG_OK)
        code = rg_load_weight(l, &m->up, "mlp.switch_mlp.up_proj", err);
    if (code == RG_OK)
        code = rg_load_weight(l, &m->down, "mlp.switch_mlp.down_proj", err);
    if (code == RG_OK && m->has_shared)
        code = rg_mlp_load(&m->shared, l, "mlp.shared_experts", err);
    return code;
}

struct rg_tensor *rg_moe_block(const struct rg_moe *m, const struct rg_pass *p,
                               const struct rg_weight *norm, struct rg_tensor *x)
{
    struct rg_step *s = p->step;
    const struct rg_tensor *h = rg_op_rms_norm(s, x, norm, p->eps);
    const struct rg_tensor *routing;
    struct rg_tensor *y;

    routing = rg_op_route(s, rg_linear_forward(&m->router, s, h), &m->routing);
    y = rg_op_experts(s, h, routing, m->gate, m->up, m->down);
    if (m->has_shared)
        y = rg_op_add(s, y, rg_mlp_forward(&m->shared, s, h));
    return rg_op_add(s, x, y);
}
