/* grpc_links.c - the links of a transport: their list, and those that it ends: all, or in time. */
#include "cluster/grpc_link.h"

void rg_link_list_add(struct rg_link *l)
{
    struct rg_transport *t = l->transport;

    l->next = t->links;
    if (t->links)
        t->links->previous = l;
    t->links = l;
}

void rg_link_list_remove(struct rg_link *l)
{
    struct rg_transport *t = l->transport;

    if (l->next)
        l->next->previous = l->previous;
    if (l->previous)
        l->previous->next = l->next;
    else
        t->links = l->next;
}

/* t->mutex is held; NULL: every link was swept. */
static struct rg_link *next_to_sweep(struct rg_transport *t)
{
    for (struct rg_link *l = t->links; l; l = l->next) {
        if (!l->swept) {
            l->swept = true;
            atomic_fetch_add(&l->refs, 1);
            return l;
        }
    }
    return NULL;
}

void rg_links_cancel(struct rg_transport *t)
{
    for (;;) {
        pthread_mutex_lock(&t->mutex);
        struct rg_link *l = next_to_sweep(t);

        pthread_mutex_unlock(&t->mutex);
        if (!l)
            return;
        pthread_mutex_lock(&l->mutex);
        rg_link_close_locked(l, "this node is closing", true);
        pthread_mutex_unlock(&l->mutex);
        rg_link_unref(l);
    }
}

/* Cuts it if its time is over; else the time. */
static int64_t expire(struct rg_link *l, int64_t now_ms)
{
    int64_t until = INT64_MAX;

    pthread_mutex_lock(&l->mutex);
    if (l->timed && !l->over && !l->cut) {
        until = l->until_ms;
        if (until <= now_ms) {
            if (!l->closing)
                rg_fail(&l->local, RG_E_PEER, "%s: no %s in %d s", l->peer,
                        l->open ? "end" : "answer", RG_LIMIT_HELLO_WAIT_MS / 1000);
            rg_payloads_hold();
            rg_link_cut(l, GRPC_STATUS_ABORTED, l->goodbye);
            rg_link_release_payloads(l);
            until = INT64_MAX;
        }
    }
    pthread_mutex_unlock(&l->mutex);
    return until;
}

int64_t rg_links_expire(struct rg_transport *t, int64_t now_ms)
{
    int64_t next = INT64_MAX;

    pthread_mutex_lock(&t->mutex);
    struct rg_link *l = t->n_timed > 0 ? t->links : NULL;

    pthread_mutex_unlock(&t->mutex);
    /* Links are taken out of the list by this thread alone, and put in only before the first. */
    for (; l; l = l->next) {
        const int64_t until = expire(l, now_ms);

        if (until < next)
            next = until;
    }
    return next;
}
