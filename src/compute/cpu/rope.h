/* rope.h - the frequencies of a rotary embedding, made once from a config.
 *
 * Pair i of a head turns by position * inv_freq[i].  Angles, sines and cosines are doubles and are
 * rounded to float once; out1 = x1 * cos - x2 * sin, out2 = x1 * sin + x2 * cos, with x1 and x2
 * multiplied by input_scale first.  Formulas: mlx-lm models/rope_utils.py, repeated in rope.c.
 * Threads    immutable after opening. */
#ifndef RG_COMPUTE_CPU_ROPE_H
#define RG_COMPUTE_CPU_ROPE_H

#include <stdbool.h>
#include <stdint.h>

struct rg_rope {
    uint32_t dims; /* rotated columns of a head, even */
    bool interleaved;
    float input_scale;
    double inv_freq[]; /* [dims / 2] */
};

#endif
