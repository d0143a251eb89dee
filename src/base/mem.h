/* mem.h - the only door to the heap.
 *
 * Failure    Every call returns NULL when memory is short; nothing here exits.
 * Threads    Any.
 * Counting   rg_mem_live() is the number of blocks now allocated; tests assert that it returns to
 *            its baseline.  rg_mem_fail_at(n) makes the n-th allocation from now fail once (torture
 *            tests). */
#ifndef RG_BASE_MEM_H
#define RG_BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

RG_CHECKED void *rg_alloc(size_t bytes);
RG_CHECKED void *rg_calloc(size_t count, size_t size);                 /* overflow checked */
RG_CHECKED void *rg_realloc(void *p, size_t bytes);                    /* p survives a failure */
RG_CHECKED void *rg_realloc_array(void *p, size_t count, size_t size); /* overflow checked */
RG_CHECKED void *rg_alloc_aligned(size_t bytes, size_t alignment);     /* rg_free() frees it */
RG_CHECKED char *rg_strdup(const char *s);
RG_CHECKED char *rg_strndup(const char *s, size_t n); /* adds the NUL */
void rg_free(void *p);                                /* accepts NULL */

int64_t rg_mem_live(void);
void rg_mem_fail_at(int64_t n); /* 1 = the next one; 0 = never */
int64_t rg_mem_count(void);     /* allocations since start */

/* Grows an array geometrically so that it holds at least `need` items of `size` bytes.
 * *items and *capacity change only on success. */
RG_CHECKED enum rg_code rg_grow(void **items, size_t *capacity, size_t need, size_t size,
                                struct rg_err *err);

#endif
