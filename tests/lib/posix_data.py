"""Checks of reading, writing, space, mappings and locks; see posix.py."""
import errno as E
import fcntl
import mmap
import os
import random
import resource
import signal
import stat
import struct

from sysx import (KEEP_SIZE, NATIVE, PUNCH_HOLE, SIGBUS, ZERO_RANGE, children, eq, fails,
                  fallocate, get, in_child, killed_by, libc, pattern, put)

j = os.path.join
M = 1 << 20
RW = os.O_RDWR | os.O_CREAT


def _bytes(n, seed=1):
    return pattern(n, seed)


def read_write(d):
    fd = os.open(j(d, "f"), RW)
    eq(os.read(fd, 100), b"")
    want = bytearray(3 * M + 777)
    rng = random.Random(3)
    for _ in range(200):
        off = rng.randrange(len(want))
        piece = rng.randbytes(min(rng.choice((1, 7, 511, 4096, 70001, 300000)), len(want) - off))
        eq(os.pwrite(fd, piece, off), len(piece))
        want[off:off + len(piece)] = piece
    os.ftruncate(fd, len(want))
    eq(os.pread(fd, 4 * M, 0), bytes(want))
    for _ in range(100):
        off, n = rng.randrange(len(want)), rng.choice((1, 3, 4095, 65537, 600001))
        eq(os.pread(fd, n, off), bytes(want[off:off + n]))
    eq(os.pread(fd, 10, len(want)), b"")
    eq(os.pread(fd, 10, len(want) - 3), bytes(want[-3:]))
    eq(os.pread(fd, 10, 1 << 50), b"")
    with fails(E.EINVAL):
        os.pread(fd, 1, -1)
    eq(os.lseek(fd, -5, os.SEEK_END), len(want) - 5)
    eq(os.read(fd, 100), bytes(want[-5:]))
    with fails(E.EINVAL):
        os.lseek(fd, -1, os.SEEK_SET)
    os.close(fd)
    eq(get(j(d, "f")), bytes(want))


def vectors(d):
    fd = os.open(j(d, "f"), RW)
    parts = [_bytes(n, n) for n in (1, 100000, 4097, 300001)]
    eq(os.writev(fd, parts), sum(map(len, parts)))
    bufs = [bytearray(n) for n in (50000, 7, 354092)]
    eq(os.preadv(fd, bufs, 0), sum(map(len, parts)))
    eq(b"".join(map(bytes, bufs)), b"".join(parts))
    r, w = os.pipe()
    os.lseek(fd, 0, os.SEEK_SET)
    eq(os.sendfile(w, fd, 10, 5000), 5000)
    eq(os.read(r, 5000), b"".join(parts)[10:5010])
    eq(os.splice(fd, w, 4096, offset_src=100), 4096)
    eq(os.read(r, 4096), b"".join(parts)[100:4196])
    os.write(w, b"piped")
    eq(os.splice(r, fd, 5, offset_dst=3), 5)
    eq(os.pread(fd, 5, 3), b"piped")
    os.close(fd)


