/* jinja_functions.c - binding of arguments, and the functions a template may call. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "text/jinja_builtin.h"

/* ---- arguments ------------------------------------------------------------------------------ */

/* The position of a name in "a b c"; RG_JPARAMS_MAX when it is not there. */
static uint32_t param_index(const char *params, const char *name)
{
    const size_t n = strlen(name);
    uint32_t i = 0;

    for (const char *p = params; *p; i++) {
        const size_t length = strcspn(p, " ");

        if (length == n && memcmp(p, name, n) == 0)
            return i;
        p += length;
        p += *p == ' ';
    }
    return RG_JPARAMS_MAX;
}

static uint32_t param_count(const char *params)
{
    uint32_t n = *params != '\0';

    for (; *params; params++)
        n += *params == ' ';
    return n;
}

enum rg_code rg_jargs_bind(struct rg_jrun *r, const char *what, const char *params,
                           uint32_t n_required, struct rg_jargs *args)
{
    const uint32_t n = param_count(params);

    if (*params == '*')
        return RG_OK;
    if (args->n > n)
        return rg_jfail(&r->w, RG_E_BAD_DATA, "%s() takes %u arguments, not %u", what, n, args->n);
    for (uint32_t i = 0; i < args->n; i++)
        args->slots[i] = args->items[i];
    for (uint32_t k = 0; k < args->n_keywords; k++) {
        const uint32_t i = param_index(params, args->keyword_names[k]);

        if (i == RG_JPARAMS_MAX || args->slots[i].type != RG_J_ABSENT)
            return rg_jfail(&r->w, RG_E_BAD_DATA, "%s() cannot take the argument '%s'", what,
                            args->keyword_names[k]);
        args->slots[i] = args->keywords[k];
    }
    for (uint32_t i = 0; i < n_required; i++)
        if (args->slots[i].type == RG_J_ABSENT)
            return rg_jfail(&r->w, RG_E_BAD_DATA, "%s() needs %u arguments", what, n_required);
    return RG_OK;
}

bool rg_jargs_fit(const struct rg_jinja *t, const char *params, uint32_t n_required,
                  const struct rg_jexpr *call)
{
    bool given[RG_JPARAMS_MAX] = {false};
    bool all = true;

    if (*params == '*')
        return true;
    if (call->n_args > param_count(params))
        return false;
    for (uint32_t i = 0; i < call->n_args; i++)
        given[i] = true;
    for (uint32_t k = 0; k < call->n_keywords; k++) {
        const uint32_t i = param_index(params, t->names[call->keyword_names[k]].text);

        if (i == RG_JPARAMS_MAX || given[i])
            return false;
        given[i] = true;
    }
    for (uint32_t i = 0; i < n_required; i++)
        all = all && given[i];
    return all;
}

enum rg_code rg_jarg_string(struct rg_jrun *r, const struct rg_jargs *args, uint32_t i,
                            const struct rg_jstr **out)
{
    const struct rg_jvalue v = args->slots[i];

    if (v.type == RG_J_ABSENT || v.type == RG_J_NONE)
        return RG_OK;
    if (v.type == RG_J_UNDEFINED)
        return rg_jundefined(r, v);
    if (v.type != RG_J_STRING)
        return rg_jfail(&r->w, RG_E_BAD_DATA, "%s where a string should be", rg_jv_type_name(v));
    *out = v.as.string;
    return RG_OK;
}

enum rg_code rg_jarg_int(struct rg_jrun *r, const struct rg_jargs *args, uint32_t i, int64_t *out)
{
    const struct rg_jvalue v = args->slots[i];

    if (v.type == RG_J_ABSENT || v.type == RG_J_NONE)
        return RG_OK;
    if (v.type == RG_J_UNDEFINED)
        return rg_jundefined(r, v);
    if (v.type != RG_J_INT && v.type != RG_J_BOOL)
        return rg_jfail(&r->w, RG_E_BAD_DATA, "%s where an integer should be", rg_jv_type_name(v));
    *out = v.type == RG_J_INT ? v.as.integer : v.as.boolean;
    return RG_OK;
}

bool rg_jarg_truth(const struct rg_jargs *args, uint32_t i, bool otherwise)
{
    return args->slots[i].type == RG_J_ABSENT ? otherwise : rg_jv_truth(args->slots[i]);
}

/* ---- functions ------------------------------------------------------------------------------ */

/* The message is the template author's word to the user: nothing is put before it. */
static enum rg_code raise_exception(struct rg_jrun *r, struct rg_jargs *args, struct rg_jvalue *out)
{
    RG_TRY(rg_jv_string(&r->w, args->slots[0], out));
    if (out->as.string->len == 0 || rg_jstr_data(out->as.string)[0] == '\0')
        return rg_jfail(&r->w, RG_E_BAD_DATA, "raise_exception() without a message");
    return rg_fail(r->w.err, RG_E_BAD_DATA, "%.*s", (int)out->as.string->len,
                   rg_jstr_data(out->as.string));
}

static enum rg_code strftime_now(struct rg_jrun *r, struct rg_jargs *args, struct rg_jvalue *out)
{
    const struct rg_jstr *format = NULL;
    const time_t now = (time_t)rg_clock_unix();
    struct tm parts;
    char text[1024], format_text[256];

    RG_TRY(rg_jarg_string(r, args, 0, &format));
    if (!format || format->len >= sizeof format_text)
        return rg_jfail(&r->w, RG_E_BAD_DATA, "strftime_now() needs a format below 256 bytes");
    memcpy(format_text, rg_jstr_data(format), format->len);
    format_text[format->len] = '\0';
    if (!localtime_r(&now, &parts))
        return rg_jfail(&r->w, RG_E_INTERNAL, "the clock has no local time");

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    const size_t n = strftime(text, sizeof text, format_text, &parts);
#pragma GCC diagnostic pop

