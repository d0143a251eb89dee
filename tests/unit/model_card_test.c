/* model_card_test.c - digests of layers and of configurations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "cluster/config_digest.h"
#include "cluster/model_card.h"
#include "support/checkpoint_asserts.h"
#include "support/live_memory.h"

enum { LAYERS = 3 };

#define LLAMA_KEYS                                                                                 \
    "\"model_type\":\"llama\",\"hidden_size\":128,\"num_hidden_layers\":3,\"intermediate_size\":"  \
    "256,\"num_attention_heads\":4,\"num_key_value_heads\":2,\"rms_norm_eps\":1e-5,"               \
    "\"vocab_size\":160,\"tie_word_embeddings\":false"

/* Matrices of 16 to 64 KiB, of which a sample is read, and norms of 256 bytes. */
static void begin_llama(struct cw *w, uint32_t n_shards)
{
    cw_begin(w);
    w->n_shards = n_shards;
    cw_module(w, "model.embed_tokens", 0, 160, 128, 0, 0);
    for (unsigned i = 0; i < LAYERS; i++) {
        w->shard = i % n_shards;
        norm(w, i, "input_layernorm", 128);
        add(w, i, "self_attn.q_proj", 128, 128, 0, 0);
        add(w, i, "self_attn.k_proj", 64, 128, 0, 0);
        add(w, i, "self_attn.v_proj", 64, 128, 0, 0);
        add(w, i, "self_attn.o_proj", 128, 128, 0, 0);
        norm(w, i, "post_attention_layernorm", 128);
        add(w, i, "mlp.gate_proj", 256, 128, 0, 0);
        add(w, i, "mlp.up_proj", 256, 128, 0, 0);
        add(w, i, "mlp.down_proj", 128, 256, 0, 0);
    }
    cw_vector(w, "model.norm.weight", "BF16", 128);
    cw_module(w, "lm_head", 0, 160, 128, 0, 0);
    config(w, LLAMA_KEYS, NULL);
}

static struct rg_checkpoint *open_some(const char *dir)
{
    const struct rg_checkpoint_options some = {.headers_only = true, .may_lack = true};
    struct rg_checkpoint *c = NULL;
    struct rg_err err = {.message = ""};

    if (rg_checkpoint_open(&c, dir, &some, &err) != RG_OK)
        fail_msg("%s", err.message);
    return c;
}

static struct rg_model_card card_of(const struct cw *w)
{
    struct rg_checkpoint *c = open_some(w->dir);
    struct rg_model_card card;
    struct rg_err err = {.message = ""};

    if (rg_model_card_make(&card, c, NULL, &err) != RG_OK)
        fail_msg("%s", err.message);
    assert_int_equal(card.n_layers, LAYERS);
    for (uint32_t i = 0; i < LAYERS; i++)
        assert_int_equal(card.layers[i].bytes, card.layers[i].there ? c->layer_bytes[i] : 0);
    rg_checkpoint_close(c);
    return card;
}

static bool same_digest(const struct rg_digest *a, const struct rg_digest *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

static bool same_layer(const struct rg_layer_card *a, const struct rg_layer_card *b)
{
    return a->there == b->there && a->bytes == b->bytes && same_digest(&a->digest, &b->digest);
}

/* A letter for each of the layers, embedding and head: '=' the same in both, '-' in one or none. */
static void expect_same(const struct rg_model_card *a, const struct rg_model_card *b,
                        const char *expected)
{
    char got[LAYERS + 3] = "";
    uint32_t i = 0;

    for (; i < LAYERS; i++)
        got[i] = same_layer(&a->layers[i], &b->layers[i]) ? '=' : '-';
    got[i++] = same_layer(&a->embedding, &b->embedding) ? '=' : '-';
    got[i] = same_layer(&a->head, &b->head) ? '=' : '-';
    assert_string_equal(got, expected);
    assert_true(same_digest(&a->digest, &b->digest));
}

/* ---- layers ---------------------------------------------------------------------------------- */

static void how_a_model_is_cut_into_files_does_not_matter(void **state)
{
    struct cw one, three;
    struct rg_model_card a, b;

    (void)state;
    begin_llama(&one, 1);
    begin_llama(&three, 3);
    for (size_t i = 0; i < three.n; i++) /* as many as there are */
        three.tensors[i].shard = (uint32_t)(i % 3);
    cw_write(&one);
    cw_write(&three);
    cw_write_index(&three, 0);
    a = card_of(&one);
    b = card_of(&three);
    expect_same(&a, &b, "=====");
    assert_false(same_digest(&a.layers[0].digest, &a.layers[1].digest)); /* names differ */
    rg_model_card_free(&a);
    rg_model_card_free(&b);
    cw_end(&one);
    cw_end(&three);
}

static void one_byte_of_a_small_tensor_changes_its_layer_alone(void **state)
{
    static const struct {
        const char *tensor, *same;
    } cases[] = {
        {"model.layers.0.input_layernorm.weight", "-===="},
        {"model.layers.2.post_attention_layernorm.weight", "==-=="},
        {"model.norm.weight", "====-"},
    };
    static uint8_t data[256];
    struct cw w;
    struct rg_model_card whole;

    (void)state;
    begin_llama(&w, 1);
    cw_write(&w);
    whole = card_of(&w);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rg_model_card card;

        memset(data, 0, sizeof data);
        data[100 + i] = 1;
        cw_find(&w, cases[i].tensor)->data = data;
        cw_write(&w);
        card = card_of(&w);
        expect_same(&whole, &card, cases[i].same);
        rg_model_card_free(&card);
        cw_find(&w, cases[i].tensor)->data = NULL;
    }
    rg_model_card_free(&whole);
    cw_end(&w);
}

