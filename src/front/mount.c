/*
 * Mounting and unmounting of the session.
 *
 * Invariants:
 * 1. Nothing here opens or stats a path inside our own live mount (it would wait for ourselves).
 * 2. A mount is only detached when its kernel id is the one that we made, or its daemon is dead: the
 *    mountpoint may well be another file system's mountpoint too.
 * 3. The connection is cut before a mount is removed at the end, so that the kernel never waits for
 *    a daemon that no longer answers.
 */
#include "front/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "front/cgroup.h"
#include "front/options.h"
#include "util/log.h"
#include "util/mnt.h"

#define DEFAULT_SHARE 1 /* the kernel's, in percent */
#define CGROUP_SHARE 8
#define BDI_PATH_MAX 80

/* The last complaint of libfuse. Written and read while mounting, by one thread. */
static struct {
	bool keep;
	char text[256];
} complaint;

static void log_libfuse(enum fuse_log_level level, const char *fmt, va_list ap)
{
	char text[1024];
	size_t len;

	vsnprintf(text, sizeof(text), fmt, ap);
	len = strcspn(text, "\n");
	text[len] = '\0';
	if (!len)
		return;
	if (complaint.keep && level <= FUSE_LOG_WARNING) {
		snprintf(complaint.text, sizeof(complaint.text), "%.*s", (int)sizeof(complaint.text) - 1, text);
		return;
	}
	log_write(level <= FUSE_LOG_ERR ? LOG_LEVEL_ERROR : level <= FUSE_LOG_WARNING ? LOG_LEVEL_WARN :
		  level <= FUSE_LOG_INFO ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG, "%s", text);
}

void mount_init_log(void)
{
	fuse_set_log_func(log_libfuse);
}

