/* render.c - the render command. */
#include "cli/render.h"

#include <stdio.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/limits.h"
#include "text/chat.h"
#include "text/tokenizer.h"

static enum rg_code read_stdin(struct rg_buf *body, struct rg_err *err)
{
    char chunk[1 << 14];
    size_t n;

    while ((n = fread(chunk, 1, sizeof chunk, stdin)) > 0) {
        const enum rg_code code = rg_buf_add(body, chunk, n, err);

        if (code)
            return rg_fail_in(err, code, "standard input");
    }
    if (ferror(stdin))
        return rg_fail(err, RG_E_IO, "standard input: cannot be read");
    return RG_OK;
}

static enum rg_code write_stdout(const char *p, size_t n, struct rg_err *err)
{
    if (fwrite(p, 1, n, stdout) != n || fflush(stdout) != 0)
        return rg_fail(err, RG_E_IO, "standard output: cannot be written");
    return RG_OK;
}

static enum rg_code print_spans(const struct rg_prompt *p, struct rg_buf *out, struct rg_err *err)
{
    enum rg_code code = rg_buf_add_str(out, "[", err);

    for (size_t i = 0; code == RG_OK && i < p->n_spans; i++) {
        const struct rg_span *s = &p->spans[i];

        code = rg_buf_add_str(out, i ? ",{\"text\":" : "{\"text\":", err);
        if (code == RG_OK)
            code = rg_json_print_string(out, p->text + s->begin, s->end - s->begin, err);
        if (code == RG_OK)
            code = rg_buf_addf(out, err, ",\"trusted\":%s}", s->trusted ? "true" : "false");
    }
    return code == RG_OK ? rg_buf_add_str(out, "]\n", err) : code;
}

static enum rg_code print_ids(const char *dir, const struct rg_chat *chat,
                              const struct rg_prompt *p, struct rg_buf *out, struct rg_err *err)
{
    struct rg_tokenizer *t = NULL;
    struct rg_ids ids = {0};
    size_t n = 0;
    const char *literals = rg_chat_literals(chat, &n);
    enum rg_code code = rg_tokenizer_open(&t, dir, err);

    if (code == RG_OK)
        code = rg_tokenizer_set_template(t, literals, n, err);
    if (code == RG_OK)
        code = rg_tokenizer_encode(t, p->text, p->len, p->spans, p->n_spans, RG_CONTROL_TRUSTED,
                                   &ids, err);
    if (code == RG_OK)
        code = rg_buf_add_str(out, "[", err);
    for (size_t i = 0; code == RG_OK && i < ids.len; i++)
        code = rg_buf_addf(out, err, i ? ",%d" : "%d", ids.data[i]);
    if (code == RG_OK)
        code = rg_buf_add_str(out, "]\n", err);
    rg_ids_free(&ids);
    rg_tokenizer_close(t);
    return code;
}

enum rg_code rg_render(const char *model_dir, bool ids, bool spans, struct rg_err *err)
{
    struct rg_buf body, out;
    struct rg_json *request = NULL;
    struct rg_chat *chat = NULL;
    struct rg_prompt prompt = {0};
    enum rg_code code;

    rg_buf_init(&body, RG_LIMIT_BODY_BYTES);
    rg_buf_init(&out, (size_t)16 * RG_LIMIT_TEMPLATE_OUT_BYTES);
    code = rg_chat_open(&chat, model_dir, err);
    if (code == RG_OK)
        code = read_stdin(&body, err);
    if (code == RG_OK)
        code = rg_json_parse(&request, body.data, body.len, &rg_json_limits_request, err);
    if (code == RG_OK)
        code = rg_chat_render(chat, request, &prompt, err);
    if (code == RG_OK && !ids && !spans)
        code = write_stdout(prompt.text, prompt.len, err);
    else if (code == RG_OK && ids)
        code = print_ids(model_dir, chat, &prompt, &out, err);
    else if (code == RG_OK)
        code = print_spans(&prompt, &out, err);
    if (code == RG_OK && out.len)
        code = write_stdout(out.data, out.len, err);
    rg_prompt_free(&prompt);
    rg_json_free(request);
    rg_chat_close(chat);
    rg_buf_free(&out);
    rg_buf_free(&body);
    return code;
}
