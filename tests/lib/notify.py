"""notify.py LOG COMMAND...: starts a daemon in the foreground mode with its output in LOG, returns and
prints its pid when it has sent READY=1 to NOTIFY_SOCKET; fails if it ends before."""
import os
import select
import socket
import subprocess
import sys
import tempfile


def main(log, *command):
    with tempfile.TemporaryDirectory() as d:
        s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        s.bind(os.path.join(d, "notify"))
        env = dict(os.environ, NOTIFY_SOCKET=os.path.join(d, "notify"))
        with open(log, "ab") as out:
            child = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=out,
                                     stderr=out, close_fds=True, start_new_session=True)
        pidfd = os.pidfd_open(child.pid)
        poll = select.poll()
        poll.register(s, select.POLLIN)
        poll.register(pidfd, select.POLLIN)
        while True:
            ready = [fd for fd, _ in poll.poll()]
            if s.fileno() in ready and b"READY=1" in s.recv(4096).split(b"\n"):
                print(child.pid)
                return 0
            if pidfd in ready:
                sys.stderr.write(open(log, errors="replace").read())
                return child.wait() or 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
