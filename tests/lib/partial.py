"""partial.py MNT KIND [direct]: a write that a full store has room for in part, to an array that others have in the kernel's cache. The
part that is in is what all of them read, the call tells of it, and it changes the time. As the array, as its view in place, and
by copy_file_range."""
import errno
import mmap
import os
import random
import sys

from sysx import closes, eq, tick

MIB = 1 << 20
SIZE = 6 * MIB
PAD = MIB + 5 * (MIB >> 4)  # a request, and some of the next
HEADER = 4096


def fill(d):
    """All of the space, but what goes back with the pads."""
    for n in MIB, 1 << 16, 1 << 12:
        for k in range(1000):
            if not attempt(lambda: put(f"{d}/fill{n}-{k}", n)):
                break


def put(path, n):
    """Durable when it returns."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        os.write(fd, random.randbytes(n))
        os.fsync(fd)
        return n
    finally:
        closes(fd)


def read(path, n, flags=0):
    """Its first n bytes."""
    fd, m = os.open(path, os.O_RDONLY | flags), mmap.mmap(-1, n)
    eq(os.preadv(fd, [m], 0), n)
    os.close(fd)
    return m[:]


def attempt(call):
    """How much is in by what the call says."""
    try:
        return call()
    except OSError as e:
        eq(e.errno, errno.ENOSPC)
        return 0


def write(path, data, off, flags):
    fd, m = os.open(path, os.O_RDWR | flags), mmap.mmap(-1, len(data))
    m[:] = data
    n = attempt(lambda: os.pwritev(fd, [m], off))
    closes(fd)
    return n


def copy(path, source):
    fd, src = os.open(path, os.O_WRONLY), os.open(source, os.O_RDONLY)
    n = attempt(lambda: os.copy_file_range(src, fd, SIZE, 0, 0))
    closes(fd)
    os.close(src)
    return n


def main(mnt, kind, direct=None):
    d = f"{mnt}/{kind}/d"
    view = f"{mnt}/views/npy/{kind}/d/a.npy"
    data = [random.randbytes(SIZE) for _ in range(3)]
    source = f"{d}/source"
    os.mkdir(d)
    with open(source, "wb") as f:
        f.write(data[2])
    for k in range(3):
        put(f"{d}/pad{k}", PAD)
    fd = os.open(f"{d}/a.u8", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, SIZE)
    m = mmap.mmap(fd, SIZE, prot=mmap.PROT_READ)
    fill(d)
    changed = 0
    for k, how in enumerate((
            lambda: write(f"{d}/a.u8", data[0], 0, os.O_DIRECT),
            lambda: write(view, data[1], HEADER, 0),
            lambda: copy(f"{d}/a.u8", source))):
        os.unlink(f"{d}/pad{k}")
        os.fsync(fd)
        old, before = m[:], os.stat(f"{d}/a.u8").st_mtime_ns
        tick(before)
        n = how()
        now = read(f"{d}/a.u8", SIZE, os.O_DIRECT)
        same = next((i for i in range(0, SIZE, 4096) if now[i:i + 4096] != data[k][i:i + 4096]), SIZE)
        later = os.stat(f"{d}/a.u8").st_mtime_ns > before
        print(kind, k, "told of", n, "in", same, "changed", now != old, "later", later)
        assert m[:] == now, "the cache has other bytes"
        if direct or k != 1:  # by the kernel's cache it is told at the close, and the time comes with it
            assert later or now == old, "changed, at no time"
            assert not n or n - n % 4096 == same, "more or less is in than was told"
            changed += now != old
    assert changed, "there was no room at all"


if __name__ == "__main__":
    main(*sys.argv[1:])
