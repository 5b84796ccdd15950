"""Checks of attributes, permissions and extended attributes; see posix.py."""
import errno as E
import os
import stat
import subprocess
import sys

from sysx import (NATIVE, NOBODY, eq, fails, get, getxattr_raw, in_child, libc, listxattr_raw, put,
                  setxattr_raw)

j = os.path.join


def umask_applies(d):
    os.umask(0o027)
    put(j(d, "f"), b"", 0o666)
    os.mkdir(j(d, "d"), 0o777)
    os.mkfifo(j(d, "p"), 0o666)
    os.umask(0)
    put(j(d, "g"), b"", 0o666)
    eq(stat.S_IMODE(os.stat(j(d, "f")).st_mode), 0o640)
    eq(stat.S_IMODE(os.stat(j(d, "d")).st_mode), 0o750)
    eq(stat.S_IMODE(os.stat(j(d, "p")).st_mode), 0o640)
    eq(stat.S_IMODE(os.stat(j(d, "g")).st_mode), 0o666)


def directory_times(d):
    def touched(f):
        os.utime(d, (1, 1))
        f()
        s = os.stat(d)
        assert s.st_mtime > 10**9 and s.st_ctime > 10**9, (s.st_mtime, s.st_ctime)
    touched(lambda: put(j(d, "a")))
    touched(lambda: os.mkdir(j(d, "b")))
    touched(lambda: os.rename(j(d, "a"), j(d, "c")))
    touched(lambda: os.link(j(d, "c"), j(d, "e")))
    touched(lambda: os.unlink(j(d, "e")))
    touched(lambda: os.rmdir(j(d, "b")))
    touched(lambda: os.symlink("x", j(d, "s")))
    os.utime(d, (1, 1))
    put(j(d, "c"), b"content")
    os.chmod(j(d, "c"), 0o600)
    eq(os.stat(d).st_mtime, 1.0)


def modes(d):
    f = put(j(d, "f"))
    for m in (0, 0o777, 0o4755, 0o2755, 0o1644, 0o7777, 0o600):
        os.chmod(f, m)
        eq(stat.S_IMODE(os.stat(f).st_mode), m)
    fd = os.open(f, os.O_RDONLY)
    os.fchmod(fd, 0o444)
    eq(stat.S_IMODE(os.fstat(fd).st_mode), 0o444)
    os.close(fd)
    os.mkdir(j(d, "dir"))
    os.chmod(j(d, "dir"), 0o1777)
    eq(stat.S_IMODE(os.stat(j(d, "dir")).st_mode), 0o1777)
    before = os.stat(f).st_ctime_ns
    os.chmod(f, 0o640)
    assert os.stat(f).st_ctime_ns >= before


def owners(d):
    f = put(j(d, "f"))
    os.symlink("f", j(d, "s"))
    os.chown(f, 1234, 5678)
    eq((os.stat(f).st_uid, os.stat(f).st_gid), (1234, 5678))
    os.chown(f, -1, 99)
    eq((os.stat(f).st_uid, os.stat(f).st_gid), (1234, 99))
    os.lchown(j(d, "s"), 77, 78)
    eq((os.lstat(j(d, "s")).st_uid, os.stat(f).st_uid), (77, 1234))
    os.chmod(f, 0o6755)
    os.chown(f, 5, 5)
    eq(stat.S_IMODE(os.stat(f).st_mode), 0o755)
    os.chown(f, 4294967290, 4294967290)
    eq(os.stat(f).st_uid, 4294967290)


def setgid_directory(d):
    x = j(d, "x")
    os.mkdir(x)
    os.chown(x, 0, 4321)
    put(j(x, "before"))
    eq(os.stat(j(x, "before")).st_gid, 0)
    os.chmod(x, 0o2775)
    put(j(x, "f"))
    os.mkdir(j(x, "d"))
    os.symlink("f", j(x, "s"))
    os.mkfifo(j(x, "p"))
    for n in ("f", "d", "s", "p"):
        eq(os.lstat(j(x, n)).st_gid, 4321)
    assert os.stat(j(x, "d")).st_mode & stat.S_ISGID
    assert not os.stat(j(x, "f")).st_mode & stat.S_ISGID
    os.mkdir(j(x, "d", "e"))
    eq(os.stat(j(x, "d", "e")).st_gid, 4321)


