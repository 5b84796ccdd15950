/*
 * Arrays written as .npy.
 *
 * Invariants:
 *  1. The array has all settings before its first element, so that its blocks have whole rows.
 *  2. It gets its name once, when it has been written to the end that its shape gives it (what was left out is zeros, as in
 *     any file). A program that still has it mapped afterwards changes elements in place.
 *  3. The first error of a write stays: nothing of a file that failed is published.
 *  4. An upload is in the list of its tree while its name can be looked up; the list holds the node.
 */
#include "tree/views/upload.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array/acl.h"
#include "array/dtype.h"
#include "array/runs.h"
#include "spillfs.h"
#include "store/store.h"
#include "tree/live/edit.h"
#include "tree/live/live.h"
#include "tree/live/privs.h"
#include "tree/live/quota.h"
#include "tree/views/inside.h"
#include "util/clock.h"
#include "util/log.h"
#include "view/formats/npy.h"

/* How long a program that has written only the header of an upload finds the upload by the name of the array that it replaces. */
#define WAIT_NS 10000000000

struct upload {
	struct inode *node;
	/* RANK_ICACHE: the list, and its names */
	struct upload *next;
	bool listed;
	uint64_t number;    /* for listings */
	uint64_t dir;       /* where the array is made */
	char name[META_NAME_MAX + 1];  /* of the file; "": only by the array's */
	char array_name[META_NAME_MAX + 1]; /* ""; the name is temporary */
	uint64_t old;       /* what it replaces; 0: nothing */
	pid_t begun_by;
	int64_t waits_until_ns; /* so long begun_by may open it again */
	bool dropped;       /* removed, or replaced: it ends without a name */

	struct lock lock;   /* RANK_UPLOAD: the rest */
	unsigned nopen;
	struct tree_caller caller, owner; /* the writer, and the owner of the array to be */
	mode_t mode;
	struct acl acl;     /* of what it replaces */
	char *head;         /* all until the header is there, then the header */
	size_t nhead;
	bool parsed, published;
	struct npy_facts facts;
	uint64_t total_bytes, high; /* of the file, and how far it is written */
	_Atomic uint64_t array_ino;
	struct inode *array;
	struct runs_writer writer;
	int err;
};

/* Names. */

bool upload_name_is_good(const char *name, bool *temporary_out)
{
	size_t len = strlen(name);
	const char *npy = strstr(name, ".npy");
	bool whole = len > 4 && !strcmp(name + len - 4, ".npy");

	/* As rsync and others call what they rename later: .NAME.npy.Xy12Z3, NAME.npy.tmp. */
	*temporary_out = !whole && npy && npy > name && npy[4] == '.' && npy[5];
	return whole || *temporary_out;
}

/* As the log calls it. */
static const char *label(const struct upload *u)
{
	return *u->array_name ? u->array_name : u->name;
}

static void list_add(struct upload *u)
{
	struct tree *t = u->node->tree;

	lock_acquire(&t->lock);
	u->waits_until_ns = clock_now_ns() + WAIT_NS;
	if (!u->listed) {
		u->number = atomic_fetch_add(&t->uploads_made, 1) + 1;
		u->next = t->uploads;
		t->uploads = u;
		u->listed = true;
		u->node->refs++;
	}
	lock_release(&t->lock);
}

static bool list_remove(struct upload *u)
{
	struct tree *t = u->node->tree;
	bool was;

	lock_acquire(&t->lock);
	was = u->listed;
	u->listed = false;
	for (struct upload **at = &t->uploads; *at && was; at = &(*at)->next) {
		if (*at == u) {
			*at = u->next;
			break;
		}
	}
	lock_release(&t->lock);
	return was;
}

