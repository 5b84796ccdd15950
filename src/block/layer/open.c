/*
 * Opening sealed layer files, backwards from the footer.
 *
 * Invariants: (1) nothing is believed before its checksum or its bounds are verified; (2) every
 * block entry of a loaded index that is of this layer lies inside the file's frames; (3) every damage is
 * logged with the file's name and an offset; (4) head and frame_bytes do not change once the layer is open:
 * the index that is loaded later has the same head.
 *
 * Footer, seek table and index lie at the end: one read of it has all of them, unless they are long.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "block/layer/inside.h"

/* The first read takes so many bytes of the file's end. */
#define ENDING_BYTES (64u << 10)
#define TABLE_PIECE 512u

static int read_ending(struct layer *l, uint64_t size)
{
	size_t len = size < ENDING_BYTES ? (size_t)size : ENDING_BYTES;
	uint8_t *bytes = malloc(len ? len : 1);
	int err = bytes ? layer_pread(l, bytes, len, size - len) : -ENOMEM;

	if (err) {
		free(bytes);
		return err;
	}
	l->ending = (struct layer_ending){ bytes, size - len, len };
	return 0;
}

static void drop_ending(struct layer *l)
{
	free(l->ending.bytes);
	l->ending = (struct layer_ending){ 0 };
}

int layer_read_header(struct layer *l)
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
		return layer_damage(l, 0, "not a layer file");
	if (h.xxh64 != XXH64(&h, offsetof(struct layer_header, xxh64), 0))
		return layer_damage(l, 0, "the header's checksum is wrong");
	if (h.version == 1)
		return layer_damage(l, 0, "format version 1 was never released");
	if (h.version != LAYER_FORMAT_VERSION)
		return layer_damage(l, 0, "format version %u is not known", h.version);
	if (h.layer != l->number)
		return layer_damage(l, 0, "the header says layer %llu",
				   (unsigned long long)h.layer);
	if (memcmp(h.store_uuid, l->uuid, sizeof(l->uuid)))
		return layer_damage(l, 0, "the layer belongs to another store");
	return 0;
}

/* Where the seek table is, and how many entries it has. */
static int read_footer(struct layer *l, uint64_t size)
{
	struct layer_seek_footer footer;
	struct layer_skip skip;
	uint64_t entries, off;
	int err;

	if (size < LAYER_HEADER_FRAME_BYTES + sizeof(skip) + sizeof(footer))
		return layer_damage(l, size, "too short for a sealed layer");
	off = size - sizeof(footer);
	err = layer_pread(l, &footer, sizeof(footer), off);
	if (err)
		return err;
	entries = (uint64_t)footer.nframes * sizeof(struct layer_seek_entry);
	if (footer.magic != LAYER_SEEK_FOOTER_MAGIC || footer.descriptor || footer.nframes < 2 ||
	    entries > off - LAYER_HEADER_FRAME_BYTES - sizeof(skip))
		return layer_damage(l, off, "the layer's footer is damaged");
	off -= entries + sizeof(skip);
	err = layer_pread(l, &skip, sizeof(skip), off);
	if (err)
		return err;
	if (skip.magic != LAYER_SEEK_MAGIC || skip.len_bytes != entries + sizeof(footer))
		return layer_damage(l, off, "the seek table is damaged");
	l->table_off = off;
	l->nframes = footer.nframes;
	return 0;
}

/* Where the index is, by the last entry of the table, and its head. Its checksum waits for the body. */
static int read_index_head(struct layer *l)
{
	struct layer_seek_entry last;
	struct {
		struct layer_skip skip;
		struct layer_index_head head;
	} at;
	uint64_t room = l->table_off - LAYER_HEADER_FRAME_BYTES;
	int err = layer_pread(l, &last, sizeof(last),
			      l->table_off + sizeof(struct layer_skip) + (l->nframes - 1) * sizeof(last));

	if (err)
		return err;
	if (last.raw_bytes || last.stored_bytes > room || last.stored_bytes < sizeof(at))
		return layer_damage(l, l->table_off, "the seek table does not fit the file");
	l->index_off = l->table_off - last.stored_bytes;
	err = layer_pread(l, &at, sizeof(at), l->index_off);
	if (err)
		return err;
	if (at.skip.magic != LAYER_SKIP_MAGIC || at.skip.len_bytes != last.stored_bytes - sizeof(at.skip) ||
	    memcmp(at.head.magic, "SPILLIDX", 8) || at.head.version != LAYER_FORMAT_VERSION ||
	    (at.head.kind != LAYER_DELTA && at.head.kind != LAYER_FULL) || at.head.layer != l->number ||
	    at.head.stored_bytes > room - last.stored_bytes)
		return layer_damage(l, l->index_off, "no index where one should be");
	l->head = at.head;
	atomic_store(&l->frame_bytes, at.head.stored_bytes);
	return 0;
}

