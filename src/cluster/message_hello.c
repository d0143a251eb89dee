/* message_hello.c - Hello, with its model card, and Refuse. */
#include <string.h>

#include "base/mem.h"
#include "cluster/message_kinds.h"
#include "cluster/message_wire.h"

#define BYTES_MOST (UINT64_C(1) << 56) /* of memory or of a layer: far above any, far below 2^63 */

/* ---- decoding -------------------------------------------------------------------------------- */

static enum rg_code decode_card(struct rg_layer_card *out, const Renga__V1__LayerCard *c,
                                const char *name, struct rg_err *err)
{
    char field[RG_SHORT_TEXT_BYTES] = "Hello.model.";
    enum rg_code code;

    rg_wire_text(field + strlen(field), sizeof field - strlen(field), name);
    *out = (struct rg_layer_card){.there = c != NULL};
    if (!c)
        return RG_OK;
    code = rg_wire_range(c->bytes, 1, BYTES_MOST, field, err);
    if (code == RG_OK)
        code = rg_wire_digest(&out->digest, c->digest, field, err);
    out->bytes = c->bytes;
    return code;
}

static enum rg_code decode_layers(struct rg_model_card *out, const Renga__V1__ModelCard *m,
                                  struct rg_err *err)
{
    uint32_t next = 0;

    for (size_t i = 0; i < m->n_layers; i++) {
        const Renga__V1__LayerCard *c = m->layers[i];
        enum rg_code code;

        if (c->layer < next || c->layer >= out->n_layers)
            return rg_fail(err, RG_E_BAD_DATA,
                           "Hello.model.layers.layer: %u, wanted is one of %u..%u", c->layer, next,
                           out->n_layers - 1);
        code = decode_card(&out->layers[c->layer], c, "layers", err);
        if (code != RG_OK)
            return code;
        next = c->layer + 1;
    }
    return RG_OK;
}

static enum rg_code decode_model(struct rg_model_card *out, const Renga__V1__ModelCard *m,
                                 struct rg_err *err)
{
    enum rg_code code;

    *out = (struct rg_model_card){0};
    if (!m)
        return rg_fail(err, RG_E_BAD_DATA, "Hello.model: absent");
    code = rg_wire_digest(&out->digest, m->digest, "Hello.model.digest", err);
    if (code == RG_OK)
        code = rg_wire_range(m->layer_count, 1, RG_LIMIT_LAYERS, "Hello.model.layer_count", err);
    if (code == RG_OK)
        code = decode_card(&out->embedding, m->embedding, "embedding", err);
    if (code == RG_OK)
        code = decode_card(&out->head, m->head, "head", err);
    if (code != RG_OK)
        return code;
    out->layers = rg_calloc(m->layer_count, sizeof *out->layers);
    if (!out->layers)
        return rg_fail(err, RG_E_NOMEM, "Hello: out of memory");
    out->n_layers = m->layer_count;
    code = decode_layers(out, m, err);
    if (code != RG_OK)
        rg_model_card_free(out);
    return code;
}

static bool is_cluster(const char *s)
{
    if (strcmp(s, "plain") == 0)
        return true;
    return strlen(s) == RG_CLUSTER_ID_BYTES &&
           strspn(s, "0123456789abcdef") == RG_CLUSTER_ID_BYTES;
}

static enum rg_code decode_names(struct rg_hello *out, const Renga__V1__Hello *h,
                                 struct rg_err *err)
{
    enum rg_code code = rg_wire_id(out->node_id, h->node_id, "Hello.node_id", err);

    if (code == RG_OK)
        code = rg_wire_id(out->head_id, h->head_id, "Hello.head_id", err);
    if (code != RG_OK)
        return code;
    if (!is_cluster(h->cluster))
        return rg_fail(err, RG_E_BAD_DATA, "Hello.cluster: neither 16 hex digits nor 'plain'");
    memcpy(out->cluster, h->cluster, strlen(h->cluster) + 1);
    if (h->numerics[0] == '\0' || strlen(h->numerics) >= sizeof out->numerics)
        return rg_fail(err, RG_E_BAD_DATA, "Hello.numerics: %s",
                       h->numerics[0] ? "too long" : "absent");
    rg_wire_text(out->numerics, sizeof out->numerics, h->numerics);
    rg_wire_text(out->build, sizeof out->build, h->build);
    return RG_OK;
}

enum rg_code rg_decode_hello(struct rg_message *out, const Renga__V1__ControlMessage *m,
                             struct rg_err *err)
{
    const Renga__V1__Hello *h = m->hello;
    struct rg_hello *to = &out->hello;
    enum rg_code code;

    *to = (struct rg_hello){.major = h->major,
                            .minor = h->minor,
                            .boot = h->boot,
                            .claimed_bytes = h->claimed_bytes,
                            .memory_bytes = h->memory_bytes,
                            .overcommit = h->overcommit};
    code = rg_wire_range(h->major, 1, UINT32_MAX, "Hello.major", err);
    if (code == RG_OK)
        code = decode_names(to, h, err);
    if (code == RG_OK)
        code = rg_wire_range(h->boot, 1, UINT64_MAX, "Hello.boot", err);
    if (code == RG_OK)
        code = rg_wire_range(h->claimed_bytes, 1, BYTES_MOST, "Hello.claimed_bytes", err);
    if (code == RG_OK)
        code = rg_wire_range(h->memory_bytes, 1, BYTES_MOST, "Hello.memory_bytes", err);
    return code == RG_OK ? decode_model(&to->model, h->model, err) : code;
}

