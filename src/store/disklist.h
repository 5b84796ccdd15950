/*
 * The list of a store's directories on other disks, which is the text of its file `disks`, and the mark of each of them, its file
 * SPILLFS.disk. docs/FORMAT.md has both.
 */
#ifndef SPILLFS_STORE_DISKLIST_H
#define SPILLFS_STORE_DISKLIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DISKLIST_NAME "disks"
#define DISKLIST_MARK "SPILLFS.disk"
/* The mark is locked, as flock(2) does, by whoever uses the directory. A daemon that ends lets go of its locks one after the other, and is waited
 * for: so many tries, so far apart. */
#define DISKLIST_LOCK_TRIES 50u
#define DISKLIST_LOCK_NS (10 * 1000 * 1000)
#define DISKLIST_TEXT_MAX (256u << 10)
#define DISKLIST_MARK_MAX 128u
#define DISKLIST_MAX 31u /* directories besides the store's own */

/* The folders that each of them has; ends with NULL. */
extern const char *const disklist_folders[];

struct disklist_row {
	unsigned number; /* from 1 on; the store's own directory is 0 */
	bool draining;   /* it is to be emptied: no new data, and names in it count less */
	char *path;      /* absolute */
};

/* In the order of numbers; zeroed at first. */
struct disklist {
	struct disklist_row v[DISKLIST_MAX];
	size_t n;
	unsigned next; /* numbers below it were given, also to directories that have left */
	uint64_t mounts; /* raised when a mount that writes begins and ends: a copy of the store that has less is older */
};

/* The mark of a directory. */
struct disklist_mark {
	uint8_t uuid[16];
	unsigned number;
	uint64_t mounts; /* of the list, when it was written */
};

void disklist_fini(struct disklist *l);
/* The path is copied. A number of 0: one that none had. -E2BIG: there are DISKLIST_MAX, -EINVAL: no such path or number, -ENOMEM. */
int disklist_add(struct disklist *l, unsigned number, bool draining, const char *path);
void disklist_remove(struct disklist *l, unsigned number);
/* The number was given to a directory, which is listed or has left. */
bool disklist_gave(const struct disklist *l, unsigned number);
struct disklist_row *disklist_find(struct disklist *l, unsigned number);
struct disklist_row *disklist_find_path(struct disklist *l, const char *path);
/* The uuid of a list's store. -EINVAL. */
int disklist_uuid(const char *text, uint8_t uuid[16]);
/* *out is zeroed, and is the caller's if it succeeds. -EINVAL: no list of the store with this uuid; -ENOMEM. */
int disklist_parse(const char *text, const uint8_t uuid[16], struct disklist *out);
/* malloc'd; NULL: no memory. */
char *disklist_text(const struct disklist *l, const uint8_t uuid[16]);

/* Returns the number of bytes. */
size_t disklist_mark_text(const struct disklist_mark *m, char out[DISKLIST_MARK_MAX]);
/* -EINVAL: it is no mark. */
int disklist_mark_parse(const char *text, struct disklist_mark *out);

#endif
