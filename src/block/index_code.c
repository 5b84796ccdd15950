/*
 * The bytes of an index: encoding and decoding of struct layer_index_head and the body behind it.
 *
 * Invariants: (1) what index_encode makes, index_decode takes and gives back equal; (2)
 * index_decode reads no byte outside [bytes, bytes + n), believes no length before it is bounded by what
 * can be there, and returns only indexes that keep index.h's invariants; (3) encode refuses what decode
 * would refuse.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "block/index_priv.h"
#include "block/summary.h"

#define BODY_LEVEL 3
/* A longer body is stored in frames of about so many bytes, so that a record of it is had without the others. */
#define BODY_WHOLE_MAX ((size_t)256 << 10)
#define BODY_PAGE_BYTES ((size_t)64 << 10)
/* No zstd frame of n bytes decodes to more than this: a block of 128 KiB takes at least 4 bytes. */
#define BODY_BYTES_MAX(n) ((64u << 10) + 40000 * (uint64_t)(n))

static const char index_magic[8] = { 'S', 'P', 'I', 'L', 'L', 'I', 'D', 'X' };

static uint64_t head_hash(const struct layer_index_head *head, const void *stored, size_t len)
{
	struct layer_index_head h = *head;
	XXH64_state_t state;

	h.xxh64 = 0;
	XXH64_reset(&state, 0);
	XXH64_update(&state, &h, sizeof(h));
	XXH64_update(&state, stored, len);
	return XXH64_digest(&state);
}

