/* jinja_parse_expr.c - operators of expressions; one function per level of Jinja's grammar. */
#include "text/jinja_parse.h"

#include <string.h>

enum { HEIGHT_MAX = 256, ARGS_MAX = 4096 };

enum rg_code rg_jparse_add(struct rg_jparser *p, struct rg_jitems *l, struct rg_jexpr *x)
{
    void *data = l->data;

    if (l->n == ARGS_MAX)
        return rg_jfail(p->w, RG_E_LIMIT, "more than %d items", ARGS_MAX);
    RG_TRY(rg_jgrow(p->w, &data, &l->capacity, (size_t)l->n + 1, sizeof *l->data));
    l->data = data;
    l->data[l->n++] = x;
    return RG_OK;
}

struct rg_jexpr *rg_jparse_node(struct rg_jparser *p, enum rg_jexpr_kind kind)
{
    struct rg_jexpr *x = rg_jalloc(p->w, sizeof *x);

    if (x) {
        x->kind = kind;
        x->line = rg_jparse_peek(p)->line;
    }
    return x;
}

static uint32_t taller(uint32_t height, const struct rg_jexpr *x)
{
    return x && x->height > height ? x->height : height;
}

enum rg_code rg_jparse_done(struct rg_jparser *p, struct rg_jexpr *x, struct rg_jexpr **out)
{
    uint32_t height = 0;

    height = taller(taller(taller(taller(height, x->a), x->b), x->c), x->d);
    for (uint32_t i = 0; i < x->n_args; i++)
        height = taller(height, x->args[i]);
    for (uint32_t i = 0; i < x->n_keywords; i++)
        height = taller(height, x->keywords[i]);
    x->height = height + 1;
    if (x->height > HEIGHT_MAX)
        return rg_jfail(p->w, RG_E_LIMIT, "expression of more than %d levels", HEIGHT_MAX);
    *out = x;
    return RG_OK;
}

/* ---- operators, tightest first -------------------------------------------------------------- */

static enum rg_code unary(struct rg_jparser *p, bool with_filter, struct rg_jexpr **out)
{
    RG_TRY(rg_jparse_enter(p));
    if (rg_jparse_is_op(p, "-") || rg_jparse_is_op(p, "+")) {
        struct rg_jexpr *x = rg_jparse_node(p, rg_jparse_is_op(p, "-") ? RG_JX_NEG : RG_JX_POS);

        if (!x)
            return rg_jshort(p->w);
        rg_jparse_next(p);
        RG_TRY(unary(p, false, &x->a));
        RG_TRY(rg_jparse_done(p, x, out));
    } else {
        RG_TRY(rg_jparse_primary(p, out));
    }
    RG_TRY(rg_jparse_postfix(p, out));
    if (with_filter)
        RG_TRY(rg_jparse_filters_and_tests(p, out));
    p->depth--;
    return RG_OK;
}

static enum rg_code binary(struct rg_jparser *p, enum rg_jexpr_kind kind, enum rg_jop op,
                           struct rg_jexpr *right, struct rg_jexpr **left)
{
    struct rg_jexpr *x = rg_jparse_node(p, kind);

    if (!x)
        return rg_jshort(p->w);
    x->op = op;
    x->a = *left;
    x->b = right;
    return rg_jparse_done(p, x, left);
}

static enum rg_code power(struct rg_jparser *p, struct rg_jexpr **out)
{
    struct rg_jexpr *right;

    RG_TRY(unary(p, true, out));
    while (rg_jparse_skip_op(p, "**")) {
        RG_TRY(unary(p, true, &right));
        RG_TRY(binary(p, RG_JX_BINARY, RG_JOP_POW, right, out));
    }
    return RG_OK;
}

static enum rg_code product(struct rg_jparser *p, struct rg_jexpr **out)
{
    struct rg_jexpr *right;

    RG_TRY(power(p, out));
    for (;;) {
        enum rg_jop op;

        if (rg_jparse_skip_op(p, "*"))
            op = RG_JOP_MUL;
        else if (rg_jparse_skip_op(p, "/"))
            op = RG_JOP_DIV;
        else if (rg_jparse_skip_op(p, "//"))
            op = RG_JOP_FLOORDIV;
        else if (rg_jparse_skip_op(p, "%"))
            op = RG_JOP_MOD;
        else
            return RG_OK;
        if (op == RG_JOP_MOD)
            RG_TRY(rg_jparse_check_format(p, *out, true));
        RG_TRY(power(p, &right));
        RG_TRY(binary(p, RG_JX_BINARY, op, right, out));
    }
}

