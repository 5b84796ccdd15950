#!/usr/bin/env bats
# Buckets: spill runs pooled into a few physical files.

load ../lib/common
setup() { setup_work; mount_store -o pool=3; }

@test "spill: 1,000 buckets, interleaved appends of several processes, read back whole" {
	need_prog SPILLLOAD tests/fs/spillload.c
	"$SPILLLOAD" "$MNT/buckets" 1000 4 8192 6
	[ -n "$NATIVE" ] || eq "$(find "$STORE/pool" -type f | wc -l)" 3
	remount
	"$SPILLLOAD" "$MNT/buckets" 1000 2 8192 6 verify
}

@test "spill: several processes append to the same buckets" {
	need_prog SPILLLOAD tests/fs/spillload.c
	"$SPILLLOAD" -a "$MNT/buckets" 30 4 5003 40
	mkdir "$MNT/buckets/d"
	"$SPILLLOAD" -a -o "$MNT/buckets/d" 30 4 40000 10
	remount
	"$SPILLLOAD" -a "$MNT/buckets" 30 4 5003 40 verify
}

@test "several processes make a file and append to it, each once and again" {
	spill_only
	need_prog SPILLLOAD tests/fs/spillload.c
	remount
	for i in $(seq 10); do
		for k in $KINDS; do
			mkdir "$MNT/$k/d$i"
			"$SPILLLOAD" -q -a -o "$MNT/$k/d$i" 30 4 40000 2
		done
	done
}

@test "spill: bytes that compress, and pieces of odd sizes" {
	need_prog SPILLLOAD tests/fs/spillload.c
	for chunk in 11 4095 65537 1048577; do
		mkdir "$MNT/buckets/$chunk"
		"$SPILLLOAD" -z "$MNT/buckets/$chunk" 20 3 $chunk 7
	done
}

@test "the daemon's descriptors do not grow with the buckets" {
	spill_only
	need_prog SPILLLOAD tests/fs/spillload.c
	before=$(ls "/proc/$PID/fd" | wc -l)
	"$SPILLLOAD" "$MNT/buckets" 2000 2 4096 2
	after=$(ls "/proc/$PID/fd" | wc -l)
	echo "descriptors: $before before, $after after"
	[ "$after" -le $((before + 16)) ]
}

