/* ring_serve.c - a node of a ring behind the API. */
#include "cli/ring_serve.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "cli/load_progress.h"
#include "cli/node_options.h"
#include "cli/ring_health.h"
#include "cluster/model_card.h"

enum {
    SAY_MS = 5000,
    CHUNK_DEFAULT = 512,
    REST_TURN_MS = 100,
    REST_QUIET_MS = 1200 /* two heartbeats, which say who computes */
};

struct rg_ring_serve {
    uv_loop_t *loop;
    uv_work_t work;
    struct rg_api *api; /* borrowed; not used once closing */
    struct rg_llm_options options;
    const char *api_host;
    int64_t node_timeout_ms;
    struct rg_node *node;
    struct rg_llm *llm;               /* the head's */
    struct rg_checkpoint *checkpoint; /* a worker's */
    struct rg_model_card card;
    enum rg_code code;
    struct rg_err err;
    bool opening, closing;
    _Atomic bool stop;
    struct rg_load_progress progress;
    struct rg_ring_health health;
    uv_timer_t rest; /* of a worker that ends */
    uint64_t rest_steps;
    int64_t rest_busy_ms, rest_until_ms;
    int64_t said_ms;
    enum rg_epoch_state engine_saw; /* health.status is also renewed by whoever asks for it */
    rg_ring_serve_failed_fn *on_failed;
    void (*on_closed)(void *ud);
    void *ud, *closed_ud;
};

static void fail(struct rg_ring_serve *s, const struct rg_err *why)
{
    if (!s->closing)
        s->on_failed(s->ud, why);
}

/* ---- the node's events ----------------------------------------------------------------------- */

static void on_formed(void *ud, struct rg_pipeline *pipeline, uint32_t context, uint32_t parallel)
{
    struct rg_ring_serve *s = ud;
    const struct rg_engine_options options = {.context = context,
                                              .parallel = parallel,
                                              .chunk_rows = s->options.chunk_rows,
                                              .node_timeout_ms = s->node_timeout_ms};
    struct rg_err err = {0};

    if (rg_llm_attach(s->llm, pipeline, &options, &err)) {
        fail(s, &err);
        return;
    }
    rg_api_set_model(s->api, s->llm);
    rg_log(RG_LOG_INFO, "serve", "model is ready", "model=%s layers=%u context=%u parallel=%u",
           s->llm->name, s->llm->checkpoint->config.num_hidden_layers, context, parallel);
}

/* One line per node every few seconds while parts are loaded; on a terminal one line for all. */
static void say_progress(struct rg_ring_serve *s, const struct rg_node_status *status)
{
    const int64_t now = rg_clock_ms();
    uint64_t done = 0, total = 0;

    for (uint32_t i = 0; i < status->n_nodes; i++) {
        done += status->nodes[i].peer.loaded_bytes;
        total += status->nodes[i].peer.load_bytes;
    }
    if (total == 0) {
        rg_load_progress_end(&s->progress);
        return;
    }
    (void)rg_load_progress_show(&s->progress, done, total);
    if (now - s->said_ms < SAY_MS)
        return;
    s->said_ms = now;
    for (uint32_t i = 0; i < status->n_nodes; i++) {
        const struct rg_node_view *v = &status->nodes[i];

        if (v->peer.load_bytes > 0)
            rg_log(RG_LOG_INFO, "serve", "loading",
                   "node=%s loaded_bytes=%" PRIu64 " of_bytes=%" PRIu64 " percent=%.1f", v->id,
                   v->peer.loaded_bytes, v->peer.load_bytes,
                   100.0 * (double)v->peer.loaded_bytes / (double)v->peer.load_bytes);
    }
}

static void on_change(void *ud)
{
    struct rg_ring_serve *s = ud;
    struct rg_node_status *status = &s->health.status;

    if (s->closing)
        return;
    rg_node_status(s->node, status);
    if (s->llm && s->llm->engine && status->state != s->engine_saw) {
        s->engine_saw = status->state;
        rg_engine_wake(s->llm->engine);
    }
    rg_api_set_progress(s->api, status->state >= RG_EPOCH_READY ? 1.0 : status->loaded);
    rg_ring_health_count(&s->health, s->llm ? s->llm->engine : NULL);
    if (rg_node_is_head(s->node))
        say_progress(s, status);
}

static void on_hopeless(void *ud, const struct rg_err *why)
{
    fail(ud, why);
}

/* ---- forwarding ------------------------------------------------------------------------------ */

static enum rg_code forward_begin(void *ud, void **request, const void *p, size_t n,
                                  const struct rg_api_forward_events *events, void *events_ud,
                                  struct rg_err *err)
{
    struct rg_ring_serve *s = ud;
    const struct rg_forward_events to = {.on_bytes = events->on_bytes, .on_end = events->on_end};
    struct rg_forward *forward = NULL;
    const enum rg_code code = rg_node_forward(s->node, &forward, p, n, &to, events_ud, err);

    *request = forward;
    return code;
}

static void forward_pause(void *request, bool paused)
{
    rg_forward_pause(request, paused);
}

static void forward_cancel(void *request)
{
    rg_forward_cancel(request);
}

/* ---- opening the files ----------------------------------------------------------------------- */

static enum rg_code open_headers(struct rg_ring_serve *s)
{
    const struct rg_checkpoint_options options = {.headers_only = true, .may_lack = true};
    char *dir, *name;
    enum rg_code code =
        rg_checkpoint_resolve(&dir, &name, s->options.model, s->options.registry, &s->err);

    if (code)
        return code;
    code = rg_checkpoint_open(&s->checkpoint, dir, &options, &s->err);
    rg_free(dir);
    rg_free(name);
    return code;
}

