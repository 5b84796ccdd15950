#!/usr/bin/env bats
# spillctl stats: the blocks of an array.
load ../lib/common

setup() {
	spill_only
	setup_work
	mount_store -o commit=600 # nothing is compressed but by request
}

# numbers TYPECODE EXPRESSION: an element for each i, as Python's array has them
numbers() {
	"$PYTHON" -c "import array, sys
array.array('$1', ($2)).tofile(sys.stdout.buffer)"
}

# row BLOCK: the columns of a table's row
row() { awk -v b="$1" '$1 == b' "$WORK/out" | tr -s ' ' | sed 's/^ //'; }

@test "what is no array is refused by name" {
	echo x >"$WORK/f"
	mkfifo "$WORK/fifo"
	ctl_fails 2 "$WORK/f is not an array on a spillfs" stats "$WORK/f"
	ctl_fails 2 "$WORK/fifo is not an array on a spillfs" stats "$WORK/fifo"
	ctl_fails 2 "/dev/null is not an array on a spillfs" stats /dev/null
	ctl_fails 2 "$MNT is a directory (spillctl stat shows" stats "$MNT"
	ctl_fails 2 "$MNT/layers/no: No such file" stats "$MNT/layers/no"
	ctl_fails 1 "usage: spillctl stats [options] FILE" stats
}

@test "blocks, holes and totals of integers" {
	# Blocks of 32768 elements: 0 and 1 with data, 2 to 4 a hole, 5 short.
	numbers i "(i - 100 for i in range(65536))" >"$MNT/layers/x.i32"
	truncate -s $((5 * 131072)) "$MNT/layers/x.i32"
	numbers i "[7, 8, 2000000000]" >>"$MNT/layers/x.i32"
	"$SPILLCTL" sync "$MNT"
	"$SPILLCTL" stats "$MNT/layers/x.i32" >"$WORK/out"
	cat "$WORK/out"
	head -n1 "$WORK/out" | grep -qF "x.i32: i32, 163843 elements, 640.0 KiB in 6 blocks of 128.0 KiB, stored "
	[[ $(row 0) =~ ^'0 [0, 32768) '[0-9]+' '[0-9]+' '[a-z:0-9+]+' -100 32667 - 1'$ ]]
	[[ $(row 1) =~ ^'1 [32768, 65536) '.*' 32668 65435 - 0'$ ]]
	eq "$(row 2..4)" "2..4 [65536, 163840) zeros 0 - 0 0 - 98304"
	[[ $(row 5) =~ ^'5 [163840, 163843) '.*' 7 2000000000 - 0'( packed)?$ ]]
	grep -qxE 'min +-100' "$WORK/out"
	grep -qxE 'max +2000000000' "$WORK/out"
	grep -qxE 'zeros +98305' "$WORK/out"
	"$SPILLCTL" stats -s "$MNT/layers/x.i32" >"$WORK/short"
	eq "$(wc -l <"$WORK/short")" 4
	remount
	"$SPILLCTL" stats --summary "$MNT/layers/x.i32" >"$WORK/again"
	same "$WORK/short" "$WORK/again"
}

@test "NaNs are counted, and are no bounds" {
	numbers d "(float('nan') if i % 10 == 0 else -0.0 if i % 10 == 1 else i / 4 for i in range(20000))" >"$MNT/layers/x.f64"
	"$SPILLCTL" sync "$MNT"
	"$SPILLCTL" stats "$MNT/layers/x.f64" >"$WORK/out"
	cat "$WORK/out"
	[[ $(row 0) == *" -0 4095.75 1639 1639" ]]
	[[ $(row 1) =~ \ -0\ 4999.75\ 361\ 361(\ packed)?$ ]]
	grep -qxE 'min +-0' "$WORK/out"
	grep -qxE 'max +4999\.75' "$WORK/out"
	grep -qxE 'NaNs +2000' "$WORK/out"
	grep -qxE 'zeros +2000' "$WORK/out"
}

@test "what waits to be compressed is dirty and not counted" {
	echo hello >"$MNT/layers/x.u8"
	"$SPILLCTL" stats "$MNT/layers/x.u8" >"$WORK/out"
	cat "$WORK/out"
	eq "$(row 0)" "0 [0, 6) dirty - - - - - -"
	grep -qF "not counted: 1 dirty blocks" "$WORK/out"
	"$SPILLCTL" sync "$MNT"
	"$SPILLCTL" stats "$MNT/layers/x.u8" >"$WORK/out"
	[[ $(row 0) == *" 10 111 - 0"* ]]
}

