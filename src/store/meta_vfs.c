/*
 * The VFS of meta.db: SQLite's unix VFS behind a thin wrapper.
 *
 * Invariants:
 *  1. A path is not resolved: it goes through /proc/self/fd, and the result would lead into the mount.
 *  2. A page of a database with checksums is written only with its checksum right, and read only if it is:
 *     SQLITE_IOERR_DATA otherwise. Log and temporary files are left as they are.
 *  3. Two marks in the header say that there are checksums, so that no single damaged byte turns them off.
 *  4. With faults every write, truncation, sync, deletion and making of a file is counted before it is made.
 *     Reads, locks and the shared memory (derived from the log, and made anew after a crash) are not.
 *  5. What SQLite asks for and cannot have for the moment is waited for: where a statement fails for want of memory, SQLite
 *     takes the whole transaction back, and with it what was answered already. Space that is held back is given to it.
 */
#include "store/meta_vfs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "io/io.h"
#include "util/err.h"

#define HEADER_BYTES 100
#define HEADER_RESERVED 20
#define HEADER_APPLICATION_ID 68

struct meta_file {
	sqlite3_file base;
	bool database; /* not a log or a temporary file */
	bool sums;
	sqlite3_file *real; /* right behind this structure */
};

static sqlite3_vfs *unix_vfs;
static struct io_dir *counter; /* NULL: no faults */
static struct io_dir *yielding; /* NULL: nothing is held back */

void meta_vfs_yield_from(struct io_dir *dir)
{
	yielding = dir;
}

static bool yields(int rc, uint64_t need_bytes)
{
	return rc == SQLITE_FULL && yielding && io_yields(yielding, -ENOSPC, need_bytes);
}

static sqlite3_file *real_of(sqlite3_file *f)
{
	return ((struct meta_file *)f)->real;
}

/* Counts a change: SQLITE_OK if it may be made (invariant 5). */
static int tick(bool *torn)
{
	unsigned waits = 0;
	int err;

	do
		err = counter ? io_fault_tick(counter, torn) : 0;
	while (err_wait(err, &waits));
	return !err ? SQLITE_OK : err == -ENOSPC ? SQLITE_FULL : err == -ENOMEM ? SQLITE_IOERR_NOMEM : SQLITE_IOERR;
}

/* Checksums. */

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
static int read_header(struct meta_file *f, void *buf, int n)
{
	int rc = f->real->pMethods->xRead(f->real, buf, n, 0);

	if (rc == SQLITE_OK)
		f->sums = meta_page_has_sums(buf);
	return rc;
}

static int read_part(struct meta_file *f, void *buf, int n, sqlite3_int64 off)
{
	sqlite3_int64 begin = off - off % META_PAGE_BYTES;
	uint8_t page[META_PAGE_BYTES];
	int rc = f->real->pMethods->xRead(f->real, page, sizeof(page), begin);

	if (rc != SQLITE_OK)
		return rc;
	if (!meta_page_is_right(page))
		return damaged(begin);
	memcpy(buf, page + (off - begin), (size_t)n);
	return SQLITE_OK;
}

static int vfs_read(sqlite3_file *file, void *buf, int n, sqlite3_int64 off)
{
	struct meta_file *f = (struct meta_file *)file;
	int rc;

	if (!f->database)
		return f->real->pMethods->xRead(f->real, buf, n, off);
	if (!off && n >= HEADER_BYTES && n < META_PAGE_BYTES)
		return read_header(f, buf, n);
	if (f->sums && off % META_PAGE_BYTES + n <= META_PAGE_BYTES && n < META_PAGE_BYTES)
		return read_part(f, buf, n, off);
	rc = f->real->pMethods->xRead(f->real, buf, n, off);
	if (rc == SQLITE_OK && !off && n == META_PAGE_BYTES)
		f->sums = meta_page_has_sums(buf);
	if (rc == SQLITE_OK && f->sums && n == META_PAGE_BYTES && !meta_page_is_right(buf))
		return damaged(off);
	return rc;
}

