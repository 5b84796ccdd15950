/*
 * The FUSE session: capabilities, and the table of operations.
 *
 * Invariants:
 *  1. The kernel's mtime-driven invalidation is off: a change that makes pages stale drops them.
 *  2. Data is copied, not spliced: measured faster in nearly every case.
 */
#include "front/inside.h"

#include <assert.h>
#include <linux/fuse.h>
#include <stddef.h>
#include <stdlib.h>

#include "front/notify.h"
#include "front/ops/ops.h"
#include "front/passthrough.h"
#include "front/payload.h"
#include "front/told.h"
#include "front/writeback.h"

static_assert(offsetof(struct front, handshake) == 0, "handshake.h");

void front_gather(struct front *f)
{
	writeback_wait_all(f);
}

void front_ending(struct front *f)
{
	notify_silence(f->notify);
}

int front_handshake(struct front *f)
{
	return f->handshake.want ? handshake_watch(f->se) : 0;
}

/* An ACL would let in by itself whom the mode that is shown lets in no more. */
static bool keeps_acls(const struct front *f, const struct fuse_conn_info *conn)
{
	const unsigned needed = FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK;

	return (conn->capable & needed) == needed && !f->config.set_uid && !f->config.set_gid && !f->config.set_umask;
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	struct front *f = userdata;

	conn->want &= ~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
	conn->want &= ~(unsigned)(FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_HANDLE_KILLPRIV);
	/* Answers to O_DIRECT wait for pages that the kernel has to write back first, which takes one of the requests that it has in the
	 * background: those of O_DIRECT must not be among them. */
	conn->want &= ~(unsigned)FUSE_CAP_ASYNC_DIO;
	conn->want |= conn->capable & (FUSE_CAP_EXPLICIT_INVAL_DATA | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_ATOMIC_O_TRUNC |
				       FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_CACHE_SYMLINKS |
				       FUSE_CAP_IOCTL_DIR | FUSE_CAP_ASYNC_READ);
#ifdef HAVE_FUSE_CAP_HANDLE_KILLPRIV_V2
	conn->want |= conn->capable & FUSE_CAP_HANDLE_KILLPRIV_V2;
#endif
	if (f->config.writeback)
		conn->want |= conn->capable & FUSE_CAP_WRITEBACK_CACHE;
	if (keeps_acls(f, conn)) {
		conn->want |= FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK;
		f->acls = true;
		tree_keep_acls(f->tree);
	}
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
	readers_init(&f->handshake.readers);
	f->tree = tree;
	f->config = *config;
#ifndef HAVE_FUSE_CAP_HANDLE_KILLPRIV_V2
	f->handshake.want = FUSE_HANDLE_KILLPRIV_V2;
#endif
	f->handshake.want |= HANDSHAKE_DIRECT_MAPS;
	if (passthrough_wanted(f))
		f->handshake.want |= HANDSHAKE_PASSTHROUGH;
	if (config->writeback)
		tree_sizes_stick(tree);
	ops_fill_attrs(&ops);
	ops_fill_control(&ops);
	ops_fill_dirs(&ops);
	ops_fill_files(&ops);
	ops_fill_names(&ops);
	ops_fill_xattrs(&ops);
	f->se = fuse_session_new(args, &ops, sizeof(ops), f);
	if (!f->se) {
		readers_fini(&f->handshake.readers);
		free(f);
		return -EINVAL; /* libfuse has said why */
	}
	err = notify_new(f->se, tree, &f->notify);
	if (err) {
		fuse_session_destroy(f->se);
		readers_fini(&f->handshake.readers);
		free(f);
		return err;
	}
	told_start(f);
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
	told_stop(f);
	tree_on_passthrough(f->tree, &(struct tree_passthrough){ .why = "unmounted" });
	notify_free(f->notify);
	fuse_session_destroy(f->se);
	readers_fini(&f->handshake.readers);
	free(f);
}
