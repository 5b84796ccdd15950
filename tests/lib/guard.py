"""guard.py SECONDS[:IDLE] COMMAND...: runs COMMAND; when it takes longer, or when none of its processes has moved for IDLE
seconds, tells where each thread of them and of the daemon under test hangs (state, system call, kernel stack), kills the daemon
(DAEMON_PID, and any of a path below WORK), without which a process that waits for a mount cannot be ended, and fails with 124.
PEAKS=FILE: appends how many descriptors the daemon was seen to have at most, and its largest resident memory in KiB."""
import os
import select
import signal
import subprocess
import sys
import time

SAMPLE_S = 0.2


def read(path):
    try:
        with open(path, "rb") as f:
            return f.read().decode(errors="replace").replace("\0", " ").strip()
    except OSError:
        return ""


def tasks(pid):
    try:
        return [int(t) for t in os.listdir("/proc/%d/task" % pid)]
    except OSError:
        return []


def where(pid):
    print("process %d: %s" % (pid, read("/proc/%d/cmdline" % pid)), file=sys.stderr)
    for t in tasks(pid):
        at = "/proc/%d/task/%d/" % (pid, t)
        state = read(at + "stat").rpartition(")")[2].split()[:1]
        print("  thread %d (%s) %s, in %s, system call %s" % (t, read(at + "comm"), "".join(state), read(at + "wchan"),
                                                             read(at + "syscall")), file=sys.stderr)
        print("    " + read(at + "stack").replace("\n", "\n    "), file=sys.stderr)


def processes():
    return [int(n) for n in os.listdir("/proc") if n.isdigit()]


def group(leader):
    for n in processes():
        try:
            if os.getsid(n) == leader:
                yield n
        except ProcessLookupError:
            pass


def daemons():
    """The daemon of this test, and others that the command has started: spillfs with a path of the test."""
    known, work = int(os.environ.get("DAEMON_PID") or 0), os.environ.get("WORK") or "\n"
    for n in processes():
        line = read("/proc/%d/cmdline" % n)
        if n == known or (work + "/" in line and read("/proc/%d/comm" % n) == "spillfs"):
            yield n


def moved(leader):
    """What changes when any process of the command does: its time, its bytes, its turns."""
    figures = {}
    for pid in group(leader):
        for t in tasks(pid):
            at = "/proc/%d/task/%d/" % (pid, t)
            times = read(at + "stat").rpartition(")")[2].split()[11:13]
            switches = [v for v in read(at + "status").splitlines() if v.startswith("voluntary_ctxt")]
            figures[t] = (times, switches, read(at + "io"))
    return figures


class Peaks:
    """Of the daemon under test, while it is looked at."""

    def __init__(self):
        self.file, self.pid, self.fds, self.kib = os.environ.get("PEAKS"), os.environ.get("DAEMON_PID"), 0, 0

    def look(self):
        if not self.file or not self.pid:
            return
        try:
            self.fds = max(self.fds, len(os.listdir("/proc/%s/fd" % self.pid)))
        except OSError:
            return
        for line in read("/proc/%s/status" % self.pid).splitlines():
            if line.startswith("VmHWM"):
                self.kib = max(self.kib, int(line.split()[1]))

    def tell(self):
        self.look()
        if self.fds:
            with open(self.file, "a", encoding="ascii") as f:
                f.write("%d %d\n" % (self.fds, self.kib))


def watch(child, limit, idle, peaks):
    """None when the command has ended, or else what is wrong."""
    poll, end = select.poll(), time.monotonic() + limit
    poll.register(os.pidfd_open(child.pid), select.POLLIN)
    last, since, looked = None, time.monotonic(), 0
    while not poll.poll(max(10, min(end - time.monotonic(), idle / 4, SAMPLE_S) * 1000)):
        now = time.monotonic()
        peaks.look()
        if now >= end:
            return "no end after %g s" % limit
        if idle >= limit or now - looked < idle / 4:
            continue
        looked, seen = now, moved(child.pid)
        if seen != last:
            last, since = seen, now
        elif now - since >= idle:
            return "nothing has moved for %g s" % idle
    return None


def main(bounds, *command):
    limit, _, idle = bounds.partition(":")
    child = subprocess.Popen(command, start_new_session=True)
    peaks = Peaks()
    bad = watch(child, float(limit), float(idle or limit), peaks)
    peaks.tell()
    if bad is None:
        return child.wait()
    print("%s: %s" % (bad, " ".join(command)), file=sys.stderr)
    served, clients = list(daemons()), [p for p in group(child.pid)]
    for pid in clients + served:
        where(pid)
    sys.stderr.flush()
    for pid in served:
        os.kill(pid, signal.SIGKILL)
    for pid in clients:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    child.wait()
    return 124


if __name__ == "__main__":
    try:
        code = main(*sys.argv[1:])
    except KeyboardInterrupt:
        code = 130
    sys.exit(code if code >= 0 else 128 - code)
