/* checkpoint_test.c - whole checkpoints: modules, exact formats, conflicts, sums, the registry.
 *
 * The key lists here are written from model-spec 5.2, 6.2 and 8, not from src/checkpoint. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "../support/checkpoint_writer.h"
#include "base/clock.h"
#include "checkpoint/checkpoint.h"

static int64_t baseline;

/* ---- tiny models -------------------------------------------------------------------------- */

#define LLAMA_KEYS                                                                                 \
    "\"model_type\":\"llama\",\"hidden_size\":128,\"num_hidden_layers\":2,\"intermediate_size\":256," \
    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"rms_norm_eps\":1e-5,\"vocab_size\":160"

static const char *layer_path(unsigned layer, const char *role)
{
    static char path[160];

    (void)snprintf(path, sizeof path, "model.layers.%u.%s", layer, role);
    return path;
}

static void add(struct cw *w, unsigned layer, const char *role, uint64_t rows, uint64_t cols,
                unsigned bits, unsigned group)
{
    cw_module(w, layer_path(layer, role), 0, rows, cols, bits, group);
}

static void norm(struct cw *w, unsigned layer, const char *role, uint64_t n)
{
    char path[160];

    (void)snprintf(path, sizeof path, "model.layers.%u.%s.weight", layer, role);
    cw_vector(w, path, "BF16", n);
}

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

static void config(struct cw *w, const char *keys, const char *quantization)
{
    struct rg_buf b;

    rg_buf_init(&b, 1u << 20);
    assert_int_equal(rg_buf_addf(&b, NULL, "{%s%s%s%s}", keys, quantization ? ",\"quantization\":{" : "",
                                 quantization ? quantization : "", quantization ? "}" : ""), RG_OK);
    cw_bytes(w, "config.json", b.data, b.len);
    rg_buf_free(&b);
}

static void begin_llama(struct cw *w, unsigned bits, unsigned group)
{
    char quantization[64];

    cw_begin(w);
    add_llama(w, bits, group);
    (void)snprintf(quantization, sizeof quantization, "\"group_size\":%u,\"bits\":%u", group, bits);
    config(w, LLAMA_KEYS, bits ? quantization : NULL);
}

static struct rg_checkpoint *open_it(struct cw *w)
{
    struct rg_checkpoint *c = NULL;
    struct rg_err         err = {.message = ""};

    cw_write(w);
    if (rg_checkpoint_open(&c, w->dir, false, &err) != RG_OK)
        fail_msg("%s", err.message);
    return c;
}

static void expect_fails(struct cw *w, enum rg_code code, const char *says)
{
    struct rg_checkpoint *c = NULL;
    struct rg_err         err = {.message = ""};

    cw_write(w);
    const enum rg_code got = rg_checkpoint_open(&c, w->dir, true, &err);

    if (got != code || !strstr(err.message, says))
        fail_msg("code %d '%s', expected %d '%s'", got, err.message, code, says);
    assert_null(c);
    assert_null(strchr(err.message, '\n'));
}

static const struct rg_weight_desc *weight(const struct rg_checkpoint *c, int32_t layer,
                                           const char *role)
{
    const struct rg_module *m = rg_checkpoint_module(c, layer, role);

    if (!m)
        fail_msg("no module '%s' in layer %d", role, layer);
    return &m->weight;
}

static void expect_format(const struct rg_weight_desc *d, enum rg_weight_kind kind, unsigned bits,
                          unsigned group)
{
    if (d->kind != kind || d->bits != bits || d->group_size != group)
        fail_msg("%s is %s %u/%u, expected %s %u/%u", d->name, rg_weight_kind_name(d->kind), d->bits,
                 d->group_size, rg_weight_kind_name(kind), bits, group);
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
    config(&w, LLAMA_KEYS, "\"group_size\":64,\"bits\":4,"
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

    (void)snprintf(quantization, sizeof quantization, "\"group_size\":64,\"bits\":4%s", cw_entries(&w));
    config(&w, LLAMA_KEYS ",\"tie_word_embeddings\":false", quantization);
    struct rg_checkpoint *c = open_it(&w);

    expect_format(weight(c, RG_LAYER_NONE, "model.embed_tokens"), RG_WEIGHT_AFFINE, 3, 64);
    expect_format(weight(c, 1, "self_attn.q_proj"), RG_WEIGHT_AFFINE, 4, 64);
    expect_format(weight(c, RG_LAYER_HEAD, "lm_head"), RG_WEIGHT_AFFINE, 6, 64);
    assert_int_equal(c->head_bytes, 256 + 160 * (128 * 6 / 8 + 2 * 2 * 2));
    assert_int_equal(c->embedding_bytes, 160 * (128 * 3 / 8 + 2 * 2 * 2));
    assert_int_equal(c->layer_bytes[0], c->layer_bytes[1]);
    assert_int_equal(c->total_bytes,
                     c->embedding_bytes + c->head_bytes + 2 * c->layer_bytes[0]);
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
        config(&w, LLAMA_KEYS, listed ? "\"group_size\":64,\"bits\":4,\"model.layers.1.mlp.up_proj\":false"
                                      : "\"group_size\":64,\"bits\":4");
        c = open_it(&w);
        expect_format(weight(c, 1, "mlp.up_proj"), RG_WEIGHT_FLOAT, 0, 0);
        assert_int_equal(weight(c, 1, "mlp.up_proj")->dtype, RG_DTYPE_F32);
        rg_checkpoint_close(c);
    }
    config(&w, LLAMA_KEYS, "\"group_size\":64,\"bits\":4,\"model.layers.1.mlp.up_proj\":true");
    expect_fails(&w, RG_E_BAD_DATA, "quantization lists 'model.layers.1.mlp.up_proj', but there is no "
                                    "'model.layers.1.mlp.up_proj.scales'");
    cw_end(&w);
}

