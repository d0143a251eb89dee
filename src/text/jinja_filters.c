/* jinja_filters.c - filters that look at one value, and the table of all filters. */
#include "text/jinja_filters.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "text/jinja_unicode.h"

/* ---- text ----------------------------------------------------------------------------------- */

static enum rg_code cased(struct rg_jrun *r, struct rg_jvalue in, enum rg_jtext_casing to,
                          struct rg_jvalue *out)
{
    RG_TRY(rg_jv_string(&r->w, in, &in));
    return rg_jtext_case(&r->w, in.as.string, to, out);
}

RG_JFILTER(upper)
{
    (void)args;
    return cased(r, in, RG_JTEXT_UPPER, out);
}

RG_JFILTER(lower)
{
    (void)args;
    return cased(r, in, RG_JTEXT_LOWER, out);
}

RG_JFILTER(capitalize)
{
    (void)args;
    return cased(r, in, RG_JTEXT_CAPITALIZE, out);
}

RG_JFILTER(title)
{
    (void)args;
    return cased(r, in, RG_JTEXT_TITLE_FILTER, out);
}

RG_JFILTER(string)
{
    (void)args;
    return rg_jv_string(&r->w, in, out);
}

/* Output is never escaped, but Python's Markup escapes what is added to it. */
RG_JFILTER(safe)
{
    (void)args;
    RG_TRY(rg_jv_string(&r->w, in, &in));
    return rg_jstr_markup(&r->w, in.as.string, out);
}

RG_JFILTER(trim)
{
    const struct rg_jstr *chars = NULL;

    RG_TRY(rg_jarg_string(r, args, 0, &chars));
    RG_TRY(rg_jv_string(&r->w, in, &in));
    return rg_jtext_strip(&r->w, in.as.string, chars, true, true, out);
}

RG_JFILTER(replace)
{
    struct rg_jvalue from, to;
    int64_t count = -1;

    RG_TRY(rg_jv_string(&r->w, in, &in));
    RG_TRY(rg_jv_string(&r->w, args->slots[0], &from));
    RG_TRY(rg_jv_string(&r->w, args->slots[1], &to));
    RG_TRY(rg_jarg_int(r, args, 2, &count));
    return rg_jtext_replace(&r->w, in.as.string, from.as.string, to.as.string, count, out);
}

RG_JFILTER(format)
{
    struct rg_jlist *l = rg_jlist_new(&r->w, args->n);

    if (!l)
        return rg_jshort(&r->w);
    if (args->n_keywords)
        return rg_jfail(&r->w, RG_E_UNSUPPORTED, "format with named values");
    for (uint32_t i = 0; i < args->n; i++)
        RG_TRY(rg_jlist_push(&r->w, l, args->items[i]));
    RG_TRY(rg_jv_string(&r->w, in, &in));
    return rg_jtext_percent(&r->w, in.as.string, rg_jv_list(RG_J_TUPLE, l), out);
}

/* The text that indents a line: a number of blanks or a string. */
static enum rg_code indentation(struct rg_jrun *r, struct rg_jvalue width,
                                const struct rg_jstr **out)
{
    char blanks[256];

    if (width.type == RG_J_STRING) {
        *out = width.as.string;
        return RG_OK;
    }
    if (width.type == RG_J_ABSENT)
        width = rg_jv_int(4);
    if (width.type != RG_J_INT || width.as.integer > (int64_t)sizeof blanks)
        return rg_jfail(&r->w, RG_E_BAD_DATA, "indent by %s", rg_jv_type_name(width));

    const size_t n = width.as.integer < 0 ? 0 : (size_t)width.as.integer;

    memset(blanks, ' ', sizeof blanks);
    *out = rg_jstr_copy(&r->w, blanks, n, true);
    return *out ? RG_OK : rg_jshort(&r->w);
}

