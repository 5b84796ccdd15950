"""matrix.py MNT TRUTH small|full: arrays of every element type, kind and state, for all readers to read.

In the mount KIND/m/NAME.TYPE, and KIND/nd/NAME.TYPE of several dimensions. In TRUTH the same elements in plain files,
in C order: m/ and nd/ as it is in the end, then/ as in the snapshot `then`, which has layers/m of before the overwrites.
Names are unique and say what it is, e.g. l_f64_over_69632_mix. Element types not of the name (records, times) are
settings, and their names say record, timems...
"""
import os
import sys
from typing import Iterator, NamedTuple

import numpy as np

from read import SPILLFS_TYPES, dtype_of

# Names in TRUTH end in a type that read.py knows; times are 64-bit integers there, and to all readers but NumPy's.
TYPES = {name: (name, {}) for name in SPILLFS_TYPES}
TYPES["record"] = ("pos:u32,lcp:u32", {"dtype": "pos:u32,lcp:u32"})
TYPES["record13"] = ("a:u8,b:f64,c:u32", {"dtype": "a:u8,b:f64,c:u32"})
TYPES.update({"time" + unit: ("i64", {"dtype": "i64", "logical": "timestamp[%s]" % unit}) for unit in ("ms", "us", "ns")})
TYPES["date"] = ("i32", {"dtype": "i32", "logical": "date"})
TYPES["span"] = ("i64", {"dtype": "i64", "logical": "duration[us]"})
DECIMALS = {"decimal9": 10**9, "decimal15": 10**15}
TYPES["decimal9"] = ("i32", {"dtype": "i32", "logical": "decimal(9,2)"})
TYPES["decimal15"] = ("i64", {"dtype": "i64", "logical": "decimal(15,4)"})

# Blocks of up to 64 KiB are packed with others, larger ones stand alone.
BLOCKS = {"small": (69632, 16384), "full": (4096, 65536, 262144)}
SETTINGS = {"small": ({}, {"filter": "delta+shuffle"}, {"filter": "delta+pack"}), "full": ({}, {"filter": "shuffle"}, {"codec": "none"}, {"codec": "zstd:9", "filter": "none"}, {"filter": "delta+shuffle"},
                     {"filter": "delta", "codec": "zstd:1"}, {"filter": "delta+pack"})}


class Array(NamedTuple):
    kind: str
    name: str
    type: str       # in TRUTH
    settings: dict
    before: np.ndarray
    after: np.ndarray


