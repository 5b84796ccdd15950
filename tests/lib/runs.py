"""Where runs end: what closes, dup'ed descriptors, children, other writers and truncations make of an end.
runs.py ends|marks|index MNT [nowriteback]; many|counted MNT N"""
import array, ctypes, fcntl, mmap, os, struct, subprocess, sys

SPILLFS_IOC_MARK = 0x80105305
mode, MNT = sys.argv[1:3]
WRITEBACK = "nowriteback" not in sys.argv
DIR = MNT + "/buckets/" + mode
os.makedirs(DIR, exist_ok=True)
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long
libc.munmap.argtypes = ctypes.c_void_p, ctypes.c_size_t


def runs(path, other=False):
    if other:
        text = subprocess.check_output(["getfattr", "-n", "user.spillfs.runs", "--only-values", "--absolute-names", path])
    else:
        text = os.getxattr(path, "user.spillfs.runs")
    return [int(x) for x in text.split()]


def want(path, *bounds):
    got = runs(path)
    assert got == list(bounds), (path, got, bounds, sys._getframe(1).f_lineno)


def opened(path, flags=os.O_APPEND):
    return os.open(path, os.O_WRONLY | os.O_CREAT | flags)


def append(path, *sizes):
    fd = opened(path)
    for n in sizes:
        os.write(fd, b"r" * n)
    os.close(fd)


def child(fn):
    pid = os.fork()
    if not pid:
        fn()
        os._exit(0)
    os.waitpid(pid, 0)


