/* ring_serve.h - `renga serve` as a node of a ring: the node, its files, and what its API says.
 *
 * The head opens tokenizer and template, waits until the ring has formed, and serves; any other
 * node hands the requests that it gets to the head.
 * Threads    the loop's; files are opened on a worker thread. */
#ifndef RG_CLI_RING_SERVE_H
#define RG_CLI_RING_SERVE_H

#include <uv.h>

#include "api/api.h"
#include "cli/options.h"
#include "engine/llm.h"

struct rg_ring_serve;

/* It cannot go on: the caller drains and ends. */
typedef void rg_ring_serve_failed_fn(void *ud, const struct rg_err *why);

/* Listens for peers and begins to open the model. */
RG_CHECKED enum rg_code rg_ring_serve_open(struct rg_ring_serve **out, uv_loop_t *loop,
                                           struct rg_api *api, const struct rg_options *o,
                                           const struct rg_llm_options *llm,
                                           rg_ring_serve_failed_fn *on_failed, void *ud,
                                           struct rg_err *err);
/* After the API was closed.  on_closed comes when nothing runs any more.  A worker goes on for up
 * to patience_ms while the ring computes: answers under way need its layers. */
void rg_ring_serve_close(struct rg_ring_serve *s, int64_t patience_ms, void (*on_closed)(void *ud),
                         void *ud);
void rg_ring_serve_hurry(struct rg_ring_serve *s); /* while it closes: no patience any more */

#endif
