/* Which handler answers a request, and what is checked before its body is read. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "api/api_state.h"

struct rg_route {
    const char         *path; /* one that ends with / also takes what comes after it */
    enum rg_http_method method;
    const char         *allow;
    bool                open;        /* needs no key */
    bool                needs_model; /* 503 while it loads */
    rg_handler_fn      *handler;
};

static const struct rg_route routes[] = {
    {"/v1/chat/completions", RG_HTTP_POST, "Allow: POST\r\n", false, true, rg_chat_begin},
    {"/v1/models", RG_HTTP_GET, "Allow: GET, HEAD\r\n", false, true, rg_models_list},
    {"/v1/models/", RG_HTTP_GET, "Allow: GET, HEAD\r\n", false, true, rg_models_get},
    {"/health", RG_HTTP_GET, "Allow: GET, HEAD\r\n", true, false, rg_health},
};

static const struct rg_route *find(const char *path)
{
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        const size_t n = strlen(routes[i].path);

        if (strcmp(routes[i].path, path) == 0)
            return path[n - 1] == '/' ? NULL : &routes[i];
        if (routes[i].path[n - 1] == '/' && strncmp(routes[i].path, path, n) == 0)
            return &routes[i];
    }
    return NULL;
}

void rg_api_reply_error(struct rg_http_conn *c, const struct rg_api_error *error, const char *extra)
{
    static const char no_memory[] =
        "{\"error\":{\"message\":\"out of memory\",\"type\":\"server_error\",\"param\":null,"
        "\"code\":\"internal\"}}";
    struct rg_http_reply reply = {.status = error->status, .extra = extra};
    struct rg_buf        body;

    rg_buf_init(&body, 16384);
    if (rg_api_error_print(&body, error, NULL) == RG_OK) {
        reply.body = body.data;
        reply.body_len = body.len;
    } else {
        reply.status = 500;
        reply.body = no_memory;
        reply.body_len = sizeof no_memory - 1;
    }
    (void)rg_http_reply(c, &reply);
    rg_buf_free(&body);
}

static void refuse(struct rg_http_conn *c, int status, enum rg_api_code code, const char *extra,
                   const char *why)
{
    struct rg_api_error error;

    (void)rg_api_fail(&error, code, NULL, "%s", why);
    error.status = status;
    rg_api_reply_error(c, &error, extra);
}

static bool is_json(const struct rg_http_request *r)
{
    static const char type[] = "application/json";
    const char       *value = rg_http_request_header(r, "Content-Type");
    const char       *coding = rg_http_request_header(r, "Content-Encoding");

    if (coding && strcasecmp(coding, "identity") != 0)
        return false;
    if (!value || strncasecmp(value, type, sizeof type - 1) != 0)
        return false;
    value += sizeof type - 1;
    value += strspn(value, " \t");
    return *value == '\0' || *value == ';';
}

static bool method_fits(const struct rg_route *route, const struct rg_http_request *r)
{
    if (route->method == RG_HTTP_GET && r->method == RG_HTTP_HEAD_METHOD)
        return true;
    return route->method == r->method;
}

void rg_router_on_head(struct rg_api *a, struct rg_http_conn *c, struct rg_http_request *r)
{
    const struct rg_route *route = find(r->path);
    const char            *fault = rg_auth_origin_fault(r, a->loopback);
    char                   why[400];

    if (fault) {
        refuse(c, 403, RG_API_UNSUPPORTED, NULL, fault);
    } else if (!(route && route->open) && !rg_auth_allows(&a->auth, r)) {
        refuse(c, 401, RG_API_INVALID_API_KEY, "WWW-Authenticate: Bearer\r\n",
               "this server needs one of its API keys: send it as Authorization: Bearer KEY");
    } else if (a->forwards && !(route && route->open)) {
        return; /* the head knows what it has */
    } else if (!route) {
        (void)snprintf(why, sizeof why,
                       "there is nothing at %.200s; there are POST /v1/chat/completions, "
                       "GET /v1/models and GET /health",
                       r->path);
        refuse(c, 404, RG_API_UNSUPPORTED, NULL, why);
    } else if (!method_fits(route, r)) {
        (void)snprintf(why, sizeof why, "%s takes no %s", route->path, r->method_name);
        refuse(c, 405, RG_API_UNSUPPORTED, route->allow, why);
    } else if (route->method == RG_HTTP_POST && !is_json(r)) {
        refuse(c, 415, RG_API_UNSUPPORTED, NULL,
               "the body must be sent as Content-Type: application/json, without a "
               "Content-Encoding");
    } else if (route->needs_model && !a->llm) {
        (void)snprintf(why, sizeof why, "the model is being loaded: %.0f %%",
                       100 * atomic_load(&a->progress));
        refuse(c, 503, RG_API_LOADING, RG_API_RETRY_AFTER, why);
    }
}

void rg_router_on_request(struct rg_api *a, struct rg_http_conn *c, struct rg_http_request *r)
{
    const struct rg_route *route = find(r->path);

    if (a->forwards && !(route && route->open))
        rg_relay_begin(a, c, r);
    else
        route->handler(a, c, r); /* on_head refused every request that has no route */
}
