/*
 * Reading the header of an .npy file: what a program writes into the mount, so anything at all.
 *
 * Invariants:
 *  1. No byte at or behind the header's end is looked at, nothing recurses, nothing is allocated but by dtype_parse.
 *  2. A header that is accepted means the same in NumPy; one that NumPy would read as something else is refused. Stricter
 *     than Python: no comments, no escapes in strings, no numbers but decimal ones.
 *  3. The first refusal is the one that is told.
 */
#include "view/formats/npy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC "\x93NUMPY"
#define MAGIC_LEN 6u
#define HEADER_MAX (1u << 20)

struct reader {
	const char *p, *end;
	const char *why; /* NULL: no refusal yet */
	int err;
	uint32_t elem_bytes; /* once the type is read */
};

struct span {
	const char *p;
	size_t len;
};

/* Always false, for `return refuse(...)`. */
static bool refuse(struct reader *r, const char *why)
{
	if (!r->why) {
		r->why = why;
		r->err = -EINVAL;
	}
	return false;
}

static void skip_space(struct reader *r)
{
	while (r->p < r->end && (*r->p == ' ' || *r->p == '\t' || *r->p == '\n'))
		r->p++;
}

/* Takes the character if it comes next, spaces aside. */
static bool take(struct reader *r, char c)
{
	skip_space(r);
	if (r->p == r->end || *r->p != c)
		return false;
	r->p++;
	return true;
}

static bool need(struct reader *r, char c, const char *why)
{
	return take(r, c) || refuse(r, why);
}

static bool next_is(struct reader *r, char c)
{
	skip_space(r);
	return r->p < r->end && *r->p == c;
}

static bool read_string(struct reader *r, struct span *out, const char *why)
{
	char quote = next_is(r, '"') ? '"' : '\'';
	const char *start;

	if (!need(r, quote, why))
		return false;
	for (start = r->p; r->p < r->end && *r->p != quote; r->p++) {
		if (*r->p == '\\' || (unsigned char)*r->p < ' ')
			return refuse(r, "a string with an escape or a control character");
	}
	if (r->p == r->end)
		return refuse(r, "a string without an end");
	*out = (struct span){ start, (size_t)(r->p++ - start) };
	/* "a" "b" would be one string. */
	return !(next_is(r, '"') || next_is(r, '\'')) || refuse(r, "two strings without a comma between them");
}

static bool span_is(const struct span *s, const char *text)
{
	return s->len == strlen(text) && !memcmp(s->p, text, s->len);
}

static bool read_bool(struct reader *r, bool *out)
{
	struct span word;

	skip_space(r);
	for (word.p = r->p; r->p < r->end && *r->p >= 'A' && *r->p <= 'z';)
		r->p++;
	word.len = (size_t)(r->p - word.p);
	*out = span_is(&word, "True");
	return *out || span_is(&word, "False") || refuse(r, "fortran_order is neither True nor False");
}

static bool is_digit(const struct reader *r)
{
	return r->p < r->end && *r->p >= '0' && *r->p <= '9';
}

static bool read_dimension(struct reader *r, uint64_t *out)
{
	uint64_t x = 0;
	const char *start;

	skip_space(r);
	if (next_is(r, '-'))
		return refuse(r, "a negative dimension");
	for (start = r->p; is_digit(r); r->p++) {
		uint64_t digit = (uint64_t)(*r->p - '0');

		if (x > (INT64_MAX - digit) / 10)
			return refuse(r, "a dimension that is too large");
		x = x * 10 + digit;
	}
	if (r->p == start)
		return refuse(r, "shape is not a tuple of numbers");
	if (*start == '0' && r->p - start > 1)
		return refuse(r, "a dimension that begins with 0");
	if (r->p < r->end && *r->p == 'L') /* Python 2's long */
		r->p++;
	*out = x;
	return true;
}

static bool read_shape(struct reader *r, struct shape *s)
{
	bool comma = true;

	if (!need(r, '(', "shape is not a tuple"))
		return false;
	while (!take(r, ')')) {
		if (!comma)
			return refuse(r, "shape is not a tuple of numbers");
		if (s->ndims == SHAPE_DIMS_MAX)
			return refuse(r, "more than 32 dimensions");
		if (!read_dimension(r, &s->dims[s->ndims]))
			return false;
		s->ndims++;
		comma = take(r, ',');
	}
	return s->ndims != 1 || comma || refuse(r, "shape is a number, not a tuple");
}

/* Types. */

