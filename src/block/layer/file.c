/*
 * The file of a layer: its name and header, frames appended to it, bytes and frames read. Indexes in it: index.c.
 *
 * Invariants: (1) [0, end_bytes) is a sequence of whole frames, and seek[] lists them in order;
 * what a failed write left behind is cut off at once or, if that fails too, before the next write;
 * (2) end_bytes only grows; (3) no frame is longer, stored or decoded, than 2^32 - 1; (4) a sealed layer is never
 * written.
 */
#include "block/layer.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "block/codec.h"
#include "block/layer/inside.h"
#include "block/ref.h"
#include "util/buf.h"
#include "util/err.h"
#include "util/number.h"
#include "util/stats.h"
#include "util/vec.h"

void layer_name(uint64_t number, char out[LAYER_NAME_MAX])
{
	snprintf(out, LAYER_NAME_MAX, "%08" PRIu64 ".zst", number);
}

int layer_name_parse(const char *name, uint64_t *number_out)
{
	return number_of_name(name, 8, ".zst", number_out);
}

void layer_path(uint64_t number, char out[LAYER_NAME_MAX])
{
	snprintf(out, LAYER_NAME_MAX, "layers/%08" PRIu64 ".zst", number);
}

int layer_new(struct io *io, uint64_t number, const uint8_t store_uuid[16], struct layer **out)
{
	struct layer *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->io = io;
	l->number = number;
	memcpy(l->uuid, store_uuid, sizeof(l->uuid));
	layer_path(number, l->name);
	atomic_store(&l->has_index, true);
	index_init(&l->ix);
	lock_init(&l->lock, RANK_POOL);
	*out = l;
	return 0;
}

void layer_close(struct layer *l)
{
	if (!l)
		return;
	io_close(l->io);
	index_fini(&l->ix);
	index_pages_fini(&l->pages);
	free(l->seek);
	lock_fini(&l->lock);
	free(l);
}

int layer_seek_reserve(struct layer *l)
{
	return l->nseek >= LAYER_FRAMES_MAX ? -EFBIG : VEC_RESERVE(l->seek, l->cap_seek, l->nseek + 1);
}

void layer_seek_push(struct layer *l, uint64_t stored_bytes, uint64_t raw_bytes)
{
	assert(l->nseek < l->cap_seek && stored_bytes <= UINT32_MAX && raw_bytes <= UINT32_MAX);
	l->seek[l->nseek].stored_bytes = (uint32_t)stored_bytes;
	l->seek[l->nseek].raw_bytes = (uint32_t)raw_bytes;
	l->nseek++;
	atomic_fetch_add(&l->end_bytes, stored_bytes);
	if (raw_bytes)
		atomic_fetch_add(&l->frame_bytes, stored_bytes);
}

int layer_cut_locked(struct layer *l)
{
	int err = io_truncate(l->io, atomic_load(&l->end_bytes));

	l->tail = err != 0;
	return err;
}

int layer_write_locked(struct layer *l, const void *buf, size_t n, uint64_t ahead, unsigned how)
{
	int err;

	if (l->broken)
		return l->broken;
	if (l->tail) {
		err = layer_cut_locked(l);
		if (err)
			return err;
	}
	err = io_pwrite_as(l->io, buf, n, atomic_load(&l->end_bytes) + ahead, how);
	if (err)
		layer_cut_locked(l);
	return err;
}

static void fill_header(const struct layer *l, uint64_t number, uint8_t bytes[LAYER_HEADER_FRAME_BYTES])
{
	struct layer_skip skip = { LAYER_SKIP_MAGIC, sizeof(struct layer_header) };
	struct layer_header h = { .version = LAYER_FORMAT_VERSION, .layer = number };

	memcpy(h.magic, "SPILLHDR", 8);
	memcpy(h.store_uuid, l->uuid, sizeof(h.store_uuid));
	h.xxh64 = XXH64(&h, offsetof(struct layer_header, xxh64), 0);
	memcpy(bytes, &skip, sizeof(skip));
	memcpy(bytes + sizeof(skip), &h, sizeof(h));
}

static int write_header(struct layer *l)
{
	uint8_t bytes[LAYER_HEADER_FRAME_BYTES];
	int err;

	fill_header(l, l->number, bytes);
	lock_acquire(&l->lock);
	err = layer_seek_reserve(l);
	if (!err)
		err = layer_write_locked(l, bytes, sizeof(bytes), 0, 0);
	if (!err)
		layer_seek_push(l, sizeof(bytes), 0);
	lock_release(&l->lock);
	return err;
}

/* An empty file, whatever was there. */
static int make_file(struct io_dir *d, const char *path, struct io **out)
{
	struct io *io;
	int err = io_open(d, path, IO_CREATE | IO_EXCL | IO_OF_LAYERED, &io);

	if (err == -EEXIST) {
		err = io_open(d, path, IO_CREATE | IO_OF_LAYERED, &io);
		if (err)
			return err;
		err = io_truncate(io, 0);
		if (err)
			io_close(io);
	}
	if (!err)
		*out = io;
	return err;
}

static int make_layer(struct io_dir *d, const char *path, uint64_t number, const uint8_t store_uuid[16],
		      struct layer **out)
{
	struct layer *l;
	struct io *io;
	int err = make_file(d, path, &io);

