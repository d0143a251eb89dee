/* The messages of a chat request: who may say what, in which shape. */
#include <stddef.h>
#include <string.h>

#include "api/fields.h"
#include "base/limits.h"

enum rg_role {
    ROLE_SYSTEM = 1,
    ROLE_DEVELOPER = 2,
    ROLE_USER = 4,
    ROLE_ASSISTANT = 8,
    ROLE_TOOL = 16,
    ROLE_FUNCTION = 32
};

static const struct {
    const char  *name;
    enum rg_role role;
} roles[] = {
    {"system", ROLE_SYSTEM},       {"developer", ROLE_DEVELOPER}, {"user", ROLE_USER},
    {"assistant", ROLE_ASSISTANT}, {"tool", ROLE_TOOL},           {"function", ROLE_FUNCTION},
};

static bool missing(struct rg_fields_walk *w, const char *prefix, const char *name)
{
    char param[RG_PARAM_BYTES];

    rg_field_param(param, "%s%s", prefix, name);
    return rg_api_fail(w->error, RG_API_INVALID_VALUE, param, "%s is missing", param);
}

/* The member, or NULL when it is absent, null or not a string. */
static const char *string_member(const struct rg_json *object, const char *key)
{
    const struct rg_json *v = rg_json_get(object, key);

    return v && rg_json_type(v) == RG_JSON_STRING ? rg_json_string(v) : NULL;
}

static bool only_assistant(struct rg_fields_walk *w, const char *param)
{
    return w->role == ROLE_ASSISTANT ||
           rg_api_fail(w->error, RG_API_INVALID_VALUE, param,
                       "%s belongs to messages of role assistant only", param);
}

/* ---- content ---- */

static bool take_part_type(struct rg_fields_walk *w, const struct rg_json *value, const char *param)
{
    static const char *const others[] = {"image_url", "input_image", "input_audio", "audio_url",
                                         "video_url", "file",        "refusal"};

    if (strcmp(rg_json_string(value), "text") == 0)
        return true;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strcmp(rg_json_string(value), others[i]) == 0)
            return rg_api_fail(w->error, RG_API_UNSUPPORTED, param,
                               "%s: content of type %s is not supported, only text is", param,
                               others[i]);
    return rg_api_fail(w->error, RG_API_INVALID_VALUE, param, "%s must be \"text\"", param);
}

static bool take_part(struct rg_fields_walk *w, const struct rg_json *part, const char *at)
{
    char                  prefix[RG_PARAM_BYTES];
    const struct rg_json *type;

    if (rg_json_type(part) != RG_JSON_OBJECT)
        return rg_field_wrong_type(w, part, at, "an object");
    rg_field_param(prefix, "%s.type", at);
    type = rg_json_get(part, "type");
    /* The type first: an image's other fields are not what is wrong with it. */
    if (type && rg_json_type(type) == RG_JSON_STRING && !take_part_type(w, type, prefix))
        return false;
    rg_field_param(prefix, "%s.", at);
    if (!rg_fields_apply(w, part, rg_part_fields, prefix))
        return false;
    if (!string_member(part, "type"))
        return missing(w, prefix, "type");
    return string_member(part, "text") != NULL || missing(w, prefix, "text");
}

static bool take_content(struct rg_fields_walk *w, const struct rg_json *value, const char *param)
{
    uint32_t i = 0;

    if (rg_json_type(value) == RG_JSON_STRING)
        return true;
    if (rg_json_type(value) != RG_JSON_ARRAY)
        return rg_field_wrong_type(w, value, param, "a string or an array of text parts");
    for (const struct rg_json *v = rg_json_first(value); v; v = rg_json_next(v), i++) {
        char at[RG_PARAM_BYTES];

        rg_field_param(at, "%.80s[%u]", param, i);
        if (!take_part(w, v, at))
            return false;
    }
    return true;
}

/* ---- tool calls of an earlier turn ---- */

