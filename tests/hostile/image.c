/*
 * See image.h.
 */
#include "image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "unit/unit.h"

static const char *const directories[] = { "pool", "columns", "layers", "layers/refs" };

#define NDIRECTORIES (sizeof(directories) / sizeof(*directories))

struct listing {
	struct io_dir *dir;
	struct image *im;
	const char *in;
};

static bool is_directory(const char *name)
{
	for (size_t i = 0; i < NDIRECTORIES; i++)
		if (!strcmp(name, directories[i]))
			return true;
	return false;
}

static int take_file(void *ctx, const char *name)
{
	struct listing *l = ctx;
	char path[512];
	uint64_t size;
	uint8_t *bytes;
	struct io *f;

	snprintf(path, sizeof(path), "%s%s%s", l->in, *l->in ? "/" : "", name);
	if (is_directory(path))
		return 0;
	CHECK_OK(io_open(l->dir, path, IO_RDONLY, &f));
	CHECK_OK(io_size(f, &size, NULL));
	bytes = malloc(size + 1);
	CHECK(bytes);
	CHECK_OK(io_pread(f, bytes, size, 0));
	io_close(f);
	image_put(l->im, path, bytes, size);
	free(bytes);
	return 0;
}

void image_of_dir(struct io_dir *d, struct image *out)
{
	struct listing l = { d, out, "" };

	*out = (struct image){ 0 };
	CHECK_OK(io_list(d, ".", take_file, &l));
	for (size_t i = 0; i < NDIRECTORIES; i++) {
		int err;

		l.in = directories[i];
		err = io_list(d, l.in, take_file, &l);
		CHECK(!err || err == -ENOENT);
	}
}

void image_copy(const struct image *from, struct image *out)
{
	*out = (struct image){ 0 };
	for (size_t i = 0; i < from->n; i++)
		image_put(out, from->v[i].name, from->v[i].bytes, from->v[i].n);
}

void image_free(struct image *im)
{
	while (im->n)
		image_remove(im, &im->v[0]);
	free(im->v);
	im->v = NULL;
}

struct image_file *image_find(const struct image *im, const char *name)
{
	for (size_t i = 0; i < im->n; i++)
		if (!strcmp(im->v[i].name, name))
			return &im->v[i];
	return NULL;
}

void image_put(struct image *im, const char *name, const void *bytes, size_t n)
{
	struct image_file *f = image_find(im, name);
	uint8_t *copy = malloc(n + 1);

	CHECK(copy);
	if (n)
		memcpy(copy, bytes, n);
	if (!f) {
		struct image_file *v = realloc(im->v, (im->n + 1) * sizeof(*v));

		CHECK(v);
		im->v = v;
		f = &v[im->n++];
		*f = (struct image_file){ .name = strdup(name) };
		CHECK(f->name);
	}
	free(f->bytes);
	f->bytes = copy;
	f->n = n;
}

void image_remove(struct image *im, struct image_file *f)
{
	free(f->name);
	free(f->bytes);
	*f = im->v[--im->n];
}

struct io_dir *image_to_mem(const struct image *im)
{
	struct io_dir *d;
	struct io *f;

	CHECK_OK(io_mem_dir(&d));
	io_mem_set_space(d, IMAGE_DISK_BYTES);
	for (size_t i = 0; i < NDIRECTORIES; i++)
		CHECK_OK(io_mkdir(d, directories[i]));
	for (size_t i = 0; i < im->n; i++) {
		if (im->v[i].directory) {
			CHECK_OK(io_mkdir(d, im->v[i].name));
			continue;
		}
		CHECK_OK(io_open(d, im->v[i].name, IO_CREATE, &f));
		CHECK_OK(io_pwrite(f, im->v[i].bytes, im->v[i].n, 0));
		io_close(f);
	}
	for (size_t i = 0; i < NDIRECTORIES; i++)
		CHECK_OK(io_dir_sync(d, directories[i]));
	CHECK_OK(io_dir_sync(d, "."));
	return d;
}

void image_to_system(const struct image *im, int dirfd)
{
	for (size_t i = 0; i < NDIRECTORIES; i++)
		CHECK(!mkdirat(dirfd, directories[i], 0700));
	for (size_t i = 0; i < im->n; i++) {
		const struct image_file *f = &im->v[i];
		int fd;

		if (f->directory) {
			CHECK(!mkdirat(dirfd, f->name, 0700));
			continue;
		}
		fd = openat(dirfd, f->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		CHECK(fd >= 0);
		CHECK(write(fd, f->bytes, f->n) == (ssize_t)f->n);
		close(fd);
	}
}
