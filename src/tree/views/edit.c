/*
 * Changes of a view that go through to its array: attributes and names.
 *
 * Only where one file is one array: npy, parquet, arrow, zst; npy's directories are those of the arrays, too. All else is
 * -EROFS. The kernel has checked what the caller may do by the attributes of the view, which are the array's.
 *
 * A renamed array keeps the suffix of its type, so that it keeps its type: prices.f64, shown as prices.npy, becomes NEW.f64
 * when that is renamed to NEW.npy. If NEW.npy shows an array already, that one is replaced, under its own name.
 *
 * The kernel caches the array by its own name too, for a day. Its check may be out of date when the request comes: attributes are
 * not set if the owner is another than the kernel was told (ESTALE), and in a sticky directory the owner is looked at again.
 *
 * Invariant: the kernel is told to forget what it knows of the array by the array's own name, before the change is answered. The
 * exceptions are a write, a truncation, and with the writeback cache an open that truncates: the kernel holds pages or page writes
 * meanwhile, and what is queued could wait for those.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array/dtype.h"
#include "spillfs.h"
#include "store/store.h"
#include "tree/live/kind.h"
#include "tree/live/live.h"
#include "tree/live/shelf.h"
#include "tree/views/inside.h"
#include "tree/views/upload.h"
#include "view/view.h"

static bool is_one_array(const struct view_key *k)
{
	return k->role == VIEW_FILE && (k->format == FORMAT_NPY || k->format == FORMAT_PARQUET || k->format == FORMAT_ARROW ||
					k->format == FORMAT_ZST);
}

int views_may_write(struct inode *i)
{
	const struct view_inode *n = view_of(i);
	bool file = n->node.key.role == VIEW_FILE || n->node.key.role == VIEW_NEW;

	return file && n->node.key.format == FORMAT_NPY && !views_is_fixed(i->tree, n->node.key.source) ? 0 : -EROFS;
}

/* The array that an open view shows, even if its name stands for another one; with a reference. */
static bool shown_array(struct inode *i, struct inode **out)
{
	struct inode *array = NULL;

	rwlock_shared(&i->rw);
	if (i->array)
		array = view_owner(i->array);
	if (array)
		inode_ref(array);
	rwlock_release(&i->rw);
	*out = array;
	return array;
}

int views_target(struct tree *t, uint64_t ino, struct inode **out)
{
	struct inode *i;
	int err = inode_find(t, ino, &i);
	bool dir;

	if (err)
		return err;
	dir = view_of(i)->node.key.role == VIEW_DIR && view_of(i)->node.key.format == FORMAT_NPY;
	if (view_of(i)->upload) {
		uint64_t array = upload_array(view_of(i)->upload);

		return array ? views_source_of(t, array, out) : -EOPNOTSUPP;
	}
	if ((!is_one_array(&view_of(i)->node.key) && !dir) || (dir && views_is_fixed(t, view_of(i)->node.key.source)))
		return -EROFS;
	return !dir && shown_array(i, out) ? 0 : views_source(t, &view_of(i)->node, out);
}

static uid_t owner_of(struct inode *i)
{
	struct tree_attr attr;

	if (i->realm->id == REALM_VIEWS)
		upload_stat(view_of(i)->upload, &attr);
	else
		inode_stat(i, &attr);
	return attr.st.st_uid;
}

/* The kernel has checked the caller against the owner that it was told last. If the owner was changed by another name of the array
 * (or upload), the kernel has to ask again. */
static int check_owner(struct inode *i, struct inode *owned, unsigned set, const struct tree_caller *who)
{
	bool late = set == (TREE_SET_MTIME | TREE_SET_CTIME); /* the kernel's own, with its writeback cache */
	uid_t uid = owner_of(owned);
	bool known;

	lock_acquire(&i->attr);
	known = view_of(i)->told_uid == uid;
	lock_release(&i->attr);
	if (known || late || !who->uid || !(set & (TREE_SET_MODE | TREE_SET_UID | TREE_SET_GID | TREE_SET_ATIME | TREE_SET_MTIME)))
		return 0;
	changed_attr(i->tree, i->facts.ino);
	return -ESTALE;
}

