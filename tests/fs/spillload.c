/*
 * The spill pattern: processes append pieces to many files in turn, then each file is read back whole.
 *
 *   spillload [-a] [-o] [-z] [-q] DIR NBUCKETS NPROCS CHUNK ROUNDS [write|verify|both]
 *
 * -a: every process appends to every file with O_APPEND (else each owns a share of the files);
 * -o: open, append, close for each piece, as is done anyway when descriptors would not suffice;
 * -z: pieces that compress; -q: no figures.
 *
 *  1. A piece's bytes follow from its file and its number; its first 8 bytes are the number.
 *  2. A share's pieces lie in the order of their numbers; with -a every number is there once, the
 *     pieces of one process in order, and none is torn.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define READ_BYTES (1u << 20)

static struct {
	const char *dir;
	unsigned nbuckets, nprocs, rounds;
	size_t chunk;
	bool shared, reopen, compressible, quiet;
} conf;

static void fail(const char *what, unsigned bucket)
{
	fprintf(stderr, "spillload: %s/%u: %s: %s\n", conf.dir, bucket, what, strerror(errno));
	_exit(1);
}

static void fill(uint8_t *p, unsigned bucket, uint64_t number)
{
	uint64_t x = bucket * 0x9e3779b97f4a7c15ull ^ number * 0xd1342543de82ef95ull;

	for (size_t i = 0; i < conf.chunk; i += 8) {
		uint64_t v;

		x = x * 6364136223846793005ull + 1442695040888963407ull;
		v = x ^ x >> 29;
		if (conf.compressible && i % 64)
			v = bucket;
		memcpy(p + i, &v, conf.chunk - i < 8 ? conf.chunk - i : 8);
	}
	memcpy(p, &number, sizeof(number));
}

static int bucket_open(unsigned bucket, int flags)
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s/%u", conf.dir, bucket);
	fd = open(path, flags | O_CLOEXEC, 0666);
	if (fd < 0)
		fail("open", bucket);
	return fd;
}

static void append(int fd, unsigned bucket, const uint8_t *p)
{
	size_t done = 0;

	while (done < conf.chunk) {
		ssize_t n = write(fd, p + done, conf.chunk - done);

		if (n <= 0)
			fail("write", bucket);
		if (conf.shared && n != (ssize_t)conf.chunk)
			fail("short write", bucket);
		done += n;
	}
}

static void close_checked(int fd, unsigned bucket)
{
	if (close(fd))
		fail("close", bucket);
}

static void write_share(unsigned proc)
{
	unsigned first = conf.shared ? 0 : proc, step = conf.shared ? 1 : conf.nprocs;
	int *fds = conf.reopen ? NULL : calloc(conf.nbuckets, sizeof(int));
	uint8_t *piece = malloc(conf.chunk + 8);

	for (unsigned round = 0; round < conf.rounds; round++) {
		for (unsigned b = first; b < conf.nbuckets; b += step) {
			uint64_t number = conf.shared ? (uint64_t)round * conf.nprocs + proc : round;
			int fd;

			fill(piece, b, number);
			if (!fds || !round) {
				fd = bucket_open(b, O_WRONLY | O_APPEND | O_CREAT);
				if (fds)
					fds[b] = fd;
			} else {
				fd = fds[b];
			}
			append(fd, b, piece);
			if (!fds)
				close_checked(fd, b);
		}
	}
	for (unsigned b = first; fds && conf.rounds && b < conf.nbuckets; b += step)
		close_checked(fds[b], b);
	free(piece);
	free(fds);
}

/* The number that must stand in the next piece, or any one of this process' order: false is wrong. */
static bool number_fits(uint64_t number, uint64_t nth, uint64_t *next)
{
	unsigned proc;

	if (!conf.shared)
		return number == nth;
	proc = number % conf.nprocs;
	return number == next[proc]++ * conf.nprocs + proc;
}

