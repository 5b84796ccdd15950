/*
 * Past states: store/history, compact, layers (snapshots, retention) and follow, on real stores. What a state has to show
 * is kept in a model, byte for byte.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/layer.h"
#include "store/commit.h"
#include "store/layers/compact.h"
#include "store/layers/state.h"
#include "store/layers/inside.h"
#include "store/rebuild.h"
#include "store/store.h"
#include "tree/control/control.h"
#include "tree/past/past.h"
#include "tree/tree.h"
#include "unit.h"
#include "world.h"

#define NFILES 6u
#define SIZE_MAX_BYTES 60000u

static uint64_t rand_state = 7;
static const struct tree_caller me;

/* What the files of a state hold; the second half of them is in the directory d. */
struct expected {
	uint64_t layer;
	struct {
		bool there;
		size_t n;
		unsigned char *p;
	} f[NFILES];
};

static uint64_t below(uint64_t n)
{
	return unit_rand(&rand_state) % n;
}

/* ---- stores ---- */

static struct store_config keeping(unsigned keep, bool follow)
{
	struct store_config config = world_config;

	config.keep = keep;
	config.follow = follow;
	return config;
}

static void follow_disk(struct io_dir *disk, struct store **out)
{
	const struct store_config config = keeping(1, true);
	struct store_refusal why;
	struct io_dir *dir;

	CHECK_OK(io_mem_again(disk, &dir));
	CHECK_OK(store_open(dir, "test", &config, out, &why));
}

/* A store whose files lie in layers/ and layers/d, with small blocks. */
static struct world open_world(struct io_dir *disk, unsigned keep, bool follow)
{
	const struct store_config config = keeping(keep, follow);
	struct tree_attr a;
	struct world w;

	world_open(&w, disk, &config);
	if (!follow && tree_lookup(w.tree, META_INO_LAYERS, "d", NULL, &a)) {
		CHECK_OK(tree_make(w.tree, META_INO_LAYERS, "d", S_IFDIR | 0755, 0, NULL, &me, &a));
		CHECK_OK(tree_setxattr(w.tree, META_INO_LAYERS, "user.spillfs.block_size", "4096", 4, 0, NULL));
		CHECK_OK(tree_setxattr(w.tree, a.st.st_ino, "user.spillfs.block_size", "8192", 4, 0, NULL));
	}
	return w;
}

static uint64_t inner_dir(const struct world *w)
{
	struct tree_attr a;

	CHECK_OK(tree_lookup(w->tree, META_INO_LAYERS, "d", NULL, &a));
	tree_forget(w->tree, a.st.st_ino, 1);
	return a.st.st_ino;
}

static uint64_t seal(struct world *w)
{
	uint64_t layer = 0;
	bool sealed;

	CHECK_OK(tree_commit(w->tree, &layer, &sealed));
	return layer;
}

static void layer_file(uint64_t number, char out[48])
{
	snprintf(out, 48, "layers/%08llu.zst", (unsigned long long)number);
}

static bool layer_there(struct io_dir *disk, uint64_t number)
{
	char path[48];

	layer_file(number, path);
	return world_has(disk, path);
}

/* ---- files ---- */

static struct tree_file *open_file(struct tree *t, uint64_t ino, int flags)
{
	struct tree_file_info info = { .direct = true };
	struct tree_file *f;

	CHECK_OK(tree_file_open(t, ino, flags, &me, &f, &info));
	return f;
}

static void write_at(struct tree_file *f, const void *p, size_t n, uint64_t off)
{
	CHECK_OK(tree_write(f, p, n, off, &(struct tree_write_how){ 0 }, &n));
}

static void file_name(unsigned i, char out[16])
{
	snprintf(out, 16, "f%u.u8", i);
}

static uint64_t parent_of(const struct world *w, unsigned i)
{
	return i < NFILES / 2 ? META_INO_LAYERS : inner_dir(w);
}

/* The file must hold these bytes. */
static void check_bytes(struct tree *t, uint64_t ino, const unsigned char *want, size_t n)
{
	struct tree_file *f = open_file(t, ino, O_RDONLY);
	size_t done = 0;

	while (done < n) {
		struct tree_read r;
		size_t before = done;

		CHECK_OK(tree_read_begin(f, done, 32768, 0, &r));
		for (unsigned k = 0; k < r.n; k++) {
			CHECK(r.part[k].ptr && done + r.part[k].len_bytes <= n);
			CHECK(!memcmp(r.part[k].ptr, want + done, r.part[k].len_bytes));
			done += r.part[k].len_bytes;
		}
		tree_read_end(&r);
		CHECK(done > before);
	}
	tree_file_release(f);
}

static size_t count_entries(struct tree *t, uint64_t ino)
{
	struct tree_dirent v[4 * NFILES];
	struct tree_dir *d;
	size_t n;

	CHECK_OK(tree_dir_open(t, &d));
	CHECK_OK(tree_dir_read(t, d, ino, 0, false, v, 4 * NFILES, &n));
	tree_dir_release(t, d);
	return n - 2;
}

