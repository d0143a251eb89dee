/* map_test.c - files that are cut, overwritten, replaced or removed while they are mapped. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/map.h"
#include "support/live_memory.h"

enum { FILE_BYTES = 8 << 20, READERS = 4 };

struct files {
    char dir[64], path[96], other[96];
};

static void fill(const char *path, uint8_t value, size_t n)
{
    static uint8_t piece[65536];
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    memset(piece, value, sizeof piece);
    for (size_t at = 0; at < n; at += sizeof piece)
        assert_int_equal(write(fd, piece, sizeof piece), sizeof piece);
    assert_int_equal(close(fd), 0);
}

/* The time of a file's last change is a tick of the kernel's clock, a few milliseconds. */
static void let_time_pass(void)
{
    usleep(20000);
}

static void begin(struct files *f)
{
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/renga_test_XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->path, sizeof f->path, "%s/shard", f->dir);
    (void)snprintf(f->other, sizeof f->other, "%s/other", f->dir);
    fill(f->path, 1, FILE_BYTES);
    fill(f->other, 1, FILE_BYTES);
    let_time_pass();
}

static void end(struct files *f)
{
    (void)unlink(f->path);
    (void)unlink(f->other);
    assert_int_equal(rmdir(f->dir), 0);
}

static uint64_t sum_of(const struct rg_map *m)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < m->bytes; i++)
        sum += ((const volatile uint8_t *)m->data)[i];
    return sum;
}

static void expect_changed(const struct rg_map *m, const char *says)
{
    struct rg_err err = {.message = ""};

    assert_int_equal(rg_map_check(m, "shard", &err), RG_E_IO);
    if (strncmp(err.message, "shard: ", 7) != 0 || !strstr(err.message, says))
        fail_msg("'%s' does not say '%s'", err.message, says);
}

static void a_truncated_file_reads_as_zeros_and_is_noticed(void **state)
{
    struct files f;
    struct rg_map m, other;

    (void)state;
    begin(&f);
    assert_int_equal(rg_map_open(&m, f.path, NULL), RG_OK);
    assert_int_equal(rg_map_open(&other, f.other, NULL), RG_OK);
    assert_int_equal(sum_of(&m), FILE_BYTES);
    assert_int_equal(rg_map_check(&m, "shard", NULL), RG_OK);
    assert_int_equal(truncate(f.path, 5000), 0);
    assert_true(sum_of(&m) < FILE_BYTES);
    expect_changed(&m, "was truncated from 8388608 to 5000 bytes while it was in use");
    assert_int_equal(m.data[FILE_BYTES - 1], 0);

    assert_int_equal(sum_of(&other), FILE_BYTES);
    assert_int_equal(rg_map_check(&other, "other", NULL), RG_OK);
    assert_int_equal(truncate(f.path, FILE_BYTES), 0); /* the right size again: no pardon */
    expect_changed(&m, "was written to");
    rg_map_close(&m);
    rg_map_close(&other);
    end(&f);
}

/* Only the flag of the handler can tell when size and times look right. */
static void pages_that_could_not_be_read_are_remembered(void **state)
{
    struct files f;
    struct rg_map m;
    struct stat st;

    (void)state;
    begin(&f);
    assert_int_equal(rg_map_open(&m, f.path, NULL), RG_OK);
    assert_int_equal(stat(f.path, &st), 0);
    assert_int_equal(truncate(f.path, 0), 0);
    assert_int_equal(sum_of(&m), 0);
    fill(f.path, 1, FILE_BYTES);
#ifdef __APPLE__
    const struct timespec times[2] = {st.st_atimespec, st.st_mtimespec};
#else
    const struct timespec times[2] = {st.st_atim, st.st_mtim};
#endif
    assert_int_equal(utimensat(AT_FDCWD, f.path, times, 0), 0);
    expect_changed(&m, "a part of it could not be read");
    rg_map_close(&m);

    /* The guard of the closed map is clean for the next one. */
    assert_int_equal(rg_map_open(&m, f.path, NULL), RG_OK);
    assert_int_equal(sum_of(&m), FILE_BYTES);
    assert_int_equal(rg_map_check(&m, "shard", NULL), RG_OK);
    rg_map_close(&m);
    end(&f);
}

