/* config_reader.c - typed and ranged reads from config.json. */
#include "checkpoint/config_reader.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

const struct rg_json *rg_cfg_get(const struct rg_cfg *c, const char *key)
{
    const struct rg_json *j = c->object ? rg_json_get(c->object, key) : NULL;

    return j && rg_json_type(j) != RG_JSON_NULL ? j : NULL;
}

void rg_cfg_missing(struct rg_cfg *c, const char *key)
{
    if (!c->code)
        c->code = rg_fail(c->err, RG_E_BAD_DATA, "%s: '%s%s' is missing", c->file, c->where, key);
}

static void wrong_type(struct rg_cfg *c, const char *key, const struct rg_json *j,
                       const char *wanted)
{
    c->code = rg_fail(c->err, RG_E_BAD_DATA, "%s: '%s%s' is %s, %s expected", c->file, c->where,
                      key, rg_json_type_name(j), wanted);
}

uint32_t rg_cfg_uint(struct rg_cfg *c, const char *key, uint32_t fallback, uint32_t least,
                     uint32_t most)
{
    const struct rg_json *j = rg_cfg_get(c, key);
    int64_t v = 0;

    if (c->code || !j)
        return fallback;
    if (rg_json_type(j) != RG_JSON_NUMBER) {
        wrong_type(c, key, j, "an integer");
        return fallback;
    }
    if (!rg_json_int(j, least, most, &v)) {
        c->code =
            rg_fail(c->err, RG_E_BAD_DATA,
                    "%s: '%s%s' is %.40s, an integer from %" PRIu32 " to %" PRIu32 " expected",
                    c->file, c->where, key, rg_json_number_text(j), least, most);
        return fallback;
    }
    return (uint32_t)v;
}

/* transformers writes non-finite floats as {"__float__": "Infinity"}. */
static bool tagged_float(const struct rg_json *j, double *out)
{
    const struct rg_json *tag =
        rg_json_type(j) == RG_JSON_OBJECT ? rg_json_get(j, "__float__") : NULL;

    if (!tag || rg_json_type(tag) != RG_JSON_STRING)
        return false;
    if (strcmp(rg_json_string(tag), "Infinity") == 0)
        *out = HUGE_VAL;
    else if (strcmp(rg_json_string(tag), "-Infinity") == 0)
        *out = -HUGE_VAL;
    else if (strcmp(rg_json_string(tag), "NaN") == 0)
        *out = NAN;
    else
        return false;
    return true;
}

double rg_cfg_real(struct rg_cfg *c, const char *key, double fallback, double least, double most)
{
    const struct rg_json *j = rg_cfg_get(c, key);
    double v = 0;

    if (c->code || !j)
        return fallback;
    if (rg_json_type(j) == RG_JSON_NUMBER) {
        v = rg_json_double(j);
    } else if (!tagged_float(j, &v)) {
        wrong_type(c, key, j, "a number");
        return fallback;
    }
    if (!(v >= least && v <= most)) { /* a NaN is outside too */
        c->code =
            rg_fail(c->err, RG_E_BAD_DATA, "%s: '%s%s' is %.17g, a number from %g to %g expected",
                    c->file, c->where, key, v, least, most);
        return fallback;
    }
    return v;
}

bool rg_cfg_bool(struct rg_cfg *c, const char *key, bool fallback)
{
    const struct rg_json *j = rg_cfg_get(c, key);

    if (c->code || !j)
        return fallback;
    if (rg_json_type(j) != RG_JSON_BOOL) {
        wrong_type(c, key, j, "true or false");
        return fallback;
    }
    return rg_json_bool(j);
}

const char *rg_cfg_string(struct rg_cfg *c, const char *key)
{
    const struct rg_json *j = rg_cfg_get(c, key);

    if (c->code || !j)
        return NULL;
    if (rg_json_type(j) != RG_JSON_STRING) {
        wrong_type(c, key, j, "a string");
        return NULL;
    }
    for (const char *s = rg_json_string(j); *s; s++) {
        /* It may end up in a message or a log line. */
        if ((unsigned char)*s < 0x20 || *s == 0x7f) {
            c->code = rg_fail(c->err, RG_E_BAD_DATA, "%s: '%s%s' has a control character", c->file,
                              c->where, key);
            return NULL;
        }
    }
    return rg_json_string(j);
}

struct rg_cfg rg_cfg_inside(struct rg_cfg *c, const char *key, const char *where)
{
    struct rg_cfg in = {.file = c->file, .where = where, .err = c->err, .code = c->code};
    const struct rg_json *j = rg_cfg_get(c, key);

    if (c->code || !j)
        return in;
    if (rg_json_type(j) != RG_JSON_OBJECT) {
        wrong_type(c, key, j, "an object");
        in.code = c->code;
        return in;
    }
    in.object = j;
    return in;
}
