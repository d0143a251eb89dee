/* version.h - `renga version`: what this binary is. */
#ifndef RG_CLI_VERSION_H
#define RG_CLI_VERSION_H

#include <stdbool.h>

#include "base/err.h"

RG_CHECKED enum rg_code rg_version(bool json, struct rg_err *err);

#endif
