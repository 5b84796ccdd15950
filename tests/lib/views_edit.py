"""What is done to views goes through to their arrays.

    views_edit.py tools MNT WORK   cp, install, mv, tar, rsync, shutil: into views/npy, within it, out of it
    views_edit.py attrs MNT        modes, owners, times, xattrs: what the view has, the array has, at once
    views_edit.py names MNT        rename, link, unlink, mkdir, rmdir
    views_edit.py uploads MNT      files that are being written: their names, attributes, temporary names
    views_edit.py place MNT        writes in place, mapped and not; what others see, and when
    views_edit.py refused MNT      what is not one array
    views_edit.py users MNT        nobody can do by a view what he could not do to the array
    views_edit.py cuts MNT         opens that cut an array, beside opens of its view
    views_edit.py storm MNT        all of it at once
"""
import errno
import mmap
import os
import shutil
import stat
import subprocess
import sys
import threading
import time

import numpy as np

import sysx
from sysx import EXCHANGE, KEEP_SIZE, NOBODY, NOREPLACE, PUNCH_HOLE, eq, fails, fallocate, get, put, rename2

KINDS = "buckets", "columns", "layers", "scratch"
WHEN = 1_000_000_007_123_456_789


def places(mnt):
    for kind in KINDS:
        yield mnt + "/views/npy/" + kind, mnt + "/" + kind


def grid(n=60000):
    return np.arange(float(n)).reshape(-1, 300)


def run(*command, **kw):
    subprocess.run(command, check=True, **kw)


def is_copy(npy, path, mode, when):
    """path is the array of the file npy, with that mode and time."""
    s = os.stat(path)
    assert np.array_equal(np.load(path), np.load(npy)), path
    eq((path, oct(stat.S_IMODE(s.st_mode))), (path, oct(mode)))
    if when:
        eq((path, s.st_mtime_ns), (path, when))


def tools(mnt, work):
    src = work + "/src"
    os.makedirs(src + "/deep", exist_ok=True)
    for name in ("g.npy", "deep/h.npy"):
        np.save(src + "/" + name, grid())
        os.chmod(src + "/" + name, 0o640)
        os.utime(src + "/" + name, ns=(WHEN, WHEN))
    g = src + "/g.npy"
    for npy, top in places(mnt):
        for again in range(2):  # new, and over what is there
            run("cp", "-p", g, npy + "/p.npy")
            is_copy(g, npy + "/p.npy", 0o640, WHEN)
            run("cp", "-a", g, npy + "/a.npy")
            is_copy(g, npy + "/a.npy", 0o640, WHEN)
            run("install", "-m", "604", g, npy + "/i.npy")
            is_copy(g, npy + "/i.npy", 0o604, None)
            run("install", "-p", "-m", "604", g, npy + "/i.npy")
            is_copy(g, npy + "/i.npy", 0o604, WHEN)
            run("rsync", "-a", g, npy + "/r.npy")
            is_copy(g, npy + "/r.npy", 0o640, WHEN)
            run("rsync", "-aX", src + "/", npy + "/tree/")
            is_copy(g, npy + "/tree/g.npy", 0o640, WHEN)
            is_copy(g, npy + "/tree/deep/h.npy", 0o640, WHEN)
            run("tar", "-C", npy, "-xf", "-", input=subprocess.run(["tar", "-C", work, "--format=posix", "-cf", "-", "src"], check=True,
                                                                  stdout=subprocess.PIPE).stdout)
            is_copy(g, npy + "/src/deep/h.npy", 0o640, WHEN)
            run("cp", "-p", g, work + "/moved.npy")
            run("mv", work + "/moved.npy", npy + "/m.npy")
            is_copy(g, npy + "/m.npy", 0o640, WHEN)
            shutil.copy(g, npy + "/s.npy")
            is_copy(g, npy + "/s.npy", 0o640, None)
            shutil.copy2(g, npy + "/s2.npy")
            is_copy(g, npy + "/s2.npy", 0o640, WHEN)
            shutil.copytree(src, npy + "/st", dirs_exist_ok=True)
            is_copy(g, npy + "/st/deep/h.npy", 0o640, WHEN)
        run("rsync", "-a", "--inplace", g, npy + "/inplace.npy")
        is_copy(g, npy + "/inplace.npy", 0o640, WHEN)
        run("mv", npy + "/m.npy", npy + "/n.npy")
        is_copy(g, npy + "/n.npy", 0o640, WHEN)
        assert "m" not in os.listdir(top) and "n" in os.listdir(top)
        run("mv", npy + "/n.npy", work + "/back.npy")
        is_copy(g, work + "/back.npy", 0o640, WHEN)
        assert "n" not in os.listdir(top)
        run("rm", "-r", npy + "/tree", npy + "/src", npy + "/st")
        eq(sorted(os.listdir(top)), ["a", "i", "inplace", "p", "r", "s", "s2"])
        eq(sorted(os.listdir(npy)), [n + ".npy" for n in sorted(os.listdir(top))])
        run("rm", *(npy + "/" + n for n in os.listdir(npy)))
        eq(os.listdir(top), [])


