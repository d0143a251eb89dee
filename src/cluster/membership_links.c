/* membership_links.c - the control links: greeting, heartbeats, and how a peer is lost. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "cluster/membership_core.h"

/* ---- a peer is lost -------------------------------------------------------------------------- */

/* A peer that is tried every second says the same every second: it is logged once. */
static void note_reason(struct rg_membership *m, uint32_t peer, const char *why)
{
    struct rg_member_peer *p = &m->peers[peer];

    rg_member_text(p->reason, sizeof p->reason, "%s", why);
    if (p->state != RG_PEER_UP && strcmp(p->said, p->reason) == 0)
        return;
    (void)snprintf(p->said, sizeof p->said, "%s", p->reason);
    rg_member_say(m, RG_LOG_WARN, peer, "%s %s: %s", p->id,
                  p->state == RG_PEER_UP ? "is lost" : "is not there", why);
}

static void leave(struct rg_membership *m, uint32_t peer, enum rg_peer_state state, const char *why)
{
    struct rg_member_peer *p = &m->peers[peer];
    const bool was_up = p->state == RG_PEER_UP;

    note_reason(m, peer, why);
    p->state = state;
    p->busy = false;
    p->rtt_ns = 0;
    p->load_bytes = p->loaded_bytes = 0;
    if (!was_up)
        return;
    if (m->self == 0)
        rg_member_head_lost(m, peer, p->reason);
    else
        rg_member_worker_lost(m, peer, p->reason);
}

void rg_member_link_down(struct rg_membership *m, uint32_t peer, const char *why)
{
    leave(m, peer, RG_PEER_DOWN, why);
}

static void drop(struct rg_membership *m, uint32_t peer, enum rg_peer_state state, const char *why)
{
    (void)rg_fail(&rg_member_emit(m, RG_MEMBER_DROP, peer)->err, RG_E_PEER, "%s", why);
    leave(m, peer, state, why);
}

void rg_member_end_link(struct rg_membership *m, uint32_t peer, const char *format, ...)
{
    char why[RG_REASON_BYTES];
    va_list args;

    va_start(args, format);
    rg_member_vtext(why, sizeof why, format, args);
    va_end(args);
    drop(m, peer, RG_PEER_DOWN, why);
}

static void log_refusal(struct rg_membership *m, uint32_t peer, const char *by,
                        const struct rg_refuse *r)
{
    char why[RG_REASON_BYTES], mine[81], yours[81];

    rg_member_text(mine, sizeof mine, "%s", r->mine);
    rg_member_text(yours, sizeof yours, "%s", r->yours);
    rg_member_text(why, sizeof why, "refused%s, %s: here %s, there %s", by, r->what, mine, yours);
    drop(m, peer, RG_PEER_REFUSED, why);
}

void rg_member_refuse(struct rg_membership *m, uint32_t peer, const struct rg_refuse *r)
{
    rg_member_send(m, peer, RG_MESSAGE_REFUSE)->refuse = *r;
    log_refusal(m, peer, "", r);
}

/* ---- greeting -------------------------------------------------------------------------------- */

void rg_member_link_up(struct rg_membership *m, uint32_t peer)
{
    struct rg_member_peer *p = &m->peers[peer];

    if (p->state == RG_PEER_GREETING || p->state == RG_PEER_UP)
        leave(m, peer, RG_PEER_DOWN, "it has opened a newer link");
    p->state = RG_PEER_GREETING;
    (void)snprintf(p->reason, sizeof p->reason, "its Hello has not come");
    p->link_ns = m->now;
    p->unreached = RG_NO_PEER;
    p->time_ns = 0;
    rg_member_emit(m, RG_MEMBER_SEND, peer)->message = m->spare_hello;
    m->has_spare_hello = false;
}

/* A layer that two other nodes have and that differs: the head alone sees both. */
static bool agrees_with_all(struct rg_membership *m, struct rg_refuse *r,
                            const struct rg_hello *hello)
{
    for (uint32_t i = 1; m->self == 0 && i < m->n_peers; i++) {
        const struct rg_member_peer *p = &m->peers[i];

        if (p->state == RG_PEER_UP && !rg_model_agrees(r, &p->hello.model, p->id, &hello->model))
            return false;
    }
    return true;
}

