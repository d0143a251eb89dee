/* transport_tls_test.c - who may talk to whom: certificates that fit, and those that do not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "base/mem.h"
#include "cluster/certs.h"
#include "support/link_ends.h"
#include "support/live_memory.h"

enum { PATH_BYTES = 512 };

static char root[] = "/tmp/renga-tls-XXXXXX";
static const char long_id[] =
    "_23456789-123456789-123456789-123456789-123456789-123456789-1234n23456789-123456789-"
    "123456789-123456789-123456789-123456789.1234";
static const char *const nodes[] = {"a", "A", "b", "old", "10.0.2.1", long_id};

enum { NODES = sizeof nodes / sizeof nodes[0] };

static char *path_of(char *out, const char *cluster, const char *node, const char *file)
{
    snprintf(out, PATH_BYTES, "%s/%s/%s%s%s", root, cluster, node, *file ? "/" : "", file);
    return out;
}

static void make_cluster(const char *name)
{
    struct rg_peer_info peers[NODES] = {{0}};
    char path[PATH_BYTES], ids[NODES][256];
    const struct rg_discovery d = {.peers = peers, .n = NODES};
    struct rg_err err;
    uint32_t made;

    for (int i = 0; i < NODES; i++) {
        snprintf(ids[i], sizeof ids[i], "%s", nodes[i]);
        peers[i].id = ids[i];
    }
    snprintf(path, sizeof path, "%s/%s", root, name);
    if (rg_certs_make(&d, path, &made, &err))
        fail_msg("%s", err.message);
}

static EVP_PKEY *read_key(const char *path)
{
    FILE *f = fopen(path, "r");
    EVP_PKEY *key;

    assert_non_null(f);
    key = PEM_read_PrivateKey(f, NULL, NULL, NULL);
    fclose(f);
    assert_non_null(key);
    return key;
}

/* Ends the validity of a node's certificate at `seconds` from now, signed by its authority. */
static void change_end(const char *cluster, const char *node, long seconds)
{
    char path[PATH_BYTES];
    EVP_PKEY *ca_key = read_key(path_of(path, cluster, ".", "ca.key"));
    FILE *f = fopen(path_of(path, cluster, node, "node.pem"), "r+");
    X509 *cert;

    assert_non_null(f);
    cert = PEM_read_X509(f, NULL, NULL, NULL);
    assert_non_null(cert);
    assert_non_null(X509_gmtime_adj(X509_getm_notAfter(cert), seconds));
    assert_true(X509_sign(cert, ca_key, EVP_sha256()) > 0);
    rewind(f);
    assert_int_equal(ftruncate(fileno(f), 0), 0);
    assert_int_equal(PEM_write_X509(f, cert), 1);
    fclose(f);
    X509_free(cert);
    EVP_PKEY_free(ca_key);
}

static void both_sides_know_each_other_by_name(void **state)
{
    struct pair p;
    struct rg_err err = {0};
    char a[PATH_BYTES], b[PATH_BYTES];

    (void)state;
    open_pair_tls(&p, path_of(a, "one", "a", ""), path_of(b, "one", "b", ""));
    open_link(&p, RG_LINK_STEPS);
    assert_string_equal(p.far.names, "b");
    assert_string_equal(rg_transport_cluster(p.server), rg_transport_cluster(p.client));
    assert_int_equal(rg_link_send(p.near.link, "there", 5, NULL, &err), RG_OK);
    assert_true(wait_for(&p.far, &p.far.messages, 1));
    assert_memory_equal(p.far.last, "there", 5);
    close_pair(&p);
}

/* The dialling node `client` of `cluster` wants `peer`; the server is node a of cluster one. */
static void expect_refusal(const char *server, const char *client, const char *peer,
                           const char *why)
{
    struct pair p;

    open_pair_tls(&p, server, client);
    dial_as(&p, RG_LINK_CONTROL, peer);
    assert_true(wait_for(&p.near, &p.near.closed, 1));
    assert_int_equal(p.near.opened, 0);
    assert_int_equal(p.far.messages, 0);
    assert_int_equal(p.near.why.code, RG_E_PEER);
    if (!strstr(p.near.why.message, why))
        fail_msg("'%s' is not in: %s", why, p.near.why.message);
    assert_null(strchr(p.near.why.message, '\n'));
    close_pair(&p);
}

