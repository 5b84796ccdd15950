"""full.py KIND_DIR [BYTES]: a store filled to the last byte with small files, names and attributes, in the folder given, and
what must hold then: each operation says ENOSPC itself, all that was answered is kept, deleting and cutting always works, and
after that the next operation of every sort succeeds. Prints what it did; leaves 100 files for `check`.

full.py check KIND_DIR BYTES: those are there.

full.py cut BUCKETS_DIR EXTENTS: on a full disk a bucket of so many extents is cut, shorter ones are deleted and replaced.

full.py sparse DIR | begin DIR | resumed DIR: the daemon is killed while a bucket is cut and another is deleted; each is as before or done.

full.py hole BUCKETS_DIR: a hole is made in a bucket that is cut by several commits; then it grows.

full.py others KIND_DIR DIR: another program takes all space of the file system, in DIR, before a commit has written its names.

full.py facts|attributes|extents KIND_DIR: the same with what a commit writes besides data: facts that change again and again,
attributes that the log has as well, extents of one byte."""
import errno
import os
import random
import sys

import sysx


def content(n, size):
    return random.Random(n).randbytes(size)


def write(path, data):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        done = 0
        while done < len(data):
            done += os.write(fd, data[done:])
    finally:
        os.close(fd)


def until_full(what, limit=None):
    """Calls what(n) until it says ENOSPC, at most so often; the number of those that succeeded."""
    for n in range(limit or 10 ** 6):
        try:
            what(n)
        except OSError as e:
            assert e.errno == errno.ENOSPC, (what.__name__, n, e)
            return n
    assert limit, f"{what.__name__} is never refused"
    return limit


