/* model_card.c - the digests of what this disk has of a model.
 *
 * A tensor's digest is of its line of the table and its sample; a layer's digest is of its tensors'
 * digests in the order of their names.  Samples are read in the order of the files by a few
 * threads, since one read at a time would leave a disk idle: 209 378 tensors of a model with single
 * experts are as many reads. */
#include "cluster/model_card.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "base/file.h"
#include "base/mem.h"
#include "cluster/config_digest.h"

enum {
    SAMPLE_BYTES = 4096,
    SHA_BYTES = 32,
    THREADS_MOST = 8,
    BATCH = 64, /* tensors that a thread takes at once */
    LINE_BYTES = RG_LIMIT_ST_NAME_BYTES + 256
};

struct item {
    const struct rg_tensor_info *tensor;
    uint8_t sum[SHA_BYTES];
};

struct maker {
    const struct rg_checkpoint *c;
    const _Atomic bool *stop;
    EVP_MD *sha;
    struct item *items; /* owned: the tensors of what is there, in the order of the files */
    size_t n;
    _Atomic size_t next;
    _Atomic bool failed; /* one reader has: the others need not go on */
};

struct reader {
    struct maker *m;
    EVP_MD_CTX *ctx;
    int fd;
    uint32_t file; /* that fd is of */
    enum rg_code code;
    struct rg_err err;
};

/* ---- one tensor ------------------------------------------------------------------------------ */

static enum rg_code no_digest(struct rg_err *err)
{
    return rg_fail(err, RG_E_NOMEM, "no memory for a SHA-256");
}

/* Evenly spread over the tensor's bytes, and the same on every machine. */
static uint64_t sample_offset(const struct reader *r, const struct rg_tensor_info *t, bool *done)
{
    uint8_t sum[SHA_BYTES] = {0};
    uint64_t drawn = 0;

    *done = EVP_DigestInit_ex2(r->ctx, r->m->sha, NULL) &&
            EVP_DigestUpdate(r->ctx, t->name, strlen(t->name)) &&
            EVP_DigestFinal_ex(r->ctx, sum, NULL);
    for (int i = 0; i < 8; i++)
        drawn = drawn << 8 | sum[i];
    return drawn % (t->bytes - SAMPLE_BYTES + 1);
}

static size_t table_line(const struct rg_tensor_info *t, char line[LINE_BYTES])
{
    int n =
        snprintf(line, LINE_BYTES, "%s %s %" PRIu64, t->name, rg_dtype_name(t->dtype), t->bytes);

    for (uint32_t i = 0; i < t->rank && n > 0 && n < LINE_BYTES; i++)
        n += snprintf(line + n, (size_t)(LINE_BYTES - n), "%c%" PRIu64, i ? ',' : ' ', t->shape[i]);
    return n < 0 ? 0 : (size_t)n < LINE_BYTES ? (size_t)n : LINE_BYTES - 1;
}

static enum rg_code turn_to(struct reader *r, uint32_t file)
{
    uint64_t bytes;

    if (r->fd >= 0 && r->file == file)
        return RG_OK;
    if (r->fd >= 0)
        (void)close(r->fd);
    r->file = file;
    return rg_file_open(&r->fd, &bytes, rg_tensor_set_file(r->m->c->tensors, file)->path, &r->err);
}

static enum rg_code read_at(struct reader *r, uint8_t *out, size_t n, uint64_t at)
{
    const char *path = rg_tensor_set_file(r->m->c->tensors, r->file)->path;

    for (size_t done = 0; done < n;) {
        const ssize_t got = pread(r->fd, out + done, n - done, (off_t)(at + done));

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return rg_fail(&r->err, RG_E_IO, "%s: reading byte %" PRIu64 ": %s", path, at + done,
                           strerror(errno));
        if (got == 0)
            return rg_fail(&r->err, RG_E_IO, "%s: ended at byte %" PRIu64 " while it was read",
                           path, at + done);
        done += (size_t)got;
    }
    return RG_OK;
}

static enum rg_code digest_tensor(struct reader *r, struct item *item)
{
    const struct rg_tensor_info *t = item->tensor;
    const bool all = t->bytes <= SAMPLE_BYTES;
    const size_t n = all ? (size_t)t->bytes : SAMPLE_BYTES;
    uint8_t sample[SAMPLE_BYTES];
    char line[LINE_BYTES];
    const size_t line_bytes = table_line(t, line);
    bool done = true;
    const uint64_t at = all ? 0 : sample_offset(r, t, &done);
    enum rg_code code = done ? turn_to(r, t->file) : no_digest(&r->err);

    if (!code)
        code = read_at(r, sample, n, t->offset + at);
    if (!code &&
        (!EVP_DigestInit_ex2(r->ctx, r->m->sha, NULL) ||
         !EVP_DigestUpdate(r->ctx, line, line_bytes + 1) || !EVP_DigestUpdate(r->ctx, sample, n) ||
         !EVP_DigestFinal_ex(r->ctx, item->sum, NULL)))
        code = no_digest(&r->err);
    return code;
}

/* ---- all tensors ----------------------------------------------------------------------------- */

