/*
 * An encrypted file.
 *
 * Invariants: (1) only whole sectors reach the file below, and only encrypted; (2) the key is in locked memory. What libcrypto makes of it
 * (the round keys) is in the heap during one transfer, and overwritten at its end; (3) a transfer goes through a buffer, or through the
 * reader's own memory, never through the writer's; (4) a sector has the sum of what was last written to it, none after a write that failed.
 */
#include "io/cipher.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#ifdef HAVE_LIBCRYPTO
#include <openssl/evp.h>
#endif

#include "io/sums.h"
#include "util/buf.h"

#define STEP_BYTES ((size_t)256 << 10) /* through one buffer */
#define KEY_MAP_BYTES ((size_t)4096)

/* ---- the key ---- */

static int fill_randomly(unsigned char *p, size_t n)
{
	ssize_t r;

	do
		r = getrandom(p, n, 0); /* so few bytes come at once */
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : (size_t)r == n ? 0 : -EIO;
}

int cipher_key_new(struct cipher_key **out)
{
	struct cipher_key *k = mmap(NULL, KEY_MAP_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int err = 0;

	if (k == MAP_FAILED)
		return -ENOMEM;
	if (mlock(k, KEY_MAP_BYTES) || madvise(k, KEY_MAP_BYTES, MADV_DONTDUMP))
		err = -EPERM;
	if (!err)
		err = fill_randomly(k->bytes, sizeof(k->bytes));
	if (err)
		cipher_key_free(k);
	else
		*out = k;
	return err;
}

void cipher_key_free(struct cipher_key *k)
{
	explicit_bzero(k, sizeof(*k));
	munmap(k, KEY_MAP_BYTES);
}

#ifdef HAVE_LIBCRYPTO

struct cipher_file {
	struct io base;
	struct io *below;
	struct cipher_key *key;
	EVP_CIPHER *algorithm;
	struct sums sums;
};

static struct cipher_file *to_file(struct io *io)
{
	return (struct cipher_file *)io;
}

/* ---- sectors ---- */

static uint64_t down(uint64_t off)
{
	return off / CIPHER_SECTOR * CIPHER_SECTOR;
}

static uint64_t up(uint64_t off)
{
	return down(off + CIPHER_SECTOR - 1);
}

/* The sector's number, as XTS has it. */
static void tweak_of(uint64_t off, unsigned char out[16])
{
	uint64_t sector = off / CIPHER_SECTOR;

	memset(out, 0, 16);
	for (int i = 0; i < 8; i++)
		out[i] = (unsigned char)(sector >> 8 * i);
}

/* Whole sectors at off, in place. */
static int crypt(const struct cipher_file *f, unsigned char *p, size_t n, uint64_t off, int encrypts)
{
	EVP_CIPHER_CTX *x = EVP_CIPHER_CTX_new();
	unsigned char tweak[16];
	int done, ok;

	if (!x)
		return -ENOMEM;
	ok = EVP_CipherInit_ex2(x, f->algorithm, f->key->bytes, NULL, encrypts, NULL);
	for (size_t at = 0; ok && at < n; at += CIPHER_SECTOR) {
		tweak_of(off + at, tweak);
		ok = EVP_CipherInit_ex2(x, NULL, NULL, tweak, encrypts, NULL) && EVP_CipherUpdate(x, p + at, &done, p + at, CIPHER_SECTOR);
	}
	EVP_CIPHER_CTX_free(x);
	return ok ? 0 : -EIO;
}

static int read_sectors(struct cipher_file *f, unsigned char *p, size_t n, uint64_t off, unsigned how, size_t *out)
{
	size_t got = 0;
	int err = f->below->ops->pread_some(f->below, p, n, off, how, &got);

	got = (size_t)down(got);
	if (!err)
		err = crypt(f, p, got, off, 0);
	if (!err && !sums_match(&f->sums, p, got, off))
		err = -EUCLEAN;
	if (!err)
		*out = got;
	return err;
}

/* ---- transfers ---- */

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* At most STEP_BYTES, with the sectors at its edges. */
static int read_step(struct cipher_file *f, char *to, size_t n, uint64_t off, unsigned how, size_t *out)
{
	uint64_t begin = down(off), end = up(off + n);
	size_t all = (size_t)(end - begin), skip = (size_t)(off - begin), got;
	unsigned char *buf;
	int err;

	if (all == n)
		return read_sectors(f, (unsigned char *)to, n, off, how, out);
	buf = buf_alloc(all);
	if (!buf)
		return -ENOMEM;
	err = read_sectors(f, buf, all, begin, how, &got);
	if (!err) {
		*out = got > skip ? least(got - skip, n) : 0;
		memcpy(to, buf + skip, *out);
	}
	buf_free(buf, all);
	return err;
}

static int cipher_pread_some(struct io *io, void *buf, size_t n, uint64_t off, unsigned how, size_t *out)
{
	size_t done = 0, got = 1;
	int err = 0;

	while (done < n && got && !err) {
		uint64_t at = off + done;

		err = read_step(to_file(io), (char *)buf + done, least(n - done, STEP_BYTES - at % CIPHER_SECTOR), at, how, &got);
		if (!err)
			done += got;
	}
	if (!err)
		*out = done;
	return err;
}

/* A sector of which only a part is to be written. */
static int read_edge(struct cipher_file *f, unsigned char *p, uint64_t off)
{
	size_t got;
	int err = read_sectors(f, p, CIPHER_SECTOR, off, 0, &got);

	return err ? err : got == CIPHER_SECTOR ? 0 : -EIO;
}

/* Encrypts them where they are. */
static int write_sectors(struct cipher_file *f, unsigned char *p, size_t n, uint64_t off, unsigned how)
{
	int err = sums_make(&f->sums, off, n);

	if (err)
		return err;
	sums_set(&f->sums, p, n, off);
	err = crypt(f, p, n, off, 1);
	if (!err)
		err = io_pwrite_as(f->below, p, n, off, how);
	if (err)
		sums_forget(&f->sums, off, n);
	return err;
}

static int write_step(struct cipher_file *f, const char *from, size_t n, uint64_t off, unsigned how)
{
	uint64_t begin = down(off), end = up(off + n);
	size_t all = (size_t)(end - begin);
	unsigned char *buf = buf_alloc(all);
	int err = 0;

	if (!buf)
		return -ENOMEM;
	if (begin < off)
		err = read_edge(f, buf, begin);
	if (!err && end > off + n && (begin == off || all > CIPHER_SECTOR))
		err = read_edge(f, buf + all - CIPHER_SECTOR, end - CIPHER_SECTOR);
	if (!err) {
		memcpy(buf + (off - begin), from, n);
		err = write_sectors(f, buf, all, begin, how);
	}
	buf_free(buf, all);
	return err;
}

static int cipher_pwrite(struct io *io, const void *buf, size_t n, uint64_t off, unsigned how)
{
	const char *from = buf;
	int err = 0;

	while (n && !err) {
		size_t k = least(n, STEP_BYTES - off % CIPHER_SECTOR);

		err = write_step(to_file(io), from, k, off, how);
		from += k;
		off += k;
		n -= k;
	}
	return err;
}

/* ---- the rest is that of the file below ---- */

static int cipher_sync(struct io *io)
{
	return io_sync(to_file(io)->below);
}

static int cipher_truncate(struct io *io, uint64_t size)
{
	sums_forget(&to_file(io)->sums, up(size), UINT64_MAX - up(size));
	return io_truncate(to_file(io)->below, up(size));
}

static int cipher_allocate(struct io *io, uint64_t off, uint64_t n)
{
	return io_allocate(to_file(io)->below, off, n);
}

/* Parts of sectors stay: a part that is zeros below is none above. */
static int cipher_punch(struct io *io, uint64_t off, uint64_t n)
{
	uint64_t begin = up(off), end = down(off + n);

	if (begin >= end)
		return 0;
	sums_forget(&to_file(io)->sums, begin, end - begin);
	return io_punch(to_file(io)->below, begin, end - begin);
}

static int cipher_size(struct io *io, uint64_t *size, uint64_t *stored_bytes)
{
	return io_size(to_file(io)->below, size, stored_bytes);
}

static int cipher_seek_data(struct io *io, uint64_t off, bool hole, uint64_t *out)
{
	return io_seek(to_file(io)->below, off, hole, out);
}

static bool cipher_find_allocated(struct io *io, uint64_t off, uint64_t n, uint64_t *from, uint64_t *to)
{
	return io_find_allocated(to_file(io)->below, off, n, from, to);
}

static void cipher_close(struct io *io)
{
	struct cipher_file *f = to_file(io);

	io_close(f->below);
	cipher_key_free(f->key);
	EVP_CIPHER_free(f->algorithm);
	sums_fini(&f->sums);
	free(f);
}

static const struct io_ops cipher_ops = {
	.pread_some = cipher_pread_some,
	.pwrite = cipher_pwrite,
	.sync = cipher_sync,
	.truncate = cipher_truncate,
	.allocate = cipher_allocate,
	.punch = cipher_punch,
	.size = cipher_size,
	.seek_data = cipher_seek_data,
	.find_allocated = cipher_find_allocated,
	.close = cipher_close,
};

int cipher_wrap(struct io *below, struct cipher_key *key, _Atomic uint64_t *held_bytes, struct io **out)
{
	struct cipher_file *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	f->algorithm = EVP_CIPHER_fetch(NULL, "AES-256-XTS", NULL);
	if (!f->algorithm) {
		free(f);
		return -EOPNOTSUPP;
	}
	f->base.ops = &cipher_ops;
	f->below = below;
	f->key = key;
	sums_init(&f->sums, held_bytes);
	*out = &f->base;
	return 0;
}

#else

int cipher_wrap(struct io *below, struct cipher_key *key, _Atomic uint64_t *held_bytes, struct io **out)
{
	(void)below, (void)key, (void)held_bytes, (void)out;
	return -EOPNOTSUPP;
}

#endif
