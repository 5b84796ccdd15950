#!/usr/bin/env bats
# The daemon killed at some of its writes and syncs; at each of them in killpoints-long.

load ../lib/common
setup() { spill_only; setup_work; }

@test "killed in the middle of every fortieth change, the tree is that of the last commit or the next" {
	py killpoints "$WORK" first=3 every=40 torn=1 deep=1
}

@test "a fault that is not understood is refused" {
	SPILLFS_FAULT=kill:x fails_with "fault 'kill:x'" "$SPILLFS" "$STORE" "$MNT"
	SPILLFS_FAULT=never fails_with "fault 'never'" "$SPILLFS" "$STORE" "$MNT"
	refute mounted
}
