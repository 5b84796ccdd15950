/*
 * Completes answers where this libfuse does not know a feature that the kernel offers: that to FUSE_INIT, and those to OPEN and
 * CREATE. libfuse composes the answers by itself; its custom I/O is the place where they pass before the kernel has them.
 * The layout of the messages is that of <linux/fuse.h>; what is newer than Debian 12's is defined here.
 *
 * Invariants:
 *  1. Nothing is asked for that the kernel has not offered.
 *  2. The answer to INIT passes while one thread serves; after it, `state` is constant.
 *  3. An answer to OPEN or CREATE is changed by the thread that sends it, and only after it has said so.
 */
#include "front/handshake.h"

#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <stddef.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "front/payload.h"

#ifndef FOPEN_PASSTHROUGH
#define FOPEN_PASSTHROUGH (1u << 7)
#endif

enum { WAITING, OFFERED, ANSWERED };

/* max_stack_depth follows flags2: how many file systems may be stacked, the files of the lowest being passed through to. */
#define STACK_DEPTH_AT (offsetof(struct fuse_init_out, flags2) + sizeof(uint32_t))

/* For the answer that this thread sends next; 0: it is not changed. */
static _Thread_local uint32_t backing_id;

static void see_request(struct handshake *h, const void *buf, size_t len)
{
	struct fuse_in_header head;
	struct fuse_init_in init;

	if (len < sizeof(head) + offsetof(struct fuse_init_in, flags2))
		return;
	memcpy(&head, buf, sizeof(head));
	if (head.opcode != FUSE_INIT)
		return;
	memset(&init, 0, sizeof(init));
	len -= sizeof(head);
	memcpy(&init, (const char *)buf + sizeof(head), len < sizeof(init) ? len : sizeof(init));
	h->unique = head.unique;
	h->got = h->want & (init.flags | (init.flags & FUSE_INIT_EXT ? (uint64_t)init.flags2 << 32 : 0));
	h->state = OFFERED;
}

static void see_answer(struct handshake *h, const struct iovec *v, int n)
{
	struct fuse_out_header head;
	struct fuse_init_out init;

	if (n < 2 || v[0].iov_len != sizeof(head) || v[1].iov_len != sizeof(init))
		return;
	memcpy(&head, v[0].iov_base, sizeof(head));
	if (head.unique != h->unique || head.error)
		return;
	memcpy(&init, v[1].iov_base, sizeof(init));
	init.flags |= (uint32_t)h->got | (h->got >> 32 ? FUSE_INIT_EXT : 0);
	init.flags2 |= (uint32_t)(h->got >> 32);
	if (h->got & HANDSHAKE_PASSTHROUGH)
		memcpy((char *)&init + STACK_DEPTH_AT, &(uint32_t){ 1 }, sizeof(uint32_t));
	memcpy(v[1].iov_base, &init, sizeof(init));
	h->state = ANSWERED;
}

/* Both answers end with this. The kernel reads the backing's number where the padding is in older headers. */
static void complete_open(const struct iovec *v, int n)
{
	struct fuse_open_out out;
	char *at;

	if (n != 2 || v[1].iov_len < sizeof(out))
		return;
	at = (char *)v[1].iov_base + v[1].iov_len - sizeof(out);
	memcpy(&out, at, sizeof(out));
	out.open_flags |= FOPEN_PASSTHROUGH;
	memcpy((char *)&out + sizeof(out) - sizeof(backing_id), &backing_id, sizeof(backing_id));
	memcpy(at, &out, sizeof(out));
}

static ssize_t pass_request(int fd, void *buf, size_t len, void *userdata)
{
	struct handshake *h = userdata;
	ssize_t n;

	readers_enter(&h->readers);
	n = payload_read(fd, buf, len);
	readers_leave(&h->readers);

	if (h->state != ANSWERED && n > 0)
		see_request(h, buf, (size_t)n);
	return n;
}

static ssize_t pass_answer(int fd, struct iovec *v, int n, void *userdata)
{
	struct handshake *h = userdata;

	if (h->state == OFFERED)
		see_answer(h, v, n);
	if (backing_id)
		complete_open(v, n);
	return writev(fd, v, n);
}

int handshake_watch(struct fuse_session *se)
{
	static const struct fuse_custom_io io = { .read = pass_request, .writev = pass_answer };

	return fuse_session_custom_io(se, &io, fuse_session_fd(se));
}

void handshake_opened(uint32_t id)
{
	backing_id = id;
}
