/* llhttp behind the strict scanner, and the rules of framing (RFC 9112 sections 3 and 6). */
#include "api/http_parse.h"

#include <assert.h>
#include <string.h>
#include <strings.h>

enum { PHASE_HEAD, PHASE_AFTER_HEAD, PHASE_LENGTH, PHASE_CHUNKS, PHASE_DONE };

/* A request's buffers above this size are given back when it has been answered. */
enum { KEEP_BYTES = 4096 };

static const char out_of_memory[] = "out of memory";

static enum rg_http_step bad(struct rg_http_parser *p, int status, const char *why)
{
    p->status = status;
    p->why = why;
    return RG_HTTP_BAD;
}

static int on_url(llhttp_t *l, const char *at, size_t n)
{
    struct rg_http_parser *p = l->data;

    /* The scanner saw one space after the target, so there is room for the NUL. */
    p->request.path = p->head.data + (at - p->head.data);
    p->request.path[n] = '\0';
    return 0;
}

static int on_field(llhttp_t *l, const char *at, size_t n)
{
    struct rg_http_parser *p = l->data;

    (void)n;
    assert(p->request.n_headers < RG_LIMIT_HEADERS);
    p->request.headers[p->request.n_headers].name = at;
    p->request.headers[p->request.n_headers].value = NULL;
    p->request.n_headers++;
    return 0;
}

static int on_value(llhttp_t *l, const char *at, size_t n)
{
    struct rg_http_parser *p = l->data;

    (void)n;
    p->request.headers[p->request.n_headers - 1].value = at;
    return 0;
}

static int on_body(llhttp_t *l, const char *at, size_t n)
{
    struct rg_http_parser *p = l->data;

    p->body_bytes += n;
    if (p->drop_body)
        return 0;
    if (rg_buf_add(&p->request.body, at, n, NULL) != RG_OK) {
        (void)bad(p, 503, out_of_memory);
        return -1;
    }
    return 0;
}

static int on_complete(llhttp_t *l)
{
    struct rg_http_parser *p = l->data;

    p->complete = true;
    return 0;
}

static const llhttp_settings_t settings = {
    .on_url = on_url,
    .on_header_field = on_field,
    .on_header_value = on_value,
    .on_body = on_body,
    .on_message_complete = on_complete,
};

static void begin(struct rg_http_parser *p)
{
    rg_http_scan_head_begin(&p->scan);
    llhttp_init(&p->llhttp, HTTP_REQUEST, &settings);
    p->llhttp.data = p;
    p->phase = PHASE_HEAD;
    p->drop_body = p->complete = p->any = false;
    p->status = 0;
    p->body_bytes = p->body_left = 0;
    p->request.n_headers = 0;
    p->request.path = NULL;
    p->request.query = "";
    p->request.has_body = p->request.expects_continue = false;
}

void rg_http_parser_init(struct rg_http_parser *p)
{
    memset(p, 0, sizeof *p);
    rg_buf_init(&p->head, RG_LIMIT_URL_BYTES + RG_LIMIT_HEADER_BYTES + 64);
    rg_buf_init(&p->request.body, RG_LIMIT_BODY_BYTES);
    begin(p);
}

static void release(struct rg_buf *b)
{
    if (b->capacity > KEEP_BYTES)
        rg_buf_free(b);
    else
        rg_buf_clear(b);
}

void rg_http_parser_next(struct rg_http_parser *p)
{
    release(&p->head);
    release(&p->request.body);
    begin(p);
}

void rg_http_parser_free(struct rg_http_parser *p)
{
    rg_buf_free(&p->head);
    rg_buf_free(&p->request.body);
}

const char *rg_http_request_header(const struct rg_http_request *r, const char *name)
{
    for (uint32_t i = 0; i < r->n_headers; i++)
        if (strcasecmp(r->headers[i].name, name) == 0)
            return r->headers[i].value;
    return NULL;
}

/* Ends each name and value with a NUL in place.  The scanner made sure that a colon stands right
 * after each name and that each line ends with CRLF. */
static void end_strings(struct rg_http_parser *p)
{
    char *const base = p->head.data;

    for (uint32_t i = 0; i < p->request.n_headers; i++) {
        struct rg_http_header *h = &p->request.headers[i];
        char                  *colon = base + (h->name - base);
        char                  *value, *end;

        colon += strcspn(colon, ":");
        *colon = '\0';
        value = colon + 1;
        value += strspn(value, " \t");
        end = value + strcspn(value, "\r");
        while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
            end--;
        *end = '\0';
        h->value = value;
    }
}

