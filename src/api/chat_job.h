/* chat_job.h - one chat completion from its body to its last byte.
 *
 * Steps      body -> (a libuv worker) request and prompt -> the engine, one request per choice ->
 *            text as it comes -> the answer.
 * Lifetime   a job is freed when its answer is finished or its client gone, its worker has returned
 *            and each of its engine requests has ended.  conn is NULL from the moment when there is
 *            nobody to answer any more.
 * Threads    the loop's, but for make_request(), which runs on a worker while nobody else looks. */
#ifndef RG_API_CHAT_JOB_H
#define RG_API_CHAT_JOB_H

#include <stdbool.h>
#include <stdint.h>

#include "api/api_state.h"
#include "api/chat_reply.h"
#include "api/chat_request.h"
#include "text/answer.h"

struct rg_chat_choice {
    struct rg_slot      slot; /* first: the inbox hands this back */
    struct rg_chat_job *job;
    uint32_t            index;
    uint64_t            engine_id;
    bool                live;       /* the engine has not said its END yet */
    bool                has_answer; /* answer was initialised */
    struct rg_answer    answer;
    struct rg_buf       text;       /* all of it, or what the next chunk brings */
    struct rg_buf       logprobs;   /* entries that belong to it */
    uint32_t            n_tokens;
    uint32_t            prefill_done, prefill_total;
    bool                spoke;      /* a chunk has said the role */
    const char         *finish_reason; /* NULL: going on */
};

struct rg_chat_job {
    struct rg_conn_owner   owner; /* first: the connection's user */
    struct rg_api         *api;
    struct rg_chat_job    *prev, *next;
    struct rg_http_conn   *conn;
    uv_work_t              work;
    bool                   working;
    char                  *body; /* owned */
    size_t                 body_len;
    bool                   made;  /* request is there; else error says why not */
    struct rg_api_error    error;
    struct rg_chat_request request;
    uint32_t               n_prompt;
    struct rg_chat_head    head;
    struct rg_chat_choice *choices; /* owned; request.n_choices */
    uint32_t               n_live, n_open; /* choices the engine works on; without finish_reason */
    bool                   streaming; /* the head of the stream is out */
    int64_t                begun_ms, last_sent_ms;
};

/* chat_stream.c.  These two: false when the connection had to be cut; conn is then NULL. */
RG_CHECKED bool rg_chat_send_piece(struct rg_chat_choice *choice);
RG_CHECKED bool rg_chat_send_keepalive(struct rg_chat_job *job);
/* ": waiting: WHY", of a stream whose answer has to wait for a lost node. */
RG_CHECKED bool rg_chat_send_waiting(struct rg_chat_job *job, const char *why);

/* These end the answer; conn is NULL after them. */
void rg_chat_send_end(struct rg_chat_job *job);
void rg_chat_send_error(struct rg_chat_job *job, const struct rg_api_error *error,
                        const char *extra);

struct rg_chat_usage rg_chat_usage_of(const struct rg_chat_job *job);

#endif
