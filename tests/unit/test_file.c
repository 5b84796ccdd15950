/*
 * Open files of the live tree: what the kernel is told of them, and when.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/xattr.h>

#include "io/io.h"
#include "spillfs.h"
#include "store/classes.h"
#include "store/meta.h"
#include "tree/tree.h"
#include "unit.h"
#include "world.h"

static const struct tree_caller me = { 0 };

/* A small file, which the kernel knows from then on. */
static uint64_t make(struct world *w, uint64_t dir, const char *name)
{
	struct tree_attr a = { 0 };

	CHECK_OK(world_write(w, dir, name, "12345", 5));
	CHECK_OK(tree_lookup(w->tree, dir, name, NULL, &a));
	return a.st.st_ino;
}

/* As on a mount without the kernel's writeback cache. */
static struct tree_file *open_file(struct world *w, uint64_t ino, int flags, struct tree_file_info *info)
{
	struct tree_file *f = NULL;

	*info = (struct tree_file_info){ .direct = true, .maps = true };
	CHECK_OK(tree_file_open(w->tree, ino, flags, &me, &f, info));
	return f;
}

/* ---- passthrough ---- */

static uint32_t backings;

static int open_backing(void *ctx, int fd, uint32_t *id_out)
{
	(void)ctx;
	(void)fd;
	*id_out = ++backings;
	return 0;
}

static void close_backing(void *ctx, uint32_t id)
{
	(void)ctx;
	(void)id;
}

/* A store in a directory, whose columns can be passed through. */
static void open_passing(struct world *w)
{
	struct io_dir *dir = NULL;

	CHECK_OK(io_file_dir(unit_tmpdir_fd(), IO_BACKING_BUFFERED, NULL, &dir));
	CHECK_OK(world_open_dir(w, dir, &world_config));
	tree_on_passthrough(w->tree, &(struct tree_passthrough){ .open = open_backing, .close = close_backing });
}

/* The kernel takes an answer to an open when the opener gets to run, which can be after others have come and gone: all opens that are
 * not released are of one mode, in whatever order they came. */
UNIT_TEST(opens_of_a_column_all_pass_through_or_none)
{
	struct tree_file_info info;
	struct tree_file *reader, *writer, *late;
	struct world w;
	uint64_t ino;

	open_passing(&w);
	ino = make(&w, META_INO_COLUMNS, "small");
	reader = open_file(&w, ino, O_RDONLY, &info); /* few bytes: cached */
	CHECK_EQ(info.backing, 0);
	CHECK(!info.direct);
	writer = open_file(&w, ino, O_WRONLY, &info); /* neither cached nor passed through */
	CHECK_EQ(info.backing, 0);
	CHECK(info.direct);
	tree_file_release(reader);
	late = open_file(&w, ino, O_RDWR, &info);
	CHECK_EQ(info.backing, 0);
	tree_file_release(writer);
	tree_file_release(late);
	writer = open_file(&w, ino, O_WRONLY, &info);
	CHECK(info.backing);
	late = open_file(&w, ino, O_WRONLY | O_DSYNC, &info);
	CHECK(info.backing);
	CHECK(info.direct);
	tree_file_release(late);
	tree_file_release(writer);
	CHECK_OK(world_close(&w));
}

UNIT_TEST(bounds_and_consuming_do_not_change_the_mode_of_a_column)
{
	struct tree_file_info info;
	struct tree_file *first, *f;
	struct world w;
	uint32_t backing;
	uint64_t ino;

	open_passing(&w);
	ino = make(&w, META_INO_COLUMNS, "small");
	first = open_file(&w, ino, O_RDWR, &info);
	backing = info.backing;
	CHECK(backing);
	CHECK_OK(tree_setxattr(w.tree, META_INO_COLUMNS, SPILLFS_XATTR_QUOTA, "1M", 2, 0, &me));
	for (int flags = O_RDONLY; flags <= O_RDWR; flags++) {
		f = open_file(&w, ino, flags, &info);
		CHECK_EQ(info.backing, backing);
		CHECK(info.direct); /* its reads and writes come here */
		tree_file_release(f);
	}
	tree_file_release(first);
	f = open_file(&w, ino, O_RDWR, &info);
	CHECK_EQ(info.backing, 0);
	tree_file_release(f);
	CHECK_OK(world_close(&w));
}

/* ---- pages of the kernel ---- */

static struct {
	unsigned n;
	uint64_t off_bytes, end_bytes;
	void (*then)(void *ctx);
	void *ctx;
} dropping;

static void drop_later(void *ctx, uint64_t ino, uint64_t off, uint64_t len, void (*then)(void *ctx), void *then_ctx)
{
	(void)ctx;
	(void)ino;
	dropping.n++;
	dropping.off_bytes = off;
	dropping.end_bytes = off + len;
	dropping.then = then;
	dropping.ctx = then_ctx;
}

static void write_at(struct tree_file *f, uint64_t off, size_t len, bool direct)
{
	static const char bytes[9000];
	size_t n = 0;

	dropping.then = NULL;
	CHECK_OK(tree_write(f, bytes, len, off, &(struct tree_write_how){ .direct = direct, .who = &me }, &n));
	CHECK_EQ(n, len);
}

