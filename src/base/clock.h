/* clock.h - the one source of time.
 *
 * rg_clock_ns() is monotonic and used for every deadline and measurement.  rg_clock_unix() is the
 * wall clock, for log lines, "created" fields and a template's strftime_now; RENGA_NOW (unix
 * seconds) in the environment fixes it. */
#ifndef RG_BASE_CLOCK_H
#define RG_BASE_CLOCK_H

#include <stdint.h>

int64_t rg_clock_ns(void);
int64_t rg_clock_ms(void);
int64_t rg_clock_unix(void);         /* seconds */
int64_t rg_clock_unix_ms(void);      /* milliseconds; RENGA_NOW applies too */
uint64_t rg_clock_random_seed(void); /* 64 bits from the OS, for requests without a seed and ids */

#endif
