/*
 * Measures one thing once and prints the seconds it took. tests/bench/run does the rest.
 *
 *   bench write  FILE MIB          sequential write in 1 MiB pieces, with fsync
 *   bench noise  FILE MIB          the same with bytes that do not compress
 *   bench fill   FILE MIB KIB      sequential write in pieces of KIB, with close and without fsync
 *   bench read   FILE MIB COUNT    sequential read in 1 MiB pieces, by COUNT processes at once: the first reads FILE, the
 *                                  others FILE.1, FILE.2 and so on
 *   bench map    FILE MIB          adds up what a shared mapping shows
 *   bench evict  FILE              drops FILE from the page cache (not measured)
 *   bench random FILE MIB COUNT    COUNT reads of 4 KiB at random places: COUNT times their median
 *   bench create DIR COUNT         create, write 4 KiB, close
 *   bench open   DIR COUNT         open, read 4 KiB, close
 *   bench stat   FILE COUNT        COUNT times: write 1 byte, then stat, of which only the stat is measured
 *   bench unlink DIR COUNT         of what create made
 *   bench arrays DIR COUNT         COUNT small arrays (not measured)
 *   bench commit MNT COUNT         COUNT times: one of them is written, and committed (the ioctl)
 *   bench snap MNT COUNT           COUNT times: one of them is written, and mkdir snapshots/NAME
 *
 * commit and snap print the median of their first and of their last tenth and all of it, of the commits alone.
 *
 *  1. The clock covers the named operations only, not making the data.
 *  2. Data is a random walk of prices in cents as float64: it compresses as such data does.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "spillfs.h"

#define MIB (1u << 20)
#define PIECES 16 /* of data made beforehand, written in turn */

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void die(const char *what)
{
	fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t next_random(uint64_t *x)
{
	*x = *x * 6364136223846793005ull + 1442695040888963407ull;
	return *x >> 33;
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(const double *v, unsigned n)
{
	double *sorted = malloc(n * sizeof(*v)), m;

	memcpy(sorted, v, n * sizeof(*v));
	qsort(sorted, n, sizeof(*v), compare_doubles);
	m = sorted[n / 2];
	free(sorted);
	return m;
}

static double *make_prices(void)
{
	size_t n = (size_t)PIECES * MIB / sizeof(double);
	double *p = malloc(n * sizeof(double)), at = 100;
	uint64_t x = 42;

	for (size_t i = 0; i < n; i++) {
		at += ((double)(next_random(&x) % 101) - 50) / 100;
		if (at < 1)
			at = 1;
		p[i] = round(at * 100) / 100;
	}
	return p;
}

static uint64_t *make_noise(void)
{
	size_t n = (size_t)PIECES * MIB / sizeof(uint64_t);
	uint64_t *p = malloc(n * sizeof(*p)), x = 42;

	for (size_t i = 0; i < n; i++)
		p[i] = next_random(&x) << 33 ^ next_random(&x) << 16 ^ next_random(&x);
	return p;
}

static double do_write(const char *path, unsigned mib, size_t piece, const char *data, int sync)
{
	size_t total = (size_t)mib * MIB;
	double start = now();
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);

	if (fd < 0)
		die(path);
	for (size_t at = 0; at < total; at += piece)
		if (write(fd, data + at % ((size_t)PIECES * MIB), piece) != (ssize_t)piece)
			die("write");
	if ((sync && fsync(fd)) || close(fd))
		die("fsync");
	return now() - start;
}

static void read_whole(const char *path, unsigned mib)
{
	char *buf = aligned_alloc(4096, MIB);
	int fd = open(path, O_RDONLY);

	if (fd < 0)
		die(path);
	for (unsigned i = 0; i < mib; i++)
		if (read(fd, buf, MIB) != MIB)
			die("read");
	close(fd);
	free(buf);
}

static double do_map(const char *path, unsigned mib)
{
	size_t n = (size_t)mib * MIB / sizeof(uint64_t);
	double start = now();
	int fd = open(path, O_RDONLY);
	uint64_t *p = mmap(NULL, n * sizeof(*p), PROT_READ, MAP_SHARED, fd, 0);
	uint64_t sum = 0;

	if (p == MAP_FAILED)
		die(path);
	for (size_t i = 0; i < n; i++)
		sum += p[i];
	__asm__ volatile("" : : "r"(sum)); /* it is needed, as far as the compiler knows */
	munmap(p, n * sizeof(*p));
	close(fd);
	return now() - start;
}

static double do_read(const char *path, unsigned mib, unsigned readers)
{
	char other[PATH_MAX];
	double start = now();
	int status;

	for (unsigned i = 1; i < readers; i++) {
		snprintf(other, sizeof(other), "%s.%u", path, i);
		if (fork() == 0) {
			read_whole(other, mib);
			_exit(0);
		}
	}
	read_whole(path, mib);
	while (wait(&status) > 0)
		if (status)
			exit(1);
	return now() - start;
}

static double do_random(const char *path, unsigned mib, unsigned count)
{
	double *took = malloc(count * sizeof(*took)), m;
	static char buf[4096];
	uint64_t x = 7;
	int fd = open(path, O_RDONLY);

	if (fd < 0)
		die(path);
	for (unsigned i = 0; i < count; i++) {
		double start = now();

		if (pread(fd, buf, 4096, (off_t)(next_random(&x) % (mib * 256u)) * 4096) != 4096)
			die("pread");
		took[i] = now() - start;
	}
	close(fd);
	m = median(took, count);
	free(took);
	return m * count;
}

static double do_stat(const char *path, unsigned count)
{
	int fd = open(path, O_WRONLY | O_CREAT, 0666);
	double took = 0;
	struct stat st;

	if (fd < 0)
		die(path);
	for (unsigned i = 0; i < count; i++) {
		double start;

		if (pwrite(fd, "x", 1, i) != 1)
			die("pwrite");
		start = now();
		if (stat(path, &st))
			die("stat");
		took += now() - start;
	}
	close(fd);
	return took;
}

static double do_evict(const char *path)
{
	int fd = open(path, O_RDONLY);

	if (fd < 0 || fsync(fd))
		die(path);
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	close(fd);
	return 0;
}

enum files_op { FILES_CREATE, FILES_OPEN, FILES_UNLINK };

static double do_files(const char *dir, unsigned count, enum files_op op)
{
	static char buf[4096];
	char path[PATH_MAX];
	double start;

	memset(buf, 'x', sizeof(buf));
	start = now();
	for (unsigned i = 0; i < count; i++) {
		int fd;

		snprintf(path, sizeof(path), "%s/file%u", dir, i);
		if (op == FILES_UNLINK) {
			if (unlink(path))
				die(path);
			continue;
		}
		fd = open(path, op == FILES_CREATE ? O_WRONLY | O_CREAT | O_EXCL : O_RDONLY, 0666);
		if (fd < 0)
			die(path);
		if ((op == FILES_CREATE ? write(fd, buf, sizeof(buf)) : read(fd, buf, sizeof(buf))) != sizeof(buf))
			die(path);
		if (close(fd))
			die(path);
	}
	return now() - start;
}

static void write_small(const char *path, unsigned n)
{
	char buf[1000];
	int fd = open(path, O_WRONLY | O_CREAT, 0666);

	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (char)((n * 2654435761u) >> (i % 24));
	if (fd < 0 || write(fd, buf, sizeof(buf)) != sizeof(buf) || close(fd))
		die(path);
}

static double do_arrays(const char *dir, unsigned count)
{
	char path[PATH_MAX];

	for (unsigned i = 0; i < count; i++) {
		snprintf(path, sizeof(path), "%s/a%u", dir, i);
		write_small(path, i);
	}
	return 0;
}

/* The arrays are those that do_arrays made: one of every hundred is written, in turn. */
static double do_commits(const char *mnt, unsigned count, int snap)
{
	double *took = malloc(count * sizeof(*took)), all = 0;
	unsigned tenth = count < 10 ? 1 : count / 10;
	int root = open(mnt, O_RDONLY | O_DIRECTORY);
	char path[PATH_MAX];

	if (root < 0)
		die(mnt);
	for (unsigned i = 0; i < count; i++) {
		struct spillfs_commit done;
		double start;

		snprintf(path, sizeof(path), "%s/layers/bench/a%u", mnt, i % 100);
		write_small(path, count + i + (snap ? 1000000 : 0));
		snprintf(path, sizeof(path), "%s/snapshots/bench%u", mnt, i);
		start = now();
		if (snap ? mkdir(path, 0777) : ioctl(root, SPILLFS_IOC_COMMIT, &done))
			die(path);
		took[i] = now() - start;
		if (!snap && !done.sealed)
			die("nothing was sealed");
		all += took[i];
	}
	close(root);
	printf("%.9f %.9f ", median(took, tenth), median(took + count - tenth, tenth));
	free(took);
	return all;
}

int main(int argc, char **argv)
{
	const char *op = argc > 2 ? argv[1] : "";
	unsigned n = argc > 3 ? atoi(argv[3]) : 0, m = argc > 4 ? atoi(argv[4]) : 0;
	double s;

	if (!strcmp(op, "write") && n)
		s = do_write(argv[2], n, MIB, (char *)make_prices(), 1);
	else if (!strcmp(op, "noise") && n)
		s = do_write(argv[2], n, MIB, (char *)make_noise(), 1);
	else if (!strcmp(op, "fill") && n && m)
		s = do_write(argv[2], n, m * (size_t)1024, (char *)make_prices(), 0);
	else if (!strcmp(op, "read") && n && m)
		s = do_read(argv[2], n, m);
	else if (!strcmp(op, "map") && n)
		s = do_map(argv[2], n);
	else if (!strcmp(op, "evict"))
		s = do_evict(argv[2]);
	else if (!strcmp(op, "random") && n && m)
		s = do_random(argv[2], n, m);
	else if (!strcmp(op, "create") && n)
		s = do_files(argv[2], n, FILES_CREATE);
	else if (!strcmp(op, "open") && n)
		s = do_files(argv[2], n, FILES_OPEN);
	else if (!strcmp(op, "stat") && n)
		s = do_stat(argv[2], n);
	else if (!strcmp(op, "unlink") && n)
		s = do_files(argv[2], n, FILES_UNLINK);
	else if (!strcmp(op, "arrays") && n)
		s = do_arrays(argv[2], n);
	else if ((!strcmp(op, "commit") || !strcmp(op, "snap")) && n)
		s = do_commits(argv[2], n, op[0] == 's');
	else
		return fprintf(stderr, "bench: see the head of bench.c\n"), 2;
	printf("%.9f\n", s);
	return 0;
}
