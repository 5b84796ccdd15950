/*
 * The table of classes. Constant.
 */
#include "store/classes.h"

#include <stddef.h>
#include <string.h>

#include "store/meta.h"

const struct class classes[CLASSES_N] = {
	{ META_INO_BUCKETS, ARRAY_BUCKET, "buckets", "bucket", false },
	{ META_INO_COLUMNS, ARRAY_COLUMN, "columns", "column", true },
	{ META_INO_LAYERS, ARRAY_LAYERED, "layers", "layered", true },
};

const struct class *class_by_ino(uint64_t ino)
{
	for (size_t k = 0; k < CLASSES_N; k++) {
		if (classes[k].ino == ino)
			return &classes[k];
	}
	return NULL;
}

const struct class *class_by_kind(uint64_t kind)
{
	for (size_t k = 0; k < CLASSES_N; k++) {
		if (classes[k].kind == kind)
			return &classes[k];
	}
	return NULL;
}

const struct class *class_by_kind_name(const char *kind_name)
{
	for (size_t k = 0; k < CLASSES_N; k++) {
		if (!strcmp(classes[k].kind_name, kind_name))
			return &classes[k];
	}
	return NULL;
}

bool class_is_logged(uint64_t kind)
{
	const struct class *class = class_by_kind(kind);

	return class && class->logged;
}
