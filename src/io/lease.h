/*
 * Leases: bytes lent by an array to whoever replies to a read, and the bounded pool of aligned
 * buffers behind direct I/O.
 *
 * A lease of an array is either memory (ptr != NULL) or a range of a file (ptr == NULL, file and
 * off_bytes), which lease_copy reads: so a reply of many pieces holds many of them, and no buffer of the
 * pool. The borrower calls lease_return exactly once; the lender's array lock is held meanwhile, so the
 * range keeps its owner.
 */
#ifndef SPILLFS_IO_LEASE_H
#define SPILLFS_IO_LEASE_H

#include <stddef.h>
#include <stdint.h>

struct io;

struct lease {
	const void *ptr;
	size_t len_bytes;
	struct io *file;
	uint64_t off_bytes;
	void (*give_back)(struct lease *l); /* NULL: nothing to do */
	void *owner;                        /* the lender's */
	void *item;                         /* the lender's */
};

static inline void lease_return(struct lease *l)
{
	if (l->give_back)
		l->give_back(l);
	l->give_back = NULL;
}

/* All its bytes, at dst; `how` as io_pread_as, with IO_CACHED. -EIO: the file ends before. */
int lease_copy(const struct lease *l, unsigned how, void *dst);

/* A lease of `len` zero bytes (len up to LEASE_ZERO_MAX), never fails. */
#define LEASE_ZERO_MAX (1u << 20)
void lease_zeros(struct lease *l, size_t len_bytes);

/*
 * The pool: at most `n` buffers of size_bytes (a multiple of 4096), 4096-aligned, allocated when first
 * needed. Invariants: (1) outstanding + idle + not yet allocated = n; (2) a return signals under the
 * lock, so that no waiter is lost; (3) a failed allocation with none outstanding returns -ENOMEM, and
 * with some outstanding waits for one of them.
 *
 * No deadlock: a buffer is held inside one call of io/direct only, for one system call or three; its holder
 * takes RANK_END and RANK_EDGE, whose holders have their buffer already, and nothing else. So whoever waits
 * for a buffer may hold any lock of a lower rank, but no second buffer.
 */
struct lease_pool;

int lease_pool_new(unsigned n, size_t size_bytes, struct lease_pool **out);
void lease_pool_free(struct lease_pool *p); /* all buffers must be back */
int lease_pool_borrow(struct lease_pool *p, void **out); /* waits while all are lent, and counts that; -ENOMEM */
int lease_pool_try_borrow(struct lease_pool *p, void **out); /* -EAGAIN instead of blocking */
void lease_pool_return(struct lease_pool *p, void *buf);
size_t lease_pool_buf_bytes(const struct lease_pool *p);
/* Test hook: replaces the allocator (default aligned_alloc). */
void lease_pool_set_alloc(struct lease_pool *p, void *(*alloc)(size_t align, size_t size));

#endif
