/* checkpoint_part_test.c - checkpoints of which shards are missing, and parts of checkpoints. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/layered_model.h"
#include "support/live_memory.h"

static struct rg_checkpoint *open_some(const struct cw *w)
{
    const struct rg_checkpoint_options options = {.headers_only = true, .may_lack = true};

    return open_with(w, &options);
}

static void expect(const struct cw *w, const struct rg_checkpoint_options *options,
                   enum rg_code code, const char *says)
{
    struct rg_checkpoint *c = NULL;
    struct rg_err err = {.message = ""};
    const enum rg_code got = rg_checkpoint_open(&c, w->dir, options, &err);

    if (got != code || !strstr(err.message, says))
        fail_msg("code %d '%s', expected %d '%s'", got, err.message, code, says);
    assert_null(c);
    assert_null(strchr(err.message, '\n'));
}

/* there: a digit per layer, then the embedding and the head: "1101 1 0". */
static void expect_there(const struct rg_checkpoint *c, const char *there)
{
    char got[64] = "";
    uint32_t i = 0;

    for (; i < c->config.num_hidden_layers; i++)
        got[i] = c->layer_there[i] ? '1' : '0';
    (void)snprintf(got + i, sizeof got - i, " %d %d", c->embedding_there, c->head_there);
    assert_string_equal(got, there);
    assert_int_equal(c->is_whole, strchr(there, '0') == NULL);
}

/* ---- what may be missing --------------------------------------------------------------------- */

static void a_layer_is_there_when_all_its_shards_are(void **state)
{
    static const struct {
        uint32_t missing;
        const char *there;
    } cases[] = {{0, "0111 0 1"}, {1, "1011 1 1"}, {3, "1110 1 0"}};

    (void)state;
    for (size_t k = 0; k < 6; k++) {
        struct cw w;
        struct rg_checkpoint *c;

        begin_llama(&w, false);
        write_it(&w, k < 3);
        remove_shard(&w, cases[k % 3].missing);
        expect(&w, &rg_checkpoint_headers, RG_E_USAGE, "is missing");
        c = open_some(&w);
        expect_there(c, cases[k % 3].there);
        assert_int_equal(rg_tensor_set_missing(c->tensors), 1);
        for (uint32_t i = 0; i < LAYERS; i++)
            assert_int_equal(c->layer_bytes[i], c->layer_there[i] ? LAYER_BYTES : 0);
        for (uint32_t i = 0; i < c->n_modules; i++) {
            assert_int_equal(c->modules[i].weight.bytes > 0, c->modules[i].there);
            assert_int_equal(c->modules[i].missing != NULL, !c->modules[i].there && k < 3);
        }
        rg_checkpoint_close(c);
        cw_end(&w);
    }
}

static void a_layer_that_begins_in_one_shard_and_ends_in_another_needs_both(void **state)
{
    (void)state;
    for (int index = 0; index < 2; index++) {
        struct cw w;
        struct rg_checkpoint *c;

        begin_llama(&w, false);
        cw_find(&w, "model.layers.1.mlp.up_proj.weight")->shard = 2;
        write_it(&w, index);
        remove_shard(&w, 2);
        c = open_some(&w);
        expect_there(c, "1001 1 1");
        assert_int_equal(c->layer_bytes[1], LAYER_BYTES - 65536); /* the rest of it is there */
        rg_checkpoint_close(c);
        cw_end(&w);
    }
}

static void a_link_to_nothing_is_a_missing_shard(void **state)
{
    struct cw w;
    char path[192];
    struct rg_checkpoint *c;

    (void)state;
    begin_llama(&w, false);
    write_it(&w, true);
    remove_shard(&w, 2);
    cw_path(&w, "model-00003-of-00004.safetensors", path);
    assert_int_equal(symlink("../blobs/gone", path), 0);
    expect(&w, &rg_checkpoint_headers, RG_E_USAGE, "is a link to ../blobs/gone");
    c = open_some(&w);
    expect_there(c, "1101 1 1");
    rg_checkpoint_close(c);
    remove_file(&w, "model.safetensors.index.json");
    c = open_some(&w);
    expect_there(c, "1101 1 1");
    assert_string_equal(rg_tensor_set_missing_file(c->tensors, 0),
                        "model-00003-of-00004.safetensors");
    rg_checkpoint_close(c);
    cw_end(&w);
}

