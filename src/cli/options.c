/* options.c - the table of flags and the three places that a value can come from. */
#include "cli/options.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/mem.h"

enum kind { KIND_BOOL, KIND_INT, KIND_FLOAT, KIND_STRING };

enum {
    SERVE = RG_COMMAND_SERVE,
    RUN = RG_COMMAND_RUN,
    EVAL = RG_COMMAND_EVAL,
    BENCH = RG_COMMAND_BENCH,
    MODEL = SERVE | RUN | EVAL | BENCH,
    ANY_MODEL = MODEL | RG_COMMAND_INSPECT | RG_COMMAND_TOKENIZE | RG_COMMAND_RENDER |
                RG_COMMAND_PLAN,
    PLAN = RG_COMMAND_PLAN,
    STATUS = RG_COMMAND_STATUS,
    DOCTOR = RG_COMMAND_DOCTOR,
    CERTS = RG_COMMAND_CERTS,
    SERVICE = RG_COMMAND_SERVICE,
    NODE = SERVE | EVAL, /* take part in a ring */
    ALL = ANY_MODEL | RG_COMMAND_VERSION | STATUS | DOCTOR | CERTS | SERVICE
};

struct spec {
    const char *flag;
    enum kind kind;
    size_t offset; /* in struct rg_options */
    unsigned commands;
    double least, most; /* of numbers */
    const char *help;
};

#define AT(member) offsetof(struct rg_options, member)

