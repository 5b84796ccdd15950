/*
 * The nodes of views/: numbers, attributes, opening.
 *
 * Invariants:
 *  1. A node's number follows from its key; while an open file of that key shows what was, a newer one gets the next number.
 *  2. Nodes hold no file of the present, so that views keep nothing from being deleted; open ones do.
 *  3. The content behind a number changes only while nobody has it open, and then the kernel's pages are dropped.
 */
#include "tree/views/views.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "array/dtype.h"
#include "spillfs.h"
#include "store/store.h"
#include "tree/views/upload.h"
#include "tree/views/inside.h"
#include "util/clock.h"

/* How often an array that changes at every look is opened anew before the view is parted from who looks. */
#define OPEN_TRIES 10
/* For how long an array that has replaced another may be opened by who has looked at that one. */
#define REPLACED_NS 1000000000
/* For how long the kernel may keep attributes: of files, and of directories from their lookup to the question who may search them. */
#define BRIEF_MS 1000
#define WALK_MS 50
#define ALL_KINDS (1u << ARRAY_BUCKET | 1u << ARRAY_COLUMN | 1u << ARRAY_LAYERED)

const struct view_format_info view_formats[FORMAT_N] = {
	[FORMAT_NPY] = { "npy", ".npy", ALL_KINDS, true, false, false },
	[FORMAT_ZARR] = { "zarr", ".zarr", ALL_KINDS, true, false, true },
	[FORMAT_ZARR2] = { "zarr2", ".zarr", ALL_KINDS, true, false, true },
	[FORMAT_PARQUET] = { "parquet", ".parquet", ALL_KINDS, true, true, true },
	[FORMAT_ARROW] = { "arrow", ".arrow", ALL_KINDS, true, true, true },
	[FORMAT_ZST] = { "zst", ".zst", 1u << ARRAY_LAYERED, false, false, true },
	[FORMAT_RUNS] = { "runs", "", 1u << ARRAY_BUCKET, false, false, false },
};

static uint64_t number_of(const struct view_key *key, uint64_t generation)
{
	const uint64_t words[] = { key->source, key->sub, (uint64_t)key->role << 32 | key->format };

	return REALM_VIEWS_BIT | XXH64(words, sizeof(words), generation) >> 1;
}

uint64_t views_number(const struct view_key *key)
{
	return number_of(key, 0);
}

/* A file is one for each name of its array: the name stands in what it shows (the column's), or is the one that gets what
 * is written. */
void views_file_key(enum view_format f, uint64_t source, uint64_t dir, const char *name, struct view_key *out)
{
	*out = (struct view_key){ .source = source, .format = f, .role = VIEW_FILE, .sub = XXH64(name, strlen(name), dir) };
}

static bool same_key(const struct view_key *a, const struct view_key *b)
{
	return a->source == b->source && a->sub == b->sub && a->role == b->role && a->format == b->format;
}

/* An open file that shows an older version than there is now makes room for another node. */
static bool out_of_date(struct inode *i, uint64_t version)
{
	struct view_inode *n = view_of(i);
	bool old;

	if (atomic_load(&n->superseded))
		return true;
	/* What is written in place is what there is. */
	if (views_is_live(i))
		return false;
	lock_acquire(&i->attr);
	old = n->known && n->version != version && (i->array || i->tree->sizes_stick);
	lock_release(&i->attr);
	if (old)
		atomic_store(&n->superseded, true);
	return old;
}

/*
 * A thread that is refused a file that others have open is told to look it up again, and then nobody else may come in between: until
 * it has opened it, and not for long, each of its lookups of that file has a node of its own. (Of more than VIEWS_ALONE_MAX such threads
 * the first end that early.)
 */
#define ALONE_NS (2 * CLOCK_SECOND_NS)
#define VIEWS_APART (1ull << 32) /* generations from here on are one look's alone */
/* The number of a wish: a file, and the thread that wants it. An array's file is the one of its name, whichever array has that. */
static uint64_t wish_number(const struct view_key *key, pid_t thread)
{
	struct view_key k = *key;

	if (k.role == VIEW_FILE)
		k.source = 0;
	return number_of(&k, (uint64_t)thread);
}

