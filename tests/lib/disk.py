"""Faults of the disk below a store, an ext4 of its own: disk.py COMMAND DIR.

    cut DIR     the power fails: nothing goes to the disk any more, not even ext4's journal (FS_IOC_SHUTDOWN)
    error DIR   ext4 finds an error, and does what errors= says: remount-ro
    dead MNT    every operation on a mount whose disk is gone ends, with an error that one expects or with what is in memory"""
import errno
import fcntl
import os
import struct
import sys

FS_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2


def cut(path):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(fd, FS_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
    finally:
        os.close(fd)


def error(path):
    device = os.stat(path).st_dev
    name = os.path.basename(os.readlink("/sys/dev/block/%d:%d" % (os.major(device), os.minor(device))))
    with open("/sys/fs/ext4/%s/trigger_fs_error" % name, "w") as f:
        f.write("a test\n")


def write_and_sync(path):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        os.write(fd, os.urandom(300000))
        os.fsync(fd)
    finally:
        os.close(fd)


def changes(d):
    """Whatever would have to be on the disk when it has returned."""
    yield "write and fsync", lambda: write_and_sync(d + "/old")
    yield "create and fsync", lambda: write_and_sync(d + "/created")
    yield "sync", lambda: write_and_sync(d + "/old")


def others(d):
    """They may be in memory alone."""
    yield "stat", lambda: os.stat(d + "/old")
    yield "listing", lambda: os.listdir(d)
    yield "mkdir", lambda: os.mkdir(d + "/dir")
    yield "rename", lambda: os.rename(d + "/old", d + "/renamed")
    yield "truncate", lambda: os.truncate(d + "/cut", 1000)
    yield "unlink", lambda: os.unlink(d + "/gone")
    yield "setxattr", lambda: os.setxattr(d + "/cut", "user.a", b"b")
    yield "statvfs", lambda: os.statvfs(d)


def dead(mnt):
    for kind in ("buckets", "columns", "layers"):
        d = os.path.join(mnt, kind)
        for what, call in changes(d):
            try:
                call()
            except OSError as e:
                assert e.errno in (errno.EIO, errno.EROFS), (kind, what, e)
                print(kind, what, e.strerror)
            else:
                raise AssertionError((kind, what, "succeeds on a disk that is gone"))
        for what, call in others(d):
            try:
                call()
                print(kind, what, "done in memory")
            except OSError as e:
                assert e.errno in (errno.EIO, errno.EROFS, errno.ENOENT), (kind, what, e)
                print(kind, what, e.strerror)


if __name__ == "__main__":
    {f.__name__: f for f in (cut, error, dead)}[sys.argv[1]](*sys.argv[2:])
