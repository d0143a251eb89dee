/* ring_buffers.c - a few buffers of rows that go round between the ring and the transport.
 *
 * A buffer grows to the largest step that it carried, so that nothing is allocated once the first
 * steps have passed. */
#include <string.h>

#include "base/mem.h"
#include "cluster/ring_state.h"

enum { ROWS_ALIGNMENT = 64 };

enum rg_code rg_ring_pool_init(struct rg_ring_pool *p, struct rg_err *err)
{
    *p = (struct rg_ring_pool){.most = 1};
    if (pthread_mutex_init(&p->mutex, NULL) != 0)
        return rg_fail(err, RG_E_IO, "ring: no mutex");
    if (pthread_cond_init(&p->back, NULL) != 0) {
        pthread_mutex_destroy(&p->mutex);
        return rg_fail(err, RG_E_IO, "ring: no condition variable");
    }
    return RG_OK;
}

void rg_ring_pool_destroy(struct rg_ring_pool *p)
{
    pthread_mutex_lock(&p->mutex);
    while (p->n_out > 0)
        pthread_cond_wait(&p->back, &p->mutex);
    pthread_mutex_unlock(&p->mutex);
    while (p->free) {
        struct rg_ring_buffer *b = p->free;

        p->free = b->next;
        rg_free(b->rows);
        rg_free(b);
    }
    pthread_cond_destroy(&p->back);
    pthread_mutex_destroy(&p->mutex);
}

/* The smallest that has room, else the largest; p->mutex is held. */
static struct rg_ring_buffer *pick(struct rg_ring_pool *p, size_t bytes)
{
    struct rg_ring_buffer **best = &p->free;

    for (struct rg_ring_buffer **at = &p->free; *at; at = &(*at)->next) {
        const bool fits = (*at)->bytes >= bytes, best_fits = (*best)->bytes >= bytes;

        if (fits != best_fits ? fits : fits == ((*at)->bytes < (*best)->bytes))
            best = at;
    }

    struct rg_ring_buffer *b = *best;

    if (b)
        *best = b->next;
    return b;
}

static enum rg_code make_room(struct rg_ring_buffer *b, size_t bytes, struct rg_err *err)
{
    if (b->bytes >= bytes)
        return RG_OK;
    rg_free(b->rows);
    b->rows = rg_alloc_aligned(bytes, ROWS_ALIGNMENT);
    b->bytes = b->rows ? bytes : 0;
    return b->rows ? RG_OK : rg_fail(err, RG_E_NOMEM, "ring: no memory for %zu bytes", bytes);
}

enum rg_code rg_ring_pool_take(struct rg_ring_buffer **out, struct rg_ring_pool *p, size_t bytes,
                               const _Atomic uint64_t *live, uint64_t run, struct rg_err *err)
{
    struct rg_ring_buffer *b = NULL;
    enum rg_code code;

    *out = NULL;
    pthread_mutex_lock(&p->mutex);
    while (p->n_out >= p->most && atomic_load(live) == run)
        pthread_cond_wait(&p->back, &p->mutex);
    if (atomic_load(live) != run) {
        pthread_mutex_unlock(&p->mutex);
        return rg_fail(err, RG_E_PEER, "ring: the epoch is over");
    }
    b = pick(p, bytes);
    p->n_out++;
    pthread_mutex_unlock(&p->mutex);
    if (!b) {
        b = rg_calloc(1, sizeof *b);
        if (b)
            b->pool = p;
    }
    code = b ? make_room(b, bytes, err) : rg_fail(err, RG_E_NOMEM, "ring: out of memory");
    if (code == RG_OK) {
        *out = b;
        return RG_OK;
    }
    rg_free(b);
    pthread_mutex_lock(&p->mutex);
    p->n_out--;
    pthread_mutex_unlock(&p->mutex);
    return code;
}

void rg_ring_pool_give(struct rg_ring_buffer *b)
{
    struct rg_ring_pool *p = b->pool;

    pthread_mutex_lock(&p->mutex);
    b->next = p->free;
    p->free = b;
    p->n_out--;
    pthread_cond_broadcast(&p->back);
    pthread_mutex_unlock(&p->mutex);
}

void rg_ring_pool_set_most(struct rg_ring_pool *p, uint32_t most)
{
    pthread_mutex_lock(&p->mutex);
    p->most = most;
    pthread_cond_broadcast(&p->back);
    pthread_mutex_unlock(&p->mutex);
}

void rg_ring_pool_wake(struct rg_ring_pool *p)
{
    pthread_mutex_lock(&p->mutex);
    pthread_cond_broadcast(&p->back);
    pthread_mutex_unlock(&p->mutex);
}