static struct view_wish *find_wish(struct tree *t, uint64_t number)
{
	for (unsigned k = 0; k < VIEWS_ALONE_MAX; k++) {
		if (atomic_load(&t->alone[k].number) == number)
			return &t->alone[k];
	}
	return NULL;
}

/* Takes the one that is over, or else the one that is over first. Its end is what threads that do this at once agree by. */
static struct view_wish *take_wish(struct tree *t, int64_t until_ns)
{
	for (;;) {
		struct view_wish *found = &t->alone[0];
		int64_t first_ns = atomic_load(&found->until_ns);

		for (unsigned k = 1; k < VIEWS_ALONE_MAX; k++) {
			int64_t end_ns = atomic_load(&t->alone[k].until_ns);

			if (end_ns < first_ns) {
				found = &t->alone[k];
				first_ns = end_ns;
			}
		}
		if (atomic_compare_exchange_strong(&found->until_ns, &first_ns, until_ns))
			return found;
	}
}

void views_part(struct tree *t, const struct view_key *key, pid_t thread)
{
	uint64_t number = wish_number(key, thread);
	int64_t until_ns = clock_monotonic_ns() + ALONE_NS;
	struct view_wish *w = find_wish(t, number);

	if (w)
		atomic_store(&w->until_ns, until_ns);
	else
		atomic_store(&take_wish(t, until_ns)->number, number);
}

static bool is_alone(struct tree *t, const struct view_key *key, pid_t thread)
{
	const struct view_wish *w = find_wish(t, wish_number(key, thread));

	return w && clock_monotonic_ns() < atomic_load(&w->until_ns);
}

void views_parted(struct tree *t, const struct view_key *key, pid_t thread)
{
	uint64_t number = wish_number(key, thread);
	struct view_wish *w = find_wish(t, number);

	if (w && atomic_compare_exchange_strong(&w->number, &number, 0))
		atomic_store(&w->until_ns, 0);
}

static bool is_file(const struct view_key *key)
{
	return !view_role_is_dir(key->role) && key->role != VIEW_NEW;
}

void views_fini(struct inode *i)
{
	struct view_inode *n = view_of(i);

	if (n->node.past)
		inode_put(n->node.past, 1);
	if (n->upload)
		upload_free(n->upload);
	free(n->node.name);
}

static int new_node(struct tree *t, const struct view_key *key, uint64_t dir, const char *name, uint64_t generation,
		    struct view_inode **out)
{
	const struct meta_inode row = { .ino = number_of(key, generation), .kind = ARRAY_VIEW, .nlink = 1,
					.mode = view_role_is_dir(key->role) ? S_IFDIR : S_IFREG };
	struct view_inode *n = calloc(1, sizeof(*n));

	if (!n)
		return -ENOMEM;
	inode_init(&n->base, t, REALM_VIEWS, &row);
	n->node.key = *key;
	n->node.dir = dir;
	n->node.name = name ? strdup(name) : NULL;
	if (name && !n->node.name) {
		inode_free(&n->base);
		return -ENOMEM;
	}
	if (views_is_fixed(t, key->source) && !inode_find(t, key->source, &n->node.past))
		inode_ref(n->node.past);
	*out = n;
	return 0;
}

/* With one more reference: the key's inode, or one beside it if that is open and shows another version of the sources; apart: one
 * that nobody else finds. */
static int node_for(struct tree *t, const struct view_key *key, uint64_t dir, const char *name, uint64_t version, bool apart,
		    struct inode **out)
{
	int err = 0;

	for (uint64_t generation = apart ? VIEWS_APART + atomic_fetch_add(&t->views_apart, 1) : 0; !err; generation++) {
		struct view_inode *made;
		struct inode *i;

		err = new_node(t, key, dir, name, generation, &made);
		if (err)
			break;
		i = inode_get_made(&made->base);
		if (apart ? i == &made->base : same_key(&view_of(i)->node.key, key) && !(is_file(key) && out_of_date(i, version))) {
			*out = i;
			return 0;
		}
		inode_put(i, 1);
	}
	return err;
}

/* What whoever was refused finds is opened before it is told of, so that the open finds the size that was told, however fast the
 * array changes. It stays so until the kernel forgets it. A failure is left to the open. */
