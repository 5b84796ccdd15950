/*
 * Open files of the live tree: what the kernel is told of them, and when.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/xattr.h>

#include "io/io.h"
#include "spillfs.h"
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
	reader = open_file(&w, ino, O_RDONLY, &info);
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