/* `layers` is the directory of that name in any view. */
static void check_files(struct tree *t, uint64_t layers, const struct expected *s)
{
	size_t n[2] = { 1, 0 }; /* d itself */
	struct tree_attr d, a;
	char name[16];

	CHECK_OK(tree_lookup(t, layers, "d", NULL, &d));
	for (unsigned i = 0; i < NFILES; i++) {
		bool in_d = i >= NFILES / 2;
		int err;

		file_name(i, name);
		err = tree_lookup(t, in_d ? d.st.st_ino : layers, name, NULL, &a);
		CHECK_EQ(err, s->f[i].there ? 0 : -ENOENT);
		if (err)
			continue;
		n[in_d]++;
		CHECK_EQ(a.st.st_size, s->f[i].n);
		check_bytes(t, a.st.st_ino, s->f[i].p, s->f[i].n);
		tree_forget(t, a.st.st_ino, 1);
	}
	CHECK_EQ(count_entries(t, layers), n[0]);
	CHECK_EQ(count_entries(t, d.st.st_ino), n[1]);
}

static int find_state(struct tree *t, const char *name, uint64_t *layers_out)
{
	struct tree_attr a;
	int err = tree_lookup(t, CONTROL_SNAPSHOTS, name, NULL, &a);

	if (!err)
		err = tree_lookup(t, a.st.st_ino, "layers", NULL, &a);
	if (!err)
		*layers_out = a.st.st_ino;
	return err;
}

static void check_named(struct tree *t, const char *name, const struct expected *s)
{
	uint64_t layers = 0;

	CHECK_OK(find_state(t, name, &layers));
	check_files(t, layers, s);
}

/* snapshots/@N. */
static void check_state(struct tree *t, const struct expected *s)
{
	char name[32];

	snprintf(name, sizeof(name), "@%llu", (unsigned long long)s->layer);
	check_named(t, name, s);
}

static bool expected_there(struct tree *t, uint64_t layer)
{
	char name[32];
	uint64_t layers;
	int err;

	snprintf(name, sizeof(name), "@%llu", (unsigned long long)layer);
	err = find_state(t, name, &layers);
	CHECK(!err || err == -ENOENT);
	return !err;
}

/* ---- changes, to the store and to the model ---- */

static void expected_copy(const struct expected *from, uint64_t layer, struct expected *to)
{
	*to = *from;
	to->layer = layer;
	for (unsigned i = 0; i < NFILES; i++) {
		if (!from->f[i].p)
			continue;
		to->f[i].p = malloc(SIZE_MAX_BYTES);
		memcpy(to->f[i].p, from->f[i].p, SIZE_MAX_BYTES);
	}
}

static void expected_fini(struct expected *s)
{
	for (unsigned i = 0; i < NFILES; i++)
		free(s->f[i].p);
}

static uint64_t need_file(struct world *w, struct expected *s, unsigned i)
{
	struct tree_attr a;
	char name[16];

	file_name(i, name);
	if (s->f[i].there) {
		CHECK_OK(tree_lookup(w->tree, parent_of(w, i), name, NULL, &a));
		return a.st.st_ino;
	}
	CHECK_OK(tree_make(w->tree, parent_of(w, i), name, S_IFREG | 0644, 0, NULL, &me, &a));
	if (!s->f[i].p)
		s->f[i].p = malloc(SIZE_MAX_BYTES);
	memset(s->f[i].p, 0, SIZE_MAX_BYTES);
	s->f[i].there = true;
	s->f[i].n = 0;
	return a.st.st_ino;
}

static void change_bytes(struct world *w, struct expected *s, unsigned i)
{
	uint64_t ino = need_file(w, s, i), off = below(SIZE_MAX_BYTES - 1), len = 1 + below(SIZE_MAX_BYTES - off);
	struct tree_file *f = open_file(w->tree, ino, O_RDWR);
	unsigned char *p = s->f[i].p;

	if (below(3)) {
		for (uint64_t k = off; k < off + len; k++)
			p[k] = (unsigned char)(below(2) ? below(256) : 'x');
		write_at(f, p + off, len, off);
		s->f[i].n = off + len > s->f[i].n ? off + len : s->f[i].n;
	} else if (below(2)) {
		CHECK_OK(tree_fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len, &me));
		memset(p + off, 0, len);
	} else {
		struct stat st = { .st_size = (off_t)off };
		struct tree_attr a;

		CHECK_OK(tree_setattr(w->tree, ino, TREE_SET_SIZE, &st, &me, NULL, &a));
		memset(p + off, 0, SIZE_MAX_BYTES - off);
		s->f[i].n = off;
	}
	tree_file_release(f);
	tree_forget(w->tree, ino, 1);
}

static void change_names(struct world *w, struct expected *s, unsigned i)
{
	unsigned j = (i + 1 + (unsigned)below(NFILES - 1)) % NFILES;
	unsigned char *p = s->f[j].p;
	char from[16], to[16];

	if (!s->f[i].there)
		return;
	file_name(i, from);
	file_name(j, to);
	if (below(2)) {
		CHECK_OK(tree_unlink(w->tree, parent_of(w, i), from, NULL));
	} else {
		CHECK_OK(tree_rename(w->tree, parent_of(w, i), from, parent_of(w, j), to, 0, NULL));
		s->f[j] = s->f[i];
		s->f[i].p = p;
	}
	s->f[i].there = false;
}

static void change_some(struct world *w, struct expected *s)
{
	change_bytes(w, s, (unsigned)below(NFILES)); /* so that there is something to be sealed */
	for (uint64_t n = below(6); n > 0; n--) {
		if (below(4))
			change_bytes(w, s, (unsigned)below(NFILES));
		else
			change_names(w, s, (unsigned)below(NFILES));
		if (!below(5))
			CHECK_OK(tree_sync(w->tree));
	}
}

