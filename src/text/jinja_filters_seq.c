/* jinja_filters_seq.c - filters over sequences: map, select, sort, join and their like. */
#include <stdlib.h>
#include <string.h>

#include "text/jinja_filters.h"

static enum rg_code new_list(struct rg_jrun *r, struct rg_jlist **out)
{
    *out = rg_jlist_new(&r->w, 0);
    return *out ? RG_OK : rg_jshort(&r->w);
}

/* What jinja2 gives as a generator. */
static enum rg_code walk_once(struct rg_jrun *r, struct rg_jlist *l, struct rg_jvalue *out)
{
    struct rg_jiter *iter = rg_jalloc(&r->w, sizeof *iter);

    if (!iter)
        return rg_jshort(&r->w);
    iter->list = l;
    *out = (struct rg_jvalue){.type = RG_J_ITER, .as.iter = iter};
    return RG_OK;
}

/* ---- parts of sequences --------------------------------------------------------------------- */

enum rg_code rg_jfilter_first(struct rg_jrun *r, struct rg_jvalue in, struct rg_jargs *args,
                              struct rg_jvalue *out)
{
    struct rg_jlist *l;

    (void)args;
    if (in.type == RG_J_STRING)
        return rg_jget_item(r, in, rg_jv_int(0), out);
    if (in.type == RG_J_ITER) {
        *out = rg_jv_undefined();
        if (in.as.iter->at < in.as.iter->list->n)
            *out = in.as.iter->list->items[in.as.iter->at++];
        return RG_OK;
    }
    RG_TRY(rg_jv_items(&r->w, in, &l));
    *out = l->n ? l->items[0] : rg_jv_undefined();
    return RG_OK;
}

enum rg_code rg_jfilter_last(struct rg_jrun *r, struct rg_jvalue in, struct rg_jargs *args,
                             struct rg_jvalue *out)
{
    struct rg_jlist *l;

    (void)args;
    if (in.type == RG_J_STRING)
        return rg_jget_item(r, in, rg_jv_int(-1), out);
    if (in.type == RG_J_ITER)
        return rg_jfail(&r->w, RG_E_BAD_DATA, "last of a generator");
    RG_TRY(rg_jv_items(&r->w, in, &l));
    *out = l->n ? l->items[l->n - 1] : rg_jv_undefined();
    return RG_OK;
}

enum rg_code rg_jfilter_list(struct rg_jrun *r, struct rg_jvalue in, struct rg_jargs *args,
                             struct rg_jvalue *out)
{
    struct rg_jlist *from, *l;

    (void)args;
    RG_TRY(rg_jv_items(&r->w, in, &from));
    RG_TRY(new_list(r, &l));
    for (uint32_t i = 0; i < from->n; i++)
        RG_TRY(rg_jlist_push(&r->w, l, from->items[i]));
    *out = rg_jv_list(RG_J_LIST, l);
    return RG_OK;
}

enum rg_code rg_jfilter_reverse(struct rg_jrun *r, struct rg_jvalue in, struct rg_jargs *args,
                                struct rg_jvalue *out)
{
    const struct rg_jvalue down[3] = {rg_jv_none(), rg_jv_none(), rg_jv_int(-1)};
    struct rg_jlist *from, *l;

    (void)args;
    if (in.type == RG_J_STRING)
        return rg_jget_slice(r, in, down, out);
    RG_TRY(rg_jv_items(&r->w, in, &from));
    RG_TRY(new_list(r, &l));
    for (uint32_t i = from->n; i > 0; i--)
        RG_TRY(rg_jlist_push(&r->w, l, from->items[i - 1]));
    return walk_once(r, l, out);
}

enum rg_code rg_jfilter_items(struct rg_jrun *r, struct rg_jvalue in, struct rg_jargs *args,
                              struct rg_jvalue *out)
{
    struct rg_jlist *l;

    (void)args;
    if (in.type == RG_J_UNDEFINED) {
        RG_TRY(new_list(r, &l));
        return walk_once(r, l, out);
    }
    if (in.type != RG_J_DICT)
        return rg_jfail(&r->w, RG_E_BAD_DATA, "items of %s", rg_jv_type_name(in));
    RG_TRY(rg_jdict_items(r, in.as.dict, out));
    return walk_once(r, out->as.list, out);
}

enum rg_code rg_jfilter_batch(struct rg_jrun *r, struct rg_jvalue in, struct rg_jargs *args,
                              struct rg_jvalue *out)
{
    struct rg_jlist *from, *batches, *batch = NULL;
    int64_t size = 0;

