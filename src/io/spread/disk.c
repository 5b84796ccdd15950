/*
 * The disks of a directory that is spread: where new data goes, what has failed; and which disk has which file.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io/spread/inside.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/log.h"

/* A disk that has refused a write for want of space gets no new data for so long: statfs does not know of quotas. */
#define FULL_NS CLOCK_SECOND_NS
/* The speed of a disk is taken from syncs of so much. */
#define SPEED_BYTES (4ull << 20)
/* The slowest disk is taken for this part of the fastest. */
#define SPEED_PART 8u
#define VISIT_NS 100000
#define AVAIL_MAX ((uint64_t)INT64_MAX / 2)
/* Bits of `touched`. */
#define CHANGE 3u

int spread_folder(const struct spread *d, const char *name)
{
	for (int i = 0; d->folders[i]; i++) {
		size_t len = strlen(d->folders[i]);

		if (!strncmp(name, d->folders[i], len) && name[len] == '/' && !strchr(name + len + 1, '/'))
			return i;
	}
	return -1;
}

struct io_dir *spread_enter(struct spread *d, unsigned disk)
{
	struct spread_disk *k = &d->disks[disk];

	atomic_fetch_add(&k->visits, 1);
	if (!atomic_load(&k->removed))
		return k->dir;
	atomic_fetch_sub(&k->visits, 1);
	return NULL;
}

void spread_leave(struct spread *d, unsigned disk)
{
	atomic_fetch_sub(&d->disks[disk].visits, 1);
}

int spread_open_inner(struct spread *d, unsigned disk, const char *name, unsigned flags, struct io **out)
{
	int err = io_open(d->disks[disk].dir, name, flags, out);

	if (!err)
		atomic_fetch_add(&d->disks[disk].opened, 1);
	return err;
}

void spread_close_inner(struct spread *d, unsigned disk, struct io *f)
{
	io_close(f);
	atomic_fetch_sub(&d->disks[disk].opened, 1);
}

void spread_retire_locked(struct spread *d, unsigned disk)
{
	struct spread_disk *k = &d->disks[disk];

	if (!atomic_load(&k->removed) || !k->dir || atomic_load(&k->opened))
		return;
	for (const struct spread_file *f = d->files; f; f = f->next)
		if (atomic_load(&f->disk) == disk)
			return;
	while (atomic_load(&k->visits))
		clock_sleep_ns(VISIT_NS);
	io_dir_close(k->dir);
	k->dir = NULL;
}

bool spread_was_full(const struct spread_disk *k)
{
	return atomic_load(&k->full_until_ns) > clock_monotonic_ns();
}

bool spread_balance(struct spread *d, unsigned disk, bool all, int64_t *bytes, uint64_t *keep)
{
	struct io_dir *dir = spread_enter(d, disk);
	uint64_t total, avail;
	int err;

	if (!dir)
		return false;
	err = io_space(dir, &total, &avail);
	spread_leave(d, disk);
	if (err)
		return false;
	*keep = d->keeps(total);
	/* Some file systems say that there is no end of it. */
	*bytes = avail > AVAIL_MAX ? (int64_t)AVAIL_MAX : (int64_t)avail;
	*bytes -= (int64_t)((disk ? 1 : 2) * *keep + (d->owes ? d->owes(d->ctx, disk, all) : 0));
	return true;
}

uint64_t spread_room(struct spread *d, unsigned disk)
{
	struct spread_disk *k = &d->disks[disk];
	uint64_t keep;
	int64_t bytes;

	if (atomic_load(&k->draining) || atomic_load(&k->failing) || spread_was_full(k))
		return 0;
	return spread_balance(d, disk, true, &bytes, &keep) && bytes > 0 ? (uint64_t)bytes : 0;
}

/* Says once that a disk is left aside, and when it no longer is. */
static void say_full(struct spread_disk *k, bool full)
{
	if (atomic_load_explicit(&k->full, memory_order_relaxed) == full || atomic_exchange(&k->full, full) == full)
		return;
	if (full)
		log_warn("%s: full: new data goes to the other directories", k->shown);
	else
		log_info("%s: takes new data again", k->shown);
}

int spread_roomiest(struct spread *d, int from, uint64_t need_bytes)
{
	uint64_t most = need_bytes;
	int best = -1;

	for (unsigned i = 0; i < d->n; i++) {
		uint64_t room = (int)i == from ? 0 : spread_room(d, i);

		if (room && room > most) {
			most = room;
			best = (int)i;
		}
	}
	return best;
}

