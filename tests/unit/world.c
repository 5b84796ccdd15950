/*
 * See world.h.
 */
#include "world.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "array/array.h"
#include "store/classes.h"
#include "store/commit.h"
#include "tree/control/control.h"
#include "tree/past/past.h"
#include "unit.h"

/* A test has fewer disks at a time. */
#define DISKS_MAX 16

const struct store_config world_config = { .cache_bytes = 4 << 20, .dirty_bytes = 4 << 20, .threads = 2, .pool_files = 2 };

static const struct tree_caller me;

/* ---- disks ---- */

struct io_dir *world_disk(void)
{
	static struct io_dir *disks[DISKS_MAX];
	static unsigned n;
	struct io_dir **d = &disks[n++ % DISKS_MAX];

	if (*d)
		io_dir_close(*d);
	CHECK_OK(io_mem_dir(d));
	return *d;
}

struct io_dir *world_faults(struct io_dir *disk)
{
	struct io_dir *again, *faults;

	CHECK_OK(io_mem_again(disk, &again));
	CHECK_OK(io_fault_dir(again, &faults));
	return faults;
}

bool world_has(struct io_dir *disk, const char *file)
{
	struct io *f;
	int err = io_open(disk, file, IO_RDONLY, &f);

	if (!err)
		io_close(f);
	return !err;
}

/* ---- worlds ---- */

int world_open_dir(struct world *w, struct io_dir *dir, const struct store_config *config)
{
	struct store_refusal why;
	struct tree_attr a;
	int err;

	*w = (struct world){ 0 };
	err = store_open(dir, "test", config, &w->store, &why);
	if (err)
		return err;
	err = tree_open(w->store, &w->tree);
	/* As the kernel does before it names anything in them. */
	for (size_t k = config->scratch ? CLASSES_N : config->follow ? 2 : 0; k < CLASSES_N && !err; k++)
		err = tree_lookup(w->tree, META_INO_ROOT, classes[k].name, NULL, &a);
	if (err)
		world_close(w);
	return err;
}

void world_open(struct world *w, struct io_dir *disk, const struct store_config *config)
{
	struct io_dir *dir;

	CHECK_OK(io_mem_again(disk, &dir));
	CHECK_OK(world_open_dir(w, dir, config));
}

void world_open_arrays(struct world *w, struct io_dir *disk, const struct store_config *config)
{
	struct store_refusal why;
	struct io_dir *dir;

	*w = (struct world){ .next_ino = 1000 };
	CHECK_OK(io_mem_again(disk, &dir));
	CHECK_OK(store_open(dir, "test", config, &w->store, &why));
	CHECK_OK(arrays_new(w->store, &w->home));
}

int world_close(struct world *w)
{
	if (w->tree)
		tree_close(w->tree);
	if (w->home)
		arrays_free(w->home);
	return store_close(w->store);
}

/* ---- trees ---- */

/* The part of *path up to the next slash, which it skips. */
static void take_name(const char **path, char out[META_NAME_MAX + 1])
{
	size_t n = strcspn(*path, "/");

	CHECK(n && n <= META_NAME_MAX);
	memcpy(out, *path, n);
	out[n] = '\0';
	*path += n;
	*path += **path == '/';
}

/* Each inode on the way gets a lookup. */
static int walk(struct world *w, const char *path, struct tree_attr *out)
{
	struct tree_attr at = { .st.st_ino = META_INO_ROOT };
	char name[META_NAME_MAX + 1];
	int err = 0;

	while (*path && !err) {
		take_name(&path, name);
		err = tree_lookup(w->tree, at.st.st_ino, name, NULL, &at);
	}
	if (!err)
		*out = at;
	return err;
}

int world_walk(struct world *w, const char *path, struct tree_attr *out)
{
	int err = walk(w, path, out);

	if (!err && !S_ISDIR(out->st.st_mode))
		tree_forget(w->tree, out->st.st_ino, 1);
	return err;
}