    RG_TRY(rg_jarg_int(r, args, 0, &size));
    if (size < 1)
        return rg_jfail(&r->w, RG_E_BAD_DATA, "batch of %lld", (long long)size);
    RG_TRY(rg_jv_items(&r->w, in, &from));
    RG_TRY(new_list(r, &batches));
    for (uint32_t i = 0; i < from->n; i++) {
        if (i % size == 0) {
            RG_TRY(new_list(r, &batch));
            RG_TRY(rg_jlist_push(&r->w, batches, rg_jv_list(RG_J_LIST, batch)));
        }
        RG_TRY(rg_jlist_push(&r->w, batch, from->items[i]));
    }
    if (args->slots[1].type != RG_J_ABSENT && args->slots[1].type != RG_J_NONE && batch)
        while (batch->n < size)
            RG_TRY(rg_jlist_push(&r->w, batch, args->slots[1]));
    return walk_once(r, batches, out);
}

/* ---- join ----------------------------------------------------------------------------------- */

enum rg_code rg_jfilter_join(struct rg_jrun *r, struct rg_jvalue in, struct rg_jargs *args,
                             struct rg_jvalue *out)
{
    struct rg_jtext *t = rg_jtext_new(&r->w, 0);
    struct rg_jlist *l;

    if (!t)
        return rg_jshort(&r->w);
    RG_TRY(rg_jv_items(&r->w, in, &l));
    for (uint32_t i = 0; i < l->n; i++) {
        struct rg_jvalue v = l->items[i];

        if (i && args->slots[0].type != RG_J_ABSENT)
            RG_TRY(rg_jv_print(&r->w, t, args->slots[0]));
        if (args->slots[1].type != RG_J_ABSENT && args->slots[1].type != RG_J_NONE)
            RG_TRY(rg_jget_path(r, v, args->slots[1], &v));
        RG_TRY(rg_jv_print(&r->w, t, v));
    }
    return rg_jtext_value(&r->w, t, out);
}

/* ---- map, select ---------------------------------------------------------------------------- */

static struct rg_jvalue keyword(const struct rg_jargs *args, const char *name)
{
    for (uint32_t i = 0; i < args->n_keywords; i++)
        if (strcmp(args->keyword_names[i], name) == 0)
            return args->keywords[i];
    return (struct rg_jvalue){.type = RG_J_ABSENT};
}

/* What map and select go over: jinja2 takes every false value, none too, as empty. */
static enum rg_code items_or_none(struct rg_jrun *r, struct rg_jvalue in, struct rg_jlist **out)
{
    if (rg_jv_truth(in))
        return rg_jv_items(&r->w, in, out);
    return new_list(r, out);
}

/* The arguments behind the first `skip` ones. */
static struct rg_jargs rest_of(const struct rg_jargs *args, uint32_t skip)
{
    return (struct rg_jargs){.items = args->items + skip,
                             .n = args->n - skip,
                             .keywords = args->keywords,
                             .keyword_names = args->keyword_names,
                             .n_keywords = args->n_keywords};
}

/* The text of a name that was given as a value, with its NUL. */
static enum rg_code name_text(struct rg_jrun *r, struct rg_jvalue v, char out[64])
{
    if (v.type != RG_J_STRING || v.as.string->len >= 64)
        return rg_jfail(&r->w, RG_E_BAD_DATA, "%s where the name of a filter or test should be",
                        rg_jv_type_name(v));
    memcpy(out, rg_jstr_data(v.as.string), v.as.string->len);
    out[v.as.string->len] = '\0';
    return RG_OK;
}

static enum rg_code map_attribute(struct rg_jrun *r, const struct rg_jlist *from,
                                  const struct rg_jargs *args, struct rg_jlist *l)
{
    const struct rg_jvalue path = keyword(args, "attribute");
    const struct rg_jvalue otherwise = keyword(args, "default");

    if (args->n_keywords > 1u + (otherwise.type != RG_J_ABSENT))
        return rg_jfail(&r->w, RG_E_BAD_DATA, "map takes attribute and default");
    for (uint32_t i = 0; i < from->n; i++) {
        struct rg_jvalue v;

        RG_TRY(rg_jget_path(r, from->items[i], path, &v));
        if (v.type == RG_J_UNDEFINED && otherwise.type != RG_J_ABSENT)
            v = otherwise;
        RG_TRY(rg_jlist_push(&r->w, l, v));
    }
    return RG_OK;
}

