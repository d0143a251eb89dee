/* jinja_methods.c - methods of strings. */
#include <string.h>

#include "base/utf8.h"
#include "text/jinja_builtin.h"
#include "text/jinja_unicode.h"

#define METHOD(name_)                                                                              \
    static enum rg_code name_(struct rg_jrun *r, struct rg_jvalue in, struct rg_jargs *args,       \
                              struct rg_jvalue *out)

/* ---- split ---------------------------------------------------------------------------------- */

/* Splits at whitespace, dropping empty pieces. */
static enum rg_code split_space(struct rg_jrun *r, const struct rg_jstr *s, int64_t most,
                                struct rg_jlist *l)
{
    struct rg_jvalue piece;
    size_t at = 0;
    uint32_t cp;

    for (;;) {
        size_t n, begin;

        while (at < s->len && (n = rg_utf8_next(rg_jstr_data(s) + at, s->len - at, &cp)) > 0 &&
               rg_junicode_space(cp))
            at += n;
        if (at >= s->len)
            return RG_OK;
        begin = at;
        if (most == 0) {
            RG_TRY(rg_jstr_cut(&r->w, s, begin, s->len, &piece));
            return rg_jlist_push(&r->w, l, piece);
        }
        while (at < s->len && (n = rg_utf8_next(rg_jstr_data(s) + at, s->len - at, &cp)) > 0 &&
               !rg_junicode_space(cp))
            at += n;
        RG_TRY(rg_jstr_cut(&r->w, s, begin, at, &piece));
        RG_TRY(rg_jlist_push(&r->w, l, piece));
        most -= most > 0;
    }
}

static enum rg_code split_at(struct rg_jrun *r, const struct rg_jstr *s, const struct rg_jstr *sep,
                             int64_t most, struct rg_jlist *l)
{
    struct rg_jvalue piece;
    size_t at = 0;

    if (sep->len == 0)
        return rg_jfail(&r->w, RG_E_BAD_DATA, "split() with an empty separator");
    RG_TRY(rg_jwork_spend(&r->w, s->len));
    for (; most != 0; most -= most > 0) {
        const size_t hit = rg_jstr_find(s, sep, at);

        if (hit == SIZE_MAX)
            break;
        RG_TRY(rg_jstr_cut(&r->w, s, at, hit, &piece));
        RG_TRY(rg_jlist_push(&r->w, l, piece));
        at = hit + sep->len;
    }
    RG_TRY(rg_jstr_cut(&r->w, s, at, s->len, &piece));
    return rg_jlist_push(&r->w, l, piece);
}

METHOD(str_split)
{
    const struct rg_jstr *sep = NULL;
    struct rg_jlist *l = rg_jlist_new(&r->w, 0);
    int64_t most = -1;

    if (!l)
        return rg_jshort(&r->w);
    RG_TRY(rg_jarg_string(r, args, 0, &sep));
    RG_TRY(rg_jarg_int(r, args, 1, &most));
    *out = rg_jv_list(RG_J_LIST, l);
    return sep ? split_at(r, in.as.string, sep, most, l) : split_space(r, in.as.string, most, l);
}

