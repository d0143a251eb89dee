/* jinja_expr.c - evaluates expressions. */
#include <string.h>

#include "base/limits.h"
#include "text/jinja_builtin.h"

enum rg_code rg_jundefined(struct rg_jrun *r, struct rg_jvalue v)
{
    if (v.as.string)
        return rg_jfail(&r->w, RG_E_BAD_DATA, "'%.*s' is undefined", (int)v.as.string->len,
                        rg_jstr_data(v.as.string));
    return rg_jfail(&r->w, RG_E_BAD_DATA, "undefined value used");
}

/* ---- calls ---------------------------------------------------------------------------------- */

/* Evaluates the arguments of x.  The caller's struct is the only owner. */
static enum rg_code eval_args(struct rg_jrun *r, const struct rg_jexpr *x, struct rg_jargs *args)
{
    const uint32_t n = x->n_args + x->n_keywords;
    const char **names = NULL;

    *args = (struct rg_jargs){.n = x->n_args, .n_keywords = x->n_keywords};
    if (n == 0)
        return RG_OK;
    args->items = rg_jalloc(&r->w, n * sizeof *args->items);
    if (!args->items)
        return rg_jshort(&r->w);
    args->keywords = args->items + x->n_args;
    if (x->n_keywords) {
        names = rg_jalloc(&r->w, x->n_keywords * sizeof *names);
        if (!names)
            return rg_jshort(&r->w);
    }
    for (uint32_t i = 0; i < x->n_args; i++)
        RG_TRY(rg_jeval(r, x->args[i], &args->items[i]));
    for (uint32_t i = 0; i < x->n_keywords; i++) {
        RG_TRY(rg_jeval(r, x->keywords[i], &args->keywords[i]));
        names[i] = r->t->names[x->keyword_names[i]].text;
    }
    args->keyword_names = names;
    return RG_OK;
}

static enum rg_code call_method(struct rg_jrun *r, const struct rg_jmethod *m,
                                struct rg_jvalue object, struct rg_jargs *args,
                                struct rg_jvalue *out)
{
    RG_TRY(rg_jargs_bind(r, m->name, m->params, m->n_required, args));
    return m->fn(r, object, args, out);
}

static enum rg_code call_value(struct rg_jrun *r, struct rg_jvalue callee, struct rg_jargs *args,
                               struct rg_jvalue *out)
{
    switch (callee.type) {
    case RG_J_MACRO:
        return rg_jmacro_call(r, callee.as.macro, args, out);
    case RG_J_FUNCTION:
        RG_TRY(rg_jargs_bind(r, callee.as.function->name, callee.as.function->params,
                             callee.as.function->n_required, args));
        return callee.as.function->fn(r, args, out);
    case RG_J_METHOD:
        return call_method(r, callee.as.method->method, callee.as.method->object, args, out);
    case RG_J_UNDEFINED:
        return rg_jundefined(r, callee);
    default:
        return rg_jfail(&r->w, RG_E_BAD_DATA, "%s cannot be called", rg_jv_type_name(callee));
    }
}

static enum rg_code eval_call(struct rg_jrun *r, const struct rg_jexpr *x, struct rg_jvalue *out)
{
    const struct rg_jexpr *callee = x->a;
    const struct rg_jmethod *method = NULL;
    struct rg_jargs args;
    struct rg_jvalue object;

    if (callee->kind == RG_JX_ATTR) {
        RG_TRY(rg_jeval(r, callee->a, &object));
        method = callee->method ? rg_jmethod_for(callee->method, object.type) : NULL;
        if (!method)
            RG_TRY(rg_jget_attr(r, object, r->t->names[callee->name].string, NULL, &object));
    } else {
        RG_TRY(rg_jeval(r, callee, &object));
    }
    RG_TRY(eval_args(r, x, &args));
    r->w.line = x->line;
    if (method)
        return call_method(r, method, object, &args, out);
    return call_value(r, object, &args, out);
}

static enum rg_code eval_filter(struct rg_jrun *r, const struct rg_jexpr *x, struct rg_jvalue in,
                                struct rg_jvalue *out)
{
    struct rg_jargs args;

