/* model_config_test.c - what config.json says, family by family, and what is refused how. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "checkpoint/model_config.h"
#include "support/live_memory.h"

#define LLAMA                                                                                      \
    "\"model_type\":\"llama\",\"hidden_size\":64,\"num_hidden_layers\":4,\"intermediate_size\":"   \
    "128,"                                                                                         \
    "\"num_attention_heads\":4,\"rms_norm_eps\":1e-5,\"vocab_size\":100"
#define QWEN3                                                                                      \
    "\"hidden_size\":64,\"num_hidden_layers\":4,\"intermediate_size\":128,\"num_attention_"        \
    "heads\":4,"                                                                                   \
    "\"num_key_value_heads\":2,\"head_dim\":32,\"rms_norm_eps\":1e-6,\"vocab_size\":100,"          \
    "\"max_position_embeddings\":40960,\"tie_word_embeddings\":false"
#define MOE                                                                                        \
    "\"model_type\":\"qwen3_moe\",\"moe_intermediate_size\":32,\"num_experts_per_tok\":2,"         \
    "\"norm_topk_prob\":true,\"decoder_sparse_step\":1," QWEN3

static void expect_fails(const char *text, enum rg_code code, const char *says)
{
    struct rg_model_config c;
    struct rg_err err = {.message = ""};
    const enum rg_code got = rg_model_config_parse(&c, text, strlen(text), "M/config.json", &err);

    if (got != code || !strstr(err.message, says))
        fail_msg("%.200s: code %d '%s', expected %d '%s'", text, got, err.message, code, says);
    assert_ptr_equal(strstr(err.message, "M/config.json"), err.message);
    assert_null(strchr(err.message, '\n'));
}

static struct rg_model_config expect_parses(const char *text)
{
    struct rg_model_config c;
    struct rg_err err = {.message = ""};

    if (rg_model_config_parse(&c, text, strlen(text), "M/config.json", &err) != RG_OK)
        fail_msg("%.200s: %s", text, err.message);
    return c;
}

static void near(double got, double want)
{
    if (!(fabs(got - want) <= 1e-7 * fabs(want)))
        fail_msg("%.17g, expected %.17g", got, want);
}

static void llama_has_mlx_lms_defaults(void **state)
{
    struct rg_model_config c = expect_parses("{" LLAMA "}");

    (void)state;
    assert_int_equal(c.family, RG_FAMILY_LLAMA);
    assert_string_equal(c.model_type, "llama");
    assert_string_equal(c.prefix, "");
    assert_int_equal(c.num_key_value_heads, 4);
    assert_int_equal(c.head_dim, 16);
    assert_int_equal(c.max_position_embeddings, 2048);
    assert_true(c.tie_word_embeddings);
    assert_false(c.attention_bias || c.attention_bias_qkv || c.mlp_bias || c.qk_norm);
    near(c.rope.theta, 10000);
    assert_int_equal(c.rope.kind, RG_ROPE_DEFAULT);
    assert_int_equal(c.rope.dims, 16);
    assert_false(c.rope.interleaved);
    near(c.attention_scale, 0.25);
    near(c.rms_norm_eps, 1e-5);
    assert_int_equal(c.bos_token_id, -1);
    assert_int_equal(c.n_eos_token_ids, 0);
    assert_int_equal(c.quant.method, RG_QUANT_NONE);
    assert_false(rg_model_layer_is_moe(&c, 0));
    assert_false(rg_model_layer_is_sliding(&c, 0));
    rg_model_config_free(&c);
}

static void llama_reads_what_it_says(void **state)
{
    struct rg_model_config c = expect_parses(
        "{" LLAMA
        ",\"architectures\":[\"LlamaForCausalLM\"],\"num_key_value_heads\":2,\"head_dim\":32,"
        "\"attention_bias\":true,\"mlp_bias\":true,\"tie_word_embeddings\":false,"
        "\"rope_traditional\":true,\"rope_theta\":500000,\"max_position_embeddings\":131072,"
        "\"eos_token_id\":[1,2,3],\"bos_token_id\":0,\"layer_types\":[\"full_attention\","
        "\"sliding_attention\",\"full_attention\",\"sliding_attention\"],\"sliding_window\":16}");

    (void)state;
    assert_string_equal(c.architecture, "LlamaForCausalLM");
    assert_int_equal(c.num_key_value_heads, 2);
    assert_int_equal(c.head_dim, 32);
    assert_true(c.attention_bias && c.mlp_bias && !c.tie_word_embeddings && c.rope.interleaved);
    near(c.rope.theta, 5e5);
    assert_int_equal(c.n_eos_token_ids, 3);
    assert_int_equal(c.eos_token_ids[2], 3);
    assert_int_equal(c.bos_token_id, 0);
    assert_int_equal(c.sliding_window, 16);
    assert_false(rg_model_layer_is_sliding(&c, 0));
    assert_true(rg_model_layer_is_sliding(&c, 3));
    rg_model_config_free(&c);
}

static void mistral_slides_only_where_layer_types_says_so(void **state)
{
    struct rg_model_config c =
        expect_parses("{\"model_type\":\"mistral\",\"hidden_size\":64,\"num_hidden_layers\":2,"
                      "\"sliding_window\":4096,"
                      "\"intermediate_size\":128,\"num_attention_heads\":4,\"rms_norm_eps\":1e-5,"
                      "\"vocab_size\":100}");

    (void)state;
    assert_int_equal(c.family, RG_FAMILY_LLAMA);
    assert_int_equal(c.sliding_window, 0);
    assert_int_equal(c.max_position_embeddings, 131072);
    rg_model_config_free(&c);
    expect_fails("{" LLAMA ",\"layer_types\":[\"sliding_attention\",\"full_attention\","
                 "\"full_attention\",\"full_attention\"]}",
                 RG_E_BAD_DATA, "'sliding_window' is missing");
    expect_fails("{" LLAMA ",\"layer_types\":[\"full_attention\"]}", RG_E_BAD_DATA,
                 "'layer_types' must be an array of 4 strings");
    expect_fails("{" LLAMA ",\"layer_types\":[\"full_attention\",\"full_attention\","
                 "\"full_attention\",\"linear_attention\"]}",
                 RG_E_UNSUPPORTED, "'layer_types[3]'");
}

static void qwen2_has_biases_on_q_k_v_only(void **state)
{
    struct rg_model_config c = expect_parses(
        "{\"model_type\":\"qwen2\",\"hidden_size\":64,\"num_hidden_layers\":2,"
        "\"intermediate_size\":128,\"num_attention_heads\":4,\"num_key_value_heads\":2,"
        "\"rms_norm_eps\":1e-6,\"vocab_size\":100,\"sliding_window\":32}");

    (void)state;
    assert_true(c.attention_bias_qkv && !c.attention_bias && c.tie_word_embeddings && !c.qk_norm);
    near(c.rope.theta, 1e6);
    assert_int_equal(c.max_position_embeddings, 32768);
    assert_int_equal(c.sliding_window, 0);
    rg_model_config_free(&c);
}

static void qwen3_needs_what_mlx_lm_needs(void **state)
{
    struct rg_model_config c =
        expect_parses("{\"model_type\":\"qwen3\",\"rope_theta\":1000000.0," QWEN3 "}");

    (void)state;
    assert_true(c.qk_norm && !c.tie_word_embeddings);
    assert_int_equal(c.head_dim, 32);
    near(c.attention_scale, 0.17677669529663687);
    rg_model_config_free(&c);
    expect_fails("{\"model_type\":\"qwen3\"," QWEN3 "}", RG_E_BAD_DATA, "'rope_theta' is missing");
    expect_fails("{\"model_type\":\"qwen3\",\"rope_theta\":1e6}", RG_E_BAD_DATA,
                 "'vocab_size' is missing");
}

static void qwen3_moe_knows_its_layers(void **state)
{
    struct rg_model_config c = expect_parses(
        "{\"num_local_experts\":8,\"mlp_only_layers\":[1],\"rope_parameters\":{\"rope_theta\":1e7,"
        "\"rope_type\":\"yarn\",\"factor\":4}," MOE "}");

    (void)state;
    assert_int_equal(c.n_routed_experts, 8);
    assert_int_equal(c.num_experts_per_tok, 2);
    assert_true(c.norm_topk_prob && c.qk_norm);
    assert_true(rg_model_layer_is_moe(&c, 0) && rg_model_layer_is_moe(&c, 3));
    assert_false(rg_model_layer_is_moe(&c, 1));
    near(c.rope.theta, 1e7);
    assert_int_equal(c.rope.kind, RG_ROPE_DEFAULT); /* mlx-lm's qwen3_moe has no scaling */
    near(c.routed_scaling_factor, 1);
    rg_model_config_free(&c);

    expect_fails("{\"rope_theta\":1e6," MOE "}", RG_E_BAD_DATA, "'num_experts' is missing");
    expect_fails("{\"rope_theta\":1e6,\"num_experts\":1," MOE "}", RG_E_BAD_DATA,
                 "'num_experts_per_tok' (2) is above the number of experts (1)");
    expect_fails("{\"rope_theta\":1e6,\"num_experts\":8,\"mlp_only_layers\":[4]," MOE "}",
                 RG_E_BAD_DATA, "'mlp_only_layers' must hold layer numbers below 4");
}

