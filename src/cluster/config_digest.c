/* config_digest.c - a model's configuration as canonical text, and its SHA-256.
 *
 * Left out, because the layers' digests have it or no hidden state depends on it: model_type and
 * architecture (aliases), the prefix of tensor names, quantisation (what tensors are, they say
 * themselves), ids of special tokens.  What several keys say together (which layers are dense,
 * which are windowed) is written as its result. */
#include "cluster/config_digest.h"

#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#include <openssl/evp.h>

#define UINT(field)                                                                                \
    {                                                                                              \
#field, offsetof(struct rg_model_config, field), 'u'                                       \
    }
#define REAL(field)                                                                                \
    {                                                                                              \
#field, offsetof(struct rg_model_config, field), 'd'                                       \
    }
#define FLAG(field)                                                                                \
    {                                                                                              \
#field, offsetof(struct rg_model_config, field), 'b'                                       \
    }

static const struct {
    const char *name;
    size_t at;
    char kind; /* u: uint32_t, d: double, b: bool */
} fields[] = {
    UINT(vocab_size),
    UINT(hidden_size),
    UINT(num_hidden_layers),
    UINT(intermediate_size),
    UINT(num_attention_heads),
    UINT(num_key_value_heads),
    UINT(head_dim),
    UINT(max_position_embeddings),
    REAL(rms_norm_eps),
    FLAG(tie_word_embeddings),
    FLAG(attention_bias),
    FLAG(attention_bias_qkv),
    FLAG(mlp_bias),
    FLAG(qk_norm),
    REAL(rope.theta),
    REAL(rope.factor),
    UINT(rope.original_max_position_embeddings),
    REAL(rope.beta_fast),
    REAL(rope.beta_slow),
    REAL(rope.mscale),
    REAL(rope.mscale_all_dim),
    REAL(rope.low_freq_factor),
    REAL(rope.high_freq_factor),
    REAL(rope.partial_rotary_factor),
    FLAG(rope.interleaved),
    UINT(rope.dims),
    UINT(sliding_window),
    UINT(n_routed_experts),
    UINT(num_experts_per_tok),
    UINT(moe_intermediate_size),
    UINT(n_shared_experts),
    UINT(n_group),
    UINT(topk_group),
    REAL(routed_scaling_factor),
    FLAG(norm_topk_prob),
    UINT(q_lora_rank),
    UINT(kv_lora_rank),
    UINT(qk_nope_head_dim),
    UINT(qk_rope_head_dim),
    UINT(v_head_dim),
    REAL(attention_scale),
};

static const char *family_name(enum rg_family f)
{
    switch (f) {
    case RG_FAMILY_LLAMA:
        return "llama";
    case RG_FAMILY_QWEN2:
        return "qwen2";
    case RG_FAMILY_QWEN3:
        return "qwen3";
    case RG_FAMILY_QWEN3_MOE:
        return "qwen3_moe";
    case RG_FAMILY_DEEPSEEK_V3:
        return "deepseek_v3";
    }
    return "";
}

static const char *rope_name(enum rg_rope_kind k)
{
    switch (k) {
    case RG_ROPE_DEFAULT:
        return "default";
    case RG_ROPE_LINEAR:
        return "linear";
    case RG_ROPE_LLAMA3:
        return "llama3";
    case RG_ROPE_YARN:
        return "yarn";
    case RG_ROPE_LONGROPE:
        return "longrope";
    case RG_ROPE_PROPORTIONAL:
        return "proportional";
    }
    return "";
}

/* A double by its bits: no two C libraries need to print alike. */
static enum rg_code add_real(struct rg_buf *out, const char *name, double value, struct rg_err *err)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof bits);
    return rg_buf_addf(out, err, "%s=%016" PRIx64 "\n", name, bits);
}

static enum rg_code add_field(struct rg_buf *out, const struct rg_model_config *c, size_t i,
                              struct rg_err *err)
{
    const char *at = (const char *)c + fields[i].at;
    uint32_t number;
    double real;
    bool flag;

    if (fields[i].kind == 'd') {
        memcpy(&real, at, sizeof real);
        return add_real(out, fields[i].name, real, err);
    }
    if (fields[i].kind == 'u') {
        memcpy(&number, at, sizeof number);
        return rg_buf_addf(out, err, "%s=%" PRIu32 "\n", fields[i].name, number);
    }
    memcpy(&flag, at, sizeof flag);
    return rg_buf_addf(out, err, "%s=%d\n", fields[i].name, flag);
}

enum rg_code rg_config_text(struct rg_buf *out, const struct rg_model_config *c, struct rg_err *err)
{
    enum rg_code code = rg_buf_addf(out, err, "family=%s\nrope.kind=%s\n", family_name(c->family),
                                    rope_name(c->rope.kind));

    for (size_t i = 0; i < sizeof fields / sizeof fields[0] && !code; i++)
        code = add_field(out, c, i, err);
    for (uint32_t i = 0; i < c->rope.n_long_factor && !code; i++)
        code = add_real(out, "rope.long_factor", c->rope.long_factor[i], err);
    for (uint32_t i = 0; i < c->num_hidden_layers && !code; i++)
        code = rg_buf_addf(out, err, "layer=%s%s\n", rg_model_layer_is_moe(c, i) ? "moe" : "dense",
                           rg_model_layer_is_sliding(c, i) ? ",window" : "");
    return code;
}

enum rg_code rg_config_digest(struct rg_digest *out, const struct rg_model_config *c,
                              struct rg_err *err)
{
    uint8_t sum[EVP_MAX_MD_SIZE];
    struct rg_buf text;
    enum rg_code code;

    rg_buf_init(&text, 1u << 20);
    code = rg_config_text(&text, c, err);
    if (!code && !EVP_Digest(text.data, text.len, sum, NULL, EVP_sha256(), NULL))
        code = rg_fail(err, RG_E_NOMEM, "config.json: no memory for its digest");
    if (!code)
        memcpy(out->bytes, sum, sizeof out->bytes);
    rg_buf_free(&text);
    return code;
}
