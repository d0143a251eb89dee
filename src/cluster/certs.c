/* certs.c - makes the cluster's authority and the nodes' bundles, with libcrypto.
 *
 * A bundle appears whole or not at all: it is written into a folder of its own and renamed. */
#include "cluster/certs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "base/file.h"
#include "base/limits.h"
#include "base/mem.h"
#include "cluster/tls.h"

enum {
    AUTHORITY_DAYS = 20 * 365 + 5,
    NODE_DAYS = 10 * 365 + 3,
    SERIAL_BITS = 159, /* RFC 5280: at most 20 bytes, positive */
    NAME_BYTES_MAX = 64 /* of an X.509 common name */
};

struct authority {
    X509 *cert;
    EVP_PKEY *key;
};

static const char *const bundle_files[] = {"ca.pem", "node.pem", "node.key"};

/* ---- files ----------------------------------------------------------------------------------- */

/* A new file that only its owner can read. */
static enum rg_code write_new(const char *path, BIO *bytes, struct rg_err *err)
{
    char *data = NULL;
    const long n = BIO_get_mem_data(bytes, &data);
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd < 0)
        return rg_fail(err, RG_E_IO, "%s: cannot be made: %s", path, strerror(errno));

    long at = 0;

    while (at < n) {
        const ssize_t part = write(fd, data + at, (size_t)(n - at));

        if (part < 0 && errno == EINTR)
            continue;
        if (part <= 0)
            break;
        at += part;
    }

    const bool flushed = at == n && fsync(fd) == 0;
    const int e = errno;

    if (close(fd) != 0 || !flushed) {
        unlink(path);
        return rg_fail(err, RG_E_IO, "%s: cannot be written: %s", path, strerror(e));
    }
    return RG_OK;
}

static enum rg_code write_cert(const char *dir, const char *name, X509 *cert, struct rg_err *err)
{
    char *path = rg_path_join(dir, name);
    BIO *bio = BIO_new(BIO_s_mem());
    enum rg_code code;

    if (!path || !bio || PEM_write_bio_X509(bio, cert) != 1)
        code = rg_fail(err, RG_E_NOMEM, "%s/%s: memory is short", dir, name);
    else
        code = write_new(path, bio, err);
    BIO_free(bio);
    rg_free(path);
    return code;
}

static enum rg_code write_key(const char *dir, const char *name, EVP_PKEY *key,
                              struct rg_err *err)
{
    char *path = rg_path_join(dir, name);
    BIO *bio = BIO_new(BIO_s_secmem());
    enum rg_code code;

    if (!path || !bio || PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1)
        code = rg_fail(err, RG_E_NOMEM, "%s/%s: memory is short", dir, name);
    else
        code = write_new(path, bio, err);
    BIO_free(bio);
    rg_free(path);
    return code;
}

static enum rg_code make_dir(const char *path, struct rg_err *err)
{
    if (mkdir(path, 0700) == 0 || (errno == EEXIST && rg_dir_exists(path)))
        return RG_OK;
    return rg_fail(err, RG_E_IO, "%s: cannot be made a directory: %s", path, strerror(errno));
}

static bool exists_in(const char *dir, const char *name)
{
    char *path = rg_path_join(dir, name);
    struct stat s;
    /* Short memory counts as there: nothing is overwritten. */
    const bool there = !path || lstat(path, &s) == 0;

    rg_free(path);
    return there;
}

static void remove_in(const char *dir, const char *name)
{
    char *path = rg_path_join(dir, name);

    if (path)
        unlink(path);
    rg_free(path);
}

/* ---- certificates ---------------------------------------------------------------------------- */

static bool add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;

    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, cert, NULL, NULL, 0);

    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    const bool added = e && X509_add_ext(cert, e, -1) == 1;

    X509_EXTENSION_free(e);
    return added;
}

static bool set_serial(X509 *cert)
{
    BIGNUM *number = BN_new();
    const bool set = number && BN_rand(number, SERIAL_BITS, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY) &&
                     BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert));

    BN_free(number);
    return set;
}

static bool set_name(X509 *cert, const char *name)
{
    const size_t n = strlen(name);

    return X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
                                      (const unsigned char *)name,
                                      (int)(n < NAME_BYTES_MAX ? n : NAME_BYTES_MAX), -1, 0) == 1;
}

