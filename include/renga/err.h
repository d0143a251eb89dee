/* err.h - how a call says why it failed.
 *
 * Every fallible function returns enum rg_code and takes a last parameter `struct rg_err *err`.
 * RG_OK leaves *err alone.  Anything else fills it with one line that a person can act on: what was
 * tried, on what, what was found, what would be right.  err may be NULL when the caller only needs
 * the code. */
#ifndef RG_RENGA_ERR_H
#define RG_RENGA_ERR_H

enum rg_code {
    RG_OK = 0,
    RG_E_NOMEM,       /* an allocation failed; nothing was left half-built          */
    RG_E_IO,          /* the OS said no: file, socket, thread                       */
    RG_E_BAD_DATA,    /* bytes from outside broke a rule of their format            */
    RG_E_LIMIT,       /* well-formed, but over a configured bound                   */
    RG_E_UNSUPPORTED, /* well-formed, but something this program does not do        */
    RG_E_USAGE,       /* a flag, a path or a configuration value is wrong           */
    RG_E_FIT,         /* the model or its cache does not fit in the memory          */
    RG_E_PEER,        /* another node is missing, refused or lost                   */
    RG_E_TIMEOUT,
    RG_E_CANCELED,
    RG_E_INTERNAL     /* a result that must not happen, such as a NaN in the logits */
};

enum { RG_ERR_BYTES = 512 }; /* one line, cut at a UTF-8 border when longer */

struct rg_err {
    enum rg_code code;
    char         message[RG_ERR_BYTES];
};

#define RG_CHECKED __attribute__((warn_unused_result))

#endif
