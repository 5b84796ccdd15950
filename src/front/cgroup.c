/*
 * Limits of control groups. A group's files are found by its path in /proc/self/cgroup below the usual mount points; in a container
 * that path may be the host's, of which only the root is there.
 */
#include "front/cgroup.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define V1_ROOT "/sys/fs/cgroup/memory"
#define V2_ROOT "/sys/fs/cgroup"

int cgroup_number(const char *path, uint64_t *out)
{
	FILE *f = fopen(path, "re");
	uint64_t value;
	int n;

	if (!f)
		return -errno;
	n = fscanf(f, "%" SCNu64, &value);
	fclose(f);
	if (n != 1)
		return -EIO;
	*out = value;
	return 0;
}

/* "max" and a file that is not there are no limit; nor is version 1's, which is larger than any memory. */
static uint64_t limit_of(const char *dir, const char *file)
{
	uint64_t bytes = UINT64_MAX;
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s/%s", dir, file) < (int)sizeof(path))
		cgroup_number(path, &bytes);
	return bytes;
}

static uint64_t least_limit(const char *root, const char *group, const char *file)
{
	uint64_t least = UINT64_MAX, bytes;
	char dir[PATH_MAX];

	if (snprintf(dir, sizeof(dir), "%s%s", root, group) >= (int)sizeof(dir))
		return least;
	while (strlen(dir) >= strlen(root)) {
		bytes = limit_of(dir, file);
		if (bytes < least)
			least = bytes;
		*strrchr(dir, '/') = '\0';
	}
	return least;
}

uint64_t cgroup_memory_bytes(void)
{
	uint64_t least = UINT64_MAX, bytes;
	char line[PATH_MAX];
	FILE *f = fopen("/proc/self/cgroup", "re");

	while (f && fgets(line, sizeof(line), f)) {
		/* "ID:CONTROLLER[,CONTROLLER...]:GROUP"; version 2 names no controllers. */
		char *names = strchr(line, ':'), *group = names ? strchr(names + 1, ':') : NULL;

		if (!group)
			continue;
		*group++ = '\0';
		group[strcspn(group, "\n")] = '\0';
		if (!names[1])
			bytes = least_limit(V2_ROOT, group, "memory.max");
		else if (strstr(names, "memory"))
			bytes = least_limit(V1_ROOT, group, "memory.limit_in_bytes");
		else
			continue;
		if (bytes < least)
			least = bytes;
	}
	if (f)
		fclose(f);
	return least;
}

uint64_t cgroup_machine_bytes(void)
{
	return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}
