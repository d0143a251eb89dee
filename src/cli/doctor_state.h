/* doctor_state.h - what `renga doctor` has found out so far.
 *
 * Private to cli/doctor*.c: doctor.c asks the peers, doctor_machine.c looks at this machine,
 * doctor_files.c at the model, doctor_hashes.c remembers digests, doctor_report.c prints. */
#ifndef RG_CLI_DOCTOR_STATE_H
#define RG_CLI_DOCTOR_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "checkpoint/checkpoint.h"
#include "cli/options.h"
#include "cluster/discovery.h"
#include "cluster/file_digest.h"
#include "cluster/probe.h"

enum { RG_CHECKS_MOST = 32, RG_CHECK_BYTES = 640, RG_INTERFACE_BYTES = 64 };

enum rg_health {
    RG_HEALTH_OK,
    RG_HEALTH_WARN, /* worth knowing */
    RG_HEALTH_STOPS /* the ring will not form, or not work, like this */
};

struct rg_check {
    const char *name; /* of a literal */
    enum rg_health health;
    char message[RG_CHECK_BYTES];
};

struct rg_doctor_peer {
    const struct rg_peer_info *info;
    char interface[RG_INTERFACE_BYTES]; /* "" when there is no route */
    bool reachable;
    char reason[RG_ERR_BYTES]; /* when it is not */
    struct rg_probe_result way;
    double token_loss; /* share of a token's time that goes to this link; negative: unknown */
};

struct rg_doctor_file {
    char *path; /* owned */
    uint64_t bytes;
    char sha256[RG_SHA256_TEXT_BYTES];
    bool cached;
    char *key; /* owned: what it was like before it was hashed; NULL: not to be remembered */
};

struct rg_doctor {
    const struct rg_options *options;
    struct rg_discovery ring;
    int32_t self; /* -1: nobody knows */
    struct rg_check checks[RG_CHECKS_MOST];
    uint32_t n_checks;
    struct rg_doctor_peer peers[RG_LIMIT_PEERS]; /* without this machine */
    uint32_t n_peers;
    struct rg_checkpoint *checkpoint; /* owned; NULL without a model */
    double token_s;                   /* that the plan predicts without links; 0: unknown */
    char no_token_s[160];             /* why */
    struct rg_doctor_file *files;     /* owned; --deep */
    uint32_t n_files;
};

RG_PRINTF(4, 5)
void rg_doctor_say(struct rg_doctor *d, const char *name, enum rg_health health, const char *format,
                   ...);

/* doctor_machine.c */
void rg_doctor_check_machine(struct rg_doctor *d);

/* doctor_files.c; RG_E_NOMEM alone, everything else becomes a check. */
RG_CHECKED enum rg_code rg_doctor_check_files(struct rg_doctor *d, struct rg_err *err);

/* doctor_hashes.c: fills d->files for all shards. */
RG_CHECKED enum rg_code rg_doctor_hash_files(struct rg_doctor *d, struct rg_err *err);

/* doctor_report.c */
RG_CHECKED enum rg_code rg_doctor_print(const struct rg_doctor *d, struct rg_err *err);

#endif
