/*
 * Opening layer files: a sealed one backwards from its footer, the open one forwards after a crash.
 *
 * Invariants: (1) nothing is believed before its checksum or its bounds are verified; (2) every
 * block entry of an opened layer's index lies inside the file's frames; (3) every damage is logged
 * with the file's name and an offset; (4) recovery leaves the file exactly committed_bytes long, or
 * as it was when it is refused.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>
#include <zstd.h>

#include "block/layer_priv.h"
#include "util/err.h"

#define FRAME_HEAD_MAX \
	18 /* RFC 8878: magic 4, descriptor 1, window 1, dictionary 4, content size 8 */

static int layer_pread(struct layer *l, void *buf, size_t n, uint64_t off)
{
	int err = io_pread(l->io, buf, n, off);

	return err == -ENODATA ? err_corrupt(l->name, off, "the file is shorter than it says")
			       : err;
}

static int read_header(struct layer *l, const uint8_t store_uuid[16])
{
	uint8_t bytes[LAYER_HEADER_FRAME_BYTES];
	struct layer_skip skip;
	struct layer_header h;
	int err = layer_pread(l, bytes, sizeof(bytes), 0);

	if (err)
		return err;
	memcpy(&skip, bytes, sizeof(skip));
	memcpy(&h, bytes + sizeof(skip), sizeof(h));
	if (skip.magic != LAYER_SKIP_MAGIC || skip.len_bytes != sizeof(h) ||
	    memcmp(h.magic, "SPILLHDR", 8))
		return err_corrupt(l->name, 0, "not a layer file");
	if (h.xxh64 != XXH64(&h, offsetof(struct layer_header, xxh64), 0))
		return err_corrupt(l->name, 0, "the header's checksum is wrong");
	if (h.version != LAYER_FORMAT_VERSION)
		return err_corrupt(l->name, 0, "format version %u is not known", h.version);
	if (h.layer != l->number)
		return err_corrupt(l->name, 0, "the header says layer %llu",
				   (unsigned long long)h.layer);
	if (memcmp(h.store_uuid, store_uuid, 16))
		return err_corrupt(l->name, 0, "the layer belongs to another store");
	return 0;
}

/* Reads and verifies the skippable frame at off, of which [off, limit) may be read. */
static int read_index(struct layer *l, uint64_t off, uint64_t limit, enum layer_index_kind kind,
		      struct layer_index_head *head_out, struct index *ix_out, uint64_t *end_out)
{
	struct layer_index_head head;
	struct layer_skip skip;
	struct index ix;
	void *bytes;
	int err;

	if (off < LAYER_HEADER_FRAME_BYTES || off > limit || limit - off < sizeof(skip))
		return err_corrupt(l->name, off, "no room for an index");
	err = layer_pread(l, &skip, sizeof(skip), off);
	if (err)
		return err;
	if (skip.magic != LAYER_SKIP_MAGIC || skip.len_bytes > limit - off - sizeof(skip))
		return err_corrupt(l->name, off, "no index where one should be");
	bytes = malloc(skip.len_bytes ? skip.len_bytes : 1);
	if (!bytes)
		return -ENOMEM;
	err = layer_pread(l, bytes, skip.len_bytes, off + sizeof(skip));
	if (!err) {
		err = index_decode(bytes, skip.len_bytes, &head, &ix);
		if (err == -EUCLEAN)
			err_corrupt(l->name, off, "the index is damaged");
	}
	free(bytes);
	if (err)
		return err;
	if (head.kind != (uint32_t)kind || head.layer != l->number) {
		index_fini(&ix);
		return err_corrupt(l->name, off, "an index of kind %u, layer %llu", head.kind,
				   (unsigned long long)head.layer);
	}
	*head_out = head;
	*ix_out = ix;
	if (end_out)
		*end_out = off + sizeof(skip) + skip.len_bytes;
	return 0;
}

/* Every frame that ix names lies between the header and limit. */
static int check_frames(struct layer *l, const struct index *ix, uint64_t limit)
{
	for (size_t i = 0; i < ix->n; i++) {
		const struct index_record *r = ix->v[i];

		for (size_t k = 0; k < r->nblocks; k++) {
			const struct layer_block *b = &r->blocks[k];

			if (!b->frame_off)
				continue;
			if (b->frame_off < LAYER_HEADER_FRAME_BYTES || b->frame_off > limit ||
			    b->frame_len > limit - b->frame_off)
				return err_corrupt(l->name, b->frame_off,
						   "block %llu of \"%s\" lies outside the frames",
						   (unsigned long long)b->block, r->path);
		}
	}
	return 0;
}

