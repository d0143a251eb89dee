/* scenarios.c - the commands, and what a client does to a daemon whose allocations fail. */
#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "torture/torture.h"

enum {
    PATIENCE_MS = 9000,      /* for an answer when one allocation failed */
    SHORT_PATIENCE_MS = 300, /* when none succeeds: silence is then an answer too */
    READY_MS = 9000
};

__attribute__((format(printf, 2, 3)))
static void wrong(struct driver *d, const char *format, ...)
{
    va_list args;

    if (d->report->why[0])
        return;
    va_start(args, format);
    (void)vsnprintf(d->report->why, WHY_BYTES, format, args);
    va_end(args);
}

static void sleep_ms(int ms)
{
    const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};

    nanosleep(&t, NULL);
}

static void arm(struct driver *d)
{
    d->armed = true;
    d->armed_at = rg_mem_count();
    if (d->mode.all_after)
        rg_mem_fail_from(d->mode.n);
    else
        rg_mem_fail_at(d->mode.n);
}

static void disarm(struct driver *d)
{
    d->report->n_allocations = rg_mem_count() - d->armed_at;
    rg_mem_fail_at(0);
}

/* ---- the daemon's log ---- */

static bool find_in_log(struct driver *d, const char *text, char *line, size_t size)
{
    static char log[256 << 10];
    const ssize_t n = pread(d->log_fd, log, sizeof log - 1, 0);
    const char *at;

    log[n > 0 ? n : 0] = '\0';
    at = strstr(log, text);
    if (at && line)
        (void)snprintf(line, size, "%.*s", (int)strcspn(at, "\n"), at);
    return at != NULL;
}

/* False when the daemon has ended, or the time is up. */
static bool wait_for_log(struct driver *d, const char *text, int wait_ms)
{
    const int64_t end = rg_clock_ms() + wait_ms;

    while (!find_in_log(d, text, NULL, 0)) {
        if (atomic_load(&d->main_returned) || rg_clock_ms() > end)
            return false;
        sleep_ms(1);
    }
    return true;
}

static bool wait_until_listening(struct driver *d)
{
    char line[200], *port;

    if (!wait_for_log(d, "serve address=", READY_MS) ||
        !find_in_log(d, "serve address=", line, sizeof line)) {
        if (!atomic_load(&d->main_returned))
            wrong(d, "the daemon does not come up");
        return false;
    }
    port = strstr(line, "port=");
    d->port = port ? (int)strtol(port + 5, NULL, 10) : 0;
    return true;
}

static bool wait_until_ready(struct driver *d)
{
    char line[200];

    if (!wait_until_listening(d))
        return false;
    if (wait_for_log(d, "model is ready", READY_MS)) {
        (void)find_in_log(d, "serve model=", line, sizeof line);
        (void)snprintf(d->model, sizeof d->model, "%.*s", (int)strcspn(line + 12, " "), line + 12);
        return true;
    }
    if (!atomic_load(&d->main_returned))
        wrong(d, "the model does not get ready");
    return false;
}

static void end_daemon(void)
{
    (void)kill(getpid(), SIGTERM);
}

/* ---- HTTP ---- */

struct talk {
    int fd;
    size_t len;
    bool ended; /* by the server */
    char data[ANSWER_BYTES];
};

static bool begin_talk(struct driver *d, struct talk *t, const char *request)
{
    const struct sockaddr_in a = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)d->port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const size_t n = strlen(request);

    t->fd = socket(AF_INET, SOCK_STREAM, 0);
    t->len = 0;
    t->ended = false;
    t->data[0] = '\0';
    if (t->fd < 0 || connect(t->fd, (const struct sockaddr *)&a, sizeof a) != 0) {
        wrong(d, "cannot connect");
        return false;
    }
    /* A server without memory may have cut it already: that is seen when reading. */
    if (send(t->fd, request, n, MSG_NOSIGNAL) != (ssize_t)n)
        return true;
    return true;
}

