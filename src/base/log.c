/* log.c - log lines, built in one buffer and written at once. */
#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

enum {
    LINE_BYTES = 2048, /* at most PIPE_BUF: a pipe that poll() calls writable takes it whole */
    PAIRS_BYTES = 1024,
    PATIENCE_MS = 200
};

static _Atomic int least_level = RG_LOG_INFO;
static _Atomic int line_format = RG_LOG_TEXT;
static _Atomic bool blocked; /* whoever reads stderr was waited for once, and is not again */
static _Atomic bool torn;    /* the last line was written only in part */

void rg_log_setup(enum rg_log_level least, enum rg_log_format format)
{
    atomic_store(&least_level, (int)least);
    atomic_store(&line_format, (int)format);
}

bool rg_log_enabled(enum rg_log_level level)
{
    return (int)level >= atomic_load(&least_level);
}

struct line {
    char text[LINE_BYTES];
    size_t len;
};

static void put(struct line *l, const char *s, size_t n)
{
    const size_t left = sizeof l->text - 2 - l->len; /* room for the end of the line */

    if (n > left)
        n = left;
    memcpy(l->text + l->len, s, n);
    l->len += n;
}

static void put_str(struct line *l, const char *s)
{
    put(l, s, strlen(s));
}

/* Escapes what could forge a line or a terminal sequence; quotes are escaped as JSON does. */
static void put_escaped(struct line *l, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)s[i];
        char hex[8];

        if (c < 0x20 || c == 0x7F) {
            snprintf(hex, sizeof hex, "\\u%04x", c);
            put_str(l, hex);
        } else {
            if (c == '"' || c == '\\')
                put(l, "\\", 1);
            put(l, s + i, 1);
        }
    }
}

static void put_time(struct line *l)
{
    const int64_t ms = rg_clock_unix_ms();
    const time_t seconds = (time_t)(ms / 1000);
    struct tm tm;
    char text[96];

    gmtime_r(&seconds, &tm);
    snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900,
             tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)(ms % 1000));
    put_str(l, text);
}

/* "key=value key=value" as JSON members; a word without '=' is part of the value before it. */
static void put_json_pairs(struct line *l, const char *pairs)
{
    while (*pairs) {
        const size_t n = strcspn(pairs, " ");
        const char *equals = memchr(pairs, '=', n);

        if (equals) {
            put_str(l, ",\"");
            put_escaped(l, pairs, (size_t)(equals - pairs));
            put_str(l, "\":\"");
            put_escaped(l, equals + 1, n - (size_t)(equals + 1 - pairs));
            put_str(l, "\"");
        }
        pairs += n;
        pairs += strspn(pairs, " ");
    }
}

static void put_text_pairs(struct line *l, const char *pairs)
{
    for (; *pairs; pairs++) {
        const unsigned char c = (unsigned char)*pairs;

        if (c < 0x20 || c == 0x7F)
            put_escaped(l, pairs, 1);
        else
            put(l, pairs, 1);
    }
}

/* A disk that is full loses lines, a pipe or terminal that nobody reads too: neither stops the
 * daemon.  What comes after half a line begins on a line of its own. */
static void write_line(const char *text, size_t n)
{
    struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
    ssize_t written;

    if (poll(&out, 1, atomic_load(&blocked) ? 0 : PATIENCE_MS) == 0) {
        atomic_store(&blocked, true);
        return;
    }
    atomic_store(&blocked, false);
    if (atomic_load(&torn) && write(STDERR_FILENO, "\n", 1) != 1)
        return;
    do
        written = write(STDERR_FILENO, text, n);
    while (written < 0 && errno == EINTR);
    atomic_store(&torn, written > 0 && (size_t)written < n);
}

void rg_log(enum rg_log_level level, const char *module, const char *msg, const char *pairs, ...)
{
    static const char *const names[] = {"DEBUG", "INFO", "WARN", "ERROR"};
    struct line line = {.len = 0};
    char text[PAIRS_BYTES];
    va_list args;

    if (!rg_log_enabled(level) || level >= RG_LOG_OFF)
        return;
    va_start(args, pairs);
    const int n = vsnprintf(text, sizeof text, pairs, args);
    va_end(args);
    if (n < 0)
        text[0] = '\0';

    const bool json = atomic_load(&line_format) == RG_LOG_JSON;

    put_str(&line, json ? "{\"time\":\"" : "");
    put_time(&line);
    put_str(&line, json ? "\",\"level\":\"" : " ");
    put_str(&line, names[level]);
    put_str(&line, json ? "\",\"module\":\"" : " ");
    put_str(&line, module);
    put_str(&line, json ? "\"" : " ");
    if (json) {
        put_json_pairs(&line, text);
        put_str(&line, ",");
    } else if (text[0]) {
        put_text_pairs(&line, text);
        put_str(&line, " ");
    }
    put_str(&line, json ? "\"msg\":\"" : "msg=\"");
    put_escaped(&line, msg, strlen(msg));
    put_str(&line, json ? "\"}" : "\"");
    line.text[line.len++] = '\n';

    write_line(line.text, line.len);
}
