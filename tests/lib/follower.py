"""A writer and followers of its store.

    follower.py pairs MNT RO COMMITS    two files with equal stamps in each commit: the follower never sees a half
    follower.py delay MNT RO ROUNDS     how long until the follower shows a commit, in its present and by number
    follower.py refused RO              every kind of change: EROFS
    follower.py listing STORE           everything about a store's files, to see that nothing was written
"""
import errno
import hashlib
import os
import statistics
import sys
import time

import sysx

DEADLINE = 10


def stat_value(mnt, name):
    with open(mnt + "/.spillfs/stats") as f:
        for line in f:
            if line.startswith(name + " "):
                return int(line.split()[1])
    raise AssertionError("no %s" % name)


def until(what, f):
    """Polls; seconds that it took."""
    start = time.monotonic()
    while not f():
        assert time.monotonic() < start + DEADLINE, "not after %d s: %s" % (DEADLINE, what)
        time.sleep(0.01)
    return time.monotonic() - start


def put_pair(top, n):
    os.mkdir(top)
    for name, size in (("a", 300000), ("b", 10)):
        sysx.put("%s/%s" % (top, name), b"%010d" % n * (size // 10))


def write_pairs(mnt, commits):
    """Both at once also for a commit that comes at any time, as that of a compaction does."""
    root, cur, new = os.open(mnt, os.O_RDONLY | os.O_DIRECTORY), mnt + "/layers/cur", mnt + "/layers/new"
    for n in range(1, commits + 1):
        put_pair(new, n)
        sysx.rename2(new, cur, sysx.EXCHANGE)
        sysx.commit(root)
        for name in "a", "b":
            os.unlink("%s/%s" % (new, name))
        os.rmdir(new)
        time.sleep(0.02)
    os.close(root)


def stamp(path):
    """All of it is one stamp."""
    data = sysx.get(path)
    sysx.eq(data, data[:10] * (len(data) // 10))
    return int(data[:10]) if data else None


def pairs(mnt, ro, commits):
    commits = int(commits)
    put_pair(mnt + "/layers/cur", 0)
    os.mkdir(mnt + "/snapshots/begin")
    until("the first commit", lambda: os.path.exists(ro + "/snapshots/begin"))
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            write_pairs(mnt, commits)
            code = 0
        finally:
            os._exit(code)
    seen, looks = set(), 0
    end = time.monotonic() + 120
    while commits not in seen:
        assert time.monotonic() < end, "the follower came to %s of %d" % (max(seen, default=0), commits)
        newest = stat_value(ro, "spillfs_newest_layer")
        top = "%s/snapshots/@%d/layers/cur/" % (ro, newest)
        try:
            a, b = stamp(top + "a"), stamp(top + "b")
        except OSError as e:
            assert e.errno in (errno.ENOENT, errno.ESTALE)
            # The writer has dropped it in between: then there is a newer one.
            assert stat_value(ro, "spillfs_newest_layer") > newest
            continue
        assert a == b, "%s: %s and %s" % (top, a, b)
        seen.add(a)
        looks += 1
    sysx.eq(os.waitpid(pid, 0)[1], 0)
    # All that it ever showed, once more.
    number = stat_value(ro, "spillfs_newest_layer")
    for n in range(1, number + 1):
        top = "%s/snapshots/@%d/layers/cur/" % (ro, n)
        if os.path.exists(top):
            sysx.eq(stamp(top + "a"), stamp(top + "b"))
    sysx.eq(stamp(ro + "/layers/cur/a"), commits)
    print("%d looks, %d of %d commits seen on the way" % (looks, len(seen), commits))


def delay(mnt, ro, rounds):
    root, took = os.open(mnt, os.O_RDONLY | os.O_DIRECTORY), []
    for n in range(int(rounds)):
        data = b"%d" % n * 1000
        sysx.put(mnt + "/layers/f", data)
        sysx.put(mnt + "/layers/new%d" % n, data)
        if n:
            os.unlink(mnt + "/layers/new%d" % (n - 1))
        layer, sealed = sysx.commit(root)
        sysx.eq(sealed, 1)

        def shown():
            try:
                return sysx.get(ro + "/layers/f") == data
            except FileNotFoundError:
                return False
        took.append(until("round %d" % n, shown))
        sysx.eq(os.listdir(ro + "/layers").count("new%d" % n), 1)
        assert not os.path.exists(ro + "/layers/new%d" % (n - 1))
        sysx.eq(sysx.get(ro + "/snapshots/@%d/layers/f" % layer), data)
        sysx.eq(os.stat(ro + "/layers/f").st_mtime_ns, os.stat(mnt + "/layers/f").st_mtime_ns)
    os.close(root)
    print("shown after %.2f s (median), %.2f s (longest)" % (statistics.median(took), max(took)))
    assert statistics.median(took) <= 1, "more than a second"


def refused(ro):
    """Has layers/f and layers/d/g."""
    f, d = ro + "/layers/f", ro + "/layers/d"
    changes = {
        "write": lambda: os.open(f, os.O_WRONLY), "create": lambda: os.open(d + "/x", os.O_WRONLY | os.O_CREAT),
        "truncate": lambda: os.truncate(f, 1), "unlink": lambda: os.unlink(f), "mkdir": lambda: os.mkdir(d + "/x"),
        "rmdir": lambda: os.rmdir(d), "rename": lambda: os.rename(f, d + "/x"), "link": lambda: os.link(f, d + "/x"),
        "symlink": lambda: os.symlink("x", d + "/x"), "chmod": lambda: os.chmod(f, 0o600), "chmod d": lambda: os.chmod(d, 0o700),
        "utime": lambda: os.utime(f, (1, 1)), "setxattr": lambda: os.setxattr(f, "user.x", b"x"),
        "mkdir snapshot": lambda: os.mkdir(ro + "/snapshots/x"), "rmdir snapshot": lambda: os.rmdir(ro + "/snapshots/s"),
        "root": lambda: os.mkdir(ro + "/x"),
    }
    for what, change in changes.items():
        try:
            with sysx.fails(errno.EROFS):
                change()
        except AssertionError as e:
            raise AssertionError("%s: %s" % (what, e)) from e
    root = os.open(ro, os.O_RDONLY | os.O_DIRECTORY)
    with sysx.fails(errno.EROFS):
        sysx.commit(root)
    os.close(root)


def listing(store):
    for d, dirs, files in os.walk(store):
        dirs.sort()
        for name in [""] + sorted(files):
            path = os.path.join(d, name)
            s = os.lstat(path)
            h = hashlib.sha256(sysx.get(path)).hexdigest() if name else "-"
            print(os.path.relpath(path, store), "%o" % s.st_mode, s.st_size if name else "-", s.st_mtime_ns, s.st_ctime_ns, h)


if __name__ == "__main__":
    {f.__name__: f for f in (pairs, delay, refused, listing)}[sys.argv[1]](*sys.argv[2:])