static const struct {
	const char *code;
	enum dtype_scalar type;
} codes[] = {
	{ "b1", DTYPE_BOOL }, { "i1", DTYPE_I8 },  { "i2", DTYPE_I16 }, { "i4", DTYPE_I32 }, { "i8", DTYPE_I64 },
	{ "u1", DTYPE_U8 },   { "u2", DTYPE_U16 }, { "u4", DTYPE_U32 }, { "u8", DTYPE_U64 }, { "f2", DTYPE_F16 },
	{ "f4", DTYPE_F32 },  { "f8", DTYPE_F64 }, { "c8", DTYPE_C64 }, { "c16", DTYPE_C128 },
};

static bool refuse_type(struct reader *r, const struct span *code)
{
	switch (code->len ? *code->p : 0) {
	case 'O':
		return refuse(r, "elements are Python objects");
	case 'S':
	case 'a':
	case 'U':
		return refuse(r, "elements are strings");
	case 'V':
		return refuse(r, "elements are void, or padding");
	case 'M':
	case 'm':
		return refuse(r, "a unit of time other than s, ms, us, ns");
	case 'f':
	case 'c':
		return refuse(r, "floating-point numbers of another size");
	default:
		return refuse(r, "an unknown element type");
	}
}

/* "M8[us]", "m8[ms]". */
static bool read_time(const struct span *code, struct logical *out)
{
	struct logical l = { .kind = code->len && *code->p == 'M' ? LOGICAL_TIMESTAMP : LOGICAL_DURATION };

	if (code->len < 5 || !strchr("Mm", *code->p) || memcmp(code->p + 1, "8[", 2) || code->p[code->len - 1] != ']')
		return false;
	for (l.unit = LOGICAL_S; l.unit <= LOGICAL_NS; l.unit++) {
		const struct span unit = { code->p + 3, code->len - 4 };

		if (span_is(&unit, logical_unit_name(l.unit))) {
			*out = l;
			return true;
		}
	}
	return false;
}

/* l is NULL inside records, whose fields cannot mean anything. */
static bool read_type(struct reader *r, const struct span *text, enum dtype_scalar *out, struct logical *l)
{
	struct span code = *text;
	char order = code.len ? *code.p : 0;

	if (order && strchr("<>|=", order))
		code = (struct span){ code.p + 1, code.len - 1 };
	if (code.len && strchr("Mm", *code.p) && !l)
		return refuse(r, "a record with a time in it");
	if (l && read_time(&code, l)) {
		*out = DTYPE_I64;
		return order != '>' || refuse(r, "big-endian elements");
	}
	for (size_t k = 0; k < sizeof(codes) / sizeof(*codes); k++) {
		if (!span_is(&code, codes[k].code))
			continue;
		*out = codes[k].type;
		return order != '>' || dtype_scalar_bytes(*out) == 1 || refuse(r, "big-endian elements");
	}
	return refuse_type(r, &code);
}

/* "name:type" behind what stands in `text` already. */
static bool add_field(struct reader *r, char *text, const struct span *name, enum dtype_scalar type)
{
	size_t n = strlen(text), type_len = strlen(dtype_scalar_name(type));

	if (!name->len)
		return refuse(r, "elements are void, or padding");
	if (memchr(name->p, ',', name->len) || memchr(name->p, ':', name->len))
		return refuse(r, "a field name that a type cannot have here");
	if (n + 1 + name->len + 1 + type_len > DTYPE_TEXT_MAX)
		return refuse(r, "a record with too many or too long field names");
	if (n)
		text[n++] = ',';
	memcpy(text + n, name->p, name->len);
	n += name->len;
	text[n++] = ':';
	memcpy(text + n, dtype_scalar_name(type), type_len + 1);
	return true;
}

/* ('name', '<u4'), behind its parenthesis. */
static bool read_field(struct reader *r, char *text)
{
	struct span name, code;
	enum dtype_scalar type;

	if (next_is(r, '('))
		return refuse(r, "a field with a title");
	if (!read_string(r, &name, "a field without a name") || !need(r, ',', "a field without a type"))
		return false;
	if (next_is(r, '[') || next_is(r, '{') || next_is(r, '('))
		return refuse(r, "a record in a record, or an array in one");
	if (!read_string(r, &code, "a field without a type") || !read_type(r, &code, &type, NULL))
		return false;
	if (take(r, ',') && !next_is(r, ')'))
		return refuse(r, "a record in a record, or an array in one");
	return need(r, ')', "a field without an end") && add_field(r, text, &name, type);
}

/* A list of fields, behind its bracket. */
static bool read_record(struct reader *r, char *text)
{
	bool comma = true;
	struct dtype *d;
	int err;

	while (!take(r, ']')) {
		if (!comma || !need(r, '(', "descr is not a list of fields"))
			return refuse(r, "descr is not a list of fields");
		if (!read_field(r, text))
			return false;
		comma = take(r, ',');
	}
	if (!*text)
		return refuse(r, "a record without fields");
	err = dtype_parse(text, &d);
	if (err) {
		refuse(r, "field names that a type cannot have here");
		r->err = err;
		return false;
	}
	r->elem_bytes = d->bytes;
	free(d);
	return true;
}