def attrs(mnt):
    for kind in KINDS:
        path = mnt + "/" + kind + "/x.f64"
        np.arange(1000.).tofile(path)
        views = [(fmt, "%s/views/%s/%s/x%s" % (mnt, fmt, kind, ext)) for fmt, ext in
                 (("npy", ".npy"), ("parquet", ".parquet"), ("arrow", ".arrow"), ("zst", ".f64.zst"))]
        for k, (fmt, view) in enumerate(views if kind == "layers" else views[:3]):
            os.stat(path), os.stat(view)  # the kernel has the attributes of both
            os.chmod(view, 0o600 + k)
            eq(stat.S_IMODE(os.stat(path).st_mode), 0o600 + k)
            os.utime(view, ns=(WHEN, WHEN + k))
            eq((os.stat(path).st_mtime_ns, os.stat(view).st_mtime_ns), (WHEN + k, WHEN + k))
            if sysx.ROOT:
                os.chown(view, 12 + k, 34)
                eq((os.stat(path).st_uid, os.stat(path).st_gid, os.stat(view).st_uid), (12 + k, 34, 12 + k))
            os.setxattr(view, "user.note", b"%d" % k)
            eq((os.getxattr(path, "user.note"), os.getxattr(view, "user.note")), (b"%d" % k, b"%d" % k))
            eq(os.listxattr(view), ["user.note"])
            os.removexattr(view, "user.note")
            with fails(errno.ENODATA):
                os.getxattr(path, "user.note")
        npy = mnt + "/views/npy/" + kind + "/x.npy"
        os.setxattr(npy, "user.spillfs.shape", b"10,100")
        eq((np.load(npy).shape, os.getxattr(path, "user.spillfs.shape")), ((10, 100), b"10,100"))
        os.setxattr(npy, "user.spillfs.dtype", b"i64")
        eq(np.load(npy).dtype, np.dtype("<i8"))
        with fails(errno.EINVAL):
            os.setxattr(npy, "user.spillfs.dtype", b"f7")
        os.mkdir(npy[:-5] + "d")
        os.chmod(npy[:-5] + "d", 0o711)
        os.utime(npy[:-5] + "d", ns=(WHEN, WHEN))
        s = os.stat(mnt + "/" + kind + "/d")
        eq((stat.S_IMODE(s.st_mode), s.st_mtime_ns), (0o711, WHEN))


