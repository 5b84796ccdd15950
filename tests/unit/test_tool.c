/*
 * tool/: what spillctl prints, from the text and the answers of a daemon.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "block/summary.h"
#include "tool/blocks.h"
#include "tool/changes.h"
#include "tool/progress.h"
#include "tool/text.h"
#include "unit.h"

static void check_text(const char *file, int line, const char *is, const char *should)
{
	if (strcmp(is, should))
		unit_fail(file, line, "is:\n%s\nshould be:\n%s", is, should);
}
#define CHECK_TEXT(is, should) check_text(__FILE__, __LINE__, is, should)

/* ---- text ---- */

UNIT_TEST(tool_sizes)
{
	CHECK_TEXT(text_size(0).s, "0 B");
	CHECK_TEXT(text_size(1023).s, "1023 B");
	CHECK_TEXT(text_size(1024).s, "1.0 KiB");
	CHECK_TEXT(text_size((1u << 20) - 1).s, "1.0 MiB");
	CHECK_TEXT(text_size(1258291).s, "1.2 MiB");
	CHECK_TEXT(text_size(UINT64_MAX).s, "16384.0 PiB");
}

/* Invariant 1 of text.c. */
UNIT_TEST(tool_names)
{
	char plain[] = "a%20b%2Cc%25d", bad[] = "%1b%0A%7f%zz%4", cut[] = "%", raw[] = "a\x1b[2J\tb", utf8[] = "%C3%A9\xc3\xa9";
	char *name;

	text_decode(plain);
	CHECK_TEXT(plain, "a b,c%d");
	text_decode(bad);
	CHECK_TEXT(bad, "%1b%0A%7f%zz%4");
	text_decode(cut);
	CHECK_TEXT(cut, "%");
	text_decode(utf8);
	CHECK_TEXT(utf8, "\xc3\xa9\xc3\xa9");
	text_decode(raw);
	CHECK_TEXT(raw, "a?[2J?b");
	name = text_encode("a b,c%d\n\x7f v1.0");
	CHECK_TEXT(name, "a%20b%2Cc%25d%0A%7F%20v1.0");
	free(name);
	name = text_encode("a..b");
	CHECK_TEXT(name, "a%2E%2Eb");
	free(name);
	name = text_encode("a.");
	CHECK_TEXT(name, "a%2E");
	free(name);
}

UNIT_TEST(tool_reads_whole_files)
{
	int dir = unit_tmpdir_fd(), fd = openat(dir, "f", O_WRONLY | O_CREAT, 0600);
	char line[1001], *text = NULL;

	memset(line, 'x', 1000);
	for (int i = 0; i < 100; i++)
		CHECK_EQ(write(fd, line, 1000), 1000);
	close(fd);
	CHECK_OK(text_read_at(dir, "f", &text));
	CHECK_EQ(strlen(text), 100000);
	free(text);
	CHECK_EQ(text_read_at(dir, "g", &text), -ENOENT);
	CHECK_EQ(text_read_at(dir, ".", &text), -EISDIR);
	close(dir);
}

/* ---- log and diff ---- */

#define LOG_HEAD "# layer time_ns arrays raw_bytes stored_bytes kind names\n"
#define LOG_43 "43\t1795257830123456789\t1\t100\t90\tdelta\t-\n"
#define LOG_42 "42\t1795257829000000000\t3\t1258291\t317440\tdelta\tname1,a%20b\n"
#define LOG_9 "9\t1795171429999999999\t120\t4294967296\t1073741824\tfull\tbase\n"

static char *print_log(const char *text, uint64_t max, int err, unsigned line)
{
	char *copy = strdup(text), *out;
	unsigned bad_line = 0;
	size_t n;
	FILE *to = open_memstream(&out, &n);

	setenv("TZ", "UTC", 1);
	tzset();
	CHECK_EQ(changes_print_log(to, copy, max, &bad_line), err);
	CHECK_EQ(bad_line, line);
	fclose(to);
	free(copy);
	return out;
}

