"""guard.py SECONDS COMMAND...: runs COMMAND; when it takes longer, tells where it hangs, kills the daemon
under test (DAEMON_PID), without which a process that waits for a mount cannot be ended, and fails."""
import os
import select
import signal
import subprocess
import sys


def where(pid):
    for name in ("wchan", "stack"):
        try:
            with open("/proc/%d/%s" % (pid, name)) as f:
                print("%d %s: %s" % (pid, name, f.read().strip()), file=sys.stderr)
        except OSError:
            pass


def group(leader):
    for n in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.getpgid(int(n)) == leader:
                yield int(n)
        except ProcessLookupError:
            pass


def main(seconds, *command):
    child = subprocess.Popen(command, start_new_session=True)
    poll = select.poll()
    poll.register(os.pidfd_open(child.pid), select.POLLIN)
    if poll.poll(float(seconds) * 1000):
        return child.wait()
    print("no end after %s s: %s" % (seconds, " ".join(command)), file=sys.stderr)
    for pid in group(child.pid):
        where(pid)
    daemon = int(os.environ.get("DAEMON_PID") or 0)
    if daemon:
        for t in os.listdir("/proc/%d/task" % daemon):
            where(int(t))
        os.kill(daemon, signal.SIGKILL)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    return 124


if __name__ == "__main__":
    try:
        code = main(*sys.argv[1:])
    except KeyboardInterrupt:
        code = 130
    sys.exit(code if code >= 0 else 128 - code)
