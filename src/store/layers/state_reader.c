/*
 * Reading states from begin to end.
 *
 * Invariants: (1) `record` and `name` of a source are its first that was not taken yet; (2) what is taken is the least of them,
 * and all that are equal go with it, the oldest layer first.
 */
#include "store/layers/state_reader.h"

#include <errno.h>
#include <stdlib.h>

#include "block/layer.h"
#include "store/layers/held.h"
#include "store/layers/inside.h"

struct source {
	struct layers_slot *slot;
	struct index_reader *reader;
	struct index_record *record; /* NULL: no more */
	struct index_name name;      /* name NULL: no more */
};

struct state_reader {
	struct layers *ls;
	struct held *held; /* the layers of the sources */
	struct source *v; /* in the order of the chain */
	size_t n;
	bool names; /* the records are over */
};

static int hold_locked(struct state_reader *r)
{
	const struct layers_slot *newest = r->ls->newest;
	struct layers_slot **chain;
	int err = newest ? held_add_chain_locked(r->held, &newest->row.chain, false, &chain) : -ENOENT;

	if (err)
		return err;
	r->v = calloc(newest->row.chain.n, sizeof(*r->v));
	for (size_t k = 0; r->v && k < newest->row.chain.n; k++)
		r->v[r->n++].slot = chain[k];
	free(chain);
	return r->v ? 0 : -ENOMEM;
}

static int next_record(struct source *s)
{
	int err;

	s->record = NULL;
	err = layer_next_record(s->slot->file, s->reader, &s->record);
	return err == -ENOENT ? 0 : err;
}

static int next_name(struct source *s)
{
	int err;

	s->name.name = NULL;
	err = layer_next_name(s->slot->file, s->reader, &s->name);
	return err == -ENOENT ? 0 : err;
}

int state_reader_open(struct layers *ls, struct state_reader **out)
{
	struct state_reader *r = calloc(1, sizeof(*r));
	int err;

	if (!r)
		return -ENOMEM;
	r->ls = ls;
	err = held_new(ls, &r->held);
	lock_acquire(&ls->lock);
	if (!err)
		err = hold_locked(r);
	lock_release(&ls->lock);
	for (size_t k = 0; k < r->n && !err; k++) {
		err = layer_read_pieces(r->v[k].slot->file, &r->v[k].reader);
		if (!err)
			err = next_record(&r->v[k]);
	}
	if (err) {
		state_reader_close(r);
		return err;
	}
	*out = r;
	return 0;
}

void state_reader_close(struct state_reader *r)
{
	for (size_t k = 0; k < r->n; k++) {
		index_reader_free(r->v[k].reader);
		index_record_free(r->v[k].record);
		free(r->v[k].name.name);
	}
	held_put(r->held);
	free(r->v);
	free(r);
}

/* Adds what the source says of the inode to *sum, which is NULL at first. */
static int add_record(struct source *s, struct index_record **sum)
{
	int err = 0;

	if (!*sum) {
		*sum = s->record;
	} else {
		err = index_record_merge(*sum, s->record);
		index_record_free(s->record);
	}
	return next_record(s) ?: err;
}

/* Merges the records of the least inode; *sum NULL: there is none. */
static int merge_records(struct state_reader *r, struct index_record **sum)
{
	uint64_t least = UINT64_MAX;
	int err = 0;

	*sum = NULL;
	for (size_t k = 0; k < r->n; k++) {
		if (r->v[k].record && r->v[k].record->facts.ino < least)
			least = r->v[k].record->facts.ino;
	}
	for (size_t k = 0; k < r->n && !err; k++) {
		if (r->v[k].record && r->v[k].record->facts.ino == least)
			err = add_record(&r->v[k], sum);
	}
	return err;
}

int state_reader_record(struct state_reader *r, struct index_record **out)
{
	for (;;) {
		struct index_record *sum;
		int err = merge_records(r, &sum);

		if (!err && sum && sum->type != LAYER_REC_GONE) {
			index_record_flatten(sum);
			*out = sum;
			return 0;
		}
		index_record_free(sum);
		if (err || !sum)
			return err ? err : -ENOENT;
	}
}

static int begin_names(struct state_reader *r)
{
	int err = 0;

	for (size_t k = 0; k < r->n && !err && !r->names; k++)
		err = next_name(&r->v[k]);
	r->names = true;
	return err;
}

/* The least name, as the newest layer has it; name NULL: there is none. */
static int merge_names(struct state_reader *r, struct index_name *out)
{
	const struct index_name *least = NULL;
	struct index_name sum = { 0 };
	int err = begin_names(r);

	for (size_t k = 0; k < r->n && !err; k++) {
		if (r->v[k].name.name && (!least || index_name_compare(&r->v[k].name, least) < 0))
			least = &r->v[k].name;
	}
	for (size_t k = 0; k < r->n && !err; k++) {
		struct source *s = &r->v[k];

		if (!s->name.name || index_name_compare(&s->name, sum.name ? &sum : least))
			continue;
		free(sum.name);
		sum = s->name;
		err = next_name(s);
	}
	*out = sum;
	return err;
}

int state_reader_name(struct state_reader *r, struct index_name *out)
{
	for (;;) {
		struct index_name sum;
		int err = merge_names(r, &sum);

		if (!err && sum.name && sum.ino) {
			*out = sum;
			return 0;
		}
		free(sum.name);
		if (err || !sum.name)
			return err ? err : -ENOENT;
	}
}
