/* Response heads, fixed-length bodies and chunks. */
#include "api/http_response.h"

#include <stdio.h>
#include <time.h>

#include "base/clock.h"

static const struct {
    int         status;
    const char *name;
} status_names[] = {
    {200, "OK"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {408, "Request Timeout"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {417, "Expectation Failed"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {503, "Service Unavailable"},
};

const char *rg_http_status_name(int status)
{
    for (size_t i = 0; i < sizeof status_names / sizeof *status_names; i++)
        if (status_names[i].status == status)
            return status_names[i].name;
    return "Unknown";
}

/* IMF-fixdate (RFC 9110 section 5.6.7), independent of the locale. */
static void date(char out[40])
{
    static const char days[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    const time_t      now = (time_t)rg_clock_unix();
    struct tm         t;

    out[0] = '\0';
    if (gmtime_r(&now, &t))
        (void)snprintf(out, 40, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[t.tm_wday % 7],
                       t.tm_mday, months[t.tm_mon % 12], (t.tm_year + 1900) % 10000, t.tm_hour,
                       t.tm_min, t.tm_sec);
}

static enum rg_code add_head(struct rg_buf *out, int status, const char *content_type,
                             bool keep_alive, struct rg_err *err)
{
    char now[40];

    date(now);
    return rg_buf_addf(out, err,
                       "HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: %s\r\n"
                       "Connection: %s\r\n",
                       status, rg_http_status_name(status), now, content_type,
                       keep_alive ? "keep-alive" : "close");
}

enum rg_code rg_http_response_add(struct rg_buf *out, const struct rg_http_reply *reply,
                                  struct rg_http_reply_flags flags, struct rg_err *err)
{
    const char  *type = reply->content_type ? reply->content_type : "application/json";
    enum rg_code code = add_head(out, reply->status, type, flags.keep_alive, err);

    if (code == RG_OK)
        code = rg_buf_addf(out, err, "%sContent-Length: %zu\r\n\r\n",
                           reply->extra ? reply->extra : "", reply->body_len);
    if (code == RG_OK && !flags.no_body)
        code = rg_buf_add(out, reply->body, reply->body_len, err);
    return code;
}

enum rg_code rg_http_response_begin(struct rg_buf *out, const char *content_type, bool chunked,
                                    bool keep_alive, struct rg_err *err)
{
    enum rg_code code = add_head(out, 200, content_type, keep_alive, err);

    if (code == RG_OK)
        code = rg_buf_addf(out, err, "Cache-Control: no-cache\r\nX-Accel-Buffering: no\r\n%s\r\n",
                           chunked ? "Transfer-Encoding: chunked\r\n" : "");
    return code;
}

enum rg_code rg_http_response_chunk(struct rg_buf *out, const void *p, size_t n, struct rg_err *err)
{
    enum rg_code code = rg_buf_addf(out, err, "%zx\r\n", n);

    if (code == RG_OK)
        code = rg_buf_add(out, p, n, err);
    if (code == RG_OK)
        code = rg_buf_add(out, "\r\n", 2, err);
    return code;
}
