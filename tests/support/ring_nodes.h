/* ring_nodes.h - a few nodes of a ring in one process, with real transports on loopback, and a
 * stage whose layers are hashes that may take a set time.
 *
 * A hash layer keeps, block by block, the hash of all positions up to a row: a wrong block,
 * position or order gives other rows, and how the layers are split over nodes gives the same ones.
 * Header-only; include it behind cmocka.h. */
#ifndef TESTS_SUPPORT_RING_NODES_H
#define TESTS_SUPPORT_RING_NODES_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cluster/ring.h"
#include "engine/engine.h"

enum { NODES_MOST = 6, HASH_HIDDEN = 4, HASH_VOCAB = 509, WAIT_MS = 10000 };

static inline void sleep_ns(int64_t ns)
{
    const struct timespec t = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};

    nanosleep(&t, NULL);
}

/* ---- the stage of hashes --------------------------------------------------------------------- */

struct hash_stage {
    struct rg_stage base;
    uint32_t first_layer, block_tokens, positions;
    uint32_t *kv; /* [n_layers][positions] */
    int64_t layer_ns, row_ns; /* of each layer: for a step, and for each of its rows */
    atomic_uint steps;
    uint32_t fail_at; /* this step (1 = the first) fails with fail_code */
    enum rg_code fail_code;
    atomic_bool gate; /* set: run() waits */
};

static inline uint32_t hash_of(uint32_t a, uint32_t b)
{
    const uint64_t h =
        (a * UINT64_C(0x9E3779B97F4A7C15)) ^ ((b + 1) * UINT64_C(0xC2B2AE3D27D4EB4F));

    return (uint32_t)(h >> 40); /* 24 bits: exact as a float */
}

static inline void hash_rows(struct hash_stage *s, uint32_t layer, const struct rg_seq_rows *q,
                             uint32_t *values)
{
    uint32_t *kv = s->kv + (size_t)layer * s->positions;

    for (uint32_t i = 0; i < q->n_rows; i++) {
        const uint32_t at = q->position + i;
        const uint32_t slot = q->blocks[at / s->block_tokens] * s->block_tokens +
                              at % s->block_tokens;
        const uint32_t before =
            at == 0 ? s->first_layer + layer
                    : kv[q->blocks[(at - 1) / s->block_tokens] * s->block_tokens +
                         (at - 1) % s->block_tokens];

        values[q->row_begin + i] = kv[slot] = hash_of(before, values[q->row_begin + i]);
    }
}

static inline void fill_row(float *row, uint32_t hidden, float value)
{
    for (uint32_t i = 0; i < hidden; i++)
        row[i] = value;
}

static inline enum rg_code hash_run(struct rg_stage *base, const struct rg_stage_work *w,
                                    struct rg_err *err)
{
    struct hash_stage *s = (struct hash_stage *)base;
    const uint32_t n = w->batch->n_rows;
    uint32_t *values = rg_calloc(n, sizeof *values);

    if (!values)
        return rg_fail(err, RG_E_NOMEM, "hash stage");
    while (atomic_load(&s->gate))
        sleep_ns(1000000);
    for (uint32_t i = 0; i < n; i++)
        values[i] = w->tokens ? (uint32_t)w->tokens[i] : (uint32_t)w->rows_in[i * base->hidden];
    for (uint32_t l = 0; l < base->n_layers; l++) {
        for (uint32_t i = 0; i < w->batch->n_seqs; i++)
            hash_rows(s, l, &w->batch->seqs[i], values);
        if (s->layer_ns + s->row_ns > 0)
            sleep_ns(s->layer_ns + (int64_t)n * s->row_ns);
        atomic_fetch_add(&base->layers_done, 1);
    }
    for (uint32_t i = 0; w->rows_out && i < n; i++)
        fill_row(w->rows_out + (size_t)i * base->hidden, base->hidden, (float)values[i]);
    if (w->n_logit_rows > 0)
        memset(w->logits, 0, sizeof(float) * w->n_logit_rows * HASH_VOCAB);
    for (uint32_t i = 0; i < w->n_logit_rows; i++)
        w->logits[i * HASH_VOCAB + values[w->logit_rows[i]] % HASH_VOCAB] = 1.0f;
    rg_free(values);
    if (atomic_fetch_add(&s->steps, 1) + 1 == s->fail_at)
        return rg_fail(err, s->fail_code, "step %u fails", s->fail_at);
    return RG_OK;
}

