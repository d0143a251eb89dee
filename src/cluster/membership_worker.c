/* membership_worker.c - a worker: loads what the head proposes, and runs what it commits. */
#include <stdio.h>
#include <string.h>

#include "cluster/membership_core.h"

static const struct rg_member_end by_head = {RG_E_PEER, RG_NO_PEER, 0};

void rg_member_worker_loaded(struct rg_membership *m)
{
    if (m->state != RG_EPOCH_LOADING)
        return;
    rg_member_send(m, 0, RG_MESSAGE_READY)->ready.epoch = m->plan.epoch;
    rg_member_enter(m, RG_EPOCH_READY);
}

static uint32_t own_place(const struct rg_proposal *p, const char *id)
{
    uint32_t own = 0;

    while (strcmp(p->nodes[own].id, id) != 0)
        own++;
    return own;
}

static uint32_t successor(const struct rg_membership *m)
{
    const struct rg_proposal *p = &m->plan;

    return rg_member_find(m, p->nodes[(own_place(p, m->hello.node_id) + 1) % p->n_nodes].id);
}

void rg_member_worker_load_failed(struct rg_membership *m, const struct rg_err *err)
{
    const struct rg_epoch epoch = m->plan.epoch;
    struct rg_ready *r;

    if (err->code == RG_E_PEER)
        rg_member_miss(m, successor(m));
    /* The Ready says it: no Abort beside it. */
    rg_member_end_epoch(m, (struct rg_member_end){err->code, RG_NO_PEER, 0}, "%s", err->message);
    r = &rg_member_send(m, 0, RG_MESSAGE_READY)->ready;
    r->epoch = epoch;
    r->code = err->code;
    rg_member_text(r->error, sizeof r->error, "%s", err->message);
}

/* The nodes that steps come from and go to. */
static bool is_neighbour(const struct rg_membership *m, uint32_t peer)
{
    const struct rg_proposal *p = &m->plan;
    const uint32_t own = own_place(p, m->hello.node_id);

    return strcmp(p->nodes[(own + 1) % p->n_nodes].id, m->peers[peer].id) == 0 ||
           strcmp(p->nodes[(own + p->n_nodes - 1) % p->n_nodes].id, m->peers[peer].id) == 0;
}

void rg_member_worker_lost(struct rg_membership *m, uint32_t peer, const char *why)
{
    const struct rg_member_end end = {RG_E_PEER, peer, peer};

    if (m->state != RG_EPOCH_NONE && peer != 0 && is_neighbour(m, peer))
        rg_member_miss(m, peer);
    if (m->state != RG_EPOCH_NONE && (peer == 0 || is_neighbour(m, peer)))
        rg_member_end_epoch(m, end, "%s is lost: %s", m->peers[peer].id, why);
    if (peer == 0 && m->has_part) {
        rg_member_emit(m, RG_MEMBER_FREE, RG_NO_PEER);
        m->has_part = false;
    }
}

/* ---- messages -------------------------------------------------------------------------------- */

static void take_propose(struct rg_membership *m, const struct rg_proposal *p)
{
    const char *fault;

    if (p->epoch.boot != m->last.boot) {
        rg_member_end_link(m, 0, "it sent a plan of another process");
        return;
    }
    if (p->epoch.n <= m->last.n) {
        rg_member_end_link(m, 0, "it sent plan %llu after plan %llu",
                           (unsigned long long)p->epoch.n, (unsigned long long)m->last.n);
        return;
    }
    fault = rg_member_plan_fault(m, p);
    if (fault) {
        rg_member_end_link(m, 0, "it sent a bad plan: %s", fault);
        return;
    }
    if (m->state != RG_EPOCH_NONE)
        rg_member_end_epoch(m, by_head, "the head made plan %llu", (unsigned long long)p->epoch.n);
    rg_member_begin(m, p);
}

static void take_commit(struct rg_membership *m, struct rg_epoch epoch)
{
    switch (rg_member_age(m, epoch)) {
    case RG_AGE_OVER:
        return;
    case RG_AGE_UNKNOWN:
        rg_member_end_link(m, 0, "it sent Commit for a plan that it never proposed");
        return;
    case RG_AGE_LIVE:
        break;
    }
    if (m->state != RG_EPOCH_READY) {
        rg_member_end_link(m, 0, "it sent Commit %s",
                           m->state == RG_EPOCH_RUNNING ? "twice" : "before this node was ready");
        return;
    }
    /* Steps may come as soon as the head has the CommitAck. */
    rg_member_emit(m, RG_MEMBER_START, RG_NO_PEER)->epoch = epoch;
    rg_member_send(m, 0, RG_MESSAGE_COMMIT_ACK)->commit_ack = epoch;
    rg_member_enter(m, RG_EPOCH_RUNNING);
    m->why[0] = 0;
    rg_member_say(m, RG_LOG_INFO, RG_NO_PEER, "plan %llu runs", (unsigned long long)epoch.n);
}

static void take_abort(struct rg_membership *m, const struct rg_abort *a)
{
    switch (rg_member_age(m, a->epoch)) {
    case RG_AGE_OVER:
        return;
    case RG_AGE_UNKNOWN:
        rg_member_end_link(m, 0, "it sent Abort for a plan that it never proposed");
        return;
    case RG_AGE_LIVE:
        break;
    }
    rg_member_end_epoch(m, (struct rg_member_end){RG_E_PEER, rg_member_find(m, a->lost_id), 0},
                        "%s", a->reason[0] ? a->reason : "the head ended it");
}

void rg_member_worker_message(struct rg_membership *m, uint32_t peer,
                              const struct rg_message *message)
{
    struct rg_refuse r = {.what = "head"};

    if (message->kind == RG_MESSAGE_PROPOSE && peer != 0) {
        (void)snprintf(r.mine, sizeof r.mine, "%s", m->peers[0].id);
        (void)snprintf(r.yours, sizeof r.yours, "%s", m->peers[peer].id);
        rg_member_refuse(m, peer, &r);
    } else if (peer != 0) {
        rg_member_end_link(m, peer, "it sent %s and is not the head",
                           rg_message_name(message->kind));
    } else if (message->kind == RG_MESSAGE_PROPOSE) {
        take_propose(m, message->propose);
    } else if (message->kind == RG_MESSAGE_COMMIT) {
        take_commit(m, message->commit);
    } else if (message->kind == RG_MESSAGE_ABORT) {
        take_abort(m, &message->abort);
    } else {
        rg_member_end_link(m, peer, "it sent %s to a worker", rg_message_name(message->kind));
    }
}
