/* part.c - a range of layers out of a checkpoint: its files are mapped, and nothing else is.
 *
 * Pages that hold nothing of the part are made unreadable, so that neither a bug nor the kernel's
 * mapping of neighbouring pages ("fault-around") can bring in a byte of another layer. */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"
#include "checkpoint/inventory.h"
#include "checkpoint/st_table.h"

/* Every gap splits a mapping, of which Linux allows 65530: a part of more pieces keeps the rest of
 * its gaps readable. */
enum { GAPS_MOST = 16384 };

struct piece {
    uint64_t begin, end; /* bytes of the file */
    uint32_t file;
};

struct part {
    const struct rg_checkpoint *c;
    const struct rg_checkpoint_options *options;
    struct piece *pieces; /* owned: the part's tensors, in order of files and offsets */
    size_t n, capacity;
    uint32_t gaps;
};

static bool is_own(const struct part *p, int32_t layer)
{
    const struct rg_checkpoint_options *o = p->options;

    if (layer == RG_LAYER_NONE)
        return o->embed || (o->head && p->c->config.tie_word_embeddings);
    if (layer == RG_LAYER_HEAD)
        return o->head;
    return layer >= 0 && (uint32_t)layer >= o->layer_begin && (uint32_t)layer < o->layer_end;
}

/* ---- is it there? ------------------------------------------------------------------------- */

static enum rg_code lacks(const struct part *p, const struct rg_module *m, struct rg_err *err)
{
    static const char advice[] = "copy it here, or leave these layers to a node that has it";
    const struct rg_tensor_set *t = p->c->tensors;
    const uint32_t more = rg_tensor_set_missing(t) - 1;
    const char *shard = m->missing ? m->missing : rg_tensor_set_missing_file(t, 0);
    char which[48] = "";

    assert(shard);
    if (!m->missing && more > 0)
        (void)snprintf(which, sizeof which, " (or one of %" PRIu32 " more that are missing)", more);
    if (m->layer < 0)
        return rg_fail(err, RG_E_USAGE, "%s: '%s' is in shard %s%s, which is missing: %s",
                       p->c->dir, m->path, shard, which, advice);
    return rg_fail(err, RG_E_USAGE,
                   "%s: layer %" PRId32 ": '%s' is in shard %s%s, which is "
                   "missing: %s",
                   p->c->dir, m->layer, m->role, shard, which, advice);
}

static enum rg_code check_there(const struct part *p, struct rg_err *err)
{
    const struct rg_checkpoint_options *o = p->options;

    if (o->layer_begin > o->layer_end || o->layer_end > p->c->config.num_hidden_layers)
        return rg_fail(err, RG_E_USAGE,
                       "%s: layers %" PRIu32 " to %" PRIu32 " of %" PRIu32 " cannot be opened",
                       p->c->dir, o->layer_begin, o->layer_end, p->c->config.num_hidden_layers);
    for (uint32_t i = 0; i < p->c->n_modules; i++) {
        const struct rg_module *m = &p->c->modules[i];

        if (!m->there && is_own(p, m->layer))
            return lacks(p, m, err);
    }
    return RG_OK;
}

/* ---- what is read of each file ------------------------------------------------------------ */

static int compare_pieces(const void *a, const void *b)
{
    const struct piece *x = a, *y = b;

    if (x->file != y->file)
        return x->file < y->file ? -1 : 1;
    return x->begin < y->begin ? -1 : x->begin > y->begin;
}

static enum rg_code list_pieces(struct part *p, const int32_t *owner, struct rg_err *err)
{
    const uint32_t n = rg_tensor_set_count(p->c->tensors);

    for (uint32_t i = 0; i < n; i++) {
        const struct rg_tensor_info *t = rg_tensor_set_at(p->c->tensors, i);

        if (!is_own(p, owner[i]))
            continue;

        const enum rg_code code =
            rg_grow((void **)&p->pieces, &p->capacity, p->n + 1, sizeof p->pieces[0], err);

        if (code)
            return code;
        p->pieces[p->n++] =
            (struct piece){.begin = t->offset, .end = t->offset + t->bytes, .file = t->file};
    }
    if (p->n > 0)
        qsort(p->pieces, p->n, sizeof p->pieces[0], compare_pieces);
    return RG_OK;
}

/* The whole pages of [begin, end). */
static enum rg_code forbid(struct part *p, const struct rg_tensor_file *f, uint64_t begin,
                           uint64_t end, struct rg_err *err)
{
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    const uint64_t first = (begin + page - 1) / page * page;
    const uint64_t last = end == f->bytes ? (end + page - 1) / page * page : end / page * page;

    if (first >= last || p->gaps >= GAPS_MOST)
        return RG_OK;
    p->gaps++;
    if (mprotect((void *)(uintptr_t)(f->data + first), (size_t)(last - first), PROT_NONE) != 0)
        return rg_fail(err, RG_E_IO, "%s: bytes %" PRIu64 " to %" PRIu64 " cannot be left out: %s",
                       f->path, first, last, strerror(errno));
    return RG_OK;
}

/* Maps the file of the piece at `i`; *next is the first piece of another one. */
static enum rg_code map_file(struct part *p, size_t i, size_t *next, struct rg_err *err)
{
    const uint32_t file = p->pieces[i].file;
    const struct rg_tensor_file *f = rg_tensor_set_file(p->c->tensors, file);
    uint64_t at = 0;
    enum rg_code code = rg_tensor_set_map(p->c->tensors, file, err);

    for (; !code && i < p->n && p->pieces[i].file == file; i++) {
        code = forbid(p, f, at, p->pieces[i].begin, err);
        at = p->pieces[i].end;
    }
    *next = i;
    return code ? code : forbid(p, f, at, f->bytes, err);
}

static enum rg_code give_pointers(struct part *p, struct rg_resolver *r,
                                  const struct rg_inventory *v, struct rg_err *err)
{
    enum rg_code code = RG_OK;

    for (uint32_t i = 0; i < p->c->n_modules && !code; i++) {
        if (is_own(p, p->c->modules[i].layer))
            code = rg_module_resolve(r, &v->specs[i], &p->c->modules[i], err);
    }
    return code;
}

enum rg_code rg_part_open(struct rg_checkpoint *c, struct rg_resolver *r,
                          const struct rg_inventory *v, const struct rg_checkpoint_options *options,
                          struct rg_err *err)
{
    struct part p = {.c = c, .options = options};
    enum rg_code code = check_there(&p, err);

    if (!code && !options->headers_only)
        code = list_pieces(&p, r->owner, err);
    for (size_t i = 0; !code && i < p.n;)
        code = map_file(&p, i, &i, err);
    if (!code && !options->headers_only)
        code = give_pointers(&p, r, v, err);
    rg_free(p.pieces);
    return code;
}