/* The hello is the spare one: a copy of the message's. */
static void take_hello(struct rg_membership *m, uint32_t peer)
{
    struct rg_member_peer *p = &m->peers[peer];
    const struct rg_hello *hello = &m->spare_hello.hello;
    struct rg_refuse r = {0};

    if (!rg_hello_agrees(&r, &m->hello, hello, p->id) || !agrees_with_all(m, &r, hello)) {
        rg_member_refuse(m, peer, &r);
        return;
    }
    if (p->boot && p->boot != hello->boot)
        rg_member_say(m, RG_LOG_INFO, peer, "%s was restarted", p->id);
    rg_model_card_free(&p->hello.model);
    p->hello = *hello;
    m->has_spare_hello = false;
    p->boot = p->hello.boot;
    /* What another process of the head began is over: its link is gone. */
    if (peer == 0 && m->last.boot != p->boot)
        rg_member_turn_to(m, p->boot);
    p->state = RG_PEER_UP;
    p->reason[0] = p->said[0] = 0;
    p->up_ns = p->heard_ns = p->progress_ns = m->now;
    p->beat_ns = m->now - RG_LIMIT_HEARTBEAT_MS * RG_NS_PER_MS;
    if (m->self == 0)
        rg_member_head_hope(m);
    rg_member_say(m, RG_LOG_INFO, peer, "%s is up: %s", p->id, p->hello.build);
}

bool rg_membership_is_second(const struct rg_membership *m, uint32_t peer, uint64_t boot,
                             int64_t now_ns)
{
    const struct rg_member_peer *p = &m->peers[peer];
    const int64_t unused_ns = now_ns - (m->since_ns > p->up_ns ? m->since_ns : p->up_ns);

    if (p->state != RG_PEER_UP || p->boot == boot ||
        now_ns - p->heard_ns >= RG_MEMBER_ANSWERS_MS * RG_NS_PER_MS)
        return false;
    /* Two heads that have some workers each may lack the others for ever: the one with the lower
     * boot gets those that the other one does not use. */
    return !(peer == 0 && boot < p->boot && m->state == RG_EPOCH_NONE &&
             unused_ns >= RG_MEMBER_UNUSED_MS * RG_NS_PER_MS);
}

/* ---- heartbeats ------------------------------------------------------------------------------ */

static void send_heartbeat(struct rg_membership *m, uint32_t peer)
{
    const struct rg_member_peer *self = &m->peers[m->self];
    struct rg_member_peer *p = &m->peers[peer];
    struct rg_heartbeat *h = &rg_member_send(m, peer, RG_MESSAGE_HEARTBEAT)->heartbeat;

    h->time_ns = (uint64_t)m->now;
    h->echo_time_ns = p->time_ns;
    h->echo_age_ns = p->time_ns ? (uint64_t)(m->now - p->time_came_ns) : 0;
    h->layers_done = self->layers_done;
    h->busy = self->busy;
    h->loaded_bytes = self->loaded_bytes;
    h->load_bytes = self->load_bytes;
    if (m->state != RG_EPOCH_NONE)
        h->epoch = m->plan.epoch;
    if (peer == 0 && rg_member_missed(m) != RG_NO_PEER)
        (void)snprintf(h->unreached, sizeof h->unreached, "%s", m->peers[m->unreached].id);
    p->beat_ns = m->now;
}

/* A peer's echo is believed only where it can be true: after the link came up, and not longer ago
 * than it says it kept it. */
static void measure(struct rg_membership *m, struct rg_member_peer *p, const struct rg_heartbeat *h)
{
    uint64_t rtt;

    if (h->echo_time_ns < (uint64_t)p->link_ns || h->echo_time_ns > (uint64_t)m->now)
        return;
    rtt = (uint64_t)m->now - h->echo_time_ns;
    if (h->echo_age_ns > rtt)
        return;
    rtt -= h->echo_age_ns;
    p->rtt_ns = p->rtt_ns ? (p->rtt_ns * 7 + (int64_t)rtt) / 8 : (int64_t)rtt;
}

/* A link keeps the order of messages: after the messages that began an epoch, and before those that
 * end it, both ends must speak of it. */
