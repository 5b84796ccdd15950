/*
 * Reads and writes by aio, io_uring, vectors and mappings.
 *
 *  1. A context or ring belongs to the process that made it: after a fork another one is made.
 *  2. Parts are given to the kernel in the order of their array, in one system call.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fsways.h"

const char *const way_names[WAYS] = {"call", "vector", "aio", "io_uring", "mapped"};

static void give_up(const char *what)
{
	fprintf(stderr, "fsways: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* ---- aio ---- */

static aio_context_t aio_context(void)
{
	static aio_context_t context;
	static pid_t owner;

	if (owner != getpid()) {
		context = 0;
		if (syscall(SYS_io_setup, 2 * PARTS_MAX, &context))
			give_up("io_setup");
		owner = getpid();
	}
	return context;
}

void ways_aio(int fd, bool write, struct part *parts, unsigned n)
{
	aio_context_t context = aio_context();
	struct iocb blocks[PARTS_MAX] = {0}, *list[PARTS_MAX];
	unsigned begun = 0;

	for (unsigned i = 0; i < n; i++) {
		list[i] = &blocks[i];
		blocks[i].aio_data = i;
		blocks[i].aio_lio_opcode = write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD;
		blocks[i].aio_fildes = fd;
		blocks[i].aio_buf = (uintptr_t)parts[i].buf;
		blocks[i].aio_nbytes = parts[i].len;
		blocks[i].aio_offset = parts[i].off;
		parts[i].ret = 0;
	}
	while (begun < n) { /* fewer are taken where one is refused */
		long taken = syscall(SYS_io_submit, context, n - begun, list + begun);

		if (taken > 0) {
			begun += taken;
			continue;
		}
		parts[begun].ret = -errno;
		memmove(list + begun, list + begun + 1, (n - begun - 1) * sizeof(list[0]));
		n--;
	}
	while (begun) {
		struct io_event events[PARTS_MAX];
		long got = syscall(SYS_io_getevents, context, 1, begun, events, NULL);

		if (got < 0 && errno != EINTR)
			give_up("io_getevents");
		for (long i = 0; i < got; i++)
			parts[events[i].data].ret = events[i].res;
		begun -= got > 0 ? got : 0;
	}
}

/* ---- io_uring ---- */

struct ring {
	int fd; /* < 0: cannot be had */
	pid_t owner;
	_Atomic uint32_t *sq_tail, *cq_head, *cq_tail;
	uint32_t *sq_array, sq_mask, cq_mask;
	struct io_uring_sqe *entries;
	struct io_uring_cqe *events;
};

static void *ring_map(int fd, size_t len, off_t what)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, what);

	if (p == MAP_FAILED)
		give_up("mmap of an io_uring");
	return p;
}

static struct ring *ring_get(void)
{
	static struct ring ring;
	struct io_uring_params p = {0};
	uint8_t *sq, *cq;

	if (ring.owner == getpid())
		return &ring;
	ring.owner = getpid();
	ring.fd = syscall(SYS_io_uring_setup, 2 * PARTS_MAX, &p);
	if (ring.fd < 0)
		return &ring;
	sq = ring_map(ring.fd, p.sq_off.array + p.sq_entries * sizeof(uint32_t), IORING_OFF_SQ_RING);
	cq = ring_map(ring.fd, p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe), IORING_OFF_CQ_RING);
	ring.entries = ring_map(ring.fd, p.sq_entries * sizeof(struct io_uring_sqe), IORING_OFF_SQES);
	ring.sq_tail = (void *)(sq + p.sq_off.tail);
	ring.sq_mask = *(uint32_t *)(sq + p.sq_off.ring_mask);
	ring.sq_array = (void *)(sq + p.sq_off.array);
	ring.cq_head = (void *)(cq + p.cq_off.head);
	ring.cq_tail = (void *)(cq + p.cq_off.tail);
	ring.cq_mask = *(uint32_t *)(cq + p.cq_off.ring_mask);
	ring.events = (void *)(cq + p.cq_off.cqes);
	return &ring;
}

bool ways_has_uring(void)
{
	return ring_get()->fd >= 0;
}

void ways_uring(int fd, bool write, struct part *parts, unsigned n)
{
	struct ring *ring = ring_get();
	uint32_t tail = atomic_load(ring->sq_tail), head = atomic_load(ring->cq_head);
	unsigned begun = 0;

	for (unsigned i = 0; i < n; i++, tail++) {
		struct io_uring_sqe *e = &ring->entries[tail & ring->sq_mask];

		memset(e, 0, sizeof(*e));
		e->opcode = write ? IORING_OP_WRITE : IORING_OP_READ;
		e->fd = fd;
		e->addr = (uintptr_t)parts[i].buf;
		e->len = parts[i].len;
		e->off = parts[i].off;
		e->user_data = i;
		ring->sq_array[tail & ring->sq_mask] = tail & ring->sq_mask;
	}
	atomic_store(ring->sq_tail, tail);
	while (begun < n || head != tail) {
		long taken = syscall(SYS_io_uring_enter, ring->fd, n - begun, 1, IORING_ENTER_GETEVENTS, NULL, 0);

		if (taken < 0 && errno != EINTR)
			give_up("io_uring_enter");
		begun += taken > 0 ? taken : 0;
		for (; head != atomic_load(ring->cq_tail); head++) {
			struct io_uring_cqe *e = &ring->events[head & ring->cq_mask];

			parts[e->user_data].ret = e->res;
		}
		atomic_store(ring->cq_head, head);
	}
}

/* ---- one range by any way ---- */

static int64_t answer(int64_t ret)
{
	return ret < 0 ? -errno : ret;
}

static int64_t copy_mapped(int fd, bool write, void *buf, size_t len, int64_t off)
{
	int64_t before = off % 4096;
	uint8_t *p = mmap(NULL, before + len, write ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, off - before);

	if (p == MAP_FAILED)
		return -errno;
	if (write)
		memcpy(p + before, buf, len);
	else
		memcpy(buf, p + before, len);
	munmap(p, before + len);
	return len;
}

static int64_t transfer(enum way way, int fd, bool write, void *buf, size_t len, int64_t off)
{
	struct part part = {buf, len, off, 0};
	struct iovec halves[2] = {{buf, len / 2}, {(uint8_t *)buf + len / 2, len - len / 2}};

	switch (way) {
	case WAY_CALL: return answer(write ? pwrite(fd, buf, len, off) : pread(fd, buf, len, off));
	case WAY_VECTOR: return answer(write ? pwritev(fd, halves, 2, off) : preadv(fd, halves, 2, off));
	case WAY_MAPPED: return copy_mapped(fd, write, buf, len, off);
	case WAY_AIO: ways_aio(fd, write, &part, 1); return part.ret;
	default: ways_uring(fd, write, &part, 1); return part.ret;
	}
}

int64_t ways_write(enum way way, int fd, const void *buf, size_t len, int64_t off)
{
	return transfer(way, fd, true, (void *)buf, len, off);
}

int64_t ways_read(enum way way, int fd, void *buf, size_t len, int64_t off)
{
	return transfer(way, fd, false, buf, len, off);
}

int ways_set_direct(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);

	return fcntl(fd, F_SETFL, on ? flags | O_DIRECT : flags & ~O_DIRECT) ? -errno : 0;
}
