/*
 * io/: the same operations on all kinds of directory, descriptors, direct transfers, leases.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "io/filefd.h"
#include "io/io.h"
#include "unit.h"
#include "util/buf.h"
#include "util/stats.h"

static struct io_dir *file_dir(enum io_backing backing, struct lease_pool *leases)
{
	struct io_dir *d = NULL;

	CHECK_OK(io_file_dir(unit_tmpdir_fd(), backing, leases, &d));
	return d;
}

/* As where the kernel knows no uncached writes. */
static struct io_dir *auto_dir_without_uncached(struct lease_pool *leases)
{
	struct io_dir *d = file_dir(IO_BACKING_AUTO, leases);

	((struct file_dir *)d)->direct.uncached = false;
	return d;
}

static struct lease_pool *new_pool(unsigned n, size_t size_bytes)
{
	struct lease_pool *p = NULL;

	CHECK_OK(lease_pool_new(n, size_bytes, &p));
	return p;
}

/* ---- leases ---- */

static struct lease_pool *pool;
static atomic_int pool_busy, pool_most;

static void *pool_user(void *arg)
{
	int spin = (int)(uintptr_t)arg % 5, most, now;
	void *buf;

	for (int i = 0; i < 300; i++) {
		CHECK_OK(lease_pool_borrow(pool, &buf));
		now = atomic_fetch_add(&pool_busy, 1) + 1;
		most = atomic_load(&pool_most);
		while (now > most && !atomic_compare_exchange_weak(&pool_most, &most, now))
			;
		*(volatile int *)buf = i;
		for (int k = 0; k < spin; k++)
			sched_yield();
		CHECK_EQ(*(volatile int *)buf, i);
		atomic_fetch_sub(&pool_busy, 1);
		lease_pool_return(pool, buf);
	}
	return NULL;
}

UNIT_TEST(lease_64_threads_on_3_buffers) /* hangs if a wakeup is lost */
{
	pthread_t t[64];

	CHECK_OK(lease_pool_new(3, 8192, &pool));
	CHECK_EQ(lease_pool_buf_bytes(pool), 8192);
	for (uintptr_t i = 0; i < 64; i++)
		CHECK_EQ(pthread_create(&t[i], NULL, pool_user, (void *)i), 0);
	for (int i = 0; i < 64; i++)
		pthread_join(t[i], NULL);
	CHECK(atomic_load(&pool_most) <= 3);
	CHECK_EQ(stats_read(STAT_LEASES_IN_USE), 0);
	lease_pool_free(pool);
}

static atomic_int allocs_left;

static void *scarce_alloc(size_t align, size_t size)
{
	return atomic_fetch_sub(&allocs_left, 1) > 0 ? aligned_alloc(align, size) : NULL;
}

static void *borrow_one(void *arg)
{
	void *buf = NULL;

	(void)arg;
	CHECK_OK(lease_pool_borrow(pool, &buf));
	return buf;
}

UNIT_TEST(lease_failed_allocation)
{
	void *a, *b = NULL, *c = &b;
	uint64_t waits;
	pthread_t t;

	CHECK_EQ(lease_pool_new(0, 4096, &pool), -EINVAL);
	CHECK_EQ(lease_pool_new(1, 100, &pool), -EINVAL);
	CHECK_OK(lease_pool_new(4, 4096, &pool));
	lease_pool_set_alloc(pool, scarce_alloc);
	CHECK_EQ(lease_pool_borrow(pool, &c), -ENOMEM); /* none outstanding: at once */
	CHECK(c == &b);                                 /* untouched */
	atomic_store(&allocs_left, 1);
	CHECK_OK(lease_pool_borrow(pool, &a));
	CHECK_EQ((uintptr_t)a % 4096, 0);
	CHECK_EQ(lease_pool_try_borrow(pool, &c), -EAGAIN);
	waits = stats_read(STAT_LEASE_WAITS);
	CHECK_EQ(pthread_create(&t, NULL, borrow_one, NULL), 0);
	while (stats_read(STAT_LEASE_WAITS) == waits) /* it waits for ours */
		usleep(1000);
	CHECK_EQ(stats_read(STAT_LEASES_IN_USE), 1);
	lease_pool_return(pool, a);
	pthread_join(t, &b);
	CHECK(b == a);
	lease_pool_return(pool, b);
	lease_pool_free(pool);
}

static void count_return(struct lease *l)
{
	++*(int *)l->owner;
}

UNIT_TEST(lease_returned_once_and_zeros)
{
	int n = 0;
	struct lease l = { .give_back = count_return, .owner = &n };

	lease_return(&l);
	lease_return(&l);
	CHECK_EQ(n, 1);
	lease_zeros(&l, LEASE_ZERO_MAX);
	CHECK_EQ(l.len_bytes, LEASE_ZERO_MAX);
	CHECK(buf_is_zero(l.ptr, l.len_bytes));
	lease_return(&l);
}

/* ---- io/file against io/mem ---- */

#define SCRIPT_MAX (1u << 20)

struct script {
	struct io *a, *b; /* file, mem */
	bool exact_holes;
	uint64_t seed;
	unsigned char *x, *y;
};

static void script_compare(struct script *s)
{
	uint64_t na, nb;
	size_t ra = 0, rb = 0;

	CHECK_OK(io_size(s->a, &na, NULL));
	CHECK_OK(io_size(s->b, &nb, NULL));
	CHECK_EQ(na, nb);
	CHECK_OK(io_pread_some(s->a, s->x, SCRIPT_MAX * 2, 0, &ra));
	CHECK_OK(io_pread_some(s->b, s->y, SCRIPT_MAX * 2, 0, &rb));
	CHECK_EQ(ra, rb);
	CHECK_EQ(ra, na);
	CHECK(memcmp(s->x, s->y, ra) == 0);
}

