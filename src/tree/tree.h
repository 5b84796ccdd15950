/*
 * The tree: inodes, names, attributes and open files. Everything that front/ calls is here, in terms of
 * inode numbers; permissions are the kernel's (default_permissions).
 *
 * An inode that was handed to the kernel (by a function that says "counts a lookup") stays known until
 * tree_forget has taken the count back.
 *
 * Every function may block on the locks named in util/lock.h and on I/O. Writes and truncations may
 * also wait for the dirty budget, and for a commit when space has to be freed first.
 */
#ifndef SPILLFS_TREE_TREE_H
#define SPILLFS_TREE_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>

#include "io/lease.h"

struct store;
struct tree;
struct tree_file;
struct inode;

struct tree_caller {
	uid_t uid;
	gid_t gid;
	pid_t thread; /* 0: not known */
	mode_t umask; /* taken from the mode of what is made, where its directory has no default ACL */
};

/* How long the kernel may keep the attributes, and the name by which they were looked up, without asking again. */
struct tree_attr {
	struct stat st;
	unsigned attr_ms, name_ms;
};
#define TREE_KEEP_MS 86400000u /* for facts that change only through the kernel, or of whose changes it is told */
/* st_blocks of a file whose bytes are counted elsewhere, or are in the kernel's cache alone. From 0 blocks tar and cp conclude
 * that all of a file is a hole; from too few they ask SEEK_DATA. */
#define TREE_BLOCKS_LEAST 1
/* st_blksize. Clients take a buffer of this size for each open file, and fill it after each seek: a merge has hundreds. */
#define TREE_IO_BYTES 4096

int tree_open(struct store *s, struct tree **out);
/* Gives the tree the folder scratch/, over a scratch store (store_config.scratch and .above) that outlives it. Before the tree is used. */
int tree_add_scratch(struct tree *t, struct store *s);
/* Forgets everything and commits. The kernel must have ended its use of the mount. */
void tree_close(struct tree *t);
/* Makes everything durable, but what is scratch. */
int tree_sync(struct tree *t);
/* The same for fsync of ino: 0 at once if that is scratch. */
int tree_sync_of(struct tree *t, uint64_t ino);
int tree_commit(struct tree *t, uint64_t *newest_layer_out, bool *sealed_out);
/* For spillctl. compact: with `start` begins a compaction; *out is the one that runs, or the last one. -EROFS: a follower. */
struct spillfs_info;
struct spillfs_compact;
struct spillfs_drain;
void tree_info(struct tree *t, struct spillfs_info *out);
int tree_compact(struct tree *t, bool start, struct spillfs_compact *out);
/* drain: with in->start begins to empty a directory; *out is how far that is (store/disks.h). */
int tree_drain(struct tree *t, const struct spillfs_drain *in, struct spillfs_drain *out);
/* Calls use with a descriptor on the store's file system, open for as long: its result, or -EOPNOTSUPP where there is none. */
int tree_lend_store(struct tree *t, int (*use)(void *ctx, int fd), void *ctx);

/* The kernel keeps the size of a file that it knows, whatever it is told (its writeback cache): a view of another size has to
 * be another inode. Before any name is looked up. */
void tree_sizes_stick(struct tree *t);
/* The kernel checks POSIX ACLs, and leaves the umask to the tree; otherwise they are refused. Before any name is looked up. */
void tree_keep_acls(struct tree *t);
/* Sets how many threads serve the kernel's requests. Before the call no operation waits for space that another request frees. */
void tree_served_by(struct tree *t, unsigned nthreads);

/* Callbacks for what the kernel has to forget, because it changed by another name than the one that the kernel used. They are called
 * while an operation runs, perhaps with locks held; the kernel must have forgotten it when the operation is answered. */
struct tree_changes {
	void (*name)(void *ctx, uint64_t parent, const char *name);
	void (*attr)(void *ctx, uint64_t ino);
	/* len 0: to the end. then (may be NULL) is called once, by any thread, when they are forgotten and before the answer. */
	void (*pages)(void *ctx, uint64_t ino, uint64_t off, uint64_t len, void (*then)(void *ctx), void *then_ctx);
	void *ctx;
};
void tree_on_changes(struct tree *t, const struct tree_changes *c);
/* Passthrough: what lets the kernel read, write and map a file of the store by itself. */
struct tree_passthrough {
	int (*open)(void *ctx, int fd, uint32_t *id_out); /* NULL: it cannot */
	void (*close)(void *ctx, uint32_t id);
	void *ctx;
	const char *why; /* a static string: why it can, or not */
};
void tree_on_passthrough(struct tree *t, const struct tree_passthrough *p);
/* Why no column could be passed through, as far as the store knows (a static string); NULL: some could. */
const char *tree_why_no_passthrough(struct tree *t);

