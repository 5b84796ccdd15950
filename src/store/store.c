/*
 * Opening and closing a store.
 *
 * Invariants:
 *  1. One daemon writes: `lock` is held locked from before anything is read until everything is closed. A
 *     follower takes no lock and writes nothing.
 *  2. A directory is a store if it holds SPILLFS; an empty one (lost+found aside) becomes a store, and
 *     SPILLFS is its last file to appear.
 *  3. Nothing outside meta.db says what is in use: pool space, column files and layers are derived from it. So nothing is derived from
 *     one without the number of a commit: each store has that before its mark, and what has none was lost, or is half rebuilt.
 */
#include "store/store.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/cache.h"
#include "block/pool.h"
#include "store/commit.h"
#include "store/disks.h"
#include "store/layers.h"
#include "store/mark.h"
#include "store/meta.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/log.h"
#include "util/work.h"

#define LAYER_PART 32u
#define LAYER_SPILL_PART 4u
#define LAYER_BYTES_MIN (1u << 20)
#define LEASE_BYTES (1u << 20)

/* Data writes stop when this much is left, so that the commit that frees space can still be written.
 * Small file systems keep a sixteenth. */

static_assert(STORE_EHELD == -EBUSY && STORE_ENOTSTORE == -ENOTEMPTY && STORE_ENEWER == -EPROTONOSUPPORT, "errno");

static int refuse(struct store_refusal *why, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static int refuse(struct store_refusal *why, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why->text, sizeof(why->text), fmt, ap);
	va_end(ap);
	return err;
}

/* -EUCLEAN names the file by itself. */
static int refuse_file(struct store_refusal *why, int err, const char *shown, const char *name)
{
	return err == -EUCLEAN ? refuse(why, err, "%s/%s", shown, err_text(err)) : refuse(why, err, "%s/%s: %s", shown, name, strerror(-err));
}

/* Unless why says it already. */
static int cannot_open(int err, const char *shown, struct store_refusal *why)
{
	return why->text[0] ? err : refuse(why, err, "%s: the store cannot be opened: %s%s", shown, err_text(err),
					   err == -EUCLEAN ? "; spillctl check says what is damaged" : "");
}

/* The lock file says "PID\n" or "PID closing\n". */
static void write_lock(struct store *s, const char *state)
{
	char text[64];
	int n = snprintf(text, sizeof(text), "%ld%s\n", (long)getpid(), state);
	int err = io_truncate(s->lock, 0);

	if (!err)
		err = io_pwrite(s->lock, text, (size_t)n, 0);
	if (err)
		log_warn("lock: cannot be written: %s", strerror(-err));
}

void store_closing(struct store *s)
{
	disks_stop(s);
	if (s->lock)
		write_lock(s, " closing");
}

/* Invariant 1. A holder that is closing is waited for. */
static int take_lock(struct store *s, const char *shown, struct store_refusal *why)
{
	int err = io_open(s->dir, "lock", IO_CREATE | IO_PINNED, &s->lock), tries = 0;
	char text[64];
	size_t n;

	if (err)
		return refuse_file(why, err, shown, "lock");
	while ((err = io_lock(s->lock, 0, 0))) {
		if (err != -EWOULDBLOCK)
			return refuse(why, err, "%s/lock: %s", shown, strerror(-err));
		n = 0;
		io_pread_some(s->lock, text, sizeof(text) - 1, 0, &n);
		text[n] = '\0';
		/* A daemon whose mount is gone needs a moment to notice. */
		if (!strstr(text, "closing") && ++tries > 50)
			return refuse(why, STORE_EHELD, "%s: the store is in use by the spillfs daemon with pid %ld",
				      shown, atol(text));
		clock_sleep_ns(10 * 1000 * 1000);
	}
	write_lock(s, "");
	return 0;
}

struct survey {
	bool marked, other;
};

