/* chat.h - a chat request to prompt bytes, by the checkpoint's own Jinja template.
 *
 * Template   chat_template.jinja, else tokenizer_config.json's chat_template (a string or a list
 *            of {name, template}).  It is parsed once, at load; what the interpreter does not know
 *            is an error then, naming the construct and its line.
 * Bounds     RG_LIMIT_TEMPLATE_*: steps, depth, output.
 * Trust      every byte of the output is marked as the template's own or as content.
 * Threads    rg_chat is immutable after opening; render from any thread. */
#ifndef RG_TEXT_CHAT_H
#define RG_TEXT_CHAT_H

#include "base/json.h"
#include "text/tokenizer.h"

struct rg_chat;

struct rg_prompt {
    char           *text; /* owned */
    size_t          len;
    struct rg_span *spans; /* owned; tile [0, len) */
    size_t          n_spans;
};

void rg_prompt_free(struct rg_prompt *p);

/* RG_E_USAGE when the directory has no chat template. */
RG_CHECKED enum rg_code rg_chat_open(struct rg_chat **out, const char *dir, struct rg_err *err);
void rg_chat_close(struct rg_chat *c); /* accepts NULL */

/* The template's own text (all of them, concatenated), for rg_tokenizer_set_template(). */
const char *rg_chat_literals(const struct rg_chat *c, size_t *len);

/* True if the template looks at this variable ("enable_thinking", "reasoning_effort", "tools"). */
bool rg_chat_uses(const struct rg_chat *c, const char *variable);

/* Renders.  `request` is a chat-completions body: messages, tools, documents, chat_template_kwargs,
 * enable_thinking, reasoning_effort are read; messages are prepared as docs/API says (text parts
 * joined, null content "", arguments parsed, ...).  raise_exception()'s message and every wrong use
 * of data are RG_E_BAD_DATA; a bound that was hit is RG_E_LIMIT. */
RG_CHECKED enum rg_code rg_chat_render(const struct rg_chat *c, const struct rg_json *request,
                                       struct rg_prompt *out, struct rg_err *err);

#endif