RG_JFILTER(indent)
{
    const bool first = rg_jarg_truth(args, 1, false);
    const bool blank = rg_jarg_truth(args, 2, false);
    struct rg_jtext *t = rg_jtext_new(&r->w, 0);
    const struct rg_jstr *by;
    struct rg_jargs none = {0};
    struct rg_jvalue lines;

    if (!t)
        return rg_jshort(&r->w);
    if (in.type == RG_J_UNDEFINED)
        return rg_jundefined(r, in);
    if (in.type != RG_J_STRING)
        return rg_jfail(&r->w, RG_E_BAD_DATA, "indent of %s", rg_jv_type_name(in));
    RG_TRY(indentation(r, args->slots[0], &by));

    /* As jinja2 does it: a newline is added, then the lines are split at every kind of line end. */
    const struct rg_jstr *newline = rg_jstr_copy(&r->w, "\n", 1, true);

    if (!newline)
        return rg_jshort(&r->w);
    RG_TRY(rg_jstr_concat(&r->w, in.as.string, newline, &in));
    RG_TRY(rg_jmethod_find("splitlines")->fn(r, in, &none, &lines));
    for (uint32_t i = 0; i < lines.as.list->n; i++) {
        const struct rg_jstr *line = lines.as.list->items[i].as.string;

        if (i)
            RG_TRY(rg_jtext_add_str(&r->w, t, newline));
        if (i == 0 ? first : blank || line->len > 0)
            RG_TRY(rg_jtext_add_str(&r->w, t, by));
        RG_TRY(rg_jtext_add_str(&r->w, t, line));
    }
    return rg_jtext_value(&r->w, t, out);
}

/* ---- JSON ----------------------------------------------------------------------------------- */

static enum rg_code separators(struct rg_jrun *r, struct rg_jvalue v, struct rg_jjson_style *style)
{
    struct rg_jlist *l;

    if (v.type == RG_J_ABSENT || v.type == RG_J_NONE) {
        style->item_separator =
            rg_jstr_copy(&r->w, style->indent ? "," : ", ", style->indent ? 1 : 2, false);
        style->key_separator = rg_jstr_copy(&r->w, ": ", 2, false);
        return style->item_separator && style->key_separator ? RG_OK : rg_jshort(&r->w);
    }
    RG_TRY(rg_jv_items(&r->w, v, &l));
    if (l->n != 2 || l->items[0].type != RG_J_STRING || l->items[1].type != RG_J_STRING)
        return rg_jfail(&r->w, RG_E_BAD_DATA, "tojson needs two strings as separators");
    style->item_separator = l->items[0].as.string;
    style->key_separator = l->items[1].as.string;
    return RG_OK;
}

RG_JFILTER(tojson)
{
    struct rg_jjson_style style = {.ascii = rg_jarg_truth(args, 0, false),
                                   .sort_keys = rg_jarg_truth(args, 3, false)};
    struct rg_jtext *t = rg_jtext_new(&r->w, 0);

    if (!t)
        return rg_jshort(&r->w);
    if (in.type == RG_J_UNDEFINED)
        return rg_jundefined(r, in);
    if (args->slots[1].type != RG_J_ABSENT && args->slots[1].type != RG_J_NONE)
        RG_TRY(indentation(r, args->slots[1], &style.indent));
    RG_TRY(separators(r, args->slots[2], &style));
    RG_TRY(rg_jv_json(&r->w, t, in, &style));
    return rg_jtext_value(&r->w, t, out);
}

RG_JFILTER(from_json)
{
    bool ok;

    (void)args;
    if (in.type != RG_J_STRING)
        return rg_jfail(&r->w, RG_E_BAD_DATA, "from_json of %s", rg_jv_type_name(in));
    RG_TRY(rg_jrun_parse_json(r, rg_jstr_data(in.as.string), in.as.string->len, out, &ok));
    return ok ? RG_OK : rg_jfail(&r->w, RG_E_BAD_DATA, "from_json of text that is not JSON");
}

/* ---- numbers -------------------------------------------------------------------------------- */

