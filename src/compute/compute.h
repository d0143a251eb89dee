/* compute.h - the ops that models are written against, and nothing else of a backend.
 *
 * A model calls ops; an op takes tensors and returns a new one.  No op exposes a pointer into a
 * tensor, no model branches on a computed value; rg_tensor_read() is the one way out.  So a lazy
 * graph library can stand behind this header as well as the CPU kernels do.
 *
 * Lifetime   A tensor lives until its step ends, or until the rg_op_keep() after the one that made
 *            it.
 * Failure    Memory is the only one: an op then returns NULL, every op accepts NULL and returns
 *            NULL, and rg_step_end() says RG_E_NOMEM.  A wrong shape is a bug and stops at an
 *            assert; shapes were checked when the model was loaded.
 * Threads    One step at a time per backend, from one thread; ops use the pool inside.
 * Order      Float results follow the canonical order of docs/ARCHITECTURE ("Same bits"): they do
 *            not depend on threads, kernels, or on which rows share a step.
 *
 * Shapes     [n] rows of a step; [n][cols] row-major.  All tensors are f32 to the model. */
#ifndef RG_COMPUTE_COMPUTE_H
#define RG_COMPUTE_COMPUTE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/pool.h"
#include "checkpoint/model_config.h"
#include "checkpoint/weight.h"

/* Nodes of one class compute the same bits: docs/ARCHITECTURE. */
#define RG_NUMERICS_CPU "cpu-1"

struct rg_backend; /* kernels, pool, numerics options */
struct rg_weight;  /* an opened weight matrix or vector */
struct rg_kv;      /* the keys and values of a range of layers */
struct rg_step;    /* one forward pass: its arena and its batch */
struct rg_tensor;

enum rg_cpu_kernels { RG_KERNELS_BEST, RG_KERNELS_SCALAR, RG_KERNELS_AVX2, RG_KERNELS_NEON };
enum rg_activations { RG_ACTIVATIONS_INT8, RG_ACTIVATIONS_F32 };

struct rg_backend_options {
    uint32_t            threads; /* 0: performance cores */
    enum rg_cpu_kernels kernels; /* RG_E_USAGE when this CPU lacks them */
    enum rg_activations activations;
};

/* Sets activations ("int8", "f32") and kernels ("scalar", "avx2", "neon") by name; NULL: int8, the
 * best of this CPU.  threads stays as it is. */
RG_CHECKED enum rg_code rg_backend_options_named(struct rg_backend_options *o,
                                                 const char *activations, const char *kernels,
                                                 struct rg_err *err);

RG_CHECKED enum rg_code rg_backend_open(struct rg_backend **out,
                                        const struct rg_backend_options *options,
                                        struct rg_err *err);
void        rg_backend_close(struct rg_backend *b);                /* accepts NULL */
const char *rg_backend_kernels(const struct rg_backend *b);        /* "scalar", "avx2", "neon" */
const char *rg_backend_class(const struct rg_backend *b);          /* numerics class: "cpu-1" */
uint32_t    rg_backend_threads(const struct rg_backend *b);

/* ---- weights -------------------------------------------------------------------------------
 * Views into the mapped file where that is possible.  RG_E_UNSUPPORTED for a kind or a width
 * without a kernel, naming the module. */
RG_CHECKED enum rg_code rg_weight_open(struct rg_weight **out, struct rg_backend *b,
                                       const struct rg_weight_desc *desc, struct rg_err *err);
void     rg_weight_close(struct rg_weight *w); /* accepts NULL */
uint32_t rg_weight_rows(const struct rg_weight *w);

/* ---- keys and values ------------------------------------------------------------------------
 * n_blocks blocks of block_tokens positions, numbered by the caller; every layer has its own
 * content of each block.  Values are f16, or f32 with RG_ACTIVATIONS_F32. */
struct rg_kv_layer_spec {
    uint32_t n_heads;               /* kv heads; 1 for MLA */
    uint32_t key_cols, value_cols;  /* per head; MLA: key = latent, value = rotated k_pe */
    uint32_t window;                /* 0: full attention */
};

