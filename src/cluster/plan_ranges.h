/* plan_ranges.h - the part of an override that plan.c checks itself. */
#ifndef RG_CLUSTER_PLAN_RANGES_H
#define RG_CLUSTER_PLAN_RANGES_H

#include "cluster/plan.h"

/* The ranges tile [0, n_layers) and the head's, if it has one, is the last.  RG_E_USAGE. */
RG_CHECKED enum rg_code rg_plan_check_tiling(const struct rg_plan_range *ranges, uint32_t n,
                                             const char *head_id, uint32_t n_layers,
                                             struct rg_err *err);

#endif
