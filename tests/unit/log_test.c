/* log_test.c - lines that cannot be written: nobody reads the pipe, the file is full. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"

static int saved_stderr;

static void stderr_to(int fd)
{
    saved_stderr = dup(STDERR_FILENO);
    assert_true(saved_stderr >= 0);
    assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
}

static void stderr_back(void)
{
    assert_int_equal(dup2(saved_stderr, STDERR_FILENO), STDERR_FILENO);
    close(saved_stderr);
}

/* Every line in text[0, n) ends with the end of a log line. */
static void assert_lines_are_whole(const char *text, size_t n, unsigned least)
{
    static const char last[] = " msg=\"end\"";
    const size_t last_len = sizeof last - 1;
    unsigned lines = 0;

    assert_true(n > 0 && text[n - 1] == '\n');
    for (const char *line = text, *end; line < text + n; line = end + 1) {
        end = memchr(line, '\n', n - (size_t)(line - text));
        assert_true((size_t)(end - line) > last_len);
        assert_memory_equal(end - last_len, last, last_len);
        lines++;
    }
    assert_true(lines >= least);
}

static void a_pipe_that_nobody_reads_loses_lines_and_stops_nobody(void **state)
{
    static char text[1 << 20];
    const int64_t begin = rg_clock_ms();
    size_t n = 0;
    ssize_t got;
    int ends[2];

    (void)state;
    assert_int_equal(pipe(ends), 0);
    stderr_to(ends[1]);
    for (int i = 0; i < 5000; i++)
        rg_log(RG_LOG_INFO, "test", "end", "i=%d", i);
    stderr_back();
    assert_true(rg_clock_ms() - begin < 5000);
    assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    while ((got = read(ends[0], text + n, sizeof text - n)) > 0)
        n += (size_t)got;
    assert_lines_are_whole(text, n, 100);

    /* It is read again: the next line comes. */
    stderr_to(ends[1]);
    rg_log(RG_LOG_INFO, "test", "end", "again=1");
    stderr_back();
    got = read(ends[0], text, sizeof text);
    assert_true(got > 0);
    assert_lines_are_whole(text, (size_t)got, 1);
    close(ends[0]);
    close(ends[1]);
}

/* A limit of the file's size stands for a disk: what fits of a line is written, then nothing. */
static void after_half_a_line_the_next_begins_on_its_own(void **state)
{
    const struct rlimit none = {RLIM_INFINITY, RLIM_INFINITY}, small = {100, RLIM_INFINITY};
    char path[] = "/tmp/renga-log-XXXXXX", text[2048];
    const int fd = mkstemp(path);
    const char *second;
    ssize_t n;

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(unlink(path), 0);
    assert_true(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    stderr_to(fd);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    for (int i = 0; i < 10; i++)
        rg_log(RG_LOG_INFO, "test", "end", "first=%d", i);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
    rg_log(RG_LOG_INFO, "test", "end", "second=1");
    rg_log(RG_LOG_INFO, "test", "end", "third=1");
    stderr_back();
    n = pread(fd, text, sizeof text - 1, 0);
    close(fd);
    assert_true(n > 100);
    text[n] = '\0';
    assert_int_equal(text[100], '\n');
    second = text + 101;
    assert_non_null(strstr(second, "second=1"));
    assert_non_null(strstr(second, "third=1"));
    assert_lines_are_whole(second, strlen(second), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pipe_that_nobody_reads_loses_lines_and_stops_nobody),
        cmocka_unit_test(after_half_a_line_the_next_begins_on_its_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
