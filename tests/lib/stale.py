"""stale.py CHECK DIR: no reader sees old bytes after a write has returned, whatever the descriptors."""
import contextlib
import mmap
import os
import random
import select
import signal
import struct
import sys
import time

from sysx import ZERO_RANGE, Aio, children, eq, fallocate, get, pattern, put, shared_words

M = 1 << 20
PAGE = mmap.PAGESIZE


def _file(d, n=2 * M):
    data = bytearray(pattern(n, 1))
    return put(os.path.join(d, "f"), data), data


def direct_write(d):
    """O_WRONLY writes at odd places; a cached reader and a mapping see each of them at once."""
    f, data = _file(d)
    rd, wr, both = os.open(f, os.O_RDONLY), os.open(f, os.O_WRONLY), os.open(f, os.O_RDWR)
    m = mmap.mmap(rd, len(data), prot=mmap.PROT_READ)
    rng = random.Random(5)
    eq(os.pread(rd, len(data), 0), bytes(data))
    eq(m[:], bytes(data))
    for i in range(200):
        off = rng.randrange(len(data))
        piece = rng.randbytes(min(rng.choice((1, 100, 4096, 70001, 300000)), len(data) - off))
        os.pwrite(rng.choice((wr, wr, both)), piece, off)
        data[off:off + len(piece)] = piece
        lo, hi = max(0, off - 5000), off + len(piece) + 5000
        eq(os.pread(rd, hi - lo, lo), bytes(data[lo:hi]))
        eq(os.pread(both, hi - lo, lo), bytes(data[lo:hi]))
        eq(m[lo:hi], bytes(data[lo:hi]))
    m.close()
    for fd in (rd, wr, both):
        os.close(fd)
    eq(get(f), bytes(data))


def reopened(d):
    """What a closed file left in the cache does not outlive a write while it was closed."""
    f, data = _file(d)
    rng = random.Random(6)
    for i in range(60):
        eq(get(f), bytes(data))
        off = rng.randrange(len(data) - 5000)
        fd = os.open(f, rng.choice((os.O_WRONLY, os.O_RDWR)))
        os.pwrite(fd, b"%05d" % i * 1000, off)
        os.close(fd)
        data[off:off + 5000] = b"%05d" % i * 1000


def sizes(d):
    """Appends and truncations by one descriptor show in every other at once."""
    f, data = _file(d, 10000)
    rd, wr = os.open(f, os.O_RDONLY), os.open(f, os.O_WRONLY | os.O_APPEND)
    rng = random.Random(7)
    for i in range(100):
        eq(os.pread(rd, 8 * M, 0), bytes(data))
        if rng.random() < 0.5:
            piece = rng.randbytes(rng.choice((1, 5000, 100000)))
            os.write(wr, piece)
            data += piece
        else:
            n = rng.randrange(len(data) + 5000)
            os.truncate(f, n)
            data = data[:n] + bytes(max(0, n - len(data)))
        eq(os.fstat(rd).st_size, len(data))
        eq(os.stat(f).st_size, len(data))
    os.close(rd)
    os.close(wr)


def other_changes(d):
    """copy_file_range, fallocate and O_TRUNC are seen by cached readers, too."""
    from sysx import KEEP_SIZE, PUNCH_HOLE
    f, data = _file(d)
    g = put(os.path.join(d, "g"), pattern(M, 9))
    rd, wr, src = os.open(f, os.O_RDONLY), os.open(f, os.O_WRONLY), os.open(g, os.O_RDONLY)
    m = mmap.mmap(rd, len(data), prot=mmap.PROT_READ)
    eq(m[:], bytes(data))
    done = 0
    while done < 500000:
        done += os.copy_file_range(src, wr, 500000 - done, done, 12345 + done)
    data[12345:512345] = pattern(M, 9)[:500000]
    eq(os.pread(rd, len(data), 0), bytes(data))
    eq(m[:], bytes(data))
    fallocate(wr, PUNCH_HOLE | KEEP_SIZE, 700000, 300000)
    data[700000:1000000] = bytes(300000)
    eq(os.pread(rd, len(data), 0), bytes(data))
    eq(m[:], bytes(data))
    m.close()
    os.close(os.open(f, os.O_WRONLY | os.O_TRUNC))
    eq(os.pread(rd, 100, 0), b"")
    os.pwrite(wr, b"new", 4096)
    eq(os.pread(rd, 5000, 0), bytes(4096) + b"new")
    for fd in (rd, wr, src):
        os.close(fd)


