/*
 * Arrow IPC files (Feather V2).
 *
 * Sources without blocks make one record batch as they are, its data at multiples of 4096: whoever maps the file has
 * the arrays. If one source is layered, there are record batches of compressed buffers: the stored frame of a block
 * where a batch holds just that block of a column; a made frame where nothing is stored; else the plain bytes, which
 * Arrow allows for each buffer. One frame a buffer: not all readers take several.
 *
 * All batches of a file have the same number of rows. So a column of a table is shown as it is stored only if its blocks have that
 * number of rows, or if it is a single block and the file a single batch. Candidates for the number are the columns' block sizes
 * in rows, and a plain size for arrays that have no frames to show. The one that makes the smallest file, in bytes as they are
 * served, wins: a column that compresses well prevails over one that does not.
 * Empty arrays have no batches.
 *
 * Invariants:
 *  1. Messages begin, and bodies begin and end, at multiples of 8 (readers refuse others); the length of a compressed
 *     buffer is exact, its padding is not part of it (zstd refuses what trails).
 *  2. A file has not many more than BUFFERS_MAX buffers, however small the blocks are: each costs memory while the view
 *     is open.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "view/formats/flat.h"
#include "view/formats.h"
#include "view/formats/compose.h"
#include "view/inside.h"

#define MAGIC "ARROW1"
#define MESSAGE_ALIGN 8u
#define MESSAGE_HEAD 8u /* continuation, length of the metadata */
#define PREFIX 8u       /* of a compressed buffer: its decoded length */
#define PAGE 4096u
#define CACHE_LINE 64u
#define LARGE (64u << 10) /* buffers that are page aligned */
#define PLAIN_BYTES (256u << 10)
#define BATCH_BYTES_MAX (1ull << 30)
#define BUFFERS_MAX (1ull << 20)
/* About what a batch costs besides its buffers, in metadata and the footer; and each of its buffers. */
#define COST_BATCH 224u
#define COST_BUFFER 48u

enum { VERSION_V5 = 4, ENDIAN_LITTLE = 0, CODEC_ZSTD = 1, METHOD_BUFFER = 0 };
enum header { HEADER_SCHEMA = 1, HEADER_BATCH = 3 };
enum type_id { TYPE_INT = 2, TYPE_FLOAT = 3, TYPE_BOOL = 6, TYPE_DATE = 8, TYPE_TIMESTAMP = 10, TYPE_FIXED = 15,
	       TYPE_DURATION = 18 };

struct type {
	enum type_id id;
	unsigned nfields;
	struct flat_field fields[2];
};

/* The part of a column that a batch holds. */
struct part {
	bool framed; /* as this frame; else as it is */
	struct view_frame frame;
	uint64_t decoded_bytes;
	uint64_t bytes; /* of the buffer, with its prefix */
};

/* A file that is being laid out. The words are those of Arrow's structs. */
struct lay {
	struct view *v;
	const struct view_input *in;
	size_t n;
	struct flat flat;
	struct part *parts;  /* n */
	uint64_t *nodes;     /* n times: length, null count */
	uint64_t *buffers;   /* n times: that of the validity, that of the data: offset and length each */
	uint64_t *blocks;    /* of the footer: offset, length of the metadata, length of the body */
	size_t nblocks;
};

/* The schema. */

static bool is_bool(const struct view_input *in)
{
	return !in->dtype->record && in->dtype->fields[0].type == DTYPE_BOOL;
}

static struct type type_of_logical(const struct logical *l)
{
	struct type t = { .id = TYPE_DURATION, .nfields = 1, .fields = { { 2, l->unit } } };

	if (l->kind == LOGICAL_DATE)
		return (struct type){ .id = TYPE_DATE, .nfields = 1, .fields = { { 2, 0 } } }; /* days */
	if (l->kind == LOGICAL_TIMESTAMP)
		t.id = TYPE_TIMESTAMP;
	if (l->utc) {
		t.nfields = 2;
		t.fields[1] = (struct flat_field)FLAT_LINK;
	}
	return t;
}

static struct type type_of(const struct view_input *in)
{
	const struct dtype *d = in->dtype;
	enum dtype_scalar s = d->fields[0].type;

