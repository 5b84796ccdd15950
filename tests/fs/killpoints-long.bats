#!/usr/bin/env bats
# The daemon killed at each of its writes and syncs: see killpoints.py.

load ../lib/common
setup() { spill_only; setup_work; }

@test "killed before every change" { py killpoints "$WORK"; }
@test "killed in the middle of every third write, then written to again" { py killpoints "$WORK" torn=1 deep=1 every=3; }
@test "killed in the middle of every eighth change, then written to again" { py killpoints "$WORK" first=3 every=8 torn=1 deep=1; }
@test "killed before every change, with small layers and budgets" {
	py killpoints "$WORK" deep=1 settle=1 options=commit=0,threads=2,pool=1,layer=64K,dirty=1M,cache=1M
}
@test "killed in the middle of every third write, small layers, direct I/O" {
	py killpoints "$WORK" torn=1 every=3 settle=1 options=commit=0,threads=2,layer=128K,dirty=1M,backing=direct,leases=2
}