int world_make(struct world *w, uint64_t parent, const char *name, mode_t mode, uint64_t *ino_out)
{
	struct tree_attr a;
	int err = tree_make(w->tree, parent, name, mode, 0, NULL, &me, &a);

	if (err)
		return err;
	if (!S_ISDIR(mode))
		tree_forget(w->tree, a.st.st_ino, 1);
	if (ino_out)
		*ino_out = a.st.st_ino;
	return 0;
}

int world_write(struct world *w, uint64_t parent, const char *name, const void *p, size_t n)
{
	const size_t step = 100000;
	struct tree_file_info info = { .direct = true };
	struct tree_file *f;
	struct tree_attr a;
	int err = tree_lookup(w->tree, parent, name, NULL, &a);

	if (err == -ENOENT)
		err = tree_make(w->tree, parent, name, S_IFREG | 0644, 0, NULL, &me, &a);
	if (err)
		return err;
	err = tree_file_open(w->tree, a.st.st_ino, O_WRONLY, &me, &f, &info);
	if (!err) {
		for (size_t done = 0, in = 0; done < n && !err; done += in)
			err = tree_write(f, (const char *)p + done, n - done < step ? n - done : step, done,
					 &(struct tree_write_how){ 0 }, &in);
		tree_file_release(f);
	}
	tree_forget(w->tree, a.st.st_ino, 1);
	return err;
}

/* At most n bytes at p; *got of them. */
static int read_some(struct tree_file *f, uint64_t off, unsigned char *p, size_t n, size_t *got)
{
	struct tree_read r;
	int err = tree_read_begin(f, off, n, 0, &r);

	*got = 0;
	if (err)
		return err;
	for (unsigned i = 0; i < r.n && !err; i++) {
		err = lease_copy(&r.part[i], r.how, p + *got);
		*got += r.part[i].len_bytes;
	}
	tree_read_end(&r);
	return err;
}

static int read_all(struct world *w, const struct tree_attr *a, unsigned char *p, size_t *n_out)
{
	const size_t step = 128 << 10;
	size_t n = (size_t)a->st.st_size, done = 0, got = 1;
	struct tree_file_info info = { 0 };
	struct tree_file *f;
	int err = tree_file_open(w->tree, a->st.st_ino, O_RDONLY, &me, &f, &info);

	if (err)
		return err;
	for (; done < n && got && !err; done += got)
		err = read_some(f, done, p + done, n - done < step ? n - done : step, &got);
	tree_file_release(f);
	*n_out = done;
	return err;
}

int world_read(struct world *w, const char *path, unsigned char **out, size_t *n_out)
{
	struct tree_attr a;
	unsigned char *p;
	int err = walk(w, path, &a);

	if (err)
		return err;
	p = malloc((size_t)a.st.st_size + 1);
	err = read_all(w, &a, p, n_out);
	tree_forget(w->tree, a.st.st_ino, 1);
	if (err)
		free(p);
	else
		*out = p;
	return err;
}

bool world_holds(struct world *w, const char *path, const void *p, size_t n)
{
	unsigned char *got;
	size_t len;
	bool same;

	if (world_read(w, path, &got, &len))
		return false;
	same = len == n && !memcmp(got, p, n);
	free(got);
	return same;
}

int world_snapshot(struct world *w, const char *name)
{
	return world_make(w, CONTROL_SNAPSHOTS, name, S_IFDIR | 0755, NULL);
}

int world_commit(struct world *w)
{
	uint64_t layer;
	bool sealed;

	return tree_commit(w->tree, &layer, &sealed);
}

void world_compact(struct world *w)
{
	struct commit_compaction c;
	uint64_t before;

	past_forget_states(w->tree);
	commit_compact(w->store->commit, false, &c);
	before = c.finished;
	commit_compact(w->store->commit, true, &c);
	while (c.running || c.finished == before) {
		usleep(1000);
		commit_compact(w->store->commit, false, &c);
	}
	CHECK_OK(c.error);
}

/* ---- arrays ---- */

struct array *world_make_array(struct world *w, enum array_kind kind, const struct array_params *params)
{
	struct facts row = { .ino = w->next_ino++, .kind = kind };
	struct array *a;

	CHECK_OK(arrays_open(w->home, &row, params, &a));
	return a;
}
