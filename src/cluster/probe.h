/* probe.h - measures the way to a peer over the real gRPC path: `renga doctor`.
 *
 * The accepting side is in every running daemon; the measuring side blocks and is for a program of
 * its own. */
#ifndef RG_CLUSTER_PROBE_H
#define RG_CLUSTER_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "cluster/message.h"
#include "cluster/transport.h"

/* Answers probes: for the transport's on_accept. */
bool rg_probe_accept(struct rg_link *l, struct rg_link_events *events, void **ud);

struct rg_probe_result {
    char build[RG_SHORT_TEXT_BYTES];
    int64_t rtt_ns, rtt_p99_ns;      /* median and p99 of 100 small ones */
    int64_t hop_ns;                  /* half the median of 100 of 28 KB there and back */
    double send_bytes_s, receive_bytes_s; /* over `bulk_bytes` each */
    int64_t clock_ahead_ms;          /* the peer's wall clock against ours */
};

/* RG_E_PEER: why it is not reachable. */
RG_CHECKED enum rg_code rg_probe_run(struct rg_probe_result *out, struct rg_transport *t,
                                     const char *id, const char *address, uint16_t port,
                                     uint64_t bulk_bytes, struct rg_err *err);

#endif
