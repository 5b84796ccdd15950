"""What lends privilege to a file, and what takes it away: as on ext4.

    privs.py change DIR...         each way to change a file, by each kind of caller
    privs.py runs DIR...           a program that somebody else has changed runs without privilege at once (-o suid)
    privs.py runs_busy DIR...      the same again and again, while others sync the program and ask for other things
    privs.py view MNT              a write by a view counts as one by the array's name
    privs.py leave DIR...          changes files and makes that durable; the daemon may be killed then
    privs.py left DIR...           what `leave` has left
"""
import contextlib
import mmap
import os
import shutil
import signal
import stat
import struct
import sys

from sysx import KEEP_SIZE, NOBODY, PUNCH_HOLE, ZERO_RANGE, eq, fallocate, in_child, put, tick

CAPABILITY = "security.capability"
NET_RAW = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)
PROGRAM = "/usr/bin/id"
OWNER, GROUP, OTHER_GROUP = 1000, 1000, 2001
MODES = 0o6777, 0o6767
# uid, gid, supplementary groups
CALLERS = {
    "root": (0, 0, []),
    "owner": (OWNER, GROUP, [OTHER_GROUP]),
    "owner outside the group": (OWNER, NOBODY, [OTHER_GROUP]),
    "another": (NOBODY, NOBODY, []),
    "another of the group": (NOBODY, NOBODY, [GROUP]),
}


@contextlib.contextmanager
def repeated(act):
    """In a process of its own, again and again."""
    pid = os.fork()
    while not pid:
        act()
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def opened(flags, act):
    def change(f):
        fd = os.open(f, flags)
        act(fd)
        os.close(fd)
    return change


def from_file(call):
    def act(fd):
        src = os.open("src", os.O_RDONLY)
        eq(call(src, fd), 50)
        os.close(src)
    return act


def spliced(fd):
    r, w = os.pipe()
    os.write(w, b"y" * 20)
    eq(os.splice(r, fd, 20), 20)


def mapped(fd):
    with mmap.mmap(fd, 100) as m:
        m[0] = 65
        m.flush()


CHANGES = {
    "write": opened(os.O_WRONLY, lambda fd: os.write(fd, b"x")),
    "write of a reader": opened(os.O_RDWR, lambda fd: os.write(fd, b"x")),
    "append": opened(os.O_WRONLY | os.O_APPEND, lambda fd: os.write(fd, b"x")),
    "sendfile": opened(os.O_WRONLY, from_file(lambda src, fd: os.sendfile(fd, src, 0, 50))),
    "splice": opened(os.O_WRONLY, spliced),
    "truncate": lambda f: os.truncate(f, 10),
    "truncate to its size": lambda f: os.truncate(f, 100),
    "ftruncate": opened(os.O_RDWR, lambda fd: os.ftruncate(fd, 5000)),
    "O_TRUNC": opened(os.O_WRONLY | os.O_TRUNC, lambda fd: None),
    "O_TRUNC, read only": opened(os.O_RDONLY | os.O_TRUNC, lambda fd: None),
    "fallocate": opened(os.O_WRONLY, lambda fd: fallocate(fd, 0, 0, 10000)),
    "fallocate within": opened(os.O_WRONLY, lambda fd: fallocate(fd, KEEP_SIZE, 0, 10000)),
    "punch": opened(os.O_WRONLY, lambda fd: fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 0, 50)),
    "zero": opened(os.O_RDWR, lambda fd: fallocate(fd, ZERO_RANGE, 0, 50)),
    "copy_file_range": opened(os.O_WRONLY, from_file(lambda src, fd: os.copy_file_range(src, fd, 50))),
}
KEEPS = {
    "nothing written": opened(os.O_WRONLY, lambda fd: os.write(fd, b"")),
    "mapped": opened(os.O_RDWR, mapped),
}
CHOWNS = {
    "chown": lambda f: os.chown(f, OWNER, GROUP),
    "chgrp": lambda f: os.chown(f, -1, OTHER_GROUP),
}


def after(mode, what, caller):
    """The mode that is left on ext4."""
    uid, gid, groups = CALLERS[caller]
    member = uid == 0 or GROUP in (gid, *groups)
    if what in KEEPS or (uid == 0 and what not in CHOWNS):
        return mode
    return mode & ~stat.S_ISUID & ~(stat.S_ISGID if mode & stat.S_IXGRP or not member else 0)


def make(name, mode, content=b"a" * 100):
    put(name, content)
    os.chown(name, OWNER, GROUP)
    os.chmod(name, mode)
    os.setxattr(name, CAPABILITY, NET_RAW)


def as_caller(caller, act):
    uid, gid, groups = CALLERS[caller]

    def switch_and_act():
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        act()
    in_child(switch_and_act, 0)


