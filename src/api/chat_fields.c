/* The fields of POST /v1/chat/completions: each one honoured, accepted or refused. */
#include "api/fields.h"

#include <stddef.h>
#include <string.h>

#include "base/mem.h"

static bool refuse(struct rg_fields_walk *w, const char *param, const char *why)
{
    return rg_api_fail(w->error, RG_API_UNSUPPORTED, param, "%s: %s", param, why);
}

static bool out_of_memory(struct rg_fields_walk *w)
{
    return rg_api_fail(w->error, RG_API_INTERNAL, NULL, "out of memory");
}

static bool take_model(struct rg_fields_walk *w, const struct rg_json *value, const char *param)
{
    w->values->has_model = true;
    if (strcmp(rg_json_string(value), w->llm->name) == 0)
        return true;
    return rg_api_fail(w->error, RG_API_MODEL_NOT_FOUND, param,
                       "there is no model \"%.200s\" here; this server has \"%.200s\"",
                       rg_json_string(value), w->llm->name);
}

static bool take_stream_options(struct rg_fields_walk *w, const struct rg_json *value,
                                const char *param)
{
    (void)param;
    w->values->has_stream_options = true;
    return rg_fields_apply(w, value, rg_stream_option_fields, "stream_options.");
}

static bool take_seed(struct rg_fields_walk *w, const struct rg_json *value, const char *param)
{
    int64_t v;

    if (rg_json_type(value) != RG_JSON_NUMBER || !rg_json_int(value, INT64_MIN, INT64_MAX, &v))
        return rg_api_fail(w->error, RG_API_INVALID_VALUE, param,
                           "%s must be an integer of 64 bits", param);
    w->request->sampling.seed = (uint64_t)v;
    return true;
}

static bool take_repetition_penalty(struct rg_fields_walk *w, const struct rg_json *value,
                                    const char *param)
{
    const double v = rg_json_double(value);

    if (!(v > 1e-6 && v <= 10))
        return rg_api_fail(w->error, RG_API_INVALID_VALUE, param,
                           "%s must be above 0.000001 and at most 10", param);
    w->values->repetition_penalty = v;
    return true;
}

static bool add_stop(struct rg_fields_walk *w, const struct rg_json *value, const char *param)
{
    struct rg_chat_request *r = w->request;
    const char             *text;
    char                   *copy;

    if (rg_json_type(value) != RG_JSON_STRING)
        return rg_field_wrong_type(w, value, param, "a string or an array of strings");
    text = rg_json_string(value);
    if (*text == '\0' || strlen(text) > RG_LIMIT_STOP_BYTES)
        return rg_api_fail(w->error, RG_API_INVALID_VALUE, param,
                           "a stop string must have 1 to %u bytes, not %zu", RG_LIMIT_STOP_BYTES,
                           strlen(text));
    copy = rg_strdup(text);
    if (!copy)
        return out_of_memory(w);
    r->stops[r->n_stops++] = copy;
    return true;
}

static bool take_stop(struct rg_fields_walk *w, const struct rg_json *value, const char *param)
{
    if (rg_json_type(value) != RG_JSON_ARRAY)
        return add_stop(w, value, param);
    if (rg_json_count(value) > RG_LIMIT_STOPS)
        return rg_api_fail(w->error, RG_API_INVALID_VALUE, param,
                           "at most %u stop strings, not %zu", RG_LIMIT_STOPS,
                           rg_json_count(value));
    for (const struct rg_json *v = rg_json_first(value); v; v = rg_json_next(v))
        if (!add_stop(w, v, param))
            return false;
    return true;
}

/* A token id as decimal digits, below the vocabulary's size; -1 when it is not one. */
static int32_t token_id(const char *text, uint32_t vocab_size)
{
    uint32_t id = 0;

    if (*text == '\0' || strlen(text) > 9)
        return -1;
    for (const char *c = text; *c; c++) {
        if (*c < '0' || *c > '9')
            return -1;
        id = id * 10 + (uint32_t)(*c - '0');
    }
    return id < vocab_size ? (int32_t)id : -1;
}