/* For each disk how much of new data it should get: its room, less where it is slow. 0: none. */
static uint64_t weigh(struct spread *d, uint64_t weights[IO_SPREAD_MAX])
{
	uint64_t sum = 0, fastest = 0;

	for (unsigned i = 0; i < d->n; i++)
		if (atomic_load(&d->disks[i].mib_per_s) > fastest)
			fastest = atomic_load(&d->disks[i].mib_per_s);
	for (unsigned i = 0; i < d->n; i++) {
		uint64_t room = spread_room(d, i), speed = atomic_load(&d->disks[i].mib_per_s), eighths = SPEED_PART;

		if (fastest && speed)
			eighths = speed * SPEED_PART / fastest;
		weights[i] = room ? ((room >> 20) + 1) * (eighths ? eighths : 1) : 0;
		sum += weights[i];
	}
	for (unsigned i = 0; i < d->n; i++)
		if (!atomic_load(&d->disks[i].draining) && !atomic_load(&d->disks[i].failing))
			say_full(&d->disks[i], !weights[i] && sum);
	return sum;
}

unsigned spread_turn(struct spread *d)
{
	uint64_t weights[IO_SPREAD_MAX], sum = weigh(d, weights), at;
	unsigned i = 0;

	if (!sum)
		return 0;
	/* Steps of the golden ratio: short sequences are near to the weights, too. */
	at = (uint64_t)((unsigned __int128)(atomic_fetch_add(&d->turns, 1) * 0x9e3779b97f4a7c15ull) * sum >> 64);
	while (at >= weights[i])
		at -= weights[i++];
	return i;
}

void spread_refused(struct spread *d, unsigned disk, const char *name, int err)
{
	struct spread_disk *k = &d->disks[disk];

	if (err_is_full(err))
		atomic_store(&k->full_until_ns, clock_monotonic_ns() + FULL_NS);
	else if (!err_is_passing(err) && err != -EBADF && err != -EINVAL && !atomic_exchange(&k->failing, true))
		log_error("%s: %s cannot be written: %s; new data goes to the other directories", k->shown, name, strerror(-err));
}

void spread_note_speed(struct spread_disk *k, int64_t ns)
{
	uint64_t bytes = atomic_exchange(&k->unsynced_bytes, 0), before = atomic_load(&k->mib_per_s), now;

	if (bytes < SPEED_BYTES) {
		atomic_fetch_add(&k->unsynced_bytes, bytes);
		return;
	}
	now = (bytes >> 20) * 1000 / ((uint64_t)ns / 1000000 + 1) + 1;
	atomic_store(&k->mib_per_s, before ? (3 * before + now) / 4 : now);
}

/* ---- which disk has which file ---- */

struct spread_file *spread_file_locked(struct spread *d, const char *name)
{
	struct spread_file *f = d->files;

	while (f && (f->gone || strcmp(f->name, name)))
		f = f->next;
	return f;
}

int spread_probe(struct spread *d, unsigned disk, const char *name)
{
	struct io_dir *dir = spread_enter(d, disk);
	struct io *f;
	int err = dir ? io_open(dir, name, IO_RDONLY, &f) : -ENOENT;

	if (!err)
		io_close(f);
	if (dir)
		spread_leave(d, disk);
	return err;
}

/* The scratch file means nothing where it could not be deleted. */
static bool overlooks(struct spread *d, unsigned disk, const char *name)
{
	return disk && d->scratch && !strcmp(name, d->scratch) && atomic_load(&d->disks[disk].failing);
}

/* A disk that cannot be asked may have it, unless another one has. */
static int find(struct spread *d, const char *name, bool anew, unsigned *out)
{
	for (unsigned pass = 0; pass < 2; pass++) {
		int failed = 0;

		for (unsigned i = 0; i < d->n; i++) {
			int err;

			if (atomic_load(&d->disks[i].draining) != (pass > 0) || (anew && overlooks(d, i, name)))
				continue;
			err = spread_probe(d, i, name);
			if (anew && i && err && err != -ENOENT) {
				spread_refused(d, i, name, err);
				if (atomic_load(&d->disks[i].failing))
					continue;
			}
			if (!err) {
				*out = i;
				return 0;
			}
			if (err != -ENOENT)
				failed = err;
		}
		if (failed)
			return failed;
	}
	return -ENOENT;
}

int spread_find_locked(struct spread *d, const char *name, unsigned *out)
{
	return find(d, name, false, out);
}