static void a_stranger_is_refused_with_a_clear_line(void **state)
{
    char a[PATH_BYTES], b[PATH_BYTES], other[PATH_BYTES];

    (void)state;
    path_of(a, "one", "a", "");
    path_of(b, "one", "b", "");
    path_of(other, "two", "b", "");
    expect_refusal(a, other, "a", "certificate verify failed");
    expect_refusal(a, b, "c", "certificate is not this node's");
    /* gRPC compares without regard to case. */
    expect_refusal(a, b, "A", "certificate of 'a'");
    expect_refusal(a, NULL, "a", "may want TLS");
    expect_refusal(NULL, b, "a", "answers without TLS");
}

static void any_node_id_can_be_a_name(void **state)
{
    static const char *const ids[] = {"10.0.2.1", long_id};
    char a[PATH_BYTES], b[PATH_BYTES];

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct pair p;

        open_pair_tls(&p, path_of(a, "one", "a", ""), path_of(b, "one", "b", ""));
        rg_transport_close(p.server);

        const struct rg_transport_options o = {.host = "127.0.0.1",
                                               .tls_dir = path_of(a, "one", ids[i], ""),
                                               .node_id = ids[i],
                                               .step_bytes_max = STEP_BYTES_MAX,
                                               .on_accept = accept_link,
                                               .ud = &p};
        struct rg_err err = {0};

        assert_int_equal(rg_transport_open(&p.server, &o, &err), RG_OK);
        dial_as(&p, RG_LINK_CONTROL, ids[i]);
        if (!wait_for(&p.near, &p.near.opened, 1))
            fail_msg("%s", p.near.why.message);
        close_pair(&p);
    }
}

static void an_expired_certificate_is_refused_here_and_there(void **state)
{
    char a[PATH_BYTES], b[PATH_BYTES], old[PATH_BYTES];
    const struct rg_transport_options o = {
        .tls_dir = path_of(old, "one", "old", ""), .node_id = "old", .step_bytes_max = 1};
    struct rg_transport *t;
    struct rg_err err = {0};
    struct pair p;

    (void)state;
    path_of(a, "one", "a", "");
    /* It ends while the node runs. */
    change_end("one", "old", 2);
    open_pair_tls(&p, a, path_of(b, "one", "b", ""));
    rg_transport_close(p.client);
    assert_int_equal(rg_transport_open(&p.client, &o, &err), RG_OK);
    sleep(3);
    dial(&p, RG_LINK_CONTROL);
    assert_true(wait_for(&p.near, &p.near.closed, 1));
    assert_int_equal(p.near.opened, 0);
    assert_int_equal(p.near.why.code, RG_E_PEER);
    close_pair(&p);
    assert_int_equal(rg_transport_open(&t, &o, &err), RG_E_USAGE);
    assert_non_null(strstr(err.message, "has expired"));
}

static int make_root(void **state)
{
    (void)state;
    if (!mkdtemp(root))
        return -1;
    make_cluster("one");
    make_cluster("two");
    return 0;
}

static int remove_root(void **state)
{
    static const char *const clusters[] = {"one", "two"};
    static const char *const files[] = {"ca.pem", "ca.key", "node.pem", "node.key"};
    char path[PATH_BYTES];

    (void)state;
    for (int c = 0; c < 2; c++) {
        for (int n = 0; n <= NODES; n++) {
            for (int f = 0; f < 4; f++)
                unlink(path_of(path, clusters[c], n < NODES ? nodes[n] : ".", files[f]));
            if (n < NODES)
                rmdir(path_of(path, clusters[c], nodes[n], ""));
        }
        snprintf(path, sizeof path, "%s/%s", root, clusters[c]);
        rmdir(path);
    }
    return rmdir(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(both_sides_know_each_other_by_name),
        TEST(a_stranger_is_refused_with_a_clear_line),
        TEST(any_node_id_can_be_a_name),
        TEST(an_expired_certificate_is_refused_here_and_there),
    };

    return cmocka_run_group_tests(tests, make_root, remove_root);
}
