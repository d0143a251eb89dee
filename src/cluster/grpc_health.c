/* grpc_health.c - grpc.health.v1.Health: Check and Watch, with hand-made protobuf.
 *
 *   message HealthCheckRequest  { string service = 1; }
 *   message HealthCheckResponse { ServingStatus status = 1; }   1 serving, 2 not, 3 unknown service
 * Two services are known: "" and "renga.v1.Peer". */
#include <assert.h>
#include <string.h>

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/slice.h>

#include "base/mem.h"
#include "cluster/grpc_core.h"

enum { SERVING = 1, NOT_SERVING = 2, SERVICE_UNKNOWN = 3, REQUEST_BYTES_MAX = 256 };

struct rg_health_call {
    struct rg_transport *transport;
    struct rg_health_call *previous, *next;
    grpc_call *call;
    bool watch;
    struct rg_done received, sent, ended, begun;
    grpc_byte_buffer *incoming, *outgoing;
    int cancelled;
    /* transport->mutex: */
    uint32_t outstanding;
    bool asked, known, sending, over, answered;
    int said; /* the status that was sent last */
};

/* transport->mutex is held. */
static void start(struct rg_health_call *h, const grpc_op *ops, size_t n, struct rg_done *done)
{
    const grpc_call_error e = grpc_call_start_batch(h->call, ops, n, done, NULL);

    assert(e == GRPC_CALL_OK);
    if (e == GRPC_CALL_OK)
        h->outstanding++;
}

/* A protobuf varint; false: it does not end. */
static bool varint(const uint8_t **p, const uint8_t *end, uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; *p < end && shift < 64; shift += 7) {
        const uint8_t byte = *(*p)++;

        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return true;
    }
    return false;
}

/* The service of a request; false: these are no such bytes.  Other fields are skipped if they are
 * numbers or bytes, the kinds that a later version could add. */
static bool read_service(const uint8_t *p, size_t n, const uint8_t **service, size_t *length)
{
    const uint8_t *end = p + n;

    *length = 0;
    *service = p;
    while (p < end) {
        uint64_t tag, value;

        if (!varint(&p, end, &tag) || !varint(&p, end, &value))
            return false;
        if ((tag & 7) == 0)
            continue;
        if ((tag & 7) != 2 || value > (uint64_t)(end - p))
            return false;
        if (tag >> 3 == 1) {
            *service = p;
            *length = (size_t)value;
        }
        p += value;
    }
    return true;
}

static bool is_known(grpc_byte_buffer *b, bool *known)
{
    grpc_byte_buffer_reader reader;
    const uint8_t *service;
    size_t length;
    static const char ours[] = "renga.v1.Peer";

    if (grpc_byte_buffer_length(b) > REQUEST_BYTES_MAX ||
        !grpc_byte_buffer_reader_init(&reader, b))
        return false;

    grpc_slice all = grpc_byte_buffer_reader_readall(&reader);
    const bool right =
        read_service(GRPC_SLICE_START_PTR(all), GRPC_SLICE_LENGTH(all), &service, &length);

    if (right)
        *known = length == 0 ||
                 (length == sizeof ours - 1 && memcmp(service, ours, sizeof ours - 1) == 0);
    grpc_slice_unref(all);
    grpc_byte_buffer_reader_destroy(&reader);
    return right;
}

static grpc_byte_buffer *response(int status)
{
    const uint8_t bytes[2] = {1 << 3, (uint8_t)status};
    grpc_slice slice = grpc_slice_from_copied_buffer((const char *)bytes, sizeof bytes);
    grpc_byte_buffer *b = grpc_raw_byte_buffer_create(&slice, 1);

    grpc_slice_unref(slice);
    return b;
}

static void fail_call(struct rg_health_call *h, grpc_status_code status, const char *text)
{
    if (!h->over)
        grpc_call_cancel_with_status(h->call, status, text, NULL);
}

/* Says what is so now, if it was not said yet.  transport->mutex is held. */
static void answer(struct rg_health_call *h)
{
    const int now = !h->known ? SERVICE_UNKNOWN : h->transport->serving ? SERVING : NOT_SERVING;
    grpc_op ops[2] = {{.op = GRPC_OP_SEND_MESSAGE},
                      {.op = GRPC_OP_SEND_STATUS_FROM_SERVER,
                       .data.send_status_from_server.status = GRPC_STATUS_OK}};

    if (!h->asked || h->sending || h->over || h->answered || h->said == now)
        return;
    if (!h->watch && !h->known) {
        fail_call(h, GRPC_STATUS_NOT_FOUND, "unknown service");
        return;
    }
    h->outgoing = response(now);
    ops[0].data.send_message.send_message = h->outgoing;
    h->said = now;
    h->sending = true;
    h->answered = !h->watch;
    start(h, ops, h->watch ? 1 : 2, &h->sent);
}