UNIT_TEST(tool_log_is_aligned)
{
	char *out = print_log(LOG_HEAD LOG_43 LOG_42 LOG_9, UINT64_MAX, 0, 0);

	CHECK_TEXT(out, "@43  2026-11-21 10:43:50    1 array     100 B ->      90 B\n"
			"@42  2026-11-21 10:43:49    3 arrays  1.2 MiB -> 310.0 KiB              name1, a b\n"
			"@9   2026-11-20 10:43:49  120 arrays  4.0 GiB ->   1.0 GiB  compaction  base\n");
	free(out);
	out = print_log(LOG_HEAD LOG_43 LOG_42 LOG_9, 2, 0, 0);
	CHECK_TEXT(out, "@43  2026-11-21 10:43:50  1 array     100 B ->      90 B\n"
			"@42  2026-11-21 10:43:49  3 arrays  1.2 MiB -> 310.0 KiB  name1, a b\n");
	free(out);
	out = print_log(LOG_HEAD, UINT64_MAX, 0, 0);
	CHECK_TEXT(out, "");
	free(out);
	out = print_log(LOG_43, 0, 0, 0);
	CHECK_TEXT(out, "");
	free(out);
}

/* Both invariants of changes.c. */
UNIT_TEST(tool_log_of_another_daemon)
{
	char *out = print_log("# x\n43\t0\t1\t100\t90\tdelta\t-\tmore\n# y\n", 5, 0, 0);

	CHECK_TEXT(out, "@43  1970-01-01 00:00:00  1 array   100 B -> 90 B\n");
	free(out);
	out = print_log(LOG_HEAD LOG_43 "42\t1\t2\n", 5, -EINVAL, 3);
	CHECK_TEXT(out, "");
	free(out);
	out = print_log("x\t0\t1\t100\t90\tdelta\t-\n", 5, -EINVAL, 1);
	free(out);
	out = print_log("\n", 5, -EINVAL, 1);
	free(out);
}

UNIT_TEST(tool_log_raw_and_lookup)
{
	const char *text = LOG_HEAD LOG_43 LOG_42 LOG_9;
	char *out;
	size_t n;
	FILE *to = open_memstream(&out, &n);

	changes_print_raw(to, text, 1);
	fclose(to);
	CHECK_TEXT(out, LOG_HEAD LOG_43);
	free(out);
	to = open_memstream(&out, &n);
	changes_print_raw(to, text, UINT64_MAX);
	fclose(to);
	CHECK_TEXT(out, text);
	free(out);
	CHECK(changes_has_layer(text, 43));
	CHECK(changes_has_layer(text, 9));
	CHECK(!changes_has_layer(text, 4));
	CHECK(!changes_has_layer("", 4));
}

static char *print_diff(const char *text, int err, unsigned line)
{
	char *copy = strdup(text), *out;
	unsigned bad_line = 0;
	size_t n;
	FILE *to = open_memstream(&out, &n);

	CHECK_EQ(changes_print_diff(to, copy, &bad_line), err);
	CHECK_EQ(bad_line, line);
	fclose(to);
	free(copy);
	return out;
}

UNIT_TEST(tool_diff_groups_ranges)
{
	char *out = print_diff("~\t0\t262144\tdir/a%20b.f64\n~\t1048576\t4096\tdir/a%20b.f64\n+\t0\t0\tempty\n"
			       "+\t0\t5\tnew\n-\t0\t0\told\nm\t0\t0\told2\n", 0, 0);

	CHECK_TEXT(out, "~ dir/a b.f64\n    [0, 262144)\n    [1048576, 1052672)\n+ empty\n+ new\n    [0, 5)\n"
			"- old\nm old2\n");
	free(out);
	out = print_diff("", 0, 0);
	CHECK_TEXT(out, "");
	free(out);
	free(print_diff("?\t0\t0\tx\n", -EINVAL, 1));
	free(print_diff("+\t0\t0\tx\n+\t1\t18446744073709551615\ty\n", -EINVAL, 2));
}

/* ---- blocks ---- */

/* Answers from a list, a few blocks at a time. */
struct fake {
	const struct spillfs_block *v;
	size_t n;
	uint64_t size_bytes;
	uint32_t block_bytes, at_once;
	bool stuck;
};