/* The path of something that cannot be looked into: its parent resolved, its name as it is. */
static int resolve_dead(const char *shown, char out[PATH_MAX])
{
	char copy[PATH_MAX], *slash, parent[PATH_MAX];
	size_t len = strlen(shown);

	if (len >= sizeof(copy))
		return -ENAMETOOLONG;
	memcpy(copy, shown, len + 1);
	while (len > 1 && copy[len - 1] == '/')
		copy[--len] = '\0';
	slash = strrchr(copy, '/');
	if (slash)
		*slash = '\0';
	if (!realpath(!slash ? "." : slash == copy ? "/" : copy, parent))
		return -errno;
	len = (size_t)snprintf(out, PATH_MAX, "%s/%s", strcmp(parent, "/") ? parent : "",
			       slash ? slash + 1 : copy);
	return len < PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* shown answers ENOTCONN: detaches the dead spillfs there. */
static int clear_stale(const char *shown, char *why, size_t why_len)
{
	char path[PATH_MAX], said[256];
	struct mnt m;
	int err = resolve_dead(shown, path);

	if (err == 0)
		err = mnt_find(path, &m);
	if (err == 0 && strcmp(m.type, MNT_TYPE))
		err = -ENOTCONN;
	if (err < 0) {
		snprintf(why, why_len, "%s: a dead mount that is not of spillfs is in the way", shown);
		return err;
	}
	err = mnt_unmount(path, true, said, sizeof(said));
	if (err < 0)
		snprintf(why, why_len, "%s: cannot detach the mount of a dead daemon: %s", shown, said);
	else
		fprintf(stderr, "spillfs: %s: detached the mount of a dead daemon\n", shown);
	return err;
}

int mount_resolve_dir(const char *shown, char **out, char *why, size_t why_len)
{
	struct stat st;
	char *path;
	int err;

	while ((err = mnt_ask(shown)) == -ENOTCONN) {
		err = clear_stale(shown, why, why_len);
		if (err)
			return err;
	}
	if (err == 0 && stat(shown, &st) < 0)
		err = -errno;
	if (err) {
		snprintf(why, why_len, "%s: %s", shown, strerror(-err));
		return err;
	}
	if (!S_ISDIR(st.st_mode)) {
		snprintf(why, why_len, "%s: not a directory", shown);
		return -ENOTDIR;
	}
	path = realpath(shown, NULL);
	if (!path) {
		err = -errno;
		snprintf(why, why_len, "%s: %s", shown, strerror(-err));
		return err;
	}
	*out = path;
	return 0;
}

int mount_check_fuse(char *why, size_t why_len)
{
	if (access("/dev/fuse", F_OK) == 0)
		return 0;
	snprintf(why, why_len, "FUSE is not available: /dev/fuse: %s (try 'modprobe fuse')", strerror(errno));
	return -ENODEV;
}

/* Adds "name=value" or "name" to the list, with commas and backslashes escaped. */
static int add_option(char **list, const char *name, const char *value)
{
	char *text;
	int err;

	if (asprintf(&text, "%s%s%s", name, value ? "=" : "", value ? value : "") < 0)
		return -ENOMEM;
	err = fuse_opt_add_opt_escaped(list, text) < 0 ? -ENOMEM : 0;
	free(text);
	return err;
}

int mount_args(const struct options *o, const char *source, struct fuse_args *out)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	bool everyone = o->allow_other || (geteuid() == 0 && !o->allow_root);
	char *list = NULL, max_read[24];
	int err;

	err = add_option(&list, "fsname", o->fsname ? o->fsname : source);
	if (err == 0)
		err = add_option(&list, "subtype", o->subtype ? o->subtype : "spillfs");
	if (err == 0)
		err = add_option(&list, "default_permissions", NULL);
	if (err == 0 && everyone)
		err = add_option(&list, "allow_other", NULL);
	if (err == 0 && o->allow_root)
		err = add_option(&list, "allow_root", NULL);
	if (err == 0 && o->ro)
		err = add_option(&list, "ro", NULL);
	snprintf(max_read, sizeof(max_read), "%lld", (long long)o->max_read);
	if (err == 0 && o->max_read)
		err = add_option(&list, "max_read", max_read);
	for (size_t i = 0; err == 0 && i < o->npassed; i++)
		err = add_option(&list, o->passed[i], NULL);
	if (err == 0 && (fuse_opt_add_arg(&args, "spillfs") < 0 || fuse_opt_add_arg(&args, "-o") < 0 ||
			 fuse_opt_add_arg(&args, list) < 0 || (o->debug && fuse_opt_add_arg(&args, "-d") < 0)))
		err = -ENOMEM;
	free(list);
	if (err < 0)
		fuse_opt_free_args(&args);
	else
		*out = args;
	return err;
}

/* fuse_session_mount with stderr kept in a file: fusermount3 speaks there. */
static int mount_quietly(struct fuse_session *se, const char *path)
{
	char text[sizeof(complaint.text)];
	int said = memfd_create("fusermount3", MFD_CLOEXEC);
	int saved = fcntl(2, F_DUPFD_CLOEXEC, 3);
	ssize_t n = 0;
	int err;

	complaint.keep = true;
	complaint.text[0] = '\0';
	if (said >= 0 && saved >= 0)
		dup2(said, 2);
	err = fuse_session_mount(se, path) == 0 ? 0 : -EIO;
	complaint.keep = false;
	if (said >= 0 && saved >= 0) {
		dup2(saved, 2);
		n = pread(said, text, sizeof(text) - 1, 0);
	}
	if (n > 0) {
		text[n] = '\0';
		text[strcspn(text, "\n")] = '\0';
		memcpy(complaint.text, text, sizeof(text));
	}
	close(said);
	close(saved);
	if (err == 0 && complaint.text[0])
		log_warn("%s", complaint.text);
	return err;
}

/* The number of the session's connection, which is that of the mounted device. -ENOENT: Linux before 6.16 does not tell. */
static int connection_of(struct fuse_session *se, unsigned *out)
{
	char path[40], line[80];
	int err = -ENOENT;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fuse_session_fd(se));
	f = fopen(path, "re");
	while (f && err && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "fuse_connection: %u", out) == 1)
			err = 0;
	}
	if (f)
		fclose(f);
	return err;
}

