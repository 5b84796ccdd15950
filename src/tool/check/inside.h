/*
 * The check from inside: what its files share.
 *
 * A check is a table of named passes (check.c). A pass looks at one thing. For each error it first mends it, by the functions
 * below, which do nothing without --repair, and then says by check_found what is wrong. It returns 0, whatever it finds, or
 * -errno when it could not do its work.
 *
 * It reads meta.db and the files by itself, not through store/: a check must not trust what it checks.
 */
#ifndef SPILLFS_TOOL_CHECK_INSIDE_H
#define SPILLFS_TOOL_CHECK_INSIDE_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>

#include "tool/progress.h"

enum check_flags {
	CHECK_BASE = 1,  /* runs before meta.db is opened for a repair */
	CHECK_FATAL = 2, /* what it finds cannot be mended, and ends the check */
	CHECK_DATA = 4,  /* reads all data: with --data only, and not again after a repair */
};

/* SQL: no bucket was being cut, which leaves extents behind its size for the next mount (META_FACT_CUTTING). */
#define CHECK_NOT_CUTTING "NOT EXISTS(SELECT 1 FROM facts WHERE key='cutting' AND value<>0)"

/* SQL: kinds of arrays, as enum array_kind has them. */
#define CHECK_BUCKET "1"
#define CHECK_COLUMN "2"
#define CHECK_LAYERED "3"

/* SQL: modes, as sys/stat.h has them. */
#define CHECK_TYPE(mode) "(" mode " & 61440)"
#define CHECK_IS_DIR(mode) "(" CHECK_TYPE(mode) "=16384)"
#define CHECK_IS_REG(mode) "(" CHECK_TYPE(mode) "=32768)"
#define CHECK_IS_LINK(mode) "(" CHECK_TYPE(mode) "=40960)"

/* SQL: is it the root or a class? */
#define CHECK_FIXED(ino) "(" ino "<=1 OR " ino " IN (SELECT ino FROM temp.classes))"

#define CHECK_LABELS 8
#define CHECK_LABEL_MAX 5000

struct check;

struct check_pass {
	const char *name;
	unsigned flags;
	int (*run)(struct check *c);
};

/* An action that has to wait until the mended rows are durable. */
struct check_deferred {
	struct check_deferred *next;
	int (*run)(struct check *c, struct check_deferred *d);
	int64_t number, size_bytes;
};

struct check {
	const char *program, *shown; /* how it was called, and how the store was named */
	bool repair, data, verbose;
	bool again; /* this is the look after a repair: count only */
	bool killed; /* the last daemon was: there is a log of meta.db */
	int dirfd, lock_fd;
	struct check_disk {
		char *path; /* as it is listed */
		int fd, lock_fd; /* the second one of its mark, locked */
		bool draining;
	} *disks; /* the directories on other disks; the mark's pass opens them */
	size_t ndisks;
	unsigned format; /* the store's, once pass mark has run */
	FILE *out;
	uint8_t uuid[16]; /* once pass mark has run */

	sqlite3 *db;
	struct meta_vfs *vfs;   /* its connection, where the checksums are looked at */
	struct io_dir *vfs_dir; /* in which it is */
	char *copy_dir; /* holds the copy of meta.db that is read, or NULL */
	char backup[64];
	bool mending; /* the transaction is open and the backup made */
	bool committed, fatal; /* fatal: a pass of that kind has found something */

	const struct check_pass *pass;
	void *ctx; /* the pass keeps here what its callbacks need */
	struct progress progress;

	char mended[400]; /* done about the next finding */
	char labels[CHECK_LABELS][CHECK_LABEL_MAX];
	unsigned next_label;
	uint64_t nfound, nmended, nleft_data;
	uint64_t nfiles, nbytes;
	struct check_deferred *deferred;
	struct check_log *log; /* log.h; from the pass "layers" on */
	bool lost_state;       /* the newest state cannot be had from the layers */
};

/* Reports (report.c). */

