/* What a chat job sends: chunks, keep-alive comments, errors and ends; or one whole object. */
#include <stdio.h>
#include <string.h>

#include "api/chat_job.h"
#include "api/sse.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"

/* One event: the object, its frame and some more; a context's worth of logprobs fits. */
enum { EVENT_BYTES_MAX = 256 << 20 };

struct rg_chat_usage rg_chat_usage_of(const struct rg_chat_job *job)
{
    struct rg_chat_usage u = {.prompt_tokens = job->n_prompt};

    for (uint32_t i = 0; i < job->request.n_choices; i++)
        u.completion_tokens += job->choices[i].n_tokens;
    return u;
}

/* The connection is this job's no more, whatever becomes of the bytes. */
static struct rg_http_conn *let_go(struct rg_chat_job *job)
{
    struct rg_http_conn *conn = job->conn;

    job->conn = NULL;
    rg_http_conn_set_user(conn, NULL);
    return conn;
}

static void cut(struct rg_chat_job *job)
{
    rg_http_abort(let_go(job));
}

/* Sends bytes of the stream, its head first if that is not out yet. */
static bool send_bytes(struct rg_chat_job *job, const struct rg_buf *bytes)
{
    if (!job->streaming && !rg_http_stream_begin(job->conn, "text/event-stream"))
        return false;
    job->streaming = true;
    job->last_sent_ms = rg_clock_ms();
    return rg_http_stream_add(job->conn, bytes->data, bytes->len);
}

static bool send_object(struct rg_chat_job *job, const struct rg_buf *json)
{
    struct rg_buf event;
    bool          sent;

    rg_buf_init(&event, EVENT_BYTES_MAX);
    sent = rg_sse_data(&event, json->data, json->len, NULL) == RG_OK && send_bytes(job, &event);
    rg_buf_free(&event);
    return sent;
}

static struct rg_chat_piece piece_of(const struct rg_chat_choice *c)
{
    return (struct rg_chat_piece){
        .index = c->index,
        .first = !c->spoke,
        .text = c->text.data,
        .text_len = c->text.len,
        .logprobs = !c->job->request.sampling.logprobs ? NULL
                    : c->logprobs.data                 ? c->logprobs.data
                                                       : "",
        .logprobs_len = c->logprobs.len,
        .finish_reason = c->finish_reason,
    };
}

/* The text that has gathered, then in a chunk of its own the reason of the end. */
bool rg_chat_send_piece(struct rg_chat_choice *c)
{
    struct rg_chat_piece piece = piece_of(c);
    struct rg_buf        json;
    bool                 sent = true;

    rg_buf_init(&json, EVENT_BYTES_MAX);
    piece.finish_reason = NULL;
    if (c->text.len > 0 || !c->spoke)
        sent = rg_chat_chunk(&json, &c->job->head, &piece, NULL) == RG_OK &&
               send_object(c->job, &json);
    if (sent && c->finish_reason) {
        const struct rg_chat_piece end = {.index = c->index, .finish_reason = c->finish_reason};

        rg_buf_clear(&json);
        sent = rg_chat_chunk(&json, &c->job->head, &end, NULL) == RG_OK &&
               send_object(c->job, &json);
    }
    c->spoke = true;
    rg_buf_clear(&c->text);
    rg_buf_clear(&c->logprobs);
    rg_buf_free(&json);
    if (!sent)
        cut(c->job);
    return sent;
}

bool rg_chat_send_keepalive(struct rg_chat_job *job)
{
    uint32_t      done = 0, total = 0;
    struct rg_buf comment;
    bool          sent;

    for (uint32_t i = 0; i < job->request.n_choices; i++) {
        done += job->choices[i].prefill_done;
        total += job->choices[i].prefill_total;
    }
    rg_buf_init(&comment, 128);
    sent = rg_sse_keepalive(&comment, done, total, NULL) == RG_OK && send_bytes(job, &comment);
    rg_buf_free(&comment);
    if (!sent)
        cut(job);
    return sent;
}

bool rg_chat_send_waiting(struct rg_chat_job *job, const char *why)
{
    char text[RG_ERR_BYTES + 16];
    struct rg_buf comment;
    bool sent;

    (void)snprintf(text, sizeof text, "waiting: %s", why);
    rg_buf_init(&comment, 4 * sizeof text);
    sent = rg_sse_comment(&comment, text, NULL) == RG_OK && send_bytes(job, &comment);
    rg_buf_free(&comment);
    if (!sent)
        cut(job);
    return sent;
}

static void end_stream(struct rg_chat_job *job)
{
    struct rg_buf done;
    bool          sent;

    rg_buf_init(&done, 64);
    sent = rg_sse_done(&done, NULL) == RG_OK && send_bytes(job, &done);
    rg_buf_free(&done);
    if (sent)
        rg_http_stream_end(let_go(job));
    else
        cut(job);
}

static void send_whole(struct rg_chat_job *job)
{
    struct rg_chat_piece pieces[RG_LIMIT_CHOICES];
    struct rg_http_reply reply = {.status = 200};
    struct rg_api_error  error;
    struct rg_buf        json;
    struct rg_err        err;

    for (uint32_t i = 0; i < job->request.n_choices; i++)
        pieces[i] = piece_of(&job->choices[i]);
    rg_buf_init(&json, EVENT_BYTES_MAX);
    if (rg_chat_completion(&json, &job->head, pieces, job->request.n_choices,
                           rg_chat_usage_of(job), &err) == RG_OK) {
        reply.body = json.data;
        reply.body_len = json.len;
        (void)rg_http_reply(let_go(job), &reply);
    } else {
        rg_api_error_from(&error, &err);
        rg_api_reply_error(let_go(job), &error, NULL);
    }
    rg_buf_free(&json);
}

void rg_chat_send_end(struct rg_chat_job *job)
{
    struct rg_buf json;
    bool          sent = true;

    if (!job->request.stream) {
        send_whole(job);
        return;
    }
    if (job->request.include_usage) {
        rg_buf_init(&json, 4096);
        sent = rg_chat_usage_chunk(&json, &job->head, rg_chat_usage_of(job), NULL) == RG_OK &&
               send_object(job, &json);
        rg_buf_free(&json);
    }
    if (sent)
        end_stream(job);
    else
        cut(job);
}

/* Before the stream's head an error is an answer of its own; after it, an event of the stream. */
void rg_chat_send_error(struct rg_chat_job *job, const struct rg_api_error *error,
                        const char *extra)
{
    struct rg_api_error in_stream = *error;
    struct rg_buf       json;
    bool                sent;

    if (!job->streaming) {
        rg_api_reply_error(let_go(job), error, extra);
        return;
    }
    if (in_stream.status < 500)
        in_stream.status = 500;
    rg_buf_init(&json, 16384);
    sent = rg_api_error_print(&json, &in_stream, NULL) == RG_OK && send_object(job, &json);
    rg_buf_free(&json);
    if (sent)
        end_stream(job);
    else
        cut(job);
}
