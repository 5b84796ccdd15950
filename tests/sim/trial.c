/*
 * One run: a store on a disk in memory, its callers, and at changes of the disk a loss of power. A cut is made in a fork, which has the
 * disk and the model as they are at that moment, and goes on from there: it opens the store on what the disk has kept, compares it with
 * the model, and tries whether the store works.
 */
#include "sim.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sqlite3.h>

#include "bounds.h"
#include "callers.h"
#include "client.h"
#include "disk.h"
#include "model.h"
#include "probe.h"
#include "sched.h"
#include "store/store.h"
#include "store/meta.h"
#include "tree/tree.h"
#include "util/err.h"
#include "util/log.h"

/* One recovery of so many loses its power, too; and one of so many meets a fault. */
#define RECUT_ONE_IN 4u
#define RECUT_MOST 120u
/* One cut of so many is looked at by spillctl check. */
#define PROBE_ONE_IN 32u
#define REFAULT_ONE_IN 8u
/* One recovered store of so many is written to and mounted once more. */
#define TRY_ONE_IN 2u
/* All recoveries but one of so many have a calm schedule. */
#define CALM_OF 4u
#define FOLLOW_TRIES 5u
#define FILLER "others" /* a file that is not the store's */
#define MUCH_SPACE ((uint64_t)1 << 40)
#define RELIEF_BYTES ((uint64_t)16 << 20)

struct sim_counts *sim_counts;

struct mount {
	struct store *store;
	struct tree *tree;
	struct store *scratch; /* NULL: none */
};

/* Of this process. */
static struct {
	struct script script;
	struct io_dir *disk;
	uint64_t random; /* what a cut leaves, and where */
	unsigned depth;  /* cuts so far */
	uint64_t recut_at;
	bool wrote_after; /* try_out has, durably */
	unsigned nrelieved;
	FILE *said; /* what is wrong goes here, and the store's log to stderr, which SIM_LOG shows; NULL: nowhere */
	char where[160];
} s;

/* ---- failure ---- */

_Noreturn void sim_fail(const char *fmt, ...)
{
	va_list ap;

	if (s.said) {
		va_start(ap, fmt);
		fprintf(s.said, "sim: seed %llu%s: ", (unsigned long long)s.script.seed, s.where);
		vfprintf(s.said, fmt, ap);
		fprintf(s.said, "\n");
		va_end(ap);
	}
	fflush(NULL);
	_exit(1);
}

_Noreturn void sched_stuck(const char *text)
{
	sim_fail("%s", text);
}

/* In place of the C library's: the store's UUID, and SQLite's randomness. */
ssize_t getrandom(void *buf, size_t n, unsigned flags)
{
	static uint64_t state;

	(void)flags;
	for (size_t i = 0; i < n; i++)
		((unsigned char *)buf)[i] = (unsigned char)(sim_random(&state) >> 8);
	return (ssize_t)n;
}

/* SQLite asks the system's VFS for the seed of its randomness, which is in the log of meta.db. */
static int seed_sqlite(sqlite3_vfs *vfs, int n, char *out)
{
	(void)vfs;
	return (int)getrandom(out, (size_t)n, 0);
}

/* Stands in the lock file. */
pid_t getpid(void)
{
	return 4242;
}

/* ---- mounting ---- */

static int unmount_store(struct mount *m)
{
	int err;

	tree_close(m->tree);
	err = store_close(m->store);
	if (m->scratch)
		store_close(m->scratch);
	return err;
}

/* As front/main.c does. The file below it is the disk's, and there is little memory. */
static int add_scratch(struct mount *m, struct store_config config)
{
	static const uint64_t memory[] = { 0, 128 << 10, 512 << 10, 64 << 20 };
	struct io_dir *again, *below, *dir;
	struct store_refusal why;
	uint64_t state = s.script.seed ^ 0x5c7a7c;
	int err = io_mem_again(s.disk, &again);

	config.scratch = true;
	config.above = META_INO_SCRATCH;
	config.commit_seconds = 5;
	config.spill_bytes = memory[sim_random(&state) % 4];
	if (!err)
		err = disk_wrap(again, s.script.slow_ns, &below);
	if (err)
		return err;
	err = io_spill_dir(below, &(struct io_spill_config){ .memory_bytes = config.spill_bytes }, &dir);
	if (err) {
		io_dir_close(below);
		return err;
	}
	err = store_open(dir, "scratch", &config, &m->scratch, &why);
	return err ? err : tree_add_scratch(m->tree, m->scratch);
}

