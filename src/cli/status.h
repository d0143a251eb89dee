/* status.h - renga status: the nodes of a running daemon, as its /health tells them.
 *
 * The table (or, with --json, an object of schema renga.status/1) is printed also when the state is
 * bad; then the call fails.
 * Failure    RG_E_PEER: no daemon answers, or a node that is needed is missing; RG_E_IO: the daemon
 *            says that it has failed. */
#ifndef RG_CLI_STATUS_H
#define RG_CLI_STATUS_H

#include "base/err.h"
#include "cli/options.h"

RG_CHECKED enum rg_code rg_status(const struct rg_options *o, struct rg_err *err);

#endif
