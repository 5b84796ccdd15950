/*
 * The ballast.
 *
 * Invariant: the file has no name from the start, so that it ends with the process, however that ends.
 */
#include "io/ballast.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "util/err.h"

/* Given up at a time: other programs that look for space must not get all of it before the writer comes back. */
#define YIELD_BYTES (1u << 20)

void ballast_init(struct ballast *b)
{
	lock_init(&b->lock, RANK_MEM);
	b->fd = -1;
	atomic_init(&b->bytes, 0);
}

void ballast_fini(struct ballast *b)
{
	if (b->fd >= 0)
		close(b->fd);
	lock_fini(&b->lock);
}

static int cut_locked(struct ballast *b, uint64_t bytes)
{
	if (ftruncate(b->fd, (off_t)bytes))
		return -errno;
	atomic_store(&b->bytes, bytes);
	return 0;
}

static int set_locked(struct ballast *b, int dirfd, uint64_t least, uint64_t most)
{
	uint64_t was = atomic_load(&b->bytes), bytes = was < least ? least : was > most ? most : was;
	int err;

	if (b->fd < 0)
		b->fd = openat(dirfd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (b->fd < 0)
		return -errno;
	if (bytes <= was)
		return cut_locked(b, bytes);
	if (fallocate(b->fd, 0, (off_t)was, (off_t)(bytes - was))) {
		err = -errno;
		cut_locked(b, was); /* a part may be there */
		return err;
	}
	atomic_store(&b->bytes, bytes);
	return 0;
}

int ballast_set(struct ballast *b, int dirfd, uint64_t least, uint64_t most)
{
	uint64_t now = atomic_load(&b->bytes);
	int err;

	if (now >= least && now <= most)
		return 0;
	lock_acquire(&b->lock);
	err = set_locked(b, dirfd, least, most);
	lock_release(&b->lock);
	return err;
}

bool ballast_yield(struct ballast *b, int err, uint64_t need_bytes)
{
	uint64_t bytes;
	bool yields = false;

	if (!err_is_full(err) || !atomic_load(&b->bytes))
		return false;
	lock_acquire(&b->lock);
	bytes = atomic_load(&b->bytes);
	need_bytes += YIELD_BYTES;
	yields = bytes && !cut_locked(b, bytes > need_bytes ? bytes - need_bytes : 0);
	lock_release(&b->lock);
	return yields;
}
