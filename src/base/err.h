/* err.h - making failures: one statement each.
 *
 * The codes and the rule of one line are the program's public ones (renga/err.h).  The layer that
 * stops the propagation prints or logs the line; nobody does both. */
#ifndef RG_BASE_ERR_H
#define RG_BASE_ERR_H

#include "renga/err.h"

#define RG_PRINTF(format_at, first_at) __attribute__((format(printf, format_at, first_at)))

/* Fills *err and returns code, so that a failure is one statement. */
RG_PRINTF(3, 4)
enum rg_code rg_fail(struct rg_err *err, enum rg_code code, const char *format, ...);

/* Puts "prefix: " before the line that a failed call left in *err; returns code, the call's own. */
RG_PRINTF(3, 4)
enum rg_code rg_fail_in(struct rg_err *err, enum rg_code code, const char *format, ...);

/* The exit code of the process: 1 run time, 2 usage or file, 3 fit, 4 peers, 130 interrupted. */
int rg_exit_code(enum rg_code code);

#endif
