"""passthrough.py CHECK DIR [PID]: what must hold of columns that the kernel reads and writes by itself. DIR is a new directory
of columns/; PID the daemon's. Some checks have a second half, after a crash: CHECK-after."""
import mmap
import os
import signal
import stat
import sys

from sysx import eq, tick

MIB = 1 << 20


def noise(n, seed=1):
    import random
    return random.Random(seed).randbytes(n)


def made(path, data):
    with open(path, "wb") as f:
        f.write(data)
    return data


def read(path):
    with open(path, "rb") as f:
        return f.read()


def in_force(d, pid):
    """With the daemon stopped an open file is read, written and mapped."""
    data = made(f"{d}/a.u8", noise(MIB))
    fd = os.open(f"{d}/a.u8", os.O_RDWR)
    m = mmap.mmap(fd, MIB)
    os.pwrite(fd, data[:1], 0) # the first one asks for capabilities
    os.kill(pid, signal.SIGSTOP)
    try:
        got = os.pread(fd, MIB, 0)
        n = os.pwrite(fd, b"new", 5)
        m[100:103] = b"map"
        seen = os.pread(fd, 3, 100)
    finally:
        os.kill(pid, signal.SIGCONT)
    eq((got, n, seen), (data, 3, b"map"))
    os.close(fd)
    m.close()
    eq(read(f"{d}/a.u8")[:103], data[:5] + b"new" + data[8:100] + b"map")


def sizes(d, _):
    """Whoever asks is told the size and the times of this moment, and the daemon has them too."""
    p = f"{d}/a.u8"
    fd = os.open(p, os.O_RDWR | os.O_CREAT)
    want = b""
    for n in (1, 4096, 70000, 3):
        before = os.stat(p).st_mtime_ns
        tick(before)
        want += noise(n, n)
        os.write(fd, want[-n:])
        s = os.stat(p)
        eq((s.st_size, os.fstat(fd).st_size), (len(want),) * 2)
        assert s.st_mtime_ns > before, (n, s.st_mtime_ns, before)
        eq(s.st_ctime_ns >= s.st_mtime_ns, True)
    for e in os.scandir(d):
        eq(e.stat().st_size, len(want))
    eq(os.lseek(fd, 0, os.SEEK_HOLE), len(want))
    dst = os.open(f"{d}/copy.u8", os.O_RDWR | os.O_CREAT)
    eq(os.copy_file_range(fd, dst, MIB, 0, 0), len(want))
    eq(os.pread(dst, MIB, 0), want)
    os.ftruncate(fd, 10)
    eq((os.pread(fd, 100, 0), os.stat(p).st_size), (want[:10], 10))
    os.ftruncate(fd, 20)
    eq(os.pread(fd, 100, 0), want[:10] + b"\0" * 10)
    os.pwrite(fd, b"x", 200000)
    eq(os.stat(p).st_size, 200001)
    with open(p, "r+b") as g: # opened beside it
        g.truncate(0)
    eq((os.pread(fd, 100, 0), os.stat(p).st_size), (b"", 0))
    os.pwrite(fd, b"again", 0)
    os.close(os.open(p, os.O_WRONLY | os.O_TRUNC))
    eq((os.pread(fd, 100, 0), os.stat(p).st_size), (b"", 0))
    a = os.open(p, os.O_WRONLY | os.O_APPEND)
    for k in range(5):
        os.write(a, b"%d" % k)
        os.write(fd, b"") if k else os.pwrite(fd, b"-", os.stat(p).st_size)
    eq(read(p), b"0-1234")
    os.close(a)
    os.posix_fallocate(fd, 0, 100000)
    eq((os.stat(p).st_size, os.stat(p).st_blocks >= 195), (100000, True))
    os.close(fd)
    os.close(dst)