static int write_counted(sqlite3_file *real, const void *buf, int n, sqlite3_int64 off)
{
	bool torn = false;
	int rc = tick(&torn);

	if (rc == SQLITE_OK) {
		do
			rc = real->pMethods->xWrite(real, buf, n, off);
		while (yields(rc, (uint64_t)n));
		return rc;
	}
	if (torn) {
		real->pMethods->xWrite(real, buf, n / 2, off);
		io_fault_torn(counter);
	}
	return rc;
}

static int vfs_write(sqlite3_file *file, const void *buf, int n, sqlite3_int64 off)
{
	struct meta_file *f = (struct meta_file *)file;
	uint8_t page[META_PAGE_BYTES];

	if (f->database && !off && n >= HEADER_BYTES)
		f->sums = meta_page_has_sums(buf);
	if (!f->sums || n != META_PAGE_BYTES)
		return write_counted(f->real, buf, n, off);
	memcpy(page, buf, sizeof(page));
	meta_page_sum(page);
	return write_counted(f->real, page, n, off);
}

static int vfs_close(sqlite3_file *f)
{
	return real_of(f)->pMethods->xClose(real_of(f));
}

static int vfs_truncate(sqlite3_file *f, sqlite3_int64 size)
{
	int rc = tick(NULL);

	return rc ? rc : real_of(f)->pMethods->xTruncate(real_of(f), size);
}

static int vfs_sync(sqlite3_file *f, int flags)
{
	int rc = tick(NULL);

	return rc ? rc : real_of(f)->pMethods->xSync(real_of(f), flags);
}

static int vfs_size(sqlite3_file *f, sqlite3_int64 *out)
{
	return real_of(f)->pMethods->xFileSize(real_of(f), out);
}

static int vfs_lock(sqlite3_file *f, int level)
{
	return real_of(f)->pMethods->xLock(real_of(f), level);
}

static int vfs_unlock(sqlite3_file *f, int level)
{
	return real_of(f)->pMethods->xUnlock(real_of(f), level);
}

static int vfs_check_lock(sqlite3_file *f, int *out)
{
	return real_of(f)->pMethods->xCheckReservedLock(real_of(f), out);
}

static int vfs_control(sqlite3_file *f, int op, void *arg)
{
	return real_of(f)->pMethods->xFileControl(real_of(f), op, arg);
}

static int vfs_sector(sqlite3_file *f)
{
	return real_of(f)->pMethods->xSectorSize(real_of(f));
}

static int vfs_traits(sqlite3_file *f)
{
	return real_of(f)->pMethods->xDeviceCharacteristics(real_of(f));
}

static int vfs_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **out)
{
	unsigned waits = 0;
	int rc;

	do {
		errno = 0;
		rc = real_of(f)->pMethods->xShmMap(real_of(f), page, size, extend, out);
	} while ((rc & 0xff) == SQLITE_IOERR && (err_wait(-errno, &waits) || yields(errno == ENOSPC ? SQLITE_FULL : rc, (uint64_t)size)));
	return rc;
}

static int vfs_shm_lock(sqlite3_file *f, int off, int n, int flags)
{
	return real_of(f)->pMethods->xShmLock(real_of(f), off, n, flags);
}

static void vfs_shm_barrier(sqlite3_file *f)
{
	real_of(f)->pMethods->xShmBarrier(real_of(f));
}

static int vfs_shm_unmap(sqlite3_file *f, int delete)
{
	return real_of(f)->pMethods->xShmUnmap(real_of(f), delete);
}

/* Version 2: without xFetch, by which SQLite would map the file and read around us. */
static const sqlite3_io_methods vfs_methods = {
	.iVersion = 2,
	.xClose = vfs_close,
	.xRead = vfs_read,
	.xWrite = vfs_write,
	.xTruncate = vfs_truncate,
	.xSync = vfs_sync,
	.xFileSize = vfs_size,
	.xLock = vfs_lock,
	.xUnlock = vfs_unlock,
	.xCheckReservedLock = vfs_check_lock,
	.xFileControl = vfs_control,
	.xSectorSize = vfs_sector,
	.xDeviceCharacteristics = vfs_traits,
	.xShmMap = vfs_shm_map,
	.xShmLock = vfs_shm_lock,
	.xShmBarrier = vfs_shm_barrier,
	.xShmUnmap = vfs_shm_unmap,
};

