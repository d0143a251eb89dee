/* uv_heap.c - the four functions that libuv allocates with. */
#include "cli/uv_heap.h"

#include <stdatomic.h>
#include <string.h>

#include <uv.h>

#include "base/mem.h"

/* libuv rounds the number of descriptors up to a power of two. */
static void *table[RG_UV_FILES];
static atomic_flag table_is_taken = ATOMIC_FLAG_INIT;

/* The only caller in a loop is the growing of its table. */
static void *uv_heap_realloc(void *p, size_t n)
{
    void *grown;

    if (p == table && n <= sizeof table)
        return table;
    if (!p && n <= sizeof table && !atomic_flag_test_and_set(&table_is_taken))
        return memset(table, 0, sizeof table);
    if (p != table)
        return rg_realloc(p, n);
    grown = rg_alloc(n);
    if (grown) {
        memcpy(grown, table, sizeof table);
        atomic_flag_clear(&table_is_taken);
    }
    return grown;
}

static void uv_heap_free(void *p)
{
    if (p == table)
        atomic_flag_clear(&table_is_taken);
    else
        rg_free(p);
}

void rg_uv_use_our_heap(void)
{
    /* The only failure is a missing function. */
    (void)uv_replace_allocator(rg_alloc, uv_heap_realloc, rg_calloc, uv_heap_free);
}
