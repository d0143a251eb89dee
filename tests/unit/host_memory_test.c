/* host_memory_test.c - the limits of control groups, from files like the kernel's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/host_memory.h"

static char root[64];

static void put(const char *name, const char *text)
{
    char path[300];
    FILE *f;

    (void)snprintf(path, sizeof path, "%s/%s", root, name);
    for (char *p = strchr(path + strlen(root) + 1, '/'); p; p = strchr(p + 1, '/')) {
        *p = '\0';
        (void)mkdir(path, 0700);
        *p = '/';
    }
    f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static uint64_t limit_of(const char *groups)
{
    char path[300];

    put("groups", groups);
    (void)snprintf(path, sizeof path, "%s/groups", root);
    return rg_cgroup_memory_limit(path, root);
}

static void the_smallest_limit_on_the_way_up_counts(void **state)
{
    (void)state;
    put("memory.max", "max\n");
    put("a/memory.max", "3000000\n");
    put("a/b/memory.max", "5000000\n");
    put("a/b/c/memory.max", "max\n");
    put("d/memory.max", "max\n");
    assert_int_equal(limit_of("0::/a/b/c\n"), 3000000);
    assert_int_equal(limit_of("0::/a/b\n"), 3000000);
    assert_int_equal(limit_of("0::/d\n"), UINT64_MAX);
    assert_int_equal(limit_of("0::/\n"), UINT64_MAX);
}

static void a_container_sees_its_own_group_as_the_root(void **state)
{
    (void)state;
    put("memory.max", "7000000\n");
    assert_int_equal(limit_of("0::/\n"), 7000000);
    assert_int_equal(limit_of("0::/../gone/deeper\n"), 7000000);
    put("memory.max", "max\n");
}

static void version_1_has_a_tree_of_its_own(void **state)
{
    (void)state;
    put("memory/memory.limit_in_bytes", "9223372036854771712\n");
    put("memory/x/memory.limit_in_bytes", "1234567\n");
    assert_int_equal(limit_of("5:cpu,memory:/x/y\n4:pids:/a\n0::/\n"), 1234567);
    assert_int_equal(limit_of("5:cpu,memoryless:/x\n"), UINT64_MAX);
    assert_true(limit_of("5:memory:/\n") > (uint64_t)1 << 60);
}

static void what_cannot_be_read_is_no_limit(void **state)
{
    (void)state;
    assert_int_equal(rg_cgroup_memory_limit("/nowhere", root), UINT64_MAX);
    assert_int_equal(limit_of(""), UINT64_MAX);
    assert_int_equal(limit_of("no colons\n:\n::\n0::"), UINT64_MAX);
    put("e/memory.max", "a lot\n");
    assert_int_equal(limit_of("0::/e\n"), UINT64_MAX);
}

static void this_machine_has_some(void **state)
{
    (void)state;
    assert_true(rg_host_memory_bytes() > (uint64_t)16 << 20);
}

static int make_root(void **state)
{
    (void)state;
    (void)snprintf(root, sizeof root, "/tmp/renga-cgroup-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    static const char *const names[] = {
        "a/b/c/memory.max", "a/b/memory.max", "a/memory.max", "d/memory.max",
        "e/memory.max", "memory.max", "memory/x/memory.limit_in_bytes",
        "memory/memory.limit_in_bytes", "groups", "a/b/c", "a/b", "a", "d", "e", "memory/x",
        "memory", ""};
    char path[300];
    int failed = 0;

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", root, names[i]);
        failed |= remove(path);
    }
    return failed;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_smallest_limit_on_the_way_up_counts),
        cmocka_unit_test(a_container_sees_its_own_group_as_the_root),
        cmocka_unit_test(version_1_has_a_tree_of_its_own),
        cmocka_unit_test(what_cannot_be_read_is_no_limit),
        cmocka_unit_test(this_machine_has_some),
    };

    return cmocka_run_group_tests(tests, make_root, remove_root);
}
