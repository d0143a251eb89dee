/* jinja_json.c - json.dumps() as Python has it, and JSON trees to template values. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"
#include "text/jinja_value.h"

enum { DEPTH_MAX = 128 }; /* a body has 64 levels, a template adds some */

/* What is made from a value is content, quotes and braces included. */
static enum rg_code add(struct rg_jwork *w, struct rg_jtext *t, const char *s)
{
    return rg_jtext_add(w, t, s, strlen(s), false);
}

static enum rg_code escape_ascii(struct rg_jwork *w, struct rg_jtext *t, uint32_t cp)
{
    char out[16];

    if (cp < 0x10000)
        (void)snprintf(out, sizeof out, "\\u%04x", cp);
    else
        (void)snprintf(out, sizeof out, "\\u%04x\\u%04x", 0xD800 + ((cp - 0x10000) >> 10),
                       0xDC00 + ((cp - 0x10000) & 0x3FF));
    return add(w, t, out);
}

/* Bytes of p that need no escape. */
static size_t plain_run(const char *p, size_t n, bool ascii)
{
    size_t i = 0;

    while (i < n) {
        const unsigned char c = (unsigned char)p[i];

        if (c < 0x20 || c == '"' || c == '\\' || (ascii && c >= 0x7F))
            break;
        i++;
    }
    return i;
}

static enum rg_code json_string(struct rg_jwork *w, struct rg_jtext *t, const struct rg_jstr *s,
                                bool ascii)
{
    static const char *const short_escapes[0x60] = {
        ['\b'] = "\\b", ['\t'] = "\\t", ['\n'] = "\\n",  ['\f'] = "\\f",
        ['\r'] = "\\r", ['"'] = "\\\"", ['\\'] = "\\\\",
    };
    const char *p = rg_jstr_data(s);

    RG_TRY(add(w, t, "\""));
    for (size_t at = 0; at < s->len;) {
        const size_t n = plain_run(p + at, s->len - at, ascii);
        uint32_t cp;

        RG_TRY(rg_jtext_add(w, t, p + at, n, false));
        at += n;
        if (at == s->len)
            break;
        at += rg_utf8_next(p + at, s->len - at, &cp);
        if (cp < 0x60 && short_escapes[cp])
            RG_TRY(add(w, t, short_escapes[cp]));
        else
            RG_TRY(escape_ascii(w, t, cp));
    }
    return add(w, t, "\"");
}

static enum rg_code json_float(struct rg_jwork *w, struct rg_jtext *t, double v)
{
    char number[RG_JFLOAT_BYTES];

    if (!isfinite(v))
        return add(w, t, v > 0 ? "Infinity" : v < 0 ? "-Infinity" : "NaN");
    (void)rg_jfloat_repr(number, v);
    return add(w, t, number);
}

static enum rg_code json_scalar(struct rg_jwork *w, struct rg_jtext *t, struct rg_jvalue v)
{
    switch (v.type) {
    case RG_J_NONE:
        return add(w, t, "null");
    case RG_J_BOOL:
        return add(w, t, v.as.boolean ? "true" : "false");
    case RG_J_FLOAT:
        return json_float(w, t, v.as.number);
    case RG_J_INT:
    case RG_J_BIGINT:
        return rg_jv_print(w, t, v);
    default:
        return rg_jfail(w, RG_E_BAD_DATA, "%s cannot be written as JSON", rg_jv_type_name(v));
    }
}

static enum rg_code new_line(struct rg_jwork *w, struct rg_jtext *t,
                             const struct rg_jjson_style *style, uint32_t level)
{
    if (!style->indent)
        return RG_OK;
    RG_TRY(add(w, t, "\n"));
    for (uint32_t i = 0; i < level; i++)
        RG_TRY(rg_jtext_add_str(w, t, style->indent));
    return RG_OK;
}

static enum rg_code json_value(struct rg_jwork *w, struct rg_jtext *t, struct rg_jvalue v,
                               const struct rg_jjson_style *style, uint32_t level);

static enum rg_code json_list(struct rg_jwork *w, struct rg_jtext *t, const struct rg_jlist *l,
                              const struct rg_jjson_style *style, uint32_t level)
{
    if (l->n == 0)
        return add(w, t, "[]");
    RG_TRY(add(w, t, "["));
    for (uint32_t i = 0; i < l->n; i++) {
        if (i)
            RG_TRY(rg_jtext_add_str(w, t, style->item_separator));
        RG_TRY(new_line(w, t, style, level + 1));
        RG_TRY(json_value(w, t, l->items[i], style, level + 1));
    }
    RG_TRY(new_line(w, t, style, level));
    return add(w, t, "]");
}

static enum rg_code json_key(struct rg_jwork *w, struct rg_jtext *t, struct rg_jvalue key,
                             const struct rg_jjson_style *style)
{
    if (key.type == RG_J_STRING)
        return json_string(w, t, key.as.string, style->ascii);
    if (key.type == RG_J_TUPLE || key.type == RG_J_UNDEFINED)
        return rg_jfail(w, RG_E_BAD_DATA, "%s cannot be a key in JSON", rg_jv_type_name(key));
    RG_TRY(add(w, t, "\""));
    RG_TRY(json_scalar(w, t, key));
    return add(w, t, "\"");
}

static int by_key(const void *a, const void *b)
{
    const struct rg_jpair *x = a, *y = b;

    return rg_jstr_compare(x->key.as.string, y->key.as.string);
}