struct rg_kv_options {
    const struct rg_kv_layer_spec *layers; /* [n_layers] */
    uint32_t                       n_layers;
    uint32_t                       n_blocks, block_tokens; /* block_tokens: a multiple of 16 */
};

RG_CHECKED enum rg_code rg_kv_open(struct rg_kv **out, struct rg_backend *b,
                                   const struct rg_kv_options *options, struct rg_err *err);
void     rg_kv_close(struct rg_kv *kv); /* accepts NULL */
/* RG_ACTIVATIONS_F32 keeps values of 4 bytes, else of 2. */
uint64_t rg_kv_bytes(enum rg_activations activations, const struct rg_kv_options *options);

/* ---- steps ---------------------------------------------------------------------------------- */

/* The rows of one sequence in a step. */
struct rg_seq_rows {
    uint32_t        row_begin, n_rows;
    uint32_t        position; /* of its first row */
    /* [ceil((position + n_rows) / block_tokens)] block numbers; borrowed */
    const uint32_t *blocks;
};

struct rg_batch {
    const struct rg_seq_rows *seqs; /* [n_seqs], rows tile [0, n_rows) in order */
    uint32_t                  n_seqs, n_rows;
};

/* Begins a step; `batch` is borrowed until rg_step_end(). */
RG_CHECKED enum rg_code rg_step_begin(struct rg_step **out, struct rg_backend *b,
                                      const struct rg_batch *batch, struct rg_err *err);
/* Ends it: all its tensors are dead.  RG_E_NOMEM if any op ran out of memory. */
RG_CHECKED enum rg_code rg_step_end(struct rg_step *s, struct rg_err *err);

/* Copies t out: dst [rows][cols].  RG_E_INTERNAL when a value is not finite. */
RG_CHECKED enum rg_code rg_tensor_read(struct rg_step *s, const struct rg_tensor *t, float *dst,
                                       struct rg_err *err);
uint32_t rg_tensor_rows(const struct rg_tensor *t);
uint32_t rg_tensor_cols(const struct rg_tensor *t);

/* Keeps t (returned as a new tensor) and frees everything made before it: the end of a layer. */
struct rg_tensor *rg_op_keep(struct rg_step *s, struct rg_tensor *t);

/* Host floats in: src [rows][cols], copied. */
struct rg_tensor *rg_op_input(struct rg_step *s, const float *src, uint32_t rows, uint32_t cols);

/* Rows of w by id: [n][w.cols]; 0 <= ids[i] < w.rows. */
struct rg_tensor *rg_op_embed(struct rg_step *s, const struct rg_weight *w, const int32_t *ids,
                              uint32_t n);

/* Some rows of x: [n][x.cols]. */
struct rg_tensor *rg_op_rows(struct rg_step *s, const struct rg_tensor *x, const uint32_t *rows,
                             uint32_t n);

/* Columns [begin, end) of each of n_heads equal parts of a row: [n][n_heads * (end - begin)]. */
struct rg_tensor *rg_op_head_cols(struct rg_step *s, const struct rg_tensor *x, uint32_t n_heads,
                                  uint32_t begin, uint32_t end);

/* RMSNorm over each run of w.cols columns of a row (a whole row, or each head of it), times w:
 * y = x / sqrt(mean(x^2) + eps) * w. */
struct rg_tensor *rg_op_rms_norm(struct rg_step *s, const struct rg_tensor *x,
                                 const struct rg_weight *w, float eps);

/* y = W x (+ bias): [n][w.rows].  bias may be NULL: [1][1][w.rows] float. */
struct rg_tensor *rg_op_linear(struct rg_step *s, const struct rg_weight *w,
                               const struct rg_weight *bias, const struct rg_tensor *x);

/* W of lead heads, each with its own columns of x: x [n][lead * w.cols] -> [n][lead * w.rows]. */
struct rg_tensor *rg_op_linear_heads(struct rg_step *s, const struct rg_weight *w,
                                     const struct rg_tensor *x);

/* A view of rows [row_begin, row_begin + n_rows) of each of n_heads equal row ranges of w (the two
 * halves of an old kv_b_proj): acts as a weight with lead n_heads.  Owned by the caller like a
 * weight; w outlives it. */