/* Pieces from the end; the list is turned round at the end. */
METHOD(str_rsplit)
{
    const struct rg_jstr *s = in.as.string, *sep = NULL;
    struct rg_jlist *l = rg_jlist_new(&r->w, 0);
    struct rg_jvalue piece;
    int64_t most = -1;
    size_t end = s->len;

    if (!l)
        return rg_jshort(&r->w);
    RG_TRY(rg_jarg_string(r, args, 0, &sep));
    RG_TRY(rg_jarg_int(r, args, 1, &most));
    *out = rg_jv_list(RG_J_LIST, l);
    if (!sep && most < 0)
        return split_space(r, s, most, l);
    if (!sep)
        return rg_jfail(&r->w, RG_E_UNSUPPORTED, "rsplit() with a count but no separator");
    if (sep->len == 0)
        return rg_jfail(&r->w, RG_E_BAD_DATA, "rsplit() with an empty separator");
    RG_TRY(rg_jwork_spend(&r->w, s->len));
    for (; most != 0; most -= most > 0) {
        const size_t hit = rg_jstr_find_last(s, sep, end);

        if (hit == SIZE_MAX)
            break;
        RG_TRY(rg_jstr_cut(&r->w, s, hit + sep->len, end, &piece));
        RG_TRY(rg_jlist_push(&r->w, l, piece));
        end = hit;
    }
    RG_TRY(rg_jstr_cut(&r->w, s, 0, end, &piece));
    RG_TRY(rg_jlist_push(&r->w, l, piece));
    for (uint32_t i = 0; i < l->n / 2; i++) {
        piece = l->items[i];
        l->items[i] = l->items[l->n - 1 - i];
        l->items[l->n - 1 - i] = piece;
    }
    return RG_OK;
}

static bool breaks_line(uint32_t cp)
{
    return (cp >= 0x0A && cp <= 0x0D) || (cp >= 0x1C && cp <= 0x1E) || cp == 0x85 || cp == 0x2028 ||
           cp == 0x2029;
}

METHOD(str_splitlines)
{
    const struct rg_jstr *s = in.as.string;
    const bool keep = rg_jarg_truth(args, 0, false);
    struct rg_jlist *l = rg_jlist_new(&r->w, 0);
    struct rg_jvalue piece;
    size_t begin = 0;

    if (!l)
        return rg_jshort(&r->w);
    for (size_t at = 0; at < s->len;) {
        uint32_t cp;
        const size_t n = rg_utf8_next(rg_jstr_data(s) + at, s->len - at, &cp);
        size_t next = at + n;

        if (breaks_line(cp)) {
            if (cp == '\r' && next < s->len && rg_jstr_data(s)[next] == '\n')
                next++;
            RG_TRY(rg_jstr_cut(&r->w, s, begin, keep ? next : at, &piece));
            RG_TRY(rg_jlist_push(&r->w, l, piece));
            begin = next;
        }
        at = next;
    }
    if (begin < s->len) {
        RG_TRY(rg_jstr_cut(&r->w, s, begin, s->len, &piece));
        RG_TRY(rg_jlist_push(&r->w, l, piece));
    }
    *out = rg_jv_list(RG_J_LIST, l);
    return RG_OK;
}

METHOD(str_partition)
{
    const struct rg_jstr *s = in.as.string, *sep = NULL;
    struct rg_jlist *l = rg_jlist_new(&r->w, 3);
    struct rg_jvalue part;

    if (!l)
        return rg_jshort(&r->w);
    RG_TRY(rg_jarg_string(r, args, 0, &sep));
    if (!sep || sep->len == 0)
        return rg_jfail(&r->w, RG_E_BAD_DATA, "partition() needs a separator");

    const size_t hit = rg_jstr_find(s, sep, 0);
    const size_t end = hit == SIZE_MAX ? s->len : hit;
    const size_t next = hit == SIZE_MAX ? s->len : hit + sep->len;

    RG_TRY(rg_jwork_spend(&r->w, s->len));
    RG_TRY(rg_jstr_cut(&r->w, s, 0, end, &part));
    RG_TRY(rg_jlist_push(&r->w, l, part));
    RG_TRY(rg_jstr_cut(&r->w, s, end, next, &part));
    RG_TRY(rg_jlist_push(&r->w, l, part));
    RG_TRY(rg_jstr_cut(&r->w, s, next, s->len, &part));
    RG_TRY(rg_jlist_push(&r->w, l, part));
    *out = rg_jv_list(RG_J_TUPLE, l);
    return RG_OK;
}

/* ---- strip, case, replace ------------------------------------------------------------------- */

