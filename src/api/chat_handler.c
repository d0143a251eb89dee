/* POST /v1/chat/completions: the life of a job. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "api/chat_job.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"

/* The text of one choice; a context of the longest tokens is far below. */
enum { TEXT_BYTES_MAX = 128 << 20 };

static void free_job(struct rg_chat_job *job)
{
    struct rg_api *a = job->api;

    for (uint32_t i = 0; job->choices && i < job->request.n_choices; i++) {
        struct rg_chat_choice *c = &job->choices[i];

        if (c->has_answer)
            rg_answer_free(&c->answer);
        rg_slot_free(&c->slot);
        rg_buf_free(&c->text);
        rg_buf_free(&c->logprobs);
    }
    rg_free(job->choices);
    rg_chat_request_free(&job->request);
    rg_free(job->body);
    if (job->prev)
        job->prev->next = job->next;
    else
        a->jobs = job->next;
    if (job->next)
        job->next->prev = job->prev;
    rg_free(job);
    rg_api_job_ended(a);
}

static void release(struct rg_chat_job *job)
{
    if (!job->conn && !job->working && job->n_live == 0)
        free_job(job);
}

/* Nobody waits for the rest: the engine drops it before its next step. */
static void cancel_engine(struct rg_chat_job *job)
{
    for (uint32_t i = 0; job->choices && i < job->request.n_choices; i++)
        if (job->choices[i].live)
            rg_engine_cancel(job->api->llm->engine, job->choices[i].engine_id);
}

static void log_end(const struct rg_chat_job *job, const char *how)
{
    const struct rg_chat_usage u =
        job->choices ? rg_chat_usage_of(job) : (struct rg_chat_usage){.prompt_tokens = 0};

    rg_log(RG_LOG_INFO, "api", how, "id=%s prompt_tokens=%u completion_tokens=%u ms=%lld",
           job->head.id, u.prompt_tokens, u.completion_tokens,
           (long long)(rg_clock_ms() - job->begun_ms));
}

static void fail_job(struct rg_chat_job *job, const struct rg_api_error *error, const char *extra)
{
    if (!job->conn)
        return;
    if (error->status >= 500)
        rg_log(RG_LOG_WARN, "api", error->message, "id=%s code=%s", job->head.id,
               rg_api_code_name(error->code));
    rg_chat_send_error(job, error, extra);
    cancel_engine(job);
}

static void fail_job_err(struct rg_chat_job *job, const struct rg_err *err)
{
    struct rg_api_error error;

    rg_api_error_from(&error, err);
    /* A ring forms anew; a file that was changed stays so. */
    fail_job(job, &error,
             error.code == RG_API_NODE_LOST && err->code != RG_E_IO ? RG_API_RETRY_AFTER : NULL);
}

/* ---- the engine's news ---- */

static void finish_choice(struct rg_chat_choice *c, const char *reason)
{
    assert(!c->finish_reason);
    c->finish_reason = reason;
    c->job->n_open--;
}

static enum rg_code take_token(struct rg_chat_choice *c, const struct rg_inbox_token *t,
                               struct rg_err *err)
{
    enum rg_code code = RG_OK;

    c->n_tokens++;
    if (t->is_eos)
        return RG_OK;
    if (c->job->request.sampling.logprobs)
        code = rg_chat_logprob_add(&c->logprobs, c->job->api->llm->tokenizer, &t->sample, err);
    if (code == RG_OK)
        code = rg_answer_push(&c->answer, t->sample.id, &c->text, err);
    if (code == RG_OK && c->answer.stopped) {
        finish_choice(c, "stop");
        if (c->live)
            rg_engine_cancel(c->job->api->llm->engine, c->engine_id);
    }
    return code;
}

static enum rg_code take_end(struct rg_chat_choice *c, const struct rg_inbox_news *news,
                             struct rg_err *err)
{
    enum rg_code code;

