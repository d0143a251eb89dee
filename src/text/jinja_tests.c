/* jinja_tests.c - what may stand after "is". */
#include <string.h>

#include "base/utf8.h"
#include "text/jinja_builtin.h"
#include "text/jinja_unicode.h"

static enum rg_code is_bool(struct rg_jvalue v, bool which, bool *out)
{
    *out = v.type == RG_J_BOOL && v.as.boolean == which;
    return RG_OK;
}

static enum rg_code is_true(struct rg_jrun *r, struct rg_jvalue v, struct rg_jargs *args, bool *out)
{
    (void)r, (void)args;
    return is_bool(v, true, out);
}

static enum rg_code is_false(struct rg_jrun *r, struct rg_jvalue v, struct rg_jargs *args,
                             bool *out)
{
    (void)r, (void)args;
    return is_bool(v, false, out);
}

static enum rg_code is_eq(struct rg_jrun *r, struct rg_jvalue v, struct rg_jargs *args, bool *out)
{
    return rg_jop_compare(r, RG_JOP_EQ, v, args->items[0], out);
}

static enum rg_code is_ne(struct rg_jrun *r, struct rg_jvalue v, struct rg_jargs *args, bool *out)
{
    return rg_jop_compare(r, RG_JOP_NE, v, args->items[0], out);
}

static enum rg_code is_lt(struct rg_jrun *r, struct rg_jvalue v, struct rg_jargs *args, bool *out)
{
    return rg_jop_compare(r, RG_JOP_LT, v, args->items[0], out);
}

static enum rg_code is_le(struct rg_jrun *r, struct rg_jvalue v, struct rg_jargs *args, bool *out)
{
    return rg_jop_compare(r, RG_JOP_LE, v, args->items[0], out);
}

static enum rg_code is_gt(struct rg_jrun *r, struct rg_jvalue v, struct rg_jargs *args, bool *out)
{
    return rg_jop_compare(r, RG_JOP_GT, v, args->items[0], out);
}

static enum rg_code is_ge(struct rg_jrun *r, struct rg_jvalue v, struct rg_jargs *args, bool *out)
{
    return rg_jop_compare(r, RG_JOP_GE, v, args->items[0], out);
}

static enum rg_code is_in(struct rg_jrun *r, struct rg_jvalue v, struct rg_jargs *args, bool *out)
{
    return rg_jop_compare(r, RG_JOP_IN, v, args->items[0], out);
}

/* Python's "is": the same object.  Scalars that are equal and of one type count as one. */
static enum rg_code is_sameas(struct rg_jrun *r, struct rg_jvalue v, struct rg_jargs *args,
                              bool *out)
{
    const struct rg_jvalue other = args->items[0];

    *out = false;
    if (v.type != other.type)
        return RG_OK;
    if (v.type == RG_J_LIST || v.type == RG_J_TUPLE || v.type == RG_J_DICT) {
        *out = v.as.list == other.as.list;
        return RG_OK;
    }
    return rg_jv_equal(&r->w, v, other, out);
}

static enum rg_code remainder_is(struct rg_jrun *r, struct rg_jvalue v, int64_t by, int64_t wanted,
                                 bool *out)
{
    struct rg_jvalue rest;

    RG_TRY(rg_jop_binary(r, RG_JOP_MOD, v, rg_jv_int(by), &rest));
    return rg_jv_equal(&r->w, rest, rg_jv_int(wanted), out);
}

static enum rg_code is_odd(struct rg_jrun *r, struct rg_jvalue v, struct rg_jargs *args, bool *out)
{
    (void)args;
    return remainder_is(r, v, 2, 1, out);
}

static enum rg_code is_even(struct rg_jrun *r, struct rg_jvalue v, struct rg_jargs *args, bool *out)
{
    (void)args;
    return remainder_is(r, v, 2, 0, out);
}

static enum rg_code is_divisibleby(struct rg_jrun *r, struct rg_jvalue v, struct rg_jargs *args,
                                   bool *out)
{
    if (args->items[0].type != RG_J_INT)
        return rg_jfail(&r->w, RG_E_BAD_DATA, "divisibleby %s", rg_jv_type_name(args->items[0]));
    return remainder_is(r, v, args->items[0].as.integer, 0, out);
}

