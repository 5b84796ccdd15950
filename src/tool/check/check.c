/*
 * spillctl check: options, the lock, the passes in their order, the result.
 *
 * Invariants:
 * 1. The store's lock is held from before anything is read until the end.
 * 2. Without --repair nothing in the store changes.
 * 3. All changes of a repair in meta.db are one transaction; files are changed after it. A repair
 *    that is cancelled or fails before has changed nothing but added files.
 * 4. The exit code tells what a look after the repair has found, not what the repair believes.
 */
#include "tool/check/check.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "io/beneath.h"
#include "tool/check/inside.h"
#include "util/clock.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "unknown"
#endif

/* A pass may rely on what those before it have found in order, or mended. */
static const struct check_pass passes[] = {
	{ "mark", CHECK_BASE, check_pass_mark },
	{ "database", CHECK_BASE | CHECK_FATAL, check_pass_database },
	{ "schema", CHECK_BASE | CHECK_FATAL, check_pass_schema },
	{ "types", CHECK_BASE | CHECK_FATAL, check_pass_types },
	{ "indexes", 0, check_pass_indexes },
	{ "facts", 0, check_pass_facts },
	{ "inodes", 0, check_pass_inodes },
	{ "blobs", 0, check_pass_blobs },
	{ "xattrs", 0, check_pass_xattrs },
	{ "extents", 0, check_pass_extents },
	{ "pool", 0, check_pass_pool },
	{ "columns", 0, check_pass_columns },
	{ "layers", 0, check_pass_layers },
	{ "log", 0, check_pass_log },
	{ "filters", 0, check_pass_filters },
	{ "names", 0, check_pass_names },
	{ "tree", 0, check_pass_tree },
	{ "leftovers", 0, check_pass_leftovers },
	{ "layers", CHECK_DATA, check_pass_frames },
	{ "links", 0, check_pass_links },
	{ "data", CHECK_DATA, check_pass_data },
};

#define NPASSES (sizeof(passes) / sizeof(*passes))

/* The lock. */

static int held(struct check *c, const char *text)
{
	return check_fail(c, -EBUSY, "the store is in use by the process with pid %ld", atol(text));
}

/* As a daemon takes it: one that is closing the store is waited for. A check that changes nothing leaves
 * the file alone and lets others look, too. */
static int take_lock(struct check *c)
{
	int tries = 0, err = beneath_open(c->dirfd, "lock", c->repair ? O_RDWR | O_CREAT : O_RDONLY, &c->lock_fd);

	if (err == -ENOENT)
		return 0; /* nobody has it */
	if (err)
		return check_fail_file(c, err, "lock");
	while (flock(c->lock_fd, (c->repair ? LOCK_EX : LOCK_SH) | LOCK_NB)) {
		char text[64];
		ssize_t n;

		if (errno != EWOULDBLOCK && errno != EINTR)
			return check_fail(c, -errno, "lock: %s", strerror(errno));
		n = pread(c->lock_fd, text, sizeof(text) - 1, 0);
		text[n > 0 ? n : 0] = '\0';
		if (!strstr(text, "closing") && ++tries > 50)
			return held(c, text);
		clock_sleep_ns(10 * 1000 * 1000);
		if (check_cancelled())
			return -ECANCELED;
	}
	if (c->repair && (ftruncate(c->lock_fd, 0) || dprintf(c->lock_fd, "%ld\n", (long)getpid()) < 0))
		return check_fail(c, -errno, "lock: %s", strerror(errno));
	return 0;
}

