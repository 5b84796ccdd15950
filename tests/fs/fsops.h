/*
 * Shared by fsops.c, which runs the operations, and fscompare.c, which compares what they left.
 */
#ifndef TESTS_FSOPS_H
#define TESTS_FSOPS_H

#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#define SIDES_MAX 8
#define SLOTS 8
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

extern struct side sides[SIDES_MAX]; /* the first is the model */
extern unsigned nsides;
extern uint64_t seed0, opno;
extern uint8_t *scratch, *scratch2; /* LEN_MAX bytes each */

uint64_t hash_bytes(uint64_t h, const void *p, size_t len);
void take_facts(const struct stat *st, struct facts *f);
void print_facts(const struct facts *f);
/* buf: PATH_MAX bytes. */
void full_path(char *buf, const struct side *s, const char *name);
int by_name(const struct dirent **a, const struct dirent **b);
/* Compares whole trees; says what differs and ends the program. */
void compare_all(void);

#endif