def ends():
    f = DIR + "/seen-at-once"
    for k in range(50):
        append(f, 3, 4)
        want(f, *range(0, 7 * (k + 1) + 1, 7))
    assert runs(f, other=True) == runs(f)

    f = DIR + "/dup"
    fd = opened(f)
    other = os.dup(fd)
    os.write(fd, b"x" * 10)
    os.close(other)
    want(f, 0, 10)  # an end, unless the writer goes on
    os.write(fd, b"x" * 5)
    want(f, 0, *([10] if WRITEBACK else []))  # that it goes on is known to the kernel alone
    os.close(fd)
    want(f, 0, 15)
    append(f, 5)
    want(f, 0, 15, 20)

    f = DIR + "/children"
    fd = opened(f)
    child(lambda: os.write(fd, b"1" * 10))
    want(f, 0, 10)
    child(lambda: os.write(fd, b"2" * 10))
    child(lambda: os.write(fd, b"3" * 10))
    os.close(fd)
    want(f, 0, 30)

    f = DIR + "/confirmed"
    fd = opened(f)
    child(lambda: os.write(fd, b"1" * 10))
    append(f, 4)
    os.write(fd, b"2" * 6)
    os.close(fd)
    want(f, 0, 10, 14, 20)

    f = DIR + "/open-together"
    a, b = opened(f), opened(f)
    os.write(a, b"a" * 10)
    os.close(a)
    os.write(b, b"b" * 5)
    want(f, 0, 10)
    os.close(b)
    want(f, 0, 10, 15)

    f = DIR + "/no-growth"
    append(f, 100)
    os.close(opened(f))
    fd = os.open(f, os.O_RDWR)
    os.pwrite(fd, b"y" * 10, 50)
    os.fsync(fd)
    os.close(fd)
    want(f, 0, 100)
    fd = os.open(f, os.O_RDWR)
    os.pwrite(fd, b"y" * 100, 50)
    os.close(fd)
    want(f, 0, 100, 150)

    f = DIR + "/fsync"
    fd = opened(f)
    os.write(fd, b"x" * 10)
    os.fsync(fd)
    want(f, 0)
    os.write(fd, b"x" * 10)
    os.close(fd)
    want(f, 0, 20)

    f = DIR + "/cut"
    append(f, 10)
    append(f, 10)
    append(f, 10)
    os.truncate(f, 15)
    want(f, 0, 10, 15)
    append(f, 5)
    want(f, 0, 10, 15, 20)
    os.truncate(f, 0)
    want(f, 0)
    append(f, 3)
    want(f, 0, 3)
    fd = opened(f, os.O_TRUNC)
    os.write(fd, b"z" * 8)
    os.ftruncate(fd, 6)
    os.write(fd, b"z" * 2)  # behind a hole
    os.close(fd)
    want(f, 0, 10)

    f = DIR + "/cut-behind"  # the end of a writer that is still open
    a, b = opened(f), opened(f)
    os.write(a, b"a" * 10)
    os.write(b, b"b" * 10)
    os.truncate(f, 15)
    os.close(a)
    os.close(b)
    want(f, 0, *([] if WRITEBACK else [10]), 15)
    f = DIR + "/made-longer"
    append(f, 5)
    fd = opened(f)
    os.truncate(f, 8)
    os.close(fd)
    want(f, 0, 5, *([8] if WRITEBACK else []))
    f = DIR + "/mapped-beyond-close"  # its release comes while another one appends
    fd = os.open(f, os.O_RDWR | os.O_CREAT)
    os.write(fd, b"a" * 5)
    at = libc.mmap(None, 4096, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    os.close(fd)
    fd = opened(f)
    os.write(fd, b"b" * 3)
    os.fsync(fd)
    libc.munmap(at, 4096)
    os.stat(f)
    os.write(fd, b"b" * 4)
    os.close(fd)
    want(f, 0, 5, 12)

    f = DIR + "/prepared"  # to its size first, then filled in
    fd = os.open(f, os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 8192)
    m = mmap.mmap(fd, 8192)
    m[:] = b"m" * 8192
    m.flush()
    m.close()
    os.close(fd)
    append(f, 8)
    want(f, 0, 8192, 8200)
    f = DIR + "/allocated"
    fd = os.open(f, os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(fd, 0, 4096)
    os.pwrite(fd, b"a" * 4096, 0)
    os.close(fd)
    append(f, 4)
    want(f, 0, 4096, 4100)

    f = DIR + "/copied"
    src = os.open(DIR + "/prepared", os.O_RDONLY)
    fd = os.open(f, os.O_RDWR | os.O_CREAT)
    assert os.copy_file_range(src, fd, 1000, 0) == 1000
    os.close(fd)
    want(f, 0, 1000)
    fd = opened(f, 0)
    os.lseek(fd, 0, os.SEEK_END)
    assert os.sendfile(fd, src, 0, 500) == 500
    os.close(fd)
    want(f, 0, 1000, 1500)

    f = DIR + "/unlinked"
    append(f, 5)
    fd = os.open(f, os.O_RDWR | os.O_APPEND)
    os.unlink(f)
    os.write(fd, b"u" * 5)
    assert os.getxattr(fd, "user.spillfs.runs") in (b"0 5", b"0")
    os.close(fd)


def ioctl_mark(fd):
    out = bytearray(16)
    fcntl.ioctl(fd, SPILLFS_IOC_MARK, out)
    return struct.unpack("QQ", out)


def refused(code, fn, *args):
    try:
        fn(*args)
    except OSError as e:
        assert e.errno == code, (e, fn, args)
        return
    raise AssertionError((fn, args))


def marks():
    import errno
    mark = lambda path: os.setxattr(path, "user.spillfs.mark", b"1")
    f = DIR + "/marked"
    fd = opened(f)
    mark(f)  # nothing yet
    want(f, 0)
    os.write(fd, b"x" * 10)
    mark(f)
    mark(f)
    want(f, 0, 10)
    os.write(fd, b"x" * 10)
    want(f, 0, 10)
    assert ioctl_mark(fd) == (20, 1)
    assert ioctl_mark(fd) == (20, 0)
    os.write(fd, b"x" * 5)
    child(lambda: mark(f))
    os.write(fd, b"x" * 5)
    os.close(fd)
    want(f, 0, 10, 20, 25, 30)
    assert os.listxattr(f) == []
    refused(errno.ENODATA, os.getxattr, f, "user.spillfs.mark")
    refused(errno.ENODATA, os.removexattr, f, "user.spillfs.mark")
    for bad in (b"", b"0", b"11", b"x"):
        refused(errno.EINVAL, os.setxattr, f, "user.spillfs.mark", bad)
    for kind in ("columns", "layers"):
        other = MNT + "/" + kind + "/other"
        with open(other, "wb") as o:
            refused(errno.EOPNOTSUPP, ioctl_mark, o.fileno())
        refused(errno.EOPNOTSUPP, mark, other)
    refused(errno.EOPNOTSUPP, mark, DIR)
    refused(errno.EOPNOTSUPP, mark, MNT)
    refused(errno.EROFS, mark, MNT + "/views/runs/buckets/marks/marked/000000")
    fd = os.open(f, os.O_RDONLY)
    refused(errno.EBADF, ioctl_mark, fd)
    os.close(fd)
    f = DIR + "/shared"  # writers that have it open all the time
    a, b = opened(f), opened(f)
    for k in range(20):
        fd = (a, b)[k % 2]
        os.write(fd, b"x" * 3)
        os.write(fd, b"x" * 4)
        ioctl_mark(fd)
    os.close(a)
    os.close(b)
    want(f, *range(0, 141, 7))


def index():
    import numpy as np
    n, record = 20000, 8
    f = DIR + "/many.f64"
    fd = opened(f)
    for k in range(n):
        os.write(fd, struct.pack("<d", k))
        assert ioctl_mark(fd)[1]
    os.write(fd, struct.pack("<dd", 0, 0))
    view = MNT + "/views/runs/buckets/index/many.f64"
    bounds = np.memmap(view + "/index.u64", "<u8", "r")
    assert np.array_equal(bounds, np.append(np.arange(n + 1) * record, (n + 2) * record)), bounds
    os.close(fd)
    assert np.array_equal(np.fromfile(view + "/index.u64", "<u8"), bounds)
    try:
        os.getxattr(f, "user.spillfs.runs")
        raise AssertionError("they cannot fit")
    except OSError as e:
        assert e.errno == 7, e
    names = sorted(os.listdir(view))
    assert names == ["%06d" % k for k in range(n + 1)], (len(names), names[:3], names[-3:])
    for k in (0, 1, n - 1):
        assert np.fromfile("%s/%06d" % (view, k)).tolist() == [k]
        assert os.getxattr("%s/%06d" % (view, k), "user.spillfs.dtype") == b"f64"
        assert os.getxattr("%s/%06d" % (view, k), "user.spillfs.length") == b"1"
    last = "%s/%06d" % (view, n)
    assert np.fromfile(last).tolist() == [0, 0] and os.getxattr(last, "user.spillfs.length") == b"2"
    assert os.listxattr(last) == ["user.spillfs.dtype"]
    assert os.getxattr(view + "/index.u64", "user.spillfs.dtype") == b"u64"
    assert os.getxattr(view + "/index.u64", "user.spillfs.length") == b"%d" % (n + 2)
    f = DIR + "/plain"
    append(f, 5)
    view = MNT + "/views/runs/buckets/index/plain"
    assert os.listxattr(view + "/000000") == [] and os.getxattr(view + "/000000", "user.spillfs.length") == b"5"
    open(DIR + "/none", "w").close()
    assert os.listdir(MNT + "/views/runs/buckets/index/none") == []
    assert np.fromfile(MNT + "/views/runs/buckets/index/none/index.u64", "<u8").tolist() == [0]


def many(n):
    fd = opened(DIR + "/f")
    for k in range(n):
        os.write(fd, b"m")
        ioctl_mark(fd)
    os.close(fd)
    os.sync()
    fd = os.open(MNT, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def counted(n):
    got = array.array("Q", open(MNT + "/views/runs/buckets/many/f/index.u64", "rb").read())
    assert got == array.array("Q", range(n + 1)), (len(got), n)


if mode in ("many", "counted"):
    globals()[mode](int(sys.argv[3]))
else:
    {"ends": ends, "marks": marks, "index": index}[mode]()