static inline enum rg_code hash_embed(struct rg_stage *base, const int32_t *tokens, uint32_t n,
                                      float *rows_out, struct rg_err *err)
{
    (void)err;
    for (uint32_t i = 0; i < n; i++)
        fill_row(rows_out + (size_t)i * base->hidden, base->hidden, (float)tokens[i]);
    return RG_OK;
}

static inline enum rg_code hash_check(struct rg_stage *base, struct rg_err *err)
{
    (void)base;
    (void)err;
    return RG_OK;
}

static inline void hash_close(struct rg_stage *base)
{
    rg_free(((struct hash_stage *)base)->kv);
    rg_free(base);
}

static const struct rg_stage_ops hash_ops = {
    .run = hash_run, .embed = hash_embed, .check = hash_check, .close = hash_close};

static inline struct hash_stage *hash_open(uint32_t first_layer, uint32_t n_layers,
                                           uint32_t n_blocks, uint32_t block_tokens)
{
    struct hash_stage *s = rg_calloc(1, sizeof *s);

    assert_non_null(s);
    s->base.ops = &hash_ops;
    s->base.hidden = HASH_HIDDEN;
    s->base.vocab_size = HASH_VOCAB;
    s->base.n_layers = n_layers;
    s->first_layer = first_layer;
    s->block_tokens = block_tokens;
    s->positions = n_blocks * block_tokens;
    s->kv = rg_calloc((size_t)n_layers * s->positions + 1, sizeof *s->kv);
    assert_non_null(s->kv);
    return s;
}

/* ---- nodes ----------------------------------------------------------------------------------- */

struct node {
    struct rg_ring *ring;
    struct rg_transport *transport;
    char id[16];
    const char *names; /* of every certificate that is shown; NULL: as it is */
    atomic_uint n_connected, n_down;
    pthread_mutex_t lock; /* of why */
    struct rg_err why;    /* the last on_down's */
};

/* The head is the last of n. */
struct nodes {
    struct node at[NODES_MOST];
    uint32_t n;
    struct rg_step_limits limits;
    struct rg_epoch epoch;
    struct rg_pipeline *pipeline; /* owned, unless an engine took it */
};

static inline struct node *head_of_ring(struct nodes *s)
{
    return &s->at[s->n - 1];
}

static inline void node_connected(void *ud, struct rg_epoch epoch)
{
    (void)epoch;
    atomic_fetch_add(&((struct node *)ud)->n_connected, 1);
}

static inline void node_down(void *ud, struct rg_epoch epoch, const struct rg_err *why)
{
    struct node *n = ud;

    (void)epoch;
    pthread_mutex_lock(&n->lock);
    n->why = *why;
    pthread_mutex_unlock(&n->lock);
    atomic_fetch_add(&n->n_down, 1);
}

static inline bool node_accept(void *ud, struct rg_link *l, enum rg_link_kind kind,
                               const char *names, const char *address,
                               struct rg_link_events *events, void **link_ud)
{
    struct node *n = ud;

    (void)address;
    return kind == RG_LINK_STEPS &&
           rg_ring_accept(n->ring, l, n->names ? n->names : names, events, link_ud);
}

static inline void node_open(struct node *n, uint32_t number, bool is_head,
                             const struct rg_step_limits *limits, uint32_t vocab)
{
    struct rg_err err = {0};
    const struct rg_ring_options ring = {
        .node_id = n->id,
        .is_head = is_head,
        .hidden = limits->hidden,
        .vocab_size = vocab,
        .events = {.on_connected = node_connected, .on_down = node_down},
        .ud = n};
    const struct rg_transport_options transport = {.host = "127.0.0.1",
                                                   .node_id = n->id,
                                                   .step_bytes_max = rg_step_bytes_max(limits),
                                                   .on_accept = node_accept,
                                                   .ud = n};

    (void)snprintf(n->id, sizeof n->id, "node-%u", number);
    pthread_mutex_init(&n->lock, NULL);
    if (rg_ring_open(&n->ring, &ring, &err) != RG_OK ||
        rg_transport_open(&n->transport, &transport, &err) != RG_OK)
        fail_msg("%s", err.message);
}

