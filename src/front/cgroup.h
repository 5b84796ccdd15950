/*
 * The memory that the control groups of this process leave it (cgroups(7), version 1 or 2).
 */
#ifndef SPILLFS_FRONT_CGROUP_H
#define SPILLFS_FRONT_CGROUP_H

#include <stdint.h>

/* The least limit of its group and those above, in bytes; UINT64_MAX: none is known. Reads a few files. */
uint64_t cgroup_memory_bytes(void);
/* All memory of the machine. */
uint64_t cgroup_machine_bytes(void);
/* The number in a file of a control group, or of sysfs; -EIO: it holds none. */
int cgroup_number(const char *path, uint64_t *out);

#endif