    RG_TRY(eval_args(r, x, &args));
    r->w.line = x->line;
    return rg_jfilter_call(r, x->filter, in, &args, out);
}

enum rg_code rg_jeval_filters(struct rg_jrun *r, const struct rg_jexpr *x, struct rg_jvalue in,
                              struct rg_jvalue *out)
{
    if (x->a)
        RG_TRY(rg_jeval_filters(r, x->a, in, &in));
    return eval_filter(r, x, in, out);
}

static enum rg_code eval_test(struct rg_jrun *r, const struct rg_jexpr *x, struct rg_jvalue *out)
{
    struct rg_jargs args;
    struct rg_jvalue in;
    bool is;

    RG_TRY(rg_jeval(r, x->a, &in));
    RG_TRY(eval_args(r, x, &args));
    r->w.line = x->line;
    RG_TRY(rg_jtest_call(r, x->test, in, &args, &is));
    *out = rg_jv_bool(is);
    return RG_OK;
}

/* ---- literals and access -------------------------------------------------------------------- */

static enum rg_code eval_list(struct rg_jrun *r, const struct rg_jexpr *x, struct rg_jvalue *out)
{
    struct rg_jlist *l = rg_jlist_new(&r->w, x->n_args);

    if (!l)
        return rg_jshort(&r->w);
    for (uint32_t i = 0; i < x->n_args; i++) {
        struct rg_jvalue v;

        RG_TRY(rg_jeval(r, x->args[i], &v));
        RG_TRY(rg_jlist_push(&r->w, l, v));
    }
    *out = rg_jv_list(x->kind == RG_JX_LIST ? RG_J_LIST : RG_J_TUPLE, l);
    return RG_OK;
}

static enum rg_code eval_dict(struct rg_jrun *r, const struct rg_jexpr *x, struct rg_jvalue *out)
{
    struct rg_jdict *d = rg_jdict_new(&r->w);

    if (!d)
        return rg_jshort(&r->w);
    for (uint32_t i = 0; i + 1 < x->n_args; i += 2) {
        struct rg_jvalue key, value;

        RG_TRY(rg_jeval(r, x->args[i], &key));
        RG_TRY(rg_jeval(r, x->args[i + 1], &value));
        RG_TRY(rg_jdict_set(&r->w, d, key, value));
    }
    *out = rg_jv_dict(d);
    return RG_OK;
}

static enum rg_code eval_access(struct rg_jrun *r, const struct rg_jexpr *x, struct rg_jvalue *out)
{
    struct rg_jvalue a, key;
    struct rg_jvalue bounds[3] = {rg_jv_none(), rg_jv_none(), rg_jv_none()};
    const struct rg_jexpr *parts[3] = {x->b, x->c, x->d};

    RG_TRY(rg_jeval(r, x->a, &a));
    if (x->kind == RG_JX_ATTR) {
        r->w.line = x->line;
        return rg_jget_attr(r, a, r->t->names[x->name].string, x->method, out);
    }
    if (x->kind == RG_JX_ITEM) {
        RG_TRY(rg_jeval(r, x->b, &key));
        r->w.line = x->line;
        return rg_jget_item(r, a, key, out);
    }
    for (size_t i = 0; i < 3; i++)
        if (parts[i])
            RG_TRY(rg_jeval(r, parts[i], &bounds[i]));
    r->w.line = x->line;
    return rg_jget_slice(r, a, bounds, out);
}

/* ---- operators ------------------------------------------------------------------------------ */

static enum rg_code eval_concat(struct rg_jrun *r, const struct rg_jexpr *x, struct rg_jvalue *out)
{
    struct rg_jvalue all, part;

    RG_TRY(rg_jeval(r, x->args[0], &all));
    RG_TRY(rg_jv_string(&r->w, all, &all));
    for (uint32_t i = 1; i < x->n_args; i++) {
        RG_TRY(rg_jeval(r, x->args[i], &part));
        RG_TRY(rg_jv_string(&r->w, part, &part));
        RG_TRY(rg_jstr_concat(&r->w, all.as.string, part.as.string, &all));
    }
    *out = all;
    return RG_OK;
}

