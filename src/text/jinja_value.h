/* jinja_value.h - the values a template computes with, as Python has them (private to src/text).
 *
 * Lifetime   The arena of a struct rg_jwork.
 * Threads    Values made by the parser are only read; others belong to one rendering. */
#ifndef RG_TEXT_JINJA_VALUE_H
#define RG_TEXT_JINJA_VALUE_H

#include "text/jinja_string.h"

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
        bool boolean;
        int64_t integer;
        double number;
        const struct rg_jstr *string; /* STRING; BIGINT: digits; UNDEFINED: what, or NULL */
        struct rg_jlist *list;        /* LIST TUPLE VIEW */
        struct rg_jiter *iter;
        struct rg_jdict *dict; /* DICT NAMESPACE */
        struct rg_jloop *loop;
        const struct rg_jclosure *macro;
        const struct rg_jfunction *function;
        const struct rg_jbound *method;
    } as;
};

struct rg_jlist {
    struct rg_jvalue *items;
    uint32_t n, capacity;
    const char
        *shown; /* of a VIEW: "dict_keys" is printed with its items, "range(0, 3)" as it is */
};

struct rg_jiter {
    struct rg_jlist *list;
    uint32_t at;
};

struct rg_jpair {
    struct rg_jvalue key, value;
};

struct rg_jdict { /* in order of insertion */
    struct rg_jpair *pairs;
    uint32_t n, capacity;
    uint32_t *index; /* hash table of pair numbers + 1; NULL while small */
    uint32_t index_size;
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

bool rg_jv_truth(struct rg_jvalue v);
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
    bool ascii;
    bool sort_keys;
};
RG_CHECKED enum rg_code rg_jv_json(struct rg_jwork *w, struct rg_jtext *t, struct rg_jvalue v,
                                   const struct rg_jjson_style *style);

struct rg_json;
/* Strings are borrowed from the tree and untrusted. */
RG_CHECKED enum rg_code rg_jv_from_json(struct rg_jwork *w, const struct rg_json *j,
                                        struct rg_jvalue *out);

#endif