static bool is_stopped(const struct maker *m)
{
    return atomic_load(&m->failed) || (m->stop && atomic_load(m->stop));
}

static void *read_items(void *arg)
{
    struct reader *r = arg;
    struct maker *m = r->m;

    while (!r->code && !is_stopped(m)) {
        const size_t first = atomic_fetch_add(&m->next, BATCH);

        if (first >= m->n)
            break;
        for (size_t i = first; i < m->n && i < first + BATCH && !r->code; i++)
            r->code = digest_tensor(r, &m->items[i]);
    }
    if (r->code)
        atomic_store(&m->failed, true);
    return NULL;
}

static enum rg_code begin_reader(struct reader *r, struct maker *m)
{
    *r = (struct reader){.m = m, .fd = -1};
    r->ctx = EVP_MD_CTX_new();
    if (!r->ctx)
        r->code = no_digest(&r->err);
    return r->code;
}

static void end_reader(struct reader *r)
{
    EVP_MD_CTX_free(r->ctx);
    if (r->fd >= 0)
        (void)close(r->fd);
}

static enum rg_code digest_all(struct maker *m, struct rg_err *err)
{
    struct reader readers[THREADS_MOST];
    pthread_t threads[THREADS_MOST];
    uint32_t n = 1, started = 1; /* the first one is this thread */
    enum rg_code code = begin_reader(&readers[0], m);

    while (n < THREADS_MOST && n < m->n / (4 * (size_t)BATCH) && !code)
        code = begin_reader(&readers[n++], m);
    while (started < n && !code &&
           pthread_create(&threads[started], NULL, read_items, &readers[started]) == 0)
        started++;
    if (!code)
        (void)read_items(&readers[0]);
    for (uint32_t i = 1; i < started; i++)
        (void)pthread_join(threads[i], NULL);
    code = RG_OK;
    for (uint32_t i = 0; i < n; i++) {
        if (readers[i].code && !code)
            code = rg_fail(err, readers[i].code, "%s", readers[i].err.message);
        end_reader(&readers[i]);
    }
    if (!code && m->stop && atomic_load(m->stop))
        code = rg_fail(err, RG_E_CANCELED, "%s: looking at the files was interrupted", m->c->name);
    return code;
}

/* ---- layers ---------------------------------------------------------------------------------- */

static struct rg_layer_card *card_of(struct rg_model_card *card, int32_t layer)
{
    return layer >= 0               ? &card->layers[layer]
           : layer == RG_LAYER_HEAD ? &card->head
           : layer == RG_LAYER_NONE ? &card->embedding
                                    : NULL;
}

static void say_what_is_there(struct rg_model_card *card, const struct rg_checkpoint *c)
{
    card->n_layers = c->config.num_hidden_layers;
    for (uint32_t i = 0; i < card->n_layers; i++)
        card->layers[i] = (struct rg_layer_card){
            .there = c->layer_there[i], .bytes = c->layer_there[i] ? c->layer_bytes[i] : 0};
    card->embedding = (struct rg_layer_card){.there = c->embedding_there,
                                             .bytes = c->embedding_there ? c->embedding_bytes : 0};
    card->head =
        (struct rg_layer_card){.there = c->head_there, .bytes = c->head_there ? c->head_bytes : 0};
}

/* Of the part alone; a tied lm_head is the embedding. */
static void leave_out_others(struct rg_model_card *card, const struct rg_checkpoint *c,
                             const struct rg_model_part *part)
{
    for (uint32_t i = 0; i < card->n_layers; i++)
        card->layers[i].there &= i >= part->layer_begin && i < part->layer_end;
    card->embedding.there &= part->embed || (part->head && c->config.tie_word_embeddings);
    card->head.there &= part->head;
}