static void deepseek_has_its_defaults(void **state)
{
    struct rg_model_config c = expect_parses("{\"model_type\":\"deepseek_v3\"}");

    (void)state;
    assert_int_equal(c.family, RG_FAMILY_DEEPSEEK_V3);
    assert_int_equal(c.vocab_size, 102400);
    assert_int_equal(c.num_hidden_layers, 30);
    assert_int_equal(c.q_lora_rank, 1536);
    assert_int_equal(c.n_routed_experts, 0);
    assert_int_equal(c.max_position_embeddings, 2048);
    near(c.rms_norm_eps, 1e-6);
    near(c.attention_scale, 1 / sqrt(192.0));
    assert_true(c.rope.interleaved && c.norm_topk_prob && !c.tie_word_embeddings);
    assert_int_equal(c.rope.dims, 64);
    assert_false(rg_model_layer_is_moe(&c, 29));
    rg_model_config_free(&c);

    c = expect_parses(
        "{\"model_type\":\"deepseek_v3\",\"q_lora_rank\":null,\"n_shared_experts\":null}");
    assert_int_equal(c.q_lora_rank, 0);
    rg_model_config_free(&c);
}

#define K2                                                                                         \
    "\"vocab_size\":163840,\"hidden_size\":7168,\"intermediate_size\":18432,"                      \
    "\"moe_intermediate_size\":2048,\"num_hidden_layers\":61,\"num_attention_heads\":64,"          \
    "\"num_key_value_heads\":64,\"n_shared_experts\":1,\"n_routed_experts\":384,"                  \
    "\"routed_scaling_factor\":2.827,\"kv_lora_rank\":512,\"q_lora_rank\":1536,"                   \
    "\"qk_rope_head_dim\":64,\"v_head_dim\":128,\"qk_nope_head_dim\":128,"                         \
    "\"topk_method\":\"noaux_tc\",\"scoring_func\":\"sigmoid\",\"norm_topk_prob\":true,"           \
    "\"n_group\":1,\"topk_group\":1,\"num_experts_per_tok\":8,\"moe_layer_freq\":1,"               \
    "\"first_k_dense_replace\":1,\"max_position_embeddings\":131072,\"rms_norm_eps\":1e-6,"        \
    "\"rope_theta\":50000.0,\"attention_bias\":false,\"tie_word_embeddings\":false"

