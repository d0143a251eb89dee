/* safetensors.h - the tensor table of one file or of a sharded checkpoint, and its bytes by mmap.
 *
 * Every rule of the format is checked when a file is opened (docs/QUANTISATION lists them with
 * their messages); after that a tensor's data pointer and size can be trusted.
 * Files      stay open.  One that changes under its map cannot end the process (base/map.h), but
 *            its bytes may be anything: see rg_tensor_set_check().
 * Alignment  none: MLX writes tensors at odd addresses.  Read with memcpy or unaligned loads.
 * Threads    immutable after opening. */
#ifndef RG_CHECKPOINT_SAFETENSORS_H
#define RG_CHECKPOINT_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/limits.h"

enum rg_dtype {
    RG_DTYPE_BOOL, RG_DTYPE_U8, RG_DTYPE_I8, RG_DTYPE_F8_E4M3, RG_DTYPE_F8_E5M2, RG_DTYPE_F8_E8M0,
    RG_DTYPE_I16, RG_DTYPE_U16, RG_DTYPE_F16, RG_DTYPE_BF16,
    RG_DTYPE_I32, RG_DTYPE_U32, RG_DTYPE_F32,
    RG_DTYPE_I64, RG_DTYPE_U64, RG_DTYPE_F64, RG_DTYPE_C64,
    RG_DTYPE_OTHER /* known to the format, unused by any model here: F4, F6_*, *FNUZ */
};

const char *rg_dtype_name(enum rg_dtype t); /* "BF16" */
uint32_t    rg_dtype_bits(enum rg_dtype t);

struct rg_tensor_info {
    const char    *name;  /* owned by the set */
    enum rg_dtype  dtype;
    uint32_t       rank;
    uint64_t       shape[RG_LIMIT_ST_RANK];
    uint64_t       bytes;
    uint64_t       offset; /* from the start of the file */
    uint32_t       file;   /* index into the set's files */
};

struct rg_tensor_set;

struct rg_tensor_file {
    const char    *path; /* owned by the set */
    const uint8_t *data; /* the map; NULL when the set was opened with headers only */
    uint64_t       bytes;
};

/* Opens model*.safetensors of a directory, with or without model.safetensors.index.json.
 * headers_only: reads the headers and maps nothing (inspect, plan). */
RG_CHECKED enum rg_code rg_tensor_set_open(struct rg_tensor_set **out, const char *dir,
                                           bool headers_only, struct rg_err *err);
/* As above, but shards that the index names, or that files called "i of N" leave out, may be
 * missing; a link to nothing counts as missing. */
RG_CHECKED enum rg_code rg_tensor_set_open_some(struct rg_tensor_set **out, const char *dir,
                                                bool headers_only, struct rg_err *err);
void rg_tensor_set_close(struct rg_tensor_set *s); /* accepts NULL; every data pointer is dead */

uint32_t                     rg_tensor_set_count(const struct rg_tensor_set *s);
/* In order of their names; NULL behind the last one. */
const struct rg_tensor_info *rg_tensor_set_at(const struct rg_tensor_set *s, uint32_t i);
const struct rg_tensor_info *rg_tensor_set_find(const struct rg_tensor_set *s, const char *name);
uint32_t                     rg_tensor_set_files(const struct rg_tensor_set *s);
const struct rg_tensor_file *rg_tensor_set_file(const struct rg_tensor_set *s, uint32_t i);
/* The shards that are not there: how many, and their names (NULL behind the last one). */
uint32_t                     rg_tensor_set_missing(const struct rg_tensor_set *s);
const char                  *rg_tensor_set_missing_file(const struct rg_tensor_set *s, uint32_t i);

/* The bytes of a tensor inside the map (borrowed, valid until close); NULL when its file is not
 * mapped. */
const uint8_t *rg_tensor_bytes(const struct rg_tensor_set *s, const struct rg_tensor_info *t);

/* True when all shards are there and the index says a total_size; *found is the sum of the tensors'
 * bytes.  Writers differ in what they count (parameters, tied weights), so a difference is no
 * error. */
bool rg_tensor_set_total_is_said(const struct rg_tensor_set *s, uint64_t *said, uint64_t *found);

/* RG_OK: the files are as they were when they were opened, so what was computed from their bytes is
 * right.  Else RG_E_IO names the file and what happened to it, and the set is of no use any more.
 * Some 0.5 us per file: meant to be asked after every step.  A set of headers is always fine. */
RG_CHECKED enum rg_code rg_tensor_set_check(const struct rg_tensor_set *s, struct rg_err *err);

#endif
