"""realdata.py pcm|grid|words SOURCE OUT: arrays and text taken out of Debian's packages."""
import array
import os
import struct
import sys


def pcm(raw):
    """The samples of a .sf2: RIFF 'sfbk' > LIST 'sdta' > 'smpl', 16-bit little-endian."""
    assert raw[:4] == b"RIFF" and raw[8:12] == b"sfbk", "no soundfont"
    pos = 12
    while pos < len(raw):
        tag, size = raw[pos:pos + 4], struct.unpack_from("<I", raw, pos + 4)[0]
        if tag == b"LIST" and raw[pos + 8:pos + 12] == b"sdta":
            pos += 12
            continue
        if tag == b"smpl":
            return raw[pos + 8:pos + 8 + size]
        pos += 8 + size + (size & 1)
    raise SystemExit("no smpl chunk")


def grid(raw):
    """The heights of a .gtx: 40 bytes of header (4 doubles, rows, columns), big-endian float32."""
    rows, columns = struct.unpack_from(">ii", raw, 32)
    out = array.array("f", raw[40:40 + 4 * rows * columns])
    assert len(out) == rows * columns
    if sys.byteorder == "little":
        out.byteswap()
    return out.tobytes()


def main(what, source, out):
    raw = open(source, "rb").read()
    data = {"pcm": pcm, "grid": grid, "words": lambda r: r}[what](raw)
    tmp = "%s.%d" % (out, os.getpid())
    with open(tmp, "wb") as f:
        f.write(data)
    os.rename(tmp, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
