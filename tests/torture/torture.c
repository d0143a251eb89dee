/* torture.c - makes the allocations of every command and of a daemon's life fail, one by one.
 *
 * usage: torture --model DIR --scratch DIR [--every] [--seed N] [--jobs N] [--filter TEXT]
 *                [--only N | --only-from N]
 *
 * A run is a child process that calls renga's own main().  Good is: it ends in time, not by a
 * signal; its exit code is 0, or 1 with one line that speaks of memory; nothing is left in the heap
 * (its own count, and LeakSanitizer where the build has it); what it printed is whole or nothing;
 * a daemon answers the next request.  Without --every a scenario has 25 allocations chosen by the
 * seed; besides, for some n, every allocation from the n-th on fails.
 * The last line is `N passed, N failed`: scenarios. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "torture/torture.h"

enum {
    JOBS_MAX = 16,
    RUN_MS = 15000, /* the client of a daemon gives up after 9000 itself */
    SHALLOW = 25,
    FROM_ON = 5,
    SHOWN_MAX = 5,
    TEXT_BYTES = 256 << 10
};

int renga_main(int argc, char **argv);

struct settings {
    const char *model, *scratch, *filter;
    bool every;
    uint64_t seed;
    int jobs;
    struct mode only;
};

struct run {
    pid_t pid; /* 0: the place is free */
    struct mode mode;
    int64_t deadline_ms;
    int out_fd, err_fd;
    bool late;
    struct report *report; /* shared with the child */
};

struct progress {
    const struct settings *settings;
    const struct scenario *scenario;
    char *expected_answer, *expected_output; /* of the run without failures */
    size_t expected_len;
    struct run runs[JOBS_MAX];
    uint32_t n_runs, n_bad, n_errors;
};

/* ---- the child ---- */

static void replace(char *out, size_t size, const char *arg, const struct settings *s)
{
    static const char *const files[][2] = {
        {"CONFIG", "flags.json"},
        {"REGISTRY", "models.json"},
        {"IDS", "ids.json"},
        {"KEYS", "api.key"},
        {"RICH", "."},
    };

    (void)snprintf(out, size, "%s", arg);
    if (strcmp(arg, "MODEL") == 0)
        (void)snprintf(out, size, "%s", s->model);
    else if (strcmp(arg, "OUT") == 0)
        (void)snprintf(out, size, "%s/out-%d.npy", s->scratch, (int)getpid());
    else if (strncmp(arg, "TINY/", 5) == 0)
        (void)snprintf(out, size, "%s/tests/golden/tiny/%s", RENGA_SOURCE_DIR, arg + 5);
    else if (strncmp(arg, "FIXTURES/", 9) == 0)
        (void)snprintf(out, size, "%s/tests/fixtures/%s", RENGA_SOURCE_DIR, arg + 9);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (strcmp(arg, files[i][0]) == 0)
            (void)snprintf(out, size, "%s/%s", s->scratch, files[i][1]);
}

struct driven {
    struct driver driver;
    const struct scenario *scenario;
};

static void *drive(void *arg)
{
    struct driven *d = arg;

    d->scenario->drive(&d->driver);
    return NULL;
}

static void set_failing(struct mode mode)
{
    if (mode.all_after)
        rg_mem_fail_from(mode.n);
    else
        rg_mem_fail_at(mode.n);
}

static int run_main(const struct progress *p, const struct run *r)
{
    static char words[ARGS_MAX][600];
    char *argv[ARGS_MAX + 1] = {words[0]};
    struct driven d = {.scenario = p->scenario,
                       .driver = {.report = r->report,
                                  .expected = p->expected_answer,
                                  .mode = r->mode,
                                  .log_fd = r->err_fd}};
    const bool has_driver = p->scenario->drive != NULL;
    const int64_t live = rg_mem_live(), count = rg_mem_count();
    pthread_t thread;
    int argc = 1, code;

    (void)snprintf(words[0], sizeof words[0], "renga");
    for (; p->scenario->args[argc - 1]; argc++) {
        replace(words[argc], sizeof words[argc], p->scenario->args[argc - 1], p->settings);
        argv[argc] = words[argc];
    }
    if (!p->scenario->driver_arms)
        set_failing(r->mode);
    d.driver.armed_at = count;
    if (has_driver && pthread_create(&thread, NULL, drive, &d) != 0)
        return 90;
    code = renga_main(argc, argv);
    if (!p->scenario->driver_arms && r->report->n_allocations == 0)
        r->report->n_allocations = rg_mem_count() - count;
    rg_mem_fail_at(0);
    atomic_store(&d.driver.main_returned, true);
    if (has_driver)
        (void)pthread_join(thread, NULL);
    if (rg_mem_live() != live && !r->report->why[0])
        (void)snprintf(r->report->why, WHY_BYTES, "%lld blocks of memory are left",
                       (long long)(rg_mem_live() - live));
    return code;
}

