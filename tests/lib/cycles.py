"""cycles.py MNT PID N: N files of each kind are made, used and deleted by four processes, and the daemon holds no more descriptors,
memory, inodes and arrays behind them than behind the first ones."""
import os
import random
import sys
import time

KINDS = ("buckets", "columns", "layers")
PROCESSES = 4
SLACK_KIB = 24 << 10  # of resident memory
SLACK_FDS = 8


def cycle(d, r, i):
    a, b = "%s/f%d-%d" % (d, os.getpid(), i), "%s/g%d-%d" % (d, os.getpid(), i)
    fd = os.open(a, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    data = bytes([i % 251 + 1]) * r.choice((0, 100, 5000, 70000))
    os.write(fd, data)
    what = r.randrange(6)
    if what == 0:
        os.setxattr(a, "user.a", b"value")
    if what == 1 and r.random() < 0.1:
        os.fsync(fd)
    if what == 2:
        os.rename(a, b)
        a = b
    if what == 3:
        os.link(a, b)
        os.unlink(b)
    if what == 4:
        os.unlink(a)  # open still
    assert os.pread(fd, 70001, 0) == data, (a, what)
    os.close(fd)
    if what != 4:
        os.unlink(a)


def run(mnt, n, seed):
    children = []
    for p in range(PROCESSES):
        pid = os.fork()
        if pid == 0:
            r = random.Random(seed * PROCESSES + p)
            for i in range(n // PROCESSES):
                cycle(os.path.join(mnt, r.choice(KINDS), "cycles"), r, i)
            os._exit(0)
        children.append(pid)
    for pid in children:
        assert os.waitpid(pid, 0)[1] == 0, "a process of the cycles failed"


def sync(mnt):
    fd = os.open(mnt + "/layers", os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def status(pid, name):
    with open("/proc/%d/status" % pid) as f:
        return next(int(line.split()[1]) for line in f if line.startswith(name))


def figures(mnt, pid):
    sync(mnt)
    with open(mnt + "/.spillfs/stats") as f:
        stats = dict(line.rsplit(" ", 1) for line in f if not line.startswith("#"))
    cached = sum(int(stats['spillfs_memory_bytes{holds="%s"}' % what]) for what in ("blocks", "indexes"))
    return {
        "descriptors": len(os.listdir("/proc/%d/fd" % pid)),
        "KiB resident": status(pid, "VmRSS") - cached // 1024,  # caches have a budget, and fill it
        "inodes": int(stats["spillfs_inodes"]),
        "dirty bytes": int(stats["spillfs_dirty_bytes"]),
        "pool bytes": int(stats["spillfs_pool_claimed_bytes"]),
        "threads": int(stats["spillfs_threads"]),
        "held inodes": int(stats['spillfs_memory_bytes{holds="inodes"}']),
        "held arrays": int(stats['spillfs_memory_bytes{holds="arrays"}']),
    }


def bad(before, after):
    slack = {"descriptors": SLACK_FDS, "KiB resident": SLACK_KIB, "held inodes": 1 << 16, "held arrays": 1 << 16}
    return [k for k in before if after[k] > before[k] + slack.get(k, 0)]


def main(mnt, pid, n):
    pid, n = int(pid), int(n)
    for k in KINDS:
        os.mkdir(os.path.join(mnt, k, "cycles"))
    run(mnt, max(400, n // 20), 1)
    before = figures(mnt, pid)
    run(mnt, n, 2)
    end = time.monotonic() + 20
    after = figures(mnt, pid)
    while bad(before, after) and time.monotonic() < end:  # what is freed behind a commit, or that the kernel lets go of late
        time.sleep(0.2)
        after = figures(mnt, pid)
    print("%d cycles; before: %s; after: %s" % (n, before, after))
    assert not bad(before, after), bad(before, after)


main(*sys.argv[1:])
