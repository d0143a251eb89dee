/* session.c - the public session: one question at a time on an engine of its own.
 *
 * The engine's thread puts tokens into a list and a byte into a pipe; rg_session_interrupt() writes
 * to the pipe too, which a signal handler may do.  The asking thread sleeps on it: nothing is lost
 * between looking and sleeping. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "engine/llm.h"
#include "text/answer.h"
#include "renga/session.h"

struct rg_session {
    struct rg_llm *llm;
    int wake[2]; /* a pipe; -1 when closed */
    bool has_lock;
    _Atomic bool interrupted;

    struct rg_answer answer; /* of the question that is being answered */
    struct rg_buf text;      /* what is to be given out next */

    pthread_mutex_t lock; /* guards the rest */
    int32_t *ids;         /* owned [context]: tokens of the answer */
    uint32_t n_ids;
    bool ended;
    enum rg_end_reason reason;
    struct rg_err why;
};

static void wake(struct rg_session *s)
{
    const char byte = 0;

    /* A full pipe already wakes its reader. */
    if (write(s->wake[1], &byte, 1) < 0)
        return;
}

void rg_session_interrupt(struct rg_session *s)
{
    const int saved = errno;

    atomic_store(&s->interrupted, true);
    wake(s);
    errno = saved;
}

static void on_event(void *ud, const struct rg_event *event)
{
    struct rg_session *s = ud;

    if (event->kind == RG_EVENT_PREFILL)
        return;
    pthread_mutex_lock(&s->lock);
    if (event->kind == RG_EVENT_TOKEN && !event->is_eos) {
        s->ids[s->n_ids++] = event->sample.id;
    } else if (event->kind == RG_EVENT_END) {
        s->ended = true;
        s->reason = event->reason;
        s->why = event->err;
    }
    pthread_mutex_unlock(&s->lock);
    wake(s);
}

/* ---- the request ----------------------------------------------------------------------------- */

static bool add_message(struct rg_json *messages, const char *role, const char *content)
{
    struct rg_json *message = rg_json_new_object();

    if (!message)
        return false;
    if (!rg_json_add(message, "role", rg_json_new_string(role, strlen(role))) ||
        !rg_json_add(message, "content", rg_json_new_string(content, strlen(content)))) {
        rg_json_free(message);
        return false;
    }
    return rg_json_push(messages, message);
}

static struct rg_json *make_body(const char *system, const char *prompt)
{
    struct rg_json *body = rg_json_new_object();
    struct rg_json *messages = rg_json_new_array();

    if (!body || !messages || (system && !add_message(messages, "system", system)) ||
        !add_message(messages, "user", prompt)) {
        rg_json_free(messages);
        rg_json_free(body);
        return NULL;
    }
    if (!rg_json_add(body, "messages", messages)) {
        rg_json_free(body);
        return NULL;
    }
    return body;
}

/* Arguments of a command line are any bytes; JSON strings are UTF-8. */
static enum rg_code repaired(struct rg_buf *out, const char *s, struct rg_err *err)
{
    rg_buf_init(out, RG_LIMIT_BODY_BYTES);
    return rg_utf8_repair(out, s, strlen(s), err);
}

static enum rg_code render(const struct rg_llm *l, const char *system, const char *prompt,
                           struct rg_prompt *out, struct rg_err *err)
{
    struct rg_buf system_text, prompt_text;
    struct rg_json *body = NULL;
    enum rg_code code = repaired(&prompt_text, prompt, err);
    enum rg_code system_code = repaired(&system_text, system ? system : "", err);

    if (code == RG_OK)
        code = system_code;
    if (code != RG_OK)
        goto out;
    body = make_body(system ? (system_text.data ? system_text.data : "") : NULL,
                     prompt_text.data ? prompt_text.data : "");
    if (!body)
        code = rg_fail(err, RG_E_NOMEM, "out of memory: the prompt");
    else
        code = rg_chat_render(l->chat, body, out, err);
out:
    rg_json_free(body);
    rg_buf_free(&prompt_text);
    rg_buf_free(&system_text);
    return code;
}

