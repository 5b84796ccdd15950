/*
 * Answers to operations.
 *
 * Invariants:
 *  1. An operation is answered exactly once.
 *  2. A lookup that the kernel did not count, because its request was interrupted, is not counted here either.
 */
#include "front/answer.h"

#include <stdlib.h>
#include <string.h>

#include "front/notify.h"
#include "front/told.h"

struct pending {
	fuse_req_t req;
	struct answer answer;
};

void answer_err(fuse_req_t req, int err)
{
	fuse_reply_err(req, err == -EUCLEAN ? EIO : -err);
}

void answer_now(fuse_req_t req, struct answer *a)
{
	if (a->err || !a->reply)
		answer_err(req, a->err);
	else
		a->reply(req, a);
}

static void answer_pending(void *ctx)
{
	struct pending *p = ctx;

	answer_now(p->req, &p->answer);
	free(p);
}

void answer_when_told(fuse_req_t req, struct answer *a)
{
	bool names;
	struct pending *p = told_take(&names) ? malloc(sizeof(*p)) : NULL;

	if (!p) {
		answer_now(req, a);
		return;
	}
	*p = (struct pending){ req, *a };
	notify_then(front_of(req)->notify, names, answer_pending, p);
}

void answer_err_when_told(fuse_req_t req, int err)
{
	answer_when_told(req, &(struct answer){ .err = err });
}

/* Applies -o uid=, gid=, umask=, and shows one inode number for all nodes of a view. */
static void show(const struct front *f, struct stat *st)
{
	st->st_ino = tree_shown_ino(f->tree, st->st_ino);
	if (f->config.set_uid)
		st->st_uid = f->config.uid;
	if (f->config.set_gid)
		st->st_gid = f->config.gid;
	if (f->config.set_umask)
		st->st_mode &= ~(f->config.umask & 0777);
}

void answer_fill_entry(const struct front *f, const struct tree_attr *a, struct fuse_entry_param *e)
{
	memset(e, 0, sizeof(*e));
	e->ino = a->st.st_ino;
	e->generation = 1; /* inode numbers are never reused */
	e->attr = a->st;
	show(f, &e->attr);
	e->attr_timeout = a->attr_ms / 1000.0;
	e->entry_timeout = a->name_ms / 1000.0;
}

void answer_entry(fuse_req_t req, struct answer *a)
{
	struct front *f = front_of(req);
	struct fuse_entry_param e;

	answer_fill_entry(f, &a->attr, &e);
	if (fuse_reply_entry(req, &e) == -ENOENT)
		tree_forget(f->tree, e.ino, 1);
}

void answer_attr(fuse_req_t req, struct answer *a)
{
	show(front_of(req), &a->attr.st);
	fuse_reply_attr(req, &a->attr.st, a->attr.attr_ms / 1000.0);
}