def other_user(d):
    os.chmod(d, 0o777)
    put(j(d, "secret"), b"s", 0o600)
    put(j(d, "shown"), b"s", 0o644)
    os.mkdir(j(d, "closed"), 0o700)
    put(j(d, "closed", "in"), b"", 0o666)
    os.mkdir(j(d, "sticky"))
    os.chmod(j(d, "sticky"), 0o1777)
    put(j(d, "sticky", "ours"), b"", 0o666)
    put(j(d, "sticky", "kept"), b"", 0o666)

    def act():
        with fails(E.EACCES):
            os.open(j(d, "secret"), os.O_RDONLY)
        eq(get(j(d, "shown")), b"s")
        with fails(E.EACCES):
            os.open(j(d, "shown"), os.O_WRONLY)
        with fails(E.EACCES):
            os.truncate(j(d, "shown"), 0)
        with fails(E.EACCES):
            os.stat(j(d, "closed", "in"))
        with fails(E.EACCES):
            os.listdir(j(d, "closed"))
        with fails(E.EACCES):
            put(j(d, "closed", "new"))
        with fails(E.EPERM):
            os.chmod(j(d, "shown"), 0o777)
        with fails(E.EPERM):
            os.chown(j(d, "shown"), NOBODY, -1)
        with fails(E.EPERM):
            os.utime(j(d, "shown"), (1, 1))
        with fails(E.EACCES):
            os.utime(j(d, "shown"))
        with fails(E.EACCES, E.EPERM):
            os.setxattr(j(d, "shown"), "user.x", b"1")
        with fails(E.EPERM, E.EACCES):
            os.unlink(j(d, "sticky", "ours"))
        with fails(E.EPERM, E.EACCES):
            os.rename(j(d, "sticky", "ours"), j(d, "sticky", "theirs"))
        with fails(E.EPERM):
            os.mknod(j(d, "dev"), stat.S_IFCHR | 0o600, os.makedev(1, 3))
        with fails(E.EPERM):
            os.setxattr(j(d, "shown"), "trusted.x", b"1")
        f = put(j(d, "own"), b"mine", 0o600)
        eq((os.stat(f).st_uid, os.stat(f).st_gid), (NOBODY, NOBODY))
        os.chmod(f, 0o640)
        with fails(E.EPERM):
            os.chown(f, 0, -1)
        put(j(d, "sticky", "own"))
        os.unlink(j(d, "sticky", "own"))
        os.unlink(j(d, "shown"))  # the directory is writable: whose file it is does not matter
        assert not os.access(j(d, "secret"), os.R_OK)
        assert os.access(f, os.W_OK)
    in_child(act, NOBODY)
    assert not os.path.exists(j(d, "shown"))
    assert os.path.exists(j(d, "sticky", "ours"))


def setuid_cleared(d):
    os.chmod(d, 0o777)
    for what in ("write", "truncate", "chown", "open-trunc", "fallocate"):
        f = put(j(d, "f-" + what), b"12345678")
        if what == "chown":
            os.chown(f, NOBODY, NOBODY)
        os.chmod(f, 0o6777)

        def act():
            if what == "write":
                fd = os.open(f, os.O_WRONLY)
                os.write(fd, b"x")
                os.close(fd)
            elif what == "truncate":
                os.truncate(f, 3)
            elif what == "open-trunc":
                os.close(os.open(f, os.O_WRONLY | os.O_TRUNC))
            elif what == "fallocate":
                fd = os.open(f, os.O_WRONLY)
                os.posix_fallocate(fd, 0, 100000)
                os.close(fd)
            else:
                os.chown(f, -1, NOBODY)
        in_child(act, NOBODY)
        eq((what, stat.S_IMODE(os.stat(f).st_mode)), (what, 0o777))
    f = put(j(d, "root"), b"x")
    os.chmod(f, 0o4755)
    fd = os.open(f, os.O_WRONLY)
    os.write(fd, b"y")  # root keeps the bit
    os.close(fd)
    eq(stat.S_IMODE(os.stat(f).st_mode), 0o4755)