static enum rg_code encode(const struct rg_llm *l, const char *system, const char *prompt,
                           struct rg_ids *ids, struct rg_err *err)
{
    struct rg_prompt p = {0};
    enum rg_code code;

    if (!l->chat)
        return rg_fail(err, RG_E_USAGE,
                       "%s: has no chat template (chat_template.jinja or tokenizer_config.json): "
                       "use a chat model",
                       l->checkpoint->dir);
    code = render(l, system, prompt, &p, err);
    if (code == RG_OK)
        code = rg_tokenizer_encode(l->tokenizer, p.text, p.len, p.spans, p.n_spans,
                                   RG_CONTROL_TRUSTED, ids, err);
    rg_prompt_free(&p);
    return code;
}

static float or_default(float v, float if_absent)
{
    return isnan(v) ? if_absent : v;
}

static struct rg_sampling sampling_for(const struct rg_llm *l, const struct rg_question *how)
{
    const struct rg_generation_defaults *d = &l->defaults;
    const bool given = how->temperature >= 0.0f;

    return (struct rg_sampling){
        .temperature = given ? how->temperature : or_default(d->temperature, 1.0f),
        .top_p = or_default(d->top_p, 1.0f),
        .min_p = or_default(d->min_p, 0.0f),
        .top_k = d->top_k == UINT32_MAX ? 0 : d->top_k,
        .repetition_penalty = or_default(d->repetition_penalty, 1.0f),
        .seed = how->seed >= 0 ? (uint64_t)how->seed : rg_clock_random_seed(),
    };
}

/* ---- the answer ------------------------------------------------------------------------------ */

struct reader {
    rg_text_fn *on_text;
    void *ud;
    uint32_t n_read; /* tokens of the answer that were turned into text */
};

/* Gives out what has come since the last time. */
static enum rg_code give_new(struct rg_session *s, struct reader *r, bool *ended,
                             struct rg_err *err)
{
    enum rg_code code = RG_OK;
    uint32_t n;

    pthread_mutex_lock(&s->lock);
    n = s->n_ids;
    *ended = s->ended;
    pthread_mutex_unlock(&s->lock);
    while (code == RG_OK && r->n_read < n)
        code = rg_answer_push(&s->answer, s->ids[r->n_read++], &s->text, err);
    if (code == RG_OK && *ended)
        code = rg_answer_finish(&s->answer, &s->text, err);
    if (code == RG_OK && s->text.len > 0)
        code = r->on_text(r->ud, s->text.data, s->text.len, err);
    rg_buf_clear(&s->text);
    return code;
}

/* Waits for the END of a request whose reader gave up: only after it s may be used again. */
static void wait_for_end(struct rg_session *s)
{
    char bytes[64];
    bool ended = false;

    while (!ended) {
        pthread_mutex_lock(&s->lock);
        ended = s->ended;
        pthread_mutex_unlock(&s->lock);
        if (!ended && read(s->wake[0], bytes, sizeof(bytes)) < 0 && errno != EINTR)
            return;
    }
}

static enum rg_code stream(struct rg_session *s, uint64_t id, struct reader *r, struct rg_err *err)
{
    bool ended = false;
    enum rg_code code = RG_OK;
    char bytes[64];

    while (code == RG_OK && !ended) {
        if (read(s->wake[0], bytes, sizeof(bytes)) < 0 && errno != EINTR)
            code = rg_fail(err, RG_E_IO, "session: pipe: %s", strerror(errno));
        if (atomic_load(&s->interrupted))
            rg_engine_cancel(s->llm->engine, id);
        if (code == RG_OK)
            code = give_new(s, r, &ended, err);
    }
    if (code != RG_OK) {
        rg_engine_cancel(s->llm->engine, id);
        wait_for_end(s);
        return code;
    }
    if (s->reason == RG_END_ERROR)
        return rg_fail(err, s->why.code, "%s", s->why.message);
    if (s->reason == RG_END_CANCELED)
        return rg_fail(err, RG_E_CANCELED, "interrupted");
    return RG_OK;
}

