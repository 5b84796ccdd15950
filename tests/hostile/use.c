/*
 * See use.h. Each use has bounds of its own, in files and bytes, so that what takes long is the store's doing.
 */
#include "use.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "spillfs.h"
#include "store/rebuild.h"
#include "tool/check/check.h"
#include "tree/control/control.h"
#include "unit/world.h"

#define NODES_MAX 350u
#define DEPTH_MAX 9u
#define ENTRIES_MAX 60u
#define LISTINGS_MAX 1000u
#define READ_BYTES 40000u
#define FILE_READS 4u
#define KNOWN_MAX 64u
#define CHANGES 8u

struct known {
	uint64_t parent, ino;
	mode_t mode;
	char name[256];
};

struct use {
	struct tree *t;
	struct chance *c;
	struct use_counts *n;
	unsigned nodes;
	struct known known[KNOWN_MAX]; /* some of those that can be changed */
	unsigned nknown;
	unsigned char *buf;
};

static const struct tree_caller me;

/* ---- files ---- */

static void count(atomic_ullong *good, atomic_ullong *bad, int err)
{
	atomic_fetch_add(err ? bad : good, 1);
}

static void read_at(struct use *u, struct tree_file *f, uint64_t off, size_t len)
{
	struct tree_read r;
	size_t at = 0;
	int err = tree_read_begin(f, off, len, 0, &r);

	if (!err) {
		for (unsigned i = 0; i < r.n && !err; i++) {
			CHECK(r.part[i].len_bytes <= len - at);
			err = lease_copy(&r.part[i], r.how, u->buf + at);
			at += r.part[i].len_bytes;
		}
		tree_read_end(&r);
	}
	count(&u->n->reads, &u->n->reads_refused, err);
}

static uint64_t some_offset(struct use *u, uint64_t size)
{
	switch (chance_below(u->c, 5)) {
	case 0:
		return 0;
	case 1:
		return size > READ_BYTES ? size - READ_BYTES / 2 : size / 2;
	case 2:
		return chance_evil(u->c) >> 1;
	default:
		return chance_below(u->c, size < 100000 ? size + 1 : 100000);
	}
}

static void read_file(struct use *u, const struct tree_attr *a)
{
	struct tree_file_info info = { 0 };
	static struct spillfs_blocks blocks;
	struct tree_file *f;
	uint64_t at;

	if (tree_file_open(u->t, a->st.st_ino, O_RDONLY, &me, &f, &info)) {
		atomic_fetch_add(&u->n->reads_refused, 1);
		return;
	}
	for (unsigned i = 0; i < FILE_READS; i++)
		read_at(u, f, i ? some_offset(u, (uint64_t)a->st.st_size) : 0, READ_BYTES);
	tree_seek(f, some_offset(u, (uint64_t)a->st.st_size), SEEK_DATA, &at);
	tree_seek(f, some_offset(u, (uint64_t)a->st.st_size), SEEK_HOLE, &at);
	blocks.n = 0;
	if (!tree_blocks(f, chance_below(u->c, 2) ? 0 : chance_evil(u->c), &blocks))
		CHECK(blocks.n <= SPILLFS_BLOCKS_MAX);
	tree_flush(f, true);
	tree_file_release(f);
}

static void read_xattrs(struct use *u, uint64_t ino)
{
	static const char *const hidden[] = { SPILLFS_XATTR_DTYPE, SPILLFS_XATTR_SHAPE, SPILLFS_XATTR_BLOCK_SIZE, SPILLFS_XATTR_KIND,
					      SPILLFS_XATTR_STORED_BYTES, SPILLFS_XATTR_LENGTH, SPILLFS_XATTR_EXTENTS, SPILLFS_XATTR_RUNS,
					      SPILLFS_XATTR_LAYERS, SPILLFS_XATTR_LOGICAL, SPILLFS_XATTR_CODEC };
	char *list;
	void *value;
	size_t n, len;

	if (!tree_listxattr(u->t, ino, &list, &n)) {
		for (size_t at = 0; at < n; at += strlen(list + at) + 1)
			if (!tree_getxattr(u->t, ino, list + at, &value, &len))
				free(value);
		free(list);
	}
	if (!tree_getxattr(u->t, ino, hidden[chance_below(u->c, sizeof(hidden) / sizeof(*hidden))], &value, &len))
		free(value);
}

