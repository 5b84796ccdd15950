/*
 * Compares the trees of all sides with the model's, through the file system only.
 *
 *  1. Content, sizes, link counts, modes, owners, xattrs, link targets are equal; a time that was set
 *     explicitly (always before EPOCH_NOW) stays until something changes the file.
 *  2. Holes: segments alternate and end at the end of file; what is reported as a hole is zero; an
 *     aligned HOLE_BYTES range without any extent in the model must be reported as a hole, but for a
 *     bounded part where a side allocates ahead: ext4 reports what is allocated, unwritten and cached.
 *  3. Names that share an inode in the model share one elsewhere, and the other way round.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "fsops.h"

uint64_t hash_bytes(uint64_t h, const void *p, size_t len)
{
	const uint8_t *b = p;
	size_t i = 0;

	for (; i + 8 <= len; i += 8) {
		uint64_t v;

		memcpy(&v, b + i, 8);
		h = (h ^ v) * 0x9fb21c651e98df25ull;
		h ^= h >> 32;
	}
	for (; i < len; i++)
		h = (h ^ b[i]) * 0x100000001b3ull;
	return h;
}

void take_facts(const struct stat *st, struct facts *f)
{
	f->mode = st->st_mode;
	f->nlink = st->st_nlink;
	f->uid = st->st_uid;
	f->gid = st->st_gid;
	f->size = S_ISDIR(st->st_mode) ? 0 : st->st_size;
	f->rdev = st->st_rdev;
	f->mtime_s = EPOCH_NOW;
	/* a write through a FIFO touches it on some file systems only */
	if (st->st_mtim.tv_sec < EPOCH_NOW && !S_ISFIFO(st->st_mode)) {
		f->mtime_s = st->st_mtim.tv_sec;
		f->mtime_ns = st->st_mtim.tv_nsec;
	}
}

void full_path(char *buf, const struct side *s, const char *name)
{
	if ((size_t)snprintf(buf, PATH_MAX, "%s/%s", s->path, name) >= PATH_MAX)
		abort();
}

int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

void print_facts(const struct facts *f)
{
	printf("mode=%#" PRIo64 " nlink=%" PRIu64 " owner=%" PRIu64 ":%" PRIu64 " size=%" PRIu64
	       " rdev=%" PRIx64 " mtime=%" PRId64 ".%09" PRId64 "\n", f->mode, f->nlink, f->uid,
	       f->gid, f->size, f->rdev, f->mtime_s, f->mtime_ns);
}

static void mismatch(const struct side *s, const char *name, const char *what)
{
	printf("MISMATCH seed=%" PRIu64 " after op %" PRIu64 ": %s/%s: %s\n", seed0, opno, s->path,
	       name, what);
	exit(1);
}

struct segments {
	unsigned n, room;
	struct segment {
		int64_t from, to;
	} *at;
};

static void segment_add(struct segments *g, int64_t from, int64_t to)
{
	if (g->n == g->room) {
		g->room = g->room ? 2 * g->room : 16;
		g->at = realloc(g->at, g->room * sizeof(g->at[0]));
	}
	g->at[g->n++] = (struct segment){from, to};
}

static void segments_of(const struct side *s, const char *name, int fd, int64_t size,
			struct segments *g)
{
	int64_t pos = 0;
	unsigned again = 0;

	while (pos < size) {
		int64_t from = lseek(fd, pos, SEEK_DATA), to;

		if (from < 0 && errno == ENXIO)
			break;
		to = from < 0 ? -1 : lseek(fd, from, SEEK_HOLE);
		/* Between the two, zeros may have been stored as a hole, and what was allocated ahead been given back. */
		if (from >= pos && to == from && again++ < 3)
			continue;
		if (from < pos || to <= from || to > size) {
			char said[200];

			snprintf(said, sizeof(said), "from %" PRId64 " SEEK_DATA is %" PRId64 ", SEEK_HOLE %" PRId64
				 " (%s), size %" PRId64, pos, from, to, strerror(errno), size);
			mismatch(s, name, said);
		}
		segment_add(g, from, to);
		pos = to;
	}
	if (lseek(fd, size, SEEK_DATA) != -1 || errno != ENXIO)
		mismatch(s, name, "SEEK_DATA at the end of file: not ENXIO");
	if (size && lseek(fd, size - 1, SEEK_HOLE) < size - 1)
		mismatch(s, name, "SEEK_HOLE before the end of file fails");
}