@test "small buckets lie side by side in the pool" {
	spill_only
	for i in $(seq 300); do echo "$i" >"$MNT/buckets/$i"; done
	"$SPILLCTL" sync "$MNT"
	size=$(stat -c %s "$STORE"/pool/* | awk '{ n += $1 } END { print n }')
	echo "the pool files have $size bytes"
	[ "$size" -le $((300 * 4096)) ]
	rm "$MNT"/buckets/*
	# close(2) waits neither for RELEASE nor for FORGET.
	until "$SPILLCTL" sync "$MNT" && [ "$(stat -c %b "$STORE"/pool/* | awk '{ n += $1 } END { print n }')" -eq 0 ]; do :; done
}

@test "runs: a close that ends a growth marks a boundary, an empty one does not" {
	spill_only
	f=$MNT/buckets/runs
	: >"$f"
	eq "$(xattr "$f" runs)" 0
	noise 65536 "$WORK/run"
	cat "$WORK/run" >>"$f"
	eq "$(xattr "$f" runs)" "0 65536"
	: >>"$f"
	cat "$f" >/dev/null
	eq "$(xattr "$f" runs)" "0 65536"
	cat "$WORK/run" >>"$f"
	head -c 1000 "$WORK/run" >>"$f"
	eq "$(xattr "$f" runs)" "0 65536 131072 132072"
	printf x | dd of="$f" bs=1 seek=10 conv=notrunc status=none # overwrites: nothing grows
	eq "$(xattr "$f" runs)" "0 65536 131072 132072"
	remount
	eq "$(xattr "$f" runs)" "0 65536 131072 132072"
	truncate -s 70000 "$f"
	case $(xattr "$f" runs) in "0 65536"*) ;; *) fail "runs after truncate: $(xattr "$f" runs)" ;; esac
	fails_with "" setfattr -n user.spillfs.runs -v 0 "$f"
	if getfattr -d "$f" | grep -q spillfs.runs; then fail "found what must not be there"; fi
}

@test "kind, stored_bytes and extents tell the truth" {
	spill_only
	f=$MNT/buckets/f
	noise 5000000 "$f"
	"$SPILLCTL" sync "$MNT"
	eq "$(xattr "$f" kind)" bucket
	stored=$(xattr "$f" stored_bytes)
	[ "$stored" -ge 5000000 ] && [ "$stored" -lt 14000000 ]
	[ "$(blocks "$f")" -ge 9765 ] && [ "$(blocks "$f")" -lt 28000 ]
	[ "$(xattr "$f" extents)" -le 8 ]
	eq "$(xattr "$f" length)" 5000000
}

@test "growing regions: interleaved buckets have few extents each" {
	spill_only
	need_prog SPILLLOAD tests/fs/spillload.c
	"$SPILLLOAD" "$MNT/buckets" 8 2 32768 256 # 8 MiB each
	for i in 0 3 7; do
		n=$(xattr "$MNT/buckets/$i" extents)
		echo "bucket $i: $n extents"
		[ "$n" -le 12 ]
	done
}

@test "freed regions are used again, and their space given back" {
	spill_only
	for i in 1 2 3 4; do noise 16000000 "$MNT/buckets/f$i" $i; done
	"$SPILLCTL" sync "$MNT"
	full=$(du -sk "$STORE/pool" | cut -f1)
	[ "$full" -ge 62500 ]
	noise 16000000 "$WORK/keep" 4
	rm "$MNT"/buckets/f[123]
	"$SPILLCTL" sync "$MNT"
	"$SPILLCTL" sync "$MNT" # what the first one freed may be punched by the next
	rest=$(du -sk "$STORE/pool" | cut -f1)
	echo "pool: $full KiB, then $rest"
	[ "$rest" -le 40000 ]
	size=$(du --apparent-size -sk "$STORE/pool" | cut -f1)
	for i in 5 6 7; do noise 15000000 "$MNT/buckets/f$i" $i; done
	"$SPILLCTL" sync "$MNT"
	again=$(du --apparent-size -sk "$STORE/pool" | cut -f1)
	echo "pool size: $size KiB, then $again"
	[ "$again" -le $((size + 20000)) ]
	same "$WORK/keep" "$MNT/buckets/f4"
	for i in 5 6 7; do noise 15000000 "$WORK/want" $i; same "$WORK/want" "$MNT/buckets/f$i"; done
}

@test "an unlinked bucket's bytes never show in another" {
	spill_only
	head -c 8000000 /dev/zero | tr '\0' Q >"$MNT/buckets/secret"
	"$SPILLCTL" sync "$MNT"
	rm "$MNT/buckets/secret"
	"$SPILLCTL" sync "$MNT"
	for i in 1 2 3 4; do
		truncate -s 4000000 "$MNT/buckets/f$i"
		printf x | dd of="$MNT/buckets/f$i" bs=1 seek=$((i * 700001)) conv=notrunc status=none
		eq "$(tr -d '\0' <"$MNT/buckets/f$i")" x
		fallocate -l 6000000 "$MNT/buckets/f$i"
		eq "$(tr -d '\0' <"$MNT/buckets/f$i")" x
	done
	remount
	for i in 1 2 3 4; do eq "$(tr -d '\0' <"$MNT/buckets/f$i")" x; done
}

@test "insertion order is read order, with overwrites, holes and truncation between" {
	each_kind order
}
order() {
	"$PYTHON" - "$D/f" <<'PY'
import os, random, sys
rng, want = random.Random(8), bytearray()
for i in range(300):
    fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT | (os.O_APPEND if i % 3 else 0))
    piece = rng.randbytes(rng.choice((8, 4096, 32768, 100001)))
    if i % 3 == 0 and want:
        off = rng.randrange(len(want) + 5000)
        want[len(want):off] = bytes(max(0, off - len(want)))
        os.pwrite(fd, piece, off)
        want[off:off + len(piece)] = piece
    else:
        if i % 3 == 0:
            os.lseek(fd, 0, os.SEEK_END)
        os.write(fd, piece)
        want += piece
    if i % 50 == 49:
        n = rng.randrange(len(want))
        os.ftruncate(fd, n)
        del want[n:]
    os.close(fd)
got = open(sys.argv[1], "rb").read()
assert got == want, (len(got), len(want), next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), None))
PY
}

@test "sort spills into buckets" {
	seq 1 400000 | shuf --random-source=<(yes) >"$WORK/in"
	LC_ALL=C sort -S 1M "$WORK/in" >"$WORK/want"
	LC_ALL=C sort -S 1M -T "$MNT/buckets" "$WORK/in" >"$WORK/got"
	same "$WORK/want" "$WORK/got"
	eq "$(ls -A "$MNT/buckets")" ""
}
