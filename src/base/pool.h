/* pool.h - a fixed set of compute threads that run one job at a time, together.
 *
 * rg_pool_run() calls fn(arg, part, n_parts) once for each part 0..n_parts-1, each on its own
 * thread (the caller is part 0), and returns when all are done.  How work is divided is up to fn
 * and must never change a result.  Workers spin for a few microseconds between jobs and then park,
 * so that an idle pool uses no CPU.
 * Threads    One caller at a time.  fn must not call rg_pool_run(). */
#ifndef RG_BASE_POOL_H
#define RG_BASE_POOL_H

#include <stdint.h>

#include "base/err.h"

struct rg_pool;

typedef void rg_pool_fn(void *arg, uint32_t part, uint32_t n_parts);

/* n_threads counts the caller; 0 = the number of performance cores of this machine. */
RG_CHECKED enum rg_code rg_pool_open(struct rg_pool **out, uint32_t n_threads, struct rg_err *err);
void rg_pool_close(struct rg_pool *p); /* accepts NULL */
uint32_t rg_pool_threads(const struct rg_pool *p);
void rg_pool_run(struct rg_pool *p, rg_pool_fn *fn, void *arg);

/* The share [begin, end) of n items that part i of n_parts gets, in multiples of `unit`. */
void rg_pool_share(uint64_t n, uint32_t unit, uint32_t part, uint32_t n_parts, uint64_t *begin,
                   uint64_t *end);

#endif
