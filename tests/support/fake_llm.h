/* fake_llm.h - a model without a model, for tests of the API.
 *
 * It defines the functions of engine.h, tokenizer.h and chat.h that the API uses, so a program that
 * includes it (once) runs neither the real engine nor the real text folder.  Tokens are bytes; the
 * prompt is the contents of the messages; the answer is the script's, byte by byte.
 * Threads    the fake engine's thread makes the events, as the real one's does. */
#ifndef RG_TESTS_FAKE_LLM_H
#define RG_TESTS_FAKE_LLM_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/llm.h"

enum { FAKE_EOS = 256, FAKE_VOCAB = 257, FAKE_REQUESTS = 64, FAKE_CONTEXT = 1000 };

/* What the engine does.  Set it before a request; the engine's thread reads it. */
struct fake_script {
    const char   *answer;     /* bytes, then the end-of-sequence token */
    size_t        answer_len; /* 0: strlen(answer) */
    atomic_int    delay_us;   /* per token */
    atomic_int    hold;       /* nothing happens while it is 1 */
    int           fail_after; /* tokens; -1: never */
    enum rg_code  fail_code;
    int           lose_after; /* tokens; then a node is lost; -1: never */
    atomic_int    stays_lost; /* it is not back while this is 1 */
    enum rg_code  submit_code;
    const char   *literals;   /* the template's own text; NULL: the roles system, user, assistant */
    char          first_role[16]; /* of the last rendering's first message */
    const char   *uses;       /* the variables that the template looks at, "a b c" */
    enum rg_code  render_code;
    bool          endless;    /* repeats the answer until canceled or full */
};

static struct fake_script fake;

/* ---- tokenizer ---- */

void rg_ids_free(struct rg_ids *ids)
{
    rg_free(ids->data);
    memset(ids, 0, sizeof *ids);
}

enum rg_code rg_tokenizer_encode(const struct rg_tokenizer *t, const char *text, size_t len,
                                 const struct rg_span *spans, size_t n_spans,
                                 enum rg_control control, struct rg_ids *out, struct rg_err *err)
{
    (void)t, (void)spans, (void)n_spans, (void)control;
    for (size_t i = 0; i < len; i++) {
        if (rg_grow((void **)&out->data, &out->capacity, out->len + 1, sizeof *out->data, err))
            return RG_E_NOMEM;
        out->data[out->len++] = (unsigned char)text[i];
    }
    return RG_OK;
}

uint32_t rg_tokenizer_vocab_size(const struct rg_tokenizer *t)
{
    (void)t;
    return FAKE_VOCAB;
}

const char *rg_tokenizer_bytes(const struct rg_tokenizer *t, int32_t id, size_t *n)
{
    static char bytes[FAKE_EOS];

    (void)t;
    *n = id >= 0 && id < FAKE_EOS;
    if (*n == 0)
        return "";
    bytes[id] = (char)id;
    return &bytes[id];
}

bool rg_tokenizer_is_special(const struct rg_tokenizer *t, int32_t id)
{
    (void)t;
    return id >= FAKE_EOS;
}

/* ---- chat ---- */

bool rg_chat_uses(const struct rg_chat *c, const char *variable)
{
    (void)c;
    return fake.uses && strstr(fake.uses, variable) != NULL;
}

const char *rg_chat_literals(const struct rg_chat *c, size_t *len)
{
    const char *literals = fake.literals ? fake.literals : "system user assistant";

    (void)c;
    *len = strlen(literals);
    return literals;
}

void rg_prompt_free(struct rg_prompt *p)
{
    rg_free(p->text);
    rg_free(p->spans);
    memset(p, 0, sizeof *p);
}

static enum rg_code fake_add_content(struct rg_buf *out, const struct rg_json *content,
                                     struct rg_err *err)
{
    enum rg_code code = RG_OK;

    if (content && rg_json_type(content) == RG_JSON_STRING)
        return rg_buf_add_str(out, rg_json_string(content), err);
    if (!content || rg_json_type(content) != RG_JSON_ARRAY)
        return RG_OK;
    for (const struct rg_json *v = rg_json_first(content); code == RG_OK && v; v = rg_json_next(v))
        code = rg_buf_add_str(out, rg_json_string(rg_json_get(v, "text")), err);
    return code;
}

/* Several of libuv's workers may render at once. */
static void fake_note_role(const char *role)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

    pthread_mutex_lock(&lock);
    (void)snprintf(fake.first_role, sizeof fake.first_role, "%s", role);
    pthread_mutex_unlock(&lock);
}

enum rg_code rg_chat_render(const struct rg_chat *c, const struct rg_json *request,
                            struct rg_prompt *out, struct rg_err *err)
{
    const struct rg_json *messages = rg_json_get(request, "messages");
    enum rg_code          code = RG_OK;
    struct rg_buf         text;

