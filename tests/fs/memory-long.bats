#!/usr/bin/env bats
# The daemon's memory stays within its budgets plus 64 MiB while much more, and many small arrays, go through each kind: half a GiB,
# and 60,000 arrays with an eighth of the default budgets. TEST_FULL=1: 4 GiB, and a million with the default budgets (half an hour).

load ../lib/common
setup() {
	setup_work
	spill_only
	need_prog SPILLLOAD tests/fs/spillload.c
	need_prog MANYFILES tests/fs/manyfiles.c
}

if [ -n "${TEST_FULL:-}" ]; then
	many=1000000 many_budget=256 pieces=64
else
	many=60000 many_budget=32 pieces=8
fi

peak_mib() { awk '/^VmHWM/ { print int($2 / 1024) }' "/proc/$PID/status"; }

# within_budget MIB: each of the two.
within_budget() {
	echo "peak: $(peak_mib) MiB"
	sanitized || [ "$(peak_mib)" -le $(($1 + $1 + 64)) ]
}

# 64 files by two processes: written, read, verified, removed.
gigabytes() {
	mount_store -o cache=64M,dirty=64M
	"$SPILLLOAD" "$2" "$MNT/$1" 64 2 1048576 $pieces
	within_budget 64
	rm -r "$MNT/$1"/*
	"$SPILLCTL" sync "$MNT"
	within_budget 64
}

small_arrays() {
	mount_store -o "cache=${many_budget}M,dirty=${many_budget}M"
	for step in create list read remove; do
		"$MANYFILES" "$MNT/$1" "$many" 100 4 "$step"
		within_budget "$many_budget"
	done
	"$SPILLCTL" sync "$MNT"
	within_budget "$many_budget"
}

@test "20,000 columns just below 64 KiB" {
	mount_store -o cache=64M,dirty=64M
	"$MANYFILES" "$MNT/columns" 20000 60000 4 create read
	within_budget 64
	"$MANYFILES" "$MNT/columns" 20000 60000 4 remove
	"$SPILLCTL" sync "$MNT"
	within_budget 64
}

@test "gigabytes through buckets" { gigabytes buckets -q; }
@test "gigabytes through columns" { gigabytes columns -q; }
@test "gigabytes through layers, incompressible" { gigabytes layers -q; }
@test "gigabytes through layers, compressible" { gigabytes layers -z; }
@test "many small arrays in buckets" { small_arrays buckets; }
@test "many small arrays in columns" { small_arrays columns; }
@test "many small arrays in layers" { small_arrays layers; }
