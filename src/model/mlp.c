/* mlp.c - the dense SwiGLU MLP: down(silu(gate(x)) * up(x)). */
#include <assert.h>
#include <stdio.h>

#include "model/blocks.h"

static enum rg_code load_part(struct rg_linear *out, struct rg_loader *l, const char *prefix,
                              const char *name, struct rg_err *err)
{
    char role[64];
    const int n = snprintf(role, sizeof(role), "%s.%s", prefix, name);

    assert(n > 0 && (size_t)n < sizeof(role));
    (void)n;
    return rg_load_linear(l, out, role, err);
}

enum rg_code rg_mlp_load(struct rg_mlp *m, struct rg_loader *l, const char *prefix,
                         struct rg_err *err)
{
    enum rg_code code = load_part(&m->gate, l, prefix, "gate_proj", err);

    if (code == RG_OK)
        code = load_part(&m->up, l, prefix, "up_proj", err);
    if (code == RG_OK)
        code = load_part(&m->down, l, prefix, "down_proj", err);
    return code;
}

struct rg_tensor *rg_mlp_forward(const struct rg_mlp *m, struct rg_step *s,
                                 const struct rg_tensor *x)
{
    const struct rg_tensor *gate = rg_linear_forward(&m->gate, s, x);
    const struct rg_tensor *up = rg_linear_forward(&m->up, s, x);

    return rg_linear_forward(&m->down, s, rg_op_swiglu(s, gate, up));
}

struct rg_tensor *rg_mlp_block(const struct rg_mlp *m, const struct rg_pass *p,
                               const struct rg_weight *norm, struct rg_tensor *x)
{
    const struct rg_tensor *h = rg_op_rms_norm(p->step, x, norm, p->eps);

    return rg_op_add(p->step, x, rg_mlp_forward(m, p->step, h));
}
