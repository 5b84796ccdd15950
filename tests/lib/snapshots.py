"""Snapshots taken while several processes write: each is one moment of every one of them.

    snapshots.py storm MNT OUT ROUNDS     writers and ROUNDS snapshots; OUT: what each looked like
    snapshots.py again MNT OUT            the same, byte for byte and in all attributes
    snapshots.py readonly MNT SNAP        every kind of change below snapshots/SNAP: EROFS
    snapshots.py names MNT                what can and what cannot be made in snapshots/
    snapshots.py listing MNT              a listing gives what stays once, while others come and go

The writers number what they write. A writer says in shared memory which number it begins and which it has done, so a
snapshot must hold everything that was done before the mkdir and nothing that began after it."""
import errno
import hashlib
import json
import mmap
import os
import stat
import struct
import sys
import time

import sysx

RECORD = 512
# Words of the file that is overwritten in one write. The kernel's writeback cache takes writes page by page, so that one that
# runs meanwhile is in a snapshot in part.
PAGE_STAMPS = int(os.environ.get("SNAPSHOTS_STAMPS", 512))
PIECE = 512  # words of what is appended to the file that shrinks: a page


class Progress:
    """One writer's: begun and done."""

    def __init__(self, shared, slot):
        self.words, self.at = shared, slot * 2

    def begin(self, n):
        self.words[self.at] = n

    def done(self, n):
        self.words[self.at + 1] = n

    def get(self):
        return tuple(self.words[self.at:self.at + 2])


