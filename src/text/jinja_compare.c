/* jinja_compare.c - truth, equality, order, length, iteration and membership as Python has them. */
#include <string.h>

#include "text/jinja_value.h"

const char *rg_jv_type_name(struct rg_jvalue v)
{
    static const char *const names[] = {
        [RG_J_ABSENT] = "nothing",      [RG_J_UNDEFINED] = "an undefined value",
        [RG_J_NONE] = "none",           [RG_J_BOOL] = "a boolean",
        [RG_J_INT] = "an integer",      [RG_J_BIGINT] = "an integer",
        [RG_J_FLOAT] = "a float",       [RG_J_STRING] = "a string",
        [RG_J_LIST] = "a list",         [RG_J_TUPLE] = "a tuple",
        [RG_J_VIEW] = "a view",         [RG_J_ITER] = "a generator",
        [RG_J_DICT] = "a mapping",      [RG_J_NAMESPACE] = "a namespace",
        [RG_J_LOOP] = "a loop",         [RG_J_MACRO] = "a macro",
        [RG_J_FUNCTION] = "a function", [RG_J_METHOD] = "a method",
    };

    return names[v.type];
}

bool rg_jv_truth(struct rg_jvalue v)
{
    switch (v.type) {
    case RG_J_ABSENT:
    case RG_J_UNDEFINED:
    case RG_J_NONE:
        return false;
    case RG_J_BOOL:
        return v.as.boolean;
    case RG_J_INT:
        return v.as.integer != 0;
    case RG_J_FLOAT:
        return !(v.as.number >= 0 && v.as.number <= 0);
    case RG_J_STRING:
        return v.as.string->len != 0;
    case RG_J_LIST:
    case RG_J_TUPLE:
    case RG_J_VIEW:
        return v.as.list->n != 0;
    case RG_J_DICT:
        return v.as.dict->n != 0;
    default:
        return true;
    }
}

static bool is_int(struct rg_jvalue v, int64_t *out)
{
    if (v.type == RG_J_INT)
        *out = v.as.integer;
    else if (v.type == RG_J_BOOL)
        *out = v.as.boolean;
    return v.type == RG_J_INT || v.type == RG_J_BOOL;
}

/* -1, 0, 1; 2 when a NaN is involved.  Exact: no integer is rounded. */
static int order_int_float(int64_t i, double d)
{
    if (!(d >= d))
        return 2;
    if (d >= 9223372036854775808.0)
        return -1;
    if (d < -9223372036854775808.0)
        return 1;

    const int64_t whole = (int64_t)d; /* towards zero */

    if (i != whole)
        return i < whole ? -1 : 1;
    return (double)whole < d ? -1 : (double)whole > d;
}

static int order_big(const struct rg_jstr *a, const struct rg_jstr *b)
{
    const bool a_minus = rg_jstr_data(a)[0] == '-', b_minus = rg_jstr_data(b)[0] == '-';
    int c;

    if (a_minus != b_minus)
        return a_minus ? -1 : 1;
    c = a->len != b->len ? (a->len > b->len) - (a->len < b->len) : rg_jstr_compare(a, b);
    c = (c > 0) - (c < 0);
    return a_minus ? -c : c;
}

/* Order of two numbers; 2 when there is none.  A big integer is beyond every int64; against a float
 * its sign decides, which is right below 1e19 and for every float that a template meets. */
static bool order_numbers(struct rg_jvalue a, struct rg_jvalue b, int *out)
{
    int64_t i = 0, j = 0;
    const bool a_int = is_int(a, &i), b_int = is_int(b, &j);

    if (a_int && b_int) {
        *out = (i > j) - (i < j);
    } else if (a_int && b.type == RG_J_FLOAT) {
        *out = order_int_float(i, b.as.number);
    } else if (a.type == RG_J_FLOAT && b_int) {
        *out = order_int_float(j, a.as.number);
        if (*out != 2)
            *out = -*out;
    } else if (a.type == RG_J_FLOAT && b.type == RG_J_FLOAT) {
        const double x = a.as.number, y = b.as.number;

        *out = x < y ? -1 : x > y ? 1 : x <= y ? 0 : 2;
    } else if (a.type == RG_J_BIGINT && b.type == RG_J_BIGINT) {
        *out = order_big(a.as.string, b.as.string);
    } else if (a.type == RG_J_BIGINT && (b_int || b.type == RG_J_FLOAT)) {
        *out = rg_jstr_data(a.as.string)[0] == '-' ? -1 : 1;
    } else if (b.type == RG_J_BIGINT && (a_int || a.type == RG_J_FLOAT)) {
        *out = rg_jstr_data(b.as.string)[0] == '-' ? 1 : -1;
    } else {
        return false;
    }
    return true;
}

