/*
 * The inside of views/, by rooms; each calls only those above it.
 */
#ifndef SPILLFS_TREE_VIEWS_PRIV_H
#define SPILLFS_TREE_VIEWS_PRIV_H

#include <assert.h>

#include "tree/inode.h"
#include "tree/inos.h"
#include "tree/live/live.h"
#include "tree/realm.h"
#include "tree/setting.h"
#include "tree/views/views.h"
#include "view/formats.h"

struct edit_bytes;

enum view_format { FORMAT_NPY, FORMAT_ZARR, FORMAT_ZARR2, FORMAT_PARQUET, FORMAT_ARROW, FORMAT_ZST, FORMAT_RUNS, FORMAT_N };

struct view_format_info {
	const char *name; /* of the directory below views/ */
	const char *suffix;
	unsigned kinds;   /* 1 << enum array_kind: of which arrays there are views */
	bool typed;       /* only arrays with an element type, and under a shortened name */
	bool tables;      /* directories are files too */
	bool framed;      /* sizes depend on how blocks are stored */
};
extern const struct view_format_info view_formats[FORMAT_N];

enum view_role {
	VIEW_TOP,    /* views/                       source: the root                  */
	VIEW_FORMAT, /* views/npy                    the same                          */
	VIEW_DIR,    /* views/npy/layers             source: the directory             */
	VIEW_FILE,   /* …/x.npy                      source: the array; sub: its name  */
	VIEW_TABLE,  /* …/dir.parquet                source: the directory             */
	VIEW_ARRAY,  /* …/x.zarr, runs of a bucket   source: the array; a directory    */
	VIEW_META,   /* …/x.zarr/zarr.json           sub: enum zarr_meta; index.u64: 0 */
	VIEW_GROUP,  /* …/dir/zarr.json              source: the directory; the same   */
	VIEW_CHUNKS, /* …/x.zarr/c/17                sub: depth << 56 | chunk          */
	VIEW_CHUNK,  /* …/x.zarr/c/17/0              sub: chunk                        */
	VIEW_RUN,    /* …/x/000000                   sub: run                          */
	VIEW_NEW,    /* …/x.npy that is being written; sub: a number of its own        */
};

/* The file beside the runs of a bucket that says where they begin. It is not listed: the entries are the runs. */
#define VIEWS_INDEX "index.u64"

struct view_key {
	uint64_t source, sub;
	enum view_role role;
	enum view_format format;
};

/* A view by what it shows. */
struct view_node {
	struct view_key key;
	struct inode *past; /* the source, held, if it is a file of a state */
	uint64_t dir;       /* FILE, NEW: directory of the array, and its name there */
	char *name;
	bool live;          /* to be laid out for opens that write in place */
};

struct view_inode {
	struct inode base;
	struct view_node node;
	atomic_bool written;     /* an upload has opened it: the kernel's size is the upload's, and readers are refused */
	atomic_bool superseded;  /* it shows an older version, or is written: lookups pass it by */
	_Atomic int64_t answered_ns; /* when it was found under its name last */
	/* RANK_ATTR */
	bool known;              /* the rest is about `version` of the sources */
	uint64_t version, hash, laid_bytes;
	struct tree_inos columns; /* of a table: at the last look */
	uint64_t told_bytes;     /* the size that the kernel was told last */
	uid_t told_uid;          /* and the owner */
	uint64_t seen, nseen;    /* the version of the sources that was seen last, and how often it has changed */
	struct stat source;      /* its attributes as seen last, for after it is gone; st_mode 0: never seen */
	struct upload *upload;   /* the upload that writes it; NEW: always */
	unsigned nlive;          /* opens that write in place; RANK_ICACHE */
	struct view_inode *next_written; /* in tree.written */
};

static inline struct view_inode *view_of(const struct inode *i)
{
	assert(i->realm->id == REALM_VIEWS);
	return (struct view_inode *)(uintptr_t)i;
}

/* Is the source of a state, and so immutable? */
static inline bool views_is_fixed(const struct tree *t, uint64_t source)
{
	return realm_of(t, source)->fixed;
}

static inline bool view_role_is_dir(enum view_role r)
{
	return r == VIEW_TOP || r == VIEW_FORMAT || r == VIEW_DIR || r == VIEW_ARRAY || r == VIEW_CHUNKS;
}

static inline enum zarr_version zarr_version(enum view_format f)
{
	return f == FORMAT_ZARR ? ZARR_V3 : ZARR_V2;
}

/* key.c. The key of the file of an array, which has this name. */
void views_file_key(enum view_format f, uint64_t source, uint64_t dir, const char *name, struct view_key *out);
/* The number of a key's first node (generation 0), which listings show, and those of its further nodes. A generation from VIEWS_APART
 * on belongs to one lookup alone. */
#define VIEWS_APART (1ull << 32)
uint64_t views_number_beside(const struct view_key *key, uint64_t generation);
uint64_t views_number(const struct view_key *key);

/* wish.c. A thread that is refused a file because it is open (views_part) gets a node of its own when it looks the file up again at
 * once, until it has opened that (views_parted). */
void views_part(struct tree *t, const struct view_key *key, pid_t thread);
void views_parted(struct tree *t, const struct view_key *key, pid_t thread);
bool views_is_alone(struct tree *t, const struct view_key *key, pid_t thread);

/* source.c. The inode of a source file, live or of a state, with one more reference. -ESTALE: it is gone. */
int views_source(struct tree *t, const struct view_node *n, struct inode **out);
int views_source_of(struct tree *t, uint64_t number, struct inode **out);
/* Loads a source directory of the live tree, with one more reference. NULL: it is of a state, and needs none. */
int views_hold_dir(struct tree *t, uint64_t number, struct inode **out);
void views_let_go_dir(struct inode *dir);

