#!/usr/bin/env bats
# Copies by tools that look for holes: whatever can be read is copied whole, and holes stay holes where they are.
# The tests of this file share one mount, and what is in it.

load ../lib/common

sparse() { guarded 100 "$PYTHON" "$LIB/sparse.py" "$@"; }

setup_file() {
	if [ -n "$NATIVE" ]; then return; fi
	setup_work
	mount_store
	sparse fill "$MNT"
	mkdir "$MNT/snapshots/s"
	"$SPILLCTL" commit "$MNT"
	# left in memory: blocks that are not compressed yet
	sparse dirty "$MNT"
}
teardown_file() { [ -n "$NATIVE" ] || teardown_work; }
setup() {
	spill_only
	PID=$(tail -n1 "$WORK/.pids")
	TREES="buckets columns layers deltas snapshots views"
	rm -rf "$WORK/out"
	mkdir "$WORK/out"
}
teardown() { :; }

# compare [DIR]: what is in $WORK/out is what is in the mount, or in DIR.
compare() {
	local dir
	for dir in $TREES; do diff -r "${1:-$MNT}/$dir" "$WORK/out/$dir"; done
}

# holes: arrays of nothing but zeros, and their views, take no space in $WORK/out.
holes() { [ "$(cat "$WORK"/out/{buckets,columns,layers,views/npy/*}/zeros.* | wc -c)" -gt 12000000 ] &&
	[ "$(du -ck "$WORK"/out/{buckets,columns,layers,views/npy/*}/zeros.* | tail -n 1 | cut -f1)" -le 60 ]; }

@test "blocks, SEEK_DATA and SEEK_HOLE are true of everything that can be read" {
	sparse true "$MNT"/{buckets,columns,layers,deltas,snapshots,views}
}

@test "tar --sparse copies everything, and holes as holes" {
	tar -C "$MNT" -cSf - $TREES | tar -C "$WORK/out" -xf -
	compare
	holes
}

@test "cp --sparse copies everything, and holes as holes" {
	cp -r --sparse=auto "$MNT"/{buckets,columns,layers,deltas,snapshots,views} "$WORK/out"
	compare
	holes
	cp -r --sparse=always "$MNT/views/npy" "$WORK/out/always"
	diff -r "$MNT/views/npy" "$WORK/out/always"
}

@test "rsync --sparse copies everything" {
	require_tool rsync
	rsync -rS "$MNT"/{buckets,columns,layers,deltas,snapshots,views} "$WORK/out"
	compare
}

@test "bsdtar copies everything, and holes as holes" {
	require_tool bsdtar libarchive-tools
	bsdtar -C "$MNT" --read-sparse -cf - $TREES | bsdtar -C "$WORK/out" -xSf -
	compare
	holes
}

@test "du tells of arrays what is stored, and counts nothing twice" {
	local files
	[ "$(du -sk "$MNT/layers/c.f64" | cut -f1)" -lt 200 ]
	eq "$(du -sk "$MNT/layers/zeros.f64" | cut -f1)" 0
	files=$(find "$MNT/views" -type f -size +0c | wc -l)
	eq "$(du -s --block-size=512 "$MNT/views" | cut -f1)" "$files"
	eq "$(du -s --block-size=512 "$MNT/deltas" | cut -f1)" "$(ls "$MNT/deltas" | wc -l)"
}

@test "a follower's files, and those of its views" {
	local ro=$WORK/ro
	mkdir "$ro"
	"$SPILLFS" -o ro "$STORE" "$ro" 3>&- </dev/null
	daemon_pid "$ro" >>"$WORK/.pids"
	sparse true "$ro"
	TREES="layers deltas snapshots views"
	tar -C "$ro" -cSf - $TREES | tar -C "$WORK/out" -xf -
	compare "$ro"
	"$SPILLCTL" umount "$ro"
	echo "$PID" >>"$WORK/.pids"
}

@test "what is mapped or written and not closed yet" {
	sparse open "$MNT"
	remount -o nowriteback
	sparse open "$MNT"
	sparse true "$MNT/views"
}
