/* checkpoint_formats_test.c - int4, FP8, packed mxfp4 and global scales: found, compared, refused.
 *
 * Names and shapes are those of compressed-tensors, DeepSeek-V3 and mlx-lm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "support/checkpoint_asserts.h"
#include "support/live_memory.h"

/* One layer, tied: q, k, v, o of 128 inputs, an MLP 192 wide (one and a half blocks of FP8). */
#define LLAMA_KEYS                                                                                 \
    "\"model_type\":\"llama\",\"hidden_size\":128,\"num_hidden_layers\":1,\"intermediate_size\":"  \
    "192,\"num_attention_heads\":4,\"num_key_value_heads\":2,\"rms_norm_eps\":1e-5,"               \
    "\"vocab_size\":160,\"tie_word_embeddings\":true"
#define INT4(group, rest)                                                                          \
    ",\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"format\":"                \
    "\"pack-quantized\",\"config_groups\":{\"group_0\":{\"targets\":[\"Linear\"],\"weights\":{"    \
    "\"num_bits\":4,\"type\":\"int\",\"strategy\":\"group\",\"symmetric\":true,\"group_"           \
    "size\":" #group "}}}" rest "}"
#define FP8 ",\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":[128,128]}"

enum format { FLOATS, PACKED, BLOCKS, MXFP4 };

struct made {
    enum format format;
    unsigned group;
    const char *scale_dtype;
};

static const struct {
    const char *role;
    unsigned rows, cols;
} linears[] = {{"self_attn.q_proj", 128, 128}, {"self_attn.k_proj", 64, 128},
               {"self_attn.v_proj", 64, 128},  {"self_attn.o_proj", 128, 128},
               {"mlp.gate_proj", 192, 128},    {"mlp.up_proj", 192, 128},
               {"mlp.down_proj", 128, 192}};

static int32_t shapes[7][2];

static void add_linear(struct cw *w, const struct made *m, const char *path, unsigned rows,
                       unsigned cols)
{
    char name[192];

    if (m->format == FLOATS) {
        cw_module(w, path, 0, rows, cols, 0, 0);
        return;
    }
    if (m->format == BLOCKS) {
        (void)snprintf(name, sizeof name, "%s.weight", path);
        cw_add(w, name, "F8_E4M3", 0, rows, cols);
        (void)snprintf(name, sizeof name, "%s.weight_scale_inv", path);
        cw_add(w, name, m->scale_dtype, 0, (rows + 127) / 128, (cols + 127) / 128);
        return;
    }
    (void)snprintf(name, sizeof name, "%s.weight_packed", path);
    if (m->format == PACKED)
        cw_add(w, name, "I32", 0, rows, cols / 8);
    else
        cw_add(w, name, "U8", 0, rows, cols / 2);
    (void)snprintf(name, sizeof name, "%s.weight_scale", path);
    cw_add(w, name, m->scale_dtype, 0, rows, cols / m->group);
}

static void begin(struct cw *w, const struct made *m, const char *keys)
{
    char name[192];

    cw_begin(w);
    cw_module(w, "model.embed_tokens", 0, 160, 128, 0, 0);
    cw_vector(w, "model.norm.weight", "BF16", 128);
    norm(w, 0, "input_layernorm", 128);
    norm(w, 0, "post_attention_layernorm", 128);
    for (size_t i = 0; i < sizeof linears / sizeof linears[0]; i++) {
        add_linear(w, m, layer_path(0, linears[i].role), linears[i].rows, linears[i].cols);
        if (m->format != PACKED)
            continue;
        shapes[i][0] = (int32_t)linears[i].rows;
        shapes[i][1] = (int32_t)linears[i].cols;
        (void)snprintf(name, sizeof name, "%s.weight_shape", layer_path(0, linears[i].role));
        cw_add(w, name, "I32", 0, 0, 2)->data = shapes[i];
    }
    config(w, keys, NULL);
}

/* ---- compressed-tensors ------------------------------------------------------------------- */

