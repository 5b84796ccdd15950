#!/usr/bin/env bats
# Layered arrays: compressed blocks in delta layers.

load ../lib/common

prices() { py proc numbers "$1" 3; }

@test "compression shows in st_blocks, du and stored_bytes" {
	spill_only
	prices 1000000 >"$WORK/p.f64"
	cp "$WORK/p.f64" "$MNT/layers/p.f64"
	"$SPILLCTL" sync "$MNT"
	f=$MNT/layers/p.f64
	eq "$(stat -c %s "$f")" 8000000
	stored=$(xattr "$f" stored_bytes)
	echo "stored $stored of 8000000, $(blocks "$f") blocks"
	[ "$stored" -gt 100000 ] && [ "$stored" -lt 4000000 ]
	[ $(($(blocks "$f") * 512)) -ge "$stored" ]
	[ $(($(blocks "$f") * 512)) -lt $((stored + 100000)) ]
	[ "$(du -k "$f" | cut -f1)" -lt 4000 ]
	[ "$(du -sk "$STORE/layers" | cut -f1)" -lt 4500 ]
	eq "$(xattr "$f" kind)" layered
	eq "$(xattr "$f" length)" 1000000
	eq "$(xattr "$f" layers)" 1
	same "$WORK/p.f64" "$f"
	remount
	same "$WORK/p.f64" "$f"
	eq "$(xattr "$f" stored_bytes)" "$stored"
}

@test "zeros and holes cost nothing" {
	spill_only
	head -c 64M /dev/zero >"$MNT/layers/zeros"
	truncate -s 1G "$MNT/layers/hole"
	noise 1000000 "$MNT/layers/punched"
	"$SPILLCTL" sync "$MNT"
	[ "$(blocks "$MNT/layers/zeros")" -lt 128 ]
	[ "$(xattr "$MNT/layers/zeros" stored_bytes)" -lt 65536 ]
	[ "$(blocks "$MNT/layers/hole")" -lt 128 ]
	dd if=/dev/zero of="$MNT/layers/punched" bs=1000000 count=1 conv=notrunc status=none
	"$SPILLCTL" sync "$MNT"
	[ "$(xattr "$MNT/layers/punched" stored_bytes)" -lt 65536 ]
	remount
	eq "$(head -c 64M /dev/zero | sha256sum)" "$(sha256sum <"$MNT/layers/zeros")"
	eq "$(head -c 1000000 /dev/zero | sha256sum)" "$(sha256sum <"$MNT/layers/punched")"
	[ "$(blocks "$MNT/layers/zeros")" -lt 128 ]
}

@test "random overwrites of a few bytes: read-modify-write of a block, across commits" {
	each_kind overwrite
}
overwrite() {
	noise 6000000 "$D/f" 5
	cp "$D/f" "$WORK/f-$K"
	for round in 1 2 3 4; do
		for f in "$D/f" "$WORK/f-$K"; do
			"$PYTHON" - "$f" $round <<'PY'
import os, random, sys
rng, fd = random.Random(int(sys.argv[2])), os.open(sys.argv[1], os.O_RDWR)
for _ in range(300):
    n = rng.choice((1, 8, 100, 5000))
    os.pwrite(fd, rng.randbytes(n), rng.randrange(6000000 - n))
os.close(fd)
PY
		done
		same "$WORK/f-$K" "$D/f"
		[ -n "$NATIVE" ] || "$SPILLCTL" commit "$MNT" >/dev/null
		drop_caches
		same "$WORK/f-$K" "$D/f"
	done
	if [ "$K" = columns ]; then
		remount
		same "$WORK/f-$K" "$D/f"
	fi
}

@test "newest layer wins; older content is never seen again, truncation is a barrier" {
	spill_only
	f=$MNT/layers/f
	for v in 1 2 3 4; do
		noise 3000000 "$f" $v
		"$SPILLCTL" commit "$MNT" >/dev/null
	done
	noise 3000000 "$WORK/want" 4
	drop_caches
	same "$WORK/want" "$f"
	[ "$(ls "$MNT/deltas" | wc -l)" -ge 1 ] # a layer of which nothing is left may be dropped
	truncate -s 100000 "$f"
	"$SPILLCTL" commit "$MNT" >/dev/null
	truncate -s 3000000 "$f"
	head -c 100000 "$WORK/want" >"$WORK/cut"
	truncate -s 3000000 "$WORK/cut"
	same "$WORK/cut" "$f"
	remount
	same "$WORK/cut" "$f"
	rm "$f"
	truncate -s 3000000 "$f" # the same name, another array
	remount
	eq "$(tr -d '\0' <"$f" | wc -c)" 0
}