/* Without exact holes: a file system may call more data, but never less. */
static void script_seek(struct script *s, uint64_t off)
{
	for (int hole = 0; hole < 2; hole++) {
		uint64_t pa = ~0ull, pb = ~0ull;
		int ea = io_seek(s->a, off, hole, &pa), eb = io_seek(s->b, off, hole, &pb);

		if (s->exact_holes) {
			CHECK_EQ(ea, eb);
			CHECK_EQ(pa, pb);
		} else if (hole) {
			CHECK_EQ(ea, eb);
			CHECK(ea || pa >= pb);
		} else {
			CHECK(ea == 0 || eb == -ENXIO);
			CHECK(ea || eb || pa <= pb);
		}
	}
}

static void script_step(struct script *s)
{
	uint64_t off = unit_rand(&s->seed) % SCRIPT_MAX;
	size_t n = unit_rand(&s->seed) % (64 << 10) + 1;
	uint64_t page_off = off / 4096 * 4096;
	size_t page_n = (n + 4095) / 4096 * 4096, ra = 1, rb = 2;

	switch (unit_rand(&s->seed) % 9) {
	case 0:
	case 1:
	case 2:
		unit_rand_fill(&s->seed, s->x, n);
		CHECK_OK(io_pwrite(s->a, s->x, n, off));
		CHECK_OK(io_pwrite(s->b, s->x, n, off));
		break;
	case 3:
		CHECK_OK(io_pread_some(s->a, s->x, n, off, &ra));
		CHECK_OK(io_pread_some(s->b, s->y, n, off, &rb));
		CHECK_EQ(ra, rb);
		CHECK(memcmp(s->x, s->y, ra) == 0);
		CHECK_EQ(io_pread(s->a, s->x, n, off), io_pread(s->b, s->x, n, off));
		break;
	case 4:
		CHECK_OK(io_truncate(s->a, off));
		CHECK_OK(io_truncate(s->b, off));
		break;
	case 5:
		CHECK_OK(io_punch(s->a, page_off, page_n));
		CHECK_OK(io_punch(s->b, page_off, page_n));
		break;
	case 6:
		if (s->exact_holes)
			break;
		CHECK_OK(io_punch(s->a, off, n));
		CHECK_OK(io_punch(s->b, off, n));
		CHECK_OK(io_allocate(s->a, page_off, page_n));
		CHECK_OK(io_allocate(s->b, page_off, page_n));
		break;
	case 7:
		CHECK_OK(io_sync(s->a));
		CHECK_OK(io_sync(s->b));
		break;
	default:
		script_seek(s, page_off);
	}
}

static bool fs_has_page_holes(int fd)
{
	struct statfs fs;
	struct stat st;

	CHECK_EQ(fstatfs(fd, &fs), 0);
	CHECK_EQ(fstat(fd, &st), 0);
	return st.st_blksize == 4096 && (fs.f_type == EXT4_SUPER_MAGIC || fs.f_type == TMPFS_MAGIC ||
					 fs.f_type == XFS_SUPER_MAGIC);
}

static void script_run(enum io_backing backing, bool exact_holes, uint64_t seed)
{
	struct lease_pool *leases;
	struct io_dir *da, *db;
	struct script s = { .exact_holes = exact_holes, .seed = seed };
	int fd = unit_tmpdir_fd();

	if (exact_holes && !fs_has_page_holes(fd)) {
		close(fd);
		return;
	}
	CHECK_OK(lease_pool_new(2, 16384, &leases));
	CHECK_OK(io_file_dir(fd, backing, leases, &da));
	CHECK_OK(io_mem_dir(&db));
	CHECK_OK(io_open(da, "f", IO_CREATE, &s.a));
	CHECK_OK(io_open(db, "f", IO_CREATE, &s.b));
	s.x = malloc(SCRIPT_MAX * 2);
	s.y = malloc(SCRIPT_MAX * 2);
	for (int i = 0; i < 600; i++) {
		script_step(&s);
		if (i % 20 == 0)
			script_compare(&s);
	}
	script_compare(&s);
	free(s.x);
	free(s.y);
	io_close(s.a);
	io_close(s.b);
	io_dir_close(da);
	io_dir_close(db);
	lease_pool_free(leases);
}

UNIT_TEST(io_file_agrees_with_mem)
{
	for (uint64_t seed = 1; seed <= 4; seed++) {
		script_run(IO_BACKING_BUFFERED, true, seed);
		script_run(IO_BACKING_BUFFERED, false, seed * 77);
		script_run(IO_BACKING_AUTO, false, seed * 1234567);
		script_run(IO_BACKING_DIRECT, false, seed * 31);
	}
}

static int count_name(void *ctx, const char *name)
{
	(void)name;
	++*(int *)ctx;
	return 0;
}

static int stop_at_once(void *ctx, const char *name)
{
	(void)ctx, (void)name;
	return -EINTR;
}

