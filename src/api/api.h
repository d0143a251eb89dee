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

#include "base/buf.h"
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

/* ---- as a node of a ring ------------------------------------------------------------------------
 * All on the loop's thread. */

/* What /health says about the nodes: appends `,"nodes":[...],"epoch":...` (members of an object,
 * each with a comma before it).  *reason: "" when a ring that is needed has formed, else why not:
 * /health is then "degraded", or "loading": on the head until rg_api_set_model(), elsewhere while
 * progress is below 1.  Who shows no key where there are keys sees only some members
 * (health_handler.c).  NULL: one node, as before. */
typedef enum rg_code rg_api_nodes_fn(void *ud, struct rg_buf *json, char *reason,
                                     size_t reason_size, struct rg_err *err);
void rg_api_set_nodes(struct rg_api *a, rg_api_nodes_fn *nodes, void *ud);

/* A node that is not the head answers /health itself and hands every other request on, after its
 * own checks of Host, Origin and key: head and body as one HTTP request with `Connection: close`.
 * The answer's bytes go to the client as they come; when the head is not there, the client gets 503
 * `node_lost` with the error's line, which names it.  No event comes from inside begin(), and
 * none after on_end() or cancel(), after which the request is dead.  It can't be taken back. */
struct rg_api_forward_events {
    void (*on_bytes)(void *ud, const void *p, size_t n);
    void (*on_end)(void *ud, const struct rg_err *why); /* code RG_OK: the answer is whole */
};

struct rg_api_forwarder {
    enum rg_code (*begin)(void *ud, void **request, const void *p, size_t n,
                          const struct rg_api_forward_events *events, void *events_ud,
                          struct rg_err *err);
    void (*pause)(void *request, bool paused);
    void (*cancel)(void *request); /* no event comes after it */
    void *ud;
};

void rg_api_set_forwarder(struct rg_api *a, const struct rg_api_forwarder *forwarder); /* copied */

typedef void rg_api_closed_fn(void *ud);

/* Ends within deadline_ms; 0: at once.  A second call may only shorten it. */
void rg_api_drain(struct rg_api *a, int64_t deadline_ms, rg_api_closed_fn *on_closed, void *ud);

#endif
