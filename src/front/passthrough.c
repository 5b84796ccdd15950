/*
 * Passthrough, on the kernel's side: backings are opened and closed on the session's descriptor.
 *
 * The kernel has either passthrough or its writeback cache for a mount, never both; and it wants CAP_SYS_ADMIN, and a file
 * system below that is not itself stacked.
 */
#include "front/passthrough.h"

#include <string.h>
#include <sys/ioctl.h>

#include "util/log.h"

/* <linux/fuse.h> from 6.9 on. */
struct backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};
#define IOC_BACKING_OPEN _IOW(229, 1, struct backing_map)
#define IOC_BACKING_CLOSE _IOW(229, 2, uint32_t)

static const char *why_unwanted(const struct front *f)
{
	return f->config.passthrough ? tree_why_no_passthrough(f->tree) : "not asked for";
}

bool passthrough_wanted(const struct front *f)
{
	return !why_unwanted(f);
}

static int open_backing(void *ctx, int fd, uint32_t *id_out)
{
	struct front *f = ctx;
	struct backing_map map = { .fd = fd };
	int id = ioctl(fuse_session_fd(f->se), IOC_BACKING_OPEN, &map);

	if (id <= 0)
		return id < 0 ? -errno : -EINVAL;
	*id_out = (uint32_t)id;
	return 0;
}

static void close_backing(void *ctx, uint32_t id)
{
	struct front *f = ctx;

	ioctl(fuse_session_fd(f->se), IOC_BACKING_CLOSE, &id);
}

static const char *why_refused(int err)
{
	switch (err) {
	case -EPERM:
		return "the kernel asks for CAP_SYS_ADMIN";
	case -ELOOP:
	case -EINVAL:
		return "the store's file system is itself stacked on another";
	default:
		return "the kernel does not take the store's files";
	}
}

/* One of the store's files is taken, for a moment. */
static int try_backing(void *ctx, int fd)
{
	struct front *f = ctx;
	uint32_t id = 0;
	int err = open_backing(f, fd, &id);

	if (!err)
		close_backing(f, id);
	return err;
}

void passthrough_start(struct front *f)
{
	const char *why = why_unwanted(f);
	int err;

	if (!why && !(f->handshake.got & HANDSHAKE_PASSTHROUGH))
		why = "the kernel does not offer it (Linux 6.9 does)";
	if (!why) {
		err = tree_lend_store(f->tree, try_backing, f);
		if (err)
			why = why_refused(err);
	}
	if (why && f->config.passthrough)
		log_warn("no passthrough of columns: %s", why);
	tree_on_passthrough(f->tree, &(struct tree_passthrough){
		.open = why ? NULL : open_backing, .close = close_backing, .ctx = f, .why = why ? why : "offered by the kernel" });
}

int passthrough_reply_open(fuse_req_t req, struct fuse_file_info *fi, uint32_t backing)
{
	int err;

	handshake_opened(backing);
	err = fuse_reply_open(req, fi);
	handshake_opened(0);
	return err;
}

int passthrough_reply_create(fuse_req_t req, const struct fuse_entry_param *e, struct fuse_file_info *fi, uint32_t backing)
{
	int err;

	handshake_opened(backing);
	err = fuse_reply_create(req, e, fi);
	handshake_opened(0);
	return err;
}
