/* jinja_print.c - str() and repr() as Python writes them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/jinja_unicode.h"
#include "text/jinja_value.h"

/* The fewest digits that read back as v, in "d.ddde+XX" form. */
static void shortest(char out[RG_JFLOAT_BYTES], double v)
{
    for (int digits = 0; digits <= 16; digits++) {
        (void)snprintf(out, RG_JFLOAT_BYTES, "%.*e", digits, v);

        const double back = strtod(out, NULL);

        if (memcmp(&back, &v, sizeof v) == 0)
            return;
    }
}

size_t rg_jfloat_repr(char out[RG_JFLOAT_BYTES], double v)
{
    char digits[RG_JFLOAT_BYTES];
    char plain[RG_JFLOAT_BYTES];
    int n = 0;

    if (!isfinite(v))
        return (size_t)snprintf(out, RG_JFLOAT_BYTES, "%s", v > 0 ? "inf" : v < 0 ? "-inf" : "nan");
    shortest(digits, v);

    const char *p = digits;
    const bool minus = *p == '-';

    p += minus;
    for (; *p != 'e'; p++)
        if (*p != '.')
            plain[n++] = *p;

    const int exponent = (int)strtol(p + 1, NULL, 10);
    const char *sign = minus ? "-" : "";

    if (exponent >= 16 || exponent < -4)
        return (size_t)snprintf(out, RG_JFLOAT_BYTES, "%s%c%s%.*se%c%02d", sign, plain[0],
                                n > 1 ? "." : "", n - 1, plain + 1, exponent < 0 ? '-' : '+',
                                exponent < 0 ? -exponent : exponent);
    if (exponent < 0)
        return (size_t)snprintf(out, RG_JFLOAT_BYTES, "%s0.%.*s%.*s", sign, -exponent - 1, "0000",
                                n, plain);
    while (n < exponent + 2)
        plain[n++] = '0';
    return (size_t)snprintf(out, RG_JFLOAT_BYTES, "%s%.*s.%.*s", sign, exponent + 1, plain,
                            n - exponent - 1, plain + exponent + 1);
}

static enum rg_code add(struct rg_jwork *w, struct rg_jtext *t, const char *s)
{
    return rg_jtext_add(w, t, s, strlen(s), false);
}

/* One code point of a string inside repr(). */
static enum rg_code repr_char(struct rg_jwork *w, struct rg_jtext *t, const char *p, size_t n,
                              uint32_t cp, char quote)
{
    char escape[16];

    switch (cp) {
    case '\n':
        return add(w, t, "\\n");
    case '\r':
        return add(w, t, "\\r");
    case '\t':
        return add(w, t, "\\t");
    case '\\':
        return add(w, t, "\\\\");
    default:
        break;
    }
    if (cp == (uint32_t)quote) {
        (void)snprintf(escape, sizeof escape, "\\%c", quote);
        return add(w, t, escape);
    }
    if (rg_junicode_printable(cp))
        return rg_jtext_add(w, t, p, n, false);
    (void)snprintf(escape, sizeof escape,
                   cp < 0x100     ? "\\x%02x"
                   : cp < 0x10000 ? "\\u%04x"
                                  : "\\U%08x",
                   cp);
    return add(w, t, escape);
}

static enum rg_code repr_string(struct rg_jwork *w, struct rg_jtext *t, const struct rg_jstr *s)
{
    const char *p = rg_jstr_data(s);
    const bool twice = memchr(p, '\'', s->len) && !memchr(p, '"', s->len);
    const char quote = twice ? '"' : '\'';
    const char quotes[2] = {quote, '\0'};

    RG_TRY(add(w, t, quotes));
    for (size_t at = 0; at < s->len;) {
        uint32_t cp;
        const size_t n = rg_utf8_next(p + at, s->len - at, &cp);

        RG_TRY(repr_char(w, t, p + at, n, cp, quote));
        at += n;
    }
    return add(w, t, quotes);
}

