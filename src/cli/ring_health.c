/* ring_health.c - the nodes of a ring as members of a JSON object. */
#include "cli/ring_health.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/utf8.h"

static const int64_t second_ns = 1000000000;

void rg_ring_health_count(struct rg_ring_health *h, struct rg_engine *engine)
{
    const int64_t now = rg_clock_ns();
    struct rg_engine_stats *stats = &h->engine;

    h->has_engine = engine != NULL;
    if (!engine)
        return;
    rg_engine_stats(engine, stats);
    if (now - h->counted_ns < second_ns)
        return;
    if (h->counted_ns > 0)
        h->tokens_per_s = (double)(stats->generated_tokens - h->counted_tokens) /
                          ((double)(now - h->counted_ns) / 1e9);
    h->counted_ns = now;
    h->counted_tokens = stats->generated_tokens;
}

static const char *state_name(enum rg_peer_state s)
{
    switch (s) {
    case RG_PEER_GREETING:
        return "greeting";
    case RG_PEER_UP:
        return "up";
    case RG_PEER_REFUSED:
        return "refused";
    default:
        return "down";
    }
}

static const char *epoch_name(enum rg_epoch_state s)
{
    switch (s) {
    case RG_EPOCH_LOADING:
        return "loading";
    case RG_EPOCH_READY:
        return "ready";
    case RG_EPOCH_RUNNING:
        return "running";
    default:
        return "none";
    }
}

static enum rg_code text(struct rg_buf *b, const char *name, const char *value, struct rg_err *err)
{
    struct rg_buf repaired; /* a reason may quote bytes of a peer */
    enum rg_code code;

    rg_buf_init(&repaired, 4 * RG_ERR_BYTES);
    code = rg_utf8_repair(&repaired, value, strlen(value), err);
    if (!code)
        code = rg_buf_addf(b, err, "\"%s\":", name);
    if (!code)
        code = rg_json_print_string(b, repaired.data ? repaired.data : "", repaired.len, err);
    rg_buf_free(&repaired);
    return code;
}

static enum rg_code print_range(struct rg_buf *b, const struct rg_node_view *v, struct rg_err *err)
{
    if (!v->has_part || v->n_layers == 0)
        return rg_buf_add_str(b, ",\"first_layer\":null,\"last_layer\":null", err);
    return rg_buf_addf(b, err, ",\"first_layer\":%u,\"last_layer\":%u", v->first_layer,
                       v->first_layer + v->n_layers - 1);
}

static enum rg_code print_node(struct rg_buf *b, const struct rg_node_view *v, struct rg_err *err)
{
    const struct rg_peer_view *p = &v->peer;
    const double share =
        p->load_bytes > 0 ? (double)p->loaded_bytes / (double)p->load_bytes : p->ready ? 1 : 0;
    enum rg_code code = rg_buf_add_str(b, "{", err);

    if (!code)
        code = text(b, "id", v->id, err);
    if (!code)
        code = rg_buf_addf(b, err, ",\"head\":%s,\"self\":%s,", v->head ? "true" : "false",
                           v->self ? "true" : "false");
    if (!code)
        code = text(b, "address", v->address, err);
    if (!code)
        code = rg_buf_addf(b, err, ",\"port\":%u,\"state\":\"%s\",", v->port, state_name(p->state));
    if (!code)
        code = text(b, "reason", p->reason, err);
    if (!code)
        code = print_range(b, v, err);
    if (!code)
        code = rg_buf_addf(b, err,
                           ",\"loaded_bytes\":%" PRIu64 ",\"load_bytes\":%" PRIu64
                           ",\"progress\":%.4f,\"rtt_ms\":%.3f,\"ready\":%s,\"busy\":%s"
                           ",\"layers_done\":%" PRIu64 ",\"memory_bytes\":%" PRIu64
                           ",\"claimed_bytes\":%" PRIu64 ",",
                           p->loaded_bytes, p->load_bytes, share, (double)p->rtt_ns / 1e6,
                           p->ready ? "true" : "false", p->busy ? "true" : "false", p->layers_done,
                           p->memory_bytes, p->claimed_bytes);
    if (!code)
        code = text(b, "build", p->build, err);
    return code ? code : rg_buf_add_str(b, "}", err);
}

/* What a head's engine holds: requests, and blocks of the KV cache, as of its last change. */
static enum rg_code print_engine(struct rg_buf *b, const struct rg_ring_health *h,
                                 struct rg_err *err)
{
    const struct rg_engine_stats *e = &h->engine;

    if (!h->has_engine)
        return RG_OK;
    return rg_buf_addf(b, err,
                       ",\"requests\":{\"running\":%" PRIu32 ",\"waiting\":%" PRIu32
                       "},\"kv_blocks\":{\"used\":%" PRIu32 ",\"total\":%" PRIu32 "}",
                       e->running, e->waiting, e->blocks_used, e->blocks_total);
}

enum rg_code rg_ring_health_print(void *ud, struct rg_buf *json, char *reason, size_t reason_size,
                                  struct rg_err *err)
{
    struct rg_ring_health *h = ud;
    const struct rg_node_status *s = &h->status;
    enum rg_code code;

    rg_node_status(h->node, &h->status);
    (void)snprintf(reason, reason_size, "%s", s->reason);
    code = rg_buf_addf(json, err, ",\"role\":\"%s\",",
                       rg_node_is_head(h->node) ? "head" : "worker");
    if (!code)
        code = text(json, "node", rg_node_id(h->node), err);
    if (!code)
        code = rg_buf_add_str(json, ",", err);
    if (!code)
        code = text(json, "head", rg_node_head_id(h->node), err);
    if (!code)
        code = rg_buf_addf(json, err,
                           ",\"epoch\":{\"boot\":\"%016" PRIx64 "\",\"n\":%" PRIu64
                           "},\"epoch_state\":\"%s\",\"epoch_changes\":%" PRIu64
                           ",\"tokens_per_s\":%.2f",
                           s->epoch.boot, s->epoch.n, epoch_name(s->state), s->epoch_changes,
                           h->tokens_per_s);
    if (!code)
        code = print_engine(json, h, err);
    if (!code)
        code = rg_buf_add_str(json, ",\"nodes\":[", err);
    for (uint32_t i = 0; i < s->n_nodes && !code; i++) {
        if (i > 0)
            code = rg_buf_add_str(json, ",", err);
        if (!code)
            code = print_node(json, &s->nodes[i], err);
    }
    return code ? code : rg_buf_add_str(json, "]", err);
}
