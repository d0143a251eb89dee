/* blocks.h - the parts that a layer is made of, one function per block; private to model/.
 *
 * Lifetime   the weights belong to the model's list (loader.h); these structs only borrow them.
 * Order      a block takes the residual stream x [n][hidden] and returns it with its part added. */
#ifndef RG_MODEL_BLOCKS_H
#define RG_MODEL_BLOCKS_H

#include "compute/compute.h"
#include "model/loader.h"

/* What a block needs of the forward pass it runs in. */
struct rg_pass {
    struct rg_step *step;
    struct rg_kv *kv;
    uint32_t kv_layer; /* index into kv: 0 is the part's first layer */
    const struct rg_rope *rope;
    float eps; /* rms_norm_eps */
};

struct rg_attention_gqa {
    struct rg_linear q, k, v, o;
    struct rg_weight *q_norm, *k_norm; /* [head_dim]; NULL without qk_norm */
    uint32_t n_heads, n_kv_heads;
    float scale;
};

struct rg_attention_mla {
    struct rg_linear q_a, q_b; /* q_lora_rank 0: q_b is q_proj and q_a is empty */
    struct rg_linear kv_a, o;
    struct rg_weight *q_a_norm, *kv_a_norm;
    struct rg_weight *embed_q;     /* [heads][kv_lora][nope]; NULL in the old layout */
    struct rg_weight *unembed_out; /* [heads][v][kv_lora] in both layouts */
    struct rg_weight *key_rows;    /* old layout: [heads][nope][kv_lora], used transposed */
    uint32_t n_heads, nope_dims, rope_dims, kv_lora_rank;
    float scale;
};

struct rg_mlp {
    struct rg_linear gate, up, down;
};

struct rg_moe {
    struct rg_linear router;
    struct rg_router_options routing;
    struct rg_weight *gate, *up, *down; /* lead: experts */
    struct rg_mlp shared;
    bool has_shared;
};

RG_CHECKED enum rg_code rg_attention_gqa_load(struct rg_attention_gqa *a, struct rg_loader *l,
                                              struct rg_err *err);
struct rg_tensor *rg_attention_gqa_block(const struct rg_attention_gqa *a, const struct rg_pass *p,
                                         const struct rg_weight *norm, struct rg_tensor *x);

RG_CHECKED enum rg_code rg_attention_mla_load(struct rg_attention_mla *a, struct rg_loader *l,
                                              struct rg_err *err);
struct rg_tensor *rg_attention_mla_block(const struct rg_attention_mla *a, const struct rg_pass *p,
                                         const struct rg_weight *norm, struct rg_tensor *x);

/* `prefix` is the module path of the MLP inside its layer: "mlp" or "mlp.shared_experts". */
RG_CHECKED enum rg_code rg_mlp_load(struct rg_mlp *m, struct rg_loader *l, const char *prefix,
                                    struct rg_err *err);
struct rg_tensor *rg_mlp_forward(const struct rg_mlp *m, struct rg_step *s,
                                 const struct rg_tensor *x);
struct rg_tensor *rg_mlp_block(const struct rg_mlp *m, const struct rg_pass *p,
                               const struct rg_weight *norm, struct rg_tensor *x);

RG_CHECKED enum rg_code rg_moe_load(struct rg_moe *m, struct rg_loader *l, struct rg_err *err);
struct rg_tensor *rg_moe_block(const struct rg_moe *m, const struct rg_pass *p,
                               const struct rg_weight *norm, struct rg_tensor *x);

#endif