int spread_find_new_locked(struct spread *d, const char *name, unsigned *out)
{
	return find(d, name, true, out);
}

bool spread_moved_name(const char *name, char out[SPREAD_NAME_MAX + 8])
{
	if (strlen(name) >= SPREAD_NAME_MAX)
		return false;
	strcpy(out, name);
	strcat(out, SPREAD_MOVED);
	return true;
}

int spread_say_double(struct spread *d, const char *name, unsigned a, unsigned b)
{
	err_corrupt(name, 0, "it is in %s and in %s: move away the one that does not count", d->disks[a].shown, d->disks[b].shown);
	return -EEXIST;
}

int spread_find_moved_locked(struct spread *d, const char *moved, unsigned *out)
{
	unsigned found = d->n;

	for (unsigned i = 0; i < d->n; i++) {
		int err = spread_probe(d, i, moved);

		if (err && err != -ENOENT)
			return err;
		if (!err && found < d->n)
			return spread_say_double(d, moved, found, i);
		if (!err)
			found = i;
	}
	if (found == d->n)
		return -ENOENT;
	*out = found;
	return 0;
}

int spread_name_locked(struct spread *d, const char *name, unsigned *disk)
{
	struct spread_file *f = spread_file_locked(d, name);
	char moved[SPREAD_NAME_MAX + 8];
	int err = spread_moved_name(name, moved) ? 0 : -ENOENT;

	if (!err && f && f->unnamed)
		*disk = atomic_load(&f->disk);
	else if (!err)
		err = spread_find_moved_locked(d, moved, disk);
	if (!err)
		err = io_rename(d->disks[*disk].dir, moved, name);
	if (err)
		return err;
	/* NAME.moved lasts, and means the same. */
	spread_touch(d, *disk, spread_folder(d, name), SPREAD_DELETED);
	if (f)
		f->unnamed = false;
	return 0;
}

int spread_use_locked(struct spread *d, const char *name, unsigned kind, unsigned disk, struct spread_file **out)
{
	struct spread_file *f = spread_file_locked(d, name);

	if (!f) {
		f = strlen(name) < SPREAD_NAME_MAX ? calloc(1, sizeof(*f)) : NULL;
		if (!f)
			return -ENOMEM;
		strcpy(f->name, name);
		f->kind = kind;
		atomic_store(&f->disk, disk);
		rwlock_init(&f->writers, RANK_MOVE);
		rwlock_init(&f->readers, RANK_PLACE);
		lock_init(&f->list_lock, RANK_MEM);
		f->next = d->files;
		d->files = f;
	}
	if (!f->kind)
		f->kind = kind;
	f->users++;
	*out = f;
	return 0;
}

void spread_unuse_locked(struct spread *d, struct spread_file *f)
{
	struct spread_file **at = &d->files;
	unsigned disk = atomic_load(&f->disk);

	if (--f->users)
		return;
	while (*at != f)
		at = &(*at)->next;
	*at = f->next;
	rwlock_fini(&f->writers);
	rwlock_fini(&f->readers);
	lock_fini(&f->list_lock);
	free(f->written);
	free(f);
	spread_retire_locked(d, disk);
}

void spread_touch(struct spread *d, unsigned disk, int folder, enum spread_change change)
{
	_Atomic unsigned *at = folder >= 0 ? &d->disks[disk].touched[folder] : NULL;
	unsigned before = at ? atomic_load(at) : 0;

	while (at && !atomic_compare_exchange_weak(at, &before, ((before | CHANGE) + 1) | ((before & CHANGE) > change ? before & CHANGE : change)))
		;
}

int spread_sync_folder(struct spread *d, unsigned disk, unsigned folder, bool all)
{
	_Atomic unsigned *at = &d->disks[disk].touched[folder];
	unsigned before = atomic_load(at), change = before & CHANGE;
	struct io_dir *dir;
	int err;

	if (change == SPREAD_NOTHING)
		return 0;
	dir = spread_enter(d, disk);
	if (!dir)
		return 0;
	err = io_dir_sync(dir, d->folders[folder]);
	spread_leave(d, disk);
	/* Others who come in the meantime sync, too: it is not durable yet. */
	if (!err) {
		atomic_compare_exchange_strong(at, &before, before & ~CHANGE);
		return 0;
	}
	spread_refused(d, disk, d->folders[folder], err);
	return !all && change == SPREAD_DELETED && atomic_load(&d->disks[disk].failing) ? 0 : err;
}
