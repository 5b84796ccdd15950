#!/usr/bin/env bats
# The same random operations on plain ext4 and on each kind; see fsops.c. FSOPS_N: how many.

load ../lib/common

setup() {
	setup_work
	need_prog FSOPS tests/fs/fsops.c tests/fs/{fscompare,fsmany,fsways,fsways_ops}.c
	model_dir
}

dirs() {
	for k in $KINDS; do mkdir -p "$MNT/$k/x"; done
	set -- "$MODEL" "$MNT"/buckets/x "$MNT"/columns/x "$MNT"/layers/x
	DIRS=("$@")
}

# rounds FIRST LAST: run, remount, compare, and on with the next seed in what is there.
rounds() {
	local seed
	for seed in $(seq "$1" "$2"); do
		dirs
		guarded 100 "$FSOPS" -p "$MNT/columns/x" -s "$seed" -n "${FSOPS_N:-1000}" -i 250 "${DIRS[@]}"
		remount
		guarded 100 "$FSOPS" -p "$MNT/columns/x" -s "$seed" -c "${DIRS[@]}"
	done
}

@test "random operations, compared with ext4, before and after a remount" {
	mount_store
	rounds 1 2
}

@test "the same with small budgets, small layers and frequent commits" {
	mount_store -o dirty=1M,cache=1M,layer=256K,commit=1
	rounds 11 12
}

@test "the same with -o nowriteback" {
	spill_only
	mount_store -o nowriteback
	rounds 21 21
}

@test "the same with columns by passthrough" {
	spill_only
	need_passthrough
	mount_store -o passthrough,commit=1
	FSOPS_NO_SETID=1 rounds 41 42
}

@test "the same with direct I/O on the store and two leases" {
	spill_only
	mount_store -o backing=direct,leases=2,pool=1
	rounds 31 31
}
