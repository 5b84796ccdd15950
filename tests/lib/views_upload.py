"""Arrays written as .npy files to views/npy, by NumPy and by hand.

    views_upload.py saved MNT        what np.save writes is what is read, in all kinds, types, shapes and orders
    views_upload.py byhand MNT       headers of all versions, in pieces, out of order, through several descriptors
    views_upload.py replaced MNT     what becomes of the array that was there, and of who has it open
    views_upload.py names MNT        what an upload is called, whatever its directory and its old self were renamed to
    views_upload.py cut MNT          what is not whole changes nothing
    views_upload.py refused MNT LOG  what cannot be an array: EINVAL, a line in the log, and nothing changes
"""
import errno
import os
import signal
import stat
import struct
import subprocess
import sys
import time

import numpy as np

from sysx import ROOT, eq, fails, get, in_child, put
from views import KINDS, TYPES, agree, commit, dtype_of, here, make, settle, xget


def header(text, version=1, align=64):
    text = text.encode() if isinstance(text, str) else text
    size = 2 if version == 1 else 4
    pad = -(8 + size + len(text) + 1) % align
    text += b" " * pad + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if size == 2 else "<I", len(text)) + text


def head(descr, shape, order=False, version=1):
    return header("{'descr': %s, 'fortran_order': %s, 'shape': %s, }" % (descr, order, shape), version)


