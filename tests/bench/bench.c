/*
 * Measures one thing once and prints the seconds it took. tests/bench/run does the rest.
 *
 *   bench write  FILE MIB          sequential write in 1 MiB pieces, with fsync
 *   bench read   FILE MIB          sequential read in 1 MiB pieces
 *   bench evict  FILE              drops FILE from the page cache (not measured)
 *   bench random FILE MIB COUNT    COUNT reads of 4 KiB at random places
 *   bench create DIR COUNT         create, write 4 KiB, close
 *   bench unlink DIR COUNT         of the same
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
#include <time.h>
#include <unistd.h>

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

static double do_write(const char *path, unsigned mib)
{
	double *data = make_prices(), start;
	int fd;

	start = now();
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
	if (fd < 0)
		die(path);
	for (unsigned i = 0; i < mib; i++)
		if (write(fd, (char *)data + (size_t)(i % PIECES) * MIB, MIB) != MIB)
			die("write");
	if (fsync(fd) || close(fd))
		die("fsync");
	free(data);
	return now() - start;
}

static double do_read(const char *path, unsigned mib)
{
	char *buf = aligned_alloc(4096, MIB);
	double start = now();
	int fd = open(path, O_RDONLY);

	if (fd < 0)
		die(path);
	for (unsigned i = 0; i < mib; i++)
		if (read(fd, buf, MIB) != MIB)
			die("read");
	close(fd);
	free(buf);
	return now() - start;
}

static double do_random(const char *path, unsigned mib, unsigned count)
{
	static char buf[4096];
	double start = now();
	uint64_t x = 7;
	int fd = open(path, O_RDONLY);

	if (fd < 0)
		die(path);
	for (unsigned i = 0; i < count; i++)
		if (pread(fd, buf, 4096, (off_t)(next_random(&x) % (mib * 256u)) * 4096) != 4096)
			die("pread");
	close(fd);
	return now() - start;
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

static double do_files(const char *dir, unsigned count, int create)
{
	static char buf[4096];
	char path[PATH_MAX];
	double start;

	memset(buf, 'x', sizeof(buf));
	start = now();
	for (unsigned i = 0; i < count; i++) {
		int fd;

		snprintf(path, sizeof(path), "%s/file%u", dir, i);
		if (!create) {
			if (unlink(path))
				die(path);
			continue;
		}
		fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0666);
		if (fd < 0 || write(fd, buf, sizeof(buf)) != sizeof(buf) || close(fd))
			die(path);
	}
	return now() - start;
}

int main(int argc, char **argv)
{
	const char *op = argc > 2 ? argv[1] : "";
	unsigned n = argc > 3 ? atoi(argv[3]) : 0, m = argc > 4 ? atoi(argv[4]) : 0;
	double s;

	if (!strcmp(op, "write") && n)
		s = do_write(argv[2], n);
	else if (!strcmp(op, "read") && n)
		s = do_read(argv[2], n);
	else if (!strcmp(op, "evict"))
		s = do_evict(argv[2]);
	else if (!strcmp(op, "random") && n && m)
		s = do_random(argv[2], n, m);
	else if ((!strcmp(op, "create") || !strcmp(op, "unlink")) && n)
		s = do_files(argv[2], n, op[0] == 'c');
	else
		return fprintf(stderr, "bench: see the head of bench.c\n"), 2;
	printf("%.9f\n", s);
	return 0;
}