static bool take_logit_bias(struct rg_fields_walk *w, const struct rg_json *value,
                            const char *param)
{
    const uint32_t vocab_size = rg_tokenizer_vocab_size(w->llm->tokenizer);
    const size_t   n = rg_json_count(value);
    struct rg_chat_request *r = w->request;

    if (n > RG_LIMIT_LOGIT_BIAS)
        return rg_api_fail(w->error, RG_API_INVALID_VALUE, param, "at most %u tokens, not %zu",
                           RG_LIMIT_LOGIT_BIAS, n);
    if (n == 0)
        return true;
    r->bias = rg_calloc(n, sizeof *r->bias);
    if (!r->bias)
        return out_of_memory(w);
    for (const struct rg_json *v = rg_json_first(value); v; v = rg_json_next(v)) {
        const int32_t id = token_id(rg_json_key(v), vocab_size);
        const double  bias = rg_json_type(v) == RG_JSON_NUMBER ? rg_json_double(v) : 1e9;

        if (id < 0)
            return rg_api_fail(w->error, RG_API_INVALID_VALUE, param,
                               "logit_bias: \"%.40s\" is not a token id below %u", rg_json_key(v),
                               vocab_size);
        if (!(bias >= -100 && bias <= 100))
            return rg_api_fail(w->error, RG_API_INVALID_VALUE, param,
                               "logit_bias: the bias of token %d must be a number from -100 to 100",
                               id);
        r->bias[r->sampling.n_bias++] = (struct rg_logit_bias){.id = id, .bias = (float)bias};
    }
    r->sampling.bias = r->bias;
    return true;
}

/* ---- what the template is handed ---- */

static bool need_template_use(struct rg_fields_walk *w, const char *variable, const char *param)
{
    if (w->llm->chat && rg_chat_uses(w->llm->chat, variable))
        return true;
    return refuse(w, param, "this model's chat template has no use for it");
}

static bool take_enable_thinking(struct rg_fields_walk *w, const struct rg_json *value,
                                 const char *param)
{
    (void)value;
    return need_template_use(w, "enable_thinking", param);
}

static bool take_reasoning_effort(struct rg_fields_walk *w, const struct rg_json *value,
                                  const char *param)
{
    static const char *const efforts[] = {"none", "minimal", "low", "medium",
                                          "high", "xhigh",   "max"};

    for (size_t i = 0; i < sizeof efforts / sizeof *efforts; i++)
        if (strcmp(rg_json_string(value), efforts[i]) == 0)
            return need_template_use(w, "reasoning_effort", param);
    return rg_api_fail(w->error, RG_API_INVALID_VALUE, param,
                       "%s must be none, minimal, low, medium, high, xhigh or max", param);
}

static bool take_documents(struct rg_fields_walk *w, const struct rg_json *value, const char *param)
{
    for (const struct rg_json *v = rg_json_first(value); v; v = rg_json_next(v))
        if (rg_json_type(v) != RG_JSON_OBJECT)
            return rg_field_wrong_type(w, v, param, "an array of objects");
    return rg_json_count(value) == 0 || need_template_use(w, "documents", param);
}

/* The template sees these as they are, so none may stand in for a field that was checked. */
static bool take_template_kwargs(struct rg_fields_walk *w, const struct rg_json *value,
                                 const char *param)
{
    static const char *const own[] = {"messages", "tools", "documents", "chat_template"};

    for (const struct rg_json *v = rg_json_first(value); v; v = rg_json_next(v)) {
        char name[RG_PARAM_BYTES];

        rg_field_param(name, "%s.%s", param, rg_json_key(v));
        for (size_t i = 0; i < sizeof own / sizeof *own; i++)
            if (strcmp(rg_json_key(v), own[i]) == 0)
                return rg_api_fail(w->error, RG_API_INVALID_VALUE, name,
                                   "%s cannot be set among the template's variables", own[i]);
    }
    return true;
}

/* ---- accepted when they say what is done anyway ---- */

static bool only_empty(struct rg_fields_walk *w, const struct rg_json *value, const char *param)
{
    if (rg_json_count(value) == 0)
        return true;
    return refuse(w, param, "tools are not supported");
}

static bool only_auto_or_none(struct rg_fields_walk *w, const struct rg_json *value,
                              const char *param)
{
    if (rg_json_type(value) == RG_JSON_STRING && (strcmp(rg_json_string(value), "auto") == 0 ||
                                                  strcmp(rg_json_string(value), "none") == 0))
        return true;
    return refuse(w, param, "tools are not supported");
}

static bool only_text_format(struct rg_fields_walk *w, const struct rg_json *value,
                             const char *param)
{
    const struct rg_json *type = rg_json_get(value, "type");

    if (type && rg_json_type(type) == RG_JSON_STRING && rg_json_count(value) == 1 &&
        strcmp(rg_json_string(type), "text") == 0)
        return true;
    return refuse(w, param, "only {\"type\":\"text\"} is supported");
}