static bool is_gone(const struct index *ix, uint64_t ino)
{
	const struct index_record *r = index_find(ix, ino);

	return r && r->type == LAYER_REC_GONE;
}

/* The bytes that the present has in each layer, counted anew, are what the set of layers has kept. What lost its name
 * is deleted by the commit that does that, and said to be gone by the next one. */
static void check_live(struct world *w)
{
	struct layers *ls = w->store->layers;
	struct index full;

	CHECK_OK(state_merge_present(ls, &full));
	layers_lock(ls);
	for (size_t k = 0; k < ls->n; k++) {
		uint64_t live = 0;

		for (size_t i = 0; i < full.n; i++) {
			if (is_gone(&ls->pending, full.v[i]->facts.ino))
				continue;
			for (size_t b = 0; b < full.v[i]->nblocks; b++) {
				const struct layer_block *e = &full.v[i]->blocks[b];

				if (e->layer == ls->v[k]->row.number)
					live += index_share(e->frame_len, e->frame_raw, e->raw_len);
			}
		}
		CHECK_EQ(ls->v[k]->row.live_bytes, live);
	}
	layers_unlock(ls);
	index_fini(&full);
}

/* ---- tests ---- */

#define NSTATES 20u

UNIT_TEST(states_stay_after_compactions) /* state (1) (2) (3), compact (1) - (4) */
{
	struct io_dir *disk = world_disk();
	struct world w = open_world(disk, 1000, false);
	struct expected now = { 0 }, v[NSTATES];

	for (unsigned k = 0; k < NSTATES; k++) {
		change_some(&w, &now);
		expected_copy(&now, seal(&w), &v[k]);
		check_live(&w);
		if (k % 6 == 5) {
			world_compact(&w);
			check_live(&w);
			check_files(w.tree, META_INO_LAYERS, &now);
		}
		if (k % 8 == 7) {
			CHECK_OK(world_close(&w));
			w = open_world(disk, 1000, false);
		}
		for (unsigned i = 0; i <= k; i++)
			check_state(w.tree, &v[i]);
	}
	for (unsigned k = 0; k < NSTATES; k++)
		expected_fini(&v[k]);
	expected_fini(&now);
	CHECK_OK(world_close(&w));
}

/* Arrays stay open, dirty and half deleted while their frames move. */
UNIT_TEST(states_present_stays_after_compactions)
{
	struct world w = open_world(world_disk(), 1, false);
	struct tree_file *held[NFILES];
	struct expected now = { 0 };
	uint64_t ino[NFILES];

	for (unsigned round = 0; round < 12; round++) {
		for (unsigned i = 0; i < NFILES; i++) {
			ino[i] = need_file(&w, &now, i);
			held[i] = open_file(w.tree, ino[i], O_RDWR);
		}
		for (unsigned k = 0; k < 4; k++) {
			change_some(&w, &now);
			seal(&w);
		}
		change_some(&w, &now); /* not sealed */
		if (round % 2)
			CHECK_OK(tree_sync(w.tree));
		world_compact(&w);
		check_files(w.tree, META_INO_LAYERS, &now);
		change_some(&w, &now);
		for (unsigned i = 0; i < NFILES; i++) {
			tree_file_release(held[i]);
			tree_forget(w.tree, ino[i], 1);
		}
		check_files(w.tree, META_INO_LAYERS, &now);
		world_compact(&w);
		check_live(&w);
		check_files(w.tree, META_INO_LAYERS, &now);
		change_some(&w, &now);
		seal(&w);
		check_live(&w);
	}
	expected_fini(&now);
	CHECK_OK(world_close(&w));
}

UNIT_TEST(states_keeps_a_window) /* retain (1) (2) */
{
	struct io_dir *disk = world_disk();
	struct world w = open_world(disk, 3, false);
	struct expected now = { 0 }, v[8];

	for (unsigned k = 0; k < 8; k++) {
		change_some(&w, &now);
		expected_copy(&now, seal(&w), &v[k]);
		for (unsigned i = 0; i <= k; i++)
			CHECK_EQ(expected_there(w.tree, v[i].layer), i + 3 > k);
	}
	CHECK(layer_there(disk, v[0].layer)); /* the newest is built upon it */
	world_compact(&w);
	CHECK(!expected_there(w.tree, v[4].layer)); /* the full layer is the last commit once more */
	for (unsigned k = 5; k < 8; k++)
		check_state(w.tree, &v[k]);
	CHECK(layer_there(disk, v[0].layer)); /* so are those */
	for (unsigned k = 0; k < 3; k++) {
		change_some(&w, &now);
		expected_fini(&v[k]);
		expected_copy(&now, seal(&w), &v[k]);
	}
	past_forget_states(w.tree);
	world_compact(&w);
	CHECK(!expected_there(w.tree, v[7].layer));
	check_state(w.tree, &v[0]);
	check_state(w.tree, &v[1]);
	check_state(w.tree, &v[2]);
	CHECK_OK(world_close(&w));
	w = open_world(disk, 1, false);
	change_some(&w, &now);
	seal(&w);
	world_compact(&w);
	for (unsigned k = 0; k < 8; k++)
		CHECK(!layer_there(disk, v[k].layer));
	check_files(w.tree, META_INO_LAYERS, &now);
	for (unsigned k = 0; k < 8; k++)
		expected_fini(&v[k]);
	expected_fini(&now);
	CHECK_OK(world_close(&w));
}

static int make_snapshot(struct world *w, const char *name)
{
	struct tree_attr a;

	return tree_make(w->tree, CONTROL_SNAPSHOTS, name, S_IFDIR | 0755, 0, NULL, &me, &a);
}

