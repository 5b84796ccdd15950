/*
 * Changes that the kernel is told of beside an answer.
 *
 * Invariant: a thread is at one operation at a time; so its flag is that operation's.
 */
#include "front/told.h"

#include "front/inside.h"
#include "front/notify.h"

static _Thread_local struct {
	bool any, names; /* names: among what was told */
	bool at_once;  /* between told_at_once_begin and _end */
	uint64_t attr; /* at once: the file whose attributes are forgotten at the end; 0: none */
} told;

static void tell_name(void *ctx, uint64_t parent, const char *name)
{
	struct front *f = ctx;

	notify_drop_entry(f->notify, parent, name);
	told.any = told.names = true;
}

void told_attr(struct front *f, uint64_t ino)
{
	told.any = true;
	if (told.at_once && (!told.attr || told.attr == ino))
		told.attr = ino;
	else
		notify_drop_attr(f->notify, ino, NULL, NULL);
}

static void tell_attr(void *ctx, uint64_t ino)
{
	told_attr(ctx, ino);
}

static void tell_pages(void *ctx, uint64_t ino, uint64_t off, uint64_t len, void (*then)(void *ctx), void *then_ctx)
{
	struct front *f = ctx;

	notify_drop_pages(f->notify, ino, (off_t)off, (off_t)len, then, then_ctx);
	told.any = true;
}

void told_start(struct front *f)
{
	tree_on_changes(f->tree, &(struct tree_changes){ tell_name, tell_attr, tell_pages, f });
}

void told_stop(struct front *f)
{
	tree_on_changes(f->tree, &(struct tree_changes){ 0 });
}

bool told_take(bool *names_out)
{
	bool any = told.any;

	*names_out = told.names;
	told.any = told.names = false;
	return any;
}

void told_at_once_begin(void)
{
	told.at_once = true;
	told.attr = 0;
}

void told_at_once_end(struct front *f)
{
	told.at_once = false;
	told.any = told.names = false;
	if (told.attr)
		fuse_lowlevel_notify_inval_inode(f->se, told.attr, -1, 0);
}