/* Another fine-tune has other bytes all over; its table is the same. */
static void other_values_in_a_large_tensor_are_seen_by_the_sample(void **state)
{
    static uint8_t data[160 * 128 * 2];
    struct cw w;
    struct rg_model_card a, b;

    (void)state;
    begin_llama(&w, 1);
    cw_write(&w);
    a = card_of(&w);
    memset(data, 1, sizeof data);
    cw_find(&w, "model.embed_tokens.weight")->data = data;
    cw_find(&w, "model.layers.1.mlp.up_proj.weight")->dtype = "F16"; /* and another table */
    cw_write(&w);
    b = card_of(&w);
    expect_same(&a, &b, "=-=-=");
    rg_model_card_free(&a);
    rg_model_card_free(&b);
    cw_end(&w);
}

static enum rg_code check_part(const struct cw *w, const struct rg_model_card *card,
                               struct rg_model_part part, struct rg_err *err)
{
    struct rg_checkpoint *c = open_some(w->dir);
    const enum rg_code code = rg_model_card_check(card, c, &part, NULL, err);

    rg_checkpoint_close(c);
    return code;
}

static void files_that_were_replaced_are_seen_by_who_reads_them(void **state)
{
    static uint8_t data[128 * 256 * 2];
    const struct rg_model_part first = {.layer_begin = 0, .layer_end = 1, .embed = true};
    const struct rg_model_part second = {.layer_begin = 1, .layer_end = 2};
    const struct rg_model_part last = {.layer_begin = 2, .layer_end = 3, .head = true};
    struct rg_model_card card;
    struct rg_err err = {.message = ""};
    struct cw w;

    (void)state;
    begin_llama(&w, 1);
    cw_write(&w);
    card = card_of(&w);
    assert_int_equal(check_part(&w, &card, first, &err), RG_OK);
    memset(data, 1, sizeof data);
    cw_find(&w, "model.layers.1.mlp.down_proj.weight")->data = data;
    cw_find(&w, "lm_head.weight")->data = data;
    cw_write(&w);
    assert_int_equal(check_part(&w, &card, first, &err), RG_OK);
    assert_int_equal(check_part(&w, &card, second, &err), RG_E_IO);
    assert_non_null(strstr(err.message, "layer 1 is not what it was at the start"));
    assert_int_equal(check_part(&w, &card, last, &err), RG_E_IO);
    assert_non_null(strstr(err.message, "lm_head are not what they were"));
    config(&w, LLAMA_KEYS ",\"rope_theta\":5000", NULL);
    assert_int_equal(check_part(&w, &card, first, &err), RG_E_IO);
    assert_non_null(strstr(err.message, "config.json is not what it was"));
    rg_model_card_free(&card);
    cw_end(&w);
}

static void what_is_not_there_has_no_card(void **state)
{
    struct cw w;
    struct rg_model_card whole, card;
    char path[192];

    (void)state;
    begin_llama(&w, 3);
    cw_write(&w);
    cw_write_index(&w, 0);
    whole = card_of(&w);
    cw_path(&w, "model-00002-of-00003.safetensors", path);
    assert_int_equal(unlink(path), 0);
    card = card_of(&w);
    expect_same(&whole, &card, "=-===");
    assert_false(card.layers[1].there);
    assert_int_equal(card.layers[1].bytes, 0);
    rg_model_card_free(&whole);
    rg_model_card_free(&card);
    cw_end(&w);
}

static void a_card_can_be_interrupted_and_a_file_can_be_gone(void **state)
{
    const _Atomic bool stop = true;
    struct cw w;
    struct rg_checkpoint *c;
    struct rg_model_card card;
    struct rg_err err = {.message = ""};
    char path[192];

    (void)state;
    begin_llama(&w, 1);
    cw_write(&w);
    c = open_some(w.dir);
    assert_int_equal(rg_model_card_make(&card, c, &stop, &err), RG_E_CANCELED);
    cw_path(&w, "model.safetensors", path);
    assert_int_equal(truncate(path, 4096), 0);
    assert_int_equal(rg_model_card_make(&card, c, NULL, &err), RG_E_IO);
    assert_non_null(strstr(err.message, "model.safetensors: ended at byte"));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rg_model_card_make(&card, c, NULL, &err), RG_E_USAGE);
    assert_non_null(strstr(err.message, "model.safetensors"));
    rg_checkpoint_close(c);
    cw_end(&w);
}