static bool is_there(struct check *c, const char *name)
{
	struct stat st;

	return fstatat(c->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static int open_store(struct check *c)
{
	c->dirfd = open(c->shown, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (c->dirfd < 0)
		return check_fail(c, -errno, "%s", strerror(errno));
	/* Its mark may be what is damaged. */
	if (!is_there(c, "SPILLFS") &&
	    !(is_there(c, "meta.db") && is_there(c, "layers") && is_there(c, "pool") && is_there(c, "columns")))
		return check_fail(c, -ENOTDIR, "not a spillfs store");
	return take_lock(c);
}

/* The run. */

static int run_pass(struct check *c, const struct check_pass *p)
{
	int err;

	c->pass = p;
	if (c->verbose && !c->again)
		fprintf(c->out, "%s: ...\n", p->name);
	err = p->run(c);
	progress_end(&c->progress);
	return check_cancelled() ? -ECANCELED : err;
}

static int run_passes(struct check *c, bool base)
{
	int err = 0;

	for (size_t i = 0; i < NPASSES && !err && !c->fatal; i++) {
		unsigned flags = passes[i].flags;

		if (((flags & CHECK_BASE) != 0) != base || ((flags & CHECK_DATA) && (!c->data || c->again)))
			continue;
		err = run_pass(c, &passes[i]);
	}
	return err;
}

/* Runs what waited for the commit, or only forgets it. */
static int end_deferred(struct check *c, bool run)
{
	int err = 0;

	while (c->deferred) {
		struct check_deferred *d = c->deferred;

		c->deferred = d->next;
		if (!err && run)
			err = d->run(c, d);
		free(d);
	}
	return err;
}

/* Invariant 4. */
static int look_again(struct check *c)
{
	uint64_t found = c->nfound, nfiles = c->nfiles, nbytes = c->nbytes;
	int err;

	c->again = true;
	c->repair = false;
	c->nfound = 0;
	err = run_passes(c, false);
	c->nmended = found > c->nfound + c->nleft_data ? found - c->nfound - c->nleft_data : 0;
	c->nfound = found;
	c->again = false;
	c->repair = true;
	if (!c->nfiles) {
		c->nfiles = nfiles;
		c->nbytes = nbytes;
	}
	return err;
}

static int check_store(struct check *c)
{
	int err = run_passes(c, true);

	if (err || c->fatal)
		return err;
	if (c->repair)
		err = check_db_write(c);
	if (!err)
		err = run_passes(c, false);
	if (!err && (c->mending || c->deferred)) {
		err = check_db_commit(c);
		if (!err) {
			c->committed = true;
			err = end_deferred(c, true);
		}
		if (!err)
			err = look_again(c);
	}
	return err;
}

static int summary(struct check *c, int err)
{
	uint64_t left = c->nfound - c->nmended;
	int code = 0;

	if (err == -ECANCELED) {
		fprintf(c->out, "%s: cancelled%s\n", c->shown,
			c->committed ? " after the repair" : ", nothing was mended");
		return CHECK_CANCELLED | (c->committed ? CHECK_CORRECTED : c->nfound ? CHECK_LEFT : 0);
	}
	if (err)
		return CHECK_FAILED;
	if (!c->nfound) {
		fprintf(c->out, "%s: clean, %" PRIu64 " files, %" PRIu64 " bytes\n", c->shown, c->nfiles, c->nbytes);
		return CHECK_CLEAN;
	}
	fprintf(c->out, "%s: %" PRIu64 " errors, %" PRIu64 " corrected, %" PRIu64 " left\n", c->shown, c->nfound,
		c->nmended, left);
	if (c->fatal)
		fprintf(c->out, "%s: meta.db is beyond repair; spillctl rebuild --force makes a new one from the"
			" layers\n", c->shown);
	if (c->lost_state && left)
		fprintf(c->out, "%s: the newest state is not whole; spillctl rebuild --force %s makes the last one that is out of"
			" the layers\n", c->shown, c->shown);
	if (!c->repair && !c->fatal && !c->lost_state)
		fprintf(c->out, "%s: with --repair it is mended as far as it can be\n", c->shown);
	if (*c->backup)
		fprintf(c->out, "%s: meta.db as it was is %s/%s\n", c->shown, c->shown, c->backup);
	code |= c->nmended ? CHECK_CORRECTED : 0;
	code |= left ? CHECK_LEFT : 0;
	return code;
}

static int check_run(struct check *c)
{
	int err, code;

	check_catch_signals();
	err = open_store(c);
	if (!err)
		err = check_store(c);
	end_deferred(c, false);
	check_log_end(c);
	code = summary(c, err);
	check_db_close(c);
	check_disks_close(c);
	if (c->lock_fd >= 0)
		close(c->lock_fd);
	if (c->dirfd >= 0)
		close(c->dirfd);
	if (fflush(c->out) || ferror(c->out))
		code |= CHECK_FAILED;
	return code;
}

/* The command line. */

static void usage(FILE *to, const char *program)
{
	fprintf(to, "usage: %s [-n | -p | -a | -y | --repair] [--data] [-v] STORE\n\nSTORE is the directory of a"
		" spillfs store that is not mounted.\n\n  -n               only look; the default\n  --repair, -p -a"
		" -y  mend what can be mended\n  --data           read and decode all data, too\n  -v, --verbose   "
		" more words\n  -f, -C[FD]       ignored: every check is a full one\n  -V, --version    the"
		" version\n\nExit codes, which may add up: 0 clean, 1 errors corrected, 4 errors left, 8 it could not"
		" be\nchecked, 16 usage, 32 cancelled.\n", program);
}

int check_main(const char *program, int argc, char **argv)
{
	static const struct option options[] = {
		{ "repair", no_argument, NULL, 'y' }, { "data", no_argument, NULL, 'd' },
		{ "verbose", no_argument, NULL, 'v' }, { "version", no_argument, NULL, 'V' },
		{ "help", no_argument, NULL, 'h' }, { 0 },
	};
	struct check c = { .program = program, .dirfd = -1, .lock_fd = -1, .out = stdout };
	bool look = false;
	int o;

	optind = 1;
	while ((o = getopt_long(argc, argv, "npayvfC::Vh", options, NULL)) != -1) {
		switch (o) {
		case 'n': look = true; break;
		case 'p': case 'a': case 'y': c.repair = true; break;
		case 'd': c.data = true; break;
		case 'v': c.verbose = true; break;
		case 'f': case 'C': break;
		case 'V': printf("%s %s\n", program, PACKAGE_VERSION); return 0;
		case 'h': usage(stdout, program); return 0;
		default: return CHECK_USAGE;
		}
	}
	if (look && c.repair) {
		fprintf(stderr, "%s: -n and --repair exclude each other\n", program);
		return CHECK_USAGE;
	}
	if (argc - optind != 1) {
		usage(stderr, program);
		return CHECK_USAGE;
	}
	c.shown = argv[optind];
	return check_run(&c);
}