static enum rg_code concat(struct rg_jparser *p, struct rg_jexpr **out)
{
    struct rg_jitems items = {0};

    RG_TRY(product(p, out));
    if (!rg_jparse_is_op(p, "~"))
        return RG_OK;

    struct rg_jexpr *x = rg_jparse_node(p, RG_JX_CONCAT);

    if (!x)
        return rg_jshort(p->w);
    RG_TRY(rg_jparse_add(p, &items, *out));
    while (rg_jparse_skip_op(p, "~")) {
        struct rg_jexpr *item;

        RG_TRY(product(p, &item));
        RG_TRY(rg_jparse_add(p, &items, item));
    }
    x->args = items.data;
    x->n_args = items.n;
    return rg_jparse_done(p, x, out);
}

static enum rg_code sum(struct rg_jparser *p, struct rg_jexpr **out)
{
    struct rg_jexpr *right;

    RG_TRY(concat(p, out));
    for (;;) {
        enum rg_jop op;

        if (rg_jparse_skip_op(p, "+"))
            op = RG_JOP_ADD;
        else if (rg_jparse_skip_op(p, "-"))
            op = RG_JOP_SUB;
        else
            return RG_OK;
        RG_TRY(concat(p, &right));
        RG_TRY(binary(p, RG_JX_BINARY, op, right, out));
    }
}

/* Reads a comparison operator; false when none follows. */
static bool compare_op(struct rg_jparser *p, uint8_t *op)
{
    static const struct {
        const char *text;
        uint8_t op;
    } ops[] = {{"==", RG_JOP_EQ}, {"!=", RG_JOP_NE}, {"<", RG_JOP_LT},
               {"<=", RG_JOP_LE}, {">", RG_JOP_GT},  {">=", RG_JOP_GE}};

    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        if (rg_jparse_skip_op(p, ops[i].text)) {
            *op = ops[i].op;
            return true;
        }
    }
    if (rg_jparse_skip_name(p, "in")) {
        *op = RG_JOP_IN;
        return true;
    }
    if (rg_jparse_is_name(p, "not") && p->tokens[p->at + 1].kind == RG_JT_NAME &&
        p->tokens[p->at + 1].len == 2 && memcmp(p->tokens[p->at + 1].text, "in", 2) == 0) {
        rg_jparse_next(p);
        rg_jparse_next(p);
        *op = RG_JOP_NOT_IN;
        return true;
    }
    return false;
}

static enum rg_code comparison(struct rg_jparser *p, struct rg_jexpr **out)
{
    struct rg_jitems items = {0};
    uint8_t *ops = NULL;
    uint32_t ops_capacity = 0;
    uint8_t op;

    RG_TRY(sum(p, out));
    RG_TRY(rg_jparse_add(p, &items, *out));
    while (compare_op(p, &op)) {
        void *grown = ops;
        struct rg_jexpr *item;

        RG_TRY(rg_jgrow(p->w, &grown, &ops_capacity, items.n, sizeof *ops));
        ops = grown;
        ops[items.n - 1] = op;
        RG_TRY(sum(p, &item));
        RG_TRY(rg_jparse_add(p, &items, item));
    }
    if (items.n == 1)
        return RG_OK;

    struct rg_jexpr *x = rg_jparse_node(p, RG_JX_COMPARE);

    if (!x)
        return rg_jshort(p->w);
    x->args = items.data;
    x->n_args = items.n;
    x->ops = ops;
    return rg_jparse_done(p, x, out);
}

static enum rg_code negation(struct rg_jparser *p, struct rg_jexpr **out)
{
    if (!rg_jparse_skip_name(p, "not"))
        return comparison(p, out);

    struct rg_jexpr *x = rg_jparse_node(p, RG_JX_NOT);

    if (!x)
        return rg_jshort(p->w);
    RG_TRY(rg_jparse_enter(p));
    RG_TRY(negation(p, &x->a));
    p->depth--;
    return rg_jparse_done(p, x, out);
}

static enum rg_code conjunction(struct rg_jparser *p, struct rg_jexpr **out)
{
    struct rg_jexpr *right;

    RG_TRY(negation(p, out));
    while (rg_jparse_skip_name(p, "and")) {
        RG_TRY(negation(p, &right));
        RG_TRY(binary(p, RG_JX_AND, RG_JOP_EQ, right, out));
    }
    return RG_OK;
}

