/* run.c - one answer on the terminal.
 *
 * The engine's thread puts tokens into a list and a byte into a pipe; SIGINT's handler writes to
 * the pipe too.  The main thread sleeps on it: nothing is lost between looking and sleeping. */
#include "cli/run.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "cli/load_progress.h"
#include "text/answer.h"

struct run {
    struct rg_llm   *llm;
    struct rg_answer answer;
    bool             has_answer;
    struct rg_buf    text; /* what is to be printed next */
    int              wake[2];
    bool             has_lock;

    pthread_mutex_t    lock;   /* guards the rest */
    int32_t           *ids;    /* owned [context]: tokens of the answer */
    uint32_t           n_ids;
    bool               ended;
    enum rg_end_reason reason;
    struct rg_err      why;
};

/* The write end of the pipe, for the signal handler; -1: no run is under way. */
static volatile sig_atomic_t wake_fd = -1;
static volatile sig_atomic_t interrupted;

static void wake(int fd)
{
    const char byte = 0;

    /* A full pipe already wakes its reader. */
    if (write(fd, &byte, 1) < 0)
        return;
}

static void on_sigint(int sig)
{
    const int saved = errno;

    (void)sig;
    interrupted = 1;
    if (wake_fd >= 0)
        wake((int)wake_fd);
    errno = saved;
}

