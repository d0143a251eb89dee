/* jinja_containers.c - methods of lists, dicts and loops; finding any method.
 *
 * append, pop, insert, extend, update and setdefault change what they are called on: transformers'
 * sandbox refuses them, but templates in circulation need them. */
#include <string.h>

#include "text/jinja_builtin.h"

#define METHOD(name_)                                                                              \
    static enum rg_code name_(struct rg_jrun *r, struct rg_jvalue in, struct rg_jargs *args,       \
                              struct rg_jvalue *out)

/* ---- lists ---------------------------------------------------------------------------------- */

METHOD(list_append)
{
    *out = rg_jv_none();
    return rg_jlist_push(&r->w, in.as.list, args->slots[0]);
}

METHOD(list_extend)
{
    struct rg_jlist *l;

    *out = rg_jv_none();
    RG_TRY(rg_jv_items(&r->w, args->slots[0], &l));

    const uint32_t n = l->n; /* l may be the list itself */

    for (uint32_t i = 0; i < n; i++)
        RG_TRY(rg_jlist_push(&r->w, in.as.list, l->items[i]));
    return RG_OK;
}

METHOD(list_insert)
{
    struct rg_jlist *l = in.as.list;
    int64_t at = 0;

    RG_TRY(rg_jarg_int(r, args, 0, &at));
    RG_TRY(rg_jwork_spend(&r->w, l->n * sizeof *l->items));
    if (at < 0)
        at = at < -(int64_t)l->n ? 0 : at + l->n;
    if (at > l->n)
        at = l->n;
    RG_TRY(rg_jlist_push(&r->w, l, rg_jv_none()));
    memmove(l->items + at + 1, l->items + at, (l->n - 1 - (size_t)at) * sizeof *l->items);
    l->items[at] = args->slots[1];
    *out = rg_jv_none();
    return RG_OK;
}

METHOD(list_pop)
{
    struct rg_jlist *l = in.as.list;
    int64_t at = -1;

    RG_TRY(rg_jarg_int(r, args, 0, &at));
    if (at < 0)
        at += l->n;
    if (at < 0 || at >= l->n)
        return rg_jfail(&r->w, RG_E_BAD_DATA, "pop() of an item that is not there");
    RG_TRY(rg_jwork_spend(&r->w, (l->n - (size_t)at) * sizeof *l->items));
    *out = l->items[at];
    memmove(l->items + at, l->items + at + 1, (l->n - 1 - (size_t)at) * sizeof *l->items);
    l->n--;
    return RG_OK;
}

METHOD(list_index)
{
    const struct rg_jlist *l = in.as.list;

    for (uint32_t i = 0; i < l->n; i++) {
        bool same;

        RG_TRY(rg_jv_equal(&r->w, l->items[i], args->slots[0], &same));
        if (same) {
            *out = rg_jv_int(i);
            return RG_OK;
        }
    }
    return rg_jfail(&r->w, RG_E_BAD_DATA, "index() of an item that is not there");
}

METHOD(list_count)
{
    const struct rg_jlist *l = in.as.list;
    int64_t n = 0;

    for (uint32_t i = 0; i < l->n; i++) {
        bool same;

        RG_TRY(rg_jv_equal(&r->w, l->items[i], args->slots[0], &same));
        n += same;
    }
    *out = rg_jv_int(n);
    return RG_OK;
}

/* ---- dicts ---------------------------------------------------------------------------------- */

METHOD(dict_get)
{
    const struct rg_jvalue key = args->slots[0];
    const struct rg_jvalue *v = rg_jdict_get(in.as.dict, key);

    if (key.type == RG_J_STRING)
        RG_TRY(rg_jwork_spend(&r->w, key.as.string->len));
    *out = rg_jv_none();
    if (v)
        *out = *v;
    else if (args->slots[1].type != RG_J_ABSENT)
        *out = args->slots[1];
    return RG_OK;
}

static enum rg_code view(struct rg_jrun *r, const struct rg_jdict *d, bool keys, bool values,
                         struct rg_jvalue *out)
{
    struct rg_jlist *l = rg_jlist_new(&r->w, d->n);

