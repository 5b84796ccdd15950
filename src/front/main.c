/*
 * spillfs: mounts a store, or scratch alone, and serves it.
 *
 * Invariants:
 * 1. The store's directory is opened before anything is mounted: the mount may cover it.
 * 2. Threads start only after the forks, of the daemon and of its warden, which come after every check that needs no store.
 *    Privileges that serving does not need are given up between the two.
 * 3. Everything is closed in the reverse order of its opening: mount, front, tree, store; a failure is an exit code.
 */

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "front/budget.h"
#include "front/confine.h"
#include "front/daemon.h"
#include "front/front.h"
#include "front/mount.h"
#include "front/options.h"
#include "front/stop.h"
#include "front/warden.h"
#include "io/io.h"
#include "spillfs.h"
#include "store/disklist.h"
#include "store/meta.h"
#include "store/store.h"
#include "tree/tree.h"
#include "util/err.h"
#include "util/log.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "unknown"
#endif

#define FUSE_SUPER_MAGIC 0x65735546
/* With commit=0, scratch/ gives space back so often all the same. */
#define SCRATCH_SECONDS 5u
#define SCRATCH_SHOWN "scratch/" /* in what its store complains of */
#define LOOP_IDLE_THREADS 10
#define LOOP_MAX_THREADS 16
#define READ_AHEAD_BYTES (512u << 10)
/* The daemon's own pages and those of other file systems need the rest. */
#define DIRTY_PERCENT 20u

struct program {
	struct options options;
	struct budget budget;
	struct daemon daemon;
	struct warden warden;
	struct mount mount;
	char *store_path;
	int store_fd; /* -1 once store_open has it */
	int scratch_fd; /* the same directory, for scratch/ */
	struct store_disk home; /* the same */
	char *disks[DISKLIST_MAX]; /* further directories, of -o pool */
	size_t ndisks;
	struct stop *stop;
	struct store *store, *scratch;
	struct tree *tree;
	struct front *front;
};

/* The directory of a live mount is no store: the daemon behind it has that. */
static int check_not_mount(struct program *p)
{
	struct statfs fs;
	struct spillfs_info info = { 0 };
	int err;

	if (fstatfs(p->store_fd, &fs) < 0 || (unsigned long)fs.f_type != FUSE_SUPER_MAGIC)
		return EXIT_OK;
	err = ioctl(p->store_fd, SPILLFS_IOC_INFO, &info) < 0 ? -errno : 0;
	if (err == 0)
		return daemon_fail(&p->daemon, EXIT_HELD, "%s: already mounted, held by pid %llu",
				   p->store_path, (unsigned long long)info.pid);
	if (err == -EPERM)
		return daemon_fail(&p->daemon, EXIT_HELD, "%s: already mounted, held by another user's daemon",
				   p->store_path);
	return EXIT_OK;
}

/* The directories of -o pool=DIR:DIR, as absolute paths. */
static int resolve_disks(struct program *p)
{
	char *list = p->options.pool_dirs, why[512];
	int err;

	for (char *dir = list; dir; dir = list) {
		list = strchr(dir, ':');
		if (list)
			*list++ = '\0';
		if (!*dir)
			return daemon_fail(&p->daemon, EXIT_USAGE, "option pool: an empty name among the directories");
		if (p->ndisks == DISKLIST_MAX)
			return daemon_fail(&p->daemon, EXIT_USAGE, "option pool: more than %u directories", DISKLIST_MAX);
		err = mount_resolve_dir(dir, &p->disks[p->ndisks], why, sizeof(why));
		if (err < 0)
			return daemon_fail(&p->daemon, err == -ENOTDIR ? EXIT_NOT_STORE : EXIT_IO, "pool directory %s", why);
		p->ndisks++;
	}
	return EXIT_OK;
}

