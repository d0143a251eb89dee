/* GET /health: 200 only after a heartbeat of an engine that can answer. */
#include <stdio.h>
#include <string.h>

#include "api/api_state.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/utf8.h"

/* An idle engine turns its loop every second; a busy one after every step, and a step of a large
 * prompt may take long. */
static const int64_t idle_silence_ns = 5000000000;
static const int64_t busy_silence_ns = 30000000000;

enum { NODES_BYTES_MAX = 1 << 20, REASON_BYTES = 2 * RG_ERR_BYTES };

struct state {
    const char *status;
    int         http_status;
    char        reason[REASON_BYTES];
    int64_t     silence_ms; /* 0: not said */
    bool        loading;
};

static bool is_silent(struct rg_engine *e, int64_t *silence_ns)
{
    struct rg_engine_stats stats;

    rg_engine_stats(e, &stats);
    *silence_ns = rg_clock_ns() - stats.heartbeat_ns;
    return *silence_ns > (stats.running + stats.waiting > 0 ? busy_silence_ns : idle_silence_ns);
}

/* ---- what anybody may see -------------------------------------------------------------------- */

static bool is_one_of(const char *key, const char *const *names)
{
    for (; *names; names++)
        if (strcmp(key, *names) == 0)
            return true;
    return false;
}

static enum rg_code print_open(struct rg_buf *out, const struct rg_json *object,
                               const char *const *names, const char *comma, struct rg_err *err);

static enum rg_code print_open_nodes(struct rg_buf *out, const struct rg_json *nodes,
                                     struct rg_err *err)
{
    static const char *const names[] = {"id", "head", "state", "first_layer", "last_layer",
                                        "progress", "ready", NULL};
    enum rg_code             code = rg_buf_add_str(out, "[", err);

    for (const struct rg_json *n = rg_json_first(nodes); code == RG_OK && n; n = rg_json_next(n)) {
        if (n != rg_json_first(nodes))
            code = rg_buf_add_str(out, ",", err);
        if (code == RG_OK)
            code = rg_buf_add_str(out, "{", err);
        if (code == RG_OK)
            code = print_open(out, n, names, "", err);
        if (code == RG_OK)
            code = rg_buf_add_str(out, "}", err);
    }
    return code == RG_OK ? rg_buf_add_str(out, "]", err) : code;
}

/* The named members; comma: before the first one. */
static enum rg_code print_open(struct rg_buf *out, const struct rg_json *object,
                               const char *const *names, const char *comma, struct rg_err *err)
{
    enum rg_code code = RG_OK;

    for (const struct rg_json *m = rg_json_first(object); code == RG_OK && m;
         m = rg_json_next(m)) {
        if (!is_one_of(rg_json_key(m), names))
            continue;
        code = rg_buf_addf(out, err, "%s\"%s\":", comma, rg_json_key(m));
        comma = ",";
        if (code == RG_OK && strcmp(rg_json_key(m), "nodes") == 0)
            code = print_open_nodes(out, m, err);
        else if (code == RG_OK)
            code = rg_json_print(out, m, err);
    }
    return code;
}

/* Without addresses, machines and reasons, which may hold either.  members: `,"a":1,"b":2`. */
static enum rg_code add_open_members(struct rg_buf *out, const struct rg_buf *members,
                                     struct rg_err *err)
{
    static const char *const names[] = {"role", "node", "head", "epoch", "epoch_state", "nodes",
                                        NULL};
    struct rg_json          *root = NULL;
    struct rg_buf            object;
    enum rg_code             code;

    rg_buf_init(&object, NODES_BYTES_MAX + 16);
    code = rg_buf_addf(&object, err, "{\"\":0%s}", members->data ? members->data : "");
    if (code == RG_OK)
        code = rg_json_parse(&root, object.data, object.len, &rg_json_limits_config, err);
    if (code == RG_OK)
        code = print_open(out, root, names, ",", err);
    rg_json_free(root);
    rg_buf_free(&object);
    return code;
}

/* ---- the answer ------------------------------------------------------------------------------ */

