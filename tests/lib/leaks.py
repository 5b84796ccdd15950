"""Random operations on a few names of a directory: leaks.py DIR SEED STEPS.

touch, write, allocate, punch, truncate, rename, link, unlink, also of files that stay open for a while; at the end every name is
gone but those listed on stdout."""
import ctypes
import os
import random
import sys

KEEP, PUNCH, ZERO = 1, 2, 16
libc = ctypes.CDLL(None, use_errno=True)


def allocate(fd, mode, off, n):
    if libc.fallocate(fd, mode, ctypes.c_int64(off), ctypes.c_int64(n)) < 0:
        raise OSError(ctypes.get_errno(), "fallocate")


def step(r, d, held):
    a, b = (os.path.join(d, "f%d" % r.randrange(6)) for _ in "ab")
    what = r.randrange(9)
    if what == 0 and os.path.exists(a):
        os.rename(a, b)
    elif what == 1 and os.path.exists(a):
        os.unlink(a)
    elif what == 2 and os.path.exists(a) and not os.path.exists(b):
        os.link(a, b)
    elif what == 3 and held:
        os.close(held.pop(r.randrange(len(held))))
    else:
        fd = os.open(a, os.O_RDWR | os.O_CREAT | (os.O_TRUNC if r.random() < 0.2 else 0))
        at, n = r.choice((0, 100, 70000, 300000)), r.choice((1, 5000, 100000, 1 << 20))
        for _ in range(r.randrange(4)):
            mode = r.choice((0, KEEP, KEEP, PUNCH | KEEP, ZERO, ZERO | KEEP, "truncate", "write"))
            if mode == "truncate":
                os.ftruncate(fd, r.choice((0, at)))
            elif mode == "write":
                os.pwrite(fd, b"x" * min(n, 100000), at)
            else:
                allocate(fd, mode, at, n)
        if r.random() < 0.3 and len(held) < 5:
            held.append(fd)
        else:
            os.close(fd)


def main(d, seed, steps):
    r, held = random.Random(int(seed)), []
    for _ in range(int(steps)):
        step(r, d, held)
    for name in os.listdir(d):
        if r.random() < 0.7:
            os.unlink(os.path.join(d, name))
        else:
            print(name)
    for fd in held:
        os.close(fd)


main(*sys.argv[1:])