static int fake_ask(void *ctx, struct spillfs_blocks *io)
{
	const struct fake *f = ctx;
	uint64_t first = io->first;

	io->size_bytes = f->size_bytes;
	io->block_bytes = f->block_bytes;
	io->n = 0;
	for (size_t i = 0; i < f->n && io->n < f->at_once; i++) {
		if (f->v[i].block < first)
			continue;
		io->v[io->n++] = f->v[i];
		if (!f->stuck)
			io->first = f->v[i].block + 1;
	}
	return 0;
}

static char *print_blocks(struct fake *f, const char *dtype, bool summary_only, int err)
{
	struct blocks_source from = { .ask = fake_ask, .ctx = f };
	char *out;
	size_t n;
	FILE *to = open_memstream(&out, &n);

	if (!f->at_once)
		f->at_once = SPILLFS_BLOCKS_MAX;
	CHECK_EQ(blocks_print(to, &from, "a", dtype, summary_only), err);
	fclose(to);
	return out;
}

/* A stored block of 4096 bytes of i32, shuffled, in layer 7. */
#define STORED(nr, low, high)                                                                             \
	{ .block = (nr), .layer = 7, .frame_off = 56, .frame_len = 1024, .frame_raw = 4096, .raw_len = 4096, \
	  .filter = 1, .elem_bytes = 4, .stat_type = SUMMARY_I32, .zero_count = 17,                        \
	  .min_bits = (uint32_t)(low), .max_bits = (uint32_t)(high) }

/* Invariants of blocks.c: every block once; zeros count. */
UNIT_TEST(tool_blocks_table)
{
	static const struct spillfs_block v[] = {
		STORED(0, -5, 100), STORED(1, 3, 12345), { .block = 5 },
		{ .block = 7, .layer = 12, .frame_off = 9, .frame_len = 1000, .frame_raw = 4000, .raw_off = 3000,
		  .raw_len = 400, .stat_type = SUMMARY_I32, .zero_count = SPILLFS_UNCOUNTED, .min_bits = 1, .max_bits = 2 },
	};
	struct fake f = { .v = v, .n = 4, .size_bytes = 7 * 4096 + 400, .block_bytes = 4096 };
	const char *should =
		"a: i32, 7268 elements, 28.4 KiB in 8 blocks of 4.0 KiB, stored 2.1 KiB (4.00x)\n\n"
		"block  elements      layer  stored  filter     min    max  NaNs  zeros\n"
		"    0  [0, 1024)         7    1024  shuffle:4   -5    100     -     17\n"
		"    1  [1024, 2048)      7    1024  shuffle:4    3  12345     -     17\n"
		" 2..4  [2048, 5120)  zeros       0  -            0      0     -   3072\n"
		"    5  [5120, 6144)  dirty       -  -            -      -     -      -\n"
		"    6  [6144, 7168)  zeros       0  -            0      0     -   1024\n"
		"    7  [7168, 7268)     12     100  none         1      2     -      -  packed\n\n"
		"min   -5\nmax   12345\nzeros 4130\nnot counted: 1 dirty blocks\n"
		"not counted: zeros of 1 blocks that have no such count\n";

	for (f.at_once = 1; f.at_once < 6; f.at_once++) {
		char *out = print_blocks(&f, "i32", false, 0), *again = print_blocks(&f, "", false, 0);

		CHECK_TEXT(out, should);
		CHECK_TEXT(again, should); /* the type of the statistics */
		free(out);
		free(again);
	}
}

UNIT_TEST(tool_blocks_zeros_are_values)
{
	static const struct spillfs_block v[] = { STORED(0, 3, 9), STORED(1, 4, 5) };
	struct fake f = { .v = v, .n = 2, .size_bytes = 8192, .block_bytes = 4096 };
	struct spillfs_block cut = STORED(0, 3, 9);
	char *out = print_blocks(&f, "i32", true, 0);

	CHECK_TEXT(out, "a: i32, 2048 elements, 8.0 KiB in 2 blocks of 4.0 KiB, stored 2.0 KiB (4.00x)\n"
			"min   3\nmax   9\nzeros 34\n");
	free(out);
	f.size_bytes = 8192 + 3; /* a hole, but of no whole element */
	out = print_blocks(&f, "i32", true, 0);
	CHECK(strstr(out, "min   3\n"));
	CHECK(strstr(out, " 2048 elements, "));
	free(out);
	f.size_bytes = 8192 + 4;
	out = print_blocks(&f, "i32", true, 0);
	CHECK(strstr(out, "min   0\n"));
	free(out);
	f = (struct fake){ .v = &cut, .n = 1, .size_bytes = 4096, .block_bytes = 4096 };
	cut.raw_len = 2048; /* zeros behind its end */
	out = print_blocks(&f, "i32", true, 0);
	CHECK(strstr(out, "min   0\n"));
	CHECK(strstr(out, "zeros 529\n"));
	free(out);
	cut.raw_len = 2047; /* half an element before them */
	out = print_blocks(&f, "i32", true, 0);
	CHECK(strstr(out, "min   -\nmax   -\nzeros 0\nnot counted: 1 blocks without"));
	free(out);
}

