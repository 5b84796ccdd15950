/*
 * The classes: folders of the root, each for the arrays of one kind. This is the one table of them.
 *
 * Numbers of inodes and kinds are stored, and never change. A new class takes a number between those of control files
 * (tree/realm.h) and META_INO_FIRST.
 */
#ifndef SPILLFS_STORE_CLASSES_H
#define SPILLFS_STORE_CLASSES_H

#include <stdbool.h>
#include <stdint.h>

#include "block/format.h"

struct class {
	uint64_t ino;
	enum array_kind kind;
	const char *name;      /* of the folder */
	const char *kind_name; /* of an array in it */
	bool logged;           /* the log of layers has its names and facts */
};

#define CLASSES_N 3
/* In the order of their listing. */
extern const struct class classes[CLASSES_N];

/* NULL: the inode is no class; no class has arrays of that kind. */
const struct class *class_by_ino(uint64_t ino);
const struct class *class_by_kind(uint64_t kind);
const struct class *class_by_kind_name(const char *kind_name);
bool class_is_logged(uint64_t kind);

#endif
