/* jinja_text.c - case, stripping, replacing; every byte keeps the trust of where it came from. */
#include <string.h>

#include "base/utf8.h"
#include "text/jinja_builtin.h"
#include "text/jinja_unicode.h"

/* ---- case ----------------------------------------------------------------------------------- */

/* Appends the mapping of the character at [at, at + n) of s. */
static enum rg_code add_mapped(struct rg_jwork *w, struct rg_jtext *t, const struct rg_jstr *s,
                               size_t at, uint32_t cp, enum rg_jcase to)
{
    uint32_t mapped[3];
    const uint32_t n = rg_junicode_case(to, cp, mapped);
    const bool trusted = rg_jstr_trusted_at(s, at);

    for (uint32_t i = 0; i < n; i++) {
        char bytes[4];

        RG_TRY(rg_jtext_add(w, t, bytes, rg_utf8_put(bytes, mapped[i]), trusted));
    }
    return RG_OK;
}

/* Greek capital sigma at [at, at + 2) ends a word: a cased letter before it, none after it. */
static bool final_sigma(const struct rg_jstr *s, size_t at, bool cased_before)
{
    uint32_t cp;
    const size_t next = at + 2;

    if (!cased_before || next >= s->len)
        return cased_before;
    (void)rg_utf8_next(rg_jstr_data(s) + next, s->len - next, &cp);
    return !rg_junicode_cased(cp);
}

static bool ends_word(uint32_t cp)
{
    return rg_junicode_space(cp) || cp == '-' || cp == '(' || cp == '{' || cp == '[' || cp == '<';
}

enum rg_code rg_jtext_case(struct rg_jwork *w, const struct rg_jstr *s, enum rg_jtext_casing to,
                           struct rg_jvalue *out)
{
    struct rg_jtext *t = rg_jtext_new(w, s->len);
    bool begins = true, cased_before = false;

    if (!t)
        return rg_jshort(w);
    for (size_t at = 0; at < s->len;) {
        uint32_t cp;
        const size_t n = rg_utf8_next(rg_jstr_data(s) + at, s->len - at, &cp);
        enum rg_jcase one = RG_JCASE_LOWER;

        if (to == RG_JTEXT_UPPER || (to == RG_JTEXT_TITLE_FILTER && begins))
            one = RG_JCASE_UPPER;
        else if (to != RG_JTEXT_LOWER && begins)
            one = RG_JCASE_TITLE;
        if (cp == 0x3A3 && one == RG_JCASE_LOWER && final_sigma(s, at, cased_before))
            RG_TRY(rg_jtext_add(w, t, "\xCF\x82", 2, rg_jstr_trusted_at(s, at)));
        else
            RG_TRY(add_mapped(w, t, s, at, cp, one));
        cased_before = rg_junicode_cased(cp);
        if (to == RG_JTEXT_CAPITALIZE)
            begins = false;
        else if (to == RG_JTEXT_TITLE)
            begins = !cased_before;
        else
            begins = ends_word(cp);
        at += n;
    }
    return rg_jtext_value(w, t, out);
}

/* ---- strip ---------------------------------------------------------------------------------- */

static bool strips(const struct rg_jstr *chars, const char *p, size_t n, uint32_t cp)
{
    if (!chars)
        return rg_junicode_space(cp);
    return n <= chars->len && memmem(rg_jstr_data(chars), chars->len, p, n) != NULL;
}

enum rg_code rg_jtext_strip(struct rg_jwork *w, const struct rg_jstr *s,
                            const struct rg_jstr *chars, bool left, bool right,
                            struct rg_jvalue *out)
{
    const char *p = rg_jstr_data(s);
    size_t from = 0, to = s->len;
    uint32_t cp;

