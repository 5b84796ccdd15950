/*
 * See probe.h.
 */
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "block/format.h"
#include "sched.h"

#define PIECE (64u << 10)

struct copy {
	struct io_dir *disk;
	char from[256], to[512]; /* the directories */
	bool failed;
};

static bool copy_file(struct io *f, const char *to)
{
	int fd = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	uint64_t size = 0, off = 0, hole;
	static char piece[PIECE];
	bool good = fd >= 0 && !io_size(f, &size, NULL) && !ftruncate(fd, (off_t)size);

	while (good && !io_seek(f, off, false, &off) && !io_seek(f, off, true, &hole)) {
		for (size_t n = 0; good && off < hole; off += n) {
			good = !io_pread_some(f, piece, hole - off < PIECE ? hole - off : PIECE, off, &n) && n &&
			       pwrite(fd, piece, n, (off_t)off) == (ssize_t)n;
		}
	}
	close(fd);
	return good;
}

static int copy_entry(void *ctx, const char *name)
{
	struct copy *c = ctx, below = { .disk = c->disk };
	struct io *f;
	int err;

	snprintf(below.from, sizeof(below.from), "%.100s%s%.100s", c->from, *c->from ? "/" : "", name);
	snprintf(below.to, sizeof(below.to), "%.300s/%.100s", c->to, name);
	err = io_open(c->disk, below.from, IO_RDONLY, &f);
	if (err == -EUCLEAN) {
		below.failed = mkdir(below.to, 0700) || io_list(c->disk, below.from, copy_entry, &below);
	} else {
		below.failed = err || !copy_file(f, below.to);
		if (!err)
			io_close(f);
	}
	c->failed |= below.failed;
	return 0;
}

static bool run_check(const char *dir, char *text, unsigned text_bytes)
{
	char line[700];
	const char *spillctl = getenv("SPILLCTL");
	size_t n;
	FILE *f;

	snprintf(line, sizeof(line), "%s check --data %s 2>&1", spillctl, dir);
	f = popen(line, "r");
	if (!f)
		return false;
	n = fread(text, 1, text_bytes - 1, f);
	text[n] = '\0';
	return pclose(f) == 0;
}

bool probe_check(struct io_dir *disk, char *text, unsigned text_bytes)
{
	char dir[] = "/dev/shm/sim.XXXXXX", line[64];
	struct copy c = { .disk = disk };
	bool good;

	*text = '\0';
	if (!getenv("SPILLCTL"))
		return true;
	if (!mkdtemp(dir))
		return false;
	snprintf(c.to, sizeof(c.to), "%s", dir);
	good = !io_list(disk, ".", copy_entry, &c) && !c.failed && run_check(dir, text, text_bytes);
	snprintf(line, sizeof(line), "rm -rf %s", dir);
	if (system(line))
		good = false;
	return good;
}

const char *probe_head(struct io_dir *disk, bool may_be_late)
{
	struct layer_seek_footer footer = { 0 };
	char name[64] = "", path[80];
	const char *why = NULL;
	uint64_t size = 0;
	size_t n;
	struct io *f;

	if (io_open(disk, "layers/HEAD", IO_RDONLY, &f))
		return NULL; /* nothing was sealed yet */
	if (io_pread_some(f, name, sizeof(name) - 1, 0, &n))
		why = "layers/HEAD cannot be read";
	io_close(f);
	name[strcspn(name, " \n")] = '\0';
	snprintf(path, sizeof(path), "layers/%s", name);
	if (why || io_open(disk, path, IO_RDONLY, &f))
		return why || may_be_late ? why : "layers/HEAD names a layer that is not there";
	if (io_size(f, &size, NULL) || size < sizeof(footer) || io_pread(f, &footer, sizeof(footer), size - sizeof(footer)) ||
	    footer.magic != LAYER_SEEK_FOOTER_MAGIC)
		why = "layers/HEAD names a layer that is not sealed";
	io_close(f);
	return why;
}

struct chosen {
	uint64_t *random;
	char name[64];
	unsigned n;
};

static int choose(void *ctx, const char *name)
{
	struct chosen *c = ctx;
	size_t len = strlen(name);

	if (len < 5 || strcmp(name + len - 4, ".zst"))
		return 0;
	if (sim_random(c->random) % ++c->n == 0)
		snprintf(c->name, sizeof(c->name), "layers/%.50s", name);
	return 0;
}

bool probe_flip(struct io_dir *disk, uint64_t *random)
{
	struct chosen c = { .random = random, .name = "meta.db" };
	unsigned char byte = 0;
	uint64_t size = 0, at;
	struct io *f;
	bool good;

	if (sim_random(random) % 4)
		io_list(disk, "layers", choose, &c);
	if (io_open(disk, c.name, 0, &f))
		return false;
	good = !io_size(f, &size, NULL) && size;
	at = good ? sim_random(random) % size : 0;
	good = good && !io_pread(f, &byte, 1, at);
	byte ^= (unsigned char)(1u << sim_random(random) % 8);
	good = good && !io_pwrite(f, &byte, 1, at) && !io_sync(f);
	io_close(f);
	return good;
}

struct leftovers {
	struct io_dir *disk;
	const char *dir;
	const uint64_t *words;
	unsigned nwords;
	uint64_t stored_bytes;
	bool found, failed;
};

static bool has_word(struct io *f, const struct leftovers *l)
{
	uint64_t size = 0;
	unsigned char *p;
	bool found = false;
	size_t n = 0;

	if (io_size(f, &size, NULL))
		return false;
	p = malloc(size + 1);
	if (!io_pread_some(f, p, size, 0, &n)) {
		for (unsigned i = 0; i < l->nwords && !found; i++)
			found = memmem(p, n, &l->words[i], sizeof(*l->words));
	}
	free(p);
	return found;
}

static int look_at(void *ctx, const char *name)
{
	struct leftovers *l = ctx;
	const char *dir = l->dir;
	uint64_t stored = 0;
	char path[256];
	struct io *f;
	int err;

	snprintf(path, sizeof(path), "%.100s%s%.100s", dir, *dir ? "/" : "", name);
	err = io_open(l->disk, path, IO_RDONLY, &f);
	if (err == -EUCLEAN) {
		l->dir = path;
		l->failed |= io_list(l->disk, path, look_at, l) != 0;
		l->dir = dir;
	} else if (err || io_size(f, NULL, &stored)) {
		l->failed = true;
	} else {
		l->stored_bytes += stored;
		l->found |= has_word(f, l);
	}
	if (!err)
		io_close(f);
	return 0;
}

const char *probe_leftovers(struct io_dir *disk, const uint64_t *words, unsigned n)
{
	struct leftovers l = { .disk = disk, .dir = "", .words = words, .nwords = n };
	uint64_t total = 0, avail = 0;

	if (io_list(disk, ".", look_at, &l) || l.failed || io_space(disk, &total, &avail))
		return "the disk cannot be looked at";
	if (l.found)
		return "what was written to scratch/ is on the disk";
	return total - avail != l.stored_bytes ? "what takes space on the disk has no name" : NULL;
}
