/*
 * Opening the open layer after a crash, forwards: to a length that is known, or as far as it is whole.
 *
 * Invariants: (1) nothing is believed before its checksum or its bounds are verified; (2) recovery leaves the
 * file exactly committed_bytes long, or as it was when it is refused or only looked at; (3) what is salvaged can be recovered:
 * layer_recover with the same two values reads the same.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <zstd.h>

#include "block/layer/inside.h"
#include "util/vec.h"

#define FRAME_HEAD_MAX \
	18 /* RFC 8878: magic 4, descriptor 1, window 1, dictionary 4, content size 8 */

/* Length of the header of a zstd frame of which n bytes are at p, and its content size; 0: not
 * ours. */
static size_t frame_head(const uint8_t *p, size_t n, uint64_t *raw_out)
{
	static const uint8_t dict_bytes[4] = { 0, 1, 2, 4 }, fcs_bytes[4] = { 0, 2, 4, 8 };
	uint8_t desc = p[4];
	bool single = desc & 0x20;
	size_t fcs = desc >> 6 ? fcs_bytes[desc >> 6] : single;
	size_t at = 5 + !single + dict_bytes[desc & 3];
	uint64_t raw = 0;

	if (!fcs || at + fcs > n)
		return 0;
	for (size_t i = 0; i < fcs; i++)
		raw |= (uint64_t)p[at + i] << (8 * i);
	*raw_out = fcs == 2 ? raw + 256 : raw;
	return at + fcs;
}

/* Follows the block headers of the zstd frame whose header ends at `at`. */
static int walk_blocks(struct layer *l, uint64_t at, uint64_t limit, bool checksum,
		       uint64_t *end_out)
{
	uint32_t head = 0;

	while (!(head & 1)) {
		uint8_t b[3];
		int err;

		if (at > limit || limit - at < sizeof(b))
			return layer_damage(l, at, "a frame ends behind the committed length");
		err = layer_pread(l, b, sizeof(b), at);
		if (err)
			return err;
		head = b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16;
		if ((head >> 1 & 3) == 3)
			return layer_damage(l, at, "a block of unknown type");
		at += sizeof(b) + ((head >> 1 & 3) == 1 ? 1 : head >> 3);
	}
	*end_out = at + (checksum ? 4 : 0);
	return 0;
}

int layer_walk_frame(struct layer *l, uint64_t off, uint64_t limit, uint64_t *stored_out, uint64_t *raw_out)
{
	size_t n = limit - off < FRAME_HEAD_MAX ? limit - off : FRAME_HEAD_MAX, head;
	uint8_t p[FRAME_HEAD_MAX];
	struct layer_skip skip;
	uint64_t end = 0, raw = 0;
	int err;

	if (n < sizeof(skip))
		return layer_damage(l, off, "no whole frame before the committed length");
	err = layer_pread(l, p, n, off);
	if (err)
		return err;
	memcpy(&skip, p, sizeof(skip));
	if (skip.magic == LAYER_SKIP_MAGIC) {
		end = off + sizeof(skip) + skip.len_bytes;
	} else {
		head = skip.magic == ZSTD_MAGICNUMBER ? frame_head(p, n, &raw) : 0;
		if (!head || !raw || raw > UINT32_MAX)
			return layer_damage(l, off, "no frame where one should begin");
		err = walk_blocks(l, off + head, limit, p[4] & 4, &end);
		if (err)
			return err;
	}
	if (end > limit || end - off > UINT32_MAX)
		return layer_damage(l, off, "a frame ends behind the committed length");
	*stored_out = end - off;
	*raw_out = raw;
	return 0;
}

/* Rebuilds the seek list from the frames of [0, committed). */
static int walk_file(struct layer *l, uint64_t committed, uint64_t segment_off)
{
	bool met = !segment_off;
	uint64_t off = 0;

	while (off < committed) {
		uint64_t stored = 0, raw = 0;
		int err = layer_walk_frame(l, off, committed, &stored, &raw);

		if (!err)
			err = layer_seek_reserve(l);
		if (err)
			return err;
		if (segment_off && off == segment_off) {
			met = !raw;
			l->segment_frame_bytes = layer_frame_bytes(l);
		}
		layer_seek_push(l, stored, raw);
		off += stored;
	}
	if (!met)
		return layer_damage(l, segment_off, "no segment begins here");
	l->segment_off = segment_off;
	return 0;
}

/* Collects the segments from the newest to the oldest; *v_out is malloc'd, its n indexes are
 * initialised even on failure. */
static int read_segments(struct layer *l, uint64_t segment_off, uint64_t committed,
			 struct index **v_out, size_t *n_out)
{
	uint64_t off = segment_off, limit = committed, stored = 0, end;
	size_t cap = 0;