/* What both kinds have; valid from yesterday on: clocks differ. */
static X509 *new_cert(EVP_PKEY *key, const char *name, int days)
{
    X509 *cert = X509_new();

    if (cert && X509_set_version(cert, X509_VERSION_3) == 1 && set_serial(cert) &&
        X509_time_adj_ex(X509_getm_notBefore(cert), -1, 0, NULL) &&
        X509_time_adj_ex(X509_getm_notAfter(cert), days, 0, NULL) && set_name(cert, name) &&
        X509_set_pubkey(cert, key) == 1)
        return cert;
    X509_free(cert);
    return NULL;
}

static X509 *authority_cert(EVP_PKEY *key)
{
    X509 *cert = new_cert(key, "renga cluster authority", AUTHORITY_DAYS);

    if (cert && X509_set_issuer_name(cert, X509_get_subject_name(cert)) == 1 &&
        add_extension(cert, cert, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
        add_extension(cert, cert, NID_key_usage, "critical,keyCertSign,cRLSign") &&
        add_extension(cert, cert, NID_subject_key_identifier, "hash") &&
        X509_sign(cert, key, EVP_sha256()) > 0)
        return cert;
    X509_free(cert);
    return NULL;
}

static X509 *node_cert(const struct authority *a, EVP_PKEY *key, const char *id)
{
    char names[RG_LIMIT_NODE_ID_BYTES + 8];
    X509 *cert = new_cert(key, id, NODE_DAYS);

    snprintf(names, sizeof names, "DNS:%s", id);
    if (cert && X509_set_issuer_name(cert, X509_get_subject_name(a->cert)) == 1 &&
        add_extension(cert, a->cert, NID_basic_constraints, "critical,CA:FALSE") &&
        add_extension(cert, a->cert, NID_key_usage, "critical,digitalSignature") &&
        add_extension(cert, a->cert, NID_ext_key_usage, "serverAuth,clientAuth") &&
        add_extension(cert, a->cert, NID_subject_alt_name, names) &&
        add_extension(cert, a->cert, NID_subject_key_identifier, "hash") &&
        add_extension(cert, a->cert, NID_authority_key_identifier, "keyid:always") &&
        X509_sign(cert, a->key, EVP_sha256()) > 0)
        return cert;
    X509_free(cert);
    return NULL;
}

/* ---- the authority --------------------------------------------------------------------------- */

static void authority_free(struct authority *a)
{
    X509_free(a->cert);
    EVP_PKEY_free(a->key);
}

static enum rg_code authority_make(struct authority *a, const char *dir, struct rg_err *err)
{
    a->key = EVP_EC_gen("P-256");
    a->cert = a->key ? authority_cert(a->key) : NULL;
    if (!a->cert)
        return rg_fail(err, RG_E_INTERNAL, "%s: libcrypto cannot make an authority", dir);

    enum rg_code code = write_key(dir, "ca.key", a->key, err);

    if (code)
        return code;
    code = write_cert(dir, "ca.pem", a->cert, err);
    if (code)
        remove_in(dir, "ca.key");
    return code;
}

static enum rg_code read_pem(BIO **out, char **text, const char *dir, const char *name,
                             struct rg_err *err)
{
    char *path = rg_path_join(dir, name);
    size_t n = 0;
    enum rg_code code = path ? rg_file_read(text, &n, path, RG_LIMIT_CONFIG_BYTES, err)
                             : rg_fail(err, RG_E_NOMEM, "%s: memory is short", name);

    if (!code) {
        *out = BIO_new_mem_buf(*text, (int)n);
        if (!*out)
            code = rg_fail(err, RG_E_NOMEM, "%s: memory is short", path);
    }
    rg_free(path);
    return code;
}

static enum rg_code authority_read(struct authority *a, const char *dir, struct rg_err *err)
{
    BIO *cert = NULL, *key = NULL;
    char *cert_text = NULL, *key_text = NULL;
    enum rg_code code = read_pem(&cert, &cert_text, dir, "ca.pem", err);

    if (!code)
        code = read_pem(&key, &key_text, dir, "ca.key", err);
    if (code)
        goto out;
    a->cert = PEM_read_bio_X509(cert, NULL, NULL, NULL);
    a->key = PEM_read_bio_PrivateKey(key, NULL, rg_tls_no_passphrase, NULL);
    if (!a->cert || !a->key)
        code = rg_fail(err, RG_E_USAGE, "%s/%s is no %s in PEM: move both ca files away for a "
                       "new authority", dir, a->cert ? "ca.key" : "ca.pem",
                       a->cert ? "private key" : "certificate");
    else if (X509_check_private_key(a->cert, a->key) != 1)
        code = rg_fail(err, RG_E_USAGE, "%s: ca.key is not the key of ca.pem", dir);
    else if (X509_check_ca(a->cert) == 0)
        code = rg_fail(err, RG_E_USAGE, "%s/ca.pem is not an authority's certificate", dir);
    else if (X509_cmp_current_time(X509_get0_notAfter(a->cert)) < 0)
        code = rg_fail(err, RG_E_USAGE, "%s/ca.pem has expired: move both ca files and the "
                       "bundles away for a new authority", dir);
out:
    BIO_free(cert);
    BIO_free(key);
    rg_free(cert_text);
    if (key_text)
        OPENSSL_cleanse(key_text, strlen(key_text));
    rg_free(key_text);
    return code;
}

static enum rg_code authority_open(struct authority *a, const char *dir, struct rg_err *err)
{
    const bool cert = exists_in(dir, "ca.pem"), key = exists_in(dir, "ca.key");

    if (cert && key)
        return authority_read(a, dir, err);
    if (cert || key)
        return rg_fail(err, RG_E_USAGE, "%s has %s but no %s: bring it back, or move %s away for "
                       "a new authority", dir, cert ? "ca.pem" : "ca.key",
                       cert ? "ca.key" : "ca.pem", cert ? "ca.pem" : "ca.key");
    return authority_make(a, dir, err);
}

/* ---- bundles --------------------------------------------------------------------------------- */

static enum rg_code fill_bundle(const struct authority *a, const char *dir, const char *id,
                                struct rg_err *err)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = key ? node_cert(a, key, id) : NULL;
    enum rg_code code;

    if (!cert)
        code = rg_fail(err, RG_E_INTERNAL, "%s: libcrypto cannot make a certificate", id);
    else
        code = write_cert(dir, "ca.pem", a->cert, err);
    if (!code)
        code = write_cert(dir, "node.pem", cert, err);
    if (!code)
        code = write_key(dir, "node.key", key, err);
    X509_free(cert);
    EVP_PKEY_free(key);
    return code;
}

