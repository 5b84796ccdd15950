/*
 * Fuzz target: a text, as the value of each setting user.spillfs.*, and as what names are read for. What is taken is within its
 * bounds and, where it can be printed, prints as it was; what is refused changes nothing.
 */
#include <errno.h>
#include <stdio.h>

#include "array/array.h"
#include "array/setting.h"
#include "fuzz.h"
#include "tool/text.h"
#include "util/number.h"

static void check_bounds(const struct settings *s)
{
	CHECK(s->shape.ndims <= SHAPE_DIMS_MAX && shape_count(&s->shape) <= INT64_MAX);
	CHECK(!s->block_bytes || (s->block_bytes >= ARRAY_BLOCK_MIN && s->block_bytes <= ARRAY_BLOCK_MAX && s->block_bytes % 4096 == 0));
	CHECK(s->codec.level == CODEC_LEVEL_PACK || (s->codec.level >= CODEC_LEVEL_MIN && s->codec.level <= CODEC_LEVEL_MAX));
	CHECK(s->logical.kind <= LOGICAL_DECIMAL && s->logical.unit <= LOGICAL_NS);
	CHECK(s->logical.scale <= s->logical.precision && s->logical.precision <= DECIMAL_DIGITS_I64);
	CHECK((s->logical.kind == LOGICAL_DECIMAL) == (s->logical.precision > 0));
}

static void try_settings(const char *text)
{
	const char *name;

	for (unsigned k = 0; (name = setting_name(k)); k++) {
		struct settings s, before;
		int err;

		memset(&s, 0, sizeof(s));
		before = s;
		err = setting_parse(name, text, &s);
		CHECK(!err || err == -EINVAL);
		CHECK(setting_parse(name, text, NULL) == err);
		CHECK(!err || !memcmp(&s, &before, sizeof(s)));
		check_bounds(&s);
	}
	CHECK(setting_name(0) && setting_parse(text, "", NULL) <= 0);
}

/* The fields say the text again, and lie one behind the other. */
static void check_fields(const struct dtype *d)
{
	char again[2 * DTYPE_TEXT_MAX];
	uint32_t bytes = 0;
	size_t n = 0;

	for (uint32_t i = 0; i < d->nfields; i++) {
		const struct dtype_field *f = &d->fields[i];

		CHECK(f->off_bytes == bytes && n < DTYPE_TEXT_MAX);
		bytes += dtype_scalar_bytes(f->type);
		n += (size_t)snprintf(again + n, sizeof(again) - n, "%s%.*s%s%s", i ? "," : "", (int)f->name_len, f->name ? f->name : "",
				      d->record ? ":" : "", dtype_scalar_name(f->type));
	}
	CHECK(bytes == d->bytes && !strcmp(again, d->text));
}

static void try_dtype(const char *text)
{
	uint32_t bytes = 0;
	struct dtype *d;
	int err = dtype_parse(text, &d);

	CHECK(dtype_size(text, &bytes) == err);
	dtype_of_name(text);
	if (err) {
		CHECK_EQ(err, -EINVAL);
		return;
	}
	CHECK(d->bytes == bytes && bytes && d->nfields && !strcmp(d->text, text));
	CHECK(!d->record || !dtype_summary(text));
	check_fields(d);
	free(d);
}

static void try_shape(const char *text)
{
	static const uint64_t counts[] = { 0, 1, 1000, INT64_MAX };
	char first[SHAPE_TEXT_MAX], second[SHAPE_TEXT_MAX];
	struct shape s, again, fit;

	if (shape_parse(text, &s))
		return;
	shape_text(&s, first);
	CHECK_OK(shape_parse(first, &again));
	shape_text(&again, second);
	CHECK(!strcmp(first, second) && again.ndims == s.ndims && shape_count(&again) == shape_count(&s));
	for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); i++) {
		fit = s;
		fit.fortran = i & 1;
		shape_fit(&fit, counts[i]);
		CHECK(!shape_row(&fit) || !fit.ndims || shape_count(&fit) <= counts[i]);
	}
}

/* A name that was encoded is what it was, but for control characters, which stay as they are. */
static void try_name(const char *text)
{
	char *encoded = text_encode(text), *plain = fuzz_copy(text, strlen(text) + 1);
	uint64_t n;

	CHECK(encoded && !strstr(encoded, "..") && !strpbrk(encoded, " ,\n\t"));
	text_decode(encoded);
	for (const char *c = text; *c; c++) {
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			break;
		CHECK(c[1] || !strcmp(encoded, text));
	}
	text_decode(plain);
	CHECK(strlen(plain) <= strlen(text));
	number_parse(text, &n);
	free(plain);
	free(encoded);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	char *text = fuzz_text(&in, '\0');

	try_settings(text);
	try_dtype(text);
	try_shape(text);
	try_name(text);
	free(text);
	return 0;
}
