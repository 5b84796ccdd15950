/*
 * Several processes on the same files: what must hold whatever order they run in.
 *
 *   fsshared [-s seed] [-j processes] [-t seconds] [-n actions] DIR...
 *
 * Each process draws actions from its seed, each in one of the directories, for so many seconds and at most so many
 * actions. A directory of plain ext4 among them shows that it is not the test that is wrong. The properties:
 *
 *  1. log: appends are whole, none is lost, and those of one process are in its order.
 *  2. cells: each byte is of the cell's owner; who reads after a write has returned sees it or a newer one, whichever way
 *     (call, vector, aio, io_uring, O_DIRECT, mapping) either goes. Cells of whole pages, and cells that share pages.
 *  3. counters: who holds a lock (fcntl, open file description, flock) is alone: no increment is lost.
 *  4. names: of several who create, link, rename to or unlink a name one succeeds; a name that is replaced is always there,
 *     and is of one writer as a whole.
 *  5. shelves: directories that are moved into each other stay a tree: each is there once, with the links of its children.
 *
 * A failure prints seed, process, number of the action and directory, and ends the program with 1.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fsrandom.h"
#include "fsways.h"

#define DIRS_MAX 8u
#define PROCS_MAX 64u
#define COUNTERS 8u
#define TOKENS 12u
#define SHELVES 6u
#define LOG_MAX (4u << 20)
#define CELL 8192u  /* whole pages */
#define SMALL 104u  /* shares its page with others' */
#define SMALLS 4u   /* of each process */
#define BUF_BYTES (1u << 16)
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* What has been done in one directory; shared by all processes. */
struct totals {
	_Atomic uint64_t records[PROCS_MAX], log_bytes;
	_Atomic uint64_t cell[PROCS_MAX], small[PROCS_MAX * SMALLS]; /* version whose write has returned */
	_Atomic uint64_t counter[3][COUNTERS];
	_Atomic uint64_t made, unmade;
	_Atomic uint64_t current; /* replacements of "cur" */
	_Atomic uint64_t moved;	  /* directories */
};

static struct totals *totals;
static const char *dirs[DIRS_MAX];
static unsigned ndirs, nprocs = 6;
static uint64_t seed = 1;

/* Of this process. */
static unsigned me, at; /* process and directory */
static int dirfd_at;
static uint64_t nth;
static const char *doing = "";
static uint8_t *buf;

/* ---- telling, drawing ---- */

__attribute__((format(printf, 1, 2), noreturn)) static void wrong(const char *format, ...)
{
	char text[600];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	printf("WRONG seed=%" PRIu64 " process %u, action %" PRIu64 " (%s) in %s: %s\n", seed, me, nth, doing, dirs[at], text);
	fflush(stdout);
	_exit(1);
}

static void crashed(int sig)
{
	dprintf(1, "WRONG seed=%" PRIu64 " process %u, action %" PRIu64 " (%s) in %s: signal %d\n", seed, me, nth, doing,
		dirs[at], sig);
	_exit(1);
}

static enum way draw_way(void)
{
	enum way way = rnd(WAYS);

	return way == WAY_URING && !ways_has_uring() ? WAY_CALL : way;
}

static int open_at(const char *name, int flags)
{
	int fd = openat(dirfd_at, name, flags | O_CLOEXEC, 0644);

	if (fd < 0)
		wrong("open %s: %s", name, strerror(errno));
	return fd;
}

/* ---- log ---- */

struct record {
	uint32_t magic, proc;
	uint64_t nth;
	uint32_t len, sum; /* of what follows */
};
#define RECORD_MAGIC 0x5ec04d00u

static uint32_t sum_bytes(const uint8_t *p, size_t len)
{
	uint32_t sum = 2166136261u;

	for (size_t i = 0; i < len; i++)
		sum = (sum ^ p[i]) * 16777619u;
	return sum;
}

