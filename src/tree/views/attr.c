/*
 * Attributes of views: the array's, with the size of the file that it is shown as.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "array/acl.h"
#include "store/store.h"
#include "tree/views/inside.h"
#include "tree/views/upload.h"
#include "tree/xattr.h"
#include "util/clock.h"

/* So long the kernel may keep attributes: of files, and of directories from their lookup to the check of permission that follows. */
#define BRIEF_MS 1000
#define WALK_MS 50

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

/* Does an ACL say who may read a column, or list the directory? Then no mode can tell for all of them. */
static bool has_acls(struct tree *t, const struct view_columns *c, uint64_t dir)
{
	struct meta *m = realm_tree(t, dir)->store->meta;
	bool any = false;
	void *value;
	size_t len;

	if (!realm_of(t, dir)->getxattr(t, dir, ACL_ACCESS, &value, &len)) {
		free(value);
		return true;
	}
	meta_lock(m);
	for (size_t k = 0; k < c->n && !any; k++)
		any = xattr_has_acl_locked(c->v[k].inode);
	meta_unlock(m);
	return any;
}

/* Reading a table needs the right to read each of its columns, and to list its directory. */
static void table_attr(struct tree *t, const struct view_columns *c, uint64_t dir, struct tree_attr *attr)
{
	struct stat *st = &attr->st;
	mode_t all = st->st_mode & st->st_mode << 2 & 0444;
	bool uids = true, gids = true;

	for (size_t k = 0; k < c->n; k++) {
		struct inode *i = c->v[k].inode;

		lock_acquire(&i->attr);
		all &= inode_mode(i);
		uids &= i->facts.uid == st->st_uid;
		gids &= i->facts.gid == st->st_gid;
		if (i->facts.mtime_ns > clock_ns(st->st_mtim))
			st->st_mtim = clock_timespec(i->facts.mtime_ns);
		lock_release(&i->attr);
	}
	if ((all & 0044) && t->acls && has_acls(t, c, dir))
		all &= 0400;
	*st = shared_attr(st, all, uids, gids);
}

static int plain_attr(struct tree *t, const struct view_node *n, struct tree_attr *out)
{
	struct inode *i;
	int err;

	if (n->key.source == META_INO_ROOT || (views_is_fixed(t, n->key.source) && !n->past))
		return realm_of(t, n->key.source)->getattr(t, n->key.source, out);
	err = views_source(t, n, &i);
	if (err)
		return err;
	inode_stat(i, out);
	inode_put(i, 1);
	return 0;
}

int views_source_attr(struct tree *t, const struct view_node *n, const struct view_look *look, struct tree_attr *out)
{
	int err = n->key.role == VIEW_TABLE && !look ? -ESTALE : plain_attr(t, n, out);

	if (!err && n->key.role == VIEW_TABLE)
		table_attr(t, &look->columns, n->key.source, out);
	return err;
}

