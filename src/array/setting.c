/*
 * The settings of an array: one function for each reads its text. No state.
 */
#include "array/setting.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "array/array.h"
#include "spillfs.h"
#include "util/number.h"

static int parse_dtype(const char *v, struct settings *s)
{
	uint32_t bytes;

	(void)s;
	return dtype_size(v, &bytes);
}

static int parse_shape(const char *v, struct settings *s)
{
	return shape_parse(v, &s->shape);
}

static int parse_order(const char *v, struct settings *s)
{
	if (strcmp(v, "C") && strcmp(v, "F"))
		return -EINVAL;
	s->shape.fortran = *v == 'F';
	return 0;
}

static int parse_logical(const char *v, struct settings *s)
{
	return logical_parse(v, &s->logical);
}

/* A decimal number and nothing else, within bounds. */
static int parse_number(const char *v, uint64_t min, uint64_t max, uint64_t *out)
{
	uint64_t n;

	if (number_parse(v, &n) || n < min || n > max)
		return -EINVAL;
	*out = n;
	return 0;
}

static int parse_block_size(const char *v, struct settings *s)
{
	uint64_t n;

	if (parse_number(v, ARRAY_BLOCK_MIN, ARRAY_BLOCK_MAX, &n) || n % 4096)
		return -EINVAL;
	s->block_bytes = (uint32_t)n;
	return 0;
}

/* "3", or "-3". There is no level 0. */
static int parse_level(const char *v, int *out)
{
	bool negative = *v == '-';
	uint64_t n;

	if (parse_number(v + negative, 1, negative ? -CODEC_LEVEL_MIN : CODEC_LEVEL_MAX, &n))
		return -EINVAL;
	*out = negative ? -(int)n : (int)n;
	return 0;
}

static int parse_codec(const char *v, struct settings *s)
{
	const struct settings initial = SETTINGS_DEFAULT;
	int level;

	if (!strcmp(v, "auto"))
		s->codec.level = initial.codec.level;
	else if (!strcmp(v, "none"))
		s->codec.level = 0;
	else if (!strcmp(v, "pack"))
		s->codec.level = CODEC_LEVEL_PACK;
	else if (!strncmp(v, "zstd:", 5) && !parse_level(v + 5, &level))
		s->codec.level = level;
	else
		return -EINVAL;
	return 0;
}

static int parse_filter(const char *v, struct settings *s)
{
	uint8_t steps = FILTER_NONE;

	if (strcmp(v, "auto") && filter_parse(v, &steps))
		return -EINVAL;
	s->codec.policy = *v == 'a' ? CODEC_POLICY_AUTO : (enum codec_policy)steps;
	return 0;
}

static int parse_switch(const char *v, bool *out)
{
	if (strcmp(v, "0") && strcmp(v, "1"))
		return -EINVAL;
	*out = *v == '1';
	return 0;
}

static int parse_consume(const char *v, struct settings *s)
{
	return parse_switch(v, &s->consume);
}

static int parse_direct(const char *v, struct settings *s)
{
	return parse_switch(v, &s->direct);
}

static int parse_compress(const char *v, struct settings *s)
{
	if (strcmp(v, "none") && strcmp(v, "cold"))
		return -EINVAL;
	s->cold = *v == 'c';
	return 0;
}

struct setting {
	const char *name;
	int (*parse)(const char *value, struct settings *s);
	bool storage; /* how an array is stored or read, not what it is */
};

/* The shape stands before the order, which is a part of it. */
static const struct setting settings[] = {
	{ SPILLFS_XATTR_DTYPE, parse_dtype, false },
	{ SPILLFS_XATTR_SHAPE, parse_shape, false },
	{ SPILLFS_XATTR_ORDER, parse_order, false },
	{ SPILLFS_XATTR_LOGICAL, parse_logical, false },
	{ SPILLFS_XATTR_BLOCK_SIZE, parse_block_size, true },
	{ SPILLFS_XATTR_CODEC, parse_codec, true },
	{ SPILLFS_XATTR_FILTER, parse_filter, true },
	{ SPILLFS_XATTR_CONSUME, parse_consume, true },
	{ SPILLFS_XATTR_DIRECT, parse_direct, true },
	{ SPILLFS_XATTR_COMPRESS, parse_compress, true },
};