/* Names. lookup, make and link count a lookup of the inode in out. who (may be NULL): the next lookup by a thread that was
 * refused a view, because others have it open, gets another inode. */
int tree_lookup(struct tree *t, uint64_t parent, const char *name, const struct tree_caller *who, struct tree_attr *out);
/* True: names of this directory come and go by the kernel alone, or it is told (tree_on_changes), so that it may keep absent ones. */
bool tree_names_settled(struct tree *t, uint64_t parent);
void tree_forget(struct tree *t, uint64_t ino, uint64_t nlookup);
/* Directories that are made in this one are snapshots. */
bool tree_takes_snapshots(uint64_t dir);
/* mode has the file type; target is for symbolic links. */
int tree_make(struct tree *t, uint64_t parent, const char *name, mode_t mode, dev_t rdev, const char *target,
	      const struct tree_caller *who, struct tree_attr *out);
/* A regular file that is opened at once: as tree_make, and in views/npy an array that is to be written. */
int tree_create(struct tree *t, uint64_t parent, const char *name, mode_t mode, const struct tree_caller *who,
		struct tree_attr *out);
int tree_link(struct tree *t, uint64_t ino, uint64_t parent, const char *name, struct tree_attr *out);
/* who: for views, of whose names the kernel cannot know what they stand for when they are removed; NULL: all is one owner's. */
int tree_unlink(struct tree *t, uint64_t parent, const char *name, const struct tree_caller *who);
int tree_rmdir(struct tree *t, uint64_t parent, const char *name);
/* flags: RENAME_NOREPLACE, RENAME_EXCHANGE. -EXDEV between storage classes. */
int tree_rename(struct tree *t, uint64_t parent, const char *name, uint64_t newparent, const char *newname,
		unsigned flags, const struct tree_caller *who);
int tree_readlink(struct tree *t, uint64_t ino, char **out); /* malloc'd */

/* Directories: entries behind `cookie` (0: from the start), at most max; 0 at the end. With count, each
 * inode gets a lookup and attributes. "." and ".." are included, uncounted. A walk of an open directory, from cookie 0 on, ends
 * with what was there at its start, and gives each entry that stays exactly once, also if it is renamed in the directory. */
struct tree_dirent {
	uint64_t cookie;
	bool counted;
	struct tree_attr attr;
	char name[256];
};
struct tree_dir;
int tree_dir_open(struct tree *t, struct tree_dir **out);
void tree_dir_release(struct tree *t, struct tree_dir *d);
int tree_dir_read(struct tree *t, struct tree_dir *d, uint64_t ino, uint64_t cookie, bool count, struct tree_dirent *v,
		  size_t max, size_t *n_out);

/* Attributes. */
#define TREE_SET_MODE 0x01u
#define TREE_SET_UID 0x02u
#define TREE_SET_GID 0x04u
#define TREE_SET_SIZE 0x08u
#define TREE_SET_ATIME 0x10u
#define TREE_SET_MTIME 0x20u
#define TREE_SET_ATIME_NOW 0x40u
#define TREE_SET_MTIME_NOW 0x80u
#define TREE_SET_CTIME 0x100u
int tree_getattr(struct tree *t, uint64_t ino, struct tree_attr *out);
/* Is it below views/? */
bool tree_is_view(uint64_t ino);
/* The number that programs are shown as st_ino. The kernel may know one view by several numbers, one for each version that is open, but
 * programs see one file. */
uint64_t tree_shown_ino(struct tree *t, uint64_t ino);
/* f: the open file by which it is asked for, or NULL. */
struct tree_file;
int tree_setattr(struct tree *t, uint64_t ino, unsigned set, const struct stat *st, const struct tree_caller *who, struct tree_file *f,
		 struct tree_attr *out);
/* A shared mapping may have changed pages that the kernel has not written back. An answer that depends on them, or on
 * their not coming later (SEEK_HOLE, utimens), has them written back first. */
bool tree_may_have_dirty_pages(struct tree *t, uint64_t ino);
/* May the kernel have kept attributes of the file from before? False where each answer was that it must not, since a change of
 * the file that was answered. */
bool tree_attr_kept(struct tree *t, uint64_t ino);
/* As seen from ino: scratch/ has space of its own. */
int tree_statfs(struct tree *t, uint64_t ino, struct statvfs *out);

