/* philox.h - Philox4x32-10, a counter-based generator: no state, the same bits everywhere.
 *
 * Source     Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2, 3 (2011). */
#ifndef RG_ENGINE_PHILOX_H
#define RG_ENGINE_PHILOX_H

#include <stdint.h>

void rg_philox4x32(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);

/* The draw of one token: in [0, 1), 53 bits. */
double rg_philox_draw(uint64_t seed, uint32_t choice, uint32_t position);

#endif