/* What the model has in extents, written or not: everything else was never written, or punched. */
static bool extents_of(int fd, struct segments *g)
{
	struct fiemap *map = calloc(1, sizeof(*map) + 64 * sizeof(struct fiemap_extent));
	bool last = false, ok = true;

	map->fm_length = UINT64_MAX;
	while (!last) {
		map->fm_extent_count = 64;
		if (ioctl(fd, FS_IOC_FIEMAP, map)) {
			ok = false;
			break;
		}
		last = !map->fm_mapped_extents;
		for (unsigned i = 0; i < map->fm_mapped_extents; i++) {
			const struct fiemap_extent *e = &map->fm_extents[i];

			segment_add(g, e->fe_logical, e->fe_logical + e->fe_length);
			map->fm_start = e->fe_logical + e->fe_length;
			last |= e->fe_flags & FIEMAP_EXTENT_LAST;
		}
	}
	free(map);
	return ok;
}

/* Every aligned HOLE_BYTES between the model's extents must not be data on the other side. */
static void check_big_holes(const struct side *s, const char *name, int64_t size,
			    const struct segments *extents, const struct segments *g)
{
	int64_t pos = 0, allowed = s->allocates_ahead ? AHEAD_BYTES : 0;
	unsigned j = 0;

	for (unsigned i = 0; i <= extents->n; i++) {
		int64_t end = i < extents->n ? extents->at[i].from : size;
		int64_t from = (pos + HOLE_BYTES - 1) & ~(HOLE_BYTES - 1);
		int64_t to = end & ~(HOLE_BYTES - 1);

		while (j < g->n && g->at[j].to <= from)
			j++;
		for (; from < to && j < g->n && g->at[j].from < to; j++) {
			allowed -= g->at[j].to - g->at[j].from;
			if (allowed >= 0)
				continue;
			printf("hole %" PRId64 "..%" PRId64 ", but data %" PRId64 "..%" PRId64 "\n",
			       from, to, g->at[j].from, g->at[j].to);
			mismatch(s, name, "a range never written, or punched, is reported as data");
		}
		if (i < extents->n && extents->at[i].to > pos)
			pos = extents->at[i].to;
	}
}

static void compare_range(const struct side *s, const char *name, int m, int o, struct segment g)
{
	while (g.from < g.to) {
		size_t len = g.to - g.from < (int64_t)LEN_MAX ? g.to - g.from : (int64_t)LEN_MAX;
		size_t i = 0;

		if (pread(m, scratch, len, g.from) != (ssize_t)len)
			mismatch(&sides[0], name, "cannot be read");
		if (pread(o, scratch2, len, g.from) != (ssize_t)len)
			mismatch(s, name, "cannot be read");
		if (memcmp(scratch, scratch2, len)) {
			while (scratch[i] == scratch2[i])
				i++;
			printf("first at byte %" PRId64 ": %#x in the model, %#x here\n",
			       g.from + (int64_t)i, scratch[i], scratch2[i]);
			mismatch(s, name, "contents differ");
		}
		g.from += len;
	}
}

/* Where the other side reports a hole the model must read zero. */
static void check_zero(const struct side *s, const char *name, int m, struct segment g)
{
	while (g.from < g.to) {
		size_t len = g.to - g.from < (int64_t)LEN_MAX ? g.to - g.from : (int64_t)LEN_MAX;

		if (pread(m, scratch, len, g.from) != (ssize_t)len)
			mismatch(&sides[0], name, "cannot be read");
		for (size_t i = 0; i < len; i++)
			if (scratch[i]) {
				printf("byte %" PRId64 " is not zero\n", g.from + (int64_t)i);
				mismatch(s, name, "written bytes are reported as a hole");
			}
		g.from += len;
	}
}

static void check_holes(const struct side *s, const char *name, int m, const struct segments *model,
			const struct segments *g)
{
	unsigned j = 0;

	for (unsigned i = 0; i < model->n; i++) {
		struct segment d = model->at[i];

		while (j < g->n && g->at[j].to <= d.from)
			j++;
		for (unsigned k = j; d.from < d.to; k++) {
			int64_t end = k < g->n && g->at[k].from < d.to ? g->at[k].from : d.to;

			check_zero(s, name, m, (struct segment){d.from, end});
			d.from = k < g->n && g->at[k].to > end ? g->at[k].to : d.to;
		}
	}
}

