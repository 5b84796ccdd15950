"""read.py FORMAT FILE...: reads it with NumPy or zarr-python; prints what it found as JSON, as read.mjs does.

npy FILE...       np.load
npy-mmap FILE...  np.load(mmap_mode="r")
zarr2 DIR...      arrays
zarr2-group DIR   every array of a group, each a column named by its path
raw FILE DTYPE [SHAPE]
                  a plain file of elements, spillfs's or NumPy's name of their type: the truth that others are
                  compared with. What follows the last whole element is left out. SHAPE: 300,400
raws FILE...      the same, the type taken from the name's suffix
"""
import hashlib
import json
import math
import os
import sys

import numpy as np

# spillfs counts bits where NumPy counts bytes: u8 is a byte here.
SPILLFS_TYPES = {
    "i8": "|i1", "i16": "<i2", "i32": "<i4", "i64": "<i8", "u8": "|u1", "u16": "<u2", "u32": "<u4", "u64": "<u8",
    "f16": "<f2", "f32": "<f4", "f64": "<f8", "c64": "<c8", "c128": "<c16", "bool": "|b1",
}
PIECE = 1 << 18


def dtype_of(name: str) -> np.dtype:
    """The dtype of a name as spillfs has it (f64, pos:u32,lcp:u32), else NumPy's."""
    if ":" in name:
        fields = [field.split(":") for field in name.split(",")]
        return np.dtype([(field, SPILLFS_TYPES[kind]) for field, kind in fields])
    return np.dtype(SPILLFS_TYPES.get(name, name))


def dtype_name(dtype: np.dtype) -> str:
    return dtype.str if dtype.names is None else "|V%d" % dtype.itemsize


def number(value) -> str:
    return repr(float(value)) if isinstance(value, (float, np.floating)) else str(int(value))


def tally(flat: np.ndarray) -> dict:
    """Sum, least and greatest, NaN left out of the latter two; nothing for what has no order."""
    if flat.dtype.kind in "cV":
        return {}
    if flat.dtype.kind in "mM":
        flat = flat.view("<i8")
    if flat.dtype.kind == "f":
        pieces = [math.fsum(piece) if np.isfinite(piece).all() else float(np.sum(piece, dtype="f8"))
                  for piece in np.array_split(flat.astype("f8"), flat.size // PIECE + 1)]
        ordered = flat[~np.isnan(flat)]
        total = float(np.sum(pieces))
    else:
        ordered = flat
        # A sum of 64-bit integers needs more than 64 bits: halves of 32 bits each do not.
        wide = flat.astype("<u8") if flat.dtype.kind in "bu" else flat.astype("<i8")
        total = (int(np.sum(wide >> 32)) << 32) + int(np.sum(wide & 0xFFFFFFFF))
    if not ordered.size:
        return {"sum": number(total)}
    return {"sum": number(total), "min": number(ordered.min()), "max": number(ordered.max())}


def column(name: str, array: np.ndarray, **more) -> dict:
    """What is said about one array; its bytes in C order, little-endian."""
    dtype = array.dtype.newbyteorder("<")
    flat = np.ascontiguousarray(array).astype(dtype, copy=False).reshape(-1)
    with np.errstate(all="ignore"):
        said = tally(flat)
    return {"name": name, "type": str(array.dtype), "dtype": dtype_name(dtype), "count": int(array.size), "nulls": 0,
            "shape": list(array.shape), **more, **said,
            "sha256": hashlib.sha256(flat.view("u1") if flat.size else b"").hexdigest()}


def stem(path: str) -> str:
    return os.path.splitext(os.path.basename(os.path.normpath(path)))[0]


def read_npy(path: str, mmap_mode=None) -> list:
    array = np.load(path, mmap_mode=mmap_mode, allow_pickle=False)
    more = {}
    if mmap_mode:
        assert isinstance(array, np.memmap), "not mapped"
        more = {"offset": array.offset, "aligned": bool(array.flags.aligned)}
    return [column(stem(path), array, order="F" if np.isfortran(array) else "C", **more)]


def read_zarr2(path: str) -> list:
    import zarr
    array = zarr.open_array(path, mode="r")
    codec = array.compressor.get_config() if array.compressor else None
    filters = [f.get_config() for f in array.filters or []]
    return [column(stem(path), array[...], chunks=list(array.chunks), order=array.order, compressor=codec,
                   filters=filters, attrs=array.attrs.asdict())]


def read_zarr2_group(path: str) -> list:
    import zarr
    found: list = []

    def walk(group, prefix=""):
        for name, array in group.arrays():
            found.append(column(prefix + name, array[...], chunks=list(array.chunks)))
        for name, child in group.groups():
            walk(child, prefix + name + "/")
    walk(zarr.open_group(path, mode="r"))
    return found


def read_raw(path: str, dtype: str, shape: str = "") -> list:
    kind = dtype_of(dtype)
    found = column(stem(path), np.fromfile(path, kind, os.stat(path).st_size // kind.itemsize))
    # A plain file has no shape of its own that a reader's could differ from.
    del found["shape"]
    return [dict(found, shape=[int(n) for n in shape.split(",")]) if shape else found]


def suffix(path: str) -> str:
    return os.path.splitext(path)[1][1:]


def read_all(read, paths) -> list:
    """The columns of several files; one that cannot be read is told as such."""
    found = []
    for path in paths:
        try:
            found += read(path)
        except Exception as error:  # readers fail in ways of their own; the test wants to see which
            found.append({"name": stem(path), "error": reason(error)})
    return found


def reason(error: Exception) -> str:
    return "%s: %s" % (type(error).__name__, error)


FORMATS = {
    "npy": lambda *paths: read_all(read_npy, paths),
    "npy-mmap": lambda *paths: read_all(lambda path: read_npy(path, "r"), paths),
    "zarr2": lambda *paths: read_all(read_zarr2, paths),
    "zarr2-group": read_zarr2_group,
    "raw": read_raw,
    "raws": lambda *paths: read_all(lambda path: read_raw(path, suffix(path)), paths),
}


def main(args: list) -> int:
    if len(args) < 2 or args[0] not in FORMATS:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        found = FORMATS[args[0]](*args[1:])
    except Exception as error:
        print(json.dumps({"error": reason(error)}))
        return 1
    failed = [c for c in found if "error" in c]
    print(json.dumps(failed[0] if failed and len(found) == 1 else {"columns": found}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