static void look(struct rg_api *a, const char *ring_reason, struct state *s)
{
    const bool    waits = a->forwards ? *ring_reason && atomic_load(&a->progress) < 1 : !a->llm;
    struct rg_err why = {.code = RG_OK};
    int64_t       silence_ns;

    *s = (struct state){.http_status = 503, .status = "degraded"};
    (void)snprintf(s->reason, sizeof s->reason, "%s", ring_reason);
    if (waits) {
        s->status = "loading";
        s->loading = true;
    } else if (a->llm && rg_engine_is_broken(a->llm->engine, &why)) {
        /* A lost node may come back; a file that was changed does not. */
        s->status = why.code == RG_E_PEER ? "degraded" : "failed";
        (void)snprintf(s->reason, sizeof s->reason, "%s", why.message);
    } else if (*ring_reason) {
        return;
    } else if (a->llm && rg_engine_is_lost(a->llm->engine, &why)) {
        /* The ring has formed anew, and the engine has not yet seen it. */
        (void)snprintf(s->reason, sizeof s->reason, "%s", why.message);
    } else if (a->llm && is_silent(a->llm->engine, &silence_ns)) {
        (void)snprintf(s->reason, sizeof s->reason, "the engine is stuck");
        s->silence_ms = silence_ns / 1000000;
    } else {
        s->status = "ok";
        s->http_status = 200;
    }
}

static enum rg_code print_reason(struct rg_buf *out, const char *reason, struct rg_err *err)
{
    struct rg_buf text;
    enum rg_code  code;

    rg_buf_init(&text, 4 * REASON_BYTES);
    code = rg_utf8_repair(&text, reason, strlen(reason), err);
    if (code == RG_OK)
        code = rg_buf_add_str(out, ",\"reason\":", err);
    if (code == RG_OK)
        code = rg_json_print_string(out, text.data ? text.data : "", text.len, err);
    rg_buf_free(&text);
    return code;
}

static enum rg_code print(struct rg_buf *out, const struct rg_api *a, const struct state *s,
                          const struct rg_buf *members, bool all, struct rg_err *err)
{
    enum rg_code code = rg_buf_addf(out, err, "{\"status\":\"%s\"", s->status);

    if (code == RG_OK && s->loading)
        code = rg_buf_addf(out, err, ",\"progress\":%.4f", atomic_load(&a->progress));
    if (code == RG_OK && *s->reason && (all || !a->nodes))
        code = print_reason(out, s->reason, err);
    if (code == RG_OK && s->silence_ms > 0)
        code = rg_buf_addf(out, err, ",\"silence_ms\":%lld", (long long)s->silence_ms);
    if (code == RG_OK)
        code = all ? rg_buf_add(out, members->data, members->len, err)
                   : add_open_members(out, members, err);
    return code == RG_OK ? rg_buf_add_str(out, "}", err) : code;
}

void rg_health(struct rg_api *a, struct rg_http_conn *c, struct rg_http_request *r)
{
    struct rg_http_reply reply = {0};
    char                 reason[REASON_BYTES] = "";
    struct state         s;
    struct rg_buf        members, body;
    struct rg_err        err;
    enum rg_code         code = RG_OK;

    rg_buf_init(&members, NODES_BYTES_MAX);
    rg_buf_init(&body, NODES_BYTES_MAX + 8 * REASON_BYTES);
    if (a->nodes)
        code = a->nodes(a->nodes_ud, &members, reason, sizeof reason, &err);
    look(a, reason, &s);
    if (code == RG_OK)
        code = print(&body, a, &s, &members, rg_auth_allows(&a->auth, r), &err);
    if (code != RG_OK) { /* the status has to do */
        rg_log(RG_LOG_WARN, "api", err.message, "path=/health");
        rg_buf_clear(&body);
        s.http_status = 503;
    }
    reply.status = s.http_status;
    reply.body = body.data ? body.data : "";
    reply.body_len = body.len;
    (void)rg_http_reply(c, &reply);
    rg_buf_free(&members);
    rg_buf_free(&body);
}