def sync(d):
    fd = os.open(d, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def operations(d):
    """One of every sort that may need space, on names that are there or not: name -> function(n)."""
    def rename(n):
        os.rename(f"{d}/name{n}", f"{d}/name{n}-{'r' * 200}")
        os.rename(f"{d}/name{n}-{'r' * 200}", f"{d}/name{n}")
    return {
        "mkdir": lambda n: os.mkdir(f"{d}/dir{n}-" + "d" * 200),
        "create": lambda n: os.close(os.open(f"{d}/file{n}-" + "f" * 200, os.O_CREAT | os.O_EXCL | os.O_WRONLY)),
        "symlink": lambda n: os.symlink("t" * 2000, f"{d}/link{n}"),
        "link": lambda n: os.link(f"{d}/name0", f"{d}/hard{n}-" + "l" * 200),
        "setxattr": lambda n: os.setxattr(f"{d}/name{n % 100}", f"user.a{n}", b"v" * 3000),
        "write": lambda n: write(f"{d}/more{n}", content(n, 3000)),
        "rename": rename,
    }


def fill(d, size):
    os.mkdir(d)
    for n in range(100):
        write(f"{d}/name{n}", content(n, 100))
    kept = until_full(lambda n: write(f"{d}/{n}", content(n, size)))
    for n in range(kept):
        with open(f"{d}/{n}", "rb") as f:
            assert f.read() == content(n, size), n
    counts = {"files": kept}
    for name, op in operations(d).items():
        if name != "rename":
            counts[name] = until_full(op)
    print(os.path.basename(os.path.dirname(d)), size, counts)
    try:
        sync(d) # what was answered has its space
    except OSError as e:
        assert False, ("fsync of a full store", e)
    return kept


def stay(d, kept):
    """Numbers of those that are not deleted: of layers none, as what is alive would have to be copied first."""
    return range(1, kept, 2) if "/layers/" not in d else []


def every_operation(d):
    for name, op in operations(d).items():
        try:
            op(10 ** 6 if name not in ("rename", "setxattr") else 7)
        except OSError as e:
            assert False, (name, "after it was deleted", e)


def use_again(d, kept, size):
    gone = sorted(set(range(kept)) - set(stay(d, kept)))
    for n in gone[::3]:
        os.truncate(f"{d}/{n}", 0)
    for n in gone:
        os.unlink(f"{d}/{n}")
    every_operation(d)
    snapshots = f"{d}/../../snapshots"
    os.mkdir(f"{snapshots}/emptied")
    os.rmdir(f"{snapshots}/emptied")
    sync(d)
    for n in stay(d, kept):
        with open(f"{d}/{n}", "rb") as f:
            assert f.read() == content(n, size), n


def main(d, size):
    kept = fill(d, size)
    assert kept >= 40, kept
    use_again(d, kept, size)
    with open(d + ".kept", "w") as f:
        f.write(str(kept))


def names(d):
    os.mkdir(d)
    for n in range(100):
        write(f"{d}/name{n}", b"x")


def empty(d, n):
    for k in range(n):
        os.unlink(f"{d}/{k}")
    sync(d)
    every_operation(d)
    sync(d)


def facts(d):
    names(d)
    n = until_full(lambda k: write(f"{d}/{k}", content(k, 60000)))
    sync(d)
    for mode in (0o640, 0o600, 0o644):
        for k in range(n):
            os.chmod(f"{d}/{k}", mode)
        sync(d)
    print(n)


def attributes(d):
    def add(k):
        write(f"{d}/{k}", b"x")
        os.setxattr(f"{d}/{k}", "user.a", content(k, 60000))
    names(d)
    n = until_full(add)
    sync(d)
    for mode in (0o640, 0o600, 0o644):
        until_full(lambda k: os.chmod(f"{d}/{k % n}", mode), n)
        sync(d)
    empty(d, n + os.path.exists(f"{d}/{n}"))


def extents(d):
    """More rows than there is space for, in one commit; the data are a few pages."""
    names(d)
    fill = os.open(f"{d}/../../columns/fill", os.O_CREAT | os.O_WRONLY)
    n = until_full(lambda k: os.pwrite(fill, content(k, 65536), k * 65536))
    os.ftruncate(fill, (n - 8) * 65536)
    os.fsync(fill)
    os.close(fill)
    bucket = os.open(f"{d}/0", os.O_CREAT | os.O_RDWR)
    n = until_full(lambda k: os.pwrite(bucket, b"x", 2 * k), 250000)
    os.fsync(bucket)
    assert os.pread(bucket, 2 * n, 0) == (b"x\0" * n)[:-1], n
    os.close(bucket)
    print(n)
    empty(d, 1)


def take_all(path):
    """All space of a file system, to the last block."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    end, step = 0, 1 << 24
    while step >= 4096:
        try:
            os.posix_fallocate(fd, end, step)
            end += step
        except OSError as e:
            assert e.errno == errno.ENOSPC, e
            end, step = os.fstat(fd).st_size, step // 2
    os.close(fd)


def others(d, top):
    os.mkdir(d)
    sync(d)
    for k in range(400):
        write(f"{d}/{k}-{'n' * 100}", b"x")
    take_all(f"{top}/others")
    for _ in range(3):
        try:
            sync(d)
            assert False, "there was space"
        except OSError as e:
            assert e.errno == errno.ENOSPC, e
    os.unlink(f"{d}/0-{'n' * 100}")
    os.unlink(f"{top}/others")
    sync(d)
    write(f"{d}/more", b"x")
    sync(d)


def sparse(path, n, base=0):
    """n extents of one byte; its rows are committed."""
    fd = os.open(path, os.O_CREAT | os.O_RDWR)
    for k in range(n):
        os.pwrite(fd, b"x", base + 2 * k)
        if k % 10000 == 0:
            os.fsync(fd) # there is no room for all rows in one commit
    os.fsync(fd)
    os.close(fd)


def fill_up(path):
    """To the last page."""
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    n = until_full(lambda k: os.pwrite(fd, content(k, 65536), k * 65536))
    until_full(lambda k: os.pwrite(fd, content(k, 4096), n * 65536 + k * 4096))
    os.fsync(fd)
    os.close(fd)


def cut(d, n):
    """The rows of what is cut are more than the log of one commit has space for."""
    names(d)
    for name in "abc":
        sparse(f"{d}/{name}", n if name == "a" else n // 8, 1 << 40)
    write(f"{d}/new", b"new")
    fill_up(f"{d}/../../columns/fill")
    held = os.open(f"{d}/b", os.O_RDONLY)
    os.truncate(f"{d}/a", (1 << 40) + 1001)
    os.unlink(f"{d}/b")
    os.rename(f"{d}/new", f"{d}/c")
    sync(d)
    assert os.fstat(held).st_size == (1 << 40) + 2 * (n // 8) - 1
    os.close(held)
    os.truncate(f"{d}/a", (1 << 40) + 5000)
    every_operation(d)
    for k in range(40):
        write(f"{d}/again{k}", content(k, 3000))
    sync(d)
    with open(f"{d}/a", "rb") as f:
        assert os.pread(f.fileno(), 5000, 1 << 40) == b"x\0" * 500 + b"x" + bytes(3999)
    with open(f"{d}/c", "rb") as f:
        assert f.read() == b"new"


CUT = 40000


def begin(d):
    try:
        os.truncate(f"{d}/t", 1001)
        os.unlink(f"{d}/u")
        sync(d)
        print("promised", flush=True)
        for k in range(12):
            os.utime(f"{d}/t", (k, k))
            sync(d)
    except OSError as e:
        assert e.errno in (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO), e
        sys.exit(9)


def resumed(d, promised):
    whole = b"x\0" * (CUT - 1) + b"x"
    with open(f"{d}/t", "rb") as f:
        got = f.read()
    assert got == whole[:1001] or (got == whole and not promised), len(got)
    assert not promised or not os.path.exists(f"{d}/u")
    if os.path.exists(f"{d}/u"):
        with open(f"{d}/u", "rb") as f:
            assert f.read() == whole
    os.truncate(f"{d}/t", 801)
    os.truncate(f"{d}/t", 5000)
    sync(d)
    with open(f"{d}/t", "rb") as f:
        assert f.read() == whole[:801] + bytes(4199)


HOLED = 8000


def hole(d):
    sparse(f"{d}/t", HOLED)
    fd = os.open(f"{d}/t", os.O_RDWR)
    sysx.fallocate(fd, sysx.PUNCH_HOLE | sysx.KEEP_SIZE, 0, 200)
    os.ftruncate(fd, 0)
    os.ftruncate(fd, 2 * HOLED) # waits for the end of the cut
    os.fsync(fd)


def check(d, size):
    with open(d + ".kept") as f:
        kept = int(f.read())
    for n in stay(d, kept):
        with open(f"{d}/{n}", "rb") as f:
            assert f.read() == content(n, size), n
    for n in range(100):
        with open(f"{d}/name{n}", "rb") as f:
            assert f.read() == content(n, 100), n


if __name__ == "__main__":
    if sys.argv[1] == "check":
        check(sys.argv[2], int(sys.argv[3]))
    elif sys.argv[1] == "sparse":
        for name in "tu":
            sparse(f"{sys.argv[2]}/{name}", CUT)
    elif sys.argv[1] == "begin":
        begin(sys.argv[2])
    elif sys.argv[1] == "resumed":
        resumed(sys.argv[2], sys.argv[3:] == ["promised"])
    elif sys.argv[1] == "others":
        others(sys.argv[2], sys.argv[3])
    elif sys.argv[1] == "cut":
        cut(sys.argv[2], int(sys.argv[3]))
    elif sys.argv[1] in ("facts", "attributes", "extents", "hole"):
        globals()[sys.argv[1]](sys.argv[2])
    else:
        main(sys.argv[1], int(sys.argv[2]))
