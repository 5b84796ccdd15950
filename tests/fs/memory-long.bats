#!/usr/bin/env bats
# The daemon's memory stays within its budgets plus 64 MiB while 4 GiB, and a million small arrays, go through each kind.

load ../lib/common
setup() {
	setup_work
	spill_only
	need_prog SPILLLOAD tests/fs/spillload.c
	need_prog MANYFILES tests/fs/manyfiles.c
}

peak_mib() { awk '/^VmHWM/ { print int($2 / 1024) }' "/proc/$PID/status"; }

# within_budget MIB: each of the two.
within_budget() {
	echo "peak: $(peak_mib) MiB"
	sanitized || [ "$(peak_mib)" -le $(($1 + $1 + 64)) ]
}

# 64 files of 64 MiB by two processes: written, read, verified, removed.
gigabytes() {
	mount_store -o cache=64M,dirty=64M
	"$SPILLLOAD" "$2" "$MNT/$1" 64 2 1048576 64
	within_budget 64
	rm -r "$MNT/$1"/*
	"$SPILLCTL" sync "$MNT"
	within_budget 64
}

# With the default budgets; some minutes for each kind.
million() {
	mount_store
	for step in create list read remove; do
		"$MANYFILES" "$MNT/$1" 1000000 100 4 "$step"
		within_budget 256
	done
	"$SPILLCTL" sync "$MNT"
	within_budget 256
}

@test "20,000 columns just below 64 KiB" {
	mount_store -o cache=64M,dirty=64M
	"$MANYFILES" "$MNT/columns" 20000 60000 4 create read
	within_budget 64
	"$MANYFILES" "$MNT/columns" 20000 60000 4 remove
	"$SPILLCTL" sync "$MNT"
	within_budget 64
}

@test "4 GiB through buckets" { gigabytes buckets -q; }
@test "4 GiB through columns" { gigabytes columns -q; }
@test "4 GiB through layers, incompressible" { gigabytes layers -q; }
@test "4 GiB through layers, compressible" { gigabytes layers -z; }
@test "a million small arrays in buckets" { million buckets; }
@test "a million small arrays in columns" { million columns; }
@test "a million small arrays in layers" { million layers; }