static enum rg_code enter(struct rg_jwork *w)
{
    if (++w->depth > RG_JDEPTH_MAX)
        return rg_jfail(w, RG_E_LIMIT, "values nested too deeply");
    return rg_jwork_spend(w, sizeof(struct rg_jvalue));
}

static enum rg_code equal_lists(struct rg_jwork *w, const struct rg_jlist *a,
                                const struct rg_jlist *b, bool *out)
{
    *out = a->n == b->n;
    for (uint32_t i = 0; *out && i < a->n; i++)
        RG_TRY(rg_jv_equal(w, a->items[i], b->items[i], out));
    return RG_OK;
}

static enum rg_code equal_dicts(struct rg_jwork *w, const struct rg_jdict *a,
                                const struct rg_jdict *b, bool *out)
{
    *out = a->n == b->n;
    for (uint32_t i = 0; *out && i < a->n; i++) {
        const struct rg_jvalue *other = rg_jdict_get(b, a->pairs[i].key);

        *out = other != NULL;
        if (other)
            RG_TRY(rg_jv_equal(w, a->pairs[i].value, *other, out));
    }
    return RG_OK;
}

static enum rg_code equal(struct rg_jwork *w, struct rg_jvalue a, struct rg_jvalue b, bool *out)
{
    int order;

    *out = false;
    if (order_numbers(a, b, &order)) {
        *out = order == 0;
        return RG_OK;
    }
    if (a.type != b.type)
        return RG_OK;
    switch (a.type) {
    case RG_J_STRING:
        *out = rg_jstr_equal(a.as.string, b.as.string);
        return rg_jwork_spend(w, *out ? a.as.string->len : 0);
    case RG_J_LIST:
    case RG_J_TUPLE:
    case RG_J_VIEW:
        return equal_lists(w, a.as.list, b.as.list, out);
    case RG_J_DICT:
        return equal_dicts(w, a.as.dict, b.as.dict, out);
    case RG_J_NONE:
    case RG_J_UNDEFINED:
        *out = true;
        return RG_OK;
    default: /* identity: all members of the union that are left are pointers */
        *out = a.as.loop == b.as.loop;
        return RG_OK;
    }
}

enum rg_code rg_jv_equal(struct rg_jwork *w, struct rg_jvalue a, struct rg_jvalue b, bool *out)
{
    RG_TRY(enter(w));

    const enum rg_code code = equal(w, a, b, out);

    w->depth--;
    return code;
}

static enum rg_code order_lists(struct rg_jwork *w, const struct rg_jlist *a,
                                const struct rg_jlist *b, int *out)
{
    for (uint32_t i = 0; i < a->n && i < b->n; i++) {
        bool same;

        RG_TRY(rg_jv_equal(w, a->items[i], b->items[i], &same));
        if (!same)
            return rg_jv_order(w, a->items[i], b->items[i], out);
    }
    *out = (a->n > b->n) - (a->n < b->n);
    return RG_OK;
}

static enum rg_code order(struct rg_jwork *w, struct rg_jvalue a, struct rg_jvalue b, int *out)
{
    if (order_numbers(a, b, out))
        return RG_OK;
    if (a.type == RG_J_STRING && b.type == RG_J_STRING) {
        const int c = rg_jstr_compare(a.as.string, b.as.string);

        *out = (c > 0) - (c < 0);
        return rg_jwork_spend(w, a.as.string->len);
    }
    if (a.type == b.type && (a.type == RG_J_LIST || a.type == RG_J_TUPLE))
        return order_lists(w, a.as.list, b.as.list, out);
    return rg_jfail(w, RG_E_BAD_DATA, "%s and %s have no order", rg_jv_type_name(a),
                    rg_jv_type_name(b));
}

