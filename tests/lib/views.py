"""views/: names, sizes, and what an open file goes on showing.

    views.py names MNT                what is listed can be looked up, is what it should be, and nothing is missing
    views.py collisions MNT           names that two things would share
    views.py changes MNT              arrays and directories come, go and are renamed
    views.py owners MNT               modes and owners are those of the arrays, and hold for another user
    views.py sizes MNT                stat tells how much is read, before and after everything is stored
    views.py agree MNT [PREFIX]       the same two things about the tree as it is; PREFIX: snapshots/NAME
    views.py readonly MNT [PREFIX]    every kind of change that is refused
    views.py pinned MNT               open views of layered arrays, whatever becomes of the arrays
    views.py mapped MNT               the same of mapped ones
    views.py unpinned MNT             buckets and columns: length and header stay
    views.py caches MNT               the kernel's pages of a view are those of what it shows
    views.py reload MNT               arrays at KIND/t/a.u32 that are loaded again, and then overwritten
    views.py settings MNT             Zarr's metadata do not depend on what is written
    views.py access MNT               permissions hold when arrays are replaced between looking and opening
    views.py damaged MNT STORE        layers/a.u8 is cut in its layer: EIO, not less
    views.py sparse MNT               huge holes
    views.py past MNT                 one file of the past by many
    views.py shared MNT               unchanged files that are opened again and again have one number
    views.py tables MNT               directories as tables
    views.py zarr MNT                 chunks of arrays of several dimensions
    views.py storm MNT SECONDS [stale]  many open and read while others write: each read is one whole version; stale:
                                      or ESTALE
"""
import contextlib
import errno
import io
import itertools
import mmap
import os
import random
import shutil
import stat
import struct
import subprocess
import sys
import time

import numpy as np

import sysx
from sysx import NOBODY, ROOT, eq, fails, get, put

KINDS = {"buckets": "bucket", "columns": "column", "layers": "layered", "scratch": "bucket"}
DURABLE = ("buckets", "columns", "layers")
EXTS = {"npy": ".npy", "zarr": ".zarr", "zarr2": ".zarr", "parquet": ".parquet", "arrow": ".arrow", "zst": ".zst",
        "runs": ""}
TYPES = {"i8": "i1", "i16": "<i2", "i32": "<i4", "i64": "<i8", "u8": "u1", "u16": "<u2", "u32": "<u4", "u64": "<u8",
         "f16": "<f2", "f32": "<f4", "f64": "<f8", "c64": "<c8", "c128": "<c16", "bool": "?"}
NAME_MAX = 255


def formats(mnt):
    """Those that are there; arrow may be listed and have no views yet."""
    return sorted(os.listdir(mnt + "/views"))


def xset(path, name, value):
    os.setxattr(path, "user.spillfs." + name, str(value).encode())


def xget(path, name):
    return os.getxattr(path, "user.spillfs." + name).decode()