static void compare_content(const struct side *s, const char *name, int64_t size)
{
	struct segments model = {0}, extents = {0}, other = {0};
	int m = openat(sides[0].dirfd, name, O_RDONLY | O_CLOEXEC);
	int o = openat(s->dirfd, name, O_RDONLY | O_CLOEXEC);

	if (m < 0 || o < 0)
		mismatch(s, name, "cannot be opened");
	segments_of(&sides[0], name, m, size, &model);
	segments_of(s, name, o, size, &other);
	if (extents_of(m, &extents))
		check_big_holes(s, name, size, &extents, &other);
	for (unsigned i = 0; i < model.n; i++)
		compare_range(s, name, m, o, model.at[i]);
	for (unsigned i = 0; i < other.n; i++)
		compare_range(s, name, m, o, other.at[i]);
	check_holes(s, name, m, &model, &other);
	free(model.at);
	free(extents.at);
	free(other.at);
	close(m);
	close(o);
}

static int by_string(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names and values of all xattrs of ours in one figure, in the order of names. */
static uint64_t hash_xattrs(const struct side *s, const char *name)
{
	char path[PATH_MAX], list[4096], value[4096], *at[64];
	uint64_t h = 0;
	ssize_t len;
	unsigned n = 0;

	full_path(path, s, name);
	len = llistxattr(path, list, sizeof(list));
	for (char *p = list; p < list + len && n < 64; p += strlen(p) + 1)
		if (!strncmp(p, "user.", 5))
			at[n++] = p;
	qsort(at, n, sizeof(at[0]), by_string);
	for (unsigned i = 0; i < n; i++) {
		ssize_t v = lgetxattr(path, at[i], value, sizeof(value));

		h = hash_bytes(h, at[i], strlen(at[i]) + 1);
		h = v < 0 ? ~h : hash_bytes(h, value, v);
	}
	return h;
}

static struct {
	ino_t model, other;
} inodes[4096];
static unsigned ninodes;

static void check_inode(const struct side *s, const char *name, ino_t model, ino_t other)
{
	unsigned i = 0;

	while (i < ninodes && inodes[i].model != model && inodes[i].other != other)
		i++;
	if (i == COUNT(inodes))
		return;
	if (i < ninodes && (inodes[i].model != model || inodes[i].other != other))
		mismatch(s, name, "inode numbers do not go together");
	inodes[i].model = model;
	inodes[i].other = other;
	if (i == ninodes)
		ninodes++;
}

static void compare_entry(const struct side *s, const char *name, bool *is_dir)
{
	char here[PATH_MAX] = "", there[PATH_MAX] = "";
	struct facts f = {0}, g = {0};
	struct stat a, b;

	if (fstatat(sides[0].dirfd, name, &a, AT_SYMLINK_NOFOLLOW))
		mismatch(&sides[0], name, "no stat");
	if (fstatat(s->dirfd, name, &b, AT_SYMLINK_NOFOLLOW))
		mismatch(s, name, "no stat");
	take_facts(&a, &f);
	take_facts(&b, &g);
	if (memcmp(&f, &g, sizeof(f))) {
		print_facts(&f);
		print_facts(&g);
		mismatch(s, name, "attributes differ");
	}
	check_inode(s, name, a.st_ino, b.st_ino);
	if (hash_xattrs(&sides[0], name) != hash_xattrs(s, name))
		mismatch(s, name, "xattrs differ");
	if (S_ISLNK(a.st_mode)) {
		ssize_t n = readlinkat(sides[0].dirfd, name, there, sizeof(there));

		if (readlinkat(s->dirfd, name, here, sizeof(here)) != n || memcmp(here, there, n))
			mismatch(s, name, "link targets differ");
	}
	if (S_ISREG(a.st_mode))
		compare_content(s, name, a.st_size);
	*is_dir = S_ISDIR(a.st_mode);
}

static void compare_dir(const struct side *s, const char *dir)
{
	struct dirent **list, **other;
	char path[PATH_MAX], name[PATH_MAX];
	int n, m;

	full_path(path, &sides[0], dir);
	n = scandir(path, &list, NULL, by_name);
	full_path(path, s, dir);
	m = scandir(path, &other, NULL, by_name);
	for (int i = 0; i < n && i < m; i++)
		if (strcmp(list[i]->d_name, other[i]->d_name))
			mismatch(s, dir, "names differ");
	if (n < 0 || n != m)
		mismatch(s, dir, "number of names differs");
	for (int i = 0; i < n; i++) {
		bool is_dir = false;

		if (snprintf(name, sizeof(name), "%s/%s", dir, list[i]->d_name) >= PATH_MAX)
			abort();
		if (strcmp(list[i]->d_name, ".") && strcmp(list[i]->d_name, ".."))
			compare_entry(s, name, &is_dir);
		if (is_dir)
			compare_dir(s, name);
		free(list[i]);
		free(other[i]);
	}
	free(list);
	free(other);
}

void compare_all(void)
{
	for (unsigned i = 1; i < nsides; i++) {
		ninodes = 0;
		compare_dir(&sides[i], ".");
	}
}
