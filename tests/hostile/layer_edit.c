/*
 * Edits of what a layer file says: a value of the head, of a record, a name, an entry of its index, or of its last segment. The body is
 * compressed again, checksum and seek table fit, and so does the file's length in meta.db.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>
#include <zstd.h>

#include "block/format.h"
#include "edit.h"
#include "unit/unit.h"

#define HEAD sizeof(struct layer_index_head)

/* A skippable frame with head and body, and what stands behind it. */
struct part {
	size_t off, end; /* in the file */
	struct layer_index_head head;
	uint8_t *body;
	size_t body_bytes;
};

struct field {
	size_t off, bytes;
};

#define FIELD(type, name) { offsetof(struct type, name), sizeof(((struct type *)0)->name) }

static const struct field head_fields[] = {
	FIELD(layer_index_head, kind), FIELD(layer_index_head, layer), FIELD(layer_index_head, prev_off_bytes), FIELD(layer_index_head, commit),
	FIELD(layer_index_head, raw_bytes), FIELD(layer_index_head, stored_bytes), FIELD(layer_index_head, nrecords),
	FIELD(layer_index_head, nnames), FIELD(layer_index_head, nchain),
};
static const struct field record_fields[] = {
	FIELD(layer_record, type), FIELD(layer_record, kind), FIELD(layer_record, ino), FIELD(layer_record, version),
	FIELD(layer_record, size_bytes), FIELD(layer_record, size_bytes), FIELD(layer_record, nblocks), FIELD(layer_record, ntombs),
	FIELD(layer_record, file_id), FIELD(layer_record, mode), FIELD(layer_record, mode), FIELD(layer_record, block_bytes),
	FIELD(layer_record, block_bytes), FIELD(layer_record, path_len), FIELD(layer_record, dtype_len), FIELD(layer_record, target_len),
	FIELD(layer_record, xattrs_len), FIELD(layer_record, data_len), FIELD(layer_record, stored_bytes),
};
static const struct field block_fields[] = {
	FIELD(layer_block, block), FIELD(layer_block, layer), FIELD(layer_block, frame_off), FIELD(layer_block, frame_len),
	FIELD(layer_block, frame_raw), FIELD(layer_block, raw_off), FIELD(layer_block, raw_len), FIELD(layer_block, filter),
	FIELD(layer_block, elem_bytes), FIELD(layer_block, stat_type), FIELD(layer_block, nan_bits), FIELD(layer_block, counts),
	FIELD(layer_block, min_bits),
};
static const struct field name_fields[] = { FIELD(layer_name, parent), FIELD(layer_name, ino), FIELD(layer_name, ino),
					    FIELD(layer_name, name_len), { sizeof(struct layer_name), 1 }, { sizeof(struct layer_name), 2 } };

/* ---- parts ---- */

static bool take_part(const struct image_file *f, size_t off, struct part *out)
{
	struct layer_skip skip;
	size_t len;

	if (off + sizeof(skip) + HEAD > f->n)
		return false;
	memcpy(&skip, f->bytes + off, sizeof(skip));
	memcpy(&out->head, f->bytes + off + sizeof(skip), HEAD);
	len = skip.len_bytes;
	if (skip.magic != LAYER_SKIP_MAGIC || len < HEAD || len > f->n - off - sizeof(skip) || memcmp(out->head.magic, "SPILLIDX", 8) ||
	    out->head.body_bytes > 1 << 24)
		return false;
	out->off = off;
	out->end = off + sizeof(skip) + len;
	out->body_bytes = out->head.body_bytes;
	out->body = calloc(1, out->body_bytes + 64);
	CHECK(out->body);
	if (len == HEAD || ZSTD_decompress(out->body, out->body_bytes, f->bytes + off + sizeof(skip) + HEAD, len - HEAD) == out->body_bytes)
		return true;
	free(out->body);
	return false;
}

/* The last one of the file: an index, or a segment. */
static bool find_part(const struct image_file *f, struct part *out)
{
	struct part p;
	bool found = false;

	for (size_t at = 0; at + 16 < f->n; at++) {
		if (memcmp(f->bytes + at + 8, "SPILLIDX", 8) || !take_part(f, at, &p))
			continue;
		if (found)
			free(out->body);
		*out = p;
		found = true;
	}
	return found;
}

static bool fits_seek_table(const struct image_file *f, const struct part *p)
{
	struct layer_skip skip;

	if (f->n - p->end < sizeof(skip) + sizeof(struct layer_seek_footer) + sizeof(struct layer_seek_entry))
		return false;
	memcpy(&skip, f->bytes + p->end, sizeof(skip));
	return skip.magic == LAYER_SEEK_MAGIC && skip.len_bytes == f->n - p->end - sizeof(skip);
}

