/* auth.h - who may use the API: its keys, and on loopback the names of this machine.
 *
 * Keys are compared in a time that does not depend on how much of one is right, nor on which one of
 * them it is.
 * Loopback   a web page may have its own name resolve to 127.0.0.1 (DNS rebinding) and so reach a
 *            server that is meant for this machine's programs; its Host or Origin gives it away.
 * Limits     a key has 8 to 256 bytes; 1024 keys. */
#ifndef RG_API_AUTH_H
#define RG_API_AUTH_H

#include <stdbool.h>
#include <stddef.h>

#include "api/http_parse.h"
#include "base/err.h"

enum { RG_KEY_BYTES_MAX = 256 };

struct rg_key {
    char   bytes[RG_KEY_BYTES_MAX]; /* padded with zeros */
    size_t len;
};

struct rg_auth {
    struct rg_key *keys; /* owned */
    size_t         n_keys, capacity;
};

/* One key per line; empty lines and lines that begin with # are skipped. */
RG_CHECKED enum rg_code rg_auth_load(struct rg_auth *a, const char *path, struct rg_err *err);
void rg_auth_free(struct rg_auth *a);

/* True when there are no keys, or the request has one of them as "Authorization: Bearer KEY". */
bool rg_auth_allows(const struct rg_auth *a, const struct rg_http_request *r);

/* NULL when fine, else what is wrong. */
const char *rg_auth_origin_fault(const struct rg_http_request *r, bool loopback);

#endif
