#!/usr/bin/env python3
"""Writes below a directory with a quota.

    quota.py writes DIR NOISE   DIR has 512 KiB and is empty. Each way of writing is refused by the call itself, at the
                                same length, and what follows (fsync, close) succeeds.
    quota.py place VIEW w|rw    The .npy view of zeros, in 512 KiB of quota. Writing numbers in place of them is refused by the call
                                itself, and what follows succeeds; a mapping beside them shows what was taken.
"""
import errno
import mmap
import os
import sys

LIMIT = 512 << 10


def fill(fd, data, step):
    """Writes until it is refused; the bytes that were taken."""
    done = 0
    while done < len(data):
        try:
            n = os.write(fd, data[done:done + step])
        except OSError as e:
            assert e.errno == errno.EDQUOT, e
            return done
        assert n, "nothing was written"
        done += n
    raise AssertionError("all was taken")


def writes(top, noise):
    with open(noise, "rb") as f:
        data = f.read()
    path = os.path.join(top, "a")
    ways = [(os.O_WRONLY, 4096), (os.O_WRONLY | os.O_APPEND, 8192), (os.O_RDWR, 16384), (os.O_RDWR | os.O_SYNC, 65536), (os.O_WRONLY, 1000)]
    for flags, step in ways:
        fd = os.open(path, flags | os.O_CREAT, 0o600)
        twin = os.dup(fd)
        n = fill(fd, data, step)
        assert LIMIT - 4096 < n <= LIMIT, (flags, step, n)
        os.fsync(twin)
        assert os.fstat(twin).st_size == n
        os.close(fd)
        os.close(twin)
        with open(path, "rb") as f:
            assert f.read() == data[:n]
        # What is there can be written again, also by a mapping beside a write.
        fd = os.open(path, os.O_RDWR)
        with mmap.mmap(fd, 0) as m:
            m[:3] = b"map"
            assert os.pread(fd, 3, 0) == b"map"
            os.pwrite(fd, b"write", 8192)
            assert m[8192:8197] == b"write"
            m.flush()
        os.fsync(fd)
        os.close(fd)
        os.unlink(path)


def place(view, way):
    data = os.urandom(2 * LIMIT)
    with open(view, "rb") as f:
        head = f.read(10)
    start = 10 + int.from_bytes(head[8:], "little")
    fd = os.open(view, os.O_RDWR)
    with mmap.mmap(fd, 0) as m:
        assert m[start + 8192:start + 8197] == bytes(5)
        os.pwrite(fd, b"write", start + 8192)
        assert m[start + 8192:start + 8197] == b"write"
        m[start:start + 3] = b"map"
        m.flush()
        assert os.pread(fd, 3, start) == b"map"
    os.close(fd)
    fd = os.open(view, os.O_WRONLY if way == "w" else os.O_RDWR)
    os.lseek(fd, start, os.SEEK_SET)
    n = fill(fd, data, 65536)
    assert LIMIT // 2 < n <= 2 * LIMIT, n
    os.fsync(fd)
    os.close(fd)
    with open(view, "rb") as f:
        assert f.read(start + n)[start:] == data[:n]


{"place": place, "writes": writes}[sys.argv[1]](*sys.argv[2:])