static int survey_entry(void *ctx, const char *name)
{
	static const char *const ours[] = { "lost+found", "lock", "meta.db", "meta.db-wal", "meta.db-shm", "meta.db-journal",
					    "meta.db-temp", "pool", "columns", "layers", "SPILLFS.tmp", "probe.tmp" };
	struct survey *v = ctx;

	if (!strcmp(name, "SPILLFS")) {
		v->marked = true;
		return 0;
	}
	/* Files that the making of a store leaves behind when it is cut short; a directory of somebody else has others. */
	for (size_t i = 0; i < sizeof(ours) / sizeof(*ours); i++) {
		if (!strcmp(name, ours[i]))
			return 0;
	}
	v->other = true;
	return 0;
}

static int read_marker(struct store *s, const char *shown, struct store_refusal *why)
{
	char text[256] = "";
	unsigned version;
	struct io *f;
	size_t n = 0;
	int err = io_open(s->dir, "SPILLFS", IO_RDONLY, &f);

	if (!err) {
		err = io_pread_some(f, text, sizeof(text) - 1, 0, &n);
		io_close(f);
	}
	if (err)
		return refuse_file(why, err, shown, "SPILLFS");
	version = mark_version(text);
	if (!version)
		return refuse(why, STORE_ENOTSTORE, "%s/SPILLFS: not the mark of a spillfs store", shown);
	if (version < STORE_FORMAT_VERSION)
		return refuse(why, STORE_ENEWER, "%s: the store has format %u, which was never released; this spillfs knows %u",
			      shown, version, STORE_FORMAT_VERSION);
	if (version > STORE_FORMAT_SPREAD)
		return refuse(why, STORE_ENEWER, "%s: the store has format %u, this spillfs knows up to %u; use a newer spillfs", shown, version,
			      STORE_FORMAT_SPREAD);
	s->format = version;
	if (mark_uuid(text, s->uuid))
		return refuse(why, STORE_ENOTSTORE, "%s/SPILLFS: no valid uuid", shown);
	mark_uuid_text(s->uuid, s->uuid_text);
	return 0;
}

static int write_marker(struct store *s)
{
	char text[MARK_TEXT_MAX];
	int err = mark_uuid_new(s->uuid);

	if (err)
		return err;
	mark_uuid_text(s->uuid, s->uuid_text);
	s->format = STORE_FORMAT_VERSION;
	err = io_replace(s->dir, "SPILLFS", "SPILLFS.tmp", text, mark_text(STORE_FORMAT_VERSION, s->uuid, text));
	return err ? err : io_dir_sync(s->dir, ".");
}

static int make_directories(struct store *s)
{
	static const char *const dirs[] = { "pool", "columns", "layers" };

	for (size_t i = 0; i < sizeof(dirs) / sizeof(*dirs); i++) {
		int err = io_mkdir(s->dir, dirs[i]);

		if (err)
			return err;
	}
	return io_dir_sync(s->dir, ".");
}

static int mark_extent(void *ctx, const struct extent *e)
{
	return pool_mark_used(ctx, e->file, e->phys_bytes, e->len_bytes);
}

static int open_pool(struct store *s)
{
	int err = pool_open(s->dir, disks_unlisted(s) ? 0 : s->config.pool_files, &s->pool);

	if (err)
		return err;
	meta_lock(s->meta);
	err = meta_extents_walk_locked(s->meta, mark_extent, s->pool);
	meta_unlock(s->meta);
	return err ? err : pool_ready(s->pool);
}

static void fill_defaults(struct store_config *c)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	if (cpus < 1)
		cpus = 1;
	if (!c->pool_files)
		c->pool_files = (unsigned)cpus;
	if (!c->threads)
		c->threads = (unsigned)cpus;
	if (!c->leases)
		c->leases = 8;
	if (!c->lease_bytes)
		c->lease_bytes = LEASE_BYTES;
	c->lease_bytes = (c->lease_bytes + 4095) & ~(size_t)4095;
	if (!c->layer_bytes)
		c->layer_bytes = 1ull << 30;
	if (!c->keep)
		c->keep = 1;
}