static bool only_text_modality(struct rg_fields_walk *w, const struct rg_json *value,
                               const char *param)
{
    const struct rg_json *v = rg_json_first(value);

    if (rg_json_count(value) == 1 && rg_json_type(v) == RG_JSON_STRING &&
        strcmp(rg_json_string(v), "text") == 0)
        return true;
    return refuse(w, param, "only [\"text\"] is supported");
}

static bool only_false(struct rg_fields_walk *w, const struct rg_json *value, const char *param)
{
    return !rg_json_bool(value) || refuse(w, param, "nothing is stored here");
}

static bool only_default_tier(struct rg_fields_walk *w, const struct rg_json *value,
                              const char *param)
{
    if (strcmp(rg_json_string(value), "auto") == 0 || strcmp(rg_json_string(value), "default") == 0)
        return true;
    return refuse(w, param, "only \"auto\" and \"default\" are supported");
}

static bool only_medium(struct rg_fields_walk *w, const struct rg_json *value, const char *param)
{
    return strcmp(rg_json_string(value), "medium") == 0 ||
           refuse(w, param, "only \"medium\" is supported");
}

#define AT(member) .offset = offsetof(struct rg_chat_values, member)

const struct rg_field rg_stream_option_fields[] = {
    {"include_usage", RG_FIELD_HONOURED, RG_FIELD_BOOL, AT(include_usage),
     .doc = "a last chunk with the counts of tokens"},
    {"include_obfuscation", RG_FIELD_ACCEPTED, RG_FIELD_BOOL, .doc = "no padding is ever added"},
    {0},
};