def make(path, content=b"", block_size=None, **settings):
    """An array with settings; block sizes and shapes before the first byte."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o666))
    if block_size:
        settings["block_size"] = block_size
    for name, value in settings.items():
        xset(path, name, value)
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, content)
    os.close(fd)
    return path


def overwrite(path, content, off=0):
    fd = os.open(path, os.O_WRONLY)
    sysx.eq(os.pwrite(fd, content, off), len(content))
    os.close(fd)


def np_bytes(a):
    f = io.BytesIO()
    np.save(f, a)
    return f.getvalue()


def commit(mnt):
    fd = os.open(mnt, os.O_RDONLY)
    sysx.commit(fd)
    os.close(fd)


def settle():
    """A view that was open has another number until the kernel has forgotten the old one."""
    time.sleep(1.1)


def drop_caches():
    os.sync()
    if ROOT:
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("3")


def here(path):
    return os.path.lexists(path)


# ---- which names there should be ----------------------------------------------------------------

def dtype_of(path):
    try:
        return xget(path, "dtype")
    except OSError:
        return ""


def shown(fmt, kind, path):
    """Is there a view of this file?"""
    if fmt == "runs":
        return KINDS[kind] == "bucket"
    if fmt == "zst":
        return kind == "layers"
    dtype = dtype_of(path)
    return bool(dtype) and not (fmt == "zarr" and ":" in dtype)


def stems(name):
    stem, dot, ext = name.rpartition(".")
    return (stem, ext) if dot and stem and ext in TYPES else (name, None)


def is_table(path):
    lengths = set()
    for name in os.listdir(path):
        full = path + "/" + name
        if stat.S_ISREG(os.lstat(full).st_mode) and dtype_of(full):
            lengths.add(xget(full, "length"))
    return len(lengths) == 1


def wanted(fmt, kind, path):
    """The names in the view of a directory, by the rules: {name: True if a directory}."""
    entries = {n: os.lstat(path + "/" + n) for n in os.listdir(path)}
    dirs = {n for n, s in entries.items() if stat.S_ISDIR(s.st_mode)}
    files = {n for n, s in entries.items() if stat.S_ISREG(s.st_mode) and shown(fmt, kind, path + "/" + n)}
    meta = {"zarr": {"zarr.json"}, "zarr2": {".zgroup"}}.get(fmt, set())
    out = {n: False for n in meta}
    out.update({n: True for n in dirs - meta})
    tables = fmt in ("parquet", "arrow")
    for name in files:
        choices = [name]
        stem, ext = stems(name)
        others = [n for n in files if stems(n) == (stem, stems(n)[1]) and stems(n)[1] and n != name]
        if ext and fmt not in ("zst", "runs") and stem not in files and not others and not (tables and stem in dirs):
            choices.insert(0, stem)
        for c in choices:
            view = c + EXTS[fmt]
            if view not in out or fmt == "runs":
                if len(os.fsencode(view)) <= NAME_MAX:
                    out[view] = fmt in ("zarr", "zarr2", "runs")
                    break
    for d in dirs if tables else ():
        view = d + EXTS[fmt]
        if view not in out and len(os.fsencode(view)) <= NAME_MAX and is_table(path + "/" + d):
            out[view] = False
    return out


def check_listing(top):
    """What a directory lists is there, under one number, and of that kind; {name: is a directory}."""
    found, numbers = {}, {}
    for entry in os.scandir(top):
        assert entry.name not in found, "%s is listed twice in %s" % (entry.name, top)
        s = os.lstat(entry.path)
        eq((entry.path, entry.is_dir(follow_symlinks=False)), (entry.path, stat.S_ISDIR(s.st_mode)))
        found[entry.name] = stat.S_ISDIR(s.st_mode)
        if entry.inode() != s.st_ino:
            numbers[entry.path] = entry.inode()
    if numbers:
        settle()
    for path, number in numbers.items():
        eq((path, number), (path, os.lstat(path).st_ino))
    return found


def read_whole(path):
    """Its bytes; stat, before and open, tells how many."""
    said = os.lstat(path)
    eq((path, said.st_blocks), (path, 1 if said.st_size else 0))
    with open(path, "rb", buffering=0) as f:
        eq((path, os.fstat(f.fileno()).st_size), (path, said.st_size))
        content = f.readall()
        eq((path, os.fstat(f.fileno()).st_size), (path, said.st_size))
    eq((path, len(content)), (path, said.st_size))
    return content


def check_tree(top, source=None, fmt=None, kind=None):
    """All below one directory of views; number of files."""
    found = check_listing(top)
    if source is not None:
        want = wanted(fmt, kind, source)
        eq((top, sorted(found)), (top, sorted(want)))
        eq((top, found), (top, want))
    n = 0
    for name, is_dir in found.items():
        if is_dir:
            below = source and source + "/" + name
            n += check_tree(top + "/" + name, below if below and os.path.isdir(below) else None, fmt, kind)
        else:
            read_whole(top + "/" + name)
            n += 1
    return n


def agree(mnt, prefix=""):
    top = os.path.join(mnt, prefix) if prefix else mnt
    kinds = ("layers",) if prefix else tuple(KINDS)
    found = check_listing(top + "/views")
    eq(sorted(found), formats(mnt))
    total = 0
    for fmt in found:
        base = top + "/views/" + fmt
        have = {"zst": ("layers", "scratch"), "runs": ("buckets", "scratch")}.get(fmt, kinds)
        eq(sorted(os.listdir(base)), sorted(set(have) & set(kinds)))
        for kind in set(have) & set(kinds):
            n = check_tree(base + "/" + kind, top + "/" + kind, fmt, kind)
            total += n
    return total


# ---- names ------------------------------------------------------------------------------------------

def names(mnt):
    for kind in KINDS:
        top = mnt + "/" + kind
        for t in TYPES:
            make("%s/of_%s.%s" % (top, t, t), bytes(64))
        make(top + "/record", bytes(64), dtype="pos:u32,lcp:u32")
        make(top + "/text.txt", b"hello")
        make(top + "/typed.txt", bytes(12), dtype="i16")
        make(top + "/other.f64", bytes(16), dtype="u32")
        make(top + "/untyped.F64", bytes(16))
        make(top + "/.f64", bytes(16))
        make(top + "/...u8", b"x")
        make(top + "/100%s %d\n\u00e4.f32", bytes(8))
        make(top + "/" + "n" * 247 + ".f64", bytes(8))
        make(top + "/" + "n" * 251 + ".f32", bytes(8))
        make(top + "/" + "n" * 252 + ".u8", bytes(8))
        make(top + "/" + "m" * 255, bytes(8), dtype="i64")
        os.symlink("record", top + "/link.f64")
        os.mkfifo(top + "/fifo.f64")
        os.makedirs(top + "/d/e/\u00fc \\x/f.npy")
        make(top + "/d/e/\u00fc \\x/f.npy/deep.i32", bytes(400))
        os.link(top + "/record", top + "/d/hard.u64")
    assert agree(mnt) > 100
    for fmt in ("npy", "parquet", "zarr2"):
        base = mnt + "/views/%s/layers/" % fmt
        for name in ("of_f64", "of_f64.f64", "typed.txt", "other", "other.f64", "d/hard", "d/hard.u64"):
            assert here(base + name + EXTS[fmt]), name
        for name in ("text.txt", "text", "of", "of_f64.f32", "link", "fifo", "untyped", "", ".", "of_f64.npy"):
            assert not here(base + name + EXTS[fmt]), name
        assert not here(base + "of_f64")
        assert not here(base + "of_f64.f64")
    assert not here(mnt + "/views/nothing") and not here(mnt + "/views/npy/snapshots")
    assert not here(mnt + "/views/zst/buckets") and not here(mnt + "/views/runs/layers")
    many(mnt)


def many(mnt):
    """More than one answer of the kernel's, read slowly while something goes."""
    top = mnt + "/layers/many"
    os.mkdir(top)
    for k in range(700):
        make("%s/file%04d.%s" % (top, k, "f64" if k % 2 else "u8"), b"")
        if k % 10 == 0:
            os.mkdir("%s/dir%04d" % (top, k))
    for fmt in ("npy", "zarr", "parquet"):
        view = mnt + "/views/%s/layers/many" % fmt
        found = list(os.listdir(view))
        eq(len(found), len(set(found)))
        eq(len(found), 770 + (fmt == "zarr"))
        seen = []
        for k, entry in enumerate(os.scandir(view)):
            seen.append(entry.name)
            if k == 100:
                make(top + "/zz_%s.f64" % fmt, b"")
                os.unlink(top + "/file0699.f64")
                make(top + "/file0699.f64", b"")
        stay = set(found) - {"file0699" + EXTS[fmt]}
        eq(sorted(n for n in seen if n in stay), sorted(stay))
        os.unlink(top + "/zz_%s.f64" % fmt)
    shutil.rmtree(top)


def collisions(mnt):
    for kind in KINDS:
        top, npy = mnt + "/" + kind, mnt + "/views/npy/" + kind
        make(top + "/prices.f64", struct.pack("d", 64))
        eq(os.listdir(npy), ["prices.npy"])
        eq(float(np.load(npy + "/prices.npy")[0]), 64)
        make(top + "/prices.f32", struct.pack("f", 32))
        eq(sorted(os.listdir(npy)), ["prices.f32.npy", "prices.f64.npy"])
        assert not here(npy + "/prices.npy")
        eq(float(np.load(npy + "/prices.f32.npy")[0]), 32)
        make(top + "/prices", b"\7", dtype="u8")
        eq(sorted(os.listdir(npy)), ["prices.f32.npy", "prices.f64.npy", "prices.npy"])
        eq(int(np.load(npy + "/prices.npy")[0]), 7)
        eq(float(np.load(npy + "/prices.f64.npy")[0]), 64)
        os.unlink(top + "/prices.f32")
        eq(sorted(os.listdir(npy)), ["prices.f64.npy", "prices.npy"])
        eq(int(np.load(npy + "/prices.npy")[0]), 7)
        os.removexattr(top + "/prices", "user.spillfs.dtype")
        eq(os.listdir(npy), ["prices.npy"])
        eq(float(np.load(npy + "/prices.npy")[0]), 64)
        eq(float(np.load(npy + "/prices.f64.npy")[0]), 64)
        # a name whose stem is itself a name with a type
        make(top + "/prices.f64.f32", struct.pack("f", 3))
        agree(mnt)
        eq(float(np.load(npy + "/prices.f64.npy")[0]), 64)
        eq(float(np.load(npy + "/prices.f64.f32.npy")[0]), 3)
        # directories that have the name of a view
        for ext in EXTS.values():
            os.makedirs(top + "/prices" + ext if ext else top + "/x", exist_ok=True)
        for name in ("zarr.json", ".zgroup", "c"):
            os.makedirs(top + "/" + name, exist_ok=True)
        agree(mnt)
        eq(float(np.load(npy + "/prices.f64.npy")[0]), 64)
        assert os.path.isdir(npy + "/prices.npy")
        # a table, an array and a directory
        os.mkdir(top + "/t")
        make(top + "/t/a.f64", bytes(800))
        make(top + "/t.f64", bytes(80))
        agree(mnt)
        assert here(mnt + "/views/parquet/%s/t.f64.parquet" % kind) and here(npy + "/t.npy")
        os.mkdir(top + "/t.parquet")
        agree(mnt)
        assert os.path.isdir(mnt + "/views/parquet/%s/t.parquet" % kind)


