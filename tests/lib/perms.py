"""What each caller may do with files and directories of each owner and mode: as on ext4, cell by cell.

    perms.py live MODEL DIR...        the live tree: a cell is what an operation answers, and what it leaves behind
    perms.py views MODEL MNT FORMAT KIND...  the same operations by the names of views, and what they leave of the arrays
    perms.py make DIR                 files for `fixed`
    perms.py fixed WORLD MODEL PATH...  what cannot be changed: each file and directory of these, compared with a copy in MODEL
    perms.py control MNT           requests to the daemon, by each caller
    perms.py idmapped MNT          such a mount cannot be made

MODEL is a directory of ext4. Where a world differs from it by design, a function below (VIEWS, FIXED) says what the cell is
instead. Callers are switched to once, each in a process of its own. The number of cells that were compared is printed. With FEW=N
only N callers are asked, and about fewer modes; with NOWRITEBACK=1 the mount is one without the writeback cache.
"""
import ctypes
import errno
import fcntl
import json
import os
import pickle
import shutil
import signal
import stat
import struct
import sys
import time
import traceback

from sysx import EXCHANGE, eq, libc, rename2

OWNER, GROUP, NOBODYS = 1000, 2000, 4242
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_FSETID, CAP_SYS_ADMIN = 1, 2, 3, 4, 21
ALL = (1 << 41) - 1
NAMESPACED = "root of a user namespace, the owner outside"
# uid, gid, supplementary groups, capabilities
CALLERS = {
    "root": (0, 0, [], ALL),
    "root without CAP_DAC_*": (0, 0, [], ALL & ~(1 << CAP_DAC_OVERRIDE | 1 << CAP_DAC_READ_SEARCH)),
    "root without capabilities": (0, 0, [], 0),
    "owner": (OWNER, GROUP, [], 0),
    "owner outside the group": (OWNER, 1000, [3000], 0),
    "member": (1001, GROUP, [], 0),
    "member by a supplementary group": (1001, 1001, [3000, GROUP], 0),
    "another": (1002, 1002, [3000], 0),
    "another with CAP_FOWNER": (1002, 1002, [], 1 << CAP_FOWNER),
    "another with CAP_DAC_READ_SEARCH": (1002, 1002, [], 1 << CAP_DAC_READ_SEARCH),
    "member with CAP_FSETID": (1001, GROUP, [], 1 << CAP_FSETID),
    NAMESPACED: (OWNER, GROUP, [], 0),
    "root of a user namespace, another outside": (1002, 1002, [], 0),
}


def may_make_namespaces():
    """The kernel refuses user namespaces in a changed root (chroot), and by settings."""
    pid = os.fork()
    if not pid:
        os._exit(libc.unshare(0x10000000) != 0)  # CLONE_NEWUSER
    return os.waitpid(pid, 0)[1] == 0


if not may_make_namespaces():
    print("left out: callers in a user namespace: this machine makes none")
    CALLERS = {name: c for name, c in CALLERS.items() if "namespace" not in name}
EVERYBODY = CALLERS
FEW = int(os.environ.get("FEW", 0))
if FEW:
    SOME = NAMESPACED, "member by a supplementary group", "another with CAP_FOWNER", "root without CAP_DAC_*", "owner"
    CALLERS = {name: CALLERS[name] for name in [name for name in SOME if name in CALLERS][:FEW]}


def become(caller):
    uid, gid, groups, caps = CALLERS[caller]
    os.umask(0o027)
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    eq(libc.prctl(8, 1, 0, 0, 0), 0)  # PR_SET_KEEPCAPS
    os.setresuid(uid, uid, uid)
    caps &= held()
    low, high = caps & 0xffffffff, caps >> 32
    eq(libc.capset(struct.pack("Ii", 0x20080522, 0), struct.pack("6I", low, low, 0, high, high, 0)), 0)
    eq(libc.prctl(4, 1, 0, 0, 0), 0)  # PR_SET_DUMPABLE: a thread's own /proc
    if "namespace" in caller:
        enter_namespace(uid, gid)


def enter_namespace(uid, gid):
    """A new one, whose root this user is."""
    eq(libc.unshare(0x10000000), 0)  # CLONE_NEWUSER
    for name, text in (("setgroups", "deny"), ("uid_map", "0 %d 1" % uid), ("gid_map", "0 %d 1" % gid)):
        with open("/proc/self/" + name, "w") as f:
            f.write(text)


def held():
    data = ctypes.create_string_buffer(24)
    eq(libc.capget(struct.pack("Ii", 0x20080522, 0), data), 0)
    v = struct.unpack("6I", data.raw)
    return v[1] | v[4] << 32


# ---- operations ----------------------------------------------------------------------------------


def opened(flags):
    return lambda p: os.close(os.open(p, flags))


def acl_bytes(*entries):
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries)