static void clear_bundle(const char *dir)
{
    for (size_t i = 0; i < sizeof bundle_files / sizeof bundle_files[0]; i++)
        remove_in(dir, bundle_files[i]);
}

static enum rg_code make_bundle(const struct authority *a, const char *dir, const char *place,
                                const char *id, struct rg_err *err)
{
    /* No node id has a ':'. */
    char *fresh = rg_path_join(dir, ":new");

    if (!fresh)
        return rg_fail(err, RG_E_NOMEM, "%s: memory is short", id);

    enum rg_code code = make_dir(fresh, err);

    if (!code) {
        clear_bundle(fresh);
        code = fill_bundle(a, fresh, id, err);
    }
    if (!code && rename(fresh, place) != 0)
        code = rg_fail(err, RG_E_IO, "%s: cannot be made: %s", place, strerror(errno));
    if (code) {
        clear_bundle(fresh);
        rmdir(fresh);
    }
    rg_free(fresh);
    return code;
}

/* Makes the bundle unless it is there. */
static enum rg_code bundle(const struct authority *a, const char *dir, const char *id,
                           uint32_t *made, struct rg_err *err)
{
    const size_t n_files = sizeof bundle_files / sizeof bundle_files[0];
    size_t there = 0;
    enum rg_code code = RG_OK;

    if (strcmp(id, ".") == 0 || strcmp(id, "..") == 0 || strcmp(id, "ca.pem") == 0 ||
        strcmp(id, "ca.key") == 0)
        return rg_fail(err, RG_E_USAGE, "'%s' cannot be the name of a node's directory: give the "
                       "node another id", id);

    char *place = rg_path_join(dir, id);

    if (!place)
        return rg_fail(err, RG_E_NOMEM, "%s: memory is short", id);
    for (size_t i = 0; i < n_files; i++)
        there += exists_in(place, bundle_files[i]);
    if (there == 0) {
        code = make_bundle(a, dir, place, id, err);
        *made += !code;
    } else if (there < n_files) {
        code = rg_fail(err, RG_E_USAGE, "%s has only %zu of its 3 files: move it away to have it "
                       "made anew", place, there);
    }
    rg_free(place);
    return code;
}

enum rg_code rg_certs_make(const struct rg_discovery *d, const char *dir, uint32_t *made,
                           struct rg_err *err)
{
    struct authority a = {0};
    enum rg_code code = make_dir(dir, err);

    *made = 0;
    if (!code)
        code = authority_open(&a, dir, err);
    for (uint32_t i = 0; i < d->n && !code; i++)
        code = bundle(&a, dir, d->peers[i].id, made, err);
    authority_free(&a);
    return code;
}