/* One line: "PASS: what[: what was done about it]". */
void check_found(struct check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Shown with -v: nothing is wrong. */
void check_note(struct check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Always shown; not counted: nothing is wrong that anybody can see. */
void check_remark(struct check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Notes what was done about the next finding; nothing without --repair. */
void check_mended(struct check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* An operational failure, on stderr; returns err. */
int check_fail(struct check *c, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* The same with a file of the store, from io/beneath.h. */
int check_fail_file(struct check *c, int err, const char *path);
/* Progress of a pass that reads much; -ECANCELED after SIGINT. */
int check_tick(struct check *c, uint64_t done_bytes, uint64_t total_bytes);
bool check_cancelled(void);
/* SIGINT and SIGTERM cancel the check. */
void check_catch_signals(void);

/* Labels for people (label.c), in a few buffers of the check: one printf may use several. */

/* Bytes of a name in quotes, with escapes. */
const char *check_quote(struct check *c, const void *bytes, size_t len);
/* `file 70 "buckets/a/x"`; the path is missing when it has no name. */
const char *check_who(struct check *c, int64_t ino);

/* The database (db.c). Parameters of statements: i int64_t, s text, b blob and its size_t length. */

/* The layer that was sealed last; its number need not be the highest (store/layers/set.c). An SQL expression. */
#define CHECK_NEWEST_LAYER \
	"(SELECT number FROM layers WHERE state<>0 ORDER BY commit_number DESC, length(chain) DESC LIMIT 1)"

/* For reading, so that nothing in the store changes: what is committed, also in the log. */
int check_db_read(struct check *c);
/* For repair: in its place. */
int check_db_write(struct check *c);
/* The file that is open, the store's or the copy: a descriptor for reading it, the caller's, or -errno. */
int check_db_file(struct check *c);
void check_db_close(struct check *c);
int check_db_commit(struct check *c);
/* -errno of a failed statement, said on stderr. */
int check_db_fail(struct check *c);
/* Calls each with all rows of a query, after the last was read: each may change the tables. */
int check_rows(struct check *c, const char *sql, int (*each)(struct check *c, sqlite3_value **v));
/* One number; `otherwise` when there is no row or it is NULL. */
int check_number(struct check *c, int64_t otherwise, int64_t *out, const char *sql, const char *fmt, ...);
/* Runs a statement on temp tables, also where nothing is repaired. */
int check_keep(struct check *c, const char *sql, const char *fmt, ...);
/* Repair: runs a statement that changes something, and notes `what` as done; NULL: nothing. */
int check_mend(struct check *c, const char *what, const char *sql, const char *fmt, ...);
#define check_change(c, ...) check_mend(c, NULL, __VA_ARGS__)

static inline int64_t check_int(sqlite3_value *v)
{
	return sqlite3_value_int64(v);
}

/* lost+found (lost.c); all for repair, no-ops otherwise. kind: enum array_kind of the class. */

/* Every name of ino goes to lost+found of its class, or it gets one there. */
int check_lose(struct check *c, int64_t ino, int64_t kind);
/* The same for one name only. */
int check_lose_name(struct check *c, int64_t cookie, int64_t ino, int64_t kind);
/* Has a file ever had this number? */
int check_was_given(struct check *c, int64_t ino, bool *out);
/* The row of a file that is known from its data only. ino 0: a new one, returned in *ino_out. */
int check_make_file(struct check *c, int64_t ino, int64_t kind, int64_t size, int64_t file, int64_t *ino_out);

/* The link count of ino is to be set without a word: a repair has changed its names. */
int check_touched(struct check *c, int64_t ino);

/* Files of the store (files.c). */

/* Copies bytes; -ENODATA when there are fewer. */
int check_copy_range(struct check *c, int from, uint64_t from_off, int to, uint64_t to_off, uint64_t len);
/* Copies a file of directory `from` into directory `to`, durably. */
int check_copy_file(struct check *c, int from, const char *name, int to, const char *newname);
/* The beginning of a small file, as text; free it. */
int check_read_text(struct check *c, const char *path, char **out);
/* A small file gets a new text at once: written to tmp, synced, renamed. The directory is not synced. */
int check_replace(struct check *c, const char *path, const char *tmp, const char *text);
int check_sync_dir(struct check *c, const char *path);
int check_defer(struct check *c, int (*run)(struct check *c, struct check_deferred *d), int64_t number, int64_t size);

/* Directories of the store (listing.c). */

/* Opens the directories on other disks, as the store's list has them (disks.c). -ENOENT and the like, said: one is not there. */
int check_disks_open(struct check *c);
/* Finds the store's uuid and format in its list of directories, and opens them. -ENOENT: there is no list. */
int check_disks_know(struct check *c);
/* Mark and list are lost. -ENOENT, said: meta.db names files that are not here, and may be in other directories. */
int check_disks_none(struct check *c);
void check_disks_close(struct check *c);
/* The directory that has the file pool/NN or layers/NNNNNNNN.zst; the store's own where none has it. */
int check_home_of(struct check *c, const char *path);
/* Is it in one of the store's directories? */
bool check_has(struct check *c, const char *path);
/* In how many directories it is, without those that are to be emptied. */
unsigned check_places_of(struct check *c, const char *path);
/* All of them as one, for reading. */
int check_disks_spread(struct check *c, struct io_dir **out);

/* Calls each with the names in a directory of the store, in all that the store has, sorted; -ENOENT. */
int check_list(struct check *c, const char *dir, int (*each)(struct check *c, void *ctx, const char *name), void *ctx);
/* A directory of files whose names are numbers from first to last, as number_of_name with this width. */
struct check_numbered {
	const char *dir, *table;
	bool told; /* a pass before has told what is no regular file */
	unsigned width;
	uint64_t first, last;
};
/* Makes the table (number INTEGER PRIMARY KEY, size INTEGER) of them; notes other files. */
int check_list_numbered(struct check *c, const struct check_numbered *of);

/* Passes. */
int check_pass_mark(struct check *c);
int check_pass_database(struct check *c);
int check_pass_schema(struct check *c);
int check_pass_types(struct check *c);
int check_pass_indexes(struct check *c);
int check_pass_facts(struct check *c);
int check_pass_inodes(struct check *c);
int check_pass_blobs(struct check *c);
int check_pass_xattrs(struct check *c);
int check_pass_extents(struct check *c);
int check_pass_pool(struct check *c);
int check_pass_columns(struct check *c);
int check_pass_layers(struct check *c);
int check_pass_log(struct check *c);
int check_pass_frames(struct check *c);
int check_pass_leftovers(struct check *c);
int check_pass_filters(struct check *c);
int check_pass_names(struct check *c);
int check_pass_tree(struct check *c);
int check_pass_links(struct check *c);
int check_pass_data(struct check *c);

/* Frees what the passes over layers have. */
void check_log_end(struct check *c);

#endif
