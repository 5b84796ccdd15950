"""What the checks share: system calls that Python has no name for, and asserting errno."""
import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import platform
import random
import signal
import struct
import time

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4
KEEP_SIZE, PUNCH_HOLE, COLLAPSE, ZERO_RANGE = 1, 2, 8, 16
NATIVE = bool(os.environ.get("NATIVE"))
ROOT = os.geteuid() == 0
NOBODY = 65534
SIGBUS = signal.SIGBUS
REALTIME_COARSE = 5  # Linux's number: time has no name for it


def _call(f, *args):
    r = f(*args)
    if r < 0:
        e = ctypes.get_errno()
        raise OSError(e, os.strerror(e))
    return r


def rename2(a, b, flags):
    return _call(libc.renameat2, AT_FDCWD, os.fsencode(a), AT_FDCWD, os.fsencode(b), flags)


def fallocate(fd, mode, off, length):
    return _call(libc.fallocate, fd, mode, ctypes.c_int64(off), ctypes.c_int64(length))


def setxattr_raw(path, name, value, size, flags):
    return _call(libc.setxattr, os.fsencode(path), os.fsencode(name), value, ctypes.c_size_t(size), flags)


def getxattr_raw(path, name, size):
    buf = ctypes.create_string_buffer(max(size, 1))
    return _call(libc.getxattr, os.fsencode(path), os.fsencode(name), buf, ctypes.c_size_t(size))


def listxattr_raw(path, size):
    buf = ctypes.create_string_buffer(max(size, 1))
    return _call(libc.listxattr, os.fsencode(path), buf, ctypes.c_size_t(size))


def walk(directory, nbytes=512):
    """The names in a directory, read in pieces of nbytes, so that what changes meanwhile is seen."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    buf = ctypes.create_string_buffer(nbytes)
    try:
        while True:
            n = _call(libc.getdents64, fd, buf, ctypes.c_size_t(nbytes))
            if not n:
                return
            at = 0
            while at < n:
                length = struct.unpack_from("<H", buf, at + 16)[0]
                name = os.fsdecode(buf.raw[at + 19:at + length].split(b"\0")[0])
                at += length
                if name not in (".", ".."):
                    yield name
    finally:
        os.close(fd)


def commit(root_fd):
    """SPILLFS_IOC_COMMIT on the mount's root: the newest sealed layer, and whether this request sealed it."""
    buf = bytearray(16)
    fcntl.ioctl(root_fd, 2 << 30 | 16 << 16 | ord("S") << 8 | 2, buf)
    return struct.unpack("QQ", buf)


@contextlib.contextmanager
def fails(*codes):
    """The block must raise OSError with one of these errno values."""
    want = "/".join(errno.errorcode[c] for c in codes)
    try:
        yield
    except OSError as e:
        got = errno.errorcode.get(e.errno, e.errno)
        assert e.errno in codes, "errno %s, wanted %s (%s)" % (got, want, e)
        return
    raise AssertionError("succeeded, wanted %s" % want)


def closes(fd):
    """The error of a close; 0: none."""
    try:
        os.close(fd)
    except OSError as e:
        return e.errno
    return 0


class Aio:
    """The kernel's asynchronous I/O (io_submit)."""
    SETUP, DESTROY, SUBMIT, GETEVENTS = (206, 207, 209, 208) if platform.machine() == "x86_64" else (0, 1, 2, 4)

    def __init__(self, n):
        self.context, self.asked = ctypes.c_ulong(), []
        _call(libc.syscall, self.SETUP, n, ctypes.byref(self.context))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        _call(libc.syscall, self.DESTROY, self.context)

    def write(self, fd, off, buf, at, n):
        """Begins to write buf[at:at + n] at off."""
        at += ctypes.addressof(ctypes.c_char.from_buffer(buf))
        iocb = ctypes.create_string_buffer(struct.pack("<QIIHhIQQqQII", 0, 0, 0, 1, 0, fd, at, n, off, 0, 0, 0), 64)
        self.asked.append(iocb)
        eq(_call(libc.syscall, self.SUBMIT, self.context, ctypes.c_long(1), ctypes.byref(ctypes.c_void_p(ctypes.addressof(iocb)))), 1)

    def wait(self, n):
        """The results of n requests."""
        events = ctypes.create_string_buffer(32 * n)
        eq(_call(libc.syscall, self.GETEVENTS, self.context, ctypes.c_long(n), ctypes.c_long(n), events, None), n)
        self.asked.clear()
        return [struct.unpack_from("<q", events, 32 * k + 16)[0] for k in range(n)]


def in_child(f, user=None):
    """Runs f in a child process, as another user if told; its failure is ours."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if user is not None:
                os.setgroups([])
                os.setresgid(user, user, user)
                os.setresuid(user, user, user)
            f()
            code = 0
        except BaseException:  # the child must never return into the test
            import traceback
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert status == 0, "the child failed (status %d)" % status


def children(n, f):
    """f(0..n-1), each in a process, at the same time."""
    pids = []
    for i in range(n):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                f(i)
                code = 0
            except BaseException:
                import traceback
                traceback.print_exc()
            finally:
                os._exit(code)
        pids.append(pid)
    for pid in pids:
        _, status = os.waitpid(pid, 0)
        assert status == 0, "a child failed (status %d)" % status


def shared_words():
    """512 words that children share. Each changes at once; struct.pack_into would clear it first."""
    return memoryview(mmap.mmap(-1, 4096)).cast("q")


def put(path, content=b"", mode=0o666, flags=0):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | flags, mode)
    try:
        done = 0
        while done < len(content):
            done += os.write(fd, content[done:])
    finally:
        os.close(fd)
    return path


def get(path):
    with open(path, "rb", buffering=0) as f:
        return f.readall()


def tick(ns):
    """Until the clock of files has passed ns: on a busy machine it can stand for longer than its tick."""
    while time.clock_gettime_ns(REALTIME_COARSE) <= ns:
        time.sleep(0.001)


def eq(got, want):
    if isinstance(got, bytes) and isinstance(want, bytes) and got != want:
        at = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
        raise AssertionError("bytes differ at %d: %r, wanted %r; lengths %d, %d" % (
            at, got[at:at + 16], want[at:at + 16], len(got), len(want)))
    assert got == want, "got %r, wanted %r" % (got, want)


def killed_by(f):
    """The signal that ends a child doing f, 0: none."""
    pid = os.fork()
    if pid == 0:
        try:
            f()
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0



def pattern(n, seed):
    """Incompressible bytes, the same for the same seed."""
    return random.Random(seed).randbytes(n)
