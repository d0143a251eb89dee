/* plan.h - `renga plan`: which node would get which layers, from headers alone.
 *
 * Output     a table, or one JSON object ("renga.plan/1"); also when the model does not fit.
 * Failure    RG_E_FIT after the output, with the shortfall of each node. */
#ifndef RG_CLI_PLAN_H
#define RG_CLI_PLAN_H

#include "base/err.h"
#include "cli/options.h"

RG_CHECKED enum rg_code rg_plan_command(const struct rg_options *options, struct rg_err *err);

#endif