/* Finds an upload by its own name; with `who` one that waits for this caller, by the name of its array. */
static int find(struct tree *t, uint64_t dir, const char *name, const struct tree_caller *who, struct inode **out)
{
	struct inode *found = NULL;
	int64_t now = clock_now_ns();

	lock_acquire(&t->lock);
	for (struct upload *u = t->uploads; u && !found; u = u->next) {
		bool is_it = who ? !*u->name && u->begun_by == who->thread && now < u->waits_until_ns &&
						!strcmp(u->array_name, name) :
				       *u->name && !strcmp(u->name, name);

		if (u->dir == dir && is_it) {
			found = u->node;
			found->refs++;
		}
	}
	lock_release(&t->lock);
	if (!found)
		return -ENOENT;
	*out = found;
	return 0;
}

int upload_find(struct tree *t, uint64_t dir, const char *name, struct inode **out)
{
	return find(t, dir, name, NULL, out);
}

int upload_find_waiting(struct tree *t, uint64_t dir, const char *array, const struct tree_caller *who, struct inode **out)
{
	return who ? find(t, dir, array, who, out) : -ENOENT;
}

int upload_next(struct tree *t, uint64_t dir, uint64_t after, uint64_t *number_out, char name[256], uint64_t *ino_out)
{
	const struct upload *first = NULL;

	lock_acquire(&t->lock);
	for (const struct upload *u = t->uploads; u; u = u->next) {
		if (u->dir == dir && *u->name && u->number > after && (!first || u->number < first->number))
			first = u;
	}
	if (first) {
		*number_out = first->number;
		*ino_out = first->node->facts.ino;
		strcpy(name, first->name);
	}
	lock_release(&t->lock);
	return first ? 0 : -ENOENT;
}

/* Beginning. */

static int new_upload(struct inode *node, const struct tree_caller *who, struct upload **out)
{
	struct upload *u = calloc(1, sizeof(*u));

	if (!u)
		return -ENOMEM;
	lock_init(&u->lock, RANK_UPLOAD);
	u->node = node;
	u->dir = view_of(node)->node.dir;
	u->caller = u->owner = *who;
	u->begun_by = who->thread;
	*out = u;
	return 0;
}

int upload_begin(struct inode *node, const char *name, const struct tree_caller *who, mode_t mode)
{
	struct upload *u;
	bool temporary;
	int err = new_upload(node, who, &u);

	if (err)
		return err;
	u->mode = mode;
	snprintf(u->name, sizeof(u->name), "%s", name);
	if (upload_name_is_good(name, &temporary) && !temporary)
		snprintf(u->array_name, sizeof(u->array_name), "%.*s", (int)(strlen(name) - 4), name);
	view_of(node)->upload = u;
	list_add(u);
	return 0;
}

/* The written bytes are lost; no lock may be held. */
static void start_over(struct upload *u)
{
	struct inode *array = u->array;

	u->array = NULL;
	atomic_store(&u->array_ino, 0);
	free(u->head);
	u->head = NULL;
	u->nhead = 0;
	u->parsed = u->published = false;
	u->total_bytes = u->high = 0;
	u->err = 0;
	inode_set_size(u->node, 0);
	if (!array)
		return;
	edit_leave(array, &u->writer);
	inode_put(array, 1);
}

void upload_free(struct upload *u)
{
	start_over(u);
	lock_fini(&u->lock);
	free(u->acl.v);
	free(u);
}

/* When a file is opened for writing, the kernel drops its pages. So a view that is also read needs a node of its own, which the
 * kernel gets when it looks the name up again. */
static int part_from_readers(struct inode *i, pid_t thread)
{
	int err = 0;

	rwlock_exclusive(&i->rw);
	atomic_store(&view_of(i)->superseded, true);
	if (atomic_load(&i->ncached) || atomic_load(&view_of(i)->written) || view_of(i)->upload)
		err = -ESTALE;
	else
		atomic_store(&view_of(i)->written, true);
	rwlock_release(&i->rw);
	if (err)
		views_part(i->tree, &view_of(i)->node.key, thread);
	else
		views_parted(i->tree, &view_of(i)->node.key, thread);
	return err;
}

