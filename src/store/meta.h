/*
 * Metadata: the SQLite database meta.db (WAL mode), one connection behind one lock. Many operations
 * share one transaction, which commit.c ends; reads see the open transaction.
 *
 * All functions named _locked are called between meta_lock and meta_unlock (RANK_META). COMMIT only
 * appends to the write-ahead log (synchronous=OFF); meta_sync makes the log durable afterwards, without
 * the lock, so that no lookup waits for the disk. The exceptions are a log of over 64 MiB, which COMMIT
 * folds into the database and cuts, and a database of which most is unused: if at most 64 MiB are in use, COMMIT makes it
 * smaller; otherwise opening or closing it does.
 *
 * A write statement that fails (I/O error) leaves the transaction in doubt: meta_failed is set, COMMIT is refused from then on and the
 * store turns read-only. A full disk fails none: statements stay in memory until the log has room for them.
 */
#ifndef SPILLFS_STORE_META_H
#define SPILLFS_STORE_META_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/extent.h"
#include "block/facts.h"

struct io_dir;
struct meta;

#define META_NAME_MAX 255

/* Fixed inode numbers; those of files begin at META_INO_FIRST. */
enum meta_ino { META_INO_ROOT = 1, META_INO_BUCKETS = 2, META_INO_COLUMNS = 3, META_INO_LAYERS = 4, META_INO_FIRST = 64 };
#define META_INO_END (1ull << 56) /* none is as high; the tree uses those above */
/* Beside another store, a scratch store has all of its numbers above this (meta_number_above). */
#define META_INO_SCRATCH (1ull << 60)

/* Contents of a blob row. */
enum meta_blob { META_BLOB_SYMLINK = 1, META_BLOB_INLINE = 2, META_BLOB_RUNS = 3, META_BLOB_PROMISED = 4, META_BLOB_RESERVED = 5, META_BLOB_RUNS_MORE = 16 };
/* Run boundaries lie in pieces of so many: the first one is META_BLOB_RUNS, piece k > 0 is META_BLOB_RUNS_MORE + k. */
#define META_RUNS_PIECE 128u

/* Opens or makes meta.db in dir, which outlives it. -EUCLEAN (logged) when the database is damaged, -EBUSY when another program has
 * it. */
int meta_open(struct io_dir *dir, struct meta **out);
/* An open transaction is rolled back. */
void meta_close(struct meta *m);

/* All numbers of inodes, the fixed ones too, are above this, and the lock is RANK_META_SCRATCH. Before a new database is used. */
void meta_number_above(struct meta *m, uint64_t base);

/* m may be NULL here: a follower has no database, and nothing to lock. */
void meta_lock(struct meta *m);
void meta_unlock(struct meta *m);

/* So much of a transaction is in memory (more, while the log gets no room), and so much of the log is not yet in the database; before
 * anything is written. */
int meta_bound(struct meta *m, uint64_t cache_bytes, uint64_t log_bytes);
/* Bytes that the transaction has still to write into the log, and that the database's file will grow by when the log is folded.
 * Any thread, without the lock. */
uint64_t meta_growth(struct meta *m);

/* The number of extents that one transaction may delete, and that the open one may delete still. SQLite logs each page that has lost a
 * row, also one that is unused afterwards: with more its log could get too long. */
size_t meta_extents_max(const struct meta *m);
size_t meta_extents_left_locked(const struct meta *m);

/* Bytes that the log has room for already, for what is to be written into it. Any thread, without the lock. */
uint64_t meta_log_left(struct meta *m);

/* Work for after the commit that makes it safe; embedded in an owner, freed by run. Not durable: that commit has failed for
 * good, and run only lets go of what it holds. */
struct meta_deferred {
	void (*run)(struct meta_deferred *d, bool durable);
	struct meta_deferred *next;
};
/* Has d run after the transaction that is open now is durable. The caller has written the rows that free the thing in the same
 * critical section. */
void meta_defer_locked(struct meta *m, struct meta_deferred *d);
/* All that has been deferred so far, in that order: the commit thread runs each once. */
struct meta_deferred *meta_take_deferred_locked(struct meta *m);

/* The transaction. meta_pending_locked: something waits for a commit. commit: -ENOSPC, and the transaction is open as before, if the
 * log cannot have the room that it needs. */
bool meta_pending_locked(struct meta *m);
int meta_commit_locked(struct meta *m);
/* Between transactions: the log goes into the database and gives its space back. Without space for that it stays; in a
 * transaction it does, too. */
int meta_fold_locked(struct meta *m);
/* The same, and unused pages at the end of the file are given back, after what is there has been moved. Slow. */
int meta_trim_locked(struct meta *m);
int meta_sync(struct meta *m);
bool meta_failed(struct meta *m);

