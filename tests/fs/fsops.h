/*
 * Shared by fsops.c, which draws and runs the operations, fsways_ops.c, which has those of other ways to read and
 * write, fscompare.c, which compares what they left, and fsmany.c, which runs them in several processes.
 */
#ifndef TESTS_FSOPS_H
#define TESTS_FSOPS_H

#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#define SIDES_MAX 8
#define SLOTS 8
#define PAGE 4096u
#define LEN_MAX (3u << 20)
#define MAP_BYTES (1u << 20)
#define HOLE_BYTES (4ll << 20) /* an aligned hole of this size must be seen as one */
#define AHEAD_BYTES (32ll << 20) /* as much may be data where a side allocates ahead */
#define EPOCH_NOW 1200000000ll
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

struct side {
	const char *path;
	bool allocates_ahead;
	int dirfd;
	int fd[SLOTS];
	uint8_t *map[SLOTS]; /* MAP_BYTES, shared, read-only, kept while others write */
};

struct facts {
	uint64_t mode, nlink, uid, gid, size, rdev;
	int64_t mtime_s, mtime_ns; /* EPOCH_NOW, 0: some time not set by us */
};

struct op_type;

struct op {
	const struct op_type *type;
	const char *a, *b;
	int slot, slot2, flags, flags2;
	int64_t off, off2;
	size_t len;
	mode_t mode;
	uint64_t seed;
};

struct result {
	int64_t ret;
	int64_t err;
	uint64_t hash;
	struct facts facts;
};

/* Which of the operations of a seed are done. */
struct run {
	uint64_t nops, interval; /* 0: compared at the end alone */
	bool verbose, dry;	 /* dry: printed alone */
	const bool *dropped;	 /* NULL, or nops + 1: these are not done */
	_Atomic uint64_t *progress; /* NULL, or where the number of each operation is put */
};

extern struct side sides[SIDES_MAX]; /* the first is the model */
extern unsigned nsides;
extern uint64_t seed0, opno;
extern uint8_t *data, *scratch, *scratch2; /* LEN_MAX bytes each and a page, on pages; data: what the operation writes */

uint64_t hash_bytes(uint64_t h, const void *p, size_t len);
void take_facts(const struct stat *st, struct facts *f);
void print_facts(const struct facts *f);
/* buf: PATH_MAX bytes. */
void full_path(char *buf, const struct side *s, const char *name);
int by_name(const struct dirent **a, const struct dirent **b);
bool is_regular(int fd);
/* The result of a system call, with errno. */
void done(struct result *r, int64_t ret);
/* r->ret bytes were seen at p. */
void seen(struct result *r, const void *p);

void run_aio(struct side *s, const struct op *op, struct result *r);
void run_uring(struct side *s, const struct op *op, struct result *r);
void run_direct(struct side *s, const struct op *op, struct result *r);
void run_lock(struct side *s, const struct op *op, struct result *r);

void take_sides(char *const *dirs, unsigned n);
void mark_allocates_ahead(void);
/* Ends the program with 1 where sides differ. */
void run_ops(const struct run *run);
/* The exit code of the program. */
int run_many(unsigned nprocs, const struct run *run);
/* Compares whole trees; says what differs and ends the program. */
void compare_all(void);

#endif