	while (off) {
		struct layer_index_head head;
		int err = VEC_RESERVE(*v_out, cap, *n_out + 1);

		if (err)
			return err;
		err = layer_read_index(l, off, limit, false, &head, &(*v_out)[*n_out], &end);
		if (err)
			return err;
		(*n_out)++;
		if (head.prev_off_bytes >= off)
			return layer_damage(l, off,
					   "the segment before is said to begin at %llu",
					   (unsigned long long)head.prev_off_bytes);
		stored += head.stored_bytes;
		limit = off;
		off = head.prev_off_bytes;
	}
	if (stored != l->segment_frame_bytes)
		return layer_damage(l, segment_off,
				   "the segments count %llu bytes of frames, the file has %llu",
				   (unsigned long long)stored,
				   (unsigned long long)l->segment_frame_bytes);
	return 0;
}

static int merge_segments(struct layer *l, uint64_t segment_off, uint64_t committed)
{
	struct index *v = NULL;
	size_t n = 0;
	int err = read_segments(l, segment_off, committed, &v, &n);

	for (size_t i = n; !err && i-- > 0;)
		err = index_merge(&l->ix, &v[i]);
	for (size_t i = 0; i < n; i++)
		index_fini(&v[i]);
	free(v);
	return err;
}

/* Rebuilds everything that an open layer has in memory. */
static int read_open(struct layer *l, uint64_t committed, uint64_t segment_off)
{
	int err = walk_file(l, committed, segment_off);

	return err ? err : merge_segments(l, segment_off, committed);
}

static int recover(struct io_dir *d, uint64_t number, const uint8_t store_uuid[16], uint64_t committed_bytes,
		   uint64_t segment_off, bool look, struct layer **out)
{
	uint64_t size, stored;
	struct layer *l;
	int err = layer_open_file(d, number, look ? IO_RDONLY : 0, store_uuid, &l);

	if (err)
		return err;
	err = io_size(l->io, &size, &stored);
	if (!err && (size < committed_bytes || committed_bytes < LAYER_HEADER_FRAME_BYTES))
		err = layer_damage(l, size,
				   "the open layer has %llu bytes, %llu were committed",
				   (unsigned long long)size, (unsigned long long)committed_bytes);
	if (!err)
		err = layer_read_header(l);
	if (!err)
		err = read_open(l, committed_bytes, segment_off);
	if (!err && size > committed_bytes && !look)
		err = io_truncate(l->io, committed_bytes);
	if (err) {
		layer_close(l);
		return err;
	}
	*out = l;
	return 0;
}

int layer_recover(struct io_dir *d, uint64_t number, const uint8_t store_uuid[16],
		  uint64_t committed_bytes, uint64_t segment_off, struct layer **out)
{
	return recover(d, number, store_uuid, committed_bytes, segment_off, false, out);
}

int layer_look(struct io_dir *d, uint64_t number, const uint8_t store_uuid[16], uint64_t committed_bytes,
	       uint64_t segment_off, struct layer **out)
{
	return recover(d, number, store_uuid, committed_bytes, segment_off, true, out);
}

/* Is there a segment at off that continues the one at prev, with frame_bytes of frames between them? */
static int scan_segment(struct layer *l, uint64_t off, uint64_t limit, uint64_t prev, uint64_t frame_bytes)
{
	struct layer_index_head head;
	struct index ix;
	uint64_t end;
	int err = layer_read_index(l, off, limit, false, &head, &ix, &end);

	if (err)
		return err;
	index_fini(&ix);
	return head.prev_off_bytes == prev && head.stored_bytes == frame_bytes ? 0 : -EUCLEAN;
}

/* Goes on as long as everything is whole; 0 in *segment_off_out: no segment was. */
static int scan_file(struct layer *l, uint64_t size, uint64_t *committed_out, uint64_t *segment_off_out)
{
	uint64_t off = LAYER_HEADER_FRAME_BYTES, committed = off, segment_off = 0, frame_bytes = 0;
	int err = 0;

	while (!err && off < size) {
		uint64_t stored = 0, raw = 0;

		err = layer_walk_frame(l, off, size, &stored, &raw);
		if (!err && !raw)
			err = scan_segment(l, off, off + stored, segment_off, frame_bytes);
		if (err)
			break;
		frame_bytes += stored;
		if (!raw) {
			segment_off = off;
			committed = off + stored;
			frame_bytes = 0;
		}
		off += stored;
	}
	if (err && err != -EUCLEAN)
		return err;
	*committed_out = committed;
	*segment_off_out = segment_off;
	return 0;
}

int layer_salvage(struct io_dir *d, uint64_t number, const uint8_t store_uuid[16], struct layer **out,
		  uint64_t *committed_bytes_out, uint64_t *segment_off_out)
{
	uint64_t size, stored, committed = 0, segment_off = 0;
	struct layer *l;
	int err = layer_open_file(d, number, 0, store_uuid, &l);

	if (err)
		return err;
	err = io_size(l->io, &size, &stored);
	if (!err)
		err = layer_read_header(l);
	if (!err) {
		l->quiet = true; /* it ends where a crash left it */
		err = scan_file(l, size, &committed, &segment_off);
		l->quiet = false;
	}
	if (!err)
		err = segment_off ? read_open(l, committed, segment_off) : -ENODATA;
	if (err) {
		layer_close(l);
		return err;
	}
	l->tail = size > committed;
	*out = l;
	*committed_bytes_out = committed;
	*segment_off_out = segment_off;
	return 0;
}
