/*
 * Two copies of SQLite's unix VFS: one that leaves paths as they are, and one that counts changes, too.
 *
 * Invariants:
 *  1. A path is not resolved: it goes through /proc/self/fd, and the result would lead into the mount.
 *  2. Without faults SQLite's own functions do everything else.
 *  3. With faults every write, truncation, sync, deletion and making of a file is counted before it is made.
 *     Reads, locks and the shared memory (derived from the log, and made anew after a crash) are left alone.
 */
#include "store/meta_vfs.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>

#include "io/io.h"

struct counted_file {
	sqlite3_file base;
	sqlite3_file *real; /* right behind this structure */
};

static sqlite3_vfs *unix_vfs;
static struct io_dir *counter;

static int keep_path(sqlite3_vfs *vfs, const char *name, int cap, char *out)
{
	(void)vfs;
	return snprintf(out, (size_t)cap, "%s", name) < cap ? SQLITE_OK : SQLITE_CANTOPEN;
}

static int tick(bool *torn)
{
	int err = io_fault_tick(counter, torn);

	return !err ? SQLITE_OK : err == -ENOSPC ? SQLITE_FULL : SQLITE_IOERR;
}

/* ---- files ---- */

static sqlite3_file *real_of(sqlite3_file *f)
{
	return ((struct counted_file *)f)->real;
}

static int counted_close(sqlite3_file *f)
{
	return real_of(f)->pMethods->xClose(real_of(f));
}

static int counted_read(sqlite3_file *f, void *buf, int n, sqlite3_int64 off)
{
	return real_of(f)->pMethods->xRead(real_of(f), buf, n, off);
}

static int counted_write(sqlite3_file *f, const void *buf, int n, sqlite3_int64 off)
{
	const sqlite3_io_methods *real = real_of(f)->pMethods;
	bool torn;
	int rc = tick(&torn);

	if (rc == SQLITE_OK)
		return real->xWrite(real_of(f), buf, n, off);
	if (torn) {
		real->xWrite(real_of(f), buf, n / 2, off);
		io_fault_torn(counter);
	}
	return rc;
}

static int counted_truncate(sqlite3_file *f, sqlite3_int64 size)
{
	int rc = tick(NULL);

	return rc ? rc : real_of(f)->pMethods->xTruncate(real_of(f), size);
}

static int counted_sync(sqlite3_file *f, int flags)
{
	int rc = tick(NULL);

	return rc ? rc : real_of(f)->pMethods->xSync(real_of(f), flags);
}

static int counted_size(sqlite3_file *f, sqlite3_int64 *out)
{
	return real_of(f)->pMethods->xFileSize(real_of(f), out);
}

static int counted_lock(sqlite3_file *f, int level)
{
	return real_of(f)->pMethods->xLock(real_of(f), level);
}

static int counted_unlock(sqlite3_file *f, int level)
{
	return real_of(f)->pMethods->xUnlock(real_of(f), level);
}

static int counted_check_lock(sqlite3_file *f, int *out)
{
	return real_of(f)->pMethods->xCheckReservedLock(real_of(f), out);
}

static int counted_control(sqlite3_file *f, int op, void *arg)
{
	return real_of(f)->pMethods->xFileControl(real_of(f), op, arg);
}

static int counted_sector(sqlite3_file *f)
{
	return real_of(f)->pMethods->xSectorSize(real_of(f));
}

static int counted_traits(sqlite3_file *f)
{
	return real_of(f)->pMethods->xDeviceCharacteristics(real_of(f));
}

static int counted_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **out)
{
	return real_of(f)->pMethods->xShmMap(real_of(f), page, size, extend, out);
}

static int counted_shm_lock(sqlite3_file *f, int off, int n, int flags)
{
	return real_of(f)->pMethods->xShmLock(real_of(f), off, n, flags);
}

static void counted_shm_barrier(sqlite3_file *f)
{
	real_of(f)->pMethods->xShmBarrier(real_of(f));
}

static int counted_shm_unmap(sqlite3_file *f, int delete)
{
	return real_of(f)->pMethods->xShmUnmap(real_of(f), delete);
}

static int counted_fetch(sqlite3_file *f, sqlite3_int64 off, int n, void **out)
{
	return real_of(f)->pMethods->xFetch(real_of(f), off, n, out);
}

static int counted_unfetch(sqlite3_file *f, sqlite3_int64 off, void *p)
{
	return real_of(f)->pMethods->xUnfetch(real_of(f), off, p);
}

static const sqlite3_io_methods counted_methods = {
	.iVersion = 3,
	.xClose = counted_close,
	.xRead = counted_read,
	.xWrite = counted_write,
	.xTruncate = counted_truncate,
	.xSync = counted_sync,
	.xFileSize = counted_size,
	.xLock = counted_lock,
	.xUnlock = counted_unlock,
	.xCheckReservedLock = counted_check_lock,
	.xFileControl = counted_control,
	.xSectorSize = counted_sector,
	.xDeviceCharacteristics = counted_traits,
	.xShmMap = counted_shm_map,
	.xShmLock = counted_shm_lock,
	.xShmBarrier = counted_shm_barrier,
	.xShmUnmap = counted_shm_unmap,
	.xFetch = counted_fetch,
	.xUnfetch = counted_unfetch,
};

/* ---- names ---- */

static int counted_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out_flags)
{
	struct counted_file *f = (struct counted_file *)file;
	int rc = flags & SQLITE_OPEN_CREATE ? tick(NULL) : SQLITE_OK;

	(void)vfs;
	f->base.pMethods = NULL;
	f->real = (sqlite3_file *)(f + 1);
	f->real->pMethods = NULL;
	if (rc == SQLITE_OK)
		rc = unix_vfs->xOpen(unix_vfs, name, f->real, flags, out_flags);
	if (rc == SQLITE_OK && f->real->pMethods->iVersion < counted_methods.iVersion)
		rc = SQLITE_CANTOPEN;
	if (rc == SQLITE_OK)
		f->base.pMethods = &counted_methods;
	else if (f->real->pMethods)
		counted_close(file);
	return rc;
}

static int counted_delete(sqlite3_vfs *vfs, const char *name, int sync_dir)
{
	int rc = tick(NULL);

	(void)vfs;
	return rc ? rc : unix_vfs->xDelete(unix_vfs, name, sync_dir);
}

static const char *install(sqlite3_vfs *vfs, const char *name)
{
	if (!vfs->zName) {
		*vfs = *unix_vfs;
		vfs->xFullPathname = keep_path;
		vfs->zName = name;
		vfs->pNext = NULL;
	}
	if (counter) {
		vfs->szOsFile = unix_vfs->szOsFile + (int)sizeof(struct counted_file);
		vfs->xOpen = counted_open;
		vfs->xDelete = counted_delete;
	}
	return sqlite3_vfs_register(vfs, 0) == SQLITE_OK ? name : NULL;
}

const char *meta_vfs(struct io_dir *faults)
{
	static sqlite3_vfs plain, counted;

	unix_vfs = sqlite3_vfs_find("unix");
	counter = faults;
	if (!unix_vfs)
		return NULL;
	return faults ? install(&counted, "spillfs-counted") : install(&plain, "spillfs");
}