static void int4_modules_are_found_with_their_group(void **state)
{
    static const char *const dtypes[] = {"BF16", "F16", "F32"};
    static const enum rg_dtype found[] = {RG_DTYPE_BF16, RG_DTYPE_F16, RG_DTYPE_F32};
    static uint8_t codes[64 * 64];

    (void)state;
    memset(codes, 0x5a, sizeof codes);
    for (size_t i = 0; i < 3; i++) {
        const struct made m = {PACKED, i == 0 ? 32 : 64, dtypes[i]};
        struct cw w;

        begin(&w, &m, i == 0 ? LLAMA_KEYS INT4(32, "") : LLAMA_KEYS INT4(64, ""));
        cw_find(&w, "model.layers.0.self_attn.k_proj.weight_packed")->data = codes;
        struct rg_checkpoint *c = open_it(&w);
        const struct rg_weight_desc *d = weight(c, 0, "self_attn.k_proj");

        expect_format(d, RG_WEIGHT_INT4, 4, m.group);
        expect_format(weight(c, 0, "mlp.down_proj"), RG_WEIGHT_INT4, 4, m.group);
        expect_format(weight(c, RG_LAYER_NONE, "model.embed_tokens"), RG_WEIGHT_FLOAT, 0, 0);
        assert_int_equal(d->dtype, found[i]);
        assert_memory_equal(d->data, codes, sizeof codes);
        assert_non_null(d->scales);
        assert_null(d->biases);
        const uint64_t scale_bytes = 64 * 128 / m.group * rg_dtype_bits(d->dtype) / 8;

        assert_int_equal(rg_weight_data_bytes(d), sizeof codes);
        assert_int_equal(rg_weight_scale_bytes(d), scale_bytes);
        assert_int_equal(d->bytes, sizeof codes + scale_bytes + 8);
        rg_checkpoint_close(c);
        cw_end(&w);
    }
}

/* What is done to one tensor of a good int4 checkpoint, and what is said about it. */
static void a_packed_module_that_does_not_fit_is_named(void **state)
{
    static const struct {
        const char *drop, *add, *dtype;
        uint64_t rows, cols;
        enum rg_code code;
        const char *says;
    } cases[] = {
        {"weight_scale", NULL, NULL, 0, 0, RG_E_BAD_DATA,
         "'model.layers.0.mlp.up_proj.weight_scale' is not; the checkpoint is incomplete"},
        {"weight_packed", NULL, NULL, 0, 0, RG_E_BAD_DATA,
         "tensor 'model.layers.0.mlp.up_proj.weight' is missing"},
        {"weight_packed", "weight_packed", "I32", 192, 8, RG_E_BAD_DATA,
         "'model.layers.0.mlp.up_proj.weight_packed' is I32 [192, 8], I32 [192, 16] expected"},
        {"weight_packed", "weight_packed", "F32", 192, 16, RG_E_BAD_DATA,
         "is F32 [192, 16], I32 [192, 16] expected"},
        {"weight_scale", "weight_scale", "BF16", 192, 8, RG_E_BAD_DATA,
         "BF16, F16 or F32 [192, 128 / group] expected, with groups of 32, 64 or 128"},
        {"weight_scale", "weight_scale", "BF16", 192, 2, RG_E_BAD_DATA,
         "'model.layers.0.mlp.up_proj' is 4-bit group 64 int4, which no entry of config_groups"},
        {"weight_scale", "weight_scale", "U8", 192, 4, RG_E_BAD_DATA, "is U8 [192, 4]; BF16"},
        {"weight_shape", "weight_shape", "I32", 0, 3, RG_E_BAD_DATA, "I32 or I64 [2] expected"},
        {NULL, "weight", "BF16", 192, 128, RG_E_BAD_DATA,
         "1 tensor that a llama of this config.json does not have: "
         "'model.layers.0.mlp.up_proj.weight'"},
        {NULL, "weight_zero_point", "I32", 24, 4, RG_E_UNSUPPORTED,
         "'model.layers.0.mlp.up_proj.weight_zero_point' means asymmetric codes"},
        {NULL, "weight_g_idx", "I32", 0, 128, RG_E_UNSUPPORTED, "columns in activation order"},
        {NULL, "weight_global_scale", "F32", 0, 1, RG_E_UNSUPPORTED, "nvfp4-pack-quantized"},
        {NULL, "input_scale", "F32", 0, 1, RG_E_UNSUPPORTED, "means quantised inputs"},
        {"weight_packed", "qweight", "I32", 16, 192, RG_E_UNSUPPORTED, "means AWQ or GPTQ"},
    };
    static const struct made int4 = {PACKED, 32, "BF16"};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct cw w;
        char name[192];

        begin(&w, &int4, LLAMA_KEYS INT4(32, ""));
        (void)snprintf(name, sizeof name, "model.layers.0.mlp.up_proj.%s",
                       cases[i].drop ? cases[i].drop : "");
        if (cases[i].drop)
            cw_drop(&w, name);
        (void)snprintf(name, sizeof name, "model.layers.0.mlp.up_proj.%s",
                       cases[i].add ? cases[i].add : "");
        if (cases[i].add)
            cw_add(&w, name, cases[i].dtype, 0, cases[i].rows, cases[i].cols);
        expect_fails(&w, cases[i].code, cases[i].says);
        cw_end(&w);
    }
}