def append(d):
    f = put(j(d, "f"), b"start")
    fd = os.open(f, os.O_RDWR | os.O_APPEND)
    os.lseek(fd, 0, os.SEEK_SET)
    os.write(fd, b"1")
    eq(os.lseek(fd, 0, os.SEEK_CUR), 6)
    os.truncate(f, 2)
    os.write(fd, b"2")
    eq(get(f), b"st2")
    other = os.open(f, os.O_WRONLY)
    os.pwrite(other, b"XY", 10)
    os.write(fd, b"3")
    eq(get(f), b"st2" + bytes(7) + b"XY3")
    os.close(fd)
    os.close(other)

    def work(i):
        fd = os.open(j(d, "log"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        for k in range(100):
            os.write(fd, (b"%d:%02d|" % (i, k)) * 500)
        os.close(fd)
    children(4, work)
    log = get(j(d, "log"))
    eq(len(log), 4 * 100 * 2500)
    seen = set()
    for at in range(0, len(log), 2500):
        record = log[at:at + 2500]
        eq(record, record[:5] * 500)
        seen.add(record[:5])
    eq(len(seen), 400)
    for i in range(4):  # each writer's records in its own order
        mine = [log[at:at + 5] for at in range(0, len(log), 2500) if log[at:at + 1] == b"%d" % i]
        eq(mine, sorted(mine))


def unlink_while_open(d):
    f = put(j(d, "f"), b"before")
    fd = os.open(f, os.O_RDWR)
    ino = os.fstat(fd).st_ino
    os.unlink(f)
    eq(os.fstat(fd).st_nlink, 0)
    eq(os.pread(fd, 10, 0), b"before")
    big = _bytes(2 * M)
    os.pwrite(fd, big, 3)
    eq(os.pread(fd, 3 * M, 0), b"bef" + big)
    os.fsync(fd)
    os.ftruncate(fd, 100000)
    eq(os.fstat(fd).st_size, 100000)
    m = mmap.mmap(fd, 100000)
    eq(m[:6], b"bef" + big[:3])
    m.close()
    os.fchmod(fd, 0o600)
    os.setxattr(fd, "user.x", b"1")
    put(f, b"new")  # the name is free
    assert os.stat(f).st_ino != ino
    eq(get(f), b"new")
    eq(os.pread(fd, 3, 0), b"bef")
    os.close(fd)
    eq(get(f), b"new")
    a, b = put(j(d, "a"), b"A" * 100), put(j(d, "b"), b"B")
    fd = os.open(a, os.O_RDWR)
    os.rename(b, a)
    eq((os.pread(fd, 200, 0), os.fstat(fd).st_nlink), (b"A" * 100, 0))
    os.close(fd)


def truncate(d):
    f = j(d, "f")
    data = _bytes(M + 12345)
    put(f, data)
    for n in (M + 1, 300000, 262144, 262143, 65536, 65535, 5000, 1):
        os.truncate(f, n)
        eq(os.stat(f).st_size, n)
        eq(get(f), data[:n])
        os.truncate(f, n + 70000)  # what comes back is zero
        eq(get(f), data[:n] + bytes(70000))
        os.truncate(f, n)
    os.truncate(f, 0)
    eq(get(f), b"")
    os.truncate(f, 1 << 30)
    eq(os.stat(f).st_size, 1 << 30)
    with fails(E.EISDIR):
        os.truncate(d, 0)
    with fails(E.EINVAL):
        os.truncate(f, -1)
    with fails(E.ENOENT):
        os.truncate(j(d, "g"), 0)
    fd = os.open(f, os.O_RDONLY)
    with fails(E.EINVAL, E.EBADF):
        os.ftruncate(fd, 0)
    os.close(fd)
    fd = os.open(f, os.O_RDWR)  # descriptors that are open see it
    os.pwrite(fd, b"tail", 5000)
    os.truncate(f, 5002)
    eq(os.pread(fd, 10, 5000), b"ta")
    os.pwrite(fd, b"!", 6000)
    eq(os.pread(fd, 2000, 5000), b"ta" + bytes(998) + b"!")
    os.close(fd)


def sparse_terabyte(d):
    fd = os.open(j(d, "f"), RW)
    os.ftruncate(fd, 1 << 40)
    eq(os.fstat(fd).st_size, 1 << 40)
    eq(os.pread(fd, 8192, (1 << 40) - 4096), bytes(4096))
    eq(os.pread(fd, 8192, 1 << 39), bytes(8192))
    os.pwrite(fd, b"end", (1 << 40) - 3)
    os.pwrite(fd, b"middle", 5 << 37)
    os.pwrite(fd, b"begin", 0)
    os.fsync(fd)
    eq(os.pread(fd, 10, (1 << 40) - 3), b"end")
    eq(os.pread(fd, 20, (5 << 37) - 10), bytes(10) + b"middle" + bytes(4))
    assert os.fstat(fd).st_blocks * 512 < 64 * M, os.fstat(fd).st_blocks
    eq(os.lseek(fd, 16 * M, os.SEEK_HOLE), 16 * M)
    at = os.lseek(fd, 16 * M, os.SEEK_DATA)
    assert (5 << 37) - 4 * M < at <= 5 << 37, at
    os.ftruncate(fd, 100)
    os.ftruncate(fd, 1 << 40)
    eq(os.pread(fd, 4096, (1 << 40) - 4096), bytes(4096))
    eq(os.pread(fd, 6, 5 << 37), bytes(6))
    eq(os.pread(fd, 5, 0), b"begin")
    os.close(fd)


def seek_data_hole(d):
    f = j(d, "f")
    fd = os.open(f, RW)
    with fails(E.ENXIO):
        os.lseek(fd, 0, os.SEEK_DATA)
    with fails(E.ENXIO):
        os.lseek(fd, 0, os.SEEK_HOLE)
    os.pwrite(fd, _bytes(M), 16 * M)
    for durable in (False, True, False):  # data that is only in memory counts too
        at = os.lseek(fd, 0, os.SEEK_DATA)
        assert 12 * M < at <= 16 * M, at
        eq(os.lseek(fd, 0, os.SEEK_HOLE), 0)
        eq(os.lseek(fd, 16 * M + 5000, os.SEEK_DATA), 16 * M + 5000)
        eq(os.lseek(fd, 16 * M, os.SEEK_HOLE), 17 * M)
        eq(os.lseek(fd, 17 * M - 1, os.SEEK_HOLE), 17 * M)
        with fails(E.ENXIO):
            os.lseek(fd, 17 * M, os.SEEK_DATA)
        with fails(E.ENXIO):
            os.lseek(fd, 17 * M, os.SEEK_HOLE)
        if not durable:
            os.fsync(fd)
    os.pwrite(fd, _bytes(12 * M), 0)
    os.fsync(fd)
    os.pwrite(fd, b"dirty", 13 * M)
    at = os.lseek(fd, 12 * M + 700000, os.SEEK_DATA)
    assert at <= 13 * M, at
    fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 4 * M, 4 * M)
    eq(os.lseek(fd, 0, os.SEEK_HOLE), 4 * M)
    eq(os.lseek(fd, 4 * M, os.SEEK_DATA), 8 * M)
    eq(os.lseek(fd, 8 * M, os.SEEK_HOLE) >= 12 * M, True)
    os.ftruncate(fd, 40 * M)
    with fails(E.ENXIO):
        os.lseek(fd, 24 * M, os.SEEK_DATA)
    eq(os.lseek(fd, 24 * M, os.SEEK_HOLE), 24 * M)
    os.close(fd)


def fallocate_modes(d):
    f = j(d, "f")
    fd = os.open(f, RW)
    fallocate(fd, 0, 0, 100001)
    eq((os.fstat(fd).st_size, get(f)), (100001, bytes(100001)))
    fallocate(fd, KEEP_SIZE, 0, 5 * M)
    eq(os.fstat(fd).st_size, 100001)
    data = bytearray(_bytes(3 * M + 17))
    os.pwrite(fd, data, 0)
    for off, n in ((100, 5), (4096, 4096), (262100, 100), (500001, 1200003), (3 * M, 9000)):
        fallocate(fd, PUNCH_HOLE | KEEP_SIZE, off, n)
        end = min(off + n, len(data))
        data[off:end] = bytes(end - off)
        eq(os.fstat(fd).st_size, len(data))
        eq(get(f), bytes(data))
    for off, n in ((7, 1), (1000, 300000), (2 * M, 262144)):
        fallocate(fd, ZERO_RANGE | KEEP_SIZE, off, n)
        data[off:off + n] = bytes(n)
    eq(get(f), bytes(data))
    fallocate(fd, ZERO_RANGE, len(data) - 5, 100)
    data[-5:] = bytes(100)
    eq(get(f), bytes(data))
    fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 0, 64 * M)
    eq(get(f), bytes(len(data)))
    os.pwrite(fd, b"again", 10)
    eq(os.pread(fd, 20, 5), bytes(5) + b"again" + bytes(10))
    with fails(E.EOPNOTSUPP):
        fallocate(fd, PUNCH_HOLE, 0, 10)
    with fails(E.EINVAL):
        fallocate(fd, 0, 0, 0)
    with fails(E.EINVAL):
        fallocate(fd, 0, -1, 10)
    os.close(fd)
    fd = os.open(f, os.O_RDONLY)
    with fails(E.EBADF):
        fallocate(fd, 0, 0, 10)
    os.close(fd)
    os.mkfifo(j(d, "p"))
    fd = os.open(j(d, "p"), os.O_RDWR)
    with fails(E.ESPIPE):
        fallocate(fd, 0, 0, 10)
    os.close(fd)


