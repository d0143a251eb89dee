/* jinja_eval.c - runs the statements of a template: output, scopes, loops, macros. */
#include "text/jinja_eval.h"

#include <string.h>

#include "base/json.h"
#include "base/limits.h"
#include "base/mem.h"
#include "text/jinja.h"
#include "text/jinja_builtin.h"

/* ---- variables ------------------------------------------------------------------------------ */

static struct rg_jvalue *binding(const struct rg_jrun *r, uint32_t name)
{
    for (const struct rg_jscope *s = r->scope; s; s = s->parent)
        for (uint32_t i = 0; i < s->n; i++)
            if (s->bindings[i].name == name)
                return &s->bindings[i].value;
    return r->top[name].type == RG_J_ABSENT ? NULL : &r->top[name];
}

struct rg_jvalue rg_jscope_get(const struct rg_jrun *r, uint32_t name)
{
    const struct rg_jvalue *v = binding(r, name);
    const struct rg_jfunction *f;

    if (v)
        return *v;
    f = rg_jfunction_find(r->t->names[name].text);
    if (f)
        return (struct rg_jvalue){.type = RG_J_FUNCTION, .as.function = f};
    return (struct rg_jvalue){.type = RG_J_UNDEFINED, .as.string = r->t->names[name].string};
}

enum rg_code rg_jscope_set(struct rg_jrun *r, uint32_t name, struct rg_jvalue v)
{
    struct rg_jscope *s = r->scope;
    void *bindings;

    if (!s) {
        r->top[name] = v;
        return RG_OK;
    }
    for (uint32_t i = 0; i < s->n; i++) {
        if (s->bindings[i].name == name) {
            s->bindings[i].value = v;
            return RG_OK;
        }
    }
    bindings = s->bindings;
    RG_TRY(rg_jgrow(&r->w, &bindings, &s->capacity, (size_t)s->n + 1, sizeof *s->bindings));
    s->bindings = bindings;
    s->bindings[s->n++] = (struct rg_jbinding){.name = name, .value = v};
    return RG_OK;
}

static struct rg_jscope *inner_scope(struct rg_jrun *r, struct rg_jscope *parent)
{
    struct rg_jscope *s = rg_jalloc(&r->w, sizeof *s);

    if (s)
        s->parent = parent;
    return s;
}

/* Runs a body in a scope of its own. */
static enum rg_code exec_inner(struct rg_jrun *r, const struct rg_jstmt *body)
{
    struct rg_jscope *outer = r->scope;
    struct rg_jscope *inner = inner_scope(r, outer);

    if (!inner)
        return rg_jshort(&r->w);
    r->scope = inner;
    RG_TRY(rg_jexec(r, body));
    r->scope = outer;
    return RG_OK;
}

/* Runs a body in a scope of its own and gives what it wrote. */
static enum rg_code capture(struct rg_jrun *r, const struct rg_jstmt *body, struct rg_jvalue *out)
{
    struct rg_jtext *outer = r->out;
    struct rg_jtext *text = rg_jtext_new(&r->w, 0);

    if (!text)
        return rg_jshort(&r->w);
    r->out = text;
    RG_TRY(exec_inner(r, body));
    r->out = outer;
    return rg_jtext_value(&r->w, text, out);
}

static enum rg_code assign(struct rg_jrun *r, const struct rg_jexpr *target, struct rg_jvalue v)
{
    struct rg_jlist *items;
    struct rg_jvalue object;

    r->w.line = target->line;
    switch (target->kind) {
    case RG_JX_NAME:
        return rg_jscope_set(r, target->name, v);
    case RG_JX_ATTR:
        RG_TRY(rg_jeval(r, target->a, &object));
        if (object.type != RG_J_NAMESPACE)
            return rg_jfail(&r->w, RG_E_BAD_DATA, "cannot set an attribute of %s",
                            rg_jv_type_name(object));
        return rg_jdict_set(&r->w, object.as.dict, rg_jv_str(r->t->names[target->name].string), v);
    default:
        RG_TRY(rg_jv_items(&r->w, v, &items));
        if (items->n != target->n_args)
            return rg_jfail(&r->w, RG_E_BAD_DATA, "%u values for %u names", items->n,
                            target->n_args);
        for (uint32_t i = 0; i < target->n_args; i++)
            RG_TRY(assign(r, target->args[i], items->items[i]));
        return RG_OK;
    }
}

/* ---- loops ---------------------------------------------------------------------------------- */

