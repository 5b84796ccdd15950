/*
 * Parsing of element types and shapes. No state.
 */
#include "array/dtype.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/summary.h"
#include "util/number.h"

static const struct {
	const char *name;
	uint8_t bytes;
	uint8_t summary; /* enum summary_type */
} scalars[DTYPE_NSCALARS] = {
	[DTYPE_I8] = { "i8", 1, SUMMARY_I8 },	  [DTYPE_I16] = { "i16", 2, SUMMARY_I16 },
	[DTYPE_I32] = { "i32", 4, SUMMARY_I32 },  [DTYPE_I64] = { "i64", 8, SUMMARY_I64 },
	[DTYPE_U8] = { "u8", 1, SUMMARY_U8 },	  [DTYPE_U16] = { "u16", 2, SUMMARY_U16 },
	[DTYPE_U32] = { "u32", 4, SUMMARY_U32 },  [DTYPE_U64] = { "u64", 8, SUMMARY_U64 },
	[DTYPE_F16] = { "f16", 2, SUMMARY_F16 },  [DTYPE_F32] = { "f32", 4, SUMMARY_F32 },
	[DTYPE_F64] = { "f64", 8, SUMMARY_F64 },  [DTYPE_C64] = { "c64", 8, SUMMARY_NONE },
	[DTYPE_C128] = { "c128", 16, SUMMARY_NONE }, [DTYPE_BOOL] = { "bool", 1, SUMMARY_BOOL },
};

static int scalar_find(const char *s, size_t len)
{
	for (int i = 0; i < DTYPE_NSCALARS; i++) {
		if (strlen(scalars[i].name) == len && !memcmp(scalars[i].name, s, len))
			return i;
	}
	return -1;
}

static bool field_name_ok(const char *s, size_t len)
{
	if (!len || isdigit((unsigned char)*s))
		return false;
	for (size_t i = 0; i < len; i++) {
		if (!isalnum((unsigned char)s[i]) && s[i] != '_')
			return false;
	}
	return true;
}

static bool field_known(const struct dtype *d, const struct dtype_field *f)
{
	for (uint32_t i = 0; i < d->nfields; i++) {
		if (d->fields[i].name_len == f->name_len && !memcmp(d->fields[i].name, f->name, f->name_len))
			return true;
	}
	return false;
}

/* The fields of d->text. */
static int parse_record(struct dtype *d)
{
	const char *text = d->text;

	d->record = true;
	for (;;) {
		size_t len = strcspn(text, ","), name = strcspn(text, ":");
		struct dtype_field f = { .name = text, .name_len = name, .off_bytes = d->bytes };
		int type;

		if (name >= len || !field_name_ok(text, name) || d->nfields == DTYPE_FIELDS_MAX || field_known(d, &f))
			return -EINVAL;
		type = scalar_find(text + name + 1, len - name - 1);
		if (type < 0)
			return -EINVAL;
		f.type = type;
		d->fields[d->nfields++] = f;
		d->bytes += scalars[type].bytes;
		if (!text[len])
			return 0;
		text += len + 1;
	}
}

int dtype_parse(const char *text, struct dtype **out)
{
	size_t len = strlen(text), commas = 0;
	int type = scalar_find(text, len), err;
	struct dtype *d;

	if (!len || len > DTYPE_TEXT_MAX)
		return -EINVAL;
	for (const char *p = text; *p; p++)
		commas += *p == ',';
	d = calloc(1, sizeof(*d) + (commas + 1) * sizeof(*d->fields));
	if (!d)
		return -ENOMEM;
	memcpy(d->text, text, len + 1);
	if (type >= 0) {
		d->bytes = scalars[type].bytes;
		d->nfields = 1;
		d->fields[0].type = type;
	} else {
		err = parse_record(d);
		if (err) {
			free(d);
			return err;
		}
	}
	*out = d;
	return 0;
}

int dtype_size(const char *text, uint32_t *bytes_out)
{
	struct dtype *d;
	int err = dtype_parse(text, &d);

	if (err)
		return err;
	*bytes_out = d->bytes;
	free(d);
	return 0;
}

const char *dtype_scalar_name(enum dtype_scalar s)
{
	return scalars[s].name;
}

uint32_t dtype_scalar_bytes(enum dtype_scalar s)
{
	return scalars[s].bytes;
}

uint8_t dtype_scalar_summary(enum dtype_scalar s)
{
	return scalars[s].summary;
}

uint8_t dtype_summary(const char *text)
{
	int i = scalar_find(text, strlen(text));

	return i < 0 ? SUMMARY_NONE : scalars[i].summary;
}

const char *dtype_of_name(const char *name)
{
	const char *dot = strrchr(name, '.');
	int i = dot ? scalar_find(dot + 1, strlen(dot + 1)) : -1;

	return i < 0 ? NULL : scalars[i].name;
}