static void weight_shape_is_compared_when_the_file_is_mapped(void **state)
{
    static const struct made int4 = {PACKED, 32, "BF16"};
    static int64_t wide[2] = {192, 128};
    struct rg_checkpoint *c = NULL;
    struct rg_err err = {.message = ""};
    struct cw w;

    (void)state;
    begin(&w, &int4, LLAMA_KEYS INT4(32, ""));
    cw_drop(&w, "model.layers.0.mlp.up_proj.weight_shape");
    rg_checkpoint_close(open_it(&w)); /* not there: nothing to compare */
    cw_add(&w, "model.layers.0.mlp.up_proj.weight_shape", "I64", 0, 0, 2)->data = wide;
    rg_checkpoint_close(open_it(&w));
    wide[1] = 129;
    cw_write(&w);
    assert_int_equal(rg_checkpoint_open(&c, w.dir, &rg_checkpoint_mapped, &err), RG_E_BAD_DATA);
    assert_non_null(strstr(err.message, "'model.layers.0.mlp.up_proj.weight_shape' says "
                                        "[192, 129], [192, 128] expected from config.json"));
    assert_int_equal(rg_checkpoint_open(&c, w.dir, &rg_checkpoint_headers, &err), RG_OK);
    rg_checkpoint_close(c);
    cw_end(&w);
}