static void every_way_of_change_has_its_words(void **state)
{
    struct files f;
    struct rg_map m;

    (void)state;
    begin(&f);
    assert_int_equal(rg_map_open(&m, f.path, NULL), RG_OK);
    const int fd = open(f.path, O_WRONLY);

    assert_int_equal(pwrite(fd, "x", 1, 12345), 1);
    assert_int_equal(close(fd), 0);
    expect_changed(&m, "was written to");
    rg_map_close(&m);

    let_time_pass();
    assert_int_equal(rg_map_open(&m, f.path, NULL), RG_OK);
    assert_int_equal(truncate(f.path, FILE_BYTES + 1), 0);
    expect_changed(&m, "grew from 8388608 to 8388609 bytes");
    rg_map_close(&m);

    assert_int_equal(rg_map_open(&m, f.path, NULL), RG_OK);
    assert_int_equal(rename(f.other, f.path), 0);
    expect_changed(&m, "was replaced or removed");
    rg_map_close(&m);

    assert_int_equal(rg_map_open(&m, f.path, NULL), RG_OK);
    assert_int_equal(link(f.path, f.other), 0); /* a second name changes nothing */
    assert_int_equal(rg_map_check(&m, "shard", NULL), RG_OK);
    assert_int_equal(unlink(f.other), 0);
    assert_int_equal(rg_map_check(&m, "shard", NULL), RG_OK);
    assert_int_equal(unlink(f.path), 0);
    expect_changed(&m, "was replaced or removed");
    assert_int_equal(sum_of(&m), FILE_BYTES); /* its bytes are still there */
    rg_map_close(&m);
    end(&f);
}

struct readers {
    struct rg_map map, other;
    atomic_bool stop;
    atomic_uint rounds;
};

static void *read_on(void *arg)
{
    struct readers *r = arg;

    while (!atomic_load(&r->stop)) {
        (void)sum_of(&r->map);
        if (sum_of(&r->other) != FILE_BYTES)
            return r;
        atomic_fetch_add(&r->rounds, 1);
    }
    return NULL;
}

static void threads_that_fault_at_once_all_go_on(void **state)
{
    struct readers r = {0};
    pthread_t threads[READERS];
    struct files f;

    (void)state;
    begin(&f);
    assert_int_equal(rg_map_open(&r.other, f.other, NULL), RG_OK);
    for (int round = 0; round < 8; round++) {
        fill(f.path, 1, FILE_BYTES);
        let_time_pass();
        assert_int_equal(rg_map_open(&r.map, f.path, NULL), RG_OK);
        atomic_store(&r.stop, false);
        atomic_store(&r.rounds, 0);
        for (int i = 0; i < READERS; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, read_on, &r), 0);
        usleep(2000);
        assert_int_equal(truncate(f.path, round * 100000), 0);
        while (atomic_load(&r.rounds) < 2 * READERS)
            usleep(1000);
        atomic_store(&r.stop, true);
        for (int i = 0; i < READERS; i++) {
            void *bad;

            assert_int_equal(pthread_join(threads[i], &bad), 0);
            assert_null(bad);
        }
        expect_changed(&r.map, "was truncated");
        assert_int_equal(rg_map_check(&r.other, "other", NULL), RG_OK);
        rg_map_close(&r.map);
    }
    rg_map_close(&r.other);
    end(&f);
}

/* ---- faults that are not ours: in a child, which they end ------------------------------------ */

static void fault_elsewhere(const struct files *f)
{
    const int fd = open(f->path, O_RDONLY);
    const volatile uint8_t *p = mmap(NULL, FILE_BYTES, PROT_READ, MAP_PRIVATE, fd, 0);

    if (p != MAP_FAILED && truncate(f->path, 0) == 0)
        (void)p[100000];
}

static void handled_by_the_program(int number)
{
    (void)number;
    _exit(42);
}

/* What became of a child that took SIGBUS; `handler` was there before its map. */
static int child(const struct files *f, void (*handler)(int), bool by_kill)
{
    const pid_t pid = fork();
    int status = 0;

    if (pid == 0) {
        const struct rlimit no_core = {0, 0};
        struct rg_map m;

        (void)setrlimit(RLIMIT_CORE, &no_core);
        (void)signal(SIGBUS, handler);
        if (rg_map_open(&m, f->other, NULL) != RG_OK)
            _exit(1);
        if (by_kill)
            (void)raise(SIGBUS);
        else
            fault_elsewhere(f);
        _exit(7);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void faults_elsewhere_are_not_swallowed(void **state)
{
    struct files f;
    int status;

    (void)state;
    begin(&f);
    status = child(&f, SIG_DFL, false);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
    fill(f.path, 1, FILE_BYTES);
    status = child(&f, SIG_DFL, true);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
    status = child(&f, SIG_IGN, true);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    status = child(&f, handled_by_the_program, false);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 42);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(faults_elsewhere_are_not_swallowed), /* first: its children install the handler */
        TEST(a_truncated_file_reads_as_zeros_and_is_noticed),
        TEST(pages_that_could_not_be_read_are_remembered),
        TEST(every_way_of_change_has_its_words),
        TEST(threads_that_fault_at_once_all_go_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
