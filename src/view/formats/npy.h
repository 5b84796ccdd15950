/*
 * Headers of .npy files, written and read, and NumPy's names of types.
 */
#ifndef SPILLFS_VIEW_FORMATS_NPY_H
#define SPILLFS_VIEW_FORMATS_NPY_H

#include "array/dtype.h"
#include "view/formats/compose.h"

/* Data begins at a multiple of this; a file without elements ends at one of the second. */
#define NPY_ALIGN 4096u
#define NPY_ALIGN_EMPTY 64u

/* "<f8", "|b1"; "<M8[us]" if it is known what the integers stand for. l may be NULL. */
void npy_type(struct view_text *t, enum dtype_scalar s, const struct logical *l);
/* Everything that stands before the data. */
void npy_header(struct view_text *t, const struct dtype *d, const struct logical *l, const struct shape *s);

/* A parsed header. */
struct npy_facts {
	char dtype[DTYPE_TEXT_MAX + 1];
	struct logical logical;
	struct shape shape; /* its bytes fit into 2^63 - 1 */
	uint64_t data_off;
};

/* The header at the start of a file of which n bytes are there. -EAGAIN: at least *need bytes have to be (more than n);
 * -EINVAL: no header, or one that arrays here cannot show: *why says it in English. -ENOMEM. */
int npy_parse(const void *p, size_t n, struct npy_facts *out, size_t *need, const char **why);

#endif