static enum rg_code strip(struct rg_jrun *r, struct rg_jvalue in, const struct rg_jargs *args,
                          bool left, bool right, struct rg_jvalue *out)
{
    const struct rg_jstr *chars = NULL;

    RG_TRY(rg_jarg_string(r, args, 0, &chars));
    return rg_jtext_strip(&r->w, in.as.string, chars, left, right, out);
}

METHOD(str_strip)
{
    return strip(r, in, args, true, true, out);
}

METHOD(str_lstrip)
{
    return strip(r, in, args, true, false, out);
}

METHOD(str_rstrip)
{
    return strip(r, in, args, false, true, out);
}

METHOD(str_upper)
{
    (void)args;
    return rg_jtext_case(&r->w, in.as.string, RG_JTEXT_UPPER, out);
}

METHOD(str_lower)
{
    (void)args;
    return rg_jtext_case(&r->w, in.as.string, RG_JTEXT_LOWER, out);
}

METHOD(str_title)
{
    (void)args;
    return rg_jtext_case(&r->w, in.as.string, RG_JTEXT_TITLE, out);
}

METHOD(str_capitalize)
{
    (void)args;
    return rg_jtext_case(&r->w, in.as.string, RG_JTEXT_CAPITALIZE, out);
}

METHOD(str_replace)
{
    const struct rg_jstr *from = NULL, *to = NULL;
    int64_t count = -1;

    RG_TRY(rg_jarg_string(r, args, 0, &from));
    RG_TRY(rg_jarg_string(r, args, 1, &to));
    RG_TRY(rg_jarg_int(r, args, 2, &count));
    if (!from || !to)
        return rg_jfail(&r->w, RG_E_BAD_DATA, "replace() needs two strings");
    return rg_jtext_replace(&r->w, in.as.string, from, to, count, out);
}

/* ---- looking into strings ------------------------------------------------------------------- */

static bool has_affix(const struct rg_jstr *s, const struct rg_jstr *affix, bool at_end)
{
    return affix->len <= s->len && memcmp(rg_jstr_data(s) + (at_end ? s->len - affix->len : 0),
                                          rg_jstr_data(affix), affix->len) == 0;
}

/* The argument is a string or a tuple of such. */
static enum rg_code with_affix(struct rg_jrun *r, struct rg_jvalue in, const struct rg_jargs *args,
                               bool at_end, struct rg_jvalue *out)
{
    const struct rg_jvalue affix = args->slots[0];
    const uint32_t n = affix.type == RG_J_TUPLE ? affix.as.list->n : 1;
    bool found = false;

    for (uint32_t i = 0; i < n; i++) {
        const struct rg_jvalue one = affix.type == RG_J_TUPLE ? affix.as.list->items[i] : affix;

        if (one.type == RG_J_UNDEFINED)
            return rg_jundefined(r, one);
        if (one.type != RG_J_STRING)
            return rg_jfail(&r->w, RG_E_BAD_DATA, "%s where a string should be",
                            rg_jv_type_name(one));
        found = found || has_affix(in.as.string, one.as.string, at_end);
    }
    *out = rg_jv_bool(found);
    return RG_OK;
}

METHOD(str_startswith)
{
    return with_affix(r, in, args, false, out);
}

METHOD(str_endswith)
{
    return with_affix(r, in, args, true, out);
}

static enum rg_code remove_affix(struct rg_jrun *r, struct rg_jvalue in,
                                 const struct rg_jargs *args, bool at_end, struct rg_jvalue *out)
{
    const struct rg_jstr *s = in.as.string, *affix = NULL;

    RG_TRY(rg_jarg_string(r, args, 0, &affix));
    *out = in;
    if (!affix || !has_affix(s, affix, at_end))
        return RG_OK;
    return at_end ? rg_jstr_cut(&r->w, s, 0, s->len - affix->len, out)
                  : rg_jstr_cut(&r->w, s, affix->len, s->len, out);
}

METHOD(str_removeprefix)
{
    return remove_affix(r, in, args, false, out);
}

METHOD(str_removesuffix)
{
    return remove_affix(r, in, args, true, out);
}

