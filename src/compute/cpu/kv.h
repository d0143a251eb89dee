/* kv.h - where the keys and values of a layer lie.
 *
 * Of every layer: keys [block][head][token][key_cols], then values likewise, f16 or f32.  Memory is
 * touched only when a block is first written. */
#ifndef RG_COMPUTE_CPU_KV_H
#define RG_COMPUTE_CPU_KV_H

#include <stdbool.h>

#include "compute/cpu/backend.h"

struct rg_kv_layer {
    struct rg_kv_layer_spec spec;
    uint8_t *keys, *values; /* owned */
};

struct rg_kv {
    struct rg_kv_layer *layers; /* owned */
    uint32_t n_layers, n_blocks, block_tokens;
    bool f32;
};

/* Bytes of the keys (or values) of a position range are found by this: where token `slot` of a
 * block begins for a head. */
static inline size_t rg_kv_offset(const struct rg_kv *kv, const struct rg_kv_layer *layer,
                                  uint32_t block, uint32_t head, uint32_t slot)
{
    return ((size_t)block * layer->spec.n_heads + head) * kv->block_tokens + slot;
}

/* Floats that attention needs per thread for this layer. */
size_t rg_attention_scratch(const struct rg_kv_layer_spec *spec);

#endif
