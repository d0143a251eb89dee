/* jinja_parse_primary.c - literals, calls, subscripts, filters and tests of an expression. */
#include "text/jinja_parse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "text/jinja_builtin.h"

/* ---- literals ------------------------------------------------------------------------------- */

static enum rg_code constant(struct rg_jparser *p, struct rg_jvalue v, struct rg_jexpr **out)
{
    struct rg_jexpr *x = rg_jparse_node(p, RG_JX_CONST);

    if (!x)
        return rg_jshort(p->w);
    x->value = v;
    return rg_jparse_done(p, x, out);
}

/* The digits of a number without underscores. */
static char *number_text(struct rg_jparser *p, const struct rg_jtoken *token)
{
    char *text = rg_jalloc(p->w, token->len + 1);
    size_t n = 0;

    if (!text)
        return NULL;
    for (size_t i = 0; i < token->len; i++)
        if (token->text[i] != '_')
            text[n++] = token->text[i];
    return text;
}

static enum rg_code integer_value(struct rg_jparser *p, struct rg_jvalue *v)
{
    char *text = number_text(p, rg_jparse_peek(p));

    if (!text)
        return rg_jshort(p->w);
    errno = 0;
    *v = rg_jv_int(strtoll(text, NULL, 10));
    if (errno != 0)
        return rg_jfail(p->w, RG_E_UNSUPPORTED, "integer literal %.40s beyond 64 bits", text);
    rg_jparse_next(p);
    return RG_OK;
}

static enum rg_code number(struct rg_jparser *p, struct rg_jexpr **out)
{
    struct rg_jvalue v;

    if (rg_jparse_peek(p)->kind == RG_JT_INTEGER) {
        RG_TRY(integer_value(p, &v));
        return constant(p, v, out);
    }

    char *text = number_text(p, rg_jparse_peek(p));

    if (!text)
        return rg_jshort(p->w);
    rg_jparse_next(p);
    return constant(p, rg_jv_float(strtod(text, NULL)), out);
}

/* Adjacent string literals are one string. */
static enum rg_code string(struct rg_jparser *p, struct rg_jexpr **out)
{
    struct rg_jtext *bytes = rg_jtext_new(p->w, 0);
    struct rg_jtext *literals = p->t->literals;

    if (!bytes)
        return rg_jshort(p->w);
    for (; rg_jparse_peek(p)->kind == RG_JT_STRING; rg_jparse_next(p)) {
        const struct rg_jtoken *token = rg_jparse_peek(p);

        RG_TRY(rg_jtext_add(p->w, bytes, token->text, token->len, true));
    }
    RG_TRY(rg_jtext_add(p->w, literals, bytes->data, bytes->len, true));
    RG_TRY(rg_jtext_add(p->w, literals, "\n", 1, true));
    RG_TRY(rg_jtext_add(p->w, bytes, "", 1, true)); /* names of filters and tests end with a NUL */

    const struct rg_jstr *s = rg_jstr_borrow(p->w, bytes->data, bytes->len - 1, true);

    if (!s)
        return rg_jshort(p->w);
    return constant(p, rg_jv_str(s), out);
}

static enum rg_code list(struct rg_jparser *p, struct rg_jexpr **out)
{
    struct rg_jexpr *x = rg_jparse_node(p, RG_JX_LIST);
    struct rg_jitems items = {0};

    if (!x)
        return rg_jshort(p->w);
    rg_jparse_next(p);
    while (!rg_jparse_is_op(p, "]")) {
        struct rg_jexpr *item;

        if (items.n)
            RG_TRY(rg_jparse_expect_op(p, ","));
        if (rg_jparse_is_op(p, "]"))
            break;
        RG_TRY(rg_jparse_expr(p, &item));
        RG_TRY(rg_jparse_add(p, &items, item));
    }
    rg_jparse_next(p);
    x->args = items.data;
    x->n_args = items.n;
    return rg_jparse_done(p, x, out);
}

