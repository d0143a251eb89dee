/* doctor_files.c - the model's files on this disk, the plan they would have, and their digests. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/mem.h"
#include "cli/doctor_state.h"
#include "cluster/plan_model.h"

/* Of a chip's bandwidth, as `renga plan` has it. */
static const double bandwidth_share = 0.75;

enum { METADATA_BYTES = 4096 };

/* ---- are they there -------------------------------------------------------------------------- */

/* "0-43, 60": the layers of which all is there. */
static void list_layers(const struct rg_checkpoint *c, char *out, size_t size)
{
    const uint32_t n = c->config.num_hidden_layers;
    size_t used = 0;

    out[0] = '\0';
    for (uint32_t first = 0; first < n && used < size; first++) {
        uint32_t last = first;
        int len;

        if (!c->layer_there[first])
            continue;
        while (last + 1 < n && c->layer_there[last + 1])
            last++;
        len = snprintf(out + used, size - used,
                       last > first ? "%s%" PRIu32 "-%" PRIu32 : "%s%" PRIu32, used ? ", " : "",
                       first, last);
        used += len > 0 ? (size_t)len : 0;
        first = last;
    }
}

static void say_what_is_there(struct rg_doctor *d)
{
    const struct rg_checkpoint *c = d->checkpoint;
    const uint32_t missing = rg_tensor_set_missing(c->tensors);
    const bool heads = d->self == 0 && !(c->embedding_there && c->head_there);
    char layers[256];

    if (c->is_whole) {
        rg_doctor_say(d, "files", RG_HEALTH_OK, "%.128s: %" PRIu32 " layers, %.2f GB, all there",
                      c->name, c->config.num_hidden_layers, (double)c->total_bytes / 1e9);
        return;
    }
    list_layers(c, layers, sizeof layers);
    rg_doctor_say(d, "files", heads ? RG_HEALTH_STOPS : RG_HEALTH_OK,
                  "%.128s: layers %s of 0-%" PRIu32 " are there; %" PRIu32
                  " shards are not, the first is %s: %s",
                  c->name, layers[0] ? layers : "(none)", c->config.num_hidden_layers - 1, missing,
                  rg_tensor_set_missing_file(c->tensors, 0),
                  heads ? "this node is the head and needs the embedding and lm_head: copy their "
                          "shards here"
                        : "other nodes must have the rest");
}

/* ---- a token's time -------------------------------------------------------------------------- */

static void predict(struct rg_doctor *d, const struct rg_plan *plan)
{
    double bandwidth[RG_LIMIT_PEERS] = {0}, rate;

    for (uint32_t i = 0; i < plan->n_parts; i++) {
        const int32_t k = rg_discovery_find(&d->ring, plan->parts[i].id);
        const char *chip = k >= 0 ? d->ring.peers[k].chip : NULL;

        bandwidth[i] = bandwidth_share * rg_plan_chip_bandwidth(chip);
        if (!(bandwidth[i] > 0)) {
            (void)snprintf(d->no_token_s, sizeof d->no_token_s,
                           "the memory bandwidth of the chip %.64s is not known",
                           chip ? chip : "(none given)");
            return;
        }
    }
    rate = rg_plan_tokens_per_s(plan, bandwidth, 0);
    d->token_s = rate > 0 ? 1 / rate : 0;
}

static void check_plan(struct rg_doctor *d)
{
    struct rg_plan_peer peers[RG_LIMIT_PEERS];
    const struct rg_plan_request request = {
        .checkpoint = d->checkpoint, .peers = peers, .n_peers = d->ring.n};
    struct rg_plan plan = {.n_parts = 0};
    struct rg_err err = {.message = ""};

    for (uint32_t i = 0; i < d->ring.n; i++)
        peers[i] = (struct rg_plan_peer){.id = d->ring.peers[i].id,
                                         .memory_bytes = d->ring.peers[i].memory_bytes,
                                         .head = i == 0};
    if (!d->checkpoint->is_whole) {
        (void)snprintf(d->no_token_s, sizeof d->no_token_s,
                       "the size of the missing layers is not known here");
        return;
    }
    if (rg_plan_fit_context(&plan, &request, &err) != RG_OK)
        rg_doctor_say(d, "plan", RG_HEALTH_STOPS, "%s", err.message);
    else
        rg_doctor_say(d, "plan", RG_HEALTH_OK,
                      "fits, with %" PRIu32 " sequences of %" PRIu32
                      " tokens: `renga plan` prints it",
                      plan.parallel, plan.context);
    predict(d, &plan);
}

