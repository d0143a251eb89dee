/* GET /v1/models and GET /v1/models/{id}. */
#include <stdio.h>
#include <string.h>

#include "api/api_state.h"
#include "base/json.h"

static enum rg_code add_model(struct rg_buf *out, const struct rg_api *a, struct rg_err *err)
{
    enum rg_code code = rg_buf_add_str(out, "{\"id\":", err);

    if (code == RG_OK)
        code = rg_json_print_string(out, a->llm->name, strlen(a->llm->name), err);
    if (code == RG_OK)
        code = rg_buf_addf(out, err,
                           ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"renga\","
                           "\"max_model_len\":%u}",
                           (long long)a->model_created, a->llm->context);
    return code;
}

static void reply(struct rg_http_conn *c, struct rg_buf *body, enum rg_code code,
                  const struct rg_err *err)
{
    struct rg_http_reply r = {.status = 200, .body = body->data, .body_len = body->len};
    struct rg_api_error  error;

    if (code == RG_OK) {
        (void)rg_http_reply(c, &r);
    } else {
        rg_api_error_from(&error, err);
        rg_api_reply_error(c, &error, NULL);
    }
    rg_buf_free(body);
}

void rg_models_list(struct rg_api *a, struct rg_http_conn *c, struct rg_http_request *r)
{
    struct rg_buf body;
    struct rg_err err;
    enum rg_code  code;

    (void)r;
    rg_buf_init(&body, 16384);
    code = rg_buf_add_str(&body, "{\"object\":\"list\",\"data\":[", &err);
    if (code == RG_OK)
        code = add_model(&body, a, &err);
    if (code == RG_OK)
        code = rg_buf_add_str(&body, "]}", &err);
    reply(c, &body, code, &err);
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Undoes %XX in place; what is not such an escape stays. */
static void percent_decode(char *s)
{
    char *to = s;

    for (; *s; s++) {
        if (s[0] == '%' && hex(s[1]) >= 0 && hex(s[2]) >= 0 && (s[1] != '0' || s[2] != '0')) {
            *to++ = (char)(hex(s[1]) << 4 | hex(s[2]));
            s += 2;
        } else {
            *to++ = *s;
        }
    }
    *to = '\0';
}

void rg_models_get(struct rg_api *a, struct rg_http_conn *c, struct rg_http_request *r)
{
    char *const         id = r->path + sizeof "/v1/models/" - 1;
    struct rg_api_error error;
    struct rg_buf       body;
    struct rg_err       err;
    enum rg_code        code;

    percent_decode(id);
    if (strcmp(id, a->llm->name) != 0) {
        (void)rg_api_fail(&error, RG_API_MODEL_NOT_FOUND, "model",
                          "there is no model \"%.200s\" here; this server has \"%.200s\"", id,
                          a->llm->name);
        rg_api_reply_error(c, &error, NULL);
        return;
    }
    rg_buf_init(&body, 16384);
    code = add_model(&body, a, &err);
    reply(c, &body, code, &err);
}
