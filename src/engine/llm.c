/* llm.c - opens a checkpoint, all that stands on it, and chooses how much context it gets. */
#include "engine/llm.h"

#include <assert.h>

#include "base/host_memory.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/generation_config.h"
#include "engine/preload.h"

enum {
    CONTEXT_DEFAULT = 32768,
    CONTEXT_LEAST = 1024, /* below that a chat is of no use: better say that it does not fit */
    PARALLEL_DEFAULT = 4,
    BLOCK_TOKENS = 64, /* one piece of the attention's canonical order */
    PARALLEL_MOST = 256
};

static enum rg_code open_text(struct rg_llm *l, struct rg_err *err)
{
    const char *dir = l->checkpoint->dir;
    const char *literals;
    size_t len = 0;
    enum rg_code code = rg_tokenizer_open(&l->tokenizer, dir, err);

    if (code != RG_OK)
        return code;
    if (rg_tokenizer_vocab_size(l->tokenizer) > l->checkpoint->config.vocab_size)
        rg_log(RG_LOG_WARN, "model", "the tokenizer has more tokens than the model",
               "tokenizer=%u model=%u", rg_tokenizer_vocab_size(l->tokenizer),
               l->checkpoint->config.vocab_size);
    code = rg_chat_open(&l->chat, dir, err);
    if (code == RG_E_USAGE)
        return RG_OK; /* a base model: it has no chat template, and what needs one says so */
    if (code != RG_OK)
        return code;
    literals = rg_chat_literals(l->chat, &len);
    return rg_tokenizer_set_template(l->tokenizer, literals, len, err);
}

static uint64_t kv_bytes(const struct rg_llm *l, enum rg_activations activations,
                         const struct rg_kv_layer_spec *specs, uint32_t context)
{
    const struct rg_kv_options options = {.layers = specs,
                                          .n_layers = l->checkpoint->config.num_hidden_layers,
                                          .n_blocks = l->parallel *
                                                      ((context + BLOCK_TOKENS - 1) / BLOCK_TOKENS),
                                          .block_tokens = BLOCK_TOKENS};

    return rg_kv_bytes(activations, &options);
}

/* The KV may take half of what the weights leave of the memory; weights that fill it are read
 * through the page cache, and a sixteenth is then still there. */
static uint64_t kv_budget(const struct rg_checkpoint *c)
{
    const uint64_t all = rg_host_memory_bytes();
    const uint64_t left = all > c->total_bytes ? (all - c->total_bytes) / 2 : 0;

    return left > all / 16 ? left : all / 16;
}

static enum rg_code fit_context(struct rg_llm *l, const struct rg_llm_options *o,
                                struct rg_err *err)
{
    const uint32_t n_layers = l->checkpoint->config.num_hidden_layers;
    const uint64_t budget = kv_budget(l->checkpoint);
    struct rg_kv_layer_spec *specs = rg_calloc(n_layers, sizeof(*specs));
    uint64_t bytes;

    if (!specs)
        return rg_fail(err, RG_E_NOMEM, "model: no memory for %u layers", n_layers);
    rg_model_kv_specs(l->model, specs);
    bytes = kv_bytes(l, o->backend.activations, specs, l->context);
    while (o->context == 0 && bytes > budget && l->context / 2 >= CONTEXT_LEAST) {
        l->context /= 2;
        bytes = kv_bytes(l, o->backend.activations, specs, l->context);
    }
    rg_free(specs);
    if (bytes <= budget)
        return RG_OK;
    return rg_fail(err, RG_E_FIT,
                   "%s: %u x %u tokens of context need %.2f GB beside %.2f GB of weights; %.2f GB "
                   "are there for it: lower --ctx or --parallel",
                   l->name, l->parallel, l->context, (double)bytes / 1e9,
                   (double)l->checkpoint->total_bytes / 1e9, (double)budget / 1e9);
}

static enum rg_code choose_context(struct rg_llm *l, const struct rg_llm_options *o,
                                   struct rg_err *err)
{
    const uint32_t most = l->checkpoint->config.max_position_embeddings;

    l->parallel = o->parallel > 0 ? o->parallel : PARALLEL_DEFAULT;
    if (l->parallel > PARALLEL_MOST)
        return rg_fail(err, RG_E_USAGE, "--parallel %u: at most %u", l->parallel, PARALLEL_MOST);
    if (o->context > most)
        return rg_fail(err, RG_E_USAGE, "--ctx %u: %s has a context of %u tokens", o->context,
                       l->name, most);
    l->context = o->context;
    if (l->context == 0)
        l->context = most < CONTEXT_DEFAULT ? most : CONTEXT_DEFAULT;
    if (l->context < 2)
        return rg_fail(err, RG_E_USAGE, "--ctx %u: a prompt and an answer need 2 tokens at least",
                       l->context);
    return RG_OK;
}

