/* kv_blocks.h - which KV blocks are free: a stack of block numbers.
 *
 * The numbers mean the same block on every node; only the engine's thread hands them out. */
#ifndef RG_ENGINE_KV_BLOCKS_H
#define RG_ENGINE_KV_BLOCKS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct rg_kv_blocks {
    uint32_t *free; /* owned [n_total]; the first n_free are free block numbers */
    uint32_t n_free;
    uint32_t n_total;
    uint32_t block_tokens;
};

RG_CHECKED enum rg_code rg_kv_blocks_init(struct rg_kv_blocks *b, uint32_t n_total,
                                          uint32_t block_tokens, struct rg_err *err);
void rg_kv_blocks_free(struct rg_kv_blocks *b);

/* Blocks that hold this many positions. */
uint32_t rg_kv_blocks_for(const struct rg_kv_blocks *b, uint32_t positions);

/* All n numbers into `blocks`, or false and nothing is taken. */
RG_CHECKED bool rg_kv_blocks_take(struct rg_kv_blocks *b, uint32_t n, uint32_t *blocks);
void rg_kv_blocks_give(struct rg_kv_blocks *b, const uint32_t *blocks, uint32_t n);

#endif
