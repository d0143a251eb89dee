/* jinja_value.h - the values a template computes with, and the memory and budget of one rendering.
 *
 * Strings    are valid UTF-8 and immutable.  Each is a window into a text that only ever grows at its
 *            end, so appending to a string that ends where its text ends costs only what is appended.
 *            A text knows which of its bytes are the template's own (trusted): control tokens are
 *            recognised nowhere else.
 * Lifetime   Everything lives in the arena of a struct rg_jwork and dies with it.
 * Limits     rg_jalloc() stops at bytes_max; rg_jwork_spend() counts the bytes that were walked.
 * Failure    An enum rg_code; the error line names the template's line.
 * Threads    One per rg_jwork; values made by the parser are only read. */
#ifndef RG_TEXT_JINJA_VALUE_H
#define RG_TEXT_JINJA_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"

/* Leaves the calling function when a call failed: everything is in an arena, so nothing leaks. */
#define RG_TRY(call)                      \
    do {                                  \
        const enum rg_code code_ = (call); \
        if (code_ != RG_OK)               \
            return code_;                 \
    } while (0)

enum {
    RG_JVALUE_DEPTH_MAX = 128, /* nested containers: a body has 64 levels, a template adds its own */
    RG_JALLOC_MAX = 512 << 20
};
#define RG_JWORK_BYTES_MAX (UINT64_C(4) << 30) /* bytes walked by one rendering: some seconds */

/* Memory, budget and place of one parsing or rendering. */
struct rg_jwork {
    struct rg_arena arena;
    char           *at;      /* the rest of the current small block */
    size_t          left;
    struct rg_err  *err;     /* borrowed */
    uint32_t        line;    /* of the template, for messages; 0 = none */
    uint32_t        depth;   /* of nested evaluation */
    uint32_t        steps;   /* evaluated nodes */
    uint64_t        bytes;   /* walked */
};

void  rg_jwork_init(struct rg_jwork *w, size_t bytes_max, struct rg_err *err);
void  rg_jwork_free(struct rg_jwork *w);
RG_CHECKED void *rg_jalloc(struct rg_jwork *w, size_t bytes); /* zeroed; NULL when short */
enum rg_code rg_jshort(struct rg_jwork *w);                   /* reports an rg_jalloc() that failed */
RG_CHECKED enum rg_code rg_jwork_spend(struct rg_jwork *w, size_t bytes);
RG_CHECKED enum rg_code rg_jgrow(struct rg_jwork *w, void **items, uint32_t *capacity, size_t need,
                                 size_t size);

/* Fills the error with "chat template line N: ..." and returns code. */
RG_PRINTF(3, 4)
enum rg_code rg_jfail(struct rg_jwork *w, enum rg_code code, const char *format, ...);

/* ---- values ------------------------------------------------------------------------------- */

enum rg_jtype {
    RG_J_ABSENT, /* an argument that was not given */
    RG_J_UNDEFINED,
    RG_J_NONE,
    RG_J_BOOL,
    RG_J_INT,
    RG_J_BIGINT, /* outside int64: its digits */
    RG_J_FLOAT,
    RG_J_STRING,
    RG_J_LIST,
    RG_J_TUPLE,
    RG_J_VIEW, /* a range or a dict's keys, values or items */
    RG_J_ITER, /* what map and select give: can be walked once */
    RG_J_DICT,
    RG_J_NAMESPACE,
    RG_J_LOOP,
    RG_J_MACRO,
    RG_J_FUNCTION,
    RG_J_METHOD
};

struct rg_jstr;
struct rg_jlist;
struct rg_jdict;
struct rg_jiter;
struct rg_jloop;
struct rg_jclosure;
struct rg_jbound;
struct rg_jfunction;

struct rg_jvalue {
    enum rg_jtype type;
    union {
        bool                       boolean;
        int64_t                    integer;
        double                     number;
        const struct rg_jstr      *string; /* STRING; BIGINT: digits; UNDEFINED: what, or NULL */
        struct rg_jlist           *list;   /* LIST TUPLE VIEW */
        struct rg_jiter           *iter;
        struct rg_jdict           *dict; /* DICT NAMESPACE */
        struct rg_jloop           *loop;
        const struct rg_jclosure  *macro;
        const struct rg_jfunction *function;
        const struct rg_jbound    *method;
    } as;
};

struct rg_jmark {
    size_t at; /* from this byte of the text on */
    bool   trusted;
};