def racing(d):
    """Readers fill the cache while a direct writer works: when it is quiet, they read the last write."""
    f = put(os.path.join(d, "f"), bytes(256 * 1024))
    told = shared_words()  # version whose write has returned
    stale_r, stale_w = os.pipe()

    def reader():
        fd, stale = os.open(f, os.O_RDONLY), 0
        while True:
            before = told[0]
            if before == 1 << 60:
                break
            for page in (0, 17, 63):
                got = os.pread(fd, 8, page * 4096)
                stale += struct.unpack("<Q", got)[0] < before
        # the write has returned; what the kernel still keeps is taken away without an answer to wait for
        deadline = time.monotonic() + 20
        want = struct.pack("<Q", 400) * (256 * 1024 // 8)
        while os.pread(fd, 256 * 1024, 0) != want:
            assert time.monotonic() < deadline, "a stale page stays"
        os.write(stale_w, struct.pack("<Q", stale))

    pids = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                reader()
                code = 0
            finally:
                os._exit(code)
        pids.append(pid)
    fd = os.open(f, os.O_WRONLY)
    for version in range(1, 401):
        os.pwrite(fd, struct.pack("<Q", version) * (256 * 1024 // 8), 0)
        told[0] = version
    told[0] = 1 << 60
    for pid in pids:
        eq(os.waitpid(pid, 0)[1], 0)
    stale = 0
    while select.select([stale_r], [], [], 0)[0]:
        stale += struct.unpack("<Q", os.read(stale_r, 8))[0]
    print("old pages seen right after a write: %d" % stale)


def _stored(f):
    """The bytes around the kernel's cache."""
    fd = os.open(f, os.O_RDONLY | os.O_DIRECT)
    buf = mmap.mmap(-1, 4 * PAGE)
    n = os.readv(fd, [buf])
    os.close(fd)
    return buf[:n]


def _grow(ways, d):
    """A mapping writes behind the end of a file; the file grows by what comes before that in its page."""
    n = 1000
    src = os.open(put(os.path.join(d, "src"), b"s" * 100), os.O_RDONLY)
    for name, grow in ways.items():
        for look in (False, True):
            f = put(os.path.join(d, "f"), b"a" * PAGE)
            fd, wr = os.open(f, os.O_RDWR), os.open(f, os.O_WRONLY)
            with mmap.mmap(fd, PAGE) as m:
                os.ftruncate(fd, n)
                m[:] = b"b" * n + b"X" * (PAGE - n)
                end = grow(f, fd, wr, src)
                if look:
                    eq((name, "read", os.pread(fd, end - n, n).count(0)), (name, "read", end - n))
                    eq((name, "mapped", m[n:end].count(b"\0")), (name, "mapped", end - n))
                # what the mapping writes there afterwards is the file's
                m[n:n + 9] = b"afterward"
                m.flush()
                for where, got in (("mapped", m[:end]), ("stored", _stored(f)[:end])):
                    eq((name, where, got[n:n + 9], got.count(b"b"), got.count(b"\0")), (name, where, b"afterward", n, end - n - 9))
            os.close(fd)
            os.close(wr)
    os.close(src)


def _truncated(*sizes):
    def grow(f, fd, wr, src):
        for size in sizes:
            os.ftruncate(fd, size)
        return min(sizes[-1], PAGE)
    return grow


def _allocated(mode, off, n):
    def grow(f, fd, wr, src):
        fallocate(fd, mode, off, n)
        return min(off + n, PAGE)
    return grow


def _written(off):
    def grow(f, fd, wr, src):
        os.pwrite(wr, b"cc", off)
        return min(off, PAGE)
    return grow


def _copied(off):
    def grow(f, fd, wr, src):
        eq(os.copy_file_range(src, fd, 100, 0, off), 100)
        return min(off, PAGE)
    return grow


def grown(d):
    """By whatever needs no byte of the kernel's cache."""
    _grow({
        "fallocate": _allocated(0, 0, 3 * PAGE),
        "fallocate within the page": _allocated(0, 1500, 500),
        "zero": _allocated(ZERO_RANGE, 2000, 3 * PAGE),
        "copy": _copied(2 * PAGE),
        "copy within the page": _copied(2000),
    }, d)


def grown_uncached(d):
    """Also by truncation, and by a direct write; not with the writeback cache."""
    _grow({
        "truncate": _truncated(3 * PAGE),
        "truncate within the page": _truncated(2000),
        "truncate twice": _truncated(1500, 3 * PAGE),
        "write": _written(2 * PAGE),
        "write within the page": _written(2000),
    }, d)


def appended(d):
    """What one process appends is there for those who read to the end meanwhile, by calls and by mappings: no zeros of an old page.
    (Around the kernel's cache, with -o nowriteback, a few are left: DECISIONS.md.)"""
    f = put(os.path.join(d, "f"), b"x" * 100)
    end = time.monotonic() + 0.7

    def by_calls():
        off = bad = 0
        while time.monotonic() < end:
            got = os.pread(fd, 65536, off)
            bad += 0 in got
            off += max(0, len(got) - 100)
        return bad

    def by_mapping():
        bad = 0
        while time.monotonic() < end:
            n = os.fstat(fd).st_size
            with mmap.mmap(fd, n, prot=mmap.PROT_READ) as m:
                bad += 0 in m[max(0, n - 400):]
        return bad

    pids = []
    for read in by_calls, by_calls, by_mapping:
        pid = os.fork()
        if pid == 0:
            fd = os.open(f, os.O_RDONLY)
            os._exit(read() > 0)
        pids.append(pid)
    wr, n = os.open(f, os.O_WRONLY | os.O_APPEND), 0
    while time.monotonic() < end:
        n += os.write(wr, b"x" * (37 + n % 300))
    eq(([os.waitpid(pid, 0)[1] for pid in pids], os.stat(f).st_size), ([0] * 3, 100 + n))
    os.close(wr)


def aio(d, view=None):
    """Asynchronous direct writes beside a reader that fills the cache: what io_getevents says is written, is read."""
    n, nwrites = 64 * 1024, 4
    f = put(os.path.join(d, "f.u8"), bytes(n * nwrites))
    if view:
        f = os.path.join(view, "f.npy")
    base = os.path.getsize(f) - n * nwrites
    fd = os.open(f, os.O_RDWR | os.O_DIRECT)
    rd = os.open(f, os.O_RDONLY)
    reader = os.fork()
    while not reader:
        os.pread(rd, n * nwrites, base)
    buf = mmap.mmap(-1, n * nwrites)
    stale, rounds, end = 0, 0, time.monotonic() + 0.7
    try:
        with Aio(nwrites) as queue:
            while time.monotonic() < end:
                rounds += 1
                want = bytes([rounds % 255 + 1]) * (n * nwrites)
                buf[:] = want
                for k in range(nwrites):
                    queue.write(fd, base + k * n, buf, k * n, n)
                eq(queue.wait(nwrites), [n] * nwrites)
                stale += os.pread(rd, n * nwrites, base) != want
    finally:
        os.kill(reader, signal.SIGKILL)
        os.waitpid(reader, 0)
    print("%d rounds" % rounds)
    eq(stale, 0)
    os.close(fd)
    os.close(rd)


def beside_names(d):
    """Writes around the cache, for which the kernel holds the lock of the file, beside renames and unlinks, which wait for that with the
    lock of the directory: nobody waits for ever."""
    files = [os.path.join(d, "f%d" % k) for k in range(10)]
    data = random.Random(1).randbytes(M // 2)
    os.setxattr(d, "user.spillfs.direct", b"1")

    def write(rng):
        fd = os.open(rng.choice(files), os.O_RDWR | os.O_CREAT)
        os.pwrite(fd, data[:rng.randrange(len(data))], rng.randrange(4 * len(data)))
        os.close(fd)

    def act(child):
        rng = random.Random(child)
        for _ in range(100):
            with contextlib.suppress(FileNotFoundError):
                rng.choice((write, lambda rng: os.unlink(rng.choice(files)), lambda rng: os.rename(rng.choice(files), rng.choice(files))))(rng)
    children(16, act)


def beside_dirty(d):
    """One long write with O_DIRECT, of more requests than the kernel has in the background, beside pages that it has to write back for
    somebody else, or of that file: nobody waits for ever."""
    n, end = 72 * M, shared_words()
    a, b = put(os.path.join(d, "a"), bytes(n)), put(os.path.join(d, "b"), bytes(4 * M))
    fd = os.open(a, os.O_RDWR)
    os.fsync(fd)

    def direct():
        direct, data = os.open(a, os.O_RDWR | os.O_DIRECT), mmap.mmap(-1, n)
        for k in range(3):
            data[:] = bytes([k]) * n
            eq(os.pwrite(direct, data, 0), n)
        end[0] = 1

    def seek():
        f = os.open(b, os.O_RDWR)
        while not end[0]:
            os.pwrite(f, b"x" * (4 * M), 0)
            os.lseek(f, 0, os.SEEK_DATA)

    def store():
        with mmap.mmap(fd, n) as m:
            while not end[0]:
                for k in range(0, n, 200 * PAGE):
                    m[k] = 1
    children(3, lambda k: (direct, seek, store)[k]())


def mapped_direct(d):
    """A map of a descriptor with O_DIRECT reads the last page, of which the file has a part: nobody waits for ever."""
    f = put(os.path.join(d, "f"), b"x" * 10000)
    other = os.open(f, os.O_RDWR)
    os.fsync(other)
    os.posix_fadvise(other, 0, 0, os.POSIX_FADV_DONTNEED)
    fd = os.open(f, os.O_RDWR | os.O_DIRECT)
    with mmap.mmap(fd, 10000) as m:
        eq(m[:], b"x" * 10000)


if __name__ == "__main__":
    {f.__name__: f for f in (direct_write, reopened, sizes, other_changes, racing, grown, grown_uncached, appended, aio, beside_names, beside_dirty, mapped_direct)}[sys.argv[1]](*sys.argv[2:])
