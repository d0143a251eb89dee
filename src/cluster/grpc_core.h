/* grpc_core.h - what the files of the transport share; seen by grpc_*.c alone.
 *
 * One completion queue and one thread serve the server and every dialled call.  What the queue
 * gives back is a struct rg_done inside the object that waits; its function runs on that thread.
 * Locks      a link's mutex, then the transport's.
 *            A call into gRPC may run whatever gRPC has to do, also the end of somebody's payload;
 *            under a lock (ours or a caller's) that must not reach done().  So such calls stand
 *            between rg_payloads_hold() and a release, and payloads that end in between are handed
 *            to the transport's thread.
 * Lifetime   a transport's memory stays until its last payload is done; a link's until it is
 *            closed, released, and its last frame freed. */
#ifndef RG_CLUSTER_GRPC_CORE_H
#define RG_CLUSTER_GRPC_CORE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>

#include "base/limits.h"
#include "cluster/tls.h"
#include "cluster/transport.h"

enum {
    RG_ACCEPTS = 8,                       /* calls asked for at once */
    RG_ACCEPTED_MAX = 4 * RG_LIMIT_PEERS, /* accepted links open at once */
    RG_ACCEPTED_NODES = RG_LIMIT_PEERS,   /* of them, not for forwarded requests: clients of other
                                             nodes must not keep a node out */
    RG_WATCHES_MAX = 64,                  /* health calls open at once */
    RG_DIAL_ARGS_MAX = 40,
    RG_LISTEN_BYTES = 128,
    /* gRPC looks at a message's length only when it has all of it: a peer that sends long ones on
     * many streams is stopped by the quota, this and RG_QUOTA_MESSAGES of the largest. */
    RG_QUOTA_BYTES = 512 << 20,
    RG_QUOTA_MESSAGES = 8,
    RG_HELD_BYTES = 1 << 20 /* of received messages not yet freed, but for steps */
};

struct rg_done {
    void (*run)(void *owner, bool ok);
    void *owner;
};

/* ThreadSanitizer cannot see that what was written before a batch is read after its end. */
#if defined(__SANITIZE_THREAD__)
#define RG_SEES_THREADS 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RG_SEES_THREADS 1
#endif
#endif
#ifdef RG_SEES_THREADS
void __tsan_acquire(void *p);
void __tsan_release(void *p);
#define RG_HAND_OVER(p) __tsan_release(p)
#define RG_TAKE_OVER(p) __tsan_acquire(p)
#else
#define RG_HAND_OVER(p) (void)(p)
#define RG_TAKE_OVER(p) (void)(p)
#endif

/* ---- payloads -------------------------------------------------------------------------------- */

struct rg_payload_note {
    struct rg_payload payload;
    struct rg_transport *transport;
    struct rg_payload_note *next;
};

/* A slice of the payload's bytes; NULL memory: false.  Its end calls done(). */
bool rg_payload_slice(grpc_slice *out, struct rg_transport *t, const struct rg_payload *payload);
void rg_payloads_hold(void);
/* Ends a hold; the payloads that ended in it, or NULL.  They must be run. */
struct rg_payload_note *rg_payloads_take(void);
void rg_payloads_run(struct rg_payload_note *first);

/* ---- the transport --------------------------------------------------------------------------- */

struct rg_server;

struct rg_accept {
    struct rg_done done;
    struct rg_server *server;
    grpc_call *call;
    grpc_call_details details;
    grpc_metadata_array metadata;
};

struct rg_health_call;

struct rg_transport {
    atomic_int refs; /* the handle, and each payload */
    size_t step_bytes_max;
    bool (*on_accept)(void *ud, struct rg_link *l, enum rg_link_kind kind, const char *names,
                      const char *address, struct rg_link_events *events, void **link_ud);
    void *ud;
    struct rg_tls tls;
    bool has_tls;
    uint16_t port;

