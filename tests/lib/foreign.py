"""Stores with other things in place of their files. foreign.py WORK SPILLFS SPILLCTL STRIDE OFFSET

For each file of a store, each thing (a symbolic link out of the store, one to a file inside, a FIFO, a directory, a device, a socket, a
hard link out), and each program that opens a store: it ends, it does not change or read what is outside, and either it works and
shows right bytes, or it says which file is what. Every STRIDE-th cell is tried, from OFFSET on; a line for each that is not as it should be.
"""
import errno
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time

LIMIT_S = 30
LONG_AGO_NS = 10 ** 18  # 2001: with relatime, a read makes it today
FILES = ["SPILLFS", "SPILLFS.tmp", "lock", "meta.db", "meta.db-wal", "meta.db-shm", "meta.db-journal", "meta.db-temp", "probe.tmp", "pool", "pool/00",
         "columns", "columns/1", "layers", "layers/00000001.zst", "layers/HEAD", "layers/HEAD.tmp", "layers/refs", "layers/ref.tmp",
         "layers/refs/monday", "layers/compact.tmp", "lost+found"]
DIRECTORIES = ["pool", "columns", "layers", "layers/refs", "lost+found"]
THINGS = ["link out", "link in", "fifo", "directory", "device", "socket", "hard link"]
NAMES = {"link out": "symbolic link", "link in": "symbolic link", "fifo": "FIFO", "directory": "directory", "device": "character device", "socket": "socket",
         "hard link": "hard link"}
DATA = {"buckets/b": b"bucket " * 3000, "columns/c": b"column " * 20000, "layers/l": b"layers " * 30000}
# What is in a file that a store does not have while nobody has it.
OUTSIDE = b"the secret of somebody else\n" * 200


class Wrong(Exception):
    pass


def facts(top):
    """All of a tree that a follower of links could change, and whether it was read."""
    got = {}
    for at, dirs, files in os.walk(top):
        for name in ["."] + files:
            st = os.lstat(os.path.join(at, name))
            got[os.path.relpath(os.path.join(at, name), top)] = (st.st_mode, st.st_size, st.st_mtime_ns, st.st_ino)
    return got


def atimes(top):
    return {os.path.join(at, name): os.lstat(os.path.join(at, name)).st_atime_ns for at, _, files in os.walk(top) for name in files}


def age(top):
    for at, _, files in os.walk(top, topdown=False):
        for path in [os.path.join(at, f) for f in files] + [at]:
            os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))


def mounted(path):
    with open("/proc/self/mountinfo") as f:
        return any(line.split()[4] == path for line in f)


def detach(path):
    while mounted(path):
        subprocess.run(["umount", "-l", path], check=False)


