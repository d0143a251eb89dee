/* http_server.h - HTTP/1.1 connections on a libuv loop.
 *
 * A connection answers one request at a time; what a client sends ahead (pipelining) waits, so
 * answers keep their order.  Each request goes on_head, then (unless it was refused there)
 * on_request, and then is answered: once with rg_http_reply(), or with rg_http_stream_begin(),
 * _add()... and _end(), or with rg_http_raw_add()... and _end(), now or later.
 * Threads    the loop's thread.
 * Lifetime   a connection belongs to the server.  Between on_request and the answer's end a handler
 *            may keep its pointer; on_gone says that the client has left before that, and the
 *            pointer is dead after it.  It is never called from inside an answering function.
 * Limits     those of limits.h for connections, waiting times, unsent bytes and the bodies of all
 *            connections together (a body counts until rg_http_body_done()).  An end of the
 *            client's side counts as leaving: a half-closed connection can't be told from a closed
 *            one, and an unread answer must not keep the engine busy. */
#ifndef RG_API_HTTP_SERVER_H
#define RG_API_HTTP_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "api/http_parse.h"
#include "api/http_response.h"
#include "base/err.h"

struct rg_http_server;
struct rg_http_conn;

struct rg_http_events {
    /* The head is there, the body is not.  rg_http_reply() here refuses the request. */
    void (*on_head)(void *ud, struct rg_http_conn *c, struct rg_http_request *r);
    void (*on_request)(void *ud, struct rg_http_conn *c, struct rg_http_request *r);
    void (*on_gone)(void *ud, struct rg_http_conn *c);
    /* A few times per second while an answer is under way. */
    void (*on_tick)(void *ud, struct rg_http_conn *c);
    /* Bytes of a raw answer have gone out: rg_http_unsent() is less than it was. */
    void (*on_written)(void *ud, struct rg_http_conn *c);
    /* Makes the body of an error that the server itself found. */
    void (*make_error)(void *ud, int status, const char *why, struct rg_buf *body);
    void (*on_closed)(void *ud); /* the last handle is closed; the server is dead after it */
};

RG_CHECKED enum rg_code rg_http_server_open(struct rg_http_server **out, uv_loop_t *loop,
                                            const struct sockaddr *address,
                                            const struct rg_http_events *events, void *ud,
                                            struct rg_err *err);
uint16_t rg_http_server_port(const struct rg_http_server *s);

/* Stops accepting and closes idle connections; the others end with their answer.  At the deadline
 * they are cut.  on_closed comes once, after the last one. */
void rg_http_server_drain(struct rg_http_server *s, int64_t deadline_ms);

/* False when memory was short and the connection was cut instead. */
bool rg_http_reply(struct rg_http_conn *c, const struct rg_http_reply *reply);

/* False when the connection had to be cut: memory is short, or the client reads too slowly and
 * RG_LIMIT_SEND_BYTES wait for it.  The pointer is then dead, and no on_gone comes. */
RG_CHECKED bool rg_http_stream_begin(struct rg_http_conn *c, const char *content_type);
RG_CHECKED bool rg_http_stream_add(struct rg_http_conn *c, const char *p, size_t n);
void            rg_http_stream_end(struct rg_http_conn *c);

/* An answer that was made elsewhere, head included: its bytes go out as they are, and the
 * connection ends after it.  False as above: who has more than RG_LIMIT_SEND_BYTES to send must
 * wait while rg_http_unsent() is large. */
RG_CHECKED bool rg_http_raw_add(struct rg_http_conn *c, const char *p, size_t n);
void            rg_http_raw_end(struct rg_http_conn *c);
size_t          rg_http_unsent(const struct rg_http_conn *c);

/* Ends a connection whose answer can't be finished, so that the client sees a broken one and not a
 * short one.  No on_gone comes; one that was cut already is left alone. */
void rg_http_abort(struct rg_http_conn *c);

/* The handler took the request's body and has now freed it: others may use the room. */
void rg_http_body_done(struct rg_http_conn *c);

void  rg_http_conn_set_user(struct rg_http_conn *c, void *user); /* of the current request */
void *rg_http_conn_user(const struct rg_http_conn *c);

#endif
