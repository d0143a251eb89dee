/* Finds the end of an answer's head and of each of its chunks. */
#include "api/relay_cut.h"

#include <string.h>
#include <strings.h>

enum {
    HEAD_BYTES_MAX = 16 << 10,
    CHUNK_BYTES_MAX = 1 << 20,
    SIZE_DIGITS_MAX = 6,
    LENGTH_DIGITS_MAX = 18,
    HELD_BYTES_MAX = 16 << 20 /* a chunk that is not whole, and what one event brings */
};

void rg_relay_cut_init(struct rg_relay_cut *r)
{
    *r = (struct rg_relay_cut){.state = RG_RELAY_HEAD};
    rg_buf_init(&r->held, HELD_BYTES_MAX);
}

void rg_relay_cut_free(struct rg_relay_cut *r)
{
    rg_buf_free(&r->held);
}

static const char *find_end(const char *p, size_t n, const char *mark)
{
    const size_t m = strlen(mark);

    for (const char *end = p + n; (size_t)(end - p) >= m; p++) {
        p = memchr(p, mark[0], (size_t)(end - p) - m + 1);
        if (!p)
            return NULL;
        if (memcmp(p, mark, m) == 0)
            return p + m;
    }
    return NULL;
}

/* What comes after `line` where a line begins so, or NULL. */
static const char *find_line(const char *head, const char *end, const char *line)
{
    const size_t n = strlen(line);

    for (const char *p = head; p; p = find_end(p, (size_t)(end - p), "\r\n"))
        if ((size_t)(end - p) > n && strncasecmp(p, line, n) == 0)
            return p + n;
    return NULL;
}

static bool is_event_stream(const char *head, const char *end)
{
    return strncmp(head, "HTTP/1.1 200 ", 13) == 0 &&
           find_line(head, end, "Content-Type: text/event-stream") &&
           find_line(head, end, "Transfer-Encoding: chunked\r\n");
}

static void read_length(struct rg_relay_cut *r, const char *head, const char *end)
{
    const char *p = find_line(head, end, "Content-Length: ");

    for (int n = 0; p && *p >= '0' && *p <= '9' && n < LENGTH_DIGITS_MAX; p++, n++) {
        r->has_length = true;
        r->body_left = r->body_left * 10 + (uint64_t)(*p - '0');
    }
    r->has_length = r->has_length && *p == '\r';
}

/* n bytes of another answer's body pass. */
static void count_body(struct rg_relay_cut *r, size_t n)
{
    if (!r->has_length)
        return;
    r->body_left -= n < r->body_left ? n : r->body_left;
    if (r->body_left == 0)
        r->state = RG_RELAY_WHOLE;
}

static enum rg_code pass(struct rg_relay_cut *r, size_t n, struct rg_buf *out, struct rg_err *err)
{
    const enum rg_code code = rg_buf_add(out, r->held.data, n, err);

    if (code == RG_OK)
        rg_buf_drop(&r->held, n);
    return code;
}

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

enum chunk { CHUNK_PART, CHUNK_WHOLE, CHUNK_LAST, CHUNK_ODD };

/* Looks at the chunk at p; *bytes: all of it, with its size and line ends. */
static enum chunk measure(const char *p, size_t n, size_t *bytes)
{
    size_t at = 0, size = 0;

    while (at < n && digit(p[at]) >= 0) {
        size = size * 16 + (size_t)digit(p[at]);
        if (++at > SIZE_DIGITS_MAX)
            return CHUNK_ODD;
    }
    if (at < n && (at == 0 || p[at] != '\r'))
        return CHUNK_ODD;
    if (size > CHUNK_BYTES_MAX)
        return CHUNK_ODD;
    *bytes = at + 2 + size + 2;
    if (n < *bytes)
        return CHUNK_PART;
    if (p[at + 1] != '\n' || memcmp(p + *bytes - 2, "\r\n", 2) != 0)
        return CHUNK_ODD;
    return size == 0 ? CHUNK_LAST : CHUNK_WHOLE;
}

static bool ends_with(const char *p, size_t n, const char *end)
{
    const size_t m = strlen(end);

    return n >= m && memcmp(p + n - m, end, m) == 0;
}

static enum rg_code pass_chunks(struct rg_relay_cut *r, struct rg_buf *out, struct rg_err *err)
{
    size_t     at = 0, bytes = 0;
    enum chunk chunk;

    for (;;) {
        chunk = measure(r->held.data + at, r->held.len - at, &bytes);
        if (chunk != CHUNK_WHOLE)
            break;
        at += bytes;
        r->done = ends_with(r->held.data, at, "data: [DONE]\n\n\r\n");
    }
    if (chunk == CHUNK_LAST)
        r->state = RG_RELAY_WHOLE;
    else if (chunk == CHUNK_ODD)
        r->state = RG_RELAY_OTHER;
    if (chunk != CHUNK_PART)
        at = r->held.len;
    return at > 0 ? pass(r, at, out, err) : RG_OK;
}

static enum rg_code pass_head(struct rg_relay_cut *r, struct rg_buf *out, struct rg_err *err)
{
    const char *end = find_end(r->held.data, r->held.len, "\r\n\r\n");

    if (!end && r->held.len <= HEAD_BYTES_MAX)
        return RG_OK;
    if (!end || !is_event_stream(r->held.data, end)) {
        r->state = RG_RELAY_OTHER;
        if (end) {
            read_length(r, r->held.data, end);
            count_body(r, r->held.len - (size_t)(end - r->held.data));
        }
        return pass(r, r->held.len, out, err);
    }
    r->state = RG_RELAY_CHUNKS;
    return pass(r, (size_t)(end - r->held.data), out, err);
}

enum rg_code rg_relay_cut_feed(struct rg_relay_cut *r, const char *p, size_t n, struct rg_buf *out,
                               struct rg_err *err)
{
    enum rg_code code;

    if (r->state == RG_RELAY_OTHER)
        count_body(r, n);
    if (r->state == RG_RELAY_WHOLE || r->state == RG_RELAY_OTHER)
        return rg_buf_add(out, p, n, err);
    code = rg_buf_add(&r->held, p, n, err);
    if (code == RG_OK && r->state == RG_RELAY_HEAD)
        code = pass_head(r, out, err);
    if (code == RG_OK && r->state == RG_RELAY_CHUNKS && r->held.len > 0)
        code = pass_chunks(r, out, err);
    return code;
}

enum rg_code rg_relay_cut_end(struct rg_relay_cut *r, struct rg_buf *out, struct rg_err *err)
{
    return r->held.len > 0 ? pass(r, r->held.len, out, err) : RG_OK;
}