UNIT_TEST(tool_blocks_of_floats)
{
	static const double one = 1, inf = 1e308 * 10;
	struct spillfs_block v[2] = { STORED(0, 0, 0), STORED(1, 0, 0) };
	struct fake f = { .v = v, .n = 2, .size_bytes = 8192, .block_bytes = 4096 };
	double minus = -inf;
	char *out;

	/* All NaN; then -0.0 to 1. */
	v[0].stat_type = v[1].stat_type = SUMMARY_F64;
	v[0].nan_count = 512;
	memcpy(&v[0].min_bits, &inf, 8);
	memcpy(&v[0].max_bits, &minus, 8);
	v[1].nan_count = 1;
	v[1].min_bits = 1ull << 63;
	memcpy(&v[1].max_bits, &one, 8);
	out = print_blocks(&f, "f64", false, 0);
	CHECK(strstr(out, "    -    -   512     17\n"));
	CHECK(strstr(out, "\nmin   -0"));
	CHECK(strstr(out, "\nmax   1"));
	CHECK(strstr(out, "\nNaNs  513\n"));
	free(out);
	/* A hole's 0.0 does not hide the -0.0. */
	f.size_bytes = 3 * 4096;
	out = print_blocks(&f, "f64", true, 0);
	CHECK(strstr(out, "\nmin   -0"));
	free(out);
	f.n = 1;
	f.size_bytes = 4096;
	out = print_blocks(&f, "f64", true, 0);
	CHECK(strstr(out, "\nmin   -\nmax   -\nNaNs  512\n"));
	free(out);
	/* The type was set to another one since. */
	out = print_blocks(&f, "u16", true, 0);
	CHECK(strstr(out, "min   -\nmax   -\nzeros 0\nnot counted: 1 blocks without"));
	free(out);
}

UNIT_TEST(tool_blocks_without_type)
{
	static const struct spillfs_block v[] = {
		{ .block = 0, .layer = 1, .frame_off = 9, .frame_len = 100, .frame_raw = 4096, .raw_len = 4096 },
	};
	struct fake f = { .v = v, .n = 1, .size_bytes = 5000, .block_bytes = 4096 };
	char *out = print_blocks(&f, "", false, 0);

	CHECK_TEXT(out, "a: no type, 5000 elements, 4.9 KiB in 2 blocks of 4.0 KiB, stored 100 B (40.96x)\n\n"
			"block  elements      layer  stored  filter  min  max  NaNs  zeros\n"
			"    0  [0, 4096)         1     100  none      -    -     -      -\n"
			"    1  [4096, 5000)  zeros       0  -         -    -     -      -\n\n"
			"no statistics: they are kept for single numbers only\n");
	free(out);
	out = print_blocks(&f, "x:u32,y:u64", false, 0); /* 4096 = 341 * 12 + 4 */
	CHECK(strstr(out, "416 elements"));
	CHECK(strstr(out, "[0, 342) "));
	CHECK(strstr(out, "[342, 416) "));
	free(out);
	f = (struct fake){ .block_bytes = 4096 };
	out = print_blocks(&f, "f64", false, 0);
	CHECK(strstr(out, "a: f64, 0 elements, 0 B in 0 blocks"));
	CHECK(strstr(out, "min   -\n"));
	free(out);
}