/* A copy with a NUL of a string that int() or float() could read, without underscores. */
static bool number_text(const struct rg_jstr *s, char *out, size_t size)
{
    size_t n = 0;

    for (size_t i = 0; i < s->len; i++) {
        const char c = rg_jstr_data(s)[i];

        if (n + 1 == size || !strchr("0123456789+-.eE_ \t\n\r", c) || c == '\0')
            return false;
        if (c != '_')
            out[n++] = c;
    }
    while (n && strchr(" \t\n\r", out[n - 1]))
        n--;
    out[n] = '\0';
    return n > 0;
}

static bool to_float(struct rg_jvalue v, double *out)
{
    char text[128];
    char *end;

    if (v.type == RG_J_FLOAT)
        *out = v.as.number;
    else if (v.type == RG_J_INT)
        *out = (double)v.as.integer;
    else if (v.type == RG_J_BOOL)
        *out = v.as.boolean;
    else if (v.type == RG_J_BIGINT || v.type == RG_J_STRING) {
        if (!number_text(v.as.string, text, sizeof text))
            return false;
        *out = strtod(text, &end);
        return *end == '\0';
    } else {
        return false;
    }
    return true;
}

RG_JFILTER(to_int)
{
    char text[128];
    char *end;
    double d;

    if (in.type == RG_J_UNDEFINED)
        return rg_jundefined(r, in);
    *out = in;
    if (in.type == RG_J_INT || in.type == RG_J_BIGINT)
        return RG_OK;
    if (in.type == RG_J_STRING && number_text(in.as.string, text, sizeof text)) {
        errno = 0;

        const long long whole = strtoll(text, &end, 10);

        if (*end == '\0' && errno == 0) {
            *out = rg_jv_int(whole);
            return RG_OK;
        }
    }
    *out = args->slots[0].type == RG_J_ABSENT ? rg_jv_int(0) : args->slots[0];
    if (to_float(in, &d) && d > -9.2e18 && d < 9.2e18)
        *out = rg_jv_int((int64_t)d);
    return RG_OK;
}

RG_JFILTER(to_float_filter)
{
    double d;

    if (in.type == RG_J_UNDEFINED)
        return rg_jundefined(r, in);
    *out = args->slots[0].type == RG_J_ABSENT ? rg_jv_float(0) : args->slots[0];
    if (to_float(in, &d))
        *out = rg_jv_float(d);
    return RG_OK;
}

RG_JFILTER(absolute)
{
    bool minus = false;

    (void)args;
    RG_TRY(rg_jop_compare(r, RG_JOP_LT, in, rg_jv_int(0), &minus));
    *out = in;
    return minus ? rg_jop_negate(r, in, true, out) : RG_OK;
}

RG_JFILTER(round_filter)
{
    const struct rg_jstr *method = NULL;
    int64_t digits = 0;
    double d, scale = 1;
    char text[400];

    RG_TRY(rg_jarg_int(r, args, 0, &digits));
    RG_TRY(rg_jarg_string(r, args, 1, &method));
    if (!to_float(in, &d) || in.type == RG_J_STRING || digits < 0 || digits > 15)
        return rg_jfail(&r->w, RG_E_BAD_DATA, "round of %s to %lld digits", rg_jv_type_name(in),
                        (long long)digits);
    for (int64_t i = 0; i < digits; i++)
        scale *= 10;
    if ((!method || rg_jstr_is(method, "common")) && in.type == RG_J_INT) {
        *out = in;
    } else if (!method || rg_jstr_is(method, "common")) {
        /* The decimal text is rounded from the exact value, halves to even, like Python's round().
         */
        (void)snprintf(text, sizeof text, "%.*f", (int)digits, d);
        *out = rg_jv_float(strtod(text, NULL));
    } else if (rg_jstr_is(method, "ceil")) {
        *out = rg_jv_float(ceil(d * scale) / scale);
    } else if (rg_jstr_is(method, "floor")) {
        *out = rg_jv_float(floor(d * scale) / scale);
    } else {
        return rg_jfail(&r->w, RG_E_BAD_DATA, "round by an unknown method");
    }
    return RG_OK;
}

