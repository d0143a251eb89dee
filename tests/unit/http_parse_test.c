/* http_parse_test.c - requests in every form and cut at every place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "api/http_parse.h"
#include "base/file.h"
#include "base/mem.h"

/* ---- the table of tests/api/http_cases.txt ---- */

struct http_case {
    const char *name;
    int         status; /* 0: one good request */
    char        bytes[600];
    size_t      len;
};

typedef void case_fn(const struct http_case *c);

static int hex(char c)
{
    return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
}

static size_t unescape(char *out, const char *s, size_t n)
{
    char *to = out;

    for (size_t i = 0; i < n; i++) {
        if (s[i] != '\\') {
            *to++ = s[i];
        } else if (s[++i] == 'x') {
            *to++ = (char)(hex(s[i + 1]) << 4 | hex(s[i + 2]));
            i += 2;
        } else {
            *to++ = s[i] == 'r' ? '\r' : s[i] == 'n' ? '\n' : s[i] == 't' ? '\t' : '\\';
        }
    }
    return (size_t)(to - out);
}

static uint32_t each_case(case_fn *fn)
{
    static const char path[] = RENGA_SOURCE_DIR "/tests/api/http_cases.txt";
    char             *text, *next;
    size_t            len;
    uint32_t          n = 0;

    assert_int_equal(rg_file_read(&text, &len, path, 1 << 20, NULL), RG_OK);
    for (char *line = text; *line; line = next) {
        struct http_case c = {.status = 0};
        char            *end = strchr(line, '\n');
        char            *space = strchr(line, ' ');

        assert_non_null(end);
        next = end + 1;
        if (*line == '#')
            continue;
        *end = '\0';
        c.name = space + 1;
        if (strncmp(line, "ok", 2) != 0)
            c.status = (line[0] - '0') * 100 + (line[1] - '0') * 10 + (line[2] - '0');
        end = strchr(next, '\n');
        assert_non_null(end);
        assert_true((size_t)(end - next) < sizeof c.bytes);
        c.len = unescape(c.bytes, next, (size_t)(end - next));
        next = end + 1;
        fn(&c);
        n++;
    }
    rg_free(text);
    return n;
}

/* ---- feeding ---- */

/* Feeds until the end of a request, an error or the bytes; *done counts whole requests. */
static int feed_all(struct rg_http_parser *p, const char *bytes, size_t n, uint32_t *done)
{
    for (;;) {
        size_t                  used;
        const enum rg_http_step step = rg_http_parser_feed(p, bytes, n, &used);

        assert_true(used <= n);
        bytes += used;
        n -= used;
        if (step == RG_HTTP_BAD)
            return p->status;
        if (step == RG_HTTP_DONE) {
            ++*done;
            rg_http_parser_next(p);
            if (n == 0)
                return 0;
        } else if (step == RG_HTTP_MORE) {
            assert_int_equal(n, 0);
            return 0;
        }
    }
}

static int feed_cut(const char *bytes, size_t n, size_t cut, uint32_t *done)
{
    struct rg_http_parser p;
    int                   status;

    *done = 0;
    rg_http_parser_init(&p);
    status = feed_all(&p, bytes, cut, done);
    if (status == 0 && cut < n)
        status = feed_all(&p, bytes + cut, n - cut, done);
    rg_http_parser_free(&p);
    return status;
}

static int feed_bytewise(const char *bytes, size_t n, uint32_t *done)
{
    struct rg_http_parser p;
    int                   status = 0;

    *done = 0;
    rg_http_parser_init(&p);
    for (size_t i = 0; status == 0 && i < n; i++)
        status = feed_all(&p, bytes + i, 1, done);
    rg_http_parser_free(&p);
    return status;
}

static void expect(const struct http_case *c, const char *how, int status, uint32_t done)
{
    if (status != c->status || done != (c->status == 0))
        fail_msg("%s, %s: status %d and %u requests, expected %d and %d", c->name, how, status,
                 done, c->status, c->status == 0);
}