/* str.islower() and str.isupper(): at least one cased character, and none that the mapping moves.
 */
static enum rg_code all_of_case(struct rg_jrun *r, struct rg_jvalue v, enum rg_jtext_casing casing,
                                bool *out)
{
    struct rg_jvalue mapped;
    bool any = false;

    RG_TRY(rg_jv_string(&r->w, v, &v));
    RG_TRY(rg_jtext_case(&r->w, v.as.string, casing, &mapped));
    for (size_t at = 0; at < v.as.string->len;) {
        uint32_t cp;

        at += rg_utf8_next(rg_jstr_data(v.as.string) + at, v.as.string->len - at, &cp);
        any = any || rg_junicode_cased(cp);
    }
    *out = any && rg_jstr_equal(v.as.string, mapped.as.string);
    return RG_OK;
}

static enum rg_code is_lower(struct rg_jrun *r, struct rg_jvalue v, struct rg_jargs *args,
                             bool *out)
{
    (void)args;
    return all_of_case(r, v, RG_JTEXT_LOWER, out);
}

static enum rg_code is_upper(struct rg_jrun *r, struct rg_jvalue v, struct rg_jargs *args,
                             bool *out)
{
    (void)args;
    return all_of_case(r, v, RG_JTEXT_UPPER, out);
}

#define T(type) (1u << RG_J_##type)
#define ALL_DEFINED (~(T(UNDEFINED) | T(ABSENT)))

static const struct rg_jtest tests[] = {
    {"!=", 0, is_ne, 1},
    {"<", 0, is_lt, 1},
    {"<=", 0, is_le, 1},
    {"==", 0, is_eq, 1},
    {">", 0, is_gt, 1},
    {">=", 0, is_ge, 1},
    {"boolean", T(BOOL), NULL, 0},
    {"callable", T(MACRO) | T(FUNCTION) | T(METHOD), NULL, 0},
    {"defined", ALL_DEFINED, NULL, 0},
    {"divisibleby", 0, is_divisibleby, 1},
    {"eq", 0, is_eq, 1},
    {"equalto", 0, is_eq, 1},
    {"even", 0, is_even, 0},
    {"false", 0, is_false, 0},
    {"float", T(FLOAT), NULL, 0},
    {"ge", 0, is_ge, 1},
    {"greaterthan", 0, is_gt, 1},
    {"gt", 0, is_gt, 1},
    {"in", 0, is_in, 1},
    {"integer", T(INT) | T(BIGINT), NULL, 0},
    {"iterable",
     T(UNDEFINED) | T(STRING) | T(LIST) | T(TUPLE) | T(VIEW) | T(ITER) | T(DICT) | T(LOOP), NULL,
     0},
    {"le", 0, is_le, 1},
    {"lessthan", 0, is_lt, 1},
    {"lower", 0, is_lower, 0},
    {"lt", 0, is_lt, 1},
    {"mapping", T(DICT), NULL, 0},
    {"ne", 0, is_ne, 1},
    {"none", T(NONE), NULL, 0},
    {"number", T(INT) | T(BIGINT) | T(FLOAT) | T(BOOL), NULL, 0},
    {"odd", 0, is_odd, 0},
    {"sameas", 0, is_sameas, 1},
    {"sequence", T(UNDEFINED) | T(STRING) | T(LIST) | T(TUPLE) | T(VIEW) | T(DICT), NULL, 0},
    {"string", T(STRING), NULL, 0},
    {"true", 0, is_true, 0},
    {"undefined", T(UNDEFINED), NULL, 0},
    {"upper", 0, is_upper, 0},
};

const struct rg_jtest *rg_jtest_find(const char *name)
{
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        if (strcmp(tests[i].name, name) == 0)
            return &tests[i];
    return NULL;
}

enum rg_code rg_jtest_call(struct rg_jrun *r, const struct rg_jtest *t, struct rg_jvalue in,
                           struct rg_jargs *args, bool *out)
{
    if (args->n != t->n_args || args->n_keywords)
        return rg_jfail(&r->w, RG_E_BAD_DATA, "test '%s' takes %u arguments, not %u", t->name,
                        t->n_args, args->n + args->n_keywords);
    if (t->fn)
        return t->fn(r, in, args, out);
    *out = (t->types >> in.type) & 1u;
    return RG_OK;
}