def direct(d, _):
    """O_DIRECT goes to the disk, and agrees with what others read and write."""
    p = f"{d}/a.u8"
    fd = os.open(p, os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    buf = mmap.mmap(-1, 1 << 16)
    buf[:] = data = noise(1 << 16)
    eq(os.pwrite(fd, buf, 0), 1 << 16)
    eq(read(p), data)
    with open(p, "r+b") as f:
        f.seek(4096)
        f.write(b"cached")
    eq((os.preadv(fd, [buf], 0), buf[:4102]), (1 << 16, data[:4096] + b"cached"))
    eq(os.stat(p).st_size, 1 << 16)
    os.close(fd)


def times(d, _):
    """A time that was set stays, whatever was written before it, and is not undone when the file is closed or committed."""
    p = f"{d}/a.u8"
    fd = os.open(p, os.O_RDWR | os.O_CREAT)
    m = None
    for step in range(3):
        os.write(fd, noise(70000))
        if m:
            m[0] = step
        os.utime(p, ns=(10 ** 18, 10 ** 18 + step))
        os.fsync(fd)
        eq(os.stat(p).st_mtime_ns, 10 ** 18 + step)
        m = m or mmap.mmap(fd, 4096)
    os.close(fd)
    eq(os.stat(p).st_mtime_ns, 10 ** 18 + 2)
    m[0] = 200
    m.flush()
    assert os.stat(p).st_mtime_ns > 10 ** 18 + 2, "a map has changed the file"


def maps(d, _):
    """A map is shared by processes, and lives on when its file is closed: whoever opens the file sees what it does."""
    p = f"{d}/a.u8"
    made(p, bytes(MIB))
    fd = os.open(p, os.O_RDWR)
    m = mmap.mmap(fd, MIB)
    os.close(fd)
    m2 = None
    r, w = os.pipe()
    pid = os.fork()
    if not pid:
        with open(p, "r+b") as f:
            m2 = mmap.mmap(f.fileno(), MIB)
        m2[1000:1004] = b"from"
        os.write(w, b".")
        os._exit(0 if m[2000:2000 + 2] == b"\0\0" else 1)
    eq((os.read(r, 1), os.waitpid(pid, 0)[1]), (b".", 0))
    eq(m[1000:1004], b"from")
    for k in range(3):
        m[3000:3001] = b"%d" % k
        eq(read(p)[3000:3001], b"%d" % k)
        with open(p, "r+b") as f:
            f.seek(500000 + k)
            f.write(b"w")
        eq(m[500000:500003], (b"www"[:k + 1] + b"\0\0")[:3])
        os.sync()
    m[4000:4003] = b"end"
    os.fsync(os.open(p, os.O_RDONLY))


def maps_after(d, _):
    got = read(f"{d}/a.u8")
    eq((got[1000:1004], got[3000:3001], got[4000:4003], got[500000:500003]), (b"from", b"2", b"end", b"www"))


def durable(d, _):
    """What was written, and synced by one of its descriptors, is there after a crash."""
    for k in range(20):
        fd = os.open(f"{d}/f{k}.u8", os.O_RDWR | os.O_CREAT)
        os.write(fd, noise(1000 * k * k, k))
        os.fsync(fd)
        os.write(fd, b"later")
    fd = os.open(f"{d}/cut.u8", os.O_RDWR | os.O_CREAT)
    os.write(fd, noise(MIB))
    os.fsync(fd)
    os.ftruncate(fd, 1000)
    os.write(fd, b"")
    os.fsync(fd)
    s = os.open(f"{d}/osync.u8", os.O_WRONLY | os.O_CREAT | os.O_DSYNC)
    os.write(s, noise(100000))
    r = os.open(f"{d}/osync.u8", os.O_RDONLY)
    s2 = os.open(f"{d}/osync.u8", os.O_WRONLY | os.O_APPEND | os.O_DSYNC)
    os.write(s2, b"tail")
    os.close(r)


def durable_after(d, _):
    for k in range(20):
        want = noise(1000 * k * k, k)
        eq((k, read(f"{d}/f{k}.u8")[:len(want)]), (k, want))
    eq(read(f"{d}/cut.u8"), noise(MIB)[:1000])
    eq(read(f"{d}/osync.u8"), noise(100000) + b"tail")


def as_nobody(what):
    pid = os.fork()
    if not pid:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            what()
            os._exit(0)
        except BaseException as e: # pylint: disable=broad-except
            print(repr(e), file=sys.stderr)
        os._exit(1)
    eq(os.waitpid(pid, 0)[1], 0)


def mode(p):
    return stat.S_IMODE(os.stat(p).st_mode)


def privileges(d, _):
    """Set-id bits and capabilities do not outlive a change, whenever they came."""
    p = f"{d}/a"
    cap = bytes.fromhex("0100000200040000000000000000000000000000")
    made(p, noise(100000))

    def give():
        os.chmod(p, 0o6777)
        os.setxattr(p, "security.capability", cap)

    def none(after):
        eq((after, oct(mode(p)), "security.capability" in os.listxattr(p)), (after, oct(0o777), False))

    def write(flags=os.O_WRONLY):
        fd = os.open(p, flags)
        os.write(fd, b"changed")
        os.close(fd)
    give()
    as_nobody(write)
    none("a write")
    give()
    r = os.open(p, os.O_RDONLY)
    as_nobody(write)
    none("a write beside a reader")
    os.close(r)
    fd = os.open(p, os.O_WRONLY)
    os.write(fd, b"before")
    give()
    as_nobody(lambda: os.write(fd, b"after"))
    os.close(fd)
    none("a write by a descriptor that was there before")
    fd = os.open(p, os.O_WRONLY)
    os.write(fd, b"before")
    give()
    os.close(fd)
    eq((oct(mode(p)), os.getxattr(p, "security.capability")), (oct(0o6777), cap))


def alternation(d, _):
    """Cached and passed through in turns: nobody reads a stale page. The first open decides for those beside it."""
    p = f"{d}/a.u8"
    made(p, b"small")
    for k in range(5):
        r = os.open(p, os.O_RDONLY) # inline: cached
        eq(os.pread(r, 10, 0), b"small" if not k else b"%dmall" % (k - 1))
        w = os.open(p, os.O_RDWR)
        os.pwrite(w, b"%d" % k, 0)
        eq((os.pread(r, 10, 0), os.pread(w, 10, 0)), (b"%dmall" % k,) * 2)
        os.close(r)
        os.close(w)
        w = os.open(p, os.O_WRONLY)
        os.pwrite(w, b"%d" % k, 0)
        r = os.open(p, os.O_RDONLY)
        eq(os.pread(r, 10, 0), b"%dmall" % k)
        os.close(w)
        os.close(r)
    big = f"{d}/b.u8"
    want = bytearray(made(big, noise(300000)))
    os.chmod(big, 0o4755)
    for k in range(6):
        os.chmod(big, 0o4755 if k % 2 else 0o755) # set-id: its writer is not passed through
        fd = os.open(big, os.O_RDWR)
        want[k * 50000:k * 50000 + 4] = b"%04d" % k
        os.pwrite(fd, b"%04d" % k, k * 50000)
        eq(os.pread(fd, MIB, 0), bytes(want))
        os.close(fd)
        eq(read(big), bytes(want))


def names(d, _):
    """Unlinked, replaced and linked files go on being the ones that are open."""
    a = os.open(f"{d}/a.u8", os.O_RDWR | os.O_CREAT)
    os.write(a, b"A" * 100000)
    os.unlink(f"{d}/a.u8")
    os.write(a, b"more")
    eq((os.fstat(a).st_size, os.fstat(a).st_nlink, os.pread(a, 9, 99995)), (100004, 0, b"AAAAAmore"))
    b = os.open(f"{d}/b.u8", os.O_RDWR | os.O_CREAT)
    c = os.open(f"{d}/c.u8", os.O_RDWR | os.O_CREAT)
    os.write(b, b"b" * 70000)
    os.write(c, b"c" * 70000)
    os.rename(f"{d}/b.u8", f"{d}/c.u8")
    os.write(c, b"old")
    os.write(b, b"new")
    os.link(f"{d}/c.u8", f"{d}/l.u8")
    eq((read(f"{d}/l.u8"), os.fstat(c).st_size), (b"b" * 70000 + b"new", 70003))
    for fd in (a, b, c):
        os.close(fd)


def many(d, _):
    """More open files than the daemon keeps descriptors for."""
    fds = [os.open(f"{d}/f{k}.u8", os.O_RDWR | os.O_CREAT) for k in range(700)]
    for turn in range(2):
        for k, fd in enumerate(fds):
            os.write(fd, b"%04d" % k * (turn * 20000 + 10))
    for k, fd in enumerate(fds):
        eq((k, os.stat(f"{d}/f{k}.u8").st_size), (k, 80080))
        os.close(fd)


def many_after(d, _):
    for k in range(700):
        eq((k, read(f"{d}/f{k}.u8") == b"%04d" % k * 20020), (k, True))


def bound(d, _):
    """A reader that consumes, and a writer below a quota that came after the first open, beside one that is passed through."""
    data = noise(4 * MIB)
    os.setxattr(d, "user.spillfs.consume", b"1")
    made(f"{d}/a.u8", data)
    w = os.open(f"{d}/a.u8", os.O_RDWR)
    m = mmap.mmap(w, 4 * MIB)
    r = os.open(f"{d}/a.u8", os.O_RDONLY)
    eq(b"".join(iter(lambda: os.read(r, 65536), b"")) == data, True)
    eq((m[:MIB] == bytes(MIB), m[3 * MIB:] == data[3 * MIB:]), (True, True))
    os.close(r)
    os.setxattr(d, "user.spillfs.quota", b"8M")
    for flags in (os.O_RDWR, os.O_WRONLY):
        fd = os.open(f"{d}/a.u8", flags)
        os.pwrite(fd, b"new%d" % flags, 4 * MIB - 10)
        eq(m[-10:-6], b"new%d" % flags)
        os.close(fd)
    m.close()
    os.close(w)
    os.removexattr(d, "user.spillfs.quota")
    os.removexattr(d, "user.spillfs.consume")


def main(check, d, pid="0"):
    if not check.endswith("-after"):
        os.mkdir(d)
    globals()[check.replace("-", "_")](d, int(pid))


if __name__ == "__main__":
    main(*sys.argv[1:])
