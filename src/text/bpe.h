/* bpe.h - byte-pair encoding of one piece of text.
 *
 * Merging    Begin with single bytes; again and again join the adjacent pair of lowest rank,
 *            leftmost on ties.  A vocabulary is one of two kinds: with a list of merges (Hugging
 *            Face), or with ranks alone (tiktoken), where any two neighbours may merge whose bytes
 *            together are a token, the rank being its id.
 * Cost       O(n log n) in the piece's bytes.
 * Threads    struct rg_bpe is immutable once filled; a scratch belongs to one caller. */
#ifndef RG_TEXT_BPE_H
#define RG_TEXT_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "text/token_map.h"
#include "text/tokenizer.h"

struct rg_bpe {
    struct rg_token_map tokens;
    struct rg_pair_map  pairs;       /* empty when by_rank */
    bool                by_rank;     /* tiktoken */
    bool                whole_first; /* a piece that is a token is never merged otherwise */
    int32_t             byte_ids[256]; /* -1: no token; such a byte is dropped */
    uint8_t            *closed;      /* owned, bit per id: merging its bytes gives the token */
};

struct rg_bpe_symbol {
    int32_t  id;
    uint32_t len;        /* 0: merged into its left neighbour */
    uint32_t prev, next; /* UINT32_MAX: none */
    uint32_t rank;       /* of merging with the next one, UINT32_MAX: may not */
    int32_t  joined;     /* what that gives */
};

struct rg_bpe_scratch {
    struct rg_bpe_symbol *symbols; /* owned */
    size_t                symbols_capacity;
    uint64_t             *heap; /* owned; possible merges as rank << 32 | symbol */
    size_t                heap_capacity;
    size_t                n_heap;
};

void rg_bpe_init(struct rg_bpe *b, const struct rg_buf *bytes);
void rg_bpe_free(struct rg_bpe *b);
void rg_bpe_scratch_free(struct rg_bpe_scratch *s);

/* Call once, when all tokens and merges are in: fills byte_ids and closed. */
RG_CHECKED enum rg_code rg_bpe_finish(struct rg_bpe *b, uint32_t vocab_size, struct rg_err *err);

/* Appends the ids of one piece, n < 2^31. */
RG_CHECKED enum rg_code rg_bpe_encode(const struct rg_bpe *b, struct rg_bpe_scratch *s,
                                      const char *piece, size_t n, struct rg_ids *out,
                                      struct rg_err *err);

RG_CHECKED enum rg_code rg_ids_add(struct rg_ids *ids, int32_t id, struct rg_err *err);

#endif