    while (left && from < to) {
        const size_t n = rg_utf8_next(p + from, to - from, &cp);

        if (!strips(chars, p + from, n, cp))
            break;
        RG_TRY(rg_jwork_spend(w, n + (chars ? chars->len : 0)));
        from += n;
    }
    while (right && to > from) {
        size_t begin = to - 1;

        while (begin > from && ((unsigned char)p[begin] & 0xC0) == 0x80)
            begin--;
        (void)rg_utf8_next(p + begin, to - begin, &cp);
        if (!strips(chars, p + begin, to - begin, cp))
            break;
        RG_TRY(rg_jwork_spend(w, to - begin + (chars ? chars->len : 0)));
        to = begin;
    }
    return rg_jstr_cut(w, s, from, to, out);
}

/* ---- replace -------------------------------------------------------------------------------- */

/* Python puts the replacement before every character and at the end when `from` is empty. */
static enum rg_code replace_empty(struct rg_jwork *w, const struct rg_jstr *s,
                                  const struct rg_jstr *to, int64_t count, struct rg_jtext *t)
{
    for (size_t at = 0; at <= s->len;) {
        uint32_t cp;
        size_t n = s->len + 1 - at;

        if (count != 0)
            RG_TRY(rg_jtext_add_str(w, t, to));
        count -= count > 0;
        if (at < s->len)
            n = rg_utf8_next(rg_jstr_data(s) + at, s->len - at, &cp);
        RG_TRY(rg_jtext_add_part(w, t, s, at, at + n < s->len ? at + n : s->len));
        at += n;
    }
    return RG_OK;
}

enum rg_code rg_jtext_replace(struct rg_jwork *w, const struct rg_jstr *s,
                              const struct rg_jstr *from, const struct rg_jstr *to, int64_t count,
                              struct rg_jvalue *out)
{
    struct rg_jtext *t;
    size_t at = 0;

    RG_TRY(rg_jwork_spend(w, s->len));
    if (count == 0 || (from->len && rg_jstr_find(s, from, 0) == SIZE_MAX)) {
        *out = rg_jv_str(s);
        return RG_OK;
    }
    t = rg_jtext_new(w, s->len);
    if (!t)
        return rg_jshort(w);
    if (from->len == 0) {
        RG_TRY(replace_empty(w, s, to, count, t));
        return rg_jtext_value(w, t, out);
    }
    for (; count != 0; count -= count > 0) {
        const size_t hit = rg_jstr_find(s, from, at);

        if (hit == SIZE_MAX)
            break;
        RG_TRY(rg_jtext_add_part(w, t, s, at, hit));
        RG_TRY(rg_jtext_add_str(w, t, to));
        at = hit + from->len;
    }
    RG_TRY(rg_jtext_add_part(w, t, s, at, s->len));
    return rg_jtext_value(w, t, out);
}

/* ---- markup --------------------------------------------------------------------------------- */