static enum rg_code dict(struct rg_jparser *p, struct rg_jexpr **out)
{
    struct rg_jexpr *x = rg_jparse_node(p, RG_JX_DICT);
    struct rg_jitems items = {0};

    if (!x)
        return rg_jshort(p->w);
    rg_jparse_next(p);
    while (!rg_jparse_is_op(p, "}")) {
        struct rg_jexpr *item;

        if (items.n)
            RG_TRY(rg_jparse_expect_op(p, ","));
        if (rg_jparse_is_op(p, "}"))
            break;
        RG_TRY(rg_jparse_expr(p, &item));
        RG_TRY(rg_jparse_add(p, &items, item));
        RG_TRY(rg_jparse_expect_op(p, ":"));
        RG_TRY(rg_jparse_expr(p, &item));
        RG_TRY(rg_jparse_add(p, &items, item));
    }
    rg_jparse_next(p);
    x->args = items.data;
    x->n_args = items.n;
    return rg_jparse_done(p, x, out);
}

/* ---- primary and postfix -------------------------------------------------------------------- */

static enum rg_code name(struct rg_jparser *p, struct rg_jexpr **out)
{
    struct rg_jexpr *x = rg_jparse_node(p, RG_JX_NAME);

    if (!x)
        return rg_jshort(p->w);
    RG_TRY(rg_jparse_expect_name(p, &x->name));
    p->t->names[x->name].is_read = true;
    return rg_jparse_done(p, x, out);
}

enum rg_code rg_jparse_primary(struct rg_jparser *p, struct rg_jexpr **out)
{
    const struct rg_jtoken *token = rg_jparse_peek(p);

    switch (token->kind) {
    case RG_JT_STRING:
        return string(p, out);
    case RG_JT_INTEGER:
    case RG_JT_FLOAT:
        return number(p, out);
    case RG_JT_NAME:
        if (rg_jparse_skip_name(p, "true") || rg_jparse_skip_name(p, "True"))
            return constant(p, rg_jv_bool(true), out);
        if (rg_jparse_skip_name(p, "false") || rg_jparse_skip_name(p, "False"))
            return constant(p, rg_jv_bool(false), out);
        if (rg_jparse_skip_name(p, "none") || rg_jparse_skip_name(p, "None"))
            return constant(p, rg_jv_none(), out);
        return name(p, out);
    case RG_JT_OPERATOR:
        if (rg_jparse_is_op(p, "["))
            return list(p, out);
        if (rg_jparse_is_op(p, "{"))
            return dict(p, out);
        if (rg_jparse_skip_op(p, "(")) {
            RG_TRY(rg_jparse_tuple(p, RG_JTUPLE_PAREN, out));
            return rg_jparse_expect_op(p, ")");
        }
        return rg_jparse_unexpected(p, "an expression");
    default:
        return rg_jparse_unexpected(p, "an expression");
    }
}

/* "(a, b=c)" into x->args and x->keywords. */
static enum rg_code call_args(struct rg_jparser *p, struct rg_jexpr *x)
{
    struct rg_jitems args = {0}, keywords = {0};
    uint32_t names_capacity = 0;
    bool first = true;