static enum rg_code sorted_pairs(struct rg_jwork *w, const struct rg_jdict *d,
                                 struct rg_jpair **out)
{
    struct rg_jpair *pairs = rg_jalloc(w, d->n * sizeof *pairs);

    if (!pairs)
        return rg_jshort(w);
    memcpy(pairs, d->pairs, d->n * sizeof *pairs);
    for (uint32_t i = 0; i < d->n; i++)
        if (pairs[i].key.type != RG_J_STRING)
            return rg_jfail(w, RG_E_UNSUPPORTED, "sort_keys with keys that are not strings");
    qsort(pairs, d->n, sizeof *pairs, by_key);
    *out = pairs;
    return RG_OK;
}

static enum rg_code json_dict(struct rg_jwork *w, struct rg_jtext *t, const struct rg_jdict *d,
                              const struct rg_jjson_style *style, uint32_t level)
{
    struct rg_jpair *pairs = d->pairs;

    if (d->n == 0)
        return add(w, t, "{}");
    if (style->sort_keys)
        RG_TRY(sorted_pairs(w, d, &pairs));
    RG_TRY(add(w, t, "{"));
    for (uint32_t i = 0; i < d->n; i++) {
        if (i)
            RG_TRY(rg_jtext_add_str(w, t, style->item_separator));
        RG_TRY(new_line(w, t, style, level + 1));
        RG_TRY(json_key(w, t, pairs[i].key, style));
        RG_TRY(rg_jtext_add_str(w, t, style->key_separator));
        RG_TRY(json_value(w, t, pairs[i].value, style, level + 1));
    }
    RG_TRY(new_line(w, t, style, level));
    return add(w, t, "}");
}

static enum rg_code json_value(struct rg_jwork *w, struct rg_jtext *t, struct rg_jvalue v,
                               const struct rg_jjson_style *style, uint32_t level)
{
    if (level > DEPTH_MAX)
        return rg_jfail(w, RG_E_LIMIT, "values nested too deeply");
    switch (v.type) {
    case RG_J_STRING:
        return json_string(w, t, v.as.string, style->ascii);
    case RG_J_LIST:
    case RG_J_TUPLE:
        return json_list(w, t, v.as.list, style, level);
    case RG_J_DICT:
        return json_dict(w, t, v.as.dict, style, level);
    default:
        return json_scalar(w, t, v);
    }
}

enum rg_code rg_jv_json(struct rg_jwork *w, struct rg_jtext *t, struct rg_jvalue v,
                        const struct rg_jjson_style *style)
{
    return json_value(w, t, v, style, 0);
}

/* ---- from JSON ------------------------------------------------------------------------------ */

/* A number with a fraction or an exponent is a float; others are integers of any size. */
static enum rg_code from_number(struct rg_jwork *w, const char *text, struct rg_jvalue *out)
{
    const size_t n = strlen(text);

    if (strpbrk(text, ".eE")) {
        *out = rg_jv_float(strtod(text, NULL));
        return RG_OK;
    }
    errno = 0;

    const long long whole = strtoll(text, NULL, 10);

    if (errno == 0) {
        *out = rg_jv_int(whole);
        return RG_OK;
    }

    const struct rg_jstr *digits = rg_jstr_copy(w, text, n, false);

    if (!digits)
        return rg_jshort(w);
    *out = (struct rg_jvalue){.type = RG_J_BIGINT, .as.string = digits};
    return RG_OK;
}

static enum rg_code from_string(struct rg_jwork *w, const char *s, struct rg_jvalue *out)
{
    const struct rg_jstr *string = rg_jstr_borrow(w, s, strlen(s), false);

    if (!string)
        return rg_jshort(w);
    *out = rg_jv_str(string);
    return RG_OK;
}

static enum rg_code from_container(struct rg_jwork *w, const struct rg_json *j, bool object,
                                   struct rg_jvalue *out)
{
    struct rg_jlist *list = NULL;
    struct rg_jdict *dict = NULL;

    if (object)
        dict = rg_jdict_new(w);
    else
        list = rg_jlist_new(w, 0);
    if (!dict && !list)
        return rg_jshort(w);
    for (const struct rg_json *child = rg_json_first(j); child; child = rg_json_next(child)) {
        struct rg_jvalue value, key;

        RG_TRY(rg_jv_from_json(w, child, &value));
        if (object) {
            RG_TRY(from_string(w, rg_json_key(child), &key));
            RG_TRY(rg_jdict_set(w, dict, key, value));
        } else {
            RG_TRY(rg_jlist_push(w, list, value));
        }
    }
    *out = object ? rg_jv_dict(dict) : rg_jv_list(RG_J_LIST, list);
    return RG_OK;
}

/* Recursion is bounded by the depth that rg_json_parse() allowed. */
enum rg_code rg_jv_from_json(struct rg_jwork *w, const struct rg_json *j, struct rg_jvalue *out)
{
    switch (rg_json_type(j)) {
    case RG_JSON_NULL:
        *out = rg_jv_none();
        return RG_OK;
    case RG_JSON_BOOL:
        *out = rg_jv_bool(rg_json_bool(j));
        return RG_OK;
    case RG_JSON_NUMBER:
        return from_number(w, rg_json_number_text(j), out);
    case RG_JSON_STRING:
        return from_string(w, rg_json_string(j), out);
    case RG_JSON_ARRAY:
        return from_container(w, j, false, out);
    case RG_JSON_OBJECT:
    default:
        return from_container(w, j, true, out);
    }
}
