/* jinja_ops.c - arithmetic and comparison of values, with Python's rules for mixed types. */
#include <math.h>
#include <stdint.h>

#include "text/jinja_builtin.h"

static const char *const op_names[] = {
    [RG_JOP_ADD] = "+",       [RG_JOP_SUB] = "-", [RG_JOP_MUL] = "*",  [RG_JOP_DIV] = "/",
    [RG_JOP_FLOORDIV] = "//", [RG_JOP_MOD] = "%", [RG_JOP_POW] = "**",
};

static enum rg_code overflow(struct rg_jrun *r)
{
    return rg_jfail(&r->w, RG_E_UNSUPPORTED, "an integer beyond 64 bits in arithmetic");
}

static bool as_int(struct rg_jvalue v, int64_t *out)
{
    if (v.type != RG_J_INT && v.type != RG_J_BOOL)
        return false;
    *out = v.type == RG_J_INT ? v.as.integer : v.as.boolean;
    return true;
}

static bool as_float(struct rg_jvalue v, double *out)
{
    int64_t i;

    if (v.type == RG_J_FLOAT) {
        *out = v.as.number;
        return true;
    }
    if (!as_int(v, &i))
        return false;
    *out = (double)i;
    return true;
}

/* Python rounds quotients down and gives remainders the sign of the divisor. */
static enum rg_code divide_ints(struct rg_jrun *r, enum rg_jop op, int64_t a, int64_t b,
                                struct rg_jvalue *out)
{
    if (b == 0)
        return rg_jfail(&r->w, RG_E_BAD_DATA, "division by zero");
    if (op == RG_JOP_DIV) {
        *out = rg_jv_float((double)a / (double)b);
        return RG_OK;
    }
    if (b == -1) {
        if (op == RG_JOP_FLOORDIV && a == INT64_MIN)
            return overflow(r);
        *out = rg_jv_int(op == RG_JOP_MOD ? 0 : -a);
        return RG_OK;
    }

    int64_t quotient = a / b, rest = a % b;

    if (rest != 0 && (rest < 0) != (b < 0)) {
        quotient--;
        rest += b;
    }
    *out = rg_jv_int(op == RG_JOP_MOD ? rest : quotient);
    return RG_OK;
}

static enum rg_code power_ints(struct rg_jrun *r, int64_t a, int64_t b, struct rg_jvalue *out)
{
    int64_t result = 1;

    if (b < 0) {
        if (a == 0)
            return rg_jfail(&r->w, RG_E_BAD_DATA, "division by zero");
        *out = rg_jv_float(pow((double)a, (double)b));
        return RG_OK;
    }
    while (b > 0) {
        if ((b & 1) && __builtin_mul_overflow(result, a, &result))
            return overflow(r);
        b >>= 1;
        if (b > 0 && __builtin_mul_overflow(a, a, &a))
            return overflow(r);
    }
    *out = rg_jv_int(result);
    return RG_OK;
}

static enum rg_code int_op(struct rg_jrun *r, enum rg_jop op, int64_t a, int64_t b,
                           struct rg_jvalue *out)
{
    int64_t result = 0;
    bool over = false;

    switch (op) {
    case RG_JOP_ADD:
        over = __builtin_add_overflow(a, b, &result);
        break;
    case RG_JOP_SUB:
        over = __builtin_sub_overflow(a, b, &result);
        break;
    case RG_JOP_MUL:
        over = __builtin_mul_overflow(a, b, &result);
        break;
    case RG_JOP_POW:
        return power_ints(r, a, b, out);
    default:
        return divide_ints(r, op, a, b, out);
    }
    *out = rg_jv_int(result);
    return over ? overflow(r) : RG_OK;
}

static enum rg_code float_op(struct rg_jrun *r, enum rg_jop op, double a, double b,
                             struct rg_jvalue *out)
{
    double rest;

    if ((op == RG_JOP_DIV || op == RG_JOP_FLOORDIV || op == RG_JOP_MOD) && b >= 0 && b <= 0)
        return rg_jfail(&r->w, RG_E_BAD_DATA, "division by zero");
    switch (op) {
    case RG_JOP_ADD:
        *out = rg_jv_float(a + b);
        break;
    case RG_JOP_SUB:
        *out = rg_jv_float(a - b);
        break;
    case RG_JOP_MUL:
        *out = rg_jv_float(a * b);
        break;
    case RG_JOP_DIV:
        *out = rg_jv_float(a / b);
        break;
    case RG_JOP_POW:
        *out = rg_jv_float(pow(a, b));
        break;
    default:
        rest = fmod(a, b);
        if ((rest < 0 || rest > 0) && (rest < 0) != (b < 0))
            rest += b;
        *out = rg_jv_float(op == RG_JOP_MOD ? rest : floor((a - rest) / b + 0.5));
        break;
    }
    return RG_OK;
}

static enum rg_code repeat_string(struct rg_jrun *r, const struct rg_jstr *s, int64_t n,
                                  struct rg_jvalue *out)
{
    struct rg_jtext *t;

    if (n < 0)
        n = 0;
    if (s->len && n > (int64_t)(RG_JALLOC_MAX / s->len))
        return rg_jfail(&r->w, RG_E_LIMIT, "a string of %zu bytes times %lld", s->len,
                        (long long)n);
    t = rg_jtext_new(&r->w, s->len * (size_t)n);
    if (!t)
        return rg_jshort(&r->w);
    for (int64_t i = 0; s->len && i < n; i++)
        RG_TRY(rg_jtext_add_str(&r->w, t, s));
    return rg_jtext_value(&r->w, t, out);
}

static enum rg_code repeat_list(struct rg_jrun *r, struct rg_jvalue list, int64_t n,
                                struct rg_jvalue *out)
{
    struct rg_jlist *l = rg_jlist_new(&r->w, 0);

