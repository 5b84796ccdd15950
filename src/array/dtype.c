/*
 * Parsing of element types and shapes. No state.
 */
#include "array/dtype.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/summary.h"

static const struct {
	const char *name;
	uint8_t bytes;
	uint8_t summary; /* enum summary_type */
} scalars[] = {
	{ "i8", 1, SUMMARY_I8 }, { "i16", 2, SUMMARY_I16 }, { "i32", 4, SUMMARY_I32 }, { "i64", 8, SUMMARY_I64 },
	{ "u8", 1, SUMMARY_U8 }, { "u16", 2, SUMMARY_U16 }, { "u32", 4, SUMMARY_U32 }, { "u64", 8, SUMMARY_U64 },
	{ "f16", 2, SUMMARY_F16 }, { "f32", 4, SUMMARY_F32 }, { "f64", 8, SUMMARY_F64 }, { "c64", 8, SUMMARY_NONE },
	{ "c128", 16, SUMMARY_NONE }, { "bool", 1, SUMMARY_BOOL },
};

static int scalar_find(const char *s, size_t len)
{
	for (size_t i = 0; i < sizeof(scalars) / sizeof(*scalars); i++) {
		if (strlen(scalars[i].name) == len && !memcmp(scalars[i].name, s, len))
			return (int)i;
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

int dtype_size(const char *text, uint32_t *bytes_out)
{
	size_t len = strlen(text);
	uint32_t bytes = 0;
	int i = scalar_find(text, len);

	if (i >= 0) {
		*bytes_out = scalars[i].bytes;
		return 0;
	}
	if (!len || len > DTYPE_TEXT_MAX)
		return -EINVAL;
	for (;;) {
		size_t field = strcspn(text, ","), name = strcspn(text, ":");

		if (name >= field || !field_name_ok(text, name))
			return -EINVAL;
		i = scalar_find(text + name + 1, field - name - 1);
		if (i < 0)
			return -EINVAL;
		bytes += scalars[i].bytes;
		if (!text[field])
			break;
		text += field + 1;
	}
	*bytes_out = bytes;
	return 0;
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

int dtype_shape_check(const char *text)
{
	uint64_t product = 1;

	for (int ndims = 1; ndims <= 32; ndims++) {
		char *end;
		uint64_t n;

		if (!isdigit((unsigned char)*text))
			return -EINVAL;
		errno = 0;
		n = strtoull(text, &end, 10);
		if (errno || !n || n > INT64_MAX / product)
			return -EINVAL;
		product *= n;
		if (!*end)
			return 0;
		if (*end != ',')
			return -EINVAL;
		text = end + 1;
	}
	return -EINVAL;
}
