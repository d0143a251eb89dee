/* tokenize.c - the tokenize command. */
#include "cli/tokenize.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/limits.h"
#include "base/mem.h"
#include "text/tokenizer.h"

enum { READ_BYTES = 64 << 10 };

static enum rg_code read_stdin(struct rg_buf *b, struct rg_err *err)
{
    for (;;) {
        enum rg_code code = rg_buf_reserve(b, READ_BYTES, err);
        ssize_t      n;

        if (code)
            return code;
        n = read(STDIN_FILENO, b->data + b->len, READ_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return rg_fail(err, RG_E_IO, "stdin: %s", strerror(errno));
        if (n == 0)
            return RG_OK;
        b->len += (size_t)n;
    }
}

static enum rg_code encode(const struct rg_tokenizer *t, const struct rg_buf *in, bool special,
                           struct rg_buf *out, struct rg_err *err)
{
    struct rg_ids ids = {0};
    enum rg_code  code;

    code = rg_tokenizer_encode(t, in->data ? in->data : "", in->len, NULL, 0,
                               special ? RG_CONTROL_ALL : RG_CONTROL_PLAIN, &ids, err);
    if (!code)
        code = rg_buf_add_str(out, "[", err);
    for (size_t i = 0; i < ids.len && !code; i++)
        code = rg_buf_addf(out, err, i ? ",%d" : "%d", ids.data[i]);
    if (!code)
        code = rg_buf_add_str(out, "]\n", err);
    rg_ids_free(&ids);
    return code;
}

static enum rg_code decode_one(const struct rg_tokenizer *t, const struct rg_json_reader *r,
                               struct rg_buf *out, struct rg_err *err)
{
    const uint32_t size = rg_tokenizer_vocab_size(t);
    uint32_t       id = 0;
    const char    *bytes;
    size_t         n;
    bool           good = r->token_len > 0 && r->token_len < 10;

    for (size_t i = 0; i < r->token_len && good; i++) {
        good = r->token_text[i] >= '0' && r->token_text[i] <= '9';
        id = id * 10 + (uint32_t)(r->token_text[i] - '0');
    }
    if (!good || id >= size)
        return rg_fail(err, RG_E_USAGE, "stdin: %.*s is not a token id below %u",
                       r->token_len < 40 ? (int)r->token_len : 40, r->token_text, size);
    bytes = rg_tokenizer_bytes(t, (int32_t)id, &n);
    return n ? rg_buf_add(out, bytes, n, err) : RG_OK;
}

static enum rg_code decode_all(const struct rg_tokenizer *t, const struct rg_buf *in,
                               struct rg_buf *out, struct rg_err *err)
{
    struct rg_json_reader r;
    enum rg_json_token    token;
    enum rg_code          code;

    rg_json_reader_init(&r, in->data ? in->data : "", in->len, 1);
    code = rg_json_read(&r, &token, err);
    if (!code && token != RG_JSON_T_ARRAY_BEGIN)
        code = rg_fail(err, RG_E_USAGE, "stdin: not a JSON array of token ids");
    while (!code) {
        code = rg_json_read(&r, &token, err);
        if (code || token == RG_JSON_T_ARRAY_END)
            break;
        code = token == RG_JSON_T_NUMBER
                   ? decode_one(t, &r, out, err)
                   : rg_fail(err, RG_E_USAGE, "stdin: not a JSON array of token ids");
    }
    if (!code)
        code = rg_json_read(&r, &token, err); /* nothing may follow */
    return code;
}

enum rg_code rg_tokenize(const char *model_dir, bool special, bool decode, struct rg_err *err)
{
    struct rg_tokenizer *t = NULL;
    struct rg_buf        in, out;
    enum rg_code         code;

    rg_buf_init(&in, (size_t)RG_LIMIT_TEMPLATE_OUT_BYTES + READ_BYTES);
    rg_buf_init(&out, SIZE_MAX / 2);
    code = rg_tokenizer_open(&t, model_dir, err);
    if (!code)
        code = read_stdin(&in, err);
    if (!code)
        code = decode ? decode_all(t, &in, &out, err) : encode(t, &in, special, &out, err);
    if (!code && out.len > 0 &&
        (fwrite(out.data, 1, out.len, stdout) != out.len || fflush(stdout)))
        code = rg_fail(err, RG_E_IO, "stdout: %s", strerror(errno));
    rg_tokenizer_close(t);
    rg_buf_free(&in);
    rg_buf_free(&out);
    return code;
}
