/* jinja_parser.c - statements of a template, its names, and what is checked before it may run. */
#include "text/jinja.h"

#include <string.h>

#include "base/limits.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "text/jinja_builtin.h"
#include "text/jinja_parse.h"

enum { PARSE_BYTES_MAX = 256 << 20 };

/* ---- the token stream ----------------------------------------------------------------------- */

const struct rg_jtoken *rg_jparse_peek(const struct rg_jparser *p)
{
    return &p->tokens[p->at];
}

void rg_jparse_next(struct rg_jparser *p)
{
    if (p->tokens[p->at].kind != RG_JT_END)
        p->at++;
    p->w->line = p->tokens[p->at].line;
}

static bool token_is_name(const struct rg_jtoken *token, const char *name)
{
    return token->kind == RG_JT_NAME && token->len == strlen(name) &&
           memcmp(token->text, name, token->len) == 0;
}

bool rg_jparse_is_name(const struct rg_jparser *p, const char *name)
{
    return token_is_name(rg_jparse_peek(p), name);
}

bool rg_jparse_is_op(const struct rg_jparser *p, const char *op)
{
    return rg_jparse_peek(p)->kind == RG_JT_OPERATOR && strcmp(rg_jparse_peek(p)->op, op) == 0;
}

bool rg_jparse_skip_name(struct rg_jparser *p, const char *name)
{
    const bool is = rg_jparse_is_name(p, name);

    if (is)
        rg_jparse_next(p);
    return is;
}

bool rg_jparse_skip_op(struct rg_jparser *p, const char *op)
{
    const bool is = rg_jparse_is_op(p, op);

    if (is)
        rg_jparse_next(p);
    return is;
}

enum rg_code rg_jparse_unexpected(struct rg_jparser *p, const char *wanted)
{
    const struct rg_jtoken *token = rg_jparse_peek(p);
    const int n = token->len < 40 ? (int)token->len : 40;

    if (token->kind == RG_JT_END)
        return rg_jfail(p->w, RG_E_BAD_DATA, "the template ends where %s should be", wanted);
    return rg_jfail(p->w, RG_E_BAD_DATA, "'%.*s' where %s should be", n, token->text, wanted);
}

enum rg_code rg_jparse_expect_op(struct rg_jparser *p, const char *op)
{
    char wanted[8] = "'";

    if (rg_jparse_skip_op(p, op))
        return RG_OK;
    memcpy(wanted + 1, op, strlen(op));
    wanted[1 + strlen(op)] = '\'';
    return rg_jparse_unexpected(p, wanted);
}

enum rg_code rg_jparse_expect_name(struct rg_jparser *p, uint32_t *name)
{
    const struct rg_jtoken *token = rg_jparse_peek(p);

    if (token->kind != RG_JT_NAME)
        return rg_jparse_unexpected(p, "a name");
    RG_TRY(rg_jname_add(p->t, token->text, token->len, name));
    rg_jparse_next(p);
    return RG_OK;
}

enum rg_code rg_jparse_enter(struct rg_jparser *p)
{
    /* A pair of parentheses is two of the parser's levels. */
    if (++p->depth > RG_LIMIT_TEMPLATE_DEPTH * 2)
        return rg_jfail(p->w, RG_E_LIMIT, "nested more than %u deep", RG_LIMIT_TEMPLATE_DEPTH);
    return RG_OK;
}

/* ---- statements ----------------------------------------------------------------------------- */

static struct rg_jstmt *statement(struct rg_jparser *p, enum rg_jstmt_kind kind)
{
    struct rg_jstmt *s = rg_jalloc(p->w, sizeof *s);

    if (s) {
        s->kind = kind;
        s->line = rg_jparse_peek(p)->line;
    }
    return s;
}

static enum rg_code block_end(struct rg_jparser *p)
{
    if (rg_jparse_peek(p)->kind != RG_JT_BLOCK_END)
        return rg_jparse_unexpected(p, "'%}'");
    rg_jparse_next(p);
    return RG_OK;
}

/* Statements up to a block tag named `end` or one of `others`, which is left to be read after its
 * "{%"; end NULL: up to the end of the template. */
