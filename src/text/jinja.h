/* jinja.h - chat templates: parsed once, run for each request (private to src/text).
 *
 * The language is Jinja's as transformers sets it up: trim_blocks, lstrip_blocks, break and
 * continue, generation blocks, tojson as json.dumps(ensure_ascii=False), no autoescape, nothing but
 * data to look at.  What the interpreter does not know is an error when a template is parsed.
 * Limits     RG_LIMIT_TEMPLATE_*, and jinja_value.h.
 * Threads    A parsed template is immutable: any number of threads run it. */
#ifndef RG_TEXT_JINJA_H
#define RG_TEXT_JINJA_H

#include "base/buf.h"
#include "text/chat.h"
#include "text/jinja_value.h"

struct rg_jinja;

RG_CHECKED enum rg_code rg_jinja_parse(struct rg_jinja **out, const char *source, size_t len,
                                       struct rg_err *err);
void rg_jinja_free(struct rg_jinja *t); /* accepts NULL */

/* The template's text outside of tags and inside string literals, newline after each piece. */
const char *rg_jinja_literals(const struct rg_jinja *t, size_t *len);

/* True if the template reads a variable of this name. */
bool rg_jinja_uses(const struct rg_jinja *t, const char *name);

/* One rendering: rg_jinja_begin(), any number of rg_jinja_set() with values made in
 * rg_jinja_work(), rg_jinja_run(), rg_jinja_end().  err is borrowed until the end. */
struct rg_jrun;
RG_CHECKED enum rg_code rg_jinja_begin(struct rg_jrun **out, const struct rg_jinja *t,
                                       struct rg_err *err);
struct rg_jwork *rg_jinja_work(struct rg_jrun *r);
RG_CHECKED enum rg_code rg_jinja_set(struct rg_jrun *r, const char *name, struct rg_jvalue v);
RG_CHECKED enum rg_code rg_jinja_run(struct rg_jrun *r, struct rg_prompt *out);
void rg_jinja_end(struct rg_jrun *r); /* accepts NULL */

#endif