    (void)c;
    if (fake.render_code)
        return rg_fail(err, fake.render_code, "the template says no");
    rg_buf_init(&text, 64 << 20);
    fake_note_role("");
    if (messages && rg_json_count(messages) > 0)
        fake_note_role(rg_json_string(rg_json_get(rg_json_first(messages), "role")));
    for (const struct rg_json *m = rg_json_first(messages); code == RG_OK && m; m = rg_json_next(m))
        code = fake_add_content(&text, rg_json_get(m, "content"), err);
    out->len = text.len;
    out->text = code == RG_OK ? rg_buf_take(&text) : NULL;
    if (code == RG_OK && !out->text)
        code = rg_fail(err, RG_E_NOMEM, "out of memory");
    rg_buf_free(&text);
    return code;
}

/* ---- engine ---- */

struct fake_request {
    bool               used, canceled, told_lost;
    uint64_t           id;
    uint32_t           choice, n_prompt, n_done, max_tokens;
    struct rg_sampling sampling;
    rg_event_fn       *on_event;
    void              *ud;
};

struct rg_engine {
    pthread_t           thread;
    pthread_mutex_t     lock; /* of everything below */
    bool                stop;
    uint64_t            last_id;
    struct fake_request requests[FAKE_REQUESTS];
    struct fake_request log[FAKE_REQUESTS]; /* the latest submitted ones, by id modulo */
    atomic_int          live, canceled;
    _Atomic int64_t     silence_ns;
    atomic_bool         broken;
};

static struct rg_engine fake_engine;

static void fake_sleep_us(int us)
{
    const struct timespec t = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};

    nanosleep(&t, NULL);
}

static void fake_end(struct rg_engine *e, struct fake_request *r, enum rg_end_reason reason,
                     enum rg_code code)
{
    struct rg_event event = {.kind = RG_EVENT_END, .request = r->id, .reason = reason};

    if (reason == RG_END_ERROR)
        rg_fail(&event.err, code, "the script fails here");
    r->used = false;
    atomic_fetch_sub(&e->live, 1);
    if (reason == RG_END_CANCELED)
        atomic_fetch_add(&e->canceled, 1);
    r->on_event(r->ud, &event);
}

static void fake_token(struct fake_request *r, int32_t id)
{
    struct rg_event event = {.kind = RG_EVENT_TOKEN, .request = r->id, .is_eos = id == FAKE_EOS};

    event.sample.id = id;
    event.sample.logprob = -0.25f;
    event.sample.n_top = r->sampling.n_top_logprobs;
    for (uint32_t i = 0; i < event.sample.n_top; i++)
        event.sample.top[i] = (struct rg_token_logprob){.id = id, .logprob = -0.25f};
    r->n_done++;
    r->on_event(r->ud, &event);
}

static void fake_lose(struct fake_request *r)
{
    struct rg_event event = {.kind = RG_EVENT_LOST, .request = r->id};

    rg_fail(&event.err, RG_E_PEER, "n2 \xff is lost:\nreset");
    r->told_lost = true;
    r->on_event(r->ud, &event);
}

static void fake_turn(struct rg_engine *e, struct fake_request *r)
{
    const size_t len = fake.answer_len ? fake.answer_len : strlen(fake.answer);
    const size_t at = fake.endless ? r->n_done % len : r->n_done;

    if (r->canceled) {
        fake_end(e, r, RG_END_CANCELED, RG_OK);
    } else if (atomic_load(&fake.hold)) {
        const struct rg_event event = {
            .kind = RG_EVENT_PREFILL, .request = r->id, .done = 1, .total = r->n_prompt};

        r->on_event(r->ud, &event);
    } else if (!r->told_lost && fake.lose_after >= 0 && r->n_done == (uint32_t)fake.lose_after) {
        fake_lose(r);
    } else if (r->told_lost && atomic_load(&fake.stays_lost)) {
        return;
    } else if (fake.fail_after >= 0 && r->n_done == (uint32_t)fake.fail_after) {
        fake_end(e, r, RG_END_ERROR, fake.fail_code);
    } else if (r->n_done >= r->max_tokens) {
        fake_end(e, r, RG_END_LENGTH, RG_OK);
    } else if (at < len) {
        fake_token(r, (unsigned char)fake.answer[at]);
    } else {
        fake_token(r, FAKE_EOS);
        fake_end(e, r, RG_END_STOP, RG_OK);
    }
}

