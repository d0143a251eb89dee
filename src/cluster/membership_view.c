/* membership_view.c - what others may see of a membership. */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "cluster/membership_core.h"

enum rg_epoch_state rg_membership_state(const struct rg_membership *m, struct rg_epoch *epoch)
{
    if (epoch)
        *epoch = m->state == RG_EPOCH_NONE ? (struct rg_epoch){0} : m->plan.epoch;
    return m->state;
}

const struct rg_proposal *rg_membership_proposal(const struct rg_membership *m)
{
    return m->state == RG_EPOCH_NONE ? NULL : &m->plan;
}

static bool said_ready(const struct rg_membership *m, uint32_t peer)
{
    if (m->self == 0 && peer != 0)
        return m->peers[peer].ready;
    if (peer != m->self)
        return false;
    return peer == 0 ? m->state != RG_EPOCH_NONE && m->own_loaded : m->state >= RG_EPOCH_READY;
}

void rg_membership_peer(const struct rg_membership *m, uint32_t peer, int64_t now_ns,
                        struct rg_peer_view *out)
{
    const struct rg_member_peer *p = &m->peers[peer];
    const struct rg_hello *hello = peer == m->self ? &m->hello : &p->hello;

    assert(peer < m->n_peers);
    *out = (struct rg_peer_view){.state = peer == m->self ? RG_PEER_UP : p->state,
                                 .rtt_ns = p->rtt_ns,
                                 .layers_done = p->layers_done,
                                 .loaded_bytes = p->loaded_bytes,
                                 .load_bytes = p->load_bytes,
                                 .busy = p->busy,
                                 .ready = said_ready(m, peer),
                                 .memory_bytes = hello->memory_bytes,
                                 .claimed_bytes = hello->claimed_bytes};
    memcpy(out->build, hello->build, sizeof out->build);
    if (peer == m->self)
        return;
    memcpy(out->reason, p->reason, sizeof out->reason);
    if (p->heard_ns)
        out->heard_ms = (now_ns - p->heard_ns) / RG_NS_PER_MS;
}

/* ---- why no epoch runs ----------------------------------------------------------------------- */

/* A text that stops at its room, as long as it is. */
struct text {
    char *p;
    size_t size, len;
};

RG_PRINTF(2, 3)
static void put(struct text *t, const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(t->p + t->len, t->size - t->len, format, args);
    va_end(args);
    if (n > 0)
        t->len += (size_t)n < t->size - t->len ? (size_t)n : t->size - t->len - 1;
}

static void put_missing(const struct rg_membership *m, struct text *t)
{
    const char *between = "waiting for ";

    for (uint32_t i = 0; i < m->n_peers; i++) {
        const struct rg_member_peer *p = &m->peers[i];

        if (i == m->self || (p->state == RG_PEER_UP && (m->self != 0 || rg_member_counts(m, i))))
            continue;
        put(t, "%s%s (%s)", between, p->id,
            p->state == RG_PEER_UP ? "it comes and goes, and must stay for a while" : p->reason);
        between = ", ";
    }
}

static void put_unready(const struct rg_membership *m, struct text *t)
{
    const char *between = "";

    put(t, "plan %llu: waiting for ", (unsigned long long)m->plan.epoch.n);
    for (uint32_t i = 0; i < m->n_peers; i++) {
        const struct rg_member_peer *p = &m->peers[i];
        const bool own = i == m->self;
        const bool late = m->state == RG_EPOCH_LOADING
                              ? (own ? !m->own_loaded : p->in_plan && !p->ready)
                              : p->in_plan && !p->acked;

        if (!late)
            continue;
        put(t, "%s%s", between, p->id);
        between = ", ";
    }
    put(t, m->state == RG_EPOCH_LOADING ? " to load" : " to begin");
}

static void put_head_reason(const struct rg_membership *m, struct text *t)
{
    if (m->state != RG_EPOCH_NONE)
        put_unready(m, t);
    else if (rg_member_n_up(m) < m->wait_for)
        put_missing(m, t);
    else if (m->why[0])
        put(t, "%s", m->why);
    else if (rg_member_n_up(m) < m->n_peers - 1)
        put_missing(m, t);
    else
        put(t, "no plan yet");
}

static void put_worker_reason(const struct rg_membership *m, struct text *t)
{
    const struct rg_member_peer *head = &m->peers[0];

    if (head->state != RG_PEER_UP)
        put(t, "waiting for the head, %s (%s)", head->id, head->reason);
    else if (m->state == RG_EPOCH_LOADING)
        put(t, "plan %llu: loading the own part", (unsigned long long)m->plan.epoch.n);
    else if (m->state == RG_EPOCH_READY)
        put(t, "plan %llu: waiting for %s to commit it", (unsigned long long)m->plan.epoch.n,
            head->id);
    else
        put(t, "waiting for a plan of %s%s%s%s", head->id, m->why[0] ? " (the last one: " : "",
            m->why, m->why[0] ? ")" : "");
}

void rg_membership_reason(const struct rg_membership *m, char *out, size_t size)
{
    struct text t = {.p = out, .size = size};

    assert(size > 0);
    out[0] = 0;
    if (m->state == RG_EPOCH_RUNNING)
        return;
    if (m->self == 0)
        put_head_reason(m, &t);
    else
        put_worker_reason(m, &t);
    out[t.len - rg_utf8_incomplete_tail(out, t.len)] = 0;
}
