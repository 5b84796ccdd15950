#!/usr/bin/env bats
# Longer: readers and writers beside compaction, kills in the middle of it, followers, storms of snapshots.

load ../lib/common

setup() {
	spill_only
	setup_work
}

# teardown's umount of the writer would leave the follower's mount to force.
teardown() {
	if mounted "$WORK/ro"; then "$SPILLCTL" umount "$WORK/ro" || true; fi
	teardown_work
}

follow() {
	mkdir "$WORK/ro"
	"$SPILLFS" -o "ro${1:+,$1}" "$STORE" "$WORK/ro" 3>&- </dev/null
}

@test "readers and writers beside compaction for 40 seconds, with small budgets" {
	mount_store -o cache=1M,dirty=4M,commit=1,layer=1M,compact=0
	guarded 200 "$PYTHON" "$LIB/compaction.py" "$MNT" "$SPILLCTL" 40 8
}

@test "the same with direct I/O, without the writeback cache, with kept commits and a slow compaction" {
	mount_store -o nowriteback,cache=1M,backing=direct,leases=2,commit=1,keep=50,compact=4M
	guarded 200 "$PYTHON" "$LIB/compaction.py" "$MNT" "$SPILLCTL" 30 4096
}

@test "100 snapshots of six concurrent writers, with compaction in the background" {
	mount_store -o layer=4M,commit=1,compact=0
	guarded 300 "$PYTHON" "$LIB/snapshots.py" storm "$MNT" "$WORK/looks" 100
	guarded 300 "$PYTHON" "$LIB/snapshots.py" again "$MNT" "$WORK/looks"
	"$SPILLCTL" compact "$MNT"
	remount -o cache=1M
	guarded 300 "$PYTHON" "$LIB/snapshots.py" again "$MNT" "$WORK/looks"
	follow
	guarded 300 "$PYTHON" "$LIB/snapshots.py" again "$WORK/ro" "$WORK/looks"
	"$SPILLCTL" umount "$WORK/ro"
	# What is dropped leaves the others as they are.
	for i in $(seq 0 3 99); do rmdir "$MNT/snapshots/s$(printf %03d "$i")"; done
	"$SPILLCTL" compact "$MNT"
	"$PYTHON" - "$WORK/looks" <<'PY'
import json, sys
looks = json.load(open(sys.argv[1]))
json.dump({k: v for k, v in looks.items() if int(k[1:]) % 3}, open(sys.argv[1], "w"))
PY
	guarded 300 "$PYTHON" "$LIB/snapshots.py" again "$MNT" "$WORK/looks"
}

@test "500 commits: a follower never sees a half, whatever compaction does" {
	mount_store -o commit=0,compact=0
	follow cache=1M
	(
		while [ ! -e "$WORK/stop" ]; do
			"$SPILLCTL" compact "$MNT"
			sleep 0.3
		done
	) >"$WORK/compacted" 2>&1 &
	guarded 300 "$PYTHON" "$LIB/follower.py" pairs "$MNT" "$WORK/ro" 500
	touch "$WORK/stop"
	wait_all
}

# 5 MiB for the list of what moves are 72,000 blocks: two layers of 30,000 at a time.
@test "a compaction that has to leave victims to the next one goes on until there is nothing to gain" {
	mount_store -o cache=8M,dirty=32M
	many_blocks() {
		"$PYTHON" -S -c '
import os, sys
def block(f, i): return ((f << 32 | i).to_bytes(8, "little") + b"x" * 8) * 256
what, path, f = sys.argv[1], sys.argv[2], int(sys.argv[3])
if what == "write":
    with open(path, "wb") as out:
        os.setxattr(path, "user.spillfs.block_size", b"4096")
        for i in range(30000):
            out.write(block(f, i))
else:
    with open(path, "rb") as back:
        for i in range(30000):
            assert back.read(4096) == block(f, i), (path, i)' "$1" "$MNT/layers/a$2" "$2"
	}
	for f in {1..6}; do
		many_blocks write "$f"
		mkdir "$MNT/snapshots/s"
		rmdir "$MNT/snapshots/s"
	done
	[ "$(stat_value spillfs_layers)" -ge 6 ]
	"$SPILLCTL" compact "$MNT"
	"$SPILLCTL" sync "$MNT"
	[ "$(stat_value spillfs_layers)" -le 4 ]
	for f in {1..6}; do many_blocks read "$f"; done
	remount
	for f in {1..6}; do many_blocks read "$f"; done
}
