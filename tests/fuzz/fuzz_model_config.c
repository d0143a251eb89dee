/* fuzz_model_config.c - checkpoint/model_config: any bytes give a config within the limits or an
 * error, and nothing leaks. */
#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/mem.h"
#include "checkpoint/model_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint64_t sink;

/* Asserts take the numbers as they are used later: as sizes, divisors and indices. */
static void check(const struct rg_model_config *c)
{
    assert(c->num_hidden_layers > 0 && c->num_hidden_layers <= RG_LIMIT_LAYERS);
    assert(c->hidden_size > 0 && c->hidden_size <= RG_LIMIT_DIM);
    assert(c->vocab_size > 0 && c->vocab_size <= RG_LIMIT_VOCAB);
    assert(c->intermediate_size <= RG_LIMIT_DIM && c->moe_intermediate_size <= RG_LIMIT_DIM);
    assert(c->num_attention_heads > 0 && c->num_attention_heads <= RG_LIMIT_HEADS);
    assert(c->num_key_value_heads > 0 && c->num_key_value_heads <= RG_LIMIT_HEADS);
    if (c->kv_lora_rank == 0) /* MLA has no use for the number */
        assert(c->num_attention_heads % c->num_key_value_heads == 0);
    assert(c->max_position_embeddings <= RG_LIMIT_CONTEXT);
    assert(c->n_routed_experts <= RG_LIMIT_EXPERTS);
    assert(c->num_experts_per_tok <= c->n_routed_experts || c->n_routed_experts == 0);
    assert(c->rope.dims % 2 == 0 && isfinite(c->rope.theta) && isfinite(c->attention_scale));
    assert(c->n_eos_token_ids <= sizeof c->eos_token_ids / sizeof c->eos_token_ids[0]);
    assert(c->bos_token_id >= -1);
    for (uint32_t i = 0; i < c->rope.n_long_factor; i++)
        assert(isfinite(c->rope.long_factor[i]));
    for (uint32_t i = 0; i < c->num_hidden_layers; i++)
        sink += (uint64_t)rg_model_layer_is_moe(c, i) + rg_model_layer_is_sliding(c, i);
    for (uint32_t i = 0; i < c->quant.n_entries; i++)
        assert(rg_quant_find(&c->quant, c->quant.entries[i].path) != NULL);
    assert(!rg_quant_find(&c->quant, "no module has this name\n"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rg_model_config c = {0};
    struct rg_err          err = {0};
    const int64_t          live = rg_mem_live();

    if (rg_model_config_parse(&c, (const char *)data, size, "config.json", &err) == RG_OK) {
        check(&c);
        rg_model_config_free(&c);
    } else {
        assert(err.message[0]);
    }
    assert(rg_mem_live() == live);
    return 0;
}