static void names_script(struct io_dir *d)
{
	struct io *f, *g = NULL;
	uint64_t total, avail;
	char c = 'x';
	int n = 0;

	CHECK_OK(io_mkdir(d, "sub"));
	CHECK_OK(io_mkdir(d, "sub"));
	CHECK_EQ(io_open(d, "no/f", IO_CREATE, &f), -ENOENT);
	CHECK_EQ(io_open(d, "sub/f", 0, &f), -ENOENT);
	CHECK_EQ(io_open(d, "/sub/f", IO_CREATE, &f), -EINVAL);
	CHECK_EQ(io_open(d, "sub", 0, &f), -EUCLEAN);
	CHECK_OK(io_open(d, "sub/f", IO_CREATE | IO_EXCL, &f));
	CHECK_EQ(io_open(d, "sub/f", IO_CREATE | IO_EXCL, &g), -EEXIST);
	CHECK_EQ(io_mkdir(d, "sub/f"), -EUCLEAN);
	CHECK_OK(io_open(d, "sub/f", IO_RDONLY, &g));
	CHECK_OK(io_pwrite(f, &c, 1, 0));
	CHECK_EQ(io_pwrite(g, &c, 1, 0), -EBADF);
	CHECK_EQ(io_truncate(g, 0), -EBADF);
	CHECK_EQ(io_punch(g, 0, 1), -EBADF);
	c = 0;
	CHECK_OK(io_pread(g, &c, 1, 0));
	CHECK_EQ(c, 'x');
	CHECK_EQ(io_pread(g, &c, 1, 1), -ENODATA);
	io_close(g);
	CHECK_EQ(io_rename(d, "sub/none", "h"), -ENOENT);
	CHECK_EQ(io_rename(d, "sub/f", "none/h"), -ENOENT);
	CHECK_OK(io_rename(d, "sub/f", "sub/f"));
	CHECK_OK(io_rename(d, "sub/f", "h"));
	CHECK_EQ(io_open(d, "sub/f", 0, &g), -ENOENT);
	CHECK_OK(io_pread(f, &c, 1, 0));
	CHECK_OK(io_open(d, "i", IO_CREATE, &g));
	CHECK_OK(io_rename(d, "h", "i")); /* over an open file */
	CHECK_EQ(io_pread(g, &c, 1, 0), -ENODATA);
	io_close(g);
	CHECK_OK(io_open(d, "i", IO_RDONLY, &g));
	CHECK_OK(io_pread(g, &c, 1, 0));
	io_close(g);
	CHECK_OK(io_list(d, ".", count_name, &n));
	CHECK_EQ(n, 2);
	n = 0;
	CHECK_OK(io_list(d, "sub", count_name, &n));
	CHECK_EQ(n, 0);
	CHECK_EQ(io_list(d, "none", count_name, &n), -ENOENT);
	CHECK_EQ(io_list(d, ".", stop_at_once, NULL), -EINTR);
	CHECK_OK(io_dir_sync(d, "."));
	CHECK_OK(io_dir_sync(d, "sub"));
	CHECK_EQ(io_dir_sync(d, "none"), -ENOENT);
	CHECK_OK(io_space(d, &total, &avail));
	CHECK(avail <= total && total > 0);
	CHECK_EQ(io_unlink(d, "sub"), -EUCLEAN);
	CHECK_EQ(io_unlink(d, "none"), -ENOENT);
	CHECK_OK(io_unlink(d, "i"));
	CHECK_OK(io_pread(f, &c, 1, 0));
	CHECK_OK(io_pwrite(f, "yz", 2, 0));
	CHECK_OK(io_sync(f));
	io_close(f);
	CHECK_EQ(io_open(d, "i", 0, &f), -ENOENT);
}

UNIT_TEST(io_names)
{
	struct io_dir *d, *inner;

	for (unsigned budget = 0; budget < 2; budget++) {
		d = file_dir(IO_BACKING_BUFFERED, NULL);
		fd_set_budget((struct file_dir *)d, budget); /* every idle file is closed: each step reopens */
		names_script(d);
		io_dir_close(d);
	}
	CHECK_OK(io_mem_dir(&d));
	names_script(d);
	io_dir_close(d);
	CHECK_OK(io_mem_dir(&inner));
	CHECK_OK(io_fault_dir(inner, &d));
	names_script(d);
	io_dir_close(d);
}

/* ---- direct transfers ---- */

static void backing_script(struct io_dir *d, const unsigned char *model, size_t size, size_t skew)
{
	unsigned char *buf = buf_alloc(size + 8192);
	uint64_t seed = 99;
	struct io *f;
	size_t got;

	CHECK_OK(io_open(d, "f", IO_CREATE, &f));
	for (size_t off = 0; off < size;) {
		size_t n = unit_rand(&seed) % 700000 + 1;

		n = n < size - off ? n : size - off;
		memcpy(buf + skew, model + off, n);
		CHECK_OK(io_pwrite(f, buf + skew, n, off));
		off += n;
	}
	for (int i = 0; i < 60; i++) {
		uint64_t off = unit_rand(&seed) % size;
		size_t n = unit_rand(&seed) % (i % 2 ? 9000 : 900000) + 1;
		size_t want = n < size - off ? n : size - off;

		if (i % 5 == 0)
			off &= ~4095ull, want = n < size - off ? n : size - off;
		CHECK_OK(io_pread_some(f, buf + skew, n < size ? n : size, off, &got));
		CHECK_EQ(got, want);
		CHECK(memcmp(buf + skew, model + off, want) == 0);
	}
	CHECK_OK(io_sync(f));
	CHECK_OK(io_pread(f, buf + skew, size, 0));
	CHECK(memcmp(buf + skew, model, size) == 0);
	CHECK_EQ(io_pread(f, buf + skew, size + 1, 0), -ENODATA);
	io_close(f);
	buf_free(buf, size + 8192);
}

/* Bytes moved by one way, of all kinds. */
static uint64_t moved(enum stats_way way)
{
	uint64_t sum = 0;

	for (unsigned kind = 0; kind < STATS_NKINDS; kind++) {
		sum += stats_read(stats_backing_write(kind, way));
		sum += way == STATS_UNCACHED ? 0 : stats_read(stats_backing_read(kind, way));
	}
	return sum;
}