static void try_every_cut(const struct http_case *c)
{
    uint32_t done;
    int      status;

    for (size_t cut = 0; cut <= c->len; cut++) {
        status = feed_cut(c->bytes, c->len, cut, &done);
        expect(c, "in two pieces", status, done);
    }
    status = feed_bytewise(c->bytes, c->len, &done);
    expect(c, "byte by byte", status, done);
}

static void every_case_is_the_same_however_it_is_cut(void **state)
{
    const int64_t live = rg_mem_live();

    (void)state;
    assert_true(each_case(try_every_cut) >= 100);
    assert_int_equal(rg_mem_live(), live);
}

/* Every refused case is refused before a request that stands behind it is seen. */
static void try_with_another_behind(const struct http_case *c)
{
    static const char behind[] = "GET /second HTTP/1.1\r\nHost: localhost\r\n\r\n";
    char              bytes[sizeof c->bytes + sizeof behind];
    uint32_t          done;

    memcpy(bytes, c->bytes, c->len);
    memcpy(bytes + c->len, behind, sizeof behind - 1);
    (void)feed_cut(bytes, c->len + sizeof behind - 1, 0, &done);
    if (done != (c->status == 0 ? 2 : 0))
        fail_msg("%s: %u requests with another one behind it", c->name, done);
}

static void a_refused_request_hides_no_second_one(void **state)
{
    (void)state;
    each_case(try_with_another_behind);
}

/* ---- limits ---- */

static int feed_text(const char *text, size_t n)
{
    uint32_t done;

    return feed_cut(text, n, n, &done);
}

static void the_url_ends_at_2048_bytes(void **state)
{
    static char text[8192];

    (void)state;
    for (int over = 0; over < 2; over++) {
        const int url = (int)RG_LIMIT_URL_BYTES + over;
        const int n = snprintf(text, sizeof text, "GET /%0*d HTTP/1.1\r\nHost: a\r\n\r\n",
                               url - 1, 0);

        assert_int_equal(feed_text(text, (size_t)n), over ? 414 : 0);
    }
}

/* The field lines, their line ends and the empty line. */
static void the_headers_end_at_16384_bytes(void **state)
{
    static char text[40000];
    static const char begin[] = "GET / HTTP/1.1\r\n";

    (void)state;
    for (int over = 0; over < 2; over++) {
        const size_t fixed = strlen("Host: a\r\nX: \r\n\r\n");
        const int    value = (int)(RG_LIMIT_HEADER_BYTES - fixed) + over;
        const int    n = snprintf(text, sizeof text, "%sHost: a\r\nX: %0*d\r\n\r\n", begin,
                                  value, 0);

        assert_int_equal(feed_text(text, (size_t)n), over ? 431 : 0);
    }
}

static void there_are_100_headers_at_most(void **state)
{
    static char text[8192];

    (void)state;
    for (uint32_t over = 0; over < 2; over++) {
        size_t n = (size_t)snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: a\r\n");

        for (uint32_t i = 1; i < RG_LIMIT_HEADERS + over; i++)
            n += (size_t)snprintf(text + n, sizeof text - n, "X-%u: b\r\n", i);
        n += (size_t)snprintf(text + n, sizeof text - n, "\r\n");
        assert_int_equal(feed_text(text, n), over ? 431 : 0);
    }
}

static void a_chunked_body_ends_at_its_limit(void **state)
{
    static const char head[] = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    struct rg_http_parser p;
    uint32_t              done = 0;
    static char           piece[1 << 16];

    (void)state;
    memset(piece, ' ', sizeof piece);
    rg_http_parser_init(&p);
    assert_int_equal(feed_all(&p, head, sizeof head - 1, &done), 0);
    for (size_t sent = 0; sent < RG_LIMIT_BODY_BYTES; sent += sizeof piece) {
        assert_int_equal(feed_all(&p, "10000\r\n", 7, &done), 0);
        assert_int_equal(feed_all(&p, piece, sizeof piece, &done), 0);
        assert_int_equal(feed_all(&p, "\r\n", 2, &done), 0);
    }
    assert_int_equal(p.request.body.len, RG_LIMIT_BODY_BYTES);
    assert_int_equal(feed_all(&p, "1\r\n", 3, &done), 413);
    assert_int_equal(done, 0);
    rg_http_parser_free(&p);
}

