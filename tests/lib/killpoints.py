"""Kills the daemon at its n-th change of the store, for every n.

    killpoints.py WORK [every=K] [first=N] [last=N] [torn=1] [deep=1] [settle=1] [options=...]

A store is prepared once. For each n it is copied and mounted with SPILLFS_FAULT=kill:n (torn=1: kill-torn:n,
which moves half of that write), STEPS run until the daemon dies, and after the next mount the whole tree must
be one of the states that killmodel.py allows. deep=1: then the store is also written to, closed and mounted
again. settle=1: the next step waits for what commits do afterwards, for options under which that is more than
nothing (the daemon would commit half a step). Ends with the first n that is not reached. To add a step: write
a function, put it into STEPS."""
import os
import random
import shutil
import socket
import subprocess
import sys

import killmodel
import sysx

SPILLFS, SPILLCTL = os.environ["SPILLFS"], os.environ["SPILLCTL"]
BLOCK = 65536
OPTIONS = "commit=0,threads=1,pool=2"
DEATH_SECONDS = 60  # a daemon that fails a request is about to die, or is to be complained about


def noise(n, seed):
    return random.Random(repr(seed)).randbytes(n)


def prices(n, seed):
    """Compresses well."""
    rng, x, out = random.Random(repr(seed)), 1 << 20, bytearray()
    while len(out) < n:
        x += rng.randint(-5, 5)
        out += x.to_bytes(8, "little")
    return bytes(out[:n])


