/*
 * Names below the directory of a store, which may have been made by an enemy: no symbolic link is followed, whatever stands
 * above the directory is out of reach, and nothing but regular files and directories is opened: opening a FIFO waits, and opening
 * a device can do anything. The directory itself is the user's choice, with whatever links lead to it.
 *
 * Paths are relative to dirfd, without "..". All functions return 0 or -errno and are thread-safe. What stands where a file or a
 * directory should be, and is none, is damage: err_corrupt names it, and the answer is -EUCLEAN.
 */
#ifndef SPILLFS_IO_BENEATH_H
#define SPILLFS_IO_BENEATH_H

#include <sys/stat.h>

/* As openat; files are made with mode 0600, descriptors are closed by exec. With O_DIRECTORY it must be a directory, else a regular file;
 * one that is opened for writing has a single name, so that no file outside changes with it (-EUCLEAN). */
int beneath_open(int dirfd, const char *path, int oflags, int *out);
/* A file without a name in dirfd, for reading and writing, which ends with its last descriptor; where the file system knows none it has a name
 * for a moment. */
int beneath_open_unnamed(int dirfd, int *out);
/* Opens once more what is there by that name, if it is still the file of dev and ino, however many names it has; -ESTALE. */
int beneath_reopen(int dirfd, const char *path, int oflags, dev_t dev, ino_t ino, int *out);
/* The directory in which the last part of path stands, and that part. *fd is dirfd where path has one part; beneath_parent_end
 * gives it back. */
int beneath_parent(int dirfd, const char *path, int *fd, const char **name);
void beneath_parent_end(int dirfd, int fd);

/* "symbolic link" and the like. */
const char *beneath_kind(mode_t mode);
/* The facts of what is there, whatever it is. */
int beneath_stat(int dirfd, const char *path, struct stat *out);
int beneath_unlink(int dirfd, const char *path);
int beneath_rename(int dirfd, const char *from, const char *to);
/* The same with beneath_parent's results; `path` and `to` are for reports. */
int beneath_unlink_at(int fd, const char *name, const char *path);
int beneath_rename_at(int from_fd, const char *from_name, int to_fd, const char *to_name, const char *to);
/* 0 if it is there. */
int beneath_mkdir(int dirfd, const char *path);

#endif
