/*
 * The warden process.
 *
 * Invariants:
 *  1. It cuts nothing but the connection whose file it was given: the number of a mount can be given to another one, an open file cannot.
 *  2. It cuts nothing while the daemon lives, be it stopped, frozen or traced. Of a file that it does not understand it believes nothing.
 *  3. It has no capability, no descriptor of the daemon's but its own end of the socket, no terminal and no directory.
 *  4. It ends with the daemon, also when somebody has stopped it.
 */
#include "front/warden.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "front/confine.h"
#include "util/log.h"

#define NAME "spillfs-warden" /* of at most 15 bytes */
#define LOOK_MS 1000
#define END_MS 2000
/* The lines that count are short; those of a process in many groups or cgroups, a thousand times longer, are not. */
#define LINE_BYTES 64u
#define CONNECTIONS "/sys/fs/fuse/connections"
#define FUSECTL_MAGIC 0x65735543

/* ---- in the warden ---- */

struct seen {
	char line[LINE_BYTES]; /* the begin of this line */
	size_t len;
	bool lives, killed;
};

static void see_line(struct seen *s)
{
	s->line[s->len] = '\0';
	s->len = 0;
	if (!strncmp(s->line, "SigPnd:\t", 8) || !strncmp(s->line, "ShdPnd:\t", 8))
		s->killed |= strtoull(s->line + 8, NULL, 16) >> (SIGKILL - 1) & 1;
	else if (!strcmp(s->line, "CoreDumping:\t0"))
		s->lives = true;
}

/* Whether the process of an open /proc/PID/status will never answer again. No event tells: a parent, a pidfd and the other end of a socket
 * learn of a death when the last thread has ended. A process has the line CoreDumping as long as its first thread has memory. Read to its
 * end piece by piece, the file is of one moment. */
static bool is_dying(int status)
{
	struct seen s = { .len = 0 };
	char text[4096];
	off_t off = 0;
	ssize_t n;

	for (; (n = pread(status, text, sizeof(text), off)) > 0; off += n) {
		for (ssize_t i = 0; i < n; i++) {
			if (text[i] == '\n')
				see_line(&s);
			else if (s.len < LINE_BYTES - 1)
				s.line[s.len++] = text[i];
		}
	}
	if (n < 0)
		return errno == ESRCH;
	return off && (!s.lives || s.killed);
}

/* Leaves a and b open, and 0 to 2, which lead nowhere. */
static void let_go(int a, int b)
{
	unsigned low = (unsigned)(a < b ? a : b), high = (unsigned)(a < b ? b : a);
	int null = open("/dev/null", O_RDWR);

	for (int fd = 0; fd <= 2 && null >= 0; fd++)
		dup2(null, fd);
	if (low > 3)
		close_range(3, low - 1, 0);
	if (high > low + 1)
		close_range(low + 1, high - 1, 0);
	close_range(high + 1, UINT_MAX, 0);
	if (chdir("/") < 0 || setsid() < 0)
		_exit(1);
}

/* The descriptor that comes with a message; -1: the daemon has closed its end, or has none left. */
static int receive(int socket)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	char word;
	struct iovec v = { &word, 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
	ssize_t n;
	int fd;

	while ((n = recvmsg(socket, &m, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR)
		;
	if (n <= 0 || m.msg_controllen < CMSG_LEN(sizeof(fd)))
		return -1;
	memcpy(&fd, CMSG_DATA(&control.align), sizeof(fd));
	return fd;
}

/* Until the daemon is dying or has closed its end. The latter may come while it still waits to close other files, so the
 * connection is cut then, too; nothing is left to cut when it has unmounted. */
static void keep(int socket, int status)
{
	struct pollfd p = { .fd = socket, .events = POLLIN };
	int cuts = receive(socket);

	if (cuts < 0)
		return;
	while (poll(&p, 1, LOOK_MS) <= 0 && !is_dying(status))
		;
	if (write(cuts, "1", 1) < 0)
		_exit(1);
}

static void __attribute__((noreturn)) be_warden(int socket, int status)
{
	sigset_t all;

	/* A signal to all of a terminal's or a service's processes is the daemon's to act upon. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	prctl(PR_SET_NAME, NAME);
	let_go(socket, status);
	confine_wholly();
	prctl(PR_SET_PDEATHSIG, SIGCONT); /* invariant 4 */
	keep(socket, status);
	_exit(0);
}

/* ---- in the daemon ---- */

int warden_start(struct warden *out)
{
	int status = open("/proc/self/status", O_RDONLY | O_CLOEXEC), fds[2], err = 0;
	pid_t pid = 0;

	if (status < 0)
		return -errno;
	if (is_dying(status))
		err = -ENOSYS;
	else if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		err = -errno;
	if (!err) {
		pid = fork();
		if (pid == 0)
			be_warden(fds[1], status);
		if (pid < 0) {
			err = -errno;
			close(fds[0]);
		}
		close(fds[1]);
	}
	close(status);
	if (!err)
		*out = (struct warden){ pid, fds[0] };
	return err;
}

/* The kernel's control files of FUSE, where the system shows them or, for root, where nobody sees them. */
static int open_connections(void)
{
	int fs = fsopen("fusectl", FSOPEN_CLOEXEC), fd = -1;
	struct statfs is;

	if (fs >= 0) {
		if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
			fd = fsmount(fs, FSMOUNT_CLOEXEC, 0);
		close(fs);
	}
	if (fd >= 0)
		return fd;
	fd = open(CONNECTIONS, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstatfs(fd, &is) == 0 && (unsigned long)is.f_type == FUSECTL_MAGIC)
		return fd;
	close(fd);
	return -ENOENT;
}

static int open_abort(dev_t dev)
{
	char path[32];
	int dir = open_connections(), fd;

	if (dir < 0)
		return dir;
	snprintf(path, sizeof(path), "%u/abort", minor(dev));
	fd = openat(dir, path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		fd = -errno;
	close(dir);
	return fd;
}

static int send_fd(int socket, int fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { .align = { .cmsg_len = CMSG_LEN(sizeof(fd)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
	struct iovec v = { "", 1 };
	const struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };

	memcpy(CMSG_DATA(&control.align), &fd, sizeof(fd));
	return sendmsg(socket, &m, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int warden_arm(struct warden *w, dev_t dev)
{
	int fd = open_abort(dev), err;

	if (fd < 0)
		return fd;
	err = send_fd(w->fd, fd);
	close(fd);
	return err;
}

static void forget(struct warden *w)
{
	close(w->fd);
	*w = (struct warden){ 0, -1 };
}

void warden_look(struct warden *w)
{
	if (!w->pid || waitpid(w->pid, NULL, WNOHANG) <= 0)
		return;
	log_warn("the warden (pid %ld) has ended: programs that use the mount may hang if the daemon is killed", (long)w->pid);
	forget(w);
}

void warden_end(struct warden *w)
{
	pid_t pid = w->pid;
	struct pollfd p = { .events = POLLIN };

	if (!pid)
		return;
	forget(w);
	p.fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (p.fd < 0)
		return;
	poll(&p, 1, END_MS);
	waitpid(pid, NULL, WNOHANG);
	close(p.fd);
}
