/*
 * The pieces of an index as bytes: records and names.
 *
 * Invariants: (1) decoding reads no byte behind the piece and believes no length before it is bounded by that of the piece; (2)
 * what is decoded keeps index.h's invariants; (3) index_record_valid refuses what decoding would refuse.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "block/index/inside.h"
#include "block/ref.h"

static bool block_valid(const struct layer_block *b, uint64_t block_bytes)
{
	if (b->block == UINT64_MAX || !block_bytes || b->raw_len > block_bytes || b->stat_type >= SUMMARY_NTYPES || b->nan_bits > BLOCK_NAN_BITS_MAX)
		return false;
	if (b->filter == FILTER_RECORD && (b->stat_type || b->nan_bits)) /* what stands for the summary are the fields */
		return false;
	if (!b->frame_off)
		return true;
	return b->layer && b->frame_len && b->raw_len && b->frame_raw <= LAYER_FRAME_MAX && b->frame_len <= LAYER_FRAME_STORED_MAX &&
	       (uint64_t)b->raw_off + b->raw_len <= b->frame_raw;
}

static bool blocks_valid(const struct index_record *r)
{
	for (size_t i = 0; i < r->nblocks; i++) {
		if (!block_valid(&r->blocks[i], r->block_bytes))
			return false;
		if (i && r->blocks[i - 1].block >= r->blocks[i].block)
			return false;
	}
	return true;
}