static void kimi_k2_needs_no_editing(void **state)
{
    static const struct {
        const char *factor;
        double scale; /* 192^-0.5 * (0.1 ln(factor) + 1)^2 */
    } known[] = {{"32.0", 0.13086080}, {"64", 0.14467963}, {"40", 0.13523378}};

    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        char text[2048];

        (void)snprintf(
            text, sizeof text,
            "{\"model_type\":\"kimi_k2\",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":%s,"
            "\"original_max_position_embeddings\":4096,\"beta_fast\":1.0,\"beta_slow\":1.0,"
            "\"mscale\":1.0,\"mscale_all_dim\":1.0}," K2 "}",
            known[i].factor);
        struct rg_model_config c = expect_parses(text);

        assert_int_equal(c.family, RG_FAMILY_DEEPSEEK_V3);
        assert_string_equal(c.model_type, "kimi_k2");
        assert_false(rg_model_layer_is_moe(&c, 0));
        assert_true(rg_model_layer_is_moe(&c, 1) && rg_model_layer_is_moe(&c, 60));
        assert_int_equal(c.rope.kind, RG_ROPE_YARN);
        near(c.rope.beta_fast, 1);
        near(c.rope.mscale_all_dim, 1);
        if (fabs(c.attention_scale - known[i].scale) > 5e-9)
            fail_msg("%.17g, expected %.8f", c.attention_scale, known[i].scale);
        near(c.routed_scaling_factor, 2.827);
        rg_model_config_free(&c);
    }
}