static enum rg_code submit(struct rg_session *s, const struct rg_question *q, uint64_t *id,
                           struct rg_err *err)
{
    const struct rg_llm *l = s->llm;
    struct rg_ids ids = {0};
    enum rg_code code = encode(l, q->system, q->prompt, &ids, err);

    if (code == RG_OK && ids.len >= l->context)
        code =
            rg_fail(err, RG_E_USAGE, "prompt: %zu tokens: the context has %u", ids.len, l->context);
    if (code == RG_OK) {
        const struct rg_request request = {.tokens = ids.data,
                                           .n_tokens = (uint32_t)ids.len,
                                           .max_tokens = q->max_tokens > 0 ? (uint32_t)q->max_tokens
                                                                           : l->context,
                                           .sampling = sampling_for(l, q),
                                           .eos_ids = l->eos_ids,
                                           .n_eos_ids = l->n_eos_ids,
                                           .on_event = on_event,
                                           .ud = s};

        code = rg_engine_submit(l->engine, &request, id, err);
    }
    rg_ids_free(&ids);
    return code;
}

enum rg_code rg_session_ask(struct rg_session *s, const struct rg_question *question,
                            rg_text_fn *on_text, void *ud, struct rg_err *err)
{
    struct reader r = {.on_text = on_text, .ud = ud};
    uint64_t id;
    enum rg_code code = rg_answer_init(&s->answer, s->llm->tokenizer, NULL, 0, err);

    if (code != RG_OK)
        return code;
    s->n_ids = 0;
    s->ended = false;
    code = submit(s, question, &id, err);
    if (code == RG_OK)
        code = stream(s, id, &r, err);
    rg_answer_free(&s->answer);
    atomic_store(&s->interrupted, false);
    return code;
}

/* ---- opening --------------------------------------------------------------------------------- */

static enum rg_code open_parts(struct rg_session *s, const struct rg_session_options *o,
                               struct rg_err *err)
{
    struct rg_llm_options llm = {.model = o->model,
                                 .registry = o->registry,
                                 .backend.threads = o->threads,
                                 .context = o->context,
                                 .parallel = 1,
                                 .chunk_rows = o->chunk_rows,
                                 .on_progress = o->on_progress,
                                 .ud = o->ud};
    enum rg_code code = rg_backend_options_named(&llm.backend, o->activations, o->cpu_kernels, err);

    if (code == RG_OK)
        code = rg_llm_open(&s->llm, &llm, err);
    if (code != RG_OK)
        return code;
    s->ids = rg_calloc(s->llm->context, sizeof(*s->ids));
    if (!s->ids)
        return rg_fail(err, RG_E_NOMEM, "out of memory: an answer of %u tokens", s->llm->context);
    if (pthread_mutex_init(&s->lock, NULL) != 0)
        return rg_fail(err, RG_E_IO, "session: no lock");
    s->has_lock = true;
    if (pipe(s->wake) != 0 || fcntl(s->wake[1], F_SETFL, O_NONBLOCK) != 0)
        return rg_fail(err, RG_E_IO, "session: pipe: %s", strerror(errno));
    return RG_OK;
}

enum rg_code rg_session_open(struct rg_session **out, const struct rg_session_options *options,
                             struct rg_err *err)
{
    struct rg_session *s = rg_calloc(1, sizeof(*s));
    enum rg_code code;

    *out = NULL;
    if (!s)
        return rg_fail(err, RG_E_NOMEM, "out of memory: a session");
    s->wake[0] = s->wake[1] = -1;
    rg_buf_init(&s->text, RG_LIMIT_BODY_BYTES);
    code = open_parts(s, options, err);
    if (code != RG_OK) {
        rg_session_close(s);
        return code;
    }
    *out = s;
    return RG_OK;
}

void rg_session_close(struct rg_session *s)
{
    if (!s)
        return;
    rg_llm_close(s->llm);
    if (s->has_lock)
        pthread_mutex_destroy(&s->lock);
    for (int i = 0; i < 2; i++)
        if (s->wake[i] >= 0)
            close(s->wake[i]);
    rg_buf_free(&s->text);
    rg_free(s->ids);
    rg_free(s);
}
