#!/usr/bin/env bats
# The daemon killed at each of its writes and syncs: see killpoints.py. (Power cuts at each of them: tests/sim.)

load ../lib/common
setup() { spill_only; setup_work; }

@test "killed before every change" { py killpoints "$WORK"; }
@test "killed in the middle of every sixth write, then written to again" { py killpoints "$WORK" torn=1 deep=1 every=6; }
@test "killed before every third change, with small layers and budgets" {
	py killpoints "$WORK" deep=1 settle=1 every=3 options=commit=0,threads=2,pool=1,layer=64K,dirty=1M,cache=1M
}
@test "killed in the middle of every sixth write, small layers, direct I/O" {
	py killpoints "$WORK" torn=1 first=2 every=6 settle=1 options=commit=0,threads=2,layer=128K,dirty=1M,backing=direct,leases=2
}