RG_CHECKED enum rg_code rg_weight_head_rows(struct rg_weight **out, const struct rg_weight *w,
                                            uint32_t n_heads, uint32_t row_begin, uint32_t n_rows,
                                            struct rg_err *err);

/* The transposed product per head: x [n][lead * w.rows] -> [n][lead * w.cols],
 * y[h][c] = sum over r of W[h][r][c] x[h][r]; always the f32 path. */
struct rg_tensor *rg_op_linear_heads_t(struct rg_step *s, const struct rg_weight *w,
                                       const struct rg_tensor *x);

/* RoPE on the first `dims` columns of each head, at each row's position.  The frequencies are made
 * once from a config; max_positions is the model's own max_position_embeddings, which longrope's
 * scale needs, not the context in use. */
struct rg_rope;
RG_CHECKED enum rg_code rg_rope_open(struct rg_rope **out, const struct rg_rope_config *config,
                                     uint32_t max_positions, struct rg_err *err);
void rg_rope_close(struct rg_rope *r); /* accepts NULL */
struct rg_tensor *rg_op_rope(struct rg_step *s, const struct rg_tensor *x, const struct rg_rope *r,
                             uint32_t n_heads);

/* Writes k [n][n_heads * key_cols] and v [n][n_heads * value_cols] of the batch's rows into layer
 * `layer` of kv.  The one op with an effect; attention of the same layer comes after it. */
void rg_op_kv_append(struct rg_step *s, struct rg_kv *kv, uint32_t layer, const struct rg_tensor *k,
                     const struct rg_tensor *v);

/* Grouped-query attention, causal, window from the layer's spec: q [n][n_q_heads * key_cols] ->
 * [n][n_q_heads * value_cols]. */
struct rg_tensor *rg_op_attention(struct rg_step *s, struct rg_kv *kv, uint32_t layer,
                                  const struct rg_tensor *q, uint32_t n_q_heads, float scale);

/* Absorbed MLA: q_latent [n][heads * key_cols], q_pe [n][heads * value_cols]; score = scale *
 * (q_latent . latent + q_pe . k_pe); result sum of p * latent: [n][heads * key_cols]. */
struct rg_tensor *rg_op_attention_mla(struct rg_step *s, struct rg_kv *kv, uint32_t layer,
                                      const struct rg_tensor *q_latent,
                                      const struct rg_tensor *q_pe, uint32_t n_heads, float scale);

/* silu(gate) * up, and a + b. */
struct rg_tensor *rg_op_swiglu(struct rg_step *s, const struct rg_tensor *gate,
                               const struct rg_tensor *up);
struct rg_tensor *rg_op_add(struct rg_step *s, const struct rg_tensor *a,
                            const struct rg_tensor *b);

/* ---- experts --------------------------------------------------------------------------------- */
enum rg_router_score { RG_ROUTER_SOFTMAX, RG_ROUTER_SIGMOID };

struct rg_router_options {
    enum rg_router_score    score;
    uint32_t                top_k;
    bool                    normalise;          /* weights /= their sum (when top_k > 1) */
    float                   scale;              /* routed_scaling_factor, 1 if none */
    uint32_t                n_group, topk_group; /* 1, 1: no groups */
    const struct rg_weight *correction;         /* added to scores for the choice only, or NULL */
};

/* Chooses experts from logits [n][n_experts].  The result is opaque: only rg_op_experts() reads it.
 * Ties go to the lowest index; chosen experts are ranked by score, highest first. */
struct rg_tensor *rg_op_route(struct rg_step *s, const struct rg_tensor *logits,
                              const struct rg_router_options *options);

/* sum over the chosen experts, in ascending rank, of weight * down(silu(gate(x)) * up(x)):
 * [n][down.rows].  gate, up: lead experts [inner][cols]; down: lead experts [cols][inner]. */
struct rg_tensor *rg_op_experts(struct rg_step *s, const struct rg_tensor *x,
                                const struct rg_tensor *routing, const struct rg_weight *gate,
                                const struct rg_weight *up, const struct rg_weight *down);

#endif
