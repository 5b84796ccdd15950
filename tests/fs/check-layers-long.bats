#!/usr/bin/env bats
# Flipped bytes in a longer history than check-layers.bats has time for.
load ../lib/common

setup() {
	spill_only
	setup_work
	mkdir "$WORK/model"
}

# store SEED: a history of 31 commits with a compaction.
store() {
	mount_store -o keep=4,commit=0
	guarded 900 "$PYTHON" "$LIB/history.py" edit "$MNT" "$WORK/model" 25 "$1" 12
	"$SPILLCTL" compact "$MNT" >&2
	for i in $(seq 6); do
		noise $((i * 9000)) "$MNT/layers/more$i" "$i"
		[ "$i" = 5 ] || "$SPILLCTL" commit "$MNT" >&2
	done
	mkdir "$MNT/snapshots/late"
	noise 50000 "$MNT/layers/last" 1
	"$SPILLCTL" sync "$MNT"
	kill9
}

@test "160 flipped bits in layers, HEAD and refs" {
	store 3
	py flips layers "$STORE" "$MNT" 160 "${SEED:-2}"
}

@test "90 flipped bits in meta.db" {
	store 4
	sql='UPDATE facts SET value=value+1 WHERE key='"'next_ino'"
	py damage sql "$STORE" "$sql"
	py flips meta "$STORE" "$MNT" 90 "${SEED:-2}"
}