    RG_TRY(rg_jparse_expect_op(p, "("));
    for (; !rg_jparse_is_op(p, ")"); first = false) {
        struct rg_jexpr *value;

        if (!first)
            RG_TRY(rg_jparse_expect_op(p, ","));
        if (rg_jparse_is_op(p, ")"))
            break;
        if (rg_jparse_is_op(p, "*") || rg_jparse_is_op(p, "**"))
            return rg_jfail(p->w, RG_E_UNSUPPORTED, "* and ** in a call");
        if (rg_jparse_peek(p)->kind == RG_JT_NAME && strcmp(p->tokens[p->at + 1].op, "=") == 0) {
            void *names = x->keyword_names;
            uint32_t keyword;

            RG_TRY(rg_jgrow(p->w, &names, &names_capacity, (size_t)keywords.n + 1,
                            sizeof *x->keyword_names));
            x->keyword_names = names;
            RG_TRY(rg_jparse_expect_name(p, &keyword));
            rg_jparse_next(p);
            RG_TRY(rg_jparse_expr(p, &value));
            x->keyword_names[keywords.n] = keyword;
            RG_TRY(rg_jparse_add(p, &keywords, value));
        } else {
            if (keywords.n)
                return rg_jfail(p->w, RG_E_BAD_DATA, "argument after a keyword argument");
            RG_TRY(rg_jparse_expr(p, &value));
            RG_TRY(rg_jparse_add(p, &args, value));
        }
    }
    rg_jparse_next(p);
    x->args = args.data;
    x->n_args = args.n;
    x->keywords = keywords.data;
    x->n_keywords = keywords.n;
    return RG_OK;
}

enum rg_code rg_jparse_check_format(struct rg_jparser *p, const struct rg_jexpr *format,
                                    bool percent)
{
    const struct rg_jstr *s = NULL;
    const char *unknown = NULL;

    if (format && format->kind == RG_JX_CONST && format->value.type == RG_J_STRING)
        s = format->value.as.string;
    if (s)
        unknown = rg_jtext_unknown_format(s, percent);
    if (unknown)
        return rg_jfail(p->w, RG_E_UNSUPPORTED, "unknown conversion '%.*s' in a format",
                        rg_jstr_data(s) + s->len - unknown < 8
                            ? (int)(rg_jstr_data(s) + s->len - unknown)
                            : 8,
                        unknown);
    return RG_OK;
}

/* What a call calls is known now: a function, a method, or something the template binds. */
static enum rg_code check_call(struct rg_jparser *p, struct rg_jexpr *x)
{
    const struct rg_jexpr *callee = x->a;
    const char *name = p->t->names[callee->name].text;

    if (callee->kind == RG_JX_NAME) {
        if (p->t->names[callee->name].called_line == 0)
            p->t->names[callee->name].called_line = x->line;
        return rg_jparse_add(p, &p->calls, x);
    }
    if (callee->kind != RG_JX_ATTR)
        return RG_OK;
    if (!callee->method)
        return rg_jfail(p->w, RG_E_UNSUPPORTED, "unknown method '%s'", name);
    if (!rg_jmethod_fits(p->t, name, x))
        return rg_jfail(p->w, RG_E_UNSUPPORTED, "method '%s' with these arguments", name);
    return strcmp(name, "format") == 0 ? rg_jparse_check_format(p, callee->a, false) : RG_OK;
}

static enum rg_code call(struct rg_jparser *p, struct rg_jexpr *callee, struct rg_jexpr **out)
{
    struct rg_jexpr *x = rg_jparse_node(p, RG_JX_CALL);

    if (!x)
        return rg_jshort(p->w);
    x->a = callee;
    RG_TRY(call_args(p, x));
    RG_TRY(check_call(p, x));
    return rg_jparse_done(p, x, out);
}

static enum rg_code attribute(struct rg_jparser *p, struct rg_jexpr *object, struct rg_jexpr **out)
{
    struct rg_jexpr *x = rg_jparse_node(p, RG_JX_ATTR);

    if (!x)
        return rg_jshort(p->w);
    rg_jparse_next(p);
    x->a = object;
    if (rg_jparse_peek(p)->kind == RG_JT_INTEGER) {
        struct rg_jvalue v;

        RG_TRY(integer_value(p, &v));
        x->kind = RG_JX_ITEM;
        RG_TRY(constant(p, v, &x->b));
        return rg_jparse_done(p, x, out);
    }
    RG_TRY(rg_jparse_expect_name(p, &x->name));
    x->method = rg_jmethod_find(p->t->names[x->name].text);
    return rg_jparse_done(p, x, out);
}