static uint64_t fallbacks(void)
{
	uint64_t sum = 0;

	for (unsigned i = STAT_LEASE_FALLBACKS_LENT; i <= STAT_LEASE_FALLBACKS_CONFIGURED; i++)
		sum += stats_read(i);
	return sum;
}

static bool is_direct(struct io_dir *d)
{
	return strcmp(io_file_backing(d, NULL), "direct") == 0;
}

UNIT_TEST(io_backings_read_back_equal)
{
	static const enum io_backing backings[] = {
		IO_BACKING_BUFFERED, IO_BACKING_AUTO, IO_BACKING_DIRECT,
	};
	const size_t size = (3 << 20) + 1234;
	unsigned char *model = malloc(size);
	struct lease_pool *leases = new_pool(2, 64 << 10); /* smaller than the transfers */
	uint64_t seed = 5;

	unit_rand_fill(&seed, model, size);
	for (int i = 0; i < 3; i++) {
		for (size_t skew = 0; skew < 2; skew++) {
			uint64_t direct = moved(STATS_DIRECT), buffered = moved(STATS_BUFFERED), fell = fallbacks();
			struct io_dir *d = file_dir(backings[i], i ? leases : NULL);
			const char *why = NULL, *way = io_file_backing(d, &why);

			backing_script(d, model, size, skew);
			direct = moved(STATS_DIRECT) - direct;
			buffered = moved(STATS_BUFFERED) - buffered;
			CHECK(why && *why);
			CHECK(direct + buffered >= 2 * size);
			if (strcmp(way, "direct"))
				CHECK_EQ(direct, 0);
			else
				CHECK(direct > size);
			if (is_direct(d) && backings[i] == IO_BACKING_DIRECT)
				CHECK_EQ(buffered, 0);
			if (is_direct(d))
				CHECK_EQ(fallbacks(), fell);
			io_dir_close(d);
		}
	}
	CHECK_EQ(stats_read(STAT_LEASES_IN_USE), 0);
	lease_pool_free(leases);
	free(model);
}

UNIT_TEST(io_auto_chooses_by_size_and_use)
{
	const size_t big = IO_DIRECT_MIN;
	unsigned char *buf = buf_alloc(big);
	uint64_t before = moved(STATS_DIRECT);
	struct lease_pool *leases = new_pool(1, 64 << 10);
	struct io_dir *d = auto_dir_without_uncached(leases);
	struct io *f;

	memset(buf, 7, big);
	CHECK_OK(io_open(d, "f", IO_CREATE, &f));
	CHECK_OK(io_pwrite(f, buf, big - 4096, 0));
	CHECK_OK(io_pwrite(f, buf, big, 4095)); /* its whole blocks are too few */
	CHECK_OK(io_pwrite_as(f, buf, big, 8192, IO_CACHED));
	CHECK_OK(io_pread_as(f, buf, big, 8192, IO_CACHED));
	CHECK_EQ(moved(STATS_DIRECT), before);
	if (is_direct(d)) {
		CHECK_OK(io_pwrite(f, buf, big, 8192));
		CHECK_EQ(moved(STATS_DIRECT), before + big);
		CHECK_OK(io_pwrite_as(f, buf, 10, 5, IO_DIRECT));
		CHECK_OK(io_pread_as(f, buf, 10, 5, IO_DIRECT | IO_CACHED));
		CHECK_EQ(moved(STATS_DIRECT), before + big + 20);
	}
	io_close(f);
	io_dir_close(d);
	lease_pool_free(leases);
	buf_free(buf, big);
}

/* Bytes of a file in the page cache. */
static size_t resident(const char *dir, const char *name)
{
	unsigned char pages[4096];
	char path[600];
	struct stat st;
	size_t n = 0;
	void *p;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDONLY);
	CHECK_EQ(fstat(fd, &st), 0);
	CHECK(st.st_size > 0 && (size_t)st.st_size <= sizeof(pages) * 4096);
	/* Valgrind reads the head of what is mapped readable, which would bring pages in. */
	p = mmap(NULL, (size_t)st.st_size, PROT_NONE, MAP_SHARED, fd, 0);
	CHECK(p != MAP_FAILED);
	CHECK_EQ(mincore(p, (size_t)st.st_size, pages), 0);
	for (size_t i = 0; i < ((size_t)st.st_size + 4095) / 4096; i++)
		n += pages[i] & 1;
	munmap(p, (size_t)st.st_size);
	close(fd);
	return n * 4096;
}

static off_t length(const char *dir, const char *name)
{
	char path[600];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	CHECK_EQ(stat(path, &st), 0);
	return st.st_size;
}

/* A large write goes uncached: whatever its alignment, and its whole pages are gone once they are on the disk. */
UNIT_TEST(io_uncached_writes_leave_no_page)
{
	const size_t size = (2 << 20) + 777, step = 300001;
	unsigned char *a = malloc(size), *b = malloc(size);
	struct lease_pool *leases = new_pool(1, 64 << 10);
	const char *path = unit_tmpdir();
	struct io_dir *d = NULL;
	uint64_t seed = 9, before = moved(STATS_UNCACHED), n;
	struct io *f;

	CHECK_OK(io_file_dir(open(path, O_RDONLY | O_DIRECTORY), IO_BACKING_AUTO, leases, &d));
	unit_rand_fill(&seed, a, size);
	CHECK_OK(io_open(d, "f", IO_CREATE, &f));
	for (size_t off = 0; off < size; off += step)
		CHECK_OK(io_pwrite(f, a + off, off + step < size ? step : size - off, off));
	CHECK_OK(io_size(f, &n, NULL));
	CHECK_EQ(n, size);
	CHECK_OK(io_sync(f));
	if (((struct file_dir *)d)->direct.uncached) {
		CHECK_EQ(moved(STATS_UNCACHED), before + size);
		/* Pages that two writes share may stay. */
		CHECK(resident(path, "f") <= 4096 * (size / step + 1));
	}
	CHECK_OK(io_pread(f, b, size, 0));
	CHECK(!memcmp(a, b, size));
	io_close(f);
	io_dir_close(d);
	lease_pool_free(leases);
	free(a);
	free(b);
}

