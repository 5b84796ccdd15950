/*
 * The bytes of an index: encoding and decoding of struct layer_index_head and its records.
 *
 * Invariants: (1) what index_encode makes, index_decode takes and gives back equal; (2)
 * index_decode reads no byte outside [bytes, bytes + n), allocates no more than a small multiple of
 * n, and returns only indexes that keep index.h's invariants; (3) encode refuses what decode would
 * refuse.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "block/index.h"

static const char index_magic[8] = { 'S', 'P', 'I', 'L', 'L', 'I', 'D', 'X' };

static uint64_t head_hash(const struct layer_index_head *head, const void *records, size_t len)
{
	struct layer_index_head h = *head;
	XXH64_state_t state;

	h.xxh64 = 0;
	XXH64_reset(&state, 0);
	XXH64_update(&state, &h, sizeof(h));
	XXH64_update(&state, records, len);
	return XXH64_digest(&state);
}

static bool block_valid(const struct layer_block *b, uint64_t block_bytes)
{
	if (b->block == UINT64_MAX || b->raw_len > block_bytes || b->has_minmax > 1)
		return false;
	if (!b->frame_off)
		return true;
	return b->frame_len && (uint64_t)b->raw_off + b->raw_len <= b->frame_raw;
}

static bool record_valid(const struct index_record *r)
{
	uint64_t end = 0;

	if (r->type != LAYER_REC_ARRAY && r->type != LAYER_REC_GONE)
		return false;
	if (r->type == LAYER_REC_GONE && (r->nblocks || r->ntombs))
		return false;
	for (size_t i = 0; i < r->nblocks; i++) {
		if (!block_valid(&r->blocks[i], r->block_bytes))
			return false;
		if (i && r->blocks[i - 1].block >= r->blocks[i].block)
			return false;
	}
	for (size_t i = 0; i < r->ntombs; i++) {
		const struct layer_tomb *t = &r->tombs[i];

		if (!t->count || (i && t->first <= end))
			return false;
		if (t->count == UINT64_MAX || t->count > UINT64_MAX - 1 - t->first) {
			if (t->count != UINT64_MAX || i + 1 < r->ntombs)
				return false;
		}
		end = t->first + t->count;
	}
	return true;
}

static size_t pad8(size_t n)
{
	return (n + 7) & ~(size_t)7;
}

static size_t record_bytes(const struct index_record *r)
{
	return pad8(sizeof(struct layer_record) + r->nblocks * sizeof(struct layer_block) +
		    r->ntombs * sizeof(struct layer_tomb) + strlen(r->path) + strlen(r->dtype) +
		    strlen(r->shape));
}

static uint8_t *put(uint8_t *p, const void *from, size_t n)
{
	if (n)
		memcpy(p, from, n);
	return p + n;
}

/* The bytes at p are zero already, so the padding is. */
static void record_encode(const struct index_record *r, uint8_t *p, size_t len)
{
	struct layer_record rec = {
		.len_bytes = (uint32_t)len,
		.type = r->type,
		.path_len = (uint16_t)strlen(r->path),
		.ino = r->ino,
		.size_bytes = r->size_bytes,
		.block_bytes = r->block_bytes,
		.nblocks = r->nblocks,
		.ntombs = r->ntombs,
		.mtime_ns = r->mtime_ns,
		.mode = r->mode,
		.uid = r->uid,
		.gid = r->gid,
		.dtype_len = (uint16_t)strlen(r->dtype),
		.shape_len = (uint16_t)strlen(r->shape),
	};

	p = put(p, &rec, sizeof(rec));
	p = put(p, r->blocks, r->nblocks * sizeof(*r->blocks));
	p = put(p, r->tombs, r->ntombs * sizeof(*r->tombs));
	p = put(p, r->path, rec.path_len);
	p = put(p, r->dtype, rec.dtype_len);
	put(p, r->shape, rec.shape_len);
}

int index_encode(const struct index *ix, struct layer_index_head *head, void **out, size_t *len_out)
{
	size_t len = sizeof(*head), at = sizeof(*head);
	uint64_t raw_bytes = 0;
	uint8_t *bytes;

	for (size_t i = 0; i < ix->n; i++) {
		const struct index_record *r = ix->v[i];

		if (!record_valid(r) || (i && ix->v[i - 1]->ino >= r->ino))
			return -EINVAL;
		if (r->nblocks > UINT32_MAX / sizeof(*r->blocks) ||
		    r->ntombs > UINT32_MAX / sizeof(*r->tombs) || record_bytes(r) > UINT32_MAX)
			return -EFBIG;
		len += record_bytes(r);
		for (size_t b = 0; b < r->nblocks; b++)
			raw_bytes += r->blocks[b].raw_len;
	}
	bytes = calloc(1, len);
	if (!bytes)
		return -ENOMEM;
	for (size_t i = 0; i < ix->n; i++) {
		size_t n = record_bytes(ix->v[i]);

		record_encode(ix->v[i], bytes + at, n);
		at += n;
	}
	memcpy(head->magic, index_magic, sizeof(index_magic));
	head->version = LAYER_FORMAT_VERSION;
	head->nrecords = ix->n;
	head->records_bytes = len - sizeof(*head);
	head->raw_bytes = raw_bytes;
	head->xxh64 = head_hash(head, bytes + sizeof(*head), len - sizeof(*head));
	memcpy(bytes, head, sizeof(*head));
	*out = bytes;
	*len_out = len;
	return 0;
}

