/* model_config.c - config.json to struct rg_model_config, one reader per family.
 *
 * Defaults are mlx-lm's (its dataclasses), because these are its checkpoints; a key that mlx-lm
 * requires is required here.  Sources: llama, qwen2, qwen3, qwen3_moe and deepseek_v3 of its
 * model files. */
#include "checkpoint/model_config.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"
#include "checkpoint/config_reader.h"

#define REQUIRED UINT32_MAX /* as a fallback: the key must be there */

struct uint_field {
    const char *key;
    size_t at; /* offset in struct rg_model_config */
    uint32_t fallback, least, most;
};

#define FIELD(name, fallback, least, most)                                                         \
    {                                                                                              \
#name, offsetof(struct rg_model_config, name), fallback, least, most                       \
    }

static const struct uint_field shared_fields[] = {
    FIELD(vocab_size, REQUIRED, 1, RG_LIMIT_VOCAB),
    FIELD(hidden_size, REQUIRED, 1, RG_LIMIT_DIM),
    FIELD(num_hidden_layers, REQUIRED, 1, RG_LIMIT_LAYERS),
    FIELD(num_attention_heads, REQUIRED, 1, RG_LIMIT_HEADS),
};

static const struct uint_field deepseek_fields[] = {
    FIELD(vocab_size, 102400, 1, RG_LIMIT_VOCAB),
    FIELD(hidden_size, 4096, 1, RG_LIMIT_DIM),
    FIELD(num_hidden_layers, 30, 1, RG_LIMIT_LAYERS),
    FIELD(num_attention_heads, 32, 1, RG_LIMIT_HEADS),
    FIELD(num_key_value_heads, 32, 1, RG_LIMIT_HEADS),
    FIELD(intermediate_size, 11008, 1, RG_LIMIT_DIM),
    FIELD(max_position_embeddings, 2048, 1, RG_LIMIT_CONTEXT),
    FIELD(moe_intermediate_size, 1407, 1, RG_LIMIT_DIM),
    FIELD(n_routed_experts, 0, 0, RG_LIMIT_EXPERTS),
    FIELD(n_shared_experts, 0, 0, 1024),
    FIELD(num_experts_per_tok, 1, 1, RG_LIMIT_EXPERTS),
    FIELD(n_group, 1, 1, RG_LIMIT_EXPERTS),
    FIELD(topk_group, 1, 1, RG_LIMIT_EXPERTS),
    FIELD(first_k_dense_replace, 0, 0, RG_LIMIT_LAYERS),
    FIELD(moe_layer_freq, 1, 1, RG_LIMIT_LAYERS),
    FIELD(kv_lora_rank, 512, 1, RG_LIMIT_DIM),
    FIELD(qk_nope_head_dim, 128, 1, 65536),
    FIELD(qk_rope_head_dim, 64, 2, 65536),
    FIELD(v_head_dim, 128, 1, 65536),
};

static const struct uint_field moe_fields[] = {
    FIELD(num_experts_per_tok, REQUIRED, 1, RG_LIMIT_EXPERTS),
    FIELD(moe_intermediate_size, REQUIRED, 1, RG_LIMIT_DIM),
    FIELD(decoder_sparse_step, 1, 1, RG_LIMIT_LAYERS),
};

static void read_fields(struct rg_cfg *c, struct rg_model_config *m, const struct uint_field *f,
                        size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (f[i].fallback == REQUIRED && !rg_cfg_get(c, f[i].key))
            rg_cfg_missing(c, f[i].key);

        const uint32_t v = rg_cfg_uint(c, f[i].key, f[i].fallback, f[i].least, f[i].most);

        memcpy((char *)m + f[i].at, &v, sizeof v);
    }
}

#define READ_FIELDS(c, m, table) read_fields(c, m, table, sizeof table / sizeof table[0])

/* A key that mlx-lm has no default for. */
static bool need_bool(struct rg_cfg *c, const char *key)
{
    if (!rg_cfg_get(c, key))
        rg_cfg_missing(c, key);
    return rg_cfg_bool(c, key, false);
}

