/* run.c - one answer on the terminal, through the public session. */
#include "cli/run.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cli/load_progress.h"
#include "renga/session.h"

/* For the signal handler: the session that SIGINT ends. */
static struct rg_session *volatile asked;

static void on_sigint(int number)
{
    (void)number;
    if (asked)
        rg_session_interrupt(asked);
}

static enum rg_code print_text(void *ud, const char *text, size_t n, struct rg_err *err)
{
    (void)ud;
    if (fwrite(text, 1, n, stdout) != n || fflush(stdout) != 0)
        return rg_fail(err, RG_E_IO, "stdout: cannot be written: %s", strerror(errno));
    return RG_OK;
}

static enum rg_code open_session(struct rg_session **out, const struct rg_options *o,
                                 struct rg_err *err)
{
    struct rg_load_progress progress;
    const struct rg_session_options options = {.model = o->model,
                                               .registry = o->registry,
                                               .activations = o->activations,
                                               .cpu_kernels = o->cpu_kernels,
                                               .threads = (uint32_t)o->threads,
                                               .context = (uint32_t)o->ctx,
                                               .chunk_rows = (uint32_t)o->chunk,
                                               .on_progress = rg_load_progress_show,
                                               .ud = &progress};

    rg_load_progress_begin(&progress);
    const enum rg_code code = rg_session_open(out, &options, err);

    rg_load_progress_end(&progress);
    return code;
}

enum rg_code rg_run(const struct rg_options *o, struct rg_err *err)
{
    const struct rg_question question = {.system = o->system,
                                         .prompt = o->prompt,
                                         .temperature = (float)o->temperature,
                                         .max_tokens = (int32_t)o->max_tokens,
                                         .seed = o->seed};
    /* A second SIGINT ends the process the usual way. */
    struct sigaction action = {.sa_handler = on_sigint, .sa_flags = (int)SA_RESETHAND};
    struct sigaction before;
    struct rg_session *session;
    enum rg_code code;

    if (!o->prompt)
        return rg_fail(err, RG_E_USAGE, "run: give --prompt TEXT");
    code = open_session(&session, o, err);
    if (code)
        return code;
    asked = session;
    sigaction(SIGINT, &action, &before);
    code = rg_session_ask(session, &question, print_text, NULL, err);
    sigaction(SIGINT, &before, NULL);
    asked = NULL;
    rg_session_close(session);
    if (!code)
        code = print_text(NULL, "\n", 1, err);
    return code;
}
