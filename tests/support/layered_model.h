/* layered_model.h - a llama of four layers in four shards, for tests of missing shards and of
 * parts.
 *
 * Header-only; include it behind cmocka.h. */
#ifndef TESTS_SUPPORT_LAYERED_MODEL_H
#define TESTS_SUPPORT_LAYERED_MODEL_H

#include <unistd.h>

#include "support/checkpoint_asserts.h"

enum { LAYERS = 4, LAYER_BYTES = 295424 };

#define LLAMA_KEYS                                                                                 \
    "\"model_type\":\"llama\",\"hidden_size\":128,\"num_hidden_layers\":4,\"intermediate_size\":"  \
    "256,"                                                                                         \
    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"rms_norm_eps\":1e-5,\"vocab_size\":160"

static inline void add_layer(struct cw *w, unsigned i)
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
static inline void begin_llama(struct cw *w, bool tied)
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

static inline void remove_file(const struct cw *w, const char *name)
{
    char path[192];

    cw_path(w, name, path);
    assert_int_equal(unlink(path), 0);
}

static inline void remove_shard(const struct cw *w, uint32_t shard)
{
    char name[64];

    cw_shard_name(w, shard, name);
    remove_file(w, name);
}

static inline void write_it(struct cw *w, bool index)
{
    cw_write(w);
    if (index)
        cw_write_index(w, 0);
}

static inline struct rg_checkpoint *open_with(const struct cw *w,
                                              const struct rg_checkpoint_options *options)
{
    struct rg_checkpoint *c = NULL;
    struct rg_err err = {.message = ""};

    if (rg_checkpoint_open(&c, w->dir, options, &err) != RG_OK)
        fail_msg("%s", err.message);
    return c;
}

#endif
