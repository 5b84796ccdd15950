#!/usr/bin/env bats
# A short history of random edits, every state of it read back; history-long.bats has the long one.

load ../lib/common

setup() {
	spill_only
	setup_work
	mkdir "$WORK/model"
}

@test "24 commits of random edits: each reads back, before and after a compaction and a remount" {
	mount_store -o keep=100,commit=1
	guarded 100 "$PYTHON" "$LIB/history.py" edit "$MNT" "$WORK/model" 24 1 12
	guarded 100 "$PYTHON" "$LIB/history.py" check "$MNT" "$WORK/model"
	"$SPILLCTL" compact "$MNT"
	drop_caches
	guarded 100 "$PYTHON" "$LIB/history.py" check "$MNT" "$WORK/model"
	guarded 100 "$PYTHON" "$LIB/history.py" live "$MNT" "$WORK/model"
	remount -o keep=100,ro
	guarded 100 "$PYTHON" "$LIB/history.py" check "$MNT" "$WORK/model"
	guarded 100 "$PYTHON" "$LIB/history.py" live "$MNT" "$WORK/model"
}

@test "keep=N: the last N commits and those with a name, after each commit, a compaction and a remount" {
	mount_store -o keep=5,commit=1
	guarded 100 "$PYTHON" "$LIB/history.py" edit "$MNT" "$WORK/model" 15 2 8
	guarded 100 "$PYTHON" "$LIB/history.py" kept "$MNT" "$WORK/model" 5
	"$SPILLCTL" compact "$MNT"
	guarded 100 "$PYTHON" "$LIB/history.py" kept "$MNT" "$WORK/model" 5
	remount
	guarded 100 "$PYTHON" "$LIB/history.py" kept "$MNT" "$WORK/model" 5
	guarded 100 "$PYTHON" "$LIB/history.py" live "$MNT" "$WORK/model"
}
