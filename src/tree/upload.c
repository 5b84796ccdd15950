/*
 * Arrays written as .npy.
 *
 * Invariants:
 *  1. The array has all settings before its first element, so that its blocks have whole rows.
 *  2. It gets its name once, when it has been written to the end that its shape gives it (what was left out is zeros, as in
 *     any file); nothing is written afterwards.
 *  3. The first error of a write stays: nothing of a file that failed is published.
 */
#include "tree/upload.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array/dtype.h"
#include "spillfs.h"
#include "store/store.h"
#include "tree/edit.h"
#include "tree/name.h"
#include "tree/views_priv.h"
#include "util/log.h"
#include "view/npy.h"

struct upload {
	struct tree *tree;
	struct inode *view; /* whose descriptor this is */
	struct lock lock;   /* RANK_UPLOAD: the rest */
	uint64_t dir;       /* where the array is made, and its name */
	char *name;
	uint64_t old;       /* what it replaces; 0: nothing */
	struct tree_caller caller, owner; /* who writes, and whose the array becomes */
	mode_t mode;
	char *head;         /* all until the header is there, then the header */
	size_t nhead;
	bool parsed, published;
	struct npy_facts facts;
	uint64_t total_bytes, high; /* of the file, and how far it is written */
	struct inode *array;
	int err;
};

/*
 * Opened to be written, the kernel empties its idea of a file: a view that is also read must be another one, to which the
 * kernel comes when it looks the name up again.
 */
static int part_from_readers(struct inode *i)
{
	int err = 0;

	rwlock_exclusive(&i->rw);
	atomic_store(&i->view->superseded, true);
	if (atomic_load(&i->ncached))
		err = -ESTALE;
	else
		atomic_store(&i->view->written, true);
	rwlock_release(&i->rw);
	if (err)
		views_part(&i->view->key);
	else
		views_parted(&i->view->key);
	return err;
}

/* Who may have it: as the array that it replaces, else as whoever made the file says. */
static int find_owner(struct upload *u, struct inode *view)
{
	const struct view_node *n = view->view;
	struct inode *old;
	int err;

	u->owner = n->who;
	u->mode = n->mode;
	if (n->key.role == VIEW_NEW)
		return 0;
	err = views_now(view, &old);
	if (err)
		return err;
	u->old = old->ino;
	lock_acquire(&old->attr);
	u->owner = (struct tree_caller){ old->uid, old->gid };
	u->mode = old->mode & ~(mode_t)(S_ISUID | S_ISGID); /* as after any write */
	lock_release(&old->attr);
	inode_put(old, 1);
	return 0;
}

int upload_open(struct tree *t, uint64_t ino, int flags, const struct tree_caller *who, struct upload **out)
{
	struct view_node *n;
	struct inode *i;
	struct upload *u;
	int err = inode_find(t, ino, &i);

	if (err)
		return err;
	n = i->view;
	if (t->store->config.follow || n->past || n->key.format != FORMAT_NPY ||
	    (n->key.role != VIEW_FILE && n->key.role != VIEW_NEW))
		return -EROFS;
	if (n->key.role == VIEW_FILE && !(flags & O_TRUNC))
		return -EOPNOTSUPP;
	u = calloc(1, sizeof(*u));
	if (!u)
		return -ENOMEM;
	u->tree = t;
	u->dir = n->dir;
	u->caller = *who;
	u->name = strdup(n->name);
	err = u->name ? find_owner(u, i) : -ENOMEM;
	if (!err)
		err = part_from_readers(i);
	if (err) {
		free(u->name);
		free(u);
		return err;
	}
	lock_init(&u->lock, RANK_UPLOAD);
	inode_ref(i);
	u->view = i;
	*out = u;
	return 0;
}

void upload_close(struct upload *u)
{
	if (u->high && !u->published && !u->err)
		log_warn("views/npy: %s: it ends before its shape does; nothing has changed", u->name);
	if (u->array)
		inode_put(u->array, 1);
	inode_put(u->view, 1);
	lock_fini(&u->lock);
	free(u->name);
	free(u->head);
	free(u);
}

/* Making the array. */

