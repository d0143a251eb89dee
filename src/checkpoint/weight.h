/* weight.h - one weight matrix of a checkpoint as the compute layer gets it.
 *
 * A weight is logically [lead][rows][cols] (lead 1 for an ordinary matrix, else experts or heads);
 * the product is y[r] = sum over c of W[r][c] x[c].  Its storage is one of the kinds below.
 *
 * affine     codes: per row a little-endian, LSB-first bit stream of cols*bits/8 bytes;
 *            scales, biases: [lead][rows][cols/group_size] of scale_dtype;
 *            W = code * scale + bias.  A scale may be negative.  (mlx/ops.cpp, affine_quantize)
 * float      data: [lead][rows][cols] of dtype F32, F16 or BF16.
 * The other kinds name formats that are recognised and refused until their kernels exist. */
#ifndef RG_CHECKPOINT_WEIGHT_H
#define RG_CHECKPOINT_WEIGHT_H

#include <stdint.h>

#include "checkpoint/safetensors.h"

enum rg_weight_kind {
    RG_WEIGHT_FLOAT,
    RG_WEIGHT_AFFINE,
    RG_WEIGHT_MXFP4,
    RG_WEIGHT_NVFP4,
    RG_WEIGHT_MXFP8,
    RG_WEIGHT_INT4,
    RG_WEIGHT_FP8
};

const char *rg_weight_kind_name(enum rg_weight_kind k); /* "affine" */

struct rg_weight_desc {
    enum rg_weight_kind kind;
    uint32_t            lead, rows, cols;
    uint32_t            bits, group_size; /* 0 for float */
    enum rg_dtype       dtype;            /* float: of data; else of scales and biases */
    const uint8_t      *data;             /* codes or floats; borrowed from the map, unaligned */
    const uint8_t      *scales, *biases;  /* NULL for float */
    uint64_t            bytes;            /* of all its tensors in the file */
    const char         *name;             /* module path, for messages; borrowed */
    /* Experts stored one by one (mlp.experts.N.*): lead pointers each, owned by the checkpoint;
     * NULL when the three pointers above are contiguous over lead. */
    const uint8_t *const *data_of, *const *scales_of, *const *biases_of;
};

#endif
