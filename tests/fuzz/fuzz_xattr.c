/*
 * Fuzz target: extended attributes of files and directories of every world, through the whole stack. A step is a byte for the file, one for what is done,
 * one for the name (a known one, or the text that follows), and for a value two bytes of its length and the value. What was set is
 * read and listed; what was removed is not; data stay as they are; and a commit has of arrays what they have.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/xattr.h>

#include "array/acl.h"
#include "fuzz.h"
#include "fuzz_world.h"
#include "spillfs.h"
#include "tree/xattr.h"

#define STEPS_MAX 20

static const struct tree_caller me;

/* ---- files ---- */

static const char *const paths[] = {
	"layers/a.i32", "layers/d/b", "layers/d", "layers", "layers/d/e/link", "layers/d/e/pipe",
	"buckets/runs.u32", "buckets/d", "columns/small", "columns/big.i64", "columns/table",
	"snapshots/first/layers/a.i32", "snapshots", "views/npy/layers/a.npy", "views/runs/buckets/runs.u32/000000",
	"views/parquet/columns/table.parquet", "views/npy/columns", ".spillfs/stats", "deltas/00000001.zst",
};
#define NPATHS (sizeof(paths) / sizeof(*paths))

static const char *const names[] = {
	SPILLFS_XATTR_DTYPE, SPILLFS_XATTR_SHAPE, SPILLFS_XATTR_ORDER, SPILLFS_XATTR_LOGICAL, SPILLFS_XATTR_BLOCK_SIZE,
	SPILLFS_XATTR_CODEC, SPILLFS_XATTR_FILTER, SPILLFS_XATTR_KIND, SPILLFS_XATTR_STORED_BYTES, SPILLFS_XATTR_LENGTH,
	SPILLFS_XATTR_EXTENTS, SPILLFS_XATTR_RUNS, SPILLFS_XATTR_LAYERS, SPILLFS_XATTR_MARK, ACL_ACCESS, ACL_DEFAULT,
	"user.note", "trusted.x", "security.capability", "spillfs.codec", "user.", "system.other",
};
#define NNAMES (sizeof(names) / sizeof(*names))

static uint64_t find(struct world *w, const char *path, mode_t *mode)
{
	struct fuzz_input in = { (const uint8_t *)path, strlen(path) };
	struct tree_attr a = { .st.st_ino = META_INO_ROOT };

	while (in.n) {
		char *name = fuzz_text(&in, '/');

		CHECK_OK(tree_lookup(w->tree, a.st.st_ino, name, NULL, &a));
		free(name);
	}
	*mode = a.st.st_mode;
	return a.st.st_ino;
}

/* ---- one attribute ---- */

static bool is_listed(struct world *w, uint64_t ino, const char *name)
{
	bool found = false;
	char *list;
	size_t n;

	CHECK_OK(tree_listxattr(w->tree, ino, &list, &n));
	for (size_t at = 0; at < n; at += strlen(list + at) + 1) {
		CHECK(memchr(list + at, '\0', n - at) && list[at]);
		found |= !strcmp(list + at, name);
	}
	free(list);
	return found;
}

/* Reading does not give what was set: the mark is an act, an access ACL may be a mode and no more, and the size of blocks is read as it
 * is in effect. */
static bool is_as_set(const char *name)
{
	return strcmp(name, SPILLFS_XATTR_MARK) && !acl_is_name(name) && strcmp(name, SPILLFS_XATTR_BLOCK_SIZE);
}

static void check_set(struct world *w, uint64_t ino, const char *name, const void *value, size_t len)
{
	void *got = NULL;
	size_t got_len = 0;

	if (!is_as_set(name))
		return;
	CHECK_OK(tree_getxattr(w->tree, ino, name, &got, &got_len));
	CHECK(got_len == len && (!len || !memcmp(got, value, len)));
	/* A view says itself what the settings say. */
	CHECK(is_listed(w, ino, name) || (tree_is_view(ino) && xattr_is_setting(name)));
	free(got);
}

