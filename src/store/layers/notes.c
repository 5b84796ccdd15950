/*
 * Notes: facts, deletions and names that the tree gives to the log, until they are written as a segment.
 *
 * Invariants:
 *  1. A note is made in the transaction that has the rows it speaks of.
 *  2. Notes that wait for another segment (of columns) are known to be lost after a crash, or for want of space: `logged` is
 *     then not the last commit.
 */
#include <errno.h>
#include <string.h>

#include "store/layers/inside.h"
#include "store/store.h"

#define NOTE_BYTES 192u

/* Where a note waits. */
static struct index *waiting(struct layers *ls, bool later)
{
	return later ? &ls->later : &ls->pending;
}

/* A note needs so much of a segment, at most. */
static void owe(struct layers *ls, bool later, uint64_t bytes)
{
	bytes += NOTE_BYTES;
	store_owe_data(ls->store, bytes);
	if (later)
		ls->later_owed += bytes;
	else
		ls->pending_owed += bytes;
}

int layers_note_inode_locked(struct layers *ls, const struct index_record *facts, bool later, struct index_record **out)
{
	struct index_record *r;
	int err = index_add(waiting(ls, later), facts->facts.ino, &r);

	if (!err)
		err = index_record_set_facts(r, facts);
	if (err)
		return err;
	owe(ls, later, strlen(facts->path) + facts->xattrs_len + facts->data_len);
	if (out)
		*out = r;
	return 0;
}

int layers_note_gone_locked(struct layers *ls, uint64_t ino, bool later)
{
	struct index_record *r;
	int err = index_add(waiting(ls, later), ino, &r);

	if (!err) {
		index_record_gone(r);
		owe(ls, later, 0);
	}
	return err;
}

int layers_note_name(struct layers *ls, uint64_t parent, const char *name, uint64_t ino, bool later)
{
	int err;

	lock_acquire(&ls->lock);
	err = index_name_put(waiting(ls, later), parent, name, ino);
	if (!err)
		owe(ls, later, strlen(name));
	lock_release(&ls->lock);
	return err;
}

int layers_lost_notes_locked(struct layers *ls, bool *lost)
{
	struct meta *m = ls->store->meta;
	int64_t commit = 0, logged = 0;
	int err = meta_fact_get_locked(m, "commit", &commit);

	if (!err || err == -ENOENT)
		err = meta_fact_get_locked(m, "logged", &logged);
	if (err && err != -ENOENT)
		return err;
	*lost = commit != logged;
	return 0;
}
