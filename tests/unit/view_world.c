/*
 * See view_world.h.
 */
#include "view_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "array/layered/pin.h"
#include "unit.h"

void view_world_open(struct world *w)
{
	struct store_config config = world_config;

	config.dirty_bytes = 64 << 20;
	world_open_arrays(w, world_disk(), &config);
}

struct array *view_world_array(struct world *w, enum array_kind kind, const void *p, size_t n, uint32_t block,
			       enum codec_policy policy, const char *dtype)
{
	struct array_params params = { .block_bytes = block ? block : ARRAY_BLOCK_DEFAULT, .codec = { .level = 3, .policy = policy, .elem_bytes = 1 } };
	struct array *a;

	if (dtype) {
		params.codec.type = dtype_summary(dtype);
		CHECK_OK(dtype_size(dtype, &params.codec.elem_bytes));
	}
	a = world_make_array(w, kind, &params);
	if (n)
		CHECK_OK(array_write(a, p, n, 0));
	CHECK_OK(array_flush(a));
	return a;
}

static void close_pin(struct view_source *s)
{
	array_close(s->array);
}

unsigned view_world_source(struct view *v, struct array *a)
{
	struct view_source s = { .array = a, .size_bytes = a->size_bytes };

	if (a->ops->kind == ARRAY_LAYERED) {
		CHECK_OK(pin_array(a, 0, a->size_bytes, &s.array));
		s.block_bytes = a->params.block_bytes;
		s.let_go = close_pin;
	}
	return view_source_add(v, &s);
}

struct view_input view_world_input(struct view *v, unsigned source, const char *name, const char *dtype, const char *shape)
{
	struct view_input in = { .name = name, .source = source, .shape.ndims = 1 };
	struct dtype *d;

	CHECK_OK(dtype_parse(dtype, &d));
	in.dtype = d;
	if (shape)
		CHECK_OK(shape_parse(shape, &in.shape));
	shape_fit(&in.shape, view_source_bytes(v, source) / d->bytes);
	in.count = shape_count(&in.shape);
	return in;
}

unsigned char *view_world_read(struct world *w, struct view *v, size_t *n_out)
{
	size_t n = (size_t)view_size(v), got;
	unsigned char *all = malloc(n + 1), *part = malloc(n + 1);
	struct array *a;

	CHECK_OK(view_end(v));
	CHECK_OK(view_array(w->home, v, &a));
	CHECK_OK(array_read(a, all, n, 0, &got));
	CHECK_EQ(got, n);
	for (size_t at = 0, step = 1; at < n; at += got, step = step * 3 % 70001) {
		CHECK_OK(array_read(a, part, step, at, &got));
		CHECK(got && !memcmp(part, all + at, got));
	}
	free(part);
	array_close(a);
	*n_out = n;
	return all;
}

void view_world_save(const char *path, const void *p, size_t n)
{
	const char *dir = getenv("VIEW_OUT");
	char full[4096];
	FILE *f;

	if (!dir)
		return;
	snprintf(full, sizeof(full), "%s/%s", dir, path);
	for (char *c = full + 1; *c; c++) {
		if (*c == '/') {
			*c = 0;
			mkdir(full, 0777);
			*c = '/';
		}
	}
	f = fopen(full, "wb");
	CHECK(f && fwrite(p, 1, n, f) == n && !fclose(f));
}