def sample(dtype: np.dtype, count: int, how: str, seed: int) -> np.ndarray:
    """noise: every byte; mix: numbers that compress, stretches of zeros, and of floats all that is special."""
    random = np.random.default_rng(seed)
    if dtype.names is not None:
        array = np.zeros(count, dtype)
        for k, field in enumerate(dtype.names):
            array[field] = sample(dtype[field], count, how, seed + k)
        return array
    if dtype.kind == "b":
        return random.integers(0, 2, count).astype(bool)
    if dtype.kind in "fc" and how != "noise":
        array = (random.standard_normal(count).cumsum() * 10).astype(dtype)
    elif how == "noise" and dtype.kind not in "fc":
        return np.frombuffer(random.bytes(count * dtype.itemsize), dtype).copy()
    elif how == "noise":
        array = (random.standard_normal(count) * 1e4).astype(dtype)
    else:
        array = (random.integers(-5, 6, count).cumsum() + 50).astype(dtype)
    array[count // 3:count // 2] = 0
    if dtype.kind in "fc" and count > 10:
        array[:6] = [np.nan, np.inf, -np.inf, -0.0, 0.0, np.finfo(dtype).tiny / 2]
    return array


def times(array: np.ndarray, name: str) -> np.ndarray:
    """Times that all readers can tell: years 1970 to 2100; decimals of no more digits than they have."""
    if name in DECIMALS:
        return np.sign(array) * (np.abs(array) % DECIMALS[name])
    if name.startswith(("time", "span")):
        scale = {"s": 10**9, "us": 10**6, "ns": 1}.get(name[4:], 1000)
        return np.abs(array) % (4 * 10**9) * scale
    return np.abs(array) % 40000 if name == "date" else array


def overwritten(array: np.ndarray, fresh: np.ndarray) -> np.ndarray:
    """An element, a range over the borders of blocks, and more at the end."""
    n = len(array)
    after = np.concatenate([array, fresh[:n // 5]])
    after[n // 7:n // 7 + 1] = fresh[:1]
    after[n // 4:n // 4 + n // 3] = fresh[n // 4:n // 4 + n // 3]
    return after


def of_type(kind: str, name: str, few: bool, block: int, settings: dict, how: str, tag: str) -> Iterator[Array]:
    """One type's arrays: empty, one element, a block, many blocks with a short last one, overwritten."""
    text, own = TYPES[name]
    dtype = dtype_of(text)
    settings = {**own, **settings}
    per = (block or 65536) // dtype.itemsize
    counts = {"many": per * 2 + per // 3 + 1, "over": per * 2 + 7}
    if not few:
        counts.update({"empty": 0, "one": 1})
        if block:
            counts["block"] = per
    for state, count in counts.items():
        seed = sum(map(ord, kind + name + state + tag))
        before = times(sample(dtype, count, how, seed), name)
        after = before
        if state == "over":
            after = overwritten(before, times(sample(dtype, count, "noise" if how == "mix" else "mix", seed + 9), name))
        yield Array(kind, "%s_%s_%s%s" % (kind[0], name, state, tag), text, settings, before, after)


def arrays(size: str) -> Iterator[Array]:
    for name in TYPES:
        for kind in ("buckets", "columns"):
            yield from of_type(kind, name, size == "small" and kind == "columns", 0, {}, "mix", "")
        for k, block in enumerate(BLOCKS[size]):
            for j, settings in enumerate(SETTINGS[size]):
                for how in ("mix", "noise") if size == "full" and not j else ("mix",):
                    few = j > 0 or how == "noise" or (k > 0 and size == "small")
                    made = of_type("layers", name, few, block, {"block_size": block, **settings}, how,
                                   "_%d_%s%d" % (block, how, j))
                    yield from made if not j else list(made)[1:]


def dimensions() -> Iterator[tuple]:
    """(kind, name, type, settings, array in its order)"""
    for kind in ("buckets", "columns", "layers"):
        for shape in ((), (0, 3), (3, 0), (1, 1), (301, 57), (57, 301), (11, 12, 130), (1, 40000), (40000, 1)):
            for order in "CF":
                for name in ("f64", "u8", "i16"):
                    settings = {"shape": ",".join(map(str, shape)) or "()", "order": order}
                    if kind == "layers":
                        settings.update(block_size=131072, filter={"u8": "delta", "i16": "delta+shuffle"}.get(name, "auto"))
                    count = int(np.prod(shape))
                    array = sample(dtype_of(name), count, "mix", 3).reshape(shape)
                    title = "%s_%s_%s%s" % (kind[0], name, "x".join(map(str, shape)), order)
                    yield kind, title, name, settings, array


def write(path: str, settings: dict, data: bytes, off: int = 0) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    for key, value in settings.items():
        os.setxattr(path, "user.spillfs." + key, str(value).encode())
    while data:
        done = os.pwrite(fd, data, off)
        off += done
        data = data[done:]
    os.close(fd)


def change(path: str, before: np.ndarray, after: np.ndarray) -> None:
    """Only the elements that differ, in ranges."""
    size = before.dtype.itemsize
    a, b = before.tobytes(), after.tobytes()
    parts = [(n, n + 1) for n in (len(before) // 7,)] + [(len(before) // 4, len(before) // 4 + len(before) // 3)]
    for first, last in parts + [(len(before), len(after))]:
        write(path, {}, b[first * size:last * size], first * size)
    assert len(b) >= len(a)


def main(mnt: str, truth: str, size: str) -> None:
    for d in ("m", "nd", "then"):
        os.makedirs(truth + "/" + d)
    for kind in ("buckets", "columns", "layers"):
        for d in ("m", "nd"):
            os.makedirs("%s/%s/%s" % (mnt, kind, d))
    made = list(arrays(size))

    def path(a: Array) -> str:
        return "%s/%s/m/%s%s" % (mnt, a.kind, a.name, "" if "dtype" in a.settings else "." + a.type)
    for a in made:
        write(path(a), a.settings, a.before.tobytes())
        a.after.tofile("%s/m/%s.%s" % (truth, a.name, a.type))
        if a.kind == "layers":
            a.before.tofile("%s/then/%s.%s" % (truth, a.name, a.type))
    os.mkdir(mnt + "/snapshots/then")
    for a in made:
        if a.after is not a.before:
            change(path(a), a.before, a.after)
    for kind, name, kind_of, settings, array in dimensions():
        write("%s/%s/nd/%s.%s" % (mnt, kind, name, kind_of), settings, array.tobytes(order=settings["order"]))
        array.tofile("%s/nd/%s.%s" % (truth, name, kind_of))


if __name__ == "__main__":
    main(*sys.argv[1:])
