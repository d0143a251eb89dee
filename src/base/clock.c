/* clock.c - monotonic and wall time. */
#include "base/clock.h"

#include <stdlib.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

static int64_t read_ns(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t rg_clock_ns(void)
{
    return read_ns(CLOCK_MONOTONIC);
}

int64_t rg_clock_ms(void)
{
    return rg_clock_ns() / 1000000;
}

int64_t rg_clock_unix_ms(void)
{
    const char *fixed = getenv("RENGA_NOW");

    if (fixed && *fixed) {
        char *end;
        const int64_t seconds = strtoll(fixed, &end, 10);

        if (*end == '\0' && seconds >= 0 && seconds < INT64_MAX / 1000)
            return seconds * 1000;
    }
    return read_ns(CLOCK_REALTIME) / 1000000;
}

int64_t rg_clock_unix(void)
{
    return rg_clock_unix_ms() / 1000;
}

uint64_t rg_clock_random_seed(void)
{
    uint64_t seed;

    if (getentropy(&seed, sizeof seed) != 0)
        seed = (uint64_t)read_ns(CLOCK_REALTIME) ^ ((uint64_t)getpid() << 32);
    return seed;
}
