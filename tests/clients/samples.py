"""samples.py DIR: small files that no spillfs has made, to try the readers on, in folders of DIR:

raw/NAME.TYPE       plain elements, the truth about each other NAME
npy zarr2 zarr3 parquet split     the same in that format; split: BYTE_STREAM_SPLIT
frames              zarr2, zarr3, parquet and .zst of frames put together from raw and RLE blocks
prune               Parquet whose row groups say what is in them, some pages being garbage
"""
import json
import os
import struct
import sys

import numpy as np
import zarr
from numcodecs import Shuffle, Zstd

import parquet
from read import SPILLFS_TYPES, dtype_name

COUNT = 20011
PER_CHUNK = 4096
RECORD = np.dtype([("pos", "<u4"), ("lcp", "<u4")])
ZARR3 = {"i": "int%d", "u": "uint%d", "f": "float%d", "c": "complex%d", "V": "r%d"}
BLOCK = 128 << 10


def sample(dtype: np.dtype, seed: int) -> np.ndarray:
    """Values of which every byte tells, compressible here and there; floats with all that is special."""
    random = np.random.default_rng(seed)
    if dtype.kind == "b":
        return random.integers(0, 2, COUNT).astype(bool)
    if dtype.kind in "fc":
        array = (random.standard_normal(COUNT) * 1000).astype(dtype)
        array[5000:9000] = 0.25
        array[:6] = [np.nan, np.inf, -np.inf, -0.0, 0.0, np.finfo(dtype).tiny / 2]
        return array
    array = np.frombuffer(random.bytes(COUNT * dtype.itemsize), dtype).copy()
    array[5000:9000] = array[5000]
    return array


# ---- frames --------------------------------------------------------------------------------------

def frame_of_blocks(data: bytes, block: int = BLOCK) -> bytes:
    """A zstd frame without checksum: blocks as they are, those of one byte repeated as RLE."""
    out = struct.pack("<IBBI", 0xFD2FB528, 0x80, 0x38, len(data))
    for start in range(0, len(data), block):
        part = data[start:start + block]
        repeated = part.count(part[:1]) == len(part)
        head = len(part) << 3 | (2 if repeated else 0) | (start + block >= len(data))
        out += struct.pack("<I", head)[:3] + (part[:1] if repeated else part)
    return out


def frame(data: bytes) -> bytes:
    return bytes(Zstd(3).encode(data))


# ---- formats -------------------------------------------------------------------------------------

def write_zarr2(path: str, array: np.ndarray) -> None:
    filters = [Shuffle(array.itemsize)] if array.dtype.kind in "fcV" else None
    out = zarr.create(array.shape, chunks=PER_CHUNK, dtype=array.dtype, compressor=Zstd(3), filters=filters,
                      fill_value=None, store=path)
    out[...] = array


def write_zarr3(path: str, array: np.ndarray, chunk: int, make_frame) -> None:
    kind, bits = array.dtype.kind, array.itemsize * 8
    codecs: list = [{"name": "bytes", "configuration": {"endian": "little"}},
                    {"name": "zstd", "configuration": {"level": 3, "checksum": False}}]
    meta = {"zarr_format": 3, "node_type": "array", "shape": [array.size], "fill_value": False if kind == "b" else 0,
            "data_type": "bool" if kind == "b" else ZARR3[kind] % bits, "codecs": codecs, "attributes": {},
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [chunk]}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}}}
    os.makedirs(path + "/c")
    with open(path + "/zarr.json", "w") as f:
        json.dump(meta, f)
    for start in range(0, array.size, chunk):
        part = np.zeros(chunk, array.dtype)
        part[:array.size - start] = array[start:start + chunk]
        with open("%s/c/%d" % (path, start // chunk), "wb") as f:
            f.write(make_frame(part.tobytes()))


def write_types(name: str, array: np.ndarray, unit: str = "") -> None:
    np.save("npy/%s.npy" % name, array)
    write_zarr2("zarr2/" + name, array)
    plain = array.view("<i8") if unit else array
    write_zarr3("zarr3/" + name, plain, PER_CHUNK, frame)
    column = parquet.Column("x", plain.dtype, unit)
    parquet.write("parquet/%s.parquet" % name, [column], [[column.chunk(plain, PER_CHUNK, frame)]])
    if plain.dtype.kind != "b":
        parquet.write("split/%s.parquet" % name, [column], [[column.chunk(plain, PER_CHUNK, frame, True)]])


def write_frames() -> None:
    array = sample(np.dtype("<f8"), 99)[:BLOCK // 8]
    array = np.concatenate([array, np.zeros(2 * array.size), array[::-1]])
    array.tofile("frames/x.f64")
    whole = frame_of_blocks(array.tobytes())
    with open("frames/x.zst", "wb") as f:
        f.write(whole)
    column = parquet.Column("x", array.dtype)
    parquet.write("frames/x.parquet", [column], [[column.chunk(array, array.size, frame_of_blocks)]])
    write_zarr3("frames/zarr3", array, array.size, frame_of_blocks)
    zarr.create(array.shape, chunks=array.size, dtype="<f8", compressor=Zstd(3), store="frames/zarr2")
    with open("frames/zarr2/0", "wb") as f:
        f.write(whole)


def write_prune() -> None:
    """Four row groups, the k-th of numbers from 10k to 10k + 1; all but the last are garbage."""
    column = parquet.Column("x", np.dtype("<f8"))
    parts = [np.linspace(10 * k, 10 * k + 1, 1000) for k in range(4)]
    pages = [column.page(part, lambda body: b"garbage") for part in parts[:3]] + [column.page(parts[3], frame)]
    parquet.write("prune/stats.parquet", [column], [
        [parquet.Chunk([page], column.bounds(part))] for page, part in zip(pages, parts)])
    parquet.write("prune/none.parquet", [column], [[parquet.Chunk([page])] for page in pages])
    # A NaN is above all numbers to DuckDB: its group is read when it says nothing, and missed when it does.
    parts[1][7] = np.nan
    pages[1] = column.page(parts[1], frame)
    bounds = [column.bounds(np.sort(part)[:999]) for part in parts]
    for name, skip in (("nan", 1), ("nan-bounds", -1)):
        parquet.write("prune/%s.parquet" % name, [column], [
            [parquet.Chunk([page], None if k == skip else bounds[k])] for k, page in enumerate(pages)])


def main(out: str) -> None:
    os.chdir(out)
    for folder in ("raw", "npy", "zarr2", "zarr3", "parquet", "split", "frames", "prune"):
        os.mkdir(folder)
    for seed, (name, dtype) in enumerate(SPILLFS_TYPES.items()):
        array = sample(np.dtype(dtype), seed)
        array.tofile("raw/%s.%s" % (name, name))
        write_types(name, array)
    array = sample(RECORD, 50)
    assert dtype_name(array.dtype) == "|V8"
    array.tofile("raw/record.pos:u32,lcp:u32")
    write_types("record", array)
    for unit in ("ms", "us", "ns"):
        array = (np.arange(COUNT) * 10**9 + 1_234_567_891).astype("<M8[%s]" % unit)
        array.tofile("raw/time%s.i64" % unit)
        write_types("time" + unit, array, unit)
    write_frames()
    write_prune()


if __name__ == "__main__":
    main(sys.argv[1])
