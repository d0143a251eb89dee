/* rank.h - the k highest of n values, without sorting them all.
 *
 * Ties       the lower id is the higher: the order is total, so the result is unique.
 * Cost       one pass over z with a heap of k; only the few values above its lowest one move it. */
#ifndef RG_ENGINE_RANK_H
#define RG_ENGINE_RANK_H

#include <stdint.h>

/* ids[0..k) = the ids of the k highest of z[0..n), highest first; 1 <= k <= n.  z is finite. */
void rg_rank_top(const float *z, uint32_t n, uint32_t k, uint32_t *ids);

#endif