def times(d):
    f = put(j(d, "f"), b"x")
    for t in ((123456789, 987654321), (1, 0), (0, 0), (2**31 + 5, 999999999), (-77, 5), (4102444800, 1)):
        os.utime(f, ns=(t[0] * 10**9 + t[1], t[0] * 10**9 + t[1]))
        eq((os.stat(f).st_mtime_ns, os.stat(f).st_atime_ns), (t[0] * 10**9 + t[1],) * 2)
    os.utime(f, ns=(111, 222))
    import ctypes
    omit, now = (1 << 30) - 2, (1 << 30) - 1
    spec = (ctypes.c_long * 4)(0, omit, 5, 6)
    eq(libc.utimensat(-100, os.fsencode(f), spec, 0), 0)
    eq((os.stat(f).st_atime_ns, os.stat(f).st_mtime_ns), (111, 5 * 10**9 + 6))
    spec = (ctypes.c_long * 4)(0, omit, 0, now)
    eq(libc.utimensat(-100, os.fsencode(f), spec, 0), 0)
    eq(os.stat(f).st_atime_ns, 111)
    assert os.stat(f).st_mtime > 10**9
    os.symlink("f", j(d, "s"))
    os.utime(j(d, "s"), ns=(5, 7), follow_symlinks=False)
    eq(os.lstat(j(d, "s")).st_mtime_ns, 7)
    assert os.stat(f).st_mtime > 10**9
    os.utime(d, ns=(5, 123456789012345678))
    eq(os.stat(d).st_mtime_ns, 123456789012345678)


def times_far(d):
    """What no stored time can say becomes the nearest that one can; what lies before 1970 is exact."""
    f = put(j(d, "f"), b"x")
    for t in (10413792000, 2**40, -11676096000, -2**40):
        os.utime(f, (t, t))
        got = os.stat(f).st_mtime
        assert abs(got - t) < 1 or (got > 9e9 if t > 0 else got < -2e9), (t, got)
    for ns in (-2500000000, -1, -999999999, -1000000001):
        os.utime(f, ns=(ns, ns))
        os.utime(d, ns=(ns, ns))
        eq((os.stat(f).st_mtime_ns, os.stat(d).st_mtime_ns), (ns, ns))


def times_ascend(d):
    """Create, write, close, chmod, truncate: no time stamp lies before an older one."""
    last, f = 0, None
    for k in range(300):
        f = j(d, "f%d" % (k % 7))
        fd = os.open(f, os.O_RDWR | os.O_CREAT)
        steps = (lambda: None, lambda: os.write(fd, b"x" * (k + 1)), lambda: os.fchmod(fd, 0o600 + k % 8), lambda: os.ftruncate(fd, k),
                 lambda: os.pwrite(fd, b"y", 3000), lambda: os.fsync(fd) if k % 50 == 0 else None)
        for step in steps:
            step()
            s = os.fstat(fd)
            assert s.st_ctime_ns >= last and s.st_ctime_ns >= s.st_mtime_ns, (k, s.st_ctime_ns, s.st_mtime_ns, last)
            last = s.st_ctime_ns
        os.close(fd)
        s = os.stat(f)
        assert s.st_ctime_ns >= last, (k, s.st_ctime_ns, last)
        last = s.st_ctime_ns
        os.unlink(f)


def times_and_writes(d):
    """A write sets the time; a time set after a write stays, through close, fsync and reopening."""
    f = put(j(d, "f"), b"x")
    os.utime(f, (5, 5))
    fd = os.open(f, os.O_RDWR)
    os.write(fd, b"y" * 100000)
    assert os.fstat(fd).st_mtime > 10**9 and os.stat(f).st_ctime > 10**9
    os.utime(fd, ns=(7, 123456789))
    eq(os.fstat(fd).st_mtime_ns, 123456789)
    os.fsync(fd)
    eq(os.fstat(fd).st_mtime_ns, 123456789)
    os.pread(fd, 10, 0)
    os.close(fd)
    eq(os.stat(f).st_mtime_ns, 123456789)
    fd = os.open(f, os.O_RDONLY)
    eq(os.fstat(fd).st_mtime_ns, 123456789)
    os.close(fd)
    os.truncate(f, 10)
    assert os.stat(f).st_mtime > 10**9
    os.utime(f, (5, 5))
    fd = os.open(f, os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"z" * 3000000)
    os.close(fd)
    assert os.stat(f).st_mtime > 10**9
    os.utime(f, (5, 5))
    os.close(os.open(f, os.O_WRONLY | os.O_TRUNC))
    assert os.stat(f).st_mtime > 10**9


