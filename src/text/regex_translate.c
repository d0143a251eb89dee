/* regex_translate.c - Oniguruma patterns (Ruby syntax) to PCRE2.
 *
 * The dialects look alike and differ in meaning: \s, \w, \d, \h and scripts have other sets,
 * classes nest and intersect, {n,m}+ repeats a repeat, (?m) is PCRE2's (?s).  Everything that is
 * passed on was looked at; what was not is refused by name. */
#include <string.h>

#include "base/limits.h"
#include "base/utf8.h"
#include "text/regex.h"
#include "text/regex_class.h"

enum { GROUPS_MAX = 64, CLASS_DEPTH_MAX = 8 };
static const size_t NO_ATOM = SIZE_MAX;

struct translator {
    struct rg_buf *out;
    const char    *pattern;
    size_t         len, at;
    size_t         atom; /* where in out the thing begins that a quantifier would repeat */
    size_t         groups[GROUPS_MAX]; /* where in out the open groups begin */
    uint32_t       n_groups;
    struct rg_err *err;
};

static enum rg_code refuse(struct translator *t, const char *what)
{
    return rg_fail(t->err, RG_E_UNSUPPORTED, "regex: %s at byte %zu of %.200s is not supported",
                   what, t->at, t->pattern);
}

static bool looking_at(const struct translator *t, const char *s)
{
    const size_t n = strlen(s);

    return t->len - t->at >= n && memcmp(t->pattern + t->at, s, n) == 0;
}

static bool accept(struct translator *t, const char *s)
{
    if (!looking_at(t, s))
        return false;
    t->at += strlen(s);
    return true;
}

static enum rg_code emit(struct translator *t, const char *s)
{
    return rg_buf_add_str(t->out, s, t->err);
}