static void on_event(void *ud, const struct rg_event *event)
{
    struct run *r = ud;

    if (event->kind == RG_EVENT_PREFILL)
        return;
    pthread_mutex_lock(&r->lock);
    if (event->kind == RG_EVENT_TOKEN && !event->is_eos) {
        r->ids[r->n_ids++] = event->sample.id;
    } else if (event->kind == RG_EVENT_END) {
        r->ended = true;
        r->reason = event->reason;
        r->why = event->err;
    }
    pthread_mutex_unlock(&r->lock);
    wake(r->wake[1]);
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
    struct rg_buf   system_text, prompt_text;
    struct rg_json *body = NULL;
    enum rg_code    code = repaired(&prompt_text, prompt, err);
    enum rg_code    system_code = repaired(&system_text, system ? system : "", err);

    if (code == RG_OK)
        code = system_code;
    if (code != RG_OK)
        goto out;
    body = make_body(system ? (system_text.data ? system_text.data : "") : NULL,
                     prompt_text.data ? prompt_text.data : "");
    if (!body)
        code = rg_fail(err, RG_E_NOMEM, "run: no memory for the prompt");
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
    enum rg_code     code;

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

static struct rg_sampling sampling_for(const struct rg_llm *l, const struct rg_run_options *how)
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

static enum rg_code print_text(struct run *r, struct rg_err *err)
{
    const size_t n = r->text.len;

    if (n > 0 && (fwrite(r->text.data, 1, n, stdout) != n || fflush(stdout) != 0))
        return rg_fail(err, RG_E_IO, "stdout: cannot be written: %s", strerror(errno));
    rg_buf_clear(&r->text);
    return RG_OK;
}

/* Prints what has come since token *printed. */
static enum rg_code print_new(struct run *r, uint32_t *printed, bool *ended, struct rg_err *err)
{
    enum rg_code code = RG_OK;
    uint32_t     n;

    pthread_mutex_lock(&r->lock);
    n = r->n_ids;
    *ended = r->ended;
    pthread_mutex_unlock(&r->lock);
    while (code == RG_OK && *printed < n)
        code = rg_answer_push(&r->answer, r->ids[(*printed)++], &r->text, err);
    if (code == RG_OK && *ended)
        code = rg_answer_finish(&r->answer, &r->text, err);
    if (code == RG_OK && *ended)
        code = rg_buf_add_str(&r->text, "\n", err);
    return code == RG_OK ? print_text(r, err) : code;
}

static enum rg_code stream(struct run *r, uint64_t id, struct rg_err *err)
{
    uint32_t     printed = 0;
    bool         ended = false;
    enum rg_code code = RG_OK;
    char         bytes[64];

    while (code == RG_OK && !ended) {
        if (read(r->wake[0], bytes, sizeof(bytes)) < 0 && errno != EINTR)
            code = rg_fail(err, RG_E_IO, "run: pipe: %s", strerror(errno));
        if (interrupted)
            rg_engine_cancel(r->llm->engine, id);
        if (code == RG_OK)
            code = print_new(r, &printed, &ended, err);
    }
    if (code != RG_OK)
        return code;
    if (r->reason == RG_END_ERROR)
        return rg_fail(err, r->why.code, "%s", r->why.message);
    if (r->reason == RG_END_CANCELED)
        return rg_fail(err, RG_E_CANCELED, "run: interrupted");
    return RG_OK;
}

static enum rg_code answer(struct run *r, const char *prompt, const struct rg_run_options *how,
                           struct rg_err *err)
{
    const struct rg_llm *l = r->llm;
    struct rg_ids        ids = {0};
    uint64_t             id;
    enum rg_code         code = encode(l, how->system, prompt, &ids, err);

    if (code == RG_OK && ids.len >= l->context)
        code = rg_fail(err, RG_E_USAGE, "--prompt: %zu tokens: the context has %u", ids.len,
                       l->context);
    if (code == RG_OK) {
        const struct rg_request request = {
            .tokens = ids.data,
            .n_tokens = (uint32_t)ids.len,
            .max_tokens = how->max_tokens > 0 ? (uint32_t)how->max_tokens : l->context,
            .sampling = sampling_for(l, how),
            .eos_ids = l->eos_ids,
            .n_eos_ids = l->n_eos_ids,
            .on_event = on_event,
            .ud = r};

        code = rg_engine_submit(l->engine, &request, &id, err);
    }
    rg_ids_free(&ids);
    return code == RG_OK ? stream(r, id, err) : code;
}

/* ---- opening --------------------------------------------------------------------------------- */

static enum rg_code open_run(struct run *r, const struct rg_llm_options *options,
                             struct rg_err *err)
{
    struct rg_llm_options   o = *options;
    struct rg_load_progress progress;
    enum rg_code            code;

    rg_load_progress_begin(&progress);
    if (!o.on_progress) {
        o.on_progress = rg_load_progress_show;
        o.ud = &progress;
    }
    if (o.parallel == 0)
        o.parallel = 1;
    code = rg_llm_open(&r->llm, &o, err);
    rg_load_progress_end(&progress);
    if (code != RG_OK)
        return code;
    r->ids = rg_calloc(r->llm->context, sizeof(*r->ids));
    if (!r->ids)
        return rg_fail(err, RG_E_NOMEM, "run: out of memory");
    code = rg_answer_init(&r->answer, r->llm->tokenizer, NULL, 0, err);
    r->has_answer = code == RG_OK;
    if (code != RG_OK)
        return code;
    if (pthread_mutex_init(&r->lock, NULL) != 0)
        return rg_fail(err, RG_E_IO, "run: no lock");
    r->has_lock = true;
    if (pipe(r->wake) != 0)
        return rg_fail(err, RG_E_IO, "run: pipe: %s", strerror(errno));
    if (fcntl(r->wake[1], F_SETFL, O_NONBLOCK) != 0)
        return rg_fail(err, RG_E_IO, "run: pipe: %s", strerror(errno));
    return RG_OK;
}

static void close_run(struct run *r)
{
    rg_llm_close(r->llm);
    if (r->has_answer)
        rg_answer_free(&r->answer);
    if (r->has_lock)
        pthread_mutex_destroy(&r->lock);
    for (int i = 0; i < 2; i++)
        if (r->wake[i] >= 0)
            close(r->wake[i]);
    rg_buf_free(&r->text);
    rg_free(r->ids);
}

enum rg_code rg_run(const struct rg_llm_options *options, const char *prompt,
                    const struct rg_run_options *how, struct rg_err *err)
{
    struct run       r = {.wake = {-1, -1}};
    struct sigaction action = {.sa_handler = on_sigint};
    struct sigaction before;
    enum rg_code     code;

    rg_buf_init(&r.text, RG_LIMIT_BODY_BYTES);
    code = open_run(&r, options, err);
    if (code == RG_OK) {
        interrupted = 0;
        wake_fd = r.wake[1];
        /* A second SIGINT ends the process the usual way. */
        action.sa_flags = (int)SA_RESETHAND;
        sigaction(SIGINT, &action, &before);
        code = answer(&r, prompt, how, err);
        sigaction(SIGINT, &before, NULL);
        wake_fd = -1;
    }
    close_run(&r);
    return code;
}