    if (news->reason == RG_END_CANCELED)
        return rg_fail(err, RG_E_CANCELED, "the engine was stopped");
    if (news->reason == RG_END_ERROR) {
        *err = news->err;
        return err->code != RG_OK ? err->code : rg_fail(err, RG_E_INTERNAL, "the engine failed");
    }
    code = rg_answer_finish(&c->answer, &c->text, err);
    if (code == RG_OK)
        finish_choice(c, news->reason == RG_END_STOP ? "stop" : "length");
    return code;
}

static enum rg_code take_news(struct rg_chat_choice *c, const struct rg_inbox_news *news,
                              struct rg_err *err)
{
    enum rg_code code = RG_OK;

    c->prefill_done = news->prefill_done;
    c->prefill_total = news->prefill_total;
    for (size_t i = 0; code == RG_OK && !c->finish_reason && i < news->n_tokens; i++)
        code = take_token(c, &news->tokens[i], err);
    if (code == RG_OK && !c->finish_reason && (news->ended || news->lost))
        code = take_end(c, news, err);
    return code;
}

/* False: the connection was cut. */
static bool send_stream(struct rg_chat_job *job, struct rg_chat_choice *c,
                        const struct rg_inbox_news *news)
{
    if (!job->request.stream)
        return true;
    if ((c->text.len > 0 || c->finish_reason) && !rg_chat_send_piece(c))
        return false;
    return !news->waits || c->finish_reason || rg_chat_send_waiting(job, news->why.message);
}

static void send_news(struct rg_chat_job *job, struct rg_chat_choice *c,
                      const struct rg_inbox_news *news)
{
    if (!send_stream(job, c, news)) {
        log_end(job, "cut off: the client reads too slowly, or memory is short");
        cancel_engine(job);
        return;
    }
    if (job->n_open > 0)
        return;
    log_end(job, "answered");
    rg_chat_send_end(job);
}

void rg_chat_on_news(struct rg_slot *slot, const struct rg_inbox_news *news)
{
    struct rg_chat_choice *c = (struct rg_chat_choice *)slot;
    struct rg_chat_job    *job = c->job;
    struct rg_err          err = {.code = RG_OK};

    if (news->ended && c->live) {
        c->live = false;
        job->n_live--;
    }
    if (job->conn && !c->finish_reason) {
        if (take_news(c, news, &err) == RG_OK)
            send_news(job, c, news);
        else
            fail_job_err(job, &err);
    }
    release(job);
}

/* ---- to the engine ---- */

static void fail_submit(struct rg_chat_job *job, const struct rg_err *err)
{
    struct rg_api_error error;

    if (err->code == RG_E_LIMIT) {
        (void)rg_api_fail(&error, RG_API_QUEUE_FULL, NULL,
                          "too many requests wait already; try again in a moment");
        fail_job(job, &error, RG_API_RETRY_AFTER);
    } else if (err->code == RG_E_USAGE) {
        (void)rg_api_fail(&error, RG_API_CONTEXT_LENGTH, "messages", "%s", err->message);
        fail_job(job, &error, NULL);
    } else {
        fail_job_err(job, err);
    }
}

static enum rg_code submit_choice(struct rg_chat_job *job, uint32_t i, struct rg_err *err)
{
    const struct rg_llm   *llm = job->api->llm;
    struct rg_chat_choice *c = &job->choices[i];
    struct rg_request      request = {
             .tokens = job->request.prompt.data,
             .n_tokens = job->n_prompt,
             .max_tokens = job->request.max_tokens,
             .sampling = job->request.sampling,
             .choice = i,
             .eos_ids = llm->eos_ids,
             .n_eos_ids = llm->n_eos_ids,
             .on_event = rg_inbox_on_event,
             .ud = &c->slot,
    };
    enum rg_code code = rg_answer_init(&c->answer, llm->tokenizer,
                                       (const char *const *)job->request.stops,
                                       job->request.n_stops, err);

    if (code != RG_OK)
        return code;
    c->has_answer = true;
    code = rg_engine_submit(llm->engine, &request, &c->engine_id, err);
    if (code == RG_OK) {
        c->live = true;
        job->n_live++;
    }
    return code;
}

