/* GET /health: 200 only after a heartbeat of the engine. */
#include <stdio.h>
#include <string.h>

#include "api/api_state.h"
#include "base/clock.h"

/* An idle engine turns its loop every second; a busy one after every step, and a step of a large
 * prompt may take long. */
static const int64_t idle_silence_ns = 5000000000;
static const int64_t busy_silence_ns = 30000000000;

void rg_health(struct rg_api *a, struct rg_http_conn *c, struct rg_http_request *r)
{
    char                   body[160] = "{\"status\":\"ok\"}";
    struct rg_http_reply   reply = {.status = 200, .body = body};
    struct rg_engine_stats stats;
    int64_t                silence_ns;

    (void)r;
    if (!a->llm) {
        (void)snprintf(body, sizeof body, "{\"status\":\"loading\",\"progress\":%.4f}",
                       atomic_load(&a->progress));
        reply.status = 503;
    } else {
        rg_engine_stats(a->llm->engine, &stats);
        silence_ns = rg_clock_ns() - stats.heartbeat_ns;
        if (silence_ns > (stats.running + stats.waiting > 0 ? busy_silence_ns : idle_silence_ns)) {
            (void)snprintf(body, sizeof body,
                           "{\"status\":\"degraded\",\"reason\":\"the engine is stuck\","
                           "\"silence_ms\":%lld}",
                           (long long)(silence_ns / 1000000));
            reply.status = 503;
        }
    }
    reply.body_len = strlen(body);
    (void)rg_http_reply(c, &reply);
}
