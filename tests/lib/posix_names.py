"""Checks of names, links and directories; see posix.py."""
import errno as E
import os
import socket
import stat
import struct

from sysx import (EXCHANGE, NOREPLACE, ROOT, children, eq, fails, get, libc, put, rename2, walk)

j = os.path.join


def create_flags(d):
    f = j(d, "f")
    with fails(E.ENOENT):
        os.open(f, os.O_RDONLY)
    fd = os.open(f, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
    eq(os.write(fd, b"abc"), 3)
    os.close(fd)
    eq(stat.S_IMODE(os.stat(f).st_mode), 0o640)
    with fails(E.EEXIST):
        os.open(f, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    fd = os.open(f, os.O_RDWR | os.O_CREAT, 0o777)  # exists: mode unchanged, content kept
    eq(os.read(fd, 10), b"abc")
    os.close(fd)
    eq(stat.S_IMODE(os.stat(f).st_mode), 0o640)
    os.close(os.open(f, os.O_WRONLY | os.O_TRUNC))
    eq(os.stat(f).st_size, 0)
    with fails(E.ENOTDIR):
        os.open(j(f, "x"), os.O_RDONLY | os.O_CREAT)
    with fails(E.ENOENT):
        os.open(j(d, "none", "x"), os.O_WRONLY | os.O_CREAT)
    with fails(E.EISDIR):
        os.open(d, os.O_WRONLY)
    with fails(E.ENOTDIR):
        os.open(f, os.O_RDONLY | os.O_DIRECTORY)
    with fails(E.EEXIST):
        os.mkdir(f)
    fd = os.open(f, os.O_RDONLY)
    with fails(E.EBADF):
        os.write(fd, b"x")
    os.close(fd)
    fd = os.open(f, os.O_WRONLY)
    with fails(E.EBADF):
        os.read(fd, 1)
    os.close(fd)


def names(d):
    odd = [b"a b", b"-rf", b"new\nline", b"\xff\xfe\x80", b"%s%n", b"'\"`$x", b"a~", b".hidden", b"...",
           "größe-日本".encode(), b"x" * 255, "é".encode() * 127, b"\\", b"*?["]
    bd = os.fsencode(d)
    for n in odd:
        put(j(bd, n), n)
    eq(sorted(os.listdir(bd)), sorted(odd))
    for n in odd:
        eq(get(j(bd, n)), n)
    put(j(d, "Case"))
    assert not os.path.exists(j(d, "case"))
    long = j(d, "n" * 256)
    for f in (lambda: os.open(long, os.O_CREAT | os.O_WRONLY), lambda: os.mkdir(long),
              lambda: os.symlink("x", long), lambda: os.link(j(d, "Case"), long),
              lambda: os.rename(j(d, "Case"), long), lambda: os.mkfifo(long), lambda: os.stat(long),
              lambda: os.unlink(long)):
        with fails(E.ENAMETOOLONG):
            f()
    with fails(E.ENOENT):
        os.open("", os.O_CREAT | os.O_WRONLY)
    with fails(E.EISDIR):
        os.open(j(d, "slash/"), os.O_CREAT | os.O_WRONLY)


def deep_directories(d):
    os.chdir(d)
    for i in range(60):
        os.mkdir("directory-number-%04d-%s" % (i, "x" * 60))
        os.chdir("directory-number-%04d-%s" % (i, "x" * 60))
    put("leaf", b"deep")  # its path is longer than PATH_MAX
    eq(get("leaf"), b"deep")
    for i in range(60):
        os.chdir("..")
    eq(os.stat(".").st_ino, os.stat(d).st_ino)
    eq(len(os.listdir(".")), 1)


def many_files(d):
    for i in range(1000):
        put(j(d, "f%d" % i), b"%d" % i)
    eq(sorted(os.listdir(d)), sorted("f%d" % i for i in range(1000)))
    for i in range(0, 1000, 97):
        eq(get(j(d, "f%d" % i)), b"%d" % i)
    for e in os.scandir(d):
        assert e.is_file(follow_symlinks=False)
        eq(e.inode(), e.stat().st_ino)
    for i in range(1000):
        os.unlink(j(d, "f%d" % i))
    eq(os.listdir(d), [])


def rename_basic(d):
    a, b = put(j(d, "a"), b"A"), put(j(d, "b"), b"B")
    ino = os.stat(a).st_ino
    os.rename(a, b)
    eq(get(b), b"A")
    eq(os.stat(b).st_ino, ino)
    eq(os.listdir(d), ["b"])
    with fails(E.ENOENT):
        os.rename(a, b)
    os.rename(b, b)
    os.link(b, a)
    os.rename(a, b)  # two names of one file: nothing is done
    eq(sorted(os.listdir(d)), ["a", "b"])
    fd = os.open(b, os.O_RDONLY)
    put(j(d, "c"), b"C")
    os.rename(j(d, "c"), b)
    eq(os.pread(fd, 9, 0), b"A")
    eq(get(b), b"C")
    os.close(fd)


def rename_directories(d):
    for n in ("p", "q", "p/full", "p/empty", "q/sub"):
        os.mkdir(j(d, n))
    put(j(d, "p/full/x"), b"x")
    put(j(d, "f"))
    with fails(E.ENOTEMPTY, E.EEXIST):
        os.rename(j(d, "q/sub"), j(d, "p/full"))
    with fails(E.EINVAL):
        os.rename(j(d, "p"), j(d, "p/full/p"))
    with fails(E.EISDIR):
        os.rename(j(d, "f"), j(d, "p/empty"))
    with fails(E.ENOTDIR):
        os.rename(j(d, "p/empty"), j(d, "f"))
    os.rename(j(d, "p/full"), j(d, "q/sub"))
    eq(get(j(d, "q/sub/x")), b"x")
    eq(os.stat(j(d, "q/sub/..")).st_ino, os.stat(j(d, "q")).st_ino)
    eq(os.stat(j(d, "p")).st_nlink, 3)  # ., .., empty
    os.rename(j(d, "p/empty"), j(d, "q/moved"))
    eq(os.stat(j(d, "p")).st_nlink, 2)
    eq(os.stat(j(d, "q")).st_nlink, 4)
    fd = os.open(j(d, "q/sub/x"), os.O_RDWR)
    os.rename(j(d, "q"), j(d, "r"))
    os.pwrite(fd, b"y", 0)
    os.close(fd)
    eq(get(j(d, "r/sub/x")), b"y")
    with fails(E.ENOENT):
        os.stat(j(d, "q/sub/x"))


def rename_flags(d):
    a, b, c = put(j(d, "a"), b"A"), put(j(d, "b"), b"B"), j(d, "c")
    os.mkdir(j(d, "dir"))
    put(j(d, "dir/in"), b"in")
    with fails(E.EEXIST):
        rename2(a, b, NOREPLACE)
    with fails(E.EEXIST):
        rename2(a, a, NOREPLACE)
    eq(get(b), b"B")
    rename2(a, c, NOREPLACE)
    eq(get(c), b"A")
    with fails(E.ENOENT):
        rename2(c, a, EXCHANGE)
    ib, ic = os.stat(b).st_ino, os.stat(c).st_ino
    rename2(b, c, EXCHANGE)
    eq((os.stat(b).st_ino, os.stat(c).st_ino), (ic, ib))
    eq((get(b), get(c)), (b"A", b"B"))
    rename2(b, j(d, "dir"), EXCHANGE)
    eq((get(j(d, "dir")), get(j(d, "b/in"))), (b"A", b"in"))
    os.mkdir(j(d, "e"))
    rename2(j(d, "b"), j(d, "e"), EXCHANGE)
    eq(os.listdir(j(d, "e")), ["in"])
    os.mkdir(j(d, "e/sub"))
    n = (os.stat(d).st_nlink, os.stat(j(d, "e")).st_nlink)
    rename2(j(d, "e/sub"), c, EXCHANGE)  # directory and file, across directories: link counts move
    eq((os.stat(d).st_nlink, os.stat(j(d, "e")).st_nlink), (n[0] + 1, n[1] - 1))
    eq(os.stat(j(c, "..")).st_ino, os.stat(d).st_ino)
    with fails(E.EINVAL):
        rename2(c, j(d, "e/sub"), NOREPLACE | EXCHANGE)
    with fails(E.EINVAL):
        rename2(c, j(d, "e/sub"), 1 << 8)


def rename_is_atomic(d):
    """While a file is replaced over and over, a reader always finds a whole one."""
    f = put(j(d, "f"), b"0" * 5000)

    def work(i):
        if i == 0:
            for k in range(300):
                put(j(d, "tmp"), b"%d" % (k % 10) * 5000)
                os.rename(j(d, "tmp"), f)
        else:
            for _ in range(300):
                got = get(f)
                assert len(got) == 5000 and len(set(got)) == 1, (len(got), set(got))
    children(2, work)


def hard_links(d):
    os.mkdir(j(d, "x"))
    a, b = put(j(d, "a"), b"one"), j(d, "x", "b")
    os.link(a, b)
    sa, sb = os.stat(a), os.stat(b)
    eq((sa.st_ino, sa.st_nlink), (sb.st_ino, 2))
    put(b, b"two!")
    eq(get(a), b"two!")
    os.chmod(b, 0o600)
    eq(stat.S_IMODE(os.stat(a).st_mode), 0o600)
    with fails(E.EEXIST):
        os.link(a, b)
    with fails(E.EPERM):
        os.link(j(d, "x"), j(d, "y"))
    with fails(E.ENOENT):
        os.link(j(d, "none"), j(d, "y"))
    os.unlink(a)
    eq(os.stat(b).st_nlink, 1)
    eq(get(b), b"two!")
    os.symlink("b", j(d, "x", "s"))
    os.link(j(d, "x", "s"), j(d, "x", "s2"), follow_symlinks=False)
    eq(os.readlink(j(d, "x", "s2")), "b")
    eq(os.lstat(j(d, "x", "s2")).st_nlink, 2)
    for i in range(500):
        os.link(b, j(d, "l%d" % i))
    eq(os.stat(b).st_nlink, 501)
    fd = os.open(b, os.O_RDONLY)
    for i in range(500):
        os.unlink(j(d, "l%d" % i))
    eq(os.fstat(fd).st_nlink, 1)
    os.close(fd)


def symlinks(d):
    put(j(d, "f"), b"data")
    os.symlink("f", j(d, "s"))
    eq(os.readlink(j(d, "s")), "f")
    eq(os.lstat(j(d, "s")).st_size, 1)
    assert stat.S_ISLNK(os.lstat(j(d, "s")).st_mode)
    eq(get(j(d, "s")), b"data")
    with fails(E.ELOOP):
        os.open(j(d, "s"), os.O_RDONLY | os.O_NOFOLLOW)
    with fails(E.EEXIST):
        os.symlink("g", j(d, "s"))
    os.symlink("loop", j(d, "loop"))
    with fails(E.ELOOP):
        os.open(j(d, "loop"), os.O_RDONLY)
    os.symlink("nowhere", j(d, "dangling"))
    with fails(E.ENOENT):
        os.open(j(d, "dangling"), os.O_RDONLY)
    with fails(E.EEXIST):
        os.open(j(d, "dangling"), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    put(j(d, "dangling"), b"through")  # O_CREAT creates what the link points to
    eq(get(j(d, "nowhere")), b"through")
    with fails(E.EINVAL):
        os.readlink(j(d, "f"))
    target = "t/" * 2000 + "end"
    os.symlink(target, j(d, "long"))
    eq(os.readlink(j(d, "long")), target)
    os.mkdir(j(d, "dir"))
    os.symlink("dir", j(d, "ds"))
    put(j(d, "ds", "inner"), b"i")
    eq(get(j(d, "dir", "inner")), b"i")
    with fails(E.ENOTDIR):
        os.rmdir(j(d, "ds"))
    os.unlink(j(d, "ds"))
    eq(get(j(d, "dir", "inner")), b"i")


def special_files(d):
    p = j(d, "p")
    os.mkfifo(p, 0o640)
    assert stat.S_ISFIFO(os.stat(p).st_mode)

    def talk(i):
        fd = os.open(p, os.O_RDONLY if i else os.O_WRONLY)
        if i:
            got = b""
            while True:
                b = os.read(fd, 65536)
                if not b:
                    break
                got += b
            eq(got, bytes(range(256)) * 1000)
        else:
            os.write(fd, bytes(range(256)) * 1000)
    children(2, talk)
    with fails(E.ENXIO):
        os.open(p, os.O_WRONLY | os.O_NONBLOCK)
    os.chdir(d)  # the path of a socket is short
    srv = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    srv.bind("sock")
    srv.listen(1)
    assert stat.S_ISSOCK(os.stat("sock").st_mode)
    cli = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    cli.connect("sock")
    con, _ = srv.accept()
    cli.send(b"hello")
    eq(con.recv(10), b"hello")
    for s in (con, cli, srv):
        s.close()
    with fails(E.ENXIO):
        os.open("sock", os.O_RDONLY)
    with fails(E.EADDRINUSE):
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).bind("sock")
    if ROOT:
        os.mknod("null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod("blk", stat.S_IFBLK | 0o600, os.makedev(259, 70000))
        assert stat.S_ISCHR(os.stat("null").st_mode)
        eq(os.stat("null").st_rdev, os.makedev(1, 3))
        eq(os.stat("blk").st_rdev, os.makedev(259, 70000))
        assert stat.S_ISBLK(os.stat("blk").st_mode)
    os.mknod("plain", stat.S_IFREG | 0o600)
    eq(get("plain"), b"")


def directories(d):
    x = j(d, "x")
    n = os.stat(d).st_nlink
    os.mkdir(x, 0o755)
    eq(os.stat(d).st_nlink, n + 1)
    with fails(E.EEXIST):
        os.mkdir(x)
    put(j(x, "f"))
    with fails(E.ENOTEMPTY):
        os.rmdir(x)
    with fails(E.ENOTDIR):
        os.rmdir(j(x, "f"))
    with fails(E.EISDIR, E.EPERM):
        os.unlink(x)
    with fails(E.EINVAL):
        os.rmdir(j(x, "."))
    with fails(E.ENOTEMPTY, E.EEXIST):
        os.rmdir(j(x, ".."))
    os.unlink(j(x, "f"))
    fd = os.open(x, os.O_RDONLY)
    os.rmdir(x)
    eq(os.stat(d).st_nlink, n)
    eq(os.listdir(fd), [])
    with fails(E.ENOENT):
        os.open("g", os.O_WRONLY | os.O_CREAT, dir_fd=fd)
    with fails(E.ENOENT):
        os.mkdir("g", dir_fd=fd)
    eq(os.fstat(fd).st_nlink, 0)
    os.fsync(fd)
    os.close(fd)
    with fails(E.ENOENT):
        os.rmdir(x)


def readdir_while_unlinking(d):
    """2,000 names, each unlinked as it is read: every one is seen once."""
    want = {"entry-%04d" % i for i in range(2000)}
    for n in want:
        os.close(os.open(j(d, n), os.O_CREAT | os.O_WRONLY))
    seen = []
    with os.scandir(d) as it:
        for e in it:
            seen.append(e.name)
            os.unlink(e.path)
    eq(len(seen), 2000)
    eq(set(seen), want)
    eq(os.listdir(d), [])


def readdir_while_changing(d):
    """A walk ends, and gives whatever stays once, whatever is renamed, made and removed with each entry that it gives."""
    n = 200
    other = j(d, "other")

    def rename_back(e, k):
        os.rename(j(d, e), j(d, "temporary"))
        os.rename(j(d, "temporary"), j(d, e))

    def rename_on(e, k):
        os.rename(j(d, e), j(d, e + "'"))

    def exchange(e, k):
        rename2(j(d, e), j(d, "entry-%03d" % (n - 1)), EXCHANGE)

    def move_away_and_back(e, k):
        os.rename(j(d, e), j(other, "x"))
        os.rename(j(other, "x"), j(d, e))

    def make_more(e, k):
        put(j(d, "more-%06d" % k))

    def replace(e, k):
        os.rename(put(j(d, "new")), j(d, "entry-%03d" % (n - 1)))

    def link_and_unlink(e, k):
        os.link(j(d, e), j(d, "link-%06d" % k))
        os.unlink(j(d, "link-%06d" % k))

    touched = {"entry-%03d" % i for i in range(0, n, 2)}
    stays = {"entry-%03d" % i for i in range(1, n, 2)}
    for change in (rename_back, rename_on, exchange, move_away_and_back, make_more, replace, link_and_unlink):
        os.mkdir(other)
        for name in touched | stays:
            put(j(d, name))
        seen = []
        for e in walk(d):
            seen.append(e)
            assert len(seen) < 4 * n, change.__name__ + ": no end"
            if e.rstrip("'") in touched:
                change(e, len(seen))
        once = stays | (touched if change in (rename_back, exchange, replace) else set())
        got = [s for s in seen if s in once]
        eq((change.__name__, len(got), len(set(got))), (change.__name__, len(once), len(once)))
        # the next walk has the rest, too
        eq(len(os.listdir(d)), len(set(os.listdir(d))))
        for name in os.listdir(d):
            if name != "other":
                os.unlink(j(d, name))
        os.rmdir(other)


def readdir_two_walks(d):
    """Two walks of a directory do not know of each other; rewinddir shows what has come."""
    for i in range(1500):
        put(j(d, "a%04d" % i))
    with os.scandir(d) as one:
        first = [next(one).name]
        for i in range(100):
            put(j(d, "b%04d" % i))
        with os.scandir(d) as two:
            second = [e.name for e in two]
        first += [e.name for e in one]
    eq(len(second), 1600)
    eq(len({n for n in first if n[0] == "a"}), 1500)
    eq(len(first), len(set(first)))
    fd = os.open(d, os.O_RDONLY)
    eq(len(os.listdir(fd)), 1600)
    put(j(d, "c"))
    eq(len(os.listdir(fd)), 1601)  # from the start again
    os.close(fd)


def readdir_cookies(d):
    """telldir and seekdir come back to the same entry, with a changed directory in between."""
    import ctypes
    for i in range(300):
        put(j(d, "n%03d" % i))
    libc.opendir.restype = ctypes.c_void_p
    libc.readdir.restype = ctypes.c_void_p
    libc.telldir.restype = ctypes.c_long
    dirp = ctypes.c_void_p(libc.opendir(os.fsencode(d)))
    places = []

    def entry():
        p = libc.readdir(dirp)
        if not p:
            return None
        raw = ctypes.string_at(p, 19)
        ino, _, reclen, kind = struct.unpack("<QqHB", raw)
        return ino, kind, ctypes.string_at(p + 19)
    while True:
        at = libc.telldir(dirp)
        e = entry()
        if e is None:
            break
        places.append((at, e))
    eq(len(places), 302)
    eq({b".", b".."} - {e[2] for _, e in places}, set())
    eq(len({at for at, _ in places}), 302)
    for i in range(0, 300, 2):
        os.unlink(j(d, "n%03d" % i))
    gone = {b"n%03d" % i for i in range(0, 300, 2)}
    for k in (250, 3, 180, 77, 299, 1, 150):
        at, e = places[k]
        libc.seekdir(dirp, ctypes.c_long(at))
        rest = []
        while True:
            g = entry()
            if g is None:
                break
            rest.append(g[2])
        left = [p[1][2] for p in places[k:] if p[1][2] not in gone]
        # what was buffered before may still be told; nothing else may be missing or come twice
        eq([n for n in rest if n not in gone], left)
    for _, (ino, kind, name) in places:
        if name not in gone and name not in (b".", b".."):
            eq(ino, os.stat(j(os.fsencode(d), name)).st_ino)
            eq(kind, 8)
    libc.closedir(dirp)


def inode_numbers(d):
    """Distinct among files, stable over rename, and not given out anew while a file is open."""
    fds = [os.open(j(d, "f%d" % i), os.O_RDWR | os.O_CREAT) for i in range(50)]
    inos = [os.fstat(fd).st_ino for fd in fds]
    eq(len(set(inos)), 50)
    for i in range(50):
        os.unlink(j(d, "f%d" % i))
    more = [os.stat(put(j(d, "g%d" % i))).st_ino for i in range(50)]
    eq(len(set(inos + more)), 100)
    os.rename(j(d, "g0"), j(d, "r"))
    eq(os.stat(j(d, "r")).st_ino, more[0])
    for fd in fds:
        os.close(fd)
    eq(len({os.stat(j(d, n)).st_dev for n in os.listdir(d)} | {os.stat(d).st_dev}), 1)


def exclusive_create(d):
    """Of several processes that create the same name with O_EXCL, one succeeds."""
    def work(i):
        for k in range(50):
            try:
                fd = os.open(j(d, "n%d" % k), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            except FileExistsError:
                continue
            os.write(fd, b"%d" % i)
            os.close(fd)
            put(j(d, "won-%d-%d" % (k, i)))
    children(4, work)
    won = sorted(n for n in os.listdir(d) if n.startswith("won"))
    eq(len(won), 50)
    for n in won:
        _, k, i = n.split("-")
        eq(get(j(d, "n" + k)), i.encode())


def concurrent_directories(d):
    """Processes that make, move and remove names in one directory at the same time leave none over."""
    def work(i):
        for k in range(100):
            a, b = j(d, "a-%d-%d" % (i, k)), j(d, "b-%d" % (k % 7))
            put(a, b"x")
            os.rename(a, b)
            try:
                os.unlink(b)
            except FileNotFoundError:
                pass
            os.mkdir(a)
            os.rmdir(a)
    children(4, work)
    assert set(os.listdir(d)) <= {"b-%d" % k for k in range(7)}
    for n in os.listdir(d):
        eq(os.stat(j(d, n)).st_nlink, 1)


def programs(d):
    """Scripts and binaries run from here."""
    import shutil
    import subprocess
    put(j(d, "script"), b"#!/bin/sh\necho \"$1\"\n")
    os.chmod(j(d, "script"), 0o755)
    eq(subprocess.check_output([j(d, "script"), "word"]), b"word\n")
    shutil.copy("/bin/echo", j(d, "echo"))
    eq(subprocess.check_output([j(d, "echo"), "binary"]), b"binary\n")
    put(j(d, "plain"), b"#!/bin/sh\n", 0o644)
    with fails(E.EACCES):
        os.execv(j(d, "plain"), ["plain"])
