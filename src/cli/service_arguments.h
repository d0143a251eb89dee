/* service_arguments.h - the command line of the daemon as a service starts it.
 *
 * Paths are made absolute, because an init system starts programs in "/".  What the --config file
 * says stays there: a flag is only written when it says something else. */
#ifndef RG_CLI_SERVICE_ARGUMENTS_H
#define RG_CLI_SERVICE_ARGUMENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "cli/options.h"

enum { RG_SERVICE_ARGUMENTS_MAX = 32 };

struct rg_service_arguments {
    const char *items[RG_SERVICE_ARGUMENTS_MAX + 1]; /* NULL ends them; [0] is the program */
    uint32_t n;
    struct rg_arena arena; /* owned: their text */
};

RG_CHECKED enum rg_code rg_service_arguments_make(struct rg_service_arguments *out,
                                                  const struct rg_options *options,
                                                  struct rg_err *err);
void rg_service_arguments_free(struct rg_service_arguments *a);

#endif
