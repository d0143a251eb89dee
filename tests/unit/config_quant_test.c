/* config_quant_test.c - "quantization" and "quantization_config": MLX's own, and other programs'.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "checkpoint/model_config.h"
#include "support/live_memory.h"

#define LLAMA                                                                                      \
    "\"model_type\":\"llama\",\"hidden_size\":64,\"num_hidden_layers\":4,\"intermediate_size\":"   \
    "128,"                                                                                         \
    "\"num_attention_heads\":4,\"rms_norm_eps\":1e-5,\"vocab_size\":100"

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

static void quantization_entries_do_not_inherit(void **state)
{
    struct rg_model_config c = expect_parses(
        "{" LLAMA ",\"quantization\":{\"group_size\":32,\"bits\":8,\"mode\":\"affine\",\"z\":true,"
        "\"lm_head\":{\"bits\":6},\"a\":false,\"m\":{\"mode\":\"mxfp4\"},\"n\":{\"mode\":\"nvfp4\","
        "\"global_scale\":true},"
        "\"quant_method\":\"x\",\"e\":{}}}");
    const struct rg_quant_entry *e;

    (void)state;
    assert_int_equal(c.quant.method, RG_QUANT_MLX);
    assert_int_equal(c.quant.global.bits, 8);
    assert_int_equal(c.quant.global.group_size, 32);
    assert_int_equal(c.quant.n_entries, 6);
    e = rg_quant_find(&c.quant, "lm_head");
    assert_int_equal(e->bits, 6);
    assert_int_equal(e->group_size, 64);
    assert_string_equal(e->mode, "affine");
    assert_true(rg_quant_find(&c.quant, "a")->disabled);
    assert_true(rg_quant_find(&c.quant, "z")->globals);
    assert_int_equal(rg_quant_find(&c.quant, "m")->group_size, 32);
    assert_int_equal(rg_quant_find(&c.quant, "n")->group_size, 16);
    assert_true(rg_quant_find(&c.quant, "n")->global_scale);
    assert_false(rg_quant_find(&c.quant, "m")->global_scale);
    assert_int_equal(rg_quant_find(&c.quant, "e")->bits, 4);
    assert_null(rg_quant_find(&c.quant, "quant_method"));
    rg_model_config_free(&c);

    c = expect_parses("{" LLAMA ",\"quantization_config\":{\"group_size\":128,\"bits\":3}}");
    assert_int_equal(c.quant.global.bits, 3);
    rg_model_config_free(&c);
}

#define PACKED                                                                                     \
    "\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"format\":"                 \
    "\"pack-quantized\""
#define WEIGHTS(changes)                                                                           \
    ",\"config_groups\":{\"group_0\":{\"targets\":[\"Linear\"],\"weights\":{\"num_bits\":4,"       \
    "\"type\":\"int\",\"strategy\":\"group\",\"group_size\":32" changes "}}}"

static void reads_int4_of_compressed_tensors(void **state)
{
    static const char text[] =
        "{\"model_type\":\"kimi_k25\",\"text_config\":{" PACKED
        ",\"config_groups\":{\"group_0\":{\"input_activations\":null,\"output_activations\":null,"
        "\"targets\":[\"Linear\"],\"weights\":{\"actorder\":null,\"block_structure\":null,"
        "\"dynamic\":false,\"group_size\":32,\"num_bits\":4,\"observer\":\"minmax\","
        "\"observer_kwargs\":{},\"strategy\":\"group\",\"symmetric\":true,\"type\":\"int\"}}},"
        "\"ignore\":[\"lm_head\",\"re:.*self_attn.*\",\"re:.*shared_experts.*\","
        "\"re:.*mlp\\\\.(gate|up|gate_up|down)_proj.*\",\"re:^model\\\\.norm$\",\"re:.*[0-9]x\"],"
        "\"kv_cache_scheme\":null,\"quantization_status\":\"compressed\"}}}";
    static const struct {
        const char *path;
        bool ignored;
    } cases[] = {{"lm_head", true},
                 {"lm_head2", false},
                 {"language_model.lm_head", false},
                 {"model.layers.3.self_attn.o_proj", true},
                 {"model.layers.3.mlp.shared_experts.up_proj", true},
                 {"model.layers.0.mlp.gate_up_proj", true},
                 {"model.layers.0.mlp.down_proj", true},
                 {"model.layers.0.mlpxdown_proj", false},
                 {"model.layers.0.mlp.side_proj", false},
                 {"model.layers.1.mlp.experts.7.gate_proj", false},
                 {"model.norm", true},
                 {"model.norm2", false},
                 {"model.5x", false}};
    struct rg_model_config c = expect_parses(text);

    (void)state;
    assert_int_equal(c.quant.method, RG_QUANT_COMPRESSED);
    assert_true(rg_quant_has_group(&c.quant, "int4", 32));
    assert_false(rg_quant_has_group(&c.quant, "int4", 64));
    assert_false(rg_quant_has_group(&c.quant, "mxfp4", 32));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (rg_quant_ignores(&c.quant, cases[i].path) != cases[i].ignored)
            fail_msg("%s", cases[i].path);
    }
    rg_model_config_free(&c);
    c = expect_parses("{" LLAMA "," PACKED WEIGHTS(",\"actorder\":\"static\"") "}}");
    assert_true(rg_quant_has_group(&c.quant, "int4", 32));
    rg_model_config_free(&c);
    c = expect_parses("{" LLAMA ",\"quantization_config\":{\"quant_method\":\"compressed-tensors\","
                      "\"format\":\"mxfp4-pack-quantized\",\"config_groups\":{\"a\":{\"weights\":{"
                      "\"num_bits\":4,\"type\":\"float\",\"group_size\":32}}}}}");
    assert_true(rg_quant_has_group(&c.quant, "mxfp4", 32));
    rg_model_config_free(&c);
}

static void reads_fp8_in_blocks(void **state)
{
    struct rg_model_config c =
        expect_parses("{" LLAMA ",\"quantization_config\":{\"activation_scheme\":\"dynamic\","
                      "\"fmt\":\"e4m3\",\"quant_method\":\"fp8\",\"weight_block_size\":[128,128],"
                      "\"modules_to_not_convert\":[\"model.layers.0.mlp.gate\",\"lm_head\"]}}");

    (void)state;
    assert_int_equal(c.quant.method, RG_QUANT_FP8);
    assert_true(rg_quant_ignores(&c.quant, "lm_head"));
    assert_true(rg_quant_ignores(&c.quant, "model.layers.0.mlp.gate"));
    assert_false(rg_quant_ignores(&c.quant, "model.layers.0.mlp.gate_proj"));
    rg_model_config_free(&c);
}

static void refuses_what_would_change_the_numbers(void **state)
{
    static const struct {
        const char *config, *says;
    } cases[] = {
        {PACKED WEIGHTS(",\"symmetric\":false"), "with asymmetric weights"},
        {PACKED WEIGHTS(",\"actorder\":\"group\""), "columns in activation order"},
        {PACKED WEIGHTS(",\"actorder\":true"), "columns in activation order"},
        {PACKED WEIGHTS("") ",\"kv_cache_scheme\":{\"num_bits\":8}", "a quantised cache"},
        {PACKED WEIGHTS("") ",\"transform_config\":{\"config_groups\":{\"r\":{}}}",
         "rotated weights"},
        {PACKED WEIGHTS("") ",\"sparsity_config\":{\"format\":\"sparse-24-bitmask\"}",
         "sparse weights"},
        {PACKED ",\"config_groups\":{\"a\":{\"weights\":{\"num_bits\":8,\"type\":\"int\","
                "\"strategy\":\"group\",\"group_size\":32}}}",
         "8-bit int weights"},
        {PACKED ",\"config_groups\":{\"a\":{\"weights\":{\"num_bits\":4,\"type\":\"int\","
                "\"strategy\":\"channel\"}}}",
         "a strategy other than 'group'"},
        {PACKED ",\"config_groups\":{\"a\":{\"weights\":{\"num_bits\":4,\"type\":\"int\","
                "\"strategy\":\"group\",\"group_size\":48}}}",
         "groups of 48 (32, 64, 128 are)"},
        {PACKED ",\"config_groups\":{\"a\":{\"weights\":{\"num_bits\":4,\"type\":\"int\","
                "\"strategy\":\"group\",\"group_size\":32},\"input_activations\":{\"dynamic\":"
                "false}}}",
         "quantised inputs of stored scales"},
        {"\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"format\":"
         "\"float-quantized\",\"config_groups\":{\"a\":{\"weights\":{\"num_bits\":8,"
         "\"type\":\"float\",\"strategy\":\"channel\"}}}",
         "'float-quantized' other than FP8 in blocks"},
        {"\"quantization_config\":{\"quant_method\":\"fp8\"", "one scale per tensor or row"},
        {"\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":[32,32]",
         "a weight_block_size other than [128, 128]"},
        {"\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":[128,128],"
         "\"fmt\":\"e5m2\"",
         "a fmt other than 'e4m3'"},
        {"\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":[128,128],"
         "\"activation_scheme\":\"static\"",
         "an activation_scheme other than 'dynamic'"},
    };
    static const char *const formats[] = {"nvfp4-pack-quantized", "mixed-precision",
                                          "naive-quantized", "int-quantized", "marlin-24"};
    char text[768], says[96];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        (void)snprintf(text, sizeof text, "{" LLAMA ",%s}}", cases[i].config);
        expect_fails(text, RG_E_UNSUPPORTED, cases[i].says);
    }
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        (void)snprintf(text, sizeof text,
                       "{" LLAMA ",\"quantization_config\":{\"quant_method\":"
                       "\"compressed-tensors\",\"format\":\"%s\"}}",
                       formats[i]);
        (void)snprintf(says, sizeof says, "'compressed-tensors' with format '%s'", formats[i]);
        expect_fails(text, RG_E_UNSUPPORTED, says);
    }
    expect_fails("{" LLAMA "," PACKED "}}", RG_E_BAD_DATA, "config_groups' is missing");
}

static void refuses_quantisation_by_name(void **state)
{
    static const char *const methods[] = {"awq",      "gptq",   "mxfp4",        "bitnet",
                                          "modelopt", "quanto", "bitsandbytes", "aqlm"};

    (void)state;
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        char text[512], says[64];

        (void)snprintf(text, sizeof text,
                       "{" LLAMA ",\"quantization_config\":{\"quant_method\":\"%s\",\"bits\":4}}",
                       methods[i]);
        (void)snprintf(says, sizeof says, "quant_method '%s'", methods[i]);
        expect_fails(text, RG_E_UNSUPPORTED, says);
        expect_fails(text, RG_E_UNSUPPORTED, "convert the original model with mlx_lm.convert");
    }
    expect_fails("{" LLAMA ",\"quantization\":{\"bits\":7,\"group_size\":64}}", RG_E_BAD_DATA,
                 "'quantization.bits' is 7; affine has 2 3 4 5 6 8");
    expect_fails("{" LLAMA ",\"quantization\":{\"bits\":4,\"group_size\":48}}", RG_E_BAD_DATA,
                 "'quantization.group_size' is 48; affine has 32 64 128");
    expect_fails("{" LLAMA ",\"quantization\":{\"bits\":4,\"group_size\":64,"
                 "\"lm_head\":{\"bits\":9}}}",
                 RG_E_BAD_DATA, "'quantization.lm_head.bits' is 9");
    expect_fails("{" LLAMA ",\"quantization\":{\"bits\":4,\"group_size\":64,\"mode\":\"int4\"}}",
                 RG_E_UNSUPPORTED, "'quantization.mode' is 'int4'; known: affine");
    expect_fails("{" LLAMA ",\"quantization\":{\"mode\":\"mxfp4\",\"bits\":4,\"group_size\":64}}",
                 RG_E_BAD_DATA, "4-bit group 64; mxfp4 is 4-bit group 32");
    expect_fails("{" LLAMA ",\"quantization\":{\"bits\":4,\"group_size\":64,"
                 "\"quantize_activations\":true}}",
                 RG_E_UNSUPPORTED, "quantize_activations");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(quantization_entries_do_not_inherit),   TEST(refuses_quantisation_by_name),
        TEST(reads_int4_of_compressed_tensors),      TEST(reads_fp8_in_blocks),
        TEST(refuses_what_would_change_the_numbers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