static void log_append(void)
{
	struct totals *t = &totals[at];
	struct record r = {.magic = RECORD_MAGIC, .proc = me, .nth = t->records[me], .len = rnd(4) ? rnd(300) : rnd(20000)};
	enum way way = draw_way();
	size_t len = sizeof(r) + r.len;
	int64_t n;
	int fd;

	if (t->log_bytes > LOG_MAX)
		return;
	fd = open_at("log", (rnd(2) ? O_WRONLY : O_RDWR) | O_APPEND);
	for (size_t i = 0; i < r.len; i++)
		buf[sizeof(r) + i] = (uint8_t)(mix(me * 1000003ull + r.nth) >> (i % 8 * 8)) + (i >> 10);
	r.sum = sum_bytes(buf + sizeof(r), r.len);
	memcpy(buf, &r, sizeof(r));
	way = way == WAY_MAPPED ? WAY_CALL : way;
	n = ways_write(way, fd, buf, len, 0);
	if (n != (int64_t)len)
		wrong("append of %zu bytes by %s: %" PRId64, len, way_names[way], n);
	t->records[me]++;
	t->log_bytes += len;
	if (!rnd(20) && fsync(fd))
		wrong("fsync: %s", strerror(errno));
	close(fd);
}

/* Whole records from the start; where the last one ends. */
static int64_t log_scan(uint64_t *seen)
{
	int fd = open_at("log", O_RDONLY);
	int64_t off = 0;
	struct record r;

	for (;;) {
		int64_t n = pread(fd, buf, BUF_BYTES, off);

		if (n < (int64_t)sizeof(r))
			break;
		memcpy(&r, buf, sizeof(r));
		if (r.magic != RECORD_MAGIC || r.proc >= nprocs)
			wrong("no record at %" PRId64 ": %#x %#x", off, r.magic, r.proc);
		if (n < (int64_t)sizeof(r) + r.len)
			break;
		if (r.nth != seen[r.proc]++ || sum_bytes(buf + sizeof(r), r.len) != r.sum)
			wrong("record at %" PRId64 " of process %u: number %" PRIu64 " instead of %" PRIu64 ", or its bytes are others",
			      off, r.proc, r.nth, seen[r.proc] - 1);
		off += sizeof(r) + r.len;
	}
	close(fd);
	return off;
}

static void log_read(void)
{
	uint64_t least[PROCS_MAX], seen[PROCS_MAX] = {0};

	for (unsigned i = 0; i < nprocs; i++)
		least[i] = totals[at].records[i];
	log_scan(seen);
	for (unsigned i = 0; i < nprocs; i++)
		if (seen[i] < least[i])
			wrong("%" PRIu64 " records of process %u, which had written %" PRIu64, seen[i], i, least[i]);
}

static void log_verify(void)
{
	uint64_t seen[PROCS_MAX] = {0};
	int64_t end = log_scan(seen);
	struct stat st;

	for (unsigned i = 0; i < nprocs; i++)
		if (seen[i] != totals[at].records[i])
			wrong("%" PRIu64 " records of process %u instead of %" PRIu64, seen[i], i, totals[at].records[i]);
	if (fstatat(dirfd_at, "log", &st, 0) || st.st_size != end)
		wrong("the log has %" PRId64 " bytes instead of %" PRId64, (int64_t)st.st_size, end);
}

/* ---- cells: words of owner, version and place, each of whose bytes can be checked by itself ---- */

static void cell_fill(uint8_t *p, size_t len, unsigned owner, unsigned cell, uint64_t version)
{
	for (size_t i = 0; i < len; i += 4) {
		p[i] = (uint8_t)version;
		p[i + 1] = 0x40 | owner;
		p[i + 2] = (uint8_t)cell;
		p[i + 3] = (uint8_t)(i / 4);
	}
}

/* least: the version that was there before the read began. */
static void cell_check(const uint8_t *p, size_t len, unsigned owner, unsigned cell, uint64_t least, const char *how)
{
	for (size_t i = 0; i < len; i += 4) {
		if (p[i + 1] != (0x40 | owner) || p[i + 2] != (uint8_t)cell || p[i + 3] != (uint8_t)(i / 4))
			wrong("%s: byte %zu of cell %u of process %u: %02x %02x %02x %02x are not its owner's", how, i, cell, owner,
			      p[i], p[i + 1], p[i + 2], p[i + 3]);
		if ((uint8_t)(p[i] - (uint8_t)least) > 127)
			wrong("%s: byte %zu of cell %u of process %u: version %u, but %u was written before", how, i, cell, owner,
			      p[i], (uint8_t)least);
	}
}

/* A file of cells: one of whole pages of each process, or several small ones. */
struct cells {
	const char *name;
	size_t len;
	unsigned each; /* of a process */
	bool direct;
};
static const struct cells cells_whole = {"cells", CELL, 1, true}, cells_small = {"packed", SMALL, SMALLS, false};

