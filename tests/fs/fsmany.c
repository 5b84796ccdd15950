/*
 * The random operations of fsops.c in several processes at once, and the way from a failure to a short list.
 *
 *  1. Process i works in folder p<i>/in of each directory with the seed 1000 * seed + i: what it does is its own, also what it
 *     reaches by a link to "../f1", so that a failure can be repeated without the others.
 *  2. A repetition runs in a process and in folders of its own: it begins with nothing, however the last one ended.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fsops.h"

#define PROCS_MAX 64u
#define TRIALS_MAX 300u
#define SHORTEN_S 60

static const char *tops[SIDES_MAX];

static void make_folder(const char *path)
{
	if (mkdir(path, 0755) && errno != EEXIST) {
		perror(path);
		exit(2);
	}
}

/* The calling process works in a folder in folder `name` of each directory from here on. */
static void enter(const char *name)
{
	char *dirs[SIDES_MAX];

	for (unsigned i = 0; i < nsides; i++) {
		char path[PATH_MAX];

		snprintf(path, sizeof(path), "%s/%s", tops[i], name);
		make_folder(path);
		if (asprintf(&dirs[i], "%s/in", path) < 0)
			exit(2);
		make_folder(dirs[i]);
	}
	take_sides(dirs, nsides);
	mark_allocates_ahead();
}

static pid_t start_run(const char *folder, uint64_t seed, const struct run *run, bool silent)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid)
		return pid;
	if (silent) {
		int null = open("/dev/null", O_WRONLY);

		dup2(null, 1);
		dup2(null, 2);
	}
	seed0 = seed;
	enter(folder);
	run_ops(run);
	exit(0);
}

static void remove_folder(const char *name)
{
	char command[PATH_MAX + 64];

	for (unsigned i = 0; i < nsides; i++) {
		snprintf(command, sizeof(command), "rm -rf '%s/%s'", tops[i], name);
		if (system(command))
			fprintf(stderr, "fsops: %s/%s stays\n", tops[i], name);
	}
}

static unsigned trials;

static bool fails(uint64_t seed, uint64_t nops, const bool *dropped)
{
	struct run run = {.nops = nops, .dropped = dropped};
	char name[32];
	int status = 0;
	pid_t pid;

	snprintf(name, sizeof(name), "again%u", trials++);
	pid = start_run(name, seed, &run, true);
	waitpid(pid, &status, 0);
	remove_folder(name);
	return status != 0;
}

/* The failure may have been found later than it was made. */
static uint64_t shortest_prefix(uint64_t seed, uint64_t nops)
{
	uint64_t low = 0; /* does not fail */

	while (nops - low > 1) {
		uint64_t middle = low + (nops - low) / 2;

		if (fails(seed, middle, NULL))
			nops = middle;
		else
			low = middle;
	}
	return nops;
}

/* Leaves out ever smaller parts, as long as it fails without them. */
static void drop_most(uint64_t seed, uint64_t nops, bool *dropped)
{
	time_t end = time(NULL) + SHORTEN_S;

	for (uint64_t size = nops / 2 + 1; size; size = size > 1 ? (size + 1) / 2 : 0) {
		for (uint64_t at = 1; at <= nops && trials < TRIALS_MAX && time(NULL) < end; at += size) {
			bool before[size];
			uint64_t n = nops + 1 - at < size ? nops + 1 - at : size;

			memcpy(before, dropped + at, n);
			if (memchr(before, false, n) == NULL)
				continue;
			memset(dropped + at, true, n);
			if (!fails(seed, nops, dropped))
				memcpy(dropped + at, before, n);
		}
	}
}

static void shorten(uint64_t seed, uint64_t nops)
{
	bool *dropped = calloc(nops + 1, sizeof(*dropped));
	struct run list = {.dropped = dropped, .verbose = true, .dry = true};

	printf("FAILED: seed %" PRIu64 ", at operation %" PRIu64 "; it is repeated alone\n", seed, nops);
	if (!fails(seed, nops, NULL)) {
		printf("alone it does not fail: it takes the other processes\n");
		return;
	}
	nops = shortest_prefix(seed, nops);
	drop_most(seed, nops, dropped);
	printf("the shortest that fails of %u tried: fsops -s %" PRIu64 " -n %" PRIu64 ", and of that these alone:\n", trials,
	       seed, nops);
	seed0 = seed;
	list.nops = nops;
	run_ops(&list);
	free(dropped);
}

int run_many(unsigned nprocs, const struct run *run)
{
	_Atomic uint64_t *progress = mmap(NULL, PROCS_MAX * sizeof(*progress), PROT_READ | PROT_WRITE,
					  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t base = 1000 * seed0;
	pid_t pids[PROCS_MAX];
	int status, bad = -1;

	nprocs = nprocs < PROCS_MAX ? nprocs : PROCS_MAX;
	for (unsigned i = 0; i < nsides; i++)
		tops[i] = sides[i].path;
	for (unsigned i = 0; i < nprocs; i++) {
		struct run one = *run;
		char name[32];

		one.progress = &progress[i];
		snprintf(name, sizeof(name), "p%u", i);
		pids[i] = start_run(name, base + i, &one, false);
	}
	for (unsigned left = nprocs; left; left--) {
		pid_t pid = wait(&status);

		for (unsigned i = 0; i < nprocs; i++) {
			if (status && bad < 0 && pids[i] == pid)
				bad = i;
			if (pids[i] == pid)
				pids[i] = 0;
		}
		for (unsigned i = 0; bad >= 0 && i < nprocs; i++)
			if (pids[i])
				kill(pids[i], SIGKILL);
	}
	if (bad >= 0) {
		shorten(base + bad, progress[bad]);
		return 1;
	}
	printf("%u processes, %" PRIu64 " operations each in %u directories, seed %" PRIu64 ": equal\n", nprocs, run->nops,
	       nsides, seed0);
	return 0;
}
