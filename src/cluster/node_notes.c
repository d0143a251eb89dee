/* node_notes.c - what other threads have to tell the loop. */
#include "base/log.h"
#include "base/mem.h"
#include "cluster/node_state.h"

void rg_node_note(struct rg_node *n, enum rg_note_kind kind, struct rg_node_link *link,
                  struct rg_frame *frame, struct rg_epoch epoch, const struct rg_err *err)
{
    struct rg_note *note = rg_calloc(1, sizeof *note);
    bool full;

    if (!note) {
        /* Without a note of it, the peer's silence ends its link. */
        rg_frame_free(frame);
        rg_log(RG_LOG_ERROR, "cluster", "out of memory: an event of a link is lost", "kind=%d",
               (int)kind);
        return;
    }
    *note = (struct rg_note){.kind = kind, .link = link, .frame = frame, .epoch = epoch};
    if (err)
        note->err = *err;
    pthread_mutex_lock(&n->lock);
    full = n->n_notes >= RG_NODE_NOTES_MAX && kind == RG_NOTE_MESSAGE;
    if (!full) {
        if (n->notes_last)
            n->notes_last->next = note;
        else
            n->notes_first = note;
        n->notes_last = note;
        n->n_notes++;
        (void)uv_async_send(&n->wake);
    }
    pthread_mutex_unlock(&n->lock);
    if (full) { /* a peer that floods */
        rg_frame_free(frame);
        rg_free(note);
    }
}

static struct rg_note *take_notes(struct rg_node *n)
{
    struct rg_note *first;

    pthread_mutex_lock(&n->lock);
    first = n->notes_first;
    n->notes_first = n->notes_last = NULL;
    n->n_notes = 0;
    pthread_mutex_unlock(&n->lock);
    return first;
}

static bool same_epoch(const struct rg_node *n, const struct rg_note *note)
{
    return rg_epoch_equal(n->epoch, note->epoch);
}

void rg_node_tell_if_loaded(struct rg_node *n)
{
    const struct rg_member_event event = {.kind = RG_MEMBER_LOADED, .epoch = n->epoch};

    if (!n->part_loaded || !n->ring_connected || n->load_told)
        return;
    n->load_told = true;
    rg_node_event(n, &event);
}

static void take_note(struct rg_node *n, struct rg_note *note)
{
    struct rg_member_event down = {
        .kind = RG_MEMBER_RING_DOWN, .epoch = note->epoch, .err = &note->err};

    switch (note->kind) {
    case RG_NOTE_RING_CONNECTED:
        if (same_epoch(n, note))
            n->ring_connected = true;
        break;
    case RG_NOTE_RING_DOWN:
        rg_node_event(n, &down);
        break;
    case RG_NOTE_HOPELESS:
        n->events.on_hopeless(n->ud, &note->err);
        break;
    default:
        rg_node_link_note(n, note);
    }
}

void rg_node_on_wake(uv_async_t *wake)
{
    struct rg_node *n = wake->data;
    struct rg_note *note = take_notes(n);

    while (note) {
        struct rg_note *next = note->next;

        /* A link's close must be seen also while closing: its memory is freed there. */
        if (!n->closing || note->kind <= RG_NOTE_ACCEPT)
            take_note(n, note);
        rg_frame_free(note->frame);
        rg_free(note);
        note = next;
    }
    if (!n->closing)
        rg_node_tell_if_loaded(n);
}
