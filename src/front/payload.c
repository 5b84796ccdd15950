/*
 * Invariants:
 *  1. Only the bytes of a write are moved: libfuse finds all other requests, and the headers of a write, where it reads them to.
 *  2. The kernel is offered room for the longest write, as it refuses to read into less.
 */
#include "front/payload.h"

#include <linux/fuse.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define HEAD_BYTES (sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in))
#define PAGE_BYTES 4096u

/* Between the headers and the bytes of the write that this thread has read. */
static _Thread_local size_t gap_bytes;

/* 0 if the bytes begin a page as it is, or the buffer does not reach. */
static size_t gap_of(const char *bytes, size_t len)
{
	size_t gap = -(uintptr_t)bytes & (PAGE_BYTES - 1);

	return len >= HEAD_BYTES + gap + PAYLOAD_MAX_BYTES ? gap : 0;
}

static bool is_write(const void *buf)
{
	struct fuse_in_header head;

	memcpy(&head, buf, sizeof(head));
	return head.opcode == FUSE_WRITE;
}

static ssize_t read_apart(int fd, char *buf, size_t len, size_t gap)
{
	char *bytes = buf + HEAD_BYTES;
	const struct iovec v[] = { { buf, HEAD_BYTES }, { bytes + gap, len - HEAD_BYTES - gap } };
	ssize_t n = readv(fd, v, 2);

	if (n <= (ssize_t)HEAD_BYTES)
		return n;
	if (is_write(buf))
		gap_bytes = gap;
	else
		memmove(bytes, bytes + gap, (size_t)n - HEAD_BYTES);
	return n;
}

ssize_t payload_read(int fd, void *buf, size_t len)
{
	size_t gap = gap_of((char *)buf + HEAD_BYTES, len);

	gap_bytes = 0;
	return gap ? read_apart(fd, buf, len, gap) : read(fd, buf, len);
}

const char *payload_find(const char *shown)
{
	return shown + gap_bytes;
}
