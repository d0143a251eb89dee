/* jinja_parse.h - the parser of templates, in parts (private to src/text).
 *
 * jinja_parser.c reads statements, jinja_parse_expr.c operators, jinja_parse_primary.c literals,
 * calls, subscripts, filters and tests.
 * Limits     RG_LIMIT_TEMPLATE_DEPTH levels of nesting; expressions of 256 levels. */
#ifndef RG_TEXT_JINJA_PARSE_H
#define RG_TEXT_JINJA_PARSE_H

#include "text/jinja_ast.h"

/* A growing list of expressions. */
struct rg_jitems {
    struct rg_jexpr **data;
    uint32_t n, capacity;
};

struct rg_jparser {
    struct rg_jinja *t;
    struct rg_jwork *w; /* == &t->work */
    const struct rg_jtoken *tokens;
    uint32_t at;
    uint32_t depth;
    uint32_t loops; /* of the macro or template that is being read */
    struct rg_jitems calls; /* of functions by name: a macro may still be bound to it */
};

/* The token stream (jinja_parser.c). */
const struct rg_jtoken *rg_jparse_peek(const struct rg_jparser *p);
void rg_jparse_next(struct rg_jparser *p);
bool rg_jparse_is_name(const struct rg_jparser *p, const char *name);
bool rg_jparse_is_op(const struct rg_jparser *p, const char *op);
bool rg_jparse_skip_name(struct rg_jparser *p, const char *name);
bool rg_jparse_skip_op(struct rg_jparser *p, const char *op);
RG_CHECKED enum rg_code rg_jparse_expect_op(struct rg_jparser *p, const char *op);
RG_CHECKED enum rg_code rg_jparse_expect_name(struct rg_jparser *p, uint32_t *name);
enum rg_code rg_jparse_unexpected(struct rg_jparser *p, const char *wanted);
RG_CHECKED enum rg_code rg_jparse_enter(struct rg_jparser *p); /* one level deeper */

RG_CHECKED enum rg_code rg_jparse_add(struct rg_jparser *p, struct rg_jitems *l,
                                      struct rg_jexpr *x);
RG_CHECKED struct rg_jexpr *rg_jparse_node(struct rg_jparser *p, enum rg_jexpr_kind kind);
/* Ends every node: a tall tree would be deep recursion when it is run. */
RG_CHECKED enum rg_code rg_jparse_done(struct rg_jparser *p, struct rg_jexpr *x,
                                       struct rg_jexpr **out);

enum rg_jtuple_mode {
    RG_JTUPLE_FULL,  /* with inline if */
    RG_JTUPLE_NO_IF, /* conditions and loop sources */
    RG_JTUPLE_PAREN, /* inside ( ): may be empty */
    RG_JTUPLE_TARGET /* names, and attributes of namespaces */
};
RG_CHECKED enum rg_code rg_jparse_tuple(struct rg_jparser *p, enum rg_jtuple_mode mode,
                                        struct rg_jexpr **out);
RG_CHECKED enum rg_code rg_jparse_expr(struct rg_jparser *p, struct rg_jexpr **out);

/* Literals, names, lists, dicts and what stands in parentheses. */
RG_CHECKED enum rg_code rg_jparse_primary(struct rg_jparser *p, struct rg_jexpr **out);
/* ".name", "[...]" and "(...)" behind *x, which becomes the whole. */
RG_CHECKED enum rg_code rg_jparse_postfix(struct rg_jparser *p, struct rg_jexpr **x);
/* "|filter", "is test" and calls behind *x. */
RG_CHECKED enum rg_code rg_jparse_filters_and_tests(struct rg_jparser *p, struct rg_jexpr **x);
/* Refuses a literal format with a conversion that is not done ('%' or format()). */
RG_CHECKED enum rg_code rg_jparse_check_format(struct rg_jparser *p, const struct rg_jexpr *format,
                                               bool percent);
/* "name(args)|name ..." applied to input, which is NULL in filter blocks. */
RG_CHECKED enum rg_code rg_jparse_filters(struct rg_jparser *p, struct rg_jexpr *input,
                                          bool inline_, struct rg_jexpr **out);

#endif
