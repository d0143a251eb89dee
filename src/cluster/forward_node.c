/* forward_node.c - the node that has the client: one request to the head, the bytes of its answer
 * back. */
#include "base/mem.h"
#include "cluster/forward_core.h"
#include "cluster/message.h"

enum { FRAMES_PER_TURN = 16 }; /* then other ends and the rest of the loop have their turn */

struct rg_forward {
    struct rg_forward_end end; /* first */
    struct rg_forward_events events;
    void *ud;
    bool paused;
    bool began; /* a message of the answer came */
    bool over; /* on_end was called or must not be; only the link's end is awaited */
};

/* The last event; the link's own end follows. */
static void say_end(struct rg_forward *w, const struct rg_err *why)
{
    struct rg_err end = *why;

    /* A head that takes no more of them says so before it answers: RG_E_LIMIT. */
    if (end.code != RG_OK && end.code != RG_E_NOMEM && (end.code != RG_E_LIMIT || w->began))
        end.code = RG_E_PEER;
    w->over = true;
    rg_forward_end_drop(&w->end);
    w->events.on_end(w->ud, &end);
}

static void deliver(struct rg_forward *w, struct rg_frame *f)
{
    const uint8_t *data;
    struct rg_err err;
    void *text;
    size_t n;

    w->began = true;
    if (rg_forward_frame_read(f, &text, &data, &n, &err) != RG_OK) {
        rg_link_close(w->end.link, err.message);
        say_end(w, &err);
        return;
    }
    if (n > 0)
        w->events.on_bytes(w->ud, data, n);
    rg_free(text);
}

static void look(struct rg_forward_end *e)
{
    struct rg_forward *w = (struct rg_forward *)e;
    const bool closing = rg_forwards_are_closing(e->all);
    struct rg_frame *f = NULL;

    if (closing)
        rg_link_close(e->link, "this node is ending");
    if (closing || w->over)
        rg_forward_end_drop(e);
    for (int i = 0; i < FRAMES_PER_TURN && !w->paused && !w->over; i++) {
        f = rg_forward_end_pop(e);
        if (!f)
            break;
        deliver(w, f);
    }
    if (e->ended && !w->over && !rg_forward_end_has_frames(e))
        say_end(w, &e->why);
    if (w->over && rg_forward_end_may_go(e)) {
        rg_forward_end_free(e);
        rg_free(w);
    } else if (!w->over && !w->paused && rg_forward_end_has_frames(e)) {
        rg_forward_end_wake(e);
    }
}

static enum rg_code dial(struct rg_forward *w, struct rg_transport *t, const struct rg_dial *head,
                         const struct rg_buf *message, struct rg_err *err)
{
    struct rg_dial d = *head;
    struct rg_err why;

    d.kind = RG_LINK_FORWARD;
    d.events = &rg_forward_end_events;
    d.ud = &w->end;

    enum rg_code code = rg_link_dial(&w->end.link, t, &d, err);

    if (code != RG_OK)
        return code;
    /* From here on the link's end says what is wrong, also when this fails. */
    code = rg_link_send(w->end.link, message->data, message->len, NULL, &why);
    if (code != RG_OK)
        rg_link_close(w->end.link, why.message);
    else
        rg_link_finish(w->end.link);
    return RG_OK;
}

enum rg_code rg_forward_begin(struct rg_forward **out, struct rg_forwards *f,
                              struct rg_transport *t, const struct rg_dial *head,
                              const struct rg_forward_text *request,
                              const struct rg_forward_events *events, void *ud, struct rg_err *err)
{
    struct rg_forward *w = rg_calloc(1, sizeof *w);
    struct rg_buf message;
    enum rg_code code;

    if (!w)
        return rg_fail(err, RG_E_NOMEM, "forward: out of memory");
    if (!rg_forward_end_init(&w->end, f, look)) {
        rg_free(w);
        return rg_fail(err, RG_E_PEER, "this node is ending");
    }
    w->events = *events;
    w->ud = ud;
    rg_buf_init(&message, RG_LIMIT_FORWARD_BYTES);
    code = rg_forward_encode(&message, request->p, request->n, err);
    if (code == RG_OK)
        code = dial(w, t, head, &message, err);
    rg_buf_free(&message);
    if (code != RG_OK) {
        rg_forward_end_free(&w->end);
        rg_free(w);
        return code;
    }
    rg_forward_end_list(&w->end);
    *out = w;
    return RG_OK;
}

void rg_forward_pause(struct rg_forward *w, bool paused)
{
    w->paused = paused;
    if (!paused)
        rg_forward_end_wake(&w->end);
}

void rg_forward_cancel(struct rg_forward *w)
{
    w->over = true;
    rg_forward_end_drop(&w->end);
    rg_link_close(w->end.link, "the client went away");
}
