/* options.h - the flags of every command, from one table.
 *
 * A value comes from, in this order: the flag, RENGA_FLAG in the environment (--api-port is
 * RENGA_API_PORT), the JSON file of --config (keys are the long flags), the default below.
 * An unknown flag or key, a wrong value, or a flag that the command does not have is RG_E_USAGE.
 * Lifetime   strings are borrowed from argv, the environment, or owned by the options. */
#ifndef RG_CLI_OPTIONS_H
#define RG_CLI_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"

enum rg_command {
    RG_COMMAND_SERVE = 1 << 0,
    RG_COMMAND_RUN = 1 << 1,
    RG_COMMAND_INSPECT = 1 << 2,
    RG_COMMAND_BENCH = 1 << 3,
    RG_COMMAND_TOKENIZE = 1 << 4,
    RG_COMMAND_RENDER = 1 << 5,
    RG_COMMAND_EVAL = 1 << 6,
    RG_COMMAND_VERSION = 1 << 7,
    RG_COMMAND_HELP = 1 << 8,
    RG_COMMAND_PLAN = 1 << 9,
    RG_COMMAND_STATUS = 1 << 10,
    RG_COMMAND_DOCTOR = 1 << 11,
    RG_COMMAND_CERTS = 1 << 12,
    RG_COMMAND_SERVICE = 1 << 13
};

struct rg_options {
    enum rg_command command;
    bool help;         /* --help after a command */
    const char *model; /* the positional argument, or --default-model */

    const char *config, *registry;
    const char *log_level, *log_format, *log_file;

    const char *api_host, *api_key_file;
    int64_t api_port;
    bool insecure_api;

    /* the ring */
    const char *discovery, *node_id, *node_host, *tls_dir, *layers;
    int64_t node_port;    /* 0: discovery.json's */
    int64_t wait_for;     /* --wait-for-peers; -1: all of them */
    int64_t stuck_s, node_timeout_s, rejoin_grace_s;
    bool insecure_peers, overcommit;
    const char *out;      /* certs: the directory to write */
    bool deep;            /* doctor */
    const char *action;   /* service: install or uninstall */
    const char *user;
    const char *init; /* service: launchd or systemd; NULL: this machine's */
    bool dry_run;

    int64_t threads, ctx, parallel, chunk;
    const char *activations, *cpu_kernels;

    const char *prompt, *system;
    double temperature;       /* negative: not given */
    int64_t max_tokens, seed; /* -1: not given */

    const char *tokens, *logits;
    bool special, decode, ids, spans, json;
    int64_t prefill_tokens, decode_tokens, depth, rounds;

    /* exo's flags, accepted so that its scripts go on working */
    bool disable_tui;
    const char *inference_engine, *discovery_module;

    struct rg_arena arena; /* owned: strings of the config file */
};

RG_CHECKED enum rg_code rg_options_parse(struct rg_options *o, int argc, char **argv,
                                         struct rg_err *err);
void rg_options_free(struct rg_options *o);

/* Prints what a command does and its flags to stdout; command 0: the list of commands. */
void rg_options_print_help(unsigned command);

#endif
