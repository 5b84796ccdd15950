/*
 * unit [-j N] [TEXT]: runs the tests of the program, all or those whose name contains TEXT, N at a time.
 *
 * Invariants: nothing but the first failure of a test is told, and it reaches the parent through shared
 * memory, so that it survives the end of the test's process. A test's output comes as a whole before its result.
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

#include "util/thread.h"

#define UNIT_TIMEOUT_S 300
#define UNIT_JOBS_MAX 64

struct unit_failure {
	atomic_flag taken;
	char text[512];
};

/* A test that runs, or a free place for one: pid 0. */
struct unit_job {
	pid_t pid;
	const struct unit_test *test;
	struct unit_failure *failure;
	char base[256];
	char output[300];
};

static struct unit_test *unit_first, **unit_last = &unit_first;
/* Those of the test that this process runs. */
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

bool unit_in_valgrind(void)
{
	const char *preload = getenv("LD_PRELOAD");

	return preload && strstr(preload, "vgpreload");
}

void *unit_allot(size_t n)
{
	void *p = malloc(n ? n : 1);

	if (!p)
		abort();
	return p;
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

static unsigned unit_threads_left, unit_threads_fail;

static int unit_start_thread(const char *name, void *(*run)(void *), void *arg, pthread_t *out)
{
	(void)name;
	if (unit_threads_left)
		unit_threads_left--;
	else if (unit_threads_fail) {
		unit_threads_fail--;
		return -EAGAIN;
	}
	return -pthread_create(out, NULL, run, arg);
}

static void unit_join_thread(pthread_t t)
{
	pthread_join(t, NULL);
}

void unit_fail_threads(unsigned after, unsigned n)
{
	static const struct thread_ops ops = { unit_start_thread, unit_join_thread };

	unit_threads_left = after;
	unit_threads_fail = n;
	thread_replace(n ? &ops : NULL);
}

static void unit_base_make(char *base, size_t size)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(base, size, "%s/spillfs-unit-XXXXXX", tmp && *tmp ? tmp : "/tmp");
	if (!mkdtemp(base)) {
		perror(base);
		exit(1);
	}
}

/* The rest of a test's process. */
static void unit_child(const struct unit_job *job)
{
	int fd = open(job->output, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	unit_failure = job->failure;
	unit_thread = pthread_self();
	snprintf(unit_base, sizeof(unit_base), "%s", job->base);
	if (fd < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
		unit_fail(__FILE__, __LINE__, "%s: %s", job->output, strerror(errno));
	close(fd);
	alarm(UNIT_TIMEOUT_S * (unit_in_valgrind() ? 3 : 1));
	job->test->run();
	exit(*unit_failure->text ? 1 : 0);
}

static void unit_start(struct unit_job *job, const struct unit_test *t)
{
	atomic_flag_clear(&job->failure->taken);
	job->failure->text[0] = '\0';
	job->test = t;
	unit_base_make(job->base, sizeof(job->base));
	snprintf(job->output, sizeof(job->output), "%s/output", job->base);
	fflush(NULL);
	job->pid = fork();
	if (job->pid == 0)
		unit_child(job);
	if (job->pid < 0) {
		perror("fork");
		exit(1);
	}
}

static void unit_show(const char *path)
{
	FILE *f = fopen(path, "r");
	char buf[4096];
	size_t n;

	if (!f)
		return;
	while ((n = fread(buf, 1, sizeof(buf), f)))
		fwrite(buf, 1, n, stdout);
	fclose(f);
}

/* True when the test passed; status is that of its process. */
static int unit_finish(struct unit_job *job, int status)
{
	char *text = job->failure->text;

	job->pid = 0;
	if (!*text && WIFSIGNALED(status))
		snprintf(text, sizeof(job->failure->text), "killed: %s", strsignal(WTERMSIG(status)));
	else if (!*text && WEXITSTATUS(status))
		snprintf(text, sizeof(job->failure->text), "exit status %d", WEXITSTATUS(status));
	unit_show(job->output);
	nftw(job->base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	if (*text)
		printf("not ok %s: %s\n", job->test->name, text);
	else
		printf("ok %s\n", job->test->name);
	fflush(stdout);
	return !*text;
}

/* Waits for one of the jobs. True when its test passed. */
static int unit_wait(struct unit_job *jobs)
{
	int status;
	pid_t pid = wait(&status);

	for (struct unit_job *job = jobs; pid > 0 && job < jobs + UNIT_JOBS_MAX; job++)
		if (job->pid == pid)
			return unit_finish(job, status);
	perror("wait");
	exit(1);
}

static const struct unit_test *unit_select(const struct unit_test *t, const char *text)
{
	while (t && text && !strstr(t->name, text))
		t = t->next;
	return t;
}

/* Returns how many failed. */
static unsigned unit_run_forked(const char *text, unsigned njobs)
{
	const struct unit_test *t = unit_select(unit_first, text);
	struct unit_job jobs[UNIT_JOBS_MAX] = { { 0 } };
	unsigned running = 0, passed = 0, failed = 0;
	struct unit_failure *failures = mmap(NULL, sizeof(*failures) * UNIT_JOBS_MAX, PROT_READ | PROT_WRITE,
					     MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (failures == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	for (unsigned i = 0; i < UNIT_JOBS_MAX; i++)
		jobs[i].failure = &failures[i];
	while (t || running) {
		struct unit_job *job = jobs;

		if (!t || running == njobs) {
			*(unit_wait(jobs) ? &passed : &failed) += 1;
			running--;
			continue;
		}
		while (job->pid)
			job++;
		unit_start(job, t);
		running++;
		t = unit_select(t->next, text);
	}
	printf("%u passed, %u failed\n", passed, failed);
	return failed;
}

/* A failed test aborts. */
static void unit_run_here(const char *text)
{
	static struct unit_failure failure;
	unsigned passed = 0;

	unit_failure = &failure;
	unit_thread = pthread_self();
	for (const struct unit_test *t = unit_select(unit_first, text); t; t = unit_select(t->next, text)) {
		unit_base_make(unit_base, sizeof(unit_base));
		unit_ndirs = 0;
		t->run();
		nftw(unit_base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
		printf("ok %s\n", t->name);
		passed++;
	}
	printf("%u passed, 0 failed\n", passed);
}

int main(int argc, char **argv)
{
	const char *text;
	int opt, njobs = 1;

	while ((opt = getopt(argc, argv, "j:")) != -1) {
		if (opt != 'j' || (njobs = atoi(optarg)) < 1 || njobs > UNIT_JOBS_MAX) {
			fprintf(stderr, "usage: %s [-j 1-%d] [TEXT]\n", argv[0], UNIT_JOBS_MAX);
			return 2;
		}
	}
	text = optind < argc ? argv[optind] : NULL;
	unit_nofork = getenv("UNIT_NOFORK") != NULL;
	if (!unit_nofork)
		return unit_run_forked(text, (unsigned)njobs) != 0;
	unit_run_here(text);
	return 0;
}