/* The scale against libm's log over many factors. */
static void the_attention_scale_is_as_exact_as_libm(void **state)
{
    (void)state;
    for (double factor = 1.0625; factor < 1e6; factor *= 1.37) {
        char text[512];

        (void)snprintf(text, sizeof text,
                       "{\"model_type\":\"deepseek_v3\",\"rope_scaling\":{\"factor\":%.17g,"
                       "\"mscale_all_dim\":0.707}}",
                       factor);
        struct rg_model_config c = expect_parses(text);
        const double g = 0.1 * 0.707 * log(factor) + 1;
        const double want = g * g / sqrt(192.0);

        assert_true(fabs(c.attention_scale - want) <= 4e-16 * want * 4);
        assert_int_equal(c.rope.kind, RG_ROPE_DEFAULT); /* no type: but the scale changes */
        rg_model_config_free(&c);
    }
}

static void kimi_k25_reads_its_text_config(void **state)
{
    struct rg_model_config c = expect_parses(
        "{\"model_type\":\"kimi_k25\",\"vision_config\":{\"hidden_size\":1},\"eos_token_id\":7,"
        "\"text_config\":{\"model_type\":\"kimi_k2\",\"rms_norm_eps\":1e-5,\"hidden_size\":128},"
        "\"quantization\":{\"group_size\":32,\"bits\":4,"
        "\"language_model.lm_head\":{\"group_size\":64,\"bits\":6}}}");

    (void)state;
    assert_string_equal(c.prefix, "language_model.");
    assert_string_equal(c.model_type, "kimi_k25");
    assert_int_equal(c.hidden_size, 128);
    near(c.rms_norm_eps, 1e-5);
    assert_int_equal(c.eos_token_ids[0], 7);
    assert_int_equal(c.quant.global.group_size, 32);
    assert_int_equal(rg_quant_find(&c.quant, "language_model.lm_head")->bits, 6);
    rg_model_config_free(&c);
    expect_fails("{\"model_type\":\"kimi_k25\"}", RG_E_BAD_DATA, "'text_config' is missing");
    expect_fails("{\"model_type\":\"kimi_k25\",\"text_config\":{\"hidden_size\":0}}", RG_E_BAD_DATA,
                 "'text_config.hidden_size' is 0");
}

