"""What must be true after the daemon was killed.

    crash.py run MNT STATE SEED ACKS PID    works until ACKS promises were given, kills PID, notes all; PID may be
                                            cut:DIR: the power of the disk at DIR is cut instead
    crash.py check MNT STATE                after the next mount: holds the store to the notes

The worker announces each step (begun) and says when its fsync has returned (kept). A kept step must be
there, byte for byte; a begun one may be there, in part, or not, but no byte may be other than one that
was written: above all not zero. STATE is JSON, outside the mount; PID 0: nobody is killed."""
import json
import os
import random
import signal
import sys

import disk

KINDS = ["buckets", "columns", "layers"]
RECORD, PIECE, PIECES = 3001, 65536, 20


def pat(seed, n):
    """Bytes without a zero among them; some compress, some do not."""
    rng = random.Random(repr(seed))
    if rng.random() < 0.5:
        return rng.randbytes(n).replace(b"\0", b"\1")
    word = rng.randbytes(40).replace(b"\0", b"\1")
    return (word * (n // 40 + 1))[:n]


def new_state():
    return {k: {"files": {}, "gone": [], "cur": [0, 0], "log": [0, 0], "trn": [0, 0],
                "pieces": [[1, 1] for _ in range(PIECES)], "next": 0} for k in KINDS}


def cur_size(v):
    return 1000 + v * 7919 % 400000


def trn_size(v):
    return 1 + v * 104729 % 700000


class Worker:
    def __init__(self, mnt, state, seed, tell):
        self.mnt, self.state, self.tell = mnt, state, tell
        self.rng = random.Random(seed)

    def path(self, k, name):
        return os.path.join(self.mnt, k, "crash", name)

    def sync_dir(self, k):
        fd = os.open(self.path(k, ""), os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)

    def write(self, path, data, flags=os.O_CREAT | os.O_TRUNC, sync=True):
        fd = os.open(path, os.O_WRONLY | flags, 0o644)
        done = 0
        while done < len(data):
            done += os.write(fd, data[done:done + 100003])
        if sync:
            os.fsync(fd)
        os.close(fd)

    def prepare(self):
        for k in KINDS:
            if not os.path.isdir(self.path(k, "")):
                os.mkdir(self.path(k, ""))
                self.write(self.path(k, "rnd"), bytes([1]) * (PIECE * PIECES))
                self.write(self.path(k, "trn"), pat((k, "trn", 0), trn_size(0)))
                self.write(self.path(k, "log"), b"")
                self.sync_dir(k)

    def step(self):
        k = self.rng.choice(KINDS)
        getattr(self, "do_" + self.rng.choice(("file", "cur", "log", "log", "rnd", "rnd", "trn", "gone")))(k)

    def do_file(self, k):
        s = self.state[k]
        i, n = s["next"], self.rng.choice((10, 5000, 70000, 300000, 1200000))
        s["next"] += 1
        self.tell("begun", k, "files", str(i), n)
        self.write(self.path(k, "n%d" % i), pat((k, i), n))
        self.sync_dir(k)
        self.tell("kept", k, "files", str(i), n)

    def do_cur(self, k):
        s = self.state[k]
        v = s["cur"][1] + 1
        self.tell("begun", k, "cur", v)
        self.write(self.path(k, "cur.tmp"), pat((k, "cur", v), cur_size(v)))
        os.rename(self.path(k, "cur.tmp"), self.path(k, "cur"))
        self.sync_dir(k)
        self.tell("kept", k, "cur", v)

    def do_log(self, k):
        i = self.state[k]["log"][1]
        self.tell("begun", k, "log", i + 1)
        fd = os.open(self.path(k, "log"), os.O_WRONLY | os.O_APPEND)
        os.write(fd, pat((k, "log", i), RECORD))
        os.fdatasync(fd)
        os.close(fd)
        self.tell("kept", k, "log", i + 1)

    def do_rnd(self, k):
        p = self.rng.randrange(PIECES)
        v = self.state[k]["pieces"][p][1] % 250 + 1
        self.tell("begun", k, "pieces", p, v)
        fd = os.open(self.path(k, "rnd"), os.O_RDWR)
        os.pwrite(fd, bytes([v]) * PIECE, p * PIECE)
        os.fsync(fd)
        os.close(fd)
        self.tell("kept", k, "pieces", p, v)

    def do_trn(self, k):
        v = self.state[k]["trn"][1] + 1
        self.tell("begun", k, "trn", v)
        self.write(self.path(k, "trn"), pat((k, "trn", v), trn_size(v)), os.O_TRUNC)
        self.tell("kept", k, "trn", v)

    def do_gone(self, k):
        here = [i for i, (_, kept) in self.state[k]["files"].items() if kept and i not in self.state[k]["gone"]]
        if not here:
            return self.do_file(k)
        i = self.rng.choice(here)
        self.tell("begun", k, "gone", i)
        os.unlink(self.path(k, "n" + i))
        self.sync_dir(k)
        self.tell("kept", k, "gone", i)


def note(state, phase, k, what, *args):
    s, kept = state[k], phase == "kept"
    if what == "files":
        s["files"][args[0]] = [args[1], kept]
        s["next"] = max(s["next"], int(args[0]) + 1)
    elif what == "gone":
        s["files"][args[0]][1] = None  # there, as a whole, or not
        if kept:
            s["gone"].append(args[0])
    elif what == "pieces":
        s["pieces"][args[0]] = [args[1] if kept else s["pieces"][args[0]][0], args[1]]
    else:
        s[what] = [args[0] if kept else s[what][0], args[0]]


def lose(what, worker):
    if what.startswith("cut:"):
        disk.cut(what[4:])
    else:
        os.kill(int(what) or worker, signal.SIGKILL)


def run(mnt, state_path, seed, acks, pid):
    state = json.load(open(state_path)) if os.path.exists(state_path) else new_state()
    r, w = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(r)

        def tell(*event):
            os.write(w, (json.dumps(event) + "\n").encode())
            note(state, *event)
        try:
            worker = Worker(mnt, state, int(seed), tell)
            worker.prepare()
            os.write(w, b'["prepared"]\n')
            while True:
                worker.step()
        except OSError as e:
            os.write(w, (json.dumps(["error", e.errno, str(e)]) + "\n").encode())
        finally:
            os._exit(0)
    os.close(w)
    kept, error, prepared = 0, None, False
    for text in os.fdopen(r):
        event = json.loads(text)
        if event[0] == "error":
            error = event
        elif event[0] == "prepared":
            prepared = True
        else:
            note(state, *event)
            kept += event[0] == "kept"
            if kept == int(acks) and event[0] == "kept":
                lose(pid, child)
    os.waitpid(child, 0)
    json.dump(state, open(state_path, "w"))
    print(kept, "kept")
    assert prepared and kept >= int(acks), "the worker stopped early: %s after %d" % (error, kept)


class Wrong(Exception):
    pass


def read(path):
    with open(path, "rb", buffering=0) as f:
        return f.readall()


def want_prefix(what, got, want):
    if got != want[:len(got)]:
        at = next((i for i in range(len(got)) if i >= len(want) or got[i] != want[i]), 0)
        raise Wrong("%s: %d bytes, byte %d is %#x" % (what, len(got), at, got[at]))


def check_kind(d, k, s):
    names = set(os.listdir(d))
    for i, (n, kept) in list(s["files"].items()):
        there = "n" + i in names
        if i in s["gone"]:
            if there:
                raise Wrong("n%s is back after its unlink" % i)
            del s["files"][i]
            s["gone"].remove(i)
        elif kept and not there:
            raise Wrong("n%s is gone" % i)
        elif there:
            got, want = read(os.path.join(d, "n" + i)), pat((k, int(i)), n)
            want_prefix("n" + i, got, want)
            if kept is not False and len(got) != n:
                raise Wrong("n%s: %d bytes, wanted %d" % (i, len(got), n))
            if not kept:
                del s["files"][i]
                os.unlink(os.path.join(d, "n" + i))
        else:
            del s["files"][i]
    kept, begun = s["cur"]
    found = kept
    if kept and "cur" not in names:
        raise Wrong("cur is gone")
    if "cur" in names:
        got = read(os.path.join(d, "cur"))
        whole = [v for v in range(kept, begun + 1) if got == pat((k, "cur", v), cur_size(v))]
        if not whole:
            raise Wrong("cur: %d bytes, none of the versions %d to %d" % (len(got), kept, begun))
        found = whole[0]
    s["cur"] = [found, begun]
    kept, begun = s["log"]
    got = read(os.path.join(d, "log"))
    want_prefix("log", got, b"".join(pat((k, "log", i), RECORD) for i in range(begun)))
    if len(got) < kept * RECORD:
        raise Wrong("log: %d bytes, %d records were kept" % (len(got), kept))
    fd = os.open(os.path.join(d, "log"), os.O_WRONLY)
    os.ftruncate(fd, len(got) // RECORD * RECORD)
    os.fsync(fd)
    os.close(fd)
    s["log"] = [kept, len(got) // RECORD]
    got = read(os.path.join(d, "rnd"))
    if len(got) != PIECE * PIECES:
        raise Wrong("rnd: %d bytes" % len(got))
    for p, (kept, begun) in enumerate(s["pieces"]):
        seen = set(got[p * PIECE:(p + 1) * PIECE])
        if not seen <= {kept, begun}:
            raise Wrong("rnd, piece %d: bytes %s, wanted %s" % (p, sorted(seen), {kept, begun}))
        if len(seen) > 1 or kept != begun:  # make it whole again
            fd = os.open(os.path.join(d, "rnd"), os.O_WRONLY)
            os.pwrite(fd, bytes([begun]) * PIECE, p * PIECE)
            os.fsync(fd)
            os.close(fd)
            s["pieces"][p] = [begun, begun]
    check_truncated(d, k, s)


def check_truncated(d, k, s):
    """Truncated and written anew: the old content, or as much of the new as there was."""
    kept, begun = s["trn"]
    got = read(os.path.join(d, "trn"))
    if got == pat((k, "trn", kept), trn_size(kept)):
        s["trn"] = [kept, kept]
        return
    if kept == begun:
        raise Wrong("trn: %d bytes, not version %d of %d bytes" % (len(got), kept, trn_size(kept)))
    want_prefix("trn", got, pat((k, "trn", begun), trn_size(begun)))
    Worker("", None, 0, None).write(os.path.join(d, "trn"), pat((k, "trn", begun), trn_size(begun)), os.O_TRUNC)
    s["trn"] = [begun, begun]


def check(mnt, state_path):
    state, bad = json.load(open(state_path)), 0
    for k in KINDS:
        try:
            check_kind(os.path.join(mnt, k, "crash"), k, state[k])
        except (Wrong, OSError) as e:
            print("%s: %s" % (k, e), file=sys.stderr)
            bad = 1
    json.dump(state, open(state_path, "w"))
    return bad


if __name__ == "__main__":
    sys.exit({"run": run, "check": check}[sys.argv[1]](*sys.argv[2:]))