static void every_failed_allocation_is_reported(void **state)
{
    enum rg_code code = RG_E_NOMEM;
    struct cw w;
    struct rg_checkpoint *c;

    (void)state;
    begin_llama(&w, 1);
    cw_write(&w);
    c = open_some(w.dir);

    const int64_t before = rg_mem_live();

    for (int64_t n = 1; code != RG_OK; n++) {
        struct rg_model_card card;

        assert_true(n < 1000);
        rg_mem_fail_at(n);
        code = rg_model_card_make(&card, c, NULL, NULL);
        rg_mem_fail_at(0);
        assert_true(code == RG_OK || code == RG_E_NOMEM);
        if (code == RG_OK)
            rg_model_card_free(&card);
        assert_int_equal(rg_mem_live(), before);
    }
    rg_checkpoint_close(c);
    cw_end(&w);
}

/* Several threads, and the same digests as one tensor after the other would give: those of a model
 * with the same tensors in another order of files. */
static void many_tensors_are_read_by_several_threads(void **state)
{
    static const char *const names[] = {"gate_proj", "up_proj", "down_proj"};
    struct rg_model_card cards[2];

    (void)state;
    for (unsigned k = 0; k < 2; k++) {
        struct cw w;
        char path[96];

        begin_llama(&w, 1);
        w.n_shards = k + 1;
        config(&w,
               "\"model_type\":\"qwen3_moe\",\"hidden_size\":128,\"num_hidden_layers\":3,"
               "\"intermediate_size\":256,\"num_attention_heads\":4,\"num_key_value_heads\":2,"
               "\"head_dim\":32,\"rms_norm_eps\":1e-5,\"vocab_size\":160,"
               "\"max_position_embeddings\":512,\"rope_theta\":1e6,"
               "\"tie_word_embeddings\":false,\"num_experts\":256,\"num_experts_per_tok\":2,"
               "\"moe_intermediate_size\":32,\"norm_topk_prob\":true,"
               "\"mlp_only_layers\":[0,1]",
               NULL);
        for (unsigned i = 0; i < LAYERS; i++) {
            norm(&w, i, "self_attn.q_norm", 32);
            norm(&w, i, "self_attn.k_norm", 32);
        }
        for (unsigned p = 0; p < 3; p++) {
            (void)snprintf(path, sizeof path, "model.layers.2.mlp.%s.weight", names[p]);
            cw_drop(&w, path);
            for (unsigned e = 0; e < 256; e++) {
                w.shard = (e + p) % w.n_shards;
                (void)snprintf(path, sizeof path, "mlp.experts.%u.%s", e, names[p]);
                add(&w, 2, path, p == 2 ? 128 : 32, p == 2 ? 32 : 128, 0, 0);
            }
        }
        add(&w, 2, "mlp.gate", 256, 128, 0, 0);
        cw_write(&w);
        cards[k] = card_of(&w);
        cw_end(&w);
    }
    expect_same(&cards[0], &cards[1], "=====");
    rg_model_card_free(&cards[0]);
    rg_model_card_free(&cards[1]);
}

/* ---- configurations -------------------------------------------------------------------------- */

static struct rg_digest digest_of(const char *text)
{
    struct rg_model_config c;
    struct rg_digest d;
    struct rg_err err = {.message = ""};

    if (rg_model_config_parse(&c, text, strlen(text), "config.json", &err) != RG_OK)
        fail_msg("%s", err.message);
    assert_int_equal(rg_config_digest(&d, &c, NULL), RG_OK);
    rg_model_config_free(&c);
    return d;
}

static void expect_digests(bool same, const char *x, const char *y)
{
    const struct rg_digest a = digest_of(x), b = digest_of(y);

    if (same_digest(&a, &b) != same)
        fail_msg("%s digests:\n%s\n%s", same ? "different" : "equal", x, y);
}

#define LLAMA "{" LLAMA_KEYS "}"
#define WITH(more) "{" LLAMA_KEYS "," more "}"

