/*
 * Fuzz target: index_decode on any bytes: as they are, with their checksum put right, and as a head with the decoded
 * body behind it. What is taken must encode again, merge with itself, and be found.
 */
#include <errno.h>
#include <stdbool.h>

#define XXH_INLINE_ALL
#include <xxhash.h>
#include <zstd.h>

#include "../unit/encode.h"
#include "block/index.h"
#include "fuzz.h"

#define HEAD sizeof(struct layer_index_head)

static int name_ends(void *ctx, const char *name, const void *value, size_t len)
{
	const void *got;
	size_t got_len;

	(void)value;
	if (!index_record_xattr(ctx, name, &got, &got_len) || strlen(name) > 255)
		abort();
	return len > UINT32_MAX;
}

/* Everything that is there is found. */
static void look(const struct index *ix)
{
	uint64_t ino;

	for (size_t i = 0; i < ix->n; i++) {
		struct index_record *r = ix->v[i];

		if (index_find(ix, r->facts.ino) != r || index_record_xattr_walk(r, name_ends, r))
			abort();
		for (size_t k = 0; k < r->nblocks; k++)
			if (index_record_block(r, r->blocks[k].block) != &r->blocks[k])
				abort();
		for (size_t k = 0; k < r->ntombs; k++)
			if (!index_record_hides(r, r->tombs[k].first))
				abort();
	}
	for (size_t i = 0; i < ix->nnames; i++) {
		size_t first, end;

		index_name_range(ix, ix->names[i].parent, &first, &end);
		if (!index_name_find(ix, ix->names[i].parent, ix->names[i].name, &ino) || ino != ix->names[i].ino ||
		    first > i || end <= i)
			abort();
	}
}

static void encode(const struct index *ix, struct layer_index_head *head, struct index *back)
{
	struct layer_index_head again;
	void *out;
	size_t len;

	if (index_encode(ix, head, &out, &len) || index_decode(out, len, &again, back))
		abort();
	if (back->n != ix->n || back->nnames != ix->nnames || back->nchain != ix->nchain)
		abort();
	free(out);
}

/* The record of ino by its page; what index_decode has taken is there. */
static void look_paged(const uint8_t *bytes, const struct index_pages *ps, uint64_t ino, bool taken)
{
	const struct index_page *p = index_pages_find(ps, ino);
	uint8_t *page = p ? malloc(p->raw) : NULL;
	struct index_record *r;
	int err;

	if (p && !page)
		return;
	err = p ? index_page_decode(p, bytes + HEAD + p->off, page) : 0;
	if (err && taken)
		abort();
	err = !p ? -ENOENT : err ? err : index_page_record(p, page, ino, &r);
	if ((err && taken) || (!err && r->facts.ino != ino))
		abort();
	if (!err)
		index_record_free(r);
	free(page);
}

static void decode_paged(const uint8_t *bytes, size_t size, const struct index *ix)
{
	const struct index_source src = index_source_of(bytes, size);
	struct index_pages ps;

	if (index_pages_scan(&src, &ps)) {
		if (ix && ix->n)
			abort();
		return;
	}
	for (size_t i = 0; ix && i < ix->n; i++)
		look_paged(bytes, &ps, ix->v[i]->facts.ino, true);
	for (size_t i = 0; i < ps.n; i++)
		look_paged(bytes, &ps, ps.v[i].last_ino, false);
	index_pages_fini(&ps);
}

/* Piece by piece; what index_decode has taken is there. */
static void decode_pieces(const uint8_t *bytes, size_t size, const struct index *ix)
{
	struct index_reader *in;
	struct index_record *r;
	struct index_name name;
	size_t n = 0, nnames = 0;
	int err;

	if (index_reader_new(index_source_of(bytes, size), &in)) {
		if (ix)
			abort();
		return;
	}
	for (err = index_reader_record(in, &r); !err; err = index_reader_record(in, &r)) {
		if (ix && (n >= ix->n || ix->v[n]->facts.ino != r->facts.ino))
			abort();
		n++;
		index_record_free(r);
	}
	for (err = index_reader_name(in, &name); !err; err = index_reader_name(in, &name)) {
		nnames++;
		free(name.name);
	}
	if (ix && (n != ix->n || nnames != ix->nnames || err != -ENOENT))
		abort();
	index_reader_free(in);
}

static void decode(const uint8_t *bytes, size_t size)
{
	struct layer_index_head head;
	struct index ix, back, flat;
	uint64_t body_bytes;

	if (index_decode(bytes, size, &head, &ix)) {
		decode_paged(bytes, size, NULL);
		decode_pieces(bytes, size, NULL);
		return;
	}
	decode_paged(bytes, size, &ix);
	decode_pieces(bytes, size, &ix);
	body_bytes = head.body_bytes;
	look(&ix);
	encode(&ix, &head, &back);
	if (head.body_bytes > body_bytes || index_merge(&ix, &back))
		abort();
	index_fini(&back);
	encode(&ix, &head, &back);
	index_flatten(&back);
	encode(&back, &head, &flat);
	index_fini(&ix);
	index_fini(&back);
	index_fini(&flat);
}

static void rehash(uint8_t *bytes, size_t size)
{
	size_t at = offsetof(struct layer_index_head, xxh64);
	uint64_t hash;

	memset(bytes + at, 0, sizeof(hash));
	hash = XXH64(bytes, size, 0);
	memcpy(bytes + at, &hash, sizeof(hash));
}

/* data is head and decoded body. */
static void decode_packed(const uint8_t *data, size_t size)
{
	size_t cap = ZSTD_compressBound(size), len = HEAD;
	uint64_t body_bytes = size - HEAD;
	uint8_t *bytes = malloc(HEAD + cap);

	if (!bytes)
		return;
	memcpy(bytes, data, HEAD);
	memcpy(bytes + offsetof(struct layer_index_head, body_bytes), &body_bytes, sizeof(body_bytes));
	if (body_bytes)
		len += ZSTD_compress(bytes + HEAD, cap, data + HEAD, body_bytes, 1);
	rehash(bytes, len);
	decode(bytes, len);
	free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy;

	decode(data, size);
	if (size < HEAD)
		return 0;
	decode_packed(data, size);
	copy = malloc(size);
	if (!copy)
		return 0;
	memcpy(copy, data, size);
	rehash(copy, size);
	decode(copy, size);
	free(copy);
	return 0;
}
