/* service.h - `renga service install|uninstall`: the daemon under launchd or systemd.
 *
 * install    writes the files of service_files.h and has the init system load them; a service that
 *            is there already is replaced and started again.
 * --dry-run  prints each file under its path, and the commands, and changes nothing.
 * Failure    RG_E_USAGE: not root (with the sudo command), wrong flags; RG_E_IO: a file or a
 *            command of the init system. */
#ifndef RG_CLI_SERVICE_H
#define RG_CLI_SERVICE_H

#include "base/err.h"
#include "cli/options.h"

RG_CHECKED enum rg_code rg_service(const struct rg_options *options, struct rg_err *err);

#endif