/* ---- the tree ---- */

static void walk(struct use *u, uint64_t dir, unsigned depth);

static void remember(struct use *u, uint64_t parent, const char *name, const struct tree_attr *a)
{
	struct known *k = &u->known[u->nknown < KNOWN_MAX ? u->nknown++ : chance_below(u->c, KNOWN_MAX)];

	*k = (struct known){ .parent = parent, .ino = a->st.st_ino, .mode = a->st.st_mode };
	snprintf(k->name, sizeof(k->name), "%s", name);
}

static void visit(struct use *u, uint64_t parent, const char *name, const struct tree_attr *a, unsigned depth)
{
	uint64_t ino = a->st.st_ino;
	struct tree_attr again;
	char *target;

	u->nodes++;
	atomic_fetch_add(&u->n->nodes, 1);
	CHECK(a->st.st_size >= 0);
	tree_getattr(u->t, ino, &again);
	read_xattrs(u, ino);
	remember(u, parent, name, a);
	if (S_ISLNK(a->st.st_mode) && !tree_readlink(u->t, ino, &target))
		free(target);
	if (S_ISREG(a->st.st_mode))
		read_file(u, a);
	if (S_ISDIR(a->st.st_mode))
		walk(u, ino, depth + 1);
}

/* Names that listings do not have. */
static void look_up(struct use *u, uint64_t dir)
{
	static const char *const names[] = { "a.i32.npy", "@1", "@2", "@4..@6", "1..4", "..", ".", "big.i64.npy", "table.arrow", "table.parquet",
					     "d", "first", "views", "x", "@18446744073709551615", "layers.zarr", "runs.u32" };
	const char *name = names[chance_below(u->c, sizeof(names) / sizeof(*names))];
	struct tree_attr a;

	if (tree_lookup(u->t, dir, name, &me, &a))
		return;
	if (S_ISREG(a.st.st_mode))
		read_file(u, &a);
	tree_forget(u->t, a.st.st_ino, 1);
}

static void walk(struct use *u, uint64_t dir, unsigned depth)
{
	struct tree_dirent *v = malloc(8 * sizeof(*v));
	unsigned listings = 0, seen = 0;
	struct tree_dir *d;
	uint64_t cookie = 0;
	size_t n = 1;

	if (v && depth < DEPTH_MAX && !tree_dir_open(u->t, &d)) {
		while (n && seen < ENTRIES_MAX && !tree_dir_read(u->t, d, dir, cookie, true, v, 8, &n)) {
			CHECK(listings++ < LISTINGS_MAX && n <= 8);
			for (size_t i = 0; i < n; i++) {
				cookie = v[i].cookie;
				seen++;
				if (!v[i].counted)
					continue;
				if (u->nodes < NODES_MAX && strcmp(v[i].name, ".") && strcmp(v[i].name, ".."))
					visit(u, dir, v[i].name, &v[i].attr, depth);
				tree_forget(u->t, v[i].attr.st.st_ino, 1);
			}
		}
		tree_dir_release(u->t, d);
	}
	look_up(u, dir);
	free(v);
}

/* ---- changes ---- */

static int change_data(struct use *u, const struct known *k, uint64_t how)
{
	struct tree_file_info info = { .direct = true };
	struct tree_write_how w = { .flags = O_RDWR };
	struct tree_file *f;
	size_t in = 0;
	int err;

	w.flags |= how == 1 ? O_APPEND : 0;
	err = tree_file_open(u->t, k->ino, w.flags, &me, &f, &info);
	if (err)
		return err;
	if (how == 2)
		err = tree_fallocate(f, chance_below(u->c, 4), chance_below(u->c, 50000), 1 + chance_below(u->c, 50000), &me);
	else
		err = tree_write(f, u->buf, 1 + chance_below(u->c, 9000), how ? 0 : chance_below(u->c, 60000), &w, &in);
	if (!err)
		err = tree_flush(f, true);
	tree_file_release(f);
	return err;
}

