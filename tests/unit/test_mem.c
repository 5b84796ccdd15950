/*
 * io/mem as a disk: what it keeps when it is opened again, or has lost its power; its size; and io_lock, there and in a real
 * directory.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io/filefd.h"
#include "io/io.h"
#include "unit.h"

#define PAGE 4096u

static struct io_dir *new_disk(void)
{
	struct io_dir *d;

	CHECK_OK(io_mem_dir(&d));
	return d;
}

static struct io *open_file(struct io_dir *d, const char *name)
{
	struct io *f;

	CHECK_OK(io_open(d, name, IO_CREATE, &f));
	return f;
}

/* n bytes of c at off. */
static void put(struct io *f, char c, size_t n, uint64_t off)
{
	char *p = malloc(n);

	memset(p, c, n);
	CHECK_OK(io_pwrite(f, p, n, off));
	free(p);
}

/* The first character of each page: "" when there is no such file. */
static const char *pages_text(struct io_dir *d, const char *name)
{
	static char text[64];
	uint64_t size;
	struct io *f;
	size_t n = 0, got;

	text[0] = '\0';
	if (io_open(d, name, IO_RDONLY, &f))
		return text;
	CHECK_OK(io_size(f, &size, NULL));
	for (; n * PAGE < size; n++) {
		CHECK_OK(io_pread_some(f, text + n, 1, n * PAGE, &got));
		if (!text[n])
			text[n] = '.';
	}
	text[n] = '\0';
	io_close(f);
	return text;
}

static bool reads(struct io_dir *d, const char *name, const char *want)
{
	return !strcmp(pages_text(d, name), want);
}

UNIT_TEST(mem_disk_outlives_its_directories)
{
	struct io_dir *a = new_disk(), *b;
	struct io *f;

	CHECK_OK(io_mem_again(a, &b));
	f = open_file(b, "f");
	put(f, 'x', PAGE, 0);
	io_close(f);
	io_dir_close(b);
	CHECK(reads(a, "f", "x"));
	CHECK_OK(io_mem_again(a, &b));
	io_dir_close(a);
	CHECK(reads(b, "f", "x"));
	io_dir_close(b);
}

UNIT_TEST(mem_power_cut_leaves_what_was_synced)
{
	struct io_dir *d = new_disk(), *old;
	struct io *f, *g;
	char c;

	CHECK_OK(io_mem_again(d, &old));
	f = open_file(old, "f");
	put(f, 'a', 4 * PAGE, 0);
	CHECK_OK(io_sync(f));
	CHECK_OK(io_dir_sync(old, "."));
	put(f, 'b', PAGE, PAGE);         /* over synced bytes */
	put(f, 'c', PAGE, 4 * PAGE);     /* behind the end */
	CHECK_OK(io_punch(f, 0, PAGE));
	g = open_file(old, "g");         /* a name that is not synced */
	put(g, 'g', PAGE, 0);
	CHECK_OK(io_sync(g));
	CHECK(reads(d, "f", ".baac"));
	CHECK_OK(io_mem_cut_power(d, 0));
	CHECK(reads(d, "f", "aaaa"));
	CHECK(reads(d, "g", ""));
	CHECK_EQ(io_pread(f, &c, 1, 0), -EIO);
	CHECK_EQ(io_pwrite(f, "x", 1, 0), -EIO);
	CHECK_EQ(io_sync(f), -EIO);
	CHECK_EQ(io_unlink(old, "f"), -EIO);
	CHECK_EQ(io_dir_sync(old, "."), -EIO);
	CHECK_EQ(io_open(old, "f", 0, &g), -EIO);
	io_close(f);
	io_close(g);
	io_dir_close(old);
	CHECK(reads(d, "f", "aaaa"));
	io_dir_close(d);
}

UNIT_TEST(mem_power_cut_takes_names_back)
{
	struct io_dir *d = new_disk();
	struct io *f;

	CHECK_OK(io_mkdir(d, "kept"));
	CHECK_OK(io_dir_sync(d, "."));
	f = open_file(d, "kept/f");
	put(f, 'f', PAGE, 0);
	CHECK_OK(io_sync(f));
	io_close(f);
	CHECK_OK(io_dir_sync(d, "kept"));
	CHECK_OK(io_rename(d, "kept/f", "kept/g"));
	CHECK_OK(io_mkdir(d, "lost"));
	io_close(open_file(d, "lost/h"));
	CHECK_OK(io_dir_sync(d, "lost")); /* its own name is not on the disk */
	CHECK_OK(io_mem_cut_power(d, 0));
	CHECK(reads(d, "kept/f", "f") && reads(d, "kept/g", ""));
	CHECK_EQ(io_dir_sync(d, "lost"), -ENOENT);
	CHECK_EQ(io_open(d, "lost/h", 0, &f), -ENOENT);
	CHECK_OK(io_rename(d, "kept/f", "kept/g"));
	CHECK_OK(io_dir_sync(d, "kept"));
	CHECK_OK(io_unlink(d, "kept/g"));
	CHECK_OK(io_mem_cut_power(d, 0));
	CHECK(reads(d, "kept/g", "f"));
	io_dir_close(d);
}

