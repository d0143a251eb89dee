/* arena.c - chunks in a list; the current one is filled from its start. */
#include "base/arena.h"

#include <stdint.h>
#include <string.h>

#include "base/mem.h"

enum { ALIGNMENT = 64, CHUNK_BYTES_MIN = 64 << 10 };

struct rg_arena_chunk {
    struct rg_arena_chunk *next;
    size_t bytes; /* usable, after this header */
    size_t used;
};

enum { HEADER_BYTES = (sizeof(struct rg_arena_chunk) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT };

void rg_arena_init(struct rg_arena *a, size_t bytes_max)
{
    *a = (struct rg_arena){.bytes_max = bytes_max};
}

void rg_arena_reset(struct rg_arena *a)
{
    for (struct rg_arena_chunk *c = a->first; c; c = c->next)
        c->used = 0;
    a->current = a->first;
}

void rg_arena_free(struct rg_arena *a)
{
    struct rg_arena_chunk *c = a->first;

    while (c) {
        struct rg_arena_chunk *next = c->next;

        rg_free(c);
        c = next;
    }
    rg_arena_init(a, a->bytes_max);
}

static void *take(struct rg_arena_chunk *c, size_t bytes)
{
    if (c->bytes - c->used < bytes)
        return NULL;

    void *p = (char *)c + HEADER_BYTES + c->used;

    c->used += bytes;
    return p;
}

/* Appends a chunk that holds at least `bytes`, after the last one. */
static struct rg_arena_chunk *add_chunk(struct rg_arena *a, size_t bytes)
{
    size_t want = bytes > CHUNK_BYTES_MIN ? bytes : CHUNK_BYTES_MIN;

    /* Chunks grow with the arena, so that their number stays logarithmic. */
    if (want < a->bytes / 2)
        want = a->bytes / 2 / ALIGNMENT * ALIGNMENT;
    if (a->bytes_max) {
        const size_t left = a->bytes_max > a->bytes ? a->bytes_max - a->bytes : 0;

        if (bytes > left)
            return NULL;
        if (want > left)
            want = left;
    }

    struct rg_arena_chunk *c = rg_alloc_aligned(HEADER_BYTES + want, ALIGNMENT);

    if (!c)
        return NULL;
    *c = (struct rg_arena_chunk){.bytes = want};
    if (!a->first) {
        a->first = c;
    } else {
        struct rg_arena_chunk *last = a->current ? a->current : a->first;

        while (last->next)
            last = last->next;
        last->next = c;
    }
    a->bytes += want;
    return c;
}

void *rg_arena_alloc(struct rg_arena *a, size_t bytes)
{
    if (bytes > SIZE_MAX / 2)
        return NULL;
    bytes = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (bytes == 0)
        bytes = ALIGNMENT;
    for (; a->current; a->current = a->current->next) {
        void *p = take(a->current, bytes);

        if (p)
            return p;
        if (!a->current->next)
            break;
    }

    struct rg_arena_chunk *c = add_chunk(a, bytes);

    if (!c)
        return NULL;
    a->current = c;
    return take(c, bytes);
}

void *rg_arena_calloc(struct rg_arena *a, size_t count, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(count, size, &bytes))
        return NULL;

    void *p = rg_arena_alloc(a, bytes);

    if (p)
        memset(p, 0, bytes);
    return p;
}

char *rg_arena_strndup(struct rg_arena *a, const char *s, size_t n)
{
    char *copy = rg_arena_alloc(a, n + 1);

    if (!copy)
        return NULL;
    memcpy(copy, s, n);
    copy[n] = '\0';
    return copy;
}
