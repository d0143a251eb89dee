/* membership_head.c - the head: makes plans, and lets one run when every node of it is ready. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "cluster/membership_core.h"

uint32_t rg_member_n_up(const struct rg_membership *m)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < m->n_peers; i++)
        n += i != m->self && rg_member_counts(m, i);
    return n;
}

static bool all_ready(const struct rg_membership *m)
{
    for (uint32_t i = 1; i < m->n_peers; i++)
        if (m->peers[i].in_plan && !m->peers[i].ready)
            return false;
    return m->own_loaded;
}

static bool all_acked(const struct rg_membership *m)
{
    for (uint32_t i = 1; i < m->n_peers; i++)
        if (m->peers[i].in_plan && !m->peers[i].acked)
            return false;
    return true;
}

static void run(struct rg_membership *m)
{
    rg_member_emit(m, RG_MEMBER_START, RG_NO_PEER)->epoch = m->plan.epoch;
    rg_member_enter(m, RG_EPOCH_RUNNING);
    m->why[0] = 0;
    m->without_ns = -1;
    for (uint32_t i = 1; i < m->n_peers; i++)
        m->peers[i].wanted = m->peers[i].wanted || m->peers[i].planned;
    rg_member_say(m, RG_LOG_INFO, RG_NO_PEER, "plan %llu runs on %u nodes",
                  (unsigned long long)m->plan.epoch.n, m->plan.n_nodes);
}

static void go_on(struct rg_membership *m)
{
    if (m->state == RG_EPOCH_LOADING && all_ready(m)) {
        for (uint32_t i = 1; i < m->n_peers; i++)
            if (m->peers[i].in_plan)
                rg_member_send(m, i, RG_MESSAGE_COMMIT)->commit = m->plan.epoch;
        rg_member_enter(m, RG_EPOCH_READY);
    }
    if (m->state == RG_EPOCH_READY && all_acked(m))
        run(m);
}

void rg_member_head_loaded(struct rg_membership *m)
{
    if (m->state != RG_EPOCH_LOADING)
        return;
    m->own_loaded = true;
    go_on(m);
}

void rg_member_head_lost(struct rg_membership *m, uint32_t peer, const char *why)
{
    m->unplanned = 0;
    m->retry_ns = 0;
    if (m->peers[peer].in_plan)
        rg_member_end_epoch(m, (struct rg_member_end){RG_E_PEER, peer, peer}, "%s is lost: %s",
                            m->peers[peer].id, why);
}

/* ---- messages -------------------------------------------------------------------------------- */

static void take_ready(struct rg_membership *m, uint32_t peer, const struct rg_ready *r)
{
    struct rg_member_peer *p = &m->peers[peer];

    if (p->ready) {
        rg_member_end_link(m, peer, "it sent a second Ready for plan %llu",
                           (unsigned long long)r->epoch.n);
    } else if (r->code) {
        rg_member_end_epoch(m, (struct rg_member_end){r->code, RG_NO_PEER, peer}, "%s: %s", p->id,
                            r->error[0] ? r->error : "it could not load its part");
    } else {
        p->ready = true;
        go_on(m);
    }
}

static void take_commit_ack(struct rg_membership *m, uint32_t peer)
{
    struct rg_member_peer *p = &m->peers[peer];

    if (m->state != RG_EPOCH_READY || p->acked) {
        rg_member_end_link(m, peer, "it sent CommitAck %s", p->acked ? "twice" : "before a Commit");
        return;
    }
    p->acked = true;
    go_on(m);
}

static void take_abort(struct rg_membership *m, uint32_t peer, const struct rg_abort *a)
{
    const struct rg_member_end end = {RG_E_PEER, rg_member_find(m, a->lost_id), peer};

    rg_member_end_epoch(m, end, "%s: %s", m->peers[peer].id, a->reason);
}

static struct rg_epoch epoch_of(const struct rg_message *message)
{
    switch (message->kind) {
    case RG_MESSAGE_READY:
        return message->ready.epoch;
    case RG_MESSAGE_COMMIT_ACK:
        return message->commit_ack;
    default:
        assert(message->kind == RG_MESSAGE_ABORT);
        return message->abort.epoch;
    }
}

void rg_member_head_message(struct rg_membership *m, uint32_t peer,
                            const struct rg_message *message)
{
    struct rg_refuse r = {.what = "head"};
    enum rg_epoch_age age;

    if (message->kind == RG_MESSAGE_PROPOSE) {
        (void)snprintf(r.mine, sizeof r.mine, "%s", m->peers[0].id);
        (void)snprintf(r.yours, sizeof r.yours, "%s", m->peers[peer].id);
        rg_member_refuse(m, peer, &r);
        return;
    }
    if (message->kind == RG_MESSAGE_COMMIT) {
        rg_member_end_link(m, peer, "it sent Commit to the head");
        return;
    }
    age = rg_member_age(m, epoch_of(message));
    if (age == RG_AGE_OVER)
        return;
    if (age == RG_AGE_UNKNOWN || !m->peers[peer].in_plan) {
        rg_member_end_link(m, peer, "it sent %s for a plan that it has no part in",
                           rg_message_name(message->kind));
        return;
    }
    if (message->kind == RG_MESSAGE_READY)
        take_ready(m, peer, &message->ready);
    else if (message->kind == RG_MESSAGE_COMMIT_ACK)
        take_commit_ack(m, peer);
    else
        take_abort(m, peer, &message->abort);
}

/* ---- between epochs -------------------------------------------------------------------------- */