static enum rg_code disjunction(struct rg_jparser *p, struct rg_jexpr **out)
{
    struct rg_jexpr *right;

    RG_TRY(conjunction(p, out));
    while (rg_jparse_skip_name(p, "or")) {
        RG_TRY(conjunction(p, &right));
        RG_TRY(binary(p, RG_JX_OR, RG_JOP_EQ, right, out));
    }
    return RG_OK;
}

enum rg_code rg_jparse_expr(struct rg_jparser *p, struct rg_jexpr **out)
{
    RG_TRY(rg_jparse_enter(p));
    RG_TRY(disjunction(p, out));
    while (rg_jparse_skip_name(p, "if")) {
        struct rg_jexpr *x = rg_jparse_node(p, RG_JX_IF);

        if (!x)
            return rg_jshort(p->w);
        x->b = *out;
        RG_TRY(disjunction(p, &x->a));
        if (rg_jparse_skip_name(p, "else"))
            RG_TRY(rg_jparse_expr(p, &x->c));
        RG_TRY(rg_jparse_done(p, x, out));
    }
    p->depth--;
    return RG_OK;
}

/* ---- tuples and targets --------------------------------------------------------------------- */

/* A name that is bound, or ns.attribute. */
static enum rg_code target(struct rg_jparser *p, struct rg_jexpr **out)
{
    struct rg_jexpr *x = rg_jparse_node(p, RG_JX_NAME);

    if (!x)
        return rg_jshort(p->w);
    if (rg_jparse_skip_op(p, "(")) {
        RG_TRY(rg_jparse_enter(p));
        RG_TRY(rg_jparse_tuple(p, RG_JTUPLE_TARGET, out));
        p->depth--;
        return rg_jparse_expect_op(p, ")");
    }
    RG_TRY(rg_jparse_expect_name(p, &x->name));
    if (!rg_jparse_skip_op(p, ".")) {
        p->t->names[x->name].is_bound = true;
        return rg_jparse_done(p, x, out);
    }

    struct rg_jexpr *attr = rg_jparse_node(p, RG_JX_ATTR);

    if (!attr)
        return rg_jshort(p->w);
    RG_TRY(rg_jparse_expect_name(p, &attr->name));
    if (p->t->names[attr->name].text[0] == '_')
        return rg_jfail(p->w, RG_E_BAD_DATA, "namespace attribute '%s' begins with '_'",
                        p->t->names[attr->name].text);
    RG_TRY(rg_jparse_done(p, x, &attr->a));
    return rg_jparse_done(p, attr, out);
}

static bool tuple_ends(const struct rg_jparser *p, enum rg_jtuple_mode mode)
{
    const enum rg_jtoken_kind kind = rg_jparse_peek(p)->kind;

    return kind == RG_JT_VARIABLE_END || kind == RG_JT_BLOCK_END || rg_jparse_is_op(p, ")") ||
           (mode == RG_JTUPLE_TARGET && rg_jparse_is_name(p, "in"));
}

static enum rg_code tuple_item(struct rg_jparser *p, enum rg_jtuple_mode mode,
                               struct rg_jexpr **out)
{
    if (mode == RG_JTUPLE_TARGET)
        return target(p, out);
    if (mode == RG_JTUPLE_NO_IF)
        return disjunction(p, out);
    return rg_jparse_expr(p, out);
}

enum rg_code rg_jparse_tuple(struct rg_jparser *p, enum rg_jtuple_mode mode, struct rg_jexpr **out)
{
    struct rg_jitems items = {0};
    bool is_tuple = false;

    for (;;) {
        struct rg_jexpr *item;

        if (tuple_ends(p, mode))
            break;
        RG_TRY(tuple_item(p, mode, &item));
        RG_TRY(rg_jparse_add(p, &items, item));
        if (!rg_jparse_skip_op(p, ","))
            break;
        is_tuple = true;
    }
    if (!is_tuple && items.n == 1) {
        *out = items.data[0];
        return RG_OK;
    }
    if (items.n == 0 && mode != RG_JTUPLE_PAREN)
        return rg_jparse_unexpected(p, "an expression");

    struct rg_jexpr *x = rg_jparse_node(p, RG_JX_TUPLE);

    if (!x)
        return rg_jshort(p->w);
    x->args = items.data;
    x->n_args = items.n;
    return rg_jparse_done(p, x, out);
}