static enum rg_code body(struct rg_jparser *p, const char *end, const char *const *others,
                         struct rg_jstmt **out);

/* "%}", a body and "{% end": what most blocks are.  The closing "%}" is read too. */
static enum rg_code block_body(struct rg_jparser *p, const char *end, struct rg_jstmt **out)
{
    RG_TRY(block_end(p));
    RG_TRY(body(p, end, NULL, out));
    rg_jparse_next(p);
    return block_end(p);
}

static enum rg_code parse_if(struct rg_jparser *p, struct rg_jstmt **out)
{
    static const char *const others[] = {"elif", "else", NULL};
    struct rg_jstmt **link = out;

    for (;;) { /* over if, elif, elif ... */
        struct rg_jstmt *s = statement(p, RG_JS_IF);

        if (!s)
            return rg_jshort(p->w);
        *link = s;
        rg_jparse_next(p);
        RG_TRY(rg_jparse_tuple(p, RG_JTUPLE_NO_IF, &s->expr));
        RG_TRY(block_end(p));
        RG_TRY(body(p, "endif", others, &s->body));
        if (rg_jparse_skip_name(p, "else"))
            return block_body(p, "endif", &s->orelse);
        if (rg_jparse_skip_name(p, "endif"))
            return block_end(p);
        link = &s->orelse;
    }
}

static enum rg_code parse_for(struct rg_jparser *p, struct rg_jstmt **out)
{
    static const char *const others[] = {"else", NULL};
    struct rg_jstmt *s = statement(p, RG_JS_FOR);

    if (!s)
        return rg_jshort(p->w);
    *out = s;
    rg_jparse_next(p);
    RG_TRY(rg_jparse_tuple(p, RG_JTUPLE_TARGET, &s->target));
    if (!rg_jparse_skip_name(p, "in"))
        return rg_jparse_unexpected(p, "'in'");
    RG_TRY(rg_jparse_tuple(p, RG_JTUPLE_NO_IF, &s->expr));
    if (rg_jparse_skip_name(p, "if"))
        RG_TRY(rg_jparse_expr(p, &s->test));
    if (rg_jparse_is_name(p, "recursive"))
        return rg_jfail(p->w, RG_E_UNSUPPORTED, "recursive loop");
    RG_TRY(block_end(p));
    p->loops++;
    RG_TRY(body(p, "endfor", others, &s->body));
    p->loops--;
    if (rg_jparse_skip_name(p, "else"))
        return block_body(p, "endfor", &s->orelse);
    rg_jparse_next(p);
    return block_end(p);
}

static enum rg_code parse_set(struct rg_jparser *p, struct rg_jstmt **out)
{
    struct rg_jstmt *s = statement(p, RG_JS_SET);

    if (!s)
        return rg_jshort(p->w);
    *out = s;
    rg_jparse_next(p);
    RG_TRY(rg_jparse_tuple(p, RG_JTUPLE_TARGET, &s->target));
    if (rg_jparse_skip_op(p, "=")) {
        RG_TRY(rg_jparse_tuple(p, RG_JTUPLE_FULL, &s->expr));
        return block_end(p);
    }
    s->kind = RG_JS_CAPTURE;
    RG_TRY(rg_jparse_filters(p, NULL, false, &s->expr));
    return block_body(p, "endset", &s->body);
}

/* "(a, b=1)" of a macro. */
static enum rg_code parse_params(struct rg_jparser *p, struct rg_jmacro *m)
{
    uint32_t params_capacity = 0, defaults_capacity = 0;

