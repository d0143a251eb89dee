/* chat_prepare.c - request messages to template values. */
#include "text/chat_prepare.h"

#include <string.h>

#include "base/limits.h"

static enum rg_code empty_string(struct rg_jrun *r, struct rg_jvalue *out)
{
    const struct rg_jstr *s = rg_jstr_borrow(&r->w, "", 0, false);

    if (!s)
        return rg_jshort(&r->w);
    *out = rg_jv_str(s);
    return RG_OK;
}

/* One part of a content array: only text. */
static enum rg_code part_text(struct rg_jrun *r, const struct rg_json *part, size_t message,
                              size_t index, const char **out)
{
    const struct rg_json *type, *text;

    if (rg_json_type(part) == RG_JSON_STRING) {
        *out = rg_json_string(part);
        return RG_OK;
    }
    if (rg_json_type(part) != RG_JSON_OBJECT)
        return rg_fail(r->w.err, RG_E_BAD_DATA,
                       "messages[%zu].content[%zu] is %s, should be an object", message, index,
                       rg_json_type_name(part));
    type = rg_json_get(part, "type");
    if (type && (rg_json_type(type) != RG_JSON_STRING || strcmp(rg_json_string(type), "text") != 0))
        return rg_fail(r->w.err, RG_E_UNSUPPORTED,
                       "messages[%zu].content[%zu].type: only \"text\" parts are supported",
                       message, index);
    text = rg_json_get(part, "text");
    if (!text || rg_json_type(text) != RG_JSON_STRING)
        return rg_fail(r->w.err, RG_E_BAD_DATA,
                       "messages[%zu].content[%zu].text is missing or not a string", message,
                       index);
    *out = rg_json_string(text);
    return RG_OK;
}

static enum rg_code join_parts(struct rg_jrun *r, const struct rg_json *parts, size_t message,
                               struct rg_jvalue *out)
{
    struct rg_jtext *t = rg_jtext_new(&r->w, 0);
    size_t index = 0;

    if (!t)
        return rg_jshort(&r->w);
    for (const struct rg_json *p = rg_json_first(parts); p; p = rg_json_next(p), index++) {
        const char *text = "";

        RG_TRY(part_text(r, p, message, index, &text));
        RG_TRY(rg_jtext_add(&r->w, t, text, strlen(text), false));
    }
    return rg_jtext_value(&r->w, t, out);
}

/* Copies an object without its null keys. */
static enum rg_code without_nulls(struct rg_jrun *r, const struct rg_json *object,
                                  struct rg_jdict **out)
{
    *out = rg_jdict_new(&r->w);
    if (!*out)
        return rg_jshort(&r->w);
    for (const struct rg_json *j = rg_json_first(object); j; j = rg_json_next(j)) {
        struct rg_jvalue v;

        if (rg_json_type(j) == RG_JSON_NULL)
            continue;
        RG_TRY(rg_jv_from_json(&r->w, j, &v));
        RG_TRY(rg_jdict_set_text(&r->w, *out, rg_json_key(j), v));
    }
    return RG_OK;
}

/* Arguments: "" is {}, a string with a JSON object is that object, anything else stays. */
static enum rg_code prepare_arguments(struct rg_jrun *r, const struct rg_json *arguments,
                                      struct rg_jdict *function)
{
    struct rg_jvalue v;
    bool ok = false;

    if (rg_json_type(arguments) == RG_JSON_STRING) {
        const char *text = rg_json_string(arguments);
        const size_t n = strlen(text);

        if (n > 0)
            RG_TRY(rg_jrun_parse_json(r, text, n, &v, &ok));
        if (ok && v.type != RG_J_DICT)
            return RG_OK;
        if (n > 0 && !ok)
            return RG_OK;
    } else if (rg_json_type(arguments) != RG_JSON_NULL) {
        return RG_OK;
    }
    if (!ok) {
        struct rg_jdict *none = rg_jdict_new(&r->w);

        if (!none)
            return rg_jshort(&r->w);
        v = rg_jv_dict(none);
    }
    return rg_jdict_set_text(&r->w, function, "arguments", v);
}

static enum rg_code prepare_call(struct rg_jrun *r, const struct rg_json *call,
                                 struct rg_jvalue *out)
{
    const struct rg_json *function, *arguments;
    struct rg_jdict *d, *f;