def change(d):
    put("src", b"s" * 100)
    for caller, (uid, _, _) in CALLERS.items():
        acts = dict(CHANGES, **KEEPS)
        if uid in (0, OWNER):
            acts.update(CHOWNS)
        files = [("%s %o" % (what, mode), what, mode) for what in acts for mode in MODES]
        for name, _, mode in files:
            make(name, mode)
        before = {name: os.stat(name).st_ctime_ns for name, _, _ in files}
        tick(max(before.values()))

        def act():
            for name, what, _ in files:
                acts[what](name)
        as_caller(caller, act)
        for name, what, mode in files:
            s = os.stat(name)
            eq((caller, name, "%o" % stat.S_IMODE(s.st_mode)), (caller, name, "%o" % after(mode, what, caller)))
            eq((caller, name, CAPABILITY in os.listxattr(name)), (caller, name, what in KEEPS))
            assert what in KEEPS or s.st_ctime_ns > before[name], (caller, name)
            os.unlink(name)


def rewritten(fd):
    with open(PROGRAM, "rb") as f:
        os.write(fd, f.read())


RUNS = {
    "write": opened(os.O_WRONLY, lambda fd: os.write(fd, b"\x7fELF")),
    "O_TRUNC": opened(os.O_WRONLY | os.O_TRUNC, rewritten),
    "truncate to its size": lambda f: os.truncate(f, os.path.getsize(PROGRAM)),
    **{what: CHANGES[what] for what in ("append", "sendfile", "fallocate within", "copy_file_range")},
}


def run_changed(what, nsyncs=0):
    """The kernel remembers a mode; nobody has asked it for another one since. So many others sync the file meanwhile."""
    shutil.copy(PROGRAM, what)
    os.chown(what, 0, 0)
    os.chmod(what, 0o6777)
    r, w = os.pipe()

    def change_and_run():
        RUNS[what](what)
        os.dup2(w, 1)
        os.execv(what, ["id"])
    fd = os.open(what, os.O_RDONLY)
    with contextlib.ExitStack() as others:
        for _ in range(nsyncs):
            others.enter_context(repeated(lambda: os.fsync(fd)))
        as_caller("another", change_and_run)
    os.close(fd)
    os.close(w)
    with os.fdopen(r) as f:
        said = f.read().split()
    # with more privilege: euid=, egid=
    eq((what, [field.split("=")[0] for field in said]), (what, ["uid", "gid", "groups"]))
    os.unlink(what)


def runs(d, nsyncs=0):
    shutil.copy(PROGRAM, "src")
    for what in RUNS:
        run_changed(what, nsyncs)


def runs_busy(d):
    """The daemon's answers come late then, as does what it tells the kernel by itself, which each fsync has it do."""
    with contextlib.ExitStack() as others:
        for _ in range(3):
            others.enter_context(repeated(lambda: os.listxattr(d)))
        for _ in range(3):
            runs(d, nsyncs=2)


def view(mnt):
    import numpy as np

    for kind in ("buckets", "columns", "layers"):
        array, npy = "%s/%s/privs" % (mnt, kind), "%s/views/npy/%s/privs.npy" % (mnt, kind)
        for d in (array, npy):
            os.chmod(os.path.dirname(d), 0o755)
        for caller in ("root", "another"):
            np.save(npy, np.arange(1000.0))
            os.chown(array, OWNER, GROUP)
            os.chmod(array, 0o6777)
            os.setxattr(array, CAPABILITY, NET_RAW)

            def act():
                fd = os.open(npy, os.O_RDWR)
                os.pwrite(fd, b"12345678", 8000)
                os.fsync(fd)
                os.close(fd)
            as_caller(caller, act)
            assert CAPABILITY not in os.listxattr(array), (kind, caller)
            eq((kind, caller, stat.S_IMODE(os.stat(array).st_mode)), (kind, caller, 0o6777 if caller == "root" else 0o777))
            os.unlink(array)


def leave(d):
    make("f", 0o6777)
    fd = os.open("f", os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)

    def act():
        fd = os.open("f", os.O_WRONLY)
        os.write(fd, b"x")
        os.fsync(fd)
    as_caller("another", act)


def left(d):
    eq(stat.S_IMODE(os.stat("f").st_mode), 0o777)
    assert CAPABILITY not in os.listxattr("f")


def main(what, *args):
    os.umask(0)
    if what == "view":
        return view(*args)
    act = globals()[what]
    for d in args:
        d += "/privs-" + ("left" if what == "leave" else what)
        if what != "left":
            os.mkdir(d, 0o777)
        os.chdir(d)
        act(d)
        os.chdir("/")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
