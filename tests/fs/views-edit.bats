#!/usr/bin/env bats
# What is done to a view is done to its array: attributes, names, writes in place, and files that are being written.
# The tests of this file share one mount, those with the writeback cache another.

load ../lib/common

setup_file() {
	if [ -n "$NATIVE" ]; then return; fi
	setup_work
	mount_store
}
teardown_file() { [ -n "$NATIVE" ] || teardown_work; }
setup() {
	spill_only
	revive
	rm -rf "$MNT"/{buckets,columns,layers}/*
}
teardown() { :; }

edit() { guarded 100 "$PYTHON" "$LIB/views_edit.py" "$1" "$MNT" "${@:2}"; }

@test "cp, install, mv, tar, rsync, shutil" {
	require_tool rsync
	edit tools "$WORK"
}
@test "attributes of a view are the array's" { edit attrs; }
@test "rename, link, unlink, mkdir, rmdir" { edit names; }
@test "files that are being written have names and attributes" { edit uploads; }
@test "written in place, mapped or not" { edit place; }
@test "what is not one array is refused" {
	edit refused
	rmdir "$MNT/snapshots/s"
}
@test "access is that of the array" {
	require_root
	edit users
}
@test "many at once" { edit storm; }

@test "what waits for its name at the unmount is said to be lost, and takes no space" {
	cp /dev/null "$WORK/log"
	umount_store
	mount_logged
	"$PYTHON" -c 'import numpy, sys; numpy.save(open(sys.argv[1], "wb"), numpy.zeros(1000))' "$MNT/views/npy/layers/x.npy.tmp"
	eq "$(ls "$MNT/views/npy/layers" "$MNT/layers")" "$MNT/layers:

$MNT/views/npy/layers:
x.npy.tmp"
	umount_store
	grep -q 'x.npy.tmp: it waited for another name' "$WORK/log"
	DAEMON_LOG=
	mount_store
	eq "$(ls "$MNT/views/npy/layers")" ""
}

@test "with the writeback cache" {
	remount -o writeback
	edit tools "$WORK"
	edit uploads
	edit place
	edit cuts
	edit storm
}