struct rg_jtext {
    const char      *data;
    char            *own; /* == data where the text may grow; NULL for borrowed bytes */
    size_t           len;
    size_t           capacity;
    struct rg_jmark *marks; /* marks[0].at == 0 */
    uint32_t         n_marks, marks_capacity;
};

struct rg_jstr {
    struct rg_jtext *text;
    size_t           begin, len; /* bytes */
    size_t           chars;      /* code points; == len for ASCII */
    bool             markup;     /* made by |safe: what is added to it with + is HTML-escaped */
};

struct rg_jlist {
    struct rg_jvalue *items;
    uint32_t          n, capacity;
};

struct rg_jiter {
    struct rg_jlist *list;
    uint32_t         at;
};

struct rg_jpair {
    struct rg_jvalue key, value;
};

struct rg_jdict { /* in order of insertion */
    struct rg_jpair *pairs;
    uint32_t         n, capacity;
    uint32_t        *index; /* hash table of pair numbers + 1; NULL while small */
    uint32_t         index_size;
};

static inline struct rg_jvalue rg_jv_none(void)
{
    return (struct rg_jvalue){.type = RG_J_NONE};
}

static inline struct rg_jvalue rg_jv_undefined(void)
{
    return (struct rg_jvalue){.type = RG_J_UNDEFINED};
}

static inline struct rg_jvalue rg_jv_bool(bool b)
{
    return (struct rg_jvalue){.type = RG_J_BOOL, .as.boolean = b};
}

static inline struct rg_jvalue rg_jv_int(int64_t i)
{
    return (struct rg_jvalue){.type = RG_J_INT, .as.integer = i};
}

static inline struct rg_jvalue rg_jv_float(double d)
{
    return (struct rg_jvalue){.type = RG_J_FLOAT, .as.number = d};
}

static inline struct rg_jvalue rg_jv_str(const struct rg_jstr *s)
{
    return (struct rg_jvalue){.type = RG_J_STRING, .as.string = s};
}

static inline struct rg_jvalue rg_jv_list(enum rg_jtype type, struct rg_jlist *l)
{
    return (struct rg_jvalue){.type = type, .as.list = l};
}

static inline struct rg_jvalue rg_jv_dict(struct rg_jdict *d)
{
    return (struct rg_jvalue){.type = RG_J_DICT, .as.dict = d};
}

static inline const char *rg_jstr_data(const struct rg_jstr *s)
{
    return s->text->data + s->begin;
}

/* ---- strings (jinja_string.c) ------------------------------------------------------------- */

RG_CHECKED struct rg_jtext *rg_jtext_new(struct rg_jwork *w, size_t reserve);
RG_CHECKED enum rg_code rg_jtext_add(struct rg_jwork *w, struct rg_jtext *t, const char *p, size_t n,
                                     bool trusted);
/* Appends bytes [from, to) of s with their trust. */
RG_CHECKED enum rg_code rg_jtext_add_part(struct rg_jwork *w, struct rg_jtext *t,
                                          const struct rg_jstr *s, size_t from, size_t to);
RG_CHECKED enum rg_code rg_jtext_add_str(struct rg_jwork *w, struct rg_jtext *t,
                                         const struct rg_jstr *s);
/* The whole text as a string value. */
RG_CHECKED enum rg_code rg_jtext_value(struct rg_jwork *w, struct rg_jtext *t,
                                       struct rg_jvalue *out);

/* A string of bytes that outlive w, not copied.  NULL when memory is short. */
RG_CHECKED const struct rg_jstr *rg_jstr_borrow(struct rg_jwork *w, const char *p, size_t n,
                                                bool trusted);
RG_CHECKED const struct rg_jstr *rg_jstr_copy(struct rg_jwork *w, const char *p, size_t n,
                                              bool trusted);
RG_CHECKED enum rg_code rg_jstr_cut(struct rg_jwork *w, const struct rg_jstr *s, size_t from,
                                    size_t to, struct rg_jvalue *out); /* byte offsets */
RG_CHECKED enum rg_code rg_jstr_concat(struct rg_jwork *w, const struct rg_jstr *a,
                                       const struct rg_jstr *b, struct rg_jvalue *out);
/* The same string as |safe gives it. */
RG_CHECKED enum rg_code rg_jstr_markup(struct rg_jwork *w, const struct rg_jstr *s,
                                       struct rg_jvalue *out);