static void all_shards_may_be_missing_when_there_is_an_index(void **state)
{
    const struct rg_checkpoint_options some = {.headers_only = true, .may_lack = true};
    struct cw w;
    struct rg_checkpoint *c;

    (void)state;
    begin_llama(&w, false);
    write_it(&w, true);
    for (uint32_t i = 0; i < LAYERS; i++)
        remove_shard(&w, i);
    c = open_some(&w);
    expect_there(c, "0000 0 0");
    assert_int_equal(c->total_bytes, 0);
    rg_checkpoint_close(c);
    remove_file(&w, "model.safetensors.index.json");
    expect(&w, &some, RG_E_USAGE, "no model*.safetensors there");
    cw_end(&w);
}

static void a_whole_checkpoint_lacks_nothing(void **state)
{
    struct cw w;
    struct rg_checkpoint *c;

    (void)state;
    begin_llama(&w, true);
    write_it(&w, true);
    c = open_some(&w);
    expect_there(c, "1111 1 1");
    assert_int_equal(rg_tensor_set_missing(c->tensors), 0);
    assert_null(rg_tensor_set_missing_file(c->tensors, 0));
    rg_checkpoint_close(c);
    cw_end(&w);
}

static void a_tied_head_is_there_with_the_embedding(void **state)
{
    struct cw w;
    struct rg_checkpoint *c;

    (void)state;
    begin_llama(&w, true);
    write_it(&w, true);
    remove_shard(&w, 0);
    c = open_some(&w);
    expect_there(c, "0111 0 0");
    rg_checkpoint_close(c);
    cw_end(&w);
}

static void the_index_says_whether_a_head_is_missing(void **state)
{
    const struct rg_checkpoint_options some = {.headers_only = true, .may_lack = true};
    struct cw w;
    struct rg_checkpoint *c;

    (void)state;
    begin_llama(&w, false);
    config(&w, LLAMA_KEYS, NULL); /* nothing about a tie */
    write_it(&w, true);
    remove_shard(&w, 3);
    c = open_some(&w);
    assert_false(c->config.tie_word_embeddings);
    expect_there(c, "1110 1 0");
    rg_checkpoint_close(c);
    remove_file(&w, "model.safetensors.index.json");
    expect(&w, &some, RG_E_USAGE, "nothing says whether there is an lm_head");
    cw_end(&w);
}

/* What is there is still held to the config and the index. */
static void files_that_are_there_must_still_be_right(void **state)
{
    const struct rg_checkpoint_options some = {.headers_only = true, .may_lack = true};
    struct cw w;

    (void)state;
    begin_llama(&w, false);
    cw_module(&w, "model.layers.0.mlp.extra", 0, 8, 8, 0, 0);
    write_it(&w, true);
    remove_shard(&w, 1);
    expect(&w, &some, RG_E_BAD_DATA, "'model.layers.0.mlp.extra.weight'");
    cw_end(&w);

    begin_llama(&w, false);
    write_it(&w, true);
    cw_find(&w, "model.layers.0.mlp.up_proj.weight")->shape[0] = 8;
    cw_find(&w, "model.layers.0.mlp.up_proj.weight")->bytes = 8 * 128 * 2;
    cw_write(&w);
    remove_shard(&w, 1);
    expect(&w, &some, RG_E_BAD_DATA, "is [8, 128], [256, 128] expected");
    cw_end(&w);

    begin_llama(&w, false);
    cw_find(&w, "model.layers.1.mlp.up_proj.weight")->shard = 0;
    cw_write(&w);
    cw_find(&w, "model.layers.1.mlp.up_proj.weight")->shard = 1;
    cw_write_index(&w, 0);
    remove_shard(&w, 1);
    expect(&w, &some, RG_E_BAD_DATA,
           "should be in model-00002-of-00004.safetensors, which is missing, but is in "
           "model-00001-of-00004.safetensors");
    cw_end(&w);

    begin_llama(&w, false);
    cw_write(&w);
    cw_drop(&w, "model.layers.0.mlp.up_proj.weight");
    cw_write_index(&w, 0);
    remove_shard(&w, 1);
    expect(&w, &some, RG_E_BAD_DATA, "is not in weight_map");
    cw_end(&w);

    begin_llama(&w, false);
    cw_drop(&w, "model.layers.0.mlp.up_proj.weight");
    write_it(&w, true); /* neither in a file nor in the index: no shard brings it back */
    remove_shard(&w, 1);
    expect(&w, &some, RG_E_BAD_DATA, "tensor 'model.layers.0.mlp.up_proj.weight' is missing");
    cw_end(&w);
}

