/* grpc_link.c - one link: its batches, its queue of messages, what it receives, its end. */
#include "cluster/grpc_link.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include <grpc/byte_buffer.h>
#include <grpc/slice.h>
#include <grpc/support/time.h>

#include "base/clock.h"
#include "base/mem.h"

void rg_link_unref(struct rg_link *l)
{
    if (atomic_fetch_sub(&l->refs, 1) != 1)
        return;
    pthread_mutex_destroy(&l->mutex);
    rg_free(l->peer_id);
    rg_free(l);
    grpc_shutdown();
}

/* ---- batches; l->mutex is held --------------------------------------------------------------- */

bool rg_link_start(struct rg_link *l, const grpc_op *op, struct rg_done *done)
{
    RG_HAND_OVER(done);

    const grpc_call_error e = grpc_call_start_batch(l->call, op, op ? 1 : 0, done, NULL);

    assert(e == GRPC_CALL_OK);
    if (e == GRPC_CALL_OK)
        l->outstanding++;
    return e == GRPC_CALL_OK;
}

/* Ends a hold of payloads: the transport's thread runs those that ended in it. */
void rg_link_release_payloads(struct rg_link *l)
{
    struct rg_payload_note *first = rg_payloads_take();

    if (!first)
        return;

    struct rg_transport *t = l->transport;
    struct rg_payload_note *last = first;

    while (last->next)
        last = last->next;
    pthread_mutex_lock(&t->mutex);
    last->next = t->ended_payloads;
    t->ended_payloads = first;
    pthread_mutex_unlock(&t->mutex);
    rg_link_start(l, NULL, &l->woken);
}

void rg_link_receive(struct rg_link *l)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &l->incoming};

    if (!l->over && !l->cut)
        rg_link_start(l, &op, &l->received);
}

static void send_finish(struct rg_link *l)
{
    grpc_op op = {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT};
    grpc_slice text = grpc_slice_from_copied_string(l->goodbye);

    if (!l->dialled) {
        op.op = GRPC_OP_SEND_STATUS_FROM_SERVER;
        op.data.send_status_from_server.status =
            l->closing ? GRPC_STATUS_ABORTED : GRPC_STATUS_OK;
        op.data.send_status_from_server.status_details = &text;
    }
    l->finish_sent = true;
    rg_link_start(l, &op, &l->finished);
    grpc_slice_unref(text);
}

/* Gives gRPC the next thing to send: one message at a time, after the last one the end. */
void rg_link_pump(struct rg_link *l)
{
    if (!l->started || l->sending || l->over || l->cut || l->finish_sent)
        return;
    if (l->n_queued == 0) {
        if (l->finishing)
            send_finish(l);
        return;
    }
    l->outgoing = l->queue[l->queue_at];
    l->queue_at = (l->queue_at + 1) % RG_LIMIT_LINK_QUEUE;
    l->n_queued--;

    grpc_op op = {.op = GRPC_OP_SEND_MESSAGE,
                  .flags = GRPC_WRITE_NO_COMPRESS,
                  .data.send_message.send_message = l->outgoing};

    l->sending = true;
    rg_link_start(l, &op, &l->sent);
}

void rg_link_cut(struct rg_link *l, grpc_status_code status, const char *text)
{
    if (l->over || l->cut)
        return;
    l->closing = l->cut = true;
    grpc_call_cancel_with_status(l->call, status, text, NULL);
}

void rg_link_set_time(struct rg_link *l, int64_t until_ms)
{
    struct rg_transport *t = l->transport;
    const bool timed = until_ms != INT64_MAX;

    l->until_ms = until_ms;
    if (timed != l->timed) {
        l->timed = timed;
        pthread_mutex_lock(&t->mutex);
        t->n_timed = timed ? t->n_timed + 1 : t->n_timed - 1;
        pthread_mutex_unlock(&t->mutex);
    }
    /* The thread learns that there is something to end in time. */
    if (timed)
        rg_link_start(l, NULL, &l->woken);
}

/* ---- its end, on the transport's thread ------------------------------------------------------ */

static void drop_queue(struct rg_link *l)
{
    while (l->n_queued > 0) {
        grpc_byte_buffer *b = l->queue[l->queue_at];

        l->queue_at = (l->queue_at + 1) % RG_LIMIT_LINK_QUEUE;
        l->n_queued--;
        grpc_byte_buffer_destroy(b);
    }
}

