/*
 * What all kinds of files share.
 */
#include "io/io.h"

#include <errno.h>

int io_pread(struct io *f, void *buf, size_t n, uint64_t off)
{
	size_t got = 0;
	int err = io_pread_some(f, buf, n, off, &got);

	if (err)
		return err;
	return got == n ? 0 : -ENODATA;
}
