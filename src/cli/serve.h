/* serve.h - `renga serve`: the daemon. */
#ifndef RG_CLI_SERVE_H
#define RG_CLI_SERVE_H

#include "cli/options.h"
#include "engine/llm.h"

/* Runs until SIGTERM or SIGINT: answers are finished within RG_LIMIT_DRAIN_MS; a second signal ends
 * at once. */
RG_CHECKED enum rg_code rg_serve(const struct rg_options *o, const struct rg_llm_options *llm,
                                 struct rg_err *err);

#endif