static int keep_acl(struct upload *u, struct inode *old)
{
	int err;

	meta_lock(old->tree->store->meta);
	err = old->realm->stored_locked(old, ACL_ACCESS, &u->acl.v, &u->acl.len);
	meta_unlock(old->tree->store->meta);
	return err == -ENODATA ? 0 : err;
}

/* Begins an upload that replaces the array that the node shows. The new array gets the owner, the mode and the ACL of the old one. */
static int replace_array(struct inode *node, const struct tree_caller *who)
{
	struct inode *old;
	struct upload *u;
	int err = views_now(node, &old);

	if (err)
		return err;
	err = new_upload(node, who, &u);
	if (!err) {
		snprintf(u->array_name, sizeof(u->array_name), "%s", view_of(node)->node.name);
		u->old = old->facts.ino;
		lock_acquire(&old->attr);
		u->owner = (struct tree_caller){ .uid = old->facts.uid, .gid = old->facts.gid };
		u->mode = inode_mode(old) & ~(mode_t)(S_ISUID | S_ISGID); /* as after any write */
		lock_release(&old->attr);
		err = keep_acl(u, old);
		if (!err)
			err = part_from_readers(node, who->thread);
		if (err)
			upload_free(u);
		else
			view_of(node)->upload = u;
	}
	inode_put(old, 1);
	return err;
}

int upload_open(struct inode *node, int flags, const struct tree_caller *who, struct upload **out, bool *cached_out)
{
	struct upload *u = view_of(node)->upload;
	int err = u ? 0 : -ENOENT;

	if (!u && (flags & O_TRUNC)) {
		err = replace_array(node, who);
		u = view_of(node)->upload;
	}
	if (err)
		return err;
	lock_acquire(&u->lock);
	/* A program that begins anew while another one writes gets a file of its own. The file that is complete last wins. */
	if ((flags & O_TRUNC) && (u->nopen || u->published))
		err = -ESTALE;
	else if (flags & O_TRUNC)
		start_over(u);
	if (!err) {
		u->nopen++;
		u->caller = *who;
		/* Pages come in no order from the writeback cache: the header has to be there. */
		*cached_out = (flags & O_ACCMODE) == O_RDWR && (u->parsed || !node->tree->sizes_stick);
	}
	lock_release(&u->lock);
	if (err) {
		if (list_remove(u))
			inode_put(node, 1);
		return err;
	}
	inode_ref(node);
	*out = u;
	return 0;
}

/* Is the upload, which is closed, likely to be opened again or renamed? */
static bool waits_locked(const struct upload *u)
{
	bool only_header = u->parsed && u->high == u->facts.data_off && u->high < u->total_bytes;

	return !u->err && !u->published && !u->dropped && u->parsed && (only_header || (u->high >= u->total_bytes && !*u->array_name));
}

void upload_close(struct upload *u)
{
	struct inode *node = u->node;
	bool ended;

	lock_acquire(&u->lock);
	ended = !--u->nopen && !waits_locked(u);
	if (ended && u->high && !u->published && !u->err && !u->dropped)
		log_warn("views/npy: %s: it ends before its shape does; nothing has changed", label(u));
	if (ended && !u->published)
		start_over(u);
	lock_release(&u->lock);
	if (ended && list_remove(u))
		inode_put(node, 1);
	inode_put(node, 1);
}

void upload_drop(struct inode *node)
{
	struct upload *u = view_of(node)->upload;

	lock_acquire(&u->lock);
	u->dropped = true;
	if (!u->nopen && !u->published)
		start_over(u);
	lock_release(&u->lock);
	if (list_remove(u))
		inode_put(node, 1);
}

void upload_drop_all(struct tree *t)
{
	for (;;) {
		struct upload *u;

		lock_acquire(&t->lock);
		u = t->uploads;
		if (u)
			u->node->refs++;
		lock_release(&t->lock);
		if (!u)
			return;
		if (u->high)
			log_warn("views/npy: %s: it waited for another name, or for what follows its header; it is lost", label(u));
		upload_drop(u->node);
		inode_put(u->node, 1);
	}
}

/* Making the array. */