static void config_and_tensors_must_be_of_one_checkpoint(void **state)
{
    static const struct {
        struct made made;
        const char *keys, *says;
    } cases[] = {
        {{PACKED, 32, "BF16"},
         LLAMA_KEYS INT4(32, ",\"ignore\":[\"lm_head\",\"re:.*mlp.(gate|up)_proj\"]"),
         "quantization_config leaves 'model.layers.0.mlp.gate_proj' out, but it is quantised"},
        {{PACKED, 32, "BF16"},
         LLAMA_KEYS INT4(32, ",\"ignore\":[\"model.layers.0.self_attn.q_proj\"]"),
         "leaves 'model.layers.0.self_attn.q_proj' out"},
        {{PACKED, 32, "BF16"},
         LLAMA_KEYS FP8,
         "quant_method 'fp8', but 'model.layers.0.self_attn.q_proj' is 4-bit group 32 int4"},
        {{BLOCKS, 0, "F32"},
         LLAMA_KEYS INT4(32, ""),
         "quant_method 'compressed-tensors', but 'model.layers.0.self_attn.q_proj' is 8-bit"},
        {{BLOCKS, 0, "F32"},
         LLAMA_KEYS ",\"quantization\":{\"group_size\":64,\"bits\":4,"
                    "\"model.layers.0.self_attn.v_proj\":{\"group_size\":64,\"bits\":8}}",
         "right would be \"model.layers.0.self_attn.v_proj\": {\"group_size\": 128, \"bits\": 8, "
         "\"mode\": \"fp8\"}"},
        {{FLOATS, 0, NULL}, LLAMA_KEYS FP8, "has quant_method 'fp8', but no tensor is quantised"},
        {{FLOATS, 0, NULL}, LLAMA_KEYS INT4(32, ""), "but no tensor is quantised"},
        {{MXFP4, 32, "U8"}, LLAMA_KEYS INT4(32, ""), "4-bit group 32 mxfp4, which no entry of"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct cw w;

        begin(&w, &cases[i].made, cases[i].keys);
        expect_fails(&w, RG_E_BAD_DATA, cases[i].says);
        cw_end(&w);
    }
}

/* A module without weight_packed is float, listed or not; without any config the tensors decide. */
static void the_tensors_decide_what_is_quantised(void **state)
{
    static const struct made made[] = {{PACKED, 32, "F32"}, {BLOCKS, 0, "BF16"}, {MXFP4, 32, "U8"}};
    static const enum rg_weight_kind kinds[] = {RG_WEIGHT_INT4, RG_WEIGHT_FP8, RG_WEIGHT_MXFP4};
    static const unsigned bits[] = {4, 8, 4}, groups[] = {32, 128, 32};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct cw w;

        begin(&w, &made[i], LLAMA_KEYS);
        struct rg_checkpoint *c = open_it(&w);

        expect_format(weight(c, 0, "mlp.down_proj"), kinds[i], bits[i], groups[i]);
        rg_checkpoint_close(c);
        cw_end(&w);
    }

    struct cw w;

    begin(&w, &made[0], LLAMA_KEYS INT4(32, ""));
    cw_drop(&w, "model.layers.0.mlp.up_proj.weight_packed");
    cw_drop(&w, "model.layers.0.mlp.up_proj.weight_scale");
    cw_drop(&w, "model.layers.0.mlp.up_proj.weight_shape");
    cw_module(&w, "model.layers.0.mlp.up_proj", 0, 192, 128, 0, 0);
    struct rg_checkpoint *c = open_it(&w);

    expect_format(weight(c, 0, "mlp.up_proj"), RG_WEIGHT_FLOAT, 0, 0);
    expect_format(weight(c, 0, "mlp.gate_proj"), RG_WEIGHT_INT4, 4, 32);
    rg_checkpoint_close(c);
    cw_end(&w);
}

/* ---- FP8 ---------------------------------------------------------------------------------- */

static void fp8_has_one_scale_per_block_of_128(void **state)
{
    static const struct made made = {BLOCKS, 0, "F32"};
    struct cw w;

    (void)state;
    begin(&w, &made, LLAMA_KEYS FP8);
    struct rg_checkpoint *c = open_it(&w);
    const struct rg_weight_desc *d = weight(c, 0, "mlp.down_proj");

    expect_format(d, RG_WEIGHT_FP8, 8, 128);
    assert_int_equal(d->dtype, RG_DTYPE_F32);
    assert_int_equal(rg_weight_data_bytes(d), 128 * 192);
    assert_int_equal(rg_weight_scale_bytes(d), 1 * 2 * 4);
    assert_int_equal(d->bytes, 128 * 192 + 8);
    assert_int_equal(weight(c, 0, "mlp.up_proj")->bytes, 192 * 128 + 2 * 1 * 4);
    rg_checkpoint_close(c);
    cw_end(&w);
}

/* compressed-tensors' "float-quantized" with strategy block: the same numbers, other names. */
static void fp8_blocks_of_compressed_tensors_are_fp8(void **state)
{
    static const struct made made = {BLOCKS, 0, "BF16"};
    struct cw w;

    (void)state;
    begin(&w, &made,
          LLAMA_KEYS ",\"quantization_config\":{\"quant_method\":\"compressed-tensors\","
                     "\"format\":\"float-quantized\",\"config_groups\":{\"g\":{\"weights\":{"
                     "\"num_bits\":8,\"type\":\"float\",\"strategy\":\"block\","
                     "\"block_structure\":[128,128]},\"input_activations\":{\"dynamic\":true}}}}");
    expect_fails(&w, RG_E_BAD_DATA, "quant_method 'compressed-tensors', but");
    for (size_t i = 0; i < w.n; i++) {
        char *inv = strstr(w.tensors[i].name, "_inv");

        if (inv)
            *inv = '\0';
    }
    struct rg_checkpoint *c = open_it(&w);

    expect_format(weight(c, 0, "mlp.down_proj"), RG_WEIGHT_FP8, 8, 128);
    rg_checkpoint_close(c);
    cw_end(&w);
}

