/*
 * The VFS of meta.db.
 *
 * Invariants:
 *  1. Only the database file itself is wrapped; log and temporary files are the ordinary VFS's own.
 *  2. A page of a database with checksums is written only with its checksum right, and read only if it is:
 *     SQLITE_IOERR_DATA otherwise.
 *  3. Two marks in the header say that there are checksums, so that no single damaged byte turns them off.
 */
#include "store/meta_vfs.h"

#include <stdio.h>
#include <string.h>

#include "util/err.h"

#define HEADER_BYTES 100
#define HEADER_RESERVED 20
#define HEADER_APPLICATION_ID 68

struct sum_file {
	sqlite3_file file;
	bool sums;
	sqlite3_file *inner; /* behind this structure */
};

static sqlite3_vfs *inner_vfs;

static sqlite3_file *inner(sqlite3_file *f)
{
	return ((struct sum_file *)f)->inner;
}

static void compute(const uint8_t *page, uint32_t sum[2])
{
	uint32_t a = 0, b = 0, word[2];

	for (size_t i = 0; i < META_PAGE_BYTES - META_SUM_BYTES; i += sizeof(word)) {
		memcpy(word, page + i, sizeof(word));
		a += word[0] + b;
		b += word[1] + a;
	}
	sum[0] = a;
	sum[1] = b;
}

bool meta_page_is_right(const uint8_t *page)
{
	uint32_t sum[2];

	compute(page, sum);
	return !memcmp(sum, page + META_PAGE_BYTES - META_SUM_BYTES, META_SUM_BYTES);
}

void meta_page_sum(uint8_t *page)
{
	uint32_t sum[2];

	compute(page, sum);
	memcpy(page + META_PAGE_BYTES - META_SUM_BYTES, sum, META_SUM_BYTES);
}

bool meta_page_has_sums(const uint8_t *page1)
{
	const uint8_t *id = page1 + HEADER_APPLICATION_ID;

	return page1[HEADER_RESERVED] == META_SUM_BYTES ||
	       ((uint32_t)id[0] << 24 | id[1] << 16 | id[2] << 8 | id[3]) == META_APPLICATION_ID;
}

static int damaged(sqlite3_int64 off)
{
	err_corrupt("meta.db", (uint64_t)off, "the checksum of the page is wrong");
	return SQLITE_IOERR_DATA;
}

/* The header is read before it is known whether there are checksums; it may be torn where the log has page 1. */
static int read_header(struct sum_file *f, void *buf, int n)
{
	int rc = f->inner->pMethods->xRead(f->inner, buf, n, 0);

	if (rc == SQLITE_OK)
		f->sums = meta_page_has_sums(buf);
	return rc;
}

static int read_part(struct sum_file *f, void *buf, int n, sqlite3_int64 off)
{
	sqlite3_int64 begin = off - off % META_PAGE_BYTES;
	uint8_t page[META_PAGE_BYTES];
	int rc = f->inner->pMethods->xRead(f->inner, page, sizeof(page), begin);

	if (rc != SQLITE_OK)
		return rc;
	if (!meta_page_is_right(page))
		return damaged(begin);
	memcpy(buf, page + (off - begin), (size_t)n);
	return SQLITE_OK;
}

static int sum_read(sqlite3_file *file, void *buf, int n, sqlite3_int64 off)
{
	struct sum_file *f = (struct sum_file *)file;
	int rc;

	if (!off && n >= HEADER_BYTES && n < META_PAGE_BYTES)
		return read_header(f, buf, n);
	if (f->sums && off % META_PAGE_BYTES + n <= META_PAGE_BYTES && n < META_PAGE_BYTES)
		return read_part(f, buf, n, off);
	rc = f->inner->pMethods->xRead(f->inner, buf, n, off);
	if (rc == SQLITE_OK && !off && n == META_PAGE_BYTES)
		f->sums = meta_page_has_sums(buf);
	if (rc == SQLITE_OK && f->sums && n == META_PAGE_BYTES && !meta_page_is_right(buf))
		return damaged(off);
	return rc;
}

static int sum_write(sqlite3_file *file, const void *buf, int n, sqlite3_int64 off)
{
	struct sum_file *f = (struct sum_file *)file;
	uint8_t page[META_PAGE_BYTES];

	if (!off && n >= HEADER_BYTES)
		f->sums = meta_page_has_sums(buf);
	if (!f->sums || n != META_PAGE_BYTES)
		return f->inner->pMethods->xWrite(f->inner, buf, n, off);
	memcpy(page, buf, sizeof(page));
	meta_page_sum(page);
	return f->inner->pMethods->xWrite(f->inner, page, n, off);
}

static int sum_close(sqlite3_file *f)
{
	return inner(f)->pMethods->xClose(inner(f));
}