/* Each kind counts what it moved, once, and leaves no page behind, whatever the alignment. */
UNIT_TEST(io_direct_leaves_no_page_and_counts)
{
	static const unsigned kinds[] = { IO_OF_OTHER, IO_OF_BUCKET, IO_OF_COLUMN, IO_OF_LAYERED, IO_OF_SPILL };
	const size_t size = (2 << 20) + 777, step = 100001;
	unsigned char *a = malloc(size), *b = malloc(size);
	struct lease_pool *leases = new_pool(1, 64 << 10);
	const char *path = unit_tmpdir();
	struct io_dir *d = NULL;
	uint64_t seed = 8, fell = fallbacks(), n;
	struct io *f;

	CHECK_OK(io_file_dir(open(path, O_RDONLY | O_DIRECTORY), IO_BACKING_DIRECT, leases, &d));
	unit_rand_fill(&seed, a, size);
	for (unsigned k = 0; k < STATS_NKINDS && is_direct(d); k++) {
		enum stats_id rd = stats_backing_read(k, STATS_DIRECT), wr = stats_backing_write(k, STATS_DIRECT);
		uint64_t read = stats_read(rd), written = stats_read(wr), buffered = moved(STATS_BUFFERED);

		CHECK_OK(io_open(d, "f", IO_CREATE | kinds[k], &f));
		CHECK_OK(io_truncate(f, 0));
		for (size_t off = 0; off < size; off += step)
			CHECK_OK(io_pwrite(f, a + off, off + step < size ? step : size - off, off));
		CHECK_OK(io_pread(f, b, size, 0));
		CHECK(!memcmp(a, b, size));
		CHECK_OK(io_pread(f, b, 5, 12345));
		CHECK_EQ(stats_read(wr), written + size);
		CHECK_EQ(stats_read(rd), read + size + 5);
		CHECK_EQ(moved(STATS_BUFFERED), buffered);
		CHECK_OK(io_truncate(f, size - 1000));
		CHECK_OK(io_punch(f, 5000, 10000));
		CHECK_OK(io_size(f, &n, NULL));
		CHECK_EQ(n, size - 1000);
		CHECK_EQ(resident(path, "f"), 0);
		io_close(f);
		CHECK_EQ(resident(path, "f"), 0);
	}
	CHECK_EQ(fallbacks(), is_direct(d) ? fell : fallbacks());
	io_dir_close(d);
	lease_pool_free(leases);
	free(a);
	free(b);
}

/* The file is longer than what was written for others only, and for as long as its writer has it. */
UNIT_TEST(io_direct_knows_the_end)
{
	struct lease_pool *leases = new_pool(1, 64 << 10);
	const char *path = unit_tmpdir();
	struct io_dir *d = NULL;
	char buf[9000], *zeros = calloc(1, 9000);
	uint64_t n, stored;
	size_t got;
	struct io *f;

	CHECK_OK(io_file_dir(open(path, O_RDONLY | O_DIRECTORY), IO_BACKING_DIRECT, leases, &d));
	CHECK_OK(io_open(d, "f", IO_CREATE, &f));
	CHECK_OK(io_pwrite(f, "hello", 5, 4096));
	CHECK_EQ(length(path, "f"), is_direct(d) ? 8192 : 4101);
	CHECK_OK(io_size(f, &n, NULL));
	CHECK_EQ(n, 4101);
	CHECK_OK(io_pread_some(f, buf, sizeof(buf), 0, &got));
	CHECK_EQ(got, 4101);
	CHECK_EQ(io_pread(f, buf, 6, 4096), -ENODATA);
	CHECK_EQ(io_seek(f, 4101, true, &n), -ENXIO);
	CHECK_OK(io_seek(f, 4097, true, &n));
	CHECK_EQ(n, 4101);
	CHECK_OK(io_pwrite(f, "x", 1, 9000)); /* a gap of zeros */
	CHECK_OK(io_pread(f, buf, 4899, 4101));
	CHECK(!memcmp(buf, zeros, 4899));
	CHECK_OK(io_truncate(f, 4098));
	CHECK_EQ(length(path, "f"), 4098);
	CHECK_OK(io_pwrite(f, "y", 1, 5000));
	CHECK_OK(io_sync(f));
	CHECK_EQ(length(path, "f"), 5001);
	CHECK_EQ(resident(path, "f"), is_direct(d) ? 0 : 8192);
	CHECK_OK(io_pwrite(f, "y", 1, 5000));
	CHECK_OK(io_pread(f, buf, 905, 4096));
	CHECK(!memcmp(buf, "he", 2) && !memcmp(buf + 2, zeros, 902) && buf[904] == 'y');
	io_close(f);
	CHECK_EQ(length(path, "f"), 5001);
	CHECK_OK(io_open(d, "f", 0, &f));
	CHECK_OK(io_allocate(f, 0, 1 << 20));
	CHECK_OK(io_pwrite(f, "z", 1, 6000));
	CHECK_OK(io_sync(f)); /* a cut would give back what is reserved */
	CHECK_OK(io_size(f, &n, &stored));
	CHECK(n == 6001 && stored >= 1 << 20);
	io_close(f);
	CHECK_EQ(length(path, "f"), 6001);
	CHECK_OK(io_open(d, "f", 0, &f));
	CHECK_OK(io_size(f, &n, &stored));
	CHECK(n == 6001 && stored >= 1 << 20);
	io_close(f);
	CHECK_OK(io_replace(d, "small", "small.tmp", "text", 4));
	CHECK_EQ(length(path, "small"), 4);
	io_dir_close(d);
	lease_pool_free(leases);
	free(zeros);
}