def record(n):
    return struct.pack("<q", n) * (RECORD // 8)


def append(top, n):
    """A log of records, each in one write."""
    fd = os.open(top + "/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sysx.eq(os.write(fd, record(n)), RECORD)
    os.close(fd)


def overwrite(top, n):
    """All of a file in one write, over blocks of 4 KiB."""
    path = top + "/page.u64"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    if n == 1:
        os.setxattr(path, "user.spillfs.block_size", b"4096")
    sysx.eq(os.pwrite(fd, struct.pack("<q", n) * PAGE_STAMPS, 0), 8 * PAGE_STAMPS)
    os.close(fd)


def replace(top, n):
    """The usual way: a new file over the old."""
    sysx.put(top + "/new.tmp", struct.pack("<q", n) * (1000 + n % 50000))
    os.chmod(top + "/new.tmp", 0o600 | n % 64)
    os.rename(top + "/new.tmp", top + "/new")


def pair(top, n):
    """Two files, always in this order."""
    sysx.put(top + "/first", b"%08d" % n)
    sysx.put(top + "/second", b"%08d" % n)


def walk_on(top, n):
    """A directory that is renamed, with a file that is made again under its old name."""
    if n == 1:
        os.mkdir(top + "/d1")
    else:
        os.rename(top + "/d%d" % (n - 1), top + "/d%d" % n)
        os.unlink(top + "/d%d/f" % n)
    sysx.put(top + "/d%d/f" % n, b"%08d" % n)


def shrink(top, n):
    """A file of n % 100 pieces: it grows by one and is cut to none."""
    if n % 100 == 0:
        os.truncate(top + "/saw", 0)
        return
    fd = os.open(top + "/saw", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, struct.pack("<q", n) * PIECE)
    os.close(fd)


# ---- what a snapshot tells of each

def seen_append(top):
    data = sysx.get(top + "/log")
    sysx.eq(len(data) % RECORD, 0)
    for n in range(len(data) // RECORD):
        sysx.eq(data[n * RECORD:(n + 1) * RECORD], record(n + 1))
    return len(data) // RECORD, len(data) // RECORD


def one_stamp(data, count):
    n = struct.unpack_from("<q", data)[0]
    sysx.eq(data, struct.pack("<q", n) * (count or len(data) // 8))
    return n


def seen_overwrite(top):
    n = one_stamp(sysx.get(top + "/page.u64"), PAGE_STAMPS)
    return n, n


def seen_replace(top):
    n = one_stamp(sysx.get(top + "/new"), 0)
    sysx.eq(os.stat(top + "/new").st_size, 8 * (1000 + n % 50000))
    sysx.eq(stat.S_IMODE(os.stat(top + "/new").st_mode), 0o600 | n % 64)
    return n, n + 1


def text(path):
    """An O_TRUNC and the write after it are two steps."""
    data = sysx.get(path)
    assert len(data) in (0, 8), data
    return int(data) if data else None


def seen_pair(top):
    a, b = text(top + "/first"), text(top + "/second")
    assert a is not None or b is not None
    if a is None:
        return b, b + 1
    if b is None:
        return a, a
    assert a - b in (0, 1), (a, b)
    return b, a


def seen_walk_on(top):
    names = os.listdir(top)
    assert len(names) == 1, names
    n = int(names[0][1:])
    path = "%s/%s/f" % (top, names[0])
    inside = text(path) if os.path.exists(path) else None
    # Renamed, not yet deleted: the old one; then none, empty, new.
    assert inside in (None, n - 1, n), (n, inside)
    return (n if inside == n else n - 1), n


def seen_shrink(top):
    data = sysx.get(top + "/saw")
    stamps = [one_stamp(data[i:i + 8 * PIECE], PIECE) for i in range(0, len(data), 8 * PIECE)]
    if not stamps:
        return None
    sysx.eq(stamps, list(range(stamps[0], stamps[0] + len(stamps))))
    sysx.eq(stamps[0] % 100, 1)
    return stamps[-1], stamps[-1]


WRITERS = ((append, seen_append), (overwrite, seen_overwrite), (replace, seen_replace), (pair, seen_pair),
           (walk_on, seen_walk_on), (shrink, seen_shrink))


def run_writer(k, mnt, shared, stop):
    progress, top = Progress(shared, k), "%s/layers/w%d" % (mnt, k)
    n = 0
    while stop[0] == 0:
        n += 1
        progress.begin(n)
        WRITERS[k][0](top, n)
        progress.done(n)
        time.sleep(0.002) # what they write is read as a whole at each look


def look(top):
    """All of a tree: names, contents, attributes."""
    out = {}
    for d, dirs, files in os.walk(top):
        for name in dirs + files:
            path = os.path.join(d, name)
            s = os.lstat(path)
            facts = [s.st_mode, s.st_uid, s.st_gid, s.st_mtime_ns, s.st_ctime_ns]
            if stat.S_ISREG(s.st_mode):
                data = sysx.get(path)
                facts += [s.st_size, hashlib.sha256(data).hexdigest()]
            elif stat.S_ISLNK(s.st_mode):
                facts += [os.readlink(path)]
            out[os.path.relpath(path, top)] = facts
    return out


def check_snapshot(mnt, name, before, after):
    top = "%s/snapshots/%s/layers" % (mnt, name)
    for k, (_, seen) in enumerate(WRITERS):
        try:
            got = seen("%s/w%d" % (top, k))
            if got is None:
                continue
            done, begun = got
            # Everything before is in, nothing after is.
            assert begun >= before[k][1], "done was %d, and it has %d" % (before[k][1], begun)
            assert done <= after[k][0], "begun was %d, and it has %d" % (after[k][0], done)
        except (AssertionError, OSError) as e:
            raise AssertionError("snapshot %s, %s: %s" % (name, WRITERS[k][0].__name__, e)) from e


def storm(mnt, out, rounds):
    shared, stop = sysx.shared_words(), sysx.shared_words()
    for k in range(len(WRITERS)):
        os.mkdir("%s/layers/w%d" % (mnt, k))
    pids = []
    for k in range(len(WRITERS)):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                run_writer(k, mnt, shared, stop)
                code = 0
            except BaseException:
                import traceback
                traceback.print_exc()
            finally:
                os._exit(code)
        pids.append(pid)
    progress = [Progress(shared, k) for k in range(len(WRITERS))]
    looks = {}
    try:
        while any(p.get()[1] < 2 for p in progress):
            time.sleep(0.01)
        for i in range(int(rounds)):
            name = "s%03d" % i
            before = [p.get() for p in progress]
            os.mkdir("%s/snapshots/%s" % (mnt, name))
            after = [p.get() for p in progress]
            check_snapshot(mnt, name, before, after)
            looks[name] = look("%s/snapshots/%s" % (mnt, name))
        # With the writers still at work: none has changed.
        compare(mnt, looks)
    finally:
        stop[0] = 1
        bad = [pid for pid in pids if os.waitpid(pid, 0)[1]]
    assert not bad, "a writer failed"
    with open(out, "w") as f:
        json.dump(looks, f)
    print("%s snapshots, writers came to %s" % (rounds, [p.get()[1] for p in progress]))


def compare(mnt, looks):
    for name, want in looks.items():
        got = look("%s/snapshots/%s" % (mnt, name))
        assert got.keys() == want.keys(), "%s: %s" % (name, got.keys() ^ want.keys())
        for path, facts in want.items():
            assert got[path] == facts, "%s: %s: %s, wanted %s" % (name, path, got[path], facts)


def again(mnt, out):
    with open(out) as f:
        compare(mnt, json.load(f))


# ---- what is refused

def readonly(mnt, name):
    """The snapshot has: a file f, a directory d with a file in it, a symbolic link l."""
    top = "%s/snapshots/%s/layers" % (mnt, name)
    f, d, l = top + "/f", top + "/d", top + "/l"
    sysx.put(mnt + "/layers/outside", b"x")
    changes = {
        "O_WRONLY": lambda: os.open(f, os.O_WRONLY), "O_RDWR": lambda: os.open(f, os.O_RDWR),
        "O_TRUNC": lambda: os.open(f, os.O_RDONLY | os.O_TRUNC), "O_CREAT": lambda: os.open(d + "/new", os.O_WRONLY | os.O_CREAT),
        "truncate": lambda: os.truncate(f, 0), "unlink": lambda: os.unlink(f), "unlink a link": lambda: os.unlink(l),
        "rmdir": lambda: os.rmdir(d), "rmdir layers": lambda: os.rmdir(top), "mkdir": lambda: os.mkdir(d + "/new"),
        "mkdir beside layers": lambda: os.mkdir(top + "/../new"), "symlink": lambda: os.symlink("x", top + "/new"),
        "mkfifo": lambda: os.mkfifo(top + "/new"), "link": lambda: os.link(f, top + "/new"),
        "chmod": lambda: os.chmod(f, 0o600), "chmod d": lambda: os.chmod(d, 0o700), "chown": lambda: os.chown(f, 1, 1),
        "lchown": lambda: os.lchown(l, 1, 1), "utime": lambda: os.utime(f, (1, 1)), "utime d": lambda: os.utime(d, (1, 1)),
        "chmod top": lambda: os.chmod(mnt + "/snapshots/" + name, 0o700),
        "setxattr": lambda: os.setxattr(f, "user.x", b"new"), "setxattr d": lambda: os.setxattr(d, "user.x", b"new"),
        "setxattr dtype": lambda: os.setxattr(f, "user.spillfs.dtype", b"u8"),
        "removexattr": lambda: os.removexattr(f, "user.x"),
        "rename within": lambda: os.rename(f, top + "/g"), "rename d": lambda: os.rename(d, top + "/e"),
        "rename out": lambda: os.rename(f, mnt + "/layers/g"), "rename in": lambda: os.rename(mnt + "/layers/outside", top + "/g"),
        "rename over": lambda: os.rename(mnt + "/layers/outside", f),
        "exchange": lambda: sysx.rename2(mnt + "/layers/outside", f, sysx.EXCHANGE),
        "link out": lambda: os.link(f, mnt + "/layers/g"), "link in": lambda: os.link(mnt + "/layers/outside", top + "/g"),
    }
    before = look(top)
    for what, change in changes.items():
        try:
            with sysx.fails(errno.EROFS, errno.EXDEV):
                change()
        except AssertionError as e:
            raise AssertionError("%s: %s" % (what, e)) from e
    fd = os.open(f, os.O_RDONLY)
    with sysx.fails(errno.EBADF):
        os.pwrite(fd, b"x", 0)
    with sysx.fails(errno.EBADF):
        sysx.fallocate(fd, 0, 0, 100)
    with sysx.fails(errno.EACCES):
        mmap.mmap(fd, 10, prot=mmap.PROT_WRITE | mmap.PROT_READ, flags=mmap.MAP_SHARED)
    os.close(fd)
    sysx.eq(look(top), before)
    sysx.eq(sysx.get(mnt + "/layers/outside"), b"x")


def names(mnt):
    top = mnt + "/snapshots/"
    sysx.put(mnt + "/layers/f", b"x")
    long = "ä" * 127 + "x"
    for name in ("a", "with space", "new\nline", "..x", "-x", "%41", "a@", "1", long):
        os.mkdir(top + name)
        with sysx.fails(errno.EEXIST):
            os.mkdir(top + name)
        sysx.eq(sysx.get(top + name + "/layers/f"), b"x")
    sysx.eq(sorted(os.listdir(top)), sorted(["a", "with space", "new\nline", "..x", "-x", "%41", "a@", "1", long]))
    for name in ("@", "@1", "@x", "@99999999999999999999999"):
        with sysx.fails(errno.EINVAL, errno.EEXIST):
            os.mkdir(top + name)
    with sysx.fails(errno.EINVAL):
        os.mkdir(top + "@x")
    with sysx.fails(errno.ENAMETOOLONG):
        os.mkdir(top + "x" * 256)
    with sysx.fails(errno.ENOENT):
        os.mkdir(top + "none/below")
    for name in ("@", "@0", "@01", "@x", "@+1", "@-1", "@1x", "@ 1", "@77", "@18446744073709551617", "none"):
        with sysx.fails(errno.ENOENT):
            os.stat(top + name)
        with sysx.fails(errno.ENOENT):
            os.rmdir(top + name)
    for what in (lambda: os.open(top + "new", os.O_WRONLY | os.O_CREAT), lambda: os.symlink("x", top + "new"),
                 lambda: os.mkfifo(top + "new"), lambda: os.link(mnt + "/layers/f", top + "new"),
                 lambda: os.rename(top + "a", top + "new"), lambda: os.unlink(top + "a"),
                 lambda: os.rename(mnt + "/layers/f", top + "new")):
        with sysx.fails(errno.EPERM, errno.EISDIR, errno.EXDEV):
            what()
    with sysx.fails(errno.EPERM, errno.EROFS, errno.EBUSY, errno.ENOTEMPTY):
        os.rmdir(top)
    with sysx.fails(errno.ENOENT, errno.EPERM, errno.EROFS):
        os.rmdir(top + "@1")
    os.rmdir(top + "a")
    os.mkdir(top + "a")


def listing(mnt):
    top = mnt + "/snapshots/"
    stays = {"stays%d" % i for i in range(8)}
    gone = ["a%d" % i for i in range(4)]
    for name in sorted(stays) + gone:
        os.mkdir(top + name)
    seen = []
    for name in sysx.walk(top, 64):
        seen.append(name)
        assert len(seen) < 100, "no end"
        if gone:
            os.rmdir(top + gone.pop())
        elif len(seen) < 20:
            os.mkdir(top + "b%d" % len(seen))
    sysx.eq(sorted(n for n in seen if n in stays), sorted(stays))


if __name__ == "__main__":
    {f.__name__: f for f in (storm, again, readonly, names, listing)}[sys.argv[1]](*sys.argv[2:])