/* Extended attributes. get: *out is malloc'd. list: names, each with its NUL. */
int tree_getxattr(struct tree *t, uint64_t ino, const char *name, void **out, size_t *len_out);
/* who: for a POSIX ACL, which changes the mode as a chmod by the caller does. -EOPNOTSUPP: none are kept. */
int tree_setxattr(struct tree *t, uint64_t ino, const char *name, const void *value, size_t len, int flags, const struct tree_caller *who);
int tree_listxattr(struct tree *t, uint64_t ino, char **out, size_t *len_out);
int tree_removexattr(struct tree *t, uint64_t ino, const char *name, const struct tree_caller *who);

/* Open files. flags as open(2); O_TRUNC truncates. info->direct is in and out: may the file bypass the
 * kernel's cache, does it. */
struct tree_file_info {
	bool direct;     /* nobody can map it: the kernel need not cache */
	bool maps;       /* in: one that bypasses the cache can be mapped all the same */
	bool keep_cache; /* cached pages are still right */
	uint32_t backing; /* out: the kernel passes the file through to this backing, or with `direct` only its maps; 0: it does not */
	bool new_attr;   /* out: attributes are others than were told last; the kernel must not keep those */
};
int tree_file_open(struct tree *t, uint64_t ino, int flags, const struct tree_caller *who, struct tree_file **out,
		   struct tree_file_info *info);
void tree_file_release(struct tree_file *f);

/* A read in parts: begin borrows, end returns; between them the inode is locked shared. The file may be
 * released in between: once a reader has its answer it may close. flags: the handle's of this moment, as open(2). */
#define TREE_READ_PARTS 64u
struct tree_read {
	struct inode *inode;
	unsigned how; /* for lease_copy */
	unsigned n;
	struct lease part[TREE_READ_PARTS];
	void *buf; /* where the parts were too many */
	size_t buf_bytes;
};
/* Before a read(2) of them, but not for the pages of a map: a handle that consumes frees what is behind it (live/consume.h). */
void tree_consume(struct tree_file *f, uint64_t off, size_t len);
int tree_read_begin(struct tree_file *f, uint64_t off, size_t len, int flags, struct tree_read *out);
void tree_read_end(struct tree_read *r);

struct tree_write_how {
	int flags;       /* the handle's of this moment, as open(2) */
	bool direct;     /* around the kernel's cache, by whatever handle */
	bool keep_times; /* the kernel keeps the times and sends them */
	bool whole;      /* no space for all is an error; else only if there is none at all */
	const struct tree_caller *who; /* NULL: the kernel writes back what it has cached, whoever changed that */
};
/* *n_out: the bytes at the beginning that are in. */
int tree_write(struct tree_file *f, const void *buf, size_t len, uint64_t off, const struct tree_write_how *how, size_t *n_out);
/* A name that has changed without the kernel's doing. parent 0: none. */
struct tree_named {
	uint64_t parent;
	char name[256];
};
/* A name that the kernel should be asked to forget, because the inodes that it remembers take too much; false: none. Runs
 * statements. */
bool tree_forgettable(struct tree *t, struct tree_named *out);
/* At each close of a descriptor of f, and fsync: what is closed must be whole, if f has to be something (-EINVAL), and a writer
 * is told of pages that the kernel wrote back in vain. */
int tree_flush(struct tree_file *f, bool closing);
int tree_fallocate(struct tree_file *f, int mode, uint64_t off, uint64_t len, const struct tree_caller *who);
/* whence: SEEK_DATA or SEEK_HOLE. */
int tree_seek(struct tree_file *f, uint64_t off, int whence, uint64_t *out);
/* The stored blocks of a layered array from block `first` on; -ENOTTY for other files. */
struct spillfs_blocks;
int tree_blocks(struct tree_file *f, uint64_t first, struct spillfs_blocks *out);
/* A run boundary at the present end of a bucket (array/runs.h). -EOPNOTSUPP: it is none; -EROFS. The kernel has no dirty pages
 * of the file. */
struct spillfs_mark;
int tree_mark(struct tree *t, uint64_t ino, struct spillfs_mark *out);
/* The same of an open file; -EBADF: it is not open for writing. */
int tree_file_may_mark(const struct tree_file *f);
int tree_copy(struct tree_file *in, uint64_t off_in, struct tree_file *out, uint64_t off_out, size_t len,
	      const struct tree_caller *who, size_t *n_out);

#endif
