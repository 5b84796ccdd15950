#!/usr/bin/env bats
# A hundred thousand runs (TEST_FULL=1: a million): every one ends where its writer closed, while others load the daemon; and what
# many cost.

load ../lib/common

setup() {
	spill_only
	setup_work
	need_prog RUNLOAD tests/fs/runload.c
	need_prog SPILLLOAD tests/fs/spillload.c
}

index() { echo "$MNT/views/runs/buckets/$1/index.u64"; }

if [ -n "${TEST_FULL:-}" ]; then
	runs_each=250000 runs_all=1000000
else
	runs_each=25000 runs_all=200000
fi

four_writers() { # options of the mount
	local pids=() f i
	mount_store "$@"
	mkdir "$MNT/buckets/noise"
	for f in a b c d; do
		"$RUNLOAD" write "$MNT/buckets/$f" "$runs_each" 2 &
		pids+=($!)
	done
	(while [ ! -e "$WORK/done" ]; do "$SPILLLOAD" -q -a -o "$MNT/buckets/noise" 30 2 40000 10 && rm "$MNT"/buckets/noise/*; done) &
	for i in "${pids[@]}"; do wait "$i"; done
	: >"$WORK/done"
	wait
	for f in a b c d; do "$RUNLOAD" check "$MNT/buckets/$f" "$(index $f)"; done
	remount
	for f in a b c d; do "$RUNLOAD" check "$MNT/buckets/$f" "$(index $f)"; done
	eq "$(find "$MNT/views/runs/buckets/a" -type f | wc -l)" "$runs_each"
	umount_store
	"$SPILLCTL" check "$STORE"
}

@test "runs of four writers, while others write" { four_writers; }

@test "a commit stores the boundaries that are new" {
	mount_store -o commit=0
	py runs many "$MNT" "$runs_all"
	wal=$(stat -c %s "$STORE/meta.db-wal")
	printf x >>"$MNT/buckets/many/f"
	"$SPILLCTL" sync "$MNT"
	[ $(($(stat -c %s "$STORE/meta.db-wal") - wal)) -lt $((runs_all * 2)) ] # of 8 bytes each
	remount
	py runs counted "$MNT" $((runs_all + 1))
}