/* The directory is looked at before anything is written into it (invariant 2). */
static int identify(struct io_dir *dir, const char *shown, bool *fresh, struct store_refusal *why)
{
	struct survey v = { 0 };
	int err = io_list(dir, ".", survey_entry, &v);

	if (err)
		return refuse(why, err, "%s: %s", shown, strerror(-err));
	if (!v.marked && v.other)
		return refuse(why, STORE_ENOTSTORE, "%s: neither empty nor a spillfs store", shown);
	*fresh = !v.marked;
	return 0;
}

/* Reads what was promised before this mount. */
static int load_promised(struct store *s)
{
	uint64_t bytes = 0;
	int err;

	meta_lock(s->meta);
	err = meta_promised_locked(s->meta, &bytes);
	meta_unlock(s->meta);
	atomic_store(&s->room.promised_bytes, bytes);
	return err;
}

/* Invariant 3. */
static int check_commits(struct store *s, const char *shown, struct store_refusal *why)
{
	int64_t commit;
	int err;

	meta_lock(s->meta);
	err = meta_fact_get_locked(s->meta, "commit", &commit);
	meta_unlock(s->meta);
	if (err == -ENOENT)
		return refuse(why, -EUCLEAN, "%s: meta.db is empty, because it was lost or a rebuild was cut short; spillctl rebuild --force %s "
			      "makes a new one from the layers", shown, shown);
	return err;
}

static int see_data(void *ctx, const char *name)
{
	bool *any = ctx;

	*any |= strcmp(name, "refs") != 0;
	return 0;
}

/* A making that was cut short has no files of arrays: they come after the mark. */
static int check_bare(struct io_dir *dir, const char *shown, struct store_refusal *why)
{
	static const char *const dirs[] = { "layers", "pool", "columns" };
	bool any = false;
	int err = 0;

	for (size_t i = 0; i < sizeof(dirs) / sizeof(*dirs) && !err; i++) {
		err = io_list(dir, dirs[i], see_data, &any);
		if (any)
			return refuse(why, -EUCLEAN, "%s: SPILLFS and the rows of meta.db are lost, and %s/ has files; put both back from a copy, or "
				      "spillctl check --repair and then spillctl rebuild --force %s make them from the layers", shown, dirs[i], shown);
	}
	return err;
}

/* Something may be there all the same: the making was cut short, or the mark was lost. */
static int write_first_commit(struct store *s, const char *shown, struct store_refusal *why)
{
	struct meta *m = s->meta;
	int64_t commit;
	int err;

	meta_lock(m);
	err = meta_fact_get_locked(m, "commit", &commit);
	if (err == -ENOENT) {
		err = check_bare(s->dir, shown, why);
		err = err ? err : meta_fact_set_locked(m, "commit", 0);
	}
	if (!err)
		err = meta_commit_locked(m);
	meta_unlock(m);
	return err ? err : meta_sync(m);
}

/* Opens the parts that only the daemon that writes has. */
static int open_written(struct store *s, bool fresh, const char *shown, struct store_refusal *why)
{
	struct io *f;
	int err = fresh ? 0 : io_open(s->dir, "meta.db", IO_RDONLY, &f);

	/* With a new one everything would be deleted as unknown. */
	if (err == -ENOENT)
		return refuse(why, -EUCLEAN, "%s: meta.db is lost; spillctl rebuild %s makes a new one from the layers", shown, shown);
	if (!err && !fresh)
		io_close(f);
	if (!err)
		err = make_directories(s);
	if (!err)
		err = meta_open(s->dir, &s->meta);
	if (!err && s->config.above)
		meta_number_above(s->meta, s->config.above);
	if (err == -EBUSY)
		return refuse(why, err, "%s/meta.db: another program has it open", shown);
	/* A quarter of the reserve each, so that both have their space whatever is written. */
	if (!err)
		err = meta_bound(s->meta, store_reserve_bytes(s) / 4, store_reserve_bytes(s) / 4);
	if (!err && fresh)
		err = write_first_commit(s, shown, why);
	if (!err && fresh)
		err = write_marker(s);
	if (!err && fresh)
		err = disks_open(s, shown, why);
	if (!err)
		err = check_commits(s, shown, why);
	if (!err)
		err = open_pool(s);
	if (!err)
		err = load_promised(s);
	return err ? err : commit_new(s, &s->commit);
}