def names(mnt):
    for npy, top in places(mnt):
        kind = os.path.basename(top)

        def holds(want):
            eq(sorted(os.listdir(top)), sorted(want))
        np.arange(5.).tofile(top + "/p.f64")
        os.stat(npy + "/p.npy"), os.stat(top + "/p.f64")
        # the type of a suffix stays, and so does an attribute's
        os.rename(npy + "/p.npy", npy + "/q.npy")
        holds(["q.f64"])
        with fails(errno.ENOENT):
            os.stat(top + "/p.f64")
        eq(np.load(npy + "/q.npy").tolist(), list(range(5)))
        os.rename(npy + "/q.npy", npy + "/q.f64.npy")
        holds(["q.f64"])
        os.rename(npy + "/q.npy", npy + "/r.u8.npy")
        eq((os.listdir(top), np.load(npy + "/r.u8.npy").dtype), (["r.u8.f64"], np.dtype("<f8")))
        os.rename(npy + "/r.u8.npy", npy + "/p.npy")
        holds(["p.f64"])
        np.save(npy + "/n.npy", np.arange(7, dtype="i2"))
        os.rename(npy + "/n.npy", npy + "/o.npy")
        holds(["p.f64", "o"])
        # over another: its name stays, and each keeps its type
        os.rename(npy + "/o.npy", npy + "/p.npy")
        holds(["p.f64"])
        eq(np.load(npy + "/p.npy").tolist(), list(range(7)))
        np.save(npy + "/o.npy", np.arange(3, dtype="u1"))
        os.rename(npy + "/p.npy", npy + "/o.npy")
        holds(["o"])
        eq(np.load(npy + "/o.npy").dtype, np.dtype("i2"))
        np.arange(5.).tofile(top + "/p.f64")
        rename2(npy + "/o.npy", npy + "/p.npy", EXCHANGE)
        eq((np.load(npy + "/o.npy").dtype, np.load(npy + "/p.npy").dtype), (np.dtype("f8"), np.dtype("i2")))
        with fails(errno.EEXIST):
            rename2(npy + "/o.npy", npy + "/p.npy", NOREPLACE)
        # not every name is one
        for bad in ("o", "o.txt", "o.npy.bak"):
            with fails(errno.EINVAL):
                os.rename(npy + "/o.npy", npy + "/" + bad)
        with fails(errno.EXDEV):
            os.rename(npy + "/o.npy", top + "/out")
        with fails(errno.EXDEV):
            os.rename(top + "/o", npy + "/in.npy")
        with fails(errno.EXDEV):
            os.rename(npy + "/o.npy", "%s/views/parquet/%s/o.parquet" % (mnt, kind))
        with fails(errno.ENOENT):
            os.rename(npy + "/none.npy", npy + "/x.npy")
        # over a file that has the array's new name, but not the view's: it stays
        np.arange(3.).tofile(top + "/two.f64")
        np.arange(3, dtype="u1").tofile(top + "/two.u8")
        with fails(errno.EEXIST):
            os.rename(npy + "/p.npy", npy + "/two.npy")
        with fails(errno.ENOENT, errno.EEXIST):
            rename2(npy + "/p.npy", npy + "/two.npy", EXCHANGE)
        eq(np.fromfile(top + "/two.f64").tolist(), list(range(3)))
        os.unlink(top + "/two.f64")
        os.unlink(top + "/two.u8")
        # links
        os.link(npy + "/p.npy", npy + "/l.npy")
        eq((os.stat(top + "/p.f64").st_nlink, np.load(npy + "/l.npy").tolist()), (2, list(range(7))))
        eq(os.listdir(top).count("l.f64"), 1)
        os.unlink(npy + "/l.npy")
        eq(os.stat(top + "/p.f64").st_nlink, 1)
        # directories
        os.mkdir(npy + "/d", 0o750)
        eq(stat.S_IMODE(os.stat(top + "/d").st_mode), 0o750)
        os.rename(npy + "/o.npy", npy + "/d/o.npy")
        os.stat(top + "/d/o")
        with fails(errno.ENOTEMPTY):
            os.rmdir(npy + "/d")
        with fails(errno.EEXIST):
            os.mkdir(npy + "/p.f64")
        with fails(errno.ENOTDIR):
            os.rename(npy + "/d", npy + "/p.npy")
        with fails(errno.EISDIR):
            os.rename(npy + "/p.npy", npy + "/d")
        os.rename(npy + "/d", npy + "/e")
        assert os.path.isdir(top + "/e") and not os.path.exists(top + "/d")
        # the kernel has the directory's attributes, and none of the names
        for change in (lambda: np.save(npy + "/e/never.npy", np.arange(3)), lambda: os.mkdir(npy + "/e/sub"),
                       lambda: os.rename(npy + "/e/never.npy", npy + "/e/seen.npy"), lambda: os.unlink(npy + "/e/seen.npy")):
            before = os.stat(top + "/e").st_mtime_ns
            sysx.tick(before)
            change()
            assert os.stat(top + "/e").st_mtime_ns > before
        eq(os.stat(top + "/e").st_nlink, 3)
        os.rmdir(npy + "/e/sub")
        eq(os.stat(top + "/e").st_nlink, 2)
        # what is open goes on
        with open(npy + "/e/o.npy", "rb") as f:
            os.unlink(npy + "/e/o.npy")
            eq(len(f.read()), 4096 + 40)
        assert not os.path.exists(top + "/e/o")
        os.rmdir(npy + "/e")
        holds(["p.f64"])
        # by other formats
        np.arange(5.).tofile(top + "/w.f64")
        parquet = "%s/views/parquet/%s" % (mnt, kind)
        os.rename(parquet + "/w.parquet", parquet + "/v.parquet")
        holds(["p.f64", "v.f64"])
        os.unlink(parquet + "/v.parquet")
        os.unlink(npy + "/p.npy")
        holds([])