def changes(mnt):
    for kind in KINDS:
        top, npy = mnt + "/" + kind, mnt + "/views/npy/" + kind
        make(top + "/a.i32", bytes(4))
        os.mkdir(top + "/d")
        assert here(npy + "/a.npy") and here(npy + "/d")
        os.rename(top + "/a.i32", top + "/d/b.i32")
        assert not here(npy + "/a.npy")
        eq(np.load(npy + "/d/b.npy").shape, (1,))
        os.rename(top + "/d", top + "/e")
        assert not here(npy + "/d")
        eq(os.listdir(npy + "/e"), ["b.npy"])
        eq(np.load(npy + "/e/b.npy").shape, (1,))
        overwrite(top + "/e/b.i32", bytes(40))
        eq(os.stat(npy + "/e/b.npy").st_size, 4096 + 40)
        os.truncate(top + "/e/b.i32", 7)
        eq(os.stat(npy + "/e/b.npy").st_size, 4096 + 4)
        eq(np.load(npy + "/e/b.npy").shape, (1,))
        xset(top + "/e/b.i32", "dtype", "u8")
        eq(np.load(npy + "/e/b.npy").dtype, np.dtype("u1"))
        eq(np.load(npy + "/e/b.npy").shape, (7,))
        xset(top + "/e/b.i32", "shape", "3,2")
        eq(np.load(npy + "/e/b.npy").shape, (3, 2))
        xset(top + "/e/b.i32", "order", "F")
        assert np.isfortran(np.load(npy + "/e/b.npy"))
        os.removexattr(top + "/e/b.i32", "user.spillfs.shape")
        eq(np.load(npy + "/e/b.npy").shape, (7,))
        os.rename(top + "/e/b.i32", top + "/e/b.txt")
        eq(os.listdir(npy + "/e"), ["b.txt.npy"])
        os.removexattr(top + "/e/b.txt", "user.spillfs.dtype")
        eq(os.listdir(npy + "/e"), [])
        assert not here(npy + "/e/b.txt.npy")
        # the new one under an old name
        make(top + "/e/n.u8", b"new")
        make(top + "/e/o.u8", b"other")
        eq(np.load(npy + "/e/n.npy").tobytes(), b"new")
        os.rename(top + "/e/o.u8", top + "/e/n.u8")
        eq(np.load(npy + "/e/n.npy").tobytes(), b"other")
        os.unlink(top + "/e/n.u8")
        assert not here(npy + "/e/n.npy")
        os.unlink(top + "/e/b.txt")
        os.rmdir(top + "/e")
        assert not here(npy + "/e")
        # a directory that is gone while a process stands in it
        os.mkdir(top + "/gone")
        fd = os.open(npy + "/gone", os.O_RDONLY | os.O_DIRECTORY)
        os.rmdir(top + "/gone")
        with contextlib.suppress(OSError):
            eq(os.listdir(fd), [])
        os.close(fd)
        exchange(top, npy)
    agree(mnt)


def walks(mnt):
    """A listing of a view ends, and gives what stays once, while arrays are renamed and made."""
    want = {"a%03d" % i for i in range(150)}
    for kind in KINDS:
        top = "%s/%s/d" % (mnt, kind)
        os.mkdir(top)
        for name in want:
            make("%s/%s.u8" % (top, name), b"\1")
        for fmt in ("npy", "zarr"):
            seen = []
            for shown in sysx.walk("%s/views/%s/%s/d" % (mnt, fmt, kind)):
                name, k = shown.split(".")[0], len(seen)
                seen.append(name)
                assert k < 1000, "%s: no end" % fmt
                if name in want:
                    os.rename("%s/%s.u8" % (top, name), top + "/x.u8")
                    os.rename(top + "/x.u8", "%s/%s.u8" % (top, name))
                    make("%s/more%s%03d.u8" % (top, fmt, k), b"\1")
            got = [n for n in seen if n in want]
            eq((fmt, len(got), len(set(got))), (fmt, len(want), len(want)))


def exchange(top, npy):
    make(top + "/x.u8", b"xx")
    make(top + "/y.u8", b"y")
    eq((os.stat(npy + "/x.npy").st_size, os.stat(npy + "/y.npy").st_size), (4098, 4097))
    sysx.rename2(top + "/x.u8", top + "/y.u8", sysx.EXCHANGE)
    eq((get(npy + "/x.npy")[4096:], get(npy + "/y.npy")[4096:]), (b"y", b"xx"))


def owners(mnt):
    for kind in KINDS:
        top = mnt + "/" + kind
        make(top + "/a.u8", b"secret")
        os.makedirs(top + "/d")
        make(top + "/d/b.u8", b"below")
        for mode in (0o640, 0o604, 0o000, 0o777, 0o4755, 0o200):
            os.chmod(top + "/a.u8", mode)
            for fmt in formats(mnt):
                view = mnt + "/views/%s/%s/a%s" % (fmt, kind, EXTS[fmt] if fmt not in ("zst", "runs") else
                                                   ".u8" + EXTS[fmt])
                if not here(view):
                    continue
                bits = stat.S_IMODE(os.stat(view).st_mode)
                want = mode & 0o666 if fmt == "npy" else mode & 0o444
                if stat.S_ISDIR(os.stat(view).st_mode):
                    want |= want >> 2
                eq((view, oct(mode), oct(bits)), (view, oct(mode), oct(want)))
        os.chmod(top + "/d", 0o710)
        eq(stat.S_IMODE(os.stat(mnt + "/views/npy/" + kind + "/d").st_mode), 0o710)
        eq(stat.S_IMODE(os.stat(mnt + "/views/zarr/" + kind + "/d").st_mode), 0o510)
        if ROOT:
            owners_hold(mnt, kind, top)
    if ROOT:
        owners_tables(mnt)


def owners_hold(mnt, kind, top):
    npy = mnt + "/views/npy/" + kind
    os.chmod(top + "/a.u8", 0o640)
    os.chmod(top + "/d", 0o700)
    os.chown(top + "/a.u8", 0, 1234)
    s = os.stat(npy + "/a.npy")
    eq((s.st_uid, s.st_gid), (0, 1234))

    def nothing():
        for fmt in ("npy", "zarr", "zarr2", "parquet"):
            with fails(errno.EACCES):
                view = mnt + "/views/%s/%s/a%s" % (fmt, kind, EXTS[fmt])
                os.listdir(view) if "zarr" in fmt else get(view)
            with fails(errno.EACCES):
                os.listdir(mnt + "/views/%s/%s/d" % (fmt, kind))
        with fails(errno.EACCES):
            os.stat(npy + "/d/b.npy")
        with fails(errno.EACCES):
            put(npy + "/a.npy", b"x")
        with fails(errno.EACCES):
            put(npy + "/d/new.npy", b"x")
    sysx.in_child(nothing, NOBODY)
    os.chown(top + "/a.u8", NOBODY, NOBODY)
    os.chown(top + "/d", NOBODY, NOBODY)

    def all_of_it():
        eq(get(npy + "/a.npy")[4096:], b"secret")
        eq(os.listdir(npy + "/d"), ["b.npy"])
        np.save(npy + "/d/mine.npy", np.arange(3))
        eq(os.stat(top + "/d/mine").st_uid, NOBODY)
    sysx.in_child(all_of_it, NOBODY)