static void spelling_does_not_change_a_configuration(void **state)
{
    (void)state;
    expect_digests(true, LLAMA,
                   "{ \"vocab_size\": 160,\n\t\"tie_word_embeddings\":false , "
                   "\"rms_norm_eps\": 0.00001, \"num_key_value_heads\": 2, "
                   "\"num_attention_heads\" :4,\"intermediate_size\":256,"
                   "\"num_hidden_layers\":3,\"hidden_size\":128,\"model_type\":\"llama\"}\n");
    /* what no hidden state depends on */
    expect_digests(true, LLAMA, WITH("\"eos_token_id\":[1,2],\"bos_token_id\":3"));
    expect_digests(true, LLAMA, WITH("\"architectures\":[\"X\"],\"torch_dtype\":\"bfloat16\""));
    expect_digests(true, LLAMA, WITH("\"quantization\":{\"group_size\":64,\"bits\":4}"));
    expect_digests(true, LLAMA, WITH("\"rope_theta\":10000.0")); /* the default */
}

static void whatever_changes_an_answer_changes_the_digest(void **state)
{
    static const char *const keys[] = {
        "\"rope_theta\":500000.0",
        "\"head_dim\":64",
        "\"attention_bias\":true",
        "\"mlp_bias\":true",
        "\"max_position_embeddings\":4096",
        "\"rope_scaling\":{\"type\":\"linear\",\"factor\":2.0}",
        "\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,\"low_freq_factor\":1.0,"
        "\"high_freq_factor\":4.0,\"original_max_position_embeddings\":8192}",
        "\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,\"low_freq_factor\":1.5,"
        "\"high_freq_factor\":4.0,\"original_max_position_embeddings\":8192}",
    };
    enum { N = sizeof keys / sizeof keys[0] };
    char text[N][512];

    (void)state;
    for (size_t i = 0; i < N; i++) {
        (void)snprintf(text[i], sizeof text[i], "{%s,%s}", LLAMA_KEYS, keys[i]);
        expect_digests(false, LLAMA, text[i]);
        for (size_t k = 0; k < i; k++)
            expect_digests(false, text[k], text[i]);
    }
    expect_digests(false, LLAMA,
                   "{\"model_type\":\"llama\",\"hidden_size\":128,\"num_hidden_layers\":3,"
                   "\"intermediate_size\":256,\"num_attention_heads\":4,\"num_key_value_heads\":2,"
                   "\"rms_norm_eps\":1e-6,\"vocab_size\":160,\"tie_word_embeddings\":false}");
}

#define MLA_KEYS                                                                                   \
    "\"hidden_size\":64,\"num_hidden_layers\":2,\"intermediate_size\":128,"                        \
    "\"num_attention_heads\":2,\"vocab_size\":96,\"moe_intermediate_size\":32,"                    \
    "\"n_routed_experts\":4,\"n_shared_experts\":2,\"num_experts_per_tok\":2,"                     \
    "\"kv_lora_rank\":64,\"q_lora_rank\":32,\"qk_nope_head_dim\":32,\"qk_rope_head_dim\":16,"      \
    "\"v_head_dim\":32"

static void kimi_k2_and_its_edited_deepseek_v3_are_one_model(void **state)
{
    (void)state;
    expect_digests(true, "{\"model_type\":\"kimi_k2\"," MLA_KEYS ",\"first_k_dense_replace\":1}",
                   "{\"model_type\":\"deepseek_v3\"," MLA_KEYS ",\"first_k_dense_replace\":1}");
    expect_digests(false, "{\"model_type\":\"kimi_k2\"," MLA_KEYS ",\"first_k_dense_replace\":1}",
                   "{\"model_type\":\"kimi_k2\"," MLA_KEYS ",\"first_k_dense_replace\":2}");
}

/* ---- by hand --------------------------------------------------------------------------------- */

static int print_card(const char *dir)
{
    struct rg_checkpoint *c = open_some(dir);
    struct rg_model_card card;
    struct rg_err err = {.message = ""};
    const int64_t began = rg_clock_ms();

    if (rg_model_card_make(&card, c, NULL, &err) != RG_OK)
        fail_msg("%s", err.message);
    printf("%u tensors: %lld ms\n", rg_tensor_set_count(c->tensors),
           (long long)(rg_clock_ms() - began));
    rg_model_card_free(&card);
    rg_checkpoint_close(c);
    return 0;
}

/* With a directory: how long its card takes. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(how_a_model_is_cut_into_files_does_not_matter),
        TEST(one_byte_of_a_small_tensor_changes_its_layer_alone),
        TEST(other_values_in_a_large_tensor_are_seen_by_the_sample),
        TEST(files_that_were_replaced_are_seen_by_who_reads_them),
        TEST(what_is_not_there_has_no_card),
        TEST(a_card_can_be_interrupted_and_a_file_can_be_gone),
        TEST(every_failed_allocation_is_reported),
        TEST(many_tensors_are_read_by_several_threads),
        TEST(spelling_does_not_change_a_configuration),
        TEST(whatever_changes_an_answer_changes_the_digest),
        TEST(kimi_k2_and_its_edited_deepseek_v3_are_one_model),
    };

    if (argc > 1)
        return print_card(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
