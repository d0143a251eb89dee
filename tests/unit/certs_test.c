/* certs_test.c - the cluster's certificates: what is made, what is kept, what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "cluster/certs.h"
#include "cluster/tls.h"
#include "support/live_memory.h"

enum { PATH_BYTES = 512 };

static char root[] = "/tmp/renga-certs-XXXXXX";

/* 128 bytes, the longest id; and what no DNS name may have. */
static const char long_id[] =
    "n23456789-123456789-123456789-123456789-123456789-123456789-1234n23456789-123456789-"
    "123456789-123456789-123456789-123456789-1234";

static char *path_of(char *out, const char *dir, const char *node, const char *file)
{
    snprintf(out, PATH_BYTES, "%s/%s/%s/%s", root, dir, node, file);
    return out;
}

static enum rg_code make(const char *dir, const char *const *ids, uint32_t n, uint32_t *made,
                         struct rg_err *err)
{
    struct rg_peer_info peers[8] = {{0}};
    char path[PATH_BYTES], id[8][256];
    const struct rg_discovery d = {.peers = peers, .n = n};

    for (uint32_t i = 0; i < n; i++) {
        snprintf(id[i], sizeof id[i], "%s", ids[i]);
        peers[i].id = id[i];
    }
    snprintf(path, sizeof path, "%s/%s", root, dir);
    return rg_certs_make(&d, path, made, err);
}

static char *read_all(const char *path)
{
    struct rg_err err;
    char *text;
    size_t n;

    if (rg_file_read(&text, &n, path, 1 << 20, &err))
        fail_msg("%s", err.message);
    return text;
}

static void each_node_gets_a_bundle_that_is_its_own(void **state)
{
    const char *ids[] = {"m2", "M2_under.score-", long_id, "10.0.2.1"};
    struct rg_err err;
    struct rg_tls tls;
    uint32_t made;
    char path[PATH_BYTES];
    struct stat s;

    (void)state;
    assert_int_equal(strlen(long_id), 128);
    assert_int_equal(make("own", ids, 4, &made, &err), RG_OK);
    assert_int_equal(made, 4);
    for (int i = 0; i < 4; i++) {
        const char *const files[] = {"ca.pem", "node.pem", "node.key"};

        for (int f = 0; f < 3; f++) {
            assert_int_equal(stat(path_of(path, "own", ids[i], files[f]), &s), 0);
            assert_int_equal(s.st_mode & 0777, 0600);
        }
        if (rg_tls_read(&tls, path_of(path, "own", ids[i], ""), ids[i], &err))
            fail_msg("%s", err.message);
        assert_int_equal(strlen(tls.cluster), 16);
        rg_tls_free(&tls);
    }
    /* Ids are told apart by case too. */
    assert_int_equal(rg_tls_read(&tls, path_of(path, "own", "m2", ""), "M2", &err), RG_E_USAGE);
    assert_non_null(strstr(err.message, "another name"));
}

static void what_is_there_is_used_again_and_never_overwritten(void **state)
{
    const char *ids[] = {"a", "b", "c"};
    struct rg_err err;
    struct rg_tls first, second;
    uint32_t made;
    char path[PATH_BYTES];

    (void)state;
    assert_int_equal(make("again", ids, 2, &made, &err), RG_OK);
    assert_int_equal(made, 2);

    char *before = read_all(path_of(path, "again", "a", "node.key"));

    assert_int_equal(make("again", ids, 3, &made, &err), RG_OK);
    assert_int_equal(made, 1);

    char *after = read_all(path_of(path, "again", "a", "node.key"));

    assert_string_equal(before, after);
    rg_free(before);
    rg_free(after);
    assert_int_equal(rg_tls_read(&first, path_of(path, "again", "a", ""), "a", &err), RG_OK);
    assert_int_equal(rg_tls_read(&second, path_of(path, "again", "c", ""), "c", &err), RG_OK);
    assert_string_equal(first.cluster, second.cluster);
    assert_string_not_equal(first.key, second.key);
    rg_tls_free(&first);
    rg_tls_free(&second);
}

