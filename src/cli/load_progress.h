/* load_progress.h - one line on stderr while weights are read in, when a terminal is there. */
#ifndef RG_CLI_LOAD_PROGRESS_H
#define RG_CLI_LOAD_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct rg_load_progress {
    bool visible; /* stderr is a terminal */
    bool shown;
    int64_t began_ns, last_ns;
};

void rg_load_progress_begin(struct rg_load_progress *p);
/* For rg_llm_options.on_progress; ud is the struct.  Always true: goes on. */
bool rg_load_progress_show(void *ud, uint64_t done, uint64_t total);
void rg_load_progress_end(struct rg_load_progress *p); /* wipes the line */

#endif
