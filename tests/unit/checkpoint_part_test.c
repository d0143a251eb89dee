/* checkpoint_part_test.c - checkpoints of which shards are missing, and parts of checkpoints. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/preload.h"
#include "support/checkpoint_asserts.h"
#include "support/live_memory.h"

/* ---- the models ------------------------------------------------------------------------------ */

enum { LAYERS = 4, LAYER_BYTES = 295424 };

#define LLAMA_KEYS                                                                                 \
    "\"model_type\":\"llama\",\"hidden_size\":128,\"num_hidden_layers\":4,\"intermediate_size\":"  \
    "256,"                                                                                         \
    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"rms_norm_eps\":1e-5,\"vocab_size\":160"

static void add_layer(struct cw *w, unsigned i)
{
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

/* Shard 0: embedding and layer 0; then a layer each; the head with the last one.  A layer has
 * 288 KiB, its matrices 16 to 64 KiB. */
static void begin_llama(struct cw *w, bool tied)
{
    cw_begin(w);
    w->n_shards = LAYERS;
    cw_module(w, "model.embed_tokens", 0, 160, 128, 0, 0);
    for (unsigned i = 0; i < LAYERS; i++) {
        w->shard = i;
        add_layer(w, i);
    }
    cw_vector(w, "model.norm.weight", "BF16", 128);
    if (!tied)
        cw_module(w, "lm_head", 0, 160, 128, 0, 0);
    config(w,
           tied ? LLAMA_KEYS ",\"tie_word_embeddings\":true"
                : LLAMA_KEYS ",\"tie_word_embeddings\":false",
           NULL);
}

static void remove_file(const struct cw *w, const char *name)
{
    char path[192];

    cw_path(w, name, path);
    assert_int_equal(unlink(path), 0);
}

static void remove_shard(const struct cw *w, uint32_t shard)
{
    char name[64];

    cw_shard_name(w, shard, name);
    remove_file(w, name);
}

static void write_it(struct cw *w, bool index)
{
    cw_write(w);
    if (index)
        cw_write_index(w, 0);
}

static struct rg_checkpoint *open_with(const struct cw *w,
                                       const struct rg_checkpoint_options *options)
{
    struct rg_checkpoint *c = NULL;
    struct rg_err err = {.message = ""};

    if (rg_checkpoint_open(&c, w->dir, options, &err) != RG_OK)
        fail_msg("%s", err.message);
    return c;
}

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

/* ---- pages ----------------------------------------------------------------------------------- */

#ifdef __linux__

/* The page of an address is in this process's page table. */
static bool is_present(int pagemap, const uint8_t *at, size_t page)
{
    uint64_t entry = 0;
    const ssize_t n =
        pread(pagemap, &entry, sizeof entry, (off_t)((uintptr_t)at / page * sizeof entry));

    assert_int_equal(n, sizeof entry);
    return entry >> 63;
}

/* The tensors that have bytes on a page of a file are all of other layers than the part's. */
static bool is_foreign(const struct rg_checkpoint *c, const struct rg_checkpoint_options *o,
                       uint32_t file, uint64_t page_at, size_t page)
{
    for (uint32_t i = 0; i < rg_tensor_set_count(c->tensors); i++) {
        const struct rg_tensor_info *t = rg_tensor_set_at(c->tensors, i);
        const int32_t layer = c->tensor_layer[i];

        if (t->file == file && t->offset < page_at + page && t->offset + t->bytes > page_at &&
            layer >= (int32_t)o->layer_begin && layer < (int32_t)o->layer_end)
            return false;
    }
    return true;
}

static bool is_mapped(const char *path)
{
    FILE *f = fopen("/proc/self/maps", "r");
    char line[512];
    bool found = false;

    assert_non_null(f);
    while (fgets(line, sizeof line, f) && !found)
        found = strstr(line, path) != NULL;
    (void)fclose(f);
    return found;
}

/* The kernel reads the byte for us, and fails where this process could not. */
static bool is_readable(const uint8_t *at)
{
    int ends[2];

    assert_int_equal(pipe(ends), 0);

    const ssize_t n = write(ends[1], at, 1);

    (void)close(ends[0]);
    (void)close(ends[1]);
    return n == 1;
}

/* Clean pages in the page cache are those that the kernel maps along with their neighbours. */
static void settle(const char *path)
{
    const int fd = open(path, O_RDONLY);

    assert_true(fd >= 0);
    assert_int_equal(fsync(fd), 0);
    (void)close(fd);
}

/* All layers' tensors lie mixed in every file, as in real checkpoints, whose writers sort by name.
 */
static void loading_a_part_touches_no_page_of_other_layers(void **state)
{
    const struct rg_checkpoint_options o = {.is_part = true, .layer_begin = 1, .layer_end = 3};
    const struct rg_model_part part = {.layer_begin = 1, .layer_end = 3};
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t own = 0, foreign = 0;
    const int pagemap = open("/proc/self/pagemap", O_RDONLY);
    struct cw w;
    struct rg_checkpoint *c;

    (void)state;
    assert_true(pagemap >= 0);
    begin_llama(&w, true);
    w.n_shards = 3;
    for (size_t i = 0; i < w.n; i++)
        w.tensors[i].shard = strstr(w.tensors[i].name, "layers.") ? (uint32_t)(i % 2) : 2;
    write_it(&w, true);
    c = open_with(&w, &o);
    for (uint32_t f = 0; f < 3; f++)
        settle(rg_tensor_set_file(c->tensors, f)->path);
    assert_int_equal(rg_preload(c, &part, NULL, NULL, NULL), RG_OK);
    for (uint32_t f = 0; f < 3; f++) {
        const struct rg_tensor_file *file = rg_tensor_set_file(c->tensors, f);

        assert_int_equal(is_mapped(file->path), f < 2);
        for (uint64_t at = 0; file->data && at < file->bytes; at += page) {
            const bool is_other = is_foreign(c, &o, f, at, page);

            if (is_present(pagemap, file->data + at, page) == is_other)
                fail_msg("%s: the page at byte %zu is %s", file->path, (size_t)at,
                         is_other ? "another layer's, and was touched" : "not there");
            assert_int_equal(is_readable(file->data + at), !is_other);
            own += !is_other;
            foreign += is_other;
        }
    }
    assert_true(own * page >= 2 * LAYER_BYTES && foreign * page >= LAYER_BYTES);
    rg_checkpoint_close(c);
    (void)close(pagemap);
    cw_end(&w);
}

#endif

/* ---- large parts ----------------------------------------------------------------------------- */

struct seen {
    uint64_t done, total;
};

static bool on_progress(void *ud, uint64_t done, uint64_t total)
{
    struct seen *s = ud;

    assert_true(done > s->done && done <= total);
    s->done = done;
    s->total = total;
    return true;
}

static bool stop_at_once(void *ud, uint64_t done, uint64_t total)
{
    (void)done, (void)total;
    ++*(int *)ud;
    return false;
}

/* 640 MiB, all of it a hole: enough for several threads. */
static void a_large_part_is_read_by_several_threads(void **state)
{
    struct cw w;
    struct rg_checkpoint *c;
    struct seen seen = {0};
    int calls = 0;
    const struct rg_model_part part = {.embed = true};

    (void)state;
    begin_llama(&w, true);
    config(&w,
           "\"model_type\":\"llama\",\"hidden_size\":128,\"num_hidden_layers\":4,"
           "\"intermediate_size\":256,\"num_attention_heads\":4,\"num_key_value_heads\":2,"
           "\"rms_norm_eps\":1e-5,\"tie_word_embeddings\":true,\"vocab_size\":2621440",
           NULL);
    cw_find(&w, "model.embed_tokens.weight")->shape[0] = 2621440;
    cw_find(&w, "model.embed_tokens.weight")->bytes = UINT64_C(2621440) * 128 * 2;
    write_it(&w, false);
    c = open_with(&w, &rg_checkpoint_mapped);
    assert_int_equal(rg_preload(c, &part, on_progress, &seen, NULL), RG_OK);
    assert_int_equal(seen.done, c->embedding_bytes);
    assert_int_equal(seen.total, c->embedding_bytes);
    assert_int_equal(rg_preload(c, &part, stop_at_once, &calls, NULL), RG_E_CANCELED);
    assert_int_equal(calls, 1);
    rg_checkpoint_close(c);
    cw_end(&w);
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
#ifdef __linux__
        TEST(loading_a_part_touches_no_page_of_other_layers),
#endif
        TEST(a_large_part_is_read_by_several_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