static bool block_valid(const struct layer_block *b, uint64_t block_bytes)
{
	if (b->block == UINT64_MAX || b->raw_len > block_bytes || b->stat_type >= SUMMARY_NTYPES || b->zero)
		return false;
	if (!b->frame_off)
		return true;
	return b->layer && b->frame_len && (uint64_t)b->raw_off + b->raw_len <= b->frame_raw;
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

static bool record_valid(const struct index_record *r)
{
	if (r->type == LAYER_REC_GONE ? r->nblocks || r->ntombs : r->type != LAYER_REC_INODE)
		return false;
	return blocks_valid(r) && tombs_valid(r) && index_record_xattrs_valid(r);
}

static size_t pad8(size_t n)
{
	return (n + 7) & ~(size_t)7;
}

static size_t record_bytes(const struct index_record *r)
{
	return pad8(sizeof(struct layer_record) + r->nblocks * sizeof(struct layer_block) +
		    r->ntombs * sizeof(struct layer_tomb) + strlen(r->path) + strlen(r->dtype) +
		    strlen(r->shape) + strlen(r->target) + r->xattrs_len + r->data_len);
}

static size_t name_bytes(const struct index_name *n)
{
	return pad8(sizeof(struct layer_name) + strlen(n->name));
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
		.kind = r->kind,
		.ino = r->ino,
		.version = r->version,
		.size_bytes = r->size_bytes,
		.nblocks = r->nblocks,
		.ntombs = r->ntombs,
		.mtime_ns = r->mtime_ns,
		.ctime_ns = r->ctime_ns,
		.btime_ns = r->btime_ns,
		.rdev = r->rdev,
		.file_id = r->file_id,
		.stored_bytes = r->stored_bytes,
		.mode = r->mode,
		.uid = r->uid,
		.gid = r->gid,
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

static void name_encode(const struct index_name *n, uint8_t *p, size_t len)
{
	struct layer_name name = {
		.len_bytes = (uint32_t)len,
		.name_len = (uint16_t)strlen(n->name),
		.parent = n->parent,
		.ino = n->ino,
	};

	put(put(p, &name, sizeof(name)), n->name, name.name_len);
}

static int records_measure(const struct index *ix, uint64_t layer, size_t *len_out, uint64_t *raw_out)
{
	uint64_t raw = 0;
	size_t len = 0;

	for (size_t i = 0; i < ix->n; i++) {
		const struct index_record *r = ix->v[i];

		if (!record_valid(r) || (i && ix->v[i - 1]->ino >= r->ino))
			return -EINVAL;
		if (r->nblocks > UINT32_MAX / sizeof(*r->blocks) ||
		    r->ntombs > UINT32_MAX / sizeof(*r->tombs) || record_bytes(r) > UINT32_MAX)
			return -EFBIG;
		len += record_bytes(r);
		for (size_t b = 0; b < r->nblocks; b++)
			if (r->blocks[b].frame_off && r->blocks[b].layer == layer)
				raw += r->blocks[b].raw_len;
	}
	*len_out = len;
	*raw_out = raw;
	return 0;
}

/* Checks everything and gives the length of the body. */
static int body_measure(const struct index *ix, uint64_t layer, size_t *len_out, uint64_t *raw_out)
{
	size_t len = 0;
	int err = records_measure(ix, layer, &len, raw_out);

	if (!err)
		err = index_chain_check(ix->chain, ix->nchain);
	if (err)
		return err;
	for (size_t i = 0; i < ix->nnames; i++) {
		const struct index_name *n = &ix->names[i];

		if (!index_name_valid(n->name, strlen(n->name)) || (i && index_name_compare(n - 1, n) >= 0))
			return -EINVAL;
		len += name_bytes(n);
	}
	len += ix->nchain * sizeof(*ix->chain);
	if (len > UINT32_MAX)
		return -EFBIG;
	*len_out = len;
	return 0;
}

/* The body on its way into frames, behind room for the head. A frame is compressed when the next piece would not fit. */
struct body_writer {
	ZSTD_CCtx *cctx;
	uint8_t *page, *out;
	size_t page_len, page_cap, page_max, out_len, out_cap;
	int err;
};

static void writer_flush(struct body_writer *w)
{
	size_t bound = ZSTD_compressBound(w->page_len), len;

	if (w->err || !w->page_len)
		return;
	if (w->out_cap - w->out_len < bound) {
		size_t cap = w->out_len + bound + w->out_cap / 2;
		uint8_t *out = realloc(w->out, cap);

		if (!out) {
			w->err = -ENOMEM;
			return;
		}
		w->out = out;
		w->out_cap = cap;
	}
	len = ZSTD_compressCCtx(w->cctx, w->out + w->out_len, bound, w->page, w->page_len, BODY_LEVEL);
	if (ZSTD_isError(len))
		w->err = ZSTD_getErrorCode(len) == ZSTD_error_memory_allocation ? -ENOMEM : -EIO;
	else
		w->out_len += len;
	w->page_len = 0;
}

/* Zeroed room for the next n bytes; NULL after an error. */
static uint8_t *writer_room(struct body_writer *w, size_t n)
{
	if (w->page_len && n > w->page_max - w->page_len)
		writer_flush(w);
	if (w->page_cap - w->page_len < n) {
		size_t cap = w->page_len + n + w->page_cap;
		uint8_t *page = realloc(w->page, cap);

		if (!page)
			w->err = -ENOMEM;
		else {
			w->page = page;
			w->page_cap = cap;
		}
	}
	if (w->err)
		return NULL;
	w->page_len += n;
	return memset(w->page + w->page_len - n, 0, n);
}

static void body_write(struct body_writer *w, const struct index *ix)
{
	size_t n = ix->nchain * sizeof(*ix->chain);
	uint8_t *room;

	for (size_t i = 0; i < ix->n && !w->err; i++) {
		size_t len = record_bytes(ix->v[i]);

		room = writer_room(w, len);
		if (room)
			record_encode(ix->v[i], room, len);
	}
	for (size_t i = 0; i < ix->nnames && !w->err; i++) {
		size_t len = name_bytes(&ix->names[i]);

		room = writer_room(w, len);
		if (room)
			name_encode(&ix->names[i], room, len);
	}
	room = n && !w->err ? writer_room(w, n) : NULL;
	if (room)
		put(room, ix->chain, n);
	writer_flush(w);
}

/* The body behind room for the head. *len_out counts both. */
static int body_compress(const struct index *ix, size_t body_len, uint8_t **out, size_t *len_out)
{
	size_t head = sizeof(struct layer_index_head), whole = body_len <= BODY_WHOLE_MAX ? body_len : BODY_PAGE_BYTES;
	struct body_writer w = { .cctx = ZSTD_createCCtx(), .page = malloc(whole + 1), .page_cap = whole + 1, .page_max = whole,
				 .out = malloc(head), .out_len = head, .out_cap = head };
	uint8_t *fit;

	if (!w.cctx || !w.page || !w.out)
		w.err = -ENOMEM;
	if (!w.err && body_len)
		body_write(&w, ix);
	ZSTD_freeCCtx(w.cctx);
	free(w.page);
	if (w.err) {
		free(w.out);
		return w.err;
	}
	fit = realloc(w.out, w.out_len);
	*out = fit ? fit : w.out;
	*len_out = w.out_len;
	return 0;
}

int index_encode(const struct index *ix, struct layer_index_head *head, void **out, size_t *len_out)
{
	uint64_t raw_bytes = 0;
	size_t body_len = 0, len = 0;
	uint8_t *bytes = NULL;
	int err = body_measure(ix, head->layer, &body_len, &raw_bytes);

	if (!err)
		err = body_compress(ix, body_len, &bytes, &len);
	if (err)
		return err;
	memcpy(head->magic, index_magic, sizeof(index_magic));
	head->version = LAYER_FORMAT_VERSION;
	head->nrecords = ix->n;
	head->nnames = ix->nnames;
	head->nchain = ix->nchain;
	head->body_bytes = body_len;
	head->raw_bytes = raw_bytes;
	head->xxh64 = head_hash(head, bytes + sizeof(*head), len - sizeof(*head));
	memcpy(bytes, head, sizeof(*head));
	*out = bytes;
	*len_out = len;
	return 0;
}

/* The counts and the body that they call for can stand behind stored bytes of this length. */
static bool counts_valid(const struct layer_index_head *head, size_t stored)
{
	uint64_t left = head->body_bytes;

	if (left > UINT32_MAX || left > BODY_BYTES_MAX(stored) || !left != !stored)
		return false;
	if (head->nrecords > left / sizeof(struct layer_record))
		return false;
	left -= head->nrecords * sizeof(struct layer_record);
	if (head->nnames > left / sizeof(struct layer_name))
		return false;
	left -= head->nnames * sizeof(struct layer_name);
	return head->nchain <= left / sizeof(uint64_t);
}

bool index_head_valid(const struct layer_index_head *head, const uint8_t *stored, size_t len)
{
	return !memcmp(head->magic, index_magic, sizeof(index_magic)) &&
	       head->version == LAYER_FORMAT_VERSION && head->kind >= LAYER_SEGMENT && head->kind <= LAYER_FULL &&
	       head->xxh64 == head_hash(head, stored, len) && counts_valid(head, len);
}

bool index_frame_measure(const uint8_t *p, size_t left, uint64_t most, size_t *len_out, size_t *raw_out)
{
	unsigned long long raw;
	uint32_t magic;
	size_t len;

	if (left < sizeof(magic))
		return false;
	memcpy(&magic, p, sizeof(magic));
	raw = ZSTD_getFrameContentSize(p, left);
	len = ZSTD_findFrameCompressedSize(p, left);
	if (magic != ZSTD_MAGICNUMBER || ZSTD_isError(len) || !raw || raw > most)
		return false;
	*len_out = len;
	*raw_out = (size_t)raw;
	return true;
}

int index_frame_decode(const uint8_t *p, size_t len, uint8_t *out, size_t raw)
{
	size_t got = ZSTD_decompress(out, raw, p, len);

	if (got == raw)
		return 0;
	return ZSTD_getErrorCode(got) == ZSTD_error_memory_allocation ? -ENOMEM : -EUCLEAN;
}

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
	r->ino = rec->ino;
	r->type = rec->type;
	r->kind = rec->kind;
	r->version = rec->version;
	r->size_bytes = rec->size_bytes;
	r->rdev = rec->rdev;
	r->file_id = rec->file_id;
	r->stored_bytes = rec->stored_bytes;
	r->mtime_ns = rec->mtime_ns;
	r->ctime_ns = rec->ctime_ns;
	r->btime_ns = rec->btime_ns;
	r->mode = rec->mode;
	r->uid = rec->uid;
	r->gid = rec->gid;
	r->block_bytes = rec->block_bytes;
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
	return record_valid(r) ? 0 : -EUCLEAN;
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

/* Appends the record at p to ix, whose room is reserved. */
static int record_append(const uint8_t *p, struct index *ix)
{
	struct index_record *r;
	int err = index_record_decode(p, &r);

	if (err)
		return err;
	if (ix->n && ix->v[ix->n - 1]->ino >= r->ino) {
		index_record_free(r);
		return -EUCLEAN;
	}
	ix->v[ix->n++] = r;
	return 0;
}

/* What is left of the body to be read. */
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
static int name_decode(const struct layer_name *name, const uint8_t *p, struct index *ix)
{
	struct index_name *n = &ix->names[ix->nnames];
	const char *text = (const char *)p + sizeof(*name);
	size_t need = sizeof(*name) + name->name_len;
	int err = 0;

	if (pad8(need) != name->len_bytes || name->zero || !padding_valid(p, need, name->len_bytes) ||
	    !index_name_valid(text, name->name_len))
		return -EUCLEAN;
	n->parent = name->parent;
	n->ino = name->ino;
	n->name = text_decode(p + sizeof(*name), name->name_len, &err);
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
		err = name_decode(&name, c->p, ix);
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
	int err = 0;

	if (c->left != n * sizeof(*ix->chain))
		return -EUCLEAN;
	if (!n)
		return 0;
	ix->chain = array_take(&c->p, n, sizeof(*ix->chain), &err);
	if (err)
		return err;
	ix->nchain = n;
	err = index_chain_check(ix->chain, n);
	return err == -EINVAL ? -EUCLEAN : err;
}

int index_decode(const void *bytes, size_t n, struct layer_index_head *head_out,
		 struct index *ix_out)
{
	const uint8_t *stored = (const uint8_t *)bytes + sizeof(struct layer_index_head);
	struct layer_index_head head;
	struct cursor c;
	struct index ix;
	uint8_t *body;
	int err;

	if (n < sizeof(head))
		return -EUCLEAN;
	memcpy(&head, bytes, sizeof(head));
	if (!index_head_valid(&head, stored, n - sizeof(head)))
		return -EUCLEAN;
	err = body_decompress(&head, stored, n - sizeof(head), &body);
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