/* What the loop goes over, after its "if". */
static enum rg_code loop_items(struct rg_jrun *r, const struct rg_jstmt *s, struct rg_jlist **out)
{
    struct rg_jscope *outer = r->scope;
    struct rg_jlist *all, *chosen;
    struct rg_jvalue source, keep;

    RG_TRY(rg_jeval(r, s->expr, &source));
    RG_TRY(rg_jv_items(&r->w, source, &all));
    *out = all;
    if (!s->test)
        return RG_OK;
    chosen = rg_jlist_new(&r->w, 0);
    r->scope = inner_scope(r, outer);
    if (!chosen || !r->scope)
        return rg_jshort(&r->w);
    for (uint32_t i = 0; i < all->n; i++) {
        RG_TRY(assign(r, s->target, all->items[i]));
        RG_TRY(rg_jeval(r, s->test, &keep));
        if (rg_jv_truth(keep))
            RG_TRY(rg_jlist_push(&r->w, chosen, all->items[i]));
    }
    r->scope = outer;
    *out = chosen;
    return RG_OK;
}

static enum rg_code exec_for(struct rg_jrun *r, const struct rg_jstmt *s)
{
    struct rg_jscope *outer = r->scope;
    struct rg_jloop *loop = rg_jalloc(&r->w, sizeof *loop);
    const uint32_t loop_name = r->t->loop_name;

    if (!loop)
        return rg_jshort(&r->w);
    RG_TRY(loop_items(r, s, &loop->list));
    if (loop->list->n == 0)
        return s->orelse ? exec_inner(r, s->orelse) : RG_OK;

    const struct rg_jvalue loop_value = {.type = RG_J_LOOP, .as.loop = loop};

    for (; loop->at < loop->list->n && r->flow != RG_JFLOW_BREAK; loop->at++) {
        r->scope = inner_scope(r, outer);
        if (!r->scope)
            return rg_jshort(&r->w);
        r->flow = RG_JFLOW_NEXT;
        RG_TRY(rg_jscope_set(r, loop_name, loop_value));
        RG_TRY(assign(r, s->target, loop->list->items[loop->at]));
        RG_TRY(rg_jexec(r, s->body));
    }
    r->flow = RG_JFLOW_NEXT;
    r->scope = outer;
    return RG_OK;
}

/* ---- macros --------------------------------------------------------------------------------- */

static enum rg_code define_macro(struct rg_jrun *r, const struct rg_jmacro *m)
{
    struct rg_jclosure *c = rg_jalloc(&r->w, sizeof *c);

    if (!c)
        return rg_jshort(&r->w);
    *c = (struct rg_jclosure){.macro = m, .scope = r->scope};
    return rg_jscope_set(r, m->name, (struct rg_jvalue){.type = RG_J_MACRO, .as.macro = c});
}

/* Which parameter a keyword argument is for; n_params when there is none. */
static uint32_t param_of(const struct rg_jrun *r, const struct rg_jmacro *m, const char *keyword)
{
    uint32_t i = 0;

    while (i < m->n_params && strcmp(r->t->names[m->params[i]].text, keyword) != 0)
        i++;
    return i;
}

/* Binds the arguments in the macro's new scope, which is r->scope. */
static enum rg_code bind_params(struct rg_jrun *r, const struct rg_jmacro *m,
                                const struct rg_jargs *args)
{
    const char *name = r->t->names[m->name].text;
    struct rg_jvalue *given = rg_jalloc(&r->w, m->n_params * sizeof *given);

    if (!given)
        return rg_jshort(&r->w);
    if (args->n > m->n_params)
        return rg_jfail(&r->w, RG_E_BAD_DATA, "macro '%s' takes %u arguments, not %u", name,
                        m->n_params, args->n);
    for (uint32_t i = 0; i < args->n; i++)
        given[i] = args->items[i];
    for (uint32_t k = 0; k < args->n_keywords; k++) {
        const uint32_t i = param_of(r, m, args->keyword_names[k]);

        if (i == m->n_params || given[i].type != RG_J_ABSENT)
            return rg_jfail(&r->w, RG_E_BAD_DATA, "macro '%s' cannot take the argument '%s'", name,
                            args->keyword_names[k]);
        given[i] = args->keywords[k];
    }
    for (uint32_t i = 0; i < m->n_params; i++) {
        if (given[i].type == RG_J_ABSENT && m->defaults[i])
            RG_TRY(rg_jeval(r, m->defaults[i], &given[i]));
        else if (given[i].type == RG_J_ABSENT)
            given[i] = (struct rg_jvalue){.type = RG_J_UNDEFINED,
                                          .as.string = r->t->names[m->params[i]].string};
        RG_TRY(rg_jscope_set(r, m->params[i], given[i]));
    }
    return RG_OK;
}