static void reads_every_kind_of_rope(void **state)
{
    struct rg_model_config c;

    (void)state;
    c = expect_parses("{" LLAMA ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":4.0}}");
    assert_int_equal(c.rope.kind, RG_ROPE_LINEAR);
    near(c.rope.factor, 4);
    rg_model_config_free(&c);

    c = expect_parses("{" LLAMA ",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,"
                      "\"low_freq_factor\":1.5}}");
    assert_int_equal(c.rope.kind, RG_ROPE_LLAMA3);
    near(c.rope.low_freq_factor, 1.5);
    near(c.rope.high_freq_factor, 4);
    assert_int_equal(c.rope.original_max_position_embeddings, 8192);
    rg_model_config_free(&c);

    c = expect_parses("{" LLAMA ",\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4}}");
    assert_int_equal(c.rope.kind, RG_ROPE_YARN);
    assert_int_equal(c.rope.original_max_position_embeddings, 4096);
    near(c.rope.beta_fast, 32);
    near(c.rope.beta_slow, 1);
    near(c.rope.mscale, 1);
    assert_true(c.rope.mscale_all_dim < 1e-30);
    near(c.attention_scale, 0.25);
    rg_model_config_free(&c);

    c = expect_parses("{" LLAMA ",\"max_position_embeddings\":131072,\"rope_scaling\":{"
                      "\"type\":\"longrope\",\"original_max_position_embeddings\":4096,"
                      "\"short_factor\":[1,1,1,1,1,1,1,1],\"long_factor\":[1,2,3,4,5,6,7,8.5]}}");
    assert_int_equal(c.rope.kind, RG_ROPE_LONGROPE);
    assert_int_equal(c.rope.n_long_factor, 8);
    near(c.rope.long_factor[7], 8.5);
    near(c.rope.factor, 32); /* max / original */
    rg_model_config_free(&c);

    c = expect_parses("{" LLAMA ",\"rope_scaling\":{\"rope_type\":\"proportional\",\"factor\":2,"
                      "\"partial_rotary_factor\":0.5}}");
    assert_int_equal(c.rope.kind, RG_ROPE_PROPORTIONAL);
    near(c.rope.partial_rotary_factor, 0.5);
    near(c.rope.factor, 2);
    rg_model_config_free(&c);

    c = expect_parses("{" LLAMA
                      ",\"rope_scaling\":{\"type\":\"mrope\",\"mrope_section\":[2,3,3]}}");
    assert_int_equal(c.rope.kind, RG_ROPE_DEFAULT);
    rg_model_config_free(&c);

    c = expect_parses("{" LLAMA ",\"rope_theta\":null,\"rope_scaling\":null,\"rope_parameters\":{"
                      "\"rope_theta\":500000.0,\"rope_type\":\"linear\",\"factor\":2}}");
    assert_int_equal(c.rope.kind, RG_ROPE_LINEAR);
    near(c.rope.theta, 5e5);
    rg_model_config_free(&c);
}

static void refuses_ropes_by_name(void **state)
{
    (void)state;
    expect_fails("{" LLAMA ",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2}}",
                 RG_E_UNSUPPORTED,
                 "rope type 'dynamic' is not supported (its result depends on how a prompt is cut");
    expect_fails("{" LLAMA ",\"rope_scaling\":{\"type\":\"su\"}}", RG_E_UNSUPPORTED,
                 "rope type 'su' is not supported; known: default, linear, llama3, yarn");
    expect_fails("{" LLAMA ",\"rope_scaling\":{\"type\":\"linear\"}}", RG_E_BAD_DATA,
                 "'rope_scaling.factor' is missing");
    expect_fails("{" LLAMA ",\"rope_scaling\":{\"type\":\"llama3\",\"factor\":8,"
                 "\"low_freq_factor\":4,\"high_freq_factor\":4}}",
                 RG_E_BAD_DATA,
                 "'rope_scaling.high_freq_factor' (4) must be above 'low_freq_factor' (4)");
    expect_fails("{" LLAMA ",\"rope_scaling\":{\"type\":\"longrope\",\"long_factor\":[1],"
                 "\"original_max_position_embeddings\":4096}}",
                 RG_E_BAD_DATA, "'rope_scaling.long_factor' must be an array of 8 numbers");
    expect_fails("{" LLAMA ",\"rope_parameters\":{\"full_attention\":{\"rope_theta\":1e6}}}",
                 RG_E_UNSUPPORTED, "'rope_parameters.full_attention' is an object");
    expect_fails("{" LLAMA ",\"rope_scaling\":[]}", RG_E_BAD_DATA,
                 "'rope_scaling' is an array, an object expected");
    expect_fails("{" LLAMA ",\"rope_theta\":{\"__float__\":\"Infinity\"}}", RG_E_BAD_DATA,
                 "'rope_theta' is inf, a number from");
    expect_fails("{" LLAMA ",\"rope_theta\":{\"__float__\":\"NaN\"}}", RG_E_BAD_DATA,
                 "'rope_theta' is");
}