static void fp8_of_another_layout_is_refused(void **state)
{
    static const struct {
        const char *drop, *add, *dtype;
        uint64_t rows, cols;
        enum rg_code code;
        const char *says;
    } cases[] = {
        {"weight_scale_inv", NULL, NULL, 0, 0, RG_E_BAD_DATA,
         "is F8_E4M3, but there is no 'model.layers.0.mlp.up_proj.weight_scale_inv'"},
        {"weight_scale_inv", "weight_scale", "F32", 0, 1, RG_E_UNSUPPORTED,
         "'model.layers.0.mlp.up_proj.weight_scale' means FP8 with one scale per tensor or row"},
        {"weight_scale_inv", "weight_scale_inv", "F32", 6, 4, RG_E_BAD_DATA,
         "is F32 [6, 4], F32, BF16 or F16 [2, 1] expected for [192, 128]"},
        {"weight_scale_inv", "weight_scale_inv", "U8", 6, 4, RG_E_UNSUPPORTED,
         "FP8 with power-of-two scales is not supported"},
        {"weight_scale_inv", "weight_scale_inv", "F8_E8M0", 2, 1, RG_E_UNSUPPORTED,
         "is F8_E8M0: FP8 with power-of-two scales"},
        {"weight", "weight", "F8_E5M2", 192, 128, RG_E_UNSUPPORTED, "is F8_E5M2; of FP8 only"},
        {"weight", "weight", "BF16", 192, 128, RG_E_BAD_DATA,
         "has a weight_scale_inv, so it must be F8_E4M3, it is BF16"},
        {"weight", "weight", "F8_E4M3", 192, 64, RG_E_BAD_DATA,
         "is F8_E4M3 [192, 64], F8_E4M3 [192, 128] expected"},
    };
    static const struct made made = {BLOCKS, 0, "F32"};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct cw w;
        char name[192];

        begin(&w, &made, LLAMA_KEYS FP8);
        (void)snprintf(name, sizeof name, "model.layers.0.mlp.up_proj.%s", cases[i].drop);
        cw_drop(&w, name);
        (void)snprintf(name, sizeof name, "model.layers.0.mlp.up_proj.%s",
                       cases[i].add ? cases[i].add : "");
        if (cases[i].add)
            cw_add(&w, name, cases[i].dtype, 0, cases[i].rows, cases[i].cols);
        expect_fails(&w, cases[i].code, cases[i].says);
        cw_end(&w);
    }
}

/* ---- experts and heads -------------------------------------------------------------------- */

#define DEEPSEEK_KEYS                                                                              \
    "\"model_type\":\"deepseek_v3\",\"hidden_size\":64,\"num_hidden_layers\":1,"                   \
    "\"moe_intermediate_size\":32,\"num_attention_heads\":2,\"n_routed_experts\":2,"               \
    "\"num_experts_per_tok\":1,\"q_lora_rank\":null,\"kv_lora_rank\":64,\"qk_nope_head_dim\":32,"  \
    "\"qk_rope_head_dim\":16,\"v_head_dim\":32,\"vocab_size\":96"