/* Compaction copies what is live of a layer before that can be deleted: on a small file system layers are small, and where they are in
 * memory first, or what was deleted would put out to the disk what is live. */
static void bound_layers(struct store *s)
{
	uint64_t total, avail, spill = s->config.spill_bytes, most = s->config.layer_bytes;

	if (!io_home_space(s->dir, &total, &avail) && total / LAYER_PART < most)
		most = total / LAYER_PART;
	if (spill && spill / LAYER_SPILL_PART < most)
		most = spill / LAYER_SPILL_PART;
	if (most < LAYER_BYTES_MIN)
		most = LAYER_BYTES_MIN;
	if (most < s->config.layer_bytes)
		s->config.layer_bytes = most;
}

/* Everything behind the lock. */
static int open_parts(struct store *s, bool fresh, const char *shown, struct store_refusal *why)
{
	const char *reason;
	int err;

	io_file_try_direct(s->dir);
	if (!s->config.scratch && s->config.backing == IO_BACKING_DIRECT && strcmp(io_file_backing(s->dir, &reason), "direct"))
		log_warn("%s: with backing=direct all I/O is buffered here, because %s; .spillfs/stats counts it as lease_fallbacks",
			 shown, reason);
	err = fresh ? 0 : read_marker(s, shown, why);
	if (!err && !fresh)
		err = disks_open(s, shown, why);
	if (err)
		return cannot_open(err, shown, why);
	err = work_pool_new(s->config.threads, "work", &s->work);
	account_init(&s->account, s->config.cache_bytes);
	if (!err)
		err = cache_new(&s->account, &s->cache);
	if (!err && !s->config.follow)
		err = open_written(s, fresh, shown, why);
	if (!err)
		bound_layers(s);
	if (!err)
		err = layers_open(s, &s->layers);
	if (err && disks_unlisted(s))
		refuse(why, err, "%s: the list of its directories is lost, and -o pool= does not name all of them: %s", shown, err_text(err));
	else if (!err)
		err = disks_settle(s);
	return err ? cannot_open(err, shown, why) : 0;
}

/* Parts may be missing after a failed open. */
static void close_parts(struct store *s)
{
	disks_stop(s);
	/* First, because prefetch jobs use layers and cache. */
	if (s->work)
		work_pool_free(s->work);
	if (s->layers)
		layers_close(s->layers);
	if (s->commit)
		commit_free(s->commit);
	if (s->pool)
		pool_close(s->pool);
	if (s->cache)
		cache_free(s->cache);
	if (s->meta)
		meta_close(s->meta);
	disks_unlock(s);
	if (s->lock)
		io_close(s->lock);
	io_dir_close(s->dir);
	disks_close(s);
	free(s);
}

int store_directory(int dirfd, const struct store_config *config, struct io_dir **out)
{
	struct store_config c = *config;

	fill_defaults(&c);
	return disks_directory(dirfd, &c, out);
}

int store_open(struct io_dir *dir, const char *shown, const struct store_config *config, struct store **out,
	       struct store_refusal *why)
{
	struct store *s = calloc(1, sizeof(*s));
	bool fresh = false;
	int err;

	err_forget();
	why->text[0] = '\0';
	if (!s) {
		io_dir_close(dir);
		return refuse(why, -ENOMEM, "%s: out of memory", shown);
	}
	s->dir = dir;
	s->config = *config;
	fill_defaults(&s->config);
	err = identify(dir, shown, &fresh, why);
	if (!err && fresh && s->config.follow)
		err = refuse(why, STORE_ENOTSTORE, "%s: not a spillfs store, and with ro none is made", shown);
	if (!err && (!s->config.follow || s->config.alone))
		err = take_lock(s, shown, why);
	if (!err)
		err = open_parts(s, fresh, shown, why);
	if (err) {
		close_parts(s);
		return err;
	}
	*out = s;
	return 0;
}

int store_close(struct store *s)
{
	int err;

	disks_stop(s);
	err = s->commit ? commit_stop(s->commit) : 0;
	if (!s->config.follow)
		disks_count_mount(s);
	close_parts(s);
	return err;
}