	/* Arrow's decimals are of 128 bits and more, but for new ones that few readers know. */
	if (in->logical.kind && in->logical.kind != LOGICAL_DECIMAL && logical_fits(&in->logical, d))
		return type_of_logical(&in->logical);
	if (d->record || s == DTYPE_C64 || s == DTYPE_C128)
		return (struct type){ .id = TYPE_FIXED, .nfields = 1, .fields = { { 4, d->bytes } } };
	if (s == DTYPE_BOOL)
		return (struct type){ .id = TYPE_BOOL };
	if (s == DTYPE_F16 || s == DTYPE_F32 || s == DTYPE_F64)
		return (struct type){ .id = TYPE_FLOAT, .nfields = 1, .fields = { { 2, s - DTYPE_F16 } } };
	return (struct type){ .id = TYPE_INT, .nfields = 2, .fields = { { 4, 8 * d->bytes }, { 1, s <= DTYPE_I64 } } };
}

static size_t put_name(struct flat *f, const char *name)
{
	char *text = view_utf8(name);
	size_t at;

	if (!text) {
		f->failed = true;
		return 0;
	}
	at = flat_string(f, text);
	free(text);
	return at;
}

static size_t put_field(struct flat *f, const struct view_input *in)
{
	struct type type = type_of(in);
	const struct flat_field fields[] = { FLAT_LINK, { 1, false }, { 1, type.id }, FLAT_LINK, { 0, 0 }, FLAT_LINK };
	size_t at = flat_table(f, fields, 6), body;

	flat_link(f, at, 0, put_name(f, in->name));
	body = flat_table(f, type.fields, type.nfields);
	flat_link(f, at, 3, body);
	if (type.id == TYPE_TIMESTAMP && type.nfields == 2)
		flat_link(f, body, 1, flat_string(f, "UTC"));
	flat_link(f, at, 5, flat_links(f, 0)); /* children: some readers want the list, empty as it is */
	return at;
}

static size_t put_schema(struct lay *l)
{
	const struct flat_field fields[] = { { 2, ENDIAN_LITTLE }, FLAT_LINK };
	size_t at = flat_table(&l->flat, fields, 2), list = flat_links(&l->flat, l->n);

	flat_link(&l->flat, at, 1, list);
	for (size_t i = 0; i < l->n; i++)
		flat_link_element(&l->flat, list, i, put_field(&l->flat, &l->in[i]));
	return at;
}

/* Messages. */

static void put_u32(struct view *v, uint32_t x)
{
	view_put(v, (uint8_t[]){ (uint8_t)x, (uint8_t)(x >> 8), (uint8_t)(x >> 16), (uint8_t)(x >> 24) }, 4);
}

static void put_u64(struct view *v, uint64_t x)
{
	put_u32(v, (uint32_t)x);
	put_u32(v, (uint32_t)(x >> 32));
}

/* Begins a message; the header's table is to be linked as field 2. */
static size_t begin_message(struct lay *l, enum header header, uint64_t body_bytes)
{
	const struct flat_field fields[] = { { 2, VERSION_V5 }, { 1, header }, FLAT_LINK, { 8, body_bytes } };
	size_t at;

	flat_begin(&l->flat);
	at = flat_table(&l->flat, fields, 4);
	flat_root(&l->flat, at);
	return at;
}

/* Puts it, its metadata stretched so that the body begins at a multiple of `align`; its length with the head. */
static uint64_t end_message(struct lay *l, uint64_t align)
{
	uint64_t start = view_size(l->v), end = start + MESSAGE_HEAD + l->flat.len;

	end = (end + align - 1) / align * align;
	if (l->flat.failed) {
		view_fail(l->v, -ENOMEM);
		return 0;
	}
	if (end - start > INT32_MAX) {
		view_fail(l->v, -EFBIG);
		return 0;
	}
	put_u32(l->v, UINT32_MAX);
	put_u32(l->v, (uint32_t)(end - start - MESSAGE_HEAD));
	view_put(l->v, l->flat.p, l->flat.len);
	view_put_align(l->v, align);
	return end - start;
}

static void put_schema_message(struct lay *l)
{
	size_t at = begin_message(l, HEADER_SCHEMA, 0);

	flat_link(&l->flat, at, 2, put_schema(l));
	end_message(l, MESSAGE_ALIGN);
}

/* Puts the metadata of a batch whose nodes and buffers are filled in, and notes it for the footer. */
static void put_batch_message(struct lay *l, uint64_t rows, uint64_t body_bytes, bool compressed, uint64_t align)
{
	const struct flat_field fields[] = { { 8, rows }, FLAT_LINK, FLAT_LINK, { compressed ? 4 : 0, 0 } };
	const struct flat_field compression[] = { { 1, CODEC_ZSTD }, { 1, METHOD_BUFFER } };
	uint64_t start = view_size(l->v), *block = l->blocks + 3 * l->nblocks++;
	struct flat *f = &l->flat;
	size_t message = begin_message(l, HEADER_BATCH, body_bytes), at = flat_table(f, fields, 4);

	flat_link(f, message, 2, at);
	flat_link(f, at, 1, flat_structs(f, l->nodes, l->n, 2));
	flat_link(f, at, 2, flat_structs(f, l->buffers, 2 * l->n, 2));
	if (compressed)
		flat_link(f, at, 3, flat_table(f, compression, 2));
	block[0] = start;
	block[1] = end_message(l, align);
	block[2] = body_bytes;
}

