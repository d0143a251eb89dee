/* membership_actions.c - the list of what is to be done, and the room that a step may need. */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "cluster/membership_core.h"

/* A step does at most this for every peer: log, refuse and drop it, a heartbeat, an Abort, a
 * Propose or Commit; and a few things of its own. */
enum { ACTIONS_PER_PEER = 6, ACTIONS_OWN = 12 };

void rg_member_actions_clear(struct rg_member_actions *a)
{
    for (size_t i = 0; i < a->n; i++)
        if (a->items[i].kind == RG_MEMBER_SEND)
            rg_message_free(&a->items[i].message);
    a->n = 0;
}

void rg_member_actions_free(struct rg_member_actions *a)
{
    rg_member_actions_clear(a);
    rg_free(a->items);
    *a = (struct rg_member_actions){0};
}

static enum rg_code reserve_hello(struct rg_membership *m, const struct rg_message *message,
                                  struct rg_err *err)
{
    const enum rg_code code = rg_message_copy(&m->spare_hello, message, err);

    m->has_spare_hello = code == RG_OK;
    return code;
}

enum rg_code rg_member_reserve(struct rg_membership *m, const struct rg_member_event *event,
                               struct rg_member_actions *actions, struct rg_err *err)
{
    void *items = actions->items;
    const size_t most = actions->n + (size_t)ACTIONS_PER_PEER * m->n_peers + ACTIONS_OWN;
    enum rg_code code = rg_grow(&items, &actions->capacity, most, sizeof *actions->items, err);

    actions->items = items;
    if (code)
        return code;
    while (m->self == 0 && m->n_spares < m->n_peers - 1) {
        m->spares[m->n_spares] = rg_alloc(sizeof *m->spares[0]);
        if (!m->spares[m->n_spares])
            return rg_fail(err, RG_E_NOMEM, "out of memory: a plan's message");
        m->n_spares++;
    }
    if (event->kind == RG_MEMBER_LINK_UP) {
        const struct rg_message own = {.kind = RG_MESSAGE_HELLO, .hello = m->hello};

        code = reserve_hello(m, &own, err);
    } else if (event->kind == RG_MEMBER_MESSAGE && event->message->kind == RG_MESSAGE_HELLO) {
        code = reserve_hello(m, event->message, err);
    }
    m->actions = actions;
    m->actions_most = most;
    return code;
}

void rg_member_release(struct rg_membership *m)
{
    if (m->has_spare_hello)
        rg_message_free(&m->spare_hello);
    m->has_spare_hello = false;
    m->actions = NULL;
}

struct rg_member_action *rg_member_emit(struct rg_membership *m, enum rg_member_action_kind kind,
                                        uint32_t peer)
{
    struct rg_member_action *a;

    assert(m->actions->n < m->actions_most);
    a = &m->actions->items[m->actions->n++];
    memset(a, 0, sizeof *a);
    a->kind = kind;
    a->peer = peer;
    return a;
}

struct rg_message *rg_member_send(struct rg_membership *m, uint32_t peer, enum rg_message_kind kind)
{
    struct rg_message *out;

    assert(peer < m->n_peers && peer != m->self);
    assert(m->peers[peer].state == RG_PEER_GREETING || m->peers[peer].state == RG_PEER_UP);
    out = &rg_member_emit(m, RG_MEMBER_SEND, peer)->message;
    out->kind = kind;
    return out;
}

void rg_member_send_plan(struct rg_membership *m, uint32_t peer)
{
    struct rg_message *out = rg_member_send(m, peer, RG_MESSAGE_PROPOSE);

    assert(m->n_spares > 0);
    out->propose = m->spares[--m->n_spares];
    *out->propose = m->plan;
}

void rg_member_vtext(char *out, size_t size, const char *format, va_list args)
{
    const int n = vsnprintf(out, size, format, args);

    if (n > 0 && (size_t)n >= size)
        out[size - 1 - rg_utf8_incomplete_tail(out, size - 1)] = 0;
}

void rg_member_text(char *out, size_t size, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    rg_member_vtext(out, size, format, args);
    va_end(args);
}

void rg_member_say(struct rg_membership *m, int level, uint32_t peer, const char *format, ...)
{
    struct rg_member_action *a = rg_member_emit(m, RG_MEMBER_SAY, peer);
    va_list args;

    a->level = level;
    va_start(args, format);
    rg_member_vtext(a->err.message, sizeof a->err.message, format, args);
    va_end(args);
}