def space_comes_back(d):
    """st_blocks follows what is stored: after writing, punching, truncating."""
    fd = os.open(j(d, "f"), RW)
    os.write(fd, _bytes(16 * M))
    os.fsync(fd)
    full = os.fstat(fd).st_blocks * 512
    assert 15 * M < full < 40 * M, full
    fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 0, 8 * M)
    os.fsync(fd)
    half = os.fstat(fd).st_blocks * 512
    assert half < full - 6 * M, (full, half)
    os.ftruncate(fd, M)
    os.fsync(fd)
    little = os.fstat(fd).st_blocks * 512
    assert little < 4 * M, little
    os.close(fd)


def copy_range(d):
    data = _bytes(3 * M)
    a, b = os.open(put(j(d, "a"), data), os.O_RDWR), os.open(j(d, "b"), RW)

    def copy(src, dst, n, o1, o2):
        done = 0
        while done < n:
            k = os.copy_file_range(src, dst, n - done, o1 + done, o2 + done)
            if not k:
                break
            done += k
        return done
    eq(copy(a, b, 2 * M, 1001, 77), 2 * M)
    eq(get(j(d, "b")), bytes(77) + data[1001:1001 + 2 * M])
    eq(copy(a, b, M, 3 * M - 100, 0), 100)
    eq(os.pread(b, 100, 0), data[-100:])
    eq(copy(a, b, M, 3 * M, 0), 0)
    eq(copy(a, a, 5000, 0, M), 5000)
    eq(os.pread(a, 5000, M), data[:5000])
    with fails(E.EINVAL):
        os.copy_file_range(a, a, 5000, 0, 100)
    ro = os.open(j(d, "a"), os.O_RDONLY)
    with fails(E.EBADF):
        os.copy_file_range(a, ro, 10, 0, 0)
    ap = os.open(j(d, "b"), os.O_WRONLY | os.O_APPEND)
    with fails(E.EBADF):
        os.copy_file_range(a, ap, 10, 0, 0)
    with fails(E.EISDIR):
        os.copy_file_range(os.open(d, os.O_RDONLY), b, 10, 0, 0)
    for fd in (a, b, ro, ap):
        os.close(fd)


