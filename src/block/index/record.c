/*
 * One record of an index: its facts, block entries and tombstones, and how a newer record changes an
 * older one.
 *
 * Invariants: (1) block entries are sorted, one for each block; (2) tombstones are sorted, disjoint
 * and not adjacent, and apply before the entries; (3) a record of type GONE has neither; (4) the four
 * texts are never NULL; (5) merging a record gives what replaying its changes would give.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "block/index/inside.h"
#include "util/vec.h"

static char no_text[1];

char *index_text_new(const char *text, size_t n)
{
	char *s = n ? malloc(n + 1) : no_text;

	if (s && n) {
		memcpy(s, text, n);
		s[n] = '\0';
	}
	return s;
}

static void text_free(char *text)
{
	if (text != no_text)
		free(text);
}

void index_record_free(struct index_record *r)
{
	if (!r)
		return;
	text_free(r->path);
	text_free(r->dtype);
	text_free(r->shape);
	text_free(r->target);
	free(r->xattrs);
	free(r->data);
	free(r->blocks);
	free(r->tombs);
	free(r);
}

int index_record_new(uint64_t ino, struct index_record **out)
{
	struct index_record *r = calloc(1, sizeof(*r));
	int err;

	if (!r)
		return -ENOMEM;
	r->facts.ino = ino;
	r->type = LAYER_REC_INODE;
	err = index_record_set_names(r, NULL, NULL, NULL);
	if (!err)
		err = index_record_set_target(r, NULL);
	if (err) {
		index_record_free(r);
		return err;
	}
	*out = r;
	return 0;
}

int index_record_set_names(struct index_record *r, const char *path, const char *dtype,
			   const char *shape)
{
	const char *from[3] = { path ? path : "", dtype ? dtype : "", shape ? shape : "" };
	char *to[3] = { NULL, NULL, NULL };

	for (int i = 0; i < 3; i++)
		if (strlen(from[i]) > UINT16_MAX)
			return -ENAMETOOLONG;
	for (int i = 0; i < 3; i++) {
		to[i] = index_text_new(from[i], strlen(from[i]));
		if (!to[i]) {
			text_free(to[0]);
			text_free(to[1]);
			return -ENOMEM;
		}
	}
	text_free(r->path);
	text_free(r->dtype);
	text_free(r->shape);
	r->path = to[0];
	r->dtype = to[1];
	r->shape = to[2];
	return 0;
}

int index_record_set_target(struct index_record *r, const char *target)
{
	char *copy;

	if (target && strlen(target) > UINT16_MAX)
		return -ENAMETOOLONG;
	copy = index_text_new(target, target ? strlen(target) : 0);
	if (!copy)
		return -ENOMEM;
	text_free(r->target);
	r->target = copy;
	return 0;
}

static int bytes_set(void **to, uint32_t *to_len, const void *from, size_t len)
{
	void *copy = NULL;

	if (len > UINT32_MAX)
		return -EFBIG;
	if (len) {
		copy = malloc(len);
		if (!copy)
			return -ENOMEM;
		memcpy(copy, from, len);
	}
	free(*to);
	*to = copy;
	*to_len = (uint32_t)len;
	return 0;
}

int index_record_set_xattrs(struct index_record *r, const void *xattrs, size_t len)
{
	return bytes_set(&r->xattrs, &r->xattrs_len, xattrs, len);
}

int index_record_set_data(struct index_record *r, const void *data, size_t len)
{
	return bytes_set(&r->data, &r->data_len, data, len);
}

int index_record_set_facts(struct index_record *r, const struct index_record *from)
{
	int err = index_record_set_names(r, from->path, from->dtype, from->shape);

	if (!err)
		err = index_record_set_target(r, from->target);
	if (!err)
		err = index_record_set_xattrs(r, from->xattrs, from->xattrs_len);
	if (!err)
		err = index_record_set_data(r, from->data, from->data_len);
	if (err)
		return err;
	r->facts = from->facts;
	r->version = from->version;
	r->type = from->type;
	if (from->block_bytes || from->type == LAYER_REC_GONE)
		r->block_bytes = from->block_bytes;
	return 0;
}

/* ---- xattrs ---- */

