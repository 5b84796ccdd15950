/*
 * A store as bytes: the files of its directory, in memory. An image is made from a directory, changed at will, and made a directory
 * again. A failure ends the process.
 */
#ifndef SPILLFS_TESTS_HOSTILE_IMAGE_H
#define SPILLFS_TESTS_HOSTILE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/io.h"

struct image_file {
	char *name; /* with its directory: "layers/HEAD" */
	uint8_t *bytes;
	size_t n;
	bool directory; /* where a file was */
};

struct image {
	struct image_file *v;
	size_t n;
};

void image_of_dir(struct io_dir *d, struct image *out);
void image_copy(const struct image *from, struct image *out);
void image_free(struct image *im);

/* NULL: there is none. */
struct image_file *image_find(const struct image *im, const char *name);
/* A file of n bytes, which are copied, takes the place of one of that name. */
void image_put(struct image *im, const char *name, const void *bytes, size_t n);
void image_remove(struct image *im, struct image_file *f);

/* A disk of io/mem, of so many bytes; the caller closes it. */
#define IMAGE_DISK_BYTES (128ull << 20)
struct io_dir *image_to_mem(const struct image *im);
/* Into an empty directory of the system. */
void image_to_system(const struct image *im, int dirfd);

#endif
