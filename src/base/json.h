/* json.h - strict JSON: a pull reader for large files, a tree for small ones, and a writer.
 *
 * Strict     RFC 8259 and nothing else: valid UTF-8, no control characters in strings, no lone
 *            surrogate escapes, no trailing bytes, numbers as the grammar has them.
 *            Syntax errors are RG_E_BAD_DATA with the byte offset.  Policy is another code, so that
 *            the API can tell them apart: nesting or size over the limit RG_E_LIMIT; a duplicate
 *            key or an escaped NUL RG_E_UNSUPPORTED.
 * Numbers    keep their text: rg_json_number_text() is what the document said, so that
 *            9007199254740993 and 1.0 survive.
 * Library    the tree is cJSON's (cJSON.h is included by json.c only); the reader checks every
 *            document first, because cJSON alone accepts 17 of JSONTestSuite's 188 invalid files.
 * Threads    One per object. */
#ifndef RG_BASE_JSON_H
#define RG_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum rg_json_type {
    RG_JSON_NULL,
    RG_JSON_BOOL,
    RG_JSON_NUMBER,
    RG_JSON_STRING,
    RG_JSON_ARRAY,
    RG_JSON_OBJECT
};

/* ---- the tree ---------------------------------------------------------------------------- */

struct rg_json; /* a node; the root owns its tree */

struct rg_json_limits {
    size_t bytes_max;
    uint32_t depth_max; /* 1 = scalars and empty containers of the top level */
    uint32_t keys_max;  /* keys of one object; 0 = 4096 */
};

extern const struct rg_json_limits rg_json_limits_request; /* 8 MiB, depth 64, 4096 keys */
extern const struct rg_json_limits rg_json_limits_config;  /* 1 MiB, depth 32, 65536 keys */

RG_CHECKED enum rg_code rg_json_parse(struct rg_json **out, const char *text, size_t len,
                                      const struct rg_json_limits *limits, struct rg_err *err);
void rg_json_free(struct rg_json *root); /* accepts NULL */

enum rg_json_type rg_json_type(const struct rg_json *j);
const char *rg_json_type_name(const struct rg_json *j); /* "an object", "null", ... */
const struct rg_json *rg_json_get(const struct rg_json *object, const char *key); /* NULL: absent */
const struct rg_json *rg_json_first(const struct rg_json *container);             /* NULL: empty */
const struct rg_json *rg_json_next(const struct rg_json *child);                  /* NULL: last  */
const char *rg_json_key(const struct rg_json *child); /* of an object's child */
size_t rg_json_count(const struct rg_json *container);
bool rg_json_bool(const struct rg_json *j);               /* of a RG_JSON_BOOL   */
const char *rg_json_string(const struct rg_json *j);      /* of a RG_JSON_STRING */
double rg_json_double(const struct rg_json *j);           /* of a RG_JSON_NUMBER */
const char *rg_json_number_text(const struct rg_json *j); /* of a RG_JSON_NUMBER */

/* True if j is a number that is an integer (1, 1.0 and 1e2 are) within [least, most]. */
bool rg_json_int(const struct rg_json *j, int64_t least, int64_t most, int64_t *out);

/* ---- making and printing trees -------------------------------------------------------------
 * The add functions take ownership of `value` (also when they fail) and return false when memory
 * is short; rg_json_print() of a tree in which an add failed must not be called. */

RG_CHECKED struct rg_json *rg_json_new_object(void);
RG_CHECKED struct rg_json *rg_json_new_array(void);
RG_CHECKED struct rg_json *rg_json_new_string(const char *s, size_t n); /* valid UTF-8, no NUL */
RG_CHECKED struct rg_json *rg_json_new_number(double v);
RG_CHECKED struct rg_json *rg_json_new_int(int64_t v); /* exact beyond 2^53 too */
RG_CHECKED struct rg_json *rg_json_new_null(void);
/* Gives a key that `object`, somewhere in root's tree, has another value. */
bool rg_json_replace(struct rg_json *root, const struct rg_json *object, const char *key,
                     struct rg_json *value);
bool rg_json_add(struct rg_json *object, const char *key, struct rg_json *value);
bool rg_json_push(struct rg_json *array, struct rg_json *value);

/* Appends the tree as one line, no spaces. */
RG_CHECKED enum rg_code rg_json_print(struct rg_buf *out, const struct rg_json *j,
                                      struct rg_err *err);

/* Appends s as a JSON string with its quotes; s must be valid UTF-8, NUL is written \u0000. */
RG_CHECKED enum rg_code rg_json_print_string(struct rg_buf *out, const char *s, size_t n,
                                             struct rg_err *err);

/* ---- the pull reader ------------------------------------------------------------------------
 * Reads a document token by token without building anything; for safetensors headers and
 * tokenizer.json.  It does not look for duplicate keys: its callers do. */

enum rg_json_token {
    RG_JSON_T_OBJECT_BEGIN,
    RG_JSON_T_OBJECT_END,
    RG_JSON_T_ARRAY_BEGIN,
    RG_JSON_T_ARRAY_END,
    RG_JSON_T_KEY,    /* text/len: the raw bytes between the quotes, escapes not undone */
    RG_JSON_T_STRING, /* the same */
    RG_JSON_T_NUMBER, /* text/len: the number as written */
    RG_JSON_T_TRUE,
    RG_JSON_T_FALSE,
    RG_JSON_T_NULL,
    RG_JSON_T_END /* of the document */
};

enum { RG_JSON_DEPTH_MAX = 64 };

struct rg_json_reader {
    const char *text; /* borrowed: the whole document */
    size_t len;
    size_t at; /* offset of the next byte to look at */
    uint32_t depth;
    uint32_t depth_max;
    uint8_t state;                    /* what may come next (json_reader.c) */
    uint8_t stack[RG_JSON_DEPTH_MAX]; /* '{' or '[' per open container      */
    /* of the token that was just read: */
    const char *token_text;
    size_t token_len;
    bool token_escaped; /* a string or key with a backslash in it */
    bool token_nul;     /* ... with an escaped NUL in it          */
};

void rg_json_reader_init(struct rg_json_reader *r, const char *text, size_t len,
                         uint32_t depth_max);
RG_CHECKED enum rg_code rg_json_read(struct rg_json_reader *r, enum rg_json_token *token,
                                     struct rg_err *err);

/* Reads and checks the value that comes next, whatever it is; a container with all it holds. */
RG_CHECKED enum rg_code rg_json_skip(struct rg_json_reader *r, struct rg_err *err);

/* Appends the current string or key with its escapes undone (NUL included). */
RG_CHECKED enum rg_code rg_json_unescape(const struct rg_json_reader *r, struct rg_buf *out,
                                         struct rg_err *err);

#endif
