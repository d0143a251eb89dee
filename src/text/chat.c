/* chat.c - a checkpoint's chat templates and special tokens; one rendering. */
#include "text/chat.h"

#include <string.h>

#include "base/file.h"
#include "base/limits.h"
#include "base/mem.h"
#include "text/chat_prepare.h"
#include "text/jinja.h"

struct rg_chat {
    struct rg_jinja *main;     /* owned: "default", or the only one */
    struct rg_jinja *tool_use; /* owned; NULL: main serves requests with tools too */
    struct rg_json *config;    /* owned: tokenizer_config.json, or NULL */
    char *literals;            /* owned */
    size_t n_literals;
};

static const char *const token_names[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                          "pad_token", "cls_token", "mask_token"};

enum { N_TOKEN_NAMES = sizeof token_names / sizeof *token_names };

void rg_prompt_free(struct rg_prompt *p)
{
    rg_free(p->text);
    rg_free(p->spans);
    *p = (struct rg_prompt){0};
}

/* ---- opening -------------------------------------------------------------------------------- */

/* A special token of the configuration: a string or an object with "content"; NULL: none. */
static const char *special_token(const struct rg_json *token)
{
    if (token && rg_json_type(token) == RG_JSON_OBJECT)
        token = rg_json_get(token, "content");
    if (!token || rg_json_type(token) != RG_JSON_STRING)
        return NULL;
    return rg_json_string(token);
}

static enum rg_code read_config(struct rg_chat *c, const char *dir, struct rg_err *err)
{
    char *path = rg_path_join(dir, "tokenizer_config.json");
    char *text = NULL;
    size_t len = 0;
    enum rg_code code = RG_OK;

    if (!path)
        return rg_fail(err, RG_E_NOMEM, "chat template: out of memory");
    if (!rg_file_exists(path))
        goto out;
    code = rg_file_read(&text, &len, path, RG_LIMIT_CONFIG_BYTES, err);
    if (code == RG_OK)
        code = rg_json_parse(&c->config, text, len, &rg_json_limits_config, err);
    if (code == RG_OK && rg_json_type(c->config) != RG_JSON_OBJECT)
        code = rg_fail(err, RG_E_BAD_DATA, "not a JSON object");
    if (code != RG_OK && code != RG_E_IO)
        code = rg_fail_in(err, code, "%s", path);
out:
    rg_free(text);
    rg_free(path);
    return code;
}

static enum rg_code parse(struct rg_jinja **out, const char *source, size_t len, const char *path,
                          struct rg_err *err)
{
    const enum rg_code code = rg_jinja_parse(out, source, len, err);

    return code ? rg_fail_in(err, code, "%s", path) : RG_OK;
}

/* chat_template.jinja; *found tells whether there is one. */
static enum rg_code read_file(struct rg_chat *c, const char *dir, bool *found, struct rg_err *err)
{
    char *path = rg_path_join(dir, "chat_template.jinja");
    char *text = NULL;
    size_t len = 0;
    enum rg_code code = RG_OK;

    if (!path)
        return rg_fail(err, RG_E_NOMEM, "chat template: out of memory");
    *found = rg_file_exists(path);
    if (*found) {
        code = rg_file_read(&text, &len, path, RG_LIMIT_TEMPLATE_BYTES, err);
        if (code == RG_OK)
            code = parse(&c->main, text, len, path, err);
    }
    rg_free(text);
    rg_free(path);
    return code;
}

/* One {name, template} of a list; names other than "default" and "tool_use" serve nobody here. */
static enum rg_code read_named(struct rg_chat *c, const struct rg_json *item, const char *where,
                               struct rg_err *err)
{
    const struct rg_json *name = NULL, *text = NULL;
    struct rg_jinja **slot;

    if (rg_json_type(item) == RG_JSON_OBJECT) {
        name = rg_json_get(item, "name");
        text = rg_json_get(item, "template");
    }
    if (!name || rg_json_type(name) != RG_JSON_STRING || !text ||
        rg_json_type(text) != RG_JSON_STRING)
        return rg_fail(err, RG_E_BAD_DATA, "%s: chat_template: item without name and template",
                       where);
    if (strcmp(rg_json_string(name), "default") == 0)
        slot = &c->main;
    else if (strcmp(rg_json_string(name), "tool_use") == 0)
        slot = &c->tool_use;
    else
        return RG_OK;
    if (*slot)
        return rg_fail(err, RG_E_BAD_DATA, "%s: chat_template: two named '%s'", where,
                       rg_json_string(name));
    return parse(slot, rg_json_string(text), strlen(rg_json_string(text)), where, err);
}

