/*
 * The FUSE session: capabilities, and the table of operations.
 *
 * Invariants:
 *  1. An operation is answered exactly once.
 *  2. The kernel's mtime-driven invalidation is off: pages are dropped by whoever makes them stale.
 *  3. Data is copied, not spliced: measured faster in nearly every case.
 */
#include "front/priv.h"

#include <linux/fuse.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>

#include "front/notify.h"
#include "front/passthrough.h"
#include "front/payload.h"
#include "util/log.h"

void front_show(const struct front *f, struct stat *st)
{
	if (f->config.set_uid)
		st->st_uid = f->config.uid;
	if (f->config.set_gid)
		st->st_gid = f->config.gid;
	if (f->config.set_umask)
		st->st_mode &= ~(f->config.umask & 0777);
}

static _Thread_local bool told;
static _Thread_local uint64_t told_attr; /* a file whose attributes are to be forgotten at once; 0: none */
static _Thread_local bool tells_now; /* there may be one */

bool front_take_told(void)
{
	bool was = told;

	told = false;
	return was;
}

void front_tells_now(void)
{
	tells_now = true;
	told_attr = 0;
}

void front_take_told_now(struct front *f)
{
	tells_now = false;
	told = false;
	if (told_attr)
		fuse_lowlevel_notify_inval_inode(f->se, told_attr, -1, 0);
}

static void tell_name(void *ctx, uint64_t parent, const char *name)
{
	struct front *f = ctx;

	notify_drop_entry(f->notify, parent, name, NULL, NULL);
	told = true;
}

void front_tell_attr(struct front *f, uint64_t ino)
{
	told = true;
	if (tells_now && (!told_attr || told_attr == ino))
		told_attr = ino;
	else
		notify_drop_attr(f->notify, ino, NULL, NULL);
}

static void tell_attr(void *ctx, uint64_t ino)
{
	front_tell_attr(ctx, ino);
}

static void tell_pages(void *ctx, uint64_t ino, uint64_t off, uint64_t len)
{
	struct front *f = ctx;

	notify_drop_pages(f->notify, ino, (off_t)off, (off_t)len, NULL, NULL);
	told = true;
}

void front_write_back(struct front *f, struct tree_inos *inos, void (*then)(void *ctx), void *ctx)
{
	size_t n = inos->n;

	for (size_t k = 0; k < n; k++)
		notify_drop_pages(f->notify, inos->v[k], 0, 0, k + 1 == n ? then : NULL, ctx);
	free(inos->v);
	*inos = (struct tree_inos){ 0 };
	if (!n && then)
		then(ctx);
}

int front_write_back_all(struct front *f, void (*then)(void *ctx), void *ctx)
{
	struct tree_inos inos;
	int err = tree_unwritten_all(f->tree, &inos);

	if (!err)
		front_write_back(f, &inos, then, ctx);
	return err;
}

static void gathered(void *ctx)
{
	sem_post(ctx);
}

void front_gather(struct front *f)
{
	sem_t done;
	int err;

	sem_init(&done, 0, 0);
	err = front_write_back_all(f, gathered, &done);
	while (!err && sem_wait(&done))
		; /* interrupted */
	sem_destroy(&done);
	if (err)
		log_error("what programs have written and not closed stays in the kernel: %s", strerror(-err));
}

void front_ending(struct front *f)
{
	notify_silence(f->notify);
}

struct pending_err {
	fuse_req_t req;
	int err;
};

static void answer_err(void *ctx)
{
	struct pending_err *p = ctx;

	front_reply_err(p->req, p->err);
	free(p);
}

void front_reply_err_when_told(fuse_req_t req, int err)
{
	struct pending_err *p = front_take_told() ? malloc(sizeof(*p)) : NULL;

	if (!p) {
		front_reply_err(req, err);
		return;
	}
	*p = (struct pending_err){ req, err };
	notify_then(front_of(req)->notify, answer_err, p);
}

struct handshake *handshake_of(void *userdata)
{
	return &((struct front *)userdata)->handshake;
}

int front_handshake(struct front *f)
{
	return f->handshake.want ? handshake_watch(f->se) : 0;
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	struct front *f = userdata;

	conn->want &= ~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
	conn->want &= ~(unsigned)(FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_HANDLE_KILLPRIV);
	conn->want |= conn->capable & (FUSE_CAP_EXPLICIT_INVAL_DATA | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_ATOMIC_O_TRUNC |
				       FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_CACHE_SYMLINKS |
				       FUSE_CAP_IOCTL_DIR | FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO);
#ifdef HAVE_FUSE_CAP_HANDLE_KILLPRIV_V2
	conn->want |= conn->capable & FUSE_CAP_HANDLE_KILLPRIV_V2;
#endif
	if (f->config.writeback)
		conn->want |= conn->capable & FUSE_CAP_WRITEBACK_CACHE;
	conn->max_read = f->config.max_read_bytes; /* libfuse wants it here, too */
	conn->max_readahead = 1 << 20;
	conn->max_write = PAYLOAD_MAX_BYTES;
	conn->max_background = 64;
	conn->time_gran = 1;
}

int front_new(struct fuse_args *args, struct tree *tree, const struct front_config *config, struct front **out)
{
	struct fuse_lowlevel_ops ops = { .init = op_init };
	struct front *f = calloc(1, sizeof(*f));
	int err;

	if (!f)
		return -ENOMEM;
	f->tree = tree;
	f->config = *config;
#ifndef HAVE_FUSE_CAP_HANDLE_KILLPRIV_V2
	f->handshake.want = FUSE_HANDLE_KILLPRIV_V2;
#endif
	if (passthrough_wanted(f))
		f->handshake.want |= HANDSHAKE_PASSTHROUGH;
	if (config->writeback)
		tree_sizes_stick(tree);
	front_ops_tree(&ops);
	front_ops_file(&ops);
	f->se = fuse_session_new(args, &ops, sizeof(ops), f);
	if (!f->se) {
		free(f);
		return -EINVAL; /* libfuse has said why */
	}
	err = notify_new(f->se, tree, &f->notify);
	if (err) {
		fuse_session_destroy(f->se);
		free(f);
		return err;
	}
	tree_on_changes(tree, &(struct tree_changes){ tell_name, tell_attr, tell_pages, f });
	*out = f;
	return 0;
}

struct fuse_session *front_session(struct front *f)
{
	return f->se;
}

void front_started(struct front *f)
{
	passthrough_start(f);
}

void front_free(struct front *f)
{
	tree_on_changes(f->tree, &(struct tree_changes){ 0 });
	tree_on_passthrough(f->tree, &(struct tree_passthrough){ .why = "unmounted" });
	notify_free(f->notify);
	fuse_session_destroy(f->se);
	free(f);
}