/* A channel that goes while it connects leaves its socket behind, open and seen by nobody (gRPC
 * 1.51): it stays until the connection is there or has failed. */
static void part(struct rg_link *l)
{
    struct rg_transport *t = l->transport;
    const int64_t now = rg_clock_ms();

    pthread_mutex_lock(&t->mutex);
    const int64_t most = t->closing ? RG_LINK_CLOSE_MS : RG_LIMIT_HELLO_WAIT_MS + 1000;

    pthread_mutex_unlock(&t->mutex);
    if (l->channel && now - l->until_ms < most &&
        grpc_channel_check_connectivity_state(l->channel, 0) == GRPC_CHANNEL_CONNECTING) {
        grpc_channel_watch_connectivity_state(
            l->channel, GRPC_CHANNEL_CONNECTING,
            gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(100, GPR_TIMESPAN)),
            t->queue, &l->parted);
        return;
    }
    if (l->channel)
        grpc_channel_destroy(l->channel);
    rg_link_unref(l);
    rg_transport_end_call(t);
}

static void on_parted(void *owner, bool ok)
{
    (void)ok;
    part(owner);
}

static void forget_answers(struct rg_link *l)
{
    grpc_metadata_array_destroy(&l->initial);
    grpc_metadata_array_destroy(&l->trailing);
    grpc_slice_unref(l->details);
}

static void say_closed(struct rg_link *l)
{
    struct rg_transport *t = l->transport;

    pthread_mutex_lock(&t->mutex);
    rg_link_list_remove(l);
    if (!l->dialled)
        t->n_accepted--;
    if (l->timed)
        t->n_timed--;
    pthread_mutex_unlock(&t->mutex);
    drop_queue(l);
    grpc_call_unref(l->call);
    forget_answers(l);
    if (l->events.on_close)
        l->events.on_close(l->ud, l, &l->why);
    l->until_ms = rg_clock_ms();
    part(l);
}

/* Ends a handler: unlocks, and closes the link when gRPC holds nothing of it any more. */
void rg_link_leave(struct rg_link *l)
{
    const bool now = l->over && l->outstanding == 0 && !l->closed;

    if (now)
        l->closed = true;
    pthread_mutex_unlock(&l->mutex);
    if (now)
        say_closed(l);
}

struct rg_link *rg_link_enter(void *owner)
{
    struct rg_link *l = owner;

    pthread_mutex_lock(&l->mutex);
    l->outstanding--;
    return l;
}

static void explain(struct rg_link *l)
{
    char text[RG_ERR_BYTES];
    const size_t n = GRPC_SLICE_LENGTH(l->details);

    if (l->local.code) {
        l->why = l->local;
        return;
    }
    if (!l->dialled) {
        if (l->cancelled)
            rg_fail(&l->why, RG_E_PEER, "%s: the other side ended the link or is gone", l->peer);
        return;
    }
    snprintf(text, sizeof text, "%.*s", (int)(n < sizeof text ? n : sizeof text - 1),
             (const char *)GRPC_SLICE_START_PTR(l->details));
    rg_grpc_cause(&l->why, l->peer, l->status, text, l->open, l->transport->has_tls);
}

static void on_ended(void *owner, bool ok)
{
    struct rg_link *l = rg_link_enter(owner);

    (void)ok;
    explain(l);
    l->over = true;
    rg_link_leave(l);
}

static void on_finished(void *owner, bool ok)
{
    (void)ok;
    rg_link_leave(rg_link_enter(owner));
}

static void on_woken(void *owner, bool ok)
{
    struct rg_link *l = rg_link_enter(owner);
    struct rg_transport *t = l->transport;

    (void)ok;
    pthread_mutex_lock(&t->mutex);
    struct rg_payload_note *first = t->ended_payloads;

    t->ended_payloads = NULL;
    pthread_mutex_unlock(&t->mutex);
    rg_link_leave(l);
    rg_payloads_run(first);
}

static void on_sent(void *owner, bool ok)
{
    struct rg_link *l = rg_link_enter(owner);
    grpc_byte_buffer *b = l->outgoing;

    l->outgoing = NULL;
    l->sending = false;
    rg_payloads_hold();
    if (ok)
        rg_link_pump(l);
    rg_link_release_payloads(l);

    const bool empty = ok && !l->sending && !l->over && !l->closing;

    pthread_mutex_unlock(&l->mutex);
    grpc_byte_buffer_destroy(b);
    if (empty && l->events.on_sent)
        l->events.on_sent(l->ud, l);
    pthread_mutex_lock(&l->mutex);
    rg_link_leave(l);
}