static enum rg_code repr_list(struct rg_jwork *w, struct rg_jtext *t, const struct rg_jlist *l,
                              const char *open, const char *close)
{
    RG_TRY(add(w, t, open));
    for (uint32_t i = 0; i < l->n; i++) {
        if (i)
            RG_TRY(add(w, t, ", "));
        RG_TRY(rg_jv_repr(w, t, l->items[i]));
    }
    return add(w, t, close);
}

static enum rg_code repr_view(struct rg_jwork *w, struct rg_jtext *t, const struct rg_jlist *l)
{
    RG_TRY(add(w, t, l->shown));
    return strchr(l->shown, '(') ? RG_OK : repr_list(w, t, l, "([", "])");
}

static enum rg_code repr_dict(struct rg_jwork *w, struct rg_jtext *t, const struct rg_jdict *d)
{
    RG_TRY(add(w, t, "{"));
    for (uint32_t i = 0; i < d->n; i++) {
        if (i)
            RG_TRY(add(w, t, ", "));
        RG_TRY(rg_jv_repr(w, t, d->pairs[i].key));
        RG_TRY(add(w, t, ": "));
        RG_TRY(rg_jv_repr(w, t, d->pairs[i].value));
    }
    return add(w, t, "}");
}

static enum rg_code print_scalar(struct rg_jwork *w, struct rg_jtext *t, struct rg_jvalue v)
{
    char number[RG_JFLOAT_BYTES];

    switch (v.type) {
    case RG_J_NONE:
        return add(w, t, "None");
    case RG_J_BOOL:
        return add(w, t, v.as.boolean ? "True" : "False");
    case RG_J_INT:
        (void)snprintf(number, sizeof number, "%lld", (long long)v.as.integer);
        return add(w, t, number);
    case RG_J_FLOAT:
        (void)rg_jfloat_repr(number, v.as.number);
        return add(w, t, number);
    case RG_J_BIGINT:
        return rg_jtext_add_str(w, t, v.as.string);
    default: /* Python would show an address here */
        RG_TRY(add(w, t, "<"));
        RG_TRY(add(w, t, rg_jv_type_name(v)));
        return add(w, t, ">");
    }
}

static enum rg_code repr(struct rg_jwork *w, struct rg_jtext *t, struct rg_jvalue v)
{
    switch (v.type) {
    case RG_J_UNDEFINED:
        return add(w, t, "Undefined");
    case RG_J_STRING:
        return repr_string(w, t, v.as.string);
    case RG_J_LIST:
        return repr_list(w, t, v.as.list, "[", "]");
    case RG_J_TUPLE:
        return repr_list(w, t, v.as.list, "(", v.as.list->n == 1 ? ",)" : ")");
    case RG_J_VIEW:
        return repr_view(w, t, v.as.list);
    case RG_J_DICT:
        return repr_dict(w, t, v.as.dict);
    default:
        return print_scalar(w, t, v);
    }
}

enum rg_code rg_jv_repr(struct rg_jwork *w, struct rg_jtext *t, struct rg_jvalue v)
{
    if (++w->depth > RG_JDEPTH_MAX)
        return rg_jfail(w, RG_E_LIMIT, "values nested too deeply");

    const enum rg_code code = repr(w, t, v);

    w->depth--;
    return code;
}

enum rg_code rg_jv_print(struct rg_jwork *w, struct rg_jtext *t, struct rg_jvalue v)
{
    if (v.type == RG_J_UNDEFINED)
        return RG_OK;
    if (v.type == RG_J_STRING)
        return rg_jtext_add_str(w, t, v.as.string);
    return rg_jv_repr(w, t, v);
}

enum rg_code rg_jv_string(struct rg_jwork *w, struct rg_jvalue v, struct rg_jvalue *out)
{
    struct rg_jtext *t;

    if (v.type == RG_J_STRING) {
        *out = v;
        return RG_OK;
    }
    t = rg_jtext_new(w, 0);
    if (!t)
        return rg_jshort(w);
    RG_TRY(rg_jv_print(w, t, v));
    return rg_jtext_value(w, t, out);
}