static void submit(struct rg_chat_job *job)
{
    const uint32_t n = job->request.n_choices;
    struct rg_err  err;

    job->head.include_usage = job->request.include_usage;
    job->choices = rg_calloc(n, sizeof *job->choices);
    if (!job->choices) {
        rg_fail(&err, RG_E_NOMEM, "out of memory");
        fail_job_err(job, &err);
        return;
    }
    job->n_open = n;
    for (uint32_t i = 0; i < n; i++) {
        struct rg_chat_choice *c = &job->choices[i];

        c->job = job;
        c->index = i;
        rg_slot_init(&c->slot, job->api->inbox);
        rg_buf_init(&c->text, TEXT_BYTES_MAX);
        rg_buf_init(&c->logprobs, TEXT_BYTES_MAX);
    }
    for (uint32_t i = 0; i < n; i++)
        if (submit_choice(job, i, &err) != RG_OK) {
            fail_submit(job, &err);
            return;
        }
    rg_ids_free(&job->request.prompt);
}

/* ---- the beginning ---- */

static void make_request(uv_work_t *work)
{
    struct rg_chat_job *job = work->data;

    job->made =
        rg_chat_request_make(&job->request, job->api->llm, job->body, job->body_len, &job->error);
}

static void on_made(uv_work_t *work, int status)
{
    struct rg_chat_job *job = work->data;

    job->working = false;
    rg_free(job->body);
    job->body = NULL;
    if (job->conn)
        rg_http_body_done(job->conn);
    if (job->conn && status == 0) {
        job->n_prompt = (uint32_t)job->request.prompt.len;
        if (job->made)
            submit(job);
        else
            fail_job(job, &job->error, NULL);
    }
    release(job);
}

static void add_job(struct rg_api *a, struct rg_chat_job *job)
{
    job->api = a;
    job->next = a->jobs;
    if (job->next)
        job->next->prev = job;
    a->jobs = job;
}

static void reply_no_memory(struct rg_http_conn *c)
{
    struct rg_api_error error;

    (void)rg_api_fail(&error, RG_API_INTERNAL, NULL, "out of memory");
    rg_api_reply_error(c, &error, NULL);
}

static void on_gone(struct rg_http_conn *c)
{
    struct rg_chat_job *job = rg_http_conn_user(c);

    job->conn = NULL;
    log_end(job, "the client went away");
    if (job->working)
        (void)uv_cancel((uv_req_t *)&job->work);
    cancel_engine(job);
    release(job);
}

static void on_tick(struct rg_http_conn *c)
{
    struct rg_chat_job *job = rg_http_conn_user(c);

    if (job->working || !job->request.stream ||
        rg_clock_ms() - job->last_sent_ms < RG_LIMIT_SSE_COMMENT_MS)
        return;
    if (rg_chat_send_keepalive(job))
        return;
    cancel_engine(job);
    release(job);
}

void rg_chat_begin(struct rg_api *a, struct rg_http_conn *c, struct rg_http_request *r)
{
    struct rg_chat_job *job = rg_calloc(1, sizeof *job);

    if (job) {
        job->body_len = r->body.len;
        job->body = rg_buf_take(&r->body);
    }
    if (!job || !job->body) {
        rg_free(job);
        reply_no_memory(c);
        return;
    }
    add_job(a, job);
    job->owner = (struct rg_conn_owner){.gone = on_gone, .tick = on_tick};
    job->conn = c;
    job->begun_ms = job->last_sent_ms = rg_clock_ms();
    job->head.created = rg_clock_unix();
    job->head.model = a->llm->name;
    (void)snprintf(job->head.id, sizeof job->head.id, "chatcmpl-%016llx",
                   (unsigned long long)rg_clock_random_seed());
    rg_http_conn_set_user(c, job);
    job->work.data = job;
    job->working = uv_queue_work(a->loop, &job->work, make_request, on_made) == 0;
    if (!job->working) {
        rg_http_conn_set_user(c, NULL);
        job->conn = NULL;
        release(job);
        reply_no_memory(c);
    }
}