static uint32_t count(const struct rg_http_request *r, const char *name)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < r->n_headers; i++)
        n += strcasecmp(r->headers[i].name, name) == 0;
    return n;
}

/* The length of the body, by RFC 9112 section 6.3 without its leniences. */
static const char *framing_fault(struct rg_http_parser *p)
{
    const struct rg_http_request *r = &p->request;
    const char                   *length = rg_http_request_header(r, "Content-Length");
    const char                   *coding = rg_http_request_header(r, "Transfer-Encoding");

    if (coding) {
        if (length)
            return "both Content-Length and Transfer-Encoding";
        if (count(r, "Transfer-Encoding") > 1 || strcasecmp(coding, "chunked") != 0)
            return "the only Transfer-Encoding taken is one \"chunked\"";
        if (r->http10)
            return "Transfer-Encoding in an HTTP/1.0 request";
        return NULL;
    }
    if (!length)
        return NULL;
    if (count(r, "Content-Length") > 1)
        return "more than one Content-Length";
    if (*length == '\0' || length[strspn(length, "0123456789")] != '\0')
        return "Content-Length is not a plain number";
    for (const char *c = length; *c; c++) {
        if (p->body_left > (UINT64_MAX - 9) / 10)
            return "Content-Length overflows";
        p->body_left = p->body_left * 10 + (uint64_t)(*c - '0');
    }
    return NULL;
}

/* Fields of which a second one could be read differently by a proxy on the way. */
static const char *repeated_fault(const struct rg_http_request *r)
{
    static const char *const single[] = {"Host",   "Content-Type", "Authorization",
                                         "Expect", "Origin",       "Content-Encoding"};

    for (size_t i = 0; i < sizeof single / sizeof *single; i++)
        if (count(r, single[i]) > 1)
            return "a header that must stand alone is there more than once (Host, Content-Type, "
                   "Content-Encoding, Authorization, Expect or Origin)";
    if (!r->http10 && count(r, "Host") == 0)
        return "an HTTP/1.1 request without a Host header";
    if (count(r, "Upgrade") > 0)
        return "there is no other protocol to upgrade to: send HTTP/1.1 without an Upgrade header";
    return NULL;
}

static void take_request_line(struct rg_http_parser *p)
{
    struct rg_http_request *r = &p->request;
    char                   *mark = strchr(r->path, '?');

    switch (p->llhttp.method) {
    case HTTP_GET:
        r->method = RG_HTTP_GET;
        break;
    case HTTP_HEAD:
        r->method = RG_HTTP_HEAD_METHOD;
        break;
    case HTTP_POST:
        r->method = RG_HTTP_POST;
        break;
    default:
        r->method = RG_HTTP_OTHER;
    }
    r->method_name = llhttp_method_name((llhttp_method_t)p->llhttp.method);
    if (mark) {
        *mark = '\0';
        r->query = mark + 1;
    }
    r->http10 = p->llhttp.http_minor == 0;
}

static const char *field_tokens_end(const char *s)
{
    return s + strcspn(s, ",");
}

/* "Connection: close" among the field's tokens; HTTP/1.0 connections are never kept. */
static bool wants_close(const struct rg_http_request *r)
{
    if (r->http10)
        return true;
    for (uint32_t i = 0; i < r->n_headers; i++) {
        if (strcasecmp(r->headers[i].name, "Connection") != 0)
            continue;
        for (const char *s = r->headers[i].value; *s; s = field_tokens_end(s)) {
            s += strspn(s, ", \t");
            if (strncasecmp(s, "close", 5) == 0 && s[5 + strspn(s + 5, " \t")] == '\0')
                return true;
            if (strncasecmp(s, "close", 5) == 0 && s[5 + strspn(s + 5, " \t")] == ',')
                return true;
        }
    }
    return false;
}

/* Gives the whole head to llhttp, then applies what it leaves open. */
static enum rg_http_step finish_head(struct rg_http_parser *p)
{
    struct rg_http_request *r = &p->request;
    const char             *expect, *fault;

