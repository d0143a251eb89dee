/* jinja_ast.h - a parsed chat template: tokens, expressions, statements (private to src/text).
 *
 * Lifetime   The arena of its struct rg_jinja; only read after parsing. */
#ifndef RG_TEXT_JINJA_AST_H
#define RG_TEXT_JINJA_AST_H

#include "text/jinja_value.h"

/* ---- tokens (jinja_lexer.c) ----------------------------------------------------------------- */

enum rg_jtoken_kind {
    RG_JT_DATA,
    RG_JT_VARIABLE_BEGIN,
    RG_JT_VARIABLE_END,
    RG_JT_BLOCK_BEGIN,
    RG_JT_BLOCK_END,
    RG_JT_NAME,
    RG_JT_STRING,
    RG_JT_INTEGER,
    RG_JT_FLOAT,
    RG_JT_OPERATOR,
    RG_JT_END
};

struct rg_jtoken {
    enum rg_jtoken_kind kind;
    uint32_t line;
    const char *text; /* borrowed: source bytes; a STRING's without quotes, escapes undone */
    size_t len;
    char op[3]; /* of an OPERATOR: "+", "//", "==" ... */
};

struct rg_jtokens {
    struct rg_jtoken *items;
    uint32_t n, capacity;
};

/* Splits a source (valid UTF-8, line ends LF) into tokens; the last one is RG_JT_END. */
RG_CHECKED enum rg_code rg_jinja_lex(struct rg_jwork *w, const char *source, size_t len,
                                     struct rg_jtokens *out);

/* ---- names ---------------------------------------------------------------------------------- */

struct rg_jname {
    const struct rg_jstr *string; /* trusted */
    const char *text;             /* the same with a NUL */
    uint64_t hash;
    uint32_t called_line; /* of the first call of a function of this name; 0 = none */
    bool is_read;         /* as a variable */
    bool is_bound;        /* by set, for, macro or a parameter */
};

/* ---- expressions ---------------------------------------------------------------------------- */

enum rg_jexpr_kind {
    RG_JX_CONST,  /* value */
    RG_JX_NAME,   /* name */
    RG_JX_LIST,   /* args */
    RG_JX_TUPLE,  /* args */
    RG_JX_DICT,   /* args: key, value, key, value ... */
    RG_JX_ATTR,   /* a.name */
    RG_JX_ITEM,   /* a[b] */
    RG_JX_SLICE,  /* a[b:c:d] */
    RG_JX_CALL,   /* a(args, keywords) */
    RG_JX_FILTER, /* a|filter(args, keywords); a NULL in a filter block */
    RG_JX_TEST,   /* a is test(args) */
    RG_JX_NOT,
    RG_JX_NEG,
    RG_JX_POS,
    RG_JX_AND,
    RG_JX_OR,
    RG_JX_BINARY,  /* a op b */
    RG_JX_CONCAT,  /* args joined by ~ */
    RG_JX_COMPARE, /* args[0] ops[0] args[1] ops[1] ... */
    RG_JX_IF       /* b if a else c; c may be NULL */
};

enum rg_jop {
    RG_JOP_ADD,
    RG_JOP_SUB,
    RG_JOP_MUL,
    RG_JOP_DIV,
    RG_JOP_FLOORDIV,
    RG_JOP_MOD,
    RG_JOP_POW,
    RG_JOP_EQ,
    RG_JOP_NE,
    RG_JOP_LT,
    RG_JOP_LE,
    RG_JOP_GT,
    RG_JOP_GE,
    RG_JOP_IN,
    RG_JOP_NOT_IN
};

struct rg_jfilter;
struct rg_jtest;
struct rg_jmethod;

struct rg_jexpr {
    enum rg_jexpr_kind kind;
    enum rg_jop op;
    uint32_t line;
    uint32_t name;   /* NAME, ATTR: number of the name */
    uint32_t height; /* of the tree below */
    uint32_t n_args, n_keywords;
    struct rg_jexpr *a, *b, *c, *d;
    struct rg_jexpr **args;
    struct rg_jexpr **keywords; /* values of name=value */
    uint32_t *keyword_names;    /* numbers of names */
    uint8_t *ops;               /* COMPARE: enum rg_jop */
    struct rg_jvalue value;
    const struct rg_jfilter *filter;
    const struct rg_jtest *test;
    const struct rg_jmethod *method; /* ATTR: the first method of that name, or NULL */
};

/* ---- statements ----------------------------------------------------------------------------- */

enum rg_jstmt_kind {
    RG_JS_DATA,    /* value: a string */
    RG_JS_OUTPUT,  /* expr */
    RG_JS_IF,      /* expr, body, orelse (an elif is an IF in orelse) */
    RG_JS_FOR,     /* target, expr, test or NULL, body, orelse */
    RG_JS_SET,     /* target, expr */
    RG_JS_CAPTURE, /* target, expr = filters or NULL, body */
    RG_JS_FILTER,  /* expr = filters, body */
    RG_JS_MACRO,   /* macro */
    RG_JS_WITH,    /* names, values, body */
    RG_JS_SCOPE,   /* body: a generation block */
    RG_JS_BREAK,
    RG_JS_CONTINUE
};

struct rg_jstmt;

struct rg_jmacro {
    uint32_t name;
    uint32_t n_params;
    uint32_t *params;           /* numbers of names */
    struct rg_jexpr **defaults; /* [n_params]; NULL = none */
    struct rg_jstmt *body;
};

struct rg_jstmt {
    enum rg_jstmt_kind kind;
    uint32_t line;
    struct rg_jstmt *next;
    struct rg_jexpr *expr, *target, *test;
    struct rg_jstmt *body, *orelse;
    struct rg_jvalue value;
    struct rg_jmacro *macro;
    uint32_t n_names;
    uint32_t *names;
    struct rg_jexpr **values;
};

/* ---- the template --------------------------------------------------------------------------- */

struct rg_jinja {
    struct rg_jwork work; /* owns everything below */
    struct rg_jstmt *body;
    struct rg_jname *names;
    uint32_t n_names, names_capacity;
    uint32_t *index; /* hash table of name numbers + 1 */
    uint32_t index_size;
    uint32_t loop_name; /* the number of "loop" */
    struct rg_jtext *literals;
};

/* The number of a name, added when it is new. */
RG_CHECKED enum rg_code rg_jname_add(struct rg_jinja *t, const char *p, size_t n, uint32_t *out);

#endif
