/* certs.h - `renga certs`: certificates for the nodes of a discovery.json. */
#ifndef RG_CLI_CERTS_H
#define RG_CLI_CERTS_H

#include "base/err.h"

/* Writes the authority and a bundle per node under dir, and says on stderr what to copy where. */
RG_CHECKED enum rg_code rg_certs(const char *discovery_path, const char *dir, struct rg_err *err);

#endif