/* One of the three parts of a slice; *out stays NULL where there is none. */
static enum rg_code slice_part(struct rg_jparser *p, struct rg_jexpr **out)
{
    if (rg_jparse_is_op(p, ":") || rg_jparse_is_op(p, "]") || rg_jparse_is_op(p, ","))
        return RG_OK;
    return rg_jparse_expr(p, out);
}

static enum rg_code subscript(struct rg_jparser *p, struct rg_jexpr *object, struct rg_jexpr **out)
{
    struct rg_jexpr *x = rg_jparse_node(p, RG_JX_ITEM);

    if (!x)
        return rg_jshort(p->w);
    rg_jparse_next(p);
    x->a = object;
    RG_TRY(slice_part(p, &x->b));
    if (rg_jparse_skip_op(p, ":")) {
        x->kind = RG_JX_SLICE;
        RG_TRY(slice_part(p, &x->c));
        if (rg_jparse_skip_op(p, ":"))
            RG_TRY(slice_part(p, &x->d));
    } else if (!x->b) {
        return rg_jparse_unexpected(p, "a subscript");
    }
    RG_TRY(rg_jparse_expect_op(p, "]"));
    return rg_jparse_done(p, x, out);
}

enum rg_code rg_jparse_postfix(struct rg_jparser *p, struct rg_jexpr **x)
{
    for (;;) {
        if (rg_jparse_is_op(p, "."))
            RG_TRY(attribute(p, *x, x));
        else if (rg_jparse_is_op(p, "["))
            RG_TRY(subscript(p, *x, x));
        else if (rg_jparse_is_op(p, "("))
            RG_TRY(call(p, *x, x));
        else
            return RG_OK;
    }
}

/* ---- filters and tests ---------------------------------------------------------------------- */

/* map('upper'), select('string'), selectattr('type', 'defined'): the name inside is checked too. */
static enum rg_code check_inner(struct rg_jparser *p, const struct rg_jexpr *x)
{
    const bool is_map = strcmp(x->filter->name, "map") == 0;
    const bool by_test =
        strcmp(x->filter->name, "select") == 0 || strcmp(x->filter->name, "reject") == 0;
    const bool by_attr =
        strcmp(x->filter->name, "selectattr") == 0 || strcmp(x->filter->name, "rejectattr") == 0;
    const size_t at = by_attr ? 1 : 0;

    if ((!is_map && !by_test && !by_attr) || x->n_args <= at || x->args[at]->kind != RG_JX_CONST ||
        x->args[at]->value.type != RG_J_STRING)
        return RG_OK;

    const char *name = rg_jstr_data(x->args[at]->value.as.string);
    const struct rg_jfilter *filter = is_map ? rg_jfilter_find(name) : NULL;
    const struct rg_jtest *tested = is_map ? NULL : rg_jtest_find(name);
    struct rg_jexpr inner = *x; /* with the arguments behind the name */

    if (!filter && !tested)
        return rg_jfail(p->w, RG_E_UNSUPPORTED, "unknown %s '%.40s'", is_map ? "filter" : "test",
                        name);
    inner.args += at + 1;
    inner.n_args -= (uint32_t)at + 1;
    if (filter ? !rg_jargs_fit(p->t, filter->params, filter->n_required, &inner)
               : inner.n_args != tested->n_args || inner.n_keywords)
        return rg_jfail(p->w, RG_E_UNSUPPORTED, "%s '%.40s' with these arguments",
                        is_map ? "filter" : "test", name);
    return RG_OK;
}

static enum rg_code check_filter(struct rg_jparser *p, const struct rg_jexpr *x)
{
    if (!rg_jargs_fit(p->t, x->filter->params, x->filter->n_required, x))
        return rg_jfail(p->w, RG_E_UNSUPPORTED, "filter '%s' with these arguments",
                        x->filter->name);
    if (strcmp(x->filter->name, "format") == 0)
        RG_TRY(rg_jparse_check_format(p, x->a, true));
    return check_inner(p, x);
}