/* The words of a column: the validity, of no bytes, stands before the data. */
static void note_column(struct lay *l, size_t i, uint64_t rows, uint64_t off, uint64_t len)
{
	uint64_t *node = l->nodes + 2 * i, *buffer = l->buffers + 4 * i;

	node[0] = rows;
	node[1] = 0;
	buffer[0] = off;
	buffer[1] = 0;
	buffer[2] = off;
	buffer[3] = len;
}

static uint64_t round_up(uint64_t x, uint64_t align)
{
	return (x + align - 1) / align * align;
}

/* Elements [first, first + rows) of a column, as the array has them; as bits if they are bools. */
static void put_plain(struct lay *l, size_t i, uint64_t first, uint64_t rows)
{
	const struct view_input *in = &l->in[i];

	if (is_bool(in))
		view_put_mapped(l->v, in->source, VIEW_MAP_BITS, first, rows);
	else
		view_put_data(l->v, in->source, first * in->dtype->bytes, rows * in->dtype->bytes);
}

static uint64_t plain_bytes(const struct view_input *in, uint64_t rows)
{
	return is_bool(in) ? view_mapped_bytes(VIEW_MAP_BITS, rows) : rows * in->dtype->bytes;
}

/* All in one batch, as it is. */

static void put_uncompressed(struct lay *l, uint64_t rows)
{
	uint64_t at = 0, body;

	for (size_t i = 0; i < l->n; i++) {
		uint64_t len = plain_bytes(&l->in[i], rows);

		at = round_up(at, len > LARGE ? PAGE : CACHE_LINE);
		note_column(l, i, rows, at, len);
		at += len;
	}
	put_batch_message(l, rows, round_up(at, CACHE_LINE), false, PAGE);
	body = view_size(l->v);
	for (size_t i = 0; i < l->n; i++) {
		view_put_zeros(l->v, body + l->buffers[4 * i + 2] - view_size(l->v));
		put_plain(l, i, 0, rows);
	}
	view_put_align(l->v, CACHE_LINE);
}

/* Compressed batches. */

static void plan_part(const struct lay *l, size_t i, uint64_t first, uint64_t rows, struct part *out)
{
	const struct view_input *in = &l->in[i];
	uint32_t elem = in->dtype->bytes;
	struct view_range r = { .source = in->source, .accept = VIEW_ACCEPT_PLAIN, .off = first * elem, .len = rows * elem,
				.decoded_bytes = rows * elem, .elem_bytes = elem };
	struct part p = { .decoded_bytes = plain_bytes(in, rows) };

	if (r.len <= ARRAY_BLOCK_MAX) { /* no longer zeros: their frames cost memory, too */
		view_plan_frame(l->v, &r, &p.frame);
		p.framed = p.frame.how == VIEW_FRAME_ZEROS || (p.frame.how == VIEW_FRAME_STORED && !is_bool(in));
	}
	if (p.framed && is_bool(in)) { /* zeros, but fewer of them */
		r.len = 0;
		r.decoded_bytes = p.decoded_bytes;
		view_plan_frame(l->v, &r, &p.frame);
	}
	p.bytes = PREFIX + (p.framed ? p.frame.len_bytes : p.decoded_bytes);
	*out = p;
}

static void put_compressed(struct lay *l, uint64_t first, uint64_t rows)
{
	uint64_t at = 0;

	for (size_t i = 0; i < l->n; i++) {
		plan_part(l, i, first, rows, &l->parts[i]);
		note_column(l, i, rows, at, l->parts[i].bytes);
		at = round_up(at + l->parts[i].bytes, MESSAGE_ALIGN);
	}
	put_batch_message(l, rows, at, true, MESSAGE_ALIGN);
	for (size_t i = 0; i < l->n; i++) {
		const struct part *p = &l->parts[i];

		put_u64(l->v, p->framed ? p->decoded_bytes : UINT64_MAX); /* -1: as it is */
		if (p->framed)
			view_put_frame(l->v, &p->frame);
		else
			put_plain(l, i, first, rows);
		view_put_align(l->v, MESSAGE_ALIGN);
	}
}