static void data_pointers_are_the_files_bytes(void **state)
{
    static uint8_t codes[64 * 16 * 4], scales[64 * 2 * 2], biases[64 * 2 * 2];
    struct cw      w;

    (void)state;
    for (size_t i = 0; i < sizeof codes; i++)
        codes[i] = (uint8_t)(i * 7);
    memset(scales, 0x11, sizeof scales);
    memset(biases, 0x22, sizeof biases);
    begin_llama(&w, 4, 64);
    cw_find(&w, "model.layers.1.self_attn.k_proj.weight")->data = codes;
    cw_find(&w, "model.layers.1.self_attn.k_proj.scales")->data = scales;
    cw_find(&w, "model.layers.1.self_attn.k_proj.biases")->data = biases;
    struct rg_checkpoint        *c = open_it(&w);
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
        {"\"group_size\":64,\"bits\":8",
         "quantization says 8-bit group 64 affine for 'model.embed_tokens' (the global values), its "
         "tensors are 4-bit group 64 affine (16 words and 2 groups for 128 inputs); right would be "
         "\"model.embed_tokens\": {\"group_size\": 64, \"bits\": 4}"},
        {"\"group_size\":32,\"bits\":4", "says 4-bit group 32 affine for 'model.embed_tokens'"},
        {"\"group_size\":64,\"bits\":4,\"model.layers.1.mlp.down_proj\":{\"bits\":6}",
         "quantization says 6-bit group 64 affine for 'model.layers.1.mlp.down_proj' (its own entry), "
         "its tensors are 4-bit group 64 affine (32 words and 4 groups for 256 inputs)"},
        {"\"group_size\":64,\"bits\":4,\"model.layers.0.self_attn.q_proj\":false",
         "quantization says false for 'model.layers.0.self_attn.q_proj', but it is quantised: 4-bit "
         "group 64 affine; right would be {\"group_size\": 64, \"bits\": 4}"},
        {"\"group_size\":64,\"bits\":4,\"model.embed_tokens\":{\"mode\":\"mxfp4\"}",
         "says 4-bit group 32 mxfp4 for 'model.embed_tokens'"},
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
        uint64_t    rows, cols;
        const char *says;
    } cases[] = {
        {"model.layers.0.mlp.up_proj.weight", NULL, NULL, 0, 0,
         "tensor 'model.layers.0.mlp.up_proj.weight' is missing; a llama has it"},
        {"model.layers.1.input_layernorm.weight", NULL, NULL, 0, 0,
         "tensor 'model.layers.1.input_layernorm.weight' is missing"},
        {"model.layers.0.mlp.up_proj.scales", NULL, NULL, 0, 0,
         "'model.layers.0.mlp.up_proj' looks quantised (weight U32, with .biases), but there is no"},
        {"model.layers.0.mlp.up_proj.biases", NULL, NULL, 0, 0,
         "'model.layers.0.mlp.up_proj.biases' is missing (scales are BF16"},
        {NULL, "model.layers.0.mlp.up_proj.weight", "BF16", 256, 128,
         "'model.layers.0.mlp.up_proj' has .scales, so its weight must be U32, it is BF16"},
        {NULL, "model.layers.0.mlp.up_proj.biases", "F16", 256, 2,
         "'model.layers.0.mlp.up_proj' has BF16 scales and F16 biases"},
        {NULL, "model.layers.0.mlp.up_proj.biases", "BF16", 256, 4,
         "has scales [256, 2] and biases [256, 4]; they must be equal"},
        {NULL, "model.layers.0.mlp.up_proj.weight", "U32", 255, 16,
         "'model.layers.0.mlp.up_proj.weight' is [255, 16], [256, words] expected from config.json"},
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
    expect_fails(&w, RG_E_BAD_DATA, "model.safetensors: 1 tensor that a llama of this config.json does "
                                    "not have: 'model.layers.0.self_attn.q_norm.weight'");
    cw_vector(&w, "model.layers.2.input_layernorm.weight", "BF16", 128);
    cw_vector(&w, "x", "F32", 1);
    cw_vector(&w, "y", "F32", 1);
    expect_fails(&w, RG_E_BAD_DATA, "4 tensors that a llama of this config.json does not have: "
                                    "'model.layers.0.self_attn.q_norm.weight', "
                                    "'model.layers.2.input_layernorm.weight', 'x', ...");
    cw_end(&w);
}

