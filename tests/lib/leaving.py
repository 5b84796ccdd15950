"""leaving.py CASE KIND_DIR: on a store that is full, the space of a file that was just deleted is there for the next
operation, however late the kernel tells that it has let go of the file.

release, forget: it tells a moment after the deletion, as somebody closes the last descriptor then, or that of the name.
replaced, cut: a rename over the file, a truncation to nothing. several: of two files that leave, the one with the room goes last.
kept: nobody waits for a file that a program has open, also after a child has closed what it inherited.
crowd: as many find no space as there are threads to serve what they wait for. single: with -s nobody waits.
noted: the kernel sends the times of a file that was deleted before it lets go of it, which is no reason to wait.
rounds: deleted and written again a hundred times, by writes that wait for a part of their space."""
import concurrent.futures
import errno
import os
import sys
import threading

from sysx import in_child

ROOM = 3 << 20
LATE_S = 0.3
THREADS = 16  # of the daemon


def write(path, n):
    """Durable when it returns; the descriptor is still open."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        done = 0
        while done < n:
            done += os.pwrite(fd, os.urandom(min(n - done, 1 << 20)), done)
        os.fsync(fd)
    except OSError:
        os.close(fd)
        raise
    return fd


def refused(path, n):
    try:
        os.close(write(path, n))
    except OSError as e:
        assert e.errno == errno.ENOSPC, e
        return True
    return False


def fits(fd, n):
    try:
        os.pwrite(fd, os.urandom(n), 0)
        os.fsync(fd)
    except OSError as e:
        assert e.errno == errno.ENOSPC, e
        return False
    return True


def fill(d):
    """The room, which is given back and taken again by each case, and a file that takes all the rest. Open: the room."""
    os.makedirs(d)
    for name in "small", "pad":
        os.close(write(f"{d}/{name}", 1 << 20 if name == "pad" else 100))
    fd = write(f"{d}/room", ROOM)
    k = 0
    for n in 1 << 20, 1 << 16, 1 << 13:
        while not refused(f"{d}/fill{k}", n):
            k += 1
    assert refused(f"{d}/more", ROOM // 2)
    return fd


def next_succeeds(d, fd=None, after_s=LATE_S, name="next"):
    """A write of less than the room, while fd is closed in a moment."""
    late = threading.Timer(after_s, os.close, (fd,)) if fd is not None else None
    if late:
        late.start()
    os.close(write(f"{d}/{name}", ROOM // 2))
    if late:
        late.join()


def waits(d):
    """So many operations have waited for files that are leaving."""
    with open(f"{d}/../../.spillfs/stats", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("spillfs_leaving_waits_total "))


def nobody_waits(d):
    before = waits(d)
    assert refused(f"{d}/next", ROOM // 2)
    assert waits(d) == before, (before, waits(d))


def release(d):
    fd = fill(d)
    os.close(os.dup(fd))
    os.unlink(f"{d}/room")
    next_succeeds(d, fd)


def forget(d):
    os.close(fill(d))
    fd = os.open(f"{d}/room", os.O_PATH)
    os.unlink(f"{d}/room")
    next_succeeds(d, fd)


def replaced(d):
    fd = fill(d)
    os.close(os.dup(fd))
    os.unlink(f"{d}/pad")  # a rename needs some
    os.rename(f"{d}/small", f"{d}/room")
    next_succeeds(d, fd)


def cut(d):
    os.close(fill(d))
    os.truncate(f"{d}/room", 0)
    next_succeeds(d)


def noted(d):
    os.mkdir(d + ".noted")
    paths = [f"{d}.noted/{k}" for k in range(5)]
    for path in paths:
        os.close(write(path, 1))
        os.setxattr(path, "user.a", os.urandom(60000))
    os.close(fill(d))
    before = waits(d)
    for path in paths:
        os.unlink(path)
    assert waits(d) == before, (before, waits(d))


def rounds(d):
    os.close(fill(d))
    for k in range(100):
        os.unlink(f"{d}/room")
        try:
            os.close(write(f"{d}/room", ROOM - (ROOM >> 3)))
        except OSError as e:
            raise AssertionError(f"round {k}") from e


def several(d):
    fd, pad = fill(d), os.open(f"{d}/pad", os.O_RDWR)
    for each, name in (pad, "pad"), (fd, "room"):
        os.close(os.dup(each))
        os.unlink(f"{d}/{name}")
    closes = (LATE_S, os.dup(fd)), (1.5 * LATE_S, pad)
    early = [threading.Timer(after_s, os.close, (each,)) for after_s, each in closes]
    for timer in early:
        timer.start()
    next_succeeds(d, fd, 3 * LATE_S, "small")  # its name is there: only the data wait
    for timer in early:
        timer.join()


def read(fd):
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    assert len(os.pread(fd, 4096, 0)) == 4096


def kept(d):
    os.close(fill(d))
    fd = os.open(f"{d}/room", os.O_RDWR)
    os.unlink(f"{d}/room")
    nobody_waits(d)
    for use in os.fsync, read:
        in_child(lambda: os.close(fd))
        use(fd)
        nobody_waits(d)
    os.close(fd)
    next_succeeds(d)


def crowd(d):
    writers = [os.open(f"{os.path.dirname(d)}/writer{k}", os.O_WRONLY | os.O_CREAT) for k in range(THREADS)]
    fd = fill(d)
    os.close(os.dup(fd))
    os.unlink(f"{d}/room")
    late = threading.Timer(LATE_S, os.close, (fd,))
    late.start()
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        done = sum(pool.map(lambda writer: fits(writer, ROOM // 2 // THREADS), writers))
    assert 0 < waits(d) <= done, (waits(d), done)  # those who waited have it
    late.join()


def single(d):
    fd = fill(d)
    os.close(os.dup(fd))
    os.unlink(f"{d}/room")
    nobody_waits(d)
    os.close(fd)
    while refused(f"{d}/next", ROOM // 2):
        pass


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
