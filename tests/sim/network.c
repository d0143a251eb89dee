/* network.c - control links: what goes into one end comes out of the other in its order, late, or
 * the link breaks; links know nothing of one another. */
#include <assert.h>
#include <string.h>

#include "base/limits.h"
#include "tests/sim/sim.h"

enum { RETRY_MS = 50 };

static bool lives(const struct world *w, const struct link *l, uint32_t end)
{
    const struct node *n = &w->nodes[l->node[end]];

    return n->process != DEAD && n->life == l->life[end];
}

uint32_t sim_behind(const struct link *l, uint32_t node)
{
    return l->node[0] == node ? l->node[1] : l->node[0];
}

void sim_dial(struct world *w, uint32_t from, uint32_t to)
{
    struct link *l = sim_must(rg_calloc(1, sizeof *l));
    void *items = w->links;

    if (rg_grow(&items, &w->links_capacity, w->n_links + 1, sizeof l, NULL))
        (void)sim_must(NULL);
    w->links = items;
    w->links[w->n_links++] = l;
    l->node[0] = from;
    l->node[1] = to;
    l->life[0] = w->nodes[from].life;
    l->boot[0] = w->nodes[from].boot;
    l->open[0] = true;
    l->since = w->now;
    w->nodes[from].links[to] = l;
    sim_check_dial(w, from, to);
    sim_at(w, w->now + sim_delay(w), (struct event){.kind = EV_ACCEPT, .link = l});
}

static void dial_failed(struct world *w, struct link *l, const char *why)
{
    struct node *n = &w->nodes[l->node[0]];

    l->open[0] = false;
    n->links[l->node[1]] = NULL;
    sim_link_down(w, l->node[0], l->node[1], why);
}

void sim_accept(struct world *w, struct link *l)
{
    struct node *n = &w->nodes[l->node[1]];

    if (!lives(w, l, 0) || !l->open[0])
        return;
    if (w->nodes[l->node[0]].process == PAUSED || n->process == PAUSED ||
        !sim_reaches(w, l->node[0], l->node[1]) || (n->process == DEAD && n->unplugged)) {
        if (w->now - l->since > RG_LIMIT_HELLO_WAIT_MS * MS &&
            w->nodes[l->node[0]].process == ALIVE)
            dial_failed(w, l, "connect: timed out");
        else
            sim_at(w, w->now + RETRY_MS * MS, (struct event){.kind = EV_ACCEPT, .link = l});
    } else if (n->process == DEAD) {
        dial_failed(w, l, "connect: refused");
    } else {
        l->accepted = true;
        l->life[1] = n->life;
        l->boot[1] = n->boot;
        l->open[1] = true;
        sim_at(w, w->now + sim_delay(w), (struct event){.kind = EV_OPENED, .link = l});
    }
}

void sim_opened(struct world *w, struct link *l)
{
    struct node *n = &w->nodes[l->node[0]];

    if (!lives(w, l, 0) || !l->open[0])
        return;
    if (n->process == PAUSED || w->blocked[l->node[1]][l->node[0]]) {
        sim_at(w, w->now + RETRY_MS * MS, (struct event){.kind = EV_OPENED, .link = l});
        return;
    }
    l->opened = true;
    sim_link_up(w, l->node[0], l->node[1]);
}

/* ---- what travels --------------------------------------------------------------------------- */

static void pump_at(struct world *w, struct link *l, uint32_t end, int64_t at)
{
    if (l->pumping[end])
        return;
    l->pumping[end] = true;
    sim_at(w, at, (struct event){.kind = EV_PUMP, .link = l, .a = end});
}

static struct item *put(struct world *w, struct link *l, uint32_t end)
{
    struct item *i = sim_must(rg_calloc(1, sizeof *i));

    i->sent = w->now;
    i->due = w->now + sim_delay(w) + w->nodes[l->node[end]].slow_ms * MS;
    if (l->last[end])
        l->last[end]->next = i;
    else
        l->first[end] = i;
    l->last[end] = i;
    pump_at(w, l, end, i->due);
    return i;
}

/* Returns how many. */
static uint64_t free_items(struct link *l, uint32_t end)
{
    uint64_t n = 0;

    while (l->first[end]) {
        struct item *i = l->first[end];

        l->first[end] = i->next;
        if (!i->is_end)
            rg_message_free(&i->message);
        rg_free(i);
        n++;
    }
    l->last[end] = NULL;
    return n;
}

static void keep(struct world *w, uint32_t from, uint32_t to, const struct rg_message *m)
{
    struct rg_message *at = &w->kept[from][to][w->n_kept[from][to] % KEPT];

    if (!w->hostile || m->kind == RG_MESSAGE_HEARTBEAT)
        return;
    if (w->n_kept[from][to] >= KEPT)
        rg_message_free(at);
    if (rg_message_copy(at, m, NULL))
        (void)sim_must(NULL);
    w->n_kept[from][to]++;
}

/* Through bytes and back, as on a wire; heartbeats are too many for that. */
static void cross_wire(struct world *w, uint32_t from, struct rg_message *m)
{
    struct rg_message read;
    struct rg_buf bytes;
    struct rg_err err = {0};
    enum rg_code code;

    if (m->kind == RG_MESSAGE_HEARTBEAT)
        return;
    rg_buf_init(&bytes, RG_LIMIT_CONTROL_BYTES);
    code = rg_message_encode(&bytes, m, &err);
    if (!code)
        code = rg_message_decode(&read, (const uint8_t *)bytes.data, bytes.len, &err);
    rg_buf_free(&bytes);
    if (code) {
        sim_fail(w, from, "sends a %s that cannot be read: %s", rg_message_name(m->kind),
                 err.message);
        return;
    }
    rg_message_free(m);
    *m = read;
}

