/* api.h - the OpenAI-compatible HTTP server of a node.
 *
 * Threads    everything on the loop's thread; rendering and tokenising run on libuv's workers,
 *            model steps on the engine's thread.
 * Lifetime   rg_api_open() listens or fails.  rg_api_drain() stops accepting and lets answers
 *            finish; after the last connection (or the deadline) on_closed is called once. */
#ifndef RG_API_API_H
#define RG_API_API_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "base/err.h"
#include "engine/llm.h"

struct rg_api;

struct rg_api_options {
    const char *host;         /* a literal address */
    uint16_t    port;         /* 0: any free one (tests) */
    const char *api_key_file; /* one key per line, or NULL */
    bool        insecure;     /* off loopback without keys */
};

/* The server answers 503 "loading" until rg_api_set_model(). */
RG_CHECKED enum rg_code rg_api_open(struct rg_api **out, uv_loop_t *loop,
                                    const struct rg_api_options *options, struct rg_err *err);
void     rg_api_set_progress(struct rg_api *a, double share); /* of loading, 0..1; any thread */
void     rg_api_set_model(struct rg_api *a, struct rg_llm *llm); /* borrowed; loop thread */
uint16_t rg_api_port(const struct rg_api *a);

typedef void rg_api_closed_fn(void *ud);

/* Ends within deadline_ms; 0: at once.  A second call may only shorten it. */
void rg_api_drain(struct rg_api *a, int64_t deadline_ms, rg_api_closed_fn *on_closed, void *ud);

#endif