static void set(struct world *w, uint64_t ino, const char *name, int flags, struct fuzz_input *in)
{
	size_t len;
	void *value = fuzz_bytes(in, fuzz_number(in, 2), &len), *before;
	size_t before_len;
	bool was = !tree_getxattr(w->tree, ino, name, &before, &before_len);
	int err = tree_setxattr(w->tree, ino, name, value, len, flags, &me);

	if (was)
		free(before);
	if (!err) {
		fuzz_world_changed();
		CHECK(!xattr_is_read_only(name));
		check_set(w, ino, name, value, len);
	} else {
		CHECK(err != -EUCLEAN && err != -EIO && err != -ENOMEM);
	}
	free(value);
}

static void get(struct world *w, uint64_t ino, const char *name)
{
	void *value;
	size_t len;

	if (!tree_getxattr(w->tree, ino, name, &value, &len))
		free(value);
}

static void take_away(struct world *w, uint64_t ino, const char *name)
{
	int err = tree_removexattr(w->tree, ino, name, &me);

	if (err)
		return;
	fuzz_world_changed();
	CHECK(!is_listed(w, ino, name));
}

/* Names that the kernel passes on have 1 to 255 bytes. */
static char *take_name(struct fuzz_input *in)
{
	size_t i = fuzz_number(in, 1);
	char *name = i < NNAMES ? fuzz_copy(names[i], strlen(names[i]) + 1) : fuzz_text(in, '\0');

	if (*name && strlen(name) <= 255)
		return name;
	free(name);
	return fuzz_copy("user.x", 7);
}

static void step(struct world *w, struct fuzz_input *in)
{
	static const int flags[] = { 0, XATTR_CREATE, XATTR_REPLACE, 0 };
	const char *path = paths[fuzz_number(in, 1) % NPATHS];
	unsigned what = (unsigned)fuzz_number(in, 1) % 8;
	char *name = take_name(in);
	mode_t mode;
	uint64_t ino = find(w, path, &mode);

	if (what < 4)
		set(w, ino, name, flags[what], in);
	else if (what < 6)
		get(w, ino, name);
	else if (what == 6)
		take_away(w, ino, name);
	else
		is_listed(w, ino, name);
	free(name);
}

/* ---- the whole ---- */

/* Whatever attributes say, the bytes are those of the file. */
static void check_data(struct world *w, const char *path)
{
	static struct {
		unsigned char *bytes;
		size_t n;
	} once[NPATHS];
	size_t k = 0;
	unsigned char *got;
	size_t n;

	while (strcmp(paths[k], path))
		k++;
	CHECK_OK(world_read(w, path, &got, &n));
	if (!once[k].bytes) {
		once[k].bytes = got;
		once[k].n = n;
		return;
	}
	CHECK(n == once[k].n && !memcmp(got, once[k].bytes, n));
	free(got);
}

/* The state of this moment has the attributes that the live file has. */
static void check_past(struct world *w, const char *path)
{
	char past[64];
	mode_t mode;
	uint64_t live = find(w, path, &mode), then;
	char *list;
	size_t n;

	snprintf(past, sizeof(past), "snapshots/now/%s", path);
	then = find(w, past, &mode);
	CHECK_OK(tree_listxattr(w->tree, live, &list, &n));
	for (size_t at = 0; at < n; at += strlen(list + at) + 1) {
		void *a, *b;
		size_t a_len, b_len;

		CHECK_OK(tree_getxattr(w->tree, live, list + at, &a, &a_len));
		CHECK_OK(tree_getxattr(w->tree, then, list + at, &b, &b_len));
		CHECK(a_len == b_len && (!a_len || !memcmp(a, b, a_len)));
		free(a);
		free(b);
	}
	free(list);
}

static void check_all(struct world *w)
{
	check_data(w, "layers/a.i32");
	check_data(w, "layers/d/b");
	check_data(w, "buckets/runs.u32");
	check_data(w, "columns/small");
	check_data(w, "columns/big.i64");
	CHECK_OK(world_snapshot(w, "now"));
	fuzz_world_changed();
	check_past(w, "layers/a.i32");
	check_past(w, "layers/d/b");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	struct world *w = fuzz_world();
	bool all = fuzz_number(&in, 1) & 1;

	for (int i = 0; in.n && i < STEPS_MAX; i++)
		step(w, &in);
	if (all)
		check_all(w);
	return 0;
}