void sim_send(struct world *w, uint32_t from, uint32_t to, struct rg_message *m)
{
    struct link *l = w->nodes[from].links[to];

    cross_wire(w, from, m);
    keep(w, from, to, m);
    put(w, l, l->node[0] == from ? 0 : 1)->message = *m;
}

void sim_repeat(struct world *w, uint32_t from, uint32_t node)
{
    const uint32_t to = sim_number(node);
    struct link *l = w->nodes[from].links[to];
    const uint32_t n = w->n_kept[from][to];
    struct item *i;

    if (!l || !w->nodes[from].up[to] || n == 0)
        return;
    i = put(w, l, l->node[0] == from ? 0 : 1);
    if (rg_message_copy(&i->message, &w->kept[from][to][sim_random(w, n < KEPT ? n : KEPT)], NULL))
        (void)sim_must(NULL);
    w->faults[FAULT_REPEATED]++;
    sim_trace(w, from, "FAULT repeats %s to n%u", rg_message_name(i->message.kind), to);
}

void sim_close(struct world *w, struct link *l, uint32_t end, bool silent)
{
    if (!l->open[end])
        return;
    l->open[end] = false;
    if (silent || !l->accepted)
        return;
    /* A reset throws away what has not arrived; a finish comes behind it. */
    if (sim_chance(w, 50))
        w->faults[FAULT_LOST] += free_items(l, end);
    put(w, l, end)->is_end = true;
}

/* An acceptor's link is a stranger's until its Hello: the newer one takes the place of the older,
 * unless it is of a second process. */
static void make_known(struct world *w, struct link *l, const struct rg_hello *hello)
{
    struct node *n = &w->nodes[l->node[1]];
    const uint32_t peer = sim_number(l->node[0]);
    struct link *old = n->links[peer];

    if (rg_membership_is_second(n->m, peer, hello->boot, w->now + n->ahead)) {
        sim_trace(w, l->node[1], "a second n%u is turned away", peer);
        w->faults[FAULT_SECOND_AWAY]++;
        sim_close(w, l, 1, false);
        return;
    }
    if (old && sim_behind(old, l->node[1]) != l->node[0])
        w->faults[FAULT_HEAD_TAKES_OVER]++;
    if (old) {
        sim_close(w, old, old->node[0] == l->node[1] ? 0 : 1, false);
        n->links[peer] = NULL;
        sim_link_down(w, l->node[1], peer, "it has opened a newer link");
    }
    if (n->process != ALIVE)
        return;
    n->links[peer] = l;
    sim_link_up(w, l->node[1], peer);
}

static void deliver(struct world *w, struct link *l, uint32_t end, struct item *i)
{
    const uint32_t to = l->node[1 - end], from = sim_number(l->node[end]);
    struct node *n = &w->nodes[to];
    const struct rg_member_event e = {
        .kind = RG_MEMBER_MESSAGE, .peer = from, .message = &i->message};

    if (!lives(w, l, 1 - end) || !l->open[1 - end]) {
        /* Nobody has this link any more: its sender hears that. */
        if (!i->is_end && l->open[end] && !(n->process == DEAD && n->unplugged))
            put(w, l, 1 - end)->is_end = true;
        return;
    }
    if (i->is_end) {
        const bool own = n->links[from] == l;

        l->open[1 - end] = false;
        if (own) {
            n->links[from] = NULL;
            sim_link_down(w, to, from, "connection reset by peer");
        }
        return;
    }
    if (n->links[from] != l) {
        if (i->message.kind != RG_MESSAGE_HELLO)
            return;
        make_known(w, l, &i->message.hello);
    }
    if (n->process == ALIVE && n->links[from] == l) {
        n->heard_at[from] = w->now;
        sim_arrives(w, to, i->sent);
        sim_event(w, to, &e);
    }
}

void sim_pump(struct world *w, struct link *l, uint32_t end)
{
    const uint32_t from = l->node[end], to = l->node[1 - end];
    struct item *i = l->first[end];

    l->pumping[end] = false;
    if (!i)
        return;
    /* What did not get through while its sender lived, nobody sends again. */
    if (w->blocked[from][to] && !lives(w, l, end)) {
        w->faults[FAULT_LOST] += free_items(l, end);
        return;
    }
    if (w->blocked[from][to] || w->nodes[to].process == PAUSED ||
        (end == 1 && !l->opened && l->open[0] && lives(w, l, 0))) {
        pump_at(w, l, end, w->now + RETRY_MS * MS);
        return;
    }
    if (i->due > w->now) {
        pump_at(w, l, end, i->due);
        return;
    }
    l->first[end] = i->next;
    if (!i->next)
        l->last[end] = NULL;
    else
        pump_at(w, l, end, i->next->due > w->now ? i->next->due : w->now);
    deliver(w, l, end, i);
    if (!i->is_end)
        rg_message_free(&i->message);
    rg_free(i);
}

void sim_network_free(struct world *w)
{
    for (size_t i = 0; i < w->n_links; i++) {
        (void)free_items(w->links[i], 0);
        (void)free_items(w->links[i], 1);
        rg_free(w->links[i]);
    }
    rg_free(w->links);
    for (uint32_t a = 0; a < WORLD_MAX; a++)
        for (uint32_t b = 0; b < NODES_MAX; b++)
            for (uint32_t i = 0; i < KEPT && i < w->n_kept[a][b]; i++)
                rg_message_free(&w->kept[a][b][i]);
}