class Cell:
    def __init__(self, work, spillfs, spillctl, name, thing, how):
        self.spillfs, self.spillctl = spillfs, spillctl
        self.name, self.thing, self.how = name, thing, how
        self.top = os.path.join(work, "cell")
        self.store, self.out, self.mnt = (os.path.join(self.top, d) for d in ("store", "out", "mnt"))
        self.said, self.failed = "", False
        shutil.rmtree(self.top, ignore_errors=True)
        os.makedirs(self.out)
        os.makedirs(self.mnt)
        subprocess.run(["cp", "-a", os.path.join(work, "pristine"), self.store], check=True)
        if how.startswith("rebuild"):
            os.unlink(os.path.join(self.store, "meta.db"))

    def put(self):
        """The thing in place of the file; outside stands what would pass for it."""
        at, there = os.path.join(self.store, self.name), os.path.join(self.out, "theirs")
        inside = os.path.join(self.store, "theirs")
        if not os.path.lexists(at):
            with open(there, "wb") as f:
                f.write(OUTSIDE)
        elif os.path.isdir(at):
            shutil.copytree(at, there)
        else:
            shutil.copy(at, there)
        age(self.out)
        if self.thing == "link in" and os.path.lexists(at):
            os.rename(at, inside)
        elif os.path.isdir(at):
            shutil.rmtree(at)
        elif os.path.lexists(at):
            os.unlink(at)
        if self.thing == "link out":
            os.symlink(there, at)
        elif self.thing == "link in":
            os.symlink(os.path.relpath(inside, os.path.dirname(at)), at)
        elif self.thing == "fifo":
            os.mkfifo(at)
        elif self.thing == "directory":
            os.mkdir(at)
        elif self.thing == "device":
            os.mknod(at, stat.S_IFCHR | 0o600, os.makedev(1, 5))
        elif self.thing == "socket":
            os.chdir(os.path.dirname(at))
            with socket.socket(socket.AF_UNIX) as s:
                s.bind(os.path.basename(at))
        else:
            os.link(there, at)

    def run(self, *args):
        try:
            p = subprocess.run(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT_S, check=False)
        except subprocess.TimeoutExpired as e:
            raise Wrong("hangs") from e
        self.hear(p.stdout)
        if p.returncode < 0 or p.returncode > 64:
            raise Wrong(f"ends with {p.returncode}")
        self.failed |= p.returncode != 0

    def hear(self, text):
        self.said += text.decode(errors="replace")

    def look(self, path):
        try:
            with open(os.path.join(self.mnt, path), "rb") as f:
                got = f.read()
        except OSError as e:
            if e.errno not in (errno.EIO, errno.ENOENT):
                raise Wrong(f"{path}: {e.strerror}") from e
            self.failed = True
            return
        if got != DATA[path.split("/", 2)[2] if path.startswith("snapshots") else path]:
            raise Wrong(f"{path} shows other bytes")

    def change(self):
        for kind in ("buckets", "columns", "layers"):
            try:
                with open(os.path.join(self.mnt, kind, "new"), "wb") as f:
                    f.write(b"x" * 100000)
                    f.flush()
                    os.fsync(f.fileno())
            except OSError:
                self.failed = True

    def mount(self, follows):
        log_path = os.path.join(self.top, "log")
        with open(log_path, "wb") as log:
            p = subprocess.Popen([self.spillfs, "-f", "-o", "pool=1" + (",ro" if follows else ""), self.store, self.mnt],
                                 stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until = time.monotonic() + LIMIT_S
        try:
            while p.poll() is None and b"mounted on" not in open(log_path, "rb").read():
                if time.monotonic() > until:
                    raise Wrong("hangs")
                time.sleep(0.005)
            if p.poll() is None:
                for path in DATA:
                    if path.startswith("layers") or not follows:
                        self.look(path)
                self.look("snapshots/monday/layers/l")
                if not follows:
                    self.change()
                self.run(self.spillctl, "umount", self.mnt)
                p.wait(LIMIT_S)
        except subprocess.TimeoutExpired as e:
            raise Wrong("does not end") from e
        finally:
            if p.poll() is None:
                p.kill()
                p.wait()
            detach(self.mnt)
            with open(log_path, "rb") as log:
                self.hear(log.read())
        if p.returncode < 0 or p.returncode > 64:
            raise Wrong(f"the daemon ends with {p.returncode}")
        self.failed |= p.returncode != 0

    def use(self):
        if self.how in ("mount", "follow"):
            self.mount(self.how == "follow")
        elif self.how == "check":
            self.run(self.spillctl, "check", "--data", self.store)
        elif self.how == "repair":
            self.run(self.spillctl, "check", "--repair", self.store)
        else:
            self.run(self.spillctl, "rebuild", "--force", self.store)

    def judge(self, before):
        after, read = facts(self.out), [p for p, t in atimes(self.out).items() if t != LONG_AGO_NS]
        if after != before:
            raise Wrong("what is outside has changed")
        if read and self.thing != "hard link":
            raise Wrong(f"what is outside was read: {read}")
        if OUTSIDE[:20].decode() in self.said:
            raise Wrong("what is outside is shown")
        if not self.failed:
            return
        if self.name not in self.said and os.path.basename(self.name) not in self.said:
            raise Wrong("the file is not named")
        if NAMES[self.thing] not in self.said:
            raise Wrong("it is not said what is there")


def fill(work, spillfs, spillctl):
    store, mnt = os.path.join(work, "pristine"), os.path.join(work, "filled")
    os.makedirs(store)
    os.makedirs(mnt)
    subprocess.run([spillfs, "-o", "pool=1", store, mnt], stdin=subprocess.DEVNULL, check=True)
    for path, data in DATA.items():
        with open(os.path.join(mnt, path), "wb") as f:
            f.write(data)
    os.mkdir(os.path.join(mnt, "snapshots/monday"))
    subprocess.run([spillctl, "umount", mnt], check=True)


def try_cell(work, spillfs, spillctl, what):
    cell = Cell(work, spillfs, spillctl, *what)
    cell.put()
    before = facts(cell.out)
    try:
        cell.use()
        cell.judge(before)
    except Wrong as e:
        print(f"{what[2]}, {what[0]} is a {what[1]}: {e}\n  " + "\n  ".join(cell.said.splitlines()[:8]), flush=True)
        return 1
    return 0


def main():
    work, spillfs, spillctl, stride, offset = *sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5])
    cells = [(f, t, h) for f in FILES for t in THINGS for h in ("mount", "follow", "check", "repair", "rebuild")]
    cells = [c for c in cells if c[1] not in ("directory", "hard link") or c[0] not in DIRECTORIES]
    fill(work, spillfs, spillctl)
    tried = cells[offset::stride]
    wrong = sum(try_cell(work, spillfs, spillctl, c) for c in tried)
    print(f"{len(tried)} cells, {wrong} wrong")
    sys.exit(wrong != 0)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    main()