/* What every family but deepseek_v3 has.  context 0: the key is required. */
static void read_dense(struct rg_cfg *c, struct rg_model_config *m, uint32_t context)
{
    READ_FIELDS(c, m, shared_fields);
    if (m->family != RG_FAMILY_QWEN3_MOE && !rg_cfg_get(c, "intermediate_size"))
        rg_cfg_missing(c, "intermediate_size");
    if (context == 0 && !rg_cfg_get(c, "max_position_embeddings"))
        rg_cfg_missing(c, "max_position_embeddings");
    if (!rg_cfg_get(c, "rms_norm_eps"))
        rg_cfg_missing(c, "rms_norm_eps");
    if (c->code)
        return;
    m->intermediate_size = rg_cfg_uint(c, "intermediate_size", 0, 1, RG_LIMIT_DIM);
    m->max_position_embeddings =
        rg_cfg_uint(c, "max_position_embeddings", context, 1, RG_LIMIT_CONTEXT);
    m->num_key_value_heads =
        rg_cfg_uint(c, "num_key_value_heads", m->num_attention_heads, 1, RG_LIMIT_HEADS);
    m->head_dim = rg_cfg_uint(c, "head_dim", m->hidden_size / m->num_attention_heads, 1, 65536);
    if (c->code)
        return;
    if (m->num_attention_heads % m->num_key_value_heads != 0)
        c->code = rg_fail(c->err, RG_E_BAD_DATA,
                          "%s: 'num_attention_heads' (%" PRIu32
                          ") is not a multiple of 'num_key_value_heads' (%" PRIu32 ")",
                          c->file, m->num_attention_heads, m->num_key_value_heads);
    else if (m->head_dim == 0 || m->head_dim % 2 != 0)
        c->code = rg_fail(c->err, RG_E_BAD_DATA,
                          "%s: a head of %" PRIu32 " dimensions cannot be rotated in pairs",
                          c->file, m->head_dim);
    m->rope.dims = m->head_dim;
}

/* Reads an array of layer numbers or words into one byte per layer. */
static uint8_t *layer_flags(struct rg_cfg *c, const struct rg_model_config *m)
{
    uint8_t *flags = rg_calloc(m->num_hidden_layers, 1);

    if (!flags)
        c->code = rg_fail(c->err, RG_E_NOMEM, "%s: no memory for a list of layers", c->file);
    return flags;
}

static void read_layer_types(struct rg_cfg *c, struct rg_model_config *m)
{
    const struct rg_json *list = rg_cfg_get(c, "layer_types");
    uint32_t i = 0;
    bool windowed = false;

    if (c->code || !list)
        return;
    if (rg_json_type(list) != RG_JSON_ARRAY || rg_json_count(list) != m->num_hidden_layers) {
        c->code =
            rg_fail(c->err, RG_E_BAD_DATA,
                    "%s: 'layer_types' must be an array of %" PRIu32 " strings, one per layer",
                    c->file, m->num_hidden_layers);
        return;
    }
    m->layer_sliding = layer_flags(c, m);
    for (const struct rg_json *j = rg_json_first(list); j && !c->code; j = rg_json_next(j), i++) {
        const char *type = rg_json_type(j) == RG_JSON_STRING ? rg_json_string(j) : "";

        m->layer_sliding[i] = strcmp(type, "sliding_attention") == 0;
        windowed = windowed || m->layer_sliding[i];
        if (!m->layer_sliding[i] && strcmp(type, "full_attention") != 0)
            c->code =
                rg_fail(c->err, RG_E_UNSUPPORTED,
                        "%s: 'layer_types[%" PRIu32 "]' is not full_attention or sliding_attention",
                        c->file, i);
    }
    m->sliding_window = windowed ? rg_cfg_uint(c, "sliding_window", 0, 1, RG_LIMIT_CONTEXT) : 0;
    if (windowed && m->sliding_window == 0)
        rg_cfg_missing(c, "sliding_window");
}

/* mlx-lm ties when nothing is said, transformers does not; the files tell (checkpoint.c). */
static void read_tie(struct rg_cfg *c, struct rg_model_config *m)
{
    m->tie_word_embeddings = rg_cfg_bool(c, "tie_word_embeddings", true);
    m->tie_unsaid = !rg_cfg_get(c, "tie_word_embeddings");
}

/* sliding_window counts only where layer_types says sliding_attention; that holds for mistral, too,
 * which mlx-lm runs as llama. */
static void read_llama(struct rg_cfg *c, struct rg_model_config *m)
{
    read_dense(c, m, strcmp(m->model_type, "mistral") == 0 ? 131072 : 2048);
    m->attention_bias = rg_cfg_bool(c, "attention_bias", false);
    m->mlp_bias = rg_cfg_bool(c, "mlp_bias", false);
    read_tie(c, m);
    m->rope.interleaved = rg_cfg_bool(c, "rope_traditional", false);
    read_layer_types(c, m);
    rg_cfg_read_rope(c, m, 10000);
}

