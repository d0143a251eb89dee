/* run.h - `renga run`: one answer on the terminal, as it is made. */
#ifndef RG_CLI_RUN_H
#define RG_CLI_RUN_H

#include "cli/options.h"

/* stdout gets the answer's text and a newline; loading is shown on stderr when that is a terminal.
 * RG_E_CANCELED after SIGINT. */
RG_CHECKED enum rg_code rg_run(const struct rg_options *o, struct rg_err *err);

#endif