static const struct spec specs[] = {
    {"default-model", KIND_STRING, AT(model), SERVE | DOCTOR | SERVICE, 0, 0,
     "model directory or registry name"},
    {"api-host", KIND_STRING, AT(api_host), SERVE | STATUS, 0, 0,
     "address of the HTTP API [127.0.0.1]"},
    {"api-port", KIND_INT, AT(api_port), SERVE | STATUS, 0, 65535, "port of the HTTP API [52415]"},
    {"chatgpt-api-port", KIND_INT, AT(api_port), SERVE, 0, 65535, "exo's name of --api-port"},
    {"api-key-file", KIND_STRING, AT(api_key_file), SERVE | STATUS, 0, 0,
     "file of API keys, one per line"},
    {"insecure-api", KIND_BOOL, AT(insecure_api), SERVE, 0, 0, "serve other hosts without keys"},
    {"discovery-config-path", KIND_STRING, AT(discovery),
     NODE | PLAN | STATUS | DOCTOR | CERTS | SERVICE, 0, 0, "JSON file of the ring's nodes"},
    {"node-id", KIND_STRING, AT(node_id), NODE | DOCTOR | SERVICE, 0, 0,
     "this node in that file [the one whose address is local]"},
    {"node-host", KIND_STRING, AT(node_host), NODE, 0, 0,
     "address to listen on for peers [the file's]"},
    {"node-port", KIND_INT, AT(node_port), NODE, 1, 65535, "port for peers [the file's]"},
    {"wait-for-peers", KIND_INT, AT(wait_for), NODE, 0, RG_LIMIT_PEERS,
     "other nodes that must be there before the head plans [all of the file]"},
    {"tls-dir", KIND_STRING, AT(tls_dir), NODE | DOCTOR | SERVICE, 0, 0,
     "this node's certificates, made by `renga certs`"},
    {"insecure-peers", KIND_BOOL, AT(insecure_peers), NODE | DOCTOR | SERVICE, 0, 0,
     "talk to other hosts without certificates"},
    {"layers", KIND_STRING, AT(layers), NODE | PLAN, 0, 0, "ID=A-B,ID=A-B: layers by hand"},
    {"overcommit", KIND_BOOL, AT(overcommit), NODE, 0, 0,
     "take a part that is larger than the memory"},
    {"stuck-timeout", KIND_INT, AT(stuck_s), NODE, 1, 86400,
     "seconds without a finished layer that make a busy node dead [30]"},
    {"node-timeout", KIND_INT, AT(node_timeout_s), SERVE, 0, 86400,
     "seconds that requests wait for a lost node before they fail [60]"},
    {"rejoin-grace", KIND_INT, AT(rejoin_grace_s), SERVE, 0, 86400,
     "seconds that the head waits for a lost node before it plans without it [15]"},
    {"out", KIND_STRING, AT(out), CERTS, 0, 0, "the directory to write"},
    {"deep", KIND_BOOL, AT(deep), DOCTOR, 0, 0, "hash whole files"},
    {"user", KIND_STRING, AT(user), SERVICE, 0, 0, "whom the service runs as [you]"},
    {"init", KIND_STRING, AT(init), SERVICE, 0, 0, "launchd or systemd [this machine's]"},
    {"dry-run", KIND_BOOL, AT(dry_run), SERVICE, 0, 0, "print, change nothing"},
    {"threads", KIND_INT, AT(threads), MODEL, 1, 512, "compute threads [performance cores]"},
    {"ctx", KIND_INT, AT(ctx), MODEL | PLAN, 16, RG_LIMIT_CONTEXT, "positions of one sequence"},
    {"parallel", KIND_INT, AT(parallel), SERVE | PLAN, 1, 256, "sequences at once [4]"},
    {"chunk", KIND_INT, AT(chunk), MODEL | PLAN, 1, 65536, "prefill rows of one step [512]"},
    {"activations", KIND_STRING, AT(activations), MODEL | PLAN, 0, 0, "int8 or f32 [int8]"},
    {"cpu-kernels", KIND_STRING, AT(cpu_kernels), MODEL, 0, 0, "scalar, avx2 or neon [the best]"},
    {"prompt", KIND_STRING, AT(prompt), RUN, 0, 0, "what the user says"},
    {"system", KIND_STRING, AT(system), RUN, 0, 0, "the system message"},
    {"temperature", KIND_FLOAT, AT(temperature), RUN, 0, 2, "0 is greedy"},
    {"max-tokens", KIND_INT, AT(max_tokens), RUN, 1, RG_LIMIT_CONTEXT, "of the answer"},
    {"seed", KIND_INT, AT(seed), RUN, 0, 9007199254740992.0, "of the random draws"},
    {"tokens", KIND_STRING, AT(tokens), EVAL, 0, 0, "file with a JSON array of token ids"},
    {"logits", KIND_STRING, AT(logits), EVAL, 0, 0, "the .npy file to write"},
    {"special", KIND_BOOL, AT(special), RG_COMMAND_TOKENIZE, 0, 0, "recognise control tokens"},
    {"decode", KIND_BOOL, AT(decode), RG_COMMAND_TOKENIZE, 0, 0, "ids in, bytes out"},
    {"ids", KIND_BOOL, AT(ids), RG_COMMAND_RENDER, 0, 0, "print token ids"},
    {"spans", KIND_BOOL, AT(spans), RG_COMMAND_RENDER, 0, 0, "print trusted and untrusted parts"},
    {"prefill", KIND_INT, AT(prefill_tokens), BENCH, 1, 65536, "prompt tokens to time [512]"},
    {"decode-tokens", KIND_INT, AT(decode_tokens), BENCH, 1, 4096, "decode steps a round [8]"},
    {"depth", KIND_INT, AT(depth), BENCH, 0, 1048576, "cached tokens before decode [0]"},
    {"rounds", KIND_INT, AT(rounds), BENCH, 1, 1000, "alternating rounds [15]"},
    {"json", KIND_BOOL, AT(json),
     RG_COMMAND_INSPECT | BENCH | RG_COMMAND_VERSION | PLAN | STATUS | DOCTOR, 0, 0,
     "print one JSON object"},
    {"registry", KIND_STRING, AT(registry), ANY_MODEL | SERVICE, 0, 0,
     "JSON file of model names [~/.config/renga/models.json]"},
    {"config", KIND_STRING, AT(config), ALL, 0, 0, "JSON file of flags"},
    {"log-level", KIND_STRING, AT(log_level), ALL, 0, 0, "debug, info, warn or error [info]"},
    {"log-format", KIND_STRING, AT(log_format), ALL, 0, 0, "text or json [text]"},
    {"log-file", KIND_STRING, AT(log_file), SERVE, 0, 0,
     "log to this file, opened anew on SIGHUP [standard error]"},
    {"disable-tui", KIND_BOOL, AT(disable_tui), SERVE | RUN, 0, 0, "exo's; has no meaning here"},
    {"inference-engine", KIND_STRING, AT(inference_engine), SERVE | RUN, 0, 0,
     "exo's; has no meaning here"},
    {"discovery-module", KIND_STRING, AT(discovery_module), SERVE | RUN, 0, 0,
     "exo's; `manual` is the only one"},
};

