/*
 * An index as a whole, decoded. Piece by piece, with little memory: stream.c, which encodes it as well.
 *
 * Invariants: (1) what a writer makes, index_decode gives back equal; (2) index_decode reads no byte outside
 * [bytes, bytes + n), and returns only indexes that keep index.h's invariants.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/index/inside.h"

/* The decoded body, from one frame or several; NULL if there is none. */
static int body_decompress(const struct layer_index_head *head, const uint8_t *stored, size_t len, uint8_t **out)
{
	uint8_t *body = head->body_bytes ? malloc(head->body_bytes) : NULL;
	size_t done = 0, frame, raw;
	int err = 0;

	if (head->body_bytes && !body)
		return -ENOMEM;
	while (!err && done < head->body_bytes) {
		err = index_frame_measure(stored, len, head->body_bytes - done, &frame, &raw) ? 0 : -EUCLEAN;
		if (!err)
			err = index_frame_decode(stored, frame, body + done, raw);
		if (!err) {
			stored += frame;
			len -= frame;
			done += raw;
		}
	}
	if (!err && len)
		err = -EUCLEAN;
	if (err) {
		free(body);
		return err;
	}
	*out = body;
	return 0;
}

/* Appends the record at p to ix, whose room is reserved. */
static int record_append(const uint8_t *p, struct index *ix)
{
	struct index_record *r;
	int err = index_record_decode(p, &r);

	if (err)
		return err;
	if (ix->n && ix->v[ix->n - 1]->facts.ino >= r->facts.ino) {
		index_record_free(r);
		return -EUCLEAN;
	}
	ix->v[ix->n++] = r;
	return 0;
}

/* The rest of the body, which is still to be read. */
struct cursor {
	const uint8_t *p;
	size_t left;
};

static int records_decode(uint64_t n, struct cursor *c, struct index *ix)
{
	if (n) {
		ix->v = calloc(n, sizeof(*ix->v));
		if (!ix->v)
			return -ENOMEM;
		ix->cap = n;
	}
	for (uint64_t i = 0; i < n; i++) {
		struct layer_record rec;
		int err;

		if (c->left < sizeof(rec))
			return -EUCLEAN;
		memcpy(&rec, c->p, sizeof(rec));
		if (rec.len_bytes < sizeof(rec) || rec.len_bytes % 8 || rec.len_bytes > c->left)
			return -EUCLEAN;
		if (rec.type == LAYER_REC_INODE || rec.type == LAYER_REC_GONE) {
			err = record_append(c->p, ix);
			if (err)
				return err;
		}
		c->p += rec.len_bytes;
		c->left -= rec.len_bytes;
	}
	return 0;
}

/* Appends the name at p to ix, whose room is reserved. */
static int name_append(const uint8_t *p, struct index *ix)
{
	struct index_name *n = &ix->names[ix->nnames];
	int err = index_name_decode(p, n);

	if (err)
		return err;
	ix->nnames++;
	return n > ix->names && index_name_compare(n - 1, n) >= 0 ? -EUCLEAN : 0;
}

static int names_decode(uint64_t n, struct cursor *c, struct index *ix)
{
	if (n) {
		ix->names = calloc(n, sizeof(*ix->names));
		if (!ix->names)
			return -ENOMEM;
		ix->cap_names = n;
	}
	for (uint64_t i = 0; i < n; i++) {
		struct layer_name name;
		int err;

		if (c->left < sizeof(name))
			return -EUCLEAN;
		memcpy(&name, c->p, sizeof(name));
		if (name.len_bytes < sizeof(name) || name.len_bytes > c->left)
			return -EUCLEAN;
		err = name_append(c->p, ix);
		if (err)
			return err;
		c->p += name.len_bytes;
		c->left -= name.len_bytes;
	}
	return 0;
}

/* The chain is all that is left. */
static int chain_decode(uint64_t n, struct cursor *c, struct index *ix)
{
	int err;

	if (c->left != n * sizeof(*ix->chain))
		return -EUCLEAN;
	if (!n)
		return 0;
	ix->chain = malloc(c->left);
	if (!ix->chain)
		return -ENOMEM;
	memcpy(ix->chain, c->p, c->left);
	ix->nchain = n;
	err = index_chain_check(ix->chain, n);
	return err == -EINVAL ? -EUCLEAN : err;
}

int index_decode(const void *bytes, size_t n, struct layer_index_head *head_out,
		 struct index *ix_out)
{
	const struct index_source src = index_source_of(bytes, n);
	struct layer_index_head head;
	struct cursor c;
	struct index ix;
	uint8_t *body;
	int err = index_head_read(&src, &head);

	if (err)
		return err;
	err = body_decompress(&head, (const uint8_t *)bytes + sizeof(head), n - sizeof(head), &body);
	if (err)
		return err;
	index_init(&ix);
	c = (struct cursor){ body, head.body_bytes };
	err = records_decode(head.nrecords, &c, &ix);
	if (!err)
		err = names_decode(head.nnames, &c, &ix);
	if (!err)
		err = chain_decode(head.nchain, &c, &ix);
	free(body);
	if (err) {
		index_fini(&ix);
		return err;
	}
	*head_out = head;
	*ix_out = ix;
	return 0;
}
