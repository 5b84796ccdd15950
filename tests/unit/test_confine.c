/*
 * front/confine: the filter of system calls, in the process of a test. Each call is made with zeros: what the kernel would say of them is something
 * else than EPERM, for root, so that EPERM is the filter's.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "front/confine.h"
#include "unit.h"

/* 0: no filter, 2: a filter. */
static int filter_mode(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	char line[256];
	int mode = -1;

	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "Seccomp: %d", &mode);
	if (f)
		fclose(f);
	return mode;
}

#ifdef HAVE_SECCOMP

#define CALL(name) { #name, SYS_##name }

static const struct {
	const char *name;
	long number;
} refused[] = {
	/* programs and processes */
	CALL(execve), CALL(execveat), CALL(ptrace), CALL(process_vm_readv), CALL(process_vm_writev), CALL(pidfd_send_signal),
	CALL(kcmp), CALL(rt_sigqueueinfo), CALL(tkill), CALL(clone),
	/* mounts and namespaces */
	CALL(mount), CALL(move_mount), CALL(open_tree), CALL(fsopen), CALL(fsmount), CALL(pivot_root), CALL(chroot), CALL(setns), CALL(unshare),
	CALL(open_by_handle_at), CALL(quotactl), CALL(swapon),
	/* the kernel */
	CALL(init_module), CALL(finit_module), CALL(delete_module), CALL(kexec_load), CALL(reboot), CALL(bpf), CALL(perf_event_open), CALL(userfaultfd),
	CALL(io_uring_setup), CALL(io_uring_enter), CALL(add_key), CALL(keyctl), CALL(settimeofday), CALL(clock_settime), CALL(sethostname),
	CALL(personality), CALL(syslog), CALL(fanotify_init),
	/* another user */
	CALL(setuid), CALL(setgid), CALL(setresuid), CALL(setgroups), CALL(setfsuid), CALL(capset),
	/* the net */
	CALL(socket), CALL(bind), CALL(listen), CALL(accept), CALL(accept4),
#ifdef SYS_fork
	CALL(fork), CALL(vfork),
#endif
};

static void *idle(void *arg)
{
	return arg;
}

/* What a daemon needs. */
static void check_allowed(void)
{
	const struct open_how how = { .flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC, .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS };
	int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	long got = syscall(SYS_openat2, fd, ".", &how, sizeof(how));
	pthread_t t;

	CHECK(fd >= 0 && s >= 0);
	CHECK(got >= 0 || errno == ENOSYS);
	if (got >= 0)
		close((int)got);
	close(fd);
	close(s);
	CHECK(!pthread_create(&t, NULL, idle, NULL) && !pthread_join(t, NULL));
	CHECK(!kill(getpid(), 0));
}

UNIT_TEST(confine_refuses_what_a_daemon_never_calls)
{
	if (unit_in_valgrind())
		return;
	CHECK_EQ(filter_mode(), 0);
	confine_calls();
	if (geteuid()) {
		CHECK_EQ(filter_mode(), 0); /* fusermount3 has to run */
		return;
	}
	CHECK_EQ(filter_mode(), 2);
	for (size_t i = 0; i < sizeof(refused) / sizeof(*refused); i++) {
		long got;

		errno = 0;
		got = syscall(refused[i].number, 0, 0, 0, 0, 0, 0);
		if (got != -1 || errno != EPERM)
			unit_fail(__FILE__, __LINE__, "%s: %ld, %s", refused[i].name, got, strerror(errno));
	}
	CHECK(kill(getppid(), 0) == -1 && errno == EPERM);
	CHECK(syscall(SYS_tgkill, getppid(), getppid(), 0) == -1 && errno == EPERM);
	CHECK(syscall(SYS_clone3, 0, 0) == -1 && errno == ENOSYS);
	check_allowed();
}

#else

/* Without libseccomp, and with a sanitizer, whose reports need what the filter refuses. */
UNIT_TEST(confine_says_that_there_is_no_filter)
{
	char text[512] = "";
	FILE *log = tmpfile();
	int fd = dup(2);

	CHECK(log && fd >= 0 && dup2(fileno(log), 2) == 2);
	confine_calls();
	CHECK(dup2(fd, 2) == 2 && !close(fd));
	rewind(log);
	CHECK(fread(text, 1, sizeof(text) - 1, log) > 0);
	CHECK(strstr(text, "system calls are not filtered"));
	CHECK_EQ(filter_mode(), 0);
	fclose(log);
}

#endif