static bool read_descr(struct reader *r, struct npy_facts *f)
{
	enum dtype_scalar type;
	struct span code;

	if (take(r, '['))
		return read_record(r, f->dtype);
	if (next_is(r, '{') || next_is(r, '('))
		return refuse(r, "a type with offsets, or an array as element");
	if (!read_string(r, &code, "descr is neither a string nor a list") || !read_type(r, &code, &type, &f->logical))
		return false;
	strcpy(f->dtype, dtype_scalar_name(type));
	r->elem_bytes = dtype_scalar_bytes(type);
	return true;
}

/* The dictionary. */

enum key { KEY_DESCR = 1, KEY_ORDER = 2, KEY_SHAPE = 4, KEYS_ALL = 7 };

static bool read_entry(struct reader *r, struct npy_facts *f, unsigned *seen)
{
	struct span name;
	enum key key;

	if (!read_string(r, &name, "a key that is no string"))
		return false;
	if (span_is(&name, "descr"))
		key = KEY_DESCR;
	else if (span_is(&name, "fortran_order"))
		key = KEY_ORDER;
	else if (span_is(&name, "shape"))
		key = KEY_SHAPE;
	else
		return refuse(r, "an unknown key");
	if (*seen & key)
		return refuse(r, "a key twice");
	*seen |= key;
	if (!need(r, ':', "a key without a value"))
		return false;
	if (key == KEY_DESCR)
		return read_descr(r, f);
	return key == KEY_ORDER ? read_bool(r, &f->shape.fortran) : read_shape(r, &f->shape);
}

/* As arrays here count: a dimension of 0 makes room for no others. */
static bool bytes_fit(const struct shape *s, uint64_t elem_bytes)
{
	uint64_t product = elem_bytes;

	for (unsigned k = 0; k < s->ndims; k++) {
		if (s->dims[k] && product > INT64_MAX / s->dims[k])
			return false;
		product *= s->dims[k] ? s->dims[k] : 1;
	}
	return true;
}

static bool read_header(struct reader *r, struct npy_facts *f)
{
	bool comma = true;
	unsigned seen = 0;

	if (!need(r, '{', "no dictionary"))
		return false;
	while (!take(r, '}')) {
		if (!comma)
			return refuse(r, "entries without a comma between them");
		if (!read_entry(r, f, &seen))
			return false;
		comma = take(r, ',');
	}
	skip_space(r);
	if (r->p != r->end)
		return refuse(r, "something behind the dictionary");
	if (seen != KEYS_ALL)
		return refuse(r, "a key is missing");
	return bytes_fit(&f->shape, r->elem_bytes) || refuse(r, "a shape that is too large");
}

/* Where header and data begin. 0, -EAGAIN, -EINVAL. */
static int read_preamble(const unsigned char *p, size_t n, size_t *head, uint64_t *data, size_t *need_out,
			 const char **why)
{
	size_t len, have = n < MAGIC_LEN ? n : MAGIC_LEN, length_bytes = n > MAGIC_LEN && p[6] == 1 ? 2 : 4;

	if (have && memcmp(p, MAGIC, have)) {
		*why = "no .npy file";
		return -EINVAL;
	}
	if ((n > 6 && (p[6] < 1 || p[6] > 3)) || (n > 7 && p[7])) {
		*why = "an unknown version of .npy";
		return -EINVAL;
	}
	*need_out = n < 8 ? 8 : 8 + length_bytes;
	if (n < *need_out)
		return -EAGAIN;
	len = p[8] | (size_t)p[9] << 8;
	if (length_bytes == 4)
		len |= (size_t)p[10] << 16 | (size_t)p[11] << 24;
	if (len > HEADER_MAX) {
		*why = "a header of more than 1 MiB";
		return -EINVAL;
	}
	*head = *need_out;
	*data = *need_out += len;
	return n < *need_out ? -EAGAIN : 0;
}

int npy_parse(const void *p, size_t n, struct npy_facts *out, size_t *need_out, const char **why)
{
	struct npy_facts f = { 0 };
	struct reader r = { 0 };
	const char *refusal = NULL;
	size_t head = 0, wanted = 0;
	int err = read_preamble(p, n, &head, &f.data_off, &wanted, &refusal);

	if (err == -EAGAIN)
		*need_out = wanted;
	else if (err)
		*why = refusal;
	if (err)
		return err;
	r.p = (const char *)p + head;
	r.end = (const char *)p + f.data_off;
	if (!read_header(&r, &f)) {
		*why = r.why;
		return r.err;
	}
	*out = f;
	return 0;
}
