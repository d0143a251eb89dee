/* message_plan.c - Heartbeat and the messages about epochs: Propose, Ready, Commit, CommitAck,
 * Abort. */
#include <string.h>

#include "base/mem.h"
#include "cluster/message_kinds.h"
#include "cluster/message_wire.h"

#define BLOCKS_MOST (1u << 26)
enum { BLOCK_TOKENS_STEP = 16, BLOCK_TOKENS_MOST = 65536, PARALLEL_MOST = 256 };

/* ---- decoding -------------------------------------------------------------------------------- */

enum rg_code rg_decode_heartbeat(struct rg_message *out, const Renga__V1__ControlMessage *m,
                                 struct rg_err *err)
{
    const Renga__V1__Heartbeat *h = m->heartbeat;
    struct rg_heartbeat *to = &out->heartbeat;
    const struct {
        uint64_t value;
        const char *name;
    } ranged[] = {{h->time_ns, "Heartbeat.time_ns"},
                  {h->echo_time_ns, "Heartbeat.echo_time_ns"},
                  {h->echo_age_ns, "Heartbeat.echo_age_ns"},
                  {h->loaded_bytes, "Heartbeat.loaded_bytes"},
                  {h->load_bytes, "Heartbeat.load_bytes"}};

    *to = (struct rg_heartbeat){.time_ns = h->time_ns,
                                .echo_time_ns = h->echo_time_ns,
                                .echo_age_ns = h->echo_age_ns,
                                .layers_done = h->layers_done,
                                .busy = h->busy,
                                .loaded_bytes = h->loaded_bytes,
                                .load_bytes = h->load_bytes};
    for (size_t i = 0; i < sizeof ranged / sizeof *ranged; i++) {
        const enum rg_code code =
            rg_wire_range(ranged[i].value, 0, INT64_MAX, ranged[i].name, err);

        if (code != RG_OK)
            return code;
    }
    if (h->unreached[0]) {
        const enum rg_code code =
            rg_wire_id(to->unreached, h->unreached, "Heartbeat.unreached", err);

        if (code != RG_OK)
            return code;
    }
    return h->epoch ? rg_wire_epoch(&to->epoch, h->epoch, "Heartbeat.epoch", err) : RG_OK;
}

/* Nodes follow each other without a gap from layer 0; only the last one, the head, may have none.
 */
static enum rg_code decode_nodes(struct rg_proposal *to, const Renga__V1__Propose *p,
                                 struct rg_err *err)
{
    uint32_t next = 0;
    enum rg_code code = rg_wire_range(p->n_nodes, 1, RG_LIMIT_PEERS, "Propose.nodes", err);

    for (size_t i = 0; code == RG_OK && i < p->n_nodes; i++) {
        const Renga__V1__PlanNode *n = p->nodes[i];
        struct rg_ring_node *node = &to->nodes[i];

        code = rg_wire_id(node->id, n->id, "Propose.nodes.id", err);
        for (size_t k = 0; code == RG_OK && k < i; k++)
            if (strcmp(to->nodes[k].id, node->id) == 0)
                code = rg_fail(err, RG_E_BAD_DATA, "Propose.nodes.id: '%s' twice", node->id);
        if (code == RG_OK)
            code = rg_wire_range(n->first_layer, next, next, "Propose.nodes.first_layer", err);
        if (code == RG_OK)
            code = rg_wire_range(n->n_layers, i + 1 < p->n_nodes ? 1 : 0, RG_LIMIT_LAYERS - next,
                                 "Propose.nodes.n_layers", err);
        node->first_layer = n->first_layer;
        node->n_layers = n->n_layers;
        next += code == RG_OK ? n->n_layers : 0;
    }
    to->n_nodes = (uint32_t)p->n_nodes;
    return code == RG_OK ? rg_wire_range(next, 1, RG_LIMIT_LAYERS, "Propose.nodes: layers", err)
                         : code;
}

static enum rg_code decode_sizes(struct rg_proposal *to, const Renga__V1__Propose *p,
                                 struct rg_err *err)
{
    enum rg_code code = rg_wire_range(p->context, 1, RG_LIMIT_CONTEXT, "Propose.context", err);

    if (code == RG_OK)
        code = rg_wire_range(p->parallel, 1, PARALLEL_MOST, "Propose.parallel", err);
    if (code == RG_OK)
        code = rg_wire_range(p->block_tokens, BLOCK_TOKENS_STEP, BLOCK_TOKENS_MOST,
                             "Propose.block_tokens", err);
    if (code == RG_OK && p->block_tokens % BLOCK_TOKENS_STEP != 0)
        code = rg_fail(err, RG_E_BAD_DATA, "Propose.block_tokens: %u is no multiple of %d",
                       p->block_tokens, BLOCK_TOKENS_STEP);
    if (code == RG_OK) /* at least for one whole sequence */
        code = rg_wire_range(p->n_blocks, (p->context - 1) / p->block_tokens + 1, BLOCKS_MOST,
                             "Propose.n_blocks", err);
    if (code == RG_OK)
        code = rg_wire_range(p->max_rows, 1, RG_LIMIT_STEP_ROWS, "Propose.max_rows", err);
    to->context = p->context;
    to->parallel = p->parallel;
    to->n_blocks = p->n_blocks;
    to->block_tokens = p->block_tokens;
    to->max_rows = p->max_rows;
    return code;
}

