/* model_config.h - what config.json says about a model, checked and ranged.
 *
 * One struct serves every family: a field that a family does not use is zero.  Field names are
 * those of config.json.  Source: the ModelArgs of mlx-lm's model files;
 * model_config.c names keys and defaults.
 * Limits     every number is within base/limits.h before anybody sees it.
 * Failure    one line that names file, key, value and what is allowed. */
#ifndef RG_CHECKPOINT_MODEL_CONFIG_H
#define RG_CHECKPOINT_MODEL_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"

enum rg_family {
    RG_FAMILY_LLAMA,      /* llama, mistral */
    RG_FAMILY_QWEN2,
    RG_FAMILY_QWEN3,
    RG_FAMILY_QWEN3_MOE,
    RG_FAMILY_DEEPSEEK_V3 /* deepseek_v3, kimi_k2, the text part of kimi_k25 */
};

enum rg_rope_kind {
    RG_ROPE_DEFAULT,
    RG_ROPE_LINEAR,
    RG_ROPE_LLAMA3,
    RG_ROPE_YARN,
    RG_ROPE_LONGROPE,
    RG_ROPE_PROPORTIONAL
};

struct rg_rope_config {
    enum rg_rope_kind kind;
    double            theta;  /* base */
    double            factor; /* 1 when absent; longrope: max_position_embeddings / original */
    uint32_t          original_max_position_embeddings;
    double            beta_fast, beta_slow;              /* yarn */
    double            mscale, mscale_all_dim;            /* yarn */
    double            low_freq_factor, high_freq_factor; /* llama3 */
    double            partial_rotary_factor;             /* proportional */
    double           *long_factor;                       /* longrope: owned, [dims/2] */
    uint32_t          n_long_factor;
    bool              interleaved; /* pairs (2i, 2i+1); false: (i, i + dims/2) */
    uint32_t          dims;        /* rotated dimensions of a head */
};

/* One entry of config.json's "quantization": the globals, or one module's own. */
struct rg_quant_entry {
    char    *path;         /* owned; as written, e.g. "model.layers.0.self_attn.q_proj" */
    bool     disabled;     /* the entry is `false` */
    bool     globals;      /* the entry is `true`: the global values */
    bool     global_scale; /* nvfp4: a tensor .global_scale beside the scales */
    uint32_t bits, group_size;
    char     mode[16]; /* "affine", "mxfp4", ... */
};

enum rg_quant_method {
    RG_QUANT_NONE,       /* config.json says nothing: the tensors decide alone */
    RG_QUANT_MLX,        /* "quantization" */
    RG_QUANT_COMPRESSED, /* "quantization_config", quant_method compressed-tensors */
    RG_QUANT_FP8         /* quant_method fp8, blocks of 128 x 128 */
};

struct rg_quant_config {
    enum rg_quant_method   method;
    /* MLX */
    struct rg_quant_entry  global;  /* path NULL */
    struct rg_quant_entry *entries; /* owned, sorted by path */
    uint32_t               n_entries;
    /* the others */
    struct rg_quant_entry groups[8]; /* config_groups: mode "int4" or "mxfp4", path NULL */
    uint32_t              n_groups;
    char                **ignore; /* owned; what is not quantised: n_exact paths in order, then */
    uint32_t              n_ignore, n_exact; /* patterns with * and ? */
};

struct rg_model_config {
    enum rg_family family;
    char           model_type[64];   /* as the file says: "kimi_k2" */
    char           architecture[96]; /* architectures[0], or "" */
    const char    *prefix;           /* of tensor names: "" or "language_model." */

    uint32_t vocab_size, hidden_size, num_hidden_layers;
    uint32_t intermediate_size; /* of dense MLPs */
    uint32_t num_attention_heads, num_key_value_heads, head_dim;
    uint32_t max_position_embeddings;
    double   rms_norm_eps;
    bool     tie_word_embeddings;
    bool     tie_unsaid; /* the key is absent: an lm_head in the files is used, too */
    bool     attention_bias;     /* llama: q k v o; deepseek_v3: q_a kv_a o */
    bool     attention_bias_qkv; /* qwen2: q k v, not o */
    bool     mlp_bias;
    bool     qk_norm; /* qwen3: RMSNorm per head on q and k */

    struct rg_rope_config rope;
    uint32_t              sliding_window; /* 0: none */
    uint8_t              *layer_sliding;  /* owned [num_hidden_layers]: 1 = windowed; NULL: none */

    /* mixture of experts; n_routed_experts 0: every layer is dense */
    uint32_t n_routed_experts, num_experts_per_tok, moe_intermediate_size;
    uint32_t n_shared_experts;
    uint32_t n_group, topk_group;
    uint32_t first_k_dense_replace, moe_layer_freq; /* deepseek_v3 */
    uint32_t decoder_sparse_step;                   /* qwen3_moe */
    uint8_t *layer_dense; /* owned [num_hidden_layers]: 1 = named in mlp_only_layers; NULL: none */
    double   routed_scaling_factor;
    bool     norm_topk_prob;

    /* MLA (deepseek_v3) */
    uint32_t q_lora_rank; /* 0: one q_proj */
    uint32_t kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim, v_head_dim;
    double   attention_scale; /* all families: what q.k is multiplied by, YaRN's mscale included */

    struct rg_quant_config quant;
    int32_t                eos_token_ids[16]; /* config.json's; generation_config.json's win */
    uint32_t               n_eos_token_ids;
    int32_t                bos_token_id; /* -1: absent */
};

/* Parses the text of a config.json; `file` is for messages. */
RG_CHECKED enum rg_code rg_model_config_parse(struct rg_model_config *c, const char *text,
                                              size_t len, const char *file, struct rg_err *err);
void rg_model_config_free(struct rg_model_config *c);

bool rg_model_layer_is_moe(const struct rg_model_config *c, uint32_t layer);
bool rg_model_layer_is_sliding(const struct rg_model_config *c, uint32_t layer);

/* The quantization entry for a module path, or NULL when it has none of its own. */
const struct rg_quant_entry *rg_quant_find(const struct rg_quant_config *q, const char *path);

/* quantization_config leaves this module path out. */
bool rg_quant_ignores(const struct rg_quant_config *q, const char *path);

/* One of the config_groups has this mode ("int4") and group size. */
bool rg_quant_has_group(const struct rg_quant_config *q, const char *mode, uint32_t group_size);

#endif
