/* doctor_machine.c - memory, interfaces, routes and the clock of this machine. */
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/timex.h>
#ifdef __APPLE__
#include <sys/sysctl.h>
#endif

#include "base/file.h"
#include "base/host_memory.h"
#include "cli/doctor_state.h"
#include "cluster/plan.h"

/* For documentation (RFC 5737): nobody has it, so the default route carries it.  Nothing is sent.
 */
static const char elsewhere[] = "192.0.2.1";

static const double gib = 1024.0 * 1024 * 1024;

/* ---- memory ---------------------------------------------------------------------------------- */

/* The plan gives a node up to 0.9 of what it claims; the node itself refuses what it has not. */
static void check_memory(struct rg_doctor *d)
{
    const uint64_t measured = rg_host_memory_bytes();
    struct rg_plan_part part = {.n_layers = 1};
    struct rg_err err = {.message = ""};
    uint64_t claimed;

    if (d->self < 0)
        return;
    claimed = d->ring.peers[d->self].memory_bytes;
    part.weight_bytes = claimed - claimed / 10;
    if (measured == 0)
        rg_doctor_say(d, "memory", RG_HEALTH_WARN, "this machine does not tell its memory");
    else if (rg_plan_check_own(&part, measured, false, &err) != RG_OK)
        rg_doctor_say(d, "memory", part.weight_bytes > measured ? RG_HEALTH_STOPS : RG_HEALTH_WARN,
                      "discovery.json claims %.1f GiB, this machine has %.1f GiB: a part that "
                      "fills it is refused; set \"memory\" to what is there, less what else runs",
                      (double)claimed / gib, (double)measured / gib);
    else
        rg_doctor_say(d, "memory", RG_HEALTH_OK,
                      "discovery.json claims %.1f GiB, this machine has %.1f GiB",
                      (double)claimed / gib, (double)measured / gib);
}

static void check_wired_limit(struct rg_doctor *d)
{
#ifdef __APPLE__
    uint32_t limit = 0;
    size_t size = sizeof limit;

    if (sysctlbyname("iogpu.wired_limit_mb", &limit, &size, NULL, 0) == 0)
        rg_doctor_say(d, "wired limit", RG_HEALTH_OK,
                      "iogpu.wired_limit_mb is %" PRIu32 "%s; it binds GPU backends, weights that "
                      "the CPU reads are not wired",
                      limit, limit == 0 ? " (macOS decides)" : "");
#else
    (void)d;
#endif
}

/* ---- interfaces ------------------------------------------------------------------------------ */

#ifdef __linux__

static bool is_bridge(const char *name)
{
    char path[RG_INTERFACE_BYTES + 32];

    (void)snprintf(path, sizeof path, "/sys/class/net/%s/bridge", name);
    return rg_dir_exists(path);
}

/* -1: not known */
static int count_members(const char *name)
{
    char path[RG_INTERFACE_BYTES + 32];
    DIR *dir;
    int n = 0;

    (void)snprintf(path, sizeof path, "/sys/class/net/%s/brif", name);
    dir = opendir(path);
    if (!dir)
        return -1;
    for (const struct dirent *e = readdir(dir); e; e = readdir(dir))
        n += e->d_name[0] != '.';
    (void)closedir(dir);
    return n;
}

#else

static bool is_bridge(const char *name)
{
    return strncmp(name, "bridge", 6) == 0;
}

/* macOS has no public interface for it. */
static int count_members(const char *name)
{
    (void)name;
    return -1;
}

#endif

static void check_bridge(struct rg_doctor *d, const char *name)
{
    const int members = count_members(name);

    if (members > 2)
        rg_doctor_say(
            d, "bridge", RG_HEALTH_WARN,
            "%s has %d members: with cables in a circle every packet runs round for ever; "
            "keep the two that lead to peers, or give each cable a network of its own",
            name, members);
    else if (members >= 0)
        rg_doctor_say(d, "bridge", RG_HEALTH_OK, "%s has %d members", name, members);
    else
        rg_doctor_say(d, "bridge", RG_HEALTH_OK,
                      "%s: its members are not known to this program; `ifconfig %s` lists them, no "
                      "more than two should be active",
                      name, name);
}

static void check_default_route(struct rg_doctor *d, const char *name)
{
    char route[RG_INTERFACE_BYTES];
    struct rg_err err = {.message = ""};

    if (rg_address_interface(route, sizeof route, elsewhere, &err) != RG_OK)
        rg_doctor_say(d, "default route", RG_HEALTH_OK, "there is none");
    else if (strcmp(route, name) == 0)
        rg_doctor_say(d, "default route", RG_HEALTH_WARN,
                      "it leads over %s, the bridge to the peers: other traffic shares the link or "
                      "goes nowhere; take the router out of its settings, or put it last in the "
                      "order of services",
                      name);
    else
        rg_doctor_say(d, "default route", RG_HEALTH_OK, "it leads over %s, the peers are on %s",
                      route, name);
}

/* Each bridge that leads to a peer, once. */
static void check_bridges(struct rg_doctor *d)
{
    for (uint32_t i = 0; i < d->n_peers; i++) {
        const char *name = d->peers[i].interface;
        bool again = false;

        for (uint32_t k = 0; k < i; k++)
            again = again || strcmp(d->peers[k].interface, name) == 0;
        if (again || !name[0] || !is_bridge(name))
            continue;
        check_bridge(d, name);
        check_default_route(d, name);
    }
}

/* ---- time ------------------------------------------------------------------------------------ */

static void check_time(struct rg_doctor *d)
{
    struct timex t;

    memset(&t, 0, sizeof t); /* modes 0: asks */
    if (ntp_adjtime(&t) == TIME_ERROR)
        rg_doctor_say(d, "time", RG_HEALTH_WARN,
                      "no time server sets this clock: logs of several nodes do not fit together; "
                      "switch one on (timedatectl set-ntp true, or Settings > Date & Time)");
    else
        rg_doctor_say(d, "time", RG_HEALTH_OK, "a time server sets this clock");
}

void rg_doctor_check_machine(struct rg_doctor *d)
{
    check_memory(d);
    check_wired_limit(d);
    check_bridges(d);
    check_time(d);
}
