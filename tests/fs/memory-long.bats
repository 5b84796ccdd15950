#!/usr/bin/env bats
# The daemon's memory stays within its budgets plus 64 MiB while 4 GiB go through each kind.

load ../lib/common
setup() {
	setup_work
	spill_only
	need_prog SPILLLOAD tests/fs/spillload.c
	mount_store -o cache=64M,dirty=64M
}

peak_mib() { awk '/^VmHWM/ { print int($2 / 1024) }' "/proc/$PID/status"; }

within_budget() {
	echo "peak: $(peak_mib) MiB"
	sanitized || [ "$(peak_mib)" -le $((64 + 64 + 64)) ]
}

# 64 files of 64 MiB by two processes: written, read, verified, removed.
gigabytes() {
	"$SPILLLOAD" "$2" "$MNT/$1" 64 2 1048576 64
	within_budget
	rm -r "$MNT/$1"/*
	"$SPILLCTL" sync "$MNT"
	within_budget
}

@test "4 GiB through buckets" { gigabytes buckets -q; }
@test "4 GiB through columns" { gigabytes columns -q; }
@test "4 GiB through layers, incompressible" { gigabytes layers -q; }
@test "4 GiB through layers, compressible" { gigabytes layers -z; }