static enum rg_code open_engine(struct rg_llm *l, const struct rg_llm_options *o,
                                struct rg_err *err)
{
    const uint32_t blocks = l->parallel * ((l->context + BLOCK_TOKENS - 1) / BLOCK_TOKENS);
    struct rg_pipeline *pipeline;
    enum rg_code code;

    code = rg_pipeline_local_open(&pipeline, l->checkpoint, l->model, l->backend, blocks,
                                  BLOCK_TOKENS, err);
    if (code != RG_OK)
        return code;
    const struct rg_engine_options options = {
        .context = l->context, .parallel = l->parallel, .chunk_rows = o->chunk_rows};

    return rg_llm_attach(l, pipeline, &options, err);
}

static enum rg_code open_model(struct rg_llm *l, const struct rg_llm_options *o, struct rg_err *err)
{
    const struct rg_model_part part = rg_model_whole(&l->checkpoint->config);
    enum rg_code code = rg_backend_open(&l->backend, &o->backend, err);

    if (code == RG_OK)
        code = rg_model_open(&l->model, l->checkpoint, l->backend, &part, err);
    if (code == RG_OK)
        code = fit_context(l, o, err);
    if (code != RG_OK)
        return code;
    /* Weights that exceed the memory would push each other out: they come as they are needed. */
    if (l->checkpoint->total_bytes < rg_host_memory_bytes() / 10 * 9)
        code = rg_preload(l->checkpoint, &part, o->on_progress, o->ud, err);
    if (code == RG_OK)
        code = rg_tensor_set_check(l->checkpoint->tensors, err);
    return code ? code : open_engine(l, o, err);
}

/* All but what computes. */
static enum rg_code open_described(struct rg_llm *l, const struct rg_llm_options *o,
                                   const struct rg_checkpoint_options *how, struct rg_err *err)
{
    char *dir;
    enum rg_code code = rg_checkpoint_resolve(&dir, &l->name, o->model, o->registry, err);

    if (code != RG_OK)
        return code;
    code = rg_checkpoint_open(&l->checkpoint, dir, how, err);
    rg_free(dir);
    if (code == RG_OK)
        code = open_text(l, err);
    if (code == RG_OK)
        code = rg_generation_config_read(l, err);
    if (code == RG_OK)
        code = choose_context(l, o, err);
    return code;
}

static enum rg_code open_llm(struct rg_llm **out, const struct rg_llm_options *o, bool computes,
                             struct rg_err *err)
{
    static const struct rg_checkpoint_options text_only = {.headers_only = true, .may_lack = true};
    struct rg_llm *l = rg_calloc(1, sizeof(*l));
    enum rg_code code;

    *out = NULL;
    if (!l)
        return rg_fail(err, RG_E_NOMEM, "model: out of memory");
    code = open_described(l, o, computes ? &rg_checkpoint_mapped : &text_only, err);
    if (code == RG_OK && computes)
        code = open_model(l, o, err);
    if (code != RG_OK) {
        rg_llm_close(l);
        return code;
    }
    *out = l;
    return RG_OK;
}

enum rg_code rg_llm_open(struct rg_llm **out, const struct rg_llm_options *options,
                         struct rg_err *err)
{
    return open_llm(out, options, true, err);
}

enum rg_code rg_llm_open_text(struct rg_llm **out, const struct rg_llm_options *options,
                              struct rg_err *err)
{
    return open_llm(out, options, false, err);
}

enum rg_code rg_llm_attach(struct rg_llm *l, struct rg_pipeline *pipeline,
                           const struct rg_engine_options *options, struct rg_err *err)
{
    enum rg_code code;

    assert(!l->engine);
    code = rg_engine_open(&l->engine, pipeline, options, err);
    if (code != RG_OK)
        return code;
    l->context = options->context;
    l->parallel = options->parallel;
    return RG_OK;
}

void rg_llm_close(struct rg_llm *l)
{
    if (!l)
        return;
    rg_engine_close(l->engine);
    rg_model_close(l->model);
    rg_backend_close(l->backend);
    rg_chat_close(l->chat);
    rg_tokenizer_close(l->tokenizer);
    rg_checkpoint_close(l->checkpoint);
    rg_free(l->name);
    rg_free(l);
}