/* What a failed write has left behind the end is not there when the file grows. */
UNIT_TEST(io_direct_cuts_what_a_failed_write_left)
{
	struct lease_pool *leases = new_pool(1, 8192);
	unsigned char *buf = malloc(1 << 20);
	struct io_dir *d = file_dir(IO_BACKING_DIRECT, leases);
	struct rlimit old, limit;
	uint64_t n;
	struct io *f;

	memset(buf, 5, 1 << 20);
	CHECK_OK(io_open(d, "f", IO_CREATE, &f));
	CHECK_OK(io_pwrite(f, buf, 1000, 0));
	getrlimit(RLIMIT_FSIZE, &old);
	limit = (struct rlimit){ 300000, old.rlim_max };
	signal(SIGXFSZ, SIG_IGN);
	CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
	CHECK_EQ(io_pwrite(f, buf, 1 << 20, 1000), -EFBIG);
	CHECK_EQ(setrlimit(RLIMIT_FSIZE, &old), 0);
	CHECK_OK(io_size(f, &n, NULL));
	CHECK(n <= 300000);
	CHECK_OK(io_truncate(f, 1000));
	CHECK_OK(io_truncate(f, 1 << 20));
	CHECK_OK(io_pread(f, buf, (1 << 20) - 1000, 1000));
	CHECK(buf_is_zero(buf, (1 << 20) - 1000));
	io_close(f);
	io_dir_close(d);
	lease_pool_free(leases);
	free(buf);
}

/* Who does not wait goes buffered, and says why; who has to be direct waits. */
UNIT_TEST(io_lease_wait)
{
	unsigned char *buf = aligned_alloc(4096, 1 << 20), *back = malloc(1 << 20);
	struct lease_pool *leases = new_pool(1, 8192);
	uint64_t seed = 3, lent, waits = stats_read(STAT_LEASE_WAITS), direct;
	struct io_dir *d = auto_dir_without_uncached(leases);
	struct io *f;
	void *held;

	unit_rand_fill(&seed, buf, 1 << 20);
	CHECK_OK(io_open(d, "f", IO_CREATE, &f));
	for (int wait = IO_LEASE_WAIT_BUFFERED; wait >= 0 && is_direct(d); wait -= 2) {
		io_file_set_lease_wait(d, wait);
		lent = stats_read(STAT_LEASE_FALLBACKS_LENT);
		direct = moved(STATS_DIRECT);
		CHECK_OK(lease_pool_borrow(leases, &held));
		CHECK_OK(io_pwrite(f, buf + 2, (1 << 20) - 2, 1)); /* never from aligned memory, which needs no lease */
		CHECK_OK(io_pread(f, back, (1 << 20) - 2, 1));
		if (wait == IO_LEASE_WAIT_BUFFERED)
			CHECK_OK(io_pread_as(f, back, 10000, 1, IO_DIRECT));
		lease_pool_return(leases, held);
		CHECK_EQ(stats_read(STAT_LEASE_FALLBACKS_LENT), lent + (wait == IO_LEASE_WAIT_BUFFERED ? 3 : 2));
		CHECK_EQ(moved(STATS_DIRECT), direct);
		CHECK_OK(io_pread(f, back, (1 << 20) - 2, 1));
		CHECK(!memcmp(buf + 2, back, (1 << 20) - 2));
	}
	CHECK_EQ(stats_read(STAT_LEASE_WAITS), waits);
	io_close(f);
	io_dir_close(d);
	d = file_dir(IO_BACKING_BUFFERED, leases);
	CHECK_OK(io_open(d, "f", IO_CREATE, &f));
	lent = stats_read(STAT_LEASE_FALLBACKS_CONFIGURED);
	CHECK_OK(io_pwrite_as(f, buf, 10, 0, IO_DIRECT));
	CHECK_EQ(stats_read(STAT_LEASE_FALLBACKS_CONFIGURED), lent + 1);
	io_close(f);
	io_dir_close(d);
	lease_pool_free(leases);
	free(buf);
	free(back);
}

/* What is aligned needs no buffer. */
UNIT_TEST(io_aligned_write)
{
	unsigned char *buf = buf_alloc(1 << 20), *back = buf_alloc(1 << 20);
	struct lease_pool *leases = new_pool(1, 8192);
	struct io_dir *d = auto_dir_without_uncached(leases);
	uint64_t seed = 4, direct = moved(STATS_DIRECT), n;
	struct io *f;
	void *held;

	unit_rand_fill(&seed, buf, 1 << 20);
	CHECK_OK(io_open(d, "f", IO_CREATE, &f));
	CHECK_OK(lease_pool_borrow(leases, &held));
	CHECK_OK(io_pwrite(f, buf, 1 << 20, 8192));
	lease_pool_return(leases, held);
	CHECK_EQ(moved(STATS_DIRECT), direct + (is_direct(d) ? 1 << 20 : 0));
	CHECK_OK(io_size(f, &n, NULL));
	CHECK_EQ(n, (1 << 20) + 8192);
	CHECK_OK(io_pread(f, back, 1 << 20, 8192));
	CHECK(!memcmp(buf, back, 1 << 20));
	io_close(f);
	io_dir_close(d);
	lease_pool_free(leases);
	buf_free(buf, 1 << 20);
	buf_free(back, 1 << 20);
}