    RG_TRY(rg_jparse_expect_op(p, "("));
    while (!rg_jparse_is_op(p, ")")) {
        void *params = m->params, *defaults = m->defaults;

        if (m->n_params)
            RG_TRY(rg_jparse_expect_op(p, ","));
        RG_TRY(
            rg_jgrow(p->w, &params, &params_capacity, (size_t)m->n_params + 1, sizeof *m->params));
        RG_TRY(rg_jgrow(p->w, &defaults, &defaults_capacity, (size_t)m->n_params + 1,
                        sizeof *m->defaults));
        m->params = params;
        m->defaults = defaults;
        RG_TRY(rg_jparse_expect_name(p, &m->params[m->n_params]));
        p->t->names[m->params[m->n_params]].is_bound = true;
        if (rg_jparse_skip_op(p, "="))
            RG_TRY(rg_jparse_expr(p, &m->defaults[m->n_params]));
        else if (m->n_params && m->defaults[m->n_params - 1])
            return rg_jfail(p->w, RG_E_BAD_DATA, "parameter without a default after one with");
        m->n_params++;
    }
    rg_jparse_next(p);
    return RG_OK;
}

static enum rg_code parse_macro(struct rg_jparser *p, struct rg_jstmt **out)
{
    struct rg_jstmt *s = statement(p, RG_JS_MACRO);
    struct rg_jmacro *m = rg_jalloc(p->w, sizeof *m);
    const uint32_t loops = p->loops;

    if (!s || !m)
        return rg_jshort(p->w);
    *out = s;
    s->macro = m;
    rg_jparse_next(p);
    RG_TRY(rg_jparse_expect_name(p, &m->name));
    p->t->names[m->name].is_bound = true;
    RG_TRY(parse_params(p, m));
    p->loops = 0;
    RG_TRY(block_body(p, "endmacro", &m->body));
    p->loops = loops;
    return RG_OK;
}

static enum rg_code parse_filter(struct rg_jparser *p, struct rg_jstmt **out)
{
    struct rg_jstmt *s = statement(p, RG_JS_FILTER);

    if (!s)
        return rg_jshort(p->w);
    *out = s;
    rg_jparse_next(p);
    RG_TRY(rg_jparse_filters(p, NULL, true, &s->expr));
    return block_body(p, "endfilter", &s->body);
}

static enum rg_code parse_with(struct rg_jparser *p, struct rg_jstmt **out)
{
    struct rg_jstmt *s = statement(p, RG_JS_WITH);
    uint32_t names_capacity = 0, values_capacity = 0;

    if (!s)
        return rg_jshort(p->w);
    *out = s;
    rg_jparse_next(p);
    while (rg_jparse_peek(p)->kind != RG_JT_BLOCK_END) {
        void *names = s->names, *values = s->values;

        if (s->n_names)
            RG_TRY(rg_jparse_expect_op(p, ","));
        RG_TRY(rg_jgrow(p->w, &names, &names_capacity, (size_t)s->n_names + 1, sizeof *s->names));
        RG_TRY(
            rg_jgrow(p->w, &values, &values_capacity, (size_t)s->n_names + 1, sizeof *s->values));
        s->names = names;
        s->values = values;
        RG_TRY(rg_jparse_expect_name(p, &s->names[s->n_names]));
        p->t->names[s->names[s->n_names]].is_bound = true;
        RG_TRY(rg_jparse_expect_op(p, "="));
        RG_TRY(rg_jparse_expr(p, &s->values[s->n_names]));
        s->n_names++;
    }
    return block_body(p, "endwith", &s->body);
}

static enum rg_code parse_generation(struct rg_jparser *p, struct rg_jstmt **out)
{
    struct rg_jstmt *s = statement(p, RG_JS_SCOPE);

    if (!s)
        return rg_jshort(p->w);
    *out = s;
    rg_jparse_next(p);
    return block_body(p, "endgeneration", &s->body);
}

static enum rg_code parse_jump(struct rg_jparser *p, enum rg_jstmt_kind kind, struct rg_jstmt **out)
{
    if (p->loops == 0)
        return rg_jfail(p->w, RG_E_BAD_DATA, "'%s' outside of a loop",
                        kind == RG_JS_BREAK ? "break" : "continue");
    *out = statement(p, kind);
    if (!*out)
        return rg_jshort(p->w);
    rg_jparse_next(p);
    return block_end(p);
}

/* The block tag whose name comes next. */
static enum rg_code parse_tag(struct rg_jparser *p, struct rg_jstmt **out)
{
    const struct rg_jtoken *token = rg_jparse_peek(p);