    if (!l)
        return rg_jshort(&r->w);
    l->shown = keys && values ? "dict_items" : keys ? "dict_keys" : "dict_values";
    for (uint32_t i = 0; i < d->n; i++) {
        struct rg_jvalue v = keys ? d->pairs[i].key : d->pairs[i].value;

        if (keys && values) {
            struct rg_jlist *pair = rg_jlist_new(&r->w, 2);

            if (!pair)
                return rg_jshort(&r->w);
            RG_TRY(rg_jlist_push(&r->w, pair, d->pairs[i].key));
            RG_TRY(rg_jlist_push(&r->w, pair, d->pairs[i].value));
            v = rg_jv_list(RG_J_TUPLE, pair);
        }
        RG_TRY(rg_jlist_push(&r->w, l, v));
    }
    *out = rg_jv_list(RG_J_VIEW, l);
    return RG_OK;
}

enum rg_code rg_jdict_items(struct rg_jrun *r, const struct rg_jdict *d, struct rg_jvalue *out)
{
    return view(r, d, true, true, out);
}

METHOD(dict_items)
{
    (void)args;
    return view(r, in.as.dict, true, true, out);
}

METHOD(dict_keys)
{
    (void)args;
    return view(r, in.as.dict, true, false, out);
}

METHOD(dict_values)
{
    (void)args;
    return view(r, in.as.dict, false, true, out);
}

METHOD(dict_pop)
{
    const struct rg_jvalue *v = rg_jdict_get(in.as.dict, args->slots[0]);

    if (!v && args->slots[1].type == RG_J_ABSENT)
        return rg_jfail(&r->w, RG_E_BAD_DATA, "pop() of a key that is not there");
    *out = v ? *v : args->slots[1];
    return rg_jdict_remove(&r->w, in.as.dict, args->slots[0]);
}

METHOD(dict_setdefault)
{
    const struct rg_jvalue *v = rg_jdict_get(in.as.dict, args->slots[0]);

    *out = args->slots[1].type == RG_J_ABSENT ? rg_jv_none() : args->slots[1];
    if (!v)
        return rg_jdict_set(&r->w, in.as.dict, args->slots[0], *out);
    *out = *v;
    return RG_OK;
}

METHOD(dict_update)
{
    if (args->n == 1 && args->items[0].type == RG_J_DICT) {
        const struct rg_jdict *from = args->items[0].as.dict;
        const uint32_t n = from->n; /* from may be the dict itself */

        for (uint32_t i = 0; i < n; i++)
            RG_TRY(rg_jdict_set(&r->w, in.as.dict, from->pairs[i].key, from->pairs[i].value));
    } else if (args->n > 0) {
        return rg_jfail(&r->w, RG_E_UNSUPPORTED, "update() of %s", rg_jv_type_name(args->items[0]));
    }
    for (uint32_t i = 0; i < args->n_keywords; i++)
        RG_TRY(rg_jdict_set_text(&r->w, in.as.dict, args->keyword_names[i], args->keywords[i]));
    *out = rg_jv_none();
    return RG_OK;
}

/* ---- copies, loops -------------------------------------------------------------------------- */

METHOD(copy)
{
    (void)args;
    if (in.type == RG_J_LIST) {
        struct rg_jlist *l = rg_jlist_new(&r->w, in.as.list->n);

        if (!l)
            return rg_jshort(&r->w);
        *out = rg_jv_list(RG_J_LIST, l);
        for (uint32_t i = 0; i < in.as.list->n; i++)
            RG_TRY(rg_jlist_push(&r->w, l, in.as.list->items[i]));
        return RG_OK;
    }

    struct rg_jdict *d = rg_jdict_new(&r->w);

    if (!d)
        return rg_jshort(&r->w);
    *out = rg_jv_dict(d);
    for (uint32_t i = 0; i < in.as.dict->n; i++)
        RG_TRY(rg_jdict_set(&r->w, d, in.as.dict->pairs[i].key, in.as.dict->pairs[i].value));
    return RG_OK;
}

