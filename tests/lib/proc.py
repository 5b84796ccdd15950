"""Small commands about processes and bytes for the shell tests: proc.py COMMAND ARGS."""
import os
import select
import sys


def wait(pid):
    """Until the process has ended, whoever its parent is."""
    try:
        fd = os.pidfd_open(int(pid))
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poll.poll()


def numbers(count, seed):
    """A random walk of float64 rounded to cents: compresses as prices do."""
    import array
    import random
    cents, out = 10000, []
    for step in random.Random(int(seed)).choices(range(-50, 51), k=int(count)):
        cents = max(100, cents + step)
        out.append(cents / 100)
    sys.stdout.buffer.write(array.array("d", out).tobytes())


def poke(path, off, byte):
    """Flips the bits of `byte` at an offset of a file."""
    fd = os.open(path, os.O_RDWR)
    old = os.pread(fd, 1, int(off))
    os.pwrite(fd, bytes([old[0] ^ int(byte, 0)]), int(off))
    os.close(fd)


def segments(path):
    """Data ranges as SEEK_DATA and SEEK_HOLE tell them: first-last pairs, one a line."""
    fd = os.open(path, os.O_RDONLY)
    pos, end = 0, os.fstat(fd).st_size
    while pos < end:
        try:
            data = os.lseek(fd, pos, os.SEEK_DATA)
        except OSError:
            break
        pos = os.lseek(fd, data, os.SEEK_HOLE)
        print(data, pos)


if __name__ == "__main__":
    {f.__name__: f for f in (wait, numbers, poke, segments)}[sys.argv[1]](*sys.argv[2:])