/* ---- receiving ------------------------------------------------------------------------------- */

/* NULL: the message breaks a rule, or memory is short; the link is ended. */
static struct rg_frame *take_frame(struct rg_link *l, grpc_byte_buffer *b)
{
    const size_t n = grpc_byte_buffer_length(b);

    if (b->type != GRPC_BB_RAW || b->data.raw.compression != GRPC_COMPRESS_NONE) {
        rg_fail(&l->local, RG_E_BAD_DATA, "%s: a message came compressed", l->peer);
        rg_link_cut(l, GRPC_STATUS_UNIMPLEMENTED, "messages must not be compressed");
        return NULL;
    }
    if (n > l->bytes_max) {
        rg_fail(&l->local, RG_E_LIMIT, "%s: a message of %zu bytes came: at most %zu may", l->peer,
                n, l->bytes_max);
        rg_link_cut(l, GRPC_STATUS_RESOURCE_EXHAUSTED, "a message was too large");
        return NULL;
    }

    struct rg_frame *f = rg_alloc(sizeof *f);

    if (!f) {
        rg_fail(&l->local, RG_E_NOMEM, "%s: memory is short for a message", l->peer);
        rg_link_cut(l, GRPC_STATUS_RESOURCE_EXHAUSTED, "memory is short");
        return NULL;
    }
    *f = (struct rg_frame){.bytes = b, .link = l, .n = n};
    atomic_fetch_add(&l->refs, 1);
    l->held += n;
    return f;
}

/* The other side sends no more.  Only a forwarded request still waits for its answer then. */
static void other_side_finished(struct rg_link *l)
{
    if (l->dialled || l->kind == RG_LINK_FORWARD)
        return;
    l->finishing = true;
    rg_link_pump(l);
}

static void on_received(void *owner, bool ok)
{
    struct rg_link *l = rg_link_enter(owner);
    grpc_byte_buffer *b = l->incoming;
    struct rg_frame *f = NULL;

    (void)ok;
    l->incoming = NULL;
    /* A server that does not say "open" first: its message does. */
    if (b && l->dialled)
        rg_link_open(l);
    rg_payloads_hold();
    if (!b)
        other_side_finished(l);
    else if (!l->closing)
        f = take_frame(l, b);
    rg_link_release_payloads(l);
    if (b) {
        pthread_mutex_unlock(&l->mutex);
        if (f)
            l->events.on_message(l->ud, l, f);
        else
            grpc_byte_buffer_destroy(b);
        pthread_mutex_lock(&l->mutex);
        rg_payloads_hold();
        if (l->held > l->held_max)
            l->paused = true;
        else
            rg_link_receive(l);
        rg_link_release_payloads(l);
    }
    rg_link_leave(l);
}

void rg_link_freed(struct rg_link *l, grpc_byte_buffer *bytes, size_t n)
{
    pthread_mutex_lock(&l->mutex);
    rg_payloads_hold();
    grpc_byte_buffer_destroy(bytes);
    l->held -= n;
    if (l->paused && l->held <= l->held_max && !l->over) {
        l->paused = false;
        rg_link_receive(l);
    }
    struct rg_payload_note *ended = NULL;

    if (l->closed)
        ended = rg_payloads_take();
    else
        rg_link_release_payloads(l);
    pthread_mutex_unlock(&l->mutex);
    rg_payloads_run(ended);
    rg_link_unref(l);
}

/* ---- made, sent to, closed ------------------------------------------------------------------- */

struct rg_link *rg_link_new(struct rg_transport *t, enum rg_link_kind kind)
{
    struct rg_link *l = rg_calloc(1, sizeof *l);

    if (!l)
        return NULL;
    if (pthread_mutex_init(&l->mutex, NULL) != 0) {
        rg_free(l);
        return NULL;
    }
    /* A frame that is freed after the transport's end still needs the library. */
    grpc_init();
    l->transport = t;
    l->kind = kind;
    l->bytes_max = rg_link_bytes_max(t, kind);
    l->held_max = kind == RG_LINK_STEPS ? 2 * l->bytes_max : RG_HELD_BYTES;
    atomic_init(&l->refs, 2);
    grpc_metadata_array_init(&l->initial);
    grpc_metadata_array_init(&l->trailing);
    l->details = grpc_empty_slice();
    l->opened = (struct rg_done){.run = on_finished, .owner = l};
    l->received = (struct rg_done){.run = on_received, .owner = l};
    l->sent = (struct rg_done){.run = on_sent, .owner = l};
    l->finished = (struct rg_done){.run = on_finished, .owner = l};
    l->ended = (struct rg_done){.run = on_ended, .owner = l};
    l->woken = (struct rg_done){.run = on_woken, .owner = l};
    l->parted = (struct rg_done){.run = on_parted, .owner = l};
    return l;
}

