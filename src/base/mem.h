/* mem.h - the only door to the heap.
 *
 * Failure    Every call returns NULL when memory is short; nothing here exits.
 * Threads    Any.
 * Counting   rg_mem_live() is the number of blocks now allocated; tests assert that it returns to
 *            its baseline.
 * Torture    rg_mem_fail_at() and rg_mem_fail_from() are for test programs: no flag and no variable
 *            of the environment reaches them. */
#ifndef RG_BASE_MEM_H
#define RG_BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Once, before the first thread: what is freed goes back to the system, see mem.c. */
void rg_mem_setup(void);
/* Whole pages that are free inside the heaps go back too: 10 ms for 40 MB, the heaps locked. */
void rg_mem_trim(void);

RG_CHECKED void *rg_alloc(size_t bytes);
RG_CHECKED void *rg_calloc(size_t count, size_t size);                 /* overflow checked */
RG_CHECKED void *rg_realloc(void *p, size_t bytes);                    /* p survives a failure */
RG_CHECKED void *rg_realloc_array(void *p, size_t count, size_t size); /* overflow checked */
RG_CHECKED void *rg_alloc_aligned(size_t bytes, size_t alignment);     /* rg_free() frees it */
RG_CHECKED char *rg_strdup(const char *s);
RG_CHECKED char *rg_strndup(const char *s, size_t n); /* adds the NUL */
void rg_free(void *p);                                /* accepts NULL */

int64_t rg_mem_live(void);
int64_t rg_mem_count(void); /* allocations since start */

/* Counted over all threads, from now: 1 is the next one, 0 is none. */
void rg_mem_fail_at(int64_t n);   /* the n-th one fails, once */
void rg_mem_fail_from(int64_t n); /* the n-th one and all after it, until another call */

/* Grows an array geometrically so that it holds at least `need` items of `size` bytes.
 * *items and *capacity change only on success. */
RG_CHECKED enum rg_code rg_grow(void **items, size_t *capacity, size_t need, size_t size,
                                struct rg_err *err);

#endif
