"""Parquet files by hand: required columns, version 1 data pages whose bodies are given, statistics as one likes."""
import struct
from typing import NamedTuple, Optional

import numpy as np

PHYSICAL = {"BOOLEAN": 0, "INT32": 1, "INT64": 2, "FLOAT": 4, "DOUBLE": 5, "FIXED_LEN_BYTE_ARRAY": 7}
PLAIN, RLE, BYTE_STREAM_SPLIT = 0, 3, 9
UNCOMPRESSED, ZSTD = 0, 6
# The converted type of an integer of so many bits; signed ones follow the unsigned.
CONVERTED = {("u", 1): 11, ("u", 2): 12, ("u", 4): 13, ("u", 8): 14, ("i", 1): 15, ("i", 2): 16}


# ---- Thrift's compact protocol: a value is its type and its bytes ----------------------------------

class Value(NamedTuple):
    kind: int
    data: bytes


def varint(n: int) -> bytes:
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def zigzag(n: int) -> bytes:
    return varint((n << 1) ^ (n >> 63))


def i32(n: int) -> Value:
    return Value(5, zigzag(n))


def i64(n: int) -> Value:
    return Value(6, zigzag(n))


def byte(n: int) -> Value:
    return Value(3, bytes([n]))


def boolean(yes: bool) -> Value:
    return Value(1 if yes else 2, b"")


def binary(data) -> Value:
    data = data.encode() if isinstance(data, str) else data
    return Value(8, varint(len(data)) + data)


def record(fields: dict) -> Value:
    out, last = b"", 0
    for number, value in sorted(fields.items()):
        if value is not None:
            out += bytes([number - last << 4 | value.kind]) + value.data
            last = number
    return Value(12, out + b"\0")


def values(kind: int, items: list) -> Value:
    head = bytes([len(items) << 4 | kind]) if len(items) < 15 else bytes([0xF0 | kind]) + varint(len(items))
    return Value(9, head + b"".join(item.data for item in items))


# ---- columns -----------------------------------------------------------------------------------

class Page(NamedTuple):
    count: int
    plain_bytes: int
    body: bytes
    encoding: int


class Chunk(NamedTuple):
    pages: list
    bounds: Optional[tuple] = None  # least and greatest, as bytes
    exact: bool = False


class Column:
    """What the schema says of arrays of a dtype, and how their elements are stored."""

    def __init__(self, name: str, dtype: np.dtype, unit: str = ""):
        self.name, self.dtype = name, dtype
        kind, size = dtype.kind, dtype.itemsize
        self.physical = {"b1": "BOOLEAN", "f4": "FLOAT", "f8": "DOUBLE", "i8": "INT64", "u8": "INT64"}.get(
            kind + str(size), "INT32" if kind in "iu" else "FIXED_LEN_BYTE_ARRAY")
        self.converted = CONVERTED.get((kind, size))
        self.logical = None
        if self.converted is not None:
            self.logical = record({10: record({1: byte(size * 8), 2: boolean(kind == "i")})})
        elif kind == "f" and size == 2:
            self.logical = record({15: record({})})
        elif unit:
            units = record({{"ms": 1, "us": 2, "ns": 3}[unit]: record({})})
            self.logical = record({8: record({1: boolean(False), 2: units})})

    def element(self) -> Value:
        length = i32(self.dtype.itemsize) if self.physical == "FIXED_LEN_BYTE_ARRAY" else None
        return record({1: i32(PHYSICAL[self.physical]), 2: length, 3: i32(0), 4: binary(self.name),
                       6: None if self.converted is None else i32(self.converted), 10: self.logical})

    def store(self, array: np.ndarray) -> bytes:
        if self.physical == "BOOLEAN":
            return np.packbits(array, bitorder="little").tobytes()
        return array.astype("<" + self.dtype.kind + "4" if self.physical == "INT32" else self.dtype).tobytes()

    def page(self, array: np.ndarray, frame=None, split: bool = False) -> Page:
        """A page of these elements, the body a frame made of them, or plain."""
        body = self.store(array)
        if split:
            body = np.frombuffer(body, "u1").reshape(array.size, -1).T.tobytes()
        return Page(array.size, len(body), frame(body) if frame else body, BYTE_STREAM_SPLIT if split else PLAIN)

    def chunk(self, array: np.ndarray, per_page: int, frame=None, split: bool = False) -> Chunk:
        return Chunk([self.page(array[i:i + per_page], frame, split) for i in range(0, array.size, per_page)])

    def bounds(self, array: np.ndarray) -> tuple:
        return self.store(array.min()), self.store(array.max())


# ---- the file ------------------------------------------------------------------------------------

def put_chunk(out: bytearray, column: Column, chunk: Chunk, codec: int) -> Value:
    """Appends the pages; returns the chunk's metadata."""
    start, plain = len(out), 0
    for page in chunk.pages:
        data = record({1: i32(page.count), 2: i32(page.encoding), 3: i32(RLE), 4: i32(RLE)})
        head = record({1: i32(0), 2: i32(page.plain_bytes), 3: i32(len(page.body)), 5: data}).data
        out += head + page.body
        plain += len(head) + page.plain_bytes
    stats = None
    if chunk.bounds:
        exact = boolean(True) if chunk.exact else None
        stats = record({3: i64(0), 5: binary(chunk.bounds[1]), 6: binary(chunk.bounds[0]), 7: exact, 8: exact})
    encodings = sorted({RLE} | {page.encoding for page in chunk.pages})
    return record({2: i64(0), 3: record({
        1: i32(PHYSICAL[column.physical]), 2: values(5, [i32(e) for e in encodings]),
        3: values(8, [binary(column.name)]), 4: i32(codec), 5: i64(sum(page.count for page in chunk.pages)),
        6: i64(plain), 7: i64(len(out) - start), 9: i64(start), 12: stats})})


def write(path: str, columns: list, groups: list, codec: int = ZSTD) -> None:
    """Each group has a chunk for each column."""
    out, described, total = bytearray(b"PAR1"), [], 0
    for group in groups:
        start, rows = len(out), sum(page.count for page in group[0].pages)
        chunks = [put_chunk(out, column, chunk, codec) for column, chunk in zip(columns, group)]
        described.append(record({1: values(12, chunks), 2: i64(len(out) - start), 3: i64(rows)}))
        total += rows
    root = record({4: binary("schema"), 5: i32(len(columns))})
    order = values(12, [record({1: record({})}) for _ in columns])
    footer = record({1: i32(2), 2: values(12, [root] + [c.element() for c in columns]), 3: i64(total),
                     4: values(12, described), 6: binary("by hand"), 7: order}).data
    with open(path, "wb") as f:
        f.write(out + footer + struct.pack("<I", len(footer)) + b"PAR1")