static void read_qwen2(struct rg_cfg *c, struct rg_model_config *m)
{
    read_dense(c, m, 32768);
    m->attention_bias_qkv = true;
    read_tie(c, m);
    m->rope.interleaved = rg_cfg_bool(c, "rope_traditional", false);
    rg_cfg_read_rope(c, m, 1e6);
}

static void read_qwen3(struct rg_cfg *c, struct rg_model_config *m)
{
    read_dense(c, m, 0);
    m->qk_norm = true;
    m->attention_bias = rg_cfg_bool(c, "attention_bias", false);
    m->tie_word_embeddings = need_bool(c, "tie_word_embeddings");
    rg_cfg_read_rope(c, m, 0);
}

static void read_dense_layers(struct rg_cfg *c, struct rg_model_config *m)
{
    const struct rg_json *list = rg_cfg_get(c, "mlp_only_layers");

    if (c->code || !list)
        return;
    if (rg_json_type(list) != RG_JSON_ARRAY) {
        c->code = rg_fail(c->err, RG_E_BAD_DATA, "%s: 'mlp_only_layers' is %s, an array expected",
                          c->file, rg_json_type_name(list));
        return;
    }
    if (rg_json_count(list) == 0)
        return;
    m->layer_dense = layer_flags(c, m);
    for (const struct rg_json *j = rg_json_first(list); j && !c->code; j = rg_json_next(j)) {
        int64_t layer = 0;

        if (rg_json_type(j) != RG_JSON_NUMBER ||
            !rg_json_int(j, 0, (int64_t)m->num_hidden_layers - 1, &layer))
            c->code = rg_fail(c->err, RG_E_BAD_DATA,
                              "%s: 'mlp_only_layers' must hold layer numbers "
                              "below %" PRIu32,
                              c->file, m->num_hidden_layers);
        else
            m->layer_dense[layer] = 1;
    }
}

static void check_experts(struct rg_cfg *c, const struct rg_model_config *m)
{
    if (c->code || m->n_routed_experts == 0)
        return;
    if (m->num_experts_per_tok > m->n_routed_experts)
        c->code = rg_fail(c->err, RG_E_BAD_DATA,
                          "%s: 'num_experts_per_tok' (%" PRIu32
                          ") is above the number of experts (%" PRIu32 ")",
                          c->file, m->num_experts_per_tok, m->n_routed_experts);
    else if (m->n_group > 1 &&
             (m->n_routed_experts % m->n_group != 0 || m->n_routed_experts / m->n_group < 2))
        c->code = rg_fail(c->err, RG_E_BAD_DATA,
                          "%s: 'n_group' (%" PRIu32 ") does not split %" PRIu32
                          " experts into equal groups of two or more",
                          c->file, m->n_group, m->n_routed_experts);
    else if (m->topk_group > m->n_group)
        c->code = rg_fail(c->err, RG_E_BAD_DATA,
                          "%s: 'topk_group' (%" PRIu32 ") is above 'n_group' (%" PRIu32 ")",
                          c->file, m->topk_group, m->n_group);
}

static void read_qwen3_moe(struct rg_cfg *c, struct rg_model_config *m)
{
    const char *experts = rg_cfg_get(c, "num_experts") ? "num_experts" : "num_local_experts";

    read_qwen3(c, m);
    READ_FIELDS(c, m, moe_fields);
    if (!rg_cfg_get(c, experts))
        rg_cfg_missing(c, "num_experts");
    m->n_routed_experts = rg_cfg_uint(c, experts, 0, 0, RG_LIMIT_EXPERTS);
    m->norm_topk_prob = need_bool(c, "norm_topk_prob");
    m->n_group = m->topk_group = 1;
    m->routed_scaling_factor = 1;
    read_dense_layers(c, m);
    check_experts(c, m);
    for (uint32_t i = 0; i < m->num_hidden_layers && !c->code; i++) {
        if (!rg_model_layer_is_moe(m, i) && m->intermediate_size == 0)
            rg_cfg_missing(c, "intermediate_size");
    }
}

/* A choice of which only one value exists in practice. */
static void only_value(struct rg_cfg *c, const char *key, const char *value)
{
    const char *found = rg_cfg_string(c, key);

    if (!c->code && found && strcmp(found, value) != 0)
        c->code = rg_fail(c->err, RG_E_UNSUPPORTED, "%s: '%s%s' is '%.40s', only '%s' is supported",
                          c->file, c->where, key, found, value);
}