	if (err)
		return err;
	err = layer_new(io, number, store_uuid, &l);
	if (err) {
		io_close(io);
		io_unlink(d, path);
		return err;
	}
	snprintf(l->name, sizeof(l->name), "%s", path);
	err = write_header(l);
	if (err) {
		layer_close(l);
		io_unlink(d, path);
		return err;
	}
	*out = l;
	return 0;
}

int layer_create(struct io_dir *d, uint64_t number, const uint8_t store_uuid[16],
		 struct layer **out)
{
	char path[LAYER_NAME_MAX];

	layer_path(number, path);
	return make_layer(d, path, number, store_uuid, out);
}

int layer_create_as(struct io_dir *d, const char *path, const uint8_t store_uuid[16], struct layer **out)
{
	return make_layer(d, path, 0, store_uuid, out);
}

int layer_adopt(struct layer *l, struct io_dir *d, const char *path, uint64_t number)
{
	uint8_t bytes[LAYER_HEADER_FRAME_BYTES];
	char to[LAYER_NAME_MAX];
	int err;

	assert(!l->number && number && !layer_sealed(l));
	fill_header(l, number, bytes);
	layer_path(number, to);
	lock_acquire(&l->lock);
	err = l->broken ? l->broken : io_pwrite(l->io, bytes, sizeof(bytes), 0);
	if (!err)
		err = io_rename(d, path, to);
	if (!err) {
		l->number = number;
		layer_path(number, l->name);
	}
	lock_release(&l->lock);
	return err;
}

struct io *layer_io(struct layer *l)
{
	return l->io;
}

bool layer_sealed(const struct layer *l)
{
	return atomic_load(&l->sealed);
}

uint64_t layer_bytes(struct layer *l)
{
	return atomic_load(&l->end_bytes);
}

uint64_t layer_frame_bytes(struct layer *l)
{
	return atomic_load(&l->frame_bytes);
}

bool layer_has_index(const struct layer *l)
{
	return atomic_load(&l->has_index);
}

void layer_drop_index(struct layer *l)
{
	assert(layer_sealed(l));
	atomic_store(&l->has_index, false);
	index_fini(&l->ix);
}

const struct index *layer_index(const struct layer *l)
{
	assert(layer_has_index(l));
	return &l->ix;
}

const struct layer_index_head *layer_head(const struct layer *l)
{
	assert(layer_sealed(l));
	return &l->head;
}

int layer_append(struct layer *l, const void *frame, size_t len, size_t raw_len, unsigned how, uint64_t *off_out)
{
	uint64_t off;
	int err;

	assert(!layer_sealed(l) && len && raw_len);
	if (len > UINT32_MAX || raw_len > UINT32_MAX)
		return -EFBIG;
	lock_acquire(&l->lock);
	off = atomic_load(&l->end_bytes);
	err = layer_seek_reserve(l);
	if (!err)
		err = layer_write_locked(l, frame, len, 0, how | IO_SPARING); /* segments and index come behind it */
	if (!err)
		layer_seek_push(l, len, raw_len);
	lock_release(&l->lock);
	if (!err)
		*off_out = off;
	return err;
}

int layer_sync(struct layer *l)
{
	return io_sync(l->io);
}

int layer_damage(const struct layer *l, uint64_t off, const char *fmt, ...)
{
	char what[256];
	va_list ap;

	if (l->quiet)
		return -EUCLEAN;
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	return err_corrupt(l->name, off, "%s", what);
}

int layer_pread(struct layer *l, void *buf, size_t n, uint64_t off)
{
	const struct layer_ending *e = &l->ending;
	int err;

	if (e->bytes && off >= e->off && off - e->off <= e->len && n <= e->len - (off - e->off)) {
		memcpy(buf, e->bytes + (off - e->off), n);
		return 0;
	}
	err = io_pread(l->io, buf, n, off);
	return err == -ENODATA ? layer_damage(l, off, "the file is shorter than it says")
			       : err;
}

int layer_read(struct layer *l, uint64_t off, unsigned how, void *frame, size_t frame_len)
{
	uint64_t end = atomic_load(&l->end_bytes);
	int err = -ENODATA;

	if (off <= end && frame_len <= end - off)
		err = io_pread_as(l->io, frame, frame_len, off, how);
	if (err == -ENODATA)
		return err_corrupt(l->name, off, "the file ends inside a frame of %zu bytes",
				   frame_len);
	if (!err)
		stats_add(STAT_FRAME_READ_BYTES, frame_len);
	return err;
}

int layer_decode(struct layer *l, const struct layer_block *b, const char *who, unsigned how, void *out)
{
	const struct filter filter = layer_block_filter(b);
	void *frame;
	int err;

	if (!b->frame_off) {
		memset(out, 0, b->frame_raw);
		return 0;
	}
	if (!filter_known(b->filter))
		return err_corrupt(l->name, b->frame_off, "%s: no filter %u is known to this version of spillfs", who, b->filter);
	frame = buf_alloc(b->frame_len);
	if (!frame)
		return -ENOMEM;
	err = layer_read(l, b->frame_off, how, frame, b->frame_len);
	if (!err) {
		err = codec_decode(frame, b->frame_len, &filter, out, b->frame_raw);
		if (err == -EUCLEAN)
			err_corrupt(l->name, b->frame_off,
				    "%s: a frame of %u bytes does not decode to %u", who,
				    b->frame_len, b->frame_raw);
	}
	buf_free(frame, b->frame_len);
	return err;
}
