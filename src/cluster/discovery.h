/* discovery.h - the nodes that may form a ring, from exo's manual JSON file.
 *
 *   {"peers": {"ID": {"address": "10.0.2.1", "port": 50051, "head": true,
 *                     "device_capabilities": {"model": "...", "chip": "...", "memory": 196608,
 *                                             "flops": {"fp32": 26.98, ...}}}}}
 *
 * memory is in MiB.  flops are checked and not used.  Unknown keys are allowed: other programs read
 * the file too.  Ids match ^[A-Za-z0-9._-]{1,128}$.
 * Order      the head first ("head": true, else the first of the file), then as in the file.  This
 *            is the order of the peers' numbers everywhere in cluster/.
 * Failure    RG_E_USAGE: no such file; RG_E_BAD_DATA: what is wrong, and where. */
#ifndef RG_CLUSTER_DISCOVERY_H
#define RG_CLUSTER_DISCOVERY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct rg_peer_info {
    char *id, *address; /* owned; the address is a literal IPv4 or IPv6 one, or a host name */
    uint16_t port;
    char *model, *chip; /* owned; NULL when not given */
    uint64_t memory_bytes;
};

struct rg_discovery {
    struct rg_peer_info *peers; /* owned [n]; peers[0] is the head */
    uint32_t n;
};

RG_CHECKED enum rg_code rg_discovery_read(struct rg_discovery *out, const char *path,
                                          struct rg_err *err);
/* As above, from text; `name` begins the messages. */
RG_CHECKED enum rg_code rg_discovery_parse(struct rg_discovery *out, const char *text, size_t len,
                                           const char *name, struct rg_err *err);
void rg_discovery_free(struct rg_discovery *d);

/* The number of a peer, or -1. */
int32_t rg_discovery_find(const struct rg_discovery *d, const char *id);

/* Which peer this machine is when no --node-id was given: the one whose address is local.
 * RG_E_USAGE when that is none or several. */
RG_CHECKED enum rg_code rg_discovery_self(const struct rg_discovery *d, uint32_t *self,
                                          struct rg_err *err);

/* RG_E_PEER when the address belongs to no interface of this machine; the message lists those that
 * do.  A host name is resolved first. */
RG_CHECKED enum rg_code rg_address_check_local(const char *address, struct rg_err *err);
bool rg_address_is_loopback(const char *address);

/* The interface that carries packets to an address ("bridge0", "en0", "lo"), by asking the routing
 * table through a connected datagram socket.  RG_E_PEER: there is no route. */
RG_CHECKED enum rg_code rg_address_interface(char *name, size_t size, const char *address,
                                             struct rg_err *err);

#endif
