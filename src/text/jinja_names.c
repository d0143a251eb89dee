/* jinja_names.c - the names of a template, each with a number. */
#include <string.h>

#include "text/jinja_ast.h"

enum { NAMES_MAX = 1 << 16 };

static uint64_t hash_name(const char *p, size_t n)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)p[i]) * UINT64_C(0x100000001b3);
    return h ^ (h >> 29);
}

/* The slot of the index where a name is or would be. */
static uint32_t name_slot(const struct rg_jinja *t, const char *p, size_t n, uint64_t h)
{
    uint32_t slot = (uint32_t)h & (t->index_size - 1);

    for (; t->index[slot]; slot = (slot + 1) & (t->index_size - 1)) {
        const struct rg_jname *name = &t->names[t->index[slot] - 1];

        if (name->hash == h && name->string->len == n && memcmp(name->text, p, n) == 0)
            break;
    }
    return slot;
}

static enum rg_code name_index_grow(struct rg_jinja *t)
{
    const uint32_t size = t->index_size ? t->index_size * 2 : 256;
    uint32_t *index;

    if (t->index_size > t->n_names * 2)
        return RG_OK;
    index = rg_jalloc(&t->work, size * sizeof *index);
    if (!index)
        return rg_jshort(&t->work);
    t->index = index;
    t->index_size = size;
    for (uint32_t i = 0; i < t->n_names; i++) {
        const struct rg_jname *name = &t->names[i];

        t->index[name_slot(t, name->text, name->string->len, name->hash)] = i + 1;
    }
    return RG_OK;
}

enum rg_code rg_jname_add(struct rg_jinja *t, const char *p, size_t n, uint32_t *out)
{
    const uint64_t h = hash_name(p, n);
    void *names = t->names;

    RG_TRY(name_index_grow(t));

    const uint32_t slot = name_slot(t, p, n, h);

    if (t->index[slot]) {
        *out = t->index[slot] - 1;
        return RG_OK;
    }
    if (t->n_names == NAMES_MAX)
        return rg_jfail(&t->work, RG_E_LIMIT, "more than %d names", NAMES_MAX);
    RG_TRY(
        rg_jgrow(&t->work, &names, &t->names_capacity, (size_t)t->n_names + 1, sizeof *t->names));
    t->names = names;

    const struct rg_jstr *s = rg_jstr_copy(&t->work, p, n, true);

    if (!s)
        return rg_jshort(&t->work);
    t->names[t->n_names] = (struct rg_jname){.string = s, .text = rg_jstr_data(s), .hash = h};
    t->index[slot] = ++t->n_names;
    *out = t->n_names - 1;
    return RG_OK;
}