/* Between a lookup and what comes of it the source may go, and what is open outlives it: then it is as it was. */
static int node_attr(struct inode *i, const struct view_look *look, struct tree_attr *out)
{
	struct view_inode *n = view_of(i);
	int err = views_source_attr(i->tree, &n->node, look, out);

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

/* The right to read the source is that to read the view, and the right to write it is that through npy. Names are changed in
 * directories of formats that show an array as a file. */
static mode_t mode_of(const struct tree *t, const struct view_node *n, mode_t source)
{
	bool one_file = n->key.format == FORMAT_NPY || n->key.format == FORMAT_PARQUET || n->key.format == FORMAT_ARROW ||
			n->key.format == FORMAT_ZST;
	bool writes = !views_is_fixed(t, n->key.source) &&
		      ((n->key.role == VIEW_DIR && one_file) || (n->key.role == VIEW_FILE && n->key.format == FORMAT_NPY));
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
void views_note_version_locked(struct view_inode *n, uint64_t version)
{
	if (version == n->seen)
		return;
	n->seen = version;
	n->nseen++;
}

/* The size of a version, unless it was opened meanwhile, or told: then the size is what that has found. */
static uint64_t keep_size(struct inode *i, uint64_t version, uint64_t size)
{
	struct view_inode *n = view_of(i);

	lock_acquire(&i->attr);
	if (i->array || (n->known && i->tree->sizes_stick)) {
		size = n->laid_bytes;
	} else {
		n->known = true;
		n->version = version;
		n->laid_bytes = size;
		n->hash = 0; /* of no pages that the kernel may have */
	}
	lock_release(&i->attr);
	return size;
}

/* The file's size for the sources as they are; what is open keeps the size it was opened with. */
static int file_size(struct inode *i, const struct view_look *look, uint64_t *out)
{
	struct view_inode *n = view_of(i);
	bool sticks = i->tree->sizes_stick, ever, known, open = i->array, gone = !open && !look;
	uint64_t size;
	struct view *v;
	int err = 0;

	lock_acquire(&i->attr);
	if (!open && !gone)
		views_note_version_locked(n, look->version);
	ever = n->known;
	known = ever && (open || gone || sticks || n->version == look->version);
	size = n->laid_bytes;
	lock_release(&i->attr);
	if (!known && !look)
		return -ESTALE;
	if (!known)
		err = views_lay(i->tree, &n->node, look, false, &v);
	/* Replaced, though somebody still holds it: with its name its type is gone. */
	known |= ever && err == -ESTALE;
	if (!known && err)
		return err;
	if (!known) {
		size = keep_size(i, look->version, view_size(v));
		view_free(v);
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

/* Keeps which arrays the columns of a table are: whose pages it shows is asked right after it is looked up. */
static int keep_columns(struct inode *i, const struct view_columns *c)
{
	struct view_inode *n = view_of(i);
	struct tree_inos now = { 0 }, was;
	int err = 0;

	for (size_t k = 0; k < c->n && !err; k++)
		err = inos_add(&now, c->v[k].inode->facts.ino);
	if (err) {
		free(now.v);
		return err;
	}
	lock_acquire(&i->attr);
	was = n->columns;
	n->columns = now;
	lock_release(&i->attr);
	free(was.v);
	return 0;
}

int views_attr(struct inode *i, const struct view_look *look, struct tree_attr *out)
{
	struct view_inode *n = view_of(i);
	uint64_t size = 0;
	int err;

	if (n->upload) {
		upload_stat(n->upload, out);
		size = upload_bytes(n->upload);
	} else {
		err = node_attr(i, look, out);
		if (!err && !view_role_is_dir(n->node.key.role))
			err = file_size(i, look, &size);
		if (!err && look && look->columns.n)
			err = keep_columns(i, &look->columns);
		if (err)
			return err;
		out->st.st_mode = mode_of(i->tree, &n->node, out->st.st_mode);
	}
	lock_acquire(&i->attr);
	n->told_bytes = size;
	n->told_uid = out->st.st_uid;
	lock_release(&i->attr);
	out->st.st_ino = i->facts.ino;
	out->st.st_nlink = 1; /* of directories: not counted */
	out->st.st_size = (off_t)size;
	out->st.st_blocks = size ? TREE_BLOCKS_LEAST : 0; /* the bytes are the array's, counted there */
	out->st.st_blksize = TREE_IO_BYTES;
	out->st.st_rdev = 0;
	keep_for(i, out);
	return 0;
}

int views_getattr(struct tree *t, uint64_t ino, struct tree_attr *out)
{
	struct view_look look;
	struct inode *i;
	int err = inode_find(t, ino, &i);

	if (err)
		return err;
	if (view_of(i)->upload || view_role_is_dir(view_of(i)->node.key.role))
		return views_attr(i, NULL, out);
	err = views_look(t, &view_of(i)->node, &look);
	if (err == -ESTALE)
		return views_attr(i, NULL, out);
	if (err)
		return err;
	err = views_attr(i, &look, out);
	views_look_end(&look);
	return err;
}

uint64_t views_told(struct inode *i)
{
	uint64_t bytes;

	lock_acquire(&i->attr);
	bytes = view_of(i)->told_bytes;
	lock_release(&i->attr);
	return bytes;
}
