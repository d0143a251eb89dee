/* forward.h - any node's API port answers: requests go to the head over the peer port.
 *
 * The node that has the client sends the whole HTTP request (head and body, one message); the head
 * hands it to its own API server over a loopback connection and sends back the bytes of the answer
 * as they come.  A client that leaves ends the stream, and so the request at the head.
 * Threads    the loop's; links bring their bytes over by a queue.
 * Limits     RG_LIMIT_FORWARD_BYTES for a request, RG_LIMIT_FORWARDS of them at once at the head;
 *            1 MiB of an answer waits for a slow client, then the transport stops its sender, and
 *            the head's side stops reading. */
#ifndef RG_CLUSTER_FORWARD_H
#define RG_CLUSTER_FORWARD_H

#include <stdbool.h>
#include <stddef.h>

#include <uv.h>

#include "base/err.h"
#include "cluster/transport.h"

struct rg_forwards; /* all of one node, both directions */
struct rg_forward;  /* one request that this node hands to the head */

struct rg_forward_text {
    const void *p; /* a whole HTTP request */
    size_t n;
};

struct rg_forward_events {
    void (*on_bytes)(void *ud, const void *p, size_t n); /* of the HTTP answer */
    /* Its end: RG_OK, or why (RG_E_PEER) there will be no more; RG_E_LIMIT when the head takes no
     * more requests.  The pointer is dead after it. */
    void (*on_end)(void *ud, const struct rg_err *why);
};

RG_CHECKED enum rg_code rg_forwards_open(struct rg_forwards **out, uv_loop_t *loop,
                                         struct rg_err *err);
/* Ends every one, then calls on_closed (may be NULL). */
void rg_forwards_close(struct rg_forwards *f, void (*on_closed)(void *ud), void *ud);

/* The head: where its own API server listens (host and port); port 0: it takes no requests yet. */
void rg_forwards_set_api(struct rg_forwards *f, const char *host, uint16_t port);
bool rg_forwards_accept(struct rg_forwards *f, struct rg_link *l, struct rg_link_events *events,
                        void **ud);

RG_CHECKED enum rg_code rg_forward_begin(struct rg_forward **out, struct rg_forwards *f,
                                         struct rg_transport *t, const struct rg_dial *head,
                                         const struct rg_forward_text *request,
                                         const struct rg_forward_events *events, void *ud,
                                         struct rg_err *err);
void rg_forward_pause(struct rg_forward *w, bool paused); /* the client reads slowly */
void rg_forward_cancel(struct rg_forward *w); /* the client is gone; no event comes any more */

#endif
