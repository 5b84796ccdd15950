"""What the kernel holds of files that programs write and have not closed.

    unwritten.py copies MNT        cp of a view: just written, changed while others read it, while it grows
    unwritten.py looks MNT         views of files that are open show what was written, in size and content
    unwritten.py numbers MNT       a view has one inode number
    unwritten.py held MNT COMMAND  writes and maps files, runs the command, and exits with them open
    unwritten.py check DIR         that is what the files below DIR hold
    unwritten.py ended MNT PID     ends the daemon by two signals while files are written and their views looked at
    unwritten.py lost MNT          on a small store: what does not fit is told to the writer who closes, also if a reader closed first
"""
import array
import errno
import glob
import mmap
import os
import signal
import subprocess
import sys
import threading

from sysx import closes, eq, get, put

KINDS = "buckets", "columns", "layers"
HEAD = 4096  # of a view as .npy


def elements(n, value=1.0):
    return array.array("d", [value]) * n


def npy(mnt, kind, name="a"):
    return "%s/views/npy/%s/%s.npy" % (mnt, kind, name)


def cp(view, out):
    subprocess.run(["cp", view, out], check=True)
    return get(out)[HEAD:]


def copies(mnt):
    out = os.environ["WORK"] + "/out"
    for kind in KINDS:
        path = "%s/%s/a.f64" % (mnt, kind)
        for k in range(1, 9):
            want = elements(1000 + k, k).tobytes()
            put(path, want)
            with open(npy(mnt, kind), "rb") as reader:
                eq(cp(npy(mnt, kind), out), want)
                put(path, want * 2)
                eq(cp(npy(mnt, kind), out), want * 2)
                eq(reader.read(HEAD)[:6], b"\x93NUMPY")
            eq(cp(npy(mnt, kind), out), want * 2)
        grows(path, npy(mnt, kind), out)
        os.unlink(path)