static void *fake_run(void *arg)
{
    struct rg_engine *e = arg;
    bool              stop = false;

    while (!stop) {
        bool busy = false;

        pthread_mutex_lock(&e->lock);
        stop = e->stop;
        for (int i = 0; i < FAKE_REQUESTS; i++)
            if (e->requests[i].used) {
                e->requests[i].canceled |= stop;
                fake_turn(e, &e->requests[i]);
                busy = true;
            }
        pthread_mutex_unlock(&e->lock);
        fake_sleep_us(busy && !atomic_load(&fake.hold) ? atomic_load(&fake.delay_us) : 1000);
    }
    return NULL;
}

enum rg_code rg_engine_submit(struct rg_engine *e, const struct rg_request *request, uint64_t *id,
                              struct rg_err *err)
{
    struct fake_request *r = e->requests;
    const uint32_t       room = FAKE_CONTEXT - request->n_tokens;

    if (fake.submit_code)
        return rg_fail(err, fake.submit_code, "the script takes no request");
    pthread_mutex_lock(&e->lock);
    while (r < e->requests + FAKE_REQUESTS && r->used)
        r++;
    if (r == e->requests + FAKE_REQUESTS) {
        pthread_mutex_unlock(&e->lock);
        return rg_fail(err, RG_E_LIMIT, "64 requests are waiting");
    }
    *r = (struct fake_request){
        .used = true,
        .id = ++e->last_id,
        .choice = request->choice,
        .n_prompt = request->n_tokens,
        .max_tokens = request->max_tokens < room ? request->max_tokens : room,
        .sampling = request->sampling,
        .on_event = request->on_event,
        .ud = request->ud,
    };
    e->log[r->id % FAKE_REQUESTS] = *r;
    *id = r->id;
    atomic_fetch_add(&e->live, 1);
    pthread_mutex_unlock(&e->lock);
    return RG_OK;
}

void rg_engine_cancel(struct rg_engine *e, uint64_t id)
{
    pthread_mutex_lock(&e->lock);
    for (int i = 0; i < FAKE_REQUESTS; i++)
        if (e->requests[i].used && e->requests[i].id == id)
            e->requests[i].canceled = true;
    pthread_mutex_unlock(&e->lock);
}

void rg_engine_stats(struct rg_engine *e, struct rg_engine_stats *out)
{
    memset(out, 0, sizeof *out);
    out->running = (uint32_t)atomic_load(&e->live);
    out->heartbeat_ns = rg_clock_ns() - atomic_load(&e->silence_ns);
}

bool rg_engine_is_broken(struct rg_engine *e, struct rg_err *why)
{
    if (atomic_load(&e->broken))
        rg_fail(why, RG_E_IO, "model.safetensors: \"gone\"\n");
    return atomic_load(&e->broken);
}

bool rg_engine_is_lost(struct rg_engine *e, struct rg_err *why)
{
    (void)e;
    (void)why;
    return false;
}

/* ---- the model ---- */

static char fake_name[] = "fake-model";

static struct rg_llm fake_llm = {
    .chat = (struct rg_chat *)&fake_name, /* only compared with NULL */
    .engine = &fake_engine,
    .name = fake_name,
    .context = FAKE_CONTEXT,
    .parallel = 4,
    .eos_ids = {FAKE_EOS},
    .n_eos_ids = 1,
};

static void fake_reset(void)
{
    fake.answer = "Hello!";
    fake.answer_len = 0;
    atomic_store(&fake.delay_us, 0);
    atomic_store(&fake.hold, 0);
    atomic_store(&fake.stays_lost, 0);
    fake.fail_after = fake.lose_after = -1;
    fake.fail_code = fake.submit_code = fake.render_code = RG_OK;
    fake.uses = NULL;
    fake.endless = false;
    fake_llm.defaults = (struct rg_generation_defaults){
        __builtin_nanf(""), __builtin_nanf(""), __builtin_nanf(""), __builtin_nanf(""), UINT32_MAX};
}

static inline void fake_start(void)
{
    memset(fake_engine.requests, 0, sizeof fake_engine.requests);
    fake_engine.stop = false;
    pthread_mutex_init(&fake_engine.lock, NULL);
    pthread_create(&fake_engine.thread, NULL, fake_run, &fake_engine);
}

static inline void fake_stop(void)
{
    pthread_mutex_lock(&fake_engine.lock);
    fake_engine.stop = true;
    pthread_mutex_unlock(&fake_engine.lock);
    pthread_join(fake_engine.thread, NULL);
    pthread_mutex_destroy(&fake_engine.lock);
}

static inline struct fake_request fake_last_request(void)
{
    struct fake_request r;

    pthread_mutex_lock(&fake_engine.lock);
    r = fake_engine.log[fake_engine.last_id % FAKE_REQUESTS];
    pthread_mutex_unlock(&fake_engine.lock);
    return r;
}

#endif
