/* doctor.c - the order in which things are looked at, and the ways to the peers. */
#include "cli/doctor.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cli/doctor_state.h"

/* Enough to see a link's bandwidth, and less than a second of a fast one. */
enum { BULK_BYTES = 64 << 20, CLOCK_MS_MOST = 2000 };

void rg_doctor_say(struct rg_doctor *d, const char *name, enum rg_health health, const char *format,
                   ...)
{
    va_list args;

    if (d->n_checks == RG_CHECKS_MOST)
        return;

    struct rg_check *c = &d->checks[d->n_checks++];

    c->name = name;
    c->health = health;
    va_start(args, format);
    (void)vsnprintf(c->message, sizeof c->message, format, args);
    va_end(args);
}

/* ---- who is who ------------------------------------------------------------------------------ */

static void find_self(struct rg_doctor *d)
{
    const char *id = d->options->node_id;
    struct rg_err err = {.message = ""};
    uint32_t self = 0;

    d->self = -1;
    if (id) {
        d->self = rg_discovery_find(&d->ring, id);
        if (d->self < 0)
            (void)rg_fail(&err, RG_E_USAGE, "--node-id %.128s: %s has no such peer", id,
                          d->options->discovery);
    } else if (rg_discovery_self(&d->ring, &self, &err) == RG_OK) {
        d->self = (int32_t)self;
    }
    if (d->self < 0)
        rg_doctor_say(d, "discovery", RG_HEALTH_STOPS, "%s", err.message);
    else
        rg_doctor_say(d, "discovery", RG_HEALTH_OK, "%u nodes, the head is %s; this machine is %s",
                      (unsigned)d->ring.n, d->ring.peers[0].id, d->ring.peers[d->self].id);
}

static void check_address(struct rg_doctor *d)
{
    const struct rg_peer_info *p;
    struct rg_err err = {.message = ""};
    char name[RG_INTERFACE_BYTES];

    if (d->self < 0)
        return;
    p = &d->ring.peers[d->self];
    if (rg_address_check_local(p->address, &err) != RG_OK)
        rg_doctor_say(d, "address", RG_HEALTH_STOPS, "%s: correct it in %s, or give --node-id",
                      err.message, d->options->discovery);
    else if (rg_address_interface(name, sizeof name, p->address, &err) != RG_OK)
        rg_doctor_say(d, "address", RG_HEALTH_STOPS, "%s", err.message);
    else
        rg_doctor_say(d, "address", RG_HEALTH_OK, "%s is this machine's", p->address);
}

/* ---- the peers ------------------------------------------------------------------------------- */

static bool is_off_loopback(const struct rg_doctor *d)
{
    for (uint32_t i = 0; i < d->ring.n; i++) {
        if (!rg_address_is_loopback(d->ring.peers[i].address))
            return true;
    }
    return false;
}

static struct rg_transport *open_transport(struct rg_doctor *d)
{
    const struct rg_options *o = d->options;
    const struct rg_transport_options options = {
        .tls_dir = o->tls_dir, .node_id = d->self >= 0 ? d->ring.peers[d->self].id : "doctor"};
    struct rg_transport *t = NULL;
    struct rg_err err = {.message = ""};

    if (o->tls_dir && d->self < 0) {
        rg_doctor_say(d, "tls", RG_HEALTH_WARN,
                      "the peers are not asked: whose certificate %s has is not known", o->tls_dir);
        return NULL;
    }
    if (rg_transport_open(&t, &options, &err) != RG_OK) {
        rg_doctor_say(d, "tls", RG_HEALTH_STOPS, "%s", err.message);
        return NULL;
    }
    if (o->tls_dir)
        rg_doctor_say(d, "tls", RG_HEALTH_OK, "%s: certificates of the cluster %s", o->tls_dir,
                      rg_transport_cluster(t));
    else if (o->insecure_peers || !is_off_loopback(d))
        rg_doctor_say(d, "tls", RG_HEALTH_OK, "plain connections%s",
                      o->insecure_peers ? ", as asked for" : " on loopback");
    else
        rg_doctor_say(d, "tls", RG_HEALTH_STOPS,
                      "peers on other hosts need certificates: run `renga certs "
                      "--discovery-config-path %s --out certs`, and give --tls-dir here too; or "
                      "trust the network with --insecure-peers",
                      o->discovery);
    return t;
}

/* What a hidden state takes to the peer, in the middle of the two sizes that were measured. */
static double hop_s(const struct rg_doctor *d, const struct rg_probe_result *way)
{
    const double empty = (double)way->rtt_ns / 2e9, measured = (double)way->hop_ns / 1e9;
    const double bytes = 4.0 * d->checkpoint->config.hidden_size;
    const double more = measured > empty ? measured - empty : 0;

    return empty + more * bytes / (28 << 10);
}

