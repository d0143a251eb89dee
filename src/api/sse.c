/* Server-sent events: data lines, comments and the [DONE] that OpenAI's clients wait for. */
#include "api/sse.h"

#include <assert.h>
#include <string.h>

#include "base/utf8.h"

enum rg_code rg_sse_data(struct rg_buf *out, const char *json, size_t n, struct rg_err *err)
{
    enum rg_code code = rg_buf_reserve(out, n + 16, err);

    assert(!memchr(json, '\n', n));
    if (code == RG_OK)
        code = rg_buf_add_str(out, "data: ", err);
    if (code == RG_OK)
        code = rg_buf_add(out, json, n, err);
    if (code == RG_OK)
        code = rg_buf_add_str(out, "\n\n", err);
    return code;
}

enum rg_code rg_sse_done(struct rg_buf *out, struct rg_err *err)
{
    return rg_buf_add_str(out, "data: [DONE]\n\n", err);
}

enum rg_code rg_sse_keepalive(struct rg_buf *out, uint32_t done, uint32_t total, struct rg_err *err)
{
    if (total == 0)
        return rg_buf_add_str(out, ": keepalive\n\n", err);
    return rg_buf_addf(out, err, ": keepalive %u/%u\n\n", done, total);
}

enum rg_code rg_sse_comment(struct rg_buf *out, const char *text, struct rg_err *err)
{
    enum rg_code code = rg_buf_add_str(out, ": ", err);
    const size_t begin = out->len;

    /* Clients decode a stream strictly, also what they then pass over. */
    if (code == RG_OK)
        code = rg_utf8_repair(out, text, strlen(text), err);
    for (size_t i = begin; code == RG_OK && i < out->len; i++)
        if ((unsigned char)out->data[i] < 0x20)
            out->data[i] = ' ';
    return code == RG_OK ? rg_buf_add_str(out, "\n\n", err) : code;
}