static bool only_function(struct rg_fields_walk *w, const struct rg_json *value, const char *param)
{
    return strcmp(rg_json_string(value), "function") == 0 ||
           rg_api_fail(w->error, RG_API_INVALID_VALUE, param, "%s must be \"function\"", param);
}

static bool take_arguments(struct rg_fields_walk *w, const struct rg_json *value, const char *param)
{
    if (rg_json_type(value) == RG_JSON_STRING || rg_json_type(value) == RG_JSON_OBJECT)
        return true;
    return rg_field_wrong_type(w, value, param, "a string or an object");
}

static bool take_function(struct rg_fields_walk *w, const struct rg_json *value, const char *param)
{
    char prefix[RG_PARAM_BYTES];

    rg_field_param(prefix, "%.120s.", param);
    return rg_fields_apply(w, value, rg_call_function_fields, prefix) &&
           (string_member(value, "name") || missing(w, prefix, "name"));
}

static bool take_tool_calls(struct rg_fields_walk *w, const struct rg_json *value,
                            const char *param)
{
    uint32_t i = 0;

    if (!only_assistant(w, param))
        return false;
    for (const struct rg_json *v = rg_json_first(value); v; v = rg_json_next(v), i++) {
        const struct rg_json *function;
        char                  prefix[RG_PARAM_BYTES];

        if (rg_json_type(v) != RG_JSON_OBJECT)
            return rg_field_wrong_type(w, v, param, "an array of objects");
        rg_field_param(prefix, "%.80s[%u].", param, i);
        if (!rg_fields_apply(w, v, rg_tool_call_fields, prefix))
            return false;
        function = rg_json_get(v, "function");
        if (!function || rg_json_type(function) != RG_JSON_OBJECT)
            return missing(w, prefix, "function");
    }
    return true;
}

/* ---- the message ---- */

static bool take_reasoning(struct rg_fields_walk *w, const struct rg_json *value, const char *param)
{
    (void)value;
    return only_assistant(w, param);
}

static bool take_tool_call_id(struct rg_fields_walk *w, const struct rg_json *value,
                              const char *param)
{
    (void)value;
    return w->role == ROLE_TOOL || rg_api_fail(w->error, RG_API_INVALID_VALUE, param,
                                               "%s belongs to messages of role tool only", param);
}

static bool find_role(struct rg_fields_walk *w, const struct rg_json *message, const char *prefix)
{
    const struct rg_json *role = rg_json_get(message, "role");
    char                  param[RG_PARAM_BYTES];

    if (!role)
        return missing(w, prefix, "role");
    rg_field_param(param, "%srole", prefix);
    if (rg_json_type(role) != RG_JSON_STRING)
        return rg_field_wrong_type(w, role, param, "a string");
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (strcmp(rg_json_string(role), roles[i].name) == 0) {
            w->role = roles[i].role;
            return true;
        }
    return rg_api_fail(w->error, RG_API_INVALID_VALUE, param,
                       "%s must be system, developer, user, assistant, tool or function, "
                       "not \"%.40s\"",
                       param, rg_json_string(role));
}

static bool take_message(struct rg_fields_walk *w, const struct rg_json *message, uint32_t i)
{
    const struct rg_json *content;
    char                  prefix[RG_PARAM_BYTES];

    rg_field_param(prefix, "messages[%u]", i);
    if (rg_json_type(message) != RG_JSON_OBJECT)
        return rg_field_wrong_type(w, message, prefix, "an object");
    rg_field_param(prefix, "messages[%u].", i);
    if (!find_role(w, message, prefix) ||
        !rg_fields_apply(w, message, rg_message_fields, prefix))
        return false;
    content = rg_json_get(message, "content");
    if ((!content || rg_json_type(content) == RG_JSON_NULL) &&
        (w->role & (ROLE_SYSTEM | ROLE_DEVELOPER | ROLE_USER)))
        return missing(w, prefix, "content");
    if (w->role == ROLE_TOOL && !string_member(message, "tool_call_id"))
        return missing(w, prefix, "tool_call_id");
    if (w->role == ROLE_FUNCTION && !string_member(message, "name"))
        return missing(w, prefix, "name");
    return true;
}