static void an_index_that_names_a_missing_tensor_twice_is_refused(void **state)
{
    const struct rg_checkpoint_options some = {.headers_only = true, .may_lack = true};
    struct cw w;

    (void)state;
    begin_llama(&w, false);
    cw_write(&w);
    cw_text(&w, "model.safetensors.index.json",
            "{\"weight_map\":{\"x\":\"gone.safetensors\",\"x\":\"gone.safetensors\"}}");
    expect(&w, &some, RG_E_BAD_DATA, "weight_map: 'x' is there twice");
    cw_end(&w);
}

/* ---- modules with several tensors, layouts --------------------------------------------------- */

#define MOE_KEYS                                                                                   \
    "\"model_type\":\"deepseek_v3\",\"hidden_size\":64,\"num_hidden_layers\":2,"                   \
    "\"intermediate_size\":128,\"num_attention_heads\":2,\"vocab_size\":96,"                       \
    "\"moe_intermediate_size\":32,\"n_routed_experts\":4,\"n_shared_experts\":1,"                  \
    "\"num_experts_per_tok\":2,\"kv_lora_rank\":64,\"qk_nope_head_dim\":32,"                       \
    "\"qk_rope_head_dim\":16,\"v_head_dim\":32,\"first_k_dense_replace\":0"

static void affine(struct cw *w, unsigned layer, const char *role, uint64_t lead, uint64_t rows,
                   uint64_t cols)
{
    cw_affine(w, layer_path(layer, role), lead, rows, cols, 4, 32);
}

static void add_experts(struct cw *w, unsigned layer, bool single)
{
    static const char *const names[] = {"gate_proj", "up_proj", "down_proj"};
    char role[64];

    for (unsigned p = 0; p < 3; p++) {
        const uint64_t rows = p == 2 ? 64 : 32, cols = p == 2 ? 32 : 64;

        (void)snprintf(role, sizeof role, "mlp.shared_experts.%s", names[p]);
        affine(w, layer, role, 0, rows, cols);
        (void)snprintf(role, sizeof role, "mlp.switch_mlp.%s", names[p]);
        if (!single)
            affine(w, layer, role, 4, rows, cols);
        for (unsigned e = 0; e < 4 && single; e++) {
            (void)snprintf(role, sizeof role, "mlp.experts.%u.%s", e, names[p]);
            affine(w, layer, role, 0, rows, cols);
        }
    }
}

/* Three shards: layer 0; layer 1; embedding and head. */
static void begin_moe(struct cw *w, bool single, bool old)
{
    cw_begin(w);
    w->n_shards = 3;
    for (unsigned i = 0; i < 2; i++) {
        w->shard = i;
        norm(w, i, "input_layernorm", 64);
        norm(w, i, "post_attention_layernorm", 64);
        affine(w, i, "self_attn.q_a_proj", 0, 32, 64);
        norm(w, i, "self_attn.q_a_layernorm", 32);
        affine(w, i, "self_attn.q_b_proj", 0, 2 * 48, 32);
        affine(w, i, "self_attn.kv_a_proj_with_mqa", 0, 64 + 16, 64);
        norm(w, i, "self_attn.kv_a_layernorm", 64);
        if (old)
            affine(w, i, "self_attn.kv_b_proj", 0, 2 * 64, 64);
        if (!old)
            affine(w, i, "self_attn.embed_q", 2, 64, 32);
        if (!old)
            affine(w, i, "self_attn.unembed_out", 2, 32, 64);
        affine(w, i, "self_attn.o_proj", 0, 64, 2 * 32);
        add(w, i, "mlp.gate", 4, 64, 0, 0);
        cw_vector(w, layer_path(i, "mlp.gate.e_score_correction_bias"), "F32", 4);
        add_experts(w, i, single);
    }
    w->shard = 2;
    cw_affine(w, "model.embed_tokens", 0, 96, 64, 4, 32);
    cw_vector(w, "model.norm.weight", "BF16", 64);
    cw_affine(w, "lm_head", 0, 96, 64, 4, 32);
    config(w, MOE_KEYS ",\"q_lora_rank\":32,\"tie_word_embeddings\":false",
           "\"group_size\":32,\"bits\":4");
}