int views_setattr(struct tree *t, uint64_t ino, unsigned set, const struct stat *st, const struct tree_caller *who, struct tree_file *f,
		  struct tree_attr *out)
{
	struct tree_attr attr;
	struct inode *i, *target;
	int err = inode_find(t, ino, &i);

	(void)f;
	if (err)
		return err;
	if (view_of(i)->upload) {
		err = check_owner(i, i, set, who);
		if (!err)
			err = upload_set(view_of(i)->upload, set, st, who);
		return err ? err : views_getattr(t, ino, out);
	}
	err = views_target(t, ino, &target);
	/* With its writeback cache the kernel sends times late. If the array is gone, there is nothing to set them on. */
	if (err == -ESTALE && set == (TREE_SET_MTIME | TREE_SET_CTIME))
		return views_getattr(t, ino, out);
	if (err)
		return err;
	err = views_is_fixed(t, target->facts.ino) ? -EROFS : check_owner(i, target, set, who);
	/* The header says how many elements there are. */
	if (!err && (set & TREE_SET_SIZE)) {
		err = views_may_write(i);
		if (!err)
			err = views_getattr(t, ino, &attr);
		if (!err && attr.st.st_size != st->st_size)
			err = -EINVAL;
		set &= ~TREE_SET_SIZE;
	}
	if (!err && set) {
		err = realm_of(t, target->facts.ino)->setattr(t, target->facts.ino, set, st, who, NULL, &attr);
		changed_facts(t, target->facts.ino);
	}
	inode_put(target, 1);
	return err ? err : views_getattr(t, ino, out);
}

/* Names. */

/* The node of a directory of views in which names can be changed: of npy, or if `any` of another format of one file. And the
 * array's directory, held. */
static int find_dir(struct tree *t, uint64_t ino, bool any, struct inode **out, struct inode **held_out)
{
	struct inode *i;
	int err = inode_find(t, ino, &i);

	if (err)
		return err;
	if (view_of(i)->node.key.role != VIEW_DIR || views_is_fixed(t, view_of(i)->node.key.source))
		return -EROFS;
	if (view_of(i)->node.key.format != FORMAT_NPY &&
	    (!any || !is_one_array(&(struct view_key){ .role = VIEW_FILE, .format = view_of(i)->node.key.format })))
		return -EROFS;
	err = views_hold_dir(t, view_of(i)->node.key.source, held_out);
	if (!err)
		*out = i;
	return err;
}

/* An array, or a directory of npy, by its view's name: its own name, and itself with a reference. -ENOENT; -EROFS: a view of
 * something else. */
static int find_entry(struct tree *t, const struct view_key *dir, const char *name, char own[META_NAME_MAX + 1],
		      struct inode **out)
{
	struct tree_attr attr;
	int err = realm_of(t, dir->source)->lookup(t, dir->source, name, NULL, &attr);

	if (!err && S_ISDIR(attr.st.st_mode)) {
		strcpy(own, name);
		err = inode_find(t, attr.st.st_ino, out);
		if (!err && dir->format == FORMAT_NPY)
			return 0;
		inode_forget(t, attr.st.st_ino, 1);
		return err ? err : -EROFS;
	}
	if (!err)
		inode_forget(t, attr.st.st_ino, 1);
	return views_find(t, dir, name, own, out);
}

/* The upload that is called so, if no array is; with a reference. */
static int find_upload(struct tree *t, const struct view_key *dir, const char *name, struct inode **out)
{
	return dir->format == FORMAT_NPY ? upload_find(t, dir->source, name, out) : -ENOENT;
}

/* In a sticky directory only the owner of a file, or of the directory, takes the file's name away. The kernel has checked the file that it
 * found under the name, and the name may stand for another one since. */
