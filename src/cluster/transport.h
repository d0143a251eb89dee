/* transport.h - message streams between nodes, over gRPC; no gRPC type is seen outside grpc_*.c.
 *
 * A link is one bidirectional stream of messages: dialled by one node, accepted by the other.
 * Messages come in order, whole, and each once, until on_close.
 * Threads    rg_link_send() and rg_link_close() from any thread.  Callbacks come on the transport's
 *            own thread, one at a time per link; they hand on and return, they never block.
 * Lifetime   a link that was handed out (rg_link_dial's result, on_accept's argument) is held until
 *            rg_link_release(); on_close comes exactly once, after it no callback of that link.
 *            Releasing an open link closes it, and its callbacks may still come until on_close.
 * Limits     RG_LIMIT_LINK_QUEUE messages wait to be sent, then rg_link_send() says RG_E_LIMIT; the
 *            sender of steps never gets there, because the plan bounds steps in flight.  A message
 *            above the limit of its link's kind ends the link.  A receiver that does not free its
 *            frames stops its sender by HTTP/2's flow control: a link reads on while it has at most
 *            1 MiB of them, or of steps twice the largest.
 * Failure    RG_E_PEER with one line: refused, no route, errno 65 on macOS (Local Network privacy),
 *            TLS, timeout.  RG_E_LIMIT: the other side says that it is over a limit of its own.
 * Identity   with certificates both sides show one of the cluster's authority; the certificate's
 *            subject alternative names must have the node id (the dialler checks the one it wants
 *            to reach, on_accept is told the ones that were shown). */
#ifndef RG_CLUSTER_TRANSPORT_H
#define RG_CLUSTER_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct rg_transport;
struct rg_link;

enum rg_link_kind { RG_LINK_CONTROL, RG_LINK_STEPS, RG_LINK_FORWARD, RG_LINK_PROBE, RG_LINK_KINDS };

/* A received message: its bytes may lie in several pieces.  Owned by whoever got it. */
struct rg_frame;
size_t rg_frame_bytes(const struct rg_frame *f);
/* Copies n bytes from `at`; they must be there. */
void rg_frame_read(const struct rg_frame *f, size_t at, void *dst, size_t n);
void rg_frame_free(struct rg_frame *f); /* accepts NULL */

struct rg_link_events {
    void (*on_open)(void *ud, struct rg_link *l); /* dialled links: the other side accepted */
    void (*on_message)(void *ud, struct rg_link *l, struct rg_frame *f); /* frees f */
    void (*on_sent)(void *ud, struct rg_link *l); /* the queue is empty again; may be NULL */
    void (*on_close)(void *ud, struct rg_link *l, const struct rg_err *why); /* RG_OK: an end */
};

struct rg_transport_options {
    const char *host; /* to listen on; NULL: does not listen (status, doctor) */
    uint16_t port;    /* 0: any free one (tests) */
    const char *tls_dir; /* ca.pem, node.pem, node.key; NULL: plain */
    const char *node_id; /* own; must be in the own certificate */
    size_t step_bytes_max; /* of a Steps message; see rg_step_bytes_max() */
    /* A peer opened a link; `names` are its certificate's alternative names, separated by '\n', or
     * "" without TLS.  Fill *events and *ud, or return false to refuse it.  The transport's
     * thread. */
    bool (*on_accept)(void *ud, struct rg_link *l, enum rg_link_kind kind, const char *names,
                      const char *address, struct rg_link_events *events, void **link_ud);
    void *ud;
};

/* RG_E_PEER: the address is taken or not this machine's (SO_REUSEPORT is off); RG_E_USAGE: the
 * certificates. */
RG_CHECKED enum rg_code rg_transport_open(struct rg_transport **out,
                                          const struct rg_transport_options *options,
                                          struct rg_err *err);
/* Ends every link (on_close is called), then the thread.  Links may be released after it. */
void rg_transport_close(struct rg_transport *t); /* accepts NULL */
uint16_t rg_transport_port(const struct rg_transport *t);
/* 16 hex digits of the certificate authority's SHA-256, or "plain". */
const char *rg_transport_cluster(const struct rg_transport *t);
/* What grpc.health.v1.Health answers: SERVING or NOT_SERVING.  Any thread. */
void rg_transport_set_serving(struct rg_transport *t, bool serving);

struct rg_dial {
    enum rg_link_kind kind;
    const char *address;
    uint16_t port;
    const char *peer_id; /* whose certificate it must be */
    const struct rg_link_events *events; /* copied */
    void *ud;
};

/* Never waits: on_open or on_close follows, the latter within RG_LIMIT_HELLO_WAIT_MS.  Does not try
 * again by itself. */
RG_CHECKED enum rg_code rg_link_dial(struct rg_link **out, struct rg_transport *t,
                                     const struct rg_dial *dial, struct rg_err *err);

/* Bytes that follow the head of a message without being copied. */
struct rg_payload {
    const void *p; /* must stay until done() */
    size_t n;
    void (*done)(void *ud); /* the transport needs p no more; any thread; NULL: nobody cares */
    void *ud;
};

/* Queues one message: a copy of head, then the payload (NULL: none).  done() is called also when
 * the link ends first, and never when this call fails. */
RG_CHECKED enum rg_code rg_link_send(struct rg_link *l, const void *head, size_t n,
                                     const struct rg_payload *payload, struct rg_err *err);
/* No more messages from here: the other side gets them all, then the end.  A Forward link that its
 * dialler finished still carries the answer, until the accepting side finishes it; any other link
 * ends for both. */
void rg_link_finish(struct rg_link *l);
/* Ends it now, in both directions; on_close here says RG_E_CANCELED and `why` (one line), which the
 * accepting side's close also tells the dialler.  Of a control link what is queued goes first, for
 * half a second at most. */
void rg_link_close(struct rg_link *l, const char *why);
void rg_link_release(struct rg_link *l); /* accepts NULL */

#endif
