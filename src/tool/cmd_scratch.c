/*
 * scratch: runs a command with a directory of its own in scratch/, which is gone when the command is, and all that it has started.
 *
 *   spillctl --- keeper --- COMMAND --- ...
 *
 * The directory's lifetime is the keeper's. The keeper is the subreaper of all that COMMAND starts: whoever loses his parent becomes its child, so
 * it ends with the last of them, be spillctl still there or not. spillctl passes signals on, and ends with COMMAND.
 *
 * Invariants:
 *  1. The keeper takes no signal but SIGKILL and SIGSTOP, and holds nothing of the caller's open once COMMAND runs.
 *  2. COMMAND starts after the lifetime is set, with the signals' mask and handling that spillctl was given.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tool/tool.h"
#include "util/clock.h"

#define EXIT_NOT_RUN 126
#define EXIT_NOT_FOUND 127
#define NAME_BYTES 65 /* of the command's name in the directory's, with a NUL */
#define GONE_TRIES 500 /* of 10 ms, for the daemon to remove the directory */
#define GONE_NS (10 * 1000 * 1000)

static const char *const variables[] = { "TMPDIR", "TMP", "TEMP", "SQLITE_TMPDIR", "MAGICK_TEMPORARY_PATH" };

/* Those that a user or a service manager sends; a terminal's go to the whole group by themselves. */
static const int passed[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM, SIGWINCH };

/* The keeper says these three in turn; it may end before. */
enum step { STEP_LIFETIME, STEP_STARTED, STEP_ENDED };
struct report {
	enum step step;
	int err;     /* LIFETIME, STARTED: -errno */
	pid_t pid;   /* STARTED: COMMAND's */
	int status;  /* ENDED: as wait(2) */
	bool others; /* ENDED: what it has started runs still */
};

struct run {
	char *dir;
	char **argv;
	sigset_t before; /* the mask that was given */
	int fds[2];      /* from the keeper */
};

/* ---- the command ---- */

static void __attribute__((noreturn)) become_command(const struct run *r, int failed_fd)
{
	int err = 0;

	for (size_t k = 0; k < sizeof(variables) / sizeof(*variables) && !err; k++)
		err = setenv(variables[k], r->dir, 1) ? errno : 0;
	sigprocmask(SIG_SETMASK, &r->before, NULL);
	if (!err) {
		execvp(r->argv[0], r->argv);
		err = errno;
	}
	if (write(failed_fd, &err, sizeof(err)) < 0)
		perror("spillctl");
	_exit(err == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_RUN);
}

/* 0 when the program runs; -errno: it does not, and its process has ended. */
static int start_command(const struct run *r, pid_t *pid_out)
{
	int fds[2], err = 0;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid == 0)
		become_command(r, fds[1]);
	close(fds[1]);
	if (pid < 0)
		err = -errno;
	else if (read(fds[0], &err, sizeof(err)) == sizeof(err))
		err = -err;
	close(fds[0]);
	if (err && pid > 0)
		waitpid(pid, NULL, 0);
	if (!err)
		*pid_out = pid;
	return err;
}

/* ---- the keeper ---- */

static void tell(const struct run *r, struct report report)
{
	/* Nobody listens: spillctl was killed. */
	if (write(r->fds[1], &report, sizeof(report)) < 0 && errno != EPIPE)
		perror("spillctl");
}

static void let_go_of_caller(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = 0; fd <= 2 && null >= 0; fd++)
		dup2(null, fd);
	if (chdir("/") < 0)
		_exit(1);
}

/* Waits for COMMAND, and then for all that it has left. */
static void wait_for_all(const struct run *r, pid_t command)
{
	int status = 0;
	pid_t pid;

	do
		pid = waitpid(-1, &status, 0);
	while (pid > 0 && pid != command);
	do
		pid = waitpid(-1, NULL, WNOHANG);
	while (pid > 0);
	tell(r, (struct report){ .step = STEP_ENDED, .status = status, .others = !pid });
	close(r->fds[1]);
	while (waitpid(-1, NULL, 0) > 0)
		;
}

static void __attribute__((noreturn)) keep(const struct run *r)
{
	static const char self[] = "pid:self";
	pid_t command = 0;
	sigset_t all;
	int err;

	close(r->fds[0]);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	err = setxattr(r->dir, SPILLFS_XATTR_LIFETIME, self, strlen(self), 0) ? -errno : 0;
	tell(r, (struct report){ .step = STEP_LIFETIME, .err = err });
	if (!err) {
		err = start_command(r, &command);
		tell(r, (struct report){ .step = STEP_STARTED, .err = err, .pid = command });
	}
	if (!err) {
		let_go_of_caller();
		wait_for_all(r, command);
	}
	_exit(0);
}

/* ---- spillctl ---- */

static bool next_report(const struct run *r, struct report *out)
{
	ssize_t n;

	do
		n = read(r->fds[0], out, sizeof(*out));
	while (n < 0 && errno == EINTR);
	return n == sizeof(*out);
}

/* A signal that the terminal sends has reached COMMAND already. */
static void pass_signal(int fd, pid_t command)
{
	struct signalfd_siginfo info;

	if (read(fd, &info, sizeof(info)) == sizeof(info) && info.ssi_code <= 0)
		kill(command, (int)info.ssi_signo);
}