enum { N_SPECS = sizeof specs / sizeof specs[0] };

static const struct {
    const char *name;
    unsigned command;
    bool takes_model;
    const char *help;
} commands[] = {
    {"serve", SERVE, true, "serve a model behind an OpenAI-compatible API"},
    {"run", RUN, true, "one answer on the terminal"},
    {"plan", PLAN, true, "which node would get which layers, from headers alone"},
    {"status", STATUS, false, "the nodes of a running ring"},
    {"doctor", DOCTOR, false, "what is wrong with this machine, its links and its files"},
    {"certs", CERTS, false, "a certificate authority and one bundle per node"},
    {"service", SERVICE, false, "install or uninstall the daemon as a system service"},
    {"inspect", RG_COMMAND_INSPECT, true, "what a checkpoint holds, from its headers"},
    {"bench", BENCH, true, "prefill and decode speed against the memory's"},
    {"tokenize", RG_COMMAND_TOKENIZE, true, "bytes on stdin to token ids"},
    {"render", RG_COMMAND_RENDER, true, "a chat request on stdin to its prompt"},
    {"eval", EVAL, true, "the logits of a token sequence, to a .npy file"},
    {"version", RG_COMMAND_VERSION, false, "version, kernels, libraries"},
    {"help", RG_COMMAND_HELP, false, "this list"},
};

enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static const char *command_name(unsigned command)
{
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (commands[i].command == command)
            return commands[i].name;
    return "renga";
}

static const struct spec *find_spec(const char *flag, size_t n)
{
    for (size_t i = 0; i < N_SPECS; i++)
        if (strlen(specs[i].flag) == n && memcmp(specs[i].flag, flag, n) == 0)
            return &specs[i];
    return NULL;
}

/* Stores a value given as text; `source` ("--threads", "RENGA_THREADS") is for the message. */
static enum rg_code store(struct rg_options *o, const struct spec *s, const char *text,
                          const char *source, struct rg_err *err)
{
    char *end;
    void *at = (char *)o + s->offset;

    errno = 0;
    switch (s->kind) {
    case KIND_BOOL:
        if (strcmp(text, "1") != 0 && strcmp(text, "true") != 0 && strcmp(text, "0") != 0 &&
            strcmp(text, "false") != 0)
            return rg_fail(err, RG_E_USAGE, "%s: '%s': give true or false", source, text);
        *(bool *)at = text[0] == '1' || text[0] == 't';
        return RG_OK;
    case KIND_INT: {
        const long long v = strtoll(text, &end, 10);

        if (*text == '\0' || *end != '\0' || errno || (double)v < s->least || (double)v > s->most)
            return rg_fail(err, RG_E_USAGE, "%s: '%s': give a whole number from %.0f to %.0f",
                           source, text, s->least, s->most);
        *(int64_t *)at = v;
        return RG_OK;
    }
    case KIND_FLOAT: {
        const double v = strtod(text, &end);

        if (*text == '\0' || *end != '\0' || !(v >= s->least && v <= s->most))
            return rg_fail(err, RG_E_USAGE, "%s: '%s': give a number from %g to %g", source, text,
                           s->least, s->most);
        *(double *)at = v;
        return RG_OK;
    }
    case KIND_STRING:
        break;
    }
    *(const char **)at = text;
    return RG_OK;
}

/* ---- the environment and the file ------------------------------------------------------------ */

static enum rg_code from_environment(struct rg_options *o, bool *given, struct rg_err *err)
{
    for (size_t i = 0; i < N_SPECS; i++) {
        char name[64] = "RENGA_";
        size_t n = strlen(name);

        for (const char *c = specs[i].flag; *c && n < sizeof name - 1; c++)
            name[n++] = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
        name[n] = '\0';

        const char *value = getenv(name);

        if (!value || given[i] || !(specs[i].commands & o->command))
            continue;
        given[i] = true;

        const enum rg_code code = store(o, &specs[i], value, name, err);

        if (code)
            return code;
    }
    return RG_OK;
}

