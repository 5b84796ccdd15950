/*
 * Credentials of threads. No state.
 */
#include "util/cred.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The kernel's number of the first user namespace (PROC_USER_INIT_INO). */
#define FIRST_USER_NAMESPACE "user:[4026531837]"

/* The text behind `key` in the thread's status; malloc'd, or NULL. */
static char *status_line(pid_t thread, const char *key)
{
	char path[64], *line = NULL, *value = NULL;
	size_t room = 0;
	FILE *f;

	if (thread <= 0)
		return NULL;
	snprintf(path, sizeof(path), "/proc/%ld/status", (long)thread);
	f = fopen(path, "re");
	if (!f)
		return NULL;
	while (!value && getline(&line, &room, f) > 0) {
		if (!strncmp(line, key, strlen(key)))
			value = strdup(line + strlen(key));
	}
	free(line);
	fclose(f);
	return value;
}

static bool has_capability(pid_t thread, unsigned which)
{
	char *text = status_line(thread, "CapEff:");
	unsigned long long caps = text ? strtoull(text, NULL, 16) : 0;

	free(text);
	return caps >> which & 1;
}

/* Where a daemon without privilege may not look, the user tells: one that a namespace has made root has another number
 * outside. */
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

bool cred_is_capable(pid_t thread, uid_t uid, unsigned capability)
{
	return has_capability(thread, capability) && in_first_namespace(thread, uid);
}

bool cred_in_group(pid_t thread, gid_t gid)
{
	char *text = status_line(thread, "Groups:"), *at = text, *end;
	bool found = false;

	while (at && !found) {
		unsigned long long group = strtoull(at, &end, 10);

		if (end == at)
			break;
		found = group == gid;
		at = end;
	}
	free(text);
	return found;
}

int cred_process(pid_t thread, pid_t *out)
{
	char *text = status_line(thread, "Tgid:");
	long pid = text ? strtol(text, NULL, 10) : 0;

	free(text);
	if (pid <= 0)
		return -ESRCH;
	*out = (pid_t)pid;
	return 0;
}

int cred_session(pid_t thread, pid_t *out)
{
	pid_t leader = thread > 0 ? getsid(thread) : 0;

	if (leader <= 0)
		return -ESRCH;
	*out = leader;
	return 0;
}

bool cred_shares_pids(pid_t thread)
{
	char path[64], ours[64], theirs[64];
	ssize_t n, m;

	if (thread <= 0)
		return false;
	snprintf(path, sizeof(path), "/proc/%ld/ns/pid", (long)thread);
	n = readlink("/proc/self/ns/pid", ours, sizeof(ours));
	m = readlink(path, theirs, sizeof(theirs));
	return n > 0 && n == m && !memcmp(ours, theirs, (size_t)n);
}
