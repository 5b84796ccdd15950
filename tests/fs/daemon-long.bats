#!/usr/bin/env bats
# What of daemon.bats takes longer: a daemon without more memory, and 100,000 files that are made and deleted.

load ../lib/common
setup() {
	setup_work
	spill_only
}

@test "a daemon that gets no more memory says so, and goes on when there is some" {
	sanitized && skip "a sanitizer's memory is not bounded"
	mount_store
	guarded 300:60 "$PYTHON" -S "$LIB/daemon.py" starve "$MNT" "$PID" >"$WORK/said" || { cat "$WORK/said"; return 1; }
	tell "$(cat "$WORK/said")"
	umount_store
	"$SPILLCTL" check "$STORE"
}

# cycles [options]
cycles() {
	mount_store "$@"
	guarded 3000:100 "$PYTHON" -S "$LIB/cycles.py" "$MNT" "$PID" 100000 >"$WORK/said" || { cat "$WORK/said"; return 1; }
	tell "$(cat "$WORK/said")"
	tell_peaks
}

@test "100,000 files are made and deleted: descriptors, memory, inodes and arrays are as before" { cycles; }
@test "the same with -o nowriteback and small budgets" { cycles -o nowriteback,dirty=1M,cache=1M,layer=1M,commit=1; }
