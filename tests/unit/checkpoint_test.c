/* checkpoint_test.c - whole checkpoints: modules, exact formats, conflicts, sums, the registry.
 *
 * The key lists here are written from mlx-lm's models, not from src/checkpoint. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "support/checkpoint_asserts.h"
#include "support/live_memory.h"

/* ---- tiny models -------------------------------------------------------------------------- */

#define LLAMA_KEYS                                                                                 \
    "\"model_type\":\"llama\",\"hidden_size\":128,\"num_hidden_layers\":2,\"intermediate_size\":"  \
    "256,"                                                                                         \
    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"rms_norm_eps\":1e-5,\"vocab_size\":160"

/* hidden 128, 2 layers, tied; all modules at bits and group. */
static void add_llama(struct cw *w, unsigned bits, unsigned group)
{
    cw_module(w, "model.embed_tokens", 0, 160, 128, bits, group);
    cw_vector(w, "model.norm.weight", "BF16", 128);
    for (unsigned i = 0; i < 2; i++) {
        norm(w, i, "input_layernorm", 128);
        add(w, i, "self_attn.q_proj", 128, 128, bits, group);
        add(w, i, "self_attn.k_proj", 64, 128, bits, group);
        add(w, i, "self_attn.v_proj", 64, 128, bits, group);
        add(w, i, "self_attn.o_proj", 128, 128, bits, group);
        norm(w, i, "post_attention_layernorm", 128);
        add(w, i, "mlp.gate_proj", 256, 128, bits, group);
        add(w, i, "mlp.up_proj", 256, 128, bits, group);
        add(w, i, "mlp.down_proj", 128, 256, bits, group);
    }
}

static void begin_llama(struct cw *w, unsigned bits, unsigned group)
{
    char quantization[64];

    cw_begin(w);
    add_llama(w, bits, group);
    (void)snprintf(quantization, sizeof quantization, "\"group_size\":%u,\"bits\":%u", group, bits);
    config(w, LLAMA_KEYS, bits ? quantization : NULL);
}

/* ---- formats ------------------------------------------------------------------------------ */

static void every_affine_format_is_found_exactly(void **state)
{
    static const unsigned bits[] = {2, 3, 4, 5, 6, 8}, groups[] = {32, 64, 128};

    (void)state;
    for (size_t b = 0; b < 6; b++) {
        for (size_t g = 0; g < 3; g++) {
            struct cw w;

            begin_llama(&w, bits[b], groups[g]);
            struct rg_checkpoint *c = open_it(&w);

            for (uint32_t i = 0; i < c->n_modules; i++) {
                if (c->modules[i].vector)
                    expect_format(&c->modules[i].weight, RG_WEIGHT_FLOAT, 0, 0);
                else
                    expect_format(&c->modules[i].weight, RG_WEIGHT_AFFINE, bits[b], groups[g]);
            }
            rg_checkpoint_close(c);
            cw_end(&w);
        }
    }
}

/* 24 words and 4 groups fit 3-bit group 64 of 256 inputs and 6-bit group 32 of 128: only the
 * architecture tells them apart. */
static void three_bit_group_64_is_not_six_bit_group_32(void **state)
{
    struct cw w;

    (void)state;
    begin_llama(&w, 4, 64);
    cw_drop(&w, "model.layers.0.mlp.down_proj.weight");
    cw_drop(&w, "model.layers.0.mlp.down_proj.scales");
    cw_drop(&w, "model.layers.0.mlp.down_proj.biases");
    add(&w, 0, "mlp.down_proj", 128, 256, 3, 64);
    cw_drop(&w, "model.layers.0.self_attn.o_proj.weight");
    cw_drop(&w, "model.layers.0.self_attn.o_proj.scales");
    cw_drop(&w, "model.layers.0.self_attn.o_proj.biases");
    add(&w, 0, "self_attn.o_proj", 128, 128, 6, 32);
    config(&w, LLAMA_KEYS,
           "\"group_size\":64,\"bits\":4,"
           "\"model.layers.0.mlp.down_proj\":{\"group_size\":64,\"bits\":3},"
           "\"model.layers.0.self_attn.o_proj\":{\"group_size\":32,\"bits\":6}");
    const struct cw_tensor *down = cw_find(&w, "model.layers.0.mlp.down_proj.weight");
    const struct cw_tensor *o = cw_find(&w, "model.layers.0.self_attn.o_proj.weight");

    assert_memory_equal(down->shape, o->shape, sizeof o->shape); /* the same tensors exactly */
    struct rg_checkpoint *c = open_it(&w);

    expect_format(weight(c, 0, "mlp.down_proj"), RG_WEIGHT_AFFINE, 3, 64);
    expect_format(weight(c, 0, "self_attn.o_proj"), RG_WEIGHT_AFFINE, 6, 32);
    rg_checkpoint_close(c);
    cw_end(&w);
}

