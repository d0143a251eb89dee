/* mem.c - the heap, counted.
 *
 * Counters are atomics without order: they are read only when nothing else runs. */
#include "base/mem.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static atomic_llong live_blocks;
static atomic_llong n_allocations;
static atomic_llong fail_countdown; /* 0: never */

/* True when this allocation is the one that a test wants to see fail. */
static bool must_fail(void)
{
    atomic_fetch_add_explicit(&n_allocations, 1, memory_order_relaxed);
    if (atomic_load_explicit(&fail_countdown, memory_order_relaxed) == 0)
        return false;
    return atomic_fetch_sub_explicit(&fail_countdown, 1, memory_order_relaxed) == 1;
}

static void *counted(void *p)
{
    if (p)
        atomic_fetch_add_explicit(&live_blocks, 1, memory_order_relaxed);
    return p;
}

void *rg_alloc(size_t bytes)
{
    if (must_fail())
        return NULL;
    return counted(malloc(bytes ? bytes : 1));
}

void *rg_calloc(size_t count, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(count, size, &bytes) || bytes > PTRDIFF_MAX || must_fail())
        return NULL;
    return counted(calloc(1, bytes ? bytes : 1));
}

void *rg_realloc(void *p, size_t bytes)
{
    if (!p)
        return rg_alloc(bytes);
    if (must_fail())
        return NULL;
    return realloc(p, bytes ? bytes : 1);
}

void *rg_realloc_array(void *p, size_t count, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(count, size, &bytes) || bytes > PTRDIFF_MAX)
        return NULL;
    return rg_realloc(p, bytes);
}

void *rg_alloc_aligned(size_t bytes, size_t alignment)
{
    void *p = NULL;

    if (must_fail())
        return NULL;
    if (posix_memalign(&p, alignment, bytes ? bytes : 1) != 0)
        return NULL;
    return counted(p);
}

char *rg_strdup(const char *s)
{
    return rg_strndup(s, strlen(s));
}

char *rg_strndup(const char *s, size_t n)
{
    char *copy = rg_alloc(n + 1);

    if (!copy)
        return NULL;
    memcpy(copy, s, n);
    copy[n] = '\0';
    return copy;
}

void rg_free(void *p)
{
    if (!p)
        return;
    atomic_fetch_sub_explicit(&live_blocks, 1, memory_order_relaxed);
    free(p);
}

int64_t rg_mem_live(void)
{
    return atomic_load_explicit(&live_blocks, memory_order_relaxed);
}

void rg_mem_fail_at(int64_t n)
{
    atomic_store_explicit(&fail_countdown, n, memory_order_relaxed);
}

int64_t rg_mem_count(void)
{
    return atomic_load_explicit(&n_allocations, memory_order_relaxed);
}

enum rg_code rg_grow(void **items, size_t *capacity, size_t need, size_t size, struct rg_err *err)
{
    if (need <= *capacity)
        return RG_OK;

    size_t want = *capacity ? *capacity : 16;

    while (want < need) {
        if (want > SIZE_MAX / 2)
            return rg_fail(err, RG_E_NOMEM, "out of memory: %zu items of %zu bytes", need, size);
        want *= 2;
    }

    void *grown = rg_realloc_array(*items, want, size);

    if (!grown)
        return rg_fail(err, RG_E_NOMEM, "out of memory: %zu items of %zu bytes", want, size);
    *items = grown;
    *capacity = want;
    return RG_OK;
}
