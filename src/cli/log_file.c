/* log_file.c - standard error into a file, and a new file on SIGHUP. */
#include "cli/log_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { FILE_MODE = 0640 };

/* For the signal's handler: written once, before the handler is there. */
static char log_path[PATH_MAX];

/* Only calls that a handler may make (POSIX, async-signal-safe). */
static int open_as_stderr(void)
{
    const int fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, FILE_MODE);
    int rc;

    if (fd < 0)
        return -1;
    rc = dup2(fd, STDERR_FILENO);
    close(fd);
    return rc;
}

static void on_hangup(int signal_number)
{
    const int saved = errno;

    (void)signal_number;
    (void)open_as_stderr();
    errno = saved;
}

static enum rg_code write_pid(struct rg_err *err)
{
    char path[PATH_MAX + 8];
    FILE *f;
    int written;

    (void)snprintf(path, sizeof path, "%s.pid", log_path);
    f = fopen(path, "w");
    if (!f)
        return rg_fail(err, RG_E_IO, "--log-file: %s: %s", path, strerror(errno));
    written = fprintf(f, "%ld\n", (long)getpid());
    if (fclose(f) != 0 || written < 0)
        return rg_fail(err, RG_E_IO, "--log-file: %s: %s", path, strerror(errno));
    return RG_OK;
}

enum rg_code rg_log_file_use(const char *path, struct rg_err *err)
{
    struct sigaction action = {.sa_handler = on_hangup, .sa_flags = SA_RESTART};
    const int n = snprintf(log_path, sizeof log_path, "%s", path);

    if (n <= 0 || (size_t)n >= sizeof log_path)
        return rg_fail(err, RG_E_USAGE, "--log-file: '%.60s': give the path of a file", path);
    if (open_as_stderr() < 0)
        return rg_fail(err, RG_E_IO, "--log-file: %s: %s", path, strerror(errno));
    (void)sigemptyset(&action.sa_mask);
    if (sigaction(SIGHUP, &action, NULL) != 0)
        return rg_fail(err, RG_E_IO, "--log-file: SIGHUP: %s", strerror(errno));
    return write_pid(err);
}
