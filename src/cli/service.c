/* service.c - puts the service's files in place and has the init system take them up. */
#include "cli/service.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "checkpoint/checkpoint.h"
#include "cli/service_arguments.h"
#include "cli/service_files.h"
#include "cluster/discovery.h"

extern char **environ;

enum { FILE_BYTES_MAX = 1 << 16, WORDS_MAX = 10, STEPS_MAX = 5 };

/* A command of the init system. */
struct step {
    const char *words[WORDS_MAX]; /* NULL ends them */
    bool may_fail;                /* there may be nothing to stop */
    uint32_t tries;               /* a second apart: what was stopped may still be going; 0: one */
};

struct service {
    const struct rg_options *options;
    enum rg_service_init init;
    struct rg_service_arguments arguments;
    char *user, *group, *home; /* owned */
    char owner[128];           /* "user:group" */
    struct step steps[STEPS_MAX];
    uint32_t n_steps;
};

/* ---- who, and under what --------------------------------------------------------------------- */

static enum rg_code choose_init(struct service *s, struct rg_err *err)
{
#ifdef __APPLE__
    const enum rg_service_init own = RG_INIT_LAUNCHD;
    const bool runs = true;
#else
    const enum rg_service_init own = RG_INIT_SYSTEMD;
    const bool runs = rg_dir_exists("/run/systemd/system"); /* sd_booted(3) */
#endif
    const char *asked = s->options->init;

    s->init = own;
    if (asked && strcmp(asked, "systemd") == 0)
        s->init = RG_INIT_SYSTEMD;
    else if (asked && strcmp(asked, "launchd") == 0)
        s->init = RG_INIT_LAUNCHD;
    else if (asked)
        return rg_fail(err, RG_E_USAGE, "--init: '%.40s': give launchd or systemd", asked);
    if (s->options->dry_run || (s->init == own && runs))
        return RG_OK;
    return rg_fail(
        err, RG_E_USAGE,
        "service: this machine was not started by %s: use --dry-run to see the files and "
        "put them where they belong",
        s->init == RG_INIT_SYSTEMD ? "systemd" : "launchd");
}

/* --user, else who called sudo, else who this is; root only when it was asked for. */
static enum rg_code choose_user(struct service *s, struct rg_err *err)
{
    const char *asked = s->options->user;
    const char *name = asked ? asked : getuid() == 0 ? getenv("SUDO_USER") : NULL;
    const struct passwd *p = name ? getpwnam(name) : getpwuid(getuid());
    const struct group *g;

    if (!p)
        return rg_fail(err, RG_E_USAGE, "--user: no user '%.60s' on this machine",
                       name ? name : "of this process");
    if (p->pw_uid == 0 && !asked)
        return rg_fail(err, RG_E_USAGE,
                       "service install: say whom the daemon runs as with --user NAME: it needs "
                       "nothing of root's");
    g = getgrgid(p->pw_gid);
    s->user = rg_strdup(p->pw_name);
    s->home = rg_strdup(p->pw_dir);
    s->group = rg_strdup(g ? g->gr_name : "");
    if (!s->user || !s->home || !s->group)
        return rg_fail(err, RG_E_NOMEM, "service: out of memory");
    (void)snprintf(s->owner, sizeof s->owner, "%s:%s", s->user, s->group);
    return RG_OK;
}

/* ---- the steps ------------------------------------------------------------------------------- */

#define LABEL "system/org.renga.daemon"
#define PLIST "/Library/LaunchDaemons/org.renga.daemon.plist"

static void add_step(struct service *s, struct step step)
{
    s->steps[s->n_steps++] = step;
}

static void plan_install(struct service *s)
{
    s->n_steps = 0;
    if (s->init == RG_INIT_SYSTEMD) {
        add_step(s, (struct step){.words = {"systemctl", "daemon-reload"}});
        add_step(s, (struct step){.words = {"systemctl", "enable", "renga.service"}});
        add_step(s, (struct step){.words = {"systemctl", "restart", "renga.service"}});
        return;
    }
    add_step(s, (struct step){.words = {"mkdir", "-p", "/var/log/renga"}});
    add_step(s, (struct step){.words = {"chown", s->owner, "/var/log/renga"}});
    add_step(s, (struct step){.words = {"launchctl", "bootout", LABEL}, .may_fail = true});
    add_step(s, (struct step){.words = {"launchctl", "enable", LABEL}});
    add_step(s, (struct step){.words = {"launchctl", "bootstrap", "system", PLIST}, .tries = 45});
}

static void plan_uninstall(struct service *s)
{
    s->n_steps = 0;
    if (s->init == RG_INIT_SYSTEMD)
        add_step(s, (struct step){.words = {"systemctl", "disable", "--now", "renga.service"},
                                  .may_fail = true});
    else
        add_step(s, (struct step){.words = {"launchctl", "bootout", LABEL}, .may_fail = true});
}