UNIT_TEST(mem_power_cut_takes_cuts_back)
{
	struct io_dir *d = new_disk();
	struct io *f = open_file(d, "f");

	put(f, 'a', 3 * PAGE, 0);
	CHECK_OK(io_sync(f));
	CHECK_OK(io_dir_sync(d, "."));
	CHECK_OK(io_truncate(f, PAGE));
	put(f, 'b', PAGE, 0);
	CHECK_OK(io_truncate(f, 0));
	io_close(f);
	CHECK_OK(io_mem_cut_power(d, 0));
	CHECK(reads(d, "f", "aaa"));
	io_dir_close(d);
}

/* Each page is as it was or as it is, and all ways are met; the same seed has the same outcome. */
UNIT_TEST(mem_power_cut_by_chance)
{
	unsigned old = 0, fresh = 0, longer = 0, shorter = 0;

	for (uint64_t seed = 1; seed <= 40; seed++) {
		char first[8] = "";

		for (int again = 0; again < 2; again++) {
			struct io_dir *d = new_disk();
			struct io *f = open_file(d, "f");
			const char *text;

			put(f, 'a', 3 * PAGE, 0);
			CHECK_OK(io_sync(f));
			CHECK_OK(io_dir_sync(d, "."));
			put(f, 'b', 4 * PAGE, 0);
			io_close(f);
			CHECK_OK(io_mem_cut_power(d, seed));
			text = pages_text(d, "f");
			CHECK(strlen(text) == 3 || strlen(text) == 4);
			CHECK(strspn(text, "ab") >= 3 && (!text[3] || text[3] == 'b' || text[3] == '.'));
			CHECK(!again || !strcmp(text, first));
			strcpy(first, text);
			old += text[0] == 'a';
			fresh += text[0] == 'b';
			shorter += !text[3];
			longer += text[3] == 'b';
			io_dir_close(d);
		}
	}
	CHECK(old && fresh && shorter && longer);
}

static uint64_t left_of(struct io_dir *d)
{
	uint64_t total, avail;

	CHECK_OK(io_space(d, &total, &avail));
	CHECK(avail % PAGE == 0 && avail <= total);
	return avail / PAGE;
}

UNIT_TEST(mem_disk_fills_up)
{
	struct io_dir *d = new_disk();
	struct io *f = open_file(d, "f"), *g = open_file(d, "g");
	char page[PAGE] = { 1 };
	uint64_t from, to;

	io_mem_set_space(d, 8 * PAGE);
	put(f, 'a', 3 * PAGE, 0);
	CHECK_EQ(left_of(d), 5);
	CHECK_EQ(io_allocate(g, 0, 6 * PAGE), -ENOSPC);
	CHECK_EQ(left_of(d), 5);
	CHECK(!io_is_allocated(g, 0, PAGE));
	CHECK_OK(io_allocate(g, 0, 4 * PAGE));
	CHECK_EQ(left_of(d), 1);
	CHECK(io_is_allocated(g, 0, 4 * PAGE) && !io_is_allocated(g, 0, 5 * PAGE));
	CHECK_EQ(io_allocated(g, 0, 64 * PAGE), 4 * PAGE);
	CHECK_EQ(io_pwrite(f, page, PAGE, 3 * PAGE), 0);
	CHECK_EQ(io_pwrite(f, page, PAGE, 4 * PAGE), -ENOSPC);
	put(g, 'b', 4 * PAGE, 0); /* has its place */
	CHECK_OK(io_sync(f));
	put(f, 'c', 4 * PAGE, 0); /* in place, also over what is synced */
	CHECK_EQ(left_of(d), 0);
	CHECK_OK(io_punch(g, PAGE, PAGE));
	CHECK_EQ(io_allocated(g, 5, 3 * PAGE - 12), 2 * PAGE - 12);
	CHECK(io_find_allocated(g, PAGE + 7, 64 * PAGE, &from, &to));
	CHECK_EQ(from, 2 * PAGE);
	CHECK_EQ(to, 4 * PAGE);
	CHECK(!io_find_allocated(g, 4 * PAGE, 64 * PAGE, &from, &to));
	CHECK_EQ(left_of(d), 1);
	CHECK_OK(io_truncate(g, PAGE));
	CHECK_EQ(left_of(d), 3);
	CHECK_OK(io_dir_sync(d, "."));
	CHECK_OK(io_unlink(d, "f"));
	CHECK_EQ(left_of(d), 3); /* it is open */
	io_close(f);
	CHECK_EQ(left_of(d), 7); /* though its name would come back */
	io_close(g);
	CHECK_OK(io_mem_cut_power(d, 0));
	CHECK_EQ(left_of(d), 4);
	CHECK(reads(d, "f", "aaa\1"));
	io_dir_close(d);
}

