/*
 * What a caller may see. No state.
 *
 * Invariant: who cannot be looked at is taken for somebody without privilege.
 */
#include "front/caller.h"

#include <errno.h>
#include <limits.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The kernel's number of the first user namespace (PROC_USER_INIT_INO). */
#define FIRST_USER_NAMESPACE "user:[4026531837]"

static bool has_capability(pid_t thread, unsigned which)
{
	unsigned long long caps = 0;
	char path[64], line[128];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%ld/status", (long)thread);
	f = fopen(path, "re");
	if (!f)
		return false;
	while (fgets(line, sizeof(line), f) && sscanf(line, "CapEff: %llx", &caps) != 1)
		;
	fclose(f);
	return caps >> which & 1;
}

/* Capabilities count in the first user namespace only. Where a daemon without privilege may not look, the user tells: one
 * that a namespace has made root has another number outside. */
static bool in_first_namespace(pid_t thread, uid_t uid)
{
	char path[64], text[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%ld/ns/user", (long)thread);
	n = readlink(path, text, sizeof(text) - 1);
	if (n < 0)
		return errno == EACCES && !uid;
	text[n] = '\0';
	return !strcmp(text, FIRST_USER_NAMESPACE);
}

/* CAP_SYS_ADMIN in the first user namespace, as the kernel asks for trusted attributes. */
static bool is_admin(pid_t thread, uid_t uid)
{
	return thread > 0 && has_capability(thread, CAP_SYS_ADMIN) && in_first_namespace(thread, uid);
}

size_t caller_visible_names(pid_t thread, uid_t uid, char *names, size_t len)
{
	int admin = -1;
	size_t kept = 0;

	for (size_t at = 0; at < len;) {
		size_t n = strlen(names + at) + 1;
		bool shown = strncmp(names + at, "trusted.", strlen("trusted."));

		if (!shown && admin < 0)
			admin = is_admin(thread, uid);
		if (shown || admin > 0) {
			memmove(names + kept, names + at, n);
			kept += n;
		}
		at += n;
	}
	return kept;
}
