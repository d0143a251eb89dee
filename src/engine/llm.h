/* llm.h - everything one node needs to answer from a checkpoint directory.
 *
 * serve, run, eval, render and tokenize open one of these with the parts they need.
 * Lifetime   closing it ends the engine's requests first. */
#ifndef RG_ENGINE_LLM_H
#define RG_ENGINE_LLM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "checkpoint/checkpoint.h"
#include "compute/compute.h"
#include "engine/engine.h"
#include "model/model.h"
#include "text/chat.h"
#include "text/tokenizer.h"

struct rg_llm_options {
    const char *model;    /* directory or registry name */
    const char *registry; /* file, or NULL */
    struct rg_backend_options backend;
    uint32_t context;    /* 0: the smaller of the model's and what fits (32768) */
    uint32_t parallel;   /* 0: 4 */
    uint32_t chunk_rows; /* 0: 512 */
    /* Called while the weights are read in: bytes so far and in all; false ends it with
     * RG_E_CANCELED.  May be NULL. */
    bool (*on_progress)(void *ud, uint64_t done, uint64_t total);
    void *ud;
};

/* Sampling defaults of generation_config.json; a member is NAN (top_k: UINT32_MAX) when absent. */
struct rg_generation_defaults {
    float temperature, top_p, min_p, repetition_penalty;
    uint32_t top_k;
};

struct rg_llm {
    struct rg_checkpoint *checkpoint;
    struct rg_tokenizer *tokenizer;
    struct rg_chat *chat; /* NULL when the checkpoint has no chat template */
    struct rg_backend *backend; /* NULL in a ring: the node has its own part */
    struct rg_model *model;     /* NULL in a ring */
    struct rg_engine *engine;   /* NULL until rg_llm_attach() in a ring */
    char *name; /* the API's model id; owned */
    uint32_t context, parallel;
    int32_t eos_ids[16];
    uint32_t n_eos_ids;
    struct rg_generation_defaults defaults;
};

RG_CHECKED enum rg_code rg_llm_open(struct rg_llm **out, const struct rg_llm_options *options,
                                    struct rg_err *err);
void rg_llm_close(struct rg_llm *l); /* accepts NULL */

/* In a ring the head opens text and configuration first: the checkpoint by its headers, of which
 * parts may be missing, tokenizer, chat template, sampling defaults, context and parallel as asked
 * for (context: the model's or 32768 when none was). */
RG_CHECKED enum rg_code rg_llm_open_text(struct rg_llm **out, const struct rg_llm_options *options,
                                         struct rg_err *err);
/* Then, when the plan has said what context fits, an engine over the ring's pipeline, which it
 * takes over, also when it fails. */
RG_CHECKED enum rg_code rg_llm_attach(struct rg_llm *l, struct rg_pipeline *pipeline,
                                      const struct rg_engine_options *options,
                                      struct rg_err *err);

#endif
