/* ring_links.c - the two step streams of a node: their opening, what comes in, what goes out.
 *
 * The dialler says StepsOpen, the acceptor answers with its own.  Nodes prepare at different times:
 * a stream whose epoch this node does not know yet waits unanswered until it does, or until its
 * dialler gives up; a few may wait, then the oldest is closed. */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "cluster/ring_state.h"
#include "cluster/tls.h"

static struct rg_ring_link *new_link(struct rg_ring *r, bool dialled)
{
    struct rg_ring_link *l = rg_calloc(1, sizeof *l);

    if (!l)
        return NULL;
    l->ring = r;
    l->dialled = dialled;
    atomic_init(&l->refs, 1);
    rg_buf_init(&l->head, RG_LIMIT_STEP_HEAD_BYTES);
    return l;
}

static void unref(struct rg_ring_link *l)
{
    if (atomic_fetch_sub(&l->refs, 1) != 1)
        return;
    rg_link_release(l->link);
    rg_buf_free(&l->head);
    rg_free(l);
}

/* ---- r->lock is held ------------------------------------------------------------------------- */

/* Takes it off the list of those that wait; it may not be on it. */
static void forget_pending(struct rg_ring *r, const struct rg_ring_link *l)
{
    for (struct rg_ring_link **at = &r->pending; *at; at = &(*at)->next)
        if (*at == l) {
            *at = l->next;
            return;
        }
}

static void turn_away(struct rg_ring *r, struct rg_ring_link *l, const char *why)
{
    forget_pending(r, l);
    rg_link_close(l->link, why);
}

static void send_open(struct rg_ring *r, struct rg_ring_link *l)
{
    struct rg_steps_open o = {.epoch = r->e.epoch};
    struct rg_buf out;
    struct rg_err err = {0};

    memcpy(o.node_id, r->node_id, sizeof o.node_id);
    rg_buf_init(&out, RG_LIMIT_CONTROL_BYTES);
    if (rg_steps_open_encode(&out, &o, &err) != RG_OK ||
        rg_link_send(l->link, out.data, out.len, NULL, &err) != RG_OK)
        rg_link_close(l->link, err.message);
    rg_buf_free(&out);
}

/* Is it the stream that this epoch waits for?  Else it waits on, or is turned away. */
static void place(struct rg_ring *r, struct rg_ring_link *l)
{
    const struct rg_epoch mine = r->e.epoch, its = l->open.epoch;

    if (rg_epoch_equal(mine, its) && r->state == RG_RING_CONNECTING && !r->in) {
        if (strcmp(l->open.node_id, r->e.previous_id) != 0) {
            turn_away(r, l, "not the predecessor of this node");
            return;
        }
        forget_pending(r, l);
        r->in = l;
        l->run = atomic_load(&r->run);
        send_open(r, l);
    } else if (its.boot == mine.boot && its.n <= mine.n) {
        turn_away(r, l, "the epoch is over, or has its predecessor");
    }
}

void rg_ring_adopt(struct rg_ring *r)
{
    struct rg_ring_link *next;

    for (struct rg_ring_link *l = r->pending; l; l = next) {
        next = l->next;
        if (l->opened)
            place(r, l);
    }
}

void rg_ring_close_links(struct rg_ring *r, const char *why)
{
    if (r->in)
        rg_link_close(r->in->link, why);
    if (r->out)
        rg_link_close(r->out->link, why);
    r->in = r->out = NULL;
}

bool rg_ring_settle_connected(struct rg_ring *r)
{
    const bool alone = !r->e.next_id[0];

    if (r->state != RG_RING_CONNECTING || !(alone || (r->in && r->out && r->out->opened)))
        return false;
    r->state = RG_RING_CONNECTED;
    return true;
}

/* ---- events of a link, on the transport's thread --------------------------------------------- */

static void on_open(void *ud, struct rg_link *link)
{
    struct rg_ring_link *l = ud;
    struct rg_ring *r = l->ring;

    (void)link;
    pthread_mutex_lock(&r->lock);
    if (l->run == atomic_load(&r->run) && r->out == l)
        send_open(r, l);
    pthread_mutex_unlock(&r->lock);
}

static void on_close(void *ud, struct rg_link *link, const struct rg_err *why)
{
    struct rg_ring_link *l = ud;
    struct rg_ring *r = l->ring;
    struct rg_err err;
    bool was_used;

    (void)link;
    pthread_mutex_lock(&r->lock);
    was_used = r->in == l || r->out == l;
    rg_fail(&err, RG_E_PEER, "steps %s node %s: %s", l->dialled ? "to" : "from",
            l->dialled ? r->e.next_id : r->e.previous_id,
            why->code != RG_OK ? why->message : "the stream ended");
    if (r->in == l)
        r->in = NULL;
    if (r->out == l)
        r->out = NULL;
    forget_pending(r, l);
    pthread_mutex_unlock(&r->lock);
    if (was_used)
        rg_ring_fail(r, l->run, &err);
    unref(l);
}