static int check_sticky(struct inode *dir, struct inode *i, const struct tree_caller *who)
{
	bool may;

	if (!who || !who->uid || who->uid == owner_of(i))
		return 0;
	lock_acquire(&dir->attr);
	may = !(inode_mode(dir) & S_ISVTX) || who->uid == dir->facts.uid;
	lock_release(&dir->attr);
	return may ? 0 : -EPERM;
}

static int unlink_upload(struct inode *dir, struct inode *upload, const struct tree_caller *who)
{
	int err = check_sticky(dir, upload, who);

	if (!err)
		upload_drop(upload);
	return err;
}

int views_unlink(struct tree *t, uint64_t parent, const char *name, const struct tree_caller *who)
{
	char own[META_NAME_MAX + 1];
	struct inode *dir, *held, *i = NULL;
	int err = find_dir(t, parent, true, &dir, &held);

	if (err)
		return err;
	err = find_entry(t, &view_of(dir)->node.key, name, own, &i);
	if (!err) {
		err = check_sticky(held, i, who);
		if (!err)
			err = realm_of(t, held->facts.ino)->unlink(t, held->facts.ino, own, NULL);
		changed_name(t, held->facts.ino, own);
		changed_attr(t, i->facts.ino);
	} else if (err == -ENOENT && !find_upload(t, &view_of(dir)->node.key, name, &i)) {
		err = unlink_upload(held, i, who);
	}
	if (i)
		inode_put(i, 1);
	inode_put(held, 1);
	return err;
}

int views_mkdir(struct tree *t, uint64_t parent, const struct realm_new *what, struct tree_attr *out)
{
	struct inode *dir, *held;
	struct tree_attr made;
	int err = find_dir(t, parent, false, &dir, &held);

	if (err)
		return err;
	err = realm_of(t, held->facts.ino)->make(t, held->facts.ino, what, &made);
	if (!err) {
		changed_name(t, held->facts.ino, what->name);
		err = views_lookup(t, parent, what->name, what->who, out);
		inode_forget(t, made.st.st_ino, 1);
	}
	inode_put(held, 1);
	return err;
}

/* Is something being written there that is no array yet? */
static bool has_uploads(struct tree *t, uint64_t dir)
{
	char name[META_NAME_MAX + 1];
	uint64_t number, ino;

	return !upload_next(t, dir, 0, &number, name, &ino);
}

int views_rmdir(struct tree *t, uint64_t parent, const char *name)
{
	struct inode *dir, *held;
	struct tree_attr attr;
	int err = find_dir(t, parent, false, &dir, &held);

	if (err)
		return err;
	err = realm_of(t, held->facts.ino)->lookup(t, held->facts.ino, name, NULL, &attr);
	if (!err) {
		err = has_uploads(t, live_shelf_of(t, attr.st.st_ino)) ? -ENOTEMPTY : realm_of(t, held->facts.ino)->rmdir(t, held->facts.ino, name);
		inode_forget(t, attr.st.st_ino, 1);
	}
	changed_name(t, held->facts.ino, name);
	inode_put(held, 1);
	return err;
}

/* A new name of a view: *own is the array's name then, *there the array that has that name so far. */
struct place {
	struct inode *dir, *held, *there;
	char own[META_NAME_MAX + 1];
};

static void leave(struct place *p)
{
	if (p->there)
		inode_put(p->there, 1);
	if (p->held)
		inode_put(p->held, 1);
}

static int find_place(struct tree *t, uint64_t parent, const char *name, bool any, struct place *out)
{
	int err = find_dir(t, parent, any, &out->dir, &out->held);

	if (!err)
		err = find_entry(t, &view_of(out->dir)->node.key, name, out->own, &out->there);
	if (err == -ENOENT) {
		*out->own = '\0';
		err = 0;
	}
	return err;
}

