/* jinja_eval.h - running a parsed template (private to src/text). */
#ifndef RG_TEXT_JINJA_EVAL_H
#define RG_TEXT_JINJA_EVAL_H

#include "text/jinja_ast.h"

struct rg_jargs;
struct rg_jtree;

struct rg_jbinding {
    uint32_t name;
    struct rg_jvalue value;
};

/* Variables of a loop body, a macro call or a block; lookups go outwards. */
struct rg_jscope {
    struct rg_jscope *parent; /* NULL: the template's own variables, in rg_jrun.top */
    struct rg_jbinding *bindings;
    uint32_t n, capacity;
};

struct rg_jloop {
    struct rg_jlist *list;
    uint32_t at;
    struct rg_jvalue seen; /* of loop.changed(); ABSENT at first */
};

struct rg_jclosure {
    const struct rg_jmacro *macro;
    struct rg_jscope *scope; /* where it was defined */
};

struct rg_jbound {
    const struct rg_jmethod *method;
    struct rg_jvalue object;
};

enum rg_jflow { RG_JFLOW_NEXT, RG_JFLOW_BREAK, RG_JFLOW_CONTINUE };

struct rg_jrun {
    struct rg_jwork w;
    const struct rg_jinja *t;
    struct rg_jtext *out;
    struct rg_jscope *scope;
    struct rg_jvalue *top; /* [t->n_names] variables of the template; ABSENT = not set */
    enum rg_jflow flow;
    uint32_t calls;         /* macro calls inside each other */
    struct rg_jtree *trees; /* JSON whose strings are borrowed */
};

RG_CHECKED enum rg_code rg_jeval(struct rg_jrun *r, const struct rg_jexpr *x,
                                 struct rg_jvalue *out);
/* Applies the filters of a filter block to `in`. */
RG_CHECKED enum rg_code rg_jeval_filters(struct rg_jrun *r, const struct rg_jexpr *x,
                                         struct rg_jvalue in, struct rg_jvalue *out);
RG_CHECKED enum rg_code rg_jexec(struct rg_jrun *r, const struct rg_jstmt *body);

/* Variables (jinja_eval.c). */
struct rg_jvalue rg_jscope_get(const struct rg_jrun *r, uint32_t name);
RG_CHECKED enum rg_code rg_jscope_set(struct rg_jrun *r, uint32_t name, struct rg_jvalue v);
RG_CHECKED enum rg_code rg_jmacro_call(struct rg_jrun *r, const struct rg_jclosure *macro,
                                       struct rg_jargs *args, struct rg_jvalue *out);

/* Reads JSON text; its values live as long as the run.  *ok false: it is not valid JSON. */
RG_CHECKED enum rg_code rg_jrun_parse_json(struct rg_jrun *r, const char *text, size_t len,
                                           struct rg_jvalue *out, bool *ok);

/* What operators do (jinja_ops.c). */
RG_CHECKED enum rg_code rg_jop_binary(struct rg_jrun *r, enum rg_jop op, struct rg_jvalue a,
                                      struct rg_jvalue b, struct rg_jvalue *out);
RG_CHECKED enum rg_code rg_jop_negate(struct rg_jrun *r, struct rg_jvalue a, bool minus,
                                      struct rg_jvalue *out);
RG_CHECKED enum rg_code rg_jop_compare(struct rg_jrun *r, enum rg_jop op, struct rg_jvalue a,
                                       struct rg_jvalue b, bool *out);

/* What a.b, a[b] and a[b:c:d] give (jinja_access.c).  method may be NULL. */
RG_CHECKED enum rg_code rg_jget_attr(struct rg_jrun *r, struct rg_jvalue a,
                                     const struct rg_jstr *name, const struct rg_jmethod *method,
                                     struct rg_jvalue *out);
RG_CHECKED enum rg_code rg_jget_item(struct rg_jrun *r, struct rg_jvalue a, struct rg_jvalue key,
                                     struct rg_jvalue *out);
RG_CHECKED enum rg_code rg_jget_slice(struct rg_jrun *r, struct rg_jvalue a,
                                      const struct rg_jvalue bounds[3], struct rg_jvalue *out);
/* a.b.c as filters spell attributes: "function.name", integers index lists. */
RG_CHECKED enum rg_code rg_jget_path(struct rg_jrun *r, struct rg_jvalue a, struct rg_jvalue path,
                                     struct rg_jvalue *out);
/* The error for a use of an undefined value. */
enum rg_code rg_jundefined(struct rg_jrun *r, struct rg_jvalue v);

#endif
