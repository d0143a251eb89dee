/* sampler.h - one token from one row of logits (docs/API, "Sampling").
 *
 * Order      logit_bias, repetition, presence and frequency penalties, temperature, top_k, top_p,
 *            min_p; temperature 0 is argmax after the penalties.  Ties go to the lowest id.
 * Draw       Philox4x32-10 keyed by the seed, counter (choice, position): the same request gives
 *            the same token wherever and whenever it is computed.
 * Counts     presence and frequency count generated tokens only; repetition looks at prompt and
 *            generated tokens.
 * Floats     no libm (compute/math.h); sums in ascending order of rank or id. */
#ifndef RG_ENGINE_SAMPLER_H
#define RG_ENGINE_SAMPLER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/limits.h"

struct rg_logit_bias {
    int32_t id;
    float bias; /* -100..100 */
};

struct rg_sampling {
    float temperature;                         /* 0..2 */
    float top_p;                               /* (0, 1]; 1: off */
    float min_p;                               /* [0, 1]; 0: off */
    uint32_t top_k;                            /* 0: off */
    float repetition_penalty;                  /* (0, 10]; 1: off */
    float presence_penalty, frequency_penalty; /* -2..2; 0: off */
    uint64_t seed;
    uint32_t n_top_logprobs; /* 0..20 */
    bool logprobs;
    const struct rg_logit_bias *bias; /* borrowed for the life of the request */
    uint32_t n_bias;
};

struct rg_token_logprob {
    int32_t id;
    float logprob;
};

struct rg_sample {
    int32_t id;
    float logprob; /* before penalties and temperature; 0 unless asked for */
    uint32_t n_top;
    struct rg_token_logprob top[RG_LIMIT_TOP_LOGPROBS]; /* highest first */
};

struct rg_sampler; /* scratch for one vocabulary; one thread */

RG_CHECKED enum rg_code rg_sampler_open(struct rg_sampler **out, uint32_t vocab_size,
                                        struct rg_err *err);
void rg_sampler_close(struct rg_sampler *s); /* accepts NULL */

/* What came before: prompt then generated tokens, n_prompt of them the prompt.  The token that is
 * drawn gets position n_tokens. */
struct rg_history {
    const int32_t *tokens;
    uint32_t n_tokens, n_prompt;
    uint32_t choice; /* index among the n choices of one request */
};

/* logits [vocab] is not changed.  RG_E_INTERNAL when a logit is not finite. */
RG_CHECKED enum rg_code rg_sampler_draw(struct rg_sampler *s, const float *logits,
                                        const struct rg_sampling *how,
                                        const struct rg_history *history, struct rg_sample *out,
                                        struct rg_err *err);

#endif
