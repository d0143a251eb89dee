/* node_status.c - a node as others may see it, and what its API needs of it. */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/host_memory.h"
#include "cluster/node_state.h"

bool rg_node_is_head(const struct rg_node *n)
{
    return n->is_head;
}

const char *rg_node_id(const struct rg_node *n)
{
    return n->discovery.peers[n->self].id;
}

const char *rg_node_head_id(const struct rg_node *n)
{
    return n->discovery.peers[0].id;
}

static void view_self(struct rg_node *n, struct rg_peer_view *v)
{
    *v = (struct rg_peer_view){.state = RG_PEER_UP,
                               .ready = n->load_told,
                               .memory_bytes = n->hello.memory_bytes,
                               .claimed_bytes = n->hello.claimed_bytes};
    if (n->job.running && !n->job.frees) {
        v->loaded_bytes = atomic_load(&n->job.done);
        v->load_bytes = atomic_load(&n->job.total);
    }
    (void)snprintf(v->build, sizeof v->build, "%s", n->hello.build);
}

static void view(struct rg_node *n, uint32_t i, const struct rg_proposal *p,
                 struct rg_node_view *v)
{
    const struct rg_peer_info *info = &n->discovery.peers[i];

    *v = (struct rg_node_view){.id = info->id,
                               .address = info->address,
                               .port = info->port,
                               .head = i == 0,
                               .self = i == n->self};
    if (v->self)
        view_self(n, &v->peer);
    else if (n->membership)
        rg_membership_peer(n->membership, i, rg_clock_ns(), &v->peer);
    for (uint32_t k = 0; p && k < p->n_nodes; k++) {
        if (strcmp(p->nodes[k].id, info->id) != 0)
            continue;
        v->has_part = true;
        v->first_layer = p->nodes[k].first_layer;
        v->n_layers = p->nodes[k].n_layers;
    }
}

/* The share of the bytes that are being loaded, over all nodes that say how many theirs are. */
static double loaded_share(const struct rg_node_status *s)
{
    double done = 0, total = 0;

    for (uint32_t i = 0; i < s->n_nodes; i++) {
        done += (double)s->nodes[i].peer.loaded_bytes;
        total += (double)s->nodes[i].peer.load_bytes;
    }
    return total > 0 ? done / total : 0;
}

void rg_node_status(struct rg_node *n, struct rg_node_status *out)
{
    const struct rg_proposal *p = n->membership ? rg_membership_proposal(n->membership) : NULL;

    *out = (struct rg_node_status){.n_nodes = n->discovery.n, .epoch_changes = n->epoch_changes};
    if (n->membership) {
        out->state = rg_membership_state(n->membership, &out->epoch);
        rg_ring_stats(n->ring, &out->ring);
    }
    for (uint32_t i = 0; i < n->discovery.n; i++)
        view(n, i, p, &out->nodes[i]);
    out->nodes[n->self].peer.layers_done = out->ring.layers_done;
    out->nodes[n->self].peer.busy = out->ring.busy;
    if (out->state != RG_EPOCH_RUNNING && n->membership)
        rg_membership_reason(n->membership, out->reason, sizeof out->reason);
    else if (!n->membership)
        (void)snprintf(out->reason, sizeof out->reason, "the model's files are being looked at");
    out->loaded = loaded_share(out);
}

enum rg_code rg_node_forward(struct rg_node *n, struct rg_forward **out, const void *request,
                             size_t size, const struct rg_forward_events *events, void *ud,
                             struct rg_err *err)
{
    const struct rg_peer_info *head = &n->discovery.peers[0];
    const struct rg_forward_text text = {.p = request, .n = size};
    const struct rg_dial dial = {.kind = RG_LINK_FORWARD,
                                 .address = head->address,
                                 .port = head->port,
                                 .peer_id = head->id};

    *out = NULL;
    if (n->closing)
        return rg_fail(err, RG_E_PEER, "this node is ending");
    return rg_forward_begin(out, n->forwards, n->transport, &dial, &text, events, ud, err);
}

void rg_node_set_api(struct rg_node *n, const char *host, uint16_t port)
{
    rg_forwards_set_api(n->forwards, host, port);
}
