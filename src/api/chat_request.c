/* A chat-completions body to a request: JSON, fields, defaults, prompt. */
#include "api/chat_request.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "api/fields.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"

static bool parse(struct rg_json **root, const char *body, size_t len, struct rg_api_error *error)
{
    struct rg_err err;

    switch (rg_json_parse(root, body, len, &rg_json_limits_request, &err)) {
    case RG_OK:
        break;
    case RG_E_BAD_DATA:
        return rg_api_fail(error, RG_API_INVALID_JSON, NULL, "%s", err.message);
    case RG_E_NOMEM:
        return rg_api_fail(error, RG_API_INTERNAL, NULL, "out of memory");
    default:
        return rg_api_fail(error, RG_API_INVALID_VALUE, NULL, "%s", err.message);
    }
    if (rg_json_type(*root) == RG_JSON_OBJECT)
        return true;
    return rg_api_fail(error, RG_API_INVALID_VALUE, NULL, "the body must be a JSON object, not %s",
                       rg_json_type_name(*root));
}

static float first_of(double asked, float of_model, float otherwise)
{
    if (!isnan(asked))
        return (float)asked;
    return isnan(of_model) ? otherwise : of_model;
}

static void fill_sampling(struct rg_sampling *s, const struct rg_chat_values *v,
                          const struct rg_generation_defaults *d)
{
    s->temperature = first_of(v->temperature, d->temperature, 1.0f);
    s->top_p = first_of(v->top_p, d->top_p, 1.0f);
    /* 0 means the likeliest token alone; the sampler wants a share above 0. */
    if (!(s->top_p > FLT_MIN))
        s->top_p = FLT_MIN;
    s->min_p = first_of(v->min_p, d->min_p, 0.0f);
    s->repetition_penalty = first_of(v->repetition_penalty, d->repetition_penalty, 1.0f);
    s->presence_penalty = first_of(v->presence_penalty, NAN, 0.0f);
    s->frequency_penalty = first_of(v->frequency_penalty, NAN, 0.0f);
    s->top_k = v->top_k >= 0 ? (uint32_t)v->top_k : d->top_k;
    if (s->top_k == UINT32_MAX)
        s->top_k = 0;
    s->logprobs = v->logprobs;
    s->n_top_logprobs = v->top_logprobs > 0 ? (uint32_t)v->top_logprobs : 0;
}

/* What one field alone can't tell. */
static bool check_together(const struct rg_chat_values *v, const struct rg_llm *llm,
                           struct rg_api_error *error)
{
    const int64_t max_tokens =
        v->max_tokens > v->max_completion_tokens ? v->max_tokens : v->max_completion_tokens;

    if (!v->has_model)
        return rg_api_fail(error, RG_API_INVALID_VALUE, "model",
                           "model is missing; this server has \"%.200s\"", llm->name);
    if (!v->has_messages)
        return rg_api_fail(error, RG_API_INVALID_VALUE, "messages", "messages is missing");
    if (v->has_stream_options && !v->stream)
        return rg_api_fail(error, RG_API_INVALID_VALUE, "stream_options",
                           "stream_options needs \"stream\": true");
    if (v->top_logprobs > 0 && !v->logprobs)
        return rg_api_fail(error, RG_API_INVALID_VALUE, "top_logprobs",
                           "top_logprobs needs \"logprobs\": true");
    if (v->max_tokens >= 0 && v->max_completion_tokens >= 0 &&
        v->max_tokens != v->max_completion_tokens)
        return rg_api_fail(error, RG_API_INVALID_VALUE, "max_tokens",
                           "max_tokens and max_completion_tokens differ; give one of them");
    if (max_tokens > (int64_t)llm->context)
        return rg_api_fail(error, RG_API_INVALID_VALUE,
                           v->max_tokens >= 0 ? "max_tokens" : "max_completion_tokens",
                           "%lld tokens are more than the context of %u", (long long)max_tokens,
                           llm->context);
    return true;
}

