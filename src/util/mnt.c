/*
 * /proc/self/mountinfo and unmounting.
 *
 * Invariants:
 * 1. No system call here, but mnt_ask's, looks into the file system mounted at the path.
 * 2. An unmount follows no symbolic link at the path.
 */
#include "util/mnt.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* Decodes the kernel's \ooo escapes in place. */
static void unescape(char *s)
{
	char *to = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' &&
		    s[3] >= '0' && s[3] <= '7') {
			*to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*to++ = *s;
		}
	}
	*to = '\0';
}

/* "ID PARENT MAJ:MIN ROOT MOUNTPOINT OPTIONS [FIELD...] - TYPE SOURCE OPTIONS" */
static int parse_line(char *line, struct mnt *m, char **point_out)
{
	char *save, *word, *point = NULL, *tail = strstr(line, " - ");
	unsigned major, minor;
	int nth = 0;

	m->dev = 0;
	if (!tail)
		return -EINVAL;
	*tail = '\0';
	tail += 3;
	for (word = strtok_r(line, " ", &save); word && nth < 5; word = strtok_r(NULL, " ", &save)) {
		if (nth == 0)
			m->id = atoi(word);
		if (nth == 2 && sscanf(word, "%u:%u", &major, &minor) == 2)
			m->dev = makedev(major, minor);
		if (nth == 4)
			point = word;
		nth++;
	}
	if (!point)
		return -EINVAL;
	unescape(point);
	snprintf(m->type, sizeof(m->type), "%.*s", (int)strcspn(tail, " "), tail);
	*point_out = point;
	return 0;
}

int mnt_each(const char *file, void (*each)(void *ctx, const struct mnt *m, const char *point), void *ctx)
{
	FILE *f = fopen(file, "re");
	char *line = NULL, *point;
	size_t cap = 0;
	struct mnt m;

	if (!f)
		return -errno;
	while (getline(&line, &cap, f) > 0) {
		if (parse_line(line, &m, &point) == 0)
			each(ctx, &m, point);
	}
	free(line);
	fclose(f);
	return 0;
}

/* The last mount that matches: later lines cover earlier ones. */
struct wanted {
	const char *path; /* NULL: any */
	int id;           /* 0: any */
	dev_t dev;        /* the same */
	struct mnt *out;
	unsigned found;
};

static void match(void *ctx, const struct mnt *m, const char *point)
{
	struct wanted *w = ctx;

	if ((w->path && strcmp(point, w->path)) || (w->id && m->id != w->id) || (w->dev && m->dev != w->dev))
		return;
	*w->out = *m;
	w->found++;
}

static int scan(struct wanted w)
{
	int err = mnt_each("/proc/self/mountinfo", match, &w);

	return err < 0 ? err : w.found ? 0 : -ENOENT;
}

int mnt_find(const char *path, struct mnt *out)
{
	return scan((struct wanted){ .path = path, .out = out });
}

int mnt_find_dev(const char *path, dev_t dev, struct mnt *out)
{
	return scan((struct wanted){ .path = path, .dev = dev, .out = out });
}

unsigned mnt_count(const char *path, dev_t dev)
{
	struct mnt last;
	struct wanted w = { .path = path, .dev = dev, .out = &last };

	mnt_each("/proc/self/mountinfo", match, &w);
	return w.found;
}

int mnt_ask(const char *path)
{
	struct statfs fs;

	/* The attributes of a dead mount may be cached; its statfs never is. A daemon that cannot read its store lives. */
	if (statfs(path, &fs) == 0 || errno == EIO)
		return 0;
	return errno == ECONNABORTED ? -ENOTCONN : -errno;
}

bool mnt_attached(int id)
{
	struct mnt m;

	return scan((struct wanted){ .id = id, .out = &m }) == 0;
}

/* Starts fusermount3 with its stderr on the returned descriptor. */
static int spawn_fusermount(const char *path, bool lazy, pid_t *pid_out, int *fd_out)
{
	char *argv[] = { "fusermount3", "-u", "--", (char *)path, NULL, NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none;
	int fds[2], err;

	if (lazy) {
		argv[2] = "-z";
		argv[3] = "--";
		argv[4] = (char *)path;
	}
	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	sigemptyset(&none);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fds[1], 2);
	err = -posix_spawnp(pid_out, argv[0], &actions, &attr, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	close(fds[1]);
	if (err < 0)
		close(fds[0]);
	else
		*fd_out = fds[0];
	return err;
}

static int run_fusermount(const char *path, bool lazy, char *said, size_t said_len)
{
	char text[1024];
	size_t n = 0;
	ssize_t got;
	pid_t pid = -1;
	int fd = -1, status = 0, err = spawn_fusermount(path, lazy, &pid, &fd);

	if (err < 0) {
		snprintf(said, said_len, "cannot run fusermount3: %s", strerror(-err));
		return err;
	}
	while ((got = read(fd, text + n, sizeof(text) - 1 - n)) > 0 || (got < 0 && errno == EINTR))
		n += got > 0 ? (size_t)got : 0;
	close(fd);
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	snprintf(said, said_len, "%.*s", (int)(said_len - 1), n ? text : "fusermount3 failed");
	return strstr(text, strerror(EBUSY)) ? -EBUSY : -EPERM;
}

int mnt_unmount(const char *path, bool lazy, char *said, size_t said_len)
{
	int err;

	if (geteuid() != 0)
		return run_fusermount(path, lazy, said, said_len);
	if (umount2(path, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0)
		return 0;
	err = -errno;
	snprintf(said, said_len, "%s", strerror(-err));
	return err;
}
