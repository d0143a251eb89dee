/* inventory.c - which modules each architecture has, layer by layer.
 *
 * Keys and shapes: the model files of mlx-lm.  A tensor of the checkpoint that is not listed
 * here is an error, except those of rg_inventory_drops(). */
#include "checkpoint/inventory.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

struct lister {
    struct rg_inventory *out;
    const struct rg_model_config *c;
    const struct rg_tensor_set *tensors;
    int32_t layer;
    enum rg_code code;             /* the first failure sticks */
    struct rg_module_spec nowhere; /* what a caller may write to after a failure */
    struct rg_err *err;
};

static struct rg_module_spec *add(struct lister *l, const char *role)
{
    struct rg_inventory *v = l->out;

    if (!l->code)
        l->code = rg_grow((void **)&v->specs, &v->capacity, v->n + 1, sizeof v->specs[0], l->err);
    if (l->code)
        return &l->nowhere;

    struct rg_module_spec *s = &v->specs[v->n++];

    memset(s, 0, sizeof *s);
    assert(strlen(role) < sizeof s->role);
    memcpy(s->role, role, strlen(role) + 1);
    s->layer = l->layer;
    return s;
}

static void add_vector(struct lister *l, const char *role, uint32_t n)
{
    struct rg_module_spec *s = add(l, role);

    s->rows = 1;
    s->cols = n;
    s->vector = true;
}

static void add_bare_vector(struct lister *l, const char *role, uint32_t n)
{
    struct rg_module_spec *s = add(l, role);

    s->rows = 1;
    s->cols = n;
    s->vector = s->bare = true;
}

static struct rg_module_spec *add_matrix(struct lister *l, const char *role, uint32_t rows,
                                         uint32_t cols)
{
    struct rg_module_spec *s = add(l, role);

    s->rows = rows;
    s->cols = cols;
    return s;
}

static void add_linear(struct lister *l, const char *role, uint32_t rows, uint32_t cols, bool bias)
{
    char name[RG_ROLE_BYTES];

    add_matrix(l, role, rows, cols);
    if (!bias)
        return;
    (void)snprintf(name, sizeof name, "%s.bias", role);
    add_bare_vector(l, name, rows);
}

/* A matrix of this layer is there, as one tensor or as codes, or it is in a missing shard. */
static bool matrix_in_layer(const struct lister *l, const char *role)
{
    char path[256];

    (void)snprintf(path, sizeof path, "%smodel.layers.%" PRId32 ".%s", l->c->prefix, l->layer,
                   role);
    return rg_module_is_known(l->tensors, path);
}

/* Experts stored one by one; when shards are missing, the first ones may be in them. */
static bool single_experts(const struct lister *l, const char *name)
{
    const uint32_t most = rg_tensor_set_missing(l->tensors) > 0 ? l->c->n_routed_experts : 1;
    char role[RG_ROLE_BYTES];

    for (uint32_t e = 0; e < most; e++) {
        (void)snprintf(role, sizeof role, "mlp.experts.%" PRIu32 ".%s", e, name);
        if (matrix_in_layer(l, role))
            return true;
    }
    return false;
}

static void list_mla(struct lister *l)
{
    const struct rg_model_config *c = l->c;
    const uint32_t heads = c->num_attention_heads, hidden = c->hidden_size;
    const uint32_t nope = c->qk_nope_head_dim, rope = c->qk_rope_head_dim, v = c->v_head_dim;

    if (c->q_lora_rank > 0) {
        add_linear(l, "self_attn.q_a_proj", c->q_lora_rank, hidden, c->attention_bias);
        add_vector(l, "self_attn.q_a_layernorm", c->q_lora_rank);
        add_linear(l, "self_attn.q_b_proj", heads * (nope + rope), c->q_lora_rank, false);
    } else {
        add_linear(l, "self_attn.q_proj", heads * (nope + rope), hidden, false);
    }
    add_linear(l, "self_attn.kv_a_proj_with_mqa", c->kv_lora_rank + rope, hidden,
               c->attention_bias);
    add_vector(l, "self_attn.kv_a_layernorm", c->kv_lora_rank);
    /* mlx-lm wrote kv_b_proj until February 2026, since then its two halves per head. */
    if (matrix_in_layer(l, "self_attn.kv_b_proj")) {
        add_matrix(l, "self_attn.kv_b_proj", heads * (nope + v), c->kv_lora_rank)->shapes_win =
            true;
    } else {
        struct rg_module_spec *s = add_matrix(l, "self_attn.embed_q", c->kv_lora_rank, nope);

        s->lead = heads;
        s->shapes_win = true;
        s = add_matrix(l, "self_attn.unembed_out", v, c->kv_lora_rank);
        s->lead = heads;
        s->shapes_win = true;
    }
    add_linear(l, "self_attn.o_proj", hidden, heads * v, c->attention_bias);
}