static void both_layouts_may_be_missing(void **state)
{
    (void)state;
    for (unsigned k = 0; k < 8; k++) {
        struct cw w;
        struct rg_checkpoint *c;

        begin_moe(&w, k & 1, k & 2);
        write_it(&w, k & 4);
        remove_shard(&w, 1);
        c = open_some(&w);
        expect_there(c, "10 1 1");
        assert_int_equal(c->layer_bytes[1], 0);
        if (k & 4) /* the index says which layout it is */
            assert_int_equal(rg_checkpoint_module(c, 1, "self_attn.kv_b_proj") != NULL,
                             (k & 2) != 0);
        rg_checkpoint_close(c);
        cw_end(&w);
    }
}

/* Any single tensor of layer 0 in a shard of its own that is missing: layer 0 is not there, and
 * nothing that is there of it is taken for another model's. */
static void one_missing_tensor_takes_its_layer_with_it(void **state)
{
    (void)state;
    for (unsigned k = 0; k < 8; k++) {
        struct cw w;

        begin_moe(&w, k & 1, k & 2);
        w.n_shards = 4;
        for (size_t i = 0; i < w.n && w.tensors[i].shard == 0; i++) {
            struct rg_checkpoint *c;

            w.tensors[i].shard = 3;
            write_it(&w, k & 4);
            remove_shard(&w, 3);
            c = open_some(&w);
            expect_there(c, "01 1 1");
            assert_true(c->layer_bytes[0] > 0);
            rg_checkpoint_close(c);
            w.tensors[i].shard = 0;
        }
        cw_end(&w);
    }
}

/* ---- parts ----------------------------------------------------------------------------------- */

static void a_part_names_the_layer_and_the_shard_that_it_lacks(void **state)
{
    struct rg_checkpoint_options o = {.may_lack = true, .is_part = true, .layer_end = 2};
    struct cw w;
    struct rg_checkpoint *c;

    (void)state;
    begin_llama(&w, true);
    write_it(&w, true);
    remove_shard(&w, 1);
    expect(&w, &o, RG_E_USAGE,
           "layer 1: 'input_layernorm' is in shard "
           "model-00002-of-00004.safetensors, which is missing");
    o.headers_only = true;
    expect(&w, &o, RG_E_USAGE, "layer 1: 'input_layernorm'");
    o = (struct rg_checkpoint_options){
        .may_lack = true, .is_part = true, .layer_begin = 2, .layer_end = 4, .head = true};
    c = open_with(&w, &o);
    rg_checkpoint_close(c);
    remove_shard(&w, 0);
    expect(&w, &o, RG_E_USAGE, "'model.embed_tokens' is in shard model-00001-of-00004.safetensors");
    o.head = false;
    c = open_with(&w, &o);
    rg_checkpoint_close(c);
    o.may_lack = false;
    expect(&w, &o, RG_E_USAGE, "shard model-00001-of-00004.safetensors is missing");
    o = (struct rg_checkpoint_options){.may_lack = true, .is_part = true, .layer_end = 5};
    expect(&w, &o, RG_E_USAGE, "layers 0 to 5 of 4 cannot be opened");
    remove_file(&w, "model.safetensors.index.json");
    o.layer_end = 1;
    expect(&w, &o, RG_E_USAGE, "(or one of 1 more that are missing)");
    cw_end(&w);
}

