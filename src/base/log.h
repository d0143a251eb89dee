/* log.h - one line per event on stderr.
 *
 *   2026-11-22T10:11:12.345Z INFO module key=value msg="..."
 *
 * With --log-format json the same keys as one JSON object.  Values are escaped (CR, LF, ESC and
 * quotes), so that nothing from outside can forge a line.  Prompts and answers are never logged.
 * Threads    Any; a line is written with one write(2).
 * Failure    A line that cannot be written is lost: on a full disk, or when stderr is a pipe or a
 *            terminal that nobody reads (waited for once, 200 ms). */
#ifndef RG_BASE_LOG_H
#define RG_BASE_LOG_H

#include <stdbool.h>

#include "base/err.h"

enum rg_log_level { RG_LOG_DEBUG, RG_LOG_INFO, RG_LOG_WARN, RG_LOG_ERROR, RG_LOG_OFF };
enum rg_log_format { RG_LOG_TEXT, RG_LOG_JSON };

void rg_log_setup(enum rg_log_level least, enum rg_log_format format);
bool rg_log_enabled(enum rg_log_level level);

/* `pairs` is a printf format that makes "key=value key=value" (values without spaces; may be ""),
 * `msg` the sentence: rg_log(RG_LOG_INFO, "api", "listening", "addr=%s port=%d", a, p). */
RG_PRINTF(4, 5)
void rg_log(enum rg_log_level level, const char *module, const char *msg, const char *pairs, ...);

#endif