@test "records have blocks and no statistics; an empty array has neither" {
	: >"$MNT/layers/x"
	setfattr -n user.spillfs.dtype -v "pos:u32,lcp:u64" "$MNT/layers/x"
	noise 1200 "$WORK/in"
	cat "$WORK/in" >"$MNT/layers/x"
	"$SPILLCTL" sync "$MNT"
	"$SPILLCTL" stats "$MNT/layers/x" >"$WORK/out"
	head -n1 "$WORK/out" | grep -qF ": pos:u32,lcp:u64, 100 elements"
	[[ $(row 0) == "0 [0, 100) "*" - - - -"* ]]
	grep -qF "no statistics" "$WORK/out"
	: >"$MNT/layers/y.f32"
	"$SPILLCTL" stats "$MNT/layers/y.f32" | grep -qF "f32, 0 elements, 0 B in 0 blocks"
}

@test "an array in a snapshot shows what it was" {
	numbers i "range(1000)" >"$MNT/layers/x.i32"
	"$SPILLCTL" commit "$MNT"
	mkdir "$MNT/snapshots/s"
	"$SPILLCTL" stats -s "$MNT/layers/x.i32" | tail -n +2 >"$WORK/before"
	numbers i "range(5000, 9000)" >"$MNT/layers/x.i32"
	"$SPILLCTL" commit "$MNT"
	"$SPILLCTL" stats -s "$MNT/snapshots/s/layers/x.i32" | tail -n +2 >"$WORK/then"
	same "$WORK/before" "$WORK/then"
	grep -qxE 'max +999' "$WORK/then"
	"$SPILLCTL" stats -s "$MNT/layers/x.i32" | grep -qxE 'min +5000'
}

@test "many blocks, more than one answer holds, and other users" {
	require_root
	: >"$MNT/layers/x.u16"
	setfattr -n user.spillfs.block_size -v 4096 "$MNT/layers/x.u16"
	numbers H "(1 + i // 2048 for i in range(2048 * 200))" >"$MNT/layers/x.u16"
	"$SPILLCTL" sync "$MNT"
	chmod 644 "$MNT/layers/x.u16"
	setpriv --reuid=65534 --regid=65534 --clear-groups "$SPILLCTL" stats "$MNT/layers/x.u16" >"$WORK/out"
	awk '$2 ~ /^\[/ { if ($1 != n || $(NF - ($NF == "packed") - 2) != n + 1) bad = 1; n++ }
		END { exit bad || n != 200 }' "$WORK/out"
	grep -qxE 'max +200' "$WORK/out"
}

@test "buckets and columns: stretches, holes, and after each way to change them" {
	local kind f
	for kind in buckets columns; do
		f=$MNT/$kind/x.i64
		numbers q "range(1, 100001)" >"$f"
		"$SPILLCTL" stats "$f" >"$WORK/out"
		cat "$WORK/out"
		head -n1 "$WORK/out" | grep -qxF "$f: i64, 100000 elements, 781.2 KiB in 4 blocks of 256.0 KiB"
		eq "$(row 0)" "0 [0, 32768) 1 32768 - 0"
		eq "$(row 3)" "3 [98304, 100000) 98305 100000 - 0"
		grep -qxE 'max +100000' "$WORK/out"
		# Each of these changes what is remembered.
		numbers q "[-7]" | dd of="$f" bs=8 seek=40000 conv=notrunc status=none
		"$SPILLCTL" stats "$f" >"$WORK/out"
		eq "$(row 1)" "1 [32768, 65536) -7 65536 - 0"
		fallocate -p -o $((8 * 70000)) -l $((8 * 512)) "$f"
		"$SPILLCTL" stats "$f" >"$WORK/out"
		eq "$(row 2)" "2 [65536, 98304) 0 98304 - 512"
		truncate -s $((8 * 98306)) "$f"
		"$SPILLCTL" stats "$f" >"$WORK/out"
		eq "$(row 3)" "3 [98304, 98306) 98305 98306 - 0"
		truncate -s $((8 * 230000)) "$f"
		"$SPILLCTL" stats "$f" >"$WORK/out"
		eq "$(row 3)" "3 [98304, 131072) 0 98306 - 32766"
		eq "$(row 4..7)" "4..7 [131072, 230000) 0 0 - 98928"
		"$PYTHON" - "$f" <<-'END'
			import mmap, struct, sys
			with open(sys.argv[1], "r+b") as f:
			    m = mmap.mmap(f.fileno(), 0)
			    m[:8] = struct.pack("<q", -99)
			    m[8 * 98304:8 * 98305] = struct.pack("<q", 1 << 60)
			    m.close()
		END
		"$SPILLCTL" stats "$f" >"$WORK/out"
		eq "$(row 0)" "0 [0, 32768) -99 32768 - 0"
		eq "$(row 3)" "3 [98304, 131072) 0 1152921504606846976 - 32766"
		setfattr -n user.spillfs.dtype -v u64 "$f"
		"$SPILLCTL" stats "$f" >"$WORK/out"
		eq "$(row 0)" "0 [0, 32768) 2 18446744073709551517 - 0"
	done
}
