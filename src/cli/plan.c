/* plan.c - the plan of a ring as a table for people or as JSON for programs. */
#include "cli/plan.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "cluster/discovery.h"
#include "cluster/plan_model.h"

enum { OUTPUT_BYTES_MAX = 1 << 20 };

/* What the prediction takes for granted, and says so. */
static const double bandwidth_share = 0.75; /* of a chip's bandwidth that decode reaches */
static const double link_s = 0.00025;       /* one hop of a hidden state over a direct cable */

/* Everything that the output speaks of. */
struct report {
    struct rg_discovery ring;
    struct rg_checkpoint *checkpoint;
    char *name; /* owned */
    struct rg_plan plan;
    double tokens_per_s;      /* 0: no prediction */
    const char *unknown_chip; /* why; NULL: none is unknown */
    struct rg_buf text;
    enum rg_code code; /* of the output */
    struct rg_err *err;
};

#define put(r, ...)                                                                                \
    do {                                                                                           \
        if (!(r)->code)                                                                            \
            (r)->code = rg_buf_addf(&(r)->text, (r)->err, __VA_ARGS__);                            \
    } while (0)

/* ---- making it ------------------------------------------------------------------------------- */

static enum rg_code read_ranges(struct rg_plan_range *ranges, uint32_t *n, const char *layers,
                                const struct report *r, struct rg_err *err)
{
    const char *ids[RG_LIMIT_PEERS];
    enum rg_code code;

    *n = 0;
    if (!layers)
        return RG_OK;
    for (uint32_t i = 0; i < r->ring.n; i++)
        ids[i] = r->ring.peers[i].id;
    code = rg_plan_parse_ranges(ranges, n, layers, err);
    return code ? code
                : rg_plan_check_ranges(ranges, *n, ids, r->ring.n,
                                       r->checkpoint->config.num_hidden_layers, err);
}

static void predict(struct report *r)
{
    double bandwidth[RG_LIMIT_PEERS];

    for (uint32_t i = 0; i < r->plan.n_parts; i++) {
        const int32_t k = rg_discovery_find(&r->ring, r->plan.parts[i].id);
        const char *chip = r->ring.peers[k].chip;

        bandwidth[i] = bandwidth_share * rg_plan_chip_bandwidth(chip);
        if (!(bandwidth[i] > 0) && !r->unknown_chip)
            r->unknown_chip = chip ? chip : "(none given)";
    }
    r->tokens_per_s = rg_plan_tokens_per_s(&r->plan, bandwidth, link_s);
}

static enum rg_code make_plan(struct report *r, const struct rg_options *o, struct rg_err *err)
{
    struct rg_plan_peer peers[RG_LIMIT_PEERS];
    struct rg_plan_range ranges[RG_LIMIT_PEERS];
    struct rg_backend_options backend = {.threads = 0};
    struct rg_plan_request request = {.checkpoint = r->checkpoint,
                                      .context = (uint32_t)o->ctx,
                                      .context_asked = o->ctx > 0,
                                      .parallel = (uint32_t)o->parallel,
                                      .chunk_rows = (uint32_t)o->chunk,
                                      .peers = peers,
                                      .n_peers = r->ring.n,
                                      .ranges = ranges};
    enum rg_code code = rg_backend_options_named(&backend, o->activations, NULL, err);

    if (!code)
        code = read_ranges(ranges, &request.n_ranges, o->layers, r, err);
    if (code)
        return code;
    request.activations = backend.activations;
    for (uint32_t i = 0; i < r->ring.n; i++)
        peers[i] = (struct rg_plan_peer){.id = r->ring.peers[i].id,
                                         .memory_bytes = r->ring.peers[i].memory_bytes,
                                         .head = i == 0};
    return rg_plan_fit_context(&r->plan, &request, err);
}

/* ---- printing it ----------------------------------------------------------------------------- */

/* What a node without a part has: its memory alone. */
static struct rg_plan_part idle_part(const struct rg_peer_info *p)
{
    const uint64_t usable = p->memory_bytes - p->memory_bytes / 10;
    struct rg_plan_part part = {.memory_bytes = usable, .headroom_bytes = (int64_t)usable};

    (void)snprintf(part.id, sizeof part.id, "%s", p->id);
    return part;
}

static bool has_part(const struct rg_plan *plan, const char *id)
{
    for (uint32_t i = 0; i < plan->n_parts; i++)
        if (strcmp(plan->parts[i].id, id) == 0)
            return true;
    return false;
}

/* Calls `print` for the parts in the order of the ring, then for the nodes that have none. */
static void for_each_node(struct report *r,
                          void (*print)(struct report *r, const struct rg_plan_part *part))
{
    for (uint32_t i = 0; i < r->plan.n_parts; i++)
        print(r, &r->plan.parts[i]);
    for (uint32_t i = 0; i < r->ring.n; i++) {
        const struct rg_plan_part idle = idle_part(&r->ring.peers[i]);

        if (!has_part(&r->plan, idle.id))
            print(r, &idle);
    }
}

