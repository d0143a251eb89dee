/* The strict byte scanner of request heads and chunked bodies (RFC 9112 sections 2 to 7). */
#include "api/http_scan.h"

#include <stdbool.h>
#include <string.h>

#include "base/limits.h"

enum {
    /* head */
    S_START,
    S_START_LF,
    S_METHOD,
    S_TARGET,
    S_VERSION,
    S_LINE_LF,
    S_LINE,
    S_NAME,
    S_VALUE,
    S_END_LF,
    /* chunks */
    S_SIZE,
    S_EXT,
    S_SIZE_LF,
    S_DATA,
    S_DATA_CR,
    S_DATA_LF,
    S_LAST_CR,
    S_LAST_LF,
    S_DONE
};

enum { METHOD_BYTES_MAX = 24, EXT_BYTES_MAX = 256, SIZE_DIGITS_MAX = 16 };

static bool bad(struct rg_http_scan *s, int status, const char *why)
{
    s->status = status;
    s->why = why;
    return false;
}

static bool next(struct rg_http_scan *s, uint8_t state)
{
    s->state = state;
    s->part_bytes = 0;
    return true;
}

/* RFC 9110 section 5.6.2. */
static bool is_token(unsigned char c)
{
    if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'))
        return true;
    return c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

static bool on_method(struct rg_http_scan *s, unsigned char c)
{
    if (c == ' ' && s->part_bytes > 0)
        return next(s, S_TARGET);
    if (!is_token(c) || ++s->part_bytes > METHOD_BYTES_MAX)
        return bad(s, 400, "the request line does not begin with a method and one space");
    return true;
}

static bool on_target(struct rg_http_scan *s, unsigned char c)
{
    if (c == ' ' && s->part_bytes > 0)
        return next(s, S_VERSION);
    if (s->part_bytes == 0 && c != '/')
        return bad(s, 400, "the request target must be a path that begins with /");
    if (c <= ' ' || c >= 0x7f || c == '#')
        return bad(s, 400, "the request target holds a character that must be percent-encoded, or "
                           "no HTTP version follows it");
    if (++s->part_bytes > RG_LIMIT_URL_BYTES)
        return bad(s, 414, "the request target is longer than 2048 bytes");
    return true;
}

static bool on_version(struct rg_http_scan *s, unsigned char c)
{
    static const char want[] = "HTTP/1.";
    const uint32_t    at = s->part_bytes++;

    if (at < sizeof want - 1 && c == (unsigned char)want[at])
        return true;
    if (at == sizeof want - 1 && (c == '0' || c == '1'))
        return true;
    if (at == sizeof want && c == '\r')
        return next(s, S_LINE_LF);
    return bad(s, 400, "only HTTP/1.1 and HTTP/1.0 are spoken here");
}

/* The first byte of a line after the request line. */
static bool on_line(struct rg_http_scan *s, unsigned char c)
{
    if (c == '\r')
        return next(s, S_END_LF);
    if (c == ' ' || c == '\t')
        return bad(s, 400, "a header line begins with white space (folded lines are not taken)");
    if (!is_token(c))
        return bad(s, 400, "a header name holds a character that is not allowed");
    if (++s->n_headers > RG_LIMIT_HEADERS)
        return bad(s, 431, "more than 100 headers");
    return next(s, S_NAME);
}

static bool on_name(struct rg_http_scan *s, unsigned char c)
{
    if (c == ':')
        return next(s, S_VALUE);
    if (!is_token(c))
        return bad(s, 400, "a header name holds a character that is not allowed, or white space "
                           "stands before its colon");
    return true;
}

static bool on_value(struct rg_http_scan *s, unsigned char c)
{
    if (c == '\r')
        return next(s, S_LINE_LF);
    if ((c < ' ' && c != '\t') || c == 0x7f)
        return bad(s, 400, "a header value holds a control character, or its line end is not CRLF");
    return true;
}

static bool want_lf(struct rg_http_scan *s, unsigned char c, uint8_t state)
{
    if (c != '\n')
        return bad(s, 400, "a CR without its LF");
    return next(s, state);
}

static bool head_byte(struct rg_http_scan *s, unsigned char c)
{
    const bool in_fields = s->state > S_VERSION && (s->state != S_LINE_LF || s->n_headers > 0);

    if (in_fields && ++s->field_bytes > RG_LIMIT_HEADER_BYTES)
        return bad(s, 431, "the headers are longer than 16384 bytes");
    switch (s->state) {
    case S_START:
        if (c == '\r')
            return next(s, S_START_LF);
        s->state = S_METHOD;
        return on_method(s, c);
    case S_START_LF:
        return want_lf(s, c, S_METHOD);
    case S_METHOD:
        return on_method(s, c);
    case S_TARGET:
        return on_target(s, c);
    case S_VERSION:
        return on_version(s, c);
    case S_LINE_LF:
        return want_lf(s, c, S_LINE);
    case S_LINE:
        return on_line(s, c);
    case S_NAME:
        return on_name(s, c);
    case S_VALUE:
        return on_value(s, c);
    default:
        return want_lf(s, c, S_DONE);
    }
}

void rg_http_scan_head_begin(struct rg_http_scan *s)
{
    memset(s, 0, sizeof *s);
    s->state = S_START;
}

void rg_http_scan_chunks_begin(struct rg_http_scan *s)
{
    memset(s, 0, sizeof *s);
    s->state = S_SIZE;
}

enum rg_scan_result rg_http_scan_head(struct rg_http_scan *s, const char *p, size_t n, size_t *used,
                                      size_t *skip)
{
    *used = 0;
    *skip = 0;
    while (*used < n) {
        const bool before = s->state == S_START || s->state == S_START_LF;

        if (!head_byte(s, (unsigned char)p[*used]))
            return RG_SCAN_BAD;
        ++*used;
        if (before && s->part_bytes == 0)
            ++*skip;
        if (s->state == S_DONE)
            return RG_SCAN_DONE;
    }
    return RG_SCAN_MORE;
}

static int hex_digit(unsigned char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static bool on_size(struct rg_http_scan *s, unsigned char c)
{
    const int digit = hex_digit(c);

    if (digit >= 0) {
        if (++s->size_digits > SIZE_DIGITS_MAX)
            return bad(s, 400, "a chunk size overflows");
        s->chunk_left = s->chunk_left << 4 | (uint64_t)digit;
        return true;
    }
    if (s->size_digits == 0)
        return bad(s, 400, "a chunk without a size in hex digits");
    if (c != '\r' && c != ';')
        return bad(s, 400, "a chunk size is followed by something that is neither CRLF nor ;");
    /* Refused when it is announced, not when its bytes have come. */
    if (s->chunk_left > RG_LIMIT_BODY_BYTES - s->body_bytes)
        return bad(s, 413, "the body is longer than 8388608 bytes");
    s->body_bytes += s->chunk_left;
    return next(s, c == ';' ? S_EXT : S_SIZE_LF);
}

static bool on_extension(struct rg_http_scan *s, unsigned char c)
{
    if (c == '\r')
        return next(s, S_SIZE_LF);
    if ((!is_token(c) && c != '=' && c != ';') || ++s->part_bytes > EXT_BYTES_MAX)
        return bad(s, 400, "a chunk extension that is not name=value, or is over 256 bytes");
    return true;
}

static bool chunk_byte(struct rg_http_scan *s, unsigned char c)
{
    switch (s->state) {
    case S_SIZE:
        return on_size(s, c);
    case S_EXT:
        return on_extension(s, c);
    case S_SIZE_LF:
        return want_lf(s, c, s->chunk_left > 0 ? S_DATA : S_LAST_CR);
    case S_DATA_CR:
        if (c != '\r')
            return bad(s, 400, "a chunk is longer than its size says");
        return next(s, S_DATA_LF);
    case S_DATA_LF:
        s->size_digits = 0;
        return want_lf(s, c, S_SIZE);
    case S_LAST_CR:
        if (c != '\r')
            return bad(s, 400, "trailer fields after the last chunk are not taken");
        return next(s, S_LAST_LF);
    default:
        return want_lf(s, c, S_DONE);
    }
}

enum rg_scan_result rg_http_scan_chunks(struct rg_http_scan *s, const char *p, size_t n,
                                        size_t *used)
{
    *used = 0;
    while (*used < n) {
        if (s->state == S_DATA) {
            const uint64_t left = n - *used;
            const uint64_t take = s->chunk_left < left ? s->chunk_left : left;

            *used += (size_t)take;
            s->chunk_left -= take;
            if (s->chunk_left == 0)
                (void)next(s, S_DATA_CR);
            continue;
        }
        if (!chunk_byte(s, (unsigned char)p[*used]))
            return RG_SCAN_BAD;
        ++*used;
        if (s->state == S_DONE)
            return RG_SCAN_DONE;
    }
    return RG_SCAN_MORE;
}
