"""For the tests of a daemon that is stopped, frozen or has no memory, and of clients that are stopped: daemon.py COMMAND ARGS.

    wait-for PID          until that process, or a child of it, waits in the kernel for the daemon, or for one that does
    hold DIR SIGNAL       holds locks, mappings, unlinked and half-written files in DIR, makes SIGNAL.held, and stops; when it is
                          continued, all is as it was
    beside DIR            what others do meanwhile
    freeze CONTROL, thaw CONTROL    the control group whose file that is stands still, or goes on, when this returns
    blink CONTROL COMMAND...        runs the command; meanwhile freezes the group again and again, until a process of the command waits
    stops COMMAND...      runs the command; meanwhile stops one of its children after the other, each for a moment
    starve MNT PID        uses a mount whose daemon cannot have more memory; then it can again"""
import errno
import fcntl
import mmap
import os
import resource
import signal
import struct
import subprocess
import sys
import time

KINDS = ("buckets", "columns", "layers")


def lock(kind, start, n):
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, start, n, 0)


def family(pid):
    """The process and those below it."""
    parents = {}
    for n in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % n) as f:
                parents[n] = f.read().rpartition(")")[2].split()[1]
        except OSError:
            pass
    found = {pid}
    while True:
        more = {n for n, parent in parents.items() if parent in found} - found
        if not more:
            return found
        found |= more


def wait_for(pid):
    while True:
        for p in family(pid):
            with open("/proc/%s/wchan" % p) as where, open("/proc/%s/stat" % p) as state:
                if where.read() == "request_wait_answer" or state.read().rpartition(")")[2].split()[0] == "D":
                    return
        time.sleep(0.01)


def is_frozen(control):
    """Version 1 says FREEZING until all stand still; version 2 says it in another file."""
    with open(control if control.endswith(".state") else os.path.dirname(control) + "/cgroup.events") as f:
        return any(line.split() in (["FROZEN"], ["frozen", "1"]) for line in f)


def set_frozen(control, on):
    words = ("THAWED", "FROZEN") if control.endswith(".state") else ("0", "1")
    with open(control, "w") as f:
        f.write(words[on])
    end = time.monotonic() + 1  # a thread can wait in the kernel for what a frozen one was to do: then it never stands itself
    while is_frozen(control) != on and (not on or time.monotonic() < end):
        time.sleep(0.001)


def waits(p):
    try:
        with open("/proc/%s/wchan" % p) as where:
            return where.read() == "request_wait_answer"
    except OSError:
        return False


def blink(control, *command):
    child, n = subprocess.Popen(command), 0
    while child.poll() is None:
        set_frozen(control, True)
        end = time.monotonic() + 1  # it may have nothing to ask for
        while not any(map(waits, family(str(child.pid)))) and time.monotonic() < end:
            time.sleep(0.002)
        set_frozen(control, False)
        n += 1
        time.sleep(0.005)
    print("frozen %d times" % n)
    assert child.returncode == 0 and n >= 5, (child.returncode, n)


def stops(*command):
    child, n = subprocess.Popen(command), 0
    while child.poll() is None:
        for p in map(int, family(str(child.pid)) - {str(child.pid)}):
            try:
                os.kill(p, signal.SIGSTOP)
                time.sleep(0.03)
                os.kill(p, signal.SIGCONT)
                n += 1
            except ProcessLookupError:
                pass
        time.sleep(0.01)
    print("stopped %d times" % n)
    assert child.returncode == 0 and n >= 10, (child.returncode, n)


