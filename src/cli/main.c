/* main.c - finds the command and turns its result into an exit code.
 *
 * An error is one line on stderr: `renga: what: where: what to do`. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "cli/bench.h"
#include "cli/certs.h"
#include "cli/doctor.h"
#include "cli/eval.h"
#include "cli/inspect.h"
#include "cli/llm_options.h"
#include "cli/log_file.h"
#include "cli/options.h"
#include "cli/plan.h"
#include "cli/render.h"
#include "cli/run.h"
#include "cli/serve.h"
#include "cli/service.h"
#include "cli/status.h"
#include "cli/tokenize.h"
#include "cli/version.h"

static enum rg_code set_up_log(const struct rg_options *o, struct rg_err *err)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    const bool json = strcmp(o->log_format, "json") == 0;

    if (!json && strcmp(o->log_format, "text") != 0)
        return rg_fail(err, RG_E_USAGE, "--log-format: '%.40s': give text or json", o->log_format);
    for (int i = 0; i < 4; i++) {
        if (strcmp(names[i], o->log_level) == 0) {
            rg_log_setup((enum rg_log_level)i, json ? RG_LOG_JSON : RG_LOG_TEXT);
            return RG_OK;
        }
    }
    return rg_fail(err, RG_E_USAGE, "--log-level: '%.40s': give debug, info, warn or error",
                   o->log_level);
}

/* exo's flags without a meaning here are said once, so that nobody wonders. */
static enum rg_code notice_exo_flags(const struct rg_options *o, struct rg_err *err)
{
    if (o->discovery_module && strcmp(o->discovery_module, "manual") != 0)
        return rg_fail(err, RG_E_USAGE, "--discovery-module: '%.40s': only manual is possible",
                       o->discovery_module);
    if (o->disable_tui || o->inference_engine || o->discovery_module)
        rg_log(RG_LOG_INFO, "options", "exo flags without a meaning here are ignored",
               "flags=%s%s%s", o->disable_tui ? "disable-tui," : "",
               o->inference_engine ? "inference-engine," : "",
               o->discovery_module ? "discovery-module" : "");
    return RG_OK;
}

static enum rg_code tokenize_or_render(const struct rg_options *o, struct rg_err *err)
{
    char *dir, *name;
    enum rg_code code = rg_checkpoint_resolve(&dir, &name, o->model, o->registry, err);

    if (code)
        return code;
    code = o->command == RG_COMMAND_RENDER ? rg_render(dir, o->ids, o->spans, err)
                                           : rg_tokenize(dir, o->special, o->decode, err);
    rg_free(dir);
    rg_free(name);
    return code;
}

static enum rg_code run_with_model(const struct rg_options *o, struct rg_err *err)
{
    struct rg_llm_options llm;
    enum rg_code code = rg_llm_options_from_flags(&llm, o, err);

    if (code)
        return code;
    if (o->command == RG_COMMAND_SERVE)
        return rg_serve(o, &llm, err);
    if (o->command == RG_COMMAND_BENCH)
        return rg_bench(o, &llm, err);
    return rg_eval(o, &llm, err);
}

static enum rg_code run_command(const struct rg_options *o, struct rg_err *err)
{
    if (o->help || o->command == RG_COMMAND_HELP) {
        rg_options_print_help(o->help ? o->command : 0);
        return RG_OK;
    }

    enum rg_code code = set_up_log(o, err);

    if (!code && o->log_file)
        code = rg_log_file_use(o->log_file, err);
    if (!code)
        code = notice_exo_flags(o, err);
    if (code)
        return code;
    switch (o->command) {
    case RG_COMMAND_VERSION:
        return rg_version(o->json, err);
    case RG_COMMAND_INSPECT:
        return rg_inspect(o->model, o->registry, o->json, err);
    case RG_COMMAND_PLAN:
        return rg_plan_command(o, err);
    case RG_COMMAND_CERTS:
        return rg_certs(o->discovery, o->out, err);
    case RG_COMMAND_DOCTOR:
        return rg_doctor(o, err);
    case RG_COMMAND_RUN:
        return rg_run(o, err);
    case RG_COMMAND_STATUS:
        return rg_status(o, err);
    case RG_COMMAND_SERVICE:
        return rg_service(o, err);
    case RG_COMMAND_TOKENIZE:
    case RG_COMMAND_RENDER:
        return tokenize_or_render(o, err);
    default:
        return run_with_model(o, err);
    }
}

int main(int argc, char **argv)
{
    struct rg_options options;
    struct rg_err err = {.code = RG_OK};

    rg_mem_setup();

    enum rg_code code = rg_options_parse(&options, argc, argv, &err);

    if (!code)
        code = run_command(&options, &err);
    if (!code && (fflush(stdout) != 0 || ferror(stdout)))
        code = rg_fail(&err, RG_E_IO, "stdout: cannot be written");
    rg_options_free(&options);
    if (code)
        fprintf(stderr, "renga: %s\n", err.message);
    return rg_exit_code(code);
}
