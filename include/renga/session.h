/* session.h - answers from an MLX checkpoint inside another program.
 *
 *   struct rg_session_options options = {.model = "/models/SmolLM2"};
 *   struct rg_question        question = {.prompt = "Hello!", .temperature = -1, .seed = -1};
 *   struct rg_session        *session;
 *   struct rg_err             err;
 *
 *   if (rg_session_open(&session, &options, &err) == RG_OK) {
 *       if (rg_session_ask(session, &question, on_text, NULL, &err) != RG_OK)
 *           puts(err.message);
 *       rg_session_close(session);
 *   }
 *
 * This folder is all that an embedding program may include; `renga run` is such a program.
 * Lifetime   strings are borrowed during the call only.
 * Signals    SIGBUS gets a handler: the model's files are mapped, and one that is cut meanwhile
 *            ends the question with RG_E_IO, not the process.  A SIGBUS from elsewhere goes to the
 *            handler that was there before.
 * Threads    one question at a time per session; rg_session_interrupt() from any thread. */
#ifndef RG_RENGA_SESSION_H
#define RG_RENGA_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "renga/err.h"

struct rg_session;

struct rg_session_options {
    const char *model;       /* a checkpoint directory, or a name of the registry */
    const char *registry;    /* JSON file {"name": {"path": "..."}}, or NULL */
    const char *activations; /* "int8" or "f32"; NULL: int8 */
    const char *cpu_kernels; /* "scalar", "avx2", "neon"; NULL: the best of this CPU */
    uint32_t    threads;     /* 0: performance cores */
    uint32_t    context;     /* positions, prompt and answer; 0: the model's, as far as it fits */
    uint32_t    chunk_rows;  /* prompt tokens computed at once; 0: 512 */
    /* Bytes of weights read so far and in all; false ends the opening with RG_E_CANCELED.  NULL:
     * nobody is told.  On the opening thread. */
    bool (*on_progress)(void *ud, uint64_t done, uint64_t total);
    void *ud;
};

struct rg_question {
    const char *system;      /* a system message, or NULL */
    const char *prompt;      /* what the user says; ill-formed UTF-8 becomes U+FFFD */
    float       temperature; /* 0: greedy; negative: the checkpoint's own, else 1 */
    int32_t     max_tokens;  /* below 1: the rest of the context */
    int64_t     seed;        /* negative: a new one */
};

/* Gets the answer's text as it is made: n bytes of whole UTF-8 characters, on the asking thread.
 * A result other than RG_OK ends the answer and is what rg_session_ask() returns. */
typedef enum rg_code rg_text_fn(void *ud, const char *text, size_t n, struct rg_err *err);

RG_CHECKED enum rg_code rg_session_open(struct rg_session **out,
                                        const struct rg_session_options *options,
                                        struct rg_err *err);
void rg_session_close(struct rg_session *s); /* accepts NULL */

/* Returns when the answer has ended; RG_E_CANCELED after an interrupt. */
RG_CHECKED enum rg_code rg_session_ask(struct rg_session *s, const struct rg_question *question,
                                       rg_text_fn *on_text, void *ud, struct rg_err *err);

/* Ends the question that is being answered, or the next one.  Any thread, also a signal handler. */
void rg_session_interrupt(struct rg_session *s);

#endif
