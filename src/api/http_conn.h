/* http_conn.h - what http_server.c and http_conn.c share: one connection and its state.
 *
 * State      READ: a request is awaited or being read.  ANSWER: it is the handler's.  FLUSH: the
 *            last answer is on its way out.  LINGER: our side is shut, and what the client still
 *            sends is dropped, so that the answer isn't lost to a reset.  CLOSING: the handle is
 *            being closed. */
#ifndef RG_API_HTTP_CONN_H
#define RG_API_HTTP_CONN_H

#include "api/http_server.h"

enum rg_conn_state {
    RG_CONN_READ,
    RG_CONN_ANSWER,
    RG_CONN_FLUSH,
    RG_CONN_LINGER,
    RG_CONN_CLOSING
};

struct rg_http_conn {
    uv_tcp_t               tcp;
    uv_write_t             write;
    uv_shutdown_t          shutdown;
    struct rg_http_server *server;
    struct rg_http_conn   *prev, *next;
    struct rg_http_parser  parser;
    struct rg_buf          in;      /* what came ahead of its turn */
    struct rg_buf          out;     /* not yet given to libuv      */
    struct rg_buf          sending; /* libuv has it                */
    struct rg_buf          held;    /* a refusal that waits for the end of the request's body */
    enum rg_conn_state     state;
    char                   address[46];
    bool in_body, in_head_event, refused, consuming, writing, streaming, chunked, close_after, eof;
    bool     reading, raw; /* raw: of the present answer */
    uint32_t n_requests;
    int64_t  since_ms;     /* when the present part of the present state began */
    int64_t  last_read_ms;
    int64_t  progress_ms;  /* when the write queue was last seen to move */
    size_t   queue_bytes;  /* its size then */
    uint64_t dropped_bytes;
    size_t   body_held;    /* what this connection's body adds to the server's bodies_bytes */
    void    *user;
};

struct rg_http_server {
    uv_tcp_t              listener;
    uv_timer_t            timer;
    uv_loop_t            *loop;
    struct rg_http_events events;
    void                 *ud;
    struct rg_http_conn  *conns;
    uint32_t              n_conns;
    uint32_t              n_handles;
    size_t                bodies_bytes; /* of all large bodies; RG_LIMIT_BODIES_BYTES */
    bool                  draining;
    bool                  accept_waits; /* memory was short for one; the timer tries again */
    int64_t               cut_at_ms;
    char                  read_buf[64 << 10];
};

void rg_conn_start(struct rg_http_conn *c);                   /* begins to read */
void rg_conn_error(struct rg_http_conn *c, int status, const char *why); /* answers, then closes */
void rg_conn_tick(struct rg_http_conn *c, int64_t now_ms);
void rg_conn_drain(struct rg_http_conn *c);                   /* closes it if it is idle */
void rg_conn_cut(struct rg_http_conn *c);                     /* tells on_gone, resets   */
void rg_server_forget(struct rg_http_conn *c);                /* its handle is closed    */

#endif