static void every_number_has_a_range(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"{" LLAMA ",\"hidden_size\":0}", "appears twice"},
        {"{\"model_type\":\"deepseek_v3\",\"hidden_size\":0}",
         "'hidden_size' is 0, an integer from 1 to 1048576 expected"},
        {"{\"model_type\":\"deepseek_v3\",\"hidden_size\":1048577}", "'hidden_size' is 1048577"},
        {"{\"model_type\":\"deepseek_v3\",\"hidden_size\":1.5}", "'hidden_size' is 1.5"},
        {"{\"model_type\":\"deepseek_v3\",\"hidden_size\":-1}", "'hidden_size' is -1"},
        {"{\"model_type\":\"deepseek_v3\",\"hidden_size\":1e300}", "'hidden_size' is 1e300"},
        {"{\"model_type\":\"deepseek_v3\",\"hidden_size\":\"7168\"}",
         "'hidden_size' is a string, an integer expected"},
        {"{\"model_type\":\"deepseek_v3\",\"num_hidden_layers\":1025}",
         "'num_hidden_layers' is 1025"},
        {"{\"model_type\":\"deepseek_v3\",\"vocab_size\":4194305}", "'vocab_size' is 4194305"},
        {"{\"model_type\":\"deepseek_v3\",\"num_attention_heads\":0}",
         "'num_attention_heads' is 0"},
        {"{\"model_type\":\"deepseek_v3\",\"rms_norm_eps\":0}", "'rms_norm_eps' is 0"},
        {"{\"model_type\":\"deepseek_v3\",\"norm_topk_prob\":1}",
         "'norm_topk_prob' is a number, true or false expected"},
        {"{\"model_type\":\"deepseek_v3\",\"moe_layer_freq\":0}", "'moe_layer_freq' is 0"},
        {"{\"model_type\":\"deepseek_v3\",\"n_routed_experts\":12,\"n_group\":8}",
         "'n_group' (8) does not split 12 experts"},
        {"{\"model_type\":\"deepseek_v3\",\"n_routed_experts\":8,\"n_group\":8}",
         "'n_group' (8) does not split 8 experts"},
        {"{\"model_type\":\"deepseek_v3\",\"n_routed_experts\":8,\"topk_group\":2}",
         "'topk_group' (2) is above 'n_group' (1)"},
        {"{\"model_type\":\"deepseek_v3\",\"qk_rope_head_dim\":63}", "(63) must be even"},
        {"{\"model_type\":\"deepseek_v3\",\"eos_token_id\":-1}",
         "'eos_token_id' must hold token ids"},
        {"{" LLAMA ",\"num_key_value_heads\":3}",
         "(4) is not a multiple of 'num_key_value_heads' (3)"},
        {"{" LLAMA ",\"head_dim\":15}", "a head of 15 dimensions cannot be rotated"},
        {"{" LLAMA ",\"model_type\":7}", "appears twice"},
        {"{\"model_type\":7}", "'model_type' is a number, a string expected"},
        {"{}", "'model_type' is missing"},
        {"[]", "an array, an object expected"},
        {"{\"model_type\":\"llama\"}", "'vocab_size' is missing"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const bool twice = strcmp(cases[i].says, "appears twice") == 0;

        expect_fails(cases[i].text, twice ? RG_E_UNSUPPORTED : RG_E_BAD_DATA, cases[i].says);
    }
    expect_fails("{\"model_type\":\"deepseek_v3\",\"num_attention_heads\":4096,"
                 "\"qk_nope_head_dim\":512}",
                 RG_E_LIMIT, "4096 heads of 704 dimensions");
    expect_fails("{\"model_type\":\"deepseek_v3\",\"n_shared_experts\":1024,"
                 "\"moe_intermediate_size\":2048}",
                 RG_E_LIMIT, "shared experts 2097152 wide");
    expect_fails("{\"model_type\":\"deepseek_v3\",\"eos_token_id\":"
                 "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}",
                 RG_E_LIMIT, "has 17 ids, at most 16");
}