/* Reads the first n bytes of a frame to l->head. */
static enum rg_code read_head(struct rg_ring_link *l, const struct rg_frame *f, size_t n,
                              struct rg_err *err)
{
    enum rg_code code;

    rg_buf_clear(&l->head);
    code = rg_buf_reserve(&l->head, n ? n : 1, err);
    if (code == RG_OK)
        rg_frame_read(f, 0, l->head.data, n);
    return code;
}

static enum rg_code read_open(struct rg_ring_link *l, const struct rg_frame *f, struct rg_err *err)
{
    const size_t n = rg_frame_bytes(f);
    enum rg_code code;

    if (n > RG_LIMIT_CONTROL_BYTES)
        return rg_fail(err, RG_E_LIMIT, "StepsOpen: %zu bytes, the limit is %u", n,
                       RG_LIMIT_CONTROL_BYTES);
    code = read_head(l, f, n, err);
    return code == RG_OK ? rg_steps_open_decode(&l->open, (const uint8_t *)l->head.data, n, err)
                         : code;
}

/* Of the dialled stream: the answer, and nothing after it. */
static void take_answer(struct rg_ring_link *l, const struct rg_frame *f)
{
    struct rg_ring *r = l->ring;
    struct rg_err err = {0};
    enum rg_code code = l->opened ? rg_fail(&err, RG_E_BAD_DATA, "a second StepsOpen")
                                  : read_open(l, f, &err);
    struct rg_epoch epoch;
    bool connected = false;

    pthread_mutex_lock(&r->lock);
    epoch = r->e.epoch;
    if (r->out != l) {
        pthread_mutex_unlock(&r->lock);
        return;
    }
    if (code == RG_OK && (!rg_epoch_equal(l->open.epoch, epoch) ||
                          strcmp(l->open.node_id, r->e.next_id) != 0))
        code = rg_fail(&err, RG_E_PEER, "node %s answered as another node or for another epoch",
                       l->open.node_id);
    if (code == RG_OK) {
        l->opened = true;
        connected = rg_ring_settle_connected(r);
    }
    pthread_mutex_unlock(&r->lock);
    if (code != RG_OK)
        rg_ring_fail(r, l->run, &err);
    if (connected && r->events.on_connected)
        r->events.on_connected(r->ud, epoch);
}

/* Of an accepted stream that has not been placed. */
static void take_open(struct rg_ring_link *l, const struct rg_frame *f)
{
    struct rg_ring *r = l->ring;
    struct rg_err err = {0};
    enum rg_code code = l->opened ? rg_fail(&err, RG_E_BAD_DATA, "a message before the answer")
                                  : read_open(l, f, &err);
    struct rg_epoch epoch;
    bool connected = false;

    if (code == RG_OK && l->names[0] && !rg_tls_names_have(l->names, l->open.node_id))
        code = rg_fail(&err, RG_E_PEER, "the certificate is not that of node %s", l->open.node_id);
    pthread_mutex_lock(&r->lock);
    epoch = r->e.epoch;
    if (code != RG_OK) {
        turn_away(r, l, err.message);
    } else {
        l->opened = true;
        place(r, l);
        connected = rg_ring_settle_connected(r);
    }
    pthread_mutex_unlock(&r->lock);
    if (connected && r->events.on_connected)
        r->events.on_connected(r->ud, epoch);
}

/* The rules of a stream that the message alone cannot show; r->lock is held. */
static enum rg_code queue_step(struct rg_ring *r, struct rg_ring_link *l,
                               const struct rg_ring_item *item, struct rg_err *err)
{
    const struct rg_step_head *h = &item->head;
    const uint32_t most = r->e.stages + 1;

    if (r->in != l || (r->state != RG_RING_RUNNING && r->state != RG_RING_CONNECTED))
        return rg_fail(err, RG_E_PEER, "Step: no epoch is open for steps");
    if (!rg_epoch_equal(h->epoch, r->e.epoch))
        return rg_fail(err, RG_E_BAD_DATA, "Step.epoch: of another epoch");
    if (h->seq != r->last_in + 1 || (r->is_head && h->seq > r->last_out))
        return rg_fail(err, RG_E_BAD_DATA, "Step.seq: %llu came after %llu",
                       (unsigned long long)h->seq, (unsigned long long)r->last_in);
    if (r->n_queued == most)
        return rg_fail(err, RG_E_LIMIT, "Step: a ring of %u has %u steps under way at most",
                       r->e.stages, most);
    r->queue[(r->queue_at + r->n_queued++) % RG_RING_QUEUE] = *item;
    r->last_in = h->seq;
    pthread_cond_broadcast(&r->change);
    return RG_OK;
}

