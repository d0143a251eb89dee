/* map.c - maps, what their files were like, and the handler of SIGBUS.
 *
 * The handler may only read atomics and make system calls.  It finds the map of an address in a
 * table of ranges, into which a map is written before anybody reads it. */
#include "base/map.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif

#include "base/file.h"
#include "base/limits.h"

struct guard {
    _Atomic uintptr_t begin;
    _Atomic uintptr_t end; /* 0: free; written last, cleared first */
    _Atomic bool lost;     /* pages of it could not be read */
};

static struct guard guards[RG_LIMIT_MAPS];
static _Atomic uint32_t n_guards; /* those behind were never used */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of taking and giving back a guard */

/* What there was before the handler.  It is written before the handler is there, and beside the one
 * that a running handler may be looking at. */
static struct sigaction befores[2];
static _Atomic uint32_t newest;

/* ---- the handler ----------------------------------------------------------------------------- */

/* Zeros for the whole map: one call per map, however many of its pages are gone, and the kernel's
 * limit on the number of mappings is not approached.  Nobody will use a byte of it any more. */
static bool give_zeros(struct guard *g, uintptr_t begin, uintptr_t end)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;

    atomic_store(&g->lost, true); /* first: who sees a zero also sees this */
#ifdef __linux__
    /* The call itself: what a sanitizer puts around mmap() is not made for handlers. */
    return syscall(SYS_mmap, begin, end - begin, (long)PROT_READ, (long)flags, -1L, 0L) != -1;
#else
    return mmap((void *)begin, end - begin, PROT_READ, flags, -1, 0) != MAP_FAILED;
#endif
}

static bool is_ours(uintptr_t at)
{
    const uint32_t n = atomic_load(&n_guards);

    for (uint32_t i = 0; i < n; i++) {
        const uintptr_t end = atomic_load(&guards[i].end);
        const uintptr_t begin = atomic_load(&guards[i].begin);

        /* A guard that changes hands while it is looked at is not the one of a map in use. */
        if (at >= begin && at < end && atomic_load(&guards[i].end) == end)
            return give_zeros(&guards[i], begin, end);
    }
    return false;
}

static void on_sigbus(int number, siginfo_t *info, void *context)
{
    const int saved = errno;
    /* What kill() sends has no address; Linux says so with codes below 1. */
    const bool is_fault = info->si_code > 0 && info->si_code != SI_USER;
    const struct sigaction *before = &befores[atomic_load(&newest) % 2];

    if (is_fault && is_ours((uintptr_t)info->si_addr)) {
        errno = saved;
        return;
    }
    if (before->sa_flags & SA_SIGINFO) {
        before->sa_sigaction(number, info, context);
    } else if (before->sa_handler != SIG_DFL && before->sa_handler != SIG_IGN) {
        before->sa_handler(number);
    } else if (is_fault || before->sa_handler == SIG_DFL) {
        /* The instruction faults again, and then as if this handler had never been. */
        (void)sigaction(number, before, NULL);
        if (!is_fault)
            (void)raise(number);
    }
    errno = saved;
}

/* A fault on a thread that blocks its signal ends the process, and threads inherit what is blocked:
 * whoever maps a file usually also starts those that read it. */
static void unblock(void)
{
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGBUS);
    (void)pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

/* Again when another handler has taken its place since. */
static enum rg_code install(struct rg_err *err)
{
    struct sigaction action = {.sa_sigaction = on_sigbus,
                               .sa_flags = (int)(SA_SIGINFO | SA_RESTART | SA_ONSTACK)};
    struct sigaction now;
    const uint32_t next = atomic_load(&newest) + 1;

    (void)sigemptyset(&action.sa_mask);
    if (sigaction(SIGBUS, NULL, &now) != 0)
        return rg_fail(err, RG_E_IO, "the handler of SIGBUS: %s", strerror(errno));
    if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_sigbus)
        return RG_OK;
    befores[next % 2] = now;
    atomic_store(&newest, next);
    if (sigaction(SIGBUS, &action, NULL) != 0)
        return rg_fail(err, RG_E_IO, "the handler of SIGBUS: %s", strerror(errno));
    return RG_OK;
}

/* ---- guards ---------------------------------------------------------------------------------- */