static void biases_are_there_exactly_when_the_config_says_so(void **state)
{
    struct cw w;

    (void)state;
    begin_llama(&w, 4, 64);
    config(&w, LLAMA_KEYS ",\"attention_bias\":true,\"mlp_bias\":true", "\"group_size\":64,\"bits\":4");
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
    struct rg_checkpoint *c = open_it(&w);

    assert_null(rg_checkpoint_module(c, RG_LAYER_HEAD, "lm_head"));
    assert_int_equal(c->head_bytes, 256);
    rg_checkpoint_close(c);
    cw_end(&w);
}

static void block_formats_are_recognised(void **state)
{
    static const struct {
        const char         *mode;
        enum rg_weight_kind kind;
        unsigned            bits, group;
    } formats[] = {{"mxfp4", RG_WEIGHT_MXFP4, 4, 32},
                   {"nvfp4", RG_WEIGHT_NVFP4, 4, 16},
                   {"mxfp8", RG_WEIGHT_MXFP8, 8, 32}};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct cw w;
        char      quantization[128];

        begin_llama(&w, 4, 64);
        cw_drop(&w, "model.layers.0.mlp.up_proj.weight");
        cw_drop(&w, "model.layers.0.mlp.up_proj.scales");
        cw_drop(&w, "model.layers.0.mlp.up_proj.biases");
        cw_add(&w, "model.layers.0.mlp.up_proj.weight", "U32", 0, 256, 128 * formats[i].bits / 32);
        cw_add(&w, "model.layers.0.mlp.up_proj.scales", "U8", 0, 256, 128 / formats[i].group);
        (void)snprintf(quantization, sizeof quantization, "\"group_size\":64,\"bits\":4,"
                       "\"model.layers.0.mlp.up_proj\":{\"mode\":\"%s\"}", formats[i].mode);
        config(&w, LLAMA_KEYS, quantization);
        struct rg_checkpoint *c = open_it(&w);

        expect_format(weight(c, 0, "mlp.up_proj"), formats[i].kind, formats[i].bits,
                      formats[i].group);
        assert_null(weight(c, 0, "mlp.up_proj")->biases);
        assert_non_null(weight(c, 0, "mlp.up_proj")->scales);
        rg_checkpoint_close(c);
        config(&w, LLAMA_KEYS, "\"group_size\":64,\"bits\":4");
        expect_fails(&w, RG_E_BAD_DATA, formats[i].mode);
        cw_end(&w);
    }
}

/* ---- mixture of experts ------------------------------------------------------------------- */

#define MOE_KEYS                                                                                   \
    "\"model_type\":\"qwen3_moe\",\"hidden_size\":64,\"num_hidden_layers\":2,\"intermediate_size\":128," \
    "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"head_dim\":32,\"rms_norm_eps\":1e-6,"       \
    "\"vocab_size\":96,\"max_position_embeddings\":512,\"rope_theta\":1e6,"                           \
    "\"tie_word_embeddings\":true,\"num_experts\":4,\"num_experts_per_tok\":2,"                       \
    "\"moe_intermediate_size\":32,\"norm_topk_prob\":true,\"mlp_only_layers\":[0]"

static void add_moe(struct cw *w, bool one_by_one)
{
    cw_affine(w, "model.embed_tokens", 0, 96, 64, 4, 32);
    cw_vector(w, "model.norm.weight", "BF16", 64);
    for (unsigned i = 0; i < 2; i++) {
        norm(w, i, "input_layernorm", 64);
        add(w, i, "self_attn.q_proj", 64, 64, 4, 32);
        add(w, i, "self_attn.k_proj", 32, 64, 4, 32);
        add(w, i, "self_attn.v_proj", 32, 64, 4, 32);
        add(w, i, "self_attn.o_proj", 64, 64, 4, 32);
        norm(w, i, "self_attn.q_norm", 32);
        norm(w, i, "self_attn.k_norm", 32);
        norm(w, i, "post_attention_layernorm", 64);
    }
    add(w, 0, "mlp.gate_proj", 128, 64, 4, 32);
    add(w, 0, "mlp.up_proj", 128, 64, 4, 32);
    add(w, 0, "mlp.down_proj", 64, 128, 4, 32);
    add(w, 1, "mlp.gate", 4, 64, 8, 64);
    cw_entry(w, "model.layers.1.mlp.gate", 8, 64);
    for (unsigned p = 0; p < 3; p++) {
        static const char *const names[] = {"gate_proj", "up_proj", "down_proj"};
        const uint64_t           rows = p == 2 ? 64 : 32, cols = p == 2 ? 32 : 64;
        char                     role[64];

        (void)snprintf(role, sizeof role, "mlp.switch_mlp.%s", names[p]);
        if (!one_by_one)
            cw_affine(w, layer_path(1, role), 4, rows, cols, 4, 32);
        for (unsigned e = 0; e < 4 && one_by_one; e++) {
            (void)snprintf(role, sizeof role, "mlp.experts.%u.%s", e, names[p]);
            cw_affine(w, layer_path(1, role), 0, rows, cols, 4, 32);
        }
    }
}

