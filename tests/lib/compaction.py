"""Readers and writers beside compaction: compaction.py MNT SPILLCTL SECONDS BYTES.

Each array holds its generation in every word, all written in one go; a reader knows which generations it may see, and that BYTES of an
array are of one: a word with the kernel's writeback cache (as on any file system), a page without. Handles and
maps of deleted and of unchanged arrays stay open all the while."""
import mmap
import os
import struct
import subprocess
import sys
import time

import sysx

WORDS = 100000


def content(n):
    return struct.pack("<q", n) * WORDS


def stamp(data):
    n = struct.unpack_from("<q", data)[0]
    sysx.eq(data, struct.pack("<q", n) * (len(data) // 8))
    return n


def writer(k, mnt, end, shared):
    """Overwrites its own array, now and then replaces it, and makes small ones."""
    n = 0
    while time.monotonic() < end:
        n += 1
        path = "%s/layers/w%d" % (mnt, k)
        if n % 7 == 0:
            os.rename(sysx.put(path + ".new", content(n)), path)
        else:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT)
            sysx.eq(os.pwrite(fd, content(n), 0), 8 * WORDS)
            os.close(fd)
        shared[k] = n
        for i in range(20):
            sysx.put("%s/layers/small%d.%d" % (mnt, k, i), struct.pack("<q", n) * (1 + i))
        for i in range(20):
            sysx.eq(stamp(sysx.get("%s/layers/small%d.%d" % (mnt, k, i))), n)


def reader(k, mnt, end, shared, whole):
    kept = content(-k)
    fd = os.open("%s/layers/kept%d" % (mnt, k), os.O_RDONLY)
    gone = os.open("%s/layers/gone%d" % (mnt, k), os.O_RDWR)
    os.unlink("%s/layers/gone%d" % (mnt, k))
    m = mmap.mmap(fd, 0, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED)
    mg = mmap.mmap(gone, 0)
    looks = 0
    while time.monotonic() < end:
        looks += 1
        for f in (fd, gone):
            os.posix_fadvise(f, 0, 0, os.POSIX_FADV_DONTNEED)
        m.madvise(mmap.MADV_DONTNEED)
        sysx.eq(os.pread(fd, 8 * WORDS, 0), kept)
        sysx.eq(m[:], kept)
        sysx.eq(stamp(os.pread(gone, 8 * WORDS, 0)), looks - 1)
        mg[:] = content(looks)
        mg.flush()
        before = shared[k]
        try:
            data = sysx.get("%s/layers/w%d" % (mnt, k))
        except FileNotFoundError:
            continue
        seen = [stamp(data[i:i + whole]) for i in range(0, len(data), whole)]
        after = shared[k] + 1
        assert before <= min(seen) and max(seen) <= after, "%d to %d between %d and %d" % (min(seen), max(seen), before, after)


def committer(mnt, end):
    """Many commits, so that the chain grows, and it must stay bounded."""
    root, longest, n = os.open(mnt, os.O_RDONLY | os.O_DIRECTORY), 0, 0
    while time.monotonic() < end:
        sysx.put(mnt + "/layers/tick", b"%d" % n)
        sysx.commit(root)
        n += 1
        with open(mnt + "/.spillfs/stats") as f:
            chain = [int(line.split()[1]) for line in f if line.startswith("spillfs_chain ")][0]
        longest = max(longest, chain)
        assert chain <= 65, "the chain is %d" % chain
    print("%d commits, longest chain %d" % (n, longest))


def main(mnt, ctl, seconds, whole):
    end, shared = time.monotonic() + float(seconds), sysx.shared_words()
    for k in range(2):
        sysx.put("%s/layers/kept%d" % (mnt, k), content(-k))
        sysx.put("%s/layers/gone%d" % (mnt, k), content(0))
    subprocess.run([ctl, "commit", mnt], check=True, stdout=subprocess.DEVNULL)

    def compacter():
        n = 0
        while time.monotonic() < end:
            subprocess.run([ctl, "compact", mnt], check=True, stdout=subprocess.DEVNULL)
            n += 1
            time.sleep(0.1)
        print("%d compactions" % n)
    jobs = [lambda k=k: writer(k, mnt, end, shared) for k in range(2)]
    jobs += [lambda k=k: reader(k, mnt, end, shared, int(whole)) for k in range(2)]
    jobs += [lambda: committer(mnt, end), compacter]
    sysx.children(len(jobs), lambda i: jobs[i]())
    for k in range(2):
        sysx.eq(stamp(sysx.get("%s/layers/w%d" % (mnt, k))), shared[k])
        sysx.eq(sysx.get("%s/layers/kept%d" % (mnt, k)), content(-k))


if __name__ == "__main__":
    main(*sys.argv[1:])