const struct rg_field rg_chat_fields[] = {
    {"model", RG_FIELD_HONOURED, RG_FIELD_STRING, .take = take_model,
     .doc = "required; an id of `GET /v1/models`, else 404 `model_not_found`"},
    {"messages", RG_FIELD_HONOURED, RG_FIELD_ARRAY, .take = rg_chat_take_messages,
     .doc = "required; 1 to 1024 messages"},
    {"stream", RG_FIELD_HONOURED, RG_FIELD_BOOL, AT(stream), .doc = "default false"},
    {"stream_options", RG_FIELD_HONOURED, RG_FIELD_OBJECT, .take = take_stream_options,
     .doc = "only with `stream: true`"},
    {"n", RG_FIELD_HONOURED, RG_FIELD_INT, 1, RG_LIMIT_CHOICES, AT(n), .doc = "1 to 4; default 1"},
    {"max_tokens", RG_FIELD_HONOURED, RG_FIELD_INT, 1, RG_LIMIT_CONTEXT, AT(max_tokens),
     .doc = "1 to the context; default: the rest of the context"},
    {"max_completion_tokens", RG_FIELD_HONOURED, RG_FIELD_INT, 1, RG_LIMIT_CONTEXT,
     AT(max_completion_tokens), .doc = "the same; 400 when both are given and differ"},
    {"stop", RG_FIELD_HONOURED, RG_FIELD_ANY, .take = take_stop,
     .doc = "a string or up to 4 of them, 1 to 64 bytes each; the answer ends before it"},
    {"temperature", RG_FIELD_HONOURED, RG_FIELD_NUMBER, 0, 2, AT(temperature),
     .doc = "0 to 2; 0 takes the likeliest token; default: the model's, else 1"},
    {"top_p", RG_FIELD_HONOURED, RG_FIELD_NUMBER, 0, 1, AT(top_p),
     .doc = "0 to 1; 0 leaves the likeliest token; default: the model's, else 1 (off)"},
    {"top_k", RG_FIELD_HONOURED, RG_FIELD_INT, 0, RG_LIMIT_VOCAB, AT(top_k),
     .doc = "0 (off) to 4194304; default: the model's, else 0"},
    {"min_p", RG_FIELD_HONOURED, RG_FIELD_NUMBER, 0, 1, AT(min_p),
     .doc = "0 (off) to 1; default: the model's, else 0"},
    {"repetition_penalty", RG_FIELD_HONOURED, RG_FIELD_NUMBER, .take = take_repetition_penalty,
     .doc = "above 0 to 10; prompt and answer count; default: the model's, else 1 (off)"},
    {"presence_penalty", RG_FIELD_HONOURED, RG_FIELD_NUMBER, -2, 2, AT(presence_penalty),
     .doc = "-2 to 2; only the answer counts; default 0"},
    {"frequency_penalty", RG_FIELD_HONOURED, RG_FIELD_NUMBER, -2, 2, AT(frequency_penalty),
     .doc = "-2 to 2; only the answer counts; default 0"},
    {"logit_bias", RG_FIELD_HONOURED, RG_FIELD_OBJECT, .take = take_logit_bias,
     .doc = "token id to bias from -100 to 100; up to 1024 tokens"},
    {"seed", RG_FIELD_HONOURED, RG_FIELD_ANY, .take = take_seed,
     .doc = "an integer of 64 bits; the same request with the same seed gives the same answer; "
            "without one a random seed is drawn"},
    {"logprobs", RG_FIELD_HONOURED, RG_FIELD_BOOL, AT(logprobs), .doc = "default false"},
    {"top_logprobs", RG_FIELD_HONOURED, RG_FIELD_INT, 0, RG_LIMIT_TOP_LOGPROBS, AT(top_logprobs),
     .doc = "0 to 20; above 0 only with `logprobs: true`"},
    {"chat_template_kwargs", RG_FIELD_HONOURED, RG_FIELD_OBJECT, .take = take_template_kwargs,
     .doc = "variables for the chat template; they win over all others; one that the template "
            "doesn't look at cannot change the text. 400 for `messages`, `tools`, `documents` and "
            "`chat_template`"},
    {"enable_thinking", RG_FIELD_HONOURED, RG_FIELD_BOOL, .take = take_enable_thinking,
     .doc = "400 if the chat template has no use for it"},
    {"reasoning_effort", RG_FIELD_HONOURED, RG_FIELD_STRING, .take = take_reasoning_effort,
     .doc = "`none` `minimal` `low` `medium` `high` `xhigh` `max`; 400 if the chat template has no "
            "use for it"},
    {"documents", RG_FIELD_HONOURED, RG_FIELD_ARRAY, .take = take_documents,
     .doc = "objects for the chat template; 400 if it has no use for them"},
    {"user", RG_FIELD_ACCEPTED, RG_FIELD_STRING, .doc = "a label of the client's"},
    {"metadata", RG_FIELD_ACCEPTED, RG_FIELD_OBJECT, .doc = "labels of the client's"},
    {"safety_identifier", RG_FIELD_ACCEPTED, RG_FIELD_STRING, .doc = "a label of the client's"},
    {"prompt_cache_key", RG_FIELD_ACCEPTED, RG_FIELD_STRING, .doc = "a hint for speed"},
    {"prompt_cache_retention", RG_FIELD_ACCEPTED, RG_FIELD_STRING, .doc = "a hint for speed"},
    {"store", RG_FIELD_ACCEPTED, RG_FIELD_BOOL, .take = only_false, .doc = "only false"},
    {"service_tier", RG_FIELD_ACCEPTED, RG_FIELD_STRING, .take = only_default_tier,
     .doc = "only `auto` and `default`"},
    {"verbosity", RG_FIELD_ACCEPTED, RG_FIELD_STRING, .take = only_medium,
     .doc = "only `medium`, the default"},
    {"modalities", RG_FIELD_ACCEPTED, RG_FIELD_ARRAY, .take = only_text_modality,
     .doc = "only `[\"text\"]`"},
    {"response_format", RG_FIELD_ACCEPTED, RG_FIELD_OBJECT, .take = only_text_format,
     .doc = "only `{\"type\": \"text\"}`"},
    {"parallel_tool_calls", RG_FIELD_ACCEPTED, RG_FIELD_BOOL,
     .doc = "without tools it says nothing"},
    {"tools", RG_FIELD_ACCEPTED, RG_FIELD_ARRAY, .take = only_empty, .doc = "only `[]`"},
    {"tool_choice", RG_FIELD_ACCEPTED, RG_FIELD_ANY, .take = only_auto_or_none,
     .doc = "only `auto` and `none`"},
    {"functions", RG_FIELD_ACCEPTED, RG_FIELD_ARRAY, .take = only_empty, .doc = "only `[]`"},
    {"function_call", RG_FIELD_ACCEPTED, RG_FIELD_ANY, .take = only_auto_or_none,
     .doc = "only `auto` and `none`"},
    {"audio", RG_FIELD_REFUSED, RG_FIELD_ANY, .doc = "answers are text"},
    {"prediction", RG_FIELD_REFUSED, RG_FIELD_ANY, .doc = "there is no predicted output"},
    {"web_search_options", RG_FIELD_REFUSED, RG_FIELD_ANY, .doc = "nothing is ever fetched"},
    {0},
};
