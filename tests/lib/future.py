"""A store as a later version may leave it: future.py STORE PATH BLOCK FILTER gives a block of layers/PATH another filter number.

The entry is changed in the index of the newest sealed layer, which has to hold the array; checksum, seek table and the row of meta.db
follow (docs/FORMAT.md). The store is not mounted. Needs zstd(1).
"""
import os
import struct
import subprocess
import sys
import tempfile

import damage

HEAD, RECORD, ENTRY = 104, 128, 64
P1, P2, P3, P4, P5 = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)
MASK = (1 << 64) - 1


def rotl(x, n):
    return (x << n | x >> 64 - n) & MASK


def round64(acc, lane):
    return rotl((acc + lane * P2) & MASK, 31) * P1 & MASK


def xxh64(data):
    n, at = len(data), 0
    if n >= 32:
        v = [(P1 + P2) & MASK, P2, 0, -P1 & MASK]
        while at + 32 <= n:
            v = [round64(a, lane) for a, lane in zip(v, struct.unpack_from("<4Q", data, at))]
            at += 32
        h = (rotl(v[0], 1) + rotl(v[1], 7) + rotl(v[2], 12) + rotl(v[3], 18)) & MASK
        for a in v:
            h = ((h ^ round64(0, a)) * P1 + P4) & MASK
    else:
        h = P5
    h = (h + n) & MASK
    while at + 8 <= n:
        h = (rotl(h ^ round64(0, struct.unpack_from("<Q", data, at)[0]), 27) * P1 + P4) & MASK
        at += 8
    if at + 4 <= n:
        h = (rotl(h ^ struct.unpack_from("<I", data, at)[0] * P1 & MASK, 23) * P2 + P3) & MASK
        at += 4
    for byte in data[at:]:
        h = rotl(h ^ byte * P5 & MASK, 11) * P1 & MASK
    h = (h ^ h >> 33) * P2 & MASK
    h = (h ^ h >> 29) * P3 & MASK
    return h ^ h >> 32


def zstd(data, *options):
    with tempfile.NamedTemporaryFile() as f:
        f.write(data)
        f.flush()
        return subprocess.run(["zstd", "-qc", *options, f.name], stdout=subprocess.PIPE, check=True).stdout


def edit(body, nrecords, path, block, number):
    """Sets the filter of one entry; how many were found."""
    at = found = 0
    for _ in range(nrecords):
        length = struct.unpack_from("<I", body, at)[0]
        nblocks, ntombs = struct.unpack_from("<QQ", body, at + 32)
        name = at + RECORD + ENTRY * nblocks + 16 * ntombs
        if body[name:name + struct.unpack_from("<H", body, at + 104)[0]] == path:
            for entry in range(at + RECORD, at + RECORD + ENTRY * nblocks, ENTRY):
                if struct.unpack_from("<Q", body, entry)[0] == block:
                    body[entry + 40] = number
                    found += 1
        at += length
    return found


def main(store, path, block, number):
    with open(os.path.join(store, "layers", "HEAD")) as f:
        layer = f.read().strip()
    with open(os.path.join(store, "layers", layer), "rb") as f:
        data = f.read()
    nframes = struct.unpack_from("<I", data, len(data) - 9)[0]
    seek = data[-(8 + 8 * nframes + 9):]
    length = struct.unpack_from("<I", seek, 8 * nframes)[0]
    begin = len(data) - len(seek) - length
    head = bytearray(data[begin + 8:begin + 8 + HEAD])
    body = bytearray(zstd(data[begin + 8 + HEAD:begin + length], "-d"))
    if not edit(body, struct.unpack_from("<Q", head, 64)[0], os.fsencode(path), int(block), int(number)):
        sys.exit("%s has no such block in %s" % (path, layer))
    packed = zstd(bytes(body))
    struct.pack_into("<Q", head, 96, 0)
    struct.pack_into("<Q", head, 96, xxh64(bytes(head) + packed))
    index = struct.pack("<II", 0x184D2A53, HEAD + len(packed)) + head + packed
    seek = seek[:8 * nframes] + struct.pack("<I", len(index)) + seek[8 * nframes + 4:]
    with open(os.path.join(store, "layers", layer), "wb") as f:
        f.write(data[:begin] + index + seek)
    damage.sql(store, "UPDATE layers SET bytes=%d WHERE number=%d" % (begin + len(index) + len(seek), int(layer.split(".")[0])))


if __name__ == "__main__":
    main(*sys.argv[1:])