static void an_unknown_architecture_names_the_known_ones(void **state)
{
    (void)state;
    expect_fails("{\"model_type\":\"gpt_oss\"}", RG_E_UNSUPPORTED,
                 "model_type 'gpt_oss' is not supported; known: deepseek_v3, kimi_k2, kimi_k25, "
                 "qwen3_moe, qwen3, qwen2, llama, mistral");
    expect_fails("{\"model_type\":\"deepseek_v3\",\"topk_method\":\"greedy\"}", RG_E_UNSUPPORTED,
                 "'topk_method' is 'greedy', only 'noaux_tc' is supported");
    expect_fails("{\"model_type\":\"deepseek_v3\",\"scoring_func\":\"softmax\"}", RG_E_UNSUPPORTED,
                 "'scoring_func' is 'softmax', only 'sigmoid' is supported");
    expect_fails("{\"model_type\":\"a\\u001bb\"}", RG_E_BAD_DATA,
                 "'model_type' has a control character");
}

static void every_failed_allocation_is_reported(void **state)
{
    static const char text[] =
        "{" LLAMA ",\"layer_types\":[\"full_attention\",\"full_attention\",\"full_attention\","
        "\"full_attention\"],\"rope_scaling\":{\"type\":\"longrope\",\"original_max_position_"
        "embeddings"
        "\":64,\"long_factor\":[1,1,1,1,1,1,1,1]},\"quantization\":{\"bits\":4,\"group_size\":64,"
        "\"a\":true,\"b\":{\"bits\":4}}}";
    enum rg_code code = RG_E_NOMEM;

    (void)state;
    for (int64_t n = 1; code != RG_OK; n++) {
        struct rg_model_config c;

        assert_true(n < 1000);
        rg_mem_fail_at(n);
        code = rg_model_config_parse(&c, text, sizeof text - 1, "config.json", NULL);
        rg_mem_fail_at(0);
        assert_true(code == RG_OK || code == RG_E_NOMEM);
        if (code == RG_OK)
            rg_model_config_free(&c);
        assert_int_equal(rg_mem_live(), baseline);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(llama_has_mlx_lms_defaults),
        TEST(llama_reads_what_it_says),
        TEST(mistral_slides_only_where_layer_types_says_so),
        TEST(qwen2_has_biases_on_q_k_v_only),
        TEST(qwen3_needs_what_mlx_lm_needs),
        TEST(qwen3_moe_knows_its_layers),
        TEST(deepseek_has_its_defaults),
        TEST(kimi_k2_needs_no_editing),
        TEST(the_attention_scale_is_as_exact_as_libm),
        TEST(kimi_k25_reads_its_text_config),
        TEST(reads_every_kind_of_rope),
        TEST(refuses_ropes_by_name),
        TEST(every_number_has_a_range),
        TEST(an_unknown_architecture_names_the_known_ones),
        TEST(every_failed_allocation_is_reported),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
