/* regex.h - the split patterns of tokenizers, on PCRE2.
 *
 * Dialect    rg_regex_open() takes PCRE2's.  Patterns of tokenizer.json are in Oniguruma's and go
 *            through rg_regex_translate() first, which refuses, naming it, what it cannot give
 *            exactly.
 * Unicode    Classes are those of the linked PCRE2 (10.42: Unicode 14); rg_unicode_shadow() makes
 *            texts with younger characters fit.
 * Limits     The match limit, the JIT stack, the interpreter's memory (which is used when that
 *            stack is too small) and the processor time grow with the text; a pattern that needs
 *            more gives RG_E_LIMIT.
 * Threads    struct rg_regex is immutable; a scan belongs to one caller. */
#ifndef RG_TEXT_REGEX_H
#define RG_TEXT_REGEX_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

struct rg_regex;
struct rg_regex_scan;

RG_CHECKED enum rg_code rg_regex_open(struct rg_regex **out, const char *pattern, size_t len,
                                      struct rg_err *err);
void rg_regex_close(struct rg_regex *r); /* accepts NULL */

/* Working memory for searches in texts of at most `len_max` bytes. */
RG_CHECKED enum rg_code rg_regex_scan_open(struct rg_regex_scan **out, size_t len_max,
                                           struct rg_err *err);
void rg_regex_scan_close(struct rg_regex_scan *s); /* accepts NULL */

/* Finds the leftmost match that begins at or after `at` in text, which must be valid UTF-8.
 * *begin = SIZE_MAX when there is none. */
RG_CHECKED enum rg_code rg_regex_find(const struct rg_regex *r, struct rg_regex_scan *s,
                                      const char *text, size_t len, size_t at, size_t *begin,
                                      size_t *end, struct rg_err *err);

/* Appends the PCRE2 form of an Oniguruma pattern (Ruby syntax, as Hugging Face uses it). */
RG_CHECKED enum rg_code rg_regex_translate(struct rg_buf *out, const char *pattern, size_t len,
                                           struct rg_err *err);

/* Appends a pattern that matches exactly these bytes. */
RG_CHECKED enum rg_code rg_regex_quote(struct rg_buf *out, const char *literal, size_t len,
                                       struct rg_err *err);

#endif
