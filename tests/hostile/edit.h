/*
 * What an enemy does to a store: a few random edits, all from one seed. Checksums are put right again, so that an edit is not found by
 * them alone.
 */
#ifndef SPILLFS_TESTS_HOSTILE_EDIT_H
#define SPILLFS_TESTS_HOSTILE_EDIT_H

#include "chance.h"
#include "image.h"

/* What was done, for people: one line. */
struct edit_story {
	char text[2048];
};

void edit_store(struct image *im, struct chance *c, struct edit_story *story);
/* One statement on meta.db, with its checksums; false: it has failed. */
bool edit_sql(struct image *im, const char *sql);

/* layer_edit.c: an edit of what the index, or the last segment, of a layer file says. False: the file has none. */
bool edit_layer(struct image *im, struct image_file *f, struct chance *c, struct edit_story *story);

void edit_tell(struct edit_story *story, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
