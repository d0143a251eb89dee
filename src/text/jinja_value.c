/* jinja_value.c - lists, and dicts in order of insertion. */
#include "text/jinja_value.h"

#include <string.h>

enum { INDEX_FROM = 8 }; /* a dict with more pairs than this has a hash table */

/* ---- lists ---------------------------------------------------------------------------------- */

struct rg_jlist *rg_jlist_new(struct rg_jwork *w, size_t reserve)
{
    struct rg_jlist *l = rg_jalloc(w, sizeof *l);

    if (!l || reserve == 0)
        return l;
    if (reserve > RG_JALLOC_MAX / sizeof *l->items)
        return NULL;
    l->items = rg_jalloc(w, reserve * sizeof *l->items);
    if (!l->items)
        return NULL;
    l->capacity = (uint32_t)reserve;
    return l;
}

enum rg_code rg_jlist_push(struct rg_jwork *w, struct rg_jlist *l, struct rg_jvalue v)
{
    void *items = l->items;

    RG_TRY(rg_jwork_spend(w, sizeof v));
    RG_TRY(rg_jgrow(w, &items, &l->capacity, (size_t)l->n + 1, sizeof *l->items));
    l->items = items;
    l->items[l->n++] = v;
    return RG_OK;
}

/* ---- dicts ---------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t h)
{
    h ^= h >> 33;
    h *= UINT64_C(0xff51afd7ed558ccd);
    h ^= h >> 33;
    return h;
}

static uint64_t hash_bytes(const char *p, size_t n)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)p[i]) * UINT64_C(0x100000001b3);
    return mix(h);
}

/* True for a float that is a whole number within int64: Python gives it that integer's hash. */
static bool whole_number(double d, int64_t *out)
{
    if (!(d >= -9223372036854775808.0 && d < 9223372036854775808.0))
        return false;
    *out = (int64_t)d;
    return !((double)*out < d) && !((double)*out > d);
}

/* False for types that Python cannot hash. */
static bool hash(struct rg_jvalue v, uint64_t *out)
{
    int64_t i = 0;
    uint64_t bits = 0;

    switch (v.type) {
    case RG_J_UNDEFINED:
    case RG_J_NONE:
        *out = (uint64_t)v.type;
        return true;
    case RG_J_BOOL:
        *out = mix(v.as.boolean);
        return true;
    case RG_J_INT:
        *out = mix((uint64_t)v.as.integer);
        return true;
    case RG_J_FLOAT:
        if (whole_number(v.as.number, &i)) {
            *out = mix((uint64_t)i);
            return true;
        }
        memcpy(&bits, &v.as.number, sizeof bits);
        *out = mix(bits);
        return true;
    case RG_J_STRING:
    case RG_J_BIGINT:
        *out = hash_bytes(rg_jstr_data(v.as.string), v.as.string->len);
        return true;
    case RG_J_TUPLE:
        *out = 7;
        for (uint32_t k = 0; k < v.as.list->n; k++) {
            if (!hash(v.as.list->items[k], &bits))
                return false;
            *out = mix(*out * 31 + bits);
        }
        return true;
    default:
        return false;
    }
}

/* Keys are scalars or tuples of such, so that comparing them needs no budget. */
static bool same_key(struct rg_jvalue a, struct rg_jvalue b)
{
    struct rg_jwork scratch = {.err = NULL};
    bool same = false;

    if (a.type == RG_J_STRING && b.type == RG_J_STRING)
        return rg_jstr_equal(a.as.string, b.as.string);
    return rg_jv_equal(&scratch, a, b, &same) == RG_OK && same;
}

static void index_put(struct rg_jdict *d, uint32_t pair)
{
    uint64_t h = 0;

    (void)hash(d->pairs[pair].key, &h);
    for (uint32_t i = (uint32_t)h & (d->index_size - 1);; i = (i + 1) & (d->index_size - 1)) {
        if (d->index[i] == 0) {
            d->index[i] = pair + 1;
            return;
        }
    }
}

