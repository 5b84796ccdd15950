"""realdata.py WHAT SOURCE OUT: arrays and text taken out of Debian's packages (WHAT: a key of OF_FILES or OF_PATHS, below)."""
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


def shifts(raw):
    """The nodes of an NTv2 .gsb: in each sub-grid, behind 11 records of 16 bytes, records of four little-endian float32."""
    pos, out = 11 * 16, b""
    while raw[pos:pos + 8] == b"SUB_NAME":
        count = struct.unpack_from("<i", raw, pos + 10 * 16 + 8)[0]
        pos += 11 * 16
        out += raw[pos:pos + 16 * count]
        pos += 16 * count
    assert out, "no sub-grid"
    return out


def little(code, values):
    out = array.array(code, values)
    if sys.byteorder == "big":
        out.byteswap()
    return out.tobytes()


def offsets(raw):
    """Where each line begins, u32."""
    return little("I", [0] + [i + 1 for i, c in enumerate(raw) if c == 10][:-1])


def lengths(raw):
    """The bytes of each line, u8."""
    return bytes(min(len(line), 255) for line in raw.split(b"\n")[:-1])


def zone(raw):
    """(times, types, offset of each type) of the 64-bit part of a TZif file (RFC 8536)."""
    isut, isstd, leap, ntimes, ntypes, nchars = struct.unpack_from(">6I", raw, 20)
    pos = 44 + ntimes * 5 + ntypes * 6 + nchars + leap * 8 + isstd + isut
    ntimes, ntypes = struct.unpack_from(">2I", raw, pos + 32)
    pos += 44
    times = struct.unpack_from(">%dq" % ntimes, raw, pos)
    types = raw[pos + 8 * ntimes:pos + 9 * ntimes]
    return times, types, [struct.unpack_from(">i", raw, pos + 9 * ntimes + 6 * k)[0] for k in range(ntypes)]


def zones(directory):
    """All zones below a directory, in the order of their names."""
    for top, dirs, files in os.walk(directory):
        dirs.sort()
        for name in sorted(files):
            with open(os.path.join(top, name), "rb") as f:
                raw = f.read()
            if raw[:4] == b"TZif" and raw[4:5] >= b"2":
                yield zone(raw)


def transitions(directory):
    """When clocks are changed, i64, zone after zone."""
    return little("q", [t for times, _, _ in zones(directory) for t in times])


def differences(directory):
    """The seconds from UTC after each change, i32."""
    return little("i", [seconds[k] for _, types, seconds in zones(directory) for k in types])


def stars(raw):
    """The stars of xplanet's catalogue: lines of declination, right ascension, magnitude, "name", BSN, HD, SAO."""
    for line in raw.decode("latin-1").splitlines():
        if line.strip() and not line.startswith("#"):
            before, _, after = line.split('"')
            yield [float(x) for x in before.split()[:3]] + [int(x) for x in after.split()[:3]]


def star(column, code):
    return lambda raw: little(code, [s[column] for s in stars(raw)])


def variable(name):
    """A variable of a NetCDF file as it is stored, neither scaled nor masked."""
    def read(path):
        import site
        site.main() # the tests' Python starts without packages
        import netCDF4
        with netCDF4.Dataset(path) as file:
            file.set_auto_maskandscale(False)
            values = file.variables[name][:]
        return values.astype(values.dtype.newbyteorder("<")).tobytes()
    return read


OF_FILES = {
    "pcm": pcm, "grid": grid, "shifts": shifts, "words": bytes, "offsets": offsets, "lengths": lengths,
    "declinations": star(0, "d"), "ascensions": star(1, "d"), "magnitudes": star(2, "f"), "numbers": star(4, "I"),
}
OF_PATHS = {
    "transitions": transitions, "zones": differences,
    "coasts": variable("Relative_longitude_from_SW_corner_of_bin"), "areas": variable("The_km_squared_area_of_polygons"),
    "segments": variable("Id_of_first_point_in_a_segment"), "codes": variable("Embedded_npts_levels_exit_entry_for_a_segment"),
}


def main(what, source, out):
    if what in OF_PATHS:
        data = OF_PATHS[what](source)
    else:
        with open(source, "rb") as f:
            data = OF_FILES[what](f.read())
    tmp = "%s.%d" % (out, os.getpid())
    with open(tmp, "wb") as f:
        f.write(data)
    os.rename(tmp, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