enum rg_code rg_jfilter_map(struct rg_jrun *r, struct rg_jvalue in, struct rg_jargs *args,
                            struct rg_jvalue *out)
{
    struct rg_jlist *from, *l;
    const struct rg_jfilter *f;
    char name[64];

    RG_TRY(items_or_none(r, in, &from));
    RG_TRY(new_list(r, &l));
    if (args->n == 0) {
        if (keyword(args, "attribute").type == RG_J_ABSENT)
            return rg_jfail(&r->w, RG_E_BAD_DATA, "map without a filter or an attribute");
        RG_TRY(map_attribute(r, from, args, l));
        return walk_once(r, l, out);
    }
    RG_TRY(name_text(r, args->items[0], name));
    f = rg_jfilter_find(name);
    if (!f)
        return rg_jfail(&r->w, RG_E_UNSUPPORTED, "unknown filter '%s'", name);
    for (uint32_t i = 0; i < from->n; i++) {
        struct rg_jargs rest = rest_of(args, 1);
        struct rg_jvalue v;

        RG_TRY(rg_jfilter_call(r, f, from->items[i], &rest, &v));
        RG_TRY(rg_jlist_push(&r->w, l, v));
    }
    return walk_once(r, l, out);
}

/* select, reject (by_attr false) and selectattr, rejectattr. */
static enum rg_code choose(struct rg_jrun *r, struct rg_jvalue in, const struct rg_jargs *args,
                           bool by_attr, bool keep, struct rg_jvalue *out)
{
    const uint32_t skip = by_attr ? 1 : 0;
    const struct rg_jtest *test = NULL;
    struct rg_jlist *from, *l;
    char name[64];

    if (args->n < skip)
        return rg_jfail(&r->w, RG_E_BAD_DATA, "selectattr without an attribute");
    if (args->n > skip) {
        RG_TRY(name_text(r, args->items[skip], name));
        test = rg_jtest_find(name);
        if (!test)
            return rg_jfail(&r->w, RG_E_UNSUPPORTED, "unknown test '%s'", name);
    }
    RG_TRY(items_or_none(r, in, &from));
    RG_TRY(new_list(r, &l));
    for (uint32_t i = 0; i < from->n; i++) {
        struct rg_jvalue v = from->items[i];
        struct rg_jargs rest;
        bool is;

        if (by_attr)
            RG_TRY(rg_jget_path(r, v, args->items[0], &v));
        is = rg_jv_truth(v);
        if (test) {
            rest = rest_of(args, skip + 1);
            RG_TRY(rg_jtest_call(r, test, v, &rest, &is));
        }
        if (is == keep)
            RG_TRY(rg_jlist_push(&r->w, l, from->items[i]));
    }
    return walk_once(r, l, out);
}

enum rg_code rg_jfilter_select(struct rg_jrun *r, struct rg_jvalue in, struct rg_jargs *args,
                               struct rg_jvalue *out)
{
    return choose(r, in, args, false, true, out);
}

enum rg_code rg_jfilter_reject(struct rg_jrun *r, struct rg_jvalue in, struct rg_jargs *args,
                               struct rg_jvalue *out)
{
    return choose(r, in, args, false, false, out);
}

enum rg_code rg_jfilter_selectattr(struct rg_jrun *r, struct rg_jvalue in, struct rg_jargs *args,
                                   struct rg_jvalue *out)
{
    return choose(r, in, args, true, true, out);
}

enum rg_code rg_jfilter_rejectattr(struct rg_jrun *r, struct rg_jvalue in, struct rg_jargs *args,
                                   struct rg_jvalue *out)
{
    return choose(r, in, args, true, false, out);
}

/* ---- sorting -------------------------------------------------------------------------------- */

struct sorter {
    struct rg_jrun *r;
    struct rg_jpair *pairs; /* key and what is sorted by it */
    struct rg_jpair *spare;
    bool reverse;
};

/* What an item is ordered by: an attribute, in lower case unless case counts. */
static enum rg_code sort_key(struct rg_jrun *r, struct rg_jvalue v, struct rg_jvalue attribute,
                             bool case_sensitive, struct rg_jvalue *out)
{
    if (attribute.type != RG_J_ABSENT && attribute.type != RG_J_NONE)
        RG_TRY(rg_jget_path(r, v, attribute, &v));
    *out = v;
    if (!case_sensitive && v.type == RG_J_STRING)
        return rg_jtext_case(&r->w, v.as.string, RG_JTEXT_LOWER, out);
    return RG_OK;
}

