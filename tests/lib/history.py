"""A history of random edits under layers/, and a model of every state of it.

    history.py edit MNT MODEL COMMITS SEED [ARRAYS]   edits and commits; MODEL (a directory) keeps what should be there
    history.py check MNT MODEL [FIRST LAST]           snapshots/@N of every commit made, byte for byte
    history.py live MNT MODEL                         layers/ is the last of them
    history.py kept MNT MODEL N                       the last N commits are there, no others

HISTORY_MTIME=no: modification times are not looked at.
Every tenth commit is the mkdir of a snapshot (its name: s and the number of the layer)."""
import hashlib
import json
import os
import random
import stat
import sys

import sysx
from killmodel import differ

SUFFIXES = (".f64", ".f32", ".i16", ".u8", ".u32", ".c128", ".bool", "")
SIZES = (0, 7, 100, 1000, 5000, 40000, 70000, 262144, 300001, 1100000)


class Model:
    """path: {"sha", "size", "mode", "mtime"}, or {"dir"}, or {"link"}; contents as files named by their hash."""

    def __init__(self, top):
        self.top = top
        self.states = []  # [layer, name, {path: facts}]

    def path(self):
        return os.path.join(self.top, "states.json")

    def load(self):
        with open(self.path()) as f:
            self.states = json.load(f)
        return self

    def save(self):
        with open(self.path(), "w") as f:
            json.dump(self.states, f)

    def blob(self, data):
        sha = hashlib.sha256(data).hexdigest()
        path = os.path.join(self.top, sha)
        if not os.path.exists(path):
            sysx.put(path, data)
        return sha


class Array:
    def __init__(self, data):
        self.data = bytearray(data)
        self.facts = None  # until it is changed again