/* Reads until `text` is there (NULL: to the end); false when it doesn't come. */
static bool read_talk(struct talk *t, const char *text, int wait_ms)
{
    const int64_t end = rg_clock_ms() + wait_ms;

    while (!t->ended && !(text && strstr(t->data, text))) {
        struct pollfd p = {.fd = t->fd, .events = POLLIN};
        const int64_t left = end - rg_clock_ms();
        const size_t room = sizeof t->data - 1 - t->len;
        ssize_t n;

        if (left <= 0 || room == 0 || poll(&p, 1, (int)left) <= 0)
            return false;
        n = recv(t->fd, t->data + t->len, room, 0);
        if (n <= 0) {
            t->ended = true;
            break;
        }
        t->len += (size_t)n;
        t->data[t->len] = '\0';
    }
    return text ? strstr(t->data, text) != NULL : t->ended;
}

static void end_talk(struct talk *t)
{
    if (t->fd >= 0)
        (void)close(t->fd);
    t->fd = -1;
}

#define AUTHORIZED "Authorization: Bearer second-key\r\n"

static void make_post(const struct driver *d, char *out, size_t size, const char *fields)
{
    char body[2000];
    const int n = snprintf(body, sizeof body,
                           "{\"model\":\"%s\",\"messages\":[{\"role\":\"system\","
                           "\"content\":\"Be kind.\"},{\"role\":\"user\",\"content\":"
                           "\"Hi \\u00e4\"}],\"temperature\":0%s}",
                           d->model, fields);

    (void)snprintf(out, size,
                   "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                   AUTHORIZED "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
                   n, body);
}

/* What differs from answer to answer is overwritten: the id and the time. */
static void blank(char *text, const char *key, size_t n)
{
    const size_t skip = strlen(key);

    for (char *p = strstr(text, key); p; p = strstr(p + skip, key)) {
        const size_t left = strlen(p + skip);

        memset(p + skip, '#', n < left ? n : left);
    }
}

static void make_comparable(char *text)
{
    blank(text, "chatcmpl-", 16);
    blank(text, "\"created\":", 10);
    blank(text, "Date: ", 29);
}

/* Each choice's text and end, however the stream was cut into events. */
static void join_stream(char *out, size_t size, const char *data)
{
    size_t n = 0;

    for (int choice = 0; choice < 2; choice++) {
        char key[40];
        const int key_len = snprintf(key, sizeof key, "\"choices\":[{\"index\":%d,", choice);

        for (const char *p = strstr(data, key); p; p = strstr(p + key_len, key)) {
            const size_t line = strcspn(p, "\n");
            const char *text = strstr(p, "\"content\":\"");
            const char *end = strstr(p, "\"finish_reason\":\"");

            if (text && text < p + line) {
                text += 11;
                for (; *text != '"' && n + 2 < size; text++) {
                    if (*text == '\\')
                        out[n++] = *text++;
                    out[n++] = *text;
                }
            }
            if (end && end < p + line && n + 60 < size)
                n += (size_t)snprintf(out + n, 60, "|%.8s|", end + 17);
        }
    }
    out[n] = '\0';
}

/* Whole and without an error means: the same as without failures.  Otherwise the server must have
 * cut the connection or said that it is its own fault. */
static void judge(struct driver *d, const struct talk *t, char *answer, bool whole)
{
    static const char *const faults[] = {"HTTP/1.1 500", "HTTP/1.1 503", "\"code\":\"internal\""};

    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        if (strstr(t->data, faults[i])) {
            d->report->said_error = true;
            if (!d->expected)
                wrong(d, "an error without a failed allocation: %.300s", t->data);
            return;
        }
    if (!d->expected && whole)
        (void)snprintf(d->report->answer, ANSWER_BYTES, "%s", answer);
    else if (!d->expected)
        wrong(d, "no whole answer, and nothing failed: %.300s", t->data);
    else if (!whole)
        d->report->said_error = true;
    else if (strcmp(answer, d->expected) != 0)
        wrong(d, "another answer: %.2500s", answer);
}