static void open_apart(struct inode *i, pid_t thread)
{
	struct view_opening o = { .thread = thread };
	int err;

	do {
		err = views_open_begin(i, &o);
		if (!err) {
			rwlock_exclusive(&i->rw);
			err = views_open_end(i, &o);
			rwlock_release(&i->rw);
		}
		if (o.array)
			array_close(o.array);
		o.array = NULL;
	} while (err == -EAGAIN);
	views_part(i->tree, &view_of(i)->node.key, thread); /* until the open that this is for */
}

int views_answer(struct tree *t, const struct view_key *key, uint64_t dir, const char *name, const struct tree_caller *who,
		 struct tree_attr *out)
{
	const struct view_node like = { .key = *key };
	pid_t thread = who ? who->thread : 0;
	bool apart = is_file(key) && is_alone(t, key, thread);
	uint64_t version = 0;
	struct inode *i;
	int err = 0;

	for (int k = 0; !err; k++) {
		if (is_file(key))
			err = views_version(t, &like, &version);
		if (!err)
			err = node_for(t, key, dir, name, version, apart, &i);
		if (err)
			break;
		if (apart)
			open_apart(i, thread);
		atomic_store(&view_of(i)->answered_ns, clock_monotonic_ns());
		err = views_getattr(t, i->ino, out);
		/* Opened since it was found, it may show less than was there before. */
		if (!err && (!is_file(key) || k == VIEWS_REPLACED_TRIES || !out_of_date(i, version)))
			break;
		inode_put(i, 1);
	}
	return err;
}

int views_enter(struct tree *t, uint64_t root, struct tree_attr *out)
{
	return views_answer(t, &(struct view_key){ .source = root, .role = VIEW_TOP }, 0, NULL, NULL, out);
}

uint64_t views_root_number(uint64_t root)
{
	return views_number(&(struct view_key){ .source = root, .role = VIEW_TOP });
}

int views_source_of(struct tree *t, uint64_t number, struct inode **out)
{
	struct meta *m = t->store->meta;
	int err;

	if (views_is_fixed(t, number)) {
		err = inode_find(t, number, out);
		if (!err)
			inode_ref(*out);
		return err;
	}
	meta_lock(m);
	err = inode_get_locked(t, number, out);
	meta_unlock(m);
	return err == -ENOENT ? -ESTALE : err;
}

int views_hold_dir(struct tree *t, uint64_t number, struct inode **out)
{
	*out = NULL;
	return views_is_fixed(t, number) || (t->store->config.follow && number == META_INO_ROOT) ? 0 : views_source_of(t, number, out);
}

void views_let_go_dir(struct inode *dir)
{
	if (dir)
		inode_put(dir, 1);
}

int views_source(struct tree *t, const struct view_node *n, struct inode **out)
{
	if (!n->past)
		return views_source_of(t, n->key.source, out);
	inode_ref(n->past);
	*out = n->past;
	return 0;
}

/* Attributes. */

/* st with the bits that all columns have. A class of it must not read where one who is in it is the owner of some columns, or in
 * the group of some, and may not read these. */
static struct stat shared_attr(const struct stat *st, mode_t all, bool uids, bool gids)
{
	bool owners = uids || (all & 0400), groups = gids || (all & 0040);
	struct stat out = *st;

	if (!owners || !gids)
		all &= ~(mode_t)0040;
	if (!owners || !groups)
		all &= ~(mode_t)0004;
	if (!uids)
		out.st_uid = geteuid();
	if (!gids)
		out.st_gid = getegid();
	out.st_mode = S_IFREG | all;
	return out;
}

/* Whoever may read a table may read each of its columns, and list its directory. */
static int table_attr(struct tree *t, const struct view_node *n, struct tree_attr *attr)
{
	struct view_columns c;
	struct stat *st = &attr->st;
	mode_t all = st->st_mode & st->st_mode << 2 & 0444;
	bool uids = true, gids = true;
	int err = views_columns(t, n->key.source, &c);

	if (err)
		return err == -ENOENT ? -ESTALE : err;
	for (size_t k = 0; k < c.n; k++) {
		struct inode *i = c.v[k].inode;

		lock_acquire(&i->attr);
		all &= i->mode;
		uids &= i->uid == st->st_uid;
		gids &= i->gid == st->st_gid;
		if (i->mtime_ns > clock_ns(st->st_mtim))
			st->st_mtim = clock_timespec(i->mtime_ns);
		lock_release(&i->attr);
	}
	views_columns_fini(&c);
	*st = shared_attr(st, all, uids, gids);
	return 0;
}

