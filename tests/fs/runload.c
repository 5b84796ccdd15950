/*
 * Sorted runs in one bucket, each appended by an open file of its own, and a look at what the mount says of them.
 *
 *   runload write FILE NRUNS NWRITERS       NWRITERS processes append NRUNS runs, in turn
 *   runload check FILE INDEX|-              compares: INDEX holds offsets as u64, "-" has them as text on stdin
 *
 *  1. A run is written in two pieces, between open and close. A lock outside of FILE, let go as soon as close(2) has
 *     returned, keeps the runs apart.
 *  2. A record says which of its run's it is, so that the file itself tells where runs begin.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PIECE_RECORDS_MAX 4u

struct record {
	uint32_t writer, number, at, of; /* at: 0 begins a run */
};

static void die(const char *what)
{
	fprintf(stderr, "runload: %s: %s\n", what, strerror(errno));
	_exit(1);
}

static pthread_mutex_t *shared_lock(void)
{
	pthread_mutex_t *lock = mmap(NULL, sizeof(*lock), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pthread_mutexattr_t attr;

	if (lock == MAP_FAILED)
		die("mmap");
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(lock, &attr);
	return lock;
}

static void append_run(const char *path, uint32_t writer, uint32_t number)
{
	struct record v[2 * PIECE_RECORDS_MAX];
	uint32_t first = 1 + number % PIECE_RECORDS_MAX, n = first + 1 + number / PIECE_RECORDS_MAX % PIECE_RECORDS_MAX;
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);

	if (fd < 0)
		die("open");
	for (uint32_t k = 0; k < n; k++)
		v[k] = (struct record){ writer, number, k, n };
	if (write(fd, v, first * sizeof(*v)) != (ssize_t)(first * sizeof(*v)) ||
	    write(fd, v + first, (n - first) * sizeof(*v)) != (ssize_t)((n - first) * sizeof(*v)))
		die("write");
	if (close(fd))
		die("close");
}

static int write_runs(const char *path, uint32_t nruns, uint32_t nwriters)
{
	pthread_mutex_t *turn = shared_lock();
	int bad = 0, status;

	for (uint32_t w = 0; w < nwriters; w++) {
		if (fork())
			continue;
		for (uint32_t k = w; k < nruns; k += nwriters) {
			pthread_mutex_lock(turn);
			append_run(path, w, k);
			pthread_mutex_unlock(turn);
		}
		_exit(0);
	}
	while (wait(&status) > 0)
		bad |= status;
	return bad != 0;
}

/* All of a file or stream; *len_out bytes. */
static char *read_all(int fd, size_t *len_out)
{
	size_t len = 0, cap = 1 << 20;
	char *p = malloc(cap + 1);
	ssize_t n;

	while (p && (n = read(fd, p + len, cap - len)) > 0) {
		len += (size_t)n;
		if (len == cap)
			p = realloc(p, (cap *= 2) + 1);
	}
	if (!p || n < 0)
		die("read");
	p[len] = '\0';
	*len_out = len;
	return p;
}

static uint64_t *read_index(const char *path, size_t *n_out)
{
	int text = !strcmp(path, "-"), fd = text ? 0 : open(path, O_RDONLY | O_CLOEXEC);
	size_t len, n = 0;
	char *p, *end;
	uint64_t *v;

	if (fd < 0)
		die(path);
	p = read_all(fd, &len);
	if (!text) {
		*n_out = len / sizeof(*v);
		return (uint64_t *)(void *)p;
	}
	v = calloc(len + 1, sizeof(*v));
	for (char *at = p; v; at = end, n++) {
		v[n] = strtoull(at, &end, 10);
		if (end == at)
			break;
	}
	*n_out = n;
	return v;
}

/* Offsets rise in both: missing where only the data has one, inside where only the index has one. */
static int check_runs(const char *path, const char *index)
{
	size_t len, n, k = 0, nruns = 0, missing = 0, inside = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct record *v;
	uint64_t *bounds;

	if (fd < 0)
		die(path);
	v = (struct record *)(void *)read_all(fd, &len);
	bounds = read_index(index, &n);
	for (uint64_t at = 0; at <= len; at += sizeof(*v)) {
		int begins = at == len || v[at / sizeof(*v)].at == 0;

		for (; k < n && bounds[k] < at; k++)
			inside++;
		nruns += begins;
		if (k < n && bounds[k] == at) {
			k++;
			inside += !begins;
		} else {
			missing += begins != 0;
		}
	}
	inside += n - k;
	printf("%zu runs, %zu boundaries missing, %zu inside a run\n", nruns - 1, missing, inside);
	return missing || inside;
}

int main(int argc, char **argv)
{
	if (argc == 5 && !strcmp(argv[1], "write"))
		return write_runs(argv[2], (uint32_t)atoi(argv[3]), (uint32_t)atoi(argv[4]));
	if (argc == 4 && !strcmp(argv[1], "check"))
		return check_runs(argv[2], argv[3]);
	fputs("usage: runload write FILE NRUNS NWRITERS | runload check FILE INDEX|-\n", stderr);
	return 2;
}