    if (token->kind != RG_JT_NAME)
        return rg_jparse_unexpected(p, "the name of a tag");
    if (token_is_name(token, "if"))
        return parse_if(p, out);
    if (token_is_name(token, "for"))
        return parse_for(p, out);
    if (token_is_name(token, "set"))
        return parse_set(p, out);
    if (token_is_name(token, "macro"))
        return parse_macro(p, out);
    if (token_is_name(token, "filter"))
        return parse_filter(p, out);
    if (token_is_name(token, "with"))
        return parse_with(p, out);
    if (token_is_name(token, "generation"))
        return parse_generation(p, out);
    if (token_is_name(token, "break"))
        return parse_jump(p, RG_JS_BREAK, out);
    if (token_is_name(token, "continue"))
        return parse_jump(p, RG_JS_CONTINUE, out);
    return rg_jfail(p->w, RG_E_UNSUPPORTED, "unknown tag '%.*s'",
                    token->len < 40 ? (int)token->len : 40, token->text);
}

static enum rg_code parse_data(struct rg_jparser *p, struct rg_jstmt **out)
{
    const struct rg_jtoken *token = rg_jparse_peek(p);
    struct rg_jstmt *s = statement(p, RG_JS_DATA);
    const struct rg_jstr *text = rg_jstr_borrow(p->w, token->text, token->len, true);

    if (!s || !text)
        return rg_jshort(p->w);
    *out = s;
    s->value = rg_jv_str(text);
    RG_TRY(rg_jtext_add(p->w, p->t->literals, token->text, token->len, true));
    RG_TRY(rg_jtext_add(p->w, p->t->literals, "\n", 1, true));
    rg_jparse_next(p);
    return RG_OK;
}

static enum rg_code parse_output(struct rg_jparser *p, struct rg_jstmt **out)
{
    struct rg_jstmt *s = statement(p, RG_JS_OUTPUT);

    if (!s)
        return rg_jshort(p->w);
    *out = s;
    rg_jparse_next(p);
    RG_TRY(rg_jparse_tuple(p, RG_JTUPLE_FULL, &s->expr));
    if (rg_jparse_peek(p)->kind != RG_JT_VARIABLE_END)
        return rg_jparse_unexpected(p, "'}}'");
    rg_jparse_next(p);
    return RG_OK;
}

static bool ends_body(const struct rg_jparser *p, const char *end, const char *const *others)
{
    if (end && rg_jparse_is_name(p, end))
        return true;
    for (; others && *others; others++)
        if (rg_jparse_is_name(p, *others))
            return true;
    return false;
}

static enum rg_code body(struct rg_jparser *p, const char *end, const char *const *others,
                         struct rg_jstmt **out)
{
    struct rg_jstmt **link = out;
    const uint32_t line = p->at ? p->tokens[p->at - 1].line : 1;

    RG_TRY(rg_jparse_enter(p));
    for (; rg_jparse_peek(p)->kind != RG_JT_END; link = &(*link)->next) {
        const enum rg_jtoken_kind kind = rg_jparse_peek(p)->kind;

        if (kind == RG_JT_DATA) {
            RG_TRY(parse_data(p, link));
        } else if (kind == RG_JT_VARIABLE_BEGIN) {
            RG_TRY(parse_output(p, link));
        } else {
            rg_jparse_next(p);
            if (ends_body(p, end, others)) {
                p->depth--;
                return RG_OK;
            }
            RG_TRY(parse_tag(p, link));
        }
    }
    p->depth--;
    if (!end)
        return RG_OK;
    return rg_jfail(p->w, RG_E_BAD_DATA, "no '%s' for the block of line %u", end, line);
}

/* ---- checks on the whole -------------------------------------------------------------------- */

/* Every function that is called is known: a built-in one, or a name that the template binds. */
static enum rg_code check_names(struct rg_jinja *t, const struct rg_jitems *calls)
{
    static const char *const of_macros[] = {"caller", "varargs", "kwargs"};