static void put_json_node(struct report *r, const struct rg_plan_part *p)
{
    put(r, "%s{\"id\":\"%s\",\"head\":%s,", r->text.data[r->text.len - 1] == '[' ? "" : ",", p->id,
        p->head ? "true" : "false");
    if (p->n_layers > 0)
        put(r, "\"first_layer\":%" PRIu32 ",\"last_layer\":%" PRIu32, p->first_layer,
            p->first_layer + p->n_layers - 1);
    else
        put(r, "\"first_layer\":null,\"last_layer\":null");
    put(r,
        ",\"weight_bytes\":%" PRIu64 ",\"kv_bytes\":%" PRIu64 ",\"reserve_bytes\":%" PRIu64
        ",\"memory_bytes\":%" PRIu64 ",\"headroom_bytes\":%" PRId64 "}",
        p->weight_bytes, p->kv_bytes, p->reserve_bytes, p->memory_bytes, p->headroom_bytes);
}

static void put_json(struct report *r)
{
    put(r,
        "{\"schema\":\"renga.plan/1\",\"fits\":%s,\"context\":%" PRIu32 ",\"parallel\":%" PRIu32
        ",\"nodes\":[",
        r->plan.fits ? "true" : "false", r->plan.context, r->plan.parallel);
    if (!r->code)
        for_each_node(r, put_json_node);
    put(r, "],\"predicted\":{\"tokens_per_s\":");
    if (r->tokens_per_s > 0)
        put(r, "%.4g}}\n", r->tokens_per_s);
    else
        put(r, "null}}\n");
}

static void put_row(struct report *r, const struct rg_plan_part *p)
{
    char layers[32] = "-";

    if (p->n_layers > 0)
        (void)snprintf(layers, sizeof layers, "%" PRIu32 "-%" PRIu32, p->first_layer,
                       p->first_layer + p->n_layers - 1);
    put(r, "%-28s %-9s %9.2f %9.2f %9.2f %9.2f %9.2f\n", p->id, layers,
        (double)p->weight_bytes / 1e9, (double)p->kv_bytes / 1e9, (double)p->reserve_bytes / 1e9,
        (double)p->memory_bytes / 1e9, (double)p->headroom_bytes / 1e9);
}

static void put_table(struct report *r)
{
    const struct rg_checkpoint *c = r->checkpoint;

    put(r,
        "%.128s: %" PRIu32 " layers, %.2f GB, on %" PRIu32 " of %" PRIu32 " nodes; %" PRIu32
        " sequences of %" PRIu32 " tokens\n\n",
        rg_utf8_valid(r->name, strlen(r->name)) ? r->name : "model", c->config.num_hidden_layers,
        (double)c->total_bytes / 1e9, r->plan.n_parts, r->ring.n, r->plan.parallel,
        r->plan.context);
    put(r, "%-28s %-9s %9s %9s %9s %9s %9s\n", "node (GB)", "layers", "weights", "KV", "reserve",
        "memory", "headroom");
    if (!r->code)
        for_each_node(r, put_row);
    put(r, "\n%s is the head; memory is 0.9 of what discovery.json says.\n", r->ring.peers[0].id);
    if (r->tokens_per_s > 0)
        put(r,
            "Predicted: %.2f tokens/s of one sequence, if each node reads its weights at %.2f of "
            "its chip's memory bandwidth and a hop takes %.2f ms.\n",
            r->tokens_per_s, bandwidth_share, 1e3 * link_s);
    else
        put(r, "No prediction: the memory bandwidth of the chip %.128s is not known.\n",
            r->unknown_chip ? r->unknown_chip : "");
}

static enum rg_code print(struct report *r, bool json, struct rg_err *err)
{
    rg_buf_init(&r->text, OUTPUT_BYTES_MAX);
    r->err = err;
    predict(r);
    if (json)
        put_json(r);
    else
        put_table(r);
    if (!r->code &&
        (fwrite(r->text.data, 1, r->text.len, stdout) != r->text.len || fflush(stdout) != 0))
        r->code = rg_fail(err, RG_E_IO, "plan: standard output: %s", strerror(errno));
    rg_buf_free(&r->text);
    return r->code;
}

enum rg_code rg_plan_command(const struct rg_options *o, struct rg_err *err)
{
    struct report r = {.code = RG_OK};
    char *dir = NULL;
    enum rg_code code;

    if (!o->discovery)
        return rg_fail(err, RG_E_USAGE,
                       "plan: the nodes are missing: give --discovery-config-path FILE");
    code = rg_discovery_read(&r.ring, o->discovery, err);
    if (!code)
        code = rg_checkpoint_resolve(&dir, &r.name, o->model, o->registry, err);
    if (!code)
        code = rg_checkpoint_open(&r.checkpoint, dir, &rg_checkpoint_headers, err);
    if (!code)
        code = make_plan(&r, o, err);
    if (code == RG_OK || (code == RG_E_FIT && r.plan.n_parts > 0)) {
        struct rg_err print_err = {.code = RG_OK};
        const enum rg_code print_code = print(&r, o->json, &print_err);

        if (!code && print_code)
            code = rg_fail(err, print_code, "%s", print_err.message);
    }
    rg_checkpoint_close(r.checkpoint);
    rg_discovery_free(&r.ring);
    rg_free(r.name);
    rg_free(dir);
    return code;
}
