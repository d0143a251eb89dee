/* node_options.c - flags to a node's options. */
#include "cli/node_options.h"

enum rg_code rg_node_options_from_flags(struct rg_node_options *out, const struct rg_options *o,
                                        const struct rg_llm_options *llm, struct rg_err *err)
{
    const char *alone = o->node_id     ? "node-id"
                        : o->node_host ? "node-host"
                        : o->node_port ? "node-port"
                        : o->tls_dir   ? "tls-dir"
                        : o->layers    ? "layers"
                                       : NULL;

    if (!o->discovery && alone)
        return rg_fail(err, RG_E_USAGE,
                       "--%s: give the nodes of the ring too: --discovery-config-path FILE", alone);
    *out = (struct rg_node_options){.discovery_path = o->discovery,
                                    .node_id = o->node_id,
                                    .host = o->node_host,
                                    .port = (uint32_t)o->node_port,
                                    .tls_dir = o->tls_dir,
                                    .insecure_peers = o->insecure_peers,
                                    .wait_for = o->wait_for,
                                    .layers = o->layers,
                                    .overcommit = o->overcommit,
                                    .stuck_ms = o->stuck_s * 1000,
                                    .grace_ms = o->rejoin_grace_s * 1000,
                                    .backend = llm->backend};
    return RG_OK;
}