static int mount_as(struct mount *m, bool follow)
{
	static const unsigned seconds[] = { 0, 1, 5, 0 };
	/* Nothing stays; some blocks; all. */
	static const size_t caches[] = { 16 << 10, 256 << 10, 256 << 10, 1 << 20 };
	uint64_t state = s.script.seed, x = sim_random(&state);
	struct store_config config = { .cache_bytes = caches[x / 4 % 4], .dirty_bytes = 1 << 20, .threads = 2,
				       .pool_files = 1 + x / 16 % 2, .commit_seconds = seconds[x % 4], .layer_bytes = 300000,
				       .keep = 1 + x / 32 % 2, .follow = follow, .size_bytes = s.script.size_bytes };
	struct store_refusal why;
	struct io_dir *again, *dir;
	int err = io_mem_again(s.disk, &again);

	memset(m, 0, sizeof(*m));
	if (!err)
		err = disk_wrap(again, s.script.slow_ns, &dir);
	if (!err)
		err = store_open(dir, "sim", &config, &m->store, &why);
	if (!err)
		err = tree_open(m->store, &m->tree);
	if (err || follow || !script_has_scratch(&s.script)) {
		if (err && m->store)
			store_close(m->store);
		return err;
	}
	err = add_scratch(m, config);
	if (err)
		unmount_store(m);
	return err;
}

static int mount_store(struct mount *m)
{
	return mount_as(m, false);
}


static void count_name(void *ctx, const char *name)
{
	(void)name;
	++*(unsigned *)ctx;
}

static void must_mount(struct mount *m, const char *when)
{
	int err = mount_store(m);
	unsigned n = 0;

	if (err)
		sim_fail("the store cannot be opened %s: %s", when, strerror(-err));
	if (m->scratch && (client_list(m->tree, "scratch", count_name, &n) || n))
		sim_fail("scratch/ has %u entries %s", n, when);
}

/* Everything that is there is as the model has it. fresh: nothing was done since the mount. A want that is not over yet fails a few calls more. */
static void judge(struct mount *m, const char *when, bool fresh)
{
	static struct found found[CALLERS_MAX];
	unsigned tries = 0;
	const char *why;
	int err;

	for (;;) {
		err = callers_find(m->tree, s.script.ncallers, false, found);
		if (!err_is_passing(err) || ++tries > SCRIPT_SHORT_TIMES)
			break;
		found_free(found);
	}
	if (err)
		sim_fail("%s: something cannot be read: %s", when, strerror(-err));
	why = model_judge(found, fresh ? MODEL_NEW : MODEL_NOW);
	if (!why)
		why = callers_check_kept(m->tree, s.script.ncallers);
	if (!why && fresh)
		why = callers_check_quotas(m->tree, s.script.ncallers, script_has(&s.script, OP_RESERVE), found);
	if (!why)
		why = bounds_check_size(m->tree, &s.script);
	if (why)
		sim_fail("%s: %s", when, why);
	found_free(found);
	sim_counts->checks++;
}

/* Looks twice: what is the same is one state, which the follower had all the while. false: it went on to another one. */
static bool find_one_state(struct mount *m, struct found found[CALLERS_MAX])
{
	struct found again[CALLERS_MAX];
	bool same;

	if (callers_find(m->tree, s.script.ncallers, true, found) || callers_find(m->tree, s.script.ncallers, true, again))
		sim_fail("a follower cannot be read");
	same = found_same(found, again);
	found_free(again);
	return same;
}