static bool take_fields(struct rg_chat_request *r, const struct rg_llm *llm,
                        const struct rg_json *root, struct rg_api_error *error)
{
    struct rg_chat_values v = {
        .temperature = NAN,
        .top_p = NAN,
        .min_p = NAN,
        .repetition_penalty = NAN,
        .presence_penalty = NAN,
        .frequency_penalty = NAN,
        .n = -1,
        .max_tokens = -1,
        .max_completion_tokens = -1,
        .top_k = -1,
        .top_logprobs = -1,
    };
    struct rg_fields_walk w = {.llm = llm, .request = r, .values = &v, .error = error};

    r->sampling.seed = rg_clock_random_seed();
    if (!rg_fields_apply(&w, root, rg_chat_fields, "") || !check_together(&v, llm, error))
        return false;
    fill_sampling(&r->sampling, &v, &llm->defaults);
    r->stream = v.stream;
    r->include_usage = v.include_usage;
    r->n_choices = v.n > 0 ? (uint32_t)v.n : 1;
    r->max_tokens = UINT32_MAX;
    if (v.max_tokens > 0)
        r->max_tokens = (uint32_t)v.max_tokens;
    else if (v.max_completion_tokens > 0)
        r->max_tokens = (uint32_t)v.max_completion_tokens;
    return true;
}

static bool prompt_fault(struct rg_api_error *error, const struct rg_err *err)
{
    if (err->code == RG_E_NOMEM || err->code == RG_E_INTERNAL) {
        rg_api_error_from(error, err);
        return false;
    }
    return rg_api_fail(error,
                       err->code == RG_E_UNSUPPORTED ? RG_API_UNSUPPORTED : RG_API_INVALID_VALUE,
                       "messages", "%s", err->message);
}

/* developer is OpenAI's newer name of the role system; most templates were written before it and
 * would drop such a message. */
static bool rename_developer(struct rg_json *root, const struct rg_chat *chat)
{
    const struct rg_json *messages = rg_json_get(root, "messages");
    size_t                n;

    if (strstr(rg_chat_literals(chat, &n), "developer"))
        return true;
    for (const struct rg_json *m = rg_json_first(messages); m; m = rg_json_next(m))
        if (strcmp(rg_json_string(rg_json_get(m, "role")), "developer") == 0 &&
            !rg_json_replace(root, m, "role", rg_json_new_string("system", 6)))
            return false;
    return true;
}

static bool make_prompt(struct rg_chat_request *r, const struct rg_llm *llm, struct rg_json *root,
                        struct rg_api_error *error)
{
    struct rg_prompt prompt = {0};
    struct rg_err    err;
    enum rg_code     code;

    if (!llm->chat)
        return rg_api_fail(error, RG_API_UNSUPPORTED, "messages",
                           "this model has no chat template, so it cannot chat");
    if (!rename_developer(root, llm->chat)) {
        (void)rg_fail(&err, RG_E_NOMEM, "out of memory: messages");
        return prompt_fault(error, &err);
    }
    if (rg_chat_render(llm->chat, root, &prompt, &err) != RG_OK)
        return prompt_fault(error, &err);
    code = rg_tokenizer_encode(llm->tokenizer, prompt.text, prompt.len, prompt.spans,
                               prompt.n_spans, RG_CONTROL_TRUSTED, &r->prompt, &err);
    rg_prompt_free(&prompt);
    if (code != RG_OK)
        return prompt_fault(error, &err);
    if (r->prompt.len == 0)
        return rg_api_fail(error, RG_API_INVALID_VALUE, "messages",
                           "the chat template made an empty prompt of these messages");
    if (r->prompt.len >= llm->context)
        return rg_api_fail(error, RG_API_CONTEXT_LENGTH, "messages",
                           "the messages are %zu tokens; the context is %u tokens, and the answer "
                           "needs one of them at least",
                           r->prompt.len, llm->context);
    return true;
}

bool rg_chat_request_make(struct rg_chat_request *r, const struct rg_llm *llm, const char *body,
                          size_t len, struct rg_api_error *error)
{
    struct rg_json *root = NULL;
    bool            ok;

    memset(r, 0, sizeof *r);
    ok = parse(&root, body, len, error) && take_fields(r, llm, root, error) &&
         make_prompt(r, llm, root, error);
    rg_json_free(root);
    if (!ok)
        rg_chat_request_free(r);
    return ok;
}

void rg_chat_request_free(struct rg_chat_request *r)
{
    for (uint32_t i = 0; i < r->n_stops; i++)
        rg_free(r->stops[i]);
    rg_free(r->bias);
    rg_ids_free(&r->prompt);
    memset(r, 0, sizeof *r);
}
