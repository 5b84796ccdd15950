"""leaving.py CASE KIND_DIR: on a store that is full, the space of a file that was just deleted is there for the next
operation, however late the kernel tells that it has let go of the file.

release, forget: it tells a moment after the deletion, as somebody closes the last descriptor then, or that of the name.
replaced, cut: a rename over the file, a truncation to nothing. kept: a file that a program has open gives nothing.
rounds: deleted and written again a hundred times, by writes that wait for a part of their space."""
import errno
import os
import sys
import threading
import time

ROOM = 3 << 20
LATE_S = 0.3


def write(path, n):
    """Durable when it returns; the descriptor is still open."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        for off in range(0, n, 1 << 20):
            part = os.urandom(min(n - off, 1 << 20))
            assert os.pwrite(fd, part, off) == len(part)
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


def next_succeeds(d, fd=None):
    """A write of less than the room, while fd is closed in a moment."""
    late = threading.Timer(LATE_S, os.close, (fd,)) if fd is not None else None
    if late:
        late.start()
    os.close(write(f"{d}/next", ROOM // 2))
    if late:
        late.join()


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


def rounds(d):
    os.close(fill(d))
    for k in range(100):
        os.unlink(f"{d}/room")
        try:
            os.close(write(f"{d}/room", ROOM - (ROOM >> 3)))
        except OSError as e:
            raise AssertionError(f"round {k}") from e


def kept(d):
    fd = fill(d)
    os.unlink(f"{d}/room")
    took = []
    for _ in range(5):
        begun = time.monotonic()
        assert refused(f"{d}/next", ROOM // 2)
        took.append(time.monotonic() - begun)
    print("refused after", min(took))
    assert min(took) < 1, took
    os.close(fd)
    next_succeeds(d)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