UNIT_TEST(snapshot_holds_its_layers_until_it_goes) /* retain (1) (2) (3) */
{
	struct io_dir *disk = world_disk();
	struct world w = open_world(disk, 1, false);
	struct expected now = { 0 }, then;
	uint64_t none;

	change_some(&w, &now);
	CHECK_OK(make_snapshot(&w, "keep me"));
	expected_copy(&now, layers_newest_sealed(w.store->layers), &then);
	for (unsigned k = 0; k < 4; k++) {
		change_some(&w, &now);
		seal(&w);
		if (k % 2)
			world_compact(&w);
		if (k == 2) {
			CHECK_OK(world_close(&w));
			w = open_world(disk, 1, false);
		}
		CHECK(world_has(disk, "layers/refs/keep me") && layer_there(disk, then.layer));
		check_named(w.tree, "keep me", &then);
		check_state(w.tree, &then);
		check_files(w.tree, META_INO_LAYERS, &now);
	}
	CHECK_OK(tree_rmdir(w.tree, CONTROL_SNAPSHOTS, "keep me"));
	CHECK(!world_has(disk, "layers/refs/keep me") && !layer_there(disk, then.layer));
	CHECK_EQ(find_state(w.tree, "keep me", &none), -ENOENT);
	CHECK(!expected_there(w.tree, then.layer));
	CHECK_EQ(tree_rmdir(w.tree, CONTROL_SNAPSHOTS, "keep me"), -ENOENT);
	check_files(w.tree, META_INO_LAYERS, &now);
	expected_fini(&now);
	expected_fini(&then);
	CHECK_OK(world_close(&w));
}

static uint64_t lookup_in(struct tree *t, const char *view, const char *name)
{
	struct tree_attr a;
	uint64_t layers = 0;

	CHECK_OK(find_state(t, view, &layers));
	CHECK_OK(tree_lookup(t, layers, name, NULL, &a));
	return a.st.st_ino;
}

/* The kernel knows a file from a state that has gone; others that share it can be opened. */
UNIT_TEST(shared_file_outlives_the_state_it_was_found_in) /* past (2) */
{
	struct io_dir *disk = world_disk();
	struct world w = open_world(disk, 2, false);
	struct expected now = { 0 };
	uint64_t first, ino;
	char name[32], view[32];

	need_file(&w, &now, 0);
	first = seal(&w);
	file_name(0, name);
	snprintf(view, sizeof(view), "@%llu", (unsigned long long)first);
	ino = lookup_in(w.tree, view, name);
	for (unsigned k = 0; k < 3; k++) {
		need_file(&w, &now, 1 + k);
		now.layer = seal(&w);
	}
	past_forget_states(w.tree);
	CHECK(!expected_there(w.tree, first));
	snprintf(view, sizeof(view), "@%llu", (unsigned long long)now.layer);
	CHECK_EQ(lookup_in(w.tree, view, name), ino);
	check_bytes(w.tree, ino, now.f[0].p, now.f[0].n);
	tree_forget(w.tree, ino, 2);
	expected_fini(&now);
	CHECK_OK(world_close(&w));
}

/* What is open of a state can be read to its end, whatever becomes of the state. */
UNIT_TEST(open_past_file_holds_its_layers) /* state (1), past (2) */
{
	struct io_dir *disk = world_disk();
	struct world w = open_world(disk, 1, false);
	static unsigned char p[2][49 * 4096];
	struct tree_file_info info = { 0 };
	struct tree_file *live, *then;
	struct tree_attr a;
	uint64_t first, full, ino;
	size_t done = 0;

	for (unsigned k = 0; k < 2; k++)
		unit_rand_fill(&rand_state, p[k], sizeof(p[k]));
	CHECK_OK(tree_make(w.tree, META_INO_LAYERS, "x", S_IFREG | 0644, 0, NULL, &me, &a));
	live = open_file(w.tree, a.st.st_ino, O_RDWR);
	write_at(live, p[0], sizeof(p[0]), 0);
	first = seal(&w);
	world_compact(&w); /* a full layer that points into it */
	full = layers_newest_sealed(w.store->layers);
	CHECK(full > first && layer_there(disk, first));
	CHECK_OK(make_snapshot(&w, "s"));
	tree_file_release(live);
	tree_forget(w.tree, a.st.st_ino, 1);
	CHECK_OK(world_close(&w));
	w = open_world(disk, 1, false); /* nothing is cached */
	ino = lookup_in(w.tree, "s", "x");
	CHECK_OK(tree_file_open(w.tree, ino, O_RDONLY, &me, &then, &info));
	CHECK_OK(tree_lookup(w.tree, META_INO_LAYERS, "x", NULL, &a));
	live = open_file(w.tree, a.st.st_ino, O_RDWR);
	write_at(live, p[1], sizeof(p[1]), 0);
	seal(&w);
	CHECK_OK(tree_rmdir(w.tree, CONTROL_SNAPSHOTS, "s"));
	world_compact(&w);
	seal(&w);
	CHECK_EQ(layers_get(w.store->layers, first, &(struct layers_slot *){ NULL }), -ESTALE);
	while (done < sizeof(p[0])) {
		struct tree_read r;

		CHECK_OK(tree_read_begin(then, done, 32768, 0, &r));
		for (unsigned k = 0; k < r.n; k++) {
			CHECK(!memcmp(r.part[k].ptr, p[0] + done, r.part[k].len_bytes));
			done += r.part[k].len_bytes;
		}
		tree_read_end(&r);
	}
	tree_file_release(then);
	tree_forget(w.tree, ino, 1);
	for (unsigned k = 0; k < 1000 && layer_there(disk, first); k++)
		usleep(1000); /* decoding ahead may hold it a moment longer */
	CHECK(!layer_there(disk, first) && !layer_there(disk, full));
	tree_file_release(live);
	tree_forget(w.tree, a.st.st_ino, 1);
	CHECK_OK(world_close(&w));
}

