"""hog.py FILE STOP: appends to FILE and never gives up, full or not, until there is a file STOP (or 20 s have passed). Makes STOP.full at the first ENOSPC."""
import errno
import os
import sys
import time

fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
block = os.urandom(4096)
full = False
end = time.monotonic() + 20
while not os.path.exists(sys.argv[2]) and time.monotonic() < end:
    for _ in range(100):
        try:
            os.write(fd, block)
        except OSError as e:
            assert e.errno == errno.ENOSPC, e
            if not full:
                open(sys.argv[2] + ".full", "w", encoding="ascii").close()
            full = True
