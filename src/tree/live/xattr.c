/*
 * Extended attributes of the live tree: kept as they are, except that user.spillfs.* settings are checked.
 *
 * Invariant: a stored user.spillfs setting is valid, whatever it was set on.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "array/dtype.h"
#include "array/setting.h"
#include "block/format.h"
#include "spillfs.h"
#include "store/store.h"
#include "tree/live/cold.h"
#include "tree/live/edit.h"
#include "tree/live/kind.h"
#include "tree/live/live.h"
#include "tree/live/passthrough.h"
#include "tree/live/privs.h"
#include "tree/live/quota.h"
#include "tree/live/room.h"
#include "tree/live/shelf.h"
#include "tree/setting.h"
#include "tree/xattr.h"

#define XATTR_VALUE_MAX 65536u
#define SETTINGS "user.spillfs."

static int xattr_text(const char *text, void **out, size_t *len_out)
{
	char *copy = strdup(text);

	if (!copy)
		return -ENOMEM;
	*out = copy;
	*len_out = strlen(copy);
	return 0;
}

int live_getxattr(struct tree *t, uint64_t ino, const char *name, void **out, size_t *len_out)
{
	bool capabilities = !strcmp(name, PRIVS_XATTR);
	struct live_inode *live;
	struct inode *i;
	int err = inode_find(t, ino, &i);

	if (err)
		return err;
	live = live_of(i);
	if (t->store->config.scratch && shelf_is_attribute(name))
		return xattr_text("no", out, len_out);
	/* The kernel asks for capabilities before every write through its cache. */
	if ((!atomic_load(&live->has_xattrs) && !xattr_is_setting(name) && !xattr_is_read_only(name)) ||
	    (capabilities && !atomic_load(&live->has_capabilities)))
		return -ENODATA;
	if (!strcmp(name, SPILLFS_XATTR_STORED_BYTES))
		cold_recount(i);
	return xattr_get(i, name, out, len_out);
}

static int do_configure(struct array *a, void *ctx)
{
	return array_configure(a, ctx);
}

/* The array of a file follows. */
static int reconfigure(struct inode *i)
{
	struct meta *m = i->tree->store->meta;
	struct array_params params;
	int err;

	if (!S_ISREG(inode_mode(i)))
		return 0;
	meta_lock(m);
	err = setting_params_locked(i, &params);
	meta_unlock(m);
	if (!err)
		cold_know(i, params.cold);
	return err ? err : edit_array(i, do_configure, &params);
}

static int check_setting(struct inode *i, const char *name, const void *value, size_t len)
{
	char text[DTYPE_TEXT_MAX + 1];

	if (!xattr_suits(inode_mode(i), name))
		return -EPERM;
	if (strncmp(name, SETTINGS, strlen(SETTINGS)))
		return 0;
	if (setting_is_of_directory(name) && !S_ISDIR(inode_mode(i)))
		return -ENOTDIR;
	if (!xattr_is_setting(name) && !kind_is_setting(i, name) && !setting_is_of_directory(name))
		return xattr_is_read_only(name) ? -EPERM : -EINVAL;
	if (!strcmp(name, SPILLFS_XATTR_COMPRESS) && !i->tree->store->config.scratch)
		return -EOPNOTSUPP;
	if (len > DTYPE_TEXT_MAX || memchr(value, 0, len))
		return -EINVAL;
	memcpy(text, value, len);
	text[len] = '\0';
	if (quota_is_attribute(name))
		return setting_quota(name, text, NULL);
	if (shelf_is_attribute(name))
		return setting_durable(name, text, NULL);
	return kind_is_setting(i, name) ? kind_check(text) : setting_parse(name, text, NULL);
}

struct value {
	void *v; /* malloc'd; NULL: there is none */
	size_t len;
};

/* *old is what it replaces. */
static int set_locked(struct meta *m, uint64_t ino, const char *name, const void *value, size_t len, int flags,
		      struct value *old)
{
	int err = meta_xattr_get_locked(m, ino, name, &old->v, &old->len);

	if (err && err != -ENODATA)
		return err;
	if ((flags & XATTR_CREATE) && !err)
		return -EEXIST;
	if ((flags & XATTR_REPLACE) && err)
		return -ENODATA;
	return meta_xattr_set_locked(m, ino, name, value, len);
}

/* The array or the shelf did not follow: the attribute is what it was. */
static void restore(struct inode *i, const char *name, const struct value *old)
{
	struct meta *m = i->tree->store->meta;

	live_log_enter(i);
	meta_lock(m);
	if (old->v)
		meta_xattr_set_locked(m, i->facts.ino, name, old->v, old->len);
	else
		meta_xattr_remove_locked(m, i->facts.ino, name);
	/* Meanwhile somebody may have counted the names, or a commit logged them. */
	if (old->v)
		atomic_store(&live_of(i)->has_xattrs, 1);
	meta_unlock(m);
	live_log_leave(i);
	live_mark_changed(i);
}

