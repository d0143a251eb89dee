/* fuzz_http_request.c - api/http_parse: the first byte of the input says how the rest is cut; the
 * pieces give the same requests as the whole. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "api/http_parse.h"
#include "base/limits.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct outcome {
    uint32_t requests;
    uint32_t headers;
    uint64_t body_bytes;
    uint64_t hash; /* of everything that the requests say */
    int      status;
};

static void mix(struct outcome *o, const void *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        o->hash = (o->hash ^ ((const uint8_t *)p)[i]) * UINT64_C(0x100000001b3);
    o->hash = (o->hash ^ 0x100) * UINT64_C(0x100000001b3);
}

static void mix_string(struct outcome *o, const char *s)
{
    mix(o, s, strlen(s));
}

static void add_request(struct outcome *o, const struct rg_http_request *r)
{
    assert(r->n_headers <= RG_LIMIT_HEADERS && r->body.len <= RG_LIMIT_BODY_BYTES);
    o->requests++;
    o->headers += r->n_headers;
    o->body_bytes += r->body.len;
    mix_string(o, r->method_name);
    mix_string(o, r->path);
    mix_string(o, r->query);
    for (uint32_t i = 0; i < r->n_headers; i++) {
        mix_string(o, r->headers[i].name);
        mix_string(o, r->headers[i].value);
    }
    mix(o, r->body.data, r->body.len);
    mix(o, &r->keep_alive, sizeof r->keep_alive);
}

static struct outcome parse(const char *bytes, size_t n, size_t piece)
{
    struct rg_http_parser p;
    struct outcome        o = {0};
    size_t                at = 0;
    size_t                stuck = 0;
    enum rg_http_step     step = RG_HTTP_MORE;

    rg_http_parser_init(&p);
    /* After a head the parser may have something to say without another byte. */
    while ((at < n || step == RG_HTTP_HEAD) && o.status == 0) {
        const size_t some = n - at < piece ? n - at : piece;
        size_t       used = 0;

        step = rg_http_parser_feed(&p, bytes + at, some, &used);

        assert(used <= some);
        at += used;
        stuck = used ? 0 : stuck + 1;
        assert(stuck < 4);
        if (step == RG_HTTP_DONE) {
            add_request(&o, &p.request);
            rg_http_parser_next(&p);
        } else if (step == RG_HTTP_BAD) {
            o.status = p.status;
            assert(p.status >= 400 && p.status < 600 && p.why);
        }
    }
    rg_http_parser_free(&p);
    return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;

    const int64_t        live = rg_mem_live();
    const struct outcome whole = parse((const char *)data + 1, size - 1, size);
    const struct outcome pieces = parse((const char *)data + 1, size - 1, data[0] % 16 + 1u);

    assert(whole.requests == pieces.requests && whole.status == pieces.status);
    assert(whole.headers == pieces.headers && whole.body_bytes == pieces.body_bytes);
    assert(whole.hash == pieces.hash);
    assert(rg_mem_live() == live);
    return 0;
}
