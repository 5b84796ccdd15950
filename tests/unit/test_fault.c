/*
 * io/fault: failures and kills at the n-th change.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/io.h"
#include "unit.h"

UNIT_TEST(io_fault_fails_for_a_while)
{
	struct io_dir *inner, *d;
	struct io *f, *g;

	CHECK_OK(io_mem_dir(&inner));
	CHECK_OK(io_fault_dir(inner, &d));
	CHECK_OK(io_open(d, "f", IO_CREATE, &f));
	io_fault_fail_at(d, 2, 3, -EMFILE, NULL);
	CHECK_OK(io_pwrite(f, "x", 1, 0));
	CHECK_EQ(io_pwrite(f, "x", 1, 0), -EMFILE);
	CHECK_EQ(io_open(d, "g", IO_CREATE, &g), -EMFILE); /* counted, too */
	CHECK_EQ(io_allocate(f, 0, 4096), -EMFILE);
	CHECK_OK(io_sync(f));
	CHECK_OK(io_open(d, "g", IO_CREATE, &g));
	CHECK_EQ(io_fault_count(d), 6);
	io_close(g);
	io_close(f);
	io_dir_close(d);
}

UNIT_TEST(io_fault_counts_and_fails)
{
	struct io_dir *inner, *d;
	struct io *f, *g;
	char buf[8] = { 0 };
	uint64_t size;

	CHECK_OK(io_mem_dir(&inner));
	CHECK_OK(io_fault_dir(inner, &d));
	CHECK_OK(io_open(d, "f", IO_CREATE, &f));
	CHECK_OK(io_pwrite(f, "abcd", 4, 0));
	CHECK_OK(io_sync(f));
	CHECK_OK(io_truncate(f, 3));
	CHECK_OK(io_punch(f, 0, 1));
	CHECK_OK(io_rename(d, "f", "g"));
	CHECK_OK(io_dir_sync(d, "."));
	CHECK_OK(io_pread(f, buf, 3, 0));
	CHECK_OK(io_allocate(f, 0, 4096));
	CHECK_EQ(io_fault_count(d), 6);

	for (uint64_t n = 1; n <= 4; n++) {
		uint64_t ok = 0;

		io_fault_arm(d, n, -ENOSPC, false);
		for (int i = 0; i < 8; i++) {
			int err = io_pwrite(f, "x", 1, i);

			CHECK(err == 0 || err == -ENOSPC);
			CHECK_EQ(err == 0, ok == (uint64_t)i && ok < n - 1);
			ok += err == 0;
		}
		CHECK_EQ(ok, n - 1);
		CHECK_EQ(io_fault_count(d), 8);
	}
	CHECK_EQ(io_sync(f), -ENOSPC);
	CHECK_EQ(io_rename(d, "g", "h"), -ENOSPC);
	CHECK_EQ(io_unlink(d, "g"), -ENOSPC);
	CHECK_EQ(io_dir_sync(d, "."), -ENOSPC);
	CHECK_EQ(io_mkdir(d, "dir"), -ENOSPC);
	CHECK_EQ(io_open(d, "new", IO_CREATE, &g), -ENOSPC);
	CHECK_EQ(io_open(d, "new", 0, &g), -ENOENT);
	CHECK_OK(io_open(d, "g", IO_CREATE, &g)); /* it is there: nothing changes */
	CHECK_OK(io_pread(g, buf, 1, 0));
	io_close(g);
	io_fault_arm(d, 0, 0, false);
	CHECK_OK(io_truncate(f, 0));
	CHECK_OK(io_size(f, &size, NULL));
	CHECK_EQ(size, 0);
	io_close(f);
	io_dir_close(d);
}

UNIT_TEST(io_fault_torn_write)
{
	struct io_dir *inner, *d;
	char buf[8] = { 0 };
	struct io *f;

	CHECK_OK(io_mem_dir(&inner));
	CHECK_OK(io_fault_dir(inner, &d));
	CHECK_OK(io_open(d, "f", IO_CREATE, &f));
	io_fault_arm(d, 2, -EIO, true);
	CHECK_OK(io_pwrite(f, "aaaaaaaa", 8, 0));
	CHECK_EQ(io_pwrite(f, "bbbbbbbb", 8, 0), -EIO); /* torn */
	CHECK_EQ(io_pwrite(f, "cccccccc", 8, 0), -EIO); /* not at all */
	CHECK_OK(io_pread(f, buf, 8, 0));
	CHECK(memcmp(buf, "bbbbaaaa", 8) == 0);
	io_close(f);
	io_dir_close(d);
}

/* The counted ones of kill_changes; the n-th of these kills. */
#define KILL_CHANGES 11

