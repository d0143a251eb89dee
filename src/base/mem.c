/* mem.c - the heap, counted.
 *
 * Counters are atomics without order: they are read only when nothing else runs. */
#include "base/mem.h"

#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

static atomic_llong live_blocks;
static atomic_llong n_allocations;
static atomic_llong first_failing = LLONG_MAX; /* LLONG_MAX: none */
static atomic_llong last_failing;

/* glibc would give every thread a heap of its own, and after the first large block is freed put the
 * next ones into those heaps, between small ones that stay.  The keys and values of plan after plan
 * then lie in heaps that never shrink: megabytes more with every loss of a node. */
void rg_mem_setup(void)
{
#ifdef __GLIBC__
    enum { HEAPS = 2, OF_ITS_OWN_BYTES = 256 << 10 };

    (void)mallopt(M_ARENA_MAX, HEAPS);
    (void)mallopt(M_MMAP_THRESHOLD, OF_ITS_OWN_BYTES);
#endif
}

void rg_mem_trim(void)
{
#ifdef __GLIBC__
    (void)malloc_trim(0);
#endif
}

/* True when this allocation is one that a test wants to see fail. */
static bool must_fail(void)
{
    const long long n = 1 + atomic_fetch_add_explicit(&n_allocations, 1, memory_order_relaxed);

    return n >= atomic_load_explicit(&first_failing, memory_order_relaxed) &&
           n <= atomic_load_explicit(&last_failing, memory_order_relaxed);
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

/* n: how many allocations from now the first failing one is; 0: none fails. */
static void fail_range(int64_t n, bool and_all_after)
{
    const long long first = n > 0 ? atomic_load(&n_allocations) + n : LLONG_MAX;

    atomic_store(&first_failing, LLONG_MAX);
    atomic_store(&last_failing, and_all_after ? LLONG_MAX - 1 : first);
    atomic_store(&first_failing, first);
}

void rg_mem_fail_at(int64_t n)
{
    fail_range(n, false);
}

void rg_mem_fail_from(int64_t n)
{
    fail_range(n, true);
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
