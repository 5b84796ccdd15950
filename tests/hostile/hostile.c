/*
 * Stores made by an enemy: valid ones with random edits, opened, walked, read, written, committed, checked and rebuilt in memory.
 *
 *     hostile [-n COUNT] [-s SEED] [-j PROCESSES] [-v]
 *
 * Seeds SEED (1) to SEED + COUNT (1000) - 1 are one edited store each. A store fails if the process crashes, an assertion or a
 * sanitizer ends it, it takes more than CPU_S seconds of CPU or WALL_S seconds, allocates more than SINGLE_MAX bytes at once or
 * TOTAL_MAX together. Its seed and the edits are printed; `hostile -s SEED -n 1 -v` runs it once more, with the log. With files as
 * arguments, their numbers are the seeds: a line each, and what follows the number is a comment. The output is TAP.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base.h"
#include "edit.h"
#include "use.h"

#define CPU_S 20
#define WALL_S 300
#define SINGLE_MAX ((size_t)64 << 20)
#define TOTAL_MAX (256ll << 20)
#define BATCH 50u
#define FAILURES_MAX 20u

struct shared {
	struct use_counts counts;
	atomic_ullong next; /* of the seeds, an index */
	atomic_ullong failures;
	atomic_llong peak_bytes;
};

static struct shared *shared;
static struct image bases[BASE_COUNT];
static uint64_t *seeds, first_seed = 1, nseeds = 1000;
static bool verbose;

/* ---- memory: what the code under test asks for (linked with --wrap) ---- */

static atomic_llong live_bytes; /* below 0: what the C library has allocated is freed here */

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void __real_free(void *p);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
char *__wrap_strdup(const char *s);
void __wrap_free(void *p);

static void admit(size_t n)
{
	long long live = atomic_load(&live_bytes);

	if (n > SINGLE_MAX || live + (long long)n > TOTAL_MAX) {
		fprintf(stderr, "hostile: %zu bytes are asked for, with %lld in use\n", n, live);
		abort();
	}
}

static void *took(void *p)
{
	long long live = p ? atomic_fetch_add(&live_bytes, (long long)malloc_usable_size(p)) : 0;
	long long peak = shared ? atomic_load(&shared->peak_bytes) : 0;

	while (shared && live > peak && !atomic_compare_exchange_weak(&shared->peak_bytes, &peak, live))
		;
	return p;
}

void *__wrap_malloc(size_t n)
{
	admit(n);
	return took(__real_malloc(n));
}

void *__wrap_calloc(size_t n, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(n, size, &bytes))
		return NULL;
	admit(bytes);
	return took(__real_calloc(n, size));
}

void *__wrap_realloc(void *p, size_t n)
{
	size_t was = p ? malloc_usable_size(p) : 0;

	admit(n > was ? n - was : 0);
	p = __real_realloc(p, n);
	if (p)
		atomic_fetch_sub(&live_bytes, (long long)was);
	return took(p);
}

char *__wrap_strdup(const char *s)
{
	size_t n = strlen(s) + 1;
	char *copy = __wrap_malloc(n);

	return copy ? memcpy(copy, s, n) : NULL;
}

void __wrap_free(void *p)
{
	if (p)
		atomic_fetch_sub(&live_bytes, (long long)malloc_usable_size(p));
	__real_free(p);
}

/* ---- one store ---- */

static void run_seed(uint64_t seed)
{
	struct chance c = chance_of(seed);
	struct edit_story story;
	enum base base = (enum base)chance_below(&c, BASE_COUNT);
	uint64_t use = chance_below(&c, 16);
	struct image im;

	image_copy(&bases[base], &im);
	edit_store(&im, &c, &story);
	if (verbose)
		fprintf(stderr, "seed %llu, store %d, use %llu: %s\n", (unsigned long long)seed, base, (unsigned long long)use, story.text);
	if (use < 4)
		use_mount(&im, false, &c, &shared->counts);
	else if (use < 12)
		use_mount(&im, true, &c, &shared->counts);
	else if (use < 14)
		use_rebuild(&im, &c, &shared->counts);
	else
		use_check(&im, &c, &shared->counts);
	image_free(&im);
}

static uint64_t seed_at(uint64_t i)
{
	return seeds ? seeds[i] : first_seed + i;
}

static void bound_time(void)
{
	const struct itimerval cpu = { .it_value = { .tv_sec = CPU_S } };

	setitimer(ITIMER_PROF, &cpu, NULL);
	alarm(WALL_S);
}

static void be_quiet(void)
{
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	if (null < 0 || dup2(null, 2) < 0)
		abort();
	close(null);
}