static int follow_quota(struct inode *i)
{
	struct meta *m = i->tree->store->meta;
	int err;

	meta_lock(m);
	err = quota_changed_locked(i);
	meta_unlock(m);
	return err;
}

/* A row was written or removed: what depends on it follows. */
static int follow(struct inode *i, const char *name)
{
	if (shelf_is_attribute(name))
		return shelf_changed(i);
	return xattr_is_setting(name) ? reconfigure(i) : quota_is_attribute(name) ? follow_quota(i) : 0;
}

/* Nothing that is scratch can be durable. */
static int set_in_scratch(const void *value, size_t len)
{
	return len == 2 && !memcmp(value, "no", 2) ? 0 : -EOPNOTSUPP;
}

/* The shelf of a directory has the same attributes. */
static int set_of_shelf(struct tree *t, uint64_t ino, const char *name, const void *value, size_t len)
{
	uint64_t shelf = setting_is_of_directory(name) ? ino : live_shelf_of(t, ino);
	int err = 0;

	if (shelf != ino)
		err = value ? live_setxattr(t->scratch, shelf, name, value, len, 0) : live_removexattr(t->scratch, shelf, name);
	return err == -ENODATA ? 0 : err;
}

int live_setxattr(struct tree *t, uint64_t ino, const char *name, const void *value, size_t len, int flags)
{
	struct meta *m = t->store->meta;
	struct value old = { 0 };
	struct inode *i;
	int err = len > XATTR_VALUE_MAX ? -E2BIG : 0;

	if (t->store->config.scratch && shelf_is_attribute(name))
		return set_in_scratch(value, len);
	if (!err)
		err = inode_find(t, ino, &i);
	if (!err)
		err = room_note(i);
	if (!err)
		err = room_need(t, ROOM_NAME_BYTES + 4 * len);
	if (!err)
		err = check_setting(i, name, value, len);
	if (err)
		return err;
	if (!strcmp(name, PRIVS_XATTR))
		through_vouch(i);
	live_log_enter(i);
	meta_lock(m);
	err = set_locked(m, ino, name, value, len, flags, &old);
	if (!err) {
		atomic_store(&live_of(i)->has_xattrs, 1);
		atomic_fetch_add(&live_of(i)->xattrs_bytes, sizeof(struct layer_xattr) + strlen(name) + len);
	}
	if (!err && !strcmp(name, PRIVS_XATTR))
		atomic_store(&live_of(i)->has_capabilities, 1);
	meta_unlock(m);
	live_log_leave(i);
	if (!err) {
		live_touch(i, TREE_SET_CTIME);
		err = follow(i, name);
		if (!err)
			err = set_of_shelf(t, ino, name, value, len);
		if (err)
			restore(i, name, &old);
	}
	free(old.v);
	return err;
}

struct listing {
	char *v;
	size_t n;
	bool any; /* row, be it listed or not */
	mode_t mode;
};

static int add_name(void *ctx, const char *name, const void *value, size_t len)
{
	struct listing *l = ctx;
	size_t n = strlen(name) + 1;
	char *v;

	(void)value;
	(void)len;
	l->any = true;
	if (setting_is_inherited(name) || !xattr_suits(l->mode, name) || xattr_is_read_only(name) || setting_is_of_directory(name))
		return 0;
	v = realloc(l->v, l->n + n);
	if (!v)
		return -ENOMEM;
	memcpy(v + l->n, name, n);
	l->v = v;
	l->n += n;
	return 0;
}

int live_listxattr(struct tree *t, uint64_t ino, char **out, size_t *len_out)
{
	struct meta *m = t->store->meta;
	struct listing l = { 0 };
	struct inode *i;
	int err = inode_find(t, ino, &i);

	if (err)
		return err;
	l.mode = inode_mode(i);
	meta_lock(m);
	err = meta_xattr_walk_locked(m, ino, add_name, &l);
	if (!err)
		atomic_store(&live_of(i)->has_xattrs, l.any);
	meta_unlock(m);
	if (err) {
		free(l.v);
		return err;
	}
	*out = l.v;
	*len_out = l.n;
	return 0;
}

int live_removexattr(struct tree *t, uint64_t ino, const char *name)
{
	struct meta *m = t->store->meta;
	struct value old = { 0 };
	struct inode *i;
	int err = inode_find(t, ino, &i);

	if (!err && xattr_is_read_only(name) && !kind_is_setting(i, name))
		err = -EPERM;
	if (!err && atomic_load(&t->store->read_only))
		err = -EROFS;
	if (err)
		return err;
	room_measure(i);
	room_free(t);
	live_log_enter(i);
	meta_lock(m);
	err = meta_xattr_get_locked(m, ino, name, &old.v, &old.len);
	if (!err)
		err = meta_xattr_remove_locked(m, ino, name);
	meta_unlock(m);
	live_log_leave(i);
	if (!err) {
		live_touch(i, TREE_SET_CTIME);
		err = set_of_shelf(t, ino, name, NULL, 0);
		if (!err)
			err = follow(i, name);
		if (err)
			restore(i, name, &old);
	}
	free(old.v);
	return err;
}
