/* jinja_string.h - strings of a template: valid UTF-8, immutable, each byte trusted or not.
 *
 * A string is a window into a text that only ever grows at its end, so appending to a string that
 * ends where its text ends costs only what is appended.  A text knows which of its bytes are the
 * template's own (trusted): control tokens are recognised nowhere else.  Whatever is made of a
 * string (parts, joins, case, replacements) keeps the trust of the bytes it came from.
 * Threads    Strings made by the parser are only read; others belong to one rendering. */
#ifndef RG_TEXT_JINJA_STRING_H
#define RG_TEXT_JINJA_STRING_H

#include "text/jinja_work.h"

struct rg_jvalue;

struct rg_jmark {
    size_t at; /* from this byte of the text on */
    bool trusted;
};

struct rg_jtext {
    const char *data;
    char *own; /* == data where the text may grow; NULL for borrowed bytes */
    size_t len;
    size_t capacity;
    struct rg_jmark *marks; /* marks[0].at == 0 */
    uint32_t n_marks, marks_capacity;
};

struct rg_jstr {
    struct rg_jtext *text;
    size_t begin, len; /* bytes */
    size_t chars;      /* code points; == len for ASCII */
    bool markup;       /* made by |safe: what is added to it with + is HTML-escaped */
};

static inline const char *rg_jstr_data(const struct rg_jstr *s)
{
    return s->text->data + s->begin;
}

RG_CHECKED struct rg_jtext *rg_jtext_new(struct rg_jwork *w, size_t reserve);
RG_CHECKED enum rg_code rg_jtext_add(struct rg_jwork *w, struct rg_jtext *t, const char *p,
                                     size_t n, bool trusted);
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
bool rg_jstr_trusted_at(const struct rg_jstr *s, size_t at); /* byte offset < len */
bool rg_jstr_equal(const struct rg_jstr *a, const struct rg_jstr *b);
bool rg_jstr_is(const struct rg_jstr *s, const char *text);
int rg_jstr_compare(const struct rg_jstr *a, const struct rg_jstr *b); /* by code points */
size_t rg_jstr_offset(const struct rg_jstr *s, size_t chars); /* byte offset of a code point */
/* Byte offset of the first needle at or after `from`; SIZE_MAX when there is none. */
size_t rg_jstr_find(const struct rg_jstr *s, const struct rg_jstr *needle, size_t from);
size_t rg_jstr_find_last(const struct rg_jstr *s, const struct rg_jstr *needle, size_t end);

#endif