def uploads(mnt):
    for npy, top in places(mnt):
        data = grid(3000)
        # np.save and os.replace
        for n in (5, 6):
            np.save(npy + "/tmp.npy", np.arange(n))
            os.replace(npy + "/tmp.npy", npy + "/x.npy")
            eq((os.listdir(top), np.load(npy + "/x.npy").tolist()), (["x"], list(range(n))))
        # renamed while it is written
        with open(npy + "/half.npy", "wb") as f:
            np.lib.format.write_array_header_1_0(f, np.lib.format.header_data_from_array_1_0(data))
            f.write(data.tobytes()[:1000])
            f.flush()
            os.rename(npy + "/half.npy", npy + "/whole.npy")
            os.chmod(npy + "/whole.npy", 0o606)
            eq((sorted(os.listdir(npy)), os.listdir(top)), (["whole.npy", "x.npy"], ["x"]))
            f.write(data.tobytes()[1000:])
        eq((sorted(os.listdir(top)), stat.S_IMODE(os.stat(top + "/whole").st_mode)), (["whole", "x"], 0o606))
        assert np.array_equal(np.load(npy + "/whole.npy"), data)
        # over what is there: readers have the old one until it is closed
        with open(npy + "/half.npy", "wb") as f:
            os.rename(npy + "/half.npy", npy + "/whole.npy")
            np.lib.format.write_array_header_1_0(f, np.lib.format.header_data_from_array_1_0(np.arange(9)))
            f.write(np.arange(9).tobytes())
            f.flush()
            assert np.array_equal(np.load(npy + "/whole.npy"), data)
        eq(np.load(npy + "/whole.npy").tolist(), list(range(9)))
        # temporary names
        for temporary in (".x.npy.Xy12Z3", "x.npy.tmp"):
            with open(npy + "/" + temporary, "wb") as f:
                np.lib.format.write_array(f, data)
            os.chmod(npy + "/" + temporary, 0o600)
            os.utime(npy + "/" + temporary, ns=(WHEN, WHEN))
            assert temporary in os.listdir(npy) and sorted(os.listdir(top)) == ["whole", "x"]
            os.rename(npy + "/" + temporary, npy + "/x.npy")
            s = os.stat(top + "/x")
            eq((stat.S_IMODE(s.st_mode), s.st_mtime_ns), (0o600, WHEN))
            assert temporary not in os.listdir(npy) and np.array_equal(np.load(npy + "/x.npy"), data)
        # a file without a view has the name that the array would get
        put(top + "/plain", b"precious")
        put(npy + "/x.npy.tmp", get(npy + "/x.npy"))
        with fails(errno.EEXIST):
            os.rename(npy + "/x.npy.tmp", npy + "/plain.npy")
        eq(get(top + "/plain"), b"precious")
        os.unlink(top + "/plain")
        # directories are not empty with it
        os.mkdir(npy + "/d")
        os.mkdir(npy + "/e")
        os.rename(npy + "/x.npy.tmp", npy + "/d/x.npy.tmp")
        for change in (lambda: os.rmdir(npy + "/d"), lambda: os.rename(npy + "/e", npy + "/d")):
            with fails(errno.ENOTEMPTY):
                change()
        os.unlink(npy + "/d/x.npy.tmp")
        os.rmdir(npy + "/d")
        os.rmdir(npy + "/e")
        # removed: nothing comes of it
        for name in ("gone.npy", "gone.npy.tmp"):
            with open(npy + "/" + name, "wb") as f:
                np.lib.format.write_array_header_1_0(f, np.lib.format.header_data_from_array_1_0(data))
                f.write(data.tobytes())
                f.flush()
                os.unlink(npy + "/" + name)
                with fails(errno.ENOENT):
                    os.stat(npy + "/" + name)
        eq(sorted(os.listdir(top)), ["whole", "x"])
        # by its descriptor: before there is anything, half way, at the end
        for k in range(3):
            fd = os.open(npy + "/f.npy", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            text = get(npy + "/x.npy")
            for at in range(3):
                if at == k:
                    os.fchmod(fd, 0o620)
                os.write(fd, text[:5000] if not at else text[5000:] if at == 1 else b"")
            os.utime(fd, ns=(WHEN, WHEN))
            os.close(fd)
            s = os.stat(top + "/f")
            eq((k, oct(stat.S_IMODE(s.st_mode)), s.st_mtime_ns), (k, "0o620", WHEN))
            os.unlink(npy + "/f.npy")
        os.unlink(npy + "/x.npy")
        os.unlink(npy + "/whole.npy")


def place(mnt):
    for npy, top in places(mnt):
        data = grid()
        # np.lib.format.open_memmap("w+"): new, and in place of another
        for shape in ((200, 300), (40, 7)):
            m = np.lib.format.open_memmap(npy + "/w.npy", "w+", np.float64, shape)
            m[:] = data.ravel()[:m.size].reshape(shape)
            m.flush()
            assert np.array_equal(np.load(npy + "/w.npy"), m)
            m[3, 3] = -1
            assert np.load(npy + "/w.npy")[3, 3] == -1, "seen before it is flushed"
            del m
            eq((os.listdir(top), np.load(npy + "/w.npy")[3, 3]), (["w"], -1))
        os.unlink(npy + "/w.npy")
        # np.load("r+")
        np.save(npy + "/a.npy", data)
        before = np.load(npy + "/a.npy", mmap_mode="r")
        source = np.memmap(top + "/a", "<f8", "r")
        eq((before[5, 5], source[5 * 300 + 5]), (data[5, 5], data[5, 5]))
        m = np.load(npy + "/a.npy", mmap_mode="r+")
        m[5] = 9
        eq((np.load(npy + "/a.npy")[5, 5], np.fromfile(top + "/a")[5 * 300 + 5]), (9, 9))
        m[6] = 10
        m.flush()
        eq((np.load(npy + "/a.npy", mmap_mode="r")[6, 6], m[5, 5], source[6 * 300]), (10, 9, 10))
        if "layers" in npy:
            assert np.array_equal(before, data), "who had it open has what it was"
        # another writer of the same view, and one of the array, mapped
        other = np.load(npy + "/a.npy", mmap_mode="r+")
        other[7] = 11
        eq(m[7, 0], 11)
        del other
        direct = np.memmap(top + "/a", "<f8", "r+")
        direct[0] = 12
        eq(np.load(npy + "/a.npy")[0, 0], 12)
        del m, direct, before, source
        # by write: header bytes as they are, data within the size
        text = get(npy + "/a.npy")
        fd = os.open(npy + "/a.npy", os.O_RDWR)
        eq(os.pwrite(fd, text[:6000], 0), 6000)
        eq(os.pwrite(fd, text[-100:], len(text) - 100), 100)
        with fails(errno.EINVAL):
            os.pwrite(fd, b"x", 70)
            os.fsync(fd)
        with fails(errno.EFBIG):
            os.pwrite(fd, b"xy", len(text) - 1)
            os.fsync(fd)
        os.pwrite(fd, np.float64(13).tobytes(), 4096 + 8)
        os.fsync(fd)
        eq((np.fromfile(top + "/a")[1], np.load(npy + "/a.npy")[0, 1]), (13, 13))
        os.ftruncate(fd, len(text))
        for size in (0, len(text) - 1, len(text) + 1):
            with fails(errno.EINVAL):
                os.ftruncate(fd, size)
        fallocate(fd, 0, 0, len(text))
        fallocate(fd, KEEP_SIZE, 100, 5000)
        with fails(errno.EOPNOTSUPP):
            fallocate(fd, 0, 0, len(text) + 1)
        with fails(errno.EOPNOTSUPP):
            fallocate(fd, KEEP_SIZE | PUNCH_HOLE, 0, len(text))
        os.close(fd)
        fd = os.open(npy + "/a.npy", os.O_WRONLY)
        os.pwrite(fd, np.float64(14).tobytes(), 4096 + 16)
        os.close(fd)
        a = np.load(npy + "/a.npy")
        eq((a[0, :3].tolist(), a.shape, os.stat(top + "/a").st_size), ([12, 13, 14], (200, 300), 480000))
        # cut while it is open
        fd = os.open(npy + "/a.npy", os.O_RDWR)
        os.truncate(top + "/a", 8000)
        with fails(errno.EFBIG):
            os.pwrite(fd, b"x" * 8, 4096 + 8000)
            os.fsync(fd)
        try:
            os.close(fd)
        except OSError as e:
            eq(e.errno, errno.EFBIG)
        eq(os.stat(top + "/a").st_size, 8000)
        # removed while it is open
        np.save(npy + "/gone.npy", data)
        fd = os.open(npy + "/gone.npy", os.O_RDWR)
        os.pwrite(fd, bytes(8), 4096)
        os.unlink(npy + "/gone.npy")
        os.pwrite(fd, bytes(8), 8192)
        os.fsync(fd)
        os.close(fd)
        # a new file that is mapped by who made it (with the writeback cache it has to be opened again)
        text = text[:5096]
        np.save(npy + "/b.npy", np.zeros(125))
        head = get(npy + "/b.npy")[:4096]
        fd = os.open(npy + "/c.npy", os.O_RDWR | os.O_CREAT)
        os.write(fd, head)
        os.ftruncate(fd, 5096)
        try:
            m = mmap.mmap(fd, 5096)
            m[4096:4104] = np.float64(5).tobytes()
            m.close()
        except OSError as e:
            eq(e.errno, errno.ENODEV)
            os.pwrite(fd, np.float64(5).tobytes(), 4096)
        os.close(fd)
        eq(np.load(npy + "/c.npy").tolist(), [5.] + [0.] * 124)
        for name in "abc":
            os.unlink("%s/%s.npy" % (npy, name))


def refused(mnt):
    """Tables, directories of Zarr, runs, what is past."""
    no = errno.EROFS, errno.EPERM, errno.EXDEV
    for kind in KINDS:
        os.mkdir(mnt + "/" + kind + "/t")
        np.arange(5.).tofile(mnt + "/" + kind + "/t/a.f64")
    put(mnt + "/buckets/run", b"x")
    os.mkdir(mnt + "/snapshots/s")
    v = mnt + "/views/"
    for path in [v + "parquet/%s/t.parquet" % k for k in KINDS] + [v + "arrow/layers/t.arrow",
                 v + "zarr/layers/t/a.zarr/zarr.json", v + "zarr/layers/t/zarr.json", v + "runs/buckets/run/000000",
                 mnt + "/snapshots/s/views/npy/layers/t/a.npy"]:
        get(path)  # the first reader brings a Parquet view its statistics
        before = get(path)
        for change in (os.unlink, lambda p: os.rename(p, p + "2"), lambda p: os.chmod(p, 0o600), os.utime,
                       lambda p: os.setxattr(p, "user.x", b""), lambda p: os.link(p, p + "2"),
                       lambda p: os.close(os.open(p, os.O_RDWR)), lambda p: os.truncate(p, 0)):
            with fails(*no):
                change(path)
        eq(get(path), before)
    for path in (v + "zarr/layers/t/a.zarr", v + "runs/buckets/run", v + "zarr/layers/t", v + "npy", v + "npy/layers"):
        for change in (os.rmdir, lambda p: os.rename(p, p + "2")):
            with fails(*no, errno.ENOTEMPTY, errno.EBUSY):
                change(path)
    for path in ("parquet/layers/d", "zarr/layers/d", "runs/buckets/d", "npy/d"):
        with fails(*no, errno.EACCES):
            os.mkdir(v + path)


def given_away(npy, top):
    """Who has a file of a view open does nothing to the array by it once that is another's."""
    np.save(npy + "/given.npy", np.arange(5))
    os.chown(top + "/given", NOBODY, NOBODY)
    fd = os.open(npy + "/given.npy", os.O_RDONLY)
    os.fstat(fd)
    os.chown(top + "/given", 0, 0)
    os.chmod(top + "/given", 0o600)

    def other():
        for change in (lambda: os.fchmod(fd, 0o666), lambda: os.utime(fd, ns=(WHEN, WHEN)), lambda: os.fchown(fd, -1, NOBODY)):
            with fails(errno.ESTALE, errno.EPERM):
                change()
    sysx.in_child(other, NOBODY)
    os.close(fd)
    s = os.stat(top + "/given")
    eq((oct(s.st_mode & 0o7777), s.st_gid), ("0o600", 0))
    os.unlink(npy + "/given.npy")


def swapped(npy, top):
    """In a sticky directory, an array that comes and goes in front of another's does not lend its view's name to it."""
    os.mkdir(top + "/sticky")
    os.chmod(top + "/sticky", 0o1777)
    np.arange(3.).tofile(top + "/sticky/x.f64")

    def other():
        end = time.monotonic() + 0.5

        def flip():
            while time.monotonic() < end:
                put(top + "/sticky/x", bytes(8))
                os.setxattr(top + "/sticky/x", "user.spillfs.dtype", b"f64")
                try:
                    os.unlink(top + "/sticky/x")
                except FileNotFoundError:
                    pass

        def take():
            while time.monotonic() < end:
                for change in (os.unlink, lambda p: os.rename(p, npy + "/sticky/taken.npy")):
                    try:
                        change(npy + "/sticky/x.npy")
                    except OSError as e:
                        assert e.errno in (errno.ENOENT, errno.EPERM, errno.ESTALE), e
        t = threading.Thread(target=take)
        t.start()
        try:
            flip()
        except FileNotFoundError:  # renamed in between
            pass
        t.join()
    sysx.in_child(other, NOBODY)
    eq(np.fromfile(top + "/sticky/x.f64").tolist(), list(range(3)))
    shutil.rmtree(top + "/sticky")


def users(mnt):
    for npy, top in places(mnt):
        np.save(npy + "/mine.npy", np.arange(5))
        os.chmod(npy + "/mine.npy", 0o644)
        np.save(npy + "/his.npy", np.arange(5))
        os.chown(npy + "/his.npy", NOBODY, NOBODY)
        os.chmod(npy + "/his.npy", 0o4755)

        def other():
            for change in (os.unlink, lambda p: os.rename(p, npy + "/new.npy"), lambda p: os.chmod(p, 0o777), os.utime,
                           lambda p: os.setxattr(p, "user.x", b""), lambda p: os.close(os.open(p, os.O_RDWR)),
                           lambda p: os.rename(npy + "/his.npy", p), lambda p: os.chown(p, NOBODY, NOBODY)):
                with fails(errno.EACCES, errno.EPERM):
                    change(npy + "/mine.npy")
            os.rename(npy + "/his.npy", npy + "/still.npy")
            m = np.load(npy + "/still.npy", mmap_mode="r+")
            m[0] = 7
            del m
            fd = os.open(npy + "/still.npy", os.O_WRONLY)
            os.pwrite(fd, bytes(8), 4096)
            os.close(fd)
            np.save(npy + "/tmp.npy", np.arange(3))
            os.replace(npy + "/tmp.npy", npy + "/still.npy")
            os.unlink(npy + "/still.npy")
        sysx.in_child(other, NOBODY)
        given_away(npy, top)
        swapped(npy, top)
        eq((os.listdir(top), np.load(npy + "/mine.npy").tolist()), (["mine"], list(range(5))))


def cuts(mnt):
    """The kernel holds pages back while it opens an array to cut it; who opens the view wants them written."""
    top, view = mnt + "/columns/c.f64", mnt + "/views/npy/columns/c.npy"
    np.zeros(100000).tofile(top)
    end = time.monotonic() + 1.5

    def write():
        while time.monotonic() < end:
            fd = os.open(top, os.O_RDWR)
            os.write(fd, bytes(400000))
            cut = os.open(top, os.O_RDWR | os.O_TRUNC)
            os.write(cut, bytes(800000))
            os.close(fd)
            os.close(cut)

    def look():
        while time.monotonic() < end:
            try:
                with open(view, "rb") as f:
                    f.read(100)
            except OSError as e:
                assert e.errno == errno.ESTALE, e
    children = []
    for f in (write, write, look, look):
        pid = os.fork()
        if not pid:
            f()
            os._exit(0)
        children.append(pid)
    while children:
        assert time.monotonic() < end + 20, "stuck"
        done, status = os.waitpid(-1, os.WNOHANG)
        if done:
            children.remove(done)
            eq(status, 0)
        else:
            time.sleep(0.02)
    os.unlink(top)


def storm(mnt):
    """Writers in place, readers, renames, uploads, on one array, from many threads: each answer is a whole one or a known error."""
    known = errno.ENOENT, errno.ESTALE, errno.EBUSY, errno.EEXIST
    for npy, top in places(mnt):
        stop = threading.Event()
        bad = []
        np.save(npy + "/a.npy", np.zeros((50, 3000)))

        def again(what):
            while not stop.is_set():
                try:
                    what()
                except OSError as e:
                    if e.errno not in known:
                        bad.append(e)
                except ValueError:  # the name was another array's in between
                    pass

        def writes():
            m = np.load(npy + "/a.npy", mmap_mode="r+")
            m[:] = m[0, 0] + 1
            m.flush()

        def looks():
            assert np.load(npy + "/a.npy").shape == (50, 3000)
            os.stat(top + "/a")

        def moves():
            os.rename(npy + "/a.npy", npy + "/b.npy")
            os.rename(npy + "/b.npy", npy + "/a.npy")

        def replaces():
            np.save(npy + "/t.npy", np.zeros((50, 3000)))
            os.chmod(npy + "/t.npy", 0o600)
            os.replace(npy + "/t.npy", npy + "/a.npy")

        def direct():
            m = np.memmap(top + "/a", "<f8", "r+")
            m[:3000] += 1
            m.flush()
        threads = [threading.Thread(target=again, args=(f,)) for f in (writes, writes, looks, looks, moves, replaces, direct)]
        for t in threads:
            t.start()
        stop.wait(1.5)
        stop.set()
        for t in threads:
            t.join()
        assert not bad, bad[0]
        for name in os.listdir(top):
            os.unlink(top + "/" + name)


def across(mnt):
    """Views are renamed and deleted while others try to move or link them to the directory of the arrays. The kernel takes the locks of
    both directories for that before it hears that it cannot be: nobody waits for ever."""
    view, directory = mnt + "/views/npy/layers/d", mnt + "/layers/d"
    os.mkdir(directory)
    end = sysx.shared_words()

    def make(k):
        for _ in range(3):
            np.save("%s/x%d.npy" % (view, k), np.arange(1000.))
            os.rename("%s/x%d.npy" % (view, k), "%s/y%d.npy" % (view, k))
            os.unlink("%s/y%d.npy" % (view, k))
        end[k] = 1

    def move(k):
        while not all(end[:3]):
            with fails(errno.EXDEV, errno.ENOENT):
                (os.rename, os.link)[k % 2]("%s/%s%d.npy" % (view, "xy"[k // 2 % 2], k % 3), "%s/z%d" % (directory, k))
    sysx.children(7, lambda k: (make if k < 3 else move)(k))
    os.rmdir(directory)


def worlds(mnt):
    """Between two folders, and to a directory that is declared scratch, views are neither renamed nor linked, as between file systems: of
    arrays, and of files that are to become some."""
    npy, a = mnt + "/views/npy/", np.arange(100.)
    dirs = ["layers/a", "buckets/a", "columns/a", "scratch/a", "buckets/t"]
    for d in dirs:
        os.mkdir("%s/%s" % (mnt, d))
    os.setxattr(mnt + "/buckets/t", "user.spillfs.durable", b"no")
    scratch = "scratch/a", "buckets/t"  # one world
    for here, there in ((x, y) for x in dirs for y in dirs if x != y and not {x, y} <= set(scratch)):
        np.save(npy + here + "/x.npy", a)
        with open(npy + here + "/n.npy.tmp", "wb") as f:
            np.save(f, a)
        for change in os.rename, os.link:
            with fails(errno.EXDEV):
                change(npy + here + "/x.npy", npy + there + "/z.npy")
        with fails(errno.EXDEV):
            os.rename(npy + here + "/n.npy.tmp", npy + there + "/n.npy")
        eq(os.listdir("%s/%s" % (mnt, there)), [])
        os.rename(npy + here + "/n.npy.tmp", npy + here + "/n.npy")
        for name in "x.npy", "n.npy":
            eq((here, np.load(npy + here + "/" + name).tolist()), (here, a.tolist()))
            os.unlink(npy + here + "/" + name)
    for d in dirs:
        os.rmdir("%s/%s" % (mnt, d))


if __name__ == "__main__":
    {f.__name__: f for f in (tools, attrs, names, uploads, place, refused, users, cuts, storm, across, worlds)}[sys.argv[1]](*sys.argv[2:])