enum rg_code rg_decode_refuse(struct rg_message *out, const Renga__V1__ControlMessage *m,
                              struct rg_err *err)
{
    const Renga__V1__Refuse *r = m->refuse;

    if (r->what[0] == '\0')
        return rg_fail(err, RG_E_BAD_DATA, "Refuse.what: absent");
    rg_wire_text(out->refuse.what, sizeof out->refuse.what, r->what);
    rg_wire_text(out->refuse.mine, sizeof out->refuse.mine, r->mine);
    rg_wire_text(out->refuse.yours, sizeof out->refuse.yours, r->yours);
    return RG_OK;
}

/* ---- encoding -------------------------------------------------------------------------------- */

static void fill_card(Renga__V1__LayerCard *to, const struct rg_layer_card *c, uint32_t layer)
{
    renga__v1__layer_card__init(to);
    to->layer = layer;
    to->bytes = c->bytes;
    to->digest.len = RG_DIGEST_BYTES;
    to->digest.data = (uint8_t *)(uintptr_t)c->digest.bytes; /* packing only reads */
}

struct packed_model {
    Renga__V1__ModelCard card;
    Renga__V1__LayerCard embedding, head;
    Renga__V1__LayerCard *layers; /* owned */
    Renga__V1__LayerCard **list;  /* owned */
};

static enum rg_code fill_model(struct packed_model *to, const struct rg_model_card *c,
                               struct rg_err *err)
{
    renga__v1__model_card__init(&to->card);
    to->layers = rg_calloc(c->n_layers, sizeof *to->layers);
    to->list = rg_calloc(c->n_layers, sizeof *to->list);
    if ((!to->layers || !to->list) && c->n_layers > 0)
        return rg_fail(err, RG_E_NOMEM, "Hello: out of memory");
    to->card.digest.len = RG_DIGEST_BYTES;
    to->card.digest.data = (uint8_t *)(uintptr_t)c->digest.bytes;
    to->card.layer_count = c->n_layers;
    to->card.layers = to->list;
    for (uint32_t i = 0; i < c->n_layers; i++) {
        if (!c->layers[i].there)
            continue;
        fill_card(&to->layers[i], &c->layers[i], i);
        to->list[to->card.n_layers++] = &to->layers[i];
    }
    fill_card(&to->embedding, &c->embedding, 0);
    fill_card(&to->head, &c->head, 0);
    to->card.embedding = c->embedding.there ? &to->embedding : NULL;
    to->card.head = c->head.there ? &to->head : NULL;
    return RG_OK;
}

enum rg_code rg_encode_hello(struct rg_buf *out, const struct rg_message *m, struct rg_err *err)
{
    struct rg_hello h = m->hello; /* its texts are cleaned in place */
    Renga__V1__Hello to = RENGA__V1__HELLO__INIT;
    Renga__V1__ControlMessage all = RENGA__V1__CONTROL_MESSAGE__INIT;
    struct packed_model model;
    enum rg_code code = fill_model(&model, &m->hello.model, err);

    if (code != RG_OK)
        goto out;
    rg_wire_text(h.build, sizeof h.build, m->hello.build);
    rg_wire_text(h.numerics, sizeof h.numerics, m->hello.numerics);
    to.major = h.major;
    to.minor = h.minor;
    to.build = h.build;
    to.node_id = h.node_id;
    to.boot = h.boot;
    to.head_id = h.head_id;
    to.cluster = h.cluster;
    to.numerics = h.numerics;
    to.claimed_bytes = h.claimed_bytes;
    to.memory_bytes = h.memory_bytes;
    to.overcommit = h.overcommit;
    to.model = &model.card;
    all.kind_case = RENGA__V1__CONTROL_MESSAGE__KIND_HELLO;
    all.hello = &to;
    code = rg_wire_pack(out, &all.base, RG_LIMIT_HELLO_BYTES, err);
out:
    rg_free(model.layers);
    rg_free(model.list);
    return code;
}

enum rg_code rg_encode_refuse(struct rg_buf *out, const struct rg_message *m, struct rg_err *err)
{
    struct rg_refuse r;
    Renga__V1__Refuse to = RENGA__V1__REFUSE__INIT;
    Renga__V1__ControlMessage all = RENGA__V1__CONTROL_MESSAGE__INIT;

    rg_wire_text(r.what, sizeof r.what, m->refuse.what);
    rg_wire_text(r.mine, sizeof r.mine, m->refuse.mine);
    rg_wire_text(r.yours, sizeof r.yours, m->refuse.yours);
    to.what = r.what;
    to.mine = r.mine;
    to.yours = r.yours;
    all.kind_case = RENGA__V1__CONTROL_MESSAGE__KIND_REFUSE;
    all.refuse = &to;
    return rg_wire_pack(out, &all.base, RG_LIMIT_CONTROL_BYTES, err);
}