/* The mix that the embedding 3-bit, attention 4-bit, lm_head 6-bit checkpoints have. */
static void a_mix_of_widths_loads_untouched(void **state)
{
    struct cw w;

    (void)state;
    cw_begin(&w);
    add_llama(&w, 4, 64);
    for (int i = 0; i < 3; i++)
        cw_drop(&w, i == 0   ? "model.embed_tokens.weight"
                    : i == 1 ? "model.embed_tokens.scales"
                             : "model.embed_tokens.biases");
    cw_affine(&w, "model.embed_tokens", 0, 160, 128, 3, 64);
    cw_affine(&w, "lm_head", 0, 160, 128, 6, 64);
    cw_entry(&w, "model.embed_tokens", 3, 64);
    cw_entry(&w, "lm_head", 6, 64);
    char quantization[512];

    (void)snprintf(quantization, sizeof quantization, "\"group_size\":64,\"bits\":4%s",
                   cw_entries(&w));
    config(&w, LLAMA_KEYS ",\"tie_word_embeddings\":false", quantization);
    struct rg_checkpoint *c = open_it(&w);

    expect_format(weight(c, RG_LAYER_NONE, "model.embed_tokens"), RG_WEIGHT_AFFINE, 3, 64);
    expect_format(weight(c, 1, "self_attn.q_proj"), RG_WEIGHT_AFFINE, 4, 64);
    expect_format(weight(c, RG_LAYER_HEAD, "lm_head"), RG_WEIGHT_AFFINE, 6, 64);
    assert_int_equal(c->head_bytes, 256 + 160 * (128 * 6 / 8 + 2 * 2 * 2));
    assert_int_equal(c->embedding_bytes, 160 * (128 * 3 / 8 + 2 * 2 * 2));
    assert_int_equal(c->layer_bytes[0], c->layer_bytes[1]);
    assert_int_equal(c->total_bytes, c->embedding_bytes + c->head_bytes + 2 * c->layer_bytes[0]);
    assert_int_equal(c->parameters,
                     2 * 160 * 128 + 128 + 2 * (2 * 128 + 128 * 128 * 3 + 3 * 128 * 256));
    rg_checkpoint_close(c);
    cw_end(&w);
}

static void float_modules_stay_float(void **state)
{
    struct cw w;

    (void)state;
    begin_llama(&w, 0, 0); /* no quantization at all: bf16 */
    struct rg_checkpoint *c = open_it(&w);

    expect_format(weight(c, 0, "mlp.up_proj"), RG_WEIGHT_FLOAT, 0, 0);
    assert_int_equal(weight(c, 0, "mlp.up_proj")->dtype, RG_DTYPE_BF16);
    assert_null(weight(c, 0, "mlp.up_proj")->scales);
    assert_int_equal(c->total_bytes, 2 * c->parameters);
    rg_checkpoint_close(c);
    cw_end(&w);

    begin_llama(&w, 4, 64); /* one float module in a quantised checkpoint, listed as false or not */
    cw_drop(&w, "model.layers.1.mlp.up_proj.weight");
    cw_drop(&w, "model.layers.1.mlp.up_proj.scales");
    cw_drop(&w, "model.layers.1.mlp.up_proj.biases");
    cw_add(&w, "model.layers.1.mlp.up_proj.weight", "F32", 0, 256, 128);
    for (int listed = 0; listed < 2; listed++) {
        config(&w, LLAMA_KEYS,
               listed ? "\"group_size\":64,\"bits\":4,\"model.layers.1.mlp.up_proj\":false"
                      : "\"group_size\":64,\"bits\":4");
        c = open_it(&w);
        expect_format(weight(c, 1, "mlp.up_proj"), RG_WEIGHT_FLOAT, 0, 0);
        assert_int_equal(weight(c, 1, "mlp.up_proj")->dtype, RG_DTYPE_F32);
        rg_checkpoint_close(c);
    }
    config(&w, LLAMA_KEYS, "\"group_size\":64,\"bits\":4,\"model.layers.1.mlp.up_proj\":true");
    expect_fails(&w, RG_E_BAD_DATA,
                 "quantization lists 'model.layers.1.mlp.up_proj', but there is no "
                 "'model.layers.1.mlp.up_proj.scales'");
    cw_end(&w);
}