/* On a worker thread. */
static void open_files(uv_work_t *work)
{
    struct rg_ring_serve *s = work->data;
    const bool head = rg_node_is_head(s->node);

    s->code = head ? rg_llm_open_text(&s->llm, &s->options, &s->err) : open_headers(s);
    if (!s->code)
        s->code = rg_model_card_make(&s->card, head ? s->llm->checkpoint : s->checkpoint, &s->stop,
                                     &s->err);
}

static void close_node(struct rg_ring_serve *s);

static enum rg_code begin(struct rg_ring_serve *s)
{
    const bool head = rg_node_is_head(s->node);
    const uint32_t chunk = s->options.chunk_rows;
    const struct rg_node_model model = {.checkpoint = head ? s->llm->checkpoint : s->checkpoint,
                                        .card = &s->card,
                                        .context = head ? s->llm->context : 0,
                                        .parallel = head ? s->llm->parallel : 0,
                                        .chunk_rows = chunk > 0 ? chunk : CHUNK_DEFAULT,
                                        .context_asked = s->options.context > 0};
    const struct rg_api_forwarder forwarder = {.begin = forward_begin,
                                               .pause = forward_pause,
                                               .cancel = forward_cancel,
                                               .ud = s};

    if (head)
        rg_node_set_api(s->node, s->api_host, rg_api_port(s->api));
    else
        rg_api_set_forwarder(s->api, &forwarder);
    return rg_node_begin(s->node, &model, &s->err);
}

static void on_files_opened(uv_work_t *work, int status)
{
    struct rg_ring_serve *s = work->data;

    (void)status;
    s->opening = false;
    if (s->closing) {
        close_node(s);
        return;
    }
    if (!s->code)
        s->code = begin(s);
    if (s->code)
        fail(s, &s->err);
}

/* ---- opening and closing --------------------------------------------------------------------- */

static void on_node_closed(void *ud)
{
    struct rg_ring_serve *s = ud;
    void (*on_closed)(void *) = s->on_closed;
    void *closed_ud = s->closed_ud;

    rg_checkpoint_close(s->checkpoint);
    rg_llm_close(s->llm);
    rg_model_card_free(&s->card);
    rg_free(s);
    on_closed(closed_ud);
}

/* The engine goes before the ring that it runs on, the rest of the llm after it: the node borrows
 * its checkpoint. */
static void close_node(struct rg_ring_serve *s)
{
    rg_node_halt(s->node);
    if (s->llm) {
        rg_engine_close(s->llm->engine);
        s->llm->engine = NULL;
    }
    rg_node_close(s->node);
}

static void on_rested(uv_handle_t *handle)
{
    close_node(handle->data);
}

/* Ends the worker when no node of its ring has computed anything for a while. */
static void on_rest(uv_timer_t *timer)
{
    struct rg_ring_serve *s = timer->data;
    struct rg_node_status *status = &s->health.status;
    const int64_t now = rg_clock_ms();

    rg_node_status(s->node, status);
    for (uint32_t i = 0; i < status->n_nodes; i++)
        if (status->nodes[i].peer.busy)
            s->rest_busy_ms = now;
    if (status->ring.steps != s->rest_steps)
        s->rest_busy_ms = now;
    s->rest_steps = status->ring.steps;
    if (status->state != RG_EPOCH_RUNNING || now - s->rest_busy_ms >= REST_QUIET_MS ||
        now >= s->rest_until_ms)
        uv_close((uv_handle_t *)timer, on_rested);
}

void rg_ring_serve_close(struct rg_ring_serve *s, int64_t patience_ms, void (*on_closed)(void *ud),
                         void *ud)
{
    s->closing = true;
    s->on_closed = on_closed;
    s->closed_ud = ud;
    rg_load_progress_end(&s->progress);
    atomic_store(&s->stop, true);
    if (s->opening)
        return;
    if (rg_node_is_head(s->node) || patience_ms <= 0 || uv_timer_init(s->loop, &s->rest) != 0) {
        close_node(s);
        return;
    }
    s->rest.data = s;
    s->rest_busy_ms = rg_clock_ms();
    s->rest_until_ms = s->rest_busy_ms + patience_ms;
    (void)uv_timer_start(&s->rest, on_rest, 0, REST_TURN_MS);
}

void rg_ring_serve_hurry(struct rg_ring_serve *s)
{
    s->rest_until_ms = 0;
}

enum rg_code rg_ring_serve_open(struct rg_ring_serve **out, uv_loop_t *loop, struct rg_api *api,
                                const struct rg_options *o, const struct rg_llm_options *llm,
                                rg_ring_serve_failed_fn *on_failed, void *ud, struct rg_err *err)
{
    static const struct rg_node_events events = {.on_formed = on_formed,
                                                 .on_change = on_change,
                                                 .on_hopeless = on_hopeless,
                                                 .on_closed = on_node_closed};
    struct rg_ring_serve *s = rg_calloc(1, sizeof *s);
    struct rg_node_options node;
    enum rg_code code;

    if (!s)
        return rg_fail(err, RG_E_NOMEM, "out of memory: serve");
    s->loop = loop;
    s->api = api;
    s->options = *llm;
    s->api_host = o->api_host;
    s->node_timeout_ms = o->node_timeout_s * 1000;
    s->on_failed = on_failed;
    s->ud = ud;
    s->work.data = s;
    code = rg_node_options_from_flags(&node, o, llm, err);
    if (!code)
        code = rg_node_open(&s->node, loop, &node, &events, s, err);
    if (code) {
        rg_free(s);
        return code;
    }
    s->health.node = s->node;
    rg_api_set_nodes(api, rg_ring_health_print, &s->health);
    rg_load_progress_begin(&s->progress);
    s->opening = true;
    uv_queue_work(loop, &s->work, open_files, on_files_opened);
    *out = s;
    return RG_OK;
}
