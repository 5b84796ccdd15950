/*
 * The holders of a file system: mounts and processes that keep it in use.
 *
 * Invariants:
 * 1. No request is sent to the file system that is asked about: its daemon may be dead, or waiting for us.
 * 2. A process that may not be looked at is passed over; so the answer can miss somebody.
 * 3. Nothing is said unless the file system is there after the search: what has its device number is part of it then.
 */
#include "tool/holders.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "util/mnt.h"

#define SHOWN_MAX 10
#define NAMESPACES_MAX 1024

struct search {
	FILE *to;
	dev_t dev;
	const char *prefix;
	size_t found;
	/* The process that is looked at. */
	long pid;
	char comm[32];
	bool elsewhere; /* its mounts are another namespace's */
	ino_t seen[NAMESPACES_MAX];
	size_t nseen;
};

static void say(struct search *s, const char *what, const char *path)
{
	if (s->found++ < SHOWN_MAX)
		fprintf(s->to, "%s%s is %s process %ld (%s)\n", s->prefix, path, what, s->pid, s->comm);
}

static void read_comm(struct search *s)
{
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%ld/comm", s->pid);
	snprintf(s->comm, sizeof(s->comm), "?");
	f = fopen(path, "re");
	if (!f)
		return;
	if (fgets(s->comm, sizeof(s->comm), f))
		s->comm[strcspn(s->comm, "\n")] = '\0';
	fclose(f);
}

/* Mounts. */

static void see_mount(void *ctx, const struct mnt *m, const char *point)
{
	struct search *s = ctx;

	if (m->dev != s->dev || s->found++ >= SHOWN_MAX)
		return;
	if (s->elsewhere)
		fprintf(s->to, "%smounted at %s in the mount namespace of process %ld (%s)\n", s->prefix, point, s->pid, s->comm);
	else
		fprintf(s->to, "%smounted at %s\n", s->prefix, point);
}

static void see_namespace(struct search *s)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%ld/ns/mnt", s->pid);
	if (stat(path, &st) < 0 || s->nseen == NAMESPACES_MAX)
		return;
	for (size_t i = 0; i < s->nseen; i++)
		if (s->seen[i] == st.st_ino)
			return;
	s->seen[s->nseen++] = st.st_ino;
	snprintf(path, sizeof(path), "/proc/%ld/mountinfo", s->pid);
	mnt_each(path, see_mount, s);
}

/* Processes. */

/* A link in /proc that leads into the file system. */
static bool leads_there(const struct search *s, const char *path, char target[PATH_MAX])
{
	struct statx st;
	ssize_t n;

	if (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC, STATX_TYPE, &st) < 0 ||
	    makedev(st.stx_dev_major, st.stx_dev_minor) != s->dev)
		return false;
	n = readlink(path, target, PATH_MAX - 1);
	target[n > 0 ? n : 0] = '\0';
	return true;
}

static bool see_link(struct search *s, const char *name, const char *what)
{
	char path[64], target[PATH_MAX];

	snprintf(path, sizeof(path), "/proc/%ld/%s", s->pid, name);
	if (!leads_there(s, path, target))
		return false;
	say(s, what, target);
	return true;
}

static bool see_files(struct search *s)
{
	char path[PATH_MAX], target[PATH_MAX];
	struct dirent *e;
	bool any = false;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%ld/fd", s->pid);
	d = opendir(path);
	while (d && (e = readdir(d))) {
		snprintf(path, sizeof(path), "/proc/%ld/fd/%s", s->pid, e->d_name);
		if (e->d_name[0] != '.' && leads_there(s, path, target)) {
			say(s, "open in", target);
			any = true;
		}
	}
	if (d)
		closedir(d);
	return any;
}

static void see_mappings(struct search *s)
{
	unsigned major, minor;
	char path[64], *line = NULL;
	size_t cap = 0;
	int end = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%ld/maps", s->pid);
	f = fopen(path, "re");
	while (f && getline(&line, &cap, f) > 0) {
		line[strcspn(line, "\n")] = '\0';
		if (sscanf(line, "%*s %*s %*s %x:%x %*s %n", &major, &minor, &end) == 2 && makedev(major, minor) == s->dev) {
			say(s, "mapped in", line + end);
			break;
		}
	}
	free(line);
	if (f)
		fclose(f);
}

static void see_process(struct search *s)
{
	bool any = see_link(s, "cwd", "the working directory of");

	any |= see_link(s, "root", "the root directory of");
	any |= see_files(s);
	if (!any)
		see_mappings(s);
}

static void each_process(struct search *s, void (*each)(struct search *s))
{
	struct dirent *e;
	DIR *d = opendir("/proc");

	while (d && (e = readdir(d))) {
		if (!isdigit((unsigned char)e->d_name[0]))
			continue;
		s->pid = atol(e->d_name);
		if (s->pid == getpid())
			continue;
		read_comm(s);
		each(s);
	}
	if (d)
		closedir(d);
}

int holders_watch(int fd)
{
	int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	/* The end of the file system is told, whatever is asked for; its root is never deleted. */
	if (watch >= 0 && inotify_add_watch(watch, path, IN_DELETE_SELF) < 0) {
		close(watch);
		watch = -1;
	}
	return watch;
}

static bool has_ended(int watch)
{
	struct pollfd p = { .fd = watch, .events = POLLIN };

	return watch >= 0 && poll(&p, 1, 0) != 0;
}

static void search(struct search *s)
{
	s->pid = getpid();
	see_namespace(s);
	s->elsewhere = true;
	each_process(s, see_namespace);
	each_process(s, see_process);
	if (s->found > SHOWN_MAX)
		fprintf(s->to, "%sand %zu more\n", s->prefix, s->found - SHOWN_MAX);
}

size_t holders_print(FILE *to, const char *prefix, dev_t dev, int watch)
{
	struct search *s = calloc(1, sizeof(*s));
	size_t found = 0, len = 0;
	char *text = NULL;

	if (s)
		s->to = open_memstream(&text, &len);
	if (s && s->to) {
		s->prefix = prefix;
		s->dev = dev;
		search(s);
		found = fclose(s->to) || has_ended(watch) ? 0 : s->found;
	}
	if (found)
		fputs(text, to);
	free(text);
	free(s);
	return found;
}
