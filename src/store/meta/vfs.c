/*
 * The VFS of meta.db over a directory of io/.
 *
 * Invariants:
 *  1. Names are those of files in the directory. Nothing else of the file system is looked at.
 *  2. A page of a database with checksums is written only with its checksum right, and read only if it is:
 *     SQLITE_IOERR_DATA otherwise. Log and temporary files are left as they are.
 *  3. Two marks in the header say that there are checksums, so that no single damaged byte turns them off.
 *  4. A want of memory or descriptors is waited for: where a statement fails for want of memory, SQLite
 *     takes the whole transaction back, and with it what was answered already.
 *  5. The name of a log is durable before its bytes are said to be.
 *  6. What the log is given room for (meta_vfs_secure_log) is its own until it is cut.
 */
#include "store/meta/vfs.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "io/io.h"
#include "util/clock.h"
#include "util/err.h"

#define HEADER_BYTES 100
#define HEADER_RESERVED 20
#define HEADER_APPLICATION_ID 68
#define NAME_BYTES_MAX 512
#define SECTOR_BYTES 4096
/* SQLite's own programs lock these bytes: one to write, others to read. */
#define LOCK_OFF 0x40000000u
#define LOCK_BYTES 512u
/* The log gets its room in such steps, while so much is free that they do not count. */
#define ROOM_STEP_BYTES (1u << 20)
#define ROOM_STEPS_FREE 64u
/* Another program may be reading for a moment. */
#define BUSY_MS 5000
/* 1970-01-01 in milliseconds of the Julian day. */
#define JULIAN_EPOCH_MS 210866760000000ll

struct meta_vfs {
	sqlite3_vfs base;
	char name[32];
	struct io_dir *dir;
	sqlite3 *db;
	_Atomic(struct io *) log;
	atomic_bool log_named; /* its name is durable */
	atomic_bool log_rewound; /* it has frames that are folded: the next ones come from its begin on */
	_Atomic uint64_t log_end; /* behind what was written last */
	_Atomic uint64_t log_room; /* to here it has its place on the disk; not below log_end */
	atomic_int last_error; /* positive */
};

struct meta_file {
	sqlite3_file base;
	struct meta_vfs *vfs;
	struct io *io;
	bool database; /* not a log or a temporary file */
	bool locked;
	bool sums;
};

static struct meta_file *to_file(sqlite3_file *f)
{
	return (struct meta_file *)f;
}

