/* grpc_payload.c - bytes that are sent from where they lie, and the moment they are free again. */
#include <assert.h>

#include "base/mem.h"
#include "cluster/grpc_core.h"

static _Thread_local uint32_t holds;
static _Thread_local struct rg_payload_note *held;

void rg_payloads_hold(void)
{
    holds++;
}

struct rg_payload_note *rg_payloads_take(void)
{
    assert(holds > 0);
    if (--holds > 0)
        return NULL;

    struct rg_payload_note *first = held;

    held = NULL;
    return first;
}

void rg_payloads_run(struct rg_payload_note *first)
{
    while (first) {
        struct rg_payload_note *next = first->next;
        struct rg_transport *t = first->transport;

        first->payload.done(first->payload.ud);
        rg_free(first);
        pthread_mutex_lock(&t->mutex);
        if (--t->n_payloads == 0)
            pthread_cond_broadcast(&t->no_payloads);
        pthread_mutex_unlock(&t->mutex);
        rg_transport_unref(t);
        first = next;
    }
}

static void on_slice_end(void *ud)
{
    struct rg_payload_note *note = ud;

    if (holds > 0) {
        note->next = held;
        held = note;
    } else {
        rg_payloads_run(note);
    }
}

static void forget(void *ud)
{
    (void)ud;
}

bool rg_payload_slice(grpc_slice *out, struct rg_transport *t, const struct rg_payload *payload)
{
    /* gRPC writes to no slice it was given; the API has no const. */
    void *bytes = (void *)(uintptr_t)payload->p;

    if (!payload->done) {
        *out = grpc_slice_new_with_user_data(bytes, payload->n, forget, NULL);
        return true;
    }

    struct rg_payload_note *note = rg_alloc(sizeof *note);

    if (!note)
        return false;
    *note = (struct rg_payload_note){.payload = *payload, .transport = t};
    pthread_mutex_lock(&t->mutex);
    t->n_payloads++;
    pthread_mutex_unlock(&t->mutex);
    atomic_fetch_add(&t->refs, 1);
    *out = grpc_slice_new_with_user_data(bytes, payload->n, on_slice_end, note);
    return true;
}