/* Runs seeds from i to before end in a process of its own. *at: the one under way. Its wait status. */
static int run_batch(uint64_t i, uint64_t end, atomic_ullong *at, bool quiet)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		const struct rlimit none = { 0, 0 };

		setrlimit(RLIMIT_CORE, &none);
		if (quiet)
			be_quiet();
		for (; i < end; i++) {
			atomic_store(at, i);
			bound_time();
			run_seed(seed_at(i));
		}
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		abort();
	return status;
}

static const char *reason(int status)
{
	if (!WIFSIGNALED(status))
		return "exited";
	return WTERMSIG(status) == SIGPROF ? "hangs" : WTERMSIG(status) == SIGALRM ? "waits for ever" : strsignal(WTERMSIG(status));
}

/* What it says when it is run alone. */
static void report(uint64_t i, int status, atomic_ullong *at)
{
	if (atomic_fetch_add(&shared->failures, 1) >= FAILURES_MAX)
		return;
	printf("not ok %llu seed %llu %s\n", (unsigned long long)atomic_load(&shared->failures), (unsigned long long)seed_at(i), reason(status));
	fflush(stdout);
	verbose = true;
	if (WIFSIGNALED(status) && (WTERMSIG(status) == SIGPROF || WTERMSIG(status) == SIGALRM))
		return;
	if (!run_batch(i, i + 1, at, false))
		printf("# seed %llu alone passes\n", (unsigned long long)seed_at(i));
	verbose = false;
}

static void work(atomic_ullong *at)
{
	uint64_t i = atomic_fetch_add(&shared->next, BATCH);

	for (; i < nseeds; i = atomic_fetch_add(&shared->next, BATCH)) {
		uint64_t end = i + BATCH < nseeds ? i + BATCH : nseeds;

		while (i < end) {
			int status = run_batch(i, end, at, !verbose);

			if (!status)
				break;
			i = atomic_load(at);
			if (!verbose)
				report(i, status, at);
			else
				atomic_fetch_add(&shared->failures, 1);
			i++;
		}
	}
}

/* ---- the command ---- */

static void read_seeds(const char *path)
{
	char line[1024];
	FILE *f = fopen(path, "r");

	if (!f) {
		perror(path);
		exit(2);
	}
	while (fgets(line, sizeof(line), f)) {
		char *end;
		uint64_t seed = strtoull(line, &end, 10);

		if (end == line)
			continue;
		seeds = realloc(seeds, (nseeds + 1) * sizeof(*seeds));
		CHECK(seeds);
		seeds[nseeds++] = seed;
	}
	fclose(f);
}

static void print_counts(void)
{
	const struct use_counts *n = &shared->counts;

#define N(x) (unsigned long long)atomic_load(&n->x)
	printf("# %llu stores edited; opened %llu, refused %llu; files looked at %llu\n", (unsigned long long)nseeds, N(opens), N(opens_refused),
	       N(nodes));
	printf("# reads %llu, refused %llu; changes %llu, refused %llu; commits %llu, refused %llu\n", N(reads), N(reads_refused), N(writes),
	       N(writes_refused), N(commits), N(commits_refused));
	printf("# checks: clean %llu, not %llu; repairs: clean %llu, not %llu; rebuilt %llu, refused %llu\n", N(checks_clean), N(checks),
	       N(repairs_clean), N(repairs), N(rebuilds), N(rebuilds_refused));
#undef N
	printf("# most memory in use: %lld KiB\n", (long long)atomic_load(&shared->peak_bytes) >> 10);
}

static void options(int argc, char **argv, unsigned *jobs)
{
	int o;

	while ((o = getopt(argc, argv, "n:s:j:v")) != -1) {
		switch (o) {
		case 'n': nseeds = strtoull(optarg, NULL, 10); break;
		case 's': first_seed = strtoull(optarg, NULL, 10); break;
		case 'j': *jobs = (unsigned)atoi(optarg); break;
		case 'v': verbose = true; break;
		default: exit(2);
		}
	}
	if (optind < argc)
		nseeds = 0;
	for (; optind < argc; optind++)
		read_seeds(argv[optind]);
}

int main(int argc, char **argv)
{
	const size_t bytes = sizeof(*shared) + 64 * sizeof(atomic_ullong);
	unsigned jobs = 1;

	options(argc, argv, &jobs);
	shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(shared != MAP_FAILED && jobs >= 1 && jobs <= 64);
	for (int i = 0; i < BASE_COUNT; i++)
		base_make((enum base)i, &bases[i]);
	fflush(NULL);
	for (unsigned j = 0; j < jobs; j++) {
		if (fork() == 0) {
			work((atomic_ullong *)(shared + 1) + j);
			fflush(NULL);
			_exit(0);
		}
	}
	while (wait(NULL) > 0)
		;
	print_counts();
	if (atomic_load(&shared->failures))
		return 1;
	printf("ok 1 %llu stores made by an enemy\n", (unsigned long long)nseeds);
	return 0;
}