#define NEIGHBOURS 64
#define RECORD 100

struct neighbour {
	struct io *f;
	unsigned id;
};

/* Its records lie between those of all others, many in each block. */
static void *neighbour_thread(void *arg)
{
	struct neighbour *me = arg;
	unsigned char rec[RECORD], back[3 * RECORD];
	uint64_t seed = me->id + 1;

	for (unsigned i = 0; i < 40; i++) {
		uint64_t off = (uint64_t)(i * NEIGHBOURS + me->id) * RECORD;

		memset(rec, (int)(me->id + 1), RECORD);
		CHECK_OK(io_pwrite(me->f, rec, RECORD, off));
		CHECK_OK(io_pread(me->f, back, RECORD, off));
		CHECK(!memcmp(rec, back, RECORD));
		if (unit_rand(&seed) % 8 == 0 && i)
			CHECK_OK(io_pread(me->f, back, sizeof(back), off - NEIGHBOURS * RECORD));
	}
	return NULL;
}

UNIT_TEST(io_64_threads_on_one_lease) /* hangs if one waits for ever; fails if a write undoes another's */
{
	struct lease_pool *leases = new_pool(1, 8192);
	uint64_t waits = stats_read(STAT_LEASE_WAITS), ns = stats_read(STAT_LEASE_WAIT_NS), buffered = moved(STATS_BUFFERED);
	struct io_dir *d = file_dir(IO_BACKING_DIRECT, leases);
	struct neighbour n[NEIGHBOURS];
	pthread_t t[NEIGHBOURS];
	unsigned char rec[RECORD];
	struct io *f;

	CHECK_OK(io_open(d, "f", IO_CREATE, &f));
	for (unsigned i = 0; i < NEIGHBOURS; i++) {
		n[i] = (struct neighbour){ f, i };
		CHECK_EQ(pthread_create(&t[i], NULL, neighbour_thread, &n[i]), 0);
	}
	for (unsigned i = 0; i < NEIGHBOURS; i++)
		pthread_join(t[i], NULL);
	for (uint64_t i = 0; i < 40 * NEIGHBOURS; i++) {
		CHECK_OK(io_pread(f, rec, RECORD, i * RECORD));
		for (unsigned k = 0; k < RECORD; k++)
			CHECK_EQ(rec[k], i % NEIGHBOURS + 1);
	}
	if (is_direct(d)) {
		CHECK(stats_read(STAT_LEASE_WAITS) > waits);
		CHECK(stats_read(STAT_LEASE_WAIT_NS) > ns);
		CHECK_EQ(moved(STATS_BUFFERED), buffered);
	}
	CHECK_EQ(stats_read(STAT_LEASES_IN_USE), 0);
	io_close(f);
	io_dir_close(d);
	lease_pool_free(leases);
}

/* ---- descriptors ---- */

static int count_fds(void)
{
	DIR *s = opendir("/proc/self/fd");
	int n = 0;

	CHECK(s != NULL);
	while (readdir(s))
		n++;
	closedir(s);
	return n;
}

UNIT_TEST(io_fd_budget)
{
	enum { N = 200, BUDGET = 8 };
	const size_t big = 2 * IO_DIRECT_MIN;
	struct lease_pool *leases = new_pool(2, 64 << 10);
	struct io_dir *d = file_dir(IO_BACKING_AUTO, leases);
	unsigned char *buf = buf_alloc(big);
	struct io *f[N];
	int before, got;
	char name[16];

	memset(buf, 1, big);
	fd_set_budget((struct file_dir *)d, BUDGET);
	before = count_fds();
	for (int i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		CHECK_OK(io_open(d, name, IO_CREATE, &f[i]));
		CHECK_OK(io_pwrite(f[i], &i, sizeof(i), 0));
		if (i % 20 == 0) /* two descriptors each */
			CHECK_OK(io_pwrite(f[i], buf, big, 4096));
	}
	CHECK(count_fds() <= before + BUDGET);
	for (int i = 0; i < N; i++)
		CHECK_OK(io_sync(f[i])); /* through a reopened descriptor */
	for (int i = N; i-- > 0;) {
		CHECK_OK(io_pread(f[i], &got, sizeof(got), 0));
		CHECK_EQ(got, i);
	}
	CHECK(count_fds() <= before + BUDGET);
	fd_set_budget((struct file_dir *)d, 0);
	CHECK_EQ(count_fds(), before);
	for (int i = 0; i < N; i++)
		io_close(f[i]);
	io_dir_close(d);
	lease_pool_free(leases);
	buf_free(buf, big);
}

