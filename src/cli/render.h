/* render.h - renga render: a chat-completions body on stdin to the prompt it becomes.
 *
 * Output     the prompt's bytes, nothing added; --ids "[1,2]\n"; --spans a JSON array of
 *            {"text", "trusted"} and a newline. */
#ifndef RG_CLI_RENDER_H
#define RG_CLI_RENDER_H

#include <stdbool.h>

#include "base/err.h"

RG_CHECKED enum rg_code rg_render(const char *model_dir, bool ids, bool spans, struct rg_err *err);

#endif