/* A product that may pass through 0. */
static bool product_fits(const struct shape *s)
{
	uint64_t product = 1;

	for (unsigned i = 0; i < s->ndims; i++) {
		if (s->dims[i] > INT64_MAX || (s->dims[i] && product > INT64_MAX / s->dims[i]))
			return false;
		if (s->dims[i])
			product *= s->dims[i];
	}
	return true;
}

int shape_parse(const char *text, struct shape *out)
{
	struct shape s = { 0 };

	for (bool more = strcmp(text, "()"); more;) {
		if (s.ndims == SHAPE_DIMS_MAX || number_scan(&text, &s.dims[s.ndims++]) || (*text && *text != ','))
			return -EINVAL;
		more = *text++;
	}
	if (!product_fits(&s))
		return -EINVAL;
	*out = s;
	return 0;
}

void shape_text(const struct shape *s, char out[SHAPE_TEXT_MAX])
{
	size_t n = 0;

	strcpy(out, "()");
	for (unsigned i = 0; i < s->ndims; i++)
		n += (size_t)sprintf(out + n, "%s%" PRIu64, i ? "," : "", s->dims[i]);
}

uint64_t shape_count(const struct shape *s)
{
	uint64_t n = 1;

	for (unsigned i = 0; i < s->ndims; i++)
		n *= s->dims[i];
	return n;
}

/* The axis that varies slowest. */
static unsigned slowest(const struct shape *s)
{
	return s->fortran ? s->ndims - 1 : 0;
}

uint64_t shape_row(const struct shape *s)
{
	uint64_t n = 1;

	for (unsigned i = 0; i < s->ndims; i++)
		n *= i == slowest(s) ? 1 : s->dims[i];
	return n;
}

void shape_fit(struct shape *s, uint64_t count)
{
	uint64_t row = shape_row(s);

	if (!s->ndims && count != 1) {
		s->ndims = 1;
		s->dims[0] = count;
	} else if (s->ndims && row) {
		s->dims[slowest(s)] = count / row;
	}
}

static const char *const units[] = { "s", "ms", "us", "ns" };

const char *logical_unit_name(enum logical_unit u)
{
	return units[u];
}

/* One or two digits, of a number that is not written longer than it must be. */
static bool parse_digits(const char **p, unsigned max, uint8_t *out)
{
	unsigned n = 0, ndigits = 0;

	for (; **p >= '0' && **p <= '9' && ndigits < 2; (*p)++, ndigits++)
		n = 10 * n + (unsigned)(**p - '0');
	*out = (uint8_t)n;
	return ndigits && n <= max && ndigits == 1 + (n >= 10);
}

/* The text behind "decimal(". */
static int parse_decimal(const char *p, struct logical *out)
{
	struct logical l = { .kind = LOGICAL_DECIMAL };

	if (!parse_digits(&p, DECIMAL_DIGITS_I64, &l.precision) || !l.precision || *p++ != ',' ||
	    !parse_digits(&p, l.precision, &l.scale) || strcmp(p, ")"))
		return -EINVAL;
	*out = l;
	return 0;
}

int logical_parse(const char *text, struct logical *out)
{
	static const struct {
		const char *name;
		enum logical_kind kind;
	} kinds[] = { { "timestamp[", LOGICAL_TIMESTAMP }, { "duration[", LOGICAL_DURATION } };
	struct logical l = { 0 };

	if (!strcmp(text, "date")) {
		*out = (struct logical){ .kind = LOGICAL_DATE };
		return 0;
	}
	if (!strncmp(text, "decimal(", 8))
		return parse_decimal(text + 8, out);
	for (size_t k = 0; k < sizeof(kinds) / sizeof(*kinds) && !l.kind; k++) {
		size_t n = strlen(kinds[k].name);

		if (strncmp(text, kinds[k].name, n))
			continue;
		l.kind = kinds[k].kind;
		text += n;
	}
	for (l.unit = LOGICAL_S; l.kind && l.unit <= LOGICAL_NS; l.unit++) {
		size_t n = strlen(units[l.unit]);

		if (strncmp(text, units[l.unit], n))
			continue;
		l.utc = l.kind == LOGICAL_TIMESTAMP && !strcmp(text + n, ",UTC]");
		if (l.utc || !strcmp(text + n, "]")) {
			*out = l;
			return 0;
		}
	}
	return -EINVAL;
}

bool logical_fits(const struct logical *l, const struct dtype *d)
{
	enum dtype_scalar is = d->fields[0].type;

	if (l->kind == LOGICAL_NONE || d->record)
		return l->kind == LOGICAL_NONE;
	if (l->kind == LOGICAL_DECIMAL && is == DTYPE_I32)
		return l->precision <= DECIMAL_DIGITS_I32;
	return is == (l->kind == LOGICAL_DATE ? DTYPE_I32 : DTYPE_I64);
}