static bool head_valid(const struct layer_index_head *head, const uint8_t *records, size_t len)
{
	return !memcmp(head->magic, index_magic, sizeof(index_magic)) &&
	       head->version == LAYER_FORMAT_VERSION &&
	       (head->kind == LAYER_SEGMENT || head->kind == LAYER_INDEX) &&
	       head->records_bytes == len && head->nrecords <= len / sizeof(struct layer_record) &&
	       head->xxh64 == head_hash(head, records, len);
}

/* A copy of n bytes of text with a NUL behind; NULL with *err set. */
static char *text_decode(const uint8_t *p, size_t n, int *err)
{
	char *s;

	if (memchr(p, 0, n)) {
		*err = -EUCLEAN;
		return NULL;
	}
	s = malloc(n + 1);
	if (!s) {
		*err = -ENOMEM;
		return NULL;
	}
	memcpy(s, p, n);
	s[n] = '\0';
	return s;
}

/* A copy of n > 0 elements; NULL with *err set. */
static void *array_decode(const uint8_t *p, size_t n, size_t size, int *err)
{
	void *v = reallocarray(NULL, n, size);

	if (v)
		memcpy(v, p, n * size);
	else
		*err = -ENOMEM;
	return v;
}

/* len_bytes is exactly what the counts call for, and the padding is zero. */
static bool record_len_valid(const struct layer_record *rec, const uint8_t *p)
{
	uint64_t room = rec->len_bytes - sizeof(*rec), need;

	if (rec->nblocks > room / sizeof(struct layer_block) ||
	    rec->ntombs > room / sizeof(struct layer_tomb))
		return false;
	need = sizeof(*rec) + rec->nblocks * sizeof(struct layer_block) +
	       rec->ntombs * sizeof(struct layer_tomb) + rec->path_len + rec->dtype_len +
	       rec->shape_len;
	if (pad8(need) != rec->len_bytes)
		return false;
	for (; need < rec->len_bytes; need++)
		if (p[need])
			return false;
	return true;
}

static int record_fill(const struct layer_record *rec, const uint8_t *p, struct index_record *r)
{
	const uint8_t *blocks = p + sizeof(*rec);
	const uint8_t *tombs = blocks + rec->nblocks * sizeof(struct layer_block);
	const uint8_t *path = tombs + rec->ntombs * sizeof(struct layer_tomb);
	int err = 0;

	if (rec->nblocks)
		r->blocks = array_decode(blocks, rec->nblocks, sizeof(*r->blocks), &err);
	if (!err && rec->ntombs)
		r->tombs = array_decode(tombs, rec->ntombs, sizeof(*r->tombs), &err);
	if (err)
		return err;
	r->nblocks = r->cap_blocks = rec->nblocks;
	r->ntombs = r->cap_tombs = rec->ntombs;
	r->path = text_decode(path, rec->path_len, &err);
	r->dtype = err ? NULL : text_decode(path + rec->path_len, rec->dtype_len, &err);
	r->shape = err ? NULL
		       : text_decode(path + rec->path_len + rec->dtype_len, rec->shape_len, &err);
	if (err)
		return err;
	r->ino = rec->ino;
	r->type = rec->type;
	r->size_bytes = rec->size_bytes;
	r->block_bytes = rec->block_bytes;
	r->mtime_ns = rec->mtime_ns;
	r->mode = rec->mode;
	r->uid = rec->uid;
	r->gid = rec->gid;
	return record_valid(r) ? 0 : -EUCLEAN;
}

/* Appends the record at p to ix, whose room is reserved. It belongs to ix even when it fails. */
static int record_decode(const struct layer_record *rec, const uint8_t *p, struct index *ix)
{
	struct index_record *r;

	if (!record_len_valid(rec, p))
		return -EUCLEAN;
	if (ix->n && ix->v[ix->n - 1]->ino >= rec->ino)
		return -EUCLEAN;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	ix->v[ix->n++] = r;
	return record_fill(rec, p, r);
}

static int records_decode(const struct layer_index_head *head, const uint8_t *p, struct index *ix)
{
	size_t left = head->records_bytes;

	if (head->nrecords) {
		ix->v = calloc(head->nrecords, sizeof(*ix->v));
		if (!ix->v)
			return -ENOMEM;
		ix->cap = head->nrecords;
	}
	for (uint64_t i = 0; i < head->nrecords; i++) {
		struct layer_record rec;
		int err;

		if (left < sizeof(rec))
			return -EUCLEAN;
		memcpy(&rec, p, sizeof(rec));
		if (rec.len_bytes < sizeof(rec) || rec.len_bytes % 8 || rec.len_bytes > left)
			return -EUCLEAN;
		if (rec.type == LAYER_REC_ARRAY || rec.type == LAYER_REC_GONE) {
			err = record_decode(&rec, p, ix);
			if (err)
				return err;
		}
		p += rec.len_bytes;
		left -= rec.len_bytes;
	}
	return left ? -EUCLEAN : 0;
}

int index_decode(const void *bytes, size_t n, struct layer_index_head *head_out,
		 struct index *ix_out)
{
	const uint8_t *records = (const uint8_t *)bytes + sizeof(struct layer_index_head);
	struct layer_index_head head;
	struct index ix;
	int err;

	if (n < sizeof(head))
		return -EUCLEAN;
	memcpy(&head, bytes, sizeof(head));
	if (!head_valid(&head, records, n - sizeof(head)))
		return -EUCLEAN;
	index_init(&ix);
	err = records_decode(&head, records, &ix);
	if (err) {
		index_fini(&ix);
		return err;
	}
	*head_out = head;
	*ix_out = ix;
	return 0;
}
