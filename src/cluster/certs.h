/* certs.h - the cluster's certificates: a private authority and one bundle per node.
 *
 *   DIR/ca.pem, ca.key            the authority; ca.key stays with the operator
 *   DIR/NODE/{ca.pem,node.pem,node.key}   what is copied to a node; given as --tls-dir
 * A node's certificate has the node id as DNS name among its alternative names, serves both as
 * client and as server, and lasts 10 years; keys are EC P-256, files 0600.
 * An authority that is there already is used again: a node can be added later.  No file is
 * overwritten. */
#ifndef RG_CLUSTER_CERTS_H
#define RG_CLUSTER_CERTS_H

#include "base/err.h"
#include "cluster/discovery.h"

/* *made counts the new bundles. */
RG_CHECKED enum rg_code rg_certs_make(const struct rg_discovery *d, const char *dir, uint32_t *made,
                                      struct rg_err *err);

#endif
