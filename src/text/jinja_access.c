/* jinja_access.c - a.b, a[b] and slices: data and the methods of the tables, nothing else. */
#include <stdlib.h>
#include <string.h>

#include "text/jinja_builtin.h"

static struct rg_jvalue undefined(const struct rg_jstr *name)
{
    return (struct rg_jvalue){.type = RG_J_UNDEFINED, .as.string = name};
}

/* ---- attributes ----------------------------------------------------------------------------- */

static struct rg_jvalue loop_attr(const struct rg_jloop *loop, const struct rg_jstr *name)
{
    const int64_t at = loop->at, n = loop->list->n;

    if (rg_jstr_is(name, "index"))
        return rg_jv_int(at + 1);
    if (rg_jstr_is(name, "index0"))
        return rg_jv_int(at);
    if (rg_jstr_is(name, "first"))
        return rg_jv_bool(at == 0);
    if (rg_jstr_is(name, "last"))
        return rg_jv_bool(at + 1 >= n);
    if (rg_jstr_is(name, "length"))
        return rg_jv_int(n);
    if (rg_jstr_is(name, "revindex"))
        return rg_jv_int(n - at);
    if (rg_jstr_is(name, "revindex0"))
        return rg_jv_int(n - at - 1);
    if (rg_jstr_is(name, "previtem") && at > 0)
        return loop->list->items[at - 1];
    if (rg_jstr_is(name, "nextitem") && at + 1 < n)
        return loop->list->items[at + 1];
    if (rg_jstr_is(name, "depth"))
        return rg_jv_int(1);
    if (rg_jstr_is(name, "depth0"))
        return rg_jv_int(0);
    return undefined(name);
}

static enum rg_code bind_method(struct rg_jrun *r, const struct rg_jmethod *m,
                                struct rg_jvalue object, struct rg_jvalue *out)
{
    struct rg_jbound *bound = rg_jalloc(&r->w, sizeof *bound);

    if (!bound)
        return rg_jshort(&r->w);
    *bound = (struct rg_jbound){.method = m, .object = object};
    *out = (struct rg_jvalue){.type = RG_J_METHOD, .as.method = bound};
    return RG_OK;
}

enum rg_code rg_jget_attr(struct rg_jrun *r, struct rg_jvalue a, const struct rg_jstr *name,
                          const struct rg_jmethod *method, struct rg_jvalue *out)
{
    const struct rg_jmethod *m = method ? rg_jmethod_for(method, a.type) : NULL;
    const struct rg_jvalue *v = NULL;

    if (a.type == RG_J_UNDEFINED)
        return rg_jundefined(r, a);
    if (m)
        return bind_method(r, m, a, out);
    if (a.type == RG_J_LOOP) {
        *out = loop_attr(a.as.loop, name);
        return RG_OK;
    }
    RG_TRY(rg_jwork_spend(&r->w, name->len));
    if (a.type == RG_J_DICT || a.type == RG_J_NAMESPACE)
        v = rg_jdict_get(a.as.dict, rg_jv_str(name));
    *out = v ? *v : undefined(name);
    return RG_OK;
}

/* ---- items ---------------------------------------------------------------------------------- */

static bool as_index(struct rg_jvalue key, int64_t *out)
{
    if (key.type != RG_J_INT && key.type != RG_J_BOOL)
        return false;
    *out = key.type == RG_J_INT ? key.as.integer : key.as.boolean;
    return true;
}

static enum rg_code item_of_sequence(struct rg_jrun *r, struct rg_jvalue a, int64_t i,
                                     struct rg_jvalue *out)
{
    int64_t n = 0;

    *out = rg_jv_undefined();
    RG_TRY(rg_jv_length(&r->w, a, &n));
    if (i < 0)
        i += n;
    if (i < 0 || i >= n)
        return RG_OK;
    if (a.type != RG_J_STRING) {
        *out = a.as.list->items[i];
        return RG_OK;
    }

    const struct rg_jstr *s = a.as.string;
    const size_t from = rg_jstr_offset(s, (size_t)i);

    RG_TRY(rg_jwork_spend(&r->w, s->chars == s->len ? 1 : from));
    size_t to = from + 1;

    while (to < s->len && ((unsigned char)rg_jstr_data(s)[to] & 0xC0) == 0x80)
        to++;
    return rg_jstr_cut(&r->w, s, from, to, out);
}

enum rg_code rg_jget_item(struct rg_jrun *r, struct rg_jvalue a, struct rg_jvalue key,
                          struct rg_jvalue *out)
{
    int64_t i;

    if (a.type == RG_J_UNDEFINED)
        return rg_jundefined(r, a);
    if (a.type == RG_J_DICT) {
        const struct rg_jvalue *v = rg_jdict_get(a.as.dict, key);

        if (key.type == RG_J_STRING)
            RG_TRY(rg_jwork_spend(&r->w, key.as.string->len));
        if (v) {
            *out = *v;
            return RG_OK;
        }
    }
    if (as_index(key, &i) && (a.type == RG_J_STRING || a.type == RG_J_LIST ||
                              a.type == RG_J_TUPLE || a.type == RG_J_VIEW))
        return item_of_sequence(r, a, i, out);
    *out = rg_jv_undefined();
    if (key.type != RG_J_STRING || key.as.string->len > 64)
        return RG_OK;

    /* Like jinja2, a['items'] falls back to the attribute when there is no such key. */
    char name[65];

    memcpy(name, rg_jstr_data(key.as.string), key.as.string->len);
    name[key.as.string->len] = '\0';
    return rg_jget_attr(r, a, key.as.string, rg_jmethod_find(name), out);
}