/* What a follower shows is a state that there was. */
void sim_follow(void)
{
	struct found found[CALLERS_MAX];
	const char *why = NULL;
	struct mount m;
	bool same = false;

	if (mount_as(&m, true))
		return; /* the writer may have been faster */
	for (unsigned k = 0; k < FOLLOW_TRIES && !same; k++) {
		same = find_one_state(&m, found);
		if (same)
			why = model_judge(found, MODEL_PAST);
		if (why)
			sim_fail("a follower: %s", why);
		found_free(found);
	}
	tree_close(m.tree);
	store_close(m.store);
}

/* What spillctl check finds. */
static void probe(const char *when)
{
	static char text[4000];

	sim_counts->probes++;
	if (!probe_check(s.disk, text, sizeof(text)))
		sim_fail("%s: spillctl check: %s", when, text);
}

/* Nothing of what is scratch is left. */
static void look_for_leftovers(void)
{
	uint64_t words[32], tag;
	const char *why;
	unsigned n = 0;

	for (unsigned i = 0; i < s.script.nops && n < 32; i++) {
		const struct op *o = &s.script.op[i];

		tag = o->tag;
		if (o->slot / 3 == CLASS_SCRATCH && (o->kind == OP_WRITE || o->kind == OP_APPEND || o->kind == OP_UPLOAD) && o->len >= sizeof(*words))
			words[n++] = sim_random(&tag);
	}
	why = script_has_scratch(&s.script) ? probe_leftovers(s.disk, words, n) : NULL;
	if (why)
		sim_fail("at last: %s", why);
}

/* A flipped bit is found, or harms nothing: what can be read is what was written. */
static void flip(void)
{
	static struct found found[CALLERS_MAX];
	const char *why;
	struct mount m;

	if (!probe_flip(s.disk, &s.random))
		return;
	sim_counts->flips++;
	if (mount_store(&m))
		return;
	why = callers_find(m.tree, s.script.ncallers, true, found) ? NULL : model_judge(found, MODEL_NEW);
	if (why)
		sim_fail("with a flipped bit: %s", why);
	found_free(found);
	unmount_store(&m);
}

void sim_fill(uint32_t tag)
{
	uint64_t total, avail, left = (uint64_t)(tag / 2 % 1024) * 4096;
	struct io *f;

	if (!s.script.space_bytes || s.nrelieved || io_open(s.disk, FILLER, IO_CREATE, &f))
		return;
	if (io_truncate(f, 0) || io_space(s.disk, &total, &avail))
		sim_fail("io/mem");
	if (tag & 1 && avail > left && io_allocate(f, 0, avail - left))
		sim_fail("io/mem");
	io_close(f);
	if (!(tag & 1))
		io_unlink(s.disk, FILLER);
}

void sim_relieve(bool on)
{
	s.nrelieved += on ? 1 : -1u;
	if (s.script.space_bytes)
		io_mem_set_space(s.disk, s.script.space_bytes + (s.nrelieved ? RELIEF_BYTES : 0));
}

/* ---- cuts ---- */

static void cut(uint64_t change);

static const char *const after_paths[CLASSES] = { "buckets/after", "columns/after", "layers/after", "scratch/after" };
#define AFTER_BYTES 3000u

static void check_after(struct mount *m)
{
	unsigned char bytes[AFTER_BYTES], *got;
	size_t n;

	model_fill(77, bytes, sizeof(bytes));
	for (unsigned k = 0; k < DURABLE_CLASSES; k++) {
		if (client_read(m->tree, after_paths[k], &got, &n) || n != sizeof(bytes) || memcmp(got, bytes, n))
			sim_fail("after a cut %s does not keep what is written", after_paths[k]);
		free(got);
	}
}

