/* fuzz_http_response.c - api/http_answer and api/relay_cut: the first byte of the input says how
 * the rest is cut; the pieces give the same answer as the whole, and are passed on as they are. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "api/http_answer.h"
#include "api/relay_cut.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BODY_BYTES_MAX = 1 << 10 };

struct outcome {
    enum rg_code        code;
    int                 status;
    bool                complete;
    uint64_t            body_bytes, hash;
    enum rg_relay_state state;
    size_t              passed;
};

/* A body over the limit is refused in the middle. */
static enum rg_code on_body(void *ud, const char *p, size_t n, struct rg_err *err)
{
    struct outcome *o = ud;

    for (size_t i = 0; i < n; i++) {
        if (o->body_bytes == BODY_BYTES_MAX)
            return rg_fail(err, RG_E_LIMIT, "a long body");
        o->body_bytes++;
        o->hash = (o->hash ^ (uint8_t)p[i]) * UINT64_C(0x100000001b3);
    }
    return RG_OK;
}

static void read_answer(struct outcome *o, const char *bytes, size_t n, size_t piece)
{
    struct rg_http_answer a;

    rg_http_answer_init(&a, on_body, o);
    for (size_t at = 0; at < n && o->code == RG_OK; at += piece)
        o->code = rg_http_answer_feed(&a, bytes + at, n - at < piece ? n - at : piece, NULL);
    if (o->code == RG_OK)
        o->code = rg_http_answer_end(&a, NULL);
    o->status = a.status;
    o->complete = a.complete;
    assert(o->code != RG_OK || (a.complete && a.status >= 0 && a.status <= 999));
    rg_http_answer_free(&a);
}

static void pass_on(struct outcome *o, const char *bytes, size_t n, size_t piece)
{
    struct rg_relay_cut cut;
    struct rg_buf       out;

    rg_relay_cut_init(&cut);
    rg_buf_init(&out, 1 << 22);
    for (size_t at = 0; at < n; at += piece)
        assert(rg_relay_cut_feed(&cut, bytes + at, n - at < piece ? n - at : piece, &out, NULL) ==
               RG_OK);
    o->state = cut.state;
    o->passed = out.len;
    assert(cut.state != RG_RELAY_HEAD || out.len == 0);
    assert(rg_relay_cut_end(&cut, &out, NULL) == RG_OK);
    assert(out.len == n && (n == 0 || memcmp(out.data, bytes, n) == 0));
    rg_relay_cut_free(&cut);
    rg_buf_free(&out);
}

static struct outcome try(const char *bytes, size_t n, size_t piece)
{
    struct outcome o = {.code = RG_OK};

    read_answer(&o, bytes, n, piece);
    pass_on(&o, bytes, n, piece);
    return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;

    const int64_t        live = rg_mem_live();
    const struct outcome whole = try((const char *)data + 1, size - 1, size);
    const struct outcome pieces = try((const char *)data + 1, size - 1, data[0] % 16 + 1u);

    assert(whole.code == pieces.code && whole.status == pieces.status);
    assert(whole.complete == pieces.complete && whole.body_bytes == pieces.body_bytes);
    assert(whole.hash == pieces.hash && whole.state == pieces.state);
    assert(whole.passed == pieces.passed);
    assert(rg_mem_live() == live);
    return 0;
}
