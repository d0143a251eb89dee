/* The walk over an object's fields by a table, and the table as Markdown. */
#include "api/fields.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const type_names[] = {
    [RG_FIELD_BOOL] = "true or false", [RG_FIELD_INT] = "an integer",
    [RG_FIELD_NUMBER] = "a number",    [RG_FIELD_STRING] = "a string",
    [RG_FIELD_ARRAY] = "an array",     [RG_FIELD_OBJECT] = "an object",
    [RG_FIELD_ANY] = "any",
};

void rg_field_param(char out[RG_PARAM_BYTES], const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(out, RG_PARAM_BYTES, format, args);
    va_end(args);
}

bool rg_field_wrong_type(struct rg_fields_walk *w, const struct rg_json *value, const char *param,
                         const char *want)
{
    return rg_api_fail(w->error, RG_API_INVALID_VALUE, param, "%s must be %s, not %s", param, want,
                       rg_json_type_name(value));
}

static bool has_type(const struct rg_field *f, const struct rg_json *value)
{
    static const int json_types[] = {
        [RG_FIELD_BOOL] = RG_JSON_BOOL,     [RG_FIELD_INT] = RG_JSON_NUMBER,
        [RG_FIELD_NUMBER] = RG_JSON_NUMBER, [RG_FIELD_STRING] = RG_JSON_STRING,
        [RG_FIELD_ARRAY] = RG_JSON_ARRAY,   [RG_FIELD_OBJECT] = RG_JSON_OBJECT,
    };

    return f->type == RG_FIELD_ANY || (int)rg_json_type(value) == json_types[f->type];
}

static bool store_int(struct rg_fields_walk *w, const struct rg_field *f,
                      const struct rg_json *value, const char *param)
{
    int64_t v;

    if (!rg_json_int(value, (int64_t)f->least, (int64_t)f->most, &v))
        return rg_api_fail(w->error, RG_API_INVALID_VALUE, param,
                           "%s must be an integer from %.0f to %.0f", param, f->least, f->most);
    memcpy((char *)w->values + f->offset, &v, sizeof v);
    return true;
}

static bool store_number(struct rg_fields_walk *w, const struct rg_field *f,
                         const struct rg_json *value, const char *param)
{
    const double v = rg_json_double(value);

    if (!isfinite(v) || v < f->least || v > f->most)
        return rg_api_fail(w->error, RG_API_INVALID_VALUE, param,
                           "%s must be a number from %g to %g", param, f->least, f->most);
    memcpy((char *)w->values + f->offset, &v, sizeof v);
    return true;
}

static bool apply(struct rg_fields_walk *w, const struct rg_field *f, const struct rg_json *value,
                  const char *param)
{
    bool truth;

    if (rg_json_type(value) == RG_JSON_NULL)
        return true;
    if (f->use == RG_FIELD_REFUSED)
        return rg_api_fail(w->error, RG_API_UNSUPPORTED, param, "%s is not supported: %s", param,
                           f->doc);
    if (!has_type(f, value))
        return rg_field_wrong_type(w, value, param, type_names[f->type]);
    if (f->take)
        return f->take(w, value, param);
    if (f->use == RG_FIELD_ACCEPTED)
        return true;
    switch (f->type) {
    case RG_FIELD_INT:
        return store_int(w, f, value, param);
    case RG_FIELD_NUMBER:
        return store_number(w, f, value, param);
    case RG_FIELD_BOOL:
        truth = rg_json_bool(value);
        memcpy((char *)w->values + f->offset, &truth, sizeof truth);
        return true;
    default:
        return true;
    }
}

bool rg_fields_apply(struct rg_fields_walk *w, const struct rg_json *object,
                     const struct rg_field *rows, const char *prefix)
{
    char param[RG_PARAM_BYTES];

    for (const struct rg_json *v = rg_json_first(object); v; v = rg_json_next(v)) {
        const char            *key = rg_json_key(v);
        const struct rg_field *f = rows;

        while (f->name && strcmp(f->name, key) != 0)
            f++;
        rg_field_param(param, "%s%s", prefix, key);
        if (!f->name)
            return rg_api_fail(w->error, RG_API_UNKNOWN_FIELD, param, "there is no field %s",
                               param);
        if (!apply(w, f, v, param))
            return false;
    }
    return true;
}

static enum rg_code print_table(struct rg_buf *out, const char *title, const struct rg_field *rows,
                                struct rg_err *err)
{
    static const char *const uses[] = {
        [RG_FIELD_HONOURED] = "honoured",
        [RG_FIELD_ACCEPTED] = "accepted",
        [RG_FIELD_REFUSED] = "400 `unsupported`",
    };
    enum rg_code code = rg_buf_addf(out, err, "%s\n\n| field | type | use | |\n|---|---|---|---|\n",
                                    title);

    for (const struct rg_field *f = rows; code == RG_OK && f->name; f++)
        code = rg_buf_addf(out, err, "| `%s` | %s | %s | %s |\n", f->name, type_names[f->type],
                           uses[f->use], f->doc);
    return code == RG_OK ? rg_buf_add_str(out, "\n", err) : code;
}

enum rg_code rg_fields_print_markdown(struct rg_buf *out, struct rg_err *err)
{
    const struct {
        const char            *title;
        const struct rg_field *rows;
    } tables[] = {
        {"### The body", rg_chat_fields},
        {"### `stream_options`", rg_stream_option_fields},
        {"### A message", rg_message_fields},
        {"### A content part", rg_part_fields},
        {"### A tool call of an earlier assistant message", rg_tool_call_fields},
        {"### `function` of such a call", rg_call_function_fields},
    };
    enum rg_code code = RG_OK;

    for (size_t i = 0; code == RG_OK && i < sizeof tables / sizeof *tables; i++)
        code = print_table(out, tables[i].title, tables[i].rows, err);
    return code;
}