    grpc_completion_queue *queue;
    grpc_channel_credentials *dial_credentials;
    grpc_resource_quota *quota; /* of all that is being received */
    pthread_t thread;
    bool thread_runs;
    char listens_on[RG_LISTEN_BYTES]; /* "": does not listen */
    unsigned accepts_failed;          /* as counted when that was last looked at */
    int64_t look_ms;
    bool deaf;

    pthread_mutex_t mutex; /* of what follows */
    pthread_cond_t no_payloads;
    struct rg_server *servers; /* the first listens; the others live for their links */
    struct rg_link *links;
    struct rg_health_call *health;
    struct rg_payload_note *ended_payloads;
    uint32_t n_calls; /* links, replies and health calls that gRPC may still speak of */
    uint32_t n_accepted, n_timed, n_health, n_payloads;
    bool closing, queue_shut, serving;
};

void rg_transport_unref(struct rg_transport *t);
/* Counts a call; false: the transport is being closed. */
bool rg_transport_begin_call(struct rg_transport *t);
void rg_transport_end_call(struct rg_transport *t);

/* t->mutex is held.  With nothing left to wait for, the thread may end. */
void rg_transport_shut_queue(struct rg_transport *t);

/* Answers with a status and forgets the call. */
void rg_call_reject(struct rg_transport *t, grpc_call *call, grpc_status_code status,
                    const char *text);
bool rg_link_kind_of(grpc_slice path, enum rg_link_kind *kind);
/* The accepted call becomes a link, or is refused. */
void rg_link_accept(struct rg_transport *t, grpc_call *call, enum rg_link_kind kind);
/* The transport's thread: cuts links whose time is over; the time of the next, INT64_MAX: none. */
int64_t rg_links_expire(struct rg_transport *t, int64_t now_ms);
/* Cancels every link. */
void rg_links_cancel(struct rg_transport *t);

/* ---- listening ------------------------------------------------------------------------------- */

RG_CHECKED enum rg_code rg_listen_open(struct rg_transport *t, const struct rg_transport_options *o,
                                       struct rg_err *err);
/* The transport's thread: listens anew when gRPC has stopped; the time of the next look, INT64_MAX:
 * none. */
int64_t rg_listen_look(struct rg_transport *t, int64_t now_ms);
void rg_listen_end(struct rg_transport *t); /* t->closing is set */

/* ---- health ---------------------------------------------------------------------------------- */

void rg_health_accept(struct rg_transport *t, grpc_call *call, bool watch);
void rg_health_update(struct rg_transport *t); /* serving has changed */
void rg_health_cancel(struct rg_transport *t);

/* ---- links ----------------------------------------------------------------------------------- */

struct rg_frame {
    grpc_byte_buffer *bytes;
    struct rg_link *link;
    size_t n;
};

/* A frame was freed: the link may receive again. */
void rg_link_freed(struct rg_link *l, grpc_byte_buffer *bytes, size_t n);

/* ---- settings and words ---------------------------------------------------------------------- */

size_t rg_link_bytes_max(const struct rg_transport *t, enum rg_link_kind kind);
size_t rg_link_bytes_most(const struct rg_transport *t); /* of all kinds */
/* Fills args (at least RG_DIAL_ARGS_MAX); message_max: the largest message. */
size_t rg_grpc_args(const struct rg_transport *t, grpc_arg *args, size_t message_max,
                    bool server);
grpc_arg rg_grpc_arg_text(const char *key, const char *text);
grpc_arg rg_grpc_arg_int(const char *key, int value);

/* One line of why a call to `peer` ended, from gRPC's status and its text. */
enum rg_code rg_grpc_cause(struct rg_err *err, const char *peer, grpc_status_code status,
                           const char *text, bool opened, bool tls);
/* gRPC's own log goes into ours. */
void rg_grpc_log_setup(void);
/* How often a listener of this process has given up, by that log. */
unsigned rg_grpc_accepts_failed(void);

#endif