static enum rg_code index_build(struct rg_jwork *w, struct rg_jdict *d)
{
    uint32_t size = 32;

    d->index = NULL;
    if (d->n <= INDEX_FROM)
        return RG_OK;
    while (size < d->n * 4)
        size *= 2;

    uint32_t *index = rg_jalloc(w, size * sizeof *index);

    if (!index)
        return rg_jshort(w);
    d->index = index;
    d->index_size = size;
    for (uint32_t i = 0; i < d->n; i++)
        index_put(d, i);
    return RG_OK;
}

struct rg_jdict *rg_jdict_new(struct rg_jwork *w)
{
    return rg_jalloc(w, sizeof(struct rg_jdict));
}

struct rg_jvalue *rg_jdict_get(const struct rg_jdict *d, struct rg_jvalue key)
{
    uint64_t h = 0;

    if (!hash(key, &h))
        return NULL;
    if (!d->index) {
        for (uint32_t i = 0; i < d->n; i++)
            if (same_key(d->pairs[i].key, key))
                return &d->pairs[i].value;
        return NULL;
    }
    for (uint32_t i = (uint32_t)h & (d->index_size - 1);; i = (i + 1) & (d->index_size - 1)) {
        if (d->index[i] == 0)
            return NULL;
        if (same_key(d->pairs[d->index[i] - 1].key, key))
            return &d->pairs[d->index[i] - 1].value;
    }
}

struct rg_jvalue *rg_jdict_get_text(const struct rg_jdict *d, const char *key)
{
    const struct rg_jmark mark = {0};
    const size_t n = strlen(key);
    struct rg_jmark marks[1] = {mark};
    struct rg_jtext text = {.data = key, .len = n, .marks = marks, .n_marks = 1};
    const struct rg_jstr s = {.text = &text, .len = n, .chars = n};

    return rg_jdict_get(d, rg_jv_str(&s));
}

enum rg_code rg_jdict_set(struct rg_jwork *w, struct rg_jdict *d, struct rg_jvalue key,
                          struct rg_jvalue value)
{
    struct rg_jvalue *old = rg_jdict_get(d, key);
    uint64_t h;
    void *pairs = d->pairs;

    if (old) {
        *old = value;
        return RG_OK;
    }
    if (!hash(key, &h))
        return rg_jfail(w, RG_E_BAD_DATA, "%s cannot be a key", rg_jv_type_name(key));
    RG_TRY(rg_jwork_spend(w, sizeof *d->pairs));
    RG_TRY(rg_jgrow(w, &pairs, &d->capacity, (size_t)d->n + 1, sizeof *d->pairs));
    d->pairs = pairs;
    d->pairs[d->n++] = (struct rg_jpair){.key = key, .value = value};
    if (d->n <= INDEX_FROM)
        return RG_OK;
    if (!d->index || d->n * 2 > d->index_size)
        return index_build(w, d);
    index_put(d, d->n - 1);
    return RG_OK;
}

enum rg_code rg_jdict_set_text(struct rg_jwork *w, struct rg_jdict *d, const char *key,
                               struct rg_jvalue value)
{
    const struct rg_jstr *s = rg_jstr_copy(w, key, strlen(key), false);

    if (!s)
        return rg_jshort(w);
    return rg_jdict_set(w, d, rg_jv_str(s), value);
}

enum rg_code rg_jdict_remove(struct rg_jwork *w, struct rg_jdict *d, struct rg_jvalue key)
{
    struct rg_jvalue *value = rg_jdict_get(d, key);

    if (!value)
        return RG_OK;
    RG_TRY(rg_jwork_spend(w, d->n * sizeof *d->pairs));
    for (uint32_t i = 0; i < d->n; i++) {
        if (&d->pairs[i].value != value)
            continue;
        memmove(&d->pairs[i], &d->pairs[i + 1], (d->n - i - 1) * sizeof *d->pairs);
        break;
    }
    d->n--;
    return index_build(w, d);
}