/* Never returns.  exit() and not _exit(): LeakSanitizer looks when the process ends. */
static void be_child(const struct progress *p, const struct run *r)
{
    const char *input = p->scenario->input ? p->scenario->input : "";
    const int in = memfd_create("in", 0);

    if (in < 0 || write(in, input, strlen(input)) != (ssize_t)strlen(input) ||
        lseek(in, 0, SEEK_SET) != 0 || dup2(in, 0) < 0 || dup2(r->out_fd, 1) < 0 ||
        dup2(r->err_fd, 2) < 0)
        _exit(91);
    exit(run_main(p, r));
}

/* ---- judging ---- */

static size_t read_all(int fd, char *out, size_t size)
{
    const ssize_t n = pread(fd, out, size - 1, 0);

    out[n > 0 ? n : 0] = '\0';
    return n > 0 ? (size_t)n : 0;
}

/* Counts the lines that are not the log's; *last is the last of them. */
static int count_plain_lines(char *text, const char **last)
{
    int n = 0;

    *last = "";
    for (char *line = text, *end; *line; line = end) {
        end = line + strcspn(line, "\n");
        if (*end)
            *end++ = '\0';
        if (strstr(line, "Z INFO ") || strstr(line, "Z WARN ") || strstr(line, "Z ERROR "))
            continue;
        n++;
        *last = line;
    }
    return n;
}

/* NULL when all is well. */
static const char *fault_of(const struct progress *p, const struct run *r, int status)
{
    static char err[TEXT_BYTES], out[TEXT_BYTES];
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    const size_t out_len = read_all(r->out_fd, out, sizeof out);
    const char *line;
    int n_lines;

    (void)read_all(r->err_fd, err, sizeof err);
    n_lines = count_plain_lines(err, &line);
    if (r->late)
        return "it does not end";
    if (p->scenario->may_be_killed && WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM)
        return NULL;
    if (code < 0)
        return "it crashed";
    if (r->report->why[0])
        return r->report->why;
    if (code == 0)
        return n_lines > 0 ? "it succeeded, but said something"
               : p->expected_output && !p->scenario->output_differs &&
                       (out_len != p->expected_len || memcmp(out, p->expected_output, out_len) != 0)
                   ? "it succeeded with another output"
                   : NULL;
    if (code != 1)
        return "a failed allocation gave an exit code other than 0 and 1";
    if (r->mode.n == 0)
        return "it failed without a failed allocation";
    if (n_lines != 1 || strncmp(line, "renga: ", 7) != 0)
        return "not one line `renga: ...` on stderr";
    return strstr(line, "memory") ? NULL : "its line does not speak of memory";
}

static void show(const struct progress *p, const struct run *r, int status, const char *fault)
{
    static char err[TEXT_BYTES];

    (void)read_all(r->err_fd, err, sizeof err);
    printf("FAIL %s --only%s %lld: %s (status %#x)\n%.3500s\n", p->scenario->name,
           r->mode.all_after ? "-from" : "", (long long)r->mode.n, fault, (unsigned)status, err);
}

static void finish(struct progress *p, struct run *r, int status)
{
    const char *fault = fault_of(p, r, status);

    p->n_runs++;
    p->n_errors += status != 0 || r->report->said_error;
    if (fault) {
        p->n_bad++;
        if (p->n_bad <= SHOWN_MAX)
            show(p, r, status, fault);
    }
    (void)fflush(stdout);
}

/* ---- running ---- */

static void start(struct progress *p, struct run *r, struct mode mode)
{
    r->mode = mode;
    r->late = false;
    r->out_fd = memfd_create("out", 0);
    r->err_fd = memfd_create("err", 0);
    memset(r->report, 0, sizeof *r->report);
    r->deadline_ms = rg_clock_ms() + RUN_MS;
    (void)fflush(stdout); /* the child would write what is waiting there once more */
    r->pid = fork();
    if (r->pid == 0)
        be_child(p, r);
    if (r->pid < 0 || r->out_fd < 0 || r->err_fd < 0) {
        perror("torture");
        exit(2);
    }
}