static void data_pointers_are_the_files_bytes(void **state)
{
    static uint8_t codes[64 * 16 * 4], scales[64 * 2 * 2], biases[64 * 2 * 2];
    struct cw w;

    (void)state;
    for (size_t i = 0; i < sizeof codes; i++)
        codes[i] = (uint8_t)(i * 7);
    memset(scales, 0x11, sizeof scales);
    memset(biases, 0x22, sizeof biases);
    begin_llama(&w, 4, 64);
    cw_find(&w, "model.layers.1.self_attn.k_proj.weight")->data = codes;
    cw_find(&w, "model.layers.1.self_attn.k_proj.scales")->data = scales;
    cw_find(&w, "model.layers.1.self_attn.k_proj.biases")->data = biases;
    struct rg_checkpoint *c = open_it(&w);
    const struct rg_weight_desc *d = weight(c, 1, "self_attn.k_proj");

    assert_memory_equal(d->data, codes, sizeof codes);
    assert_memory_equal(d->scales, scales, sizeof scales);
    assert_memory_equal(d->biases, biases, sizeof biases);
    assert_int_equal(d->bytes, sizeof codes + sizeof scales + sizeof biases);
    assert_int_equal(d->lead, 1);
    assert_int_equal(d->rows, 64);
    assert_int_equal(d->cols, 128);
    assert_int_equal(d->dtype, RG_DTYPE_BF16);
    assert_null(d->data_of);
    assert_string_equal(d->name, "model.layers.1.self_attn.k_proj");
    rg_checkpoint_close(c);
    cw_end(&w);
}

/* ---- conflicts ---------------------------------------------------------------------------- */