bool   rg_jstr_trusted_at(const struct rg_jstr *s, size_t at); /* byte offset < len */
bool   rg_jstr_equal(const struct rg_jstr *a, const struct rg_jstr *b);
bool   rg_jstr_is(const struct rg_jstr *s, const char *text);
int    rg_jstr_compare(const struct rg_jstr *a, const struct rg_jstr *b); /* by code points */
size_t rg_jstr_offset(const struct rg_jstr *s, size_t chars); /* byte offset of a code point */
/* Byte offset of the first needle at or after `from`; SIZE_MAX when there is none. */
size_t rg_jstr_find(const struct rg_jstr *s, const struct rg_jstr *needle, size_t from);
size_t rg_jstr_find_last(const struct rg_jstr *s, const struct rg_jstr *needle, size_t end);

/* ---- containers (jinja_value.c) ----------------------------------------------------------- */

RG_CHECKED struct rg_jlist *rg_jlist_new(struct rg_jwork *w, size_t reserve);
RG_CHECKED enum rg_code rg_jlist_push(struct rg_jwork *w, struct rg_jlist *l, struct rg_jvalue v);

RG_CHECKED struct rg_jdict *rg_jdict_new(struct rg_jwork *w);
RG_CHECKED enum rg_code rg_jdict_set(struct rg_jwork *w, struct rg_jdict *d, struct rg_jvalue key,
                                     struct rg_jvalue value);
RG_CHECKED enum rg_code rg_jdict_set_text(struct rg_jwork *w, struct rg_jdict *d, const char *key,
                                          struct rg_jvalue value);
/* NULL: no such key (also for keys that cannot be hashed). */
struct rg_jvalue *rg_jdict_get(const struct rg_jdict *d, struct rg_jvalue key);
struct rg_jvalue *rg_jdict_get_text(const struct rg_jdict *d, const char *key);
RG_CHECKED enum rg_code rg_jdict_remove(struct rg_jwork *w, struct rg_jdict *d,
                                        struct rg_jvalue key);

/* ---- what Python does with any value ------------------------------------------------------ */

bool        rg_jv_truth(struct rg_jvalue v);
const char *rg_jv_type_name(struct rg_jvalue v); /* "a string", "none", ... */
RG_CHECKED enum rg_code rg_jv_equal(struct rg_jwork *w, struct rg_jvalue a, struct rg_jvalue b,
                                    bool *out);
/* <0, 0, >0; RG_E_BAD_DATA for types that have no order. */
RG_CHECKED enum rg_code rg_jv_order(struct rg_jwork *w, struct rg_jvalue a, struct rg_jvalue b,
                                    int *out);
RG_CHECKED enum rg_code rg_jv_length(struct rg_jwork *w, struct rg_jvalue v, int64_t *out);
/* The values that a for loop sees, as a list: characters, keys, items.  May be v's own list. */
RG_CHECKED enum rg_code rg_jv_items(struct rg_jwork *w, struct rg_jvalue v, struct rg_jlist **out);
RG_CHECKED enum rg_code rg_jv_contains(struct rg_jwork *w, struct rg_jvalue container,
                                       struct rg_jvalue item, bool *out);

/* ---- printing (jinja_print.c, jinja_json.c) ----------------------------------------------- */

enum { RG_JFLOAT_BYTES = 40 };
size_t rg_jfloat_repr(char out[RG_JFLOAT_BYTES], double v); /* Python's repr() */
RG_CHECKED enum rg_code rg_jv_print(struct rg_jwork *w, struct rg_jtext *t, struct rg_jvalue v);
RG_CHECKED enum rg_code rg_jv_repr(struct rg_jwork *w, struct rg_jtext *t, struct rg_jvalue v);
RG_CHECKED enum rg_code rg_jv_string(struct rg_jwork *w, struct rg_jvalue v,
                                     struct rg_jvalue *out); /* str(v) */

struct rg_jjson_style {
    const struct rg_jstr *indent; /* NULL: one line */
    const struct rg_jstr *item_separator;
    const struct rg_jstr *key_separator;
    bool                  ascii;
    bool                  sort_keys;
};
RG_CHECKED enum rg_code rg_jv_json(struct rg_jwork *w, struct rg_jtext *t, struct rg_jvalue v,
                                   const struct rg_jjson_style *style);

struct rg_json;
/* Strings are borrowed from the tree and untrusted. */
RG_CHECKED enum rg_code rg_jv_from_json(struct rg_jwork *w, const struct rg_json *j,
                                        struct rg_jvalue *out);

#endif
