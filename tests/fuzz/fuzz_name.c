/*
 * Fuzz target: names, in the directories of every world. A step is a byte for the directory, one for what is done, the name up to a NUL,
 * and what that needs. Names of snapshots, views, uploads, deltas, differences and control files are looked up, opened and read, made,
 * renamed and removed; listings are looked up. What was made is there, what was removed is gone, what is listed is found.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "fuzz.h"
#include "fuzz_world.h"
#include "tree/control/control.h"

#define STEPS_MAX 16
#define LISTINGS_MAX 200
#define LISTED 16

static const struct tree_caller me;

static const char *const dirs[] = {
	"", "snapshots", "deltas", ".spillfs", ".spillfs/diff", "snapshots/first", "snapshots/@2/layers", "snapshots/second/layers/d/e",
	"snapshots/first/views", "snapshots/first/views/npy/layers", "views", "views/npy", "views/npy/layers", "views/npy/layers/d",
	"views/npy/columns", "views/zarr/layers", "views/zarr/layers/a.zarr", "views/zarr/layers/a.zarr/c", "views/zarr2/layers/a.zarr",
	"views/zarr/columns/big.zarr", "views/zarr/columns/big.zarr/c", "views/zarr2/columns/big.zarr", "views/parquet/columns",
	"views/arrow/layers/d", "views/zst/layers", "views/runs/buckets", "views/runs/buckets/runs.u32", "layers", "layers/d/e", "buckets",
	"columns", "columns/table",
};
#define NDIRS (sizeof(dirs) / sizeof(*dirs))

static uint64_t find_dir(struct world *w, const char *path)
{
	struct fuzz_input in = { (const uint8_t *)path, strlen(path) };
	struct tree_attr a = { .st.st_ino = META_INO_ROOT };

	while (in.n) {
		char *name = fuzz_text(&in, '/');
		int err = tree_lookup(w->tree, a.st.st_ino, name, NULL, &a);

		free(name);
		if (err || !S_ISDIR(a.st.st_mode))
			return 0; /* an earlier step has removed it */
	}
	return a.st.st_ino;
}

/* The kernel passes on no others. */
static bool is_name(const char *name)
{
	return *name && strlen(name) < 1024 && !strchr(name, '/') && strcmp(name, ".") && strcmp(name, "..");
}

static void check_err(int err)
{
	CHECK(err <= 0 && err > -4096 && err != -EUCLEAN && err != -EIO && err != -ENOMEM && err != -EFAULT);
}

/* ---- steps ---- */

static void read_file(struct world *w, uint64_t ino, struct fuzz_input *in)
{
	struct tree_file_info info = { 0 };
	uint64_t off = fuzz_number(in, 2) << (fuzz_number(in, 1) & 47), at;
	size_t len = fuzz_number(in, 2);
	struct tree_file *f;
	long got;
	int err = tree_file_open(w->tree, ino, O_RDONLY, &me, &f, &info);

	check_err(err);
	if (err)
		return;
	got = fuzz_world_read(f, off, len);
	check_err(got < 0 ? (int)got : 0);
	check_err(tree_seek(f, off, in->n & 1 ? SEEK_DATA : SEEK_HOLE, &at));
	check_err(tree_flush(f, true));
	tree_file_release(f);
}

static void look(struct world *w, uint64_t dir, const char *name, struct fuzz_input *in)
{
	struct tree_attr a, again;
	int err = tree_lookup(w->tree, dir, name, &me, &a);

	check_err(err);
	if (err)
		return;
	CHECK_OK(tree_getattr(w->tree, a.st.st_ino, &again));
	CHECK(dir != CONTROL_DIFF || !strstr(name, "%00"));
	CHECK((a.st.st_mode & S_IFMT) == (again.st.st_mode & S_IFMT) && a.st.st_size >= 0);
	if (S_ISREG(a.st.st_mode))
		read_file(w, a.st.st_ino, in);
	tree_forget(w->tree, a.st.st_ino, 1);
}

static bool is_there(struct world *w, uint64_t dir, const char *name)
{
	struct tree_attr a;

	if (tree_lookup(w->tree, dir, name, &me, &a))
		return false;
	tree_forget(w->tree, a.st.st_ino, 1);
	return true;
}