static enum rg_code read_from_config(struct rg_chat *c, const char *dir, struct rg_err *err)
{
    const struct rg_json *t = c->config ? rg_json_get(c->config, "chat_template") : NULL;
    char *where = rg_path_join(dir, "tokenizer_config.json");
    enum rg_code code = RG_OK;

    if (!where)
        return rg_fail(err, RG_E_NOMEM, "chat template: out of memory");
    if (t && rg_json_type(t) == RG_JSON_STRING) {
        code = parse(&c->main, rg_json_string(t), strlen(rg_json_string(t)), where, err);
    } else if (t && rg_json_type(t) == RG_JSON_ARRAY) {
        for (const struct rg_json *j = rg_json_first(t); code == RG_OK && j; j = rg_json_next(j))
            code = read_named(c, j, where, err);
    }
    if (code == RG_OK && !c->main)
        code = rg_fail(err, RG_E_USAGE,
                       "%s: no chat template: neither chat_template.jinja nor a chat_template in "
                       "tokenizer_config.json; this model can complete text but not chat",
                       dir);
    rg_free(where);
    return code;
}

static enum rg_code add_line(struct rg_buf *b, const char *p, size_t n, struct rg_err *err)
{
    const enum rg_code code = rg_buf_add(b, p, n, err);

    return code == RG_OK ? rg_buf_add(b, "\n", 1, err) : code;
}

static enum rg_code add_tokens(struct rg_buf *b, const struct rg_json *config, struct rg_err *err)
{
    enum rg_code code = RG_OK;

    for (size_t i = 0; code == RG_OK && i < N_TOKEN_NAMES; i++) {
        const char *token = special_token(rg_json_get(config, token_names[i]));

        if (token)
            code = add_line(b, token, strlen(token), err);
    }
    return code;
}

static enum rg_code collect_literals(struct rg_chat *c, struct rg_err *err)
{
    const struct rg_jinja *const templates[] = {c->main, c->tool_use};
    struct rg_buf b;
    enum rg_code code = RG_OK;

    rg_buf_init(&b, 4 * RG_LIMIT_TEMPLATE_BYTES + 2 * RG_LIMIT_CONFIG_BYTES);
    for (size_t i = 0; code == RG_OK && i < 2; i++) {
        size_t n;
        const char *p;

        if (!templates[i])
            continue;
        p = rg_jinja_literals(templates[i], &n);
        code = add_line(&b, p, n, err);
    }
    if (code == RG_OK && c->config)
        code = add_tokens(&b, c->config, err);
    if (code == RG_OK) {
        c->n_literals = b.len;
        c->literals = rg_buf_take(&b);
        if (!c->literals)
            code = rg_fail(err, RG_E_NOMEM, "chat template: out of memory");
    }
    rg_buf_free(&b);
    return code;
}

enum rg_code rg_chat_open(struct rg_chat **out, const char *dir, struct rg_err *err)
{
    struct rg_chat *c = rg_calloc(1, sizeof *c);
    bool found = false;
    enum rg_code code;

    *out = NULL;
    if (!c)
        return rg_fail(err, RG_E_NOMEM, "chat template: out of memory");
    code = read_config(c, dir, err);
    if (code == RG_OK)
        code = read_file(c, dir, &found, err);
    if (code == RG_OK && !found)
        code = read_from_config(c, dir, err);
    if (code == RG_OK)
        code = collect_literals(c, err);
    if (code != RG_OK) {
        rg_chat_close(c);
        return code;
    }
    *out = c;
    return RG_OK;
}

void rg_chat_close(struct rg_chat *c)
{
    if (!c)
        return;
    rg_jinja_free(c->main);
    rg_jinja_free(c->tool_use);
    rg_json_free(c->config);
    rg_free(c->literals);
    rg_free(c);
}

const char *rg_chat_literals(const struct rg_chat *c, size_t *len)
{
    *len = c->n_literals;
    return c->literals;
}

