/* load_progress.c - bytes, speed and time left, redrawn a few times a second. */
#include "cli/load_progress.h"

#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"

static const int64_t redraw_ns = 100000000;

void rg_load_progress_begin(struct rg_load_progress *p)
{
    *p =
        (struct rg_load_progress){.visible = isatty(STDERR_FILENO) == 1, .began_ns = rg_clock_ns()};
}

bool rg_load_progress_show(void *ud, uint64_t done, uint64_t total)
{
    struct rg_load_progress *p = ud;
    const int64_t now = rg_clock_ns();

    if (!p->visible || now - p->last_ns < redraw_ns)
        return true;

    const double seconds = (double)(now - p->began_ns) / 1e9;
    const double speed = seconds > 0.0 ? (double)done / seconds : 0.0;
    const double left = speed > 0.0 ? (double)(total - done) / speed : 0.0;

    p->last_ns = now;
    p->shown = true;
    fprintf(stderr, "\rloading %.1f of %.1f GB, %.2f GB/s, %.0f s left\x1b[K", (double)done / 1e9,
            (double)total / 1e9, speed / 1e9, left);
    return true;
}

void rg_load_progress_end(struct rg_load_progress *p)
{
    if (p->shown)
        fputs("\r\x1b[K", stderr);
}