/* Runs a command once, what it prints goes to standard error, or nowhere; -1: it did not start. */
static int run_once(const struct step *step, bool quiet)
{
    posix_spawn_file_actions_t actions;
    int status = -1;
    pid_t pid;

    if (posix_spawn_file_actions_init(&actions) != 0)
        return -1;
    if (quiet)
        (void)posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    (void)posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
    if (posix_spawnp(&pid, step->words[0], &actions, NULL, (char *const *)step->words, environ) !=
            0 ||
        waitpid(pid, &status, 0) != pid)
        status = -1;
    (void)posix_spawn_file_actions_destroy(&actions);
    return status;
}

static enum rg_code add_words(struct rg_buf *out, const char *const *words, struct rg_err *err)
{
    enum rg_code code = RG_OK;

    for (uint32_t i = 0; words[i] && !code; i++) {
        if (i > 0)
            code = rg_buf_add_str(out, " ", err);
        if (!code)
            code = rg_service_add_shell(out, words[i], err);
    }
    return code;
}

static enum rg_code run_steps(const struct service *s, struct rg_err *err)
{
    for (uint32_t i = 0; i < s->n_steps; i++) {
        const struct step *step = &s->steps[i];
        uint32_t left = step->tries > 0 ? step->tries : 1;
        int status = -1;

        while (left-- > 0) {
            status = run_once(step, step->may_fail || left > 0);
            if (status == 0 || left == 0)
                break;
            (void)sleep(1);
        }
        if (status != 0 && !step->may_fail)
            return rg_fail(err, RG_E_IO, "service: `%s %s` failed: see what it said above",
                           step->words[0], step->words[1]);
    }
    return RG_OK;
}

/* ---- the files ------------------------------------------------------------------------------- */

/* Writes beside the file and renames, so that no half of one is ever loaded. */
static enum rg_code write_file(const char *path, const struct rg_buf *text, struct rg_err *err)
{
    char beside[256];
    enum rg_code code = RG_OK;
    FILE *f;

    (void)snprintf(beside, sizeof beside, "%s.new", path);
    f = fopen(beside, "w");
    if (!f)
        return rg_fail(err, RG_E_IO, "service: %s: %s", beside, strerror(errno));
    if (fwrite(text->data, 1, text->len, f) != text->len || fflush(f) != 0 ||
        fchmod(fileno(f), 0644) != 0 || fsync(fileno(f)) != 0)
        code = rg_fail(err, RG_E_IO, "service: %s: %s", beside, strerror(errno));
    if (fclose(f) != 0 && !code)
        code = rg_fail(err, RG_E_IO, "service: %s: %s", beside, strerror(errno));
    if (!code && rename(beside, path) != 0)
        code = rg_fail(err, RG_E_IO, "service: %s: %s", path, strerror(errno));
    if (code)
        (void)unlink(beside);
    return code;
}

/* Fills every file and writes it, or prints it under its path. */
static enum rg_code put_files(const struct service *s, struct rg_err *err)
{
    const struct rg_service_facts facts = {
        .arguments = s->arguments.items, .user = s->user, .group = s->group, .home = s->home};
    const struct rg_service_file *files;
    const uint32_t n = rg_service_files(&files, s->init);
    enum rg_code code = RG_OK;

    for (uint32_t i = 0; i < n && !code; i++) {
        struct rg_buf text;

        rg_buf_init(&text, FILE_BYTES_MAX);
        code = rg_service_fill(&text, &files[i], &facts, err);
        if (!code && s->options->dry_run)
            printf("==> %s <==\n%s\n", files[i].path, text.data);
        else if (!code)
            code = write_file(files[i].path, &text, err);
        rg_buf_free(&text);
    }
    return code;
}

static enum rg_code remove_files(const struct service *s, struct rg_err *err)
{
    const struct rg_service_file *files;
    const uint32_t n = rg_service_files(&files, s->init);

    for (uint32_t i = 0; i < n; i++) {
        if (s->options->dry_run)
            printf("rm -f %s\n", files[i].path);
        else if (unlink(files[i].path) != 0 && errno != ENOENT)
            return rg_fail(err, RG_E_IO, "service: %s: %s", files[i].path, strerror(errno));
    }
    return RG_OK;
}

static enum rg_code print_steps(const struct service *s, struct rg_err *err)
{
    struct rg_buf text;
    enum rg_code code = RG_OK;

