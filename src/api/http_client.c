/* A blocking HTTP client with a deadline: resolve, connect, send, receive. */
#include "api/http_client.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"

#ifdef MSG_NOSIGNAL
enum { SEND_FLAGS = MSG_NOSIGNAL };
#else
enum { SEND_FLAGS = 0 };
#endif

struct client {
    const struct rg_http_call *call;
    const char                *host;
    int                        fd;
    int64_t                    until_ms;
};

static enum rg_code lost(const struct client *c, const char *why, struct rg_err *err)
{
    return rg_fail(err, RG_E_PEER, "%s port %u: %s", c->host, c->call->port, why);
}

/* ---- the socket ------------------------------------------------------------------------------ */

static enum rg_code wait_for(const struct client *c, short events, struct rg_err *err)
{
    struct pollfd p = {.fd = c->fd, .events = events};
    int           n;

    do {
        const int64_t left = c->until_ms - rg_clock_ms();

        n = left > 0 ? poll(&p, 1, left > INT32_MAX ? INT32_MAX : (int)left) : 0;
    } while (n < 0 && errno == EINTR);
    if (n > 0)
        return RG_OK;
    return lost(c, n == 0 ? "no answer in time" : strerror(errno), err);
}

static enum rg_code connect_to(struct client *c, const struct addrinfo *a, struct rg_err *err)
{
    int          fault = 0;
    socklen_t    n = sizeof fault;
    enum rg_code code;

    c->fd = socket(a->ai_family, SOCK_STREAM, 0);
    if (c->fd < 0 || fcntl(c->fd, F_SETFL, O_NONBLOCK) != 0)
        return lost(c, strerror(errno), err);
#ifdef SO_NOSIGPIPE
    (void)setsockopt(c->fd, SOL_SOCKET, SO_NOSIGPIPE, &(int){1}, sizeof(int));
#endif
    if (connect(c->fd, a->ai_addr, a->ai_addrlen) == 0)
        return RG_OK;
    if (errno != EINPROGRESS)
        return lost(c, strerror(errno), err);
    code = wait_for(c, POLLOUT, err);
    if (code != RG_OK)
        return code;
    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &fault, &n) != 0)
        fault = errno;
    return fault == 0 ? RG_OK : lost(c, strerror(fault), err);
}

static void hang_up(struct client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

static enum rg_code open_connection(struct client *c, struct rg_err *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo      *all;
    char                  port[8];
    enum rg_code          code = RG_E_PEER;
    int                   status;

    (void)snprintf(port, sizeof port, "%u", c->call->port);
    status = getaddrinfo(c->host, port, &hints, &all);
    if (status != 0)
        return lost(c, gai_strerror(status), err);
    for (const struct addrinfo *a = all; a && code != RG_OK; a = a->ai_next) {
        hang_up(c);
        code = connect_to(c, a, err);
    }
    freeaddrinfo(all);
    return code;
}

static enum rg_code send_all(const struct client *c, const struct rg_buf *text, struct rg_err *err)
{
    for (size_t at = 0; at < text->len;) {
        const ssize_t n = send(c->fd, text->data + at, text->len - at, SEND_FLAGS);
        enum rg_code  code = RG_OK;

        if (n >= 0)
            at += (size_t)n;
        else if (errno == EAGAIN || errno == EWOULDBLOCK)
            code = wait_for(c, POLLOUT, err);
        else if (errno == EPIPE || errno == ECONNRESET)
            return RG_OK; /* its answer may say why it did not want all of it */
        else if (errno != EINTR)
            code = lost(c, strerror(errno), err);
        if (code != RG_OK)
            return code;
    }
    return RG_OK;
}

/* ---- the exchange ---------------------------------------------------------------------------- */

static enum rg_code print_request(struct rg_buf *out, const struct client *c, struct rg_err *err)
{
    const struct rg_http_call *call = c->call;
    const char                *bracket = strchr(c->host, ':') ? "[" : "";
    enum rg_code               code;

    code = rg_buf_addf(out, err,
                       "%s %s HTTP/1.1\r\nHost: %s%s%s:%u\r\nConnection: close\r\n"
                       "User-Agent: renga/" RENGA_VERSION "\r\n",
                       call->method, call->path, bracket, c->host, *bracket ? "]" : "", call->port);
    if (code == RG_OK && call->key)
        code = rg_buf_addf(out, err, "Authorization: Bearer %s\r\n", call->key);
    if (code == RG_OK && call->body)
        code = rg_buf_addf(out, err, "Content-Type: application/json\r\nContent-Length: %zu\r\n",
                           call->body_len);
    if (code == RG_OK)
        code = rg_buf_add(out, "\r\n", 2, err);
    if (code == RG_OK && call->body)
        code = rg_buf_add(out, call->body, call->body_len, err);
    return code;
}

static enum rg_code receive_some(const struct client *c, struct rg_http_answer *answer,
                                 struct rg_err *err)
{
    char          bytes[16 << 10];
    struct rg_err why;
    enum rg_code  code = wait_for(c, POLLIN, err);
    ssize_t       n;

    if (code != RG_OK)
        return code;
    n = recv(c->fd, bytes, sizeof bytes, 0);
    if (n < 0 && (errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK))
        return RG_OK;
    if (n < 0)
        return lost(c, strerror(errno), err);
    code = n > 0 ? rg_http_answer_feed(answer, bytes, (size_t)n, &why)
                 : rg_http_answer_end(answer, &why);
    if (code == RG_E_BAD_DATA)
        return lost(c, why.message, err);
    return code == RG_OK ? RG_OK
                         : rg_fail(err, code, "%s port %u: %s", c->host, c->call->port,
                                   why.message);
}

static const char *meant_host(const char *host)
{
    if (strcmp(host, "0.0.0.0") == 0)
        return "127.0.0.1";
    return strcmp(host, "::") == 0 ? "::1" : host;
}

enum rg_code rg_http_ask(const struct rg_http_call *call, int *status, rg_http_body_fn *on_body,
                         void *ud, struct rg_err *err)
{
    struct client         c = {.call = call,
                               .host = meant_host(call->host),
                               .fd = -1,
                               .until_ms = rg_clock_ms() + call->deadline_ms};
    struct rg_http_answer answer;
    struct rg_buf         text;
    enum rg_code          code;

    rg_http_answer_init(&answer, on_body, ud);
    rg_buf_init(&text, call->body_len + RG_LIMIT_URL_BYTES + RG_LIMIT_HEADER_BYTES);
    code = print_request(&text, &c, err);
    if (code == RG_OK)
        code = open_connection(&c, err);
    if (code == RG_OK)
        code = send_all(&c, &text, err);
    while (code == RG_OK && !answer.complete)
        code = receive_some(&c, &answer, err);
    *status = answer.status;
    hang_up(&c);
    rg_buf_free(&text);
    rg_http_answer_free(&answer);
    return code;
}

static enum rg_code keep(void *ud, const char *p, size_t n, struct rg_err *err)
{
    return rg_buf_add(ud, p, n, err);
}

enum rg_code rg_http_get(const struct rg_http_call *call, int *status, struct rg_buf *body,
                         struct rg_err *err)
{
    return rg_http_ask(call, status, keep, body, err);
}