static int change_size(struct use *u, const struct known *k)
{
	const uint64_t sizes[] = { 0, 1, 5000, 70000, (uint64_t)1 << 33 };
	struct stat st = { .st_size = (off_t)sizes[chance_below(u->c, 5)] };
	struct tree_attr a;

	return tree_setattr(u->t, k->ino, TREE_SET_SIZE, &st, &me, NULL, &a);
}

static int change_names(struct use *u, const struct known *k, const struct known *other, uint64_t how)
{
	struct tree_attr a;
	int err;

	switch (how) {
	case 0:
		return S_ISDIR(k->mode) ? tree_rmdir(u->t, k->parent, k->name) : tree_unlink(u->t, k->parent, k->name, &me);
	case 1:
		return tree_rename(u->t, k->parent, k->name, other->parent, other->name, chance_below(u->c, 4) ? 0 : RENAME_EXCHANGE, &me);
	case 2:
		return tree_rename(u->t, k->parent, k->name, S_ISDIR(other->mode) ? other->ino : other->parent, "renamed", 0, &me);
	case 3:
		err = tree_link(u->t, k->ino, other->parent, "linked", &a);
		break;
	default:
		err = tree_make(u->t, S_ISDIR(k->mode) ? k->ino : k->parent, how == 4 ? "made" : "dir", how == 4 ? S_IFREG | 0644 : S_IFDIR | 0755, 0,
				NULL, &me, &a);
	}
	if (!err)
		tree_forget(u->t, a.st.st_ino, 1);
	return err;
}

static int change_facts(struct use *u, const struct known *k)
{
	static const char *const v[][2] = { { SPILLFS_XATTR_DTYPE, "f64" }, { SPILLFS_XATTR_SHAPE, "10,10" }, { SPILLFS_XATTR_BLOCK_SIZE, "8192" },
					    { SPILLFS_XATTR_CODEC, "none" }, { "user.x", "y" }, { SPILLFS_XATTR_MARK, "1" } };
	uint64_t i = chance_below(u->c, 7);
	struct spillfs_mark mark;

	return i == 6 ? tree_mark(u->t, k->ino, &mark) : tree_setxattr(u->t, k->ino, v[i][0], v[i][1], strlen(v[i][1]), 0, NULL);
}

/* The kernel knows what it names: it looks the file up first, and forgets it at the end. */
static void change(struct use *u)
{
	const struct known *k = &u->known[chance_below(u->c, u->nknown)], *other = &u->known[chance_below(u->c, u->nknown)];
	uint64_t what = chance_below(u->c, 8);
	struct tree_attr a, b;
	int err = tree_lookup(u->t, k->parent, k->name, &me, &a);

	if (err)
		return;
	if (!tree_lookup(u->t, other->parent, other->name, &me, &b)) {
		if (a.st.st_ino != k->ino)
			err = -ESTALE;
		else if (what < 3 && S_ISREG(a.st.st_mode))
			err = change_data(u, k, what);
		else if (what == 3)
			err = change_size(u, k);
		else if (what == 4)
			err = change_facts(u, k);
		else
			err = change_names(u, k, other, chance_below(u->c, 6));
		tree_forget(u->t, b.st.st_ino, 1);
	}
	tree_forget(u->t, a.st.st_ino, 1);
	count(&u->n->writes, &u->n->writes_refused, err);
}

static void commit(struct use *u)
{
	struct spillfs_compact state;
	struct tree_attr a;
	uint64_t layer;
	bool sealed;

	count(&u->n->commits, &u->n->commits_refused, tree_sync(u->t));
	if (chance_below(u->c, 3) == 0 && !tree_make(u->t, CONTROL_SNAPSHOTS, "mine", S_IFDIR | 0755, 0, NULL, &me, &a))
		tree_forget(u->t, a.st.st_ino, 1);
	if (chance_below(u->c, 3) == 0)
		tree_rmdir(u->t, CONTROL_SNAPSHOTS, "first");
	count(&u->n->commits, &u->n->commits_refused, tree_commit(u->t, &layer, &sealed));
	if (chance_below(u->c, 3))
		return;
	if (!tree_compact(u->t, true, &state))
		while (state.running && !tree_compact(u->t, false, &state))
			usleep(500);
}

