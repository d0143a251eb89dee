/* ring_health.h - what /health (and so `renga status`) says about the nodes of a ring. */
#ifndef RG_CLI_RING_HEALTH_H
#define RG_CLI_RING_HEALTH_H

#include "api/api.h"
#include "cluster/node.h"
#include "engine/engine.h"

struct rg_ring_health {
    struct rg_node *node;         /* borrowed */
    struct rg_node_status status; /* of the last look */
    double tokens_per_s;          /* generated, over the last second that had some */
    uint64_t counted_tokens;
    int64_t counted_ns;
    bool has_engine;
    struct rg_engine_stats engine; /* of the last look; a head's only */
};

/* Looks at the engine's counters; engine NULL: none. */
void rg_ring_health_count(struct rg_ring_health *h, struct rg_engine *engine);

rg_api_nodes_fn rg_ring_health_print; /* ud: the struct */

#endif