static enum rg_code decode_proposal(struct rg_proposal *to, const Renga__V1__Propose *p,
                                    struct rg_err *err)
{
    const bool is_f32 = strcmp(p->activations, "f32") == 0;
    enum rg_code code = rg_wire_epoch(&to->epoch, p->epoch, "Propose.epoch", err);

    if (code == RG_OK)
        code = decode_nodes(to, p, err);
    if (code == RG_OK)
        code = decode_sizes(to, p, err);
    if (code == RG_OK && !is_f32 && strcmp(p->activations, "int8") != 0)
        code = rg_fail(err, RG_E_BAD_DATA, "Propose.activations: neither 'int8' nor 'f32'");
    if (code == RG_OK)
        code = rg_wire_digest(&to->model, p->model_digest, "Propose.model_digest", err);
    to->activations_f32 = is_f32;
    return code;
}

enum rg_code rg_decode_propose(struct rg_message *out, const Renga__V1__ControlMessage *m,
                               struct rg_err *err)
{
    enum rg_code code;

    out->propose = rg_calloc(1, sizeof *out->propose);
    if (!out->propose)
        return rg_fail(err, RG_E_NOMEM, "Propose: out of memory");
    code = decode_proposal(out->propose, m->propose, err);
    if (code != RG_OK)
        rg_free(out->propose);
    return code;
}

enum rg_code rg_decode_ready(struct rg_message *out, const Renga__V1__ControlMessage *m,
                             struct rg_err *err)
{
    const Renga__V1__Ready *r = m->ready;
    const enum rg_code code = rg_wire_epoch(&out->ready.epoch, r->epoch, "Ready.epoch", err);

    if (code != RG_OK)
        return code;
    return rg_wire_failure(&out->ready.code, out->ready.error, r->error_code, r->error, "Ready",
                           err);
}

enum rg_code rg_decode_commit(struct rg_message *out, const Renga__V1__ControlMessage *m,
                              struct rg_err *err)
{
    return rg_wire_epoch(&out->commit, m->commit->epoch, "Commit.epoch", err);
}

enum rg_code rg_decode_commit_ack(struct rg_message *out, const Renga__V1__ControlMessage *m,
                                  struct rg_err *err)
{
    return rg_wire_epoch(&out->commit_ack, m->commit_ack->epoch, "CommitAck.epoch", err);
}

enum rg_code rg_decode_abort(struct rg_message *out, const Renga__V1__ControlMessage *m,
                             struct rg_err *err)
{
    const Renga__V1__Abort *a = m->abort;
    const enum rg_code code = rg_wire_epoch(&out->abort.epoch, a->epoch, "Abort.epoch", err);

    if (code != RG_OK)
        return code;
    if (a->reason[0] == '\0')
        return rg_fail(err, RG_E_BAD_DATA, "Abort.reason: absent");
    rg_wire_text(out->abort.reason, sizeof out->abort.reason, a->reason);
    out->abort.lost_id[0] = '\0';
    return a->lost_id[0] ? rg_wire_id(out->abort.lost_id, a->lost_id, "Abort.lost_id", err)
                         : RG_OK;
}

/* ---- encoding -------------------------------------------------------------------------------- */

static Renga__V1__Epoch pack_epoch(struct rg_epoch e)
{
    Renga__V1__Epoch to = RENGA__V1__EPOCH__INIT;

    to.boot = e.boot;
    to.n = e.n;
    return to;
}

enum rg_code rg_encode_heartbeat(struct rg_buf *out, const struct rg_message *m, struct rg_err *err)
{
    struct rg_heartbeat copy = m->heartbeat;
    const struct rg_heartbeat *h = &copy;
    Renga__V1__Epoch epoch = pack_epoch(h->epoch);
    Renga__V1__Heartbeat to = RENGA__V1__HEARTBEAT__INIT;
    Renga__V1__ControlMessage all = RENGA__V1__CONTROL_MESSAGE__INIT;

    to.time_ns = h->time_ns;
    to.echo_time_ns = h->echo_time_ns;
    to.echo_age_ns = h->echo_age_ns;
    to.layers_done = h->layers_done;
    to.busy = h->busy;
    to.epoch = h->epoch.n ? &epoch : NULL;
    to.loaded_bytes = h->loaded_bytes;
    to.load_bytes = h->load_bytes;
    to.unreached = copy.unreached;
    all.kind_case = RENGA__V1__CONTROL_MESSAGE__KIND_HEARTBEAT;
    all.heartbeat = &to;
    return rg_wire_pack(out, &all.base, RG_LIMIT_CONTROL_BYTES, err);
}

