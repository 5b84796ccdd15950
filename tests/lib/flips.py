"""Flipped bytes in a store are found by the check, and never served as data.

    flips.py layers|meta STORE MNT N SEED

N copies of STORE (not mounted), in each of which one bit is flipped at a random place of one of its files: a layer, HEAD or a name
in refs/; or meta.db. Each is checked (--data) and mounted, and everything in it is read, also in the snapshots. What the
mount gives must be what the unharmed store gives, or an error for that file; and if the check has found nothing, no error."""
import errno
import hashlib
import os
import random
import select
import shutil
import stat
import subprocess
import sys

SPILLFS, SPILLCTL = os.environ["SPILLFS"], os.environ["SPILLCTL"]
REFUSED = "refused"


class Mount:
    def __init__(self, store, mnt):
        self.store, self.mnt, self.pid = store, mnt, 0

    def __enter__(self):
        r = subprocess.run([SPILLFS, "-o", "keep=4,commit=0", self.store, self.mnt], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        if not r.returncode:
            with open(os.path.join(self.store, "lock")) as f:
                self.pid = int(f.read().split()[0])
        elif r.returncode < 0:
            sys.exit("spillfs died: %d" % r.returncode)
        return self

    def __exit__(self, *exc):
        if not self.pid:
            return
        pidfd = os.pidfd_open(self.pid)
        r = subprocess.run([SPILLCTL, "umount", self.mnt], capture_output=True, timeout=60)
        # A pidfd tells the end, even while the process waits for its parent as a zombie.
        if not select.select([pidfd], [], [], 60)[0]:
            sys.exit("the daemon does not end: %s" % r.stderr)
        os.close(pidfd)
        if os.path.ismount(self.mnt):
            sys.exit("the daemon died")


def facts(path):
    st = os.lstat(path)
    out = [stat.S_IFMT(st.st_mode) | stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid, st.st_nlink]
    if not stat.S_ISDIR(st.st_mode):
        out += [st.st_size, st.st_mtime_ns]
    if stat.S_ISLNK(st.st_mode):
        out.append(os.readlink(path))
    out.append(sorted((n, os.getxattr(path, n, follow_symlinks=False)) for n in os.listxattr(path, follow_symlinks=False)
                      if n not in ("user.spillfs.stored_bytes",)))
    return out


def content(path):
    h = hashlib.sha256()
    with open(path, "rb", buffering=0) as f:
        while data := f.read(1 << 16):
            h.update(data)
    return h.hexdigest()


def picture(top, rel, out):
    """rel: what it is, or the error that it gives."""
    path = os.path.join(top, rel)
    try:
        what = facts(path)
        out[rel] = what
        if stat.S_ISREG(what[0]):
            out[rel] = what + [content(path)]
        elif stat.S_ISDIR(what[0]):
            names = sorted(os.listdir(path))
            out[rel] = what + [names]
            for name in names:
                picture(top, os.path.join(rel, name), out)
    except OSError as e:
        out[rel] = e.errno


def look(store, mnt):
    out = {}
    with Mount(store, mnt) as m:
        if not m.pid:
            return REFUSED
        for rel in ("layers", "columns", "buckets"):
            picture(mnt, rel, out)
        for name in sorted(os.listdir(mnt + "/snapshots")):
            picture(mnt, "snapshots/%s/layers" % name, out)
        out["snapshots"] = sorted(os.listdir(mnt + "/snapshots"))
    return out


def below(rel, failed):
    return any(rel == f or rel.startswith(f + "/") for f in failed)


def compare(good, bad):
    """(what is served and is wrong, what gives an error)"""
    if bad == REFUSED:
        return [], ["the mount"]
    failed = [rel for rel, what in bad.items() if isinstance(what, int)]
    wrong = ["%s: %s" % (rel, os.strerror(bad[rel])) for rel in failed if bad[rel] not in (errno.EIO, errno.EUCLEAN)]
    for rel, what in good.items():
        if below(rel, failed):
            continue
        if bad.get(rel) != what:
            wrong.append("%s: %s, not %s" % (rel, bad.get(rel), what))
    wrong += [rel + " is new" for rel in bad if rel not in good and not below(rel, failed)]
    return wrong, failed


def places(kind, store):
    if kind == "meta":
        return [os.path.join(store, "meta.db")]
    out = []
    for path, _, names in os.walk(os.path.join(store, "layers")):
        out += [os.path.join(path, n) for n in sorted(names)]
    return out


def flip(path, rng):
    with open(path, "r+b") as f:
        at, bit = rng.randrange(os.path.getsize(path)), 1 << rng.randrange(8)
        f.seek(at)
        old = f.read(1)[0]
        f.seek(at)
        f.write(bytes([old ^ bit]))
    return "%s, byte %d ^ %#x" % (os.path.basename(path), at, bit)


def one(kind, store, mnt, rng, good):
    copy = store + ".copy"
    subprocess.run(["cp", "-a", "--sparse=always", store, copy], check=True)
    try:
        where = flip(rng.choice(places(kind, copy)), rng)
        r = subprocess.run([SPILLCTL, "check", "-n", "--data", copy], capture_output=True, timeout=120)
        said = r.stdout.decode(errors="replace") + r.stderr.decode(errors="replace")
        if r.returncode not in (0, 4) or r.stderr:
            sys.exit("%s: exit code %d: %s" % (where, r.returncode, said))
        wrong, failed = compare(good, look(copy, mnt))
        if wrong:
            sys.exit("%s: served: %s\ncheck said: %s" % (where, "\n".join(wrong[:10]), said))
        if failed and not r.returncode:
            sys.exit("%s: not found by the check, but %s cannot be read\ncheck said: %s" % (where, failed, said))
        print("%s: %s" % (where, said.splitlines()[0] if r.returncode else "clean"))
        return r.returncode != 0, bool(failed)
    finally:
        shutil.rmtree(copy)


def main(kind, store, mnt, n, seed):
    rng = random.Random(int(seed))
    whole = store + ".whole"
    subprocess.run(["cp", "-a", "--sparse=always", store, whole], check=True)
    good = look(whole, mnt)
    shutil.rmtree(whole)
    assert good != REFUSED and not any(isinstance(what, int) for what in good.values()), good
    found = errors = 0
    for _ in range(int(n)):
        f, e = one(kind, store, mnt, rng, good)
        found += f
        errors += e
    print("%s flipped bits in %s: %d found, %d of them with errors for readers; seed %s" % (n, kind, found, errors, seed))
    if found < int(n) // 2:
        sys.exit("too few were found")


if __name__ == "__main__":
    main(*sys.argv[1:])
