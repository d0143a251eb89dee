/* fuzz_json.c - base/json: the reader and the tree take and refuse the same documents, and what a
 * tree prints is read back to the same print. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum rg_code walk(const char *text, size_t len)
{
    struct rg_json_reader r;
    struct rg_err         err;

    rg_json_reader_init(&r, text, len, 64);
    for (;;) {
        enum rg_json_token token;
        const enum rg_code code = rg_json_read(&r, &token, &err);

        if (code || token == RG_JSON_T_END)
            return code;
    }
}

static struct rg_buf print(const struct rg_json *j)
{
    struct rg_buf b;
    struct rg_err err;

    rg_buf_init(&b, 1 << 26);

    const enum rg_code code = rg_json_print(&b, j, &err);

    assert(code == RG_OK);
    return b;
}

/* What no document may hold anywhere. */
static bool has_bad_byte(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (data[i] < 0x20 && data[i] != '\t' && data[i] != '\n' && data[i] != '\r')
            return true;
    return !rg_utf8_valid((const char *)data, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char    *text = (const char *)data;
    struct rg_json *tree = NULL, *again = NULL;
    struct rg_err  err;
    const int64_t  live = rg_mem_live();
    const enum rg_code read = walk(text, size);
    const enum rg_code parsed = rg_json_parse(&tree, text, size, &rg_json_limits_request, &err);

    assert(parsed != RG_OK || read == RG_OK);
    assert(read != RG_OK || !has_bad_byte(data, size));
    assert(read != RG_E_BAD_DATA || parsed == RG_E_BAD_DATA || parsed == RG_E_LIMIT ||
           parsed == RG_E_UNSUPPORTED);
    if (parsed == RG_OK) {
        struct rg_buf first = print(tree), second;
        const enum rg_code code =
            rg_json_parse(&again, first.data, first.len, &rg_json_limits_request, &err);

        assert(code == RG_OK);
        second = print(again);
        assert(first.len == second.len);
        for (size_t i = 0; i < first.len; i++)
            assert(first.data[i] == second.data[i]);
        rg_buf_free(&first);
        rg_buf_free(&second);
        rg_json_free(tree);
        rg_json_free(again);
    }
    assert(rg_mem_live() == live);
    return 0;
}