def hold(d, mark):
    fds = {n: os.open("%s/%s" % (d, n), os.O_RDWR | os.O_CREAT) for n in ("flock", "range", "mapped", "gone", "half")}
    fcntl.flock(fds["flock"], fcntl.LOCK_EX)
    fcntl.fcntl(fds["range"], fcntl.F_SETLK, lock(fcntl.F_WRLCK, 0, 100))
    for fd in fds.values():
        os.write(fd, b"held" * 30000)
    m = mmap.mmap(fds["mapped"], 120000)
    m[5000:5004] = b"DRTY"
    os.unlink(d + "/gone")
    listing = os.scandir(d)
    first = next(listing).name
    open(mark + ".held", "w").close()
    os.kill(os.getpid(), signal.SIGSTOP)
    assert m[5000:5004] == b"DRTY" and m[:4] == b"held"
    for name, fd in fds.items():
        want = b"held" * 30000
        if name == "mapped":
            want = want[:5000] + b"DRTY" + want[5004:]
        assert os.pread(fd, 120001, 0) == want, name
    assert os.write(fds["gone"], b"more") == 4
    for fd in fds.values():
        os.fsync(fd)
    assert first not in {e.name for e in listing}


def refused(fd, call, *args):
    try:
        call(fd, *args)
    except OSError as e:
        assert e.errno in (errno.EAGAIN, errno.EACCES), e
        return
    raise AssertionError("a lock that another process holds was given")


def beside(d):
    a, b = os.open(d + "/flock", os.O_RDWR), os.open(d + "/range", os.O_RDWR)
    refused(a, fcntl.flock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    refused(b, fcntl.fcntl, fcntl.F_SETLK, lock(fcntl.F_WRLCK, 50, 1))
    fcntl.fcntl(b, fcntl.F_SETLK, lock(fcntl.F_WRLCK, 100, 1))
    with open(d + "/mapped", "rb") as f:
        assert f.read()[5000:5004] == b"DRTY"
    for i in range(50):
        with open("%s/new%d" % (d, i), "wb") as f:
            f.write(bytes([i]) * 20000)
            os.fsync(f.fileno())
    os.rename(d + "/half", d + "/half-renamed")
    os.link(d + "/mapped", d + "/mapped-too")
    for i in range(0, 50, 2):
        os.unlink("%s/new%d" % (d, i))
    assert len(os.listdir(d)) == 4 + 1 + 25


def virtual(pid):
    with open("/proc/%d/statm" % pid) as f:
        return int(f.read().split()[0]) * mmap.PAGESIZE


def starve(mnt, pid):
    """What returned success is there; what did not says that there is no memory, or no space."""
    pid, kept, errors = int(pid), {}, {}
    for k in KINDS:
        with open("%s/%s/old" % (mnt, k), "wb") as f:
            f.write(b"old" * 100000)
            os.fsync(f.fileno())
    resource.prlimit(pid, resource.RLIMIT_AS, (virtual(pid), resource.RLIM_INFINITY))
    for i in range(8):
        for k in KINDS:
            path, data = "%s/%s/n%d" % (mnt, k, i), os.urandom(200000)
            try:
                fd = os.open(path, os.O_CREAT | os.O_RDWR)
                try:
                    os.write(fd, data)
                    os.fsync(fd)
                    kept[path] = data
                finally:
                    os.close(fd)
            except OSError as e:
                assert e.errno in (errno.ENOMEM, errno.ENOSPC, errno.EIO, errno.EAGAIN), (path, e)
                errors[e.strerror] = errors.get(e.strerror, 0) + 1
    resource.prlimit(pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print("%d files kept without more memory, errors: %s" % (len(kept), errors))
    assert errors, "the daemon did not want any more memory"
    for k in KINDS:
        with open("%s/%s/new" % (mnt, k), "wb") as f:
            f.write(b"new" * 100000)
            os.fsync(f.fileno())
        for name in ("old", "new"):
            with open("%s/%s/%s" % (mnt, k, name), "rb") as f:
                assert f.read() == name.encode() * 100000, (k, name)
    for path, data in kept.items():
        with open(path, "rb") as f:
            assert f.read() == data, path


if __name__ == "__main__":
    {"wait-for": wait_for, "hold": hold, "beside": beside, "starve": starve, "blink": blink, "stops": stops,
     "freeze": lambda control: set_frozen(control, True), "thaw": lambda control: set_frozen(control, False),
     }[sys.argv[1]](*sys.argv[2:])
