/*
 * The bytes of an index: encoding and decoding of its pieces, and of an index as a whole. Piece by piece, with little
 * memory: stream.c.
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

#include "block/index/inside.h"
#include "block/summary.h"

/* No zstd frame of n bytes decodes to more than this: a block of 128 KiB takes at least 4 bytes. */
#define BODY_BYTES_MAX(n) ((64u << 10) + 40000 * (uint64_t)(n))

/* Read at once of a source. */
#define SOURCE_BYTES ((size_t)16 << 10)

static const char index_magic[8] = { 'S', 'P', 'I', 'L', 'L', 'I', 'D', 'X' };

static int read_bytes(void *ctx, void *buf, size_t n, uint64_t off)
{
	memcpy(buf, (const uint8_t *)ctx + off, n);
	return 0;
}

struct index_source index_source_of(const void *bytes, size_t n)
{
	return (struct index_source){ read_bytes, (void *)bytes, n };
}

int index_source_hash(const struct index_source *src, const struct layer_index_head *head, uint64_t *out)
{
	struct layer_index_head h = *head;
	uint8_t buf[SOURCE_BYTES];
	XXH64_state_t state;
	uint64_t off = sizeof(h);
	int err = 0;

	h.xxh64 = 0;
	XXH64_reset(&state, 0);
	XXH64_update(&state, &h, sizeof(h));
	while (off < src->len && !err) {
		size_t n = src->len - off < sizeof(buf) ? (size_t)(src->len - off) : sizeof(buf);

		err = src->read(src->ctx, buf, n, off);
		if (!err)
			XXH64_update(&state, buf, n);
		off += n;
	}
	if (!err)
		*out = XXH64_digest(&state);
	return err;
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

void index_head_fill(struct layer_index_head *head, uint64_t nrecords, uint64_t nnames, uint64_t nchain, uint64_t body_bytes,
		     uint64_t raw_bytes)
{
	memcpy(head->magic, index_magic, sizeof(index_magic));
	head->version = LAYER_FORMAT_VERSION;
	head->nrecords = nrecords;
	head->nnames = nnames;
	head->nchain = nchain;
	head->body_bytes = body_bytes;
	head->raw_bytes = raw_bytes;
}

struct bytes {
	uint8_t *p;
	size_t len, cap;
};

static int append_bytes(void *ctx, const void *from, size_t n)
{
	struct bytes *b = ctx;

	if (b->cap - b->len < n) {
		size_t cap = b->len + n + b->cap / 2;
		uint8_t *p = realloc(b->p, cap);

		if (!p)
			return -ENOMEM;
		b->p = p;
		b->cap = cap;
	}
	memcpy(b->p + b->len, from, n);
	b->len += n;
	return 0;
}

int index_write(struct index_writer *w, const struct index *ix)
{
	int err = 0;

	for (size_t i = 0; i < ix->n && !err; i++)
		err = index_writer_record(w, ix->v[i]);
	for (size_t i = 0; i < ix->nnames && !err; i++)
		err = index_writer_name(w, &ix->names[i]);
	return err;
}

int index_encode(const struct index *ix, struct layer_index_head *head, void **out, size_t *len_out)
{
	struct bytes b = { 0 };
	struct index_source src;
	struct index_writer *w;
	int err = index_writer_new(head->layer, (struct index_sink){ append_bytes, &b }, &w);

	if (err)
		return err;
	err = append_bytes(&b, head, sizeof(*head));
	if (!err)
		err = index_write(w, ix);
	if (!err)
		err = index_writer_end(w, ix->chain, ix->nchain, head);
	index_writer_free(w);
	if (err) {
		free(b.p);
		return err;
	}
	src = index_source_of(b.p, b.len);
	index_source_hash(&src, head, &head->xxh64);
	memcpy(b.p, head, sizeof(*head));
	*out = b.p;
	*len_out = b.len;
	return 0;
}

/* The counts and the body that they call for can stand behind stored bytes of this length. */
static bool counts_valid(const struct layer_index_head *head, uint64_t stored)
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

int index_head_read(const struct index_source *src, struct layer_index_head *out)
{
	struct layer_index_head head;
	uint64_t hash;
	int err = src->len < sizeof(head) ? -EUCLEAN : src->read(src->ctx, &head, sizeof(head), 0);

	if (err)
		return err;
	if (memcmp(head.magic, index_magic, sizeof(index_magic)) || head.version != LAYER_FORMAT_VERSION ||
	    head.kind < LAYER_SEGMENT || head.kind > LAYER_FULL)
		return -EUCLEAN;
	err = index_source_hash(src, &head, &hash);
	if (!err && (hash != head.xxh64 || !counts_valid(&head, src->len - sizeof(head))))
		err = -EUCLEAN;
	if (!err)
		*out = head;
	return err;
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