static void read_deepseek(struct rg_cfg *c, struct rg_model_config *m)
{
    const struct rg_json *rank = c->object ? rg_json_get(c->object, "q_lora_rank") : NULL;

    READ_FIELDS(c, m, deepseek_fields);
    /* null is a value of its own here: one q_proj instead of q_a_proj and q_b_proj. */
    if (!rank)
        m->q_lora_rank = 1536;
    else
        m->q_lora_rank = rg_cfg_uint(c, "q_lora_rank", 0, 1, RG_LIMIT_DIM);
    only_value(c, "topk_method", "noaux_tc");
    only_value(c, "scoring_func", "sigmoid");
    m->norm_topk_prob = rg_cfg_bool(c, "norm_topk_prob", true);
    m->routed_scaling_factor = rg_cfg_real(c, "routed_scaling_factor", 1, 1e-6, 1e6);
    m->attention_bias = rg_cfg_bool(c, "attention_bias", false);
    m->rope.interleaved = true;
    m->rope.dims = m->qk_rope_head_dim;
    if (!c->code && m->qk_rope_head_dim % 2 != 0)
        c->code =
            rg_fail(c->err, RG_E_BAD_DATA, "%s: 'qk_rope_head_dim' (%" PRIu32 ") must be even",
                    c->file, m->qk_rope_head_dim);
    check_experts(c, m);
    rg_cfg_read_rope(c, m, 10000);
}

static const struct {
    const char *model_type;
    enum rg_family family;
    void (*read)(struct rg_cfg *c, struct rg_model_config *m);
} families[] = {
    {"deepseek_v3", RG_FAMILY_DEEPSEEK_V3, read_deepseek},
    {"kimi_k2", RG_FAMILY_DEEPSEEK_V3, read_deepseek},
    {"kimi_k25", RG_FAMILY_DEEPSEEK_V3, read_deepseek},
    {"qwen3_moe", RG_FAMILY_QWEN3_MOE, read_qwen3_moe},
    {"qwen3", RG_FAMILY_QWEN3, read_qwen3},
    {"qwen2", RG_FAMILY_QWEN2, read_qwen2},
    {"llama", RG_FAMILY_LLAMA, read_llama},
    {"mistral", RG_FAMILY_LLAMA, read_llama},
};

/* Widths that are products: each must stay a dimension like any other. */
static void check_widths(struct rg_cfg *c, const struct rg_model_config *m)
{
    const uint64_t heads = m->num_attention_heads;
    const uint64_t head = m->family == RG_FAMILY_DEEPSEEK_V3
                              ? (uint64_t)m->qk_nope_head_dim + m->qk_rope_head_dim + m->v_head_dim
                              : m->head_dim;
    const uint64_t shared = (uint64_t)m->n_shared_experts * m->moe_intermediate_size;

    if (c->code)
        return;
    if (heads * head > RG_LIMIT_DIM)
        c->code =
            rg_fail(c->err, RG_E_LIMIT,
                    "%s: %" PRIu64 " heads of %" PRIu64 " dimensions are over the limit of %u",
                    c->file, heads, head, RG_LIMIT_DIM);
    else if (shared > RG_LIMIT_DIM)
        c->code = rg_fail(c->err, RG_E_LIMIT,
                          "%s: shared experts %" PRIu64 " wide are over the limit of %u", c->file,
                          shared, RG_LIMIT_DIM);
}

static int32_t token_id(struct rg_cfg *c, const char *key, const struct rg_json *j)
{
    int64_t id = -1;

    if (!rg_json_int(j, 0, RG_LIMIT_VOCAB, &id) && !c->code)
        c->code = rg_fail(c->err, RG_E_BAD_DATA, "%s: '%s%s' must hold token ids from 0 to %u",
                          c->file, c->where, key, RG_LIMIT_VOCAB);
    return (int32_t)id;
}

static void read_tokens(struct rg_cfg *c, struct rg_model_config *m)
{
    const uint32_t most = sizeof m->eos_token_ids / sizeof m->eos_token_ids[0];
    const struct rg_json *eos = rg_cfg_get(c, "eos_token_id");
    const struct rg_json *bos = rg_cfg_get(c, "bos_token_id");

    if (bos)
        m->bos_token_id = token_id(c, "bos_token_id", bos);
    if (!eos)
        return;
    if (rg_json_type(eos) != RG_JSON_ARRAY) {
        m->eos_token_ids[0] = token_id(c, "eos_token_id", eos);
        m->n_eos_token_ids = 1;
        return;
    }
    if (rg_json_count(eos) > most) {
        if (!c->code)
            c->code = rg_fail(c->err, RG_E_LIMIT,
                              "%s: 'eos_token_id' has %zu ids, at most %" PRIu32 " are allowed",
                              c->file, rg_json_count(eos), most);
        return;
    }
    for (const struct rg_json *j = rg_json_first(eos); j; j = rg_json_next(j))
        m->eos_token_ids[m->n_eos_token_ids++] = token_id(c, "eos_token_id", j);
}