def mmap_shared(d):
    f = j(d, "f")
    data = bytearray(_bytes(2 * M + 100))
    put(f, data)
    fd = os.open(f, os.O_RDWR)
    m = mmap.mmap(fd, len(data))
    eq(m[:], bytes(data))
    for off, n in ((0, 10), (4090, 20), (262140, 10), (M - 3, 100000), (2 * M + 90, 10)):
        piece = _bytes(n, off + 1)
        m[off:off + n] = piece
        data[off:off + n] = piece
    eq(os.pread(fd, 3 * M, 0), bytes(data))  # a mapping and read() see the same
    m.flush()
    os.pwrite(fd, b"written", 12345)
    data[12345:12352] = b"written"
    eq(m[12340:12360], bytes(data[12340:12360]))
    other = mmap.mmap(fd, len(data), prot=mmap.PROT_READ)
    m[500000:500004] = b"both"
    data[500000:500004] = b"both"
    eq(other[500000:500004], b"both")
    m.flush()
    m.close()
    os.close(fd)
    eq(get(f), bytes(data))
    other.close()
    fd = os.open(f, os.O_RDONLY)
    with fails(E.EACCES):
        mmap.mmap(fd, 100, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    m = mmap.mmap(fd, 4096, prot=mmap.PROT_READ, offset=M)
    eq(m[:], bytes(data[M:M + 4096]))
    m.close()
    os.close(fd)


def mmap_private(d):
    f = put(j(d, "f"), _bytes(M))
    fd = os.open(f, os.O_RDWR)
    m = mmap.mmap(fd, M, flags=mmap.MAP_PRIVATE)
    m[0:4] = b"mine"
    eq(m[0:4], b"mine")
    eq(os.pread(fd, M, 0), _bytes(M))
    m.close()
    os.close(fd)
    eq(get(f), _bytes(M))


def mmap_edges(d):
    f = put(j(d, "f"), b"x" * 5000)
    fd = os.open(f, os.O_RDWR)
    m = mmap.mmap(fd, 5000)
    os.ftruncate(fd, 100)
    eq(killed_by(lambda: m[4500]), SIGBUS)
    eq(m[50], ord("x"))
    eq(m[150], 0)
    os.ftruncate(fd, 8192)
    eq(m[4500], 0)
    m[4500] = 7
    eq(os.pread(fd, 1, 4500), b"\7")
    m.close()
    os.close(fd)
    fd = os.open(j(d, "g"), RW)  # written through a mapping only
    os.ftruncate(fd, 3 * M)
    m = mmap.mmap(fd, 3 * M)
    m[M + 5:M + 8] = b"abc"
    m[3 * M - 1] = 9
    m.close()
    os.fsync(fd)
    os.close(fd)
    want = bytearray(3 * M)
    want[M + 5:M + 8] = b"abc"
    want[-1] = 9
    eq(get(j(d, "g")), bytes(want))


def mmap_other_handle(d):
    """A mapping's pages are written back through whatever handle can write, while others read."""
    f = put(j(d, "f"), bytes(M))
    both = os.open(f, os.O_RDWR)
    m = mmap.mmap(both, M)
    readers = [os.open(f, os.O_RDONLY) for _ in range(2)]
    writer = os.open(f, os.O_WRONLY)
    for i in range(1, 20):
        m[i * 50000] = i
        m.flush()
        os.pwrite(writer, b"w", i * 50000 + 1)
        eq(os.pread(readers[0], 2, i * 50000), bytes([i]) + b"w")
        eq(m[i * 50000 + 1], ord("w"))
    os.close(both)  # the mapping stays, the writer's handle is the only one that can write
    for i in range(1, 20):
        m[i * 50000] = i + 50
        if i % 2:
            m.flush()
        os.pwrite(writer, b"W", i * 50000 + 1)
        eq(os.pread(readers[1], 2, i * 50000), bytes([i + 50]) + b"W")
    os.fsync(writer)
    m.close()
    for fd in readers + [writer]:
        os.close(fd)
    got = get(f)
    eq([got[i * 50000] for i in range(1, 20)], [i + 50 for i in range(1, 20)])


def flock_two_processes(d):
    f = put(j(d, "f"))
    fd = os.open(f, os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)

    def refused():
        other = os.open(f, os.O_RDWR)
        with fails(E.EWOULDBLOCK):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with fails(E.EWOULDBLOCK):
            fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
    in_child(refused)
    fcntl.flock(fd, fcntl.LOCK_SH)

    def shared():
        other = os.open(f, os.O_RDWR)
        fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
        with fails(E.EWOULDBLOCK):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    in_child(shared)
    os.close(fd)

    def free():
        other = os.open(f, os.O_RDWR)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    in_child(free)
    _waits_for(d, lambda fd: fcntl.flock(fd, fcntl.LOCK_EX), lambda fd: fcntl.flock(fd, fcntl.LOCK_UN))


def _waits_for(d, lock, unlock):
    """A second process gets the lock only when the first gives it up: the order is in a log."""
    f = put(j(d, "waited"))
    log = j(d, "order")
    ready, go = os.pipe()
    fd = os.open(f, os.O_RDWR)
    lock(fd)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            mine = os.open(f, os.O_RDWR)
            os.write(go, b"x")
            lock(mine)
            put(log, get(log) + b"child")
            code = 0
        finally:
            os._exit(code)
    os.read(ready, 1)
    put(log, b"parent,")
    unlock(fd)
    eq(os.waitpid(pid, 0)[1], 0)
    eq(get(log), b"parent,child")
    os.close(fd)
    os.unlink(log)


def posix_locks(d):
    f = put(j(d, "f"), b"x" * 1000)
    fd = os.open(f, os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX, 100, 50)
    me = os.getpid()

    def other():
        o = os.open(f, os.O_RDWR)
        with fails(E.EACCES, E.EAGAIN):
            fcntl.lockf(o, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 100)
        with fails(E.EACCES, E.EAGAIN):
            fcntl.lockf(o, fcntl.LOCK_SH | fcntl.LOCK_NB, 1000, 0)
        fcntl.lockf(o, fcntl.LOCK_EX | fcntl.LOCK_NB, 50, 0)
        fcntl.lockf(o, fcntl.LOCK_EX | fcntl.LOCK_NB, 50, 150)
        ask = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 1000, 0)
        kind, _, start, length, pid = struct.unpack("hhqqi4x", fcntl.fcntl(o, fcntl.F_GETLK, ask))
        eq((kind, start, length, pid), (fcntl.F_WRLCK, 50, 100, me))
    in_child(other)
    fcntl.lockf(fd, fcntl.LOCK_UN, 50, 100)

    def half():
        o = os.open(f, os.O_RDWR)
        fcntl.lockf(o, fcntl.LOCK_EX | fcntl.LOCK_NB, 50, 100)
        with fails(E.EACCES, E.EAGAIN):
            fcntl.lockf(o, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 99)
    in_child(half)
    second = os.open(f, os.O_RDWR)
    os.close(second)  # closing any descriptor of the file drops the process's locks

    def free():
        o = os.open(f, os.O_RDWR)
        fcntl.lockf(o, fcntl.LOCK_EX | fcntl.LOCK_NB)
    in_child(free)
    ofd_setlk = 37
    lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 10, 0)
    fcntl.fcntl(fd, ofd_setlk, lock)
    o = os.open(f, os.O_RDWR)
    with fails(E.EACCES, E.EAGAIN):
        fcntl.fcntl(o, ofd_setlk, lock)
    os.close(fd)
    fcntl.fcntl(o, ofd_setlk, lock)
    os.close(o)
    _waits_for(d, lambda fd: fcntl.lockf(fd, fcntl.LOCK_EX), lambda fd: fcntl.lockf(fd, fcntl.LOCK_UN))