/* The file with the part in place of what it was. */
static void put_part(struct image *im, struct image_file *f, struct part *p)
{
	size_t cap = ZSTD_compressBound(p->body_bytes), tail = f->n - p->end, len = HEAD, at;
	uint8_t *v = malloc(p->off + sizeof(struct layer_skip) + HEAD + cap + tail), *head = v + p->off + sizeof(struct layer_skip);
	bool sealed = fits_seek_table(f, p);
	struct layer_skip skip = { LAYER_SKIP_MAGIC, 0 };
	char sql[128];

	CHECK(v);
	memcpy(v, f->bytes, p->off);
	p->head.body_bytes = p->body_bytes;
	p->head.xxh64 = 0;
	memcpy(head, &p->head, HEAD);
	if (p->body_bytes)
		len += ZSTD_compress(head + HEAD, cap, p->body, p->body_bytes, 1);
	p->head.xxh64 = XXH64(head, len, 0);
	memcpy(head, &p->head, HEAD);
	skip.len_bytes = (uint32_t)len;
	memcpy(v + p->off, &skip, sizeof(skip));
	at = p->off + sizeof(skip) + len;
	memcpy(v + at, f->bytes + p->end, tail);
	if (sealed) {
		uint32_t bytes = (uint32_t)(sizeof(skip) + len);

		memcpy(v + at + tail - sizeof(struct layer_seek_footer) - sizeof(struct layer_seek_entry), &bytes, sizeof(bytes));
	}
	snprintf(sql, sizeof(sql), "UPDATE layers SET bytes=bytes+%lld WHERE number=%llu", (long long)(at + tail) - (long long)f->n,
		 strtoull(f->name + 7, NULL, 10));
	free(f->bytes);
	f->bytes = v;
	f->n = at + tail;
	edit_sql(im, sql);
}

/* ---- values ---- */

static uint64_t get(const uint8_t *at, size_t bytes)
{
	uint64_t v = 0;

	memcpy(&v, at, bytes);
	return v;
}

static void change(uint8_t *at, const char *of, const struct field *f, struct chance *c, struct edit_story *story)
{
	uint64_t was = get(at + f->off, f->bytes), v = chance_evil(c);

	if (chance_below(c, 3) == 0)
		v = was + chance_below(c, 5) - 2;
	if (chance_below(c, 8) == 0)
		v = was ^ 1ull << chance_below(c, f->bytes * 8);
	memcpy(at + f->off, &v, f->bytes);
	edit_tell(story, "%s byte %zu: %llu -> %llu", of, f->off, (unsigned long long)was, (unsigned long long)get(at + f->off, f->bytes));
}

/* Where the n-th record is, or with n = nrecords the first name. */
static size_t record_at(const struct part *p, uint64_t n)
{
	size_t at = 0;

	for (; n && at + sizeof(struct layer_record) <= p->body_bytes; n--)
		at += get(p->body + at, 4) ? get(p->body + at, 4) : 8;
	return at;
}

static void change_record(struct part *p, struct chance *c, struct edit_story *story)
{
	size_t at = record_at(p, chance_below(c, p->head.nrecords));
	uint64_t nblocks;

	if (at + sizeof(struct layer_record) > p->body_bytes)
		return;
	nblocks = get(p->body + at + offsetof(struct layer_record, nblocks), 8);
	if (nblocks && nblocks < 1000 && chance_below(c, 2)) {
		size_t block = at + sizeof(struct layer_record) + chance_below(c, nblocks) * sizeof(struct layer_block);

		if (block + sizeof(struct layer_block) <= p->body_bytes)
			change(p->body + block, "block", &block_fields[chance_below(c, sizeof(block_fields) / sizeof(*block_fields))], c, story);
		return;
	}
	change(p->body + at, "record", &record_fields[chance_below(c, sizeof(record_fields) / sizeof(*record_fields))], c, story);
}

static void change_name(struct part *p, struct chance *c, struct edit_story *story)
{
	size_t at = record_at(p, p->head.nrecords);

	for (uint64_t n = chance_below(c, p->head.nnames); n && at + sizeof(struct layer_name) <= p->body_bytes; n--)
		at += get(p->body + at, 4) ? get(p->body + at, 4) : 8;
	if (at + sizeof(struct layer_name) + 2 <= p->body_bytes)
		change(p->body + at, "name", &name_fields[chance_below(c, sizeof(name_fields) / sizeof(*name_fields))], c, story);
}

static void change_chain(struct part *p, struct chance *c, struct edit_story *story)
{
	uint64_t n = p->head.nchain;

	if (n && n <= p->body_bytes / 8)
		change(p->body + p->body_bytes - n * 8 + chance_below(c, n) * 8, "chain", &(struct field){ 0, 8 }, c, story);
}

bool edit_layer(struct image *im, struct image_file *f, struct chance *c, struct edit_story *story)
{
	struct part p;

	if (f->directory || !find_part(f, &p))
		return false;
	edit_tell(story, "%s", f->name);
	for (uint64_t n = 1 + chance_below(c, 3); n; n--) {
		switch (chance_below(c, 8)) {
		case 0:
			change((uint8_t *)&p.head, "head", &head_fields[chance_below(c, sizeof(head_fields) / sizeof(*head_fields))], c, story);
			break;
		case 1:
			change_chain(&p, c, story);
			break;
		case 2: case 3:
			change_name(&p, c, story);
			break;
		default:
			change_record(&p, c, story);
		}
	}
	put_part(im, f, &p);
	free(p.body);
	return true;
}