/* A store that has been recovered works: something is written, and still there at the next mount. */
static void try_out(struct mount *m)
{
	unsigned char bytes[AFTER_BYTES];
	int err;

	model_fill(77, bytes, sizeof(bytes));
	for (unsigned k = 0; k < (m->scratch ? CLASSES : DURABLE_CLASSES); k++) {
		err = client_make(m->tree, after_paths[k], S_IFREG | 0644);
		if (!err || err == -EEXIST)
			err = client_write(m->tree, after_paths[k], bytes, sizeof(bytes), 0);
		if (err && !s.script.space_bytes && !s.script.size_bytes)
			sim_fail("after a cut %s cannot be written: %s", after_paths[k], strerror(-err));
		if (err)
			return;
	}
	err = tree_sync(m->tree);
	s.wrote_after = !err;
	if (!err)
		err = unmount_store(m);
	else
		unmount_store(m);
	if (err && !s.script.space_bytes)
		sim_fail("after a cut the store cannot be closed: %s", strerror(-err));
	must_mount(m, "after a cut and a life");
	check_after(m);
}

static void recover(void)
{
	uint64_t seed = sim_random(&s.random);
	static const int errors[] = { -EIO, -EIO, -EMFILE, -ENOMEM, -EINTR };
	struct disk_fault fault = { (enum disk_call)(seed % DISK_NCALLS), (seed >> 8) % 20 + 1, 1, errors[(seed >> 57) % 5], false };
	const char *why;
	struct mount m;

	if (fault.call == DISK_SYNC || fault.call == DISK_SYNC_DIR)
		fault.err = -EIO; /* as io/file.c has it */
	sched_begin(seed, (seed >> 52) % CALM_OF != 0);
	s.nrelieved = 0;
	disk_plan_fault(seed >> 16 & 7 ? NULL : &fault);
	s.depth++;
	s.recut_at = s.depth == 1 && (seed >> 20) % RECUT_ONE_IN == 0 ? (seed >> 24) % RECUT_MOST + 1 : 0;
	disk_on_cut(cut);
	if (io_mem_cut_power(s.disk, seed >> 32 & 3 ? seed : 0))
		sim_fail("io/mem");
	sim_fill(0);
	why = probe_head(s.disk, script_lacks_space(&s.script) || disk_has_failed());
	if (why)
		sim_fail("after a cut: %s", why);
	if (seed >> 44 & 1)
		sim_follow();
	if (!(seed >> 16 & 7)) {
		if (!mount_store(&m))
			unmount_store(&m);
		disk_plan_fault(NULL);
	}
	must_mount(&m, "after a cut");
	judge(&m, "after a cut", true);
	if (s.wrote_after)
		check_after(&m);
	if (s.depth > 1 || (seed >> 54) % TRY_ONE_IN == 0) {
		try_out(&m);
		judge(&m, "after a cut and a life", true);
	}
	unmount_store(&m);
	if ((seed >> 48) % PROBE_ONE_IN == 0)
		probe("after a cut");
}

static void *recover_thread(void *arg)
{
	recover();
	fflush(NULL);
	_exit(0);
	return arg;
}

/* The thread that has called may hold locks: the new life begins in another one, which holds none. */
static _Noreturn void live_on(uint64_t change)
{
	size_t n = strlen(s.where);
	pthread_t t;

	snprintf(s.where + n, sizeof(s.where) - n, ", cut at change %llu", (unsigned long long)change);
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* with the run whose time is over */
	sched_end();
	if (pthread_create(&t, NULL, recover_thread, NULL))
		_exit(2);
	for (;;)
		pause();
}

static void wait_for(pid_t pid)
{
	int status = 0;

	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		_exit(2);
	if (!status)
		return;
	if (WIFSIGNALED(status) && s.said)
		fprintf(s.said, "sim: seed %llu%s: signal %d\n", (unsigned long long)s.script.seed, s.where, WTERMSIG(status));
	_exit(1);
}

static bool is_cut_at(uint64_t change)
{
	if (s.depth)
		return s.recut_at == change;
	if (s.script.cut_at)
		return s.script.cut_at == change;
	return s.script.cut_every && sim_random(&s.random) % s.script.cut_every == 0;
}

static void cut(uint64_t change)
{
	pid_t pid;

	if (!is_cut_at(change))
		return;
	*(s.depth ? &sim_counts->recuts : &sim_counts->cuts) += 1;
	/* The same cut leaves the same, whatever was cut before. */
	s.random = s.script.seed * 0x9e3779b97f4a7c15ull + change * 31 + s.depth;
	fflush(NULL);
	pid = fork();
	if (!pid)
		live_on(change);
	wait_for(pid);
}