enum rg_code rg_jmacro_call(struct rg_jrun *r, const struct rg_jclosure *macro,
                            struct rg_jargs *args, struct rg_jvalue *out)
{
    struct rg_jscope *outer = r->scope;
    const uint32_t line = r->w.line;

    if (++r->calls > RG_LIMIT_TEMPLATE_DEPTH)
        return rg_jfail(&r->w, RG_E_LIMIT, "macro calls nested more than %u deep",
                        RG_LIMIT_TEMPLATE_DEPTH);
    r->scope = inner_scope(r, macro->scope);
    if (!r->scope)
        return rg_jshort(&r->w);
    RG_TRY(bind_params(r, macro->macro, args));
    RG_TRY(capture(r, macro->macro->body, out));
    r->scope = outer;
    r->calls--;
    r->w.line = line;
    return RG_OK;
}

/* ---- statements ----------------------------------------------------------------------------- */

static enum rg_code exec_if(struct rg_jrun *r, const struct rg_jstmt *s)
{
    struct rg_jvalue v;

    for (;;) { /* over a chain of elif, without recursion */
        RG_TRY(rg_jeval(r, s->expr, &v));
        if (rg_jv_truth(v))
            return rg_jexec(r, s->body);
        if (!s->orelse || s->orelse->kind != RG_JS_IF || s->orelse->next)
            return rg_jexec(r, s->orelse);
        s = s->orelse;
    }
}

static enum rg_code exec_capture(struct rg_jrun *r, const struct rg_jstmt *s)
{
    struct rg_jvalue v;

    RG_TRY(capture(r, s->body, &v));
    if (s->expr)
        RG_TRY(rg_jeval_filters(r, s->expr, v, &v));
    return s->kind == RG_JS_FILTER ? rg_jv_print(&r->w, r->out, v) : assign(r, s->target, v);
}

static enum rg_code exec_with(struct rg_jrun *r, const struct rg_jstmt *s)
{
    struct rg_jscope *outer = r->scope;
    struct rg_jscope *inner = inner_scope(r, outer);

    if (!inner)
        return rg_jshort(&r->w);
    for (uint32_t i = 0; i < s->n_names; i++) {
        struct rg_jvalue v;

        RG_TRY(rg_jeval(r, s->values[i], &v)); /* in the outer scope */
        r->scope = inner;
        RG_TRY(rg_jscope_set(r, s->names[i], v));
        r->scope = outer;
    }
    r->scope = inner;
    RG_TRY(rg_jexec(r, s->body));
    r->scope = outer;
    return RG_OK;
}

static enum rg_code exec_output(struct rg_jrun *r, const struct rg_jstmt *s)
{
    struct rg_jvalue v;

    RG_TRY(rg_jeval(r, s->expr, &v));
    return rg_jv_print(&r->w, r->out, v);
}

static enum rg_code exec_one(struct rg_jrun *r, const struct rg_jstmt *s)
{
    struct rg_jvalue v;

    switch (s->kind) {
    case RG_JS_DATA:
        return rg_jtext_add_str(&r->w, r->out, s->value.as.string);
    case RG_JS_OUTPUT:
        return exec_output(r, s);
    case RG_JS_IF:
        return exec_if(r, s);
    case RG_JS_FOR:
        return exec_for(r, s);
    case RG_JS_SET:
        RG_TRY(rg_jeval(r, s->expr, &v));
        return assign(r, s->target, v);
    case RG_JS_CAPTURE:
    case RG_JS_FILTER:
        return exec_capture(r, s);
    case RG_JS_MACRO:
        return define_macro(r, s->macro);
    case RG_JS_WITH:
        return exec_with(r, s);
    case RG_JS_SCOPE:
        return exec_inner(r, s->body);
    case RG_JS_BREAK:
        r->flow = RG_JFLOW_BREAK;
        return RG_OK;
    case RG_JS_CONTINUE:
    default:
        r->flow = RG_JFLOW_CONTINUE;
        return RG_OK;
    }
}

