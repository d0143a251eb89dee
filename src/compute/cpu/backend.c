/* backend.c - opening the CPU backend: kernels by what the CPU has, the pool, the scratch. */
#include "compute/cpu/backend.h"

#include <assert.h>
#include <string.h>
#ifdef RG_HAVE_AVX2
#include <cpuid.h>
#endif

#include "base/mem.h"

#ifdef RG_HAVE_AVX2
extern const struct rg_kernels rg_kernels_avx2;

static bool cpu_has_avx2(void)
{
    uint32_t a, b, c = 0, d;

    /* f16c by its CPUID bit: clang 14 does not know the name */
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) != 0;
}
#endif

const struct rg_kernels *rg_kernels_find(enum rg_cpu_kernels which)
{
    if (which == RG_KERNELS_SCALAR)
        return &rg_kernels_scalar;
#ifdef RG_HAVE_AVX2
    if (which == RG_KERNELS_AVX2 || which == RG_KERNELS_BEST)
        if (cpu_has_avx2())
            return &rg_kernels_avx2;
#endif
    return which == RG_KERNELS_BEST ? &rg_kernels_scalar : NULL;
}

static const char *kernels_name(enum rg_cpu_kernels which)
{
    return which == RG_KERNELS_AVX2 ? "avx2" : which == RG_KERNELS_NEON ? "neon" : "these";
}

enum rg_code rg_backend_open(struct rg_backend **out, const struct rg_backend_options *options,
                             struct rg_err *err)
{
    const struct rg_kernels *kernels = rg_kernels_find(options->kernels);
    struct rg_backend *b;
    enum rg_code code;

    *out = NULL;
    if (!kernels)
        return rg_fail(
            err, RG_E_USAGE,
            "kernels: %s: this build on this CPU has none: use scalar or leave the choice",
            kernels_name(options->kernels));
    b = rg_calloc(1, sizeof(*b));
    if (!b)
        return rg_fail(err, RG_E_NOMEM, "backend: out of memory");
    b->kernels = kernels;
    b->activations = options->activations;
    b->step.backend = b;
    for (int i = 0; i < 2; i++)
        rg_arena_init(&b->step.tensors[i], 0);
    rg_arena_init(&b->step.whole, 0);
    code = rg_pool_open(&b->pool, options->threads, err);
    if (code == RG_OK)
        code = rg_backend_need_scratch(b, rg_kernels_scratch(1024), err);
    if (code != RG_OK) {
        rg_backend_close(b);
        return code;
    }
    *out = b;
    return RG_OK;
}

void rg_backend_close(struct rg_backend *b)
{
    if (!b)
        return;
    assert(!b->step.open);
    rg_pool_close(b->pool);
    for (int i = 0; i < 2; i++)
        rg_arena_free(&b->step.tensors[i]);
    rg_arena_free(&b->step.whole);
    rg_free(b->scratch);
    rg_free(b);
}

const char *rg_backend_kernels(const struct rg_backend *b)
{
    return b->kernels->name;
}

const char *rg_backend_class(const struct rg_backend *b)
{
    (void)b;
    return RG_NUMERICS_CPU;
}

uint32_t rg_backend_threads(const struct rg_backend *b)
{
    return rg_pool_threads(b->pool);
}

enum rg_code rg_backend_need_scratch(struct rg_backend *b, size_t bytes, struct rg_err *err)
{
    const size_t piece = (bytes + 63) & ~(size_t)63;
    uint8_t *scratch;

    assert(!b->step.open);
    if (piece <= b->scratch_bytes)
        return RG_OK;
    scratch = rg_alloc_aligned(piece * rg_pool_threads(b->pool), 64);
    if (!scratch)
        return rg_fail(err, RG_E_NOMEM, "backend: %zu bytes of scratch per thread: out of memory",
                       piece);
    rg_free(b->scratch);
    b->scratch = scratch;
    b->scratch_bytes = piece;
    return RG_OK;
}

void rg_backend_run(struct rg_backend *b, rg_pool_fn *fn, void *arg, uint64_t work)
{
    /* Waking the pool costs some microseconds: as much as this many operations on one thread. */
    const uint64_t worth_sharing = 32768;

    if (work < worth_sharing)
        fn(arg, 0, 1);
    else
        rg_pool_run(b->pool, fn, arg);
}
