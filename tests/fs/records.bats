#!/usr/bin/env bats
# Records in layers/: each field is stored as a column, in a chain of filters of its own, and nobody who reads them sees it.

load ../lib/common

setup() {
	spill_only
	setup_work
	mount_store
}

TRADE=price:f64,at:i64,count:i32,id:u8

# So many records of TRADE, 21 bytes each, on stdout.
trades() {
	"$PYTHON" -c '
import random, struct, sys
r = random.Random(5)
price, at, count = 10000, 1700000000000000000, 0
for i in range(int(sys.argv[1])):
    price += r.randint(-9, 9)
    at += r.randint(0, 10 ** 6)
    count += r.randint(0, 50)
    sys.stdout.buffer.write(struct.pack("<dqiB", price / 100 if i % 700 else float("nan"), at, count, r.randint(0, 6)))' "$1"
}

# An empty array of this type.
array() {
	: >"$1"
	set_xattr "$1" dtype "$2"
}

checked() {
	umount_store
	"$SPILLCTL" check --data "$STORE" >&2
	mount_again
}

stats() { "$SPILLCTL" stats "$1" | tr -s ' '; }

@test "each field has its own chain, and bytes come back from anywhere" {
	local f=$MNT/layers/trades stored plain
	trades 60000 >"$WORK/t"
	array "$f" $TRADE
	cp "$WORK/t" "$f"
	array "$MNT/layers/plain" $TRADE
	set_xattr "$MNT/layers/plain" filter none
	cp "$WORK/t" "$MNT/layers/plain"
	sync "$MNT"
	stats "$f" | grep -q ' record(scale+delta+[a-z+]*:8, delta+pack:8, delta+pack:4, [a-z]*:1)'
	stats "$f" | grep -q 'no statistics: they are kept for single numbers only'
	stats "$MNT/layers/plain" | grep -q ' none '
	stored=$(xattr "$f" stored_bytes)
	plain=$(xattr "$MNT/layers/plain" stored_bytes)
	[ "$stored" -lt $((plain * 6 / 10)) ]
	checked
	cmp "$WORK/t" "$MNT/layers/trades"
	for at in 0 1 20 21 131060 131073 700001 1259999; do
		cmp <(tail -c +$((at + 1)) "$WORK/t" | head -c 33) <(tail -c +$((at + 1)) "$MNT/layers/trades" | head -c 33)
	done
}

@test "blocks that begin inside a record, and an end inside one" {
	trades 30000 | head -c 629990 >"$WORK/t"
	for size in 4096 65536 131072 1048576; do
		array "$MNT/layers/$size" $TRADE
		set_xattr "$MNT/layers/$size" block_size $size
		cp "$WORK/t" "$MNT/layers/$size"
	done
	sync "$MNT"
	checked
	for size in 4096 65536 131072 1048576; do
		cmp "$WORK/t" "$MNT/layers/$size"
		[ $size -eq 4096 ] || stats "$MNT/layers/$size" | grep -q 'record(scale+delta'
		printf 'other bytes' | dd of="$MNT/layers/$size" bs=1 seek=300000 conv=notrunc status=none
		truncate -s 400001 "$MNT/layers/$size"
	done
	printf 'other bytes' | dd of="$WORK/t" bs=1 seek=300000 conv=notrunc status=none
	truncate -s 400001 "$WORK/t"
	remount
	for size in 4096 65536 131072 1048576; do cmp "$WORK/t" "$MNT/layers/$size"; done
	set_xattr "$MNT/layers/65536" block_size 8192
	sync "$MNT"
	cmp "$WORK/t" "$MNT/layers/65536"
}

@test "the filter by name, by each codec, and for what is no record" {
	trades 20000 >"$WORK/t"
	for codec in auto none pack zstd:-3 zstd:9; do
		array "$MNT/layers/$codec" $TRADE
		set_xattr "$MNT/layers/$codec" codec $codec
		set_xattr "$MNT/layers/$codec" filter record
		cp "$WORK/t" "$MNT/layers/$codec"
	done
	: >"$MNT/layers/x.f64"
	set_xattr "$MNT/layers/x.f64" filter record
	head -c 400000 "$WORK/t" >"$MNT/layers/x.f64"
	sync "$MNT"
	for codec in auto none pack zstd:-3 zstd:9; do stats "$MNT/layers/$codec" | grep -q ' record(scale+delta'; done
	stats "$MNT/layers/x.f64" | grep -q ' none '
	checked
	for codec in auto none pack zstd:-3 zstd:9; do cmp "$WORK/t" "$MNT/layers/$codec"; done
	cmp <(head -c 400000 "$WORK/t") "$MNT/layers/x.f64"
}