static int sum_truncate(sqlite3_file *f, sqlite3_int64 size)
{
	return inner(f)->pMethods->xTruncate(inner(f), size);
}

static int sum_sync(sqlite3_file *f, int flags)
{
	return inner(f)->pMethods->xSync(inner(f), flags);
}

static int sum_size(sqlite3_file *f, sqlite3_int64 *size)
{
	return inner(f)->pMethods->xFileSize(inner(f), size);
}

static int sum_lock(sqlite3_file *f, int level)
{
	return inner(f)->pMethods->xLock(inner(f), level);
}

static int sum_unlock(sqlite3_file *f, int level)
{
	return inner(f)->pMethods->xUnlock(inner(f), level);
}

static int sum_check_reserved(sqlite3_file *f, int *out)
{
	return inner(f)->pMethods->xCheckReservedLock(inner(f), out);
}

static int sum_control(sqlite3_file *f, int op, void *arg)
{
	return inner(f)->pMethods->xFileControl(inner(f), op, arg);
}

static int sum_sector(sqlite3_file *f)
{
	return inner(f)->pMethods->xSectorSize(inner(f));
}

static int sum_device(sqlite3_file *f)
{
	return inner(f)->pMethods->xDeviceCharacteristics(inner(f));
}

static int sum_shm_map(sqlite3_file *f, int page, int bytes, int extend, void volatile **out)
{
	return inner(f)->pMethods->xShmMap(inner(f), page, bytes, extend, out);
}

static int sum_shm_lock(sqlite3_file *f, int off, int n, int flags)
{
	return inner(f)->pMethods->xShmLock(inner(f), off, n, flags);
}

static void sum_shm_barrier(sqlite3_file *f)
{
	inner(f)->pMethods->xShmBarrier(inner(f));
}

static int sum_shm_unmap(sqlite3_file *f, int drop)
{
	return inner(f)->pMethods->xShmUnmap(inner(f), drop);
}

/* Version 2: without xFetch, by which SQLite would map the file and read around us. */
static const sqlite3_io_methods sum_methods = {
	2, sum_close, sum_read, sum_write, sum_truncate, sum_sync, sum_size, sum_lock, sum_unlock, sum_check_reserved,
	sum_control, sum_sector, sum_device, sum_shm_map, sum_shm_lock, sum_shm_barrier, sum_shm_unmap, NULL, NULL,
};

static int open_file(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *flags_out)
{
	struct sum_file *f = (struct sum_file *)file;
	int rc;

	(void)vfs;
	if (!(flags & SQLITE_OPEN_MAIN_DB))
		return inner_vfs->xOpen(inner_vfs, name, file, flags, flags_out);
	*f = (struct sum_file){ .inner = (sqlite3_file *)(f + 1) };
	rc = inner_vfs->xOpen(inner_vfs, name, f->inner, flags, flags_out);
	if (f->inner->pMethods)
		f->file.pMethods = &sum_methods;
	return rc;
}

/* The path goes through /proc/self/fd and must not be resolved: the result would lead into the mount. */
static int keep_path(sqlite3_vfs *vfs, const char *name, int cap, char *out)
{
	(void)vfs;
	return snprintf(out, (size_t)cap, "%s", name) < cap ? SQLITE_OK : SQLITE_CANTOPEN;
}

const char *meta_vfs(void)
{
	static sqlite3_vfs vfs;

	if (!vfs.zName) {
		inner_vfs = sqlite3_vfs_find("unix");
		if (!inner_vfs)
			return NULL;
		vfs = *inner_vfs;
		vfs.szOsFile += (int)sizeof(struct sum_file);
		vfs.xOpen = open_file;
		vfs.xFullPathname = keep_path;
		vfs.zName = "spillfs";
		vfs.pNext = NULL;
	}
	return sqlite3_vfs_register(&vfs, 0) == SQLITE_OK ? vfs.zName : NULL;
}

int meta_vfs_prepare(sqlite3 *db)
{
	int bytes = META_SUM_BYTES, rc;
	sqlite3_stmt *s;
	bool fresh = false;
	char sql[64];

	rc = sqlite3_prepare_v2(db, "PRAGMA page_count", -1, &s, NULL);
	if (rc == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW)
		fresh = sqlite3_column_int(s, 0) == 0;
	sqlite3_finalize(s);
	if (rc != SQLITE_OK || !fresh)
		return rc;
	rc = sqlite3_file_control(db, "main", SQLITE_FCNTL_RESERVE_BYTES, &bytes);
	snprintf(sql, sizeof(sql), "PRAGMA application_id=%d", META_APPLICATION_ID);
	return rc == SQLITE_OK ? sqlite3_exec(db, sql, NULL, NULL, NULL) : rc;
}
