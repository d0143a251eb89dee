/* tls.c - reads a node's certificates and checks them before gRPC does, to say what is wrong. */
#include "cluster/tls.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "base/file.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"

void rg_tls_free(struct rg_tls *t)
{
    rg_free(t->ca);
    rg_free(t->cert);
    if (t->key)
        OPENSSL_cleanse(t->key, strlen(t->key));
    rg_free(t->key);
    *t = (struct rg_tls){0};
}

static enum rg_code read_pem(char **out, const char *dir, const char *name, struct rg_err *err)
{
    char *path = rg_path_join(dir, name);
    size_t n;

    *out = NULL;
    if (!path)
        return rg_fail(err, RG_E_NOMEM, "%s: memory is short", name);

    enum rg_code code = rg_file_read(out, &n, path, RG_LIMIT_CONFIG_BYTES, err);

    if (code && code != RG_E_NOMEM)
        code = rg_fail_in(err, RG_E_USAGE, "--tls-dir");
    rg_free(path);
    return code;
}

static void check_permissions(const char *dir)
{
    char *path = rg_path_join(dir, "node.key");
    struct stat s;

    if (path && stat(path, &s) == 0 && (s.st_mode & 077) != 0)
        rg_log(RG_LOG_WARN, "peer", "others than its owner can use the node's key: chmod 600 it",
               "file=%s mode=%03o", path, (unsigned)s.st_mode & 0777);
    rg_free(path);
}

static X509 *parse_cert(const char *pem)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    X509 *cert = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;

    BIO_free(bio);
    return cert;
}

bool rg_tls_names_have(const char *names, const char *id)
{
    const size_t n = strlen(id);

    for (const char *at = names; *at;) {
        const size_t length = strcspn(at, "\n");

        if (length == n && memcmp(at, id, n) == 0)
            return true;
        at += length + (at[length] == '\n');
    }
    return false;
}

int rg_tls_no_passphrase(char *buf, int size, int writing, void *ud)
{
    (void)buf;
    (void)size;
    (void)writing;
    (void)ud;
    return -1;
}

static EVP_PKEY *parse_key(const char *pem)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, rg_tls_no_passphrase, NULL) : NULL;

    BIO_free(bio);
    return key;
}

static bool names_node(X509 *cert, const char *node_id)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    const size_t n = strlen(node_id);
    bool found = false;

    for (int i = 0; i < sk_GENERAL_NAME_num(names) && !found; i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

        found = name->type == GEN_DNS && (size_t)ASN1_STRING_length(name->d.dNSName) == n &&
                memcmp(ASN1_STRING_get0_data(name->d.dNSName), node_id, n) == 0;
    }
    GENERAL_NAMES_free(names);
    return found;
}

static enum rg_code check_time(X509 *cert, const char *dir, const char *file, struct rg_err *err)
{
    if (X509_cmp_current_time(X509_get0_notAfter(cert)) < 0)
        return rg_fail(err, RG_E_USAGE, "--tls-dir: %s/%s has expired: make a new one with "
                       "renga certs", dir, file);
    if (X509_cmp_current_time(X509_get0_notBefore(cert)) > 0)
        return rg_fail(err, RG_E_USAGE, "--tls-dir: %s/%s is not valid yet: look at this "
                       "machine's clock", dir, file);
    return RG_OK;
}

static enum rg_code check(X509 *ca, X509 *cert, EVP_PKEY *key, const char *dir,
                          const char *node_id, struct rg_err *err)
{
    if (!ca || !cert)
        return rg_fail(err, RG_E_USAGE, "--tls-dir: %s/%s is no certificate in PEM", dir,
                       ca ? "node.pem" : "ca.pem");
    if (!key)
        return rg_fail(err, RG_E_USAGE, "--tls-dir: %s/node.key is no private key in PEM (without "
                       "a passphrase)", dir);
    if (X509_check_private_key(cert, key) != 1)
        return rg_fail(err, RG_E_USAGE, "--tls-dir: %s: node.key is not the key of node.pem", dir);
    if (X509_verify(cert, X509_get0_pubkey(ca)) != 1)
        return rg_fail(err, RG_E_USAGE, "--tls-dir: %s: ca.pem has not signed node.pem: both must "
                       "come from one renga certs", dir);
    if (node_id && !names_node(cert, node_id))
        return rg_fail(err, RG_E_USAGE, "--tls-dir: %s/node.pem is not the certificate of node "
                       "'%s': it has another name", dir, node_id);

    const enum rg_code code = check_time(ca, dir, "ca.pem", err);

    return code ? code : check_time(cert, dir, "node.pem", err);
}

static void name_cluster(struct rg_tls *t, X509 *ca)
{
    uint8_t digest[EVP_MAX_MD_SIZE] = {0};
    unsigned n = 0;

    if (X509_digest(ca, EVP_sha256(), digest, &n) != 1)
        return;
    for (unsigned i = 0; i < RG_TLS_CLUSTER_BYTES / 2; i++)
        snprintf(t->cluster + 2 * i, 3, "%02x", digest[i]);
}

enum rg_code rg_tls_read(struct rg_tls *out, const char *dir, const char *node_id,
                         struct rg_err *err)
{
    X509 *ca = NULL, *cert = NULL;
    EVP_PKEY *key = NULL;
    enum rg_code code;

    *out = (struct rg_tls){0};
    code = read_pem(&out->ca, dir, "ca.pem", err);
    if (!code)
        code = read_pem(&out->cert, dir, "node.pem", err);
    if (!code)
        code = read_pem(&out->key, dir, "node.key", err);
    if (code)
        goto out;
    ca = parse_cert(out->ca);
    cert = parse_cert(out->cert);
    key = parse_key(out->key);
    code = check(ca, cert, key, dir, node_id, err);
    if (code)
        goto out;
    check_permissions(dir);
    name_cluster(out, ca);
out:
    X509_free(ca);
    X509_free(cert);
    EVP_PKEY_free(key);
    if (code)
        rg_tls_free(out);
    return code;
}
