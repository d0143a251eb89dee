/* run.h - `renga run`: one answer on the terminal, as it is made. */
#ifndef RG_CLI_RUN_H
#define RG_CLI_RUN_H

#include <stdint.h>

#include "base/err.h"
#include "engine/llm.h"

struct rg_run_options {
    const char *system;      /* a system message, or NULL */
    float       temperature; /* negative: the checkpoint's own, else 1 */
    int32_t     max_tokens;  /* below 1: the rest of the context */
    int64_t     seed;        /* negative: a new one */
};

/* stdout gets the answer's text and a newline; loading is shown on stderr when that is a terminal.
 * RG_E_CANCELED after SIGINT. */
RG_CHECKED enum rg_code rg_run(const struct rg_llm_options *options, const char *prompt,
                               const struct rg_run_options *how, struct rg_err *err);

#endif