def owners_tables(mnt):
    """Whoever may read a table may read each of its columns, whoever owns them; and if one owns all, whoever may read them."""
    d, table = mnt + "/buckets/table", mnt + "/views/parquet/buckets/table.parquet"
    os.mkdir(d)
    names = [make("%s/%s.u8" % (d, name), b"x") for name in "ab"]
    callers = [(uid, groups) for uid in (11, 12, 13) for groups in ((), (21,), (22,), (21, 22))]

    def may_read(caller, s):
        uid, groups = caller
        return bool(s.st_mode & (0o400 if uid == s.st_uid else 0o040 if s.st_gid in groups else 0o004))
    for b_owner in (11, 21), (11, 22), (12, 21), (12, 22):
        for name, owner in zip([d] + names, ((11, 21), (11, 21), b_owner)):
            os.chown(name, *owner)
        for modes in itertools.product((0, 0o4, 0o40, 0o44, 0o400, 0o404, 0o440, 0o444), repeat=2):
            for name, mode in zip(names, modes):
                os.chmod(name, mode)
            shown, all_of = os.stat(table), [os.stat(name) for name in names]
            for caller in callers:
                may, should = may_read(caller, shown), all(may_read(caller, s) for s in all_of)
                assert not may or should, (caller, b_owner, oct(modes[0]), oct(modes[1]), shown)
                assert may or not should or b_owner != (11, 21), (caller, oct(modes[0]), oct(modes[1]), shown)


# ---- sizes ------------------------------------------------------------------------------------------

def sample(nbytes, seed, how):
    """noise, zeros, or numbers that compress and are better shuffled."""
    if how == "noise":
        return random.Random(seed).randbytes(nbytes)
    if how == "zeros":
        return bytes(nbytes)
    n = nbytes // 8 + 1
    return (np.cumsum(np.random.default_rng(seed).integers(-50, 50, n)) / 100 + 1000).astype("<f8").tobytes()[:nbytes]


def world(mnt, seed=1):
    """Arrays of all sorts in all kinds; {path: content}."""
    out = {}
    for kind in KINDS:
        top = mnt + "/" + kind
        for bs in (32768, 65536 + 4096, 131072) if kind == "layers" else (None,):
            for how in ("noise", "numbers", "zeros"):
                for n, nbytes in enumerate((0, 8, 131072, 200001)):
                    for ext in ("f64", "u8", "bool") if nbytes > 8 else ("f64",):
                        if ext == "bool" and how == "noise" or ext == "u8" and how == "zeros":
                            continue
                        name = "%s_%s_%d.%s" % (how[:3], bs, n, ext)
                        content = sample(nbytes, seed + n, how)
                        if ext == "bool":
                            content = bytes(b & 1 for b in content)
                        out[make(top + "/" + name, content, bs)] = content
        nd = sample(6000 * 8, seed, "numbers")
        for k, order in enumerate("CF"):
            settings = {"shape": "10,20,30", "order": order}
            out[make(top + "/nd%s.f64" % order, nd, **settings)] = nd
        out[make(top + "/zero_d.f64", nd[:8], shape="()")] = nd[:8]
        out[make(top + "/record", nd[:48000], dtype="a:u16,b:f64,c:bool,d:c64")] = nd[:48000]
        path = make(top + "/sparse.i64", b"start")
        os.truncate(path, 5 << 20)
        overwrite(path, b"middle", 2 << 20)
        out[path] = get(path)
    return out


def sizes(mnt):
    made = world(mnt)
    first = agree(mnt)
    os.sync()
    commit(mnt)
    eq(agree(mnt), first)
    for path, content in made.items():
        kind, name = path[len(mnt) + 1:].split("/", 1)
        dtype = dtype_of(path)
        if not dtype:
            continue
        view = read_whole(mnt + "/views/npy/%s/%s.npy" % (kind, name))
        whole = len(content) - len(content) % int(np.load(mnt + "/views/npy/%s/%s.npy" % (kind, name)).itemsize)
        eq(view[4096:], content[:whole])
    # stat alone reads nothing
    before = {k: v for k, v in stats(mnt).items() if "read_bytes" in k}
    for fmt in formats(mnt):
        for where, _, files in os.walk(mnt + "/views/" + fmt):
            for f in files:
                os.stat(where + "/" + f)
    after = {k: v for k, v in stats(mnt).items() if "read_bytes" in k}
    eq(after, before)


def stats(mnt):
    out = {}
    for line in get(mnt + "/.spillfs/stats").decode().splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            out[name] = float(value)
    return out


# ---- refusals ---------------------------------------------------------------------------------------

def readonly(mnt, prefix=""):
    """What is not one array's file cannot be changed; in the past, nothing. (What can: views_edit.py.)"""
    ro = (errno.EROFS,)
    denied = (errno.EROFS, errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP)
    base = os.path.join(mnt, prefix, "views")
    for fmt in formats(mnt):
        if fmt == "runs" and prefix:
            continue
        kind = "buckets" if fmt == "runs" else "layers"
        d = "%s/%s/%s" % (base, fmt, kind)
        some = [os.path.join(w, f) for w, _, fs in os.walk(d) for f in fs]
        writable = fmt == "npy" and not prefix
        one = fmt in ("npy", "parquet", "arrow", "zst") and not prefix
        for f in [f for f in some if not one or f.endswith("/t" + EXTS[fmt])][:3]:
            before = get(f)
            if not writable:
                for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND):
                    with fails(*ro):
                        os.close(os.open(f, flags))
            with fails(*denied):
                os.truncate(f, 0)
            with fails(*denied):
                os.unlink(f)
            with fails(*denied):
                os.rename(f, f + "2.npy")
            with fails(*denied):
                os.rename(f, d + "/moved.npy")
            with fails(*denied):
                os.link(f, d + "/link.npy")
            with fails(*denied):
                os.link(f, mnt + "/layers/link.npy")
            with fails(*denied):
                os.chmod(f, 0o600)
            if ROOT:
                with fails(*denied):
                    os.chown(f, 1, 1)
            with fails(*denied):
                os.utime(f)
            with fails(*denied):
                os.setxattr(f, "user.x", b"1")
            with fails(*denied, errno.ENODATA):
                os.removexattr(f, "user.x")
            eq(get(f), before)
        for name in ("new.npy", "new") if not writable else ("new.txt", "new"):
            with fails(*denied):
                put(d + "/" + name, b"x")
        for f in some[:3] if one and not writable else ():
            for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND):
                with fails(*ro):
                    os.close(os.open(f, flags))
            with fails(*denied):
                os.truncate(f, 0)
        if not writable:
            with fails(*denied):
                os.mkdir(d + "/dir")
        with fails(*denied):
            os.symlink("x", d + "/symlink.npy")
        with fails(*denied):
            os.mkfifo(d + "/fifo.npy")
        for where in (base, base + "/" + fmt):
            for change in (lambda p: os.mkdir(p), lambda p: put(p, b"x")):
                with fails(*denied, errno.EACCES):
                    change(where + "/new.npy")
        with fails(*denied, errno.EBUSY, errno.ENOTEMPTY):
            os.rmdir(d)
        with fails(*denied, errno.EBUSY):
            os.rename(d, d + "2")
        with fails(*denied, errno.EBUSY):
            os.rename(base + "/" + fmt, base + "/other")
    with fails(*denied, errno.EBUSY):
        os.rmdir(base)
    with fails(*denied, errno.EXDEV, errno.EBUSY):
        os.rename(base, mnt + "/layers/views")


