/* host_memory.h - how much memory this process may use.
 *
 * The machine's, or less where a control group of Linux (a container, a systemd unit) allows less:
 * the smallest limit of the process's group and of all above it, version 2 or 1.
 * Failure    What cannot be read is no limit; 0 when nothing at all is known. */
#ifndef RG_BASE_HOST_MEMORY_H
#define RG_BASE_HOST_MEMORY_H

#include <stdint.h>

uint64_t rg_host_memory_bytes(void);

/* The limit of the control groups alone, UINT64_MAX when there is none.
 * groups_file: /proc/self/cgroup; root: /sys/fs/cgroup. */
uint64_t rg_cgroup_memory_limit(const char *groups_file, const char *root);

#endif
