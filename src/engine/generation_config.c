/* generation_config.c - end-of-sequence tokens and sampling defaults of a checkpoint. */
#include "engine/generation_config.h"

#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"

/* *out = the tree of dir/name, or NULL when there is none that can be read. */
static enum rg_code read_json(struct rg_json **out, const char *dir, const char *name,
                              struct rg_err *err)
{
    char *path = rg_path_join(dir, name);
    char *text = NULL;
    size_t len = 0;
    struct rg_err why = {0};
    enum rg_code code = RG_OK;

    *out = NULL;
    if (!path)
        return rg_fail(err, RG_E_NOMEM, "%s: out of memory", name);
    if (rg_file_exists(path)) {
        code = rg_file_read(&text, &len, path, RG_LIMIT_TOKENIZER_BYTES, &why);
        if (code == RG_OK)
            code = rg_json_parse(out, text, len, &rg_json_limits_config, &why);
        if (code != RG_OK)
            rg_log(RG_LOG_WARN, "model", why.message, "file=%s", name);
    }
    rg_free(text);
    rg_free(path);
    return code == RG_E_NOMEM ? rg_fail(err, code, "%s: out of memory", name) : RG_OK;
}

static void add_eos(struct rg_llm *l, const struct rg_json *id)
{
    const int32_t most = (int32_t)l->checkpoint->config.vocab_size - 1;
    const size_t room = sizeof(l->eos_ids) / sizeof(*l->eos_ids);
    int64_t v;

    if (!rg_json_int(id, 0, most, &v) || l->n_eos_ids == room)
        rg_log(RG_LOG_WARN, "model", "an eos_token_id of generation_config.json is passed over",
               "vocab_size=%d max=%zu", (int)most + 1, room);
    else
        l->eos_ids[l->n_eos_ids++] = (int32_t)v;
}

static void read_eos(struct rg_llm *l, const struct rg_json *value)
{
    if (!value || rg_json_type(value) == RG_JSON_NULL)
        return;
    if (rg_json_type(value) != RG_JSON_ARRAY) {
        add_eos(l, value);
        return;
    }
    for (const struct rg_json *id = rg_json_first(value); id; id = rg_json_next(id))
        add_eos(l, id);
}

/* The number under key if it is within [least, most], else NAN. */
static float read_float(const struct rg_json *config, const char *key, double least, double most)
{
    const struct rg_json *j = rg_json_get(config, key);
    double v;

    if (!j || rg_json_type(j) == RG_JSON_NULL)
        return NAN;
    v = rg_json_type(j) == RG_JSON_NUMBER ? rg_json_double(j) : NAN;
    if (v >= least && v <= most)
        return (float)v;
    rg_log(RG_LOG_WARN, "model", "a value of generation_config.json is passed over",
           "key=%s least=%g most=%g", key, least, most);
    return NAN;
}

static void read_defaults(struct rg_generation_defaults *d, const struct rg_json *config)
{
    const struct rg_json *top_k = rg_json_get(config, "top_k");
    int64_t v;

    d->temperature = read_float(config, "temperature", 0.0, 2.0);
    d->top_p = read_float(config, "top_p", 1e-6, 1.0);
    d->min_p = read_float(config, "min_p", 0.0, 1.0);
    d->repetition_penalty = read_float(config, "repetition_penalty", 1e-6, 10.0);
    if (top_k && rg_json_int(top_k, 0, RG_LIMIT_VOCAB, &v))
        d->top_k = (uint32_t)v;
}

/* tokenizer_config.json's eos_token: a string, or an object with its content. */
static enum rg_code read_tokenizer_eos(struct rg_llm *l, struct rg_err *err)
{
    struct rg_json *config;
    const struct rg_json *token;
    int32_t id = -1;
    enum rg_code code;

    code = read_json(&config, l->checkpoint->dir, "tokenizer_config.json", err);
    if (code != RG_OK || !config)
        return code;
    token = rg_json_type(config) == RG_JSON_OBJECT ? rg_json_get(config, "eos_token") : NULL;
    if (token && rg_json_type(token) == RG_JSON_OBJECT)
        token = rg_json_get(token, "content");
    if (token && rg_json_type(token) == RG_JSON_STRING)
        id = rg_tokenizer_find(l->tokenizer, rg_json_string(token));
    if (id >= 0)
        l->eos_ids[l->n_eos_ids++] = id;
    rg_json_free(config);
    return RG_OK;
}

enum rg_code rg_generation_config_read(struct rg_llm *l, struct rg_err *err)
{
    const struct rg_model_config *c = &l->checkpoint->config;
    struct rg_json *config;
    enum rg_code code;

    l->defaults = (struct rg_generation_defaults){NAN, NAN, NAN, NAN, UINT32_MAX};
    l->n_eos_ids = 0;
    code = read_json(&config, l->checkpoint->dir, "generation_config.json", err);
    if (code != RG_OK)
        return code;
    if (config && rg_json_type(config) == RG_JSON_OBJECT) {
        read_eos(l, rg_json_get(config, "eos_token_id"));
        read_defaults(&l->defaults, config);
    }
    rg_json_free(config);
    if (l->n_eos_ids == 0) {
        memcpy(l->eos_ids, c->eos_token_ids, sizeof(l->eos_ids));
        l->n_eos_ids = c->n_eos_token_ids;
    }
    return l->n_eos_ids == 0 ? read_tokenizer_eos(l, err) : RG_OK;
}