static inline void nodes_open(struct nodes *s, uint32_t n, const struct rg_step_limits *limits,
                              uint32_t vocab)
{
    struct rg_err err = {0};

    memset(s, 0, sizeof *s);
    s->n = n;
    s->limits = *limits;
    s->epoch = (struct rg_epoch){.boot = 42};
    for (uint32_t i = 0; i < n; i++)
        node_open(&s->at[i], i, i + 1 == n, limits, vocab);
    if (rg_ring_pipeline(head_of_ring(s)->ring, &s->pipeline, limits->n_blocks,
                         limits->block_tokens, &err) != RG_OK)
        fail_msg("%s", err.message);
}

static inline void nodes_stop(struct nodes *s, const char *text)
{
    struct rg_err why;

    rg_fail(&why, RG_E_PEER, "%s", text);
    for (uint32_t i = 0; i < s->n; i++)
        rg_ring_stop(s->at[i].ring, &why);
}

static inline void nodes_close(struct nodes *s)
{
    nodes_stop(s, "the test is over");
    rg_pipeline_close(s->pipeline);
    for (uint32_t i = 0; i < s->n; i++)
        rg_transport_close(s->at[i].transport);
    for (uint32_t i = 0; i < s->n; i++) {
        rg_ring_close(s->at[i].ring);
        pthread_mutex_destroy(&s->at[i].lock);
    }
}

static inline void node_prepare(struct nodes *s, uint32_t i)
{
    const struct node *next = &s->at[(i + 1) % s->n], *previous = &s->at[(i + s->n - 1) % s->n];
    struct rg_ring_epoch e = {.epoch = s->epoch, .limits = s->limits, .stages = s->n};
    struct rg_err err = {0};

    if (s->n > 1) {
        (void)snprintf(e.previous_id, sizeof e.previous_id, "%s", previous->id);
        (void)snprintf(e.next_id, sizeof e.next_id, "%s", next->id);
        e.next_address = "127.0.0.1";
        e.next_port = rg_transport_port(next->transport);
    }
    if (rg_ring_prepare(s->at[i].ring, s->at[i].transport, &e, &err) != RG_OK)
        fail_msg("%s", err.message);
}

static inline bool reaches(const atomic_uint *counter, unsigned want)
{
    for (int64_t end = rg_clock_ms() + WAIT_MS; atomic_load(counter) < want;) {
        if (rg_clock_ms() > end)
            return false;
        sleep_ns(200000);
    }
    return true;
}

/* All nodes prepare the next epoch, connect, and start: the workers first. */
static inline void nodes_connect(struct nodes *s)
{
    s->epoch.n++;
    for (uint32_t i = 0; i < s->n; i++) {
        atomic_store(&s->at[i].n_connected, 0);
        atomic_store(&s->at[i].n_down, 0);
    }
    for (uint32_t i = 0; i < s->n; i++)
        node_prepare(s, i);
    for (uint32_t i = 0; i < s->n; i++)
        if (!reaches(&s->at[i].n_connected, 1))
            fail_msg("node %u does not connect: %s", i, s->at[i].why.message);
}

static inline void nodes_start(struct nodes *s)
{
    struct rg_err err = {0};

    nodes_connect(s);
    for (uint32_t i = 0; i < s->n; i++)
        if (rg_ring_start(s->at[i].ring, s->epoch, &err) != RG_OK)
            fail_msg("%s", err.message);
}

static inline void nodes_hash_stages(struct nodes *s, const uint32_t *layers, int64_t layer_ns,
                                     int64_t row_ns)
{
    uint32_t first = 0;

    for (uint32_t i = 0; i < s->n; i++) {
        struct hash_stage *h =
            hash_open(first, layers[i], s->limits.n_blocks, s->limits.block_tokens);

        h->layer_ns = layer_ns;
        h->row_ns = row_ns;
        rg_ring_set_stage(s->at[i].ring, &h->base);
        first += layers[i];
    }
}

#endif