METHOD(loop_cycle)
{
    if (args->n == 0)
        return rg_jfail(&r->w, RG_E_BAD_DATA, "loop.cycle() without values");
    *out = args->items[in.as.loop->at % args->n];
    return RG_OK;
}

METHOD(loop_changed)
{
    struct rg_jloop *loop = in.as.loop;
    struct rg_jlist *values = rg_jlist_new(&r->w, args->n);
    bool same = false;

    if (!values)
        return rg_jshort(&r->w);
    for (uint32_t i = 0; i < args->n; i++)
        RG_TRY(rg_jlist_push(&r->w, values, args->items[i]));

    const struct rg_jvalue now = rg_jv_list(RG_J_TUPLE, values);

    if (loop->seen.type != RG_J_ABSENT)
        RG_TRY(rg_jv_equal(&r->w, loop->seen, now, &same));
    loop->seen = now;
    *out = rg_jv_bool(!same);
    return RG_OK;
}

/* ---- the table, and looking up -------------------------------------------------------------- */

static const struct rg_jmethod methods[] = {
    {"append", RG_JM_LIST, list_append, "item", 1},
    {"changed", RG_JM_LOOP, loop_changed, "*", 0},
    {"copy", RG_JM_LIST | RG_JM_DICT, copy, "", 0},
    {"count", RG_JM_LIST | RG_JM_TUPLE, list_count, "item", 1},
    {"cycle", RG_JM_LOOP, loop_cycle, "*", 0},
    {"extend", RG_JM_LIST, list_extend, "items", 1},
    {"get", RG_JM_DICT, dict_get, "key default", 1},
    {"index", RG_JM_LIST | RG_JM_TUPLE, list_index, "item", 1},
    {"insert", RG_JM_LIST, list_insert, "index item", 2},
    {"items", RG_JM_DICT, dict_items, "", 0},
    {"keys", RG_JM_DICT, dict_keys, "", 0},
    {"pop", RG_JM_DICT, dict_pop, "key default", 1},
    {"pop", RG_JM_LIST, list_pop, "index", 0},
    {"setdefault", RG_JM_DICT, dict_setdefault, "key default", 1},
    {"update", RG_JM_DICT, dict_update, "*", 0},
    {"values", RG_JM_DICT, dict_values, "", 0},
    {NULL, 0, NULL, NULL, 0},
};

static const struct rg_jmethod *look(const struct rg_jmethod *table, const char *name,
                                     uint32_t types)
{
    for (; table->name; table++)
        if ((table->types & types) && strcmp(table->name, name) == 0)
            return table;
    return NULL;
}

const struct rg_jmethod *rg_jmethod_find(const char *name)
{
    const struct rg_jmethod *m = look(rg_jmethods_of_strings, name, ~0u);

    return m ? m : look(methods, name, ~0u);
}

static bool any_fits(const struct rg_jmethod *table, const struct rg_jinja *t, const char *name,
                     const struct rg_jexpr *call)
{
    for (; table->name; table++)
        if (strcmp(table->name, name) == 0 &&
            rg_jargs_fit(t, table->params, table->n_required, call))
            return true;
    return false;
}

bool rg_jmethod_fits(const struct rg_jinja *t, const char *name, const struct rg_jexpr *call)
{
    return any_fits(rg_jmethods_of_strings, t, name, call) || any_fits(methods, t, name, call);
}

const struct rg_jmethod *rg_jmethod_for(const struct rg_jmethod *method, enum rg_jtype type)
{
    uint32_t types = 0;

    switch (type) {
    case RG_J_STRING:
        types = RG_JM_STRING;
        break;
    case RG_J_LIST:
        types = RG_JM_LIST;
        break;
    case RG_J_TUPLE:
        types = RG_JM_TUPLE;
        break;
    case RG_J_DICT:
        types = RG_JM_DICT;
        break;
    case RG_J_LOOP:
        types = RG_JM_LOOP;
        break;
    default:
        return NULL;
    }
    if (method->types & types)
        return method;

    const struct rg_jmethod *m = look(rg_jmethods_of_strings, method->name, types);

    return m ? m : look(methods, method->name, types);
}