def grows(path, view, out):
    stop = threading.Event()
    piece = elements(512).tobytes()

    def append():
        with open(path, "wb", buffering=0) as f:
            while not stop.is_set():
                f.write(piece)
                stop.wait(0.0002)

    put(path, piece)
    writer = threading.Thread(target=append)
    writer.start()
    try:
        for _ in range(8):
            got = cp(view, out)
            eq((len(got) % 8, got == elements(len(got) // 8).tobytes()), (0, True))
    finally:
        stop.set()
        writer.join()


def looks(mnt):
    for kind in KINDS:
        d = "%s/%s/d" % (mnt, kind)
        os.mkdir(d)
        files = [open("%s/%s.f64" % (d, name), "wb", buffering=0) for name in ("x", "y")]
        for k in range(1, 4):
            for f in files:
                f.write(elements(1000, k))
            eq(os.getxattr(d + "/x.f64", "user.spillfs.length"), b"%d" % (k * 1000))
            want = b"".join(elements(1000, v).tobytes() for v in range(1, k + 1))
            for name in "d/x", "d/y":  # equally long, they are a table
                eq(os.stat(npy(mnt, kind, name)).st_size, HEAD + k * 8000)
            eq(get(npy(mnt, kind, "d/x"))[HEAD:], want)
            assert elements(1000, k).tobytes() in get("%s/views/arrow/%s/d.arrow" % (mnt, kind))
        for f in files:
            f.close()


def numbers(mnt):
    for kind in KINDS:
        path, view = "%s/%s/n.f64" % (mnt, kind), npy(mnt, kind, "n")
        seen, held = set(), []
        for k in range(1, 6):
            put(path, elements(1000 * k))
            held.append(open(view, "rb"))
            seen |= {os.stat(view).st_ino, os.fstat(held[-1].fileno()).st_ino}
            seen |= {e.inode() for e in os.scandir(os.path.dirname(view)) if e.name == "n.npy"}
            eq(os.fstat(held[-1].fileno()).st_size, HEAD + 8000 * k)
        eq(len(seen), 1)
        eq([len(f.read()) for f in held[:1]], [HEAD + 8000] if kind == "layers" else [len(get(view)) - 4 * 8000])
        for f in held:
            f.close()
        os.unlink(path)


def held(mnt, *command):
    # Begun before: a child would close what it inherits, and so have it written back.
    child = subprocess.Popen(["sh", "-c", 'read go && exec "$@"', "-", *command], stdin=subprocess.PIPE)
    maps, files = [], []
    for kind in KINDS:
        f = open("%s/%s/written.f64" % (mnt, kind), "wb", buffering=0)
        f.write(elements(30000, 2))
        files.append(f)
        f = open("%s/%s/mapped.f64" % (mnt, kind), "w+b", buffering=0)
        f.truncate(240000)
        maps.append(mmap.mmap(f.fileno(), 240000))
        maps[-1][:] = elements(30000, 3).tobytes()
        files.append(f)
    child.communicate(b"go\n")
    eq(child.returncode, 0)
    os._exit(0)


def check(top):
    for value, name in (2, "written"), (3, "mapped"):
        found = glob.glob("%s/*/%s.f64" % (top, name))
        assert found, top
        for path in found:
            eq((path, get(path) == elements(30000, value).tobytes()), (path, True))


class Loop:
    """A thread that does something again and again, until it fails."""

    def __init__(self, act):
        self.rounds, self.changed = 0, threading.Condition()
        threading.Thread(target=self.run, args=(act,), daemon=True).start()

    def run(self, act):
        try:
            while True:
                act()
                with self.changed:
                    self.rounds += 1
                    self.changed.notify_all()
        except OSError:
            pass

    def goes_on(self, n):
        """Waits until it has done n more rounds."""
        with self.changed:
            want = self.rounds + n
            assert self.changed.wait_for(lambda: self.rounds >= want, 20), "stuck after %d rounds" % self.rounds


def ended(mnt, pid):
    path = mnt + "/columns/k.f64"
    fd, views = os.open(path, os.O_RDWR | os.O_CREAT), os.open(os.path.dirname(npy(mnt, "columns")), os.O_RDONLY)
    data = os.urandom(4 << 20)
    loops = [Loop(act) for act in (lambda: os.pwrite(fd, data, 0), *[lambda: os.stat("k.npy", dir_fd=views)] * 2)]
    for loop in loops:
        loop.goes_on(2)
    os.kill(int(pid), signal.SIGTERM)
    while os.path.ismount(mnt):
        loops[0].goes_on(1)
    for loop in loops:
        loop.goes_on(2)
    os.kill(int(pid), signal.SIGTERM)
    subprocess.run([sys.executable, os.path.dirname(__file__) + "/proc.py", "wait", pid], check=True, timeout=20)
    os._exit(0)


def lost(mnt):
    for kind in KINDS:
        path, fill = ("%s/%s/%s" % (mnt, kind, name) for name in ("lost.f64", "fill"))
        writers = [os.open(path, os.O_RDWR | os.O_CREAT) for _ in range(2)]
        filler = os.open(fill, os.O_RDWR | os.O_CREAT)
        os.fsync(writers[0])
        for step in 1 << 20, 1 << 16, 1 << 12:
            try:
                while True:
                    os.posix_fallocate(filler, os.fstat(filler).st_size, step)
            except OSError as e:
                eq(e.errno, errno.ENOSPC)
        os.write(writers[0], os.urandom(4 << 20))
        closes(os.open(path, os.O_RDONLY))  # gets what the kernel has to tell
        eq((kind, [closes(fd) for fd in writers]), (kind, [errno.ENOSPC] * 2))
        os.ftruncate(filler, 0)
        os.close(filler)
        # With space again, nothing is left of it.
        again = os.open(path, os.O_WRONLY | os.O_TRUNC)
        os.write(again, elements(1000))
        eq((kind, closes(again)), (kind, 0))
        os.unlink(fill)
        os.unlink(path)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