/* facts.c. An array as a format sees it. dtype is the caller's to free. */
struct view_facts {
	struct dtype *dtype; /* NULL: none */
	struct logical logical;
	struct shape shape;
	uint64_t count, size_bytes;
	uint8_t filter;        /* view/formats.h */
};
int views_facts(struct inode *i, struct view_facts *out);
/* Is there a view of an entry? */
bool views_shows_entry(enum view_format f, const struct realm_entry *e);

/* table.c. The arrays of a directory as columns of one table: equally long ones with a type. -ENOENT: they are none. */
struct view_columns {
	size_t n, cap;
	struct view_column {
		struct inode *inode; /* one reference */
		char *name;          /* of the column */
		size_t name_len;
	} *v;
};
int views_columns(struct tree *t, uint64_t dir, struct view_columns *out);
void views_columns_fini(struct view_columns *c);
/* One look at what a node's file shows. -ESTALE: it is gone. */
struct view_look {
	uint64_t version; /* another number for whatever else the file would show */
	struct view_columns columns; /* of a table; or none */
};
int views_look(struct tree *t, const struct view_node *n, struct view_look *out);
void views_look_end(struct view_look *l);

/* layout.c. Lays the node's file out as looked at; to be read (the sources are pinned), or only to know its size. */
int views_lay(struct tree *t, const struct view_node *n, const struct view_look *look, bool to_read, struct view **out);
/* Number of a directory of chunks' or of runs' entries. */
int views_children(struct inode *source, enum view_format f, uint64_t *n_out, struct view_facts *facts_out);

/* arrays.c. Looks a name up in a source directory. A file comes with a reference, *file_out; a directory without. */
int views_source_child(struct tree *t, uint64_t dir, const char *name, struct tree_attr *attr, struct inode **file_out);
/* The array that a view in this directory shows, by the view's name; and the array's own name. -ENOENT; -EROFS: a table. */
int views_find(struct tree *t, const struct view_key *dir, const char *name, char own[META_NAME_MAX + 1], struct inode **out);
/* The same by the name without the format's suffix. */
int views_find_array(struct tree *t, enum view_format f, uint64_t dir, const char *base, char name[META_NAME_MAX + 1],
		     struct inode **out);
/* Can `base` with the format's suffix be the name of a view: not too long, and no mirrored directory's? */
bool views_name_is_free(struct tree *t, enum view_format f, uint64_t dir, const char *base);
/* The name of the array's view without the format's suffix. False: another thing has all names that it could have. */
bool views_shown_name(struct tree *t, enum view_format f, uint64_t dir, const char *name, char out[META_NAME_MAX + 1]);
/* The name without the suffix; false: it has another. */
bool views_strip(const char *name, const char *suffix, char out[META_NAME_MAX + 1]);
/* An array may be replaced between the search for it and the look at it; then the search is repeated, so often at most. */
#define VIEWS_REPLACED_TRIES 100
/* The array that has the name of a VIEW_FILE's array at this moment, with one more reference. -ESTALE: no array that is shown has it, or
 * one with other permissions than the kernel was told of i. */
int views_now(struct inode *i, struct inode **out);
bool views_same_access(const struct stat *a, const struct stat *b);

/* inplace.c. An open that writes in place begins and ends; is there one? */
void views_enter_live(struct inode *i);
void views_leave_live(struct inode *i);
bool views_is_live(struct inode *i);
/* Elements of the array of an open view; bytes of the header as they are. After an error, b holds what is not in. -EINVAL: another
 * header; -EFBIG: behind the end. */
int views_write(struct inode *i, struct edit_bytes *b, const struct tree_caller *who);
/* The same for elements of an array of which the kernel knows by other names. -EFBIG. */
int views_write_array(struct inode *i, struct edit_bytes *b, const struct tree_caller *who);

/* attr.c. The attributes of what a node shows. look NULL: it is gone. -ESTALE. */
int views_source_attr(struct tree *t, const struct view_node *n, const struct view_look *look, struct tree_attr *out);
/* As views_getattr, of what was looked at (NULL: it is gone). */
int views_attr(struct inode *i, const struct view_look *look, struct tree_attr *out);
/* A version of its sources has been seen. attr is held. */
void views_note_version_locked(struct view_inode *n, uint64_t version);
/* The size that a lookup or getattr has given last. */
uint64_t views_told(struct inode *i);

/* open.c. begin pins what a view shows, with no lock held, for what is let go may have to be deleted; end makes it the inode's
 * array, whose lock is held exclusively; if that has one already, it needs no begin. -ESTALE: another is to be looked up; -EAGAIN:
 * to begin again with the same struct (zeroed at first), for somebody has seen newer sources. The caller closes the array that is
 * left afterwards, with no lock held. */
struct view_opening {
	pid_t thread;        /* that opens it */
	bool live;           /* to be written in place: the array itself instead of a pin */
	struct array *array; /* NULL: nothing is left */
	uint64_t version, hash, nseen;
	unsigned ntries;
	struct stat source;
};
int views_open_begin(struct inode *i, struct view_opening *out);
int views_open_end(struct inode *i, struct view_opening *o);

/* node.c. The inode of a view as the answer to a lookup, which it counts. */
int views_answer(struct tree *t, const struct view_key *key, uint64_t dir, const char *name, const struct tree_caller *who,
		 struct tree_attr *out);

/* edit.c. The array or directory whose attributes are a view's, with one more reference. -EROFS; -EOPNOTSUPP: an upload that has
 * not got one yet. */
int views_target(struct tree *t, uint64_t ino, struct inode **out);
/* 0, or -EROFS: it is no view through which its array is written. */
int views_may_write(struct inode *i);

#endif