USER_OBJ, USER, GROUP_OBJ, GROUP_ENTRY, MASK, OTHER, NO_ID = 1, 2, 4, 8, 16, 32, 0xffffffff
ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
PLAIN_ACL = acl_bytes((USER_OBJ, 6, NO_ID), (GROUP_OBJ, 4, NO_ID), (OTHER, 0, NO_ID))
NAMED_ACL = acl_bytes((USER_OBJ, 6, NO_ID), (USER, 6, 1002), (GROUP_OBJ, 4, NO_ID), (MASK, 6, NO_ID), (OTHER, 0, NO_ID))
LETS = acl_bytes((USER_OBJ, 6, NO_ID), (USER, 4, 1001), (USER, 6, 1002), (GROUP_OBJ, 0, NO_ID), (GROUP_ENTRY, 2, 3000), (MASK, 6, NO_ID),
                 (OTHER, 0, NO_ID))
DENIES = acl_bytes((USER_OBJ, 4, NO_ID), (USER, 0, 1002), (GROUP_OBJ, 6, NO_ID), (GROUP_ENTRY, 4, 3000), (MASK, 5, NO_ID), (OTHER, 7, NO_ID))
OPENS_DIR = acl_bytes((USER_OBJ, 7, NO_ID), (USER, 7, 1002), (GROUP_OBJ, 5, NO_ID), (GROUP_ENTRY, 7, 3000), (MASK, 7, NO_ID), (OTHER, 1, NO_ID))
CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)

