/* jinja_work.c - an arena in small pieces, and the budget of one rendering. */
#include "text/jinja_work.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
    ALIGNMENT = 16,
    BLOCK_BYTES = 16 << 10, /* small allocations are cut from blocks of this size */
    LARGE_BYTES = 2 << 10   /* larger ones get their own */
};

void rg_jwork_init(struct rg_jwork *w, size_t bytes_max, struct rg_err *err)
{
    *w = (struct rg_jwork){.err = err};
    rg_arena_init(&w->arena, bytes_max);
}

void rg_jwork_free(struct rg_jwork *w)
{
    rg_arena_free(&w->arena);
    w->at = NULL;
    w->left = 0;
}

static void *take(struct rg_jwork *w, size_t bytes)
{
    if (bytes > LARGE_BYTES)
        return rg_arena_calloc(&w->arena, 1, bytes);
    if (w->left < bytes) {
        char *block = rg_arena_alloc(&w->arena, BLOCK_BYTES);

        if (!block)
            return NULL;
        w->at = block;
        w->left = BLOCK_BYTES;
    }

    void *p = w->at;

    w->at += bytes;
    w->left -= bytes;
    memset(p, 0, bytes);
    return p;
}

void *rg_jalloc(struct rg_jwork *w, size_t bytes)
{
    void *p = NULL;

    if (bytes <= RG_JALLOC_MAX)
        p = take(w, (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
    if (!p)
        w->wanted = bytes;
    return p;
}

enum rg_code rg_jshort(struct rg_jwork *w)
{
    const size_t most = w->arena.bytes_max;

    /* A small allocation failed when its block did. */
    if (w->wanted > most || w->wanted + BLOCK_BYTES > most - w->arena.bytes)
        return rg_jfail(w, RG_E_LIMIT, "more than %zu MiB of memory", most >> 20);
    return rg_jfail(w, RG_E_NOMEM, "out of memory");
}

enum rg_code rg_jwork_spend(struct rg_jwork *w, size_t bytes)
{
    w->bytes += bytes;
    if (w->bytes > RG_JWORK_BYTES_MAX)
        return rg_jfail(w, RG_E_LIMIT, "works through more than %llu bytes",
                        (unsigned long long)RG_JWORK_BYTES_MAX);
    return RG_OK;
}

enum rg_code rg_jgrow(struct rg_jwork *w, void **items, uint32_t *capacity, size_t need,
                      size_t size)
{
    if (need <= *capacity)
        return RG_OK;

    size_t n = *capacity ? (size_t)*capacity * 2 : 4;

    if (n < need)
        n = need;
    if (n > UINT32_MAX / 2 || n > RG_JALLOC_MAX / size)
        return rg_jfail(w, RG_E_LIMIT, "a list grows over %zu items", RG_JALLOC_MAX / size);

    void *p = rg_jalloc(w, n * size);

    if (!p)
        return rg_jshort(w);
    if (*capacity)
        memcpy(p, *items, *capacity * size);
    *items = p;
    *capacity = (uint32_t)n;
    return RG_OK;
}

enum rg_code rg_jfail(struct rg_jwork *w, enum rg_code code, const char *format, ...)
{
    char line[RG_ERR_BYTES];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (w->line)
        return rg_fail(w->err, code, "chat template line %u: %s", w->line, line);
    return rg_fail(w->err, code, "chat template: %s", line);
}