@test "the type changes: blocks keep what they were stored with" {
	local f=$MNT/layers/t
	trades 20000 >"$WORK/t"
	array "$f" $TRADE
	cp "$WORK/t" "$f"
	sync "$MNT"
	set_xattr "$f" dtype u8
	stats "$f" | grep -q ' record('
	printf x | dd of="$f" bs=1 seek=200000 conv=notrunc status=none
	printf x | dd of="$WORK/t" bs=1 seek=200000 conv=notrunc status=none
	sync "$MNT"
	checked
	cmp "$WORK/t" "$f"
	setfattr -x user.spillfs.dtype "$f"
	remount
	cmp "$WORK/t" "$f"
}

@test "many fields: neighbours of a type share a chain, and what has no room is the rest" {
	local wide mixed
	wide=$(seq -s, -f 'f%g:i32' 1 100)
	mixed=$(for i in $(seq 1 20); do printf 'a%d:u8,b%d:f64,' "$i" "$i"; done | sed 's/,$//')
	"$PYTHON" - "$WORK" <<-'EOF'
		import random, struct, sys
		r = random.Random(3)
		with open(sys.argv[1] + '/wide', 'wb') as f:
		    for row in range(2000):
		        f.write(struct.pack('<100i', *(row * k + r.randint(0, 9) for k in range(100))))
		with open(sys.argv[1] + '/mixed', 'wb') as f:
		    for row in range(8000):
		        f.write(b''.join(struct.pack('<Bd', r.randint(0, 3), (row * k + r.randint(0, 9)) / 100) for k in range(20)))
	EOF
	array "$MNT/layers/wide" "$wide"
	array "$MNT/layers/mixed" "$mixed"
	cp "$WORK/wide" "$WORK/mixed" "$MNT/layers"
	sync "$MNT"
	stats "$MNT/layers/wide" | grep -q ' record(100x '
	stats "$MNT/layers/mixed" | grep -q ' record([a-z]*:1, .*none:108)'
	checked
	cmp "$WORK/wide" "$MNT/layers/wide"
	cmp "$WORK/mixed" "$MNT/layers/mixed"
}

@test "small arrays that share a frame, compaction, snapshots and rebuilding" {
	trades 60000 >"$WORK/t"
	for i in $(seq 1 20); do
		array "$MNT/layers/s$i" $TRADE
		head -c $((i * 700)) "$WORK/t" >"$MNT/layers/s$i"
	done
	array "$MNT/layers/t" $TRADE
	cp "$WORK/t" "$MNT/layers/t"
	mkdir "$MNT/snapshots/one"
	for i in $(seq 2 20); do rm "$MNT/layers/s$i"; done
	trades 70000 >"$WORK/u"
	dd if="$WORK/u" of="$MNT/layers/t" bs=21 count=30000 conv=notrunc status=none
	dd if="$WORK/u" of="$WORK/v" bs=21 count=30000 status=none
	tail -c +630001 "$WORK/t" >>"$WORK/v"
	sync "$MNT"
	rmdir "$MNT/snapshots/one"
	"$SPILLCTL" compact "$MNT" >&2
	cmp "$WORK/v" "$MNT/layers/t"
	cmp <(head -c 700 "$WORK/t") "$MNT/layers/s1"
	umount_store
	rm "$STORE"/meta.db*
	"$SPILLCTL" rebuild "$STORE" >&2
	"$SPILLCTL" check --data "$STORE" >&2
	mount_again
	cmp "$WORK/v" "$MNT/layers/t"
	stats "$MNT/layers/t" | grep -q ' record('
}

@test "views show the records that were written" {
	trades 60000 >"$WORK/t"
	array "$MNT/layers/t" $TRADE
	array "$MNT/layers/plain" $TRADE
	set_xattr "$MNT/layers/plain" filter none
	set_xattr "$MNT/layers/plain" codec none
	cp "$WORK/t" "$MNT/layers/t"
	cp "$WORK/t" "$MNT/layers/plain"
	sync "$MNT"
	stats "$MNT/layers/t" | grep -q ' record('
	cmp "$MNT/views/npy/layers/t.npy" "$MNT/views/npy/layers/plain.npy"
	zstd -dcq "$MNT/views/zst/layers/t.zst" | cmp - "$WORK/t"
	"$PYTHON" -c 'import sys
raw = open(sys.argv[1], "rb").read(100000)
for path in sys.argv[2:]: assert raw in open(path, "rb").read(), path' "$WORK/t" "$MNT/views/parquet/layers/t.parquet" "$MNT/views/arrow/layers/t.arrow"
	cmp <(tail -c $((60000 * 21)) "$MNT/views/npy/layers/t.npy") "$WORK/t"
	printf 'changed bytes' | dd of="$MNT/layers/t" bs=1 seek=500000 conv=notrunc status=none
	printf 'changed bytes' | dd of="$WORK/t" bs=1 seek=500000 conv=notrunc status=none
	sync "$MNT"
	cmp <(tail -c $((60000 * 21)) "$MNT/views/npy/layers/t.npy") "$WORK/t"
}