static void change_all(struct use *u)
{
	for (unsigned i = 0; i < CHANGES && u->nknown; i++)
		change(u);
	commit(u);
}

/* ---- stores ---- */

static void use_dir(struct io_dir *dir, bool write, struct chance *c, struct use_counts *n)
{
	struct store_config config = { .cache_bytes = 4 << 20, .dirty_bytes = 4 << 20, .threads = 1, .pool_files = 2, .keep = 4 };
	struct use u = { .c = c, .n = n };
	struct world w;
	int err;

	config.follow = !write;
	err = world_open_dir(&w, dir, &config);
	count(&n->opens, &n->opens_refused, err);
	if (err)
		return;
	u.t = w.tree;
	u.buf = calloc(1, READ_BYTES);
	CHECK(u.buf);
	walk(&u, META_INO_ROOT, 0);
	if (write)
		change_all(&u);
	free(u.buf);
	world_close(&w);
}

static void use_disk(struct io_dir *disk, bool write, struct chance *c, struct use_counts *n)
{
	struct io_dir *dir;

	CHECK_OK(io_mem_again(disk, &dir));
	use_dir(dir, write, c, n);
}

void use_mount(const struct image *im, bool write, struct chance *c, struct use_counts *n)
{
	struct io_dir *disk = image_to_mem(im);

	use_disk(disk, write, c, n);
	/* What a daemon has made of it, it can be given again. */
	if (write && chance_below(c, 2))
		use_disk(disk, chance_below(c, 2), c, n);
	io_dir_close(disk);
}

static void no_line(void *ctx, const char *line)
{
	(void)ctx, (void)line;
}

void use_rebuild(const struct image *im, struct chance *c, struct use_counts *n)
{
	struct io_dir *disk = image_to_mem(im), *dir;
	struct rebuild_report report;
	struct store_refusal why;
	int err;

	CHECK_OK(io_mem_again(disk, &dir));
	err = store_rebuild(dir, NULL, "test", true, no_line, NULL, &report, &why);
	count(&n->rebuilds, &n->rebuilds_refused, err);
	if (!err)
		use_disk(disk, true, c, n);
	io_dir_close(disk);
}

static int check(const char *path, bool repair)
{
	char *argv[] = { "check", repair ? "--repair" : "-n", "--data", (char *)path, NULL };
	int out, null = open("/dev/null", O_WRONLY | O_CLOEXEC), code;

	fflush(stdout);
	out = dup(1);
	CHECK(null >= 0 && out >= 0 && dup2(null, 1) == 1);
	code = check_main("check", 4, argv);
	fflush(stdout);
	CHECK(dup2(out, 1) == 1);
	close(out);
	close(null);
	return code;
}

void use_check(const struct image *im, struct chance *c, struct use_counts *n)
{
	const char *tmp = getenv("TMPDIR");
	char path[256], command[300];
	struct io_dir *dir;
	int fd;

	snprintf(path, sizeof(path), "%s/hostile.XXXXXX", tmp ? tmp : "/tmp");
	CHECK(mkdtemp(path));
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(fd >= 0);
	image_to_system(im, fd);
	count(&n->checks_clean, &n->checks, check(path, false) != CHECK_CLEAN);
	if (chance_below(c, 2)) {
		count(&n->repairs_clean, &n->repairs, check(path, true) & ~CHECK_CORRECTED);
		CHECK_OK(io_file_dir(dup(fd), IO_BACKING_BUFFERED, NULL, &dir));
		use_dir(dir, true, c, n);
	}
	close(fd);
	snprintf(command, sizeof(command), "rm -rf '%s'", path);
	CHECK(system(command) == 0);
}
