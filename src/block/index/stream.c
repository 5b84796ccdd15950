/*
 * An index piece by piece: read from where its bytes are, and written to where they are to be, with the memory of one
 * record and one frame.
 *
 * Invariants: (1) a reader gives what index_decode would, in the same order, and believes nothing before the checksum of all is
 * verified; (2) a writer refuses what index_decode would refuse; (3) a body of at most BODY_WHOLE_MAX is one frame; behind
 * the first frame of a longer one come frames of about BODY_PAGE_BYTES; each begins with a piece.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <zstd.h>
#include <zstd_errors.h>

#include "block/frame.h"
#include "block/index/inside.h"

#define BODY_LEVEL 3
#define BODY_WHOLE_MAX ((size_t)256 << 10)
#define BODY_PAGE_BYTES ((size_t)64 << 10)
#define READ_BYTES ((size_t)32 << 10)

struct index_reader {
	struct index_source src;
	uint64_t off; /* of what is behind in[] */
	ZSTD_DStream *stream;
	uint8_t in[READ_BYTES];
	ZSTD_inBuffer in_left;
	uint64_t nrecords, nnames, body_left; /* still to come */
	bool any;                             /* record was read */
	uint64_t last_ino, last_parent;
	char last_name[INDEX_NAME_BYTES_MAX + 1]; /* "": none */
	uint8_t *piece;
	size_t piece_cap;
};

void index_reader_free(struct index_reader *r)
{
	if (!r)
		return;
	ZSTD_freeDStream(r->stream);
	free(r->piece);
	free(r);
}

int index_reader_new(struct index_source src, struct index_reader **out)
{
	struct layer_index_head head;
	struct index_reader *r;
	int err = index_head_read(&src, &head);

	if (err)
		return err;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->src = src;
	r->off = sizeof(head);
	r->nrecords = head.nrecords;
	r->nnames = head.nnames;
	r->body_left = head.body_bytes;
	r->in_left.src = r->in;
	r->stream = ZSTD_createDStream();
	if (!r->stream) {
		index_reader_free(r);
		return -ENOMEM;
	}
	*out = r;
	return 0;
}

/* More stored bytes, if there are any. */
static int refill(struct index_reader *r)
{
	uint64_t left = r->src.len - r->off;
	size_t n = left < sizeof(r->in) ? (size_t)left : sizeof(r->in);
	int err = n ? r->src.read(r->src.ctx, r->in, n, r->off) : -EUCLEAN;

	if (err)
		return err;
	r->off += n;
	r->in_left.pos = 0;
	r->in_left.size = n;
	return 0;
}

/* The next n decoded bytes, to r->piece at `at`. */
static int take(struct index_reader *r, size_t at, size_t n)
{
	ZSTD_outBuffer out = { 0 };

	if (n > r->body_left)
		return -EUCLEAN;
	if (at + n > r->piece_cap) {
		void *p = realloc(r->piece, at + n);

		if (!p)
			return -ENOMEM;
		r->piece = p;
		r->piece_cap = at + n;
	}
	out = (ZSTD_outBuffer){ r->piece + at, n, 0 };
	while (out.pos < n) {
		size_t before = out.pos, status = ZSTD_decompressStream(r->stream, &out, &r->in_left);
		int err = 0;

		if (ZSTD_isError(status))
			return ZSTD_getErrorCode(status) == ZSTD_error_memory_allocation ? -ENOMEM : -EUCLEAN;
		if (out.pos == before && r->in_left.pos == r->in_left.size)
			err = refill(r);
		if (err)
			return err;
	}
	r->body_left -= n;
	return 0;
}

/* A piece that begins with its length, and has `least` bytes. */
static int take_piece(struct index_reader *r, size_t least)
{
	uint32_t len;
	int err = take(r, 0, least);

	if (err)
		return err;
	memcpy(&len, r->piece, sizeof(len));
	if (len < least || len % 8)
		return -EUCLEAN;
	return take(r, least, len - least);
}

int index_reader_record(struct index_reader *r, struct index_record **out)
{
	struct index_record *record;
	struct layer_record rec;
	int err;

	do {
		if (!r->nrecords)
			return -ENOENT;
		err = take_piece(r, sizeof(rec));
		if (err)
			return err;
		r->nrecords--;
		memcpy(&rec, r->piece, sizeof(rec));
	} while (rec.type != LAYER_REC_INODE && rec.type != LAYER_REC_GONE);
	if (r->any && rec.ino <= r->last_ino)
		return -EUCLEAN;
	err = index_record_decode(r->piece, &record);
	if (err)
		return err;
	r->any = true;
	r->last_ino = rec.ino;
	*out = record;
	return 0;
}

/* Names come in order; the last one is kept. */
static int name_follows(char last[INDEX_NAME_BYTES_MAX + 1], uint64_t *last_parent, const struct index_name *n)
{
	const struct index_name before = { .parent = *last_parent, .name = last };

	if (*last && index_name_compare(&before, n) >= 0)
		return -EINVAL;
	*last_parent = n->parent;
	strcpy(last, n->name);
	return 0;
}