/* Makes up the own name of an array of this type by suffix ("": none) for a view that nothing has the name of. */
static int name_array(enum view_format f, const char *view_name, const char *type, char own[META_NAME_MAX + 1])
{
	size_t len = strlen(view_name), ext = strlen(view_formats[f].suffix), n;

	if (len <= ext || strcmp(view_name + len - ext, view_formats[f].suffix))
		return -EINVAL;
	n = len - ext;
	memcpy(own, view_name, n);
	own[n] = '\0';
	if (*type && (!dtype_of_name(own) || strcmp(dtype_of_name(own), type)) &&
	    snprintf(own + n, META_NAME_MAX + 1 - n, ".%s", type) > (int)(META_NAME_MAX - n))
		return -ENAMETOOLONG;
	return 0;
}

/* Under another suffix the type has to be an attribute. */
static int keep_type(struct inode *i, const char *from, const char *to)
{
	const char *was = dtype_of_name(from), *is = dtype_of_name(to);
	struct meta *m = i->tree->store->meta;
	char *set;

	if (!was || (is && !strcmp(was, is)))
		return 0;
	meta_lock(m);
	set = setting_text_locked(i, SPILLFS_XATTR_DTYPE);
	meta_unlock(m);
	free(set);
	return set ? 0 : realm_of(i->tree, i->facts.ino)->setxattr(i->tree, i->facts.ino, SPILLFS_XATTR_DTYPE, was, strlen(was), 0);
}

static int rename_array(struct tree *t, struct place *from, struct place *to, const char *newname, unsigned flags)
{
	enum view_format f = view_of(to->dir)->node.key.format;
	const char *type = dtype_of_name(from->own);
	int err = 0;

	if (S_ISDIR(inode_mode(from->there)) && to->there && !S_ISDIR(inode_mode(to->there)))
		return -ENOTDIR;
	if (to->there && !(flags & RENAME_EXCHANGE) && has_uploads(t, live_shelf_of(t, to->there->facts.ino)))
		return -ENOTEMPTY;
	/* A file that has the array's new name, but is not shown under the view's new name, is not replaced. */
	if (!to->there)
		flags |= RENAME_NOREPLACE;
	if (!to->there && (flags & RENAME_EXCHANGE))
		return -ENOENT;
	if (S_ISDIR(inode_mode(from->there)))
		snprintf(to->own, sizeof(to->own), "%s", newname);
	else if (!*to->own)
		err = name_array(f, newname, type && view_formats[f].typed ? type : "", to->own);
	if (!err && S_ISREG(inode_mode(from->there)))
		err = keep_type(from->there, from->own, to->own);
	if (!err && (flags & RENAME_EXCHANGE) && to->there && S_ISREG(inode_mode(to->there)))
		err = keep_type(to->there, to->own, from->own);
	if (!err)
		err = realm_of(t, from->held->facts.ino)->rename(t, from->held->facts.ino, from->own, to->held->facts.ino, to->own, flags, NULL);
	changed_name(t, from->held->facts.ino, from->own);
	changed_name(t, to->held->facts.ino, to->own);
	changed_attr(t, from->there->facts.ino);
	if (to->there)
		changed_attr(t, to->there->facts.ino);
	return err;
}

/* The own name of what is to be an array; a file may have it without having that of the view. */
static int name_new_array(struct tree *t, struct place *to, const char *newname)
{
	struct tree_attr attr;
	int err = name_array(FORMAT_NPY, newname, "", to->own);

	if (err || realm_of(t, to->held->facts.ino)->lookup(t, to->held->facts.ino, to->own, NULL, &attr))
		return err;
	inode_forget(t, attr.st.st_ino, 1);
	return -EEXIST;
}