def direct_io(d):
    f = j(d, "f")
    fd = os.open(f, RW | os.O_DIRECT)
    buf = mmap.mmap(-1, M)
    buf[:] = _bytes(M)
    eq(os.pwritev(fd, [buf], 0), M)
    eq(os.pwritev(fd, [buf], 2 * M), M)
    back = mmap.mmap(-1, 4 * M)
    eq(os.preadv(fd, [back], 0), 3 * M)
    eq(back[:3 * M], _bytes(M) + bytes(M) + _bytes(M))
    plain = os.open(f, os.O_RDWR)  # beside it, a cached descriptor
    eq(os.pread(plain, M, 0), _bytes(M))
    os.pwrite(plain, b"cached", 4096)
    eq(os.preadv(fd, [memoryview(back)[:8192]], 0), 8192)
    eq(back[4096:4102], b"cached")
    buf[:5] = b"fresh"
    eq(os.pwritev(fd, [memoryview(buf)[:4096]], 0), 4096)
    eq(os.pread(plain, 5, 0), b"fresh")
    os.close(fd)
    os.close(plain)


def file_size_limit(d):
    f = j(d, "f")

    def act():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))
        fd = os.open(f, RW)
        eq(os.write(fd, b"x" * 150000), 100000)
        with fails(E.EFBIG):
            os.write(fd, b"y")
        with fails(E.EFBIG):
            os.ftruncate(fd, 100001)
        os.close(fd)
    in_child(act)
    eq(os.stat(f).st_size, 100000)