UNIT_TEST(snapshot_names_are_checked)
{
	struct io_dir *disk = world_disk();
	struct world w = open_world(disk, 1, false);
	struct layers *ls = w.store->layers;
	struct layers_snapshot s = { .name = "" };
	struct expected now = { 0 };
	char name[258];
	uint64_t layer;

	change_some(&w, &now);
	CHECK_OK(make_snapshot(&w, "b"));
	layer = layers_newest_sealed(ls);
	CHECK_EQ(make_snapshot(&w, "b"), -EEXIST);
	CHECK_EQ(make_snapshot(&w, "@1"), -EINVAL);
	CHECK_EQ(make_snapshot(&w, "@"), -EINVAL);
	CHECK_EQ(layers_snapshot_want(ls, ""), -EINVAL);
	memset(name, 'n', sizeof(name));
	name[256] = '\0';
	CHECK_EQ(layers_snapshot_want(ls, name), -EINVAL);
	name[255] = '\0';
	CHECK_OK(make_snapshot(&w, name));
	CHECK_OK(make_snapshot(&w, "a")); /* nothing has changed: the same state */
	CHECK_OK(layers_snapshot_want(ls, "c"));
	CHECK_EQ(layers_snapshot_find(ls, "c", &s), -ENOENT); /* not before the commit */
	layers_snapshot_unwant(ls, "c");
	for (unsigned k = 0; k < 3; k++) {
		CHECK_OK(layers_snapshot_next(ls, s.name, &s));
		CHECK(!strcmp(s.name, k == 0 ? "a" : k == 1 ? "b" : name));
		CHECK_EQ(s.layer, layer);
		check_named(w.tree, s.name, &now);
	}
	CHECK_EQ(layers_snapshot_next(ls, s.name, &s), -ENOENT);
	CHECK_OK(world_close(&w));
	w = open_world(disk, 1, false);
	CHECK_EQ(make_snapshot(&w, "b"), -EEXIST);
	check_named(w.tree, name, &now);
	expected_fini(&now);
	CHECK_OK(world_close(&w));
}

#define NSMALL 10000u
#define SMALL_BYTES 300u

static void small_file(unsigned i, char name[16], unsigned char p[SMALL_BYTES])
{
	uint64_t seed = i + 1;

	snprintf(name, 16, "s%u", i);
	unit_rand_fill(&seed, p, SMALL_BYTES);
}

static uint64_t layer_bytes_total(struct world *w)
{
	struct layers_totals t;

	layers_totals(w->store->layers, &t);
	return t.bytes;
}

UNIT_TEST(compact_packs_small_arrays_anew) /* compact (4) */
{
	struct world w = open_world(world_disk(), 1, false);
	unsigned char p[SMALL_BYTES];
	uint64_t before, after;
	struct tree_attr a;
	char name[16];

	for (unsigned i = 0; i < NSMALL; i++) {
		struct tree_file *f;

		small_file(i, name, p);
		CHECK_OK(tree_make(w.tree, META_INO_LAYERS, name, S_IFREG | 0644, 0, NULL, &me, &a));
		f = open_file(w.tree, a.st.st_ino, O_WRONLY);
		write_at(f, p, SMALL_BYTES, 0);
		tree_file_release(f);
		tree_forget(w.tree, a.st.st_ino, 1);
	}
	seal(&w);
	check_live(&w);
	before = layer_bytes_total(&w);
	CHECK(before > NSMALL * SMALL_BYTES);
	for (unsigned i = 0; i < NSMALL; i++) {
		small_file(i, name, p);
		if (i % 10)
			CHECK_OK(tree_unlink(w.tree, META_INO_LAYERS, name, NULL));
	}
	seal(&w);
	check_live(&w);
	world_compact(&w);
	check_live(&w);
	after = layer_bytes_total(&w);
	CHECK(after > NSMALL / 10 * SMALL_BYTES && after < before / 5);
	for (unsigned i = 0; i < NSMALL; i++) {
		small_file(i, name, p);
		CHECK_EQ(tree_lookup(w.tree, META_INO_LAYERS, name, NULL, &a), i % 10 ? -ENOENT : 0);
		if (i % 10)
			continue;
		check_bytes(w.tree, a.st.st_ino, p, SMALL_BYTES);
		tree_forget(w.tree, a.st.st_ino, 1);
	}
	CHECK_OK(world_close(&w));
}

