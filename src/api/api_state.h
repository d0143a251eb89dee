/* api_state.h - what the handlers of one server share. */
#ifndef RG_API_API_STATE_H
#define RG_API_API_STATE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "api/api.h"
#include "api/api_error.h"
#include "api/auth.h"
#include "api/http_server.h"
#include "api/inbox.h"

struct rg_chat_job;

/* What a connection's user pointer points to begins with it: who is told about the connection while
 * an answer is under way.  Each may be NULL. */
struct rg_conn_owner {
    void (*gone)(struct rg_http_conn *c);
    void (*tick)(struct rg_http_conn *c);
    void (*written)(struct rg_http_conn *c);
};

struct rg_api {
    uv_loop_t             *loop;
    struct rg_http_server *server; /* NULL once it is closed */
    struct rg_inbox       *inbox;
    struct rg_auth         auth;
    struct rg_llm         *llm;    /* NULL while loading; borrowed */
    int64_t                model_created;
    bool                   loopback;
    bool                   closing;
    _Atomic double         progress;
    rg_api_nodes_fn       *nodes;  /* of a ring; NULL: one node */
    void                  *nodes_ud;
    bool                   forwards; /* all but /health goes to the head */
    struct rg_api_forwarder forwarder;
    uint32_t               n_relays; /* requests that are at the head */
    struct rg_chat_job    *jobs;   /* all that are not freed */
    rg_api_closed_fn      *on_closed;
    void                  *ud;
};

/* Sends an error as an answer; extra: whole header lines, or NULL. */
void rg_api_reply_error(struct rg_http_conn *c, const struct rg_api_error *error,
                        const char *extra);

typedef void rg_handler_fn(struct rg_api *a, struct rg_http_conn *c, struct rg_http_request *r);

/* router.c */
void rg_router_on_head(struct rg_api *a, struct rg_http_conn *c, struct rg_http_request *r);
void rg_router_on_request(struct rg_api *a, struct rg_http_conn *c, struct rg_http_request *r);

/* models_handler.c, health_handler.c */
rg_handler_fn rg_models_list;
rg_handler_fn rg_models_get;
rg_handler_fn rg_health;

/* chat_handler.c */
rg_handler_fn rg_chat_begin;
rg_inbox_fn   rg_chat_on_news;

/* forward_handler.c */
rg_handler_fn rg_relay_begin;

/* api.c: a job was freed; the server may be waiting for the last one. */
void rg_api_job_ended(struct rg_api *a);

#endif
