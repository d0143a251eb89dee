/* GET /health: 200 only after a heartbeat of an engine that can answer. */
#include <string.h>

#include "api/api_state.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/utf8.h"

/* An idle engine turns its loop every second; a busy one after every step, and a step of a large
 * prompt may take long. */
static const int64_t idle_silence_ns = 5000000000;
static const int64_t busy_silence_ns = 30000000000;

static enum rg_code print_failed(struct rg_buf *out, const struct rg_err *why)
{
    struct rg_buf text;
    enum rg_code  code;

    rg_buf_init(&text, 4 * sizeof why->message);
    code = rg_utf8_repair(&text, why->message, strlen(why->message), NULL);
    if (code == RG_OK)
        code = rg_buf_add_str(out, "{\"status\":\"failed\",\"reason\":", NULL);
    if (code == RG_OK)
        code = rg_json_print_string(out, text.data ? text.data : "", text.len, NULL);
    if (code == RG_OK)
        code = rg_buf_add_str(out, "}", NULL);
    rg_buf_free(&text);
    return code;
}

static bool is_silent(struct rg_engine *e, int64_t *silence_ns)
{
    struct rg_engine_stats stats;

    rg_engine_stats(e, &stats);
    *silence_ns = rg_clock_ns() - stats.heartbeat_ns;
    return *silence_ns > (stats.running + stats.waiting > 0 ? busy_silence_ns : idle_silence_ns);
}

/* Prints the answer and returns its status. */
static int look(const struct rg_api *a, struct rg_buf *out)
{
    int64_t       silence_ns;
    struct rg_err why;
    enum rg_code  code;
    int           status = 503;

    if (!a->llm) {
        code = rg_buf_addf(out, NULL, "{\"status\":\"loading\",\"progress\":%.4f}",
                           atomic_load(&a->progress));
    } else if (rg_engine_is_broken(a->llm->engine, &why)) {
        code = print_failed(out, &why);
    } else if (is_silent(a->llm->engine, &silence_ns)) {
        code = rg_buf_addf(out, NULL,
                           "{\"status\":\"degraded\",\"reason\":\"the engine is stuck\","
                           "\"silence_ms\":%lld}",
                           (long long)(silence_ns / 1000000));
    } else {
        code = rg_buf_add_str(out, "{\"status\":\"ok\"}", NULL);
        status = 200;
    }
    if (code == RG_OK)
        return status;
    rg_buf_clear(out); /* no memory: the status has to do */
    return 503;
}

void rg_health(struct rg_api *a, struct rg_http_conn *c, struct rg_http_request *r)
{
    struct rg_http_reply reply = {0};
    struct rg_buf        body;

    (void)r;
    rg_buf_init(&body, 8 * RG_ERR_BYTES);
    reply.status = look(a, &body);
    reply.body = body.data ? body.data : "";
    reply.body_len = body.len;
    (void)rg_http_reply(c, &reply);
    rg_buf_free(&body);
}