/* Each layer has one small array that stays, and one that the next layer replaces. */
UNIT_TEST(compact_gives_back_what_a_window_held) /* compact (2) */
{
	struct world w = open_world(world_disk(), 3, false);
	static unsigned char p[50000];
	struct layers_totals t = { 0 };
	struct layers_info info;
	char name[16];

	for (unsigned k = 0; k < 24; k++) {
		for (unsigned j = 0; j < 2; j++) {
			struct tree_file *f;
			struct tree_attr a;

			snprintf(name, sizeof(name), j ? "big" : "small%u", k);
			if (tree_lookup(w.tree, META_INO_LAYERS, name, NULL, &a))
				CHECK_OK(tree_make(w.tree, META_INO_LAYERS, name, S_IFREG | 0644, 0, NULL, &me, &a));
			f = open_file(w.tree, a.st.st_ino, O_WRONLY);
			unit_rand_fill(&rand_state, p, sizeof(p));
			write_at(f, p, j ? sizeof(p) : 100, 0);
			tree_file_release(f);
			tree_forget(w.tree, a.st.st_ino, 1);
		}
		seal(&w);
		if (k % 3 == 2)
			world_compact(&w);
		CHECK_OK(layers_next_sealed(w.store->layers, layers_newest_sealed(w.store->layers), &info));
		CHECK(info.retained && info.full == (k % 3 == 2));
	}
	layers_totals(w.store->layers, &t);
	CHECK(t.nlayers < 9 && t.bytes < 8 * sizeof(p));
	check_live(&w);
	CHECK_OK(world_close(&w));
}

/* ---- following ---- */

/* A look between the writer's new HEAD and its deletion of old layers may miss one: then the next look will do. The follower's own
 * look may have come before the file of a name: names are read at every third. */
static void follow_now(struct world *f)
{
	unsigned tries = 0, looks = 0;
	bool changed;

	while (looks < 3) {
		int err = layers_follow(f->store->layers, &changed);

		CHECK(!err || (err == -ENOENT && tries++ < 1000));
		looks += !err;
		if (err)
			sched_yield();
	}
}

UNIT_TEST(follower_sees_each_sealed_state) /* follow (1) (2) */
{
	struct io_dir *disk = world_disk();
	struct world w = open_world(disk, 4, false), f;
	struct expected now = { 0 }, v[12];
	struct tree_attr a;

	f = open_world(disk, 1, true);
	CHECK_OK(tree_lookup(f.tree, META_INO_ROOT, "layers", NULL, &a));
	CHECK_EQ(count_entries(f.tree, a.st.st_ino), 0); /* nothing is sealed yet */
	for (unsigned k = 0; k < 12; k++) {
		change_some(&w, &now);
		CHECK_OK(tree_sync(w.tree)); /* that alone shows nothing */
		follow_now(&f);
		CHECK_EQ(layers_newest_sealed(f.store->layers), layers_newest_sealed(w.store->layers));
		if (k)
			check_files(f.tree, a.st.st_ino, &v[k - 1]);
		expected_copy(&now, k == 6 ? 0 : seal(&w), &v[k]);
		if (k == 6) {
			CHECK_OK(make_snapshot(&w, "six"));
			v[k].layer = layers_newest_sealed(w.store->layers);
		}
		if (k % 4 == 3)
			world_compact(&w);
		follow_now(&f);
		CHECK_EQ(layers_newest_sealed(f.store->layers), layers_newest_sealed(w.store->layers));
		check_files(f.tree, a.st.st_ino, &now);
		past_forget_states(f.tree);
		for (unsigned i = 0; i <= k; i++)
			if (expected_there(w.tree, v[i].layer) || expected_there(f.tree, v[i].layer))
				check_state(f.tree, &v[i]);
		if (k >= 6)
			check_named(f.tree, "six", &v[6]);
	}
	CHECK_EQ(make_snapshot(&f, "no"), -EROFS);
	for (unsigned k = 0; k < 12; k++)
		expected_fini(&v[k]);
	expected_fini(&now);
	CHECK_OK(world_close(&f));
	CHECK_OK(world_close(&w));
}

/* Out of layers/, and back. */
static void move_away(struct io_dir *disk, uint64_t number)
{
	char path[48];

	layer_file(number, path);
	CHECK_OK(io_rename(disk, path, path + strlen("layers/")));
}

static void move_back(struct io_dir *disk, uint64_t number)
{
	char path[48];

	layer_file(number, path);
	CHECK_OK(io_rename(disk, path + strlen("layers/"), path));
}

/* The follower is at this state, all of it. */
static void check_follows(struct store *f, uint64_t number)
{
	struct state *state;
	struct index ix;

	CHECK_EQ(layers_newest_sealed(f->layers), number);
	CHECK_OK(state_open(f->layers, 0, &state));
	CHECK_EQ(state_number(state), number);
	CHECK_OK(state_merge(state, &ix));
	for (size_t i = 0; i < ix.n; i++) {
		for (size_t k = 0; k < ix.v[i]->nblocks; k++) {
			struct layers_slot *slot;
			unsigned char *p = malloc(ix.v[i]->blocks[k].frame_raw);

			CHECK_OK(layers_get(f->layers, ix.v[i]->blocks[k].layer, &slot));
			CHECK_OK(layer_decode(layers_file(slot), &ix.v[i]->blocks[k], "test", 0, p));
			layers_put(f->layers, slot);
			free(p);
		}
	}
	index_fini(&ix);
	state_put(state);
}

static uint64_t seal_some(struct world *w, struct expected *now)
{
	change_some(w, now);
	return seal(w);
}