int index_reader_name(struct index_reader *r, struct index_name *out)
{
	struct index_name name;
	int err;

	if (!r->nnames)
		return -ENOENT;
	err = r->nrecords ? -EINVAL : take_piece(r, sizeof(struct layer_name));
	if (!err)
		err = index_name_decode(r->piece, &name);
	if (err)
		return err;
	r->nnames--;
	if (name_follows(r->last_name, &r->last_parent, &name)) {
		free(name.name);
		return -EUCLEAN;
	}
	*out = name;
	return 0;
}

/* A frame is compressed when the next piece would not fit. */
struct index_writer {
	struct index_sink sink;
	uint64_t layer;
	ZSTD_CCtx *cctx;
	uint8_t *page, *frame;
	size_t page_len, page_cap, page_max, frame_cap;
	uint64_t nrecords, nnames, body_bytes, raw_bytes;
	uint64_t last_ino, last_parent;
	char last_name[INDEX_NAME_BYTES_MAX + 1]; /* "": none */
};

int index_writer_new(uint64_t layer, struct index_sink sink, struct index_writer **out)
{
	struct index_writer *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	w->sink = sink;
	w->layer = layer;
	w->page_max = BODY_WHOLE_MAX;
	w->cctx = ZSTD_createCCtx();
	if (!w->cctx) {
		index_writer_free(w);
		return -ENOMEM;
	}
	*out = w;
	return 0;
}

void index_writer_free(struct index_writer *w)
{
	ZSTD_freeCCtx(w->cctx);
	free(w->page);
	free(w->frame);
	free(w);
}

static int grow(uint8_t **p, size_t *cap, size_t n)
{
	size_t want = n + *cap / 2;
	void *more;

	if (n <= *cap)
		return 0;
	more = realloc(*p, want);
	if (!more)
		return -ENOMEM;
	*p = more;
	*cap = want;
	return 0;
}

static int writer_flush(struct index_writer *w)
{
	size_t len;
	int err = w->page_len ? grow(&w->frame, &w->frame_cap, ZSTD_compressBound(w->page_len)) : 0;

	if (err || !w->page_len)
		return err;
	len = ZSTD_compressCCtx(w->cctx, w->frame, w->frame_cap, w->page, w->page_len, BODY_LEVEL);
	if (ZSTD_isError(len))
		return frame_compress_error(len);
	w->page_len = 0;
	w->page_max = BODY_PAGE_BYTES;
	return w->sink.write(w->sink.ctx, w->frame, len);
}

/* Zeroed room for the next n bytes. */
static int writer_room(struct index_writer *w, size_t n, uint8_t **out)
{
	int err = 0;

	if (n > UINT32_MAX - w->body_bytes)
		return -EFBIG;
	if (w->page_len && n > w->page_max - w->page_len)
		err = writer_flush(w);
	if (!err)
		err = grow(&w->page, &w->page_cap, w->page_len + n);
	if (err)
		return err;
	*out = memset(w->page + w->page_len, 0, n);
	w->page_len += n;
	w->body_bytes += n;
	return 0;
}

int index_writer_record(struct index_writer *w, const struct index_record *r)
{
	size_t len;
	uint8_t *p;
	int err;

	if (!index_record_valid(r) || (w->nrecords && r->facts.ino <= w->last_ino) || w->nnames)
		return -EINVAL;
	if (r->nblocks > UINT32_MAX / sizeof(*r->blocks) || r->ntombs > UINT32_MAX / sizeof(*r->tombs))
		return -EFBIG;
	len = index_record_bytes(r);
	err = writer_room(w, len, &p);
	if (err)
		return err;
	index_record_encode(r, p, len);
	for (size_t i = 0; i < r->nblocks; i++) {
		if (r->blocks[i].frame_off && r->blocks[i].layer == w->layer)
			w->raw_bytes += r->blocks[i].raw_len;
	}
	w->last_ino = r->facts.ino;
	w->nrecords++;
	return 0;
}

int index_writer_name(struct index_writer *w, const struct index_name *n)
{
	size_t len = index_name_bytes(n);
	uint8_t *p;
	int err;

	if (!index_name_valid(n->name, strlen(n->name)) || name_follows(w->last_name, &w->last_parent, n))
		return -EINVAL;
	err = writer_room(w, len, &p);
	if (err)
		return err;
	index_name_encode(n, p, len);
	w->nnames++;
	return 0;
}

int index_writer_end(struct index_writer *w, const uint64_t *chain, size_t nchain, struct layer_index_head *head)
{
	size_t len = nchain * sizeof(*chain);
	uint8_t *p;
	int err = index_chain_check(chain, nchain);

	if (!err && len)
		err = writer_room(w, len, &p);
	if (err)
		return err;
	if (len)
		memcpy(p, chain, len);
	err = writer_flush(w);
	if (!err)
		index_head_fill(head, w->nrecords, w->nnames, nchain, w->body_bytes, w->raw_bytes);
	return err;
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
