/* tls.h - the certificates of one node, read and checked.
 *
 *   DIR/ca.pem      the cluster's authority
 *   DIR/node.pem    this node's certificate: signed by it, with the node id among its names
 *   DIR/node.key    its key; only its owner should be able to read it
 * Failure    RG_E_USAGE: which file, what is wrong with it, what to do. */
#ifndef RG_CLUSTER_TLS_H
#define RG_CLUSTER_TLS_H

#include <stdbool.h>

#include "base/err.h"

enum { RG_TLS_CLUSTER_BYTES = 16 };

struct rg_tls {
    char *ca, *cert, *key;                  /* owned, PEM */
    char cluster[RG_TLS_CLUSTER_BYTES + 1]; /* hex digits of the authority's SHA-256 */
};

/* Logs a warning when others can read the key. */
RG_CHECKED enum rg_code rg_tls_read(struct rg_tls *out, const char *dir, const char *node_id,
                                    struct rg_err *err);
void rg_tls_free(struct rg_tls *t);

/* One of a certificate's names (separated by '\n') is the id, exactly. */
bool rg_tls_names_have(const char *names, const char *id);

/* For OpenSSL's readers: a key with a passphrase is not for a daemon, which asks nobody. */
int rg_tls_no_passphrase(char *buf, int size, int writing, void *ud);

#endif
