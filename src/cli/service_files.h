/* service_files.h - the files of the service, made from the templates of config/, and how an
 * argument is written in each of their languages.
 *
 * Failure    RG_E_USAGE: an argument with a control character or that is no UTF-8, which neither
 *            language can say. */
#ifndef RG_CLI_SERVICE_FILES_H
#define RG_CLI_SERVICE_FILES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum rg_service_init { RG_INIT_SYSTEMD, RG_INIT_LAUNCHD };

/* What the templates leave open. */
struct rg_service_facts {
    const char *const *arguments; /* the program's path first; NULL ends them */
    const char *user, *group, *home;
};

struct rg_service_file {
    const char *path;     /* where it belongs */
    const char *template; /* one of service_templates.h */
};

enum { RG_SERVICE_FILES_MAX = 2 };

/* The files of an init system; returns how many. */
uint32_t rg_service_files(const struct rg_service_file **out, enum rg_service_init init);

RG_CHECKED enum rg_code rg_service_fill(struct rg_buf *out, const struct rg_service_file *file,
                                        const struct rg_service_facts *facts, struct rg_err *err);

/* One argument for a shell: as it is, or in single quotes. */
RG_CHECKED enum rg_code rg_service_add_shell(struct rg_buf *out, const char *argument,
                                             struct rg_err *err);

#endif
