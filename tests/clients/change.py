"""One way to change an element: write, mmap or copy (copy_file_range) FILE INDEX VALUE, of 64-bit integers."""
import mmap
import os
import struct
import sys
import tempfile

how, path, at, value = sys.argv[1], sys.argv[2], int(sys.argv[3]) * 8, struct.pack("<q", int(sys.argv[4]))
with open(path, "r+b") as f:
    if how == "write":
        os.pwrite(f.fileno(), value, at)
    elif how == "mmap":
        m = mmap.mmap(f.fileno(), 0)
        m[at:at + 8] = value
        m.close()
    else:
        with tempfile.NamedTemporaryFile(dir=os.path.dirname(path)) as other:
            other.write(value)
            other.flush()
            if os.copy_file_range(other.fileno(), f.fileno(), 8, 0, at) != 8:
                sys.exit("copied less")