static int set_locked(struct inode *i, const char *name, const char *value)
{
	struct meta *m = i->tree->store->meta;
	int err;

	if (value)
		return meta_xattr_set_locked(m, i->facts.ino, name, value, strlen(value));
	err = meta_xattr_remove_locked(m, i->facts.ino, name);
	return err == -ENODATA ? 0 : err;
}

/* Sets what the header says; a default of the directory that says something else goes. */
static int set_facts(struct inode *i, const struct npy_facts *f)
{
	struct meta *m = i->tree->store->meta;
	char shape[SHAPE_TEXT_MAX], logical[32];
	int err;

	shape_text(&f->shape, shape);
	snprintf(logical, sizeof(logical), "%s[%s]", f->logical.kind == LOGICAL_DURATION ? "duration" : "timestamp",
		 logical_unit_name(f->logical.unit));
	meta_lock(m);
	err = set_locked(i, SPILLFS_XATTR_DTYPE, f->dtype);
	if (!err)
		err = set_locked(i, SPILLFS_XATTR_SHAPE, f->shape.ndims == 1 ? NULL : shape);
	if (!err)
		err = set_locked(i, SPILLFS_XATTR_ORDER, f->shape.fortran && f->shape.ndims > 1 ? "F" : NULL);
	if (!err)
		err = set_locked(i, SPILLFS_XATTR_LOGICAL, f->logical.kind ? logical : NULL);
	atomic_store(&live_of(i)->has_xattrs, 1);
	meta_unlock(m);
	return err;
}

static int make_array(struct upload *u)
{
	uint32_t elem;
	int err = dtype_size(u->facts.dtype, &elem);

	if (err)
		return err;
	u->total_bytes = u->facts.data_off + shape_count(&u->facts.shape) * elem;
	err = live_make_nameless(realm_tree(u->node->tree, u->dir), u->dir, &u->owner, u->mode, u->old ? &u->acl : NULL, &u->array);
	if (!err)
		atomic_store(&u->array_ino, u->array->facts.ino);
	return err ? err : set_facts(u->array, &u->facts);
}

/* Writing. */

static int refuse(struct upload *u, const char *why)
{
	log_warn("views/npy: %s: %s", label(u), why);
	return -EINVAL;
}

/* Takes more of the header from b; the bytes behind it stay there. */
static int add_head(struct upload *u, struct edit_bytes *b)
{
	const char *why = "";
	char *grown;
	size_t need;
	int err;

	if (b->off != u->nhead)
		return refuse(u, "the header was not written in order");
	grown = realloc(u->head, u->nhead + b->len);
	if (!grown)
		return -ENOMEM;
	memcpy(grown + u->nhead, b->buf, b->len);
	u->head = grown;
	u->nhead += b->len;
	err = npy_parse(u->head, u->nhead, &u->facts, &need, &why);
	if (err == -EAGAIN)
		edit_bytes_take(b, b->len);
	if (err)
		return err == -EAGAIN ? 0 : err == -EINVAL ? refuse(u, why) : err;
	err = make_array(u);
	if (err)
		return err;
	u->parsed = true;
	u->nhead = (size_t)u->facts.data_off;
	edit_bytes_take(b, u->nhead - (size_t)b->off);
	return 0;
}

static int write_elements(struct upload *u, struct edit_bytes *b, const struct tree_caller *who)
{
	size_t len = b->len;
	int err;

	if (u->published)
		return views_write_array(u->array, b, who);
	err = privs_drop(u->array, who, PRIVS_DATA, NULL);
	if (!err)
		err = edit_write(u->array, b, &u->writer);
	if (b->len < len)
		live_touch(u->array, TREE_SET_MTIME | TREE_SET_CTIME);
	return err;
}

static int add_data(struct upload *u, struct edit_bytes *b, const struct tree_caller *who)
{
	struct edit_bytes elements = *b;
	int err;

	if (b->off > u->total_bytes || b->len > u->total_bytes - b->off)
		return refuse(u, "there is more than its shape says");
	if (!b->len)
		return 0;
	elements.off -= u->facts.data_off;
	err = write_elements(u, &elements, who);
	edit_bytes_take(b, b->len - elements.len);
	return err;
}

