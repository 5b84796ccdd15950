"""What the programs of tests/bench share: a directory to work in, and the file systems that they measure beside each other.

The systems are a directory of ext4 (or whatever the work directory is on), others that a user might choose, the three kinds of one
spillfs mount, the columns of a second one, by passthrough, and scratch/ of a third.

Each system has a directory `dir` for the benchmark's files, cold() after which neither the kernel nor a daemon of it
knows their contents, and close(). A system that this machine lacks is left out, and missing() says what to install."""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ.get("BUILDDIR", "."))
SPILLCTL = os.path.join(BUILD, "spillctl")
CAN_DROP = os.access("/proc/sys/vm/drop_caches", os.W_OK)

BTRFS_BYTES = 16 << 30  # sparse


def run(*argv):
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def timed(*argv, **popen):
    start = time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, **popen)
    return time.perf_counter() - start


def drop_caches():
    """The kernel's, if CAN_DROP."""
    os.sync()
    if CAN_DROP:
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("3\n")


@contextlib.contextmanager
def work_directory():
    """A new one, removed at the end, also after SIGTERM; but not if something in it is still mounted."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    work = tempfile.mkdtemp(prefix="spillfs-bench.", dir=os.environ.get("TMPDIR", "/tmp"))
    try:
        yield work
    finally:
        if not any(os.path.ismount(os.path.join(work, d)) for d in os.listdir(work)):
            shutil.rmtree(work, ignore_errors=True)


class Native:
    """A plain directory. All others lie on the same disk."""
    name, needs = "native", ()
    written = True

    def __init__(self, work):
        self.dir = os.path.join(work, "native")
        os.mkdir(self.dir)

    def cold(self):
        pass

    def daemons(self):
        return []

    def close(self):
        pass


class Btrfs(Native):
    """A file with btrfs on a loop device: compression in the kernel, at the level of spillfs."""
    name, needs = "btrfs", ("mkfs.btrfs",)

    def __init__(self, work):
        self.image, self.dir = os.path.join(work, "btrfs.img"), os.path.join(work, "btrfs")
        os.mkdir(self.dir)
        with open(self.image, "w") as f:
            f.truncate(BTRFS_BYTES)
        run("mkfs.btrfs", "-q", self.image)
        self.mount()

    def mount(self):
        run("mount", "-o", "loop,compress=zstd:3", self.image, self.dir)

    def cold(self):
        run("umount", self.dir)
        self.mount()

    def close(self):
        run("umount", self.dir)


class Bindfs(Native):
    """A FUSE mount that passes everything on: what FUSE costs by itself."""
    name, needs = "bindfs", ("bindfs",)

    def __init__(self, work):
        self.below, self.dir = os.path.join(work, "below"), os.path.join(work, "bindfs")
        os.mkdir(self.below)
        os.mkdir(self.dir)
        self.mount()

    def mount(self):
        run("bindfs", self.below, self.dir)

    def cold(self):
        run("fusermount3", "-u", self.dir)
        self.mount()

    def close(self):
        run("fusermount3", "-u", self.dir)


class Squashfuse(Native):
    """Compressed images, for reading only; the image is made of the files of the native directory."""
    name, needs = "squashfuse", ("squashfuse_ll", "mksquashfs")
    written = False

    def __init__(self, work):
        self.source, self.image = os.path.join(work, "native"), os.path.join(work, "squash.img")
        self.dir = os.path.join(work, "squashfuse")
        os.mkdir(self.dir)
        self.mounted = False

    def cold(self):
        """The first time this makes the image, of what is there then."""
        if self.mounted:
            self.close()
        if not os.path.exists(self.image):
            run("mksquashfs", self.source, self.image, "-comp", "zstd", "-Xcompression-level", "3", "-no-progress")
        run("squashfuse_ll", self.image, self.dir)
        self.mounted = True

    def close(self):
        if self.mounted:
            run("fusermount3", "-u", self.dir)
        self.mounted = False


class Spillfs:
    """One mount; its kinds are systems of their own."""

    def __init__(self, work, options="", name="", build=BUILD):
        self.options = options
        self.spillfs, self.spillctl = (os.path.join(build, program) for program in ("spillfs", "spillctl"))
        self.store, self.mnt = os.path.join(work, "store" + name), os.path.join(work, "mnt" + name)
        for d in (self.store, self.mnt):
            os.mkdir(d)
        self.pid = None
        self.mount()

    def mount(self, **popen):
        opts = ["-o", self.options] if self.options else []
        subprocess.run([self.spillfs, *opts, self.store, self.mnt], check=True, **popen)
        info = subprocess.run([self.spillctl, "info", self.mnt], check=True, stdout=subprocess.PIPE, text=True).stdout
        self.pid = int(next(line.split()[-1] for line in info.splitlines() if line.startswith("daemon pid")))

    def config(self, name):
        with open(os.path.join(self.mnt, ".spillfs", "config")) as f:
            return next(line.split(None, 1)[1].strip() for line in f if line.startswith(name + " "))

    def umount(self):
        if self.pid:
            subprocess.run([self.spillctl, "umount", self.mnt], check=True)
        self.pid = None

    def anew(self, **popen):
        """An empty store, mounted."""
        self.umount()
        shutil.rmtree(self.store)
        os.mkdir(self.store)
        self.mount(**popen)

    def close(self):
        try:
            self.umount()
        except subprocess.CalledProcessError:
            subprocess.run(["umount", "-l", self.mnt], check=False)


class Kind(Native):
    def __init__(self, spill, kind, name=None):
        self.spill, self.kind, self.name = spill, kind, name or kind
        self.make()

    def make(self):
        self.dir = os.path.join(self.spill.mnt, self.kind, "bench")
        os.makedirs(self.dir, exist_ok=True)

    def cold(self):
        self.spill.umount()
        self.spill.mount()

    def daemons(self):
        return [self.spill.pid]


class Scratch(Kind):
    """scratch/, of a mount of its own: what is measured there is gone with the mount, so that it is never mounted anew between two rows."""

    def __init__(self, spill):
        super().__init__(spill, "scratch")

    def cold(self):
        pass


class Memory:
    """A memory cgroup (version 1 or 2) with a limit, for processes that are started in it."""

    def __init__(self, limit_bytes):
        for root, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
            self.path = os.path.join(root, "spillfs-bench-%d" % os.getpid())
            try:
                os.mkdir(self.path)
                if os.path.exists(os.path.join(self.path, limit)):
                    self.write(limit, limit_bytes)
                    return
                os.rmdir(self.path)
            except OSError:
                pass
        raise OSError("no memory cgroup can be made here")

    def write(self, name, value):
        with open(os.path.join(self.path, name), "w") as f:
            f.write("%d" % value)

    def enter(self):
        """For subprocess's preexec_fn."""
        self.write("cgroup.procs", os.getpid())

    def close(self):
        os.rmdir(self.path)