@test "commit seals the open layer; stock zstd decodes it" {
	spill_only
	seq 20000 >"$MNT/layers/small.txt" # within one block
	"$SPILLCTL" commit "$MNT"
	eq "$(ls "$MNT/deltas")" 00000001.zst
	zstd -dc "$MNT/deltas/00000001.zst" >"$WORK/decoded"
	same "$MNT/layers/small.txt" "$WORK/decoded"
	zstd -tq "$STORE/layers/00000001.zst"
	same "$STORE/layers/00000001.zst" "$MNT/deltas/00000001.zst"
	eq "$(tail -c 4 "$MNT/deltas/00000001.zst" | od -An -tx1 | tr -d ' ')" b1ea928f
	grep -aq small.txt "$MNT/deltas/00000001.zst"
	grep -q 1 "$STORE/layers/HEAD"
	"$SPILLCTL" commit "$MNT" # nothing changed
	eq "$(ls "$MNT/deltas")" 00000001.zst
	run bash -c ': >>"$1"' - "$MNT/deltas/00000001.zst"
	[ "$status" -ne 0 ]
	run rm -f "$MNT/deltas/00000001.zst"
	[ "$status" -ne 0 ]
}

@test "a big array's layer decodes to exactly its blocks" {
	spill_only
	noise 10000001 "$MNT/layers/big"
	bs=131072
	"$SPILLCTL" commit "$MNT" >/dev/null
	zstd -dc "$MNT/deltas/00000001.zst" >"$WORK/decoded"
	eq "$(stat -c %s "$WORK/decoded")" 10000001
	"$PYTHON" - "$MNT/layers/big" "$WORK/decoded" "$bs" <<'PY'
import sys
a, b, bs = open(sys.argv[1], "rb").read(), open(sys.argv[2], "rb").read(), int(sys.argv[3])
want = {a[i:i + bs] for i in range(0, len(a), bs)}
pos = 0  # blocks stand in the layer in the order in which they were done
while want:
    for n in (bs, len(a) % bs):
        if b[pos:pos + n] in want:
            want.remove(b[pos:pos + n])
            pos += len(b[pos:pos + n])
            break
    else:
        raise SystemExit("no block of the array at %d of the decoded layer" % pos)
assert pos == len(b)
PY
}

@test "unmount seals; a remount changes no layer; each change makes one" {
	spill_only
	echo one >"$MNT/layers/a"
	remount
	eq "$(ls "$MNT/deltas")" 00000001.zst
	sum=$(sha "$MNT/deltas/00000001.zst")
	remount
	eq "$(ls "$MNT/deltas")" 00000001.zst
	echo two >"$MNT/layers/b"
	remount
	eq "$(ls "$MNT/deltas" | tr '\n' ' ')" "00000001.zst 00000002.zst "
	eq "$(sha "$MNT/deltas/00000001.zst")" "$sum"
	eq "$(cat "$MNT/layers/a" "$MNT/layers/b")" $'one\ntwo'
}

