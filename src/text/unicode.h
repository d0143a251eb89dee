/* unicode.h - the character properties that tokenizers need beside their regexes.
 *
 * Tables     unicode_data.c and nfc_data.c are made by tools/gen_unicode.py.  They are those of
 *            Hugging Face's tokenizers 0.23, whose parts know different versions of Unicode:
 *            combining classes about 9, punctuation about 8, digits 17, regexes 16.
 * Threads    Pure functions. */
#ifndef RG_TEXT_UNICODE_H
#define RG_TEXT_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "text/text_map.h"

struct rg_code_range {
    uint32_t first, last;
};

/* Characters that are younger than Unicode 14 and one of the same class and UTF-8 length. */
struct rg_code_proxy {
    uint32_t first, last, proxy;
};

extern const struct rg_code_proxy rg_code_proxies[];
extern const size_t               rg_n_code_proxies;
extern const struct rg_code_range rg_punctuation[];
extern const size_t               rg_n_punctuation;
extern const struct rg_code_range rg_numeric[];
extern const size_t               rg_n_numeric;
extern const struct rg_code_range rg_word[];
extern const size_t               rg_n_word;

bool rg_is_white_space(uint32_t cp);    /* the property White_Space        */
bool rg_is_python_space(uint32_t cp);   /* Python's str.isspace()          */
bool rg_is_punctuation(uint32_t cp);    /* Hugging Face's Punctuation      */
bool rg_is_numeric(uint32_t cp);        /* Hugging Face's Digits           */
bool rg_is_word(uint32_t cp);           /* \w of Rust's regex crate        */

/* Regexes run on a text in which every character that PCRE2's tables may lack is replaced by a
 * proxy of the same class and length.  Appends that text; nothing if no character is replaced. */
RG_CHECKED enum rg_code rg_unicode_shadow(struct rg_buf *out, const char *text, size_t len,
                                          struct rg_err *err);

/* Appends the NFC of valid UTF-8 to an empty buffer and says in `map` where it came from.
 * *changed = false: the text is NFC already and nothing was appended. */
RG_CHECKED enum rg_code rg_nfc(struct rg_buf *out, struct rg_text_map *map, const char *text,
                               size_t len, bool *changed, struct rg_err *err);

#endif