static _Atomic uint64_t *cell_version(const struct cells *c, unsigned cell)
{
	return c->direct ? &totals[at].cell[cell] : &totals[at].small[cell];
}

/* Owners take turns, so that a page has cells of several. */
static int64_t cell_off(const struct cells *c, unsigned cell)
{
	return (int64_t)cell * c->len;
}

static int cells_open(const struct cells *c, bool write, enum way *way, char *how)
{
	int fd = open_at(c->name, !write ? O_RDONLY : rnd(3) ? O_RDWR : O_WRONLY);
	bool direct;

	*way = draw_way();
	if (*way == WAY_MAPPED && (fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY)
		*way = WAY_CALL;
	direct = c->direct && *way != WAY_MAPPED && *way != WAY_VECTOR && !rnd(3);
	if (direct && ways_set_direct(fd, true))
		wrong("O_DIRECT: %s", strerror(errno));
	sprintf(how, "%s%s%s", write ? "write by " : "read by ", way_names[*way], direct ? ", O_DIRECT" : "");
	return fd;
}

static void cells_read(const struct cells *c, unsigned cell, const char *after)
{
	uint64_t least = *cell_version(c, cell);
	char how[64], text[200];
	enum way way;
	int64_t n;
	int fd = cells_open(c, false, &way, how);

	n = ways_read(way, fd, buf, c->len, cell_off(c, cell));
	if (n != (int64_t)c->len)
		wrong("%s of cell %u: %" PRId64, how, cell, n);
	snprintf(text, sizeof(text), "%s%s", how, after);
	cell_check(buf, c->len, cell % nprocs, cell, least, text);
	close(fd);
}

static void cells_write(const struct cells *c)
{
	unsigned cell = me + nprocs * rnd(c->each);
	_Atomic uint64_t *version = cell_version(c, cell);
	char how[64], after[100];
	enum way way;
	int64_t n;
	int fd = cells_open(c, true, &way, how);

	cell_fill(buf, c->len, me, cell, *version + 1);
	n = ways_write(way, fd, buf, c->len, cell_off(c, cell));
	if (n != (int64_t)c->len)
		wrong("%s of cell %u: %" PRId64, how, cell, n);
	++*version;
	if (!rnd(20) && fdatasync(fd))
		wrong("fdatasync: %s", strerror(errno));
	close(fd);
	sprintf(after, " after its %s", how);
	if (rnd(2))
		cells_read(c, cell, after);
}

static void cells_make(const struct cells *c)
{
	int fd = open_at(c->name, O_RDWR | O_CREAT);

	for (unsigned cell = 0; cell < nprocs * c->each; cell++) {
		cell_fill(buf, c->len, cell % nprocs, cell, 0);
		if (pwrite(fd, buf, c->len, cell_off(c, cell)) != (ssize_t)c->len)
			wrong("%s: %s", c->name, strerror(errno));
	}
	close(fd);
}

static void whole_write(void) { cells_write(&cells_whole); }
static void small_write(void) { cells_write(&cells_small); }
static void whole_read(void) { cells_read(&cells_whole, rnd(nprocs), ""); }
static void small_read(void) { cells_read(&cells_small, rnd(nprocs * SMALLS), ""); }

static void cells_verify(void)
{
	for (unsigned round = 0; round < 8; round++) {
		for (unsigned cell = 0; cell < nprocs; cell++)
			cells_read(&cells_whole, cell, " at the end");
		for (unsigned cell = 0; cell < nprocs * SMALLS; cell++)
			cells_read(&cells_small, cell, " at the end");
	}
}

/* ---- counters ---- */

static const char *const counter_names[] = {"count.fcntl", "count.ofd", "count.flock"};

static void lock_counter(unsigned how, int fd, unsigned i, bool on)
{
	struct flock l = {.l_type = on ? F_WRLCK : F_UNLCK, .l_start = (off_t)i * 4096, .l_len = 4096};

	if (how == 2 ? flock(fd, on ? LOCK_EX : LOCK_UN) : fcntl(fd, how ? F_OFD_SETLKW : F_SETLKW, &l))
		wrong("%s of %s: %s", on ? "lock" : "unlock", counter_names[how], strerror(errno));
}

static void count_up(void)
{
	unsigned how = rnd(COUNT(counter_names)), i = rnd(COUNTERS);
	int fd = open_at(counter_names[how], O_RDWR);
	enum way way = draw_way(), back = draw_way();
	uint64_t value;

	lock_counter(how, fd, i, true);
	if (ways_read(way, fd, &value, sizeof(value), i * 4096) != sizeof(value))
		wrong("counter %u of %s cannot be read by %s", i, counter_names[how], way_names[way]);
	value++;
	if (ways_write(back, fd, &value, sizeof(value), i * 4096) != sizeof(value))
		wrong("counter %u of %s cannot be written by %s", i, counter_names[how], way_names[back]);
	totals[at].counter[how][i]++;
	if (value != totals[at].counter[how][i])
		wrong("counter %u of %s: %" PRIu64 " by %s, %s, when it was counted to %" PRIu64, i, counter_names[how], value,
		      way_names[way], way_names[back], totals[at].counter[how][i]);
	if (rnd(2))
		lock_counter(how, fd, i, false);
	close(fd);
}

static void counters_verify(void)
{
	uint64_t value;

	for (unsigned how = 0; how < COUNT(counter_names); how++) {
		int fd = open_at(counter_names[how], O_RDONLY);

		for (unsigned i = 0; i < COUNTERS; i++)
			if (pread(fd, &value, sizeof(value), i * 4096) != sizeof(value) ||
			    value != totals[at].counter[how][i])
				wrong("%s %u at the end: %" PRIu64 " instead of %" PRIu64, counter_names[how], i, value,
				      totals[at].counter[how][i]);
		close(fd);
	}
}

/* ---- names ---- */

/* Of several who want a name one gets it. */
static void token_make(void)
{
	char own[32], token[32];
	int bad, fd;

	sprintf(own, "own%u", me);
	sprintf(token, "t%u", (unsigned)rnd(TOKENS));
	switch (rnd(4)) {
	case 0:
		fd = openat(dirfd_at, token, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
		bad = fd < 0;
		if (!bad)
			close(fd);
		break;
	case 1:
		bad = symlinkat("nowhere", dirfd_at, token);
		break;
	case 2:
		close(open_at(own, O_CREAT | O_WRONLY));
		bad = linkat(dirfd_at, own, dirfd_at, token, 0);
		break;
	default:
		close(open_at(own, O_CREAT | O_WRONLY));
		bad = renameat2(dirfd_at, own, dirfd_at, token, RENAME_NOREPLACE);
	}
	if (bad && errno != EEXIST)
		wrong("making %s: %s", token, strerror(errno));
	totals[at].made += !bad;
}

static void token_unmake(void)
{
	char token[32];

	sprintf(token, "t%u", (unsigned)rnd(TOKENS));
	if (!unlinkat(dirfd_at, token, 0))
		totals[at].unmade++;
	else if (errno != ENOENT)
		wrong("unlinking %s: %s", token, strerror(errno));
}

/* The number of tokens stays. */
static void token_move(void)
{
	char from[32], to[32];

	sprintf(from, "t%u", (unsigned)rnd(TOKENS));
	sprintf(to, "t%u", (unsigned)rnd(TOKENS));
	if (!renameat2(dirfd_at, from, dirfd_at, to, rnd(2) ? RENAME_NOREPLACE : RENAME_EXCHANGE))
		return;
	if (errno != EEXIST && errno != ENOENT)
		wrong("renaming %s to %s: %s", from, to, strerror(errno));
}

static void current_write(const char *name)
{
	size_t len = 4 * (1 + rnd(4000));
	enum way way = draw_way();
	int fd = open_at(name, O_CREAT | O_TRUNC | O_RDWR);
	int64_t n;

	cell_fill(buf, len, me, me, nth);
	way = way == WAY_MAPPED ? WAY_CALL : way;
	n = ways_write(way, fd, buf, len, 0);
	if (n != (int64_t)len)
		wrong("%s: %" PRId64 " of %zu bytes", name, n, len);
	if (!rnd(10) && fsync(fd))
		wrong("fsync: %s", strerror(errno));
	close(fd);
}

static void current_replace(void)
{
	char tmp[32];

	sprintf(tmp, "tmp%u", me);
	current_write(tmp);
	if (renameat(dirfd_at, tmp, dirfd_at, "cur"))
		wrong("renaming %s to cur: %s", tmp, strerror(errno));
	totals[at].current++;
}

static void current_read(void)
{
	int fd = open_at("cur", O_RDONLY);
	struct stat st;
	int64_t n = pread(fd, buf, BUF_BYTES, 0);

	if (fstat(fd, &st) || n <= 0 || n != st.st_size)
		wrong("cur: %" PRId64 " of %" PRId64 " bytes", n, (int64_t)st.st_size);
	cell_check(buf, n, buf[1] & 0x3f, buf[2], buf[0], "cur");
	for (int64_t i = 0; i < n; i += 4)
		if (buf[i] != buf[0])
			wrong("cur: byte %" PRId64 " is of another version", i);
	close(fd);
}

/* Some place of that shelf: in the folder, or in others. */
static void shelf_path(char path[64], unsigned shelf)
{
	size_t len = 0;

	for (unsigned depth = rnd(4); depth; depth--)
		len += sprintf(path + len, "s%u/", (unsigned)rnd(SHELVES));
	sprintf(path + len, "s%u", shelf);
}

static void shelf_move(void)
{
	unsigned shelf = rnd(SHELVES);
	char from[64], to[64];

	for (unsigned tries = 0; tries < 20; tries++) {
		shelf_path(from, shelf);
		shelf_path(to, shelf);
		if (!renameat2(dirfd_at, from, dirfd_at, to, rnd(2) ? RENAME_NOREPLACE : 0)) {
			totals[at].moved += strcmp(from, to) != 0;
			return;
		}
		/* EINVAL: into itself. ENOTEMPTY: over one that it is in. */
		if (errno != ENOENT && errno != EINVAL && errno != EEXIST && errno != ENOTEMPTY)
			wrong("moving %s to %s: %s", from, to, strerror(errno));
	}
}

/* Counts the shelves below an open directory, which it closes. */
static void shelves_count(int fd, unsigned *seen)
{
	DIR *d = fdopendir(fd);
	const struct dirent *e;
	nlink_t links = 2;
	struct stat st;

	while (d && (e = readdir(d))) {
		if (e->d_name[0] != 's')
			continue;
		links++;
		seen[(unsigned)(e->d_name[1] - '0') % SHELVES]++;
		shelves_count(openat(fd, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC), seen);
	}
	if (!d || fstat(fd, &st) || st.st_nlink != links)
		wrong("a directory of %u others cannot be read, or has other links: %u", (unsigned)links - 2,
		      d ? (unsigned)st.st_nlink : 0);
	closedir(d);
}

static void shelves_verify(void)
{
	unsigned seen[SHELVES] = {0};

	shelves_count(openat(dirfd_at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), seen);
	for (unsigned i = 0; i < SHELVES; i++)
		if (seen[i] != 1)
			wrong("directory s%u is there %u times", i, seen[i]);
}

static void names_verify(void)
{
	DIR *d = fdopendir(openat(dirfd_at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	uint64_t tokens = 0, want = totals[at].made - totals[at].unmade;
	const struct dirent *e;

	while (d && (e = readdir(d)))
		tokens += e->d_name[0] == 't' && e->d_name[1] != 'm';
	if (!d || tokens != want)
		wrong("%" PRIu64 " tokens, but %" PRIu64 " were made and %" PRIu64 " unlinked", tokens, totals[at].made,
		      totals[at].unmade);
	closedir(d);
	current_read();
}

/* ---- running ---- */

static const struct action {
	const char *name;
	unsigned weight;
	void (*run)(void);
} actions[] = {
	{"append", 12, log_append}, {"read the log", 1, log_read}, {"write a cell", 15, whole_write},
	{"write a small cell", 15, small_write}, {"read a cell", 10, whole_read},
	{"read a small cell", 10, small_read}, {"count", 12, count_up}, {"make a token", 6, token_make},
	{"unlink a token", 4, token_unmake}, {"move a token", 5, token_move},
	{"replace", 5, current_replace}, {"read what is replaced", 8, current_read},
	{"move a directory", 6, shelf_move},
};

static void enter(unsigned dir)
{
	at = dir;
	dirfd_at = open(dirs[dir], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd_at < 0) {
		perror(dirs[dir]);
		exit(2);
	}
}

static void make_files(void)
{
	close(open_at("log", O_CREAT | O_WRONLY));
	cells_make(&cells_whole);
	cells_make(&cells_small);
	for (unsigned how = 0; how < COUNT(counter_names); how++) {
		int fd = open_at(counter_names[how], O_CREAT | O_WRONLY);

		if (ftruncate(fd, COUNTERS * 4096))
			wrong("truncate: %s", strerror(errno));
		close(fd);
	}
	for (unsigned i = 0; i < SHELVES; i++) {
		char name[32];

		sprintf(name, "s%u", i);
		if (mkdirat(dirfd_at, name, 0755))
			wrong("mkdir %s: %s", name, strerror(errno));
	}
	current_write("cur");
}

static void act(uint64_t until_s, uint64_t most, _Atomic uint64_t *total)
{
	unsigned weights = 0;

	for (unsigned i = 0; i < COUNT(actions); i++)
		weights += actions[i].weight;
	for (nth = 1; nth <= most && (uint64_t)time(NULL) < until_s; nth++) {
		unsigned i = 0, draw = rnd(weights);

		while (draw >= actions[i].weight)
			draw -= actions[i++].weight;
		doing = actions[i].name;
		enter(rnd(ndirs));
		actions[i].run();
		close(dirfd_at);
		++*total;
	}
}

static void verify(void)
{
	doing = "the end";
	for (unsigned i = 0; i < ndirs; i++) {
		uint64_t records = 0, counted = 0;

		enter(i);
		log_verify();
		cells_verify();
		counters_verify();
		names_verify();
		shelves_verify();
		close(dirfd_at);
		for (unsigned p = 0; p < nprocs; p++)
			records += totals[i].records[p];
		for (unsigned c = 0; c < COUNTERS; c++)
			counted += totals[i].counter[0][c] + totals[i].counter[1][c] + totals[i].counter[2][c];
		printf("%s: %" PRIu64 " records, %" PRIu64 " counted under locks, %" PRIu64 " tokens, %" PRIu64
		       " replacements, %" PRIu64 " directories moved\n", dirs[i], records, counted, (uint64_t)totals[i].made,
		       (uint64_t)totals[i].current, (uint64_t)totals[i].moved);
	}
}

/* The first failure ends all. */
static bool run_processes(uint64_t seconds, uint64_t most, _Atomic uint64_t *total)
{
	uint64_t until_s = time(NULL) + seconds;
	pid_t pids[PROCS_MAX];
	bool failed = false;
	int status;

	fflush(stdout);
	for (unsigned i = 0; i < nprocs; i++) {
		pids[i] = fork();
		if (pids[i])
			continue;
		me = i;
		rng_state = mix(seed * 64 + i);
		act(until_s, most, total);
		exit(0);
	}
	for (unsigned left = nprocs; left; left--) {
		pid_t pid = wait(&status);

		for (unsigned i = 0; i < nprocs; i++)
			if (pids[i] == pid)
				pids[i] = 0;
		failed |= status != 0;
		for (unsigned i = 0; failed && i < nprocs; i++)
			if (pids[i])
				kill(pids[i], SIGKILL);
	}
	return !failed;
}

int main(int argc, char **argv)
{
	struct sigaction sa = {.sa_handler = crashed};
	uint64_t seconds = 5, most = UINT64_MAX;
	_Atomic uint64_t *total;
	int c;

	while ((c = getopt(argc, argv, "s:j:t:n:")) != -1) {
		switch (c) {
		case 's': seed = strtoull(optarg, NULL, 0); break;
		case 'j': nprocs = strtoul(optarg, NULL, 0); break;
		case 't': seconds = strtoull(optarg, NULL, 0); break;
		case 'n': most = strtoull(optarg, NULL, 0); break;
		default: return 2;
		}
	}
	if (optind == argc || argc - optind > (int)DIRS_MAX || !nprocs || nprocs > PROCS_MAX) {
		fprintf(stderr, "usage: fsshared [-s seed] [-j processes] [-t seconds] [-n actions] DIR...\n");
		return 2;
	}
	sigaction(SIGBUS, &sa, NULL);
	sigaction(SIGSEGV, &sa, NULL);
	ndirs = argc - optind;
	totals = mmap(NULL, ndirs * sizeof(*totals) + sizeof(*total), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	total = (_Atomic uint64_t *)&totals[ndirs];
	buf = aligned_alloc(4096, BUF_BYTES);
	for (unsigned i = 0; i < ndirs; i++) {
		dirs[i] = argv[optind + i];
		enter(i);
		make_files();
		close(dirfd_at);
	}
	if (!run_processes(seconds, most, total))
		return 1;
	verify();
	printf("%u processes, %" PRIu64 " actions in %u directories, seed %" PRIu64 ": all properties hold\n", nprocs, *total,
	       ndirs, seed);
	return 0;
}