/* Waits until one run has ended; false when none is under way. */
static bool collect(struct progress *p, bool wait_for_one)
{
    const struct timespec moment = {.tv_nsec = 300000};
    bool any;

    do {
        any = false;
        for (int i = 0; i < p->settings->jobs; i++) {
            struct run *r = &p->runs[i];
            int status;

            if (r->pid == 0)
                continue;
            any = true;
            if (waitpid(r->pid, &status, WNOHANG) == r->pid) {
                finish(p, r, status);
                (void)close(r->out_fd);
                (void)close(r->err_fd);
                r->pid = 0;
                return true;
            }
            if (!r->late && rg_clock_ms() > r->deadline_ms) {
                r->late = true;
                (void)kill(r->pid, SIGKILL);
            }
        }
        if (any)
            nanosleep(&moment, NULL);
    } while (any && wait_for_one);
    return any;
}

static void run_soon(struct progress *p, struct mode mode)
{
    for (;;) {
        for (int i = 0; i < p->settings->jobs; i++)
            if (p->runs[i].pid == 0) {
                start(p, &p->runs[i], mode);
                return;
            }
        (void)collect(p, true);
    }
}

/* Without failures: how many allocations there are, and what the right answers are. */
static int64_t run_baseline(struct progress *p)
{
    static char output[TEXT_BYTES], answer[ANSWER_BYTES];
    struct run *r = &p->runs[0];
    int status;

    start(p, r, (struct mode){.n = 0});
    while (waitpid(r->pid, &status, 0) < 0 && errno == EINTR)
        ;
    p->expected_len = read_all(r->out_fd, output, sizeof output);
    (void)snprintf(answer, sizeof answer, "%s", r->report->answer);
    finish(p, r, status);
    (void)close(r->out_fd);
    (void)close(r->err_fd);
    r->pid = 0;
    p->expected_output = output;
    p->expected_answer = answer;
    return p->n_bad ? 0 : r->report->n_allocations;
}

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static void run_failures(struct progress *p, int64_t n_allocations)
{
    const struct settings *s = p->settings;
    uint64_t state = s->seed;
    /* With --every a twentieth of them also begins a shortage that stays. */
    const int64_t from_on = s->every ? n_allocations / 20 + FROM_ON : FROM_ON;

    if (s->only.n > 0) {
        run_soon(p, s->only);
        return;
    }
    for (int64_t n = 1; s->every && n <= n_allocations; n++)
        run_soon(p, (struct mode){.n = n});
    for (int i = 0; !s->every && i < SHALLOW; i++)
        run_soon(p, (struct mode){
                        .n = 1 + (int64_t)(next_random(&state) % (uint64_t)n_allocations)});
    for (int64_t i = 0; i < from_on; i++) {
        const uint64_t n = i == 0 ? 0 : next_random(&state) % (uint64_t)n_allocations;

        run_soon(p, (struct mode){.n = 1 + (int64_t)n, .all_after = true});
    }
}

static bool run_scenario(const struct settings *s, const struct scenario *scenario,
                         struct report *reports)
{
    const int64_t begin = rg_clock_ms();
    struct progress p = {.settings = s, .scenario = scenario};
    int64_t n_allocations;

    for (int i = 0; i < JOBS_MAX; i++)
        p.runs[i].report = &reports[i];
    n_allocations = run_baseline(&p);
    if (n_allocations > 0)
        run_failures(&p, n_allocations);
    while (collect(&p, true))
        ;
    printf("%-4s %-18s %6lld allocations %6u runs %6u errors %4u bad %7.1f s\n",
           p.n_bad || n_allocations == 0 ? "FAIL" : "ok", scenario->name, (long long)n_allocations,
           p.n_runs, p.n_errors, p.n_bad, (double)(rg_clock_ms() - begin) / 1000);
    (void)fflush(stdout);
    return p.n_bad == 0 && n_allocations > 0;
}

/* ---- setting up ---- */

