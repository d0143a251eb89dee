/* tokenize.h - `renga tokenize`: bytes on stdin to token ids on stdout, or back.
 *
 * Encoding   prints one JSON array, `[1,2]`, and a newline; no BOS is added.  With `special`
 *            control tokens in the text are recognised.
 * Decoding   reads a JSON array of ids and writes the tokens' bytes and nothing else.
 * Threads    One at a time; reads all of stdin before it writes. */
#ifndef RG_CLI_TOKENIZE_H
#define RG_CLI_TOKENIZE_H

#include <stdbool.h>

#include "base/err.h"

RG_CHECKED enum rg_code rg_tokenize(const char *model_dir, bool special, bool decode,
                                    struct rg_err *err);

#endif