static int set_locked(struct inode *i, const char *name, const char *value)
{
	struct meta *m = i->tree->store->meta;
	int err;

	if (value)
		return meta_xattr_set_locked(m, i->ino, name, value, strlen(value));
	err = meta_xattr_remove_locked(m, i->ino, name);
	return err == -ENODATA ? 0 : err;
}

/* What the header says; a default of the directory that says something else goes. */
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
	atomic_store(&i->has_xattrs, 1);
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
	err = name_make_nameless(u->tree, u->dir, &u->owner, u->mode, &u->array);
	return err ? err : set_facts(u->array, &u->facts);
}

/* Writing. */

static int refuse(struct upload *u, const char *why)
{
	log_warn("views/npy: %s: %s", u->name, why);
	return -EINVAL;
}

/* More of the header, and perhaps what follows it. */
static int add_head(struct upload *u, const char *buf, size_t len, uint64_t off)
{
	const char *why = "";
	char *grown;
	size_t need;
	int err;

	if (off != u->nhead)
		return refuse(u, "the header was not written in order");
	grown = realloc(u->head, u->nhead + len);
	if (!grown)
		return -ENOMEM;
	memcpy(grown + u->nhead, buf, len);
	u->head = grown;
	u->nhead += len;
	err = npy_parse(u->head, u->nhead, &u->facts, &need, &why);
	if (err)
		return err == -EAGAIN ? 0 : err == -EINVAL ? refuse(u, why) : err;
	err = make_array(u);
	u->parsed = !err;
	return err;
}

static int add_data(struct upload *u, const char *buf, size_t len, uint64_t off, unsigned how)
{
	bool grew;
	int err;

	if (u->published || off > u->total_bytes || len > u->total_bytes - off)
		return refuse(u, "there is more than its shape says");
	err = len ? edit_write(u->array, buf, len, off - u->facts.data_off, how, &grew) : 0;
	if (!err)
		inode_touch(u->array, TREE_SET_MTIME | TREE_SET_CTIME);
	return err;
}

static int write_locked(struct upload *u, const char *buf, size_t len, uint64_t off, unsigned how)
{
	uint64_t data, n;
	int err;

	if (!u->parsed) {
		err = add_head(u, buf, len, off);
		if (err || !u->parsed)
			return err;
		data = u->facts.data_off;
		n = u->nhead - data;
		err = add_data(u, u->head + data, (size_t)n, data, how);
		u->nhead = (size_t)data;
		return err;
	}
	if (off < u->nhead) {
		n = u->nhead - off < len ? u->nhead - off : len;
		if (memcmp(u->head + off, buf, (size_t)n))
			return refuse(u, "its header was changed while it was written");
		buf += n;
		off += n;
		len -= (size_t)n;
	}
	return add_data(u, buf, len, off, how);
}

int upload_write(struct upload *u, const void *buf, size_t len, uint64_t off, unsigned how)
{
	int err;

	lock_acquire(&u->lock);
	if (!u->err)
		u->err = write_locked(u, buf, len, off, how);
	err = u->err;
	if (off + len > u->high)
		u->high = off + len;
	atomic_store(&u->view->size_bytes, u->high);
	lock_release(&u->lock);
	return err;
}

static int publish(struct upload *u, struct tree_named *named)
{
	int err = edit_end_growth(u->array);

	if (!err)
		err = name_publish(u->tree, u->dir, u->name, u->array, u->old, &u->caller);
	if (err == -EACCES || err == -EEXIST)
		log_warn("views/npy: %s: not who wrote it may %s there now", u->name, err == -EEXIST ? "replace what is" : "make it");
	if (err)
		return err;
	u->published = true;
	named->parent = u->dir;
	snprintf(named->name, sizeof(named->name), "%s", u->name);
	return 0;
}

int upload_flush(struct upload *u, bool closing, struct tree_named *named)
{
	int err;

	lock_acquire(&u->lock);
	err = u->err;
	if (!err && u->high && !u->published) {
		if (!u->parsed || u->high < u->total_bytes)
			err = closing ? -EINVAL : 0;
		else
			err = u->err = publish(u, named);
	}
	lock_release(&u->lock);
	return err;
}
