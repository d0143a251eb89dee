/* membership_hello.c - what two nodes must agree on before they work together. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cluster/membership_core.h"

RG_PRINTF(2, 3)
static bool differs(struct rg_refuse *r, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(r->what, sizeof r->what, format, args);
    va_end(args);
    return false;
}

static bool same_text(struct rg_refuse *r, const char *what, const char *mine, const char *yours)
{
    if (strcmp(mine, yours) == 0)
        return true;
    (void)snprintf(r->mine, sizeof r->mine, "%s", mine);
    (void)snprintf(r->yours, sizeof r->yours, "%s", yours);
    return differs(r, "%s", what);
}

static bool same_number(struct rg_refuse *r, const char *what, uint32_t mine, uint32_t yours)
{
    if (mine == yours)
        return true;
    (void)snprintf(r->mine, sizeof r->mine, "%u", mine);
    (void)snprintf(r->yours, sizeof r->yours, "%u", yours);
    return differs(r, "%s", what);
}

static void put_digest(char *out, size_t size, const char *name, const struct rg_digest *d)
{
    char hex[2 * RG_DIGEST_BYTES + 1];

    for (size_t i = 0; i < RG_DIGEST_BYTES; i++)
        (void)snprintf(hex + 2 * i, 3, "%02x", d->bytes[i]);
    (void)snprintf(out, size, "%s%s%s", name ? name : "", name ? ": " : "", hex);
}

static bool same_digest(struct rg_refuse *r, const char *name, const struct rg_digest *mine,
                        const struct rg_digest *yours)
{
    if (memcmp(mine->bytes, yours->bytes, RG_DIGEST_BYTES) == 0)
        return true;
    put_digest(r->mine, sizeof r->mine, name, mine);
    put_digest(r->yours, sizeof r->yours, NULL, yours);
    return false;
}

static bool same_layer(struct rg_refuse *r, const char *name, const struct rg_layer_card *mine,
                       const struct rg_layer_card *yours)
{
    return !mine->there || !yours->there || same_digest(r, name, &mine->digest, &yours->digest);
}

bool rg_model_agrees(struct rg_refuse *r, const struct rg_model_card *mine, const char *name,
                     const struct rg_model_card *yours)
{
    if (!same_digest(r, name, &mine->digest, &yours->digest))
        return differs(r, "model configuration");
    if (!same_number(r, "model layer count", mine->n_layers, yours->n_layers))
        return false;
    for (uint32_t i = 0; i < mine->n_layers; i++)
        if (!same_layer(r, name, &mine->layers[i], &yours->layers[i]))
            return differs(r, "model layer %u", i);
    if (!same_layer(r, name, &mine->embedding, &yours->embedding))
        return differs(r, "model embedding");
    if (!same_layer(r, name, &mine->head, &yours->head))
        return differs(r, "model head");
    return true;
}

bool rg_hello_agrees(struct rg_refuse *r, const struct rg_hello *mine, const struct rg_hello *yours,
                     const char *expected_id)
{
    return same_number(r, "protocol major version", mine->major, yours->major) &&
           same_text(r, "node id", expected_id, yours->node_id) &&
           same_text(r, "head", mine->head_id, yours->head_id) &&
           same_text(r, "cluster", mine->cluster, yours->cluster) &&
           same_text(r, "numerics", mine->numerics, yours->numerics) &&
           rg_model_agrees(r, &mine->model, NULL, &yours->model);
}