static int write_locked(struct upload *u, struct edit_bytes *b, const struct tree_caller *who)
{
	size_t n;
	int err;

	if (!u->parsed) {
		err = add_head(u, b);
		if (err || !u->parsed)
			return err;
	} else if (b->off < u->nhead) {
		n = u->nhead - b->off < b->len ? (size_t)(u->nhead - b->off) : b->len;
		if (memcmp(u->head + b->off, b->buf, n))
			return refuse(u, "its header was changed while it was written");
		edit_bytes_take(b, n);
	}
	return add_data(u, b, who);
}

static void set_high(struct upload *u, uint64_t high)
{
	u->high = high;
	inode_set_size(u->node, high);
}

int upload_write(struct upload *u, struct edit_bytes *b, const struct tree_caller *who)
{
	int err;

	lock_acquire(&u->lock);
	err = u->err ? u->err : write_locked(u, b, who);
	if (!u->published)
		u->err = err;
	if (b->off > u->high)
		set_high(u, b->off);
	lock_release(&u->lock);
	return err;
}

/* Elements [off, off + len) of the array, and zeros where it ends. */
static int read_data(struct upload *u, char *buf, size_t len, uint64_t off)
{
	struct array *a;
	size_t n = 0;
	int err;

	rwlock_exclusive(&u->array->rw);
	err = inode_need_array(u->array, &a);
	if (!err)
		err = array_read(a, buf, len, off, &n);
	inode_idle_array(u->array);
	rwlock_release(&u->array->rw);
	memset(buf + n, 0, len - n);
	return err;
}

int upload_read(struct upload *u, void *buf, size_t len, uint64_t off, size_t *n_out)
{
	size_t n;
	int err = 0;

	lock_acquire(&u->lock);
	len = off >= u->high ? 0 : u->high - off < len ? (size_t)(u->high - off) : len;
	n = off >= u->nhead ? 0 : u->nhead - off < len ? (size_t)(u->nhead - off) : len;
	if (n)
		memcpy(buf, u->head + off, n);
	if (len > n && u->array)
		err = read_data(u, (char *)buf + n, len - n, off + n - u->facts.data_off);
	else if (len > n)
		memset((char *)buf + n, 0, len - n);
	lock_release(&u->lock);
	if (!err)
		*n_out = len;
	return err;
}

static int publish_locked(struct upload *u)
{
	struct tree *t = u->node->tree;
	char name[META_NAME_MAX + 1];
	uint64_t dir, old;
	int err = edit_end_run(u->array, &u->writer, true);

	edit_leave(u->array, &u->writer);
	lock_acquire(&t->lock);
	strcpy(name, u->array_name);
	dir = u->dir;
	old = u->old;
	lock_release(&t->lock);
	if (!err)
		err = live_publish(realm_tree(t, dir), dir, name, u->array, old, &u->caller);
	if (err == -EACCES || err == -EEXIST)
		log_warn("views/npy: %s: not %s: its writer may not %s", name, err == -EEXIST ? "replaced" : "made",
			 err == -EEXIST ? "replace the array that has the name by now" : "make a file in this directory");
	if (err)
		return err;
	u->published = true;
	changed_name(t, dir, name);
	return 0;
}

/* Once published, the name is the array's. */
static int publish(struct upload *u)
{
	int err = publish_locked(u);

	if (!err && list_remove(u))
		inode_put(u->node, 1);
	return err;
}

int upload_flush(struct upload *u, bool closing)
{
	bool whole;
	int err;

	lock_acquire(&u->lock);
	err = u->err;
	if (!err && u->high && !u->published && !u->dropped) {
		whole = u->parsed && u->high >= u->total_bytes;
		if (whole && *u->array_name)
			err = u->err = publish(u);
		else if (!whole && u->parsed && closing && u->high == u->facts.data_off && !*u->name)
			list_add(u);
		else if (!whole && closing && !waits_locked(u))
			err = -EINVAL;
	}
	lock_release(&u->lock);
	return err;
}