static bool tombs_valid(const struct index_record *r)
{
	uint64_t end = 0;

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

bool index_record_valid(const struct index_record *r)
{
	if (r->type == LAYER_REC_GONE ? r->nblocks || r->ntombs : r->type != LAYER_REC_INODE)
		return false;
	return blocks_valid(r) && tombs_valid(r) && index_record_xattrs_valid(r);
}

static size_t pad8(size_t n)
{
	return (n + 7) & ~(size_t)7;
}

size_t index_record_bytes(const struct index_record *r)
{
	return pad8(sizeof(struct layer_record) + r->nblocks * sizeof(struct layer_block) +
		    r->ntombs * sizeof(struct layer_tomb) + strlen(r->path) + strlen(r->dtype) +
		    strlen(r->shape) + strlen(r->target) + r->xattrs_len + r->data_len);
}

size_t index_name_bytes(const struct index_name *n)
{
	return pad8(sizeof(struct layer_name) + strlen(n->name));
}

static uint8_t *put(uint8_t *p, const void *from, size_t n)
{
	if (n)
		memcpy(p, from, n);
	return p + n;
}

void index_record_encode(const struct index_record *r, uint8_t *p, size_t len)
{
	const struct facts *f = &r->facts;
	struct layer_record rec = {
		.len_bytes = (uint32_t)len,
		.type = r->type,
		.kind = (uint16_t)f->kind,
		.ino = f->ino,
		.version = r->version,
		.size_bytes = f->size_bytes,
		.nblocks = r->nblocks,
		.ntombs = r->ntombs,
		.mtime_ns = f->mtime_ns,
		.ctime_ns = f->ctime_ns,
		.btime_ns = f->btime_ns,
		.rdev = f->rdev,
		.file_id = f->file_id,
		.stored_bytes = f->stored_bytes,
		.mode = f->mode,
		.uid = f->uid,
		.gid = f->gid,
		.block_bytes = r->block_bytes,
		.path_len = (uint16_t)strlen(r->path),
		.dtype_len = (uint16_t)strlen(r->dtype),
		.shape_len = (uint16_t)strlen(r->shape),
		.target_len = (uint16_t)strlen(r->target),
		.xattrs_len = r->xattrs_len,
		.data_len = r->data_len,
	};

	p = put(p, &rec, sizeof(rec));
	p = put(p, r->blocks, r->nblocks * sizeof(*r->blocks));
	p = put(p, r->tombs, r->ntombs * sizeof(*r->tombs));
	p = put(p, r->path, rec.path_len);
	p = put(p, r->dtype, rec.dtype_len);
	p = put(p, r->shape, rec.shape_len);
	p = put(p, r->target, rec.target_len);
	p = put(p, r->xattrs, r->xattrs_len);
	put(p, r->data, r->data_len);
}

void index_name_encode(const struct index_name *n, uint8_t *p, size_t len)
{
	struct layer_name name = {
		.len_bytes = (uint32_t)len,
		.name_len = (uint16_t)strlen(n->name),
		.parent = n->parent,
		.ino = n->ino,
	};

	put(put(p, &name, sizeof(name)), n->name, name.name_len);
}

/* A copy of n bytes of text with a NUL behind; NULL with *err set. */
static char *text_decode(const uint8_t *p, size_t n, int *err)
{
	char *s = memchr(p, 0, n) ? NULL : index_text_new((const char *)p, n);

	if (!s)
		*err = memchr(p, 0, n) ? -EUCLEAN : -ENOMEM;
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

/* A copy of n elements at *p, which moves behind them; NULL if there are none or with *err set. */
static void *array_take(const uint8_t **p, size_t n, size_t size, int *err)
{
	void *v = NULL;

	if (n && !*err)
		v = array_decode(*p, n, size, err);
	*p += n * size;
	return v;
}

static char *text_take(const uint8_t **p, size_t n, int *err)
{
	char *s = *err ? NULL : text_decode(*p, n, err);

	*p += n;
	return s;
}

/* The bytes in [from, to) are zero. */
static bool padding_valid(const uint8_t *p, size_t from, size_t to)
{
	for (; from < to; from++)
		if (p[from])
			return false;
	return true;
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
	       rec->shape_len + rec->target_len + (uint64_t)rec->xattrs_len + rec->data_len;
	return pad8(need) == rec->len_bytes && padding_valid(p, need, rec->len_bytes);
}

static void record_take_facts(const struct layer_record *rec, struct index_record *r)
{
	r->facts = (struct facts){
		.ino = rec->ino,
		.kind = rec->kind,
		.mode = rec->mode,
		.uid = rec->uid,
		.gid = rec->gid,
		.rdev = rec->rdev,
		.size_bytes = rec->size_bytes,
		.stored_bytes = rec->stored_bytes,
		.file_id = rec->file_id,
		.atime_ns = rec->mtime_ns,
		.mtime_ns = rec->mtime_ns,
		.ctime_ns = rec->ctime_ns,
		.btime_ns = rec->btime_ns,
	};
	r->version = rec->version;
	r->type = rec->type;
	r->block_bytes = rec->block_bytes;
}

static int record_fill(const struct layer_record *rec, const uint8_t *p, struct index_record *r)
{
	int err = 0;

	record_take_facts(rec, r);
	p += sizeof(*rec);
	r->blocks = array_take(&p, rec->nblocks, sizeof(*r->blocks), &err);
	r->tombs = array_take(&p, rec->ntombs, sizeof(*r->tombs), &err);
	r->path = text_take(&p, rec->path_len, &err);
	r->dtype = text_take(&p, rec->dtype_len, &err);
	r->shape = text_take(&p, rec->shape_len, &err);
	r->target = text_take(&p, rec->target_len, &err);
	r->xattrs = array_take(&p, rec->xattrs_len, 1, &err);
	r->data = array_take(&p, rec->data_len, 1, &err);
	if (err)
		return err;
	r->nblocks = r->cap_blocks = rec->nblocks;
	r->ntombs = r->cap_tombs = rec->ntombs;
	r->xattrs_len = rec->xattrs_len;
	r->data_len = rec->data_len;
	return index_record_valid(r) ? 0 : -EUCLEAN;
}

int index_record_decode(const uint8_t *p, struct index_record **out)
{
	struct layer_record rec;
	struct index_record *r;
	int err;

	memcpy(&rec, p, sizeof(rec));
	if (!record_len_valid(&rec, p))
		return -EUCLEAN;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	err = record_fill(&rec, p, r);
	if (err) {
		index_record_free(r);
		return err;
	}
	*out = r;
	return 0;
}

int index_name_decode(const uint8_t *p, struct index_name *out)
{
	struct layer_name name;
	size_t need;
	char *text;
	int err = 0;

	memcpy(&name, p, sizeof(name));
	need = sizeof(name) + name.name_len;
	if (pad8(need) != name.len_bytes || name.zero || !padding_valid(p, need, name.len_bytes) ||
	    !index_name_valid((const char *)p + sizeof(name), name.name_len))
		return -EUCLEAN;
	text = text_decode(p + sizeof(name), name.name_len, &err);
	if (!err)
		*out = (struct index_name){ name.parent, name.ino, text };
	return err;
}
