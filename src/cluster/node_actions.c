/* node_actions.c - an event goes to the membership, and what it asks for is done. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "cluster/node_state.h"

enum { SAY_AGAIN_MS = 60000 };

/* A line about a peer is said once, and again after a minute. */
static void say(struct rg_node *n, const struct rg_member_action *a)
{
    struct rg_node_peer *p = a->peer < n->discovery.n ? &n->peers[a->peer] : NULL;
    const int64_t now = rg_clock_ms();

    if (p && strcmp(p->said, a->err.message) == 0 && now - p->said_ms < SAY_AGAIN_MS)
        return;
    if (p) {
        (void)snprintf(p->said, sizeof p->said, "%s", a->err.message);
        p->said_ms = now;
    }
    rg_log((enum rg_log_level)a->level, "cluster", a->err.message, "%s%s", p ? "peer=" : "",
           p ? n->discovery.peers[a->peer].id : "");
}

/* The neighbours of this node in the ring of a proposal; a ring of one has none. */
static void find_neighbours(const struct rg_node *n, const struct rg_proposal *p,
                            struct rg_ring_epoch *e)
{
    const struct rg_ring_node *own = rg_node_own(n, p);
    const uint32_t at = (uint32_t)(own - p->nodes);
    const struct rg_ring_node *next = &p->nodes[(at + 1) % p->n_nodes];
    const struct rg_ring_node *previous = &p->nodes[(at + p->n_nodes - 1) % p->n_nodes];
    const int32_t number = rg_discovery_find(&n->discovery, next->id);

    if (p->n_nodes < 2)
        return;
    (void)snprintf(e->next_id, sizeof e->next_id, "%s", next->id);
    (void)snprintf(e->previous_id, sizeof e->previous_id, "%s", previous->id);
    if (number >= 0) {
        e->next_address = n->discovery.peers[number].address;
        e->next_port = n->discovery.peers[number].port;
    }
}

static void connect_ring(struct rg_node *n, const struct rg_proposal *p)
{
    struct rg_ring_epoch e = {.epoch = p->epoch};
    struct rg_err err = {0};
    enum rg_code code = RG_OK;

    rg_node_limits(n, p, &e.limits);
    for (uint32_t i = 0; i < p->n_nodes; i++)
        e.stages += p->nodes[i].n_layers > 0 || i + 1 == p->n_nodes;
    find_neighbours(n, p, &e);
    if (p->n_nodes > 1 && !e.next_address)
        code = rg_fail(&err, RG_E_PEER, "node %s, which would come after this one, is not in %s",
                       e.next_id, n->discovery_path);
    if (!code)
        code = rg_ring_prepare(n->ring, n->transport, &e, &err);
    if (code)
        rg_node_note(n, RG_NOTE_RING_DOWN, NULL, NULL, p->epoch, &err);
}

static void load(struct rg_node *n, const struct rg_proposal *p)
{
    const struct rg_err why = {.code = RG_E_PEER, .message = "a new plan is being loaded"};
    const struct rg_ring_node *own = rg_node_own(n, p);

    rg_ring_stop(n->ring, &why);
    n->epoch_changes++;
    rg_log(RG_LOG_INFO, "cluster", "loading",
           "epoch=%016" PRIx64 ".%" PRIu64 " first_layer=%u layers=%u nodes=%u", p->epoch.boot,
           p->epoch.n, own ? own->first_layer : 0, own ? own->n_layers : 0, p->n_nodes);
    rg_node_load(n, p);
    if (own)
        connect_ring(n, p);
}

/* The head's engine gets its pipeline when the first plan runs. */
static enum rg_code form(struct rg_node *n, struct rg_err *err)
{
    const struct rg_proposal *p = rg_membership_proposal(n->membership);
    enum rg_code code;

    if (n->formed || !n->is_head)
        return RG_OK;
    code = rg_ring_pipeline(n->ring, &n->pipeline, p->n_blocks, p->block_tokens, err);
    if (code)
        return code;
    n->formed = true;
    n->context = p->context;
    n->parallel = p->parallel;
    return RG_OK;
}

static void start(struct rg_node *n, struct rg_epoch epoch)
{
    const bool first = !n->formed && n->is_head;
    struct rg_err err = {0};
    enum rg_code code = form(n, &err);

    if (!code)
        code = rg_ring_start(n->ring, epoch, &err);
    if (code) {
        rg_node_note(n, RG_NOTE_RING_DOWN, NULL, NULL, epoch, &err);
        return;
    }
    rg_log(RG_LOG_INFO, "cluster", "the ring serves", "epoch=%016" PRIx64 ".%" PRIu64, epoch.boot,
           epoch.n);
    if (first)
        n->events.on_formed(n->ud, n->pipeline, n->context, n->parallel);
}

static void stop(struct rg_node *n, const struct rg_member_action *a)
{
    rg_ring_stop(n->ring, &a->err);
    rg_node_load_stop(n);
    /* A worker waits for a better plan; a head that once served waits for better nodes. */
    if (n->is_head && !n->formed && (a->err.code == RG_E_FIT || a->err.code == RG_E_USAGE))
        n->events.on_hopeless(n->ud, &a->err);
}

static void act(struct rg_node *n, const struct rg_member_action *a)
{
    switch (a->kind) {
    case RG_MEMBER_SEND:
        rg_node_send(n, a->peer, &a->message);
        break;
    case RG_MEMBER_DROP:
        rg_node_drop(n, a->peer, a->err.message);
        break;
    case RG_MEMBER_LOAD:
        load(n, a->proposal);
        break;
    case RG_MEMBER_START:
        start(n, a->epoch);
        break;
    case RG_MEMBER_STOP:
        stop(n, a);
        break;
    case RG_MEMBER_FREE:
        rg_node_free_part(n);
        break;
    case RG_MEMBER_SAY:
        say(n, a);
        break;
    }
}

/* Memory was short, and the event counts as not seen.  A link says so by its silence; what happens
 * once is told again. */
static void miss(struct rg_node *n, const struct rg_member_event *event)
{
    switch (event->kind) {
    case RG_MEMBER_MESSAGE:
    case RG_MEMBER_LINK_UP:
        rg_node_drop(n, event->peer, "out of memory");
        break;
    case RG_MEMBER_LOADED:
    case RG_MEMBER_LOAD_FAILED:
    case RG_MEMBER_RING_DOWN:
        n->missed = *event;
        n->has_missed = true;
        if (event->err)
            n->missed_err = *event->err;
        break;
    default:
        break;
    }
}

void rg_node_tell_missed(struct rg_node *n)
{
    struct rg_member_event event = n->missed;
    const struct rg_err err = n->missed_err;

    if (!n->has_missed)
        return;
    n->has_missed = false;
    event.err = &err;
    rg_node_event(n, &event);
}

void rg_node_event(struct rg_node *n, const struct rg_member_event *event)
{
    struct rg_member_actions actions = {0};
    struct rg_err err = {0};
    char reason[RG_ERR_BYTES];

    if (!n->membership || n->closing)
        return;
    if (rg_membership_step(n->membership, rg_clock_ns(), event, &actions, &err)) {
        rg_log(RG_LOG_ERROR, "cluster", err.message, "event=%d", (int)event->kind);
        miss(n, event);
    }
    for (size_t i = 0; i < actions.n && !n->closing; i++)
        act(n, &actions.items[i]);
    if (actions.n > 0 && !n->closing) {
        rg_membership_reason(n->membership, reason, sizeof reason);
        rg_ring_set_reason(n->ring, reason);
        n->events.on_change(n->ud);
    }
    rg_member_actions_free(&actions);
}