# ---- pinning ----------------------------------------------------------------------------------------

LAYERED = ("npy", "zarr", "zarr2", "parquet", "arrow", "zst")


def view_files(mnt, fmt, kind, name):
    """The files of an array's view, by any of its names."""
    stem = stems(name)[0] if fmt not in ("zst", "runs") else name
    top = "%s/views/%s/%s/%s%s" % (mnt, fmt, kind, stem, EXTS[fmt])
    if not here(top):
        return []
    if not os.path.isdir(top):
        return [top]
    return sorted(os.path.join(w, f) for w, _, fs in os.walk(top) for f in fs)


class Open:
    """A view that is open, of which a part has been read; what it showed when it was opened."""

    def __init__(self, path):
        get(path)  # the first reader of a bucket or column brings a Parquet view its statistics
        self.path, self.content = path, get(path)
        self.fd = os.open(path, os.O_RDONLY)
        self.part = min(len(self.content), 5000)
        eq(os.pread(self.fd, self.part, 0), self.content[:self.part])

    def check(self, close=False):
        eq((self.path, os.fstat(self.fd).st_size), (self.path, len(self.content)))
        for drop in (False, True):
            if drop:
                os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)
            at, pieces = 0, []
            while piece := os.pread(self.fd, 100000, at):
                pieces.append(piece)
                at += len(piece)
            assert b"".join(pieces) == self.content, "%s has changed" % self.path
        if close:
            os.close(self.fd)


def remove(top, f):
    os.unlink(top + "/" + f)


def replace(top, f):
    make(top + "/tmp", sample(250000, 77, "noise"))
    os.rename(top + "/tmp", top + "/" + f)


def punch(top, f):
    fd = os.open(top + "/" + f, os.O_WRONLY)
    sysx.fallocate(fd, sysx.KEEP_SIZE | sysx.PUNCH_HOLE, 65536, 100000)
    os.close(fd)


CHANGES = (
    ("one element", lambda top, f: overwrite(top + "/" + f, b"\xff" * 8, 8 * 20000)),
    ("all", lambda top, f: overwrite(top + "/" + f, sample(300000, 99, "noise"))),
    ("append", lambda top, f: overwrite(top + "/" + f, b"a" * 100000, os.stat(top + "/" + f).st_size)),
    ("hole", punch),
    ("cut", lambda top, f: os.truncate(top + "/" + f, 100000)),
    ("type", lambda top, f: xset(top + "/" + f, "dtype", "u16")),
    ("shape", lambda top, f: xset(top + "/" + f, "shape", "100,5")),
    ("empty", lambda top, f: os.truncate(top + "/" + f, 0)),
    ("grown", lambda top, f: os.truncate(top + "/" + f, 400000)),
    ("replaced", replace),
    ("gone", remove),
)


def pinned(mnt):
    top, held = mnt + "/layers", []
    for bs, how in ((16384, "numbers"), (131072, "noise"), (131072, "numbers")):
        f = "%s%d.f64" % (how, bs)
        make(top + "/" + f, sample(300000, 5, how), bs)
        if how == "noise":
            os.sync()
        for name, change in CHANGES:
            for fmt in LAYERED:
                files = view_files(mnt, fmt, "layers", f)
                held += [Open(p) for p in files[:2] + files[-1:]]
            change(top, f)
            for o in held[-30:]:
                o.check()
            for fmt in LAYERED:
                for p in view_files(mnt, fmt, "layers", f):
                    read_whole(p)
            if name in ("all", "cut", "replaced"):
                commit(mnt)
    commit(mnt)
    for o in held:
        o.check(close=True)
    eq(os.listdir(top), [])


def content_of(view):
    return np.load(view).tobytes()