static bool contradicts(const struct rg_membership *m, uint32_t peer, struct rg_epoch theirs)
{
    if (m->state == RG_EPOCH_NONE || rg_epoch_equal(theirs, m->plan.epoch))
        return false;
    return m->self == 0 ? m->peers[peer].ready : peer == 0;
}

static void take_heartbeat(struct rg_membership *m, uint32_t peer, const struct rg_heartbeat *h)
{
    struct rg_member_peer *p = &m->peers[peer];

    measure(m, p, h);
    if (h->layers_done != p->layers_done || !h->busy || !p->busy || h->load_bytes)
        p->progress_ns = m->now;
    p->layers_done = h->layers_done;
    p->busy = h->busy;
    p->loaded_bytes = h->loaded_bytes;
    p->load_bytes = h->load_bytes;
    p->time_ns = h->time_ns;
    p->time_came_ns = m->now;
    p->unreached = h->unreached[0] ? rg_member_find(m, h->unreached) : RG_NO_PEER;
    if (contradicts(m, peer, h->epoch))
        rg_member_end_epoch(m, (struct rg_member_end){RG_E_PEER, peer, RG_NO_PEER},
                            "%s knows nothing of it any more", p->id);
}

static void check_alive(struct rg_membership *m, uint32_t peer)
{
    const struct rg_member_peer *p = &m->peers[peer];

    if (p->state == RG_PEER_GREETING) {
        if (m->now - p->link_ns > RG_LIMIT_HELLO_WAIT_MS * RG_NS_PER_MS)
            rg_member_end_link(m, peer, "no Hello within %d s", RG_LIMIT_HELLO_WAIT_MS / 1000);
    } else if (p->state == RG_PEER_UP) {
        if (m->now - p->heard_ns > RG_LIMIT_PEER_SILENCE_MS * RG_NS_PER_MS)
            rg_member_end_link(m, peer, "nothing heard for %d s", RG_LIMIT_PEER_SILENCE_MS / 1000);
        else if (p->busy && m->now - p->progress_ns > m->stuck_ns)
            rg_member_end_link(m, peer, "stuck: busy for %lld s without finishing a layer",
                               (long long)(m->stuck_ns / RG_NS_PER_MS / 1000));
    }
}

void rg_member_links_tick(struct rg_membership *m)
{
    for (uint32_t i = 0; i < m->n_peers; i++) {
        if (i == m->self)
            continue;
        check_alive(m, i);
        if (m->peers[i].state == RG_PEER_UP &&
            m->now - m->peers[i].beat_ns >= RG_LIMIT_HEARTBEAT_MS * RG_NS_PER_MS)
            send_heartbeat(m, i);
    }
}

/* ---- messages -------------------------------------------------------------------------------- */

static void take_refuse(struct rg_membership *m, uint32_t peer, const struct rg_refuse *theirs)
{
    struct rg_refuse r = *theirs;

    /* Theirs is told from their side. */
    memcpy(r.mine, theirs->yours, sizeof r.mine);
    memcpy(r.yours, theirs->mine, sizeof r.yours);
    log_refusal(m, peer, " by it", &r);
}

void rg_member_message(struct rg_membership *m, uint32_t peer, const struct rg_message *message)
{
    struct rg_member_peer *p = &m->peers[peer];

    /* The rest of a link that was dropped. */
    if (p->state == RG_PEER_DOWN || p->state == RG_PEER_REFUSED)
        return;
    if (message->kind == RG_MESSAGE_REFUSE) {
        take_refuse(m, peer, &message->refuse);
        return;
    }
    if (p->state == RG_PEER_GREETING) {
        if (message->kind == RG_MESSAGE_HELLO)
            take_hello(m, peer);
        else
            rg_member_end_link(m, peer, "it sent %s before its Hello",
                               rg_message_name(message->kind));
        return;
    }
    p->heard_ns = m->now;
    if (message->kind == RG_MESSAGE_HELLO)
        rg_member_end_link(m, peer, "it sent a second Hello");
    else if (message->kind == RG_MESSAGE_HEARTBEAT)
        take_heartbeat(m, peer, &message->heartbeat);
    else if (m->self == 0)
        rg_member_head_message(m, peer, message);
    else
        rg_member_worker_message(m, peer, message);
}