/* The text of a value of this kind as a flag would have it; NULL for one of another kind. */
static const char *scalar_text(const struct rg_json *j, enum kind kind)
{
    switch (rg_json_type(j)) {
    case RG_JSON_STRING:
        return kind == KIND_STRING ? rg_json_string(j) : NULL;
    case RG_JSON_NUMBER:
        return kind == KIND_INT || kind == KIND_FLOAT ? rg_json_number_text(j) : NULL;
    case RG_JSON_BOOL:
        return kind == KIND_BOOL ? (rg_json_bool(j) ? "true" : "false") : NULL;
    default:
        return NULL;
    }
}

static const char *const kind_names[] = {
    [KIND_BOOL] = "true or false",
    [KIND_INT] = "a number",
    [KIND_FLOAT] = "a number",
    [KIND_STRING] = "a string",
};

static enum rg_code apply_file(struct rg_options *o, const struct rg_json *root, bool *given,
                               struct rg_err *err)
{
    if (rg_json_type(root) != RG_JSON_OBJECT)
        return rg_fail(err, RG_E_USAGE, "%s: %s; give an object of flags", o->config,
                       rg_json_type_name(root));
    for (const struct rg_json *j = rg_json_first(root); j; j = rg_json_next(j)) {
        const char *key = rg_json_key(j);
        const struct spec *s = find_spec(key, strlen(key));
        const char *text;
        char source[128];

        if (!s || s->offset == AT(config))
            return rg_fail(err, RG_E_USAGE, "%s: unknown key \"%.100s\"", o->config, key);
        text = scalar_text(j, s->kind);
        if (!text)
            return rg_fail(err, RG_E_USAGE, "%s: \"%s\": %s; give %s", o->config, key,
                           rg_json_type_name(j), kind_names[s->kind]);
        /* One file may serve several commands: a key of another command is fine. */
        if (given[s - specs] || !(s->commands & o->command))
            continue;
        given[s - specs] = true;
        text = rg_arena_strndup(&o->arena, text, strlen(text));
        if (!text)
            return rg_fail(err, RG_E_NOMEM, "out of memory: %s", o->config);
        snprintf(source, sizeof source, "%.60s: \"%.40s\"", o->config, key);

        const enum rg_code code = store(o, s, text, source, err);

        if (code)
            return code;
    }
    return RG_OK;
}

static enum rg_code from_file(struct rg_options *o, bool *given, struct rg_err *err)
{
    char *text;
    size_t len;
    struct rg_json *root = NULL;
    enum rg_code code = rg_file_read(&text, &len, o->config, RG_LIMIT_CONFIG_BYTES, err);

    if (code)
        return code;
    code = rg_json_parse(&root, text, len, &rg_json_limits_config, err);
    rg_free(text);
    if (code)
        return rg_fail_in(err, code, "%s", o->config);
    code = apply_file(o, root, given, err);
    rg_json_free(root);
    return code;
}

/* ---- the command line ------------------------------------------------------------------------ */

static enum rg_code parse_flag(struct rg_options *o, int argc, char **argv, int *i, bool *given,
                               struct rg_err *err)
{
    const char *name = argv[*i] + 2;
    const char *equals = strchr(name, '=');
    const size_t n = equals ? (size_t)(equals - name) : strlen(name);
    const struct spec *s = find_spec(name, n);
    char source[64];

    if (n == 4 && memcmp(name, "help", 4) == 0) {
        o->help = true;
        return RG_OK;
    }
    if (!s || !(s->commands & o->command))
        return rg_fail(err, RG_E_USAGE, "--%.*s: %s flag of `renga %s`; see `renga %s --help`",
                       (int)(n < 60 ? n : 60), name, s ? "not a" : "unknown",
                       command_name(o->command), command_name(o->command));
    snprintf(source, sizeof source, "--%s", s->flag);
    given[s - specs] = true;
    if (equals)
        return store(o, s, equals + 1, source, err);
    if (s->kind == KIND_BOOL)
        return store(o, s, "true", source, err);
    if (*i + 1 >= argc)
        return rg_fail(err, RG_E_USAGE, "%s: a value is missing", source);
    return store(o, s, argv[++*i], source, err);
}

