#!/usr/bin/env bats
# spillctl try: what each codec and filter would make of a file.
load ../lib/common

setup() {
	spill_only
	setup_work
}
teardown() { teardown_work; }

# numbers TYPECODE EXPRESSION: an element for each i, as Python's array has them; r(N) is a random integer below N
numbers() {
	"$PYTHON" -c "import array, random, sys
r = random.Random(1).randrange
array.array('$1', ($2)).tofile(sys.stdout.buffer)"
}

tried() {
	"$SPILLCTL" try "$@" >"$WORK/out" 2>"$WORK/err"
	cat "$WORK/out"
}
# row CODEC FILTER: its stored part; note CODEC FILTER: what stands behind the speeds
row() { awk -v c="$1" -v f="$2" '$1 == c && $2 == f { print $3 }' "$WORK/out"; }
note() { awk -v c="$1" -v f="$2" '$1 == c && $2 == f { $1 = $2 = $3 = $4 = $5 = ""; print }' "$WORK/out" | sed 's/^ *//'; }
less() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a != "" && b != "" && a < b) }' || fail "$1 is not less than $2"; }

@test "what cannot be tried is refused by name" {
	mkfifo "$WORK/fifo"
	: >"$WORK/empty"
	echo 12345678 >"$WORK/f"
	ctl_fails 3 "$WORK/no: No such file" try "$WORK/no"
	ctl_fails 3 "$WORK is a directory, not a file" try "$WORK"
	ctl_fails 3 "$WORK/fifo is something else, not a file" try "$WORK/fifo"
	ctl_fails 3 "$WORK/empty is empty: there is nothing to try" try "$WORK/empty"
	ctl_fails 1 "'f65' is no element type: it is one of i8" try -t f65 "$WORK/f"
	ctl_fails 1 "'' is no element type" try --type "" "$WORK/f"
	ctl_fails 1 "usage: spillctl try [options] FILE" try
}

@test "decimals: the type from the suffix, all chains, and what auto takes" {
	numbers d "(r(10007) / 100 for i in range(65536))" >"$WORK/x.f64"
	tried "$WORK/x.f64"
	grep -qF "x.f64: f64, 512.0 KiB in 4 blocks of 128.0 KiB" "$WORK/out"
	refute grep -qF "spread evenly" "$WORK/out"
	less "$(row auto scale+pack)" 0.26
	less "$(row auto scale+pack)" "$(row auto none)"
	less "$(row pack auto)" 0.26
	less "$(row auto auto)" 0.26
	less 0.3 "$(row auto shuffle)"
	less 1 "$(row none none)"
	less "$(row zstd:-7 auto)" 0.3
	[[ $(note auto auto) == "takes scale+"* ]]
	[ -z "$(note auto shuffle)" ]
	# Each value is one that the attributes take, and the speeds are numbers.
	awk 'p && !($3 > 0 && $4 > 0 && $5 > 0) { bad = 1 } $1 == "codec" { p = 1 } END { exit bad || !p }' "$WORK/out"
}

@test "integers have no rows that scale; -t says what a name does not" {
	numbers q "(i * 1000 + r(900) for i in range(65536))" >"$WORK/x"
	tried "$WORK/x"
	grep -qF "x: no element type (option -t gives one), 512.0 KiB" "$WORK/out"
	[ -z "$(row auto shuffle)$(row auto scale)" ]
	tried -t i64 "$WORK/x"
	grep -qF "x: i64, 512.0 KiB" "$WORK/out"
	[ -z "$(row auto scale)" ]
	less "$(row auto delta+pack)" 0.2
	eq "$(note auto auto)" "takes delta+pack:8"
}

@test "a filter that fits some blocks says how many" {
	numbers d "(i / 4 if i < 32768 else (i * 0.1) ** 0.5 for i in range(65536))" >"$WORK/x.f64"
	tried "$WORK/x.f64"
	eq "$(note auto scale+pack)" "fits 2 of 4 blocks"
}

@test "a large file is sampled, and zeros take nothing" {
	numbers d "(i / 4 for i in range(16384))" >"$WORK/x.f64"
	truncate -s 64M "$WORK/x.f64"
	tried "$WORK/x.f64"
	grep -qxF "tried with 32 of the blocks, spread evenly" "$WORK/out"
	grep -qxF "31 blocks are zeros: they take nothing, and are left out below" "$WORK/out"
	less "$(row auto auto)" 0.5
	truncate -s 0 "$WORK/x.f64"
	truncate -s 1M "$WORK/x.f64"
	tried "$WORK/x.f64"
	grep -qxF "8 blocks are zeros: they take nothing, and are left out below" "$WORK/out"
	refute grep -q "^auto" "$WORK/out"
}

@test "a file of a mount: type, block size and shape from its attributes, and the layer has what was said" {
	mount_store -o commit=600
	: >"$MNT/layers/x"
	setfattr -n user.spillfs.dtype -v i32 "$MNT/layers/x"
	setfattr -n user.spillfs.block_size -v 65536 "$MNT/layers/x"
	numbers i "(i * 300 + r(200) for i in range(65536))" >"$MNT/layers/x"
	tried "$MNT/layers/x"
	grep -qF "layers/x: i32, 256.0 KiB in 4 blocks of 64.0 KiB" "$WORK/out"
	numbers i "(i * 300 + r(200) for i in range(262144))" >"$MNT/layers/y.i32"
	tried "$MNT/layers/y.i32"
	"$SPILLCTL" sync "$MNT"
	"$SPILLCTL" stats "$MNT/layers/y.i32" >"$WORK/stats"
	eq "$(awk '$1 == "0" { print "takes " $6 }' "$WORK/stats" | tr -d ' ')" "$(note auto auto | tr -d ' ')"
	stored=$(awk '$1 ~ /^[0-9]+$/ { s += $5 } END { print s }' "$WORK/stats")
	eq "$(awk -v s="$stored" 'BEGIN { printf "%.4f", s / 1048576 }')" "$(row auto auto)"
}