class Process:
    """A program that answers a line of JSON by one."""

    def __init__(self, *argv, env=None, **popen):
        self.p = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                  env={**os.environ, **(env or {})}, **popen)

    def ask(self, **what):
        self.p.stdin.write(json.dumps(what) + "\n")
        self.p.stdin.flush()
        said = json.loads(self.p.stdout.readline() or '{"error": "it has died"}')
        if "error" in said:
            raise RuntimeError("%s: %s" % (what, said["error"]))
        return said

    def close(self):
        self.p.stdin.close()
        self.p.wait()


def clients():
    """The directory of the readers by others, installed if nobody has; None: they cannot be."""
    if "CLIENTS_DIR" in os.environ:
        return os.environ["CLIENTS_DIR"]
    said = subprocess.run([os.path.join(TOP, "contrib", "clients")], stdout=subprocess.PIPE, text=True, check=False)
    return said.stdout.strip() if said.returncode == 0 else None


class DuckDB(Process):
    def __init__(self, where, **popen):
        super().__init__("node", os.path.join(TOP, "tests", "bench", "duck.mjs"), env={"CLIENTS_DIR": where}, **popen)


PEERS = [Btrfs, Bindfs, Squashfuse]


def missing(peer):
    if peer is Btrfs and os.getuid() != 0:
        return "only root mounts a loop device"
    for program in peer.needs:
        if not shutil.which(program):
            return "no %s" % program
    return None
