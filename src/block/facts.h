/*
 * The facts of a file or directory: what stat says of it, and where its data is. One struct, whether they come from a row of meta.db
 * (store/meta.h), from a record of a layer (block/index.h), or are those of a known inode (tree/inode.h).
 */
#ifndef SPILLFS_BLOCK_FACTS_H
#define SPILLFS_BLOCK_FACTS_H

#include <stdint.h>

struct facts {
	uint64_t ino;
	uint32_t kind; /* enum array_kind; a directory's: the class of what is made in it */
	uint32_t mode, nlink, uid, gid;
	uint64_t rdev;
	uint64_t size_bytes, stored_bytes;
	uint64_t file_id; /* columns: number of the physical file, 0: inline */
	uint64_t parent;  /* directories: inode number of the parent; else 0 */
	int64_t atime_ns, mtime_ns, ctime_ns, btime_ns;
};

#endif
