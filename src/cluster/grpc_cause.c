/* grpc_cause.c - gRPC's many words for a failure, as one line that a person can act on. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include <grpc/support/log.h>

#include "base/clock.h"
#include "base/log.h"
#include "cluster/grpc_core.h"

struct cause {
    const char *sign; /* in gRPC's text */
    const char *line;
};

static const char silence[] = "it does not answer any more (keepalive)";

/* In this order: a refused connection's text also says "failed to connect". */
static const struct cause causes[] = {
    {"Connection refused", "connection refused: is renga running there, on this port?"},
    {"No route to host",
#ifdef __APPLE__
     "no route to host: macOS may be withholding Local Network access: allow it for renga in "
     "System Settings > Privacy & Security > Local Network"},
#else
     "no route to host"},
#endif
    {"Network is unreachable", "network is unreachable"},
    {"Host is down", "host is down"},
    {"Connection timed out", "no answer to the connection"},
    {"CERTIFICATE_VERIFY_FAILED",
     "TLS: certificate verify failed: it is not of this cluster's authority, or has expired"},
    {"certificate verify failed",
     "TLS: certificate verify failed: it is not of this cluster's authority, or has expired"},
    {"Hostname Verification Check failed", "TLS: its certificate is not this node's"},
    {"Peer name", "TLS: its certificate is not this node's"},
    {"wrong version number", "TLS: it answers without TLS: one side has certificates (--tls-dir), "
                             "the other has none"},
    {"Cannot check peer", "TLS: its certificate cannot be checked"},
    {"DNS resolution failed", "its host name cannot be resolved"},
    {"too_many_pings", "it ended the connection: too many pings"},
    {"keepalive watchdog timeout", silence},
    {"ping timeout", silence},
};

static const char *known_cause(const char *text)
{
    for (size_t i = 0; i < sizeof causes / sizeof causes[0]; i++)
        if (strstr(text, causes[i].sign))
            return causes[i].line;
    return NULL;
}

/* Text from a peer, fit for one line. */
static void clean(char *out, size_t size, const char *text)
{
    size_t n = 0;

    for (; *text && n + 1 < size; text++)
        out[n++] = (unsigned char)*text < 0x20 || *text == 0x7f ? ' ' : *text;
    out[n] = '\0';
}

static const char *silent_cause(bool opened, bool tls)
{
    if (opened)
        return "the connection was lost";
    if (tls)
        return "it ended the connection in the TLS handshake: it may not know this node's "
               "authority, or runs without TLS; its log says more";
    return "it ended the connection at once: it may want TLS, or is not renga";
}

enum rg_code rg_grpc_cause(struct rg_err *err, const char *peer, grpc_status_code status,
                           const char *text, bool opened, bool tls)
{
    char line[256];
    const char *known = status == GRPC_STATUS_UNAVAILABLE || status == GRPC_STATUS_UNKNOWN
                            ? known_cause(text)
                            : NULL;

    if (known == silence && !opened)
        known = "no answer to the connection";
    clean(line, sizeof line, text);
    switch (status) {
    case GRPC_STATUS_OK:
        return RG_OK;
    case GRPC_STATUS_UNAVAILABLE:
        return rg_fail(err, RG_E_PEER, "%s: %s", peer, known ? known : silent_cause(opened, tls));
    case GRPC_STATUS_PERMISSION_DENIED:
        return rg_fail(err, RG_E_PEER, "%s: it refuses this node's link (%s): is this node in its "
                       "discovery.json?", peer, line);
    case GRPC_STATUS_UNIMPLEMENTED:
        return rg_fail(err, RG_E_PEER, "%s: it does not speak this protocol (%s)", peer, line);
    case GRPC_STATUS_RESOURCE_EXHAUSTED:
        return rg_fail(err, RG_E_LIMIT, "%s: over a limit: %s", peer, line);
    case GRPC_STATUS_ABORTED:
        return rg_fail(err, RG_E_PEER, "%s: it ended the link: %s", peer, line);
    default:
        return rg_fail(err, RG_E_PEER, "%s: %s", peer,
                       known ? known : line[0] ? line : silent_cause(opened, tls));
    }
}

/* Some lines at once, then two a minute: neither a port scan nor a peer that tries for ever must
 * fill the disk.  The rest is dropped. */
static bool may_log(void)
{
    enum { AT_ONCE = 6, AGAIN_MS = 30000 };
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static int64_t full_ms; /* when there would be AT_ONCE again */
    const int64_t now = rg_clock_ms();
    bool may;

    pthread_mutex_lock(&lock);
    if (full_ms < now)
        full_ms = now;
    may = full_ms - now <= (AT_ONCE - 1) * (int64_t)AGAIN_MS;
    if (may)
        full_ms += AGAIN_MS;
    pthread_mutex_unlock(&lock);
    return may;
}

/* What OpenSSL finds wrong comes with its reason.  A peer that does not like this node's
 * certificate just closes: of that gRPC speaks at its level of debugging alone. */
static bool says_tls(const gpr_log_func_args *args, char *said, size_t size)
{
    static const char key[] = "target_address:\"";
    const char *at = strstr(args->message, key);
    char line[256];

    if (args->severity == GPR_LOG_SEVERITY_ERROR && strstr(args->message, "andshake failed")) {
        clean(line, sizeof line, args->message);
        (void)snprintf(said, size, "a peer stays out: TLS: %s", line);
        return true;
    }
    if (!strstr(args->message, "Handshaking failed") || !strstr(args->message, "Socket closed"))
        return false;
    clean(line, sizeof line, at ? at + sizeof key - 1 : "?");
    line[strcspn(line, "\"")] = '\0';
    (void)snprintf(said, size,
                   "a peer stays out: TLS: %s ended the handshake: it may not know this node's "
                   "authority, or speak no TLS; its log says more", line);
    return true;
}

static atomic_uint accepts_failed;

unsigned rg_grpc_accepts_failed(void)
{
    return atomic_load(&accepts_failed);
}

static void on_grpc_log(gpr_log_func_args *args)
{
    const char *slash = strrchr(args->file, '/');
    char said[RG_ERR_BYTES];

    /* gRPC 1.51 tells nobody else that it will accept no more; later ones go on by themselves. */
    if (strncmp(args->message, "Failed accept", 13) == 0)
        atomic_fetch_add(&accepts_failed, 1);
    if (says_tls(args, said, sizeof said)) {
        if (may_log())
            rg_log(RG_LOG_WARN, "peer", said, "what=tls-handshake");
    } else if (args->severity == GPR_LOG_SEVERITY_ERROR) {
        clean(said, sizeof said, args->message);
        rg_log(RG_LOG_DEBUG, "grpc", said, "at=%s:%d", slash ? slash + 1 : args->file, args->line);
    }
}

void rg_grpc_log_setup(void)
{
    gpr_set_log_function(on_grpc_log);
    gpr_set_log_verbosity(GPR_LOG_SEVERITY_DEBUG);
}
