/* token_map.h - the two hash tables of a vocabulary: bytes to id, and pair of ids to merge.
 *
 * Both use open addressing at a load of at most a half and a hash with a random seed, so that a
 * crafted vocabulary cannot make them slow.
 * Lifetime   The bytes of a token map's keys are in a buffer that the owner of the map holds.
 * Threads    Immutable once filled. */
#ifndef RG_TEXT_TOKEN_MAP_H
#define RG_TEXT_TOKEN_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* Bytes [at, at + len) of the buffer that belongs to the map. */
struct rg_token_slot {
    uint32_t hash;
    uint32_t at, len;
    int32_t  id; /* -1: the slot is free */
};

struct rg_token_map {
    const struct rg_buf  *bytes; /* borrowed: where the keys are */
    struct rg_token_slot *slots; /* owned */
    size_t                n_slots; /* a power of two, or 0 */
    size_t                count;
    uint32_t              len_max; /* of the longest key */
    uint64_t              seed;
};

void rg_token_map_init(struct rg_token_map *m, const struct rg_buf *bytes);
void rg_token_map_free(struct rg_token_map *m);

/* Adds bytes [at, at + len) of the buffer.  RG_E_BAD_DATA when they are there already. */
RG_CHECKED enum rg_code rg_token_map_add(struct rg_token_map *m, uint32_t at, uint32_t len,
                                         int32_t id, struct rg_err *err);
int32_t rg_token_map_find(const struct rg_token_map *m, const char *p, size_t n); /* -1: none */

struct rg_pair_slot {
    int32_t  left, right; /* left -1: the slot is free */
    uint32_t rank;
    int32_t  id; /* of the merged token */
};

struct rg_pair_map {
    struct rg_pair_slot *slots; /* owned */
    size_t               n_slots;
    size_t               count;
    uint64_t             seed;
};

void rg_pair_map_init(struct rg_pair_map *m);
void rg_pair_map_free(struct rg_pair_map *m);

/* A pair that comes again takes the later rank, as in Hugging Face's tokenizers. */
RG_CHECKED enum rg_code rg_pair_map_add(struct rg_pair_map *m, const struct rg_pair_slot *pair,
                                        struct rg_err *err);
const struct rg_pair_slot *rg_pair_map_find(const struct rg_pair_map *m, int32_t left,
                                            int32_t right); /* NULL: none */

#endif
