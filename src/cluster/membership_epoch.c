/* membership_epoch.c - what both roles know of an epoch: its age, plan, beginning and end. */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cluster/membership_core.h"

bool rg_member_is_live(const struct rg_membership *m, struct rg_epoch e)
{
    return m->state != RG_EPOCH_NONE && rg_epoch_equal(e, m->plan.epoch);
}

enum rg_epoch_age rg_member_age(const struct rg_membership *m, struct rg_epoch e)
{
    if (rg_member_is_live(m, e))
        return RG_AGE_LIVE;
    return e.boot == m->last.boot && e.n > 0 && e.n <= m->last.n ? RG_AGE_OVER : RG_AGE_UNKNOWN;
}

void rg_member_turn_to(struct rg_membership *m, uint64_t boot)
{
    struct rg_epoch next = {.boot = boot};

    assert(m->state == RG_EPOCH_NONE);
    /* Of two heads that take turns each is remembered. */
    m->before[m->n_before++ % RG_MEMBER_HEADS] = m->last;
    for (uint32_t i = 0; i < RG_MEMBER_HEADS; i++)
        if (m->before[i].boot == boot && m->before[i].n > next.n)
            next.n = m->before[i].n;
    m->last = next;
}

uint32_t rg_member_find(const struct rg_membership *m, const char *id)
{
    for (uint32_t i = 0; i < m->n_peers; i++)
        if (strcmp(m->peers[i].id, id) == 0)
            return i;
    return RG_NO_PEER;
}

static const char *nodes_fault(const struct rg_membership *m, const struct rg_proposal *p)
{
    bool seen[RG_LIMIT_PEERS] = {false};
    uint32_t next = 0;

    for (uint32_t i = 0; i < p->n_nodes; i++) {
        const struct rg_ring_node *n = &p->nodes[i];
        const uint32_t peer = rg_member_find(m, n->id);
        const bool head = i == p->n_nodes - 1;

        if (peer == RG_NO_PEER)
            return "a node that is not in discovery.json";
        if (seen[peer])
            return "a node twice";
        seen[peer] = true;
        if ((peer == 0) != head)
            return "the head is not the last node";
        if (n->n_layers == 0 && !head)
            return "a node without layers";
        if (n->n_layers && n->first_layer != next)
            return "layers that do not follow one another";
        next += n->n_layers;
    }
    if (!seen[0] || !seen[m->self])
        return "a node is missing";
    return next == m->hello.model.n_layers ? NULL : "not all layers";
}

const char *rg_member_plan_fault(const struct rg_membership *m, const struct rg_proposal *p)
{
    const char *fault = nodes_fault(m, p);

    if (fault)
        return fault;
    if (memcmp(&p->model, &m->hello.model.digest, sizeof p->model) != 0)
        return "another model";
    for (uint32_t i = 0; i < p->n_nodes; i++) {
        const struct rg_ring_node *n = &p->nodes[i];

        for (uint32_t k = 0; k < n->n_layers && strcmp(n->id, m->hello.node_id) == 0; k++)
            if (!m->hello.model.layers[n->first_layer + k].there)
                return "a layer that this node does not have";
    }
    return NULL;
}

void rg_member_enter(struct rg_membership *m, enum rg_epoch_state state)
{
    m->state = state;
    m->since_ns = m->now;
}

void rg_member_begin(struct rg_membership *m, const struct rg_proposal *p)
{
    struct rg_member_action *load;

    assert(m->state == RG_EPOCH_NONE);
    assert(p->epoch.boot == m->last.boot && p->epoch.n > m->last.n);
    m->plan = *p;
    m->last = p->epoch;
    m->own_loaded = false;
    m->has_part = true;
    rg_member_enter(m, RG_EPOCH_LOADING);
    load = rg_member_emit(m, RG_MEMBER_LOAD, RG_NO_PEER);
    load->proposal = &m->plan;
    load->epoch = p->epoch;
}

static void send_abort(struct rg_membership *m, uint32_t peer, uint32_t lost, const char *why)
{
    struct rg_abort *a = &rg_member_send(m, peer, RG_MESSAGE_ABORT)->abort;

    a->epoch = m->plan.epoch;
    (void)snprintf(a->reason, sizeof a->reason, "%s", why);
    if (lost != RG_NO_PEER)
        (void)snprintf(a->lost_id, sizeof a->lost_id, "%s", m->peers[lost].id);
}

static void tell(struct rg_membership *m, struct rg_member_end end, const char *why)
{
    for (uint32_t i = 0; i < m->n_peers; i++) {
        const struct rg_member_peer *p = &m->peers[i];
        const bool concerned = m->self == 0 ? p->in_plan : i == 0;

        if (concerned && i != m->self && i != end.source && p->state == RG_PEER_UP)
            send_abort(m, i, end.lost, why);
    }
}

/* The head: when the next plan may be made. */
static void pause_after(struct rg_membership *m)
{
    const bool ran =
        m->state == RG_EPOCH_RUNNING && m->now - m->since_ns >= RG_MEMBER_RAN_MS * RG_NS_PER_MS;
    uint32_t doubled = 0;
    int64_t pause_ms = RG_MEMBER_PAUSE_MS;

    m->fails = ran ? 0 : m->fails + 1;
    while (++doubled < m->fails && pause_ms < RG_MEMBER_PAUSE_MOST_MS)
        pause_ms *= 2;
    if (pause_ms > RG_MEMBER_PAUSE_MOST_MS)
        pause_ms = RG_MEMBER_PAUSE_MOST_MS;
    m->not_before_ns = m->now + (ran ? RG_MEMBER_REST_MS : pause_ms) * RG_NS_PER_MS;
    m->enough_ns = -1;
    if (m->state == RG_EPOCH_RUNNING && m->without_ns < 0)
        m->without_ns = m->now + m->grace_ns;
}

void rg_member_end_epoch(struct rg_membership *m, struct rg_member_end end, const char *format, ...)
{
    char why[RG_REASON_BYTES];
    struct rg_member_action *stop;
    va_list args;

    assert(m->state != RG_EPOCH_NONE);
    va_start(args, format);
    rg_member_vtext(why, sizeof why, format, args);
    va_end(args);
    stop = rg_member_emit(m, RG_MEMBER_STOP, end.lost);
    stop->epoch = m->plan.epoch;
    (void)rg_fail(&stop->err, end.code, "%s", why);
    tell(m, end, why);
    rg_member_say(m, RG_LOG_WARN, end.lost, "plan %llu is over: %s",
                  (unsigned long long)m->plan.epoch.n, why);
    (void)snprintf(m->why, sizeof m->why, "%s", why);
    if (m->self == 0 && end.lost != RG_NO_PEER && m->peers[end.lost].in_plan)
        rg_member_fell(m, end.lost);
    if (m->self == 0)
        pause_after(m);
    rg_member_enter(m, RG_EPOCH_NONE);
    for (uint32_t i = 0; i < m->n_peers; i++)
        m->peers[i].in_plan = m->peers[i].ready = m->peers[i].acked = false;
}