static int source_attr(struct tree *t, const struct view_node *n, struct tree_attr *out)
{
	struct inode *i;
	int err;

	if (n->key.source == META_INO_ROOT || (views_is_fixed(t, n->key.source) && !n->past)) {
		err = realm_of(t, n->key.source)->getattr(t, n->key.source, out);
		return err || n->key.role != VIEW_TABLE ? err : table_attr(t, n, out);
	}
	err = views_source(t, n, &i);
	if (err)
		return err;
	inode_stat(i, out);
	inode_put(i, 1);
	return n->key.role == VIEW_TABLE ? table_attr(t, n, out) : 0;
}

/* Between a lookup and what comes of it the source may go, and what is open outlives it: then it is as it was. */
static int node_attr(struct tree *t, struct inode *i, struct tree_attr *out)
{
	struct view_inode *n = view_of(i);
	int err = source_attr(t, &n->node, out);

	lock_acquire(&i->attr);
	if (!err) {
		n->source = out->st;
	} else if (err == -ESTALE && n->source.st_mode) {
		*out = (struct tree_attr){ .st = n->source };
		err = 0;
	}
	lock_release(&i->attr);
	return err;
}

/* Who may read the source may read the view; who may write it, write it through npy. Names are changed in directories of
 * formats that show an array as a file. */
static mode_t mode_of(const struct tree *t, const struct view_node *n, mode_t source)
{
	bool one_file = n->key.format == FORMAT_NPY || n->key.format == FORMAT_PARQUET || n->key.format == FORMAT_ARROW ||
			n->key.format == FORMAT_ZST;
	bool writes = !views_is_fixed(t, n->key.source) && ((n->key.role == VIEW_DIR && one_file) ||
						  (n->key.role == VIEW_FILE && n->key.format == FORMAT_NPY));
	mode_t mode = source & (writes ? 01777 : 0555);

	if (n->key.role == VIEW_TOP || n->key.role == VIEW_FORMAT)
		return S_IFDIR | 0555;
	if (!view_role_is_dir(n->key.role))
		return S_IFREG | (mode & 0666);
	if (!S_ISDIR(source))
		mode = (mode & 0444) | (mode & 0444) >> 2;
	return S_IFDIR | mode;
}

/* Versions are equal or not; which of two is newer they do not tell, but the order of looks does. */
static void note_version_locked(struct view_inode *n, uint64_t version)
{
	if (version == n->seen)
		return;
	n->seen = version;
	n->nseen++;
}

/* The file's size for the sources as they are; what is open keeps the size it was opened with. */
static int file_size(struct tree *t, struct inode *i, uint64_t *out)
{
	struct view_inode *n = view_of(i);
	uint64_t version, size = 0;
	struct view *v;
	bool ever, known, open = i->array;
	int err = open ? 0 : views_version(t, &n->node, &version);
	bool gone = err == -ESTALE;

	if (err && !gone)
		return err;
	lock_acquire(&i->attr);
	if (!open && !gone)
		note_version_locked(n, version);
	ever = n->known;
	known = ever && (open || gone || t->sizes_stick || n->version == version);
	size = n->laid_bytes;
	lock_release(&i->attr);
	if (!known && gone)
		return -ESTALE;
	if (!known)
		err = views_lay(t, &n->node, false, &v);
	/* Replaced, though somebody still holds it: with its name its type is gone. */
	known |= ever && err == -ESTALE;
	if (!known) {
		if (err)
			return err;
		size = view_size(v);
		view_free(v);
		lock_acquire(&i->attr);
		/* Opened meanwhile, or told: the size is what that has found. */
		if (i->array || (n->known && t->sizes_stick)) {
			size = n->laid_bytes;
		} else {
			n->known = true;
			n->version = version;
			n->laid_bytes = size;
			n->hash = 0; /* of no pages that the kernel may have */
		}
		lock_release(&i->attr);
	}
	*out = size;
	return 0;
}

