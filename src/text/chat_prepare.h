/* chat_prepare.h - messages of a request as templates expect them (private to src/text).
 *
 * Templates are written for one shape of a message; OpenAI's clients send several.  Text parts are
 * joined; null or missing content becomes ""; a tool call's arguments that hold a JSON object
 * become that object; other null keys go; reasoning_content, thinking and reasoning fill each
 * other. */
#ifndef RG_TEXT_CHAT_PREPARE_H
#define RG_TEXT_CHAT_PREPARE_H

#include "base/json.h"
#include "text/jinja_eval.h"

/* Values are made in r's arena; strings are borrowed from the request. */
RG_CHECKED enum rg_code rg_chat_prepare(struct rg_jrun *r, const struct rg_json *messages,
                                        struct rg_jvalue *out);

#endif