static void begin_moe(struct cw *w, bool one_by_one)
{
    char quantization[256];

    cw_begin(w);
    add_moe(w, one_by_one);
    (void)snprintf(quantization, sizeof quantization, "\"group_size\":32,\"bits\":4%s", cw_entries(w));
    config(w, MOE_KEYS, quantization);
}

static void stacked_and_single_experts_are_the_same_module(void **state)
{
    static uint8_t        down[4][64 * 16];
    struct cw             ws, wu;
    struct rg_checkpoint *stacked, *single;

    (void)state;
    for (size_t e = 0; e < 4; e++)
        memset(down[e], (int)(e + 1), sizeof down[e]);
    begin_moe(&ws, false);
    cw_find(&ws, "model.layers.1.mlp.switch_mlp.down_proj.weight")->data = down;
    begin_moe(&wu, true);
    for (unsigned e = 0; e < 4; e++) {
        char name[96];

        (void)snprintf(name, sizeof name, "model.layers.1.mlp.experts.%u.down_proj.weight", e);
        cw_find(&wu, name)->data = down[e];
    }
    stacked = open_it(&ws);
    single = open_it(&wu);
    assert_int_equal(stacked->n_modules, single->n_modules);
    assert_int_equal(stacked->total_bytes, single->total_bytes);
    assert_int_equal(stacked->parameters, single->parameters);
    for (uint32_t i = 0; i < stacked->n_modules; i++) {
        const struct rg_weight_desc *a = &stacked->modules[i].weight, *b = &single->modules[i].weight;

        assert_string_equal(stacked->modules[i].path, single->modules[i].path);
        assert_string_equal(stacked->modules[i].role, single->modules[i].role);
        expect_format(b, a->kind, a->bits, a->group_size);
        assert_true(a->lead == b->lead && a->rows == b->rows && a->cols == b->cols);
        assert_true(a->bytes == b->bytes && a->dtype == b->dtype);
    }

    const struct rg_weight_desc *a = weight(stacked, 1, "mlp.switch_mlp.down_proj");
    const struct rg_weight_desc *b = weight(single, 1, "mlp.switch_mlp.down_proj");

    assert_int_equal(a->lead, 4);
    assert_non_null(a->data);
    assert_null(a->data_of);
    assert_null(b->data);
    for (size_t e = 0; e < 4; e++) {
        assert_memory_equal(a->data + e * sizeof down[e], b->data_of[e], sizeof down[e]);
        assert_memory_equal(b->data_of[e], down[e], sizeof down[e]);
        assert_non_null(b->scales_of[e]);
        assert_non_null(b->biases_of[e]);
    }
    expect_format(weight(stacked, 1, "mlp.gate"), RG_WEIGHT_AFFINE, 8, 64);
    assert_null(rg_checkpoint_module(stacked, 0, "mlp.gate"));
    rg_checkpoint_close(stacked);
    rg_checkpoint_close(single);
    cw_end(&ws);
    cw_end(&wu);
}

static void single_experts_must_be_complete_and_alike(void **state)
{
    struct cw w;

    (void)state;
    begin_moe(&w, true);
    cw_drop(&w, "model.layers.1.mlp.experts.3.up_proj.weight");
    expect_fails(&w, RG_E_BAD_DATA, "tensor 'model.layers.1.mlp.experts.3.up_proj.weight' is missing");
    cw_end(&w);

    begin_moe(&w, true);
    cw_affine(&w, "model.layers.1.mlp.experts.4.up_proj", 0, 32, 64, 4, 32);
    expect_fails(&w, RG_E_BAD_DATA, "3 tensors that a qwen3_moe of this config.json does not have");
    cw_end(&w);

    begin_moe(&w, true);
    for (int i = 0; i < 3; i++)
        cw_drop(&w, i == 0   ? "model.layers.1.mlp.experts.2.up_proj.weight"
                    : i == 1 ? "model.layers.1.mlp.experts.2.up_proj.scales"
                             : "model.layers.1.mlp.experts.2.up_proj.biases");
    cw_affine(&w, "model.layers.1.mlp.experts.2.up_proj", 0, 32, 64, 8, 32);
    config(&w, MOE_KEYS, "\"group_size\":32,\"bits\":4,\"model.layers.1.mlp.gate\":{\"bits\":8},"
                         "\"model.layers.1.mlp.experts.2.up_proj\":{\"group_size\":32,\"bits\":8}");
    expect_fails(&w, RG_E_UNSUPPORTED, "'model.layers.1.mlp.experts.2.up_proj' is affine 8-bit group "
                                       "32 BF16, expert 0 is affine 4-bit group 32 BF16");
    cw_end(&w);
}

/* ---- MLA ---------------------------------------------------------------------------------- */

struct mla {
    const char *prefix;
    unsigned    kv_bits;  /* of kv_b_proj, or of embed_q and unembed_out */
    bool        old;      /* kv_b_proj */
    bool        no_lora;  /* q_proj */
};

#define MLA_KEYS                                                                                   \
    "\"hidden_size\":64,\"num_hidden_layers\":2,\"intermediate_size\":128,\"num_attention_heads\":2," \
    "\"vocab_size\":96,\"moe_intermediate_size\":32,\"n_routed_experts\":4,\"n_shared_experts\":2,"   \
    "\"num_experts_per_tok\":2,\"kv_lora_rank\":64,\"qk_nope_head_dim\":32,"                          \
    "\"qk_rope_head_dim\":16,\"v_head_dim\":32,\"first_k_dense_replace\":1"