/* ---- values --------------------------------------------------------------------------------- */

RG_JFILTER(default_filter)
{
    const bool missing =
        in.type == RG_J_UNDEFINED || (rg_jarg_truth(args, 1, false) && !rg_jv_truth(in));

    *out = in;
    if (!missing)
        return RG_OK;
    if (args->slots[0].type != RG_J_ABSENT) {
        *out = args->slots[0];
        return RG_OK;
    }

    const struct rg_jstr *empty = rg_jstr_copy(&r->w, "", 0, true);

    if (!empty)
        return rg_jshort(&r->w);
    *out = rg_jv_str(empty);
    return RG_OK;
}

RG_JFILTER(length)
{
    int64_t n = 0;

    (void)args;
    RG_TRY(rg_jv_length(&r->w, in, &n));
    *out = rg_jv_int(n);
    return RG_OK;
}

RG_JFILTER(attr)
{
    (void)args;
    RG_TRY(rg_jv_string(&r->w, args->slots[0], out));
    if (in.type == RG_J_DICT) { /* its keys are no attributes */
        *out = rg_jv_undefined();
        return RG_OK;
    }
    return rg_jget_attr(r, in, out->as.string, NULL, out);
}

/* ---- the table ------------------------------------------------------------------------------ */

static const struct rg_jfilter filters[] = {
    {"abs", absolute, "", 0},
    {"attr", attr, "name", 1},
    {"batch", rg_jfilter_batch, "linecount fill_with", 1},
    {"capitalize", capitalize, "", 0},
    {"count", length, "", 0},
    {"d", default_filter, "default_value boolean", 0},
    {"default", default_filter, "default_value boolean", 0},
    {"dictsort", rg_jfilter_dictsort, "case_sensitive by reverse", 0},
    {"first", rg_jfilter_first, "", 0},
    {"float", to_float_filter, "default", 0},
    {"format", format, "*", 0},
    {"from_json", from_json, "", 0},
    {"indent", indent, "width first blank", 0},
    {"int", to_int, "default", 0},
    {"items", rg_jfilter_items, "", 0},
    {"join", rg_jfilter_join, "d attribute", 0},
    {"last", rg_jfilter_last, "", 0},
    {"length", length, "", 0},
    {"list", rg_jfilter_list, "", 0},
    {"lower", lower, "", 0},
    {"map", rg_jfilter_map, "*", 0},
    {"max", rg_jfilter_max, "case_sensitive attribute", 0},
    {"min", rg_jfilter_min, "case_sensitive attribute", 0},
    {"reject", rg_jfilter_reject, "*", 0},
    {"rejectattr", rg_jfilter_rejectattr, "*", 0},
    {"replace", replace, "old new count", 2},
    {"reverse", rg_jfilter_reverse, "", 0},
    {"round", round_filter, "precision method", 0},
    {"safe", safe, "", 0},
    {"select", rg_jfilter_select, "*", 0},
    {"selectattr", rg_jfilter_selectattr, "*", 0},
    {"sort", rg_jfilter_sort, "reverse case_sensitive attribute", 0},
    {"string", string, "", 0},
    {"sum", rg_jfilter_sum, "attribute start", 0},
    {"title", title, "", 0},
    {"tojson", tojson, "ensure_ascii indent separators sort_keys", 0},
    {"trim", trim, "chars", 0},
    {"unique", rg_jfilter_unique, "case_sensitive attribute", 0},
    {"upper", upper, "", 0},
};

const struct rg_jfilter *rg_jfilter_find(const char *name)
{
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++)
        if (strcmp(filters[i].name, name) == 0)
            return &filters[i];
    return NULL;
}

enum rg_code rg_jfilter_call(struct rg_jrun *r, const struct rg_jfilter *f, struct rg_jvalue in,
                             struct rg_jargs *args, struct rg_jvalue *out)
{
    RG_TRY(rg_jargs_bind(r, f->name, f->params, f->n_required, args));
    return f->fn(r, in, args, out);
}