static struct rg_health_call *enter(void *owner)
{
    struct rg_health_call *h = owner;

    pthread_mutex_lock(&h->transport->mutex);
    h->outstanding--;
    return h;
}

/* Unlocks; ends the call when gRPC has nothing of it any more. */
static void leave(struct rg_health_call *h)
{
    struct rg_transport *t = h->transport;
    const bool now = h->over && h->outstanding == 0;

    if (now) {
        if (h->next)
            h->next->previous = h->previous;
        if (h->previous)
            h->previous->next = h->next;
        else
            t->health = h->next;
        t->n_health--;
    }
    pthread_mutex_unlock(&t->mutex);
    if (!now)
        return;
    grpc_call_unref(h->call);
    rg_free(h);
    rg_transport_end_call(t);
}

static void on_begun(void *owner, bool ok)
{
    (void)ok;
    leave(enter(owner));
}

static void on_ended(void *owner, bool ok)
{
    struct rg_health_call *h = enter(owner);

    (void)ok;
    h->over = true;
    leave(h);
}

static void on_sent(void *owner, bool ok)
{
    struct rg_health_call *h = enter(owner);

    grpc_byte_buffer_destroy(h->outgoing);
    h->outgoing = NULL;
    h->sending = false;
    rg_payloads_hold();
    if (ok)
        answer(h);

    struct rg_payload_note *ended = rg_payloads_take();

    leave(h);
    rg_payloads_run(ended);
}

static void on_received(void *owner, bool ok)
{
    struct rg_health_call *h = enter(owner);

    (void)ok;
    rg_payloads_hold();
    if (!h->incoming || !is_known(h->incoming, &h->known)) {
        fail_call(h, GRPC_STATUS_INVALID_ARGUMENT, "no HealthCheckRequest");
    } else {
        h->asked = true;
        answer(h);
    }
    grpc_byte_buffer_destroy(h->incoming);
    h->incoming = NULL;

    struct rg_payload_note *ended = rg_payloads_take();

    leave(h);
    rg_payloads_run(ended);
}

static void begin(struct rg_health_call *h)
{
    grpc_op ended = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER,
                     .data.recv_close_on_server.cancelled = &h->cancelled};
    grpc_op begun = {.op = GRPC_OP_SEND_INITIAL_METADATA};
    grpc_op received = {.op = GRPC_OP_RECV_MESSAGE,
                        .data.recv_message.recv_message = &h->incoming};

    start(h, &ended, 1, &h->ended);
    start(h, &begun, 1, &h->begun);
    start(h, &received, 1, &h->received);
}

void rg_health_accept(struct rg_transport *t, grpc_call *call, bool watch)
{
    pthread_mutex_lock(&t->mutex);
    const bool room = t->n_health < RG_WATCHES_MAX;

    pthread_mutex_unlock(&t->mutex);
    struct rg_health_call *h = room ? rg_calloc(1, sizeof *h) : NULL;

    if (!h) {
        rg_call_reject(t, call, GRPC_STATUS_RESOURCE_EXHAUSTED, "too many health calls");
        return;
    }
    h->transport = t;
    h->call = call;
    h->watch = watch;
    h->begun = (struct rg_done){.run = on_begun, .owner = h};
    h->received = (struct rg_done){.run = on_received, .owner = h};
    h->sent = (struct rg_done){.run = on_sent, .owner = h};
    h->ended = (struct rg_done){.run = on_ended, .owner = h};
    pthread_mutex_lock(&t->mutex);
    rg_payloads_hold();
    t->n_calls++;
    t->n_health++;
    h->next = t->health;
    if (t->health)
        t->health->previous = h;
    t->health = h;
    if (t->closing)
        grpc_call_cancel(call, NULL);
    begin(h);

    struct rg_payload_note *ended = rg_payloads_take();

    pthread_mutex_unlock(&t->mutex);
    rg_payloads_run(ended);
}

void rg_health_update(struct rg_transport *t)
{
    pthread_mutex_lock(&t->mutex);
    rg_payloads_hold();
    for (struct rg_health_call *h = t->health; h; h = h->next)
        answer(h);

    struct rg_payload_note *ended = rg_payloads_take();

    pthread_mutex_unlock(&t->mutex);
    rg_payloads_run(ended);
}

void rg_health_cancel(struct rg_transport *t)
{
    pthread_mutex_lock(&t->mutex);
    rg_payloads_hold();
    for (struct rg_health_call *h = t->health; h; h = h->next)
        fail_call(h, GRPC_STATUS_UNAVAILABLE, "this node is closing");

    struct rg_payload_note *ended = rg_payloads_take();

    pthread_mutex_unlock(&t->mutex);
    rg_payloads_run(ended);
}