static void mla_add(struct cw *w, const struct mla *m, unsigned layer, const char *role, uint64_t lead,
                    uint64_t rows, uint64_t cols, unsigned bits)
{
    char path[160];

    (void)snprintf(path, sizeof path, "%smodel.layers.%u.%s", m->prefix, layer, role);
    cw_module(w, path, lead, rows, cols, bits, 32);
}

static void mla_vector(struct cw *w, const struct mla *m, unsigned layer, const char *role,
                       const char *dtype, uint64_t n)
{
    char path[160];

    (void)snprintf(path, sizeof path, "%smodel.layers.%u.%s", m->prefix, layer, role);
    cw_vector(w, path, dtype, n);
}

static void add_mla_attention(struct cw *w, const struct mla *m, unsigned i)
{
    mla_vector(w, m, i, "input_layernorm.weight", "BF16", 64);
    mla_vector(w, m, i, "post_attention_layernorm.weight", "BF16", 64);
    if (m->no_lora) {
        mla_add(w, m, i, "self_attn.q_proj", 0, 2 * 48, 64, 4);
    } else {
        mla_add(w, m, i, "self_attn.q_a_proj", 0, 32, 64, 4);
        mla_vector(w, m, i, "self_attn.q_a_layernorm.weight", "BF16", 32);
        mla_add(w, m, i, "self_attn.q_b_proj", 0, 2 * 48, 32, 4);
    }
    mla_add(w, m, i, "self_attn.kv_a_proj_with_mqa", 0, 64 + 16, 64, 4);
    mla_vector(w, m, i, "self_attn.kv_a_layernorm.weight", "BF16", 64);
    if (m->old) {
        mla_add(w, m, i, "self_attn.kv_b_proj", 0, 2 * 64, 64, m->kv_bits);
    } else {
        mla_add(w, m, i, "self_attn.embed_q", 2, 64, 32, m->kv_bits);
        mla_add(w, m, i, "self_attn.unembed_out", 2, 32, 64, m->kv_bits);
    }
    mla_add(w, m, i, "self_attn.o_proj", 0, 64, 2 * 32, 4);
}

static void add_mla(struct cw *w, const struct mla *m)
{
    char name[64];

    (void)snprintf(name, sizeof name, "%smodel.embed_tokens", m->prefix);
    cw_affine(w, name, 0, 96, 64, 4, 32);
    (void)snprintf(name, sizeof name, "%slm_head", m->prefix);
    cw_affine(w, name, 0, 96, 64, 4, 32);
    (void)snprintf(name, sizeof name, "%smodel.norm.weight", m->prefix);
    cw_vector(w, name, "BF16", 64);
    for (unsigned i = 0; i < 2; i++)
        add_mla_attention(w, m, i);
    mla_add(w, m, 0, "mlp.gate_proj", 0, 128, 64, 4);
    mla_add(w, m, 0, "mlp.up_proj", 0, 128, 64, 4);
    mla_add(w, m, 0, "mlp.down_proj", 0, 64, 128, 4);
    mla_add(w, m, 1, "mlp.gate", 0, 4, 64, 0);
    mla_vector(w, m, 1, "mlp.gate.e_score_correction_bias", "F32", 4);
    mla_add(w, m, 1, "mlp.switch_mlp.gate_proj", 4, 32, 64, 4);
    mla_add(w, m, 1, "mlp.switch_mlp.up_proj", 4, 32, 64, 4);
    mla_add(w, m, 1, "mlp.switch_mlp.down_proj", 4, 64, 32, 4);
    mla_add(w, m, 1, "mlp.shared_experts.gate_proj", 0, 2 * 32, 64, 4);
    mla_add(w, m, 1, "mlp.shared_experts.up_proj", 0, 2 * 32, 64, 4);
    mla_add(w, m, 1, "mlp.shared_experts.down_proj", 0, 64, 2 * 32, 4);
}

