/* api_error.h - an error as a client of the API sees it, in OpenAI's shape.
 *
 *   {"error":{"message":"...","type":"...","param":"...","code":"..."}}
 *
 * The code says what is wrong, and status and type follow from it unless an HTTP rule gives another
 * status.  param names the field of the request's body. */
#ifndef RG_API_API_ERROR_H
#define RG_API_API_ERROR_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"

enum rg_api_code {
    RG_API_INVALID_JSON,
    RG_API_UNKNOWN_FIELD,
    RG_API_INVALID_VALUE,
    RG_API_UNSUPPORTED,
    RG_API_MODEL_NOT_FOUND,
    RG_API_CONTEXT_LENGTH,
    RG_API_INVALID_API_KEY,
    RG_API_QUEUE_FULL,
    RG_API_LOADING,
    RG_API_NODE_LOST,
    RG_API_INTERNAL
};

/* The header line of each 503 that passes, and of 429. */
#define RG_API_RETRY_AFTER "Retry-After: 1\r\n"

struct rg_api_error {
    enum rg_api_code code;
    int              status;
    char             param[128];   /* "": null */
    char             message[640];
};

/* Fills *e and returns false, so that a failure is one statement.  param may be NULL. */
RG_PRINTF(4, 5)
bool rg_api_fail(struct rg_api_error *e, enum rg_api_code code, const char *param,
                 const char *format, ...);

/* The error of a call below the API, such as one that ended a request. */
void rg_api_error_from(struct rg_api_error *e, const struct rg_err *err);

/* Appends the object {"error":...}. */
RG_CHECKED enum rg_code rg_api_error_print(struct rg_buf *out, const struct rg_api_error *e,
                                           struct rg_err *err);

const char *rg_api_code_name(enum rg_api_code code);

#endif