int index_record_add_xattr(struct index_record *r, const char *name, const void *value, size_t len)
{
	struct layer_xattr head = { .name_len = (uint16_t)strlen(name), .value_len = (uint32_t)len };
	size_t n = sizeof(head) + head.name_len + len;
	uint8_t *p;

	if (n > UINT32_MAX - r->xattrs_len)
		return -EFBIG;
	p = realloc(r->xattrs, r->xattrs_len + n);
	if (!p)
		return -ENOMEM;
	r->xattrs = p;
	p += r->xattrs_len;
	memcpy(p, &head, sizeof(head));
	memcpy(p + sizeof(head), name, head.name_len);
	if (len)
		memcpy(p + sizeof(head) + head.name_len, value, len);
	r->xattrs_len += (uint32_t)n;
	return 0;
}

/* The xattr at *at; moves *at behind it. False at the end, and where the bytes are none. */
static bool xattr_next(const struct index_record *r, size_t *at, const char **name_out, struct layer_xattr *x_out)
{
	const uint8_t *p = (const uint8_t *)r->xattrs + *at;
	size_t left = r->xattrs_len - *at;

	if (left < sizeof(*x_out))
		return false;
	memcpy(x_out, p, sizeof(*x_out));
	left -= sizeof(*x_out);
	if (x_out->zero || !x_out->name_len || x_out->name_len > INDEX_NAME_BYTES_MAX || x_out->name_len > left ||
	    x_out->value_len > left - x_out->name_len || memchr(p + sizeof(*x_out), 0, x_out->name_len))
		return false;
	*name_out = (const char *)p + sizeof(*x_out);
	*at += sizeof(*x_out) + x_out->name_len + x_out->value_len;
	return true;
}

bool index_record_xattrs_valid(const struct index_record *r)
{
	struct layer_xattr x;
	const char *name;
	size_t at = 0;

	while (at < r->xattrs_len)
		if (!xattr_next(r, &at, &name, &x))
			return false;
	return true;
}

bool index_record_xattr(const struct index_record *r, const char *name, const void **value_out, size_t *len_out)
{
	size_t at = 0, len = strlen(name);
	struct layer_xattr x;
	const char *have;

	while (at < r->xattrs_len && xattr_next(r, &at, &have, &x)) {
		if (x.name_len != len || memcmp(have, name, len))
			continue;
		*value_out = have + x.name_len;
		*len_out = x.value_len;
		return true;
	}
	return false;
}

int index_record_xattr_walk(const struct index_record *r,
			    int (*each)(void *ctx, const char *name, const void *value, size_t len), void *ctx)
{
	char name[INDEX_NAME_BYTES_MAX + 1];
	struct layer_xattr x;
	const char *have;
	size_t at = 0;
	int err = 0;

	while (!err && at < r->xattrs_len && xattr_next(r, &at, &have, &x)) {
		memcpy(name, have, x.name_len);
		name[x.name_len] = '\0';
		err = each(ctx, name, have + x.name_len, x.value_len);
	}
	return err;
}

/* ---- blocks and tombstones ---- */

/* Position of the first entry whose block is not below. */
static size_t block_position(const struct index_record *r, uint64_t block)
{
	return VEC_LOWER_BOUND(i, r->nblocks, r->blocks[i].block < block);
}

int index_record_put(struct index_record *r, const struct layer_block *b)
{
	size_t i = block_position(r, b->block);

	if (i < r->nblocks && r->blocks[i].block == b->block) {
		r->blocks[i] = *b;
		return 0;
	}
	if (VEC_RESERVE(r->blocks, r->cap_blocks, r->nblocks + 1))
		return -ENOMEM;
	VEC_INSERT(r->blocks, r->nblocks, i, *b);
	return 0;
}

struct layer_block *index_record_block(const struct index_record *r, uint64_t block)
{
	size_t i = block_position(r, block);

	return i < r->nblocks && r->blocks[i].block == block ? &r->blocks[i] : NULL;
}

/* UINT64_MAX stands for "to the end", which no block number reaches. */
static uint64_t range_end(uint64_t first, uint64_t count)
{
	return count > UINT64_MAX - first ? UINT64_MAX : first + count;
}

static void record_drop(struct index_record *r, uint64_t first, uint64_t end)
{
	size_t i = block_position(r, first), j;

	j = end == UINT64_MAX ? r->nblocks : block_position(r, end);
	if (i == j)
		return;
	memmove(r->blocks + i, r->blocks + j, (r->nblocks - j) * sizeof(*r->blocks));
	r->nblocks -= j - i;
}