enum rg_code rg_jexec(struct rg_jrun *r, const struct rg_jstmt *body)
{
    if (++r->w.depth > RG_JDEPTH_MAX)
        return rg_jfail(&r->w, RG_E_LIMIT, "nested too deeply");
    for (const struct rg_jstmt *s = body; s && r->flow == RG_JFLOW_NEXT; s = s->next) {
        r->w.line = s->line;
        if (++r->w.steps > RG_LIMIT_TEMPLATE_STEPS)
            return rg_jfail(&r->w, RG_E_LIMIT, "more than %u steps", RG_LIMIT_TEMPLATE_STEPS);
        RG_TRY(exec_one(r, s));
        if (r->out->len > RG_LIMIT_TEMPLATE_OUT_BYTES)
            return rg_jfail(&r->w, RG_E_LIMIT, "more than %u bytes of output",
                            RG_LIMIT_TEMPLATE_OUT_BYTES);
    }
    r->w.depth--;
    return RG_OK;
}

/* ---- one rendering -------------------------------------------------------------------------- */

enum rg_code rg_jinja_begin(struct rg_jrun **out, const struct rg_jinja *t, struct rg_err *err)
{
    struct rg_jrun *r = rg_calloc(1, sizeof *r);

    *out = NULL;
    if (!r)
        return rg_fail(err, RG_E_NOMEM, "chat template: out of memory");
    rg_jwork_init(&r->w, RG_JALLOC_MAX, err);
    r->t = t;
    r->out = rg_jtext_new(&r->w, 4096);
    r->top = rg_jalloc(&r->w, t->n_names * sizeof *r->top);
    if (!r->out || !r->top) {
        const enum rg_code code = rg_jshort(&r->w);

        rg_jinja_end(r);
        return code;
    }
    *out = r;
    return RG_OK;
}

struct rg_jwork *rg_jinja_work(struct rg_jrun *r)
{
    return &r->w;
}

/* A name that the template never mentions needs no place. */
enum rg_code rg_jinja_set(struct rg_jrun *r, const char *name, struct rg_jvalue v)
{
    for (uint32_t i = 0; i < r->t->n_names; i++)
        if (strcmp(r->t->names[i].text, name) == 0)
            r->top[i] = v;
    return RG_OK;
}

static enum rg_code take_spans(struct rg_jrun *r, struct rg_prompt *out)
{
    const struct rg_jtext *t = r->out;

    out->spans = rg_calloc(t->n_marks + 1, sizeof *out->spans);
    if (!out->spans)
        return rg_jfail(&r->w, RG_E_NOMEM, "out of memory");
    for (uint32_t i = 0; i < t->n_marks; i++) {
        out->spans[i].begin = t->marks[i].at;
        out->spans[i].end = i + 1 < t->n_marks ? t->marks[i + 1].at : t->len;
        out->spans[i].trusted = t->marks[i].trusted;
    }
    out->n_spans = t->n_marks;
    return RG_OK;
}

enum rg_code rg_jinja_run(struct rg_jrun *r, struct rg_prompt *out)
{
    *out = (struct rg_prompt){0};
    RG_TRY(rg_jexec(r, r->t->body));
    r->w.line = 0;
    out->text = rg_strndup(r->out->data, r->out->len);
    if (!out->text)
        return rg_jfail(&r->w, RG_E_NOMEM, "out of memory");
    out->len = r->out->len;

    const enum rg_code code = take_spans(r, out);

    if (code != RG_OK)
        rg_prompt_free(out);
    return code;
}

struct rg_jtree {
    struct rg_jtree *next;
    struct rg_json *root; /* owned */
};

enum rg_code rg_jrun_parse_json(struct rg_jrun *r, const char *text, size_t len,
                                struct rg_jvalue *out, bool *ok)
{
    struct rg_jtree *tree = rg_jalloc(&r->w, sizeof *tree);

    *ok = false;
    if (!tree)
        return rg_jshort(&r->w);
    RG_TRY(rg_jwork_spend(&r->w, len));

    struct rg_err why;
    const enum rg_code code = rg_json_parse(&tree->root, text, len, &rg_json_limits_request, &why);

    if (code == RG_E_NOMEM)
        return rg_jfail(&r->w, code, "out of memory");
    if (code != RG_OK)
        return RG_OK;
    tree->next = r->trees;
    r->trees = tree;
    *ok = true;
    return rg_jv_from_json(&r->w, tree->root, out);
}

void rg_jinja_end(struct rg_jrun *r)
{
    if (!r)
        return;
    for (struct rg_jtree *tree = r->trees; tree; tree = tree->next)
        rg_json_free(tree->root);
    rg_jwork_free(&r->w);
    rg_free(r);
}