/* One character of the pattern, which is valid UTF-8 (it comes from JSON). */
static uint32_t next_char(struct translator *t)
{
    uint32_t cp;

    t->at += rg_utf8_next(t->pattern + t->at, t->len - t->at, &cp);
    return cp;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Up to `most` hex digits at t->at; false without one. */
static bool read_hex(struct translator *t, size_t most, uint32_t *cp)
{
    size_t n = 0;

    *cp = 0;
    while (n < most && t->at < t->len && hex_value(t->pattern[t->at]) >= 0) {
        *cp = *cp << 4 | (uint32_t)hex_value(t->pattern[t->at++]);
        n++;
    }
    return n > 0;
}

/* The character that an escape stands for; its backslash was read.  *known = false for one that
 * does not stand for a single character. */
static enum rg_code escaped_char(struct translator *t, uint32_t *cp, bool *known)
{
    static const char letters[] = "tnrfvae";
    static const char values[] = "\t\n\r\f\v\a\x1B";
    const char       *letter;

    *known = true;
    if (t->at == t->len)
        return refuse(t, "a backslash at the end");
    if (accept(t, "x{")) {
        if (!read_hex(t, 6, cp) || !accept(t, "}") || *cp > 0x10FFFF)
            return refuse(t, "this \\x{...}");
        return RG_OK;
    }
    if (accept(t, "x"))
        return read_hex(t, 2, cp) && *cp < 0x80 ? RG_OK : refuse(t, "this \\x");
    if (accept(t, "u"))
        return read_hex(t, 4, cp) && (*cp < 0xD800 || *cp > 0xDFFF) ? RG_OK
                                                                    : refuse(t, "this \\u");
    letter = strchr(letters, t->pattern[t->at]);
    if (letter && *letter) {
        *cp = (uint8_t)values[letter - letters];
        t->at++;
        return RG_OK;
    }
    *cp = next_char(t);
    *known = !((*cp >= '0' && *cp <= '9') || (*cp >= 'a' && *cp <= 'z') ||
               (*cp >= 'A' && *cp <= 'Z'));
    if (!*known)
        t->at--;
    return RG_OK;
}

/* \s and its like, and \p{...}; the backslash was read.  *known = false for other escapes. */
static enum rg_code escaped_set(struct translator *t, struct rg_char_set *s, bool *known)
{
    const char *p = t->pattern + t->at;
    const char *close;
    bool        negated;
    size_t      n;

    *known = false;
    if (t->at == t->len)
        return RG_OK;
    if (t->len - t->at < 2 || (p[0] != 'p' && p[0] != 'P') || p[1] != '{') {
        const enum rg_code code = rg_char_set_add_escape(s, p[0], known, t->err);

        t->at += *known;
        return code;
    }
    close = memchr(p, '}', t->len - t->at);
    if (!close)
        return refuse(t, "\\p without }");
    *known = true;
    negated = p[0] == 'P';
    t->at += (size_t)(close - p) + 1;
    p += 2;
    n = (size_t)(close - p);
    if (n > 0 && p[0] == '^') {
        negated = !negated;
        p++;
        n--;
    }
    return rg_char_set_add_property(s, p, n, negated, t->err);
}

/* ---- classes -------------------------------------------------------------------------------- */

static enum rg_code posix_class(struct translator *t, struct rg_char_set *s)
{
    static const struct {
        const char *name, *property;
    } names[] = {{"[:alpha:]", "Alphabetic"},  {"[:digit:]", "Nd"},
                 {"[:space:]", "White_Space"}, {"[:upper:]", "Uppercase"},
                 {"[:lower:]", "Lowercase"},   {"[:cntrl:]", "Cc"}};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (accept(t, names[i].name))
            return rg_char_set_add_property(s, names[i].property, strlen(names[i].property), false,
                                            t->err);
    return refuse(t, "this POSIX class");
}

/* A single character of a class, escaped or not; *known = false and nothing read otherwise. */
static enum rg_code class_char(struct translator *t, uint32_t *cp, bool *known)
{
    const size_t start = t->at;
    enum rg_code code = RG_OK;

    *known = true;
    if (accept(t, "\\"))
        code = escaped_char(t, cp, known);
    else if (looking_at(t, "["))
        *known = false;
    else
        *cp = next_char(t);
    if (!*known)
        t->at = start;
    return code;
}

/* A character, or a range from it. */
static enum rg_code class_range(struct translator *t, struct rg_char_set *s, uint32_t first)
{
    uint32_t     last = first;
    bool         known = true;
    enum rg_code code = RG_OK;

    if (looking_at(t, "-") && !looking_at(t, "-]") && !looking_at(t, "-&&")) {
        t->at++;
        if (t->at < t->len)
            code = class_char(t, &last, &known);
        if (!code && (!known || last < first))
            code = refuse(t, "this range in a class");
    }
    return code ? code : rg_char_set_add_range(s, first, last, t->err);
}

static enum rg_code parse_class(struct translator *t, struct rg_char_set *out, unsigned depth);

static enum rg_code class_item(struct translator *t, struct rg_char_set *s, unsigned depth)
{
    struct rg_char_set nested;
    uint32_t           first;
    bool               known;
    enum rg_code       code;

    if (looking_at(t, "[:"))
        return posix_class(t, s);
    if (looking_at(t, "[")) {
        rg_char_set_init(&nested);
        code = parse_class(t, &nested, depth + 1);
        if (!code)
            code = rg_char_set_unite(s, &nested, t->err);
        rg_char_set_free(&nested);
        return code;
    }
    code = class_char(t, &first, &known);
    if (code)
        return code;
    if (known)
        return class_range(t, s, first);
    t->at++; /* the backslash */
    rg_char_set_init(&nested);
    code = escaped_set(t, &nested, &known);
    if (!code && !known)
        code = refuse(t, "this escape in a class");
    if (!code)
        code = rg_char_set_unite(s, &nested, t->err);
    rg_char_set_free(&nested);
    return code;
}

/* From '[' to its ']'.  `out` is what stands before the last && so far, `part` what comes after. */
static enum rg_code parse_class(struct translator *t, struct rg_char_set *out, unsigned depth)
{
    struct rg_char_set part;
    bool               negated, first = true;
    enum rg_code       code = RG_OK;

    if (depth > CLASS_DEPTH_MAX)
        return refuse(t, "a class nested so deep");
    t->at++;
    negated = accept(t, "^");
    if (looking_at(t, "]"))
        return refuse(t, "an empty class");
    rg_char_set_init(&part);
    while (!code) {
        const bool done = looking_at(t, "]");

        if (t->at == t->len) {
            code = refuse(t, "a class without ]");
        } else if (done || looking_at(t, "&&")) {
            code = first ? rg_char_set_unite(out, &part, t->err)
                         : rg_char_set_intersect(out, &part, t->err);
            first = false;
            rg_char_set_free(&part);
            rg_char_set_init(&part);
            t->at += done ? 1 : 2;
            if (done)
                break;
        } else {
            code = class_item(t, &part, depth);
        }
    }
    rg_char_set_free(&part);
    out->negated = out->negated != negated;
    return code;
}

static enum rg_code translate_class(struct translator *t)
{
    struct rg_char_set s;
    enum rg_code       code;

    rg_char_set_init(&s);
    code = parse_class(t, &s, 0);
    t->atom = t->out->len;
    if (!code)
        code = rg_char_set_print(t->out, &s, t->err);
    rg_char_set_free(&s);
    return code;
}

/* ---- escapes, groups, quantifiers ----------------------------------------------------------- */

static enum rg_code emit_char(struct translator *t, uint32_t cp)
{
    char         c[4];
    const size_t n = rg_utf8_put(c, cp);

    t->atom = t->out->len;
    if (cp < 0x80 && !((cp >= '0' && cp <= '9') || (cp >= 'a' && cp <= 'z') ||
                       (cp >= 'A' && cp <= 'Z') || cp == ' ' || cp == '\''))
        return rg_buf_addf(t->out, t->err, "\\x{%X}", cp);
    return rg_buf_add(t->out, c, n, t->err);
}

static enum rg_code translate_escape(struct translator *t)
{
    struct rg_char_set s;
    uint32_t           cp;
    bool               known;
    enum rg_code       code;

    t->at++;
    rg_char_set_init(&s);
    code = escaped_set(t, &s, &known);
    if (!code && known) {
        t->atom = t->out->len;
        code = rg_char_set_print(t->out, &s, t->err);
    }
    rg_char_set_free(&s);
    if (code || known)
        return code;
    t->atom = NO_ATOM;
    if (accept(t, "A"))
        return emit(t, "\\A");
    if (accept(t, "z"))
        return emit(t, "\\z");
    if (accept(t, "Z"))
        return emit(t, "\\Z");
    code = escaped_char(t, &cp, &known);
    if (code)
        return code;
    return known ? emit_char(t, cp) : refuse(t, "this escape");
}

static enum rg_code open_group(struct translator *t)
{
    /* What it is in Ruby, and in PCRE2.  Captures are not: nothing refers to them. */
    static const struct {
        const char *ruby, *pcre2;
    } kinds[] = {{"(?:", "(?:"},   {"(?=", "(?="},     {"(?!", "(?!"},   {"(?<=", "(?<="},
                 {"(?<!", "(?<!"}, {"(?>", "(?>"},     {"(?i:", "(?i:"}, {"(?-i:", "(?-i:"},
                 {"(?m:", "(?s:"}, {"(?mi:", "(?si:"}, {"(?im:", "(?si:"}};
    const bool at_start = t->at == 0;

    t->atom = NO_ATOM;
    if (at_start && accept(t, "(?i)"))
        return emit(t, "(?i)");
    if (t->n_groups == GROUPS_MAX)
        return refuse(t, "a group nested so deep");
    t->groups[t->n_groups++] = t->out->len;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (accept(t, kinds[i].ruby))
            return emit(t, kinds[i].pcre2);
    if (looking_at(t, "(?"))
        return refuse(t, "this group");
    t->at++;
    return emit(t, "(?:");
}

static enum rg_code close_group(struct translator *t)
{
    if (t->n_groups == 0)
        return refuse(t, "an unmatched )");
    t->at++;
    t->atom = t->groups[--t->n_groups];
    return emit(t, ")");
}

static bool read_number(struct translator *t, uint32_t *n)
{
    const size_t start = t->at;

    *n = 0;
    while (t->at < t->len && t->at - start < 5 && t->pattern[t->at] >= '0' &&
           t->pattern[t->at] <= '9')
        *n = *n * 10 + (uint32_t)(t->pattern[t->at++] - '0');
    return t->at > start;
}

/* Puts the last atom and what was written after it into a group of its own. */
static enum rg_code wrap_atom(struct translator *t)
{
    const size_t moved = t->out->len - t->atom;
    enum rg_code code = emit(t, "(?:)");

    if (code)
        return code;
    memmove(t->out->data + t->atom + 3, t->out->data + t->atom, moved);
    memcpy(t->out->data + t->atom, "(?:", 3);
    t->out->data[t->out->len - 1] = ')';
    return RG_OK;
}

/* {n}, {n,}, {n,m}, {,m}; anything else is text. */
static enum rg_code interval(struct translator *t)
{
    const size_t start = t->at;
    uint32_t     least = 0, most = 0;
    bool         has_least, has_comma, has_most = false;
    enum rg_code code;

    t->at++;
    has_least = read_number(t, &least);
    has_comma = accept(t, ",");
    if (has_comma)
        has_most = read_number(t, &most);
    if (!(has_least || has_most) || !accept(t, "}")) {
        t->at = start + 1;
        return emit_char(t, '{');
    }
    if (t->atom == NO_ATOM)
        return refuse(t, "a quantifier of nothing");
    code = rg_buf_addf(t->out, t->err, "{%u", least);
    if (!code && has_comma)
        code = has_most ? rg_buf_addf(t->out, t->err, ",%u", most) : emit(t, ",");
    if (!code)
        code = emit(t, "}");
    if (code)
        return code;
    if (has_comma && accept(t, "?"))
        return emit(t, "?");
    /* In Ruby a further quantifier repeats the repeat: {n}? is optional, {n,m}+ not possessive. */
    if (looking_at(t, "?") || looking_at(t, "+") || looking_at(t, "*"))
        return wrap_atom(t);
    return RG_OK;
}

static enum rg_code quantifier(struct translator *t)
{
    char         q[3] = {t->pattern[t->at], '\0', '\0'};
    enum rg_code code;

    if (t->atom == NO_ATOM)
        return refuse(t, "a quantifier of nothing");
    t->at++;
    if (looking_at(t, "?") || looking_at(t, "+"))
        q[1] = t->pattern[t->at++];
    code = emit(t, q);
    if (!code && t->at < t->len && strchr("*+?{", t->pattern[t->at]))
        code = wrap_atom(t);
    return code;
}

static enum rg_code translate_one(struct translator *t)
{
    switch (t->pattern[t->at]) {
    case '\\':
        return translate_escape(t);
    case '[':
        return translate_class(t);
    case '(':
        return open_group(t);
    case ')':
        return close_group(t);
    case '{':
        return interval(t);
    case '*':
    case '+':
    case '?':
        return quantifier(t);
    case '|':
    case '^':
    case '$':
        t->atom = NO_ATOM;
        return rg_buf_add(t->out, t->pattern + t->at++, 1, t->err);
    case '.':
        t->atom = t->out->len;
        return rg_buf_add(t->out, t->pattern + t->at++, 1, t->err);
    default:
        return emit_char(t, next_char(t));
    }
}

enum rg_code rg_regex_translate(struct rg_buf *out, const char *pattern, size_t len,
                                struct rg_err *err)
{
    struct translator t = {
        .out = out, .pattern = pattern, .len = len, .atom = NO_ATOM, .err = err};
    enum rg_code code = RG_OK;

    if (!rg_utf8_valid(pattern, len) || memchr(pattern, '\0', len))
        return rg_fail(err, RG_E_BAD_DATA, "regex: not valid UTF-8");
    while (t.at < t.len && !code)
        code = translate_one(&t);
    if (!code && t.n_groups)
        code = refuse(&t, "a group without )");
    return code;
}

enum rg_code rg_regex_quote(struct rg_buf *out, const char *literal, size_t len,
                            struct rg_err *err)
{
    struct translator t = {.out = out, .pattern = literal, .len = len, .err = err};
    enum rg_code      code = RG_OK;

    while (t.at < t.len && !code)
        code = emit_char(&t, next_char(&t));
    return code;
}