/* Something of every kind that a template may hold. */
static const char rich_template[] =
    "{%- macro show(f, n=2) -%}[{{ f.name | upper }}:{{ f.parameters | tojson(indent=n) }}]"
    "{%- endmacro -%}{{ bos_token }}"
    "{%- set ns = namespace(calls=0, last='') -%}"
    "{%- for t in tools or [] -%}{{ show(t.function) }}{{ loop.index0 }}{%- endfor -%}"
    "{%- for m in messages -%}"
    "{%- if m.content is string -%}{%- set text = m.content | trim -%}"
    "{%- elif m.content is iterable -%}"
    "{%- set text = m.content | map(attribute='text') | join(', ') -%}"
    "{%- else -%}{%- set text = '' -%}{%- endif -%}"
    "<{{ m['role'] }}>{{ text.replace('H', 'h').split('i') | list | length }}{{ text[::-1] }}"
    "{%- for c in m.tool_calls or [] -%}{%- set ns.calls = ns.calls + 1 -%}"
    "{%- set a = c.function.arguments -%}"
    "{{ a if a is string else a | tojson }}{{ {'k': [1, 2.5, none, true]}.items() | list }}"
    "{%- endfor -%}{%- set ns.last = m.role -%}{%- endfor -%}"
    "{{ ns.calls }} {{ ns.last ~ '!' }} {{ range(5) | select('odd') | list }}"
    "{%- if not add_generation_prompt is defined -%}{{ raise_exception('never') }}{%- endif -%}";

static void write_file(const struct settings *s, const char *name, const char *text)
{
    char path[700];
    FILE *f;

    (void)snprintf(path, sizeof path, "%s/%s", s->scratch, name);
    f = fopen(path, "w");
    if (!f || fputs(text, f) < 0 || fclose(f) != 0) {
        perror(path);
        exit(2);
    }
}

static bool set(struct settings *s, const char *flag, const char *value)
{
    const long long n = strtoll(value, NULL, 10);

    if (strcmp(flag, "--model") == 0)
        s->model = value;
    else if (strcmp(flag, "--scratch") == 0)
        s->scratch = value;
    else if (strcmp(flag, "--filter") == 0)
        s->filter = value;
    else if (strcmp(flag, "--seed") == 0)
        s->seed = (uint64_t)n;
    else if (strcmp(flag, "--jobs") == 0)
        s->jobs = n < 1 ? 1 : n > JOBS_MAX ? JOBS_MAX : (int)n;
    else if (strcmp(flag, "--only") == 0)
        s->only = (struct mode){.n = n};
    else if (strcmp(flag, "--only-from") == 0)
        s->only = (struct mode){.n = n, .all_after = true};
    else
        return false;
    return true;
}

static bool parse(struct settings *s, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--every") == 0)
            s->every = true;
        else if (i + 1 >= argc || !set(s, argv[i], argv[i + 1]))
            return false;
        else
            i++;
    }
    return s->model && s->scratch;
}

int main(int argc, char **argv)
{
    /* Another seed every day: in time all are tried. */
    struct settings s = {.jobs = 2, .seed = (uint64_t)(rg_clock_unix() / 86400)};
    struct report *reports;
    uint32_t passed = 0, failed = 0;

    if (!parse(&s, argc, argv)) {
        fprintf(stderr, "usage: torture --model DIR --scratch DIR [--every] [--seed N] [--jobs N] "
                        "[--filter TEXT] [--only N | --only-from N]\n");
        return 2;
    }
    reports = mmap(NULL, JOBS_MAX * sizeof *reports, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (reports == MAP_FAILED) {
        perror("torture");
        return 2;
    }
    write_file(&s, "api.key", "# two keys\nfirst-key\nsecond-key\n");
    write_file(&s, "tokenizer_config.json", "{\"bos_token\": \"<s>\"}");
    write_file(&s, "chat_template.jinja", rich_template);
    write_file(&s, "ids.json", "[1, 5, 9]");
    write_file(&s, "flags.json", "{\"temperature\": 0, \"api-port\": 0}");
    write_file(&s, "models.json", "{\"a\": {\"path\": \"/nowhere\"}}");
    printf("seed %llu\n", (unsigned long long)s.seed);
    for (size_t i = 0; i < n_scenarios; i++) {
        if (s.filter && !strstr(scenarios[i].name, s.filter))
            continue;
        if (run_scenario(&s, &scenarios[i], reports))
            passed++;
        else
            failed++;
    }
    printf("%u passed, %u failed\n", passed, failed);
    return failed > 0;
}