static void both_mla_layouts_load_and_their_shapes_win(void **state)
{
    (void)state;
    for (unsigned k = 0; k < 4; k++) {
        /* The config still lists kv_b_proj with other bits: nobody asks it. */
        static const char quantization[] =
            "\"group_size\":32,\"bits\":4,"
            "\"model.layers.0.self_attn.kv_b_proj\":{\"group_size\":64,\"bits\":3}";
        const struct mla  m = {.prefix = "", .kv_bits = 6, .old = k % 2 == 0, .no_lora = k >= 2};
        struct cw         w;

        cw_begin(&w);
        add_mla(&w, &m);
        config(&w, m.no_lora ? "\"model_type\":\"deepseek_v3\",\"q_lora_rank\":null," MLA_KEYS
                             : "\"model_type\":\"kimi_k2\",\"q_lora_rank\":32," MLA_KEYS, quantization);
        struct rg_checkpoint *c = open_it(&w);

        if (m.old) {
            expect_format(weight(c, 0, "self_attn.kv_b_proj"), RG_WEIGHT_AFFINE, 6, 32);
            assert_null(rg_checkpoint_module(c, 0, "self_attn.embed_q"));
        } else {
            expect_format(weight(c, 0, "self_attn.embed_q"), RG_WEIGHT_AFFINE, 6, 32);
            expect_format(weight(c, 1, "self_attn.unembed_out"), RG_WEIGHT_AFFINE, 6, 32);
            assert_int_equal(weight(c, 1, "self_attn.embed_q")->lead, 2);
            assert_int_equal(weight(c, 1, "self_attn.embed_q")->rows, 64);
            assert_int_equal(weight(c, 1, "self_attn.embed_q")->cols, 32);
        }
        assert_int_equal(rg_checkpoint_module(c, 0, "self_attn.q_proj") != NULL, m.no_lora);
        expect_format(weight(c, 1, "mlp.gate"), RG_WEIGHT_FLOAT, 0, 0);
        assert_int_equal(weight(c, 1, "mlp.gate.e_score_correction_bias")->dtype, RG_DTYPE_F32);
        assert_int_equal(weight(c, 1, "mlp.shared_experts.up_proj")->rows, 64);
        rg_checkpoint_close(c);
        cw_end(&w);
    }
}

static void mla_checks_its_own_rules(void **state)
{
    const struct mla m = {.prefix = "", .kv_bits = 4};
    struct cw        w;

    (void)state;
    cw_begin(&w);
    add_mla(&w, &m);
    config(&w, "\"model_type\":\"deepseek_v3\",\"q_lora_rank\":32," MLA_KEYS,
           "\"group_size\":32,\"bits\":4");
    cw_vector(&w, "model.layers.2.eh_proj.weight", "BF16", 7); /* the MTP layer */
    cw_vector(&w, "model.layers.61.enorm.weight", "BF16", 7);
    rg_checkpoint_close(open_it(&w));
    cw_vector(&w, "model.layers.1.enorm.weight", "BF16", 7);
    expect_fails(&w, RG_E_BAD_DATA, "1 tensor that a deepseek_v3");
    cw_drop(&w, "model.layers.1.enorm.weight");
    cw_affine(&w, "model.layers.1.self_attn.kv_b_proj", 0, 128, 64, 4, 32);
    expect_fails(&w, RG_E_BAD_DATA, "6 tensors that a deepseek_v3"); /* both layouts at once */
    cw_end(&w);

    cw_begin(&w);
    add_mla(&w, &m);
    config(&w, "\"model_type\":\"deepseek_v3\",\"q_lora_rank\":32," MLA_KEYS,
           "\"group_size\":32,\"bits\":4");
    cw_drop(&w, "model.layers.1.mlp.gate.weight");
    cw_affine(&w, "model.layers.1.mlp.gate", 0, 4, 64, 4, 32);
    expect_fails(&w, RG_E_UNSUPPORTED, "'model.layers.1.mlp.gate' is quantised (it has .scales)");
    cw_end(&w);
}

static void kimi_k25_is_its_text_part(void **state)
{
    const struct mla m = {.prefix = "language_model.", .kv_bits = 4};
    struct cw        w;

    (void)state;
    cw_begin(&w);
    add_mla(&w, &m);
    cw_vector(&w, "vision_tower.patch_embed.weight", "BF16", 7);
    cw_vector(&w, "mm_projector.linear.weight", "BF16", 7);
    config(&w, "\"model_type\":\"kimi_k25\",\"text_config\":{\"q_lora_rank\":32," MLA_KEYS "}",
           "\"group_size\":32,\"bits\":4");
    struct rg_checkpoint *c = open_it(&w);

    assert_string_equal(rg_checkpoint_module(c, RG_LAYER_NONE, "model.embed_tokens")->path,
                        "language_model.model.embed_tokens");
    assert_string_equal(rg_checkpoint_module(c, RG_LAYER_HEAD, "lm_head")->path,
                        "language_model.lm_head");
    assert_non_null(rg_checkpoint_module(c, 1, "mlp.switch_mlp.up_proj"));
    rg_checkpoint_close(c);
    cw_vector(&w, "model.norm.weight", "BF16", 64);
    expect_fails(&w, RG_E_BAD_DATA, "1 tensor that a kimi_k25 of this config.json does not have: "
                                    "'model.norm.weight'");
    cw_end(&w);
}

/* ---- a real size -------------------------------------------------------------------------- */

#define KIMI                                                                                       \
    "\"model_type\":\"kimi_k2\",\"vocab_size\":163840,\"hidden_size\":7168,"                        \
    "\"intermediate_size\":18432,\"moe_intermediate_size\":2048,\"num_hidden_layers\":61,"          \
    "\"num_attention_heads\":64,\"n_shared_experts\":1,\"n_routed_experts\":384,"                   \
    "\"num_experts_per_tok\":8,\"first_k_dense_replace\":1,\"max_position_embeddings\":131072"

enum recipe { UNIFORM_4, MIXED_3_6_OLD, MIXED_3_6 }; /* model-spec 13.2 and the rows of 13.3 */

