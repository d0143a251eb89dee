/* node_links.c - the control links: who dials, who is at the other end, bytes to messages.
 *
 * A link that was accepted is a stranger's until its Hello names a peer of discovery.json (and,
 * with certificates, one of its own names is that peer's). */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "cluster/node_state.h"
#include "cluster/tls.h"

struct rg_node_link {
    struct rg_node *node;
    struct rg_node_link *next;
    struct rg_link *link; /* NULL: closed and released */
    int32_t peer;         /* -1: a stranger, or given up */
    bool stranger;
    int64_t since_ms;
    char names[1024], address[64];
};

/* The names are read on the transport's thread, where nobody has asked for an id yet.  A line twice
 * a minute at most: it will try again and again. */
static void say_unknown(struct rg_node *n, const char *names, const char *address)
{
    const int64_t again_ms = 30000, now = rg_clock_ms();
    const int first = (int)strcspn(names, "\n");
    char why[RG_ERR_BYTES];

    if (n->unknown_said_ms && now - n->unknown_said_ms < again_ms)
        return;
    n->unknown_said_ms = now;
    (void)snprintf(why, sizeof why,
                   "a peer stays out: its certificate is of '%.*s%s', and no node of "
                   "discovery.json has that name",
                   first < 128 ? first : 128, names, names[first] ? ", ..." : "");
    rg_log(RG_LOG_WARN, "cluster", why, "address=%s", address);
}

bool rg_node_knows(struct rg_node *n, const char *names, const char *address)
{
    /* Without certificates everybody is who he says. */
    bool known = !n->options.tls_dir;

    pthread_mutex_lock(&n->lock);
    for (uint32_t i = 0; i < n->discovery.n && !known; i++)
        known = rg_tls_names_have(names, n->discovery.peers[i].id);
    if (!known)
        say_unknown(n, names, address);
    pthread_mutex_unlock(&n->lock);
    return known;
}

/* ---- on the transport's thread --------------------------------------------------------------- */

static void on_open(void *ud, struct rg_link *l)
{
    struct rg_node_link *k = ud;

    (void)l;
    rg_node_note(k->node, RG_NOTE_OPEN, k, NULL, (struct rg_epoch){0}, NULL);
}

static void on_message(void *ud, struct rg_link *l, struct rg_frame *f)
{
    struct rg_node_link *k = ud;

    (void)l;
    rg_node_note(k->node, RG_NOTE_MESSAGE, k, f, (struct rg_epoch){0}, NULL);
}

static void on_close(void *ud, struct rg_link *l, const struct rg_err *why)
{
    struct rg_node_link *k = ud;

    (void)l;
    rg_node_note(k->node, RG_NOTE_CLOSE, k, NULL, (struct rg_epoch){0}, why);
}

static const struct rg_link_events control_events = {
    .on_open = on_open, .on_message = on_message, .on_close = on_close};

bool rg_node_accept_control(struct rg_node *n, struct rg_link *l, const char *names,
                            const char *address, struct rg_link_events *events, void **ud)
{
    struct rg_node_link *k = rg_calloc(1, sizeof *k);

    if (!k)
        return false;
    k->node = n;
    k->link = l;
    k->peer = -1;
    k->stranger = true;
    (void)snprintf(k->names, sizeof k->names, "%s", names);
    (void)snprintf(k->address, sizeof k->address, "%s", address);
    *events = control_events;
    *ud = k;
    rg_node_note(n, RG_NOTE_ACCEPT, k, NULL, (struct rg_epoch){0}, NULL);
    return true;
}

/* ---- on the loop ----------------------------------------------------------------------------- */

/* The wait doubles, with up to a fifth of it on top, so that nodes do not knock in step. */
static void put_off(struct rg_node *n, struct rg_node_peer *p)
{
    if (p->pause_ms < RG_LIMIT_REDIAL_MS)
        p->pause_ms = RG_LIMIT_REDIAL_MS;
    n->random = n->random * 6364136223846793005u + 1442695040888963407u;
    p->redial_ms =
        rg_clock_ms() + p->pause_ms + (int64_t)((n->random >> 33) % (uint64_t)(p->pause_ms / 5));
    p->pause_ms *= 2;
    if (p->pause_ms > RG_LIMIT_REDIAL_MOST_MS)
        p->pause_ms = RG_LIMIT_REDIAL_MOST_MS;
}

static void tell_link(struct rg_node *n, enum rg_member_event_kind kind, uint32_t peer,
                      const struct rg_err *err)
{
    const struct rg_member_event event = {.kind = kind, .peer = peer, .err = err};

    rg_node_event(n, &event);
}