/* The position in characters of a byte offset. */
static int64_t char_position(const struct rg_jstr *s, size_t offset)
{
    int64_t chars = 0;

    if (s->chars == s->len)
        return (int64_t)offset;
    for (size_t i = 0; i < offset; i++)
        chars += ((unsigned char)rg_jstr_data(s)[i] & 0xC0) != 0x80;
    return chars;
}

static enum rg_code find(struct rg_jrun *r, struct rg_jvalue in, const struct rg_jargs *args,
                         bool last, struct rg_jvalue *out)
{
    const struct rg_jstr *s = in.as.string, *needle = NULL;

    RG_TRY(rg_jarg_string(r, args, 0, &needle));
    if (!needle)
        return rg_jfail(&r->w, RG_E_BAD_DATA, "find() needs a string");
    RG_TRY(rg_jwork_spend(&r->w, s->len));

    const size_t hit = last ? rg_jstr_find_last(s, needle, s->len) : rg_jstr_find(s, needle, 0);

    *out = rg_jv_int(hit == SIZE_MAX ? -1 : char_position(s, hit));
    return RG_OK;
}

METHOD(str_find)
{
    return find(r, in, args, false, out);
}

METHOD(str_rfind)
{
    return find(r, in, args, true, out);
}

METHOD(str_index)
{
    RG_TRY(find(r, in, args, false, out));
    if (out->as.integer < 0)
        return rg_jfail(&r->w, RG_E_BAD_DATA, "index(): substring not found");
    return RG_OK;
}

METHOD(str_count)
{
    const struct rg_jstr *s = in.as.string, *needle = NULL;
    int64_t n = 0;

    RG_TRY(rg_jarg_string(r, args, 0, &needle));
    if (!needle)
        return rg_jfail(&r->w, RG_E_BAD_DATA, "count() needs a string");
    RG_TRY(rg_jwork_spend(&r->w, s->len));
    if (needle->len == 0)
        n = (int64_t)s->chars + 1;
    else
        for (size_t at = 0; (at = rg_jstr_find(s, needle, at)) != SIZE_MAX; at += needle->len)
            n++;
    *out = rg_jv_int(n);
    return RG_OK;
}

METHOD(str_isspace)
{
    struct rg_jvalue rest;

    (void)args;
    RG_TRY(rg_jtext_strip(&r->w, in.as.string, NULL, true, false, &rest));
    *out = rg_jv_bool(in.as.string->len > 0 && rest.as.string->len == 0);
    return RG_OK;
}

METHOD(str_join)
{
    struct rg_jtext *t = rg_jtext_new(&r->w, 0);
    struct rg_jlist *l;

    if (!t)
        return rg_jshort(&r->w);
    RG_TRY(rg_jv_items(&r->w, args->slots[0], &l));
    for (uint32_t i = 0; i < l->n; i++) {
        if (l->items[i].type != RG_J_STRING)
            return rg_jfail(&r->w, RG_E_BAD_DATA, "join() of %s", rg_jv_type_name(l->items[i]));
        if (i)
            RG_TRY(rg_jtext_add_str(&r->w, t, in.as.string));
        RG_TRY(rg_jtext_add_str(&r->w, t, l->items[i].as.string));
    }
    return rg_jtext_value(&r->w, t, out);
}

/* The field between { and } of str.format(): "", "0" or "name". */
static enum rg_code format_field(struct rg_jrun *r, const struct rg_jargs *args, const char *p,
                                 size_t n, uint32_t *next, struct rg_jvalue *out)
{
    uint32_t i = 0;

    for (size_t k = 0; k < n; k++)
        if (strchr(":!.[", p[k]))
            return rg_jfail(&r->w, RG_E_UNSUPPORTED, "format() with '%c' in a field", p[k]);
    for (uint32_t k = 0; k < args->n_keywords; k++) {
        if (strlen(args->keyword_names[k]) == n && memcmp(args->keyword_names[k], p, n) == 0) {
            *out = args->keywords[k];
            return RG_OK;
        }
    }
    for (size_t k = 0; k < n && k < 6; k++) {
        if (p[k] < '0' || p[k] > '9')
            return rg_jfail(&r->w, RG_E_BAD_DATA, "format() without '%.*s'", (int)n, p);
        i = i * 10 + (uint32_t)(p[k] - '0');
    }
    if (n == 0)
        i = (*next)++;
    if (i >= args->n)
        return rg_jfail(&r->w, RG_E_BAD_DATA, "format() without argument %u", i);
    *out = args->items[i];
    return RG_OK;
}