/* Does the seek table fit the file? Piece by piece, because a file with holes can be long and cost its maker nothing. */
static int check_table(struct layer *l)
{
	struct layer_seek_entry seek[TABLE_PIECE], last = { 0 };
	uint64_t sum = 0, frame_bytes = 0;
	bool fits = true;
	int err = 0;

	for (uint32_t i = 0, n; !err && fits && i < l->nframes; i += n) {
		n = l->nframes - i < TABLE_PIECE ? l->nframes - i : TABLE_PIECE;
		err = layer_pread(l, seek, n * sizeof(*seek), l->table_off + sizeof(struct layer_skip) + (uint64_t)i * sizeof(*seek));
		if (!err && !i)
			fits = seek[0].stored_bytes == LAYER_HEADER_FRAME_BYTES && !seek[0].raw_bytes;
		for (uint32_t k = 0; !err && fits && k < n; k++) {
			last = seek[k];
			fits = last.stored_bytes > 0;
			sum += last.stored_bytes;
			frame_bytes += last.raw_bytes ? last.stored_bytes : 0;
		}
	}
	if (err)
		return err;
	if (!fits || sum != l->table_off || last.raw_bytes || last.stored_bytes != l->table_off - l->index_off ||
	    frame_bytes != l->head.stored_bytes)
		return layer_damage(l, l->table_off, "the seek table does not fit the file");
	return 0;
}

int layer_read_table(struct layer *l, struct layer_seek_entry **out)
{
	size_t len = l->nframes * sizeof(struct layer_seek_entry);
	struct layer_seek_entry *seek;
	int err = check_table(l);

	if (err)
		return err;
	seek = malloc(len);
	if (!seek)
		return -ENOMEM;
	err = layer_pread(l, seek, len, l->table_off + sizeof(struct layer_skip));
	if (err) {
		free(seek);
		return err;
	}
	*out = seek;
	return 0;
}

int layer_load_index(struct layer *l)
{
	struct layer_index_head head;
	struct index ix;
	uint64_t end;
	int err;

	if (layer_has_index(l))
		return 0;
	err = check_table(l);
	if (err)
		return err;
	err = layer_read_index(l, l->index_off, l->table_off, true, &head, &ix, &end);
	if (err)
		return err;
	if (end != l->table_off || memcmp(&head, &l->head, sizeof(head))) {
		index_fini(&ix);
		return layer_damage(l, l->index_off, "index and seek table differ");
	}
	l->ix = ix;
	atomic_store(&l->has_index, true);
	return 0;
}

int layer_open_file(struct io_dir *d, uint64_t number, unsigned flags, const uint8_t store_uuid[16],
		    struct layer **out)
{
	char path[LAYER_NAME_MAX];
	struct io *io;
	int err;

	layer_path(number, path);
	err = io_open(d, path, flags | IO_OF_LAYERED, &io);
	if (err)
		return err;
	err = layer_new(io, number, store_uuid, out);
	if (err)
		io_close(io);
	return err;
}

/* The bytes of the file's end that are read stay until drop_ending. */
static int open_frames(struct io_dir *d, uint64_t number, const uint8_t store_uuid[16], struct layer **out)
{
	uint64_t size, stored;
	struct layer *l;
	int err = layer_open_file(d, number, IO_RDONLY, store_uuid, &l);

	if (err)
		return err;
	err = io_size(l->io, &size, &stored);
	if (!err)
		err = read_ending(l, size);
	if (!err)
		err = read_footer(l, size);
	if (!err)
		err = layer_read_header(l);
	if (!err)
		err = read_index_head(l);
	if (err) {
		drop_ending(l);
		layer_close(l);
		return err;
	}
	atomic_store(&l->end_bytes, size);
	atomic_store(&l->has_index, false);
	atomic_store(&l->sealed, true);
	*out = l;
	return 0;
}

int layer_open_frames(struct io_dir *d, uint64_t number, const uint8_t store_uuid[16], struct layer **out)
{
	int err = open_frames(d, number, store_uuid, out);

	if (!err)
		drop_ending(*out);
	return err;
}

int layer_open(struct io_dir *d, uint64_t number, const uint8_t store_uuid[16], struct layer **out)
{
	struct layer *l;
	int err = open_frames(d, number, store_uuid, &l);

	if (err)
		return err;
	err = layer_load_index(l);
	drop_ending(l);
	if (err) {
		layer_close(l);
		return err;
	}
	*out = l;
	return 0;
}