/* Lets go of a link whose end has come, or will. */
static void detach(struct rg_node *n, struct rg_node_link *k)
{
    if (k->stranger)
        n->n_strangers--;
    k->stranger = false;
    if (k->peer >= 0) {
        struct rg_node_peer *p = &n->peers[k->peer];

        if (p->link == k) {
            /* One that was turned away opened its link too. */
            if (!p->dialling && rg_clock_ms() - k->since_ms > RG_LIMIT_REDIAL_MOST_MS)
                p->pause_ms = 0;
            p->link = NULL;
            p->dialling = false;
            put_off(n, p);
        }
    }
    k->peer = -1;
}

static void cut(struct rg_node *n, struct rg_node_link *k, const char *why)
{
    detach(n, k);
    rg_link_close(k->link, why);
}

void rg_node_drop(struct rg_node *n, uint32_t peer, const char *why)
{
    if (n->peers[peer].link)
        cut(n, n->peers[peer].link, why);
}

void rg_node_drop_all(struct rg_node *n, const char *why)
{
    for (struct rg_node_link *k = n->links; k; k = k->next)
        if (k->peer >= 0 || k->stranger)
            cut(n, k, why);
}

static void dial(struct rg_node *n, uint32_t peer)
{
    const struct rg_peer_info *info = &n->discovery.peers[peer];
    struct rg_node_peer *p = &n->peers[peer];
    struct rg_node_link *k = rg_calloc(1, sizeof *k);
    struct rg_err err = {.code = RG_E_NOMEM, .message = "out of memory"};
    enum rg_code code = RG_E_NOMEM;

    if (k) {
        const struct rg_dial to = {.kind = RG_LINK_CONTROL,
                                   .address = info->address,
                                   .port = info->port,
                                   .peer_id = info->id,
                                   .events = &control_events,
                                   .ud = k};

        k->node = n;
        k->peer = (int32_t)peer;
        k->since_ms = rg_clock_ms();
        code = rg_link_dial(&k->link, n->transport, &to, &err);
    }
    if (code) {
        rg_free(k);
        put_off(n, p);
        tell_link(n, RG_MEMBER_LINK_DOWN, peer, &err);
        return;
    }
    k->next = n->links;
    n->links = k;
    p->link = k;
    p->dialling = true;
}

void rg_node_dial_due(struct rg_node *n, int64_t now_ms)
{
    for (uint32_t i = n->self + 1; i < n->discovery.n; i++)
        if (!n->peers[i].link && now_ms >= n->peers[i].redial_ms)
            dial(n, i);
}

void rg_node_strangers_tick(struct rg_node *n, int64_t now_ms)
{
    for (struct rg_node_link *k = n->links; k; k = k->next)
        if (k->stranger && now_ms - k->since_ms > RG_LIMIT_HELLO_WAIT_MS)
            cut(n, k, "no Hello came");
}

/* ---- messages -------------------------------------------------------------------------------- */

void rg_node_send(struct rg_node *n, uint32_t peer, const struct rg_message *m)
{
    struct rg_node_link *k = n->peers[peer].link;
    struct rg_buf bytes;
    struct rg_err err = {0};
    enum rg_code code;

    if (!k)
        return;
    rg_buf_init(&bytes, RG_LIMIT_CONTROL_BYTES);
    code = rg_message_encode(&bytes, m, &err);
    if (!code)
        code = rg_link_send(k->link, bytes.data, bytes.len, NULL, &err);
    rg_buf_free(&bytes);
    /* A peer that takes no messages is as good as dead: the end of its link says so. */
    if (code)
        rg_link_close(k->link, err.message);
}

static enum rg_code decode(struct rg_message *m, const struct rg_frame *f, struct rg_err *err)
{
    const size_t n = rg_frame_bytes(f);
    uint8_t *bytes;
    enum rg_code code;

    if (n > RG_LIMIT_CONTROL_BYTES)
        return rg_fail(err, RG_E_LIMIT, "a control message of %zu bytes: %u are allowed", n,
                       RG_LIMIT_CONTROL_BYTES);
    bytes = rg_alloc(n + 1);
    if (!bytes)
        return rg_fail(err, RG_E_NOMEM, "out of memory: a control message of %zu bytes", n);
    rg_frame_read(f, 0, bytes, n);
    code = rg_message_decode(m, bytes, n, err);
    rg_free(bytes);
    return code;
}

static bool is_second(const struct rg_node *n, int32_t peer, uint64_t boot)
{
    return n->membership &&
           rg_membership_is_second(n->membership, (uint32_t)peer, boot, rg_clock_ns());
}

/* It will try again and again: the same line comes twice a minute at most. */
static void turn_away(struct rg_node *n, struct rg_node_link *k, const char *why)
{
    const int64_t again_ms = 30000, now = rg_clock_ms();

    if (strcmp(why, n->stranger_said) != 0 || now - n->stranger_said_ms >= again_ms) {
        rg_log(RG_LOG_WARN, "cluster", why, "address=%s", k->address);
        (void)snprintf(n->stranger_said, sizeof n->stranger_said, "%s", why);
        n->stranger_said_ms = now;
    }
    cut(n, k, why);
}