/* Files. */

static int vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out_flags)
{
	struct meta_file *f = (struct meta_file *)file;
	int rc = flags & SQLITE_OPEN_CREATE ? tick(NULL) : SQLITE_OK;

	(void)vfs;
	*f = (struct meta_file){ .database = flags & SQLITE_OPEN_MAIN_DB, .real = (sqlite3_file *)(f + 1) };
	f->real->pMethods = NULL;
	if (rc == SQLITE_OK)
		rc = unix_vfs->xOpen(unix_vfs, name, f->real, flags, out_flags);
	if (rc == SQLITE_OK && f->real->pMethods->iVersion < vfs_methods.iVersion)
		rc = SQLITE_CANTOPEN;
	if (rc == SQLITE_OK)
		f->base.pMethods = &vfs_methods;
	else if (f->real->pMethods)
		vfs_close(file);
	return rc;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *name, int sync_dir)
{
	int rc = tick(NULL);

	(void)vfs;
	return rc ? rc : unix_vfs->xDelete(unix_vfs, name, sync_dir);
}

static int keep_path(sqlite3_vfs *vfs, const char *name, int cap, char *out)
{
	(void)vfs;
	return snprintf(out, (size_t)cap, "%s", name) < cap ? SQLITE_OK : SQLITE_CANTOPEN;
}

/* Memory (invariant 5). */

static sqlite3_mem_methods plain;

static void *patient_malloc(int n)
{
	unsigned waits = 0;
	void *p;

	do
		p = plain.xMalloc(n);
	while (!p && err_wait(-ENOMEM, &waits));
	return p;
}

static void *patient_realloc(void *old, int n)
{
	unsigned waits = 0;
	void *p;

	do
		p = plain.xRealloc(old, n);
	while (!p && err_wait(-ENOMEM, &waits));
	return p;
}

/* Fails where SQLite is in use already: then it has been done. */
static void be_patient(void)
{
	sqlite3_mem_methods patient;

	if (plain.xMalloc || sqlite3_config(SQLITE_CONFIG_GETMALLOC, &plain) != SQLITE_OK)
		return;
	patient = plain;
	patient.xMalloc = patient_malloc;
	patient.xRealloc = patient_realloc;
	sqlite3_config(SQLITE_CONFIG_MALLOC, &patient);
}

const char *meta_vfs(struct io_dir *faults)
{
	static sqlite3_vfs vfs;

	counter = faults;
	if (!vfs.zName) {
		be_patient();
		unix_vfs = sqlite3_vfs_find("unix");
		if (!unix_vfs)
			return NULL;
		vfs = *unix_vfs;
		vfs.szOsFile += (int)sizeof(struct meta_file);
		vfs.xOpen = vfs_open;
		vfs.xDelete = vfs_delete;
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
	char sql[96];

	rc = sqlite3_prepare_v2(db, "PRAGMA page_count", -1, &s, NULL);
	if (rc == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW)
		fresh = sqlite3_column_int(s, 0) == 0;
	sqlite3_finalize(s);
	if (rc != SQLITE_OK || !fresh)
		return rc;
	rc = sqlite3_file_control(db, "main", SQLITE_FCNTL_RESERVE_BYTES, &bytes);
	/* So that its end can be given back when the disk is full. */
	snprintf(sql, sizeof(sql), "PRAGMA auto_vacuum=INCREMENTAL; PRAGMA application_id=%d", META_APPLICATION_ID);
	return rc == SQLITE_OK ? sqlite3_exec(db, sql, NULL, NULL, NULL) : rc;
}
