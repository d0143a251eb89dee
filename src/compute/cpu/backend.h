/* backend.h - what the files of the CPU backend share: backend, step, tensor, weight.
 *
 * Memory     A step has two arenas for tensors that rg_op_keep() swaps, and a third for what lives
 * as long as the step.  All keep their chunks between steps, so decode stops allocating. Every part
 * of the pool has its own scratch; it is grown when a weight or a KV is opened. Failure    An op
 * that finds no memory sets step->failed and returns NULL. */
#ifndef RG_COMPUTE_CPU_BACKEND_H
#define RG_COMPUTE_CPU_BACKEND_H

#include <stdbool.h>

#include "base/arena.h"
#include "compute/cpu/kernels.h"

enum { RG_ROPE_TABLES = 4 }; /* ropes whose angles a step remembers */

struct rg_step {
    struct rg_backend *backend;
    const struct rg_batch *batch;
    struct rg_arena tensors[2];
    uint32_t current;      /* which of the two is in use */
    struct rg_arena whole; /* lives until the step ends  */
    uint32_t *positions;   /* [batch->n_rows] */
    uint32_t *seq_of_row;  /* [batch->n_rows] */
    const struct rg_rope *ropes[RG_ROPE_TABLES];
    float *rope_tables[RG_ROPE_TABLES]; /* [n_rows][dims]: cos, sin per pair */
    bool open, failed;
};

struct rg_backend {
    const struct rg_kernels *kernels;
    struct rg_pool *pool;
    enum rg_activations activations;
    struct rg_step step;
    uint8_t *scratch;     /* owned: one piece per part of the pool */
    size_t scratch_bytes; /* of one piece, a multiple of 64  */
};

/* A packed copy of quantised rows in one layout. */
struct rg_packed {
    uint8_t *q;   /* NULL: not made yet */
    float *scale; /* tiled layouts only, as gsum; else those of the plain rows are used */
    float *gsum[RG_GROUP_SIZES];
    int16_t *half_sums; /* TILE8 only, made when first wanted */
};

/* The quantised copy of a tensor. */
struct rg_q8 {
    uint32_t n, cols;
    int8_t *q;                   /* [n][cols]      */
    float *scale;                /* [n][cols / 16] */
    int32_t *sum;                /* [n][cols / 16] */
    float *gsum[RG_GROUP_SIZES]; /* [n][cols / group], made when first wanted */
    struct rg_packed packed[RG_LAYOUT_COUNT];
};

/* The router's choice: per row top_k expert ids and weights, by rank. */
struct rg_routing {
    uint32_t *ids;
    float *weights;
    uint32_t top_k, n_experts;
};

struct rg_tensor {
    uint32_t rows, cols;
    float *data;                /* [rows][cols]; NULL for a routing        */
    struct rg_q8 **q8;          /* one slot: NULL until a product wants it */
    struct rg_routing *routing; /* of rg_op_route() only                   */
};

struct rg_weight {
    struct rg_weight_desc desc;     /* its name is not used after opening */
    uint32_t first_row, row_stride; /* of matrix i: first_row + i * row_stride */
    bool view;                      /* rows of a lead 1 weight as lead heads   */
    float *vector;                  /* owned: the values of a single float row; NULL for others */
};

/* ---- backend.c */
RG_CHECKED enum rg_code rg_backend_need_scratch(struct rg_backend *b, size_t bytes,
                                                struct rg_err *err);
static inline void *rg_backend_scratch(const struct rg_backend *b, uint32_t part)
{
    return b->scratch + part * b->scratch_bytes;
}
/* Runs fn on the pool, or on this thread alone when `work` (about a float operation each) is small.
 */
void rg_backend_run(struct rg_backend *b, rg_pool_fn *fn, void *arg, uint64_t work);

/* ---- step.c */
void *rg_step_alloc(struct rg_step *s, size_t count, size_t size); /* sets failed */
struct rg_tensor *rg_step_tensor(struct rg_step *s, uint32_t rows, uint32_t cols);

/* ---- weight.c */
struct rg_matrix rg_weight_matrix(const struct rg_weight *w, uint32_t i);

/* ---- quantised.c */

/* The quantised copy of x, made once; NULL when memory is short.  cols is a multiple of 16. */
struct rg_q8 *rg_quantise(struct rg_step *s, const struct rg_tensor *x);
/* Rows rows[0..n) of q as a new quantised copy. */
struct rg_q8 *rg_q8_gather(struct rg_step *s, const struct rg_q8 *q, const uint32_t *rows,
                           uint32_t n);

struct rg_q8_view {
    uint32_t row_begin, n_rows; /* tiles begin at row_begin */
    uint32_t col_begin;         /* a multiple of the group size */
};

/* What a product with m of these rows and columns reads.  A tiled layout of all rows is kept with
 * q, so that products of one input share it; that of a part is made anew. */
bool rg_q8_for(struct rg_step *s, struct rg_qx *out, struct rg_q8 *q, const struct rg_matrix *m,
               const struct rg_q8_view *view);

/* ---- product.c */

/* One matrix times some rows: either quantised (x.n rows) or floats (n_f32 rows). */
struct rg_product {
    struct rg_matrix m;
    struct rg_qx qx;  /* used when f32 is NULL */
    const float *f32; /* [n][f32_stride]       */
    size_t f32_stride;
    uint32_t n;
    float *y; /* y[t * y_stride + r]   */
    size_t y_stride;
    const float *bias; /* [m.rows] or NULL      */
};

/* Runs all products together: their rows are shared out by cost. */
void rg_products_run(struct rg_backend *b, struct rg_product *products, uint32_t n);

/* True when w times x takes the integer path. */
bool rg_product_is_quantised(const struct rg_backend *b, const struct rg_matrix *m);

#endif
