/*
 * Completes the answer to FUSE_INIT: sets features there that this libfuse does not know, but the kernel offers.
 * libfuse composes the answer by itself; its custom I/O is the place where the answer passes before the kernel has it.
 * The layout of the messages is that of <linux/fuse.h>.
 *
 * Invariants:
 *  1. Nothing is asked for that the kernel has not offered.
 *  2. One message is changed, the answer to INIT. It passes while one thread serves; after it, `state` is constant.
 */
#include "front/priv.h"

#include <linux/fuse.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "front/handshake.h"

enum { WAITING, OFFERED, ANSWERED };

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
	h->got = h->want & init.flags;
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
	init.flags |= (uint32_t)h->got;
	memcpy(v[1].iov_base, &init, sizeof(init));
	h->state = ANSWERED;
}

static ssize_t pass_request(int fd, void *buf, size_t len, void *userdata)
{
	struct handshake *h = handshake_of(userdata);
	ssize_t n = read(fd, buf, len);

	if (h->state != ANSWERED && n > 0)
		see_request(h, buf, (size_t)n);
	return n;
}

static ssize_t pass_answer(int fd, struct iovec *v, int n, void *userdata)
{
	struct handshake *h = handshake_of(userdata);

	if (h->state == OFFERED)
		see_answer(h, v, n);
	return writev(fd, v, n);
}

int handshake_watch(struct fuse_session *se)
{
	static const struct fuse_custom_io io = { .read = pass_request, .writev = pass_answer };

	return fuse_session_custom_io(se, &io, fuse_session_fd(se));
}