    if (rg_json_type(call) != RG_JSON_OBJECT)
        return rg_jv_from_json(&r->w, call, out);
    RG_TRY(without_nulls(r, call, &d));
    *out = rg_jv_dict(d);
    function = rg_json_get(call, "function");
    if (!function || rg_json_type(function) != RG_JSON_OBJECT)
        return RG_OK;
    RG_TRY(without_nulls(r, function, &f));
    arguments = rg_json_get(function, "arguments");
    if (arguments)
        RG_TRY(prepare_arguments(r, arguments, f));
    return rg_jdict_set_text(&r->w, d, "function", rg_jv_dict(f));
}

static enum rg_code prepare_calls(struct rg_jrun *r, const struct rg_json *calls,
                                  struct rg_jdict *message)
{
    struct rg_jlist *l = rg_jlist_new(&r->w, 0);

    if (!l)
        return rg_jshort(&r->w);
    for (const struct rg_json *j = rg_json_first(calls); j; j = rg_json_next(j)) {
        struct rg_jvalue v;

        RG_TRY(prepare_call(r, j, &v));
        RG_TRY(rg_jlist_push(&r->w, l, v));
    }
    return rg_jdict_set_text(&r->w, message, "tool_calls", rg_jv_list(RG_J_LIST, l));
}

static enum rg_code fill_reasoning(struct rg_jrun *r, struct rg_jdict *message)
{
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    const size_t n = sizeof names / sizeof *names;
    const struct rg_jvalue *found = NULL;

    for (size_t i = 0; !found && i < n; i++)
        found = rg_jdict_get_text(message, names[i]);
    if (!found)
        return RG_OK;

    const struct rg_jvalue v = *found; /* found may move when a key is added */

    for (size_t i = 0; i < n; i++)
        if (!rg_jdict_get_text(message, names[i]))
            RG_TRY(rg_jdict_set_text(&r->w, message, names[i], v));
    return RG_OK;
}

static enum rg_code prepare_message(struct rg_jrun *r, const struct rg_json *message, size_t index,
                                    struct rg_jvalue *out)
{
    const struct rg_json *content, *calls;
    struct rg_jdict *d;
    struct rg_jvalue v;

    if (rg_json_type(message) != RG_JSON_OBJECT)
        return rg_fail(r->w.err, RG_E_BAD_DATA, "messages[%zu] is %s, should be an object", index,
                       rg_json_type_name(message));
    RG_TRY(without_nulls(r, message, &d));
    content = rg_json_get(message, "content");
    if (!content || rg_json_type(content) == RG_JSON_NULL) {
        RG_TRY(empty_string(r, &v));
        RG_TRY(rg_jdict_set_text(&r->w, d, "content", v));
    } else if (rg_json_type(content) == RG_JSON_ARRAY) {
        RG_TRY(join_parts(r, content, index, &v));
        RG_TRY(rg_jdict_set_text(&r->w, d, "content", v));
    }
    calls = rg_json_get(message, "tool_calls");
    if (calls && rg_json_type(calls) == RG_JSON_ARRAY)
        RG_TRY(prepare_calls(r, calls, d));
    RG_TRY(fill_reasoning(r, d));
    *out = rg_jv_dict(d);
    return RG_OK;
}

enum rg_code rg_chat_prepare(struct rg_jrun *r, const struct rg_json *messages,
                             struct rg_jvalue *out)
{
    struct rg_jlist *l = rg_jlist_new(&r->w, 0);
    size_t index = 0;

    if (!l)
        return rg_jshort(&r->w);
    if (!messages || rg_json_type(messages) != RG_JSON_ARRAY)
        return rg_fail(r->w.err, RG_E_BAD_DATA, "messages is %s, should be an array",
                       messages ? rg_json_type_name(messages) : "missing");
    for (const struct rg_json *m = rg_json_first(messages); m; m = rg_json_next(m), index++) {
        struct rg_jvalue v;

        RG_TRY(prepare_message(r, m, index, &v));
        RG_TRY(rg_jlist_push(&r->w, l, v));
    }
    *out = rg_jv_list(RG_J_LIST, l);
    return RG_OK;
}
