#!/usr/bin/env bats
# All cells of foreign.bats.
load ../lib/common

setup() {
	spill_only
	require_root
	setup_work
}
teardown() { teardown_work; }

@test "files of a store that are something else" {
	py foreign "$WORK" "$SPILLFS" "$SPILLCTL" 1 0
}