/* The attributes "a,b" of an item as a list: two that both lack them are equal. */
static enum rg_code attributes_key(struct rg_jrun *r, struct rg_jvalue v, struct rg_jvalue names,
                                   bool case_sensitive, struct rg_jvalue *out)
{
    const struct rg_jmethod *split = rg_jmethod_find("split");
    struct rg_jargs args = {0};
    struct rg_jlist *l;

    if (names.type != RG_J_STRING)
        return sort_key(r, v, names, case_sensitive, out);
    RG_TRY(new_list(r, &l));
    args.slots[0] = rg_jv_str(rg_jstr_copy(&r->w, ",", 1, true));
    if (!args.slots[0].as.string)
        return rg_jshort(&r->w);
    RG_TRY(split->fn(r, names, &args, &names));
    for (uint32_t i = 0; i < names.as.list->n; i++) {
        struct rg_jvalue key;

        RG_TRY(sort_key(r, v, names.as.list->items[i], case_sensitive, &key));
        RG_TRY(rg_jlist_push(&r->w, l, key));
    }
    *out = rg_jv_list(RG_J_LIST, l);
    return RG_OK;
}

/* A stable merge sort of pairs [from, to): comparisons may fail, which qsort() cannot say. */
static enum rg_code merge_sort(struct sorter *s, uint32_t from, uint32_t to)
{
    const uint32_t middle = from + (to - from) / 2;
    uint32_t left = from, right = middle;

    if (to - from < 2)
        return RG_OK;
    RG_TRY(merge_sort(s, from, middle));
    RG_TRY(merge_sort(s, middle, to));
    for (uint32_t i = from; i < to; i++) {
        bool take_right = left == middle;

        if (left < middle && right < to) {
            int order;

            RG_TRY(rg_jv_order(&s->r->w, s->pairs[left].key, s->pairs[right].key, &order));
            take_right = s->reverse ? order < 0 : order > 0 && order != 2;
        }
        s->spare[i] = take_right ? s->pairs[right++] : s->pairs[left++];
    }
    memcpy(s->pairs + from, s->spare + from, (to - from) * sizeof *s->pairs);
    return RG_OK;
}

/* Sorts n pairs of keys and values by key. */
static enum rg_code sort_pairs(struct rg_jrun *r, struct rg_jpair *pairs, uint32_t n, bool reverse)
{
    struct sorter s = {.r = r, .pairs = pairs, .reverse = reverse};

    s.spare = rg_jalloc(&r->w, n * sizeof *s.spare);
    if (!s.spare)
        return rg_jshort(&r->w);
    return merge_sort(&s, 0, n);
}

enum rg_code rg_jfilter_sort(struct rg_jrun *r, struct rg_jvalue in, struct rg_jargs *args,
                             struct rg_jvalue *out)
{
    const bool case_sensitive = rg_jarg_truth(args, 1, false);
    struct rg_jlist *from, *l;
    struct rg_jpair *pairs;

    RG_TRY(rg_jv_items(&r->w, in, &from));
    RG_TRY(new_list(r, &l));
    pairs = rg_jalloc(&r->w, from->n * sizeof *pairs);
    if (!pairs)
        return rg_jshort(&r->w);
    for (uint32_t i = 0; i < from->n; i++) {
        RG_TRY(attributes_key(r, from->items[i], args->slots[2], case_sensitive, &pairs[i].key));
        pairs[i].value = from->items[i];
    }
    RG_TRY(sort_pairs(r, pairs, from->n, rg_jarg_truth(args, 0, false)));
    for (uint32_t i = 0; i < from->n; i++)
        RG_TRY(rg_jlist_push(&r->w, l, pairs[i].value));
    *out = rg_jv_list(RG_J_LIST, l);
    return RG_OK;
}

enum rg_code rg_jfilter_dictsort(struct rg_jrun *r, struct rg_jvalue in, struct rg_jargs *args,
                                 struct rg_jvalue *out)
{
    const struct rg_jvalue absent = {.type = RG_J_ABSENT};
    const struct rg_jstr *by = NULL;
    struct rg_jlist *items, *l;
    struct rg_jpair *pairs;