/* Takes over the frame. */
static void take_step(struct rg_ring_link *l, struct rg_frame *f,
                      const struct rg_step_limits *limits)
{
    struct rg_ring *r = l->ring;
    struct rg_ring_item item = {.frame = f};
    const size_t total = rg_frame_bytes(f), most = rg_step_head_bytes_max(limits);
    const size_t n = total < most ? total : most;
    struct rg_err err = {0};
    enum rg_code code = read_head(l, f, n, &err);

    if (code == RG_OK)
        code = rg_step_decode(&item.head, &item.rows_at, (const uint8_t *)l->head.data, n, total,
                              limits, &err);
    pthread_mutex_lock(&r->lock);
    if (code == RG_OK)
        code = queue_step(r, l, &item, &err);
    pthread_mutex_unlock(&r->lock);
    if (code == RG_OK)
        return;
    rg_ring_item_free(&item);
    rg_ring_fail(r, l->run, &err);
}

static void on_message(void *ud, struct rg_link *link, struct rg_frame *f)
{
    struct rg_ring_link *l = ud;
    struct rg_ring *r = l->ring;
    struct rg_step_limits limits;
    bool is_in, is_over;

    (void)link;
    pthread_mutex_lock(&r->lock);
    is_in = r->in == l;
    is_over = l->run != 0 && l->run != atomic_load(&r->run);
    limits = r->e.limits;
    pthread_mutex_unlock(&r->lock);
    if (is_in && !is_over) {
        take_step(l, f, &limits);
        return;
    }
    if (!is_over && l->dialled)
        take_answer(l, f);
    else if (!is_over)
        take_open(l, f);
    rg_frame_free(f);
}

static const struct rg_link_events events = {
    .on_open = on_open, .on_message = on_message, .on_close = on_close};

/* ---- opening --------------------------------------------------------------------------------- */

enum rg_code rg_ring_dial(struct rg_ring *r, struct rg_transport *t, struct rg_err *err)
{
    struct rg_ring_link *l = new_link(r, true);
    const struct rg_dial dial = {.kind = RG_LINK_STEPS,
                                 .address = r->e.next_address,
                                 .port = r->e.next_port,
                                 .peer_id = r->e.next_id,
                                 .events = &events,
                                 .ud = l};
    enum rg_code code;

    if (!l)
        return rg_fail(err, RG_E_NOMEM, "ring: out of memory");
    l->run = atomic_load(&r->run);
    r->out = l;
    code = rg_link_dial(&l->link, t, &dial, err); /* its events wait for r->lock */
    if (code != RG_OK) {
        r->out = NULL;
        rg_free(l);
    }
    return code;
}

bool rg_ring_accept(struct rg_ring *r, struct rg_link *link, const char *names,
                    struct rg_link_events *out, void **ud)
{
    struct rg_ring_link *l;
    struct rg_ring_link **oldest;
    uint32_t n = 0;

    if (strlen(names) >= RG_RING_NAMES_BYTES)
        return false;
    l = new_link(r, false);
    if (!l)
        return false;
    l->link = link;
    memcpy(l->names, names, strlen(names) + 1);
    pthread_mutex_lock(&r->lock);
    l->next = r->pending;
    r->pending = l;
    for (oldest = &r->pending; (*oldest)->next; oldest = &(*oldest)->next)
        n++;
    if (n == RG_RING_PENDING)
        turn_away(r, *oldest, "too many step streams wait for a plan");
    pthread_mutex_unlock(&r->lock);
    *out = events;
    *ud = l;
    return true;
}

/* ---- sending --------------------------------------------------------------------------------- */

static void on_payload_done(void *ud)
{
    rg_ring_pool_give(ud);
}

/* The stream to the successor, held; NULL: the run is over. */
static struct rg_ring_link *hold_out(struct rg_ring *r, uint64_t run, const struct rg_step_head *h,
                                     struct rg_err *err)
{
    struct rg_ring_link *l = NULL;

    pthread_mutex_lock(&r->lock);
    if (rg_ring_runs(r, run) && r->out) {
        l = r->out;
        atomic_fetch_add(&l->refs, 1);
        r->last_out = h->seq;
    } else {
        rg_fail(err, RG_E_PEER, "%s", r->why.message);
    }
    pthread_mutex_unlock(&r->lock);
    return l;
}

enum rg_code rg_ring_send(struct rg_ring *r, uint64_t run, const struct rg_step_head *h,
                          struct rg_ring_buffer *rows, struct rg_err *err)
{
    const size_t bytes = rows ? (size_t)h->n_rows * r->hidden * sizeof(float) : 0;
    const struct rg_payload payload = {
        .p = rows ? rows->rows : NULL, .n = bytes, .done = on_payload_done, .ud = rows};
    struct rg_ring_link *l;
    enum rg_code code;

    assert(!rows == (h->code != RG_OK));
    rg_buf_clear(&r->wire);
    code = rg_step_encode(&r->wire, h, bytes, err);
    if (code == RG_OK) {
        l = hold_out(r, run, h, err);
        code = l ? rg_link_send(l->link, r->wire.data, r->wire.len, rows ? &payload : NULL, err)
                 : RG_E_PEER;
        if (l)
            unref(l);
    }
    if (code != RG_OK && rows)
        rg_ring_pool_give(rows);
    return code;
}
