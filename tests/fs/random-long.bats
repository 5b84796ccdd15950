#!/usr/bin/env bats
# More seeds, and longer runs, of the random operations; see random.bats. (Several at once: many-long.bats.)

load ../lib/common

setup() {
	setup_work
	need_prog FSOPS tests/fs/fsops.c tests/fs/{fscompare,fsmany,fsways,fsways_ops}.c
	model_dir
}

# seeds FIRST LAST [options]: each seed on a fresh tree in one mount, remounted now and then.
seeds() {
	local seed k first=$1 last=$2
	shift 2
	mount_store "$@"
	for seed in $(seq "$first" "$last"); do
		mkdir "$MODEL/$seed"
		for k in $KINDS; do mkdir "$MNT/$k/$seed"; done
		set -- "$MODEL/$seed" "$MNT/buckets/$seed" "$MNT/columns/$seed" "$MNT/layers/$seed"
		guarded 200 "$FSOPS" -p "$MNT/columns/$seed" -s "$seed" -n 5000 -i 1000 "$@"
		if [ $((seed % 4)) = 0 ]; then
			remount
			guarded 200 "$FSOPS" -p "$MNT/columns/$seed" -s "$seed" -c "$@"
		fi
		rm -r "$@"
	done
	tell "$(((last + 1 - first) * 5000 * 3)) operations compared with ext4"
	tell_peaks
}

@test "7 seeds" { seeds 1001 1007; }
@test "7 seeds with small budgets" { seeds 2001 2007 -o dirty=1M,cache=1M,layer=512K,commit=1; }
@test "5 seeds with -o nowriteback" { spill_only; seeds 3001 3005 -o nowriteback; }
