#!/usr/bin/env bats
# The stores of released formats, tests/golden, go on being found clean, mounted and rebuilt; a newer format is refused by name.

load ../lib/common

setup() {
	spill_only
	setup_work
	rmdir "$STORE"
	cp -r --no-preserve=mode "$TOP/tests/golden/store" "$STORE"
}

clean() { "$SPILLCTL" check --data "$STORE" >"$WORK/out" 2>&1 || fail "$(cat "$WORK/out")"; }

# The bytes and the attributes of all that a rebuild brings back.
picture() {
	(cd "$MNT"
	 find layers columns snapshots/first/layers snapshots/second/layers -printf '%p %y %m %n %T@ %l\n' | sort
	 find layers columns snapshots/first/layers snapshots/second/layers -type f -exec md5sum {} + | sort
	 find layers columns | sort | xargs -d '\n' getfattr -hdm '^user') >"$1"
}

# What tests/hostile/base.c has written.
filled() {
	eq "$(od -A n -t u4 -N 12 "$MNT/layers/d/e/d.f64" | xargs)" "9 9 9"
	eq "$(stat -c %s "$MNT/layers/a.i32" "$MNT/columns/big.i64" "$MNT/columns/small" | xargs)" "20000 70000 1000"
	eq "$(readlink "$MNT/layers/d/e/link")" ../b
	eq "$(xattr "$MNT/layers/a.i32" filter) $(xattr "$MNT/columns/big.i64" shape)" "shuffle 100,87"
	eq "$(ls "$MNT/snapshots" | xargs)" "first second"
	[ -e "$MNT/snapshots/first/layers/d/e/gone" ]
	[ ! -e "$MNT/layers/d/e/gone" ]
}

@test "the golden store is clean, mounts, and is clean after it was written" {
	clean
	mount_store
	filled
	eq "$(xattr "$MNT/buckets/runs.u32" runs)" "0 3000 6000 9000 12000 15000 17000 19000 21000 23000 25000"
	eq "$(getfattr --only-values --absolute-names -n user.note "$MNT/buckets/runs.u32")" "of no consequence"
	echo more >"$MNT/layers/d/more"
	"$SPILLCTL" commit "$MNT" >&2
	umount_store
	clean
	remount
	filled
	eq "$(cat "$MNT/layers/d/more")" more
}

@test "the golden store is rebuilt without meta.db" {
	mount_store
	picture "$WORK/before"
	umount_store
	rm "$STORE"/meta.db*
	"$SPILLCTL" rebuild "$STORE" >&2
	clean
	mount_again
	filled
	picture "$WORK/after"
	diff "$WORK/before" "$WORK/after"
}

# Each array as tests/lib/golden_records.py makes it.
records() {
	local name size dtype
	while read -r name size dtype; do
		eq "$(xattr "$MNT/layers/$name" dtype)" "$dtype"
		[ "$size" -eq 0 ] || eq "$(xattr "$MNT/layers/$name" block_size)" "$size"
		cmp "$WORK/$name" "$MNT/layers/$name"
	done <"$WORK/arrays"
}

@test "the golden store of records: columns, leads, rests and repeats are read by all that reads" {
	rm -r "$STORE"
	cp -r --no-preserve=mode "$TOP/tests/golden/records" "$STORE"
	clean
	py golden_records "$WORK" >"$WORK/arrays"
	for name in trades lead small mixed wide; do "$TOP/contrib/spillfs-read" "$STORE" $name | cmp - "$WORK/$name"; done
	mount_store
	records
	"$SPILLCTL" stats "$MNT/layers/lead" | grep -q 'record(scale+delta+pack:8, delta+pack:8, delta+pack:4, pack:1)'
	"$SPILLCTL" stats "$MNT/layers/wide" | grep -q 'record(100x delta+zigzag+shuffle:2)'
	printf x >>"$MNT/layers/trades"
	umount_store
	rm "$STORE"/meta.db*
	"$SPILLCTL" rebuild "$STORE" >&2
	clean
	mount_again
	truncate -s -1 "$MNT/layers/trades"
	records
}

# What is in tests/golden/spread: lists of numbers.
spread_filled() {
	local k
	for k in 1 2 3; do
		seq $k 5000 | cmp - "$MNT/buckets/b$k"
		seq $k 20000 | cmp - "$MNT/layers/l$k"
		seq $k 900 | cmp - "$MNT/columns/c$k"
	done
	seq 7 20000 | cmp - "$MNT/layers/l5"
	[ ! -e "$MNT/layers/l4" ]
	seq 4 20000 | cmp - "$MNT/snapshots/first/layers/l4"
}

@test "the golden store on several directories: one of them, which was to be emptied, is; the others are read, written and rebuilt" {
	rm -r "$STORE"
	cp -r --no-preserve=mode "$TOP/tests/golden/spread" "$WORK/spread"
	mv "$WORK/spread/home" "$STORE"
	fails_with "/spread/1: directory of the store $STORE: No such file" "$SPILLFS" "$STORE" "$MNT"
	sed -i "s,/spread/,$WORK/spread/," "$STORE/disks"
	clean
	seq 2 20000 >"$WORK/l2"
	"$TOP/contrib/spillfs-read" "$STORE" l2 | cmp - "$WORK/l2"
	mount_store
	spread_filled
	"$SPILLCTL" info "$MNT" | tee "$WORK/info"
	grep -q "^store format  3" "$WORK/info"
	grep -q "^directory 2 .*draining.*: $WORK/spread/2$" "$WORK/info"
	echo more >"$MNT/layers/more"
	echo more >"$MNT/buckets/more"
	"$SPILLCTL" drain "$MNT" "$WORK/spread/2"
	umount_store
	rm -r "$WORK/spread/2"
	clean
	remount
	spread_filled
	eq "$(cat "$MNT/layers/more" "$MNT/buckets/more" | xargs)" "more more"
	# A number is not given twice.
	mkdir "$WORK/new"
	remount -o "pool=$WORK/new"
	eq "$(sed -n 's/^number //p' "$WORK/new/SPILLFS.disk")" 4
	umount_store
	rm "$STORE"/meta.db*
	"$SPILLCTL" rebuild "$STORE" >&2
	clean
	mount_again
	seq 3 20000 | cmp - "$MNT/layers/l3"
	seq 3 900 | cmp - "$MNT/columns/c3"
}

@test "a newer format, and one that was never released, are refused by name, and nothing is changed" {
	local format before
	STORE_DAMAGED=1
	for format in 4 1 999999999; do
		sed -i "s/^spillfs .*/spillfs $format/" "$STORE/SPILLFS"
		before=$(sums "$STORE")
		ctl_fails 8 "the store has format $format" check --repair "$STORE"
		fails_with "the store has format $format" "$SPILLFS" "$STORE" "$MNT"
		fails_with "the store has format $format" "$SPILLCTL" rebuild --force "$STORE"
		rm -f "$STORE/lock"
		eq "$(sums "$STORE")" "$before"
	done
}