static enum rg_code take_guard(struct rg_map *m, const char *path, struct rg_err *err)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t begin = (uintptr_t)m->data;
    uint32_t i = 0;
    enum rg_code code;

    unblock();
    pthread_mutex_lock(&lock);
    code = install(err);
    while (i < RG_LIMIT_MAPS && atomic_load(&guards[i].end) != 0)
        i++;
    if (!code && i == RG_LIMIT_MAPS)
        code = rg_fail(err, RG_E_LIMIT, "%s: %u files are mapped already", path, RG_LIMIT_MAPS);
    if (!code) {
        atomic_store(&guards[i].lost, false);
        atomic_store(&guards[i].begin, begin);
        atomic_store(&guards[i].end, (begin + m->bytes + page - 1) / page * page);
        if (i >= atomic_load(&n_guards))
            atomic_store(&n_guards, i + 1);
        m->guard = (int)i;
    }
    pthread_mutex_unlock(&lock);
    return code;
}

static void return_guard(int guard)
{
    pthread_mutex_lock(&lock);
    atomic_store(&guards[guard].end, 0);
    pthread_mutex_unlock(&lock);
}

/* ---- maps ------------------------------------------------------------------------------------ */

static struct rg_map_stamp stamp_of(const struct stat *st)
{
#ifdef __APPLE__
    const struct timespec *t = &st->st_mtimespec;
#else
    const struct timespec *t = &st->st_mtim;
#endif

    return (struct rg_map_stamp){.modified_ns = (int64_t)t->tv_sec * 1000000000 + t->tv_nsec,
                                 .links = (uint64_t)st->st_nlink};
}

static enum rg_code map_whole(struct rg_map *m, const char *path, struct rg_err *err)
{
    void *p = mmap(NULL, m->bytes, PROT_READ, MAP_PRIVATE, m->fd, 0);

    if (p == MAP_FAILED)
        return rg_fail(err, RG_E_IO, "%s: cannot map %zu bytes: %s", path, m->bytes,
                       strerror(errno));
    m->data = p;
    return take_guard(m, path, err);
}

enum rg_code rg_map_open(struct rg_map *m, const char *path, struct rg_err *err)
{
    struct stat st;
    uint64_t bytes;
    enum rg_code code;

    *m = (struct rg_map){.fd = -1, .guard = -1};
    code = rg_file_open(&m->fd, &bytes, path, err);
    if (code)
        return code;
    m->bytes = (size_t)bytes;
    if (fstat(m->fd, &st) != 0)
        code = rg_fail(err, RG_E_IO, "%s: %s", path, strerror(errno));
    else
        m->stamp = stamp_of(&st);
    if (!code && bytes > 0)
        code = map_whole(m, path, err);
    if (code)
        rg_map_close(m);
    return code;
}

void rg_map_close(struct rg_map *m)
{
    if (m->guard >= 0)
        return_guard(m->guard);
    if (m->data)
        munmap((void *)(uintptr_t)m->data, m->bytes);
    if (m->fd >= 0)
        close(m->fd);
    *m = (struct rg_map){.fd = -1, .guard = -1};
}

enum rg_code rg_map_check(const struct rg_map *m, const char *name, struct rg_err *err)
{
    static const char advice[] = "put the right file there and start again";
    struct rg_map_stamp now;
    struct stat st;

    if (m->fd < 0)
        return RG_OK;
    if (fstat(m->fd, &st) != 0)
        return rg_fail(err, RG_E_IO, "%s: %s while it was in use; %s", name, strerror(errno),
                       advice);
    now = stamp_of(&st);
    if ((uint64_t)st.st_size != m->bytes)
        return rg_fail(err, RG_E_IO,
                       "%s: %s from %zu to %" PRIu64 " bytes while it was in use; %s", name,
                       (uint64_t)st.st_size < m->bytes ? "was truncated" : "grew", m->bytes,
                       (uint64_t)st.st_size, advice);
    if (now.modified_ns != m->stamp.modified_ns)
        return rg_fail(err, RG_E_IO, "%s: was written to while it was in use; %s", name, advice);
    if (now.links < m->stamp.links)
        return rg_fail(err, RG_E_IO, "%s: was replaced or removed while it was in use; %s", name,
                       advice);
    if (m->guard >= 0 && atomic_load(&guards[m->guard].lost))
        return rg_fail(err, RG_E_IO,
                       "%s: a part of it could not be read while it was in use; is the disk well? "
                       "%s",
                       name, advice);
    return RG_OK;
}
