/* utf8.h - UTF-8 as RFC 3629 and the Unicode standard (table 3-7) define it.
 *
 * A "maximal subpart" is the longest prefix of an ill-formed sequence that could have begun a
 * well-formed one; it is what one U+FFFD stands for (Unicode 16, section 3.9). */
#ifndef RG_BASE_UTF8_H
#define RG_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* Decodes one code point at s (n bytes left, n > 0).  Returns its length 1..4 and sets *cp; for an
 * ill-formed sequence sets *cp = 0xFFFFFFFF and returns the length of its maximal subpart. */
size_t rg_utf8_next(const char *s, size_t n, uint32_t *cp);

/* Writes cp (a Unicode scalar value) to out[4] and returns its length. */
size_t rg_utf8_put(char out[4], uint32_t cp);

bool rg_utf8_valid(const char *s, size_t n);

/* Appends s with each maximal subpart of an ill-formed sequence replaced by one U+FFFD. */
RG_CHECKED enum rg_code rg_utf8_repair(struct rg_buf *out, const char *s, size_t n,
                                       struct rg_err *err);

/* How many bytes at the end of s begin a sequence that more bytes could complete: 0..3. */
size_t rg_utf8_incomplete_tail(const char *s, size_t n);

#endif
