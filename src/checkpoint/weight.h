/* weight.h - one weight matrix of a checkpoint as the compute layer gets it.
 *
 * A weight is logically [lead][rows][cols] (lead 1 for an ordinary matrix, else experts or heads);
 * the product is y[r] = sum over c of W[r][c] x[c].  Its storage is one of the kinds below.
 *
 * affine     codes: per row a little-endian, LSB-first bit stream of cols*bits/8 bytes;
 *            scales, biases: [lead][rows][cols/group_size] of scale_dtype;
 *            W = code * scale + bias.  A scale may be negative.  (mlx/ops.cpp, affine_quantize)
 * float      data: [lead][rows][cols] of dtype F32, F16 or BF16.
 * mxfp4      codes: E2M1, low nibble first, [lead][rows][cols/2];
 *            scales: E8M0 [lead][rows][cols/32];
 *            W = E2M1(code) * 2^(scale - 127).  (OCP Microscaling Formats 1.0)
 * nvfp4      codes as mxfp4; scales: E4M3 [lead][rows][cols/16]; globals: F32 [lead] or NULL;
 *            W = E2M1(code) * E4M3(scale), times global / (448 * 6) where globals are there.
 * mxfp8      codes: E4M3 [lead][rows][cols]; scales: E8M0 [lead][rows][cols/32];
 *            W = E4M3(code) * 2^(scale - 127).
 * int4       codes: low nibble first [rows][cols/2]; scales: [rows][cols/group_size] of dtype;
 *            W = (code - 8) * scale.  (compressed-tensors, pack-quantized, symmetric)
 * fp8        codes: E4M3 [rows][cols]; scales: [ceil(rows/128)][ceil(cols/128)] of dtype, one per
 *            128 x 128 block; W = bf16(E4M3(code) * scale).  (DeepSeek-V3 weight_scale_inv)
 * E4M3 is the FN kind: no infinity, 0x7F and 0xFF are NaN.  E8M0 255 is NaN.
 */
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
    uint32_t            bits, group_size; /* 0 for float; fp8: 8, 128 */
    enum rg_dtype       dtype;            /* float: of data; else of scales and biases */
    const uint8_t      *data;             /* codes or floats; borrowed from the map, unaligned */
    const uint8_t      *scales, *biases;  /* NULL for float; biases are of affine alone */
    const uint8_t      *globals;          /* nvfp4: F32 [lead], unaligned, or NULL */
    uint64_t            bytes;            /* of all its tensors in the file */
    const char         *name;             /* module path, for messages; borrowed */
    /* Experts stored one by one (mlp.experts.N.*): lead pointers each, owned by the checkpoint;
     * NULL when the three pointers above are contiguous over lead. */
    const uint8_t *const *data_of, *const *scales_of, *const *biases_of;
};

/* Bytes of one of its `lead` matrices: the codes or floats; the scales, and so the biases, too. */
uint64_t rg_weight_data_bytes(const struct rg_weight_desc *d);
uint64_t rg_weight_scale_bytes(const struct rg_weight_desc *d);

#endif
