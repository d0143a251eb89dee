/* checkpoint_layouts_test.c - experts stacked and single, both MLA layouts.  A model of real size
 * is in tests/cli/sparse_kimi.py.
 *
 * The key lists here are written from mlx-lm's models, not from src/checkpoint. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "support/checkpoint_asserts.h"
#include "support/live_memory.h"

/* ---- mixture of experts ------------------------------------------------------------------- */

#define MOE_KEYS                                                                                   \
    "\"model_type\":\"qwen3_moe\",\"hidden_size\":64,\"num_hidden_layers\":2,\"intermediate_"      \
    "size\":128,"                                                                                  \
    "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"head_dim\":32,\"rms_norm_eps\":1e-6,"   \
    "\"vocab_size\":96,\"max_position_embeddings\":512,\"rope_theta\":1e6,"                        \
    "\"tie_word_embeddings\":true,\"num_experts\":4,\"num_experts_per_tok\":2,"                    \
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
        const uint64_t rows = p == 2 ? 64 : 32, cols = p == 2 ? 32 : 64;
        char role[64];

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
    (void)snprintf(quantization, sizeof quantization, "\"group_size\":32,\"bits\":4%s",
                   cw_entries(w));
    config(w, MOE_KEYS, quantization);
}

static void stacked_and_single_experts_are_the_same_module(void **state)
{
    static uint8_t down[4][64 * 16];
    struct cw ws, wu;
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
        const struct rg_weight_desc *a = &stacked->modules[i].weight,
                                    *b = &single->modules[i].weight;

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
    expect_fails(&w, RG_E_BAD_DATA,
                 "tensor 'model.layers.1.mlp.experts.3.up_proj.weight' is missing");
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
    config(&w, MOE_KEYS,
           "\"group_size\":32,\"bits\":4,\"model.layers.1.mlp.gate\":{\"bits\":8},"
           "\"model.layers.1.mlp.experts.2.up_proj\":{\"group_size\":32,\"bits\":8}");
    expect_fails(&w, RG_E_UNSUPPORTED,
                 "'model.layers.1.mlp.experts.2.up_proj' is affine 8-bit group "
                 "32 BF16, expert 0 is affine 4-bit group 32 BF16");
    cw_end(&w);
}

/* ---- MLA ---------------------------------------------------------------------------------- */

struct mla {
    const char *prefix;
    unsigned kv_bits; /* of kv_b_proj, or of embed_q and unembed_out */
    bool old;         /* kv_b_proj */
    bool no_lora;     /* q_proj */
};

#define MLA_KEYS                                                                                   \
    "\"hidden_size\":64,\"num_hidden_layers\":2,\"intermediate_size\":128,\"num_attention_"        \
    "heads\":2,"                                                                                   \
    "\"vocab_size\":96,\"moe_intermediate_size\":32,\"n_routed_experts\":4,\"n_shared_experts\":"  \
    "2,"                                                                                           \
    "\"num_experts_per_tok\":2,\"kv_lora_rank\":64,\"qk_nope_head_dim\":32,"                       \
    "\"qk_rope_head_dim\":16,\"v_head_dim\":32,\"first_k_dense_replace\":1"

static void mla_add(struct cw *w, const struct mla *m, unsigned layer, const char *role,
                    uint64_t lead, uint64_t rows, uint64_t cols, unsigned bits)
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
        const struct mla m = {.prefix = "", .kv_bits = 6, .old = k % 2 == 0, .no_lora = k >= 2};
        struct cw w;

        cw_begin(&w);
        add_mla(&w, &m);
        config(&w,
               m.no_lora ? "\"model_type\":\"deepseek_v3\",\"q_lora_rank\":null," MLA_KEYS
                         : "\"model_type\":\"kimi_k2\",\"q_lora_rank\":32," MLA_KEYS,
               quantization);
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
    struct cw w;

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
    expect_fails(&w, RG_E_UNSUPPORTED,
                 "'model.layers.1.mlp.gate' is quantised; this architecture's");
    cw_end(&w);
}

static void kimi_k25_is_its_text_part(void **state)
{
    const struct mla m = {.prefix = "language_model.", .kv_bits = 4};
    struct cw w;

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
    expect_fails(&w, RG_E_BAD_DATA,
                 "1 tensor that a kimi_k25 of this config.json does not have: "
                 "'model.norm.weight'");
    cw_end(&w);
}

static void every_failed_allocation_is_reported(void **state)
{
    struct cw w;
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
        code = rg_checkpoint_open(&c, w.dir, &rg_checkpoint_mapped, NULL);
        rg_mem_fail_at(0);
        assert_true(code == RG_OK || (code == RG_E_NOMEM && !c));
        rg_checkpoint_close(c);
        assert_int_equal(rg_mem_live(), before);
    }
    cw_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(stacked_and_single_experts_are_the_same_module),
        TEST(single_experts_must_be_complete_and_alike),
        TEST(both_mla_layouts_load_and_their_shapes_win),
        TEST(mla_checks_its_own_rules),
        TEST(kimi_k25_is_its_text_part),
        TEST(every_failed_allocation_is_reported),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