static void judge_talk(struct driver *d, struct talk *t)
{
    static char joined[ANSWER_BYTES];

    if (!t->ended && !d->mode.all_after) {
        wrong(d, "no answer within %d ms; so far: %.200s", PATIENCE_MS, t->data);
        return;
    }
    if (strstr(t->data, "text/event-stream")) {
        join_stream(joined, sizeof joined, t->data);
        judge(d, t, joined, strstr(t->data, "data: [DONE]") != NULL);
    } else {
        char *end = strstr(t->data, "]}");

        make_comparable(t->data);
        judge(d, t, t->data, end || strstr(t->data, "\"usage\""));
    }
}

static int patience(const struct driver *d)
{
    return d->mode.all_after && d->mode.n > 0 ? SHORT_PATIENCE_MS : PATIENCE_MS;
}

/* Memory is back: the daemon must answer as ever. */
static void next_request_works(struct driver *d)
{
    static struct talk t;
    char request[3000];

    make_post(d, request, sizeof request, ",\"max_tokens\":3");
    if (!begin_talk(d, &t, request))
        return;
    (void)read_talk(&t, NULL, PATIENCE_MS);
    end_talk(&t);
    if (strncmp(t.data, "HTTP/1.1 200", 12) != 0 || !strstr(t.data, "\"finish_reason\":\"length\""))
        wrong(d, "the next request does not work: %.300s", t.data[0] ? t.data : "(nothing)");
}

/* ---- scenarios of a daemon ---- */

static void drive_start(struct driver *d)
{
    if (!wait_until_ready(d))
        return;
    disarm(d);
    next_request_works(d);
    end_daemon();
}

static void drive_stop_loading(struct driver *d)
{
    if (wait_until_listening(d))
        end_daemon();
}

/* request: its bytes; or NULL, and the fields of a chat. */
static void one_request(struct driver *d, const char *request, const char *fields)
{
    static struct talk t;
    static char post[4000];

    if (!wait_until_ready(d))
        return;
    if (!request)
        make_post(d, post, sizeof post, fields);
    arm(d);
    if (begin_talk(d, &t, request ? request : post)) {
        (void)read_talk(&t, NULL, patience(d));
        end_talk(&t);
        /* The server's part goes on a little after the client has got all. */
        sleep_ms(2);
        disarm(d);
        judge_talk(d, &t);
    }
    next_request_works(d);
    end_daemon();
}

static void drive_chat(struct driver *d)
{
    one_request(d, NULL,
                ",\"max_tokens\":4,\"n\":2,\"logprobs\":true,\"top_logprobs\":2,"
                "\"stop\":[\"zz\",\"yy\"],\"logit_bias\":{\"65\":-1}");
}

static void drive_stream(struct driver *d)
{
    one_request(d, NULL,
                ",\"max_tokens\":6,\"n\":2,\"stream\":true,\"stop\":\"zz\","
                "\"stream_options\":{\"include_usage\":true}");
}

/* Each of them is answered with an error of its own, one after the other on one connection. */
static void drive_refusals(struct driver *d)
{
    one_request(d,
                "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
                "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
                "GET /nothing HTTP/1.1\r\nHost: localhost\r\n" AUTHORIZED "\r\n"
                "DELETE /v1/models HTTP/1.1\r\nHost: localhost\r\n" AUTHORIZED "\r\n"
                "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n" AUTHORIZED
                "Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{\"a\":tru}"
                "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n" AUTHORIZED
                "Content-Type: application/json\r\nContent-Length: 7\r\n\r\n{\"a\":1}"
                "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" AUTHORIZED
                "\r\n",
                NULL);
}

static bool open_long_stream(struct driver *d, struct talk *t, const char *fields)
{
    char request[3000];

    if (!wait_until_ready(d))
        return false;
    make_post(d, request, sizeof request, fields);
    return begin_talk(d, t, request);
}