static void begin_deepseek(struct cw *w, const struct made *m, bool stacked, const char *keys)
{
    static const char *const names[] = {"gate_proj", "up_proj", "down_proj"};
    const struct made floats = {FLOATS, 0, NULL};
    char role[64];

    cw_begin(w);
    cw_module(w, "model.embed_tokens", 0, 96, 64, 0, 0);
    cw_module(w, "lm_head", 0, 96, 64, 0, 0);
    cw_vector(w, "model.norm.weight", "BF16", 64);
    norm(w, 0, "input_layernorm", 64);
    norm(w, 0, "post_attention_layernorm", 64);
    norm(w, 0, "self_attn.kv_a_layernorm", 64);
    add_linear(w, &floats, layer_path(0, "self_attn.q_proj"), 96, 64);
    add_linear(w, &floats, layer_path(0, "self_attn.kv_a_proj_with_mqa"), 80, 64);
    add_linear(w, m->format == FLOATS ? &floats : m, layer_path(0, "self_attn.kv_b_proj"), 128, 64);
    add_linear(w, &floats, layer_path(0, "self_attn.o_proj"), 64, 64);
    add_linear(w, &floats, layer_path(0, "mlp.gate"), 2, 64);
    cw_vector(w, layer_path(0, "mlp.gate.e_score_correction_bias"), "F32", 2);
    for (unsigned p = 0; p < 3; p++) {
        const unsigned rows = p == 2 ? 64 : 32, cols = p == 2 ? 32 : 64;

        for (unsigned e = 0; e < 2 && !stacked; e++) {
            (void)snprintf(role, sizeof role, "mlp.experts.%u.%s", e, names[p]);
            add_linear(w, m, layer_path(0, role), rows, cols);
        }
        if (!stacked)
            continue;
        (void)snprintf(role, sizeof role, "mlp.switch_mlp.%s.weight", names[p]);
        cw_add(w, layer_path(0, role), "U32", 2, rows, cols / 8);
        (void)snprintf(role, sizeof role, "mlp.switch_mlp.%s.scales", names[p]);
        cw_add(w, layer_path(0, role), "U8", 2, rows, cols / 16);
    }
    config(w, keys, NULL);
}

static void single_experts_and_kv_b_proj_may_be_packed_or_fp8(void **state)
{
    static const struct {
        struct made made;
        const char *keys;
        enum rg_weight_kind kind;
        unsigned bits, group;
    } cases[] = {{{PACKED, 32, "BF16"}, DEEPSEEK_KEYS INT4(32, ""), RG_WEIGHT_INT4, 4, 32},
                 {{BLOCKS, 0, "F32"}, DEEPSEEK_KEYS FP8, RG_WEIGHT_FP8, 8, 128}};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct cw w;

        begin_deepseek(&w, &cases[i].made, false, cases[i].keys);
        struct rg_checkpoint *c = open_it(&w);
        const struct rg_weight_desc *d = weight(c, 0, "mlp.switch_mlp.down_proj");

        expect_format(d, cases[i].kind, cases[i].bits, cases[i].group);
        assert_int_equal(d->lead, 2);
        assert_null(d->data);
        assert_null(d->biases_of);
        assert_non_null(d->scales_of);
        for (size_t e = 0; e < 2; e++)
            assert_true(d->data_of[e] && d->scales_of[e] && d->data_of[e] != d->scales_of[e]);
        assert_true(d->data_of[0] != d->data_of[1]);
        assert_int_equal(d->bytes, 2 * (rg_weight_data_bytes(d) + rg_weight_scale_bytes(d)));
        expect_format(weight(c, 0, "self_attn.kv_b_proj"), cases[i].kind, cases[i].bits,
                      cases[i].group);
        assert_null(rg_checkpoint_module(c, 0, "self_attn.embed_q"));
        rg_checkpoint_close(c);

        cw_drop(&w, cases[i].kind == RG_WEIGHT_FP8
                        ? "model.layers.0.mlp.experts.1.up_proj.weight"
                        : "model.layers.0.mlp.experts.1.up_proj.weight_packed");
        expect_fails(&w, RG_E_BAD_DATA, "'model.layers.0.mlp.experts.1.up_proj.weight' is missing");
        cw_end(&w);
    }
}