/* The library refuses the extension and the scanner the size after it: the first fault counts. */
static void the_first_of_two_faults_counts_at_every_cut(void **state)
{
    static const char text[] = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                               "3;a~=b;c`\r\nabc\r\nfffffff\r\n";
    const size_t n = sizeof text - 1;

    (void)state;
    for (size_t cut = 1; cut <= n; cut++) {
        struct rg_http_parser p;
        uint32_t done = 0;
        int status;

        rg_http_parser_init(&p);
        status = feed_all(&p, text, cut, &done);
        if (status == 0)
            status = feed_all(&p, text + cut, n - cut, &done);
        assert_int_equal(status, 400);
        rg_http_parser_free(&p);
    }
}

static void a_request_is_taken_apart(void **state)
{
    static const char text[] =
        "POST /v1/x?y=z HTTP/1.1\r\nhost: a\r\nX-Empty:\r\nx-Padded: \t b c \t\r\n"
        "Connection: foo, Close\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc";
    struct rg_http_parser         p;
    const struct rg_http_request *r = &p.request;
    size_t                        used, n;

    (void)state;
    rg_http_parser_init(&p);
    assert_int_equal(rg_http_parser_feed(&p, text, sizeof text - 1, &used), RG_HTTP_HEAD);
    assert_int_equal(used, sizeof text - 1 - 3);
    assert_int_equal(r->method, RG_HTTP_POST);
    assert_string_equal(r->path, "/v1/x");
    assert_string_equal(r->query, "y=z");
    assert_string_equal(rg_http_request_header(r, "HOST"), "a");
    assert_string_equal(rg_http_request_header(r, "x-empty"), "");
    assert_string_equal(rg_http_request_header(r, "X-Padded"), "b c");
    assert_null(rg_http_request_header(r, "X-None"));
    assert_false(r->keep_alive);
    assert_true(r->expects_continue && r->has_body);
    assert_int_equal(rg_http_parser_feed(&p, text + used, 3, &n), RG_HTTP_DONE);
    assert_int_equal(r->body.len, 3);
    assert_memory_equal(r->body.data, "abc", 3);
    rg_http_parser_free(&p);
}

static void keeps_alive_only_http_1_1_that_does_not_say_close(void **state)
{
    static const struct {
        const char *text;
        bool        keep;
    } cases[] = {
        {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", true},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: closed\r\n\r\n", true},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", true},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", false},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: a\r\nConnection: ,CLOSE ,b\r\n\r\n", false},
        {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct rg_http_parser p;
        size_t                used;

        rg_http_parser_init(&p);
        assert_int_equal(rg_http_parser_feed(&p, cases[i].text, strlen(cases[i].text), &used),
                         RG_HTTP_HEAD);
        assert_int_equal(p.request.keep_alive, cases[i].keep);
        rg_http_parser_free(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_case_is_the_same_however_it_is_cut),
        cmocka_unit_test(a_refused_request_hides_no_second_one),
        cmocka_unit_test(the_url_ends_at_2048_bytes),
        cmocka_unit_test(the_headers_end_at_16384_bytes),
        cmocka_unit_test(there_are_100_headers_at_most),
        cmocka_unit_test(a_chunked_body_ends_at_its_limit),
        cmocka_unit_test(the_first_of_two_faults_counts_at_every_cut),
        cmocka_unit_test(a_request_is_taken_apart),
        cmocka_unit_test(keeps_alive_only_http_1_1_that_does_not_say_close),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