    rg_buf_init(&text, FILE_BYTES_MAX);
    for (uint32_t i = 0; i < s->n_steps && !code; i++) {
        code = add_words(&text, s->steps[i].words, err);
        if (!code)
            code = rg_buf_add_str(&text, "\n", err);
    }
    if (!code && text.data)
        printf("%s", text.data);
    rg_buf_free(&text);
    return code;
}

/* ---- install and uninstall ------------------------------------------------------------------- */

/* The same command with sudo before it. */
static enum rg_code refuse_without_root(const struct service *s, struct rg_err *err)
{
    struct rg_buf text;
    enum rg_code code;

    rg_buf_init(&text, FILE_BYTES_MAX);
    code = add_words(&text, (const char *const[]){s->arguments.items[0], NULL}, err);
    if (!code)
        code = rg_buf_addf(&text, err, " service %s ", s->options->action);
    if (!code && s->arguments.n > 2)
        code = add_words(&text, s->arguments.items + 2, err);
    if (!code && s->options->user)
        code = rg_buf_addf(&text, err, " --user %s", s->options->user);
    if (!code)
        code = rg_fail(err, RG_E_USAGE, "service %s: needs root: sudo %s", s->options->action,
                       text.data);
    rg_buf_free(&text);
    return code;
}

/* What the daemon would find out when it starts, found out now. */
static enum rg_code check_flags(const struct rg_options *o, struct rg_err *err)
{
    struct rg_discovery ring;
    char *dir, *name;
    enum rg_code code = rg_checkpoint_resolve(&dir, &name, o->model, o->registry, err);

    if (code)
        return code;
    rg_free(dir);
    rg_free(name);
    if (o->tls_dir && !rg_dir_exists(o->tls_dir))
        return rg_fail(err, RG_E_USAGE, "--tls-dir: %s: no such directory", o->tls_dir);
    if (!o->discovery)
        return RG_OK;
    code = rg_discovery_read(&ring, o->discovery, err);
    if (code)
        return code;
    if (o->node_id && rg_discovery_find(&ring, o->node_id) < 0)
        code = rg_fail(err, RG_E_USAGE, "--node-id: %s has no peer '%.128s'", o->discovery,
                       o->node_id);
    rg_discovery_free(&ring);
    return code;
}

static enum rg_code install(struct service *s, struct rg_err *err)
{
    enum rg_code code = choose_user(s, err);

    if (!code)
        code = rg_service_arguments_make(&s->arguments, s->options, err);
    if (code)
        return code;
    plan_install(s);
    if (s->options->dry_run) {
        code = put_files(s, err);
        if (code)
            return code;
        printf("==> commands <==\n");
        return print_steps(s, err);
    }
    if (geteuid() != 0)
        return refuse_without_root(s, err);
    code = check_flags(s->options, err);
    if (!code)
        code = put_files(s, err);
    if (!code)
        code = run_steps(s, err);
    if (!code)
        printf("installed and started; %s\n",
               s->init == RG_INIT_SYSTEMD ? "`systemctl status renga`, `journalctl -fu renga`"
                                          : "`renga status`, the log is /var/log/renga/renga.log");
    return code;
}

static enum rg_code uninstall(struct service *s, struct rg_err *err)
{
    const struct rg_service_file *files;
    enum rg_code code;

    (void)rg_service_files(&files, s->init);
    plan_uninstall(s);
    if (s->options->dry_run) {
        printf("==> commands <==\n");
        code = print_steps(s, err);
        return code ? code : remove_files(s, err);
    }
    if (geteuid() != 0)
        return rg_fail(err, RG_E_USAGE,
                       "service uninstall: needs root: sudo renga service "
                       "uninstall");
    if (!rg_file_exists(files[0].path))
        return rg_fail(err, RG_E_USAGE, "service uninstall: nothing is installed: there is no %s",
                       files[0].path);
    code = run_steps(s, err);
    if (!code)
        code = remove_files(s, err);
    if (!code && s->init == RG_INIT_SYSTEMD) {
        s->n_steps = 0;
        add_step(s, (struct step){.words = {"systemctl", "daemon-reload"}});
        code = run_steps(s, err);
    }
    if (!code)
        printf("stopped and removed\n");
    return code;
}

enum rg_code rg_service(const struct rg_options *options, struct rg_err *err)
{
    struct service s = {.options = options};
    const char *action = options->action ? options->action : "";
    enum rg_code code;

    if (strcmp(action, "install") != 0 && strcmp(action, "uninstall") != 0)
        return rg_fail(err, RG_E_USAGE, "service: '%.40s': give install or uninstall", action);
    code = choose_init(&s, err);
    if (!code)
        code = strcmp(action, "install") == 0 ? install(&s, err) : uninstall(&s, err);
    rg_service_arguments_free(&s.arguments);
    rg_free(s.user);
    rg_free(s.group);
    rg_free(s.home);
    return code;
}
