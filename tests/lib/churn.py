#!/usr/bin/env python3
"""Files come, grow and go at random; says how much more than they hold a store takes.

    churn.py FOLDER POOL STEPS SEED   STEPS changes in FOLDER. After every 50, a sync, and the bytes that the files of the directory POOL take on
                                     the disk are compared with those that the files of FOLDER hold. Prints the largest excess over
                                     1.3 times these and 64 MiB for each file of POOL (at most 0: that holds), the largest
                                     ratio; what is held and taken at the end; and what is taken once all is deleted.
"""
import os
import random
import sys


def taken(top):
    return sum(os.stat(os.path.join(top, n)).st_blocks * 512 for n in os.listdir(top))


def main(folder, pool, steps, seed):
    rnd = random.Random(int(seed))
    noise = rnd.randbytes(1 << 20)
    live, worst, peak, n = {}, -(1 << 62), 0, 0
    root = os.open(os.path.join(folder, ".."), os.O_RDONLY)
    for step in range(int(steps)):
        way = rnd.random()
        if way < 0.35 or not live:
            n += 1
            live[f"f{n}"] = 0
            open(os.path.join(folder, f"f{n}"), "xb").close()
        name = rnd.choice(list(live))
        path = os.path.join(folder, name)
        if way < 0.75:
            with open(path, "ab") as f:
                for _ in range(rnd.randrange(1, 6)):
                    size = rnd.choice([100, 5000, 60000, 700000])
                    f.write(noise[:size])
                    live[name] += size
        elif sum(live.values()) > 100 << 20 or rnd.random() < 0.5:
            os.unlink(path)
            del live[name]
        if step % 50 == 49:
            os.fsync(root)
            bound = 13 * sum(live.values()) // 10 + (64 << 20) * len(os.listdir(pool))
            worst = max(worst, taken(pool) - bound)
            peak = max(peak, taken(pool) / max(1, sum(live.values())))
    os.fsync(root)
    print(worst, f"{peak:.2f}", sum(live.values()), taken(pool))
    for name in live:
        os.unlink(os.path.join(folder, name))
    os.fsync(root)
    os.fsync(root)
    print(taken(pool))


main(*sys.argv[1:])
