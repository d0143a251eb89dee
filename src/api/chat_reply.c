/* chat.completion and chat.completion.chunk objects, written straight into a buffer. */
#include "api/chat_reply.h"

#include <math.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"

/* A token that a client reads as text, and its bytes, which may be a part of a character. */
static enum rg_code add_token(struct rg_buf *out, const struct rg_tokenizer *t, int32_t id,
                              float logprob, struct rg_err *err)
{
    struct rg_buf text;
    size_t        n;
    const char   *bytes = rg_tokenizer_bytes(t, id, &n);
    enum rg_code  code;

    rg_buf_init(&text, 4 * n + 16);
    code = rg_utf8_repair(&text, bytes ? bytes : "", n, err);
    if (code == RG_OK)
        code = rg_buf_add_str(out, "{\"token\":", err);
    if (code == RG_OK)
        code = rg_json_print_string(out, text.data ? text.data : "", text.len, err);
    /* JSON has no infinity; -9999 is what OpenAI gives for a token that cannot be. */
    if (code == RG_OK)
        code = rg_buf_addf(out, err, ",\"logprob\":%.9g,\"bytes\":[",
                           isfinite(logprob) ? (double)logprob : -9999.0);
    for (size_t i = 0; code == RG_OK && i < n; i++)
        code = rg_buf_addf(out, err, "%s%u", i > 0 ? "," : "", (unsigned char)bytes[i]);
    if (code == RG_OK)
        code = rg_buf_add_str(out, "]", err);
    rg_buf_free(&text);
    return code;
}

enum rg_code rg_chat_logprob_add(struct rg_buf *entries, const struct rg_tokenizer *t,
                                 const struct rg_sample *sample, struct rg_err *err)
{
    enum rg_code code = entries->len > 0 ? rg_buf_add_str(entries, ",", err) : RG_OK;

    if (code == RG_OK)
        code = add_token(entries, t, sample->id, sample->logprob, err);
    if (code == RG_OK)
        code = rg_buf_add_str(entries, ",\"top_logprobs\":[", err);
    for (uint32_t i = 0; code == RG_OK && i < sample->n_top; i++) {
        if (i > 0)
            code = rg_buf_add_str(entries, ",", err);
        if (code == RG_OK)
            code = add_token(entries, t, sample->top[i].id, sample->top[i].logprob, err);
        if (code == RG_OK)
            code = rg_buf_add_str(entries, "}", err);
    }
    return code == RG_OK ? rg_buf_add_str(entries, "]}", err) : code;
}

static enum rg_code add_head(struct rg_buf *out, const struct rg_chat_head *h, const char *object,
                             struct rg_err *err)
{
    enum rg_code code = rg_buf_addf(
        out, err, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%lld,\"model\":", h->id, object,
        (long long)h->created);

    if (code == RG_OK)
        code = rg_json_print_string(out, h->model, strlen(h->model), err);
    if (code == RG_OK)
        code = rg_buf_add_str(
            out, ",\"system_fingerprint\":\"renga-" RENGA_VERSION "\",\"choices\":[", err);
    return code;
}

static enum rg_code add_text(struct rg_buf *out, const struct rg_chat_piece *p, struct rg_err *err)
{
    const enum rg_code code = rg_buf_add_str(out, "\"content\":", err);

    return code == RG_OK ? rg_json_print_string(out, p->text ? p->text : "", p->text_len, err)
                         : code;
}

/* ,"logprobs":...,"finish_reason":...} */
static enum rg_code add_ending(struct rg_buf *out, const struct rg_chat_piece *p,
                               struct rg_err *err)
{
    enum rg_code code = rg_buf_add_str(out, ",\"logprobs\":", err);

    if (code == RG_OK && p->logprobs)
        code = rg_buf_add_str(out, "{\"content\":[", err);
    if (code == RG_OK && p->logprobs)
        code = rg_buf_add(out, p->logprobs, p->logprobs_len, err);
    if (code == RG_OK)
        code = rg_buf_add_str(out, p->logprobs ? "],\"refusal\":null}" : "null", err);
    if (code == RG_OK && p->finish_reason)
        code = rg_buf_addf(out, err, ",\"finish_reason\":\"%s\"}", p->finish_reason);
    else if (code == RG_OK)
        code = rg_buf_add_str(out, ",\"finish_reason\":null}", err);
    return code;
}

static enum rg_code add_usage(struct rg_buf *out, struct rg_chat_usage u, struct rg_err *err)
{
    return rg_buf_addf(
        out, err, "\"usage\":{\"prompt_tokens\":%u,\"completion_tokens\":%u,\"total_tokens\":%llu}",
        u.prompt_tokens, u.completion_tokens,
        (unsigned long long)u.prompt_tokens + u.completion_tokens);
}

enum rg_code rg_chat_chunk(struct rg_buf *out, const struct rg_chat_head *h,
                           const struct rg_chat_piece *p, struct rg_err *err)
{
    enum rg_code code = add_head(out, h, "chat.completion.chunk", err);

    if (code == RG_OK)
        code = rg_buf_addf(out, err, "{\"index\":%u,\"delta\":{%s", p->index,
                           p->first ? "\"role\":\"assistant\"," : "");
    if (code == RG_OK && (p->first || p->text_len > 0))
        code = add_text(out, p, err);
    if (code == RG_OK)
        code = rg_buf_add_str(out, "}", err);
    if (code == RG_OK)
        code = add_ending(out, p, err);
    /* With include_usage every chunk but the last says null. */
    if (code == RG_OK)
        code = rg_buf_add_str(out, h->include_usage ? "],\"usage\":null}" : "]}", err);
    return code;
}

enum rg_code rg_chat_usage_chunk(struct rg_buf *out, const struct rg_chat_head *h,
                                 struct rg_chat_usage usage, struct rg_err *err)
{
    enum rg_code code = add_head(out, h, "chat.completion.chunk", err);

    if (code == RG_OK)
        code = rg_buf_add_str(out, "],", err);
    if (code == RG_OK)
        code = add_usage(out, usage, err);
    return code == RG_OK ? rg_buf_add_str(out, "}", err) : code;
}

enum rg_code rg_chat_completion(struct rg_buf *out, const struct rg_chat_head *h,
                                const struct rg_chat_piece *pieces, uint32_t n,
                                struct rg_chat_usage usage, struct rg_err *err)
{
    enum rg_code code = add_head(out, h, "chat.completion", err);

    for (uint32_t i = 0; code == RG_OK && i < n; i++) {
        code = rg_buf_addf(out, err, "%s{\"index\":%u,\"message\":{\"role\":\"assistant\",",
                           i > 0 ? "," : "", pieces[i].index);
        if (code == RG_OK)
            code = add_text(out, &pieces[i], err);
        if (code == RG_OK)
            code = rg_buf_add_str(out, ",\"refusal\":null}", err);
        if (code == RG_OK)
            code = add_ending(out, &pieces[i], err);
    }
    if (code == RG_OK)
        code = rg_buf_add_str(out, "],", err);
    if (code == RG_OK)
        code = add_usage(out, usage, err);
    return code == RG_OK ? rg_buf_add_str(out, "}", err) : code;
}