def mapped(mnt):
    """np.load(mmap_mode="r") while the array is overwritten, cut, replaced, replaced by an upload, removed."""
    for kind in KINDS:
        top, npy = mnt + "/" + kind, mnt + "/views/npy/" + kind
        was = []

        def hold():
            a = np.load(npy + "/m.npy", mmap_mode="r")
            was.append((a, np.array(a[:10]), a.shape))
            if kind == "layers":
                was[-1] += (np.array(a),)

        def check():
            for a, start, shape, *whole in was:
                eq(a.shape, shape)
                a[-1], a[shape[0] // 2]  # no SIGBUS
                if whole:
                    assert np.array_equal(a, whole[0]), "a mapped view has changed"
        make(top + "/m.f64", np.arange(100000.).tobytes())
        hold()
        overwrite(top + "/m.f64", np.arange(7., 100007.).tobytes())
        check()
        hold()
        os.truncate(top + "/m.f64", 80000)
        check()
        eq(np.load(npy + "/m.npy").shape, (10000,))
        hold()
        make(top + "/n", np.arange(11., 50011.).tobytes())
        os.rename(top + "/n", top + "/m.f64")
        check()
        hold()
        np.save(npy + "/m.npy", np.arange(13., 90013.))
        check()
        eq(np.load(npy + "/m.npy").shape, (90000,))
        hold()
        np.save(npy + "/m.npy", np.arange(17., 18.))
        check()
        eq(np.load(npy + "/m.npy").tolist(), [17.])
        hold()
        with open(npy + "/m.npy", "wb"):
            check()
        check()
        os.unlink(top + "/m.f64")
        check()
        del was[:]


def unpinned(mnt):
    """What is overwritten in a bucket or column shows through; length and header do not change."""
    for kind in ("buckets", "columns"):
        top, npy = mnt + "/" + kind, mnt + "/views/npy/" + kind
        make(top + "/a.u8", b"o" * 300000)
        fd = os.open(npy + "/a.npy", os.O_RDONLY)
        head = os.pread(fd, 4096, 0)
        overwrite(top + "/a.u8", b"n" * 400000)
        eq(os.fstat(fd).st_size, 4096 + 300000)
        eq(os.pread(fd, 4096, 0), head)
        body = os.pread(fd, 500000, 4096)
        eq(len(body), 300000)
        assert set(body) <= set(b"no")
        new = os.open(npy + "/a.npy", os.O_RDONLY)
        eq(os.pread(new, 500000, 4096), b"n" * 400000)
        os.truncate(top + "/a.u8", 100000)
        eq((os.fstat(fd).st_size, os.fstat(new).st_size), (4096 + 300000, 4096 + 400000))
        for f, n in ((fd, 300000), (new, 400000)):
            os.posix_fadvise(f, 0, 0, os.POSIX_FADV_DONTNEED)
            body = os.pread(f, 500000, 4096)
            eq(len(body), n)
            eq(body[:100000], b"n" * 100000)
        os.unlink(top + "/a.u8")
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        eq(os.pread(fd, 100000, 4096), b"n" * 100000)
        os.close(fd)
        os.close(new)
        # parquet: a footer and pages of one moment
        make(top + "/b.i32", np.arange(50000, dtype="<i4").tobytes())
        o = Open(mnt + "/views/parquet/%s/b.parquet" % kind)
        overwrite(top + "/b.i32", np.arange(9, dtype="<i4").tobytes(), 200000)
        o.check(close=True)


def caches(mnt):
    """Read, overwritten, read again; with and without what the kernel may have kept, and with one open all along."""
    for kind in KINDS:
        top, npy = mnt + "/" + kind, mnt + "/views/npy/" + kind
        make(top + "/a.u32", np.full(50000, 0, "<u4").tobytes())
        keep = None
        for k in range(1, 30):
            data = np.full(50000, k, "<u4")
            if k % 3 == 0:
                overwrite(top + "/a.u32", data.tobytes())
            elif k % 3 == 1:
                make(top + "/tmp", data.tobytes())
                os.rename(top + "/tmp", top + "/a.u32")
            else:
                np.save(npy + "/a.npy", data)
            for _ in range(2):
                eq(np.unique(np.load(npy + "/a.npy")).tolist(), [k])
            if k % 4 == 0:
                if keep is not None:
                    os.close(keep)
                keep = os.open(npy + "/a.npy", os.O_RDONLY)
            if k % 5 == 0:
                overwrite(top + "/a.u32", struct.pack("<I", 1000 + k), 4 * k)
                eq(int(np.load(npy + "/a.npy")[k]), 1000 + k)
                overwrite(top + "/a.u32", struct.pack("<I", k), 4 * k)
                eq(int(np.load(npy + "/a.npy", mmap_mode="r")[k]), k)
        os.close(keep)
        # a shared mapping writes, and nothing else says so
        fd = os.open(top + "/a.u32", os.O_RDWR)
        m = mmap.mmap(fd, 200000)
        for k in range(5):
            m[400:404] = struct.pack("<I", 5000 + k)
            m.flush()
            eq(int(np.load(npy + "/a.npy")[100]), 5000 + k)
        m.close()
        os.close(fd)
        # unchanged: not read again, unless others have the kernel drop its pages meanwhile
        settle()
        path, read = npy + "/a.npy", 'spillfs_read_bytes_total{kind="view"}'
        counts = []
        for _ in range(5):
            get(path)
            counts.append(stats(mnt)[read])
        assert any(a == b for a, b in zip(counts, counts[1:])), counts


def sparse(mnt):
    """Views of huge holes, and listings of what is gone."""
    make(mnt + "/layers/far.u8")
    overwrite(mnt + "/layers/far.u8", b"x", 1 << 48)
    size = os.stat(mnt + "/views/zst/layers/far.u8.zst").st_size
    assert (1 << 48) // 128 * 1024 // 1024 // 1024 < size < 1 << 36, size
    make(mnt + "/layers/a.u8", b"abc")
    fd = os.open(mnt + "/views/zarr2/layers/a.zarr", os.O_RDONLY)
    eq(sorted(os.listdir(fd)), [".zarray", "0"])
    os.unlink(mnt + "/layers/a.u8")
    eq(os.listdir(fd), [])
    os.close(fd)


def reload(mnt):
    """Arrays of an earlier mount, and some that the daemon has forgotten meanwhile: a view has what was written since."""
    for kind in DURABLE:
        top, views = mnt + "/" + kind, mnt + "/views/"
        path, npy, pq = top + "/t/a.u32", views + "npy/" + kind + "/t/a.npy", views + "parquet/" + kind + "/t.parquet"
        wanted = np.fromfile(path, "<u4")
        keep = []
        for k in range(1, 13):
            eq(np.load(npy).tolist(), wanted.tolist())
            wanted[k] = 1 << 24 | k
            if k % 4 == 0:
                keep += [os.open(npy, os.O_RDONLY), os.open(pq, os.O_RDONLY)]
            overwrite(path, wanted[k:k + 1].tobytes(), 4 * k)
            if k % 3 == 0:
                drop_caches()
            eq(np.load(npy).tolist(), wanted.tolist())
            if kind == "layers":
                raw = subprocess.run(["zstd", "-dcq", views + "zst/layers/t/a.u32.zst"], check=True,
                                     stdout=subprocess.PIPE).stdout
                assert raw == wanted.tobytes(), k
                continue
            chunk = get(views + "zarr/" + kind + "/t/a.zarr/c/0")
            for got in (get(pq), chunk):
                assert struct.pack("<I", 1 << 24 | k) in got, (kind, k)
        for fd in keep:
            os.close(fd)


def settings(mnt):
    """What a reader has read of Zarr's metadata stays true for the chunks, whatever is written."""
    rng = np.random.default_rng(1)
    smooth = (1000 + np.cumsum(rng.random(131072))).tobytes()
    top, views = mnt + "/layers", mnt + "/views"

    def metadata():
        return [get(views + "/zarr2/layers/x.zarr/.zarray"), get(views + "/zarr/layers/x.zarr/zarr.json")]
    for how in ("one element", "filled later", "first block later"):
        make(top + "/x.f64", smooth if how == "one element" else b"", 65536)
        if how != "one element":
            os.truncate(top + "/x.f64", len(smooth))
        if how == "first block later":
            overwrite(top + "/x.f64", rng.bytes(65536), 5 * 65536)
        seen = metadata()
        if how == "one element":
            overwrite(top + "/x.f64", smooth[80:88], 80)
        else:
            overwrite(top + "/x.f64", smooth[:len(smooth) if how == "filled later" else 65536])
        eq((how, metadata()), (how, seen))
        commit(mnt)
        drop_caches()
        eq((how, metadata()), (how, seen))
        os.unlink(top + "/x.f64")


def listed(mnt, kind):
    """Statements for a directory of many names, each looked up once (find asks more often in places). The arrays are held:
    what the kernel forgets meanwhile, as others may have it do, is loaded again."""
    d = "%s/%s/d" % (mnt, kind)
    os.mkdir(d)
    names = ["%d.f64" % k for k in range(200)]
    held = [os.open(make("%s/%s" % (d, name), bytes(8)), os.O_PATH) for name in names]
    subprocess.run([os.environ["SPILLCTL"], "sync", mnt], check=True)  # a commit makes statements, too
    views = os.open("%s/views/npy/%s/d" % (mnt, kind), os.O_RDONLY)
    before = stats(mnt)["spillfs_meta_statements_total"]
    got = {name: os.stat(name, dir_fd=views, follow_symlinks=False) for name in os.listdir(views)}
    after = stats(mnt)["spillfs_meta_statements_total"]
    eq({name: (stat.S_ISREG(s.st_mode), s.st_size) for name, s in got.items()},
       {name.replace("f64", "npy"): (True, 4104) for name in names})
    print(kind, after - before, "statements")
    assert 200 < after - before < 1000
    for fd in held + [views]:
        os.close(fd)


def damaged(mnt, store):
    """Layers are cut while they are in use. Frames lie there in any order, so nothing but the headers is left."""
    paths = [mnt + "/layers/a.u8"] + [mnt + "/views/%s/layers/%s" % p for p in (
        ("npy", "a.npy"), ("zst", "a.u8.zst"), ("parquet", "a.parquet"), ("zarr2", "a.zarr/15"))]
    with open(paths[0], "rb", buffering=0) as f:
        eq(len(f.read(10)), 10)
    drop_caches()
    for name in os.listdir(store + "/layers"):
        if name.endswith(".zst"):
            os.truncate(store + "/layers/" + name, 4096)
    for path in paths:
        with fails(errno.EIO):
            get(path)


def access(mnt):
    """Whoever was let in to one array is not let in to what takes its place."""
    for kind in KINDS:
        top, npy = mnt + "/" + kind, mnt + "/views/npy/" + kind
        os.mkdir(top + "/d", 0o755)
        for what in ("read", "write", "gone"):
            make(top + "/d/x.u8", b"public")
            os.chmod(top + "/d/x.u8", 0o666)

            def stranger():
                fd = os.open(npy + "/d/x.npy", os.O_PATH)
                words[0] = 1
                while words[0] != 2:
                    time.sleep(.01)
                again = "/proc/self/fd/%d" % fd
                with fails(errno.EACCES, errno.ESTALE):
                    if what == "read":
                        raise AssertionError(get(again))
                    fd = os.open(again, os.O_WRONLY | os.O_TRUNC)
                    os.write(fd, np_bytes(np.frombuffer(b"bad", "u1")))
                    os.close(fd)

            def owner():
                while words[0] != 1:
                    time.sleep(.01)
                if what != "read":
                    os.rename(top + "/d/x.u8", top + "/d/old.u8")
                if what != "gone":
                    make(top + "/new.u8", b"secret")
                    os.chmod(top + "/new.u8", 0o600)
                    os.rename(top + "/new.u8", top + "/d/x.u8")
                words[0] = 2
            words = sysx.shared_words()
            sysx.children(2, lambda i: sysx.in_child(stranger, NOBODY) if i else owner())
            if what == "gone":
                eq(os.listdir(top + "/d"), ["old.u8"])
            else:
                eq((get(top + "/d/x.u8"), stat.S_IMODE(os.stat(top + "/d/x.u8").st_mode)), (b"secret", 0o600))
            for name in os.listdir(top + "/d"):
                os.unlink(top + "/d/" + name)
        # removed while it is written: not made again where the writer may not
        make(top + "/d/x.u8", b"public")
        os.chmod(top + "/d/x.u8", 0o666)

        def late():
            fd = os.open(npy + "/d/x.npy", os.O_WRONLY | os.O_TRUNC)
            os.write(fd, np_bytes(np.frombuffer(b"new", "u1")))
            words[0] = 1
            while words[0] != 2:
                time.sleep(.01)
            with fails(errno.EACCES):
                os.close(fd)

        def remover():
            while words[0] != 1:
                time.sleep(.01)
            os.unlink(top + "/d/x.u8")
            words[0] = 2
        words = sysx.shared_words()
        sysx.children(2, lambda i: sysx.in_child(late, NOBODY) if i else remover())
        eq(os.listdir(top + "/d"), [])


def past(mnt, seconds):
    """Many open, read and look at one file of the past at the same time."""
    files = [mnt + "/snapshots/s/" + f for f in ("layers/a.f64", "views/npy/layers/a.npy", "views/parquet/layers/a.parquet")]
    want = [get(f) for f in files]
    end = time.monotonic() + float(seconds)

    def act(i):
        while time.monotonic() < end:
            if i < 3:
                eq(get(files[i]), want[i])
            else:
                os.stat(files[i % 3])
    sysx.children(7, act)


def shared(mnt):
    """What does not change has one number, however often it is open."""
    for path in (mnt + "/views/npy/layers/a.npy", mnt + "/views/parquet/layers/d.parquet",
                 mnt + "/snapshots/s/views/npy/layers/a.npy", mnt + "/snapshots/s/views/parquet/layers/d.parquet"):
        number = os.stat(path).st_ino
        files = [open(path, "rb") for _ in range(3)]
        eq([os.fstat(f.fileno()).st_ino for f in files] + [os.stat(path).st_ino], [number] * 4)
        for f in files:
            f.close()


# ---- tables and zarr --------------------------------------------------------------------------------

def tables(mnt):
    for kind in KINDS:
        top, pq = mnt + "/" + kind, mnt + "/views/parquet/" + kind
        os.mkdir(top + "/t")
        assert not here(pq + "/t.parquet") and here(pq + "/t")
        make(top + "/t/a.f64", bytes(800))
        assert here(pq + "/t.parquet")
        alone = os.stat(pq + "/t.parquet").st_size
        make(top + "/t/b.i32", bytes(400))
        both = os.stat(pq + "/t.parquet").st_size
        assert both > alone
        eq(sorted(os.listdir(pq)), ["t", "t.parquet"])
        assert all(n in get(pq + "/t.parquet") for n in (b"PAR1", b"\x01a", b"\x01b"))
        make(top + "/t/readme.txt", b"no column")
        eq(os.stat(pq + "/t.parquet").st_size, both)
        os.mkdir(top + "/t/sub")
        eq(len(read_whole(pq + "/t.parquet")), both)
        # another length, and it is no table
        overwrite(top + "/t/b.i32", bytes(4), 400)
        assert not here(pq + "/t.parquet")
        eq(os.listdir(pq), ["t"])
        o = None
        overwrite(top + "/t/a.f64", bytes(8), 800)
        o = Open(pq + "/t.parquet")
        eq(sorted(os.listdir(pq)), ["t", "t.parquet"])
        # a column has another name: the header is longer
        os.rename(top + "/t/a.f64", top + "/t/" + "long" * 20 + ".f64")
        o.check()
        assert b"long" * 20 in read_whole(pq + "/t.parquet")
        os.rename(top + "/t/" + "long" * 20 + ".f64", top + "/t/a.f64")
        # two that would have one name keep theirs
        make(top + "/t/a.u8", bytes(101))
        assert all(n in read_whole(pq + "/t.parquet") for n in (b"\x05a.f64", b"\x04a.u8", b"\x01b"))
        # one of them overwritten
        now = Open(pq + "/t.parquet")
        overwrite(top + "/t/b.i32", struct.pack("<i", -77), 40)
        assert struct.pack("<i", -77) in read_whole(pq + "/t.parquet") or kind == "layers"
        if kind == "layers":
            now.check()
            o.check()
        for f in ("a.f64", "a.u8", "b.i32"):
            assert here(pq + "/t.parquet")
            os.unlink(top + "/t/" + f)
        assert not here(pq + "/t.parquet")
        if kind == "layers":
            o.check(close=True)
            now.check(close=True)
        os.unlink(top + "/t/readme.txt")
        os.rmdir(top + "/t/sub")
        os.rmdir(top + "/t")
        eq(os.listdir(pq), [])
        # the whole class is one, which has no name
        make(top + "/x.f64", bytes(80))
        agree(mnt)


def zarr(mnt):
    """zarr-python reads arrays of one to three dimensions in both orders; chunks are whole rows of the slowest axis."""
    import zarr as z
    rng = np.random.default_rng(3)
    shapes = [(), (0,), (1,), (20001,), (0, 3), (3, 0), (150, 301), (301, 150), (20, 30, 40), (7, 1, 1, 9), (1, 50000)]
    for kind in KINDS:
        for k, shape in enumerate(shapes):
            for order in "CF":
                for bs in (16384, 131072) if kind == "layers" else (None,):
                    a = np.asarray(rng.integers(0, 1000, shape), "<f8")
                    name = "s%d%s%s" % (k, order, bs)
                    settings = {"shape": ",".join(map(str, shape)) if shape else "()", "order": order}
                    make("%s/%s/%s.f64" % (mnt, kind, name), a.tobytes(order=order), bs, **settings)
                    view = mnt + "/views/zarr2/%s/%s.zarr" % (kind, name)
                    got = z.open_array(view, mode="r")
                    eq((view, got.shape), (view, shape))
                    assert np.array_equal(got[...], a), view
                    slowest = 0 if order == "C" else len(shape) - 1
                    eq([c for j, c in enumerate(got.chunks) if j != slowest],
                       [max(n, 1) for j, n in enumerate(shape) if j != slowest])
                    npy = np.load(mnt + "/views/npy/%s/%s.npy" % (kind, name))
                    assert npy.shape == shape and np.array_equal(npy, a), view
                    if len(shape) > 1 and 0 not in shape and max(shape) != a.size:
                        eq((view, np.isfortran(npy)), (view, order == "F"))
    agree(mnt)


# ---- many at once -----------------------------------------------------------------------------------

def load_mapped(path):
    """np.load(mmap_mode="r") opens the path twice, which may be two versions."""
    with open(path, "rb") as f:
        eq(np.lib.format.read_magic(f), (1, 0))
        shape, _, dtype = np.lib.format.read_array_header_1_0(f)
        return np.memmap(f, dtype, "r", f.tell(), shape)


def storm(mnt, seconds, stale=""):
    """Writers: in place in one write, by rename, by upload. Readers: npy (mapped and not), zst, parquet's length. The kernel's writeback
    cache keeps a page whole, no more: only without it may VIEWS_INPLACE, the elements that are written in place, be more."""
    inplace = int(os.environ.get("VIEWS_INPLACE", 1024))
    words = sysx.shared_words()
    top, views = mnt + "/layers", mnt + "/views"

    def content(v):
        return np.full(4000 + v * 37 % 9000, v, "<u4")

    make(top + "/inplace.u32", np.zeros(inplace, "<u4").tobytes(), 4096)
    make(top + "/renamed.u32", content(1).tobytes(), 8192)
    np.save(views + "/npy/layers/uploaded.npy", content(1))
    end = time.monotonic() + float(seconds)

    def going(word, least):
        """For the time that is asked for, and on a slow machine until it has been done often enough."""
        return time.monotonic() < end or words[word] < least

    def write(which):
        v = 1
        while going(which, 6):
            v += 1
            if which == 0:
                overwrite(top + "/inplace.u32", np.full(inplace, v, "<u4").tobytes())
            elif which == 1:
                make(top + "/renamed.tmp", content(v).tobytes(), 8192)
                os.rename(top + "/renamed.tmp", top + "/renamed.u32")
            else:
                np.save(views + "/npy/layers/uploaded.npy", content(v))
            words[which] = v

    def one(data, name):
        assert data.size and (data == data[0]).all(), "%s: versions %s in one view" % (name, np.unique(data)[:5])
        want = inplace if name == "inplace" else content(int(data[0])).size
        eq((name, int(data[0]), data.size), (name, int(data[0]), want))
        return int(data[0])

    def read(which):
        rng, last = random.Random(which), {}
        held = []
        while going(100 + which, 4):
            name = rng.choice(("inplace", "renamed", "uploaded"))
            ext = "" if name == "uploaded" else ".u32"
            how = rng.choice(("npy", "npy", "mapped", "zst", "parquet", "stat"))
            words[100 + which] += 1
            floor = words[("inplace", "renamed", "uploaded").index(name)]
            try:
                if how == "zst":
                    raw = subprocess.run(["zstd", "-dcq", "%s/zst/layers/%s%s.zst" % (views, name, ext)], check=True,
                                         stdout=subprocess.PIPE).stdout
                    got = one(np.frombuffer(raw, "<u4"), name)
                elif how == "parquet":
                    raw = get("%s/parquet/layers/%s.parquet" % (views, name))
                    eq((raw[:4], raw[-4:]), (b"PAR1", b"PAR1"))
                    foot = struct.unpack("<I", raw[-8:-4])[0]
                    assert b"spillfs version" in raw[-8 - foot:], "no footer where the end says"
                    continue
                elif how == "stat":
                    os.stat("%s/npy/layers/%s.npy" % (views, name))
                    continue
                else:
                    a = (load_mapped if how == "mapped" else np.load)("%s/npy/layers/%s.npy" % (views, name))
                    got = one(a, name)
                    if how == "mapped" and rng.random() < .2:
                        held.append((a, got, name))
                assert got >= floor or got == 0, "%s: %d was there, then %d" % (name, floor, got)
                assert got >= last.get(name, 0), "%s went back from %d to %d" % (name, last[name], got)
                last[name] = got
            except OSError as e:
                if stale and e.errno == errno.ESTALE:
                    continue
                raise AssertionError("%s by %s is not there" % (name, how)) from e
            if len(held) > 20:
                a, got, name = held.pop(rng.randrange(20))
                eq((name, one(a, name)), (name, got))

    def act(i):
        write(i) if i < 3 else read(i)
    sysx.children(8, act)
    print("versions", words[0], words[1], words[2], "reads", sum(words[103:108]))


if __name__ == "__main__":
    {f.__name__: f for f in (names, collisions, changes, walks, owners, sizes, agree, readonly, pinned, mapped, unpinned, caches,
                             reload, settings, access, listed, damaged, sparse, past,
                             shared, tables, zarr, storm)}[sys.argv[1]](*sys.argv[2:])
