/* membership.c - opens and closes a membership, and takes an event apart. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cluster/membership_core.h"

static enum rg_code check_options(const struct rg_membership_options *o, struct rg_err *err)
{
    assert(o->n_peers > 0 && o->n_peers <= RG_LIMIT_PEERS && o->self < o->n_peers);
    assert(o->self != 0 || o->propose);
    for (uint32_t i = 0; i < o->n_peers; i++)
        if (strlen(o->ids[i]) > RG_LIMIT_NODE_ID_BYTES)
            return rg_fail(err, RG_E_USAGE, "a node id of more than %u bytes: %.40s...",
                           RG_LIMIT_NODE_ID_BYTES, o->ids[i]);
    if (o->wait_for > o->n_peers - 1)
        return rg_fail(err, RG_E_USAGE, "cannot wait for %u peers: there are %u others",
                       o->wait_for, o->n_peers - 1);
    return RG_OK;
}

static enum rg_code open_peers(struct rg_membership *m, const struct rg_membership_options *o,
                               struct rg_err *err)
{
    m->peers = rg_calloc(o->n_peers, sizeof *m->peers);
    m->up = rg_calloc(o->n_peers, sizeof *m->up);
    if (!m->peers || !m->up)
        return rg_fail(err, RG_E_NOMEM, "out of memory: %u peers", o->n_peers);
    for (uint32_t i = 0; i < o->n_peers; i++) {
        m->peers[i].returned_ns = -1;
        m->peers[i].unreached = RG_NO_PEER;
        (void)snprintf(m->peers[i].id, sizeof m->peers[i].id, "%s", o->ids[i]);
        (void)snprintf(m->peers[i].reason, sizeof m->peers[i].reason, "not yet seen");
    }
    return RG_OK;
}

enum rg_code rg_membership_open(struct rg_membership **out, const struct rg_membership_options *o,
                                struct rg_err *err)
{
    struct rg_membership *m;
    enum rg_code code = check_options(o, err);

    if (code)
        return code;
    m = rg_calloc(1, sizeof *m);
    if (!m)
        return rg_fail(err, RG_E_NOMEM, "out of memory: the membership");
    m->n_peers = o->n_peers;
    m->self = o->self;
    m->wait_for = o->wait_for;
    m->grace_ns = o->grace_ms * RG_NS_PER_MS;
    m->without_ns = -1;
    m->unreached = RG_NO_PEER;
    m->settle_ns = o->settle_ms * RG_NS_PER_MS;
    m->stuck_ns = o->stuck_ms * RG_NS_PER_MS;
    m->propose = o->propose;
    m->ud = o->ud;
    m->enough_ns = -1;
    if (o->self == 0)
        m->last.boot = o->hello->boot;
    code = open_peers(m, o, err);
    if (!code) {
        m->hello = *o->hello;
        m->hello.model = (struct rg_model_card){0};
        code = rg_model_card_copy(&m->hello.model, &o->hello->model, err);
    }
    if (code) {
        rg_membership_close(m);
        return code;
    }
    *out = m;
    return RG_OK;
}

void rg_membership_close(struct rg_membership *m)
{
    if (!m)
        return;
    for (uint32_t i = 0; m->peers && i < m->n_peers; i++)
        rg_model_card_free(&m->peers[i].hello.model);
    for (uint32_t i = 0; i < m->n_spares; i++)
        rg_free(m->spares[i]);
    rg_model_card_free(&m->hello.model);
    rg_free(m->peers);
    rg_free(m->up);
    rg_free(m);
}

/* ---- events ---------------------------------------------------------------------------------- */

static void take_loaded(struct rg_membership *m, struct rg_epoch epoch)
{
    if (!rg_member_is_live(m, epoch))
        return;
    if (m->self == 0)
        rg_member_head_loaded(m);
    else
        rg_member_worker_loaded(m);
}

static void take_load_failed(struct rg_membership *m, const struct rg_member_event *e)
{
    if (!rg_member_is_live(m, e->epoch))
        return;
    if (m->self == 0)
        rg_member_end_epoch(m, (struct rg_member_end){e->err->code, RG_NO_PEER, RG_NO_PEER},
                            "%s: %s", m->peers[0].id, e->err->message);
    else
        rg_member_worker_load_failed(m, e->err);
}

static void take_ring_down(struct rg_membership *m, const struct rg_member_event *e)
{
    if (rg_member_is_live(m, e->epoch))
        rg_member_end_epoch(m, (struct rg_member_end){e->err->code, RG_NO_PEER, RG_NO_PEER}, "%s",
                            e->err->message);
}

static void take_work(struct rg_membership *m, const struct rg_member_event *e)
{
    struct rg_member_peer *self = &m->peers[m->self];

    self->layers_done = e->layers_done;
    self->busy = e->busy;
    self->loaded_bytes = e->loaded_bytes;
    self->load_bytes = e->load_bytes;
}

static void take(struct rg_membership *m, const struct rg_member_event *e)
{
    switch (e->kind) {
    case RG_MEMBER_LINK_UP:
        rg_member_link_up(m, e->peer);
        break;
    case RG_MEMBER_LINK_DOWN:
        rg_member_link_down(m, e->peer, e->err->message);
        break;
    case RG_MEMBER_MESSAGE:
        rg_member_message(m, e->peer, e->message);
        break;
    case RG_MEMBER_LOADED:
        take_loaded(m, e->epoch);
        break;
    case RG_MEMBER_LOAD_FAILED:
        take_load_failed(m, e);
        break;
    case RG_MEMBER_RING_DOWN:
        take_ring_down(m, e);
        break;
    case RG_MEMBER_WORK:
        take_work(m, e);
        break;
    case RG_MEMBER_TICK:
        rg_member_links_tick(m);
        break;
    }
}

enum rg_code rg_membership_step(struct rg_membership *m, int64_t now_ns,
                                const struct rg_member_event *event,
                                struct rg_member_actions *actions, struct rg_err *err)
{
    const bool of_link = event->kind == RG_MEMBER_LINK_UP || event->kind == RG_MEMBER_LINK_DOWN ||
                         event->kind == RG_MEMBER_MESSAGE;
    enum rg_code code;

    assert(!of_link || (event->peer < m->n_peers && event->peer != m->self));
    assert(now_ns >= m->now);
    code = rg_member_reserve(m, event, actions, err);
    if (code)
        return code;
    m->now = now_ns;
    take(m, event);
    if (m->self == 0)
        rg_member_head_consider(m);
    rg_member_release(m);
    return RG_OK;
}
