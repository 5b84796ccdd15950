#!/usr/bin/env bats
# More seeds, and longer runs, of the random operations; see random.bats.

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
}

@test "10 seeds" { seeds 1001 1010; }
@test "10 seeds with small budgets" { seeds 2001 2010 -o dirty=1M,cache=1M,layer=512K,commit=1; }
@test "6 seeds with -o nowriteback" { spill_only; seeds 3001 3006 -o nowriteback; }

@test "4 testers at the same time in one mount" {
	mount_store
	for i in 1 2 3 4; do
		mkdir "$MODEL/$i"
		for k in $KINDS; do mkdir "$MNT/$k/$i"; done
		guarded 300 "$FSOPS" -p "$MNT/columns/$i" -s 400$i -n 4000 "$MODEL/$i" "$MNT/buckets/$i" "$MNT/columns/$i" "$MNT/layers/$i" \
			>"$WORK/out$i" 2>&1 &
		pids[i]=$!
	done
	bad=0
	for i in 1 2 3 4; do wait "${pids[i]}" || { cat "$WORK/out$i"; bad=1; }; done
	[ $bad = 0 ]
}