static void check_commit_wait(struct rg_membership *m)
{
    uint32_t late = 1;

    if (m->state != RG_EPOCH_READY ||
        m->now - m->since_ns <= RG_LIMIT_COMMIT_WAIT_MS * RG_NS_PER_MS)
        return;
    while (!m->peers[late].in_plan || m->peers[late].acked)
        late++;
    assert(late < m->n_peers);
    rg_member_end_epoch(m, (struct rg_member_end){RG_E_TIMEOUT, late, RG_NO_PEER},
                        "%s sent no CommitAck within %d s", m->peers[late].id,
                        RG_LIMIT_COMMIT_WAIT_MS / 1000);
}

void rg_member_head_hope(struct rg_membership *m)
{
    const int64_t soon = m->now + RG_MEMBER_PAUSE_MS * RG_NS_PER_MS;

    m->unplanned = 0;
    m->retry_ns = 0;
    if (m->fails > 1)
        m->fails = 1;
    if (m->not_before_ns > soon)
        m->not_before_ns = soon;
}

static bool none_is_waited_for(const struct rg_membership *m)
{
    for (uint32_t i = 1; i < m->n_peers; i++)
        if (m->peers[i].wanted && !rg_member_counts(m, i) && !rg_member_flaps(m, i) &&
            !m->peers[i].cut_off)
            return false;
    return true;
}

/* Enough peers are up, and the others had their time to come. */
static bool has_waited(const struct rg_membership *m, uint32_t n_up)
{
    const bool enough = m->enough_ns >= 0;

    if (m->without_ns < 0)
        return enough && (n_up == m->n_peers - 1 || m->now - m->enough_ns >= m->settle_ns);
    /* A plan ran: whom it had is waited for and nobody else, and in the end nobody. */
    return none_is_waited_for(m) || m->now >= m->without_ns;
}

static bool may_plan(struct rg_membership *m)
{
    const uint32_t n_up = rg_member_n_up(m);

    if (n_up > m->n_counted) { /* one has stayed for long enough */
        m->unplanned = 0;
        m->retry_ns = 0;
    }
    m->n_counted = n_up;
    if (n_up < m->wait_for)
        m->enough_ns = -1;
    else if (m->enough_ns < 0)
        m->enough_ns = m->now;
    return has_waited(m, n_up) && m->now >= m->not_before_ns && m->now >= m->retry_ns;
}

/* The running plan had to do without it; it is up again, and stays. */
static bool is_back(const struct rg_membership *m, uint32_t peer)
{
    const struct rg_member_peer *p = &m->peers[peer];

    return p->wanted && !p->planned && rg_member_counts(m, peer) &&
           m->now - m->since_ns >= m->settle_ns && rg_member_stayed_ns(m, peer) >= m->settle_ns;
}

static void check_back(struct rg_membership *m)
{
    const struct rg_member_end end = {RG_E_PEER, RG_NO_PEER, RG_NO_PEER};

    bool any = false;

    for (uint32_t i = 1; m->state == RG_EPOCH_RUNNING && i < m->n_peers; i++)
        if (is_back(m, i)) {
            m->peers[i].returned_ns = m->now;
            any = true;
        }
    if (!any)
        return;
    m->without_ns = m->now; /* who is still lost was waited for */
    rg_member_end_epoch(m, end, "a lost node is back and gets its layers again");
}

static void put_off(struct rg_membership *m, const struct rg_err *err)
{
    int64_t pause_ms = RG_MEMBER_PAUSE_MS;

    for (uint32_t i = 0; i < m->unplanned && pause_ms < RG_MEMBER_PAUSE_MOST_MS; i++)
        pause_ms *= 2;
    if (pause_ms > RG_MEMBER_PAUSE_MOST_MS)
        pause_ms = RG_MEMBER_PAUSE_MOST_MS;
    m->unplanned++;
    m->retry_ns = m->now + pause_ms * RG_NS_PER_MS;
    if (strcmp(m->why, err->message) != 0)
        rg_member_say(m, RG_LOG_WARN, RG_NO_PEER, "no plan: %s", err->message);
    (void)snprintf(m->why, sizeof m->why, "%s", err->message);
}

static void propose(struct rg_membership *m)
{
    struct rg_proposal plan = {0};
    struct rg_err err = {0};

    for (uint32_t i = 0; i < m->n_peers; i++)
        m->up[i] = i == 0 ? &m->hello : rg_member_counts(m, i) ? &m->peers[i].hello : NULL;
    if (m->propose(m->ud, m->up, m->n_peers, &plan, &err)) {
        put_off(m, &err);
        return;
    }
    for (uint32_t i = 1; i < m->n_peers; i++)
        m->peers[i].planned = rg_member_counts(m, i);
    plan.epoch = (struct rg_epoch){.boot = m->hello.boot, .n = m->last.n + 1};
    assert(rg_member_plan_fault(m, &plan) == NULL);
    m->unplanned = 0;
    rg_member_begin(m, &plan);
    for (uint32_t i = 0; i + 1 < plan.n_nodes; i++) {
        const uint32_t peer = rg_member_find(m, plan.nodes[i].id);

        assert(m->peers[peer].state == RG_PEER_UP);
        m->peers[peer].in_plan = true;
        rg_member_send_plan(m, peer);
    }
    rg_member_say(m, RG_LOG_INFO, RG_NO_PEER, "plan %llu: %u nodes load their parts",
                  (unsigned long long)plan.epoch.n, plan.n_nodes);
}

void rg_member_head_consider(struct rg_membership *m)
{
    check_commit_wait(m);
    rg_member_cut_off(m);
    check_back(m);
    if (m->state == RG_EPOCH_NONE && may_plan(m))
        propose(m);
}