static void only_the_modules_of_a_part_have_pointers(void **state)
{
    const struct rg_checkpoint_options o = {
        .is_part = true, .layer_begin = 1, .layer_end = 2, .head = true};

    (void)state;
    for (int tied = 0; tied < 2; tied++) {
        struct cw w;
        struct rg_checkpoint *c;

        begin_llama(&w, tied);
        write_it(&w, false);
        c = open_with(&w, &o);
        expect_there(c, "1111 1 1");
        for (uint32_t i = 0; i < c->n_modules; i++) {
            const int32_t layer = c->modules[i].layer;

            assert_int_equal(c->modules[i].weight.data != NULL,
                             layer == 1 || layer == RG_LAYER_HEAD ||
                                 (tied && layer == RG_LAYER_NONE));
        }
        for (uint32_t i = 0; i < LAYERS; i++)
            assert_int_equal(rg_tensor_set_file(c->tensors, i)->data != NULL,
                             i == 1 || i == 3 || (tied && i == 0));
        rg_checkpoint_close(c);
        cw_end(&w);
    }
}

static void only_files_of_the_part_are_watched(void **state)
{
    const struct rg_checkpoint_options o = {.is_part = true, .layer_begin = 1, .layer_end = 2};
    struct cw w;
    struct rg_checkpoint *c;
    char path[192];

    (void)state;
    begin_llama(&w, true);
    write_it(&w, false);
    c = open_with(&w, &o);
    cw_path(&w, "model-00001-of-00004.safetensors", path);
    assert_int_equal(truncate(path, 100), 0);
    assert_int_equal(rg_tensor_set_check(c->tensors, NULL), RG_OK);
    cw_path(&w, "model-00002-of-00004.safetensors", path);
    assert_int_equal(truncate(path, 100), 0);
    assert_int_equal(rg_tensor_set_check(c->tensors, NULL), RG_E_IO);
    rg_checkpoint_close(c);
    cw_end(&w);
}

static void every_failed_allocation_is_reported(void **state)
{
    const struct rg_checkpoint_options options[] = {
        {.headers_only = true, .may_lack = true},
        {.may_lack = true, .is_part = true, .layer_begin = 1, .layer_end = 2, .head = true}};

    (void)state;
    for (size_t k = 0; k < 4; k++) {
        struct cw w;
        enum rg_code code = RG_E_NOMEM;

        begin_llama(&w, false);
        write_it(&w, k & 2);
        remove_shard(&w, 2);
        const int64_t before = rg_mem_live();

        for (int64_t n = 1; code != RG_OK; n++) {
            struct rg_checkpoint *c = NULL;

            assert_true(n < 10000);
            rg_mem_fail_at(n);
            code = rg_checkpoint_open(&c, w.dir, &options[k & 1], NULL);
            rg_mem_fail_at(0);
            assert_true(code == RG_OK || (code == RG_E_NOMEM && !c));
            rg_checkpoint_close(c);
            assert_int_equal(rg_mem_live(), before);
        }
        cw_end(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_layer_is_there_when_all_its_shards_are),
        TEST(a_layer_that_begins_in_one_shard_and_ends_in_another_needs_both),
        TEST(a_link_to_nothing_is_a_missing_shard),
        TEST(all_shards_may_be_missing_when_there_is_an_index),
        TEST(a_whole_checkpoint_lacks_nothing),
        TEST(a_tied_head_is_there_with_the_embedding),
        TEST(the_index_says_whether_a_head_is_missing),
        TEST(files_that_are_there_must_still_be_right),
        TEST(an_index_that_names_a_missing_tensor_twice_is_refused),
        TEST(both_layouts_may_be_missing),
        TEST(one_missing_tensor_takes_its_layer_with_it),
        TEST(a_part_names_the_layer_and_the_shard_that_it_lacks),
        TEST(only_the_modules_of_a_part_have_pointers),
        TEST(only_files_of_the_part_are_watched),
        TEST(every_failed_allocation_is_reported),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