static uint64_t size_told(struct world *w, uint64_t ino)
{
	struct tree_attr a = { 0 };

	CHECK_OK(tree_getattr(w->tree, ino, &a));
	return (uint64_t)a.st.st_size;
}

/* Who reads to the size that stat tells finds no zeros of the kernel's old page. */
UNIT_TEST(the_size_is_told_when_the_old_pages_are_gone)
{
	struct tree_file_info info;
	struct world w;

	world_open(&w, world_disk(), &world_config);
	tree_on_changes(w.tree, &(struct tree_changes){ .pages = drop_later });
	for (size_t k = 0; k < CLASSES_N; k++) {
		uint64_t ino = make(&w, classes[k].ino, "f");
		struct tree_file *writer = open_file(&w, ino, O_WRONLY, &info), *reader, *both;

		CHECK(info.direct);
		dropping.n = 0;
		write_at(writer, 5, 100, true);
		CHECK_EQ(dropping.n, 0);
		CHECK_EQ(size_told(&w, ino), 105);
		reader = open_file(&w, ino, O_RDONLY, &info);
		CHECK(!info.direct);
		write_at(writer, 105, 5000, true);
		CHECK_EQ(dropping.n, 1);
		CHECK_EQ(dropping.off_bytes, 105);
		CHECK_EQ(dropping.end_bytes, 5105);
		CHECK_EQ(size_told(&w, ino), 105);
		dropping.then(dropping.ctx);
		CHECK_EQ(size_told(&w, ino), 5105);
		/* A cached handle, around the cache and through it: the kernel puts the latter into its page first. */
		both = open_file(&w, ino, O_RDWR, &info);
		CHECK(!info.direct);
		write_at(both, 5105, 10, true);
		CHECK_EQ(size_told(&w, ino), 5105);
		dropping.then(dropping.ctx);
		write_at(both, 5115, 10, false);
		CHECK_EQ(size_told(&w, ino), 5125);
		/* What makes it no longer has nothing to wait for. */
		write_at(writer, 0, 10, true);
		CHECK_EQ(dropping.n, 3);
		CHECK(!dropping.then);
		tree_file_release(both);
		tree_file_release(reader);
		tree_file_release(writer);
		tree_forget(w.tree, ino, 1);
	}
	tree_on_changes(w.tree, &(struct tree_changes){ 0 });
	CHECK_OK(world_close(&w));
}

/* The kernel makes the requests of one asynchronous write at the same time. */
UNIT_TEST(the_size_is_told_after_all_parts_of_a_write)
{
	struct tree_file_info info;
	void (*then[2])(void *ctx);
	void *ctx[2];
	struct tree_file *f;
	struct world w;
	uint64_t ino;

	world_open(&w, world_disk(), &world_config);
	tree_on_changes(w.tree, &(struct tree_changes){ .pages = drop_later });
	ino = make(&w, META_INO_LAYERS, "f");
	f = open_file(&w, ino, O_RDWR, &info);
	for (unsigned k = 0; k < 2; k++) {
		write_at(f, 5 + (1 - k) * 1000, 1000, true);
		then[k] = dropping.then;
		ctx[k] = dropping.ctx;
		if (!k)
			CHECK(then[k]);
	}
	CHECK_EQ(size_told(&w, ino), 5);
	then[0](ctx[0]);
	CHECK_EQ(size_told(&w, ino), 2005);
	tree_file_release(f);
	tree_on_changes(w.tree, &(struct tree_changes){ 0 });
	CHECK_OK(world_close(&w));
}

static bool keeps(struct world *w, uint64_t ino, struct tree_file **out)
{
	struct tree_file_info info;

	*out = open_file(w, ino, O_RDONLY, &info);
	return info.keep_cache;
}

static void read_some(struct tree_file *f)
{
	struct tree_read r;

	CHECK_OK(tree_read_begin(f, 0, 5, 0, &r));
	tree_read_end(&r);
}

/* Of two opens the later one can be the first to reach the kernel: until one that drops the old pages is known to have, none keeps them. */
UNIT_TEST(an_open_keeps_pages_when_the_old_ones_are_known_to_be_gone)
{
	struct tree_file *first, *second, *third, *writer;
	struct tree_file_info info;
	struct world w;
	uint64_t ino;

	world_open(&w, world_disk(), &world_config);
	ino = make(&w, META_INO_LAYERS, "f");
	CHECK(keeps(&w, ino, &first) == false); /* it was written by world_write, around the cache */
	read_some(first);
	CHECK(keeps(&w, ino, &second));
	tree_file_release(second);
	tree_file_release(first);
	writer = open_file(&w, ino, O_WRONLY, &info);
	write_at(writer, 0, 5, true);
	tree_file_release(writer);
	CHECK(!keeps(&w, ino, &first));
	CHECK(!keeps(&w, ino, &second));
	read_some(second);
	CHECK(keeps(&w, ino, &third));
	/* What came after an open is not gone by it. */
	writer = open_file(&w, ino, O_WRONLY, &info);
	write_at(writer, 0, 5, true);
	tree_file_release(writer);
	read_some(first);
	tree_file_release(third);
	CHECK(!keeps(&w, ino, &third));
	tree_file_release(third);
	tree_file_release(second);
	tree_file_release(first);
	CHECK_OK(world_close(&w));
}