@test "a size threshold seals, too" {
	spill_only
	remount -o layer=1M
	for i in 1 2 3 4; do
		noise 2000000 "$MNT/layers/f$i" $i
		"$SPILLCTL" sync "$MNT"
	done
	[ "$(ls "$MNT/deltas" | wc -l)" -ge 2 ]
	remount
	for i in 1 2 3 4; do
		noise 2000000 "$WORK/want" $i
		same "$WORK/want" "$MNT/layers/f$i"
	done
	for l in "$MNT"/deltas/*; do zstd -tq "$l"; done
}

@test "budgets: dirty blocks and the cache stay within theirs, and nothing is lost" {
	spill_only
	remount -o dirty=4M,cache=4M
	for i in 1 2 3; do noise 12000000 "$MNT/layers/f$i" $i & done
	wait_all
	[ "$(stat_value spillfs_dirty_bytes)" -le $((5 << 20)) ]
	for i in 1 2 3; do noise 12000000 "$WORK/f$i" $i; done
	drop_caches
	for i in 1 2 3; do same "$WORK/f$i" "$MNT/layers/f$i"; done
	[ "$(stat_value spillfs_cache_bytes)" -le $((5 << 20)) ]
	drop_caches
	for i in 3 1 2; do same "$WORK/f$i" "$MNT/layers/f$i" & done
	wait_all
}

@test "the cache serves what was decoded before" {
	spill_only
	prices 500000 >"$MNT/layers/p.f64"
	remount
	cat "$MNT/layers/p.f64" >/dev/null
	misses=$(stat_value spillfs_cache_misses)
	hits=$(stat_value spillfs_cache_hits)
	drop_caches # the kernel's pages; the daemon keeps its blocks
	cat "$MNT/layers/p.f64" >/dev/null
	eq "$(stat_value spillfs_cache_misses)" "$misses"
	[ "$(stat_value spillfs_cache_hits)" -gt "$hits" ]
}

@test "blocks that are read in passing leave the cache early, and stay when they are read again" {
	spill_only
	prices 3000000 >"$WORK/want"
	cp "$WORK/want" "$MNT/layers/p.f64"
	remount
	exec 7<"$MNT/layers/p.f64" # or what drops the pages can take the inode with them
	for pass in 1 2 3; do
		cat "$MNT/layers/p.f64" >"$WORK/$pass"
		misses[pass]=$(stat_value spillfs_cache_misses)
		held[pass]=$(stat_value spillfs_cache_bytes)
		drop_caches
	done
	exec 7<&-
	echo "misses ${misses[*]}, held ${held[*]}"
	# Some are decoded ahead, or not read to their end in one piece.
	[ "${held[1]}" -le $((16 << 20)) ]
	[ "${held[2]}" -ge $((20 << 20)) ]
	eq "${misses[3]}" "${misses[2]}"
	cmp "$WORK/want" "$WORK/1"
	cmp "$WORK/1" "$WORK/3"
}

@test "a flipped bit gives EIO and a log line, never wrong bytes" {
	spill_only
	umount_store
	mount_logged
	noise 4000000 "$MNT/layers/victim"
	noise 4000000 "$WORK/want"
	seq 30000 >"$MNT/layers/other"
	umount_store
	layer=$STORE/layers/00000001.zst
	for off in 300000 1234567 2000000 3700000; do
		py proc poke "$layer" $off 0x10
		: >"$DAEMON_LOG"
		mount_again
		run "$PYTHON" - "$MNT/layers/victim" "$WORK/want" <<'PY'
import errno, os, sys
fd, want, bad = os.open(sys.argv[1], os.O_RDONLY), open(sys.argv[2], "rb").read(), 0
for off in range(0, len(want), 4096):
    try:
        got = os.pread(fd, 4096, off)
    except OSError as e:
        assert e.errno == errno.EIO, e
        bad += 1
        continue
    assert got == want[off:off + 4096], "wrong bytes at %d" % off
print(bad)
PY
		echo "$output"
		[ "$status" = 0 ]
		[ "$output" -gt 0 ] && [ "$output" -lt 600 ]
		seq 30000 | cmp - "$MNT/layers/other"
		# one line names the array, the block, the layer and the place
		grep -E 'layers/victim: block [0-9]+ .*layer 1 .*byte [0-9]+' "$DAEMON_LOG" | head -n1 | grep .
		[ "$(stat_value spillfs_corruptions)" -ge 1 ]
		umount_store
		py proc poke "$layer" $off 0x10
	done
	mount_again
	same "$WORK/want" "$MNT/layers/victim"
}

@test "codec none stores as is; levels are accepted; nonsense is not" {
	spill_only
	mkdir "$MNT/layers/raw" "$MNT/layers/tight"
	set_xattr "$MNT/layers/raw" codec none
	set_xattr "$MNT/layers/tight" codec zstd:19
	prices 200000 >"$WORK/p"
	cp "$WORK/p" "$MNT/layers/raw/p.f64"
	cp "$WORK/p" "$MNT/layers/tight/p.f64"
	"$SPILLCTL" commit "$MNT" >/dev/null
	eq "$(xattr "$MNT/layers/raw/p.f64" codec)" none
	[ "$(xattr "$MNT/layers/raw/p.f64" stored_bytes)" -ge 1600000 ]
	[ "$(xattr "$MNT/layers/tight/p.f64" stored_bytes)" -lt 800000 ]
	remount
	same "$WORK/p" "$MNT/layers/raw/p.f64"
	same "$WORK/p" "$MNT/layers/tight/p.f64"
	zstd -tq "$MNT/deltas/00000001.zst"
	for bad in zstd:99 lzma '' zstd: none:3; do
		run set_xattr "$MNT/layers/raw" codec "$bad"
		[ "$status" -ne 0 ]
	done
}

@test "filters: auto, none and shuffle read back the same" {
	spill_only
	"$PYTHON" -c '
import array, math, sys
array.array("d", (math.sin(i / 1000) * 1e3 for i in range(300000))).tofile(sys.stdout.buffer)' >"$WORK/s"
	for filter in auto none shuffle; do
		mkdir "$MNT/layers/$filter"
		set_xattr "$MNT/layers/$filter" filter $filter
		cp "$WORK/s" "$MNT/layers/$filter/s.f64"
		eq "$(xattr "$MNT/layers/$filter/s.f64" filter)" $filter
	done
	run set_xattr "$MNT/layers/auto" filter gzip
	[ "$status" -ne 0 ]
	remount
	for filter in auto none shuffle; do same "$WORK/s" "$MNT/layers/$filter/s.f64"; done
	none=$(xattr "$MNT/layers/none/s.f64" stored_bytes)
	shuffle=$(xattr "$MNT/layers/shuffle/s.f64" stored_bytes)
	auto=$(xattr "$MNT/layers/auto/s.f64" stored_bytes)
	echo "stored: none $none, shuffle $shuffle, auto $auto"
	[ "$shuffle" -lt "$none" ]
	[ "$auto" -le $((none + none / 20)) ]
	[ "$auto" -le $((shuffle + shuffle / 20)) ]
}

@test "an array without a block_size of its own keeps the blocks that it has, whatever the default is" {
	spill_only
	: >"$MNT/layers/old"
	set_xattr "$MNT/layers/old" block_size 262144
	noise 600000 "$MNT/layers/old"
	setfattr -x user.spillfs.block_size "$MNT/layers/old"
	remount
	eq "$(xattr "$MNT/layers/old" block_size)" 262144
	noise 600000 - 2 >>"$MNT/layers/old"
	{ noise 600000 -; noise 600000 - 2; } | same - "$MNT/layers/old"
	remount
	eq "$(xattr "$MNT/layers/old" block_size)" 262144
	{ noise 600000 -; noise 600000 - 2; } | same - "$MNT/layers/old"
	"$SPILLCTL" stats "$MNT/layers/old" | grep -q 'in 5 blocks of 256.0 KiB'
}

@test "block_size: set while empty, and changed after" {
	spill_only
	mkdir "$MNT/layers/d"
	set_xattr "$MNT/layers/d" block_size 65536
	: >"$MNT/layers/d/f"
	eq "$(xattr "$MNT/layers/d/f" block_size)" 65536
	set_xattr "$MNT/layers/d/f" block_size 1048576
	noise 5000000 "$MNT/layers/d/f"
	set_xattr "$MNT/layers/d/f" block_size 8192
	set_xattr "$MNT/layers/d/f" block_size 1048576
	noise 3000001 "$MNT/layers/d/g"
	for bad in 0 -1 17x 99999999999999; do
		run set_xattr "$MNT/layers/d" block_size $bad
		[ "$status" -ne 0 ]
	done
	remount
	eq "$(xattr "$MNT/layers/d/f" block_size)" 1048576
	noise 5000000 "$WORK/f"
	noise 3000001 "$WORK/g"
	same "$WORK/f" "$MNT/layers/d/f"
	same "$WORK/g" "$MNT/layers/d/g"
}

@test "small arrays share frames and come back" {
	spill_only
	for i in $(seq 400); do seq "$i" >"$MNT/layers/s$i"; done
	"$SPILLCTL" commit "$MNT" >/dev/null
	total=$(cat "$MNT"/layers/s* | wc -c)
	layer=$(stat -c %s "$MNT/deltas/00000001.zst")
	echo "$total bytes in a layer of $layer"
	decoded=$(zstd -dc "$MNT/deltas/00000001.zst" | wc -c) # each begins at a multiple of 16
	[ "$decoded" -ge "$total" ] && [ "$decoded" -lt $((total + 400 * 16)) ]
	[ "$layer" -lt $((total / 2)) ]
	remount
	for i in $(seq 1 13 400); do seq "$i" | cmp - "$MNT/layers/s$i"; done
	echo changed >"$MNT/layers/s200"
	rm "$MNT/layers/s201"
	remount
	eq "$(cat "$MNT/layers/s200")" changed
	seq 199 | cmp - "$MNT/layers/s199"
	[ ! -e "$MNT/layers/s201" ]
}

@test "each backing reads back the same, and stats tell which one is in use" {
	spill_only
	prices 400000 >"$WORK/p"
	for backing in auto buffered direct; do
		remount -o backing=$backing,leases=4
		for k in $KINDS; do cp "$WORK/p" "$MNT/$k/$backing.f64"; done
		"$SPILLCTL" sync "$MNT"
		drop_caches
		for k in $KINDS; do same "$WORK/p" "$MNT/$k/$backing.f64"; done
		grep -i backing "$MNT/.spillfs/stats" >"$WORK/stats"
		[ -s "$WORK/stats" ]
		case $backing in
		buffered) eq "$(stat_value spillfs_backing_direct_bytes)" 0 ;;
		direct) [ "$(stat_value spillfs_backing_direct_bytes)" -gt 0 ] ;;
		esac
	done
	remount
	for backing in auto buffered direct; do
		for k in $KINDS; do same "$WORK/p" "$MNT/$k/$backing.f64"; done
	done
}

@test "few leases under many readers and writers" {
	spill_only
	remount -o backing=direct,leases=1
	for i in $(seq 16); do noise 1500000 "$MNT/buckets/f$i" "$i" & done
	for i in $(seq 16); do noise 1500000 "$MNT/layers/f$i" "$i" & done
	wait_all
	drop_caches
	for i in $(seq 16); do
		noise 1500000 "$WORK/want$i" "$i"
		same "$WORK/want$i" "$MNT/buckets/f$i" &
		same "$WORK/want$i" "$MNT/layers/f$i" &
	done
	wait_all
	eq "$(stat_value spillfs_leases_in_use)" 0
}

@test "compaction: a mostly dead layer goes, what is live stays, holes stay holes" {
	mkdir "$MNT/layers/c"
	noise 2000000 "$MNT/layers/c/keep" 1
	noise 1000000 "$MNT/layers/c/holes" 2
	noise 20000000 "$MNT/layers/c/big" 3
	"$SPILLCTL" commit "$MNT"
	fallocate -p -o 262144 -l 262144 "$MNT/layers/c/holes"
	noise 1000 - 9 | dd of="$MNT/layers/c/keep" bs=1000 seek=700 conv=notrunc status=none
	cp "$MNT/layers/c/keep" "$WORK/keep"
	cp "$MNT/layers/c/holes" "$WORK/holes"
	"$SPILLCTL" commit "$MNT"
	before=$(du -sk "$STORE/layers" | cut -f1)
	rm "$MNT/layers/c/big"
	"$SPILLCTL" commit "$MNT"
	for i in $(seq 200); do # it runs beside us
		[ "$(du -sk "$STORE/layers" | cut -f1)" -ge $((before / 2)) ] || break
		"$SPILLCTL" commit "$MNT" >/dev/null
	done
	[ "$(du -sk "$STORE/layers" | cut -f1)" -lt $((before / 2)) ]
	[ ! -e "$STORE/layers/00000001.zst" ]
	same "$WORK/keep" "$MNT/layers/c/keep"
	same "$WORK/holes" "$MNT/layers/c/holes"
	remount
	same "$WORK/keep" "$MNT/layers/c/keep"
	same "$WORK/holes" "$MNT/layers/c/holes"
	rm -r "$MNT/layers/c"
}

@test "an unlinked file that is open outlives seals" {
	exec 8<>"$MNT/layers/gone"
	noise 6000000 - 4 >&8
	rm "$MNT/layers/gone"
	for i in 1 2 3; do "$SPILLCTL" commit "$MNT"; done
	noise 6000000 "$WORK/want" 4
	cmp "$WORK/want" /proc/self/fd/8 || cmp "$WORK/want" <(dd bs=1M status=none <"/proc/$$/fd/8")
	exec 8>&-
}

@test "each commit's layer holds what changed, no more; an empty commit makes none" {
	spill_only
	local n i
	remount -o keep=100,commit=1
	# size N: bytes of layer N; all of them are good zstd files.
	size() { stat -c %s "$MNT/deltas/$(printf %08d "$1").zst"; }
	count() { ls "$MNT/deltas" | wc -l; }
	commit() { "$SPILLCTL" commit "$MNT" >&2; }
	noise 5000000 "$MNT/layers/big" 1
	for i in $(seq 50); do noise 1000 "$MNT/layers/s$i" "$i"; done
	commit
	eq "$(count)" 1
	[ "$(size 1)" -ge 5050000 ] && [ "$(size 1)" -le 5150000 ]
	for i in 1 2 3; do commit; done
	cat "$MNT/layers/big" "$MNT"/layers/s* >"$WORK/read" # access times are no change
	commit
	mkdir "$MNT/snapshots/s"
	rmdir "$MNT/snapshots/s"
	"$SPILLCTL" sync "$MNT"
	remount
	commit
	eq "$(count)" 1
	# One block; one attribute; one name; one deletion; one punched range; a cut.
	noise 10 - 2 | dd of="$MNT/layers/big" bs=1 seek=3000000 conv=notrunc status=none
	commit
	[ "$(size 2)" -ge 262144 ] && [ "$(size 2)" -le 270000 ]
	chmod 600 "$MNT/layers/s1"
	commit
	mv "$MNT/layers/s2" "$MNT/layers/moved"
	commit
	rm "$MNT/layers/s3"
	commit
	fallocate -p -o 0 -l 1048576 "$MNT/layers/big"
	commit
	truncate -s 4194304 "$MNT/layers/big"
	commit
	n=$(count)
	for i in $(seq 3 "$n"); do
		echo "layer $i: $(size "$i") bytes"
		[ "$(size "$i")" -le 2500 ]
	done
	[ "$n" -ge 7 ]
	# All of it is in the history, and none of it anywhere else.
	[ -e "$MNT/snapshots/@4/layers/moved" ] && [ ! -e "$MNT/snapshots/@3/layers/moved" ]
	[ -e "$MNT/snapshots/@4/layers/s3" ] && [ ! -e "$MNT/snapshots/@5/layers/s3" ]
	eq "$(stat -c %a "$MNT/snapshots/@2/layers/s1" "$MNT/snapshots/@3/layers/s1")" $'644\n600'
	noise 5000000 - 1 | same - "$MNT/snapshots/@1/layers/big"
	for i in $(ls "$MNT/deltas"); do zstd -tq "$MNT/deltas/$i"; done
	same "$WORK/read" <(cat "$MNT/snapshots/@1/layers/big" "$MNT"/snapshots/@1/layers/s*)
}

@test "-o layer: the size at which a layer is sealed without being asked" {
	spill_only
	local n
	remount -o layer=1M,commit=1,keep=100
	noise 3500000 "$MNT/layers/f" 1
	"$SPILLCTL" sync "$MNT"
	"$SPILLCTL" sync "$MNT"
	n=$(ls "$MNT/deltas" | wc -l)
	[ "$n" -ge 1 ]
	noise 100 "$MNT/layers/small" 2
	"$SPILLCTL" sync "$MNT"
	"$SPILLCTL" sync "$MNT"
	eq "$(ls "$MNT/deltas" | wc -l)" "$n"
	for l in "$MNT"/deltas/*; do zstd -tq "$l"; done
	noise 3500000 - 1 | same - "$MNT/layers/f"
}