/* Checks footer and table; *index_off_out is where the last frame, the index, begins. */
static int read_seek_table(struct layer *l, uint64_t size, uint64_t *index_off_out,
			   uint64_t *table_off_out)
{
	struct layer_seek_footer footer;
	struct layer_seek_entry *seek;
	uint64_t table_off, entries, sum = 0, frame_bytes = 0;
	struct layer_skip skip;
	int err;

	if (size < LAYER_HEADER_FRAME_BYTES + sizeof(skip) + sizeof(footer))
		return err_corrupt(l->name, size, "too short for a sealed layer");
	err = layer_pread(l, &footer, sizeof(footer), size - sizeof(footer));
	if (err)
		return err;
	entries = (uint64_t)footer.nframes * sizeof(*seek);
	if (footer.magic != LAYER_SEEK_FOOTER_MAGIC || footer.descriptor || footer.nframes < 2 ||
	    entries > size - LAYER_HEADER_FRAME_BYTES - sizeof(skip) - sizeof(footer))
		return err_corrupt(l->name, size - sizeof(footer), "the layer's footer is damaged");
	table_off = size - sizeof(footer) - entries - sizeof(skip);
	err = layer_pread(l, &skip, sizeof(skip), table_off);
	if (err)
		return err;
	if (skip.magic != LAYER_SEEK_MAGIC || skip.len_bytes != entries + sizeof(footer))
		return err_corrupt(l->name, table_off, "the seek table is damaged");
	seek = malloc(entries);
	if (!seek)
		return -ENOMEM;
	err = layer_pread(l, seek, entries, table_off + sizeof(skip));
	for (uint32_t i = 0; !err && i < footer.nframes; i++) {
		sum += seek[i].stored_bytes;
		frame_bytes += seek[i].raw_bytes ? seek[i].stored_bytes : 0;
	}
	if (!err && (sum != table_off || seek[0].stored_bytes != LAYER_HEADER_FRAME_BYTES ||
		     seek[footer.nframes - 1].raw_bytes))
		err = err_corrupt(l->name, table_off, "the seek table does not fit the file");
	if (!err) {
		*index_off_out = table_off - seek[footer.nframes - 1].stored_bytes;
		*table_off_out = table_off;
		atomic_store(&l->frame_bytes, frame_bytes);
	}
	free(seek);
	return err;
}

static int read_sealed(struct layer *l, const uint8_t store_uuid[16])
{
	uint64_t size, stored, index_off = 0, table_off = 0, end = 0;
	int err = io_size(l->io, &size, &stored);

	if (!err)
		err = read_seek_table(l, size, &index_off, &table_off);
	if (!err)
		err = read_header(l, store_uuid);
	if (!err)
		err = read_index(l, index_off, table_off, LAYER_INDEX, &l->head, &l->ix, &end);
	if (err)
		return err;
	if (end != table_off || l->head.stored_bytes != layer_frame_bytes(l))
		return err_corrupt(l->name, index_off, "index and seek table differ");
	err = check_frames(l, &l->ix, index_off);
	if (err)
		return err;
	atomic_store(&l->end_bytes, size);
	atomic_store(&l->sealed, true);
	return 0;
}

static int open_file(struct io_dir *d, uint64_t number, unsigned flags, struct layer **out)
{
	char name[LAYER_NAME_MAX];
	struct io *io;
	int err;

	layer_path(number, name);
	err = io_open(d, name, flags, &io);
	if (err)
		return err;
	err = layer_new(io, number, out);
	if (err)
		io_close(io);
	return err;
}

int layer_open(struct io_dir *d, uint64_t number, const uint8_t store_uuid[16], struct layer **out)
{
	struct layer *l;
	int err = open_file(d, number, IO_RDONLY, &l);

	if (err)
		return err;
	err = read_sealed(l, store_uuid);
	if (err) {
		layer_close(l);
		return err;
	}
	*out = l;
	return 0;
}

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
			return err_corrupt(l->name, at, "a frame ends behind the committed length");
		err = layer_pread(l, b, sizeof(b), at);
		if (err)
			return err;
		head = b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16;
		if ((head >> 1 & 3) == 3)
			return err_corrupt(l->name, at, "a block of unknown type");
		at += sizeof(b) + ((head >> 1 & 3) == 1 ? 1 : head >> 3);
	}
	*end_out = at + (checksum ? 4 : 0);
	return 0;
}