static void half_an_authority_or_bundle_is_refused(void **state)
{
    const char *ids[] = {"a"};
    struct rg_err err;
    uint32_t made;
    char path[PATH_BYTES];

    (void)state;
    assert_int_equal(make("half", ids, 1, &made, &err), RG_OK);
    assert_int_equal(unlink(path_of(path, "half", "a", "node.key")), 0);
    assert_int_equal(make("half", ids, 1, &made, &err), RG_E_USAGE);
    assert_non_null(strstr(err.message, "only 2 of its 3 files"));
    assert_int_equal(unlink(path_of(path, "half", ".", "ca.key")), 0);
    assert_int_equal(make("half", ids, 1, &made, &err), RG_E_USAGE);
    assert_non_null(strstr(err.message, "no ca.key"));
}

static void an_id_that_is_no_directory_name_is_refused(void **state)
{
    static const char *const bad[] = {".", "..", "ca.pem", "ca.key"};
    struct rg_err err;
    uint32_t made;

    (void)state;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(make("names", &bad[i], 1, &made, &err), RG_E_USAGE);
        assert_int_equal(made, 0);
    }
}

static void files_of_two_authorities_do_not_fit(void **state)
{
    const char *ids[] = {"a"};
    struct rg_err err;
    struct rg_tls tls;
    uint32_t made;
    char from[PATH_BYTES], to[PATH_BYTES];

    (void)state;
    assert_int_equal(make("one", ids, 1, &made, &err), RG_OK);
    assert_int_equal(make("two", ids, 1, &made, &err), RG_OK);
    assert_int_equal(rename(path_of(from, "one", "a", "ca.pem"), path_of(to, "two", "a", "ca.pem")),
                     0);
    assert_int_equal(rg_tls_read(&tls, path_of(to, "two", "a", ""), "a", &err), RG_E_USAGE);
    assert_non_null(strstr(err.message, "has not signed"));
    assert_int_equal(
        rename(path_of(from, "one", "a", "node.key"), path_of(to, "two", "a", "node.key")), 0);
    assert_int_equal(rg_tls_read(&tls, path_of(to, "two", "a", ""), "a", &err), RG_E_USAGE);
    assert_non_null(strstr(err.message, "not the key"));
    assert_int_equal(rg_tls_read(&tls, path_of(to, "one", "a", ""), "a", &err), RG_E_USAGE);
    assert_non_null(strstr(err.message, "ca.pem"));
}

static int make_root(void **state)
{
    (void)state;
    return mkdtemp(root) ? 0 : -1;
}

static void remove_bundle(const char *dir, const char *node)
{
    static const char *const files[] = {"ca.pem", "ca.key", "node.pem", "node.key"};
    char path[PATH_BYTES];

    for (int i = 0; i < 4; i++)
        unlink(path_of(path, dir, node, files[i]));
    rmdir(path_of(path, dir, node, ""));
}

static int remove_root(void **state)
{
    static const char *const dirs[] = {"own", "again", "half", "names", "one", "two"};
    static const char *const nodes[] = {"m2", "M2_under.score-", long_id, "10.0.2.1", "a",
                                        "b",  "c",               "."};
    char path[PATH_BYTES];

    (void)state;
    for (size_t d = 0; d < sizeof dirs / sizeof dirs[0]; d++) {
        for (size_t n = 0; n < sizeof nodes / sizeof nodes[0]; n++)
            remove_bundle(dirs[d], nodes[n]);
        snprintf(path, sizeof path, "%s/%s", root, dirs[d]);
        rmdir(path);
    }
    return rmdir(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_node_gets_a_bundle_that_is_its_own),
        TEST(what_is_there_is_used_again_and_never_overwritten),
        TEST(half_an_authority_or_bundle_is_refused),
        TEST(an_id_that_is_no_directory_name_is_refused),
        TEST(files_of_two_authorities_do_not_fit),
    };

    return cmocka_run_group_tests(tests, make_root, remove_root);
}