    if (llhttp_execute(&p->llhttp, p->head.data, p->head.len) == HPE_INVALID_METHOD)
        return bad(p, 400, "an unknown method");
    if (!r->path)
        return bad(p, 400, "a malformed request line");
    end_strings(p);
    take_request_line(p);
    fault = framing_fault(p);
    if (!fault)
        fault = repeated_fault(r);
    if (fault)
        return bad(p, 400, fault);
    if (p->llhttp.error != HPE_OK)
        return bad(p, 400, "a malformed request head");
    if (p->body_left > RG_LIMIT_BODY_BYTES)
        return bad(p, 413, "the body is longer than 8388608 bytes");
    r->keep_alive = !wants_close(r);
    r->has_body = p->body_left > 0 || rg_http_request_header(r, "Transfer-Encoding") != NULL;
    expect = rg_http_request_header(r, "Expect");
    if (expect && !r->http10) {
        if (strcasecmp(expect, "100-continue") != 0)
            return bad(p, 417, "the only Expect taken is 100-continue");
        r->expects_continue = r->has_body;
    }
    p->phase = PHASE_AFTER_HEAD;
    return RG_HTTP_HEAD;
}

static enum rg_http_step feed_head(struct rg_http_parser *p, const char *bytes, size_t n,
                                   size_t *used)
{
    size_t                    skip;
    const enum rg_scan_result result = rg_http_scan_head(&p->scan, bytes, n, used, &skip);

    if (result == RG_SCAN_BAD)
        return bad(p, p->scan.status, p->scan.why);
    if (*used > skip)
        p->any = true;
    if (rg_buf_add(&p->head, bytes + skip, *used - skip, NULL) != RG_OK)
        return bad(p, 503, out_of_memory);
    return result == RG_SCAN_DONE ? finish_head(p) : RG_HTTP_MORE;
}

/* Hands n bytes of the body to llhttp; they never go beyond the message. */
static enum rg_http_step give_body(struct rg_http_parser *p, const char *bytes, size_t n)
{
    if (llhttp_execute(&p->llhttp, bytes, n) == HPE_OK)
        return RG_HTTP_MORE;
    return p->status ? RG_HTTP_BAD : bad(p, 400, "a malformed body");
}

static enum rg_http_step feed_length(struct rg_http_parser *p, const char *bytes, size_t n,
                                     size_t *used)
{
    *used = p->body_left < n ? (size_t)p->body_left : n;
    p->body_left -= *used;
    if (*used > 0 && give_body(p, bytes, *used) == RG_HTTP_BAD)
        return RG_HTTP_BAD;
    return p->body_left == 0 ? RG_HTTP_DONE : RG_HTTP_MORE;
}

static enum rg_http_step feed_chunks(struct rg_http_parser *p, const char *bytes, size_t n,
                                     size_t *used)
{
    const enum rg_scan_result result = rg_http_scan_chunks(&p->scan, bytes, n, used);

    /* What stands before the scanner's fault goes first: llhttp may have found one there, and that
     * is the one that counts however the bytes were cut. */
    if (*used > 0 && give_body(p, bytes, *used) == RG_HTTP_BAD)
        return RG_HTTP_BAD;
    if (result == RG_SCAN_BAD)
        return bad(p, p->scan.status, p->scan.why);
    return result == RG_SCAN_DONE ? RG_HTTP_DONE : RG_HTTP_MORE;
}

enum rg_http_step rg_http_parser_feed(struct rg_http_parser *p, const char *bytes, size_t n,
                                      size_t *used)
{
    enum rg_http_step step;

    *used = 0;
    if (p->phase == PHASE_HEAD)
        return n == 0 ? RG_HTTP_MORE : feed_head(p, bytes, n, used);
    if (p->phase == PHASE_AFTER_HEAD) {
        if (p->llhttp.flags & F_CHUNKED) {
            rg_http_scan_chunks_begin(&p->scan);
            p->phase = PHASE_CHUNKS;
        } else {
            p->phase = PHASE_LENGTH;
        }
    }
    step = p->phase == PHASE_CHUNKS ? feed_chunks(p, bytes, n, used)
                                    : feed_length(p, bytes, n, used);
    if (step == RG_HTTP_DONE) {
        p->phase = PHASE_DONE;
        if (!p->complete)
            return bad(p, 400, "a malformed body");
    }
    return step;
}
