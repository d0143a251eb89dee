/* arena.h - memory that is freed all at once.
 *
 * Blocks are 64-byte aligned when asked for with rg_arena_alloc().  rg_arena_reset() keeps the
 * chunks, so a loop that resets its arena stops allocating after the first rounds.
 * Threads    One at a time. */
#ifndef RG_BASE_ARENA_H
#define RG_BASE_ARENA_H

#include <stddef.h>

#include "base/err.h"

struct rg_arena_chunk;

struct rg_arena {
    struct rg_arena_chunk *first;   /* owned list, in order of use                 */
    struct rg_arena_chunk *current; /* the chunk that is being filled              */
    size_t bytes_max;               /* limit on the sum of all chunks; 0 = no limit */
    size_t bytes;                   /* sum of all chunks                           */
};

void rg_arena_init(struct rg_arena *a, size_t bytes_max);
void rg_arena_reset(struct rg_arena *a); /* everything handed out is dead; chunks stay */
void rg_arena_free(struct rg_arena *a);  /* everything handed out is dead; chunks go   */

RG_CHECKED void *rg_arena_alloc(struct rg_arena *a, size_t bytes); /* NULL when short */
RG_CHECKED void *rg_arena_calloc(struct rg_arena *a, size_t count, size_t size);
RG_CHECKED char *rg_arena_strndup(struct rg_arena *a, const char *s, size_t n); /* adds the NUL */

#endif