    if (in.type == RG_J_UNDEFINED)
        return rg_jundefined(r, in);
    if (in.type != RG_J_DICT)
        return rg_jfail(&r->w, RG_E_BAD_DATA, "dictsort of %s", rg_jv_type_name(in));
    RG_TRY(rg_jarg_string(r, args, 1, &by));
    if (by && !rg_jstr_is(by, "key") && !rg_jstr_is(by, "value"))
        return rg_jfail(&r->w, RG_E_BAD_DATA, "dictsort by neither key nor value");
    RG_TRY(rg_jdict_items(r, in.as.dict, out));
    items = out->as.list;
    RG_TRY(new_list(r, &l));
    pairs = rg_jalloc(&r->w, items->n * sizeof *pairs);
    if (!pairs)
        return rg_jshort(&r->w);
    for (uint32_t i = 0; i < items->n; i++) {
        const struct rg_jvalue *pair = items->items[i].as.list->items;

        RG_TRY(sort_key(r, pair[by && rg_jstr_is(by, "value") ? 1 : 0], absent,
                        rg_jarg_truth(args, 0, false), &pairs[i].key));
        pairs[i].value = items->items[i];
    }
    RG_TRY(sort_pairs(r, pairs, items->n, rg_jarg_truth(args, 2, false)));
    for (uint32_t i = 0; i < items->n; i++)
        RG_TRY(rg_jlist_push(&r->w, l, pairs[i].value));
    *out = rg_jv_list(RG_J_LIST, l);
    return RG_OK;
}

enum rg_code rg_jfilter_unique(struct rg_jrun *r, struct rg_jvalue in, struct rg_jargs *args,
                               struct rg_jvalue *out)
{
    struct rg_jlist *from, *l;
    struct rg_jdict *seen = rg_jdict_new(&r->w);

    if (!seen)
        return rg_jshort(&r->w);
    RG_TRY(rg_jv_items(&r->w, in, &from));
    RG_TRY(new_list(r, &l));
    for (uint32_t i = 0; i < from->n; i++) {
        struct rg_jvalue key;

        RG_TRY(sort_key(r, from->items[i], args->slots[1], rg_jarg_truth(args, 0, false), &key));
        if (rg_jdict_get(seen, key))
            continue;
        RG_TRY(rg_jdict_set(&r->w, seen, key, rg_jv_none()));
        RG_TRY(rg_jlist_push(&r->w, l, from->items[i]));
    }
    return walk_once(r, l, out);
}

static enum rg_code extreme(struct rg_jrun *r, struct rg_jvalue in, const struct rg_jargs *args,
                            int wanted, struct rg_jvalue *out)
{
    const bool case_sensitive = rg_jarg_truth(args, 0, false);
    struct rg_jlist *l;
    struct rg_jvalue best = rg_jv_none(), key;

    RG_TRY(rg_jv_items(&r->w, in, &l));
    *out = rg_jv_undefined();
    for (uint32_t i = 0; i < l->n; i++) {
        int order = wanted;

        RG_TRY(sort_key(r, l->items[i], args->slots[1], case_sensitive, &key));
        if (i)
            RG_TRY(rg_jv_order(&r->w, key, best, &order));
        if (order != wanted)
            continue;
        best = key;
        *out = l->items[i];
    }
    return RG_OK;
}

enum rg_code rg_jfilter_min(struct rg_jrun *r, struct rg_jvalue in, struct rg_jargs *args,
                            struct rg_jvalue *out)
{
    return extreme(r, in, args, -1, out);
}

enum rg_code rg_jfilter_max(struct rg_jrun *r, struct rg_jvalue in, struct rg_jargs *args,
                            struct rg_jvalue *out)
{
    return extreme(r, in, args, 1, out);
}

enum rg_code rg_jfilter_sum(struct rg_jrun *r, struct rg_jvalue in, struct rg_jargs *args,
                            struct rg_jvalue *out)
{
    struct rg_jlist *l;

    RG_TRY(rg_jv_items(&r->w, in, &l));
    *out = args->slots[1].type == RG_J_ABSENT ? rg_jv_int(0) : args->slots[1];
    for (uint32_t i = 0; i < l->n; i++) {
        struct rg_jvalue v = l->items[i];

        if (args->slots[0].type != RG_J_ABSENT && args->slots[0].type != RG_J_NONE)
            RG_TRY(rg_jget_path(r, v, args->slots[0], &v));
        RG_TRY(rg_jop_binary(r, RG_JOP_ADD, *out, v, out));
    }
    return RG_OK;
}