static void list_attention(struct lister *l)
{
    const struct rg_model_config *c = l->c;
    const uint32_t q = c->num_attention_heads * c->head_dim;
    const uint32_t kv = c->num_key_value_heads * c->head_dim;
    const bool bias = c->attention_bias || c->attention_bias_qkv;

    add_linear(l, "self_attn.q_proj", q, c->hidden_size, bias);
    add_linear(l, "self_attn.k_proj", kv, c->hidden_size, bias);
    add_linear(l, "self_attn.v_proj", kv, c->hidden_size, bias);
    add_linear(l, "self_attn.o_proj", c->hidden_size, q, c->attention_bias);
    if (c->qk_norm) {
        add_vector(l, "self_attn.q_norm", c->head_dim);
        add_vector(l, "self_attn.k_norm", c->head_dim);
    }
}

static void list_mlp(struct lister *l, const char *base, uint32_t width)
{
    static const char *const names[] = {"gate_proj", "up_proj", "down_proj"};
    const uint32_t hidden = l->c->hidden_size;
    char role[RG_ROLE_BYTES];

    for (size_t i = 0; i < 3; i++) {
        (void)snprintf(role, sizeof role, "%s.%s", base, names[i]);
        add_linear(l, role, i == 2 ? hidden : width, i == 2 ? width : hidden, l->c->mlp_bias);
    }
}

static void list_experts(struct lister *l)
{
    static const char *const names[] = {"gate_proj", "up_proj", "down_proj"};
    const uint32_t hidden = l->c->hidden_size, width = l->c->moe_intermediate_size;
    char role[RG_ROLE_BYTES];

    for (size_t i = 0; i < 3; i++) {
        (void)snprintf(role, sizeof role, "mlp.switch_mlp.%s", names[i]);

        struct rg_module_spec *s =
            add_matrix(l, role, i == 2 ? hidden : width, i == 2 ? width : hidden);

        s->lead = l->c->n_routed_experts;
        s->one_by_one = single_experts(l, names[i]) ? names[i] : NULL;
    }
}

static void list_moe(struct lister *l)
{
    const struct rg_model_config *c = l->c;
    struct rg_module_spec *gate = add_matrix(l, "mlp.gate", c->n_routed_experts, c->hidden_size);

    if (c->family == RG_FAMILY_DEEPSEEK_V3) {
        gate->never_quantised = true;
        add_bare_vector(l, "mlp.gate.e_score_correction_bias", c->n_routed_experts);
    }
    list_experts(l);
    if (c->n_shared_experts > 0)
        list_mlp(l, "mlp.shared_experts", c->n_shared_experts * c->moe_intermediate_size);
}

static void list_layer(struct lister *l)
{
    add_vector(l, "input_layernorm", l->c->hidden_size);
    if (l->c->family == RG_FAMILY_DEEPSEEK_V3)
        list_mla(l);
    else
        list_attention(l);
    add_vector(l, "post_attention_layernorm", l->c->hidden_size);
    if (rg_model_layer_is_moe(l->c, (uint32_t)l->layer))
        list_moe(l);
    else
        list_mlp(l, "mlp", l->c->intermediate_size);
}

enum rg_code rg_inventory_list(struct rg_inventory *out, const struct rg_model_config *c,
                               const struct rg_tensor_set *tensors, struct rg_err *err)
{
    struct lister l = {.out = out, .c = c, .tensors = tensors, .layer = RG_LAYER_NONE, .err = err};

    memset(out, 0, sizeof *out);
    add_matrix(&l, "model.embed_tokens", c->vocab_size, c->hidden_size);
    for (uint32_t i = 0; i < c->num_hidden_layers && !l.code; i++) {
        l.layer = (int32_t)i;
        list_layer(&l);
    }
    l.layer = RG_LAYER_HEAD;
    add_vector(&l, "model.norm", c->hidden_size);
    if (!c->tie_word_embeddings)
        add_matrix(&l, "lm_head", c->vocab_size, c->hidden_size);
    if (l.code)
        rg_inventory_free(out);
    return l.code;
}

void rg_inventory_free(struct rg_inventory *v)
{
    rg_free(v->specs);
    memset(v, 0, sizeof *v);
}

static bool begins(const char *s, const char *head)
{
    return strncmp(s, head, strlen(head)) == 0;
}

bool rg_inventory_drops(const struct rg_model_config *c, const char *tensor)
{
    static const char *const vision[] = {"vision_tower", "vision_model", "multi_modal_projector",
                                         "mm_projector"};
    static const char layers[] = "model.layers.";
    const char *name = tensor;

    if (strstr(tensor, "rotary_emb.inv_freq"))
        return true;
    if (*c->prefix) {
        for (size_t i = 0; i < sizeof vision / sizeof vision[0]; i++) {
            if (begins(tensor, vision[i]))
                return true;
        }
        if (!begins(tensor, c->prefix))
            return false;
        name += strlen(c->prefix);
    }
    if (c->tie_word_embeddings && begins(name, "lm_head."))
        return true;
    if (c->family != RG_FAMILY_DEEPSEEK_V3 || !begins(name, layers))
        return false;

    /* The multi-token-prediction layers stand behind the last one. */
    uint64_t layer = 0;

    name += sizeof layers - 1;
    if (*name < '0' || *name > '9')
        return false;
    for (; *name >= '0' && *name <= '9' && layer < RG_LIMIT_LAYERS; name++)
        layer = layer * 10 + (uint64_t)(*name - '0');
    return *name == '.' && layer >= c->num_hidden_layers;
}
