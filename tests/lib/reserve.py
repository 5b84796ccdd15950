"""Reserved space on a file system that fills up: reserve.py kept|returned|reserve|use MOUNT [KIND...]"""
import ctypes
import errno
import os
import sys
import time

from sysx import closes

KEEP, PUNCH, ZERO = 1, 2, 16
MIB = 1 << 20
KINDS = ("buckets", "layers", "columns")
libc = ctypes.CDLL(None, use_errno=True)


def allocate(fd, mode, off, n):
    if libc.fallocate(fd, mode, ctypes.c_int64(off), ctypes.c_int64(n)) < 0:
        raise OSError(ctypes.get_errno(), "fallocate")


def refused(fd, n, at=None):
    """Writes n bytes, durably, if they fit. Who has told that they do not: None, "write" or "fsync"."""
    data = os.urandom(n)
    try:
        if at is None:
            os.write(fd, data)
        else:
            os.pwrite(fd, data, at)
    except OSError as e:
        assert e.errno == errno.ENOSPC, e
        return "write"
    try:
        os.fsync(fd)
    except OSError as e:
        assert e.errno == errno.ENOSPC, e
        return "fsync"
    return None


def close_full(fd, told):
    """What was lost after the write had succeeded is told by fsync, and once more by close."""
    err = closes(fd)
    assert err == (errno.ENOSPC if told == "fsync" else 0), (told, err)


def fill(root):
    """Every folder takes what it can; a store that is full stays full."""
    fds = [os.open(os.path.join(root, k, "filler"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
           for k in KINDS]
    for fd in fds:
        n, told = MIB, None
        while n >= 4096:
            why = refused(fd, n)
            if why:
                n, told = n // 4, why
        close_full(fd, told)


def unfill(root):
    for k in KINDS:
        os.unlink(os.path.join(root, k, "filler"))
    sync(root)


def sync(root):
    fd = os.open(root, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def avail(root):
    v = os.statvfs(root)
    return v.f_bavail * v.f_frsize


def write(fd, at, n, piece=MIB):
    """Bytes that do not compress, in pieces; durable, and read back."""
    data = os.urandom(n)
    for off in range(0, n, piece):
        part = data[off:off + piece]
        assert os.pwrite(fd, part, at + off) == len(part)
    os.fsync(fd)
    got = b"".join(os.pread(fd, MIB, at + off)[:n - off] for off in range(0, n, MIB))
    assert got == data


# What is reserved, then written on a full store: the ranges of the second are inside those of the first.
def plain(fd):
    os.posix_fallocate(fd, 0, 3 * MIB)
    return 3 * MIB, [(0, 3 * MIB)]


def small(fd):
    os.posix_fallocate(fd, 0, 8192)
    return 8192, [(0, 8192)]


def unaligned(fd):
    """As xfstests generic/568: all of the blocks that the range touches."""
    allocate(fd, 0, 4095, 2)
    return 4097, [(0, 8192)]


def behind(fd):
    os.pwrite(fd, b"x" * 5000, 0)
    allocate(fd, KEEP, 5000, 2 * MIB)
    return 5000, [(5000, 2 * MIB)]


def holes(fd):
    for k in range(3):
        os.pwrite(fd, os.urandom(300000), k * MIB)
    allocate(fd, 0, MIB // 2, 2 * MIB)
    return 5 * MIB // 2, [(MIB // 2, 2 * MIB)]


def zeroed(fd):
    os.pwrite(fd, os.urandom(3 * MIB), 0)
    os.fsync(fd)
    allocate(fd, ZERO, MIB // 2, 2 * MIB)
    assert os.pread(fd, MIB, MIB) == bytes(MIB)
    return 3 * MIB, [(MIB // 2, 2 * MIB)]


def pieces(fd):
    os.posix_fallocate(fd, 0, MIB)
    return MIB, [(at, 64 << 10) for at in range(0, MIB, 64 << 10)]


CASES = {f.__name__: f for f in (plain, small, unaligned, behind, holes, zeroed, pieces)}


def reserve(root, path, case):
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    size, ranges = CASES[case](fd)
    assert os.fstat(fd).st_size == size, os.fstat(fd).st_size
    os.close(fd)
    sync(root)
    return ranges


def use(path, ranges):
    fd = os.open(path, os.O_RDWR)
    for at, n in ranges:
        write(fd, at, n, 100000)
    os.close(fd)


def kept(root):
    """Every case of every kind: written to the last byte on a store that is full otherwise."""
    files = [(os.path.join(root, k, c), reserve(root, os.path.join(root, k, c), c)) for k in KINDS for c in CASES]
    others = [os.open(os.path.join(root, k, "other"), os.O_WRONLY | os.O_CREAT) for k in KINDS]
    fill(root)
    for fd in others:
        told = refused(fd, MIB, 0)
        assert told, "the store was not full"
        close_full(fd, told)
    for path, ranges in files:
        print("---", path, flush=True)
        use(path, ranges)
    for path, _ in files:
        os.unlink(path)
    unfill(root)


def returned(root, kind):
    """What is wanted no more is there for others: by punching, cutting, deleting, closing what was deleted."""
    f = os.path.join(root, kind, "back")
    before = avail(root)

    def close_to(want):
        """Soon: close(2) does not wait for what gives the space back, nor does the sync."""
        deadline = time.monotonic() + 30
        while abs(avail(root) - want) >= 2 * MIB:
            assert time.monotonic() < deadline, (avail(root), want)
            sync(root)

    fd = os.open(f, os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(fd, 0, 20 * MIB)
    close_to(before - 20 * MIB)
    os.posix_fallocate(fd, 5 * MIB, 10 * MIB)  # once is enough
    close_to(before - 20 * MIB)
    allocate(fd, PUNCH | KEEP, 4 * MIB, 8 * MIB)
    close_to(before - 12 * MIB)
    os.ftruncate(fd, 14 * MIB)
    close_to(before - 6 * MIB)
    allocate(fd, KEEP, 14 * MIB, 8 * MIB)
    close_to(before - 14 * MIB)
    os.ftruncate(fd, 14 * MIB)  # the same size: what is behind it goes
    close_to(before - 6 * MIB)
    os.unlink(f)
    close_to(before - 6 * MIB)
    os.close(fd)
    close_to(before)
    try:
        fd = os.open(f, os.O_RDWR | os.O_CREAT)
        os.posix_fallocate(fd, 0, before + 50 * MIB)
        raise AssertionError("more was reserved than there is")
    except OSError as e:
        assert e.errno == errno.ENOSPC, e
    os.close(fd)
    os.unlink(f)
    close_to(before)


def main(what, root, *kinds):
    if what == "kept":
        kept(root)
    elif what == "returned":
        for k in kinds:
            print("---", k, flush=True)
            returned(root, k)
    elif what == "reserve":
        for k in kinds:
            reserve(root, os.path.join(root, k, "later"), "plain")
    elif what == "use":
        fill(root)
        for k in kinds:
            use(os.path.join(root, k, "later"), [(0, 3 * MIB)])
            os.unlink(os.path.join(root, k, "later"))
        unfill(root)


main(*sys.argv[1:])