def xattrs(d):
    f = put(j(d, "f"))
    os.setxattr(f, "user.a", b"1")
    eq(os.getxattr(f, "user.a"), b"1")
    with fails(E.EEXIST):
        os.setxattr(f, "user.a", b"2", os.XATTR_CREATE)
    with fails(E.ENODATA):
        os.setxattr(f, "user.b", b"2", os.XATTR_REPLACE)
    os.setxattr(f, "user.a", b"22", os.XATTR_REPLACE)
    os.setxattr(f, "user.b", b"", os.XATTR_CREATE)
    eq((os.getxattr(f, "user.a"), os.getxattr(f, "user.b")), (b"22", b""))
    eq(sorted(n for n in os.listxattr(f) if n.startswith("user.")), ["user.a", "user.b"])
    with fails(E.ENODATA):
        os.getxattr(f, "user.c")
    with fails(E.ENODATA):
        os.removexattr(f, "user.c")
    os.setxattr(f, "user.bin", bytes(range(256)))
    eq(os.getxattr(f, "user.bin"), bytes(range(256)))
    with fails(E.ERANGE):
        getxattr_raw(f, "user.bin", 255)
    eq(getxattr_raw(f, "user.bin", 0), 256)
    with fails(E.ERANGE):
        listxattr_raw(f, 5)
    assert listxattr_raw(f, 0) >= len("user.a\0user.b\0user.bin\0")
    with fails(E.EINVAL):
        setxattr_raw(f, "user.a", b"x", 1, 4)
    with fails(E.ERANGE):
        os.setxattr(f, "user." + "n" * 251, b"x")
    os.setxattr(f, "user." + "n" * 250, b"x")
    with fails(E.E2BIG):
        os.setxattr(f, "user.big", b"x" * 65537)
    with fails(E.EOPNOTSUPP):
        os.setxattr(f, "nonsense.a", b"x")
    os.removexattr(f, "user.a")
    with fails(E.ENODATA):
        os.getxattr(f, "user.a")
    os.setxattr(d, "user.dir", b"d")
    eq(os.getxattr(d, "user.dir"), b"d")
    os.symlink("f", j(d, "s"))
    with fails(E.EPERM):
        os.setxattr(j(d, "s"), "user.x", b"x", follow_symlinks=False)
    os.link(f, j(d, "g"))
    os.rename(f, j(d, "h"))
    eq(os.getxattr(j(d, "g"), "user.bin"), bytes(range(256)))
    fd = os.open(j(d, "g"), os.O_RDONLY)
    os.setxattr(fd, "user.fd", b"1")
    eq(os.getxattr(j(d, "h"), "user.fd"), b"1")
    os.close(fd)
    if not NATIVE:
        os.setxattr(j(d, "g"), "user.big", b"y" * 65536)  # ext4 has room for a block only
        eq(os.getxattr(j(d, "g"), "user.big"), b"y" * 65536)
        for i in range(200):
            os.setxattr(j(d, "g"), "user.many%d" % i, b"%d" % i)
        eq(len([n for n in os.listxattr(j(d, "g")) if "many" in n]), 200)


def trusted(d):
    """A trusted attribute is listed to those alone who could read it; the other kinds to everybody."""
    f = put(j(d, "f"), b"x")
    os.mkdir(j(d, "dir"))
    names = {"user.a", "trusted.b", "security.c"}
    for path in (f, j(d, "dir")):
        os.chmod(path, 0o755)
        for n in sorted(names):
            os.setxattr(path, n, b"1")

    def see(wanted):
        for path in (f, j(d, "dir")):
            eq({n for n in os.listxattr(path) if n in names}, wanted)
            assert listxattr_raw(path, 0) >= sum(len(n) + 1 for n in wanted)

    def without_capability():
        CAP_SYS_ADMIN, PR_CAPBSET_DROP = 21, 24
        eq(libc.prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0), 0)
        code = "import os,sys; print(*sorted(set(os.listxattr(sys.argv[1]))))"
        out = subprocess.run([sys.executable, "-c", code, f], stdout=subprocess.PIPE, check=True).stdout.decode()
        eq(set(out.split()) & names, names - {"trusted.b"})

    see(names)
    in_child(lambda: see(names - {"trusted.b"}), NOBODY)
    in_child(without_capability)
    inside = subprocess.run(["unshare", "-Ur", sys.executable, "-c", "import os,sys; print(*os.listxattr(sys.argv[1]))", f],
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if inside.returncode == 0:  # namespaces of users can be made here
        assert "trusted.b" not in inside.stdout.decode().split()
    see(names)


def statfs(d):
    v = os.statvfs(d)
    assert v.f_bsize > 0 and v.f_blocks > 0
    eq(v.f_bsize, v.f_frsize)  # clients multiply by either
    assert v.f_bavail <= v.f_bfree <= v.f_blocks
    assert NATIVE or v.f_bavail < v.f_bfree  # commits keep a reserve
    eq(v.f_namemax, 255)
    assert v.f_files == 0 or v.f_ffree <= v.f_files