/* Small facts about the store, by key. -ENOENT. */
int meta_fact_get_locked(struct meta *m, const char *key, int64_t *out);
int meta_fact_set_locked(struct meta *m, const char *key, int64_t value);

/* A type of file, and permissions: what a row, or a record of a layer, may have. */
bool meta_is_mode(uint64_t mode);

/* Inode rows. Numbers are never given twice. Rows that say what no inode can be are -EUCLEAN, and left out of walks. */
int meta_inode_next_locked(struct meta *m, uint64_t *ino_out);
/* ino, and all below it, have been given. */
void meta_inode_reserve_locked(struct meta *m, uint64_t ino);
int meta_inode_load_locked(struct meta *m, uint64_t ino, struct facts *out); /* -ENOENT */
/* Inserts the row, or replaces it whole. */
int meta_inode_store_locked(struct meta *m, const struct facts *in);
/* Makes the root and the classes (store/classes.h), and their names, where they are missing. */
int meta_roots_locked(struct meta *m);
/* Makes the root alone, as a directory of files, which anybody may make. */
int meta_scratch_root_locked(struct meta *m);
/* Only what namespace operations change, so that it commits with the names: sizes stay as staged. */
int meta_inode_relink_locked(struct meta *m, uint64_t ino, uint32_t nlink, uint64_t parent, int64_t ctime_ns);
/* The row and all that hangs on it except names. */
int meta_inode_delete_locked(struct meta *m, uint64_t ino);
/* The first inode above `after` without a name (left by a crash); out->ino 0: there is none. */
int meta_inode_orphan_after_locked(struct meta *m, uint64_t after, struct facts *out);
/* The same of those with a name of one kind. */
int meta_inode_kind_after_locked(struct meta *m, uint32_t kind, uint64_t after, struct facts *out);
/* The same of those with a name that have extents behind their size: META_FACT_CUTTING. */
int meta_inode_cut_after_locked(struct meta *m, uint64_t after, struct facts *out);
int meta_inode_count_locked(struct meta *m, uint64_t *out);
/* Is there an inode with this column file? */
int meta_column_exists_locked(struct meta *m, uint64_t file_id, bool *out);

/* Bytes of an inode, by its rows. */
struct meta_use {
	uint64_t ino;
	uint32_t mode, nlink;
	uint64_t size_bytes, stored_bytes, promised_bytes;
};
/* The directory `top`, and each inode that is below it by a name, once, but no directory that has one of the two attributes, and nothing
 * that has names below such directories alone. each as in meta_name_walk_locked; it may run other statements. */
int meta_tree_walk_locked(struct meta *m, uint64_t top, const char *const xattrs[2], int (*each)(void *ctx, const struct meta_use *u), void *ctx);
/* The sums of all regular files. */
int meta_tree_sum_locked(struct meta *m, struct meta_use *out);
/* The sum of what is promised of one inode. */
int meta_promised_of_locked(struct meta *m, uint64_t ino, uint64_t *out);
/* The first inode above `after` that has one of the two attributes; 0: there is none. */
int meta_xattr_owner_after_locked(struct meta *m, const char *const xattrs[2], uint64_t after, uint64_t *out);
/* Set when an inode is given an attribute that these look for: a quota; that it is not durable. */
#define META_FACT_QUOTAS "quotas"
#define META_FACT_SHELVES "shelves"

/* Names: blobs of 1..255 bytes. */
int meta_name_find_locked(struct meta *m, uint64_t parent, const char *name, uint64_t *ino_out); /* -ENOENT */
int meta_name_insert_locked(struct meta *m, uint64_t parent, const char *name, uint64_t ino); /* -EEXIST */
/* An existing entry stands for another inode, or gets another name, and keeps its cookie. -ENOENT. */
int meta_name_point_locked(struct meta *m, uint64_t parent, const char *name, uint64_t ino);
int meta_name_move_locked(struct meta *m, uint64_t parent, const char *name, const char *newname);
int meta_name_delete_locked(struct meta *m, uint64_t parent, const char *name);
int meta_name_empty_locked(struct meta *m, uint64_t parent, bool *out);
/* Entries with a cookie above `after`, in cookie order; cookies never change while the entry lives. A
 * non-zero return of each ends the walk and is returned if negative. Each must not write. */
int meta_name_walk_locked(struct meta *m, uint64_t parent, uint64_t after,
			  int (*each)(void *ctx, uint64_t cookie, const char *name, uint64_t ino), void *ctx);
/* The highest cookie that any entry has, 0 if there is none. */
int meta_name_last_locked(struct meta *m, uint64_t *out);
/* The same with facts of the inode, and the value of an attribute (NULL: it has none). */
struct meta_entry {
	uint64_t cookie, ino;
	const char *name;
	uint32_t kind, mode, nlink;
	const void *xattr;
	size_t xattr_len;
};
int meta_entry_walk_locked(struct meta *m, uint64_t parent, uint64_t after, const char *xattr,
			   int (*each)(void *ctx, const struct meta_entry *e), void *ctx);