    if (!l)
        return rg_jshort(&r->w);
    for (int64_t i = 0; list.as.list->n && i < n; i++)
        for (uint32_t k = 0; k < list.as.list->n; k++)
            RG_TRY(rg_jlist_push(&r->w, l, list.as.list->items[k]));
    *out = rg_jv_list(list.type, l);
    return RG_OK;
}

static enum rg_code join_lists(struct rg_jrun *r, struct rg_jvalue a, struct rg_jvalue b,
                               struct rg_jvalue *out)
{
    struct rg_jlist *l = rg_jlist_new(&r->w, (size_t)a.as.list->n + b.as.list->n);

    if (!l)
        return rg_jshort(&r->w);
    for (uint32_t i = 0; i < a.as.list->n; i++)
        RG_TRY(rg_jlist_push(&r->w, l, a.as.list->items[i]));
    for (uint32_t i = 0; i < b.as.list->n; i++)
        RG_TRY(rg_jlist_push(&r->w, l, b.as.list->items[i]));
    *out = rg_jv_list(a.type, l);
    return RG_OK;
}

static bool is_sequence(struct rg_jvalue v)
{
    return v.type == RG_J_STRING || v.type == RG_J_LIST || v.type == RG_J_TUPLE;
}

static enum rg_code repeat(struct rg_jrun *r, struct rg_jvalue v, int64_t n, struct rg_jvalue *out)
{
    if (v.type == RG_J_STRING)
        return repeat_string(r, v.as.string, n, out);
    return repeat_list(r, v, n, out);
}

static enum rg_code add_sequences(struct rg_jrun *r, struct rg_jvalue a, struct rg_jvalue b,
                                  struct rg_jvalue *out)
{
    if (a.type != RG_J_STRING)
        return join_lists(r, a, b, out);
    if (a.as.string->markup || b.as.string->markup)
        return rg_jtext_add_markup(&r->w, a.as.string, b.as.string, out);
    return rg_jstr_concat(&r->w, a.as.string, b.as.string, out);
}

/* No operator of these two: an undefined value is named, other types are said. */
static enum rg_code no_operator(struct rg_jrun *r, enum rg_jop op, struct rg_jvalue a,
                                struct rg_jvalue b)
{
    if (a.type == RG_J_UNDEFINED || b.type == RG_J_UNDEFINED)
        return rg_jundefined(r, a.type == RG_J_UNDEFINED ? a : b);
    if (a.type == RG_J_BIGINT || b.type == RG_J_BIGINT)
        return overflow(r);
    return rg_jfail(&r->w, RG_E_BAD_DATA, "%s %s %s", rg_jv_type_name(a), op_names[op],
                    rg_jv_type_name(b));
}

enum rg_code rg_jop_binary(struct rg_jrun *r, enum rg_jop op, struct rg_jvalue a,
                           struct rg_jvalue b, struct rg_jvalue *out)
{
    int64_t i, j;
    double x, y;

    if (as_int(a, &i) && as_int(b, &j))
        return int_op(r, op, i, j, out);
    if (as_float(a, &x) && as_float(b, &y))
        return float_op(r, op, x, y, out);
    if (op == RG_JOP_ADD && a.type == b.type && is_sequence(a))
        return add_sequences(r, a, b, out);
    if (op == RG_JOP_MUL && is_sequence(a) && as_int(b, &j))
        return repeat(r, a, j, out);
    if (op == RG_JOP_MUL && is_sequence(b) && as_int(a, &i))
        return repeat(r, b, i, out);
    if (op == RG_JOP_MOD && a.type == RG_J_STRING)
        return rg_jtext_percent(&r->w, a.as.string, b, out);
    return no_operator(r, op, a, b);
}

enum rg_code rg_jop_negate(struct rg_jrun *r, struct rg_jvalue a, bool minus, struct rg_jvalue *out)
{
    int64_t i;

    if (a.type == RG_J_FLOAT) {
        *out = rg_jv_float(minus ? -a.as.number : a.as.number);
        return RG_OK;
    }
    if (as_int(a, &i)) {
        if (minus && i == INT64_MIN)
            return overflow(r);
        *out = rg_jv_int(minus ? -i : i);
        return RG_OK;
    }
    if (a.type == RG_J_UNDEFINED)
        return rg_jundefined(r, a);
    return rg_jfail(&r->w, RG_E_BAD_DATA, "%c%s", minus ? '-' : '+', rg_jv_type_name(a));
}

enum rg_code rg_jop_compare(struct rg_jrun *r, enum rg_jop op, struct rg_jvalue a,
                            struct rg_jvalue b, bool *out)
{
    int order;

    switch (op) {
    case RG_JOP_EQ:
        return rg_jv_equal(&r->w, a, b, out);
    case RG_JOP_NE:
        RG_TRY(rg_jv_equal(&r->w, a, b, out));
        *out = !*out;
        return RG_OK;
    case RG_JOP_IN:
        return rg_jv_contains(&r->w, b, a, out);
    case RG_JOP_NOT_IN:
        RG_TRY(rg_jv_contains(&r->w, b, a, out));
        *out = !*out;
        return RG_OK;
    default:
        break;
    }
    if (a.type == RG_J_UNDEFINED || b.type == RG_J_UNDEFINED)
        return rg_jundefined(r, a.type == RG_J_UNDEFINED ? a : b);
    RG_TRY(rg_jv_order(&r->w, a, b, &order));
    *out = order != 2 && ((op == RG_JOP_LT && order < 0) || (op == RG_JOP_LE && order <= 0) ||
                          (op == RG_JOP_GT && order > 0) || (op == RG_JOP_GE && order >= 0));
    return RG_OK;
}