def same(a, b):
    """Bit for bit; NaNs too."""
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def saved(mnt):
    rng = np.random.default_rng(1)
    for kind in KINDS:
        npy, top = mnt + "/views/npy/" + kind, mnt + "/" + kind
        for name, numpy_type in TYPES.items():
            for shape in ((0,), (1,), (), (70001,), (3, 5), (0, 4), (40, 500)):
                a = np.frombuffer(rng.bytes(16 * max(1, int(np.prod(shape)))), "u1")
                a = (a & 1).astype("?") if name == "bool" else a
                t = np.dtype(numpy_type)
                a = a[:int(np.prod(shape)) * t.itemsize // a.itemsize].view(t).reshape(shape)
                for order in "CF" if len(shape) > 1 else "C":
                    view = npy + "/a.npy"
                    np.save(view, np.asarray(a, order=order))
                    got = np.load(view)
                    assert same(got, a), (kind, name, shape, order)
                    assert same(np.load(view, mmap_mode="r"), a), (kind, name, shape, order)
                    eq((shape, order, np.isfortran(got)), (shape, order, np.isfortran(np.asarray(a, order=order))))
                    eq(get(top + "/a"), a.tobytes(order=order))
                    eq(dtype_of(top + "/a"), name)
        record = np.zeros(1000, [("pos", "<u4"), ("lcp", "<f8"), ("yes", "?")])
        record["pos"] = np.arange(1000)
        np.save(npy + "/r.npy", record)
        assert same(np.load(npy + "/r.npy"), record)
        eq(dtype_of(top + "/r"), "pos:u32,lcp:f64,yes:bool")
        for unit in ("s", "ms", "us", "ns"):
            for letter, word in (("M", "timestamp"), ("m", "duration")):
                t = np.arange(500).astype("<%s8[%s]" % (letter, unit))
                np.save(npy + "/t.npy", t)
                assert same(np.load(npy + "/t.npy"), t)
                eq((dtype_of(top + "/t"), xget(top + "/t", "logical")), ("i64", "%s[%s]" % (word, unit)))
        np.save(npy + "/t.npy", np.arange(5))
        eq(np.load(npy + "/t.npy").dtype, np.dtype("<i8"))
        np.save(npy + "/x.f64.npy", np.arange(7.))
        eq(sorted(os.listdir(top)), ["a", "r", "t", "x.f64"])
        eq(sorted(os.listdir(npy)), ["a.npy", "r.npy", "t.npy", "x.npy"])
        os.mkdir(top + "/d")
        make(top + "/plain", b"not an array")
        np.save(npy + "/d/deep.npy", np.arange(300000.).reshape(1000, 300).T)
        got = np.load(npy + "/d/deep.npy", mmap_mode="r")
        assert np.isfortran(got) and np.array_equal(got, np.arange(300000.).reshape(1000, 300).T)
        with fails(errno.ENOENT):
            np.save(npy + "/nowhere/x.npy", np.arange(3))
        # a file without a type is no view, and nothing that could be replaced
        with fails(errno.EEXIST):
            np.save(npy + "/plain.npy", np.arange(3, dtype="u1"))
        eq(get(top + "/plain"), b"not an array")
    agree(mnt)


def byhand(mnt):
    data = np.arange(60, dtype="<i2")
    for kind in KINDS:
        npy, top = mnt + "/views/npy/" + kind, mnt + "/" + kind
        for version in (1, 2, 3):
            for descr in ("'<i2'", '"<i2"', "'=i2'", "'i2'"):
                for shape in ("(60,)", "(60 , )", "(3, 4, 5)", "(3,4,5,)", "(1, 60)"):
                    put(npy + "/v.npy", head(descr, shape, version=version) + data.tobytes())
                    eq(np.load(npy + "/v.npy").ravel().tolist(), data.tolist())
        text = head("'<i2'", "(60,)") + data.tobytes()
        # byte by byte, and in odd pieces
        for step in (1, 7, 10, 128, 129):
            fd = os.open(npy + "/v.npy", os.O_WRONLY | os.O_TRUNC)
            for k in range(0, len(text), step):
                os.write(fd, text[k:k + step])
            os.close(fd)
            eq(np.load(npy + "/v.npy").tolist(), data.tolist())
            os.unlink(top + "/v")
            put(npy + "/v.npy", text)
        # elements in any order, the header again as it was
        fd = os.open(npy + "/w.npy", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.pwrite(fd, text[:128], 0)
        os.pwrite(fd, text[200:], 200)
        os.pwrite(fd, text[:150], 0)
        os.pwrite(fd, text[128:200], 128)
        os.close(fd)
        eq(np.load(npy + "/w.npy").tolist(), data.tolist())
        # a header of 60000 bytes, one of version 2 that needs it
        for version, n in ((1, 60000), (2, 300000)):
            put(npy + "/w.npy", header("{'descr': '<i2', 'fortran_order': False, 'shape': (60,)}" + " " * n, version) +
                data.tobytes())
            eq(np.load(npy + "/w.npy").tolist(), data.tolist())
        # whole, then closed by one of two
        fd = os.open(npy + "/w.npy", os.O_WRONLY | os.O_TRUNC)
        os.write(fd, text[:150])
        with fails(errno.EINVAL):
            os.close(os.dup(fd))
        os.write(fd, text[150:])
        os.close(os.dup(fd))
        os.close(fd)
        eq(np.load(npy + "/w.npy").tolist(), data.tolist())
        with open(mnt + "/../up.npy", "wb") as f:
            f.write(text)
        for command in ("cat ../up.npy >%s", "(head -c 100 ../up.npy; tail -c +101 ../up.npy) >%s", "cp ../up.npy %s",
                        "dd if=../up.npy of=%s bs=17 status=none", "cat <../up.npy >%s"):
            for target in ("/w.npy", "/new.npy"):
                in_child(lambda c=command, t=target: subprocess.run(c % (npy + t), shell=True, check=True, cwd=mnt,
                                                                    stderr=subprocess.DEVNULL if "head" in c else None))
                eq((command, np.load(npy + target).tolist()), (command, data.tolist()))
            os.unlink(top + "/new")
        # from view to view, where the kernel asks for a copy
        subprocess.run(["cp", npy + "/w.npy", npy + "/copy.npy"], check=True)
        eq(np.load(npy + "/copy.npy").tolist(), data.tolist())
        src = os.open(npy + "/w.npy", os.O_RDONLY)
        dst = os.open(npy + "/copy.npy", os.O_WRONLY | os.O_TRUNC)
        with fails(errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL):
            if os.copy_file_range(src, dst, 1 << 20) == 4096 + 120:
                raise OSError(errno.EXDEV, "copied, which is as good")
        for fd in (src, dst):
            try:
                os.close(fd)
            except OSError as e:
                eq(e.errno, errno.EINVAL)
        fd = os.open(npy + "/copy.npy", os.O_WRONLY | os.O_TRUNC)
        os.write(fd, text)
        os.fsync(fd)
        with fails(errno.EOPNOTSUPP, errno.EPERM, errno.EROFS, errno.EINVAL, errno.ENODEV, errno.EBADF):
            os.posix_fallocate(fd, 0, 100000)
        with fails(errno.EPERM, errno.EROFS, errno.EINVAL, errno.EOPNOTSUPP):
            os.ftruncate(fd, 10)
        os.close(fd)
        eq(np.load(npy + "/copy.npy").tolist(), data.tolist())
        # what is written so far can be read by who writes it
        fd = os.open(npy + "/copy.npy", os.O_RDWR | os.O_TRUNC)
        eq(os.pread(fd, 10, 0), b"")
        os.write(fd, text[:200])
        eq(os.pread(fd, 1000, 10), text[10:200])
        with fails(errno.EINVAL):
            os.close(fd)
        with fails(errno.EEXIST):
            os.open(npy + "/copy.npy", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        eq(np.load(npy + "/copy.npy").tolist(), data.tolist())
    agree(mnt)


def replaced(mnt):
    for kind in KINDS:
        npy, top = mnt + "/views/npy/" + kind, mnt + "/" + kind
        make(top + "/p.f64", np.arange(100.).tobytes())
        os.chmod(top + "/p.f64", 0o640)
        if ROOT:
            os.chown(top + "/p.f64", 12, 34)
        was = os.stat(top + "/p.f64")
        views = [open(npy + "/p.npy", "rb") for _ in range(2)]
        mapped = np.load(npy + "/p.npy", mmap_mode="r")
        source = os.open(top + "/p.f64", os.O_RDONLY)
        views[0].read(4100)
        np.save(npy + "/p.npy", np.arange(7, dtype="<i4"))
        now = os.stat(top + "/p.f64")
        eq((now.st_mode, now.st_uid, now.st_gid, now.st_size), (was.st_mode, was.st_uid, was.st_gid, 28))
        assert now.st_ino != was.st_ino and now.st_mtime_ns >= was.st_mtime_ns
        eq(np.load(npy + "/p.npy").tolist(), list(range(7)))
        eq(os.fstat(source).st_size, 800)
        eq(os.pread(source, 1000, 0), np.arange(100.).tobytes())
        for v in views:
            eq(os.fstat(v.fileno()).st_size, 4096 + 800)
            eq(os.pread(v.fileno(), 9000, 4096), np.arange(100.).tobytes())
            v.close()
        eq(mapped.tolist(), np.arange(100.).tolist())
        os.close(source)
        # one that is being written is not seen: neither new nor half
        old = np.load(npy + "/p.npy", mmap_mode="r")
        text = head("'<f4'", "(50000,)") + np.full(50000, 3, "<f4").tobytes()
        fd = os.open(npy + "/p.npy", os.O_WRONLY | os.O_TRUNC)
        for k in range(0, len(text), 40000):
            os.write(fd, text[k:k + 40000])
            eq(np.load(npy + "/p.npy").tolist(), list(range(7)))
            eq(old.tolist(), list(range(7)))
            eq(os.stat(npy + "/p.npy").st_size, 4096 + 28)
            eq(get(top + "/p.f64"), np.arange(7, dtype="<i4").tobytes())
        os.close(fd)
        eq(np.load(npy + "/p.npy").tolist(), [3.] * 50000)
        eq(old.tolist(), list(range(7)))
        # new ones: as open says
        mask = os.umask(0o27)
        np.save(npy + "/q.npy", np.arange(7))
        os.umask(mask)
        eq(stat.S_IMODE(os.stat(top + "/q").st_mode), 0o640)
        fd = os.open(npy + "/s.npy", os.O_WRONLY | os.O_CREAT, 0o600)
        eq((os.fstat(fd).st_size, stat.S_IMODE(os.fstat(fd).st_mode)), (0, 0o600))
        assert os.listdir(npy).count("s.npy") == 1 and not here(top + "/s")
        eq(os.stat(npy + "/s.npy").st_ino, os.fstat(fd).st_ino)
        with fails(errno.EBUSY):
            get(npy + "/s.npy")
        os.write(fd, text)
        assert not here(top + "/s")
        eq(os.fstat(fd).st_size, len(text))
        os.close(fd)
        eq(stat.S_IMODE(os.stat(top + "/s").st_mode), 0o600)
        eq(os.stat(npy + "/s.npy").st_size, 4096 + 200000)
        # the last to be whole wins
        a, b = (os.open(npy + "/s.npy", os.O_WRONLY | os.O_TRUNC) for _ in range(2))
        os.write(a, text)
        os.write(b, head("'u1'", "(3,)") + b"abc")
        os.close(b)
        eq(get(top + "/s"), b"abc")
        os.close(a)
        eq(len(get(top + "/s")), 200000)
        # who was refused because somebody reads has numbers of its own no longer than until it is let in
        np.save(npy + "/s.npy", np.arange(5))
        with open(npy + "/s.npy", "rb") as f:
            f.read(10)
            np.save(npy + "/s.npy", np.arange(6))
        eq(len({os.stat(npy + "/s.npy").st_ino for _ in range(3)}), 1)
        subprocess.run(["cp", npy + "/s.npy", mnt + "/../copied.npy"], check=True)
        eq(np.load(mnt + "/../copied.npy").tolist(), list(range(6)))
        # synced half way
        fd = os.open(npy + "/s.npy", os.O_WRONLY | os.O_TRUNC)
        os.write(fd, text[:1000])
        os.fsync(fd)
        os.write(fd, text[1000:])
        os.fsync(fd)
        os.close(fd)
        eq(np.load(npy + "/s.npy").tolist(), [3.] * 50000)
        # durable as a rename is
        os.unlink(top + "/s")
        commit(mnt)
    settle()
    agree(mnt)


def names(mnt):
    for kind in KINDS:
        npy, top = mnt + "/views/npy/" + kind, mnt + "/" + kind
        make(top + "/a.u8", b"a")
        make(top + "/other.u8", b"other")
        keep = os.open(npy + "/a.npy", os.O_RDONLY)
        os.rename(top + "/a.u8", top + "/b.u8")
        np.save(npy + "/b.npy", np.frombuffer(b"new", "u1"))
        eq((sorted(os.listdir(top)), get(top + "/b.u8")), (["b.u8", "other.u8"], b"new"))
        os.close(keep)
        os.stat(npy + "/b.npy")
        os.mkdir(top + "/d")
        os.rename(top + "/b.u8", top + "/d/b.u8")
        np.save(npy + "/d/b.npy", np.frombuffer(b"newer", "u1"))
        eq((sorted(os.listdir(top)), os.listdir(top + "/d")), (["d", "other.u8"], ["b.u8"]))
        eq(get(top + "/d/b.u8"), b"newer")
        # another name of the same file stays what it was
        os.link(top + "/d/b.u8", top + "/hard.u8")
        os.stat(npy + "/hard.npy"), os.stat(npy + "/d/b.npy")
        np.save(npy + "/hard.npy", np.frombuffer(b"hard", "u1"))
        eq((get(top + "/hard.u8"), get(top + "/d/b.u8")), (b"hard", b"newer"))
        # renamed while it is written: the upload has the name that was opened
        fd = os.open(npy + "/hard.npy", os.O_WRONLY | os.O_TRUNC)
        os.write(fd, head("'u1'", "(3,)"))
        os.rename(top + "/hard.u8", top + "/soft.u8")
        os.write(fd, b"xyz")
        os.close(fd)
        eq((get(top + "/hard.u8"), get(top + "/soft.u8")), (b"xyz", b"hard"))
        # its directory is moved, and then gone
        fd = os.open(npy + "/d/new.npy", os.O_WRONLY | os.O_CREAT)
        os.write(fd, head("'u1'", "(3,)") + b"xyz")
        os.rename(top + "/d", top + "/e")
        os.close(fd)
        eq(get(top + "/e/new"), b"xyz")
        for f in os.listdir(top + "/e"):
            os.unlink(top + "/e/" + f)
        fd = os.open(npy + "/e/new.npy", os.O_WRONLY | os.O_CREAT)
        os.write(fd, head("'u1'", "(3,)") + b"xyz")
        os.rmdir(top + "/e")
        with fails(errno.ENOENT, errno.ESTALE):
            os.close(fd)
        # a name between two: the one that is looked up
        make(top + "/p.f64", bytes(8))
        np.save(npy + "/p.npy", np.arange(3.))
        eq(np.fromfile(top + "/p.f64").tolist(), [0, 1, 2])
        make(top + "/p.f32", bytes(4))
        np.save(npy + "/p.npy", np.arange(4.))
        eq((len(get(top + "/p")), len(get(top + "/p.f64"))), (32, 24))
        np.save(npy + "/p.f32.npy", np.arange(5, dtype="f4"))
        eq((len(get(top + "/p")), len(get(top + "/p.f32"))), (32, 20))
        # names that cannot be
        for bad in ("x.txt", "x", ".npy"):
            with fails(errno.EPERM, errno.EROFS):
                put(npy + "/" + bad, b"")
        with fails(errno.ENAMETOOLONG):
            put(npy + "/" + "n" * 252 + ".npy", b"")
        np.save(npy + "/" + "n" * 251 + ".npy", np.arange(3))
        with fails(errno.EISDIR, errno.EEXIST, errno.EPERM):
            os.mkdir(top + "/dir.npy")
            put(npy + "/dir.npy", b"")
        for entry in os.listdir(top):
            if not os.path.isdir(top + "/" + entry):
                os.unlink(top + "/" + entry)
        os.rmdir(top + "/dir.npy")
    settle()
    agree(mnt)


class Unchanged:
    """Nothing below a directory is another afterwards."""

    def __init__(self, mnt):
        self.mnt = mnt

    def state(self):
        out = {}
        for kind in KINDS:
            for where, _, files in os.walk(self.mnt + "/" + kind):
                for f in files:
                    s = os.stat(where + "/" + f)
                    out[where + "/" + f] = (s.st_ino, s.st_size, s.st_mtime_ns, s.st_mode, get(where + "/" + f))
        return out

    def __enter__(self):
        self.before = self.state()

    def __exit__(self, kind, *_):
        if kind is None:
            eq(self.state(), self.before)


def cut(mnt):
    for kind in KINDS:
        npy, top = mnt + "/views/npy/" + kind, mnt + "/" + kind
        np.save(npy + "/a.npy", np.arange(5))
        text = head("'<f8'", "(20000,)") + np.arange(20000.).tobytes()
        for target in ("a.npy", "new.npy"):
            for n in (1, 5, 8, 9, 127, 129, 128 + 80000, len(text) - 1):
                with Unchanged(mnt):
                    fd = os.open(npy + "/" + target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                    os.write(fd, text[:n])
                    with fails(errno.EINVAL):
                        os.close(fd)
                assert not here(npy + "/new.npy")
            with Unchanged(mnt):
                put(npy + "/" + target, b"")
                put(npy + "/" + target, b"")
            with Unchanged(mnt):
                fd = os.open(npy + "/" + target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.write(fd, text)
                with fails(errno.EINVAL):
                    os.write(fd, b"x")
                with fails(errno.EINVAL):
                    os.close(fd)
            with Unchanged(mnt):
                for at in (128, 1000, len(text)):
                    fd = os.open(npy + "/" + target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                    os.write(fd, text[:64])
                    with fails(errno.EINVAL):
                        os.pwrite(fd, text[at:at + 10] or b"x", at)
                    with fails(errno.EINVAL):
                        os.close(fd)
                # another header than before
                fd = os.open(npy + "/" + target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.write(fd, text[:1000])
                with fails(errno.EINVAL):
                    os.pwrite(fd, head("'<f8'", "(30000,)"), 0)
                with fails(errno.EINVAL):
                    os.close(fd)
            with Unchanged(mnt):
                killed(npy + "/" + target, text)
        eq(np.load(npy + "/a.npy").tolist(), list(range(5)))
        eq(os.listdir(npy), ["a.npy"])
    agree(mnt)


def killed(path, text):
    pid = os.fork()
    if pid == 0:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.write(fd, text[:len(text) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    eq(os.WTERMSIG(os.waitpid(pid, 0)[1]), signal.SIGKILL)


# Descriptions of types, and whole headers, that cannot be; and what the log says of each.
TYPES_REFUSED = {
    "'|O'": "Python objects", "'O'": "Python objects", "'|S5'": "strings", "'<U3'": "strings", "'>f8'": "big-endian",
    "'>i2'": "big-endian", "'>M8[us]'": "big-endian", "'|V8'": "void", "'<M8[D]'": "unit of time", "'<M8'": "unit of time",
    "'<m8[25us]'": "unit of time", "'<f16'": "another size", "'<c32'": "another size", "'<q7'": "unknown",
    "[('a', '<u4'), ('', '|V4')]": "void", "[('a', '>u4')]": "big-endian", "[('a', 'O')]": "Python objects",
    "[('a', '<u4', (2,))]": "array", "[('a', [('b', '<u4')])]": "record in a record", "[]": "without fields",
    "[('a', '<M8[us]')]": "time", "[('a:b', '<u4')]": "name", "('<f8', (3,))": "array", "{'names': ['a']}": "offsets",
    "[('a', '<u4'), ('a', '<u4')]": "name", "3": "neither",
}
HEADERS_REFUSED = {
    "": "no dictionary", "{": "", "{}": "missing", "[]": "no dictionary", "{'descr': '<f8'}": "missing",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (3,), 'more': 1}": "unknown key",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (3,)} + {}": "behind",
    "{'descr': '<f8', 'fortran_order': 0, 'shape': (3,)}": "neither True nor False",
    "{'descr': '<f8', 'fortran_order': False, 'shape': 3}": "tuple",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (3)}": "tuple",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (-3,)}": "negative",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999,)}": "too large",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296)}": "too large",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (%s)}" % ("1," * 33): "32 dimensions",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (3,), 'shape': (3,)}": "twice",
}


def refused(mnt, log):
    """Each is said to the writer and in the log, under the array's name."""
    cases = [(head(d, "(1,)") + bytes(64), why) for d, why in TYPES_REFUSED.items()]
    cases += [(header(h) + bytes(64), why) for h, why in HEADERS_REFUSED.items()]
    cases += [(b"PK\3\4" + bytes(200), "no .npy"), (b"\x93NUMPY\4\0" + bytes(200), "version"), (b"hello", "no .npy"),
              (b"\x93NUMPY\2\0\xff\xff\xff\x7f" + bytes(100), "1 MiB"), (head("'<f8'", "(1,)") + bytes(9), "more than")]
    objects = np.array([1, "a", None], dtype=object)
    for kind in KINDS:
        npy = mnt + "/views/npy/" + kind
        np.save(npy + "/old.npy", np.arange(5))
        with Unchanged(mnt):
            for k, (text, why) in enumerate(cases):
                for name in ("old", "new%d" % k) if kind == "layers" else ("old",):
                    before = os.path.getsize(log)
                    fd = os.open("%s/%s.npy" % (npy, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                    with fails(errno.EINVAL):
                        os.write(fd, text)
                    with fails(errno.EINVAL):
                        os.close(fd)
                    wait_for(log, before, name, why, text)
                    wait_gone("%s/new%d.npy" % (npy, k))
                    assert not here("%s/%s/new%d" % (mnt, kind, k))
            for a in (objects, np.array(["a", "bc"]), np.array([b"a"]), np.arange(3, dtype=">f8"),
                      np.zeros(2, "V5"), np.zeros(2, "M8[D]"), np.zeros(2, "f16") if np.dtype("g").itemsize == 16 else objects):
                try:
                    np.save(npy + "/old.npy", a, allow_pickle=True)
                except OSError as e:
                    eq(e.errno, errno.EINVAL)
                else:
                    raise AssertionError("%s was taken" % a.dtype)
        eq(np.load(npy + "/old.npy").tolist(), list(range(5)))
    agree(mnt)


def wait_gone(path):
    """close(2) does not wait for RELEASE, with which an upload goes."""
    end = time.monotonic() + 30
    while here(path):
        assert time.monotonic() < end, path


def wait_for(log, before, name, why, text):
    end = time.monotonic() + 30
    while True:
        with open(log, encoding="utf-8", errors="replace") as f:
            f.seek(before)
            said = f.read()
        if "views/npy: %s: " % name in said and why in said:
            return
        assert time.monotonic() < end, "%r: the log says %r, wanted %r" % (text[:200], said, why)
        time.sleep(0.01)


if __name__ == "__main__":
    {f.__name__: f for f in (saved, byhand, replaced, names, cut, refused)}[sys.argv[1]](*sys.argv[2:])