static void kimi_add(struct cw *w, enum recipe r, int layer, const char *role, uint64_t lead,
                     uint64_t rows, uint64_t cols)
{
    const bool boosted = layer >= 0 && (layer < 7 || layer >= 53 || (layer - 7) % 3 == 2);
    const bool high = strcmp(role, "lm_head") == 0 ||
                      (boosted && (strstr(role, "down_proj") ||
                                   (r == MIXED_3_6 && strstr(role, "kv_a_proj"))));
    const unsigned bits = r == UNIFORM_4 ? 4 : high ? 6 : 3;
    char           path[160];

    if (layer < 0)
        (void)snprintf(path, sizeof path, "%s", role);
    else
        (void)snprintf(path, sizeof path, "model.layers.%d.%s", layer, role);
    cw_affine(w, path, lead, rows, cols, bits, 64);
    cw_entry(w, path, bits, 64);
}

static void kimi_experts(struct cw *w, enum recipe r, int i, bool one_by_one)
{
    static const char *const names[] = {"gate_proj", "up_proj", "down_proj"};

    for (unsigned p = 0; p < 3; p++) {
        const uint64_t rows = p == 2 ? 7168 : 2048, cols = p == 2 ? 2048 : 7168;
        char           role[64];

        (void)snprintf(role, sizeof role, "mlp.shared_experts.%s", names[p]);
        kimi_add(w, r, i, role, 0, rows, cols);
        (void)snprintf(role, sizeof role, "mlp.switch_mlp.%s", names[p]);
        if (!one_by_one)
            kimi_add(w, r, i, role, 384, rows, cols);
        for (unsigned e = 0; e < 384 && one_by_one; e++) {
            (void)snprintf(role, sizeof role, "model.layers.%d.mlp.experts.%u.%s", i, e, names[p]);
            cw_affine(w, role, 0, rows, cols, 4, 64);
        }
    }
}

static void kimi_layer(struct cw *w, enum recipe r, int i, bool one_by_one)
{
    norm(w, (unsigned)i, "input_layernorm", 7168);
    norm(w, (unsigned)i, "post_attention_layernorm", 7168);
    norm(w, (unsigned)i, "self_attn.q_a_layernorm", 1536);
    norm(w, (unsigned)i, "self_attn.kv_a_layernorm", 512);
    kimi_add(w, r, i, "self_attn.q_a_proj", 0, 1536, 7168);
    kimi_add(w, r, i, "self_attn.q_b_proj", 0, 12288, 1536);
    kimi_add(w, r, i, "self_attn.kv_a_proj_with_mqa", 0, 576, 7168);
    if (r == MIXED_3_6_OLD) {
        kimi_add(w, r, i, "self_attn.kv_b_proj", 0, 16384, 512);
    } else {
        kimi_add(w, r, i, "self_attn.embed_q", 64, 512, 128);
        kimi_add(w, r, i, "self_attn.unembed_out", 64, 128, 512);
    }
    kimi_add(w, r, i, "self_attn.o_proj", 0, 7168, 8192);
    if (i == 0) {
        kimi_add(w, r, i, "mlp.gate_proj", 0, 18432, 7168);
        kimi_add(w, r, i, "mlp.up_proj", 0, 18432, 7168);
        kimi_add(w, r, i, "mlp.down_proj", 0, 7168, 18432);
        return;
    }
    cw_add(w, layer_path((unsigned)i, "mlp.gate.weight"), "BF16", 0, 384, 7168);
    cw_vector(w, layer_path((unsigned)i, "mlp.gate.e_score_correction_bias"), "F32", 384);
    kimi_experts(w, r, i, one_by_one);
}

static void begin_kimi(struct cw *w, enum recipe r, bool one_by_one)
{
    struct rg_buf quantization;

    cw_begin(w);
    w->n_shards = 62;
    for (int i = 0; i < 61; i++) {
        w->shard = (uint32_t)i;
        kimi_layer(w, r, i, one_by_one);
    }
    w->shard = 61;
    kimi_add(w, r, -1, "model.embed_tokens", 0, 163840, 7168);
    kimi_add(w, r, -1, "lm_head", 0, 163840, 7168);
    cw_vector(w, "model.norm.weight", "BF16", 7168);
    rg_buf_init(&quantization, 1u << 20);
    assert_int_equal(rg_buf_addf(&quantization, NULL, "\"group_size\":64,\"bits\":4%s", cw_entries(w)),
                     RG_OK);
    config(w, KIMI, quantization.data);
    rg_buf_free(&quantization);
    cw_write(w);
    cw_write_index(w, 0);
}

