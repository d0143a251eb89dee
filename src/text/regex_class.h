/* regex_class.h - sets of characters in a regex being translated.
 *
 * A set is a union of general categories and of PCRE2 class items, perhaps negated as a whole.
 * That form is kept under union and intersection where it can be; where it cannot, the translator
 * refuses the pattern.
 * Threads    One at a time. */
#ifndef RG_TEXT_REGEX_CLASS_H
#define RG_TEXT_REGEX_CLASS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct rg_char_set {
    bool          negated;
    uint32_t      categories; /* bit per general category */
    struct rg_buf items;      /* as between the brackets of a PCRE2 class */
};

void rg_char_set_init(struct rg_char_set *s);
void rg_char_set_free(struct rg_char_set *s);

RG_CHECKED enum rg_code rg_char_set_add_range(struct rg_char_set *s, uint32_t first, uint32_t last,
                                              struct rg_err *err);

/* \s, \S, \d, \D, \w, \W, \h, \H by their letter.  *known = false for others. */
RG_CHECKED enum rg_code rg_char_set_add_escape(struct rg_char_set *s, char letter, bool *known,
                                               struct rg_err *err);

/* \p{name}: a general category, a script or a binary property. */
RG_CHECKED enum rg_code rg_char_set_add_property(struct rg_char_set *s, const char *name, size_t n,
                                                 bool negated, struct rg_err *err);

/* s = s or other; s = s and other.  RG_E_UNSUPPORTED when the result has not the form. */
RG_CHECKED enum rg_code rg_char_set_unite(struct rg_char_set *s, const struct rg_char_set *other,
                                          struct rg_err *err);
RG_CHECKED enum rg_code rg_char_set_intersect(struct rg_char_set *s,
                                              const struct rg_char_set *other, struct rg_err *err);

/* Appends the set as a PCRE2 class. */
RG_CHECKED enum rg_code rg_char_set_print(struct rg_buf *out, const struct rg_char_set *s,
                                          struct rg_err *err);

#endif
