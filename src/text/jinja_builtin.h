/* jinja_builtin.h - the tables of filters, tests, methods and functions a template may use.
 *
 * What is in no table is an error when a template is parsed.  A function gets its arguments bound
 * to the parameter names of its row; "*" means that it reads them itself. */
#ifndef RG_TEXT_JINJA_BUILTIN_H
#define RG_TEXT_JINJA_BUILTIN_H

#include "text/jinja_ast.h"
#include "text/jinja_eval.h"

enum { RG_JPARAMS_MAX = 6 };

/* Arguments of one call. */
struct rg_jargs {
    struct rg_jvalue *items;
    uint32_t n;
    struct rg_jvalue *keywords;
    const char *const *keyword_names;
    uint32_t n_keywords;
    struct rg_jvalue slots[RG_JPARAMS_MAX]; /* by parameter; RG_J_ABSENT when not given */
};

typedef enum rg_code rg_jfilter_fn(struct rg_jrun *r, struct rg_jvalue in, struct rg_jargs *args,
                                   struct rg_jvalue *out);
typedef enum rg_code rg_jtest_fn(struct rg_jrun *r, struct rg_jvalue in, struct rg_jargs *args,
                                 bool *out);
typedef enum rg_code rg_jfunction_fn(struct rg_jrun *r, struct rg_jargs *args,
                                     struct rg_jvalue *out);

struct rg_jfilter {
    const char *name;
    rg_jfilter_fn *fn;
    const char *params; /* "indent first blank", or "*" */
    uint32_t n_required;
};

struct rg_jtest {
    const char *name;
    uint32_t types; /* set of 1 << enum rg_jtype; used when fn is NULL */
    rg_jtest_fn *fn;
    uint32_t n_args; /* exactly */
};

enum { /* the types that a method belongs to */
       RG_JM_STRING = 1,
       RG_JM_LIST = 2,
       RG_JM_TUPLE = 4,
       RG_JM_DICT = 8,
       RG_JM_LOOP = 16
};

struct rg_jmethod {
    const char *name;
    uint32_t types;
    rg_jfilter_fn *fn; /* in = the object */
    const char *params;
    uint32_t n_required;
};

struct rg_jfunction {
    const char *name;
    rg_jfunction_fn *fn;
    const char *params;
    uint32_t n_required;
};

extern const struct rg_jmethod rg_jmethods_of_strings[]; /* ends with a NULL name */

/* NULL: none of that name. */
const struct rg_jfilter *rg_jfilter_find(const char *name);
const struct rg_jtest *rg_jtest_find(const char *name);
const struct rg_jmethod *rg_jmethod_find(const char *name);
const struct rg_jfunction *rg_jfunction_find(const char *name);

/* The row of method's name for a type; NULL: that type has no such method. */
const struct rg_jmethod *rg_jmethod_for(const struct rg_jmethod *method, enum rg_jtype type);

/* Binds args to "a b c"; errors name `what`. */
RG_CHECKED enum rg_code rg_jargs_bind(struct rg_jrun *r, const char *what, const char *params,
                                      uint32_t n_required, struct rg_jargs *args);
/* Whether a call, filter or test could bind its arguments, whatever their values are. */
bool rg_jargs_fit(const struct rg_jinja *t, const char *params, uint32_t n_required,
                  const struct rg_jexpr *call);
/* Whether they fit a method of that name, of any type. */
bool rg_jmethod_fits(const struct rg_jinja *t, const char *name, const struct rg_jexpr *call);
RG_CHECKED enum rg_code rg_jfilter_call(struct rg_jrun *r, const struct rg_jfilter *f,
                                        struct rg_jvalue in, struct rg_jargs *args,
                                        struct rg_jvalue *out);
RG_CHECKED enum rg_code rg_jtest_call(struct rg_jrun *r, const struct rg_jtest *t,
                                      struct rg_jvalue in, struct rg_jargs *args, bool *out);

/* A view of (key, value) tuples. */
RG_CHECKED enum rg_code rg_jdict_items(struct rg_jrun *r, const struct rg_jdict *d,
                                       struct rg_jvalue *out);

/* Typed access to a bound slot. */
RG_CHECKED enum rg_code rg_jarg_string(struct rg_jrun *r, const struct rg_jargs *args, uint32_t i,
                                       const struct rg_jstr **out); /* *out kept when absent/none */
RG_CHECKED enum rg_code rg_jarg_int(struct rg_jrun *r, const struct rg_jargs *args, uint32_t i,
                                    int64_t *out); /* *out kept when absent or none */
bool rg_jarg_truth(const struct rg_jargs *args, uint32_t i, bool otherwise);

/* Shared by filters and methods (jinja_text.c). */
enum rg_jtext_casing {
    RG_JTEXT_UPPER,
    RG_JTEXT_LOWER,
    RG_JTEXT_CAPITALIZE,  /* the first character in title case, the others in lower case */
    RG_JTEXT_TITLE,       /* str.title(): so in every run of cased characters */
    RG_JTEXT_TITLE_FILTER /* |title: so in every word; words end at whitespace and - ( { [ < */
};
RG_CHECKED enum rg_code rg_jtext_case(struct rg_jwork *w, const struct rg_jstr *s,
                                      enum rg_jtext_casing to, struct rg_jvalue *out);
/* chars NULL: whitespace. */
RG_CHECKED enum rg_code rg_jtext_strip(struct rg_jwork *w, const struct rg_jstr *s,
                                       const struct rg_jstr *chars, bool left, bool right,
                                       struct rg_jvalue *out);
/* count < 0: all. */
RG_CHECKED enum rg_code rg_jtext_replace(struct rg_jwork *w, const struct rg_jstr *s,
                                         const struct rg_jstr *from, const struct rg_jstr *to,
                                         int64_t count, struct rg_jvalue *out);
/* a + b where one is markup: the other is HTML-escaped. */
RG_CHECKED enum rg_code rg_jtext_add_markup(struct rg_jwork *w, const struct rg_jstr *a,
                                            const struct rg_jstr *b, struct rg_jvalue *out);
/* A conversion of a format that is not done: of '%' (percent) or of format(); NULL: all are. */
const char *rg_jtext_unknown_format(const struct rg_jstr *format, bool percent);
/* printf-style formatting of `values` (a tuple, a mapping or one value). */
RG_CHECKED enum rg_code rg_jtext_percent(struct rg_jwork *w, const struct rg_jstr *format,
                                         struct rg_jvalue values, struct rg_jvalue *out);

#endif