/* About how long the file is with so many rows in a batch. */
static uint64_t cost_of(const struct lay *l, uint64_t rows)
{
	uint64_t count = l->in[0].count, sum = 0;
	struct part p;

	for (uint64_t first = 0; first < count; first += rows) {
		uint64_t here = count - first < rows ? count - first : rows;

		sum += COST_BATCH;
		for (size_t i = 0; i < l->n; i++) {
			plan_part(l, i, first, here, &p);
			sum += COST_BUFFER + p.bytes;
		}
	}
	return sum;
}

/* The rows of a column's blocks; 0: it has none, or elements cross them. */
static uint64_t block_rows(const struct lay *l, size_t i)
{
	uint32_t block = view_source_block_bytes(l->v, l->in[i].source), elem = l->in[i].dtype->bytes;

	return block % elem ? 0 : block / elem;
}

static bool is_new(const struct lay *l, size_t i)
{
	for (size_t k = 0; k < i; k++) {
		if (block_rows(l, k) == block_rows(l, i))
			return false;
	}
	return true;
}

/* Rows in a batch. */
static uint64_t choose_rows(const struct lay *l)
{
	uint64_t count = l->in[0].count, least = count / (BUFFERS_MAX / l->n + 1) + 1;
	uint64_t row_bytes = 0, widest = 1, best, best_cost;

	for (size_t i = 0; i < l->n; i++) {
		row_bytes += l->in[i].dtype->bytes;
		widest = l->in[i].dtype->bytes > widest ? l->in[i].dtype->bytes : widest;
	}
	best = PLAIN_BYTES / widest > least ? PLAIN_BYTES / widest : least;
	best_cost = cost_of(l, best);
	for (size_t i = 0; i < l->n; i++) {
		uint64_t rows = block_rows(l, i), cost;

		if (rows > count)
			rows = count;
		if (!rows || rows < least || rows * row_bytes > BATCH_BYTES_MAX || !is_new(l, i))
			continue;
		cost = cost_of(l, rows);
		if (cost < best_cost || (cost == best_cost && rows > best)) {
			best = rows;
			best_cost = cost;
		}
	}
	return best;
}

/* The file. */

static void put_footer(struct lay *l)
{
	const struct flat_field fields[] = { { 2, VERSION_V5 }, FLAT_LINK, FLAT_LINK, FLAT_LINK };
	struct flat *f = &l->flat;
	size_t at;

	put_u32(l->v, UINT32_MAX);
	put_u32(l->v, 0);
	flat_begin(f);
	at = flat_table(f, fields, 4);
	flat_root(f, at);
	flat_link(f, at, 1, put_schema(l));
	flat_link(f, at, 2, flat_structs(f, NULL, 0, 3)); /* dictionaries */
	flat_link(f, at, 3, flat_structs(f, l->blocks, l->nblocks, 3));
	if (f->failed) {
		view_fail(l->v, -ENOMEM);
		return;
	}
	view_put(l->v, f->p, f->len);
	put_u32(l->v, (uint32_t)f->len);
	view_put(l->v, MAGIC, strlen(MAGIC));
}

static bool any_layered(const struct lay *l)
{
	for (size_t i = 0; i < l->n; i++) {
		if (view_source_block_bytes(l->v, l->in[i].source))
			return true;
	}
	return false;
}

static int put_file(struct lay *l)
{
	uint64_t count = l->in[0].count, rows = count;
	bool compressed = any_layered(l);

	if (compressed && count)
		rows = choose_rows(l);
	l->blocks = calloc(count ? (count - 1) / rows + 1 : 1, 3 * sizeof(*l->blocks));
	if (!l->blocks)
		return -ENOMEM;
	view_put(l->v, MAGIC "\0", MESSAGE_ALIGN);
	put_schema_message(l);
	for (uint64_t first = 0; first < count; first += rows) {
		if (compressed)
			put_compressed(l, first, count - first < rows ? count - first : rows);
		else
			put_uncompressed(l, count);
	}
	put_footer(l);
	return view_end(l->v);
}

int arrow_lay(struct view *v, const struct view_input *in, size_t n)
{
	struct lay l = { .v = v, .in = in, .n = n };
	int err = -ENOMEM;

	l.parts = calloc(n, sizeof(*l.parts));
	l.nodes = calloc(n, 2 * sizeof(*l.nodes));
	l.buffers = calloc(n, 4 * sizeof(*l.buffers));
	if (l.parts && l.nodes && l.buffers)
		err = put_file(&l);
	free(l.parts);
	free(l.nodes);
	free(l.buffers);
	free(l.blocks);
	flat_free(&l.flat);
	return err;
}