/* A stranger's Hello makes it a peer's link. */
static bool make_known(struct rg_node *n, struct rg_node_link *k, const struct rg_message *m)
{
    const char *id = m->hello.node_id;
    int32_t peer = -1;
    char why[RG_ERR_BYTES] = "";

    if (m->kind != RG_MESSAGE_HELLO)
        (void)snprintf(why, sizeof why, "%s before a Hello", rg_message_name(m->kind));
    else if (k->names[0] && !rg_tls_names_have(k->names, id))
        (void)snprintf(why, sizeof why, "its certificate is not for node %.128s", id);
    else if ((peer = rg_discovery_find(&n->discovery, id)) < 0)
        (void)snprintf(why, sizeof why, "node %.128s is not in discovery.json of node %.128s", id,
                       n->discovery.peers[n->self].id);
    else if ((uint32_t)peer == n->self)
        (void)snprintf(why, sizeof why, "two nodes call themselves %.128s", id);
    else if (is_second(n, peer, m->hello.boot))
        (void)snprintf(why, sizeof why, "two nodes call themselves %.128s, and the first is here",
                       id);
    if (why[0]) {
        turn_away(n, k, why);
        return false;
    }

    struct rg_node_peer *p = &n->peers[peer];

    if (p->link) {
        const struct rg_err err = {.code = RG_E_PEER, .message = "it has opened a newer link"};

        rg_node_drop(n, (uint32_t)peer, "a newer link has come");
        tell_link(n, RG_MEMBER_LINK_DOWN, (uint32_t)peer, &err);
        if (n->closing || !k->stranger)
            return false;
    }
    n->n_strangers--;
    k->stranger = false;
    k->peer = peer;
    p->link = k;
    p->dialling = false;
    p->pause_ms = 0;
    tell_link(n, RG_MEMBER_LINK_UP, (uint32_t)peer, NULL);
    return k->peer >= 0;
}

static void take_message(struct rg_node *n, struct rg_node_link *k, const struct rg_frame *f)
{
    struct rg_message m;
    struct rg_err err = {0};
    const enum rg_code code = decode(&m, f, &err);

    if (code) {
        rg_log(RG_LOG_WARN, "cluster", err.message, "address=%s peer=%s", k->address,
               k->peer >= 0 ? n->discovery.peers[k->peer].id : "-");
        rg_link_close(k->link, err.message);
        return;
    }
    if (!k->stranger || make_known(n, k, &m)) {
        const struct rg_member_event event = {
            .kind = RG_MEMBER_MESSAGE, .peer = (uint32_t)k->peer, .message = &m};

        rg_node_event(n, &event);
    }
    rg_message_free(&m);
}

static void forget(struct rg_node *n, struct rg_node_link *k)
{
    struct rg_node_link **at = &n->links;

    while (*at != k)
        at = &(*at)->next;
    *at = k->next;
    rg_link_release(k->link);
    rg_free(k);
}

static void take_close(struct rg_node *n, struct rg_node_link *k, const struct rg_err *why)
{
    const int32_t peer = k->peer;
    struct rg_err err = *why;

    if (err.code == RG_OK) {
        err.code = RG_E_PEER;
        (void)snprintf(err.message, sizeof err.message, "it ended the connection");
    }
    detach(n, k);
    forget(n, k);
    if (peer >= 0)
        tell_link(n, RG_MEMBER_LINK_DOWN, (uint32_t)peer, &err);
}

void rg_node_link_note(struct rg_node *n, struct rg_note *note)
{
    struct rg_node_link *k = note->link;

    switch (note->kind) {
    case RG_NOTE_ACCEPT:
        k->since_ms = rg_clock_ms();
        k->next = n->links;
        n->links = k;
        n->n_strangers++;
        if (n->n_strangers > RG_NODE_STRANGERS_MAX)
            cut(n, k, "too many connections without a Hello");
        break;
    case RG_NOTE_OPEN:
        if (k->peer >= 0) {
            n->peers[k->peer].dialling = false;
            tell_link(n, RG_MEMBER_LINK_UP, (uint32_t)k->peer, NULL);
        }
        break;
    case RG_NOTE_MESSAGE:
        if (k->peer >= 0 || k->stranger)
            take_message(n, k, note->frame);
        break;
    case RG_NOTE_CLOSE:
        take_close(n, k, &note->err);
        break;
    default:
        assert(false);
    }
}

void rg_node_links_free(struct rg_node *n)
{
    while (n->links)
        forget(n, n->links);
}
