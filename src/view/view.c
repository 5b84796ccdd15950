/*
 * Views as lists of pieces.
 *
 * Invariants:
 *  1. Pieces stand in rising order without gaps: each ends where the next begins, the last at `bytes`.
 *  2. The bytes that are read depend on the pieces and the sources alone; nothing changes after view_array.
 *  3. A source that can change (rw) is locked only while its bytes are copied: a lease of a view holds no lock.
 */
#include "view/view.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "array/arrays.h"
#include "array/layered/pin.h"
#include "array/survey.h"
#include "block/filter.h"
#include "store/store.h"
#include "util/buf.h"
#include "util/err.h"
#include "util/lock.h"
#include "util/log.h"
#include "util/vec.h"
#include "view/deltas.h"
#include "view/inside.h"

#define COPY_MAX (1u << 20)
/* A view of a huge sparse array must not take all memory. */
#define PIECES_MAX (4u << 20)
#define BYTES_PUT_MAX (256u << 20)

int view_new(struct view **out)
{
	struct view *v = calloc(1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	*out = v;
	return 0;
}

void view_free(struct view *v)
{
	for (size_t k = 0; k < v->nsources; k++) {
		if (v->sources[k].let_go)
			v->sources[k].let_go(&v->sources[k]);
	}
	free(v->sources);
	free(v->pieces);
	free(v->filtereds);
	free(v->bytes_put);
	free(v);
}

void view_fail(struct view *v, int err)
{
	if (!v->err)
		v->err = err;
}

/* Room for `more` of `size` bytes each; false: the view has failed. */
static bool make_room(struct view *v, void *list, size_t n, size_t *cap, size_t more, size_t size)
{
	if (!v->err && vec_reserve(list, cap, n + more, size))
		view_fail(v, -ENOMEM);
	return !v->err;
}

unsigned view_source_add(struct view *v, const struct view_source *s)
{
	if (!make_room(v, &v->sources, v->nsources, &v->cap_sources, 1, sizeof(*v->sources))) {
		struct view_source lost = *s;

		if (lost.let_go)
			lost.let_go(&lost);
		return 0;
	}
	v->sources[v->nsources] = *s;
	return (unsigned)v->nsources++;
}

uint64_t view_source_bytes(const struct view *v, unsigned source)
{
	return source < v->nsources ? v->sources[source].size_bytes : 0;
}

uint32_t view_source_block_bytes(const struct view *v, unsigned source)
{
	return source < v->nsources ? v->sources[source].block_bytes : 0;
}

uint64_t view_size(const struct view *v)
{
	return v->bytes;
}

/* Laying out. */

static void add_piece(struct view *v, struct view_piece p, uint64_t len)
{
	if (v->npieces >= PIECES_MAX)
		view_fail(v, -EFBIG);
	if (!len || !make_room(v, &v->pieces, v->npieces, &v->cap_pieces, 1, sizeof(*v->pieces)))
		return;
	if (len > ARRAY_SIZE_MAX - v->bytes) {
		view_fail(v, -EFBIG);
		return;
	}
	p.at = v->bytes;
	v->pieces[v->npieces++] = p;
	v->bytes += len;
}

/* The last piece, if it is of this kind and source and its bytes go on at `where`. */
static bool goes_on(const struct view *v, enum piece_kind kind, unsigned source, uint64_t where)
{
	const struct view_piece *last = v->npieces ? &v->pieces[v->npieces - 1] : NULL;

	return last && last->kind == kind && last->source == source && last->where + (v->bytes - last->at) == where;
}

void view_put(struct view *v, const void *p, size_t len)
{
	if (len > BYTES_PUT_MAX - v->nbytes_put)
		view_fail(v, -EFBIG);
	if (!len || !make_room(v, &v->bytes_put, v->nbytes_put, &v->cap_bytes_put, len, 1))
		return;
	if (goes_on(v, PIECE_BYTES, 0, v->nbytes_put))
		v->bytes += len;
	else
		add_piece(v, (struct view_piece){ .kind = PIECE_BYTES, .where = v->nbytes_put }, len);
	memcpy(v->bytes_put + v->nbytes_put, p, len);
	v->nbytes_put += len;
}

void view_put_zeros(struct view *v, uint64_t len)
{
	static const unsigned char zeros[64];

	if (len <= sizeof(zeros))
		view_put(v, zeros, (size_t)len);
	else
		add_piece(v, (struct view_piece){ .kind = PIECE_ZEROS }, len);
}

void view_put_align(struct view *v, uint64_t align)
{
	view_put_zeros(v, (align - v->bytes % align) % align);
}

void view_put_data(struct view *v, unsigned source, uint64_t off, uint64_t len)
{
	if (!v->err && goes_on(v, PIECE_DATA, source, off) && len <= ARRAY_SIZE_MAX - v->bytes)
		v->bytes += len;
	else
		add_piece(v, (struct view_piece){ .kind = PIECE_DATA, .source = source, .where = off }, len);
}

static const struct {
	uint8_t in_bytes;
	uint8_t out_bytes; /* 0: a bit */
} maps[] = {
	[VIEW_MAP_NONE] = { 1, 1 },    [VIEW_MAP_I8_I32] = { 1, 4 },  [VIEW_MAP_I16_I32] = { 2, 4 },
	[VIEW_MAP_U8_I32] = { 1, 4 }, [VIEW_MAP_U16_I32] = { 2, 4 }, [VIEW_MAP_BITS] = { 1, 0 },
};

uint64_t view_mapped_bytes(enum view_map map, uint64_t n)
{
	return map == VIEW_MAP_BITS ? (n + 7) / 8 : n * maps[map].out_bytes;
}

void view_put_mapped(struct view *v, unsigned source, enum view_map map, uint64_t first, uint64_t n)
{
	struct view_piece p = { .kind = PIECE_MAPPED, .source = source, .map = map, .where = first };

	assert(map != VIEW_MAP_NONE);
	if (n)
		add_piece(v, p, view_mapped_bytes(map, n));
	/* The number of elements is not that of the bits. */
	if (map == VIEW_MAP_BITS && n && !v->err)
		v->pieces[v->npieces - 1].count = n;
}

void view_put_stored(struct view *v, unsigned source, uint64_t block, uint64_t len)
{
	add_piece(v, (struct view_piece){ .kind = PIECE_STORED, .source = source, .where = block }, len);
}

/* A block of 128 KiB of zeros (RFC 8878, 3.1.1.2): its header, which says RLE and not the last, and the byte 0. */
#define ZERO_BLOCK (128u << 10 << 3 | 1 << 1)
static const uint32_t zero_blocks[1024] = { [0 ... 1023] = ZERO_BLOCK };

void view_put_zero_blocks(struct view *v, uint64_t n)
{
	add_piece(v, (struct view_piece){ .kind = PIECE_RLE }, n * sizeof(*zero_blocks));
}

static void lend_zero_blocks(uint64_t skip, size_t len, struct lease *out)
{
	size_t cut = (size_t)(skip % sizeof(*zero_blocks)), have = sizeof(zero_blocks) - cut;

	*out = (struct lease){ .ptr = (const char *)zero_blocks + cut, .len_bytes = len < have ? len : have };
}

void view_put_filtered(struct view *v, const struct view_filtered *f, unsigned source, uint64_t skip, uint64_t len)
{
	bool same = v->nfiltereds && !memcmp(&v->filtereds[v->nfiltereds - 1], f, sizeof(*f));

	if (!same && !make_room(v, &v->filtereds, v->nfiltereds, &v->cap_filtereds, 1, sizeof(*v->filtereds)))
		return;
	if (!same)
		v->filtereds[v->nfiltereds++] = *f;
	add_piece(v, (struct view_piece){ .kind = f->steps & FILTER_PACK ? PIECE_DELTAS : PIECE_FILTERED, .source = source,
					  .where = v->nfiltereds - 1, .count = skip }, len);
}

int view_end(struct view *v)
{
	return v->err;
}

uint64_t view_hash(const struct view *v)
{
	uint64_t h = XXH64(v->bytes_put, v->nbytes_put, v->bytes);

	h = XXH64(v->pieces, v->npieces * sizeof(*v->pieces), h);
	for (size_t k = 0; k < v->npieces; k++) {
		struct block_ref ref;

		if (v->pieces[k].kind == PIECE_STORED && pin_block(v->sources[v->pieces[k].source].array, v->pieces[k].where, &ref))
			h = h * 31 + ((uint64_t)ref.layer << 40) + ref.frame_off;
	}
	return XXH64(v->filtereds, v->nfiltereds * sizeof(*v->filtereds), h);
}

/* Reading. */

/* All len bytes, zeros behind the end. */
static int read_source(const struct view_source *s, uint64_t off, void *buf, size_t len, unsigned how)
{
	size_t n = 0, inside = off >= s->size_bytes ? 0 : s->size_bytes - off < len ? (size_t)(s->size_bytes - off) : len;
	int err;

	if (s->rw)
		rwlock_shared_nested(s->rw);
	err = array_read_as(s->array, buf, inside, off, how, &n);
	if (!err && s->surveyed)
		survey_passed(s->array, off, n);
	if (s->rw)
		rwlock_release(s->rw);
	if (!err)
		memset((char *)buf + n, 0, len - n);
	return err;
}

static void give_back_buf(struct lease *l)
{
	buf_free(l->owner, (size_t)(uintptr_t)l->item);
}

/* A lease of `len` bytes at buf + skip. */
static void lend_buf(void *buf, size_t size, size_t skip, size_t len, struct lease *out)
{
	*out = (struct lease){ .ptr = (char *)buf + skip, .len_bytes = len, .give_back = give_back_buf, .owner = buf,
			       .item = (void *)(uintptr_t)size };
}

static int borrow_data(const struct view_source *s, uint64_t off, size_t len, unsigned how, struct lease *out)
{
	void *buf;
	int err;

	if (off >= s->size_bytes) {
		lease_zeros(out, len < LEASE_ZERO_MAX ? len : LEASE_ZERO_MAX);
		return 0;
	}
	if (len > s->size_bytes - off)
		len = (size_t)(s->size_bytes - off);
	if (!s->rw)
		return array_borrow(s->array, off, len, how, out);
	if (len > COPY_MAX)
		len = COPY_MAX;
	buf = buf_alloc(len);
	err = buf ? read_source(s, off, buf, len, how) : -ENOMEM;
	if (err) {
		buf_free(buf, len);
		return err;
	}
	lend_buf(buf, len, 0, len, out);
	return 0;
}

static void map_elements(enum view_map map, const unsigned char *in, size_t n, unsigned char *out)
{
	for (size_t i = 0; map == VIEW_MAP_BITS && i < n; i++) {
		if (i % 8 == 0)
			out[i / 8] = 0;
		out[i / 8] |= (unsigned char)((in[i] != 0) << i % 8);
	}
	for (size_t i = 0; map != VIEW_MAP_BITS && i < n; i++) {
		uint32_t x = map == VIEW_MAP_U8_I32 || map == VIEW_MAP_I8_I32 ? in[i] : in[2 * i] | (uint32_t)in[2 * i + 1] << 8;

		if (map == VIEW_MAP_I8_I32)
			x = (uint32_t)(int8_t)x;
		else if (map == VIEW_MAP_I16_I32)
			x = (uint32_t)(int16_t)x;
		for (int b = 0; b < 4; b++)
			out[4 * i + b] = (unsigned char)(x >> 8 * b);
	}
}

/* Bytes [skip, skip + len) of the mapped elements. */
static int borrow_mapped(const struct view_source *s, const struct view_piece *p, uint64_t skip, size_t len, unsigned how,
			 struct lease *out)
{
	bool bits = p->map == VIEW_MAP_BITS;
	uint64_t unit = bits ? 1 : maps[p->map].out_bytes, first = skip / unit;
	size_t cut = (size_t)(skip % unit), nunits, nelems, in_bytes, out_bytes;
	unsigned char *in, *buf;
	int err;

	if (len > COPY_MAX)
		len = COPY_MAX;
	nunits = (size_t)((cut + len + unit - 1) / unit);
	first *= bits ? 8 : 1;
	nelems = bits ? nunits * 8 : nunits;
	if (bits && nelems > p->count - first)
		nelems = (size_t)(p->count - first);
	in_bytes = nelems * maps[p->map].in_bytes;
	out_bytes = nunits * (size_t)unit;
	in = buf_alloc(in_bytes);
	buf = buf_alloc(out_bytes);
	err = in && buf ? read_source(s, (p->where + first) * maps[p->map].in_bytes, in, in_bytes, how) : -ENOMEM;
	if (!err)
		map_elements(p->map, in, nelems, buf);
	buf_free(in, in_bytes);
	if (err) {
		buf_free(buf, out_bytes);
		return err;
	}
	lend_buf(buf, out_bytes, cut, len, out);
	return 0;
}

/* Bytes [skip, skip + len) of what filtering the whole range gives. */
static int borrow_filtered(const struct view_source *s, const struct view_filtered *f, uint64_t skip, size_t len,
			   unsigned how, struct lease *out)
{
	const struct filter filter = { .steps = (uint8_t)f->steps, .elem_bytes = (uint8_t)f->elem_bytes };
	size_t whole = (size_t)f->decoded_bytes, used;
	unsigned char *in = buf_alloc(whole), *buf = buf_alloc(whole);
	int err = in && buf ? read_source(s, f->off, in, (size_t)f->len, how) : -ENOMEM;

	if (!err) {
		memset(in + f->len, 0, whole - (size_t)f->len);
		err = filter_apply(&filter, in, whole, NULL, buf, &used);
	}
	buf_free(in, whole);
	if (err) {
		buf_free(buf, whole);
		return err;
	}
	lend_buf(buf, whole, (size_t)skip, len, out);
	return 0;
}

/* Bytes [skip, skip + len) of the whole range as DELTAS. */
static int borrow_deltas(const struct view_source *s, const struct view_filtered *f, uint64_t skip, size_t len, unsigned how, struct lease *out)
{
	size_t whole = (size_t)f->decoded_bytes, raw = (size_t)f->len;
	unsigned char *in = buf_alloc(raw), *buf = buf_alloc(whole);
	int err = in && buf ? read_source(s, f->off, in, raw, how) : -ENOMEM;

	if (!err)
		err = (f->steps & FILTER_DELTA ? deltas_encode : deltas_range_encode)(in, raw / f->elem_bytes, f->elem_bytes, buf, whole);
	if (err == -EUCLEAN)
		err_corrupt("layers", f->off, "the elements of inode %llu that begin there are not what the index says of them",
			    (unsigned long long)s->array->ino);
	buf_free(in, raw);
	if (err) {
		buf_free(buf, whole);
		return err;
	}
	lend_buf(buf, whole, (size_t)skip, len, out);
	return 0;
}

/* The piece with the byte at off, which is below the size. */
static const struct view_piece *find_piece(const struct view *v, uint64_t off)
{
	return &v->pieces[VEC_LOWER_BOUND(i, v->npieces, v->pieces[i].at <= off) - 1];
}

void *view_owner(struct array *a)
{
	struct view *v = (struct view *)a;

	return v->nsources ? v->sources[0].owner : NULL;
}

size_t view_place(struct array *a, uint64_t off, size_t len, const void **head_out, void **owner_out, uint64_t *source_off_out)
{
	struct view *v = (struct view *)a;
	const struct view_piece *p = find_piece(v, off);
	uint64_t end = p + 1 < v->pieces + v->npieces ? p[1].at : v->bytes, skip = off - p->at;

	assert(p->kind == PIECE_BYTES || p->kind == PIECE_DATA);
	*head_out = p->kind == PIECE_BYTES ? v->bytes_put + p->where + skip : NULL;
	*owner_out = p->kind == PIECE_DATA ? v->sources[p->source].owner : NULL;
	*source_off_out = p->where + skip;
	return len < end - off ? len : (size_t)(end - off);
}

static int view_borrow(struct array *a, uint64_t off, size_t len, unsigned how, struct lease *out)
{
	struct view *v = (struct view *)a;
	const struct view_piece *p = find_piece(v, off);
	const struct view_source *s = p->source < v->nsources ? &v->sources[p->source] : NULL;
	uint64_t end = p + 1 < v->pieces + v->npieces ? p[1].at : v->bytes, skip = off - p->at;

	if (len > end - off)
		len = (size_t)(end - off);
	switch ((enum piece_kind)p->kind) {
	case PIECE_BYTES:
		*out = (struct lease){ .ptr = v->bytes_put + p->where + skip, .len_bytes = len };
		return 0;
	case PIECE_ZEROS:
		lease_zeros(out, len < LEASE_ZERO_MAX ? len : LEASE_ZERO_MAX);
		return 0;
	case PIECE_DATA:
		return borrow_data(s, p->where + skip, len, how, out);
	case PIECE_MAPPED:
		return borrow_mapped(s, p, skip, len, how, out);
	case PIECE_STORED:
		return pin_lend_frame(s->array, p->where, skip, len, out);
	case PIECE_RLE:
		lend_zero_blocks(skip, len, out);
		return 0;
	case PIECE_FILTERED:
		return borrow_filtered(s, &v->filtereds[p->where], p->count + skip, len, how, out);
	case PIECE_DELTAS:
		return borrow_deltas(s, &v->filtereds[p->where], p->count + skip, len, how, out);
	}
	return -EUCLEAN;
}

/* Memory that it has until it is closed. Arrays that it does not pin have inodes, which are charged for them. */
static size_t view_memory(struct array *a)
{
	const struct view *v = (const struct view *)a;
	size_t bytes = sizeof(*v) + v->cap_sources * sizeof(*v->sources) + v->cap_pieces * sizeof(*v->pieces) +
		       v->cap_filtereds * sizeof(*v->filtereds) + v->cap_bytes_put;

	for (size_t k = 0; k < v->nsources; k++)
		bytes += v->sources[k].array && !v->sources[k].owner ? array_memory(v->sources[k].array) : 0;
	return bytes;
}

static void view_close(struct array *a)
{
	account_change(&a->home->store->account, ACCOUNT_VIEWS, ((struct view *)a)->charged_bytes, 0);
	view_free((struct view *)a);
}

/* As array_seek, of [off, end) of a source: end if there is none. */
static int seek_source(const struct view_source *s, uint64_t off, uint64_t end, bool hole, uint64_t *out)
{
	uint64_t at = off;
	int err;

	if (s->rw)
		rwlock_shared_nested(s->rw);
	err = off < s->size_bytes ? array_seek(s->array, off, hole, &at) : -ENXIO;
	if (s->rw)
		rwlock_release(s->rw);
	if (err && err != -ENXIO)
		return err;
	/* Behind the end there are zeros. */
	if (err)
		at = hole ? off : end;
	else if (at >= s->size_bytes)
		at = hole ? s->size_bytes : end;
	*out = at < end ? at : end;
	return 0;
}

/* The same of [off, end) of the view, which is in one piece. */
static int seek_piece(const struct view *v, const struct view_piece *p, uint64_t off, uint64_t end, bool hole, uint64_t *out)
{
	bool zeros = p->kind == PIECE_ZEROS;
	int err = 0;

	if (p->kind == PIECE_DATA) {
		err = seek_source(&v->sources[p->source], p->where + (off - p->at), p->where + (end - p->at), hole, out);
		if (!err)
			*out = *out - p->where + p->at;
	} else {
		*out = zeros == hole ? off : end;
	}
	return err;
}

/* Holes are those of the sources, and what the view fills up with zeros. */
static int view_seek(struct array *a, uint64_t off, bool hole, uint64_t *out)
{
	struct view *v = (struct view *)a;

	for (const struct view_piece *p = find_piece(v, off); p < v->pieces + v->npieces; p++) {
		uint64_t end = p + 1 < v->pieces + v->npieces ? p[1].at : v->bytes, at;
		int err = seek_piece(v, p, off, end, hole, &at);

		if (err)
			return err;
		off = at;
		if (at < end)
			break;
	}
	*out = off;
	return 0;
}

/* Nobody writes: the tree refuses. */
static const struct array_ops view_ops = {
	.kind = ARRAY_VIEW,
	.counters = { .reads = STAT_READ_OPS_VIEW, .read_bytes = STAT_READ_BYTES_VIEW },
	.close = view_close,
	.memory = view_memory,
	.borrow = view_borrow,
	.seek = view_seek,
};

/* No more of it is to come. */
static void fit(void *list, size_t n, size_t *cap, size_t elem_bytes)
{
	void *v, *fitted;

	memcpy(&v, list, sizeof(v)); /* whatever it points to */
	fitted = n && n < *cap ? realloc(v, n * elem_bytes) : NULL;
	if (!fitted)
		return;
	memcpy(list, &fitted, sizeof(fitted));
	*cap = n;
}

static void tell_full(const struct account *a)
{
	char text[200];

	snprintf(text, sizeof(text), "views/: a file is not opened: with it, those that are open would hold more than the %zu MiB that cache= gives "
		 "them; close some, or mount with a larger cache=", account_views_most(a) >> 20);
	if (err_is_news(text))
		log_warn("%s", text);
}

int view_array(struct arrays *home, struct view *v, struct array **out)
{
	struct account *account = &home->store->account;

	assert(!v->err);
	fit(&v->pieces, v->npieces, &v->cap_pieces, sizeof(*v->pieces));
	fit(&v->sources, v->nsources, &v->cap_sources, sizeof(*v->sources));
	fit(&v->filtereds, v->nfiltereds, &v->cap_filtereds, sizeof(*v->filtereds));
	fit(&v->bytes_put, v->nbytes_put, &v->cap_bytes_put, 1);
	v->array = (struct array){ .ops = &view_ops, .home = home, .size_bytes = v->bytes };
	v->charged_bytes = view_memory(&v->array);
	if (!account_admit_view(account, v->charged_bytes)) {
		tell_full(account);
		return -ENFILE;
	}
	*out = &v->array;
	return 0;
}
