/* plan_speed.c - what speed a plan promises. */
#include <string.h>

#include "cluster/plan.h"

double rg_plan_tokens_per_s(const struct rg_plan *p, const double *bandwidth, double link_s)
{
    double seconds = p->n_parts > 1 ? link_s * p->n_parts : 0;

    for (uint32_t i = 0; i < p->n_parts; i++) {
        if (!(bandwidth[i] > 0))
            return 0;
        seconds += (double)p->parts[i].read_bytes / bandwidth[i];
    }
    return seconds > 0 ? 1 / seconds : 0;
}

/* Unified memory bandwidth in GB/s as Apple's technical specifications give it; of a chip that is
 * sold with two bandwidths the smaller one. */
double rg_plan_chip_bandwidth(const char *chip)
{
    static const struct {
        const char *name;
        double gb_s;
    } chips[] = {
        {"M1", 68.25},   {"M1 Pro", 200},   {"M1 Max", 400},   {"M1 Ultra", 800}, {"M2", 100},
        {"M2 Pro", 200}, {"M2 Max", 400},   {"M2 Ultra", 800}, {"M3", 100},       {"M3 Pro", 150},
        {"M3 Max", 300}, {"M3 Ultra", 819}, {"M4", 120},       {"M4 Pro", 273},   {"M4 Max", 410},
    };
    static const char brand[] = "Apple ";

    if (!chip)
        return 0;
    if (strncmp(chip, brand, sizeof brand - 1) == 0)
        chip += sizeof brand - 1;
    for (size_t i = 0; i < sizeof chips / sizeof chips[0]; i++)
        if (strcmp(chips[i].name, chip) == 0)
            return chips[i].gb_s * 1e9;
    return 0;
}