static void ask_peer(struct rg_doctor *d, struct rg_transport *t, const struct rg_peer_info *info)
{
    struct rg_doctor_peer *p = &d->peers[d->n_peers++];
    struct rg_err err = {.message = ""};

    *p = (struct rg_doctor_peer){.info = info, .token_loss = -1};
    if (rg_address_interface(p->interface, sizeof p->interface, info->address, &err) != RG_OK) {
        p->interface[0] = '\0';
        (void)snprintf(p->reason, sizeof p->reason, "%s", err.message);
        return;
    }
    if (!t) {
        (void)snprintf(p->reason, sizeof p->reason, "not asked: see tls");
        return;
    }
    p->reachable =
        rg_probe_run(&p->way, t, info->id, info->address, info->port, BULK_BYTES, &err) == RG_OK;
    if (!p->reachable)
        (void)snprintf(p->reason, sizeof p->reason, "%s", err.message);
    else if (d->checkpoint && d->token_s > 0)
        p->token_loss = hop_s(d, &p->way) / (d->token_s + hop_s(d, &p->way));
}

static void compare_peers(struct rg_doctor *d)
{
    for (uint32_t i = 0; i < d->n_peers; i++) {
        const struct rg_doctor_peer *p = &d->peers[i];
        const int64_t ahead = p->way.clock_ahead_ms;

        if (!p->reachable)
            continue;
        if (strcmp(p->way.build, "renga " RENGA_VERSION) != 0)
            rg_doctor_say(d, "version", RG_HEALTH_WARN,
                          "%s runs %s, this is renga %s: install one version everywhere",
                          p->info->id, p->way.build, RENGA_VERSION);
        if (ahead > CLOCK_MS_MOST || ahead < -CLOCK_MS_MOST)
            rg_doctor_say(d, "clock", RG_HEALTH_WARN,
                          "the clock of %s is %.1f s %s: let both set it by a time server (logs do "
                          "not fit together, certificates may seem expired)",
                          p->info->id, (double)(ahead < 0 ? -ahead : ahead) / 1e3,
                          ahead > 0 ? "ahead" : "behind");
    }
}

static void ask_peers(struct rg_doctor *d)
{
    struct rg_transport *t = open_transport(d);

    for (uint32_t i = 0; i < d->ring.n; i++) {
        if ((int32_t)i != d->self)
            ask_peer(d, t, &d->ring.peers[i]);
    }
    rg_transport_close(t);
    compare_peers(d);
}

/* ---- the command ----------------------------------------------------------------------------- */

static enum rg_code sum_up(const struct rg_doctor *d, struct rg_err *err)
{
    const char *lost = NULL, *bad = NULL;
    uint32_t n_lost = 0, n_bad = 0;

    for (uint32_t i = 0; i < d->n_peers; i++) {
        if (!d->peers[i].reachable && n_lost++ == 0)
            lost = d->peers[i].info->id;
    }
    for (uint32_t i = 0; i < d->n_checks; i++) {
        if (d->checks[i].health == RG_HEALTH_STOPS && n_bad++ == 0)
            bad = d->checks[i].name;
    }
    if (n_lost > 0)
        return rg_fail(err, RG_E_PEER, "doctor: %s%s not reachable: see above", lost,
                       n_lost > 1 ? " and others are" : " is");
    if (n_bad > 0)
        return rg_fail(err, RG_E_IO, "doctor: %s%s would stop the ring: see above", bad,
                       n_bad > 1 ? " and others" : "");
    return RG_OK;
}

static void free_doctor(struct rg_doctor *d)
{
    for (uint32_t i = 0; i < d->n_files; i++) {
        rg_free(d->files[i].path);
        rg_free(d->files[i].key);
    }
    rg_free(d->files);
    rg_checkpoint_close(d->checkpoint);
    rg_discovery_free(&d->ring);
    rg_free(d);
}

enum rg_code rg_doctor(const struct rg_options *o, struct rg_err *err)
{
    struct rg_doctor *d;
    enum rg_code code;

    if (!o->discovery)
        return rg_fail(err, RG_E_USAGE,
                       "doctor: the nodes are missing: give --discovery-config-path FILE");
    d = rg_calloc(1, sizeof *d);
    if (!d)
        return rg_fail(err, RG_E_NOMEM, "doctor: no memory");
    d->options = o;
    code = rg_discovery_read(&d->ring, o->discovery, err);
    if (!code) {
        find_self(d);
        check_address(d);
        code = rg_doctor_check_files(d, err);
    }
    if (!code) {
        ask_peers(d);
        rg_doctor_check_machine(d);
        code = rg_doctor_print(d, err);
    }
    if (!code)
        code = sum_up(d, err);
    free_doctor(d);
    return code;
}