UNIT_TEST(io_unlinked_and_renamed_files_stay_usable)
{
	enum { N = 50 };
	struct lease_pool *leases = new_pool(2, 64 << 10);
	struct io_dir *d = file_dir(IO_BACKING_AUTO, leases);
	unsigned char *buf = buf_alloc(1 << 20);
	struct io *f[N], *other;
	char name[16], to[16];
	int got;

	memset(buf, 3, 1 << 20);
	fd_set_budget((struct file_dir *)d, 2);
	for (int i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		CHECK_OK(io_open(d, name, IO_CREATE, &f[i]));
		CHECK_OK(io_pwrite(f[i], &i, sizeof(i), 0));
	}
	for (int i = 0; i < N; i++) { /* most are closed by now */
		snprintf(name, sizeof(name), "f%d", i);
		snprintf(to, sizeof(to), "g%d", i);
		if (i % 2)
			CHECK_OK(io_unlink(d, name));
		else
			CHECK_OK(io_rename(d, name, to));
		CHECK_OK(io_open(d, name, IO_CREATE | IO_EXCL, &other)); /* another file of the name */
		got = -1;
		CHECK_OK(io_pwrite(other, &got, sizeof(got), 0));
		io_close(other);
	}
	for (int i = 0; i < N; i++) {
		CHECK_OK(io_pread(f[i], &got, sizeof(got), 0));
		CHECK_EQ(got, i);
		CHECK_OK(io_pwrite(f[i], buf, 1 << 20, 4096)); /* direct without a name, too */
		CHECK_OK(io_sync(f[i]));
	}
	for (int i = 0; i < N; i++)
		io_close(f[i]);
	io_dir_close(d);
	lease_pool_free(leases);
	buf_free(buf, 1 << 20);
}

UNIT_TEST(io_reopened_file_must_be_the_same)
{
	const char *path = unit_tmpdir();
	char name[400];
	struct io_dir *d;
	struct io *f;
	char c;

	CHECK_OK(io_file_dir(open(path, O_RDONLY | O_DIRECTORY), IO_BACKING_BUFFERED, NULL, &d));
	fd_set_budget((struct file_dir *)d, 0);
	CHECK_OK(io_open(d, "f", IO_CREATE, &f));
	CHECK_OK(io_pwrite(f, "a", 1, 0));
	snprintf(name, sizeof(name), "%s/f", path);
	CHECK_EQ(unlink(name), 0); /* behind our back */
	CHECK_EQ(io_pread(f, &c, 1, 0), -ENOENT);
	CHECK_EQ(close(open(name, O_CREAT | O_RDWR, 0600)), 0);
	CHECK(io_pread(f, &c, 1, 0) != 0); /* another file; -ESTALE unless it got the same inode number */
	io_close(f);
	io_dir_close(d);
}

struct churn {
	struct io_dir *d;
	struct io **files;
	unsigned nfiles, id;
};

static void *churn_thread(void *arg)
{
	struct churn *c = arg;
	uint64_t seed = c->id + 1;
	struct io *own;
	char name[32];

	for (int i = 0; i < 300; i++) {
		unsigned k = unit_rand(&seed) % c->nfiles;
		uint64_t v = k, off = 8 * (1 + unit_rand(&seed) % 1000);

		CHECK_OK(io_pwrite(c->files[k], &v, 8, off));
		v = ~0ull;
		CHECK_OK(io_pread(c->files[k], &v, 8, off));
		CHECK_EQ(v, k);
		if (i % 32 == 0) {
			snprintf(name, sizeof(name), "own%u", c->id);
			CHECK_OK(io_open(c->d, name, IO_CREATE, &own));
			CHECK_OK(io_pwrite(own, &v, 8, 0));
			CHECK_OK(io_rename(c->d, name, "shared"));
			CHECK_OK(io_pread(own, &v, 8, 0));
			CHECK_EQ(v, k);
			io_close(own);
			CHECK_OK(io_sync(c->files[k]));
		}
	}
	return NULL;
}

static void many_threads(enum io_backing backing)
{
	enum { FILES = 24, THREADS = 8 };
	struct lease_pool *leases = new_pool(2, 16384);
	struct churn c[THREADS];
	struct io *files[FILES];
	pthread_t t[THREADS];
	struct io_dir *d = file_dir(backing, leases);
	char name[16];

	fd_set_budget((struct file_dir *)d, 3);
	for (int i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		CHECK_OK(io_open(d, name, IO_CREATE, &files[i]));
	}
	for (int i = 0; i < THREADS; i++) {
		c[i] = (struct churn){ d, files, FILES, i };
		CHECK_EQ(pthread_create(&t[i], NULL, churn_thread, &c[i]), 0);
	}
	for (int i = 0; i < FILES; i++) { /* names change meanwhile */
		snprintf(name, sizeof(name), "f%d", i);
		if (i % 3 == 0)
			CHECK_OK(io_unlink(d, name));
		else
			CHECK_OK(io_rename(d, name, "moved"));
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	for (int i = 0; i < FILES; i++)
		io_close(files[i]);
	io_dir_close(d);
	lease_pool_free(leases);
}

UNIT_TEST(io_file_many_threads)
{
	many_threads(IO_BACKING_AUTO);
	many_threads(IO_BACKING_DIRECT);
}

UNIT_TEST(io_mem_sparse)
{
	struct io_dir *d;
	struct io *f;
	uint64_t size, stored, pos;
	char c = 1;

	CHECK_OK(io_mem_dir(&d));
	CHECK_OK(io_open(d, "f", IO_CREATE, &f));
	CHECK_OK(io_pwrite(f, &c, 1, 1ull << 38));
	CHECK_OK(io_size(f, &size, &stored));
	CHECK_EQ(size, (1ull << 38) + 1);
	CHECK_EQ(stored, 4096);
	CHECK_OK(io_seek(f, 5, false, &pos));
	CHECK_EQ(pos, 1ull << 38);
	CHECK_EQ(io_seek(f, size, true, &pos), -ENXIO);
	CHECK_OK(io_punch(f, 0, ~0ull));
	CHECK_OK(io_size(f, &size, &stored));
	CHECK_EQ(stored, 0);
	io_close(f);
	io_dir_close(d);
}