bool rg_chat_uses(const struct rg_chat *c, const char *variable)
{
    return rg_jinja_uses(c->main, variable) ||
           (c->tool_use && rg_jinja_uses(c->tool_use, variable));
}

/* ---- rendering ------------------------------------------------------------------------------ */

static enum rg_code set_token(struct rg_jrun *r, const char *name, const struct rg_json *token)
{
    const char *text = special_token(token);
    const struct rg_jstr *s;

    if (!text)
        return RG_OK;
    s = rg_jstr_borrow(rg_jinja_work(r), text, strlen(text), true);
    if (!s)
        return rg_jshort(rg_jinja_work(r));
    return rg_jinja_set(r, name, rg_jv_str(s));
}

static enum rg_code set_tokens(const struct rg_chat *c, struct rg_jrun *r)
{
    for (size_t i = 0; c->config && i < N_TOKEN_NAMES; i++)
        RG_TRY(set_token(r, token_names[i], rg_json_get(c->config, token_names[i])));
    return RG_OK;
}

static enum rg_code set_json(struct rg_jrun *r, const char *name, const struct rg_json *j)
{
    struct rg_jvalue v;

    RG_TRY(rg_jv_from_json(rg_jinja_work(r), j, &v));
    return rg_jinja_set(r, name, v);
}

/* A field of the request: always set, none when absent. */
static enum rg_code set_field(struct rg_jrun *r, const struct rg_json *request, const char *name)
{
    const struct rg_json *j = rg_json_get(request, name);

    return j ? set_json(r, name, j) : rg_jinja_set(r, name, rg_jv_none());
}

static enum rg_code set_given(struct rg_jrun *r, const struct rg_json *request, const char *name)
{
    const struct rg_json *j = rg_json_get(request, name);

    return j && rg_json_type(j) != RG_JSON_NULL ? set_json(r, name, j) : RG_OK;
}

static enum rg_code set_variables(const struct rg_chat *c, struct rg_jrun *r,
                                  const struct rg_json *request)
{
    const struct rg_json *more = rg_json_get(request, "chat_template_kwargs");
    struct rg_jvalue messages;

    RG_TRY(set_tokens(c, r));
    RG_TRY(rg_chat_prepare(r, rg_json_get(request, "messages"), &messages));
    RG_TRY(rg_jinja_set(r, "messages", messages));
    RG_TRY(set_field(r, request, "tools"));
    RG_TRY(set_field(r, request, "documents"));
    RG_TRY(rg_jinja_set(r, "add_generation_prompt", rg_jv_bool(true)));
    RG_TRY(set_given(r, request, "enable_thinking"));
    RG_TRY(set_given(r, request, "reasoning_effort"));
    if (!more || rg_json_type(more) == RG_JSON_NULL)
        return RG_OK;
    if (rg_json_type(more) != RG_JSON_OBJECT)
        return rg_fail(rg_jinja_work(r)->err, RG_E_BAD_DATA,
                       "chat_template_kwargs is %s, should be an object", rg_json_type_name(more));
    for (const struct rg_json *j = rg_json_first(more); j; j = rg_json_next(j))
        RG_TRY(set_json(r, rg_json_key(j), j));
    return RG_OK;
}

static bool has_tools(const struct rg_json *request)
{
    const struct rg_json *tools = rg_json_get(request, "tools");

    return tools && rg_json_type(tools) == RG_JSON_ARRAY && rg_json_count(tools) > 0;
}

enum rg_code rg_chat_render(const struct rg_chat *c, const struct rg_json *request,
                            struct rg_prompt *out, struct rg_err *err)
{
    struct rg_jrun *r;
    enum rg_code code;

    *out = (struct rg_prompt){0};
    if (rg_json_type(request) != RG_JSON_OBJECT)
        return rg_fail(err, RG_E_BAD_DATA, "the request is %s, should be an object",
                       rg_json_type_name(request));
    code = rg_jinja_begin(&r, c->tool_use && has_tools(request) ? c->tool_use : c->main, err);
    if (code != RG_OK)
        return code;
    code = set_variables(c, r, request);
    if (code == RG_OK)
        code = rg_jinja_run(r, out);
    rg_jinja_end(r);
    return code;
}