static void kill_changes(struct io_dir *d)
{
	struct io *f, *g;

	CHECK_OK(io_open(d, "f", IO_CREATE, &f));
	CHECK_OK(io_pwrite(f, "aaaaaaaa", 8, 0));
	CHECK_OK(io_sync(f));
	CHECK_OK(io_mkdir(d, "dir"));
	CHECK_OK(io_pwrite(f, "bbbbbbbb", 8, 0));
	CHECK_OK(io_truncate(f, 6));
	(void)io_allocate(f, 0, 4096);
	(void)io_punch(f, 0, 1);
	CHECK_OK(io_rename(d, "f", "g"));
	CHECK_OK(io_open(d, "g", 0, &g)); /* makes nothing: not counted */
	io_close(g);
	CHECK_OK(io_dir_sync(d, "."));
	CHECK_OK(io_unlink(d, "g"));
	io_close(f);
}

static struct io_dir *killing_dir(int dirfd, uint64_t n, bool torn, const char *armed_by)
{
	struct io_dir *inner, *d;

	CHECK_OK(io_file_dir(dup(dirfd), IO_BACKING_BUFFERED, NULL, &inner));
	CHECK_OK(io_fault_dir(inner, &d));
	CHECK(io_fault_inner(d) == inner && io_fault_inner(inner) == inner);
	io_fault_kill_at(d, n, torn, armed_by);
	return d;
}

/* The signal that ended a child, or -1 - its exit code. */
static int fate_of_child(int dirfd, uint64_t n, bool torn, const char *armed_by)
{
	int status = 0;
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		struct io_dir *d = killing_dir(dirfd, n, torn, armed_by);
		uint64_t count;

		kill_changes(d);
		count = io_fault_count(d);
		io_dir_close(d);
		_exit(count == (armed_by && access(armed_by, F_OK) ? 0 : KILL_CHANGES) ? 0 : 1);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : -1 - WEXITSTATUS(status);
}

/* What a child that died in kill_changes left in "f" or "g", if there is one; removes it all. */
static void left_of(int dirfd, char text[16])
{
	int fd = openat(dirfd, "f", O_RDONLY);

	if (fd < 0)
		fd = openat(dirfd, "g", O_RDONLY);
	memset(text, 0, 16);
	if (fd >= 0)
		CHECK(read(fd, text, 15) >= 0);
	if (fd >= 0)
		close(fd);
	unlinkat(dirfd, "f", 0);
	unlinkat(dirfd, "g", 0);
	unlinkat(dirfd, "dir", AT_REMOVEDIR);
}

UNIT_TEST(io_fault_kills_at_each_change)
{
	static const char *const want[2][9] = {
		{ "", "", "", "aaaaaaaa", "aaaaaaaa", "aaaaaaaa", "bbbbbbbb", "bbbbbb", "bbbbbb" },
		{ "", "", "aaaa", "aaaaaaaa", "aaaaaaaa", "bbbbaaaa", "bbbbbbbb", "bbbbbb", "bbbbbb" },
	};
	int dirfd = unit_tmpdir_fd();
	char text[16];

	for (int torn = 0; torn <= 1; torn++) {
		for (unsigned n = 1; n <= KILL_CHANGES; n++) {
			CHECK_EQ(fate_of_child(dirfd, n, torn, NULL), SIGKILL);
			left_of(dirfd, text);
			if (n <= 8)
				CHECK(strcmp(text, want[torn][n]) == 0);
			else /* the first byte was punched */
				CHECK(strcmp(text + 1, "bbbbb") == 0);
		}
	}
	CHECK_EQ(fate_of_child(dirfd, KILL_CHANGES + 1, false, NULL), -1);
	CHECK_EQ(fate_of_child(dirfd, 0, false, NULL), -1);
	close(dirfd);
}

UNIT_TEST(io_fault_counts_when_armed)
{
	int dirfd = unit_tmpdir_fd();
	char path[512], text[16];

	snprintf(path, sizeof(path), "%s/arm", unit_tmpdir());
	CHECK_EQ(fate_of_child(dirfd, 1, false, path), -1); /* nobody has armed it */
	close(open(path, O_CREAT | O_WRONLY, 0600));
	CHECK_EQ(fate_of_child(dirfd, 2, false, path), SIGKILL);
	left_of(dirfd, text);
	CHECK(strcmp(text, "") == 0);
	close(dirfd);
}

UNIT_TEST(io_fault_keeps_the_backing)
{
	int dirfd = unit_tmpdir_fd();
	struct io_dir *d = killing_dir(dirfd, 0, false, NULL);
	const char *why;
	struct io *f;
	char c = 0;

	CHECK(strcmp(io_file_backing(d, &why), "buffered") == 0);
	CHECK(strcmp(why, "as configured") == 0);
	CHECK_OK(io_open(d, "f", IO_CREATE, &f));
	CHECK_OK(io_pwrite(f, "x", 1, 0));
	CHECK_OK(io_pread(f, &c, 1, 0));
	CHECK_EQ(c, 'x');
	io_close(f);
	CHECK_EQ(io_fault_count(d), 2);
	io_dir_close(d);
	close(dirfd);
}