READS = {
    "open to read": opened(os.O_RDONLY),
    "open without atime": opened(os.O_RDONLY | os.O_NOATIME),
    "access r": lambda p: os.access(p, os.R_OK),
    "access x": lambda p: os.access(p, os.X_OK),
    "stat": lambda p: stat.S_IMODE(os.stat(p).st_mode),
    "list attributes": lambda p: sorted(n for n in os.listxattr(p) if n.endswith(".x")),
    "get user.": lambda p: os.getxattr(p, "user.x").decode(),
    "get trusted.": lambda p: os.getxattr(p, "trusted.x").decode(),
    "get security.": lambda p: os.getxattr(p, "security.x").decode(),
    "get access ACL": lambda p: os.getxattr(p, ACCESS).hex(),
    "get default ACL": lambda p: os.getxattr(p, DEFAULT).hex(),
}
CHANGES = {
    "access w": lambda p: os.access(p, os.W_OK),
    "open to write": opened(os.O_WRONLY),
    "open to read and write": opened(os.O_RDWR),
    "open to append": opened(os.O_WRONLY | os.O_APPEND),
    "open and cut": opened(os.O_WRONLY | os.O_TRUNC),
    "truncate": lambda p: os.truncate(p, 3),
    "chmod 0640": lambda p: os.chmod(p, 0o640),
    "chmod 6771": lambda p: os.chmod(p, 0o6771),
    "chown to itself": lambda p: os.chown(p, OWNER, GROUP),
    "chown to the caller": lambda p: os.chown(p, os.getuid(), -1),
    "chown to another": lambda p: os.chown(p, NOBODYS, -1),
    "chgrp to the caller's": lambda p: os.chown(p, -1, os.getgid()),
    "chgrp to a supplementary one": lambda p: os.chown(p, -1, 3000),
    "chgrp to another": lambda p: os.chown(p, -1, NOBODYS),
    "times: now": os.utime,
    "times: set": lambda p: os.utime(p, (5, 5)),
    "set user.": lambda p: os.setxattr(p, "user.x", b"2"),
    "set trusted.": lambda p: os.setxattr(p, "trusted.x", b"2"),
    "set security.": lambda p: os.setxattr(p, "security.x", b"2"),
    "set capabilities": lambda p: os.setxattr(p, "security.capability", CAPABILITY),
    "set a plain ACL": lambda p: os.setxattr(p, ACCESS, PLAIN_ACL),
    "set an access ACL": lambda p: os.setxattr(p, ACCESS, NAMED_ACL),
    "set a default ACL": lambda p: os.setxattr(p, DEFAULT, NAMED_ACL),
    "remove user.": lambda p: os.removexattr(p, "user.x"),
    "remove trusted.": lambda p: os.removexattr(p, "trusted.x"),
    "remove security.": lambda p: os.removexattr(p, "security.x"),
    "remove access ACL": lambda p: os.removexattr(p, ACCESS),
}
SIZES = "open and cut", "truncate"
# In a directory d: what it needs, of d's entries f, g, e/ and of o/f beside it, and what is done.
ENTRIES = {
    "create": ("", lambda d: os.close(os.open(d + "/new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o6777))),
    "open or create": ("f", lambda d: os.close(os.open(d + "/f", os.O_RDONLY | os.O_CREAT, 0o666))),
    "mkdir": ("", lambda d: os.mkdir(d + "/new", 0o1777)),
    "symlink": ("", lambda d: os.symlink("x", d + "/new")),
    "mkfifo": ("", lambda d: os.mkfifo(d + "/new", 0o2777)),
    "list": ("f", lambda d: sorted(os.listdir(d))),
    "look up": ("f", lambda d: os.stat(d + "/f").st_uid),
    "unlink": ("f", lambda d: os.unlink(d + "/f")),
    "rmdir": ("e", lambda d: os.rmdir(d + "/e")),
    "rename": ("f", lambda d: os.rename(d + "/f", d + "/new")),
    "rename a directory": ("e", lambda d: os.rename(d + "/e", d + "/new")),
    "rename over": ("fg", lambda d: os.rename(d + "/g", d + "/f")),
    "rename in": ("o", lambda d: os.rename(d + "/../o/f", d + "/new")),
    "rename in, over": ("fo", lambda d: os.rename(d + "/../o/f", d + "/f")),
    "exchange": ("fo", lambda d: rename2(d + "/f", d + "/../o/f", EXCHANGE)),
    "link in": ("o", lambda d: os.link(d + "/../o/f", d + "/new")),
}
FILE_MODES = (0o640, 0o426, 0o6754) if FEW else (0o640, 0o426, 0o060, 0o007, 0o000, 0o6754)
DIR_MODES = 0o750, 0o1777, 0o2775
# Owner and group of the directory, its mode, owner of its entries, its ACLs
PLACES = [(OWNER, GROUP, mode, OWNER, {}) for mode in ((0o2777, 0o730) if FEW else (0o755, 0o777, 0o2777, 0o730, 0o704))]
PLACES += [(OWNER, GROUP, mode, entry, {}) for mode in (0o1777, 0o3770) for entry in (OWNER, 1002)]
PLACES += [(0, 0, 0o1777, 1002, {}), (1002, 1002, 0o1777, OWNER, {})]
PLACES += [(OWNER, GROUP, 0o700, OWNER, {ACCESS: OPENS_DIR}), (OWNER, GROUP, 0o777, OWNER, {DEFAULT: OPENS_DIR}),
           (OWNER, GROUP, 0o3777, OWNER, {ACCESS: OPENS_DIR, DEFAULT: LETS}), (OWNER, GROUP, 0o777, OWNER, {DEFAULT: PLAIN_ACL})]


def answer(op, path):
    try:
        got = op(path)
        return "ok" if got is None else got
    except OSError as e:
        return {"ENOTSUP": "EOPNOTSUPP"}.get(errno.errorcode[e.errno], errno.errorcode[e.errno])


def ask(cells, caller):
    """The answers to all cells (operation, path), in a process that has become the caller."""
    r, w = os.pipe()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.close(r)
            become(caller)
            with os.fdopen(w, "w") as f:
                json.dump([answer(op, path) for op, path in cells], f)
            code = 0
        except BaseException:  # the child must never return into the test
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(w)
    with os.fdopen(r) as f:
        said = f.read()
    _, status = os.waitpid(pid, 0)
    eq((caller, status), (caller, 0))
    return json.loads(said)


# ---- objects -------------------------------------------------------------------------------------


def make(path, mode, uid=OWNER, gid=GROUP, attributes=False, acls=()):
    """In a directory that everybody may write."""
    libc.setfsgid(gid)
    libc.setfsuid(uid)
    if stat.S_ISDIR(mode):
        os.mkdir(path, stat.S_IMODE(mode))
        if mode & stat.S_ISGID:
            os.chmod(path, stat.S_IMODE(mode))
    else:
        os.mknod(path, mode)
    libc.setfsuid(0)
    libc.setfsgid(0)
    if attributes:
        for name in ("user.x", "trusted.x", "security.x"):
            os.setxattr(path, name, b"1")
    for name in acls:
        os.setxattr(path, name, acls[name])


def left(path, size=True):
    """What an operation has left: mode, owner, size, attributes."""
    try:
        s = os.lstat(path)
    except FileNotFoundError:
        return None
    length = s.st_size if size and stat.S_ISREG(s.st_mode) else None
    names = [] if stat.S_ISLNK(s.st_mode) else sorted((n, os.getxattr(path, n).hex()) for n in os.listxattr(path) if n != "security.selinux")
    return ["%o" % s.st_mode, s.st_uid, s.st_gid, length, names]


def tree(d):
    return {os.path.relpath(path, d): left(path) for path in [d] + [os.path.join(at, n) for at, ds, fs in os.walk(d) for n in ds + fs]}


OBJECTS = [(stat.S_IFREG | mode, {}) for mode in FILE_MODES] + [(stat.S_IFDIR | mode, {}) for mode in DIR_MODES]
OBJECTS += [(stat.S_IFREG | 0o640, {ACCESS: LETS}), (stat.S_IFREG | 0o2644, {ACCESS: DENIES}), (stat.S_IFDIR | 0o2750, {ACCESS: LETS, DEFAULT: DENIES})]


def called(mode, acls):
    return "%o" % mode + "".join(" %s %s" % (name[17:], ALL_ACLS[value]) for name, value in acls.items())


ALL_ACLS = {LETS: "LETS", DENIES: "DENIES", OPENS_DIR: "OPENS_DIR", PLAIN_ACL: "PLAIN"}


def of_files(d):
    """Each operation on a file or directory; on a fresh one, where it changes it."""
    for caller in CALLERS:
        cells = {}
        for mode, acls in OBJECTS:
            shared = "%s/%s" % (d, called(mode, acls))
            make(shared, mode, attributes=True, acls=acls)
            for name, op in READS.items():
                cells[caller, called(mode, acls), name] = op, shared
            for name, op in CHANGES.items():
                path = "%s/%d" % (d, len(cells))
                make(path, mode, attributes="user." in name or "trusted." in name or "security." in name, acls=acls)
                if name in SIZES and stat.S_ISREG(mode):
                    os.truncate(path, 16)
                cells[caller, called(mode, acls), name] = op, path
        for (cell, (_, path)), said in zip(cells.items(), ask(cells.values(), caller)):
            yield cell, [said, left(path) if cell[2] in CHANGES else None]
        empty(d)


def of_entries(d):
    """Each operation in a fresh directory."""
    for caller in CALLERS:
        cells = {}
        for uid, gid, mode, entry, acls in PLACES:
            for name, (needs, op) in ENTRIES.items():
                top = "%s/%d" % (d, len(cells))
                os.mkdir(top)
                os.mkdir(top + "/d")
                for n in needs:
                    if n == "o":
                        os.mkdir(top + "/o")
                    make(top + {"f": "/d/f", "g": "/d/g", "e": "/d/e", "o": "/o/f"}[n], 0o777 | (stat.S_IFDIR if n == "e" else stat.S_IFREG),
                         entry, entry)
                os.chown(top + "/d", uid, gid)
                os.chmod(top + "/d", mode)
                for attribute in acls:
                    os.setxattr(top + "/d", attribute, acls[attribute])
                cells[caller, "%d:%d %s, entries of %d" % (uid, gid, called(mode, acls), entry), name] = op, top + "/d"
        for (cell, (_, path)), said in zip(cells.items(), ask(cells.values(), caller)):
            yield cell, [said, tree(os.path.dirname(path))]
        empty(d)


def empty(d):
    shutil.rmtree(d)
    os.mkdir(d, 0o777)


# ---- comparing -----------------------------------------------------------------------------------


class Sheet:
    def __init__(self):
        self.n, self.wrong = 0, []

    def compare(self, world, cell, got, wanted):
        self.n += 1
        if got != wanted:
            self.wrong.append("%s: %s: %s, wanted %s" % (world, ", ".join(cell), got, wanted))

    def end(self):
        print("%d cells compared, %d differ" % (self.n, len(self.wrong)))
        for line in self.wrong[: int(os.environ.get("DIFFS", 40))]:
            print(line, file=sys.stderr)
        return 1 if self.wrong else 0


def fresh(where):
    where += "/perms"
    os.mkdir(where, 0o777)
    return where


def table(where):
    d = fresh(where)
    try:
        return {**dict(of_files(d)), **dict(of_entries(d))}
    finally:
        shutil.rmtree(d)


def side_by_side(work, places):
    """work(place) for each place, at the same time, each in a process."""
    pipes = []
    for place in places:
        r, w = os.pipe()
        if not os.fork():
            code = 1
            try:
                with os.fdopen(w, "wb") as f:
                    pickle.dump(work(place), f)
                code = 0
            finally:
                os._exit(code)
        os.close(w)
        pipes.append(r)
    got = []
    for r in pipes:
        with os.fdopen(r, "rb") as f:
            got.append(pickle.load(f))
    for _ in pipes:
        eq(os.wait()[1], 0)
    return got


def live(model, *dirs):
    sheet = Sheet()
    wanted, *got = side_by_side(table, (model, *dirs))
    for d, cells in zip(dirs, got):
        eq(cells.keys(), wanted.keys())
        for cell in cells:
            sheet.compare(d, cell, cells[cell], wanted[cell])
    return sheet.end()


# ---- views ---------------------------------------------------------------------------------------


def array_cells(d, shown):
    """As of_files, on arrays of f64: acted on by the name `shown` gives."""
    for caller in CALLERS:
        cells = {}
        for mode, acls in OBJECTS:
            for name, op in {**READS, **CHANGES}.items() if stat.S_ISREG(mode) else ():
                path = "%s/%d.f64" % (d, len(cells))
                make(path, mode, attributes=True, acls=acls)
                cells[caller, called(mode, acls), name] = op, path
        answers = ask([(op, shown(path)) for op, path in cells.values()], caller)
        for (cell, (_, path)), said in zip(cells.items(), answers):
            yield cell, [said, left(path, size=False)]
        empty(d)


ATTRIBUTES = [(n, b"1".hex()) for n in ("security.x", "trusted.x", "user.x")]
BY_WRITERS = ("access w", "open to write", "open to read and write", "open to append", "open and cut", "truncate", "set user.", "remove user.")


def VIEWS(fmt, cell, wanted):
    """A view cannot be run, has the size that it has, and gives a right to write to npy alone."""
    caller, what, name = cell
    mode, _, acl = what.partition(" ")
    override = CALLERS[caller][3] >> CAP_DAC_OVERRIDE & 1 or caller == NAMESPACED
    if acl:
        value = {"LETS": LETS, "DENIES": DENIES}[acl.split()[1]]
        mode = "%o" % (int(mode, 8) & ~0o777 | (0o660 if value == LETS else 0o457))
    same = [mode, OWNER, GROUP, None, sorted(ATTRIBUTES + ([(ACCESS, value.hex())] if acl else []))]
    if name == "get access ACL" and acl:
        return [bounded(bytes.fromhex(wanted[0]), 6 if fmt == "npy" else 4).hex(), same]
    if name in ("set a plain ACL", "set an access ACL") and wanted[0] == "ok":
        return ["ok", [without_bits(wanted[1][0]), *wanted[1][1:]]]
    if name == "stat":
        return [int(mode, 8) & (0o666 if fmt == "npy" else 0o444), same]
    if name == "access x":
        return [False, same]
    if fmt == "npy":
        if name == "truncate":
            return ["EINVAL" if wanted[0] == "ok" else wanted[0], same]
        if name in OPENS and wanted[0] == "ok" and os.environ.get("NOWRITEBACK"):
            return ["ok", same]
        if name in OPENS and wanted[0] == "ok":  # a writer takes the bits away as it opens the view, but for one who may keep them
            return ["ok", [mode if CALLERS[caller][3] >> CAP_FSETID & 1 else without_bits(mode), *same[1:]]]
        return wanted
    if name == "access w":
        return [bool(override), same]
    if name in BY_WRITERS and not (override and name.endswith("user.")):
        return ["EROFS" if override else "EACCES", same]
    if name == "times: now" and CALLERS[caller][0] != OWNER and not override and not CALLERS[caller][3] >> CAP_FOWNER & 1:
        return ["EACCES", same]
    return wanted


OPENS = "open to write", "open to read and write", "open to append", "open and cut"


def bounded(acl, most):
    """What a view shows of it: owner, mask and others have no more than this."""
    entries = [struct.unpack_from("<HHI", acl, at) for at in range(4, len(acl), 8)]
    return acl_bytes(*((tag, perm & most if tag in (USER_OBJ, MASK, OTHER) else perm, who) for tag, perm, who in entries))


def without_bits(mode):
    """The bits do not show in a view."""
    return "%o" % (int(mode, 8) & ~0o6000)


def views(model, mnt, fmt, *kinds):
    sheet = Sheet()
    for kind in kinds:
        where, here = fresh(model), fresh("%s/%s" % (mnt, kind))
        view = "%s/views/%s/%s/perms/" % (mnt, fmt, kind)

        def work(place):
            return dict(array_cells(place, lambda path: view + os.path.basename(path).replace("f64", "f64.zst" if fmt == "zst" else fmt) if place == here else path))
        wanted, got = side_by_side(work, (where, here))
        for cell in got:
            sheet.compare("views/%s of %s" % (fmt, kind), cell, got[cell], VIEWS(fmt, cell, wanted[cell]))
        shutil.rmtree(where)
        shutil.rmtree(here)
    return sheet.end()


# ---- what cannot be changed ----------------------------------------------------------------------


def make_fixed(d):
    os.mkdir(d, 0o777)
    for mode, acls in OBJECTS:
        make("%s/%s" % (d, called(mode, acls)), mode, attributes=True, acls=acls)
    return 0


# What a change answers that the modes would let be made, and whether access(2) says that it can be written
REFUSALS = {
    "past": ("EROFS", True),
    "views": ("EROFS", True),
    "control": ("EPERM", True),
    "follower": ("EROFS", False),
}


def FIXED(world, name, said, wanted):
    refusal, may = REFUSALS[world]
    if name == "remove access ACL" and world != "follower":
        return said in (refusal, wanted)
    if name == "access w":
        return said == (wanted and may)
    if name == "list attributes" or name.startswith("get ") and world != "past":
        return said == wanted or not wanted or said in ("ENODATA", wanted)
    if name in READS:
        return said == wanted
    if name.startswith("open") and world == "control" and wanted == "ok":
        return said == "EACCES"
    return said in ([refusal] if wanted == "ok" else [refusal, wanted])


def fixed(world, model, *paths):
    sheet = Sheet()
    paths = [p for top in paths for p in [top] + [os.path.join(at, n) for at, ds, fs in os.walk(top) for n in ds + fs]]
    where = fresh(model)
    entries = {name: op for name, (needs, op) in ENTRIES.items() if not needs}
    for caller in CALLERS:
        cells, models = {}, {}
        for path in paths:
            s = os.lstat(path)
            ops = {**READS, **CHANGES, **(entries if stat.S_ISDIR(s.st_mode) else {})}
            for name, op in ops.items():
                copy = "%s/%d" % (where, len(cells))
                make(copy, s.st_mode, s.st_uid, s.st_gid, attributes="user.x" in os.listxattr(path),
                     acls={n: bytes.fromhex(v) for n in (ACCESS, DEFAULT) for v in [answer(lambda p, n=n: os.getxattr(p, n).hex(), path)]
                           if not v.startswith("E")})
                cells[path, name], models[path, name] = (op, path), (op, copy)
        before = {path: left(path) for path in paths}
        got, wanted = ask(cells.values(), caller), ask(models.values(), caller)
        for (path, name), said, on_ext4 in zip(cells, got, wanted):
            sheet.compare(world, (caller, path, name, "%s" % said), FIXED(world, name, said, on_ext4), True)
        eq({path: left(path) for path in paths}, before)
        empty(where)
    shutil.rmtree(where)
    return sheet.end()


# ---- control requests ----------------------------------------------------------------------------


def request(kind, number, size):
    return kind << 30 | size << 16 | ord("S") << 8 | number


INFO, COMMIT, COMPACT = request(2, 1, 32), request(2, 2, 16), request(3, 3, 64)
BLOCKS, MARK = request(3, 4, 32 + 64 * 72), request(2, 5, 16)


LIFETIME = "user.spillfs.lifetime"
QUOTAS = "quota", "quota_logical"
# What can be set, and what can only be read: include/spillfs.h.
SETTINGS = {"dtype": b"f64", "shape": b"37500", "order": b"F", "logical": b"date", "block_size": b"65536", "codec": b"zstd:3",
            "filter": b"shuffle", "consume": b"1", "direct": b"1", "compress": b"cold"}
READ = "kind", "stored_bytes", "length", "extents", "runs", "layers"


def ioctl(fd, number):
    fcntl.ioctl(fd, number, bytearray(number >> 16 & 0x3fff))


def control(mnt):
    """Each way to ask the daemon for something, and who may."""
    root = os.open(mnt, os.O_RDONLY)
    layered, bucket = mnt + "/layers/perms", mnt + "/buckets/perms"
    for path, mode in ((layered, 0o600), (bucket, 0o644)):
        make(path, stat.S_IFREG | mode)
        with open(path, "wb") as f:
            f.write(b"1" * 300000)
    os.mkdir(mnt + "/snapshots/perms")
    os.mkdir(mnt + "/snapshots/perms2")
    # To one everybody may write: what is asked for there is for spillfs to refuse. That of scratch/ lives as long as this process.
    shared, plain, held, own = (mnt + d for d in ("/layers/perms.shared", "/layers/perms.plain", "/scratch/perms.held", "/scratch/perms.own"))
    for path, mode in ((shared, 0o777), (plain, 0o755), (held, 0o777), (own, 0o755)):
        make(path, stat.S_IFDIR | mode)
    this = b"pid:%d" % os.getpid()
    os.setxattr(held, LIFETIME, this)
    owned = os.open(layered, os.O_RDONLY)
    delta = "%s/deltas/%s" % (mnt, max(os.listdir(mnt + "/deltas")))
    for number in (INFO, COMMIT, COMPACT):
        ioctl(root, number)
    ioctl(owned, BLOCKS)

    def on(path, flags, number):
        fd = os.open(path, flags)
        try:
            ioctl(fd, number)
        finally:
            os.close(fd)
    refused_to_all_but_root = {
        **{"request %d of the root" % n: (lambda n=n: on(mnt, os.O_RDONLY, of_root(n)), "EPERM") for n in (1, 2, 3)},
        **{"request %d by root's descriptor" % n: (lambda n=n: ioctl(root, of_root(n)), "EPERM") for n in (1, 2, 3)},
        "make a snapshot": (lambda: os.mkdir(mnt + "/snapshots/new"), "EACCES"),
        "drop a snapshot": (lambda: os.rmdir(mnt + "/snapshots/perms"), "EACCES"),
        "rename a snapshot": (lambda: os.rename(mnt + "/snapshots/perms", mnt + "/snapshots/new"), "EACCES"),
        "make a file in the root": (lambda: os.mkdir(mnt + "/new"), "EACCES"),
        "read a delta": (lambda: os.open(delta, os.O_RDONLY), "EACCES"),
        "read a difference": (lambda: os.open(mnt + "/.spillfs/diff/perms..perms2", os.O_RDONLY), "EACCES"),
        "write figures": (lambda: os.open(mnt + "/.spillfs/stats", os.O_WRONLY), "EACCES"),
        "unmount": (lambda: raise_if(libc.umount2(os.fsencode(mnt), 2)), "EPERM"),
        "follow the store": (lambda: os.listdir(os.environ["STORE"] + "/pool"), "EACCES"),
    }
    refused_to_all_but_root.update({
        **{"set a %s%s" % (q, where): (lambda q=q, p=p: os.setxattr(p, "user.spillfs." + q, b"1G"), "EPERM") for q in QUOTAS
           for where, p in (("", shared), (", by a view", mnt + "/views/npy/layers/perms.shared"))},
        **{"remove a %s" % q: (lambda q=q: os.removexattr(shared, "user.spillfs." + q), "EPERM") for q in QUOTAS},
        "read all quotas": (lambda: os.open(mnt + "/.spillfs/quotas", os.O_RDONLY), "EACCES"),
        "set a control directory's attribute": (lambda: os.setxattr(mnt + "/.spillfs", "user.spillfs.dtype", b"f64"), "EACCES"),
    })
    allowed_to_root = {
        **{"set and remove a " + q: (lambda q=q: set_and_remove(shared, "user.spillfs." + q, b"1G"), "ok") for q in QUOTAS},
        "read all quotas": (lambda: os.close(os.open(mnt + "/.spillfs/quotas", os.O_RDONLY)), "ok"),
        "set a control directory's attribute": (lambda: os.setxattr(mnt + "/.spillfs", "user.spillfs.dtype", b"f64"), "EPERM"),
        "remove a lifetime": (lambda: os.removexattr(held, LIFETIME), "ok"),
    }
    # On a file, and as the default of what is made in a directory.
    settings_refused = {"set %s of %s" % (s, what): (lambda s=s, v=v, p=p: os.setxattr(p, "user.spillfs." + s, v), "EACCES")
                        for s, v in SETTINGS.items() for what, p in (("a file", bucket), ("a directory", plain))}
    settings_removed = {"remove %s of %s" % (s, what): (lambda s=s, p=p: os.removexattr(p, "user.spillfs." + s), "EACCES")
                        for s in SETTINGS for what, p in (("a file", bucket), ("a directory", plain))}
    settings_set = {"set and remove %s of %s" % (s, what): (lambda s=s, v=v, p=p: set_and_remove(p, "user.spillfs." + s, v),
                                                            "EOPNOTSUPP" if s == "compress" else "ok")
                    for s, v in SETTINGS.items() for what, p in (("a file", bucket), ("a directory", plain))}
    refused_to_others = {
        **settings_refused,
        **settings_removed,
        **{"read " + s: (lambda s=s: os.getxattr(layered, "user.spillfs." + s), "EACCES") for s in (*SETTINGS, *READ)},
        "declare a directory scratch": (lambda: os.setxattr(plain, "user.spillfs.durable", b"no"), "EACCES"),
        "declare a directory durable": (lambda: os.removexattr(plain, "user.spillfs.durable"), "EACCES"),
        "set a kind": (lambda: os.setxattr(own, "user.spillfs.kind", b"layered"), "EACCES"),
        "set what is compressed": (lambda: os.setxattr(own, "user.spillfs.compress", b"cold"), "EACCES"),
        "give a lifetime": (lambda: os.setxattr(held, LIFETIME, b"pid:self"), "EPERM"),
        "set a lifetime to that of the mount": (lambda: os.setxattr(held, LIFETIME, b"mount"), "EPERM"),
        "remove a lifetime": (lambda: os.removexattr(held, LIFETIME), "EPERM"),
        "blocks, by the name": (lambda: on(layered, os.O_RDONLY, BLOCKS), "EACCES"),
        "open root's descriptor again": (lambda: os.open("/proc/self/fd/%d" % owned, os.O_RDONLY), "EACCES"),
        "open it again to write": (lambda: os.open("/proc/self/fd/%d" % owned, os.O_WRONLY), "EACCES"),
        "mark a bucket": (lambda: on(bucket, os.O_WRONLY, MARK), "EACCES"),
        "mark a bucket that is read": (lambda: on(bucket, os.O_RDONLY, MARK), "EBADF"),
        "mark a bucket by its attribute": (lambda: os.setxattr(bucket, "user.spillfs.mark", b"1"), "EACCES"),
        "read a snapshot's file": (lambda: os.open(mnt + "/snapshots/perms/layers/perms", os.O_RDONLY), "EACCES"),
    }
    refused_to_the_owner = {
        "blocks, of a file that is only written": (lambda: on(layered, os.O_WRONLY, BLOCKS), "EBADF"),
        "mark, of a file that is only read": (lambda: on(bucket, os.O_RDONLY, MARK), "EBADF"),
        "mark what is no bucket": (lambda: on(layered, os.O_WRONLY, MARK), "EOPNOTSUPP"),
        **{"set %s, which can only be read" % s: (lambda s=s: os.setxattr(bucket, "user.spillfs." + s, b"column"), "EPERM") for s in READ},
        **{"remove %s, which can only be read" % s: (lambda s=s: os.removexattr(bucket, "user.spillfs." + s), "EPERM") for s in READ},
        "a request of the root, of a file": (lambda: on(layered, os.O_RDONLY, COMMIT), "ENOTTY"),
        "a request that there is not": (lambda: on(layered, os.O_RDONLY, request(3, 99, 8)), "ENOTTY"),
    }
    allowed_to_the_owner = {
        "blocks": (lambda: on(layered, os.O_RDONLY, BLOCKS), "ok"),
        "mark": (lambda: on(bucket, os.O_WRONLY, MARK), "ok"),
        "mark by the attribute": (lambda: os.setxattr(bucket, "user.spillfs.mark", b"1"), "ok"),
        "open again to read": (lambda: os.close(os.open("/proc/self/fd/%d" % owned, os.O_RDONLY)), "ok"),
        "sync": (lambda: os.fsync(root), "ok"),
        **{"read " + f: (lambda f=f: os.close(os.open(mnt + "/.spillfs/" + f, os.O_RDONLY)), "ok") for f in ("stats", "config", "version", "log")},
        **settings_set,
        **{"read " + s: (lambda s=s: os.getxattr(bucket if s in ("extents", "runs") else layered, "user.spillfs." + s) and None, "ok")
           for s in READ},
        "declare a directory scratch, and durable": (lambda: set_and_remove(plain, "user.spillfs.durable", b"no"), "ok"),
        "set and remove a kind": (lambda: set_and_remove(own, "user.spillfs.kind", b"layered"), "ok"),
        "set and remove what is compressed": (lambda: set_and_remove(own, "user.spillfs.compress", b"cold"), "ok"),
        "give and remove a lifetime": (lambda: set_and_remove(own, LIFETIME, this), "ok"),
    }
    sheet = Sheet()
    owners = {**refused_to_all_but_root, **refused_to_the_owner, **allowed_to_the_owner}
    others = {**refused_to_all_but_root, **refused_to_others}
    for caller, table in (("owner", owners), ("another", others), ("another with CAP_FOWNER", others), (NAMESPACED, owners),
                          ("root of a user namespace, another outside", others), ("root", {**allowed_to_root, **refused_to_the_owner, **allowed_to_the_owner})):
        if caller not in EVERYBODY:
            continue
        CALLERS[caller] = EVERYBODY[caller]
        got = ask([(lambda _, act=act: act(), None) for act, _ in table.values()], caller)
        for (name, (_, wanted)), said in zip(table.items(), got):
            sheet.compare("control", (caller, name), said, wanted)
    os.unlink(layered)
    os.unlink(bucket)
    for path in (shared, plain, held, own):
        os.rmdir(path)
    return sheet.end()


def set_and_remove(path, name, value):
    os.setxattr(path, name, value)
    os.removexattr(path, name)


def of_root(n):
    return {1: INFO, 2: COMMIT, 3: COMPACT}[n]


def raise_if(result):
    if result:
        raise OSError(ctypes.get_errno(), "")


# ---- mounts that map owners -----------------------------------------------------------------------


def idmapped(mnt):
    """The kernel refuses to map the owners of a FUSE mount whose daemon does not ask for that."""
    if not may_make_namespaces():
        return 0
    pid = os.fork()
    if not pid:
        eq(libc.unshare(0x10000000), 0)
        signal.pause()
    try:
        while os.readlink("/proc/%d/ns/user" % pid) == os.readlink("/proc/self/ns/user"):
            time.sleep(0.001)
        for name in ("uid_map", "gid_map"):
            with open("/proc/%d/%s" % (pid, name), "w") as f:
                f.write("0 1000 1000")
        namespace = os.open("/proc/%d/ns/user" % pid, os.O_RDONLY)
        tree = libc.syscall(428, -100, os.fsencode(mnt), 1)  # open_tree, OPEN_TREE_CLONE
        assert tree >= 0, ctypes.get_errno()
        attr = struct.pack("4Q", 0x100000, 0, 0, namespace)  # MOUNT_ATTR_IDMAP
        got = libc.syscall(442, tree, b"", 0x1000, attr, len(attr))  # mount_setattr, AT_EMPTY_PATH
        eq((got, errno.errorcode[ctypes.get_errno()]), (-1, "EINVAL"))
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return 0


def main(what, *args):
    os.umask(0)
    return {"live": live, "views": views, "make": make_fixed, "fixed": fixed, "control": control, "idmapped": idmapped}[what](*args)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
