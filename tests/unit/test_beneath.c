/*
 * io/beneath, through io/file: a directory made by an enemy has other things in place of files and directories.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include "io/io.h"
#include "unit.h"
#include "util/err.h"

#define SECRET "the secret of somebody else"

/* openat2 answers so in this process: on an old kernel, or in a container whose filter does not know it. */
static void refuse_openat2(int err)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)err),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog prog = { .len = sizeof(code) / sizeof(*code), .filter = code };

	CHECK(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	CHECK(!prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog));
}

static void put(int dir, const char *path, const char *text)
{
	int fd = openat(dir, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	CHECK(fd >= 0);
	CHECK_EQ(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void check_text(int dir, const char *path, const char *text)
{
	char got[64] = "";
	int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);

	CHECK(fd >= 0);
	CHECK(read(fd, got, sizeof(got) - 1) >= 0);
	close(fd);
	CHECK(!strcmp(got, text));
}

static void put_socket(int dir, const char *path)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	CHECK(fd >= 0 && here >= 0 && !fchdir(dir));
	strcpy(name.sun_path, path);
	CHECK(!bind(fd, (struct sockaddr *)&name, sizeof(name)));
	CHECK(!fchdir(here));
	close(here);
	close(fd);
}

/* out/ is somebody else's; store/ has: */
static void make(int top)
{
	CHECK(!mkdirat(top, "out", 0700) && !mkdirat(top, "store", 0700) && !mkdirat(top, "store/dir", 0700) && !mkdirat(top, "store/real", 0700));
	put(top, "out/secret", SECRET);
	put(top, "store/file", "inside");
	put(top, "store/real/file", "inside");
	CHECK(!symlinkat("../out/secret", top, "store/link-out"));
	CHECK(!symlinkat("/etc/passwd", top, "store/link-absolute"));
	CHECK(!symlinkat("../out/new", top, "store/link-dangling"));
	CHECK(!symlinkat("file", top, "store/link-in"));
	CHECK(!symlinkat("../out", top, "store/dir-out"));
	CHECK(!symlinkat("real", top, "store/dir-in"));
	CHECK(!mkfifoat(top, "store/fifo", 0600));
	put_socket(top, "store/socket");
	if (geteuid() == 0)
		CHECK(!mknodat(top, "store/device", S_IFCHR | 0600, makedev(1, 5)));
	CHECK(!linkat(top, "out/secret", top, "store/hard", 0));
}

static void check_refused(struct io_dir *d, const char *name, const char *says)
{
	static const unsigned ways[] = { IO_RDONLY, 0, IO_CREATE, IO_CREATE | IO_PINNED };
	struct io *f;

	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		int err = io_open(d, name, ways[i], &f);

		CHECK_EQ(err, -EUCLEAN);
		CHECK(strstr(err_text(err), says));
	}
	CHECK(io_open(d, name, IO_CREATE | IO_EXCL, &f) < 0);
}

static int no_entry(void *ctx, const char *name)
{
	(void)ctx, (void)name;
	return -EINTR;
}

static void check_directory(struct io_dir *d, const char *name, const char *says)
{
	char path[64];
	struct io *f;

	CHECK_EQ(io_list(d, name, no_entry, NULL), -EUCLEAN);
	CHECK(strstr(err_text(-EUCLEAN), says));
	CHECK_EQ(io_dir_sync(d, name), -EUCLEAN);
	CHECK_EQ(io_mkdir(d, name), -EUCLEAN);
	snprintf(path, sizeof(path), "%s/secret", name);
	check_refused(d, path, says);
	CHECK_EQ(io_unlink(d, path), -EUCLEAN);
	CHECK_EQ(io_rename(d, path, "stolen"), -EUCLEAN);
	CHECK_EQ(io_rename(d, "file", path), -EUCLEAN);
	snprintf(path, sizeof(path), "%s/new", name);
	check_refused(d, path, says);
	CHECK_EQ(io_mkdir(d, path), -EUCLEAN);
	CHECK_EQ(io_open(d, path, IO_CREATE | IO_EXCL, &f), -EUCLEAN);
}

