/* address.c - what this machine's network says about an address: is it ours, and which interface
 * carries packets there. */
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cluster/discovery.h"

/* Port of a datagram that is never sent: connect() only asks the routing table. */
enum { DISCARD_PORT = 9, LIST_BYTES = 256 };

/* All addresses of a literal or a host name, for datagrams; freeaddrinfo() frees them. */
static enum rg_code resolve(struct addrinfo **out, const char *address, struct rg_err *err)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_DGRAM};
    const int rc = getaddrinfo(address, NULL, &hints, out);

    if (rc != 0)
        return rg_fail(err, RG_E_PEER, "%s: no such address or host: %s", address,
                       gai_strerror(rc));
    return RG_OK;
}

static bool same_address(const struct sockaddr *a, const struct sockaddr *b)
{
    if (!a || !b || a->sa_family != b->sa_family)
        return false;
    if (a->sa_family == AF_INET)
        return ((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr ==
               ((const struct sockaddr_in *)(const void *)b)->sin_addr.s_addr;
    if (a->sa_family == AF_INET6)
        return memcmp(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr,
                      &((const struct sockaddr_in6 *)(const void *)b)->sin6_addr,
                      sizeof(struct in6_addr)) == 0;
    return false;
}

static bool is_loopback(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const void *)a;

        return ntohl(v4->sin_addr.s_addr) >> 24 == 127;
    }
    if (a->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const void *)a;

        return IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
    }
    return false;
}

bool rg_address_is_loopback(const char *address)
{
    struct addrinfo *all;
    bool loopback = true;

    if (resolve(&all, address, NULL) != RG_OK)
        return false;
    for (const struct addrinfo *a = all; a; a = a->ai_next)
        loopback = loopback && is_loopback(a->ai_addr);
    freeaddrinfo(all);
    return loopback;
}

/* An address is this machine's when a socket can be bound to it: that also knows 127.0.0.2, which
 * no interface lists. */
static bool can_bind(const struct addrinfo *a)
{
    const int fd = socket(a->ai_family, a->ai_socktype, a->ai_protocol);
    bool bound;

    if (fd < 0)
        return false;
    bound = bind(fd, a->ai_addr, a->ai_addrlen) == 0;
    close(fd);
    return bound;
}

static bool any_is_local(const struct addrinfo *all)
{
    for (const struct addrinfo *a = all; a; a = a->ai_next)
        if (can_bind(a))
            return true;
    return false;
}

/* "127.0.0.1 on lo, 10.0.2.1 on bridge0": as many as fit. */
static void list_addresses(char *list, size_t size)
{
    struct ifaddrs *all;
    size_t n = 0;

    list[0] = '\0';
    if (getifaddrs(&all) != 0)
        return;
    for (const struct ifaddrs *i = all; i; i = i->ifa_next) {
        char host[64], item[128];

        if (!i->ifa_addr ||
            (i->ifa_addr->sa_family != AF_INET && i->ifa_addr->sa_family != AF_INET6))
            continue;

        const socklen_t len = i->ifa_addr->sa_family == AF_INET ? sizeof(struct sockaddr_in)
                                                                : sizeof(struct sockaddr_in6);

        if (getnameinfo(i->ifa_addr, len, host, sizeof host, NULL, 0, NI_NUMERICHOST) != 0)
            continue;

        const int m =
            snprintf(item, sizeof item, "%s%s on %.32s", n > 0 ? ", " : "", host, i->ifa_name);

        if (m < 0 || (size_t)m >= sizeof item || n + (size_t)m >= size)
            break;
        memcpy(list + n, item, (size_t)m + 1);
        n += (size_t)m;
    }
    freeifaddrs(all);
}

enum rg_code rg_address_check_local(const char *address, struct rg_err *err)
{
    struct addrinfo *all;
    char list[LIST_BYTES];
    enum rg_code code = resolve(&all, address, err);

    if (code)
        return code;

    const bool local = any_is_local(all);

    freeaddrinfo(all);
    if (local)
        return RG_OK;
    list_addresses(list, sizeof list);
    return rg_fail(err, RG_E_PEER,
                   "%s: not an address of this machine, which has %s: set up the interface, or "
                   "correct the address in discovery.json",
                   address, list[0] ? list : "none");
}

enum rg_code rg_discovery_self(const struct rg_discovery *d, uint32_t *self, struct rg_err *err)
{
    uint32_t found = UINT32_MAX;
    char list[LIST_BYTES];

    for (uint32_t i = 0; i < d->n; i++) {
        if (rg_address_check_local(d->peers[i].address, NULL) != RG_OK)
            continue;
        if (found != UINT32_MAX)
            return rg_fail(err, RG_E_USAGE,
                           "--node-id: \"%s\" and \"%s\" both have an address of this machine: "
                           "say which of them this node is",
                           d->peers[found].id, d->peers[i].id);
        found = i;
    }
    if (found == UINT32_MAX) {
        list_addresses(list, sizeof list);
        return rg_fail(err, RG_E_USAGE,
                       "--node-id: no peer of discovery.json has an address of this machine, which "
                       "has %s: correct an address, or say which of them this node is",
                       list[0] ? list : "none");
    }
    *self = found;
    return RG_OK;
}

/* The name of the interface with this address, or of the first loopback one when a is NULL. */
static bool find_interface(char *name, size_t size, const struct sockaddr *a)
{
    struct ifaddrs *all;
    bool found = false;

    if (getifaddrs(&all) != 0)
        return false;
    for (const struct ifaddrs *i = all; i && !found; i = i->ifa_next) {
        found = a ? same_address(i->ifa_addr, a) : (i->ifa_flags & IFF_LOOPBACK) != 0;
        if (found)
            (void)snprintf(name, size, "%s", i->ifa_name);
    }
    freeifaddrs(all);
    return found;
}

/* The own address that packets to `to` would have; errno says why not. */
static bool source_address(struct sockaddr_storage *source, const struct addrinfo *to)
{
    struct sockaddr_storage port_set;
    socklen_t len = sizeof *source;
    const int fd = socket(to->ai_family, to->ai_socktype, to->ai_protocol);
    int why;

    if (fd < 0)
        return false;
    memcpy(&port_set, to->ai_addr, to->ai_addrlen);
    if (to->ai_family == AF_INET)
        ((struct sockaddr_in *)&port_set)->sin_port = htons(DISCARD_PORT);
    else
        ((struct sockaddr_in6 *)&port_set)->sin6_port = htons(DISCARD_PORT);

    const bool ok = connect(fd, (struct sockaddr *)&port_set, to->ai_addrlen) == 0 &&
                    getsockname(fd, (struct sockaddr *)source, &len) == 0;

    why = errno;
    close(fd);
    errno = why;
    return ok;
}

enum rg_code rg_address_interface(char *name, size_t size, const char *address, struct rg_err *err)
{
    struct addrinfo *all;
    struct sockaddr_storage source;
    const struct sockaddr *own = (const struct sockaddr *)&source;
    int why = 0;
    bool found = false;
    enum rg_code code = resolve(&all, address, err);

    if (code)
        return code;
    for (const struct addrinfo *a = all; a && !found; a = a->ai_next) {
        if (!source_address(&source, a)) {
            why = errno;
            continue;
        }
        /* Packets to an own address stay on the loopback interface. */
        found = find_interface(name, size, is_loopback(own) || can_bind(a) ? NULL : own);
    }
    freeaddrinfo(all);
    if (found)
        return RG_OK;
    return rg_fail(err, RG_E_PEER, "%s: no route: %s: check cable, interface and address", address,
                   why ? strerror(why) : "no interface has the address that packets start from");
}
