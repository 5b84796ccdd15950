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

static const struct {
	const char *name;
	int (*check)(const char *value);
} settings[] = {
	{ SPILLFS_XATTR_DTYPE, check_dtype },
	{ SPILLFS_XATTR_SHAPE, check_shape },
	{ SPILLFS_XATTR_ORDER, check_order },
	{ SPILLFS_XATTR_LOGICAL, check_logical },
	{ SPILLFS_XATTR_BLOCK_SIZE, check_block_size },
	{ SPILLFS_XATTR_CODEC, check_codec },
	{ SPILLFS_XATTR_FILTER, check_filter },
};

int setting_check(const char *name, const char *value)
{
	for (size_t k = 0; k < sizeof(settings) / sizeof(*settings); k++) {
		if (!strcmp(settings[k].name, name))
			return settings[k].check(value);
	}
	return -ENODATA;
}
