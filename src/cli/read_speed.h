/* read_speed.h - the weight bytes that one decoded token needs, and a plain read of as many.
 *
 * Experts count by their chosen share (the first num_experts_per_tok of them stand for any), the
 * embedding only when it is also the head.  Decode cannot be faster than this read.
 * Lifetime   the checkpoint outlives the plan.
 * Threads    one caller; the read itself uses the pool it is given. */
#ifndef RG_CLI_READ_SPEED_H
#define RG_CLI_READ_SPEED_H

#include <stdint.h>

#include "base/pool.h"
#include "checkpoint/checkpoint.h"

struct rg_read_range {
    const uint8_t *data; /* borrowed from the map */
    uint64_t bytes;
};

struct rg_read_plan {
    struct rg_read_range *ranges; /* owned */
    size_t n_ranges, capacity;
    uint64_t bytes;
};

RG_CHECKED enum rg_code rg_read_plan_make(struct rg_read_plan *plan,
                                          const struct rg_checkpoint *checkpoint,
                                          struct rg_err *err);
void rg_read_plan_free(struct rg_read_plan *plan);

/* Reads all ranges once, each thread a contiguous share; returns the nanoseconds it took. */
int64_t rg_read_plan_time(const struct rg_read_plan *plan, struct rg_pool *pool);

#endif