    for (uint32_t i = 0; i < t->n_names; i++) {
        const struct rg_jname *name = &t->names[i];

        t->work.line = name->called_line;
        if (name->called_line && !name->is_bound && !rg_jfunction_find(name->text))
            return rg_jfail(&t->work, RG_E_UNSUPPORTED, "unknown function '%s'", name->text);
        t->work.line = 0;
        for (size_t k = 0; k < sizeof of_macros / sizeof *of_macros; k++)
            if (name->is_read && !name->is_bound && strcmp(name->text, of_macros[k]) == 0)
                return rg_jfail(&t->work, RG_E_UNSUPPORTED, "'%s' in a macro", name->text);
    }
    for (uint32_t i = 0; i < calls->n; i++) {
        const struct rg_jexpr *x = calls->data[i];
        const struct rg_jname *name = &t->names[x->a->name];
        const struct rg_jfunction *f = name->is_bound ? NULL : rg_jfunction_find(name->text);

        t->work.line = x->line;
        if (f && !rg_jargs_fit(t, f->params, f->n_required, x))
            return rg_jfail(&t->work, RG_E_UNSUPPORTED, "function '%s' with these arguments",
                            name->text);
    }
    return RG_OK;
}

/* ---- the template --------------------------------------------------------------------------- */

/* A copy with line ends LF and without one newline at its end. */
static char *normalised(struct rg_jwork *w, const char *source, size_t len, size_t *n)
{
    char *copy = rg_jalloc(w, len + 1);

    if (!copy)
        return NULL;
    *n = 0;
    for (size_t i = 0; i < len; i++) {
        char c = source[i];

        if (c == '\r') {
            c = '\n';
            if (i + 1 < len && source[i + 1] == '\n')
                i++;
        }
        copy[(*n)++] = c;
    }
    if (*n && copy[*n - 1] == '\n')
        (*n)--;
    return copy;
}

static enum rg_code parse(struct rg_jinja *t, const char *source, size_t len)
{
    struct rg_jwork *w = &t->work;
    struct rg_jtokens tokens = {0};
    size_t n = 0;

    if (len > RG_LIMIT_TEMPLATE_BYTES)
        return rg_jfail(w, RG_E_LIMIT, "%zu bytes, over %u", len, RG_LIMIT_TEMPLATE_BYTES);
    if (!rg_utf8_valid(source, len))
        return rg_jfail(w, RG_E_BAD_DATA, "not valid UTF-8");

    char *text = normalised(w, source, len, &n);

    t->literals = rg_jtext_new(w, n);
    if (!text || !t->literals)
        return rg_jshort(w);
    RG_TRY(rg_jname_add(t, "loop", 4, &t->loop_name));
    RG_TRY(rg_jinja_lex(w, text, n, &tokens));

    struct rg_jparser p = {.t = t, .w = w, .tokens = tokens.items};

    w->line = 1;
    RG_TRY(body(&p, NULL, NULL, &t->body));
    return check_names(t, &p.calls);
}

enum rg_code rg_jinja_parse(struct rg_jinja **out, const char *source, size_t len,
                            struct rg_err *err)
{
    struct rg_jinja *t = rg_calloc(1, sizeof *t);

    *out = NULL;
    if (!t)
        return rg_fail(err, RG_E_NOMEM, "chat template: out of memory");
    rg_jwork_init(&t->work, PARSE_BYTES_MAX, err);

    const enum rg_code code = parse(t, source, len);

    t->work.err = NULL;
    if (code != RG_OK) {
        rg_jinja_free(t);
        return code;
    }
    *out = t;
    return RG_OK;
}

void rg_jinja_free(struct rg_jinja *t)
{
    if (!t)
        return;
    rg_jwork_free(&t->work);
    rg_free(t);
}

const char *rg_jinja_literals(const struct rg_jinja *t, size_t *len)
{
    *len = t->literals->len;
    return t->literals->data;
}

bool rg_jinja_uses(const struct rg_jinja *t, const char *name)
{
    for (uint32_t i = 0; i < t->n_names; i++)
        if (t->names[i].is_read && strcmp(t->names[i].text, name) == 0)
            return true;
    return false;
}
