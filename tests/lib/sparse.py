"""What tools that look for holes see.

    sparse.py fill MNT    arrays of all kinds, with holes and without
    sparse.py dirty MNT   some more, to be looked at before they are stored
    sparse.py true DIR... blocks, SEEK_DATA and SEEK_HOLE of every file below them, against its bytes
    sparse.py open MNT    files that a program goes on writing, copied by tar --sparse
"""
import errno
import mmap
import os
import stat
import subprocess
import sys

import numpy as np

from sysx import eq, get, put

KINDS = "buckets", "columns", "layers"
MB = 1 << 20


def with_hole(path, rng):
    with open(path, "wb") as f:
        f.write(rng.bytes(30000))
        f.seek(MB)
        f.write(rng.bytes(8))
        f.truncate(MB + MB // 2)


def fill(mnt):
    for kind in KINDS:
        top = mnt + "/" + kind
        rng = np.random.default_rng(1)
        os.mkdir(top + "/d")
        np.full(80000, 1.5).tofile(top + "/c.f64")
        put(top + "/plain", b"no array")
        put(top + "/none.f64", b"")
        with_hole(top + "/hole.f32", rng)
        os.truncate(os.open(top + "/zeros.f64", os.O_CREAT | os.O_WRONLY), 2 * MB)
        put(top + "/written-zeros.u8", bytes(100000))
        for k in range(5):
            put(top + "/d/%d.u8" % k, b"x")
        np.save(mnt + "/views/npy/" + kind + "/grid.npy", np.arange(60000.).reshape(200, 300).T)
    for k in range(3):
        with open(mnt + "/buckets/runs", "ab") as f:
            f.write(b"run\n" * 1000)


def dirty(mnt):
    for kind in KINDS:
        put(mnt + "/" + kind + "/late.u16", b"late" * 40000)
        put(mnt + "/" + kind + "/late-small.u8", b"late")
        with_hole(mnt + "/" + kind + "/late-hole.u8", np.random.default_rng(2))


def extents(fd):
    """Ranges of data, as the kernel tells them; SEEK_HOLE agrees."""
    at, end, out = 0, os.fstat(fd).st_size, []
    while at < end:
        try:
            data = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as e:
            eq(e.errno, errno.ENXIO)
            break
        if data > at:
            eq(os.lseek(fd, at, os.SEEK_HOLE), at)
        at = os.lseek(fd, data, os.SEEK_HOLE)
        assert at > data
        out.append((data, at))
    os.lseek(fd, 0, os.SEEK_SET)
    return out


def true_file(path):
    fd = os.open(path, os.O_RDONLY)
    ranges, content, s = extents(fd), get(path), os.fstat(fd)
    eq((path, len(content)), (path, s.st_size))
    rest = bytearray(content)
    for a, b in ranges:
        rest[a:b] = bytes(b - a)
    assert not any(rest), "%s has data in a hole" % path
    assert s.st_blocks or not any(content), "%s has data and no blocks" % path
    assert s.st_blocks * 512 <= s.st_size + 4096 + MB, (path, s.st_blocks, s.st_size)
    if "hole" in path and not path.endswith((".zst", ".parquet")) and "/zarr" not in path and len(content) > MB:
        assert len(ranges) > 1, "%s has no holes" % path
    os.close(fd)


def true(*tops):
    for top in tops:
        n = 0
        for where, _, files in os.walk(top):
            for name in files:
                if stat.S_ISREG(os.lstat(where + "/" + name).st_mode):
                    true_file(where + "/" + name)
                    n += 1
        assert n > 0, "there is no file below " + top


def copied(path):
    out = subprocess.run(["tar", "-C", os.path.dirname(path), "-cSf", "-", os.path.basename(path)], check=True,
                         stdout=subprocess.PIPE).stdout
    return subprocess.run(["tar", "-xOf", "-"], input=out, check=True, stdout=subprocess.PIPE).stdout


def opened(mnt):
    for kind in KINDS:
        path = mnt + "/" + kind + "/open"
        # written to a new file
        with open(path, "wb", buffering=0) as f:
            f.write(b"data" * 5000)
            eq(copied(path), b"data" * 5000)
        # mapped in a new file, and in one that was closed and looked at
        for again in range(2):
            fd = os.open(path, os.O_RDWR | (0 if again else os.O_CREAT | os.O_TRUNC))
            if not again:
                os.ftruncate(fd, MB)
            m = mmap.mmap(fd, MB)
            m[5000:5004] = b"data"
            want = bytes(5000) + b"data" + bytes(MB - 5004)
            eq(copied(path), want)
            assert os.stat(path).st_blocks
            m.close()
            os.close(fd)
            os.truncate(path, 0)
            os.truncate(path, MB)
            eq((os.stat(path).st_blocks, get(path)), (0, bytes(MB)))
        os.unlink(path)


if __name__ == "__main__":
    {"fill": fill, "dirty": dirty, "true": true, "open": opened}[sys.argv[1]](*sys.argv[2:])
