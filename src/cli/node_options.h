/* node_options.h - the flags of a node in a ring, as a struct rg_node_options. */
#ifndef RG_CLI_NODE_OPTIONS_H
#define RG_CLI_NODE_OPTIONS_H

#include "cli/options.h"
#include "cluster/node.h"
#include "engine/llm.h"

/* RG_E_USAGE: a flag of the ring without --discovery-config-path. */
RG_CHECKED enum rg_code rg_node_options_from_flags(struct rg_node_options *out,
                                                   const struct rg_options *o,
                                                   const struct rg_llm_options *llm,
                                                   struct rg_err *err);

#endif