/* Those whose names are `stem`, or begin with it and a dot. */
int meta_entry_stem_locked(struct meta *m, uint64_t parent, const char *stem, const char *xattr,
			   int (*each)(void *ctx, const struct meta_entry *e), void *ctx);
/* The oldest name of ino, and the directory that it is in (NULL: not wanted). -ENOENT. */
int meta_name_of_locked(struct meta *m, uint64_t ino, uint64_t *parent_out, char name[META_NAME_MAX + 1]);
/* One path of ino relative to the directory `top`, "" for top itself. -ENOENT, -ENAMETOOLONG. */
int meta_path_locked(struct meta *m, uint64_t top, uint64_t ino, char *out, size_t cap);

/* Blobs. get: *out is malloc'd with a NUL behind it. -ENOENT. set with len 0 and p NULL deletes. */
int meta_blob_get_locked(struct meta *m, uint64_t ino, enum meta_blob what, void **out, size_t *len_out);
int meta_blob_set_locked(struct meta *m, uint64_t ino, enum meta_blob what, const void *p, size_t len);

/* Set before a commit that leaves extents behind the size of a bucket, for the next ones to delete. */
#define META_FACT_CUTTING "cutting"

/* Set when a blob of promised ranges is: pairs of offset and length, uint64_t. */
#define META_FACT_PROMISED "promised"
/* The sum of their lengths. */
int meta_promised_locked(struct meta *m, uint64_t *out);

/* Extended attributes, full names. get as meta_blob_get, -ENODATA. remove: -ENODATA. */
int meta_xattr_get_locked(struct meta *m, uint64_t ino, const char *name, void **out, size_t *len_out);
int meta_xattr_set_locked(struct meta *m, uint64_t ino, const char *name, const void *p, size_t len);
int meta_xattr_remove_locked(struct meta *m, uint64_t ino, const char *name);
int meta_xattr_walk_locked(struct meta *m, uint64_t ino,
			   int (*each)(void *ctx, const char *name, const void *value, size_t len), void *ctx);

/* All run boundaries of a bucket; *out is malloc'd, or NULL where there are none. *whole: each piece but the last is full. */
int meta_runs_load_locked(struct meta *m, uint64_t ino, uint64_t **out, size_t *n_out, bool *whole);
/* They are these n; those before v[from] are stored already. */
int meta_runs_set_locked(struct meta *m, uint64_t ino, const uint64_t *v, size_t n, size_t from);

/* Extents. replace: the rows with file offsets in [from, to) become those that the map has there; cut: they go. */
int meta_extents_load_locked(struct meta *m, uint64_t ino, struct extent_map *out);
int meta_extents_replace_locked(struct meta *m, uint64_t ino, const struct extent_map *map, uint64_t from_bytes, uint64_t to_bytes);
int meta_extents_cut_locked(struct meta *m, uint64_t ino, uint64_t from_bytes, uint64_t to_bytes);
int meta_extents_walk_locked(struct meta *m, int (*each)(void *ctx, const struct extent *e), void *ctx);

/* Layers. */
enum meta_layer_state { META_LAYER_OPEN = 0, META_LAYER_DELTA = 1, META_LAYER_FULL = 2 };

/* A list of layer numbers, malloc'd. */
struct meta_numbers {
	uint64_t *v;
	size_t n;
};

struct meta_layer {
	uint64_t number;
	uint32_t state;        /* enum meta_layer_state */
	uint64_t bytes;        /* committed length of the file */
	uint64_t segment_off;  /* open layer: its last segment */
	uint64_t live_bytes;   /* stored bytes that a live array still points to */
	uint64_t raw_bytes, stored_bytes; /* sealed: of the blocks in it, decoded and as frames */
	uint64_t arrays;       /* sealed: files that it changes */
	uint64_t commit;
	int64_t time_ns;
	struct meta_numbers chain; /* sealed: the layers whose replay gives its state, itself last */
	struct meta_numbers refs;  /* full: the layers that its entries point into, rising */
};
int meta_layer_put_locked(struct meta *m, const struct meta_layer *in);
int meta_layer_delete_locked(struct meta *m, uint64_t number);
/* each takes the two lists over. */
int meta_layer_walk_locked(struct meta *m, int (*each)(void *ctx, const struct meta_layer *in), void *ctx);

/* Snapshots: names of sealed layers. */
int meta_snapshot_put_locked(struct meta *m, const char *name, uint64_t layer, int64_t time_ns);
int meta_snapshot_delete_locked(struct meta *m, const char *name);
int meta_snapshot_walk_locked(struct meta *m, int (*each)(void *ctx, const char *name, uint64_t layer, int64_t time_ns),
			      void *ctx);

#endif
