/* options.c - the names of activations and kernels, as flags and programs give them. */
#include <string.h>

#include "compute/compute.h"

enum rg_code rg_backend_options_named(struct rg_backend_options *o, const char *activations,
                                      const char *kernels, struct rg_err *err)
{
    o->activations = RG_ACTIVATIONS_INT8;
    o->kernels = RG_KERNELS_BEST;
    if (activations && strcmp(activations, "f32") == 0)
        o->activations = RG_ACTIVATIONS_F32;
    else if (activations && strcmp(activations, "int8") != 0)
        return rg_fail(err, RG_E_USAGE, "activations: '%.40s': give int8 or f32", activations);
    if (!kernels)
        return RG_OK;
    if (strcmp(kernels, "scalar") == 0)
        o->kernels = RG_KERNELS_SCALAR;
    else if (strcmp(kernels, "avx2") == 0)
        o->kernels = RG_KERNELS_AVX2;
    else if (strcmp(kernels, "neon") == 0)
        o->kernels = RG_KERNELS_NEON;
    else
        return rg_fail(err, RG_E_USAGE, "cpu-kernels: '%.40s': give scalar, avx2 or neon", kernels);
    return RG_OK;
}
