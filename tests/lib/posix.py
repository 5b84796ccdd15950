"""posix.py NAME DIR...: one check of POSIX behaviour in a fresh directory of each DIR. Checks are the
functions of posix_names.py, posix_attrs.py, posix_data.py; all hold on ext4. -l lists them."""
import os
import shutil
import sys
import traceback

import posix_attrs
import posix_data
import posix_names


def checks():
    for module in (posix_names, posix_attrs, posix_data):
        for name, f in vars(module).items():
            if callable(f) and f.__module__ == module.__name__ and not name.startswith("_"):
                yield name, f


def run(name, check, directory):
    directory = os.path.join(directory, name)
    os.mkdir(directory)
    os.umask(0o022)
    check(directory)
    os.chdir("/")
    shutil.rmtree(directory)


def main(name, *directories):
    if name == "-l":
        print("\n".join(n for n, _ in checks()))
        return 0
    check, failed = dict(checks())[name], 0
    for d in directories:
        pid = os.fork()  # so that one kind's failure leaves the others to be seen
        if pid == 0:
            try:
                run(name, check, d)
                os._exit(0)
            except BaseException:
                print("--- %s in %s" % (name, d), file=sys.stderr)
                traceback.print_exc()
                sys.stderr.flush()
            os._exit(1)
        failed |= os.waitpid(pid, 0)[1]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