static int by_file(const void *a, const void *b)
{
    const struct rg_tensor_info *x = ((const struct item *)a)->tensor;
    const struct rg_tensor_info *y = ((const struct item *)b)->tensor;

    if (x->file != y->file)
        return x->file < y->file ? -1 : 1;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Tensors of a set lie in the order of their names. */
static int by_name(const void *a, const void *b)
{
    const struct rg_tensor_info *x = ((const struct item *)a)->tensor;
    const struct rg_tensor_info *y = ((const struct item *)b)->tensor;

    return x < y ? -1 : x > y;
}

static enum rg_code list_items(struct maker *m, struct rg_model_card *card, struct rg_err *err)
{
    const uint32_t n = rg_tensor_set_count(m->c->tensors);

    m->items = rg_calloc((size_t)n + 1, sizeof m->items[0]);
    if (!m->items)
        return rg_fail(err, RG_E_NOMEM, "%s: no memory for %" PRIu32 " digests", m->c->name, n);
    for (uint32_t i = 0; i < n; i++) {
        const struct rg_layer_card *layer = card_of(card, m->c->tensor_layer[i]);

        if (layer && layer->there)
            m->items[m->n++].tensor = rg_tensor_set_at(m->c->tensors, i);
    }
    qsort(m->items, m->n, sizeof m->items[0], by_file);
    return RG_OK;
}

static enum rg_code finish_layer(EVP_MD_CTX *ctx, struct rg_layer_card *layer, struct rg_err *err)
{
    uint8_t sum[SHA_BYTES];

    if (!EVP_DigestFinal_ex(ctx, sum, NULL))
        return no_digest(err);
    memcpy(layer->digest.bytes, sum, sizeof layer->digest.bytes);
    return RG_OK;
}

/* One layer after the other, each with its items picked out of the list. */
static enum rg_code digest_layer(const struct maker *m, EVP_MD_CTX *ctx, int32_t layer,
                                 struct rg_layer_card *card, struct rg_err *err)
{
    const struct rg_tensor_info *first = rg_tensor_set_at(m->c->tensors, 0);

    if (!card->there)
        return RG_OK;
    if (!EVP_DigestInit_ex2(ctx, m->sha, NULL))
        return no_digest(err);
    for (size_t i = 0; i < m->n; i++) {
        if (m->c->tensor_layer[m->items[i].tensor - first] == layer &&
            !EVP_DigestUpdate(ctx, m->items[i].sum, SHA_BYTES))
            return no_digest(err);
    }
    return finish_layer(ctx, card, err);
}

static enum rg_code digest_layers(struct maker *m, struct rg_model_card *card, struct rg_err *err)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    enum rg_code code = ctx ? RG_OK : no_digest(err);

    qsort(m->items, m->n, sizeof m->items[0], by_name);
    for (uint32_t i = 0; i < card->n_layers && !code; i++)
        code = digest_layer(m, ctx, (int32_t)i, &card->layers[i], err);
    if (!code)
        code = digest_layer(m, ctx, RG_LAYER_NONE, &card->embedding, err);
    if (!code)
        code = digest_layer(m, ctx, RG_LAYER_HEAD, &card->head, err);
    EVP_MD_CTX_free(ctx);
    return code;
}

/* part: NULL for all that is there. */
static enum rg_code make_card(struct rg_model_card *out, const struct rg_checkpoint *checkpoint,
                              const struct rg_model_part *part, const _Atomic bool *stop,
                              struct rg_err *err)
{
    struct maker m = {.c = checkpoint, .stop = stop};
    enum rg_code code;

    memset(out, 0, sizeof *out);
    code = rg_config_digest(&out->digest, &checkpoint->config, err);
    if (code)
        return code;
    out->layers = rg_calloc(checkpoint->config.num_hidden_layers, sizeof out->layers[0]);
    m.sha = EVP_MD_fetch(NULL, "SHA256", NULL);
    if (!out->layers || !m.sha)
        code = rg_fail(err, RG_E_NOMEM, "%s: no memory for its digests", checkpoint->name);
    if (!code) {
        say_what_is_there(out, checkpoint);
        if (part)
            leave_out_others(out, checkpoint, part);
        code = list_items(&m, out, err);
    }
    if (!code)
        code = digest_all(&m, err);
    if (!code)
        code = digest_layers(&m, out, err);
    EVP_MD_free(m.sha);
    rg_free(m.items);
    if (code)
        rg_model_card_free(out);
    return code;
}

enum rg_code rg_model_card_make(struct rg_model_card *out, const struct rg_checkpoint *checkpoint,
                                const _Atomic bool *stop, struct rg_err *err)
{
    return make_card(out, checkpoint, NULL, stop, err);
}

/* ---- the same files as before? --------------------------------------------------------------- */

/* `now` may lack what the part does not have. */
static bool is_other(const struct rg_layer_card *before, const struct rg_layer_card *now)
{
    return now->there && (!before->there || memcmp(&before->digest, &now->digest,
                                                   sizeof now->digest) != 0);
}

static enum rg_code compare(const struct rg_model_card *card, const struct rg_model_card *now,
                            const char *name, struct rg_err *err)
{
    static const char advice[] = "put the right files there, or start this node again";

    if (card->n_layers != now->n_layers ||
        memcmp(&card->digest, &now->digest, sizeof now->digest) != 0)
        return rg_fail(err, RG_E_IO, "%s: config.json is not what it was at the start: %s", name,
                       advice);
    for (uint32_t i = 0; i < now->n_layers; i++) {
        if (is_other(&card->layers[i], &now->layers[i]))
            return rg_fail(err, RG_E_IO,
                           "%s: layer %" PRIu32 " is not what it was at the start: %s", name, i,
                           advice);
    }
    if (is_other(&card->embedding, &now->embedding) || is_other(&card->head, &now->head))
        return rg_fail(err, RG_E_IO, "%s: embedding or lm_head are not what they were at the "
                       "start: %s", name, advice);
    return RG_OK;
}

enum rg_code rg_model_card_check(const struct rg_model_card *card,
                                 const struct rg_checkpoint *checkpoint,
                                 const struct rg_model_part *part, const _Atomic bool *stop,
                                 struct rg_err *err)
{
    struct rg_model_card now;
    enum rg_code code = make_card(&now, checkpoint, part, stop, err);

    if (code)
        return code;
    code = compare(card, &now, checkpoint->name, err);
    rg_model_card_free(&now);
    return code;
}