/* ---- digests --------------------------------------------------------------------------------- */

/* The note is not older than the file: who wrote to it since knows why. */
static bool is_current(const char *path, const char *noted_at)
{
    struct stat st;

    return noted_at && stat(path, &st) == 0 && (double)st.st_mtime - 1 <= strtod(noted_at, NULL);
}

/* What the program that downloaded a file noted of it, beside it: commit, digest and time, a line
 * each (huggingface_hub's `--local-dir`).  False when there is no such note. */
static bool noted_digest(const struct rg_doctor *d, const char *path,
                         char out[RG_SHA256_TEXT_BYTES])
{
    const size_t digits = RG_SHA256_TEXT_BYTES - 1;
    const char *slash = strrchr(path, '/');
    char note[1024];
    char *text = NULL, *line;
    size_t len;
    bool found = false;
    const int n = snprintf(note, sizeof note, "%s/.cache/huggingface/download/%s.metadata",
                           d->checkpoint->dir, slash ? slash + 1 : path);

    if (n < 0 || (size_t)n >= sizeof note || !rg_file_exists(note) ||
        rg_file_read(&text, &len, note, METADATA_BYTES, NULL) != RG_OK)
        return false;
    line = strchr(text, '\n');
    if (line && strspn(line + 1, "0123456789abcdef") == digits &&
        is_current(path, strchr(line + 1, '\n'))) {
        memcpy(out, line + 1, digits);
        out[digits] = '\0';
        found = true;
    }
    rg_free(text);
    return found;
}

static void compare_digests(struct rg_doctor *d)
{
    char noted[RG_SHA256_TEXT_BYTES];
    const char *wrong = NULL;
    uint32_t n_noted = 0, n_wrong = 0;

    for (uint32_t i = 0; i < d->n_files; i++) {
        if (!noted_digest(d, d->files[i].path, noted))
            continue;
        n_noted++;
        if (strcmp(noted, d->files[i].sha256) != 0 && n_wrong++ == 0)
            wrong = d->files[i].path;
    }
    if (n_wrong > 0)
        rg_doctor_say(d, "digests", RG_HEALTH_STOPS, "%s%s not what was downloaded: get it again",
                      wrong, n_wrong > 1 ? " and others are" : " is");
    else if (n_noted > 0)
        rg_doctor_say(d, "digests", RG_HEALTH_OK,
                      "%" PRIu32 " of %" PRIu32 " files are as they were downloaded", n_noted,
                      d->n_files);
    else
        rg_doctor_say(d, "digests", RG_HEALTH_OK, "hashed; compare the list with another node's");
}

static enum rg_code hash(struct rg_doctor *d, struct rg_err *err)
{
    struct rg_err why = {.message = ""};
    const enum rg_code code = rg_doctor_hash_files(d, &why);

    if (code == RG_E_NOMEM)
        return rg_fail(err, code, "%s", why.message);
    if (code)
        rg_doctor_say(d, "digests", RG_HEALTH_STOPS, "%s", why.message);
    else
        compare_digests(d);
    return RG_OK;
}

/* ---- all of it ------------------------------------------------------------------------------- */

enum rg_code rg_doctor_check_files(struct rg_doctor *d, struct rg_err *err)
{
    const struct rg_checkpoint_options some = {.headers_only = true, .may_lack = true};
    const struct rg_options *o = d->options;
    char *dir = NULL, *name = NULL;
    struct rg_err why = {.message = ""};
    enum rg_code code;

    if (!o->model) {
        (void)snprintf(d->no_token_s, sizeof d->no_token_s, "no --default-model was given");
        rg_doctor_say(d, "files", RG_HEALTH_OK, "not looked at: no --default-model was given");
        return RG_OK;
    }
    code = rg_checkpoint_resolve(&dir, &name, o->model, o->registry, &why);
    if (!code)
        code = rg_checkpoint_open(&d->checkpoint, dir, &some, &why);
    rg_free(dir);
    rg_free(name);
    if (code == RG_E_NOMEM)
        return rg_fail(err, code, "%s", why.message);
    if (code) {
        (void)snprintf(d->no_token_s, sizeof d->no_token_s, "the model cannot be opened");
        rg_doctor_say(d, "files", RG_HEALTH_STOPS, "%s", why.message);
        return RG_OK;
    }
    say_what_is_there(d);
    check_plan(d);
    return o->deep ? hash(d, err) : RG_OK;
}