int upload_rename(struct inode *node, uint64_t dir, const char *name, const char *array, uint64_t old)
{
	struct upload *u = view_of(node)->upload, was;
	struct tree *t = node->tree;
	int err = 0;

	lock_acquire(&u->lock);
	lock_acquire(&t->lock);
	was = *u;
	u->dir = dir;
	snprintf(u->name, sizeof(u->name), "%s", name);
	snprintf(u->array_name, sizeof(u->array_name), "%s", array);
	u->old = old;
	lock_release(&t->lock);
	if (*array && !u->nopen && u->parsed && !u->err && u->high >= u->total_bytes)
		err = publish(u);
	if (err) {
		lock_acquire(&t->lock);
		u->dir = was.dir;
		memcpy(u->name, was.name, sizeof(u->name));
		memcpy(u->array_name, was.array_name, sizeof(u->array_name));
		u->old = was.old;
		lock_release(&t->lock);
	}
	lock_release(&u->lock);
	return err;
}

/* Attributes. */

void upload_stat(struct upload *u, struct tree_attr *out)
{
	lock_acquire(&u->lock);
	if (u->array) {
		inode_stat(u->array, out);
	} else {
		memset(out, 0, sizeof(*out));
		out->st.st_uid = u->owner.uid;
		out->st.st_gid = u->owner.gid;
		out->st.st_mode = S_IFREG | (u->mode & ~u->owner.umask);
		out->st.st_mtim = clock_timespec(clock_now_ns());
		out->st.st_atim = out->st.st_ctim = out->st.st_mtim;
	}
	lock_release(&u->lock);
}

/* A program that makes room first, and then maps the file, sets the size. */
static int set_size_locked(struct upload *u, uint64_t size)
{
	if (size == u->high)
		return 0;
	if (!size && !u->published) {
		start_over(u);
		return 0;
	}
	if (!u->parsed || size < u->high || size > u->total_bytes)
		return -EINVAL;
	set_high(u, size);
	return size < u->total_bytes ? 0 : edit_resize(u->array, size - u->facts.data_off, &u->writer);
}

int upload_set(struct upload *u, unsigned set, const struct stat *st, const struct tree_caller *who)
{
	struct tree_attr attr;
	int err = 0;

	lock_acquire(&u->lock);
	if (set & TREE_SET_MODE) {
		u->mode = (u->mode & S_IFMT) | (st->st_mode & 07777);
		u->owner.umask = 0;
	}
	if (set & TREE_SET_UID)
		u->owner.uid = st->st_uid;
	if (set & TREE_SET_GID)
		u->owner.gid = st->st_gid;
	if (set & TREE_SET_SIZE)
		err = set_size_locked(u, (uint64_t)st->st_size);
	set &= ~TREE_SET_SIZE;
	if (!err && set && u->array) {
		err = realm_of(u->node->tree, u->array->facts.ino)->setattr(u->node->tree, u->array->facts.ino, set, st, who, NULL, &attr);
		changed_facts(u->node->tree, u->array->facts.ino);
	}
	lock_release(&u->lock);
	return err;
}

bool upload_is_bound(struct upload *u)
{
	bool is;

	lock_acquire(&u->lock);
	is = u->array && quota_applies(u->array);
	lock_release(&u->lock);
	return is;
}

uint64_t upload_bytes(struct upload *u)
{
	return inode_size(u->node);
}

uint64_t upload_total_bytes(struct upload *u)
{
	uint64_t total;

	lock_acquire(&u->lock);
	total = u->total_bytes;
	lock_release(&u->lock);
	return total;
}

bool upload_is_published(struct upload *u)
{
	bool is;

	lock_acquire(&u->lock);
	is = u->published;
	lock_release(&u->lock);
	return is;
}

uint64_t upload_array(struct upload *u)
{
	return atomic_load(&u->array_ino);
}