/* What is reserved behind the end outlasts a loss of power once it is synced, be it written to since. */
UNIT_TEST(mem_power_cut_leaves_what_is_reserved)
{
	for (uint64_t seed = 0; seed < 20; seed++) {
		struct io_dir *d = new_disk();
		struct io *f = open_file(d, "f");

		put(f, 'a', 100, 0);
		CHECK_OK(io_allocate(f, 4 * PAGE, 2 * PAGE));
		CHECK_OK(io_sync(f));
		CHECK_OK(io_dir_sync(d, "."));
		CHECK_OK(io_allocate(f, 8 * PAGE, PAGE));
		put(f, 'b', 100, 5 * PAGE);
		io_close(f);
		CHECK_OK(io_mem_cut_power(d, seed));
		f = open_file(d, "f");
		CHECK_EQ(io_allocated(f, 4 * PAGE, 2 * PAGE), 2 * PAGE);
		CHECK(seed || !io_allocated(f, 6 * PAGE, 4 * PAGE));
		io_close(f);
		io_dir_close(d);
	}
}

/* Reserved pages read as a hole, and behind the end a truncation to the same size gives them back. */
UNIT_TEST(mem_allocated_pages_are_no_data)
{
	struct io_dir *d = new_disk();
	struct io *f = open_file(d, "f");
	uint64_t size, stored, at;

	put(f, 'a', 100, 0);
	CHECK_OK(io_allocate(f, 0, 4 * PAGE));
	CHECK_OK(io_size(f, &size, &stored));
	CHECK_EQ(size, 100);
	CHECK_EQ(stored, 4 * PAGE);
	CHECK_OK(io_truncate(f, 2 * PAGE));
	CHECK_OK(io_seek(f, 0, true, &at));
	CHECK_EQ(at, PAGE);
	CHECK_EQ(io_seek(f, PAGE, false, &at), -ENXIO);
	CHECK(reads(d, "f", "a."));
	CHECK_OK(io_truncate(f, 2 * PAGE));
	CHECK_OK(io_size(f, &size, &stored));
	CHECK_EQ(stored, 2 * PAGE);
	io_close(f);
	io_dir_close(d);
}

static void lock_script(struct io_dir *d, bool apart)
{
	struct io *f, *g;

	CHECK_OK(io_open(d, "f", IO_CREATE | IO_PINNED, &f));
	CHECK_OK(io_open(d, "f", IO_PINNED, &g));
	CHECK_OK(io_lock(f, 0, 0));
	CHECK_OK(io_lock(f, 0, 0));
	CHECK_EQ(io_lock(g, 0, 0), -EWOULDBLOCK);
	if (apart) {
		CHECK_OK(io_lock(g, 1 << 20, 10));
		CHECK_EQ(io_lock(f, (1 << 20) + 9, 1), -EWOULDBLOCK);
		CHECK_OK(io_lock(f, (1 << 20) + 10, 1));
	}
	io_close(f);
	CHECK_OK(io_lock(g, 0, 0));
	io_close(g);
	CHECK_OK(io_open(d, "f", IO_PINNED, &g));
	CHECK_OK(io_lock(g, 0, 0));
	io_close(g);
	io_dir_close(d);
}

UNIT_TEST(io_locks_keep_others_away)
{
	struct io_dir *d, *inner;

	CHECK_OK(io_file_dir(unit_tmpdir_fd(), IO_BACKING_BUFFERED, NULL, &d));
	fd_set_budget((struct file_dir *)d, 0);
	lock_script(d, true);
	lock_script(new_disk(), false);
	inner = new_disk();
	CHECK_OK(io_fault_dir(inner, &d));
	lock_script(d, false);
}

/* The holder is gone with its power. */
UNIT_TEST(mem_power_cut_takes_locks)
{
	struct io_dir *d = new_disk();
	struct io *f, *g;

	CHECK_OK(io_open(d, "f", IO_CREATE | IO_PINNED, &f));
	CHECK_OK(io_dir_sync(d, "."));
	CHECK_OK(io_lock(f, 0, 0));
	CHECK_OK(io_mem_cut_power(d, 0));
	CHECK_OK(io_open(d, "f", IO_PINNED, &g));
	CHECK_OK(io_lock(g, 0, 0));
	CHECK_EQ(io_lock(f, 0, 0), -EIO);
	io_close(f);
	CHECK_OK(io_open(d, "f", IO_PINNED, &f));
	CHECK_EQ(io_lock(f, 0, 0), -EWOULDBLOCK);
	io_close(f);
	io_close(g);
	io_dir_close(d);
}
