/* kv_blocks.c - the stack of free block numbers. */
#include "engine/kv_blocks.h"

#include <assert.h>

#include "base/mem.h"

enum rg_code rg_kv_blocks_init(struct rg_kv_blocks *b, uint32_t n_total, uint32_t block_tokens,
                               struct rg_err *err)
{
    assert(block_tokens > 0);
    *b = (struct rg_kv_blocks){.n_total = n_total, .n_free = n_total, .block_tokens = block_tokens};
    b->free = rg_calloc(n_total > 0 ? n_total : 1, sizeof(*b->free));
    if (!b->free)
        return rg_fail(err, RG_E_NOMEM, "engine: no memory for %u block numbers", n_total);
    /* The lowest number on top, so that a single sequence stays in the first pages. */
    for (uint32_t i = 0; i < n_total; i++)
        b->free[i] = n_total - 1 - i;
    return RG_OK;
}

void rg_kv_blocks_free(struct rg_kv_blocks *b)
{
    rg_free(b->free);
    *b = (struct rg_kv_blocks){0};
}

uint32_t rg_kv_blocks_for(const struct rg_kv_blocks *b, uint32_t positions)
{
    return positions / b->block_tokens + (positions % b->block_tokens != 0);
}

bool rg_kv_blocks_take(struct rg_kv_blocks *b, uint32_t n, uint32_t *blocks)
{
    if (n > b->n_free)
        return false;
    for (uint32_t i = 0; i < n; i++)
        blocks[i] = b->free[--b->n_free];
    return true;
}

void rg_kv_blocks_give(struct rg_kv_blocks *b, const uint32_t *blocks, uint32_t n)
{
    assert(n <= b->n_total - b->n_free);
    for (uint32_t i = n; i > 0; i--)
        b->free[b->n_free++] = blocks[i - 1];
}