enum rg_code rg_jparse_filters(struct rg_jparser *p, struct rg_jexpr *input, bool inline_,
                               struct rg_jexpr **out)
{
    *out = input;
    while (inline_ || rg_jparse_skip_op(p, "|")) {
        struct rg_jexpr *x = rg_jparse_node(p, RG_JX_FILTER);

        if (!x)
            return rg_jshort(p->w);
        inline_ = false;
        RG_TRY(rg_jparse_expect_name(p, &x->name));
        x->filter = rg_jfilter_find(p->t->names[x->name].text);
        if (!x->filter)
            return rg_jfail(p->w, RG_E_UNSUPPORTED, "unknown filter '%s'",
                            p->t->names[x->name].text);
        x->a = *out;
        if (rg_jparse_is_op(p, "("))
            RG_TRY(call_args(p, x));
        RG_TRY(check_filter(p, x));
        RG_TRY(rg_jparse_done(p, x, out));
    }
    return RG_OK;
}

/* The argument of a test without parentheses: "is divisibleby 3". */
static bool bare_argument_follows(const struct rg_jparser *p)
{
    switch (rg_jparse_peek(p)->kind) {
    case RG_JT_NAME:
        return !rg_jparse_is_name(p, "else") && !rg_jparse_is_name(p, "or") &&
               !rg_jparse_is_name(p, "and") && !rg_jparse_is_name(p, "if");
    case RG_JT_STRING:
    case RG_JT_INTEGER:
    case RG_JT_FLOAT:
        return true;
    default:
        return rg_jparse_is_op(p, "[") || rg_jparse_is_op(p, "{");
    }
}

/* x stands before "is". */
static enum rg_code test(struct rg_jparser *p, struct rg_jexpr **x)
{
    struct rg_jexpr *t = rg_jparse_node(p, RG_JX_TEST);
    struct rg_jitems args = {0};
    uint32_t number_of_name;

    if (!t)
        return rg_jshort(p->w);
    rg_jparse_next(p);

    const bool negated = rg_jparse_skip_name(p, "not");

    RG_TRY(rg_jparse_expect_name(p, &number_of_name));
    t->test = rg_jtest_find(p->t->names[number_of_name].text);
    if (!t->test)
        return rg_jfail(p->w, RG_E_UNSUPPORTED, "unknown test '%s'",
                        p->t->names[number_of_name].text);
    t->a = *x;
    if (rg_jparse_is_op(p, "(")) {
        RG_TRY(call_args(p, t));
    } else if (bare_argument_follows(p)) {
        struct rg_jexpr *arg;

        if (rg_jparse_is_name(p, "is"))
            return rg_jfail(p->w, RG_E_BAD_DATA, "tests cannot be chained with 'is'");
        RG_TRY(rg_jparse_primary(p, &arg));
        RG_TRY(rg_jparse_postfix(p, &arg));
        RG_TRY(rg_jparse_add(p, &args, arg));
        t->args = args.data;
        t->n_args = args.n;
    }
    if (t->n_args != t->test->n_args || t->n_keywords)
        return rg_jfail(p->w, RG_E_BAD_DATA, "test '%s' takes %u arguments, not %u", t->test->name,
                        t->test->n_args, t->n_args + t->n_keywords);
    RG_TRY(rg_jparse_done(p, t, x));
    if (!negated)
        return RG_OK;

    struct rg_jexpr *not_ = rg_jparse_node(p, RG_JX_NOT);

    if (!not_)
        return rg_jshort(p->w);
    not_->a = t;
    return rg_jparse_done(p, not_, x);
}

enum rg_code rg_jparse_filters_and_tests(struct rg_jparser *p, struct rg_jexpr **x)
{
    for (;;) {
        if (rg_jparse_is_op(p, "|"))
            RG_TRY(rg_jparse_filters(p, *x, false, x));
        else if (rg_jparse_is_name(p, "is"))
            RG_TRY(test(p, x));
        else if (rg_jparse_is_op(p, "("))
            RG_TRY(call(p, *x, x));
        else
            return RG_OK;
    }
}