static const struct setting *find(const char *name)
{
	for (size_t k = 0; k < sizeof(settings) / sizeof(*settings); k++) {
		if (!strcmp(settings[k].name, name))
			return &settings[k];
	}
	return NULL;
}

const char *setting_name(unsigned k)
{
	return k < sizeof(settings) / sizeof(*settings) ? settings[k].name : NULL;
}

int setting_parse(const char *name, const char *value, struct settings *out)
{
	const struct setting *s = find(name);

	return s ? s->parse(value, out ? out : &(struct settings){ 0 }) : -ENODATA;
}

int setting_parse_codec(const char *codec, const char *filter, struct settings *out)
{
	int err = setting_parse(SPILLFS_XATTR_CODEC, codec, out);

	return err ? err : setting_parse(SPILLFS_XATTR_FILTER, filter, out);
}

/* Whole rows in about ARRAY_BLOCK_DEFAULT bytes. */
static uint32_t default_block(const struct shape *shape, uint32_t elem_bytes)
{
	uint64_t row = shape_row(shape);

	row = !row || row > ARRAY_BLOCK_MAX / elem_bytes ? elem_bytes : row * elem_bytes;
	return row > ARRAY_BLOCK_DEFAULT ? (uint32_t)row : (uint32_t)(ARRAY_BLOCK_DEFAULT / row * row);
}

/* The types of as many fields as there is room for; of a scalar none. */
static struct record fields_of(const struct dtype *d)
{
	struct record r = record_begin(d->record ? d->bytes : 0, 0);

	for (uint32_t k = 0; k < d->nfields && r.bytes; k++) {
		enum dtype_scalar is = d->fields[k].type;

		if (!record_add(&r, dtype_scalar_summary(is), dtype_scalar_bytes(is)))
			break;
	}
	return r;
}

void settings_params(const struct settings *s, const char *dtype, struct array_params *out)
{
	struct array_params p = { .codec = s->codec, .block_default = !s->block_bytes, .direct = s->direct, .cold = s->cold };
	uint32_t elem_bytes = 1;
	struct dtype *d;

	if (*dtype && !dtype_parse(dtype, &d)) {
		elem_bytes = d->bytes;
		p.codec.record = fields_of(d);
		free(d);
	}
	p.codec.elem_bytes = elem_bytes > 16 ? 1 : elem_bytes;
	p.codec.type = dtype_summary(dtype);
	p.block_bytes = s->block_bytes ? s->block_bytes : default_block(&s->shape, elem_bytes);
	*out = p;
}

uint16_t settings_lead(const struct array_params *p, uint64_t block)
{
	uint32_t bytes = p->codec.record.bytes, into = bytes ? (uint32_t)(block % bytes * (p->block_bytes % bytes) % bytes) : 0;

	return (uint16_t)(into ? bytes - into : 0);
}

int setting_quota(const char *name, const char *value, uint64_t *out)
{
	uint64_t bytes;

	if (strcmp(name, SPILLFS_XATTR_QUOTA) && strcmp(name, SPILLFS_XATTR_QUOTA_LOGICAL))
		return -ENODATA;
	if (number_size(value, &bytes) || !bytes)
		return -EINVAL;
	if (out)
		*out = bytes;
	return 0;
}

int setting_durable(const char *name, const char *value, bool *out)
{
	bool yes = !strcmp(value, "yes");

	if (strcmp(name, SPILLFS_XATTR_DURABLE))
		return -ENODATA;
	if (!yes && strcmp(value, "no"))
		return -EINVAL;
	if (out)
		*out = yes;
	return 0;
}

bool setting_is_of_directory(const char *name)
{
	return setting_quota(name, "", NULL) != -ENODATA || setting_durable(name, "", NULL) != -ENODATA;
}

const char *setting_inherited_name(const char *name)
{
	const struct setting *s = find(name);

	return s && s->storage ? name + strlen("user.") : NULL;
}

bool setting_is_inherited(const char *name)
{
	return !strncmp(name, "spillfs.", strlen("spillfs."));
}
