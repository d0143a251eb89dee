/* err.c - failures as one line of text. */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Cuts s, whose buffer is full, back to the last whole UTF-8 character. */
static void cut_to_character(char *s, size_t len)
{
    size_t at = len;

    while (at > 0 && ((unsigned char)s[at - 1] & 0xC0) == 0x80)
        at--;
    if (at == 0)
        return;

    const unsigned char lead = (unsigned char)s[at - 1];
    const size_t have = len - (at - 1);
    const size_t need = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;

    if (have < need)
        s[at - 1] = '\0';
}

RG_PRINTF(3, 0)
static void put(struct rg_err *err, enum rg_code code, const char *format, va_list args)
{
    err->code = code;
    const int n = vsnprintf(err->message, sizeof err->message, format, args);

    if (n < 0)
        err->message[0] = '\0';
    else if ((size_t)n >= sizeof err->message)
        cut_to_character(err->message, sizeof err->message - 1);
}

enum rg_code rg_fail(struct rg_err *err, enum rg_code code, const char *format, ...)
{
    if (err) {
        va_list args;

        va_start(args, format);
        put(err, code, format, args);
        va_end(args);
    }
    return code;
}

enum rg_code rg_fail_in(struct rg_err *err, enum rg_code code, const char *format, ...)
{
    if (!err)
        return code;

    struct rg_err inner = *err;
    char prefix[RG_ERR_BYTES];
    va_list args;

    va_start(args, format);
    const int n = vsnprintf(prefix, sizeof prefix, format, args);
    va_end(args);
    if (n < 0)
        return code;
    return rg_fail(err, code, "%s: %s", prefix, inner.message);
}

int rg_exit_code(enum rg_code code)
{
    switch (code) {
    case RG_OK:
        return 0;
    case RG_E_BAD_DATA:
    case RG_E_UNSUPPORTED:
    case RG_E_USAGE:
        return 2;
    case RG_E_FIT:
        return 3;
    case RG_E_PEER:
        return 4;
    case RG_E_CANCELED:
        return 130;
    case RG_E_NOMEM:
    case RG_E_IO:
    case RG_E_LIMIT:
    case RG_E_TIMEOUT:
    case RG_E_INTERNAL:
        return 1;
    }
    return 1;
}
