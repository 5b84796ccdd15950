/*
 * What all kinds of files share.
 */
#include "io/io.h"

#include <errno.h>

int io_pread_as(struct io *f, void *buf, size_t n, uint64_t off, unsigned how)
{
	size_t got = 0;
	int err = f->ops->pread_some(f, buf, n, off, how, &got);

	if (err)
		return err;
	return got == n ? 0 : -ENODATA;
}

int io_replace(struct io_dir *d, const char *name, const char *tmp, const void *p, size_t n)
{
	struct io *f;
	int err = io_open(d, tmp, IO_CREATE, &f);

	if (err)
		return err;
	err = io_truncate(f, 0);
	if (!err)
		err = io_pwrite(f, p, n, 0);
	if (!err)
		err = io_sync(f);
	io_close(f);
	return err ? err : io_rename(d, tmp, name);
}
