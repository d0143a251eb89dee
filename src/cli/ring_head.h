/* ring_head.h - a ring for a command that computes and ends: `renga eval`.
 *
 * This process is the head of discovery.json; the node runs on a thread of its own.  Opening waits
 * until the ring has formed, however long the other nodes take.
 * Threads    opened, used and closed by one thread; steps go through the pipeline as always. */
#ifndef RG_CLI_RING_HEAD_H
#define RG_CLI_RING_HEAD_H

#include "cli/node_options.h"
#include "engine/pipeline.h"

struct rg_ring_head;

/* checkpoint: by its headers, parts may be missing; borrowed. */
RG_CHECKED enum rg_code rg_ring_head_open(struct rg_ring_head **out,
                                          const struct rg_node_options *node,
                                          const struct rg_checkpoint *checkpoint, uint32_t context,
                                          uint32_t chunk_rows, struct rg_err *err);
/* Owned by the head, with blocks for one sequence of the context. */
struct rg_pipeline *rg_ring_head_pipeline(struct rg_ring_head *h);
void rg_ring_head_close(struct rg_ring_head *h); /* accepts NULL */

#endif