static void unknown_type(struct rg_cfg *c, const char *type)
{
    char known[256] = "";
    size_t used = 0;

    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        const int n = snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "",
                               families[i].model_type);

        used += n > 0 ? (size_t)n : 0;
    }
    c->code = rg_fail(c->err, RG_E_UNSUPPORTED,
                      "%s: model_type '%.60s' is not supported; known: %s", c->file, type, known);
}

static void read_model(struct rg_cfg *top, struct rg_model_config *m)
{
    const char *type = rg_cfg_string(top, "model_type");
    struct rg_cfg text = *top;
    size_t i = 0;

    if (!type) {
        rg_cfg_missing(top, "model_type");
        return;
    }
    while (i < sizeof families / sizeof families[0] && strcmp(families[i].model_type, type) != 0)
        i++;
    if (i == sizeof families / sizeof families[0]) {
        unknown_type(top, type);
        return;
    }
    m->family = families[i].family;
    memcpy(m->model_type, type, strlen(type) + 1);
    if (strcmp(type, "kimi_k25") == 0) {
        text = rg_cfg_inside(top, "text_config", "text_config.");
        if (!top->code && !text.object)
            rg_cfg_missing(top, "text_config");
        m->prefix = "language_model.";
    }
    if (top->code)
        return;
    m->rms_norm_eps = rg_cfg_real(&text, "rms_norm_eps", 1e-6, 1e-12, 1);
    families[i].read(&text, m);
    check_widths(&text, m);
    read_tokens(rg_cfg_get(top, "eos_token_id") ? top : &text, m);
    top->code = top->code ? top->code : text.code;
    rg_cfg_read_quant(top, &text, &m->quant);
}

static void read_architecture(const struct rg_json *root, struct rg_model_config *m)
{
    const struct rg_json *list = rg_json_get(root, "architectures");
    const struct rg_json *j =
        list && rg_json_type(list) == RG_JSON_ARRAY ? rg_json_first(list) : NULL;

    /* A class name; it is printed, so anything else is left out. */
    if (j && rg_json_type(j) == RG_JSON_STRING &&
        strspn(rg_json_string(j),
               "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") ==
            strlen(rg_json_string(j)))
        (void)snprintf(m->architecture, sizeof m->architecture, "%s", rg_json_string(j));
}

enum rg_code rg_model_config_parse(struct rg_model_config *c, const char *text, size_t len,
                                   const char *file, struct rg_err *err)
{
    struct rg_err local;
    struct rg_json *root = NULL;
    enum rg_code code;

    memset(c, 0, sizeof *c);
    c->prefix = "";
    c->bos_token_id = -1;
    if (!err)
        err = &local;
    code = rg_json_parse(&root, text, len, &rg_json_limits_config, err);
    if (code)
        return rg_fail_in(err, code, "%s", file);

    struct rg_cfg top = {.object = root, .file = file, .where = "", .err = err};

    if (rg_json_type(root) == RG_JSON_OBJECT) {
        read_architecture(root, c);
        read_model(&top, c);
    } else {
        top.code = rg_fail(err, RG_E_BAD_DATA, "%s: %s, an object expected", file,
                           rg_json_type_name(root));
    }
    rg_json_free(root);
    if (top.code)
        rg_model_config_free(c);
    return top.code;
}

void rg_model_config_free(struct rg_model_config *c)
{
    rg_free(c->rope.long_factor);
    rg_free(c->layer_sliding);
    rg_free(c->layer_dense);
    rg_quant_config_free(&c->quant);
    memset(c, 0, sizeof *c);
}

bool rg_model_layer_is_moe(const struct rg_model_config *c, uint32_t layer)
{
    if (c->n_routed_experts == 0)
        return false;
    if (c->family == RG_FAMILY_DEEPSEEK_V3)
        return layer >= c->first_k_dense_replace && layer % c->moe_layer_freq == 0;
    if (c->family == RG_FAMILY_QWEN3_MOE)
        return !(c->layer_dense && c->layer_dense[layer]) &&
               (layer + 1) % c->decoder_sparse_step == 0;
    return false;
}

bool rg_model_layer_is_sliding(const struct rg_model_config *c, uint32_t layer)
{
    return c->layer_sliding && c->layer_sliding[layer];
}