/* Measures the frame at off. *raw_out is 0 for a skippable one. */
static int walk_frame(struct layer *l, uint64_t off, uint64_t limit, uint64_t *stored_out,
		      uint64_t *raw_out)
{
	size_t n = limit - off < FRAME_HEAD_MAX ? limit - off : FRAME_HEAD_MAX, head;
	uint8_t p[FRAME_HEAD_MAX];
	struct layer_skip skip;
	uint64_t end = 0, raw = 0;
	int err;

	if (n < sizeof(skip))
		return err_corrupt(l->name, off, "no whole frame before the committed length");
	err = layer_pread(l, p, n, off);
	if (err)
		return err;
	memcpy(&skip, p, sizeof(skip));
	if (skip.magic == LAYER_SKIP_MAGIC) {
		end = off + sizeof(skip) + skip.len_bytes;
	} else {
		head = skip.magic == ZSTD_MAGICNUMBER ? frame_head(p, n, &raw) : 0;
		if (!head || !raw || raw > UINT32_MAX)
			return err_corrupt(l->name, off, "no frame where one should begin");
		err = walk_blocks(l, off + head, limit, p[4] & 4, &end);
		if (err)
			return err;
	}
	if (end > limit || end - off > UINT32_MAX)
		return err_corrupt(l->name, off, "a frame ends behind the committed length");
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
		int err = walk_frame(l, off, committed, &stored, &raw);

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
		return err_corrupt(l->name, segment_off, "no segment begins here");
	l->segment_off = segment_off;
	return 0;
}

/* Collects the segments from the newest to the oldest; *v_out is malloc'd, its n indexes are
 * initialised even on failure. */
static int read_segments(struct layer *l, uint64_t segment_off, uint64_t committed,
			 struct index **v_out, size_t *n_out)
{
	uint64_t off = segment_off, limit = committed, stored = 0;
	size_t cap = 0;

	while (off) {
		struct layer_index_head head;
		int err;

		if (*n_out == cap) {
			size_t more = cap ? cap * 2 : 16;
			struct index *v = reallocarray(*v_out, more, sizeof(*v));

			if (!v)
				return -ENOMEM;
			*v_out = v;
			cap = more;
		}
		err = read_index(l, off, limit, LAYER_SEGMENT, &head, &(*v_out)[*n_out], NULL);
		if (err)
			return err;
		err = check_frames(l, &(*v_out)[(*n_out)++], off);
		if (err)
			return err;
		if (head.prev_off_bytes >= off)
			return err_corrupt(l->name, off,
					   "the segment before is said to begin at %llu",
					   (unsigned long long)head.prev_off_bytes);
		stored += head.stored_bytes;
		limit = off;
		off = head.prev_off_bytes;
	}
	if (stored != l->segment_frame_bytes)
		return err_corrupt(l->name, segment_off,
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

int layer_recover(struct io_dir *d, uint64_t number, const uint8_t store_uuid[16],
		  uint64_t committed_bytes, uint64_t segment_off, struct layer **out)
{
	uint64_t size, stored;
	struct layer *l;
	int err = open_file(d, number, 0, &l);

	if (err)
		return err;
	err = io_size(l->io, &size, &stored);
	if (!err && (size < committed_bytes || committed_bytes < LAYER_HEADER_FRAME_BYTES))
		err = err_corrupt(l->name, size,
				  "the open layer has %llu bytes, %llu were committed",
				  (unsigned long long)size, (unsigned long long)committed_bytes);
	if (!err)
		err = read_header(l, store_uuid);
	if (!err)
		err = walk_file(l, committed_bytes, segment_off);
	if (!err)
		err = merge_segments(l, segment_off, committed_bytes);
	if (!err && size > committed_bytes)
		err = io_truncate(l->io, committed_bytes);
	if (err) {
		layer_close(l);
		return err;
	}
	*out = l;
	return 0;
}