static void check_hard_link(struct io_dir *d)
{
	struct io *f;

	CHECK_EQ(io_open(d, "hard", 0, &f), -EUCLEAN);
	CHECK(strstr(err_text(-EUCLEAN), "hard: it has 2 names"));
	CHECK_OK(io_open(d, "hard", IO_RDONLY, &f)); /* a copy by cp -l can be followed and checked */
	io_close(f);
}

static void run(void)
{
	int top = unit_tmpdir_fd(), fd;
	struct io_dir *d;
	struct stat st;
	struct io *f;

	alarm(60);
	make(top);
	fd = openat(top, "store", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(fd >= 0);
	CHECK_OK(io_file_dir(fd, IO_BACKING_BUFFERED, NULL, &d));
	check_refused(d, "link-out", "link-out: it is a symbolic link, not a regular file");
	check_refused(d, "link-absolute", "symbolic link");
	check_refused(d, "link-dangling", "symbolic link");
	check_refused(d, "link-in", "symbolic link");
	check_refused(d, "fifo", "fifo: it is a FIFO");
	check_refused(d, "socket", "socket: it is a socket");
	check_refused(d, "dir", "dir: it is a directory");
	if (geteuid() == 0)
		check_refused(d, "device", "device: it is a character device");
	check_directory(d, "dir-out", "dir-out: it is a symbolic link, not a directory");
	check_directory(d, "dir-in", "dir-in: it is a symbolic link, not a directory");
	check_directory(d, "fifo", "fifo: it is a FIFO, not a directory");
	check_hard_link(d);
	CHECK_EQ(io_open(d, "../out/secret", IO_RDONLY, &f), -EXDEV);
	CHECK_EQ(io_open(d, "real/../../out/secret", IO_RDONLY, &f), -EXDEV);
	CHECK_OK(io_open(d, "real/file", 0, &f));
	CHECK_OK(io_pwrite(f, "INSIDE", 6, 0));
	io_close(f);
	CHECK_OK(io_rename(d, "real/file", "link-out")); /* a name is replaced, whatever it was */
	CHECK_OK(io_unlink(d, "link-in"));
	io_dir_close(d);
	check_text(top, "store/link-out", "INSIDE");
	check_text(top, "store/file", "inside");
	check_text(top, "out/secret", SECRET);
	CHECK(fstatat(top, "out/new", &st, 0) < 0 && errno == ENOENT);
	close(top);
}

UNIT_TEST(beneath_opens_nothing_else)
{
	run();
}

UNIT_TEST(beneath_without_openat2)
{
	refuse_openat2(ENOSYS);
	run();
}

UNIT_TEST(beneath_with_openat2_refused)
{
	refuse_openat2(EPERM);
	run();
}

/* A file that becomes something else while its descriptor is closed. */
UNIT_TEST(beneath_reopens_the_same_file_alone)
{
	int top = unit_tmpdir_fd(), fd = openat(top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct rlimit files = { 16, 16 };
	struct io *f, *g[64];
	struct io_dir *d;
	char c, name[12];

	if (unit_in_valgrind())
		return;
	put(top, "secret", SECRET);
	CHECK(!setrlimit(RLIMIT_NOFILE, &files));
	CHECK_OK(io_file_dir(fd, IO_BACKING_BUFFERED, NULL, &d));
	CHECK_OK(io_open(d, "file", IO_CREATE, &f));
	CHECK_OK(io_pwrite(f, "x", 1, 0));
	CHECK_OK(io_sync(f)); /* dirty ones are closed last */
	for (int i = 0; i < 64; i++) {
		snprintf(name, sizeof(name), "%d", i);
		CHECK_OK(io_open(d, name, IO_CREATE, &g[i]));
	}
	CHECK(!symlinkat("secret", top, "link") && !renameat(top, "link", top, "file"));
	CHECK_EQ(io_pread(f, &c, 1, 0), -ESTALE);
	io_close(f);
	for (int i = 0; i < 64; i++)
		io_close(g[i]);
	io_dir_close(d);
	check_text(top, "secret", SECRET);
	close(top);
}