static void a_conflict_says_what_was_found_and_what_would_be_right(void **state)
{
    static const struct {
        const char *quantization, *says;
    } cases[] = {
        {"\"group_size\":64,\"bits\":8,\"model.embed_tokens\":true",
         "quantization says 8-bit group 64 affine for 'model.embed_tokens' (the global values), "
         "its "
         "tensors are 4-bit group 64 affine (16 words and 2 groups for 128 inputs); right would be "
         "\"model.embed_tokens\": {\"group_size\": 64, \"bits\": 4}"},
        {"\"group_size\":32,\"bits\":4,\"model.embed_tokens\":true",
         "says 4-bit group 32 affine for 'model.embed_tokens'"},
        {"\"group_size\":64,\"bits\":4,\"model.layers.1.mlp.down_proj\":{\"bits\":6}",
         "quantization says 6-bit group 64 affine for 'model.layers.1.mlp.down_proj' (its own "
         "entry), "
         "its tensors are 4-bit group 64 affine (32 words and 4 groups for 256 inputs)"},
        {"\"group_size\":64,\"bits\":4,\"model.layers.0.self_attn.q_proj\":false",
         "quantization says false for 'model.layers.0.self_attn.q_proj', but it is quantised: "
         "4-bit "
         "group 64 affine; right would be {\"group_size\": 64, \"bits\": 4}"},
        {"\"group_size\":64,\"bits\":4,\"model.embed_tokens\":{\"mode\":\"mxfp4\"}",
         "says 4-bit group 32 mxfp4 for 'model.embed_tokens'"},
        {"\"group_size\":64,\"bits\":4,\"lm_head\":false,"
         "\"model.layers.1.mlp.up_proj\":{\"bits\":4,\"group_size\":32}",
         "says 4-bit group 32 affine for 'model.layers.1.mlp.up_proj' (its own entry)"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct cw w;

        begin_llama(&w, 4, 64);
        config(&w, LLAMA_KEYS, cases[i].quantization);
        expect_fails(&w, RG_E_BAD_DATA, cases[i].says);
        cw_end(&w);
    }
}

/* What is done to one tensor of a good 4-bit checkpoint, and what is said about it. */
static void broken_modules_are_named(void **state)
{
    static const struct {
        const char *drop, *change, *dtype;
        uint64_t rows, cols;
        const char *says;
    } cases[] = {
        {"model.layers.0.mlp.up_proj.weight", NULL, NULL, 0, 0,
         "tensor 'model.layers.0.mlp.up_proj.weight' is missing; a llama has it"},
        {"model.layers.1.input_layernorm.weight", NULL, NULL, 0, 0,
         "tensor 'model.layers.1.input_layernorm.weight' is missing"},
        {"model.layers.0.mlp.up_proj.scales", NULL, NULL, 0, 0,
         "'model.layers.0.mlp.up_proj' looks quantised (weight U32, with .biases), but there is "
         "no"},
        {"model.layers.0.mlp.up_proj.biases", NULL, NULL, 0, 0,
         "'model.layers.0.mlp.up_proj.biases' is missing (scales are BF16"},
        {NULL, "model.layers.0.mlp.up_proj.weight", "BF16", 256, 128,
         "'model.layers.0.mlp.up_proj' has .scales, so its weight must be U32, it is BF16"},
        {NULL, "model.layers.0.mlp.up_proj.biases", "F16", 256, 2,
         "'model.layers.0.mlp.up_proj' has BF16 scales and F16 biases"},
        {NULL, "model.layers.0.mlp.up_proj.biases", "BF16", 256, 4,
         "has scales [256, 2] and biases [256, 4]; they must be equal"},
        {NULL, "model.layers.0.mlp.up_proj.weight", "U32", 255, 16,
         "'model.layers.0.mlp.up_proj.weight' is [255, 16], [256, words] expected from "
         "config.json"},
        {NULL, "model.layers.0.mlp.up_proj.scales", "BF16", 255, 2,
         "'model.layers.0.mlp.up_proj.scales' is [255, 2], [256, groups] expected"},
        {NULL, "model.layers.0.mlp.up_proj.weight", "U32", 256, 28,
         "28 words and 2 groups per row do not fit 128 inputs"}, /* 7-bit */
        {NULL, "model.layers.0.mlp.up_proj.weight", "U32", 256, 17,
         "17 words and 2 groups per row do not fit 128 inputs"},
        {NULL, "model.layers.0.input_layernorm.weight", "BF16", 0, 64,
         "'model.layers.0.input_layernorm.weight' is [64], [128] expected from config.json"},
        {NULL, "model.layers.0.input_layernorm.weight", "U8", 0, 128,
         "'model.layers.0.input_layernorm.weight' is U8; BF16, F16, F32"},
        {NULL, "model.embed_tokens.weight", "U32", 161, 16,
         "'model.embed_tokens.weight' is [161, 16], [160, words] expected"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct cw w;

        begin_llama(&w, 4, 64);
        if (cases[i].drop)
            cw_drop(&w, cases[i].drop);
        if (cases[i].change) {
            cw_drop(&w, cases[i].change);
            cw_add(&w, cases[i].change, cases[i].dtype, 0, cases[i].rows, cases[i].cols);
        }
        expect_fails(&w, strstr(cases[i].says, "is U8") ? RG_E_UNSUPPORTED : RG_E_BAD_DATA,
                     cases[i].says);
        cw_end(&w);
    }
}

static void groups_that_mlx_has_not_are_refused(void **state)
{
    struct cw w;

    (void)state;
    begin_llama(&w, 4, 64);
    cw_drop(&w, "model.layers.0.mlp.up_proj.scales");
    cw_drop(&w, "model.layers.0.mlp.up_proj.biases");
    cw_add(&w, "model.layers.0.mlp.up_proj.scales", "BF16", 0, 256, 8);
    cw_add(&w, "model.layers.0.mlp.up_proj.biases", "BF16", 0, 256, 8);
    expect_fails(&w, RG_E_BAD_DATA, "16 words and 8 groups per row do not fit 128 inputs");
    cw_end(&w);
}

static void leftover_tensors_are_counted_and_named(void **state)
{
    struct cw w;

    (void)state;
    begin_llama(&w, 4, 64);
    cw_vector(&w, "model.layers.0.self_attn.q_norm.weight", "BF16", 32);
    expect_fails(&w, RG_E_BAD_DATA,
                 "model.safetensors: 1 tensor that a llama of this config.json does "
                 "not have: 'model.layers.0.self_attn.q_norm.weight'");
    cw_vector(&w, "model.layers.2.input_layernorm.weight", "BF16", 128);
    cw_vector(&w, "x", "F32", 1);
    cw_vector(&w, "y", "F32", 1);
    expect_fails(&w, RG_E_BAD_DATA,
                 "4 tensors that a llama of this config.json does not have: "
                 "'model.layers.0.self_attn.q_norm.weight', "
                 "'model.layers.2.input_layernorm.weight', 'x', ...");
    cw_end(&w);
}

static void biases_are_there_exactly_when_the_config_says_so(void **state)
{
    struct cw w;

    (void)state;
    begin_llama(&w, 4, 64);
    config(&w, LLAMA_KEYS ",\"attention_bias\":true,\"mlp_bias\":true",
           "\"group_size\":64,\"bits\":4");
    expect_fails(&w, RG_E_BAD_DATA, "tensor 'model.layers.0.self_attn.q_proj.bias' is missing");
    for (unsigned i = 0; i < 2; i++) {
        cw_vector(&w, layer_path(i, "self_attn.q_proj.bias"), "BF16", 128);
        cw_vector(&w, layer_path(i, "self_attn.k_proj.bias"), "BF16", 64);
        cw_vector(&w, layer_path(i, "self_attn.v_proj.bias"), "BF16", 64);
        cw_vector(&w, layer_path(i, "self_attn.o_proj.bias"), "BF16", 128);
        cw_vector(&w, layer_path(i, "mlp.gate_proj.bias"), "BF16", 256);
        cw_vector(&w, layer_path(i, "mlp.up_proj.bias"), "BF16", 256);
        cw_vector(&w, layer_path(i, "mlp.down_proj.bias"), "BF16", 128);
    }
    struct rg_checkpoint *c = open_it(&w);

    assert_true(rg_checkpoint_module(c, 1, "self_attn.o_proj.bias")->vector);
    assert_int_equal(weight(c, 1, "self_attn.k_proj.bias")->cols, 64);
    rg_checkpoint_close(c);
    config(&w, LLAMA_KEYS, "\"group_size\":64,\"bits\":4");
    expect_fails(&w, RG_E_BAD_DATA, "14 tensors that a llama");
    cw_end(&w);
}

static void keys_of_no_use_are_dropped(void **state)
{
    struct cw w;

    (void)state;
    begin_llama(&w, 4, 64);
    cw_vector(&w, "model.layers.0.self_attn.rotary_emb.inv_freq", "F32", 16);
    cw_affine(&w, "lm_head", 0, 160, 128, 4, 64); /* tied: not looked at */
    config(&w, LLAMA_KEYS ",\"tie_word_embeddings\":true", "\"group_size\":64,\"bits\":4");
    struct rg_checkpoint *c = open_it(&w);

    assert_null(rg_checkpoint_module(c, RG_LAYER_HEAD, "lm_head"));
    assert_int_equal(c->head_bytes, 256);
    rg_checkpoint_close(c);
    cw_end(&w);
}

/* transformers' default is untied, mlx-lm's is tied; the files know. */
static void an_lm_head_that_nobody_mentions_is_used(void **state)
{
    struct cw w;

    (void)state;
    begin_llama(&w, 4, 64);
    struct rg_checkpoint *c = open_it(&w);

    assert_true(c->config.tie_word_embeddings);
    rg_checkpoint_close(c);
    cw_affine(&w, "lm_head", 0, 160, 128, 6, 64);
    c = open_it(&w);
    assert_false(c->config.tie_word_embeddings);
    expect_format(weight(c, RG_LAYER_HEAD, "lm_head"), RG_WEIGHT_AFFINE, 6, 64);
    rg_checkpoint_close(c);
    cw_end(&w);
}

static void block_formats_are_found_exactly(void **state)
{
    static const struct {
        const char *mode;
        enum rg_weight_kind kind;
        unsigned bits, group;
    } formats[] = {{"mxfp4", RG_WEIGHT_MXFP4, 4, 32},
                   {"nvfp4", RG_WEIGHT_NVFP4, 4, 16},
                   {"mxfp8", RG_WEIGHT_MXFP8, 8, 32}};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct cw w;
        char quantization[128];

        begin_llama(&w, 4, 64);
        cw_drop(&w, "model.layers.0.mlp.up_proj.weight");
        cw_drop(&w, "model.layers.0.mlp.up_proj.scales");
        cw_drop(&w, "model.layers.0.mlp.up_proj.biases");
        cw_add(&w, "model.layers.0.mlp.up_proj.weight", "U32", 0, 256, 128 * formats[i].bits / 32);
        cw_add(&w, "model.layers.0.mlp.up_proj.scales", "U8", 0, 256, 128 / formats[i].group);
        (void)snprintf(quantization, sizeof quantization,
                       "\"group_size\":64,\"bits\":4,"
                       "\"model.layers.0.mlp.up_proj\":{\"mode\":\"%s\"}",
                       formats[i].mode);
        config(&w, LLAMA_KEYS, quantization);
        struct rg_checkpoint *c = open_it(&w);

        expect_format(weight(c, 0, "mlp.up_proj"), formats[i].kind, formats[i].bits,
                      formats[i].group);
        assert_null(weight(c, 0, "mlp.up_proj")->biases);
        assert_non_null(weight(c, 0, "mlp.up_proj")->scales);
        rg_checkpoint_close(c);
        config(&w, LLAMA_KEYS, "\"group_size\":64,\"bits\":4,\"model.layers.0.mlp.up_proj\":true");
        expect_fails(&w, RG_E_BAD_DATA, formats[i].mode);
        cw_end(&w);
    }
}

/* As mlx-lm does it: what "quantization" does not list is what its tensors are. */
static void a_module_without_an_entry_is_what_its_tensors_are(void **state)
{
    struct cw w;

    (void)state;
    begin_llama(&w, 3, 64);
    cw_drop(&w, "model.layers.0.mlp.up_proj.weight");
    cw_drop(&w, "model.layers.0.mlp.up_proj.scales");
    cw_drop(&w, "model.layers.0.mlp.up_proj.biases");
    cw_add(&w, "model.layers.0.mlp.up_proj.weight", "U32", 0, 256, 16);
    cw_add(&w, "model.layers.0.mlp.up_proj.scales", "U8", 0, 256, 8);
    config(&w, LLAMA_KEYS, "\"group_size\":128,\"bits\":8,\"mode\":\"affine\"");
    struct rg_checkpoint *c = open_it(&w);

    expect_format(weight(c, 0, "mlp.gate_proj"), RG_WEIGHT_AFFINE, 3, 64);
    expect_format(weight(c, 0, "mlp.up_proj"), RG_WEIGHT_NVFP4, 4, 16);
    expect_format(weight(c, RG_LAYER_NONE, "model.embed_tokens"), RG_WEIGHT_AFFINE, 3, 64);
    rg_checkpoint_close(c);
    cw_end(&w);
}

/* ---- directory and registry --------------------------------------------------------------- */

static void says_what_is_wrong_with_the_directory(void **state)
{
    struct cw w;
    struct rg_checkpoint *c = NULL;
    struct rg_err err;

    (void)state;
    assert_int_equal(rg_checkpoint_open(&c, "/nonexistent/m", &rg_checkpoint_headers, &err),
                     RG_E_USAGE);
    assert_non_null(strstr(err.message, "/nonexistent/m: no such directory"));
    cw_begin(&w);
    assert_int_equal(rg_checkpoint_open(&c, w.dir, &rg_checkpoint_headers, &err), RG_E_USAGE);
    assert_non_null(strstr(err.message, "no config.json there"));
    config(&w, LLAMA_KEYS, NULL);
    assert_int_equal(rg_checkpoint_open(&c, w.dir, &rg_checkpoint_headers, &err), RG_E_USAGE);
    assert_non_null(strstr(err.message, "no model*.safetensors there"));
    cw_end(&w);
}

static void resolves_directories_and_registry_names(void **state)
{
    struct cw w;
    struct rg_err err;
    char *dir = NULL, *name = NULL, text[256], registry[192], slashed[192];

    (void)state;
    cw_begin(&w);
    assert_int_equal(rg_checkpoint_resolve(&dir, &name, w.dir, NULL, &err), RG_OK);
    assert_string_equal(dir, w.dir);
    assert_string_equal(name, strrchr(w.dir, '/') + 1);
    rg_free(dir);
    rg_free(name);
    (void)snprintf(slashed, sizeof slashed, "%s//", w.dir);
    assert_int_equal(rg_checkpoint_resolve(&dir, &name, slashed, NULL, &err), RG_OK);
    assert_string_equal(name, strrchr(w.dir, '/') + 1);
    rg_free(dir);
    rg_free(name);
    assert_int_equal(rg_checkpoint_resolve(&dir, &name, "//", NULL, &err), RG_OK);
    assert_string_equal(name, "/");
    rg_free(dir);
    rg_free(name);

    (void)snprintf(text, sizeof text,
                   "{\"a-model\":{\"path\":\"%s\"},\"here\":{\"path\":\".\"},"
                   "\"gone\":{\"path\":\"/nonexistent\"},\"bad\":{}}",
                   w.dir);
    cw_text(&w, "registry.json", text);
    cw_path(&w, "registry.json", registry);
    assert_int_equal(rg_checkpoint_resolve(&dir, &name, "a-model", registry, &err), RG_OK);
    assert_string_equal(dir, w.dir);
    assert_string_equal(name, "a-model");
    rg_free(dir);
    rg_free(name);
    assert_int_equal(rg_checkpoint_resolve(&dir, &name, "here", registry, &err), RG_OK);
    assert_non_null(strstr(dir, w.dir)); /* relative to the registry's directory */
    rg_free(dir);
    rg_free(name);
    assert_int_equal(rg_checkpoint_resolve(&dir, &name, "gone", registry, &err), RG_E_USAGE);
    assert_non_null(strstr(err.message, "the path of 'gone' is no directory: /nonexistent"));
    assert_int_equal(rg_checkpoint_resolve(&dir, &name, "bad", registry, &err), RG_E_BAD_DATA);
    assert_non_null(strstr(err.message, "'bad' has no \"path\" string"));
    assert_int_equal(rg_checkpoint_resolve(&dir, &name, "other", registry, &err), RG_E_USAGE);
    assert_non_null(strstr(err.message, "neither a directory nor a name in"));
    assert_int_equal(rg_checkpoint_resolve(&dir, &name, "../x", registry, &err), RG_E_USAGE);
    assert_int_equal(rg_checkpoint_resolve(&dir, &name, "other", NULL, &err), RG_E_USAGE);
    assert_null(dir);
    assert_null(name);
    cw_end(&w);
}

static void a_tilde_is_the_home_directory(void **state)
{
    struct cw w;
    struct rg_err err;
    char *dir = NULL, *name = NULL, path[192];

    (void)state;
    cw_begin(&w);
    cw_path(&w, "m", path);
    assert_int_equal(mkdir(path, 0700), 0);
    cw_text(&w, "registry.json", "{\"x\":{\"path\":\"~/m\"}}");
    assert_int_equal(setenv("HOME", w.dir, 1), 0);
    char registry[192];

    cw_path(&w, "registry.json", registry);
    assert_int_equal(rg_checkpoint_resolve(&dir, &name, "x", registry, &err), RG_OK);
    assert_string_equal(dir, path);
    rg_free(dir);
    rg_free(name);
    assert_int_equal(rmdir(path), 0);
    cw_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_affine_format_is_found_exactly),
        TEST(three_bit_group_64_is_not_six_bit_group_32),
        TEST(a_mix_of_widths_loads_untouched),
        TEST(float_modules_stay_float),
        TEST(data_pointers_are_the_files_bytes),
        TEST(a_conflict_says_what_was_found_and_what_would_be_right),
        TEST(broken_modules_are_named),
        TEST(groups_that_mlx_has_not_are_refused),
        TEST(leftover_tensors_are_counted_and_named),
        TEST(biases_are_there_exactly_when_the_config_says_so),
        TEST(keys_of_no_use_are_dropped),
        TEST(block_formats_are_found_exactly),
        TEST(a_module_without_an_entry_is_what_its_tensors_are),
        TEST(an_lm_head_that_nobody_mentions_is_used),
        TEST(says_what_is_wrong_with_the_directory),
        TEST(resolves_directories_and_registry_names),
        TEST(a_tilde_is_the_home_directory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