    if (n == 0 && format->len > 0)
        return rg_jfail(&r->w, RG_E_BAD_DATA, "strftime_now() of '%s' gives nothing", format_text);
    if (!rg_utf8_valid(text, n))
        return rg_jfail(&r->w, RG_E_BAD_DATA, "strftime_now() gives text that is not UTF-8");

    const struct rg_jstr *s = rg_jstr_copy(&r->w, text, n, false);

    if (!s)
        return rg_jshort(&r->w);
    *out = rg_jv_str(s);
    return RG_OK;
}

/* A pair of an iterable that dict() was given. */
static enum rg_code set_pair(struct rg_jrun *r, struct rg_jdict *d, struct rg_jvalue pair)
{
    struct rg_jlist *l;

    RG_TRY(rg_jv_items(&r->w, pair, &l));
    if (l->n != 2)
        return rg_jfail(&r->w, RG_E_BAD_DATA, "%u values where a key and a value should be", l->n);
    return rg_jdict_set(&r->w, d, l->items[0], l->items[1]);
}

/* dict(mapping or pairs, name=value ...) */
static enum rg_code dict(struct rg_jrun *r, struct rg_jargs *args, struct rg_jvalue *out)
{
    struct rg_jdict *d = rg_jdict_new(&r->w);
    struct rg_jlist *l;

    if (!d)
        return rg_jshort(&r->w);
    if (args->n > 1)
        return rg_jfail(&r->w, RG_E_BAD_DATA, "dict() takes 1 argument, not %u", args->n);
    if (args->n == 1 && args->items[0].type == RG_J_DICT) {
        const struct rg_jdict *from = args->items[0].as.dict;

        for (uint32_t i = 0; i < from->n; i++)
            RG_TRY(rg_jdict_set(&r->w, d, from->pairs[i].key, from->pairs[i].value));
    } else if (args->n == 1) {
        RG_TRY(rg_jv_items(&r->w, args->items[0], &l));
        for (uint32_t i = 0; i < l->n; i++)
            RG_TRY(set_pair(r, d, l->items[i]));
    }
    for (uint32_t i = 0; i < args->n_keywords; i++)
        RG_TRY(rg_jdict_set_text(&r->w, d, args->keyword_names[i], args->keywords[i]));
    *out = rg_jv_dict(d);
    return RG_OK;
}

static enum rg_code namespace(struct rg_jrun *r, struct rg_jargs *args, struct rg_jvalue *out) {
    RG_TRY(dict(r, args, out));
    for (uint32_t i = 0; i < out->as.dict->n; i++) {
        const struct rg_jvalue key = out->as.dict->pairs[i].key;
        const struct rg_jstr *name = key.as.string;

        if (key.type == RG_J_STRING && name->len && rg_jstr_data(name)[0] == '_')
            return rg_jfail(&r->w, RG_E_BAD_DATA, "namespace attribute '%.*s' begins with '_'",
                            (int)name->len, rg_jstr_data(name));
    }
    out->type = RG_J_NAMESPACE;
    return RG_OK;
}

enum { RANGE_MAX = 100000 }; /* as in jinja2's sandbox */

/* How Python prints a range; NULL when memory is short. */
static const char *range_text(struct rg_jrun *r, int64_t start, int64_t stop, int64_t step)
{
    enum { BYTES = 80 };
    char *text = rg_jalloc(&r->w, BYTES);

    if (text && step == 1)
        (void)snprintf(text, BYTES, "range(%lld, %lld)", (long long)start, (long long)stop);
    else if (text)
        (void)snprintf(text, BYTES, "range(%lld, %lld, %lld)", (long long)start, (long long)stop,
                       (long long)step);
    return text;
}

static enum rg_code range(struct rg_jrun *r, struct rg_jargs *args, struct rg_jvalue *out)
{
    int64_t start = 0, stop = 0, step = 1;
    struct rg_jlist *l = rg_jlist_new(&r->w, 0);

    if (!l)
        return rg_jshort(&r->w);
    RG_TRY(rg_jarg_int(r, args, 0, &stop));
    if (args->slots[1].type != RG_J_ABSENT) {
        start = stop;
        RG_TRY(rg_jarg_int(r, args, 1, &stop));
        RG_TRY(rg_jarg_int(r, args, 2, &step));
    }
    if (step == 0)
        return rg_jfail(&r->w, RG_E_BAD_DATA, "range() with step 0");
    for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
        if (l->n == RANGE_MAX)
            return rg_jfail(&r->w, RG_E_LIMIT, "range() of more than %d", RANGE_MAX);
        RG_TRY(rg_jlist_push(&r->w, l, rg_jv_int(i)));
        if (__builtin_add_overflow(i, step, &i))
            break;
    }
    l->shown = range_text(r, start, stop, step);
    if (!l->shown)
        return rg_jshort(&r->w);
    *out = rg_jv_list(RG_J_VIEW, l);
    return RG_OK;
}

static const struct rg_jfunction functions[] = {
    {"dict", dict, "*", 0},
    {"namespace", namespace, "*", 0},
    {"raise_exception", raise_exception, "message", 1},
    {"range", range, "start stop step", 1},
    {"strftime_now", strftime_now, "format", 1},
};

const struct rg_jfunction *rg_jfunction_find(const char *name)
{
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (strcmp(functions[i].name, name) == 0)
            return &functions[i];
    return NULL;
}