/* An upload is not an array yet: it gets its name from here when it is whole. */
static int rename_upload(struct tree *t, struct inode *upload, struct place *to, const char *newname, unsigned flags,
			 const struct tree_caller *who)
{
	struct inode *there = NULL;
	bool temporary;
	int err = upload_name_is_good(newname, &temporary) ? 0 : -EINVAL;

	if (!err && to->there && !S_ISREG(inode_mode(to->there)))
		err = -EISDIR;
	if (!err && !to->there)
		find_upload(t, &view_of(to->dir)->node.key, newname, &there);
	if (!err && (flags & RENAME_NOREPLACE) && (to->there || there))
		err = -EEXIST;
	if (!err && flags & ~(unsigned)RENAME_NOREPLACE)
		err = -EINVAL;
	if (!err && !*to->own && !temporary)
		err = name_new_array(t, to, newname);
	if (!err && there && there != upload)
		err = check_sticky(to->held, there, who);
	if (!err && there != upload)
		err = upload_rename(upload, to->held->facts.ino, newname, to->own, to->there ? to->there->facts.ino : 0);
	if (!err && there && there != upload)
		upload_drop(there);
	if (there)
		inode_put(there, 1);
	return err;
}

/* Two realms have inode numbers of two databases. */
static bool is_in_one_realm(struct tree *t, const struct inode *a, const struct inode *b)
{
	return realm_of(t, live_shelf_of(t, a->facts.ino)) == realm_of(t, live_shelf_of(t, b->facts.ino));
}

/* A file that becomes an array gets its kind where it is made. */
static bool is_near(struct tree *t, const struct inode *from, const struct inode *to)
{
	return is_in_one_realm(t, from, to) && kind_fits(from, to);
}

int views_rename(struct tree *t, uint64_t parent, const char *name, uint64_t newparent, const char *newname, unsigned flags,
		 const struct tree_caller *who)
{
	struct place from = { 0 }, to = { 0 };
	struct inode *upload = NULL;
	int err = find_place(t, parent, name, true, &from);

	if (!err)
		err = find_place(t, newparent, newname, true, &to);
	if (!err && (view_of(from.dir)->node.key.format != view_of(to.dir)->node.key.format || !is_near(t, from.held, to.held)))
		err = -EXDEV;
	if (!err && !from.there)
		err = find_upload(t, &view_of(from.dir)->node.key, name, &upload);
	if (!err)
		err = check_sticky(from.held, upload ? upload : from.there, who);
	if (!err && to.there && to.there != from.there)
		err = check_sticky(to.held, to.there, who);
	if (!err && upload)
		err = rename_upload(t, upload, &to, newname, flags, who);
	else if (!err && from.there != to.there)
		err = rename_array(t, &from, &to, newname, flags);
	if (upload)
		inode_put(upload, 1);
	leave(&from);
	leave(&to);
	return err;
}

int views_link(struct tree *t, uint64_t ino, uint64_t parent, const char *name, struct tree_attr *out)
{
	struct place to = { 0 };
	struct inode *i, *target = NULL;
	struct tree_attr linked;
	const char *type = NULL;
	int err = inode_find(t, ino, &i);

	if (!err)
		err = find_place(t, parent, name, true, &to);
	if (!err && (!is_one_array(&view_of(i)->node.key) || view_of(i)->upload))
		err = -EPERM;
	if (!err && (view_of(i)->node.key.format != view_of(to.dir)->node.key.format || view_of(i)->node.past))
		err = -EXDEV;
	if (!err && to.there)
		err = -EEXIST;
	if (!err)
		err = views_target(t, ino, &target);
	if (!err && !is_in_one_realm(t, target, to.held))
		err = -EXDEV;
	if (!err) {
		type = view_formats[view_of(i)->node.key.format].typed ? dtype_of_name(view_of(i)->node.name) : NULL;
		err = name_array(view_of(i)->node.key.format, name, type ? type : "", to.own);
	}
	if (!err)
		err = realm_of(t, target->facts.ino)->link(t, target->facts.ino, to.held->facts.ino, to.own, &linked);
	if (!err) {
		inode_forget(t, target->facts.ino, 1);
		changed_name(t, to.held->facts.ino, to.own);
		changed_attr(t, target->facts.ino);
		err = views_lookup(t, parent, name, NULL, out);
	}
	if (target)
		inode_put(target, 1);
	leave(&to);
	return err;
}