static void a_global_scale_needs_nvfp4_a_stack_and_a_promise(void **state)
{
    static const char path[] = "model.layers.0.mlp.switch_mlp.up_proj.global_scale";
    static const struct made floats = {FLOATS, 0, NULL};
#define NVFP4(rest) DEEPSEEK_KEYS ",\"quantization\":{\"mode\":\"nvfp4\"" rest "}"
#define ENTRY(rest) ",\"model.layers.0.mlp.switch_mlp.up_proj\":{\"mode\":\"nvfp4\"" rest "}"
    static const struct {
        const char *keys, *dtype;
        uint64_t n;
        const char *says;
    } cases[] = {
        {NVFP4(ENTRY(",\"global_scale\":true")), "F32", 2, NULL},
        {NVFP4(""), "F32", 2, NULL},
        {NVFP4(ENTRY(",\"global_scale\":true")), NULL, 0,
         "says global_scale for 'model.layers.0.mlp.switch_mlp.up_proj', but there is no"},
        {NVFP4(ENTRY("")), "F32", 2, "without \"global_scale\": true, but there is"},
        {NVFP4(""), "BF16", 2, "is BF16 [2]; F32, one per expert of a stack, expected"},
        {NVFP4(""), "F32", 3, "is F32 [3]; F32, one per expert of a stack, expected"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct cw w;

        begin_deepseek(&w, &floats, true, cases[i].keys);
        if (cases[i].dtype)
            cw_vector(&w, path, cases[i].dtype, cases[i].n);
        if (cases[i].says) {
            expect_fails(&w, RG_E_BAD_DATA, cases[i].says);
        } else {
            struct rg_checkpoint *c = open_it(&w);
            const struct rg_weight_desc *d = weight(c, 0, "mlp.switch_mlp.up_proj");

            expect_format(d, RG_WEIGHT_NVFP4, 4, 16);
            assert_non_null(d->globals);
            assert_int_equal(d->bytes, 2 * 32 * 64 / 2 + 2 * 32 * 4 + 8);
            assert_null(weight(c, 0, "mlp.switch_mlp.down_proj")->globals);
            rg_checkpoint_close(c);
        }
        cw_end(&w);
    }
}

/* ---- Kimi-K2-Thinking at full size ---------------------------------------------------------- */

#define THINKING_KEYS                                                                              \
    "\"model_type\":\"kimi_k2\",\"vocab_size\":163840,\"hidden_size\":7168,"                       \
    "\"intermediate_size\":18432,\"moe_intermediate_size\":2048,\"num_hidden_layers\":61,"         \
    "\"num_attention_heads\":64,\"n_shared_experts\":1,\"n_routed_experts\":384,"                  \
    "\"num_experts_per_tok\":8,\"first_k_dense_replace\":1,\"max_position_embeddings\":262144"

static void add_thinking_mlp(struct cw *w, unsigned layer, const char *base, unsigned width,
                             const struct made *m)
{
    static const char *const names[] = {"gate_proj", "up_proj", "down_proj"};
    char role[64], path[192];

    for (unsigned p = 0; p < 3; p++) {
        (void)snprintf(role, sizeof role, "%s.%s", base, names[p]);
        (void)snprintf(path, sizeof path, "%s", layer_path(layer, role));
        add_linear(w, m, path, p == 2 ? 7168 : width, p == 2 ? width : 7168);
        if (m->format == FLOATS)
            continue;
        (void)snprintf(role, sizeof role, "%s.%s.weight_shape", base, names[p]);
        cw_add(w, layer_path(layer, role), "I32", 0, 0, 2);
    }
}

static void add_thinking_layer(struct cw *w, unsigned i)
{
    const struct made floats = {FLOATS, 0, NULL}, int4 = {PACKED, 32, "BF16"};
    char base[32];

    norm(w, i, "input_layernorm", 7168);
    norm(w, i, "post_attention_layernorm", 7168);
    norm(w, i, "self_attn.q_a_layernorm", 1536);
    norm(w, i, "self_attn.kv_a_layernorm", 512);
    add(w, i, "self_attn.q_a_proj", 1536, 7168, 0, 0);
    add(w, i, "self_attn.q_b_proj", 12288, 1536, 0, 0);
    add(w, i, "self_attn.kv_a_proj_with_mqa", 576, 7168, 0, 0);
    add(w, i, "self_attn.kv_b_proj", 16384, 512, 0, 0);
    add(w, i, "self_attn.o_proj", 7168, 8192, 0, 0);
    if (i == 0) {
        add_thinking_mlp(w, i, "mlp", 18432, &floats);
        return;
    }
    add(w, i, "mlp.gate", 384, 7168, 0, 0);
    cw_vector(w, layer_path(i, "mlp.gate.e_score_correction_bias"), "F32", 384);
    add_thinking_mlp(w, i, "mlp.shared_experts", 2048, &floats);
    for (unsigned e = 0; e < 384; e++) {
        (void)snprintf(base, sizeof base, "mlp.experts.%u", e);
        add_thinking_mlp(w, i, base, 2048, &int4);
    }
}

/* 1.026e12 parameters, of which 384 experts of 44,040,192 in 60 layers have 4 bits and a BF16 scale
 * per 32, and the rest 16 (the router's bias 32). */
static void kimi_k2_thinking_opens_quickly_and_has_its_size(void **state)
{
    const uint64_t experts = UINT64_C(60) * 384 * 44040192;
    const uint64_t all = UINT64_C(1026408232448), biases = 60 * 384, matrices = 60 * 384 * 3;
    struct rg_checkpoint *c = NULL;
    struct rg_err err = {.message = ""};
    struct cw w;

    (void)state;
    cw_begin(&w);
    w.n_shards = 62;
    for (unsigned i = 0; i < 61; i++) {
        w.shard = i;
        add_thinking_layer(&w, i);
    }
    w.shard = 61;
    cw_module(&w, "model.embed_tokens", 0, 163840, 7168, 0, 0);
    cw_module(&w, "lm_head", 0, 163840, 7168, 0, 0);
    cw_vector(&w, "model.norm.weight", "BF16", 7168);
    config(&w,
           THINKING_KEYS INT4(32, ",\"ignore\":[\"lm_head\",\"re:.*self_attn.*\","
                                  "\"re:.*shared_experts.*\","
                                  "\"re:.*mlp\\\\.(gate|up|gate_up|down)_proj.*\"]"),
           NULL);
    cw_write(&w);
    cw_write_index(&w, 0);

    const int64_t begun = rg_clock_ms();

    if (rg_checkpoint_open(&c, w.dir, &rg_checkpoint_headers, &err) != RG_OK)
        fail_msg("%s", err.message);
    print_message("%u tensors opened in %lld ms\n", rg_tensor_set_count(c->tensors),
                  (long long)(rg_clock_ms() - begun));
    assert_true(rg_clock_ms() - begun < 20000); /* under a sanitizer and an emulator too */
    assert_true(c->parameters == all);
    assert_true(c->total_bytes ==
                experts / 2 + experts / 32 * 2 + 8 * matrices + 2 * (all - experts) + 2 * biases);
    expect_format(weight(c, 60, "mlp.switch_mlp.up_proj"), RG_WEIGHT_INT4, 4, 32);
    expect_format(weight(c, 60, "self_attn.kv_b_proj"), RG_WEIGHT_FLOAT, 0, 0);
    rg_checkpoint_close(c);
    cw_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(int4_modules_are_found_with_their_group),
        TEST(a_packed_module_that_does_not_fit_is_named),
        TEST(weight_shape_is_compared_when_the_file_is_mapped),
        TEST(config_and_tensors_must_be_of_one_checkpoint),
        TEST(the_tensors_decide_what_is_quantised),
        TEST(fp8_has_one_scale_per_block_of_128),
        TEST(fp8_blocks_of_compressed_tensors_are_fp8),
        TEST(fp8_of_another_layout_is_refused),
        TEST(single_experts_and_kv_b_proj_may_be_packed_or_fp8),
        TEST(a_global_scale_needs_nvfp4_a_stack_and_a_promise),
        TEST(kimi_k2_thinking_opens_quickly_and_has_its_size),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
