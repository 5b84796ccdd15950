#!/usr/bin/env bats
# Many power cuts of the disk below a store at random moments; see disk.bats. SEED: another hundred.

load ../lib/common
load disk

setup() {
	disk_setup
	seed=${SEED:-1}
}

@test "25 power cuts, nothing durable but by request" { power_cuts $((seed * 1000)) $((seed * 1000 + 24)) -o commit=0; }
@test "25 power cuts, commits all the time, small budgets and layers" {
	power_cuts $((seed * 1000 + 100)) $((seed * 1000 + 124)) -o commit=1,dirty=1M,cache=1M,layer=512K
}
@test "25 power cuts that lose the disk's own cache" {
	removable_disk
	power_cuts $((seed * 1000 + 500)) $((seed * 1000 + 524)) -o commit=0,layer=512K
}
@test "15 power cuts with direct I/O on the store" { power_cuts $((seed * 1000 + 200)) $((seed * 1000 + 214)) -o backing=direct,leases=2; }
@test "15 power cuts with -o nowriteback" { power_cuts $((seed * 1000 + 300)) $((seed * 1000 + 314)) -o nowriteback; }
@test "15 power cuts with columns by passthrough" {
	need_passthrough
	power_cuts $((seed * 1000 + 400)) $((seed * 1000 + 414)) -o passthrough
}
