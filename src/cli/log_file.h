/* log_file.h - the log in a file that may be moved away: --log-file.
 *
 * Standard error becomes the file, opened to append; SIGHUP opens it anew.  FILE.pid has the
 * process's number, which is what newsyslog and logrotate send SIGHUP to.
 * Lifetime   the process's; the path is copied. */
#ifndef RG_CLI_LOG_FILE_H
#define RG_CLI_LOG_FILE_H

#include "base/err.h"

RG_CHECKED enum rg_code rg_log_file_use(const char *path, struct rg_err *err);

#endif