static enum rg_code add_escaped(struct rg_jwork *w, struct rg_jtext *t, const struct rg_jstr *s)
{
    static const char special[] = "&<>'\"";
    static const char *const escapes[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
    const char *p = rg_jstr_data(s);
    size_t from = 0;

    if (s->markup)
        return rg_jtext_add_str(w, t, s);
    for (size_t at = 0; at < s->len; at++) {
        const char *hit = memchr(special, p[at], sizeof special - 1);

        if (!hit)
            continue;
        RG_TRY(rg_jtext_add_part(w, t, s, from, at));
        RG_TRY(rg_jtext_add(w, t, escapes[hit - special], strlen(escapes[hit - special]),
                            rg_jstr_trusted_at(s, at)));
        from = at + 1;
    }
    return rg_jtext_add_part(w, t, s, from, s->len);
}

enum rg_code rg_jtext_add_markup(struct rg_jwork *w, const struct rg_jstr *a,
                                 const struct rg_jstr *b, struct rg_jvalue *out)
{
    struct rg_jtext *t = rg_jtext_new(w, a->len + b->len);

    if (!t)
        return rg_jshort(w);
    RG_TRY(add_escaped(w, t, a));
    RG_TRY(add_escaped(w, t, b));
    RG_TRY(rg_jtext_value(w, t, out));
    return rg_jstr_markup(w, out->as.string, out);
}

/* ---- formatting ----------------------------------------------------------------------------- */

const char *rg_jtext_unknown_format(const struct rg_jstr *format, bool percent)
{
    const char *p = rg_jstr_data(format);
    const char *const end = p + format->len;

    for (; end - p > 1; p++) {
        const char *stop;

        if (*p != (percent ? '%' : '{'))
            continue;
        if (p[1] == *p || (percent && strchr("srdi", p[1]) && p[1])) {
            p++;
            continue;
        }
        stop = percent ? NULL : memchr(p, '}', (size_t)(end - p));
        if (percent || (stop && memchr(p, ':', (size_t)(stop - p))) ||
            (stop && memchr(p, '!', (size_t)(stop - p))))
            return p;
    }
    return NULL;
}

/* The next value of a tuple, or the one value. */
static enum rg_code next_value(struct rg_jwork *w, struct rg_jvalue values, uint32_t *i,
                               struct rg_jvalue *out)
{
    const uint32_t n = values.type == RG_J_TUPLE ? values.as.list->n : 1;

    if (*i >= n)
        return rg_jfail(w, RG_E_BAD_DATA, "not enough values for a format");
    *out = values.type == RG_J_TUPLE ? values.as.list->items[*i] : values;
    (*i)++;
    return RG_OK;
}

static enum rg_code percent_one(struct rg_jwork *w, struct rg_jtext *t, char kind,
                                struct rg_jvalue v)
{
    switch (kind) {
    case 's':
        return rg_jv_print(w, t, v);
    case 'r':
        return rg_jv_repr(w, t, v);
    case 'd':
    case 'i':
        if (v.type == RG_J_FLOAT && v.as.number > -9e18 && v.as.number < 9e18)
            v = rg_jv_int((int64_t)v.as.number);
        if (v.type == RG_J_BOOL)
            v = rg_jv_int(v.as.boolean);
        if (v.type != RG_J_INT && v.type != RG_J_BIGINT)
            return rg_jfail(w, RG_E_BAD_DATA, "%%d of %s", rg_jv_type_name(v));
        return rg_jv_print(w, t, v);
    default:
        return rg_jfail(w, RG_E_UNSUPPORTED, "format '%%%c': only %%s, %%r, %%d and %%%%", kind);
    }
}

enum rg_code rg_jtext_percent(struct rg_jwork *w, const struct rg_jstr *format,
                              struct rg_jvalue values, struct rg_jvalue *out)
{
    const char *p = rg_jstr_data(format);
    struct rg_jtext *t = rg_jtext_new(w, format->len);
    uint32_t used = 0;

    if (!t)
        return rg_jshort(w);
    for (size_t at = 0; at < format->len;) {
        const char *percent = memchr(p + at, '%', format->len - at);
        const size_t stop = percent ? (size_t)(percent - p) : format->len;

        RG_TRY(rg_jtext_add_part(w, t, format, at, stop));
        if (!percent)
            break;
        if (stop + 1 == format->len)
            return rg_jfail(w, RG_E_BAD_DATA, "format ends in %%");
        at = stop + 2;
        if (p[stop + 1] == '%') {
            RG_TRY(rg_jtext_add_part(w, t, format, stop, stop + 1));
            continue;
        }

        struct rg_jvalue v;

        RG_TRY(next_value(w, values, &used, &v));
        RG_TRY(percent_one(w, t, p[stop + 1], v));
    }
    if (values.type == RG_J_TUPLE ? used < values.as.list->n
                                  : used == 0 && values.type != RG_J_DICT)
        return rg_jfail(w, RG_E_BAD_DATA, "more values than a format takes");
    return rg_jtext_value(w, t, out);
}
