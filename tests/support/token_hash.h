/* token_hash.h - the language model of the engine's tests: the next token is a hash of all before.
 *
 * A wrong token, position, order or neighbour anywhere gives another next token. */
#ifndef TESTS_SUPPORT_TOKEN_HASH_H
#define TESTS_SUPPORT_TOKEN_HASH_H

#include <stdint.h>

enum { VOCAB = 97, POISON = 96 }; /* POISON: a token whose rows are not finite */

#define HASH_BEGIN 2166136261u

static inline uint32_t hash_on(uint32_t hash, int32_t token)
{
    return (hash ^ (uint32_t)token) * 16777619u;
}

static inline int32_t next_token(uint32_t hash)
{
    return (int32_t)((hash >> 7) % (VOCAB - 1));
}

#endif