static void drive_cancel(struct driver *d)
{
    static struct talk t;
    bool left;

    if (!wait_until_ready(d))
        return;
    arm(d);
    if (!open_long_stream(d, &t, ",\"stream\":true,\"logit_bias\":{\"257\":-100}"))
        return;
    left = read_talk(&t, "\"content\"", patience(d)) && !t.ended;
    if (!left && !t.ended && !d->mode.all_after)
        wrong(d, "no stream within %d ms: %.200s", PATIENCE_MS, t.data);
    end_talk(&t);
    /* Whatever becomes of the request, its end is one line with its id. */
    if (left && !wait_for_log(d, " api id=", patience(d)) && !d->mode.all_after)
        wrong(d, "the daemon does not notice that its client left");
    sleep_ms(5);
    disarm(d);
    next_request_works(d);
    end_daemon();
}

/* One streams, one waits for its whole answer: what hits one may hit the other, no more. */
static void drive_neighbours(struct driver *d)
{
    static struct talk streaming, waiting;
    char request[3000];

    if (!open_long_stream(d, &streaming, ",\"max_tokens\":40,\"stream\":true"))
        return;
    make_post(d, request, sizeof request, ",\"max_tokens\":5");
    arm(d);
    if (!begin_talk(d, &waiting, request))
        return;
    (void)read_talk(&waiting, NULL, patience(d));
    (void)read_talk(&streaming, NULL, patience(d));
    end_talk(&waiting);
    end_talk(&streaming);
    sleep_ms(2);
    disarm(d);
    judge_talk(d, &waiting);
    if (!streaming.ended && !d->mode.all_after)
        wrong(d, "the neighbour's stream does not end: %.200s", streaming.data);
    next_request_works(d);
    end_daemon();
}

static void shut_down(struct driver *d, const char *fields, bool twice)
{
    static struct talk t;

    if (!open_long_stream(d, &t, fields))
        return;
    if (!read_talk(&t, "\"content\"", PATIENCE_MS))
        wrong(d, "no stream: %.200s", t.data);
    arm(d);
    end_daemon();
    if (twice && wait_for_log(d, "signal=", PATIENCE_MS))
        end_daemon();
    if (!read_talk(&t, NULL, PATIENCE_MS))
        wrong(d, "the stream does not end");
    end_talk(&t);
    /* Nothing comes after a last sign of life but the daemon's end. */
    for (int i = 0; i < PATIENCE_MS && !atomic_load(&d->main_returned); i++)
        sleep_ms(1);
    disarm(d);
    if (!twice)
        judge_talk(d, &t);
}

static void drive_shutdown(struct driver *d)
{
    shut_down(d, ",\"max_tokens\":300,\"stream\":true", false);
}

static void drive_shutdown_now(struct driver *d)
{
    shut_down(d, ",\"stream\":true,\"logit_bias\":{\"257\":-100}", true);
}

/* ---- the table ---- */

#define BODY                                                                                       \
    "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi <|im_end|> \\u00e4\"},"                    \
    "{\"role\":\"assistant\",\"content\":\"Yes\"},{\"role\":\"user\",\"content\":\"And?\"}]}"
#define TOOLS                                                                                      \
    "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"Hi\"}]},"        \
    "{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"c1\",\"type\":\"function\",\"function\":"   \
    "{\"name\":\"f\",\"arguments\":\"{\\\"x\\\": 1.50}\"}}]},"                                     \
    "{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"content\":\"2\"}],"                              \
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"d\","        \
    "\"parameters\":{\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"number\"}}}}}]}"
#define EVAL "--tokens", "IDS", "--logits", "OUT"
#define SERVE                                                                                      \
    "serve", "MODEL", "--api-port", "0", "--threads", "2", "--ctx", "2048", "--parallel", "2",     \
        "--api-key-file", "KEYS"

