/*
 * Runs the tests of the program: all, or those whose name contains the first argument.
 *
 * Invariant: nothing but the first failure of a test is told, and it reaches the parent through shared
 * memory, so that it survives the end of the test's process.
 */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define UNIT_TIMEOUT_S 300

struct unit_failure {
	atomic_flag taken;
	char text[512];
};

static struct unit_test *unit_first, **unit_last = &unit_first;
static struct unit_failure *unit_failure;
static char unit_base[256];
static unsigned unit_ndirs;
static pthread_t unit_thread;
static int unit_nofork;

void unit_register(struct unit_test *t)
{
	*unit_last = t;
	unit_last = &t->next;
}

void unit_fail(const char *file, int line, const char *fmt, ...)
{
	char what[400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	if (!atomic_flag_test_and_set(&unit_failure->taken))
		snprintf(unit_failure->text, sizeof(unit_failure->text), "%s:%d: %s", file, line, what);
	if (unit_nofork) {
		fprintf(stderr, "%s\n", unit_failure->text);
		abort();
	}
	if (pthread_equal(pthread_self(), unit_thread))
		_exit(1);
}

void unit_check_eq(const char *file, int line, const char *what, long long a, long long b)
{
	if (a != b)
		unit_fail(file, line, "%s (%lld, %lld)", what, a, b);
}

void unit_check_ok(const char *file, int line, const char *what, int err)
{
	if (err)
		unit_fail(file, line, "%s: %s", what, strerror(err < 0 ? -err : err));
}

uint64_t unit_rand(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

void unit_rand_fill(uint64_t *state, void *buf, unsigned long n)
{
	unsigned char *p = buf;

	for (; n >= 8; n -= 8, p += 8) {
		uint64_t r = unit_rand(state);

		memcpy(p, &r, 8);
	}
	while (n--)
		*p++ = unit_rand(state);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

const char *unit_tmpdir(void)
{
	static char paths[16][300];
	char *path = paths[unit_ndirs % 16];

	snprintf(path, sizeof(paths[0]), "%s/%u", unit_base, unit_ndirs++);
	if (mkdir(path, 0700))
		unit_fail(__FILE__, __LINE__, "mkdir %s: %s", path, strerror(errno));
	return path;
}

int unit_tmpdir_fd(void)
{
	const char *path = unit_tmpdir();
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		unit_fail(__FILE__, __LINE__, "open %s: %s", path, strerror(errno));
	return fd;
}

static void unit_base_make(void)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(unit_base, sizeof(unit_base), "%s/spillfs-unit-XXXXXX", tmp && *tmp ? tmp : "/tmp");
	if (!mkdtemp(unit_base)) {
		perror(unit_base);
		exit(1);
	}
	unit_ndirs = 0;
}

/* Runs a test in a child. True when it passed; else unit_failure->text says why not. */
static int unit_run_forked(const struct unit_test *t)
{
	char *text = unit_failure->text;
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		unit_thread = pthread_self();
		alarm(UNIT_TIMEOUT_S);
		t->run();
		exit(*text ? 1 : 0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0) {
		snprintf(text, sizeof(unit_failure->text), "fork: %s", strerror(errno));
		return 0;
	}
	if (*text)
		return 0;
	if (WIFSIGNALED(status))
		snprintf(text, sizeof(unit_failure->text), "killed: %s", strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status))
		snprintf(text, sizeof(unit_failure->text), "exit status %d", WEXITSTATUS(status));
	return *text == '\0';
}

static int unit_run_one(const struct unit_test *t)
{
	int ok = 1;

	atomic_flag_clear(&unit_failure->taken);
	unit_failure->text[0] = '\0';
	unit_base_make();
	if (unit_nofork)
		t->run();
	else
		ok = unit_run_forked(t);
	nftw(unit_base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	if (ok)
		printf("ok %s\n", t->name);
	else
		printf("not ok %s: %s\n", t->name, unit_failure->text);
	fflush(stdout);
	return ok;
}

int main(int argc, char **argv)
{
	unsigned passed = 0, failed = 0;

	unit_nofork = getenv("UNIT_NOFORK") != NULL;
	unit_thread = pthread_self();
	unit_failure = mmap(NULL, sizeof(*unit_failure), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (unit_failure == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	for (struct unit_test *t = unit_first; t; t = t->next) {
		if (argc > 1 && !strstr(t->name, argv[1]))
			continue;
		if (unit_run_one(t))
			passed++;
		else
			failed++;
	}
	printf("%u passed, %u failed\n", passed, failed);
	return failed != 0;
}
