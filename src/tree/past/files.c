/*
 * Files of states: their inodes, and reading them.
 *
 * Invariant: only open files hold a state; an inode that the kernel merely knows holds nothing back.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "array/layered/layered.h"
#include "block/index.h"
#include "store/store.h"
#include "tree/file.h"
#include "tree/past/inside.h"
#include "tree/reading.h"
#include "tree/setting.h"

static int copy_facts(struct past_inode *p, uint64_t layer, const struct index_record *r)
{
	atomic_init(&p->layer, layer);
	p->ino = r->facts.ino;
	p->dtype = strdup(r->dtype);
	p->target = strdup(r->target);
	p->xattrs = malloc(r->xattrs_len + 1u);
	p->xattrs_len = r->xattrs_len;
	if (!p->dtype || !p->target || !p->xattrs)
		return -ENOMEM;
	if (r->xattrs_len)
		memcpy(p->xattrs, r->xattrs, r->xattrs_len);
	return 0;
}

/* The inode of a file of the state, with one more reference. */
int past_get_file(struct tree *t, struct state *state, const struct index_record *r, struct inode **out)
{
	struct facts facts = r->facts;
	struct past_inode *p;

	if (r->version >= ROOTS_MAX || facts.ino > INO_MAX)
		return -EOVERFLOW;
	facts.ino = past_number(r->version, facts.ino);
	facts.nlink = 1;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	inode_init(&p->base, t, REALM_PAST, &facts);
	if (copy_facts(p, state_number(state), r)) {
		inode_free(&p->base);
		return -ENOMEM;
	}
	*out = inode_get_made(&p->base);
	/* The state in which the file was found first may have been dropped since; this one is there. */
	atomic_store(&past_of(*out)->layer, state_number(state));
	return 0;
}

/* Its state is held while its array is open. */
static int hold_state(struct past_inode *p)
{
	struct tree *t = p->base.tree;
	const struct index_record *r;
	struct state *state;

	if (p->state || !state_open(t->store->layers, atomic_load(&p->layer), &p->state))
		return 0;
	/* The state in which it was found is gone; the newest may have the same version of it. */
	if (past_state_of(t, past_number(ROOT_PRESENT, META_INO_ROOT), &state))
		return -ESTALE;
	if (state_inode(state, p->ino, &r) || r->version != past_root_of(p->base.facts.ino)) {
		state_put(state);
		return -ESTALE;
	}
	atomic_store(&p->layer, state_number(state));
	p->state = state;
	return 0;
}

static void let_go_state(struct past_inode *p)
{
	if (p->state)
		state_put(p->state);
	p->state = NULL;
}

void past_fini(struct inode *i)
{
	struct past_inode *p = past_of(i);

	let_go_state(p);
	free(p->dtype);
	free(p->target);
	free(p->xattrs);
}

void past_idle(struct inode *i)
{
	inode_drop_array(i);
	let_go_state(past_of(i));
}

int past_load(struct inode *i, struct array **out)
{
	struct past_inode *p = past_of(i);
	struct array_params params;
	struct facts row = i->facts;
	int err = hold_state(p);

	row.ino = p->ino;
	if (!err)
		err = setting_params_locked(i, &params);
	if (err)
		return err;
	return layered_open_state(i->tree->arrays, &row, &params, p->state, out);
}

int past_stored_locked(struct inode *i, const char *name, void **out, size_t *len_out)
{
	const struct past_inode *p = past_of(i);
	struct index_record r = { .xattrs = p->xattrs, .xattrs_len = (uint32_t)p->xattrs_len };
	const void *value;
	size_t len;
	char *copy;

	if (!index_record_xattr(&r, name, &value, &len))
		return -ENODATA;
	copy = malloc(len + 1);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, value, len);
	copy[len] = '\0';
	*out = copy;
	*len_out = len;
	return 0;
}

char *past_dtype_locked(struct inode *i)
{
	return strdup(past_of(i)->dtype);
}

/* Open files. */

static int read_past(struct tree_file *f, uint64_t off, size_t len, int flags, struct tree_read *out)
{
	return reading_begin(f->inode, off, len, reading_how(flags, true), out);
}

static int seek_past(struct tree_file *f, uint64_t off, int whence, uint64_t *out)
{
	return reading_seek(f->inode, off, whence, out);
}

static void release_past(struct tree_file *f)
{
	atomic_fetch_sub(&f->inode->ncached, 1);
	inode_let_go_array(f->inode);
	inode_put(f->inode, 1);
	free(f);
}

static const struct file_ops past_file_ops = { .read = read_past, .seek = seek_past, .release = release_past };

static int hold_open(struct inode *i)
{
	struct array *a;
	int err;

	rwlock_exclusive(&i->rw);
	err = inode_need_array(i, &a);
	if (!err) {
		inode_hold_array(i);
		atomic_fetch_add(&i->ncached, 1);
	}
	rwlock_release(&i->rw);
	return err;
}

int past_open_file(struct tree *t, uint64_t ino, int flags, const struct tree_caller *who, struct tree_file **out,
		   struct tree_file_info *info)
{
	struct tree_file *f;
	struct inode *i;
	int err = inode_find(t, ino, &i);

	(void)who;
	if (err)
		return err;
	if ((flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC))
		return -EROFS;
	f = file_new(t, ino, flags, &past_file_ops, sizeof(*f));
	if (!f)
		return -ENOMEM;
	err = hold_open(i);
	if (err) {
		free(f);
		return err;
	}
	inode_ref(i);
	f->inode = f->pages = i;
	info->direct = false;
	info->keep_cache = true; /* a state never changes */
	*out = f;
	return 0;
}