UNIT_TEST(tool_blocks_answers_without_sense)
{
	static const struct spillfs_block v[] = { STORED(0, 1, 2), STORED(1, 1, 2), STORED(2, 1, 2) };
	static const struct spillfs_block backward[] = { STORED(1, 1, 2), STORED(0, 1, 2) };
	struct fake f = { .v = v, .n = 3, .size_bytes = 4096, .block_bytes = 4096 };
	char *out = print_blocks(&f, "i32", true, 0);

	CHECK(strstr(out, "1024 elements")); /* what is behind the size does not count */
	free(out);
	f.stuck = true;
	f.size_bytes = 8192;
	free(print_blocks(&f, "i32", true, -EPROTO));
	f.stuck = false;
	f.block_bytes = 0;
	free(print_blocks(&f, "i32", true, -EPROTO));
	f = (struct fake){ .v = backward, .n = 2, .size_bytes = 8192, .block_bytes = 4096 };
	free(print_blocks(&f, "i32", true, -EPROTO));
}

/* ---- progress ---- */

/* Invariant 2 of progress.c: at every width. */
UNIT_TEST(tool_progress_line)
{
	char line[300];

	progress_line(line, sizeof(line), 80, "checking", 512u << 20, 1u << 30, 100u << 20);
	CHECK_TEXT(line, "checking [=============              ]  50 %  512.0 MiB of 1.0 GiB  100.0 MiB/s");
	progress_line(line, sizeof(line), 200, "checking", 5, 5, 0);
	CHECK(strstr(line, "checking [==================================================] 100 %        5 B of 5 B "));
	progress_line(line, sizeof(line), 40, "checking", 5, 50, 0);
	CHECK(!strncmp(line, "checking  10 %        5 B of 50 B", 33));
	progress_line(line, sizeof(line), 80, "checking", 5, 0, 0);
	CHECK_TEXT(line, "checking 5 B  ");
	progress_line(line, sizeof(line), 80, "checking", 9, 5, 0);
	CHECK(strstr(line, "100 %"));
	for (unsigned width = 1; width < 250; width++) {
		progress_line(line, sizeof(line), width, "checking", 300000, 1u << 30, 12345678);
		CHECK(strlen(line) < width);
		progress_line(line, 20, width, "checking", 300000, 1u << 30, 12345678);
		CHECK(strlen(line) < 20);
	}
}

static void show_progress(void)
{
	struct progress p;

	progress_begin(&p, "testing");
	for (int i = 0; i <= 1000; i++)
		progress_update(&p, (uint64_t)i, 1000);
	progress_end(&p);
}

/* Invariant 1, and: at most ten lines a second, all taken away. */
UNIT_TEST(tool_progress_only_on_a_terminal)
{
	struct winsize w = { .ws_row = 25, .ws_col = 40 };
	int saved = dup(STDERR_FILENO), fds[2], pty, tty, drawn = 0;
	char text[8192];
	size_t n = 0;
	ssize_t got;

	CHECK_EQ(pipe(fds), 0);
	dup2(fds[1], STDERR_FILENO);
	show_progress();
	dup2(saved, STDERR_FILENO);
	close(fds[1]);
	CHECK_EQ(read(fds[0], text, sizeof(text)), 0);
	close(fds[0]);

	pty = posix_openpt(O_RDWR | O_NOCTTY);
	CHECK(pty >= 0);
	CHECK_EQ(grantpt(pty), 0);
	CHECK_EQ(unlockpt(pty), 0);
	tty = open(ptsname(pty), O_RDWR | O_NOCTTY);
	CHECK(tty >= 0);
	CHECK_EQ(ioctl(tty, TIOCSWINSZ, &w), 0);
	dup2(tty, STDERR_FILENO);
	show_progress();
	dup2(saved, STDERR_FILENO);
	close(tty);
	while (n < sizeof(text) - 1 && (got = read(pty, text + n, sizeof(text) - 1 - n)) > 0)
		n += (size_t)got;
	CHECK(n > 2);
	text[n] = '\0';
	for (char *line = text; (line = strchr(line, '\r')); line++) {
		size_t len = strcspn(line + 1, "\r");

		CHECK(len == 39 || !line[1]);
		drawn += len > 0;
	}
	CHECK(!strncmp(text, "\rtesting                                \rtesting   0 %        0 B of 1000 B", 74));
	CHECK(drawn >= 3 && drawn < 20); /* the name, the first figures, the spaces that cover them */
	CHECK(text[n - 1] == '\r' && text[n - 2] == ' ');
	close(pty);
	close(saved);
}
