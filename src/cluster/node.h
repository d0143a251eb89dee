/* node.h - this machine in the ring: it puts membership, transport, ring and files together.
 *
 * Threads    the loop's; loading runs on libuv's workers.  rg_node_status() is for the loop's
 *            thread.
 * Lifetime   rg_node_open() listens or fails; rg_node_close() ends links and loading, and calls
 *            on_closed when nothing of it runs any more. */
#ifndef RG_CLUSTER_NODE_H
#define RG_CLUSTER_NODE_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "base/err.h"
#include "cluster/discovery.h"
#include "cluster/forward.h"
#include "cluster/membership.h"
#include "cluster/plan.h"
#include "cluster/ring.h"
#include "compute/compute.h"

struct rg_node;

struct rg_node_options {
    const char *discovery_path;
    const char *node_id; /* NULL: the peer whose address is local */
    const char *host;    /* to listen on; NULL: the address of discovery.json */
    uint32_t port;       /* 0: the port of discovery.json */
    const char *tls_dir; /* NULL: plain */
    bool insecure_peers; /* plain off loopback */
    int64_t wait_for;    /* -1: all peers of the file */
    const char *layers;  /* --layers, or NULL */
    bool overcommit;
    int64_t stuck_ms, grace_ms;
    struct rg_backend_options backend; /* activations: the head's count for all */
};

/* All on the loop's thread. */
struct rg_node_events {
    /* The head: the first plan runs; from now on an engine may use the pipeline.  Once. */
    void (*on_formed)(void *ud, struct rg_pipeline *pipeline, uint32_t context, uint32_t parallel);
    /* Something that a person would want to know changed; several times a second while loading. */
    void (*on_change)(void *ud);
    /* The head: the first plan cannot be made or loaded as things are (RG_E_FIT, RG_E_USAGE). */
    void (*on_hopeless)(void *ud, const struct rg_err *why);
    void (*on_closed)(void *ud);
};

/* Reads discovery.json, checks that its own address is local, listens.  RG_E_PEER: not local, or
 * taken; RG_E_USAGE, RG_E_BAD_DATA: the file, the certificates. */
RG_CHECKED enum rg_code rg_node_open(struct rg_node **out, uv_loop_t *loop,
                                     const struct rg_node_options *options,
                                     const struct rg_node_events *events, void *ud,
                                     struct rg_err *err);
/* First of all: ends the epoch here and takes part in none any more.  The head's engine, whose
 * steps end with RG_E_PEER, can then be closed; and after it the node. */
void rg_node_halt(struct rg_node *n);
void rg_node_close(struct rg_node *n);

/* What this node has of the model, and what the head asks of the plan. */
struct rg_node_model {
    const struct rg_checkpoint *checkpoint; /* headers, parts may be missing; borrowed */
    const struct rg_model_card *card;       /* copied */
    /* context is lowered until it fits, unless context_asked. */
    uint32_t context, parallel, chunk_rows;
    bool context_asked;
};

/* Now that the files were looked at: dials the others.  Once. */
RG_CHECKED enum rg_code rg_node_begin(struct rg_node *n, const struct rg_node_model *model,
                                      struct rg_err *err);

struct rg_node_view {
    const char *id, *address; /* borrowed until the next discovery is read */
    uint16_t port;
    bool head, self;
    struct rg_peer_view peer; /* of the own node: state UP */
    bool has_part;            /* in the present plan */
    uint32_t first_layer, n_layers;
};

struct rg_node_status {
    struct rg_node_view nodes[RG_LIMIT_PEERS];
    uint32_t n_nodes;
    enum rg_epoch_state state;
    struct rg_epoch epoch;
    uint64_t epoch_changes;
    char reason[RG_ERR_BYTES]; /* why nothing runs; "" when it does */
    double loaded;             /* 0..1 over all nodes */
    struct rg_ring_stats ring;
};

void rg_node_status(struct rg_node *n, struct rg_node_status *out);
bool rg_node_is_head(const struct rg_node *n);
const char *rg_node_id(const struct rg_node *n);
const char *rg_node_head_id(const struct rg_node *n);

/* Requests that this node's API hands to the head: on a worker. */
RG_CHECKED enum rg_code rg_node_forward(struct rg_node *n, struct rg_forward **out,
                                        const void *request, size_t size,
                                        const struct rg_forward_events *events, void *ud,
                                        struct rg_err *err);
/* The head's own API server, which forwarded requests go to. */
void rg_node_set_api(struct rg_node *n, const char *host, uint16_t port);

#endif
