/* Errors of the API: one table from code to status and type, and the JSON object. */
#include "api/api_error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"

static const struct {
    const char *name;
    int         status;
} codes[] = {
    [RG_API_INVALID_JSON] = {"invalid_json", 400},
    [RG_API_UNKNOWN_FIELD] = {"unknown_field", 400},
    [RG_API_INVALID_VALUE] = {"invalid_value", 400},
    [RG_API_UNSUPPORTED] = {"unsupported", 400},
    [RG_API_MODEL_NOT_FOUND] = {"model_not_found", 404},
    [RG_API_CONTEXT_LENGTH] = {"context_length_exceeded", 400},
    [RG_API_INVALID_API_KEY] = {"invalid_api_key", 401},
    [RG_API_QUEUE_FULL] = {"queue_full", 429},
    [RG_API_LOADING] = {"loading", 503},
    [RG_API_NODE_LOST] = {"node_lost", 503},
    [RG_API_INTERNAL] = {"internal", 500},
};

const char *rg_api_code_name(enum rg_api_code code)
{
    return codes[code].name;
}

static const char *type_of(int status)
{
    switch (status) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 429:
        return "rate_limit_error";
    default:
        return status >= 500 ? "server_error" : "invalid_request_error";
    }
}

/* snprintf may have cut in the middle of a character. */
static void cut_tail(char *s)
{
    const size_t n = strlen(s);

    s[n - rg_utf8_incomplete_tail(s, n)] = '\0';
}

bool rg_api_fail(struct rg_api_error *e, enum rg_api_code code, const char *param,
                 const char *format, ...)
{
    va_list args;

    e->code = code;
    e->status = codes[code].status;
    (void)snprintf(e->param, sizeof e->param, "%s", param ? param : "");
    va_start(args, format);
    (void)vsnprintf(e->message, sizeof e->message, format, args);
    va_end(args);
    cut_tail(e->param);
    cut_tail(e->message);
    return false;
}

void rg_api_error_from(struct rg_api_error *e, const struct rg_err *err)
{
    const char *const why = err->message;

    switch (err->code) {
    case RG_E_PEER:
    case RG_E_TIMEOUT:
    case RG_E_IO: /* the model's files were changed: this node is the lost one */
        (void)rg_api_fail(e, RG_API_NODE_LOST, NULL, "%s", why);
        return;
    case RG_E_CANCELED:
        (void)rg_api_fail(e, RG_API_NODE_LOST, NULL, "the server is shutting down");
        return;
    case RG_E_NOMEM:
        (void)rg_api_fail(e, RG_API_INTERNAL, NULL, "out of memory");
        return;
    default:
        (void)rg_api_fail(e, RG_API_INTERNAL, NULL, "%s", why);
    }
}

enum rg_code rg_api_error_print(struct rg_buf *out, const struct rg_api_error *e,
                                struct rg_err *err)
{
    struct rg_buf text;
    enum rg_code  code;

    /* A path of the file system in a message need not be UTF-8. */
    rg_buf_init(&text, 4 * sizeof e->message);
    code = rg_utf8_repair(&text, e->message, strlen(e->message), err);
    if (code == RG_OK)
        code = rg_buf_add_str(out, "{\"error\":{\"message\":", err);
    if (code == RG_OK)
        code = rg_json_print_string(out, text.data ? text.data : "", text.len, err);
    if (code == RG_OK)
        code = rg_buf_addf(out, err, ",\"type\":\"%s\",\"param\":", type_of(e->status));
    if (code == RG_OK)
        code = e->param[0] ? rg_json_print_string(out, e->param, strlen(e->param), err)
                           : rg_buf_add_str(out, "null", err);
    if (code == RG_OK)
        code = rg_buf_addf(out, err, ",\"code\":\"%s\"}}", codes[e->code].name);
    rg_buf_free(&text);
    return code;
}
