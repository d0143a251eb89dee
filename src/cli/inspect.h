/* inspect.h - `renga inspect`: what a checkpoint holds, read from its headers alone. */
#ifndef RG_CLI_INSPECT_H
#define RG_CLI_INSPECT_H

#include <stdbool.h>

#include "base/err.h"

/* Prints the checkpoint to stdout, as a table or as one JSON object ("renga.inspect/1").
 * model_argument: a directory, or a name of the registry file (which may be NULL). */
RG_CHECKED enum rg_code rg_inspect(const char *model_argument, const char *registry, bool json,
                                   struct rg_err *err);

#endif