static void make(struct world *w, uint64_t dir, const char *name, mode_t mode)
{
	struct tree_attr a;
	int err = tree_make(w->tree, dir, name, mode, 0, S_ISLNK(mode) ? name : NULL, &me, &a);

	check_err(err);
	if (err)
		return;
	fuzz_world_changed();
	tree_forget(w->tree, a.st.st_ino, 1);
	CHECK(is_there(w, dir, name));
}

/* Also an upload of a view: whatever comes of it, it is whole or not there. */
static void create(struct world *w, uint64_t dir, const char *name, struct fuzz_input *in)
{
	struct tree_file_info info = { .direct = true };
	struct tree_write_how how = { .flags = O_RDWR, .direct = true, .who = &me };
	size_t len, n = 0, put = 0;
	struct tree_file *f;
	struct tree_attr a;
	void *bytes;
	int err = tree_create(w->tree, dir, name, 0644, &me, &a);

	check_err(err);
	if (err)
		return;
	fuzz_world_changed();
	bytes = fuzz_bytes(in, fuzz_number(in, 2), &len);
	err = tree_file_open(w->tree, a.st.st_ino, O_RDWR, &me, &f, &info);
	check_err(err);
	while (!err && n < len && !tree_write(f, (char *)bytes + n, len - n, n, &how, &put) && put)
		n += put;
	if (!err) {
		tree_flush(f, true);
		tree_file_release(f);
	}
	tree_forget(w->tree, a.st.st_ino, 1);
	free(bytes);
}

static void take_away(struct world *w, uint64_t dir, const char *name, bool is_dir)
{
	int err = is_dir ? tree_rmdir(w->tree, dir, name) : tree_unlink(w->tree, dir, name, &me);

	check_err(err);
	if (!err)
		fuzz_world_changed();
}

static void move(struct world *w, uint64_t dir, const char *name, struct fuzz_input *in)
{
	uint64_t to = find_dir(w, dirs[fuzz_number(in, 1) % NDIRS]);
	unsigned flags = (unsigned)fuzz_number(in, 1) & 3;
	char *newname = fuzz_text(in, '\0');
	struct tree_attr a;
	int err;

	/* As the kernel does, which knows what it moves. */
	if (to && is_name(newname) && !tree_lookup(w->tree, dir, name, &me, &a)) {
		err = tree_rename(w->tree, dir, name, to, newname, flags, &me);
		check_err(err);
		if (!err)
			fuzz_world_changed();
		tree_forget(w->tree, a.st.st_ino, 1);
	}
	free(newname);
}

/* Cookies rise, and each entry is found. */
static void list(struct world *w, uint64_t dir)
{
	struct tree_dirent *v = malloc(LISTED * sizeof(*v));
	struct tree_dir *d;
	uint64_t cookie = 0;
	size_t n = 1;

	CHECK(v);
	CHECK_OK(tree_dir_open(w->tree, &d));
	for (int k = 0; n && k < LISTINGS_MAX; k++) {
		check_err(tree_dir_read(w->tree, d, dir, cookie, false, v, LISTED, &n));
		CHECK(n <= LISTED);
		for (size_t i = 0; i < n; i++) {
			CHECK(v[i].cookie > cookie && memchr(v[i].name, '\0', sizeof(v[i].name)));
			cookie = v[i].cookie;
			CHECK(!is_name(v[i].name) || is_there(w, dir, v[i].name));
		}
	}
	tree_dir_release(w->tree, d);
	free(v);
}

static void step(struct world *w, struct fuzz_input *in)
{
	uint64_t dir = find_dir(w, dirs[fuzz_number(in, 1) % NDIRS]);
	unsigned what = (unsigned)fuzz_number(in, 1) % 16;
	char *name = fuzz_text(in, '\0');

	if (!dir || !is_name(name)) {
		free(name);
		return;
	}
	switch (what) {
	case 0: make(w, dir, name, S_IFDIR | 0755); break;
	case 1: make(w, dir, name, S_IFLNK | 0777); break;
	case 2: take_away(w, dir, name, true); break;
	case 3: take_away(w, dir, name, false); break;
	case 4: move(w, dir, name, in); break;
	case 5:
	case 6: create(w, dir, name, in); break;
	case 7: list(w, dir); break;
	default: look(w, dir, name, in);
	}
	free(name);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	struct world *w = fuzz_world();

	for (int i = 0; in.n && i < STEPS_MAX; i++)
		step(w, &in);
	return 0;
}
