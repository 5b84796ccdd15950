#!/usr/bin/env bats
# After a failed commit: the store is read-only, the daemon ends in order, with its exit code, and the next mount shows the
# state of the last commit.

load ../lib/common

# A disk that takes no more than it has memory for: behind that, writing back fails.
setup() {
	setup_work
	spill_only
	require_root
	mkdir "$WORK/thin"
	mount -t tmpfs -o size=24M,mode=755 none "$WORK/thin" || missing "tmpfs cannot be mounted here"
	small_store "$WORK/small" 256M ^has_journal "$WORK/thin"
	DAEMON_LOST=expected
}

teardown() {
	umount -l "$WORK/small" 2>/dev/null || true # cannot be written back
	teardown_work
}

# start [options]: the daemon in the foreground, whose exit code "$WORK/code" will have.
start() {
	printf '#!/bin/sh\n"%s" "$@"\necho $? >"%s"\n' "$SPILLFS" "$WORK/code" >"$WORK/run"
	chmod 755 "$WORK/run"
	SPILLFS=$WORK/run mount_logged -o commit=0 "$@"
}

use() {
	D=$MNT/$1
	noise 1000000 "$D/old"
	noise 1000000 "$D/cut"
	noise 1000000 "$D/gone"
	"$SPILLCTL" sync "$MNT"
}

# The disk fails while a file of one kind is written; all kinds have something that waits for the commit.
fails_in() {
	start
	for k in $KINDS; do use $k; done
	for k in $KINDS; do
		: >"$MNT/$k/old" # begins anew, with another file
		truncate -s 500000 "$MNT/$k/cut"
		rm "$MNT/$k/gone"
		echo new >"$MNT/$k/new"
	done
	noise 60000000 "$MNT/$1/big" || true # or with the commit
	refute "$SPILLCTL" sync "$MNT"
	for k in $KINDS; do
		fails_with "Read-only file system" touch "$MNT/$k/newer"
		fails_with "Read-only file system" truncate -s 1 "$MNT/$k/cut"
		# What went to the disk may be lost with it. A short column is in memory.
		[ $k != columns ] || [ "$(cat "$MNT/$k/new")" = new ]
	done
	"$SPILLCTL" umount "$MNT" || true
	wait_gone "$PID"
	cat "$WORK/log"
	[ "$(cat "$WORK/code")" = 6 ]
}

@test "a failed commit in buckets: what waits for it is let go of, exit code 6" { fails_in buckets; }
@test "a failed commit in columns: what waits for it is let go of, exit code 6" { fails_in columns; }
@test "a failed commit in layers: what waits for it is let go of, exit code 6" { fails_in layers; }
