/* ring_head.c - the node of a ring on its own thread. */
#include "cli/ring_head.h"

#include <pthread.h>
#include <string.h>

#include <uv.h>

#include "base/mem.h"
#include "cluster/model_card.h"

enum state { WAITING, FORMED, FAILED };

struct rg_ring_head {
    uv_loop_t loop;
    uv_async_t end;
    struct rg_node *node;
    struct rg_model_card card;
    struct rg_pipeline *pipeline;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum state state;
    struct rg_err why; /* of FAILED */
};

/* ---- on the node's thread -------------------------------------------------------------------- */

static void settle(struct rg_ring_head *h, enum state state, const struct rg_err *why)
{
    pthread_mutex_lock(&h->lock);
    if (h->state == WAITING) {
        h->state = state;
        if (why)
            h->why = *why;
        pthread_cond_signal(&h->changed);
    }
    pthread_mutex_unlock(&h->lock);
}

static void on_formed(void *ud, struct rg_pipeline *pipeline, uint32_t context, uint32_t parallel)
{
    struct rg_ring_head *h = ud;

    (void)context;
    (void)parallel;
    h->pipeline = pipeline;
    settle(h, FORMED, NULL);
}

static void on_change(void *ud)
{
    (void)ud;
}

static void on_hopeless(void *ud, const struct rg_err *why)
{
    settle(ud, FAILED, why);
}

static void on_end(uv_async_t *end)
{
    struct rg_ring_head *h = end->data;

    uv_close((uv_handle_t *)end, NULL);
    rg_node_halt(h->node);
    rg_pipeline_close(h->pipeline);
    rg_node_close(h->node);
}

static void *run(void *arg)
{
    struct rg_ring_head *h = arg;

    (void)uv_run(&h->loop, UV_RUN_DEFAULT);
    return NULL;
}

/* ---- on the caller's ------------------------------------------------------------------------- */

static enum rg_code open_node(struct rg_ring_head *h, const struct rg_node_options *options,
                              const struct rg_node_model *model, struct rg_err *err)
{
    static const struct rg_node_events events = {
        .on_formed = on_formed, .on_change = on_change, .on_hopeless = on_hopeless};
    enum rg_code code = rg_node_open(&h->node, &h->loop, options, &events, h, err);

    if (!code && !rg_node_is_head(h->node))
        code = rg_fail(err, RG_E_USAGE, "--node-id %s: this command runs on the head: %s",
                       rg_node_id(h->node), rg_node_head_id(h->node));
    if (!code)
        code = rg_node_begin(h->node, model, err);
    if (code && h->node)
        rg_node_close(h->node);
    return code;
}

static enum rg_code wait_until_formed(struct rg_ring_head *h, struct rg_err *err)
{
    enum rg_code code = RG_OK;

    pthread_mutex_lock(&h->lock);
    while (h->state == WAITING)
        pthread_cond_wait(&h->changed, &h->lock);
    if (h->state == FAILED) {
        code = h->why.code;
        if (err)
            *err = h->why;
    }
    pthread_mutex_unlock(&h->lock);
    return code;
}

static enum rg_code open_loop(struct rg_ring_head *h, struct rg_err *err)
{
    int status = uv_loop_init(&h->loop);

    if (status)
        return rg_fail(err, RG_E_IO, "the event loop does not start: %s", uv_strerror(status));
    h->end.data = h;
    status = uv_async_init(&h->loop, &h->end, on_end);
    if (!status)
        return RG_OK;
    (void)uv_loop_close(&h->loop);
    return rg_fail(err, RG_E_IO, "the event loop does not start: %s", uv_strerror(status));
}

static void free_head(struct rg_ring_head *h)
{
    (void)uv_loop_close(&h->loop);
    rg_model_card_free(&h->card);
    pthread_mutex_destroy(&h->lock);
    pthread_cond_destroy(&h->changed);
    rg_free(h);
}

enum rg_code rg_ring_head_open(struct rg_ring_head **out, const struct rg_node_options *node,
                               const struct rg_checkpoint *checkpoint, uint32_t context,
                               uint32_t chunk_rows, struct rg_err *err)
{
    struct rg_ring_head *h = rg_calloc(1, sizeof *h);
    enum rg_code code;

    *out = NULL;
    if (!h)
        return rg_fail(err, RG_E_NOMEM, "out of memory: a ring");
    if (pthread_mutex_init(&h->lock, NULL) != 0 || pthread_cond_init(&h->changed, NULL) != 0) {
        rg_free(h);
        return rg_fail(err, RG_E_IO, "a ring's lock could not be made");
    }
    code = open_loop(h, err);
    if (code) {
        pthread_mutex_destroy(&h->lock);
        pthread_cond_destroy(&h->changed);
        rg_free(h);
        return code;
    }
    code = rg_model_card_make(&h->card, checkpoint, NULL, err);
    if (!code) {
        const struct rg_node_model model = {.checkpoint = checkpoint,
                                            .card = &h->card,
                                            .context = context,
                                            .parallel = 1,
                                            .chunk_rows = chunk_rows,
                                            .context_asked = true};

        code = open_node(h, node, &model, err);
    }
    if (!code && pthread_create(&h->thread, NULL, run, h) != 0) {
        code = rg_fail(err, RG_E_IO, "no thread for the ring");
        rg_node_close(h->node);
    }
    if (code) {
        uv_close((uv_handle_t *)&h->end, NULL);
        (void)uv_run(&h->loop, UV_RUN_DEFAULT);
        free_head(h);
        return code;
    }
    code = wait_until_formed(h, err);
    if (code)
        rg_ring_head_close(h);
    else
        *out = h;
    return code;
}

struct rg_pipeline *rg_ring_head_pipeline(struct rg_ring_head *h)
{
    return h->pipeline;
}

void rg_ring_head_close(struct rg_ring_head *h)
{
    if (!h)
        return;
    (void)uv_async_send(&h->end);
    pthread_join(h->thread, NULL);
    free_head(h);
}