/* Somebody may have mounted something over it at once. Where the kernel does not tell which is ours, it is known if only one is new, which
 * has several lines where the mount is seen through a shared one as well. */
static int find_ours(const struct mount *m, struct fuse_session *se, unsigned before, struct mnt *out)
{
	unsigned connection;
	int err;

	if (!connection_of(se, &connection))
		return mnt_find_dev(m->path, makedev(0, connection), out);
	err = mnt_find(m->path, out);
	if (err)
		return err;
	return mnt_count(m->path, 0) == before + mnt_count(m->path, out->dev) ? 0 : -ENOENT;
}

int mount_attach(struct mount *m, struct fuse_session *se, char *why, size_t why_len)
{
	unsigned before = mnt_count(m->path, 0);
	struct mnt found;

	if (mount_quietly(se, m->path) < 0) {
		snprintf(why, why_len, "cannot mount on %s: %s", m->path,
			 complaint.text[0] ? complaint.text : "fuse_session_mount failed");
		return -EIO;
	}
	m->id = -1;
	if (find_ours(m, se, before, &found) == 0) {
		m->id = found.id;
		m->dev = found.dev;
	}
	return 0;
}

static void bdi_path(const struct mount *m, const char *name, char out[BDI_PATH_MAX])
{
	snprintf(out, BDI_PATH_MAX, "/sys/class/bdi/%u:%u/%s", major(m->dev), minor(m->dev), name);
}

/* One of the kernel's settings for the mount's pages. */
static int set_bdi(const struct mount *m, const char *name, size_t value)
{
	char path[BDI_PATH_MAX], text[24];
	int fd, len, err = 0;

	if (m->id < 0)
		return -ENOENT;
	bdi_path(m, name, path);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	len = snprintf(text, sizeof(text), "%zu", value);
	if (write(fd, text, (size_t)len) != len)
		err = -errno;
	close(fd);
	return err;
}

int mount_read_ahead(const struct mount *m, size_t bytes)
{
	return set_bdi(m, "read_ahead_kb", bytes / 1024);
}

int mount_dirty_share(const struct mount *m, unsigned percent)
{
	char path[BDI_PATH_MAX];
	uint64_t most, now = 0;
	int err = set_bdi(m, "max_ratio", percent);

	if (err)
		return err;
	most = cgroup_memory_bytes() / CGROUP_SHARE;
	if (most >= cgroup_machine_bytes() / CGROUP_SHARE)
		return 0;
	/* Pages that programs of the same control group have changed must leave it memory to write them with. */
	bdi_path(m, "max_bytes", path);
	err = cgroup_number(path, &now);
	if (!err && now > most)
		err = set_bdi(m, "max_bytes", (size_t)most);
	return err ? set_bdi(m, "max_ratio", DEFAULT_SHARE) : 0;
}

int mount_detach(struct mount *m)
{
	char said[256];
	struct mnt top;
	int err;

	if (m->id < 0)
		return -ENOENT;
	if (!mnt_attached(m->id))
		return 0;
	if (mnt_find(m->path, &top) < 0 || top.id != m->id) {
		log_warn("%s: another file system is mounted over it", m->path);
		return -EBUSY;
	}
	err = mnt_unmount(m->path, true, said, sizeof(said));
	if (err < 0)
		log_error("cannot unmount %s: %s", m->path, said);
	return err;
}

/*
 * fuse_session_unmount frees the session's mount state, but would also unmount whatever is mounted
 * on the path unless the connection looks dead. Our descriptor is therefore replaced by one that
 * does: a pipe without a reader.
 */
static void cut_connection(struct fuse_session *se)
{
	int fds[2];

	if (fuse_session_fd(se) < 0 || pipe2(fds, O_CLOEXEC) < 0)
		return;
	close(fds[0]);
	dup3(fds[1], fuse_session_fd(se), O_CLOEXEC);
	close(fds[1]);
	fuse_session_unmount(se);
}

void mount_end(struct mount *m, struct fuse_session *se)
{
	cut_connection(se);
	mount_detach(m);
	m->id = -1;
}
