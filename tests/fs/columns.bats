#!/usr/bin/env bats
# Columns: one contiguous file each; small ones live in the metadata.

load ../lib/common

files() { find "$STORE/columns" -type f | wc -l; }
# Until that many are left: close(2) waits neither for RELEASE nor for FORGET.
comes_to() { until "$SPILLCTL" sync "$MNT" && [ "$(files)" -eq "$1" ]; do :; done; }

@test "below 64 KiB a column is inline, then it has a file of its own" {
	spill_only
	noise 65535 "$MNT/columns/f"
	"$SPILLCTL" sync "$MNT"
	eq "$(files)" 0
	noise 65535 "$WORK/want"
	same "$WORK/want" "$MNT/columns/f"
	printf 'x' >>"$MNT/columns/f"
	"$SPILLCTL" sync "$MNT"
	eq "$(files)" 1
	printf 'x' >>"$WORK/want"
	same "$WORK/want" "$MNT/columns/f"
	remount
	same "$WORK/want" "$MNT/columns/f"
	rm "$MNT/columns/f"
	comes_to 0
}

@test "many small columns make no files" {
	spill_only
	for i in $(seq 300); do head -c $((i * 50)) /dev/zero | tr '\0' "$((i % 10))" >"$MNT/columns/c$i"; done
	"$SPILLCTL" sync "$MNT"
	eq "$(files)" 0
	remount
	for i in 1 77 300; do
		eq "$(sha "$MNT/columns/c$i")" \
			"$(head -c $((i * 50)) /dev/zero | tr '\0' "$((i % 10))" | sha256sum | cut -d' ' -f1)"
	done
}

@test "the stored file is the column: same bytes, same size, however it grew" {
	spill_only
	for i in 1 2 3 4 5 6 7; do noise 100003 - $i >>"$MNT/columns/f"; done
	"$SPILLCTL" sync "$MNT"
	stored=$(find "$STORE/columns" -type f)
	eq "$(stat -c %s "$stored")" 700021
	same "$stored" "$MNT/columns/f"
	truncate -s 300000 "$MNT/columns/f"
	"$SPILLCTL" sync "$MNT"
	eq "$(stat -c %s "$stored")" 300000
	same "$stored" "$MNT/columns/f"
	eq "$(xattr "$MNT/columns/f" kind)" column
	[ "$(blocks "$MNT/columns/f")" -lt 4096 ]
}

@test "element types: from the suffix, from an xattr, from the directory's default" {
	spill_only
	head -c 800 /dev/zero >"$MNT/columns/a.f64"
	eq "$(xattr "$MNT/columns/a.f64" length)" 100
	for t in i8:800 i16:400 u32:200 f16:400 c64:100 c128:50 bool:800 u64:100; do
		head -c 800 /dev/zero >"$MNT/columns/x.${t%:*}"
		eq "$(xattr "$MNT/columns/x.${t%:*}" length)" "${t#*:}"
	done
	printf xyz >>"$MNT/columns/a.f64" # a trailing edge is no element
	eq "$(xattr "$MNT/columns/a.f64" length)" 100
	set_xattr "$MNT/columns/a.f64" dtype i16
	eq "$(xattr "$MNT/columns/a.f64" length)" 401
	set_xattr "$MNT/columns/a.f64" dtype pos:u32,lcp:u32
	eq "$(xattr "$MNT/columns/a.f64" length)" 100
	eq "$(xattr "$MNT/columns/a.f64" dtype)" pos:u32,lcp:u32
	run set_xattr "$MNT/columns/a.f64" dtype q99
	[ "$status" -ne 0 ]
	mkdir "$MNT/columns/d"
	set_xattr "$MNT/columns/d" dtype i32
	head -c 800 /dev/zero >"$MNT/columns/d/plain"
	eq "$(xattr "$MNT/columns/d/plain" dtype)" i32
	eq "$(xattr "$MNT/columns/d/plain" length)" 200
	remount
	eq "$(xattr "$MNT/columns/a.f64" dtype)" pos:u32,lcp:u32
	eq "$(xattr "$MNT/columns/d/plain" length)" 200
}

@test "typed by suffix in every class" {
	spill_only
	each_kind typed
}
typed() {
	head -c 4000 /dev/zero >"$D/v.i32"
	eq "$(xattr "$D/v.i32" length)" 1000
	set_xattr "$D/v.i32" shape 10,100
	eq "$(xattr "$D/v.i32" shape)" 10,100
	run set_xattr "$D/v.i32" length 5
	[ "$status" -ne 0 ]
	run set_xattr "$D/v.i32" nonsense 5
	[ "$status" -ne 0 ]
	mv "$D/v.i32" "$D/v.f64"
	eq "$(xattr "$D/v.f64" length)" 500
	setfattr -n user.mine -v kept "$D/v.f64"
	getfattr -d "$D/v.f64" | grep -q 'user.mine="kept"'
}

@test "numpy-like use: grow an array through a mapping, element by element" {
	each_kind grow
}
grow() {
	"$PYTHON" - "$D/v.f64" <<'PY'
import mmap, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
n = 0
for step in (10, 1000, 8191, 8193, 50000, 200000):
    os.ftruncate(fd, 8 * (n + step))
    m = mmap.mmap(fd, 8 * (n + step))
    for i in range(n, n + step, 7):
        struct.pack_into("<d", m, 8 * i, i / 4)
    m.close()
    n += step
os.close(fd)
raw = open(sys.argv[1], "rb").read()
assert len(raw) == 8 * n
start = 0
for step in (10, 1000, 8191, 8193, 50000, 200000):
    for i in range(start, start + step):
        want = i / 4 if (i - start) % 7 == 0 else 0.0
        assert struct.unpack_from("<d", raw, 8 * i)[0] == want, i
    start += step
PY
}
