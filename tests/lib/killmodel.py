"""The tree as it should be: every change is made on the mount and in memory, and the states that a crash may
show are kept. A state is the whole tree; a crash must show one of them, none older than the last that was
acknowledged. Where this is not exact: IN_PLACE."""
import os

import sysx

# Buckets and columns are overwritten in place (docs/ARCHITECTURE.md), so a byte that was overwritten after a
# commit may be the new one in that commit's state. Layered arrays are exact.
IN_PLACE = ("buckets/", "columns/")
# Columns below this size are rows, and as exact as those.
INLINE_MAX = 65536

CLASSES = ("buckets", "columns", "layers")


class Node:
    """The data of one file, whatever its names are."""

    def __init__(self, data):
        self.data = bytearray(data)
        self.in_place = []  # (number of states before it, offset, bytes)


class Model:
    def __init__(self, mnt):
        self.mnt = mnt
        self.names = dict.fromkeys(CLASSES, "dir")  # path: Node, "dir" or ("link", target)
        self.states = []  # path: (Node, bytes), "dir" or ("link", target)
        self.acked = 0

    def at(self, path):
        return os.path.join(self.mnt, path)

    # ---- changes

    def create(self, path, data):
        """A new file, or an old one made empty and written again."""
        node = self.names.get(path)
        if node is None:
            node = self.names[path] = Node(b"")
        node.data[:] = data
        sysx.put(self.at(path), data)

    def write(self, path, off, data):
        node = self.names[path]
        self._may_be_seen(path, off, data)
        node.data.extend(bytes(max(0, off - len(node.data))))
        node.data[off:off + len(data)] = data
        fd = os.open(self.at(path), os.O_WRONLY)
        try:
            done = 0
            while done < len(data):
                done += os.pwrite(fd, data[done:], off + done)
        finally:
            os.close(fd)

    def append(self, path, data):
        self.write(path, len(self.names[path].data), data)

    def truncate(self, path, size):
        node = self.names[path]
        node.data[size:] = bytes(max(0, size - len(node.data)))
        os.truncate(self.at(path), size)

    def punch(self, path, off, size):
        node = self.names[path]
        if path.startswith("columns/"):
            self._may_be_seen(path, off, bytes(size))
        node.data[off:off + size] = bytes(size)
        fd = os.open(self.at(path), os.O_RDWR)
        try:
            sysx.fallocate(fd, sysx.PUNCH_HOLE | sysx.KEEP_SIZE, off, size)
        finally:
            os.close(fd)

    def unlink(self, path):
        del self.names[path]
        os.unlink(self.at(path))

    def rename(self, old, new):
        for path in [p for p in self.names if p == old or p.startswith(old + "/")]:
            self.names[new + path[len(old):]] = self.names.pop(path)
        os.rename(self.at(old), self.at(new))

    def mkdir(self, path):
        self.names[path] = "dir"
        os.mkdir(self.at(path))

    def rmdir(self, path):
        del self.names[path]
        os.rmdir(self.at(path))

    def symlink(self, target, path):
        self.names[path] = ("link", target)
        os.symlink(target, self.at(path))

    def link(self, old, new):
        self.names[new] = self.names[old]
        os.link(self.at(old), self.at(new))

    def take_snapshot(self, name):
        """May commit: first what is there now, then the snapshot of it."""
        self.may_commit()
        top = "snapshots/%s/" % name
        for path, node in list(self.names.items()):
            if path.startswith("layers"):
                self.names[top + path] = Node(node.data) if isinstance(node, Node) else node
        self.may_commit()
        os.mkdir(self.at(top))

    def drop_snapshot(self, name):
        top = "snapshots/%s/" % name
        for path in [p for p in self.names if p.startswith(top)]:
            del self.names[path]
        self.may_commit()
        os.rmdir(self.at(top))

    def _may_be_seen(self, path, off, data):
        """Noted before it is done: the daemon may die on the way."""
        node = self.names[path]
        part = data[:max(0, len(node.data) - off)]
        inline = path.startswith("columns/") and len(node.data) < INLINE_MAX
        if part and path.startswith(IN_PLACE) and not inline:
            node.in_place.append((len(self.states), off, bytes(part)))

    # ---- states

    def may_commit(self):
        """From here on a crash may show the tree as it is now."""
        self.states.append({p: (n, bytes(n.data)) if isinstance(n, Node) else n for p, n in self.names.items()})

    def committed(self):
        """From here on a crash must not show anything older."""
        self.acked = len(self.states) - 1

    def find(self, got):
        """The state that `got` is; AssertionError says how the nearest differs."""
        best = None
        for i in range(len(self.states) - 1, self.acked - 1, -1):
            diff = self._differences(i, got)
            if not diff:
                return i
            if best is None or len(diff) < len(best[1]):
                best = (i, diff)
        raise AssertionError("no allowed state (%d to %d); nearest is %d, but:\n  %s" % (
            self.acked, len(self.states) - 1, best[0], "\n  ".join(best[1][:20])))

    def _differences(self, i, got):
        want = self.states[i]
        diff = ["%s is missing" % p for p in want.keys() - got.keys()]
        diff += ["%s should not be there" % p for p in got.keys() - want.keys()]
        for path in want.keys() & got.keys():
            w, g = want[path], got[path]
            if isinstance(w[0], Node) and isinstance(g, bytes):
                text = differ(settle(g, w[1], w[0].in_place, i), w[1])
                if text:
                    diff.append("%s: %s" % (path, text))
            elif w != g:
                diff.append("%s: %.60r instead of %.60r" % (path, g, w))
        return diff


def settle(got, want, in_place, i):
    """got, with the bytes that may have been overwritten since state i put back."""
    if got == want or len(got) != len(want):
        return got
    out = bytearray(got)
    for seq, off, data in in_place:
        if seq <= i:
            continue
        for k, byte in enumerate(data[:max(0, len(want) - off)], off):
            if out[k] != want[k] and out[k] == byte:
                out[k] = want[k]
    return bytes(out)


def differ(got, want):
    if got == want:
        return None
    if len(got) != len(want):
        return "%d bytes instead of %d" % (len(got), len(want))
    at = next(k for k, (a, b) in enumerate(zip(got, want)) if a != b)
    count = sum(a != b for a, b in zip(got, want))
    return "%d of %d bytes differ, the first at %d: %r instead of %r" % (
        count, len(want), at, got[at:at + 8], want[at:at + 8])


def read_tree(mnt):
    """What is there: path: bytes, "dir" or ("link", target)."""
    tops = list(CLASSES)
    if os.path.isdir(os.path.join(mnt, "snapshots")):
        tops += ["snapshots/%s/layers" % name for name in os.listdir(os.path.join(mnt, "snapshots"))]
    got = {}
    while tops:
        path = tops.pop()
        full = os.path.join(mnt, path)
        if os.path.islink(full):
            got[path] = ("link", os.readlink(full))
        elif os.path.isdir(full):
            got[path] = "dir"
            tops += [path + "/" + name for name in os.listdir(full)]
        else:
            got[path] = sysx.get(full)
    return got
