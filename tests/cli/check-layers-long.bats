#!/usr/bin/env bats
# Flipped bytes in many more places than check-layers.bats has time for.
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
	guarded 900 "$PYTHON" "$LIB/history.py" edit "$MNT" "$WORK/model2" 6 "$1" 6
	noise 50000 "$MNT/layers/last" 1
	"$SPILLCTL" sync "$MNT"
	kill9
}

@test "400 flipped bits in layers, HEAD and refs" {
	mkdir "$WORK/model2"
	store 3
	py flips layers "$STORE" "$MNT" 400 "${SEED:-2}"
}

@test "200 flipped bits in meta.db" {
	mkdir "$WORK/model2"
	store 4
	sql='UPDATE facts SET value=value+1 WHERE key='"'next_ino'"
	py damage sql "$STORE" "$sql"
	py flips meta "$STORE" "$MNT" 200 "${SEED:-2}"
}