bool rg_chat_take_messages(struct rg_fields_walk *w, const struct rg_json *value, const char *param)
{
    const size_t n = rg_json_count(value);
    uint32_t     i = 0;

    if (n == 0 || n > RG_LIMIT_MESSAGES)
        return rg_api_fail(w->error, RG_API_INVALID_VALUE, param,
                           "messages must have 1 to %u messages, not %zu", RG_LIMIT_MESSAGES, n);
    for (const struct rg_json *v = rg_json_first(value); v; v = rg_json_next(v))
        if (!take_message(w, v, i++))
            return false;
    w->values->has_messages = true;
    return true;
}

const struct rg_field rg_part_fields[] = {
    {"type", RG_FIELD_HONOURED, RG_FIELD_STRING, .take = take_part_type,
     .doc = "required; only `text`: images, audio, files and URLs are 400 `unsupported`"},
    {"text", RG_FIELD_HONOURED, RG_FIELD_STRING, .doc = "required"},
    {0},
};

const struct rg_field rg_call_function_fields[] = {
    {"name", RG_FIELD_HONOURED, RG_FIELD_STRING, .doc = "required"},
    {"arguments", RG_FIELD_HONOURED, RG_FIELD_ANY, .take = take_arguments,
     .doc = "a string (JSON, as the model wrote it) or an object"},
    {0},
};

const struct rg_field rg_tool_call_fields[] = {
    {"id", RG_FIELD_HONOURED, RG_FIELD_STRING, .doc = "the template sees it"},
    {"type", RG_FIELD_HONOURED, RG_FIELD_STRING, .take = only_function, .doc = "only `function`"},
    {"function", RG_FIELD_HONOURED, RG_FIELD_OBJECT, .take = take_function, .doc = "required"},
    {"index", RG_FIELD_ACCEPTED, RG_FIELD_ANY, .doc = "left over from a stream"},
    {0},
};

const struct rg_field rg_message_fields[] = {
    {"role", RG_FIELD_HONOURED, RG_FIELD_STRING,
     .doc = "required; `system` `developer` (`system` to a template that does not know it) "
            "`user` `assistant` `tool` `function`"},
    {"content", RG_FIELD_HONOURED, RG_FIELD_ANY, .take = take_content,
     .doc = "a string or an array of text parts, which are joined; null only for `assistant`, "
            "`tool` and `function`"},
    {"name", RG_FIELD_HONOURED, RG_FIELD_STRING,
     .doc = "the template sees it; required for `function`"},
    {"tool_calls", RG_FIELD_HONOURED, RG_FIELD_ARRAY, .take = take_tool_calls,
     .doc = "`assistant` only; the template sees them"},
    {"tool_call_id", RG_FIELD_HONOURED, RG_FIELD_STRING, .take = take_tool_call_id,
     .doc = "`tool` only, required there"},
    {"reasoning_content", RG_FIELD_HONOURED, RG_FIELD_STRING, .take = take_reasoning,
     .doc = "`assistant` only; the template sees it"},
    {"reasoning", RG_FIELD_HONOURED, RG_FIELD_STRING, .take = take_reasoning, .doc = "the same"},
    {"thinking", RG_FIELD_HONOURED, RG_FIELD_STRING, .take = take_reasoning, .doc = "the same"},
    {"annotations", RG_FIELD_ACCEPTED, RG_FIELD_ARRAY, .doc = "left over from an earlier answer"},
    {"refusal", RG_FIELD_REFUSED, RG_FIELD_ANY, .doc = "say it as content"},
    {"audio", RG_FIELD_REFUSED, RG_FIELD_ANY, .doc = "only text is taken"},
    {"function_call", RG_FIELD_REFUSED, RG_FIELD_ANY, .doc = "say it as tool_calls"},
    {0},
};
