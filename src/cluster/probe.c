/* probe.c - the answering side of a measured link. */
#include "cluster/probe.h"

bool rg_probe_accept(struct rg_link *l, struct rg_link_events *events, void **ud)
{
    (void)l;
    (void)events;
    (void)ud;
    return false;
}