static void verify_bucket(unsigned b, const uint8_t *content)
{
	uint64_t *next = calloc(conf.nprocs, sizeof(*next));
	uint64_t total = (uint64_t)conf.rounds * (conf.shared ? conf.nprocs : 1);
	uint8_t *want = malloc(conf.chunk + 8);

	for (uint64_t nth = 0; nth < total; nth++) {
		const uint8_t *got = content + nth * conf.chunk;
		uint64_t number;
		size_t i = 0;

		memcpy(&number, got, sizeof(number));
		fill(want, b, number);
		if (!number_fits(number, nth, next)) {
			fprintf(stderr, "spillload: %s/%u: piece %" PRIu64 " is number %" PRIu64 "\n",
				conf.dir, b, nth, number);
			_exit(1);
		}
		if (!memcmp(got, want, conf.chunk))
			continue;
		while (got[i] == want[i])
			i++;
		fprintf(stderr, "spillload: %s/%u: piece %" PRIu64 " (of %zu bytes) differs at its byte %zu\n",
			conf.dir, b, nth, conf.chunk, i);
		_exit(1);
	}
	free(want);
	free(next);
}

static void verify_share(unsigned proc)
{
	size_t size = (size_t)conf.chunk * conf.rounds * (conf.shared ? conf.nprocs : 1);
	uint8_t *content = malloc(size + READ_BYTES);

	for (unsigned b = proc; b < conf.nbuckets; b += conf.nprocs) {
		int fd = bucket_open(b, O_RDONLY);
		size_t done = 0;
		ssize_t n;

		while ((n = read(fd, content + done, READ_BYTES)) > 0) {
			done += n;
			if (done > size)
				break;
		}
		if (n < 0)
			fail("read", b);
		if (done != size) {
			fprintf(stderr, "spillload: %s/%u: %zu bytes, wanted %zu\n", conf.dir, b, done, size);
			_exit(1);
		}
		verify_bucket(b, content);
		close(fd);
	}
	free(content);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static int run(const char *what, void (*share)(unsigned))
{
	double start = now(), bytes = (double)conf.nbuckets * conf.chunk * conf.rounds;
	int bad = 0;

	for (unsigned i = 0; i < conf.nprocs; i++) {
		pid_t pid = fork();

		if (pid < 0)
			return 1;
		if (!pid) {
			share(i);
			_exit(0);
		}
	}
	for (unsigned i = 0; i < conf.nprocs; i++) {
		int status;

		wait(&status);
		bad |= status;
	}
	if (conf.shared)
		bytes *= conf.nprocs;
	if (!conf.quiet && !bad)
		printf("%s %u files, %.1f MiB, %.3f s, %.1f MiB/s\n", what, conf.nbuckets, bytes / 1048576,
		       now() - start, bytes / 1048576 / (now() - start));
	return bad ? 1 : 0;
}

/* As many descriptors as we may have; too few for all files: open them anew for every piece. */
static void allow_descriptors(void)
{
	struct rlimit r;
	unsigned each = conf.shared ? conf.nbuckets : conf.nbuckets / conf.nprocs + 1;

	getrlimit(RLIMIT_NOFILE, &r);
	r.rlim_cur = r.rlim_max < 65536 ? r.rlim_max : 65536;
	setrlimit(RLIMIT_NOFILE, &r);
	if (each + 64 > r.rlim_cur)
		conf.reopen = true;
}

int main(int argc, char **argv)
{
	const char *mode = "both";
	int c, bad = 0;

	while ((c = getopt(argc, argv, "aozq")) != -1) {
		switch (c) {
		case 'a': conf.shared = true; break;
		case 'o': conf.reopen = true; break;
		case 'z': conf.compressible = true; break;
		case 'q': conf.quiet = true; break;
		default: return 2;
		}
	}
	argv += optind;
	argc -= optind;
	if (argc < 5 || argc > 6) {
		fprintf(stderr, "usage: spillload [-a] [-o] [-z] [-q] DIR NBUCKETS NPROCS CHUNK ROUNDS "
			"[write|verify|both]\n");
		return 2;
	}
	conf.dir = argv[0];
	conf.nbuckets = strtoul(argv[1], NULL, 0);
	conf.nprocs = strtoul(argv[2], NULL, 0);
	conf.chunk = strtoul(argv[3], NULL, 0);
	conf.rounds = strtoul(argv[4], NULL, 0);
	if (argc == 6)
		mode = argv[5];
	if (!conf.nprocs || conf.chunk < 8)
		return 2;
	allow_descriptors();
	if (strcmp(mode, "verify"))
		bad = run("wrote", write_share);
	if (!bad && strcmp(mode, "write"))
		bad = run("read ", verify_share);
	return bad;
}