uint64_t views_shown_ino(struct tree *t, uint64_t ino)
{
	struct inode *i;

	return inode_find(t, ino, &i) ? ino : views_number(&view_of(i)->node.key);
}

/* How long the kernel may keep what it is told. */
static void keep_for(struct inode *i, struct tree_attr *out)
{
	const struct view_inode *n = view_of(i);
	bool follow = i->tree->store->config.follow;

	out->attr_ms = 0;
	out->name_ms = TREE_KEEP_MS;
	/* Readers of Parquet ask for the size at every page: that of an open file does not change, and each lookup tells it anew. */
	if (!n->upload && !views_is_live(i))
		out->attr_ms = view_role_is_dir(n->node.key.role) ? WALK_MS : BRIEF_MS;
	if (n->node.key.role == VIEW_TOP || n->node.key.role == VIEW_FORMAT)
		out->attr_ms = follow ? out->attr_ms : TREE_KEEP_MS;
	else if (!views_is_fixed(i->tree, n->node.key.source) || follow)
		out->name_ms = 0;
}

int views_getattr(struct tree *t, uint64_t ino, struct tree_attr *out)
{
	struct inode *i;
	struct view_inode *n;
	uint64_t size = 0;
	int err = inode_find(t, ino, &i);

	if (err)
		return err;
	n = view_of(i);
	if (n->upload) {
		upload_stat(n->upload, out);
		size = upload_bytes(n->upload);
	} else {
		err = node_attr(t, i, out);
		if (!err && !view_role_is_dir(n->node.key.role))
			err = file_size(t, i, &size);
		if (err)
			return err;
		out->st.st_mode = mode_of(t, &n->node, out->st.st_mode);
	}
	lock_acquire(&i->attr);
	n->told_bytes = size;
	n->told_uid = out->st.st_uid;
	lock_release(&i->attr);
	out->st.st_ino = ino;
	out->st.st_nlink = 1; /* of directories: not counted */
	out->st.st_size = (off_t)size;
	out->st.st_blocks = size ? TREE_BLOCKS_LEAST : 0; /* the bytes are the array's, counted there */
	out->st.st_blksize = TREE_IO_BYTES;
	out->st.st_rdev = 0;
	keep_for(i, out);
	return 0;
}

uint64_t views_told(struct inode *i)
{
	uint64_t bytes;

	lock_acquire(&i->attr);
	bytes = view_of(i)->told_bytes;
	lock_release(&i->attr);
	return bytes;
}

/* Opening. */

static int begin(struct tree *t, const struct view_node *n, struct view_opening *out)
{
	struct tree_attr attr;
	struct view *v;
	int err = views_version(t, n, &out->version);

	if (!err)
		err = source_attr(t, n, &attr);
	if (!err)
		err = views_lay(t, n, true, &v);
	if (err)
		return err;
	out->source = attr.st;
	out->hash = view_hash(v);
	view_array(t->arrays, v, &out->array);
	return 0;
}

static bool same_access(const struct stat *a, const struct stat *b)
{
	return a->st_mode == b->st_mode && a->st_uid == b->st_uid && a->st_gid == b->st_gid;
}

int views_now(struct inode *i, struct inode **out)
{
	struct view_inode *n = view_of(i);
	struct tree_attr attr;
	bool allowed;
	int err = n->node.past ? -ESTALE : views_named(i->tree, &n->node, out);

	if (err)
		return err == -ENOENT ? -ESTALE : err;
	inode_stat(*out, &attr);
	lock_acquire(&i->attr);
	allowed = (*out)->ino == n->node.key.source ||
		  (same_access(&attr.st, &n->source) && clock_monotonic_ns() - atomic_load(&n->answered_ns) < REPLACED_NS);
	lock_release(&i->attr);
	if (allowed)
		return 0;
	inode_put(*out, 1);
	*out = NULL;
	return -ESTALE;
}

/* Not to be read. If it was an array's view when it was looked up, or is an array's by now, there is that to look up. */
static int refuse_upload(struct tree *t, const struct view_inode *n, pid_t thread)
{
	if (n->node.key.role == VIEW_NEW && !upload_is_published(n->upload))
		return -EBUSY;
	views_part(t, &n->node.key, thread);
	return -ESTALE;
}