/* False: the keeper was killed. */
static bool wait_for_end(const struct run *r, int signal_fd, pid_t command, struct report *out)
{
	for (;;) {
		struct pollfd fds[2] = { { .fd = signal_fd, .events = POLLIN }, { .fd = r->fds[0], .events = POLLIN } };

		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return false;
		if (fds[0].revents)
			pass_signal(signal_fd, command);
		if (fds[1].revents)
			return next_report(r, out);
	}
}

/* The daemon removes it when the keeper has ended. Any failure means that there is none, or no daemon. */
static void wait_until_gone(const char *dir)
{
	struct stat st;

	for (int k = 0; k < GONE_TRIES && !lstat(dir, &st); k++)
		clock_sleep_ns(GONE_NS);
}

/* Ends as COMMAND has. */
static int end_as(int status, const sigset_t *before)
{
	const struct rlimit none = { 0 };

	if (!WIFSIGNALED(status))
		return WEXITSTATUS(status);
	setrlimit(RLIMIT_CORE, &none); /* COMMAND's own is there */
	signal(WTERMSIG(status), SIG_DFL);
	sigprocmask(SIG_SETMASK, before, NULL);
	raise(WTERMSIG(status));
	return 128 + WTERMSIG(status);
}

static int not_started(const struct run *r, const struct report *report)
{
	wait_until_gone(r->dir);
	if (report->step == STEP_LIFETIME) {
		rmdir(r->dir);
		return tool_fail(TOOL_FAILED, "%s: its lifetime cannot be set: %s", r->dir, strerror(-report->err));
	}
	tool_fail(TOOL_FAILED, "%s: %s", r->argv[0], strerror(-report->err));
	return report->err == -ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_RUN;
}

static int attend(const struct run *r, pid_t keeper, const sigset_t *blocked)
{
	int signal_fd = signalfd(-1, blocked, SFD_CLOEXEC), code;
	struct report report = { .err = -ECHILD };

	close(r->fds[1]);
	while (next_report(r, &report) && !report.err && report.step != STEP_STARTED)
		;
	if (report.err || signal_fd < 0) {
		waitpid(keeper, NULL, 0);
		return not_started(r, &report);
	}
	if (!wait_for_end(r, signal_fd, report.pid, &report))
		return tool_fail(TOOL_FAILED, "the process that keeps %s was killed", r->dir);
	if (!report.others) {
		waitpid(keeper, NULL, 0);
		wait_until_gone(r->dir);
	}
	code = end_as(report.status, &r->before);
	close(signal_fd);
	return code;
}

static int run(struct run *r)
{
	sigset_t blocked;
	pid_t keeper;

	if (pipe2(r->fds, O_CLOEXEC) < 0)
		return tool_fail(TOOL_FAILED, "%s", strerror(errno));
	sigemptyset(&blocked);
	for (size_t k = 0; k < sizeof(passed) / sizeof(*passed); k++)
		sigaddset(&blocked, passed[k]);
	sigprocmask(SIG_BLOCK, &blocked, &r->before);
	keeper = fork();
	if (keeper == 0)
		keep(r);
	if (keeper < 0)
		return tool_fail(TOOL_FAILED, "%s", strerror(errno));
	return attend(r, keeper, &blocked);
}

/* ---- the directory ---- */

/* The end of the command's path, as far as scripts can have it in a variable without quotes. */
static void name_of(const char *command, char out[NAME_BYTES])
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._+-";
	const char *slash = strrchr(command, '/'), *name = slash ? slash + 1 : command;

	snprintf(out, NAME_BYTES, "%s", *name ? name : "scratch");
	for (char *p = out; *p; p++)
		if (!strchr(plain, *p))
			*p = '_';
}

/* In scratch/, or in the root of a mount that is nothing else. Its name tells whose it is. */
static enum tool_exit make_directory(const struct tool_mount *m, const char *command, char **out)
{
	char name[NAME_BYTES];
	struct stat st;
	char *path;

	if (asprintf(&path, "%s/scratch", m->root) < 0)
		return tool_fail(TOOL_FAILED, "out of memory");
	if (stat(path, &st) < 0)
		path[strlen(m->root)] = '\0';
	name_of(command, name);
	if (asprintf(out, "%s/%s.XXXXXX", path, name) < 0)
		*out = NULL;
	free(path);
	if (!*out)
		return tool_fail(TOOL_FAILED, "out of memory");
	if (mkdtemp(*out))
		return TOOL_OK;
	return tool_fail(TOOL_FAILED, "%s: no directory can be made there: %s", *out, strerror(errno));
}

enum tool_exit cmd_scratch(const struct tool_call *call)
{
	struct run r = { .argv = call->args + 1 };
	struct tool_mount m;
	int code = tool_mount_open(call->args[0], false, &m);

	if (code)
		return (enum tool_exit)code;
	code = make_directory(&m, r.argv[0], &r.dir);
	tool_mount_close(&m);
	if (!code)
		code = run(&r);
	free(r.dir);
	return (enum tool_exit)code;
}