class Editor:
    """Edits the mount and the model alike."""

    def __init__(self, mnt, model, seed, arrays):
        self.mnt, self.model, self.rng = mnt, model, random.Random(seed)
        self.root = os.open(mnt, os.O_RDONLY | os.O_DIRECTORY)
        self.names = {}  # path below layers/: Array, None for a directory, text for a symbolic link
        self.free = []   # of unlinked arrays, to be created again
        self.made = 0
        for _ in range(3):
            self.mkdir()
        while len(self.arrays()) < arrays:
            self.create()

    def at(self, path):
        return os.path.join(self.mnt, "layers", path)

    def arrays(self):
        return [p for p, a in self.names.items() if isinstance(a, Array)]

    def dirs(self):
        return [""] + [p for p, a in self.names.items() if a is None]

    def pick(self):
        return self.rng.choice(sorted(self.arrays()))

    def new_path(self, suffix):
        self.made += 1
        return os.path.join(self.rng.choice(sorted(self.dirs())), "n%d%s" % (self.made, suffix))

    def bytes(self, n):
        """Noise, text that compresses, or zeros."""
        kind = self.rng.randrange(4)
        if kind == 0:
            return bytes(n)
        if kind == 1:
            return (b"%d," % self.rng.randrange(1 << 30) * (n // 2 + 1))[:n]
        return self.rng.randbytes(n)

    # ---- edits

    def mkdir(self):
        path = self.new_path(".d")
        os.mkdir(self.at(path))
        self.names[path] = None

    def create(self):
        """A new array; often under the name of one that was deleted."""
        path = self.rng.choice(sorted(self.free)) if self.free and self.rng.random() < 0.7 else \
            self.new_path(self.rng.choice(SUFFIXES))
        if os.path.dirname(path) not in self.dirs():
            path = os.path.basename(path)
        if path in self.names:
            return
        if path in self.free:
            self.free.remove(path)
        size = self.rng.choice(SIZES)
        a = self.names[path] = Array(self.bytes(size))
        sysx.put(self.at(path), b"")
        if self.rng.random() < 0.3:
            os.setxattr(self.at(path), "user.spillfs.block_size", b"4096")
        sysx.put(self.at(path), bytes(a.data))

    def pwrite(self, path, off, data):
        a = self.names[path]
        a.data.extend(bytes(max(0, off - len(a.data))))
        a.data[off:off + len(data)] = data
        a.facts = None
        fd = os.open(self.at(path), self.rng.choice((os.O_WRONLY, os.O_RDWR)))
        try:
            done = 0
            while done < len(data):
                done += os.pwrite(fd, data[done:], off + done)
        finally:
            os.close(fd)

    def overwrite(self):
        path = self.pick()
        n = len(self.names[path].data)
        if n:
            off = self.rng.randrange(n)
            self.pwrite(path, off, self.bytes(min(n - off, self.rng.choice((1, 8, 500, 5000, 300000)))))

    def append(self):
        path = self.pick()
        n = len(self.names[path].data)
        if n < 3000000:
            gap = self.rng.choice((0, 0, 0, 10, 300000))
            self.pwrite(path, n + gap, self.bytes(self.rng.choice((1, 64, 4096, 100000))))

    def truncate(self):
        path = self.pick()
        a = self.names[path]
        size = self.rng.randrange(len(a.data) * 5 // 4 + 10)
        a.data[size:] = bytes(max(0, size - len(a.data)))
        a.facts = None
        os.truncate(self.at(path), size)

    def punch(self):
        path = self.pick()
        a = self.names[path]
        if not a.data:
            return
        off = self.rng.randrange(len(a.data))
        n = min(len(a.data) - off, self.rng.choice((100, 8192, 262144, 600000)))
        a.data[off:off + n] = bytes(n)
        a.facts = None
        fd = os.open(self.at(path), os.O_RDWR)
        try:
            sysx.fallocate(fd, sysx.PUNCH_HOLE | sysx.KEEP_SIZE, off, n)
        finally:
            os.close(fd)

    def unlink(self):
        path = self.pick()
        os.unlink(self.at(path))
        del self.names[path]
        self.free.append(path)
        self.create()

    def rename(self):
        """To a new name, over another array, or of a directory with all that is in it."""
        dirs = self.dirs()[1:]
        if dirs and self.rng.random() < 0.2:
            old = self.rng.choice(sorted(dirs))
            new = os.path.join(os.path.dirname(old), "r%d.d" % self.made)
            self.made += 1
        else:
            old = self.pick()
            new = self.pick() if self.rng.random() < 0.3 else self.new_path(os.path.splitext(old)[1])
            if new == old:
                return
        os.rename(self.at(old), self.at(new))
        self.names.pop(new, None)
        for p in [p for p in self.names if p == old or p.startswith(old + "/")]:
            self.names[new + p[len(old):]] = self.names.pop(p)
        if len(self.arrays()) < 20:
            self.create()

    def symlink(self):
        path = self.new_path(".l")
        os.symlink("to %d" % self.made, self.at(path))
        self.names[path] = "to %d" % self.made

    def chmod(self):
        path = self.pick()
        os.chmod(self.at(path), self.rng.choice((0o600, 0o644, 0o640)))
        self.names[path].facts = None

    def edit(self):
        kinds = (self.overwrite, self.overwrite, self.overwrite, self.append, self.append, self.truncate, self.punch,
                 self.unlink, self.rename, self.create, self.mkdir, self.chmod, self.symlink)
        for _ in range(self.rng.randrange(1, 7)):
            f = self.rng.choice(kinds)
            if f in (self.mkdir, self.symlink, self.create) and len(self.names) > 80:
                continue
            f()

    # ---- commits

    def facts(self):
        out = {}
        for path, a in self.names.items():
            if isinstance(a, str):
                out[path] = {"link": a}
            elif a is None:
                out[path] = {"dir": True}
            else:
                if a.facts is None:
                    s = os.lstat(self.at(path))
                    a.facts = {"sha": self.model.blob(bytes(a.data)), "size": len(a.data),
                               "mode": stat.S_IMODE(s.st_mode), "mtime": s.st_mtime_ns}
                out[path] = a.facts
        return out

    def commit(self, name):
        facts = self.facts()
        if name:
            os.mkdir(os.path.join(self.mnt, "snapshots", "taking"))
            os.rmdir(os.path.join(self.mnt, "snapshots", "taking"))
        else:
            sysx.commit(self.root)
        layer = newest_delta(self.mnt)
        if self.model.states and self.model.states[-1][0] == layer:
            assert self.model.states[-1][2] == facts, "a change made no layer"
            return
        if name:
            name = "s%d" % layer
            os.mkdir(os.path.join(self.mnt, "snapshots", name))
        self.model.states.append([layer, name, facts])


def newest_delta(mnt):
    """The number of the last commit. A compaction may have added a layer with the same state."""
    with open(os.path.join(mnt, ".spillfs/log")) as f:
        for line in f:
            parts = line.split("\t")
            if not line.startswith("#") and parts[5] == "delta":
                return int(parts[0])
    return 0


def edit(mnt, top, commits, seed, arrays="50"):
    model = Model(top)
    e = Editor(mnt, model, int(seed), int(arrays))
    while len(model.states) < int(commits):
        e.commit(len(model.states) % 10 == 9 or None)
        e.edit()
    # What came after the last commit must not show in it, and is to be no part of the model.
    e.commit(None)
    model.save()
    os.close(e.root)
    print("%d commits, layers %d to %d" % (len(model.states), model.states[0][0], model.states[-1][0]))


def read_file(path, want, model, where):
    s = os.lstat(path)
    got = sysx.get(path)
    if len(got) != want["size"] or hashlib.sha256(got).hexdigest() != want["sha"]:
        raise AssertionError("%s: %s" % (where, differ(got, sysx.get(os.path.join(model.top, want["sha"])))))
    have = {"size": s.st_size, "mode": stat.S_IMODE(s.st_mode), "mtime": s.st_mtime_ns}
    if os.environ.get("HISTORY_MTIME") == "no":
        have["mtime"] = want["mtime"]
    for k, v in have.items():
        assert v == want[k], "%s: %s is %r, wanted %r" % (where, k, v, want[k])


def compare(top, want, model):
    """The tree at top is the state, with nothing besides."""
    got = set()
    for d, dirs, files in os.walk(top):
        got.update(os.path.relpath(os.path.join(d, n), top) for n in dirs + files)
    assert got == want.keys(), "%s: missing %s, too many %s" % (
        top, sorted(want.keys() - got)[:5], sorted(got - want.keys())[:5])
    for path, facts in want.items():
        full = os.path.join(top, path)
        if "dir" in facts:
            assert os.path.isdir(full) and not os.path.islink(full), full
        elif "link" in facts:
            sysx.eq(os.readlink(full), facts["link"])
        else:
            read_file(full, facts, model, full)


def check(mnt, top, first="0", last="999999999"):
    model, n = Model(top).load(), 0
    for layer, name, facts in model.states:
        if int(first) <= n <= int(last):
            compare(os.path.join(mnt, "snapshots/@%d/layers" % layer), facts, model)
            if name:
                compare(os.path.join(mnt, "snapshots", name, "layers"), facts, model)
        n += 1
    names = sorted(s[1] for s in model.states if s[1])
    sysx.eq(sorted(os.listdir(os.path.join(mnt, "snapshots"))), names)


def live(mnt, top):
    model = Model(top).load()
    compare(os.path.join(mnt, "layers"), model.states[-1][2], model)


def kept(mnt, top, n):
    model = Model(top).load()
    for k, (layer, name, facts) in enumerate(model.states):
        path = os.path.join(mnt, "snapshots/@%d" % layer)
        # The commits that have a name are held by it.
        there = k >= len(model.states) - int(n) or bool(name)
        assert os.path.isdir(path) == there, "%s: %s" % (path, "missing" if there else "still there")
        if there:
            compare(os.path.join(path, "layers"), facts, model)


if __name__ == "__main__":
    {f.__name__: f for f in (edit, check, live, kept)}[sys.argv[1]](*sys.argv[2:])
