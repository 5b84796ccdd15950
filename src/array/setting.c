/*
 * The settings of an array. No state.
 */
#include "array/setting.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "array/array.h"
#include "array/dtype.h"
#include "spillfs.h"

static int check_dtype(const char *v)
{
	uint32_t bytes;

	return dtype_size(v, &bytes);
}

static int check_shape(const char *v)
{
	struct shape shape;

	return shape_parse(v, &shape);
}

static int check_order(const char *v)
{
	return strcmp(v, "C") && strcmp(v, "F") ? -EINVAL : 0;
}

static int check_logical(const char *v)
{
	struct logical logical;

	return logical_parse(v, &logical);
}

static int check_block_size(const char *v)
{
	char *end;
	unsigned long n = isdigit((unsigned char)*v) ? strtoul(v, &end, 10) : 0;

	if (n < ARRAY_BLOCK_MIN || n > ARRAY_BLOCK_MAX || n % 4096 || *end)
		return -EINVAL;
	return 0;
}

static int check_codec(const char *v)
{
	char *end;
	long level;

	if (!strcmp(v, "none"))
		return 0;
	if (strncmp(v, "zstd:", 5) || !isdigit((unsigned char)v[5]))
		return -EINVAL;
	level = strtol(v + 5, &end, 10);
	return *end || level < 1 || level > 19 ? -EINVAL : 0;
}

static int check_filter(const char *v)
{
	return strcmp(v, "auto") && strcmp(v, "none") && strcmp(v, "shuffle") ? -EINVAL : 0;
}

struct setting {
	const char *name;
	int (*check)(const char *value);
	bool storage; /* how an array is stored, not what it is */
};

static const struct setting settings[] = {
	{ SPILLFS_XATTR_DTYPE, check_dtype, false },
	{ SPILLFS_XATTR_SHAPE, check_shape, false },
	{ SPILLFS_XATTR_ORDER, check_order, false },
	{ SPILLFS_XATTR_LOGICAL, check_logical, false },
	{ SPILLFS_XATTR_BLOCK_SIZE, check_block_size, true },
	{ SPILLFS_XATTR_CODEC, check_codec, true },
	{ SPILLFS_XATTR_FILTER, check_filter, true },
};

static const struct setting *find(const char *name)
{
	for (size_t k = 0; k < sizeof(settings) / sizeof(*settings); k++) {
		if (!strcmp(settings[k].name, name))
			return &settings[k];
	}
	return NULL;
}

int setting_check(const char *name, const char *value)
{
	const struct setting *s = find(name);

	return s ? s->check(value) : -ENODATA;
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