const struct scenario scenarios[] = {
    {"version", {"version", "--json"}, .input = ""},
    {"inspect", {"inspect", "TINY/qwen3_moe-mixed_346"}, .input = ""},
    {"inspect-json",
     {"inspect", "TINY/kimi_k2-q4_64-unstacked", "--json", "--registry", "REGISTRY"},
     .input = ""},
    {"plan",
     {"plan", "TINY/qwen3_moe-mixed_346", "--discovery-config-path",
      "FIXTURES/../../config/discovery.json"},
     .input = ""},
    {"plan-json",
     {"plan", "TINY/deepseek_v3-mixed_346", "--json", "--discovery-config-path",
      "FIXTURES/../../config/discovery.json", "--layers",
      "m2-studio-main=none,m3-studio-worker=0-1"},
     .input = ""},
    {"service-launchd",
     {"service", "install", "--dry-run", "--init", "launchd", "--user", "daemon",
      "--default-model", "a b", "--config", "CONFIG"},
     .input = ""},
    {"service-systemd",
     {"service", "install", "--dry-run", "--init", "systemd", "--user", "daemon",
      "--default-model", "a/b", "--node-id", "c"},
     .input = ""},
    {"tokenize", {"tokenize", "MODEL", "--special"}, .input = "Hi <|im_end|> \xc3\xa4\xff 12"},
    {"tokenize-tiktoken", {"tokenize", "FIXTURES/tokenizer/kimi"}, .input = "Hi, \xc3\xa4 12"},
    {"decode", {"tokenize", "MODEL", "--decode"}, .input = "[1, 2, 257, 70]"},
    {"render", {"render", "MODEL"}, .input = BODY},
    {"render-spans", {"render", "MODEL", "--spans"}, .input = BODY},
    {"render-ids", {"render", "MODEL", "--ids"}, .input = BODY},
    {"render-tools", {"render", "RICH"}, .input = TOOLS},
    {"tokenize-llama3", {"tokenize", "FIXTURES/tokenizer/llama3"}, .input = "Hi, \xc3\xa4 12"},
    {"tokenize-qwen35", {"tokenize", "FIXTURES/tokenizer/qwen35"}, .input = "Hi, a\xcc\x88 12"},
    {"tokenize-corners", {"tokenize", "FIXTURES/tokenizer/corners"}, .input = "Hi, \xc3\xa4 12"},
    {"run",
     {"run", "MODEL", "--prompt", "Hi \xff", "--system", "x", "--max-tokens", "4", "--seed", "1",
      "--threads", "2", "--ctx", "256", "--config", "CONFIG"},
     .input = ""},
    {"eval",
     {"eval", "TINY/deepseek_v3-mixed_346", EVAL, "--threads", "2", "--chunk", "2"},
     .input = ""},
    {"eval-unstacked", {"eval", "TINY/qwen3_moe-bf16-unstacked", EVAL}, .input = ""},
    {"eval-fp8", {"eval", "TINY/deepseek_v3-fp8", EVAL}, .input = ""},
    {"eval-int4", {"eval", "TINY/kimi_k2-int4-experts", EVAL}, .input = ""},
    {"eval-hf", {"eval", "TINY/qwen3_moe-hf-bf16", EVAL}, .input = ""},
    {"eval-nvfp4", {"eval", "TINY/deepseek_v3-nvfp4-global_scale", EVAL}, .input = ""},
    {"bench",
     {"bench", "TINY/qwen3_moe-q4_64", "--json", "--prefill", "4", "--decode-tokens", "1",
      "--rounds", "1", "--threads", "2"},
     .output_differs = true},
    {"start", {SERVE}, .drive = drive_start},
    {"stop-loading", {SERVE}, .drive = drive_stop_loading, .may_be_killed = true},
    {"chat", {SERVE}, .drive = drive_chat, .driver_arms = true},
    {"stream", {SERVE}, .drive = drive_stream, .driver_arms = true},
    {"refusals", {SERVE}, .drive = drive_refusals, .driver_arms = true},
    {"cancel", {SERVE}, .drive = drive_cancel, .driver_arms = true},
    {"neighbours", {SERVE}, .drive = drive_neighbours, .driver_arms = true},
    {"shutdown", {SERVE}, .drive = drive_shutdown, .driver_arms = true},
    {"shutdown-now",
     {SERVE},
     .drive = drive_shutdown_now,
     .may_be_killed = true,
     .driver_arms = true},
};

const size_t n_scenarios = sizeof scenarios / sizeof *scenarios;