/* Everything that can be checked without opening the store. */
static int check_paths(struct program *p)
{
	const struct options *o = &p->options;
	struct stat st;
	char why[512];
	int err, code;

	if (daemon_check_limits(why, sizeof(why)) < 0)
		return daemon_fail(&p->daemon, EXIT_IO, "%s", why);
	if (mount_resolve_dir(o->mountpoint, &p->mount.path, why, sizeof(why)) < 0)
		return daemon_fail(&p->daemon, EXIT_MOUNTPOINT, "mountpoint %s", why);
	err = mount_resolve_dir(o->store ? o->store : o->mountpoint, &p->store_path, why, sizeof(why));
	if (err < 0)
		return daemon_fail(&p->daemon, err == -ENOTDIR ? EXIT_NOT_STORE : EXIT_IO, "store %s", why);
	p->store_fd = open(p->store_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (p->store_fd < 0)
		return daemon_fail(&p->daemon, EXIT_IO, "store %s: %s", p->store_path, strerror(errno));
	p->scratch_fd = fcntl(p->store_fd, F_DUPFD_CLOEXEC, 0);
	if (p->scratch_fd < 0)
		return daemon_fail(&p->daemon, EXIT_IO, "store %s: %s", p->store_path, strerror(errno));
	if (fstat(p->store_fd, &st) < 0)
		return daemon_fail(&p->daemon, EXIT_IO, "store %s: %s", p->store_path, strerror(errno));
	p->home = (struct store_disk){ .device = st.st_dev, .inode = st.st_ino, .owner = st.st_uid };
	code = check_not_mount(p);
	if (code == EXIT_OK)
		code = resolve_disks(p);
	if (code != EXIT_OK)
		return code;
	if (mount_check_fuse(why, sizeof(why)) < 0)
		return daemon_fail(&p->daemon, EXIT_FUSE, "%s", why);
	return EXIT_OK;
}

/* For tests of crashes every change of the store goes through io/fault. */
static int inject_faults(struct program *p, struct io_dir **dir, struct store_refusal *why)
{
	const char *text = getenv("SPILLFS_FAULT");
	int err;

	if (!text)
		return 0;
	err = io_fault_dir(*dir, dir);
	if (!err)
		err = io_fault_arm_by(*dir, text, getenv("SPILLFS_FAULT_ARM"));
	if (err)
		snprintf(why->text, sizeof(why->text), "%s: fault '%s': %s", p->store_path, text, strerror(-err));
	else
		log_warn("fault: '%s', for a test", text);
	return err;
}

static struct store_config config_of(const struct program *p)
{
	const struct options *o = &p->options;

	return (struct store_config){
		.backing = (enum io_backing)o->backing,
		.leases = (unsigned)o->leases,
		.lease_bytes = (size_t)o->lease_size,
		.lease_wait = (enum io_lease_wait)(o->lease_wait + 1),
		.pool_files = (unsigned)o->pool,
		.threads = (unsigned)o->threads,
		.commit_seconds = (unsigned)o->commit,
		.layer_bytes = (uint64_t)o->layer,
		.keep = (unsigned)o->keep,
		.compact_bytes = (uint64_t)o->compact,
		.follow = o->ro,
		.size_bytes = (uint64_t)o->size,
		.cache_bytes = p->budget.cache_bytes,
		.dirty_bytes = p->budget.dirty_bytes,
		.encrypts = o->encrypt,
	};
}

static int open_store(struct program *p)
{
	struct store_config config = config_of(p);
	struct store_refusal why = { "" };
	int fd = p->store_fd, err;
	struct io_dir *dir;

	p->store_fd = -1;
	config.home = p->home;
	config.disks = (const char *const *)p->disks;
	config.ndisks = p->ndisks;
	err = store_directory(fd, &config, &dir);
	if (!err) {
		err = inject_faults(p, &dir, &why);
		if (err)
			io_dir_close(dir);
		else
			err = store_open(dir, p->store_path, &config, &p->store, &why);
	}
	if (!err)
		return EXIT_OK;
	if (!why.text[0])
		snprintf(why.text, sizeof(why.text), "cannot open the store %s: %s", p->store_path,
			 strerror(-err));
	return daemon_fail(&p->daemon,
			   err == STORE_EHELD ? EXIT_HELD :
			   err == STORE_ENOTSTORE ? EXIT_NOT_STORE :
			   err == STORE_ENEWER ? EXIT_NEWER : EXIT_IO, "%s", why.text);
}

/* The directory of scratch/'s store: memory, and behind it a file without a name in the directory of the store. */
static int scratch_directory(struct program *p, const struct store_config *config, struct io_dir **out)
{
	const struct io_spill_config spill = { .memory_bytes = config->spill_bytes, .encrypts = config->encrypts };
	int fd = p->scratch_fd, err;
	struct io_dir *below;

	p->scratch_fd = -1;
	err = store_directory(fd, config, &below);
	if (err)
		return err;
	io_file_try_direct(below);
	err = io_spill_dir(below, &spill, out);
	if (err)
		io_dir_close(below);
	return err;
}

/* The store of scratch/, beside another whose numbers are below `above`, or alone (0). */
static int open_scratch_store(struct program *p, uint64_t above)
{
	struct store_config config = config_of(p);
	struct store_refusal why = { "" };
	struct io_dir *dir;
	int err;

	config.scratch = true;
	config.above = above;
	if (!config.commit_seconds)
		config.commit_seconds = SCRATCH_SECONDS;
	config.spill_bytes = p->budget.spill_bytes;
	err = scratch_directory(p, &config, &dir);
	if (err == -EPERM && config.encrypts)
		return daemon_fail(&p->daemon, EXIT_IO, "encrypt=ephemeral: no memory can be locked for the key; allow 64 KiB (ulimit -l, LimitMEMLOCK=)");
	if (!err)
		err = store_open(dir, SCRATCH_SHOWN, &config, &p->scratch, &why);
	if (!err)
		return EXIT_OK;
	return daemon_fail(&p->daemon, EXIT_IO, "cannot make scratch/ in %s: %s", p->store_path, why.text[0] ? why.text : err_text(err));
}

/* With scratch-only there is no other store. */
static int open_trees(struct program *p)
{
	bool alone = p->options.scratch_only;
	int code, err;

	budget_of(&p->options, &p->budget);
	code = alone ? open_scratch_store(p, 0) : open_store(p);
	if (code != EXIT_OK)
		return code;
	err = tree_open(alone ? p->scratch : p->store, &p->tree);
	if (err < 0)
		return daemon_fail(&p->daemon, EXIT_IO, "cannot read the store %s: %s", p->store_path, err_text(err));
	if (alone || p->options.ro)
		return EXIT_OK;
	code = open_scratch_store(p, META_INO_SCRATCH);
	if (code != EXIT_OK)
		return code;
	err = tree_add_scratch(p->tree, p->scratch);
	return err ? daemon_fail(&p->daemon, EXIT_IO, "cannot make scratch/ in %s: %s", p->store_path, err_text(err)) : EXIT_OK;
}

static int open_front(struct program *p)
{
	const struct options *o = &p->options;
	const struct front_config config = {
		.passthrough = o->passthrough,
		.writeback = o->writeback && !o->passthrough && !o->ro, /* a follower's sizes change behind the kernel, which would stick to its own */
		.max_read_bytes = (unsigned)o->max_read,
		.set_uid = o->uid >= 0, .uid = (uid_t)o->uid,
		.set_gid = o->gid >= 0, .gid = (gid_t)o->gid,
		.set_umask = o->umask >= 0, .umask = (mode_t)o->umask,
	};
	struct fuse_args args;
	int err = mount_args(o, p->store_path, &args);

	if (err == 0) {
		err = front_new(&args, p->tree, &config, &p->front);
		fuse_opt_free_args(&args);
	}
	if (err < 0)
		return daemon_fail(&p->daemon, EXIT_FUSE, "cannot start a FUSE session: %s", strerror(-err));
	return EXIT_OK;
}

/* Whether the mount serves is known when its first request is answered, which sets it up. */
static int serve_first(struct fuse_session *se)
{
	struct fuse_buf buf = { 0 };
	int n = fuse_session_receive_buf(se, &buf);

	if (n > 0)
		fuse_session_process_buf(se, &buf);
	free(buf.mem);
	return n < 0 ? n : n == 0 || fuse_session_exited(se) ? -EPROTO : 0;
}

/* Reads of a few requests at once hide the way through the daemon. A user who may not have that by default goes without. */
static void read_ahead(struct program *p)
{
	int64_t asked = p->options.readahead;
	int err = mount_read_ahead(&p->mount, asked >= 0 ? (size_t)asked : READ_AHEAD_BYTES);

	if (err < 0 && asked >= 0)
		log_warn("readahead=%lld is not set, the kernel's own is used: %s", (long long)asked, strerror(-err));
}

/* With a hundredth, which FUSE has by default, a program that writes many files in turns waits, and what is written back is small
 * pieces. A user who may not have more goes without. */
static void gather_more(struct program *p)
{
	int err = p->options.ro ? 0 : mount_dirty_share(&p->mount, DIRTY_PERCENT);

	if (err < 0)
		log_debug("the kernel holds little back of what is written: %s", strerror(-err));
}

/* Without it the mount serves as well. */
static void has_warden(struct program *p, int err)
{
	if (!err)
		return;
	log_warn("no warden: programs that use the mount may hang if the daemon is killed: %s", strerror(-err));
	warden_end(&p->warden);
}

/* From the fork to a mount that serves. */
static int start(struct program *p)
{
	char why[512];
	int code, err;

	err = stop_new(&p->warden, &p->stop);
	if (err < 0)
		return daemon_fail(&p->daemon, EXIT_IO, "cannot start a thread: %s", strerror(-err));
	code = open_trees(p);
	if (code == EXIT_OK)
		code = open_front(p);
	if (code != EXIT_OK)
		return code;
	if (mount_attach(&p->mount, front_session(p->front), why, sizeof(why)) < 0)
		return daemon_fail(&p->daemon, EXIT_FUSE, "%s", why);
	if (p->warden.pid)
		has_warden(p, p->mount.id < 0 ? -ENOENT : warden_arm(&p->warden, p->mount.dev));
	err = front_handshake(p->front);
	if (!err)
		err = serve_first(front_session(p->front));
	if (err < 0)
		return daemon_fail(&p->daemon, EXIT_FUSE, "the kernel does not take the mount: %s", strerror(-err));
	front_started(p->front);
	read_ahead(p);
	gather_more(p);
	confine_calls();
	stop_arm(p->stop, p->tree, p->front, &p->mount);
	if (p->store)
		log_info("store %s mounted on %s", p->store_path, p->mount.path);
	else
		log_info("scratch mounted on %s, with room in %s", p->mount.path, p->store_path);
	daemon_ready(&p->daemon);
	return EXIT_OK;
}

/* How a session's loop ends when it is told to: by an unmount, a second signal, or an abort of the connection (umount -f). */
static int loop_result(int err)
{
	return err == -EINTR || err == -ECONNABORTED ? 0 : err;
}

static int serve(struct program *p)
{
	struct fuse_session *se = front_session(p->front);
	struct fuse_loop_config *config;
	int err;

	tree_served_by(p->tree, p->options.single ? 1 : LOOP_MAX_THREADS);
	if (p->options.single)
		return loop_result(fuse_session_loop(se));
	config = fuse_loop_cfg_create();
	if (!config)
		return -ENOMEM;
	fuse_loop_cfg_set_clone_fd(config, 1);
	fuse_loop_cfg_set_idle_threads(config, LOOP_IDLE_THREADS);
	fuse_loop_cfg_set_max_threads(config, LOOP_MAX_THREADS);
	err = fuse_session_loop_mt(se, config);
	fuse_loop_cfg_destroy(config);
	return loop_result(err);
}

/* Closes whatever start has opened. */
static int finish(struct program *p)
{
	int err = 0;

	stop_free(p->stop);
	if (p->store)
		store_closing(p->store);
	if (p->front) {
		mount_end(&p->mount, front_session(p->front));
		front_free(p->front);
	}
	if (p->tree)
		tree_close(p->tree);
	if (p->store)
		err = store_close(p->store);
	if (p->scratch)
		store_close(p->scratch);
	if (err < 0)
		log_error("cannot close the store %s: %s", p->store_path, strerror(-err));
	if (p->store_fd >= 0)
		close(p->store_fd);
	if (p->scratch_fd >= 0)
		close(p->scratch_fd);
	for (size_t i = 0; i < p->ndisks; i++)
		free(p->disks[i]);
	free(p->store_path);
	free(p->mount.path);
	warden_end(&p->warden);
	return err < 0 ? EXIT_IO : EXIT_OK;
}

static int run(struct program *p)
{
	int code = check_paths(p), err;

	if (code == EXIT_OK) {
		err = daemon_start(p->options.foreground, &p->daemon);
		if (err < 0)
			code = daemon_fail(&p->daemon, EXIT_IO, "cannot fork: %s", strerror(-err));
	}
	if (code != EXIT_OK) {
		finish(p);
		return code;
	}
	log_init(p->options.foreground ? LOG_TO_STDERR : LOG_TO_SYSLOG,
		 p->options.debug ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
	mount_init_log();
	confine_privileges();
	has_warden(p, warden_start(&p->warden));
	code = start(p);
	if (code != EXIT_OK) {
		finish(p);
		return code;
	}
	err = serve(p);
	if (err < 0)
		log_error("serving %s: %s", p->mount.path, strerror(-err));
	daemon_stopping();
	code = finish(p);
	return err < 0 ? EXIT_IO : code;
}

int main(int argc, char **argv)
{
	struct program p = { .daemon = { -1 }, .mount = { .id = -1 }, .store_fd = -1, .scratch_fd = -1 };
	char why[512];
	int code = EXIT_OK;

	daemon_prepare();
	if (options_parse(argc, argv, &p.options, why, sizeof(why)) < 0)
		return daemon_fail(&p.daemon, EXIT_USAGE, "%s", why);
	if (p.options.help)
		options_print_help(stdout);
	else if (p.options.version)
		printf("spillfs %s (store format %u, libfuse %s)\n", PACKAGE_VERSION, STORE_FORMAT_VERSION,
		       fuse_pkgversion());
	else
		code = run(&p);
	options_fini(&p.options);
	return code;
}