/* An SQLite code of what has failed; `otherwise` where no other fits. */
static int code_of(struct meta_vfs *v, int err, int otherwise)
{
	if (!err)
		return SQLITE_OK;
	atomic_store(&v->last_error, -err);
	if (err_is_full(err))
		return SQLITE_FULL;
	return err == -ENOMEM ? SQLITE_IOERR_NOMEM : otherwise;
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

/* Files. */

static int read_all(struct meta_file *f, void *buf, int n, sqlite3_int64 off)
{
	unsigned waits = 0;
	size_t got = 0;
	int err;

	do
		err = io_pread_some(f->io, buf, (size_t)n, (uint64_t)off, &got);
	while (err_wait(err, &waits));
	if (err)
		return code_of(f->vfs, err, SQLITE_IOERR_READ);
	memset((char *)buf + got, 0, (size_t)n - got);
	return got == (size_t)n ? SQLITE_OK : SQLITE_IOERR_SHORT_READ;
}

/* The header is read before it is known whether there are checksums; it may be torn where the log has page 1. */
static int read_header(struct meta_file *f, void *buf, int n)
{
	int rc = read_all(f, buf, n, 0);

	if (rc == SQLITE_OK)
		f->sums = meta_page_has_sums(buf);
	return rc;
}

static int read_part(struct meta_file *f, void *buf, int n, sqlite3_int64 off)
{
	sqlite3_int64 begin = off - off % META_PAGE_BYTES;
	uint8_t page[META_PAGE_BYTES];
	int rc = read_all(f, page, sizeof(page), begin);

	if (rc != SQLITE_OK)
		return rc;
	if (!meta_page_is_right(page))
		return damaged(begin);
	memcpy(buf, page + (off - begin), (size_t)n);
	return SQLITE_OK;
}

static int vfs_read(sqlite3_file *file, void *buf, int n, sqlite3_int64 off)
{
	struct meta_file *f = to_file(file);
	int rc;

	if (!f->database)
		return read_all(f, buf, n, off);
	if (!off && n >= HEADER_BYTES && n < META_PAGE_BYTES)
		return read_header(f, buf, n);
	if (f->sums && off % META_PAGE_BYTES + n <= META_PAGE_BYTES && n < META_PAGE_BYTES)
		return read_part(f, buf, n, off);
	rc = read_all(f, buf, n, off);
	if (rc == SQLITE_OK && !off && n == META_PAGE_BYTES)
		f->sums = meta_page_has_sums(buf);
	if (rc == SQLITE_OK && f->sums && n == META_PAGE_BYTES && !meta_page_is_right(buf))
		return damaged(off);
	return rc;
}

static int write_all(struct meta_file *f, const void *buf, int n, sqlite3_int64 off)
{
	unsigned waits = 0;
	int err;

	do
		err = io_pwrite(f->io, buf, (size_t)n, (uint64_t)off);
	while (err_wait(err, &waits));
	return code_of(f->vfs, err, SQLITE_IOERR_WRITE);
}

/* A log that is begun anew has its header on the disk before the first frame, which SQLite leaves out with synchronous=OFF: else a loss
 * of power could leave the old header, and of the old frames those that come first, which would be replayed over the folded database. */
static int begin_log(struct meta_file *f, const void *header, int n)
{
	int rc = write_all(f, header, n, 0);

	return rc == SQLITE_OK ? code_of(f->vfs, meta_vfs_sync_log(f->vfs), SQLITE_IOERR_FSYNC) : rc;
}

void meta_vfs_rewound(struct meta_vfs *v)
{
	atomic_store(&v->log_rewound, true);
	atomic_store(&v->log_end, 0);
}

/* Bytes up to `end` were written: all that there is from a begin on, else so much at least. */
static void log_wrote(struct meta_vfs *v, uint64_t off, uint64_t end)
{
	if (!off || end > atomic_load(&v->log_end))
		atomic_store(&v->log_end, end);
	if (end > atomic_load(&v->log_room))
		atomic_store(&v->log_room, end);
}

/* Where space cannot be allocated it is had by writing, which the log's readers do not mind: SQLite takes no frame for one whose sum is
 * wrong. */
static int write_zeros(struct io *log, uint64_t off, uint64_t end)
{
	static const uint8_t zeros[65536];
	int err = 0;

	while (off < end && !err) {
		size_t n = end - off < sizeof(zeros) ? (size_t)(end - off) : sizeof(zeros);

		err = io_pwrite(log, zeros, n, off);
		off += n;
	}
	return err;
}

/* Asks first: an allocation that fails may keep what it has got, and others need that. */
static int make_room(struct meta_vfs *v, uint64_t end)
{
	struct io *log = atomic_load(&v->log);
	uint64_t room = atomic_load(&v->log_room), total, avail;
	unsigned waits = 0;
	int err = io_home_space(v->dir, &total, &avail);

	if (err || avail < end - room)
		return err ? err : -ENOSPC;
	if (avail / ROOM_STEP_BYTES > ROOM_STEPS_FREE)
		end = (end / ROOM_STEP_BYTES + 1) * ROOM_STEP_BYTES;
	do {
		err = io_allocate(log, room, end - room);
		if (err == -EOPNOTSUPP)
			err = write_zeros(log, room, end);
	} while (err_wait(err, &waits));
	if (!err)
		atomic_store(&v->log_room, end);
	return err;
}

int meta_vfs_secure_log(struct meta_vfs *v, uint64_t bytes)
{
	uint64_t end = atomic_load(&v->log_end) + bytes;

	return end <= atomic_load(&v->log_room) ? 0 : make_room(v, end);
}

uint64_t meta_vfs_log_left(struct meta_vfs *v)
{
	uint64_t end = atomic_load(&v->log_end), room = atomic_load(&v->log_room);

	return room > end ? room - end : 0;
}

static int write_log(struct meta_file *f, const void *buf, int n, sqlite3_int64 off)
{
	bool anew = !off && atomic_exchange(&f->vfs->log_rewound, false);
	int rc = anew ? begin_log(f, buf, n) : write_all(f, buf, n, off);

	if (rc == SQLITE_OK)
		log_wrote(f->vfs, (uint64_t)off, (uint64_t)off + (uint64_t)n);
	return rc;
}

static int vfs_write(sqlite3_file *file, const void *buf, int n, sqlite3_int64 off)
{
	struct meta_file *f = to_file(file);
	uint8_t page[META_PAGE_BYTES];

	if (f->io == atomic_load(&f->vfs->log))
		return write_log(f, buf, n, off);
	if (f->database && !off && n >= HEADER_BYTES)
		f->sums = meta_page_has_sums(buf);
	if (!f->sums || n != META_PAGE_BYTES)
		return write_all(f, buf, n, off);
	memcpy(page, buf, sizeof(page));
	meta_page_sum(page);
	return write_all(f, page, n, off);
}

static int vfs_close(sqlite3_file *file)
{
	struct meta_file *f = to_file(file);

	if (atomic_load(&f->vfs->log) == f->io)
		atomic_store(&f->vfs->log, NULL);
	io_close(f->io);
	return SQLITE_OK;
}

static int vfs_truncate(sqlite3_file *file, sqlite3_int64 size)
{
	struct meta_file *f = to_file(file);
	unsigned waits = 0;
	int err;

	do
		err = io_truncate(f->io, (uint64_t)size);
	while (err_wait(err, &waits));
	if (!err && f->io == atomic_load(&f->vfs->log)) {
		atomic_store(&f->vfs->log_end, (uint64_t)size);
		atomic_store(&f->vfs->log_room, (uint64_t)size);
	}
	return code_of(f->vfs, err, SQLITE_IOERR_TRUNCATE);
}

int meta_vfs_sync_log(struct meta_vfs *v)
{
	struct io *log = atomic_load(&v->log);
	unsigned waits = 0;
	int err = 0;

	while (!atomic_load(&v->log_named) && (err = io_dir_sync(v->dir, ".")) && err_wait(err, &waits))
		;
	if (err)
		return err;
	atomic_store(&v->log_named, true);
	do
		err = io_sync(log);
	while (err_wait(err, &waits));
	return err;
}

static int vfs_sync(sqlite3_file *file, int flags)
{
	struct meta_file *f = to_file(file);
	unsigned waits = 0;
	int err;

	(void)flags;
	if (f->io == atomic_load(&f->vfs->log))
		return code_of(f->vfs, meta_vfs_sync_log(f->vfs), SQLITE_IOERR_FSYNC);
	do
		err = io_sync(f->io);
	while (err_wait(err, &waits));
	return code_of(f->vfs, err, SQLITE_IOERR_FSYNC);
}

static int vfs_size(sqlite3_file *file, sqlite3_int64 *out)
{
	uint64_t bytes = 0;
	int err = io_size(to_file(file)->io, &bytes, NULL);

	if (!err)
		*out = (sqlite3_int64)bytes;
	return code_of(to_file(file)->vfs, err, SQLITE_IOERR_FSTAT);
}

/* A database is the connection's from its first lock on, whatever that is for. */
static int vfs_lock(sqlite3_file *file, int level)
{
	struct meta_file *f = to_file(file);
	int err;

	if (level == SQLITE_LOCK_NONE || !f->database || f->locked)
		return SQLITE_OK;
	err = io_lock(f->io, LOCK_OFF, LOCK_BYTES);
	if (err == -EWOULDBLOCK)
		return SQLITE_BUSY;
	f->locked = !err;
	return code_of(f->vfs, err, SQLITE_IOERR_LOCK);
}

static int vfs_unlock(sqlite3_file *file, int level)
{
	(void)file, (void)level;
	return SQLITE_OK;
}

/* Another connection cannot have it. */
static int vfs_check_lock(sqlite3_file *file, int *out)
{
	(void)file;
	*out = 0;
	return SQLITE_OK;
}

static int vfs_control(sqlite3_file *file, int op, void *arg)
{
	(void)file, (void)op, (void)arg;
	return SQLITE_NOTFOUND;
}

static int vfs_sector(sqlite3_file *file)
{
	(void)file;
	return SECTOR_BYTES;
}

static int vfs_traits(sqlite3_file *file)
{
	(void)file;
	return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

/* Version 1: without shared memory, which the exclusive connection does without, and without xFetch, by which SQLite would map the
 * file and read around us. */
static const sqlite3_io_methods vfs_methods = {
	.iVersion = 1,
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
};

/* Names. */

static struct meta_vfs *to_vfs(sqlite3_vfs *vfs)
{
	return (struct meta_vfs *)vfs;
}

static int open_file(struct meta_vfs *v, const char *name, unsigned how, struct io **out)
{
	unsigned waits = 0;
	int err;

	do
		err = io_open(v->dir, name, how, out);
	while (err_wait(err, &waits));
	return err;
}

/* The file keeps nothing but its descriptor. If a crash leaves the name, the next one uses it. */
static int open_temporary(struct meta_vfs *v, struct io **out)
{
	static const char name[] = "meta.db-temp";
	int err = open_file(v, name, IO_CREATE | IO_PINNED, out);

	if (err)
		return err;
	err = io_truncate(*out, 0);
	if (!err)
		err = io_unlink(v->dir, name);
	if (err)
		io_close(*out);
	return err;
}

/* The bytes that are there have their place; the next frame begins somewhere in them. */
static int open_log(struct meta_vfs *v, struct io *log)
{
	uint64_t bytes;
	int err = io_size(log, &bytes, NULL);

	if (err)
		return err;
	atomic_store(&v->log_end, bytes);
	atomic_store(&v->log_room, bytes);
	atomic_store(&v->log_named, false);
	atomic_store(&v->log, log);
	return 0;
}

static int vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out_flags)
{
	struct meta_file *f = to_file(file);
	struct meta_vfs *v = to_vfs(vfs);
	unsigned how = IO_PINNED;
	int err;

	*f = (struct meta_file){ .vfs = v, .database = flags & SQLITE_OPEN_MAIN_DB };
	if (flags & SQLITE_OPEN_READONLY)
		how |= IO_RDONLY;
	if (flags & SQLITE_OPEN_CREATE)
		how |= IO_CREATE | (flags & SQLITE_OPEN_EXCLUSIVE ? IO_EXCL : 0);
	err = name ? open_file(v, name, how, &f->io) : open_temporary(v, &f->io);
	if (err)
		return code_of(v, err, SQLITE_CANTOPEN);
	if (flags & SQLITE_OPEN_WAL) {
		err = open_log(v, f->io);
		if (err) {
			io_close(f->io);
			return code_of(v, err, SQLITE_CANTOPEN);
		}
	}
	f->base.pMethods = &vfs_methods;
	if (out_flags)
		*out_flags = flags;
	return SQLITE_OK;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *name, int sync_dir)
{
	struct meta_vfs *v = to_vfs(vfs);
	unsigned waits = 0;
	int err;

	do
		err = io_unlink(v->dir, name);
	while (err_wait(err, &waits));
	if (err == -ENOENT)
		return SQLITE_IOERR_DELETE_NOENT;
	if (err)
		return code_of(v, err, SQLITE_IOERR_DELETE);
	if (!sync_dir)
		return SQLITE_OK;
	do
		err = io_dir_sync(v->dir, ".");
	while (err_wait(err, &waits));
	return code_of(v, err, SQLITE_IOERR_DIR_FSYNC);
}

/* An empty file counts as none, as in SQLite's own VFS. */
static int vfs_access(sqlite3_vfs *vfs, const char *name, int flags, int *out)
{
	struct meta_vfs *v = to_vfs(vfs);
	uint64_t bytes = 0;
	struct io *f;
	int err = open_file(v, name, IO_RDONLY, &f);

	if (!err) {
		err = io_size(f, &bytes, NULL);
		io_close(f);
	}
	*out = !err && (bytes || flags != SQLITE_ACCESS_EXISTS);
	return err == -ENOENT ? SQLITE_OK : code_of(v, err, SQLITE_IOERR_ACCESS);
}

static int keep_name(sqlite3_vfs *vfs, const char *name, int cap, char *out)
{
	(void)vfs;
	return snprintf(out, (size_t)cap, "%s", name) < cap ? SQLITE_OK : SQLITE_CANTOPEN;
}

static int vfs_random(sqlite3_vfs *vfs, int n, char *out)
{
	(void)vfs;
	return (int)getrandom(out, (size_t)n, 0);
}

static int vfs_sleep(sqlite3_vfs *vfs, int us)
{
	(void)vfs;
	clock_sleep_ns((int64_t)us * 1000);
	return us;
}

static int vfs_now_ms(sqlite3_vfs *vfs, sqlite3_int64 *out)
{
	(void)vfs;
	*out = JULIAN_EPOCH_MS + clock_now_ns() / 1000000;
	return SQLITE_OK;
}

static int vfs_last_error(sqlite3_vfs *vfs, int n, char *text)
{
	(void)n, (void)text;
	return atomic_load(&to_vfs(vfs)->last_error);
}

/* Memory (invariant 4). */

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

/* This fails if SQLite is in use already; then an earlier call has done it. */
static void be_patient(void)
{
	sqlite3_mem_methods patient;

	if (plain.xMalloc || sqlite3_config(SQLITE_CONFIG_GETMALLOC, &plain) != SQLITE_OK)
		return;
	patient = plain;
	patient.xMalloc = patient_malloc;
	patient.xRealloc = patient_realloc;
	sqlite3_config(SQLITE_CONFIG_MALLOC, &patient);
	/* Nobody asks SQLite how much it has; to count that, it takes a lock of the process for each piece of memory. */
	sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
}

/* The connection. */

static int register_vfs(struct io_dir *dir, struct meta_vfs **out)
{
	struct meta_vfs *v = calloc(1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	snprintf(v->name, sizeof(v->name), "spillfs-%p", (void *)v);
	v->dir = dir;
	v->base = (sqlite3_vfs){
		.iVersion = 2,
		.szOsFile = sizeof(struct meta_file),
		.mxPathname = NAME_BYTES_MAX,
		.zName = v->name,
		.xOpen = vfs_open,
		.xDelete = vfs_delete,
		.xAccess = vfs_access,
		.xFullPathname = keep_name,
		.xRandomness = vfs_random,
		.xSleep = vfs_sleep,
		.xGetLastError = vfs_last_error,
		.xCurrentTimeInt64 = vfs_now_ms,
	};
	if (sqlite3_vfs_register(&v->base, 0) != SQLITE_OK) {
		free(v);
		return -ENOMEM;
	}
	*out = v;
	return 0;
}

/* The database may be made by an enemy: its schema runs nothing, its rows are of a bounded length. */
static int distrust(sqlite3 *db)
{
	static const int flags[][2] = { { SQLITE_DBCONFIG_ENABLE_TRIGGER, 0 }, { SQLITE_DBCONFIG_ENABLE_VIEW, 0 },
					{ SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0 }, { SQLITE_DBCONFIG_DEFENSIVE, 1 } };
	int rc = SQLITE_OK;

	for (size_t i = 0; i < sizeof(flags) / sizeof(*flags) && rc == SQLITE_OK; i++)
		rc = sqlite3_db_config(db, flags[i][0], flags[i][1], NULL);
	sqlite3_limit(db, SQLITE_LIMIT_LENGTH, META_ROW_MAX);
	return rc;
}

int meta_vfs_open(struct io_dir *dir, const char *name, int flags, struct meta_vfs **out, int *rc_out)
{
	struct meta_vfs *v;
	int rc, err;

	be_patient();
	err = register_vfs(dir, &v);
	if (err)
		return err;
	rc = sqlite3_open_v2(name, &v->db, flags | SQLITE_OPEN_NOMUTEX, v->name);
	if (rc == SQLITE_OK)
		rc = distrust(v->db);
	if (rc == SQLITE_OK)
		rc = sqlite3_busy_timeout(v->db, BUSY_MS);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(v->db, "PRAGMA locking_mode=EXCLUSIVE", NULL, NULL, NULL);
	if (rc != SQLITE_OK) {
		err = rc == SQLITE_NOMEM ? -ENOMEM : atomic_load(&v->last_error) == EUCLEAN ? -EUCLEAN : -EIO;
		*rc_out = rc;
		meta_vfs_close(v);
		return err;
	}
	*out = v;
	return 0;
}

void meta_vfs_close(struct meta_vfs *v)
{
	sqlite3_close(v->db);
	sqlite3_vfs_unregister(&v->base);
	free(v);
}

sqlite3 *meta_vfs_db(struct meta_vfs *v)
{
	return v->db;
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
