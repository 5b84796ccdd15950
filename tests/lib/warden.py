"""For the tests of the warden: warden.py COMMAND ARGS.

    stuck PID NAME N     until the daemon's thread NAME waits in the kernel for good (state D), and so do N others; loop: one that serves
                         requests, which libfuse 3.17 gives a name of its own
    looked PID N         until the warden PID has looked N times
    traced PID WARDEN    traces PID until its warden has looked three times
    left PID             what a process holds, a line each: descriptors, capabilities, directory, session, locked memory"""
import ctypes
import os
import sys
import time

PTRACE_ATTACH = 16
WALL = 0x40000000


def read(path):
    with open(path, encoding="utf-8", errors="replace") as f:
        return f.read()


def field(pid, name):
    return next(line.split(":")[1].strip() for line in read("/proc/%s/status" % pid).splitlines() if line.startswith(name + ":"))


def states(pid):
    """Name and state of each thread."""
    for t in os.listdir("/proc/%s/task" % pid):
        name, rest = read("/proc/%s/task/%s/stat" % (pid, t)).rsplit(")", 1)
        yield name.split("(", 1)[1], rest.split()[0]


def stuck(pid, name, others):
    names = ("spillfs", "fuse_worker") if name == "loop" else (name,)
    while True:
        waits = [n for n, state in states(pid) if state == "D"]
        if any(n in waits for n in names) and len(waits) > int(others):
            return
        time.sleep(0.02)


def looked(pid, n):
    end = int(field(pid, "voluntary_ctxt_switches")) + int(n)
    while int(field(pid, "voluntary_ctxt_switches")) < end:
        time.sleep(0.05)


def traced(pid, warden):
    """All threads stand still, as under a debugger."""
    libc = ctypes.CDLL(None, use_errno=True)
    for t in map(int, os.listdir("/proc/%s/task" % pid)):
        assert libc.ptrace(PTRACE_ATTACH, t, None, None) == 0, os.strerror(ctypes.get_errno())
        os.waitpid(t, WALL)
    looked(warden, 3)


def left(pid):
    print("fds", *sorted(os.readlink("/proc/%s/fd/%s" % (pid, fd)).split(":")[0] for fd in os.listdir("/proc/%s/fd" % pid)))
    print("capabilities", *{field(pid, "Cap" + kind) for kind in ("Eff", "Prm", "Inh", "Amb")}, field(pid, "NoNewPrivs"))
    print("cwd", os.readlink("/proc/%s/cwd" % pid))
    print("leads", os.getsid(int(pid)) == int(pid))
    print("locked", field(pid, "VmLck"))


if __name__ == "__main__":
    {"stuck": stuck, "looked": looked, "traced": traced, "left": left}[sys.argv[1]](*sys.argv[2:])