enum rg_code rg_jv_order(struct rg_jwork *w, struct rg_jvalue a, struct rg_jvalue b, int *out)
{
    RG_TRY(enter(w));

    const enum rg_code code = order(w, a, b, out);

    w->depth--;
    return code;
}

enum rg_code rg_jv_length(struct rg_jwork *w, struct rg_jvalue v, int64_t *out)
{
    switch (v.type) {
    case RG_J_UNDEFINED:
        *out = 0;
        return RG_OK;
    case RG_J_STRING:
        *out = (int64_t)v.as.string->chars;
        return RG_OK;
    case RG_J_LIST:
    case RG_J_TUPLE:
    case RG_J_VIEW:
        *out = v.as.list->n;
        return RG_OK;
    case RG_J_DICT:
        *out = v.as.dict->n;
        return RG_OK;
    default:
        return rg_jfail(w, RG_E_BAD_DATA, "%s has no length", rg_jv_type_name(v));
    }
}

static enum rg_code characters(struct rg_jwork *w, const struct rg_jstr *s, struct rg_jlist *l)
{
    const char *p = rg_jstr_data(s);

    for (size_t at = 0; at < s->len;) {
        struct rg_jvalue c;
        size_t next = at + 1;

        while (next < s->len && ((unsigned char)p[next] & 0xC0) == 0x80)
            next++;
        RG_TRY(rg_jstr_cut(w, s, at, next, &c));
        RG_TRY(rg_jlist_push(w, l, c));
        at = next;
    }
    return RG_OK;
}

enum rg_code rg_jv_items(struct rg_jwork *w, struct rg_jvalue v, struct rg_jlist **out)
{
    struct rg_jlist *l;

    if (v.type == RG_J_LIST || v.type == RG_J_TUPLE || v.type == RG_J_VIEW) {
        *out = v.as.list;
        return RG_OK;
    }
    *out = l = rg_jlist_new(w, 0);
    if (!l)
        return rg_jshort(w);
    switch (v.type) {
    case RG_J_UNDEFINED:
        return RG_OK;
    case RG_J_STRING:
        return characters(w, v.as.string, l);
    case RG_J_DICT:
        for (uint32_t i = 0; i < v.as.dict->n; i++)
            RG_TRY(rg_jlist_push(w, l, v.as.dict->pairs[i].key));
        return RG_OK;
    case RG_J_ITER:
        while (v.as.iter->at < v.as.iter->list->n)
            RG_TRY(rg_jlist_push(w, l, v.as.iter->list->items[v.as.iter->at++]));
        return RG_OK;
    default:
        return rg_jfail(w, RG_E_BAD_DATA, "%s cannot be iterated", rg_jv_type_name(v));
    }
}

enum rg_code rg_jv_contains(struct rg_jwork *w, struct rg_jvalue container, struct rg_jvalue item,
                            bool *out)
{
    struct rg_jlist *l;

    *out = false;
    if (container.type == RG_J_STRING) {
        if (item.type != RG_J_STRING)
            return rg_jfail(w, RG_E_BAD_DATA, "'in' a string needs a string, not %s",
                            rg_jv_type_name(item));
        *out = rg_jstr_find(container.as.string, item.as.string, 0) != SIZE_MAX;
        return rg_jwork_spend(w, container.as.string->len);
    }
    if (container.type == RG_J_DICT) {
        *out = rg_jdict_get(container.as.dict, item) != NULL;
        if (!*out && (item.type == RG_J_LIST || item.type == RG_J_DICT))
            return rg_jfail(w, RG_E_BAD_DATA, "%s cannot be a key", rg_jv_type_name(item));
        return RG_OK;
    }
    RG_TRY(rg_jv_items(w, container, &l));
    for (uint32_t i = 0; !*out && i < l->n; i++)
        RG_TRY(rg_jv_equal(w, l->items[i], item, out));
    return RG_OK;
}
