/* jinja_unicode.h - what Python's str methods know about characters. */
#ifndef RG_TEXT_JINJA_UNICODE_H
#define RG_TEXT_JINJA_UNICODE_H

#include <stdbool.h>
#include <stdint.h>

enum rg_jcase { RG_JCASE_UPPER, RG_JCASE_LOWER, RG_JCASE_TITLE };

bool rg_junicode_printable(uint32_t cp); /* str.isprintable() */
bool rg_junicode_space(uint32_t cp);     /* str.isspace(): White_Space and U+001C..U+001F */
bool rg_junicode_cased(uint32_t cp);

/* Writes the full case mapping of cp and returns its length, 1..3. */
uint32_t rg_junicode_case(enum rg_jcase to, uint32_t cp, uint32_t out[3]);

#endif
