/*
 * Process matters of the daemon.
 *
 * Invariants:
 * 1. The process that the user started exits only when the mount serves or has failed, and with the
 *    code of the one that tried.
 * 2. Until daemon_ready the child stays in the starter's session, so that Ctrl-C reaches it.
 */
#include "front/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/log.h"

/* oom_score_adj: as if it used so many thousandths of the memory less. */
#define OOM_SCORE "-200"
#define STACK_BYTES (4u << 20)
#define FILE_BYTES_MIN (1u << 20)

struct report {
	int code;
	char text[1024];
};

/* A shell may have set limits for its own programs: a daemon gets as much as it may have. Root may have more than the hard limit. */
static void raise_limits(void)
{
	static const struct {
		int which;
		bool beyond;
	} limits[] = {
		{ RLIMIT_NOFILE, false }, { RLIMIT_FSIZE, true }, { RLIMIT_AS, true }, { RLIMIT_DATA, true }, { RLIMIT_CPU, true },
	};

	for (size_t i = 0; i < sizeof(limits) / sizeof(*limits); i++) {
		struct rlimit l, all = { RLIM_INFINITY, RLIM_INFINITY };

		if ((limits[i].beyond && setrlimit(limits[i].which, &all) == 0) || getrlimit(limits[i].which, &l))
			continue;
		l.rlim_cur = l.rlim_max;
		setrlimit(limits[i].which, &l);
	}
}

/* The stacks of threads follow RLIMIT_STACK, which may be tiny or huge. */
static void set_stacks(void)
{
	pthread_attr_t a;

	if (pthread_attr_init(&a))
		return;
	if (!pthread_attr_setstacksize(&a, STACK_BYTES))
		pthread_setattr_default_np(&a);
	pthread_attr_destroy(&a);
}

/* Handlers do not outlive exec, but what is blocked or ignored does, and an alarm. nohup's ignored SIGHUP stands. */
static void reset_signals(void)
{
	sigset_t none;

	alarm(0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGCHLD, SIG_DFL); /* fusermount3 is waited for */
	signal(SIGTERM, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGIO, SIG_IGN);   /* of a lease on a file (io_has_writers), which is given back at once anyway */
	signal(SIGXFSZ, SIG_IGN); /* the write fails with EFBIG */
}

void daemon_prepare(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= 2);
	close_range(3, UINT_MAX, 0);
	raise_limits();
	set_stacks();
	reset_signals();
	/* An arena for each thread would keep what bursts leave behind; data buffers do not come from malloc. */
	mallopt(M_ARENA_MAX, 2);
	umask(0);
}

int daemon_check_limits(char *why, size_t why_len)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_FSIZE, &l) || l.rlim_cur == RLIM_INFINITY || l.rlim_cur >= FILE_BYTES_MIN)
		return 0;
	snprintf(why, why_len, "files may not be longer than %llu bytes (ulimit -f), a store needs at least %u",
		 (unsigned long long)l.rlim_cur, FILE_BYTES_MIN);
	return -EFBIG;
}

static void __attribute__((noreturn)) wait_for_child(int fd, pid_t pid)
{
	struct report r = { 0 };
	size_t n = 0;
	ssize_t got;
	int status = 0;

	while (n < sizeof(r)) {
		got = read(fd, (char *)&r + n, sizeof(r) - n);
		if (got == 0 || (got < 0 && errno != EINTR))
			break;
		n += got > 0 ? (size_t)got : 0;
	}
	if (n < sizeof(r)) {
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		r.code = EXIT_IO;
		snprintf(r.text, sizeof(r.text), "the daemon ended while starting (%s %d)",
			 WIFSIGNALED(status) ? "signal" : "exit code",
			 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	}
	if (r.code != EXIT_OK)
		fprintf(stderr, "spillfs: %s\n", r.text);
	exit(r.code);
}

/* Killed for want of memory, it takes away the files that the programs with all the memory work on. They should go first;
 * but what would kill the system itself may kill us. Needs CAP_SYS_RESOURCE; what somebody has chosen stands. */
static void protect_from_oom(void)
{
	char now[16] = "";
	int fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return;
	if (read(fd, now, sizeof(now) - 1) > 0 && atoi(now) == 0 && pwrite(fd, OOM_SCORE, strlen(OOM_SCORE), 0) < 0)
		log_debug("oom_score_adj stays 0: %s", strerror(errno));
	close(fd);
}

int daemon_start(bool foreground, struct daemon *out)
{
	int fds[2];
	pid_t pid;

	if (foreground) {
		out->pipe_fd = -1;
		return 0;
	}
	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid < 0) {
		int err = -errno;

		close(fds[0]);
		close(fds[1]);
		return err;
	}
	if (pid > 0) {
		close(fds[1]);
		wait_for_child(fds[0], pid);
	}
	close(fds[0]);
	out->pipe_fd = fds[1];
	return 0;
}

static void send_report(struct daemon *d, const struct report *r)
{
	const char *at = (const char *)r;
	size_t left = sizeof(*r);

	while (left) {
		ssize_t n = write(d->pipe_fd, at, left);

		if (n < 0 && errno != EINTR)
			break;
		at += n > 0 ? n : 0;
		left -= n > 0 ? (size_t)n : 0;
	}
	close(d->pipe_fd);
	d->pipe_fd = -1;
}

int daemon_fail(struct daemon *d, enum exit_code code, const char *fmt, ...)
{
	struct report r = { .code = (int)code };
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r.text, sizeof(r.text), fmt, ap);
	va_end(ap);
	if (d->pipe_fd < 0)
		fprintf(stderr, "spillfs: %s\n", r.text);
	else
		send_report(d, &r);
	return (int)code;
}

/* The protocol of sd_notify(3): one datagram to the socket named by the environment. */
static void notify_manager(const char *text)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	size_t len = path ? strlen(path) : 0;
	int fd;

	if (len < 2 || len >= sizeof(to.sun_path) || (path[0] != '/' && path[0] != '@'))
		return;
	memcpy(to.sun_path, path, len);
	if (path[0] == '@')
		to.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	if (sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&to,
		   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0)
		log_warn("cannot notify the service manager: %s", strerror(errno));
	close(fd);
}

void daemon_ready(struct daemon *d)
{
	static const struct report ok = { .code = EXIT_OK };
	char text[64];

	protect_from_oom();
	if (chdir("/") < 0)
		log_warn("cannot leave the working directory: %s", strerror(errno));
	if (d->pipe_fd >= 0) {
		int null = open("/dev/null", O_RDWR | O_CLOEXEC);

		setsid();
		for (int fd = 0; fd <= 2 && null >= 0; fd++)
			dup2(null, fd);
		if (null > 2)
			close(null);
	}
	snprintf(text, sizeof(text), "READY=1\nMAINPID=%ld", (long)getpid());
	notify_manager(text);
	if (d->pipe_fd >= 0)
		send_report(d, &ok);
}

void daemon_stopping(void)
{
	notify_manager("STOPPING=1");
}
