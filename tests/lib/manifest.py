"""manifest.py [-i] DIR: everything about a tree as text, one line a name, to compare before and after.
-i: inode numbers too. Times of access, and what spillfs itself tells in xattrs, are left out."""
import hashlib
import os
import stat
import sys


def line(path, name, inodes):
    s = os.lstat(path)
    parts = [os.fsdecode(name).encode("unicode_escape").decode(), "%o" % s.st_mode,
             "%d:%d" % (s.st_uid, s.st_gid), "n%d" % s.st_nlink, "r%x" % s.st_rdev, "t%d" % s.st_mtime_ns]
    if inodes:
        parts.append("i%d" % s.st_ino)
    if stat.S_ISLNK(s.st_mode):
        parts.append("-> %r" % os.readlink(path))
    if stat.S_ISREG(s.st_mode):
        parts.append("s%d" % s.st_size)
        with open(path, "rb") as f:
            h = hashlib.sha256()
            while piece := f.read(1 << 20):
                h.update(piece)
        parts.append(h.hexdigest())
    for x in sorted(os.listxattr(path, follow_symlinks=False)):
        if x.startswith("user.") and not x.startswith("user.spillfs."):
            parts.append("%s=%s" % (x, os.getxattr(path, x, follow_symlinks=False).hex()))
    return " ".join(parts)


def walk(top, name, inodes):
    path = os.path.join(top, name) if name else top
    print(line(path, name or b".", inodes))
    if stat.S_ISDIR(os.lstat(path).st_mode):
        for n in sorted(os.listdir(path)):
            walk(top, os.path.join(name, n), inodes)


if __name__ == "__main__":
    walk(os.fsencode(sys.argv[-1]), b"", "-i" in sys.argv)
