"""limits.py COMMAND ARGS: work for the tests of a daemon with small limits.

many N MNT OPEN: N files in each folder, of 3,000 and of 90,000 bytes, OPEN of them held open in each, written, deleted, synced
same N MNT:      they are there
deaf CMD...:     runs CMD with signals blocked and ignored
"""
import os
import signal
import sys


def content(kind, n):
    return (b"%s %d\n" % (kind.encode(), n)) * (300 if n % 2 else 9000)


def many(n, mnt, nopen):
    for kind in ("buckets", "columns", "layers"):
        held = []
        for k in range(int(n)):
            fd = os.open(f"{mnt}/{kind}/f{k}", os.O_RDWR | os.O_CREAT)
            os.write(fd, content(kind, k))
            if len(held) < int(nopen):
                held.append(fd)
            else:
                os.close(fd)
            if k % 40 == 0:
                os.fsync(fd if fd in held else held[0])
        for k in range(0, int(n), 5):
            os.truncate(f"{mnt}/{kind}/f{k}", 0)
        os.fsync(held[0])
        for k in range(0, int(n), 5):
            with open(f"{mnt}/{kind}/f{k}", "wb") as f:
                f.write(content(kind, k))
        for k in range(0, int(n), 7):
            os.unlink(f"{mnt}/{kind}/f{k}")
        os.fsync(held[0])
        for fd in held:
            os.close(fd)


def same(n, mnt):
    for kind in ("buckets", "columns", "layers"):
        for k in range(int(n)):
            path = f"{mnt}/{kind}/f{k}"
            if k % 7 == 0:
                assert not os.path.exists(path), path
                continue
            with open(path, "rb") as f:
                assert f.read() == content(kind, k), path


def deaf(*command):
    for s in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(s, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, set(range(1, 65)))
    os.execv(command[0], command)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