def sync_calls(d):
    fd = os.open(j(d, "f"), RW)
    os.write(fd, b"x" * 300000)
    os.fdatasync(fd)
    os.fsync(fd)
    eq(libc.syncfs(fd), 0)
    os.close(fd)
    for flags in (os.O_SYNC, os.O_DSYNC):
        fd = os.open(j(d, "s"), os.O_WRONLY | os.O_CREAT | flags)
        eq(os.write(fd, b"y" * 100000), 100000)
        os.close(fd)
        eq(get(j(d, "s")), b"y" * 100000)
    fd = os.open(d, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(fd)
    os.fdatasync(fd)
    os.close(fd)
    ro = os.open(j(d, "f"), os.O_RDONLY)
    os.fsync(ro)
    eq(os.posix_fadvise(ro, 0, 0, os.POSIX_FADV_DONTNEED), None)
    eq(os.read(ro, 10), b"x" * 10)
    os.close(ro)


def tmpfile(d):
    """O_TMPFILE works, or is refused as a file system may."""
    try:
        fd = os.open(d, os.O_RDWR | os.O_TMPFILE, 0o600)
    except OSError as e:
        assert not NATIVE and e.errno in (E.EOPNOTSUPP, E.EISDIR, E.ENOSYS), e
        return
    os.write(fd, b"anonymous")
    eq(os.listdir(d), [])
    at_follow = 0x400
    eq(libc.linkat(-100, b"/proc/self/fd/%d" % fd, -100, os.fsencode(j(d, "named")), at_follow), 0)
    os.close(fd)
    eq(get(j(d, "named")), b"anonymous")


def readers_and_writer(d):
    """A reader beside a writer of whole records sees each byte either old or new, never anything else."""
    f = put(j(d, "f"), b"\1" * M)

    def work(i):
        fd = os.open(f, os.O_RDWR)
        if i == 0:
            for k in range(2, 40):
                os.pwrite(fd, bytes([k]) * M, 0)
        else:
            last = 0
            for _ in range(60):
                got = os.pread(fd, 4096, 4096 * (i * 50))
                seen = set(got)
                assert seen <= set(range(1, 40)) and min(seen) >= last, (last, seen)
                last = min(seen)
        os.close(fd)
    children(3, work)
    eq(get(f), bytes([39]) * M)


def parallel_ranges(d):
    """Processes that write parts of one file at the same time do not disturb each other."""
    f = put(j(d, "f"))
    n, piece = 4, 50001

    def work(i):
        fd = os.open(f, os.O_RDWR)
        for k in range(10):
            os.pwrite(fd, _bytes(piece, k * n + i), (k * n + i) * piece)
        os.close(fd)
    children(n, work)
    eq(get(f), b"".join(_bytes(piece, i) for i in range(10 * n)))


def write_kinds(d):
    """Whatever the content is: zeros, one byte over and over, text, noise; in sizes around the units."""
    sizes = [1, 511, 4095, 4096, 65535, 65536, 65537, 262143, 262144, 262145, M, M + 1]
    for n in sizes:
        for name, data in (("zero", bytes(n)), ("same", b"\xaa" * n), ("noise", _bytes(n)),
                           ("half", (bytes(n // 2) + _bytes(n))[:n])):
            f = put(j(d, name), data)
            eq((n, name, os.stat(f).st_size), (n, name, n))
            eq(get(f), data)
    eq(stat.S_ISREG(os.stat(j(d, "zero")).st_mode), True)