/* Position of the first tombstone that ends at or behind block. */
static size_t tomb_position(const struct index_record *r, uint64_t block)
{
	return VEC_LOWER_BOUND(i, r->ntombs, range_end(r->tombs[i].first, r->tombs[i].count) < block);
}

bool index_record_hides(const struct index_record *r, uint64_t block)
{
	/* The one found may end right before the block; the next one begins behind it then. */
	size_t i = tomb_position(r, block);

	return i < r->ntombs && r->tombs[i].first <= block &&
	       range_end(r->tombs[i].first, r->tombs[i].count) > block;
}

int index_record_tomb(struct index_record *r, uint64_t first, uint64_t count)
{
	uint64_t end = range_end(first, count);
	size_t i = tomb_position(r, first), j = i;
	uint64_t from = first, to = end;

	if (!count)
		return 0;
	for (; j < r->ntombs && r->tombs[j].first <= end; j++) {
		uint64_t tomb_end = range_end(r->tombs[j].first, r->tombs[j].count);

		from = r->tombs[j].first < from ? r->tombs[j].first : from;
		to = tomb_end > to ? tomb_end : to;
	}
	if (i == j && VEC_RESERVE(r->tombs, r->cap_tombs, r->ntombs + 1))
		return -ENOMEM;
	memmove(r->tombs + i + 1, r->tombs + j, (r->ntombs - j) * sizeof(*r->tombs));
	r->ntombs = r->ntombs - (j - i) + 1;
	r->tombs[i].first = from;
	r->tombs[i].count = to == UINT64_MAX ? UINT64_MAX : to - from;
	record_drop(r, first, end);
	return 0;
}

void index_record_gone(struct index_record *r)
{
	r->type = LAYER_REC_GONE;
	free(r->blocks);
	free(r->tombs);
	r->blocks = NULL;
	r->tombs = NULL;
	r->nblocks = r->cap_blocks = r->ntombs = r->cap_tombs = 0;
	index_record_set_target(r, NULL);
	index_record_set_xattrs(r, NULL, 0); /* nothing of nothing cannot fail */
	index_record_set_data(r, NULL, 0);
}

/* Replaces or adds all entries of b in one pass over both. */
static int record_put_many(struct index_record *r, const struct layer_block *b, size_t n)
{
	struct layer_block *v = reallocarray(NULL, r->nblocks + n, sizeof(*v));
	size_t i = 0, j = 0, k = 0;

	if (!v)
		return -ENOMEM;
	while (i < r->nblocks || j < n) {
		if (j == n || (i < r->nblocks && r->blocks[i].block < b[j].block)) {
			v[k++] = r->blocks[i++];
		} else {
			i += i < r->nblocks && r->blocks[i].block == b[j].block;
			v[k++] = b[j++];
		}
	}
	free(r->blocks);
	r->cap_blocks = r->nblocks + n;
	r->blocks = v;
	r->nblocks = k;
	return 0;
}

int index_record_merge(struct index_record *r, const struct index_record *newer)
{
	bool was_gone = r->type == LAYER_REC_GONE;
	int err = index_record_set_facts(r, newer);

	if (err)
		return err;
	if (newer->type == LAYER_REC_GONE) {
		index_record_gone(r);
		return 0;
	}
	if (was_gone)
		err = index_record_tomb(r, 0, UINT64_MAX);
	for (size_t i = 0; !err && i < newer->ntombs; i++)
		err = index_record_tomb(r, newer->tombs[i].first, newer->tombs[i].count);
	if (err)
		return err;
	if (newer->nblocks > INDEX_MERGE_FEW)
		return record_put_many(r, newer->blocks, newer->nblocks);
	for (size_t i = 0; !err && i < newer->nblocks; i++)
		err = index_record_put(r, &newer->blocks[i]);
	return err;
}

void index_record_flatten(struct index_record *r)
{
	size_t n = 0;

	for (size_t i = 0; i < r->nblocks; i++)
		if (r->blocks[i].frame_off)
			r->blocks[n++] = r->blocks[i];
	r->nblocks = n;
	r->ntombs = 0;
}
