/*
 * Many small files in one tree, by several threads: manyfiles DIR COUNT BYTES THREADS STEP...
 *
 * Steps: create, list (readdir and stat of each), read (open, read, verify, close), remove. COUNT files of BYTES bytes
 * are divided into directories of at most 10,000. Each step prints how long it took; the first error ends the program.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PER_DIR 10000u

static const char *top;
static unsigned long count, bytes;
static atomic_ulong next_dir;

static void die(const char *what, const char *path)
{
	fprintf(stderr, "manyfiles: %s %s: %s\n", what, path, strerror(errno));
	exit(1);
}

/* Noise that follows from the file's number. */
static void fill(unsigned char *buf, unsigned long file)
{
	uint64_t x = file + 1;

	for (unsigned long i = 0; i < bytes; i++) {
		x = x * 6364136223846793005u + 1442695040888963407u;
		buf[i] = (unsigned char)(x >> 56);
	}
}

static void file_path(char path[512], unsigned long file)
{
	snprintf(path, 512, "%s/%lu/%lu", top, file / PER_DIR, file);
}

static void create(unsigned long file, unsigned char *buf, unsigned char *want)
{
	char path[512];
	int fd;

	(void)want;
	file_path(path, file);
	fill(buf, file);
	fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600);
	if (fd < 0 || write(fd, buf, bytes) != (ssize_t)bytes || close(fd) < 0)
		die("create", path);
}

static void look(unsigned long file, unsigned char *buf, unsigned char *want)
{
	char path[512];
	int fd;

	file_path(path, file);
	fill(want, file);
	fd = open(path, O_RDONLY);
	if (fd < 0 || read(fd, buf, bytes) != (ssize_t)bytes || close(fd) < 0)
		die("read", path);
	if (memcmp(buf, want, bytes)) {
		errno = EIO;
		die("other bytes in", path);
	}
}

static void drop(unsigned long file, unsigned char *buf, unsigned char *want)
{
	char path[512];

	(void)buf;
	(void)want;
	file_path(path, file);
	if (unlink(path) < 0)
		die("remove", path);
}

static void list(unsigned long dir, unsigned long files)
{
	char path[256];
	unsigned long seen = 0;
	struct dirent *d;
	struct stat st;
	DIR *handle;

	snprintf(path, sizeof(path), "%s/%lu", top, dir);
	handle = opendir(path);
	if (!handle)
		die("list", path);
	while ((d = readdir(handle))) {
		if (d->d_name[0] == '.')
			continue;
		if (fstatat(dirfd(handle), d->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_size != (off_t)bytes)
			die("stat", d->d_name);
		seen++;
	}
	closedir(handle);
	if (seen != files) {
		errno = ENOENT;
		die("entries are missing in", path);
	}
}

static const struct step {
	const char *name;
	void (*each)(unsigned long file, unsigned char *buf, unsigned char *want); /* NULL: list */
} steps[] = { { "create", create }, { "list", NULL }, { "read", look }, { "remove", drop } };

static void do_dir(const struct step *s, unsigned long dir, unsigned char *buf, unsigned char *want)
{
	unsigned long first = dir * PER_DIR, end = first + PER_DIR < count ? first + PER_DIR : count;
	char path[256];

	snprintf(path, sizeof(path), "%s/%lu", top, dir);
	if (s->each == create && mkdir(path, 0700) < 0)
		die("mkdir", path);
	if (!s->each)
		list(dir, end - first);
	for (unsigned long file = first; s->each && file < end; file++)
		s->each(file, buf, want);
	if (s->each == drop && rmdir(path) < 0)
		die("rmdir", path);
}

static void *work(void *arg)
{
	unsigned char *buf = malloc(bytes + 1), *want = malloc(bytes + 1);
	unsigned long dir;

	if (!buf || !want)
		die("memory", top);
	while ((dir = atomic_fetch_add(&next_dir, 1)) * PER_DIR < count)
		do_dir(arg, dir, buf, want);
	free(buf);
	free(want);
	return NULL;
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void run(const char *name, unsigned nthreads)
{
	const struct step *s = steps;
	pthread_t thread[64];
	double start = now();

	while (s < steps + sizeof(steps) / sizeof(*steps) && strcmp(s->name, name))
		s++;
	if (s == steps + sizeof(steps) / sizeof(*steps)) {
		fprintf(stderr, "manyfiles: no step %s\n", name);
		exit(2);
	}
	atomic_store(&next_dir, 0);
	for (unsigned i = 0; i < nthreads; i++) {
		errno = pthread_create(&thread[i], NULL, work, (void *)s);
		if (errno)
			die("thread", name);
	}
	for (unsigned i = 0; i < nthreads; i++)
		pthread_join(thread[i], NULL);
	printf("%s %.1f s\n", name, now() - start);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	unsigned nthreads = argc > 5 ? (unsigned)atoi(argv[4]) : 0;

	if (!nthreads || nthreads > 64) {
		fprintf(stderr, "usage: manyfiles DIR COUNT BYTES THREADS create|list|read|remove...\n");
		return 2;
	}
	top = argv[1];
	count = strtoul(argv[2], NULL, 10);
	bytes = strtoul(argv[3], NULL, 10);
	for (int i = 5; i < argc; i++)
		run(argv[i], nthreads);
	return 0;
}