static void kimi_k2_has_the_sizes_it_should(void **state)
{
    static const struct {
        enum recipe recipe;
        uint64_t    total;
        double      bits_per_weight;
    } known[] = {{UNIFORM_4, UINT64_C(577593561088), 4.5019},
                 {MIXED_3_6_OLD, UINT64_C(511266844672), 3.9849},
                 {MIXED_3_6, UINT64_C(511313293312), 3.9853}};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct cw             w;
        struct rg_checkpoint *c = NULL;
        struct rg_err         err = {.message = ""};

        begin_kimi(&w, known[i].recipe, false);
        if (rg_checkpoint_open(&c, w.dir, true, &err) != RG_OK)
            fail_msg("%s", err.message);
        assert_true(c->total_bytes == known[i].total);
        assert_true(c->parameters == UINT64_C(1026408232448));
        const double bits = 8 * (double)c->total_bytes / (double)c->parameters;

        assert_true(bits > known[i].bits_per_weight - 1e-4 && bits < known[i].bits_per_weight + 1e-4);
        if (known[i].recipe == MIXED_3_6) {
            assert_true(c->embedding_bytes == 513802240);
            assert_true(c->head_bytes == UINT64_C(954204160) + 14336);
            assert_true(c->layer_bytes[0] == 268775424);
            assert_true(c->layer_bytes[1] == UINT64_C(9588782592));
            assert_true(c->layer_bytes[7] == UINT64_C(7467800064));
        }
        rg_checkpoint_close(c);
        cw_end(&w);
    }
}

/* 209 000 tensors: anything quadratic would take minutes. */
static void two_hundred_thousand_tensors_open_quickly(void **state)
{
    struct cw             w;
    struct rg_checkpoint *c = NULL;
    struct rg_err         err = {.message = ""};

    (void)state;
    begin_kimi(&w, UNIFORM_4, true);
    const int64_t begin = rg_clock_ms();

    if (rg_checkpoint_open(&c, w.dir, true, &err) != RG_OK)
        fail_msg("%s", err.message);
    const int64_t took = rg_clock_ms() - begin;

    print_message("%u tensors opened in %lld ms\n", rg_tensor_set_count(c->tensors), (long long)took);
    assert_true(rg_tensor_set_count(c->tensors) > 200000);
    assert_true(took < 20000); /* under a sanitizer and an emulator too */
    assert_true(c->total_bytes == UINT64_C(577593561088));
    assert_int_equal(weight(c, 60, "mlp.switch_mlp.up_proj")->lead, 384);
    rg_checkpoint_close(c);
    cw_end(&w);
}

/* ---- directory and registry --------------------------------------------------------------- */

static void says_what_is_wrong_with_the_directory(void **state)
{
    struct cw             w;
    struct rg_checkpoint *c = NULL;
    struct rg_err         err;

    (void)state;
    assert_int_equal(rg_checkpoint_open(&c, "/nonexistent/m", true, &err), RG_E_USAGE);
    assert_non_null(strstr(err.message, "/nonexistent/m: no such directory"));
    cw_begin(&w);
    assert_int_equal(rg_checkpoint_open(&c, w.dir, true, &err), RG_E_USAGE);
    assert_non_null(strstr(err.message, "config.json"));
    config(&w, LLAMA_KEYS, NULL);
    assert_int_equal(rg_checkpoint_open(&c, w.dir, true, &err), RG_E_USAGE);
    assert_non_null(strstr(err.message, "no model*.safetensors there"));
    cw_end(&w);
}

static void resolves_directories_and_registry_names(void **state)
{
    struct cw     w;
    struct rg_err err;
    char         *dir = NULL, *name = NULL, text[256], registry[192], slashed[192];

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

    (void)snprintf(text, sizeof text, "{\"a-model\":{\"path\":\"%s\"},\"here\":{\"path\":\".\"},"
                   "\"gone\":{\"path\":\"/nonexistent\"},\"bad\":{}}", w.dir);
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
    struct cw     w;
    struct rg_err err;
    char         *dir = NULL, *name = NULL, path[192];

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

static void every_failed_allocation_is_reported(void **state)
{
    struct cw    w;
    enum rg_code code = RG_E_NOMEM;

    (void)state;
    begin_moe(&w, true);
    cw_write(&w);
    cw_write_index(&w, 0);
    const int64_t before = rg_mem_live();

    for (int64_t n = 1; code != RG_OK; n++) {
        struct rg_checkpoint *c = NULL;

        assert_true(n < 10000);
        rg_mem_fail_at(n);
        code = rg_checkpoint_open(&c, w.dir, false, NULL);
        rg_mem_fail_at(0);
        assert_true(code == RG_OK || (code == RG_E_NOMEM && !c));
        rg_checkpoint_close(c);
        assert_int_equal(rg_mem_live(), before);
    }
    cw_end(&w);
}

static int remember_memory(void **state)
{
    (void)state;
    baseline = rg_mem_live();
    return 0;
}

static int expect_no_live_memory(void **state)
{
    (void)state;
    return rg_mem_live() == baseline ? 0 : -1;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, remember_memory, expect_no_live_memory)

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
        TEST(block_formats_are_recognised),
        TEST(stacked_and_single_experts_are_the_same_module),
        TEST(single_experts_must_be_complete_and_alike),
        TEST(both_mla_layouts_load_and_their_shapes_win),
        TEST(mla_checks_its_own_rules),
        TEST(kimi_k25_is_its_text_part),
        TEST(kimi_k2_has_the_sizes_it_should),
        TEST(two_hundred_thousand_tensors_open_quickly),
        TEST(says_what_is_wrong_with_the_directory),
        TEST(resolves_directories_and_registry_names),
        TEST(a_tilde_is_the_home_directory),
        TEST(every_failed_allocation_is_reported),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