/* Replaced since it was looked up, its name stands for another array, which is what an open then shows. */
int views_open_begin(struct inode *i, struct view_opening *out)
{
	const struct view_inode *n = view_of(i);
	struct view_node now = { .key = n->node.key, .past = n->node.past, .dir = n->node.dir, .name = n->node.name, .live = out->live };
	struct inode *source = NULL;
	int err;

	if (n->upload)
		return refuse_upload(i->tree, n, out->thread);
	lock_acquire(&i->attr);
	out->nseen = n->nseen;
	lock_release(&i->attr);
	err = begin(i->tree, &now, out);
	for (int k = 0; err == -ESTALE && k < VIEWS_REPLACED_TRIES; k++) {
		if (source)
			inode_put(source, 1);
		source = NULL;
		if (views_now(i, &source))
			break;
		now.key.source = source->ino;
		err = begin(i->tree, &now, out);
	}
	if (source)
		inode_put(source, 1);
	return err;
}

int views_open_end(struct inode *i, struct view_opening *o)
{
	struct view_inode *n = view_of(i);

	if (atomic_load(&n->written)) {
		views_part(i->tree, &n->node.key, o->thread);
		return -ESTALE;
	}
	if (i->array) {
		views_parted(i->tree, &n->node.key, o->thread);
		return 0;
	}
	lock_acquire(&i->attr);
	if (i->tree->sizes_stick && n->known && n->told_bytes != o->array->size_bytes) {
		atomic_store(&n->superseded, true);
		lock_release(&i->attr);
		views_part(i->tree, &n->node.key, o->thread);
		return -ESTALE;
	}
	/* Looked at again, and the kernel asked again who may read it. */
	if (n->source.st_mode && !same_access(&n->source, &o->source)) {
		lock_release(&i->attr);
		return -ESTALE;
	}
	/* Others have seen other sources since, perhaps newer ones. */
	if (n->nseen != o->nseen && (n->nseen != o->nseen + 1 || n->seen != o->version)) {
		lock_release(&i->attr);
		if (++o->ntries < OPEN_TRIES)
			return -EAGAIN;
		views_part(i->tree, &n->node.key, o->thread);
		return -ESTALE;
	}
	note_version_locked(n, o->version);
	if (!n->known || n->version != o->version || n->hash != o->hash)
		atomic_store(&i->stale_pages, true);
	n->known = true;
	n->version = o->version;
	n->hash = o->hash;
	n->laid_bytes = o->array->size_bytes;
	n->source = o->source;
	atomic_store(&i->size_bytes, o->array->size_bytes);
	i->array = o->array;
	lock_release(&i->attr);
	o->array = NULL;
	views_parted(i->tree, &n->node.key, o->thread);
	return 0;
}

int views_make(struct tree *t, uint64_t parent, const struct realm_new *what, struct tree_attr *out)
{
	const char *name = what->name;
	struct inode *dir, *i;
	struct view_key key;
	bool temporary;
	int err = inode_find(t, parent, &dir);

	if (err)
		return err;
	key = (struct view_key){ .source = view_of(dir)->node.key.source, .role = VIEW_NEW, .format = FORMAT_NPY,
				 .sub = atomic_fetch_add(&t->views_made, 1) };
	if (view_of(dir)->node.key.format != FORMAT_NPY || view_of(dir)->node.key.role != VIEW_DIR || views_is_fixed(t, key.source))
		return -EROFS;
	if (!upload_name_is_good(name, &temporary))
		return -EPERM;
	if (!temporary) {
		char array[META_NAME_MAX + 1];

		/* It may be something that has no view. */
		snprintf(array, sizeof(array), "%.*s", (int)(strlen(name) - strlen(view_formats[FORMAT_NPY].suffix)), name);
		err = realm_of(t, key.source)->lookup(t, key.source, array, NULL, out);
		if (!err)
			inode_forget(t, out->st.st_ino, 1);
		if (err != -ENOENT)
			return err ? err : -EEXIST;
	}
	err = node_for(t, &key, key.source, NULL, 0, false, &i);
	if (err)
		return err;
	err = upload_begin(i, name, what->who, what->mode);
	if (!err)
		err = views_getattr(t, i->ino, out);
	if (err)
		inode_put(i, 1);
	return err;
}