enum rg_code rg_encode_propose(struct rg_buf *out, const struct rg_message *m, struct rg_err *err)
{
    struct rg_proposal *p = m->propose;
    Renga__V1__Epoch epoch = pack_epoch(p->epoch);
    Renga__V1__PlanNode nodes[RG_LIMIT_PEERS];
    Renga__V1__PlanNode *list[RG_LIMIT_PEERS];
    Renga__V1__Propose to = RENGA__V1__PROPOSE__INIT;
    Renga__V1__ControlMessage all = RENGA__V1__CONTROL_MESSAGE__INIT;
    char activations[2][5] = {"int8", "f32"};

    for (uint32_t i = 0; i < p->n_nodes; i++) {
        renga__v1__plan_node__init(&nodes[i]);
        nodes[i].id = p->nodes[i].id;
        nodes[i].first_layer = p->nodes[i].first_layer;
        nodes[i].n_layers = p->nodes[i].n_layers;
        list[i] = &nodes[i];
    }
    to.epoch = &epoch;
    to.n_nodes = p->n_nodes;
    to.nodes = list;
    to.context = p->context;
    to.parallel = p->parallel;
    to.n_blocks = p->n_blocks;
    to.block_tokens = p->block_tokens;
    to.max_rows = p->max_rows;
    to.activations = activations[p->activations_f32];
    to.model_digest.len = RG_DIGEST_BYTES;
    to.model_digest.data = p->model.bytes;
    all.kind_case = RENGA__V1__CONTROL_MESSAGE__KIND_PROPOSE;
    all.propose = &to;
    return rg_wire_pack(out, &all.base, RG_LIMIT_CONTROL_BYTES, err);
}

enum rg_code rg_encode_ready(struct rg_buf *out, const struct rg_message *m, struct rg_err *err)
{
    Renga__V1__Epoch epoch = pack_epoch(m->ready.epoch);
    Renga__V1__Ready to = RENGA__V1__READY__INIT;
    Renga__V1__ControlMessage all = RENGA__V1__CONTROL_MESSAGE__INIT;
    char error[RG_REASON_BYTES];

    rg_wire_reason(error, m->ready.error, m->ready.code != RG_OK);
    to.epoch = &epoch;
    to.error = error;
    to.error_code = (uint32_t)m->ready.code;
    all.kind_case = RENGA__V1__CONTROL_MESSAGE__KIND_READY;
    all.ready = &to;
    return rg_wire_pack(out, &all.base, RG_LIMIT_CONTROL_BYTES, err);
}

enum rg_code rg_encode_commit(struct rg_buf *out, const struct rg_message *m, struct rg_err *err)
{
    Renga__V1__Epoch epoch = pack_epoch(m->commit);
    Renga__V1__Commit to = RENGA__V1__COMMIT__INIT;
    Renga__V1__ControlMessage all = RENGA__V1__CONTROL_MESSAGE__INIT;

    to.epoch = &epoch;
    all.kind_case = RENGA__V1__CONTROL_MESSAGE__KIND_COMMIT;
    all.commit = &to;
    return rg_wire_pack(out, &all.base, RG_LIMIT_CONTROL_BYTES, err);
}

enum rg_code rg_encode_commit_ack(struct rg_buf *out, const struct rg_message *m,
                                  struct rg_err *err)
{
    Renga__V1__Epoch epoch = pack_epoch(m->commit_ack);
    Renga__V1__CommitAck to = RENGA__V1__COMMIT_ACK__INIT;
    Renga__V1__ControlMessage all = RENGA__V1__CONTROL_MESSAGE__INIT;

    to.epoch = &epoch;
    all.kind_case = RENGA__V1__CONTROL_MESSAGE__KIND_COMMIT_ACK;
    all.commit_ack = &to;
    return rg_wire_pack(out, &all.base, RG_LIMIT_CONTROL_BYTES, err);
}

enum rg_code rg_encode_abort(struct rg_buf *out, const struct rg_message *m, struct rg_err *err)
{
    struct rg_abort a = m->abort;
    Renga__V1__Epoch epoch = pack_epoch(a.epoch);
    Renga__V1__Abort to = RENGA__V1__ABORT__INIT;
    Renga__V1__ControlMessage all = RENGA__V1__CONTROL_MESSAGE__INIT;

    rg_wire_reason(a.reason, m->abort.reason, true);
    to.epoch = &epoch;
    to.reason = a.reason;
    to.lost_id = a.lost_id;
    all.kind_case = RENGA__V1__CONTROL_MESSAGE__KIND_ABORT;
    all.abort = &to;
    return rg_wire_pack(out, &all.base, RG_LIMIT_CONTROL_BYTES, err);
}