METHOD(str_format)
{
    const struct rg_jstr *s = in.as.string;
    const char *p = rg_jstr_data(s);
    struct rg_jtext *t = rg_jtext_new(&r->w, s->len);
    uint32_t next = 0;

    if (!t)
        return rg_jshort(&r->w);
    for (size_t at = 0; at < s->len;) {
        struct rg_jvalue v;
        const char *close;

        if (p[at] != '{' && p[at] != '}') {
            const size_t begin = at;

            while (at < s->len && p[at] != '{' && p[at] != '}')
                at++;
            RG_TRY(rg_jtext_add_part(&r->w, t, s, begin, at));
            continue;
        }
        if (at + 1 < s->len && p[at + 1] == p[at]) {
            RG_TRY(rg_jtext_add_part(&r->w, t, s, at, at + 1));
            at += 2;
            continue;
        }
        close = p[at] == '{' ? memchr(p + at, '}', s->len - at) : NULL;
        if (!close)
            return rg_jfail(&r->w, RG_E_BAD_DATA, "format() of a string with a single brace");
        RG_TRY(format_field(r, args, p + at + 1, (size_t)(close - p) - at - 1, &next, &v));
        RG_TRY(rg_jv_print(&r->w, t, v));
        at = (size_t)(close - p) + 1;
    }
    return rg_jtext_value(&r->w, t, out);
}

/* ---- the table ------------------------------------------------------------------------------ */

const struct rg_jmethod rg_jmethods_of_strings[] = {
    {"capitalize", RG_JM_STRING, str_capitalize, "", 0},
    {"count", RG_JM_STRING, str_count, "sub", 1},
    {"endswith", RG_JM_STRING, str_endswith, "suffix", 1},
    {"find", RG_JM_STRING, str_find, "sub", 1},
    {"format", RG_JM_STRING, str_format, "*", 0},
    {"index", RG_JM_STRING, str_index, "sub", 1},
    {"isspace", RG_JM_STRING, str_isspace, "", 0},
    {"join", RG_JM_STRING, str_join, "iterable", 1},
    {"lower", RG_JM_STRING, str_lower, "", 0},
    {"lstrip", RG_JM_STRING, str_lstrip, "chars", 0},
    {"partition", RG_JM_STRING, str_partition, "sep", 1},
    {"removeprefix", RG_JM_STRING, str_removeprefix, "prefix", 1},
    {"removesuffix", RG_JM_STRING, str_removesuffix, "suffix", 1},
    {"replace", RG_JM_STRING, str_replace, "old new count", 2},
    {"rfind", RG_JM_STRING, str_rfind, "sub", 1},
    {"rsplit", RG_JM_STRING, str_rsplit, "sep maxsplit", 0},
    {"rstrip", RG_JM_STRING, str_rstrip, "chars", 0},
    {"split", RG_JM_STRING, str_split, "sep maxsplit", 0},
    {"splitlines", RG_JM_STRING, str_splitlines, "keepends", 0},
    {"startswith", RG_JM_STRING, str_startswith, "prefix", 1},
    {"strip", RG_JM_STRING, str_strip, "chars", 0},
    {"title", RG_JM_STRING, str_title, "", 0},
    {"upper", RG_JM_STRING, str_upper, "", 0},
    {NULL, 0, NULL, NULL, 0},
};