/* One step of a path such as "function.name" or "0". */
static enum rg_code path_step(struct rg_jrun *r, struct rg_jvalue a, struct rg_jvalue part,
                              struct rg_jvalue *out)
{
    const struct rg_jstr *s = part.as.string;
    int64_t i = 0;
    bool digits = s->len > 0 && s->len < 10;

    for (size_t k = 0; digits && k < s->len; k++) {
        const char c = rg_jstr_data(s)[k];

        digits = c >= '0' && c <= '9';
        i = i * 10 + (c - '0');
    }
    return rg_jget_item(r, a, digits ? rg_jv_int(i) : part, out);
}

enum rg_code rg_jget_path(struct rg_jrun *r, struct rg_jvalue a, struct rg_jvalue path,
                          struct rg_jvalue *out)
{
    if (path.type != RG_J_STRING)
        return rg_jget_item(r, a, path, out);

    const struct rg_jstr *s = path.as.string;
    size_t from = 0;

    *out = a;
    for (size_t at = 0; at <= s->len; at++) {
        struct rg_jvalue part;

        if (at < s->len && rg_jstr_data(s)[at] != '.')
            continue;
        RG_TRY(rg_jstr_cut(&r->w, s, from, at, &part));
        RG_TRY(path_step(r, *out, part, out));
        from = at + 1;
    }
    return RG_OK;
}

/* ---- slices --------------------------------------------------------------------------------- */

struct slice {
    int64_t start, stop, step;
};

/* Python's slice.indices(n). */
static enum rg_code resolve(struct rg_jrun *r, const struct rg_jvalue bounds[3], int64_t n,
                            struct slice *out)
{
    int64_t value[3] = {0, 0, 1};

    for (size_t i = 0; i < 3; i++)
        if (bounds[i].type != RG_J_NONE && !as_index(bounds[i], &value[i]))
            return rg_jfail(&r->w, RG_E_BAD_DATA, "%s in a slice", rg_jv_type_name(bounds[i]));
    if (value[2] == 0)
        return rg_jfail(&r->w, RG_E_BAD_DATA, "slice with step 0");

    const bool down = value[2] < 0;
    const int64_t least = down ? -1 : 0, most = down ? n - 1 : n;

    for (size_t i = 0; i < 2; i++) {
        int64_t *v = &value[i];

        if (bounds[i].type == RG_J_NONE) {
            *v = (i == 0) == down ? most : least;
            continue;
        }
        if (*v < 0)
            *v = *v < -n ? least : *v + n;
        else if (*v > most)
            *v = most;
    }
    *out = (struct slice){.start = value[0], .stop = value[1], .step = value[2]};
    return RG_OK;
}

/* The number of items of a slice. */
static int64_t slice_length(const struct slice *s)
{
    const uint64_t step = s->step < 0 ? 0 - (uint64_t)s->step : (uint64_t)s->step;
    const int64_t distance = s->step < 0 ? s->start - s->stop : s->stop - s->start;

    return distance <= 0 ? 0 : (int64_t)(((uint64_t)distance - 1) / step + 1);
}

static enum rg_code slice_string(struct rg_jrun *r, const struct rg_jstr *s,
                                 const struct slice *slice, struct rg_jvalue *out)
{
    struct rg_jlist *chars;
    struct rg_jtext *t;

    if (slice->step == 1) {
        const int64_t stop = slice->stop > slice->start ? slice->stop : slice->start;

        RG_TRY(rg_jwork_spend(&r->w, s->chars == s->len ? 0 : s->len));
        return rg_jstr_cut(&r->w, s, rg_jstr_offset(s, (size_t)slice->start),
                           rg_jstr_offset(s, (size_t)stop), out);
    }
    t = rg_jtext_new(&r->w, 0);
    if (!t)
        return rg_jshort(&r->w);
    RG_TRY(rg_jv_items(&r->w, rg_jv_str(s), &chars));

    const int64_t n = slice_length(slice);

    for (int64_t i = 0; i < n; i++)
        RG_TRY(rg_jtext_add_str(&r->w, t, chars->items[slice->start + i * slice->step].as.string));
    return rg_jtext_value(&r->w, t, out);
}

enum rg_code rg_jget_slice(struct rg_jrun *r, struct rg_jvalue a, const struct rg_jvalue bounds[3],
                           struct rg_jvalue *out)
{
    struct slice slice = {0};
    struct rg_jlist *l;
    int64_t length = 0;

    if (a.type == RG_J_UNDEFINED)
        return rg_jundefined(r, a);
    if (a.type != RG_J_STRING && a.type != RG_J_LIST && a.type != RG_J_TUPLE && a.type != RG_J_VIEW)
        return rg_jfail(&r->w, RG_E_BAD_DATA, "slice of %s", rg_jv_type_name(a));
    RG_TRY(rg_jv_length(&r->w, a, &length));
    RG_TRY(resolve(r, bounds, length, &slice));
    if (a.type == RG_J_STRING)
        return slice_string(r, a.as.string, &slice, out);

    const int64_t n = slice_length(&slice);

    l = rg_jlist_new(&r->w, (size_t)n);
    if (!l)
        return rg_jshort(&r->w);
    for (int64_t i = 0; i < n; i++)
        RG_TRY(rg_jlist_push(&r->w, l, a.as.list->items[slice.start + i * slice.step]));
    *out = rg_jv_list(a.type == RG_J_TUPLE ? RG_J_TUPLE : RG_J_LIST, l);
    return RG_OK;
}