/* ---- a run ---- */

static void prepare_scratch(struct mount *m)
{
	sim_relieve(true);
	if (callers_prepare_scratch(m->tree, &s.script) && !s.script.size_bytes)
		sim_fail("the directories in scratch/ cannot be made");
	sim_relieve(false);
}

/* false: a remount has lost what was not committed; the model does not go back. */
static bool live(struct mount *m)
{
	const struct script *sc = &s.script;
	int failed;

	for (unsigned i = 0; i < sc->nops;) {
		i = callers_run(m->tree, sc, i);
		if (!script_breaks(sc))
			judge(m, "before it is closed", false);
		if (i >= sc->nops)
			break;
		failed = unmount_store(m);
		if (failed && !sc->fault.nth && !sc->space_bytes)
			sim_fail("the store cannot be closed");
		if (sc->fault.nth)
			disk_plan_fault(NULL);
		sim_fill(0);
		must_mount(m, "again");
		model_unmount();
		judge(m, "after a remount", true);
		prepare_scratch(m);
		if (failed || callers_have_ended())
			return false;
	}
	return true;
}

static void run(unsigned seconds)
{
	const struct script *sc = &s.script;
	struct mount m;
	bool whole;

	alarm(seconds);
	sqlite3_initialize();
	sqlite3_vfs_find(NULL)->xRandomness = seed_sqlite;
	sqlite3_randomness(0, NULL);
	sched_begin(sc->seed, false);
	s.random = sc->seed;
	if (io_mem_dir(&s.disk))
		sim_fail("io/mem");
	if (sc->space_bytes)
		io_mem_set_space(s.disk, sc->space_bytes);
	must_mount(&m, "at first");
	if (callers_prepare(m.tree, sc))
		sim_fail("the directories cannot be made");
	model_begin(sc->ncallers, script_lacks_space(sc) || script_is_bound(sc));
	disk_plan_fault(sc->fault.nth ? &sc->fault : NULL);
	disk_on_cut(cut);
	whole = live(&m);
	disk_plan_fault(NULL);
	sim_fill(0);
	io_mem_set_space(s.disk, MUCH_SPACE);
	if (!script_breaks(sc) && tree_sync(m.tree))
		sim_fail("when nothing is short, the store cannot be synced");
	unmount_store(&m);
	disk_on_cut(NULL);
	if (whole && !script_breaks(sc))
		model_promise_all();
	must_mount(&m, "at last");
	judge(&m, "at last", true);
	unmount_store(&m);
	look_for_leftovers();
	probe("at last");
	flip();
	sched_end();
}

bool sim_run(const struct script *script, bool quiet, unsigned seconds, uint64_t *trace_out)
{
	int status, pipes[2];
	uint64_t trace = 0;
	pid_t pid;

	if (pipe(pipes))
		_exit(2);
	sim_counts->runs++;
	fflush(NULL);
	pid = fork();
	if (!pid) {
		s.script = *script;
		s.said = quiet ? NULL : fdopen(dup(STDERR_FILENO), "w");
		log_init(LOG_TO_STDERR, LOG_LEVEL_DEBUG);
		if (!getenv("SIM_LOG") && !freopen("/dev/null", "w", stderr))
			_exit(2);
		run(seconds);
		trace = sched_trace();
		_exit(write(pipes[1], &trace, sizeof(trace)) != sizeof(trace));
	}
	close(pipes[1]);
	if (read(pipes[0], &trace, sizeof(trace)) == sizeof(trace) && trace_out)
		*trace_out = trace;
	close(pipes[0]);
	if (waitpid(pid, &status, 0) != pid)
		_exit(2);
	if (WIFSIGNALED(status) && !quiet)
		fprintf(stderr, "sim: seed %llu: signal %d\n", (unsigned long long)script->seed, WTERMSIG(status));
	return !status;
}