UNIT_TEST(follower_waits_for_whole_chains) /* follow (1) (2) */
{
	struct io_dir *disk = world_disk();
	struct world w = open_world(disk, 1, false);
	struct expected now = { 0 };
	uint64_t a = seal_some(&w, &now), b, c, d;
	struct state *state;
	struct store *f;
	bool changed;

	follow_disk(disk, &f);
	check_follows(f, a);
	b = seal_some(&w, &now);
	c = seal_some(&w, &now);
	move_away(disk, c); /* what HEAD names */
	CHECK_EQ(layers_follow(f->layers, &changed), -ENOENT);
	check_follows(f, a);
	move_back(disk, c);
	move_away(disk, b); /* a link of the chain */
	CHECK_EQ(layers_follow(f->layers, &changed), -ENOENT);
	CHECK(!changed);
	check_follows(f, a);
	CHECK_EQ(state_open(f->layers, c, &state), -ENOENT);
	move_back(disk, b);
	CHECK_OK(layers_follow(f->layers, &changed));
	CHECK(changed);
	check_follows(f, c);
	move_away(disk, a); /* one that it has already */
	d = seal_some(&w, &now);
	CHECK_OK(layers_follow(f->layers, &changed));
	check_follows(f, d);
	move_back(disk, a);
	CHECK_OK(layers_follow(f->layers, &changed));
	CHECK(!changed);
	check_follows(f, d);
	CHECK_OK(store_close(f));
	move_away(disk, b); /* from the start */
	follow_disk(disk, &f);
	CHECK_EQ(layers_newest_sealed(f->layers), a); /* the newest that is whole */
	move_back(disk, b);
	CHECK_OK(layers_follow(f->layers, &changed));
	check_follows(f, d);
	CHECK_OK(store_close(f));
	expected_fini(&now);
	CHECK_OK(world_close(&w));
}

/* A listing that has begun goes on in its state, whatever the writer commits meanwhile; a new one is of now. */
UNIT_TEST(follower_lists_one_state) /* past (1) */
{
	struct io_dir *disk = world_disk();
	struct world w = open_world(disk, 1, false), f;
	struct tree_dirent v[4];
	struct tree_attr a;
	struct tree_dir *d;
	uint64_t cookie = 0;
	size_t n, total = 0;
	char name[16];
	bool changed;

	for (unsigned i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "n%02u", i);
		CHECK_OK(tree_make(w.tree, META_INO_LAYERS, name, S_IFREG | 0644, 0, NULL, &me, &a));
		tree_forget(w.tree, a.st.st_ino, 1);
	}
	seal(&w);
	f = open_world(disk, 1, true);
	CHECK_OK(tree_lookup(f.tree, META_INO_ROOT, "layers", NULL, &a));
	CHECK_OK(tree_dir_open(f.tree, &d));
	while (!tree_dir_read(f.tree, d, a.st.st_ino, cookie, false, v, 4, &n) && n) {
		cookie = v[n - 1].cookie;
		for (size_t k = 0; k < n && !total && v[k].name[0] == 'n'; k++) {
			for (unsigned i = 0; i < 10; i++) {
				snprintf(name, sizeof(name), "n%02u", i);
				CHECK_OK(tree_unlink(w.tree, META_INO_LAYERS, name, NULL));
			}
			seal(&w);
			CHECK_OK(layers_follow(f.store->layers, &changed));
			past_forget_states(f.tree);
			total = 1;
		}
	}
	for (total = n = 0, cookie = 64 + 1; !tree_dir_read(f.tree, d, a.st.st_ino, cookie, false, v, 4, &n) && n; total += n)
		cookie = v[n - 1].cookie;
	CHECK_EQ(total, 20); /* behind d */
	for (total = n = 0, cookie = 0; !tree_dir_read(f.tree, d, a.st.st_ino, cookie, false, v, 4, &n) && n; total += n)
		cookie = v[n - 1].cookie;
	CHECK_EQ(total, 2 + 11);
	tree_dir_release(f.tree, d);
	CHECK_OK(world_close(&f));
	CHECK_OK(world_close(&w));
}

/* They hold bytes and names of files that not everybody may look at. */
UNIT_TEST(deltas_and_diffs_are_the_owners) /* special (2) */
{
	struct io_dir *disk = world_disk();
	struct world w = open_world(disk, 5, false);
	struct expected now = { 0 };
	struct tree_attr a;

	for (unsigned k = 0; k < 2; k++) {
		change_some(&w, &now);
		seal(&w);
	}
	CHECK_OK(tree_lookup(w.tree, CONTROL_DELTAS, "00000001.zst", NULL, &a));
	CHECK_EQ(a.st.st_mode, S_IFREG | 0400);
	CHECK_OK(tree_lookup(w.tree, CONTROL_DIFF, "@1..@2", NULL, &a));
	CHECK_EQ(a.st.st_mode, S_IFREG | 0400);
	expected_fini(&now);
	CHECK_OK(world_close(&w));
}

/* ---- a full disk ---- */

static struct {
	const struct io_dir_ops *inner;
	bool full;
} space;

/* No space for what is new in layers/, which is small. */
static int full_open(struct io_dir *d, const char *name, unsigned flags, struct io **out)
{
	if (space.full && (flags & IO_CREATE) && strstr(name, ".tmp"))
		return -ENOSPC;
	return space.inner->open(d, name, flags, out);
}