/* A copy of head, then the payload; NULL: memory is short, and done() will not be called. */
static grpc_byte_buffer *message(struct rg_link *l, const void *head, size_t n,
                                 const struct rg_payload *payload)
{
    grpc_slice slices[2];
    size_t count = 0;

    if (payload && !rg_payload_slice(&slices[1], l->transport, payload))
        return NULL;
    slices[count++] = grpc_slice_from_copied_buffer(head, n);
    if (payload)
        count++;

    grpc_byte_buffer *b = grpc_raw_byte_buffer_create(slices, count);

    for (size_t i = 0; i < count; i++)
        grpc_slice_unref(slices[i]);
    return b;
}

/* Between hold and release, so that the mutex is free again when done() runs. */
static enum rg_code send_locked(struct rg_link *l, const void *head, size_t n,
                                const struct rg_payload *payload, struct rg_err *err)
{
    if (l->over || l->closing || l->finishing)
        return rg_fail(err, RG_E_PEER, "%s: the link has ended", l->peer);
    if (l->n_queued == RG_LIMIT_LINK_QUEUE)
        return rg_fail(err, RG_E_LIMIT, "%s: %u messages wait to be sent already", l->peer,
                       RG_LIMIT_LINK_QUEUE);

    grpc_byte_buffer *b = message(l, head, n, payload);

    if (!b)
        return rg_fail(err, RG_E_NOMEM, "%s: memory is short for a message", l->peer);
    l->queue[(l->queue_at + l->n_queued++) % RG_LIMIT_LINK_QUEUE] = b;
    rg_payloads_hold();
    rg_link_pump(l);
    rg_link_release_payloads(l);
    return RG_OK;
}

enum rg_code rg_link_send(struct rg_link *l, const void *head, size_t n,
                          const struct rg_payload *payload, struct rg_err *err)
{
    pthread_mutex_lock(&l->mutex);
    const enum rg_code code = send_locked(l, head, n, payload, err);

    pthread_mutex_unlock(&l->mutex);
    return code;
}

void rg_link_finish(struct rg_link *l)
{
    pthread_mutex_lock(&l->mutex);
    if (!l->over && !l->closing && !l->finishing) {
        l->finishing = true;
        rg_payloads_hold();
        rg_link_pump(l);
        rg_link_release_payloads(l);
    }
    pthread_mutex_unlock(&l->mutex);
}

/* A control link says first what was queued, a refusal for one. */
void rg_link_close_locked(struct rg_link *l, const char *why, bool now)
{
    if (l->over || l->closing)
        return;
    rg_fail(&l->local, RG_E_CANCELED, "%s: %s", l->peer, why);
    (void)snprintf(l->goodbye, sizeof l->goodbye, "%s", why);
    rg_payloads_hold();
    if (now || l->kind != RG_LINK_CONTROL || !l->open || l->finish_sent) {
        rg_link_cut(l, l->dialled ? GRPC_STATUS_CANCELLED : GRPC_STATUS_ABORTED, l->goodbye);
    } else {
        l->closing = l->finishing = true;
        rg_link_set_time(l, rg_clock_ms() + RG_LINK_CLOSE_MS);
        rg_link_pump(l);
    }
    rg_link_release_payloads(l);
}

void rg_link_close(struct rg_link *l, const char *why)
{
    pthread_mutex_lock(&l->mutex);
    rg_link_close_locked(l, why, false);
    pthread_mutex_unlock(&l->mutex);
}

void rg_link_release(struct rg_link *l)
{
    if (!l)
        return;
    pthread_mutex_lock(&l->mutex);
    /* What was finished still ends by itself, but for a request whose answer nobody wants. */
    if (l->finishing && !l->closing && !l->over && !(l->dialled && l->kind == RG_LINK_FORWARD))
        rg_link_set_time(l, rg_clock_ms() + RG_LIMIT_HELLO_WAIT_MS);
    else
        rg_link_close_locked(l, "no longer needed", false);
    pthread_mutex_unlock(&l->mutex);
    rg_link_unref(l);
}
