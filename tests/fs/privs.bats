#!/usr/bin/env bats
# What lends privilege to whoever runs a file goes when the file changes, as on ext4: set-user and set-group bits, and
# capabilities. The tests of this file share one mount, those without the writeback cache another.

load ../lib/common

setup_file() {
	[ "$(id -u)" = 0 ] || return 0
	setup_work
	mount_store -o suid
}
teardown_file() { [ "$(id -u)" != 0 ] || teardown_work; }
setup() {
	require_root
	revive
	for K in $KINDS; do rm -rf "$MNT/$K"/privs*; done
}
teardown() { :; }

privs() { guarded 100 "$PYTHON" "$LIB/privs.py" "$@"; }
dirs() { echo "$MNT"/{buckets,columns,layers}; }

@test "each way to change a file takes privileges away; root's own keeps the bits" {
	privs change $(dirs)
}

@test "a program that another one has changed runs without privilege at once" {
	spill_only
	privs runs_busy $(dirs)
}

@test "a write by a view counts as one to its array" {
	spill_only
	privs view "$MNT"
}

@test "privileges stay away after a crash" {
	spill_only
	privs leave $(dirs)
	kill9
	mount_again
	privs left $(dirs)
}

@test "the same without the writeback cache" {
	spill_only
	remount -o suid,nowriteback
	privs change $(dirs)
	privs runs $(dirs)
	privs view "$MNT"
}
