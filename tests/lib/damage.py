"""Damage to an unmounted store, and what is needed to see that a check finds it. damage.py COMMAND ARGS.

    sql STORE SQL       changes meta.db by SQL and sets the checksums of its pages right
    sums STORE          sets the checksums of the pages right
    flip FILE SEED      flips one bit of FILE, prints where
    flips STORE SPILLCTL N SEED   N copies of meta.db with one flipped byte each: the check finds it, or nothing
                        that can be read has changed
"""
import os
import random
import sqlite3
import struct
import subprocess
import sys

PAGE = 4096


def right_sum(page):
    """The checksum of a page: 8 bytes, as SQLite's cksumvfs computes it."""
    words = struct.unpack("<1022I", page[:PAGE - 8])
    a = b = 0
    for i in range(0, 1022, 2):
        a = (a + words[i] + b) & 0xffffffff
        b = (b + words[i + 1] + a) & 0xffffffff
    return struct.pack("<2I", a, b)


def sums(store):
    with open(os.path.join(store, "meta.db"), "r+b") as f:
        n = 0
        while len(page := f.read(PAGE)) == PAGE:
            want = right_sum(page)
            if page[-8:] != want:
                f.seek(n * PAGE + PAGE - 8)
                f.write(want)
                f.seek((n + 1) * PAGE)
            n += 1


def connect(store):
    db = sqlite3.connect(os.path.join(store, "meta.db"), isolation_level=None)
    db.text_factory = bytes
    return db


def sql(store, text):
    db = connect(store)
    before = db.total_changes
    db.executescript(text)
    if db.total_changes == before and not text.lstrip().upper().startswith(("DROP", "CREATE")):
        sys.exit("that changes nothing: " + text)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    sums(store)


def flip(path, seed):
    rng = random.Random(int(seed))
    with open(path, "r+b") as f:
        at = rng.randrange(os.path.getsize(path))
        f.seek(at)
        old = f.read(1)[0]
        f.seek(at)
        f.write(bytes([old ^ 1 << rng.randrange(8)]))
    print(at)


def content(path):
    """Everything that SQL can read, or None."""
    db = sqlite3.connect("file:%s?immutable=1" % path, uri=True)
    db.text_factory = bytes
    try:
        out = []
        for (table,) in db.execute("SELECT name FROM sqlite_schema WHERE type='table' ORDER BY name").fetchall():
            rows = db.execute("SELECT * FROM \"%s\"" % table.decode()).fetchall()
            out.append((table, sorted(map(repr, rows))))
        return out
    except (sqlite3.Error, UnicodeError):
        return None
    finally:
        db.close()


def flips(store, spillctl, n, seed):
    meta = os.path.join(store, "meta.db")
    whole, rng, unseen = open(meta, "rb").read(), random.Random(int(seed)), 0
    good = content(meta)
    for _ in range(int(n)):
        at, bit = rng.randrange(len(whole)), 1 << rng.randrange(8)
        bad = bytearray(whole)
        bad[at] ^= bit
        with open(meta, "wb") as f:
            f.write(bad)
        r = subprocess.run([spillctl, "check", "-n", store], capture_output=True, timeout=60)
        where = "byte %d ^ %#x" % (at, bit)
        if r.returncode not in (0, 4):
            sys.exit("%s: exit code %d: %s%s" % (where, r.returncode, r.stdout.decode(), r.stderr.decode()))
        if r.returncode == 0:
            unseen += 1
            if content(meta) != good:
                sys.exit("%s: not found, and the content is another" % where)
        elif not r.stdout.startswith((b"database: ", b"schema: ", b"types: ")):
            sys.exit("%s: found, but not as what it is: %s" % (where, r.stdout.decode()))
    with open(meta, "wb") as f:
        f.write(whole)
    print("%s flipped bytes, %d of them without any effect" % (n, unseen))


if __name__ == "__main__":
    {f.__name__: f for f in (sql, sums, flip, flips)}[sys.argv[1]](*sys.argv[2:])