/* HEAD and the names cannot be written: what the commit has freed is given back all the same, and they follow. */
UNIT_TEST(full_disk_gives_back_what_was_freed) /* commit, step 5; retain (3) */
{
	struct io_dir *disk = world_disk();
	struct world w = open_world(disk, 1, false);
	struct expected now = { 0 };
	struct io_dir_ops ops;
	char head[32] = "";
	static unsigned char p[100000];
	struct tree_file *f;
	struct tree_attr a;
	struct io *head_file;
	uint64_t last;
	size_t n;

	CHECK_OK(tree_lookup(w.tree, META_INO_ROOT, "columns", NULL, &a));
	CHECK_OK(tree_make(w.tree, META_INO_COLUMNS, "column", S_IFREG | 0644, 0, NULL, &me, &a));
	f = open_file(w.tree, a.st.st_ino, O_RDWR);
	write_at(f, p, sizeof(p), 0);
	seal(&w);
	CHECK(world_has(disk, "columns/1"));
	space.inner = w.store->dir->ops;
	ops = *space.inner;
	ops.open = full_open;
	w.store->dir->ops = &ops;
	space.full = true;
	CHECK_OK(tree_unlink(w.tree, META_INO_COLUMNS, "column", NULL));
	tree_file_release(f);
	tree_forget(w.tree, a.st.st_ino, 1);
	change_some(&w, &now);
	CHECK_OK(make_snapshot(&w, "s"));
	CHECK(!world_has(disk, "columns/1"));
	CHECK_OK(tree_rmdir(w.tree, CONTROL_SNAPSHOTS, "s"));
	CHECK_OK(make_snapshot(&w, "t"));
	CHECK(!world_has(disk, "layers/refs/t"));
	space.full = false;
	need_file(&w, &now, 0);
	last = seal(&w);
	CHECK(world_has(disk, "layers/refs/t"));
	CHECK_OK(io_open(disk, "layers/HEAD", IO_RDONLY, &head_file));
	CHECK_OK(io_pread_some(head_file, head, sizeof(head) - 1, 0, &n));
	CHECK_EQ(strtoull(head, NULL, 10), last);
	io_close(head_file);
	w.store->dir->ops = space.inner;
	expected_fini(&now);
	CHECK_OK(world_close(&w));
}

/* ---- rebuilding ---- */

static void say_nothing(void *ctx, const char *line)
{
	(void)line;
	++*(unsigned *)ctx;
}

static void rebuild(struct io_dir *disk, struct rebuild_report *out)
{
	struct store_refusal why;
	unsigned lines = 0;
	struct io_dir *dir;

	CHECK_OK(io_mem_again(disk, &dir));
	CHECK_OK(store_rebuild(dir, NULL, "test", true, say_nothing, &lines, out, &why));
	CHECK_EQ(lines, out->lost);
}

static void damage_end(struct io_dir *disk, uint64_t number)
{
	uint64_t size = 0;
	char path[48];
	struct io *f;

	layer_file(number, path);
	CHECK_OK(io_open(disk, path, 0, &f));
	CHECK_OK(io_size(f, &size, NULL));
	CHECK_OK(io_pwrite(f, "damaged", 7, size - 120));
	io_close(f);
}

/* Layers behind a damaged or missing one are whole themselves: they are no part of the new store, and their numbers are not
 * given again. */
UNIT_TEST(rebuild_stops_before_a_damaged_layer) /* rebuild (1) (3) */
{
	for (unsigned missing = 0; missing < 3; missing++) {
		struct io_dir *disk = world_disk();
		struct world w = open_world(disk, 20, false);
		struct expected now = { 0 }, v[5];
		struct rebuild_report report;
		unsigned bad = missing == 2 ? 4 : 2;

		for (unsigned k = 0; k < 5; k++) {
			change_some(&w, &now);
			expected_copy(&now, seal(&w), &v[k]);
		}
		CHECK_OK(world_close(&w));
		if (missing) {
			char path[48];

			layer_file(v[bad].layer, path);
			CHECK_OK(io_unlink(disk, path));
		} else {
			damage_end(disk, v[bad].layer);
		}
		rebuild(disk, &report);
		CHECK_EQ(report.newest, v[bad - 1].layer);
		CHECK(report.lost);
		w = open_world(disk, 20, false);
		for (unsigned k = 0; k < 5; k++) {
			CHECK_EQ(layer_there(disk, v[k].layer), k < bad);
			if (k < bad)
				check_state(w.tree, &v[k]);
		}
		check_files(w.tree, META_INO_LAYERS, &v[bad - 1]);
		change_some(&w, &v[bad - 1]);
		CHECK(seal(&w) > v[4].layer);
		check_files(w.tree, META_INO_LAYERS, &v[bad - 1]);
		CHECK_OK(world_close(&w));
		for (unsigned k = 0; k < 5; k++)
			expected_fini(&v[k]);
		expected_fini(&now);
	}
}

/* The log knows the root, too, once it was changed. */
UNIT_TEST(rebuild_brings_back_the_root)
{
	struct io_dir *disk = world_disk();
	struct world w = open_world(disk, 1, false);
	struct expected now = { 0 };
	struct stat st = { .st_mode = S_IFDIR | 0750 };
	struct rebuild_report report;
	struct tree_attr a;

	change_some(&w, &now);
	CHECK_OK(tree_setattr(w.tree, META_INO_ROOT, TREE_SET_MODE, &st, &me, NULL, &a));
	seal(&w);
	CHECK_OK(world_close(&w));
	rebuild(disk, &report);
	CHECK_EQ(report.lost, 0);
	w = open_world(disk, 1, false);
	CHECK_OK(tree_getattr(w.tree, META_INO_ROOT, &a));
	CHECK_EQ(a.st.st_mode, S_IFDIR | 0750);
	CHECK_EQ(a.st.st_nlink, 5);
	check_files(w.tree, META_INO_LAYERS, &now);
	expected_fini(&now);
	CHECK_OK(world_close(&w));
}