class Daemon:
    def __init__(self, work, store, mnt, fault=None, options=OPTIONS):
        self.mnt, self.arm = mnt, os.path.join(work, "arm")
        env = {k: v for k, v in os.environ.items() if not k.startswith("SPILLFS_FAULT")}
        if fault:
            env.update(SPILLFS_FAULT=fault, SPILLFS_FAULT_ARM=self.arm)
        if os.path.exists(self.arm):
            os.unlink(self.arm)
        self.log = os.path.join(work, "log")
        path = os.path.join(work, "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.bind(path)
            s.settimeout(0.2)
            with open(self.log, "wb") as log:
                self.child = subprocess.Popen([SPILLFS, "-f", "-o", options, store, mnt], stdin=subprocess.DEVNULL,
                                              stdout=log, stderr=log, env=dict(env, NOTIFY_SOCKET=path),
                                              start_new_session=True)
            with open(os.path.join(work, ".pids"), "a") as f:  # for common.bash, if this ends early
                f.write("%d\n" % self.child.pid)
            try:
                self.wait_ready(s)
            except BaseException:
                self.end()
                raise
            finally:
                os.unlink(path)

    def wait_ready(self, s):
        while True:
            try:
                if b"READY=1" in s.recv(4096).split(b"\n"):
                    return
            except socket.timeout:
                assert self.child.poll() is None, "the daemon ended while mounting:\n" + self.said()

    def said(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    def start_counting(self):
        open(self.arm, "w").close()

    def ctl(self, command, *args):
        return subprocess.run([SPILLCTL, command, *(args or [self.mnt])], check=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT).stdout.decode()

    def was_killed(self):
        """After a failure: did the daemon do as it was told?"""
        try:
            return self.child.wait(DEATH_SECONDS) == -9
        except subprocess.TimeoutExpired:
            return False

    def umount(self):
        self.ctl("umount")
        assert self.child.wait(DEATH_SECONDS) == 0, "exit code %s\n%s" % (self.child.returncode, self.said())

    def end(self):
        """Whatever happened."""
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()
        with open("/proc/self/mountinfo") as f:
            if " %s " % self.mnt in f.read():
                cmd = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-uz"]
                subprocess.run(cmd + [self.mnt], check=True)


class Run:
    """What a step gets: the tree, and what spillctl can do here."""

    def __init__(self, daemon, model, features, settles=False):
        self.daemon, self.tree, self.features, self.settles = daemon, model, features, settles

    def commit(self):
        self.tree.may_commit()
        self.daemon.ctl("commit")
        self.was_committed()

    def was_committed(self):
        self.tree.committed()
        if self.settles:
            self.settle()

    def fsync(self, path):
        self.tree.may_commit()
        fd = os.open(self.tree.at(path), os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        self.was_committed()

    def commits(self):
        with open(os.path.join(self.daemon.mnt, ".spillfs/stats")) as f:
            return next(line for line in f if line.startswith("spillfs_commits_total "))

    def settle(self):
        """Until compaction has nothing to do. A request is served when the compaction before it has ended, so
        when nothing was committed between two of them, none is under way."""
        before = None
        while before != self.commits():
            before = self.commits()
            self.daemon.ctl("sync")
            if before == self.commits():
                self.daemon.ctl("sync")


def prepare(r):
    """Layers on layers, buckets with several extents, columns inline and not."""
    t = r.tree
    os.setxattr(t.at("layers"), "user.spillfs.block_size", b"%d" % BLOCK)
    for k in killmodel.CLASSES:
        t.mkdir(k + "/d")
        t.create(k + "/gone", noise(70000, (k, "gone")))
        t.create(k + "/over", noise(30000, (k, "over")))
        t.create(k + "/again", prices(100000, (k, "again")))
    t.create("layers/big.u8", noise(5 << 20, "big"))
    t.create("layers/kept.u8", noise(700000, "kept"))
    r.commit()
    t.create("layers/a.f64", prices(600000, "a"))
    t.create("layers/b.u8", noise(300000, "b"))
    t.create("layers/d/c.u32", prices(200000, "c"))
    t.create("layers/small", b"small")
    t.create("buckets/p", noise(300000, "p"))
    t.create("buckets/q", noise(40000, "q"))
    t.create("buckets/d/r", noise(100000, "r"))
    t.create("columns/inline.u8", noise(10000, "inline"))
    t.create("columns/big.f64", prices(300000, "column"))
    r.commit()
    t.write("layers/a.f64", 2 * BLOCK + 77, prices(BLOCK, "a2"))
    t.write("layers/b.u8", 0, noise(1000, "b2"))
    t.append("buckets/q", noise(50000, "q2"))
    t.unlink("layers/d/c.u32")
    t.create("layers/d/c.u32", prices(150000, "c2"))
    r.commit()
    t.punch("layers/a.f64", 5 * BLOCK, BLOCK)
    t.append("columns/big.f64", prices(40000, "column2"))
    r.commit()
    r.settle()


# ---- the steps: between two commits they are one unit

def commit(r):
    r.commit()


def overwrite(r):
    r.tree.write("layers/a.f64", 3 * BLOCK - 500, prices(BLOCK, "a3"))
    r.tree.write("buckets/p", 1000, noise(5000, "p3"))
    r.tree.write("columns/big.f64", 70000, noise(5000, "column3"))
    r.tree.write("columns/inline.u8", 10, noise(50, "inline3"))


def punch(r):
    r.tree.punch("layers/b.u8", BLOCK, 2 * BLOCK)
    r.tree.punch("buckets/p", 100000, 65536)
    r.tree.punch("columns/big.f64", 8192, 8192)


def grow(r):
    r.tree.append("layers/d/c.u32", noise(70000, "c3"))
    r.tree.append("buckets/q", noise(50000, "q3"))
    r.tree.append("columns/big.f64", noise(40000, "column4"))
    r.tree.append("columns/inline.u8", noise(80000, "inline4"))


def create(r):
    for k in killmodel.CLASSES:
        r.tree.create(k + "/new", noise(90000, (k, "new")))
        r.tree.create(k + "/new.small", noise(300, (k, "new.small")))
        r.tree.mkdir(k + "/new.d")


def fsync_one(r):
    r.fsync("layers/a.f64")


def unlink(r):
    for k in killmodel.CLASSES:
        r.tree.unlink(k + "/gone")
    r.tree.unlink("layers/small")


def rename_over(r):
    for k in killmodel.CLASSES:
        r.tree.create(k + "/tmp", noise(120000, (k, "tmp")))
        r.tree.rename(k + "/tmp", k + "/over")
        r.tree.rename(k + "/d", k + "/e")


def links(r):
    for k in killmodel.CLASSES:
        r.tree.link(k + "/new", k + "/e/link")
        r.tree.symlink("e/link", k + "/symlink")
        r.tree.rmdir(k + "/new.d")


def truncate(r):
    r.tree.truncate("layers/a.f64", 3 * BLOCK + 1)
    r.tree.truncate("buckets/p", 200001)
    r.tree.truncate("columns/big.f64", 100000)
    r.tree.truncate("layers/over", 400000)


def grow_over_a_cut(r):
    """Waits for a commit of what was before."""
    r.tree.truncate("columns/big.f64", 80000)
    r.tree.may_commit()
    r.tree.append("columns/big.f64", noise(50000, "column5"))
    r.tree.committed()
    if r.settles:
        r.tree.may_commit()
        r.settle()


def rewrite(r):
    for k in killmodel.CLASSES:
        r.tree.create(k + "/again", noise(110000, (k, "again2")))
    r.tree.append("layers/a.f64", prices(100, "a4"))


def kill_most_of_a_layer(r):
    """What is left in the first layer, kept.u8, is moved after the commit."""
    r.tree.create("layers/big.u8", noise(300000, "big2"))
    r.commit()
    r.settle()


def take_snapshot(r):
    if "snapshots" in r.features:
        r.tree.take_snapshot("x")
        r.commit()


def change_under_snapshot(r):
    r.tree.write("layers/b.u8", 5000, noise(BLOCK, "b5"))
    r.tree.unlink("layers/again")
    r.commit()


def compact(r):
    if "compact" in r.features:
        r.daemon.ctl("compact")
        r.settle()


def drop_snapshot(r):
    if "snapshots" in r.features:
        r.tree.drop_snapshot("x")
        r.commit()
        r.settle()


def umount(r):
    r.tree.create("layers/last", noise(20000, "last"))
    r.tree.may_commit()
    r.daemon.ctl("umount")


STEPS = [
    ("overwrite", overwrite), ("punch", punch), ("grow", grow), ("create", create), ("commit", commit),
    ("unlink", unlink), ("rename over", rename_over), ("links", links), ("fsync", fsync_one),
    ("truncate", truncate), ("commit", commit), ("rewrite", rewrite), ("grow over a cut", grow_over_a_cut),
    ("fsync", fsync_one), ("a mostly dead layer", kill_most_of_a_layer),
    ("mkdir snapshots/x", take_snapshot), ("changes after it", change_under_snapshot), ("compact", compact),
    ("rmdir snapshots/x", drop_snapshot), ("umount", umount),
]


# ---- the loop

class Driver:
    def __init__(self, work, every=1, first=1, last=0, torn=0, deep=0, settle=0, options=OPTIONS):
        self.work, self.deep, self.settle, self.options = work, int(deep), int(settle), options
        self.every, self.first, self.last = int(every), int(first), int(last)
        self.kill = "kill-torn:%d" if int(torn) else "kill:%d"
        self.base, self.store, self.mnt = (os.path.join(work, d) for d in ("base", "copy", "at"))
        for d in (self.base, self.mnt):
            os.mkdir(d)
        self.features = {w for line in subprocess.run([SPILLCTL, "help"], stdout=subprocess.PIPE).stdout.decode()
                         .split("\n") if line.startswith("  ") for w in line.split()[:1]}

    def mount(self, store, fault=None):
        return Daemon(self.work, store, self.mnt, fault, self.options)

    def prepare(self):
        d = self.mount(self.base)
        try:
            try:
                os.mkdir(os.path.join(self.mnt, "snapshots/probe"))
                os.rmdir(os.path.join(self.mnt, "snapshots/probe"))
                self.features.add("snapshots")
            except OSError:
                pass
            self.model = killmodel.Model(self.mnt)
            prepare(Run(d, self.model, self.features))
            d.umount()
        finally:
            d.end()

    def fresh(self):
        """A copy of the prepared store, and of the model of it."""
        shutil.rmtree(self.store, ignore_errors=True)
        subprocess.run(["cp", "-a", "--sparse=always", self.base, self.store], check=True)
        model, copies = killmodel.Model(self.mnt), {}
        for path, node in self.model.names.items():  # hard links stay so
            if isinstance(node, killmodel.Node):
                node = copies.setdefault(id(node), killmodel.Node(node.data))
            model.names[path] = node
        model.may_commit()
        return model

    def until_killed(self, fault, model):
        """Runs the steps: (the step at which the daemon died or None, its log)."""
        d = self.mount(self.store, fault)
        run = Run(d, model, self.features, self.settle)
        d.start_counting()
        try:
            for name, step in STEPS:
                try:
                    step(run)
                except (OSError, subprocess.CalledProcessError) as e:
                    if d.was_killed():
                        return name, d.said()
                    raise AssertionError("%s: %s, and the daemon was not killed\n%s\n%s" % (
                        name, e, getattr(e, "output", b""), d.said()))
            code = d.child.wait(DEATH_SECONDS)
            assert code in (0, -9), "exit code %d\n%s" % (code, d.said())
            return ("end" if code else None), d.said()
        finally:
            d.end()

    def after_crash(self, model):
        d = self.mount(self.store)
        try:
            got = killmodel.read_tree(self.mnt)
            state = model.find(got)
            if self.deep:
                self.go_on(d, got)
            d.umount()
            self.check_store()
        finally:
            d.end()
        if self.deep:
            d = self.mount(self.store)
            try:
                now = killmodel.read_tree(self.mnt)
                diff = [p for p in got.keys() | now.keys() if got.get(p) != now.get(p)]
                assert not diff, "after the second mount these are different: %s" % diff
                d.umount()
            finally:
                d.end()
        return state

    def go_on(self, d, got):
        """New data must not land on what is there."""
        for k in killmodel.CLASSES:
            data = noise(400000, (k, "after"))
            sysx.put(os.path.join(self.mnt, k, "after"), data)
            got[k + "/after"] = data
        d.ctl("commit")

    def check_store(self):
        if "check" in self.features:
            subprocess.run([SPILLCTL, "check", self.store], check=True)

    def one(self, n):
        """False when the n-th operation was not reached."""
        model, step = self.fresh(), None
        try:
            step, _ = self.until_killed(self.kill % n, model)
            state = self.after_crash(model)
        except (AssertionError, OSError, subprocess.CalledProcessError) as e:
            raise AssertionError("%s, during '%s': %s %s" % (self.kill % n, step, e, getattr(e, "output", "")))
        if not step:
            assert state == len(model.states) - 1, "a run without a crash ended in state %d" % state
        self.tally.setdefault(step, []).append((n, state))
        return step is not None

    def main(self):
        self.prepare()
        model = self.fresh()
        _, log = self.until_killed("count", model)
        total = [line.split()[-2] for line in log.split("\n") if "operations" in line]
        print("the run has %s operations" % " ".join(total), flush=True)
        assert total and int(total[0]) > 50, "hardly anything was counted:\n" + log
        n, fired, self.tally = self.first, 0, {}
        while (not self.last or n <= self.last) and self.one(n):
            fired, n = fired + 1, n + self.every
        for step, seen in self.tally.items():
            print("%-22s %s" % (step, " ".join("%d:%d" % p for p in seen)))
        print("%d kill points fired, up to %d of %s" % (fired, n - self.every, total[0]))
        assert fired >= (int(total[0]) - self.first) // self.every // 2 or self.last, "too few"


if __name__ == "__main__":
    try:
        Driver(sys.argv[1], **dict(a.split("=", 1) for a in sys.argv[2:])).main()
    except AssertionError as e:
        print(e, file=sys.stderr)
        sys.exit(1)