static enum rg_code find_command(struct rg_options *o, const char *word, struct rg_err *err)
{
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (strcmp(commands[i].name, word) == 0) {
            o->command = commands[i].command;
            return RG_OK;
        }
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        o->command = RG_COMMAND_HELP;
        return RG_OK;
    }
    if (strcmp(word, "--version") == 0) {
        o->command = RG_COMMAND_VERSION;
        return RG_OK;
    }
    return rg_fail(err, RG_E_USAGE, "%.60s: unknown command; see `renga help`", word);
}

static void set_defaults(struct rg_options *o)
{
    *o = (struct rg_options){.api_host = "127.0.0.1",
                             .api_port = 52415,
                             .temperature = -1,
                             .max_tokens = -1,
                             .seed = -1,
                             .wait_for = -1,
                             .stuck_s = 30,
                             .node_timeout_s = 60,
                             .rejoin_grace_s = 15,
                             .prefill_tokens = 512,
                             .decode_tokens = 8,
                             .rounds = 15,
                             .log_level = "info",
                             .log_format = "text"};
    rg_arena_init(&o->arena, 0);
}

/* A registry in the home directory is used when it is there and none was named. */
static enum rg_code default_registry(struct rg_options *o, struct rg_err *err)
{
    const char *home = getenv("HOME");

    if (o->registry || !home)
        return RG_OK;

    static const char tail[] = "/.config/renga/models.json";
    const size_t n = strlen(home);
    char *path = rg_arena_alloc(&o->arena, n + sizeof tail);

    if (!path)
        return rg_fail(err, RG_E_NOMEM, "out of memory: options");
    memcpy(path, home, n);
    memcpy(path + n, tail, sizeof tail);
    if (rg_file_exists(path))
        o->registry = path;
    return RG_OK;
}

enum rg_code rg_options_parse(struct rg_options *o, int argc, char **argv, struct rg_err *err)
{
    bool given[N_SPECS] = {false};
    enum rg_code code;

    set_defaults(o);
    if (argc < 2)
        return rg_fail(err, RG_E_USAGE, "a command is missing; see `renga help`");
    code = find_command(o, argv[1], err);
    for (int i = 2; i < argc && !code; i++) {
        if (strncmp(argv[i], "--", 2) == 0)
            code = parse_flag(o, argc, argv, &i, given, err);
        else if (o->command == RG_COMMAND_SERVICE && !o->action)
            o->action = argv[i];
        else if (o->model || !(o->command & ANY_MODEL))
            code = rg_fail(err, RG_E_USAGE, "%.100s: one argument too many for `renga %s`", argv[i],
                           command_name(o->command));
        else
            o->model = argv[i];
    }
    if (!code && !o->help)
        code = from_environment(o, given, err);
    if (!code && !o->help && o->config)
        code = from_file(o, given, err);
    if (!code && !o->help)
        code = default_registry(o, err);
    if (!code && !o->help && !o->model && (o->command & ANY_MODEL))
        code = rg_fail(err, RG_E_USAGE, "a model is missing; give a checkpoint directory%s",
                       o->command == RG_COMMAND_SERVE ? " with --default-model" : "");
    return code;
}

void rg_options_free(struct rg_options *o)
{
    rg_arena_free(&o->arena);
}

void rg_options_print_help(unsigned command)
{
    if (command == 0) {
        printf("usage: renga COMMAND [MODEL] [--flag value ...]\n\n");
        for (size_t i = 0; i < N_COMMANDS; i++)
            printf("  %-10s %s\n", commands[i].name, commands[i].help);
        printf("\n`renga COMMAND --help` lists the flags of a command.\n");
        return;
    }
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (commands[i].command == command)
            printf("usage: renga %s%s [--flag value ...]\n%s\n\n", commands[i].name,
                   commands[i].takes_model ? " MODEL" : "", commands[i].help);
    for (size_t i = 0; i < N_SPECS; i++)
        if (specs[i].commands & command)
            printf("  --%-18s %s\n", specs[i].flag, specs[i].help);
    printf("\nA flag can also be RENGA_FLAG in the environment, or a key of the --config file.\n");
}
