/* node_plan.c - the head makes a proposal of the nodes that are up. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cluster/node_state.h"
#include "cluster/plan_model.h"

void rg_node_limits(const struct rg_node *n, const struct rg_proposal *p,
                    struct rg_step_limits *out)
{
    *out = (struct rg_step_limits){.max_rows = p->max_rows,
                                   .parallel = p->parallel,
                                   .n_blocks = p->n_blocks,
                                   .block_tokens = p->block_tokens,
                                   .context = p->context,
                                   .hidden = n->checkpoint->config.hidden_size};
}

/* What is known of each layer: from whichever node has it. */
struct known {
    uint64_t *layer_bytes; /* owned [n_layers], with the next */
    bool *has_layer;       /* owned [n_peers][n_layers] */
    struct rg_plan_peer peers[RG_LIMIT_PEERS];
    uint32_t n_peers;
};

static void known_free(struct known *k)
{
    rg_free(k->layer_bytes);
    rg_free(k->has_layer);
}

static enum rg_code gather(struct rg_node *n, const struct rg_hello *const *hellos,
                           uint32_t n_peers, struct known *k, struct rg_err *err)
{
    const uint32_t n_layers = n->checkpoint->config.num_hidden_layers;

    *k = (struct known){.layer_bytes = rg_calloc(n_layers, sizeof *k->layer_bytes),
                        .has_layer = rg_calloc((size_t)n_peers * n_layers, sizeof *k->has_layer)};
    if (!k->layer_bytes || !k->has_layer)
        return rg_fail(err, RG_E_NOMEM, "out of memory: a plan of %u layers", n_layers);
    for (uint32_t i = 0; i < n_peers; i++) {
        bool *has = k->has_layer + (size_t)k->n_peers * n_layers;

        if (!hellos[i])
            continue;
        for (uint32_t l = 0; l < n_layers; l++) {
            const struct rg_layer_card *card = &hellos[i]->model.layers[l];

            has[l] = card->there;
            if (card->there)
                k->layer_bytes[l] = card->bytes;
        }
        k->peers[k->n_peers++] = (struct rg_plan_peer){.id = n->discovery.peers[i].id,
                                                       .memory_bytes =
                                                           n->discovery.peers[i].memory_bytes,
                                                       .has_layer = has,
                                                       .head = i == 0};
    }
    return RG_OK;
}

static enum rg_code make_plan(struct rg_node *n, const struct known *k, struct rg_plan *plan,
                              struct rg_err *err)
{
    const struct rg_plan_request request = {
        .checkpoint = n->checkpoint,
        .layer_bytes = k->layer_bytes,
        .activations = n->options.backend.activations,
        /* Once the engine runs, its blocks are numbered: the context stays. */
        .context = n->formed ? n->context : n->asked.context,
        .context_asked = n->formed || n->asked.context_asked,
        .parallel = n->formed ? n->parallel : n->asked.parallel,
        .chunk_rows = n->asked.chunk_rows,
        .peers = k->peers,
        .n_peers = k->n_peers,
        .ranges = n->ranges,
        .n_ranges = n->n_ranges};

    return rg_plan_fit_context(plan, &request, err);
}

static void fill(const struct rg_node *n, const struct rg_plan *plan, struct rg_proposal *out)
{
    *out = (struct rg_proposal){
        .n_nodes = plan->n_parts,
        .context = plan->context,
        .parallel = plan->parallel,
        .n_blocks = rg_plan_blocks(plan->context, plan->parallel),
        .block_tokens = RG_PLAN_BLOCK_TOKENS,
        .max_rows = n->asked.chunk_rows + plan->parallel,
        .activations_f32 = n->options.backend.activations == RG_ACTIVATIONS_F32,
        .model = n->hello.model.digest};
    for (uint32_t i = 0; i < plan->n_parts; i++) {
        struct rg_ring_node *node = &out->nodes[i];

        (void)snprintf(node->id, sizeof node->id, "%s", plan->parts[i].id);
        node->first_layer = plan->parts[i].first_layer;
        node->n_layers = plan->parts[i].n_layers;
    }
}

enum rg_code rg_node_propose(void *ud, const struct rg_hello *const *hellos, uint32_t n_peers,
                             struct rg_proposal *out, struct rg_err *err)
{
    struct rg_node *n = ud;
    struct rg_plan *plan = rg_calloc(1, sizeof *plan);
    struct known known = {0};
    bool all = true;
    enum rg_code code;

    if (!plan)
        return rg_fail(err, RG_E_NOMEM, "out of memory: a plan");
    if (n->peers_wait) {
        rg_free(plan);
        return rg_fail(err, RG_E_PEER, "the nodes of %s have changed", n->discovery_path);
    }
    code = gather(n, hellos, n_peers, &known, err);
    if (!code)
        code = make_plan(n, &known, plan, err);
    if (!code)
        fill(n, plan, out);
    for (uint32_t i = 0; i < n_peers; i++)
        all = all && hellos[i];
    /* With everybody there, waiting changes nothing. */
    if (all && !n->formed && (code == RG_E_FIT || code == RG_E_USAGE))
        rg_node_note(n, RG_NOTE_HOPELESS, NULL, NULL, (struct rg_epoch){0}, err);
    known_free(&known);
    rg_free(plan);
    return code;
}