static enum rg_code eval_compare(struct rg_jrun *r, const struct rg_jexpr *x, struct rg_jvalue *out)
{
    struct rg_jvalue left, right;
    bool holds = true;

    RG_TRY(rg_jeval(r, x->args[0], &left));
    for (uint32_t i = 1; holds && i < x->n_args; i++) {
        RG_TRY(rg_jeval(r, x->args[i], &right));
        r->w.line = x->line;
        RG_TRY(rg_jop_compare(r, (enum rg_jop)x->ops[i - 1], left, right, &holds));
        left = right;
    }
    *out = rg_jv_bool(holds);
    return RG_OK;
}

/* not, and, or, inline if: what is evaluated depends on the first value. */
static enum rg_code eval_logic(struct rg_jrun *r, const struct rg_jexpr *x, struct rg_jvalue *out)
{
    struct rg_jvalue a;

    RG_TRY(rg_jeval(r, x->a, &a));

    const bool truth = rg_jv_truth(a);

    *out = a;
    switch (x->kind) {
    case RG_JX_NOT:
        *out = rg_jv_bool(!truth);
        return RG_OK;
    case RG_JX_AND:
        return truth ? rg_jeval(r, x->b, out) : RG_OK;
    case RG_JX_OR:
        return truth ? RG_OK : rg_jeval(r, x->b, out);
    case RG_JX_IF:
    default:
        if (truth)
            return rg_jeval(r, x->b, out);
        *out = rg_jv_undefined();
        return x->c ? rg_jeval(r, x->c, out) : RG_OK;
    }
}

static enum rg_code eval_arithmetic(struct rg_jrun *r, const struct rg_jexpr *x,
                                    struct rg_jvalue *out)
{
    struct rg_jvalue a, b;

    RG_TRY(rg_jeval(r, x->a, &a));
    if (x->kind == RG_JX_NEG || x->kind == RG_JX_POS)
        return rg_jop_negate(r, a, x->kind == RG_JX_NEG, out);
    RG_TRY(rg_jeval(r, x->b, &b));
    r->w.line = x->line;
    return rg_jop_binary(r, x->op, a, b, out);
}

static enum rg_code eval(struct rg_jrun *r, const struct rg_jexpr *x, struct rg_jvalue *out)
{
    struct rg_jvalue in;

    switch (x->kind) {
    case RG_JX_CONST:
        *out = x->value;
        return RG_OK;
    case RG_JX_NAME:
        *out = rg_jscope_get(r, x->name);
        return RG_OK;
    case RG_JX_LIST:
    case RG_JX_TUPLE:
        return eval_list(r, x, out);
    case RG_JX_DICT:
        return eval_dict(r, x, out);
    case RG_JX_ATTR:
    case RG_JX_ITEM:
    case RG_JX_SLICE:
        return eval_access(r, x, out);
    case RG_JX_CALL:
        return eval_call(r, x, out);
    case RG_JX_FILTER:
        RG_TRY(rg_jeval(r, x->a, &in));
        return eval_filter(r, x, in, out);
    case RG_JX_TEST:
        return eval_test(r, x, out);
    case RG_JX_CONCAT:
        return eval_concat(r, x, out);
    case RG_JX_COMPARE:
        return eval_compare(r, x, out);
    case RG_JX_NOT:
    case RG_JX_AND:
    case RG_JX_OR:
    case RG_JX_IF:
        return eval_logic(r, x, out);
    case RG_JX_NEG:
    case RG_JX_POS:
    case RG_JX_BINARY:
    default:
        return eval_arithmetic(r, x, out);
    }
}

enum rg_code rg_jeval(struct rg_jrun *r, const struct rg_jexpr *x, struct rg_jvalue *out)
{
    r->w.line = x->line;
    if (++r->w.steps > RG_LIMIT_TEMPLATE_STEPS)
        return rg_jfail(&r->w, RG_E_LIMIT, "more than %u steps", RG_LIMIT_TEMPLATE_STEPS);
    if (++r->w.depth > RG_JDEPTH_MAX)
        return rg_jfail(&r->w, RG_E_LIMIT, "nested too deeply");
    RG_TRY(eval(r, x, out));
    r->w.depth--;
    return RG_OK;
}
